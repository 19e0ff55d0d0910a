/* SPDX-License-Identifier: MIT */
/*
 * Heaps, transactions, snapshots and proxies, and the ways to look at values and to change them.
 *
 * WHOSE EYES.  A proxy names an object by its word.  What it looks at is, in this order: the transaction of the calling
 * thread; the snapshot that it belongs to; else the newest version.
 *
 * RULES
 *   1. No pointer into a view lives across a call that can run Python code: allocation of an object that the garbage
 *      collector knows, DECREF, comparison, hash.  Within a look only str and bytes are made.
 *   2. Within a change nothing of Python runs: what is to be stored is prepared as a plan before (value.h).
 *   3. The GIL is let go of round pheap_begin() and pheap_commit().  heap->now is that of the thread that has a
 *      transaction open, and is empty before its commit is called.
 *   4. An object that has a proxy here is not freed by this process: pp_park().  Another process may free it; then its
 *      proxy shows whatever gets its place, until types/ knows who holds what.
 */
#ifndef PYTHON_HEAP_H
#define PYTHON_HEAP_H

#include "python/src/module.h"

struct pp_proxy;
struct pp_export;
struct pp_layout;

/* Proxies by their words: open addressing, borrowed pointers.  A proxy takes itself out when it ends. */
struct pp_table {
    struct pp_proxy **seats;
    size_t room, used;
};

/* The open write transaction. */
struct pp_now {
    pheap_txn *txn; /* NULL: none */
    uint64_t owner; /* pp_thread() of its thread */
    struct pht view;
    uint64_t serial;
    uint32_t level;  /* transactions within it, which are savepoints; 1: only itself */
    pht_value *made; /* containers made in it */
    size_t made_count, made_room;
    pht_value park; /* a list for objects that would be freed; PHT_ABSENT: not made yet */
};

struct pp_heap {
    PyObject_HEAD struct pp_state *state;
    PyObject *path;
    PyObject *weak;
    pheap *handle; /* NULL: closed */
    int read_only;
    enum pheap_durability how; /* of transactions that do not say */
    uint32_t pin_wait_ms;
    unsigned forks;   /* pp_forks when `now` was begun */
    unsigned users;   /* threads in a call without the GIL */
    unsigned looking; /* snapshots that are open */

    struct pp_now now;
    uint64_t serials;
    uint64_t task_serial; /* of the transaction that belongs to one task of its thread: to `task` */
    PyObject *task, *current_task;
    struct pp_table table;
    pht_value root;                       /* the word of the root, which is never freed; PHT_ABSENT: not known yet */
    struct pp_export *exports, *released; /* block.h: views of bytes; those that the next begin looks at once more */

    /* For fields of records: what the last look saw, to be read on while nobody commits. */
    struct pheap_glance glance;
    unsigned glance_forks;      /* pp_forks when it was taken; UINT_MAX: there is none */
    int glance_left;            /* reads before a look must be taken again: the library is to be called now and then */
    struct pp_layout **layouts; /* by number: see record.h */
    size_t layout_room;
    struct pp_layout *layouts_gone;
    int pickle; /* are objects of other types pickled, and loaded? */
};

struct pp_snapshot {
    PyObject_HEAD struct pp_heap *heap;
    pheap_read *reader; /* NULL: closed */
    struct pht look;
    unsigned forks;
    struct pp_table table;
};

struct pp_proxy {
    PyObject_HEAD struct pp_heap *heap;
    struct pp_snapshot *snapshot; /* NULL: the newest version */
    PyObject *weak;
    pht_value word;
    uint64_t serial; /* of the transaction that made the proxy; 0: none */
    uint32_t kind;
    uint32_t dead; /* its object is gone, because the transaction that made it was aborted */
};

int pp_heap_init(PyObject *module, struct pp_state *state);
int pp_snapshot_init(PyObject *module, struct pp_state *state);
int pp_proxy_init(PyObject *module, struct pp_state *state);
int pp_map_init(PyObject *module, struct pp_state *state);
int pp_list_init(PyObject *module, struct pp_state *state);
int pp_set_init(PyObject *module, struct pp_state *state);
int pp_queue_init(PyObject *module, struct pp_state *state);
int pp_omap_init(PyObject *module, struct pp_state *state);
int pp_walk_init(PyObject *module, struct pp_state *state);
int pp_watch_init(PyObject *module, struct pp_state *state);
int pp_block_init(PyObject *module, struct pp_state *state);
int pp_place_init(PyObject *module, struct pp_state *state);
int pp_store_init(PyObject *module);

/* How often this process was forked, seen from here: handles work in a child, readers and transactions do not. */
extern unsigned pp_forks;

/* Is the heap open?  Else -1, with pheap.Closed raised.  Forgets what the parent process had begun. */
int pp_heap_usable(struct pp_heap *heap);

/* The number of the calling thread: unlike an identity of the system, no later thread gets it. */
uint64_t pp_thread(void);

