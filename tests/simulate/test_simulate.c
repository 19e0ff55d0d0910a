/* SPDX-License-Identifier: MIT */
/*
 * The simulator: a slice of a campaign, and whether the rig can be believed.
 *
 * PHEAP_SIMULATE_STATES (1,000,000) states from PHEAP_SIMULATE_SEED (1).  A failure prints the plan, made short; it is run
 * again by scripts/simulate --replay.
 */
#include "tests/simulate/campaign.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#define STATES_DEFAULT 1000000
#define NOTICED_WITHIN 200000
#define SHRUNK_STEPS_MAX 8

static uint64_t from_environment(const char *name, uint64_t otherwise)
{
    const char *text = getenv(name);
    return text == NULL || *text == '\0' ? otherwise : strtoull(text, NULL, 0);
}

static unsigned jobs(void)
{
    long processors = sysconf(_SC_NPROCESSORS_ONLN);
    return processors > 0 ? (unsigned)processors : 1;
}

/* Catches: whatever the slice of a campaign finds in the library. */
static void campaign__leaves_every_heap_in_its_history(void **state)
{
    (void)state;
    struct campaign campaign = {.states = from_environment("PHEAP_SIMULATE_STATES", STATES_DEFAULT),
                                .seed = from_environment("PHEAP_SIMULATE_SEED", 1),
                                .jobs = jobs()};
    bool good = campaign_run(&campaign);
    campaign_print(&campaign, stdout);
    if (!good) {
        struct outcome outcome = {.failure = campaign.failure};
        printf("plan 0x%llx: %s\n", (unsigned long long)campaign.failed.seed, campaign.failure.why);
        (void)campaign_shrink(&campaign.failed, &outcome);
        campaign_explain(&campaign.failed, stdout);
    }
    assert_true(good);
}

/* Catches: a run that depends on anything but its seed, so that a failing one would not come again. */
static void plan__does_the_same_again(void **state)
{
    (void)state;
    uint64_t before = 0;
    for (uint64_t number = 0; number < 6; number++) {
        struct plan plan;
        struct outcome first, second;
        plan_make(&plan, campaign_plan_seed(99, number));
        plan.states_max = 300;
        campaign_try(&plan, NULL, &first);
        campaign_try(&plan, NULL, &second);
        assert_false(first.failure.found);
        assert_true(first.hash == second.hash);
        assert_true(first.tally.states == second.tally.states);
        assert_true(first.hash != before);
        before = first.hash;
    }
}

static bool notices(enum planted planted, struct campaign *campaign)
{
    *campaign = (struct campaign){.states = NOTICED_WITHIN, .seed = 7, .jobs = jobs(), .planted = planted};
    return !campaign_run(campaign);
}

/* Catches: a rig that is blind: the disk loses what it said was synced, each time in another way. */
static void rig__notices_what_a_disk_loses(void **state)
{
    (void)state;
    for (int planted = PLANTED_LOST_LOG_SYNC; planted <= PLANTED_LOST_SUPERBLOCK; planted++) {
        struct campaign campaign;
        assert_true(notices((enum planted)planted, &campaign));
        assert_int_equal(campaign.failure.kind, FAILURE_AFTER_CUT);
        printf("planted %d: noticed after %llu states: %s\n", planted, (unsigned long long)campaign.tally.states,
               campaign.failure.why);
    }
}

/* Catches: a shrinker that loses the failure, or leaves in what has nothing to do with it. */
static void shrink__leaves_little_that_still_fails(void **state)
{
    (void)state;
    struct campaign campaign;
    assert_true(notices(PLANTED_LOST_LOG_SYNC, &campaign));
    struct plan plan = campaign.failed;
    struct outcome outcome = {.failure = campaign.failure}, again;
    unsigned tries = campaign_shrink(&plan, &outcome);
    printf("from %u steps to %u in %u tries\n", campaign.failed.step_count, plan.step_count, tries);
    assert_true(plan.step_count < campaign.failed.step_count && plan.step_count <= SHRUNK_STEPS_MAX);
    campaign_try(&plan, NULL, &again);
    assert_true(again.failure.found);
    assert_string_equal(again.failure.why, outcome.failure.why);
    assert_string_equal(again.failure.place, outcome.failure.place);
}

/* Catches: a plan whose process crashes, or whose run hangs, taken for one that went well. */
static void try__tells_of_a_process_that_died(void **state)
{
    (void)state;
    struct plan plan;
    struct outcome outcome;
    plan_make(&plan, 1);
    plan.processes = 0; /* it divides by that */
    campaign_try(&plan, NULL, &outcome);
    assert_true(outcome.failure.found);
    assert_int_equal(outcome.failure.kind, FAILURE_OF_PROCESS);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(plan__does_the_same_again),
        cmocka_unit_test(rig__notices_what_a_disk_loses),
        cmocka_unit_test(shrink__leaves_little_that_still_fails),
        cmocka_unit_test(try__tells_of_a_process_that_died),
        cmocka_unit_test(campaign__leaves_every_heap_in_its_history),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
