/* SPDX-License-Identifier: MIT */
/*
 * The log below transactions: shared buffer, flush, segments, scan.  The test is the writer and the checkpointer;
 * beside it stands a copy of the whole stream of records, and what the log file holds is compared with that.
 */
#include "io/checksum.h"
#include "recovery/replay.h"
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
#include <time.h>

#include <cmocka.h>

#define LOG_PATH "d/heap-wal"
#define EPOCH 1u
#define HEADER sizeof(struct ph_record_header)
#define NOTE_ACKNOWLEDGED 1u
#define RACE_NS UINT64_C(3000000000)

/* ---------------------------------------------------------------------------------------------------------- the rig */

static uint64_t dice;

static uint64_t roll(void)
{
    return sim_roll(&dice);
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

static void open_coord(struct rig *rig)
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

static void begin(struct rig *rig, const struct shape *shape)
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

static void end(struct rig *rig)
{
    ph_wal_deinit(&rig->wal);
    assert_int_equal(ph_sim_live_allocations(rig->sim), 0);
    assert_int_equal(ph_sim_live_handles(rig->sim), 0);
    ph_sim_free(rig->sim);
    free(rig->coord);
    free(rig->stream);
    free(rig->written);
}

static uint8_t *stream_at(struct rig *rig, uint64_t lsn)
{
    return rig->stream + (lsn - PH_FIRST_LSN);
}

static void remember(struct rig *rig, uint64_t lsn, const uint8_t *bytes, size_t length)
{
    size_t needed = lsn - PH_FIRST_LSN + length;
    if (needed > rig->stream_capacity) {
        rig->stream_capacity = needed * 2;
        rig->stream = sim_resize(rig->stream, rig->stream_capacity);
    }
    memcpy(stream_at(rig, lsn), bytes, length);
}

/* Add a record of `length` bytes in all, of noise. */
static void add_record(struct ph_record_builder *builder, uint32_t length)
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
static ph_status publish(struct rig *rig, struct ph_record_builder *builder, enum fate fate)
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

static uint64_t reserve_of(const struct rig *rig, const uint32_t *lengths, unsigned count)
{
    uint64_t reserve = 0;
    for (unsigned i = 0; i < count; i++)
        reserve += ph_record_reserve(lengths[i], rig->wal.block_bytes);
    return reserve;
}

static uint64_t reserve_so_far(struct rig *rig)
{
    struct ph_commit_mark commit, fragment;
    assert_true(ph_coord_read_commit(rig->coord, &commit));
    bool beyond = rig->coord->appended > commit.lsn && ph_coord_read_fragment(rig->coord, &fragment);
    return beyond ? fragment.reserve : commit.reserve;
}

/* One transaction of records of just these lengths: each operation gets a record of its own. */
static ph_status write_records(struct rig *rig, const uint32_t *lengths, unsigned count, enum fate fate)
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

static void commit_one(struct rig *rig, uint32_t length)
{
    assert_int_equal(write_records(rig, &length, 1, COMMITS), PH_OK);
}

/* What a checkpoint does to the log: what lies before the flush mark is free. */
static void recycle(struct rig *rig)
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
    assert_int_equal(ph_flush_update_limit(&rig->wal), PH_OK);
}

/* R10: look at what was written to the log file since the last time; nothing acknowledged may be written again. */
static void watch_writes(struct rig *rig)
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

static void flush(struct rig *rig)
{
    assert_int_equal(ph_flush_all(&rig->wal), PH_OK);
    assert_int_equal(atomic_load(&rig->coord->durable), ph_coord_stream_end(rig->coord));
    watch_writes(rig);
}

/* The records from the checkpoint to `to`, read by a scan, are those of the stream, and there are no others. */
static void check_scan(struct rig *rig, uint64_t to, bool in_use)
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
static bool read_batch(struct rig *rig, uint32_t slot, uint64_t offset, struct ph_batch_header *batch)
{
    if (offset >= rig->wal.segment_bytes)
        return false;
    assert_int_equal(
        ph_sim_peek(rig->sim, LOG_PATH, batch, sizeof *batch, ph_log_slot_offset(&rig->wal, slot) + offset),
        sizeof *batch);
    return batch->magic == PH_BATCH_MAGIC && batch->checksum == ph_checksum(batch, 56);
}

/* What the log file holds from the checkpoint to `to`, byte by byte as docs/format.md has it.  How many batches. */
static unsigned check_file(struct rig *rig, uint64_t to)
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

static void check_all(struct rig *rig)
{
    uint64_t durable = atomic_load(&rig->coord->durable);
    (void)check_file(rig, durable);
    check_scan(rig, durable, true);
    check_scan(rig, durable, false);
}

/* --------------------------------------------------------------------------------------------------------- the ring */

static enum ph_ring_result read_ring(struct rig *rig, uint64_t lsn, uint8_t *record)
{
    const struct ph_record_header *header = (const void *)stream_at(rig, lsn);
    struct ph_record_place place = {rig->wal.heap_id, EPOCH, lsn, header->chain};
    enum ph_record_fault fault;
    return ph_ring_read(&rig->wal, &place, record, &fault);
}

