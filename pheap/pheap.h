/* SPDX-License-Identifier: MIT */
/*
 * pheap: malloc for a file, with transactions.
 *
 * A heap is an ordinary file.  A program opens it, allocates blocks of any size in it, links them by offset,
 * changes them through native pointers, and commits.  A commit is atomic, survives the death of the process and a
 * power cut, and is seen by every other process that has the heap open.
 *
 *     pheap *heap;
 *     pheap_txn *txn;
 *     uint64_t note;
 *     pheap_open("notes.heap", PHEAP_CREATE, NULL, &heap);
 *     pheap_begin(heap, &txn);
 *     pheap_alloc(txn, 6, &note);
 *     memcpy(pheap_ptr(txn, note), "hello", 6);
 *     pheap_set_root(txn, note);
 *     pheap_commit(txn, PHEAP_DURABLE, NULL);
 *     pheap_close(heap);
 *
 * THE RULES THAT A USER MUST KNOW
 *
 * Offsets, not addresses.  Blocks are named by their byte offset in the file (uint64_t, never 0).  Offsets stay
 * valid for as long as the block lives, in every process; the address of a block differs from process to process,
 * so only offsets may be stored in the heap.  Within one open heap the address of a block never changes.
 *
 * Declare, then store.  Inside a transaction a program may store through native pointers, but only into ranges it
 * has declared with pheap_edit() (or through pheap_write() and pheap_fill(), which declare for it), or that
 * pheap_track(), pheap_track_all() or pheap_guard() watches for it.  A block that
 * was allocated in the same transaction needs no declaration until a savepoint is taken after its allocation.
 * Storing into anything else is an error that the library cannot see at once: the change is not logged, other
 * processes never see it, and it vanishes.  PHEAP_VERIFY finds such stores.
 *
 * One writer at a time.  pheap_begin() waits for the writer of any thread of any process.  A transaction belongs to
 * the thread that began it.  Readers neither wait for writers nor make them wait; only when log or memory are at their
 * limits because of what a reader holds does a writer wait, for as long as options.pin_wait_ms says, or evict it.
 *
 * Durability.  PHEAP_DURABLE (the default, 0): when pheap_commit() returns PHEAP_OK the change is on stable storage.
 * PHEAP_LAZY: the change survives the death of every process at once, but a power cut or a crash of the operating
 * system may take the last moments (1 s while any process keeps calling the library); what is left is always a
 * prefix of the commit order.
 *
 * Errors.  Every function that can fail returns enum pheap_status and must be checked; outputs are untouched on
 * failure.  pheap_error_detail() then says, for the calling thread, which file and place were concerned and what
 * helps.
 *
 * Threads.  A `pheap` may be used by any number of threads at once.  A `pheap_txn` and a `pheap_read` must be used
 * by the thread that began them.  The library has no threads of its own but those of pheap_watch_begin().
 *
 * Fork.  A handle works in a forked child too: its first use there opens the heap again by itself, as a process of its
 * own.  Transactions, readers, watches and addresses stay with the parent: in the child, functions of a transaction,
 * pheap_read_end() and pheap_read_valid() give FORKED, other functions of a reader must not be called, and addresses
 * lead nowhere.  If the heap cannot be opened again the call fails with what pheap_open() says.  The child closes
 * its handles as any process does.  Descriptors do not pass through exec.
 *
 * The programming model follows libpmemobj (declare a range, undo on abort) and LMDB (one writer, snapshot readers);
 * the log follows ARIES redo and SQLite's WAL.
 */
#ifndef PHEAP_H
#define PHEAP_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#if defined(__GNUC__)
#define PHEAP_MUST_CHECK __attribute__((warn_unused_result))
#define PHEAP_API __attribute__((visibility("default")))
#define PHEAP_FORMAT(text, first) __attribute__((format(printf, text, first)))
#else
#define PHEAP_MUST_CHECK
#define PHEAP_API
#define PHEAP_FORMAT(text, first)
#endif

/* Version of this header; pheap_version_string() is that of the library loaded. */
#define PHEAP_VERSION_MAJOR 0
#define PHEAP_VERSION_MINOR 1
#define PHEAP_VERSION_PATCH 0

/* ------------------------------------------------------------------------------------------------ status codes */

enum pheap_status {
    PHEAP_OK = 0,
    PHEAP_INVALID = 1,       /* an argument is out of its range; nothing was done */
    PHEAP_NOT_FOUND = 2,     /* no such file */
    PHEAP_EXISTS = 3,        /* the file to create exists */
    PHEAP_NOT_HEAP = 4,      /* not a heap: empty, a directory, or another kind of file */
    PHEAP_CORRUPT = 5,       /* damage that cannot come from a crash; the detail says what and where */
    PHEAP_NEWER = 6,         /* written by a newer version, or uses a feature this one lacks */
    PHEAP_BYTE_ORDER = 7,    /* written with, or opened on, another byte order */
    PHEAP_LOG_MISSING = 8,   /* recovery needs the log and it is not there */
    PHEAP_LOG_FOREIGN = 9,   /* the log belongs to another heap, or to another generation of this one */
    PHEAP_READ_ONLY = 10,    /* the file or directory is read-only, or the handle was opened PHEAP_READONLY */
    PHEAP_PERMISSION = 11,   /* the operating system refused access */
    PHEAP_IO = 12,           /* the operating system reported an input/output error */
    PHEAP_NO_SPACE = 13,     /* no space on the device, or a quota or file size limit */
    PHEAP_NO_MEMORY = 14,    /* the process is out of memory or address space */
    PHEAP_RESERVE = 15,      /* the heap outgrew the address space reserved for it; reopen with a larger reserve */
    PHEAP_LOG_FULL = 16,     /* the log is at its limit and cannot be recycled; the detail names what holds it */
    PHEAP_TOO_BIG = 17,      /* one transaction exceeds the private-page budget or the log */
    PHEAP_BUSY = 18,         /* open transactions, or another process is in the way */
    PHEAP_TIMEOUT = 19,      /* the time given ran out */
    PHEAP_POISONED = 20,     /* a sync failed; the heap must be closed by all and reopened */
    PHEAP_ENDED = 21,        /* the transaction has already ended */
    PHEAP_WRONG_THREAD = 22, /* the transaction belongs to another thread */
    PHEAP_FORKED = 23,       /* the transaction or reader was begun by the parent process, before fork() */
    PHEAP_BAD_OFFSET = 24,   /* the offset is outside the heap, in metadata, or not the start of a live block */
    PHEAP_DOUBLE_FREE = 25,  /* the block is already free */
    PHEAP_STRAY_STORE = 26,  /* a store that no declaration covers (PHEAP_VERIFY), outside any block
                                (pheap_track_all), or between transactions (pheap_guard) */
    PHEAP_NAMESPACE = 27,    /* the processes that share the heap are in different PID namespaces */
    PHEAP_UNSUPPORTED = 28,  /* the file system or platform lacks something that safety needs */
    PHEAP_END = 29,          /* an enumeration has reached its end; not an error */
    PHEAP_REPLACED = 30,     /* heap or log were removed, renamed or replaced while a process uses them */
    PHEAP_FULL = 31,         /* the heap file cannot grow: file size limit of the file system or format reached */
    PHEAP_EVICTED = 32,      /* a writer took the version of an evictable reader away: what it read may be torn */
    PHEAP_BUDGET = 33,       /* changed pages are at the memory budget and a reader keeps them; the detail names it */
    PHEAP_WRONG_TYPE = 34    /* for layers above: a value, key or heap is of another type than the call takes */
};

