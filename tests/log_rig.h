/* SPDX-License-Identifier: MIT */
/*
 * What the tests of the log below transactions share.  The test is the writer and the checkpointer; beside it stands a
 * copy of the whole stream of records, and what the log file holds is compared with that.
 */
#ifndef TESTS_LOG_RIG_H
#define TESTS_LOG_RIG_H

#include "io/checksum.h"
#include "tests/support/simfs_internal.h"
#include "wal/coord.h"
#include "wal/flush.h"
#include "wal/record.h"
#include "wal/ring.h"
#include "wal/scan.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>

#include <cmocka.h>

#define LOG_PATH "d/heap-wal"
#define EPOCH 1u
#define HEADER sizeof(struct ph_record_header)

static uint64_t dice;

static inline uint64_t roll(void)
{
    return dice_roll(&dice);
}

struct rig {
    struct ph_sim *sim;
    struct ph_wal wal;
    struct ph_coord *coord;
    uint8_t *stream; /* every record published, by LSN from PH_FIRST_LSN on */
    size_t stream_capacity;
    uint64_t version;
    struct ph_flush_mark checkpoint; /* where the log that is needed begins */
    uint8_t *written;                /* a flag for each sector of the log file: holds what has been acknowledged */
    size_t seen;                     /* events of the journal looked at */
};

struct shape {
    uint32_t segment_bytes, buffer_bytes, segments;
    bool large_blocks; /* the device takes 4096 bytes at least */
};
static const struct shape small = {16384, 16384, 8, false};

static inline void open_coord(struct rig *rig)
{
    uint64_t length = ph_coord_bytes(rig->wal.buffer_bytes);
    struct ph_coord *coord = aligned_alloc(4096, length);
    assert_non_null(coord);
    memset(coord, 0, length);
    assert_true(ph_mutex_init(&coord->writer_lock) && ph_mutex_init(&coord->flush_lock) &&
                ph_mutex_init(&coord->fold_lock));
    coord->commit_marks[0].lsn = coord->flush_marks[0].lsn = coord->fold_marks[0].lsn = PH_FIRST_LSN;
    coord->reserved = coord->committed = coord->durable = coord->folded = coord->fold_intent = PH_FIRST_LSN;
    coord->checkpoint = (struct ph_checkpoint_mark){.lsn = PH_FIRST_LSN, .segment = 1, .generation = 2, .epoch = EPOCH};
    ph_coord_set_position(coord, 1);
    coord->slot_sequence[0] = 1;
    coord->slot_count = PH_SEGMENTS_MIN;
    rig->coord = rig->wal.coord = coord;
}

static inline void begin(struct rig *rig, const struct shape *shape)
{
    struct ph_superblock superblock = {.identity = "identity of heap",
                                       .segment_bytes = shape->segment_bytes,
                                       .buffer_bytes = shape->buffer_bytes,
                                       .log_limit_bytes =
                                           PH_LOG_SEGMENTS + (uint64_t)shape->segments * shape->segment_bytes,
                                       .file_mode = 0600};
    *rig = (struct rig){.sim = ph_sim_new(NULL)};
    assert_int_equal(ph_wal_init(&rig->wal, ph_sim_io(rig->sim), "d/heap", &superblock), PH_OK);
    open_coord(rig);
    struct ph_log_header header = {.epoch = EPOCH, .start_lsn = PH_FIRST_LSN, .start_segment = 1};
    if (shape->large_blocks) /* the smaller direct write is refused */
        ph_sim_fail_at(rig->sim, PH_SIM_SYNC, PH_SEGMENTS_MIN + 1, EINVAL, PH_SIM_ONCE);
    assert_int_equal(ph_log_begin_epoch(&rig->wal, &header), PH_OK);
    assert_int_equal(rig->wal.block_bytes, shape->large_blocks ? 4096 : 512);
    ph_flush_set_limit(&rig->wal);
    assert_true(ph_coord_read_flush(rig->coord, &rig->checkpoint));
    rig->written = calloc(1, PH_LOG_SEGMENTS / 512 + (size_t)shape->segments * shape->segment_bytes / 512);
    assert_non_null(rig->written);
    rig->seen = ph_sim_journal_length(rig->sim);
}

