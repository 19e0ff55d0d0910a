/* SPDX-License-Identifier: MIT */
/*
 * Runs of free pages: finding, cutting, merging.
 *
 * Free extents of n pages are in list ph_free_list(n): exact up to 15 pages, then 8 lists a doubling, a bitmap over
 * them; so an extent is found in O(1), by good fit.  The run of free pages at the end of the heap, the tail, is in no
 * list: the header says where it begins, and it is used only when no extent fits.
 *
 * Invariants
 *   X1  No two free extents touch each other or the tail: freeing merges both ways at once.
 *   X2  An extent is in the list of its length, and descriptors of its first and last page give that length.
 *
 * Changing functions come in pairs: one that checks and prepares, may fail and changes nothing that matters, and one
 * that cannot fail.  Between the two the caller does whatever else may fail, and last reserves PH_EXTENT_LINES.
 */
#ifndef PHEAP_EXTENT_H
#define PHEAP_EXTENT_H

#include "pheap/pagemap.h"

static inline unsigned ph_free_list(uint64_t pages)
{
    if (pages < 16) {
        return (unsigned)pages;
    }
    unsigned top = 63u - (unsigned)__builtin_clzll(pages);
    return 16 + (top - 4) * 8 + (unsigned)(pages >> (top - 3) & 7);
}

struct ph_cut {
    uint64_t page; /* the run that is taken */
    uint64_t pages;
    uint64_t from;       /* the free extent it comes from ... */
    uint64_t from_pages; /* ... and its length, 0: the tail */
};

/* Find `pages` pages at a multiple of `align` (pages, a power of two).  CORRUPT, what ph_edits_grow gives. */
PH_MUST_CHECK ph_status ph_extent_find(struct ph_edits *edits, struct ph_heap *heap, uint64_t pages, uint64_t align,
                                       struct ph_cut *cut);
/* Take them; the caller then describes them. */
void ph_extent_take(struct ph_edits *edits, struct ph_heap *heap, const struct ph_cut *cut);

/* The free pages directly behind a live run that ends before page `end`: how many, 0 if none. */
PH_MUST_CHECK ph_status ph_extent_behind(struct ph_edits *edits, struct ph_heap *heap, uint64_t end, uint64_t pages,
                                         struct ph_cut *cut);

struct ph_merge {
    uint64_t page; /* the run to be freed */
    uint64_t pages;
    uint64_t below; /* length of the free extent before it */
    uint64_t above; /* and after it */
};

/* Prepare to free a run; its descriptors are still those of its use. */
PH_MUST_CHECK ph_status ph_extent_plan_free(struct ph_edits *edits, const struct ph_heap *heap, uint64_t page,
                                            uint64_t pages, struct ph_merge *merge);
/* Free it; its descriptors have been zeroed. */
void ph_extent_free(struct ph_edits *edits, struct ph_heap *heap, const struct ph_merge *merge);

/* Give table segments that describe only free pages back to the tail.  Only when nothing will be allocated in this
 * transaction any more: their bytes are not saved. */
PH_MUST_CHECK ph_status ph_extent_trim_tables(struct ph_edits *edits, struct ph_heap *heap);

#endif
