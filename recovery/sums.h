/* SPDX-License-Identifier: MIT */
/*
 * The sums: a checksum of every page of the heap file, in the file NAME-sum, for heaps created with them.
 *
 * Whoever folds writes the sums of the pages he writes, under the same lock; a checkpoint makes both durable before the
 * superblock that says so (recovery/checkpoint.c).  So between two operations under the fold lock every sum is that of
 * its page as the page cache has it, unless a fold was begun and not finished, which the next one makes good.
 *
 * Which sums are true on the disk: those of all pages that no record at or behind the checkpoint changes.  Pages that
 * one changes are replayed before anybody looks at sums, and that makes their sums anew.  So no order of writes between
 * two checkpoints matters, and sums are overwritten in place, without a log.
 *
 * The header says for which checkpoint that holds.  It is written before the superblock is, and then names the one
 * before as well, so that it is right whether that superblock arrives or not; afterwards the one before is struck out.
 * A sums file that is missing, damaged, or of another state of the heap (a copy of the heap file was put in place without
 * it) is begun again, empty: a page without a sum is not known to be good, and never taken to be bad.
 */
#ifndef RECOVERY_SUMS_H
#define RECOVERY_SUMS_H

#include "recovery/store.h"

#define PH_SUMS_PER_BLOCK (PH_PAGE_BYTES / 8)

/* The sums of pages [512 n, 512 n + 512), as they stand in the file. */
struct ph_sums_block {
    uint64_t number;
    bool loaded, changed;
    uint64_t sums[PH_SUMS_PER_BLOCK];
};

/*
 * Nobody else has the heap open, and its state is that of the superblock, or the log is sound and leads from there: open
 * the sums file, and begin it anew if it is not that of this state.  Where the heap file cannot be written the file stays closed
 * then.  Nothing to do for a heap without sums.
 */
PH_MUST_CHECK ph_status ph_sums_open(struct ph_store *store);

/* Others have the heap open: open the file that they use.  REPLACED. */
PH_MUST_CHECK ph_status ph_sums_join(struct ph_store *store);

/* Under the fold lock, or alone: say that the sums are good for the superblock that has this LSN and chain, which is the
 * newest, and for the next. */
PH_MUST_CHECK ph_status ph_sums_announce(struct ph_store *store, uint64_t lsn, uint64_t chain, uint64_t next_lsn,
                                         uint64_t next_chain);
/* Make that and all sums durable, as must be before that next superblock is written. */
PH_MUST_CHECK ph_status ph_sums_sync(struct ph_store *store);
/* That next superblock is durable: now the sums are good for no other.  Only so that an old copy of heap and log, put in
 * place without its sums, is recognised; so it need not be durable, and if it fails nothing is lost. */
void ph_sums_settle(struct ph_store *store);

/* The sum of a page that holds these bytes: neither NONE nor DAMAGED. */
uint64_t ph_sums_compute(const void *page);

/* The place of a page's sum, in the block, which is loaded if need be; what was changed in it before is written. */
PH_MUST_CHECK ph_status ph_sums_find(struct ph_sums_block *block, struct ph_file *file, uint64_t page, uint64_t **sum);
/* Write what was changed in the block. */
PH_MUST_CHECK ph_status ph_sums_flush(struct ph_sums_block *block, struct ph_file *file);

/* The flags in the header (enum ph_sums_flags); 0 if it is damaged. */
PH_MUST_CHECK ph_status ph_sums_flags(struct ph_store *store, uint32_t *flags);
/* Under the fold lock: every page that is not zero has a durable sum; say so in the header, which need not be durable. */
PH_MUST_CHECK ph_status ph_sums_complete(struct ph_store *store);

#endif
