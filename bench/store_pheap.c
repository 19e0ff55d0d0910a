/* SPDX-License-Identifier: MIT */
/* Records in a heap: a block each, found through a table of offsets, which is the root. */
#include "bench/bench.h"
#include "bench/store.h"

#include <string.h>

static void create_records(const char *path)
{
    pheap *heap;
    pheap_txn *txn;
    uint64_t table;
    bench_check(pheap_open(path, PHEAP_CREATE | PHEAP_EXCLUSIVE, NULL, &heap), "open");
    bench_check(pheap_begin(heap, &txn), "begin");
    bench_check(pheap_zalloc(txn, STORE_RECORDS * sizeof(uint64_t), &table), "alloc");
    bench_check(pheap_set_root(txn, table), "set root");
    uint64_t *offsets = pheap_ptr(txn, table);
    for (unsigned i = 0; i < STORE_RECORDS; i++) {
        bench_check(pheap_zalloc(txn, STORE_RECORD_BYTES, &offsets[i]), "alloc");
    }
    bench_check(pheap_commit(txn, PHEAP_DURABLE, NULL), "commit");
    bench_check(pheap_close(heap), "close");
}

static void *open_records(const char *path)
{
    pheap *heap;
    bench_check(pheap_open(path, 0, NULL, &heap), "open");
    return heap;
}

static void write_record(void *opened, uint64_t record, uint64_t value, bool durable)
{
    pheap_txn *txn;
    void *address;
    bench_check(pheap_begin(opened, &txn), "begin");
    const uint64_t *offsets = pheap_ptr(txn, pheap_root(txn));
    bench_check(pheap_edit(txn, offsets[record], STORE_RECORD_BYTES, &address), "edit");
    for (unsigned i = 0; i + sizeof value <= STORE_RECORD_BYTES; i += (unsigned)sizeof value) {
        memcpy((char *)address + i, &value, sizeof value);
    }
    bench_check(pheap_commit(txn, durable ? PHEAP_DURABLE : PHEAP_LAZY, NULL), "commit");
}

static uint64_t read_record(void *opened, uint64_t record)
{
    pheap_read *reader;
    uint64_t words[STORE_RECORD_BYTES / sizeof(uint64_t)], sum = 0;
    bench_check(pheap_read_begin(opened, 0, &reader), "read");
    const uint64_t *offsets = pheap_read_ptr(reader, pheap_read_root(reader));
    memcpy(words, pheap_read_ptr(reader, offsets[record]), sizeof words);
    bench_check(pheap_read_end(reader), "end");
    for (unsigned i = 0; i < sizeof words / sizeof words[0]; i++) {
        sum |= words[i];
    }
    return sum;
}

static void look(void *opened)
{
    pheap_read *reader;
    bench_check(pheap_read_begin(opened, 0, &reader), "read");
    bench_check(pheap_read_end(reader), "end");
}

const struct store store_pheap = {.name = "pheap",
                                  .create = create_records,
                                  .open = open_records,
                                  .write = write_record,
                                  .read = read_record,
                                  .look = look};
