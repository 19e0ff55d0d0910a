/* SPDX-License-Identifier: MIT */
/* Recovery's decisions: which superblock is believed, what is done with a heap and its log, and what an end means. */
#include "io/checksum.h"
#include "recovery/classify.h"
#include "recovery/superblock.h"
#include "tests/support/simfs.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

/* ----------------------------------------------------------------------------------------------- the decision table */

#define LOG(state) (1u << PH_LOGSTATE_##state)
#define ANY_COPY (-1)

/* The table in the head of recovery/classify.h, row by row, with what the user is told. */
static const struct row {
    enum ph_superblock_state state;
    int other_damaged; /* 0, 1 or ANY_COPY */
    unsigned logs;
    enum ph_plan plan;
    ph_status status;
} rows[] = {
    {PH_STATE_CLEAN, 0, LOG(ABSENT), PH_PLAN_CLEAN, PH_OK},
    {PH_STATE_CLEAN, 0, LOG(BLANK), PH_PLAN_CLEAN, PH_OK},
    {PH_STATE_CLEAN, 0, LOG(OLDER) | LOG(SAME), PH_PLAN_CLEAN, PH_OK},
    {PH_STATE_CLEAN, ANY_COPY, LOG(NEXT), PH_PLAN_REPLAY_START, PH_OK},
    {PH_STATE_CLEAN, ANY_COPY, LOG(NEWER), PH_PLAN_REFUSE_OLD_HEAP, PH_LOG_FOREIGN},
    {PH_STATE_CLEAN, ANY_COPY, LOG(ALIEN), PH_PLAN_REFUSE_ALIEN, PH_LOG_FOREIGN},
    {PH_STATE_CLEAN, ANY_COPY, LOG(DAMAGED), PH_PLAN_REFUSE_DAMAGED_LOG, PH_LOG_FOREIGN},
    {PH_STATE_CLEAN, 1, LOG(ABSENT), PH_PLAN_REFUSE_LOST_COPY, PH_CORRUPT},
    {PH_STATE_CLEAN, 1, LOG(BLANK), PH_PLAN_REFUSE_LOST_COPY, PH_CORRUPT},
    {PH_STATE_CLEAN, 1, LOG(OLDER) | LOG(SAME), PH_PLAN_CLEAN, PH_OK},
    {PH_STATE_OPEN, ANY_COPY, LOG(SAME), PH_PLAN_REPLAY_CHECKPOINT, PH_OK},
    {PH_STATE_OPEN, ANY_COPY, LOG(ABSENT), PH_PLAN_REFUSE_MISSING, PH_LOG_MISSING},
    {PH_STATE_OPEN, ANY_COPY, LOG(BLANK), PH_PLAN_REFUSE_MISSING, PH_LOG_MISSING},
    {PH_STATE_OPEN, ANY_COPY, LOG(DAMAGED), PH_PLAN_REFUSE_DAMAGED_LOG, PH_LOG_FOREIGN},
    {PH_STATE_OPEN, ANY_COPY, LOG(ALIEN), PH_PLAN_REFUSE_ALIEN, PH_LOG_FOREIGN},
    {PH_STATE_OPEN, ANY_COPY, LOG(OLDER), PH_PLAN_REFUSE_OLD_LOG, PH_LOG_FOREIGN},
    {PH_STATE_OPEN, ANY_COPY, LOG(NEXT) | LOG(NEWER), PH_PLAN_REFUSE_OLD_HEAP, PH_LOG_FOREIGN},
};

/* Catches: a cell of the table that was changed, or is reached by two rows or by none. */
static void classify__whole_table(void **state)
{
    (void)state;
    static const enum ph_superblock_state states[] = {PH_STATE_CLEAN, PH_STATE_OPEN};
    for (unsigned i = 0; i < 2; i++)
        for (int damaged = 0; damaged < 2; damaged++)
            for (unsigned log = 0; log < PH_LOGSTATES; log++) {
                const struct row *found = NULL;
                for (size_t row = 0; row < sizeof rows / sizeof rows[0]; row++)
                    if (rows[row].state == states[i] && (rows[row].logs & 1u << log) != 0 &&
                        (rows[row].other_damaged == ANY_COPY || rows[row].other_damaged == damaged)) {
                        assert_null(found);
                        found = &rows[row];
                    }
                assert_non_null(found);
                enum ph_plan plan = ph_classify(states[i], damaged != 0, (enum ph_log_state)log);
                assert_int_equal(plan, found->plan);
                assert_int_equal(ph_plan_refuse(plan, "a-heap", "a-log"), found->status);
            }
}

