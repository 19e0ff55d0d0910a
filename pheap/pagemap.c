/* SPDX-License-Identifier: MIT */
/* The heap header and the page table: checking, extending, and finding the block around a page. */
#include "pheap/pagemap.h"

#include <inttypes.h>

/* Growth beyond what is needed: a part of the heap within these bounds, in pages. */
#define GROW_PART 128u
#define GROW_MIN 16u
#define GROW_MAX 16384u

ph_status ph_heap_fail(struct ph_space space)
{
    if (space.size < (uint64_t)PH_FIRST_PAGE * PH_PAGE_BYTES) {
        return ph_fail(PH_CORRUPT, "the heap is only %" PRIu64 " bytes long, too short for the heap header",
                       space.size);
    }
    if (ph_load(space.base, PH_HEADER_AT(magic)) != PH_DISK_HEAP_MAGIC) {
        return ph_fail(PH_CORRUPT, "heap header at 0x%x: wrong magic number", PH_HEAP_START);
    }
    return ph_fail(PH_CORRUPT,
                   "heap header at 0x%x: end page %" PRIu64 ", tail page %" PRIu64 ", %" PRIu64
                   " table segments are impossible in a heap of %" PRIu64 " bytes",
                   PH_HEAP_START, ph_load(space.base, PH_HEADER_AT(end_page)),
                   ph_load(space.base, PH_HEADER_AT(tail_page)), ph_load(space.base, PH_HEADER_AT(table_count)),
                   space.size);
}

ph_status ph_page_prepare(struct ph_edits *edits, const struct ph_heap *heap, uint64_t page)
{
    uint64_t slot = ph_page_slot(heap, page);
    if (slot > PH_SLOT_BAD) {
        return PH_OK;
    }
    if (slot == PH_SLOT_BAD) {
        return ph_fail(PH_CORRUPT, "page table: no sound segment describes page %" PRIu64, page);
    }
    unsigned k = 56u - (unsigned)__builtin_clzll(page);
    uint64_t table = ph_load(heap->base, ph_header_slot(PH_HEADER_AT(table), k));
    uint64_t leaf = (page - ((uint64_t)PH_TABLE_UNIT << (k - 1))) / PH_TABLE_UNIT;
    uint64_t offset = (table + ph_table_map_pages(k) + leaf) << PH_PAGE_SHIFT;
    uint64_t word = (table << PH_PAGE_SHIFT) + leaf / 64 * 8;
    ph_status status = ph_edits_reserve(edits, 1);
    if (status == PH_OK) {
        status = ph_edits_add_fresh(edits, offset, PH_PAGE_BYTES);
    }
    if (status == PH_OK) {
        memset(edits->base + offset, 0, PH_PAGE_BYTES);
        ph_edits_word(edits, word, ph_edits_get(edits, word) | UINT64_C(1) << (leaf % 64));
    }
    return status;
}

void ph_tail_set(struct ph_edits *edits, struct ph_heap *heap, uint64_t tail)
{
    heap->tail = tail;
    ph_put(edits, PH_HEADER_AT(tail_page), tail);
    if (tail > ph_edits_get(edits, PH_HEADER_AT(zero_page))) {
        ph_put(edits, PH_HEADER_AT(zero_page), tail);
    }
}

/* Manage at least `need` pages.  A line is reserved. */
static ph_status grow(struct ph_edits *edits, struct ph_heap *heap, uint64_t need)
{
    uint64_t have = edits->heap_size >> PH_PAGE_SHIFT;
    if (have < need) {
        uint64_t step = heap->end / GROW_PART;
        step = step < GROW_MIN ? GROW_MIN : step > GROW_MAX ? GROW_MAX : step;
        uint64_t want = have + step > need ? have + step : need;
        want = want > PH_PAGE_LIMIT ? PH_PAGE_LIMIT : want;
        ph_status status = ph_edits_grow(edits, want << PH_PAGE_SHIFT);
        if (status != PH_OK && want > need) {
            status = ph_edits_grow(edits, need << PH_PAGE_SHIFT);
        }
        if (status != PH_OK) {
            return status;
        }
        have = edits->heap_size >> PH_PAGE_SHIFT;
    }
    heap->end = have > PH_PAGE_LIMIT ? PH_PAGE_LIMIT : have;
    ph_put(edits, PH_HEADER_AT(end_page), heap->end);
    return PH_OK;
}

/* Place table segments [heap->tables, count) at the tail.  Room is reserved, the pages are managed. */
static ph_status add_tables(struct ph_edits *edits, struct ph_heap *heap, unsigned count)
{
    uint64_t page = heap->tail;
    unsigned k = (unsigned)heap->tables;
    for (; k < count; k++) {
        uint64_t zeroed = k < PH_TABLE_MAPPED ? ph_table_array_pages(k) : ph_table_map_pages(k);
        ph_status status = ph_edits_add_fresh(edits, page << PH_PAGE_SHIFT, zeroed << PH_PAGE_SHIFT);
        if (status != PH_OK) {
            while (k-- > heap->tables) {
                page -= ph_table_pages(k);
                ph_edits_change_fresh(edits, page << PH_PAGE_SHIFT, 0);
            }
            return status;
        }
        memset(edits->base + (page << PH_PAGE_SHIFT), 0, zeroed << PH_PAGE_SHIFT);
        page += ph_table_pages(k);
    }
    page = heap->tail;
    for (k = (unsigned)heap->tables; k < count; k++) {
        ph_put(edits, ph_header_slot(PH_HEADER_AT(table), k), page);
        page += ph_table_pages(k);
    }
    heap->tables = count;
    ph_put(edits, PH_HEADER_AT(table_count), count);
    ph_tail_set(edits, heap, page);
    return PH_OK;
}

