/* SPDX-License-Identifier: MIT */
/*
 * Power cuts: at every I/O operation of random workloads, with every legal subset of what was not synced where those are
 * few and samples of them where they are many, and again inside the recovery from that and in the work after it.
 *
 * Each time the heap must open, pass its own check, and equal the model after k transactions, for a k from the last
 * acknowledged to the last begun.  So a legal state that is refused is a failure, as is one that is accepted wrongly.
 *
 * By default a fixed seed and PHEAP_CRASH_STATES (200,000) states, spread over 4 processes.  PHEAP_CRASH_SEED chooses
 * another.  A failure prints the value of PHEAP_CRASH_REPLAY that runs it alone.
 */
#include "pheap/core.h"
#include "tests/support/dice.h"
#include "tests/support/workload.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#define WORKERS 4
#define STATES_DEFAULT 200000
#define SAMPLE_STATES 10000u /* of a worker that is given fewer, each workload is tested in part only */
#define EXHAUSTIVE_MAX 4096  /* 2 ^ 12 */
#define SAMPLES 64
#define SECOND_ONE_IN 200 /* states that are followed to the second depth */
#define SECOND_SAMPLES 5
#define FAILURES_MAX 5 /* printed by one worker */
#define NONE UINT64_MAX

/* Where a failure happened, and how to get there again. */
struct place {
    uint64_t seed;
    uint64_t position, choice;
    uint64_t position2, choice2; /* NONE: depth 1 */
};

/* What a worker tells. */
struct tally {
    uint64_t states, deep_states, workloads, positions, failures;
    uint64_t commits, laps; /* times that the log was filled */
    uint64_t evictions;     /* of readers */
    bool quiet;
    struct place only; /* run just this; seed NONE: everything */
};

static void record(struct tally *tally, const struct place *place, struct ph_sim_cut *cut,
                   const struct ph_sim_choice *choice, const char *why)
{
    tally->failures++;
    if (tally->quiet || tally->failures > FAILURES_MAX)
        return;
    char state[1500] = "";
    if (cut != NULL)
        ph_sim_cut_describe(cut, choice, state, sizeof state);
    printf("FAILED: %s\n  PHEAP_CRASH_REPLAY=%llu,%lld,%lld,%lld,%lld\n  depth %d, %s\n", why,
           (unsigned long long)place->seed, (long long)place->position, (long long)place->choice,
           (long long)place->position2, (long long)place->choice2, place->position2 == NONE ? 1 : 2, state);
    (void)fflush(stdout);
}

/* The choice with that number: all of them in turn, or samples. */
static uint64_t choices(struct ph_sim_cut *cut, uint64_t samples)
{
    uint64_t states = ph_sim_cut_states(cut);
    uint64_t most = samples == SAMPLES ? EXHAUSTIVE_MAX : samples;
    return states <= most ? states : samples;
}

static void choose(struct ph_sim_cut *cut, uint64_t number, uint64_t samples, uint64_t seed,
                   struct ph_sim_choice *choice)
{
    if (ph_sim_cut_states(cut) <= (samples == SAMPLES ? EXHAUSTIVE_MAX : samples))
        ph_sim_cut_choose(cut, number, choice);
    else
        ph_sim_cut_sample(cut, number, seed, choice);
}

static bool leaked(struct ph_sim *image, char *why, size_t why_bytes)
{
    ph_core_forget_mappings(ph_sim_io(image));
    int64_t handles = ph_sim_live_handles(image), maps = ph_sim_live_maps(image),
            blocks = ph_sim_live_allocations(image);
    if (handles == 0 && maps == 0 && blocks == 0)
        return false;
    (void)snprintf(why, why_bytes,
                   "after close %lld files are open, %lld maps and %lld blocks of memory not given back",
                   (long long)handles, (long long)maps, (long long)blocks);
    return true;
}

/* Open the image and compare; the workload is left open.  False with `why`. */
static bool recover(struct ph_workload *workload, unsigned flags, const struct ph_history *history, uint64_t least,
                    uint64_t most, uint64_t *k, char *why, size_t why_bytes)
{
    if (!ph_workload_open(workload, flags)) {
        (void)snprintf(why, why_bytes, "not opened: %s: %s", pheap_status_name(workload->status), workload->detail);
        return false;
    }
    return ph_history_verify(history, workload->heap, least, most, k, why, why_bytes);
}

