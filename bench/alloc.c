/* SPDX-License-Identifier: MIT */
/*
 * What an allocation costs: free a random block of 100,000 live ones and allocate another, 16 to 1,024 bytes
 * log-uniform, in LAZY transactions of one such pair and of a hundred; malloc doing the same beside it, in alternating
 * slices.  Both sides keep the names of the blocks in an ordinary array and store eight bytes into each new block.
 *
 * Memory over live payload: what the allocator has taken (the heap's logical size; malloc's arenas and mappings)
 * divided by the sum of the lengths asked for, after all that churn.
 */
#define _GNU_SOURCE
#include "bench/bench.h"

#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define LIVE_BLOCKS 100000u
#define SLICES 10u
#define LOOK 2000u /* pairs between two looks at the clock */

struct block {
    uint64_t name; /* offset or address */
    uint64_t length;
};

struct side {
    struct block *blocks;
    uint64_t payload;
    uint64_t seed;
};

static void init_side(struct side *side)
{
    *side = (struct side){.blocks = bench_memory(LIVE_BLOCKS * sizeof *side->blocks), .seed = 42};
}

/* ------------------------------------------------------------------------------------------------- the two sides */

static void pheap_pair(pheap_txn *txn, struct side *side)
{
    struct block *block = &side->blocks[bench_random(&side->seed) % LIVE_BLOCKS];
    const uint64_t length = bench_random_length(&side->seed);
    bench_check(pheap_free(txn, block->name), "free");
    bench_check(pheap_alloc(txn, length, &block->name), "alloc");
    memcpy(pheap_ptr(txn, block->name), &length, sizeof length);
    side->payload += length - block->length;
    block->length = length;
}

static void malloc_pair(struct side *side)
{
    struct block *block = &side->blocks[bench_random(&side->seed) % LIVE_BLOCKS];
    const uint64_t length = bench_random_length(&side->seed);
    free((void *)(uintptr_t)block->name);
    void *memory = malloc(length);
    if (memory == NULL) {
        bench_die("out of memory");
    }
    memcpy(memory, &length, sizeof length);
    block->name = (uintptr_t)memory;
    side->payload += length - block->length;
    block->length = length;
}

static void fill_heap(pheap *heap, struct side *side)
{
    pheap_txn *txn = NULL;
    for (unsigned i = 0; i < LIVE_BLOCKS; i++) {
        if (i % 1000 == 0) {
            bench_check(pheap_begin(heap, &txn), "begin");
        }
        side->blocks[i].length = bench_random_length(&side->seed);
        side->payload += side->blocks[i].length;
        bench_check(pheap_alloc(txn, side->blocks[i].length, &side->blocks[i].name), "alloc");
        if (i % 1000 == 999) {
            bench_check(pheap_commit(txn, PHEAP_LAZY, NULL), "commit");
        }
    }
}

static void fill_malloc(struct side *side)
{
    for (unsigned i = 0; i < LIVE_BLOCKS; i++) {
        side->blocks[i].length = bench_random_length(&side->seed);
        side->payload += side->blocks[i].length;
        side->blocks[i].name = (uintptr_t)malloc(side->blocks[i].length);
    }
}

static uint64_t pairs_done;

/* Run pairs for `seconds`; the rate.  in_transaction 0: malloc. */
static double run_slice(pheap *heap, struct side *side, unsigned in_transaction, double seconds)
{
    const uint64_t start = bench_now_ns();
    const uint64_t until = start + (uint64_t)(seconds * 1e9);
    uint64_t pairs = 0;
    uint64_t now = start;
    while (now < until) {
        if (in_transaction == 0) {
            for (unsigned i = 0; i < LOOK; i++) {
                malloc_pair(side);
            }
        } else {
            for (unsigned i = 0; i < LOOK; i += in_transaction) {
                pheap_txn *txn;
                bench_check(pheap_begin(heap, &txn), "begin");
                for (unsigned j = 0; j < in_transaction; j++) {
                    pheap_pair(txn, side);
                }
                bench_check(pheap_commit(txn, PHEAP_LAZY, NULL), "commit");
            }
        }
        pairs += LOOK;
        now = bench_now_ns();
    }
    pairs_done += in_transaction == 0 ? 0 : pairs;
    return (double)pairs * 1e9 / (double)(now - start);
}

/* --------------------------------------------------------------------------------------------------- the figures */

