/* SPDX-License-Identifier: MIT */
/* Fold: by way of what was gathered from the shared buffer, and what a fold set writes. */
#include "tests/machine.h"

enum { WORDS = 4096 };

/* Commits of one word each: enough to lap the buffer of small_options(), far too little to fill the log. */
static void commit_round(pheap *heap, uint64_t round, uint64_t count)
{
    for (uint64_t i = 0; i < count; i++) {
        commit_word(heap, i * 37 % WORDS, round << 32 | i, PHEAP_LAZY);
    }
}

static void expect_round(pheap *heap, uint64_t round, uint64_t count)
{
    pheap_read *reader = read_begin(heap, PHEAP_FRESH);
    for (uint64_t i = 0; i < count; i++) {
        require_equal(read_word(reader, i * 37 % WORDS), round << 32 | i);
    }
    pheap_read_end(reader);
}

/* Catches: a fold that reads the log although all of it was gathered: here there is none left to read. */
static void gather__fold_needs_no_log(void **state)
{
    (void)state;
    const char *path = path_of("no-log", "");
    pheap *heap = create_heap(path);
    (void)make_root(heap, WORDS);
    ok(pheap_checkpoint(heap));
    commit_round(heap, 1, 600);
    ok(pheap_sync(heap));
    require(heap_info(heap).committed_lsn - heap_info(heap).folded_lsn > 2 * small_options().buffer_bytes);
    static const char zeros[200 << 10];
    write_at(path_of("no-log", "-wal"), PH_LOG_SEGMENTS, zeros, sizeof zeros);
    ok(pheap_fold(heap));
    require_equal(heap_info(heap).folded_lsn, heap_info(heap).committed_lsn);
    expect_round(heap, 1, 600);
    ok(pheap_close(heap));
    heap = open_heap(path);
    expect_round(heap, 1, 600);
    ok(pheap_close(heap));
}

/* Catches: a fold of what was gathered beyond a reader's pin (R3), which the reader's untouched pages would show. */
static void gather__does_not_fold_past_a_pin(void **state)
{
    (void)state;
    pheap *heap = create_heap(path_of("pin", ""));
    (void)make_root(heap, WORDS);
    commit_round(heap, 1, 300);
    ok(pheap_checkpoint(heap));
    commit_word(heap, WORDS - 1, 77, PHEAP_LAZY); /* gathering begins here, before the pin */
    pheap_read *reader = read_begin(heap, 0);
    const uint64_t pinned = heap_info(heap).committed_lsn;
    commit_round(heap, 2, 300);
    ok(pheap_fold(heap));
    require(heap_info(heap).folded_lsn <= pinned);
    for (uint64_t i = 0; i < 300; i++) {
        require_equal(read_word(reader, i * 37 % WORDS), UINT64_C(1) << 32 | i);
    }
    pheap_read_end(reader);
    ok(pheap_fold(heap));
    require_equal(heap_info(heap).folded_lsn, heap_info(heap).committed_lsn);
    expect_round(heap, 2, 300);
    ok(pheap_close(heap));
}

static void recycle_log(const struct peer *test, const char *path)
{
    pheap *heap = open_heap(path);
    for (uint64_t round = 2; round < 12; round++) {
        commit_round(heap, round, 600);
        ok(pheap_checkpoint(heap));
    }
    commit_word(heap, WORDS - 1, 77, PHEAP_LAZY);
    peer_tell(test, 'd');
    peer_hear(test, 'x');
    ok(pheap_close(heap));
}

/* Catches: a process that goes on from what it had gathered before another one folded and recycled that log. */
static void gather__overtaken_by_another_process(void **state)
{
    (void)state;
    const char *path = path_of("overtaken", "");
    pheap *heap = create_heap(path);
    (void)make_root(heap, WORDS);
    ok(pheap_checkpoint(heap));
    commit_round(heap, 1, 300);
    struct peer child = peer_start(recycle_log, path);
    peer_hear(&child, 'd');
    ok(pheap_fold(heap));
    require_equal(heap_info(heap).folded_lsn, heap_info(heap).committed_lsn);
    require_equal(fresh_word(heap, WORDS - 1), 77);
    expect_round(heap, 11, 600);
    peer_tell(&child, 'x');
    peer_join(&child);
    ok(pheap_close(heap));
}

enum { PAGES = 20000, WORDS_PER_PAGE = 512 };

static void touch_many_pages(const struct peer *test, const char *path)
{
    pheap *heap = open_heap(path);
    pheap_txn *txn = begin(heap);
    for (uint64_t i = 0; i < PAGES; i++) {
        put_word(txn, i * WORDS_PER_PAGE, i + 1);
    }
    ok(pheap_commit(txn, PHEAP_LAZY, NULL));
    peer_tell(test, 'd');
    peer_hear(test, 'x');
    ok(pheap_close(heap));
}

/* Catches: a fold that begins with gathered pages and fails when the rest of the log changes more pages than images fit
 * in memory. */
static void gather__more_pages_than_fit_follow(void **state)
{
    (void)state;
    const char *path = path_of("many-pages", "");
    const struct pheap_options options = {.size = sizeof options, .reserve_bytes = 1u << 30};
    pheap *heap;
    ok(pheap_open(path, PHEAP_CREATE | PHEAP_EXCLUSIVE, &options, &heap));
    (void)make_root(heap, (uint64_t)PAGES * WORDS_PER_PAGE); /* the first commit is gathered at once */
    struct peer child = peer_start(touch_many_pages, path);
    peer_hear(&child, 'd');
    ok(pheap_fold(heap));
    require_equal(heap_info(heap).folded_lsn, heap_info(heap).committed_lsn);
    pheap_read *reader = read_begin(heap, PHEAP_FRESH);
    for (uint64_t i = 0; i < PAGES; i++) {
        require_equal(read_word(reader, i * WORDS_PER_PAGE), i + 1);
    }
    pheap_read_end(reader);
    peer_tell(&child, 'x');
    peer_join(&child);
    ok(pheap_close(heap));
}

