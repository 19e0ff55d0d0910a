/* SPDX-License-Identifier: MIT */
/*
 * Every function of types/ that stores, by number, on a heap in which each of them has as much to do as it may have.
 */
#ifndef TESTS_TYPES_FUNCTIONS_H
#define TESTS_TYPES_FUNCTIONS_H

#include "tests/types_rig.h"

static const char object_text[] = "a text that is an object";

/* A heap in which the next change of anything is one of the large ones: a node splits, a map gets buckets and so on. */
struct rig {
    pheap *heap;
    pht_value small_map, map, set, list, short_list, tall, queue, omap, record, ring, loose;
    pht_value tuple, tuple_map, tuple_omap, frozen, frozen_map;
    pht_value thin_map, least_map, empty_list, thin_list, empty_omap, thin_omap, front_queue, back_queue;
    uint32_t record_type, cell_type;
    uint64_t content, garbage;
};

static const struct pht_field record_fields[] = {
    {.name = "v", .kind = PHT_FIELD_VALUE, .size = 8, .offset = 8, .count = 3},
    {.name = "i", .kind = PHT_FIELD_SIGNED, .size = 4, .offset = 0, .count = 2}};
static const struct pht_field other_fields[] = {
    {.name = "x", .kind = PHT_FIELD_FLOAT, .size = 8, .offset = 0, .count = 1}};
static const struct pht_layout record_layout = {.name = "r", .size = 32, .field_count = 2, .fields = record_fields};
static const struct pht_layout cell_layout = {.name = "cell", .size = 8, .field_count = 1, .fields = record_fields + 1};
static const struct pht_layout other_layout = {.name = "other", .size = 8, .field_count = 1, .fields = other_fields};

static inline void fill_containers(struct rig *rig, struct pht *t)
{
    char key[48];
    ok(pht_map_new(t, &rig->small_map));
    ok(pht_map_new(t, &rig->map));
    ok(pht_set_new(t, &rig->set));
    ok(pht_list_new(t, &rig->list));
    ok(pht_list_new(t, &rig->short_list));
    ok(pht_list_new(t, &rig->tall));
    ok(pht_queue_new(t, &rig->queue));
    ok(pht_omap_new(t, &rig->omap));
    for (int64_t i = 0; i < 8; i++)
        ok(pht_map_set(t, rig->small_map, pht_int(i), pht_text(object_text)));
    for (int64_t i = 0; i < 508; i++) { /* 4 chunks of entries; the buckets grow with the next */
        (void)snprintf(key, sizeof key, i % 2 == 0 ? "%lld" : "a key that is an object: %lld", (long long)i);
        ok(pht_map_set(t, rig->map, pht_text(key), pht_float(1e300 + (double)i)));
    }
    for (int64_t i = 0; i < 170; i++)
        ok(pht_set_add(t, rig->set, pht_int(i), NULL));
    for (int64_t i = 0; i < 126 * 2; i++)
        ok(pht_list_append(t, rig->list, pht_int(i)));
    ok(pht_list_append(t, rig->short_list, pht_text(object_text)));
    for (int64_t i = 0; i < 7938; i++) /* one more leaf, and the tree has another level */
        ok(pht_list_append(t, rig->tall, pht_int(i)));
    for (int64_t i = 0; i < 124; i++)
        ok(pht_queue_push(t, rig->queue, false, pht_int(i)));
    for (int64_t i = 0; i < 63; i++)
        ok(pht_omap_set(t, rig->omap, pht_int(2 * i), pht_text(object_text)));
}

/*
 * From which the next removal takes more than a word: nodes join, buckets merge or go, links and leaves are given back.
 */
