/* SPDX-License-Identifier: MIT */
/*
 * The heap's session: that objects which have proxies stay, whoever removes them.
 *
 * What has to be done about it is done on the way: when a transaction begins, and before a look at the newest version if that has come
 * to wait for this process.  pp_in_flight counts words that were copied out of a view and have no proxies yet; while there
 * are such the session does not say that it has seen anything.
 */
#include "python/src/block.h"

#include <stdlib.h>

unsigned long pp_in_flight;

/* Holds that are not needed any more are dropped with the next commit, or when there are so many. */
enum { DROPS_MANY = 256, WAIT_MS = 100 };

static bool has(void *context, pht_value word)
{
    return pp_table_get(context, word) != NULL;
}

static bool next(void *context, uint64_t *cursor, pht_value *word)
{
    const struct pp_table *table = context;
    while (*cursor < table->room) {
        const struct pp_proxy *proxy = table->seats[(*cursor)++];
        if (proxy != NULL) {
            *word = proxy->word;
            return true;
        }
    }
    return false;
}

static void held(void *context, pht_value word)
{
    struct pp_proxy *proxy = pp_table_get(context, word);
    if (proxy != NULL)
        proxy->held = 1;
}

static struct pht_words words_of(struct pp_heap *heap)
{
    return (struct pht_words){
        .count = heap->table.room, .has = has, .next = next, .held = held, .context = &heap->table};
}

int pp_session_begin(struct pp_heap *heap)
{
    for (;;) {
        enum pheap_status status;
        heap->users++;
        Py_BEGIN_ALLOW_THREADS;
        status = pht_session_begin(heap->handle, !heap->read_only, WAIT_MS, &heap->session);
        Py_END_ALLOW_THREADS;
        heap->users--;
        if (status == PHEAP_OK) {
            pp_fork_count_session(1);
            pp_session_may_rest(heap);
            return 0;
        }
        if (status != PHEAP_TIMEOUT) {
            pp_fail(heap->state, status);
            return -1;
        }
        if (PyErr_CheckSignals() < 0)
            return -1;
    }
}

void pp_session_end(struct pp_heap *heap)
{
    struct pht_session session = heap->session;
    if (session.heap == NULL)
        return;
    heap->session.heap = NULL;
    pp_fork_count_session(-1);
    free(heap->drops);
    heap->drops = NULL;
    heap->drop_count = heap->drop_room = 0;
    enum pheap_status status;
    Py_BEGIN_ALLOW_THREADS;
    status = pht_session_end(&session, WAIT_MS);
    Py_END_ALLOW_THREADS;
    pp_note_stray(heap, status); /* what could not be dropped goes when the process ends */
}

void pp_session_forget(struct pp_heap *heap, pht_value word)
{
    if (heap->session.heap == NULL)
        return;
    if (heap->drop_count == heap->drop_room) {
        const size_t room = heap->drop_room == 0 ? 16 : 2 * heap->drop_room;
        pht_value *drops = realloc(heap->drops, room * sizeof *drops);
        if (drops == NULL)
            return; /* it is held until the session ends */
        heap->drops = drops;
        heap->drop_room = room;
    }
    heap->drops[heap->drop_count++] = word;
}

/* -------------------------------------------------------------------------------------------------------- resting */

void pp_session_may_rest(struct pp_heap *heap)
{
    const struct pp_table *table = &heap->table;
    if (table->used > 1 || heap->session.heap == NULL || pht_session_rests(&heap->session) || pp_in_flight > 0 ||
        heap->now.txn != NULL || heap->looking > 0 || heap->forks != pp_forks ||
        (table->used == 1 && pp_table_get(table, heap->root) == NULL) || pp_fork_is_awaited())
        return;
    const enum pheap_status status = pht_session_rest(&heap->session);
    (void)status; /* others wait a little longer */
    heap->must_hold = false;
    heap->stuck_with = 0;
}

void pp_session_wake(struct pp_heap *heap, const struct pht *t)
{
    if (heap->session.heap == NULL || !pht_session_rests(&heap->session))
        return;
    const enum pheap_status status = pht_session_wake(t, &heap->session);
    (void)status; /* it can fail only where the reader or the transaction would not have begun */
}

