/* SPDX-License-Identifier: MIT */
/*
 * What a commit costs.
 *
 *   lazy       one change of 100 bytes among 100,000 hot records a transaction, PHEAP_LAZY, by 1..n threads
 *   durable    the same, PHEAP_DURABLE, against a bare loop of 512-byte O_DIRECT|RWF_DSYNC overwrites of a zero-filled
 *              file in the same directory, in alternating slices of the same run
 *   batch      1,000 records a transaction, both ways; durable against bare writes of as many bytes as were logged
 *
 * Each record is 100 bytes and every byte of it changes, so that the log carries all of it.  --size is that of all
 * records.
 */
#define _GNU_SOURCE
#include "bench/bench.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/uio.h>
#include <unistd.h>

#define SIZE_DEFAULT 10000000u /* bytes of all records: --size */
#define RECORD_BYTES 100u
#define SLICES 10u       /* of each kind in a repetition */
#define LAZY_BATCH 1000u /* commits between two looks at the clock */
#define FLOOR_FILE_BYTES (8u << 20)

static uint64_t *records;
static unsigned record_count;

static pheap *make_heap(const char *path, const struct bench_options *options)
{
    const struct pheap_options how = {.size = sizeof how, .checksums = options->checksums};
    pheap *heap;
    record_count = (unsigned)((options->size_bytes != 0 ? options->size_bytes : SIZE_DEFAULT) / RECORD_BYTES);
    records = bench_memory(record_count * sizeof *records);
    bench_check(pheap_open(path, PHEAP_CREATE | PHEAP_EXCLUSIVE, &how, &heap), "open");
    bench_make_records(heap, records, record_count, RECORD_BYTES);
    bench_check(pheap_checkpoint(heap), "checkpoint");
    return heap;
}

/* Change one record wholly: every 8-byte word gets a value it did not have. */
static inline void change_record(pheap_txn *txn, uint64_t *seed)
{
    const uint64_t value = bench_random(seed);
    void *address;
    bench_check(pheap_edit(txn, records[value % record_count], RECORD_BYTES, &address), "edit");
    bench_stamp(address, RECORD_BYTES, value | 1u);
}

/* ---------------------------------------------------------------------------------------------------- one slice */

struct worker {
    pthread_t thread;
    pheap *heap;
    enum pheap_durability how;
    unsigned changes; /* records changed in each transaction */
    unsigned look;    /* transactions between two looks at the clock */
    uint64_t seed;
    uint64_t until_ns;
    uint64_t commits;
    struct bench_samples samples; /* nanoseconds of one transaction, or the mean of `look` of them */
};

static void *run_worker(void *argument)
{
    struct worker *worker = argument;
    uint64_t before = bench_now_ns();
    while (before < worker->until_ns) {
        for (unsigned i = 0; i < worker->look; i++) {
            pheap_txn *txn;
            bench_check(pheap_begin(worker->heap, &txn), "begin");
            for (unsigned j = 0; j < worker->changes; j++) {
                change_record(txn, &worker->seed);
            }
            bench_check(pheap_commit(txn, worker->how, NULL), "commit");
        }
        const uint64_t now = bench_now_ns();
        bench_add(&worker->samples, (double)(now - before) / worker->look);
        worker->commits += worker->look;
        before = now;
    }
    return NULL;
}

struct slice {
    uint64_t commits;
    double seconds;
};

/* Let `threads` threads commit for `seconds`; their samples are appended to *samples. */
static struct slice run_slice(pheap *heap, enum pheap_durability how, unsigned threads, unsigned changes,
                              double seconds, struct bench_samples *samples)
{
    static uint64_t seed = 1;
    struct worker *workers = bench_memory(threads * sizeof *workers);
    const uint64_t start = bench_now_ns();
    for (unsigned i = 0; i < threads; i++) {
        workers[i] = (struct worker){.heap = heap,
                                     .how = how,
                                     .changes = changes,
                                     .look = how == PHEAP_LAZY && changes == 1 ? LAZY_BATCH : 1,
                                     .seed = seed += 0x1000000,
                                     .until_ns = start + (uint64_t)(seconds * 1e9)};
    }
    for (unsigned i = 1; i < threads; i++) {
        const int error = pthread_create(&workers[i].thread, NULL, run_worker, &workers[i]);
        if (error != 0) {
            bench_die("cannot start a thread: %s", strerror(error));
        }
    }
    run_worker(&workers[0]);
    struct slice slice = {0};
    for (unsigned i = 0; i < threads; i++) {
        if (i != 0) {
            pthread_join(workers[i].thread, NULL);
        }
        slice.commits += workers[i].commits;
        bench_append(samples, &workers[i].samples);
        bench_clear(&workers[i].samples);
    }
    slice.seconds = (double)(bench_now_ns() - start) / 1e9;
    free(workers);
    return slice;
}

