/* SPDX-License-Identifier: MIT */
/* The decision table of recovery: see the head of classify.h. */
#include "recovery/classify.h"

enum ph_log_state ph_classify_log(const struct ph_superblock *superblock, enum ph_log_condition condition,
                                  const struct ph_log_header *header)
{
    switch (condition) {
    case PH_LOG_ABSENT:
        return PH_LOGSTATE_ABSENT;
    case PH_LOG_BLANK:
        return PH_LOGSTATE_BLANK;
    case PH_LOG_DAMAGED:
        return PH_LOGSTATE_DAMAGED;
    case PH_LOG_ALIEN:
        return PH_LOGSTATE_ALIEN;
    case PH_LOG_OWN:
        break;
    }
    if (header->epoch < superblock->epoch)
        return PH_LOGSTATE_OLDER;
    if (header->epoch == superblock->epoch)
        return PH_LOGSTATE_SAME;
    bool next = header->epoch == superblock->epoch + 1 && header->start_lsn == superblock->checkpoint_lsn &&
                header->start_chain == superblock->checkpoint_chain &&
                header->start_version == superblock->checkpoint_version;
    return next ? PH_LOGSTATE_NEXT : PH_LOGSTATE_NEWER;
}

enum ph_plan ph_classify(enum ph_superblock_state state, bool other_damaged, enum ph_log_state log)
{
    /* Rows: superblock CLEAN with a good other copy, CLEAN with a damaged one, OPEN with either. */
    static const enum ph_plan table[3][PH_LOGSTATES] = {
        {
            [PH_LOGSTATE_ABSENT] = PH_PLAN_CLEAN,
            [PH_LOGSTATE_BLANK] = PH_PLAN_CLEAN,
            [PH_LOGSTATE_DAMAGED] = PH_PLAN_REFUSE_DAMAGED_LOG,
            [PH_LOGSTATE_ALIEN] = PH_PLAN_REFUSE_ALIEN,
            [PH_LOGSTATE_OLDER] = PH_PLAN_CLEAN,
            [PH_LOGSTATE_SAME] = PH_PLAN_CLEAN,
            [PH_LOGSTATE_NEXT] = PH_PLAN_REPLAY_START,
            [PH_LOGSTATE_NEWER] = PH_PLAN_REFUSE_OLD_HEAP,
        },
        {
            [PH_LOGSTATE_ABSENT] = PH_PLAN_REFUSE_LOST_COPY,
            [PH_LOGSTATE_BLANK] = PH_PLAN_REFUSE_LOST_COPY,
            [PH_LOGSTATE_DAMAGED] = PH_PLAN_REFUSE_DAMAGED_LOG,
            [PH_LOGSTATE_ALIEN] = PH_PLAN_REFUSE_ALIEN,
            [PH_LOGSTATE_OLDER] = PH_PLAN_CLEAN,
            [PH_LOGSTATE_SAME] = PH_PLAN_CLEAN,
            [PH_LOGSTATE_NEXT] = PH_PLAN_REPLAY_START,
            [PH_LOGSTATE_NEWER] = PH_PLAN_REFUSE_OLD_HEAP,
        },
        {
            [PH_LOGSTATE_ABSENT] = PH_PLAN_REFUSE_MISSING,
            [PH_LOGSTATE_BLANK] = PH_PLAN_REFUSE_MISSING,
            [PH_LOGSTATE_DAMAGED] = PH_PLAN_REFUSE_DAMAGED_LOG,
            [PH_LOGSTATE_ALIEN] = PH_PLAN_REFUSE_ALIEN,
            [PH_LOGSTATE_OLDER] = PH_PLAN_REFUSE_OLD_LOG,
            [PH_LOGSTATE_SAME] = PH_PLAN_REPLAY_CHECKPOINT,
            [PH_LOGSTATE_NEXT] = PH_PLAN_REFUSE_OLD_HEAP,
            [PH_LOGSTATE_NEWER] = PH_PLAN_REFUSE_OLD_HEAP,
        },
    };
    unsigned row = state == PH_STATE_OPEN ? 2 : other_damaged ? 1 : 0;
    return table[row][log];
}

