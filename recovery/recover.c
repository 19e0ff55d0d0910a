/* SPDX-License-Identifier: MIT */
/*
 * Recovery: bring a heap that nobody has open to its last commit.
 *
 * Reads twice: first to find where the records end and to judge that end (R9), then to fold them into the heap file.
 * Nothing is written before the judgement.  Ends by syncing the heap file and writing the CLEAN superblock, so a crash
 * at any point leaves the same work to be done again; bytes that "already match" are written all the same (R7).
 */
#include "recovery/store.h"

#include <string.h>

#define RECOVERY_MEMORY_BYTES (UINT64_C(256) << 20)

/* Where the log to be replayed begins. */
struct origin {
    struct ph_boundary from;
    uint64_t epoch;
    uint64_t segment;
    uint64_t offset;
};

/* Find the end of the records, and refuse if it is not one that a crash can leave. */
static ph_status find_end(struct ph_store *store, const struct origin *origin, struct ph_boundary *end,
                          struct ph_scan_evidence *evidence)
{
    struct ph_replay replay;
    ph_status status = ph_replay_init_recovery(&replay, &store->wal, origin->epoch, &origin->from, origin->segment,
                                               origin->offset);
    if (status != PH_OK)
        return status;
    status = ph_replay_run(&replay, NULL, NULL);
    *end = replay.boundary;
    uint64_t lsn = replay.place.lsn;
    enum ph_record_fault fault = replay.fault;
    ph_replay_deinit(&replay);
    if (status == PH_OK)
        status = ph_scan_evidence(&store->wal, origin->epoch, evidence);
    if (status == PH_OK)
        status = ph_judge_end(store->wal.path, &store->superblock, lsn, evidence, fault);
    return status;
}

/* Operation sink of a dry run that only tracks the heap's size; replay has checked the bounds. */
static ph_status check_only(void *context, const struct ph_operation *operation)
{
    (void)context;
    (void)operation;
    return PH_OK;
}

/* Run over [origin, end) and hand every operation to `apply`; *end gets the heap's size too. */
static ph_status run(struct ph_store *store, const struct origin *origin, struct ph_boundary *end,
                     ph_replay_apply apply, void *context)
{
    struct ph_replay replay;
    ph_status status = ph_replay_init_recovery(&replay, &store->wal, origin->epoch, &origin->from, origin->segment,
                                               origin->offset);
    if (status != PH_OK)
        return status;
    replay.end = end->lsn;
    status = ph_replay_run(&replay, apply, context);
    if (status == PH_OK && replay.boundary.lsn != end->lsn)
        status = ph_fail(PH_IO, "%s: the log read differently the second time", store->wal.path);
    if (status == PH_OK) {
        *end = replay.boundary;
        store->replayed_bytes = replay.record_bytes;
    }
    ph_replay_deinit(&replay);
    return status;
}

static ph_status extend_heap(struct ph_store *store, uint64_t heap_bytes)
{
    struct ph_file_stat stat;
    ph_status status = ph_file_stat(&store->heap, &stat);
    if (status == PH_OK && stat.size_bytes < heap_bytes)
        status = ph_file_truncate(&store->heap, heap_bytes);
    return status;
}

static ph_status fold_all(struct ph_store *store, const struct origin *origin, struct ph_boundary *end)
{
    ph_status status = run(store, origin, end, check_only, NULL); /* a record out of bounds changes nothing */
    if (status == PH_OK)
        status = extend_heap(store, end->heap_bytes);
    struct ph_fold_set *set = NULL;
    if (status == PH_OK)
        status = ph_fold_set_init(&set, &store->heap, RECOVERY_MEMORY_BYTES);
    if (status == PH_OK)
        status = run(store, origin, end, ph_fold_set_apply, set);
    if (status == PH_OK)
        status = ph_fold_set_write(set);
    ph_fold_set_deinit(set);
    return status;
}

static ph_status write_clean(struct ph_store *store, const struct origin *origin, const struct ph_boundary *end,
                             uint64_t newest_segment)
{
    ph_status status = ph_file_sync(&store->heap);
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
    if (status == PH_OK)
        store->superblock = clean;
    return status;
}

static ph_status replay_log(struct ph_store *store, const struct origin *origin)
{
    struct ph_boundary end;
    struct ph_scan_evidence evidence;
    ph_status status = find_end(store, origin, &end, &evidence);
    if (status == PH_OK)
        status = fold_all(store, origin, &end);
    if (status == PH_OK)
        status = write_clean(store, origin, &end, evidence.newest_segment);
    store->recovered = status == PH_OK;
    return status;
}

static struct origin find_origin(const struct ph_superblock *s, enum ph_plan plan, const struct ph_log_header *header)
{
    struct origin origin = {
        .from = {s->checkpoint_lsn, s->checkpoint_chain, s->checkpoint_version, s->heap_bytes},
        .epoch = s->epoch,
        .segment = s->checkpoint_segment,
        .offset = s->checkpoint_offset,
    };
    if (plan == PH_PLAN_REPLAY_START) {
        origin.epoch = header->epoch;
        origin.segment = header->start_segment;
        origin.offset = 0;
    }
    return origin;
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

ph_status ph_store_recover(struct ph_store *store, struct ph_coord *old_coord, bool read_only)
{
    bool other_damaged;
    enum ph_log_condition condition;
    struct ph_log_header header;
    ph_status status = ph_superblock_read(&store->heap, &store->superblock, &other_damaged);
    if (status == PH_OK)
        status = check_length(store);
    if (status == PH_OK)
        status = ph_log_inspect(&store->wal, read_only, &condition, &header);
    if (status != PH_OK)
        return status;
    enum ph_log_state log = ph_classify_log(&store->superblock, condition, &header);
    enum ph_plan plan = ph_classify((enum ph_superblock_state)store->superblock.state, other_damaged, log);
    status = ph_plan_refuse(plan, store->heap.path, store->wal.path);
    if (status != PH_OK || plan == PH_PLAN_CLEAN)
        return status;
    if (read_only)
        return ph_fail(PH_READ_ONLY,
                       "%s: the heap was not closed cleanly and must be recovered; open it once for writing",
                       store->heap.path);
    struct origin origin = find_origin(&store->superblock, plan, &header);
    store->wal.coord = old_coord;
    status = replay_log(store, &origin);
    store->wal.coord = NULL;
    return status;
}