/* Close, and see that nothing is left.  `why` stays if it says something already. */
static bool leave(struct ph_workload *workload, struct ph_sim *image, char *why, size_t why_bytes)
{
    bool good = why[0] == '\0';
    if (workload->heap != NULL && !ph_workload_close(workload) && good) {
        (void)snprintf(why, why_bytes, "not closed: %s: %s", pheap_status_name(workload->status), workload->detail);
        good = false;
    }
    return leaked(image, good ? why : (char[8]){0}, good ? why_bytes : 8) ? false : good;
}

/* One state of a cut: make it, open it, compare.  True if all is well. */
struct state {
    struct ph_sim_cut *cut;
    const struct ph_workload *workload; /* the one that was cut */
    const struct ph_history *history;
    struct ph_sim *image;
    unsigned flags;
    uint64_t least, most;
};

static bool test_state(const struct state *state, const struct ph_sim_choice *choice, uint64_t seed, char *why,
                       size_t why_bytes)
{
    struct ph_workload second;
    why[0] = '\0';
    ph_sim_cut_image(state->cut, choice, seed, state->image);
    ph_workload_branch(&second, state->image, state->workload, 0, seed);
    (void)recover(&second, state->flags, state->history, state->least, state->most, NULL, why, why_bytes);
    bool good = leave(&second, state->image, why, why_bytes);
    ph_workload_deinit(&second);
    return good;
}

/* The second depth: the image lost power while it recovered, or in the work after that. */
struct depth2 {
    struct ph_workload work;
    struct ph_sim *image;
    bool opened;
    uint64_t k; /* what the first recovery found */
};

static void cut_again(const struct state *first, struct depth2 *second, struct place place, struct tally *tally)
{
    struct ph_sim_options quiet = {.no_journal = true, .refuse_direct = place.seed % 4 == 0};
    struct state state = {.workload = &second->work, .image = ph_sim_new(&quiet)};
    struct ph_sim_choice choice = {0};
    char why[700];
    state.cut = ph_sim_cut_new(second->image);
    do {
        if (!ph_sim_cut_before_io(state.cut))
            continue;
        place.position2 = ph_sim_cut_position(state.cut);
        if (tally->only.seed != NONE && tally->only.position2 != place.position2)
            continue;
        bool opened = ph_sim_cut_note(state.cut, PH_NOTE_OPENED) != 0;
        uint64_t acknowledged = ph_sim_cut_note(state.cut, PH_NOTE_ACKNOWLEDGED);
        uint64_t begun = ph_sim_cut_note(state.cut, PH_NOTE_BEGUN);
        state.flags = opened ? 0 : first->flags;
        state.history = opened ? second->work.history : first->history;
        state.least = !opened ? first->least : acknowledged > second->k ? acknowledged : second->k;
        state.most = !opened ? first->most : begun > second->k ? begun : second->k;
        for (uint64_t i = 0; i < choices(state.cut, SECOND_SAMPLES); i++) {
            place.choice2 = i;
            if (tally->only.seed != NONE && tally->only.choice2 != i)
                continue;
            choose(state.cut, i, SECOND_SAMPLES, dice_mix(place.seed + place.choice), &choice);
            tally->states++;
            tally->deep_states++;
            if (!test_state(&state, &choice, dice_mix(place.position2 + i), why, sizeof why))
                record(tally, &place, state.cut, &choice, why);
        }
    } while (ph_sim_cut_next(state.cut) && tally->failures < FAILURES_MAX);
    ph_sim_choice_deinit(&choice);
    ph_sim_cut_free(state.cut);
    ph_sim_free(state.image);
}

