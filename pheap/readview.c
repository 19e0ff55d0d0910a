/* SPDX-License-Identifier: MIT */
/* Read transactions: their begin and end, and the views behind them. */
#include "pheap/readview.h"

#include "io/failpoint.h"
#include "pheap/core.h"

#define WAIT_DEFAULT_NS UINT64_C(10000000000)
#define EVICTIONS_MAX 100 /* of a view on its way to the newest version */

ph_status ph_readview_map(struct ph_core *core, uint32_t count, uint64_t reserve_bytes, uint64_t least_bytes,
                          uint64_t budget_bytes)
{
    for (uint32_t i = 0; i < count; i++) {
        struct ph_read_view *on = &core->read_views[i];
        ph_status status = ph_view_map(&on->view, &core->store, reserve_bytes, least_bytes, budget_bytes);
        if (status != PH_OK)
            return i > 0 ? PH_OK : status;
        on->index = i;
        core->read_view_count = i + 1;
    }
    return PH_OK;
}

void ph_readview_unmap(struct ph_core *core)
{
    for (uint32_t i = 0; i < core->read_view_count; i++)
        ph_view_unmap(&core->read_views[i].view);
    core->read_view_count = 0;
}

/* ----------------------------------------------------------------------------------------------------------- pins */

static struct ph_pin *pin_of(const struct ph_core *core, const struct ph_read_view *on)
{
    return &core->coord->seats[core->store.seat].pins[on->index];
}

/* Pin the newest commit: its LSN.  CORRUPT. */
static ph_status pin_newest(struct ph_core *core, struct ph_read_view *on, bool evictable, uint64_t *lsn)
{
    struct ph_pin *pin = pin_of(core, on);
    for (;;) {
        *lsn = atomic_load(&core->coord->committed);
        on->pinned = *lsn | (evictable ? PH_PIN_EVICTABLE : 0);
        atomic_store(&pin->lsn, on->pinned);
        PH_POINT(pin_stored);
        const uint64_t intent = atomic_load(&core->coord->fold_intent), newest = atomic_load(&core->coord->committed);
        /* The newest still: whoever commits from now on can see the pin (mark.c). */
        if (intent <= *lsn && newest == *lsn)
            return PH_OK;
        if (intent > newest) /* nobody folds what was not committed */
            return ph_coord_damaged(core->path);
    }
}

/* Clear the pin; whether it held until now. */
static bool unpin(struct ph_core *core, struct ph_read_view *on)
{
    struct ph_pin *pin = pin_of(core, on);
    PH_POINT(pin_to_release);
    if ((on->pinned & PH_PIN_EVICTABLE) != 0)
        return atomic_exchange(&pin->lsn, 0) == on->pinned;
    atomic_store_explicit(&pin->lsn, 0, memory_order_release);
    return true;
}

static bool holds(const struct ph_core *core, const struct ph_read_view *on)
{
    if ((on->pinned & PH_PIN_EVICTABLE) == 0)
        return true;
    atomic_thread_fence(memory_order_acquire); /* what was read before was read before this */
    return atomic_load_explicit(&pin_of(core, on)->lsn, memory_order_acquire) == on->pinned;
}

/* Mark the pin of a view in use evictable or not; false if it has been taken away. */
static bool change_pin(struct ph_core *core, struct ph_read_view *on, bool evictable)
{
    uint64_t now = on->pinned, wanted = (now & ~(uint64_t)PH_PIN_EVICTABLE) | (evictable ? PH_PIN_EVICTABLE : 0);
    if (!atomic_compare_exchange_strong(&pin_of(core, on)->lsn, &now, wanted))
        return false;
    on->pinned = wanted;
    PH_POINT(pin_changed);
    return true;
}

/* For those who ask who pins what. */
static void note_pin(struct ph_core *core, const struct ph_read_view *on)
{
    struct ph_pin *pin = pin_of(core, on);
    atomic_store_explicit(&pin->version, on->view.at.version, memory_order_release); /* after marks: mark.c */
    atomic_store_explicit(&pin->since_ns, core->io->clock_ns(core->io->ctx, PH_CLOCK_REALTIME_COARSE),
                          memory_order_relaxed);
}

