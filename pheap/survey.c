/* SPDX-License-Identifier: MIT */
/*
 * What proves a block.
 *
 * A descriptor says little that another one does not repeat, and those of large blocks do not say where they belong; so
 * what is believed is what two places say.
 *
 *   slab         Its header names itself: page number, class and a magic number of 20 bits; and one descriptor at least,
 *                of its pages, names it too.  Without any descriptor (the page table is damaged there) it must be a slab
 *                that lists agree with, and nothing else may claim its pages, not even a slab of another class.  A slab
 *                that was given back keeps its header, but with an empty bitmap: it has no blocks to lose.
 *   its blocks   the bitmap.  Nothing else says which slots are live.  It shares a sector with the header's name, so
 *                what destroys more than a few bits of a bitmap destroys the name as well.
 *   large block  Its descriptor gives a length that ends where something else begins (a descriptor that begins an extent
 *                or slab, a table segment, the tail), no descriptor inside contradicts, and it is anchored: a waypoint,
 *                which names the block's first page, stands where it should; or the page of descriptors that it is in
 *                has descriptors that something else confirms (slabs, waypoints, links of free lists), at least as many
 *                as it has contradictions; or there is no contradiction in the whole heap.
 *   free extent  its first and last descriptors agree, nothing stands inside, and its list leads to it; without the list
 *                it has no more right to its pages than a slab without descriptors
 *
 * The page table is where the heap header says, if that agrees with itself and what is there describes the heap; else its
 * segments are looked for by that.
 *
 * Who claims pages that somebody else claims with more right loses them; between equals all are uncertain.  An uncertain
 * block is not kept.
 *
 * What this cannot see: a flipped bit of a bitmap; two pages of descriptors that were exchanged and have nothing in them
 * but large blocks without waypoints, all of whose ends meet; a block's content.
 */
#include "pheap/survey.h"

#include "pheap/extent.h"
#include "pheap/slab.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>

#define PROGRESS_PAGES 65536u
#define LOOKS_MAX 4096u /* descriptors looked at for a first one that is right */
#define REFUTED_MAX 16u /* what has so many more wrong descriptors than right ones is no part of the page table */
#define MORE_LOOKS 16u  /* for each page of the heap: more descriptors looked at, of all that has a right one */

/* What is known of 256 pages: descriptors that something else confirms, and contradictions. */
struct ph_unit {
    uint32_t good, bad;
};

/* Owners of pages.  While claims of one rank are weighed, a page also tells how many of them there are. */
enum owner { OWNER_NONE, OWNER_ONE, OWNER_MANY, OWNER_TAKEN, OWNER_DISPUTED };

enum rank { RANK_LONE, RANK_PARTLY, RANK_PROVED, RANKS };

__attribute__((format(printf, 3, 4))) static void report(struct ph_survey *s, uint64_t page, const char *format, ...)
{
    char text[256];
    va_list arguments;
    va_start(arguments, format);
    (void)vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    s->fault(s->context, page << PH_PAGE_SHIFT, text);
}

static ph_status tell_progress(struct ph_survey *s, const char *what, uint64_t page)
{
    if (s->progress == NULL || s->progress(s->context, what, page, s->pages) == 0)
        return PH_OK;
    return ph_fail(PH_BUSY, "stopped");
}

static void good(struct ph_survey *s, uint64_t page)
{
    s->units[page / PH_TABLE_UNIT].good++;
}

static void bad(struct ph_survey *s, uint64_t page)
{
    s->units[page / PH_TABLE_UNIT].bad++;
    s->contradictions++;
}

/* ------------------------------------------------------------------------------------------ what descriptors may be */

static bool same(struct ph_disk_page a, struct ph_disk_page b)
{
    return a.word0 == b.word0 && a.word1 == b.word1;
}

static bool large_possible(const struct ph_survey *s, uint64_t page, struct ph_disk_page d)
{
    uint64_t pages = ph_page_value(d);
    return pages > 0 && pages <= s->pages - page && d.word0 >> 40 == 0 && d.word1 == 0;
}

