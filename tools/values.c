/* SPDX-License-Identifier: MIT */
/* Values in an answer. */
#include "tools/values.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>

#define KEY_ELEMENTS_MAX 16u

enum exit_code values_look(struct output *output, pheap *heap,
                           enum exit_code (*look)(struct output *output, struct pht *t))
{
    struct pht t;
    pheap_read *reader = NULL;
    enum pheap_status status = pheap_read_begin(heap, 0, &reader);
    if (status != PHEAP_OK)
        return output_failure(output, status);
    output_json_u64(output, "version", pheap_read_version(reader));
    status = pht_look(reader, &t);
    const enum exit_code code = status == PHEAP_NOT_FOUND
                                    ? output_failure_text(output, status, "the heap has no values")
                                : status != PHEAP_OK ? output_failure(output, status)
                                                     : look(output, &t);
    pheap_read_end(reader);
    return code;
}

const char *values_field_kind_name(uint32_t kind)
{
    static const char *const names[] = {"?", "signed", "unsigned", "float", "bool", "char", "value", "struct"};
    return names[kind < sizeof names / sizeof names[0] ? kind : 0];
}

/* ------------------------------------------------------------------------------------------------------- containers */

enum pheap_status values_type(struct pht *t, pht_value value, enum pht_kind kind, uint32_t *type)
{
    uint64_t offset;
    struct pht_elements elements;
    if (kind == PHT_RECORD)
        return pht_record_at(t, value, PHT_ANY_TYPE, &offset, type);
    const enum pheap_status status = pht_elements_at(t, value, PHT_ANY_TYPE, &elements);
    if (status == PHEAP_OK)
        *type = elements.type;
    return status;
}

enum pheap_status values_count(struct pht *t, pht_value value, bool *parts, uint64_t *count)
{
    enum pht_kind kind;
    uint64_t offset;
    uint32_t type;
    struct pht_layout layout;
    enum pheap_status status = pht_kind_of(t, value, &kind);
    *parts = status == PHEAP_OK && kind >= PHT_ARRAY;
    *count = 0;
    if (!*parts)
        return status;
    switch (kind) {
    case PHT_MAP:
        return pht_map_count(t, value, count);
    case PHT_LIST:
        return pht_list_count(t, value, count);
    case PHT_TUPLE:
        return pht_tuple_count(t, value, count);
    case PHT_FROZENSET:
        return pht_frozenset_count(t, value, count);
    case PHT_QUEUE:
        return pht_queue_count(t, value, count);
    case PHT_OMAP:
        return pht_omap_count(t, value, count);
    case PHT_ARRAY:
        return pht_array_at(t, value, PHT_ANY_TYPE, &offset, count);
    case PHT_RING:
        return pht_ring_count(t, value, count, NULL);
    case PHT_RECORD:
        status = values_type(t, value, kind, &type);
        if (status == PHEAP_OK)
            status = pht_type_show(t, type, &layout, NULL, 0, NULL);
        if (status == PHEAP_OK)
            *count = layout.field_count;
        return status;
    default: /* sets of any kind */
        return pht_set_count(t, value, count);
    }
}

static enum pheap_status write_container(struct output *output, struct pht *t, pht_value value, enum pht_kind kind)
{
    uint64_t count;
    bool parts;
    enum pheap_status status = values_count(t, value, &parts, &count);
    if (status != PHEAP_OK)
        return status;
    struct pht_layout layout = {.name = ""};
    const bool typed = kind == PHT_RECORD || kind == PHT_ARRAY || kind == PHT_RING;
    if (typed) {
        uint32_t type;
        status = values_type(t, value, kind, &type);
        if (status == PHEAP_OK)
            status = pht_type_show(t, type, &layout, NULL, 0, NULL);
        if (status != PHEAP_OK)
            return status;
    }
    output_text(output, "%s", pht_kind_name(kind));
    if (kind != PHT_RECORD)
        output_text(output, " of %" PRIu64, count);
    output_json_string(output, "kind", pht_kind_name(kind));
    output_json_u64(output, "offset", value);
    output_json_u64(output, "count", count);
    if (typed) {
        output_text(output, " ");
        output_visible_bytes(output, layout.name, layout.name_length);
        output_text(output, " version %" PRIu32, layout.version);
        output_json_bytes(output, "type", layout.name, layout.name_length);
        output_json_u64(output, "type_version", layout.version);
    }
    output_text(output, " @%" PRIu64, value);
    return PHEAP_OK;
}

