/* SPDX-License-Identifier: MIT */
/* simulate: the program behind scripts/simulate, whose help says what it does. */
#include "tests/simulate/campaign.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static int usage(void)
{
    fprintf(stderr, "simulate [--states N] [--seed S] [--jobs J] [--whole] | --replay PLAN [--whole]\n");
    return 2;
}

static int explain(struct plan *plan, struct outcome *outcome, bool shrink)
{
    printf("FAILED: %s\n%s  again: scripts/simulate --replay 0x%llx\n", outcome->failure.why, outcome->failure.place,
           (unsigned long long)plan->seed);
    if (shrink) {
        unsigned tries = campaign_shrink(plan, outcome);
        printf("made shorter in %u tries:\n", tries);
    }
    campaign_explain(plan, stdout);
    return 1;
}

static int replay(uint64_t seed, bool whole)
{
    struct plan plan;
    struct outcome outcome;
    plan_make(&plan, seed);
    campaign_try(&plan, NULL, &outcome);
    printf("plan 0x%llx: hash %016llx, %llu states\n", (unsigned long long)seed, (unsigned long long)outcome.hash,
           (unsigned long long)outcome.tally.states);
    if (outcome.failure.found)
        return explain(&plan, &outcome, !whole);
    if (whole)
        campaign_explain(&plan, stdout);
    return 0;
}

int main(int argc, char **argv)
{
    struct campaign campaign = {.states = 100000, .seed = 1, .progress = stderr};
    long processors = sysconf(_SC_NPROCESSORS_ONLN);
    bool whole = false;
    const char *again = NULL;
    campaign.jobs = processors > 0 ? (unsigned)processors : 1;
    for (int i = 1; i < argc; i++) {
        const char *value = i + 1 < argc ? argv[i + 1] : NULL;
        if (strcmp(argv[i], "--whole") == 0) {
            whole = true;
            continue;
        }
        if (value == NULL)
            return usage();
        i++;
        if (strcmp(argv[i - 1], "--states") == 0)
            campaign.states = strtoull(value, NULL, 0);
        else if (strcmp(argv[i - 1], "--seed") == 0)
            campaign.seed = strtoull(value, NULL, 0);
        else if (strcmp(argv[i - 1], "--jobs") == 0)
            campaign.jobs = (unsigned)strtoul(value, NULL, 0);
        else if (strcmp(argv[i - 1], "--replay") == 0)
            again = value;
        else
            return usage();
    }
    if (again != NULL)
        return replay(strtoull(again, NULL, 0), whole);
    bool good = campaign_run(&campaign);
    campaign_print(&campaign, stdout);
    if (good)
        return 0;
    struct outcome outcome = {.failure = campaign.failure};
    return explain(&campaign.failed, &outcome, !whole);
}