static bool free_possible(const struct ph_survey *s, uint64_t page, struct ph_disk_page d)
{
    uint64_t pages = ph_page_value(d);
    return pages > 0 && pages <= s->pages - page && d.word1 >> 48 == 0 &&
           (pages == 1 || same(ph_page_get(&s->heap, page + pages - 1), ph_page_make(PH_PAGE_LAST, pages)));
}

static bool is_way(uint64_t start, uint64_t page)
{
    uint64_t bit = page & (0 - page);
    return bit >= UINT64_C(1) << PH_WAY_SHIFT && page - bit <= start;
}

/* A waypoint at `page` leads to the large block around it. */
static bool way_right(const struct ph_survey *s, uint64_t page, struct ph_disk_page d)
{
    uint64_t start = ph_page_value(d);
    if (d.word0 >> 40 != 0 || d.word1 != 0 || start < PH_FIRST_PAGE || start >= page || !is_way(start, page))
        return false;
    struct ph_disk_page first = ph_page_get(&s->heap, start);
    return ph_page_state(first) == PH_PAGE_LARGE && large_possible(s, start, first) &&
           page - start < ph_page_value(first);
}

/* ---------------------------------------------------------------------------------------------------------- header */

static bool slab_confirmed(const struct ph_survey *s, uint64_t page, struct ph_disk_page d)
{
    uint64_t index = ph_page_value(d);
    unsigned class = ph_page_class(d);
    return class < PH_CLASSES && d.word1 == 0 && index < ph_classes[class].pages && index < page &&
           ph_slab_valid(&s->heap, page - index, class);
}

/*
 * Whether table segment k, where the header in memory says it is, describes the heap: more of its descriptors are
 * confirmed by what they describe than not; or, if the header can be believed, none is refuted.  A free extent of one page
 * confirms nothing, as there is no more of it than the descriptor itself.
 */
static bool table_describes(struct ph_survey *s, unsigned k, bool believed)
{
    uint64_t confirmed = 0, refuted = 0, looks = 0, end = ph_table_covered(k + 1);
    for (uint64_t page = (uint64_t)PH_TABLE_UNIT << (k - 1); page < end && page < s->pages; page++) {
        if (!believed && ++looks > LOOKS_MAX) {
            if (confirmed == 0 || s->more_looks == 0)
                return false;
            s->more_looks--;
        }
        if (ph_page_slot(&s->heap, page) == PH_SLOT_NONE) {
            page |= PH_TABLE_UNIT - 1;
            continue;
        }
        struct ph_disk_page d = ph_page_get(&s->heap, page);
        unsigned state = ph_page_state(d);
        bool extent = (state == PH_PAGE_LARGE && large_possible(s, page, d)) ||
                      (state == PH_PAGE_FREE && free_possible(s, page, d));
        bool right = (state == PH_PAGE_SLAB && slab_confirmed(s, page, d)) ||
                     (state == PH_PAGE_WAY && way_right(s, page, d)) ||
                     (state == PH_PAGE_FREE && extent && ph_page_value(d) > 1);
        bool neutral = extent || state == PH_PAGE_LAST || (d.word0 | d.word1) == 0;
        confirmed += right;
        refuted += !right && !neutral;
        if (refuted > confirmed + REFUTED_MAX)
            return false;
    }
    return confirmed > refuted || (believed && refuted == 0);
}

static uint64_t place_of_table(const struct ph_survey *s, unsigned k)
{
    return ph_load(s->base, ph_header_slot(PH_HEADER_AT(table), k));
}

static void set_place_of_table(struct ph_survey *s, unsigned k, uint64_t page)
{
    memcpy(s->base + ph_header_slot(PH_HEADER_AT(table), k), &page, sizeof page);
}

/* Clear the places of table segments that cannot be there.  Segment 0 has only one. */
static void check_tables(struct ph_survey *s, uint64_t count)
{
    uint64_t before = PH_FIRST_PAGE;
    set_place_of_table(s, 0, PH_TABLE_PAGE);
    for (unsigned k = 1; k < PH_TABLES; k++) {
        uint64_t table = place_of_table(s, k), pages = ph_table_pages(k);
        if (table >= before && table < s->pages && pages <= s->pages - table && table_describes(s, k, count != 0)) {
            before = table + pages;
            continue;
        }
        if (table != 0 || k < count) {
            if (count != 0)
                report(s, PH_HEADER_PAGE, "heap header: table segment %u is not at page %" PRIu64, k, table);
            s->header_sound = false;
        }
        set_place_of_table(s, k, 0);
    }
}