/* The one-line meaning of a status, as a static string.  Never NULL.  Any thread. */
PHEAP_API const char *pheap_status_text(enum pheap_status status);

/* The name of a status ("PHEAP_NO_SPACE"), as a static string.  Never NULL.  Any thread. */
PHEAP_API const char *pheap_status_name(enum pheap_status status);

/*
 * What exactly went wrong in the last call of this thread that failed: file, place, remedy.  One line of UTF-8, but for
 * the names of files, which may hold any bytes.  Never NULL, at most 1023 bytes: of a longer one the middle is left out.
 * Valid until the thread's next failing call.
 */
PHEAP_API const char *pheap_error_detail(void);

/*
 * For libraries that build upon this one and tell of their failures in the same way: make this text, formatted as by
 * printf(), the detail of the calling thread, and return `status`, so that a failing branch reads
 * `return pheap_fail_with(...)`.  Texts may use the present detail as an argument.  Allocates nothing.
 */
PHEAP_API enum pheap_status pheap_fail_with(enum pheap_status status, const char *format, ...) PHEAP_FORMAT(2, 3);

/* "MAJOR.MINOR.PATCH" of the library in use.  Static. */
PHEAP_API const char *pheap_version_string(void);

/* ------------------------------------------------------------------------------------------------ open and close */

typedef struct pheap pheap;           /* an open heap */
typedef struct pheap_txn pheap_txn;   /* a write transaction */
typedef struct pheap_read pheap_read; /* a read transaction */

enum pheap_open_flags {
    PHEAP_CREATE = 1,    /* create the heap if there is none at this path */
    PHEAP_EXCLUSIVE = 2, /* with PHEAP_CREATE: fail with PHEAP_EXISTS if there is one */
    PHEAP_READONLY = 4,  /* no write transactions; a heap that needs recovery is refused, as is one in use by
                            writers when the coordination file cannot be written */
    PHEAP_VERIFY = 8,    /* debugging: commit and begin report stores that were never declared (slow) */
    PHEAP_PROTECT = 16   /* debugging: read views are read-only to the processor, so a stray store faults */
};

/*
 * Options.  Zero-fill, set `size` to sizeof(struct pheap_options), set what you want; 0 means the default.  A NULL
 * pointer means all defaults.  The library reads `size` bytes only, so programs built with older headers go on.
 */
struct pheap_options {
    size_t size;
    /* For every open; the first open of a heap in a process decides. */
    uint64_t reserve_bytes; /* address space reserved for each view; default max(64 GiB, 4 x heap); halved until it
                               fits where address space is limited.  The heap cannot outgrow it while open. */
    uint64_t budget_bytes;  /* private memory for changed pages, for each view; default a quarter of the memory limit
                               of the process (control group or machine) */
    /* For creation only; ignored otherwise. */
    uint64_t log_limit_bytes; /* upper bound of the log file; default 256 MiB */
    uint32_t segment_bytes; /* unit of log allocation and recycling, a power of two, 16 KiB to 64 MiB; default 4 MiB */
    uint32_t buffer_bytes;  /* shared log buffer, a power of two, 16 KiB to 64 MiB; default 2 MiB */
    uint32_t mode;          /* permission bits of the files, before the umask; default 0666 */
    uint32_t checksums;     /* 1: keep a checksum of every page in the file `path`-sum, for pheap_scrub(); default 0 */
    /* For every open again, in the same way. */
    uint32_t read_views;  /* versions that the readers of this process can show at a time, 1 to 4; default 2; fewer
                             where address space is short.  Each costs private memory for what changed since it was
                             folded. */
    uint32_t pin_wait_ms; /* when a reader's version holds the log or the budget at its limit, how long a writer of
                             this process waits for that reader to end before it fails with LOG_FULL or BUDGET;
                             default 1000; UINT32_MAX: for ever.  It does not wait for a reader of its own thread, and a
                             commit that needs more log than begin saw to waits for a second at most. */
};

/*
 * Open the heap in the file `path` (UTF-8 or any bytes the file system takes), creating it as `flags` say, and
 * recover it if the last user crashed.  Beside the file there are `path`-wal (the log) and `path`-shm (coordination
 * of the processes), and `path`-sum for a heap with checksums; all of them belong together.
 *
 * On success *heap is a new handle to be closed with pheap_close().  Opening a heap that the process already has
 * open gives another handle on the same core.  Cost: O(1) after a clean close, whatever the size; after a crash
 * proportional to the log that was outstanding.
 *
 * Errors: NOT_FOUND, EXISTS, NOT_HEAP, CORRUPT, NEWER, BYTE_ORDER, LOG_MISSING, LOG_FOREIGN, READ_ONLY, PERMISSION,
 * IO, NO_SPACE, NO_MEMORY, BUSY (another process is opening it and does not finish), NAMESPACE, UNSUPPORTED, REPLACED
 * (the file was put in the place of a heap that is in use, or another took its place meanwhile), INVALID.
 */
PHEAP_API PHEAP_MUST_CHECK enum pheap_status pheap_open(const char *path, unsigned flags,
                                                        const struct pheap_options *options, pheap **heap);

/*
 * Close the handle.  Flushes every LAZY commit; the last user of the heap also folds the log into the heap file and
 * marks it cleanly closed (two that close at the same moment may leave that to each other: then the next open recovers
 * the heap, and nothing is lost).  Fails with BUSY, and closes nothing, while a write transaction begun through this handle is
 * open, or, if this is the last handle of the process on the heap, a read transaction or a watch.  Any other status (IO,
 * NO_SPACE, POISONED...) tells what could not be made durable; the handle is closed all the same.  So it is with
 * STRAY_STORE, which tells of a store into what pheap_guard() guards.  NULL is allowed.
 */
PHEAP_API PHEAP_MUST_CHECK enum pheap_status pheap_close(pheap *heap);

/* -------------------------------------------------------------------------------------------- write transactions */

