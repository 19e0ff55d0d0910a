/* SPDX-License-Identifier: MIT */
/*
 * Recovery: bring a heap that nobody has open to its last commit.
 *
 *   find     where the records end, and judge that end (R9); nothing is written before the judgement, and what is judged
 *            is where the log itself ends: the buffer of the last users may go on from a torn tail, but it does not make
 *            good what was durable once, since writing that again would first destroy what tells of the damage.  What the
 *            records say is gathered on the way if it fits in memory, else the log is read once more for folding.
 *   secure   make every record found durable in the log, because folding comes only after that (R1): what was read may
 *            be in a cache only (the write failed, or its writer died before it was done), or in the shared buffer of
 *            the last users.  Batches beyond the proven durable LSN are written again, as they are; records from the
 *            buffer are appended.  Likewise the superblock, because what is older than it is about to be overwritten;
 *            and once more, to say how far the log is durable, which folding makes it have been for good (R9).
 *   fold     all records into the heap file; bytes that "already match" are written all the same (R7)
 *   finish   sync the heap file, write the CLEAN superblock
 *
 * A crash at any point leaves the same work to be done again.
 */
#include "io/failpoint.h"
#include "recovery/sums.h"
#include "wal/flush.h"

#include <string.h>

#define RECOVERY_MEMORY_BYTES (UINT64_C(256) << 20)

ph_status ph_find_end(struct ph_wal *wal, const struct ph_superblock *superblock, const struct ph_log_origin *origin,
                      bool by_buffer, ph_replay_apply apply, void *context, struct ph_finding *found)
{
    struct ph_replay replay;
    uint32_t slots;
    *found = (struct ph_finding){.end = origin->from, .lsn = origin->from.lsn};
    ph_status status = ph_log_count_slots(wal, &slots);
    if (status == PH_OK)
        status = ph_replay_init_recovery(&replay, wal, origin);
    if (status != PH_OK)
        return status;
    status = ph_replay_run(&replay, apply, context);
    found->end = replay.boundary;
    found->lsn = replay.place.lsn;
    found->last = replay.scan.position;
    found->record_bytes = replay.record_bytes;
    if (status == PH_OK)
        status = ph_scan_evidence(&replay.scan, origin->segment, &found->evidence);
    if (status == PH_OK)
        status = ph_judge_end(wal->path, superblock, by_buffer ? found->lsn : found->last.place.lsn, &found->evidence,
                              replay.fault);
    if (status == PH_OK && (found->end.lsn >= PH_NUMBER_LIMIT || found->end.version >= PH_NUMBER_LIMIT))
        status = ph_fail(PH_CORRUPT, "%s: LSN %llu, commit %llu is impossible", wal->path,
                         (unsigned long long)found->end.lsn, (unsigned long long)found->end.version);
    if ((status == PH_OK || status == PH_CORRUPT) &&
        slots < PH_SEGMENTS_MIN) /* they were there before the header was */
        status = ph_fail(PH_CORRUPT, "%s: the log is truncated: it has %u segments, and never had fewer than %u",
                         wal->path, slots, PH_SEGMENTS_MIN);
    ph_replay_deinit(&replay);
    return status;
}

/*
 * Append the records [tail, end) of the shared buffer to the log.  Nobody else uses the coordination file.  *segment: the
 * last one that they took.
 */
static ph_status append_buffer(struct ph_store *store, const struct ph_log_origin *origin,
                               const struct ph_scan_position *tail, const struct ph_boundary *end, uint64_t *segment)
{
    struct ph_wal *wal = &store->wal;
    struct ph_coord *coord = wal->coord;
    struct ph_scan scan;
    ph_status status = ph_scan_init(&scan, wal, origin->segment, origin->offset, &tail->place, false);
    if (status != PH_OK)
        return status;
    ph_scan_slots(&scan, coord);
    ph_scan_deinit(&scan);
    memset(&coord->flush_lock, 0, sizeof coord->flush_lock);
    if (!ph_mutex_init(&coord->flush_lock))
        return ph_fail(PH_UNSUPPORTED, "%s: this system lacks robust locks", store->heap.path);
    uint64_t block = wal->block_bytes;
    memset(coord->flush_marks, 0, sizeof coord->flush_marks);
    coord->flush_marks[0] = (struct ph_flush_mark){.lsn = tail->place.lsn,
                                                   .chain = tail->place.chain,
                                                   .segment = tail->segment,
                                                   .offset = (tail->batch_end + block - 1) & ~(block - 1)};
    coord->checkpoint.epoch = origin->epoch;
    coord->checkpoint.segment = origin->segment;
    coord->poisoned = 0;
    coord->appended = 0;
    coord->durable = tail->place.lsn;
    coord->committed = end->lsn;
    PH_POINT(recovery_buffer_found);
    status = ph_flush_all(wal);
    struct ph_flush_mark mark;
    if (status == PH_OK && ph_coord_read_flush(coord, &mark))
        *segment = mark.segment;
    return status;
}

