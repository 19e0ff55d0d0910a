/* SPDX-License-Identifier: MIT */
/*
 * Guards: ranges of the write view to which somebody has addresses that outlive a transaction.
 *
 * Each transaction of this process tracks them from its beginning.  Between two transactions nothing may be stored there:
 * what the end of one has left is compared at the beginning of the next, before the view is moved or dropped.
 *
 * Only a store makes a page of the write view private between two transactions, and what a private page shows changes by
 * stores only.  So a page is as it was left if it was not private and is not, or if it was and its sum is the same.  Where
 * the system cannot tell which pages are private, all are summed; then a commit by another process, which pages that are
 * not private may show, makes the comparison worthless: the view is made anew, and a stray store is gone without a word.
 */
#ifndef PHEAP_GUARD_H
#define PHEAP_GUARD_H

#include "io/mutex.h"
#include "pheap/view.h"

struct ph_core;

/* A page of a guarded range as a transaction left it. */
struct ph_guard_page {
    uint64_t at;  /* offset of the first guarded byte in it */
    uint64_t sum; /* of the guarded bytes */
};

struct ph_guard {
    uint64_t from, to;
    uint32_t count; /* of pheap_guard() without pheap_unguard(); 0: to be looked at once more */
    bool told;      /* the system told which pages are private */
    struct ph_guard_page *pages;
    size_t page_count, page_room;
};

struct ph_guards {
    struct ph_local_lock lock; /* nothing else is locked under it */
    bool lock_ready;
    bool armed;            /* what is remembered of the pages is what the last transaction left, */
    uint64_t lsn;          /* at this version */
    _Atomic uint32_t used; /* of the list */
    struct ph_guard *list;
    uint32_t room;
};

/* For the core: made and freed with it.  false: no memory. */
bool ph_guards_init(struct ph_guards *guards);
void ph_guards_deinit(struct ph_core *core);

/* Under the writer lock: has anything been stored since the last transaction?  The commit `lsn` is the newest.  After
 * that nothing is remembered, and the next move of the view, if there was something, makes it anew.  STRAY_STORE. */
PH_MUST_CHECK ph_status ph_guards_check(struct ph_core *core, uint64_t lsn);

/* A transaction has begun: track what is guarded and lies in a live block.  As ph_track_range. */
PH_MUST_CHECK ph_status ph_guards_track(struct ph_core *core);

/* A transaction has ended: remember what it left.  Those that nobody needs any more go. */
void ph_guards_arm(struct ph_core *core);

/* What is remembered means nothing any more. */
void ph_guards_disarm(struct ph_core *core);

#endif
