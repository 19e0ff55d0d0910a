/* SPDX-License-Identifier: MIT */
/* A user's program: keeps a map of ages in the heap that the command line names, and finds Joe's again after reopening. */
#include <pheap/types.h>

#include <stdio.h>

static int fail(const char *what, enum pheap_status status)
{
    fprintf(stderr, "%s: %s: %s\n", what, pheap_status_text(status), pheap_error_detail());
    return 1;
}

static enum pheap_status store(pheap *heap)
{
    pheap_txn *txn;
    struct pht t;
    pht_value ages;
    enum pheap_status status = pheap_begin(heap, &txn);
    if (status)
        return status;
    status = pht_begin(txn, &t);
    if (!status)
        status = pht_map_new(&t, &ages);
    if (!status)
        status = pht_map_set(&t, ages, pht_text("Joe"), pht_int(27));
    if (!status)
        status = pht_map_set(&t, pht_root(&t), pht_text("ages"), pht_of(ages));
    if (status) {
        pheap_abort(txn);
        return status;
    }
    return pheap_commit(txn, PHEAP_DURABLE, NULL);
}

static enum pheap_status load(pheap *heap, int64_t *age)
{
    pheap_read *reader;
    struct pht t;
    struct pht_any any;
    pht_value ages, joe;
    enum pheap_status status = pheap_read_begin(heap, 0, &reader);
    if (status)
        return status;
    status = pht_look(reader, &t);
    if (!status)
        status = pht_map_get(&t, pht_root(&t), pht_text("ages"), &ages);
    if (!status)
        status = pht_map_get(&t, ages, pht_text("Joe"), &joe);
    if (!status)
        status = pht_show(&t, &joe, &any);
    if (!status)
        *age = any.integer;
    pheap_read_end(reader);
    return status;
}

int main(int argc, char **argv)
{
    pheap *heap;
    int64_t age = 0;
    enum pheap_status status;
    if (argc != 2)
        return 2;

    status = pheap_open(argv[1], PHEAP_CREATE | PHEAP_EXCLUSIVE, NULL, &heap);
    if (status)
        return fail("create", status);
    status = store(heap);
    if (status)
        return fail("store", status);
    status = pheap_close(heap);
    if (status)
        return fail("close", status);

    status = pheap_open(argv[1], 0, NULL, &heap);
    if (status)
        return fail("open", status);
    status = load(heap, &age);
    if (status)
        return fail("load", status);
    status = pheap_close(heap);
    if (status)
        return fail("close again", status);
    return age == 27 ? 0 : 1;
}