ph_status ph_tail_extend(struct ph_edits *edits, struct ph_heap *heap, uint64_t pages, uint64_t align)
{
    unsigned count = (unsigned)heap->tables;
    uint64_t tail = heap->tail;
    uint64_t need;
    while ((need = ((tail + align - 1) & ~(align - 1)) + pages) > ph_table_covered(count)) {
        if (need > PH_PAGE_LIMIT || count == PH_TABLES) {
            return ph_fail(PH_FULL, "the heap cannot grow by %" PRIu64 " pages: it would pass 2^47 bytes", pages);
        }
        tail += ph_table_pages(count);
        count++;
    }
    if (need <= heap->end && count == heap->tables) {
        return PH_OK;
    }
    ph_status status = ph_edits_reserve(edits, PH_SLOT_LINES);
    if (status == PH_OK && need > heap->end) {
        status = grow(edits, heap, need);
    }
    if (status == PH_OK && count > heap->tables) {
        status = add_tables(edits, heap, count);
    }
    return status;
}

uint64_t ph_table_end(const struct ph_heap *heap, uint64_t page)
{
    for (unsigned k = 0; k < heap->tables; k++) {
        uint64_t table = ph_load(heap->base, ph_header_slot(PH_HEADER_AT(table), k));
        if (table >= PH_TABLE_PAGE && page >= table && page - table < ph_table_pages(k)) {
            return table + ph_table_pages(k);
        }
    }
    return 0;
}

/* The nearest descriptor known below `page` is `d` of `at`: is it that of a large block that reaches over `page`? */
static ph_status resolve(const struct ph_heap *heap, uint64_t page, uint64_t at, struct ph_disk_page d, uint64_t *start,
                         struct ph_disk_page *descriptor)
{
    unsigned state = ph_page_state(d);
    bool way = state == PH_PAGE_WAY;
    if (way) {
        uint64_t first = ph_page_value(d);
        if (first >= at) {
            return ph_fail(PH_CORRUPT, "page table: the waypoint at page %" PRIu64 " leads to page %" PRIu64, at,
                           first);
        }
        at = first;
        d = ph_page_get(heap, at);
        state = ph_page_state(d);
    }
    if (state == PH_PAGE_BAD) {
        return ph_fail(PH_CORRUPT, "page table: no sound segment describes page %" PRIu64, at);
    }
    bool large = state == PH_PAGE_LARGE || state == PH_PAGE_DOOMED;
    uint64_t pages = ph_page_value(d);
    if (large && (at < PH_FIRST_PAGE || at >= heap->tail || pages > heap->tail - at)) {
        return ph_fail(PH_CORRUPT, "page table: the block of %" PRIu64 " pages at page %" PRIu64 " passes the tail",
                       pages, at);
    }
    if (large && page - at < pages) {
        *start = at;
        *descriptor = d;
        return PH_OK;
    }
    if (way && !large) {
        return ph_fail(PH_CORRUPT, "page table: a waypoint leads to page %" PRIu64 ", where no large block begins", at);
    }
    *start = 0;
    return PH_OK;
}

ph_status ph_page_find_large(const struct ph_heap *heap, uint64_t page, uint64_t *start,
                             struct ph_disk_page *descriptor)
{
    const uint64_t near = UINT64_C(1) << PH_WAY_SHIFT;
    uint64_t at = page;
    struct ph_disk_page d = ph_page_get(heap, at);
    while (d.word0 == 0 && at > PH_FIRST_PAGE && (at & (near - 1)) != 0) {
        at--;
        d = ph_page_get(heap, at);
    }
    for (unsigned j = PH_WAY_SHIFT + 1; d.word0 == 0; j++) {
        uint64_t further = at >> j << j;
        if (further < PH_FIRST_PAGE) {
            /* A block that begins in the first few pages has a waypoint at every power of two it contains. */
            *start = 0;
            return PH_OK;
        }
        if (further != at) {
            at = further;
            d = ph_page_get(heap, at);
        }
    }
    return resolve(heap, page, at, d, start, descriptor);
}

uint64_t ph_way_next(uint64_t start, uint64_t end, uint64_t previous)
{
    uint64_t way = (start >> PH_WAY_SHIFT << PH_WAY_SHIFT) + (UINT64_C(1) << PH_WAY_SHIFT);
    if (previous != 0) {
        /* previous, an odd multiple of its lowest bit, is the smallest multiple of that above `start`; so previous -
         * lowest bit, a multiple of twice the bit, is not above `start`, and the next one is. */
        way = previous + (previous & (0 - previous));
    }
    return way < end ? way : 0;
}
