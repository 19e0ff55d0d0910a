/* SPDX-License-Identifier: MIT */
/*
 * The coordination file NAME-shm: what the processes that share a heap tell each other (DESIGN: marks, locks, seats,
 * log buffer).  Mapped shared; in memory only in spirit: nothing in it is relied on after a reboot or when nobody is
 * attached, except that records in its buffer which chain validly from the end of the log may be replayed.
 *
 * Marks, all LSNs:   folded <= durable,   folded <= committed,   durable <= max(committed, appended)
 *
 *   appended   end of the fragments published so far of a transaction that is still being appended; only then it is
 *              beyond committed
 *   committed  end of the last commit
 *   reserved   end of what the writer may be storing into the buffer now; the buffer holds [reserved - size, ...)
 *   durable    the log file has everything before this on stable storage
 *   folded     the heap file has everything before this (in the page cache at least)
 *   fold_intent  >= folded; a fold may be under way up to here
 *   vouched    something on stable storage says that the log was durable up to here: the header of the last batch, or
 *              (checkpoint.vouched) the superblock; folded <= the larger of the two
 *
 * A mark that is more than one number is a pair of slots and an LSN: the slot whose lsn equals the published LSN is
 * the valid one, so that death between two stores leaves the old or the new state (R6).
 *
 * Lock order: writer lock, fold lock, flush lock; with those of the process between them: docs/design.md.
 */
#ifndef WAL_COORD_H
#define WAL_COORD_H

#include "io/disk.h"
#include "io/io.h"
#include "io/mutex.h"
#include "io/status.h"

#include <stdatomic.h>

#define PH_COORD_MAGIC UINT64_C(0x31434d4850414548)
#define PH_COORD_ABI 5u
#define PH_SEATS 254u
#define PH_PINS 4u          /* read views that a process may have */
#define PH_PIN_EVICTABLE 1u /* added to a pin's LSN, which is a multiple of 8: a writer in need may take it away */

struct ph_commit_mark {
    uint64_t lsn;
    uint64_t chain;
    uint64_t version;
    uint64_t heap_bytes;
    uint64_t reserve; /* sum of ph_record_reserve of all records so far */
    uint64_t unused[3];
};

struct ph_flush_mark {
    uint64_t lsn;
    uint64_t segment; /* where the next batch goes: sequence number and */
    uint64_t offset;  /* place in the segment */
    uint64_t reserve; /* as in the commit mark, of the records flushed */
    uint64_t chain;
    uint64_t unused[3];
};

struct ph_fold_mark {
    uint64_t lsn;
    uint64_t chain;
    uint64_t version;
    uint64_t segment; /* a batch that begins at or before lsn */
    uint64_t offset;
    uint64_t heap_bytes;
    uint64_t unused[2];
};

struct ph_checkpoint_mark { /* changed under the fold lock; each field can be read at any time */
    _Atomic uint64_t lsn;
    _Atomic uint64_t chain;
    _Atomic uint64_t segment;
    _Atomic uint64_t generation; /* of the newest superblock */
    _Atomic uint64_t epoch;
    _Atomic uint64_t vouched; /* durable_lsn of the newest superblock */
};

/* A version that a read view needs: nothing may be folded beyond it. */
struct ph_pin {
    _Atomic uint64_t lsn;      /* the version's, and PH_PIN_EVICTABLE; 0: none */
    _Atomic uint64_t version;  /* as is; until a new reader has begun that of the last one */
    _Atomic uint64_t since_ns; /* realtime */
    uint64_t unused;
};

/* One attached process.  Owned by whoever holds the OFD lock on its byte of the coordination file. */
struct ph_seat {
    _Atomic int64_t process; /* for people */
    _Atomic uint64_t attached_ns;
    _Atomic uint64_t hold; /* 1 + sequence number of the oldest segment of the log that a backup still needs; 0: none */
    _Atomic uint64_t hold_since_ns; /* realtime */
    uint64_t unused[4];
    struct ph_pin pins[PH_PINS];
};

struct ph_coord {
    /* Validity; written while nobody else is attached, `ready` last. */
    uint64_t magic;
    uint32_t abi;
    _Atomic uint32_t ready;
    uint64_t size_bytes; /* of the whole file */
    uint8_t boot_id[16];
    uint64_t pid_namespace;
    uint64_t heap_device;
    uint64_t heap_inode;
    uint8_t identity[16];
    uint64_t buffer_bytes;
    uint64_t own_device; /* of this file itself */
    uint64_t own_inode;
    uint64_t sums_device; /* of the sums file, if the heap has one */
    uint64_t sums_inode;
    uint64_t unused[1];

