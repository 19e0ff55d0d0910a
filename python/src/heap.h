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
 *   4. An object that has a proxy here is not taken apart, by anybody: the heap's session (session.c) holds it, or has not
 *      seen yet that it was removed.  Words that were copied out of a view count as pp_in_flight until they have proxies.
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

/* What a transaction does for the session: holds that it drops, and objects that it holds. */
struct pp_tending {
    pht_value *drops; /* owned */
    size_t drop_count;
    uint64_t next; /* that the session has seen then; 0: nothing new */
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
    struct pp_tending tending;
};

struct pp_heap {
    PyObject_HEAD struct pp_state *state;
    PyObject *path;
    PyObject *weak;
    pheap *handle; /* NULL: closed */
    int read_only;
    enum pheap_durability how; /* of transactions that do not say */
    uint32_t pin_wait_ms;
    unsigned forks;    /* pp_forks when `now` was begun */
    unsigned users;    /* threads in a call without the GIL */
    unsigned looking;  /* snapshots that are open */
    unsigned watching; /* watches that are open */

    struct pp_now now;
    uint64_t serials;
    uint64_t task_serial; /* of the transaction that belongs to one task of its thread: to `task` */
    PyObject *task, *current_task;
    struct pp_table table;
    pht_value root; /* the word of the root, which is never freed; PHT_ABSENT: not known yet */

    struct pp_export *exports, *released; /* block.h: views of bytes; those that the next begin looks at once more */
    PyObject *stray;                      /* what is to be told of a stray store; NULL: nothing */
    bool unheld;                          /* there may be proxies of blocks and the like that are not held */

    struct pht_session session;
    pht_value *drops; /* words that were forgotten and are held still */
    size_t drop_count, drop_room;
    bool must_hold;    /* the session has seen objects that it must hold to go on */
    size_t stuck_with; /* proxies there were when a session without holds could not go on; 0: it can */
    bool tending;      /* a thread is in pp_session_tend() */

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
    uint64_t hold;   /* a block or the like: the transaction that held it */
    uint32_t kind;
    uint32_t dead; /* its object is gone, because the transaction that made it was aborted */
    bool held;     /* the session may hold it */
    bool lost;     /* dead, because it was the parent process that remembered it */
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

/* fork.c: see to forks from now on; a session began (1) or ended (-1); one that was inherited goes on, or has ended; and is
 * there a child that has inherited some and has not gone on with all of them? */
void pp_fork_watch(void);
void pp_fork_count_session(int change);
void pp_fork_gone_on(void);
bool pp_fork_is_awaited(void);

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

/* Let a record without a word be the heap's proxy for this one; and take that back. */
enum pheap_status pp_proxy_adopt(struct pp_proxy *proxy, struct pp_heap *heap, pht_value word, uint32_t kind);
void pp_proxy_release(struct pp_proxy *proxy);

void pp_proxy_dealloc(PyObject *self);

/* Mark what a transaction has made, from number `from` on, as gone. */
void pp_bury(struct pp_heap *heap, const struct pp_now *now, size_t from);

/* Proxies but that of `root` die: all, or those that are marked as lost. */
void pp_table_lose(struct pp_table *table, pht_value root, bool all);

/* -------------------------------------------------------------------------------------------------- the session */

/* Words that were copied out of views and have no proxies yet, of all heaps: pp_show() to pp_shown_clear(). */
extern unsigned long pp_in_flight;

/* Begin, before any word is read, and end.  -1 with an exception. */
int pp_session_begin(struct pp_heap *heap);
void pp_session_end(struct pp_heap *heap);

/* In a child process: go on with what was inherited.  -1 with an exception. */
int pp_session_adopt(struct pp_heap *heap);

/* A proxy that is held ends. */
void pp_session_forget(struct pp_heap *heap, pht_value word);

/*
 * The session rests when there are no proxies but that of the root, so that a program which sleeps is in nobody's way.  It is
 * to be asked whether it can when a proxy has ended, or a transaction; and it wakes before a look or a transaction ends from
 * which there are words, and when one gets a proxy.
 */
void pp_session_may_rest(struct pp_heap *heap);
void pp_session_wake(struct pp_heap *heap, const struct pht *t);

/* In a look at the newest version: see what others have removed, if they wait for that.  Nothing of Python runs. */
void pp_session_look(struct pp_heap *heap, struct pht *t);

/* Is there something to be done in a transaction of its own?  pp_session_tend() does it, if no other writer is in the way;
 * other threads may run meanwhile.  Did it? */
bool pp_session_is_pressing(const struct pp_heap *heap);
bool pp_session_tend(struct pp_heap *heap);

/* Both, in a program that waits. */
void pp_session_keep_up(struct pp_heap *heap);

/* The same in a transaction of the program: when it begins, and when it has ended, in whatever way. */
void pp_session_at_begin(struct pp_heap *heap, struct pp_now *now);
void pp_session_tended(struct pp_heap *heap, struct pp_tending *tending, bool committed);

/* --------------------------------------------------------------------------------------------------- looking */

/* A look at the heap through `t`, from pp_look() to pp_seen(); rule 1 holds meanwhile.  -1 with an exception. */
struct pp_look {
    struct pp_heap *heap;
    struct pht *t;
    pheap_read *reader; /* its own; NULL: it has none */
    struct pht own;
};
int pp_look(struct pp_look *look, struct pp_proxy *proxy);
int pp_look_at(struct pp_look *look, struct pp_heap *heap, struct pp_snapshot *snapshot);
void pp_seen(struct pp_look *look);

/* What the beginning of a reader gave that is to stay: it must leave a version to those that come and go, else BUSY. */
enum pheap_status pp_may_stay(struct pp_heap *heap, enum pheap_status status, pheap_read **reader);

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

/* Begin and end a transaction.  Both raise what goes wrong. */
int pp_begin(struct pp_heap *heap, int64_t timeout_ms);
int pp_commit(struct pp_heap *heap, enum pheap_durability how);
void pp_abort(struct pp_heap *heap);

#endif
