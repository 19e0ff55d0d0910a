/* SPDX-License-Identifier: MIT */
/*
 * The allocator: blocks out of slabs and page extents, freeing, resizing, finding.
 *
 * Freeing and abort.  A slot that an abort or rollback makes live again is saved as lines when it is used again in the
 * same transaction, which is avoided while the slab at hand has others.  A large block that was live before is only
 * marked DOOMED, and is given back when the transaction commits, so that its content need not be saved; likewise what
 * is cut off it when it shrinks.
 *
 * Zeros.  Pages at or after the header's zero_page were never allocated and are zero in every view, so that nothing need
 * be stored, nor logged, when a zeroed block is made of them.  Whoever undoes edits sees to that: what was stored there
 * is in one process's write view alone, and no record would tell it that another has given zeros out.
 */
#include "pheap/alloc.h"

#include "pheap/extent.h"
#include "pheap/pagemap.h"
#include "pheap/sizeclass.h"
#include "pheap/slab.h"

#include <inttypes.h>

#define INITIAL_BYTES 65536u
#define LENGTH_MAX (UINT64_C(1) << 46)
#define ALIGNMENT_MAX (UINT64_C(1) << 30)

uint64_t ph_alloc_initial_bytes(void)
{
    return INITIAL_BYTES;
}

void ph_alloc_format(uint8_t *image)
{
    struct ph_disk_heap header = {.magic = PH_DISK_HEAP_MAGIC,
                                  .end_page = INITIAL_BYTES / PH_PAGE_BYTES,
                                  .tail_page = PH_FIRST_PAGE,
                                  .zero_page = PH_FIRST_PAGE,
                                  .table_count = 1,
                                  .table = {PH_TABLE_PAGE}};
    memcpy(image + PH_HEAP_START, &header, sizeof header);
}

/* ----------------------------------------------------------------------------------------------- what lies where */

enum place_kind { PLACE_OUTSIDE, PLACE_METADATA, PLACE_FREE, PLACE_DOOMED, PLACE_SLOT, PLACE_LARGE };

struct place {
    enum place_kind kind;
    bool live;       /* SLOT, LARGE: allocated */
    uint64_t start;  /* SLOT, LARGE, DOOMED: of the block */
    uint64_t length; /* its usable bytes */
    uint64_t pages;  /* LARGE, DOOMED: pages it takes; at least length, more when it is to be cut at commit */
    struct ph_slot slot;
};

static ph_status place_in_slab(const struct ph_heap *heap, struct ph_disk_page d, uint64_t offset, struct place *place)
{
    ph_status status = ph_slab_locate(heap, d, offset, &place->slot);
    if (status == PH_OK) {
        place->kind = place->slot.in_slot ? PLACE_SLOT : PLACE_METADATA;
        place->live = place->slot.in_slot && place->slot.live;
        place->start = place->slot.start;
        place->length = ph_classes[place->slot.class].size;
    }
    return status;
}

static ph_status place_in_pages(const struct ph_heap *heap, uint64_t page, struct place *place)
{
    uint64_t start;
    struct ph_disk_page d;
    ph_status status = ph_page_find_large(heap, page, &start, &d);
    if (status != PH_OK) {
        return status;
    }
    if (start == 0) {
        place->kind = ph_table_end(heap, page) != 0 ? PLACE_METADATA : PLACE_FREE;
        return PH_OK;
    }
    uint64_t pages = ph_page_value(d);
    uint64_t cut = d.word1 != 0 ? d.word1 : pages;
    if (pages == 0 || cut > pages) {
        return ph_fail(PH_CORRUPT, "page table: impossible length of the block at page %" PRIu64, start);
    }
    place->live = ph_page_state(d) == PH_PAGE_LARGE;
    place->kind = place->live ? PLACE_LARGE : PLACE_DOOMED;
    place->start = start << PH_PAGE_SHIFT;
    place->length = cut << PH_PAGE_SHIFT;
    place->pages = pages;
    if (page - start >= cut) {
        place->kind = PLACE_DOOMED;
        place->live = false;
    }
    return PH_OK;
}

