/* SPDX-License-Identifier: MIT */
/*
 * Fold and checkpoint of a heap in use, and the start and clean end of an epoch.
 *
 * Fold (R3): the folder publishes fold_intent, then reads every seat's pin once, and goes no further than the oldest; a
 * reader stores its pin, then looks at fold_intent and tries again if that is beyond its pin (Dekker's protocol; both
 * sides sequentially consistent).  Whoever finds the fold lock's owner dead folds again from `folded`.
 *
 * Checkpoint (R4, R7): fold; sync_in_progress = 1; sync the heap file; write the other superblock durably; publish;
 * sync_in_progress = 0; free the segments before it, but for those that a backup holds (recovery/backup.c).  sync_in_progress found set means that pages folded since the last
 * superblock may look clean in the page cache and not be on the disk: they are all written anew from the log, each once
 * and in its last state so that no view sees it go back in time, before the next sync is believed.
 */
#include "recovery/store.h"
#include "wal/flush.h"

#include <string.h>

#define FOLD_MEMORY_BYTES (UINT64_C(64) << 20)
#define PARTS_MAX 65536u

static ph_status lock_fold(struct ph_store *store, uint64_t timeout_ns)
{
    enum ph_mutex_result result = ph_mutex_timedlock(&store->wal.coord->fold_lock, timeout_ns);
    if (result == PH_MUTEX_ACQUIRED || result == PH_MUTEX_OWNER_DIED)
        return PH_OK;
    if (result == PH_MUTEX_TIMEOUT)
        return ph_fail(PH_TIMEOUT, "%s: another process is at a checkpoint, or was stopped in the midst of one",
                       store->heap.path);
    return ph_fail(PH_CORRUPT, "%s: the fold lock in the coordination file is damaged", store->heap.path);
}

static void unlock_fold(struct ph_store *store)
{
    ph_mutex_unlock(&store->wal.coord->fold_lock);
}

static ph_status poison(struct ph_store *store, ph_status status)
{
    atomic_store(&store->wal.coord->poisoned, 1);
    return ph_fail_context(status, "the heap file could not be synced and the heap accepts no more commits until it is "
                                   "reopened");
}

/* ----------------------------------------------------------------------------------------------------------- pins */

static uint64_t seat_lock_start(uint32_t seat)
{
    return seat;
}

bool ph_store_seat_alive(struct ph_store *store, uint32_t seat)
{
    if (seat == store->seat)
        return true;
    ph_local_lock(&store->wal.local_lock); /* all threads of the process count as one owner of the lock */
    bool dead = ph_file_lock(&store->coord_file, PH_LOCK_EXCLUSIVE, seat_lock_start(seat), 1, false) == PH_OK;
    if (dead) {
        /* While we hold its lock nobody can take the seat, so clearing what the dead left there is safe. */
        atomic_store(&store->wal.coord->seats[seat].pin, 0);
        atomic_store(&store->wal.coord->seats[seat].hold, 0);
        ph_status status = ph_file_lock(&store->coord_file, PH_LOCK_NONE, seat_lock_start(seat), 1, false);
        (void)status; /* at worst the seat stays taken until this process closes the heap */
    }
    ph_local_unlock(&store->wal.local_lock);
    return !dead;
}

int ph_store_oldest_pin(struct ph_store *store, uint64_t *lsn)
{
    int oldest = -1;
    for (uint32_t seat = 0; seat < PH_SEATS; seat++) {
        uint64_t pin = atomic_load(&store->wal.coord->seats[seat].pin);
        if (pin == 0 || (oldest >= 0 && pin >= *lsn) || !ph_store_seat_alive(store, seat))
            continue;
        *lsn = pin;
        oldest = (int)seat;
    }
    return oldest;
}

/* ----------------------------------------------------------------------------------------------------------- fold */

static ph_status fold_once(struct ph_store *store, const struct ph_boundary *from, uint64_t segment, uint64_t offset,
                           uint64_t to, bool from_log, uint32_t part, uint32_t parts, struct ph_boundary *reached)
{
    struct ph_replay replay;
    struct ph_fold_set *set = NULL;
    ph_status status = ph_fold_set_init(&set, &store->heap, FOLD_MEMORY_BYTES, part, parts);
    if (status != PH_OK)
        return status;
    status = ph_replay_init_live(&replay, &store->wal, from, segment, offset, to, from_log);
    if (status == PH_OK)
        status = ph_replay_run(&replay, ph_fold_set_apply, set);
    if (status == PH_OK)
        status = ph_fold_set_write(set);
    if (status == PH_OK)
        *reached = replay.boundary;
    ph_replay_deinit(&replay);
    ph_fold_set_deinit(set);
    return status;
}