/* Catches: records cut wrongly at the end of the buffer, overwritten ones given out, or whole ones refused. */
static void ring__holds_the_last_of_the_stream(void **state)
{
    (void)state;
    struct rig rig;
    uint8_t record[4096];
    begin(&rig, &small);
    dice = 1;
    uint64_t starts[4096], count = 0;
    unsigned split = 0, lapped = 0;
    while (count < 1500) {
        starts[count++] = ph_coord_stream_end(rig.coord);
        commit_one(&rig, 80 + (uint32_t)(roll() % 300) * 8);
        uint64_t end_lsn = ph_coord_stream_end(rig.coord), size = rig.wal.buffer_bytes;
        split += starts[count - 1] / size != (end_lsn - 1) / size;
        for (uint64_t i = count > 60 ? count - 60 : 0; i < count; i++) {
            enum ph_ring_result result = read_ring(&rig, starts[i], record);
            if (end_lsn - starts[i] > size) {
                lapped++;
                assert_int_equal(result, PH_RING_LAPPED);
                continue;
            }
            assert_int_equal(result, PH_RING_RECORD);
            assert_memory_equal(record, stream_at(&rig, starts[i]), ph_record_length(record));
        }
        if (end_lsn - rig.coord->durable > size / 2) {
            flush(&rig);
            recycle(&rig);
        }
    }
    assert_true(split > 50 && lapped > 1000);
    struct ph_record_place beyond = {rig.wal.heap_id, EPOCH, ph_coord_stream_end(rig.coord), 0};
    enum ph_record_fault fault;
    assert_int_equal(ph_ring_read(&rig.wal, &beyond, record, &fault), PH_RING_NONE);
    end(&rig);
}

/* Catches: what a writer that died while it appended has overwritten given out as if it were whole still (R6). */
static void ring__unfinished_append_stays_announced(void **state)
{
    (void)state;
    struct rig rig;
    uint8_t record[4096];
    begin(&rig, &small);
    dice = 2;
    uint64_t starts[200];
    unsigned count = 0;
    for (; count < 100; count++) {
        starts[count] = ph_coord_stream_end(rig.coord);
        commit_one(&rig, 200);
        if (count % 20 == 0)
            flush(&rig);
    }
    flush(&rig);
    uint32_t long_one = 4000;
    assert_int_equal(write_records(&rig, &long_one, 1, DIES_WITHIN_APPEND), PH_OK);
    uint64_t reached = ph_coord_stream_end(rig.coord) + long_one;
    starts[count++] = ph_coord_stream_end(rig.coord);
    commit_one(&rig, 80); /* the next writer, with less to say */
    unsigned good = 0;
    for (unsigned i = 0; i < count; i++) {
        enum ph_ring_result result = read_ring(&rig, starts[i], record);
        bool whole = starts[i] + rig.wal.buffer_bytes >= reached;
        assert_int_equal(result, whole ? PH_RING_RECORD : PH_RING_LAPPED);
        good += whole;
    }
    assert_true(good > 40);
    flush(&rig);
    check_all(&rig);
    end(&rig);
}

static void nap(void)
{
    struct timespec time = {.tv_nsec = 1000000};
    (void)nanosleep(&time, NULL);
}

/* A writer at full speed, and readers of what it has published. */
struct race {
    struct rig *rig;
    _Atomic bool stop;
    _Atomic unsigned laggards; /* how many readers stay almost a whole lap behind */
    _Atomic uint64_t records, lapped, wrong;
};

static void *read_beside(void *argument)
{
    struct race *race = argument;
    const bool laggard = atomic_fetch_add(&race->laggards, 1) > 0;
    struct ph_wal *wal = &race->rig->wal;
    uint8_t record[4096];
    struct ph_commit_mark mark;
    enum ph_record_fault fault;
    struct ph_record_place place = {wal->heap_id, EPOCH, PH_FIRST_LSN, 0};
    while (!atomic_load(&race->stop)) {
        uint64_t committed = atomic_load_explicit(&wal->coord->committed, memory_order_acquire);
        if (place.lsn >= committed || (laggard && committed - place.lsn < wal->buffer_bytes - 8000))
            continue;
        switch (ph_ring_read(wal, &place, record, &fault)) {
        case PH_RING_RECORD:
            atomic_fetch_add(&race->records, 1);
            place.lsn += ph_record_length(record);
            place.chain = ((const struct ph_record_header *)(const void *)record)->checksum;
            break;
        case PH_RING_LAPPED: /* catch up */
            atomic_fetch_add(&race->lapped, 1);
            atomic_fetch_add(&race->wrong, !ph_coord_read_commit(wal->coord, &mark));
            place.lsn = mark.lsn;
            place.chain = mark.chain;
            break;
        case PH_RING_NONE:
            atomic_fetch_add(&race->wrong, 1);
            return NULL;
        }
    }
    return NULL;
}

/* Catches: a copy taken while the writer laps it that passes for a record, or fails as damage (a broken seqlock). */
static void ring__readers_beside_the_writer(void **state)
{
    (void)state;
    struct rig rig;
    begin(&rig, &small);
    struct race race = {.rig = &rig};
    pthread_t readers[3];
    for (unsigned i = 0; i < 3; i++)
        assert_int_equal(pthread_create(&readers[i], NULL, read_beside, &race), 0);
    dice = 3;
    /* Long enough for a few thousand close calls, but not for ever where threads are hardly scheduled. */
    const uint64_t start = ph_io_posix()->clock_ns(NULL, PH_CLOCK_MONOTONIC);
    for (unsigned i = 0; i < 20000 || race.lapped < 1000 || race.records < 1000; i++) {
        if (i % 500 == 499 && race.records < 1000)
            nap();
        if (i % 500 == 0 && ph_io_posix()->clock_ns(NULL, PH_CLOCK_MONOTONIC) - start > RACE_NS)
            break;
        commit_one(&rig, 80 + (uint32_t)(roll() % 400) * 8);
        if (ph_coord_stream_end(rig.coord) - rig.coord->durable > rig.wal.buffer_bytes / 2) {
            assert_int_equal(ph_flush_all(&rig.wal), PH_OK);
            recycle(&rig);
            ph_sim_journal_restart(rig.sim);
            rig.seen = 0;
        }
    }
    atomic_store(&race.stop, true);
    for (unsigned i = 0; i < 3; i++)
        assert_int_equal(pthread_join(readers[i], NULL), 0);
    assert_int_equal(race.wrong, 0);
    end(&rig);
}

