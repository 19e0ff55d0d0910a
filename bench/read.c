/* SPDX-License-Identifier: MIT */
/*
 * What reading costs: random 64-byte reads through the plain pointers of a read transaction, against the same reads of
 * the same bytes in plain memory of the same size (an anonymous mapping in 4 KiB pages, as a heap is mapped: large
 * pages would measure the translation cache, not the library).  Both sides are touched first, page by page.
 *
 *   independent   the addresses are known beforehand, so that the processor overlaps the reads
 *   dependent     each read says where the next one goes
 *
 * Then the cost of beginning and ending a read transaction when nothing has changed since the last one.
 */
#define _GNU_SOURCE
#include "bench/bench.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#define CELL_BYTES 64u
#define SLICES 10u
#define READS 400000u /* in each slice */

static volatile uint64_t sink;

/* --------------------------------------------------------------------------------------------------- the content */

static void fill_cells(unsigned char *bytes, uint64_t from, uint64_t length)
{
    for (uint64_t i = 0; i < length; i += sizeof(uint64_t)) {
        uint64_t seed = from + i;
        const uint64_t value = bench_random(&seed);
        memcpy(bytes + i, &value, sizeof value);
    }
}

static void make_heap(const char *path, uint64_t size)
{
    const struct pheap_options settings = {.size = sizeof settings, .log_limit_bytes = 256u << 20};
    const uint64_t chunk = 1u << 20;
    unsigned char *buffer = bench_memory(chunk);
    pheap *heap;
    pheap_txn *txn;
    uint64_t block;
    bench_check(pheap_open(path, PHEAP_CREATE | PHEAP_EXCLUSIVE, &settings, &heap), "open");
    bench_check(pheap_begin(heap, &txn), "begin");
    bench_check(pheap_zalloc(txn, size, &block), "alloc");
    bench_check(pheap_set_root(txn, block), "set root");
    bench_check(pheap_commit(txn, PHEAP_LAZY, NULL), "commit");
    for (uint64_t done = 0; done < size; done += chunk) {
        fill_cells(buffer, done, chunk);
        bench_check(pheap_begin(heap, &txn), "begin");
        bench_check(pheap_write(txn, block + done, buffer, chunk), "write");
        bench_check(pheap_commit(txn, PHEAP_LAZY, NULL), "commit");
    }
    bench_check(pheap_close(heap), "close");
    free(buffer);
}

static unsigned char *make_memory(uint64_t size)
{
    unsigned char *memory = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED) {
        bench_die("no memory for a plain copy of %llu bytes", (unsigned long long)size);
    }
    madvise(memory, size, MADV_NOHUGEPAGE);
    fill_cells(memory, 0, size);
    return memory;
}

static void touch(const unsigned char *bytes, uint64_t size)
{
    uint64_t sum = 0;
    for (uint64_t i = 0; i < size; i += 4096) {
        sum += bytes[i];
    }
    sink = sum;
}

/* ----------------------------------------------------------------------------------------------------- the reads */

static inline uint64_t read_cell(const unsigned char *cell)
{
    uint64_t words[CELL_BYTES / sizeof(uint64_t)];
    memcpy(words, cell, sizeof words);
    uint64_t sum = 0;
    for (unsigned i = 0; i < sizeof words / sizeof words[0]; i++) {
        sum ^= words[i];
    }
    return sum;
}

/* Nanoseconds for one read. */
static double read_independent(const unsigned char *bytes, uint64_t cells, uint64_t *seed)
{
    uint64_t sum = 0;
    const uint64_t start = bench_now_ns();
    for (unsigned i = 0; i < READS; i++) {
        sum ^= read_cell(bytes + (bench_random(seed) & (cells - 1)) * CELL_BYTES);
    }
    const uint64_t end = bench_now_ns();
    sink = sum;
    return (double)(end - start) / READS;
}

static double read_dependent(const unsigned char *bytes, uint64_t cells, uint64_t *seed)
{
    uint64_t sum = *seed;
    const uint64_t start = bench_now_ns();
    for (unsigned i = 0; i < READS / 4; i++) {
        sum = bench_random(&sum) ^ read_cell(bytes + (sum & (cells - 1)) * CELL_BYTES);
    }
    const uint64_t end = bench_now_ns();
    *seed = sum;
    sink = sum;
    return (double)(end - start) / (READS / 4);
}