ph_status ph_plan_refuse(enum ph_plan plan, const char *heap_path, const char *log_path)
{
    switch (plan) {
    case PH_PLAN_REFUSE_MISSING:
        return ph_fail(PH_LOG_MISSING,
                       "%s: the heap was not closed cleanly and its log %s is missing; put the log back beside it",
                       heap_path, log_path);
    case PH_PLAN_REFUSE_DAMAGED_LOG:
        return ph_fail(PH_LOG_FOREIGN,
                       "%s: the header of this file is damaged or it is not a log; if the heap was closed cleanly "
                       "and this file is not needed, move it away",
                       log_path);
    case PH_PLAN_REFUSE_ALIEN:
        return ph_fail(PH_LOG_FOREIGN, "%s: this log belongs to another heap than %s; move it to where it belongs",
                       log_path, heap_path);
    case PH_PLAN_REFUSE_OLD_LOG:
        return ph_fail(PH_LOG_FOREIGN, "%s: this log is older than the heap %s, which needs its own to recover",
                       log_path, heap_path);
    case PH_PLAN_REFUSE_OLD_HEAP:
        return ph_fail(PH_LOG_FOREIGN,
                       "%s: the heap file is older than its log %s; if an old copy of the heap is wanted, move the "
                       "log away",
                       heap_path, log_path);
    case PH_PLAN_REFUSE_LOST_COPY:
        return ph_fail(PH_CORRUPT,
                       "%s: one of the superblocks (offsets 0 and 4096) is damaged and there is no log to tell "
                       "whether it was the newer one",
                       heap_path);
    case PH_PLAN_CLEAN:
    case PH_PLAN_REPLAY_CHECKPOINT:
    case PH_PLAN_REPLAY_START:
        break;
    }
    return PH_OK;
}

struct ph_log_origin ph_plan_origin(enum ph_plan plan, const struct ph_superblock *s,
                                    const struct ph_log_header *header)
{
    struct ph_log_origin origin = {
        .from = {s->checkpoint_lsn, s->checkpoint_chain, s->checkpoint_version, s->heap_bytes},
        .epoch = s->epoch,
        .segment = s->checkpoint_segment,
        .offset = s->checkpoint_offset,
    };
    if (plan == PH_PLAN_REPLAY_START) {
        origin.epoch = header->epoch;
        origin.segment = header->start_segment;
        origin.offset = 0;
    }
    return origin;
}

ph_status ph_judge_end(const char *log_path, const struct ph_superblock *superblock, uint64_t lsn,
                       const struct ph_scan_evidence *evidence, enum ph_record_fault fault)
{
    const char *why = fault == PH_RECORD_GOOD ? "there is no record" : ph_record_fault_text(fault);
    if (evidence->durable > lsn)
        return ph_fail(PH_CORRUPT,
                       "%s: the log is damaged at LSN %llu (%s): the batch at file offset %llu shows that it was "
                       "durable up to LSN %llu",
                       log_path, (unsigned long long)lsn, why, (unsigned long long)evidence->durable_at,
                       (unsigned long long)evidence->durable);
    if (superblock->state == PH_STATE_OPEN && superblock->durable_lsn > lsn)
        return ph_fail(PH_CORRUPT,
                       "%s: the log is damaged at LSN %llu (%s): the superblock says that it was durable up to LSN "
                       "%llu",
                       log_path, (unsigned long long)lsn, why, (unsigned long long)superblock->durable_lsn);
    if (evidence->newer_epoch != 0)
        return ph_fail(PH_LOG_FOREIGN, "%s: the log holds epoch %llu, the heap is at epoch %llu", log_path,
                       (unsigned long long)evidence->newer_epoch, (unsigned long long)superblock->epoch);
    return PH_OK;
}
