/* SPDX-License-Identifier: MIT */
/* Registering layouts of structs, finding and showing them. */
#include "types/type.h"

#include "types/siphash.h"
#include "types/value.h"

#include <inttypes.h>
#include <stdlib.h>

#define SIZE_MAX_BYTES (UINT64_C(1) << 30)
#define FIELDS_MAX 4096u
#define VALUES_MAX 65536u
#define TYPES_MAX (1u << 24)

/* ---------------------------------------------------------------------------------------------------------- looking */

/* Its size is possible, and its fields are there. */
static enum pheap_status look(struct pht *t, uint64_t offset, const struct pt_type **found)
{
    const struct pt_type *type = pt_at_kind(t, offset, sizeof *type, PHT_TYPE);
    if (type == NULL)
        return PHEAP_CORRUPT;
    const uint64_t behind = sizeof *type - sizeof(struct pt_leaf);
    if (type->length < behind || type->length - behind > t->size - offset - sizeof *type || type->size == 0 ||
        type->size > SIZE_MAX_BYTES || type->field_count > FIELDS_MAX || type->name_length > 255 ||
        (type->length - behind) / sizeof(struct pt_field) < type->field_count)
        return pt_corrupt(t, offset, "a type whose length or size is impossible");
    *found = type;
    return PHEAP_OK;
}

static struct pht_field shown(const struct pt_field *field, const char *name)
{
    return (struct pht_field){.name = name,
                              .name_length = field->name_length,
                              .kind = field->kind,
                              .type = field->type,
                              .bit_first = field->bit_first,
                              .bit_count = field->bit_count,
                              .size = field->size,
                              .offset = field->offset,
                              .count = field->count};
}

static bool is_size(const struct pht_field *field)
{
    const uint64_t size = field->size;
    switch (field->kind) {
    case PHT_FIELD_SIGNED:
    case PHT_FIELD_UNSIGNED:
        return size == 1 || size == 2 || size == 4 || size == 8;
    case PHT_FIELD_FLOAT:
        return size == 4 || size == 8;
    case PHT_FIELD_BOOL:
    case PHT_FIELD_CHAR:
        return size == 1;
    case PHT_FIELD_VALUE:
        return size == 8 && field->offset % 8 == 0;
    default:
        return field->kind == PHT_FIELD_STRUCT;
    }
}

/* May a struct of `size` bytes have such a field?  What its type is, if it has one, is not looked at. */
static bool is_possible(const struct pht_field *field, uint64_t size)
{
    const bool integer = field->kind == PHT_FIELD_SIGNED || field->kind == PHT_FIELD_UNSIGNED;
    const bool bits = field->bit_count == 0 ? field->bit_first == 0
                                            : integer && field->bit_first < 64 && field->bit_count <= 64 &&
                                                  field->bit_first + field->bit_count <= field->size * 8;
    return is_size(field) && bits && field->size != 0 && field->count != 0 && field->offset <= size &&
           field->count <= (size - field->offset) / field->size &&
           (field->kind == PHT_FIELD_STRUCT || field->type == 0);
}

/* The name of a type, and behind it those of its fields. */
static const char *names_of(const struct pt_type *type)
{
    return (const char *)(pt_fields(type) + type->field_count);
}

/*
 * What a type is, whatever numbers types have in this heap: of the type of a field its fingerprint counts, behind the
 * field, and not its number.
 */
