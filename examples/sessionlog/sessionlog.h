/* SPDX-License-Identifier: MIT */
/*
 * A log of records between processes, kept in a heap: producers append, each of several listeners sees every record
 * once and in order, and what all of them have acknowledged is freed.
 *
 * A log is one block, named by its offset; the program keeps that offset wherever it likes, so a heap can hold any
 * number of logs beside other things.  Everything that changes a log takes the caller's transaction and becomes part
 * of it.  That is what makes "exactly once" possible: a listener that stores the result of its work in the same heap
 * and acknowledges in the same transaction has either both or neither, whenever it is killed.  A result that goes
 * anywhere else (a terminal, a socket, another file) is not in the transaction: killed between the two, the listener
 * sees the record again.  The same holds for producers: one that notes in the transaction what it has appended knows
 * after a restart where to go on.
 *
 * Records have sequence numbers 1, 2, 3... in the order of the commits, and any length from 0 on.  They are read in
 * place: a batch is a read transaction, and the records in it are pointers into the heap.
 *
 * A listener is known by its name and outlives its process: registering the name again resumes after the last record
 * acknowledged.  The process that registered last holds the name; one that held it before is told TAKEN.  A listener
 * holds its unacknowledged records only as long as its lease runs; registering, acknowledging, renewing and waiting
 * for records all renew it.  When the lease has run out, whoever next renews, acknowledges or needs space removes the
 * listener; its process, should it still be there, is told EXPIRED and may register again, but the records in between
 * may be gone.  While there is no listener at all, nothing is freed, so that the first one can begin with the oldest
 * record; give the log a limit if that may take long.
 *
 * Leases run by the clock that counts since the machine started, sleep included, and nobody sets: stepping the time of
 * day does nothing.  The log notes the boot that its leases belong to; after a restart of the machine, or on another
 * machine, the first change gives every listener a whole lease anew.  Processes that share a log must share that
 * clock: not be in different time namespaces.
 *
 * Every function returns a status; sessionlog_detail() explains the last failure of the calling thread.  After HEAP or
 * DAMAGED from a function that takes a transaction, the caller must abort it.
 */
#ifndef SESSIONLOG_H
#define SESSIONLOG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "pheap/pheap.h"

enum sessionlog_status {
    SESSIONLOG_OK = 0,
    SESSIONLOG_END,     /* no more records: not an error */
    SESSIONLOG_FULL,    /* the log is at its limit; a listener must acknowledge first */
    SESSIONLOG_EXPIRED, /* the listener is gone: its lease ran out, or it was unregistered */
    SESSIONLOG_TAKEN,   /* another process has registered the name since */
    SESSIONLOG_INVALID, /* an argument is out of its range; nothing was done */
    SESSIONLOG_DAMAGED, /* what the offset names is no log, or one that no sessionlog wrote */
    SESSIONLOG_HEAP     /* the heap refused; the detail says why */
};

/* What went wrong in the last call of this thread that failed; one line, valid until the next. */
const char *sessionlog_detail(void);

/* ------------------------------------------------------------------------------------------------------- producers */

#define SESSIONLOG_CHUNK_BYTES (128u << 10) /* records are kept in blocks of this size */
#define SESSIONLOG_LIMIT_MIN (2u * SESSIONLOG_CHUNK_BYTES)
#define SESSIONLOG_RECORD_MAX (UINT64_C(1) << 40)

/*
 * Make a log.  It takes at most about `limit_bytes` of blocks for its records, SESSIONLOG_LIMIT_MIN at least; 0: no
 * limit.  Errors: INVALID, HEAP.
 */
enum sessionlog_status sessionlog_create(pheap_txn *txn, uint64_t limit_bytes, uint64_t *log);

/*
 * Append a record.  *sequence (may be NULL) becomes its number.  A record that does not fit half a block gets one of
 * its own.  FULL: nothing was appended, but listeners whose leases have run out may have been removed, so the
 * transaction is worth committing.  Errors: FULL, INVALID (longer than the limit allows), HEAP, DAMAGED.
 */
enum sessionlog_status sessionlog_append(pheap_txn *txn, uint64_t log, const void *bytes, uint64_t length,
                                         uint64_t *sequence);

/* The same, but the caller stores the bytes itself, at *bytes, before it commits. */
enum sessionlog_status sessionlog_reserve(pheap_txn *txn, uint64_t log, uint64_t length, void **bytes,
                                          uint64_t *sequence);

/* ------------------------------------------------------------------------------------------------------- listeners */

#define SESSIONLOG_NAME_BYTES 64 /* of a listener, with a terminating zero */
#define SESSIONLOG_LISTENERS_MAX 65536u
#define SESSIONLOG_LEASE_MAX_MS UINT64_C(31536000000) /* a year */