/* The yardstick: overwrite consecutive blocks of a file that is there and zero-filled, each write durable. */
static void run_floor(int file, size_t block_bytes, double seconds, struct bench_samples *samples)
{
    static off_t place;
    void *block;
    if (posix_memalign(&block, 4096, block_bytes) != 0) {
        bench_die("out of memory");
    }
    memset(block, 0xa5, block_bytes);
    uint64_t before = bench_now_ns();
    const uint64_t until = before + (uint64_t)(seconds * 1e9);
    while (before < until) {
        if ((size_t)place + block_bytes > FLOOR_FILE_BYTES) {
            place = 0;
        }
        memcpy(block, &before, sizeof before);
        const struct iovec part = {block, block_bytes};
        const ssize_t got = pwritev2(file, &part, 1, place, RWF_DSYNC);
        if (got != (ssize_t)block_bytes) {
            bench_die("bare write: %s", got < 0 ? strerror(errno) : "short");
        }
        place += (off_t)block_bytes;
        const uint64_t now = bench_now_ns();
        bench_add(samples, (double)(now - before));
        before = now;
    }
    free(block);
}

/* --------------------------------------------------------------------------------------------------- the figures */

static struct pheap_info get_info(pheap *heap)
{
    struct pheap_info info = {.size = sizeof info};
    bench_check(pheap_get_info(heap, &info), "info");
    return info;
}

static void measure_lazy(struct bench_report *report, pheap *heap, unsigned threads)
{
    struct bench_samples rates = {0};
    struct bench_samples batches = {0};
    const struct pheap_info before = get_info(heap);
    for (unsigned i = 0; i < report->options->repeat; i++) {
        const struct slice slice = run_slice(heap, PHEAP_LAZY, threads, 1, report->options->seconds, &batches);
        bench_add(&rates, (double)slice.commits / slice.seconds);
    }
    const struct pheap_info after = get_info(heap);
    const double commits = (double)(after.version - before.version);
    bench_row_goal(report, bench_median(&rates), "tx/s", threads == 1 || threads == 4 ? BENCH_AT_LEAST : BENCH_NO_GOAL,
                   2e6, "lazy, 1 change of 100 bytes, %u thread%s, sustained", threads, threads == 1 ? "" : "s");
    if (threads == 1) {
        bench_row(report, 1e9 / bench_median(&batches), "tx/s", "lazy, 1 thread: the median 1,000 commits");
        bench_row(report, bench_percentile(&batches, 99) / 1e3, "us",
                  "lazy, 1 thread: p99 of the mean of 1,000 commits");
        bench_row(report, (double)(after.committed_lsn - before.committed_lsn) / commits, "bytes",
                  "lazy: log for each commit");
        bench_row(report, (double)(after.log_written_bytes - before.log_written_bytes) / commits, "bytes",
                  "lazy: written to the log device for each commit");
        bench_row(report, (double)(after.fold_written_bytes - before.fold_written_bytes) / commits, "bytes",
                  "lazy: written to the heap file for each commit");
    }
    bench_clear(&rates);
    bench_clear(&batches);
}