/* ------------------------------------------------------------------------------------------------ without parts */

/* An int beyond 64 bits, in hexadecimal. */
static void write_limbs(struct output *output, const struct pht_any *any)
{
    const uint64_t digits_max = output->request->width_max;
    const uint64_t shown = any->length * 16 <= digits_max ? any->length : digits_max / 16 + 1;
    char *text = malloc((size_t)shown * 16 + 32);
    if (text == NULL)
        return;
    const uint64_t count = shown < any->length ? shown : any->length;
    uint64_t limb, at = (uint64_t)sprintf(text, "%s0x", any->negative ? "-" : "");
    for (uint64_t i = 0; i < count; i++) {
        memcpy(&limb, (const unsigned char *)any->bytes + (any->length - 1 - i) * 8, sizeof limb);
        at += (uint64_t)sprintf(text + at, i == 0 ? "%" PRIx64 : "%016" PRIx64, limb);
    }
    output_text(output, "%s%s", text, count < any->length ? "..." : "");
    output_json_string(output, "value", text);
    if (count < any->length)
        output_json_u64(output, "limbs", any->length);
    free(text);
}

static void write_float(struct output *output, double real)
{
    char text[40];
    (void)snprintf(text, sizeof text, "%.17g", real);
    output_text(output, "%s%s", text, isfinite(real) && strpbrk(text, ".e") == NULL ? ".0" : "");
    output_json_double(output, "value", real);
}

/* Bytes as hexadecimal digits. */
static void write_bytes(struct output *output, const unsigned char *bytes, uint64_t length)
{
    char *text = malloc((size_t)length * 2 + 1);
    if (text == NULL)
        return;
    for (uint64_t i = 0; i < length; i++)
        (void)sprintf(text + 2 * i, "%02x", bytes[i]);
    text[2 * length] = '\0';
    output_text(output, "hex %s", text);
    output_json_string(output, "value", text);
    free(text);
}

/* A str or bytes, cut to what may be shown. */
static void write_long(struct output *output, const struct pht_any *any)
{
    const uint64_t most = output->request->width_max;
    const unsigned char *bytes = any->bytes;
    uint64_t length = any->length < most ? any->length : most;
    if (any->kind == PHT_STR) {
        while (length < any->length && length > 0 &&
               (bytes[length] & 0xc0) == 0x80) /* not in the middle of a character */
            length--;
        output_text(output, "\"");
        output_visible_bytes(output, bytes, length);
        output_text(output, "\"");
        output_json_bytes(output, "value", bytes, length);
    } else {
        write_bytes(output, bytes, length);
    }
    if (length < any->length) {
        output_text(output, "... (%" PRIu64 " bytes)", any->length);
        output_json_u64(output, "bytes", any->length);
    }
}

enum pheap_status values_write(struct output *output, struct pht *t, pht_value value)
{
    struct pht_any any;
    enum pheap_status status = pht_show(t, &value, &any);
    if (status != PHEAP_OK)
        return status;
    const enum pht_kind kind = (enum pht_kind)any.kind;
    if (kind >= PHT_ARRAY)
        return write_container(output, t, value, kind);
    output_json_string(output, "kind", pht_kind_name(kind));
    switch (kind) {
    case PHT_NONE:
        output_text(output, "none");
        output_json_null(output, "value");
        break;
    case PHT_BOOL:
        output_text(output, "%s", any.integer ? "true" : "false");
        output_json_bool(output, "value", any.integer != 0);
        break;
    case PHT_INT:
        if (any.bytes != NULL) {
            write_limbs(output, &any);
        } else {
            output_text(output, "%" PRId64, any.integer);
            output_json_i64(output, "value", any.integer);
        }
        break;
    case PHT_FLOAT:
        write_float(output, any.real);
        break;
    case PHT_STR:
    case PHT_BYTES:
        write_long(output, &any);
        break;
    default:
        output_text(output, "%s of %" PRIu64 " bytes @%" PRIu64, pht_kind_name(kind), any.length, value);
        output_json_u64(output, "offset", value);
        output_json_u64(output, "bytes", any.length);
        break;
    }
    return PHEAP_OK;
}