static inline void end(struct rig *rig)
{
    ph_wal_deinit(&rig->wal);
    assert_int_equal(ph_sim_live_allocations(rig->sim), 0);
    assert_int_equal(ph_sim_live_handles(rig->sim), 0);
    ph_sim_free(rig->sim);
    free(rig->coord);
    free(rig->stream);
    free(rig->written);
}

static inline uint8_t *stream_at(struct rig *rig, uint64_t lsn)
{
    return rig->stream + (lsn - PH_FIRST_LSN);
}

static inline void remember(struct rig *rig, uint64_t lsn, const uint8_t *bytes, size_t length)
{
    size_t needed = lsn - PH_FIRST_LSN + length;
    if (needed > rig->stream_capacity) {
        rig->stream_capacity = needed * 2;
        rig->stream = sim_resize(rig->stream, rig->stream_capacity);
    }
    memcpy(stream_at(rig, lsn), bytes, length);
}

/* Add a record of `length` bytes in all, of noise. */
static inline void add_record(struct ph_record_builder *builder, uint32_t length)
{
    uint8_t noise[1 << 14];
    uint32_t bytes = length - (uint32_t)HEADER - 8;
    assert_true(length >= HEADER + 16 && length <= builder->record_max && bytes <= sizeof noise);
    for (uint32_t i = 0; i < bytes; i += 8) {
        uint64_t word = roll();
        memcpy(noise + i, &word, 8);
    }
    /* Far from the one before, so that it stays apart; the record before is closed when this one does not fit. */
    assert_int_equal(ph_record_add_write(builder, 8192 + roll() % 1000 * 16384, noise, bytes), PH_OK);
}

/* How the writer ends. */
enum fate { COMMITS, DIES_AFTER_FRAGMENTS, DIES_WITHIN_APPEND };

/*
 * Append the builder's records as the transaction does: each into the buffer, drained if need be, then the mark.
 * The caller has seen that the log has room.
 */
static inline ph_status publish(struct rig *rig, struct ph_record_builder *builder, enum fate fate)
{
    struct ph_commit_mark mark, fragment;
    struct ph_wal *wal = &rig->wal;
    if (!ph_coord_read_commit(rig->coord, &mark))
        return PH_CORRUPT;
    if (rig->coord->appended > mark.lsn && ph_coord_read_fragment(rig->coord, &fragment)) {
        fragment.version = mark.version;
        mark = fragment;
    }
    mark.version = ++rig->version;
    ph_record_builder_finish(builder, mark.version);
    for (size_t at = 0; at < builder->length;) {
        uint8_t *record = builder->bytes + at;
        uint32_t length = ph_record_length(record);
        if (mark.lsn + length - atomic_load(&rig->coord->durable) > wal->buffer_bytes) {
            ph_status status = ph_flush_all(wal);
            if (status != PH_OK)
                return status;
        }
        struct ph_record_place place = {wal->heap_id, EPOCH, mark.lsn, mark.chain};
        ph_record_seal(record, &place, atomic_load(&rig->coord->durable));
        if (fate == DIES_WITHIN_APPEND) {
            ph_ring_append(wal, mark.lsn, record, length / 16 * 8);
            atomic_store(&rig->coord->reserved, mark.lsn + length);
            return PH_OK;
        }
        ph_ring_append(wal, mark.lsn, record, length);
        remember(rig, mark.lsn, record, length);
        at += length;
        mark.lsn += length;
        mark.chain = ((struct ph_record_header *)(void *)record)->checksum;
        mark.reserve += ph_record_reserve(length, wal->block_bytes);
        if (at < builder->length)
            ph_coord_publish_fragment(rig->coord, &mark);
        else if (fate == DIES_AFTER_FRAGMENTS)
            return PH_OK;
    }
    ph_coord_publish_commit(rig->coord, &mark);
    return PH_OK;
}

static inline uint64_t reserve_of(const struct rig *rig, const uint32_t *lengths, unsigned count)
{
    uint64_t reserve = 0;
    for (unsigned i = 0; i < count; i++)
        reserve += ph_record_reserve(lengths[i], rig->wal.block_bytes);
    return reserve;
}

static inline uint64_t reserve_so_far(struct rig *rig)
{
    struct ph_commit_mark commit, fragment;
    assert_true(ph_coord_read_commit(rig->coord, &commit));
    bool beyond = rig->coord->appended > commit.lsn && ph_coord_read_fragment(rig->coord, &fragment);
    return beyond ? fragment.reserve : commit.reserve;
}

