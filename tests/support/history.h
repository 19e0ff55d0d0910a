/* SPDX-License-Identifier: MIT */
/*
 * The oracle: random transactions on a heap, and beside it a plain model of what the heap must hold after each.
 *
 * Transaction k writes its number into the root block and changes several other blocks.  After a crash the heap must
 * be the model after exactly k transactions, for some k from the last acknowledged to the last begun: every live block
 * at its offset with its bytes, no other block, and the library's own check content.
 *
 * If a machine is given, the history leaves notes in its journal: which transaction was begun, and acknowledged.
 */
#ifndef TESTS_SUPPORT_HISTORY_H
#define TESTS_SUPPORT_HISTORY_H

#include "pheap/pheap.h"
#include "tests/support/simfs.h"

#include <stdbool.h>

enum ph_history_note {
    PH_NOTE_BEGUN,        /* commit of that transaction was called */
    PH_NOTE_ACKNOWLEDGED, /* it is on stable storage */
    PH_NOTE_OPENED,       /* how often an open has returned */
    PH_NOTE_CUT           /* 1: from here on the power may be cut; what was before is only to get here */
};

struct ph_history;

struct ph_history *ph_history_new(uint64_t seed);
/* A history that has the first k transactions in common with `from`, and then goes another way. */
struct ph_history *ph_history_branch(const struct ph_history *from, uint64_t k, uint64_t seed);
void ph_history_free(struct ph_history *history);

/* Free the memory of what came before transaction k: no heap can be there any more. */
void ph_history_forget(struct ph_history *history, uint64_t k);

/* No block longer than `large_max` bytes, and not more than `live_max` bytes in all. */
void ph_history_limit(struct ph_history *history, uint64_t large_max, uint64_t live_max);

/* Let most transactions track all or some blocks, and then just store. */
void ph_history_track(struct ph_history *history);

/* Number of the last transaction that was committed as far as the program knows. */
uint64_t ph_history_committed(const struct ph_history *history);
/* The same, or one more while the last commit's fate is unknown. */
uint64_t ph_history_begun(const struct ph_history *history);
/* Reopened, the heap showed that the transaction of unknown fate is there or not: k is the last. */
void ph_history_settle(struct ph_history *history, uint64_t k);

enum ph_fate {
    PH_FATE_COMMITTED,
    PH_FATE_ABORTED, /* by dice, or by an error that says so: the heap is as before */
    PH_FATE_UNKNOWN  /* commit failed in the log */
};

struct ph_step {
    enum ph_fate fate;
    bool durable;
    bool accepted_after_unknown;     /* wrong: the heap began a transaction though the last one's fate is unknown */
    enum pheap_status first_failure; /* of any call in it; OK if none */
    char detail[256];                /* its text */
};

/* Run one random transaction.  `sim` may be NULL. */
void ph_history_step(struct ph_history *history, pheap *heap, struct ph_sim *sim, struct ph_step *step);

/*
 * Whether the heap is the model after k transactions, least <= k <= most; *k (may be NULL) says which.  If not, or if
 * the heap cannot be read: false, and `why` tells.  So it is if a heap with checksums does not pass the scrub.
 */
bool ph_history_verify(const struct ph_history *history, pheap *heap, uint64_t least, uint64_t most, uint64_t *k,
                       char *why, size_t why_bytes);
/* The same of a snapshot that is open. */
bool ph_history_verify_reader(const struct ph_history *history, const pheap_read *reader, uint64_t least, uint64_t most,
                              uint64_t *k, char *why, size_t why_bytes);

#endif
