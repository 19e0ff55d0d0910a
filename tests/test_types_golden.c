/* SPDX-License-Identifier: MIT */
/*
 * Golden values: a heap of values as version 1 of their format wrote it, which every later library must read, and a
 * reader that is written from docs/types.md alone.
 *
 *   tests/golden/v1/values.heap.txt      the heap, cleanly closed, as in test_golden.c
 *   tests/golden/v1/values.expected.txt  what both readers must find, a line for each type and each entry of the root map
 *
 * `PHEAP_GOLDEN_WRITE=DIRECTORY test_types_golden golden__write` writes them.  Files of a released version are never
 * written again.
 */
#include "pheap/core.h"
#include "tests/golden_rig.h"
#include "tests/types_content.h"
#include "tests/types_rig.h"

#define SIM_PATH "d/heap"
#define TEXT_BYTES (1u << 20)

/* -------------------------------------------------------------------------------------------------- how it was made */

static const char long_text[] = "a text that is too long for a word, with \xc3\xa4";

static void fill_containers(struct pht *t)
{
    pht_value map, set, small, list, queue, omap, tuple, inner;
    char key[32];
    ok(pht_map_new(t, &map));
    ok(pht_set_new(t, &set));
    ok(pht_map_new(t, &small));
    ok(pht_list_new(t, &list));
    ok(pht_queue_new(t, &queue));
    ok(pht_omap_new(t, &omap));
    for (int i = 0; i < 400; i++) { /* directories, buckets, nodes of two levels, links */
        (void)snprintf(key, sizeof key, "key number %d", i);
        ok(pht_map_set(t, map, i % 2 == 0 ? pht_int(i) : pht_text(key), pht_int(i)));
        ok(pht_list_insert(t, list, (uint64_t)(i / 3), pht_int(i)));
        ok(pht_omap_set(t, omap, pht_int(i * 7 % 400), pht_float(i)));
    }
    for (int i = 0; i < 400; i += 3)
        ok(pht_map_remove(
            t, map, i % 2 == 0 ? pht_int(i) : (snprintf(key, sizeof key, "key number %d", i), pht_text(key)), NULL));
    for (int i = 0; i < 20; i++)
        ok(pht_set_add(t, set, pht_int(i * i), NULL));
    for (int i = 0; i < 150; i++)
        ok(pht_queue_push(t, queue, i % 3 == 0, pht_int(i)));
    ok(pht_map_set(t, small, pht_text("x"), pht_text(long_text)));
    const struct pht_any innermost[] = {pht_text(long_text), pht_none()};
    ok(pht_tuple_new(t, innermost, 2, &inner));
    const struct pht_any elements[] = {pht_int(1), pht_of(inner), pht_of(small)};
    ok(pht_tuple_new(t, elements, 3, &tuple));
    root_set(t, "map", pht_of(map));
    root_set(t, "set", pht_of(set));
    root_set(t, "list", pht_of(list));
    root_set(t, "queue", pht_of(queue));
    root_set(t, "omap", pht_of(omap));
    root_set(t, "tuple", pht_of(tuple));
    root_set(t, "small", pht_of(small));
    ok(pht_map_set(t, pht_root(t), pht_of(inner), pht_text("under a tuple")));
}

static void fill_plain(struct pht *t)
{
    static const uint64_t limbs[] = {1, 0, UINT64_C(0x8000000000000000)};
    uint64_t offset, length;
    pht_value block;
    root_set(t, "none", pht_none());
    root_set(t, "true", pht_bool(true));
    root_set(t, "false", pht_bool(false));
    root_set(t, "int", pht_int(-5));
    root_set(t, "limit", pht_int(-(INT64_C(1) << 60)));
    root_set(t, "beyond", pht_int(INT64_C(1) << 60));
    root_set(t, "least", pht_int(INT64_MIN));
    root_set(t, "huge", pht_bigint(true, limbs, 3));
    root_set(t, "zero", pht_float(0.0));
    root_set(t, "minus", pht_float(-0.0));
    root_set(t, "third", pht_float(1.0 / 3));
    root_set(t, "large", pht_float(1e300));
    root_set(t, "empty", pht_text(""));
    root_set(t, "seven", pht_str("se\0en\xc3\xa4", 7));
    root_set(t, "long", pht_text(long_text));
    root_set(t, "bytes", pht_bytes("\xff\0", 2));
    root_set(t, "more", pht_bytes("\0\1\2\3\4\5\6\7\xff", 9));
    ok(pht_block_new(t, 20, &block));
    ok(pht_block_at(t, block, &offset, &length));
    memset(t->base + offset, 0xb1, length);
    root_set(t, "block", pht_of(block));
}

