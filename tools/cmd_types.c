/* SPDX-License-Identifier: MIT */
/*
 * pheap types: the layouts of structs that are registered in a heap of values.
 */
#include <inttypes.h>
#include <stdlib.h>

#include "tools/values.h"

static void write_field(struct output *output, const struct pht_field *field)
{
    output_text(output, "  %8" PRIu64 " %8" PRIu64 "  %-8s  ", field->offset, field->size,
                values_field_kind_name(field->kind));
    output_visible_bytes(output, field->name, field->name_length);
    output_json_begin(output, NULL, '{');
    output_json_bytes(output, "name", field->name, field->name_length);
    output_json_string(output, "kind", values_field_kind_name(field->kind));
    output_json_u64(output, "offset", field->offset);
    output_json_u64(output, "size", field->size);
    output_json_u64(output, "count", field->count);
    if (field->count > 1)
        output_text(output, "[%" PRIu64 "]", field->count);
    if (field->kind == PHT_FIELD_STRUCT) {
        output_text(output, ", of type %" PRIu32, field->type);
        output_json_u64(output, "type", field->type);
    }
    if (field->bit_count > 0) {
        output_text(output, ", %" PRIu32 " bits from bit %" PRIu32, field->bit_count, field->bit_first);
        output_json_u64(output, "bit_first", field->bit_first);
        output_json_u64(output, "bit_count", field->bit_count);
    }
    output_text(output, "\n");
    output_json_end(output, '}');
}

static void write_type(struct output *output, uint32_t number, const struct pht_layout *layout, uint64_t fingerprint)
{
    char text[17];
    (void)snprintf(text, sizeof text, "%016" PRIx64, fingerprint);
    output_text(output, "type %" PRIu32 ": ", number);
    output_visible_bytes(output, layout->name, layout->name_length);
    output_text(output, " version %" PRIu32 ", %" PRIu64 " bytes, %" PRIu32 " field%s, fingerprint %s\n",
                layout->version, layout->size, layout->field_count, layout->field_count == 1 ? "" : "s", text);
    output_json_begin(output, NULL, '{');
    output_json_u64(output, "number", number);
    output_json_bytes(output, "name", layout->name, layout->name_length);
    output_json_u64(output, "version", layout->version);
    output_json_u64(output, "size", layout->size);
    output_json_string(output, "fingerprint", text);
    if (layout->field_count > 0)
        output_text(output, "  %8s %8s  %-8s  name\n", "offset", "size", "kind");
    output_json_begin(output, "fields", '[');
    for (uint32_t i = 0; i < layout->field_count; i++)
        write_field(output, &layout->fields[i]);
    output_json_end(output, ']');
    output_json_end(output, '}');
}

/* NOT_FOUND behind the last. */
static enum pheap_status show_type(struct output *output, struct pht *t, uint32_t number)
{
    struct pht_layout layout;
    uint64_t fingerprint;
    enum pheap_status status = pht_type_show(t, number, &layout, NULL, 0, &fingerprint);
    if (status != PHEAP_OK)
        return status;
    struct pht_field *fields = calloc((size_t)layout.field_count + 1, sizeof *fields);
    if (fields == NULL)
        return pheap_fail_with(PHEAP_NO_MEMORY, "no memory for the fields of a type");
    status = pht_type_show(t, number, &layout, fields, layout.field_count, NULL);
    if (status == PHEAP_OK)
        write_type(output, number, &layout, fingerprint);
    free(fields);
    return status;
}

static enum exit_code show_types(struct output *output, struct pht *t)
{
    uint32_t number = 0;
    enum pheap_status status;
    output_json_begin(output, "types", '[');
    while ((status = show_type(output, t, number)) == PHEAP_OK)
        number++;
    output_json_end(output, ']');
    if (number == 0 && status == PHEAP_NOT_FOUND)
        output_text(output, "no types are registered\n");
    return status == PHEAP_NOT_FOUND ? EXIT_DONE : output_failure(output, status);
}

static enum exit_code types_of_heap(struct output *output, pheap *heap)
{
    return values_look(output, heap, show_types);
}

enum exit_code cmd_types(const struct request *request, struct output *output)
{
    (void)request;
    return output_look(output, types_of_heap);
}
