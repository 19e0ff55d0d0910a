/* SPDX-License-Identifier: MIT */
/*
 * pheap show: the values of a heap, from the root or from where a path of keys and indexes leads, as a tree.
 *
 * The walk keeps its own stack, which is bounded, and shows what is inside a container once, however often it is met:
 * so values that contain themselves, or share much, end as well.  What is damaged is told in its place, and the walk
 * goes on.
 */
#include <inttypes.h>
#include <stdlib.h>

#include "tools/values.h"

#define FRAMES_MAX 26 /* three levels of JSON each, and what is around them: see OUTPUT_DEPTH_MAX */
#define LABEL_BYTES 320

/* Something that is shown: a value, a struct within something, or another field of a struct. */
struct item {
    enum { ITEM_VALUE, ITEM_STRUCT, ITEM_FIELD } what;
    pht_value value;
    uint32_t type;   /* of the struct */
    uint64_t offset; /* where the struct begins, or that which has the field */
    struct pht_field field;
    /* How it is found in what it is a part of. */
    pht_value key; /* PHT_ABSENT if there is none */
    uint64_t index;
    char name[LABEL_BYTES]; /* of a field, with the number of the element; ends with a zero byte */
};

/* A container that is being shown. */
struct frame {
    enum pht_kind kind;       /* PHT_RECORD for any struct */
    pht_value value;          /* PHT_ABSENT: a struct within something */
    uint64_t count;           /* parts; for a struct the values of an array are one each */
    uint64_t index, cursor;   /* of the next */
    uint32_t type;            /* of the structs */
    uint64_t offset, size;    /* of the struct, or the first of them */
    uint64_t field, element;  /* next */
    struct pht_layout layout; /* of a struct */
    struct pht_field *fields; /* owned */
    bool wrapped;             /* in JSON an object is around it */
};

struct show {
    struct output *output;
    struct pht *t;
    struct frame frames[FRAMES_MAX];
    unsigned depth;
    pht_value *seen; /* containers that were opened, by hash; owned */
    uint64_t seen_count, seen_room;
    enum pheap_status status; /* the first failure */
};

/* ------------------------------------------------------------------------------------------------- what is inside */

static enum pheap_status open_struct(struct frame *frame, struct pht *t)
{
    enum pheap_status status = pht_type_show(t, frame->type, &frame->layout, NULL, 0, NULL);
    if (status != PHEAP_OK)
        return status;
    frame->fields = calloc((size_t)frame->layout.field_count + 1, sizeof *frame->fields);
    if (frame->fields == NULL)
        return pheap_fail_with(PHEAP_NO_MEMORY, "no memory for the fields of a type");
    frame->kind = PHT_RECORD;
    status = pht_type_show(t, frame->type, &frame->layout, frame->fields, frame->layout.field_count, NULL);
    for (uint32_t i = 0; i < frame->layout.field_count && status == PHEAP_OK; i++) {
        const struct pht_field *field = &frame->fields[i];
        frame->count += field->kind == PHT_FIELD_VALUE || field->kind == PHT_FIELD_STRUCT ? field->count : 1;
    }
    return status;
}

/* *parts: there is something inside; else the frame is not open. */
static enum pheap_status open_frame(struct frame *frame, struct pht *t, const struct item *item, bool *parts)
{
    *frame = (struct frame){.value = item->value, .type = item->type, .offset = item->offset};
    *parts = item->what == ITEM_STRUCT;
    if (item->what == ITEM_STRUCT)
        return open_struct(frame, t);
    if (item->what == ITEM_FIELD || item->value == PHT_ABSENT)
        return PHEAP_OK;
    enum pheap_status status = values_count(t, item->value, parts, &frame->count);
    if (status == PHEAP_OK && *parts)
        status = pht_kind_of(t, item->value, &frame->kind);
    if (status != PHEAP_OK || !*parts)
        return status;
    if (frame->kind == PHT_RECORD) {
        frame->count = 0;
        status = pht_record_at(t, item->value, PHT_ANY_TYPE, &frame->offset, &frame->type);
        return status == PHEAP_OK ? open_struct(frame, t) : status;
    }
    if (frame->kind == PHT_ARRAY || frame->kind == PHT_RING) {
        struct pht_elements elements;
        status = pht_elements_at(t, item->value, PHT_ANY_TYPE, &elements);
        if (status != PHEAP_OK)
            return status;
        frame->type = elements.type;
        frame->offset = elements.offset;
        frame->size = elements.size;
    }
    return status;
}

static void close_frame(struct frame *frame)
{
    free(frame->fields);
    frame->fields = NULL;
}