/* The log is durable up to `end`: let the superblock say so, before the heap file is folded up to there.  If there is
 * anything to fold: else the log's header, which an OPEN superblock relies on, may be in a cache only. */
static ph_status vouch(struct ph_store *store, const struct ph_log_origin *origin, const struct ph_boundary *end)
{
    if (end->lsn == origin->from.lsn)
        return PH_OK;
    struct ph_superblock next = store->superblock;
    next.state = PH_STATE_OPEN;
    next.generation++;
    next.epoch = origin->epoch;
    next.checkpoint_segment = origin->segment;
    next.checkpoint_offset = origin->offset;
    next.durable_lsn = end->lsn;
    ph_status status = ph_superblock_write(&store->heap, &next);
    if (status == PH_OK)
        store->superblock = next;
    return status;
}

/* *segment: the greatest sequence number of a segment, found or taken for records from the buffer. */
static ph_status secure(struct ph_store *store, const struct ph_log_origin *origin, const struct ph_finding *found,
                        uint64_t *segment)
{
    struct ph_record_place place = {store->wal.heap_id, origin->epoch, origin->from.lsn, origin->from.chain};
    uint64_t appended = 0, from_segment = origin->segment, from_offset = origin->offset;
    uint64_t durable = found->evidence.durable > origin->from.lsn ? found->evidence.durable : origin->from.lsn;
    if (found->last.batch_lsn >
        origin->from.lsn) { /* what is before the last batch was durable when that was written */
        place.lsn = found->last.batch_lsn;
        place.chain = found->last.batch_chain;
        from_segment = found->last.segment;
        from_offset = found->last.batch_start;
    }
    struct ph_scan_position tail;
    ph_status status = ph_superblock_write(&store->heap, &store->superblock);
    if (status == PH_OK)
        status = ph_scan_secure(&store->wal, from_segment, from_offset, &place, durable, found->end.lsn, &tail);
    if (status == PH_OK && tail.place.lsn < found->end.lsn)
        status = append_buffer(store, origin, &tail, &found->end, &appended);
    *segment = appended > found->evidence.newest_segment ? appended : found->evidence.newest_segment;
    return status == PH_OK ? vouch(store, origin, &found->end) : status;
}

static ph_status extend_heap(struct ph_store *store, uint64_t heap_bytes)
{
    struct ph_file_stat stat;
    ph_status status = ph_file_stat(&store->heap, &stat);
    if (status == PH_OK && stat.size_bytes < heap_bytes)
        status = ph_file_truncate(&store->heap, heap_bytes);
    return status;
}

static ph_status write_clean(struct ph_store *store, const struct ph_log_origin *origin, const struct ph_boundary *end,
                             uint64_t newest_segment)
{
    ph_status status = ph_sums_announce(store, origin->from.lsn, origin->from.chain, end->lsn, end->chain);
    if (status == PH_OK)
        status = ph_sums_sync(store);
    if (status == PH_OK)
        status = ph_file_sync(&store->heap);
    PH_POINT(recovery_synced);
    if (status != PH_OK)
        return status;
    struct ph_superblock clean = store->superblock;
    clean.state = PH_STATE_CLEAN;
    clean.generation++;
    clean.epoch = origin->epoch;
    clean.checkpoint_lsn = end->lsn;
    clean.checkpoint_chain = end->chain;
    clean.checkpoint_version = end->version;
    clean.checkpoint_segment = newest_segment > origin->segment ? newest_segment : origin->segment;
    clean.checkpoint_offset = 0;
    clean.heap_bytes = end->heap_bytes;
    clean.durable_lsn = end->lsn;
    status = ph_superblock_write(&store->heap, &clean);
    PH_POINT(recovery_finished);
    if (status == PH_OK) {
        store->superblock = clean;
        ph_sums_settle(store);
    }
    return status;
}

/* Find, secure, fold.  *segment: as for secure.  gather: take the operations in at the first reading; TOO_BIG if they do
 * not fit in memory. */