enum pheap_durability {
    PHEAP_DURABLE = 0, /* on stable storage when commit returns */
    PHEAP_LAZY = 1     /* survives every process when commit returns; on stable storage soon after */
};

/*
 * Begin a write transaction: waits for the present writer, of whatever process, then sees its changes.  pheap_begin()
 * waits without limit; pheap_begin_timeout() at most `timeout_ms` milliseconds (0: do not wait), then TIMEOUT, and the
 * detail names the holder.
 *
 * A thread has at most one write transaction per heap (INVALID otherwise).  The transaction must end with
 * pheap_commit() or pheap_abort() in the same thread.  If its thread or process dies, it is as if aborted.
 *
 * The files must be where they were opened: REPLACED if heap or log were removed, renamed or replaced (looked at once in
 * each tick of the kernel's clock, a few milliseconds).  Once they are back, begin succeeds again.
 *
 * When the log is at its limit because of a reader, whoever begins takes the version of evictable readers away, else
 * waits for the reader to end, for options.pin_wait_ms or `timeout_ms`, whichever is shorter, then LOG_FULL; the detail
 * names the process and since when.  So it is with a backup that holds the log, and, with BUDGET, with a reader that
 * keeps so many changed pages private to this process that less than half of its budget is free.
 *
 * Errors: READ_ONLY, POISONED, LOG_FULL, BUDGET, NO_SPACE, NO_MEMORY, RESERVE, IO, REPLACED, LOG_FOREIGN (another file
 * lies where the log was), CORRUPT, BUSY (other writers fill the log faster than it drains), TIMEOUT, INVALID, and with
 * PHEAP_VERIFY or pheap_guard() STRAY_STORE (the stray bytes are thrown away; the next begin succeeds).
 */
PHEAP_API PHEAP_MUST_CHECK enum pheap_status pheap_begin(pheap *heap, pheap_txn **txn);
PHEAP_API PHEAP_MUST_CHECK enum pheap_status pheap_begin_timeout(pheap *heap, int64_t timeout_ms, pheap_txn **txn);

/*
 * Commit: all changes of the transaction become visible at once to every later transaction, and durable as `how`
 * says.  The transaction has ended whatever is returned, except for ENDED, WRONG_THREAD and FORKED, which change
 * nothing.
 * *version (may be NULL) becomes the number of the commit: 1, 2, 3... in commit order; a transaction that changed
 * nothing makes no commit and gets the present number.
 *
 * POISONED: the log could not be written, or a sync had failed before; whether the commit survives a crash is not known,
 * and no later one is accepted until the heap has been reopened.  Every other error means "aborted, heap as before":
 * NO_MEMORY, TOO_BIG, LOG_FULL, NO_SPACE, IO, CORRUPT, STRAY_STORE, INVALID.
 */
PHEAP_API PHEAP_MUST_CHECK enum pheap_status pheap_commit(pheap_txn *txn, enum pheap_durability how, uint64_t *version);

/* Undo everything and end the transaction.  Errors: ENDED, WRONG_THREAD. */
PHEAP_API enum pheap_status pheap_abort(pheap_txn *txn);

/*
 * The address of `offset` in the transaction's view.  No check is made: the offset must lie in the heap.  Valid until
 * the handle is closed, but to be dereferenced only while the transaction is open.  The address of one offset is the
 * same in every write transaction of the process.
 */
PHEAP_API void *pheap_ptr(pheap_txn *txn, uint64_t offset);

/*
 * The size of the heap in the transaction, in bytes: offsets of blocks are below it.  It grows with allocations and goes
 * back with pheap_rollback(); 0 for a transaction that cannot be used (the detail says why).
 */
PHEAP_API uint64_t pheap_size(pheap_txn *txn);

/*
 * Declare that bytes [offset, offset + length) may change, and give their address.  The bytes are kept for abort and
 * rollback.  Declaring twice is cheap and harmless.  *address may be NULL if it is not wanted.  length 0 declares
 * nothing.  Cost: 5-10 ns per 64 bytes.
 *
 * Errors: BAD_OFFSET (outside the heap, or in metadata: only the bytes of live blocks may be edited; a range must lie
 * inside one block), NO_MEMORY, TOO_BIG, ENDED, WRONG_THREAD.
 */
PHEAP_API PHEAP_MUST_CHECK enum pheap_status pheap_edit(pheap_txn *txn, uint64_t offset, uint64_t length,
                                                        void **address);

/* Declare and store `length` bytes from `source`, which may lie in the heap and may overlap.  Errors as pheap_edit. */
PHEAP_API PHEAP_MUST_CHECK enum pheap_status pheap_write(pheap_txn *txn, uint64_t offset, const void *source,
                                                         uint64_t length);

/* Declare and set `length` bytes to `byte`.  Errors as pheap_edit. */
PHEAP_API PHEAP_MUST_CHECK enum pheap_status pheap_fill(pheap_txn *txn, uint64_t offset, unsigned char byte,
                                                        uint64_t length);

/*
 * Track [offset, offset + length), which lies inside one live block, and give its address: from now until the
 * transaction ends its bytes may be stored to without declaring them, and commit, abort, savepoint and rollback find what
 * was changed.  *address may be NULL if it is not wanted; length 0 tracks nothing.  Ranges add up, and declared edits
 * go on as before.  A range stays where it is when pheap_realloc() moves its block.
 *
 * pheap_track_all() tracks every live block, also those allocated later, without a word from then on.  A store that
 * hits metadata or free space then makes commit fail with STRAY_STORE: the detail names the offset, and the transaction
 * is aborted.
 *
 * Cost.  Declaring is cheaper where the program knows what it changes: see docs/bench.md.  Tracking keeps a second
 * private view of the heap (address space as for the others; memory for the pages changed since folding, within
 * budget_bytes).  In each transaction the first store to a page costs a fault of about 1 us.  To find what changed costs
 * some microseconds, 1 ns for each page of the range that this process holds private, 35 ns for each other one in its
 * memory, and 0.2 us for each page stored to; that is if the kernel can watch stores (Linux 6.7, and userfaultfd is
 * permitted: pheap_info.track_method tells).  Else all private pages of the range are compared, 0.1 us each.  A range of
 * up to 16 pages is just compared.  A savepoint copies the tracked pages that have changed; rollback compares all private
 * ones.  What tracked stores change counts to the budget only when it is found.
 *
 * Errors: as pheap_edit, and those of pheap_begin that come from memory and files: NO_MEMORY, IO, RESERVE, CORRUPT.  On
 * error the transaction goes on, but what is stored without declaring may be lost.
 */
PHEAP_API PHEAP_MUST_CHECK enum pheap_status pheap_track(pheap_txn *txn, uint64_t offset, uint64_t length,
                                                         void **address);
