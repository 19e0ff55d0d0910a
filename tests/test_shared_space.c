/* SPDX-License-Identifier: MIT */
/*
 * Address space and free space: processes that see the heap at different sizes, run short of addresses or file, or had
 * other bytes in what is free.
 */
#include "tests/machine.h"

#define WORDS 16384u

/* Catches: a heap that outgrew the address space of another process read, or written, beyond it. */
static void reserve__outgrown_by_another_process(void **state)
{
    (void)state;
    for (unsigned lapped = 0; lapped < 2; lapped++) {
        struct machine machine;
        machine_begin(&machine, NULL);
        pheap *first = machine_create(&machine, 0, WORDS), *second = NULL;
        struct pheap_options options = small_options();
        options.reserve_bytes = 1u << 20;
        ok((enum pheap_status)ph_open_io(&machine.second, HEAP, 0, &options, &second));
        require_equal(fresh_word(second, 0), 0);
        pheap_txn *txn = begin(first);
        uint64_t block;
        ok(pheap_alloc(txn, 8u << 20, &block));
        ok(pheap_write(txn, block + (7u << 20), "far away", 8));
        ok(pheap_commit(txn, PHEAP_DURABLE, NULL));
        for (unsigned i = 0; i < 300 && lapped != 0; i++) /* the second must begin with what is folded */
            commit_word(first, 0, i, PHEAP_LAZY);
        ok(pheap_checkpoint(first));
        pheap_read *reader;
        expect_detail(PHEAP_RESERVE, "reserved when it was opened here", pheap_read_begin(second, 0, &reader));
        expect_detail(PHEAP_RESERVE, "reserved when it was opened here", pheap_begin(second, &txn));
        commit_word(first, 0, 1, PHEAP_DURABLE); /* nothing is held by the one that failed */
        ok(pheap_close(second));
        second = machine_open(&machine.second, 0);
        reader = read_begin(second, 0);
        require(memcmp(pheap_read_ptr(reader, block + (7u << 20)), "far away", 8) == 0);
        pheap_read_end(reader);
        commit_word(second, 0, 2, PHEAP_LAZY);
        require_equal(fresh_word(first, 0), 2);
        machine_close(&machine, second, first);
    }
}

/* Catches: a search for address space that gives up before it has come down to the heap's size, or goes below it. */
static void reserve__short_of_what_was_asked(void **state)
{
    (void)state;
    struct machine machine;
    machine_begin(&machine, NULL);
    pheap *heap = machine_create(&machine, 0, WORDS);
    uint64_t heap_bytes = heap_info(heap).heap_bytes;
    ok(pheap_close(heap));
    struct pheap_options options = small_options();
    options.reserve_bytes = heap_bytes + heap_bytes / 2;
    /* The first mapping is that of the coordination file. */
    ph_sim_fail_at(machine.sim, PH_SIM_MAP, 2, ENOMEM, PH_SIM_FOREVER);
    expect_detail(PHEAP_NO_MEMORY, "no address space",
                  (enum pheap_status)ph_open_io(&machine.second, HEAP, 0, &options, &heap));
    ph_sim_fail_at(machine.sim, PH_SIM_MAP, 1, ENOMEM, PH_SIM_ONCE); /* which this process has kept */
    ok((enum pheap_status)ph_open_io(&machine.second, HEAP, 0, &options, &heap));
    require_equal(heap->core->read_views[0].view.reserve_bytes, heap_bytes);
    require_equal(heap->core->write_view.reserve_bytes, options.reserve_bytes);
    commit_spread(heap, WORDS, 10, PHEAP_LAZY);
    require_spread(heap, WORDS, 10);
    ok(pheap_close(heap));
    machine_end(&machine);
}

static const ph_io *sound;
static unsigned refusals;

static int64_t refuse_beyond(void *ctx, int file, const void *buffer, size_t length, uint64_t offset, unsigned flags)
{
    if (offset + length <= PH_LOG_SEGMENTS + 6 * UINT64_C(16384))
        return sound->write(ctx, file, buffer, length, offset, flags);
    refusals++;
    return -ENOSPC;
}

/* Catches: writers that are stopped because the log cannot grow, where recycling what is there would do (R11). */
static void log__cannot_grow_but_be_recycled(void **state)
{
    (void)state;
    struct machine machine;
    machine_begin(&machine, NULL);
    sound = machine.first;
    machine.second.write = refuse_beyond; /* the heap is smaller than that */
    pheap *first = machine_create(&machine, 0, 1024), *second = machine_open(&machine.second, 0);
    for (uint64_t i = 1; i < 5000; i++)
        commit_word(second, i % 1024, i, PHEAP_LAZY);
    ok(pheap_sync(second));
    require(refusals > 0 && heap_info(second).log_bytes <= PH_LOG_SEGMENTS + 6 * 16384);
    require_equal(fresh_word(first, 4999 % 1024), 4999);
    machine_close(&machine, second, first);
}

static const ph_io *roomy;
static unsigned private_maps;

