/* SPDX-License-Identifier: MIT */
/*
 * A heap of values in plain memory, for fuzz_types.c: a few containers, in slots and in one another.
 *
 * Plain values are numbers below MODEL_KEYS, of which the lowest bits say the kind; fuzz_types.c makes values of the
 * heap of them.  A value may also be a container: MODEL_KEYS and its index.  Containers that no slot leads to are gone,
 * and their indexes free.
 */
#ifndef FUZZ_VALUES_MODEL_H
#define FUZZ_VALUES_MODEL_H

#include <stdbool.h>
#include <stdint.h>

#define MODEL_KEYS 1024u
#define MODEL_SLOTS 8u
#define MODEL_OBJECTS 16u
#define MODEL_ENTRIES 600u
#define MODEL_ABSENT UINT16_MAX

enum model_family { MODEL_NUMBER, MODEL_STR, MODEL_BYTES, MODEL_TUPLE };

struct model_entry {
    uint16_t key; /* maps and sets */
    uint16_t value;
};

struct model_object {
    uint32_t kind; /* enum pht_kind; PHT_RECORD for any record */
    uint32_t count;
    struct model_entry entries[MODEL_ENTRIES];
};

struct model {
    int8_t slots[MODEL_SLOTS]; /* -1: empty */
    struct model_object objects[MODEL_OBJECTS];
};

void model_init(struct model *model);

/* An index that nothing leads to, -1 if there is none. */
int model_spare(const struct model *model);

enum model_family model_family(uint16_t key);
/* The order of two keys of one family; 0: they are equal. */
int model_compare(uint16_t one, uint16_t other);

/* The number of the key's entry, or -1. */
int model_find(const struct model_object *object, uint16_t key);
/* Where a key belongs among those in order; *found: it is there. */
uint32_t model_rank(const struct model_object *object, uint16_t key, bool *found);

void model_insert(struct model_object *object, uint32_t index, uint16_t key, uint16_t value);
void model_remove(struct model_object *object, uint32_t index);

#endif
