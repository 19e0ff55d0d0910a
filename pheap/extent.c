/* SPDX-License-Identifier: MIT */
/* Runs of free pages: the index of free extents, cutting and merging. */
#include "pheap/extent.h"

#include <inttypes.h>

/* Candidates looked at in the list where only some extents are long enough: usually, and when the heap cannot grow. */
#define TRIES_USUAL 8u
#define TRIES_LAST (1u << 20)

static uint64_t head_slot(unsigned list)
{
    return ph_header_slot(PH_HEADER_AT(free_head), list);
}

/* Is there a free extent at `page`?  Its length, or 0. */
static uint64_t extent_at(const struct ph_heap *heap, uint64_t page, struct ph_disk_page *descriptor)
{
    if (page < PH_FIRST_PAGE || page >= heap->tail) {
        return 0;
    }
    struct ph_disk_page d = ph_page_get(heap, page);
    uint64_t pages = ph_page_value(d);
    if (ph_page_state(d) != PH_PAGE_FREE || pages == 0 || pages > heap->tail - page) {
        return 0;
    }
    *descriptor = d;
    return pages;
}

static ph_status damaged(uint64_t page, const char *what)
{
    return ph_fail(PH_CORRUPT, "free extent at page %" PRIu64 ": %s", page, what);
}

/* The extent `d` at `page` may be unlinked: its length is that of its last page, its neighbours know it. */
static ph_status check_extent(const struct ph_heap *heap, uint64_t page, struct ph_disk_page d)
{
    uint64_t pages = ph_page_value(d);
    struct ph_disk_page other;
    if (pages > 1) {
        other = ph_page_get(heap, page + pages - 1);
        if (ph_page_state(other) != PH_PAGE_LAST || ph_page_value(other) != pages) {
            return damaged(page, "its last page does not agree on its length");
        }
    }
    uint64_t prev = ph_page_prev(d);
    uint64_t next = ph_page_next(d);
    if (prev == 0) {
        if (ph_load(heap->base, head_slot(ph_free_list(pages))) != page) {
            return damaged(page, "it is not at the head of its list");
        }
    } else if (extent_at(heap, prev, &other) == 0 || ph_page_next(other) != page) {
        return damaged(page, "the extent before it in its list does not lead to it");
    }
    if (next != 0 && (extent_at(heap, next, &other) == 0 || ph_page_prev(other) != page)) {
        return damaged(page, "the extent after it in its list does not lead back to it");
    }
    return PH_OK;
}

/* The head of the list for `pages` is empty or a free extent, so that a new one may be put before it. */
static ph_status check_head(const struct ph_heap *heap, uint64_t pages)
{
    struct ph_disk_page d;
    unsigned list = ph_free_list(pages);
    uint64_t head = ph_load(heap->base, head_slot(list));
    if (head != 0 && extent_at(heap, head, &d) == 0) {
        return ph_fail(PH_CORRUPT, "list %u of free extents begins at page %" PRIu64 ", where none begins", list, head);
    }
    return PH_OK;
}

static void put_bit(struct ph_edits *edits, unsigned list, bool set)
{
    uint64_t slot = ph_header_slot(PH_HEADER_AT(free_bits), list / 64);
    uint64_t bit = UINT64_C(1) << (list % 64);
    uint64_t word = ph_edits_get(edits, slot);
    ph_put(edits, slot, set ? word | bit : word & ~bit);
}

/* Take a checked extent out of its list and clear its descriptors. */
static void unlink_extent(struct ph_edits *edits, const struct ph_heap *heap, uint64_t page, uint64_t pages)
{
    struct ph_disk_page d = ph_page_get(heap, page);
    uint64_t prev = ph_page_prev(d);
    uint64_t next = ph_page_next(d);
    if (prev == 0) {
        unsigned list = ph_free_list(pages);
        ph_put(edits, head_slot(list), next);
        if (next == 0) {
            put_bit(edits, list, false);
        }
    } else {
        struct ph_disk_page p = ph_page_get(heap, prev);
        ph_page_put(edits, heap, prev, ph_page_make_free(ph_page_value(p), ph_page_prev(p), next));
    }
    if (next != 0) {
        struct ph_disk_page n = ph_page_get(heap, next);
        ph_page_put(edits, heap, next, ph_page_make_free(ph_page_value(n), prev, ph_page_next(n)));
    }
    const struct ph_disk_page none = {0, 0};
    ph_page_put(edits, heap, page, none);
    if (pages > 1) {
        ph_page_put(edits, heap, page + pages - 1, none);
    }
}