static inline void fill_thin(struct rig *rig, struct pht *t)
{
    ok(pht_map_new(t, &rig->thin_map));
    ok(pht_map_new(t, &rig->least_map));
    ok(pht_list_new(t, &rig->empty_list));
    ok(pht_list_new(t, &rig->thin_list));
    ok(pht_omap_new(t, &rig->empty_omap));
    ok(pht_omap_new(t, &rig->thin_omap));
    ok(pht_queue_new(t, &rig->front_queue));
    ok(pht_queue_new(t, &rig->back_queue));
    for (int64_t i = 0; i < 400; i++)
        ok(pht_map_set(t, rig->thin_map, pht_int(i), pht_int(i)));
    for (int64_t i = 0; i < 12; i++)
        ok(pht_map_set(t, rig->least_map, pht_int(i), pht_int(i)));
    for (int64_t i = 5; i < 400; i++) { /* buckets are half as many as entries, and at least some */
        if (i >= 200)
            ok(pht_map_remove(t, rig->thin_map, pht_int(i), NULL));
        if (i < 12)
            ok(pht_map_remove(t, rig->least_map, pht_int(i), NULL));
    }
    for (int64_t i = 0; i < 126 * 6; i++)
        ok(pht_list_append(t, rig->thin_list, pht_int(i)));
    for (uint64_t leaf = 0; leaf < 5; leaf++) /* 32 are left in each, which is just more than a quarter */
        for (unsigned i = 0; i < 94; i++)
            ok(pht_list_remove(t, rig->thin_list, 32 * leaf, NULL));
    for (unsigned i = 0; i < 125; i++) /* one in the tail */
        ok(pht_list_remove(t, rig->thin_list, 32 * 5, NULL));
    for (int64_t i = 0; i < 63 * 6; i++)
        ok(pht_omap_set(t, rig->thin_omap, pht_int(i), pht_int(i)));
    for (int64_t i = 0; i < 63 * 6; i++)
        if (i % 63 >= 16)
            ok(pht_omap_remove(t, rig->thin_omap, pht_int(i), NULL));
    for (int64_t i = 0; i < 125; i++) {
        ok(pht_queue_push(t, rig->front_queue, false, pht_int(i)));
        ok(pht_queue_push(t, rig->back_queue, false, pht_int(i)));
    }
    for (unsigned i = 0; i < 123; i++)
        ok(pht_queue_pop(t, rig->front_queue, true, NULL));
}

/* Tuples as keys, which are compared element by element. */
static inline void fill_tuples(struct rig *rig, struct pht *t)
{
    pht_value key;
    ok(pht_map_new(t, &rig->tuple_map));
    ok(pht_omap_new(t, &rig->tuple_omap));
    for (int64_t i = 0; i < 20; i++) {
        const struct pht_any inner[] = {pht_text(object_text), pht_int(i)};
        ok(pht_tuple_new(t, inner, 2, &key));
        const struct pht_any outer[] = {pht_int(1), pht_of(key)};
        ok(pht_tuple_new(t, outer, 2, &rig->tuple));
        ok(pht_map_set(t, rig->tuple_map, pht_of(rig->tuple), pht_int(i)));
        ok(pht_omap_set(t, rig->tuple_omap, pht_of(rig->tuple), pht_int(i)));
    }
}

/* Elements of every kind that a frozenset may have: also one that is given, and one twice. */
#define FROZEN_ELEMENTS(rig, inner)                                                                       \
    {                                                                                                     \
        pht_text(object_text), pht_int(1), pht_of((rig)->tuple), pht_frozenset(inner, 2), pht_float(1.0), \
            pht_tuple(inner, 2)                                                                           \
    }
#define FROZEN_COUNT 6u
static const struct pht_any *frozen_inner(void)
{
    static struct pht_any inner[2];
    inner[0] = pht_text("another text that is an object");
    inner[1] = pht_int(7);
    return inner;
}

/* Frozensets as keys and values. */
static inline void fill_frozen(struct rig *rig, struct pht *t)
{
    ok(pht_map_new(t, &rig->frozen_map));
    for (int64_t i = 0; i < 10; i++) {
        const struct pht_any elements[] = {pht_int(i), pht_of(rig->tuple), pht_text(object_text)};
        ok(pht_frozenset_new(t, elements, 3, &rig->frozen));
        ok(pht_map_set(t, rig->frozen_map, pht_of(rig->frozen), pht_frozenset(elements, 2)));
    }
}

static inline void fill(struct rig *rig, struct pht *t)
{
    uint64_t at;
    fill_containers(rig, t);
    fill_thin(rig, t);
    fill_tuples(rig, t);
    fill_frozen(rig, t);
    ok(pht_type_register(t, &record_layout, &rig->record_type));
    ok(pht_type_register(t, &cell_layout, &rig->cell_type));
    ok(pht_record_new(t, rig->record_type, &rig->record));
    ok(pht_record_set(t, rig->record, 8, pht_text(object_text)));
    ok(pht_ring_new(t, rig->cell_type, 3, &rig->ring));
    ok(pht_ring_push(t, rig->ring, rig->cell_type, &at));
    const pht_value all[] = {rig->small_map, rig->map,         rig->set,        rig->list,      rig->short_list,
                             rig->tall,      rig->queue,       rig->omap,       rig->record,    rig->ring,
                             rig->thin_map,  rig->least_map,   rig->empty_list, rig->thin_list, rig->empty_omap,
                             rig->thin_omap, rig->front_queue, rig->back_queue, rig->tuple_map, rig->tuple_omap,
                             rig->frozen_map};
    for (unsigned i = 0; i < sizeof all / sizeof all[0]; i++)
        ok(pht_map_set(t, pht_root(t), pht_int(i), pht_of(all[i])));
}