/* Catches: a mark of which half is new, left by a death between two stores, believed (R6). */
static void coord__half_published_marks_are_not_seen(void **state)
{
    (void)state;
    struct ph_coord *coord = aligned_alloc(4096, ph_coord_bytes(16384));
    assert_non_null(coord);
    memset(coord, 0, sizeof *coord);
    struct ph_commit_mark got, mark, before;
    uint64_t words[8];
    for (uint64_t i = 1; i <= 20; i++) {
        for (uint64_t word = 0; word < 8; word++)
            words[word] = i * 100 + word;
        memcpy(&mark, words, sizeof mark);
        ph_coord_publish_commit(coord, &mark);
        unsigned now = coord->commit_marks[0].lsn == mark.lsn ? 0 : 1;
        assert_memory_equal(&coord->commit_marks[now], &mark, sizeof mark);
        if (i > 1) /* the one before is whole still */
            assert_memory_equal(&coord->commit_marks[1 - now], &before, sizeof before);
        before = mark;
        for (unsigned death = 0; death <= 8; death++) { /* after so many stores of the next */
            unsigned slot = coord->commit_marks[0].lsn == mark.lsn ? 1 : 0;
            for (unsigned word = 0; word < death; word++)
                ((uint64_t *)(void *)&coord->commit_marks[slot])[word] = i * 100 + 100 + word;
            assert_true(ph_coord_read_commit(coord, &got));
            assert_memory_equal(&got, &mark, sizeof mark);
        }
    }
    coord->committed = 12345; /* no slot has it: damage, and told as such */
    assert_false(ph_coord_read_commit(coord, &got));
    free(coord);
}

/* ------------------------------------------------------------------------------------------------------------ flush */

/* Catches: batches that do not chain, pads that are not zero, records split, segments left early or overrun. */
static void flush__batches_and_segments_as_documented(void **state)
{
    (void)state;
    static const struct shape shapes[] = {
        {16384, 16384, 40, false}, {16384, 65536, 40, false}, {65536, 16384, 12, false}, {16384, 16384, 40, true}};
    for (unsigned i = 0; i < sizeof shapes / sizeof shapes[0]; i++) {
        struct rig rig;
        begin(&rig, &shapes[i]);
        dice = 10 + i;
        unsigned flushes = 0;
        for (unsigned n = 0; n < 400; n++) {
            uint32_t length = 80 + (uint32_t)(roll() % (n % 7 == 0 ? (rig.wal.record_max - 80) / 8 + 1 : 40)) * 8;
            uint64_t reserve = ph_record_reserve(length, rig.wal.block_bytes);
            while (reserve_so_far(&rig) + reserve > rig.coord->reserve_limit) {
                flush(&rig);
                flushes++;
                if (reserve_so_far(&rig) + reserve <= rig.coord->reserve_limit)
                    break;
                if (ph_log_add_slot(&rig.wal) == PH_OK) {
                    assert_int_equal(ph_flush_update_limit(&rig.wal), PH_OK);
                } else {
                    check_all(&rig);
                    recycle(&rig);
                }
            }
            commit_one(&rig, length);
            if (roll() % 5 == 0) {
                flush(&rig);
                flushes++;
            }
        }
        flush(&rig);
        check_all(&rig);
        assert_true(flushes > 20);
        end(&rig);
    }
}

/* Catches: a flush that writes each record apart, or a full buffer in many small writes. */
static void flush__gathers_what_waits(void **state)
{
    (void)state;
    struct rig rig;
    begin(&rig, &small);
    dice = 20;
    for (unsigned i = 0; i < 30; i++)
        commit_one(&rig, 96);
    uint64_t writes = ph_sim_calls(rig.sim, PH_SIM_WRITE);
    flush(&rig);
    assert_int_equal(ph_sim_calls(rig.sim, PH_SIM_WRITE) - writes, 1);
    assert_int_equal(check_file(&rig, rig.coord->durable), 1);
    for (unsigned i = 0; i < 12; i++)
        commit_one(&rig, 1024);
    writes = ph_sim_calls(rig.sim, PH_SIM_WRITE);
    flush(&rig);
    assert_int_equal(ph_sim_calls(rig.sim, PH_SIM_WRITE) - writes, 3); /* to the end of the segment, then two */
    flush(&rig);                                                       /* nothing to do, so nothing is written */
    assert_int_equal(ph_sim_calls(rig.sim, PH_SIM_WRITE) - writes, 3);
    check_all(&rig);
    end(&rig);
}

/* Bytes of records that batches in the journal have made durable, and what was acknowledged meanwhile. */
static unsigned check_acknowledged(struct rig *rig)
{
    const struct sim_journal *journal = &rig->sim->journal;
    uint32_t file = sim_names_find(&rig->sim->names, LOG_PATH);
    uint64_t pending = 0, synced = PH_FIRST_LSN;
    unsigned acknowledged = 0;
    for (size_t i = 0; i < journal->count; i++) {
        const struct sim_event *event = &journal->events[i];
        if (event->kind == SIM_EVENT_WRITE && event->file == file && event->offset >= PH_LOG_SEGMENTS) {
            struct ph_batch_header batch;
            memcpy(&batch, event->data, sizeof batch);
            if (batch.magic == PH_SEGMENT_MAGIC)
                memcpy(&batch, event->data + rig->wal.block_bytes, sizeof batch);
            if (batch.magic == PH_BATCH_MAGIC)
                pending = batch.lsn + batch.length;
        } else if (event->kind == SIM_EVENT_SYNC_RANGE && event->file == file && pending != 0) {
            synced = pending;
        } else if (event->kind == SIM_EVENT_NOTE && event->file == NOTE_ACKNOWLEDGED) {
            acknowledged++;
            assert_true(event->offset <= synced);
        }
    }
    return acknowledged;
}