static void fill_structs(struct pht *t)
{
    static const struct pht_field bits[] = {
        {.name = "low", .kind = PHT_FIELD_UNSIGNED, .size = 4, .count = 1, .bit_count = 5},
        {.name = "high", .kind = PHT_FIELD_SIGNED, .size = 4, .count = 1, .bit_first = 5, .bit_count = 27},
        {.name = "name", .kind = PHT_FIELD_CHAR, .size = 1, .offset = 4, .count = 4}};
    static const struct pht_layout cell = {.name = "cell", .version = 2, .size = 8, .field_count = 3, .fields = bits};
    uint32_t cell_type, type;
    uint64_t offset, count;
    pht_value record, array, ring;
    ok(pht_type_register(t, &cell, &cell_type));
    const struct pht_field fields[] = {
        {.name = "cells", .kind = PHT_FIELD_STRUCT, .size = 8, .offset = 0, .count = 2, .type = cell_type},
        {.name = "values", .kind = PHT_FIELD_VALUE, .size = 8, .offset = 16, .count = 2},
        {.name = "x", .kind = PHT_FIELD_FLOAT, .size = 8, .offset = 32, .count = 1},
        {.name = "b", .kind = PHT_FIELD_BOOL, .size = 1, .offset = 40, .count = 1}};
    const struct pht_layout layout = {
        .name = "r\xc3\xa4", .version = 1, .size = 48, .field_count = 4, .fields = fields};
    ok(pht_type_register(t, &layout, &type));
    ok(pht_record_new(t, type, &record));
    ok(pht_record_at(t, record, type, &offset, NULL));
    for (unsigned char i = 0; i < 16; i++)
        t->base[offset + i] = (unsigned char)(0xa0 + i);
    t->base[offset + 40] = 1;
    ok(pht_record_set(t, record, 24, pht_text(long_text)));
    root_set(t, "record", pht_of(record));
    ok(pht_array_new(t, cell_type, 3, &array));
    ok(pht_array_at(t, array, cell_type, &offset, &count));
    memset(t->base + offset + 8, 0x11, 8);
    root_set(t, "array", pht_of(array));
    ok(pht_ring_new(t, cell_type, 3, &ring));
    for (int i = 0; i < 5; i++) {
        ok(pht_ring_push(t, ring, cell_type, &offset));
        memset(t->base + offset, 0x20 + i, 8);
    }
    root_set(t, "ring", pht_of(ring));
}

/* Something that is half gone. */
static void fill_limbo(struct pht *t)
{
    pht_value list;
    ok(pht_list_new(t, &list));
    for (int i = 0; i < 300; i++)
        ok(pht_list_append(t, list, pht_text(long_text)));
    ok(pht_discard(t, list));
    ok(pht_reclaim(t, 20, NULL));
}

static struct ph_sim *make_golden(void)
{
    const struct ph_sim_options machine = {.seed = 2026};
    const struct pheap_options options = {.size = sizeof options,
                                          .reserve_bytes = 64u << 20,
                                          .log_limit_bytes = 1u << 20,
                                          .segment_bytes = 65536,
                                          .buffer_bytes = 65536,
                                          .mode = 0644};
    struct ph_sim *sim = ph_sim_new(&machine);
    pheap *heap;
    ok((enum pheap_status)ph_open_io(ph_sim_io(sim), SIM_PATH, PHEAP_CREATE, &options, &heap));
    struct pht t = change(heap);
    ok(content_fix_hash_key(&t));
    fill_plain(&t);
    fill_containers(&t);
    fill_structs(&t);
    fill_limbo(&t);
    keep(&t);
    ok(pheap_close(heap));
    ph_core_forget_mappings(ph_sim_io(sim));
    return sim;
}

