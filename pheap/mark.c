/* SPDX-License-Identifier: MIT */
/*
 * Marks: a number of each handle, of which the lowest of a process is in the coordination file.  The handles of a core that
 * have one are in a list of it, under its reader lock.
 */
#include "pheap/core.h"
#include "pheap/memory.h"

/* Show the lowest; the reader lock is held.  Sequentially consistent, so that looks at the heap come later. */
static void publish(struct ph_core *core)
{
    uint64_t lowest = 0;
    for (const pheap *heap = core->marked; heap != NULL; heap = heap->next_marked)
        lowest = lowest == 0 || heap->mark < lowest ? heap->mark : lowest;
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
    if (status == PH_OK)
        set(core, heap, mark);
    return (enum pheap_status)status;
}

enum pheap_status pheap_lowest_mark(pheap_txn *txn, uint64_t *mark)
{
    struct ph_core *core;
    ph_status status = mark == NULL ? ph_fail(PH_INVALID, "pheap_lowest_mark: mark is NULL") : ph_txn_use(txn, &core);
    if (status != PH_OK)
        return (enum pheap_status)status;
    uint64_t lowest = 0;
    for (uint32_t seat = 0; seat < PH_SEATS; seat++) {
        const uint64_t found = atomic_load(&core->coord->marks[seat]);
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
