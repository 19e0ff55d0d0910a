/* SPDX-License-Identifier: MIT */
/*
 * Read transactions: snapshots in this process's read view.
 *
 * The view's pin is the process's seat's (R3).  The first reader pins the newest commit c: it stores c as its pin, then
 * looks at fold_intent; if that is beyond c a fold may have missed the pin, so it pins a newer commit.  Once the pin
 * holds, nothing folds past c, and the view is moved there.  Later readers join while the view is in use.  The last one
 * out clears the pin; the view stays where it is, holding nothing.
 */
#include "pheap/alloc.h"
#include "pheap/check.h"
#include "pheap/core.h"
#include "pheap/space.h"
#include "wal/flush.h"

#include <string.h>

#define WAIT_NS UINT64_C(10000000000)

/* Pin the newest commit; its LSN. */
static uint64_t pin_newest(struct ph_core *core)
{
    struct ph_seat *seat = &core->coord->seats[core->store.seat];
    for (;;) {
        uint64_t lsn = atomic_load(&core->coord->committed);
        atomic_store(&seat->pin, lsn);
        if (atomic_load(&core->coord->fold_intent) <= lsn)
            return lsn;
    }
}

static void unpin(struct ph_core *core)
{
    atomic_store_explicit(&core->coord->seats[core->store.seat].pin, 0, memory_order_release);
}

static ph_status protect_view(struct ph_core *core, bool writable)
{
    struct ph_view *view = &core->read_view;
    if (!core->protect)
        return PH_OK;
    int result = core->io->protect(core->io->ctx, view->base, view->reserve_bytes, writable);
    return result < 0 ? ph_file_fail(core->path, "protect the read view", -result) : PH_OK;
}

/* For those who ask who pins what. */
static void note_pin(struct ph_core *core)
{
    struct ph_seat *seat = &core->coord->seats[core->store.seat];
    atomic_store_explicit(&seat->pin_version, core->read_view.at.version, memory_order_relaxed);
    atomic_store_explicit(&seat->pin_since_ns, core->io->clock_ns(core->io->ctx, PH_CLOCK_REALTIME),
                          memory_order_relaxed);
}

/* The first reader: pin, and bring the view there. */
static ph_status enter_view(struct ph_core *core)
{
    struct ph_view *view = &core->read_view;
    uint64_t lsn = pin_newest(core);
    if (view->current && view->at.lsn == lsn) {
        note_pin(core);
        return PH_OK;
    }
    if (view->touched_bytes > view->budget_bytes && ph_view_private_bytes(view) > view->budget_bytes / 2)
        view->current = false;
    ph_status status = protect_view(core, true);
    if (status == PH_OK)
        status = ph_view_move(view, lsn);
    if (status == PH_OK)
        status = protect_view(core, false);
    if (status != PH_OK) {
        unpin(core);
        return status;
    }
    note_pin(core);
    return PH_OK;
}

static bool thread_reads(const struct ph_core *core, uint64_t thread)
{
    for (const struct pheap_read *r = core->open_readers; r != NULL; r = r->next)
        if (r->thread == thread)
            return true;
    return false;
}

bool ph_reader_is_open_here(struct ph_core *core)
{
    ph_local_lock(&core->reader_lock);
    bool open = thread_reads(core, ph_thread_id());
    ph_local_unlock(&core->reader_lock);
    return open;
}

/* FRESH: wait until the view is free or shows the newest commit.  The reader lock is held. */
static ph_status wait_for_view(struct ph_core *core)
{
    while (core->readers != 0 && core->read_view.at.lsn != atomic_load(&core->coord->committed)) {
        if (thread_reads(core, ph_thread_id()))
            return ph_fail(PH_TIMEOUT, "%s: a fresh version would wait for this thread's own open reader", core->path);
        if (!ph_local_wait(&core->reader_lock, WAIT_NS))
            return ph_fail(PH_TIMEOUT, "%s: other readers of this process have held an older version for 10 s",
                           core->path);
    }
    return PH_OK;
}

static struct pheap_read *take_reader(struct ph_core *core)
{
    struct pheap_read *reader = core->free_readers;
    if (reader != NULL) {
        core->free_readers = reader->next;
        return reader;
    }
    reader = core->io->alloc(core->io->ctx, sizeof *reader, 16);
    if (reader != NULL)
        reader->core = core;
    return reader;
}

static ph_status begin_locked(struct ph_core *core, unsigned flags, pheap_read **out)
{
    ph_status status = (flags & PHEAP_FRESH) != 0 ? wait_for_view(core) : PH_OK;
    if (status != PH_OK)
        return status;
    struct pheap_read *reader = take_reader(core);
    if (reader == NULL)
        return ph_fail(PH_NO_MEMORY, "%s: out of memory", core->path);
    if (core->readers == 0)
        status = enter_view(core);
    if (status != PH_OK) {
        reader->next = core->free_readers;
        core->free_readers = reader;
        return status;
    }
    core->readers++;
    reader->thread = ph_thread_id();
    reader->next = core->open_readers;
    core->open_readers = reader;
    *out = reader;
    return PH_OK;
}