bool ph_readview_holds(const struct pheap_read *reader)
{
    ph_local_lock(&reader->core->reader_lock);
    bool held = holds(reader->core, reader->on);
    ph_local_unlock(&reader->core->reader_lock);
    return held;
}

ph_status ph_readview_evicted(const struct pheap_read *reader)
{
    return ph_fail(PH_EVICTED,
                   "%s: a writer needed the log or the memory that this evictable reader of version %llu held; begin "
                   "anew, or read in smaller steps",
                   reader->core->path, (unsigned long long)reader->on->view.at.version);
}

/* --------------------------------------------------------------------------------------------------------- moving */

static ph_status protect_view(struct ph_core *core, const struct ph_view *view, bool writable)
{
    if (!core->protect)
        return PH_OK;
    int result = core->io->protect(core->io->ctx, view->base, view->reserve_bytes, writable);
    return result < 0 ? ph_file_fail(core->path, "protect the read view", -result) : PH_OK;
}

/* Its private pages are over the budget: what is folded need not be private again. */
static void shrink(struct ph_core *core, struct ph_view *view)
{
    if (view->touched_bytes <= view->budget_bytes || ph_view_private_bytes(view) <= view->budget_bytes / 2)
        return;
    if (!core->read_only && atomic_load(&core->coord->poisoned) == 0) {
        ph_status status = ph_store_fold(&core->store, 0);
        (void)status; /* the reader can do without */
    }
    if (atomic_load(&core->coord->folded) != view->reset_lsn) /* else it would get them all again */
        view->current = false;
}

/* on->moves is odd before the first byte of the view changes, and even behind the last. */
static void begin_move(struct ph_read_view *on)
{
#ifdef __SANITIZE_THREAD__ /* which knows of no fences */
    (void)atomic_fetch_or(&on->moves, 1);
#else
    atomic_store_explicit(&on->moves, atomic_load_explicit(&on->moves, memory_order_relaxed) | 1, memory_order_relaxed);
    atomic_thread_fence(memory_order_release);
#endif
}

/* The first reader: pin, and bring the view there. */
static ph_status enter_once(struct ph_core *core, struct ph_read_view *on, bool evictable)
{
    struct ph_view *view = &on->view;
    uint64_t lsn;
    ph_status status = pin_newest(core, on, evictable, &lsn);
    if (status == PH_OK && view->current && view->at.lsn == lsn) {
        note_pin(core, on);
        return PH_OK;
    }
    if (status != PH_OK)
        return status;
    begin_move(on);
    status = protect_view(core, view, true);
    if (status == PH_OK)
        status = ph_view_move(view, lsn);
    if (status == PH_OK)
        status = protect_view(core, view, false);
    PH_POINT(pin_view_moved);
    if (status == PH_OK) {
        atomic_fetch_add_explicit(&on->moves, 1, memory_order_release);
        note_pin(core, on);
    }
    return status;
}

static ph_status enter(struct ph_core *core, struct ph_read_view *on, bool evictable)
{
    shrink(core, &on->view);
    for (int i = 0;; i++) {
        ph_status status = enter_once(core, on, evictable && i < EVICTIONS_MAX);
        if (holds(core, on)) {
            if (status == PH_OK) {
                if (evictable && i >= EVICTIONS_MAX) /* it is there: now it may go again */
                    (void)change_pin(core, on, true);
                return PH_OK;
            }
            (void)unpin(core, on);
            return status;
        }
        on->view.current = false; /* moved without a pin: what was met there, error or not, says nothing */
    }
}

/* ------------------------------------------------------------------------------------------------ choosing a view */

/* Let a new reader join a view that held its pin a moment ago; false if it has been evicted since. */
static bool join(struct ph_core *core, struct ph_read_view *on, bool evictable)
{
    return evictable || (on->pinned & PH_PIN_EVICTABLE) == 0 || change_pin(core, on, false);
}

/*
 * The view for a new reader: see the head of readview.h.  NULL: none is free, and those in use were evicted, or show
 * something older than the newest commit and only that will do (fresh).
 */