/* Catches: a large part of an operation that overtakes a small one before it, which waits in the fold set's queue; and the
 * other way round. */
static void fold__keeps_the_order_of_small_and_large(void **state)
{
    (void)state;
    const char *path = path_of("small-large", "");
    pheap *heap = create_heap(path);
    (void)make_root(heap, WORDS);
    ok(pheap_checkpoint(heap));
    uint64_t large[64];
    for (uint64_t i = 0; i < 64; i++)
        large[i] = 1000 + i;
    commit_word(heap, 7, 1, PHEAP_LAZY);
    commit_word(heap, 9, 2, PHEAP_LAZY);
    pheap_txn *txn = begin(heap);
    ok(pheap_write(txn, pheap_root(txn), large, sizeof large));
    ok(pheap_commit(txn, PHEAP_LAZY, NULL));
    commit_word(heap, 9, 3, PHEAP_LAZY);
    ok(pheap_close(heap));
    heap = open_heap(path);
    pheap_read *reader = read_begin(heap, PHEAP_FRESH);
    for (uint64_t i = 0; i < 64; i++) {
        require_equal(read_word(reader, i), i == 9 ? 3 : 1000 + i);
    }
    pheap_read_end(reader);
    ok(pheap_close(heap));
}

static uint64_t paced_to;

static int watch_pace(void *ctx, int file, uint64_t offset, uint64_t length)
{
    (void)ctx;
    (void)file;
    require(length > 0 && length <= UINT64_MAX - offset);
    paced_to = offset + length;
    return 0;
}

/* Catches: write-back that is not started, because the set was written in two goes and the second began further to the
 * front than the first ended. */
static void fold__paces_a_set_that_goes_back(void **state)
{
    (void)state;
    struct machine machine;
    struct ph_file file;
    struct ph_fold_set *set;
    machine_begin(&machine, NULL);
    machine.second.start_writeback = watch_pace;
    require_equal(ph_file_open(&file, &machine.second, HEAP, PH_OPEN_WRITE | PH_OPEN_CREATE, 0600), PH_OK);
    require_equal(ph_fold_set_init(&set, &file, UINT64_MAX, 0, 0), PH_OK);
    paced_to = 0;
    struct ph_operation fill = {.kind = PH_OPERATION_FILL, .length = 65536, .value = 5};
    for (fill.offset = 32u << 20; fill.offset < 33u << 20; fill.offset += fill.length)
        require_equal(ph_fold_set_apply(set, &fill), PH_OK);
    require_equal(ph_fold_set_write(set), PH_OK);
    for (fill.offset = 1u << 20; fill.offset < 6u << 20; fill.offset += fill.length)
        require_equal(ph_fold_set_apply(set, &fill), PH_OK);
    require_equal(ph_fold_set_write(set), PH_OK);
    require(paced_to > 5u << 20 && paced_to <= 6u << 20);
    ph_fold_set_deinit(set);
    ph_file_close(&file);
    machine_end(&machine);
}

static uint64_t newest_generation(const char *path)
{
    struct ph_superblock copies[2];
    for (unsigned i = 0; i < 2; i++)
        read_at(path, PH_SUPERBLOCK_OFFSET(i), &copies[i], sizeof copies[i]);
    return copies[0].generation > copies[1].generation ? copies[0].generation : copies[1].generation;
}

/* Catches: a fold on the way that costs a durable write, though later flushes vouch for what it folds, or could. */
static void gather__folds_what_is_vouched_for(void **state)
{
    (void)state;
    const char *path = path_of("vouched", "");
    const struct pheap_options options = {.size = sizeof options, .reserve_bytes = 1u << 30, .buffer_bytes = 1u << 18};
    pheap *heap;
    ok(pheap_open(path, PHEAP_CREATE | PHEAP_EXCLUSIVE, &options, &heap));
    (void)make_root(heap, (uint64_t)PAGES * WORDS_PER_PAGE);
    ok(pheap_checkpoint(heap));
    const uint64_t generation = newest_generation(path), checkpoint = heap_info(heap).checkpoint_lsn;
    for (uint64_t i = 0; i < PAGES && heap_info(heap).folded_lsn == checkpoint; i++) {
        commit_word(heap, i * WORDS_PER_PAGE, i + 1, PHEAP_LAZY);
    }
    require(heap_info(heap).folded_lsn > checkpoint);
    require_equal(heap_info(heap).checkpoint_lsn, checkpoint);
    require_equal(newest_generation(path), generation);
    ok(pheap_fold(heap)); /* the same where nothing vouches yet */
    require_equal(heap_info(heap).folded_lsn, heap_info(heap).committed_lsn);
    require_equal(newest_generation(path), generation + 1);
    ok(pheap_close(heap));
}

int main(int argc, char **argv)
{
    choose_cases(argc, argv);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(gather__fold_needs_no_log),
        cmocka_unit_test(gather__does_not_fold_past_a_pin),
        cmocka_unit_test(gather__overtaken_by_another_process),
        cmocka_unit_test(gather__more_pages_than_fit_follow),
        cmocka_unit_test(fold__keeps_the_order_of_small_and_large),
        cmocka_unit_test(fold__paces_a_set_that_goes_back),
        cmocka_unit_test(gather__folds_what_is_vouched_for),
    };
    return cmocka_run_group_tests(tests, make_test_directory, remove_test_directory);
}
