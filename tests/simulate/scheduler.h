/* SPDX-License-Identifier: MIT */
/*
 * A deterministic scheduler: real threads of which exactly one runs, the one with the baton.  It may give the baton away
 * wherever it calls scheduler_yield() or scheduler_block(), and does so as the hooks say.  So one seed always makes the
 * same run.
 *
 * There is one scheduler in a process of the system.  A thread that was not started by scheduler_spawn() is outside:
 * for it the lock functions of the library (locks.c) do what they always do, and it must not touch the machine while
 * scheduler_run() is under way.
 *
 * A thread whose simulated process is killed stops where it is and stays there until the real process ends.
 */
#ifndef TESTS_SIMULATE_SCHEDULER_H
#define TESTS_SIMULATE_SCHEDULER_H

#include <stdbool.h>
#include <stdint.h>

#define SCHEDULER_THREADS_MAX 256

struct scheduler_hooks {
    void *context;
    uint64_t (*now)(void *context);
    /* Nobody can go on before that time. */
    void (*sleep_until)(void *context, uint64_t now);
    /* The thread is at a place where something may happen to it: it may be killed, and others spawned. */
    void (*before)(void *context, int self, const char *where);
    /* Which of the threads goes on; `self` is one of them only if it can. */
    int (*choose)(void *context, int self, const int *ready, int count);
};

enum scheduler_end { SCHEDULER_DONE, SCHEDULER_DEADLOCK, SCHEDULER_OVERRUN /* more than yields_max */ };

void scheduler_init(const struct scheduler_hooks *hooks, uint64_t yields_max);
/* A thread of simulated process `process`; its number.  It waits for the baton. */
int scheduler_spawn(unsigned process, void (*run)(void *), void *argument);
/* From outside: let them run until none can. */
enum scheduler_end scheduler_run(void);
/* What those that are still there were last at, for people. */
const char *scheduler_where(int thread);
int scheduler_thread_count(void);
/* Depends on every handing-over. */
uint64_t scheduler_hash(void);

/* From inside. */

/* The calling thread's number; -1: it is outside. */
int scheduler_self(void);
unsigned scheduler_process(void);
bool scheduler_alive(int thread);
/* A place where another thread may go on, if called from inside. */
void scheduler_yield(const char *where);
/* Wait until `ready` says so, or until the simulated time (UINT64_MAX: never); false in the latter case. */
bool scheduler_block(bool (*ready)(void *), void *argument, uint64_t until, const char *where);
/* End the run at once, as done; does not return. */
void scheduler_abandon(void);
/* Its threads never run again, but for the calling one, which goes on until it yields. */
void scheduler_kill(unsigned process);

#endif