PHEAP_API PHEAP_MUST_CHECK enum pheap_status pheap_track_all(pheap_txn *txn);

/*
 * Guard [offset, offset + length), which lies inside one live block: for a program that gives out its address to code that
 * may keep it longer than the transaction lasts, as a language with views of memory does.  From now until pheap_unguard(),
 * which names the same range, every write transaction of this process tracks it from its beginning on, as pheap_track()
 * does, for as long as the block lives.  So the address is good for stores in any of them, whoever began it.  Guards of one
 * range are counted.  They belong to the process, and outlast aborts and rollbacks.  A length of 0 does nothing.
 *
 * Between transactions the range is only to be read.  A store there is never committed: the next pheap_begin(), or the
 * pheap_close() that closes the heap, throws it away and gives STRAY_STORE; the detail names the range and the place.  The
 * begin after that succeeds.  pheap_unguard() does not look by itself; the next begin or close does, once more.
 * What is read there shows the process's last transaction, or later commits of other processes, page by page.
 *
 * Where the system cannot tell which pages are private (/proc/self/pagemap), such a store is thrown away without being
 * reported if there were other commits meanwhile.  A store in the midst of a transaction of another thread is not seen.
 *
 * Cost: the end and the beginning of each transaction take 0.3 us for each private page of guarded ranges.
 * Errors: as pheap_track().  pheap_unguard(), from any thread: INVALID (there is no such guard).
 */
PHEAP_API PHEAP_MUST_CHECK enum pheap_status pheap_guard(pheap_txn *txn, uint64_t offset, uint64_t length,
                                                         void **address);
PHEAP_API PHEAP_MUST_CHECK enum pheap_status pheap_unguard(pheap *heap, uint64_t offset, uint64_t length);

/*
 * Take a savepoint: *savepoint is a token for pheap_rollback().  Savepoints nest.  After it, blocks that were
 * allocated earlier in the transaction must be declared (or tracked) like any other before they are changed.
 * Errors: NO_MEMORY, TOO_BIG (only where stores are tracked), ENDED, WRONG_THREAD.
 */
PHEAP_API PHEAP_MUST_CHECK enum pheap_status pheap_savepoint(pheap_txn *txn, uint32_t *savepoint);

/*
 * Undo everything since the savepoint, allocations and frees included.  The savepoint itself stays and may be rolled
 * back to again; later ones are gone.  Errors: INVALID (no such savepoint), ENDED, WRONG_THREAD, and where stores are
 * tracked NO_MEMORY and TOO_BIG.  On error nothing has been undone.
 */
PHEAP_API PHEAP_MUST_CHECK enum pheap_status pheap_rollback(pheap_txn *txn, uint32_t savepoint);

/* ----------------------------------------------------------------------------------------------------- allocation */

/*
 * Allocate a block of at least `length` bytes (1 to 2^46), aligned to 16 bytes; *offset names it.  Its content is
 * whatever was there (pheap_alloc) or zeros (pheap_zalloc).  There is no header in or before the block.  Requests are
 * rounded up by at most 12.5 %, or to the next multiple of 16; pheap_usable_size() tells.  Blocks above 32 KiB are
 * whole 4 KiB pages.  A large zeroed block in space never used before takes no disk until it is written.
 *
 * Errors: INVALID (length 0 or above the maximum), NO_SPACE, FULL, RESERVE, NO_MEMORY, TOO_BIG, ENDED, WRONG_THREAD,
 * CORRUPT.  On error nothing has changed and the transaction goes on.
 */
PHEAP_API PHEAP_MUST_CHECK enum pheap_status pheap_alloc(pheap_txn *txn, uint64_t length, uint64_t *offset);
PHEAP_API PHEAP_MUST_CHECK enum pheap_status pheap_zalloc(pheap_txn *txn, uint64_t length, uint64_t *offset);

/* The same with an alignment, a power of two from 16 to 2^30. */
PHEAP_API PHEAP_MUST_CHECK enum pheap_status pheap_alloc_aligned(pheap_txn *txn, uint64_t alignment, uint64_t length,
                                                                 uint64_t *offset);

/*
 * Free the block.  Its space may be used again at once in this transaction; abort brings it back with its content.
 * offset 0 is allowed and does nothing.  Errors: BAD_OFFSET (not the start of a live block), DOUBLE_FREE, NO_MEMORY,
 * TOO_BIG, ENDED, WRONG_THREAD, CORRUPT.  On error nothing has changed.
 */
PHEAP_API PHEAP_MUST_CHECK enum pheap_status pheap_free(pheap_txn *txn, uint64_t offset);

/*
 * Resize the block at *offset to at least `length` bytes, in place where possible, else by moving it (the content
 * up to the smaller of the two sizes goes along and *offset changes).  *offset 0 allocates.  Errors as alloc and free.
 */
PHEAP_API PHEAP_MUST_CHECK enum pheap_status pheap_realloc(pheap_txn *txn, uint64_t *offset, uint64_t length);

/* How many bytes of the block may be used, >= what was asked for.  Errors: BAD_OFFSET, ENDED, WRONG_THREAD. */
PHEAP_API PHEAP_MUST_CHECK enum pheap_status pheap_usable_size(pheap_txn *txn, uint64_t offset, uint64_t *length);

/*
 * The root: one offset by which a program finds everything else; 0 in a new heap.  Setting it is part of the
 * transaction.  pheap_set_root errors: BAD_OFFSET (neither 0 nor a live block), NO_MEMORY, ENDED, WRONG_THREAD.
 */
PHEAP_API uint64_t pheap_root(pheap_txn *txn);
PHEAP_API PHEAP_MUST_CHECK enum pheap_status pheap_set_root(pheap_txn *txn, uint64_t offset);

/* ---------------------------------------------------------------------------------------------- read transactions */

enum pheap_read_flags {
    PHEAP_FRESH = 1,    /* insist on the newest version: wait until one of the process's read views can move to it */
    PHEAP_EVICTABLE = 2 /* a writer that needs the log or the memory may take the version away; see pheap_read_end() */
};

/*
 * Begin a read transaction: a snapshot of one committed version that does not change until pheap_read_end(), read
 * through plain pointers.  Never waits for a writer, and never makes one wait (but while it lasts the log cannot be
 * recycled past its version, nor changed pages of later ones leave the writers' memory).
 *
 * The readers of a process share a few views (options.read_views).  A new reader sees the newest commit as long as a
 * view shows it or is free.  When all views are in use at older versions it joins the newest of those, and
 * pheap_read_version() tells which that is; with PHEAP_FRESH, or when all of them have been evicted, it waits for a view
 * instead, at most 10 s or `timeout_ms` milliseconds, then TIMEOUT; a thread that has a reader open itself gets TIMEOUT
 * at once rather than wait for itself.
 *
 * With PHEAP_EVICTABLE the reader never stands in a writer's way: when log or memory are at their limit its version may
 * be taken away in the midst of it, and any page, also one it has read before, may show a later version.  What it reads
 * must be treated like bytes of unknown origin until pheap_read_valid() or pheap_read_end() has said OK.
 *
 * A snapshot may include commits that are not yet durable.  Cost: 40 ns for begin and end when nothing has changed
 * since the last one; else the changes are replayed.  A poisoned heap can still be read.  Errors: NO_MEMORY, IO, RESERVE,
 * TIMEOUT, CORRUPT, INVALID.
 */
