/* SPDX-License-Identifier: MIT */
/*
 * Tracked stores: what was stored without a declaration is committed, undone and rolled back as if it had been declared;
 * what was stored outside any block: test_strays.c.  Each case runs with each way to find the pages.
 */
#include "tests/track_rig.h"

#include "tests/support/history.h"

#include <pthread.h>

/* ----------------------------------------------------------------------------------------------------------- stores */

/* Stores at edges: the first and last byte, across pages and lines, a word, a page, all of it. */
static const struct {
    uint32_t from, length;
} stores[] = {{0, 1},           {LENGTH - 1, 1}, {PAGE - 1, 2}, {63, 2},    {64, 8},
              {4 * PAGE, PAGE}, {777, 100},      {3, 50000},    {0, LENGTH}};

static void stores_are_found(enum method method)
{
    static uint8_t expected[LENGTH];
    pheap *heap = open_by(method, "found", 0);
    memset(expected, 1, sizeof expected);
    const uint64_t block = make_block(heap, LENGTH, 1);
    for (unsigned round = 0; round < 2 * sizeof stores / sizeof stores[0]; round++) {
        const unsigned from = stores[round / 2].from;
        const unsigned length = stores[round / 2].length;
        void *address;
        pheap_txn *txn = begin(heap);
        if (round % 2 == 0) {
            ok(pheap_track_all(txn));
            address = pheap_ptr(txn, block + from);
        } else {
            ok(pheap_track(txn, block + from, length, &address));
        }
        memset(address, (int)round + 2, length);
        memset(expected + from, (int)round + 2, length);
        ok(pheap_commit(txn, PHEAP_LAZY, NULL));
        check_block(heap, block, expected, sizeof expected);
    }
    check_method(heap, method);
    ok(pheap_close(heap));
    heap = open_by(method, "found", 0);
    check_block(heap, block, expected, sizeof expected);
    check_sound(heap);
    ok(pheap_close(heap));
}

/* Catches: a store at an edge of a range, page, line or word that is not logged, and so lost to others. */
static void track__finds_every_store(void **state)
{
    (void)state;
    each_method(stores_are_found);
}

static void nothing_is_logged(enum method method)
{
    pheap *heap = open_by(method, "same", 0);
    const uint64_t block = make_block(heap, LENGTH, 7);
    for (unsigned round = 0; round < 3; round++) {
        const struct pheap_info before = heap_info(heap);
        uint64_t version = 0;
        pheap_txn *txn = begin_all(heap);
        uint8_t *bytes = bytes_at(txn, block);
        memset(bytes, 7, LENGTH); /* the same */
        bytes[5000] = 8;          /* and back again */
        bytes[5000] = 7;
        ok(pheap_commit(txn, PHEAP_LAZY, &version));
        require_equal(version, before.version);
        require_equal(heap_info(heap).committed_lsn, before.committed_lsn);
    }
    /* A change of one byte in what was stored to everywhere is one word in the log. */
    const uint64_t before = heap_info(heap).committed_lsn;
    pheap_txn *txn = begin_all(heap);
    memset(bytes_at(txn, block), 7, LENGTH);
    bytes_at(txn, block)[60000] = 9;
    ok(pheap_commit(txn, PHEAP_LAZY, NULL));
    require(heap_info(heap).committed_lsn - before < 200);
    ok(pheap_close(heap));
}

/* Catches: logging of what was stored to but has not changed. */
static void track__logs_only_what_changed(void **state)
{
    (void)state;
    each_method(nothing_is_logged);
}

