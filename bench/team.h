/* SPDX-License-Identifier: MIT */
/*
 * A team of processes for benchmarks: forked once, set to work for one slice after the other, and asleep between them,
 * so that a slice measures neither their start nor cold caches.
 */
#ifndef BENCH_TEAM_H
#define BENCH_TEAM_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#define TEAM_MAX 16u
#define TEAM_SAMPLES 200000u

struct team;

/* What a member does in a slice: count what it has done, and return soon after team_over(). */
typedef void (*team_job)(struct team *team, unsigned index);

/* In memory that all of them share. */
struct team_member {
    _Alignas(64) _Atomic uint64_t count; /* of the slice */
    pid_t process;
    team_job job; /* of the slice, NULL: sleep on */
};

struct team {
    _Alignas(64) _Atomic uint32_t slice; /* futex: changes when one begins */
    _Atomic uint32_t at_work;            /* futex: members that have not finished it; at first, that are not ready */
    _Atomic bool over;
    _Alignas(64) _Atomic uint32_t turn; /* futex: for jobs that take turns */
    _Atomic uint64_t sent_ns;           /* when the turn was given away */
    _Alignas(64) struct team_member members[TEAM_MAX];
    unsigned size;
    _Atomic size_t sample_count;
    float samples[TEAM_SAMPLES]; /* of the slice, in nanoseconds; the rest are not kept */
};

/* Fork `size` processes; each calls `prepare` once. */
struct team *team_start(unsigned size, void (*prepare)(unsigned index));

/* The jobs of the next slice; all members without one sleep through it. */
void team_assign(struct team *team, unsigned from, unsigned count, team_job job);

/* Run the slice for `seconds`, then forget the jobs; 0: it is over from the beginning, for jobs of a given length. */
void team_run(struct team *team, double seconds);

/* The sum of the counts of members [from, from + count) in the last slice. */
uint64_t team_count(const struct team *team, unsigned from, unsigned count);

/* End all members. */
void team_end(struct team *team);

/* For the jobs. */
static inline bool team_over(const struct team *team)
{
    return atomic_load_explicit(&team->over, memory_order_relaxed);
}
void team_sample(struct team *team, uint64_t ns);

/* Sleep until the word is not `expected` any more; change it and wake all who sleep on it. */
void team_wait(_Atomic uint32_t *word, uint32_t expected);
void team_wake(_Atomic uint32_t *word, uint32_t value);

/* Memory that forked processes share with this one. */
void *team_memory(size_t length);

#endif
