/* SPDX-License-Identifier: MIT */
/*
 * A process that pins versions, for test_tools.sh to look at from outside:
 *
 *   hold_pins HEAP
 *
 * Makes the heap HEAP and three read views, on which it holds version 1 evictably, then version 2 by two readers, then
 * version 3 evictably; the writer lock too.  Then prints "ready" and goes on until its standard input ends.
 */
#include "pheap/pheap.h"

#include <stdio.h>
#include <stdlib.h>

static void must(enum pheap_status status)
{
    if (status == PHEAP_OK)
        return;
    (void)fprintf(stderr, "hold_pins: %s: %s\n", pheap_status_name(status), pheap_error_detail());
    exit(EXIT_FAILURE);
}

static void commit(pheap *heap)
{
    pheap_txn *txn;
    uint64_t block;
    must(pheap_begin(heap, &txn));
    must(pheap_zalloc(txn, 16, &block));
    must(pheap_set_root(txn, block));
    must(pheap_commit(txn, PHEAP_LAZY, NULL));
}

int main(int argc, char **argv)
{
    const struct pheap_options options = {.size = sizeof options, .read_views = 3};
    pheap *heap;
    pheap_txn *txn;
    pheap_read *readers[4];
    if (argc != 2)
        return EXIT_FAILURE;
    must(pheap_open(argv[1], PHEAP_CREATE | PHEAP_EXCLUSIVE, &options, &heap));
    commit(heap);
    must(pheap_read_begin(heap, PHEAP_EVICTABLE, &readers[0]));
    commit(heap);
    must(pheap_read_begin(heap, PHEAP_EVICTABLE, &readers[1]));
    must(pheap_read_begin(heap, 0, &readers[2])); /* which makes the version one that cannot be taken away */
    commit(heap);
    must(pheap_read_begin(heap, PHEAP_EVICTABLE, &readers[3]));
    must(pheap_begin(heap, &txn));
    puts("ready");
    (void)fflush(stdout);
    while (getchar() != EOF)
        continue;
    must(pheap_abort(txn));
    for (int i = 0; i < 4; i++)
        must(pheap_read_end(readers[i]));
    must(pheap_close(heap));
    return 0;
}
