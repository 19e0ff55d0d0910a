/* SPDX-License-Identifier: MIT */
/*
 * The store: one process's hold on heap file and log, below transactions and views.
 *
 * Owns: fold, checkpoint, the start and the clean end of an epoch, recovery.  The heap file's bytes change here and
 * nowhere else (R1, R2).
 *
 * Life of an epoch:  CLEAN superblock -> (first writer) log header, OPEN superblock -> commits, folds, checkpoints
 *                    -> (last user closes, or recovery) CLEAN superblock.
 */
#ifndef RECOVERY_STORE_H
#define RECOVERY_STORE_H

#include "recovery/classify.h"
#include "recovery/replay.h"
#include "recovery/superblock.h"

#include <string.h>

/* Records of the log that are durable and not folded, taken into page images in advance: see fold.c. */
struct ph_fold_set;
struct ph_gathered {
    struct ph_fold_set *set;     /* owned; NULL: nothing is gathered */
    struct ph_boundary from, to; /* what it holds */
    uint64_t segment, offset;    /* of a batch in the log that begins at or before `to` */
};

struct ph_store {
    const ph_io *io;
    struct ph_file heap;
    struct ph_file sums;       /* recovery/sums.h; open only for a heap that has them */
    struct ph_file coord_file; /* for the seats' locks */
    struct ph_wal wal;
    struct ph_superblock superblock; /* as read at open; identity and parameters stay true */
    uint32_t seat;                   /* of this process */
    bool tmpfs;                      /* the heap file is on one */
    _Atomic bool backing_up;         /* by this process */
    uint64_t replayed_bytes;         /* by the recovery of this open */
    bool recovered;
    _Atomic uint64_t heap_file_bytes; /* the heap file was seen to be that long; it does not become shorter */
    struct ph_gathered gathered;      /* under the fold lock */
    _Atomic uint64_t gather_next;     /* when `durable` gets there it is time to gather */
};

/* ------------------------------------------------------------------------------------------------------- recovery */

/*
 * Nobody else has the heap open: read superblocks and log, and bring the heap file to the last commit, so that the
 * superblock is CLEAN on return.  old_coord: the coordination file as the last users left it, or NULL; only its buffer
 * is read.  read_only: refuse (READ_ONLY) where anything would have to be written.  May be killed at any point and
 * run again.  All errors of pheap_open.
 */
PH_MUST_CHECK ph_status ph_store_recover(struct ph_store *store, struct ph_coord *old_coord, bool read_only);

/* -------------------------------------------------------------------------------------------- fold and checkpoint */

/* Make sure an epoch is open, so that commits may be logged.  Any process, any time. */
PH_MUST_CHECK ph_status ph_store_open_epoch(struct ph_store *store, uint64_t timeout_ns);

/* See to it that something on stable storage says that the log was durable up to `lsn`, which it is: before a fold up to
 * there writes.  Under the fold lock. */
PH_MUST_CHECK ph_status ph_store_vouch(struct ph_store *store, uint64_t lsn);

/* Flush and fold everything, as far as pins allow.  timeout_ns as for a checkpoint. */
PH_MUST_CHECK ph_status ph_store_fold(struct ph_store *store, uint64_t timeout_ns);

/*
 * Take what has become durable from the shared buffer towards the next fold, so that this need not read it from the log
 * file.  Does nothing while another thread or process folds.  To be called when `durable` has reached gather_next.
 */
void ph_store_gather(struct ph_store *store);

/*
 * Flush, fold, sync the heap file, move the checkpoint there, free log segments.  If another thread or process is at it,
 * wait for at most timeout_ns (UINT64_MAX: without limit), then TIMEOUT.
 */
PH_MUST_CHECK ph_status ph_store_checkpoint(struct ph_store *store, uint64_t timeout_ns);

/* Give the log one more segment if it may have one.  LOG_FULL if not, TIMEOUT as above. */
PH_MUST_CHECK ph_status ph_store_extend_log(struct ph_store *store, uint64_t timeout_ns);

/* The last user closes: checkpoint and write the CLEAN superblock. */
PH_MUST_CHECK ph_status ph_store_close_epoch(struct ph_store *store);

/* Throw away what was gathered: before the store's memory goes. */
void ph_fold_forget(struct ph_store *store);

/* A pin that somebody alive holds. */
struct ph_held_pin {
    uint32_t seat, index;
    uint64_t lsn; /* without the evictable mark */
};

/* The oldest pin of any living process; false if there is none.  Clears pins of the dead. */
bool ph_store_oldest_pin(struct ph_store *store, struct ph_held_pin *pin);

/* Take away every evictable pin below `lsn` that is not behind a firm one; true if there was one. */
bool ph_store_evict(struct ph_store *store, uint64_t lsn);

