/* SPDX-License-Identifier: MIT */
/*
 * The heap header and the page table: what each page of the heap is.
 *
 * The table is an array of 16-byte descriptors, cut into segments that double (io/disk_alloc.h), so that a lookup is
 * a bit scan and two loads whatever the heap's size.  Descriptors are not zero only at
 *
 *   every page of a slab; the first page of a large block, and its waypoints; the first and last page of a free extent.
 *
 * Invariants
 *   P1  Pages below the tail are described, those from the tail on are free and have no descriptors.
 *   P2  Segments lie in ascending order below the tail; they come from the tail and return to it.
 *   P3  A clear map bit means that no descriptor in that page of the array was ever set.
 *
 * Readers trust nothing (R8): a segment out of place reads as PH_PAGE_BAD descriptors.
 */
#ifndef PHEAP_PAGEMAP_H
#define PHEAP_PAGEMAP_H

#include "io/disk_alloc.h"
#include "io/status.h"
#include "pheap/alloc.h"
#include "pheap/edits.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

static_assert(PH_HEAP_START == PH_HEADER_PAGE * PH_PAGE_BYTES, "the header is the first thing in the heap");

/* The state of a descriptor that cannot be read because the table itself is damaged; never stored. */
#define PH_PAGE_BAD 15u

/* Room that one operation on extents may need, in lines (E3). */
#define PH_EXTENT_LINES 128u
#define PH_SLOT_LINES 16u

/* The header values that every operation needs, checked: PH_FIRST_PAGE <= tail <= end <= size, 1 <= tables. */
struct ph_heap {
    const uint8_t *base;
    uint64_t end;
    uint64_t tail;
    uint64_t tables;
};

static inline uint64_t ph_load(const uint8_t *base, uint64_t offset)
{
    uint64_t value;
    memcpy(&value, base + offset, sizeof value);
    return value;
}

/* Heap offset of a field of the header. */
#define PH_HEADER_AT(field) ((uint64_t)PH_HEAP_START + offsetof(struct ph_disk_heap, field))

static inline uint64_t ph_header_slot(uint64_t array, uint64_t index)
{
    return array + 8 * index;
}

ph_status ph_heap_fail(struct ph_space space);

PH_MUST_CHECK static inline ph_status ph_heap_load(struct ph_space space, struct ph_heap *heap)
{
    if (space.size < (uint64_t)PH_FIRST_PAGE * PH_PAGE_BYTES) {
        return ph_heap_fail(space);
    }
    const uint8_t *base = space.base;
    heap->base = base;
    heap->end = ph_load(base, PH_HEADER_AT(end_page));
    heap->tail = ph_load(base, PH_HEADER_AT(tail_page));
    heap->tables = ph_load(base, PH_HEADER_AT(table_count));
    if (ph_load(base, PH_HEADER_AT(magic)) != PH_DISK_HEAP_MAGIC || heap->end > space.size >> PH_PAGE_SHIFT ||
        heap->end > PH_PAGE_LIMIT || heap->tail > heap->end || heap->tail < PH_FIRST_PAGE ||
        heap->tables - 1 >= PH_TABLES) {
        return ph_heap_fail(space);
    }
    return PH_OK;
}

PH_MUST_CHECK static inline ph_status ph_heap_of(const struct ph_edits *edits, struct ph_heap *heap)
{
    return ph_heap_load((struct ph_space){edits->base, edits->heap_size}, heap);
}

/* Store a word of metadata if it changes.  Room must have been reserved. */
static inline void ph_put(struct ph_edits *edits, uint64_t offset, uint64_t value)
{
    if (ph_edits_get(edits, offset) != value) {
        ph_edits_word(edits, offset, value);
    }
}

/* Pages of the map of segment k, of its array, the first page it describes, and the end of what it describes. */
static inline uint64_t ph_table_map_pages(unsigned k)
{
    if (k < PH_TABLE_MAPPED) {
        return 0;
    }
    return k <= 16 ? 1 : UINT64_C(1) << (k - 16);
}

static inline uint64_t ph_table_array_pages(unsigned k)
{
    return k == 0 ? 1 : UINT64_C(1) << (k - 1);
}

static inline uint64_t ph_table_pages(unsigned k)
{
    return ph_table_map_pages(k) + ph_table_array_pages(k);
}

static inline uint64_t ph_table_covered(uint64_t count)
{
    return (uint64_t)PH_TABLE_UNIT << (count - 1);
}

#define PH_SLOT_NONE 0u /* not in use: reads as zero */
#define PH_SLOT_BAD 1u  /* the table is damaged */