/* Catches: a refusal that does not say which file is meant. */
static void classify__refusals_name_the_file(void **state)
{
    (void)state;
    for (size_t row = 0; row < sizeof rows / sizeof rows[0]; row++) {
        (void)ph_fail(PH_OK, "stale");
        if (ph_plan_refuse(rows[row].plan, "a-heap", "a-log") == PH_OK)
            continue;
        bool about_log = rows[row].plan == PH_PLAN_REFUSE_ALIEN || rows[row].plan == PH_PLAN_REFUSE_OLD_LOG ||
                         rows[row].plan == PH_PLAN_REFUSE_DAMAGED_LOG;
        assert_int_equal(strncmp(ph_detail(), about_log ? "a-log: " : "a-heap: ", about_log ? 7 : 8), 0);
        if (rows[row].plan != PH_PLAN_REFUSE_DAMAGED_LOG && rows[row].plan != PH_PLAN_REFUSE_LOST_COPY)
            assert_true(strstr(ph_detail(), "a-heap") != NULL && strstr(ph_detail(), "a-log") != NULL);
    }
}

/* ------------------------------------------------------------------------------------------------- state of the log */

static struct ph_superblock sample(void)
{
    struct ph_superblock s = {
        .byte_order = PH_BYTE_ORDER_MARK,
        .format_version = PH_FORMAT_VERSION,
        .page_bytes = PH_PAGE_BYTES,
        .state = PH_STATE_OPEN,
        .identity = "sixteen bytes id",
        .generation = 6,
        .epoch = 3,
        .checkpoint_lsn = 8192,
        .checkpoint_chain = 0x1234567812345678,
        .checkpoint_version = 17,
        .checkpoint_segment = 9,
        .checkpoint_offset = 1024,
        .heap_bytes = 65536,
        .durable_lsn = 8192,
        .log_limit_bytes = 1 << 20,
        .segment_bytes = 16384,
        .buffer_bytes = 16384,
        .file_mode = 0600,
        .created_ns = 1,
    };
    memcpy(s.magic, PH_HEAP_MAGIC, sizeof s.magic);
    ph_superblock_seal(&s);
    return s;
}

/* Catches: an epoch taken for the wrong one, and a log that begins elsewhere taken for the one that continues. */
static void classify__log_state(void **state)
{
    (void)state;
    struct ph_superblock s = sample();
    struct ph_log_header next = {
        .epoch = 4, .start_lsn = s.checkpoint_lsn, .start_chain = s.checkpoint_chain, .start_version = 17};
    struct ph_log_header header = next;
    assert_int_equal(ph_classify_log(&s, PH_LOG_ABSENT, &header), PH_LOGSTATE_ABSENT);
    assert_int_equal(ph_classify_log(&s, PH_LOG_BLANK, &header), PH_LOGSTATE_BLANK);
    assert_int_equal(ph_classify_log(&s, PH_LOG_DAMAGED, &header), PH_LOGSTATE_DAMAGED);
    assert_int_equal(ph_classify_log(&s, PH_LOG_ALIEN, &header), PH_LOGSTATE_ALIEN);
    static const enum ph_log_state by_epoch[] = {PH_LOGSTATE_OLDER, PH_LOGSTATE_OLDER, PH_LOGSTATE_OLDER,
                                                 PH_LOGSTATE_SAME,  PH_LOGSTATE_NEXT,  PH_LOGSTATE_NEWER,
                                                 PH_LOGSTATE_NEWER};
    for (uint64_t epoch = 0; epoch < sizeof by_epoch / sizeof by_epoch[0]; epoch++) {
        header.epoch = epoch;
        assert_int_equal(ph_classify_log(&s, PH_LOG_OWN, &header), by_epoch[epoch]);
    }
    header.epoch = UINT64_MAX;
    assert_int_equal(ph_classify_log(&s, PH_LOG_OWN, &header), PH_LOGSTATE_NEWER);
    for (unsigned field = 0; field < 3; field++) {
        header = next;
        header.start_lsn += field == 0 ? 8 : 0;
        header.start_chain ^= field == 1 ? 1 : 0;
        header.start_version += field == 2;
        assert_int_equal(ph_classify_log(&s, PH_LOG_OWN, &header), PH_LOGSTATE_NEWER);
        header.epoch = s.epoch; /* where an epoch began does not matter later on */
        assert_int_equal(ph_classify_log(&s, PH_LOG_OWN, &header), PH_LOGSTATE_SAME);
    }
}

