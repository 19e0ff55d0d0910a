/* SPDX-License-Identifier: MIT */
/*
 * The read views of a process: a few views that its read transactions share, each with a pin in the process's seat.
 *
 * A new reader gets a view that shows the newest commit already, else an idle one, which is moved there, else it joins
 * the newest of those in use.  The first reader of a view pins the newest commit c (R3): it stores c as the pin, then
 * looks at fold_intent and for a newer commit; if that is beyond c a fold may have missed the pin, and if there is one a
 * writer may have, so it pins a newer commit.  Once the pin holds, nothing folds past c, and the view is moved there.  The last reader clears the pin; the view stays where it is,
 * holding nothing.
 *
 * While all readers of a view allow eviction its pin is marked evictable.  A writer that needs the log or the memory
 * takes such a pin away; every reader that was on the view then learns at its end that what it saw may be torn.
 *
 * A glance reads a view that nobody need have in use.  It holds while the newest commit is the one that the view shows,
 * since nothing beyond that can have been folded, whether there is a pin or not; and while the view was not moved.
 */
#ifndef PHEAP_READVIEW_H
#define PHEAP_READVIEW_H

#include "pheap/view.h"

#include <stdatomic.h>

struct ph_core;

struct ph_read_view {
    struct ph_view view;
    uint32_t index;         /* of its pin */
    unsigned readers;       /* open on it */
    unsigned firm;          /* of them, those that do not allow eviction */
    uint64_t pinned;        /* what the pin was set to; while there are readers */
    _Atomic uint64_t moves; /* odd while it is being moved, and when that has failed: what a glance looks at */
};

struct pheap_read {
    struct ph_core *core;
    struct ph_read_view *on;
    struct pheap_read *next, *before; /* list of open or (next only) of free readers */
    uint64_t thread;
    bool open;
    bool evictable;
};

/* Map `count` views (1 to PH_PINS), or as many as there is address space for; at least one.  NO_MEMORY. */
PH_MUST_CHECK ph_status ph_readview_map(struct ph_core *core, uint32_t count, uint64_t reserve_bytes,
                                        uint64_t least_bytes, uint64_t budget_bytes);
void ph_readview_unmap(struct ph_core *core);

/* Whether nobody has taken the pin of a reader's view away. */
bool ph_readview_holds(const struct pheap_read *reader);
/* EVICTED, with its detail. */
ph_status ph_readview_evicted(const struct pheap_read *reader);

/* Whether the calling thread has a read transaction open. */
bool ph_readview_in_use_here(struct ph_core *core);

#endif
