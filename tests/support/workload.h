/* SPDX-License-Identifier: MIT */
/*
 * A program that uses one heap on a simulated machine: transactions of a history, and between them sync, fold,
 * checkpoint, maintenance, readers that pin, or that may be evicted, closing and reopening.  Half of them have a
 * neighbour: a second process that does the same, in turns.  It goes by dice only, so that the same seed does
 * the same again as long as nothing fails.
 */
#ifndef TESTS_SUPPORT_WORKLOAD_H
#define TESTS_SUPPORT_WORKLOAD_H

#include "tests/support/history.h"

#define PH_WORKLOAD_PATH "dir/heap"

/* A history that was given up when the heap was opened again and had less of it. */
struct ph_superseded {
    struct ph_history *history;
    uint64_t opens; /* the number of that open */
};

#define PH_SUPERSEDED_MAX 32
#define PH_WORKLOAD_READERS 4u

struct ph_workload_reader {
    pheap_read *open; /* NULL: none */
    uint64_t k;       /* what it shows */
    bool evictable;
};

struct ph_workload {
    struct ph_sim *sim;
    struct ph_history *history; /* owned */
    struct pheap_options options;
    uint64_t seed, dice;
    sigjmp_buf *grave; /* where to go when the process dies in a call; NULL: it does not */
    bool steady;       /* is seldom closed or killed, so that one epoch fills the log many times */
    unsigned flags;    /* with which it opens always */
    pheap *heap;       /* NULL while closed */
    bool social;       /* has a neighbour */
    pheap *neighbour;  /* its handle; NULL while closed */
    struct ph_workload_reader readers[PH_WORKLOAD_READERS];
    uint64_t evictions;
    uint64_t opens;
    bool doubtful; /* a commit or close has failed: what is not acknowledged may be lost */
    struct ph_superseded superseded[PH_SUPERSEDED_MAX];
    unsigned superseded_count;
    uint64_t acknowledged; /* the last transaction that is on stable storage, as far as the program was told */
    /* Of the last action. */
    enum pheap_status status; /* the first failure in it */
    enum ph_fate fate;        /* of its transaction, if it had one */
    bool was_transaction;
    const char *what;
    char detail[256];
    char why[256]; /* if not empty, something was wrong that no fault explains */
};

/* A machine is given and stays the caller's.  The seed also chooses the heap's parameters. */
void ph_workload_init(struct ph_workload *workload, struct ph_sim *sim, uint64_t seed);
/* Go on from transaction k of another history, in a heap that exists. */
void ph_workload_branch(struct ph_workload *workload, struct ph_sim *sim, const struct ph_workload *from, uint64_t k,
                        uint64_t seed);
/* Drops the history.  The heap must be closed. */
void ph_workload_deinit(struct ph_workload *workload);

/* The oldest transaction that will be asked about again unless power fails: the last acknowledged, or a reader's. */
uint64_t ph_workload_oldest(const struct ph_workload *workload);

/* The history as it was when the heap had been opened that often. */
const struct ph_history *ph_workload_history_at(const struct ph_workload *workload, uint64_t opens);
/* The process is killed. */
void ph_workload_kill(struct ph_workload *workload);

/* Each false if a call in it failed or something was wrong; status, detail, why tell. */
/* If it had been open before, the heap must have what was committed, or in doubt at least what was acknowledged. */
bool ph_workload_open(struct ph_workload *workload, unsigned flags);
bool ph_workload_close(struct ph_workload *workload);
/* One action by dice.  Opens the heap again where it was closed. */
bool ph_workload_act(struct ph_workload *workload);
/* Just a transaction, which the dice may abort. */
bool ph_workload_transaction(struct ph_workload *workload);
/* End the reader, if there is one. */
void ph_workload_end_readers(struct ph_workload *workload);

#endif
