/* SPDX-License-Identifier: MIT */
/*
 * The write transaction: begin, commit, abort.  The only file that appends to the log.
 *
 * The commit path, top to bottom:
 *
 *   ph_txn_begin   upkeep (no lock held) -> writer lock -> write view moved to the last commit -> edits
 *   pheap_commit   tracked stores found -> deferred frees -> edits encoded into records -> room? -> for each record:
 *                  place, seal, append to the shared buffer -> publish `committed` -> writer lock released -> DURABLE:
 *                  wait for `durable`
 *
 * Until `committed` is published everything can still fail, and then the transaction is undone.  After it nothing may
 * undo it; a flush that fails then poisons the heap.  Under the writer lock there is no input or output (R10), with
 * three exceptions: a view that must be reset may read the log; a transaction larger than the buffer must drain its own
 * fragments; one larger than the free log must gain log first, for which it waits for readers for a second at most.
 */
#include "io/failpoint.h"
#include "pheap/alloc.h"
#include "pheap/core.h"
#include "pheap/memory.h"
#include "wal/flush.h"
#include "wal/ring.h"

#include <inttypes.h>

#define ATTEMPTS_MAX 1000

/* -------------------------------------------------------------------------------------------------------- publish */

/* Where the next record goes: after the last commit, or after fragments that a dead writer left behind it. */
static ph_status find_base(struct ph_core *core, struct ph_commit_mark *base)
{
    struct ph_commit_mark fragment;
    *base = core->begin_mark;
    if (atomic_load_explicit(&core->coord->appended, memory_order_acquire) <= base->lsn)
        return PH_OK;
    if (!ph_coord_read_fragment(core->coord, &fragment))
        return ph_coord_damaged(core->path);
    base->lsn = fragment.lsn;
    base->chain = fragment.chain;
    base->reserve = fragment.reserve;
    return PH_OK;
}

/* Room in the buffer for a record of `length` bytes at `lsn`; drains it if it must. */
static ph_status make_buffer_room(struct ph_core *core, uint64_t lsn, uint32_t length)
{
    struct ph_wal *wal = &core->store.wal;
    if (lsn + length - atomic_load_explicit(&core->coord->durable, memory_order_acquire) <= wal->buffer_bytes)
        return PH_OK;
    return ph_flush_all(wal);
}

/* Append the builder's records and publish them; `mark` is the base and becomes the commit. */
static ph_status publish(struct ph_core *core, struct ph_commit_mark *mark)
{
    struct ph_wal *wal = &core->store.wal;
    struct ph_record_builder *builder = &core->builder;
    struct ph_record_place place = {
        .heap_id = wal->heap_id, .epoch = core->coord->checkpoint.epoch, .lsn = mark->lsn, .chain = mark->chain};
    for (size_t at = 0; at < builder->length;) {
        uint8_t *record = builder->bytes + at;
        uint32_t length = ph_record_length(record);
        ph_status status = make_buffer_room(core, place.lsn, length);
        if (status != PH_OK)
            return status;
        uint64_t durable = atomic_load_explicit(&core->coord->durable, memory_order_acquire);
        ph_record_seal(record, &place, durable);
        ph_ring_append(wal, place.lsn, record, length);
        place.lsn += length;
        place.chain = ((const struct ph_record_header *)(const void *)record)->checksum;
        mark->lsn = place.lsn;
        mark->chain = place.chain;
        mark->reserve += ph_record_reserve(length, wal->block_bytes);
        at += length;
        if (at < builder->length)
            ph_coord_publish_fragment(core->coord, mark);
    }
    ph_coord_publish_commit(core->coord, mark);
    return PH_OK;
}

/* ---------------------------------------------------------------------------------------------------------- begin */

static ph_status refuse_busy(struct ph_core *core)
{
    uint32_t seat = atomic_load(&core->coord->writer_seat);
    int64_t process = seat > 0 && seat <= PH_SEATS ? atomic_load(&core->coord->seats[seat - 1].process) : 0;
    /* The process is told by a mark that may be missing for a moment, or, after a death, still be the dead one's. */
    return ph_fail(PH_TIMEOUT, "%s: process %lld (thread %lld) has held the writer lock for longer than the time given",
                   core->path, (long long)process, (long long)ph_mutex_holder(&core->coord->writer_lock));
}