static void abort_undoes(enum method method)
{
    static uint8_t expected[LENGTH];
    pheap *heap = open_by(method, "abort", 0);
    memset(expected, 3, sizeof expected);
    const uint64_t block = make_block(heap, LENGTH, 3);
    const uint64_t small = make_block(heap, 40, 3);
    for (unsigned round = 0; round < 6; round++) {
        uint64_t other;
        pheap_txn *txn = begin(heap);
        if (round % 2 == 0) {
            ok(pheap_track_all(txn));
        } else {
            ok(pheap_track(txn, block, LENGTH, NULL));
            ok(pheap_track(txn, small, 40, NULL));
        }
        memset(bytes_at(txn, block) + 10, 0xcc, LENGTH - 20);
        memset(bytes_at(txn, small), 0xcc, 40);
        /* Declared after it was changed: what is put back is what was there before. */
        ok(pheap_fill(txn, block + 3000, 0xdd, 3000));
        if (round >= 2) { /* freed after it was changed, and the place used again */
            ok(pheap_free(txn, small));
            for (unsigned i = 0; i < 100; i++) {
                ok(pheap_alloc(txn, 40, &other));
                memset(pheap_ptr(txn, other), 0xee, 40);
            }
        }
        if (round >= 4) {
            ok(pheap_free(txn, block));
            ok(pheap_alloc(txn, LENGTH, &other));
            memset(pheap_ptr(txn, other), 0xff, LENGTH);
        }
        ok(pheap_abort(txn));
        check_block(heap, block, expected, LENGTH);
        check_block(heap, small, expected, 40);
        check_sound(heap);
    }
    ok(pheap_close(heap));
}

/* Catches: an abort that leaves a tracked store, also where it was declared later, or its block freed or used again. */
static void track__abort_undoes_all(void **state)
{
    (void)state;
    each_method(abort_undoes);
}

static void declared_and_tracked(enum method method)
{
    static uint8_t expected[LENGTH];
    pheap *heap = open_by(method, "mixed", 0);
    memset(expected, 1, sizeof expected);
    const uint64_t block = make_block(heap, LENGTH, 1);
    pheap_txn *txn = begin(heap);
    ok(pheap_fill(txn, block + 100, 2, 100)); /* declared before anything is tracked */
    ok(pheap_track(txn, block, 20000, NULL));
    bytes_at(txn, block)[104] = 3; /* a word declared before */
    bytes_at(txn, block)[19999] = 3;
    ok(pheap_fill(txn, block + 300, 4, 1)); /* stored to, then declared, then stored to */
    bytes_at(txn, block)[500] = 5;
    ok(pheap_edit(txn, block + 500, 1, NULL));
    ok(pheap_track_all(txn));
    bytes_at(txn, block)[90000] = 6;
    ok(pheap_commit(txn, PHEAP_LAZY, NULL));
    memset(expected + 100, 2, 100);
    expected[104] = expected[19999] = 3;
    expected[300] = 4;
    expected[500] = 5;
    expected[90000] = 6;
    check_block(heap, block, expected, LENGTH);
    ok(pheap_close(heap));
}

/* Catches: a change that is lost because the same word was declared after it, or before. */
static void track__goes_together_with_declarations(void **state)
{
    (void)state;
    each_method(declared_and_tracked);
}

/* ------------------------------------------------------------------------------------------------------- savepoints */

/* What is stored between two savepoints. */
static void store_level(uint8_t *bytes, uint8_t *more, unsigned level)
{
    bytes[0] = bytes[50000] = (uint8_t)(10 + level);
    bytes[1000 * level] = (uint8_t)(20 + level);
    more[level] = more[8999] = (uint8_t)(10 + level);
}

static void require_level(const uint8_t *bytes, const uint8_t *more, unsigned level)
{
    require_equal(bytes[99999], 1);
    require_equal(bytes[50000], 10 + level);
    require_equal(bytes[1000 * level], 20 + level);
    require_equal(more[8999], 10 + level);
    for (unsigned above = level + 1; above < 4; above++) {
        require_equal(bytes[1000 * above], 1);
        require_equal(more[above], 0);
    }
}