/* One transaction of records of just these lengths: each operation gets a record of its own. */
static inline ph_status write_records(struct rig *rig, const uint32_t *lengths, unsigned count, enum fate fate)
{
    struct ph_record_builder builder = {.io = rig->wal.io, .record_max = rig->wal.record_max};
    for (unsigned i = 0; i < count; i++) {
        if (i > 0) /* close the record before */
            builder.record_max = lengths[i] > (uint32_t)(builder.length - builder.record_start)
                                     ? lengths[i]
                                     : (uint32_t)(builder.length - builder.record_start);
        add_record(&builder, lengths[i]);
    }
    assert_int_equal(builder.records, count);
    ph_status status = publish(rig, &builder, fate);
    ph_record_builder_deinit(&builder);
    return status;
}

static inline void commit_one(struct rig *rig, uint32_t length)
{
    assert_int_equal(write_records(rig, &length, 1, COMMITS), PH_OK);
}

/* What a checkpoint does to the log: what lies before the flush mark is free. */
static inline void recycle(struct rig *rig)
{
    struct ph_flush_mark mark;
    assert_true(ph_coord_read_flush(rig->coord, &mark));
    rig->checkpoint = mark;
    uint64_t per_segment = rig->wal.segment_bytes / 512;
    for (uint32_t slot = 0; slot < rig->coord->slot_count; slot++)
        if (rig->coord->slot_sequence[slot] != 0 && rig->coord->slot_sequence[slot] < mark.segment) {
            rig->coord->slot_sequence[slot] = 0;
            memset(rig->written + ph_log_slot_offset(&rig->wal, slot) / 512, 0, per_segment);
        }
    assert_int_equal(ph_flush_update_limit(&rig->wal, UINT64_MAX), PH_OK);
}

/* R10: look at what was written to the log file since the last time; nothing acknowledged may be written again. */
static inline void watch_writes(struct rig *rig)
{
    const struct sim_journal *journal = &rig->sim->journal;
    uint32_t file = sim_names_find(&rig->sim->names, LOG_PATH);
    for (; rig->seen < journal->count; rig->seen++) {
        const struct sim_event *event = &journal->events[rig->seen];
        static const uint8_t zeros[512];
        if (event->kind != SIM_EVENT_WRITE || event->file != file || event->offset == 0)
            continue;
        bool fresh_slot = memcmp(event->data, zeros, sizeof zeros) == 0;
        assert_int_equal(event->offset % rig->wal.block_bytes, 0);
        for (uint64_t at = event->offset; at < event->offset + event->length; at += 512) {
            assert_int_equal(rig->written[at / 512], 0);
            rig->written[at / 512] = !fresh_slot;
        }
    }
}

static inline void flush(struct rig *rig)
{
    assert_int_equal(ph_flush_all(&rig->wal), PH_OK);
    assert_int_equal(atomic_load(&rig->coord->durable), ph_coord_stream_end(rig->coord));
    watch_writes(rig);
}

/* The records from the checkpoint to `to`, read by a scan, are those of the stream, and there are no others. */
static inline void check_scan(struct rig *rig, uint64_t to, bool in_use)
{
    struct ph_scan scan;
    struct ph_record_place place = {rig->wal.heap_id, EPOCH, rig->checkpoint.lsn, rig->checkpoint.chain};
    assert_int_equal(ph_scan_init(&scan, &rig->wal, rig->checkpoint.segment, rig->checkpoint.offset, &place, in_use),
                     PH_OK);
    const uint8_t *record;
    uint64_t at = rig->checkpoint.lsn;
    ph_status status;
    while ((status = ph_scan_next(&scan, &record)) == PH_OK) {
        uint32_t length = ph_record_length(record);
        assert_true(at + length <= to);
        assert_memory_equal(record, stream_at(rig, at), length);
        at += length;
    }
    assert_int_equal(status, PH_END);
    assert_int_equal(at, to);
    ph_scan_deinit(&scan);
}

/* The batch header at the place, if it is one. */
static inline bool read_batch(struct rig *rig, uint32_t slot, uint64_t offset, struct ph_batch_header *batch)
{
    if (offset >= rig->wal.segment_bytes)
        return false;
    assert_int_equal(
        ph_sim_peek(rig->sim, LOG_PATH, batch, sizeof *batch, ph_log_slot_offset(&rig->wal, slot) + offset),
        sizeof *batch);
    return batch->magic == PH_BATCH_MAGIC && batch->checksum == ph_checksum(batch, 56);
}