/* Something in limbo, so that all that stores also takes apart: a list of maps, and what they have. */
static inline void fill_limbo(struct pht *t)
{
    pht_value list, map;
    ok(pht_list_new(t, &list));
    for (int64_t i = 0; i < 3; i++) {
        ok(pht_map_new(t, &map));
        ok(pht_map_set(t, map, pht_text(object_text), pht_text(object_text)));
        ok(pht_list_append(t, list, pht_of(map)));
    }
    ok(pht_discard(t, list));
}

static inline enum pheap_status make_tuple(struct pht *t)
{
    pht_value made;
    const struct pht_any elements[] = {pht_text(object_text), pht_int(1), pht_bytes(object_text, sizeof object_text)};
    return pht_tuple_new(t, elements, 3, &made);
}

static inline enum pheap_status clear_and_reclaim(struct pht *t, const struct rig *rig)
{
    enum pheap_status status = pht_map_clear(t, rig->map);
    return status == PHEAP_OK ? pht_reclaim(t, 100000, NULL) : status;
}

static inline enum pheap_status empty_from_front(struct pht *t, const struct rig *rig)
{
    enum pheap_status status = PHEAP_OK;
    for (unsigned i = 0; i < 130 && status == PHEAP_OK; i++)
        status = pht_list_remove(t, rig->list, 0, NULL);
    return status;
}

static inline enum pheap_status store_frozen(unsigned function, struct pht *t, const struct rig *rig)
{
    pht_value made;
    enum pheap_status status;
    const struct pht_any *inner = frozen_inner();
    const struct pht_any elements[] = FROZEN_ELEMENTS(rig, inner);
    switch (function) {
    case 64:
        return pht_frozenset_new(t, elements, FROZEN_COUNT, &made);
    case 65:
        return pht_map_set(t, rig->frozen_map, pht_frozenset(elements, FROZEN_COUNT), pht_text(object_text));
    case 66: /* the key is made when there is no memory for the value */
        return pht_map_set(t, rig->map, pht_text("another key that is an object"),
                           pht_frozenset(elements, FROZEN_COUNT));
    case 67:
        return pht_map_set(t, rig->frozen_map, pht_of(rig->frozen), pht_tuple(elements, FROZEN_COUNT));
    case 68:
        return pht_map_remove(t, rig->frozen_map, pht_of(rig->frozen), NULL);
    case 69:
        return pht_set_add(t, rig->set, pht_frozenset(elements, FROZEN_COUNT), NULL);
    default:
        status = pht_map_clear(t, rig->frozen_map);
        return status == PHEAP_OK ? pht_reclaim(t, 100000, NULL) : status;
    }
}

static inline enum pheap_status store_in_thin(unsigned function, struct pht *t, const struct rig *rig)
{
    pht_value made;
    switch (function) {
    case 46:
        return pht_map_remove(t, rig->thin_map, pht_int(3), NULL);
    case 47:
        return pht_map_remove(t, rig->least_map, pht_int(3), NULL);
    case 48:
        return pht_list_append(t, rig->empty_list, pht_text(object_text));
    case 49:
        return pht_list_remove(t, rig->thin_list, 40, NULL);
    case 50:
        return pht_list_remove(t, rig->thin_list, 159, &made); /* of the last leaf, which joins the one before it */
    case 51:
        return pht_list_remove(t, rig->thin_list, 160, NULL); /* the tail */
    case 52:
        return pht_omap_set(t, rig->empty_omap, pht_text(object_text), pht_text(object_text));
    case 53:
        return pht_omap_remove(t, rig->thin_omap, pht_int(0), NULL);
    case 54:
        return pht_omap_remove(t, rig->thin_omap, pht_int(63 * 5 + 15), &made);
    case 55:
        return pht_queue_pop(t, rig->front_queue, true, NULL);
    case 56:
        return pht_queue_pop(t, rig->back_queue, false, NULL);
    case 57:
        return pht_omap_set(t, rig->thin_omap, pht_int(-1), pht_int(1)); /* a new first key */
    case 58:
        return pht_list_insert(t, rig->short_list, 0, pht_of(rig->loose));
    case 59:
        return pht_queue_push(t, rig->back_queue, true, pht_text(object_text));
    case 60:
        return pht_map_set(t, rig->tuple_map, pht_of(rig->tuple), pht_text(object_text));
    case 61:
        return pht_omap_set(t, rig->tuple_omap, pht_of(rig->tuple), pht_text(object_text));
    case 62:
        return pht_omap_remove(t, rig->tuple_omap, pht_of(rig->tuple), NULL);
    case 63:
        return pht_map_clear(t, rig->tuple_map);
    default:
        return store_frozen(function, t, rig);
    }
}