/* Down to the savepoint 1, another way up and down again, up as at first, and all the way down. */
static void roll_back_and_go_up_again(pheap_txn *txn, uint32_t savepoints[4], uint8_t *bytes, uint8_t *more)
{
    for (unsigned level = 4; level-- > 1;) {
        ok(pheap_rollback(txn, savepoints[level]));
        require_level(bytes, more, level);
    }
    bytes[2000] = 77;
    more[2] = 77;
    ok(pheap_savepoint(txn, &savepoints[2]));
    bytes[2000] = 78;
    bytes[4000] = 78;
    ok(pheap_savepoint(txn, &savepoints[3]));
    ok(pheap_rollback(txn, savepoints[2]));
    require_equal(bytes[2000], 77);
    require_equal(bytes[4000], 1);
    ok(pheap_rollback(txn, savepoints[1]));
    require_level(bytes, more, 1);
    for (unsigned level = 2; level < 4; level++) {
        store_level(bytes, more, level);
        ok(pheap_savepoint(txn, &savepoints[level]));
    }
    bytes[0] = bytes[99999] = more[8999] = 99;
    for (unsigned level = 4; level-- > 0;) {
        ok(pheap_rollback(txn, savepoints[level]));
        require_level(bytes, more, level);
    }
}

static void savepoints_nest(enum method method)
{
    static uint8_t expected[LENGTH];
    pheap *heap = open_by(method, "savepoints", 0);
    memset(expected, 1, sizeof expected);
    const uint64_t block = make_block(heap, LENGTH, 1);
    for (unsigned late = 0; late < 3; late++) { /* track from the start, after the first savepoint, after the second */
        uint32_t savepoints[4];
        uint64_t fresh;
        pheap_txn *txn = begin(heap);
        uint8_t *bytes = bytes_at(txn, block);
        ok(pheap_alloc(txn, 9000, &fresh));
        uint8_t *more = bytes_at(txn, fresh);
        memset(more, 0, 9000);
        for (unsigned level = 0; level < 4; level++) {
            if (level == late) {
                ok(pheap_track_all(txn));
            }
            if (level < late) {
                ok(pheap_edit(txn, block, LENGTH, NULL));
                ok(pheap_edit(txn, fresh, 9000, NULL));
            }
            store_level(bytes, more, level);
            ok(pheap_savepoint(txn, &savepoints[level]));
        }
        bytes[0] = bytes[99999] = more[8999] = 99;
        roll_back_and_go_up_again(txn, savepoints, bytes, more);
        bytes[7] = (uint8_t)(late + 30);
        ok(pheap_commit(txn, PHEAP_LAZY, NULL));
        expected[0] = 20;
        expected[50000] = 10;
        expected[7] = (uint8_t)(late + 30);
        check_block(heap, block, expected, LENGTH);
        txn = begin(heap);
        ok(pheap_free(txn, fresh));
        ok(pheap_commit(txn, PHEAP_LAZY, NULL));
    }
    check_sound(heap);
    ok(pheap_close(heap));
}

static void ranges_are_added_late(enum method method)
{
    pheap *heap = open_by(method, "late", 0);
    const uint64_t one = make_block(heap, LENGTH, 1), other = make_block(heap, LENGTH, 1);
    uint32_t first, second, third;
    pheap_txn *txn = begin(heap);
    uint8_t *bytes = bytes_at(txn, one), *more = bytes_at(txn, other);
    ok(pheap_fill(txn, other + 5000, 2, 1)); /* declared, in the first level */
    ok(pheap_savepoint(txn, &first));
    ok(pheap_track(txn, one, LENGTH, NULL));
    bytes[70000] = 3;
    ok(pheap_fill(txn, other + 5008, 3, 1));
    ok(pheap_track(txn, other, LENGTH, NULL)); /* with a store pending in the first range */
    more[5000] = more[9000] = 3;
    ok(pheap_savepoint(txn, &second));
    bytes[70001] = 4; /* in the word and page that were changed before the savepoint */
    more[5000] = more[5001] = 4;
    ok(pheap_savepoint(txn, &third));
    bytes[70000] = 5;
    ok(pheap_rollback(txn, third));
    require(bytes[70000] == 3 && bytes[70001] == 4 && more[5000] == 4);
    ok(pheap_rollback(txn, second));
    require(bytes[70000] == 3 && bytes[70001] == 1);
    require(more[5000] == 3 && more[5001] == 1 && more[5008] == 3 && more[9000] == 3);
    ok(pheap_rollback(txn, first));
    require(bytes[70000] == 1 && more[5000] == 2 && more[5008] == 1 && more[9000] == 1);
    more[9000] = 6;
    ok(pheap_rollback(txn, first));
    require(more[5000] == 2 && more[9000] == 1);
    ok(pheap_abort(txn));
    txn = begin(heap);
    require(more[5000] == 1 && more[9000] == 1 && bytes[70000] == 1);
    ok(pheap_abort(txn));
    ok(pheap_close(heap));
}