/* A thread of this process died with the lock, half-way through a transaction (R6).  One of another process had only its
 * own memory to spoil. */
static void clear_away(struct ph_core *core)
{
    core->write_view.current = false;
    core->shadow_view.current = false;
    atomic_store(&core->txn_serial, 0);
    ph_guards_disarm(core);
    ph_track_end(core, false);
    if (core->edits.io != NULL)
        ph_edits_end(&core->edits);
}

static ph_status lock_writer(struct ph_core *core, uint64_t timeout_ns)
{
    switch (ph_mutex_timedlock(&core->coord->writer_lock, timeout_ns)) {
    case PH_MUTEX_OWNER_DIED:
    case PH_MUTEX_ACQUIRED: /* another process may have met the dead owner before us */
        PH_POINT(writer_locked);
        if (atomic_exchange_explicit(&core->writing, true, memory_order_relaxed))
            clear_away(core);
        return PH_OK;
    case PH_MUTEX_TIMEOUT:
        return refuse_busy(core);
    case PH_MUTEX_DEADLOCK:
        return ph_fail(PH_INVALID, "%s: this thread has a write transaction open already", core->path);
    case PH_MUTEX_ERROR:
        break;
    }
    return ph_fail(PH_CORRUPT, "%s: the writer lock in the coordination file is damaged", core->path);
}

static void unlock_writer(struct ph_core *core)
{
    atomic_store_explicit(&core->coord->writer_seat, 0, memory_order_relaxed);
    atomic_store_explicit(&core->writing, false, memory_order_relaxed);
    PH_POINT(writer_to_unlock);
    ph_mutex_unlock(&core->coord->writer_lock);
    PH_POINT(writer_unlocked);
}

/* Under the writer lock: whether half of the budget for private pages is free. */
static bool within_budget(struct ph_view *view)
{
    return view->touched_bytes <= view->budget_bytes / 2 || ph_view_private_bytes(view) <= view->budget_bytes / 2;
}

/* Whether a view is over that; then the next move drops its pages. */
static bool drop_over_budget(struct ph_view *view)
{
    if (!view->current || within_budget(view))
        return false;
    if (view->reset_lsn == atomic_load(&view->store->wal.coord->folded) && view->touched_bytes <= view->incompressible)
        return false; /* it would get them all again: begin sees to it */
    view->current = false;
    return true;
}

/*
 * Under the writer lock: room for a record in buffer and log, half of the private-page budgets free.  *fold: no, and a
 * fold is to come first: because pages were dropped that need not be private again once they are folded; or because the
 * view has to be reset, and the fewer records there are then to be replayed, the shorter the lock is held.
 */
static bool ready_to_write(struct ph_core *core, bool folded_before, bool *fold)
{
    struct ph_wal *wal = &core->store.wal;
    const struct ph_view *view = &core->write_view;
    uint64_t used = ph_coord_stream_end(core->coord) - atomic_load(&core->coord->durable);
    bool write_over = drop_over_budget(&core->write_view), shadow_over = drop_over_budget(&core->shadow_view);
    bool reset = !view->current || !ph_ring_has(wal, view->at.lsn);
    uint64_t unfolded = atomic_load(&core->coord->committed) - atomic_load(&core->coord->folded);
    *fold = write_over || shadow_over || (reset && unfolded > wal->buffer_bytes && !folded_before);
    return !*fold && used <= wal->buffer_bytes / 2 && ph_upkeep_room_for_one(core);
}

/* The limit of a begin, in which several things may have to be waited for. */
struct limit {
    uint64_t start_ns, timeout_ns;
};

static uint64_t time_left(const struct ph_core *core, const struct limit *limit)
{
    if (limit->timeout_ns == 0 || limit->timeout_ns == UINT64_MAX)
        return limit->timeout_ns;
    uint64_t passed = core->io->clock_ns(core->io->ctx, PH_CLOCK_MONOTONIC) - limit->start_ns;
    return passed < limit->timeout_ns ? limit->timeout_ns - passed : 0;
}

