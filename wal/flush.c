/* SPDX-License-Identifier: MIT */
/* Flush: group commit from the shared buffer to the log file. */
#include "wal/flush.h"

#include "io/checksum.h"
#include "io/failpoint.h"
#include "wal/record.h"
#include "wal/ring.h"

#include <string.h>

#define CROWD_NS UINT64_C(40000)         /* about what it takes to wake the others and to have them commit again */
#define CROWD_LOOKS 4000u                /* and no longer where the clock stands still */
#define WAIT_SLICE_NS UINT64_C(10000000) /* how soon a waiter notices that the flusher died */

static ph_status poison(struct ph_wal *wal)
{
    atomic_store(&wal->coord->poisoned, 1);
    /* The records are published and may survive: no other status says so. */
    return ph_fail_context(PH_POISONED,
                           "the log could not be written and the heap accepts no more commits until it is reopened");
}

void ph_flush_set_limit(struct ph_wal *wal)
{
    struct ph_flush_mark mark;
    if (!ph_coord_read_flush(wal->coord, &mark))
        return;
    uint64_t limit = mark.reserve + ph_log_usable(wal, mark.offset);
    uint32_t count = atomic_load(&wal->coord->slot_count);
    for (uint32_t slot = 0; slot < count && slot < PH_SEGMENTS_MAX; slot++)
        if (atomic_load(&wal->coord->slot_sequence[slot]) == 0)
            limit += ph_log_usable(wal, 0);
    atomic_store_explicit(&wal->coord->reserve_limit, limit, memory_order_release);
}

/* Gather whole records from mark->lsn on, at most `room` bytes; 0 if the first does not fit.  Adds up their reserve. */
static uint64_t gather(struct ph_wal *wal, uint64_t lsn, uint64_t end, uint64_t room, uint64_t *reserve)
{
    uint64_t at = lsn;
    *reserve = 0;
    while (at < end) {
        uint32_t length = ph_ring_record_length(wal, at);
        if (length < sizeof(struct ph_record_header) || length % 8 != 0 || length > wal->record_max)
            return UINT64_MAX;
        if (at + length - lsn > room)
            break;
        *reserve += ph_record_reserve(length, wal->block_bytes);
        at += length;
    }
    return at - lsn;
}

/* The slot for segment `sequence`: one that a flusher who died had chosen, else a free one. */
static int64_t choose_slot(struct ph_wal *wal, uint64_t sequence)
{
    int64_t slot = ph_coord_find_slot(wal->coord, sequence);
    if (slot < 0)
        slot = ph_coord_find_slot(wal->coord, 0);
    if (slot >= 0)
        atomic_store_explicit(&wal->coord->slot_sequence[slot], sequence, memory_order_release);
    PH_POINT(flush_slot_taken);
    return slot;
}

static void make_segment_header(const struct ph_wal *wal, const struct ph_flush_mark *mark, uint64_t epoch,
                                uint8_t *block)
{
    struct ph_segment_header header = {
        .magic = PH_SEGMENT_MAGIC,
        .heap_id = wal->heap_id,
        .epoch = epoch,
        .sequence = mark->segment,
        .first_lsn = mark->lsn,
        .durable = mark->lsn,
    };
    header.checksum = ph_checksum(&header, offsetof(struct ph_segment_header, checksum));
    memset(block, 0, wal->block_bytes);
    memcpy(block, &header, sizeof header);
}

static void make_batch_header(const struct ph_wal *wal, const struct ph_flush_mark *mark, uint64_t epoch,
                              uint64_t length, uint8_t *bytes)
{
    struct ph_batch_header header = {
        .magic = PH_BATCH_MAGIC,
        .length = (uint32_t)length,
        .heap_id = wal->heap_id,
        .epoch = epoch,
        .lsn = mark->lsn,
        .durable = mark->lsn,
        .chain = mark->chain,
        .sequence = mark->segment,
    };
    header.checksum = ph_checksum(&header, offsetof(struct ph_batch_header, checksum));
    memcpy(bytes, &header, sizeof header);
}

/* Checksum field of the last of the gathered records, which the next batch's header chains to. */
static uint64_t last_chain(const uint8_t *records, uint64_t length)
{
    uint64_t at = 0, chain = 0;
    while (at < length) {
        const struct ph_record_header *header = (const struct ph_record_header *)(const void *)(records + at);
        chain = header->checksum;
        at += header->length;
    }
    return chain;
}