/* ------------------------------------------------------------------------------------------------- what is found */

struct text {
    char *at;
    size_t used;
};

__attribute__((format(printf, 2, 3))) static void say(struct text *text, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    const int length = vsnprintf(text->at + text->used, TEXT_BYTES - text->used, format, arguments);
    va_end(arguments);
    require(length >= 0 && text->used + (size_t)length < TEXT_BYTES);
    text->used += (size_t)length;
}

static void say_hex(struct text *text, const char *what, const void *bytes, uint64_t length)
{
    say(text, "%s ", what);
    for (uint64_t i = 0; i < length; i++)
        say(text, "%02x", ((const unsigned char *)bytes)[i]);
}

static void say_float(struct text *text, uint64_t bits)
{
    say(text, "float %016llx", (unsigned long long)bits);
}

static void say_limbs(struct text *text, bool negative, const void *limbs, uint64_t count)
{
    say(text, "int %s", negative ? "-" : "");
    for (uint64_t i = count; i-- > 0;) {
        uint64_t limb;
        memcpy(&limb, (const char *)limbs + i * 8, sizeof limb);
        say(text, i + 1 == count ? "0x%llx" : "%016llx", (unsigned long long)limb);
    }
}

static void say_int(struct text *text, int64_t value)
{
    const uint64_t magnitude = value < 0 ? -(uint64_t)value : (uint64_t)value;
    say_limbs(text, value < 0, &magnitude, 1);
}

/* -------------------------------------------------------------------------- a reader from docs/types.md, chapter 10 */

struct raw {
    const uint8_t *base;
    uint64_t registry;
    struct text *text;
};

static uint32_t raw32(const struct raw *raw, uint64_t at)
{
    uint32_t value;
    memcpy(&value, raw->base + at, sizeof value);
    return value;
}

static uint64_t raw64(const struct raw *raw, uint64_t at)
{
    uint64_t value;
    memcpy(&value, raw->base + at, sizeof value);
    return value;
}

static void raw_value(const struct raw *raw, uint64_t word);

/* Item `index` of a tree at `tree`, of `width` words. */
static uint64_t raw_item(const struct raw *raw, uint64_t tree, uint64_t width, uint64_t index)
{
    uint64_t node = raw64(raw, tree);
    for (uint32_t level = raw32(raw, tree + 16); level > 0; level--) {
        require_equal(raw32(raw, node), 35);
        require_equal(raw32(raw, node + 4), level);
        uint64_t entry = node + 16;
        for (; index >= raw64(raw, entry + 8); entry += (width + 1) * 8)
            index -= raw64(raw, entry + 8);
        node = raw64(raw, entry);
    }
    require(raw32(raw, node) == 35 && raw32(raw, node + 4) == 0 && index < raw32(raw, node + 8));
    return node + 16 + index * width * 8;
}

static uint64_t raw_list_item(const struct raw *raw, uint64_t list, uint64_t index)
{
    const uint64_t before = raw64(raw, list + 40 + 8);
    return raw64(raw, index < before ? raw_item(raw, list + 40, 1, index)
                                     : raw64(raw, list + 32) + 16 + (index - before) * 8);
}

/* Element `index` of a segmented array. */
static uint64_t raw_element(const struct raw *raw, uint64_t array, uint64_t width, uint64_t whole, uint64_t index)
{
    uint64_t at = raw64(raw, array);
    const uint32_t height = raw32(raw, array + 8);
    const uint64_t chunk = index / whole;
    require(height <= 1); /* more than 510 chunks are not in this heap */
    if (height == 1) {
        require_equal(raw32(raw, at), 34);
        at = raw64(raw, at + 16 + chunk * 8);
    }
    require_equal(raw32(raw, at), 33);
    return at + 16 + index % whole * width;
}

