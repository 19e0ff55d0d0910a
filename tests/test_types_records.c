/* SPDX-License-Identifier: MIT */
/* Types, records, arrays and rings of structs in a heap of values. */
#include "tests/types_rig.h"

struct point {
    double x, y;
};

struct person {
    int32_t age;
    char name[20];
    struct point at[2];
    pht_value friends;
    pht_value notes[3];
};

/* One in which the library makes sure that all that is changed was declared. */
static pheap *verified_heap(const char *name)
{
    return values_heap(path_of(name, ""), PHEAP_CREATE | PHEAP_EXCLUSIVE | PHEAP_VERIFY);
}

static uint32_t register_point(struct pht *t)
{
    static const struct pht_field fields[] = {
        {.name = "x", .kind = PHT_FIELD_FLOAT, .size = 8, .offset = 0, .count = 1},
        {.name = "y", .kind = PHT_FIELD_FLOAT, .size = 8, .offset = 8, .count = 1},
    };
    const struct pht_layout layout = {
        .name = "point", .version = 1, .size = sizeof(struct point), .field_count = 2, .fields = fields};
    uint32_t type;
    ok(pht_type_register(t, &layout, &type));
    return type;
}

#define PERSON_FIELDS 5u
static void person_fields(uint32_t point, struct pht_field fields[PERSON_FIELDS])
{
    const struct pht_field made[PERSON_FIELDS] = {
        {.name = "age", .kind = PHT_FIELD_SIGNED, .size = 4, .offset = offsetof(struct person, age), .count = 1},
        {.name = "name", .kind = PHT_FIELD_CHAR, .size = 1, .offset = offsetof(struct person, name), .count = 20},
        {.name = "at",
         .kind = PHT_FIELD_STRUCT,
         .size = sizeof(struct point),
         .offset = offsetof(struct person, at),
         .count = 2,
         .type = point},
        {.name = "friends", .kind = PHT_FIELD_VALUE, .size = 8, .offset = offsetof(struct person, friends), .count = 1},
        {.name = "notes", .kind = PHT_FIELD_VALUE, .size = 8, .offset = offsetof(struct person, notes), .count = 3},
    };
    memcpy(fields, made, sizeof made);
}

static struct pht_layout person_layout(const struct pht_field *fields)
{
    return (struct pht_layout){.name = "module.Person",
                               .version = 3,
                               .size = sizeof(struct person),
                               .field_count = PERSON_FIELDS,
                               .fields = fields};
}

static uint32_t register_person(struct pht *t)
{
    struct pht_field fields[PERSON_FIELDS];
    uint32_t type;
    person_fields(register_point(t), fields);
    const struct pht_layout layout = person_layout(fields);
    ok(pht_type_register(t, &layout, &type));
    return type;
}