static ph_status place_of(const struct ph_heap *heap, uint64_t offset, struct place *place)
{
    uint64_t page = offset >> PH_PAGE_SHIFT;
    place->live = false;
    if (page >= heap->end) {
        place->kind = PLACE_OUTSIDE;
        return PH_OK;
    }
    if (page < PH_FIRST_PAGE) {
        place->kind = PLACE_METADATA;
        return PH_OK;
    }
    if (page >= heap->tail) {
        place->kind = PLACE_FREE;
        return PH_OK;
    }
    struct ph_disk_page d = ph_page_get(heap, page);
    switch (ph_page_state(d)) {
    case PH_PAGE_SLAB:
        return place_in_slab(heap, d, offset, place);
    case PH_PAGE_FREE:
    case PH_PAGE_LAST:
        place->kind = PLACE_FREE;
        return PH_OK;
    case PH_PAGE_NONE:
    case PH_PAGE_LARGE:
    case PH_PAGE_DOOMED:
    case PH_PAGE_WAY:
        return place_in_pages(heap, page, place);
    default:
        return ph_fail(PH_CORRUPT, "page table: page %" PRIu64 " has the impossible descriptor 0x%" PRIx64, page,
                       d.word0);
    }
}

/* Why `offset` is not the start of a live block.  Freeing free space is a double free, everything else a bad offset. */
static ph_status refuse(const struct ph_heap *heap, uint64_t offset, const struct place *place)
{
    const char *what = "in metadata";
    switch (place->kind) {
    case PLACE_OUTSIDE:
        return ph_fail(PH_BAD_OFFSET, "offset 0x%" PRIx64 " is beyond the end of the heap, 0x%" PRIx64, offset,
                       heap->end << PH_PAGE_SHIFT);
    case PLACE_METADATA:
        break;
    case PLACE_SLOT:
    case PLACE_LARGE:
    case PLACE_DOOMED:
        if (place->live) {
            return ph_fail(PH_BAD_OFFSET, "offset 0x%" PRIx64 " is inside the %" PRIu64 "-byte block at 0x%" PRIx64,
                           offset, place->length, place->start);
        }
        if (place->start == offset) {
            return ph_fail(PH_DOUBLE_FREE, "the %" PRIu64 "-byte block at 0x%" PRIx64 " is already free", place->length,
                           offset);
        }
        what = "inside a block that is free";
        break;
    case PLACE_FREE:
        what = "in free space";
        if (offset % 16 == 0 && offset >> PH_PAGE_SHIFT < ph_load(heap->base, PH_HEADER_AT(zero_page))) {
            return ph_fail(PH_DOUBLE_FREE, "offset 0x%" PRIx64 " is in free space: a block there is already free",
                           offset);
        }
        break;
    }
    return ph_fail(PH_BAD_OFFSET, "offset 0x%" PRIx64 " is %s", offset, what);
}

/* The live block that starts at `offset`. */
static ph_status block_at(const struct ph_heap *heap, uint64_t offset, struct place *place)
{
    ph_status status = place_of(heap, offset, place);
    if (status == PH_OK && (!place->live || place->start != offset)) {
        status = refuse(heap, offset, place);
    }
    return status;
}

ph_status ph_alloc_find(struct ph_space space, uint64_t offset, uint64_t *start, uint64_t *length)
{
    struct ph_heap heap;
    struct place place;
    ph_status status = ph_heap_load(space, &heap);
    if (status == PH_OK) {
        status = place_of(&heap, offset, &place);
    }
    if (status == PH_OK && !place.live) {
        (void)refuse(&heap, offset, &place);
        return PH_BAD_OFFSET;
    }
    if (status == PH_OK) {
        *start = place.start;
        *length = place.length;
    }
    return status;
}

ph_status ph_alloc_usable(struct ph_space space, uint64_t offset, uint64_t *length)
{
    struct ph_heap heap;
    struct place place;
    ph_status status = ph_heap_load(space, &heap);
    if (status == PH_OK) {
        status = block_at(&heap, offset, &place);
    }
    if (status == PH_OK) {
        *length = place.length;
    }
    return status == PH_DOUBLE_FREE ? PH_BAD_OFFSET : status;
}

