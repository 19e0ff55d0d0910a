/* SPDX-License-Identifier: MIT */
/* Plans: drawn, and shown. */
#include "tests/simulate/plan.h"

#include "tests/support/dice.h"

#include <string.h>

#define SEGMENT_BYTES 16384u

static const char *const step_names[STEP_KINDS] = {
    [STEP_TRANSACTIONS] = "transactions",
    [STEP_READ] = "read",
    [STEP_SYNC] = "sync",
    [STEP_FOLD] = "fold",
    [STEP_CHECKPOINT] = "checkpoint",
    [STEP_MAINTAIN] = "maintain",
    [STEP_REOPEN] = "close and reopen",
    [STEP_FAULT] = "a fault, counting",
    [STEP_FATAL] = "a fault that kills, counting",
    [STEP_DISK_FULL] = "disk full",
    [STEP_DISK_ROOM] = "room on the disk",
};

const char *plan_personality(enum personality personality)
{
    static const char *const names[PERSONALITIES] = {"honest", "ext4", "XFS", "btrfs", "stays dirty"};
    return names[personality];
}

static uint64_t below(uint64_t *dice, uint64_t limit)
{
    return dice_roll(dice) % limit;
}

static enum step_kind draw_kind(const struct plan *plan, uint64_t *dice)
{
    uint64_t kind = below(dice, 100);
    if (kind < 54)
        return STEP_TRANSACTIONS;
    if (kind < 64)
        return STEP_READ;
    if (kind < 68)
        return STEP_SYNC;
    if (kind < 72)
        return STEP_FOLD;
    if (kind < 79)
        return STEP_CHECKPOINT;
    if (kind < 81)
        return STEP_MAINTAIN;
    if (kind < 86)
        return STEP_REOPEN;
    if (plan->personality == DISK_HONEST)
        return STEP_TRANSACTIONS;
    return kind < 92 ? STEP_FAULT : kind < 95 ? STEP_FATAL : kind < 98 ? STEP_DISK_FULL : STEP_DISK_ROOM;
}

static void draw_step(const struct plan *plan, uint64_t *dice, struct step *step)
{
    *step = (struct step){.kind = draw_kind(plan, dice), .thread = (unsigned)below(dice, plan->threads)};
    step->seed = dice_roll(dice);
    uint64_t roll = below(dice, 16);
    step->amount = step->kind == STEP_TRANSACTIONS ? 1 + (unsigned)below(dice, plan->busy ? 25 : 3)
                   : step->kind == STEP_READ       ? 1 + (unsigned)below(dice, roll < 12 ? 60 : 3000)
                   : step->kind == STEP_FAULT || step->kind == STEP_FATAL ? 1 + (unsigned)below(dice, 12)
                                                                          : 0;
    step->calm = below(dice, 5) == 0;
    if (roll < 2)
        step->kill_at = 1 + (unsigned)below(dice, roll == 0 ? 30 : 300);
}

void plan_make(struct plan *plan, uint64_t seed)
{
    static const unsigned rates[] = {2, 5, 12, 40};
    uint64_t dice = dice_mix(seed ^ 0x73696d);
    *plan = (struct plan){.seed = seed};
    plan->processes = 1 + (unsigned)below(&dice, PLAN_PROCESSES_MAX);
    plan->threads = plan->processes + (unsigned)below(&dice, PLAN_THREADS_MAX - plan->processes + 1) / 2;
    plan->rate = rates[below(&dice, sizeof rates / sizeof rates[0])];
    plan->segments = 4 + (unsigned)below(&dice, 5);
    bool large = below(&dice, 4) == 0;
    plan->large_max = large ? plan->segments * 2500 : 3000;
    plan->live_max = large ? plan->large_max + 24000 : 12000;
    plan->busy = below(&dice, 6) == 0;
    plan->track = below(&dice, 5) == 0;
    plan->verify = below(&dice, 8) == 0;
    plan->prelude = below(&dice, 3) == 0 ? 0 : (unsigned)below(&dice, 120);
    plan->killed = below(&dice, 2) == 0;
    plan->personality = below(&dice, 2) == 0 ? DISK_HONEST : (enum personality)below(&dice, PERSONALITIES);
    plan->step_count = 8 + (unsigned)below(&dice, 24);
    for (unsigned i = 0; i < plan->step_count; i++)
        draw_step(plan, &dice, &plan->steps[i]);
    plan->samples = 8;
    plan->deepen[0] = 60;
    plan->deepen[1] = 300;
    plan->depth = 3;
    plan->damage = 16;
    plan->states_max = 2000;
}

struct ph_sim_options plan_machine(const struct plan *plan)
{
    struct ph_sim_options options = {.seed = plan->seed,
                                     .refuse_direct = plan->seed % 4 == 0,
                                     .refuse_allocate = plan->seed % 4 == 1,
                                     .keep_dirty = plan->personality == DISK_STAYS_DIRTY,
                                     .revert = plan->personality == DISK_BTRFS,
                                     .shut_down = plan->personality == DISK_XFS,
                                     .no_journal = plan->prelude > 0};
    switch (plan->planted) {
    case PLANTED_LOST_LOG_SYNC:
        options.lie = PH_SIM_LIE_DSYNC;
        options.lie_suffix = "-wal";
        break;
    case PLANTED_LOST_HEAP_SYNC:
        options.lie = PH_SIM_LIE_SYNC;
        options.lie_suffix = "heap";
        break;
    case PLANTED_LOST_NAME:
        options.lie = PH_SIM_LIE_DIRECTORY;
        break;
    case PLANTED_LOST_SUPERBLOCK:
        options.lie = PH_SIM_LIE_DSYNC;
        options.lie_suffix = "heap";
        break;
    case PLANTED_NOTHING:
        break;
    }
    return options;
}

void plan_print(const struct plan *plan, FILE *out)
{
    fprintf(out, "plan 0x%llx: %u processes, %u threads, log of %u segments of %u bytes, disk: %s\n",
            (unsigned long long)plan->seed, plan->processes, plan->threads, plan->segments, SEGMENT_BYTES,
            plan_personality(plan->personality));
    if (plan->prelude > 0)
        fprintf(out, "  thread 0 alone: %u transactions, and everything is synced\n", plan->prelude);
    for (unsigned i = 0; i < plan->step_count; i++) {
        const struct step *step = &plan->steps[i];
        fprintf(out, "  %2u  thread %u of process %u: %s", i, step->thread, step->thread % plan->processes,
                step_names[step->kind]);
        if (step->amount > 0)
            fprintf(out, " %u", step->amount);
        if (step->calm)
            fprintf(out, ", uninterrupted");
        if (step->kill_at > 0)
            fprintf(out, ", killed at place %u", step->kill_at);
        fprintf(out, "\n");
    }
    fprintf(out, "  in the end all processes are %s\n", plan->killed ? "killed" : "closed");
}
