/* SPDX-License-Identifier: MIT */
/*
 * Segmented arrays: elements of one width in chunks of 4 KiB under a tree of directories, so that growing copies nothing.
 * The first chunk is small as long as the array is: 4 elements, doubled until the chunk is whole.
 */
#ifndef TYPES_SEGMENTS_H
#define TYPES_SEGMENTS_H

#include "types/heap.h"

#define PT_CHUNK_BYTES 4096u
#define PT_FANOUT 510u /* entries of a directory */
#define PT_HEIGHT_MAX 4u

/* In the header of the object that it belongs to.  All 0: empty. */
struct PT_IN_HEAP pt_segments {
    uint64_t top;      /* height 0: the only chunk; else a directory */
    uint32_t height;   /* of directories above the chunks */
    uint32_t capacity; /* elements there is room for */
};
_Static_assert(sizeof(struct pt_segments) == 16, "segmented array");

struct PT_IN_HEAP pt_chunk {
    uint32_t kind; /* PT_CHUNK */
    uint32_t zero;
    uint64_t unused; /* 0 */
    /* elements */
};
_Static_assert(sizeof(struct pt_chunk) == 16, "chunk");

struct PT_IN_HEAP pt_directory {
    uint32_t kind; /* PT_DIRECTORY */
    uint32_t zero;
    uint64_t unused;           /* 0 */
    uint64_t below[PT_FANOUT]; /* chunks or directories, those that are not there 0 */
};
_Static_assert(sizeof(struct pt_directory) == PT_CHUNK_BYTES, "directory");

/* What an array is made of: width of an element in bytes, and how many a whole chunk has. */
struct pt_shape {
    uint32_t width;
    uint32_t whole;
};

/* The offset of an element that is below the capacity; 0 (CORRUPT) if the array is damaged.  A whole element lies there,
 * within the heap, aligned to 4, and to 8 if the width is a multiple of that. */
uint64_t pt_segments_find_slow(struct pht *t, const struct pt_segments *array, struct pt_shape shape, uint32_t index);

/* What a directory has as an entry; 0 if there is none. */
static inline uint64_t pt_segments_below(struct pht *t, uint64_t at, uint32_t entry)
{
    const struct pt_directory *directory = entry < PT_FANOUT ? pt_at(t, at, sizeof *directory) : NULL;
    return directory == NULL || directory->kind != PT_DIRECTORY ? 0 : directory->below[entry];
}

/* Where the compiler knows the shape, this divides by constants.  It checks what pt_segments_find_slow() does before it
 * looks anywhere, and leaves to that what is not as it should be, and higher trees. */
__attribute__((always_inline)) static inline uint64_t pt_segments_find(struct pht *t, const struct pt_segments *array,
                                                                       const struct pt_shape shape, uint32_t index)
{
    const uint32_t height = array->height, capacity = array->capacity, number = height == 0 ? 0 : index / shape.whole;
    const uint32_t within = index - number * shape.whole, room = height == 0 ? capacity : shape.whole;
    uint64_t at = height > 2 ? 0 : array->top;
    if (height == 2)
        at = pt_segments_below(t, at, number / PT_FANOUT);
    if (height > 0 && at != 0)
        at = pt_segments_below(t, at, height == 2 ? number % PT_FANOUT : number);
    const bool sound = at != 0 && index < capacity && room <= shape.whole;
    const struct pt_chunk *chunk = sound ? pt_at(t, at, sizeof *chunk + (uint64_t)room * shape.width) : NULL;
    if (chunk == NULL || chunk->kind != PT_CHUNK)
        return pt_segments_find_slow(t, array, shape, index);
    return at + sizeof *chunk + (uint64_t)within * shape.width;
}

/* Make room for more elements, which are 0; `array` is the offset of the struct pt_segments.  FULL: there are 2^32. */
enum pheap_status pt_segments_grow(struct pht *t, uint64_t array, struct pt_shape shape);

/* Give back a chunk that `needed` elements do not need, or half of a small one.  *freed: something was. */
enum pheap_status pt_segments_shrink(struct pht *t, uint64_t array, struct pt_shape shape, uint32_t needed,
                                     bool *freed);

/* Every block of an array.  Bounded by the capacity, which is bounded by how many parts the visitor takes. */
enum pheap_status pt_segments_visit(struct pt_visit *visit, const struct pt_segments *array, struct pt_shape shape);

#endif