/*
 * A table segment whose place the header does not tell: *table is the first page of [from, to) where it proves itself, or
 * 0.  Few pages look like one for long, so this is quick; one that begins with a page of nothing is not found.
 */
static ph_status find_table(struct ph_survey *s, unsigned k, uint64_t from, uint64_t to, uint64_t *table)
{
    uint64_t pages = ph_table_pages(k);
    static const uint8_t zeros[PH_PAGE_BYTES];
    *table = 0;
    for (uint64_t page = from; page < to && pages <= to - page; page++) {
        if ((page - from) % PROGRESS_PAGES == 0) {
            ph_status status = tell_progress(s, "looking for the page table", page);
            if (status != PH_OK)
                return status;
        }
        if (memcmp(s->base + (page << PH_PAGE_SHIFT), zeros, sizeof zeros) == 0)
            continue;
        set_place_of_table(s, k, page);
        if (table_describes(s, k, false)) {
            report(s, page, "table segment %u is found at page %" PRIu64, k, page);
            *table = page;
            return PH_OK;
        }
    }
    return PH_OK;
}

/*
 * Give each table segment that there should be, and has no place, one between those of its neighbours, if it can be found;
 * *tables: how many there are.  `count`: how many the header says there are, 0 if it cannot be believed.
 */
static ph_status find_tables(struct ph_survey *s, uint64_t count, unsigned *tables)
{
    uint64_t from = PH_FIRST_PAGE;
    *tables = 1;
    for (unsigned k = 1; k < PH_TABLES; k++) {
        uint64_t table = place_of_table(s, k), to = 0;
        if (table == 0 && (count != 0 ? k < count : ph_table_covered(k) < s->pages)) {
            for (unsigned later = k + 1; later < PH_TABLES && to == 0; later++)
                to = place_of_table(s, later);
            ph_status status = find_table(s, k, from, to != 0 ? to : s->pages, &table);
            set_place_of_table(s, k, table);
            if (status != PH_OK)
                return status;
            s->header_sound = false;
        }
        if (table != 0) {
            from = table + ph_table_pages(k);
            *tables = k + 1;
        }
    }
    return PH_OK;
}

static ph_status check_header(struct ph_survey *s)
{
    uint64_t tail = ph_load(s->base, PH_HEADER_AT(tail_page)), end = ph_load(s->base, PH_HEADER_AT(end_page));
    bool magic = ph_load(s->base, PH_HEADER_AT(magic)) == PH_DISK_HEAP_MAGIC;
    s->header_sound = magic;
    if (!magic)
        report(s, PH_HEADER_PAGE,
               "heap header: wrong magic number; nothing in it is believed but places of tables that "
               "prove themselves");
    if (magic && tail >= PH_FIRST_PAGE && tail <= end && tail <= s->pages)
        s->tail = tail;
    else if (magic)
        report(s, PH_HEADER_PAGE, "heap header: tail page %" PRIu64 " and end page %" PRIu64 " are impossible", tail,
               end);
    s->heap = (struct ph_heap){.base = s->base, .end = s->pages, .tail = s->pages, .tables = PH_TABLES};
    uint64_t count = magic ? ph_load(s->base, PH_HEADER_AT(table_count)) : 0;
    count = count <= PH_TABLES ? count : 0;
    unsigned tables;
    check_tables(s, count);
    ph_status status = find_tables(s, count, &tables);
    s->heap.tables = tables;
    if (magic && count != tables) {
        report(s, PH_HEADER_PAGE, "heap header: %" PRIu64 " table segments, where %u have a place",
               ph_load(s->base, PH_HEADER_AT(table_count)), tables);
        s->header_sound = false;
    }
    s->header_sound = s->header_sound && s->tail != 0;
    return status;
}

/* ------------------------------------------------------------------------------------------------------- what claims */

