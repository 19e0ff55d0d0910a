/* SPDX-License-Identifier: MIT */
/*
 * More changed pages than fold and recovery take into memory at a time: the work is done in parts, and every part of it.
 */
#include "tests/machine.h"

#define PAGE 4096u

static struct pheap_options large_options(void)
{
    struct pheap_options options = small_options();
    options.reserve_bytes = UINT64_C(2) << 30;
    options.budget_bytes = UINT64_C(2) << 30;
    options.log_limit_bytes = 64u << 20;
    options.segment_bytes = options.buffer_bytes = 1u << 20;
    return options;
}

static pheap *open_large(struct machine *machine, unsigned flags)
{
    const struct pheap_options options = large_options();
    pheap *heap;
    ok((enum pheap_status)ph_open_io(machine->first, HEAP, flags, &options, &heap));
    return heap;
}

/* A root block of so many pages, checkpointed; its pages are holes still. */
static uint64_t make_pages(pheap *heap, uint64_t pages)
{
    uint64_t block;
    pheap_txn *txn = begin(heap);
    ok(pheap_alloc(txn, pages * PAGE, &block));
    ok(pheap_set_root(txn, block));
    ok(pheap_commit(txn, PHEAP_LAZY, NULL));
    ok(pheap_checkpoint(heap));
    return block;
}

/* A word in each page. */
static uint64_t word_of(uint64_t page, uint64_t round)
{
    return page * 1000003 + round;
}

static void change_pages(pheap *heap, uint64_t block, uint64_t pages, uint64_t round)
{
    for (uint64_t page = 0; page < pages;) {
        pheap_txn *txn = begin(heap);
        for (uint64_t end = page + 2000; page < end && page < pages; page++) {
            uint64_t word = word_of(page, round);
            ok(pheap_write(txn, block + page * PAGE + page % 512 * 8, &word, sizeof word));
        }
        ok(pheap_commit(txn, PHEAP_LAZY, NULL));
    }
    ok(pheap_sync(heap));
}

static void require_pages_in_file(struct machine *machine, uint64_t block, uint64_t pages, uint64_t round)
{
    for (uint64_t page = 0; page < pages; page++) {
        uint64_t word;
        require_equal(ph_sim_peek(machine->sim, HEAP, &word, sizeof word, block + page * PAGE + page % 512 * 8), 8);
        require_equal(word, word_of(page, round));
    }
}

static struct block_watch {
    const ph_io *real;
    uint64_t at, pages, round;
    bool watched;
    uint64_t writes;
} watch;

/* No write may take a page of the block back to an older round. */
static int64_t write_newest(void *ctx, int file, const void *buffer, size_t length, uint64_t offset, unsigned flags)
{
    for (uint64_t at = offset & ~(uint64_t)(PAGE - 1); watch.watched && at < offset + length; at += PAGE) {
        const uint64_t page = (at - watch.at) / PAGE, place = at + page % 512 * 8;
        if (at < watch.at || page >= watch.pages || place < offset || place + 8 > offset + length)
            continue;
        uint64_t word;
        memcpy(&word, (const uint8_t *)buffer + (place - offset), sizeof word);
        require_equal(word, word_of(page, watch.round));
        watch.writes++;
    }
    return watch.real->write(ctx, file, buffer, length, offset, flags);
}

/* Catches (R7): pages that a sync of unknown end may have lost, and that are not all written again because they do not
 * fit in memory together; and (R3) that are written again in steps that go back in time, for views to see. */
static void fold__again_in_parts(void **state)
{
    (void)state;
    const uint64_t pages = 17408; /* 68 MiB */
    struct machine machine;
    machine_begin(&machine, NULL);
    watch = (struct block_watch){.real = machine.first};
    machine.second.write = write_newest;
    machine.first = &machine.second;
    pheap *heap = open_large(&machine, PHEAP_CREATE);
    uint64_t block = make_pages(heap, pages);
    change_pages(heap, block, pages, 1);
    change_pages(heap, block, pages, 2);
    ok(pheap_fold(heap));
    require_pages_in_file(&machine, block, pages, 2);
    /* What the disk has after the sync that failed: nothing of it. */
    uint8_t *zeros = calloc(pages, PAGE);
    require(zeros != NULL);
    require_equal(ph_sim_poke(machine.sim, HEAP, zeros, pages * PAGE, block), pages * PAGE);
    free(zeros);
    atomic_store(&heap->core->coord->sync_in_progress, 1);
    watch = (struct block_watch){.real = watch.real, .at = block, .pages = pages, .round = 2, .watched = true};
    ok(pheap_checkpoint(heap));
    watch.watched = false;
    require_equal(watch.writes, pages);
    require_pages_in_file(&machine, block, pages, 2);
    ok(pheap_close(heap));
    machine_end(&machine);
}

/* Catches: a recovery that forgets what it had gathered, or gathers only, where the log changes more than fits. */
static void recovery__of_more_than_fits_in_memory(void **state)
{
    (void)state;
    const uint64_t pages = 66048; /* 258 MiB */
    struct machine machine;
    machine_begin(&machine, NULL);
    pheap *heap = open_large(&machine, PHEAP_CREATE);
    uint64_t block = make_pages(heap, pages);
    change_pages(heap, block, pages, 1);
    change_pages(heap, block, 1000, 2);
    machine.first->free(machine.first->ctx, heap);
    ph_sim_kill(machine.sim);
    machine.first = ph_sim_io(machine.sim);
    heap = open_large(&machine, 0);
    require(heap_info(heap).recovered);
    pheap_read *reader = read_begin(heap, 0);
    const uint8_t *bytes = pheap_read_ptr(reader, block);
    for (uint64_t page = 0; page < pages; page++) {
        uint64_t word;
        memcpy(&word, bytes + page * PAGE + page % 512 * 8, sizeof word);
        require_equal(word, word_of(page, page < 1000 ? 2 : 1));
    }
    pheap_read_end(reader);
    check_sound(heap);
    ok(pheap_close(heap));
    machine_end(&machine);
}

int main(int argc, char **argv)
{
    choose_cases(argc, argv);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(fold__again_in_parts),
        cmocka_unit_test(recovery__of_more_than_fits_in_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