/* Catches: a layout that changes in the heap, gets two numbers, or is taken for another one. */
static void type__is_what_was_registered(void **state)
{
    (void)state;
    pheap *heap = verified_heap("types");
    struct pht t = change(heap);
    struct pht_field fields[PERSON_FIELDS], back[PERSON_FIELDS];
    struct pht_layout layout, shown;
    uint64_t print, other;
    uint32_t type, number;
    const uint32_t person = register_person(&t), point = register_point(&t);
    require_equal(register_person(&t), person);
    require(person != point);
    keep(&t);
    ok(pheap_close(heap));
    heap = values_heap(path_of("types", ""), 0);
    pheap_read *reader = read_begin(heap, 0);
    ok(pht_look(reader, &t));
    person_fields(point, fields);
    layout = person_layout(fields);
    ok(pht_type_register(&t, &layout, &type)); /* it is there: nothing need be written */
    require_equal(type, person);
    ok(pht_type_find(&t, "module.Person", 3, &number));
    require_equal(number, person);
    expect(PHEAP_NOT_FOUND, pht_type_find(&t, "module.Person", 4, &number));
    expect(PHEAP_NOT_FOUND, pht_type_find(&t, "module.Perso", 3, &number));
    ok(pht_type_show(&t, person, &shown, back, PERSON_FIELDS, &print));
    require_equal(shown.size, sizeof(struct person));
    require_equal(shown.version, 3);
    require_equal(shown.field_count, PERSON_FIELDS);
    require(shown.name_length == 13 && memcmp(shown.name, "module.Person", 13) == 0);
    for (unsigned i = 0; i < PERSON_FIELDS; i++) {
        require(back[i].name_length == strlen(fields[i].name) &&
                memcmp(back[i].name, fields[i].name, back[i].name_length) == 0);
        require(back[i].kind == fields[i].kind && back[i].size == fields[i].size && back[i].type == fields[i].type);
        require(back[i].offset == fields[i].offset && back[i].count == fields[i].count);
    }
    ok(pht_type_show(&t, point, &shown, NULL, 0, &other));
    require(print != other);
    expect(PHEAP_NOT_FOUND, pht_type_show(&t, 2, &shown, NULL, 0, NULL));
    (void)pheap_read_end(reader);
    /* Each way in which a layout may differ is told, with its name. */
    for (unsigned i = 0; i < PERSON_FIELDS + 3; i++) {
        t = change(heap);
        person_fields(point, fields);
        layout = person_layout(fields);
        if (i < PERSON_FIELDS)
            fields[i].name = "other";
        else if (i == PERSON_FIELDS)
            layout.field_count--;
        else if (i == PERSON_FIELDS + 1)
            layout.size += 8;
        else
            fields[1].count--;
        expect_detail(PHEAP_WRONG_TYPE,
                      i < PERSON_FIELDS       ? "'other'"
                      : i < PERSON_FIELDS + 2 ? "bytes"
                                              : "'name'",
                      pht_type_register(&t, &layout, &type));
        layout.version = 4;
        ok(pht_type_register(&t, &layout, &type));
        (void)pheap_abort(t.txn);
    }
    check_values(heap);
    ok(pheap_close(heap));
}

/* Catches: a fingerprint that depends on which number another type happens to have in a heap, or not on what that is. */
static void type__has_the_same_fingerprint_in_every_heap(void **state)
{
    (void)state;
    static const char *const names[] = {"first", "second", "third"};
    uint64_t prints[3];
    for (unsigned i = 0; i < 3; i++) {
        uint32_t type, inner;
        struct pht_layout shown;
        const struct pht_field x = {
            .name = "x", .kind = i == 2 ? PHT_FIELD_UNSIGNED : PHT_FIELD_SIGNED, .size = 4, .count = 1};
        const struct pht_layout other = {.name = "another", .size = 4, .field_count = 1, .fields = &x};
        const struct pht_layout plain = {.name = "inner", .size = 4, .field_count = 1, .fields = &x};
        pheap *heap = new_values_heap(names[i]);
        struct pht t = change(heap);
        if (i == 1)
            ok(pht_type_register(&t, &other, &type));
        ok(pht_type_register(&t, &plain, &inner));
        const struct pht_field s = {.name = "s", .kind = PHT_FIELD_STRUCT, .size = 4, .count = 1, .type = inner};
        const struct pht_layout nested = {.name = "outer", .size = 4, .field_count = 1, .fields = &s};
        ok(pht_type_register(&t, &nested, &type));
        ok(pht_type_show(&t, type, &shown, NULL, 0, &prints[i]));
        keep(&t);
        check_values(heap);
        ok(pheap_close(heap));
    }
    require(prints[0] == prints[1]);
    require(prints[0] != prints[2]);
}

