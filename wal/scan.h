/* SPDX-License-Identifier: MIT */
/*
 * Scan: read the records of the log file in order, and judge where they end.
 *
 * Records stand in batches, batches in segments.  From one batch the next is either on the next block of the same
 * segment or the first of the segment with the next sequence number.  Everything read is checked before it is used;
 * the scan ends at the first thing that does not follow.  Whether that end is a torn tail or damage is for
 * ph_scan_evidence to say (R9).
 */
#ifndef WAL_SCAN_H
#define WAL_SCAN_H

#include "wal/record.h"
#include "wal/wal.h"

struct ph_scan_position {
    uint64_t segment; /* sequence number */
    uint64_t offset;  /* in the segment, of the next record, or of the end of the last batch */
    uint64_t batch_end;
    uint64_t batch_start;         /* of the present batch's header */
    uint64_t batch_lsn;           /* of its first record; 0: no batch was entered yet */
    uint64_t batch_chain;         /* of the record before it */
    struct ph_record_place place; /* of the next record */
    bool started;                 /* the first batch has been found; from then on chains must match */
};

struct ph_scan {
    struct ph_wal *wal;
    uint64_t *slots; /* sequence number in each slot, 0 if none; owned */
    uint32_t slot_count;
    uint8_t *window; /* owned: bytes [window_at, window_at + window_length) of segment window_segment */
    uint64_t window_segment, window_at;
    size_t window_length, window_capacity;
    struct ph_scan_position position;
    enum ph_record_fault fault; /* why the scan ended, when in the middle of a batch */
};

/*
 * Begin at the batch at (segment, offset), which holds or precedes the record that `place` describes; records before it
 * are skipped.  slots: as in the coordination file if the heap is in use (slots NULL), else read from the segment
 * headers.  NO_MEMORY, IO.
 */
PH_MUST_CHECK ph_status ph_scan_init(struct ph_scan *scan, struct ph_wal *wal, uint64_t segment, uint64_t offset,
                                     const struct ph_record_place *place, bool in_use);
void ph_scan_deinit(struct ph_scan *scan);

/* The next record, valid until the next call.  END when there is none; IO. */
PH_MUST_CHECK ph_status ph_scan_next(struct ph_scan *scan, const uint8_t **record);

/* Go back to a position saved earlier. */
void ph_scan_seek(struct ph_scan *scan, const struct ph_scan_position *position);

/*
 * Make what can be read of the log from `lsn` on durable, and fit to be continued.
 *
 * Writes the blocks of every batch that begins at or after `lsn` again, as they are, up to the end of the good records:
 * then they are on stable storage, whatever became of the write that put them there.  If the good records end before
 * `end` and inside a batch, that batch is cut there, so that a batch appended behind it will be found.  segment, offset,
 * place: as for ph_scan_init.  *position is where to continue.  IO, NO_SPACE, NO_MEMORY.
 */
PH_MUST_CHECK ph_status ph_scan_secure(struct ph_wal *wal, uint64_t segment, uint64_t offset,
                                       const struct ph_record_place *place, uint64_t lsn, uint64_t end,
                                       struct ph_scan_position *position);

/* Put the slots of the segments from the scan's present one on into a coordination file; the others are free. */
void ph_scan_slots(const struct ph_scan *scan, struct ph_coord *coord);

/* What the blocks of the log file tell about a stream that ends at `lsn` in `epoch`. */
struct ph_scan_evidence {
    uint64_t durable;        /* the greatest durable LSN that a batch of this epoch vouches for */
    uint64_t durable_at;     /* file offset of that batch; 0: it is among those that were scanned */
    uint64_t newer_epoch;    /* the greatest epoch of any batch, if above `epoch`; else 0 */
    uint64_t newest_segment; /* the greatest sequence number of any segment or batch */
};

/* Weigh every block but those of the segments that the scan, which began with segment `first`, has passed: their batches
 * vouch for less than the one it stands in. */
PH_MUST_CHECK ph_status ph_scan_evidence(const struct ph_scan *scan, uint64_t first, struct ph_scan_evidence *evidence);

#endif
