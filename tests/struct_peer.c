/* SPDX-License-Identifier: MIT */
/*
 * The other side of python/tests/test_struct_store.py: a C program that uses the same structs at the same time.
 *
 *   struct_peer HEAP show          print the sample "sample" and the counters "counters" of the store "peers"
 *   struct_peer HEAP count TIMES   so many transactions, each of which adds 1 to the sample, a counter and the raw block
 *   struct_peer HEAP make          make a store "made in C" with a sample, an array and a ring
 */
#include <pheap/pheap.h>

#include "types/types.h"

#include <inttypes.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct inner {
    int16_t a;
    uint8_t b[3];
};

struct sample {
    int32_t count;
    double real;
    unsigned low : 5;
    signed high : 11;
    unsigned rest : 16; /* ctypes begins what follows bits behind their whole int, C does not */
    struct inner inner[2];
    char name[8];
    uint64_t large;
};

static void must(enum pheap_status status)
{
    if (status == PHEAP_OK)
        return;
    (void)fprintf(stderr, "%s: %s\n", pheap_status_name(status), pheap_error_detail());
    exit(1);
}

static pht_value get(struct pht *t, pht_value map, const char *key)
{
    pht_value value;
    must(pht_map_get(t, map, pht_text(key), &value));
    if (value == PHT_ABSENT) {
        (void)fprintf(stderr, "there is no %s\n", key);
        exit(1);
    }
    return value;
}

#define FIELD(kind_, member, count_)                                                             \
    {                                                                                            \
        .name = #member, .kind = kind_, .size = sizeof(((struct sample *)0)->member) / (count_), \
        .offset = offsetof(struct sample, member), .count = count_                               \
    }
#define BITS(kind_, name_, first, count_)                                                                          \
    {                                                                                                              \
        .name = name_, .kind = kind_, .size = 4, .offset = 16, .count = 1, .bit_first = first, .bit_count = count_ \
    }

/* The layout as this compiler has it: refused if the heap has another one. */
static uint32_t register_sample(struct pht *t)
{
    uint32_t type;
    static const struct pht_field inner[] = {
        {.name = "a", .kind = PHT_FIELD_SIGNED, .size = 2, .offset = offsetof(struct inner, a), .count = 1},
        {.name = "b", .kind = PHT_FIELD_UNSIGNED, .size = 1, .offset = offsetof(struct inner, b), .count = 3},
    };
    struct pht_field fields[] = {
        FIELD(PHT_FIELD_SIGNED, count, 1),        FIELD(PHT_FIELD_FLOAT, real, 1),
        BITS(PHT_FIELD_UNSIGNED, "low", 0, 5),    BITS(PHT_FIELD_SIGNED, "high", 5, 11),
        BITS(PHT_FIELD_UNSIGNED, "rest", 16, 16), FIELD(PHT_FIELD_STRUCT, inner, 2),
        FIELD(PHT_FIELD_CHAR, name, 8),           FIELD(PHT_FIELD_UNSIGNED, large, 1),
    };
    must(pht_type_register(
        t, &(struct pht_layout){.name = "Inner", .size = sizeof(struct inner), .field_count = 2, .fields = inner},
        &fields[5].type));
    must(pht_type_register(
        t, &(struct pht_layout){.name = "Sample", .size = sizeof(struct sample), .field_count = 8, .fields = fields},
        &type));
    return type;
}

static uint64_t sample_at(struct pht *t)
{
    uint32_t type;
    uint64_t offset;
    must(pht_type_find(t, "Sample", 0, &type));
    must(pht_record_at(t, get(t, get(t, pht_root(t), "peers"), "sample"), type, &offset, NULL));
    return offset;
}

static uint64_t counters_at(struct pht *t, uint64_t *count)
{
    uint32_t type;
    uint64_t offset;
    must(pht_type_find(t, "int64", 0, &type));
    must(pht_array_at(t, get(t, get(t, pht_root(t), "peers"), "counters"), type, &offset, count));
    return offset;
}

