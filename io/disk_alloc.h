/* SPDX-License-Identifier: MIT */
/*
 * The allocator's structures in the heap file.  docs/format.md is the normative text.
 *
 * All numbers are little-endian.  A page is 4096 bytes; a page number is a heap offset / 4096, below 2^35; 0 as a page
 * number means "none".  Everything marked reserved is zero.
 *
 *   page 0, 1   the superblocks; not the allocator's
 *   page 2      struct ph_disk_heap, the heap header
 *   page 3      table segment 0
 *   page 4 ...  slabs, large blocks, free extents, further table segments
 */
#ifndef IO_DISK_ALLOC_H
#define IO_DISK_ALLOC_H

#include <assert.h>
#include <stddef.h>
#include <stdint.h>

#if __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "the heap is little-endian and is used in place"
#endif

#define PH_PAGE_SHIFT 12
#define PH_PAGE_BYTES 4096u
#define PH_HEADER_PAGE 2u
#define PH_TABLE_PAGE 3u /* table segment 0 */
#define PH_FIRST_PAGE 4u /* the first page that blocks may use */
#define PH_PAGE_LIMIT (UINT64_C(1) << 35)

#define PH_DISK_HEAP_MAGIC UINT64_C(0x3150414548504850) /* "PHPHEAP1" */

/* -------------------------------------------------------------------------------------------------- heap header */

#define PH_TABLES 28u      /* table segments at most */
#define PH_CLASSES 72u     /* size classes */
#define PH_FREE_LISTS 272u /* lists of free extents, by length */
#define PH_FREE_WORDS 5u   /* one bit a list */

struct ph_disk_heap {
    uint64_t magic;                    /*    0 PH_DISK_HEAP_MAGIC */
    uint64_t end_page;                 /*    8 pages the allocator manages: [0, end_page) */
    uint64_t tail_page;                /*   16 [tail_page, end_page) is free and in no list */
    uint64_t zero_page;                /*   24 pages from here on were never allocated: they read as zeros */
    uint64_t root;                     /*   32 offset of the root block, or 0 */
    uint64_t table_count;              /*   40 table segments in use, 1 to PH_TABLES */
    uint64_t spare_page;               /*   48 the only slab that may be empty (it need not be), or 0 */
    uint64_t reserved0;                /*   56 */
    uint64_t table[PH_TABLES];         /*   64 first page of each table segment, 0 beyond table_count */
    uint64_t free_bits[PH_FREE_WORDS]; /*  288 bit i: free_head[i] is not 0 */
    uint64_t reserved1;                /*  328 */
    uint64_t partial[PH_CLASSES];      /*  336 by class: a slab that offers free slots, or 0; circular list */
    uint64_t free_head[PH_FREE_LISTS]; /*  912 by length: first page of a free extent, or 0; list */
    uint8_t reserved2[1008];           /* 3088 */
};

static_assert(sizeof(struct ph_disk_heap) == PH_PAGE_BYTES, "the heap header is one page");
static_assert(offsetof(struct ph_disk_heap, magic) == 0, "format");
static_assert(offsetof(struct ph_disk_heap, end_page) == 8, "format");
static_assert(offsetof(struct ph_disk_heap, tail_page) == 16, "format");
static_assert(offsetof(struct ph_disk_heap, zero_page) == 24, "format");
static_assert(offsetof(struct ph_disk_heap, root) == 32, "format");
static_assert(offsetof(struct ph_disk_heap, table_count) == 40, "format");
static_assert(offsetof(struct ph_disk_heap, spare_page) == 48, "format");
static_assert(offsetof(struct ph_disk_heap, reserved0) == 56, "format");
static_assert(offsetof(struct ph_disk_heap, table) == 64, "format");
static_assert(offsetof(struct ph_disk_heap, free_bits) == 288, "format");
static_assert(offsetof(struct ph_disk_heap, reserved1) == 328, "format");
static_assert(offsetof(struct ph_disk_heap, partial) == 336, "format");
static_assert(offsetof(struct ph_disk_heap, free_head) == 912, "format");
static_assert(offsetof(struct ph_disk_heap, reserved2) == 3088, "format");

