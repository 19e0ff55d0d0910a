/* SPDX-License-Identifier: MIT */
/* Space statistics. */
#include "pheap/space.h"

#include "pheap/pagemap.h"
#include "pheap/slab.h"

#include <inttypes.h>

#define PROGRESS_STEPS 1024u

static void add_free(struct pheap_space *s, uint64_t pages)
{
    uint64_t bytes = pages << PH_PAGE_SHIFT;
    if (pages > 0) {
        s->extent_free_bytes += bytes;
        s->free_extents++;
        s->largest_free_bytes = bytes > s->largest_free_bytes ? bytes : s->largest_free_bytes;
    }
}

static void add_slab(const struct ph_heap *heap, struct pheap_space *s, uint64_t page, unsigned class)
{
    const struct ph_class *c = &ph_classes[class];
    uint64_t free_slots = 0;
    for (unsigned i = 0; i < ph_class_words(c); i++) {
        free_slots += (uint64_t)__builtin_popcountll(ph_slab_word(heap->base, page, i) & ph_class_mask(c, i));
    }
    uint64_t live = (c->count - free_slots) * c->size;
    s->live_blocks += c->count - free_slots;
    s->live_bytes += live;
    s->metadata_bytes += ph_class_header(c);
    s->slab_free_bytes += ((uint64_t)c->pages << PH_PAGE_SHIFT) - ph_class_header(c) - live;
}

/* Count what begins at `page`: its length in pages, 0 if it makes no sense. */
static uint64_t add_extent(const struct ph_heap *heap, struct pheap_space *s, uint64_t page)
{
    struct ph_disk_page d = ph_page_get(heap, page);
    uint64_t pages = ph_page_value(d);
    unsigned class = ph_page_class(d);
    switch (ph_page_state(d)) {
    case PH_PAGE_SLAB:
        if (pages != 0 || class >= PH_CLASSES || !ph_slab_valid(heap, page, class)) {
            return 0;
        }
        add_slab(heap, s, page, class);
        return ph_classes[class].pages;
    case PH_PAGE_FREE:
        if (pages > heap->tail - page) {
            return 0;
        }
        add_free(s, pages);
        return pages;
    case PH_PAGE_LARGE:
        if (pages > heap->tail - page) {
            return 0;
        }
        s->live_blocks++;
        s->live_bytes += pages << PH_PAGE_SHIFT;
        return pages;
    case PH_PAGE_NONE: {
        uint64_t end = ph_table_end(heap, page);
        if (end != 0) {
            s->metadata_bytes += (end - page) << PH_PAGE_SHIFT;
            return end - page;
        }
        return 0;
    }
    default:
        return 0;
    }
}

ph_status ph_space_walk(struct ph_space space, struct pheap_space *out, pheap_progress progress, void *context)
{
    struct ph_heap heap;
    ph_status status = ph_heap_load(space, &heap);
    if (status != PH_OK) {
        return status;
    }
    struct pheap_space s = {.size = out->size, .heap_bytes = space.size};
    s.metadata_bytes = (uint64_t)PH_FIRST_PAGE << PH_PAGE_SHIFT;
    uint32_t steps = 0;
    for (uint64_t page = PH_FIRST_PAGE; page < heap.tail;) {
        if (progress != NULL && steps++ % PROGRESS_STEPS == 0 && progress(context, "extents", page, heap.tail) != 0) {
            return ph_fail(PH_BUSY, "the walk was stopped");
        }
        uint64_t pages = add_extent(&heap, &s, page);
        if (pages == 0) {
            return ph_fail(PH_CORRUPT, "page %" PRIu64 " belongs to nothing: run the heap check", page);
        }
        page += pages;
    }
    add_free(&s, (space.size >> PH_PAGE_SHIFT) - heap.tail);
    *out = s;
    return PH_OK;
}