static void measure(struct bench_report *report, pheap *heap, struct side *own, struct side *plain, unsigned batch,
                    double target)
{
    struct bench_samples rates = {0};
    struct bench_samples mallocs = {0};
    struct bench_samples ratios = {0};
    struct pheap_info before = {.size = sizeof before};
    struct pheap_info after = {.size = sizeof after};
    bench_check(pheap_get_info(heap, &before), "info");
    const uint64_t pairs_before = pairs_done;
    for (unsigned i = 0; i < report->options->repeat; i++) {
        double own_sum = 0;
        double plain_sum = 0;
        for (unsigned j = 0; j < SLICES; j++) {
            plain_sum += run_slice(heap, plain, 0, report->options->seconds / SLICES / 2);
            own_sum += run_slice(heap, own, batch, report->options->seconds / SLICES);
        }
        bench_add(&rates, own_sum / SLICES);
        bench_add(&mallocs, plain_sum / SLICES);
        bench_add(&ratios, own_sum / plain_sum);
    }
    bench_row_goal(report, bench_median(&rates), "/s", BENCH_AT_LEAST, target, "free+alloc pairs, %u a transaction",
                   batch);
    bench_check(pheap_get_info(heap, &after), "info");
    bench_row(report, (double)(after.committed_lsn - before.committed_lsn) / (double)(pairs_done - pairs_before),
              "bytes", "  log for each pair");
    bench_row(report, bench_median(&mallocs), "/s", "  free+malloc pairs beside it");
    bench_row(report, bench_median(&ratios), "x", "  rate over that of malloc");
    bench_clear(&rates);
    bench_clear(&mallocs);
    bench_clear(&ratios);
}

static double malloc_taken(void)
{
    const struct mallinfo2 info = mallinfo2();
    return (double)info.arena + (double)info.hblkhd;
}

int main(int argc, char **argv)
{
    struct bench_options options = {.dir = ".", .repeat = 3, .seconds = 2};
    bench_parse(&options, "the cost of allocations", argc, argv);
    static struct bench_report report;
    bench_report_init(&report, "alloc", &options);

    struct side own;
    struct side plain;
    init_side(&own);
    init_side(&plain);
    const double taken_before = malloc_taken();
    fill_malloc(&plain);
    const double malloc_filled = (malloc_taken() - taken_before) / (double)plain.payload;
    (void)run_slice(NULL, &plain, 0, 1); /* some ten million pairs */
    const double malloc_churned = (malloc_taken() - taken_before) / (double)plain.payload;
    pheap *heap;
    bench_check(pheap_open(bench_path(&options, "alloc.heap"), PHEAP_CREATE | PHEAP_EXCLUSIVE, NULL, &heap), "open");
    fill_heap(heap, &own);
    struct pheap_info info = {.size = sizeof info};
    bench_check(pheap_get_info(heap, &info), "info");
    const double filled = (double)info.heap_bytes / (double)own.payload;

    measure(&report, heap, &own, &plain, 1, 2e6);
    measure(&report, heap, &own, &plain, 100, 5e6);

    bench_check(pheap_get_info(heap, &info), "info");
    bench_row_goal(&report, (double)info.heap_bytes / (double)own.payload, "x", BENCH_AT_MOST, 1.15,
                   "heap over live payload, after the churn");
    bench_row(&report, filled, "x", "heap over live payload, freshly filled");
    bench_row(&report, malloc_churned, "x", "  malloc over live payload, after churn of its own");
    bench_row(&report, malloc_filled, "x", "  malloc over live payload, freshly filled");
    pheap_read *reader;
    struct pheap_space space = {.size = sizeof space};
    bench_check(pheap_read_begin(heap, PHEAP_FRESH, &reader), "read");
    bench_check(pheap_get_space(reader, &space, NULL, NULL), "space");
    bench_check(pheap_check(reader, NULL, NULL, NULL), "check");
    pheap_read_end(reader);
    bench_row(&report, (double)space.metadata_bytes / (double)space.heap_bytes * 100, "%", "metadata of the heap");
    bench_row(&report, ((double)space.live_bytes / (double)own.payload - 1) * 100, "%", "rounding up of live blocks");
    bench_check(pheap_close(heap), "close");
    bench_note(&report, "a pair frees one random block of 100,000 and allocates 16 to 1,024 bytes, log-uniform");
    return bench_report_finish(&report);
}