enum ph_alloc_kind ph_alloc_kind(struct ph_space space, uint64_t offset)
{
    struct ph_heap heap;
    struct place place;
    if (ph_heap_load(space, &heap) != PH_OK || place_of(&heap, offset, &place) != PH_OK ||
        place.kind == PLACE_OUTSIDE) {
        return PH_KIND_INVALID;
    }
    if (place.kind == PLACE_METADATA) {
        /* In a slab only the header is metadata; what lies between it and the first slot, or behind the last, is not. */
        struct ph_disk_page d = ph_page_get(&heap, offset >> PH_PAGE_SHIFT);
        bool slab = offset >> PH_PAGE_SHIFT >= PH_FIRST_PAGE && ph_page_state(d) == PH_PAGE_SLAB;
        uint64_t at = offset - (place.slot.page << PH_PAGE_SHIFT);
        return slab && at >= ph_class_header(&ph_classes[place.slot.class]) ? PH_KIND_FREE : PH_KIND_METADATA;
    }
    return place.live ? PH_KIND_LIVE : PH_KIND_FREE;
}

/* ------------------------------------------------------------------------------------------------------ enumeration */

/* The first live slot of the slab at `page` that starts at or after `from`: *start, or 0. */
static ph_status next_slot(const struct ph_heap *heap, uint64_t page, struct ph_disk_page d, uint64_t from,
                           uint64_t *start, uint64_t *length, uint64_t *after)
{
    const struct ph_class *c;
    struct ph_slot slot;
    ph_status status = ph_slab_locate(heap, d, page << PH_PAGE_SHIFT, &slot);
    if (status != PH_OK) {
        return status;
    }
    c = &ph_classes[slot.class];
    uint64_t first = (slot.page << PH_PAGE_SHIFT) + c->first;
    unsigned i = from <= first ? 0 : ph_class_slot(c, from - first + c->size - 16);
    if (from > first && (from & 15) != 0) {
        i = ph_class_slot(c, from - first) + 1;
    }
    *start = 0;
    *after = slot.page + c->pages;
    while (i < c->count) {
        uint64_t live = ~ph_slab_word(heap->base, slot.page, i / 64) >> (i % 64);
        if (live == 0) {
            i = (i / 64 + 1) * 64;
            continue;
        }
        i += (unsigned)__builtin_ctzll(live);
        if (i < c->count) {
            *start = first + (uint64_t)i * c->size;
            *length = c->size;
            break;
        }
    }
    return PH_OK;
}

/* The first page after `page` that may have a descriptor: skips parts of the table that were never used. */
static uint64_t skip_plain(const struct ph_heap *heap, uint64_t page)
{
    for (page++; page < heap->tail; page++) {
        uint64_t slot = ph_page_slot(heap, page);
        if (slot == PH_SLOT_NONE) {
            page |= PH_TABLE_UNIT - 1;
        } else if (slot == PH_SLOT_BAD || ph_load(heap->base, slot) != 0) {
            break;
        }
    }
    return page;
}

/* `page` has descriptor `d`, not that of a slab: the first live block at or after `from`, else the next page. */
static ph_status next_in_pages(const struct ph_heap *heap, uint64_t page, struct ph_disk_page d, uint64_t from,
                               uint64_t *start, uint64_t *length, uint64_t *after)
{
    struct place place = {.kind = PLACE_FREE};
    unsigned state = ph_page_state(d);
    uint64_t value = ph_page_value(d);
    *start = 0;
    *after = page + 1;
    if (state == PH_PAGE_FREE && value > 0 && value <= heap->tail - page) {
        *after = page + value;
    } else if (state == PH_PAGE_LARGE || state == PH_PAGE_DOOMED || state == PH_PAGE_WAY || state == PH_PAGE_NONE) {
        ph_status status = place_in_pages(heap, page, &place);
        if (status != PH_OK) {
            return status;
        }
        if (place.kind == PLACE_LARGE && place.start >= from) {
            *start = place.start;
            *length = place.length;
        }
        if (place.kind == PLACE_LARGE || place.kind == PLACE_DOOMED) {
            *after = (place.start >> PH_PAGE_SHIFT) + place.pages;
        } else if (place.kind == PLACE_METADATA) {
            *after = ph_table_end(heap, page);
        } else {
            *after = skip_plain(heap, page);
        }
    } else if (state != PH_PAGE_LAST) {
        return ph_fail(PH_CORRUPT, "page table: page %" PRIu64 " has the impossible descriptor 0x%" PRIx64, page,
                       d.word0);
    }
    return PH_OK;
}

