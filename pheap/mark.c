/* SPDX-License-Identifier: MIT */
/*
 * Marks: a number of each handle, of which the lowest of a process is in the coordination file.  The handles of a core that
 * have one are in a list of it, under its reader lock.
 *
 * If a handle of a process rests, RESTS is set in the mark of the process, and so are all other bits if no handle has a
 * mark of its own.  Then the versions that the process pins count as well.  A reader pins what is the newest commit still
 * when its pin can be seen.  So who finds no pin, and then that the process rests, knows that what its readers see from then
 * on is not older than the commit that the open transaction began with.
 */
#include "pheap/core.h"
#include "pheap/memory.h"

#define RESTS (UINT64_C(1) << 63)

/* Show the lowest; the reader lock is held.  Sequentially consistent, so that looks at the heap come later. */
static void publish(struct ph_core *core)
{
    uint64_t lowest = 0, rests = 0;
    for (const pheap *heap = core->marked; heap != NULL; heap = heap->next_marked) {
        if (heap->mark == PHEAP_MARK_RESTS)
            rests = RESTS;
        lowest = lowest == 0 || heap->mark < lowest ? heap->mark : lowest;
    }
    lowest |= rests;
    if (core->coord != NULL && !core->private_coord)
        atomic_store(&core->coord->marks[core->store.seat], lowest);
}

static void set(struct ph_core *core, pheap *heap, uint64_t mark)
{
    ph_local_lock(&core->reader_lock);
    if (heap->mark != 0 && mark == 0) {
        pheap **at = &core->marked;
        while (*at != heap)
            at = &(*at)->next_marked;
        *at = heap->next_marked;
    } else if (heap->mark == 0 && mark != 0) {
        heap->next_marked = core->marked;
        core->marked = heap;
    }
    heap->mark = mark;
    publish(core);
    ph_local_unlock(&core->reader_lock);
}

void ph_mark_drop(struct ph_core *core, pheap *heap)
{
    if (heap->mark != 0)
        set(core, heap, 0);
}

enum pheap_status pheap_set_mark(pheap *heap, uint64_t mark)
{
    struct ph_core *core;
    ph_status status = ph_core_use(heap, &core);
    if (status == PH_OK && mark >= RESTS && mark != PHEAP_MARK_RESTS)
        status = ph_fail(PH_INVALID, "pheap_set_mark: %llu is no version", (unsigned long long)mark);
    if (status == PH_OK)
        set(core, heap, mark);
    return (enum pheap_status)status;
}

/* The oldest version that readers of a process have pinned, PHEAP_MARK_RESTS if there are none.  Of a reader that is about to
 * begin it may be an older one. */
static uint64_t oldest_pinned(struct ph_seat *seat)
{
    uint64_t oldest = PHEAP_MARK_RESTS;
    for (unsigned i = 0; i < PH_PINS; i++) {
        if (atomic_load(&seat->pins[i].lsn) == 0)
            continue;
        const uint64_t version = atomic_load_explicit(&seat->pins[i].version, memory_order_acquire);
        if (version < oldest)
            oldest = version == 0 ? 1 : version;
    }
    return oldest;
}

uint64_t ph_mark_of(const struct ph_core *core, uint32_t seat)
{
    const uint64_t mark = atomic_load(&core->coord->marks[seat]);
    return mark == PHEAP_MARK_RESTS ? mark : mark & ~RESTS;
}

/* With what its readers see, if it rests. */
static uint64_t mark_and_pins(const struct ph_core *core, uint32_t seat)
{
    const uint64_t found = atomic_load(&core->coord->marks[seat]);
    if (found < RESTS)
        return found;
    /* The pins first: who remembers what a reader has seen sets a mark before that ends. */
    const uint64_t pinned = oldest_pinned(&core->coord->seats[seat]);
    const uint64_t mark = ph_mark_of(core, seat);
    return mark == 0 || mark < pinned ? mark : pinned;
}

enum pheap_status pheap_lowest_mark(pheap_txn *txn, uint64_t *mark)
{
    struct ph_core *core;
    ph_status status = mark == NULL ? ph_fail(PH_INVALID, "pheap_lowest_mark: mark is NULL") : ph_txn_use(txn, &core);
    if (status != PH_OK)
        return (enum pheap_status)status;
    uint64_t lowest = 0;
    for (uint32_t seat = 0; seat < PH_SEATS; seat++) {
        const uint64_t found = mark_and_pins(core, seat);
        if (found == 0 || (lowest != 0 && found >= lowest))
            continue;
        if (seat == core->store.seat || ph_store_seat_alive(&core->store, seat))
            lowest = found;
    }
    *mark = lowest;
    return PHEAP_OK;
}

uint64_t pheap_version(const pheap_txn *txn)
{
    if (txn == NULL || txn->serial == 0 || txn->serial != atomic_load(&txn->core->txn_serial))
        return 0;
    return txn->core->begin_mark.version + 1;
}