static ph_status add_claim(struct ph_survey *s, struct ph_claim claim)
{
    if (s->count == s->capacity) {
        uint64_t capacity = s->capacity * 2 + 64;
        void *grown = s->io->resize(s->io->ctx, s->claims, capacity * sizeof *s->claims);
        if (grown == NULL)
            return ph_fail(PH_NO_MEMORY, "out of memory looking for what is left");
        s->claims = grown;
        s->capacity = capacity;
    }
    s->claims[s->count++] = claim;
    return PH_OK;
}

/* How many descriptors of its pages name the slab that has its header at `page`. */
static unsigned count_matches(const struct ph_survey *s, uint64_t page, unsigned class)
{
    unsigned matched = 0;
    for (unsigned i = 0; i < ph_classes[class].pages; i++)
        matched += same(ph_page_get(&s->heap, page + i), ph_page_make_slab(i, class));
    return matched;
}

static bool bitmap_sound(const struct ph_survey *s, uint64_t page, unsigned class)
{
    const struct ph_class *c = &ph_classes[class];
    for (unsigned i = 0; i < ph_class_words(c); i++)
        if ((ph_slab_word(s->base, page, i) & ~ph_class_mask(c, i)) != 0)
            return false;
    return true;
}

/* Its links are those of a slab that is in its list, or that need not be. */
static bool links_sound(const struct ph_survey *s, uint64_t page, unsigned class)
{
    uint64_t prev = ph_load(s->base, PH_SLAB_FIELD(page, prev_page));
    uint64_t next = ph_load(s->base, PH_SLAB_FIELD(page, next_page));
    if (prev == 0 && next == 0)
        return !ph_slab_has_free(&s->heap, page, class, ph_class_relist(&ph_classes[class]));
    return ph_slab_has_free(&s->heap, page, class, 1) && ph_slab_valid(&s->heap, prev, class) &&
           ph_slab_valid(&s->heap, next, class) && ph_load(s->base, PH_SLAB_FIELD(prev, next_page)) == page &&
           ph_load(s->base, PH_SLAB_FIELD(next, prev_page)) == page;
}

/* A descriptor says that a slab of some other class is here. */
static bool other_class(const struct ph_survey *s, uint64_t page, unsigned class)
{
    for (unsigned i = 0; i < ph_classes[class].pages; i++) {
        struct ph_disk_page d = ph_page_get(&s->heap, page + i);
        if (ph_page_state(d) == PH_PAGE_SLAB && ph_page_value(d) == i && ph_page_class(d) < PH_CLASSES)
            return true;
    }
    return false;
}

/* A page that begins with the header of a slab. */
static ph_status take_slab(struct ph_survey *s, uint64_t page, unsigned class)
{
    const struct ph_class *c = &ph_classes[class];
    unsigned matched = count_matches(s, page, class);
    for (unsigned i = 0; i < c->pages && matched > 0; i++)
        if (same(ph_page_get(&s->heap, page + i), ph_page_make_slab(i, class)))
            good(s, page + i);
        else
            bad(s, page + i);
    if (matched > 0 && matched < c->pages)
        report(s, page, "slab at page %" PRIu64 ": %u of its %u descriptors are damaged", page, c->pages - matched,
               c->pages);
    struct ph_claim claim = {.page = page, .pages = c->pages, .kind = PH_PAGE_SLAB, .class = (uint8_t) class};
    claim.matched = (uint8_t)matched;
    claim.rank = matched == c->pages ? RANK_PROVED : matched > 0 ? RANK_PARTLY : RANK_LONE;
    if (matched == 0 && (ph_slab_empty(&s->heap, page, class) || !bitmap_sound(s, page, class)))
        return PH_OK; /* what was left of one that was given back */
    if (!bitmap_sound(s, page, class)) {
        report(s, page, "slab at page %" PRIu64 ": its bitmap has free slots beyond the last", page);
        claim.state = PH_CLAIM_UNCERTAIN;
    } else if (matched == 0 && (!links_sound(s, page, class) || other_class(s, page, class))) {
        claim.state = PH_CLAIM_UNCERTAIN;
    }
    return add_claim(s, claim);
}