static struct ph_read_view *choose(struct ph_core *core, bool fresh, bool evictable)
{
    const uint64_t newest = atomic_load(&core->coord->committed);
    struct ph_read_view *idle = NULL, *used = NULL;
    for (uint32_t i = 0; i < core->read_view_count; i++) {
        struct ph_read_view *on = &core->read_views[i];
        if (on->readers == 0) {
            if (idle == NULL || (on->view.current && (!idle->view.current || on->view.at.lsn > idle->view.at.lsn)))
                idle = on;
        } else if (holds(core, on) && (used == NULL || on->view.at.lsn > used->view.at.lsn)) {
            used = on;
        }
    }
    bool is_newest = used != NULL && used->view.at.lsn == newest;
    if (used != NULL && (is_newest || (idle == NULL && !fresh)) && join(core, used, evictable))
        return used;
    return idle;
}

static bool thread_reads(const struct ph_core *core, uint64_t thread)
{
    for (const struct pheap_read *r = core->open_readers; r != NULL; r = r->next)
        if (r->thread == thread)
            return true;
    return false;
}

bool ph_readview_in_use_here(struct ph_core *core)
{
    ph_local_lock(&core->reader_lock);
    bool open = thread_reads(core, ph_thread_id());
    ph_local_unlock(&core->reader_lock);
    return open;
}

/* Wait until there is a view.  The reader lock is held. */
static ph_status wait_for_view(struct ph_core *core, unsigned flags, uint64_t timeout_ns, struct ph_read_view **on)
{
    const ph_io *io = core->io;
    uint64_t start = 0;
    for (;;) {
        *on = choose(core, (flags & PHEAP_FRESH) != 0, (flags & PHEAP_EVICTABLE) != 0);
        if (*on != NULL)
            return PH_OK;
        if (thread_reads(core, ph_thread_id()))
            return ph_fail(PH_TIMEOUT, "%s: a free read view would have to come from this thread's own open reader",
                           core->path);
        uint64_t now = io->clock_ns(io->ctx, PH_CLOCK_MONOTONIC);
        start = start == 0 ? now : start;
        if (now - start >= timeout_ns || !ph_local_wait(&core->reader_lock, timeout_ns - (now - start)))
            return ph_fail(PH_TIMEOUT,
                           "%s: other readers of this process have held all its %u read views, at older versions or "
                           "ones that were taken away, for "
                           "%llu ms; end some, or open the heap with more read_views",
                           core->path, core->read_view_count, (unsigned long long)(timeout_ns / 1000000));
    }
}

/* ---------------------------------------------------------------------------------------------------- begin and end */

static struct pheap_read *take_reader(struct ph_core *core)
{
    struct pheap_read *reader = core->free_readers;
    if (reader != NULL) {
        core->free_readers = reader->next;
        return reader;
    }
    reader = core->io->alloc(core->io->ctx, sizeof *reader, 16);
    if (reader != NULL)
        *reader = (struct pheap_read){.core = core};
    return reader;
}

static void give_back_reader(struct ph_core *core, struct pheap_read *reader)
{
    reader->open = false;
    reader->next = core->free_readers;
    core->free_readers = reader;
}

static ph_status begin_locked(struct ph_core *core, unsigned flags, uint64_t timeout_ns, struct pheap_read **out)
{
    struct ph_read_view *on;
    const bool evictable = (flags & PHEAP_EVICTABLE) != 0;
    struct pheap_read *reader = take_reader(core);
    if (reader == NULL)
        return ph_fail(PH_NO_MEMORY, "%s: out of memory", core->path);
    ph_status status = wait_for_view(core, flags, timeout_ns, &on);
    if (status == PH_OK && on->readers == 0)
        status = enter(core, on, evictable);
    if (status != PH_OK) {
        give_back_reader(core, reader);
        return status;
    }
    on->readers++;
    on->firm += !evictable;
    reader->on = on;
    reader->evictable = evictable;
    reader->thread = ph_thread_id();
    reader->open = true;
    reader->before = NULL;
    reader->next = core->open_readers;
    if (core->open_readers != NULL)
        core->open_readers->before = reader;
    core->open_readers = reader;
    *out = reader;
    return PH_OK;
}

