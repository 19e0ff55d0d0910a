/* SPDX-License-Identifier: MIT */
/*
 * How a log lies in the heap, and checked access to its parts.
 *
 *     log block ──first_chunk──> chunk ──next──> chunk ...   each holds records one after the other
 *        └──────first_listener──> listener ──next──> listener ...   each has its place in a chunk
 *
 * Invariants.  Sequence numbers run without a gap through the chunks.  A listener's place is the record with its
 * number `sequence`: byte `position` of `chunk`, or the end of the last chunk, or chunk 0: the first record of the
 * first chunk, whenever there is one.  A chunk goes when every listener's number is beyond it; the last one stays while
 * it has the usual size, as the next record will need it.  So a log that all have read to the end is one block and at
 * most one chunk.
 *
 * Offsets and lengths are checked before they are followed, so a damaged log ends in a message, not in a crash.
 */
#ifndef SESSIONLOG_LAYOUT_H
#define SESSIONLOG_LAYOUT_H

#include "sessionlog.h"

#define LOG_MAGIC "sesslog"
#define LOG_FORMAT 1u
#define BOOT_BYTES 40

struct log_block {
    char magic[8]; /* LOG_MAGIC */
    uint32_t format;
    uint32_t zero; /* reserved, 0 */
    uint64_t next; /* number of the next record, from 1 */
    uint64_t first_chunk;
    uint64_t last_chunk;
    uint64_t chunks; /* bounds every walk */
    uint64_t space_bytes;
    uint64_t appended_bytes;
    uint64_t limit_bytes; /* 0: none */
    uint64_t first_listener;
    uint64_t listeners; /* bounds every walk */
    uint64_t holder;    /* the last number given to a registration */
    uint64_t expired;
    char boot[BOOT_BYTES]; /* the boot whose clock the leases run by, as the system writes it */
};

struct chunk_block {
    uint64_t next;
    uint64_t first; /* number of its first record */
    uint64_t count;
    uint64_t used;     /* bytes, this header included; the next record begins here */
    uint64_t capacity; /* bytes */
    uint64_t zero;     /* reserved, 0 */
};

/* Its bytes follow, filled up to a multiple of 16. */
struct record_head {
    uint64_t sequence;
    uint64_t length;
};

struct listener_block {
    uint64_t next;
    uint64_t holder;   /* number of the registration that holds it */
    uint64_t lease_ns; /* how long a renewal lasts */
    uint64_t until_ns; /* when it runs out, by the clock of the boot that the log names */
    uint64_t sequence; /* first record not acknowledged */
    uint64_t chunk;
    uint64_t position; /* 0 with chunk 0 */
    char name[SESSIONLOG_NAME_BYTES];
};

_Static_assert(sizeof(struct log_block) == 144, "no hidden padding");
_Static_assert(sizeof(struct chunk_block) == 48, "no hidden padding, and records aligned to 16");
_Static_assert(sizeof(struct record_head) == 16, "no hidden padding, and records aligned to 16");
_Static_assert(sizeof(struct listener_block) == 120, "no hidden padding");

/* A snapshot, or the inside of a write transaction.  Exactly one of the two is set. */
struct log_view {
    pheap_txn *txn;
    pheap_read *read;
};

/* Set the detail and return `status`. */
enum sessionlog_status log_fail(enum sessionlog_status status, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

/* The same with what the library says about the call that has just failed: SESSIONLOG_HEAP. */
enum sessionlog_status log_fail_heap(enum pheap_status status, const char *what);

enum sessionlog_status log_get(const struct log_view *view, uint64_t log, const struct log_block **block);
enum sessionlog_status chunk_get(const struct log_view *view, uint64_t chunk, const struct chunk_block **block);
enum sessionlog_status listener_get(const struct log_view *view, uint64_t listener,
                                    const struct listener_block **block);

/* The record with number `sequence`, which must begin at byte `position` of the chunk. */
enum sessionlog_status record_get(uint64_t chunk, const struct chunk_block *block, uint64_t position, uint64_t sequence,
                                  const struct record_head **record);

/* The bytes that a record of this length takes in a chunk, its head included. */
uint64_t record_space(uint64_t length);

/* Declare that a block may change, as pheap_edit. */
enum sessionlog_status log_edit(pheap_txn *txn, uint64_t offset, uint64_t length, void *address);

/* Nanoseconds since the machine started, and the name of that start. */
enum sessionlog_status lease_clock(uint64_t *now_ns, char boot[BOOT_BYTES]);

/* A walk over the listeners of a log. */
struct listener_walk {
    struct log_view view;
    uint64_t left; /* how many there are still */
    uint64_t next;
    uint64_t slot;     /* where the link to the next one is stored */
    uint64_t own_slot; /* and that to this one */
    uint64_t offset;
    const struct listener_block *block;
};
enum sessionlog_status listener_walk_begin(struct listener_walk *walk, const struct log_view *view, uint64_t log);
enum sessionlog_status listener_walk_next(struct listener_walk *walk); /* END after the last */

/* Find the listener that the process holds, and leave the walk there. */
enum sessionlog_status listener_find(struct listener_walk *walk, const struct log_view *view,
                                     const struct sessionlog_listener *held);

/*
 * A place at the end of a chunk is the beginning of the next, if record `sequence` is there: make it so, and give the
 * chunk, in which that record must begin at *position.
 */
enum sessionlog_status place_settle(const struct log_view *view, uint64_t *chunk, uint64_t *position, uint64_t sequence,
                                    const struct chunk_block **block);

#endif