static void show(pheap *heap)
{
    pheap_read *reader;
    struct pht t;
    uint64_t count;
    must(pheap_read_begin(heap, PHEAP_FRESH, &reader));
    must(pht_look(reader, &t));
    const struct sample *s = (const struct sample *)(const void *)(t.base + sample_at(&t));
    (void)printf("%d %g %u %d %d %u %d %u %.8s %" PRIu64 "\n", s->count, s->real, s->low, s->high, s->inner[0].a,
                 s->inner[0].b[2], s->inner[1].a, s->inner[1].b[0], s->name, s->large);
    const int64_t *counters = (const int64_t *)(const void *)(t.base + counters_at(&t, &count));
    for (uint64_t i = 0; i < count; i++)
        (void)printf("%" PRId64 " ", counters[i]);
    (void)printf("\n");
    pheap_read_end(reader);
}

static void count(pheap *heap, int times)
{
    for (int i = 0; i < times; i++) {
        pheap_txn *txn;
        struct pht t;
        uint64_t counters, offset, length;
        void *address;
        must(pheap_begin(heap, &txn));
        must(pht_begin(txn, &t));
        if (i == 0)
            (void)register_sample(&t);
        must(pheap_edit(txn, sample_at(&t), sizeof(struct sample), &address));
        ((struct sample *)address)->count++;
        const uint64_t first = counters_at(&t, &counters);
        must(pheap_edit(txn, first + (uint64_t)i % counters * sizeof(int64_t), sizeof(int64_t), &address));
        ++*(int64_t *)address;
        must(pht_block_at(&t, get(&t, pht_root(&t), "raw"), &offset, &length));
        must(pheap_edit(txn, offset + 8, sizeof(int64_t), &address));
        ++*(int64_t *)address;
        must(pheap_commit(txn, PHEAP_LAZY, NULL));
    }
}

static void make(pheap *heap)
{
    static const struct pht_field fields[] = {
        {.name = "id", .kind = PHT_FIELD_UNSIGNED, .size = 4, .offset = 0, .count = 1},
        {.name = "at", .kind = PHT_FIELD_FLOAT, .size = 8, .offset = 8, .count = 3},
        {.name = "tag", .kind = PHT_FIELD_CHAR, .size = 1, .offset = 32, .count = 8},
    };
    static const struct pht_layout layout = {
        .name = "Event", .version = 3, .size = 40, .field_count = 3, .fields = fields};
    pheap_txn *txn;
    struct pht t;
    uint32_t type;
    pht_value map, record, array, ring;
    uint64_t offset, elements;
    must(pheap_begin(heap, &txn));
    must(pht_begin(txn, &t));
    must(pht_type_register(&t, &layout, &type));
    must(pht_map_new(&t, &map));
    must(pht_record_new(&t, type, &record));
    must(pht_record_at(&t, record, type, &offset, NULL));
    must(pheap_write(txn, offset, &(uint32_t){77}, sizeof(uint32_t)));
    must(pheap_write(txn, offset + 16, &(double){2.5}, sizeof(double)));
    must(pheap_write(txn, offset + 32, "written", 8));
    must(pht_array_new(&t, type, 10, &array));
    must(pht_array_at(&t, array, type, &offset, &elements));
    must(pheap_write(txn, offset + 9 * layout.size, &(uint32_t){9}, sizeof(uint32_t)));
    must(pht_ring_new(&t, type, 2, &ring));
    for (uint32_t i = 0; i < 3; i++) {
        must(pht_ring_push(&t, ring, type, &offset));
        memcpy(pheap_ptr(txn, offset), &i, sizeof i);
    }
    must(pht_map_set(&t, map, pht_text("record"), pht_of(record)));
    must(pht_map_set(&t, map, pht_int(5), pht_of(array)));
    must(pht_map_set(&t, map, pht_bytes("ring", 4), pht_of(ring)));
    must(pht_map_set(&t, pht_root(&t), pht_text("made in C"), pht_of(map)));
    must(pheap_commit(txn, PHEAP_LAZY, NULL));
}

int main(int argc, char **argv)
{
    pheap *heap;
    if (argc < 3)
        return 2;
    must(pheap_open(argv[1], 0, NULL, &heap));
    if (strcmp(argv[2], "show") == 0)
        show(heap);
    else if (strcmp(argv[2], "count") == 0 && argc == 4)
        count(heap, atoi(argv[3]));
    else if (strcmp(argv[2], "make") == 0)
        make(heap);
    must(pheap_close(heap));
    return 0;
}
