/* SPDX-License-Identifier: MIT */
/*
 * A chain of boots of one machine: start the worker, cut the power at some operation, choose what the disk holds, start
 * the worker again on that, and so on.  So each recovery is itself cut somewhere, and each is judged by the next.
 *
 * What is demanded of a store, and what a failure is called
 *
 *   loss      it is at a transaction before the last that was acknowledged, or that it showed after an earlier cut
 *   phantom   it is at a transaction that was never begun
 *   undead    it is at a transaction that had failed, or been lost, and was not there when the store was opened since
 *   torn      it is as after no transaction at all, or its own check finds it damaged
 *   refused   it cannot be opened, though something had been acknowledged
 *   unborn    it cannot be opened and nothing had been acknowledged: it was cut while it was created.  Counted, but not as
 *             a failure of the chain, which goes on with an empty disk
 *   crashed   the worker died, failed without a fault, or did not go on
 *
 * Between cuts a worker may also be killed, with the page cache surviving; then nothing committed may be missing,
 * acknowledged as durable or not, unless a sync has failed meanwhile.
 */
#ifndef TESTS_POWERCUT_CHAIN_H
#define TESTS_POWERCUT_CHAIN_H

#include "tests/powercut/disk.h"

#include <stdatomic.h>

enum chain_verdict {
    CHAIN_GOOD,
    CHAIN_LOSS,
    CHAIN_PHANTOM,
    CHAIN_UNDEAD,
    CHAIN_TORN,
    CHAIN_REFUSED,
    CHAIN_UNBORN,
    CHAIN_CRASHED,
    CHAIN_VERDICTS
};

/* Sums over chains; several processes add to them. */
struct chain_sums {
    _Atomic uint64_t cuts;
    _Atomic uint64_t recovery_cuts; /* of these, before the store was open */
    _Atomic uint64_t kills;
    _Atomic uint64_t failed_syncs;
    _Atomic uint64_t acknowledged; /* transactions, those of lost attempts included */
    _Atomic uint64_t verdicts[CHAIN_VERDICTS];
};

struct chain_options {
    const char *engine;
    const char *worker;  /* the program */
    const char *mount;   /* a directory */
    const char *boot_id; /* the file that is bound over the kernel's boot id */
    uint64_t seed;
    uint64_t number; /* of the chain */
    unsigned cuts;
    struct disk_options disk;
    bool fail_syncs;
    enum disk_failure failure;
    bool bare;
    bool team; /* three processes share the store */
    bool verbose;
    const char *dump; /* a directory for the files before and after each cut; NULL: none */
};

/* Run it; if it fails, `text` says at which cut and why. */
enum chain_verdict chain_run(const struct chain_options *options, struct chain_sums *sums, char *text,
                             size_t text_size);

const char *chain_verdict_name(enum chain_verdict verdict);

#endif
