/* SPDX-License-Identifier: MIT */
/* One baton, many threads. */
#include "tests/simulate/scheduler.h"

#include "tests/support/dice.h"

#include <errno.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdio.h>
#include <stdlib.h>

#define STACK_BYTES ((size_t)512 << 10)

enum state { RUNNABLE, BLOCKED, FINISHED, KILLED };

struct thread {
    int number;
    enum state state;
    unsigned process;
    sem_t baton;
    const char *where;
    void (*run)(void *);
    void *argument;
    bool (*ready)(void *); /* of a blocked one */
    void *ready_argument;
    uint64_t until;
};

static struct {
    struct scheduler_hooks hooks;
    struct thread *threads[SCHEDULER_THREADS_MAX]; /* never given back: one that was killed still waits on its baton */
    int count;
    sem_t outside; /* the baton comes back when nobody can go on */
    enum scheduler_end end;
    uint64_t yields, yields_max, hash;
} scheduler;

static _Thread_local int self_number = -1;

static void require(bool condition, const char *what)
{
    if (condition)
        return;
    fprintf(stderr, "scheduler: %s\n", what);
    abort();
}

static void take(sem_t *baton)
{
    while (sem_wait(baton) != 0)
        require(errno == EINTR, "sem_wait");
}

static bool can_go_on(const struct thread *thread, uint64_t now)
{
    if (thread->state == BLOCKED)
        return thread->ready(thread->ready_argument) || now >= thread->until;
    return thread->state == RUNNABLE;
}

static int gather(int *ready)
{
    const uint64_t now = scheduler.hooks.now(scheduler.hooks.context);
    int count = 0;
    for (int i = 0; i < scheduler.count; i++)
        if (can_go_on(scheduler.threads[i], now))
            ready[count++] = i;
    return count;
}

/* Whoever can go on; if that is nobody, the time of the first who waits for one.  -1: nobody ever will. */
static int next_thread(void)
{
    int ready[SCHEDULER_THREADS_MAX], count = gather(ready);
    if (count == 0) {
        uint64_t earliest = UINT64_MAX;
        for (int i = 0; i < scheduler.count; i++)
            if (scheduler.threads[i]->state == BLOCKED && scheduler.threads[i]->until < earliest)
                earliest = scheduler.threads[i]->until;
        if (earliest == UINT64_MAX)
            return -1;
        scheduler.hooks.sleep_until(scheduler.hooks.context, earliest);
        count = gather(ready);
    }
    return scheduler.hooks.choose(scheduler.hooks.context, self_number, ready, count);
}

static void stop(enum scheduler_end end)
{
    scheduler.end = end;
    (void)sem_post(&scheduler.outside);
}

/* Give the baton away, and come back when it is here again: never, if this thread is dead. */
static void hand_over(void)
{
    struct thread *self = scheduler.threads[self_number];
    if (++scheduler.yields > scheduler.yields_max) {
        stop(SCHEDULER_OVERRUN);
        take(&self->baton);
    }
    int to = next_thread();
    if (to == self_number)
        return;
    const bool finished = self->state == FINISHED; /* once the baton is given away this is no more ours to read */
    scheduler.hash = dice_mix(scheduler.hash ^ scheduler.yields << 16 ^ (uint64_t)(unsigned)to);
    if (to >= 0) {
        (void)sem_post(&scheduler.threads[to]->baton);
    } else {
        bool blocked = false;
        for (int i = 0; i < scheduler.count; i++)
            blocked = blocked || scheduler.threads[i]->state == BLOCKED;
        stop(blocked ? SCHEDULER_DEADLOCK : SCHEDULER_DONE);
    }
    if (!finished)
        take(&self->baton);
}

static void *body(void *argument)
{
    struct thread *self = argument;
    self_number = self->number;
    take(&self->baton);
    self->run(self->argument);
    self->state = FINISHED;
    self->where = "finished";
    hand_over();
    return NULL;
}

void scheduler_init(const struct scheduler_hooks *hooks, uint64_t yields_max)
{
    scheduler.hooks = *hooks;
    scheduler.yields_max = yields_max;
    scheduler.count = 0;
    scheduler.yields = scheduler.hash = 0;
    require(sem_init(&scheduler.outside, 0, 0) == 0, "sem_init");
}

int scheduler_spawn(unsigned process, void (*run)(void *), void *argument)
{
    require(scheduler.count < SCHEDULER_THREADS_MAX, "too many threads");
    struct thread *thread = malloc(sizeof *thread);
    require(thread != NULL, "no memory");
    scheduler.threads[scheduler.count] = thread;
    *thread = (struct thread){.number = scheduler.count,
                              .state = RUNNABLE,
                              .process = process,
                              .where = "not begun",
                              .run = run,
                              .argument = argument};
    require(sem_init(&thread->baton, 0, 0) == 0, "sem_init");
    pthread_attr_t attributes;
    pthread_t started;
    require(pthread_attr_init(&attributes) == 0 && pthread_attr_setstacksize(&attributes, STACK_BYTES) == 0 &&
                pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED) == 0 &&
                pthread_create(&started, &attributes, body, thread) == 0,
            "no thread");
    (void)pthread_attr_destroy(&attributes);
    return scheduler.count++;
}

enum scheduler_end scheduler_run(void)
{
    int first = next_thread();
    if (first < 0)
        return SCHEDULER_DONE;
    (void)sem_post(&scheduler.threads[first]->baton);
    take(&scheduler.outside);
    return scheduler.end;
}

const char *scheduler_where(int thread)
{
    const struct thread *t = scheduler.threads[thread];
    return t->state == FINISHED || t->state == KILLED ? NULL : t->where;
}

int scheduler_thread_count(void)
{
    return scheduler.count;
}

uint64_t scheduler_hash(void)
{
    return scheduler.hash;
}

int scheduler_self(void)
{
    return self_number;
}

unsigned scheduler_process(void)
{
    return scheduler.threads[self_number]->process;
}

bool scheduler_alive(int thread)
{
    return scheduler.threads[thread]->state == RUNNABLE || scheduler.threads[thread]->state == BLOCKED;
}

void scheduler_yield(const char *where)
{
    if (self_number < 0)
        return;
    scheduler.threads[self_number]->where = where;
    scheduler.hooks.before(scheduler.hooks.context, self_number, where);
    hand_over();
}

bool scheduler_block(bool (*ready)(void *), void *argument, uint64_t until, const char *where)
{
    struct thread *self = scheduler.threads[self_number];
    self->where = where;
    scheduler.hooks.before(scheduler.hooks.context, self_number, where);
    self->ready = ready;
    self->ready_argument = argument;
    self->until = until;
    if (self->state == RUNNABLE)
        self->state = BLOCKED;
    hand_over();
    self->state = RUNNABLE;
    return ready(argument);
}

void scheduler_abandon(void)
{
    stop(SCHEDULER_DONE);
    take(&scheduler.threads[self_number]->baton);
}

void scheduler_kill(unsigned process)
{
    for (int i = 0; i < scheduler.count; i++)
        if (scheduler.threads[i]->process == process && scheduler_alive(i))
            scheduler.threads[i]->state = KILLED;
}