/* Catches: a property of a field or type that the fingerprint does not count. */
static void type__has_another_fingerprint_if_anything_differs(void **state)
{
    (void)state;
    enum { LAYOUTS = 12 };
    uint64_t prints[LAYOUTS];
    for (unsigned i = 0; i < LAYOUTS; i++) { /* in heaps of their own: one name and version stand for one layout */
        uint32_t type;
        char name[32];
        struct pht_layout shown;
        struct pht_field f = {.name = "field", .kind = PHT_FIELD_SIGNED, .size = 4, .offset = 4, .count = 1};
        f.name = i == 1 ? "other" : f.name;
        f.kind = i == 2 ? PHT_FIELD_UNSIGNED : f.kind;
        f.size = i == 3 ? 2 : f.size;
        f.offset = i == 4 ? 8 : f.offset;
        f.count = i == 5 ? 2 : f.count;
        f.bit_count = i == 6 || i == 7 ? 5 : 0;
        f.bit_first = i == 7 ? 3 : 0;
        const struct pht_layout layout = {.name = i == 8   ? "another"
                                                  : i == 9 ? "typ"
                                                           : "type",
                                          .version = i == 10 ? 1 : 0,
                                          .size = i == 11 ? 32 : 16,
                                          .field_count = 1,
                                          .fields = &f};
        (void)snprintf(name, sizeof name, "fingerprint-%u", i);
        pheap *heap = new_values_heap(name);
        struct pht t = change(heap);
        ok(pht_type_register(&t, &layout, &type));
        ok(pht_type_show(&t, type, &shown, NULL, 0, &prints[i]));
        keep(&t);
        ok(pheap_close(heap));
        for (unsigned before = 0; before < i; before++)
            if (prints[before] == prints[i])
                check_failed(__FILE__, __LINE__, "layouts %u and %u have the same fingerprint", before, i);
    }
}