static enum pheap_status fingerprint_of(struct pht *t, const struct pt_type *type, uint64_t names,
                                        uint64_t *fingerprint)
{
    static const uint64_t no_key[2] = {0, 0};
    struct pt_sip sip = pt_sip_begin(no_key);
    pt_sip_word(&sip, type->size);
    pt_sip_word(&sip, type->version | (uint64_t)type->field_count << 32);
    pt_sip_word(&sip, type->name_length | (uint64_t)type->value_count << 32);
    for (uint32_t i = 0; i < type->field_count; i++) {
        const struct pt_type *inner;
        struct pt_field field = pt_fields(type)[i];
        const uint32_t number = field.type;
        uint64_t words[sizeof field / sizeof(uint64_t)];
        field.type = 0;
        memcpy(words, &field, sizeof words);
        for (uint32_t w = 0; w < sizeof words / sizeof words[0]; w++)
            pt_sip_word(&sip, words[w]);
        if (field.kind != PHT_FIELD_STRUCT)
            continue;
        enum pheap_status status = pt_type_at(t, number, &inner);
        if (status != PHEAP_OK)
            return status;
        pt_sip_word(&sip, inner->fingerprint);
    }
    *fingerprint = pt_sip_end(&sip, pt_sip_bytes(no_key, names_of(type), names));
    return PHEAP_OK;
}

/* The type of a field lies before the type itself, so that no type contains itself, and is as large as the field says. */
static enum pheap_status check_inner(struct pht *t, uint64_t offset, uint32_t number, const struct pt_field *field)
{
    const struct pt_type *inner;
    if (field->kind != PHT_FIELD_STRUCT)
        return PHEAP_OK;
    enum pheap_status status = field->type < number ? pt_type_at(t, field->type, &inner) : PHEAP_NOT_FOUND;
    if (status == PHEAP_NOT_FOUND || (status == PHEAP_OK && (inner->size != field->size || inner->value_count != 0)))
        return pt_corrupt(t, offset, "a type with a field whose type comes later, or has another size or values");
    return status;
}

/* The same as look(), and so are its names, and each field is in its place; `number` is its own. */
static enum pheap_status check(struct pht *t, uint64_t offset, uint32_t number, const struct pt_type **found)
{
    const struct pt_type *type;
    enum pheap_status status = look(t, offset, &type);
    if (status != PHEAP_OK)
        return status;
    const uint64_t behind = sizeof *type - sizeof(struct pt_leaf) + type->field_count * sizeof(struct pt_field);
    uint64_t names = type->name_length, values = 0, fingerprint;
    bool utf8 = names > 0 && names <= type->length - behind && pt_is_utf8(names_of(type), names);
    for (uint32_t i = 0; i < type->field_count && utf8; i++) {
        const struct pt_field *field = &pt_fields(type)[i];
        const struct pht_field plain = shown(field, NULL);
        if (!is_possible(&plain, type->size))
            return pt_corrupt(t, offset, "a type with a field that is not possible within it");
        status = check_inner(t, offset, number, field);
        if (status != PHEAP_OK)
            return status;
        utf8 = field->name_length > 0 && field->name_length <= type->length - behind - names &&
               pt_is_utf8(names_of(type) + names, field->name_length);
        names += field->name_length;
        values += field->kind == PHT_FIELD_VALUE ? field->count : 0;
    }
    if (!utf8 || names != type->length - behind || values != type->value_count || values > VALUES_MAX)
        return pt_corrupt(t, offset, "a type whose names, length or values are not those of its fields");
    status = fingerprint_of(t, type, names, &fingerprint);
    if (status == PHEAP_OK && fingerprint != type->fingerprint)
        return pt_corrupt(t, offset, "a type whose fingerprint is not that of its fields");
    *found = type;
    return status;
}

static enum pheap_status count_types(struct pht *t, uint64_t *list, uint64_t *count)
{
    const struct pt_registry *registry = pt_at(t, t->registry, sizeof *registry);
    if (registry == NULL)
        return PHEAP_CORRUPT;
    *list = registry->types;
    *count = 0;
    return *list == 0 ? PHEAP_OK : pht_list_count(t, *list, count);
}

/* The offset of a type by its number. */
static enum pheap_status offset_of(struct pht *t, uint32_t number, pht_value *type)
{
    uint64_t list, count;
    enum pheap_status status = count_types(t, &list, &count);
    if (status == PHEAP_OK && number >= count)
        return pheap_fail_with(PHEAP_NOT_FOUND, "type number %u: there are %" PRIu64, number, count);
    return status == PHEAP_OK ? pht_list_get(t, list, number, type) : status;
}

