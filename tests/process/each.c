/* SPDX-License-Identifier: MIT */
/* Every fail point: a process is stopped there among others, and then killed or resumed. */
#include "tests/process/rig.h"

#include <stdio.h>
#include <string.h>

#define TRIES 4u
#define BLOCKED_LOOKS 500u
#define PLENTY 400u /* commits: by then the log would be full, if nobody had folded */

/* The actors: the victim, those who wait for it, and a helper. */
enum { VICTIM, WRITER_ONE, WRITER_TWO, READER, HELPER };
#define BIT(number) (1u << (number))
#define OTHERS (BIT(WRITER_ONE) | BIT(WRITER_TWO) | BIT(READER))

/* How the victim comes to the heap. */
enum scenario {
    JOINS,   /* the others have it open */
    CLEAN,   /* it was closed cleanly, and the victim is alone until it is stopped */
    CRASHED, /* all who had it open were killed, with commits that are in the shared buffer only */
    NEW,     /* there is none */
    /* With it there is a helper, which is killed first, */
    DEAD_WRITER,   /* in a transaction */
    DEAD_FRAGMENT, /* within a commit larger than the buffer */
    DEAD_FLUSHER,  /* writing the log */
    DEAD_FOLDER,   /* before it synced the heap file */
    DEAD_READER,   /* with a snapshot */
    SCENARIOS
};

static const char *const scenario_names[SCENARIOS] = {
    "joins others",         "opens a clean heap",  "opens a crashed heap",
    "makes a heap",         "after a dead writer", "after a dead fragment",
    "after a dead flusher", "after a dead folder", "after a dead reader",
};

/* Where the helper dies. */
static const char *const dies_at[SCENARIOS] = {
    [CRASHED] = "commit_notified",     [DEAD_WRITER] = "begin_view_moved",   [DEAD_FRAGMENT] = "fragment_published",
    [DEAD_FLUSHER] = "flush_to_write", [DEAD_FOLDER] = "checkpoint_to_sync", [DEAD_READER] = "pin_view_moved",
};

/* ------------------------------------------------------------------------------------------------------- the stage */

static void start_others(struct rig *rig)
{
    static const enum actor_role roles[] = {
        [WRITER_ONE] = ACTOR_WRITER, [WRITER_TWO] = ACTOR_WRITER, [READER] = ACTOR_READER};
    for (unsigned i = WRITER_ONE; i <= READER; i++) {
        if (!rig_is_there(rig, i)) {
            rig_start(rig, i, roles[i]);
        }
    }
}

/* Let a helper go until it is killed at its place. */
static bool sacrifice(struct rig *rig, enum scenario scenario)
{
    const int64_t passage = scenario == CRASHED ? 2 : 1;
    points_set(&rig->stage->actors[HELPER].arm, points_find(dies_at[scenario]), passage, POINTS_KILL);
    rig_start(rig, HELPER, ACTOR_ALL);
    const enum rig_end end = rig_await(rig, HELPER);
    return end == RIG_KILLED || rig_fail(rig, "the helper was not killed at %s", dies_at[scenario]);
}

/* Wait until the victim has opened the heap and is held back. */
static bool await_opened(struct rig *rig)
{
    for (uint64_t looks = 0; atomic_load(&rig->stage->actors[VICTIM].state) != ACTOR_IDLE; looks++) {
        if (!rig_all_well(rig, BIT(VICTIM))) {
            return false;
        }
        if (looks == HANG_SECONDS * 10000u) {
            return rig_fail(rig, "the victim does not come to open the heap");
        }
        rig_pause();
    }
    return true;
}

/* Everything up to the start of the victim, and that. */
static bool set_out(struct rig *rig, enum scenario scenario)
{
    struct actor *victim = &rig->stage->actors[VICTIM];
    if (scenario == JOINS) {
        start_others(rig);
        if (!rig_progress(rig, OTHERS)) {
            return false;
        }
    } else if (!rig_retire(rig, OTHERS)) {
        return false;
    }
    if (scenario == NEW) {
        rig_new_heap(rig);
    }
    if (scenario == CRASHED && !sacrifice(rig, scenario)) {
        return false;
    }
    atomic_store(&victim->held_back, scenario >= DEAD_WRITER);
    rig_start(rig, VICTIM, ACTOR_ALL);
    if (scenario < DEAD_WRITER) {
        return true;
    }
    const bool good = await_opened(rig) && sacrifice(rig, scenario);
    atomic_store(&victim->held_back, 0);
    return good;
}

