/* SPDX-License-Identifier: MIT */
/*
 * What persistent values cost: looking up, storing, appending and inserting in containers of 100,000 elements, in one
 * transaction (a thousand operations each) and as a LAZY transaction of its own; beside the same in plain memory: an open
 * hash table of ints, and an array.
 */
#include "bench/bench.h"
#include "types/types.h"

#include <stdio.h>

#define COUNT 100000u
#define SLOTS (1u << 18) /* of the plain table */
#define BATCH 1000u
#define TEXT_BYTES 24u /* a key of 16 bytes and what ends it */

static struct {
    pheap *heap;
    pheap_txn *txn;
    struct pht t;
    pht_value ints, texts, list, ordered, growing, tail;
    uint64_t seed;
    int64_t next;           /* key that is not there yet */
    int64_t *keys, *values; /* the plain table */
    int64_t *plain;         /* the plain array */
    char *spelled;          /* str keys */
    int64_t sum;            /* so that nothing is left out */
} b;

/* ----------------------------------------------------------------------------------------------------- operations */

static int64_t random_key(void)
{
    return (int64_t)(bench_random(&b.seed) % COUNT);
}

static const char *text_key(void)
{
    return b.spelled + random_key() * TEXT_BYTES;
}

static uint32_t plain_slot(int64_t key)
{
    uint32_t at = (uint32_t)(((uint64_t)key * UINT64_C(0x9e3779b97f4a7c15)) >> 40) % SLOTS;
    while (b.values[at] != 0 && b.keys[at] != key)
        at = (at + 1) % SLOTS;
    return at;
}

static void plain_get(void)
{
    b.sum += b.values[plain_slot(random_key())];
}

static void plain_index(void)
{
    b.sum += b.plain[random_key()];
}

static void map_get(void)
{
    pht_value value;
    bench_check(pht_map_get(&b.t, b.ints, pht_int(random_key()), &value), "get");
    b.sum += (int64_t)value;
}

static void map_get_text(void)
{
    pht_value value;
    bench_check(pht_map_get(&b.t, b.texts, pht_text(text_key()), &value), "get");
    b.sum += (int64_t)value;
}

static void map_set(void)
{
    bench_check(pht_map_set(&b.t, b.ints, pht_int(random_key()), pht_int(random_key())), "set");
}

static void map_insert(void)
{
    bench_check(pht_map_set(&b.t, b.growing, pht_int(b.next++), pht_int(1)), "insert");
}

static void list_get(void)
{
    pht_value value;
    bench_check(pht_list_get(&b.t, b.list, (uint64_t)random_key(), &value), "index");
    b.sum += (int64_t)value;
}

static void list_set(void)
{
    bench_check(pht_list_set(&b.t, b.list, (uint64_t)random_key(), pht_int(random_key())), "set");
}

static void list_append(void)
{
    bench_check(pht_list_append(&b.t, b.tail, pht_int(1)), "append");
}

static void list_insert(void)
{
    bench_check(pht_list_insert(&b.t, b.list, (uint64_t)random_key(), pht_int(1)), "insert");
    bench_check(pht_list_remove(&b.t, b.list, (uint64_t)random_key(), NULL), "remove");
}

static void ordered_get(void)
{
    pht_value value;
    bench_check(pht_omap_get(&b.t, b.ordered, pht_int(random_key()), &value), "get");
    b.sum += (int64_t)value;
}

static void ordered_insert(void)
{
    bench_check(pht_omap_set(&b.t, b.ordered, pht_float((double)random_key() + 0.5), pht_int(1)), "insert");
    bench_check(pht_omap_remove(&b.t, b.ordered, pht_float((double)random_key() + 0.5), NULL), "remove");
}

/* ------------------------------------------------------------------------------------------------------- measuring */

static void begin(void)
{
    bench_check(pheap_begin(b.heap, &b.txn), "begin");
    bench_check(pht_begin(b.txn, &b.t), "begin");
}

static void commit(void)
{
    bench_check(pheap_commit(b.txn, PHEAP_LAZY, NULL), "commit");
}

/* `batch` operations a transaction, or 0: no transaction at all, but an open reader. */
static double slice(void (*operation)(void), unsigned batch, double seconds)
{
    uint64_t done = 0;
    const uint64_t from = bench_now_ns();
    uint64_t now = from;
    for (const uint64_t until = from + (uint64_t)(seconds * 1e9); now < until; now = bench_now_ns()) {
        for (unsigned i = 0; i < BATCH; i++, done++) {
            if (batch > 0 && i % batch == 0)
                begin();
            operation();
            if (batch > 0 && i % batch == batch - 1)
                commit();
        }
    }
    return (double)(now - from) / (double)done;
}