/* Bring records [from, to) into the heap file; *reached is the boundary after the last.  part, parts: as for the fold
 * set. */
static ph_status fold_stretch(struct ph_store *store, const struct ph_boundary *from, uint64_t segment, uint64_t offset,
                              uint64_t to, uint32_t part, uint32_t parts, struct ph_boundary *reached)
{
    ph_status status = fold_once(store, from, segment, offset, to, false, part, parts, reached);
    if (status == PH_BUSY) /* a writer lapped the buffer while it was read */
        status = fold_once(store, from, segment, offset, to, true, part, parts, reached);
    if (status == PH_BUSY) /* whoever folds holds the log: nobody can have recycled it */
        return ph_fail(PH_CORRUPT,
                       "%s: the log was damaged while the heap is in use: records from LSN %llu to %llu are "
                       "not there",
                       store->wal.path, (unsigned long long)from->lsn, (unsigned long long)to);
    return status;
}

static ph_status damaged(struct ph_store *store)
{
    return ph_fail(PH_CORRUPT, "%s: the marks in the coordination file are damaged", store->heap.path);
}

/* Fold up to `target`, a commit boundary, which the flush mark `flushed` has the log position of if they are equal. */
static ph_status fold_to(struct ph_store *store, uint64_t target, const struct ph_flush_mark *flushed)
{
    struct ph_coord *coord = store->wal.coord;
    struct ph_fold_mark now;
    if (!ph_coord_read_fold(coord, &now))
        return damaged(store);
    if (target <= now.lsn)
        return PH_OK;
    struct ph_boundary from = {now.lsn, now.chain, now.version, now.heap_bytes}, reached = from;
    ph_status status = fold_stretch(store, &from, now.segment, now.offset, target, 0, 0, &reached);
    if (status != PH_OK || reached.lsn == from.lsn)
        return status;
    bool positioned = flushed->lsn == reached.lsn;
    struct ph_fold_mark mark = {
        .lsn = reached.lsn,
        .chain = reached.chain,
        .version = reached.version,
        .heap_bytes = reached.heap_bytes,
        .segment = positioned ? flushed->segment : now.segment,
        .offset = positioned ? flushed->offset : now.offset,
    };
    ph_coord_publish_fold(coord, &mark);
    return PH_OK;
}

static ph_status fold_locked(struct ph_store *store)
{
    struct ph_coord *coord = store->wal.coord;
    struct ph_flush_mark flushed;
    if (!ph_coord_read_flush(coord, &flushed))
        return damaged(store);
    uint64_t committed = atomic_load(&coord->committed);
    uint64_t target = flushed.lsn < committed ? flushed.lsn : committed;
    uint64_t intent = atomic_load(&coord->fold_intent);
    if (target > intent)
        atomic_store(&coord->fold_intent, target);
    uint64_t pin;
    if (ph_store_oldest_pin(store, &pin) >= 0 && pin < target)
        target = pin;
    return fold_to(store, target, &flushed);
}

