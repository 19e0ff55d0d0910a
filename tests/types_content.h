/* SPDX-License-Identifier: MIT */
/*
 * What a heap of values holds, as one number, so that two moments can be compared: every value with its kind, in its
 * place and order, down from a word, and the bytes of structs.  For sound heaps whose values do not contain themselves.
 */
#ifndef TESTS_TYPES_CONTENT_H
#define TESTS_TYPES_CONTENT_H

#include "tests/support/dice.h"
#include "types/types.h"

/*
 * The hash key of a heap of values is drawn by chance.  One that is known makes runs the same; before there are keys.
 */
static inline enum pheap_status content_fix_hash_key(struct pht *t)
{
    const uint64_t key[2] = {1, 2};
    return pheap_write(t->txn, t->registry + 24, key, sizeof key); /* docs/types.md, chapter 10 */
}

static inline uint64_t content_bytes(uint64_t sum, const void *bytes, uint64_t length)
{
    const unsigned char *at = bytes;
    for (uint64_t i = 0; i < length; i++)
        sum = dice_mix(sum + at[i] + 1);
    return dice_mix(sum + length);
}

static inline uint64_t content_of(struct pht *t, pht_value value);

/* The fields of a record: its bytes, but for words of values, of which the values count. */
static inline uint64_t content_of_record(struct pht *t, pht_value record, uint64_t sum)
{
    uint64_t offset = 0;
    uint32_t type = 0;
    struct pht_layout layout = {.size = 0};
    struct pht_field fields[8];
    pht_value value;
    if (pht_record_at(t, record, PHT_ANY_TYPE, &offset, &type) != PHEAP_OK ||
        pht_type_show(t, type, &layout, fields, 8, NULL) != PHEAP_OK)
        return 0;
    sum = dice_mix(sum + type);
    for (uint32_t i = 0; i < layout.field_count; i++)
        for (uint64_t e = 0; e < fields[i].count; e++) {
            const uint64_t at = fields[i].offset + e * fields[i].size;
            if (fields[i].kind != PHT_FIELD_VALUE)
                sum = content_bytes(sum, t->base + offset + at, fields[i].size);
            else if (pht_record_get(t, record, at, &value) == PHEAP_OK)
                sum = dice_mix(sum + content_of(t, value));
        }
    return sum;
}

static inline uint64_t content_of_ring(struct pht *t, pht_value ring, uint64_t sum)
{
    uint64_t count = 0, offset;
    (void)!pht_ring_count(t, ring, &count, NULL);
    for (uint64_t i = 0; i < count; i++)
        if (pht_ring_at(t, ring, PHT_ANY_TYPE, i, &offset) == PHEAP_OK)
            sum = content_bytes(sum, t->base + offset, 8);
    return dice_mix(sum + count);
}

static inline uint64_t content_of(struct pht *t, pht_value value)
{
    struct pht_any any;
    uint64_t sum, count = 0, cursor = 0, offset;
    pht_value key, part;
    if (value == PHT_ABSENT || pht_show(t, &value, &any) != PHEAP_OK)
        return value;
    sum = dice_mix(any.kind);
    switch (any.kind) {
    case PHT_MAP:
        while (pht_map_next(t, value, &cursor, &key, &part) == PHEAP_OK)
            sum = dice_mix(sum + content_of(t, key) * 3 + content_of(t, part));
        return sum;
    case PHT_SET:
        while (pht_set_next(t, value, &cursor, &key) == PHEAP_OK)
            sum = dice_mix(sum + content_of(t, key));
        return sum;
    case PHT_OMAP:
        for (uint64_t i = 0; pht_omap_at(t, value, i, &key, &part) == PHEAP_OK; i++)
            sum = dice_mix(sum + content_of(t, key) * 3 + content_of(t, part));
        return sum;
    case PHT_LIST:
        for (uint64_t i = 0; pht_list_get(t, value, i, &part) == PHEAP_OK; i++)
            sum = dice_mix(sum + content_of(t, part));
        return sum;
    case PHT_TUPLE:
        for (uint64_t i = 0; pht_tuple_get(t, value, i, &part) == PHEAP_OK; i++)
            sum = dice_mix(sum + content_of(t, part));
        return sum;
    case PHT_FROZENSET:
        for (uint64_t i = 0; pht_frozenset_get(t, value, i, &part) == PHEAP_OK; i++)
            sum = dice_mix(sum + content_of(t, part));
        return sum;
    case PHT_QUEUE:
        for (uint64_t i = 0; pht_queue_get(t, value, i, &part) == PHEAP_OK; i++)
            sum = dice_mix(sum + content_of(t, part));
        return sum;
    case PHT_RECORD:
        return content_of_record(t, value, sum);
    case PHT_RING:
        return content_of_ring(t, value, sum);
    case PHT_ARRAY:
        if (pht_array_at(t, value, PHT_ANY_TYPE, &offset, &count) == PHEAP_OK)
            sum = content_bytes(sum, t->base + offset, count * 8);
        return sum;
    case PHT_STR:
    case PHT_BYTES:
    case PHT_BLOCK:
        return content_bytes(sum, any.bytes, any.length);
    case PHT_INT:
        return any.bytes != NULL ? content_bytes(sum + any.negative, any.bytes, any.length * 8)
                                 : dice_mix(sum + (uint64_t)any.integer);
    default: /* float: its bits; none and bool: the number */
        return dice_mix(sum + (uint64_t)any.integer);
    }
}

#endif
