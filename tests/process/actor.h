/* SPDX-License-Identifier: MIT */
/*
 * What the processes of the rig do.  Each is an actor: it opens the heap, does its part until it is told to quit, closes
 * and exits with 0.  What it meets that it should not ends it with another status, and the text is in the oracle.
 */
#ifndef TESTS_PROCESS_ACTOR_H
#define TESTS_PROCESS_ACTOR_H

#include "tests/process/oracle.h"
#include "tests/process/points.h"

#include <sys/types.h>

#define ACTORS_MAX 8u
#define ACTOR_DETAIL_BYTES 512

enum actor_role {
    ACTOR_WRITER, /* commits, with a time limit; notes whom it waits for while somebody is stopped */
    ACTOR_READER, /* snapshots, and waits for commits */
    ACTOR_ALL, /* everything once, in order, in up to LIVES lives from open to close, until its fail point is reached */
    ACTOR_ANY, /* everything at random, for ever */
    ACTOR_OPENER,  /* opens and closes */
    ACTOR_VERIFIER /* opens, verifies the history and closes */
};

enum actor_state { ACTOR_AWAY, ACTOR_OPENING, ACTOR_IDLE, ACTOR_BEGINNING, ACTOR_CLOSING };

struct actor {
    struct points_arm arm;
    _Atomic uint32_t state; /* enum actor_state */
    _Atomic uint32_t quit;
    _Atomic uint32_t held_back; /* do not begin to work yet */
    _Atomic uint64_t progress;  /* transactions, snapshots or other work done, over all its lives */
    /* While somebody is stopped: what was begun and ended since. */
    _Atomic uint64_t commits;
    _Atomic uint64_t refusals;
    _Atomic uint32_t named[ACTORS_MAX]; /* a refusal named this actor's process */
    char detail[ACTOR_DETAIL_BYTES];    /* of the last refusal */
    pid_t pid;                          /* the rig's alone; 0: none */
};

/* Of one heap, in memory that all its processes share. */
struct stage {
    struct oracle oracle;
    char path[512];
    _Atomic uint32_t stop; /* the number of the stop that is under way, 0: nobody is stopped */
    _Atomic uint64_t recoveries;
    struct actor actors[ACTORS_MAX];
};

/* In a process of its own: play the part.  `seed`: of random choices. */
__attribute__((noreturn)) void actor_play(struct stage *stage, unsigned number, enum actor_role role, uint64_t seed);

#endif
