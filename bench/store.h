/* SPDX-License-Identifier: MIT */
/*
 * Two stores of numbered records that several processes share, so that one benchmark measures both: a heap, and LMDB,
 * the yardstick for sharing.  Record i has STORE_RECORD_BYTES bytes, all of them words of one value.
 */
#ifndef BENCH_STORE_H
#define BENCH_STORE_H

#include <stdbool.h>
#include <stdint.h>

#define STORE_RECORDS 100000u
#define STORE_RECORD_BYTES 100u

struct store {
    const char *name;
    /* Make it at `path`, with all records 0.  For the process that starts the others, before it does. */
    void (*create)(const char *path);
    /* Open it in this process. */
    void *(*open)(const char *path);
    /* One transaction that changes one record; durable, or only safe from the death of all processes. */
    void (*write)(void *opened, uint64_t record, uint64_t value, bool durable);
    /* One read transaction that reads all of one record; its value. */
    uint64_t (*read)(void *opened, uint64_t record);
    /* Begin and end a read transaction. */
    void (*look)(void *opened);
};

extern const struct store store_pheap;
#ifdef BENCH_LMDB
extern const struct store store_lmdb;
#endif

#endif
