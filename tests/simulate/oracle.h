/* SPDX-License-Identifier: MIT */
/*
 * The oracle: every version that the heap may be at, as a tree.  A transaction becomes a version when its commit is
 * called, on top of the one that it began on.  The versions from the first to the tip are the history as far as anybody
 * knows; a version leaves it when its commit fails, or when a later transaction is seen to begin below it, and then its
 * commit must not have been acknowledged, nor have been seen by a reader.
 *
 * After a power cut the heap must be at a version between the last that was acknowledged as durable and the tip, as these
 * were at that moment of the journal.  After the death of processes only it must have every version that was
 * acknowledged or seen.
 */
#ifndef TESTS_SIMULATE_ORACLE_H
#define TESTS_SIMULATE_ORACLE_H

#include "tests/support/model.h"
#include "tests/support/simfs.h"

#include <stdint.h>

#define ORACLE_WHY_BYTES 400

enum oracle_note {
    ORACLE_NOTE_TIP,     /* version */
    ORACLE_NOTE_DURABLE, /* version */
    ORACLE_NOTE_OPENED   /* how often an open has returned */
};

struct oracle_version {
    uint32_t parent;
    uint64_t k;
    struct ph_model *model;
    bool gone;  /* left the history */
    bool known; /* acknowledged, or seen */
};

struct oracle {
    struct ph_sim *sim; /* gets the notes */
    struct oracle_version *versions;
    uint32_t count, capacity;
    uint32_t tip, durable;
    uint32_t latent; /* version of a killed writer, which left the history when a transaction began without it, but may
                        come back as long as nothing was committed in its place; 0: none */
    bool forgiving;  /* a disk has failed: what is not durable may be lost when the heap is opened again */
    char why[ORACLE_WHY_BYTES];
};

void oracle_init(struct oracle *oracle, struct ph_sim *sim);
void oracle_deinit(struct oracle *oracle);

/* Everything below gives false, and says why, where the library has done wrong. */

/* A transaction began, and the heap says that k was the last: *version. */
bool oracle_began(struct oracle *oracle, uint64_t k, uint32_t *version);
/* Its commit is called.  Takes the model. */
uint32_t oracle_commit(struct oracle *oracle, uint32_t base, struct ph_model *model);
/* The commit has returned: it was aborted; or acknowledged, as durable or not. */
bool oracle_aborted(struct oracle *oracle, uint32_t version);
bool oracle_acknowledged(struct oracle *oracle, uint32_t version, bool durable);

/* The last version that is known. */
uint32_t oracle_known(const struct oracle *oracle);
/* Everything up to it was promised to be durable. */
void oracle_durable(struct oracle *oracle, uint32_t version);
/* A snapshot was opened; it must not be older than `least`. */
bool oracle_read(struct oracle *oracle, const pheap_read *reader, uint32_t least, uint32_t *version);
/* It still shows that version. */
bool oracle_read_again(struct oracle *oracle, const pheap_read *reader, uint32_t version);

/* Of a heap that lost power, or all its users: it must be at a version from `least` to `tip`. */
bool oracle_recovered(struct oracle *oracle, pheap *heap, uint32_t least, uint32_t tip, uint32_t *version);
/* Go on from there. */
void oracle_go_on(struct oracle *oracle, struct ph_sim *sim, uint32_t version);

bool oracle_fail(struct oracle *oracle, const char *format, ...) __attribute__((format(printf, 2, 3)));

#endif