enum pheap_status values_write_key(struct output *output, struct pht *t, pht_value value)
{
    enum pht_kind kind;
    uint64_t count;
    enum pheap_status status = pht_kind_of(t, value, &kind);
    if (status != PHEAP_OK || (kind != PHT_TUPLE && kind != PHT_FROZENSET))
        return status == PHEAP_OK ? values_write(output, t, value) : status;
    const bool tuple = kind == PHT_TUPLE;
    status = tuple ? pht_tuple_count(t, value, &count) : pht_frozenset_count(t, value, &count);
    if (status != PHEAP_OK)
        return status;
    output_text(output, "(");
    output_json_string(output, "kind", pht_kind_name(kind));
    output_json_u64(output, "offset", value);
    output_json_u64(output, "count", count);
    output_json_begin(output, "elements", '[');
    for (uint64_t i = 0; i < count && i < KEY_ELEMENTS_MAX && status == PHEAP_OK; i++) {
        pht_value element;
        output_text(output, i == 0 ? "" : ", ");
        output_json_begin(output, NULL, '{');
        status = tuple ? pht_tuple_get(t, value, i, &element) : pht_frozenset_get(t, value, i, &element);
        if (status == PHEAP_OK)
            status = values_write(output, t, element);
        output_json_end(output, '}');
    }
    output_json_end(output, ']');
    output_text(output, count > KEY_ELEMENTS_MAX ? ", ...)" : ")");
    return status;
}

/* ---------------------------------------------------------------------------------------------------------- structs */

/* The integer at `bytes`, with its sign, or the bits of it that a bit field has. */
static int64_t integer_at(const unsigned char *bytes, const struct pht_field *field)
{
    uint64_t word = 0;
    unsigned bits = (unsigned)field->size * 8;
    memcpy(&word, bytes, (size_t)field->size);
    if (field->bit_count != 0) {
        bits = field->bit_count;
        word >>= field->bit_first;
    }
    if (bits < 64) {
        word &= (UINT64_C(1) << bits) - 1;
        if (field->kind == PHT_FIELD_SIGNED && word >> (bits - 1) != 0)
            word |= ~UINT64_C(0) << bits;
    }
    return (int64_t)word;
}

static void write_element(struct output *output, const struct pht_field *field, const unsigned char *bytes,
                          const char *key)
{
    if (field->kind == PHT_FIELD_FLOAT) {
        double real;
        float narrow;
        memcpy(&narrow, bytes, sizeof narrow);
        if (field->size == sizeof real)
            memcpy(&real, bytes, sizeof real);
        else
            real = (double)narrow;
        output_text(output, "%.17g", real);
        output_json_double(output, key, real);
    } else if (field->kind == PHT_FIELD_BOOL) {
        output_text(output, "%s", bytes[0] ? "true" : "false");
        output_json_bool(output, key, bytes[0] != 0);
    } else if (field->kind == PHT_FIELD_UNSIGNED) {
        output_text(output, "%" PRIu64, (uint64_t)integer_at(bytes, field));
        output_json_u64(output, key, (uint64_t)integer_at(bytes, field));
    } else {
        output_text(output, "%" PRId64, integer_at(bytes, field));
        output_json_i64(output, key, integer_at(bytes, field));
    }
}

void values_write_field(struct output *output, const struct pht *t, const struct pht_field *field, uint64_t offset)
{
    const unsigned char *bytes = t->base + offset + field->offset;
    if (field->kind == PHT_FIELD_CHAR) {
        const void *zero = memchr(bytes, 0, (size_t)field->count);
        uint64_t length = zero == NULL ? field->count : (uint64_t)((const unsigned char *)zero - bytes);
        length = length < output->request->width_max ? length : output->request->width_max;
        output_text(output, "\"");
        output_visible_bytes(output, bytes, length);
        output_text(output, "\"");
        output_json_bytes(output, "value", bytes, length);
        return;
    }
    if (field->count == 1) {
        write_element(output, field, bytes, "value");
        return;
    }
    const uint64_t most = output->request->count_max;
    output_text(output, "[");
    output_json_begin(output, "value", '[');
    for (uint64_t i = 0; i < field->count && i < most; i++) {
        output_text(output, i == 0 ? "" : ", ");
        write_element(output, field, bytes + i * field->size, NULL);
    }
    output_json_end(output, ']');
    output_text(output, field->count > most ? ", ...]" : "]");
}