/* Catches: a range tracked within a savepoint that takes a wrong state for the savepoint's, or spoils that of another. */
static void track__ranges_may_be_added_late(void **state)
{
    (void)state;
    each_method(ranges_are_added_late);
}

/* Catches: a rollback to a wrong state of tracked bytes, whether they were tracked before the savepoint or only after. */
static void track__savepoints_nest(void **state)
{
    (void)state;
    each_method(savepoints_nest);
}

static void memory_runs_out(enum method method)
{
    static uint8_t expected[LENGTH];
    pheap *heap = open_by(method, "memory", 0);
    memset(expected, 1, sizeof expected);
    const uint64_t block = make_block(heap, LENGTH, 1);
    unsigned failures = 0;
    for (unsigned countdown = 1;; countdown++) {
        uint32_t savepoint;
        uint32_t other;
        pheap_txn *txn = begin_all(heap);
        for (unsigned at = 0; at < LENGTH; at += 500) {
            bytes_at(txn, block)[at] = expected[at] = (uint8_t)(countdown + 1);
        }
        const bool roll_back = countdown % 2 == 0;
        if (roll_back) {
            ok(pheap_savepoint(txn, &savepoint));
            memset(bytes_at(txn, block) + 1, 99, 50000);
        }
        resizes_left = countdown;
        enum pheap_status status = roll_back ? pheap_rollback(txn, savepoint) : pheap_savepoint(txn, &other);
        const bool failed = resizes_left == 0 || resizes_left > UINT32_MAX / 2;
        resizes_left = UINT32_MAX;
        if (status != PHEAP_OK) { /* nothing happened, and the next time it goes well */
            expect(PHEAP_NO_MEMORY, status);
            failures++;
            ok(roll_back ? pheap_rollback(txn, savepoint) : pheap_savepoint(txn, &other));
        }
        status = pheap_commit(txn, PHEAP_LAZY, NULL);
        if (status != PHEAP_OK) { /* the rollback was done, but what it needs for later could not be kept */
            require(failed && roll_back);
            expect(PHEAP_NO_MEMORY, status);
            pheap_read *reader = read_begin(heap, PHEAP_FRESH);
            memcpy(expected, pheap_read_ptr(reader, block), LENGTH);
            pheap_read_end(reader);
            require_equal(expected[0], countdown); /* of the transaction before */
        }
        check_block(heap, block, expected, LENGTH);
        if (!failed) {
            break;
        }
    }
    require(failures > 2);
    ok(pheap_close(heap));
}

/* Catches: stores that are forgotten because memory ran out while they were looked for. */
static void track__survives_lack_of_memory(void **state)
{
    (void)state;
    each_method(memory_runs_out);
}

/* Catches: a range forgotten when the list of them grows, or when all is tracked already. */
static void track__many_ranges(void **state)
{
    (void)state;
    enum { BLOCKS = 100 };
    uint64_t blocks[BLOCKS];
    pheap *heap = open_by(WATCHED, "many", 0);
    for (unsigned i = 0; i < BLOCKS; i++)
        blocks[i] = make_block(heap, 64, 1);
    for (unsigned round = 0; round < 2; round++) {
        pheap_txn *txn = begin(heap);
        if (round == 1)
            ok(pheap_track_all(txn));
        for (unsigned i = 0; i < BLOCKS; i += 2) {
            void *address;
            ok(pheap_track(txn, blocks[i], 64, &address));
            *(uint64_t *)address = 1000 * round + i;
        }
        ok(pheap_commit(txn, PHEAP_LAZY, NULL));
        pheap_read *reader = read_begin(heap, PHEAP_FRESH);
        for (unsigned i = 0; i < BLOCKS; i += 2)
            require_equal(*(const uint64_t *)pheap_read_ptr(reader, blocks[i]), 1000 * round + i);
        pheap_read_end(reader);
    }
    ok(pheap_close(heap));
}