/* Prepare and take the writer lock. */
static ph_status enter(struct ph_core *core, const struct limit *limit)
{
    bool folded = false;
    for (int attempt = 0; attempt < ATTEMPTS_MAX; attempt++) {
        ph_status status = ph_coord_check_poison(core->coord, core->path);
        if (status == PH_OK)
            status = ph_upkeep_check_place(core);
        if (status == PH_OK)
            status = ph_store_open_epoch(&core->store, time_left(core, limit));
        if (status == PH_OK)
            status = ph_log_ensure_open(&core->store.wal);
        if (status == PH_OK)
            status = ph_upkeep_make_room(core, time_left(core, limit));
        if (status == PH_OK)
            status = lock_writer(core, time_left(core, limit));
        if (status != PH_OK)
            return status;
        bool fold;
        if (ready_to_write(core, folded, &fold))
            return PH_OK;
        unlock_writer(core);
        if (fold) {
            status = ph_store_fold(&core->store, time_left(core, limit));
            if (status != PH_OK && status != PH_NO_SPACE)
                return status;
            folded = true;
        }
    }
    return ph_fail(PH_BUSY, "%s: other writers fill the log faster than it drains", core->path);
}

/*
 * A writer that died while it appended fragments left them behind the last commit, where they keep fold from the position
 * of the next batch.  Put a commit behind them that changes nothing and has no number of its own.
 */
static ph_status bury_fragments(struct ph_core *core)
{
    struct ph_commit_mark mark;
    struct ph_record_builder *builder = &core->builder;
    ph_status status = find_base(core, &mark);
    ph_record_builder_reset(builder);
    if (status == PH_OK)
        status = ph_record_add_write(builder, PH_HEAP_START, core->write_view.base + PH_HEAP_START, 8);
    if (status != PH_OK)
        return status;
    ph_record_builder_finish(builder, mark.version);
    status = publish(core, &mark);
    PH_POINT(begin_fragments_buried);
    if (status != PH_OK)
        return status;
    core->begin_mark = mark;
    core->write_view.at.lsn = mark.lsn;
    core->write_view.at.chain = mark.chain;
    if (core->verify)
        core->shadow_view.at = core->write_view.at;
    return PH_OK;
}

static ph_status start(struct ph_core *core)
{
    ph_status status = ph_coord_check_poison(core->coord, core->path);
    if (status != PH_OK)
        return status;
    if (!ph_coord_read_commit(core->coord, &core->begin_mark))
        return ph_coord_damaged(core->path);
    /* Once there are newer commits the pages that are not private may show them, and a comparison would mean nothing. */
    if (core->verify && core->write_view.current && core->shadow_view.current &&
        core->write_view.at.lsn == core->begin_mark.lsn && core->shadow_view.at.lsn == core->begin_mark.lsn)
        status = ph_verify(core, "between transactions");
    if (status == PH_OK)
        status = ph_guards_check(core, core->begin_mark.lsn);
    else
        ph_guards_disarm(core); /* the view is made anew */
    if (status == PH_OK)
        status = ph_view_move(&core->write_view, core->begin_mark.lsn);
    if (status == PH_OK && !within_budget(&core->write_view))
        return PH_BUDGET; /* also after a reset: for begin to see to */
    if (status == PH_OK && core->verify)
        status = ph_view_move(&core->shadow_view, core->begin_mark.lsn);
    if (status == PH_OK && atomic_load(&core->coord->appended) > core->begin_mark.lsn)
        status = bury_fragments(core);
    PH_POINT(begin_view_moved);
    if (status == PH_OK)
        status = ph_edits_begin(&core->edits, &core->write_view);
    if (status != PH_OK)
        return status;
    status = ph_guards_track(core);
    if (status != PH_OK) {
        ph_track_end(core, false);
        ph_edits_end(&core->edits);
        core->write_view.current = false; /* nothing is remembered of what is guarded */
    }
    return status;
}