static void raw_entries(const struct raw *raw, uint64_t map, bool has_values)
{
    const uint32_t count = raw32(raw, map + 24), buckets = raw32(raw, map + 20);
    uint32_t number = raw32(raw, map + 32), previous = 0, found = 0;
    say(raw->text, "%s of %u {", has_values ? "map" : "set", count);
    for (; number != 0; found++) {
        const uint64_t entry = raw_element(raw, map + 40, has_values ? 32 : 24, has_values ? 127 : 170, number - 1);
        require_equal(raw32(raw, entry + 16), previous);
        raw_value(raw, raw64(raw, entry));
        if (has_values) {
            say(raw->text, ": ");
            raw_value(raw, raw64(raw, entry + 24));
        }
        say(raw->text, ", ");
        if (buckets != 0) { /* it is in the chain of its bucket */
            uint32_t m = 1;
            while (m < buckets)
                m *= 2;
            const uint32_t hash = raw32(raw, entry + 8);
            uint32_t bucket = hash % m < buckets ? hash % m : hash % (m / 2);
            uint32_t at = raw32(raw, raw_element(raw, map + 56, 4, 1020, bucket)), steps = 0;
            while (at != number && at != 0 && steps++ < count)
                at = raw32(raw, raw_element(raw, map + 40, has_values ? 32 : 24, has_values ? 127 : 170, at - 1) + 12);
            require_equal(at, number);
        }
        previous = number;
        number = raw32(raw, entry + 20);
    }
    require_equal(found, count);
    require_equal(raw32(raw, map + 36), previous);
    require(count <= 8 || buckets >= 8);
    say(raw->text, "}");
}

static void raw_queue(const struct raw *raw, uint64_t queue)
{
    const uint64_t count = raw64(raw, queue + 24), begin = raw64(raw, queue + 48);
    uint64_t link = raw64(raw, queue + 32);
    say(raw->text, "queue of %llu [", (unsigned long long)count);
    for (uint64_t i = 0; i < count; i++) {
        if (i > 0 && (begin + i) % 124 == 0) {
            require_equal(raw64(raw, raw64(raw, link + 16) + 8), link);
            link = raw64(raw, link + 16);
        }
        require_equal(raw32(raw, link), 36);
        raw_value(raw, raw64(raw, link + 32 + (begin + i) % 124 * 8));
        say(raw->text, ", ");
    }
    require_equal(raw64(raw, queue + 40), link);
    say(raw->text, "]");
}

static uint64_t raw_type(const struct raw *raw, uint32_t number)
{
    return raw_list_item(raw, raw64(raw, raw->registry + 72), number);
}

/* A record, or the elements of an array or ring. */
static void raw_struct(const struct raw *raw, uint64_t object)
{
    const uint32_t kind = raw32(raw, object);
    if (kind < 64) {
        const uint64_t capacity = raw64(raw, object + 24), first = raw64(raw, object + 32);
        const uint64_t count = raw64(raw, object + 40), size = raw64(raw, raw_type(raw, raw32(raw, object + 16)) + 16);
        say(raw->text, "%s of type %u, %llu of %llu [", kind == 9 ? "array" : "ring", raw32(raw, object + 16),
            (unsigned long long)count, (unsigned long long)capacity);
        for (uint64_t i = 0; i < count; i++)
            say_hex(raw->text, "", raw->base + object + 48 + (first + i) % capacity * size, size);
        say(raw->text, "]");
        return;
    }
    const uint64_t type = raw_type(raw, kind - 64);
    say(raw->text, "record of type %u {", kind - 64);
    for (uint32_t i = 0; i < raw32(raw, type + 28); i++) {
        const uint64_t field = type + 48 + i * UINT64_C(32), at = object + 16 + raw64(raw, field);
        for (uint64_t e = 0; e < raw64(raw, field + 8); e++) {
            const uint64_t place = at + e * raw32(raw, field + 16);
            if (raw->base[field + 24] != 6)
                say_hex(raw->text, "", raw->base + place, raw32(raw, field + 16));
            else if (raw64(raw, place) == 0)
                say(raw->text, "absent");
            else
                raw_value(raw, raw64(raw, place));
            say(raw->text, ", ");
        }
    }
    say(raw->text, "}");
}