static ph_status begin(pheap *heap, unsigned flags, uint64_t timeout_ns, struct pheap_read **reader)
{
    struct ph_core *core;
    ph_status status = ph_core_use(heap, &core);
    if (status == PH_OK && (reader == NULL || (flags & ~(unsigned)(PHEAP_FRESH | PHEAP_EVICTABLE)) != 0))
        status = ph_fail(PH_INVALID, "pheap_read_begin: reader is NULL, or flags 0x%x has unknown bits", flags);
    if (status == PH_OK && !core->read_only && atomic_load(&core->coord->poisoned) == 0)
        status = ph_upkeep_flush_old(core, 0);
    if (status != PH_OK && status != PH_POISONED)
        return status;
    ph_local_lock(&core->reader_lock);
    status = begin_locked(core, flags, timeout_ns, reader);
    ph_local_unlock(&core->reader_lock);
    return status;
}

enum pheap_status pheap_read_begin(pheap *heap, unsigned flags, pheap_read **reader)
{
    return (enum pheap_status)begin(heap, flags, WAIT_DEFAULT_NS, reader);
}

enum pheap_status pheap_read_begin_timeout(pheap *heap, unsigned flags, int64_t timeout_ms, pheap_read **reader)
{
    if (timeout_ms < 0 || timeout_ms > INT64_MAX / 1000000)
        return (enum pheap_status)ph_fail(PH_INVALID, "pheap_read_begin_timeout: %lld ms is out of range",
                                          (long long)timeout_ms);
    return (enum pheap_status)begin(heap, flags, (uint64_t)timeout_ms * 1000000, reader);
}

enum pheap_status pheap_glance_begin(const pheap_read *reader, struct pheap_glance *glance)
{
    if (reader == NULL || glance == NULL)
        return (enum pheap_status)ph_fail(PH_INVALID, "pheap_glance_begin: reader or glance is NULL");
    struct ph_core *core = reader->core;
    if (atomic_load_explicit(&core->forked, memory_order_relaxed))
        return (enum pheap_status)ph_fail(PH_FORKED, "%s: this read transaction belongs to the parent process",
                                          core->path);
    /* While the reader lasts its view is not moved. */
    *glance = (struct pheap_glance){.base = reader->on->view.base,
                                    .size = reader->on->view.at.heap_bytes,
                                    .committed = &core->coord->committed,
                                    .moves = &reader->on->moves,
                                    .lsn = reader->on->view.at.lsn,
                                    .move = atomic_load_explicit(&reader->on->moves, memory_order_relaxed)};
    return PHEAP_OK;
}

int pheap_glance_holds(const struct pheap_glance *glance)
{
    atomic_thread_fence(memory_order_acquire); /* what was read before was read before this */
    return atomic_load_explicit((const _Atomic uint64_t *)glance->committed, memory_order_relaxed) == glance->lsn &&
           atomic_load_explicit((const _Atomic uint64_t *)glance->moves, memory_order_relaxed) == glance->move;
}

/* One reader less on the view; whether its pin has held. */
static bool leave(struct ph_core *core, struct ph_read_view *on, bool evictable)
{
    on->firm -= !evictable;
    if (--on->readers == 0) {
        bool held = unpin(core, on);
        if (!held)
            on->view.current = false;
        ph_local_wake(&core->reader_lock);
        return held;
    }
    bool held = holds(core, on);
    if (!evictable && on->firm == 0)
        (void)change_pin(core, on, true);
    return held;
}

enum pheap_status pheap_read_end(pheap_read *reader)
{
    if (reader == NULL)
        return PHEAP_OK;
    struct ph_core *core = reader->core;
    if (atomic_load_explicit(&core->forked, memory_order_relaxed))
        return (enum pheap_status)ph_fail(PH_FORKED, "%s: this read transaction belongs to the parent process",
                                          core->path);
    ph_local_lock(&core->reader_lock);
    ph_status status = PH_OK;
    if (!reader->open) {
        status = ph_fail(PH_ENDED, "%s: this read transaction has ended", core->path);
    } else {
        if (!leave(core, reader->on, reader->evictable))
            status = ph_readview_evicted(reader);
        if (reader->before != NULL)
            reader->before->next = reader->next;
        else
            core->open_readers = reader->next;
        if (reader->next != NULL)
            reader->next->before = reader->before;
        give_back_reader(core, reader);
    }
    ph_local_unlock(&core->reader_lock);
    return (enum pheap_status)status;
}
