/* SPDX-License-Identifier: MIT */
/*
 * Makes a heap of values, for test_tools.sh to check:
 *
 *   make_values sound|damaged|rich HEAP
 *
 * In the root map a list; and two maps that only refer to each other.  If it is to be damaged, the list says that it
 * has more references than there are.  A rich one has values of every kind besides, with names that might break an
 * answer.
 */
#include "types/types.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

static void must(enum pheap_status status)
{
    if (status == PHEAP_OK)
        return;
    (void)fprintf(stderr, "make_values: %s: %s\n", pheap_status_name(status), pheap_error_detail());
    exit(EXIT_FAILURE);
}

static const char evil_name[] = "a\"b\\\\c\n\x1b[31m\xc2\x85";

static void put(struct pht *t, const char *name, struct pht_any any)
{
    must(pht_map_set(t, pht_root(t), pht_text(name), any));
}

/* A struct with fields of every kind, as the record "record" and in the array "array" and the ring "ring". */
static void put_structs(struct pht *t)
{
    static const struct pht_field inner_fields[] = {
        {.name = "low", .kind = PHT_FIELD_SIGNED, .size = 4, .offset = 0, .count = 1, .bit_first = 0, .bit_count = 3},
        {.name = "high",
         .kind = PHT_FIELD_UNSIGNED,
         .size = 4,
         .offset = 0,
         .count = 1,
         .bit_first = 3,
         .bit_count = 5},
        {.name = "name", .kind = PHT_FIELD_CHAR, .size = 1, .offset = 4, .count = 8},
        {.name = "weights", .kind = PHT_FIELD_FLOAT, .size = 4, .offset = 12, .count = 3}};
    static const struct pht_layout inner = {
        .name = "inner", .version = 3, .size = 24, .field_count = 4, .fields = inner_fields};
    uint32_t inner_type, outer_type;
    uint64_t offset, count;
    pht_value value;
    must(pht_type_register(t, &inner, &inner_type));
    const struct pht_field outer_fields[] = {
        {.name = "flag", .kind = PHT_FIELD_BOOL, .size = 1, .offset = 0, .count = 1},
        {.name = "children", .kind = PHT_FIELD_VALUE, .size = 8, .offset = 8, .count = 2},
        {.name = evil_name, .kind = PHT_FIELD_STRUCT, .size = 24, .offset = 24, .count = 2, .type = inner_type}};
    const struct pht_layout outer = {
        .name = evil_name, .version = 1, .size = 72, .field_count = 3, .fields = outer_fields};
    must(pht_type_register(t, &outer, &outer_type));
    const struct {
        uint32_t bits;
        char name[8];
        float weights[3];
    } cell = {.bits = 7 | 21 << 3, .name = "ab\"\xff", .weights = {0.5f, 1.5f, -2.0f}};
    must(pht_record_new(t, outer_type, &value));
    must(pht_record_set(t, value, 16, pht_text("the second child")));
    must(pht_record_at(t, value, outer_type, &offset, NULL));
    must(pheap_write(t->txn, offset + 48, &cell, sizeof cell));
    put(t, "record", pht_of(value));
    must(pht_array_new(t, inner_type, 100, &value));
    must(pht_array_at(t, value, inner_type, &offset, &count));
    must(pheap_write(t->txn, offset + 99 * sizeof cell, &cell, sizeof cell));
    put(t, "array", pht_of(value));
    must(pht_ring_new(t, inner_type, 4, &value));
    must(pht_ring_push(t, value, inner_type, &offset));
    must(pheap_write(t->txn, offset, &cell, sizeof cell));
    put(t, "ring", pht_of(value));
}

static void put_all(struct pht *t)
{
    static const uint64_t limbs[] = {1, 2, 3};
    pht_value it;
    const struct pht_any elements[] = {pht_int(-1), pht_text("x")};
    put(t, "none", pht_none());
    put(t, "bool", pht_bool(true));
    put(t, "bigint", pht_bigint(true, limbs, 3));
    put(t, "float", pht_float(2.0));
    put(t, "infinite", pht_float((double)INFINITY));
    put(t, "bytes", pht_bytes("\0\xff", 2));
    put(t, evil_name, pht_str("zero\0byte", 9));
    must(pht_tuple_new(t, elements, 2, &it));
    must(pht_map_set(t, pht_root(t), pht_of(it), pht_of(it)));
    must(pht_block_new(t, 64, &it));
    put(t, "block", pht_of(it));
    must(pht_set_new(t, &it));
    must(pht_set_add(t, it, pht_int(5), NULL));
    put(t, "set", pht_of(it));
    must(pht_queue_new(t, &it));
    must(pht_queue_push(t, it, true, pht_of(it))); /* it contains itself */
    must(pht_queue_push(t, it, false, pht_int(6)));
    put(t, "queue", pht_of(it));
    must(pht_omap_new(t, &it));
    for (int64_t i = 0; i < 100; i++)
        must(pht_omap_set(t, it, pht_int(i), pht_int(i * i)));
    put(t, "omap", pht_of(it));
    must(pht_map_set(t, pht_root(t), pht_int(7), pht_text("seven")));
    put_structs(t);
}

int main(int argc, char **argv)
{
    pheap *heap;
    pheap_txn *txn;
    struct pht t;
    pht_value list, one, other;
    if (argc != 3)
        return EXIT_FAILURE;
    must(pheap_open(argv[2], PHEAP_CREATE | PHEAP_EXCLUSIVE, NULL, &heap));
    must(pheap_begin(heap, &txn));
    must(pht_begin(txn, &t));
    must(pht_list_new(&t, &list));
    must(pht_list_append(&t, list, pht_int(1)));
    must(pht_map_set(&t, pht_root(&t), pht_text("list"), pht_of(list)));
    must(pht_map_new(&t, &one));
    must(pht_map_new(&t, &other));
    must(pht_map_set(&t, one, pht_int(1), pht_of(other)));
    must(pht_map_set(&t, other, pht_int(1), pht_of(one)));
    if (strcmp(argv[1], "rich") == 0)
        put_all(&t);
    if (strcmp(argv[1], "damaged") == 0) {
        const uint32_t references = 7;
        must(pheap_write(txn, list + 4, &references, sizeof references));
    }
    must(pheap_commit(txn, PHEAP_DURABLE, NULL));
    must(pheap_close(heap));
    return 0;
}
