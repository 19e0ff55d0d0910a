/* SPDX-License-Identifier: MIT */
/*
 * The survey of a damaged heap: which blocks can be proved, from whatever of the allocator's metadata is left.
 *
 * See the head of survey.c for what proves a block.  Memory: one byte for each page, 8 bytes for each 256 pages, and 24
 * bytes for each slab, large block and free extent found.  Time: proportional to the pages, times the logarithm of their
 * number at worst, and some thousand times longer for a hostile heap whose page table must be looked for.
 */
#ifndef PHEAP_SURVEY_H
#define PHEAP_SURVEY_H

#include "io/io.h"
#include "pheap/pagemap.h"
#include "pheap/pheap.h"

enum ph_claim_state {
    PH_CLAIM_OPEN,      /* not decided yet */
    PH_CLAIM_CONTESTED, /* while deciding: others claim some of the pages */
    PH_CLAIM_KEPT,      /* proved */
    PH_CLAIM_UNCERTAIN, /* evidence is missing or contradicts */
    PH_CLAIM_VOID       /* a slab that was given back, and left its header */
};

/* A run of pages that claims to be something. */
struct ph_claim {
    uint64_t page, pages;
    uint8_t kind;    /* enum ph_page_state: SLAB, LARGE, FREE */
    uint8_t class;   /* SLAB */
    uint8_t rank;    /* who claims the same pages with less yields */
    uint8_t state;   /* enum ph_claim_state */
    uint8_t matched; /* SLAB: pages whose descriptors say so too */
};

struct ph_survey {
    const ph_io *io;
    uint8_t *base;  /* the heap, private and writable: places of table segments that cannot be are cleared */
    uint64_t pages; /* of it */
    pheap_fault fault;
    pheap_progress progress; /* may be NULL */
    void *context;
    struct ph_heap heap; /* for reading descriptors */
    bool header_sound;
    uint64_t tail;           /* as the header has it; 0: not known */
    struct ph_claim *claims; /* owned; ascending by page */
    uint64_t count, capacity;
    uint8_t *owners;       /* owned; by page: see survey.c */
    struct ph_unit *units; /* owned; by 256 pages */
    uint64_t contradictions;
    uint64_t more_looks; /* left for what may be a lost part of the page table */
};

/* Look at the heap, and decide every claim; those of kind FREE matter only while deciding.  NO_MEMORY, BUSY (stopped). */
PH_MUST_CHECK ph_status ph_survey_run(struct ph_survey *survey);
void ph_survey_deinit(struct ph_survey *survey); /* zeroed state is fine */

/* Pages from `page` on, up to `end`, that nothing that was found claims: their number, 0 if something claims `page`. */
uint64_t ph_survey_unknown(const struct ph_survey *survey, uint64_t page, uint64_t end);

#endif