/* ------------------------------------------------------------------------------------------------------- superblock */

/* A machine with a file of two superblocks, older in copy 1 (generation 5), newer in copy 0 (6). */
struct bench {
    struct ph_sim *sim;
    struct ph_file file;
    struct ph_superblock copies[2];
};

static void put(struct bench *bench)
{
    for (uint32_t copy = 0; copy < 2; copy++)
        (void)ph_sim_poke(bench->sim, "d/heap", &bench->copies[copy], sizeof bench->copies[copy],
                          PH_SUPERBLOCK_OFFSET(copy));
}

static void begin(struct bench *bench)
{
    struct ph_sim_options quiet = {.no_journal = true};
    *bench = (struct bench){.sim = ph_sim_new(&quiet), .copies = {sample(), sample()}};
    bench->copies[1].generation = 5;
    bench->copies[1].checkpoint_version = 16;
    ph_superblock_seal(&bench->copies[1]);
    put(bench);
    assert_int_equal(ph_file_open(&bench->file, ph_sim_io(bench->sim), "d/heap", PH_OPEN_WRITE, 0), PH_OK);
}

static void end(struct bench *bench)
{
    ph_file_close(&bench->file);
    ph_sim_free(bench->sim);
}

/* Read; that generation must be chosen, and the other copy good or not. */
static void expect_chosen(struct bench *bench, uint64_t generation, bool other_damaged)
{
    struct ph_superblock chosen = {.generation = 99};
    bool damaged = !other_damaged;
    put(bench);
    assert_int_equal(ph_superblock_read(&bench->file, &chosen, &damaged), PH_OK);
    assert_int_equal(chosen.generation, generation);
    assert_int_equal(damaged, other_damaged);
    assert_memory_equal(&chosen, &bench->copies[generation % 2], sizeof chosen);
}

static void expect_refused(struct bench *bench, ph_status status)
{
    struct ph_superblock chosen;
    bool damaged;
    put(bench);
    assert_string_equal(ph_status_name(ph_superblock_read(&bench->file, &chosen, &damaged)), ph_status_name(status));
    assert_non_null(strstr(ph_detail(), "d/heap"));
}

/* Catches: the older copy believed while the newer is good, by place rather than by generation. */
static void superblock__higher_generation_wins(void **state)
{
    (void)state;
    struct bench bench;
    begin(&bench);
    expect_chosen(&bench, 6, false);
    bench.copies[1].generation = 7;
    ph_superblock_seal(&bench.copies[1]);
    expect_chosen(&bench, 7, false);
    bench.copies[0].generation = PH_NUMBER_LIMIT - 1;
    ph_superblock_seal(&bench.copies[0]);
    expect_chosen(&bench, PH_NUMBER_LIMIT - 1, false);
    end(&bench);
}

/* Catches: a bit of a copy that its checksum does not cover; and a damaged copy that costs the heap. */
static void superblock__every_flipped_bit_of_either_copy(void **state)
{
    (void)state;
    struct bench bench;
    begin(&bench);
    for (uint32_t copy = 0; copy < 2; copy++)
        for (size_t bit = 0; bit < sizeof(struct ph_superblock) * 8; bit++) {
            uint8_t *byte = (uint8_t *)&bench.copies[copy] + bit / 8;
            *byte ^= (uint8_t)(1u << bit % 8);
            expect_chosen(&bench, copy == 0 ? 5 : 6, true);
            *byte ^= (uint8_t)(1u << bit % 8);
        }
    expect_chosen(&bench, 6, false);
    end(&bench);
}

/* Catches: a write that went to the other copy's place and is believed there. */
static void superblock__misdirected_copy(void **state)
{
    (void)state;
    struct bench bench;
    begin(&bench);
    struct ph_superblock copies[2] = {bench.copies[0], bench.copies[1]};
    bench.copies[1] = copies[0]; /* the newer one over the older */
    expect_chosen(&bench, 6, true);
    bench.copies[0] = copies[1]; /* crosswise */
    expect_refused(&bench, PH_CORRUPT);
    bench.copies[1] = copies[1]; /* the older one over the newer */
    expect_chosen(&bench, 5, true);
    /* The number of its place and its generation must agree, too. */
    bench.copies[0] = copies[0];
    bench.copies[0].generation = 7;
    bench.copies[0].checksum = ph_checksum(&bench.copies[0], offsetof(struct ph_superblock, checksum));
    expect_chosen(&bench, 5, true);
    end(&bench);
}