static int no_room_for_the_fourth(void *ctx, int file, size_t length, unsigned flags, void **address)
{
    if ((flags & PH_MAP_PRIVATE) != 0 && ++private_maps == 4)
        return -ENOMEM;
    return roomy->map(ctx, file, length, flags, address);
}

/* Catches: verify mode that writes beyond the address space of its second view, which may have found less than the first. */
static void reserve__of_verify_mode_is_outgrown(void **state)
{
    (void)state;
    struct machine machine;
    machine_begin(&machine, &(struct ph_sim_options){.seed = 1, .touched = true});
    pheap *first = machine_create(&machine, 0, WORDS), *second;
    roomy = machine.first;
    private_maps = 0;
    machine.second.map = no_room_for_the_fourth; /* two read views, the write view, the shadow */
    struct pheap_options options = small_options();
    options.reserve_bytes = 4u << 20;
    ok((enum pheap_status)ph_open_io(&machine.second, HEAP, PHEAP_VERIFY, &options, &second));
    require(second->core->shadow_view.reserve_bytes < second->core->write_view.reserve_bytes);
    commit_word(second, 0, 1, PHEAP_LAZY);
    pheap_txn *txn = begin(second);
    uint64_t block;
    ok(pheap_alloc(txn, 2u << 20, &block));
    ok(pheap_fill(txn, block, 0x77, 2u << 20));
    expect_detail(PHEAP_RESERVE, "reserved when it was opened here", pheap_commit(txn, PHEAP_LAZY, NULL));
    commit_word(second, 0, 2, PHEAP_LAZY);
    require_equal(fresh_word(first, 0), 2);
    check_sound(first);
    machine_close(&machine, second, first);
}

/* Catches: verify mode that takes what another process committed for a store of this one.  Word 8192 is on a page that the
 * aborted transaction has made private in the write view alone. */
static void verify__not_confused_by_a_neighbour(void **state)
{
    (void)state;
    struct machine machine;
    machine_begin(&machine, &(struct ph_sim_options){.seed = 1, .touched = true});
    pheap *heap = machine_create(&machine, PHEAP_VERIFY, 16384), *second = machine_open(&machine.second, 0);
    commit_word(heap, 0, 1, PHEAP_LAZY);
    pheap_txn *txn = begin(heap);
    put_word(txn, 8192, 5);
    ok(pheap_abort(txn));
    commit_word(second, 8192, 7, PHEAP_LAZY);
    ok(pheap_fold(second));
    txn = begin(heap);
    require_equal(get_word(txn, 8192), 7);
    ok(pheap_abort(txn));
    machine_close(&machine, second, heap);
}

/* ------------------------------------------------------------------------------------------------------------- zeros */

#define CLEAR_BYTES (UINT64_C(1) << 18)

static int refuse_to_drop(void *ctx, void *address, size_t length)
{
    (void)ctx;
    (void)address;
    (void)length;
    return -ENOMEM;
}

/* `giver` gets zeros where `spoiler` has stored in a transaction that was aborted, or rolled back; the pages that it does
 * not store to are in no record. */
static void require_zeros(pheap *spoiler, pheap *giver, bool roll_back)
{
    uint64_t block;
    uint32_t savepoint;
    pheap_txn *txn = begin(spoiler);
    const uint64_t root = pheap_root(txn);
    ok(pheap_savepoint(txn, &savepoint));
    ok(pheap_alloc(txn, CLEAR_BYTES, &block));
    ok(pheap_fill(txn, block, 0xaa, CLEAR_BYTES));
    if (roll_back) {
        ok(pheap_rollback(txn, savepoint));
        put_word(txn, 0, 1);
        ok(pheap_commit(txn, PHEAP_LAZY, NULL));
    } else {
        ok(pheap_abort(txn));
    }
    txn = begin(giver);
    ok(pheap_zalloc(txn, CLEAR_BYTES, &block));
    ok(pheap_set_root(txn, block));
    ok(pheap_commit(txn, PHEAP_LAZY, NULL));
    txn = begin(spoiler);
    require_equal(pheap_root(txn), block);
    const unsigned char *bytes = pheap_ptr(txn, block);
    for (uint64_t i = 0; i < CLEAR_BYTES; i++)
        require_equal(bytes[i], 0);
    ok(pheap_free(txn, block));
    ok(pheap_set_root(txn, root));
    ok(pheap_commit(txn, PHEAP_LAZY, NULL));
}

/* Catches: what an aborted transaction stored beyond all that was ever allocated, shown by this process's write view when
 * another process has committed zeros there. */
static void zeros__of_another_process_after_an_abort(void **state)
{
    (void)state;
    for (unsigned i = 0; i < 8; i++) {
        struct machine machine;
        machine_begin(&machine, &(struct ph_sim_options){.seed = 1, .touched = true});
        pheap *giver = machine_create(&machine, 0, WORDS);
        pheap *spoiler = machine_open(&machine.second, (i & 1) != 0 ? PHEAP_VERIFY : 0);
        commit_spread(spoiler, WORDS, 1000, PHEAP_LAZY);
        if ((i & 2) != 0)
            machine.second.drop = refuse_to_drop;
        require_zeros(spoiler, giver, (i & 4) != 0);
        check_sound(giver);
        machine_close(&machine, giver, spoiler);
    }
}