/* ---------------------------------------------------------------------------------------------- page descriptors */

/*
 * Table segment 0 describes pages [0, 256); segment k > 0 describes pages [256 << (k - 1), 256 << k).  A segment is an
 * array of struct ph_disk_page.  Segments from PH_TABLE_MAPPED on begin with a map, whole pages of bits: bit i says
 * that page i of the array is in use; where it is clear the array's bytes mean nothing and every descriptor in that
 * page reads as zero.
 */
#define PH_TABLE_UNIT 256u
#define PH_TABLE_MAPPED 5u

/*
 * word0 bits 0-3   enum ph_page_state
 *            4-39  value: see the state
 *           40-63  SLAB: class (8 bits); FREE: low 24 bits of the page number of the previous extent in its list
 * word1 bits 0-35  FREE: page number of the next extent in its list
 *           36-47  FREE: high 12 bits of the previous
 *           LARGE: see PH_PAGE_LARGE.  Other bits and states: zero.
 */
struct ph_disk_page {
    uint64_t word0; /* 0 */
    uint64_t word1; /* 8 */
};

static_assert(sizeof(struct ph_disk_page) == 16, "format");
static_assert(offsetof(struct ph_disk_page, word0) == 0, "format");
static_assert(offsetof(struct ph_disk_page, word1) == 8, "format");

enum ph_page_state {
    PH_PAGE_NONE = 0,   /* inside a large block or a free extent, or table, or in the tail */
    PH_PAGE_SLAB = 1,   /* a page of a slab; value: its index in the slab */
    PH_PAGE_LARGE = 2,  /* first page of a large block; value: its length in pages.  Word1, only in a transaction: the
                           length it will be cut to at commit */
    PH_PAGE_DOOMED = 3, /* only in a transaction: a large block that will be freed at commit */
    PH_PAGE_FREE = 4,   /* first page of a free extent; value: its length in pages */
    PH_PAGE_LAST = 5,   /* last page of a free extent of 2 pages or more; value: its length in pages */
    PH_PAGE_WAY = 6     /* inside a large block: a waypoint; value: the block's first page */
};

/*
 * Waypoints make the block around any page findable in O(log n).  A large block that begins at page s has one at each
 * page w inside it such that w is, for some j >= PH_WAY_SHIFT, the smallest multiple of 2^j above s.
 */
#define PH_WAY_SHIFT 4u

/* ---------------------------------------------------------------------------------------------------------- slabs */

#define PH_SLAB_WORDS 16u      /* bitmap words at most */
#define PH_SLAB_PAGES 33u      /* pages at most */
#define PH_SLAB_MAGIC 0x51ABEu /* 20 bits */

/* The header of a slab; the slots begin where the class says.  Only as many bitmap words exist as the class needs. */
struct ph_disk_slab {
    uint64_t name;                  /*  0 bits 0-35 page number of this slab, 36-43 class, 44-63 PH_SLAB_MAGIC */
    uint64_t prev_page;             /*  8 circular list of the slabs of the class that offer free slots; */
    uint64_t next_page;             /* 16 both 0 when it is not in the list */
    uint64_t bitmap[PH_SLAB_WORDS]; /* 24 bit i of the whole: slot i is free; bits beyond the last slot are 0 */
};

static_assert(sizeof(struct ph_disk_slab) == 152, "format");
static_assert(offsetof(struct ph_disk_slab, name) == 0, "format");
static_assert(offsetof(struct ph_disk_slab, prev_page) == 8, "format");
static_assert(offsetof(struct ph_disk_slab, next_page) == 16, "format");
static_assert(offsetof(struct ph_disk_slab, bitmap) == 24, "format");

#endif
