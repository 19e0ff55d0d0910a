/* SPDX-License-Identifier: MIT */
/*
 * What the tests of persistent values share: heaps, views that begin and end, keys that are drawn, and what must be true
 * of every heap of values.
 */
#ifndef TESTS_TYPES_RIG_H
#define TESTS_TYPES_RIG_H

#include "tests/public.h"
#include "tests/support/dice.h"
#include "types/types.h"

static inline pheap *values_heap(const char *path, unsigned flags)
{
    const struct pheap_options options = {.size = sizeof options,
                                          .reserve_bytes = (uint64_t)4 << 30,
                                          .log_limit_bytes = 64u << 20,
                                          .segment_bytes = 1u << 20,
                                          .buffer_bytes = 1u << 20};
    pheap *heap;
    ok(pheap_open(path, flags, &options, &heap));
    return heap;
}

static inline pheap *new_values_heap(const char *name)
{
    return values_heap(path_of(name, ""), PHEAP_CREATE | PHEAP_EXCLUSIVE);
}

static inline struct pht change(pheap *heap)
{
    struct pht t;
    ok(pht_begin(begin(heap), &t));
    return t;
}

static inline void keep(const struct pht *t)
{
    ok(pheap_commit(t->txn, PHEAP_LAZY, NULL));
}

/* Commit, and tell how many bytes of log that took. */
static inline uint64_t keep_and_measure(pheap *heap, const struct pht *t)
{
    const uint64_t before = heap_info(heap).committed_lsn;
    keep(t);
    return heap_info(heap).committed_lsn - before;
}

static inline pht_value root_get(struct pht *t, const char *name)
{
    pht_value value;
    ok(pht_map_get(t, pht_root(t), pht_text(name), &value));
    return value;
}

static inline void root_set(struct pht *t, const char *name, struct pht_any value)
{
    ok(pht_map_set(t, pht_root(t), pht_text(name), value));
}

/* Is a value what a program would have? */
static inline bool is(struct pht *t, pht_value value, struct pht_any any)
{
    bool equal;
    ok(pht_equal(t, pht_of(value), any, &equal));
    return equal;
}

static inline int64_t integer_of(struct pht *t, pht_value value)
{
    struct pht_any any;
    ok(pht_show(t, &value, &any));
    require_equal(any.kind, PHT_INT);
    require_equal(any.length, 0);
    return any.integer;
}

/* Drain limbo in transactions of their own. */
static inline void reclaim_all(pheap *heap)
{
    for (bool more = true; more;) {
        struct pht t = change(heap);
        ok(pht_reclaim(&t, 10000, &more));
        keep(&t);
    }
}

static inline uint64_t live_blocks(pheap *heap)
{
    struct pheap_space space = {.size = sizeof space};
    pheap_read *reader = read_begin(heap, PHEAP_FRESH);
    ok(pheap_get_space(reader, &space, NULL, NULL));
    (void)pheap_read_end(reader);
    return space.live_blocks;
}

/* The values of the newest version are sound. */
static inline void check_values(pheap *heap)
{
    struct pht t;
    pheap_read *reader = read_begin(heap, PHEAP_FRESH);
    ok(pht_look(reader, &t));
    ok(pht_check(&t, print_fault, NULL, NULL));
    (void)pheap_read_end(reader);
}

/* Nothing is left but the registry and an empty root map. */
static inline void require_all_given_back(pheap *heap)
{
    reclaim_all(heap);
    require_equal(live_blocks(heap), 2);
}

#endif