/* Catches: verify mode that takes for a stray store what an aborted transaction, or one that freed its block again, stored
 * in free space, when another process has made a large block of it and stored nothing there. */
static void verify__not_confused_by_what_free_space_held(void **state)
{
    (void)state;
    for (unsigned aborted = 0; aborted < 2; aborted++) {
        struct machine machine;
        machine_begin(&machine, &(struct ph_sim_options){.seed = 1, .touched = true});
        pheap *giver = machine_create(&machine, 0, WORDS), *spoiler = machine_open(&machine.second, PHEAP_VERIFY);
        uint64_t block, guard, again;
        pheap_txn *txn = begin(giver);
        ok(pheap_alloc(txn, CLEAR_BYTES, &block));
        ok(pheap_alloc(txn, CLEAR_BYTES, &guard));
        ok(pheap_commit(txn, PHEAP_LAZY, NULL));
        txn = begin(giver);
        ok(pheap_free(txn, block));
        ok(pheap_commit(txn, PHEAP_LAZY, NULL));
        txn = begin(spoiler);
        ok(pheap_alloc(txn, CLEAR_BYTES, &again));
        require_equal(again, block);
        ok(pheap_fill(txn, again, 0xaa, CLEAR_BYTES));
        if (aborted != 0) {
            ok(pheap_abort(txn));
        } else {
            put_word(txn, 0, 5);
            ok(pheap_free(txn, again));
            ok(pheap_commit(txn, PHEAP_LAZY, NULL));
        }
        txn = begin(giver);
        ok(pheap_alloc(txn, CLEAR_BYTES, &again));
        require_equal(again, block);
        ok(pheap_commit(txn, PHEAP_LAZY, NULL));
        commit_word(spoiler, 0, 7, PHEAP_LAZY);
        machine_close(&machine, giver, spoiler);
    }
}

/* Catches: a page that is private again after it was dropped, and not counted towards the budget. */
static void view__counts_a_dropped_page_again(void **state)
{
    (void)state;
    struct machine machine;
    machine_begin(&machine, NULL);
    pheap *heap = machine_create(&machine, 0, WORDS);
    struct ph_view *view = &heap->core->write_view;
    const uint64_t page = UINT64_C(5) * PH_PAGE_BYTES, before = view->touched_bytes;
    ph_view_touch(view, page, 8);
    ph_view_touch(view, page + 8, 8);
    require_equal(view->touched_bytes, before + PH_PAGE_BYTES);
    require_equal(ph_view_drop(view, page, PH_PAGE_BYTES), PH_OK);
    ph_view_touch(view, page, 8);
    require_equal(view->touched_bytes, before + 2 * PH_PAGE_BYTES);
    view->current = false; /* its pages are not what they should be */
    ok(pheap_close(heap));
    machine_end(&machine);
}

/* Catches: figures of a file that could not be looked at, told as if they were true. */
static void info__of_a_file_that_cannot_be_looked_at(void **state)
{
    (void)state;
    struct machine machine;
    machine_begin(&machine, NULL);
    pheap *heap = machine_create(&machine, 0, 8);
    struct pheap_info info = {.size = sizeof info};
    ok(pheap_get_info(heap, &info));
    const uint64_t right = info.file_bytes;
    info = (struct pheap_info){.size = sizeof info};
    ph_sim_fail_at(machine.sim, PH_SIM_STAT, 1, EIO, PH_SIM_ONCE);
    expect_detail(PHEAP_IO, HEAP, pheap_get_info(heap, &info));
    require_equal(ph_sim_struck(machine.sim), 1);
    require_equal(info.file_bytes, 0);
    ok(pheap_get_info(heap, &info));
    require(info.file_bytes == right && right > 0);
    ok(pheap_close(heap));
    expect(PHEAP_INVALID, pheap_sync(NULL));
    heap = machine_open(machine.first, PHEAP_READONLY);
    expect(PHEAP_READ_ONLY, pheap_sync(heap));
    ok(pheap_close(heap));
    machine_end(&machine);
}

int main(int argc, char **argv)
{
    choose_cases(argc, argv);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(reserve__outgrown_by_another_process),
        cmocka_unit_test(reserve__short_of_what_was_asked),
        cmocka_unit_test(log__cannot_grow_but_be_recycled),
        cmocka_unit_test(reserve__of_verify_mode_is_outgrown),
        cmocka_unit_test(verify__not_confused_by_a_neighbour),
        cmocka_unit_test(zeros__of_another_process_after_an_abort),
        cmocka_unit_test(verify__not_confused_by_what_free_space_held),
        cmocka_unit_test(view__counts_a_dropped_page_again),
        cmocka_unit_test(info__of_a_file_that_cannot_be_looked_at),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
