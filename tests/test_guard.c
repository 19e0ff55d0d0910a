/* SPDX-License-Identifier: MIT */
/*
 * Guards: addresses that outlive a transaction are good in later ones, and what is stored through them in between is
 * reported and undone.  Each case runs with each way to find the pages.
 */
#include "tests/track_rig.h"

static void stores_are_kept(enum method method)
{
    static uint8_t expected[LENGTH];
    pheap *heap = open_by(method, "kept", 0);
    memset(expected, 1, sizeof expected);
    const uint64_t block = make_block(heap, LENGTH, 1);
    void *address;
    pheap_txn *txn = begin(heap);
    ok(pheap_guard(txn, block + 100, LENGTH - 200, &address));
    ok(pheap_guard(txn, block + 100, LENGTH - 200, NULL));
    require(address == pheap_ptr(txn, block + 100));
    uint8_t *bytes = (uint8_t *)address - 100;
    for (unsigned round = 0; round < 12; round++) {
        const unsigned at = 100 + round * 7919 % (LENGTH - 200);
        bytes[at] = (uint8_t)(round + 2);
        if (round % 4 == 3) {
            ok(pheap_abort(txn));
        } else {
            expected[at] = (uint8_t)(round + 2);
            ok(pheap_commit(txn, PHEAP_LAZY, NULL));
        }
        check_block(heap, block, expected, LENGTH);
        if (round == 5) {
            ok(pheap_unguard(heap, block + 100, LENGTH - 200)); /* one of two */
        }
        if (round == 7) {
            ok(pheap_fold(heap));
        }
        txn = begin(heap);
    }
    ok(pheap_abort(txn));
    ok(pheap_unguard(heap, block + 100, LENGTH - 200));
    expect_detail(PHEAP_INVALID, "not guarded", pheap_unguard(heap, block + 100, LENGTH - 200));
    expect_detail(PHEAP_INVALID, "not guarded", pheap_unguard(heap, block, 8));
    check_sound(heap);
    ok(pheap_close(heap));
}

/* Catches: a store in a later transaction that is not logged, or one that an abort leaves. */
static void guard__tracks_later_transactions(void **state)
{
    (void)state;
    each_method(stores_are_kept);
}

static void strays_are_undone(enum method method)
{
    static uint8_t expected[LENGTH];
    static const unsigned places[] = {0, 4095, 50000, LENGTH - 1};
    pheap *heap = open_by(method, "strays", 0);
    memset(expected, 1, sizeof expected);
    const uint64_t block = make_block(heap, LENGTH, 1);
    uint8_t *bytes;
    pheap_txn *txn = begin(heap);
    ok(pheap_guard(txn, block, LENGTH, (void **)&bytes));
    ok(pheap_commit(txn, PHEAP_LAZY, NULL));
    for (unsigned i = 0; i < 3 * sizeof places / sizeof places[0]; i++) {
        const unsigned at = places[i / 3];
        const uint64_t version = heap_info(heap).version;
        if (i % 3 == 1) {
            ok(pheap_checkpoint(heap));
        }
        bytes[at] = 77;
        expect_detail(PHEAP_STRAY_STORE, "has been undone", pheap_begin(heap, &txn));
        require_equal(heap_info(heap).version, version);
        txn = begin(heap);
        require_equal(bytes[at], expected[at]);
        bytes[at] = expected[at] = (uint8_t)(i + 2);
        ok(pheap_commit(txn, PHEAP_LAZY, NULL));
        check_block(heap, block, expected, LENGTH);
    }
    /* What nobody needs any more is looked at once more. */
    bytes[5] = 99;
    ok(pheap_unguard(heap, block, LENGTH));
    expect_detail(PHEAP_STRAY_STORE, "undone", pheap_begin(heap, &txn));
    txn = begin(heap);
    require_equal(bytes[5], expected[5]);
    ok(pheap_guard(txn, block, LENGTH, NULL));
    ok(pheap_commit(txn, PHEAP_LAZY, NULL));
    bytes[5] = 99;
    ok(pheap_unguard(heap, block, LENGTH));
    expect_detail(PHEAP_STRAY_STORE, "undone", pheap_close(heap));
    heap = open_by(method, "strays", 0);
    check_block(heap, block, expected, LENGTH);
    check_sound(heap);
    ok(pheap_close(heap));
}