ph_status ph_alloc_next(struct ph_space space, uint64_t from, uint64_t *start, uint64_t *length)
{
    struct ph_heap heap;
    ph_status status = ph_heap_load(space, &heap);
    if (status != PH_OK) {
        return status;
    }
    uint64_t page = from >> PH_PAGE_SHIFT;
    page = page < PH_FIRST_PAGE ? PH_FIRST_PAGE : page;
    while (page < heap.tail) {
        struct ph_disk_page d = ph_page_get(&heap, page);
        uint64_t found = 0;
        uint64_t bytes = 0;
        uint64_t after = 0;
        if (ph_page_state(d) == PH_PAGE_SLAB) {
            status = next_slot(&heap, page, d, from, &found, &bytes, &after);
        } else {
            status = next_in_pages(&heap, page, d, from, &found, &bytes, &after);
        }
        if (status != PH_OK) {
            return status;
        }
        if (found != 0) {
            *start = found;
            *length = bytes;
            return PH_OK;
        }
        page = after;
    }
    return PH_END;
}

/* ----------------------------------------------------------------------------------------------------- large blocks */

static ph_status prepare_ways(struct ph_edits *edits, const struct ph_heap *heap, uint64_t start, uint64_t end)
{
    ph_status status = PH_OK;
    for (uint64_t w = ph_way_next(start, end, 0); w != 0 && status == PH_OK; w = ph_way_next(start, end, w)) {
        status = ph_page_prepare(edits, heap, w);
    }
    return status;
}

/* Set or clear the waypoints of the block at `start` that lie in [from, end). */
static void put_ways(struct ph_edits *edits, const struct ph_heap *heap, uint64_t start, uint64_t from, uint64_t end,
                     bool set)
{
    struct ph_disk_page d = {0, 0};
    if (set) {
        d = ph_page_make(PH_PAGE_WAY, start);
    }
    for (uint64_t w = ph_way_next(start, end, 0); w != 0; w = ph_way_next(start, end, w)) {
        if (w >= from) {
            ph_page_put(edits, heap, w, d);
        }
    }
}

static ph_status large_alloc(struct ph_edits *edits, struct ph_heap *heap, uint64_t align, uint64_t pages, bool zero,
                             uint64_t *offset)
{
    struct ph_cut cut;
    ph_status status = ph_extent_find(edits, heap, pages, align, &cut);
    if (status != PH_OK) {
        return status;
    }
    uint64_t end = cut.page + pages;
    uint64_t start = cut.page << PH_PAGE_SHIFT;
    status = prepare_ways(edits, heap, cut.page, end);
    if (status == PH_OK) {
        status = ph_edits_reserve(edits, PH_EXTENT_LINES);
    }
    if (status == PH_OK) {
        status = ph_edits_add_fresh(edits, start, pages << PH_PAGE_SHIFT);
    }
    if (status != PH_OK) {
        return status;
    }
    if (zero) {
        uint64_t clean = ph_edits_get(edits, PH_HEADER_AT(zero_page));
        clean = clean < cut.page ? cut.page : clean > end ? end : clean;
        status = ph_edits_zero(edits, start, (clean - cut.page) << PH_PAGE_SHIFT);
        if (status != PH_OK) {
            ph_edits_change_fresh(edits, start, 0);
            return status;
        }
    }
    ph_extent_take(edits, heap, &cut);
    ph_page_put(edits, heap, cut.page, ph_page_make(PH_PAGE_LARGE, pages));
    put_ways(edits, heap, cut.page, cut.page, end, true);
    *offset = start;
    return PH_OK;
}

/* Give back pages [from, end) of the block at page `start`: all of it, or the rest after a cut. */
static ph_status large_release(struct ph_edits *edits, struct ph_heap *heap, uint64_t start, uint64_t from,
                               uint64_t end)
{
    struct ph_merge merge;
    const struct ph_disk_page none = {0, 0};
    ph_status status = ph_extent_plan_free(edits, heap, from, end - from, &merge);
    if (status == PH_OK) {
        status = ph_edits_reserve(edits, PH_EXTENT_LINES);
    }
    if (status != PH_OK) {
        return status;
    }
    put_ways(edits, heap, start, from, end, false);
    ph_page_put(edits, heap, start, from == start ? none : ph_page_make(PH_PAGE_LARGE, from - start));
    ph_extent_free(edits, heap, &merge);
    return PH_OK;
}

