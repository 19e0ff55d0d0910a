/* SPDX-License-Identifier: MIT */
/*
 * What it costs to find stores that were not declared (pheap_track), against declaring them.
 *
 *   1 change        100 bytes of one of 100,000 hot records a transaction
 *   1,000 changes   of random ones
 *   1 MiB           every byte of one block
 *
 * in PHEAP_LAZY transactions of one thread, each with: declared stores; everything tracked, where the kernel watches
 * stores, and where it may not and all private pages are compared; for 1 change also the record alone tracked.  Each way
 * has a heap of its own, and they take turns in short slices of one run.
 */
#define _GNU_SOURCE
#include "bench/bench.h"

#include <errno.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>

#define RECORD_COUNT 100000u
#define RECORD_BYTES 100u
#define BIG_BYTES (1u << 20)
#define SLICES 10u
#define LOOK 20u /* small transactions between two looks at the clock */

enum way { DECLARED, WATCHED, COMPARED, ALONE, WAYS };
static const char *const way_names[WAYS] = {"declared", "all tracked, watched", "all tracked, compared",
                                            "the record alone tracked"};

struct side {
    pheap *heap;
    uint64_t records[RECORD_COUNT];
    uint64_t big;
    uint64_t seed;
};
static struct side sides[WAYS];

static void make_side(struct side *side, const char *path)
{
    pheap_txn *txn;
    bench_check(pheap_open(path, PHEAP_CREATE | PHEAP_EXCLUSIVE, NULL, &side->heap), "open");
    bench_make_records(side->heap, side->records, RECORD_COUNT, RECORD_BYTES);
    bench_check(pheap_begin(side->heap, &txn), "begin");
    bench_check(pheap_zalloc(txn, BIG_BYTES, &side->big), "alloc");
    bench_check(pheap_commit(txn, PHEAP_LAZY, NULL), "commit");
    bench_check(pheap_checkpoint(side->heap), "checkpoint");
    side->seed = 1;
}

/* The process may not watch stores any more. */
static void forbid_watching(void)
{
    struct sock_filter filter[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_userfaultfd, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_fprog program = {.len = sizeof filter / sizeof filter[0], .filter = filter};
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0 || prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) != 0) {
        bench_die("cannot forbid userfaultfd: %s", strerror(errno));
    }
}

static void run_transaction(struct side *side, enum way way, unsigned changes)
{
    pheap_txn *txn;
    bench_check(pheap_begin(side->heap, &txn), "begin");
    if (way == WATCHED || way == COMPARED) {
        bench_check(pheap_track_all(txn), "track");
    }
    for (unsigned i = 0; i < (changes == 0 ? 1 : changes); i++) {
        const uint64_t value = bench_random(&side->seed);
        const uint64_t offset = changes == 0 ? side->big : side->records[value % RECORD_COUNT];
        const unsigned length = changes == 0 ? BIG_BYTES : RECORD_BYTES;
        void *address = pheap_ptr(txn, offset);
        if (way == DECLARED) {
            bench_check(pheap_edit(txn, offset, length, NULL), "edit");
        } else if (way == ALONE) {
            bench_check(pheap_track(txn, offset, length, NULL), "track");
        }
        bench_stamp(address, length, value | 1u);
    }
    bench_check(pheap_commit(txn, PHEAP_LAZY, NULL), "commit");
}

static void run_slice(struct side *side, enum way way, unsigned changes, double seconds, struct bench_samples *samples)
{
    const unsigned look = changes == 1 ? LOOK : 1;
    const uint64_t until = bench_now_ns() + (uint64_t)(seconds * 1e9);
    for (uint64_t before = bench_now_ns(); before < until;) {
        for (unsigned i = 0; i < look; i++) {
            run_transaction(side, way, changes);
        }
        const uint64_t now = bench_now_ns();
        bench_add(samples, (double)(now - before) / look);
        before = now;
    }
}

/* `changes` records a transaction; 0: the big block. */
static void measure(struct bench_report *report, unsigned changes, const char *what)
{
    const struct bench_options *options = report->options;
    struct bench_samples medians[WAYS] = {{0}};
    struct bench_samples ratios[WAYS] = {{0}};
    const unsigned ways = changes == 1 ? WAYS : ALONE;
    for (unsigned i = 0; i <= options->repeat; i++) {
        struct bench_samples own[WAYS] = {{0}};
        for (unsigned j = 0; j < SLICES; j++) {
            for (enum way way = 0; way < ways; way++) {
                run_slice(&sides[way], way, changes, options->seconds / SLICES, &own[way]);
            }
        }
        for (enum way way = 0; way < ways; way++) {
            if (i > 0) { /* the first repetition makes everything hot */
                bench_add(&medians[way], bench_median(&own[way]));
                bench_add(&ratios[way], bench_median(&own[way]) / bench_median(&own[DECLARED]));
            }
        }
        for (enum way way = 0; way < ways; way++) {
            bench_clear(&own[way]);
        }
    }
    for (enum way way = 0; way < ways; way++) {
        bench_row(report, bench_median(&medians[way]) / 1e3, "us", "%s, %s", what, way_names[way]);
        if (way != DECLARED) {
            bench_row(report, bench_median(&ratios[way]), "x", "  over declared");
        }
        bench_clear(&medians[way]);
        bench_clear(&ratios[way]);
    }
}

int main(int argc, char **argv)
{
    struct bench_options options = {.dir = ".", .repeat = 3, .seconds = 1};
    bench_parse(&options, "the cost of tracked stores", argc, argv);
    static struct bench_report report;
    bench_report_init(&report, "track", &options);
    for (enum way way = 0; way < WAYS; way++) {
        char name[32];
        snprintf(name, sizeof name, "track%d.heap", (int)way);
        make_side(&sides[way], bench_path(&options, name));
        if (way == WATCHED) { /* the others choose their method after that */
            run_transaction(&sides[way], way, 1);
            forbid_watching();
        }
    }
    struct pheap_info info = {.size = sizeof info};
    bench_check(pheap_get_info(sides[WATCHED].heap, &info), "info");
    if (info.track_method != PHEAP_TRACK_WATCHED) {
        bench_note(&report, "this kernel cannot or may not watch stores: \"watched\" was compared");
    }
    measure(&report, 1, "1 change");
    measure(&report, 1000, "1,000 changes");
    measure(&report, 0, "1 MiB");
    for (enum way way = 0; way < WAYS; way++) {
        bench_check(pheap_close(sides[way].heap), "close");
    }
    return bench_report_finish(&report);
}