/* Catches: a layout that would let a program store outside of its struct, or over a value. */
static void type__that_is_impossible_is_refused(void **state)
{
    (void)state;
    pheap *heap = verified_heap("impossible");
    struct pht t = change(heap);
    uint32_t type;
    const uint32_t person = register_person(&t);
    const struct pht_field bad[] = {
        {.name = "f", .kind = PHT_FIELD_SIGNED, .size = 3, .offset = 0, .count = 1},
        {.name = "f", .kind = PHT_FIELD_SIGNED, .size = 4, .offset = 14, .count = 1},
        {.name = "f", .kind = PHT_FIELD_SIGNED, .size = 4, .offset = UINT64_MAX - 3, .count = 1},
        {.name = "f", .kind = PHT_FIELD_SIGNED, .size = 4, .offset = 0, .count = UINT64_MAX / 2},
        {.name = "f", .kind = PHT_FIELD_SIGNED, .size = 4, .offset = 0, .count = 0},
        {.name = "f", .kind = PHT_FIELD_FLOAT, .size = 2, .offset = 0, .count = 1},
        {.name = "f", .kind = PHT_FIELD_VALUE, .size = 8, .offset = 4, .count = 1},
        {.name = "f", .kind = PHT_FIELD_VALUE, .size = 4, .offset = 0, .count = 1},
        {.name = "f", .kind = PHT_FIELD_SIGNED, .size = 4, .offset = 0, .count = 1, .bit_first = 30, .bit_count = 3},
        {.name = "f", .kind = PHT_FIELD_FLOAT, .size = 4, .offset = 0, .count = 1, .bit_count = 3},
        {.name = "f", .kind = PHT_FIELD_SIGNED, .size = 4, .offset = 0, .count = 1, .type = 1},
        {.name = "f", .kind = PHT_FIELD_STRUCT, .size = 8, .offset = 0, .count = 1, .type = 0},
        {.name = "f", .kind = PHT_FIELD_STRUCT, .size = sizeof(struct person), .offset = 0, .count = 1, .type = person},
        {.name = "f", .kind = 0, .size = 4, .offset = 0, .count = 1},
        {.name = "f", .kind = 99, .size = 4, .offset = 0, .count = 1},
        {.name = "", .kind = PHT_FIELD_SIGNED, .size = 4, .offset = 0, .count = 1},
        {.name = NULL, .kind = PHT_FIELD_SIGNED, .size = 4, .offset = 0, .count = 1},
        {.name = "\xff", .kind = PHT_FIELD_SIGNED, .size = 4, .offset = 0, .count = 1},
    };
    for (unsigned i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        const struct pht_layout layout = {.name = "t", .size = 16, .field_count = 1, .fields = &bad[i]};
        if (pht_type_register(&t, &layout, &type) != PHEAP_INVALID)
            check_failed(__FILE__, __LINE__, "bad field %u", i);
    }
    const struct pht_field over[] = {
        {.name = "v", .kind = PHT_FIELD_VALUE, .size = 8, .offset = 8, .count = 1},
        {.name = "f", .kind = PHT_FIELD_SIGNED, .size = 4, .offset = 12, .count = 1},
    };
    const struct pht_layout overlapping = {.name = "t", .size = 16, .field_count = 2, .fields = over};
    expect_detail(PHEAP_INVALID, "overlaps", pht_type_register(&t, &overlapping, &type));
    const struct pht_field into[] = {
        {.name = "v", .kind = PHT_FIELD_VALUE, .size = 8, .offset = 8, .count = 1},
        {.name = "f", .kind = PHT_FIELD_SIGNED, .size = 4, .offset = 0, .count = 3},
    };
    const struct pht_layout reaching = {.name = "t", .size = 16, .field_count = 2, .fields = into};
    expect_detail(PHEAP_INVALID, "overlaps", pht_type_register(&t, &reaching, &type));
    const struct pht_field second[] = {
        {.name = "v", .kind = PHT_FIELD_VALUE, .size = 8, .offset = 0, .count = 2},
        {.name = "f", .kind = PHT_FIELD_CHAR, .size = 1, .offset = 15, .count = 1},
    };
    const struct pht_layout reached = {.name = "t", .size = 16, .field_count = 2, .fields = second};
    expect_detail(PHEAP_INVALID, "overlaps", pht_type_register(&t, &reached, &type));
    const struct pht_layout sizes[] = {{.name = "t", .size = 0},
                                       {.name = "t", .size = UINT64_MAX},
                                       {.name = "", .size = 8},
                                       {.name = "t", .size = 8, .field_count = 1}};
    for (unsigned i = 0; i < 4; i++)
        expect(PHEAP_INVALID, pht_type_register(&t, &sizes[i], &type));
    /* Integers may share their bytes, as in a union. */
    const struct pht_field shared[] = {
        {.name = "a", .kind = PHT_FIELD_UNSIGNED, .size = 8, .offset = 0, .count = 1, .bit_first = 3, .bit_count = 61},
        {.name = "b", .kind = PHT_FIELD_SIGNED, .size = 4, .offset = 0, .count = 2},
    };
    const struct pht_layout both = {.name = "t", .size = 8, .field_count = 2, .fields = shared};
    ok(pht_type_register(&t, &both, &type));
    keep(&t);
    check_values(heap);
    ok(pheap_close(heap));
}