enum pheap_status pt_type_at(struct pht *t, uint32_t number, const struct pt_type **found)
{
    pht_value type;
    enum pheap_status status = offset_of(t, number, &type);
    return status == PHEAP_OK ? look(t, type, found) : status;
}

/* The same, which is checked as a whole. */
static enum pheap_status named_type(struct pht *t, uint32_t number, const struct pt_type **found)
{
    pht_value type;
    enum pheap_status status = offset_of(t, number, &type);
    return status == PHEAP_OK ? check(t, type, number, found) : status;
}

enum pheap_status pt_type_check(struct pht *t, uint32_t number)
{
    const struct pt_type *found;
    return named_type(t, number, &found);
}

/* ------------------------------------------------------------------------------------------------------ registering */

static uint64_t length_of(const char *name, uint32_t given)
{
    return name == NULL ? 0 : given != 0 ? given : strlen(name);
}

static bool overlap(const struct pht_field *a, const struct pht_field *b)
{
    return a->offset < b->offset + b->count * b->size && b->offset < a->offset + a->count * a->size;
}

/* Is field `index` possible? */
static enum pheap_status check_field(struct pht *t, const struct pht_layout *layout, uint32_t index)
{
    const struct pht_field *field = &layout->fields[index];
    const uint64_t name = length_of(field->name, field->name_length);
    if (name == 0 || name > 255 || !pt_is_utf8(field->name, name))
        return pheap_fail_with(PHEAP_INVALID, "the name of field %u has %" PRIu64 " bytes, or is not UTF-8", index,
                               name);
    if (!is_possible(field, layout->size))
        return pheap_fail_with(PHEAP_INVALID, "field '%.*s' has an impossible kind, size, place or number of elements",
                               (int)name, field->name);
    if (field->kind == PHT_FIELD_STRUCT) {
        const struct pt_type *inner;
        enum pheap_status status = pt_type_at(t, field->type, &inner);
        if (status != PHEAP_OK)
            return status;
        if (inner->size != field->size || inner->value_count != 0)
            return pheap_fail_with(PHEAP_INVALID, "field '%.*s' has another size than its type, or values in it",
                                   (int)name, field->name);
    }
    for (uint32_t i = 0; i < index; i++)
        if ((field->kind == PHT_FIELD_VALUE || layout->fields[i].kind == PHT_FIELD_VALUE) &&
            overlap(field, &layout->fields[i]))
            return pheap_fail_with(PHEAP_INVALID, "field '%.*s' overlaps a value", (int)name, field->name);
    return PHEAP_OK;
}

