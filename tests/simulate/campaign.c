/* SPDX-License-Identifier: MIT */
/* Plans in processes of their own. */
#include "tests/simulate/campaign.h"

#include "tests/support/dice.h"

#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define JOBS_MAX 64
#define HANG_SECONDS 300u
#define SHRINK_TRIES_MAX 500u
#define PROGRESS_SECONDS 10

static double seconds(void)
{
    struct timespec now = {0};
    (void)clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

/* --------------------------------------------------------------------------------------------------------- one plan */

static void carry_out(const struct plan *plan, FILE *trace, struct outcome *outcome)
{
    struct run run;
    run_plan(&run, plan, trace);
    struct tally *tally = &outcome->tally;
    tally->plans = 1;
    tally->survivors = run.survivors;
    tally->states = run.survivors;
    tally->commits = run.commits;
    tally->kills = run.kills;
    tally->evictions = run.evictions;
    if (run.oracle.why[0] != '\0') {
        outcome->failure.found = true;
        (void)snprintf(outcome->failure.why, sizeof outcome->failure.why, "%s", run.oracle.why);
        (void)snprintf(outcome->failure.place, sizeof outcome->failure.place, "  without any power cut\n");
    } else {
        cuts_explore(&run, plan, tally, &outcome->failure);
    }
    outcome->hash = dice_mix(run.hash ^ dice_mix(tally->states + tally->refused * 8191 + tally->damaged * 131071));
    run_deinit(&run);
}

static struct outcome *shared_outcomes(unsigned count)
{
    void *memory =
        mmap(NULL, count * sizeof(struct outcome), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED)
        abort();
    return memory;
}

static pid_t start(const struct plan *plan, FILE *trace, struct outcome *outcome)
{
    *outcome = (struct outcome){.hash = 0};
    (void)fflush(NULL);
    pid_t child = fork();
    if (child != 0)
        return child;
    /* A test's framework would catch these, and go on with the next test in this process. */
    static const int deadly[] = {SIGFPE, SIGILL, SIGSEGV, SIGBUS, SIGABRT};
    for (size_t i = 0; i < sizeof deadly / sizeof deadly[0]; i++)
        (void)signal(deadly[i], SIG_DFL);
    (void)alarm(HANG_SECONDS);
    carry_out(plan, trace, outcome);
    (void)fflush(NULL);
    _exit(0);
}

static void finish(int status, struct outcome *outcome)
{
    if (status == 0 || outcome->failure.found)
        return;
    outcome->failure.found = true;
    outcome->failure.kind = FAILURE_OF_PROCESS;
    if (WIFSIGNALED(status))
        (void)snprintf(outcome->failure.why, sizeof outcome->failure.why, "%s (after %llu states)",
                       WTERMSIG(status) == SIGALRM ? "it does not end" : strsignal(WTERMSIG(status)),
                       (unsigned long long)outcome->tally.states);
    else
        (void)snprintf(outcome->failure.why, sizeof outcome->failure.why, "the process exits with %d",
                       WEXITSTATUS(status));
}

void campaign_try(const struct plan *plan, FILE *trace, struct outcome *outcome)
{
    struct outcome *shared = shared_outcomes(1);
    int status = -1;
    pid_t child = start(plan, trace, shared);
    if (child < 0 || waitpid(child, &status, 0) != child)
        abort();
    finish(status, shared);
    *outcome = *shared;
    (void)munmap(shared, sizeof *shared);
}

/* -------------------------------------------------------------------------------------------------------- many plans */

uint64_t campaign_plan_seed(uint64_t seed, uint64_t number)
{
    return dice_mix(seed * UINT64_C(0x9e3779b97f4a7c15) + number) >> 16;
}

static void add(struct tally *sum, const struct tally *one)
{
    const uint64_t *from = (const uint64_t *)(const void *)one;
    uint64_t *to = (uint64_t *)(void *)sum;
    for (size_t i = 0; i < sizeof *sum / sizeof *to; i++) /* it has nothing but counters */
        to[i] += from[i];
}

static void draw(const struct campaign *campaign, uint64_t number, struct plan *plan)
{
    plan_make(plan, campaign_plan_seed(campaign->seed, number));
    plan->planted = campaign->planted;
}

/* What is under way. */
struct job {
    pid_t child;
    uint64_t number;
};

static struct job *job_of(struct job *jobs, unsigned count, pid_t child)
{
    for (unsigned i = 0; i < count; i++)
        if (jobs[i].child == child)
            return &jobs[i];
    abort();
}

static void report_progress(const struct campaign *campaign, double began, double *last)
{
    double now = seconds();
    if (campaign->progress == NULL || now - *last < PROGRESS_SECONDS)
        return;
    *last = now;
    fprintf(campaign->progress, "%llu of %llu states, %llu plans, %.0f states/s\n",
            (unsigned long long)campaign->tally.states, (unsigned long long)campaign->states,
            (unsigned long long)campaign->tally.plans, (double)campaign->tally.states / (now - began));
    (void)fflush(campaign->progress);
}

bool campaign_run(struct campaign *campaign)
{
    struct job jobs[JOBS_MAX] = {{0}};
    unsigned count = campaign->jobs == 0 ? 1 : campaign->jobs < JOBS_MAX ? campaign->jobs : JOBS_MAX, busy = 0;
    struct outcome *outcomes = shared_outcomes(count);
    uint64_t next = 0;
    double began = seconds(), last = began;
    while (busy > 0 || (campaign->tally.states < campaign->states && !campaign->failure.found)) {
        bool more = campaign->tally.states < campaign->states && !campaign->failure.found;
        for (unsigned i = 0; i < count && more; i++) {
            if (jobs[i].child != 0)
                continue;
            struct plan plan;
            draw(campaign, next, &plan);
            jobs[i] = (struct job){start(&plan, NULL, &outcomes[i]), next++};
            busy++;
        }
        int status = -1;
        pid_t child = wait(&status);
        if (child < 0)
            abort();
        struct job *job = job_of(jobs, count, child);
        struct outcome *outcome = &outcomes[job - jobs];
        finish(status, outcome);
        add(&campaign->tally, &outcome->tally);
        if (outcome->failure.found && !campaign->failure.found) {
            campaign->failure = outcome->failure;
            draw(campaign, job->number, &campaign->failed);
        }
        job->child = 0;
        busy--;
        report_progress(campaign, began, &last);
    }
    campaign->seconds = seconds() - began;
    (void)munmap(outcomes, count * sizeof *outcomes);
    return !campaign->failure.found;
}

void campaign_print(const struct campaign *campaign, FILE *out)
{
    const struct tally *t = &campaign->tally;
    fprintf(out,
            "seed %llu: %llu plans, %llu commits, %llu kills, %llu evictions, %llu places\n"
            "%llu states in %.1f s, %.0f states/s\n"
            "  depth 1: %llu, depth 2: %llu, depth 3: %llu; after kills only: %llu\n"
            "  damaged: %llu, of which refused: %llu, cut back: %llu (mixed: %llu)\n"
            "  recoveries in which the disk failed: %llu\n",
            (unsigned long long)campaign->seed, (unsigned long long)t->plans, (unsigned long long)t->commits,
            (unsigned long long)t->kills, (unsigned long long)t->evictions, (unsigned long long)t->positions,
            (unsigned long long)t->states, campaign->seconds, (double)t->states / campaign->seconds,
            (unsigned long long)t->at_depth[1], (unsigned long long)t->at_depth[2], (unsigned long long)t->at_depth[3],
            (unsigned long long)t->survivors, (unsigned long long)t->damaged, (unsigned long long)t->refused,
            (unsigned long long)t->cut_back, (unsigned long long)t->mixed, (unsigned long long)t->faulted);
}

/* ------------------------------------------------------------------------------------------------------ made shorter */

struct shrinking {
    struct plan *best;
    struct outcome *outcome;
    unsigned tries;
};

/* Take the candidate over if it fails too. */
static bool fails_too(struct shrinking *shrinking, const struct plan *candidate)
{
    struct outcome outcome;
    if (shrinking->tries >= SHRINK_TRIES_MAX)
        return false;
    shrinking->tries++;
    campaign_try(candidate, NULL, &outcome);
    if (!outcome.failure.found || outcome.failure.kind != shrinking->outcome->failure.kind)
        return false;
    *shrinking->best = *candidate;
    *shrinking->outcome = outcome;
    return true;
}

static bool without_steps(struct shrinking *shrinking)
{
    bool shorter = false;
    for (unsigned chunk = shrinking->best->step_count / 2; chunk > 0; chunk /= 2)
        for (unsigned from = 0; from + chunk <= shrinking->best->step_count;) {
            struct plan candidate = *shrinking->best;
            memmove(&candidate.steps[from], &candidate.steps[from + chunk],
                    (candidate.step_count - from - chunk) * sizeof candidate.steps[0]);
            candidate.step_count -= chunk;
            if (fails_too(shrinking, &candidate))
                shorter = true;
            else
                from += chunk;
        }
    return shorter;
}

static bool simpler_step(struct shrinking *shrinking, unsigned i)
{
    bool simpler = false;
    for (unsigned way = 0; way < 4; way++) {
        struct plan candidate = *shrinking->best;
        struct step *step = &candidate.steps[i];
        if (way == 0 && step->kill_at > 0)
            step->kill_at = 0;
        else if (way == 1 && step->amount > 1)
            step->amount = 1;
        else if (way == 2 && !step->calm)
            step->calm = true;
        else if (way == 3 && step->thread > 0)
            step->thread = 0;
        else
            continue;
        simpler = fails_too(shrinking, &candidate) || simpler;
    }
    return simpler;
}

/* One thing about the plan as a whole; false if it is so already. */
static bool simplify(struct plan *plan, unsigned way)
{
    const struct plan before = *plan;
    switch (way) {
    case 0:
        plan->prelude = 0;
        break;
    case 1:
        plan->prelude /= 2;
        break;
    case 2:
        plan->depth = 1;
        break;
    case 3:
        plan->damage = 0;
        break;
    case 4:
        plan->personality = DISK_HONEST;
        break;
    case 5:
        plan->track = plan->verify = false;
        break;
    case 6:
        plan->killed = false;
        break;
    case 7:
        plan->threads = plan->processes = 1;
        for (unsigned i = 0; i < plan->step_count; i++)
            plan->steps[i].thread = 0;
        break;
    case 8:
        if (plan->threads > plan->processes)
            plan->threads--;
        for (unsigned i = 0; i < plan->step_count; i++)
            plan->steps[i].thread %= plan->threads;
        break;
    case 9:
        plan->rate = 1000;
        break;
    default:
        plan->samples = plan->samples < 64 ? 64 : plan->samples; /* not simpler, but it fails more surely */
        plan->states_max = 20000;
        break;
    }
    return memcmp(&before, plan, sizeof before) != 0;
}

#define SIMPLIFICATIONS 11

unsigned campaign_shrink(struct plan *plan, struct outcome *outcome)
{
    struct shrinking shrinking = {.best = plan, .outcome = outcome};
    for (bool better = true; better && shrinking.tries < SHRINK_TRIES_MAX;) {
        better = false;
        for (unsigned way = SIMPLIFICATIONS; way-- > 0;) {
            struct plan candidate = *plan;
            if (simplify(&candidate, way) && fails_too(&shrinking, &candidate) && way != SIMPLIFICATIONS - 1)
                better = true;
        }
        better = without_steps(&shrinking) || better;
        for (unsigned i = 0; i < plan->step_count; i++)
            better = simpler_step(&shrinking, i) || better;
    }
    return shrinking.tries;
}

void campaign_explain(const struct plan *plan, FILE *out)
{
    struct outcome outcome;
    plan_print(plan, out);
    fprintf(out, "  what happens:\n");
    campaign_try(plan, out, &outcome);
    fprintf(out, "%sWRONG: %s\n", outcome.failure.place, outcome.failure.why);
}