/* Catches: fields that are lost, values of records that are not counted or not given back, a wrong type that is let in. */
static void record__keeps_fields_and_values(void **state)
{
    (void)state;
    pheap *heap = verified_heap("records");
    struct pht t = change(heap);
    const uint32_t person = register_person(&t), point = register_point(&t);
    pht_value record, list, value;
    uint64_t at;
    uint32_t found, count;
    enum pht_kind kind;
    struct pht_any any;
    void *address;
    ok(pht_record_new(&t, person, &record));
    root_set(&t, "joe", pht_of(record));
    ok(pht_kind_of(&t, record, &kind));
    require_equal(kind, PHT_RECORD);
    ok(pht_record_at(&t, record, person, &at, &found));
    require_equal(at % 16, 0);
    require_equal(found, person);
    expect_detail(PHEAP_WRONG_TYPE, "type number", pht_record_at(&t, record, point, &at, NULL));
    expect(PHEAP_WRONG_TYPE, pht_record_at(&t, pht_root(&t), person, &at, NULL));
    expect(PHEAP_NOT_FOUND, pht_record_new(&t, 7, &value));
    ok(pheap_edit(t.txn, at, sizeof(struct person), &address));
    struct person *joe = address;
    joe->age = 27;
    joe->at[1].y = 2.5;
    ok(pht_list_new(&t, &list));
    ok(pht_record_get(&t, record, offsetof(struct person, friends), &value));
    require_equal(value, PHT_ABSENT);
    ok(pht_record_set(&t, record, offsetof(struct person, friends), pht_of(list)));
    ok(pht_record_set(&t, record, offsetof(struct person, notes) + 16, pht_text("a note that is an object")));
    ok(pht_list_append(&t, list, pht_of(record))); /* a cycle */
    ok(pht_references(&t, list, &count));
    require_equal(count, 1);
    const uint64_t wrong[] = {offsetof(struct person, age), offsetof(struct person, friends) + 4, sizeof(struct person),
                              UINT64_MAX};
    for (unsigned i = 0; i < 4; i++) {
        expect(PHEAP_INVALID, pht_record_set(&t, record, wrong[i], pht_int(1)));
        expect(PHEAP_INVALID, pht_record_get(&t, record, wrong[i], &value));
    }
    keep(&t);
    check_values(heap);
    pheap_read *reader = read_begin(heap, PHEAP_FRESH);
    ok(pht_look(reader, &t));
    record = root_get(&t, "joe");
    ok(pht_record_at(&t, record, person, &at, NULL));
    const struct person *seen = (const struct person *)(const void *)(t.base + at);
    require(seen->age == 27 && seen->at[1].y == 2.5 && seen->name[0] == 0);
    ok(pht_record_get(&t, record, offsetof(struct person, notes) + 16, &value));
    require(is(&t, value, pht_text("a note that is an object")));
    ok(pht_show(&t, &record, &any));
    require_equal(any.kind, PHT_RECORD);
    (void)pheap_read_end(reader);
    t = change(heap);
    ok(pht_record_set(&t, record, offsetof(struct person, notes) + 16, pht_of(PHT_ABSENT)));
    ok(pht_map_remove(&t, pht_root(&t), pht_text("joe"), NULL));
    keep(&t);
    uint64_t collected;
    ok(pht_collect(heap, PHEAP_LAZY, &collected)); /* the record and the list hold each other */
    require_equal(collected, 2);
    check_values(heap);
    reclaim_all(heap);
    require_equal(live_blocks(heap), 6); /* registry, root, list of types and its leaf, two types */
    ok(pheap_close(heap));
}

/* Catches: a record that takes over another one and leaves values that are counted twice or not at all, bytes of what it
 * was, or a block too small for what it is now. */
