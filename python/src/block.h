/* SPDX-License-Identifier: MIT */
/*
 * Bytes in a heap: blocks, and arrays, rings and records of structs.
 *
 * EXPORTS.  A buffer is given out with the address of the bytes themselves.
 *   - Outside of a transaction, and from a snapshot, it is read-only; a firm read transaction of its own, or the
 *     snapshot, keeps what it shows until it is released.
 *   - In a transaction it is writable, and guarded: pheap_guard().  It is good for stores in every later transaction of
 *     the process too; what is stored in between is undone and reported by the next begin or close, as StrayStore.
 *   - One that must not be written to and is asked for in a transaction (PyBUF_SIMPLE) is not guarded.
 * A heap knows its exports, and where in the program they were made.  While there are any, it cannot be closed, nor can
 * their block be freed or moved, or their snapshot be closed: BufferError.
 */
#ifndef PYTHON_BLOCK_H
#define PYTHON_BLOCK_H

#include "python/src/heap.h"

struct pp_export {
    struct pp_export *next, *previous;
    struct pp_heap *heap;         /* borrowed: the block of the buffer holds it */
    struct pp_snapshot *snapshot; /* likewise; NULL: none */
    pheap_read *reader;           /* its own; NULL: none */
    PyObject *code;               /* where it was made; NULL: not known */
    int line;
    pht_value word;
    uint64_t offset, length;
    unsigned forks;
    bool guarded;
};

/* Where the bytes of a block, array, ring or record are. */
enum pheap_status pp_bytes_at(struct pht *t, pht_value word, uint64_t *offset, uint64_t *length);

/* bf_getbuffer and bf_releasebuffer of proxies of such. */
int pp_export(PyObject *self, Py_buffer *buffer, int flags);
void pp_release(PyObject *self, Py_buffer *buffer);

/* Are there exports of this word (PHT_ABSENT: any) and snapshot (NULL: any)? */
bool pp_exported(const struct pp_heap *heap, pht_value word, const struct pp_snapshot *snapshot);

/* BufferError naming them, and -1, if there are such. */
int pp_refuse_exports(struct pp_heap *heap, pht_value word, const struct pp_snapshot *snapshot, const char *what);

/*
 * HOLDS.  Objects that refer to no others are freed at once with their last reference, so their proxies are held in advance: in
 * the transaction that they are made in, else with the next change of the process, or with what removes them.  What another process frees before
 * that is gone.
 */
static inline bool pp_is_leaf(uint32_t kind)
{
    return kind == PHT_BLOCK || kind == PHT_ARRAY || kind == PHT_RING;
}

/* Hold one, or all that are not held, in the open transaction; let go of one that is to be freed; and note that the holds of a
 * transaction were undone. */
enum pheap_status pp_hold(struct pp_proxy *proxy);
void pp_hold_all(struct pp_heap *heap);
enum pheap_status pp_unhold(struct pp_proxy *proxy);
void pp_holds_undone(struct pp_heap *heap, uint64_t serial);

/* A transaction of the session has met a stray store: it is told by the next of the program. */
void pp_note_stray(struct pp_heap *heap, enum pheap_status status);

/* Raise what begin or close say; of a stray store also where its view was made.  Views that were released before are
 * forgotten. */
void pp_fail_views(struct pp_heap *heap, enum pheap_status status);
void pp_forget_views(struct pp_heap *heap);

/* Methods of heaps. */
PyObject *pp_heap_alloc(PyObject *self, PyObject *size);
PyObject *pp_heap_free(PyObject *self, PyObject *block);
PyObject *pp_heap_realloc(PyObject *self, PyObject *args);

#endif
