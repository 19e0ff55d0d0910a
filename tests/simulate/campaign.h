/* SPDX-License-Identifier: MIT */
/*
 * Many plans: each in a process of its own, several at a time; and one plan that fails, made short.
 */
#ifndef TESTS_SIMULATE_CAMPAIGN_H
#define TESTS_SIMULATE_CAMPAIGN_H

#include "tests/simulate/cuts.h"

struct outcome {
    struct tally tally;
    struct failure failure;
    uint64_t hash; /* of the run and of what became of its states */
};

/* Carry out a plan, in a process of its own: if that crashes or hangs, that is a failure too.  `trace`: see run_plan. */
void campaign_try(const struct plan *plan, FILE *trace, struct outcome *outcome);

struct campaign {
    uint64_t states; /* at least so many */
    uint64_t seed;
    unsigned jobs;
    enum planted planted;
    FILE *progress; /* a line now and then; may be NULL */
    /* What came of it. */
    struct tally tally;
    struct failure failure;
    struct plan failed; /* the plan of that failure */
    double seconds;
};

/* Until there are enough states, or one is wrong; true if none is. */
bool campaign_run(struct campaign *campaign);
/* The plan that the campaign with that seed comes to as its `number`th. */
uint64_t campaign_plan_seed(uint64_t seed, uint64_t number);

/* Take out of a failing plan whatever it fails without; the result fails as *outcome says.  How many plans were tried. */
unsigned campaign_shrink(struct plan *plan, struct outcome *outcome);
/* The plan, what happens in it, and what is wrong then. */
void campaign_explain(const struct plan *plan, FILE *out);

void campaign_print(const struct campaign *campaign, FILE *out);

#endif