#define THREADS 8
#define COMMITS_EACH 100

struct committer {
    struct rig *rig;
    unsigned commits;
    ph_status status; /* of the last flush */
    bool lying;       /* a flush said OK though `durable` did not cover it */
};

static void *commit_and_flush(void *argument)
{
    struct committer *me = argument;
    struct rig *rig = me->rig;
    for (unsigned i = 0; i < me->commits && me->status == PH_OK; i++) {
        (void)ph_mutex_lock(&rig->coord->writer_lock);
        uint32_t length = 80 + 8 * (i % 20);
        me->status = write_records(rig, &length, 1, COMMITS);
        uint64_t end_lsn = rig->coord->committed;
        ph_mutex_unlock(&rig->coord->writer_lock);
        if (me->status == PH_OK)
            me->status = ph_flush_to(&rig->wal, end_lsn, UINT64_MAX);
        if (me->status == PH_OK) {
            me->lying = me->lying || atomic_load(&rig->coord->durable) < end_lsn;
            ph_sim_note(rig->sim, NOTE_ACKNOWLEDGED, end_lsn);
        }
    }
    return NULL;
}

static void start_committers(struct rig *rig, struct committer *committers, pthread_t *threads, unsigned commits)
{
    for (unsigned i = 0; i < THREADS; i++) {
        committers[i] = (struct committer){.rig = rig, .commits = commits};
        assert_int_equal(pthread_create(&threads[i], NULL, commit_and_flush, &committers[i]), 0);
    }
}

static void join_committers(const pthread_t *threads)
{
    for (unsigned i = 0; i < THREADS; i++)
        assert_int_equal(pthread_join(threads[i], NULL), 0);
}

/* Catches: a commit acknowledged by somebody else's flush that did not have it; a waiter that is forgotten. */
static void flush__group_commit_of_threads(void **state)
{
    (void)state;
    static const struct shape roomy = {65536, 16384, 64, false};
    struct rig rig;
    struct committer committers[THREADS];
    pthread_t threads[THREADS];
    begin(&rig, &roomy);
    while (ph_log_add_slot(&rig.wal) == PH_OK)
        continue;
    assert_int_equal(ph_flush_update_limit(&rig.wal), PH_OK);
    start_committers(&rig, committers, threads, COMMITS_EACH);
    join_committers(threads);
    for (unsigned i = 0; i < THREADS; i++)
        assert_true(committers[i].status == PH_OK && !committers[i].lying);
    assert_int_equal(check_acknowledged(&rig), THREADS * COMMITS_EACH);
    watch_writes(&rig);
    check_all(&rig);
    end(&rig);
}

/* Start one commit in each thread while the flush lock is taken, so that all of them wait. */
static void gather_waiters(struct rig *rig, struct committer *committers, pthread_t *threads)
{
    assert_int_equal(ph_mutex_lock(&rig->coord->flush_lock), PH_MUTEX_ACQUIRED);
    start_committers(rig, committers, threads, 1);
    while (atomic_load(&rig->coord->committed) != PH_FIRST_LSN + THREADS * 80 ||
           atomic_load(&rig->coord->flush_waiters) != THREADS)
        nap();
    ph_mutex_unlock(&rig->coord->flush_lock);
}

/* Catches: group commit that is none: one write for each of those who wait. */
static void flush__one_write_for_all_who_wait(void **state)
{
    (void)state;
    struct rig rig;
    struct committer committers[THREADS];
    pthread_t threads[THREADS];
    begin(&rig, &small);
    uint64_t writes = ph_sim_calls(rig.sim, PH_SIM_WRITE);
    gather_waiters(&rig, committers, threads);
    join_committers(threads);
    for (unsigned i = 0; i < THREADS; i++)
        assert_true(committers[i].status == PH_OK && !committers[i].lying);
    assert_int_equal(ph_sim_calls(rig.sim, PH_SIM_WRITE) - writes, 1);
    assert_int_equal(check_acknowledged(&rig), THREADS);
    end(&rig);
}

/* Somebody who has the flush lock and goes no further until he is told. */
struct stopped {
    struct rig *rig;
    _Atomic bool holds, go;
};

static void *hold_flush_lock(void *argument)
{
    struct stopped *me = argument;
    (void)ph_mutex_lock(&me->rig->coord->flush_lock);
    atomic_store(&me->holds, true);
    while (!atomic_load(&me->go))
        nap();
    ph_mutex_unlock(&me->rig->coord->flush_lock);
    return NULL;
}

/* Catches: a limit of time that is not kept while another flushes, who may be stopped. */
static void flush__gives_up_when_the_time_is_over(void **state)
{
    (void)state;
    struct rig rig;
    struct stopped other = {.rig = &rig};
    pthread_t thread;
    begin(&rig, &small);
    dice = 25;
    commit_one(&rig, 96);
    uint64_t end_lsn = rig.coord->committed;
    assert_int_equal(pthread_create(&thread, NULL, hold_flush_lock, &other), 0);
    while (!atomic_load(&other.holds))
        nap();
    assert_int_equal(ph_flush_to(&rig.wal, end_lsn, 0), PH_TIMEOUT);
    assert_int_equal(ph_flush_to(&rig.wal, end_lsn, 20000000), PH_TIMEOUT);
    assert_int_equal(rig.coord->flush_waiters, 0);
    atomic_store(&other.go, true);
    assert_int_equal(pthread_join(thread, NULL), 0);
    assert_int_equal(ph_flush_to(&rig.wal, end_lsn, 0), PH_OK);
    check_all(&rig);
    end(&rig);
}

