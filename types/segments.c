/* SPDX-License-Identifier: MIT */
/* Segmented arrays.  Chunks are numbered; the path to one is the digits of its number to the base of the fan-out. */
#include "types/segments.h"

#define SMALLEST 4u /* elements of the first chunk at first */

static const uint64_t powers[PT_HEIGHT_MAX + 1] = {1, PT_FANOUT, (uint64_t)PT_FANOUT *PT_FANOUT,
                                                   (uint64_t)PT_FANOUT *PT_FANOUT *PT_FANOUT,
                                                   (uint64_t)PT_FANOUT *PT_FANOUT *PT_FANOUT *PT_FANOUT};

/* The entry for chunk `number` in a directory, which is `level` above the chunks. */
static inline uint32_t digit(uint32_t number, uint32_t level)
{
    return level == 1 ? number % PT_FANOUT : (uint32_t)(number / powers[level - 1] % PT_FANOUT);
}

static bool sound(struct pht *t, const struct pt_segments *array, struct pt_shape shape)
{
    bool small = array->height == 0 && array->capacity <= shape.whole;
    bool large = array->height > 0 && array->height <= PT_HEIGHT_MAX && array->capacity % shape.whole == 0 &&
                 array->capacity / shape.whole <= powers[array->height];
    if (small || large)
        return true;
    (void)pt_corrupt(t, array->top, "an array whose height and size do not fit");
    return false;
}

/* Where chunk `number` is; 0 if the array is damaged. */
static uint64_t find_chunk(struct pht *t, const struct pt_segments *array, uint32_t number)
{
    uint64_t at = array->top;
    for (uint32_t level = array->height; level > 0; level--) {
        const struct pt_directory *directory = pt_at_kind(t, at, sizeof *directory, PT_DIRECTORY);
        if (directory == NULL)
            return 0;
        at = directory->below[digit(number, level)];
    }
    return at;
}

uint64_t pt_segments_find_slow(struct pht *t, const struct pt_segments *array, struct pt_shape shape, uint32_t index)
{
    /* Division is dear: whether the capacity is a multiple of whole chunks is left to sound(). */
    if (array->height > PT_HEIGHT_MAX || array->capacity > powers[array->height] * shape.whole) {
        (void)sound(t, array, shape);
        return 0;
    }
    if (index >= array->capacity) {
        (void)pt_corrupt(t, array->top, "an array that is shorter than what it belongs to says");
        return 0;
    }
    uint32_t number = index / shape.whole, within = index - number * shape.whole;
    uint32_t elements = array->height == 0 ? array->capacity : shape.whole;
    uint64_t at = find_chunk(t, array, number);
    if (at == 0 || pt_at_kind(t, at, sizeof(struct pt_chunk) + elements * (uint64_t)shape.width, PT_CHUNK) == NULL)
        return 0;
    return at + sizeof(struct pt_chunk) + within * (uint64_t)shape.width;
}

/* The first chunk becomes twice as large, or appears. */
static enum pheap_status resize_first(struct pht *t, struct pt_segments *array, struct pt_shape shape,
                                      uint32_t capacity)
{
    uint64_t at = array->top, before = array->capacity * (uint64_t)shape.width;
    uint64_t bytes = capacity == shape.whole ? PT_CHUNK_BYTES - sizeof(struct pt_chunk) : capacity * shape.width;
    if (at != 0 && pt_at_kind(t, at, sizeof(struct pt_chunk) + before, PT_CHUNK) == NULL)
        return PHEAP_CORRUPT;
    enum pheap_status status = at == 0 ? pt_alloc(t, sizeof(struct pt_chunk) + bytes, true, &at)
                                       : pt_realloc(t, &at, sizeof(struct pt_chunk) + bytes);
    void *address;
    if (status == PHEAP_OK) /* what is in place is not fresh */
        status = pt_edit(t, at, sizeof(struct pt_chunk) + bytes, &address);
    if (status != PHEAP_OK)
        return status;
    ((struct pt_chunk *)address)->kind = PT_CHUNK;
    if (bytes > before)
        memset((char *)address + sizeof(struct pt_chunk) + before, 0, bytes - before);
    array->top = at;
    array->capacity = capacity;
    return PHEAP_OK;
}