/* Catches: superblocks of two heaps in one file, of which one would be taken. */
static void superblock__two_identities(void **state)
{
    (void)state;
    struct bench bench;
    begin(&bench);
    bench.copies[1].identity[15] ^= 1;
    ph_superblock_seal(&bench.copies[1]);
    expect_refused(&bench, PH_CORRUPT);
    end(&bench);
}

/* Catches: the wrong verdict where neither copy is good. */
static void superblock__no_good_copy(void **state)
{
    (void)state;
    struct bench bench;
    begin(&bench);
    bench.copies[0].epoch++;
    bench.copies[1].epoch++;
    expect_refused(&bench, PH_CORRUPT);
    bench.copies[0].magic[0] = 0;
    expect_refused(&bench, PH_CORRUPT);
    bench.copies[1].magic[7] ^= 4;
    expect_refused(&bench, PH_NOT_HEAP);
    memset(bench.copies, 0, sizeof bench.copies);
    expect_refused(&bench, PH_NOT_HEAP);
    static const uint64_t sizes[] = {0, 1, 511, 512, 4095, 4096, 4607};
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        struct ph_superblock chosen;
        bool damaged;
        assert_int_equal(ph_sim_set_size(bench.sim, "d/heap", sizes[i]), 0);
        assert_int_equal(ph_superblock_read(&bench.file, &chosen, &damaged), PH_NOT_HEAP);
    }
    end(&bench);
}

/* Catches: a heap of another version or byte order called damaged, or its other copy used behind its back. */
static void superblock__newer_version_and_other_byte_order(void **state)
{
    (void)state;
    struct bench bench;
    for (unsigned kind = 0; kind < 4; kind++)
        for (unsigned which = 1; which < 4; which++) {
            begin(&bench);
            for (unsigned copy = 0; copy < 2; copy++) {
                struct ph_superblock *s = &bench.copies[copy];
                if ((which & 1u << copy) == 0)
                    continue;
                s->format_version += kind == 0 ? 1u : 0;
                s->incompat_flags = kind == 1 ? 0x10 : 0;
                s->compat_flags = kind == 2 ? 0x10 : 0;
                s->byte_order = kind == 3 ? __builtin_bswap32(PH_BYTE_ORDER_MARK) : s->byte_order;
                ph_superblock_seal(s);
            }
            if (kind == 2)
                expect_chosen(&bench, 6, false);
            else if (kind == 3 && which != 3)
                expect_chosen(&bench, which == 1 ? 5 : 6, true);
            else
                expect_refused(&bench, kind == 3 ? PH_BYTE_ORDER : PH_NEWER);
            end(&bench);
        }
    begin(&bench);
    bench.copies[0].format_version = bench.copies[1].format_version = 0; /* there never was one */
    ph_superblock_seal(&bench.copies[0]);
    ph_superblock_seal(&bench.copies[1]);
    expect_refused(&bench, PH_CORRUPT);
    end(&bench);
}