/* The next field, or element of one. */
static enum pheap_status next_field(struct frame *frame, struct pht *t, struct item *item)
{
    const struct pht_field *field = &frame->fields[frame->field];
    const bool many = field->kind == PHT_FIELD_VALUE || field->kind == PHT_FIELD_STRUCT;
    const uint64_t at = field->offset + frame->element * field->size;
    enum pheap_status status = PHEAP_OK;
    item->field = *field;
    item->offset = frame->offset;
    item->what = ITEM_FIELD;
    const int length = snprintf(item->name, 257, "%.*s", (int)field->name_length, field->name);
    if (many && field->count > 1)
        (void)snprintf(item->name + length, sizeof item->name - 257, "[%" PRIu64 "]", frame->element);
    if (field->kind == PHT_FIELD_STRUCT) {
        item->what = ITEM_STRUCT;
        item->type = field->type;
        item->offset = frame->offset + at;
    } else if (field->kind == PHT_FIELD_VALUE) {
        item->what = ITEM_VALUE;
        status = pht_record_get(t, frame->value, at, &item->value);
    }
    if (!many || ++frame->element == field->count) {
        frame->field++;
        frame->element = 0;
    }
    return status;
}

/* END behind the last. */
static enum pheap_status next_item(struct frame *frame, struct pht *t, struct item *item)
{
    *item = (struct item){.what = ITEM_VALUE, .index = frame->index};
    if (frame->index >= frame->count)
        return PHEAP_END;
    const uint64_t index = frame->index++;
    switch (frame->kind) {
    case PHT_MAP:
        return pht_map_next(t, frame->value, &frame->cursor, &item->key, &item->value);
    case PHT_OMAP:
        return pht_omap_at(t, frame->value, index, &item->key, &item->value);
    case PHT_LIST:
        return pht_list_get(t, frame->value, index, &item->value);
    case PHT_TUPLE:
        return pht_tuple_get(t, frame->value, index, &item->value);
    case PHT_FROZENSET:
        return pht_frozenset_get(t, frame->value, index, &item->value);
    case PHT_QUEUE:
        return pht_queue_get(t, frame->value, index, &item->value);
    case PHT_ARRAY:
        item->what = ITEM_STRUCT;
        item->type = frame->type;
        item->offset = frame->offset + index * frame->size;
        return PHEAP_OK;
    case PHT_RING:
        item->what = ITEM_STRUCT;
        item->type = frame->type;
        return pht_ring_at(t, frame->value, frame->type, index, &item->offset);
    case PHT_RECORD:
        return next_field(frame, t, item);
    default:
        return pht_set_next(t, frame->value, &frame->cursor, &item->value);
    }
}

/* --------------------------------------------------------------------------------------------------------- the path */

static bool is_number(const char *text, int64_t *number)
{
    char *end = NULL;
    const char *digits = text[0] == '-' ? text + 1 : text;
    if (digits[0] < '0' || digits[0] > '9' || strlen(digits) > 18)
        return false;
    *number = strtoll(text, &end, 10);
    return *end == '\0';
}

static enum pheap_status get(struct pht *t, const struct frame *frame, struct pht_any key, pht_value *value)
{
    return frame->kind == PHT_MAP ? pht_map_get(t, frame->value, key, value)
                                  : pht_omap_get(t, frame->value, key, value);
}

/* By its key, a str or else an int; an ordered map refuses the kind that its keys are not. */
static enum pheap_status find_key(struct pht *t, const struct frame *frame, const char *step, struct item *item)
{
    int64_t number;
    item->value = PHT_ABSENT;
    enum pheap_status status = get(t, frame, pht_text(step), &item->value);
    if ((status == PHEAP_WRONG_TYPE || status == PHEAP_INVALID) || (status == PHEAP_OK && item->value == PHT_ABSENT)) {
        status = PHEAP_OK;
        if (is_number(step, &number))
            status = get(t, frame, pht_int(number), &item->value);
    }
    return status == PHEAP_WRONG_TYPE ? PHEAP_OK : status;
}

/* By its number, from the end if that is negative; or the name of a field.  NOT_FOUND. */
static enum pheap_status find_part(struct pht *t, struct frame *frame, const char *step, struct item *item)
{
    int64_t number;
    const bool numbered = is_number(step[0] == '#' ? step + 1 : step, &number);
    if (numbered && number < 0)
        number += (int64_t)frame->count;
    enum pheap_status status;
    while ((status = next_item(frame, t, item)) == PHEAP_OK)
        if (item->name[0] != '\0' ? strcmp(item->name, step) == 0 : numbered && item->index == (uint64_t)number)
            return PHEAP_OK;
        else if (numbered && frame->kind != PHT_MAP && frame->kind != PHT_RECORD && frame->cursor == 0)
            frame->index = (uint64_t)number; /* no need to walk there */
    return status == PHEAP_END ? PHEAP_NOT_FOUND : status;
}

