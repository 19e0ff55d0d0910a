/* SPDX-License-Identifier: MIT */
/* One run of a plan: threads of several processes on one machine, until all have done their steps or something is wrong. */
#ifndef TESTS_SIMULATE_RUN_H
#define TESTS_SIMULATE_RUN_H

#include "tests/simulate/oracle.h"
#include "tests/simulate/plan.h"

#define RUN_PATH "dir/heap"

/* What a run leaves: a machine without power cuts, its journal, and the oracle. */
struct run {
    struct ph_sim *sim;
    struct oracle oracle; /* its `why` tells what was wrong; empty: nothing */
    struct pheap_options options;
    uint64_t journal_length; /* up to where it is what the run did */
    uint64_t hash;           /* of everything that happened */
    uint64_t commits, kills, evictions, survivors;
};

/* `trace` (may be NULL) gets a line for each thing that happens. */
void run_plan(struct run *run, const struct plan *plan, FILE *trace);
void run_deinit(struct run *run);

/* Options to open the heap of a plan with. */
struct pheap_options run_options(const struct plan *plan);
/* A transaction by dice; false if the library has done wrong.  *status: the first failure in it. */
bool run_transaction(struct oracle *oracle, pheap *heap, const struct plan *plan, uint64_t seed,
                     enum pheap_status *status);

#endif