/* What the log file holds from the checkpoint to `to`, byte by byte as docs/format.md has it.  How many batches. */
static inline unsigned check_file(struct rig *rig, uint64_t to)
{
    static const uint8_t zeros[4096];
    static uint8_t bytes[1 << 20];
    uint64_t sequence = rig->checkpoint.segment, offset = rig->checkpoint.offset, lsn = rig->checkpoint.lsn;
    uint64_t chain = rig->checkpoint.chain, block = rig->wal.block_bytes;
    unsigned batches = 0;
    while (lsn < to) {
        int64_t slot = ph_coord_find_slot(rig->coord, sequence);
        struct ph_batch_header batch = {0};
        if (slot >= 0 && offset == 0) {
            struct ph_segment_header segment;
            (void)ph_sim_peek(rig->sim, LOG_PATH, bytes, block, ph_log_slot_offset(&rig->wal, (uint64_t)slot));
            memcpy(&segment, bytes, sizeof segment);
            assert_true(segment.magic == PH_SEGMENT_MAGIC && segment.heap_id == rig->wal.heap_id &&
                        segment.epoch == EPOCH && segment.sequence == sequence && segment.first_lsn == lsn &&
                        segment.durable <= lsn && segment.reserved == 0 && segment.unused == 0 &&
                        segment.checksum == ph_checksum(&segment, 56));
            assert_memory_equal(bytes + sizeof segment, zeros, block - sizeof segment);
            offset = block;
        }
        bool there = slot >= 0 && read_batch(rig, (uint32_t)slot, offset, &batch) && batch.sequence == sequence &&
                     batch.lsn == lsn;
        if (!there) {
            assert_true(offset > block);
            /* The segment was left because the next record does not fit. */
            assert_true(offset + ph_record_reserve(ph_record_length(stream_at(rig, lsn)), (uint32_t)block) >
                        rig->wal.segment_bytes);
            sequence++;
            offset = 0;
            continue;
        }
        batches++;
        assert_true(batch.heap_id == rig->wal.heap_id && batch.epoch == EPOCH && batch.chain == chain);
        assert_true(batch.durable <= lsn && batch.length <= rig->wal.batch_max && batch.length >= HEADER + 8);
        uint64_t size = ph_record_reserve(batch.length, (uint32_t)block), used = sizeof batch + batch.length;
        assert_true(offset + size <= rig->wal.segment_bytes);
        assert_int_equal(
            ph_sim_peek(rig->sim, LOG_PATH, bytes, size, ph_log_slot_offset(&rig->wal, (uint64_t)slot) + offset), size);
        assert_memory_equal(bytes + sizeof batch, stream_at(rig, lsn), batch.length);
        assert_memory_equal(bytes + used, zeros, size - used);
        for (uint64_t at = 0; at < batch.length;) {
            const struct ph_record_header *header = (const void *)(stream_at(rig, lsn) + at);
            assert_int_equal(header->lsn, lsn + at);
            assert_int_equal(header->chain, chain);
            chain = header->checksum;
            at += header->length;
            assert_true(at <= batch.length);
        }
        lsn += batch.length;
        offset += size;
    }
    assert_int_equal(lsn, to);
    return batches;
}

static inline void check_all(struct rig *rig)
{
    uint64_t durable = atomic_load(&rig->coord->durable);
    (void)check_file(rig, durable);
    check_scan(rig, durable, true);
    check_scan(rig, durable, false);
}

/* Room for `reserve` more, by flushing, extending or recycling as the dice say; false if the log cannot have it. */
static inline bool find_room(struct rig *rig, uint64_t reserve)
{
    for (unsigned tries = 0; reserve_so_far(rig) + reserve > rig->coord->reserve_limit; tries++) {
        if (tries == 3)
            return false;
        flush(rig);
        if (reserve_so_far(rig) + reserve <= rig->coord->reserve_limit)
            break;
        if (roll() % 2 == 0 && ph_log_add_slot(&rig->wal) == PH_OK)
            assert_int_equal(ph_flush_update_limit(&rig->wal, UINT64_MAX), PH_OK);
        else
            recycle(rig);
    }
    return true;
}

#endif