static void raw_object(const struct raw *raw, uint64_t object)
{
    struct text *text = raw->text;
    const uint32_t kind = raw32(raw, object);
    const uint64_t length = raw64(raw, object + 8);
    require(object % 16 == 0 && raw32(raw, object + 4) > 0);
    switch (kind) {
    case 3:
        say_limbs(text, (length & 1) != 0, raw->base + object + 16, length / 2);
        break;
    case 4:
        say_float(text, length);
        break;
    case 5:
    case 6:
    case 7:
        say_hex(text, kind == 5 ? "str" : kind == 6 ? "bytes" : "block", raw->base + object + 16, length);
        break;
    case 11:
    case 12:
        raw_entries(raw, object, kind == 11);
        break;
    case 13:
    case 14:
        say(text, "%s of %llu [", kind == 13 ? "list" : "tuple", (unsigned long long)raw64(raw, object + 24));
        for (uint64_t i = 0; i < raw64(raw, object + 24); i++) {
            raw_value(raw, kind == 13 ? raw_list_item(raw, object, i) : raw64(raw, object + 32 + i * 8));
            say(text, ", ");
        }
        say(text, "]");
        break;
    case 15:
        raw_queue(raw, object);
        break;
    case 16:
        say(text, "ordered map of %llu {", (unsigned long long)raw64(raw, object + 24 + 8));
        for (uint64_t i = 0; i < raw64(raw, object + 24 + 8); i++) {
            raw_value(raw, raw64(raw, raw_item(raw, object + 24, 2, i)));
            say(text, ": ");
            raw_value(raw, raw64(raw, raw_item(raw, object + 24, 2, i) + 8));
            say(text, ", ");
        }
        say(text, "}");
        break;
    default:
        raw_struct(raw, object);
        break;
    }
}

static void raw_value(const struct raw *raw, uint64_t word)
{
    uint8_t bytes[8];
    memcpy(bytes, &word, sizeof bytes);
    switch (word & 7) {
    case 0:
        raw_object(raw, word);
        break;
    case 1:
        say_int(raw->text, (int64_t)word >> 3);
        break;
    case 2:
    case 6: { /* the lowest of the three bits of the exponent, on top, says what the others were */
        const uint64_t rotated = (word & ~UINT64_C(3)) | (word >> 63 != 0 ? 1 : 2);
        say_float(raw->text, rotated >> 3 | rotated << 61);
        break;
    }
    case 3:
        if (word == 0x1b)
            say_float(raw->text, 0);
        else
            say(raw->text, word == 0x03 ? "none" : word == 0x0b ? "false" : word == 0x13 ? "true" : "?");
        break;
    default:
        say_hex(raw->text, (word & 7) == 4 ? "str" : "bytes", bytes + 1, word >> 3 & 7);
        break;
    }
}

static void raw_types(const struct raw *raw)
{
    const uint64_t list = raw64(raw, raw->registry + 72);
    for (uint64_t i = 0; i < raw64(raw, list + 24); i++) {
        const uint64_t type = raw_type(raw, (uint32_t)i);
        const uint32_t fields = raw32(raw, type + 28);
        const char *names = (const char *)raw->base + type + 48 + fields * UINT64_C(32);
        require_equal(raw32(raw, type), 8);
        say(raw->text, "type %.*s version %u size %llu fingerprint %016llx:", (int)raw32(raw, type + 32), names,
            raw32(raw, type + 24), (unsigned long long)raw64(raw, type + 16),
            (unsigned long long)raw64(raw, type + 40));
        names += raw32(raw, type + 32);
        for (uint32_t f = 0; f < fields; f++) {
            const uint64_t field = type + 48 + f * UINT64_C(32);
            const uint8_t *tail = raw->base + field + 24;
            say(raw->text, " %.*s %u %llu %u*%llu type %u bits %u+%u", tail[1], names, tail[0],
                (unsigned long long)raw64(raw, field), raw32(raw, field + 16),
                (unsigned long long)raw64(raw, field + 8), raw32(raw, field + 20), tail[2], tail[3]);
            names += tail[1];
        }
        say(raw->text, "\n");
    }
}

