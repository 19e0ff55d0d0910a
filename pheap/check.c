/* SPDX-License-Identifier: MIT */
/* The whole-heap check. */
#include "pheap/check.h"

#include "pheap/extent.h"
#include "pheap/slab.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>

#define INSIDE_MAX 65536u            /* descriptors looked at inside one extent, and pages that should be zero */
#define LOST_MAX (UINT64_C(1) << 24) /* pages searched for the next sound extent, in all */
#define PROGRESS_STEPS 1024u         /* extents between two calls of `progress` */

/* A set of pages as a sum that does not depend on the order: two equal sums mean equal sets, but for chance. */
struct page_set {
    uint64_t count;
    uint64_t sum;
};

struct check {
    struct ph_heap heap;
    pheap_fault fault;
    pheap_progress progress;
    void *context;
    uint64_t seed;
    unsigned faults;
    char first[PH_DETAIL_BYTES / 2];
    bool stopped;
    uint64_t lost_budget;
    uint32_t steps;
    uint64_t spare;
    bool spare_seen;
    struct page_set free_seen;
    struct page_set partial_seen[PH_CLASSES];
};

static void report(struct check *c, uint64_t offset, const char *format, ...) __attribute__((format(printf, 3, 4)));

static void report(struct check *c, uint64_t offset, const char *format, ...)
{
    char text[PH_DETAIL_BYTES / 2];
    if (c->faults++ >= PH_CHECK_FAULTS_MAX) {
        return;
    }
    va_list arguments;
    va_start(arguments, format);
    (void)vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    if (c->faults == 1) {
        (void)snprintf(c->first, sizeof c->first, "at 0x%" PRIx64 ": %.400s", offset, text);
    }
    if (c->fault != NULL) {
        c->fault(c->context, offset, text);
    }
}

static uint64_t page_offset(uint64_t page)
{
    return page << PH_PAGE_SHIFT;
}