/* Open the state with a journal, work on, and cut all that. */
static void go_deeper(const struct state *first, const struct ph_sim_choice *choice, uint64_t seed,
                      const struct place *place, struct tally *tally)
{
    struct depth2 second = {.image = first->image};
    struct ph_workload opener;
    char why[700] = "";
    ph_sim_cut_image(first->cut, choice, seed, second.image);
    ph_sim_journal_restart(second.image);
    ph_workload_branch(&opener, second.image, first->workload, 0, seed);
    second.opened =
        recover(&opener, first->flags, first->history, first->least, first->most, &second.k, why, sizeof why);
    ph_workload_branch(&second.work, second.image, first->workload, 0, seed);
    if (second.opened) {
        ph_history_free(second.work.history);
        second.work.history = ph_history_branch(first->history, second.k, dice_mix(seed));
        second.work.heap = opener.heap;
        opener.heap = NULL;
        for (uint64_t i = 0; i < seed % 4 && why[0] == '\0'; i++)
            if (!ph_workload_act(&second.work) && second.work.status != PHEAP_LOG_FULL &&
                second.work.status != PHEAP_TOO_BIG)
                (void)snprintf(why, sizeof why, "after recovery: %s: %s: %s %s", second.work.what,
                               pheap_status_name(second.work.status), second.work.detail, second.work.why);
    }
    if (second.work.heap == NULL)
        second.work.heap = opener.heap;
    if (!leave(&second.work, second.image, why, sizeof why))
        record(tally, place, first->cut, choice, why);
    else
        cut_again(first, &second, *place, tally);
    ph_workload_deinit(&opener);
    ph_workload_deinit(&second.work);
}

static void test_position(const struct state *state, struct place place, struct tally *tally)
{
    struct ph_sim_choice choice = {0};
    char why[700];
    uint64_t count = choices(state->cut, SAMPLES);
    tally->positions++;
    for (uint64_t i = 0; i < count && tally->failures < FAILURES_MAX; i++) {
        uint64_t dice = dice_mix(place.seed ^ dice_mix(place.position * 8191 + i));
        place.choice = i;
        bool only = tally->only.seed != NONE;
        if (only && (tally->only.position != place.position || tally->only.choice != i))
            continue;
        choose(state->cut, i, SAMPLES, place.seed, &choice);
        tally->states++;
        if (!test_state(state, &choice, dice, why, sizeof why))
            record(tally, &place, state->cut, &choice, why);
        else if (only ? tally->only.position2 != NONE : dice % SECOND_ONE_IN == 0)
            go_deeper(state, &choice, dice, &place, tally);
    }
    ph_sim_choice_deinit(&choice);
}

static void cut_everywhere(const struct ph_workload *workload, struct tally *tally, uint64_t states_max)
{
    struct place place = {.seed = workload->seed, .position2 = NONE, .choice2 = NONE};
    struct ph_sim_options quiet = {.no_journal = true, .refuse_direct = place.seed % 4 == 0};
    struct state state = {.workload = workload, .history = workload->history, .image = ph_sim_new(&quiet)};
    state.cut = ph_sim_cut_new(workload->sim);
    do {
        if (!ph_sim_cut_before_io(state.cut) || ph_sim_cut_note(state.cut, PH_NOTE_CUT) == 0)
            continue;
        place.position = ph_sim_cut_position(state.cut);
        state.flags = ph_sim_cut_note(state.cut, PH_NOTE_OPENED) == 0 ? PHEAP_CREATE : 0;
        state.least = ph_sim_cut_note(state.cut, PH_NOTE_ACKNOWLEDGED);
        state.most = ph_sim_cut_note(state.cut, PH_NOTE_BEGUN);
        test_position(&state, place, tally);
    } while (ph_sim_cut_next(state.cut) && tally->failures < FAILURES_MAX && tally->states < states_max);
    ph_sim_cut_free(state.cut);
    ph_sim_free(state.image);
}

static void count(const struct ph_workload *workload, struct tally *tally)
{
    struct pheap_info info = {.size = sizeof info};
    tally->commits += ph_history_committed(workload->history);
    tally->evictions += workload->evictions;
    if (workload->heap != NULL && pheap_get_info(workload->heap, &info) == PHEAP_OK && info.log_bytes > 0)
        tally->laps += info.durable_lsn / info.log_bytes;
}

/*
 * Run one workload on a machine without faults.  One in three is tested from its creation on; the others have filled
 * the log many times before.
 */
