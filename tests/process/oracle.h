/* SPDX-License-Identifier: MIT */
/*
 * The oracle of acknowledged history: a chain of transactions by any number of processes, of which one always knows what
 * the heap must hold.
 *
 * Transaction k is a function of the seed and k alone: it rewrites some objects in place, moves others (free, allocate,
 * change the offset), adds to one counter and subtracts from another, and stores k and a hash of it in the root; some
 * take a savepoint, spoil things and roll back, some are aborted first.  Before a commit its process raises `started` in
 * shared memory, after it `acknowledged`.  A verification proves:
 *
 *   - the heap is the model after exactly k transactions, last acknowledged <= k <= last started, byte for byte;
 *   - the commit number is k too, every object is one live block, and nothing else is alive;
 *   - pheap_check finds no fault.
 *
 * One block is outside the model, so that whoever commits may choose to rewrite it: the ballast, larger than the log
 * buffer.  The root names the transaction that wrote it last, and it must be whole.
 *
 * What is found wrong ends the process with status 3, and the text is in `error` for whoever waits for it.
 */
#ifndef TESTS_PROCESS_ORACLE_H
#define TESTS_PROCESS_ORACLE_H

#include "pheap/pheap.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#define ORACLE_OBJECTS 40u
#define ORACLE_COUNTERS 256u
#define ORACLE_BALLAST_WORDS 5000u
#define ORACLE_FIRST 1u /* the number of the commit that makes the root; transaction k is commit k + 1 */

/* What the heap is after k transactions. */
struct oracle_model {
    uint64_t k;
    uint64_t stamp[ORACLE_OBJECTS];
    uint64_t birth[ORACLE_OBJECTS];
    uint64_t counters[ORACLE_COUNTERS];
};

/* In memory that all processes share; of one heap. */
struct oracle {
    uint64_t seed;
    _Atomic uint32_t born; /* the commit that makes the root was acknowledged */
    _Atomic uint64_t started;
    _Atomic uint64_t acknowledged;
    _Atomic uint64_t log_full; /* how often somebody's snapshot held the log */
    struct oracle_model model; /* as the last verification found it */
    char error[1024];
};

enum oracle_flags {
    ORACLE_LAZY = 1,    /* not durable, whatever the plan says */
    ORACLE_DURABLE = 2, /* durable, whatever the plan says */
    ORACLE_LARGE = 4    /* the ballast as well */
};

/* This process goes on with this history. */
void oracle_use(struct oracle *shared);
/* A new history, of a heap that is not there yet. */
void oracle_restart(uint64_t seed);

/* A number from the seed and these two. */
uint64_t oracle_mix(uint64_t a, uint64_t b);

__attribute__((noreturn, format(printf, 1, 2))) void oracle_give_up(const char *format, ...);
void oracle_must(enum pheap_status status, const char *what);

/* Make the root and the objects, unless they are there.  TIMEOUT of begin (timeout_ms >= 0) and LOG_FULL are returned. */
enum pheap_status oracle_create(pheap *heap, int64_t timeout_ms);

/*
 * The next transaction of the chain.  TIMEOUT of begin (timeout_ms >= 0) and LOG_FULL are returned, and nothing has
 * happened then; everything else that is not OK gives up.
 */
enum pheap_status oracle_commit(pheap *heap, int64_t timeout_ms, unsigned flags);

/* A snapshot shows a whole transaction; every object says which one wrote it, and is as that one left it. */
void oracle_glance(const pheap_read *reader);

/* All of the above.  One process at a time, which is not killed meanwhile. */
void oracle_verify(pheap *heap);

#endif
