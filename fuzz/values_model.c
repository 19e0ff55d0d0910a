/* SPDX-License-Identifier: MIT */
/* The plain model. */
#include "fuzz/values_model.h"

#include <string.h>

void model_init(struct model *model)
{
    memset(model, 0, sizeof *model);
    memset(model->slots, -1, sizeof model->slots);
}

int model_spare(const struct model *model)
{
    uint8_t queue[MODEL_OBJECTS];
    bool reached[MODEL_OBJECTS] = {false};
    unsigned queued = 0;
    for (unsigned i = 0; i < MODEL_SLOTS; i++) {
        const int index = model->slots[i];
        if (index >= 0 && !reached[index]) {
            reached[index] = true;
            queue[queued++] = (uint8_t)index;
        }
    }
    for (unsigned visited = 0; visited < queued; visited++) {
        const struct model_object *object = &model->objects[queue[visited]];
        for (uint32_t i = 0; i < object->count; i++) {
            const uint16_t value = object->entries[i].value;
            if (value == MODEL_ABSENT || value < MODEL_KEYS || reached[value - MODEL_KEYS])
                continue;
            reached[value - MODEL_KEYS] = true;
            queue[queued++] = (uint8_t)(value - MODEL_KEYS);
        }
    }
    for (int i = 0; i < (int)MODEL_OBJECTS; i++)
        if (!reached[i])
            return i;
    return -1;
}

enum model_family model_family(uint16_t key)
{
    static const enum model_family families[8] = {MODEL_NUMBER, MODEL_NUMBER, MODEL_STR,    MODEL_STR,
                                                  MODEL_BYTES,  MODEL_BYTES,  MODEL_NUMBER, MODEL_TUPLE};
    return families[key % 8];
}

/* Where a key stands among those of its family: a float is that of the int before it; large ints lie on both sides. */
static int32_t place_of(uint16_t key)
{
    if (key % 16 == 6)
        return INT32_C(1) << 20 | key;
    if (key % 16 == 14)
        return -(INT32_C(1) << 20 | key);
    return key % 8 == 1 ? key - 1 : key;
}

int model_compare(uint16_t one, uint16_t other)
{
    const int32_t a = place_of(one), b = place_of(other);
    return (a > b) - (a < b);
}

int model_find(const struct model_object *object, uint16_t key)
{
    for (uint32_t i = 0; i < object->count; i++)
        if (model_family(object->entries[i].key) == model_family(key) &&
            model_compare(object->entries[i].key, key) == 0)
            return (int)i;
    return -1;
}

uint32_t model_rank(const struct model_object *object, uint16_t key, bool *found)
{
    uint32_t rank = 0;
    while (rank < object->count && model_compare(object->entries[rank].key, key) < 0)
        rank++;
    *found = rank < object->count && model_compare(object->entries[rank].key, key) == 0;
    return rank;
}

void model_insert(struct model_object *object, uint32_t index, uint16_t key, uint16_t value)
{
    memmove(&object->entries[index + 1], &object->entries[index],
            (object->count++ - index) * sizeof object->entries[0]);
    object->entries[index] = (struct model_entry){.key = key, .value = value};
}

void model_remove(struct model_object *object, uint32_t index)
{
    memmove(&object->entries[index], &object->entries[index + 1],
            (--object->count - index) * sizeof object->entries[0]);
}
