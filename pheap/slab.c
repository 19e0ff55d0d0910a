/* SPDX-License-Identifier: MIT */
/* Slabs: allocating and freeing slots, making and giving back slabs, the lists of slabs with free slots. */
#include "pheap/slab.h"

#include <inttypes.h>

static uint64_t partial_slot(unsigned class)
{
    return ph_header_slot(PH_HEADER_AT(partial), class);
}

static ph_status damaged(uint64_t page, const char *what)
{
    return ph_fail(PH_CORRUPT, "slab at page %" PRIu64 ": %s", page, what);
}

bool ph_slab_empty(const struct ph_heap *heap, uint64_t page, unsigned class)
{
    const struct ph_class *c = &ph_classes[class];
    for (unsigned i = 0; i < ph_class_words(c); i++) {
        if (ph_slab_word(heap->base, page, i) != ph_class_mask(c, i)) {
            return false;
        }
    }
    return true;
}

bool ph_slab_has_free(const struct ph_heap *heap, uint64_t page, unsigned class, unsigned count)
{
    for (unsigned i = 0; count > 0 && i < ph_class_words(&ph_classes[class]); i++) {
        for (uint64_t word = ph_slab_word(heap->base, page, i); word != 0 && count > 0; word &= word - 1) {
            count--;
        }
    }
    return count == 0;
}

ph_status ph_slab_locate(const struct ph_heap *heap, struct ph_disk_page d, uint64_t offset, struct ph_slot *slot)
{
    uint64_t at = offset >> PH_PAGE_SHIFT;
    uint64_t index = ph_page_value(d);
    unsigned class = ph_page_class(d);
    if (class >= PH_CLASSES || index >= ph_classes[class].pages || index > at ||
        !ph_slab_valid(heap, at - index, class)) {
        return ph_fail(PH_CORRUPT,
                       "page table: page %" PRIu64 " claims to be page %" PRIu64
                       " of a slab of class %u, but there is no such slab",
                       at, index, class);
    }
    const struct ph_class *c = &ph_classes[class];
    slot->page = at - index;
    slot->class = class;
    slot->in_slot = false;
    slot->exact = false;
    slot->live = false;
    uint64_t relative = offset - (slot->page << PH_PAGE_SHIFT);
    if (relative < c->first) {
        return PH_OK;
    }
    relative -= c->first;
    unsigned i = ph_class_slot(c, relative);
    if (i >= c->count) {
        return PH_OK;
    }
    slot->in_slot = true;
    slot->index = i;
    slot->exact = (uint64_t)i * c->size == relative;
    slot->start = (slot->page << PH_PAGE_SHIFT) + c->first + (uint64_t)i * c->size;
    slot->live = !(ph_slab_word(heap->base, slot->page, i / 64) >> (i % 64) & 1);
    return PH_OK;
}

/* ---------------------------------------------------------------------------------- lists of slabs with free slots */

/* A slab of the list may be touched: it is one, and its neighbours know it. */
static ph_status check_links(const struct ph_heap *heap, uint64_t page, unsigned class)
{
    if (!ph_slab_valid(heap, page, class)) {
        return ph_fail(PH_CORRUPT, "list of slabs of class %u leads to page %" PRIu64 ", where there is none", class,
                       page);
    }
    uint64_t prev = ph_load(heap->base, PH_SLAB_FIELD(page, prev_page));
    uint64_t next = ph_load(heap->base, PH_SLAB_FIELD(page, next_page));
    if (!ph_slab_valid(heap, prev, class) || !ph_slab_valid(heap, next, class) ||
        ph_load(heap->base, PH_SLAB_FIELD(prev, next_page)) != page ||
        ph_load(heap->base, PH_SLAB_FIELD(next, prev_page)) != page) {
        return damaged(page, "its neighbours in the list do not lead to it");
    }
    return PH_OK;
}

/* A slab may be put into the list. */
static ph_status check_list(const struct ph_heap *heap, unsigned class)
{
    uint64_t head = ph_load(heap->base, partial_slot(class));
    return head == 0 ? PH_OK : check_links(heap, head, class);
}

