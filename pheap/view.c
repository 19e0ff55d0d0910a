/* SPDX-License-Identifier: MIT */
/* Views: private mappings of the heap file brought to a version by replay. */
#include "pheap/view.h"

#include "io/failpoint.h"

#include <string.h>

#define RETRIES_MAX 100 /* of a reset that writers, fold and log recycling overtake */

ph_status ph_view_map(struct ph_view *view, struct ph_store *store, uint64_t reserve_bytes, uint64_t least_bytes,
                      uint64_t budget_bytes)
{
    const ph_io *io = store->io;
    memset(view, 0, sizeof *view);
    view->store = store;
    view->budget_bytes = budget_bytes;
    const uint64_t in_page = PH_PAGE_BYTES - 1;
    uint64_t length = reserve_bytes;
    bool scarce = false;
    least_bytes = (least_bytes + in_page) & ~in_page;
    for (;;) {
        length = (length + in_page) & ~in_page;
        void *address;
        int result = length < least_bytes ? -1 : io->map(io->ctx, store->heap.handle, length, PH_MAP_PRIVATE, &address);
        if (result == 0 && scarce && length / 2 >= least_bytes) {
            /* Where address space is scarce, all else that the process needs must find some too. */
            (void)io->unmap(io->ctx, address, length);
            scarce = false;
        } else if (result == 0) {
            view->base = address;
            view->reserve_bytes = length;
            return PH_OK;
        } else if (length <= least_bytes) {
            return ph_fail(PH_NO_MEMORY,
                           "%s: no address space for the heap's %llu bytes (ulimit -v? vm.overcommit_memory?)",
                           store->heap.path, (unsigned long long)least_bytes);
        } else {
            scarce = true;
        }
        length = length / 2 > least_bytes ? length / 2 : least_bytes;
    }
}

void ph_view_watch(struct ph_view *view)
{
    const ph_io *io = view->store->io;
    view->watch = io->watch(io->ctx, view->base, view->reserve_bytes);
    view->watched = view->watch >= 0;
}

void ph_view_unwatch(struct ph_view *view)
{
    if (view->watched)
        view->store->io->unwatch(view->store->io->ctx, view->watch);
    view->watched = false;
}

ph_status ph_view_drop(struct ph_view *view, uint64_t offset, uint64_t length)
{
    const ph_io *io = view->store->io;
    uint8_t *address = view->base + offset;
    view->last_page = 0; /* it counts again */
    int result =
        view->watched ? io->drop_watched(io->ctx, view->watch, address, length) : io->drop(io->ctx, address, length);
    return result < 0 ? ph_file_fail(view->store->heap.path, "drop private pages", -result) : PH_OK;
}

void ph_view_unmap(struct ph_view *view)
{
    ph_view_unwatch(view);
    if (view->base != NULL)
        (void)view->store->io->unmap(view->store->io->ctx, view->base, view->reserve_bytes);
    memset(view, 0, sizeof *view);
}

ph_status ph_view_apply(void *context, const struct ph_operation *operation)
{
    struct ph_view *view = context;
    if (operation->kind == PH_OPERATION_GROW) {
        if (operation->value <= view->reserve_bytes)
            return ph_store_check_size(view->store, operation->value);
        return ph_fail(PH_RESERVE,
                       "%s: the heap has grown to %llu bytes, beyond the %llu reserved when it was opened here; close "
                       "and open it again, or set reserve_bytes",
                       view->store->heap.path, (unsigned long long)operation->value,
                       (unsigned long long)view->reserve_bytes);
    }
    uint8_t *target = view->base + operation->offset;
    ph_view_touch(view, operation->offset, operation->length);
    if (operation->kind == PH_OPERATION_WRITE)
        memcpy(target, operation->bytes, operation->length);
    else
        for (uint64_t at = 0; at < operation->length; at += 8)
            memcpy(target + at, &operation->value, 8);
    return PH_OK;
}

