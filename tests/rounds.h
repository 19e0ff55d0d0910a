/* SPDX-License-Identifier: MIT */
/*
 * A heap whose root block spans many pages, all words of which get the number of a round with each commit: so a snapshot
 * that mixes versions shows wherever one looks.
 */
#ifndef TESTS_ROUNDS_H
#define TESTS_ROUNDS_H

#include "tests/public.h"

enum {
    WORDS = 8192,       /* of the root block: 16 pages */
    STRIDE = 64,        /* between the words that a round changes */
    COMMITS_MAX = 2000, /* before a log of 256 KiB must be full, with room to spare */
};

static inline pheap *create_with(const char *name, struct pheap_options options)
{
    pheap *heap;
    ok(pheap_open(path_of(name, ""), PHEAP_CREATE | PHEAP_EXCLUSIVE, &options, &heap));
    (void)make_root(heap, WORDS);
    return heap;
}

static inline enum pheap_status try_commit_all(pheap *heap, uint64_t round)
{
    pheap_txn *txn;
    const enum pheap_status status = pheap_begin(heap, &txn);
    if (status != PHEAP_OK) {
        return status;
    }
    for (uint64_t i = 0; i < WORDS; i += STRIDE) {
        put_word(txn, i, round);
    }
    return pheap_commit(txn, PHEAP_LAZY, NULL);
}

static inline void commit_all(pheap *heap, uint64_t round)
{
    ok(try_commit_all(heap, round));
}

static inline void require_round(const pheap_read *reader, uint64_t round)
{
    for (uint64_t i = 0; i < WORDS; i += STRIDE) {
        require_equal(read_word(reader, i), round);
    }
}

/* What the processes pin, as one of them tells it. */
static inline struct pheap_user user_of(pheap *heap, pid_t pid)
{
    struct pheap_user user = {.size = sizeof user};
    for (uint32_t seat = 0; pheap_next_user(heap, seat, &user) == PHEAP_OK; seat = user.seat + 1) {
        if (user.pid == pid) {
            return user;
        }
    }
    check_failed(__FILE__, __LINE__, "process %d is not attached", (int)pid);
}

#endif
