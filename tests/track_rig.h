/* SPDX-License-Identifier: MIT */
/*
 * The ways in which tracked stores are found, for tests that run each case with each of them.
 */
#ifndef TESTS_TRACK_RIG_H
#define TESTS_TRACK_RIG_H

#include "tests/public.h"

#include "pheap/core.h"

#define PAGE 4096u
#define LENGTH 100000u /* of a block: some pages and a part */

/* ---------------------------------------------------------------------------------------------------------- methods */

static inline int no_watch(void *ctx, void *address, size_t length)
{
    (void)ctx;
    (void)address;
    (void)length;
    return -ENOSYS;
}

static inline int64_t no_touched(void *ctx, const void *address, size_t length, uint8_t *bitmap)
{
    (void)ctx;
    (void)address;
    (void)length;
    (void)bitmap;
    return -ENOSYS;
}

/* What a system that went wrong in the middle of a scan would tell: some pages are forgotten. */
static inline int64_t forgetful_stored(void *ctx, const void *address, size_t length, uint8_t *bitmap)
{
    static unsigned calls;
    int64_t done = ph_io_posix()->stored(ctx, address, length, bitmap);
    return ++calls % 3 == 0 ? -ENOSYS : done;
}

static unsigned resizes_left = UINT32_MAX; /* until there is no memory, once */

static inline void *short_resize(void *ctx, void *memory, size_t length)
{
    return --resizes_left == 0 ? NULL : ph_io_posix()->resize(ctx, memory, length);
}

enum method { WATCHED, COMPARED, BLIND, FORGETFUL, METHODS };

static ph_io tables[METHODS];

static inline const char *method_name(enum method method)
{
    static const char *const names[] = {"watched", "compared", "blind", "forgetful"};
    return names[method];
}

static inline int prepare(void **state)
{
    for (int i = 0; i < METHODS; i++) {
        tables[i] = *ph_io_posix();
        tables[i].resize = short_resize;
    }
    tables[COMPARED].watch = no_watch;
    tables[BLIND].watch = no_watch;
    tables[BLIND].touched = no_touched;
    tables[FORGETFUL].stored = forgetful_stored;
    return make_test_directory(state);
}

static inline pheap *open_by(enum method method, const char *name, unsigned flags)
{
    struct pheap_options options = small_options();
    options.log_limit_bytes = 1u << 20;
    options.buffer_bytes = 64u << 10;
    pheap *heap;
    ok((enum pheap_status)ph_open_io(&tables[method], path_of(name, method_name(method)), PHEAP_CREATE | flags,
                                     &options, &heap));
    return heap;
}

/* A method that was asked for and is not there would test another one twice. */
static inline void check_method(pheap *heap, enum method method)
{
    uint32_t got = heap_info(heap).track_method;
    if (method == COMPARED || method == BLIND) {
        require_equal(got, PHEAP_TRACK_COMPARED);
    } else {
        require(got == PHEAP_TRACK_WATCHED || got == PHEAP_TRACK_COMPARED);
    }
}

static inline void each_method(void (*work)(enum method method))
{
    for (enum method method = 0; method < METHODS; method++) {
        work(method);
    }
}

static inline pheap_txn *begin_all(pheap *heap)
{
    pheap_txn *txn = begin(heap);
    ok(pheap_track_all(txn));
    return txn;
}

/* A block full of `byte`, as a commit of its own. */
static inline uint64_t make_block(pheap *heap, uint64_t length, int byte)
{
    uint64_t block;
    pheap_txn *txn = begin(heap);
    ok(pheap_alloc(txn, length, &block));
    memset(pheap_ptr(txn, block), byte, length);
    ok(pheap_commit(txn, PHEAP_LAZY, NULL));
    return block;
}

static inline uint8_t *bytes_at(pheap_txn *txn, uint64_t offset)
{
    return pheap_ptr(txn, offset);
}

/* What others see of a block is `expected`, and so does the next transaction. */
static inline void check_block(pheap *heap, uint64_t block, const uint8_t *expected, uint64_t length)
{
    pheap_read *reader = read_begin(heap, PHEAP_FRESH);
    const uint8_t *seen = pheap_read_ptr(reader, block);
    for (uint64_t i = 0; i < length; i++) {
        if (seen[i] != expected[i]) {
            check_failed(__FILE__, __LINE__, "a reader sees %u at byte %llu, not %u", seen[i], (unsigned long long)i,
                         expected[i]);
        }
    }
    pheap_read_end(reader);
    pheap_txn *txn = begin(heap);
    require(memcmp(pheap_ptr(txn, block), expected, length) == 0);
    ok(pheap_abort(txn));
}

#endif
