/* SPDX-License-Identifier: MIT */
/* Scrub: compare every page of the heap file with its sum, while others use the heap. */
#ifndef RECOVERY_SCRUB_H
#define RECOVERY_SCRUB_H

#include "recovery/store.h"

enum ph_page_verdict {
    PH_PAGE_GOOD,
    PH_PAGE_UNKNOWN,    /* it has no sum */
    PH_PAGE_UNLIKE,     /* it does not match its sum */
    PH_PAGE_PATCHED,    /* it did not when a part of it was overwritten */
    PH_PAGE_STRAY,      /* it has no sum, so it was never written; but it is not zero */
    PH_PAGE_UNREADABLE, /* the operating system cannot read it */
    PH_PAGE_VERDICTS
};

struct ph_scrub {
    bool fill;                                                                   /* give sums to pages without one */
    void (*fault)(void *context, uint64_t page, enum ph_page_verdict verdict);   /* of damaged pages */
    ph_status (*watch)(void *context, uint64_t done_pages, uint64_t page_count); /* now and then; not OK: stop */
    void *context;
    /* What came of it. */
    uint64_t page_count; /* of the heap file, without the superblocks */
    uint64_t counts[PH_PAGE_VERDICTS];
    uint64_t filled;
};

/*
 * Look at every page up to the logical size when it began.  OK whatever is found.  UNSUPPORTED: the heap has no sums, or
 * they cannot be used read-only; POISONED, IO and what a checkpoint gives.
 */
PH_MUST_CHECK ph_status ph_store_scrub(struct ph_store *store, struct ph_scrub *scrub);

/*
 * The same of the first scrub->page_count pages behind the superblocks of a file that nobody writes to, each judged once,
 * by the sums in an open file of which the header has these flags (enum ph_sums_flags).  What cannot be read is an error: IO.
 */
PH_MUST_CHECK ph_status ph_scrub_files(struct ph_file *heap, struct ph_file *sums, uint32_t flags,
                                       struct ph_scrub *scrub);

/* What is wrong with a damaged page: the rest of a sentence that begins with its name. */
const char *ph_page_verdict_text(enum ph_page_verdict verdict);

#endif