/* ------------------------------------------------------------------------------------------------ while it is stopped */

/* A writer that has been at one transaction for a while: nothing limits how long a commit waits for the disk, or, if it is
 * larger than the log has room for, for a checkpoint. */
static bool is_blocked(struct actor *writer, unsigned *looks)
{
    *looks = atomic_load(&writer->state) == ACTOR_BEGINNING ? *looks + 1 : 0;
    return *looks > BLOCKED_LOOKS;
}

/* Whether a writer has shown what it must: see the head of kills.c.  behind: it was told to wait for the other one, which is
 * blocked. */
static bool writer_content(struct actor *writer, const struct rig_held *held, bool blocked, bool behind)
{
    if (atomic_load(&writer->state) == ACTOR_OPENING) { /* nobody can open it, or it was told so in time */
        return held->attach || held->creating || atomic_load(&writer->refusals) != 0;
    }
    if (atomic_load(&writer->named[VICTIM]) != 0) {
        return true;
    }
    if (held->writer && !held->flush) {
        return false;
    }
    if (held->flush || held->fold) {
        return blocked || behind || atomic_load(&writer->commits) >= PLENTY;
    }
    return atomic_load(&writer->commits) >= 3;
}

static bool expect_while_stopped(struct rig *rig)
{
    struct actor *actors = rig->stage->actors;
    unsigned looks_at[2] = {0};
    const pid_t victim = actors[VICTIM].pid;
    struct actor *one = &actors[WRITER_ONE];
    struct actor *two = &actors[WRITER_TWO];
    const struct rig_held held = rig_probe(rig, victim);
    for (uint64_t looks = 0; looks < HANG_SECONDS * 10000u; looks++) {
        const bool one_blocked = is_blocked(one, &looks_at[0]);
        const bool two_blocked = is_blocked(two, &looks_at[1]);
        const bool one_behind = two_blocked && atomic_load(&one->named[WRITER_TWO]) != 0;
        const bool two_behind = one_blocked && atomic_load(&two->named[WRITER_ONE]) != 0;
        if (writer_content(one, &held, one_blocked, one_behind) &&
            writer_content(two, &held, two_blocked, two_behind) && rig_reader_content(&actors[READER], &held)) {
            return true;
        }
        if (looks % 64 == 63 && !rig_all_well(rig, OTHERS)) {
            return false;
        }
        rig_pause();
    }
    for (unsigned i = WRITER_ONE; i <= READER; i++) {
        (void)rig_fail(rig, "process %u: state %u, %llu went on, %llu refusals, the last: %s", i,
                       atomic_load(&actors[i].state), (unsigned long long)atomic_load(&actors[i].commits),
                       (unsigned long long)atomic_load(&actors[i].refusals), actors[i].detail);
    }
    return rig_fail(rig, "while it is stopped (process %d; holds%s%s%s%s%s) others neither go on nor are told why",
                    (int)victim, held.writer ? " writer" : "", held.flush ? " flush" : "", held.fold ? " fold" : "",
                    held.attach ? " attach" : "", held.creating ? " new file" : "");
}

/* --------------------------------------------------------------------------------------------------------- one run */

enum outcome { GOOD, BAD, NOT_REACHED };

static enum outcome finish(struct rig *rig, enum points_action action)
{
    struct actor *victim = &rig->stage->actors[VICTIM];
    bool good = expect_while_stopped(rig);
    rig_end_stop(rig);
    if (action == POINTS_KILL) {
        rig_kill(rig, VICTIM);
        rig_count_kill(rig, VICTIM);
    } else {
        (void)kill(victim->pid, SIGCONT);
    }
    good = good && rig_progress(rig, OTHERS);
    if (good && rig_is_there(rig, VICTIM)) {
        good = rig_await(rig, VICTIM) == RIG_ENDED;
    }
    return good && rig_verify(rig) ? GOOD : BAD;
}

static enum outcome run(struct rig *rig, enum scenario scenario, unsigned point, enum points_action action)
{
    (void)snprintf(rig->what, sizeof rig->what, "%s, %s, of one who %s", points_name(point),
                   action == POINTS_KILL ? "killed" : "stopped", scenario_names[scenario]);
    points_set(&rig->stage->actors[VICTIM].arm, point, 1, POINTS_STOP);
    if (!set_out(rig, scenario)) {
        return BAD;
    }
    const enum rig_end end = rig_await(rig, VICTIM);
    if (end == RIG_ENDED) {
        return NOT_REACHED;
    }
    if (end != RIG_STOPPED) {
        return BAD;
    }
    rig_begin_stop(rig);
    start_others(rig);
    return finish(rig, action);
}

