/* SPDX-License-Identifier: MIT */
/* Records: a head, and one struct as its type lays it out. */
#include "types/type.h"
#include "types/value.h"

#include <inttypes.h>
#include <stdlib.h>

#define TAKE_MAX 16384u /* bytes of a struct that another record takes over */

/* A record that lies in the heap as a whole, and its type. */
static enum pheap_status check(struct pht *t, uint64_t record, const struct pt_type **type)
{
    const struct pt_head *head = pt_head(t, record);
    if (head == NULL)
        return PHEAP_CORRUPT;
    enum pheap_status status = pt_type_at(t, head->kind - PHT_RECORD, type);
    if (status == PHEAP_NOT_FOUND)
        return pt_corrupt(t, record, "a record of a type that there is not");
    if (status == PHEAP_OK && (*type)->size > t->size - record - sizeof *head)
        return pt_corrupt(t, record, "a record longer than the heap");
    return status;
}

/* A record that the caller names. */
static enum pheap_status use(struct pht *t, pht_value record, const struct pt_type **type)
{
    enum pht_kind kind;
    enum pheap_status status = pht_kind_of(t, record, &kind);
    if (status == PHEAP_OK && kind != PHT_RECORD)
        return pheap_fail_with(PHEAP_WRONG_TYPE, "record expected, the value 0x%" PRIx64 " is %s", record,
                               pht_kind_name(kind));
    return status == PHEAP_OK ? check(t, record, type) : status;
}

static bool is_value(const struct pt_type *type, uint64_t place)
{
    for (uint32_t i = 0; i < type->field_count; i++) {
        const struct pt_field *field = &pt_fields(type)[i];
        if (place >= field->offset && place - field->offset < pt_values(type, field) * sizeof(pht_value) &&
            place % sizeof(pht_value) == 0)
            return true;
    }
    return false;
}

static pt_word *word_at(const struct pht *t, uint64_t record, uint64_t place)
{
    return (pt_word *)(void *)(t->base + record + sizeof(struct pt_head) + place);
}

enum pheap_status pht_record_new(struct pht *t, uint32_t type, pht_value *record)
{
    const struct pt_type *found;
    enum pheap_status status = pt_type_at(t, type, &found);
    if (status != PHEAP_OK)
        return status;
    return pt_container_new(t, (enum pht_kind)(PHT_RECORD + type), sizeof(struct pt_head) + found->size, record);
}

enum pheap_status pht_record_at(struct pht *t, pht_value record, uint32_t type, uint64_t *offset, uint32_t *found)
{
    const struct pt_type *real;
    if (offset == NULL)
        return pheap_fail_with(PHEAP_INVALID, "pht_record_at: offset is NULL");
    enum pheap_status status = use(t, record, &real);
    if (status != PHEAP_OK)
        return status;
    const uint32_t number = ((const struct pt_head *)(const void *)(t->base + record))->kind - PHT_RECORD;
    if (type != PHT_ANY_TYPE && type != number)
        return pheap_fail_with(PHEAP_WRONG_TYPE, "the record at 0x%" PRIx64 " is of type number %u, not %u", record,
                               number, type);
    *offset = record + sizeof(struct pt_head);
    if (found != NULL)
        *found = number;
    return PHEAP_OK;
}

static enum pheap_status refuse_field(pht_value record, uint64_t field)
{
    return pheap_fail_with(PHEAP_INVALID, "the type of the record at 0x%" PRIx64 " has no value at %" PRIu64, record,
                           field);
}

enum pheap_status pht_record_get(struct pht *t, pht_value record, uint64_t field, pht_value *value)
{
    const struct pt_type *type;
    if (value == NULL)
        return pheap_fail_with(PHEAP_INVALID, "pht_record_get: value is NULL");
    enum pheap_status status = use(t, record, &type);
    if (status != PHEAP_OK)
        return status;
    if (!is_value(type, field))
        return refuse_field(record, field);
    *value = *word_at(t, record, field);
    return PHEAP_OK;
}

enum pheap_status pht_record_set(struct pht *t, pht_value record, uint64_t field, struct pht_any value)
{
    struct pt_key key;
    pht_value word = PHT_ABSENT;
    const struct pt_type *type;
    const bool absent = value.kind == PHT_VALUE && value.value == PHT_ABSENT;
    enum pheap_status status = pt_may_change(t);
    if (status == PHEAP_OK)
        status = use(t, record, &type);
    if (status == PHEAP_OK && !is_value(type, field))
        return refuse_field(record, field);
    if (status == PHEAP_OK && !absent)
        status = pt_key(t, &value, &key);
    if (status == PHEAP_OK && !absent)
        status = pt_store(t, &value, &word);
    if (status != PHEAP_OK)
        return status;
    const pht_value old = *word_at(t, record, field);
    status = pt_then_limbo(t, pt_put(t, record + sizeof(struct pt_head) + field, word));
    return status == PHEAP_OK ? pt_drop(t, old) : status;
}