/* Put a slab into its list, which was checked: first if its address is below the first one's, else second. */
static void link_slab(struct ph_edits *edits, uint64_t page, unsigned class)
{
    uint64_t next = ph_edits_get(edits, partial_slot(class));
    if (next == 0) {
        ph_put(edits, partial_slot(class), page);
        ph_put(edits, PH_SLAB_FIELD(page, prev_page), page);
        ph_put(edits, PH_SLAB_FIELD(page, next_page), page);
        return;
    }
    if (page < next) {
        ph_put(edits, partial_slot(class), page);
    } else {
        next = ph_edits_get(edits, PH_SLAB_FIELD(next, next_page));
    }
    uint64_t prev = ph_edits_get(edits, PH_SLAB_FIELD(next, prev_page));
    ph_put(edits, PH_SLAB_FIELD(prev, next_page), page);
    ph_put(edits, PH_SLAB_FIELD(next, prev_page), page);
    ph_put(edits, PH_SLAB_FIELD(page, prev_page), prev);
    ph_put(edits, PH_SLAB_FIELD(page, next_page), next);
}

/* Take a slab out of its list; it was checked. */
static void unlink_slab(struct ph_edits *edits, uint64_t page, unsigned class)
{
    uint64_t prev = ph_edits_get(edits, PH_SLAB_FIELD(page, prev_page));
    uint64_t next = ph_edits_get(edits, PH_SLAB_FIELD(page, next_page));
    if (next == page) {
        ph_put(edits, partial_slot(class), 0);
    } else {
        ph_put(edits, PH_SLAB_FIELD(prev, next_page), next);
        ph_put(edits, PH_SLAB_FIELD(next, prev_page), prev);
        if (ph_edits_get(edits, partial_slot(class)) == page) {
            ph_put(edits, partial_slot(class), next);
        }
    }
    ph_put(edits, PH_SLAB_FIELD(page, prev_page), 0);
    ph_put(edits, PH_SLAB_FIELD(page, next_page), 0);
}

/* ------------------------------------------------------------------------------------------------------ allocating */

/* Make a slab whose slot 0 is allocated: *offset. */
static ph_status create(struct ph_edits *edits, struct ph_heap *heap, unsigned class, uint64_t *offset)
{
    const struct ph_class *c = &ph_classes[class];
    struct ph_cut cut;
    ph_status status = ph_extent_find(edits, heap, c->pages, 1, &cut);
    if (status == PH_OK) {
        status = ph_page_prepare(edits, heap, cut.page + c->pages - 1);
    }
    if (status == PH_OK) {
        status = ph_edits_reserve(edits, PH_EXTENT_LINES);
    }
    if (status != PH_OK) {
        return status;
    }
    uint64_t slab = cut.page << PH_PAGE_SHIFT;
    status = ph_edits_add_fresh(edits, slab, ph_class_header(c));
    if (status != PH_OK) {
        return status;
    }
    status = ph_edits_add_fresh(edits, slab + c->first, c->size);
    if (status != PH_OK) {
        ph_edits_change_fresh(edits, slab, 0);
        return status;
    }
    ph_extent_take(edits, heap, &cut);
    for (unsigned i = 0; i < c->pages; i++) {
        ph_page_put(edits, heap, cut.page + i, ph_page_make_slab(i, class));
    }
    struct ph_disk_slab header = {ph_slab_name(cut.page, class), cut.page, cut.page, {0}};
    for (unsigned i = 0; i < ph_class_words(c); i++) {
        header.bitmap[i] = ph_class_mask(c, i);
    }
    header.bitmap[0] &= ~UINT64_C(1);
    memcpy(edits->base + slab, &header, ph_class_header(c));
    ph_put(edits, partial_slot(class), cut.page);
    *offset = slab + c->first;
    return PH_OK;
}