/* Run a replay that has been set up, into the view. */
static ph_status run(struct ph_view *view, struct ph_replay *replay, uint64_t lsn)
{
    view->current = false;
    ph_status status = ph_replay_run(replay, ph_view_apply, view);
    PH_POINT(view_replayed);
    if (status == PH_OK && replay->boundary.lsn != lsn)
        status = ph_fail(PH_CORRUPT, "%s: replay ended at LSN %llu, not at the commit %llu", view->store->heap.path,
                         (unsigned long long)replay->boundary.lsn, (unsigned long long)lsn);
    if (status == PH_OK) {
        view->at = replay->boundary;
        view->current = true;
    }
    ph_replay_deinit(replay);
    return status;
}

static ph_status reset_once(struct ph_view *view, uint64_t lsn, bool from_log)
{
    struct ph_store *store = view->store;
    struct ph_fold_mark mark;
    if (!ph_coord_read_fold(store->wal.coord, &mark))
        return ph_coord_damaged(store->heap.path);
    view->current = false;
    if (mark.heap_bytes > view->reserve_bytes)
        return ph_fail(PH_RESERVE, "%s: the heap has %llu bytes, more than the %llu reserved when it was opened here",
                       store->heap.path, (unsigned long long)mark.heap_bytes, (unsigned long long)view->reserve_bytes);
    ph_status status = ph_store_check_size(store, mark.heap_bytes);
    if (status == PH_OK)
        status = ph_view_drop(view, 0, view->reserve_bytes);
    if (status != PH_OK)
        return status;
    PH_POINT(view_dropped);
    view->touched_bytes = 0;
    view->reset_lsn = mark.lsn;
    view->incompressible = 0;
    view->at = (struct ph_boundary){mark.lsn, mark.chain, mark.version, mark.heap_bytes};
    if (mark.lsn == lsn) {
        view->current = true;
        return PH_OK;
    }
    struct ph_replay replay;
    status = ph_replay_init_live(&replay, &store->wal, &view->at, mark.segment, mark.offset, lsn, from_log);
    return status == PH_OK ? run(view, &replay, lsn) : status;
}

ph_status ph_view_reset(struct ph_view *view, uint64_t lsn)
{
    struct ph_coord *coord = view->store->wal.coord;
    uint64_t folded = 0;
    for (int i = 0;; i++) {
        uint64_t before = folded;
        folded = atomic_load(&coord->folded);
        ph_status status = reset_once(view, lsn, i > 0);
        if (status != PH_BUSY)
            return status;
        /* From the log file, nothing can be missing that has not been folded since. */
        if ((i > 1 && folded == before && folded == atomic_load(&coord->folded)) || i == RETRIES_MAX)
            return ph_fail(PH_CORRUPT,
                           "%s: the log was damaged while the heap is in use: records after LSN %llu are "
                           "not there",
                           view->store->wal.path, (unsigned long long)folded);
    }
}

ph_status ph_view_move(struct ph_view *view, uint64_t lsn)
{
    struct ph_store *store = view->store;
    if (view->current && view->at.lsn == lsn)
        return PH_OK;
    if (!view->current || view->at.lsn > lsn || !ph_ring_has(&store->wal, view->at.lsn))
        return ph_view_reset(view, lsn);
    struct ph_replay replay;
    ph_status status = ph_replay_init_ring(&replay, &store->wal, &view->at, lsn);
    if (status == PH_OK)
        status = run(view, &replay, lsn);
    return status == PH_BUSY ? ph_view_reset(view, lsn) : status;
}

int64_t ph_view_count_private(const struct ph_view *view, uint64_t heap_bytes)
{
    if (view->base == NULL || view->touched_bytes == 0)
        return 0;
    const ph_io *io = view->store->io;
    heap_bytes = heap_bytes < view->reserve_bytes ? heap_bytes : view->reserve_bytes; /* it may be any number (R8) */
    int64_t pages = io->touched(io->ctx, view->base, heap_bytes, NULL);
    return pages < 0 ? -1 : pages * (int64_t)PH_PAGE_BYTES;
}

uint64_t ph_view_private_bytes(struct ph_view *view)
{
    int64_t bytes = ph_view_count_private(view, view->at.heap_bytes);
    if (bytes >= 0) {
        view->touched_bytes = (uint64_t)bytes;
        view->last_page = 0;
    }
    return view->touched_bytes;
}