/* Write one batch and move `mark` past it. */
static ph_status write_batch(struct ph_wal *wal, struct ph_flush_mark *mark, uint64_t end)
{
    uint64_t epoch = wal->coord->checkpoint.epoch;
    uint64_t head = mark->offset == 0 ? wal->block_bytes : 0, reserve, length = 0;
    uint64_t used = mark->offset + head + sizeof(struct ph_batch_header);
    if (used < wal->segment_bytes) {
        uint64_t room = wal->segment_bytes - used;
        length = gather(wal, mark->lsn, end, room < wal->batch_max ? room : wal->batch_max, &reserve);
    }
    if (length == 0) { /* the segment is full */
        mark->segment++;
        mark->offset = 0;
        head = wal->block_bytes;
        used = head + sizeof(struct ph_batch_header);
        uint64_t room = wal->segment_bytes - used;
        length = gather(wal, mark->lsn, end, room < wal->batch_max ? room : wal->batch_max, &reserve);
    }
    if (length == 0 || length == UINT64_MAX)
        return ph_fail(PH_CORRUPT, "%s: the shared log buffer is damaged at LSN %llu", wal->path,
                       (unsigned long long)mark->lsn);
    int64_t slot = choose_slot(wal, mark->segment);
    if (slot < 0)
        return ph_fail(PH_LOG_FULL, "%s: no free segment for records that were promised one", wal->path);
    if (head != 0)
        make_segment_header(wal, mark, epoch, wal->staging);
    uint8_t *batch = wal->staging + head;
    make_batch_header(wal, mark, epoch, length, batch);
    uint8_t *records = batch + sizeof(struct ph_batch_header);
    ph_ring_copy_stable(wal, mark->lsn, records, length);
    uint64_t bytes = head + ph_record_reserve(length, wal->block_bytes);
    memset(records + length, 0, bytes - head - sizeof(struct ph_batch_header) - length);
    PH_POINT(flush_to_write);
    ph_status status = ph_file_write(&wal->file, wal->staging, bytes,
                                     ph_log_slot_offset(wal, (uint64_t)slot) + mark->offset, PH_WRITE_DSYNC);
    PH_POINT(flush_wrote);
    if (status != PH_OK)
        return status;
    mark->lsn += length;
    mark->offset += bytes;
    mark->reserve += reserve;
    mark->chain = last_chain(records, length);
    return PH_OK;
}

/*
 * Those whom the last flush woke are about to commit again: a flush that starts at once would be too early for them, and
 * every other one would go half empty.  So wait until as many have come as were there last time, but not for long.  One
 * who commits alone never waits.  (The idea is commit_delay of PostgreSQL, here with a crowd that is counted.)
 */
static void await_crowd(struct ph_wal *wal)
{
    struct ph_coord *coord = wal->coord;
    uint32_t crowd = atomic_load_explicit(&coord->flush_crowd, memory_order_relaxed);
    if (crowd < 2)
        return;
    const uint64_t start = wal->io->clock_ns(wal->io->ctx, PH_CLOCK_MONOTONIC);
    for (unsigned i = 0; i < CROWD_LOOKS && atomic_load(&coord->flush_waiters) + 1 < crowd; i++)
        if (wal->io->clock_ns(wal->io->ctx, PH_CLOCK_MONOTONIC) - start > CROWD_NS)
            break;
}

/* A mark that rotted must not lead to blocks that hold something. */
static bool possible(const struct ph_wal *wal, const struct ph_flush_mark *mark)
{
    return mark->segment >= wal->coord->checkpoint.segment && mark->offset <= wal->segment_bytes &&
           mark->offset % wal->block_bytes == 0;
}

static ph_status flush_locked(struct ph_wal *wal)
{
    ph_status status = ph_log_ensure_open(wal);
    if (status == PH_OK)
        status = ph_file_check_handle(&wal->file);
    if (status != PH_OK)
        return status;
    PH_POINT(flush_leads);
    await_crowd(wal);
    const uint64_t began = wal->io->clock_ns(wal->io->ctx, PH_CLOCK_COARSE);
    struct ph_flush_mark mark;
    if (!ph_coord_read_flush(wal->coord, &mark) || !possible(wal, &mark)) {
        (void)ph_coord_damaged(wal->path);
        return poison(wal);
    }
    uint64_t end = ph_coord_stream_end(wal->coord);
    while (mark.lsn < end) {
        const uint64_t start = mark.lsn;
        status = write_batch(wal, &mark, end);
        if (status != PH_OK)
            return poison(wal);
        atomic_store_explicit(&wal->coord->vouched, start, memory_order_release);
        ph_coord_publish_flush(wal->coord, &mark);
    }
    atomic_store_explicit(&wal->coord->flush_crowd, atomic_load(&wal->coord->flush_waiters) + 1, memory_order_relaxed);
    ph_flush_set_limit(wal);
    PH_POINT(flush_limit_set);
    atomic_store(&wal->coord->lazy_since_ns, 0);
    if (atomic_load(&wal->coord->committed) > mark.lsn) /* also by one who saw the old time and noted none (R5) */
        atomic_store(&wal->coord->lazy_since_ns, began);
    return PH_OK;
}

