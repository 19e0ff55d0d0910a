/* SPDX-License-Identifier: MIT */
/*
 * The whole-heap check: a walk over every extent, then over every list, each against the other.
 *
 * What it proves when it returns PH_OK: every page below the tail belongs to exactly one slab, block, free extent or
 * table segment; every free extent and every slab with a free slot is in exactly the list it belongs to, and the lists
 * hold nothing else and have no cycle; descriptors, bitmaps and the list bitmap agree; the root is 0 or a live block;
 * pages that were never allocated are zero.  Three limits keep it quick on huge sparse heaps: inside one extent only the
 * first 65,536 pages' descriptors (256 MiB) and the waypoints are looked at, of the pages never allocated as many, and
 * after damage the search for the next sound extent gives up after 2^24 pages.
 *
 * What it cannot see: docs/format.md, chapter 9, has the list, and tests/test_bitflip.c holds it to that.
 *
 * It needs no memory, whatever the heap's size, and terminates on any input.
 */
#ifndef PHEAP_CHECK_H
#define PHEAP_CHECK_H

#include "io/io.h"
#include "pheap/alloc.h"
#include "pheap/pheap.h"

#define PH_CHECK_FAULTS_MAX 1000u

/*
 * `space`: as replay leaves it; a write view may hold leftovers of an aborted transaction in free pages.  `io` gives the
 * random seed by which sets of pages are compared; it, `fault` and `progress` may be NULL.  PH_OK, CORRUPT (the detail
 * is the first fault), BUSY (stopped by `progress`).
 */
PH_MUST_CHECK ph_status ph_check_heap(const ph_io *io, struct ph_space space, pheap_fault fault,
                                      pheap_progress progress, void *context);

#endif