/* The values of a struct, in memory to be freed: *count words, those that are absent too. */
static enum pheap_status copy_values(const struct pht *t, uint64_t record, const struct pt_type *type,
                                     pht_value **words, size_t *count)
{
    size_t found = 0;
    *words = malloc((type->size / sizeof(pht_value) + 1) * sizeof **words);
    if (*words == NULL)
        return pheap_fail_with(PHEAP_NO_MEMORY, "no memory for the values of a record");
    for (uint32_t i = 0; i < type->field_count; i++) {
        const struct pt_field *field = &pt_fields(type)[i];
        for (uint64_t n = 0; n < pt_values(type, field) && found < type->size / sizeof(pht_value); n++)
            (*words)[found++] = *word_at(t, record, field->offset + n * sizeof(pht_value));
    }
    *count = found;
    return PHEAP_OK;
}

/* Is there room for a struct of this size in the block of a record? */
static enum pheap_status check_room(const struct pht *t, uint64_t record, uint64_t size)
{
    uint64_t room;
    enum pheap_status status = pheap_usable_size(t->txn, record, &room);
    if (status != PHEAP_OK)
        return pheap_fail_with(PHEAP_CORRUPT, "the record at 0x%" PRIx64 " is no block: %s", record,
                               pheap_error_detail());
    if (size > TAKE_MAX || room < sizeof(struct pt_head) + size)
        return pheap_fail_with(
            PHEAP_INVALID, "the record at 0x%" PRIx64 " has no room for a struct of %" PRIu64 " bytes", record, size);
    return PHEAP_OK;
}

enum pheap_status pht_record_take(struct pht *t, pht_value record, pht_value from)
{
    const struct pt_type *old, *new;
    void *to_bytes, *from_bytes;
    pht_value *dropped = NULL;
    size_t count = 0;
    enum pheap_status status = pt_may_change(t);
    if (status == PHEAP_OK)
        status = use(t, record, &old);
    if (status == PHEAP_OK)
        status = use(t, from, &new);
    if (status == PHEAP_OK && record == from)
        return pheap_fail_with(PHEAP_INVALID, "a record cannot take over itself");
    if (status == PHEAP_OK)
        status = check_room(t, record, new->size > old->size ? new->size : old->size);
    if (status == PHEAP_OK)
        status = copy_values(t, record, old, &dropped, &count);
    if (status != PHEAP_OK)
        return status;
    const size_t larger = new->size > old->size ? new->size : old->size;
    status = pt_edit(t, record, sizeof(struct pt_head) + larger, &to_bytes);
    if (status == PHEAP_OK)
        status = pt_edit(t, from, sizeof(struct pt_head) + new->size, &from_bytes);
    if (status == PHEAP_OK) {
        char *content = (char *)to_bytes + sizeof(struct pt_head);
        memcpy(content, (char *)from_bytes + sizeof(struct pt_head), new->size);
        memset(content + new->size, 0, larger - new->size);
        memset((char *)from_bytes + sizeof(struct pt_head), 0, new->size);
        ((struct pt_head *)to_bytes)->kind = ((const struct pt_head *)from_bytes)->kind;
    }
    for (size_t i = 0; i < count && status == PHEAP_OK; i++)
        if (dropped[i] != PHT_ABSENT)
            status = pt_drop(t, dropped[i]);
    free(dropped);
    return pt_then_limbo(t, status);
}

enum pheap_status pt_record_dismantle(struct pht *t, uint64_t record, uint32_t *budget, bool *done)
{
    const struct pt_type *type;
    enum pheap_status status = check(t, record, &type);
    if (status != PHEAP_OK)
        return status;
    for (uint32_t i = 0; i < type->field_count; i++) {
        const struct pt_field *field = &pt_fields(type)[i];
        for (uint64_t n = 0, count = pt_values(type, field); n < count; n++) {
            const uint64_t place = field->offset + n * sizeof(pht_value);
            const pht_value word = *word_at(t, record, place);
            if (word == PHT_ABSENT)
                continue;
            if (*budget == 0)
                return PHEAP_OK;
            status = pt_put(t, record + sizeof(struct pt_head) + place, PHT_ABSENT);
            if (status == PHEAP_OK)
                status = pt_drop(t, word);
            if (status != PHEAP_OK)
                return status;
            --*budget;
        }
    }
    *done = true;
    return PHEAP_OK;
}

enum pheap_status pt_record_visit(struct pt_visit *visit)
{
    const struct pt_type *type;
    enum pheap_status status = check(visit->t, visit->object, &type);
    if (status == PHEAP_OK)
        status = visit->part(visit, visit->object, sizeof(struct pt_head) + type->size);
    for (uint32_t i = 0; status == PHEAP_OK && i < type->field_count; i++) {
        const struct pt_field *field = &pt_fields(type)[i];
        for (uint64_t n = 0, count = pt_values(type, field); n < count && status == PHEAP_OK; n++) {
            const pht_value word = *word_at(visit->t, visit->object, field->offset + n * sizeof(pht_value));
            if (word != PHT_ABSENT)
                status = visit->word(visit, word);
        }
    }
    return status;
}