/* ------------------------------------------------------------------------------------------------------ all of them */

/* Which points a victim passes in each scenario, found out by going through it. */
static bool explore(struct rig *rig, bool (*passes)[POINTS_MAX])
{
    for (unsigned scenario = 0; scenario < SCENARIOS; scenario++) {
        (void)snprintf(rig->what, sizeof rig->what, "one who %s", scenario_names[scenario]);
        memset(rig->victim_seen, 0, sizeof *rig->victim_seen);
        points_set(&rig->stage->actors[VICTIM].arm, POINTS_ANY, INT64_MAX, POINTS_STOP);
        if (!set_out(rig, (enum scenario)scenario) || rig_await(rig, VICTIM) != RIG_ENDED || !rig_verify(rig)) {
            return false;
        }
        for (unsigned point = 0; point < POINTS_MAX; point++) {
            passes[scenario][point] = atomic_load(&rig->victim_seen->passages[point]) != 0;
        }
    }
    return true;
}

static bool run_until_reached(struct rig *rig, enum scenario scenario, unsigned point, enum points_action action)
{
    for (unsigned i = 0; i < TRIES; i++) {
        const enum outcome outcome = run(rig, scenario, point, action);
        if (outcome != NOT_REACHED) {
            atomic_fetch_add(outcome == GOOD ? &rig->figures->passed : &rig->figures->failed, 1);
            if (outcome == BAD) { /* a fresh start for the next */
                rig_kill_all(rig);
                rig_end_stop(rig);
                rig_new_heap(rig);
            }
            return true;
        }
    }
    return false;
}

/* A lock's dead owner is met in several scenarios, each of which is another lock. */
static bool met_in_all(unsigned point)
{
    return point == points_find("lock_owner_died");
}

static void strike(struct rig *rig, bool (*passes)[POINTS_MAX], unsigned point, enum scenario scenario, bool *struck)
{
    if (!passes[scenario][point] || (struck[point] && !met_in_all(point))) {
        return;
    }
    struck[point] =
        run_until_reached(rig, scenario, point, POINTS_KILL) && run_until_reached(rig, scenario, point, POINTS_STOP);
}

static void judge_point(struct rig *rig, bool passed, bool struck, unsigned point)
{
    (void)snprintf(rig->what, sizeof rig->what, "%s", points_name(point));
    if (points_certain(point) && !struck) {
        atomic_fetch_add(&rig->figures->failed, 1);
        (void)rig_fail(rig, "it was not reached");
    }
    if (!points_expected(point) && passed) {
        atomic_fetch_add(&rig->figures->failed, 1);
        (void)rig_fail(rig, "it was passed, and is not in the tables");
    }
}

bool rig_each(const struct rig_settings *settings, const char *directory, unsigned job, struct rig_figures *figures)
{
    static bool passes[SCENARIOS][POINTS_MAX];
    static bool struck[POINTS_MAX];
    struct rig rig;
    rig_init(&rig, directory, job, settings->seed, figures);
    if (!explore(&rig, passes)) {
        atomic_fetch_add(&figures->failed, 1);
        rig_kill_all(&rig);
        return false;
    }
    for (unsigned scenario = 0; scenario < SCENARIOS; scenario++) {
        for (unsigned point = job; point < points_count(); point += settings->jobs) {
            if (points_expected(point) && (settings->point == POINTS_MAX || settings->point == point)) {
                strike(&rig, passes, point, (enum scenario)scenario, struck);
            }
        }
    }
    for (unsigned point = job; point < points_count() && settings->point == POINTS_MAX; point += settings->jobs) {
        bool passed = atomic_load(&figures->seen.passages[point]) != 0;
        for (unsigned scenario = 0; scenario < SCENARIOS; scenario++) {
            passed |= passes[scenario][point];
        }
        judge_point(&rig, passed, struck[point], point);
    }
    (void)snprintf(rig.what, sizeof rig.what, "the end");
    if (!rig_retire(&rig, OTHERS) || !rig_verify(&rig)) {
        atomic_fetch_add(&figures->failed, 1);
    }
    rig_kill_all(&rig);
    rig_new_heap(&rig); /* for the figures */
    return atomic_load(&figures->failed) == 0;
}
