/* SPDX-License-Identifier: MIT */
/* Types: layouts of structs in the heap.  A list in the registry has them by number. */
#ifndef TYPES_TYPE_H
#define TYPES_TYPE_H

#include "types/heap.h"

struct PT_IN_HEAP pt_type {
    uint32_t kind; /* PHT_TYPE */
    uint32_t references;
    uint64_t length; /* of what follows */
    uint64_t size;
    uint32_t version;
    uint32_t field_count;
    uint32_t name_length;
    uint32_t value_count; /* words in fields that are values */
    uint64_t fingerprint; /* of all else but the numbers of other types: pt_type_check() proves it */
    /* fields; then the bytes of the name, and those of the fields' names, one after the other */
};
_Static_assert(sizeof(struct pt_type) == 48, "type");

struct PT_IN_HEAP pt_field {
    uint64_t offset;
    uint64_t count;
    uint32_t size;
    uint32_t type; /* PHT_FIELD_STRUCT: number of the type; else 0 */
    uint8_t kind;  /* enum pht_field_kind */
    uint8_t name_length;
    uint8_t bit_first;
    uint8_t bit_count;
    uint32_t zero;
};
_Static_assert(sizeof(struct pt_field) == 32, "field");

/* A type by its number, whose size is possible and whose fields are all there, but not looked at: *found.  NOT_FOUND. */
enum pheap_status pt_type_at(struct pht *t, uint32_t number, const struct pt_type **found);

static inline const struct pt_field *pt_fields(const struct pt_type *type)
{
    return (const struct pt_field *)(const void *)(type + 1);
}

/* How many values a field is, all of them within the struct. */
static inline uint64_t pt_values(const struct pt_type *type, const struct pt_field *field)
{
    if (field->kind != PHT_FIELD_VALUE || field->offset % sizeof(pht_value) != 0 || field->offset > type->size ||
        field->count > (type->size - field->offset) / sizeof(pht_value))
        return 0;
    return field->count;
}

#endif