/* --------------------------------------------------------------------------------------------------------- arguments */

/* Catches: a range that is not in one live block, an ended transaction, or a length of 0 that tracks something. */
static void track__refuses_bad_ranges(void **state)
{
    (void)state;
    pheap *heap = open_by(WATCHED, "bad", 0);
    const uint64_t block = make_block(heap, 1000, 1);
    uint64_t usable;
    void *address = NULL;
    require_equal(heap_info(heap).track_method, PHEAP_TRACK_UNUSED);
    pheap_txn *txn = begin(heap);
    ok(pheap_usable_size(txn, block, &usable));
    expect(PHEAP_BAD_OFFSET, pheap_track(txn, block, usable + 1, &address));
    expect(PHEAP_BAD_OFFSET, pheap_track(txn, block + 8, usable, &address));
    expect(PHEAP_BAD_OFFSET, pheap_track(txn, block, UINT64_MAX, &address));
    expect(PHEAP_BAD_OFFSET, pheap_track(txn, 8192, 8, &address));
    expect(PHEAP_BAD_OFFSET, pheap_track(txn, UINT64_C(1) << 60, 8, &address));
    require(address == NULL);
    require_equal(heap_info(heap).track_method, PHEAP_TRACK_UNUSED);
    ok(pheap_track(txn, block, 0, &address));
    require(address == pheap_ptr(txn, block));
    require_equal(heap_info(heap).track_method, PHEAP_TRACK_UNUSED);
    ok(pheap_track(txn, block, usable, NULL));
    ok(pheap_commit(txn, PHEAP_LAZY, NULL));
    expect(PHEAP_ENDED, pheap_track(txn, block, 1, NULL));
    expect(PHEAP_ENDED, pheap_track_all(txn));
    expect(PHEAP_INVALID, pheap_track_all(NULL));
    ok(pheap_close(heap));
}

static void over_budget(enum method method)
{
    enum { BIG = 4 << 20 };
    struct pheap_options options = small_options();
    options.budget_bytes = 1u << 20;
    options.log_limit_bytes = 64u << 20;
    options.buffer_bytes = 1u << 20;
    options.segment_bytes = 1u << 20;
    pheap *heap;
    ok((enum pheap_status)ph_open_io(&tables[method], path_of("budget", method_name(method)), PHEAP_CREATE, &options,
                                     &heap));
    uint64_t block;
    pheap_txn *txn = begin(heap);
    ok(pheap_zalloc(txn, BIG, &block));
    ok(pheap_commit(txn, PHEAP_LAZY, NULL));
    for (unsigned round = 0; round < 3; round++) {
        uint32_t savepoint;
        txn = begin_all(heap);
        memset(pheap_ptr(txn, block), 1, BIG);
        if (round == 0) {
            expect(PHEAP_TOO_BIG, pheap_commit(txn, PHEAP_LAZY, NULL));
        } else if (round == 1) {
            expect(PHEAP_TOO_BIG, pheap_savepoint(txn, &savepoint));
            ok(pheap_abort(txn));
        } else {
            ok(pheap_abort(txn));
        }
        txn = begin_all(heap);
        require_equal(bytes_at(txn, block)[BIG - 1], 0);
        bytes_at(txn, block)[round] = 0;
        ok(pheap_commit(txn, PHEAP_LAZY, NULL));
    }
    /* Much in many transactions is no trouble: the views are folded and dropped on the way. */
    for (unsigned at = 0; at < BIG; at += 64 * PAGE) {
        txn = begin_all(heap);
        memset(bytes_at(txn, block) + at, 5, 64 * PAGE);
        ok(pheap_commit(txn, PHEAP_LAZY, NULL));
    }
    require(heap_info(heap).private_bytes < 4u << 20);
    txn = begin(heap);
    for (unsigned at = 0; at < BIG; at += 100) {
        require_equal(bytes_at(txn, block)[at], 5);
    }
    ok(pheap_abort(txn));
    ok(pheap_close(heap));
}