static void measure(struct bench_report *report, void (*operation)(void), unsigned batch, double target,
                    const char *name)
{
    struct bench_samples samples = {0};
    for (unsigned i = 0; i < report->options->repeat * 5; i++)
        bench_add(&samples, slice(operation, batch, report->options->seconds / 5));
    if (target > 0)
        bench_row_goal(report, bench_median(&samples), "ns", BENCH_AT_MOST, target, "%s", name);
    else
        bench_row(report, bench_median(&samples), "ns", "%s", name);
    bench_clear(&samples);
}

static void fill(void)
{
    b.keys = bench_memory(SLOTS * sizeof *b.keys);
    b.values = bench_memory(SLOTS * sizeof *b.values);
    b.plain = bench_memory(COUNT * sizeof *b.plain);
    b.spelled = bench_memory(COUNT * (size_t)TEXT_BYTES);
    memset(b.values, 0, SLOTS * sizeof *b.values);
    begin();
    pht_value *const made[] = {&b.ints, &b.texts, &b.growing};
    for (unsigned i = 0; i < 3; i++)
        bench_check(pht_map_new(&b.t, made[i]), "map");
    bench_check(pht_list_new(&b.t, &b.list), "list");
    bench_check(pht_list_new(&b.t, &b.tail), "list");
    bench_check(pht_omap_new(&b.t, &b.ordered), "ordered map");
    const pht_value all[] = {b.ints, b.texts, b.growing, b.list, b.tail, b.ordered};
    for (unsigned i = 0; i < 6; i++)
        bench_check(pht_map_set(&b.t, pht_root(&b.t), pht_int(i), pht_of(all[i])), "root");
    for (int64_t i = 0; i < COUNT; i++) {
        char *text = b.spelled + i * TEXT_BYTES;
        (void)snprintf(text, TEXT_BYTES, "key number %05u", (unsigned)i);
        const uint32_t slot = plain_slot(i);
        b.keys[slot] = i;
        b.values[slot] = i + 1;
        b.plain[i] = i;
        bench_check(pht_map_set(&b.t, b.ints, pht_int(i), pht_int(i)), "fill");
        bench_check(pht_map_set(&b.t, b.texts, pht_text(text), pht_int(i)), "fill");
        bench_check(pht_list_append(&b.t, b.list, pht_int(i)), "fill");
        bench_check(pht_omap_set(&b.t, b.ordered, pht_int(i), pht_int(i)), "fill");
    }
    commit();
}

int main(int argc, char **argv)
{
    struct bench_options options = {.dir = ".", .repeat = 3, .seconds = 0.5};
    bench_parse(&options, "the cost of persistent values", argc, argv);
    static struct bench_report report;
    bench_report_init(&report, "types", &options);
    bench_check(pheap_open(bench_path(&options, "types.heap"), PHEAP_CREATE | PHEAP_EXCLUSIVE, NULL, &b.heap), "open");
    fill();

    pheap_read *reader;
    bench_check(pheap_read_begin(b.heap, PHEAP_FRESH, &reader), "read");
    bench_check(pht_look(reader, &b.t), "look");
    measure(&report, map_get, 0, 150, "map: get by int");
    measure(&report, plain_get, 0, 0, "  of a plain hash table");
    measure(&report, map_get_text, 0, 0, "map: get by str of 16 bytes");
    measure(&report, list_get, 0, 0, "list: get by index");
    measure(&report, plain_index, 0, 0, "  of a plain array");
    measure(&report, ordered_get, 0, 0, "ordered map: get by int");
    (void)pheap_read_end(reader);

    measure(&report, map_set, BATCH, 0, "map: set, 1,000 a transaction");
    measure(&report, map_insert, BATCH, 0, "map: insert, 1,000 a transaction");
    measure(&report, map_set, 1, 1000, "map: set as its own transaction");
    measure(&report, map_insert, 1, 0, "map: insert as its own transaction");
    measure(&report, list_append, BATCH, 0, "list: append, 1,000 a transaction");
    measure(&report, list_append, 1, 0, "list: append as its own transaction");
    measure(&report, list_set, 1, 0, "list: set as its own transaction");
    measure(&report, list_insert, BATCH, 0, "list: insert and remove anywhere, 1,000 a transaction");
    measure(&report, ordered_insert, BATCH, 0, "ordered map: insert and remove, 1,000 a transaction");
    bench_check(pheap_close(b.heap), "close");
    bench_note(&report, "containers of %u; keys and places at random; LAZY (sum %lld)", COUNT, (long long)b.sum);
    return bench_report_finish(&report);
}