ph_status ph_slab_alloc(struct ph_edits *edits, struct ph_heap *heap, unsigned class, uint64_t *offset)
{
    const struct ph_class *c = &ph_classes[class];
    uint64_t page = ph_edits_get(edits, partial_slot(class));
    if (page == 0) {
        return create(edits, heap, class, offset);
    }
    if (!ph_slab_valid(heap, page, class)) {
        return ph_fail(PH_CORRUPT, "list of slabs of class %u begins at page %" PRIu64 ", where there is none", class,
                       page);
    }
    unsigned words = ph_class_words(c);
    unsigned i = 0;
    uint64_t word = 0;
    while (i < words && (word = ph_slab_word(edits->base, page, i)) == 0) {
        i++;
    }
    /* Of the free slots prefer one that no abort makes live again: its bytes need not be saved. */
    uint64_t clean = word & ph_edits_common(edits, PH_SLAB_FIELD(page, bitmap) + 8u * i);
    uint64_t pick = clean != 0 ? clean : word;
    unsigned index = i * 64 + (pick == 0 ? 0 : (unsigned)__builtin_ctzll(pick));
    if (i == words || index >= c->count) {
        return damaged(page, "it is in the list of slabs with free slots, but has none");
    }
    word &= ~(pick & (0 - pick));
    bool full = word == 0;
    for (unsigned later = i + 1; full && later < words; later++) {
        full = ph_slab_word(edits->base, page, later) == 0;
    }
    ph_status status = full ? check_links(heap, page, class) : PH_OK;
    uint64_t start = (page << PH_PAGE_SHIFT) + c->first + (uint64_t)index * c->size;
    if (status == PH_OK && clean == 0) {
        status = ph_edits_range(edits, start, c->size);
    }
    if (status == PH_OK) {
        status = ph_edits_reserve(edits, PH_SLOT_LINES);
    }
    if (status == PH_OK) {
        status = ph_edits_add_fresh(edits, start, c->size);
    }
    if (status != PH_OK) {
        return status;
    }
    ph_edits_word(edits, PH_SLAB_FIELD(page, bitmap) + 8u * i, word);
    if (full) {
        unlink_slab(edits, page, class);
    }
    *offset = start;
    return PH_OK;
}

/* --------------------------------------------------------------------------------------------------------- freeing */

/* The spare slab of the header: its class; *page is 0 when there is none or it is not empty. */
static ph_status empty_spare(const struct ph_heap *heap, uint64_t *page, unsigned *class)
{
    uint64_t spare = ph_load(heap->base, PH_HEADER_AT(spare_page));
    *page = 0;
    if (spare == 0) {
        return PH_OK;
    }
    struct ph_disk_page d = {0, 0};
    if (spare >= PH_FIRST_PAGE && spare < heap->tail) {
        d = ph_page_get(heap, spare);
    }
    if (ph_page_state(d) != PH_PAGE_SLAB || ph_page_value(d) != 0 || ph_page_class(d) >= PH_CLASSES ||
        !ph_slab_valid(heap, spare, ph_page_class(d))) {
        return ph_fail(PH_CORRUPT, "heap header: the spare slab at page %" PRIu64 " is not a slab", spare);
    }
    *class = ph_page_class(d);
    if (ph_slab_empty(heap, spare, *class)) {
        *page = spare;
    }
    return PH_OK;
}

/* The slab at `page` becomes empty and thereby the spare one: the spare one until now goes at commit. */
static ph_status retire_spare(struct ph_edits *edits, const struct ph_heap *heap, uint64_t page)
{
    uint64_t spare;
    unsigned class;
    ph_status status = empty_spare(heap, &spare, &class);
    if (status == PH_OK && spare != 0 && spare != page) {
        status = ph_edits_defer(edits, spare << PH_PAGE_SHIFT);
    }
    return status;
}