/* Catches: a failed flush that is told to the flusher only, or tried again and then believed (R7). */
static void flush__failure_is_told_to_all_who_wait(void **state)
{
    (void)state;
    struct rig rig;
    struct committer committers[THREADS];
    pthread_t threads[THREADS];
    begin(&rig, &small);
    ph_sim_fail_at(rig.sim, PH_SIM_SYNC, 1, EIO, PH_SIM_ONCE);
    gather_waiters(&rig, committers, threads);
    join_committers(threads);
    for (unsigned i = 0; i < THREADS; i++)
        assert_int_equal(committers[i].status, PH_POISONED);
    assert_int_equal(rig.coord->durable, PH_FIRST_LSN);
    assert_int_equal(check_acknowledged(&rig), 0);
    end(&rig);
}

/* Catches: an acknowledgement after a failed write, whatever write of the flush it was and whatever came later (R7). */
static void flush__failure_poisons_for_good(void **state)
{
    (void)state;
    static const int errors[] = {EIO, ENOSPC, EDQUOT, EFBIG};
    for (unsigned e = 0; e < sizeof errors / sizeof errors[0]; e++)
        for (uint64_t nth = 1; nth <= 3; nth++) {
            struct rig rig;
            begin(&rig, &small);
            dice = 30;
            for (unsigned i = 0; i < 13; i++)
                commit_one(&rig, 1200); /* three batches */
            ph_sim_fail_at(rig.sim, PH_SIM_WRITE, nth, errors[e], PH_SIM_ONCE);
            ph_status status = ph_flush_all(&rig.wal);
            assert_int_equal(status, PH_POISONED); /* not one that means "aborted" */
            assert_non_null(strstr(ph_detail(), LOG_PATH));
            uint64_t durable = rig.coord->durable;
            assert_true(durable < rig.coord->committed && (nth == 1) == (durable == PH_FIRST_LSN));
            for (unsigned i = 0; i < 3; i++)
                assert_int_equal(ph_flush_all(&rig.wal), PH_POISONED);
            assert_int_equal(ph_flush_to(&rig.wal, durable, UINT64_MAX), PH_OK); /* that was there before */
            assert_int_equal(ph_coord_check_poison(rig.coord, "d/heap"), PH_POISONED);
            assert_int_equal(rig.coord->durable, durable);
            assert_int_equal(check_file(&rig, durable), nth - 1);
            end(&rig);
        }
}

/* Catches: an interrupted or short write taken for a failed or a whole one. */
static void flush__interrupted_and_short_writes(void **state)
{
    (void)state;
    for (unsigned kind = 0; kind < 2; kind++)
        for (uint64_t nth = 1; nth <= 4; nth++) {
            struct rig rig;
            begin(&rig, &small);
            dice = 40;
            for (unsigned i = 0; i < 13; i++)
                commit_one(&rig, 1200);
            ph_sim_fail_at(rig.sim, PH_SIM_WRITE, nth, EINTR, kind == 0 ? PH_SIM_ONCE : PH_SIM_SHORT);
            flush(&rig);
            check_all(&rig);
            end(&rig);
        }
}

/* A flusher that died after its write and before it published: the marks are as they were. */
struct flush_state {
    uint64_t durable, limit;
    struct ph_flush_mark marks[2];
};

static struct flush_state save_flush_state(struct rig *rig)
{
    struct flush_state saved = {.durable = rig->coord->durable, .limit = rig->coord->reserve_limit};
    memcpy(saved.marks, rig->coord->flush_marks, sizeof saved.marks);
    return saved;
}

static void restore_flush_state(struct rig *rig, const struct flush_state *saved)
{
    rig->coord->durable = saved->durable;
    rig->coord->reserve_limit = saved->limit;
    memcpy(rig->coord->flush_marks, saved->marks, sizeof saved->marks);
}

/* Catches: what a dead flusher wrote and did not publish left in the way of those who flush after it (R6). */
static void flush__takes_over_from_a_dead_flusher(void **state)
{
    (void)state;
    struct rig rig;
    begin(&rig, &small);
    dice = 50;
    for (unsigned i = 0; i < 200; i++) {
        for (uint64_t n = 1 + roll() % 4; n > 0; n--)
            commit_one(&rig, 80 + (uint32_t)(roll() % 100) * 8);
        struct flush_state saved = save_flush_state(&rig);
        assert_int_equal(ph_flush_all(&rig.wal), PH_OK);
        restore_flush_state(&rig, &saved);
        if (roll() % 2 == 0)
            commit_one(&rig, 80);
        assert_int_equal(ph_flush_all(&rig.wal), PH_OK);
        check_all(&rig);
        if (i % 4 == 0)
            recycle(&rig);
    }
    end(&rig);
}

/* ------------------------------------------------------------------------------------------------------------ space */

/* Room for `reserve` more, by flushing, extending or recycling as the dice say; false if the log cannot have it. */
static bool find_room(struct rig *rig, uint64_t reserve)
{
    for (unsigned tries = 0; reserve_so_far(rig) + reserve > rig->coord->reserve_limit; tries++) {
        if (tries == 3)
            return false;
        flush(rig);
        if (reserve_so_far(rig) + reserve <= rig->coord->reserve_limit)
            break;
        if (roll() % 2 == 0 && ph_log_add_slot(&rig->wal) == PH_OK)
            assert_int_equal(ph_flush_update_limit(&rig->wal), PH_OK);
        else
            recycle(rig);
    }
    return true;
}

/* Lengths that are unkind: tiny, the largest, just over a block, and two that together just miss a segment. */
static uint32_t unkind_length(const struct rig *rig)
{
    uint32_t max = rig->wal.record_max, block = rig->wal.block_bytes;
    switch (roll() % 6) {
    case 0:
        return 80;
    case 1:
        return max;
    case 2:
        return max - (uint32_t)(roll() % 64) * 8;
    case 3:
        return block + 8 * (uint32_t)(roll() % 12) < max ? block + 8 * (uint32_t)(roll() % 12) : max;
    default:
        return 80 + (uint32_t)(roll() % ((max - 80) / 8)) * 8;
    }
}

