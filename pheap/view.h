/* SPDX-License-Identifier: MIT */
/*
 * A view: the heap at one version in this process's memory: the heap file mapped privately, plus the records since,
 * applied to private pages.
 *
 * Invariant V1 (R3): between uses nothing is promised; in use, every byte equals the heap file at some folded f <= the
 * view's LSN plus redo (f, LSN].  A view behind the shared buffer is caught up by replay; one that was overtaken is
 * reset: every private page dropped, (folded, LSN] replayed.
 *
 * The address space is reserved once; offset 0 keeps its address for the view's life.
 */
#ifndef PHEAP_VIEW_H
#define PHEAP_VIEW_H

#include "recovery/store.h"

struct ph_view {
    struct ph_store *store;
    uint8_t *base;
    uint64_t reserve_bytes;
    uint64_t budget_bytes;
    struct ph_boundary at;          /* what it shows */
    bool current;                   /* false: must be reset before use */
    uint64_t reset_lsn;             /* `folded` when it was last reset */
    uint64_t incompressible;        /* private bytes that such a reset was seen to leave; 0: not known */
    _Atomic uint64_t touched_bytes; /* upper bound of its private pages; others may look at it */
    uint64_t last_page;             /* page counted last */
    bool watched;                   /* the system tells what was stored to */
    int watch;                      /* by this handle */
};

/* Reserve address space: `reserve_bytes` if it can be had, else half of that and so on, at least what the heap needs.
 * NO_MEMORY. */
PH_MUST_CHECK ph_status ph_view_map(struct ph_view *view, struct ph_store *store, uint64_t reserve_bytes,
                                    uint64_t least_bytes, uint64_t budget_bytes);
void ph_view_unmap(struct ph_view *view); /* zeroed state is fine */

/* Ask the system to tell from now on what is stored to; `watched` is false if it cannot. */
void ph_view_watch(struct ph_view *view);
/* Give the handle up: a forked child must, unmap does it. */
void ph_view_unwatch(struct ph_view *view);

/* Throw away the private copies of whole pages [offset, offset + length), so that they show the file.  IO, NO_MEMORY. */
PH_MUST_CHECK ph_status ph_view_drop(struct ph_view *view, uint64_t offset, uint64_t length);

/*
 * Make the view show the commit boundary `lsn`, which is committed and which nothing folds past meanwhile (the caller
 * holds the writer lock, or a pin).  IO, NO_MEMORY, RESERVE, CORRUPT.
 */
PH_MUST_CHECK ph_status ph_view_move(struct ph_view *view, uint64_t lsn);

/* Drop every private page and come to `lsn` from the heap file. */
PH_MUST_CHECK ph_status ph_view_reset(struct ph_view *view, uint64_t lsn);

/* Do one operation of a record (a ph_replay_apply).  RESERVE. */
PH_MUST_CHECK ph_status ph_view_apply(void *view, const struct ph_operation *operation);

/* Count `length` bytes at `offset` as stored to. */
static inline void ph_view_touch(struct ph_view *view, uint64_t offset, uint64_t length)
{
    uint64_t first = offset / PH_PAGE_BYTES, last = (offset + length - 1) / PH_PAGE_BYTES;
    if (first == last && first == view->last_page)
        return;
    uint64_t sum = atomic_load_explicit(&view->touched_bytes, memory_order_relaxed);
    atomic_store_explicit(&view->touched_bytes, sum + (last - first + 1) * PH_PAGE_BYTES, memory_order_relaxed);
    view->last_page = last;
}

/* Private pages among the first `heap_bytes`, by asking the kernel; -1 where it cannot tell.  Any thread. */
int64_t ph_view_count_private(const struct ph_view *view, uint64_t heap_bytes);

/* Private pages there really are, by asking the kernel; the upper bound where it cannot tell.  Corrects the bound. */
uint64_t ph_view_private_bytes(struct ph_view *view);

#endif