    /* Writer. */
    _Alignas(64) struct ph_mutex writer_lock;
    _Alignas(64) _Atomic uint64_t reserved;
    _Atomic uint64_t appended;
    _Atomic uint64_t committed;
    _Atomic uint32_t writer_seat;    /* seat + 1 of the holder, 0: none; for people */
    _Atomic uint32_t commit_word;    /* futex: changes with a commit that somebody waits for */
    _Atomic uint32_t commit_awaited; /* 1: somebody waits for a commit; whoever commits clears it and wakes */
    _Atomic uint32_t unused_writer;
    _Atomic uint64_t reserve; /* that of the commit mark, for those who only want to know whether space is short */
    struct ph_commit_mark commit_marks[2];
    struct ph_commit_mark fragment_marks[2];

    /* Flush. */
    _Alignas(64) struct ph_mutex flush_lock;
    _Alignas(64) _Atomic uint64_t durable;
    _Atomic uint64_t vouched;    /* where the last batch begins */
    _Atomic uint32_t flush_word; /* futex: changes with every flush */
    _Atomic uint32_t flush_waiters;
    _Atomic uint32_t flush_crowd; /* how many committed or waited around the last flush */
    _Atomic uint32_t unused_flush;
    _Atomic uint64_t lazy_since_ns; /* coarse monotonic: what is not durable is no older; 0: none was noted */
    _Atomic uint64_t reserve_limit; /* commit marks' reserve may not pass this: the log's free space */
    struct ph_flush_mark flush_marks[2];

    /* Fold and checkpoint. */
    _Alignas(64) struct ph_mutex fold_lock;
    _Alignas(64) _Atomic uint64_t fold_intent;
    _Atomic uint64_t folded;
    struct ph_fold_mark fold_marks[2];
    _Atomic uint32_t fold_unfinished; /* a fold has begun to write, and may have written up to fold_intent */
    _Alignas(64) struct ph_checkpoint_mark checkpoint; /* under the fold lock */
    _Atomic uint32_t sync_in_progress;                 /* a sync of the heap file has begun and not been judged */
    _Atomic uint32_t poisoned;
    _Atomic uint32_t epoch_open; /* 1: the superblock says OPEN and the log is in use */
    _Atomic uint32_t slot_count; /* segments in the log file */

    _Alignas(64) struct ph_seat seats[PH_SEATS];
    _Alignas(64) _Atomic uint64_t
        marks[PH_SEATS]; /* pheap_set_mark() of the process in each seat; the core only shows them */
    _Atomic uint64_t slot_sequence[PH_SEGMENTS_MAX]; /* sequence number of the segment in a slot, 0: free */
};

#define PH_COORD_BUFFER_AT (((uint64_t)sizeof(struct ph_coord) + 4095) & ~UINT64_C(4095))

static inline uint64_t ph_coord_bytes(uint32_t buffer_bytes)
{
    return PH_COORD_BUFFER_AT + buffer_bytes;
}

static inline uint8_t *ph_coord_buffer(struct ph_coord *coord)
{
    return (uint8_t *)coord + PH_COORD_BUFFER_AT;
}

/* End of the stream of published records, fragments included. */
static inline uint64_t ph_coord_stream_end(struct ph_coord *coord)
{
    uint64_t appended = atomic_load_explicit(&coord->appended, memory_order_acquire);
    uint64_t committed = atomic_load_explicit(&coord->committed, memory_order_acquire);
    return appended > committed ? appended : committed;
}

/*
 * Marks are stored and loaded word by word with release and acquire order.  Publishing writes the slot that is not
 * valid, then the LSN; the caller holds the writer, flush or fold lock respectively.  Reading needs no lock; false
 * means that no slot fits, which only damage can bring about.
 */
void ph_coord_publish_commit(struct ph_coord *coord, const struct ph_commit_mark *mark);
void ph_coord_publish_fragment(struct ph_coord *coord, const struct ph_commit_mark *mark);
void ph_coord_publish_flush(struct ph_coord *coord, const struct ph_flush_mark *mark);
void ph_coord_publish_fold(struct ph_coord *coord, const struct ph_fold_mark *mark);
bool ph_coord_read_commit(struct ph_coord *coord, struct ph_commit_mark *mark);
bool ph_coord_read_fragment(struct ph_coord *coord, struct ph_commit_mark *mark);
bool ph_coord_read_flush(struct ph_coord *coord, struct ph_flush_mark *mark);
bool ph_coord_read_fold(struct ph_coord *coord, struct ph_fold_mark *mark);

/* Where the log of a new epoch begins: the position of the flush and fold marks.  Nobody uses the log yet. */
void ph_coord_set_position(struct ph_coord *coord, uint64_t segment);

/* CORRUPT, for who read a mark that nobody can have published; the text names `path`. */
ph_status ph_coord_damaged(const char *path);

/* Whether the heap has been poisoned; the status text names `path`. */
PH_MUST_CHECK ph_status ph_coord_check_poison(struct ph_coord *coord, const char *path);

/* The slot that holds segment `sequence`, or -1. */
int64_t ph_coord_find_slot(struct ph_coord *coord, uint64_t sequence);

#endif