typedef double (*read_function)(const unsigned char *bytes, uint64_t cells, uint64_t *seed);

static void measure(struct bench_report *report, const char *what, read_function function, const unsigned char *own,
                    const unsigned char *plain, uint64_t size)
{
    struct bench_samples owns = {0};
    struct bench_samples plains = {0};
    struct bench_samples ratios = {0};
    uint64_t own_seed = 7;
    uint64_t plain_seed = 7;
    for (unsigned i = 0; i < report->options->repeat; i++) {
        struct bench_samples own_slices = {0};
        struct bench_samples plain_slices = {0};
        for (unsigned j = 0; j < SLICES; j++) {
            bench_add(&plain_slices, function(plain, size / CELL_BYTES, &plain_seed));
            bench_add(&own_slices, function(own, size / CELL_BYTES, &own_seed));
        }
        bench_add(&owns, bench_median(&own_slices));
        bench_add(&plains, bench_median(&plain_slices));
        bench_add(&ratios, bench_median(&own_slices) / bench_median(&plain_slices));
        bench_clear(&own_slices);
        bench_clear(&plain_slices);
    }
    bench_row(report, bench_median(&owns), "ns", "random 64-byte read in a read transaction, %s", what);
    bench_row(report, bench_median(&plains), "ns", "  the same in plain memory");
    bench_row_goal(report, bench_median(&ratios), "x", BENCH_AT_MOST, 1.05, "  heap over plain memory, %s", what);
    bench_clear(&owns);
    bench_clear(&plains);
    bench_clear(&ratios);
}

/* --------------------------------------------------------------------------------------------- the transaction */

#define TRANSACTIONS 200000u

static void measure_transactions(struct bench_report *report, pheap *heap, const char *what)
{
    struct bench_samples samples = {0};
    for (unsigned i = 0; i < report->options->repeat * SLICES; i++) {
        const uint64_t start = bench_now_ns();
        uint64_t sum = 0;
        for (unsigned j = 0; j < TRANSACTIONS; j++) {
            pheap_read *reader;
            bench_check(pheap_read_begin(heap, 0, &reader), "read");
            sum += pheap_read_version(reader);
            pheap_read_end(reader);
        }
        sink = sum;
        bench_add(&samples, (double)(bench_now_ns() - start) / TRANSACTIONS);
    }
    bench_row_goal(report, bench_median(&samples), "ns", BENCH_AT_MOST, 50, "begin and end of a read transaction, %s",
                   what);
    bench_clear(&samples);
}

int main(int argc, char **argv)
{
    struct bench_options options = {.dir = ".", .repeat = 5, .seconds = 1, .size_bytes = 1u << 30};
    bench_parse(&options, "the cost of reads", argc, argv);
    uint64_t size = 1u << 20;
    while (size * 2 <= options.size_bytes) {
        size *= 2;
    }
    static struct bench_report report;
    bench_report_init(&report, "read", &options);
    const char *path = bench_path(&options, "read.heap");
    make_heap(path, size);
    unsigned char *plain = make_memory(size);

    pheap *heap;
    pheap_read *reader;
    const void *own;
    bench_check(pheap_open(path, 0, NULL, &heap), "open");
    bench_check(pheap_read_begin(heap, 0, &reader), "read");
    bench_check(pheap_read_range(reader, pheap_read_root(reader), size, &own), "range");
    touch(own, size);
    touch(plain, size);
    if (memcmp(own, plain, size) != 0) {
        bench_die("the heap does not hold what was written to it");
    }
    measure(&report, "independent", read_independent, own, plain, size);
    measure(&report, "dependent", read_dependent, own, plain, size);
    measure_transactions(&report, heap, "another one open");
    pheap_read_end(reader);
    measure_transactions(&report, heap, "nothing changed");
    bench_check(pheap_close(heap), "close");
    munmap(plain, size);
    bench_note(&report, "%llu MiB of one block, in the page cache, against an anonymous mapping in 4 KiB pages",
               (unsigned long long)(size >> 20));
    return bench_report_finish(&report);
}