/* Catches: a transaction promised room in the log that its flush then does not find (it would poison the heap). */
static void reserve__promised_room_never_runs_out(void **state)
{
    (void)state;
    static const struct shape shapes[] = {
        {16384, 16384, 4, false}, {16384, 16384, 7, true}, {16384, 65536, 5, false},
        {65536, 16384, 4, false}, {32768, 65536, 6, true}, {16384, 16384, 64, false},
    };
    for (unsigned i = 0; i < sizeof shapes / sizeof shapes[0]; i++)
        for (unsigned round = 0; round < 3; round++) {
            struct rig rig;
            begin(&rig, &shapes[i]);
            dice = 60 + i * 10 + round;
            unsigned published = 0;
            for (unsigned n = 0; n < 2500; n++) {
                uint32_t lengths[12];
                unsigned count = roll() % 4 == 0 ? 1 + (unsigned)(roll() % 12) : 1;
                for (unsigned l = 0; l < count; l++)
                    lengths[l] = unkind_length(&rig);
                if (!find_room(&rig, reserve_of(&rig, lengths, count)))
                    continue; /* LOG_FULL for its writer, who aborts */
                published++;
                struct flush_state saved = save_flush_state(&rig);
                assert_int_equal(write_records(&rig, lengths, count, COMMITS), PH_OK);
                bool within = saved.durable == rig.coord->durable; /* it did not flush on the way */
                if (roll() % 3 == 0)
                    flush(&rig);
                if (within && roll() % 10 == 0 && saved.durable != rig.coord->durable) {
                    restore_flush_state(&rig, &saved);
                    memset(rig.written, 0,
                           PH_LOG_SEGMENTS / 512 + (size_t)shapes[i].segments * shapes[i].segment_bytes / 512);
                }
            }
            flush(&rig);
            check_all(&rig);
            assert_true(published > 1000);
            end(&rig);
        }
}

/* Catches: slots counted before they are filled and synced, or given up for ever when filling one has failed. */
static void slot__failure_to_extend(void **state)
{
    (void)state;
    static const unsigned kinds[] = {PH_SIM_WRITE, PH_SIM_SYNC, PH_SIM_STAT, PH_SIM_MEMORY};
    struct rig rig;
    begin(&rig, &small);
    dice = 70;
    for (unsigned i = 0; i < sizeof kinds / sizeof kinds[0]; i++) {
        uint32_t count = rig.coord->slot_count;
        ph_sim_fail_at(rig.sim, kinds[i], 1, kinds[i] == PH_SIM_MEMORY ? ENOMEM : ENOSPC, PH_SIM_ONCE);
        ph_status status = ph_log_add_slot(&rig.wal);
        assert_int_equal(status, kinds[i] == PH_SIM_MEMORY ? PH_NO_MEMORY : PH_NO_SPACE);
        assert_int_equal(rig.coord->slot_count, count);
        ph_sim_fail_clear(rig.sim);
        for (unsigned n = 0; n < 4; n++)
            commit_one(&rig, 2000);
        flush(&rig);
    }
    while (rig.coord->slot_count < small.segments)
        assert_int_equal(ph_log_add_slot(&rig.wal), PH_OK);
    assert_int_equal(ph_log_add_slot(&rig.wal), PH_LOG_FULL);
    assert_int_equal(ph_sim_size(rig.sim, LOG_PATH), PH_LOG_SEGMENTS + small.segments * small.segment_bytes);
    check_all(&rig);
    end(&rig);
}

/* ------------------------------------------------------------------------------------------------------------- laps */

/* Catches: records of an earlier lap, whole and well chained in themselves, read behind the end of the present one. */
static void scan__stale_laps_are_not_read(void **state)
{
    (void)state;
    for (unsigned equal = 0; equal < 2; equal++) {
        struct rig rig;
        begin(&rig, &small);
        dice = 80 + equal;
        for (unsigned i = 0; i < 3000; i++) {
            /* Equal lengths put an old batch exactly where the next one will go. */
            uint32_t length = equal != 0 ? 200 : 80 + (uint32_t)(roll() % 120) * 8;
            if (!find_room(&rig, ph_record_reserve(length, 512)))
                fail();
            commit_one(&rig, length);
            flush(&rig);
            if (i % 7 == 0)
                check_all(&rig);
            if (i % 50 == 0)
                recycle(&rig);
        }
        check_all(&rig);
        /* From every batch of the log that is needed, as a checkpoint may name it. */
        struct ph_scan scan;
        struct ph_record_place place = {rig.wal.heap_id, EPOCH, rig.checkpoint.lsn, rig.checkpoint.chain};
        assert_int_equal(ph_scan_init(&scan, &rig.wal, rig.checkpoint.segment, rig.checkpoint.offset, &place, false),
                         PH_OK);
        const uint8_t *record;
        unsigned starts = 0;
        while (ph_scan_next(&scan, &record) == PH_OK) {
            rig.checkpoint = (struct ph_flush_mark){.lsn = scan.position.place.lsn,
                                                    .chain = scan.position.place.chain,
                                                    .segment = scan.position.segment,
                                                    .offset = scan.position.batch_start};
            check_scan(&rig, rig.coord->durable, false);
            starts++;
        }
        assert_true(starts > 0);
        ph_scan_deinit(&scan);
        end(&rig);
    }
}

