/* SPDX-License-Identifier: MIT */
/*
 * What to do with a heap that nobody has open: the decision table of recovery.  Pure.
 *
 * Superblock: the good copy of higher generation, and whether the other copy is good.  A superblock is one sector, so a
 * crash leaves each copy old or new; a damaged copy means bit rot, and then the other serves only if nothing can be
 * missing.
 * Log: what its header says.  An epoch begins by writing the log header, then the OPEN superblock; it ends with the
 * CLEAN superblock.  So after a crash the header's epoch is that of the superblock, or one more with the place where
 * it starts equal to the superblock's checkpoint (NEXT).
 *
 *   superblock  other copy   log        action
 *   CLEAN       good         absent     clean: the log holds nothing
 *   CLEAN       good         blank      clean: its creation was cut short
 *   CLEAN       good         older,same clean
 *   CLEAN       any          next       replay from where the log says its epoch starts: the OPEN superblock was not
 *                                       written yet (then there are no records), or it was lost
 *   CLEAN       any          newer      refuse: the heap file is older than its log
 *   CLEAN       any          alien      refuse: it may be all that another heap has
 *   CLEAN       any          damaged    refuse: as alien
 *   CLEAN       damaged      absent     refuse: the damaged copy may have been newer
 *   CLEAN       damaged      blank      refuse: likewise
 *   CLEAN       damaged      older,same clean: no later epoch has begun
 *   OPEN        any          same       replay from the checkpoint
 *   OPEN        any          absent     refuse: log missing
 *   OPEN        any          blank      refuse: log missing (its header is all zeros)
 *   OPEN        any          damaged    refuse: log damaged
 *   OPEN        any          alien      refuse: foreign log
 *   OPEN        any          older      refuse: the log is older than the heap
 *   OPEN        any          next,newer refuse: the heap file is older than its log
 *
 * After replay, at the LSN x where the records of the log file end, whatever the buffer has: if the superblock or any
 * batch of this epoch says that the log was durable beyond x, or there are batches of a later epoch, refuse (damage); else
 * the rest was never acknowledged: cut.
 */
#ifndef RECOVERY_CLASSIFY_H
#define RECOVERY_CLASSIFY_H

#include "recovery/replay.h"
#include "wal/scan.h"
#include "wal/wal.h"

enum ph_log_state {
    PH_LOGSTATE_ABSENT,
    PH_LOGSTATE_BLANK,
    PH_LOGSTATE_DAMAGED,
    PH_LOGSTATE_ALIEN,
    PH_LOGSTATE_OLDER,
    PH_LOGSTATE_SAME,
    PH_LOGSTATE_NEXT,
    PH_LOGSTATE_NEWER,
    PH_LOGSTATES
};

enum ph_plan {
    PH_PLAN_CLEAN,
    PH_PLAN_REPLAY_CHECKPOINT,
    PH_PLAN_REPLAY_START,
    PH_PLAN_REFUSE_MISSING,
    PH_PLAN_REFUSE_DAMAGED_LOG,
    PH_PLAN_REFUSE_ALIEN,
    PH_PLAN_REFUSE_OLD_LOG,
    PH_PLAN_REFUSE_OLD_HEAP,
    PH_PLAN_REFUSE_LOST_COPY
};

enum ph_log_state ph_classify_log(const struct ph_superblock *superblock, enum ph_log_condition condition,
                                  const struct ph_log_header *header);

enum ph_plan ph_classify(enum ph_superblock_state state, bool other_damaged, enum ph_log_state log);

/* The status and text of a plan that refuses. */
ph_status ph_plan_refuse(enum ph_plan plan, const char *heap_path, const char *log_path);

/* Where replay begins, for the plans that replay. */
struct ph_log_origin ph_plan_origin(enum ph_plan plan, const struct ph_superblock *superblock,
                                    const struct ph_log_header *header);

/* Whether a stream of records that ends at `lsn` has lost something (R9): then a text in the detail, CORRUPT. */
PH_MUST_CHECK ph_status ph_judge_end(const char *log_path, const struct ph_superblock *superblock, uint64_t lsn,
                                     const struct ph_scan_evidence *evidence, enum ph_record_fault fault);

#endif