ph_status ph_store_fold(struct ph_store *store)
{
    if (atomic_load(&store->wal.coord->epoch_open) == 0)
        return PH_OK;
    ph_status status = ph_flush_all(&store->wal);
    if (status == PH_OK)
        status = lock_fold(store, UINT64_MAX);
    if (status != PH_OK)
        return status;
    status = fold_locked(store);
    unlock_fold(store);
    return status;
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
        return damaged(store);
    struct ph_boundary from = {newest.checkpoint_lsn, newest.checkpoint_chain, newest.checkpoint_version,
                               newest.heap_bytes};
    struct ph_boundary reached;
    if (from.lsn >= now.lsn)
        return PH_OK;
    for (uint32_t parts = 1, part = 0; part < parts && status == PH_OK; part++) {
        status = fold_stretch(store, &from, newest.checkpoint_segment, newest.checkpoint_offset, now.lsn, part, parts,
                              &reached);
        if (status == PH_TOO_BIG && parts < PARTS_MAX) { /* begin again with smaller parts */
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
    ph_status status = PH_OK;
    if (atomic_exchange(&coord->sync_in_progress, 1) != 0)
        status = fold_again(store);
    if (status != PH_OK)
        return status;
    status = ph_file_sync(&store->heap);
    if (status == PH_NO_SPACE) /* pages may have been dropped; the next checkpoint writes them again */
        return status;
    if (status != PH_OK)
        return poison(store, status);
    status = ph_superblock_write(&store->heap, next);
    if (status != PH_OK)
        return status == PH_NO_SPACE ? status : poison(store, status);
    coord->checkpoint.generation = next->generation;
    coord->checkpoint.lsn = next->checkpoint_lsn;
    coord->checkpoint.segment = next->checkpoint_segment;
    atomic_store(&coord->sync_in_progress, 0);
    return PH_OK;
}

/* Free the segments before the checkpoint that no backup holds; whether there were any. */
static bool free_segments(struct ph_store *store)
{
    struct ph_coord *coord = store->wal.coord;
    uint64_t keep = coord->checkpoint.segment, held;
    if (ph_store_oldest_hold(store, &held) >= 0 && held < keep)
        keep = held;
    bool freed = false;
    uint32_t count = atomic_load(&coord->slot_count);
    for (uint32_t slot = 0; slot < count && slot < PH_SEGMENTS_MAX; slot++) {
        uint64_t sequence = atomic_load(&coord->slot_sequence[slot]);
        if (sequence != 0 && sequence < keep) {
            atomic_store(&coord->slot_sequence[slot], 0);
            freed = true;
        }
    }
    return freed;
}

static ph_status checkpoint_locked(struct ph_store *store)
{
    struct ph_coord *coord = store->wal.coord;
    ph_status status = fold_locked(store);
    if (status != PH_OK)
        return status;
    struct ph_fold_mark mark;
    if (!ph_coord_read_fold(coord, &mark))
        return damaged(store);
    if (mark.lsn == coord->checkpoint.lsn && atomic_load(&coord->sync_in_progress) == 0) /* a backup may have ended */
        return free_segments(store) ? ph_flush_update_limit(&store->wal) : PH_OK;
    struct ph_superblock next = next_superblock(store, &mark);
    status = sync_and_record(store, &next);
    if (status != PH_OK)
        return status;
    (void)free_segments(store);
    return ph_flush_update_limit(&store->wal);
}

ph_status ph_store_checkpoint(struct ph_store *store, uint64_t timeout_ns)
{
    struct ph_coord *coord = store->wal.coord;
    if (atomic_load(&coord->epoch_open) == 0)
        return PH_OK;
    ph_status status = ph_flush_to(&store->wal, ph_coord_stream_end(coord), timeout_ns);
    if (status == PH_OK)
        status = lock_fold(store, timeout_ns);
    if (status != PH_OK)
        return status;
    status = ph_coord_check_poison(coord, store->heap.path);
    if (status == PH_OK)
        status = checkpoint_locked(store);
    unlock_fold(store);
    return status;
}

ph_status ph_store_extend_log(struct ph_store *store, uint64_t timeout_ns)
{
    ph_status status = lock_fold(store, timeout_ns);
    if (status != PH_OK)
        return status;
    status = ph_log_add_slot(&store->wal);
    if (status == PH_OK)
        status = ph_flush_update_limit(&store->wal);
    unlock_fold(store);
    return status;
}

/* ---------------------------------------------------------------------------------------------------------- epoch */

/* The marks of an epoch that begins at `start_segment`; nobody uses the log yet. */
static void set_marks(struct ph_store *store, uint64_t start_segment, uint32_t slots)
{
    struct ph_coord *coord = store->wal.coord;
    ph_coord_set_position(coord, start_segment);
    for (uint32_t slot = 0; slot < slots; slot++)
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
        return damaged(store);
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
    if (status == PH_OK)
        status = ph_log_begin_epoch(&store->wal, &header);
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
    coord->checkpoint.lsn = mark.lsn;
    coord->checkpoint.segment = start_segment;
    coord->checkpoint.generation = next.generation;
    coord->checkpoint.epoch = next.epoch;
    set_marks(store, start_segment, slots);
    atomic_store_explicit(&coord->epoch_open, 1, memory_order_release);
    return PH_OK;
}

ph_status ph_store_open_epoch(struct ph_store *store, uint64_t timeout_ns)
{
    struct ph_coord *coord = store->wal.coord;
    if (atomic_load_explicit(&coord->epoch_open, memory_order_acquire) != 0)
        return PH_OK;
    ph_status status = lock_fold(store, timeout_ns);
    if (status != PH_OK)
        return status;
    status = ph_coord_check_poison(coord, store->heap.path);
    if (status == PH_OK && atomic_load(&coord->epoch_open) == 0)
        status = open_epoch_locked(store);
    unlock_fold(store);
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
        return damaged(store);
    if (mark.lsn != atomic_load(&coord->committed))
        return PH_OK; /* a pin; only one who is not alone can meet it */
    struct ph_superblock next = next_superblock(store, &mark);
    next.state = PH_STATE_CLEAN;
    next.checkpoint_segment = flushed.segment;
    next.checkpoint_offset = 0;
    status = ph_superblock_write(&store->heap, &next);
    if (status != PH_OK)
        return status;
    coord->checkpoint.generation = next.generation;
    coord->checkpoint.segment = next.checkpoint_segment;
    atomic_store(&coord->epoch_open, 0);
    return PH_OK;
}
