/* SPDX-License-Identifier: MIT */
/*
 * Size classes: which slot size a request gets, and how the slabs of each class are laid out.
 *
 * The table is part of the format.  Slot sizes are the multiples of 16 up to 128, then 8 steps a doubling up to
 * 32 KiB, so a request is rounded up by less than 16 bytes or by at most 12.5 %.  The first slot of a slab lies at a
 * multiple of the largest power of two that divides the slot size (at most 1024), so that all slots have that
 * alignment.
 */
#ifndef PHEAP_SIZECLASS_H
#define PHEAP_SIZECLASS_H

#include "io/disk_alloc.h"

#include <stdint.h>

struct ph_class {
    uint32_t size;       /* of a slot, in bytes; a multiple of 16 */
    uint32_t reciprocal; /* ceil(2^31 / (size / 16)) */
    uint16_t pages;      /* of a slab */
    uint16_t first;      /* offset of slot 0 in the slab */
    uint16_t count;      /* slots of a slab, at most 1024 */
};

#define PH_SMALL_MAX 32768u /* larger blocks are whole pages */
#define PH_SLOT_ALIGN_MAX 1024u

extern const struct ph_class ph_classes[PH_CLASSES];

/* The smallest class that holds `length` bytes, 1 to PH_SMALL_MAX. */
static inline unsigned ph_class_of(uint64_t length)
{
    if (length <= 128) {
        return (unsigned)((length + 15) >> 4) - 1;
    }
    /* length - 1 lies in [2^top, 2^(top + 1)), which is cut into 8 steps. */
    unsigned top = 63u - (unsigned)__builtin_clzll(length - 1);
    unsigned step = (unsigned)((length - 1) >> (top - 3)) & 7u;
    return (top - 6) * 8 + step;
}

/* The smallest class that holds `length` bytes at a multiple of `alignment` (<= PH_SLOT_ALIGN_MAX), or PH_CLASSES. */
unsigned ph_class_aligned(uint64_t length, uint64_t alignment);

/* The slot that byte `relative` of the slot area lies in.  relative < PH_SLAB_PAGES * 4096. */
static inline unsigned ph_class_slot(const struct ph_class *class, uint64_t relative)
{
    return (unsigned)(((relative >> 4) * class->reciprocal) >> 31);
}

/* Bitmap words of a slab, and the value of word `i` when all its slots are free. */
static inline unsigned ph_class_words(const struct ph_class *class)
{
    return (class->count + 63u) / 64u;
}

static inline uint64_t ph_class_mask(const struct ph_class *class, unsigned i)
{
    unsigned slots = class->count - 64u * i;
    return slots >= 64 ? UINT64_MAX : (UINT64_C(1) << slots) - 1;
}

/* A slab that was full is offered for allocation again once it has this many free slots. */
static inline unsigned ph_class_relist(const struct ph_class *class)
{
    return class->count < 48 ? 1 : class->count / 24u;
}

/* Bytes of the slab header that the class uses. */
static inline uint64_t ph_class_header(const struct ph_class *class)
{
    return offsetof(struct ph_disk_slab, bitmap) + 8u * ph_class_words(class);
}

#endif