/* The seam takes the futex word as the kernel sees it. */
static uint32_t *futex_word(struct ph_wal *wal)
{
    return (uint32_t *)(uintptr_t)&wal->coord->flush_word;
}

static void wake_waiters(struct ph_wal *wal)
{
    PH_POINT(flush_to_wake);
    atomic_fetch_add(&wal->coord->flush_word, 1);
    PH_POINT(flush_word_changed);
    if (atomic_load(&wal->coord->flush_waiters) != 0)
        wal->io->wake(wal->io->ctx, futex_word(wal), INT32_MAX);
}

static void wait_for_flusher(struct ph_wal *wal, uint32_t word, uint64_t lsn, uint64_t timeout_ns)
{
    atomic_fetch_add(&wal->coord->flush_waiters, 1);
    PH_POINT(flush_waits);
    if (atomic_load(&wal->coord->durable) < lsn)
        wal->io->wait(wal->io->ctx, futex_word(wal), word, timeout_ns < WAIT_SLICE_NS ? timeout_ns : WAIT_SLICE_NS);
    atomic_fetch_sub(&wal->coord->flush_waiters, 1);
}

static ph_status refuse_lock(const struct ph_wal *wal, enum ph_mutex_result result)
{
    if (result == PH_MUTEX_TIMEOUT)
        return ph_fail(PH_TIMEOUT,
                       "%s: another process is flushing the log, or was stopped in the midst of it: thread %lld",
                       wal->path, (long long)ph_mutex_holder(&wal->coord->flush_lock));
    return ph_fail(PH_CORRUPT, "%s: the flush lock in the coordination file is damaged", wal->path);
}

ph_status ph_flush_to(struct ph_wal *wal, uint64_t lsn, uint64_t timeout_ns)
{
    struct ph_coord *coord = wal->coord;
    const uint64_t start = timeout_ns == UINT64_MAX ? 0 : wal->io->clock_ns(wal->io->ctx, PH_CLOCK_MONOTONIC);
    while (atomic_load_explicit(&coord->durable, memory_order_acquire) < lsn) {
        ph_status status = ph_coord_check_poison(coord, wal->path);
        if (status != PH_OK)
            return status;
        uint32_t word = atomic_load(&coord->flush_word);
        enum ph_mutex_result result = ph_mutex_trylock(&coord->flush_lock);
        if (result == PH_MUTEX_TIMEOUT) {
            if (timeout_ns != UINT64_MAX && wal->io->clock_ns(wal->io->ctx, PH_CLOCK_MONOTONIC) - start >= timeout_ns)
                return refuse_lock(wal, result);
            wait_for_flusher(wal, word, lsn, timeout_ns);
            continue;
        }
        if (result != PH_MUTEX_ACQUIRED && result != PH_MUTEX_OWNER_DIED)
            return refuse_lock(wal, result);
        if (atomic_load(&coord->durable) < lsn)
            status = ph_coord_check_poison(coord, wal->path);
        if (status == PH_OK && atomic_load(&coord->durable) < lsn)
            status = flush_locked(wal);
        ph_mutex_unlock(&coord->flush_lock);
        wake_waiters(wal);
        if (status != PH_OK)
            return status;
    }
    return PH_OK;
}

ph_status ph_flush_all(struct ph_wal *wal)
{
    return ph_flush_to(wal, ph_coord_stream_end(wal->coord), UINT64_MAX);
}

ph_status ph_flush_update_limit(struct ph_wal *wal, uint64_t timeout_ns)
{
    ph_status status = ph_log_ensure_open(wal); /* the size of its blocks counts */
    if (status != PH_OK)
        return status;
    enum ph_mutex_result result = ph_mutex_timedlock(&wal->coord->flush_lock, timeout_ns);
    if (result != PH_MUTEX_ACQUIRED && result != PH_MUTEX_OWNER_DIED)
        return refuse_lock(wal, result);
    ph_flush_set_limit(wal);
    ph_mutex_unlock(&wal->coord->flush_lock);
    return PH_OK;
}
