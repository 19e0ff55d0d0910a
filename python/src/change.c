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
        free(heap->now.made);
    }
    heap->now = now;
    return 0;
}

void pp_abort(struct pp_heap *heap)
{
    struct pp_now now = heap->now;
    heap->now = (struct pp_now){.txn = NULL};
    pheap_abort(now.txn);
    pp_bury(heap, &now, 0);
    free(now.made);
}

int pp_commit(struct pp_heap *heap, enum pheap_durability how)
{
    enum pheap_status status = heap->now.view.failed;
    if (status == PHEAP_OK && heap->now.park != PHT_ABSENT)
        status = pht_discard(&heap->now.view, heap->now.park);
    if (status != PHEAP_OK) {
        pp_fail(heap->state, pheap_fail_with(status,
                                             "a change in this transaction failed half-way, so all of it was "
                                             "undone: %s",
                                             pheap_error_detail()));
        pp_abort(heap);
        return -1;
    }
    struct pp_now now = heap->now;
    heap->now = (struct pp_now){.txn = NULL};
    heap->users++;
    Py_BEGIN_ALLOW_THREADS status = pheap_commit(now.txn, how, NULL);
    Py_END_ALLOW_THREADS heap->users--;
    if (status != PHEAP_OK) {
        pp_fail(heap->state, status);
        pp_bury(heap, &now, 0);
    }
    free(now.made);
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
    if (status == PHEAP_OK && !undo)
        status = pp_unpark(change->heap);
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

/* A search for proxies: containers to be looked into, and how many words more. */
enum { SEARCH_CONTAINERS = 128, SEARCH_WORDS = 4096 };
struct search {
    struct pp_heap *heap;
    pht_value found[SEARCH_CONTAINERS];
    size_t count;
    uint32_t budget;
    bool held; /* there is a proxy; or nobody knows, because there is too much to search */
};

static enum pheap_status meet(struct search *search, pht_value word)
{
    if (word == PHT_ABSENT || (word & 7) != 0)
        return PHEAP_OK; /* no object */
    enum pht_kind kind;
    const enum pheap_status status = pht_kind_of(&search->heap->now.view, word, &kind);
    if (status != PHEAP_OK || (kind < PHT_MAP && kind != PHT_BLOCK && kind != PHT_ARRAY && kind != PHT_RING))
        return status;
    if (pp_table_get(&search->heap->table, word) != NULL)
        search->held = true;
    else if (kind == PHT_SET || kind == PHT_FROZENSET || kind < PHT_MAP)
        return PHEAP_OK; /* has no containers */
    else if (search->count < SEARCH_CONTAINERS && kind >= PHT_MAP)
        search->found[search->count++] = word;
    else
        search->held = true;
    return PHEAP_OK;
}

static enum pheap_status search_map(struct search *search, pht_value map)
{
    uint64_t cursor = 0;
    pht_value key, value;
    enum pheap_status status = PHEAP_OK;
    while (status == PHEAP_OK && !search->held) {
        if (search->budget-- == 0)
            search->held = true;
        status = pht_map_next(&search->heap->now.view, map, &cursor, &key, &value);
        if (status == PHEAP_OK)
            status = meet(search, value);
    }
    return status == PHEAP_END ? PHEAP_OK : status;
}

static enum pheap_status count_of(struct pht *t, pht_value it, enum pht_kind kind, uint64_t *count)
{
    return kind == PHT_TUPLE   ? pht_tuple_count(t, it, count)
           : kind == PHT_QUEUE ? pht_queue_count(t, it, count)
           : kind == PHT_OMAP  ? pht_omap_count(t, it, count)
                               : pht_list_count(t, it, count);
}

static enum pheap_status element_of(struct pht *t, pht_value it, enum pht_kind kind, uint64_t index, pht_value *value)
{
    pht_value key;
    return kind == PHT_TUPLE   ? pht_tuple_get(t, it, index, value)
           : kind == PHT_QUEUE ? pht_queue_get(t, it, index, value)
           : kind == PHT_OMAP  ? pht_omap_at(t, it, index, &key, value)
                               : pht_list_get(t, it, index, value);
}

static enum pheap_status search_sequence(struct search *search, pht_value sequence, enum pht_kind kind)
{
    struct pht *t = &search->heap->now.view;
    uint64_t count = 0;
    enum pheap_status status = count_of(t, sequence, kind, &count);
    if (status == PHEAP_OK && count > search->budget)
        search->held = true;
    for (uint64_t i = 0; status == PHEAP_OK && !search->held && i < count; i++) {
        pht_value value;
        status = element_of(t, sequence, kind, i, &value);
        if (status == PHEAP_OK)
            status = meet(search, value);
    }
    search->budget -= search->held ? 0 : (uint32_t)count;
    return status;
}

static enum pheap_status search_record(struct search *search, pht_value record)
{
    struct pht *t = &search->heap->now.view;
    struct pp_layout *layout;
    uint64_t offset;
    uint32_t number;
    enum pheap_status status = pht_record_at(t, record, PHT_ANY_TYPE, &offset, &number);
    if (status == PHEAP_OK)
        status = pp_layout_of(search->heap, t, number, &layout);
    if (status == PHEAP_OK && layout->is.count > search->budget)
        search->held = true;
    for (uint32_t i = 0; status == PHEAP_OK && !search->held && i < layout->is.count; i++) {
        const struct pht_field *field = &layout->is.fields[i];
        pht_value value;
        if (field->kind != PHT_FIELD_VALUE)
            continue;
        if (field->count > 1)
            search->held = true; /* no class has such */
        memcpy(&value, t->base + offset + field->offset, sizeof value);
        status = meet(search, value);
    }
    search->budget -= search->held || status != PHEAP_OK ? 0 : layout->is.count;
    return status;
}

/* Has the program a proxy of what the word names, or of something that goes with it? */
static enum pheap_status is_held(struct pp_heap *heap, pht_value word, bool *held)
{
    struct search search; /* not zeroed: it is large, and most words name no container */
    search.heap = heap;
    search.count = 0;
    search.budget = SEARCH_WORDS;
    search.held = false;
    enum pheap_status status = meet(&search, word);
    for (size_t i = 0; status == PHEAP_OK && !search.held && i < search.count; i++) {
        enum pht_kind kind;
        status = pht_kind_of(&heap->now.view, search.found[i], &kind);
        if (status == PHEAP_OK)
            status = kind == PHT_MAP      ? search_map(&search, search.found[i])
                     : kind == PHT_RECORD ? search_record(&search, search.found[i])
                                          : search_sequence(&search, search.found[i], kind);
    }
    *held = search.held;
    return status;
}

enum pheap_status pp_park(struct pp_heap *heap, pht_value word, bool *kept)
{
    struct pp_now *now = &heap->now;
    enum pheap_status status = is_held(heap, word, kept);
    if (status != PHEAP_OK || !*kept)
        return status;
    if (now->park == PHT_ABSENT) {
        status = pht_list_new(&now->view, &now->park);
        if (status != PHEAP_OK)
            return status;
    }
    return pht_list_append(&now->view, now->park, pht_of(word));
}

enum pheap_status pp_unpark(struct pp_heap *heap)
{
    struct pp_now *now = &heap->now;
    if (now->park == PHT_ABSENT)
        return PHEAP_OK;
    uint64_t count;
    enum pheap_status status = pht_list_count(&now->view, now->park, &count);
    pht_value taken;
    while (status == PHEAP_OK && count > 0)
        status = pht_list_remove(&now->view, now->park, --count, &taken);
    return status;
}
