/* SPDX-License-Identifier: MIT */
/*
 * Two processes on one simulated machine that share a heap, both played by the test: the first by the machine's own
 * table, the second by a copy of it, which a test may change so that a call answers differently.  Checks are those of
 * tests/public.h.
 */
#ifndef TESTS_MACHINE_H
#define TESTS_MACHINE_H

#include "pheap/core.h"
#include "tests/public.h"
#include "tests/support/simfs.h"

#define HEAP "d/heap"
#define LOG "d/heap-wal"
#define SHM "d/heap-shm"

struct machine {
    struct ph_sim *sim;
    const ph_io *first;
    ph_io second;
};

/* As they stay; its address must stay too, because a process is known by its table.  This one may lose power. */
static inline void machine_begin_journaled(struct machine *machine, const struct ph_sim_options *options)
{
    machine->sim = ph_sim_new(options);
    machine->first = ph_sim_io(machine->sim);
    machine->second = *machine->first;
}

static inline void machine_begin(struct machine *machine, const struct ph_sim_options *given)
{
    struct ph_sim_options options = given == NULL ? (struct ph_sim_options){.seed = 1} : *given;
    options.no_journal = true;
    machine_begin_journaled(machine, &options);
}

/* All heaps are closed: nothing may be left. */
static inline void machine_end(struct machine *machine)
{
    ph_sim_fail_clear(machine->sim);
    ph_core_forget_mappings(machine->first);
    ph_core_forget_mappings(&machine->second);
    require_equal(ph_sim_live_allocations(machine->sim), 0);
    require_equal(ph_sim_live_handles(machine->sim), 0);
    require_equal(ph_sim_live_maps(machine->sim), 0);
    ph_sim_free(machine->sim);
}

/* Close the heap in both processes, in this order, and end. */
static inline void machine_close(struct machine *machine, pheap *one, pheap *other)
{
    ok(pheap_close(one));
    ok(pheap_close(other));
    machine_end(machine);
}

static inline enum pheap_status machine_try(const ph_io *io, unsigned flags, pheap **heap)
{
    const struct pheap_options options = small_options();
    return (enum pheap_status)ph_open_io(io, HEAP, flags, &options, heap);
}

static inline pheap *machine_open(const ph_io *io, unsigned flags)
{
    pheap *heap;
    ok(machine_try(io, flags, &heap));
    return heap;
}

/* A heap with a root block of `words` words, open in the first process. */
static inline pheap *machine_create(struct machine *machine, unsigned flags, uint64_t words)
{
    pheap *heap = machine_open(machine->first, PHEAP_CREATE | flags);
    (void)make_root(heap, words);
    return heap;
}

/* The same of a heap that is poisoned; opened again, it has `value` in its first word. */
static inline void machine_close_poisoned(struct machine *machine, pheap *one, pheap *other, uint64_t value)
{
    expect(PHEAP_POISONED, pheap_close(one));
    expect(PHEAP_POISONED, pheap_close(other));
    one = machine_open(machine->first, 0);
    require_equal(fresh_word(one, 0), value);
    ok(pheap_close(one));
    machine_end(machine);
}

/* What is taken now, without the mappings that a process keeps for its next open. */
struct taken {
    int64_t memory, maps, handles;
};

static inline struct taken machine_taken(struct machine *machine, const ph_io *io)
{
    ph_core_forget_mappings(io);
    return (struct taken){ph_sim_live_allocations(machine->sim), ph_sim_live_maps(machine->sim),
                          ph_sim_live_handles(machine->sim)};
}

#define require_taken(before, now) check_taken(__FILE__, __LINE__, before, now)
static inline void check_taken(const char *file, int line, struct taken before, struct taken now)
{
    check_equal(file, line, "allocations", (uint64_t)before.memory, (uint64_t)now.memory);
    check_equal(file, line, "maps", (uint64_t)before.maps, (uint64_t)now.maps);
    check_equal(file, line, "handles", (uint64_t)before.handles, (uint64_t)now.handles);
}

static uint64_t waited_ns; /* the time that a process which has this call has wished to sleep */

static inline void do_not_wait(void *ctx, uint32_t *word, uint32_t expected, uint64_t timeout_ns)
{
    (void)ctx;
    (void)word;
    (void)expected;
    waited_ns += timeout_ns;
}

/*
 * Make a lock one that nobody can ever take again, as robust locks are whose owner died and whose next owner did not
 * say that all is well.
 */
static inline void *die_with_lock(void *lock)
{
    require_equal(ph_mutex_lock(lock), PH_MUTEX_ACQUIRED);
    return NULL;
}

static inline void spoil_lock(struct ph_mutex *lock)
{
    pthread_t owner;
    require_equal(pthread_create(&owner, NULL, die_with_lock, lock), 0);
    require_equal(pthread_join(owner, NULL), 0);
    require_equal(pthread_mutex_lock(&lock->u.mutex), EOWNERDEAD);
    require_equal(pthread_mutex_unlock(&lock->u.mutex), 0);
}

static inline void repair_lock(struct ph_mutex *lock)
{
    require(ph_mutex_init(lock));
}

/* Word `index` in every page of the root block, of `words` words, has a number of its own. */
static inline void commit_spread(pheap *heap, uint64_t words, uint64_t value, enum pheap_durability how)
{
    pheap_txn *txn = begin(heap);
    for (uint64_t i = 0; i < words; i += PH_PAGE_BYTES / 8)
        put_word(txn, i, value + i);
    ok(pheap_commit(txn, how, NULL));
}

static inline void require_spread(pheap *heap, uint64_t words, uint64_t value)
{
    pheap_read *reader = read_begin(heap, PHEAP_FRESH);
    for (uint64_t i = 0; i < words; i += PH_PAGE_BYTES / 8)
        require_equal(read_word(reader, i), value + i);
    pheap_read_end(reader);
}

#endif
