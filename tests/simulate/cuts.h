/* SPDX-License-Identifier: MIT */
/*
 * Power cuts of a run: at every operation on its disk, samples of what may then be there, each opened and held against
 * the oracle.  Some are gone on from: power fails again while they recover, or in the work after that, and again.
 *
 * What is claimed of a state without damage: the heap opens, equals the model after some version between the last
 * acknowledged as durable and the last begun, and passes the whole-heap check.
 *
 * Of a state with damage (bits flipped, a sector that landed elsewhere, a sector that was never written), less is
 * claimed, because a last record that is damaged cannot be told from one that was torn:
 *   in the log or a superblock: opening refuses with a text, or the heap is at the version that it has without the
 *                               damage, or the log is cut at the damage: then it says that it is at an older version.
 *                               It equals the model of that one, unless the heap file had got newer bytes by folding
 *                               already ("mixed"): the end of the log is not known to have been durable
 *   elsewhere in the heap file: opening ends, with a text if it refuses; the check and a walk over all blocks end.  Bytes of
 *                               blocks have no checksum, so nothing is said of them
 */
#ifndef TESTS_SIMULATE_CUTS_H
#define TESTS_SIMULATE_CUTS_H

#include "tests/simulate/run.h"

#define CUTS_DEPTH_MAX 3

struct tally {
    uint64_t states; /* all of these: */
    uint64_t at_depth[CUTS_DEPTH_MAX + 1];
    uint64_t damaged, refused, cut_back, mixed; /* of states of any depth */
    uint64_t faulted;                           /* recoveries in which an operation failed */
    uint64_t survivors;                         /* heaps after the death of processes only */
    uint64_t positions, plans, commits, kills, evictions;
};

enum failure_kind { FAILURE_IN_RUN, FAILURE_AFTER_CUT, FAILURE_AFTER_DAMAGE, FAILURE_OF_PROCESS };

struct failure {
    bool found;
    enum failure_kind kind;
    char why[ORACLE_WHY_BYTES];
    char place[2000];
};

/* Stops at the first failure. */
void cuts_explore(struct run *run, const struct plan *plan, struct tally *tally, struct failure *failure);

#endif