/* Catches: a scan that believes a place or chain it is given though the log has something else there. */
static void scan__refuses_another_place(void **state)
{
    (void)state;
    struct rig rig;
    begin(&rig, &small);
    dice = 90;
    for (unsigned i = 0; i < 5; i++) {
        commit_one(&rig, 104);
        flush(&rig);
    }
    const uint64_t second = PH_FIRST_LSN + 104;
    const struct ph_record_header *header = (const void *)stream_at(&rig, second);
    struct ph_record_place right = {rig.wal.heap_id, EPOCH, second, header->chain};
    for (unsigned wrong = 0; wrong < 7; wrong++) {
        struct ph_scan scan;
        struct ph_record_place place = right;
        place.lsn += wrong == 1 ? 8 : wrong == 2 ? -8ULL : 0;
        place.chain += wrong == 3;
        place.epoch += wrong == 4;
        uint64_t segment = 1 + (wrong == 5), offset = wrong == 6 ? 16384 + 512 : 0;
        assert_int_equal(ph_scan_init(&scan, &rig.wal, segment, offset, &place, false), PH_OK);
        const uint8_t *record;
        assert_int_equal(ph_scan_next(&scan, &record), wrong == 0 ? PH_OK : PH_END);
        if (wrong == 0)
            assert_memory_equal(record, header, 104);
        ph_scan_deinit(&scan);
    }
    end(&rig);
}

/* ------------------------------------------------------------------------------------------------------------ chain */

struct replayed {
    unsigned operations;
};

static ph_status count_operation(void *context, const struct ph_operation *operation)
{
    (void)operation;
    ((struct replayed *)context)->operations++;
    return PH_OK;
}

/* Catches: fragments of a writer that died applied, or what follows them lost because it does not chain (R6). */
static void chain__goes_on_after_dead_fragments(void **state)
{
    (void)state;
    struct rig rig;
    begin(&rig, &small);
    dice = 100;
    uint32_t lengths[] = {2000, 3000, 1504};
    unsigned committed = 0; /* records since the checkpoint */
    uint64_t start = rig.checkpoint.lsn;
    for (unsigned i = 0; i < 60; i++) {
        enum fate fate = i % 4 == 1 ? DIES_AFTER_FRAGMENTS : i % 4 == 3 ? DIES_WITHIN_APPEND : COMMITS;
        unsigned count = fate == DIES_AFTER_FRAGMENTS ? 2 + (i / 4) % 2 : 1 + i % 3;
        if (!find_room(&rig, reserve_of(&rig, lengths, count) + 4096))
            fail();
        if (rig.checkpoint.lsn != start) {
            start = rig.checkpoint.lsn;
            committed = 0;
        }
        assert_int_equal(write_records(&rig, lengths, count, fate), PH_OK);
        if (i % 3 == 0)
            flush(&rig);
        if (i == 30) {
            flush(&rig);
            recycle(&rig);
            start = rig.checkpoint.lsn;
            committed = 0;
        }
        committed += fate == COMMITS && i != 30 ? count : 0;
        if (fate == COMMITS && i > 32 && rig.checkpoint.lsn <= rig.coord->committed) {
            struct ph_boundary from = {rig.checkpoint.lsn, rig.checkpoint.chain, 0, UINT64_C(1) << 30};
            struct ph_replay replay;
            struct replayed got = {0};
            assert_int_equal(ph_replay_init_live(&replay, &rig.wal, &from, rig.checkpoint.segment,
                                                 rig.checkpoint.offset, rig.coord->committed, i % 8 == 0),
                             PH_OK);
            assert_int_equal(ph_replay_run(&replay, count_operation, &got), PH_OK);
            assert_int_equal(replay.boundary.lsn, rig.coord->committed);
            ph_replay_deinit(&replay);
            if (ph_coord_stream_end(rig.coord) > rig.coord->durable)
                flush(&rig);
            struct replayed again = {0};
            assert_int_equal(
                ph_replay_init_recovery(&replay, &rig.wal, EPOCH, &from, rig.checkpoint.segment, rig.checkpoint.offset),
                PH_OK);
            assert_int_equal(ph_replay_run(&replay, count_operation, &again), PH_OK);
            assert_int_equal(replay.boundary.lsn, rig.coord->committed);
            ph_replay_deinit(&replay);
            assert_int_equal(got.operations, committed); /* each record is one */
            assert_int_equal(again.operations, committed);
        }
    }
    flush(&rig);
    check_all(&rig);
    end(&rig);
}