PHEAP_API PHEAP_MUST_CHECK enum pheap_status pheap_read_begin(pheap *heap, unsigned flags, pheap_read **reader);
PHEAP_API PHEAP_MUST_CHECK enum pheap_status pheap_read_begin_timeout(pheap *heap, unsigned flags, int64_t timeout_ms,
                                                                      pheap_read **reader);

/*
 * End it.  Pointers into the snapshot must no longer be used.  NULL is allowed.  EVICTED: what an evictable reader has
 * read may be torn and must not be used; no other reader ever gets it, so that others need not look at the status.  The
 * reader has ended all the same.  Errors: EVICTED, ENDED (as long as no other reader has taken its place), FORKED.
 */
PHEAP_API enum pheap_status pheap_read_end(pheap_read *reader);

/* Whether what was read so far is the snapshot's: EVICTED if not, and then nothing that follows will be.  FORKED. */
PHEAP_API PHEAP_MUST_CHECK enum pheap_status pheap_read_valid(const pheap_read *reader);

/*
 * A glance: reading without a read transaction, for programs that read a word now and then and want to know within a few
 * nanoseconds that it is of the newest commit.  pheap_glance_begin() takes it from an open reader, which may end then; it
 * needs no end itself, pins nothing, is in nobody's way, and may be used by any thread, by several at once too.
 *
 * Bytes [0, size) at `base` can be read until the handle that the reader came from is closed.  They may be anything, also
 * torn, until pheap_glance_holds() has said 1: then all that was read through the glance before that call is of the
 * snapshot, which is that of the newest commit still.  0: somebody has committed, or the view was needed otherwise; it
 * never holds again, so begin a reader and take another.  Before that call treat what was read like bytes of unknown
 * origin.  A child process must not use what its parent took, not even pheap_glance_holds().
 *
 * It is no call to the library as far as LAZY commits are concerned: a program that does nothing else for seconds begins
 * a reader now and then.  Cost: 10 ns; pheap_glance_holds() 2 ns.  Errors: INVALID, FORKED.
 */
struct pheap_glance {
    const void *base;              /* of offset 0 */
    uint64_t size;                 /* of the heap, in bytes */
    const void *committed, *moves; /* these and those that follow are the library's */
    uint64_t lsn, move;
};
PHEAP_API PHEAP_MUST_CHECK enum pheap_status pheap_glance_begin(const pheap_read *reader, struct pheap_glance *glance);
PHEAP_API int pheap_glance_holds(const struct pheap_glance *glance);

/* The address of `offset` in the snapshot, unchecked; the bytes must not be changed. */
PHEAP_API const void *pheap_read_ptr(const pheap_read *reader, uint64_t offset);

/* The number of the commit that the snapshot shows, its heap size in bytes, and its root. */
PHEAP_API uint64_t pheap_read_version(const pheap_read *reader);
PHEAP_API uint64_t pheap_read_size(const pheap_read *reader);
PHEAP_API uint64_t pheap_read_root(const pheap_read *reader);

/* Check that [offset, offset + length) lies inside one live block and give its address.  Errors: BAD_OFFSET. */
PHEAP_API PHEAP_MUST_CHECK enum pheap_status pheap_read_range(const pheap_read *reader, uint64_t offset,
                                                              uint64_t length, const void **address);

/* As pheap_usable_size, in the snapshot. */
PHEAP_API PHEAP_MUST_CHECK enum pheap_status pheap_read_usable_size(const pheap_read *reader, uint64_t offset,
                                                                    uint64_t *length);

/*
 * Enumerate live blocks in offset order: gives the first block at or after `from` (start with 0; continue with
 * *offset + *length).  Errors: END when there is none, CORRUPT.
 */
PHEAP_API PHEAP_MUST_CHECK enum pheap_status pheap_read_next_block(const pheap_read *reader, uint64_t from,
                                                                   uint64_t *offset, uint64_t *length);

/* --------------------------------------------------------------------------------------------------- notification */

/* The number of the newest commit of any process, durable or not.  Errors: CORRUPT, INVALID. */
PHEAP_API PHEAP_MUST_CHECK enum pheap_status pheap_newest_version(pheap *heap, uint64_t *version);

/*
 * Wait until there is a commit after `version`, of any thread of any process: returns at once if there is one already,
 * sleeps else, at most `timeout_ms` milliseconds (negative: without limit), then TIMEOUT.  *newest (may be NULL) becomes
 * the number of the newest commit.  The commit need not be durable yet.  It takes what waking a thread takes (100 ms if
 * whoever committed died in that moment); a program that loops with the version it got last misses none, though several
 * commits may be told of as one.  Also flushes LAZY commits older than a second meanwhile.
 * Errors: TIMEOUT, POISONED (only when there is nothing newer), INVALID, CORRUPT, IO.
 */
PHEAP_API PHEAP_MUST_CHECK enum pheap_status pheap_wait(pheap *heap, uint64_t version, int64_t timeout_ms,
                                                        uint64_t *newest);

/*
 * The same for event loops: a watch adds 1 to the eventfd `event_fd`, which is the caller's, whenever there are commits
 * after `version` that it has not told of yet (several commits may be told of as one).  It is a thread of the library,
 * the only kind there is; signals are blocked in it.  End it before the last handle on the heap is closed (BUSY else)
 * and before event_fd is.  When the heap is poisoned or damaged it tells a last time; the next call will say why.  A
 * forked child has no watch, and ending it there only frees its memory.
 * Errors of begin: NO_MEMORY, INVALID.  NULL may be ended.
 */
typedef struct pheap_watch pheap_watch;
PHEAP_API PHEAP_MUST_CHECK enum pheap_status pheap_watch_begin(pheap *heap, uint64_t version, int event_fd,
                                                               pheap_watch **watch);
PHEAP_API void pheap_watch_end(pheap_watch *watch);

/* ------------------------------------------------------------------------------------ durability and maintenance */

/*
 * Make every commit that has returned, of any process, durable.  Does not wait for an open transaction.
 * Errors: POISONED, IO, READ_ONLY.
 */
PHEAP_API PHEAP_MUST_CHECK enum pheap_status pheap_sync(pheap *heap);

