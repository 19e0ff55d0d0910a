/* SPDX-License-Identifier: MIT */
/*
 * Replay: the committed transactions of a stretch of the log, in order, to whatever applies them.  The one function
 * behind views, fold and recovery.
 *
 * The stretch is read from the log file up to a switch-over LSN and from the shared buffer after it.  Transactions
 * that were begun in fragments and never committed are passed over.  Each operation has been checked to lie inside the
 * heap (R8) before it is handed on.
 */
#ifndef RECOVERY_REPLAY_H
#define RECOVERY_REPLAY_H

#include "wal/ring.h"
#include "wal/scan.h"

/* A commit boundary. */
struct ph_boundary {
    uint64_t lsn;
    uint64_t chain;
    uint64_t version;
    uint64_t heap_bytes;
};

/* Where the log that is to be replayed begins: at a record in or after the batch at (segment, offset). */
struct ph_log_origin {
    struct ph_boundary from;
    uint64_t epoch;
    uint64_t segment;
    uint64_t offset;
};

struct ph_replay {
    struct ph_wal *wal;
    struct ph_scan scan;
    bool scanning; /* the scan is open */
    bool in_ring;  /* reading the shared buffer now */
    bool use_ring;
    bool live;          /* other processes are at work: the end is known, and the log may be recycled under us */
    uint64_t ring_from; /* switch over at this LSN */
    uint64_t end;       /* stop at this LSN */
    struct ph_record_place place;
    struct ph_boundary boundary; /* after the last transaction handed on */
    uint8_t *record;             /* owned, a copy from the ring */
    enum ph_record_fault fault;
    uint64_t record_bytes; /* applied */
};

/* Does one operation.  A status other than OK stops the replay. */
typedef ph_status (*ph_replay_apply)(void *context, const struct ph_operation *operation);

/* Live: from a boundary that the shared buffer still holds, up to the commit boundary `end`. */
PH_MUST_CHECK ph_status ph_replay_init_ring(struct ph_replay *replay, struct ph_wal *wal,
                                            const struct ph_boundary *from, uint64_t end);

/*
 * Live: from `from`, whose record stands at or after the batch at (segment, offset) of the log, up to `end`.  What is
 * durable comes from the log file if from_log, else from the buffer if that still has it.
 */
PH_MUST_CHECK ph_status ph_replay_init_live(struct ph_replay *replay, struct ph_wal *wal,
                                            const struct ph_boundary *from, uint64_t segment, uint64_t offset,
                                            uint64_t end, bool from_log);

/* Recovery: as far as the records go; wal->coord, if not NULL, is a coordination file left by the last users. */
PH_MUST_CHECK ph_status ph_replay_init_recovery(struct ph_replay *replay, struct ph_wal *wal,
                                                const struct ph_log_origin *origin);

void ph_replay_deinit(struct ph_replay *replay);

/*
 * Run to the end; with apply NULL operations are only checked.  replay->boundary then tells how far; replay->place where
 * the records end.  Live: BUSY if the log was recycled or the buffer lapped under us, so that the caller must start anew
 * from a later fold.  CORRUPT, IO, NO_MEMORY.
 */
PH_MUST_CHECK ph_status ph_replay_run(struct ph_replay *replay, ph_replay_apply apply, void *context);

/*
 * Live: records [from, to) for one who holds the log, so that it cannot be recycled, as far as their transactions are
 * whole; *reached is the boundary after them.  From the buffer if that has them, and, if it is lapped meanwhile, once more
 * from the log file, which must do no harm.  CORRUPT, IO, NO_MEMORY.
 */
PH_MUST_CHECK ph_status ph_replay_live(struct ph_wal *wal, const struct ph_boundary *from, uint64_t segment,
                                       uint64_t offset, uint64_t to, ph_replay_apply apply, void *context,
                                       struct ph_boundary *reached);

/* Recovery: all of what has been found up to `end` before, once more.  IO if it is not what it was. */
PH_MUST_CHECK ph_status ph_replay_again(struct ph_wal *wal, const struct ph_log_origin *origin,
                                        const struct ph_boundary *end, ph_replay_apply apply, void *context);

#endif