/* A value for a field, and whether a superblock with it (and a good checksum) may be believed. */
static const struct value {
    size_t at, width;
    uint64_t value;
    bool possible;
} values[] = {
#define FIELD(name) offsetof(struct ph_superblock, name), sizeof(((struct ph_superblock *)0)->name)
    {FIELD(page_bytes), 0, false},
    {FIELD(page_bytes), 8192, false},
    {FIELD(state), 0, false},
    {FIELD(state), 1, true},
    {FIELD(state), 2, true},
    {FIELD(state), 3, false},
    {FIELD(generation), 0, false},
    {FIELD(generation), 7, false}, /* not that of copy 0 */
    {FIELD(generation), PH_NUMBER_LIMIT - 1, true},
    {FIELD(generation), PH_NUMBER_LIMIT + 1, false},
    {FIELD(generation), UINT64_MAX - 1, false},
    {FIELD(epoch), 0, true},
    {FIELD(epoch), PH_NUMBER_LIMIT, false},
    {FIELD(checkpoint_lsn), 0, false},
    {FIELD(checkpoint_lsn), PH_FIRST_LSN - 8, false},
    {FIELD(checkpoint_lsn), PH_FIRST_LSN, true},
    {FIELD(checkpoint_lsn), 8196, false},
    {FIELD(checkpoint_lsn), PH_NUMBER_LIMIT + 1, false},
    {FIELD(checkpoint_chain), UINT64_MAX, true},
    {FIELD(checkpoint_version), 0, true},
    {FIELD(checkpoint_version), PH_NUMBER_LIMIT - 1, true},
    {FIELD(checkpoint_version), PH_NUMBER_LIMIT, false},
    {FIELD(checkpoint_segment), 0, true},
    {FIELD(checkpoint_segment), PH_NUMBER_LIMIT, false},
    {FIELD(checkpoint_offset), 0, true},
    {FIELD(checkpoint_offset), 16384, true},
    {FIELD(checkpoint_offset), 16385, false},
    {FIELD(checkpoint_offset), UINT64_MAX, false},
    {FIELD(heap_bytes), 0, false},
    {FIELD(heap_bytes), 8192, false},
    {FIELD(heap_bytes), 12288, true},
    {FIELD(heap_bytes), 65537, false},
    {FIELD(heap_bytes), PH_HEAP_MAX_BYTES, true},
    {FIELD(heap_bytes), PH_HEAP_MAX_BYTES + PH_PAGE_BYTES, false},
    {FIELD(heap_bytes), UINT64_MAX - 4095, false},
    {FIELD(durable_lsn), PH_NUMBER_LIMIT, false},
    {FIELD(log_limit_bytes), 0, false},
    {FIELD(log_limit_bytes), 16384 * 3 - 1, false},
    {FIELD(log_limit_bytes), 16384 * 3, true},
    {FIELD(log_limit_bytes), 16384 * UINT64_C(4096), true},
    {FIELD(log_limit_bytes), 16384 * UINT64_C(4097), false},
    {FIELD(log_limit_bytes), UINT64_MAX, false},
    {FIELD(segment_bytes), 0, false},
    {FIELD(segment_bytes), 8192, false},
    {FIELD(segment_bytes), 16384 + 4096, false},
    {FIELD(segment_bytes), 32768, true},
    {FIELD(segment_bytes), 1u << 27, false},
    {FIELD(segment_bytes), 1u << 31, false},
    {FIELD(buffer_bytes), 0, false},
    {FIELD(buffer_bytes), 8192, false},
    {FIELD(buffer_bytes), 24576, false},
    {FIELD(buffer_bytes), 1u << 26, true},
    {FIELD(buffer_bytes), 1u << 27, false},
    {FIELD(copy), 1, false},
    {FIELD(copy), 2, false},
    {FIELD(created_ns), UINT64_MAX, true},
#undef FIELD
};

/* Catches: a number from the file that is used before anybody asked whether it is possible (R8). */
static void superblock__every_field_out_of_its_range(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof values / sizeof values[0]; i++) {
        struct ph_superblock s = sample();
        memcpy((uint8_t *)&s + values[i].at, &values[i].value, values[i].width);
        s.checksum = ph_checksum(&s, offsetof(struct ph_superblock, checksum));
        enum ph_copy_verdict verdict = ph_superblock_check(&s, 0);
        if (verdict != (values[i].possible ? PH_COPY_GOOD : PH_COPY_DAMAGED))
            fail_msg("byte %zu = %llu: verdict %d", values[i].at, (unsigned long long)values[i].value, verdict);
    }
}

/* Catches: a failed read that passes for a damaged copy, so that the older copy would be believed. */
static void superblock__read_error_is_not_damage(void **state)
{
    (void)state;
    struct bench bench;
    for (uint64_t nth = 1; nth <= 2; nth++) {
        struct ph_superblock chosen;
        bool damaged;
        begin(&bench);
        ph_sim_fail_at(bench.sim, PH_SIM_READ, nth, EIO, PH_SIM_ONCE);
        assert_int_equal(ph_superblock_read(&bench.file, &chosen, &damaged), PH_IO);
        end(&bench);
    }
}

/* Catches: a new superblock written over the only good one, or not as one sector. */
static void superblock__write_spares_the_other_copy(void **state)
{
    (void)state;
    struct bench bench;
    begin(&bench);
    struct ph_superblock next = bench.copies[0];
    for (unsigned i = 0; i < 5; i++) {
        struct ph_superblock before[2] = {bench.copies[0], bench.copies[1]};
        next.generation++;
        uint64_t writes = ph_sim_calls(bench.sim, PH_SIM_WRITE), syncs = ph_sim_calls(bench.sim, PH_SIM_SYNC);
        assert_int_equal(ph_superblock_write(&bench.file, &next), PH_OK);
        assert_int_equal(ph_sim_calls(bench.sim, PH_SIM_WRITE) - writes, 1);
        assert_int_equal(ph_sim_calls(bench.sim, PH_SIM_SYNC) - syncs, 1);
        for (uint32_t copy = 0; copy < 2; copy++)
            (void)ph_sim_peek(bench.sim, "d/heap", &bench.copies[copy], 512, PH_SUPERBLOCK_OFFSET(copy));
        assert_memory_equal(&bench.copies[next.generation % 2], &next, sizeof next);
        assert_memory_equal(&bench.copies[1 - next.generation % 2], &before[1 - next.generation % 2], sizeof next);
        expect_chosen(&bench, next.generation, false);
    }
    end(&bench);
}