/*
 * Make commits durable, then bring the heap file up to date with them as far as readers allow (no sync of it).
 * Errors: those of pheap_sync, NO_SPACE, NO_MEMORY, CORRUPT.
 */
PHEAP_API PHEAP_MUST_CHECK enum pheap_status pheap_fold(pheap *heap);

/*
 * Fold, sync the heap file and record that in it, so that the log can be recycled and recovery starts here.  Runs by
 * itself when the log is half full.  Errors: those of pheap_fold; after NO_SPACE nothing is lost: try again with room.
 */
PHEAP_API PHEAP_MUST_CHECK enum pheap_status pheap_checkpoint(pheap *heap);

/*
 * One round of what otherwise happens inside other calls: flush LAZY commits older than a second, checkpoint when
 * the log is half full.  For a thread or event loop of a program that may be idle.  Errors as pheap_checkpoint.
 */
PHEAP_API PHEAP_MUST_CHECK enum pheap_status pheap_maintain(pheap *heap);

/* Progress of long work: `done` of `total` units of what `what` names; return 0 to go on, else it stops with BUSY. */
typedef int (*pheap_progress)(void *context, const char *what, uint64_t done, uint64_t total);

/* A fault found by pheap_check: `offset` is the place in the heap file, `text` says what is wrong there. */
typedef void (*pheap_fault)(void *context, uint64_t offset, const char *text);

/*
 * Walk the whole heap of the snapshot and prove: no block overlaps another or metadata, no page is lost, every bitmap
 * and list agrees with every other, every list is acyclic, the root is a live block.  Each fault is reported through
 * `fault` (may be NULL), at most 1000 of them.  Bounded in time and memory on any input.  PHEAP_OK when the heap is
 * sound, CORRUPT when it is not, BUSY when stopped, NO_MEMORY.
 */
PHEAP_API PHEAP_MUST_CHECK enum pheap_status pheap_check(const pheap_read *reader, pheap_fault fault,
                                                         pheap_progress progress, void *context);

enum pheap_scrub_flags {
    PHEAP_SCRUB_FILL = 1 /* give pages that have no checksum that of what they hold now */
};

struct pheap_scrub_options {
    size_t size;
    uint32_t flags;          /* enum pheap_scrub_flags */
    uint32_t reserved;       /* must be 0 */
    pheap_progress progress; /* may be NULL */
    pheap_fault fault;       /* of a damaged page, which begins at `offset`; may be NULL */
    void *context;           /* for both */
};

/* Pages of 4096 bytes. */
struct pheap_scrub_result {
    size_t size;
    uint64_t page_count;    /* looked at */
    uint64_t damaged_pages; /* that do not match their checksum, or cannot be read */
    uint64_t unknown_pages; /* not zero, and without a checksum */
    uint64_t filled_pages;  /* that were given one by PHEAP_SCRUB_FILL */
};

/*
 * Compare every page of the heap file with its checksum: finds what pheap_check() cannot see, a changed bit in the bytes
 * of blocks.  Only for heaps created with options.checksums; UNSUPPORTED for others.  Each damaged page is reported
 * through `fault`, with the blocks in it, at most 1000 of them; what matches no more may be the page or its checksum.
 *
 * Others may use the heap meanwhile.  Pages are read through the page cache of the operating system, so what it holds is
 * looked at, not what the medium has beneath it.  Nothing else compares checksums: programs read mapped memory.
 *
 * A page has no checksum until it is written for the first time, but every page of a heap that was created with
 * checksums and still has its file `path`-sum has one, or is zero.  Where that file was lost or did not fit, as when a
 * heap was restored or salvaged, pages get checksums as they change, and all at once by PHEAP_SCRUB_FILL, which
 * believes what it finds; they are on stable storage on return.
 *
 * PHEAP_OK if no page is damaged, CORRUPT if one is; with both, *result (may be NULL; set result->size) has figures.
 * Errors: UNSUPPORTED, BUSY (stopped), READ_ONLY (PHEAP_SCRUB_FILL through a handle opened PHEAP_READONLY), INVALID,
 * NO_MEMORY, IO, and those of pheap_checkpoint(), which is called if a page seems to be damaged.
 */
PHEAP_API PHEAP_MUST_CHECK enum pheap_status pheap_scrub(pheap *heap, const struct pheap_scrub_options *options,
                                                         struct pheap_scrub_result *result);

/* ---------------------------------------------------------------------------------------------- backup and restore */

/* How far a backup or restore is, and in the end what it was. */
struct pheap_transfer {
    size_t size;
    uint64_t done_bytes;    /* backup: of the heap file copied; restore: of the archive read */
    uint64_t total_bytes;   /* what that comes to, as far as is known; 0: not */
    uint64_t content_bytes; /* in the archive, before compression */
    uint64_t archive_bytes; /* the archive itself */
    uint64_t version;       /* in the end: the number of the commit that the archive shows */
    uint64_t heap_bytes;    /* in the end: the logical size of the heap */
};

/* Called now and then; return 0 to go on, else the work stops with BUSY. */
typedef int (*pheap_transfer_progress)(void *context, const struct pheap_transfer *now);

enum pheap_transfer_flags {
    PHEAP_REPLACE = 1 /* replace the file of that name, if there is one */
};

/* Zero-fill, set `size`, set what you want; a NULL pointer means all defaults. */
struct pheap_backup_options {
    size_t size;
    uint32_t flags;      /* enum pheap_transfer_flags */
    int32_t level;       /* of zstd; 0: its default, 3 */
    uint32_t window_log; /* look for long repetitions in a window of 2^window_log bytes, 17 to 27, which the reader
                            needs as memory; 0: do not */
    uint32_t reserved;   /* must be 0 */
    pheap_transfer_progress progress; /* may be NULL */
    void *context;                    /* for it */
};
struct pheap_restore_options {
    size_t size;
    uint32_t flags;                   /* enum pheap_transfer_flags */
    uint32_t reserved;                /* must be 0 */
    pheap_transfer_progress progress; /* may be NULL */
    void *context;                    /* for it */
};

/* Take the next bytes of an archive; return 0, or anything else to stop the backup with IO. */
typedef int (*pheap_sink)(void *context, const void *bytes, size_t length);

/* Give the next bytes of an archive, at most `length`; return how many, 0 only at its end, or -1 to stop with IO. */
typedef int64_t (*pheap_source)(void *context, void *bytes, size_t length);