/* The oldest segment that the backup of a living process holds: its seat, or -1.  Clears holds of the dead. */
int ph_store_oldest_hold(struct ph_store *store, uint64_t *segment);

/* Whether the process in a seat lives, by its lock. */
bool ph_store_seat_alive(struct ph_store *store, uint32_t seat);

/*
 * See that the heap file has `bytes` bytes, of which something is to be believed that the coordination file says: behind
 * the end of a mapped file lies a SIGBUS (R8).  CORRUPT, IO.
 */
PH_MUST_CHECK ph_status ph_store_check_size(struct ph_store *store, uint64_t bytes);

/* ------------------------------------------------------------------------------------------- inside recovery/ only */

/* What a first reading of the log found. */
struct ph_finding {
    struct ph_boundary end; /* of the last commit */
    uint64_t lsn;           /* where the records end */
    struct ph_scan_evidence evidence;
    struct ph_scan_position last; /* in the last batch that was entered, if its batch_lsn is not 0 */
    uint64_t record_bytes;
};

/*
 * Read the log of a heap that nobody has open to its end, which is judged (R9): CORRUPT, and what ph_judge_end gives, if
 * it is not one that a crash can leave.  by_buffer: judged is where the buffer of the last users ends, which may go on from
 * the log's end; else where the log itself does.  apply, context: as for ph_replay_run.  *found tells how far it went
 * whatever is returned.
 */
PH_MUST_CHECK ph_status ph_find_end(struct ph_wal *wal, const struct ph_superblock *superblock,
                                    const struct ph_log_origin *origin, bool by_buffer, ph_replay_apply apply,
                                    void *context, struct ph_finding *found);

/* The fold lock.  TIMEOUT, CORRUPT. */
PH_MUST_CHECK ph_status ph_fold_lock(struct ph_store *store, uint64_t timeout_ns);
void ph_fold_unlock(struct ph_store *store);

/* ph_store_fold for the holder of the lock, of what is durable already. */
PH_MUST_CHECK ph_status ph_fold_locked(struct ph_store *store);

/* ph_store_checkpoint for the holder of the lock, of what is durable already. */
PH_MUST_CHECK ph_status ph_checkpoint_locked(struct ph_store *store, uint64_t timeout_ns);

/* Under the lock: make the sums durable, apart from a checkpoint; if that fails it is as if one had failed. */
PH_MUST_CHECK ph_status ph_checkpoint_sums(struct ph_store *store);

/*
 * Bring records [from, to) into the heap file; *reached is the boundary after the last.  segment, offset: of a batch that
 * begins at or before `from`.  part, parts, check_sums: as for the fold set.
 */
PH_MUST_CHECK ph_status ph_fold_stretch(struct ph_store *store, const struct ph_boundary *from, uint64_t segment,
                                        uint64_t offset, uint64_t to, uint32_t part, uint32_t parts, bool check_sums,
                                        struct ph_boundary *reached);

#define PH_FOLD_PARTS_MAX 65536u /* as many as the pages' hashes tell apart */

/*
 * Gathers operations and writes them to the heap file page by page, in offset order.  parts 0: when memory_max bytes of
 * page images are reached, what was gathered is written and gathering goes on.  parts > 0: only pages of the given part
 * are gathered, and reaching memory_max is TOO_BIG, so that each page is written once, in its last state.
 */
PH_MUST_CHECK ph_status ph_fold_set_init(struct ph_fold_set **set, struct ph_file *heap, uint64_t memory_max,
                                         uint32_t part, uint32_t parts);
void ph_fold_set_deinit(struct ph_fold_set *set); /* NULL is fine */
/* Take one operation (a ph_replay_apply). */
ph_status ph_fold_set_apply(void *set, const struct ph_operation *operation);
/* Let it keep the sums of the pages that it writes, in the open file `sums`, under the lock that this takes.  check: the
 * sums that are there are those of the heap file now, and a page that does not have its own is not given a new one unless
 * all of it is overwritten. */
void ph_fold_set_keep_sums(struct ph_fold_set *set, struct ph_file *sums, bool check);
/* Write what is gathered. */
PH_MUST_CHECK ph_status ph_fold_set_write(struct ph_fold_set *set);
/* Bytes of images in it. */
uint64_t ph_fold_set_bytes(const struct ph_fold_set *set);
/* How many pages there are words for, not counting zeros and those behind the file's end, and how many of these pages the
 * file shows with at least one in `part` of the words.  IO. */
PH_MUST_CHECK ph_status ph_fold_set_compare(struct ph_fold_set *set, uint64_t part, uint64_t *shown, uint64_t *pages);
/* From now on as with parts 0; the set was begun with one part. */
void ph_fold_set_unbound(struct ph_fold_set *set);

static inline bool ph_page_is_zero(const uint8_t *page)
{
    return page[0] == 0 && memcmp(page, page + 1, PH_PAGE_BYTES - 1) == 0;
}

#endif
