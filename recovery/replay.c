/* SPDX-License-Identifier: MIT */
/* Replay: the committed transactions of a stretch of the log, in order. */
#include "recovery/replay.h"

#define SPARE_MIN (64u << 10) /* from here on memory is dear: glibc's free() tidies up all of its arena then */

struct position {
    struct ph_scan_position scan;
    struct ph_record_place place;
    bool in_ring;
};

static ph_status init(struct ph_replay *replay, struct ph_wal *wal, uint64_t epoch, const struct ph_boundary *from)
{
    *replay = (struct ph_replay){
        .wal = wal,
        .boundary = *from,
        .place = {.heap_id = wal->heap_id, .epoch = epoch, .lsn = from->lsn, .chain = from->chain},
    };
    replay->record = atomic_exchange_explicit(&wal->spare_record, NULL, memory_order_acquire);
    if (replay->record == NULL)
        replay->record = wal->io->alloc(wal->io->ctx, wal->record_max, 64);
    return replay->record == NULL ? ph_fail(PH_NO_MEMORY, "%s: out of memory replaying the log", wal->path) : PH_OK;
}

ph_status ph_replay_init_ring(struct ph_replay *replay, struct ph_wal *wal, const struct ph_boundary *from,
                              uint64_t end)
{
    ph_status status = init(replay, wal, wal->coord->checkpoint.epoch, from);
    replay->live = replay->use_ring = replay->in_ring = true;
    replay->end = end;
    return status;
}

ph_status ph_replay_init_live(struct ph_replay *replay, struct ph_wal *wal, const struct ph_boundary *from,
                              uint64_t segment, uint64_t offset, uint64_t end, bool from_log)
{
    ph_status status = init(replay, wal, wal->coord->checkpoint.epoch, from);
    if (status != PH_OK)
        return status;
    replay->live = replay->use_ring = true;
    replay->end = end;
    replay->ring_from = atomic_load_explicit(&wal->coord->durable, memory_order_acquire);
    replay->in_ring = from->lsn >= replay->ring_from || (!from_log && ph_ring_has(wal, from->lsn));
    if (from->lsn >= end || replay->in_ring)
        return PH_OK;
    status = ph_scan_init(&replay->scan, wal, segment, offset, &replay->place, true);
    replay->scanning = status == PH_OK;
    if (status != PH_OK)
        ph_replay_deinit(replay);
    return status;
}

ph_status ph_replay_init_recovery(struct ph_replay *replay, struct ph_wal *wal, const struct ph_log_origin *origin)
{
    ph_status status = init(replay, wal, origin->epoch, &origin->from);
    if (status != PH_OK)
        return status;
    replay->use_ring = wal->coord != NULL;
    replay->ring_from = UINT64_MAX;
    replay->end = UINT64_MAX;
    status = ph_scan_init(&replay->scan, wal, origin->segment, origin->offset, &replay->place, false);
    replay->scanning = status == PH_OK;
    if (status != PH_OK)
        ph_replay_deinit(replay);
    return status;
}

void ph_replay_deinit(struct ph_replay *replay)
{
    if (replay->wal == NULL)
        return;
    if (replay->scanning)
        ph_scan_deinit(&replay->scan);
    uint8_t *record = replay->record;
    if (record != NULL && replay->wal->record_max >= SPARE_MIN)
        record = atomic_exchange_explicit(&replay->wal->spare_record, record, memory_order_acq_rel);
    if (record != NULL)
        replay->wal->io->free(replay->wal->io->ctx, record);
    *replay = (struct ph_replay){0};
}