static void record__takes_over_another(void **state)
{
    (void)state;
    pheap *heap = verified_heap("take");
    struct pht t = change(heap);
    static const struct pht_field fields[] = {
        {.name = "a", .kind = PHT_FIELD_VALUE, .size = 8, .offset = 0, .count = 1},
        {.name = "b", .kind = PHT_FIELD_SIGNED, .size = 8, .offset = 8, .count = 1},
    };
    const struct pht_layout small = {.name = "small", .size = 8, .field_count = 1, .fields = fields},
                            large = {.name = "large", .size = 16, .field_count = 2, .fields = fields};
    uint32_t one, two;
    const uint32_t person = register_person(&t);
    pht_value record, from, list;
    uint64_t at;
    void *address;
    ok(pht_type_register(&t, &small, &one));
    ok(pht_type_register(&t, &large, &two));
    ok(pht_record_new(&t, one, &record));
    ok(pht_list_new(&t, &list));
    ok(pht_record_set(&t, record, 0, pht_of(list)));
    root_set(&t, "it", pht_of(record));
    ok(pht_record_new(&t, two, &from));
    ok(pht_record_set(&t, from, 0, pht_text("more than seven bytes")));
    ok(pht_record_at(&t, from, two, &at, NULL));
    ok(pheap_edit(t.txn, at, 16, &address));
    ((int64_t *)address)[1] = -3;
    keep(&t);
    t = change(heap);
    expect(PHEAP_INVALID, pht_record_take(&t, record, record));
    expect(PHEAP_WRONG_TYPE, pht_record_take(&t, record, pht_root(&t)));
    ok(pht_record_take(&t, record, from));
    ok(pht_discard(&t, from));
    ok(pht_record_at(&t, record, two, &at, NULL));
    require_equal(pht_record_type_at(t.base, at), two);
    require(((const int64_t *)(const void *)(t.base + at))[1] == -3);
    ok(pht_record_get(&t, record, 0, &from));
    require(is(&t, from, pht_text("more than seven bytes")));
    /* Larger than the block: refused, and nothing done. */
    ok(pht_record_new(&t, person, &from));
    expect_detail(PHEAP_INVALID, "no room", pht_record_take(&t, record, from));
    ok(pht_record_at(&t, record, two, &at, NULL));
    ok(pht_discard(&t, from));
    /* And back, where the bytes that are not needed any more are zeroed. */
    ok(pht_record_new(&t, one, &from));
    ok(pht_record_take(&t, record, from));
    ok(pht_discard(&t, from));
    ok(pht_record_at(&t, record, one, &at, NULL));
    require(((const int64_t *)(const void *)(t.base + at))[1] == 0);
    keep(&t);
    check_values(heap);
    pheap_read *reader = read_begin(heap, PHEAP_FRESH);
    ok(pht_look(reader, &t));
    expect(PHEAP_READ_ONLY, pht_record_take(&t, record, from));
    (void)pheap_read_end(reader);
    ok(pheap_close(heap));
}

/* Catches: a store of structs by key whose index and data can part; a sparse array that takes disk; wrong types. */
static void array__of_structs_by_key(void **state)
{
    (void)state;
    pheap *heap = verified_heap("arrays");
    struct pht t = change(heap);
    const uint32_t point = register_point(&t), person = register_person(&t);
    pht_value array, huge;
    uint64_t at, count;
    for (int64_t i = 0; i < 50; i++) {
        ok(pht_array_new(&t, point, 256, &array));
        ok(pht_array_at(&t, array, point, &at, &count));
        require_equal(count, 256);
        require_equal(at % 16, 0);
        const struct point last = {.x = (double)i, .y = -1};
        ok(pheap_write(t.txn, at + 255 * sizeof last, &last, sizeof last));
        ok(pht_map_set(&t, pht_root(&t), pht_bytes(&i, sizeof i), pht_of(array)));
    }
    ok(pht_array_new(&t, point, UINT64_C(1) << 26, &huge)); /* 1 GiB */
    root_set(&t, "huge", pht_of(huge));
    expect(PHEAP_WRONG_TYPE, pht_array_at(&t, huge, person, &at, &count));
    expect(PHEAP_INVALID, pht_array_new(&t, person, 3, &array)); /* it has values */
    expect(PHEAP_INVALID, pht_array_new(&t, point, UINT64_MAX / 16, &array));
    ok(pht_array_at(&t, huge, PHT_ANY_TYPE, &at, &count));
    struct pht_elements elements;
    ok(pht_elements_at(&t, huge, PHT_ANY_TYPE, &elements)); /* what an array of unknown origin has */
    require_equal(elements.type, point);
    require_equal(elements.size, sizeof(struct point));
    require_equal(elements.offset, at);
    require_equal(elements.first, 0);
    require_equal(elements.count, count);
    expect(PHEAP_WRONG_TYPE, pht_elements_at(&t, huge, person, &elements));
    expect(PHEAP_WRONG_TYPE, pht_elements_at(&t, pht_root(&t), PHT_ANY_TYPE, &elements));
    ok(pheap_write(t.txn, at + (count - 1) * 16, &(struct point){1, 2}, 16));
    keep(&t);
    ok(pheap_checkpoint(heap));
    require(heap_info(heap).disk_bytes < 64 << 20);
    check_values(heap);
    t = change(heap);
    for (int64_t i = 0; i < 50; i++) {
        ok(pht_map_get(&t, pht_root(&t), pht_bytes(&i, sizeof i), &array));
        ok(pht_array_at(&t, array, point, &at, &count));
        require(((const struct point *)(const void *)(t.base + at))[255].x == (double)i);
    }
    ok(pht_map_clear(&t, pht_root(&t)));
    keep(&t);
    reclaim_all(heap);
    require_equal(live_blocks(heap), 6);
    ok(pheap_close(heap));
}

