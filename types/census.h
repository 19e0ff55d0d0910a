/* SPDX-License-Identifier: MIT */
/*
 * A census of a snapshot: every live block, what it is, how often it is referred to, and whether anybody can reach it from
 * the registry.  For pht_check() and pht_collect().
 */
#ifndef TYPES_CENSUS_H
#define TYPES_CENSUS_H

#include "types/heap.h"

enum pt_state {
    PT_UNSEEN = 0, /* not reached so far */
    PT_OBJECT,     /* reached */
    PT_OWNED,      /* part of an object */
    PT_LIMBO,      /* in limbo, and without references */
    PT_LEAVING,    /* reached, but only from objects in limbo */
    PT_SPARED,     /* garbage that sessions may remember: was not offered, or only such refers to it */
    PT_GARBAGE     /* an object that only other garbage refers to, or nothing */
};

struct pt_block {
    uint64_t offset;
    uint64_t length;
    uint64_t references; /* found */
    uint8_t state;       /* enum pt_state */
    uint8_t listed;      /* in a list of limbo */
};

struct pt_census {
    struct pht *t;
    struct pt_block *blocks; /* in the order of their offsets */
    uint64_t count;
    uint64_t *queue; /* of blocks to be visited; each gets in once */
    uint64_t queued, visited;
    pheap_fault fault; /* NULL: the first fault ends the census */
    void *context;
    uint64_t faults;
};

#define PT_FAULTS_MAX 1000u /* that are told */

/*
 * Take it: everything that is reached, then everything else.  What is PT_UNSEEN in the end is no object and part of none.
 * CORRUPT if there were faults, NO_MEMORY.
 */
enum pheap_status pt_census_take(struct pt_census *census);
void pt_census_free(struct pt_census *census);

#endif
