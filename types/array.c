/* SPDX-License-Identifier: MIT */
/* Arrays and rings of structs: blocks that know the type of their elements. */
#include "types/type.h"
#include "types/value.h"

#include <inttypes.h>

#define BYTES_MAX (UINT64_C(1) << 46)

struct PT_IN_HEAP pt_array {
    uint32_t kind; /* PHT_ARRAY, PHT_RING */
    uint32_t references;
    uint64_t length; /* of what follows */
    uint32_t type;   /* number of the type of the elements */
    uint32_t zero;
    uint64_t capacity; /* elements there is room for */
    uint64_t first;    /* ring: the place of the oldest, below the capacity */
    uint64_t count;    /* ring: how many there are; array: the capacity */
    /* elements, one after the other */
};
_Static_assert(sizeof(struct pt_array) == 48, "array of structs");

/* What an array says of itself fits its length; *size is that of an element. */
static enum pheap_status check(struct pht *t, uint64_t offset, const struct pt_array **array, uint64_t *size)
{
    const struct pt_type *type;
    const struct pt_array *found = pt_at(t, offset, sizeof *found);
    if (found == NULL)
        return PHEAP_CORRUPT;
    enum pheap_status status = pt_type_at(t, found->type, &type);
    if (status == PHEAP_NOT_FOUND)
        return pt_corrupt(t, offset, "an array of a type that there is not");
    if (status != PHEAP_OK)
        return status;
    const uint64_t behind = sizeof *found - sizeof(struct pt_leaf);
    if (found->length < behind || found->length - behind > t->size - offset - sizeof *found ||
        found->capacity > (found->length - behind) / type->size || found->count > found->capacity ||
        (found->first >= found->capacity && found->first != 0))
        return pt_corrupt(t, offset, "an array whose length, beginning or count is impossible");
    *array = found;
    *size = type->size;
    return PHEAP_OK;
}

enum pheap_status pt_array_check(struct pht *t, uint64_t array)
{
    uint64_t size;
    const struct pt_array *found;
    return check(t, array, &found, &size);
}

/* An array or ring that the caller names, of elements of this type. */
static enum pheap_status use(struct pht *t, pht_value value, enum pht_kind kind, uint32_t type,
                             const struct pt_array **array, uint64_t *size)
{
    const void *address;
    enum pheap_status status = pt_use(t, value, kind, sizeof **array, &address);
    if (status == PHEAP_OK)
        status = check(t, value, array, size);
    if (status == PHEAP_OK && type != PHT_ANY_TYPE && (*array)->type != type)
        return pheap_fail_with(PHEAP_WRONG_TYPE, "the %s at 0x%" PRIx64 " is of type number %u, not %u",
                               pht_kind_name(kind), value, (*array)->type, type);
    return status;
}

static enum pheap_status make(struct pht *t, enum pht_kind kind, uint32_t number, uint64_t capacity, pht_value *made)
{
    uint64_t offset;
    const struct pt_type *type;
    enum pheap_status status = pt_type_at(t, number, &type);
    if (status != PHEAP_OK)
        return status;
    if (made == NULL || type->value_count != 0 || capacity > BYTES_MAX / type->size - sizeof(struct pt_array))
        return pheap_fail_with(PHEAP_INVALID,
                               "an %s of %" PRIu64 " structs of %" PRIu64
                               " bytes: too long, of a type with values, or its address is NULL",
                               pht_kind_name(kind), capacity, type->size);
    status = pt_may_change(t);
    const uint64_t bytes = sizeof(struct pt_array) + capacity * type->size;
    if (status == PHEAP_OK)
        status = pt_alloc(t, bytes, true, &offset);
    if (status != PHEAP_OK)
        return status;
    *(struct pt_array *)(void *)(t->base + offset) = (struct pt_array){.kind = (uint32_t)kind,
                                                                       .length = bytes - sizeof(struct pt_leaf),
                                                                       .type = number,
                                                                       .capacity = capacity,
                                                                       .count = kind == PHT_ARRAY ? capacity : 0};
    status = pt_limbo_work(t);
    if (status == PHEAP_OK)
        *made = offset;
    return status;
}

enum pheap_status pht_array_new(struct pht *t, uint32_t type, uint64_t count, pht_value *array)
{
    return make(t, PHT_ARRAY, type, count, array);
}

enum pheap_status pht_array_at(struct pht *t, pht_value array, uint32_t type, uint64_t *offset, uint64_t *count)
{
    uint64_t size;
    const struct pt_array *found;
    if (offset == NULL || count == NULL)
        return pheap_fail_with(PHEAP_INVALID, "pht_array_at: offset or count is NULL");
    enum pheap_status status = use(t, array, PHT_ARRAY, type, &found, &size);
    if (status != PHEAP_OK)
        return status;
    *offset = array + sizeof *found;
    *count = found->capacity;
    return PHEAP_OK;
}

