/* SPDX-License-Identifier: MIT */
/*
 * A plan: everything that one simulation does, drawn from one seed.  Steps have seeds of their own, from which what they
 * do and who may interrupt them is drawn, so that a step does much the same when others are taken out of the plan: that is
 * how a failing plan is made short.
 */
#ifndef TESTS_SIMULATE_PLAN_H
#define TESTS_SIMULATE_PLAN_H

#include "tests/support/simfs.h"

#include <stdio.h>

#define PLAN_STEPS_MAX 64
#define PLAN_THREADS_MAX 6
#define PLAN_PROCESSES_MAX 3

enum step_kind {
    STEP_TRANSACTIONS, /* `amount` of them */
    STEP_READ,         /* one reader, held over `amount` places where others may go on */
    STEP_SYNC,
    STEP_FOLD,
    STEP_CHECKPOINT,
    STEP_MAINTAIN, /* after two seconds */
    STEP_REOPEN,
    STEP_FAULT,     /* the `amount`th operation from here on of some kind fails once, */
    STEP_FATAL,     /* and whoever meets that is killed before it can say so */
    STEP_DISK_FULL, /* files cannot grow any more */
    STEP_DISK_ROOM, /* they can again */
    STEP_KINDS
};

struct step {
    enum step_kind kind;
    unsigned thread;
    uint64_t seed;
    unsigned amount;
    bool calm;        /* nobody interrupts it unless it has to wait */
    unsigned kill_at; /* its process is killed at that place of the step; 0: no */
};

enum personality { DISK_HONEST, DISK_EXT4, DISK_XFS, DISK_BTRFS, DISK_STAYS_DIRTY, PERSONALITIES };

/* A rig that does not notice one of these is broken: for its own tests. */
enum planted {
    PLANTED_NOTHING,
    PLANTED_LOST_LOG_SYNC,
    PLANTED_LOST_HEAP_SYNC,
    PLANTED_LOST_NAME,
    PLANTED_LOST_SUPERBLOCK
};

struct plan {
    uint64_t seed;
    unsigned processes, threads; /* thread i belongs to process i % processes */
    unsigned rate;               /* one place in so many is one where another thread goes on */
    unsigned segments;           /* of the log */
    uint64_t large_max, live_max;
    bool track, verify, busy; /* busy: with so many transactions that they fill the log */
    unsigned prelude;         /* transactions of one thread alone before it all begins, of which no cut is made */
    bool killed;              /* in the end all processes are killed, rather than closed */
    enum personality personality;
    enum planted planted;
    struct step steps[PLAN_STEPS_MAX];
    unsigned step_count;
    /* Of the cuts. */
    unsigned samples;    /* states at one place of the journal */
    unsigned deepen[2];  /* one state of depth 1, of depth 2, in so many is gone on from: power is cut again while it
                            recovers */
    unsigned depth;      /* so often at most */
    unsigned damage;     /* one state in so many is damaged besides; 0: none */
    uint64_t states_max; /* about, spread over the journal */
};

void plan_make(struct plan *plan, uint64_t seed);
void plan_print(const struct plan *plan, FILE *out);
const char *plan_personality(enum personality personality);
/* How the machine for it is to be made. */
struct ph_sim_options plan_machine(const struct plan *plan);

#endif