/* A descriptor of a slab whose header does not say so. */
static void check_slab_page(struct ph_survey *s, uint64_t page, struct ph_disk_page d)
{
    uint64_t index = ph_page_value(d), start = page - index;
    unsigned class = ph_page_class(d);
    if (slab_confirmed(s, page, d))
        return;
    bool begun = index < page && index > 0 && class < PH_CLASSES &&
                 same(ph_page_get(&s->heap, start), ph_page_make_slab(0, class));
    if (begun)
        return; /* told of there */
    bad(s, page);
    report(s, page, "page %" PRIu64 " is said to be page %" PRIu64 " of a slab of class %u, which has no header", page,
           index, class);
}

/* The list of its length leads to the free extent. */
static bool is_listed(const struct ph_survey *s, uint64_t page, struct ph_disk_page d)
{
    uint64_t prev = ph_page_prev(d);
    if (prev == 0)
        return ph_load(s->base, ph_header_slot(PH_HEADER_AT(free_head), ph_free_list(ph_page_value(d)))) == page;
    if (prev < PH_FIRST_PAGE || prev >= s->pages)
        return false;
    struct ph_disk_page before = ph_page_get(&s->heap, prev);
    return ph_page_state(before) == PH_PAGE_FREE && ph_page_next(before) == page;
}

static ph_status take_extent(struct ph_survey *s, uint64_t page, struct ph_disk_page d, bool possible, uint8_t rank)
{
    if (!possible) {
        bad(s, page);
        report(s, page, "page %" PRIu64 ": an extent of %" PRIu64 " pages is impossible here", page, ph_page_value(d));
        return PH_OK;
    }
    return add_claim(
        s, (struct ph_claim){.page = page, .pages = ph_page_value(d), .kind = (uint8_t)ph_page_state(d), .rank = rank});
}

static ph_status take_descriptor(struct ph_survey *s, uint64_t page, struct ph_disk_page d)
{
    uint64_t pages = ph_page_value(d);
    switch (ph_page_state(d)) {
    case PH_PAGE_NONE:
    case PH_PAGE_BAD: /* no table segment describes the page */
        return PH_OK;
    case PH_PAGE_SLAB:
        check_slab_page(s, page, d);
        return PH_OK;
    case PH_PAGE_LARGE:
        return take_extent(s, page, d, large_possible(s, page, d), RANK_PROVED);
    case PH_PAGE_FREE:
        if (!free_possible(s, page, d))
            return take_extent(s, page, d, false, RANK_LONE);
        if (!is_listed(s, page, d))
            return take_extent(s, page, d, true, RANK_LONE);
        good(s, page);
        return take_extent(s, page, d, true, RANK_PROVED);
    case PH_PAGE_LAST:
        if (pages >= 2 && pages <= page && ph_page_state(ph_page_get(&s->heap, page - pages + 1)) == PH_PAGE_FREE)
            return PH_OK; /* what is wrong with it is told of there */
        break;
    case PH_PAGE_WAY:
        if (way_right(s, page, d)) {
            good(s, page);
            return PH_OK;
        }
        break;
    default:
        break;
    }
    bad(s, page);
    report(s, page, "page %" PRIu64 ": the descriptor 0x%" PRIx64 " fits nothing", page, d.word0);
    return PH_OK;
}

static ph_status scan(struct ph_survey *s)
{
    for (uint64_t page = PH_FIRST_PAGE; page < s->pages; page++) {
        ph_status status = page % PROGRESS_PAGES == PH_FIRST_PAGE ? tell_progress(s, "looking", page) : PH_OK;
        if (status != PH_OK)
            return status;
        uint64_t end = ph_table_end(&s->heap, page);
        if (end != 0) {
            memset(s->owners + page, OWNER_TAKEN, end - page);
            page = end - 1;
            continue;
        }
        uint64_t name = ph_load(s->base, page << PH_PAGE_SHIFT);
        unsigned class = (unsigned)(name >> 36 & 0xFF);
        if (class < PH_CLASSES && ph_slab_valid(&s->heap, page, class))
            status = take_slab(s, page, class);
        struct ph_disk_page d = ph_page_get(&s->heap, page);
        if (status == PH_OK)
            status = take_descriptor(s, page, d);
        if (status != PH_OK)
            return status;
    }
    return PH_OK;
}