/* Catches: a ring that loses its order where it closes, or keeps more than it may. */
static void ring__keeps_the_last_ones(void **state)
{
    (void)state;
    pheap *heap = verified_heap("rings");
    struct pht t = change(heap);
    const uint32_t point = register_point(&t);
    pht_value ring;
    uint64_t at, count, capacity;
    expect(PHEAP_INVALID, pht_ring_new(&t, point, 0, &ring));
    ok(pht_ring_new(&t, point, 7, &ring));
    root_set(&t, "ring", pht_of(ring));
    keep(&t);
    uint64_t first = 0, next = 0, dice = 3;
    for (unsigned i = 0; i < 500; i++) {
        t = change(heap);
        if (dice_roll(&dice) % 4 != 0) {
            ok(pht_ring_push(&t, ring, point, &at));
            *(struct point *)(void *)(t.base + at) = (struct point){.x = (double)next++, .y = 0};
            first = next - first > 7 ? next - 7 : first;
        } else if (next > first) {
            ok(pht_ring_pop(&t, ring));
            first++;
        } else {
            expect(PHEAP_INVALID, pht_ring_pop(&t, ring));
        }
        if (i % 3 == 0) {
            (void)pheap_abort(t.txn);
            t = change(heap);
            ok(pht_ring_count(&t, ring, &count, &capacity));
            /* What was undone: find out from the ring itself. */
            if (count > 0) {
                ok(pht_ring_at(&t, ring, point, 0, &at));
                first = (uint64_t)((const struct point *)(const void *)(t.base + at))->x;
                next = first + count;
            } else {
                next = first;
            }
        }
        ok(pht_ring_count(&t, ring, &count, &capacity));
        require_equal(count, next - first);
        require_equal(capacity, 7);
        for (uint64_t n = 0; n < count; n++) {
            ok(pht_ring_at(&t, ring, point, n, &at));
            require(((const struct point *)(const void *)(t.base + at))->x == (double)(first + n));
        }
        expect(PHEAP_INVALID, pht_ring_at(&t, ring, point, count, &at));
        keep(&t);
    }
    check_values(heap);
    ok(pheap_close(heap));
}

int main(int argc, char **argv)
{
    choose_cases(argc, argv);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(type__is_what_was_registered),
        cmocka_unit_test(type__has_the_same_fingerprint_in_every_heap),
        cmocka_unit_test(type__has_another_fingerprint_if_anything_differs),
        cmocka_unit_test(type__that_is_impossible_is_refused),
        cmocka_unit_test(record__keeps_fields_and_values),
        cmocka_unit_test(record__takes_over_another),
        cmocka_unit_test(array__of_structs_by_key),
        cmocka_unit_test(ring__keeps_the_last_ones),
    };
    return cmocka_run_group_tests(tests, make_test_directory, remove_test_directory);
}