/* Go one step down. */
static enum pheap_status follow(struct pht *t, const char *step, struct item *item)
{
    struct frame frame;
    struct item found = {.what = ITEM_VALUE};
    bool parts;
    enum pheap_status status = open_frame(&frame, t, item, &parts);
    if (status == PHEAP_OK && !parts)
        status = PHEAP_NOT_FOUND;
    if (status == PHEAP_OK && (frame.kind == PHT_MAP || frame.kind == PHT_OMAP))
        status = find_key(t, &frame, step, &found);
    const bool keyed = frame.kind == PHT_MAP || frame.kind == PHT_OMAP;
    if (status == PHEAP_OK && found.value == PHT_ABSENT)
        status = !keyed || step[0] == '#' ? find_part(t, &frame, step, &found) : PHEAP_NOT_FOUND;
    close_frame(&frame);
    if (status == PHEAP_OK)
        *item = found;
    return status;
}

static enum exit_code follow_path(struct output *output, struct pht *t, struct item *item)
{
    const struct request *request = output->request;
    *item = (struct item){.what = ITEM_VALUE, .value = pht_root(t)};
    for (int i = 0; i < request->step_count; i++) {
        const enum pheap_status status = follow(t, request->steps[i], item);
        if (status == PHEAP_OK)
            continue;
        if (status != PHEAP_NOT_FOUND)
            return output_failure(output, status);
        char text[LABEL_BYTES];
        (void)snprintf(text, sizeof text, "step %d of the path leads nowhere: %.200s", i + 1, request->steps[i]);
        return output_failure_text(output, status, text);
    }
    return EXIT_DONE;
}

/* --------------------------------------------------------------------------------------------------------- the tree */

static uint64_t place_of(const struct show *show, pht_value value)
{
    uint64_t place = value / 16 * UINT64_C(0x9e3779b97f4a7c15) % show->seen_room;
    while (show->seen[place] != PHT_ABSENT && show->seen[place] != value)
        place = (place + 1) % show->seen_room;
    return place;
}

/* Note that a container is shown; *before: it was already. */
static enum pheap_status note(struct show *show, pht_value value, bool *before)
{
    *before = false;
    if (value == PHT_ABSENT)
        return PHEAP_OK;
    if (show->seen_count * 2 >= show->seen_room) {
        struct show larger = {.seen_room = show->seen_room * 2 + 64};
        larger.seen = calloc((size_t)larger.seen_room, sizeof *larger.seen);
        if (larger.seen == NULL)
            return pheap_fail_with(PHEAP_NO_MEMORY, "no memory for a list of what was shown");
        for (uint64_t i = 0; i < show->seen_room; i++)
            if (show->seen[i] != PHT_ABSENT)
                larger.seen[place_of(&larger, show->seen[i])] = show->seen[i];
        free(show->seen);
        show->seen = larger.seen;
        show->seen_room = larger.seen_room;
    }
    const uint64_t place = place_of(show, value);
    *before = show->seen[place] == value;
    show->seen_count += !*before;
    show->seen[place] = value;
    return PHEAP_OK;
}

/* Tell what failed in its place. */
static void write_failure(struct show *show, enum pheap_status status)
{
    if (show->status == PHEAP_OK)
        show->status = status;
    output_text(show->output, "<");
    output_visible(show->output, pheap_error_detail());
    output_text(show->output, ">");
    output_json_string(show->output, "damage", pheap_error_detail());
}

/*
 * The open frame's next part: what it is called, and in JSON what is around its value.  False: it is the value itself.
 */
static bool write_label(struct show *show, const struct item *item)
{
    struct output *output = show->output;
    output_text(output, "%*s", (int)(2 * show->depth), "");
    if (item->key == PHT_ABSENT && item->name[0] == '\0') {
        if (show->depth > 0 && show->frames[show->depth - 1].kind != PHT_SET)
            output_text(output, "%" PRIu64 ": ", item->index);
        return false;
    }
    output_json_begin(output, NULL, '{');
    if (item->key != PHT_ABSENT) {
        output_json_begin(output, "key", '{');
        const enum pheap_status status = values_write_key(output, show->t, item->key);
        if (status != PHEAP_OK)
            write_failure(show, status);
        output_json_end(output, '}');
    } else {
        output_visible(output, item->name);
        output_json_string(output, "name", item->name);
        output_json_string(output, "kind", values_field_kind_name(item->field.kind));
    }
    output_text(output, ": ");
    return true;
}