/* A process's hold on a listener.  Keep it as it is; it may be copied. */
struct sessionlog_listener {
    uint64_t log;
    uint64_t holder; /* number of the registration */
    char name[SESSIONLOG_NAME_BYTES];
};

enum sessionlog_from {
    SESSIONLOG_OLDEST, /* a new listener begins with the oldest record that is kept */
    SESSIONLOG_NOW     /* or with the next one appended */
};

/*
 * Register a listener, or take over one that exists: then `from` does not count, and it goes on where it has
 * acknowledged.  *next (may be NULL) becomes the number of the first record it will see.  Once the transaction is
 * committed, *listener holds the name.  Errors: INVALID (name empty or too long, lease 0 or too long, too many
 * listeners), HEAP, DAMAGED.
 */
enum sessionlog_status sessionlog_register(pheap_txn *txn, uint64_t log, const char *name, uint64_t lease_ms,
                                           enum sessionlog_from from, struct sessionlog_listener *listener,
                                           uint64_t *next);

/*
 * Acknowledge all records up to and including `sequence`, and renew the lease.  Blocks whose records all listeners have
 * acknowledged are freed.  What is acknowledged already may be acknowledged again.
 * Errors: EXPIRED, TAKEN, INVALID (there is no such record yet), HEAP, DAMAGED.
 */
enum sessionlog_status sessionlog_acknowledge(pheap_txn *txn, const struct sessionlog_listener *listener,
                                              uint64_t sequence);

/* Renew the lease: for a listener whose work on one batch may take longer.  Errors: EXPIRED, TAKEN, HEAP, DAMAGED. */
enum sessionlog_status sessionlog_renew(pheap_txn *txn, const struct sessionlog_listener *listener);

/* Remove the listener; what only it has held is freed.  Errors: EXPIRED, TAKEN, HEAP, DAMAGED. */
enum sessionlog_status sessionlog_unregister(pheap_txn *txn, const struct sessionlog_listener *listener);

/* Remove all listeners whose leases have run out, and free what only they have held.  Errors: HEAP, DAMAGED. */
enum sessionlog_status sessionlog_expire(pheap_txn *txn, uint64_t log);

/* --------------------------------------------------------------------------------------------------------- reading */

struct sessionlog_record {
    uint64_t sequence;
    uint64_t length;
    const void *bytes; /* in the heap, aligned to 16; valid until the batch ends */
};

/* A read transaction over the records that a listener has not acknowledged yet.  Its members are not the caller's. */
struct sessionlog_batch {
    pheap_read *read;
    uint64_t chunk;
    uint64_t position;
    uint64_t sequence;
    uint64_t end;
};

/*
 * Begin a batch at the first record that is not acknowledged, waiting for one at most `timeout_ms` milliseconds
 * (negative, or above SESSIONLOG_LEASE_MAX_MS: without limit), then END.  While it waits it renews the lease, in LAZY
 * transactions of its own; so the thread must not have a write transaction open.  A batch that has begun must be ended.
 * Errors: END, EXPIRED, TAKEN, HEAP, DAMAGED.
 */
enum sessionlog_status sessionlog_batch_begin(pheap *heap, const struct sessionlog_listener *listener,
                                              int64_t timeout_ms, struct sessionlog_batch *batch);

/* The next record, or END after the last one that was there when the batch began.  Errors: END, DAMAGED, HEAP. */
enum sessionlog_status sessionlog_batch_next(struct sessionlog_batch *batch, struct sessionlog_record *record);

/* End it: records must no longer be looked at. */
void sessionlog_batch_end(struct sessionlog_batch *batch);

/* ------------------------------------------------------------------------------------------------------ inspection */

struct sessionlog_stats {
    uint64_t next;           /* number of the next record */
    uint64_t oldest;         /* of the oldest that is kept; `next` if there is none */
    uint64_t chunks;         /* blocks */
    uint64_t space_bytes;    /* and what they take */
    uint64_t limit_bytes;    /* 0: no limit */
    uint64_t appended_bytes; /* of all records ever */
    uint64_t listeners;
    uint64_t expired; /* listeners removed because their leases ran out */
};
enum sessionlog_status sessionlog_stat(pheap_read *read, uint64_t log, struct sessionlog_stats *stats);

struct sessionlog_listener_info {
    char name[SESSIONLOG_NAME_BYTES];
    uint64_t next;     /* first record not acknowledged */
    uint64_t lease_ms; /* as registered */
    int64_t left_ms;   /* until the lease runs out; below 0: it has, and nobody has removed the listener yet */
};

/* The listener in place `index`, from 0.  END when there is none. */
enum sessionlog_status sessionlog_listener_get(pheap_read *read, uint64_t log, uint64_t index,
                                               struct sessionlog_listener_info *info);

/* Walk over every block, record and listener: DAMAGED, with a detail, unless all agree. */
enum sessionlog_status sessionlog_check(pheap_read *read, uint64_t log);

#endif