static void read_by_hand(pheap_read *reader, struct text *text)
{
    struct raw raw = {.base = pheap_read_ptr(reader, 0), .registry = pheap_read_root(reader), .text = text};
    require_equal(raw32(&raw, raw.registry), 32);
    require(memcmp(raw.base + raw.registry + 8, "phptypes", 8) == 0);
    require(raw32(&raw, raw.registry + 16) == 1 && raw32(&raw, raw.registry + 20) == 0);
    raw_types(&raw);
    raw_value(&raw, raw64(&raw, raw.registry + 40));
    say(text, "\n");
}

/* ----------------------------------------------------------------------------------------------- and by the library */

static void lib_value(struct pht *t, struct text *text, pht_value value);

static void lib_pairs(struct pht *t, struct text *text, pht_value value, uint32_t kind)
{
    uint64_t cursor = 0, count = 0;
    pht_value key, part = PHT_ABSENT;
    ok(kind == PHT_MAP   ? pht_map_count(t, value, &count)
       : kind == PHT_SET ? pht_set_count(t, value, &count)
                         : pht_omap_count(t, value, &count));
    say(text, "%s of %llu {", pht_kind_name((enum pht_kind)kind), (unsigned long long)count);
    for (uint64_t i = 0; i < count; i++) {
        ok(kind == PHT_MAP   ? pht_map_next(t, value, &cursor, &key, &part)
           : kind == PHT_SET ? pht_set_next(t, value, &cursor, &key)
                             : pht_omap_at(t, value, i, &key, &part));
        lib_value(t, text, key);
        if (kind != PHT_SET) {
            say(text, ": ");
            lib_value(t, text, part);
        }
        say(text, ", ");
    }
    say(text, "}");
}

static void lib_elements(struct pht *t, struct text *text, pht_value value, uint32_t kind)
{
    uint64_t count = 0;
    pht_value part;
    ok(kind == PHT_LIST    ? pht_list_count(t, value, &count)
       : kind == PHT_TUPLE ? pht_tuple_count(t, value, &count)
                           : pht_queue_count(t, value, &count));
    say(text, "%s of %llu [", pht_kind_name((enum pht_kind)kind), (unsigned long long)count);
    for (uint64_t i = 0; i < count; i++) {
        ok(kind == PHT_LIST    ? pht_list_get(t, value, i, &part)
           : kind == PHT_TUPLE ? pht_tuple_get(t, value, i, &part)
                               : pht_queue_get(t, value, i, &part));
        lib_value(t, text, part);
        say(text, ", ");
    }
    say(text, "]");
}

/* Both are of the type number 0. */
static void lib_structs(struct pht *t, struct text *text, pht_value value, uint32_t kind)
{
    uint64_t offset, count, capacity;
    if (kind == PHT_ARRAY) {
        ok(pht_array_at(t, value, 0, &offset, &count));
        capacity = count;
    } else {
        ok(pht_ring_count(t, value, &count, &capacity));
    }
    say(text, "%s of type 0, %llu of %llu [", pht_kind_name((enum pht_kind)kind), (unsigned long long)count,
        (unsigned long long)capacity);
    for (uint64_t i = 0; i < count; i++) {
        if (kind == PHT_RING)
            ok(pht_ring_at(t, value, 0, i, &offset));
        say_hex(text, "", t->base + offset + (kind == PHT_ARRAY ? i * 8 : 0), 8);
    }
    say(text, "]");
}