static bool run_workload(struct ph_workload *workload, struct tally *tally)
{
    uint64_t prelude = workload->seed % 3 == 0 ? 0 : 100 + dice_mix(workload->seed + 1) % 1500;
    uint64_t actions = 12 + dice_mix(workload->seed) % 16;
    if (prelude == 0)
        ph_sim_note(workload->sim, PH_NOTE_CUT, 1);
    bool good = ph_workload_open(workload, PHEAP_CREATE);
    for (uint64_t i = 0; i < prelude + actions && good; i++) {
        if (i == prelude)
            ph_sim_note(workload->sim, PH_NOTE_CUT, 1);
        else if (i < prelude && ph_workload_oldest(workload) > 50)
            ph_history_forget(workload->history, ph_workload_oldest(workload) - 50);
        good = ph_workload_act(workload) ||
               (workload->why[0] == '\0' && (workload->status == PHEAP_LOG_FULL || workload->status == PHEAP_TOO_BIG));
    }
    count(workload, tally);
    good = good && ph_workload_close(workload);
    if (!good) {
        char why[700];
        struct place place = {workload->seed, NONE, NONE, NONE, NONE};
        (void)snprintf(why, sizeof why, "without any crash: %s: %s: %s %s", workload->what,
                       pheap_status_name(workload->status), workload->detail, workload->why);
        record(tally, &place, NULL, NULL, why);
    }
    ph_core_forget_mappings(ph_sim_io(workload->sim));
    return good;
}

static void test_seed(uint64_t seed, struct tally *tally, uint64_t states_max, enum ph_sim_lie lie, const char *suffix)
{
    struct ph_sim_options options = {.seed = seed,
                                     .refuse_direct = seed % 4 == 0,
                                     .refuse_allocate = seed % 4 == 1,
                                     .touched = seed % 5 < 3,
                                     .watch = seed % 5 < 2,
                                     .lie = lie,
                                     .lie_suffix = suffix};
    struct ph_sim *sim = ph_sim_new(&options);
    struct ph_workload workload;
    ph_workload_init(&workload, sim, seed);
    tally->workloads++;
    if (run_workload(&workload, tally))
        cut_everywhere(&workload, tally, states_max);
    ph_workload_deinit(&workload);
    ph_sim_free(sim);
}

static uint64_t from_environment(const char *name, uint64_t otherwise)
{
    const char *text = getenv(name);
    return text == NULL || *text == '\0' ? otherwise : strtoull(text, NULL, 0);
}

static double now(void)
{
    return (double)ph_io_posix()->clock_ns(NULL, PH_CLOCK_MONOTONIC) / 1e9;
}

