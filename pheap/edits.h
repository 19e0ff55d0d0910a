/* SPDX-License-Identifier: MIT */
/*
 * Edits: what the open transaction has changed, kept so that it can be undone and so that commit knows what to log.
 *
 * Two kinds of bytes change in a transaction:
 *
 *   lines   bytes that mattered before: their old value is saved in an undo image, 64 bytes (a line) at a time with a
 *           mask of the 8-byte words that were declared.  Commit logs the words that differ from the image.
 *   fresh   blocks allocated in this transaction: nothing to save, commit logs them whole (large ones: the pages that
 *           were stored to).
 *
 * Invariants
 *   E1  A word is saved with the value that it had when the current savepoint level began, at most once per level: before
 *       its first change, or, where stores are tracked (pheap/track.h), when they are found or the word is declared.
 *   E2  Bytes become fresh only if no abort needs them: they were free when the transaction began, or everything in
 *       them that mattered was saved (as lines) first.
 *   E3  After ph_edits_reserve(e, n) the next n single-line edits (ph_edits_word, ph_edits_set) cannot fail.
 *
 * One thread, the transaction's, uses it.  Memory comes from the io seam.
 */
#ifndef PHEAP_EDITS_H
#define PHEAP_EDITS_H

#include "io/io.h"
#include "io/status.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#define PH_LINE_BYTES 64u
#define PH_FRESH_WHOLE_MAX 65536u /* fresh blocks up to this are logged whole without asking what was stored to */

struct ph_view;
struct ph_track;

struct ph_edit_line {
    uint64_t offset;   /* multiple of 64 */
    uint32_t shadowed; /* index + 1 of an older entry of the same line, of a lower savepoint level; 0 if none */
    uint8_t mask;      /* words saved in this entry */
    uint8_t old[PH_LINE_BYTES];
};

struct ph_fresh {
    uint64_t offset;
    uint64_t length;
    uint32_t level; /* savepoint level it was allocated in */
    bool live;      /* false once freed again in this transaction */
};

struct ph_edits {
    const ph_io *io;
    struct ph_view *view;
    struct ph_track *track; /* NULL: every store is declared before it is made */
    uint8_t *base;          /* address of offset 0 in the write view */
    uint64_t heap_size;     /* logical size, the transaction's growth included */
    uint64_t begin_size;    /* logical size when it began */
    struct ph_edit_line *lines;
    uint32_t line_count, line_capacity;
    uint64_t *index; /* open addressing: line offset -> generation << 32 | entry + 1; others are empty */
    uint32_t index_mask;
    uint32_t generation; /* changes with every transaction and rollback, which empties both indexes */
    struct ph_fresh *fresh;
    uint32_t fresh_count, fresh_capacity;
    uint64_t *fresh_index; /* the same for fresh blocks */
    uint32_t fresh_index_mask;
    uint64_t *deferred; /* large blocks to be freed at commit */
    uint32_t deferred_count, deferred_capacity;
    struct ph_savepoint *levels;
    uint32_t level, level_capacity; /* level 0: no savepoint yet */
    uint32_t level_first_line;      /* entries from here on belong to the present level */
};

/* Make room for `count` more lines (E3).  NO_MEMORY. */
PH_MUST_CHECK ph_status ph_edits_reserve(struct ph_edits *edits, uint32_t count);

/* Declare [offset, offset + length): save what is not yet saved.  No check that the range may be edited.
 * NO_MEMORY, TOO_BIG. */
PH_MUST_CHECK ph_status ph_edits_range(struct ph_edits *edits, uint64_t offset, uint64_t length);

/* Declare the aligned word at `offset` and store `value`.  Room must have been reserved: at most one line. */
void ph_edits_word(struct ph_edits *edits, uint64_t offset, uint64_t value);

/* The words of the line at `offset` that are saved in the current savepoint level. */
uint8_t ph_edits_saved(const struct ph_edits *edits, uint64_t offset);

