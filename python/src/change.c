/* SPDX-License-Identifier: MIT */
/* Write transactions: begin, commit, abort, and changes that are transactions of their own. */
#include "python/src/block.h"
#include "python/src/record.h"

#include <stdlib.h>

/* One turn of waiting, after which signals are looked for; and what is long enough to be told. */
enum { SLICE_MS = 100, SLOW_MS = 1000 };

/* Wait for the writer, without the GIL; an exception may be raised by a signal. */
static enum pheap_status wait_for_turn(struct pp_heap *heap, int64_t timeout_ms, pheap_txn **txn)
{
    /* Mostly nobody is in the way; to ask for no wait spares the library four looks at the clock. */
    int64_t slice = 0;
    for (int64_t waited = 0;;) {
        enum pheap_status status;
        heap->users++;
        Py_BEGIN_ALLOW_THREADS status = pheap_begin_timeout(heap->handle, slice, txn);
        Py_END_ALLOW_THREADS heap->users--;
        if (status == PHEAP_OK)
            return status;
        waited += slice;
        /* Who waits for a reader is told LOG_FULL or BUDGET when the slice is over, which is too early. */
        const bool early = (status == PHEAP_LOG_FULL || status == PHEAP_BUDGET) &&
                           (waited < heap->pin_wait_ms || (slice == 0 && timeout_ms != 0));
        if (status != PHEAP_TIMEOUT && !early)
            return status;
        if (timeout_ms >= 0 && waited >= timeout_ms)
            return status;
        if (waited >= SLOW_MS && waited - slice < SLOW_MS &&
            pp_log("warning", "waiting to write: %s", pheap_error_detail()) < 0)
            return status;
        /* Whoever handles a signal may have closed the heap. */
        if (PyErr_CheckSignals() < 0 || pp_heap_usable(heap) < 0)
            return status;
        const int64_t left = timeout_ms < 0 ? SLICE_MS : timeout_ms - waited;
        slice = left < SLICE_MS ? left : SLICE_MS;
    }
}

int pp_begin(struct pp_heap *heap, int64_t timeout_ms)
{
    pheap_txn *txn;
    if (heap->now.txn != NULL && heap->now.owner == pp_thread()) {
        pp_fail(heap->state,
                pheap_fail_with(PHEAP_BUSY, "another task of this thread has a transaction open: tasks wait "
                                            "for each other in pheap.aio.transaction()"));
        return -1;
    }
    if (heap->stray != NULL) {
        pp_fail_views(heap, PHEAP_STRAY_STORE);
        return -1;
    }
    enum pheap_status status = wait_for_turn(heap, timeout_ms, &txn);
    if (status != PHEAP_OK) {
        pp_fail_views(heap, status);
        return -1;
    }
    pp_forget_views(heap);
    struct pp_now now = {.txn = txn, .owner = pp_thread(), .serial = ++heap->serials, .level = 1};
    status = pht_begin(txn, &now.view);
    if (status != PHEAP_OK) {
        pp_fail(heap->state, status);
        pheap_abort(txn);
        return -1;
    }
    if (heap->now.txn != NULL) {
        /* Its thread has ended without it: then it was aborted. */
        pp_bury(heap, &heap->now, 0);
        pp_session_tended(heap, &heap->now.tending, false);
        free(heap->now.made);
    }
    pp_session_at_begin(heap, &now);
    heap->now = now;
    pp_hold_all(heap);
    return 0;
}

void pp_abort(struct pp_heap *heap)
{
    struct pp_now now = heap->now;
    if (pp_in_flight > 0)
        pp_session_wake(heap, &now.view);
    heap->now = (struct pp_now){.txn = NULL};
    pheap_abort(now.txn);
    pp_bury(heap, &now, 0);
    pp_session_tended(heap, &now.tending, false);
    free(now.made);
    pp_session_may_rest(heap);
}

int pp_commit(struct pp_heap *heap, enum pheap_durability how)
{
    enum pheap_status status = heap->now.view.failed;
    if (status != PHEAP_OK) {
        pp_fail(heap->state, pheap_fail_with(status,
                                             "a change in this transaction failed half-way, so all of it was "
                                             "undone: %s",
                                             pheap_error_detail()));
        pp_abort(heap);
        return -1;
    }
    struct pp_now now = heap->now;
    if (pp_in_flight > 0)
        pp_session_wake(heap, &now.view);
    heap->now = (struct pp_now){.txn = NULL};
    heap->users++;
    Py_BEGIN_ALLOW_THREADS status = pheap_commit(now.txn, how, NULL);
    Py_END_ALLOW_THREADS heap->users--;
    if (status != PHEAP_OK) {
        pp_fail(heap->state, status);
        pp_bury(heap, &now, 0);
    }
    pp_session_tended(heap, &now.tending, status == PHEAP_OK);
    free(now.made);
    pp_session_may_rest(heap);
    return status == PHEAP_OK ? 0 : -1;
}

int pp_change(struct pp_change *change, struct pp_proxy *proxy)
{
    struct pp_heap *heap = proxy->heap;
    if (pp_heap_usable(heap) < 0)
        return -1;
    if (proxy->snapshot != NULL) {
        pp_fail(heap->state,
                pheap_fail_with(PHEAP_READ_ONLY, "this object belongs to a snapshot, which nothing changes"));
        return -1;
    }
    change->heap = heap;
    struct pp_look look;
    if (proxy->dead)
        return pp_look(&look, proxy);
    change->lone = !pp_in_transaction(heap);
    if (change->lone && pp_begin(heap, -1) < 0)
        return -1;
    /* Again: while this thread waited, the transaction that made the object may have been aborted. */
    if (proxy->dead) {
        if (change->lone)
            pp_abort(heap);
        return pp_look(&look, proxy);
    }
    change->t = &heap->now.view;
    return 0;
}

int pp_changed(struct pp_change *change, enum pheap_status status, bool undo)
{
    if (status != PHEAP_OK) {
        pp_fail(change->heap->state, status);
        if (change->lone)
            pp_abort(change->heap);
        return -1;
    }
    if (!change->lone)
        return 0;
    if (undo) {
        pp_abort(change->heap);
        return 0;
    }
    return pp_commit(change->heap, change->heap->how);
}