static ph_status next_from_log(struct ph_replay *replay, const uint8_t **record)
{
    ph_status status = ph_scan_next(&replay->scan, record);
    if (status == PH_OK) {
        replay->place = replay->scan.position.place;
        return PH_OK;
    }
    *record = NULL; /* the scan may have passed over some */
    if (status != PH_END)
        return status;
    if (replay->live) /* the log goes on, so it was recycled under us */
        return ph_fail(PH_BUSY, "%s: the log was recycled while it was read", replay->wal->path);
    replay->fault = replay->scan.fault;
    uint64_t reached = replay->scan.position.place.lsn;
    if (reached < replay->place.lsn) /* where replay begins was durable once */
        return ph_fail(PH_CORRUPT, "%s: the log is damaged at LSN %llu (%s): replay begins at LSN %llu",
                       replay->wal->path, (unsigned long long)reached, ph_record_fault_text(replay->fault),
                       (unsigned long long)replay->place.lsn);
    if (!replay->use_ring)
        return PH_END;
    replay->in_ring = true;
    return PH_OK;
}

static ph_status next_from_ring(struct ph_replay *replay, const uint8_t **record)
{
    enum ph_record_fault fault = PH_RECORD_GOOD;
    enum ph_ring_result result = ph_ring_read(replay->wal, &replay->place, replay->record, &fault);
    if (result == PH_RING_RECORD) {
        const struct ph_record_header *header = (const struct ph_record_header *)(const void *)replay->record;
        replay->place.lsn += header->length;
        replay->place.chain = header->checksum;
        *record = replay->record;
        return PH_OK;
    }
    if (!replay->live)
        return PH_END;
    if (result == PH_RING_LAPPED)
        return ph_fail(PH_BUSY, "%s: the shared log buffer was lapped while it was read", replay->wal->path);
    return ph_fail(PH_CORRUPT, "%s: the record at LSN %llu in the shared log buffer is damaged: %s", replay->wal->path,
                   (unsigned long long)replay->place.lsn, ph_record_fault_text(fault));
}

/* The next record of whatever transaction. */
static ph_status next_record(struct ph_replay *replay, const uint8_t **record)
{
    *record = NULL;
    if (replay->place.lsn >= replay->end)
        return PH_END;
    if (!replay->in_ring && replay->place.lsn >= replay->ring_from)
        replay->in_ring = true;
    if (!replay->in_ring) {
        ph_status status = next_from_log(replay, record);
        if (status != PH_OK || *record != NULL)
            return status;
    }
    return next_from_ring(replay, record);
}

/* The same, and where it stands, for restore. */
static ph_status next_and_save(struct ph_replay *replay, struct position *before,
                               const struct ph_record_header **header)
{
    const uint8_t *record;
    *before = (struct position){.scan = replay->scan.position, .place = replay->place, .in_ring = replay->in_ring};
    ph_status status = next_record(replay, &record);
    *header = (const struct ph_record_header *)(const void *)record;
    return status;
}

static void restore(struct ph_replay *replay, const struct position *position)
{
    if (replay->scanning)
        ph_scan_seek(&replay->scan, &position->scan);
    replay->place = position->place;
    replay->in_ring = position->in_ring;
}

/* Check one operation against the heap and hand it on, if there is whom to. */
static ph_status hand_on(struct ph_replay *replay, const struct ph_operation *operation, ph_replay_apply apply,
                         void *context, uint64_t lsn)
{
    uint64_t *heap_bytes = &replay->boundary.heap_bytes;
    if (operation->kind == PH_OPERATION_GROW) {
        if (operation->value < *heap_bytes)
            return ph_fail(PH_CORRUPT, "%s: the record at LSN %llu shrinks the heap", replay->wal->path,
                           (unsigned long long)lsn);
        *heap_bytes = operation->value;
    } else if (operation->offset < 2 * PH_PAGE_BYTES || operation->length > *heap_bytes ||
               operation->offset > *heap_bytes - operation->length) {
        return ph_fail(PH_CORRUPT, "%s: the record at LSN %llu changes offset %llu, outside the heap",
                       replay->wal->path, (unsigned long long)lsn, (unsigned long long)operation->offset);
    }
    return apply != NULL ? apply(context, operation) : PH_OK;
}