/* Has the calling thread, or the calling task of asyncio, a transaction open?  May run Python code for a task. */
int pp_is_task(struct pp_heap *heap);
static inline int pp_in_transaction(struct pp_heap *heap)
{
    return heap->now.txn != NULL && heap->now.owner == pp_thread() &&
           (heap->task_serial != heap->now.serial || pp_is_task(heap));
}

/* --------------------------------------------------------------------------------------------------- proxies */

/* The proxy of a container, made if there is none. */
PyObject *pp_proxy_of(struct pp_heap *heap, struct pp_snapshot *snapshot, pht_value word, uint32_t kind);

/* A proxy of this class for a container that was just made. */
PyObject *pp_proxy_made(PyTypeObject *class, struct pp_heap *heap, pht_value word, uint32_t kind);

/* The same of any class, which the object's kind has or not. */
PyObject *pp_proxy_found(PyTypeObject *class, struct pp_heap *heap, struct pp_snapshot *snapshot, pht_value word,
                         uint32_t kind);

/* Its object is gone. */
void pp_proxy_die(struct pp_proxy *proxy);

/* The heap's proxy for a word, or NULL. */
struct pp_proxy *pp_table_get(const struct pp_table *table, pht_value word);

/* Has the process proxies of anything but the root? */
static inline bool pp_holds(const struct pp_heap *heap)
{
    return heap->table.used > 1 || (heap->table.used == 1 && pp_table_get(&heap->table, heap->root) == NULL);
}

/* Let a record without a word be the heap's proxy for this one; and take that back. */
enum pheap_status pp_proxy_adopt(struct pp_proxy *proxy, struct pp_heap *heap, pht_value word, uint32_t kind);
void pp_proxy_release(struct pp_proxy *proxy);

void pp_proxy_dealloc(PyObject *self);

/* Mark what a transaction has made, from number `from` on, as gone. */
void pp_bury(struct pp_heap *heap, const struct pp_now *now, size_t from);

/* --------------------------------------------------------------------------------------------------- looking */

/* A look at the heap through `t`, from pp_look() to pp_seen(); rule 1 holds meanwhile.  -1 with an exception. */
struct pp_look {
    struct pht *t;
    pheap_read *reader; /* its own; NULL: it has none */
    struct pht own;
};
int pp_look(struct pp_look *look, struct pp_proxy *proxy);
int pp_look_at(struct pp_look *look, struct pp_heap *heap, struct pp_snapshot *snapshot);
void pp_seen(struct pp_look *look);

/* Remember what a look sees, if that is the newest version. */
void pp_take_glance(struct pp_heap *heap, const struct pp_look *look);

PyObject *pp_snapshot_new(struct pp_heap *heap);

/* Methods of a heap: inspect.c. */
PyObject *pp_heap_info(PyObject *self, PyObject *unused);
PyObject *pp_heap_space(PyObject *self, PyObject *unused);
PyObject *pp_heap_check(PyObject *self, PyObject *unused);
/* --------------------------------------------------------------------------------------------------- records */

/* The object for the word of a record, whose type has this number. */
PyObject *pp_record_of(struct pp_heap *heap, struct pp_snapshot *snapshot, pht_value word, uint32_t number);

/* The attributes of a record that is not stored, as a borrowed dict; else NULL. */
PyObject *pp_record_detached(PyObject *object);

/* It is stored now as `word`, by the open transaction; and take that back.  pp_record_stored(): for good. */
enum pheap_status pp_record_adopt(PyObject *object, struct pp_heap *heap, struct pht *t, pht_value word,
                                  struct pp_layout *layout);
void pp_record_revert(struct pp_proxy *proxy);
void pp_record_stored(PyObject *object, pht_value word);

/* Is it a record that becomes detached again if its transaction fails? */
bool pp_record_is_new(const struct pp_proxy *proxy);

/* Forget the layouts that a transaction which was undone has met; the end of all. */
void pp_layouts_forget(struct pp_heap *heap, uint64_t made);
void pp_layouts_free(struct pp_heap *heap);

/* -------------------------------------------------------------------------------------------------- changing */

/* A change: in the thread's transaction, or as one of its own. */
struct pp_change {
    struct pp_heap *heap;
    struct pht *t;
    bool lone;
};
int pp_change(struct pp_change *change, struct pp_proxy *proxy);

/* End it: as `status` says, and with `undo` as if nothing had been done.  -1 if an exception is raised. */
int pp_changed(struct pp_change *change, enum pheap_status status, bool undo);

/* Note a container that was made. */
enum pheap_status pp_note_made(struct pp_heap *heap, pht_value word);

/* A word is about to lose a reference: if it has a proxy, or something that goes with it has one, or if that would take
 * too long to find out, keep it, and say so.  pp_unpark() lets go of all that are kept: then they belong to nobody, and stay until
 * they are stored again or collected. */
enum pheap_status pp_park(struct pp_heap *heap, pht_value word, bool *kept);
enum pheap_status pp_unpark(struct pp_heap *heap);

/* Begin and end a transaction.  Both raise what goes wrong. */
int pp_begin(struct pp_heap *heap, int64_t timeout_ms);
int pp_commit(struct pp_heap *heap, enum pheap_durability how);
void pp_abort(struct pp_heap *heap);

#endif