static enum pheap_status new_block(struct pht *t, uint32_t kind, uint64_t *at)
{
    enum pheap_status status = pt_alloc(t, PT_CHUNK_BYTES, true, at);
    if (status == PHEAP_OK)
        ((struct pt_chunk *)(void *)(t->base + *at))->kind = kind;
    return status;
}

/* A directory above all there is. */
static enum pheap_status raise_top(struct pht *t, struct pt_segments *array)
{
    uint64_t at;
    enum pheap_status status = new_block(t, PT_DIRECTORY, &at);
    if (status != PHEAP_OK)
        return status;
    ((struct pt_directory *)(void *)(t->base + at))->below[0] = array->top;
    array->top = at;
    array->height++;
    return PHEAP_OK;
}

/* Chunk `number`, with the directories that lead to it alone. */
static enum pheap_status add_chunk(struct pht *t, const struct pt_segments *array, uint32_t number)
{
    uint64_t at = array->top;
    for (uint32_t level = array->height; level > 0; level--) {
        const struct pt_directory *directory = pt_at_kind(t, at, sizeof *directory, PT_DIRECTORY);
        if (directory == NULL)
            return PHEAP_CORRUPT;
        uint32_t entry = digit(number, level);
        uint64_t below = directory->below[entry];
        if (below == 0) {
            enum pheap_status status = new_block(t, level == 1 ? PT_CHUNK : PT_DIRECTORY, &below);
            if (status == PHEAP_OK)
                status = pt_put(t, at + offsetof(struct pt_directory, below) + entry * sizeof below, below);
            if (status != PHEAP_OK)
                return status;
        } else if (level == 1) {
            return pt_corrupt(t, at, "a directory with an entry beyond its end");
        }
        at = below;
    }
    return PHEAP_OK;
}

enum pheap_status pt_segments_grow(struct pht *t, uint64_t array, struct pt_shape shape)
{
    struct pt_segments *a;
    enum pheap_status status = pt_edit(t, array, sizeof *a, &a);
    if (status != PHEAP_OK)
        return status;
    if (!sound(t, a, shape))
        return PHEAP_CORRUPT;
    if (a->capacity < shape.whole) {
        uint32_t capacity = a->capacity < SMALLEST / 2 ? SMALLEST : a->capacity * 2;
        return resize_first(t, a, shape, capacity > shape.whole - shape.whole / 4 ? shape.whole : capacity);
    }
    uint32_t chunks = a->capacity / shape.whole;
    if (UINT32_MAX - a->capacity < shape.whole)
        return pt_failed(t, pheap_fail_with(PHEAP_FULL, "a map or set of 2^32 entries"));
    if (chunks == powers[a->height])
        status = raise_top(t, a);
    if (status == PHEAP_OK)
        status = add_chunk(t, a, chunks);
    if (status == PHEAP_OK)
        a->capacity += shape.whole;
    return status;
}

/* Free the last chunk and the directories that lead to nothing else. */
static enum pheap_status remove_chunk(struct pht *t, const struct pt_segments *array, uint32_t number)
{
    uint64_t path[PT_HEIGHT_MAX + 1] = {0};
    path[array->height] = array->top;
    for (uint32_t level = array->height; level > 0; level--) {
        const struct pt_directory *directory = pt_at_kind(t, path[level], sizeof *directory, PT_DIRECTORY);
        if (directory == NULL)
            return PHEAP_CORRUPT;
        path[level - 1] = directory->below[digit(number, level)];
    }
    if (pt_at_kind(t, path[0], sizeof(struct pt_chunk), PT_CHUNK) == NULL)
        return PHEAP_CORRUPT;
    enum pheap_status status = pt_free(t, path[0]);
    for (uint32_t level = 1; level <= array->height && status == PHEAP_OK; level++) {
        uint32_t entry = digit(number, level);
        if (entry != 0)
            return pt_put(t, path[level] + offsetof(struct pt_directory, below) + entry * sizeof(uint64_t), 0);
        status = pt_free(t, path[level]);
    }
    return status;
}