/* The type as it will lie in the heap, in memory to be freed. */
static enum pheap_status encode(struct pht *t, const struct pht_layout *layout, struct pt_type **made)
{
    const uint64_t name = layout == NULL ? 0 : length_of(layout->name, layout->name_length);
    if (name == 0 || name > 255 || !pt_is_utf8(layout->name, name) || layout->size == 0 ||
        layout->size > SIZE_MAX_BYTES || layout->field_count > FIELDS_MAX ||
        (layout->fields == NULL && layout->field_count > 0))
        return pheap_fail_with(PHEAP_INVALID,
                               "a type without a name of 1 to 255 bytes of UTF-8, or whose size or number of "
                               "fields is impossible");
    uint64_t bytes = sizeof **made + layout->field_count * sizeof(struct pt_field) + name, values = 0;
    for (uint32_t i = 0; i < layout->field_count; i++) {
        const struct pht_field *field = &layout->fields[i];
        enum pheap_status status = check_field(t, layout, i);
        if (status != PHEAP_OK)
            return status;
        bytes += length_of(field->name, field->name_length);
        values += field->kind == PHT_FIELD_VALUE ? field->count : 0;
    }
    if (values > VALUES_MAX)
        return pheap_fail_with(PHEAP_INVALID, "a type with %" PRIu64 " values; it may have %u", values, VALUES_MAX);
    struct pt_type *type = calloc(1, bytes);
    if (type == NULL)
        return pt_failed(t, pheap_fail_with(PHEAP_NO_MEMORY, "no memory for a type of %u fields", layout->field_count));
    *type = (struct pt_type){.kind = PHT_TYPE,
                             .length = bytes - sizeof(struct pt_leaf),
                             .size = layout->size,
                             .version = layout->version,
                             .field_count = layout->field_count,
                             .name_length = (uint32_t)name,
                             .value_count = (uint32_t)values};
    struct pt_field *fields = (struct pt_field *)(void *)(type + 1);
    char *names = (char *)(fields + layout->field_count);
    memcpy(names, layout->name, name);
    names += name;
    for (uint32_t i = 0; i < layout->field_count; i++) {
        const struct pht_field *from = &layout->fields[i];
        const uint64_t length = length_of(from->name, from->name_length);
        fields[i] = (struct pt_field){.offset = from->offset,
                                      .count = from->count,
                                      .size = (uint32_t)from->size,
                                      .type = from->type,
                                      .kind = (uint8_t)from->kind,
                                      .name_length = (uint8_t)length,
                                      .bit_first = (uint8_t)from->bit_first,
                                      .bit_count = (uint8_t)from->bit_count};
        memcpy(names, from->name, length);
        names += length;
    }
    const uint64_t behind = sizeof *type + layout->field_count * sizeof(struct pt_field);
    enum pheap_status status = fingerprint_of(t, type, bytes - behind, &type->fingerprint);
    if (status == PHEAP_OK)
        *made = type;
    else
        free(type);
    return status;
}

/* Are two fields, with their names, the same? */
static bool same_field(const struct pt_type *a, const char *name_a, const struct pt_type *b, const char *name_b,
                       uint32_t i)
{
    return memcmp(&pt_fields(a)[i], &pt_fields(b)[i], sizeof(struct pt_field)) == 0 &&
           memcmp(name_a, name_b, pt_fields(a)[i].name_length) == 0;
}

/* Two types of one name and version are not the same: say why. */
static enum pheap_status refuse(const struct pt_type *wanted, const struct pt_type *there)
{
    const char *name_w = names_of(wanted), *name_t = names_of(there);
    const int length = (int)wanted->name_length;
    const char *type_name = name_w;
    name_w += wanted->name_length;
    name_t += there->name_length;
    for (uint32_t i = 0; i < wanted->field_count && i < there->field_count; i++) {
        if (!same_field(wanted, name_w, there, name_t, i))
            return pheap_fail_with(
                PHEAP_WRONG_TYPE,
                "type %.*s, version %u: field '%.*s' is not as field '%.*s' in the heap; give the new "
                "layout another version",
                length, type_name, wanted->version, (int)pt_fields(wanted)[i].name_length, name_w,
                (int)pt_fields(there)[i].name_length, name_t);
        name_w += pt_fields(wanted)[i].name_length;
        name_t += pt_fields(there)[i].name_length;
    }
    return pheap_fail_with(PHEAP_WRONG_TYPE,
                           "type %.*s, version %u: %u fields in %" PRIu64 " bytes, and in the heap %u in %" PRIu64
                           "; give the new layout another version",
                           length, type_name, wanted->version, wanted->field_count, wanted->size, there->field_count,
                           there->size);
}

/* The type of a name and version: *number, or PHT_ANY_TYPE if there is none. */
static enum pheap_status find(struct pht *t, const char *name, uint64_t length, uint32_t version, uint32_t *number,
                              const struct pt_type **found)
{
    uint64_t list, count;
    enum pheap_status status = count_types(t, &list, &count);
    *number = PHT_ANY_TYPE;
    for (uint32_t i = 0; i < count && status == PHEAP_OK; i++) {
        status = named_type(t, i, found);
        if (status == PHEAP_OK && (*found)->version == version && (*found)->name_length == length &&
            memcmp(names_of(*found), name, length) == 0) {
            *number = i;
            return PHEAP_OK;
        }
    }
    return status;
}

