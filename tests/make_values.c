/* SPDX-License-Identifier: MIT */
/*
 * Makes a heap of values, for test_tools.sh to check:
 *
 *   make_values sound|damaged HEAP
 *
 * In the root map a list; and two maps that only refer to each other.  If it is to be damaged, the list says that it has
 * more references than there are.
 */
#include "types/types.h"

#include <stdio.h>
#include <stdlib.h>

static void must(enum pheap_status status)
{
    if (status == PHEAP_OK)
        return;
    (void)fprintf(stderr, "make_values: %s: %s\n", pheap_status_name(status), pheap_error_detail());
    exit(EXIT_FAILURE);
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
    if (strcmp(argv[1], "damaged") == 0) {
        const uint32_t references = 7;
        must(pheap_write(txn, list + 4, &references, sizeof references));
    }
    must(pheap_commit(txn, PHEAP_DURABLE, NULL));
    must(pheap_close(heap));
    return 0;
}
