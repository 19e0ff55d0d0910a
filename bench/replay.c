/* SPDX-License-Identifier: MIT */
/*
 * What a crash costs: a process fills about 200 MB of log (--size) with LAZY commits of one 100-byte change among
 * 100,000 records, syncs, and is killed without closing; then opening is timed.  MB/s is log replayed over the whole
 * time of open: recovery, the write-out of the heap file, checkpoint and all.
 *
 * --cold drops the three files from the page cache before each open.
 */
#define _GNU_SOURCE
#include "bench/bench.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define RECORD_COUNT 100000u
#define RECORD_BYTES 100u

/* The process to be killed: returns when the log is as long as wanted and durable. */
static void fill_log(const char *path, uint64_t log_bytes)
{
    static uint64_t records[RECORD_COUNT];
    /* A checkpoint runs by itself when the log is half full. */
    const struct pheap_options settings = {
        .size = sizeof settings, .log_limit_bytes = log_bytes * 4, .buffer_bytes = 8u << 20};
    pheap *heap;
    pheap_txn *txn;
    struct pheap_info info = {.size = sizeof info};
    uint64_t seed = 3;
    bench_check(pheap_open(path, PHEAP_CREATE | PHEAP_EXCLUSIVE, &settings, &heap), "open");
    bench_make_records(heap, records, RECORD_COUNT, RECORD_BYTES);
    bench_check(pheap_checkpoint(heap), "checkpoint");
    do {
        for (unsigned i = 0; i < 1000; i++) {
            const uint64_t stamp = bench_random(&seed);
            void *address;
            bench_check(pheap_begin(heap, &txn), "begin");
            bench_check(pheap_edit(txn, records[stamp % RECORD_COUNT], RECORD_BYTES, &address), "edit");
            bench_stamp(address, RECORD_BYTES, stamp | 1);
            bench_check(pheap_commit(txn, PHEAP_LAZY, NULL), "commit");
        }
        bench_check(pheap_get_info(heap, &info), "info");
    } while (info.committed_lsn - info.checkpoint_lsn < log_bytes);
    bench_check(pheap_sync(heap), "sync");
}

static void make_crashed_heap(const char *path, uint64_t log_bytes)
{
    int ready[2];
    if (pipe(ready) != 0) {
        bench_die("pipe: %s", strerror(errno));
    }
    const pid_t child = fork();
    if (child < 0) {
        bench_die("fork: %s", strerror(errno));
    }
    if (child == 0) {
        close(ready[0]);
        fill_log(path, log_bytes);
        if (write(ready[1], "x", 1) != 1) {
            _exit(1);
        }
        for (;;) {
            pause();
        }
    }
    close(ready[1]);
    char byte;
    const bool filled = read(ready[0], &byte, 1) == 1;
    close(ready[0]);
    kill(child, SIGKILL);
    waitpid(child, NULL, 0);
    if (!filled) {
        bench_die("the process that was to fill the log failed");
    }
}

static void drop_from_cache(const char *path)
{
    static const char *const suffixes[] = {"", "-wal", "-shm"};
    for (size_t i = 0; i < sizeof suffixes / sizeof suffixes[0]; i++) {
        char name[4200];
        snprintf(name, sizeof name, "%s%s", path, suffixes[i]);
        const int file = open(name, O_RDWR | O_CLOEXEC);
        if (file >= 0) {
            fsync(file);
            posix_fadvise(file, 0, 0, POSIX_FADV_DONTNEED);
            close(file);
        }
    }
}

int main(int argc, char **argv)
{
    struct bench_options options = {.dir = ".", .repeat = 3, .seconds = 1, .size_bytes = 200000000};
    bench_parse(&options, "the time to open after a crash", argc, argv);
    static struct bench_report report;
    bench_report_init(&report, "replay", &options);

    struct bench_samples rates = {0};
    struct bench_samples times = {0};
    struct bench_samples replayed = {0};
    struct bench_samples commits = {0};
    for (unsigned i = 0; i < options.repeat; i++) {
        const char *path = bench_path(&options, "replay.heap");
        make_crashed_heap(path, options.size_bytes);
        if (options.cold) {
            drop_from_cache(path);
        }
        pheap *heap;
        struct pheap_info info = {.size = sizeof info};
        const uint64_t start = bench_now_ns();
        bench_check(pheap_open(path, 0, NULL, &heap), "open after the crash");
        const double seconds = (double)(bench_now_ns() - start) / 1e9;
        bench_check(pheap_get_info(heap, &info), "info");
        if (info.recovered == 0 || info.replayed_bytes < options.size_bytes / 2) {
            bench_die("expected a recovery from %llu bytes of log, but %llu were replayed",
                      (unsigned long long)options.size_bytes, (unsigned long long)info.replayed_bytes);
        }
        bench_check(pheap_close(heap), "close");
        bench_remove_heap(path);
        bench_add(&rates, (double)info.replayed_bytes / seconds / 1e6);
        bench_add(&times, seconds);
        bench_add(&replayed, (double)info.replayed_bytes / 1e6);
        bench_add(&commits, (double)info.version);
    }
    const char *cache = options.cold ? "cold" : "warm";
    bench_row_goal(&report, bench_median(&rates), "MB/s", BENCH_AT_LEAST, 500, "replay in open after kill -9, %s cache",
                   cache);
    bench_row(&report, bench_median(&times) * 1e3, "ms", "  that open");
    bench_row(&report, bench_median(&replayed), "MB", "  log replayed");
    bench_row(&report, bench_median(&commits), "", "  commits in the heap's history");
    bench_note(&report, "one 100-byte change a commit; MB are 10^6 bytes");
    return bench_report_finish(&report);
}
