/* SPDX-License-Identifier: MIT */
/*
 * Checkpoint of a heap in use, and the start and clean end of an epoch.
 *
 * Checkpoint (R4, R7): fold; sync_in_progress = 1; sync the sums, if there are any, and the heap file; write the other
 * superblock durably; publish; sync_in_progress = 0; free the segments before it, but for those that a backup holds
 * (recovery/backup.c).
 * sync_in_progress found set means that pages folded since the last superblock may look clean in the page cache and not
 * be on the disk: they are all written anew from the log, each once and in its last state so that no view sees it go
 * back in time, before the next sync is believed.
 */
#include "io/failpoint.h"
#include "recovery/sums.h"
#include "wal/flush.h"

static ph_status poison(struct ph_store *store, ph_status status)
{
    atomic_store(&store->wal.coord->poisoned, 1);
    return ph_fail_context(status, "the heap file could not be synced and the heap accepts no more commits until it is "
                                   "reopened");
}

/* ----------------------------------------------------------------------------------------------------- checkpoint */

/* Write anew every page that was folded since the superblock: see the head. */
static ph_status fold_again(struct ph_store *store)
{
    struct ph_coord *coord = store->wal.coord;
    struct ph_fold_mark now;
    struct ph_superblock newest;
    bool other_damaged;
    ph_status status = ph_superblock_read(&store->heap, &newest, &other_damaged);
    if (status != PH_OK)
        return status;
    if (!ph_coord_read_fold(coord, &now))
        return ph_coord_damaged(store->heap.path);
    struct ph_boundary from = {newest.checkpoint_lsn, newest.checkpoint_chain, newest.checkpoint_version,
                               newest.heap_bytes};
    struct ph_boundary reached;
    if (from.lsn >= now.lsn)
        return PH_OK;
    for (uint32_t parts = 1, part = 0; part < parts && status == PH_OK; part++) {
        status = ph_fold_stretch(store, &from, newest.checkpoint_segment, newest.checkpoint_offset, now.lsn, part,
                                 parts, false, &reached);
        if (status == PH_TOO_BIG && parts < PH_FOLD_PARTS_MAX) { /* begin again with smaller parts */
            parts *= 2;
            part = UINT32_MAX;
            status = PH_OK;
        }
    }
    return status;
}

static struct ph_superblock next_superblock(struct ph_store *store, const struct ph_fold_mark *mark)
{
    struct ph_superblock next = store->superblock;
    next.state = PH_STATE_OPEN;
    next.generation = store->wal.coord->checkpoint.generation + 1;
    next.epoch = store->wal.coord->checkpoint.epoch;
    next.checkpoint_lsn = mark->lsn;
    next.checkpoint_chain = mark->chain;
    next.checkpoint_version = mark->version;
    next.checkpoint_segment = mark->segment;
    next.checkpoint_offset = mark->offset;
    next.heap_bytes = mark->heap_bytes;
    next.durable_lsn = mark->lsn;
    return next;
}

/* Sync the heap file and say so in the superblock. */
static ph_status sync_and_record(struct ph_store *store, struct ph_superblock *next)
{
    struct ph_coord *coord = store->wal.coord;
    ph_status status = ph_sums_announce(store, coord->checkpoint.lsn, coord->checkpoint.chain, next->checkpoint_lsn,
                                        next->checkpoint_chain);
    if (status == PH_OK && atomic_exchange(&coord->sync_in_progress, 1) != 0) {
        PH_POINT(checkpoint_sync_was_unfinished);
        status = fold_again(store);
    }
    PH_POINT(checkpoint_to_sync);
    if (status != PH_OK)
        return status;
    status = ph_sums_sync(store);
    if (status == PH_OK)
        status = ph_file_sync(&store->heap);
    PH_POINT(checkpoint_synced);
    if (status == PH_NO_SPACE) /* pages may have been dropped; the next checkpoint writes them again */
        return status;
    if (status != PH_OK)
        return poison(store, status);
    status = ph_superblock_write(&store->heap, next);
    if (status != PH_OK)
        return status == PH_NO_SPACE ? status : poison(store, status);
    PH_POINT(checkpoint_superblock_written);
    coord->checkpoint.generation = next->generation;
    coord->checkpoint.lsn = next->checkpoint_lsn;
    PH_POINT(checkpoint_half_marked);
    coord->checkpoint.chain = next->checkpoint_chain;
    coord->checkpoint.segment = next->checkpoint_segment;
    coord->checkpoint.vouched = next->durable_lsn;
    PH_POINT(checkpoint_marked);
    atomic_store(&coord->sync_in_progress, 0);
    ph_sums_settle(store);
    return PH_OK;
}