/* ------------------------------------------------------------------------------------------------ in transactions */

/* Drop what is to be dropped, and see what there is to be seen.  Another thread may begin before this one knows that its
 * commit has succeeded: so what is done belongs to `tending`, which is ended in any case. */
static enum pheap_status tend(struct pp_heap *heap, struct pht *t, struct pp_tending *tending)
{
    bool must_hold;
    enum pheap_status status = PHEAP_OK;
    struct pht_session session = heap->session;
    const struct pht_words words = words_of(heap);
    *tending = (struct pp_tending){.drops = heap->drops, .drop_count = heap->drop_count};
    heap->drops = NULL;
    heap->drop_count = heap->drop_room = 0;
    for (size_t i = 0; i < tending->drop_count && status == PHEAP_OK; i++) {
        struct pp_proxy *again = pp_table_get(&heap->table, tending->drops[i]);
        if (again != NULL && pp_is_leaf(again->kind)) {
            again->held = false; /* it has got another proxy: that holds it with the next transaction */
            heap->unheld = true;
        }
        status = pht_unhold(t, &session, tending->drops[i]);
    }
    if (status == PHEAP_OK && pp_in_flight == 0)
        status = pht_session_see(t, &session, &words, &must_hold);
    tending->next = status == PHEAP_OK ? session.next : 0;
    return status;
}

void pp_session_tended(struct pp_heap *heap, struct pp_tending *tending, bool committed)
{
    for (size_t i = 0; i < tending->drop_count && !committed; i++)
        pp_session_forget(heap, tending->drops[i]);
    if (committed && tending->next != 0 && heap->session.heap != NULL) {
        heap->session.next = tending->next;
        const enum pheap_status status = pht_session_seen(&heap->session);
        (void)status; /* others wait a little longer */
        heap->must_hold = false;
    }
    free(tending->drops);
    *tending = (struct pp_tending){.drops = NULL};
}

void pp_session_at_begin(struct pp_heap *heap, struct pp_now *now)
{
    uint32_t savepoint;
    if (heap->session.heap == NULL || (heap->drop_count == 0 && !pht_session_due(&now->view, &heap->session)) ||
        pp_fork_is_awaited())
        return;
    enum pheap_status status = pheap_savepoint(now->txn, &savepoint);
    if (status != PHEAP_OK || tend(heap, &now->view, &now->tending) == PHEAP_OK)
        return;
    /* What the program is about to do must not suffer from it.  It is tried again. */
    pp_session_tended(heap, &now->tending, false);
    status = pheap_rollback(now->txn, savepoint);
    if (status == PHEAP_OK)
        status = pht_begin(now->txn, &now->view);
    if (status != PHEAP_OK)
        now->view.failed = status;
}

/* ------------------------------------------------------------------------------------------------------- between */

void pp_session_look(struct pp_heap *heap, struct pht *t)
{
    if (heap->session.heap == NULL || heap->must_hold || pp_in_flight > 0 || !pht_session_due(t, &heap->session))
        return;
    /* What cannot be held stops it until something is forgotten. */
    if ((heap->stuck_with != 0 && heap->table.used >= heap->stuck_with) || pp_fork_is_awaited())
        return;
    pp_session_may_rest(heap); /* if it could not when the last proxy ended: a child was awaited */
    if (pht_session_rests(&heap->session))
        return;
    bool must_hold = false;
    const struct pht_words words = words_of(heap);
    const enum pheap_status status = pht_session_see(t, &heap->session, &words, &must_hold);
    heap->must_hold = status == PHEAP_OK && must_hold && !heap->read_only;
    heap->stuck_with = status == PHEAP_OK && must_hold && heap->read_only ? heap->table.used : 0;
}