static ph_status apply_record(struct ph_replay *replay, const struct ph_record_header *header, ph_replay_apply apply,
                              void *context)
{
    const uint8_t *record = (const uint8_t *)header;
    replay->record_bytes += header->length;
    uint32_t cursor = sizeof *header;
    struct ph_operation operation;
    while (ph_record_next(record, &cursor, &operation)) {
        ph_status status = hand_on(replay, &operation, apply, context, header->lsn);
        if (status != PH_OK)
            return status;
    }
    if ((header->flags & PH_RECORD_LAST) != 0) {
        replay->boundary.lsn = replay->place.lsn;
        replay->boundary.chain = replay->place.chain;
        replay->boundary.version = header->version;
    }
    return PH_OK;
}

/*
 * After the first fragment of a transaction: read on until its last.  *complete: it was committed.  If not, the
 * position is left where the next transaction begins, or at the end.
 */
static ph_status look_ahead(struct ph_replay *replay, bool *complete)
{
    *complete = false;
    for (;;) {
        struct position here;
        const struct ph_record_header *header;
        ph_status status = next_and_save(replay, &here, &header);
        if (status != PH_OK)
            return status == PH_END ? PH_OK : status;
        if ((header->flags & PH_RECORD_FIRST) != 0) {
            restore(replay, &here);
            return PH_OK;
        }
        if ((header->flags & PH_RECORD_LAST) != 0) {
            *complete = true;
            return PH_OK;
        }
    }
}

ph_status ph_replay_run(struct ph_replay *replay, ph_replay_apply apply, void *context)
{
    bool inside = false; /* in a transaction known to be complete */
    for (;;) {
        struct position here;
        const struct ph_record_header *header;
        ph_status status = next_and_save(replay, &here, &header);
        if (status != PH_OK)
            return status == PH_END ? PH_OK : status;
        bool first = (header->flags & PH_RECORD_FIRST) != 0, last = (header->flags & PH_RECORD_LAST) != 0;
        if (!first && !inside)
            return ph_fail(PH_CORRUPT, "%s: the record at LSN %llu continues a transaction that never began",
                           replay->wal->path, (unsigned long long)header->lsn);
        if (first && !last) {
            status = look_ahead(replay, &inside);
            if (status != PH_OK)
                return status;
            if (!inside)
                continue;
            restore(replay, &here);
            status = next_and_save(replay, &here, &header);
            if (status != PH_OK)
                return status != PH_END
                           ? status
                           : ph_fail(PH_IO, "%s: the log read differently the second time", replay->wal->path);
        }
        status = apply_record(replay, header, apply, context);
        if (status != PH_OK)
            return status;
        if (last)
            inside = false;
    }
}

ph_status ph_replay_live(struct ph_wal *wal, const struct ph_boundary *from, uint64_t segment, uint64_t offset,
                         uint64_t to, ph_replay_apply apply, void *context, struct ph_boundary *reached)
{
    struct ph_replay replay;
    ph_status status = PH_BUSY;
    for (int i = 0; i < 2 && status == PH_BUSY; i++) {
        status = ph_replay_init_live(&replay, wal, from, segment, offset, to, i > 0);
        if (status != PH_OK)
            return status;
        status = ph_replay_run(&replay, apply, context);
        if (status == PH_OK)
            *reached = replay.boundary;
        ph_replay_deinit(&replay);
    }
    if (status == PH_BUSY)
        return ph_fail(PH_CORRUPT,
                       "%s: the log was damaged while the heap is in use: records from LSN %llu to %llu are not there",
                       wal->path, (unsigned long long)from->lsn, (unsigned long long)to);
    return status;
}

ph_status ph_replay_again(struct ph_wal *wal, const struct ph_log_origin *origin, const struct ph_boundary *end,
                          ph_replay_apply apply, void *context)
{
    struct ph_replay replay;
    ph_status status = ph_replay_init_recovery(&replay, wal, origin);
    if (status != PH_OK)
        return status;
    replay.end = end->lsn;
    status = ph_replay_run(&replay, apply, context);
    if (status == PH_OK && replay.boundary.lsn != end->lsn)
        status = ph_fail(PH_IO, "%s: the log read differently the second time", wal->path);
    ph_replay_deinit(&replay);
    return status;
}