/* Free the segments before the checkpoint that no backup holds. */
static void free_segments(struct ph_store *store)
{
    struct ph_coord *coord = store->wal.coord;
    uint64_t keep = coord->checkpoint.segment, held;
    if (ph_store_oldest_hold(store, &held) >= 0 && held < keep)
        keep = held;
    uint32_t count = atomic_load(&coord->slot_count);
    for (uint32_t slot = 0; slot < count && slot < PH_SEGMENTS_MAX; slot++) {
        uint64_t sequence = atomic_load(&coord->slot_sequence[slot]);
        if (sequence != 0 && sequence < keep) {
            atomic_store(&coord->slot_sequence[slot], 0);
            PH_POINT(checkpoint_segment_freed);
        }
    }
}

ph_status ph_store_vouch(struct ph_store *store, uint64_t lsn)
{
    struct ph_coord *coord = store->wal.coord;
    if (lsn <= atomic_load_explicit(&coord->vouched, memory_order_acquire) || lsn <= coord->checkpoint.vouched)
        return PH_OK;
    struct ph_superblock next;
    bool other_damaged;
    ph_status status = ph_superblock_read(&store->heap, &next, &other_damaged);
    if (status != PH_OK)
        return status;
    next.generation++;
    next.durable_lsn = lsn;
    /* This sync too may be the one that is told of pages that did not reach the disk. */
    bool unfinished = atomic_exchange(&coord->sync_in_progress, 1) != 0;
    status = ph_superblock_write(&store->heap, &next);
    if (status != PH_OK)
        return status == PH_NO_SPACE ? status : poison(store, status);
    coord->checkpoint.generation = next.generation;
    coord->checkpoint.vouched = lsn;
    if (!unfinished)
        atomic_store(&coord->sync_in_progress, 0);
    return PH_OK;
}

ph_status ph_checkpoint_locked(struct ph_store *store, uint64_t timeout_ns)
{
    struct ph_coord *coord = store->wal.coord;
    if (atomic_load(&coord->epoch_open) == 0)
        return PH_OK;
    ph_status status = ph_fold_locked(store);
    if (status != PH_OK)
        return status;
    struct ph_fold_mark mark;
    if (!ph_coord_read_fold(coord, &mark))
        return ph_coord_damaged(store->heap.path);
    if (mark.lsn != coord->checkpoint.lsn || atomic_load(&coord->sync_in_progress) != 0) {
        struct ph_superblock next = next_superblock(store, &mark);
        status = sync_and_record(store, &next);
        if (status != PH_OK)
            return status;
    }
    PH_POINT(checkpoint_to_free);
    free_segments(store); /* even if nothing is new: a backup may have ended */
    return ph_flush_update_limit(&store->wal, timeout_ns);
}

ph_status ph_checkpoint_sums(struct ph_store *store)
{
    _Atomic uint32_t *in_progress = &store->wal.coord->sync_in_progress;
    uint32_t before = atomic_exchange(in_progress, 1);
    ph_status status = ph_sums_sync(store);
    if (status != PH_OK)
        return status == PH_NO_SPACE ? status : poison(store, status);
    atomic_store(in_progress, before);
    return PH_OK;
}

ph_status ph_store_checkpoint(struct ph_store *store, uint64_t timeout_ns)
{
    struct ph_coord *coord = store->wal.coord;
    if (atomic_load(&coord->epoch_open) == 0)
        return PH_OK;
    ph_status status = ph_flush_to(&store->wal, ph_coord_stream_end(coord), timeout_ns);
    if (status == PH_OK)
        status = ph_fold_lock(store, timeout_ns);
    if (status != PH_OK)
        return status;
    status = ph_coord_check_poison(coord, store->heap.path);
    if (status == PH_OK)
        status = ph_checkpoint_locked(store, timeout_ns);
    ph_fold_unlock(store);
    return status;
}

ph_status ph_store_extend_log(struct ph_store *store, uint64_t timeout_ns)
{
    ph_status status = ph_fold_lock(store, timeout_ns);
    if (status != PH_OK)
        return status;
    status = ph_log_add_slot(&store->wal);
    if (status == PH_OK)
        status = ph_flush_update_limit(&store->wal, timeout_ns);
    ph_fold_unlock(store);
    return status;
}

/* ---------------------------------------------------------------------------------------------------------- epoch */

/* The marks of an epoch that begins at `start_segment`; nobody uses the log yet. */
static void set_marks(struct ph_store *store, uint64_t start_segment, uint32_t slots)
{
    struct ph_coord *coord = store->wal.coord;
    ph_coord_set_position(coord, start_segment);
    for (uint32_t slot = 0; slot < PH_SEGMENTS_MAX; slot++) /* those to come as well */
        atomic_store(&coord->slot_sequence[slot], 0);
    atomic_store(&coord->slot_sequence[0], start_segment);
    atomic_store(&coord->slot_count, slots);
    ph_flush_set_limit(&store->wal);
}