/* Append an encoded type to those of the registry, whose list may have to be made. */
static enum pheap_status add(struct pht *t, const struct pt_type *type, uint32_t *number)
{
    uint64_t list, count, offset;
    const uint64_t bytes = sizeof(struct pt_leaf) + type->length;
    enum pheap_status status = count_types(t, &list, &count);
    if (status == PHEAP_OK && count >= TYPES_MAX)
        return pheap_fail_with(PHEAP_FULL, "a heap has at most %u types", TYPES_MAX);
    if (status == PHEAP_OK && list == 0) {
        status = pht_list_new(t, &list);
        if (status == PHEAP_OK)
            status = pt_refer(t, list);
        if (status == PHEAP_OK)
            status = pt_put(t, t->registry + offsetof(struct pt_registry, types), list);
    }
    if (status == PHEAP_OK)
        status = pt_alloc(t, bytes, false, &offset);
    if (status != PHEAP_OK)
        return status;
    memcpy(t->base + offset, type, bytes);
    *number = (uint32_t)count;
    return pht_list_append(t, list, pht_of(offset));
}

enum pheap_status pht_type_register(struct pht *t, const struct pht_layout *layout, uint32_t *type)
{
    struct pt_type *wanted = NULL;
    const struct pt_type *there = NULL;
    uint32_t number = PHT_ANY_TYPE;
    if (type == NULL)
        return pheap_fail_with(PHEAP_INVALID, "pht_type_register: type is NULL");
    enum pheap_status status = encode(t, layout, &wanted);
    if (status == PHEAP_OK)
        status = find(t, names_of(wanted), wanted->name_length, wanted->version, &number, &there);
    if (status == PHEAP_OK && number == PHT_ANY_TYPE) {
        status = pt_may_change(t);
        if (status == PHEAP_OK)
            status = add(t, wanted, &number);
    } else if (status == PHEAP_OK &&
               (there->length != wanted->length || memcmp(&there->size, &wanted->size, wanted->length) != 0)) {
        status = refuse(wanted, there);
    }
    free(wanted);
    if (status == PHEAP_OK)
        *type = number;
    return status;
}

enum pheap_status pht_type_find(struct pht *t, const char *name, uint32_t version, uint32_t *type)
{
    uint32_t number;
    const struct pt_type *found;
    if (name == NULL || type == NULL)
        return pheap_fail_with(PHEAP_INVALID, "pht_type_find: name or type is NULL");
    enum pheap_status status = find(t, name, strlen(name), version, &number, &found);
    if (status == PHEAP_OK && number == PHT_ANY_TYPE)
        return pheap_fail_with(PHEAP_NOT_FOUND, "the heap has no type %s of version %u", name, version);
    if (status == PHEAP_OK)
        *type = number;
    return status;
}

enum pheap_status pht_type_show(struct pht *t, uint32_t type, struct pht_layout *layout, struct pht_field *fields,
                                uint32_t room, uint64_t *fingerprint)
{
    const struct pt_type *found;
    if (layout == NULL || (fields == NULL && room > 0))
        return pheap_fail_with(PHEAP_INVALID, "pht_type_show: layout or fields is NULL");
    enum pheap_status status = named_type(t, type, &found);
    if (status != PHEAP_OK)
        return status;
    const char *name = names_of(found);
    *layout = (struct pht_layout){.name = name,
                                  .name_length = found->name_length,
                                  .version = found->version,
                                  .size = found->size,
                                  .field_count = found->field_count,
                                  .fields = fields};
    name += found->name_length;
    for (uint32_t i = 0; i < found->field_count && i < room; i++) {
        const struct pt_field *field = &pt_fields(found)[i];
        fields[i] = shown(field, name);
        name += field->name_length;
    }
    if (fingerprint != NULL)
        *fingerprint = found->fingerprint;
    return PHEAP_OK;
}