/*
 * Write an archive of the heap: one file, compressed (zstd) and checksummed, with a snapshot of the whole heap at one
 * commit, which is at least the newest when the call began.  Others may read, write and checkpoint meanwhile.  The
 * archive holds what was live and what was not, so it takes about as long as copying the heap file.
 *
 * The log is kept until the backup has read it, and it reads on as it writes the archive; only if the archive cannot be
 * written as fast as commits fill the log do writers wait, and get LOG_FULL with a text that names the backup.  One
 * backup of a heap at a time in a process.  Through a handle opened PHEAP_READONLY it works as well.
 *
 * pheap_backup: into the file `path`, which appears when it is whole and on stable storage, or not at all (a crash may
 * leave `path`-new, which is garbage).  pheap_backup_to: to a function, in order; what that has got is an archive only if
 * the call returns OK.  *result (may be NULL; set result->size) tells what was written.
 *
 * Errors: EXISTS, INVALID (also for the heap's own files and names beside it), NO_SPACE, NO_MEMORY, IO, PERMISSION,
 * READ_ONLY, NOT_FOUND, BUSY (stopped, or this process is at a backup already), POISONED, CORRUPT, FORKED.
 */
PHEAP_API PHEAP_MUST_CHECK enum pheap_status
pheap_backup(pheap *heap, const char *path, const struct pheap_backup_options *options, struct pheap_transfer *result);
PHEAP_API PHEAP_MUST_CHECK enum pheap_status pheap_backup_to(pheap *heap, pheap_sink sink, void *sink_context,
                                                             const struct pheap_backup_options *options,
                                                             struct pheap_transfer *result);

/*
 * Make a heap in the file `path` of an archive.  It has the content, version number and parameters of the one that was
 * backed up, and an identity of its own; holes stay holes.  The whole archive is verified, and the heap checked as by
 * pheap_check(), before anything appears at `path`, which happens at once and is on stable storage on return.  With `path`
 * NULL the archive is verified and nothing is made.
 *
 * With PHEAP_REPLACE the heap at `path` is replaced.  Nobody may have it open (BUSY).  It is recovered if need be and
 * closed, and at any moment there is the old heap or the new one, whole.  What is there must be a heap that opens: one
 * that does not, and its log, are for you to move away.
 *
 * Errors: EXISTS, NOT_HEAP (no archive; or what is to be replaced is no heap), CORRUPT (a damaged archive), NEWER,
 * BYTE_ORDER, LOG_FOREIGN (the log of another heap is at `path`-wal), INVALID, NOT_FOUND, NO_SPACE, NO_MEMORY, IO,
 * PERMISSION, READ_ONLY, BUSY (in use, or stopped), and those of pheap_open() for the heap to be replaced.
 */
PHEAP_API PHEAP_MUST_CHECK enum pheap_status pheap_restore(const char *archive, const char *path,
                                                           const struct pheap_restore_options *options,
                                                           struct pheap_transfer *result);
PHEAP_API PHEAP_MUST_CHECK enum pheap_status pheap_restore_from(pheap_source source, void *source_context,
                                                                const char *path,
                                                                const struct pheap_restore_options *options,
                                                                struct pheap_transfer *result);

/* --------------------------------------------------------------------------------------------------------- salvage */

/* Which state of the heap was salvaged. */
enum pheap_salvage_log {
    PHEAP_SALVAGE_WHOLE = 0, /* the last commit */
    PHEAP_SALVAGE_CUT = 1,   /* that of `version`: later records of the log are lost */
    PHEAP_SALVAGE_UNUSED = 2 /* what the heap file has: that of `version` (0: not known), or later */
};

/* What became of a heap.  "Lost" and "uncertain" are not in the new heap. */
struct pheap_salvage_result {
    size_t size;
    uint32_t log_state; /* enum pheap_salvage_log */
    uint32_t root_kept; /* 1: the root is what it was, and there; 0: it is lost, or there was none */
    uint64_t version;
    uint64_t heap_bytes;       /* logical size of the new heap */
    uint64_t kept_blocks;      /* proved, and in the new heap at their old offsets */
    uint64_t kept_bytes;       /* their usable bytes */
    uint64_t uncertain_blocks; /* seem to be blocks, but something contradicts or is missing */
    uint64_t uncertain_bytes;
    uint64_t lost_blocks;    /* known to have been there, but they cannot be read */
    uint64_t lost_bytes;     /* theirs, and those of pages of which nobody knows whose they were */
    uint64_t fault_count;    /* reports, including those beyond the first 1000 */
    uint64_t suspect_blocks; /* of those that are kept: in pages that do not match their checksums */
    uint64_t suspect_bytes;
    uint64_t unknown_pages; /* of the damaged file: no checksum could tell; all, if the heap keeps none */
};

struct pheap_salvage_options {
    size_t size;
    uint32_t flags;          /* enum pheap_transfer_flags */
    uint32_t reserved;       /* must be 0 */
    pheap_progress progress; /* may be NULL */
    pheap_fault fault;       /* may be NULL; offset 0: it is the log, or the whole heap */
    void *context;           /* for both */
};

/*
 * Make a heap in the new file `new_path` of what can still be proved of the damaged heap `path` and its log: every block
 * for which the allocator's metadata speaks, at its old offset, so that offsets stored in blocks stay true; the root, if
 * its block is one of them.  The metadata is made anew, and the heap has an identity of its own and no log.  What is lost
 * is told through `fault`, as pheap_check() tells it, and counted in *result (may be NULL; set result->size).
 *
 * Nothing is made up: a block of which it is not certain that it was one is left out and counted as uncertain.  Damage in
 * the bytes of blocks, or a flipped bit in the bitmap of a slab, is seen only where the heap keeps checksums of its pages,
 * and not in pages that the log changes: a block in a page that does not match is kept as it is, since what is in it may
 * be wanted more than nothing, but the page is reported, with the blocks in it, and they are counted as suspect.  The new
 * heap has no such marks.
 *
 * The damaged files are only read; nobody may have the heap open (BUSY).  `new_path` appears when it is whole, checked and
 * on stable storage, as with pheap_restore(); PHEAP_REPLACE replaces a heap there, never the damaged one itself (INVALID).
 * It needs as much disk space as the damaged heap; memory and time are proportional to the heap's pages: about 1 byte a
 * page, 24 a block of whole pages or slab, 16 a suspect page, and what replaying the log takes.
 *
 * OK even if much was lost: look at the result.  Errors: NOT_FOUND, NOT_HEAP (nothing in it is known of a heap), NEWER,
 * BYTE_ORDER, EXISTS, LOG_FOREIGN, BUSY (in use, or stopped), INVALID, NO_SPACE, NO_MEMORY, FULL, IO, PERMISSION,
 * READ_ONLY, and those of pheap_open() for a heap to be replaced.
 */
PHEAP_API PHEAP_MUST_CHECK enum pheap_status pheap_salvage(const char *path, const char *new_path,
                                                           const struct pheap_salvage_options *options,
                                                           struct pheap_salvage_result *result);