static ph_status large_free(struct ph_edits *edits, struct ph_heap *heap, const struct place *place)
{
    uint64_t start = place->start >> PH_PAGE_SHIFT;
    ph_status status;
    if (ph_edits_is_fresh(edits, place->start, NULL) == 1) {
        status = large_release(edits, heap, start, start, start + place->pages);
        if (status == PH_OK) {
            ph_edits_change_fresh(edits, place->start, 0);
        }
        return status;
    }
    status = ph_edits_reserve(edits, PH_SLOT_LINES);
    if (status == PH_OK) {
        status = ph_edits_defer(edits, place->start);
    }
    if (status == PH_OK) {
        ph_page_put(edits, heap, start, ph_page_make(PH_PAGE_DOOMED, place->pages));
    }
    return status;
}

/* Cut the block to `pages`, fewer than it has: at once if it is fresh, else at commit. */
static ph_status large_shrink(struct ph_edits *edits, struct ph_heap *heap, const struct place *place, uint64_t pages)
{
    uint64_t start = place->start >> PH_PAGE_SHIFT;
    ph_status status;
    if (ph_edits_is_fresh(edits, place->start, NULL) == 1) {
        status = large_release(edits, heap, start, start + pages, start + place->pages);
        if (status == PH_OK) {
            ph_edits_change_fresh(edits, place->start, pages << PH_PAGE_SHIFT);
        }
        return status;
    }
    status = ph_edits_reserve(edits, 1);
    if (status == PH_OK) {
        status = ph_edits_defer(edits, place->start);
    }
    if (status == PH_OK) {
        struct ph_disk_page d = ph_page_make(PH_PAGE_LARGE, place->pages);
        d.word1 = pages;
        ph_page_put(edits, heap, start, d);
    }
    return status;
}

/*
 * Lengthen the block to `pages` in place, if the pages behind it are free: *done.  The new part of an old block is a
 * fresh range of its own, named by its offset, where no block starts.
 */
static ph_status large_grow(struct ph_edits *edits, struct ph_heap *heap, const struct place *place, uint64_t pages,
                            bool *done)
{
    struct ph_cut cut;
    uint64_t start = place->start >> PH_PAGE_SHIFT;
    uint64_t end = start + place->pages;
    *done = false;
    if (pages <= place->pages) { /* it was to be cut; the cut is called off, or is smaller now */
        struct ph_disk_page d = ph_page_make(PH_PAGE_LARGE, place->pages);
        d.word1 = pages < place->pages ? pages : 0;
        ph_status status = ph_edits_reserve(edits, 1);
        if (status == PH_OK) {
            ph_page_put(edits, heap, start, d);
            *done = true;
        }
        return status;
    }
    uint64_t more = pages - place->pages;
    ph_status status = ph_extent_behind(edits, heap, end, more, &cut);
    if (status != PH_OK || cut.pages == 0) {
        return status;
    }
    status = prepare_ways(edits, heap, start, end + more);
    if (status == PH_OK) {
        status = ph_edits_reserve(edits, PH_EXTENT_LINES);
    }
    bool fresh = ph_edits_is_fresh(edits, place->start, NULL) == 1;
    if (status == PH_OK && !fresh) {
        status = ph_edits_add_fresh(edits, end << PH_PAGE_SHIFT, more << PH_PAGE_SHIFT);
    }
    if (status != PH_OK) {
        return status;
    }
    if (fresh) {
        ph_edits_change_fresh(edits, place->start, pages << PH_PAGE_SHIFT);
    }
    ph_extent_take(edits, heap, &cut);
    ph_page_put(edits, heap, end, (struct ph_disk_page){0, 0});
    ph_page_put(edits, heap, start, ph_page_make(PH_PAGE_LARGE, pages));
    put_ways(edits, heap, start, end, end + more, true);
    *done = true;
    return PH_OK;
}

/* ------------------------------------------------------------------------------------------------ public operations */

