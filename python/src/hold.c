/* SPDX-License-Identifier: MIT */
/* Holds of blocks, arrays and rings: see block.h. */
#include "python/src/block.h"

enum pheap_status pp_hold(struct pp_proxy *proxy)
{
    struct pp_heap *heap = proxy->heap;
    if (heap->session.heap == NULL || proxy->held)
        return PHEAP_OK;
    enum pht_kind kind;
    enum pheap_status status = pht_kind_of(&heap->now.view, proxy->word, &kind);
    if (status != PHEAP_OK || (uint32_t)kind != proxy->kind) {
        pp_proxy_die(proxy); /* another process has freed it */
        return PHEAP_OK;
    }
    status = pht_hold(&heap->now.view, &heap->session, proxy->word);
    if (status == PHEAP_OK) {
        proxy->held = true;
        proxy->hold = heap->now.serial;
    }
    return status;
}

void pp_hold_all(struct pp_heap *heap)
{
    uint32_t savepoint;
    struct pp_now *now = &heap->now;
    if (!heap->unheld || heap->session.heap == NULL || pp_fork_is_awaited())
        return;
    enum pheap_status status = pheap_savepoint(now->txn, &savepoint);
    if (status != PHEAP_OK)
        return;
    for (size_t i = 0; status == PHEAP_OK && i < heap->table.room;) {
        struct pp_proxy *proxy = heap->table.seats[i];
        if (proxy != NULL && pp_is_leaf(proxy->kind))
            status = pp_hold(proxy);
        if (heap->table.seats[i] == proxy) /* else another one has come into the seat of one that died */
            i++;
    }
    heap->unheld = status != PHEAP_OK;
    if (status == PHEAP_OK)
        return;
    /* What the program is about to do must not suffer from it.  It is tried again. */
    status = pheap_rollback(now->txn, savepoint);
    if (status == PHEAP_OK)
        status = pht_begin(now->txn, &now->view);
    if (status != PHEAP_OK)
        now->view.failed = status;
    pp_holds_undone(heap, now->serial);
}

enum pheap_status pp_unhold(struct pp_proxy *proxy)
{
    struct pp_heap *heap = proxy->heap;
    if (!proxy->held || heap->session.heap == NULL)
        return PHEAP_OK;
    const enum pheap_status status = pht_unhold(&heap->now.view, &heap->session, proxy->word);
    if (status == PHEAP_OK)
        proxy->held = false;
    return status;
}

void pp_holds_undone(struct pp_heap *heap, uint64_t serial)
{
    for (size_t i = 0; i < heap->table.room; i++) {
        struct pp_proxy *proxy = heap->table.seats[i];
        if (proxy != NULL && proxy->held && pp_is_leaf(proxy->kind) && proxy->hold == serial) {
            proxy->held = false; /* perhaps it is, since before a savepoint: to hold it again does no harm */
            heap->unheld = true;
        }
    }
}
