/* SPDX-License-Identifier: MIT */
/* Page images of savepoint levels. */
#include "pheap/images.h"

#include <assert.h>
#include <string.h>

#define FIRST_CAPACITY 16u /* the index has twice as many places */
#define COUNT_MAX (UINT32_C(1) << 30)

/* The index place of a page: the one that names it, or the empty one where it belongs. */
static uint32_t place_of(const struct ph_images *images, uint64_t page_offset)
{
    uint32_t at = (uint32_t)((page_offset * UINT64_C(0x9e3779b97f4a7c15)) >> 32) & images->index_mask;
    while (images->index[at] != 0 && images->list[images->index[at] - 1].offset != page_offset)
        at = (at + 1) & images->index_mask;
    return at;
}

/* Enter everything, oldest first, so that the index names the newest image of each page. */
static void reindex(struct ph_images *images)
{
    memset(images->index, 0, (images->index_mask + UINT64_C(1)) * sizeof *images->index);
    for (uint32_t i = 0; i < images->count; i++)
        images->index[place_of(images, images->list[i].offset)] = i + 1;
}

static bool make_room(struct ph_images *images, const ph_io *io)
{
    if (images->count < images->capacity)
        return true;
    uint32_t capacity = images->capacity == 0 ? FIRST_CAPACITY : images->capacity * 2;
    if (capacity > COUNT_MAX)
        return false;
    struct ph_image *list = io->resize(io->ctx, images->list, (size_t)capacity * sizeof *list);
    if (list == NULL)
        return false;
    images->list = list;
    uint32_t *index = io->resize(io->ctx, images->index, (size_t)capacity * 2 * sizeof *index);
    if (index == NULL)
        return false;
    images->index = index;
    images->index_mask = capacity * 2 - 1;
    images->capacity = capacity;
    reindex(images);
    return true;
}

const uint8_t *ph_images_find(const struct ph_images *images, uint64_t page_offset)
{
    if (images->count == 0)
        return NULL;
    uint32_t number = images->index[place_of(images, page_offset)];
    return number == 0 ? NULL : images->list[number - 1].bytes;
}

bool ph_images_put(struct ph_images *images, const ph_io *io, uint64_t page_offset, uint32_t level,
                   const uint8_t *bytes)
{
    assert(images->count == 0 || images->list[images->count - 1].level <= level);
    if (!make_room(images, io))
        return false;
    uint32_t place = place_of(images, page_offset), newest = images->index[place];
    if (newest == 0 || images->list[newest - 1].level != level) {
        images->list[images->count] = (struct ph_image){.offset = page_offset, .level = level};
        newest = images->index[place] = ++images->count;
    }
    memcpy(images->list[newest - 1].bytes, bytes, PH_PAGE_BYTES);
    return true;
}

void ph_images_cut(struct ph_images *images, uint32_t level)
{
    uint32_t before = images->count;
    while (images->count > 0 && images->list[images->count - 1].level > level)
        images->count--;
    if (images->count < before)
        reindex(images);
}

void ph_images_deinit(struct ph_images *images, const ph_io *io)
{
    if (images->list != NULL)
        io->free(io->ctx, images->list);
    if (images->index != NULL)
        io->free(io->ctx, images->index);
    *images = (struct ph_images){0};
}
