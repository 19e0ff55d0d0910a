/* SPDX-License-Identifier: MIT */
/*
 * The allocator as the rest of the library sees it.
 *
 * All its state lies in the heap and is changed only through struct ph_edits, so that abort undoes it, the log
 * carries it and every view has it by replay.  It keeps nothing in memory between calls, except hints that may be
 * wrong.  Read-only functions work on any view, and trust nothing they read (R8): an impossible value is CORRUPT.
 */
#ifndef PHEAP_ALLOC_H
#define PHEAP_ALLOC_H

#include "io/status.h"
#include "pheap/edits.h"

#include <stddef.h>
#include <stdint.h>

/* A heap to be read: `base` is the address of offset 0, `size` the logical size in bytes. */
struct ph_space {
    const uint8_t *base;
    uint64_t size;
};

/* Bytes [0, PH_HEAP_START) hold the superblocks and are never touched by the allocator or by redo. */
#define PH_HEAP_START 8192u

/* The size of a new heap, a multiple of 4096, small (<= 64 KiB). */
uint64_t ph_alloc_initial_bytes(void);
/* Write the allocator's initial state into a zeroed image of a new heap. */
void ph_alloc_format(uint8_t *image);

/* A block of at least `length` bytes at a multiple of `alignment`: INVALID, FULL, CORRUPT, what edits give. */
PH_MUST_CHECK ph_status ph_alloc(struct ph_edits *edits, uint64_t alignment, uint64_t length, bool zero,
                                 uint64_t *offset);
/* BAD_OFFSET, DOUBLE_FREE (also for any 16-byte-aligned place in free space that was in use before), CORRUPT, what
 * edits give.  Offset 0 does nothing.  If the block is the root, the root becomes 0. */
PH_MUST_CHECK ph_status ph_free(struct ph_edits *edits, uint64_t offset);
/* Resize, in place or by moving; *offset 0 allocates.  The root follows its block.  Errors of ph_alloc and ph_free. */
PH_MUST_CHECK ph_status ph_realloc(struct ph_edits *edits, uint64_t *offset, uint64_t length);
/*
 * Really free what ph_free put on the deferred list, and give back what an emptied heap does not need.  Every commit
 * calls it, before it encodes and whether anything was deferred or not; nothing may be allocated after it.
 */
PH_MUST_CHECK ph_status ph_alloc_apply_deferred(struct ph_edits *edits);

/* ph_edits_undo and ph_edits_rollback, and nothing is left of what was stored in pages that were never allocated before. */
void ph_alloc_undo(struct ph_edits *edits);
bool ph_alloc_rollback(struct ph_edits *edits, uint32_t savepoint);

/* The root block's offset or 0, unchecked; and setting it: BAD_OFFSET if it is neither 0 nor a live block. */
uint64_t ph_alloc_root(struct ph_space space);
PH_MUST_CHECK ph_status ph_alloc_set_root(struct ph_edits *edits, uint64_t offset);

/* The live block that contains `offset`: its start and usable length.  BAD_OFFSET if none (metadata, free space,
 * outside); CORRUPT. */
PH_MUST_CHECK ph_status ph_alloc_find(struct ph_space space, uint64_t offset, uint64_t *start, uint64_t *length);

/* Usable length of the live block that starts at `offset`.  BAD_OFFSET, CORRUPT. */
PH_MUST_CHECK ph_status ph_alloc_usable(struct ph_space space, uint64_t offset, uint64_t *length);

/* What lies at `offset`; used by the verify mode. */
enum ph_alloc_kind { PH_KIND_METADATA, PH_KIND_LIVE, PH_KIND_FREE, PH_KIND_INVALID };
enum ph_alloc_kind ph_alloc_kind(struct ph_space space, uint64_t offset);

/* First live block at or after `from`.  END, CORRUPT. */
PH_MUST_CHECK ph_status ph_alloc_next(struct ph_space space, uint64_t from, uint64_t *start, uint64_t *length);

#endif
