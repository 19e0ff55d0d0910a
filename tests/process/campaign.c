/* SPDX-License-Identifier: MIT */
/*
 * A campaign of random kills.
 *
 * A few processes that do everything at random, and a reader, share a heap that lives on from cycle to cycle.  In a cycle
 * one or more of them are killed, or one is stopped: at a random passage of a random fail point, of any fail point, or at
 * any moment.  In some all are killed, and those that recover as well, or the heap is closed, or created anew meanwhile.
 * Then all who live, and those who come in the place of the dead, must go on, and a fresh process verifies everything.
 */
#include "tests/process/rig.h"

#include "tests/support/dice.h"

#include <stdio.h>
#include <sys/wait.h>

#define EXTRA 0u         /* an opener, or a creator */
#define READER 1u        /* only reads */
#define MEMBERS 6u       /* the reader and those that do everything: 1 to MEMBERS - 1, as many as `size` */
#define TARGET_US 20000u /* so long a chosen fail point may take to be passed; then any will do */
#define PROGRESS_EACH 4u
#define REPORT_EACH 1000u

struct campaign {
    struct rig rig;
    unsigned size;
};

static uint64_t roll(struct campaign *c, uint64_t sides)
{
    return dice_roll(&c->rig.dice) % sides;
}

/* Small numbers, and now and then large ones. */
static int64_t roll_passage(struct campaign *c)
{
    return 1 + (int64_t)roll(c, UINT64_C(1) << roll(c, 10));
}

static unsigned members(const struct campaign *c)
{
    return ((1u << c->size) - 1) & ~1u;
}

static unsigned roll_member(struct campaign *c)
{
    return READER + (unsigned)roll(c, c->size - 1);
}

static unsigned roll_point(struct campaign *c)
{
    if (roll(c, 3) == 0) {
        return POINTS_ANY;
    }
    for (;;) {
        const unsigned point = (unsigned)roll(c, points_count());
        if (points_expected(point)) {
            return point;
        }
    }
}

static void start_member(struct campaign *c, unsigned number)
{
    rig_start(&c->rig, number, number == READER ? ACTOR_READER : ACTOR_ANY);
}

static void start_missing(struct campaign *c)
{
    for (unsigned i = READER; i < c->size; i++) {
        if (!rig_is_there(&c->rig, i)) {
            start_member(c, i);
        }
    }
}

/* Make a member meet its fate: it is stopped, or is no more. */
static bool strike(struct campaign *c, unsigned number, enum points_action action)
{
    struct rig *rig = &c->rig;
    struct points_arm *arm = &rig->stage->actors[number].arm;
    points_set(arm, roll_point(c), roll_passage(c), action);
    enum rig_end end = rig_await_for(rig, number, TARGET_US);
    if (end == RIG_HANGS) {
        points_set(arm, POINTS_ANY, roll_passage(c), action);
        end = rig_await(rig, number);
    }
    points_clear(
        arm); /* it may have been at the first point just when it was set for any, and then stop a second time */
    return end == (action == POINTS_KILL ? RIG_KILLED : RIG_STOPPED);
}

/* kill -9 at any moment, between fail points too. */
static void shoot(struct campaign *c, unsigned number)
{
    for (uint64_t pauses = roll(c, 30); pauses > 0; pauses--) {
        rig_pause();
    }
    rig_kill(&c->rig, number);
    rig_count_kill(&c->rig, number);
}

/* Processes that open the heap, recover it or create it, and are killed on the way, one after the other. */
static bool kill_openers(struct campaign *c)
{
    for (uint64_t left = roll(c, 4); left > 0; left--) {
        points_set(&c->rig.stage->actors[EXTRA].arm, roll(c, 2) == 0 ? POINTS_ANY : roll_point(c), roll_passage(c),
                   POINTS_KILL);
        rig_start(&c->rig, EXTRA, ACTOR_OPENER);
        const enum rig_end end = rig_await(&c->rig, EXTRA);
        if (end != RIG_KILLED && end != RIG_ENDED) {
            return false;
        }
    }
    return true;
}

/* ---------------------------------------------------------------------------------------------------------- cycles */

static bool kill_one(struct campaign *c)
{
    const unsigned number = roll_member(c);
    if (roll(c, 8) == 0) {
        shoot(c, number);
        return true;
    }
    return strike(c, number, POINTS_KILL);
}

static bool kill_all(struct campaign *c)
{
    for (unsigned i = READER; i < c->size; i++) {
        if (roll(c, 4) == 0) {
            shoot(c, i);
        } else if (!strike(c, i, POINTS_KILL)) {
            return false;
        }
    }
    return kill_openers(c);
}