/* Heap offset of the descriptor of `page`, or one of the two values above. */
static inline uint64_t ph_page_slot(const struct ph_heap *heap, uint64_t page)
{
    unsigned k = 56u - (unsigned)__builtin_clzll(page | (PH_TABLE_UNIT - 1));
    if (k >= heap->tables) {
        return PH_SLOT_BAD;
    }
    uint64_t table = ph_load(heap->base, ph_header_slot(PH_HEADER_AT(table), k));
    uint64_t index = page;
    uint64_t pages = 1;
    if (k > 0) {
        index = page - ((uint64_t)PH_TABLE_UNIT << (k - 1));
        pages = ph_table_pages(k);
    }
    if (table < PH_TABLE_PAGE || table >= heap->tail || pages > heap->tail - table) {
        return PH_SLOT_BAD;
    }
    if (k >= PH_TABLE_MAPPED) {
        uint64_t leaf = index / PH_TABLE_UNIT;
        uint64_t word = ph_load(heap->base, (table << PH_PAGE_SHIFT) + leaf / 64 * 8);
        if (!(word >> (leaf % 64) & 1)) {
            return PH_SLOT_NONE;
        }
        table += ph_table_map_pages(k);
    }
    return (table << PH_PAGE_SHIFT) + index * sizeof(struct ph_disk_page);
}

static inline struct ph_disk_page ph_page_get(const struct ph_heap *heap, uint64_t page)
{
    struct ph_disk_page d = {0, 0};
    uint64_t slot = ph_page_slot(heap, page);
    if (slot > PH_SLOT_BAD) {
        memcpy(&d, heap->base + slot, sizeof d);
    } else if (slot == PH_SLOT_BAD) {
        d.word0 = PH_PAGE_BAD;
    }
    return d;
}

/* The parts of a descriptor. */
#define PH_VALUE_MASK ((UINT64_C(1) << 36) - 1)

static inline unsigned ph_page_state(struct ph_disk_page d)
{
    return (unsigned)(d.word0 & 15);
}

static inline uint64_t ph_page_value(struct ph_disk_page d)
{
    return d.word0 >> 4 & PH_VALUE_MASK;
}

static inline unsigned ph_page_class(struct ph_disk_page d)
{
    return (unsigned)(d.word0 >> 40);
}

static inline uint64_t ph_page_next(struct ph_disk_page d)
{
    return d.word1 & PH_VALUE_MASK;
}

static inline uint64_t ph_page_prev(struct ph_disk_page d)
{
    return d.word0 >> 40 | (d.word1 >> 36 & 0xFFF) << 24;
}

static inline struct ph_disk_page ph_page_make(enum ph_page_state state, uint64_t value)
{
    return (struct ph_disk_page){(uint64_t)state | value << 4, 0};
}

static inline struct ph_disk_page ph_page_make_slab(uint64_t index, unsigned class)
{
    return (struct ph_disk_page){PH_PAGE_SLAB | index << 4 | (uint64_t) class << 40, 0};
}

static inline struct ph_disk_page ph_page_make_free(uint64_t pages, uint64_t prev, uint64_t next)
{
    return (struct ph_disk_page){PH_PAGE_FREE | pages << 4 | (prev & 0xFFFFFF) << 40, next | (prev >> 24) << 36};
}

/* Make sure that ph_page_put can set the descriptor of `page`, which lies below ph_table_covered(). */
PH_MUST_CHECK ph_status ph_page_prepare(struct ph_edits *edits, const struct ph_heap *heap, uint64_t page);

/* Set a descriptor.  It was prepared or is being used, and room is reserved. */
static inline void ph_page_put(struct ph_edits *edits, const struct ph_heap *heap, uint64_t page, struct ph_disk_page d)
{
    uint64_t slot = ph_page_slot(heap, page);
    if (slot > PH_SLOT_BAD) {
        ph_put(edits, slot, d.word0);
        ph_put(edits, slot + 8, d.word1);
    }
}

/* Lower or raise the tail; pages below the new tail must be covered.  One line. */
void ph_tail_set(struct ph_edits *edits, struct ph_heap *heap, uint64_t tail);

/*
 * Make the heap large enough that `pages` pages from `tail` + `gap` are managed and described, where `tail` is the tail
 * after this call (table segments that are missing are placed at the present tail) and `gap` takes the block to a
 * multiple of `align` pages.  On failure nothing has changed that matters.
 */
PH_MUST_CHECK ph_status ph_tail_extend(struct ph_edits *edits, struct ph_heap *heap, uint64_t pages, uint64_t align);

/* If `page` lies in a table segment: the page after it; else 0. */
uint64_t ph_table_end(const struct ph_heap *heap, uint64_t page);

/* The large block (LARGE or DOOMED) around `page` < tail: its first page, or 0 if there is none. */
PH_MUST_CHECK ph_status ph_page_find_large(const struct ph_heap *heap, uint64_t page, uint64_t *start,
                                           struct ph_disk_page *descriptor);

/* The waypoint after `previous` (0: the first) of a block [start, end), or 0 when there are no more. */
uint64_t ph_way_next(uint64_t start, uint64_t end, uint64_t previous);

#endif