static ph_status open_epoch_locked(struct ph_store *store)
{
    struct ph_coord *coord = store->wal.coord;
    struct ph_fold_mark mark;
    if (!ph_coord_read_fold(coord, &mark))
        return ph_coord_damaged(store->heap.path);
    uint64_t start_segment = coord->checkpoint.segment + 1;
    struct ph_log_header header = {
        .epoch = coord->checkpoint.epoch + 1,
        .start_lsn = mark.lsn,
        .start_chain = mark.chain,
        .start_version = mark.version,
        .start_segment = start_segment,
    };
    /* The CLEAN superblock may have been read from a cache that the disk does not agree with. */
    struct ph_superblock clean;
    bool other_damaged;
    ph_status status = ph_superblock_read(&store->heap, &clean, &other_damaged);
    if (status == PH_OK)
        status = ph_superblock_write(&store->heap, &clean);
    if (status == PH_OK && clean.epoch == 0) { /* its creator may have died before it synced the name */
        int result = store->io->sync_directory(store->io->ctx, store->heap.path);
        status = result < 0 ? ph_file_fail(store->heap.path, "cannot sync the directory", -result) : PH_OK;
    }
    PH_POINT(epoch_begins);
    if (status == PH_OK)
        status = ph_log_begin_epoch(&store->wal, &header);
    PH_POINT(epoch_log_ready);
    uint32_t slots = 0;
    if (status == PH_OK)
        status = ph_log_count_slots(&store->wal, &slots);
    if (status != PH_OK)
        return status;
    struct ph_superblock next = next_superblock(store, &mark);
    next.epoch = header.epoch;
    next.checkpoint_segment = start_segment;
    next.checkpoint_offset = 0;
    status = ph_superblock_write(&store->heap, &next);
    if (status != PH_OK)
        return status == PH_NO_SPACE ? status : poison(store, status);
    PH_POINT(epoch_superblock_written);
    coord->checkpoint.lsn = mark.lsn;
    coord->checkpoint.chain = mark.chain;
    coord->checkpoint.segment = start_segment;
    coord->checkpoint.generation = next.generation;
    coord->checkpoint.epoch = next.epoch;
    coord->checkpoint.vouched = next.durable_lsn;
    PH_POINT(epoch_half_marked);
    set_marks(store, start_segment, slots);
    PH_POINT(epoch_marked);
    atomic_store_explicit(&coord->epoch_open, 1, memory_order_release);
    PH_POINT(epoch_opened);
    return PH_OK;
}

ph_status ph_store_open_epoch(struct ph_store *store, uint64_t timeout_ns)
{
    struct ph_coord *coord = store->wal.coord;
    if (atomic_load_explicit(&coord->epoch_open, memory_order_acquire) != 0)
        return PH_OK;
    ph_status status = ph_fold_lock(store, timeout_ns);
    if (status != PH_OK)
        return status;
    status = ph_coord_check_poison(coord, store->heap.path);
    if (status == PH_OK && atomic_load(&coord->epoch_open) == 0)
        status = open_epoch_locked(store);
    ph_fold_unlock(store);
    return status;
}

ph_status ph_store_close_epoch(struct ph_store *store)
{
    struct ph_coord *coord = store->wal.coord;
    if (atomic_load(&coord->epoch_open) == 0)
        return PH_OK;
    ph_status status = ph_store_checkpoint(store, UINT64_MAX);
    if (status != PH_OK)
        return status;
    struct ph_fold_mark mark;
    struct ph_flush_mark flushed;
    if (!ph_coord_read_fold(coord, &mark) || !ph_coord_read_flush(coord, &flushed))
        return ph_coord_damaged(store->heap.path);
    if (mark.lsn != atomic_load(&coord->committed))
        return PH_OK; /* a pin; only one who is not alone can meet it */
    struct ph_superblock next = next_superblock(store, &mark);
    next.state = PH_STATE_CLEAN;
    next.checkpoint_segment = flushed.segment;
    next.checkpoint_offset = 0;
    PH_POINT(epoch_ends);
    status = ph_superblock_write(&store->heap, &next);
    if (status != PH_OK)
        return status;
    PH_POINT(epoch_clean_written);
    coord->checkpoint.generation = next.generation;
    coord->checkpoint.segment = next.checkpoint_segment;
    atomic_store(&coord->epoch_open, 0);
    PH_POINT(epoch_ended);
    return PH_OK;
}
