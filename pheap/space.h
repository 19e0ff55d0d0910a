/* SPDX-License-Identifier: MIT */
/*
 * Space statistics, by a walk over extents and slabs.
 *
 * Every byte is counted once: metadata_bytes + live_bytes + slab_free_bytes + extent_free_bytes = heap_bytes.
 * Metadata is superblocks, heap header, table segments and slab headers; slab_free_bytes are free slots and what
 * slabs lose to rounding; the tail is one free extent.
 */
#ifndef PHEAP_SPACE_H
#define PHEAP_SPACE_H

#include "pheap/alloc.h"
#include "pheap/pheap.h"

/* Fill all counters; out->size is left alone.  `progress` may be NULL.  CORRUPT, BUSY (stopped): *out untouched. */
PH_MUST_CHECK ph_status ph_space_walk(struct ph_space space, struct pheap_space *out, pheap_progress progress,
                                      void *context);

#endif