static void lib_record(struct pht *t, struct text *text, pht_value value)
{
    uint64_t offset;
    uint32_t type;
    struct pht_layout layout;
    struct pht_field fields[8];
    pht_value part;
    ok(pht_record_at(t, value, PHT_ANY_TYPE, &offset, &type));
    ok(pht_type_show(t, type, &layout, fields, 8, NULL));
    say(text, "record of type %u {", type);
    for (uint32_t i = 0; i < layout.field_count; i++)
        for (uint64_t e = 0; e < fields[i].count; e++) {
            const uint64_t place = fields[i].offset + e * fields[i].size;
            if (fields[i].kind != PHT_FIELD_VALUE) {
                say_hex(text, "", t->base + offset + place, fields[i].size);
            } else {
                ok(pht_record_get(t, value, place, &part));
                if (part == PHT_ABSENT)
                    say(text, "absent");
                else
                    lib_value(t, text, part);
            }
            say(text, ", ");
        }
    say(text, "}");
}

static void lib_value(struct pht *t, struct text *text, pht_value value)
{
    struct pht_any any;
    uint64_t bits;
    ok(pht_show(t, &value, &any));
    switch (any.kind) {
    case PHT_NONE:
        say(text, "none");
        break;
    case PHT_BOOL:
        say(text, any.integer != 0 ? "true" : "false");
        break;
    case PHT_INT:
        if (any.bytes == NULL)
            say_int(text, any.integer);
        else
            say_limbs(text, any.negative != 0, any.bytes, any.length);
        break;
    case PHT_FLOAT:
        memcpy(&bits, &any.real, sizeof bits);
        say_float(text, bits);
        break;
    case PHT_STR:
    case PHT_BYTES:
    case PHT_BLOCK:
        say_hex(text, pht_kind_name((enum pht_kind)any.kind), any.bytes, any.length);
        break;
    case PHT_MAP:
    case PHT_SET:
    case PHT_OMAP:
        lib_pairs(t, text, value, any.kind);
        break;
    case PHT_ARRAY:
    case PHT_RING:
        lib_structs(t, text, value, any.kind);
        break;
    case PHT_RECORD:
        lib_record(t, text, value);
        break;
    default:
        lib_elements(t, text, value, any.kind);
        break;
    }
}

static void lib_types(struct pht *t, struct text *text)
{
    struct pht_layout layout;
    struct pht_field fields[8];
    uint64_t fingerprint;
    for (uint32_t i = 0; pht_type_show(t, i, &layout, fields, 8, &fingerprint) == PHEAP_OK; i++) {
        say(text, "type %.*s version %u size %llu fingerprint %016llx:", (int)layout.name_length, layout.name,
            layout.version, (unsigned long long)layout.size, (unsigned long long)fingerprint);
        for (uint32_t f = 0; f < layout.field_count; f++)
            say(text, " %.*s %u %llu %u*%llu type %u bits %u+%u", (int)fields[f].name_length, fields[f].name,
                fields[f].kind, (unsigned long long)fields[f].offset, (unsigned)fields[f].size,
                (unsigned long long)fields[f].count, fields[f].type, fields[f].bit_first, fields[f].bit_count);
        say(text, "\n");
    }
}

static void read_by_library(pheap_read *reader, struct text *text)
{
    struct pht t;
    ok(pht_look(reader, &t));
    ok(pht_check(&t, print_fault, NULL, NULL));
    lib_types(&t, text);
    lib_value(&t, text, pht_root(&t));
    say(text, "\n");
}

/* -------------------------------------------------------------------------------------------------------- the tests */

static struct text *new_text(void)
{
    static struct text texts[2];
    static unsigned next;
    struct text *text = &texts[next++ % 2];
    text->at = text->at == NULL ? malloc(TEXT_BYTES) : text->at;
    text->used = 0;
    require(text->at != NULL);
    return text;
}

