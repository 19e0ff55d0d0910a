/* SPDX-License-Identifier: MIT */
/*
 * What the benchmarks share: the clock, chance, samples, options, and a report as a table or as JSON.
 *
 * A benchmark measures each figure several times and reports the median.  Where a figure has a yardstick (a bare
 * write, malloc, plain memory), both run in short alternating slices of one run, because this is the only way that
 * ratios mean something on a machine that is shared and noisy; absolute figures are for orientation.
 *
 * A benchmark that meets an error says which and exits with status 1: a figure from a run that failed is worse than
 * none.
 */
#ifndef BENCH_BENCH_H
#define BENCH_BENCH_H

#include "pheap/pheap.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

/* ---------------------------------------------------------------------------------------------- options and files */

struct bench_options {
    const char *dir;     /* where the heaps are made */
    const char *json;    /* file for the JSON report ("-": standard output), or NULL */
    bool rows_only;      /* print the rows alone, for scripts/bench */
    unsigned repeat;     /* repetitions of each figure */
    double seconds;      /* time for one repetition of one figure */
    uint64_t size_bytes; /* what it means depends on the benchmark; 0: its default */
    unsigned threads[8]; /* thread counts to measure */
    unsigned thread_counts;
    bool checksums; /* make heaps that keep a checksum of each page */
    bool cold;      /* drop the files from the page cache first, where that is measured */
};

/* Parse the arguments over the defaults in *options; prints `purpose` and the options for --help.  Exits on error. */
void bench_parse(struct bench_options *options, const char *purpose, int argc, char **argv);

/* The path of `name` in a directory of this run, which is removed with all its files at exit.  Static, four at once. */
const char *bench_path(const struct bench_options *options, const char *name);

/* Remove heap `path` with its log and coordination file. */
void bench_remove_heap(const char *path);

/* Preallocate and zero-fill `length` bytes in a new file, sync it and open it O_DIRECT; exits when it cannot. */
int bench_open_direct(const char *path, size_t length);

/* -------------------------------------------------------------------------------------------------- clock, chance */

uint64_t bench_now_ns(void);

/* A fast generator (splitmix64); any seed will do. */
static inline uint64_t bench_random(uint64_t *state)
{
    uint64_t z = (*state += 0x9e3779b97f4a7c15u);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

/* A length from 16 to 1024, log-uniform. */
uint64_t bench_random_length(uint64_t *state);

/* -------------------------------------------------------------------------------------------------------- records */

/* Allocate `count` zeroed blocks, a thousand in each LAZY transaction. */
void bench_make_records(pheap *heap, uint64_t *records, unsigned count, uint64_t length);

/* Store `stamp` all over [address, address + length), so that every byte changes with it; at least 8 bytes. */
static inline void bench_stamp(void *address, unsigned length, uint64_t stamp)
{
    unsigned char *bytes = address;
    for (unsigned i = 0; i + sizeof stamp <= length; i += (unsigned)sizeof stamp) {
        memcpy(bytes + i, &stamp, sizeof stamp);
    }
    memcpy(bytes + length - sizeof stamp, &stamp, sizeof stamp);
}

/* -------------------------------------------------------------------------------------------------------- samples */

/* A growing list of measurements; zeroed is empty. */
struct bench_samples {
    double *values;
    size_t count, capacity;
};
void bench_add(struct bench_samples *samples, double value);
void bench_append(struct bench_samples *to, const struct bench_samples *from);
double bench_percentile(struct bench_samples *samples, double percent); /* sorts; 0 when there are none */
double bench_median(struct bench_samples *samples);
void bench_clear(struct bench_samples *samples);

/* --------------------------------------------------------------------------------------------------------- report */

enum bench_goal { BENCH_NO_GOAL, BENCH_AT_LEAST, BENCH_AT_MOST };

struct bench_row {
    char name[96];
    char unit[16];
    double value;
    enum bench_goal goal;
    double target;
};

struct bench_report {
    const char *name;
    const struct bench_options *options;
    struct bench_row rows[128];
    size_t row_count;
    char notes[16][240];
    size_t note_count;
};

void bench_report_init(struct bench_report *report, const char *name, const struct bench_options *options);
void bench_row(struct bench_report *report, double value, const char *unit, const char *format, ...)
    __attribute__((format(printf, 4, 5)));
/* The same with a target, which is shown and judged. */
void bench_row_goal(struct bench_report *report, double value, const char *unit, enum bench_goal goal, double target,
                    const char *format, ...) __attribute__((format(printf, 6, 7)));
void bench_note(struct bench_report *report, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* Print the table, write the JSON.  Returns the exit status: 0 also when a target was missed. */
int bench_report_finish(struct bench_report *report);

/* --------------------------------------------------------------------------------------------------------- errors */

/* Say what failed, with the detail, and exit 1. */
void bench_check(enum pheap_status status, const char *what);
_Noreturn void bench_die(const char *format, ...) __attribute__((format(printf, 1, 2)));
void *bench_memory(size_t length);

#endif