enum pheap_status pheap_read_begin(pheap *heap, unsigned flags, pheap_read **reader)
{
    struct ph_core *core;
    ph_status status = ph_core_use(heap, &core);
    if (status == PH_OK && (reader == NULL || (flags & ~(unsigned)PHEAP_FRESH) != 0))
        status = ph_fail(PH_INVALID, "pheap_read_begin: reader is NULL, or flags 0x%x has unknown bits", flags);
    if (status == PH_OK && !core->read_only && atomic_load(&core->coord->poisoned) == 0)
        status = ph_upkeep_flush_old(core, 0);
    if (status != PH_OK && status != PH_POISONED)
        return (enum pheap_status)status;
    ph_local_lock(&core->reader_lock);
    status = begin_locked(core, flags, reader);
    ph_local_unlock(&core->reader_lock);
    return (enum pheap_status)status;
}

void pheap_read_end(pheap_read *reader)
{
    if (reader == NULL || atomic_load_explicit(&reader->core->forked, memory_order_relaxed))
        return;
    struct ph_core *core = reader->core;
    ph_local_lock(&core->reader_lock);
    for (struct pheap_read **at = &core->open_readers; *at != NULL; at = &(*at)->next)
        if (*at == reader) {
            *at = reader->next;
            reader->next = core->free_readers;
            core->free_readers = reader;
            if (--core->readers == 0) {
                unpin(core);
                ph_local_wake(&core->reader_lock);
            }
            break;
        }
    ph_local_unlock(&core->reader_lock);
}

/* --------------------------------------------------------------------------------------------------------- looking */

static struct ph_space space_of(const pheap_read *reader)
{
    return (struct ph_space){.base = reader->core->read_view.base, .size = reader->core->read_view.at.heap_bytes};
}

const void *pheap_read_ptr(const pheap_read *reader, uint64_t offset)
{
    return reader->core->read_view.base + offset;
}

uint64_t pheap_read_version(const pheap_read *reader)
{
    return reader->core->read_view.at.version;
}

uint64_t pheap_read_size(const pheap_read *reader)
{
    return reader->core->read_view.at.heap_bytes;
}

uint64_t pheap_read_root(const pheap_read *reader)
{
    return ph_alloc_root(space_of(reader));
}

enum pheap_status pheap_read_range(const pheap_read *reader, uint64_t offset, uint64_t length, const void **address)
{
    uint64_t start, size;
    if (reader == NULL || address == NULL)
        return (enum pheap_status)ph_fail(PH_INVALID, "pheap_read_range: reader or address is NULL");
    ph_status status = ph_alloc_find(space_of(reader), offset, &start, &size);
    if (status == PH_OK && (length > size || offset - start > size - length))
        status = ph_fail(PH_BAD_OFFSET, "bytes [%llu, %llu) reach beyond the block at %llu, which has %llu bytes",
                         (unsigned long long)offset, (unsigned long long)(offset + length), (unsigned long long)start,
                         (unsigned long long)size);
    if (status == PH_OK)
        *address = reader->core->read_view.base + offset;
    return (enum pheap_status)status;
}

enum pheap_status pheap_read_usable_size(const pheap_read *reader, uint64_t offset, uint64_t *length)
{
    uint64_t start, size;
    if (reader == NULL || length == NULL)
        return (enum pheap_status)ph_fail(PH_INVALID, "pheap_read_usable_size: reader or length is NULL");
    ph_status status = ph_alloc_find(space_of(reader), offset, &start, &size);
    if (status == PH_OK && start != offset)
        status = ph_fail(PH_BAD_OFFSET, "offset %llu is inside the %llu-byte block at %llu", (unsigned long long)offset,
                         (unsigned long long)size, (unsigned long long)start);
    if (status == PH_OK)
        *length = size;
    return (enum pheap_status)status;
}

enum pheap_status pheap_read_next_block(const pheap_read *reader, uint64_t from, uint64_t *offset, uint64_t *length)
{
    if (reader == NULL || offset == NULL || length == NULL)
        return (enum pheap_status)ph_fail(PH_INVALID, "pheap_read_next_block: reader, offset or length is NULL");
    return (enum pheap_status)ph_alloc_next(space_of(reader), from, offset, length);
}

enum pheap_status pheap_check(const pheap_read *reader, pheap_fault fault, pheap_progress progress, void *context)
{
    if (reader == NULL)
        return (enum pheap_status)ph_fail(PH_INVALID, "pheap_check: reader is NULL");
    ph_status status = ph_check_heap(reader->core->io, space_of(reader), fault, progress, context);
    if (status != PH_OK)
        status = ph_fail_context(status, "%s", reader->core->path);
    return (enum pheap_status)status;
}

enum pheap_status pheap_get_space(const pheap_read *reader, struct pheap_space *space, pheap_progress progress,
                                  void *context)
{
    struct pheap_space full = {0};
    if (reader == NULL || space == NULL || space->size < sizeof space->size || space->size > 4096)
        return (enum pheap_status)ph_fail(PH_INVALID, "pheap_get_space: reader is NULL, or space->size is not set");
    size_t size = space->size;
    ph_status status = ph_space_walk(space_of(reader), &full, progress, context);
    if (status != PH_OK)
        return (enum pheap_status)ph_fail_context(status, "%s", reader->core->path);
    full.size = size;
    memcpy(space, &full, size < sizeof full ? size : sizeof full);
    return PHEAP_OK;
}