/* The struct of an array or another struct. */
static enum pheap_status write_struct(struct output *output, struct pht *t, const struct item *item)
{
    struct pht_layout layout;
    const enum pheap_status status = pht_type_show(t, item->type, &layout, NULL, 0, NULL);
    if (status != PHEAP_OK)
        return status;
    output_text(output, "struct ");
    output_visible_bytes(output, layout.name, layout.name_length);
    output_text(output, " @%" PRIu64, item->offset);
    output_json_string(output, "kind", "struct");
    output_json_u64(output, "offset", item->offset);
    output_json_bytes(output, "type", layout.name, layout.name_length);
    output_json_u64(output, "type_version", layout.version);
    return PHEAP_OK;
}

static const char *member_of(enum pht_kind kind)
{
    return kind == PHT_MAP || kind == PHT_OMAP ? "entries" : kind == PHT_RECORD ? "fields" : "elements";
}

/* Whether what is inside shall be shown, which then is the top frame. */
static bool enter(struct show *show, const struct item *item)
{
    struct frame *frame = &show->frames[show->depth];
    bool parts = false, before = false;
    enum pheap_status status = open_frame(frame, show->t, item, &parts);
    if (status == PHEAP_OK && parts && show->depth < show->output->request->depth_max) {
        status = note(show, frame->value, &before);
        if (status == PHEAP_OK && !before && show->depth + 1 < FRAMES_MAX) {
            output_text(show->output, "\n");
            output_json_begin(show->output, member_of(frame->kind), '[');
            show->depth++;
            return true;
        }
    }
    if (status != PHEAP_OK) {
        output_text(show->output, " ");
        write_failure(show, status);
    } else if (before) {
        output_text(show->output, ", shown above");
        output_json_bool(show->output, "shown", true);
    }
    close_frame(frame);
    return false;
}

/* Behind the value: close what write_label() opened. */
static void leave(struct show *show, bool wrapped)
{
    if (wrapped)
        output_json_end(show->output, '}');
}

static void write_value(struct show *show, const struct item *item, bool wrapped)
{
    struct output *output = show->output;
    output_json_begin(output, wrapped || show->depth == 0 ? "value" : NULL, '{');
    const enum pheap_status status =
        item->what == ITEM_STRUCT ? write_struct(output, show->t, item) : values_write(output, show->t, item->value);
    if (status != PHEAP_OK) {
        write_failure(show, status);
    } else if (enter(show, item)) {
        show->frames[show->depth - 1].wrapped = wrapped;
        return;
    }
    output_text(output, "\n");
    output_json_end(output, '}');
    leave(show, wrapped);
}

static void write_item(struct show *show, const struct item *item)
{
    struct output *output = show->output;
    const bool wrapped = write_label(show, item);
    if (item->what == ITEM_FIELD) {
        values_write_field(output, show->t, &item->field, item->offset);
        output_text(output, "\n");
    } else if (item->what == ITEM_VALUE && item->value == PHT_ABSENT) {
        output_text(output, "absent\n");
        output_json_null(output, wrapped || show->depth == 0 ? "value" : NULL);
    } else {
        write_value(show, item, wrapped);
        return;
    }
    leave(show, wrapped);
}

/* The top frame ends, because it is at its end, or at what may be shown, or with what went wrong. */
static void close_top(struct show *show, enum pheap_status status)
{
    struct output *output = show->output;
    struct frame *frame = &show->frames[show->depth - 1];
    const uint64_t left = frame->count - frame->index;
    output_json_end(output, ']');
    if (status != PHEAP_OK && status != PHEAP_END) {
        output_text(output, "%*s", (int)(2 * show->depth), "");
        write_failure(show, status);
        output_text(output, "\n");
    } else if (left > 0) {
        output_text(output, "%*s... %" PRIu64 " more\n", (int)(2 * show->depth), "", left);
        output_json_u64(output, "more", left);
    }
    output_json_end(output, '}');
    leave(show, frame->wrapped);
    close_frame(frame);
    show->depth--;
}

static enum exit_code show_values(struct output *output, struct pht *t)
{
    static struct show show;
    struct item item;
    const enum exit_code code = follow_path(output, t, &item);
    if (code != EXIT_DONE)
        return code;
    show = (struct show){.output = output, .t = t};
    item.key = PHT_ABSENT;
    item.name[0] = '\0';
    write_item(&show, &item);
    while (show.depth > 0) {
        struct frame *frame = &show.frames[show.depth - 1];
        const enum pheap_status status =
            frame->index < output->request->count_max ? next_item(frame, t, &item) : PHEAP_END;
        if (status == PHEAP_OK)
            write_item(&show, &item);
        else
            close_top(&show, status);
    }
    free(show.seen);
    return show.status == PHEAP_OK ? EXIT_DONE : output_failure(output, show.status);
}

static enum exit_code show_heap(struct output *output, pheap *heap)
{
    return values_look(output, heap, show_values);
}

enum exit_code cmd_show(const struct request *request, struct output *output)
{
    (void)request;
    return output_look(output, show_heap);
}
