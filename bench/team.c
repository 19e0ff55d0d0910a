/* SPDX-License-Identifier: MIT */
/* Teams: slices of work for processes, by futex. */
#define _GNU_SOURCE
#include "bench/team.h"

#include "bench/bench.h"

#include <errno.h>
#include <linux/futex.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

void team_wait(_Atomic uint32_t *word, uint32_t expected)
{
    while (atomic_load(word) == expected) {
        (void)syscall(SYS_futex, word, FUTEX_WAIT, expected, NULL, NULL, 0);
    }
}

void team_wake(_Atomic uint32_t *word, uint32_t value)
{
    atomic_store(word, value);
    (void)syscall(SYS_futex, word, FUTEX_WAKE, INT32_MAX, NULL, NULL, 0);
}

void *team_memory(size_t length)
{
    void *memory = mmap(NULL, length, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED) {
        bench_die("no memory to share: %s", strerror(errno));
    }
    return memory;
}

void team_sample(struct team *team, uint64_t ns)
{
    const size_t place = atomic_fetch_add_explicit(&team->sample_count, 1, memory_order_relaxed);
    if (place < TEAM_SAMPLES) {
        team->samples[place] = (float)ns;
    }
}

/* ---------------------------------------------------------------------------------------------------- the members */

static void finish_slice(struct team *team)
{
    if (atomic_fetch_sub(&team->at_work, 1) == 1) {
        team_wake(&team->at_work, 0);
    }
}

_Noreturn static void run_member(struct team *team, unsigned index, void (*prepare)(unsigned index))
{
    (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
    prepare(index);
    finish_slice(team);
    for (uint32_t slice = 0;; slice++) {
        team_wait(&team->slice, slice);
        if (team->members[index].job != NULL) {
            team->members[index].job(team, index);
            finish_slice(team);
        }
    }
}

/* A member that fails says why and ends; the others would wait for it for ever. */
static void wait_for_members(struct team *team)
{
    const struct timespec patience = {.tv_sec = 0, .tv_nsec = 100000000};
    for (uint32_t left = atomic_load(&team->at_work); left != 0; left = atomic_load(&team->at_work)) {
        (void)syscall(SYS_futex, &team->at_work, FUTEX_WAIT, left, &patience, NULL, 0);
        for (unsigned i = 0; i < team->size; i++) {
            if (waitpid(team->members[i].process, NULL, WNOHANG) > 0) {
                bench_die("process %u of the benchmark has ended", i);
            }
        }
    }
}

/* -------------------------------------------------------------------------------------------------------- the team */

struct team *team_start(unsigned size, void (*prepare)(unsigned index))
{
    struct team *team = team_memory(sizeof *team);
    team->size = size;
    atomic_store(&team->at_work, size);
    (void)fflush(NULL);
    for (unsigned i = 0; i < size; i++) {
        const pid_t process = fork();
        if (process < 0) {
            bench_die("cannot fork: %s", strerror(errno));
        }
        if (process == 0) {
            run_member(team, i, prepare);
        }
        team->members[i].process = process;
    }
    wait_for_members(team);
    return team;
}

void team_assign(struct team *team, unsigned from, unsigned count, team_job job)
{
    for (unsigned i = from; i < from + count; i++) {
        team->members[i].job = job;
    }
}

void team_run(struct team *team, double seconds)
{
    unsigned working = 0;
    for (unsigned i = 0; i < team->size; i++) {
        atomic_store(&team->members[i].count, 0);
        working += team->members[i].job != NULL;
    }
    atomic_store(&team->over, seconds <= 0);
    atomic_store(&team->turn, 0);
    atomic_store(&team->sample_count, 0);
    atomic_store(&team->at_work, working);
    team_wake(&team->slice, atomic_load(&team->slice) + 1);
    if (seconds > 0) {
        const struct timespec time = {.tv_sec = (time_t)seconds,
                                      .tv_nsec = (long)((seconds - (double)(time_t)seconds) * 1e9)};
        (void)nanosleep(&time, NULL);
        atomic_store(&team->over, true);
    }
    wait_for_members(team);
    team_assign(team, 0, team->size, NULL);
}

uint64_t team_count(const struct team *team, unsigned from, unsigned count)
{
    uint64_t sum = 0;
    for (unsigned i = from; i < from + count; i++) {
        sum += atomic_load(&team->members[i].count);
    }
    return sum;
}

void team_end(struct team *team)
{
    for (unsigned i = 0; i < team->size; i++) {
        (void)kill(team->members[i].process, SIGKILL);
        (void)waitpid(team->members[i].process, NULL, 0);
    }
    (void)munmap(team, sizeof *team);
}
