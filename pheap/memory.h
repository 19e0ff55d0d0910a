/* SPDX-License-Identifier: MIT */
/* Between the files that implement the public calls on a transaction. */
#ifndef PHEAP_MEMORY_H
#define PHEAP_MEMORY_H

#include "pheap/core.h"

/* The core of an open transaction of this thread.  INVALID, ENDED, FORKED, WRONG_THREAD. */
PH_MUST_CHECK ph_status ph_txn_use(pheap_txn *txn, struct ph_core **core);

/* verify.c: apply the builder's unsealed records to the shadow view and compare it with the write view. */
PH_MUST_CHECK ph_status ph_verify_commit(struct ph_core *core);

/* verify.c: after the edits were undone.  See its head. */
void ph_verify_undone(struct ph_core *core);

#endif