static ph_status check_request(uint64_t alignment, uint64_t length)
{
    if (length == 0 || length > LENGTH_MAX) {
        return ph_fail(PH_INVALID, "a block of %" PRIu64 " bytes: the length must be 1 to 2^46", length);
    }
    if (alignment < 16 || alignment > ALIGNMENT_MAX || (alignment & (alignment - 1)) != 0) {
        return ph_fail(PH_INVALID, "alignment %" PRIu64 ": it must be a power of two from 16 to 2^30", alignment);
    }
    return PH_OK;
}

static uint64_t pages_for(uint64_t length)
{
    return (length + PH_PAGE_BYTES - 1) >> PH_PAGE_SHIFT;
}

ph_status ph_alloc(struct ph_edits *edits, uint64_t alignment, uint64_t length, bool zero, uint64_t *offset)
{
    struct ph_heap heap;
    uint64_t start;
    ph_status status = check_request(alignment, length);
    if (status == PH_OK) {
        status = ph_heap_of(edits, &heap);
    }
    if (status != PH_OK) {
        return status;
    }
    unsigned class = PH_CLASSES;
    if (length <= PH_SMALL_MAX && alignment <= PH_SLOT_ALIGN_MAX) {
        class = alignment == 16 ? ph_class_of(length) : ph_class_aligned(length, alignment);
    }
    if (class == PH_CLASSES) {
        uint64_t align = alignment <= PH_PAGE_BYTES ? 1 : alignment >> PH_PAGE_SHIFT;
        status = large_alloc(edits, &heap, align, pages_for(length), zero, &start);
    } else {
        status = ph_slab_alloc(edits, &heap, class, &start);
        if (status == PH_OK && zero) {
            memset(edits->base + start, 0, ph_classes[class].size);
        }
    }
    if (status == PH_OK) {
        *offset = start;
    }
    return status;
}

/* The block at `from` was freed, or moved to `to`: the root stays valid.  A line is left of what freeing reserved. */
static void replace_root(struct ph_edits *edits, uint64_t from, uint64_t to)
{
    if (ph_edits_get(edits, PH_HEADER_AT(root)) == from) {
        ph_put(edits, PH_HEADER_AT(root), to);
    }
}

ph_status ph_free(struct ph_edits *edits, uint64_t offset)
{
    struct ph_heap heap;
    struct place place;
    if (offset == 0) {
        return PH_OK;
    }
    ph_status status = ph_heap_of(edits, &heap);
    if (status == PH_OK) {
        status = block_at(&heap, offset, &place);
    }
    if (status == PH_OK) {
        status = place.kind == PLACE_SLOT ? ph_slab_free(edits, &heap, &place.slot) : large_free(edits, &heap, &place);
    }
    if (status == PH_OK) {
        replace_root(edits, offset, 0);
    }
    return status;
}

/* Allocate, copy, free. */
static ph_status move(struct ph_edits *edits, struct ph_heap *heap, const struct place *place, uint64_t *offset,
                      uint64_t length)
{
    /* What the end of the move needs is got first, so that it hardly can fail. */
    ph_status status = ph_edits_reserve_deferred(edits);
    if (status == PH_OK) {
        status = ph_edits_reserve(edits, 4 * PH_EXTENT_LINES);
    }
    uint64_t start = 0;
    if (status == PH_OK) {
        status = ph_alloc(edits, 16, length, false, &start);
    }
    if (status != PH_OK) {
        return status;
    }
    /* In a damaged heap the two may overlap. */
    memmove(edits->base + start, edits->base + place->start, place->length < length ? place->length : length);
    status = ph_heap_of(edits, heap);
    if (status == PH_OK) {
        status = place->kind == PLACE_SLOT ? ph_slab_free(edits, heap, &place->slot) : large_free(edits, heap, place);
    }
    if (status != PH_OK) {
        ph_status undone = ph_free(edits, start);
        return undone == PH_OK ? status : undone;
    }
    replace_root(edits, place->start, start);
    *offset = start;
    return PH_OK;
}