/* Catches: more private memory than the budget, or a transaction beyond it that is half undone. */
static void budget__bounds_tracked_stores(void **state)
{
    (void)state;
    each_method(over_budget);
}

/* --------------------------------------------------------------------------------------------------------- processes */

static unsigned open_watches(void)
{
    unsigned count = 0;
    for (int file = 0; file < 200; file++) {
        char name[64], target[128] = "";
        (void)snprintf(name, sizeof name, "/proc/self/fd/%d", file);
        count += readlink(name, target, sizeof target - 1) > 0 && strstr(target, "userfaultfd") != NULL;
    }
    return count;
}

static uint64_t shared_block;

static void write_as_other(const struct peer *test, const char *path)
{
    require_equal(open_watches(), 0);
    pheap *heap = open_heap(path);
    peer_tell(test, 'o');
    for (uint64_t i = 0; i < 30; i++) {
        peer_hear(test, 'g');
        pheap_txn *txn = begin(heap);
        if (i % 2 == 0) {
            ok(pheap_track_all(txn));
        } else {
            ok(pheap_edit(txn, shared_block, LENGTH, NULL));
        }
        memset(bytes_at(txn, shared_block) + 50000, (int)i, 50000);
        ok(pheap_commit(txn, PHEAP_LAZY, NULL));
        peer_tell(test, 'd');
    }
    /* Die with tracked stores that were not committed. */
    peer_hear(test, 'g');
    memset(bytes_at(begin_all(heap), shared_block), 0xdd, LENGTH);
    peer_tell(test, 'd');
    (void)pause();
}

/*
 * Catches: replay of another's commits that counts as a change, a shadow that is behind, a descriptor that a child
 * inherits, tracked stores that survive their process.
 */
static void processes__share_and_die(void **state)
{
    (void)state;
    static uint8_t expected[LENGTH];
    const char *path = path_of("shared", "");
    pheap *heap = create_heap(path);
    memset(expected, 1, sizeof expected);
    shared_block = make_block(heap, LENGTH, 1);
    pheap_txn *txn = begin_all(heap);
    bytes_at(txn, shared_block)[0] = 1;
    ok(pheap_commit(txn, PHEAP_LAZY, NULL));
    struct peer other = peer_start(write_as_other, path);
    peer_hear(&other, 'o');
    for (unsigned i = 0; i < 30; i++) {
        peer_tell(&other, 'g');
        peer_hear(&other, 'd');
        memset(expected + 50000, (int)i, 50000);
        const uint64_t before = heap_info(heap).committed_lsn;
        txn = begin_all(heap);
        require(memcmp(pheap_ptr(txn, shared_block), expected, LENGTH) == 0);
        if (i % 3 != 0) {
            bytes_at(txn, shared_block)[i] = expected[i] = (uint8_t)(i + 100);
        }
        ok(pheap_commit(txn, PHEAP_LAZY, NULL));
        require(heap_info(heap).committed_lsn - before < (i % 3 == 0 ? 1 : 200));
    }
    peer_tell(&other, 'g');
    peer_hear(&other, 'd');
    peer_kill(&other);
    check_block(heap, shared_block, expected, LENGTH);
    txn = begin_all(heap);
    bytes_at(txn, shared_block)[99999] = expected[99999] = 42;
    ok(pheap_commit(txn, PHEAP_DURABLE, NULL));
    check_block(heap, shared_block, expected, LENGTH);
    ok(pheap_close(heap));
    require_equal(open_watches(), 0);
}

static void *store_and_die(void *heap)
{
    pheap_txn *txn = begin_all(heap);
    memset(bytes_at(txn, shared_block), 0xdd, LENGTH);
    return NULL;
}

