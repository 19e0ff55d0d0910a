/* SPDX-License-Identifier: MIT */
/* Objects in a heap: a block each, found through a table, which is the root.  `pheap-lazy` is durable now and then. */
#include "tests/powercut/engine.h"

#include <pheap/pheap.h>

#include <stdio.h>
#include <string.h>

struct slot {
    uint64_t offset, length;
};

static pheap *heap;
static pheap_txn *txn; /* NULL: none */
static unsigned commits;

static bool good(enum pheap_status status, const char *what)
{
    if (status == PHEAP_OK)
        return true;
    return engine_fail("%s: %s: %s", what, pheap_status_name(status), pheap_error_detail());
}

/* A failed call of a transaction ends it. */
static bool good_or_abort(enum pheap_status status, const char *what)
{
    if (status == PHEAP_OK)
        return true;
    (void)good(status, what); /* the text is of this call, not of the abort */
    (void)pheap_abort(txn);
    txn = NULL;
    return false;
}

/* Committed or failed, it has ended. */
static bool commit_as(enum pheap_durability how)
{
    pheap_txn *ending = txn;
    txn = NULL;
    return good(pheap_commit(ending, how, NULL), "commit");
}

static bool make_table(void)
{
    uint64_t table;
    if (!good(pheap_begin(heap, &txn), "begin"))
        return false;
    if (pheap_root(txn) != 0) {
        (void)pheap_abort(txn);
        txn = NULL;
        return true;
    }
    return good_or_abort(pheap_zalloc(txn, ENGINE_OBJECTS * sizeof(struct slot), &table), "alloc") &&
           good_or_abort(pheap_set_root(txn, table), "set root") && commit_as(PHEAP_DURABLE);
}

static bool open_heap(const char *directory, uint64_t variety)
{
    static const struct {
        uint32_t segment, buffer;
        uint64_t limit;
    } sizes[] = {{16384, 16384, 512 << 10}, {65536, 32768, 1 << 20}, {16384, 65536, 512 << 10}, {0, 0, 0}};
    char path[4096];
    struct pheap_options options = {.size = sizeof options};
    unsigned choice = (unsigned)(variety % (sizeof sizes / sizeof sizes[0]));
    options.segment_bytes = sizes[choice].segment;
    options.buffer_bytes = sizes[choice].buffer;
    options.log_limit_bytes = sizes[choice].limit;
    options.checksums = (uint32_t)(variety / (sizeof sizes / sizeof sizes[0]) % 2);
    (void)snprintf(path, sizeof path, "%s/heap", directory);
    return good(pheap_open(path, PHEAP_CREATE, &options, &heap), "open") && make_table();
}

static bool check_heap(void)
{
    pheap_read *reader;
    if (!good(pheap_read_begin(heap, 0, &reader), "read"))
        return false;
    bool result = good(pheap_check(reader, NULL, NULL, NULL), "check");
    (void)pheap_read_end(reader);
    enum pheap_status scrubbed = pheap_scrub(heap, NULL, NULL);
    return result && (scrubbed == PHEAP_UNSUPPORTED || good(scrubbed, "scrub"));
}

/* What a place of the heap holds: in the transaction, if there is one, else for a reader. */
static const void *at(const pheap_read *reader, uint64_t offset)
{
    return txn != NULL ? pheap_ptr(txn, offset) : pheap_read_ptr(reader, offset);
}

static bool get_object(uint32_t object, uint8_t *bytes, size_t *length)
{
    pheap_read *reader = NULL;
    if (txn == NULL && !good(pheap_read_begin(heap, 0, &reader), "read"))
        return false;
    uint64_t table = txn != NULL ? pheap_root(txn) : pheap_read_root(reader);
    const struct slot *slot = (const struct slot *)at(reader, table) + object;
    bool fits = slot->length <= ENGINE_OBJECT_BYTES_MAX;
    *length = fits ? (size_t)slot->length : 0;
    if (*length > 0)
        memcpy(bytes, at(reader, slot->offset), *length);
    if (reader != NULL && !good(pheap_read_end(reader), "end"))
        return false;
    return fits || engine_fail("object %u: a length of %llu", object, (unsigned long long)slot->length);
}

static bool begin(void)
{
    return good(pheap_begin(heap, &txn), "begin");
}

static bool put_object(uint32_t object, const uint8_t *bytes, size_t length)
{
    void *address;
    uint64_t offset = 0;
    uint64_t place = pheap_root(txn) + object * sizeof(struct slot);
    struct slot was = *(const struct slot *)pheap_ptr(txn, place);
    if (length == was.length && length > 0) {
        if (!good_or_abort(pheap_edit(txn, was.offset, length, &address), "edit"))
            return false;
        memcpy(address, bytes, length);
        return true;
    }
    if (was.offset != 0 && !good_or_abort(pheap_free(txn, was.offset), "free"))
        return false;
    if (length > 0 && !good_or_abort(pheap_alloc(txn, length, &offset), "alloc"))
        return false;
    if (length > 0)
        memcpy(pheap_ptr(txn, offset), bytes, length);
    if (!good_or_abort(pheap_edit(txn, place, sizeof was, &address), "edit"))
        return false;
    *(struct slot *)address = (struct slot){offset, length};
    return true;
}

static bool commit(bool *durable)
{
    *durable = true;
    return commit_as(PHEAP_DURABLE);
}

static bool commit_lazily(bool *durable)
{
    *durable = ++commits % 16 == 0;
    return commit_as(*durable ? PHEAP_DURABLE : PHEAP_LAZY);
}

static bool close_heap(void)
{
    pheap *closing = heap;
    heap = NULL;
    return good(pheap_close(closing), "close");
}

const struct engine engine_pheap = {.name = "pheap",
                                    .open = open_heap,
                                    .check = check_heap,
                                    .get = get_object,
                                    .begin = begin,
                                    .put = put_object,
                                    .commit = commit,
                                    .close = close_heap};

const struct engine engine_pheap_lazy = {.name = "pheap-lazy",
                                         .open = open_heap,
                                         .check = check_heap,
                                         .get = get_object,
                                         .begin = begin,
                                         .put = put_object,
                                         .commit = commit_lazily,
                                         .close = close_heap};
