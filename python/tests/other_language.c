/* SPDX-License-Identifier: MIT */
/*
 * The other language of test_promises.py: works on the records that a Python program works on, at the same time.
 *
 *   other_language HEAP COUNT
 *
 * COUNT times, as one transaction: adds 1 to root["total"], appends ["C", number, a text as long as the number] to
 * root["log"], and acknowledges the oldest record of Python that is not yet acknowledged: takes it out of the dict
 * root["waiting"], and adds its length to root["heard"].
 */
#include "types/types.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void must(enum pheap_status status)
{
    if (status == PHEAP_OK)
        return;
    (void)fprintf(stderr, "other_language: %s: %s\n", pheap_status_name(status), pheap_error_detail());
    exit(EXIT_FAILURE);
}

static pht_value get(struct pht *t, const char *name)
{
    pht_value value;
    must(pht_map_get(t, pht_root(t), pht_text(name), &value));
    if (value == PHT_ABSENT) {
        (void)fprintf(stderr, "other_language: there is no %s\n", name);
        exit(EXIT_FAILURE);
    }
    return value;
}

static void add(struct pht *t, const char *name, int64_t more)
{
    struct pht_any any;
    const pht_value value = get(t, name);
    must(pht_show(t, &value, &any));
    must(pht_map_set(t, pht_root(t), pht_text(name), pht_int(any.integer + more)));
}

static void append(struct pht *t, int64_t number)
{
    char text[4096];
    pht_value record;
    memset(text, 'c', (size_t)number);
    text[number] = 0;
    must(pht_list_new(t, &record));
    must(pht_list_append(t, record, pht_text("C")));
    must(pht_list_append(t, record, pht_int(number)));
    must(pht_list_append(t, record, pht_text(text)));
    must(pht_list_append(t, get(t, "log"), pht_of(record)));
}

static void acknowledge(struct pht *t)
{
    const pht_value waiting = get(t, "waiting");
    uint64_t cursor = 0;
    pht_value key, record;
    struct pht_any any;
    const enum pheap_status status = pht_map_next(t, waiting, &cursor, &key, &record);
    if (status == PHEAP_END)
        return;
    must(status);
    must(pht_show(t, &record, &any));
    add(t, "heard", (int64_t)any.length);
    must(pht_map_remove(t, waiting, pht_of(key), NULL));
}

int main(int argc, char **argv)
{
    pheap *heap;
    if (argc != 3)
        return EXIT_FAILURE;
    must(pheap_open(argv[1], 0, NULL, &heap));
    const int count = atoi(argv[2]);
    for (int number = 0; number < count; number++) {
        pheap_txn *txn;
        struct pht t;
        must(pheap_begin(heap, &txn));
        must(pht_begin(txn, &t));
        add(&t, "total", 1);
        append(&t, number);
        acknowledge(&t);
        must(pheap_commit(txn, PHEAP_LAZY, NULL));
    }
    must(pheap_close(heap));
    return 0;
}