/* Catches: a stray store that is committed by a later transaction, that stays in the view, or of which nobody is told. */
static void guard__undoes_what_is_stored_between_transactions(void **state)
{
    (void)state;
    each_method(strays_are_undone);
}

static void change_as_another(const struct peer *test, const char *path)
{
    pheap *heap = open_heap(path);
    peer_hear(test, 'g');
    pheap_read *reader = read_begin(heap, 0);
    const uint64_t block = pheap_read_root(reader);
    pheap_read_end(reader);
    for (unsigned i = 0; i < 20; i++) {
        pheap_txn *txn = begin(heap);
        ok(pheap_fill(txn, block + i * 5000, (unsigned char)(100 + i), 5000));
        ok(pheap_commit(txn, PHEAP_LAZY, NULL));
    }
    ok(pheap_checkpoint(heap)); /* pages that are not private in the other process now show this */
    peer_tell(test, 'd');
    peer_hear(test, 'e');
    ok(pheap_close(heap));
}

static void others_commit(enum method method, bool stray)
{
    static uint8_t expected[LENGTH];
    uint8_t *bytes;
    pheap_txn *txn;
    const char *path = path_of(stray ? "both" : "others", method_name(method));
    pheap *heap = open_by(method, stray ? "both" : "others", 0);
    const uint64_t block = make_block(heap, LENGTH, 1);
    txn = begin(heap);
    ok(pheap_set_root(txn, block));
    ok(pheap_commit(txn, PHEAP_LAZY, NULL));
    ok(pheap_close(heap));
    struct peer peer = peer_start(change_as_another, path);
    heap = open_by(method, stray ? "both" : "others", 0);
    txn = begin(heap);
    ok(pheap_guard(txn, block, LENGTH, (void **)&bytes));
    bytes[30000] = 2;
    ok(pheap_commit(txn, PHEAP_LAZY, NULL));
    peer_tell(&peer, 'g');
    peer_hear(&peer, 'd');
    if (stray) {
        bytes[70000] = 3;
    }
    if (stray && method != BLIND) {
        expect_detail(PHEAP_STRAY_STORE, "undone", pheap_begin(heap, &txn));
    }
    for (unsigned i = 0; i < LENGTH; i++) {
        expected[i] = (uint8_t)(100 + i / 5000);
    }
    check_block(heap, block, expected, LENGTH);
    txn = begin(heap);
    bytes[40000] = expected[40000] = 5;
    ok(pheap_commit(txn, PHEAP_LAZY, NULL));
    check_block(heap, block, expected, LENGTH);
    peer_tell(&peer, 'e');
    peer_join(&peer);
    ok(pheap_unguard(heap, block, LENGTH));
    check_sound(heap);
    ok(pheap_close(heap));
}

/* Catches: commits of others, which pages of the view may show, taken for stray stores; or stray stores beside them that
 * are kept. */
static void guard__tells_others_from_strays(void **state)
{
    (void)state;
    for (enum method method = 0; method < METHODS; method++) {
        others_commit(method, false);
        others_commit(method, true);
    }
}

static void verify_goes_along(enum method method)
{
    pheap *heap = open_by(method, "verify", PHEAP_VERIFY);
    const uint64_t block = make_block(heap, LENGTH, 1);
    uint8_t *bytes;
    pheap_txn *txn = begin(heap);
    ok(pheap_guard(txn, block, LENGTH, (void **)&bytes));
    bytes[9] = 2;
    ok(pheap_commit(txn, PHEAP_LAZY, NULL));
    for (unsigned round = 0; round < 3; round++) {
        bytes[5000 * round] = 77;
        expect(PHEAP_STRAY_STORE, pheap_begin(heap, &txn));
        txn = begin(heap); /* told once, whoever saw it */
        require_equal(bytes[5000 * round], 1);
        bytes[9]++;
        ok(pheap_commit(txn, PHEAP_LAZY, NULL));
    }
    txn = begin(heap);
    require_equal(bytes[9], 5);
    ok(pheap_abort(txn));
    ok(pheap_unguard(heap, block, LENGTH));
    ok(pheap_close(heap));
}