/* Describe [page, page + pages) as a free extent and put it first in its list, whose head was checked. */
static void link_extent(struct ph_edits *edits, const struct ph_heap *heap, uint64_t page, uint64_t pages)
{
    unsigned list = ph_free_list(pages);
    uint64_t next = ph_edits_get(edits, head_slot(list));
    if (next != 0) {
        struct ph_disk_page n = ph_page_get(heap, next);
        ph_page_put(edits, heap, next, ph_page_make_free(ph_page_value(n), page, ph_page_next(n)));
    } else {
        put_bit(edits, list, true);
    }
    ph_put(edits, head_slot(list), page);
    ph_page_put(edits, heap, page, ph_page_make_free(pages, 0, next));
    if (pages > 1) {
        ph_page_put(edits, heap, page + pages - 1, ph_page_make(PH_PAGE_LAST, pages));
    }
}

/* The first list at or after `list` that is not empty, or PH_FREE_LISTS. */
static unsigned next_list(const struct ph_heap *heap, unsigned list)
{
    for (unsigned i = list / 64; i < PH_FREE_WORDS; i++) {
        uint64_t word = ph_load(heap->base, ph_header_slot(PH_HEADER_AT(free_bits), i));
        if (i == list / 64) {
            word &= UINT64_MAX << (list % 64);
        }
        if (word != 0) {
            return i * 64 + (unsigned)__builtin_ctzll(word);
        }
    }
    return PH_FREE_LISTS;
}

/* An extent of at least `pages` pages: *page, or 0 if none was found. */
static ph_status find_fit(const struct ph_heap *heap, uint64_t pages, unsigned tries, uint64_t *page,
                          struct ph_disk_page *d)
{
    *page = 0;
    unsigned list = ph_free_list(pages);
    while ((list = next_list(heap, list)) < PH_FREE_LISTS) {
        uint64_t at = ph_load(heap->base, head_slot(list));
        for (unsigned i = 0; at != 0 && i < tries; i++) {
            uint64_t length = extent_at(heap, at, d);
            if (length == 0 || ph_free_list(length) != list) {
                return ph_fail(PH_CORRUPT, "list %u of free extents leads to page %" PRIu64 ", which does not belong",
                               list, at);
            }
            if (length >= pages) {
                *page = at;
                return check_extent(heap, at, *d);
            }
            at = ph_page_next(*d);
        }
        list++; /* any later list holds only longer extents */
    }
    return PH_OK;
}

/* Prepare the descriptors of the pieces that a cut leaves. */
static ph_status prepare_cut(struct ph_edits *edits, const struct ph_heap *heap, const struct ph_cut *cut)
{
    uint64_t gap = cut->page - cut->from;
    ph_status status = ph_page_prepare(edits, heap, cut->page);
    if (status == PH_OK && gap > 0) {
        status = check_head(heap, gap);
        if (status == PH_OK) {
            status = ph_page_prepare(edits, heap, cut->from);
        }
        if (status == PH_OK) {
            status = ph_page_prepare(edits, heap, cut->page - 1);
        }
    }
    if (status == PH_OK && cut->from_pages > gap + cut->pages) {
        status = check_head(heap, cut->from_pages - gap - cut->pages);
        if (status == PH_OK) {
            status = ph_page_prepare(edits, heap, cut->page + cut->pages);
        }
    }
    return status;
}

ph_status ph_extent_find(struct ph_edits *edits, struct ph_heap *heap, uint64_t pages, uint64_t align,
                         struct ph_cut *cut)
{
    struct ph_disk_page d = {0, 0};
    uint64_t from;
    ph_status status = find_fit(heap, pages + align - 1, TRIES_USUAL, &from, &d);
    if (status == PH_OK && from == 0) {
        status = ph_tail_extend(edits, heap, pages, align);
        if (status == PH_NO_SPACE || status == PH_RESERVE || status == PH_FULL) {
            ph_status found = find_fit(heap, pages + align - 1, TRIES_LAST, &from, &d);
            status = found != PH_OK || from != 0 ? found : status;
        }
    }
    if (status != PH_OK) {
        return status;
    }
    cut->pages = pages;
    cut->from = from != 0 ? from : heap->tail;
    cut->from_pages = from != 0 ? ph_page_value(d) : 0;
    cut->page = (cut->from + align - 1) & ~(align - 1);
    return prepare_cut(edits, heap, cut);
}

void ph_extent_take(struct ph_edits *edits, struct ph_heap *heap, const struct ph_cut *cut)
{
    uint64_t gap = cut->page - cut->from;
    uint64_t end = cut->page + cut->pages;
    if (cut->from_pages == 0) {
        ph_tail_set(edits, heap, end);
    } else {
        unlink_extent(edits, heap, cut->from, cut->from_pages);
        if (cut->from_pages > gap + cut->pages) {
            link_extent(edits, heap, end, cut->from_pages - gap - cut->pages);
        }
    }
    if (gap > 0) {
        link_extent(edits, heap, cut->from, gap);
    }
}

