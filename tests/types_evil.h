/* SPDX-License-Identifier: MIT */
/*
 * Damaged heaps of values, for the tests and the fuzz target: what a word may be replaced by, and everything that can
 * be asked of a value.  Any status is right.
 */
#ifndef TESTS_TYPES_EVIL_H
#define TESTS_TYPES_EVIL_H

#include "tests/support/dice.h"
#include "types/types.h"

static enum pheap_status ignored;

/* All of it may be read: its ends, and some between. */
static inline void read_bytes(const void *bytes, uint64_t length)
{
    static volatile unsigned char sum;
    const unsigned char *at = bytes;
    for (uint64_t i = 0; i < length; i += length / 64 + 1)
        sum = (unsigned char)(sum + at[i]);
    if (length > 0)
        sum = (unsigned char)(sum + at[length - 1]);
}

/* Everything that can be asked of a value. */
static inline void ask(struct pht *t, pht_value value, unsigned depth)
{
    struct pht_any any;
    uint64_t count = 0, cursor = 0, hash, rank, offset, length;
    pht_value key, other, words[8];
    struct pht_elements elements = {.count = 0};
    bool has;
    int order;
    if (pht_show(t, &value, &any) != PHEAP_OK)
        return;
    ignored = pht_hash(t, pht_of(value), &hash);
    ignored = pht_equal(t, pht_of(value), pht_float(1.5), &has);
    ignored = pht_compare(t, pht_of(value), pht_of(value), &order);
    if (any.kind == PHT_STR || any.kind == PHT_BYTES)
        read_bytes(any.bytes, any.length);
    if (depth == 0 && any.kind < PHT_BLOCK) /* that it is no container is soon said, and often */
        return;
    ignored = pht_block_at(t, value, &offset, &length);
    ignored = pht_record_at(t, value, PHT_ANY_TYPE, &offset, NULL);
    ignored = pht_record_get(t, value, 16, &other);
    ignored = pht_ring_count(t, value, &count, NULL);
    if (pht_array_at(t, value, 1, &offset, &count) == PHEAP_OK && count > 0)
        read_bytes(t->base + offset, count * 8);
    if (pht_ring_at(t, value, 1, 3, &offset) == PHEAP_OK)
        read_bytes(t->base + offset, 8);
    if (pht_elements_at(t, value, PHT_ANY_TYPE, &elements) == PHEAP_OK && elements.count > 0)
        read_bytes(t->base + elements.offset, elements.capacity * elements.size);
    for (uint32_t type = 0; type < 3; type++) {
        struct pht_layout layout;
        struct pht_field fields[2];
        if (pht_type_show(t, type, &layout, fields, 2, &hash) == PHEAP_OK)
            read_bytes(layout.name, layout.name_length);
    }
    if (depth == 0)
        return;
    ignored = pht_map_get(t, value, pht_text("4"), &other);
    ignored = pht_set_has(t, value, pht_text("4"), &has);
    while (pht_map_next(t, value, &cursor, &key, &other) == PHEAP_OK) {
        ask(t, key, 0);
        ask(t, other, depth - 1);
    }
    for (cursor = 0; pht_map_previous(t, value, &cursor, &key, &other) == PHEAP_OK;)
        ;
    for (cursor = 0; pht_set_next(t, value, &cursor, &key) == PHEAP_OK;)
        ask(t, key, 0);
    for (cursor = 0; pht_set_previous(t, value, &cursor, &key) == PHEAP_OK;)
        ;
    if (pht_list_count(t, value, &count) == PHEAP_OK || pht_queue_count(t, value, &count) == PHEAP_OK ||
        pht_omap_count(t, value, &count) == PHEAP_OK || pht_tuple_count(t, value, &count) == PHEAP_OK) {
        for (uint64_t i = 0; i < count; i += count / 16 + 1) {
            if (pht_list_get(t, value, i, &other) == PHEAP_OK || pht_queue_get(t, value, i, &other) == PHEAP_OK ||
                pht_tuple_get(t, value, i, &other) == PHEAP_OK || pht_omap_at(t, value, i, &key, &other) == PHEAP_OK)
                ask(t, other, depth - 1);
            ignored = pht_list_read(t, value, i, 8 < count - i ? 8 : count - i, words);
        }
    }
    const struct pht_any plain[] = {pht_int(1), pht_text("a text that is an object")};
    ignored = pht_map_get(t, value, pht_tuple(plain, 2), &other);
    ignored = pht_set_has(t, value, pht_frozenset(plain, 2), &has);
    ignored = pht_frozenset_has(t, value, pht_frozenset(plain, 2), &has);
    if (pht_frozenset_count(t, value, &count) == PHEAP_OK)
        for (uint64_t i = 0; i < count && i < 16; i++)
            if (pht_frozenset_get(t, value, i, &other) == PHEAP_OK)
                ask(t, other, depth - 1);
    struct pht_walk walk = {.done = 0};
    while (pht_queue_next(t, value, &walk, &other) == PHEAP_OK)
        ask(t, other, 0);
    for (walk = (struct pht_walk){.done = 0}; pht_queue_previous(t, value, &walk, &other) == PHEAP_OK;)
        ;
    ignored = pht_omap_rank(t, value, pht_text("4"), &rank, &has);
    ignored = pht_omap_get(t, value, pht_text("a text that is an object: 3"), &other);
}

static inline void ignore_fault(void *context, uint64_t offset, const char *text)
{
    (void)context;
    (void)offset;
    read_bytes(text, strlen(text));
}

/* What a word may be replaced by. */
static inline uint64_t evil(uint64_t word, unsigned choice, uint64_t other, uint64_t *dice)
{
    switch (choice) {
    case 0:
        return word ^ UINT64_C(1) << (dice_roll(dice) % 64);
    case 1:
        return word ^ UINT64_C(0x100000001);
    case 2:
        return other; /* the offset of another block */
    case 3:
        return word << 32 | word >> 32;
    case 4:
        return 0;
    case 5:
        return UINT64_MAX;
    case 6:
        return dice_roll(dice) % (1 << 20) & ~UINT64_C(15);
    case 7: /* within another block */
        return other + 16 * (dice_roll(dice) % 8);
    default:
        return dice_roll(dice);
    }
}
#define EVILS 9u

#endif
