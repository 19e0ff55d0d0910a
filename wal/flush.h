/* SPDX-License-Identifier: MIT */
/*
 * Flush: the shared buffer's records to the log file, for everybody who waits (group commit).
 *
 * Whoever takes the flush lock writes all that is published and not durable, in batches, each one direct synchronous
 * write of fresh blocks from private memory (R10), then publishes `durable` and wakes the others.  Nobody retries a
 * failed write: it poisons the heap (R7).
 *
 * Space: a commit may publish only while the sum of its records' reserves (ph_record_reserve: the record alone in a
 * batch) stays within reserve_limit, which is what was flushed plus, for the current and each free segment, its size
 * less its headers less the reserve of the largest record.  A segment is left only when the next record does not fit,
 * so it has then absorbed at least that much: a published record always finds room.
 */
#ifndef WAL_FLUSH_H
#define WAL_FLUSH_H

#include "wal/wal.h"

/* Return when everything before `lsn` is durable; TIMEOUT if that takes another, who is at it, longer than timeout_ns
 * (UINT64_MAX: no limit).  POISONED. */
PH_MUST_CHECK ph_status ph_flush_to(struct ph_wal *wal, uint64_t lsn, uint64_t timeout_ns);

/* Everything published when called. */
PH_MUST_CHECK ph_status ph_flush_all(struct ph_wal *wal);

/* Compute reserve_limit anew after slots were added or freed.  Takes the flush lock; TIMEOUT if another has it for longer
 * than timeout_ns: then the next flush or checkpoint does it.  CORRUPT. */
PH_MUST_CHECK ph_status ph_flush_update_limit(struct ph_wal *wal, uint64_t timeout_ns);

/* The same for one who is alone, or holds the flush lock. */
void ph_flush_set_limit(struct ph_wal *wal);

#endif
