/* SPDX-License-Identifier: MIT */
/*
 * The core of an open heap: what all handles of one process share, and the functions that the files of pheap/ give one
 * another.
 *
 * A core belongs to one (io, device, inode) of the heap file; a registry finds it again, so that two opens in one
 * process share it.  Its coordination file is mapped once and the mapping kept after the last close, for the next
 * open (a robust lock's memory must not be unmapped while the process lives: glibc bug 14485).
 *
 * State of the process with the heap:  opening (exclusive or shared lock on the heap inode) -> attached (shared lock, a
 * seat) -> closing (if exclusive: clean end of the epoch) -> gone.
 */
#ifndef PHEAP_CORE_H
#define PHEAP_CORE_H

#include "pheap/edits.h"
#include "pheap/guard.h"
#include "pheap/pheap.h"
#include "pheap/readview.h"
#include "pheap/track.h"
#include "pheap/view.h"
#include "recovery/store.h"
#include "wal/record.h"

#include <stdatomic.h>

#define PH_PATH_BYTES 4096 /* of a resolved path with what is added to it */

struct pheap_txn {
    struct ph_core *core;
    uint64_t serial; /* equals the core's txn_serial while open */
};

#define PH_TXN_HANDLES 64 /* used in turn, so that a handle used after its end is recognised for a while */

struct ph_core {
    const ph_io *io;
    char *path;     /* of the heap file, symbolic links resolved; owned */
    unsigned users; /* handles; under the registry lock */
    struct ph_core *next;
    bool read_only;
    bool verify;
    bool protect;
    uint64_t pin_wait_ns; /* how long a writer in need waits for a reader's pin; UINT64_MAX: for ever */
    _Atomic bool forked;  /* this is a child's copy: nothing may be done with it */
    unsigned open_flags;  /* as it was opened with, and */
    struct pheap_options options;
    _Atomic uint64_t place_checked_ns; /* coarse clock when the files were last found at their paths */
    struct ph_store store;
    struct ph_coord *coord;
    bool private_coord; /* coord is this process's own memory: see attach.c */

    /* The write transaction; under the writer lock. */
    struct ph_view write_view;
    struct ph_view shadow_view; /* the write view before the transaction: see shadow.c */
    _Atomic bool shadow_mapped;
    struct ph_commit_mark begin_mark; /* the commit it began on */
    struct ph_edits edits;
    struct ph_track track;
    struct ph_guards guards;
    struct ph_record_builder builder;
    struct pheap_txn txns[PH_TXN_HANDLES];
    _Atomic uint64_t txn_serial; /* of the open transaction, 0: none */
    uint64_t txn_count;
    _Atomic bool writing;        /* a thread of this process has the writer lock, or died with it */
    _Atomic uint64_t txn_thread; /* who began it */
    struct pheap *txn_handle;    /* through which */

    /* Readers; under reader_lock. */
    struct ph_local_lock reader_lock;
    bool reader_lock_ready;
    struct ph_read_view read_views[PH_PINS];
    uint32_t read_view_count;
    struct pheap_read *open_readers;
    struct pheap_read *free_readers;

    struct pheap *marked; /* handles with a mark: mark.c */

    _Atomic unsigned watches; /* threads that wait for commits */
};

/* A core that a handle had before a fork. */
struct ph_past_core {
    struct ph_core *core;
    struct ph_past_core *next;
};

struct pheap {
    struct ph_core *_Atomic core;
    struct ph_past_core *past; /* owned; transactions of the parent still point there */
    uint64_t mark;             /* 0: none; this and the next under the reader lock of the core it was set on */
    struct pheap *next_marked;
    bool read_only; /* the core may be that of other handles, which write */
};

/* The handle's core.  In a child after fork() the handle first gets one of its own.  INVALID for NULL; errors of open. */
PH_MUST_CHECK ph_status ph_core_use(pheap *heap, struct ph_core **core);

/* pheap_open over any seam. */
PH_MUST_CHECK ph_status ph_open_io(const ph_io *io, const char *path, unsigned flags,
                                   const struct pheap_options *options, pheap **heap);

/* In a forked child: the mappings stayed with the parent. */
void ph_core_lose_mappings(const ph_io *io);

/* For tests: unmap what closed cores left mapped. */
void ph_core_forget_mappings(const ph_io *io);

/* The registry's lock, which fork() waits for: around what a child must not get half of. */
void ph_core_lock_registry(void);
void ph_core_unlock_registry(void);

/* A number that differs between the threads of a process, never 0, never used again. */
uint64_t ph_thread_id(void);

/* ------------------------------------------------------------------------------------------- within an attachment */

/* attach.c: take a seat in the coordination file, making or recovering it first if nobody is attached. */
PH_MUST_CHECK ph_status ph_attach(struct ph_core *core);
/* Give up the seat; the last one to leave closes the epoch.  Flushes.  Whatever is returned, it has happened. */
PH_MUST_CHECK ph_status ph_detach(struct ph_core *core);

