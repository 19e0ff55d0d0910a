/* SPDX-License-Identifier: MIT */
/*
 * A simulated machine behind the seam: files, power cuts, faults, clock and chance, all from a seed.
 *
 * The content of a file is in a memfd, so that private and shared mappings behave as the kernel makes them behave.
 * Beside it a journal keeps every event that matters to what a disk holds; from it a `ph_sim_cut` produces each state
 * that the disk may be in after a power cut (tests/support/simfs_cut.c says which those are).
 *
 * A file that is mapped shared is the coordination file: its content is not journaled, since after a power cut it may
 * be anything that it ever was.
 *
 * Threads: the operations of the table may be called by any thread.  The functions below that change the machine are
 * for one thread at a time.  Failures of the simulator itself (no memory, no memfd) abort the test.
 */
#ifndef TESTS_SUPPORT_SIMFS_H
#define TESTS_SUPPORT_SIMFS_H

#include "io/io.h"

#include <setjmp.h>

#define PH_SIM_SECTOR_BYTES 512u
#define PH_SIM_PLAIN_BYTES (UINT64_C(16) << 20)

struct ph_sim;

/* A disk that says it has synced and has not: planted to see whether a test notices. */
enum ph_sim_lie { PH_SIM_HONEST, PH_SIM_LIE_SYNC, PH_SIM_LIE_DSYNC, PH_SIM_LIE_DIRECTORY };

struct ph_sim_options {
    uint64_t seed;
    enum ph_sim_lie lie;
    const char *lie_suffix; /* of the paths for which it lies; NULL: all */
    bool refuse_direct;     /* opening with PH_OPEN_DIRECT fails as on Linux: -EINVAL, but a created file stays */
    bool keep_dirty;        /* a failed sync leaves the data dirty; else, like ext4: in the cache, but called clean */
    bool revert;            /* a failed sync, like that of btrfs, also brings the durable content back into the cache */
    bool shut_down;         /* after a failed sync, like XFS when its log fails, nothing can be written any more */
    bool touched;           /* the `touched` operation works; else -ENOSYS */
    bool watch;             /* `watch` and `stored` work, where the system's do; else -ENOSYS */
    bool no_journal;        /* for machines that will not lose power: saves memory */
    bool plain; /* contents are in plain memory, which every map shows as it is: many times faster, for images on which
                   one process recovers, reads and closes; no file beyond PH_SIM_PLAIN_BYTES */
    bool refuse_allocate;  /* -EOPNOTSUPP */
    bool refuse_unnamed;   /* likewise, for files without a name */
    uint64_t memory_limit; /* 0: 1 GiB */
    uint64_t filesystem;   /* magic number; 0: ext4 */
};

/* NULL options: all zero. */
struct ph_sim *ph_sim_new(const struct ph_sim_options *options);
void ph_sim_free(struct ph_sim *sim);
/* The table of the present process. */
const ph_io *ph_sim_io(struct ph_sim *sim);
/* Another process on the same machine: the table of a second one, made when first asked for; it dies with the first. */
const ph_io *ph_sim_neighbour(struct ph_sim *sim);
/*
 * The process dies as by SIGKILL, and another starts, with a table of its own: open files, their locks and all maps are
 * gone, the machine runs on.  What the dead one had allocated is never given back.
 */
void ph_sim_kill(struct ph_sim *sim);

/* Faults. */

enum ph_sim_op {
    PH_SIM_OPEN = 1 << 0,
    PH_SIM_READ = 1 << 1,
    PH_SIM_WRITE = 1 << 2,
    PH_SIM_SYNC = 1 << 3,
    PH_SIM_TRUNCATE = 1 << 4,
    PH_SIM_ALLOCATE = 1 << 5,
    PH_SIM_STAT = 1 << 6,
    PH_SIM_UNLINK = 1 << 7,
    PH_SIM_RENAME = 1 << 8, /* also link */
    PH_SIM_SYNC_DIRECTORY = 1 << 9,
    PH_SIM_LOCK = 1 << 10,
    PH_SIM_MAP = 1 << 11,
    PH_SIM_DROP = 1 << 12,
    PH_SIM_PROTECT = 1 << 13,
    PH_SIM_MEMORY = 1 << 14, /* alloc and resize */
    PH_SIM_RANDOM = 1 << 15,
    PH_SIM_WRITEBACK = 1 << 16,
    PH_SIM_GROW = 1 << 17, /* also set for a write, truncate or allocate that makes a file longer */
    PH_SIM_ANY = (1 << 17) - 1
};
#define PH_SIM_OP_KINDS 18

enum ph_sim_fault_mode {
    PH_SIM_ONCE,
    PH_SIM_FOREVER, /* from that call on */
    PH_SIM_SHORT,   /* once, a read or write transfers only a part; `error` does not count */
    PH_SIM_DIE      /* the process dies there: see ph_sim_set_mortal */
};

/* Let the `nth` (1, 2, ...) call from now on of a kind in `ops` fail with `error` (positive errno).  One at a time. */
void ph_sim_fail_at(struct ph_sim *sim, unsigned ops, uint64_t nth, int error, enum ph_sim_fault_mode mode);
void ph_sim_fail_clear(struct ph_sim *sim);
/*
 * PH_SIM_DIE jumps to `grave` (with siglongjmp) instead of making the call; ph_sim_kill() then does the rest.  NULL: the
 * process is in something that must not be left so, such as a section under a lock of this very process, and dies at the
 * first call after it.
 */