/* The heap holds what the golden file says: `by` found it. */
static void require_expected(pheap *heap, void (*by)(pheap_read *reader, struct text *text))
{
    struct text *found = new_text(), *expected = new_text();
    pheap_read *reader = read_begin(heap, PHEAP_FRESH);
    by(reader, found);
    (void)pheap_read_end(reader);
    FILE *file = fopen(golden(PH_GOLDEN_DIRECTORY "/v1", "values", ".expected.txt"), "r");
    require(file != NULL);
    expected->used = fread(expected->at, 1, TEXT_BYTES, file);
    (void)fclose(file);
    for (size_t i = 0; i < found->used && i < expected->used; i++)
        if (found->at[i] != expected->at[i])
            check_failed(__FILE__, __LINE__, "byte %zu of what is found: %.60s, not %.60s", i, found->at + i,
                         expected->at + i);
    require_equal(found->used, expected->used);
}

/* Does nothing unless it is asked to: see the head. */
static void golden__write(void **state)
{
    (void)state;
    const char *directory = getenv("PHEAP_GOLDEN_WRITE");
    if (directory == NULL)
        return;
    struct ph_sim *sim = make_golden();
    size_t size;
    uint8_t *bytes = take(sim, SIM_PATH, &size);
    write_text(bytes, size, golden(directory, "values", ".heap.txt"));
    free(bytes);
    pheap *heap;
    ok((enum pheap_status)ph_open_io(ph_sim_io(sim), SIM_PATH, 0, NULL, &heap));
    struct text *text = new_text();
    pheap_read *reader = read_begin(heap, PHEAP_FRESH);
    read_by_hand(reader, text);
    (void)pheap_read_end(reader);
    ok(pheap_close(heap));
    ph_core_forget_mappings(ph_sim_io(sim));
    ph_sim_free(sim);
    FILE *file = fopen(golden(directory, "values", ".expected.txt"), "w");
    require(file != NULL && fwrite(text->at, 1, text->used, file) == text->used && fclose(file) == 0);
}

/* Catches: values of version 1 that this library no longer reads, reads otherwise, or cannot change and give back. */
static void golden__values(void **state)
{
    (void)state;
    size_t size = 0;
    const char *path = path_of("values", "");
    const uint8_t *image = read_text(golden(PH_GOLDEN_DIRECTORY "/v1", "values", ".heap.txt"), &size);
    write_at(path, 0, image, size);
    pheap *heap;
    ok(pheap_open(path, PHEAP_READONLY, NULL, &heap));
    require_expected(heap, read_by_library);
    require_expected(heap, read_by_hand);
    ok(pheap_close(heap));
    heap = open_heap(path);
    struct pht t = change(heap);
    const pht_value map = root_get(&t, "map");
    for (int64_t i = 0; i < 1000; i++)
        ok(pht_map_set(&t, map, pht_int(i), pht_of(pht_root(&t))));
    keep(&t);
    check_values(heap);
    t = change(heap);
    ok(pht_map_clear(&t, map));
    ok(pht_map_clear(&t, pht_root(&t)));
    keep(&t);
    reclaim_all(heap);
    require_equal(live_blocks(heap), 6); /* registry, root, list of types and its leaf, two types */
    check_values(heap);
    ok(pheap_close(heap));
}

/* Catches: a change of what is written; a sentence of docs/types.md that is not true. */
static void layout__of_values(void **state)
{
    (void)state;
    struct ph_sim *sim = make_golden();
    pheap *heap;
    ok((enum pheap_status)ph_open_io(ph_sim_io(sim), SIM_PATH, 0, NULL, &heap));
    require_expected(heap, read_by_hand);
    require_expected(heap, read_by_library);
    ok(pheap_close(heap));
    ph_core_forget_mappings(ph_sim_io(sim));
    ph_sim_free(sim);
}

int main(int argc, char **argv)
{
    choose_cases(argc, argv);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(golden__write),
        cmocka_unit_test(golden__values),
        cmocka_unit_test(layout__of_values),
    };
    return cmocka_run_group_tests(tests, make_test_directory, remove_test_directory);
}
