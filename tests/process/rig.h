/* SPDX-License-Identifier: MIT */
/*
 * The rig: starts, arms, stops and kills actors on one heap, and waits for what must happen.
 *
 * Waiting has no limit but HANG_SECONDS, which stands for "never".  A function that returns bool has told what is wrong
 * when it returns false.
 */
#ifndef TESTS_PROCESS_RIG_H
#define TESTS_PROCESS_RIG_H

#include "tests/process/actor.h"

#include <signal.h>
#include <stddef.h>

#define HANG_SECONDS 240u

struct rig_settings {
    uint64_t cycles;
    uint64_t seed;
    unsigned jobs;
    unsigned point; /* the only one; POINTS_MAX: all */
};

/* What all jobs have done together. */
struct rig_figures {
    _Atomic uint32_t enough;         /* the campaign is to end */
    _Atomic uint64_t passed, failed; /* of --each */
    _Atomic uint64_t cycles;
    _Atomic uint64_t kills;
    _Atomic uint64_t opening; /* of these: while the heap was being created, opened or recovered */
    _Atomic uint64_t stops;
    _Atomic uint64_t verified; /* verifications of the whole heap */
    _Atomic uint64_t recoveries;
    _Atomic uint64_t transactions; /* of the chains, as verified */
    _Atomic uint64_t heaps;
    struct points_seen seen;   /* passed, by anybody */
    struct points_seen struck; /* killed or stopped there */
};

struct rig {
    struct stage *stage; /* shared with the actors */
    struct rig_figures *figures;
    struct points_seen *victim_seen; /* what actor 0 passes */
    uint64_t dice;
    uint32_t stops; /* so far: the number of the next one */
    char what[256]; /* what is going on, for messages */
};

/* What a stopped process holds. */
struct rig_held {
    bool writer, flush, fold; /* locks in the coordination file */
    bool attach;              /* the lock of the heap file, exclusively: it recovers or closes */
    bool creating;            /* the lock of the new file */
};

void rig_init(struct rig *rig, const char *directory, unsigned job, uint64_t seed, struct rig_figures *figures);

__attribute__((format(printf, 2, 3))) bool rig_fail(struct rig *rig, const char *format, ...);

/* Begin a new heap and a new history. */
void rig_new_heap(struct rig *rig);

void rig_start(struct rig *rig, unsigned number, enum actor_role role);
void rig_kill(struct rig *rig, unsigned number);
void rig_kill_all(struct rig *rig);
/* For the figures: one has been killed by other means than its fail point. */
void rig_count_kill(struct rig *rig, unsigned number);
bool rig_is_there(const struct rig *rig, unsigned number);

enum rig_end { RIG_ENDED, RIG_KILLED, RIG_STOPPED, RIG_HANGS, RIG_WRONG };
/* Until it has ended with 0, was killed or stopped by its fail point; HANGS and WRONG have been told. */
enum rig_end rig_await(struct rig *rig, unsigned number);
/* The same, giving up without a word after so many microseconds: then HANGS. */
enum rig_end rig_await_for(struct rig *rig, unsigned number, uint64_t microseconds);

/* Nobody has ended badly, nor any of the actors `numbers` (bits) at all. */
bool rig_all_well(struct rig *rig, unsigned numbers);
/* Each of these has got on since. */
bool rig_progress(struct rig *rig, unsigned numbers);
/* Tell these to quit, and see that they end well. */
bool rig_retire(struct rig *rig, unsigned numbers);
bool rig_verify(struct rig *rig);

/* Whether a reader has gone on while somebody was stopped, or could not come to it. */
bool rig_reader_content(struct actor *reader, const struct rig_held *held);
struct rig_held rig_probe(const struct rig *rig, pid_t pid);
void rig_begin_stop(struct rig *rig);
void rig_end_stop(struct rig *rig);

void rig_pause(void);

/* each.c and campaign.c */
bool rig_each(const struct rig_settings *settings, const char *directory, unsigned job, struct rig_figures *figures);
bool rig_campaign(const struct rig_settings *settings, const char *directory, unsigned job,
                  struct rig_figures *figures);
void rig_report(const struct rig_settings *settings, struct rig_figures *figures);

#endif