/* All close the heap; some are killed at that. */
static bool close_all(struct campaign *c)
{
    for (uint64_t armed = 1 + roll(c, 2); armed > 0; armed--) {
        points_set(&c->rig.stage->actors[roll_member(c)].arm, POINTS_ANY, roll_passage(c), POINTS_KILL);
    }
    return rig_retire(&c->rig, members(c)) && kill_openers(c);
}

/* Begin a new heap; who creates it and makes its first transactions is killed a few times. */
static bool create_anew(struct campaign *c)
{
    rig_kill_all(&c->rig);
    rig_new_heap(&c->rig);
    c->size = 3 + (unsigned)roll(c, MEMBERS - 2); /* one to four that write */
    for (uint64_t left = roll(c, 4); left > 0; left--) {
        points_set(&c->rig.stage->actors[2].arm, POINTS_ANY, roll_passage(c), POINTS_KILL);
        start_member(c, 2);
        if (rig_await(&c->rig, 2) != RIG_KILLED) {
            return false;
        }
    }
    return true;
}

/* While one is stopped the reader goes on; what the others are at may be a call that waits. */
static bool stop_one(struct campaign *c)
{
    struct rig *rig = &c->rig;
    const unsigned number = roll_member(c);
    if (!strike(c, number, POINTS_STOP)) {
        return false;
    }
    const pid_t pid = rig->stage->actors[number].pid;
    const struct rig_held held = rig_probe(rig, pid);
    rig_begin_stop(rig);
    bool good = number == READER;
    for (uint64_t looks = 0; !good && looks < HANG_SECONDS * 10000u; looks++) {
        good = rig_reader_content(&rig->stage->actors[READER], &held);
        if (looks % 64 == 63 && !rig_all_well(rig, members(c))) {
            return false;
        }
        rig_pause();
    }
    rig_end_stop(rig);
    if (roll(c, 2) == 0) {
        rig_kill(rig, number);
        rig_count_kill(&c->rig, number);
    } else {
        (void)kill(pid, SIGCONT);
    }
    return good || rig_fail(rig, "the reader does not go on while process %u is stopped", number);
}

static bool run_cycle(struct campaign *c)
{
    static const struct {
        const char *what;
        unsigned weight;
        bool (*run)(struct campaign *c);
    } kinds[] = {
        {"one is killed", 700, kill_one}, {"all are killed", 180, kill_all}, {"all close", 50, close_all},
        {"one is stopped", 68, stop_one}, {"a new heap", 2, create_anew},
    };
    uint64_t drawn = roll(c, 1000);
    size_t kind = 0;
    while (drawn >= kinds[kind].weight) {
        drawn -= kinds[kind++].weight;
    }
    (void)snprintf(c->rig.what, sizeof c->rig.what, "cycle %llu, %s",
                   (unsigned long long)atomic_load(&c->rig.figures->cycles), kinds[kind].what);
    if (!kinds[kind].run(c)) {
        return false;
    }
    const bool verify_first = roll(c, 2) == 0; /* who takes over: a process that only reads, or any */
    if (verify_first && !rig_verify(&c->rig)) {
        return false;
    }
    start_missing(c);
    /* A lock that nobody takes over would hold up the verifying process, too; that all go on is looked at now and then. */
    if (roll(c, PROGRESS_EACH) == 0 && !rig_progress(&c->rig, members(c))) {
        return false;
    }
    return verify_first || rig_verify(&c->rig);
}

bool rig_campaign(const struct rig_settings *settings, const char *directory, unsigned job, struct rig_figures *figures)
{
    struct campaign c = {.size = 4};
    rig_init(&c.rig, directory, job, settings->seed, figures);
    start_missing(&c);
    bool good = true;
    while (good && atomic_load(&figures->cycles) < settings->cycles && atomic_load(&figures->enough) == 0) {
        good = run_cycle(&c);
        const uint64_t cycles = atomic_fetch_add(&figures->cycles, 1) + 1;
        if (cycles % REPORT_EACH == 0) {
            (void)printf("%llu cycles, %llu kills\n", (unsigned long long)cycles,
                         (unsigned long long)atomic_load(&figures->kills));
            (void)fflush(stdout);
        }
    }
    good = good && rig_retire(&c.rig, members(&c)) && rig_verify(&c.rig);
    atomic_fetch_add(&figures->failed, !good);
    rig_kill_all(&c.rig);
    if (good) {
        rig_new_heap(&c.rig); /* for the figures */
    }
    return good;
}
