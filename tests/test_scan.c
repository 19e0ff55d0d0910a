/* SPDX-License-Identifier: MIT */
/* The log as it is read: scan, replay, and the header. */
#include "recovery/replay.h"
#include "tests/log_rig.h"

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
        ph_scan_deinit(&scan); /* nothing is left to give back */
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
            const struct ph_log_origin origin = {from, EPOCH, rig.checkpoint.segment, rig.checkpoint.offset};
            assert_int_equal(ph_replay_init_recovery(&replay, &rig.wal, &origin), PH_OK);
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
            const struct ph_log_origin origin = {.from = {PH_FIRST_LSN, 0, 0, HEAP}, .epoch = EPOCH, .segment = 1};
            struct ph_replay replay;
            struct replayed got = {0};
            assert_int_equal(ph_replay_init_recovery(&replay, &rig.wal, &origin), PH_OK);
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
        cmocka_unit_test(scan__stale_laps_are_not_read),
        cmocka_unit_test(scan__refuses_another_place),
        cmocka_unit_test(chain__goes_on_after_dead_fragments),
        cmocka_unit_test(replay__evil_operations_are_refused),
        cmocka_unit_test(header__conditions),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
