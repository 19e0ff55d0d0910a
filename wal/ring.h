/* SPDX-License-Identifier: MIT */
/*
 * The shared log buffer: the last buffer_bytes of the record stream, at LSN modulo its size.
 *
 * One writer (under the writer lock) appends; anybody copies out at any time.  Words are stored with release and loaded
 * with acquire order, and the writer announces in `reserved` how far it may be storing before it does, so a reader that
 * finds `reserved` unmoved past its record's lap after copying has a true copy (a seqlock; H.-J. Boehm, 2012).
 * Bytes not yet durable are never overwritten: the writer keeps stream end - durable <= buffer_bytes.
 */
#ifndef WAL_RING_H
#define WAL_RING_H

#include "wal/record.h"
#include "wal/wal.h"

/* Store `length` bytes (a multiple of 8) at `lsn`.  Only the holder of the writer lock. */
void ph_ring_append(struct ph_wal *wal, uint64_t lsn, const uint8_t *bytes, size_t length);

/* Copy `length` bytes at `lsn` out.  False if the writer has lapped them, or may have. */
bool ph_ring_copy(struct ph_wal *wal, uint64_t lsn, uint8_t *bytes, size_t length);

/* Copy bytes that cannot be overwritten meanwhile: not durable yet, under the flush lock. */
void ph_ring_copy_stable(struct ph_wal *wal, uint64_t lsn, uint8_t *bytes, size_t length);

/* The length field of the record at `lsn`, stable as above. */
uint32_t ph_ring_record_length(struct ph_wal *wal, uint64_t lsn);

/* Whether the buffer still has everything from `lsn` on. */
static inline bool ph_ring_has(struct ph_wal *wal, uint64_t lsn)
{
    return atomic_load_explicit(&wal->coord->reserved, memory_order_acquire) - lsn <= wal->buffer_bytes;
}

enum ph_ring_result { PH_RING_RECORD, PH_RING_LAPPED, PH_RING_NONE };

/*
 * Copy the record at place->lsn into `record` (record_max bytes) and check it.  LAPPED: overwritten; NONE: there is no
 * such record (*fault says why), which for a published LSN means damage.
 */
enum ph_ring_result ph_ring_read(struct ph_wal *wal, const struct ph_record_place *place, uint8_t *record,
                                 enum ph_record_fault *fault);

#endif