static void thread_dies(enum method method)
{
    static uint8_t expected[LENGTH];
    pheap *heap = open_by(method, "thread", 0);
    memset(expected, 1, sizeof expected);
    shared_block = make_block(heap, LENGTH, 1);
    for (unsigned i = 0; i < 3; i++) {
        pthread_t thread;
        require(pthread_create(&thread, NULL, store_and_die, heap) == 0);
        require(pthread_join(thread, NULL) == 0);
        pheap_txn *txn = begin_all(heap);
        require(memcmp(pheap_ptr(txn, shared_block), expected, LENGTH) == 0);
        bytes_at(txn, shared_block)[i] = expected[i] = 7;
        ok(pheap_commit(txn, PHEAP_LAZY, NULL));
        check_block(heap, shared_block, expected, LENGTH);
    }
    ok(pheap_close(heap));
}

/* Catches: tracked stores of a dead thread that the next transaction commits, or its ranges that stay tracked. */
static void thread__dies_and_nothing_stays(void **state)
{
    (void)state;
    each_method(thread_dies);
}

/* ------------------------------------------------------------------------------------------------------------ random */

static void random_history(enum method method)
{
    for (uint64_t seed = 1; seed <= 6; seed++) {
        char name[32], why[400] = "";
        (void)snprintf(name, sizeof name, "random%llu", (unsigned long long)seed);
        const unsigned flags = seed % 3 == 0 ? PHEAP_VERIFY : 0;
        pheap *heap = open_by(method, name, flags);
        struct ph_history *history = ph_history_new(seed * 8191);
        ph_history_track(history);
        ph_history_limit(history, seed % 2 == 0 ? 12000 : 150000, seed % 2 == 0 ? 40000 : 400000);
        for (unsigned i = 0; i < 300; i++) {
            struct ph_step step;
            ph_history_step(history, heap, NULL, &step);
            if (step.first_failure != PHEAP_OK) {
                check_failed(__FILE__, __LINE__, "%s, seed %llu, transaction %u: %s: %s", method_name(method),
                             (unsigned long long)seed, i, pheap_status_name(step.first_failure), step.detail);
            }
            if (i % 50 == 49) {
                ok(pheap_close(heap));
                heap = open_by(method, name, flags);
            }
            if (i % 37 == 36) {
                ok(pheap_checkpoint(heap));
            }
            const uint64_t k = ph_history_committed(history);
            if (i % 5 == 0 && k > 0 && !ph_history_verify(history, heap, k, k, NULL, why, sizeof why)) {
                check_failed(__FILE__, __LINE__, "%s, seed %llu, transaction %u: %s", method_name(method),
                             (unsigned long long)seed, i, why);
            }
            ph_history_forget(history, k);
        }
        ph_history_free(history);
        ok(pheap_close(heap));
    }
}

/*
 * Catches: any difference from a plain model, in random transactions that store without declaring, declare, allocate,
 * free, resize, take savepoints within savepoints, roll back, abort, and begin to track at any of these points.
 */
static void random__is_as_the_model(void **state)
{
    (void)state;
    each_method(random_history);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(track__finds_every_store),       cmocka_unit_test(track__logs_only_what_changed),
        cmocka_unit_test(track__abort_undoes_all),        cmocka_unit_test(track__goes_together_with_declarations),
        cmocka_unit_test(track__savepoints_nest),         cmocka_unit_test(track__ranges_may_be_added_late),
        cmocka_unit_test(track__survives_lack_of_memory), cmocka_unit_test(track__many_ranges),
        cmocka_unit_test(track__survives_lack_of_memory), cmocka_unit_test(track__refuses_bad_ranges),
        cmocka_unit_test(budget__bounds_tracked_stores),  cmocka_unit_test(processes__share_and_die),
        cmocka_unit_test(thread__dies_and_nothing_stays), cmocka_unit_test(random__is_as_the_model),
    };
    choose_cases(argc, argv);
    return cmocka_run_group_tests_name("track", tests, prepare, remove_test_directory);
}