static ph_status begin(pheap *heap, int64_t timeout_ms, pheap_txn **txn)
{
    struct ph_core *core;
    ph_status status = ph_core_use(heap, &core);
    if (status != PH_OK)
        return status;
    if (txn == NULL)
        return ph_fail(PH_INVALID, "pheap_begin: txn is NULL");
    if (core->read_only || heap->read_only)
        return ph_fail(PH_READ_ONLY, "%s: the heap was opened read-only", core->path);
    const uint64_t thread = ph_thread_id();
    struct limit limit = {.timeout_ns = timeout_ms < 0 ? UINT64_MAX : (uint64_t)timeout_ms * 1000000};
    if (timeout_ms > 0)
        limit.start_ns = core->io->clock_ns(core->io->ctx, PH_CLOCK_MONOTONIC);
    if (atomic_load(&core->txn_serial) != 0 && atomic_load(&core->txn_thread) == thread)
        return ph_fail(PH_INVALID, "%s: this thread has a write transaction open already", core->path);
    for (;;) {
        status = enter(core, &limit);
        if (status != PH_OK)
            return status;
        atomic_store_explicit(&core->coord->writer_seat, core->store.seat + 1, memory_order_relaxed);
        status = start(core);
        if (status == PH_OK)
            break;
        /* If it has not just been reset from where the heap file is, that may help. */
        bool reset = status == PH_BUDGET && core->write_view.reset_lsn != atomic_load(&core->coord->folded);
        if (reset)
            core->write_view.current = false;
        else if (status == PH_BUDGET)
            core->write_view.incompressible = core->write_view.touched_bytes;
        unlock_writer(core);
        if (status == PH_BUDGET)
            status = reset ? PH_OK : ph_upkeep_make_budget_room(core, time_left(core, &limit));
        if (status != PH_OK)
            return status;
    }
    uint64_t serial = ++core->txn_count;
    struct pheap_txn *handle = &core->txns[serial % PH_TXN_HANDLES];
    handle->core = core;
    handle->serial = serial;
    core->txn_handle = heap;
    atomic_store_explicit(&core->txn_thread, thread, memory_order_relaxed);
    atomic_store_explicit(&core->txn_serial, serial, memory_order_release);
    *txn = handle;
    return PH_OK;
}

enum pheap_status pheap_begin(pheap *heap, pheap_txn **txn)
{
    return (enum pheap_status)begin(heap, -1, txn);
}

enum pheap_status pheap_begin_timeout(pheap *heap, int64_t timeout_ms, pheap_txn **txn)
{
    if (timeout_ms < 0 || timeout_ms > INT64_MAX / 1000000)
        return (enum pheap_status)ph_fail(PH_INVALID, "pheap_begin_timeout: %" PRId64 " ms is out of range",
                                          timeout_ms);
    return (enum pheap_status)begin(heap, timeout_ms, txn);
}

ph_status ph_txn_use(pheap_txn *txn, struct ph_core **core)
{
    if (txn == NULL)
        return ph_fail(PH_INVALID, "the transaction is NULL");
    struct ph_core *c = txn->core;
    if (txn->serial == 0 || txn->serial != atomic_load_explicit(&c->txn_serial, memory_order_relaxed))
        return ph_fail(PH_ENDED, "%s: this transaction has ended", c->path);
    if (atomic_load_explicit(&c->forked, memory_order_relaxed))
        return ph_fail(PH_FORKED, "%s: this transaction belongs to the parent process", c->path);
    if (atomic_load_explicit(&c->txn_thread, memory_order_relaxed) != ph_thread_id())
        return ph_fail(PH_WRONG_THREAD, "%s: this transaction was begun by another thread", c->path);
    *core = c;
    return PH_OK;
}

/* ------------------------------------------------------------------------------------------------------------ end */

/* The transaction is over. */
static void leave(struct ph_core *core, bool committed)
{
    ph_track_end(core, committed);
    ph_edits_end(&core->edits);
    ph_guards_arm(core);
    core->txn_handle = NULL;
    atomic_store_explicit(&core->txn_serial, 0, memory_order_release);
    unlock_writer(core);
}

static void undo(struct ph_core *core)
{
    ph_track_abort(core);
    PH_POINT(abort_begins);
    ph_alloc_undo(&core->edits);
    if (core->verify)
        ph_verify_undone(core);
    leave(core, false);
}

enum pheap_status pheap_abort(pheap_txn *txn)
{
    struct ph_core *core = NULL;
    ph_status status = ph_txn_use(txn, &core);
    if (status == PH_OK)
        undo(core);
    return (enum pheap_status)status;
}