/* ---------------------------------------------------------------------------------------------------------- the end */

/* Catches: damage cut off as if it were a torn tail, or a torn tail refused (R9); a verdict that does not say where. */
static void judge__end_of_the_log(void **state)
{
    (void)state;
    static const struct judged {
        enum ph_superblock_state state;
        uint64_t superblock_durable, lsn, batch_durable, newer_epoch;
        ph_status status;
        const char *words[3];
    } cases[] = {
        {PH_STATE_OPEN, 8192, 8192, 0, 0, PH_OK, {NULL}},
        {PH_STATE_OPEN, 8192, 9000, 0, 0, PH_OK, {NULL}},
        {PH_STATE_OPEN, 8192, 9000, 8192, 0, PH_OK, {NULL}},
        {PH_STATE_OPEN, 8192, 9000, 9000, 0, PH_OK, {NULL}},
        {PH_STATE_OPEN, 8192, 9000, 9008, 0, PH_CORRUPT, {"LSN 9000", "LSN 9008", "file offset 20480"}},
        {PH_STATE_OPEN, 8192, 8184, 0, 0, PH_CORRUPT, {"LSN 8184", "LSN 8192", "superblock"}},
        {PH_STATE_OPEN, 8192, 8184, 8184, 0, PH_CORRUPT, {"LSN 8184", "LSN 8192", "superblock"}},
        {PH_STATE_OPEN, 8192, 8192, 0, 4, PH_LOG_FOREIGN, {"epoch 4", "epoch 3", NULL}},
        {PH_STATE_OPEN, 8192, 8192, 9000, 4, PH_CORRUPT, {"LSN 8192", "LSN 9000", NULL}},
        {PH_STATE_CLEAN, 8192, 8192, 0, 0, PH_OK, {NULL}},
        {PH_STATE_CLEAN, 8192, 8192, 8200, 0, PH_CORRUPT, {"LSN 8192", "LSN 8200", NULL}},
        {PH_STATE_CLEAN, 8192, 8192, 0, 9, PH_LOG_FOREIGN, {"epoch 9", NULL}},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        const struct judged *c = &cases[i];
        struct ph_superblock s = sample();
        s.state = c->state;
        s.durable_lsn = c->superblock_durable;
        struct ph_scan_evidence evidence = {
            .durable = c->batch_durable, .durable_at = 20480, .newer_epoch = c->newer_epoch};
        for (int fault = PH_RECORD_GOOD; fault <= PH_RECORD_FORM; fault++) {
            ph_status status = ph_judge_end("a-log", &s, c->lsn, &evidence, (enum ph_record_fault)fault);
            assert_int_equal(status, c->status);
            if (status == PH_OK)
                continue;
            assert_int_equal(strncmp(ph_detail(), "a-log: ", 7), 0);
            for (size_t word = 0; word < 3 && c->words[word] != NULL; word++)
                assert_non_null(strstr(ph_detail(), c->words[word]));
            if (status == PH_CORRUPT && fault != PH_RECORD_GOOD)
                assert_non_null(strstr(ph_detail(), ph_record_fault_text((enum ph_record_fault)fault)));
        }
    }
}

int main(int argc, char **argv)
{
    if (argc > 1)
        cmocka_set_test_filter(argv[1]);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(classify__whole_table),
        cmocka_unit_test(classify__refusals_name_the_file),
        cmocka_unit_test(classify__log_state),
        cmocka_unit_test(superblock__higher_generation_wins),
        cmocka_unit_test(superblock__every_flipped_bit_of_either_copy),
        cmocka_unit_test(superblock__misdirected_copy),
        cmocka_unit_test(superblock__two_identities),
        cmocka_unit_test(superblock__no_good_copy),
        cmocka_unit_test(superblock__newer_version_and_other_byte_order),
        cmocka_unit_test(superblock__every_field_out_of_its_range),
        cmocka_unit_test(superblock__read_error_is_not_damage),
        cmocka_unit_test(superblock__write_spares_the_other_copy),
        cmocka_unit_test(judge__end_of_the_log),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