/* Run `work` in several processes, each with a tally of its own in shared memory, and add up. */
static struct tally spread(unsigned workers, void (*work)(unsigned, struct tally *, uint64_t), uint64_t argument)
{
    struct tally *tallies =
        mmap(NULL, workers * sizeof *tallies, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    struct tally sum = {0};
    pid_t children[WORKERS];
    assert_true(tallies != MAP_FAILED);
    (void)fflush(stdout);
    for (unsigned i = 0; i < workers; i++) {
        tallies[i].only.seed = NONE;
        children[i] = fork();
        if (children[i] == 0) {
            work(i, &tallies[i], argument);
            (void)fflush(stdout);
            _exit(0);
        }
    }
    for (unsigned i = 0; i < workers; i++) {
        int status = 0;
        if (waitpid(children[i], &status, 0) != children[i] || status != 0) {
            printf("FAILED: worker %u died: status 0x%x after %llu states of its workload %llu\n", i, (unsigned)status,
                   (unsigned long long)tallies[i].states, (unsigned long long)tallies[i].workloads);
            sum.failures++;
        }
        sum.states += tallies[i].states;
        sum.deep_states += tallies[i].deep_states;
        sum.workloads += tallies[i].workloads;
        sum.commits += tallies[i].commits;
        sum.laps += tallies[i].laps;
        sum.evictions += tallies[i].evictions;
        sum.positions += tallies[i].positions;
        sum.failures += tallies[i].failures;
    }
    (void)munmap(tallies, workers * sizeof *tallies);
    return sum;
}

static uint64_t worker_seed(uint64_t base, unsigned worker, uint64_t round)
{
    return dice_mix(base * 1000003 + round * WORKERS + worker) >> 16;
}

static void crash_worker(unsigned worker, struct tally *tally, uint64_t states)
{
    uint64_t base = from_environment("PHEAP_CRASH_SEED", 1);
    for (uint64_t round = 0; tally->states < states && tally->failures < FAILURES_MAX; round++) {
        uint64_t most = states < SAMPLE_STATES ? tally->states + states / 4 + 1 : UINT64_MAX;
        test_seed(worker_seed(base, worker, round), tally, most, PH_SIM_HONEST, NULL);
    }
}

static bool replay(const char *text)
{
    struct tally tally = {0};
    long long numbers[4];
    unsigned long long seed;
    if (sscanf(text, "%llu,%lld,%lld,%lld,%lld", &seed, &numbers[0], &numbers[1], &numbers[2], &numbers[3]) != 5)
        return false;
    tally.only =
        (struct place){seed, (uint64_t)numbers[0], (uint64_t)numbers[1], (uint64_t)numbers[2], (uint64_t)numbers[3]};
    test_seed(seed, &tally, UINT64_MAX, PH_SIM_HONEST, NULL);
    printf("%llu states, %llu failures\n", (unsigned long long)tally.states, (unsigned long long)tally.failures);
    return tally.failures == 0;
}

/* The rig itself: see the head. */
static void crash__leaves_a_prefix_of_the_history(void **state)
{
    (void)state;
    const char *text = getenv("PHEAP_CRASH_REPLAY");
    if (text != NULL) {
        assert_true(replay(text));
        return;
    }
    uint64_t states = from_environment("PHEAP_CRASH_STATES", STATES_DEFAULT);
    double before = now();
    struct tally sum = spread(WORKERS, crash_worker, states / WORKERS);
    double seconds = now() - before;
    printf("seed %llu: %llu workloads, %llu commits, %llu laps of the log, %llu evictions, %llu positions\n",
           (unsigned long long)from_environment("PHEAP_CRASH_SEED", 1), (unsigned long long)sum.workloads,
           (unsigned long long)sum.commits, (unsigned long long)sum.laps, (unsigned long long)sum.evictions,
           (unsigned long long)sum.positions);
    printf("%llu states (%llu of depth 2) in %.1f s, %.0f a second\n", (unsigned long long)sum.states,
           (unsigned long long)sum.deep_states, seconds, (double)sum.states / seconds);
    assert_int_equal(sum.failures, 0);
    assert_true(sum.states >= states);
}

/* Disks that lie, each in one way: a rig that does not notice is broken. */
static const struct {
    enum ph_sim_lie lie;
    const char *suffix;
} lies[] = {
    {PH_SIM_LIE_DSYNC, "-wal"}, {PH_SIM_LIE_SYNC, "heap"}, {PH_SIM_LIE_DIRECTORY, NULL}, {PH_SIM_LIE_DSYNC, "heap"}};

static void lie_worker(unsigned worker, struct tally *tally, uint64_t states)
{
    tally->quiet = true;
    for (uint64_t round = 0; tally->states < states && tally->failures == 0; round++)
        test_seed(worker_seed(7, worker, round), tally, states, lies[worker].lie, lies[worker].suffix);
    if (tally->failures == 0)
        printf("FAILED: lie %u was not noticed in %llu states\n", worker, (unsigned long long)tally->states);
    tally->failures = tally->failures == 0 ? 1 : 0;
}

static void crash__rig_notices_disks_that_lie(void **state)
{
    (void)state;
    if (getenv("PHEAP_CRASH_REPLAY") != NULL)
        skip();
    struct tally sum = spread(sizeof lies / sizeof lies[0], lie_worker, 20000);
    printf("lies noticed within %llu states\n", (unsigned long long)sum.states);
    assert_int_equal(sum.failures, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(crash__rig_notices_disks_that_lie),
        cmocka_unit_test(crash__leaves_a_prefix_of_the_history),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