/* Directories that have a single entry are not needed. */
static enum pheap_status lower_top(struct pht *t, struct pt_segments *array, uint32_t chunks)
{
    while (array->height > 0 && chunks <= powers[array->height - 1]) {
        const struct pt_directory *directory = pt_at_kind(t, array->top, sizeof *directory, PT_DIRECTORY);
        if (directory == NULL)
            return PHEAP_CORRUPT;
        uint64_t below = directory->below[0];
        enum pheap_status status = pt_free(t, array->top);
        if (status != PHEAP_OK)
            return status;
        array->top = below;
        array->height--;
    }
    return PHEAP_OK;
}

enum pheap_status pt_segments_shrink(struct pht *t, uint64_t array, struct pt_shape shape, uint32_t needed, bool *freed)
{
    struct pt_segments *a;
    enum pheap_status status = pt_edit(t, array, sizeof *a, &a);
    *freed = false;
    if (status != PHEAP_OK)
        return status;
    if (!sound(t, a, shape) || needed > a->capacity)
        return pt_corrupt(t, array, "an array that is shorter than what it belongs to says");
    uint32_t chunks = (a->capacity + shape.whole - 1) / shape.whole;
    if (chunks > 1) {
        /* Half a chunk stays in reserve, so that coming and going of one element does not allocate each time. */
        if (needed != 0 && a->capacity - needed < shape.whole + shape.whole / 2)
            return PHEAP_OK;
        status = remove_chunk(t, a, chunks - 1);
        if (status == PHEAP_OK) {
            a->capacity -= shape.whole;
            status = lower_top(t, a, chunks - 1);
        }
    } else if (chunks == 1 && needed == 0) {
        if (pt_at_kind(t, a->top, sizeof(struct pt_chunk), PT_CHUNK) == NULL)
            return PHEAP_CORRUPT;
        status = pt_free(t, a->top);
        a->top = 0;
        a->capacity = 0;
    } else if (a->capacity > SMALLEST && needed <= a->capacity / 4) {
        status = resize_first(t, a, shape, a->capacity / 2 < SMALLEST ? SMALLEST : a->capacity / 2);
    } else {
        return PHEAP_OK;
    }
    *freed = status == PHEAP_OK;
    return status;
}

/* The blocks below a directory, or the chunk, at `level`; *left is how many chunks there still are. */
static enum pheap_status visit_below(struct pt_visit *visit, uint64_t at, uint32_t level, uint64_t chunk_bytes,
                                     uint32_t *left)
{
    const bool leaf = level == 0;
    const uint64_t bytes = leaf ? chunk_bytes : sizeof(struct pt_directory);
    if (pt_at_kind(visit->t, at, bytes, leaf ? PT_CHUNK : PT_DIRECTORY) == NULL)
        return PHEAP_CORRUPT;
    enum pheap_status status = visit->part(visit, at, bytes);
    if (leaf) {
        --*left;
        return status;
    }
    const struct pt_directory *directory = (const struct pt_directory *)(const void *)(visit->t->base + at);
    for (uint32_t i = 0; i < PT_FANOUT && status == PHEAP_OK; i++) {
        if (*left > 0)
            status = visit_below(visit, directory->below[i], level - 1, chunk_bytes, left);
        else if (directory->below[i] != 0)
            status = pt_corrupt(visit->t, at, "a directory with an entry beyond its end");
    }
    return status;
}

enum pheap_status pt_segments_visit(struct pt_visit *visit, const struct pt_segments *array, struct pt_shape shape)
{
    if (!sound(visit->t, array, shape))
        return PHEAP_CORRUPT;
    if (array->capacity == 0)
        return array->top == 0 ? PHEAP_OK : pt_corrupt(visit->t, array->top, "an array without elements that is there");
    uint32_t left = array->height == 0 ? 1 : array->capacity / shape.whole;
    const uint64_t elements = array->height == 0 ? array->capacity : shape.whole;
    return visit_below(visit, array->top, array->height, sizeof(struct pt_chunk) + elements * shape.width, &left);
}