/* Catches: a record with a good checksum that changes the superblocks, or anything outside the heap (R8). */
static void replay__evil_operations_are_refused(void **state)
{
    (void)state;
    enum { HEAP = 65536 };
    static const struct {
        uint64_t offset, length, grow;
        ph_status status;
    } cases[] = {
        {8192, 8, 0, PH_OK},
        {HEAP - 8, 8, 0, PH_OK},
        {0, 8, 0, PH_CORRUPT},
        {4096, 8, 0, PH_CORRUPT},
        {8184, 8, 0, PH_CORRUPT},
        {8184, 16, 0, PH_CORRUPT},
        {HEAP, 8, 0, PH_CORRUPT},
        {HEAP - 8, 16, 0, PH_CORRUPT},
        {HEAP - 8, 4000, 0, PH_CORRUPT},
        {1ULL << 46, 8, 0, PH_CORRUPT},
        {PH_HEAP_MAX_BYTES - 8, 8, 0, PH_CORRUPT},
        {8192, 8, HEAP, PH_OK},
        {8192, 8, HEAP - 4096, PH_CORRUPT},
        {HEAP, 8, HEAP + 4096, PH_OK},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
        for (uint8_t fill = 0; fill < 2; fill++) {
            struct rig rig;
            begin(&rig, &small);
            struct ph_record_builder builder = {.io = rig.wal.io, .record_max = rig.wal.record_max};
            uint8_t bytes[4000];
            for (size_t b = 0; b < sizeof bytes; b++)
                bytes[b] = (uint8_t)(fill != 0 ? 1 : b);
            if (cases[i].grow != 0)
                assert_int_equal(ph_record_add_grow(&builder, cases[i].grow), PH_OK);
            assert_int_equal(ph_record_add_write(&builder, cases[i].offset, bytes, cases[i].length), PH_OK);
            assert_int_equal(publish(&rig, &builder, COMMITS), PH_OK);
            ph_record_builder_deinit(&builder);
            flush(&rig);
            struct ph_boundary from = {PH_FIRST_LSN, 0, 0, HEAP};
            struct ph_replay replay;
            struct replayed got = {0};
            assert_int_equal(ph_replay_init_recovery(&replay, &rig.wal, EPOCH, &from, 1, 0), PH_OK);
            ph_status status = ph_replay_run(&replay, count_operation, &got);
            assert_int_equal(status, cases[i].status);
            assert_int_equal(got.operations, cases[i].status == PH_OK ? (cases[i].grow != 0 ? 2 : 1) : 0);
            if (status != PH_OK)
                assert_non_null(strstr(ph_detail(), "LSN 4096"));
            ph_replay_deinit(&replay);
            end(&rig);
        }
}

/* ----------------------------------------------------------------------------------------------------------- header */

static enum ph_log_condition inspect(struct rig *rig)
{
    enum ph_log_condition condition;
    struct ph_log_header header;
    ph_file_close(&rig->wal.file);
    assert_int_equal(ph_log_inspect(&rig->wal, true, &condition, &header), PH_OK);
    return condition;
}

/* Catches: a log that is not one, or not whole, or another heap's, taken for this heap's. */
static void header__conditions(void **state)
{
    (void)state;
    struct rig rig;
    struct ph_log_header good, header;
    begin(&rig, &small);
    assert_int_equal(inspect(&rig), PH_LOG_OWN);
    (void)ph_sim_peek(rig.sim, LOG_PATH, &good, sizeof good, 0);
    for (size_t bit = 0; bit < sizeof good * 8; bit++) {
        header = good;
        ((uint8_t *)&header)[bit / 8] ^= (uint8_t)(1u << bit % 8);
        (void)ph_sim_poke(rig.sim, LOG_PATH, &header, sizeof header, 0);
        assert_int_equal(inspect(&rig), PH_LOG_DAMAGED);
    }
    header = good;
    header.identity[0] ^= 1;
    header.checksum = ph_checksum(&header, 504);
    (void)ph_sim_poke(rig.sim, LOG_PATH, &header, sizeof header, 0);
    assert_int_equal(inspect(&rig), PH_LOG_ALIEN);
    static const uint32_t blocks[] = {0, 256, 1024, 8192, UINT32_MAX};
    for (size_t i = 0; i < sizeof blocks / sizeof blocks[0]; i++) {
        header = good;
        header.block_bytes = blocks[i];
        header.checksum = ph_checksum(&header, 504);
        (void)ph_sim_poke(rig.sim, LOG_PATH, &header, sizeof header, 0);
        assert_int_equal(inspect(&rig), PH_LOG_DAMAGED);
    }
    header = good;
    header.segment_bytes *= 2;
    header.checksum = ph_checksum(&header, 504);
    (void)ph_sim_poke(rig.sim, LOG_PATH, &header, sizeof header, 0);
    assert_int_equal(inspect(&rig), PH_LOG_DAMAGED);
    header = good;
    header.start_segment = PH_NUMBER_LIMIT;
    header.checksum = ph_checksum(&header, 504);
    (void)ph_sim_poke(rig.sim, LOG_PATH, &header, sizeof header, 0);
    assert_int_equal(inspect(&rig), PH_LOG_DAMAGED);
    memset(&header, 0, sizeof header);
    (void)ph_sim_poke(rig.sim, LOG_PATH, &header, sizeof header, 0);
    assert_int_equal(inspect(&rig), PH_LOG_BLANK);
    for (uint64_t size = 0; size < 512; size += 73) {
        assert_int_equal(ph_sim_set_size(rig.sim, LOG_PATH, 0), 0);
        assert_int_equal(ph_sim_set_size(rig.sim, LOG_PATH, size), 0);
        assert_int_equal(inspect(&rig), PH_LOG_BLANK);
        (void)ph_sim_poke(rig.sim, LOG_PATH, &good, size, 0);
        assert_int_equal(inspect(&rig), size == 0 ? PH_LOG_BLANK : PH_LOG_DAMAGED);
    }
    (void)ph_sim_remove(rig.sim, LOG_PATH);
    assert_int_equal(inspect(&rig), PH_LOG_ABSENT);
    end(&rig);
}

int main(int argc, char **argv)
{
    if (argc > 1)
        cmocka_set_test_filter(argv[1]);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(ring__holds_the_last_of_the_stream),
        cmocka_unit_test(ring__unfinished_append_stays_announced),
        cmocka_unit_test(ring__readers_beside_the_writer),
        cmocka_unit_test(coord__half_published_marks_are_not_seen),
        cmocka_unit_test(flush__batches_and_segments_as_documented),
        cmocka_unit_test(flush__gathers_what_waits),
        cmocka_unit_test(flush__group_commit_of_threads),
        cmocka_unit_test(flush__one_write_for_all_who_wait),
        cmocka_unit_test(flush__gives_up_when_the_time_is_over),
        cmocka_unit_test(flush__failure_is_told_to_all_who_wait),
        cmocka_unit_test(flush__failure_poisons_for_good),
        cmocka_unit_test(flush__interrupted_and_short_writes),
        cmocka_unit_test(flush__takes_over_from_a_dead_flusher),
        cmocka_unit_test(reserve__promised_room_never_runs_out),
        cmocka_unit_test(slot__failure_to_extend),
        cmocka_unit_test(scan__stale_laps_are_not_read),
        cmocka_unit_test(scan__refuses_another_place),
        cmocka_unit_test(chain__goes_on_after_dead_fragments),
        cmocka_unit_test(replay__evil_operations_are_refused),
        cmocka_unit_test(header__conditions),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