/* Durable transactions of `changes` records by `threads` threads, in turn with bare writes of `floor_bytes`. */
static void measure_durable(struct bench_report *report, pheap *heap, int floor_file, unsigned threads,
                            unsigned changes, size_t floor_bytes)
{
    const struct bench_options *options = report->options;
    struct bench_samples latencies = {0};
    struct bench_samples floors = {0};
    struct bench_samples rates = {0};
    struct bench_samples ratios = {0};
    for (unsigned i = 0; i < options->repeat; i++) {
        struct bench_samples own = {0};
        struct bench_samples bare = {0};
        struct slice total = {0};
        const double seconds = options->seconds / SLICES;
        for (unsigned j = 0; j < SLICES; j++) {
            run_floor(floor_file, floor_bytes, seconds, &bare);
            const struct slice slice = run_slice(heap, PHEAP_DURABLE, threads, changes, seconds, &own);
            total.commits += slice.commits;
            total.seconds += slice.seconds;
        }
        bench_add(&rates, (double)total.commits / total.seconds);
        bench_add(&ratios, bench_median(&own) / bench_median(&bare));
        bench_append(&latencies, &own);
        bench_append(&floors, &bare);
        bench_clear(&own);
        bench_clear(&bare);
    }
    char what[64];
    snprintf(what, sizeof what, "durable, %s, %u thread%s", changes == 1 ? "1 change" : "1,000 changes", threads,
             threads == 1 ? "" : "s");
    const bool three_thousand = changes != 1 && threads == 1;
    bench_row_goal(report, bench_median(&rates), "tx/s", three_thousand ? BENCH_AT_LEAST : BENCH_NO_GOAL, 3000, "%s",
                   what);
    bench_row(report, bench_median(&latencies) / 1e3, "us", "%s: median", what);
    bench_row(report, bench_percentile(&latencies, 99) / 1e3, "us", "%s: p99", what);
    bench_row(report, bench_median(&floors) / 1e3, "us", "  bare %zu-byte dsync writes beside it: median", floor_bytes);
    bench_row(report, bench_percentile(&floors, 99) / 1e3, "us", "  bare %zu-byte dsync writes beside it: p99",
              floor_bytes);
    if (threads == 1) {
        bench_row_goal(report, bench_median(&ratios), "x", changes == 1 ? BENCH_AT_MOST : BENCH_NO_GOAL, 1.25,
                       "  median over that of the bare writes");
    } else {
        bench_row(report, bench_median(&rates) * bench_median(&floors) / 1e9, "x",
                  "  transactions for each bare write of one thread");
    }
    bench_clear(&latencies);
    bench_clear(&floors);
    bench_clear(&rates);
    bench_clear(&ratios);
}

static void measure_batches(struct bench_report *report, pheap *heap, int floor_file)
{
    struct bench_samples rates = {0};
    struct bench_samples latencies = {0};
    const struct pheap_info before = get_info(heap);
    for (unsigned i = 0; i < report->options->repeat; i++) {
        const struct slice slice = run_slice(heap, PHEAP_LAZY, 1, 1000, report->options->seconds, &latencies);
        bench_add(&rates, (double)slice.commits / slice.seconds);
    }
    const struct pheap_info after = get_info(heap);
    const double log_bytes =
        (double)(after.committed_lsn - before.committed_lsn) / (double)(after.version - before.version);
    bench_row(report, bench_median(&rates), "tx/s", "lazy, 1,000 changes, 1 thread, sustained");
    bench_row_goal(report, log_bytes, "bytes", BENCH_AT_MOST, 130000, "log for a transaction of 1,000 changes");
    measure_durable(report, heap, floor_file, 1, 1000, ((size_t)log_bytes + 4095) / 4096 * 4096);
    bench_clear(&rates);
    bench_clear(&latencies);
}

int main(int argc, char **argv)
{
    struct bench_options options = {.dir = ".", .repeat = 3, .seconds = 2, .threads = {1, 4, 16}, .thread_counts = 3};
    bench_parse(&options, "the cost of commits, lazy and durable", argc, argv);
    static struct bench_report report;
    bench_report_init(&report, "commit", &options);

    pheap *heap = make_heap(bench_path(&options, "commit.heap"), &options);
    const int floor_file = bench_open_direct(bench_path(&options, "floor"), FLOOR_FILE_BYTES);
    for (unsigned i = 0; i < options.thread_counts; i++) {
        measure_lazy(&report, heap, options.threads[i]);
    }
    for (unsigned i = 0; i < options.thread_counts; i++) {
        measure_durable(&report, heap, floor_file, options.threads[i], 1, 512);
    }
    measure_batches(&report, heap, floor_file);
    bench_check(pheap_close(heap), "close");
    close(floor_file);

    bench_note(&report, "sustained: with everything that flushes, folds and recycles the log on the way");
    bench_note(&report, "ratios: the median of the ratios of the repetitions, each from %u alternating slices", SLICES);
    return bench_report_finish(&report);
}
