/* SPDX-License-Identifier: MIT */
/*
 * Page images: what pages of the write view held when a savepoint was taken, kept while a transaction tracks stores.
 *
 * An image belongs to a savepoint level.  Levels never fall from one image to the next, so that a rollback cuts the
 * images of higher levels off the end.  Memory comes from the io seam; zeroed state is empty.
 */
#ifndef PHEAP_IMAGES_H
#define PHEAP_IMAGES_H

#include "io/disk.h"
#include "io/io.h"

struct ph_image {
    uint64_t offset; /* of the page */
    uint32_t level;
    uint8_t bytes[PH_PAGE_BYTES];
};

struct ph_images {
    struct ph_image *list;
    uint32_t count, capacity;
    uint32_t *index; /* open addressing: page -> number + 1 of its newest image; 0: empty */
    uint32_t index_mask;
};

/* The newest image of the page, or NULL.  Valid until the next put. */
const uint8_t *ph_images_find(const struct ph_images *images, uint64_t page_offset);

/* Copy the page's bytes for a level, in place of its image of this level if there is one.  False without memory. */
bool ph_images_put(struct ph_images *images, const ph_io *io, uint64_t page_offset, uint32_t level,
                   const uint8_t *bytes);

/* Forget the images of levels above `level`. */
void ph_images_cut(struct ph_images *images, uint32_t level);

/* Forget all and give the memory back. */
void ph_images_deinit(struct ph_images *images, const ph_io *io);

#endif