/* Catches: a stray store that is reported twice, by the verify mode and by the guard. */
static void guard__and_the_verify_mode_tell_once(void **state)
{
    (void)state;
    each_method(verify_goes_along);
}

static void block_goes(enum method method)
{
    pheap *heap = open_by(method, "goes", 0);
    uint64_t blocks[3];
    uint8_t *bytes;
    const uint64_t kept = make_block(heap, LENGTH, 1);
    pheap_txn *txn = begin(heap);
    ok(pheap_alloc(txn, LENGTH, &blocks[0]));
    ok(pheap_guard(txn, blocks[0], LENGTH, (void **)&bytes));
    memset(bytes, 3, LENGTH);
    ok(pheap_abort(txn)); /* there never was such a block */
    txn = begin(heap);
    ok(pheap_guard(txn, kept, LENGTH, NULL));
    ok(pheap_free(txn, kept));
    ok(pheap_commit(txn, PHEAP_LAZY, NULL));
    for (unsigned round = 0; round < 3; round++) {
        txn = begin(heap);
        ok(pheap_alloc(txn, LENGTH + round, &blocks[round])); /* in the place of one of them */
        memset(pheap_ptr(txn, blocks[round]), (int)round, LENGTH);
        ok(pheap_commit(txn, PHEAP_LAZY, NULL));
    }
    ok(pheap_unguard(heap, kept, LENGTH));
    check_sound(heap);
    ok(pheap_close(heap));
}

/* Catches: a guard of a block that is not there any more, which makes begin fail, or ordinary changes stray stores. */
static void guard__outlives_its_block(void **state)
{
    (void)state;
    each_method(block_goes);
}

static void out_of_memory(enum method method)
{
    pheap *heap = open_by(method, "short", 0);
    const uint64_t block = make_block(heap, LENGTH, 1);
    uint8_t *bytes;
    pheap_txn *txn = begin(heap);
    ok(pheap_guard(txn, block, LENGTH, (void **)&bytes));
    memset(bytes, 2, LENGTH);
    ok(pheap_commit(txn, PHEAP_LAZY, NULL));
    for (unsigned left = 1; left < 12; left++) {
        enum pheap_status status = pheap_begin(heap, &txn);
        while (status != PHEAP_OK) {
            require_equal(status, PHEAP_NO_MEMORY);
            status = pheap_begin(heap, &txn);
        }
        for (unsigned i = 0; i < 5; i++) {
            ok(pheap_guard(txn, block + 64 * i * left, 64, NULL));
        }
        resizes_left = left;
        ok(pheap_abort(txn)); /* what is left is perhaps not remembered: then a store is undone without a word */
        resizes_left = UINT32_MAX;
        bytes[500] = 99;
        status = pheap_begin(heap, &txn);
        if (status != PHEAP_OK) {
            require_equal(status, PHEAP_STRAY_STORE);
            txn = begin(heap);
        }
        require_equal(bytes[500], 2);
        ok(pheap_commit(txn, PHEAP_LAZY, NULL));
    }
    ok(pheap_close(heap));
}

/* Catches: a stray store that is committed because there was no memory to remember what was there. */
static void guard__without_memory_keeps_nothing(void **state)
{
    (void)state;
    each_method(out_of_memory);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(guard__tracks_later_transactions),
        cmocka_unit_test(guard__undoes_what_is_stored_between_transactions),
        cmocka_unit_test(guard__tells_others_from_strays),
        cmocka_unit_test(guard__and_the_verify_mode_tell_once),
        cmocka_unit_test(guard__outlives_its_block),
        cmocka_unit_test(guard__without_memory_keeps_nothing),
    };
    choose_cases(argc, argv);
    return cmocka_run_group_tests_name("guards", tests, prepare, remove_test_directory);
}