/* ---------------------------------------------------------------------------------------------------------- deciding */

/* Something begins at `page`, so that what stands before it ends there. */
static bool begins(const struct ph_survey *s, uint64_t page)
{
    if (page == s->tail || (page < s->pages && ph_table_end(&s->heap, page) != 0))
        return true;
    if (page >= s->pages)
        return false;
    struct ph_disk_page d = ph_page_get(&s->heap, page);
    switch (ph_page_state(d)) {
    case PH_PAGE_SLAB:
        return ph_page_value(d) == 0 && ph_page_class(d) < PH_CLASSES && d.word1 == 0;
    case PH_PAGE_LARGE:
        return large_possible(s, page, d);
    case PH_PAGE_FREE:
        return free_possible(s, page, d);
    default:
        return false;
    }
}

/* Where the extent ends, or the first descriptor inside that contradicts it; `right` counts the waypoints that are right.
 * Extents of which one contradicts the other are short, so all of this takes time only for those that are not. */
static uint64_t clear_until(const struct ph_survey *s, const struct ph_claim *claim, unsigned *right)
{
    bool ways = claim->kind == PH_PAGE_LARGE;
    uint64_t end = claim->page + claim->pages, last = ways ? end : end - 1;
    *right = 0;
    for (uint64_t page = claim->page + 1; page < last; page++) {
        uint64_t slot = ph_page_slot(&s->heap, page);
        if (slot == PH_SLOT_NONE) {
            page |= PH_TABLE_UNIT - 1;
            continue;
        }
        struct ph_disk_page d = ph_page_get(&s->heap, page);
        if (same(d, ph_page_make(PH_PAGE_WAY, claim->page)) && is_way(claim->page, page))
            *right += 1;
        else if ((d.word0 | d.word1) != 0 && !(ways && is_way(claim->page, page)))
            return page;
    }
    return end;
}

/* Is a large block, or a free extent, proved as far as it can be without its neighbours' claims? */
static bool extent_proved(const struct ph_survey *s, const struct ph_claim *claim)
{
    unsigned ways;
    const struct ph_unit *unit = &s->units[claim->page / PH_TABLE_UNIT];
    if (clear_until(s, claim, &ways) < claim->page + claim->pages)
        return false;
    return claim->kind == PH_PAGE_FREE ||
           (begins(s, claim->page + claim->pages) &&
            (ways > 0 || (unit->good > 0 && unit->good >= unit->bad) || (s->contradictions == 0 && s->header_sound)));
}

/* A waypoint of a block that is kept all the same. */
static void check_ways(struct ph_survey *s, const struct ph_claim *claim)
{
    uint64_t end = claim->page + claim->pages;
    for (uint64_t w = ph_way_next(claim->page, end, 0); w != 0; w = ph_way_next(claim->page, end, w))
        if (!same(ph_page_get(&s->heap, w), ph_page_make(PH_PAGE_WAY, claim->page)))
            report(s, w, "page %" PRIu64 " should be a waypoint of the block at page %" PRIu64, w, claim->page);
}

/* Decide the claims of one rank, those of higher ones being decided. */
static void settle(struct ph_survey *s, unsigned rank)
{
    uint8_t *owners = s->owners;
    for (uint64_t i = 0; i < s->count; i++) {
        struct ph_claim *c = &s->claims[i];
        if (c->rank != rank || c->state != PH_CLAIM_OPEN)
            continue;
        for (uint64_t page = c->page; page < c->page + c->pages; page++)
            if (owners[page] == OWNER_NONE || owners[page] == OWNER_ONE)
                owners[page]++;
    }
    for (uint64_t i = 0; i < s->count; i++) {
        struct ph_claim *c = &s->claims[i];
        if (c->rank != rank || c->state != PH_CLAIM_OPEN)
            continue;
        bool taken = false, alone = true;
        for (uint64_t page = c->page; page < c->page + c->pages; page++) {
            taken = taken || owners[page] == OWNER_TAKEN;
            alone = alone && owners[page] == OWNER_ONE;
        }
        c->state = alone ? PH_CLAIM_KEPT : taken && rank == RANK_LONE ? PH_CLAIM_VOID : PH_CLAIM_CONTESTED;
    }
    for (uint64_t i = 0; i < s->count; i++) {
        struct ph_claim *c = &s->claims[i];
        if (c->rank != rank || (c->state != PH_CLAIM_KEPT && c->state != PH_CLAIM_CONTESTED))
            continue;
        for (uint64_t page = c->page; page < c->page + c->pages; page++)
            if (owners[page] == OWNER_ONE || owners[page] == OWNER_MANY)
                owners[page] = c->state == PH_CLAIM_KEPT ? OWNER_TAKEN : OWNER_DISPUTED;
        if (c->state == PH_CLAIM_CONTESTED)
            c->state = PH_CLAIM_UNCERTAIN;
    }
}