enum pheap_status pht_elements_at(struct pht *t, pht_value value, uint32_t type, struct pht_elements *elements)
{
    enum pht_kind kind;
    uint64_t size;
    const struct pt_array *found;
    if (elements == NULL)
        return pheap_fail_with(PHEAP_INVALID, "pht_elements_at: elements is NULL");
    enum pheap_status status = pht_kind_of(t, value, &kind);
    if (status == PHEAP_OK)
        status = use(t, value, kind == PHT_RING ? PHT_RING : PHT_ARRAY, type, &found, &size);
    if (status != PHEAP_OK)
        return status;
    *elements = (struct pht_elements){.offset = value + sizeof *found,
                                      .size = size,
                                      .capacity = found->capacity,
                                      .first = found->first,
                                      .count = found->count,
                                      .type = found->type};
    return PHEAP_OK;
}

enum pheap_status pht_ring_new(struct pht *t, uint32_t type, uint64_t capacity, pht_value *ring)
{
    if (capacity == 0)
        return pheap_fail_with(PHEAP_INVALID, "a ring of no structs");
    return make(t, PHT_RING, type, capacity, ring);
}

enum pheap_status pht_ring_count(struct pht *t, pht_value ring, uint64_t *count, uint64_t *capacity)
{
    uint64_t size;
    const struct pt_array *found;
    if (count == NULL)
        return pheap_fail_with(PHEAP_INVALID, "pht_ring_count: count is NULL");
    enum pheap_status status = use(t, ring, PHT_RING, PHT_ANY_TYPE, &found, &size);
    if (status != PHEAP_OK)
        return status;
    *count = found->count;
    if (capacity != NULL)
        *capacity = found->capacity;
    return PHEAP_OK;
}

/* Where element `index` from the oldest on is, or would be. */
static uint64_t place(const struct pt_array *ring, pht_value at, uint64_t size, uint64_t index)
{
    const uint64_t before_end = ring->capacity - ring->first;
    return at + sizeof *ring + (index < before_end ? ring->first + index : index - before_end) * size;
}

enum pheap_status pht_ring_push(struct pht *t, pht_value ring, uint32_t type, uint64_t *offset)
{
    uint64_t size;
    struct pt_array *edited;
    const struct pt_array *found;
    if (offset == NULL)
        return pheap_fail_with(PHEAP_INVALID, "pht_ring_push: offset is NULL");
    enum pheap_status status = pt_may_change(t);
    if (status == PHEAP_OK)
        status = use(t, ring, PHT_RING, type, &found, &size);
    if (status == PHEAP_OK && found->capacity == 0)
        status = pt_corrupt(t, ring, "a ring of no structs");
    if (status != PHEAP_OK)
        return status;
    const bool full = found->count == found->capacity;
    const uint64_t at = place(found, ring, size, full ? 0 : found->count);
    status = pt_edit(t, at, size, NULL);
    if (status == PHEAP_OK)
        status = pt_edit(t, ring, sizeof *edited, &edited);
    if (status != PHEAP_OK)
        return status;
    if (full)
        edited->first = edited->first + 1 < edited->capacity ? edited->first + 1 : 0;
    else
        edited->count++;
    *offset = at;
    return PHEAP_OK;
}

enum pheap_status pht_ring_at(struct pht *t, pht_value ring, uint32_t type, uint64_t index, uint64_t *offset)
{
    uint64_t size;
    const struct pt_array *found;
    enum pheap_status status = use(t, ring, PHT_RING, type, &found, &size);
    if (status != PHEAP_OK)
        return status;
    if (offset == NULL || index >= found->count)
        return pheap_fail_with(PHEAP_INVALID, "element %" PRIu64 " of a ring that has %" PRIu64 ", or offset is NULL",
                               index, found->count);
    *offset = place(found, ring, size, index);
    return PHEAP_OK;
}

enum pheap_status pht_ring_pop(struct pht *t, pht_value ring)
{
    uint64_t size;
    struct pt_array *edited;
    const struct pt_array *found;
    enum pheap_status status = pt_may_change(t);
    if (status == PHEAP_OK)
        status = use(t, ring, PHT_RING, PHT_ANY_TYPE, &found, &size);
    if (status == PHEAP_OK && found->count == 0)
        return pheap_fail_with(PHEAP_INVALID, "an empty ring has no oldest struct");
    if (status == PHEAP_OK)
        status = pt_edit(t, ring, sizeof *edited, &edited);
    if (status != PHEAP_OK)
        return status;
    edited->first = edited->first + 1 < edited->capacity ? edited->first + 1 : 0;
    edited->count--;
    return PHEAP_OK;
}
