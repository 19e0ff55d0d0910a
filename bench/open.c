/* SPDX-License-Identifier: MIT */
/*
 * What opening and closing costs after a clean close: a heap of 1 TB (--size) that is one sparse block and some small
 * ones around it, and a small heap beside it.  Opening must not depend on the size.
 *
 * The file is sparse: it needs a file system that takes files of that length, but hardly any space.
 */
#define _GNU_SOURCE
#include "bench/bench.h"

#include <stdio.h>
#include <string.h>

#define OPENS 25u /* in each repetition */

static void make_heap(const char *path, uint64_t size)
{
    const struct pheap_options settings = {.size = sizeof settings, .reserve_bytes = size * 2 + (64u << 20)};
    pheap *heap;
    pheap_txn *txn;
    uint64_t block;
    bench_check(pheap_open(path, PHEAP_CREATE | PHEAP_EXCLUSIVE, &settings, &heap), "create");
    bench_check(pheap_begin(heap, &txn), "begin");
    for (unsigned i = 0; i < 2000; i++) {
        bench_check(pheap_zalloc(txn, 16 + i, &block), "alloc");
        if (i == 1000) {
            bench_check(pheap_zalloc(txn, size, &block), "alloc of the large block");
            bench_check(pheap_fill(txn, block + size - 64, 1, 64), "fill");
            bench_check(pheap_set_root(txn, block), "set root");
        }
    }
    bench_check(pheap_commit(txn, PHEAP_DURABLE, NULL), "commit");
    bench_check(pheap_close(heap), "close");
}

static void measure(struct bench_report *report, const char *path, const char *what, double target_ms)
{
    struct bench_samples opens = {0};
    struct bench_samples reads = {0};
    struct bench_samples closes = {0};
    for (unsigned i = 0; i < report->options->repeat * OPENS; i++) {
        pheap *heap;
        pheap_read *reader;
        struct pheap_info info = {.size = sizeof info};
        const uint64_t start = bench_now_ns();
        bench_check(pheap_open(path, 0, NULL, &heap), "open");
        const uint64_t opened = bench_now_ns();
        bench_check(pheap_read_begin(heap, 0, &reader), "read");
        if (pheap_read_root(reader) == 0) {
            bench_die("the heap has lost its root");
        }
        pheap_read_end(reader);
        const uint64_t read = bench_now_ns();
        if (i == 0) {
            bench_check(pheap_get_info(heap, &info), "info");
            if (info.recovered != 0) {
                bench_die("a cleanly closed heap had to recover");
            }
        }
        const uint64_t closing = bench_now_ns();
        bench_check(pheap_close(heap), "close");
        bench_add(&opens, (double)(opened - start) / 1e6);
        bench_add(&reads, (double)(read - opened) / 1e6);
        bench_add(&closes, (double)(bench_now_ns() - closing) / 1e6);
    }
    bench_row_goal(report, bench_median(&opens), "ms", BENCH_AT_MOST, target_ms, "open of a cleanly closed heap of %s",
                   what);
    bench_row(report, bench_percentile(&opens, 99), "ms", "  p99");
    bench_row(report, bench_median(&reads), "ms", "  first read transaction");
    bench_row(report, bench_median(&closes), "ms", "  close, nothing changed");
    bench_clear(&opens);
    bench_clear(&reads);
    bench_clear(&closes);
}

int main(int argc, char **argv)
{
    struct bench_options options = {.dir = ".", .repeat = 5, .seconds = 1, .size_bytes = (uint64_t)1 << 40};
    bench_parse(&options, "the time to open a cleanly closed heap", argc, argv);
    static struct bench_report report;
    bench_report_init(&report, "open", &options);
    const char *small = bench_path(&options, "small.heap");
    make_heap(small, 1u << 20);
    measure(&report, small, "1 MiB", 2);
    const char *large = bench_path(&options, "large.heap");
    make_heap(large, options.size_bytes);
    char what[48];
    snprintf(what, sizeof what, "%llu GiB, sparse", (unsigned long long)(options.size_bytes >> 30));
    measure(&report, large, what, 2);
    return bench_report_finish(&report);
}