void ph_sim_set_mortal(struct ph_sim *sim, sigjmp_buf *grave);
/* While paused nothing fails and nothing counts down: for a test that looks at what it has done. */
void ph_sim_fail_pause(struct ph_sim *sim, bool paused);
/* How often the present fault has struck, and at what: "write heap-wal 512@4096". */
uint64_t ph_sim_struck(const struct ph_sim *sim);
const char *ph_sim_struck_at(const struct ph_sim *sim);
/* The length that the journal had then. */
uint64_t ph_sim_struck_position(const struct ph_sim *sim);
/* Calls so far of any kind in `ops`; a call is counted once for each kind that it is. */
uint64_t ph_sim_calls(const struct ph_sim *sim, unsigned ops);
/* A file system that had shut itself down is mounted again, without what it had not synced.  Nobody has files open. */
void ph_sim_remount(struct ph_sim *sim);
/* From now on every operation fails with -EIO and changes nothing: what is left is to close and free. */
void ph_sim_power_off(struct ph_sim *sim);

/* What has been taken and not given back. */
int64_t ph_sim_live_allocations(const struct ph_sim *sim);
int64_t ph_sim_live_maps(const struct ph_sim *sim);
int64_t ph_sim_live_handles(const struct ph_sim *sim);

/* The environment. */
/* Without the step that asking through the table makes. */
uint64_t ph_sim_clock(const struct ph_sim *sim);
void ph_sim_set_clock(struct ph_sim *sim, uint64_t now_ns);
void ph_sim_set_boot(struct ph_sim *sim, uint64_t number);
void ph_sim_set_namespace(struct ph_sim *sim, uint64_t id);

/*
 * Files, past the seam: not counted, not journaled, no faults.  Used between runs.  -ENOENT, or the bytes moved.
 * Poking creates a missing file. */
int64_t ph_sim_size(struct ph_sim *sim, const char *path);
int64_t ph_sim_peek(struct ph_sim *sim, const char *path, void *buffer, size_t length, uint64_t offset);
int64_t ph_sim_poke(struct ph_sim *sim, const char *path, const void *buffer, size_t length, uint64_t offset);
int ph_sim_set_size(struct ph_sim *sim, const char *path, uint64_t size);
int ph_sim_remove(struct ph_sim *sim, const char *path);

/* The journal. */

/* Begin it anew: what the files hold now counts as durable. */
void ph_sim_journal_restart(struct ph_sim *sim);
/* A number that everything which the journal holds, in its order, goes into. */
uint64_t ph_sim_journal_hash(const struct ph_sim *sim);
/* Leave a mark that a cut passes on, such as "transaction 7 is acknowledged". */
void ph_sim_note(struct ph_sim *sim, uint32_t kind, uint64_t value);
uint64_t ph_sim_journal_length(const struct ph_sim *sim);

/* Power cuts. */

/*
 * A walk over the journal of a machine, which must not run meanwhile.  At each position: the disk after that many
 * events, of which those not synced may have happened or not.  The last of them is the one in flight.
 */
struct ph_sim_cut;
struct ph_sim_cut *ph_sim_cut_new(struct ph_sim *source);
void ph_sim_cut_free(struct ph_sim_cut *cut);
/* Go on by one event; false at the end.  A new cut stands before the first. */
bool ph_sim_cut_next(struct ph_sim_cut *cut);
uint64_t ph_sim_cut_position(const struct ph_sim_cut *cut);
/* What comes next is an operation on the disk, or nothing: the notes that belong here have been passed. */
bool ph_sim_cut_before_io(const struct ph_sim_cut *cut);
/* The value of the last note of that kind so far; 0 if none. */
uint64_t ph_sim_cut_note(const struct ph_sim_cut *cut, uint32_t kind);

/*
 * A choice is one number for each thing that is open: which of its versions a sector has (0: the durable one), which
 * of its sizes a file has, whether a name event has happened.
 */
struct ph_sim_choice {
    uint32_t count, capacity;
    uint16_t *digits;
};
void ph_sim_choice_deinit(struct ph_sim_choice *choice);

uint32_t ph_sim_cut_digits(struct ph_sim_cut *cut);
/* The number of different choices at this position; UINT64_MAX if it is larger. */
uint64_t ph_sim_cut_states(struct ph_sim_cut *cut);
/* Choice number `index` of ph_sim_cut_states(). */
void ph_sim_cut_choose(struct ph_sim_cut *cut, uint64_t index, struct ph_sim_choice *choice);
/* The `index`th of any number of samples: nothing, everything, then from the seed by turns: all but one, one only, the
 * older part, the newer part, sparse, dense, even. */
void ph_sim_cut_sample(struct ph_sim_cut *cut, uint64_t index, uint64_t seed, struct ph_sim_choice *choice);
/*
 * Make `image`, a machine whose files nobody has open, the machine after the power is back: its disk as chosen, a boot
 * id of its own, the coordination file gone or (by seed) with pages of what it held.  Its journal is off until
 * ph_sim_journal_restart().  Fast if one image is used for many states of one cut.
 */
void ph_sim_cut_image(struct ph_sim_cut *cut, const struct ph_sim_choice *choice, uint64_t seed, struct ph_sim *image);
/* What the choice means, for people, into `text`. */
void ph_sim_cut_describe(struct ph_sim_cut *cut, const struct ph_sim_choice *choice, char *text, size_t size);

#endif