static inline enum pheap_status store(unsigned function, struct pht *t, const struct rig *rig)
{
    const uint64_t limbs[] = {1, 2, 3};
    pht_value made;
    uint64_t at;
    uint32_t type;
    switch (function) {
    case 0:
        return pht_map_set(t, rig->small_map, pht_text("another key that is an object"), pht_text(object_text));
    case 1:
        return pht_map_set(t, rig->map, pht_text("another key that is an object"), pht_text(object_text));
    case 2:
        return pht_map_set(t, rig->map, pht_text("4"), pht_of(rig->omap));
    case 3:
        return pht_map_add(t, rig->map, pht_int(-1), pht_text(object_text), &made);
    case 4:
        return pht_map_remove(t, rig->map, pht_text("4"), NULL);
    case 5:
        return pht_map_remove(t, rig->map, pht_text("a key that is an object: 9"), &made);
    case 6:
        return clear_and_reclaim(t, rig);
    case 7:
        return pht_set_add(t, rig->set, pht_text(object_text), NULL);
    case 8:
        return pht_set_remove(t, rig->set, pht_int(3), NULL);
    case 9:
        return pht_set_clear(t, rig->set);
    case 10:
        return pht_list_append(t, rig->list, pht_text(object_text));
    case 11:
        return pht_list_insert(t, rig->list, 60, pht_text(object_text));
    case 12:
        return pht_list_insert(t, rig->tall, 5000, pht_text(object_text));
    case 13:
        return pht_list_append(t, rig->tall, pht_text(object_text));
    case 14:
        return pht_list_set(t, rig->short_list, 0, pht_text("something else that is an object"));
    case 15:
        return pht_list_remove(t, rig->short_list, 0, NULL);
    case 16:
        return empty_from_front(t, rig);
    case 17:
        return pht_list_clear(t, rig->list);
    case 18:
        return pht_queue_push(t, rig->queue, true, pht_text(object_text));
    case 19:
        return pht_queue_push(t, rig->queue, false, pht_text(object_text));
    case 20:
        return pht_queue_pop(t, rig->queue, true, &made);
    case 21:
        return pht_queue_set(t, rig->queue, 5, pht_text(object_text));
    case 22:
        return pht_queue_clear(t, rig->queue);
    case 23:
        return pht_omap_set(t, rig->omap, pht_int(31), pht_text(object_text));
    case 24:
        return pht_omap_set(t, rig->omap, pht_int(32), pht_text("something else that is an object"));
    case 25:
        return pht_omap_remove(t, rig->omap, pht_int(32), NULL);
    case 26:
        return pht_omap_clear(t, rig->omap);
    case 27:
        return make_tuple(t);
    case 28:
        return pht_make(t, pht_bigint(true, limbs, 3), &made);
    case 29:
        return pht_block_new(t, 100000, &made);
    case 30:
        return pht_type_register(t, &other_layout, &type);
    case 31:
        return pht_record_new(t, rig->record_type, &made);
    case 32:
        return pht_record_set(t, rig->record, 8, pht_text("something else that is an object"));
    case 33:
        return pht_record_set(t, rig->record, 8, pht_of(PHT_ABSENT));
    case 34:
        return pht_array_new(t, rig->cell_type, 1000, &made);
    case 35:
        return pht_ring_new(t, rig->cell_type, 10, &made);
    case 36:
        return pht_ring_push(t, rig->ring, rig->cell_type, &at);
    case 37:
        return pht_ring_pop(t, rig->ring);
    case 38:
        return pht_reclaim(t, 1000, NULL);
    case 39:
        return pht_discard(t, rig->loose);
    case 40:
        return pht_forget_limbo(t);
    case 41:
        return pht_map_new(t, &made);
    case 42:
        return pht_set_new(t, &made);
    case 43:
        return pht_list_new(t, &made);
    case 44:
        return pht_queue_new(t, &made);
    case 45:
        return pht_omap_new(t, &made);
    default:
        return store_in_thin(function, t, rig);
    }
}
#define FUNCTIONS 71u

#endif