ph_status ph_extent_behind(struct ph_edits *edits, struct ph_heap *heap, uint64_t end, uint64_t pages,
                           struct ph_cut *cut)
{
    *cut = (struct ph_cut){end, 0, end, 0};
    if (end == heap->tail) {
        uint64_t tail = heap->tail;
        if (tail + pages > ph_table_covered(heap->tables)) {
            return PH_OK; /* a table segment would come between */
        }
        ph_status status = ph_tail_extend(edits, heap, pages, 1);
        if (status == PH_OK && heap->tail == tail) {
            cut->pages = pages;
        }
        return status;
    }
    struct ph_disk_page d;
    uint64_t length = extent_at(heap, end, &d);
    if (length < pages) {
        return PH_OK;
    }
    cut->from_pages = length;
    cut->pages = pages;
    ph_status status = check_extent(heap, end, d);
    return status == PH_OK ? prepare_cut(edits, heap, cut) : status;
}

/* The length of the free extent that ends before `page`, or 0. */
static ph_status extent_below(const struct ph_heap *heap, uint64_t page, uint64_t *pages)
{
    *pages = 0;
    if (page <= PH_FIRST_PAGE) {
        return PH_OK;
    }
    struct ph_disk_page d = ph_page_get(heap, page - 1);
    uint64_t length = 0;
    if (ph_page_state(d) == PH_PAGE_FREE) {
        length = 1;
    } else if (ph_page_state(d) == PH_PAGE_LAST) {
        length = ph_page_value(d);
    } else {
        return PH_OK;
    }
    struct ph_disk_page first;
    if (length > page || extent_at(heap, page - length, &first) != length) {
        return damaged(page - 1, "its first page does not agree on its length");
    }
    *pages = length;
    return check_extent(heap, page - length, first);
}

ph_status ph_extent_plan_free(struct ph_edits *edits, const struct ph_heap *heap, uint64_t page, uint64_t pages,
                              struct ph_merge *merge)
{
    *merge = (struct ph_merge){page, pages, 0, 0};
    ph_status status = extent_below(heap, page, &merge->below);
    if (status != PH_OK) {
        return status;
    }
    uint64_t end = page + pages;
    if (end == heap->tail) {
        return PH_OK;
    }
    if (merge->below == 0) {
        status = ph_page_prepare(edits, heap, page); /* the rest of a block that was cut begins anywhere */
    }
    if (status != PH_OK) {
        return status;
    }
    struct ph_disk_page d;
    merge->above = extent_at(heap, end, &d);
    if (merge->above > 0) {
        status = check_extent(heap, end, d);
    } else {
        status = ph_page_prepare(edits, heap, end - 1);
    }
    return status == PH_OK ? check_head(heap, merge->below + pages + merge->above) : status;
}

void ph_extent_free(struct ph_edits *edits, struct ph_heap *heap, const struct ph_merge *merge)
{
    uint64_t page = merge->page - merge->below;
    uint64_t end = merge->page + merge->pages + merge->above;
    if (merge->below > 0) {
        unlink_extent(edits, heap, page, merge->below);
    }
    if (merge->above > 0) {
        unlink_extent(edits, heap, merge->page + merge->pages, merge->above);
    }
    if (end == heap->tail) {
        ph_tail_set(edits, heap, page);
    } else {
        link_extent(edits, heap, page, end - page);
    }
}

ph_status ph_extent_trim_tables(struct ph_edits *edits, struct ph_heap *heap)
{
    uint64_t below[PH_TABLES]; /* free extent before segment k */
    unsigned count = (unsigned)heap->tables;
    unsigned keep = count;
    uint64_t tail = heap->tail;
    uint64_t top = tail;
    for (unsigned k = count - 1; k > 0; k--) {
        uint64_t table = ph_load(heap->base, ph_header_slot(PH_HEADER_AT(table), k));
        uint64_t previous = ph_load(heap->base, ph_header_slot(PH_HEADER_AT(table), k - 1));
        if (table > top || top - table != ph_table_pages(k)) {
            break; /* something lives behind it */
        }
        ph_status status = extent_below(heap, table, &below[k]);
        if (status != PH_OK) {
            return status;
        }
        top = table - below[k];
        if (previous > top || top - previous != ph_table_pages(k - 1)) {
            break; /* something lives before it */
        }
        if (top <= ph_table_covered(k)) {
            keep = k;
            tail = top;
        }
    }
    if (keep == count) {
        return PH_OK;
    }
    ph_status status = ph_edits_reserve(edits, 2 * PH_EXTENT_LINES);
    if (status != PH_OK) {
        return status;
    }
    for (unsigned k = count - 1; k >= keep; k--) {
        uint64_t slot = ph_header_slot(PH_HEADER_AT(table), k);
        if (below[k] > 0) {
            unlink_extent(edits, heap, ph_edits_get(edits, slot) - below[k], below[k]);
        }
    }
    for (unsigned k = keep; k < count; k++) {
        ph_put(edits, ph_header_slot(PH_HEADER_AT(table), k), 0);
    }
    heap->tables = keep;
    ph_put(edits, PH_HEADER_AT(table_count), keep);
    ph_tail_set(edits, heap, tail);
    return PH_OK;
}