static ph_status bring_up_to_date(struct ph_store *store, const struct ph_log_origin *origin, bool gather,
                                  struct ph_finding *found, uint64_t *segment)
{
    struct ph_fold_set *set = NULL;
    ph_status status =
        ph_fold_set_init(&set, &store->heap, RECOVERY_MEMORY_BYTES, 0, gather ? 1 : 0 /* one part: all or nothing */);
    if (status == PH_OK)
        status =
            ph_find_end(&store->wal, &store->superblock, origin, false, gather ? ph_fold_set_apply : NULL, set, found);
    PH_POINT(recovery_found);
    if (status == PH_OK) /* only now: what stands beside a heap that is refused stays as it is */
        status = ph_sums_open(store);
    if (status == PH_OK && store->sums.open)
        ph_fold_set_keep_sums(set, &store->sums, false);
    if (status == PH_OK)
        status = secure(store, origin, found, segment);
    PH_POINT(recovery_secured);
    if (status == PH_OK)
        status = extend_heap(store, found->end.heap_bytes);
    if (status == PH_OK && !gather)
        status = ph_replay_again(&store->wal, origin, &found->end, ph_fold_set_apply, set);
    if (status == PH_OK)
        status = ph_fold_set_write(set);
    PH_POINT(recovery_folded);
    ph_fold_set_deinit(set);
    return status;
}

static ph_status replay_log(struct ph_store *store, const struct ph_log_origin *origin)
{
    struct ph_finding found = {.record_bytes = 0};
    uint64_t newest_segment = 0;
    ph_status status = bring_up_to_date(store, origin, true, &found, &newest_segment);
    if (status == PH_TOO_BIG)
        status = bring_up_to_date(store, origin, false, &found, &newest_segment);
    if (status == PH_OK)
        status = write_clean(store, origin, &found.end, newest_segment);
    store->replayed_bytes = found.record_bytes;
    store->recovered = status == PH_OK;
    return status;
}

/* The heap file must be as long as the superblock says: replay extends it only for what the log adds. */
static ph_status check_length(struct ph_store *store)
{
    struct ph_file_stat stat;
    ph_status status = ph_file_stat(&store->heap, &stat);
    if (status != PH_OK || stat.size_bytes >= store->superblock.heap_bytes)
        return status;
    return ph_fail(PH_CORRUPT, "%s: the file is truncated: it has %llu bytes, the superblock says %llu",
                   store->heap.path, (unsigned long long)stat.size_bytes,
                   (unsigned long long)store->superblock.heap_bytes);
}

ph_status ph_store_check_size(struct ph_store *store, uint64_t bytes)
{
    struct ph_file_stat stat;
    if (bytes <= atomic_load(&store->heap_file_bytes))
        return PH_OK;
    ph_status status = ph_file_stat(&store->heap, &stat);
    if (status != PH_OK)
        return status;
    if (bytes > stat.size_bytes)
        return ph_coord_damaged(store->heap.path);
    atomic_store(&store->heap_file_bytes, stat.size_bytes);
    return PH_OK;
}

/* With a superblock that was read; other_damaged: the other copy of it is. */
static ph_status recover(struct ph_store *store, struct ph_coord *old_coord, bool other_damaged, bool read_only)
{
    enum ph_log_condition condition;
    struct ph_log_header header;
    ph_status status = check_length(store);
    if (status == PH_OK)
        status = ph_log_inspect(&store->wal, read_only, &condition, &header);
    if (status != PH_OK)
        return status;
    enum ph_log_state log = ph_classify_log(&store->superblock, condition, &header);
    enum ph_plan plan = ph_classify((enum ph_superblock_state)store->superblock.state, other_damaged, log);
    status = ph_plan_refuse(plan, store->heap.path, store->wal.path);
    if (status != PH_OK || plan == PH_PLAN_CLEAN)
        return status == PH_OK ? ph_sums_open(store) : status;
    if (read_only)
        return ph_fail(PH_READ_ONLY,
                       "%s: the heap was not closed cleanly and must be recovered; open it once for writing",
                       store->heap.path);
    struct ph_log_origin origin = ph_plan_origin(plan, &store->superblock, &header);
    store->wal.coord = old_coord;
    status = replay_log(store, &origin);
    store->wal.coord = NULL;
    return status;
}

ph_status ph_store_recover(struct ph_store *store, struct ph_coord *old_coord, bool read_only)
{
    bool other_damaged;
    ph_status status = ph_superblock_read(&store->heap, &store->superblock, &other_damaged);
    if (status != PH_OK)
        return status;
    status = recover(store, old_coord, other_damaged, read_only);
    /* The text is of functions that salvage uses too, and that needs no such advice. */
    if (status == PH_CORRUPT || status == PH_LOG_MISSING)
        return ph_fail(status, "%s; pheap salvage saves what is left", ph_detail());
    return status;
}
