/* SPDX-License-Identifier: MIT */
/*
 * Tracking: finding the stores that a transaction made without declaring them.
 *
 * Within its tracked ranges a transaction just stores.  Commit, abort, savepoint and rollback harvest: they look at every
 * page that may have been stored to, compare it with its reference, and what differs becomes a line of the edits, with the
 * reference's bytes as the old ones.  From there on all goes the way of declared edits.
 *
 * The reference of a page is its image of the newest savepoint, if there is one, else the page in the shadow view, which
 * shows the commit that the transaction began on.  Which pages may have been stored to:
 *
 *   watched    those that the kernel says were, since it was asked last;
 *   compared   where it cannot: all private pages.  Also for ranges of a few pages, where to ask costs more.
 *
 * Invariants
 *   T1  A word in a tracked range that the current savepoint level has not saved had, when the level began, the value in the
 *       reference; unless it lies in a block that is fresh in this level.
 *   T2  A page whose bytes differ from its reference is among those that the next harvest looks at.
 *   T3  While `settled`, free space is the same in write view and shadow, so that a difference there is a stray store.
 */
#ifndef PHEAP_TRACK_H
#define PHEAP_TRACK_H

#include "pheap/images.h"
#include "pheap/view.h"

#include <stdatomic.h>

struct ph_core;

struct ph_track_range {
    uint64_t from, to; /* multiples of 8 */
};

#define PH_TRACK_STEP_BYTES (UINT64_C(128) << 20) /* looked at in one go */

struct ph_track {
    const struct ph_view *view, *shadow;
    _Atomic uint32_t method; /* enum pheap_track_method; set by the first use in this process */
    bool settled;            /* T3 */

    /* Of the open transaction. */
    bool active;
    bool all;   /* every live block */
    bool whole; /* and that from the start of the transaction on, without a rollback */
    bool
        missed; /* a harvest failed when the kernel had forgotten already which pages it was for: look at all private */
    bool broken;                   /* a reference is missing, or a commit has failed: it can only be aborted */
    uint64_t stray;                /* where a store hit no live block; 0: nowhere */
    struct ph_track_range *ranges; /* ascending, none touches another */
    uint32_t range_count, range_capacity;
    struct ph_images images;
    uint8_t bitmap[PH_TRACK_STEP_BYTES / PH_PAGE_BYTES / 8];
};

/* ------------------------------------------------------------------------------------------------- for the edits */

/* The reference of the line at `offset`; where nothing is tracked, the write view itself. */
const uint8_t *ph_track_before(const struct ph_track *track, uint64_t offset);

/* [from, to) was fresh and is free again: make it what it was, to keep T3. */
void ph_track_forget(struct ph_track *track, uint64_t from, uint64_t to);

/* ------------------------------------------------------------------------------------------- for the transaction */

/* Track [offset, offset + length) until the transaction ends.  NO_MEMORY, TOO_BIG, and what moving a view gives. */
PH_MUST_CHECK ph_status ph_track_range(struct ph_core *core, uint64_t offset, uint64_t length);
/* The same for every live block. */
PH_MUST_CHECK ph_status ph_track_all(struct ph_core *core);

/* Before commit encodes.  STRAY_STORE, NO_MEMORY, TOO_BIG: the transaction must be aborted. */
PH_MUST_CHECK ph_status ph_track_commit(struct ph_core *core);
/* Before the edits are undone. */
void ph_track_abort(struct ph_core *core);
/* In place of ph_edits_savepoint.  NO_MEMORY, TOO_BIG. */
PH_MUST_CHECK ph_status ph_track_savepoint(struct ph_core *core, uint32_t *savepoint);
/* In place of ph_alloc_rollback.  INVALID (no such savepoint), NO_MEMORY, TOO_BIG. */
PH_MUST_CHECK ph_status ph_track_rollback(struct ph_core *core, uint32_t savepoint);
/* The transaction is over. */
void ph_track_end(struct ph_core *core, bool committed);

void ph_track_deinit(struct ph_core *core); /* zeroed state is fine */

#endif
