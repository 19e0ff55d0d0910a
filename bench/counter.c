/* SPDX-License-Identifier: MIT */
/*
 * The same as `root["x"] += 1` in C, for the benchmark of the Python package, which runs both by turns.
 *
 *   counter HEAP          make HEAP; then for each line "lazy N" or "durable N" add 1 to root["x"] N times, each time in a
 *                         transaction of its own, and print the nanoseconds that it took
 *   counter HEAP BYTES    make HEAP with root["text"] at its front and a sparse block of so many bytes behind it
 */
#include "bench/bench.h"
#include "types/types.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

static void add(pheap *heap, enum pheap_durability how)
{
    pheap_txn *txn;
    struct pht t;
    struct pht_any x;
    pht_value value;
    bench_check(pheap_begin(heap, &txn), "begin");
    bench_check(pht_begin(txn, &t), "begin");
    bench_check(pht_map_get(&t, pht_root(&t), pht_text("x"), &value), "get");
    bench_check(pht_show(&t, &value, &x), "show");
    bench_check(pht_map_set(&t, pht_root(&t), pht_text("x"), pht_int(x.integer + 1)), "set");
    bench_check(pheap_commit(txn, how, NULL), "commit");
}

static void make(pheap *heap, uint64_t bytes)
{
    pheap_txn *txn;
    struct pht t;
    pht_value block;
    bench_check(pheap_begin(heap, &txn), "begin");
    bench_check(pht_begin(txn, &t), "begin");
    bench_check(pht_map_set(&t, pht_root(&t), pht_text("x"), pht_int(0)), "set");
    if (bytes > 0) {
        bench_check(pht_map_set(&t, pht_root(&t), pht_text("text"), pht_text("Foo")), "set");
        bench_check(pht_block_new(&t, bytes, &block), "block");
        bench_check(pht_map_set(&t, pht_root(&t), pht_text("block"), pht_of(block)), "set");
    }
    bench_check(pheap_commit(txn, PHEAP_DURABLE, NULL), "commit");
}

int main(int argc, char **argv)
{
    pheap *heap;
    char line[64], how[16];
    if (argc < 2 || argc > 3)
        bench_die("counter: one or two arguments, HEAP [BYTES]");
    bench_check(pheap_open(argv[1], PHEAP_CREATE | PHEAP_EXCLUSIVE, NULL, &heap), argv[1]);
    make(heap, argc == 3 ? strtoull(argv[2], NULL, 10) : 0);
    while (argc == 2 && fgets(line, sizeof line, stdin) != NULL) {
        uint64_t count;
        if (sscanf(line, "%15s %" SCNu64, how, &count) != 2)
            bench_die("counter: \"lazy N\" or \"durable N\" expected");
        const enum pheap_durability durability = strcmp(how, "durable") == 0 ? PHEAP_DURABLE : PHEAP_LAZY;
        const uint64_t from = bench_now_ns();
        for (uint64_t i = 0; i < count; i++)
            add(heap, durability);
        printf("%" PRIu64 "\n", bench_now_ns() - from);
        if (fflush(stdout) != 0)
            bench_die("counter: cannot write");
    }
    bench_check(pheap_close(heap), "close");
    return 0;
}