/*
 * Words of a page were changed without a declaration: save them, by a mask for each line, as they are in `was`, the bytes
 * that the page had when the current savepoint level began.  NO_MEMORY, TOO_BIG.
 */
PH_MUST_CHECK ph_status ph_edits_found(struct ph_edits *edits, uint64_t page, const uint8_t *masks, const uint8_t *was);

static inline uint64_t ph_edits_get(const struct ph_edits *edits, uint64_t offset)
{
    uint64_t value;
    memcpy(&value, edits->base + offset, sizeof value);
    return value;
}

/*
 * The bits that are set in every value of the word at `offset` that undo or a rollback may put back: all of them if the
 * word was not saved in this transaction.
 */
uint64_t ph_edits_common(const struct ph_edits *edits, uint64_t offset);

/* A block becomes fresh (E2).  NO_MEMORY, TOO_BIG. */
PH_MUST_CHECK ph_status ph_edits_add_fresh(struct ph_edits *edits, uint64_t offset, uint64_t length);

/* Fill a fresh range with zeros.  TOO_BIG. */
PH_MUST_CHECK ph_status ph_edits_zero(struct ph_edits *edits, uint64_t offset, uint64_t length);

/*
 * If `offset` is the start of a block allocated in this transaction: 1 if in the present savepoint level, 2 if in an
 * earlier one; else 0.  *length (may be NULL) as added.
 */
int ph_edits_is_fresh(const struct ph_edits *edits, uint64_t offset, uint64_t *length);

/*
 * If `offset` lies in a fresh range: 1 or 2 as above, and where the range begins and ends; else 0.  Looks at all ranges
 * there are.
 */
int ph_edits_fresh_around(const struct ph_edits *edits, uint64_t offset, uint64_t *from, uint64_t *to);

/* The fresh block at `offset`, of the present level, was freed or changed its length (0: freed). */
void ph_edits_change_fresh(struct ph_edits *edits, uint64_t offset, uint64_t length);

/* Make room for one more deferred block, so that the next ph_edits_defer cannot fail.  NO_MEMORY. */
PH_MUST_CHECK ph_status ph_edits_reserve_deferred(struct ph_edits *edits);
/* Remember a large block to be freed at commit; rollback forgets it.  NO_MEMORY. */
PH_MUST_CHECK ph_status ph_edits_defer(struct ph_edits *edits, uint64_t offset);

/* Extend the heap to `size` bytes (a multiple of 4096); the new bytes are zero.  NO_SPACE, RESERVE, FULL, IO. */
PH_MUST_CHECK ph_status ph_edits_grow(struct ph_edits *edits, uint64_t size);

/* Make whole pages [offset, offset + length) zero again, which no commit has ever changed, but what was undone has. */
void ph_edits_clear(struct ph_edits *edits, uint64_t offset, uint64_t length);

/* ------------------------------------------------------------------------------------------- for the transaction */

struct ph_record_builder;

/* Begin on a view that shows the last commit.  Zeroed state or one that was ended is fine.  NO_MEMORY. */
PH_MUST_CHECK ph_status ph_edits_begin(struct ph_edits *edits, struct ph_view *view);

/* Forget everything; the view's bytes stay as they are. */
void ph_edits_end(struct ph_edits *edits);
void ph_edits_deinit(struct ph_edits *edits); /* zeroed state is fine */

/* Put every saved byte back.  For ph_alloc_undo, as rollback is for ph_alloc_rollback. */
void ph_edits_undo(struct ph_edits *edits);

/* Savepoints are numbered from 0.  NO_MEMORY. */
PH_MUST_CHECK ph_status ph_edits_savepoint(struct ph_edits *edits, uint32_t *savepoint);
/* Undo everything since; false if there is no such savepoint. */
bool ph_edits_rollback(struct ph_edits *edits, uint32_t savepoint);

/* encode.c: put every change into records.  NO_MEMORY. */
PH_MUST_CHECK ph_status ph_edits_encode(struct ph_edits *edits, struct ph_record_builder *builder);

#endif