/* --------------------------------------------------------------------------------------------------------- commit */

static ph_status check_room(struct ph_core *core, const struct ph_commit_mark *base)
{
    uint64_t reserve = 0;
    const struct ph_record_builder *builder = &core->builder;
    for (size_t at = 0; at < builder->length; at += ph_record_length(builder->bytes + at))
        reserve += ph_record_reserve(ph_record_length(builder->bytes + at), core->store.wal.block_bytes);
    if (ph_upkeep_log_has_room(core, base->reserve, reserve))
        return PH_OK;
    return ph_upkeep_make_log_room(core, base->reserve, reserve);
}

/* Encode and publish.  *end: the LSN to wait for, 0 if nothing had changed. */
static ph_status commit_changes(struct ph_core *core, uint64_t *end)
{
    struct ph_commit_mark mark;
    struct ph_record_builder *builder = &core->builder;
    *end = 0;
    ph_status status = ph_track_commit(core);
    if (status == PH_OK)
        status = ph_alloc_apply_deferred(&core->edits);
    ph_record_builder_reset(builder);
    if (status == PH_OK)
        status = ph_edits_encode(&core->edits, builder);
    if (status == PH_NO_MEMORY)
        status = ph_fail_context(status, "%s", core->path);
    if (status == PH_OK && core->verify)
        status = ph_verify_commit(core);
    if (status != PH_OK || builder->records == 0)
        return status;
    status = find_base(core, &mark);
    if (status != PH_OK)
        return status;
    mark.version++;
    mark.heap_bytes = core->edits.heap_size;
    ph_record_builder_finish(builder, mark.version);
    PH_POINT(commit_encoded);
    status = check_room(core, &mark);
    PH_POINT(commit_has_room);
    if (status == PH_OK) /* since begin a sync may have failed, and the page cache may show what was before it */
        status = ph_coord_check_poison(core->coord, core->path);
    if (status == PH_OK)
        status = publish(core, &mark);
    if (status != PH_OK)
        return status;
    core->write_view.at = (struct ph_boundary){mark.lsn, mark.chain, mark.version, mark.heap_bytes};
    if (core->verify) /* it has had the same records */
        core->shadow_view.at = core->write_view.at;
    *end = mark.lsn;
    return PH_OK;
}

/* The commit stands, so a failure to make it durable is POISONED, whatever it was: no other status says so. */
static ph_status wait_durable(struct ph_core *core, uint64_t lsn)
{
    ph_status status = ph_flush_to(&core->store.wal, lsn, UINT64_MAX);
    if (status == PH_OK || status == PH_POISONED)
        return status;
    atomic_store(&core->coord->poisoned, 1);
    return ph_fail_context(PH_POISONED, "the commit could not be made durable and the heap accepts no more until it is "
                                        "reopened");
}

enum pheap_status pheap_commit(pheap_txn *txn, enum pheap_durability how, uint64_t *version)
{
    struct ph_core *core;
    uint64_t end;
    ph_status status = ph_txn_use(txn, &core);
    if (status != PH_OK)
        return (enum pheap_status)status;
    if (how != PHEAP_DURABLE && how != PHEAP_LAZY) {
        undo(core);
        return (enum pheap_status)ph_fail(PH_INVALID, "pheap_commit: %d is no durability", (int)how);
    }
    status = commit_changes(core, &end);
    if (status != PH_OK) {
        if (core->verify)
            core->shadow_view.current = false;
        undo(core);
        return (enum pheap_status)status;
    }
    uint64_t number = core->write_view.at.version;
    PH_POINT(commit_stands);
    leave(core, true);
    if (end != 0)
        ph_notify_commit(core);
    PH_POINT(commit_notified);
    if (end != 0 && how == PHEAP_LAZY)
        ph_upkeep_note_lazy(core);
    if (end != 0 && how == PHEAP_DURABLE)
        status = wait_durable(core, end);
    PH_POINT(commit_is_durable);
    if (end != 0 && status == PH_OK)
        status = ph_upkeep_after_commit(core);
    if (status == PH_OK && version != NULL)
        *version = number;
    return (enum pheap_status)status;
}