/* What an uncertain block may have is not for those that have only themselves to speak for them. */
static void dispute(struct ph_survey *s)
{
    for (uint64_t i = 0; i < s->count; i++) {
        const struct ph_claim *c = &s->claims[i];
        unsigned ways;
        if (c->state != PH_CLAIM_UNCERTAIN || c->kind == PH_PAGE_FREE)
            continue;
        uint64_t end = c->kind == PH_PAGE_LARGE ? clear_until(s, c, &ways) : c->page + c->pages;
        for (uint64_t page = c->page; page < end; page++)
            if (s->owners[page] == OWNER_NONE)
                s->owners[page] = OWNER_DISPUTED;
    }
}

static void decide(struct ph_survey *s)
{
    for (uint64_t i = 0; i < s->count; i++) {
        struct ph_claim *c = &s->claims[i];
        if (c->kind != PH_PAGE_SLAB && !extent_proved(s, c))
            c->state = PH_CLAIM_UNCERTAIN;
    }
    settle(s, RANK_PROVED);
    settle(s, RANK_PARTLY);
    dispute(s);
    settle(s, RANK_LONE);
    for (uint64_t i = 0; i < s->count; i++) {
        struct ph_claim *c = &s->claims[i];
        if (c->kind == PH_PAGE_SLAB && c->rank == RANK_LONE && c->state == PH_CLAIM_KEPT && s->tail != 0 &&
            c->page >= s->tail)
            c->state = PH_CLAIM_UNCERTAIN; /* behind the tail nothing lives */
        if (c->kind == PH_PAGE_LARGE && c->state == PH_CLAIM_KEPT)
            check_ways(s, c);
        if (c->kind != PH_PAGE_FREE && c->state == PH_CLAIM_UNCERTAIN)
            report(s, c->page, "%s of %" PRIu64 " pages at page %" PRIu64 " is uncertain, and not kept",
                   c->kind == PH_PAGE_SLAB ? "the slab" : "the block", c->pages, c->page);
    }
}

/* ------------------------------------------------------------------------------------------------------------ whole */

ph_status ph_survey_run(struct ph_survey *s)
{
    uint64_t units = s->pages / PH_TABLE_UNIT + 1;
    s->owners = s->io->alloc(s->io->ctx, s->pages, 64);
    s->units = s->io->alloc(s->io->ctx, units * sizeof *s->units, 64);
    if (s->owners == NULL || s->units == NULL)
        return ph_fail(PH_NO_MEMORY, "out of memory looking for what is left");
    memset(s->owners, OWNER_NONE, s->pages);
    memset(s->units, 0, units * sizeof *s->units);
    s->more_looks = s->pages * MORE_LOOKS;
    ph_status status = check_header(s);
    if (status == PH_OK)
        status = scan(s);
    if (status == PH_OK)
        decide(s);
    return status;
}

void ph_survey_deinit(struct ph_survey *s)
{
    void *owned[] = {s->claims, s->owners, s->units};
    for (size_t i = 0; i < sizeof owned / sizeof owned[0]; i++)
        if (owned[i] != NULL)
            s->io->free(s->io->ctx, owned[i]);
    s->claims = NULL;
    s->owners = NULL;
    s->units = NULL;
}

uint64_t ph_survey_unknown(const struct ph_survey *s, uint64_t page, uint64_t end)
{
    uint64_t from = page;
    while (page < end && s->owners[page] == OWNER_NONE)
        page++;
    return page - from;
}