/* Lock an open heap file, which this process has not attached, against everybody who would.  Closing it unlocks.  BUSY. */
PH_MUST_CHECK ph_status ph_attach_lock_alone(struct ph_file *heap);
/* The same for somebody who only reads the heap file, and may have opened it for that only.  BUSY. */
PH_MUST_CHECK ph_status ph_attach_keep_out(struct ph_file *heap);
/* A copy of what the last users of that heap left in the coordination file, NULL if there is none or it is not theirs;
 * io->free it.  NO_MEMORY, as ph_file_open and ph_file_read. */
PH_MUST_CHECK ph_status ph_attach_copy_coord(const ph_io *io, const char *heap_path,
                                             const struct ph_superblock *superblock, struct ph_coord **coord);

/* backup.c: pheap_restore over any seam. */
PH_MUST_CHECK ph_status ph_restore_io(const ph_io *io, const char *archive, const char *path,
                                      const struct pheap_restore_options *options, struct pheap_transfer *result);

/* salvage.c: pheap_salvage over any seam. */
PH_MUST_CHECK ph_status ph_salvage_io(const ph_io *io, const char *path, const char *new_path,
                                      const struct pheap_salvage_options *options, struct pheap_salvage_result *result);

/* create.c: make a new heap file; EXISTS if there is one. */
PH_MUST_CHECK ph_status ph_create(const ph_io *io, const char *path, const struct pheap_options *options);
/* The first superblock of a heap with these options, with an identity but no copy and checksum.  INVALID, IO. */
PH_MUST_CHECK ph_status ph_create_superblock(const ph_io *io, const char *path, const struct pheap_options *options,
                                             struct ph_superblock *superblock);
/* LOG_FOREIGN if there is a log that a heap new at this path would find beside it; EXISTS if there is a heap after all. */
PH_MUST_CHECK ph_status ph_create_check_log(const ph_io *io, const char *path);

/* upkeep.c: what calls do on the way. */
/* See that heap and log are still where they were, if that was not seen to in the last clock tick (a few milliseconds).
 * REPLACED. */
PH_MUST_CHECK ph_status ph_upkeep_check_place(struct ph_core *core);
/* There is a commit that is not durable: it ages from now on, unless an older one does. */
void ph_upkeep_note_lazy(struct ph_core *core);
/* Flush LAZY commits older than a second; if somebody else is at it, wait for at most timeout_ns. */
PH_MUST_CHECK ph_status ph_upkeep_flush_old(struct ph_core *core, uint64_t timeout_ns);
/* Before the writer lock: see that buffer and log have room for an ordinary transaction.  TIMEOUT if somebody else has
 * been at it for that long. */
PH_MUST_CHECK ph_status ph_upkeep_make_room(struct ph_core *core, uint64_t timeout_ns);
/* Under the writer lock: whether the log has room for the largest record, which make_room saw to. */
bool ph_upkeep_room_for_one(struct ph_core *core);
/* After a commit: flush when the buffer is half full, checkpoint when the log is. */
PH_MUST_CHECK ph_status ph_upkeep_after_commit(struct ph_core *core);
/* Whether a transaction whose records reserve `reserve` bytes of log may be published. */
bool ph_upkeep_log_has_room(struct ph_core *core, uint64_t reserve_so_far, uint64_t reserve);
/* Under the writer lock: gain log for a transaction that is larger than what begin saw to.  LOG_FULL, TOO_BIG. */
PH_MUST_CHECK ph_status ph_upkeep_make_log_room(struct ph_core *core, uint64_t reserve_so_far, uint64_t reserve);
/*
 * The private pages of the write view are over the budget and cannot be dropped because a pin keeps fold back: evict, or
 * wait for the pin to go, then fold.  BUDGET, naming the pin.
 */
PH_MUST_CHECK ph_status ph_upkeep_make_budget_room(struct ph_core *core, uint64_t timeout_ns);
/* Log bytes from the checkpoint on. */
uint64_t ph_upkeep_log_used(struct ph_core *core);

/* notify.c: after a commit was published and the writer lock released, wake those who wait for it. */
void ph_notify_commit(struct ph_core *core);

/* mark.c: the handle has no mark any more on this core, which is not a forked one. */
void ph_mark_drop(struct ph_core *core, pheap *heap);
/* The lowest that the handles of a process have; 0: none. */
uint64_t ph_mark_of(const struct ph_core *core, uint32_t seat);

/* shadow.c: map the shadow view if it is not; with less than reserve_bytes if need be, but not than least_bytes. */
PH_MUST_CHECK ph_status ph_shadow_map(struct ph_core *core, uint64_t reserve_bytes, uint64_t least_bytes);
/* Apply the records of the transaction to it.  They are finished.  RESERVE: it has less address space than they need. */
PH_MUST_CHECK ph_status ph_shadow_apply(struct ph_core *core);

/* verify.c: compare the write view with the shadow view, outside a transaction.  STRAY_STORE. */
PH_MUST_CHECK ph_status ph_verify(struct ph_core *core, const char *when);

#endif
