/* SPDX-License-Identifier: MIT */
/*
 * A plain model of what a heap holds, and an author who changes both by dice: blocks are allocated, freed, resized and
 * edited in every way that the library knows, in savepoints and back.  The root block holds the number of the last
 * transaction, and every other block hangs from it.
 */
#ifndef TESTS_SUPPORT_MODEL_H
#define TESTS_SUPPORT_MODEL_H

#include "pheap/pheap.h"

#include <stdbool.h>
#include <stddef.h>

struct ph_model;

/* The model of a new heap. */
struct ph_model *ph_model_new(void);
struct ph_model *ph_model_copy(const struct ph_model *from);
/* One more reference to it; who holds one does not change it. */
struct ph_model *ph_model_share(struct ph_model *model);
void ph_model_release(struct ph_model *model);

/* Which transaction the snapshot shows, as its root block says.  False, and `why`, if that makes no sense. */
bool ph_model_number(const pheap_read *reader, uint64_t *k, char *why, size_t why_bytes);
/* Whether the snapshot has the blocks of the model, and no others, with its bytes, and passes the library's check. */
bool ph_model_verify(const struct ph_model *model, const pheap_read *reader, char *why, size_t why_bytes);

/* Write that into `why`, and return false. */
__attribute__((format(printf, 3, 4))) bool ph_differs(char *why, size_t why_bytes, const char *format, ...);

struct ph_author {
    uint64_t dice;
    uint64_t large_max, live_max; /* of a block, and of all of them together; bytes */
    bool track;                   /* let most transactions track all or some blocks, and then just store */
    uint64_t transactions;        /* so far */
};

/* What a check or a scrub reports: ph_note_fault is told of each, and keeps the first. */
struct ph_faults {
    unsigned count;
    char first[160];
};

void ph_note_fault(void *context, uint64_t offset, const char *text);

/* A transaction in progress.  Zero but for the first three. */
struct ph_writing {
    struct ph_author *author;
    pheap_txn *txn;
    struct ph_model *model; /* not shared; may become another one */
    int track;
    bool doomed; /* must be aborted */
    enum pheap_status first_failure;
    char detail[256]; /* its text */
};

/* Change some things. */
void ph_writing_begin(struct ph_writing *work);
/* Write number, count and offsets into the root block.  False: the transaction must be aborted. */
bool ph_writing_seal(struct ph_writing *work, uint64_t k);
/* Which transaction was the last when this one began.  False if the root block holds nonsense. */
bool ph_writing_number(pheap_txn *txn, uint64_t *k);

#endif