/* A transaction, if that needs no waiting; and its end.  Both without the GIL. */
static enum pheap_status begin_at_once(struct pp_heap *heap, struct pht *t)
{
    pheap_txn *txn;
    enum pheap_status status;
    Py_BEGIN_ALLOW_THREADS;
    status = pheap_begin_timeout(heap->handle, 0, &txn);
    if (status == PHEAP_OK) {
        status = pht_begin(txn, t);
        if (status != PHEAP_OK)
            pheap_abort(txn);
    }
    Py_END_ALLOW_THREADS;
    return status;
}

static enum pheap_status end(const struct pht *t, enum pheap_status status)
{
    Py_BEGIN_ALLOW_THREADS;
    if (status == PHEAP_OK)
        status = pheap_commit(t->txn, PHEAP_LAZY, NULL);
    else
        pheap_abort(t->txn);
    Py_END_ALLOW_THREADS;
    return status;
}

bool pp_session_tend(struct pp_heap *heap)
{
    struct pht t;
    if (heap->session.heap == NULL || heap->read_only || heap->tending || pp_in_flight > 0 || pp_fork_is_awaited())
        return false;
    heap->tending = true;
    heap->users++;
    enum pheap_status status = begin_at_once(heap, &t);
    if (status == PHEAP_OK) {
        struct pp_tending tending;
        status = end(&t, tend(heap, &t, &tending));
        pp_session_tended(heap, &tending, status == PHEAP_OK);
    }
    pp_note_stray(heap, status);
    heap->users--;
    heap->tending = false;
    return status == PHEAP_OK;
}

bool pp_session_is_pressing(const struct pp_heap *heap)
{
    return heap->must_hold || heap->drop_count >= DROPS_MANY;
}

void pp_session_keep_up(struct pp_heap *heap)
{
    struct pht t;
    pheap_read *reader;
    if (pp_in_transaction(heap))
        return;
    if (pp_session_is_pressing(heap))
        pp_session_tend(heap);
    if (heap->handle == NULL || pheap_read_begin_timeout(heap->handle, PHEAP_FRESH, 0, &reader) != PHEAP_OK)
        return;
    if (pht_look(reader, &t) == PHEAP_OK)
        pp_session_look(heap, &t);
    pheap_read_end(reader);
}

/* ------------------------------------------------------------------------------------------------------------ fork */

/* In a child: of what the parent holds the child must have holds of its own. */
static enum pheap_status hold_again(struct pp_heap *heap, const struct pht_session *parents)
{
    pheap_txn *txn;
    struct pht t;
    enum pheap_status status = pheap_begin(heap->handle, &txn);
    if (status != PHEAP_OK)
        return status;
    status = pht_begin(txn, &t);
    for (size_t i = 0; i < heap->table.room && status == PHEAP_OK; i++) {
        struct pp_proxy *proxy = heap->table.seats[i];
        bool is_held = true;
        if (proxy == NULL || !proxy->held)
            continue;
        status = pht_is_held(&t, parents, proxy->word, &is_held);
        if (status == PHEAP_OK && is_held)
            status = pht_hold(&t, &heap->session, proxy->word);
        proxy->held = is_held;
        proxy->lost = !is_held;
    }
    if (status == PHEAP_OK)
        return pheap_commit(txn, PHEAP_LAZY, NULL);
    pheap_abort(txn);
    return status;
}

int pp_session_adopt(struct pp_heap *heap)
{
    bool whole = false, holds = false;
    const struct pht_session parents = heap->session;
    if (parents.heap == NULL)
        return 0;
    heap->drop_count = 0; /* those are the parent's */
    heap->must_hold = heap->tending = false;
    heap->stuck_with = 0;
    enum pheap_status status = pht_session_adopt(heap->handle, &parents, &heap->session, &whole);
    for (size_t i = 0; i < heap->table.room; i++)
        holds = holds || (heap->table.seats[i] != NULL && heap->table.seats[i]->held);
    if (status == PHEAP_OK && whole && holds)
        status = hold_again(heap, &parents);
    pp_fork_gone_on();
    if (status != PHEAP_OK) {
        heap->session.heap = NULL;
        pp_fork_count_session(-1);
        pp_fail(heap->state, status);
        return -1;
    }
    pp_table_lose(&heap->table, heap->root, !whole);
    pp_session_may_rest(heap);
    return 0;
}