ph_status ph_realloc(struct ph_edits *edits, uint64_t *offset, uint64_t length)
{
    struct ph_heap heap;
    struct place place;
    if (*offset == 0) {
        return ph_alloc(edits, 16, length, false, offset);
    }
    ph_status status = check_request(16, length);
    if (status == PH_OK) {
        status = ph_heap_of(edits, &heap);
    }
    if (status == PH_OK) {
        status = block_at(&heap, *offset, &place);
    }
    if (status != PH_OK) {
        return status;
    }
    if (place.kind == PLACE_SLOT) {
        if (length <= PH_SMALL_MAX && ph_class_of(length) == place.slot.class) {
            return PH_OK;
        }
    } else if (length > PH_SMALL_MAX) {
        uint64_t pages = pages_for(length);
        uint64_t have = place.length >> PH_PAGE_SHIFT;
        if (pages == have) {
            return PH_OK;
        }
        if (pages < have) {
            return large_shrink(edits, &heap, &place, pages);
        }
        bool done;
        status = large_grow(edits, &heap, &place, pages, &done);
        if (status != PH_OK || done) {
            return status;
        }
    }
    return move(edits, &heap, &place, offset, length);
}

ph_status ph_alloc_apply_deferred(struct ph_edits *edits)
{
    struct ph_heap heap;
    ph_status status = ph_heap_of(edits, &heap);
    for (uint32_t i = 0; status == PH_OK && i < edits->deferred_count; i++) {
        uint64_t start = edits->deferred[i] >> PH_PAGE_SHIFT;
        if (start < PH_FIRST_PAGE || start >= heap.tail) {
            continue; /* given back already: a block or slab may be in the list twice */
        }
        struct ph_disk_page d = ph_page_get(&heap, start);
        uint64_t pages = ph_page_value(d);
        if (ph_page_state(d) == PH_PAGE_SLAB) {
            status = ph_slab_release(edits, &heap, start, d);
        } else if (pages == 0 || pages > heap.tail - start) {
            continue;
        } else if (ph_page_state(d) == PH_PAGE_DOOMED) {
            status = large_release(edits, &heap, start, start, start + pages);
        } else if (ph_page_state(d) == PH_PAGE_LARGE && d.word1 != 0 && d.word1 < pages) {
            status = large_release(edits, &heap, start, start + d.word1, start + pages);
        }
    }
    if (status == PH_OK) {
        status = ph_slab_release_spare(edits, &heap);
    }
    if (status == PH_OK) {
        status = ph_extent_trim_tables(edits, &heap);
    }
    return status;
}

/* The end of the pages that were ever allocated, as the header has it, but within the heap. */
static uint64_t used_end(const struct ph_edits *edits)
{
    uint64_t zero = ph_edits_get(edits, PH_HEADER_AT(zero_page)), tail = ph_edits_get(edits, PH_HEADER_AT(tail_page));
    uint64_t end = edits->heap_size >> PH_PAGE_SHIFT;
    zero = zero < tail ? tail : zero;
    return zero < end ? zero : end;
}

/* Edits were undone that had allocated pages up to `before`: see Zeros in the head. */
static void clear_undone(struct ph_edits *edits, uint64_t before)
{
    uint64_t now = used_end(edits);
    if (before > now) {
        ph_edits_clear(edits, now << PH_PAGE_SHIFT, (before - now) << PH_PAGE_SHIFT);
    }
}

void ph_alloc_undo(struct ph_edits *edits)
{
    uint64_t before = used_end(edits);
    ph_edits_undo(edits);
    clear_undone(edits, before);
}

bool ph_alloc_rollback(struct ph_edits *edits, uint32_t savepoint)
{
    uint64_t before = used_end(edits);
    bool known = ph_edits_rollback(edits, savepoint);
    clear_undone(edits, before);
    return known;
}

uint64_t ph_alloc_root(struct ph_space space)
{
    return space.size < (uint64_t)PH_FIRST_PAGE * PH_PAGE_BYTES ? 0 : ph_load(space.base, PH_HEADER_AT(root));
}

ph_status ph_alloc_set_root(struct ph_edits *edits, uint64_t offset)
{
    struct ph_heap heap;
    struct place place;
    ph_status status = ph_heap_of(edits, &heap);
    if (status == PH_OK && offset != 0) {
        status = block_at(&heap, offset, &place);
        status = status == PH_DOUBLE_FREE ? PH_BAD_OFFSET : status;
    }
    if (status == PH_OK) {
        status = ph_edits_reserve(edits, 1);
    }
    if (status == PH_OK) {
        ph_put(edits, PH_HEADER_AT(root), offset);
    }
    return status;
}