/* ------------------------------------------------------------------------------------------------------ inspection */

/* How pheap_track() finds the pages that this process has stored to. */
enum pheap_track_method {
    PHEAP_TRACK_UNUSED = 0,  /* nothing has been tracked yet */
    PHEAP_TRACK_WATCHED = 1, /* the kernel tells (userfaultfd, Linux 6.7) */
    PHEAP_TRACK_COMPARED = 2 /* it cannot or may not: all private pages are compared */
};

/* Figures about an open heap.  Set `size` to sizeof(struct pheap_info) before the call. */
struct pheap_info {
    size_t size;
    unsigned char identity[16];  /* drawn at random at creation */
    uint64_t epoch;              /* so many; each began with the first write after a clean close or a recovery */
    uint64_t version;            /* commits so far */
    uint64_t heap_bytes;         /* logical size of the heap */
    uint64_t file_bytes;         /* size of the heap file */
    uint64_t disk_bytes;         /* disk space the heap file takes */
    uint64_t log_bytes;          /* size of the log file */
    uint64_t log_limit_bytes;    /* its bound */
    uint64_t log_used_bytes;     /* part of it that is needed for recovery */
    uint64_t committed_lsn;      /* end of the last commit, in bytes of log ever written */
    uint64_t durable_lsn;        /* how far the log is on stable storage */
    uint64_t folded_lsn;         /* how far the heap file has it */
    uint64_t checkpoint_lsn;     /* where recovery would start */
    uint64_t private_bytes;      /* changed pages this process holds, all views */
    uint64_t reserve_bytes;      /* address space of each view */
    uint32_t poisoned;           /* 1 after a failed sync */
    uint32_t recovered;          /* 1 if this open had to recover */
    uint64_t replayed_bytes;     /* log replayed by that recovery */
    uint64_t log_written_bytes;  /* bytes this process wrote to the log device */
    uint64_t fold_written_bytes; /* bytes this process wrote to the heap file */
    uint64_t sync_count;         /* syncs and synchronous writes of this process */
    uint32_t track_method;       /* enum pheap_track_method */
    uint32_t reserved;           /* 0 */
};
PHEAP_API PHEAP_MUST_CHECK enum pheap_status pheap_get_info(pheap *heap, struct pheap_info *info);

/* Space in a snapshot, by a walk over its extents and slabs.  Set `size` before the call.  Errors: CORRUPT, BUSY. */
struct pheap_space {
    size_t size;
    uint64_t heap_bytes;     /* everything */
    uint64_t metadata_bytes; /* tables, slab headers, superblocks */
    uint64_t live_bytes;     /* usable bytes of live blocks */
    uint64_t live_blocks;
    uint64_t slab_free_bytes;    /* free slots in slabs */
    uint64_t extent_free_bytes;  /* free page extents */
    uint64_t free_extents;       /* how many */
    uint64_t largest_free_bytes; /* the largest of them */
};
PHEAP_API PHEAP_MUST_CHECK enum pheap_status pheap_get_space(const pheap_read *reader, struct pheap_space *space,
                                                             pheap_progress progress, void *context);

/* A version that readers of a process pin: nothing later is folded, and so the log not recycled, while it lasts. */
struct pheap_pin {
    uint64_t version;   /* 0 for a moment, or the last one that was pinned here, while the reader begins; as since_ns */
    uint64_t lsn;       /* where in the log that version is */
    uint64_t since_ns;  /* CLOCK_REALTIME, in steps of some milliseconds */
    uint32_t evictable; /* 1 if a writer in need may take it away */
    uint32_t reserved;  /* 0 */
};

/* A process attached to the heap. */
struct pheap_user {
    size_t size;
    uint32_t seat;        /* its place in the coordination file */
    uint32_t alive;       /* 0: it died and its seat has not been taken yet */
    int64_t pid;          /* as that process sees itself; for people, nothing is decided by it */
    uint64_t attached_ns; /* CLOCK_REALTIME when it attached, in nanoseconds since 1970 */
    uint64_t
        pinned_version; /* the oldest version its readers pin, 0 if none: that of pins[0], as the two that follow */
    uint64_t pinned_lsn;
    uint64_t pinned_ns;
    uint32_t writing;         /* 1 if it holds the writer lock */
    uint32_t self;            /* 1 for the calling process */
    uint32_t pin_count;       /* versions its readers pin */
    uint32_t evictable;       /* 1 if the oldest may be taken away */
    struct pheap_pin pins[4]; /* the first pin_count of them, the oldest version first; the others are 0 */
    uint64_t backup_ns;       /* since when it is at a backup, CLOCK_REALTIME; 0: it is not */
    uint64_t mark;            /* the lowest that pheap_set_mark() gave to its handles; 0: none has one */
};

/* The users in seat order: the first at or after seat `from`.  END when there is none.  Set user->size. */
PHEAP_API PHEAP_MUST_CHECK enum pheap_status pheap_next_user(pheap *heap, uint32_t from, struct pheap_user *user);

/*
 * Marks.  A handle has a number that every process which has the heap open can see: for programs that agree on something
 * about the heap without writing to it, as types/ does on versions up to which a program has looked after what it
 * remembers.  It means nothing to this library.
 *
 * pheap_set_mark(): 0 takes it away; so do pheap_close() and the death of the process.  In a forked child the handle has
 * none until it is given one there.  What the caller reads afterwards from the heap, it reads after the mark can be seen.
 * Cost: a local lock and a store.  Errors: INVALID, and those of pheap_open() in a forked child.
 *
 * pheap_lowest_mark(): the lowest of all living processes, 0 if nobody has one, as seen from a write transaction: whoever
 * sets one before it begins is seen.  Cost: about 0.1 us, and a system call for each other process that has a mark which
 * is lower than those found before.  Errors: INVALID, ENDED, WRONG_THREAD, FORKED.
 *
 * PHEAP_MARK_RESTS is higher than all versions, and the only mark that is 2^63 or more.  While a handle of a process has it,
 * what readers of that process see counts as a mark: the versions they pin.  So a program that remembers nothing between its
 * readers need not set a mark for each.  If it wants to remember something it sets one before that reader ends.  Of a reader
 * that may be evicted nobody can tell what it sees.
 */
#define PHEAP_MARK_RESTS UINT64_MAX
PHEAP_API PHEAP_MUST_CHECK enum pheap_status pheap_set_mark(pheap *heap, uint64_t mark);
PHEAP_API PHEAP_MUST_CHECK enum pheap_status pheap_lowest_mark(pheap_txn *txn, uint64_t *mark);

/* The number that the commit of a write transaction will have, if it changes something; 0 if it has ended. */
PHEAP_API uint64_t pheap_version(const pheap_txn *txn);

#ifdef __cplusplus
}
#endif
#endif
