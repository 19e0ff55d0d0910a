/* SPDX-License-Identifier: MIT */
/*
 * Stray stores: what was stored outside any block, or undeclared where nothing is tracked, is reported and thrown away.
 * Each case runs with each way to find the pages.
 */
#include "tests/track_rig.h"

/* ------------------------------------------------------------------------------------------------------ stray stores */

static void strays_are_reported(enum method method)
{
    static uint8_t expected[LENGTH];
    pheap *heap = open_by(method, "stray", 0);
    memset(expected, 1, sizeof expected);
    const uint64_t block = make_block(heap, LENGTH, 1);
    const uint64_t gone = make_block(heap, 200, 2), gone_large = make_block(heap, LENGTH, 2);
    const uint64_t small = make_block(heap, 200, 1);
    pheap_txn *txn = begin(heap);
    ok(pheap_free(txn, gone));
    ok(pheap_free(txn, gone_large));
    ok(pheap_commit(txn, PHEAP_LAZY, NULL));
    const uint64_t strays[] = {2 * PAGE + 64, gone + 96, gone_large + 50000, small & ~(uint64_t)(PAGE - 1)};
    for (unsigned i = 0; i < 2 * sizeof strays / sizeof strays[0]; i++) {
        char place[32];
        const uint64_t version = heap_info(heap).version;
        txn = begin_all(heap);
        bytes_at(txn, block)[70000] = 9;
        bytes_at(txn, strays[i / 2])[3] ^= 0x55;
        (void)snprintf(place, sizeof place, "offset %llu", (unsigned long long)strays[i / 2]);
        if (i % 2 == 0) {
            expect_detail(PHEAP_STRAY_STORE, place, pheap_commit(txn, PHEAP_LAZY, NULL));
        } else {
            ok(pheap_abort(txn)); /* nothing remains of it for later transactions */
        }
        require_equal(heap_info(heap).version, version);
        check_block(heap, block, expected, LENGTH);
        check_sound(heap);
        txn = begin_all(heap);
        bytes_at(txn, small)[i] = 1;
        ok(pheap_commit(txn, PHEAP_LAZY, NULL));
    }
    ok(pheap_close(heap));
}

/* Catches: a store outside any block that is committed, kept, or not reported with its place. */
static void stray__is_reported_and_thrown_away(void **state)
{
    (void)state;
    each_method(strays_are_reported);
}

static void good_is_no_stray(enum method method)
{
    pheap *heap = open_by(method, "good", 0);
    uint64_t kept = make_block(heap, 5000, 1);
    for (unsigned round = 0; round < 40; round++) {
        uint64_t blocks[12];
        uint32_t savepoint;
        pheap_txn *txn = begin(heap);
        if (round % 4 == 1) { /* in a transaction of another kind, before */
            for (unsigned i = 0; i < 12; i++) {
                ok(pheap_alloc(txn, 60u << i, &blocks[i]));
                memset(pheap_ptr(txn, blocks[i]), (int)round, 60u << i);
            }
            ok(pheap_abort(txn));
            txn = begin(heap);
        }
        for (unsigned i = 0; i < 12; i++) {
            if (i == 3 * (round % 4)) {
                ok(pheap_track_all(txn));
            }
            if (i == 7 && round % 3 == 0) {
                ok(pheap_savepoint(txn, &savepoint));
            }
            ok(pheap_alloc(txn, 60u << i, &blocks[i]));
            memset(pheap_ptr(txn, blocks[i]), (int)(i + round), 60u << i);
            if (i > 2 && i % 3 == 0 && i < 7) {
                ok(pheap_free(txn, blocks[i]));
            }
        }
        ok(pheap_realloc(txn, &blocks[11], 40000));
        ok(pheap_realloc(txn, &blocks[11], 300000));
        memset(pheap_ptr(txn, blocks[11]), (int)round, 300000);
        ok(pheap_realloc(txn, &blocks[11], 70000));
        if (round % 3 == 0) {
            ok(pheap_rollback(txn, savepoint));
        } else {
            ok(pheap_free(txn, blocks[11]));
            ok(pheap_free(txn, blocks[8]));
        }
        bytes_at(txn, kept)[round] = (uint8_t)round;
        if (round % 5 == 4) {
            ok(pheap_abort(txn));
        } else {
            ok(pheap_commit(txn, PHEAP_LAZY, NULL));
        }
        if (round % 8 == 7) {
            ok(pheap_checkpoint(heap));
        }
        check_sound(heap);
    }
    ok(pheap_close(heap));
}

/* Catches: allocation, free, realloc, rollback or abort that look like stray stores afterwards. */
static void stray__is_not_what_the_allocator_leaves(void **state)
{
    (void)state;
    each_method(good_is_no_stray);
}

static void slab_of_another_class_in_its_place(enum method method)
{
    pheap *heap = open_by(method, "again", 0);
    uint32_t savepoint;
    uint64_t small, other;
    (void)make_block(heap, 200000, 1); /* of so few pages all are looked at */
    pheap_txn *txn = begin(heap);
    ok(pheap_savepoint(txn, &savepoint));
    ok(pheap_alloc(txn, 16, &small)); /* a slab, of the class with the longest bitmap, where nothing ever was */
    ok(pheap_track_all(txn));
    ok(pheap_rollback(txn, savepoint));
    ok(pheap_alloc(txn, 230, &other));
    require_equal(small / 4096, other / 4096);
    ok(pheap_commit(txn, PHEAP_LAZY, NULL));
    check_sound(heap);
    ok(pheap_close(heap));
}

/* Catches: a page that a rollback made zeros again compared with what it was in between. */
static void stray__is_not_what_a_rollback_cleared(void **state)
{
    (void)state;
    each_method(slab_of_another_class_in_its_place);
}

static void verify_goes_along(enum method method)
{
    pheap *heap = open_by(method, "verify", PHEAP_VERIFY);
    const uint64_t one = make_block(heap, 20000, 1), other = make_block(heap, 20000, 1);
    for (unsigned round = 0; round < 6; round++) {
        pheap_txn *txn = begin(heap);
        ok(pheap_track(txn, one + 5000, 10000, NULL));
        memset(bytes_at(txn, one) + 5000, (int)round + 2, 10000);
        if (round % 3 == 1) {
            ok(pheap_abort(txn));
            continue;
        }
        if (round % 3 == 2) {
            bytes_at(txn, other)[7] = 0xee;
            expect_detail(PHEAP_STRAY_STORE, "without pheap_edit", pheap_commit(txn, PHEAP_LAZY, NULL));
            continue;
        }
        ok(pheap_commit(txn, PHEAP_LAZY, NULL));
        pheap_read *reader = read_begin(heap, PHEAP_FRESH);
        require_equal(*((const uint8_t *)pheap_read_ptr(reader, one) + 14999), round + 2);
        pheap_read_end(reader);
    }
    ok(pheap_close(heap));
}

/* Catches: a verify mode that reports tracked stores, or does not report those outside the ranges. */
static void verify__reports_only_what_is_not_tracked(void **state)
{
    (void)state;
    each_method(verify_goes_along);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(stray__is_reported_and_thrown_away),
        cmocka_unit_test(stray__is_not_what_a_rollback_cleared),
        cmocka_unit_test(stray__is_not_what_the_allocator_leaves),
        cmocka_unit_test(verify__reports_only_what_is_not_tracked),
    };
    choose_cases(argc, argv);
    return cmocka_run_group_tests_name("strays", tests, prepare, remove_test_directory);
}
