/* SPDX-License-Identifier: MIT */
/*
 * Slabs: runs of pages cut into slots of one size class.
 *
 * A slab is its bitmap: no counter, so that allocating or freeing a slot changes one word.  The slabs of a class that
 * offer free slots form a circular list.  The first is filled until it is full and then leaves the list; a full one
 * comes back when a twenty-fourth of its slots are free, so that entering and leaving are shared by several slots.  It
 * comes in first if its address is below the first one's, else second: so slots are taken from few slabs and from the
 * front of the heap, and others drain.
 *
 * Invariants
 *   S1  A slab in its class's list has a free slot; one that is not has fewer than ph_class_relist() of them, and its
 *       links are 0.
 *   S2  Between transactions at most one slab of the heap is empty, the one the header calls spare, and something
 *       else lives in the heap.  Slabs that become empty are given back at commit: until then their pages are not
 *       used for anything else, so that abort need not save them.
 */
#ifndef PHEAP_SLAB_H
#define PHEAP_SLAB_H

#include "pheap/extent.h"
#include "pheap/sizeclass.h"

/* A place in a slab. */
struct ph_slot {
    uint64_t page; /* of the slab */
    unsigned class;
    unsigned index; /* of the slot, if in_slot */
    bool in_slot;   /* the offset lies in a slot, not in the header or behind the last */
    bool exact;     /* ... at its start */
    bool live;      /* ... which is allocated */
    uint64_t start; /* offset of the slot */
};

static inline uint64_t ph_slab_name(uint64_t page, unsigned class)
{
    return page | (uint64_t) class << 36 | (uint64_t)PH_SLAB_MAGIC << 44;
}

static inline uint64_t ph_slab_at(uint64_t page, size_t field)
{
    return (page << PH_PAGE_SHIFT) + field;
}

#define PH_SLAB_FIELD(page, field) ph_slab_at((page), offsetof(struct ph_disk_slab, field))

static inline uint64_t ph_slab_word(const uint8_t *base, uint64_t page, unsigned i)
{
    return ph_load(base, PH_SLAB_FIELD(page, bitmap) + 8u * i);
}

/* Does the header of a slab of that class lie at `page`, with all its pages below the tail? */
static inline bool ph_slab_valid(const struct ph_heap *heap, uint64_t page, unsigned class)
{
    return page >= PH_FIRST_PAGE && page < heap->tail && ph_classes[class].pages <= heap->tail - page &&
           ph_load(heap->base, PH_SLAB_FIELD(page, name)) == ph_slab_name(page, class);
}

/* Is every slot of the slab free? */
bool ph_slab_empty(const struct ph_heap *heap, uint64_t page, unsigned class);
/* Are at least `count` of them? */
bool ph_slab_has_free(const struct ph_heap *heap, uint64_t page, unsigned class, unsigned count);

/* What lies at `offset`, in a page whose descriptor `d` is that of a slab. */
PH_MUST_CHECK ph_status ph_slab_locate(const struct ph_heap *heap, struct ph_disk_page d, uint64_t offset,
                                       struct ph_slot *slot);

PH_MUST_CHECK ph_status ph_slab_alloc(struct ph_edits *edits, struct ph_heap *heap, unsigned class, uint64_t *offset);

/* Free a slot that is live. */
PH_MUST_CHECK ph_status ph_slab_free(struct ph_edits *edits, const struct ph_heap *heap, const struct ph_slot *slot);

/* At commit: give back a slab that was deferred, with the descriptor `d`, if it still is empty and not the spare. */
PH_MUST_CHECK ph_status ph_slab_release(struct ph_edits *edits, struct ph_heap *heap, uint64_t page,
                                        struct ph_disk_page d);

/* At commit: give back the spare slab if it is empty and nothing else lives in the heap. */
PH_MUST_CHECK ph_status ph_slab_release_spare(struct ph_edits *edits, struct ph_heap *heap);

#endif
