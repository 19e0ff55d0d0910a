/* SPDX-License-Identifier: MIT */
/* A user's program: keeps a greeting in the heap that the command line names, and finds it again after reopening. */
#include <pheap/pheap.h>

#include <stdio.h>
#include <string.h>

static const char greeting[] = "hello";

static int fail(const char *what, enum pheap_status status)
{
    fprintf(stderr, "%s: %s: %s\n", what, pheap_status_text(status), pheap_error_detail());
    return 1;
}

static enum pheap_status store(pheap *heap)
{
    pheap_txn *txn;
    uint64_t note;
    enum pheap_status status = pheap_begin(heap, &txn);
    if (status)
        return status;
    status = pheap_alloc(txn, sizeof greeting, &note);
    if (!status)
        status = pheap_write(txn, note, greeting, sizeof greeting);
    if (!status)
        status = pheap_set_root(txn, note);
    if (status) {
        pheap_abort(txn);
        return status;
    }
    return pheap_commit(txn, PHEAP_DURABLE, NULL);
}

static enum pheap_status load(pheap *heap, char *text)
{
    pheap_read *reader;
    enum pheap_status status = pheap_read_begin(heap, 0, &reader);
    if (status)
        return status;
    memcpy(text, pheap_read_ptr(reader, pheap_read_root(reader)), sizeof greeting);
    pheap_read_end(reader);
    return PHEAP_OK;
}

int main(int argc, char **argv)
{
    pheap *heap;
    char text[sizeof greeting];
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
    status = load(heap, text);
    if (status)
        return fail("load", status);
    status = pheap_close(heap);
    if (status)
        return fail("close again", status);
    return strcmp(text, greeting) == 0 ? 0 : 1;
}