ph_status ph_slab_free(struct ph_edits *edits, const struct ph_heap *heap, const struct ph_slot *slot)
{
    const struct ph_class *c = &ph_classes[slot->class];
    unsigned i = slot->index / 64;
    unsigned words = ph_class_words(c);
    uint64_t old = ph_slab_word(edits->base, slot->page, i);
    uint64_t word = old | UINT64_C(1) << (slot->index % 64);
    bool relist = ph_load(edits->base, PH_SLAB_FIELD(slot->page, prev_page)) == 0 &&
                  ph_slab_has_free(heap, slot->page, slot->class, ph_class_relist(c) - 1);
    bool empty = word == ph_class_mask(c, i);
    for (unsigned other = 0; empty && other < words; other++) {
        empty = other == i || ph_slab_word(edits->base, slot->page, other) == ph_class_mask(c, other);
    }
    ph_status status = relist ? check_list(heap, slot->class) : PH_OK;
    if (status == PH_OK && empty) {
        status = retire_spare(edits, heap, slot->page);
    }
    if (status == PH_OK) {
        status = ph_edits_reserve(edits, PH_SLOT_LINES);
    }
    if (status != PH_OK) {
        return status;
    }
    if (ph_edits_is_fresh(edits, slot->start, NULL) == 1) {
        ph_edits_change_fresh(edits, slot->start, 0);
    }
    ph_edits_word(edits, PH_SLAB_FIELD(slot->page, bitmap) + 8u * i, word);
    if (relist) {
        link_slab(edits, slot->page, slot->class);
    }
    if (empty) {
        ph_put(edits, PH_HEADER_AT(spare_page), slot->page);
    }
    return PH_OK;
}

/* ---------------------------------------------------------------------------------------------- giving back, at commit */

/* Give back an empty slab. */
static ph_status destroy(struct ph_edits *edits, struct ph_heap *heap, uint64_t page, unsigned class)
{
    const struct ph_class *c = &ph_classes[class];
    const struct ph_disk_page none = {0, 0};
    struct ph_merge merge;
    ph_status status = check_links(heap, page, class);
    if (status == PH_OK) {
        status = ph_extent_plan_free(edits, heap, page, c->pages, &merge);
    }
    if (status == PH_OK) {
        status = ph_edits_reserve(edits, PH_EXTENT_LINES);
    }
    if (status != PH_OK) {
        return status;
    }
    unlink_slab(edits, page, class);
    for (unsigned i = 0; i < c->pages; i++) {
        ph_page_put(edits, heap, page + i, none);
    }
    ph_extent_free(edits, heap, &merge);
    if (ph_edits_is_fresh(edits, page << PH_PAGE_SHIFT, NULL) == 1) {
        ph_edits_change_fresh(edits, page << PH_PAGE_SHIFT, 0);
    }
    return PH_OK;
}

ph_status ph_slab_release(struct ph_edits *edits, struct ph_heap *heap, uint64_t page, struct ph_disk_page d)
{
    unsigned class = ph_page_class(d);
    if (ph_page_value(d) != 0 || class >= PH_CLASSES || !ph_slab_valid(heap, page, class) ||
        page == ph_edits_get(edits, PH_HEADER_AT(spare_page)) || !ph_slab_empty(heap, page, class)) {
        return PH_OK;
    }
    return destroy(edits, heap, page, class);
}

/* Does anything live in the heap besides the (empty) slab at `spare`?  Looks at no more than a few extents. */
static bool lives_alone(const struct ph_heap *heap, uint64_t spare, unsigned class)
{
    uint64_t page = PH_FIRST_PAGE;
    for (int steps = 0; steps < 3 * (int)PH_TABLES && page < heap->tail; steps++) {
        struct ph_disk_page d = ph_page_get(heap, page);
        if (page == spare) {
            page += ph_classes[class].pages;
        } else if (ph_page_state(d) == PH_PAGE_FREE && ph_page_value(d) > 0) {
            page += ph_page_value(d);
        } else if (d.word0 == 0 && ph_table_end(heap, page) != 0) {
            page = ph_table_end(heap, page);
        } else {
            return false;
        }
    }
    return page == heap->tail;
}

ph_status ph_slab_release_spare(struct ph_edits *edits, struct ph_heap *heap)
{
    uint64_t spare;
    unsigned class;
    ph_status status = empty_spare(heap, &spare, &class);
    if (status != PH_OK || spare == 0 || !lives_alone(heap, spare, class)) {
        return status;
    }
    status = destroy(edits, heap, spare, class);
    if (status == PH_OK) {
        ph_put(edits, PH_HEADER_AT(spare_page), 0);
    }
    return status;
}