static void add_page(const struct check *c, struct page_set *set, uint64_t page)
{
    uint64_t x = page + c->seed;
    x = (x ^ x >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    x = (x ^ x >> 27) * UINT64_C(0x94d049bb133111eb);
    set->sum += x ^ x >> 31;
    set->count++;
}

static bool same_set(const struct page_set *a, const struct page_set *b)
{
    return a->count == b->count && a->sum == b->sum;
}

static uint64_t table_page(const struct ph_heap *heap, unsigned k)
{
    return ph_load(heap->base, ph_header_slot(PH_HEADER_AT(table), k));
}

/* Call `progress` now and then.  False: stop. */
static bool go_on(struct check *c, const char *what, uint64_t done, uint64_t total)
{
    if (c->progress != NULL && c->steps++ % PROGRESS_STEPS == 0 && c->progress(c->context, what, done, total) != 0) {
        c->stopped = true;
    }
    return !c->stopped && c->faults <= PH_CHECK_FAULTS_MAX;
}

/* ----------------------------------------------------------------------------------------------------------- header */

static void check_zero(struct check *c, uint64_t from, uint64_t to, const char *what)
{
    for (uint64_t at = from; at < to; at += 8) {
        if (ph_load(c->heap.base, at) != 0) {
            report(c, at, "%s is not zero", what);
            return;
        }
    }
}

/* The map of a segment has no bits beyond its array. */
static void check_map(struct check *c, unsigned k, uint64_t table)
{
    uint64_t bits = ph_table_array_pages(k);
    uint64_t at = page_offset(table) + bits / 64 * 8;
    uint64_t end = page_offset(table + ph_table_map_pages(k));
    if (bits % 64 != 0 && ph_load(c->heap.base, at) >> (bits % 64) != 0) {
        report(c, at, "the map of table segment %u has bits beyond its end", k);
    }
    check_zero(c, bits % 64 != 0 ? at + 8 : at, end, "the map of a table segment beyond its end");
}

/*
 * Pages that were never allocated are zero, or a block that is to be zeroed would get what is there.  Those behind the
 * end page as well: growth takes them in.
 */
static void check_zero_pages(struct check *c, uint64_t end)
{
    const struct ph_heap *heap = &c->heap;
    uint64_t zero = ph_load(heap->base, PH_HEADER_AT(zero_page));
    if (zero < heap->tail || zero > heap->end) {
        report(c, PH_HEADER_AT(zero_page),
               "heap header: zero page %" PRIu64 " is not between tail %" PRIu64 " and end %" PRIu64, zero, heap->tail,
               heap->end);
        return;
    }
    uint64_t stop = end - zero > INSIDE_MAX ? zero + INSIDE_MAX : end;
    check_zero(c, page_offset(zero), page_offset(stop), "a word of a page that was never allocated");
}

static void check_header(struct check *c)
{
    const struct ph_heap *heap = &c->heap;
    check_zero(c, PH_HEADER_AT(reserved0), PH_HEADER_AT(table), "heap header: a reserved word");
    check_zero(c, PH_HEADER_AT(reserved1), PH_HEADER_AT(partial), "heap header: a reserved word");
    check_zero(c, PH_HEADER_AT(reserved2), (uint64_t)PH_HEAP_START + PH_PAGE_BYTES, "heap header: a reserved word");
    check_zero(c, ph_header_slot(PH_HEADER_AT(table), heap->tables), PH_HEADER_AT(free_bits),
               "heap header: a table segment beyond the last");
    if (heap->tail > ph_table_covered(heap->tables)) {
        report(c, PH_HEADER_AT(table_count),
               "heap header: %" PRIu64 " table segments do not reach the tail, page %" PRIu64, heap->tables,
               heap->tail);
    }
    if (table_page(heap, 0) != PH_TABLE_PAGE) {
        report(c, PH_HEADER_AT(table), "heap header: table segment 0 is not at page %u", PH_TABLE_PAGE);
    }
    check_zero(c, page_offset(PH_TABLE_PAGE), page_offset(PH_TABLE_PAGE) + PH_FIRST_PAGE * sizeof(struct ph_disk_page),
               "the descriptor of a page before the first");
    uint64_t before = PH_FIRST_PAGE;
    for (unsigned k = 1; k < heap->tables; k++) {
        uint64_t table = table_page(heap, k);
        if (table < before || table > heap->tail || ph_table_pages(k) > heap->tail - table) {
            report(c, ph_header_slot(PH_HEADER_AT(table), k),
                   "heap header: table segment %u cannot be at page %" PRIu64, k, table);
            return;
        }
        before = table + ph_table_pages(k);
        if (k >= PH_TABLE_MAPPED) {
            check_map(c, k, table);
        }
    }
}

/* ------------------------------------------------------------------------------------------------------------- walk */

static bool is_way(uint64_t start, uint64_t page)
{
    /* `page` is the smallest multiple of its lowest set bit above `start`. */
    uint64_t bit = page & (0 - page);
    return bit >= UINT64_C(1) << PH_WAY_SHIFT && page - bit <= start;
}

/* Descriptors in (start, end) are zero, but for waypoints if `ways`. */
static void check_inside(struct check *c, uint64_t start, uint64_t end, bool ways)
{
    uint64_t stop = end - start > INSIDE_MAX ? start + INSIDE_MAX : end;
    for (uint64_t page = start + 1; page < stop; page++) {
        uint64_t slot = ph_page_slot(&c->heap, page);
        if (slot == PH_SLOT_NONE) {
            page |= PH_TABLE_UNIT - 1;
            continue;
        }
        struct ph_disk_page d = ph_page_get(&c->heap, page);
        if ((d.word0 | d.word1) != 0 && !(ways && is_way(start, page))) {
            report(c, page_offset(page),
                   "page %" PRIu64 " is inside the extent at page %" PRIu64 ", but has a descriptor", page, start);
            return;
        }
    }
}

static void check_ways(struct check *c, uint64_t start, uint64_t end)
{
    struct ph_disk_page expected = ph_page_make(PH_PAGE_WAY, start);
    for (uint64_t w = ph_way_next(start, end, 0); w != 0; w = ph_way_next(start, end, w)) {
        struct ph_disk_page d = ph_page_get(&c->heap, w);
        if (d.word0 != expected.word0 || d.word1 != 0) {
            report(c, page_offset(w), "page %" PRIu64 " should be a waypoint of the block at page %" PRIu64, w, start);
        }
    }
}

/* The slab at `page`: how many pages to go on, 0 if it is none. */
static uint64_t check_slab(struct check *c, uint64_t page, struct ph_disk_page d, uint64_t room)
{
    const struct ph_heap *heap = &c->heap;
    unsigned class = ph_page_class(d);
    if (ph_page_value(d) != 0 || class >= PH_CLASSES || d.word1 != 0) {
        report(c, page_offset(page),
               "page %" PRIu64 " claims to be page %" PRIu64 " of a slab of class %u, which does not begin before it",
               page, ph_page_value(d), class);
        return 0;
    }
    const struct ph_class *k = &ph_classes[class];
    if (k->pages > room || !ph_slab_valid(heap, page, class)) {
        report(c, page_offset(page), "slab at page %" PRIu64 ": its header is not that of a slab of class %u", page,
               class);
        return 0;
    }
    for (unsigned i = 1; i < k->pages; i++) {
        struct ph_disk_page expected = ph_page_make_slab(i, class);
        d = ph_page_get(heap, page + i);
        if (d.word0 != expected.word0 || d.word1 != 0) {
            report(c, page_offset(page + i), "slab at page %" PRIu64 ": the descriptor of its page %u is not right",
                   page, i);
        }
    }
    for (unsigned i = 0; i < ph_class_words(k); i++) {
        if ((ph_slab_word(heap->base, page, i) & ~ph_class_mask(k, i)) != 0) {
            report(c, page_offset(page), "slab at page %" PRIu64 ": free slots beyond the last", page);
        }
    }
    uint64_t prev = ph_load(heap->base, PH_SLAB_FIELD(page, prev_page));
    uint64_t next = ph_load(heap->base, PH_SLAB_FIELD(page, next_page));
    if (prev != 0 || next != 0) {
        add_page(c, &c->partial_seen[class], page);
        if (!ph_slab_has_free(heap, page, class, 1)) {
            report(c, page_offset(page), "slab at page %" PRIu64 ": it is full, but has list links", page);
        }
    } else if (ph_slab_has_free(heap, page, class, ph_class_relist(k))) {
        report(c, page_offset(page), "slab at page %" PRIu64 ": it has free slots, but no list links", page);
    }
    if (page == c->spare) {
        c->spare_seen = true;
    } else if (ph_slab_empty(heap, page, class)) {
        report(c, page_offset(page), "slab at page %" PRIu64 ": it is empty, but not the spare slab", page);
    }
    return k->pages;
}

static uint64_t check_free(struct check *c, uint64_t page, struct ph_disk_page d, bool after_free)
{
    uint64_t pages = ph_page_value(d);
    if (after_free) {
        report(c, page_offset(page), "free extent at page %" PRIu64 ": the extent before it is free too", page);
    }
    if (page + pages == c->heap.tail) {
        report(c, page_offset(page), "free extent at page %" PRIu64 ": it should be part of the tail", page);
    }
    if (d.word1 >> 48 != 0) {
        report(c, page_offset(page), "free extent at page %" PRIu64 ": unknown bits in its descriptor", page);
    }
    if (pages > 1) {
        struct ph_disk_page last = ph_page_get(&c->heap, page + pages - 1);
        if (last.word0 != ph_page_make(PH_PAGE_LAST, pages).word0 || last.word1 != 0) {
            report(c, page_offset(page),
                   "free extent at page %" PRIu64 ": its last page does not agree on its length "
                   "of %" PRIu64 " pages",
                   page, pages);
        }
        check_inside(c, page, page + pages - 1, false);
    }
    add_page(c, &c->free_seen, page);
    return pages;
}

/* The extent at `page`, which may be `room` pages long at most: its length, 0 if there is none. */
static uint64_t check_extent(struct check *c, uint64_t page, uint64_t room, bool *free_before)
{
    struct ph_disk_page d = ph_page_get(&c->heap, page);
    unsigned state = ph_page_state(d);
    uint64_t pages = ph_page_value(d);
    bool after_free = *free_before;
    *free_before = false;
    if (state == PH_PAGE_SLAB) {
        return check_slab(c, page, d, room);
    }
    if (state != PH_PAGE_LARGE && state != PH_PAGE_FREE) {
        report(c, page_offset(page), "page %" PRIu64 " belongs to nothing (descriptor 0x%" PRIx64 ")", page, d.word0);
        return 0;
    }
    if (pages == 0 || pages > room) {
        report(c, page_offset(page),
               "page %" PRIu64 ": an extent of %" PRIu64 " pages, where at most %" PRIu64 " are possible", page, pages,
               room);
        return 0;
    }
    if (state == PH_PAGE_FREE) {
        *free_before = true;
        return check_free(c, page, d, after_free);
    }
    if (d.word0 >> 40 != 0 || d.word1 != 0) {
        report(c, page_offset(page), "block at page %" PRIu64 ": unknown bits in its descriptor", page);
    }
    check_ways(c, page, page + pages);
    check_inside(c, page, page + pages, true);
    return pages;
}

/* After damage: the next page at which something seems to begin. */
static uint64_t find_next(struct check *c, uint64_t page, uint64_t end)
{
    for (page++; page < end && c->lost_budget > 0; page++, c->lost_budget--) {
        uint64_t slot = ph_page_slot(&c->heap, page);
        if (slot == PH_SLOT_NONE) {
            page |= PH_TABLE_UNIT - 1;
            continue;
        }
        struct ph_disk_page d = ph_page_get(&c->heap, page);
        unsigned state = ph_page_state(d);
        if ((state == PH_PAGE_SLAB && ph_page_value(d) == 0) || state == PH_PAGE_LARGE || state == PH_PAGE_FREE) {
            break;
        }
    }
    return page < end ? page : end;
}

static void walk(struct check *c)
{
    const struct ph_heap *heap = &c->heap;
    uint64_t page = PH_FIRST_PAGE;
    unsigned k = 1;
    bool free_before = false;
    while (page < heap->tail && go_on(c, "extents", page, heap->tail)) {
        uint64_t table = k < heap->tables ? table_page(heap, k) : heap->tail;
        if (page == table) {
            uint64_t end = table + ph_table_pages(k++);
            check_inside(c, page - 1, end, false);
            page = end;
            free_before = false;
            continue;
        }
        uint64_t pages = check_extent(c, page, table - page, &free_before);
        if (pages != 0) {
            page += pages;
            continue;
        }
        page = find_next(c, page, table);
        if (c->lost_budget == 0) {
            report(c, page_offset(page), "the search for the next sound extent ends here");
            return;
        }
    }
    if (page >= heap->tail) {
        check_inside(c, heap->tail - 1, ph_table_covered(heap->tables), false);
    }
}

/* ------------------------------------------------------------------------------------------------------------ lists */

static void check_free_list(struct check *c, unsigned list, struct page_set *listed)
{
    const struct ph_heap *heap = &c->heap;
    uint64_t slot = ph_header_slot(PH_HEADER_AT(free_head), list);
    uint64_t page = ph_load(heap->base, slot);
    bool bit = ph_load(heap->base, ph_header_slot(PH_HEADER_AT(free_bits), list / 64)) >> (list % 64) & 1;
    if (bit != (page != 0)) {
        report(c, slot, "heap header: the bit of free list %u does not agree with its head", list);
    }
    uint64_t before = 0;
    while (page != 0 && go_on(c, "free lists", listed->count, c->free_seen.count)) {
        struct ph_disk_page d = {0, 0};
        if (page >= PH_FIRST_PAGE && page < heap->tail) {
            d = ph_page_get(heap, page);
        }
        if (ph_page_state(d) != PH_PAGE_FREE || ph_page_value(d) == 0 || ph_free_list(ph_page_value(d)) != list) {
            report(c, slot, "free list %u leads to page %" PRIu64 ", which does not belong to it", list, page);
            return;
        }
        if (ph_page_prev(d) != before) {
            report(c, page_offset(page),
                   "free extent at page %" PRIu64 ": its link back leads to page %" PRIu64 " instead of %" PRIu64, page,
                   ph_page_prev(d), before);
            return;
        }
        if (listed->count == c->free_seen.count) {
            report(c, page_offset(page), "there are more free extents in lists than in the heap");
            return;
        }
        add_page(c, listed, page);
        before = page;
        page = ph_page_next(d);
    }
}

static void check_partial_list(struct check *c, unsigned class)
{
    const struct ph_heap *heap = &c->heap;
    uint64_t slot = ph_header_slot(PH_HEADER_AT(partial), class);
    uint64_t head = ph_load(heap->base, slot);
    struct page_set listed = {0, 0};
    uint64_t page = head;
    while (page != 0 && go_on(c, "slab lists", class, PH_CLASSES)) {
        if (!ph_slab_valid(heap, page, class)) {
            report(c, slot, "the list of slabs of class %u leads to page %" PRIu64 ", where there is none", class,
                   page);
            return;
        }
        uint64_t next = ph_load(heap->base, PH_SLAB_FIELD(page, next_page));
        if (listed.count == c->partial_seen[class].count) {
            report(c, slot, "there are more slabs of class %u in its list than in the heap", class);
            return;
        }
        add_page(c, &listed, page);
        if (ph_slab_valid(heap, next, class) && ph_load(heap->base, PH_SLAB_FIELD(next, prev_page)) != page) {
            report(c, page_offset(next), "slab at page %" PRIu64 ": its link back does not lead to page %" PRIu64, next,
                   page);
            return;
        }
        page = next == head ? 0 : next;
        if (next == 0) {
            report(c, page_offset(page), "the list of slabs of class %u ends instead of going round", class);
        }
    }
    if (!same_set(&listed, &c->partial_seen[class]) && !c->stopped) {
        report(c, slot,
               "the list of slabs of class %u has %" PRIu64 " slabs, not those %" PRIu64
               " of the heap that have list links",
               class, listed.count, c->partial_seen[class].count);
    }
}

static void check_root(struct check *c, struct ph_space space)
{
    uint64_t root = ph_alloc_root(space);
    uint64_t start;
    uint64_t length;
    if (root != 0 && (ph_alloc_find(space, root, &start, &length) != PH_OK || start != root)) {
        report(c, PH_HEADER_AT(root), "the root, 0x%" PRIx64 ", is not the start of a live block", root);
    }
}

static void check_lists(struct check *c)
{
    struct page_set listed = {0, 0};
    uint64_t last = ph_header_slot(PH_HEADER_AT(free_bits), PH_FREE_WORDS - 1);
    if (ph_load(c->heap.base, last) >> (PH_FREE_LISTS % 64) != 0) {
        report(c, last, "heap header: bits of free lists beyond the last");
    }
    for (unsigned list = 0; list < PH_FREE_LISTS; list++) {
        check_free_list(c, list, &listed);
    }
    if (!same_set(&listed, &c->free_seen) && !c->stopped) {
        report(c, PH_HEADER_AT(free_head), "the lists hold %" PRIu64 " free extents, not those %" PRIu64 " of the heap",
               listed.count, c->free_seen.count);
    }
    for (unsigned class = 0; class < PH_CLASSES; class += 1) {
        check_partial_list(c, class);
    }
    if (c->spare != 0 && !c->spare_seen && !c->stopped) {
        report(c, PH_HEADER_AT(spare_page), "heap header: no slab begins at the spare page %" PRIu64, c->spare);
    }
}

ph_status ph_check_heap(const ph_io *io, struct ph_space space, pheap_fault fault, pheap_progress progress,
                        void *context)
{
    struct check c = {.fault = fault, .progress = progress, .context = context, .lost_budget = LOST_MAX};
    ph_status status = ph_heap_load(space, &c.heap);
    if (status != PH_OK) {
        if (fault != NULL) {
            fault(context, PH_HEAP_START, ph_detail());
        }
        return status;
    }
    if (io != NULL) {
        (void)io->random(io->ctx, &c.seed, sizeof c.seed); /* any seed will do */
    }
    c.spare = ph_load(space.base, PH_HEADER_AT(spare_page));
    check_header(&c);
    if (c.faults == 0) { /* without a sound header and table nothing else can be read */
        walk(&c);
        check_lists(&c);
        check_root(&c, space);
        check_zero_pages(&c, space.size >> PH_PAGE_SHIFT);
    }
    if (c.stopped) {
        return ph_fail(PH_BUSY, "the check was stopped");
    }
    if (c.faults > 0) {
        return ph_fail(PH_CORRUPT, "the heap check found %u faults, the first %s", c.faults, c.first);
    }
    return PH_OK;
}
