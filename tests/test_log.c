/* SPDX-License-Identifier: MIT */
/* The log as it is written: shared buffer, marks, flush, segments and the room in them. */
#include "tests/log_rig.h"

#include <time.h>

#define NOTE_ACKNOWLEDGED 1u
#define RACE_NS UINT64_C(3000000000)

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
            words[word] = i * 104 + word;
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
                ((uint64_t *)(void *)&coord->commit_marks[slot])[word] = i * 104 + 104 + word;
            assert_true(ph_coord_read_commit(coord, &got));
            assert_memory_equal(&got, &mark, sizeof mark);
        }
    }
    coord->committed = 12344; /* no slot has it: damage, and told as such */
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
                    assert_int_equal(ph_flush_update_limit(&rig.wal, UINT64_MAX), PH_OK);
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
    assert_int_equal(ph_flush_update_limit(&rig.wal, UINT64_MAX), PH_OK);
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
    static const unsigned kinds[] = {PH_SIM_WRITE, PH_SIM_SYNC, PH_SIM_MEMORY};
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

/* Catches: a segment that is in use filled with zeros because the number of segments has rotted. */
static void slot__in_use_is_not_filled(void **state)
{
    (void)state;
    struct rig rig;
    begin(&rig, &small);
    dice = 71;
    commit_one(&rig, 2000);
    flush(&rig);
    const uint32_t count = rig.coord->slot_count;
    assert_int_not_equal(rig.coord->slot_sequence[0], 0);
    rig.coord->slot_count = 0;
    assert_int_equal(ph_log_add_slot(&rig.wal), PH_CORRUPT);
    rig.coord->slot_count = count;
    check_all(&rig);
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
        cmocka_unit_test(slot__in_use_is_not_filled),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
