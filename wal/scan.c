/* SPDX-License-Identifier: MIT */
/* Scan: the records of the log file in order, and where they end. */
#include "wal/scan.h"

#include "io/checksum.h"

#include <string.h>

#define WINDOW_BYTES (8u << 20)

static bool segment_header_good(const struct ph_wal *wal, const struct ph_segment_header *header)
{
    return header->magic == PH_SEGMENT_MAGIC && header->heap_id == wal->heap_id && header->sequence != 0 &&
           header->sequence < PH_NUMBER_LIMIT &&
           header->checksum == ph_checksum(header, offsetof(struct ph_segment_header, checksum));
}

static bool batch_header_good(const struct ph_wal *wal, const struct ph_batch_header *header)
{
    return header->magic == PH_BATCH_MAGIC && header->heap_id == wal->heap_id && header->length % 8 == 0 &&
           header->length >= sizeof(struct ph_record_header) && header->sequence < PH_NUMBER_LIMIT &&
           header->checksum == ph_checksum(header, offsetof(struct ph_batch_header, checksum));
}

static ph_status no_memory(const struct ph_wal *wal)
{
    return ph_fail(PH_NO_MEMORY, "%s: out of memory reading the log", wal->path);
}

/* Sequence numbers from the coordination file. */
static void take_slots(struct ph_scan *scan)
{
    for (uint32_t slot = 0; slot < scan->slot_count; slot++)
        scan->slots[slot] = atomic_load_explicit(&scan->wal->coord->slot_sequence[slot], memory_order_acquire);
}

/* Sequence numbers from the headers of this epoch's segments. */
static ph_status read_slots(struct ph_scan *scan)
{
    for (uint32_t slot = 0; slot < scan->slot_count; slot++) {
        size_t got;
        ph_status status =
            ph_file_read(&scan->wal->file, scan->window, PH_PAGE_BYTES, ph_log_slot_offset(scan->wal, slot), &got);
        if (status != PH_OK)
            return status;
        const struct ph_segment_header *header = (const struct ph_segment_header *)(const void *)scan->window;
        scan->slots[slot] = got >= sizeof *header && segment_header_good(scan->wal, header) &&
                                    header->epoch == scan->position.place.epoch
                                ? header->sequence
                                : 0;
    }
    return PH_OK;
}

ph_status ph_scan_init(struct ph_scan *scan, struct ph_wal *wal, uint64_t segment, uint64_t offset,
                       const struct ph_record_place *place, bool in_use)
{
    *scan = (struct ph_scan){.wal = wal};
    scan->position =
        (struct ph_scan_position){.segment = segment, .offset = offset, .batch_end = offset, .place = *place};
    ph_status status = ph_log_ensure_open(wal);
    if (status == PH_OK && in_use)
        scan->slot_count = atomic_load_explicit(&wal->coord->slot_count, memory_order_acquire);
    else if (status == PH_OK)
        status = ph_log_count_slots(wal, &scan->slot_count);
    if (status != PH_OK)
        return status;
    if (scan->slot_count > PH_SEGMENTS_MAX)
        scan->slot_count = PH_SEGMENTS_MAX;
    scan->window_capacity = wal->segment_bytes < WINDOW_BYTES ? wal->segment_bytes : WINDOW_BYTES;
    scan->slots = wal->io->alloc(wal->io->ctx, (scan->slot_count + 1) * sizeof *scan->slots, 16);
    scan->window = wal->io->alloc(wal->io->ctx, scan->window_capacity, PH_PAGE_BYTES);
    if (scan->slots == NULL || scan->window == NULL)
        status = no_memory(wal);
    else if (in_use)
        take_slots(scan);
    else
        status = read_slots(scan);
    if (status != PH_OK)
        ph_scan_deinit(scan);
    return status;
}

void ph_scan_deinit(struct ph_scan *scan)
{
    if (scan->wal == NULL)
        return;
    const ph_io *io = scan->wal->io;
    if (scan->slots != NULL)
        io->free(io->ctx, scan->slots);
    if (scan->window != NULL)
        io->free(io->ctx, scan->window);
    *scan = (struct ph_scan){0};
}

void ph_scan_seek(struct ph_scan *scan, const struct ph_scan_position *position)
{
    scan->position = *position;
}

static int64_t find_slot(const struct ph_scan *scan, uint64_t sequence)
{
    for (uint32_t slot = 0; slot < scan->slot_count; slot++)
        if (scan->slots[slot] == sequence)
            return (int64_t)slot;
    return -1;
}

/*
 * Have bytes [at, at + length) of the present segment in the window; NULL in *bytes if they reach past its end or the
 * segment is not there.
 */
static ph_status window(struct ph_scan *scan, uint64_t at, uint64_t length, const uint8_t **bytes)
{
    struct ph_wal *wal = scan->wal;
    *bytes = NULL;
    if (length > wal->segment_bytes || at > wal->segment_bytes - length)
        return PH_OK;
    bool present = scan->window_segment == scan->position.segment && at >= scan->window_at &&
                   at + length <= scan->window_at + scan->window_length;
    if (!present) {
        int64_t slot = find_slot(scan, scan->position.segment);
        if (slot < 0)
            return PH_OK;
        uint64_t start = at & ~(uint64_t)(PH_PAGE_BYTES - 1);
        uint64_t most = wal->segment_bytes - start;
        if (most > scan->window_capacity)
            most = scan->window_capacity;
        scan->window_segment = 0;
        ph_status status = ph_file_read(&wal->file, scan->window, most, ph_log_slot_offset(wal, (uint64_t)slot) + start,
                                        &scan->window_length);
        if (status != PH_OK)
            return status;
        scan->window_segment = scan->position.segment;
        scan->window_at = start;
        if (at + length > start + scan->window_length)
            return PH_OK;
    }
    *bytes = scan->window + (at - scan->window_at);
    return PH_OK;
}

/* Whether a good batch that continues the stream stands at `offset` of the present segment; if so, enter it. */
static ph_status enter_batch(struct ph_scan *scan, uint64_t offset, bool *entered)
{
    const struct ph_batch_header *header;
    const uint8_t *bytes;
    struct ph_scan_position *position = &scan->position;
    *entered = false;
    ph_status status = window(scan, offset, sizeof *header, &bytes);
    if (status != PH_OK || bytes == NULL)
        return status;
    header = (const struct ph_batch_header *)(const void *)bytes;
    if (!batch_header_good(scan->wal, header) || header->epoch != position->place.epoch ||
        header->sequence != position->segment || header->length > scan->wal->segment_bytes - offset - sizeof *header)
        return PH_OK;
    if (position->started ? header->lsn != position->place.lsn || header->chain != position->place.chain
                          : header->lsn > position->place.lsn)
        return PH_OK;
    position->batch_start = offset;
    position->batch_lsn = header->lsn;
    position->batch_chain = header->chain;
    position->offset = offset + sizeof *header;
    position->batch_end = position->offset + header->length;
    if (!position->started) { /* records before the one wanted are checked too, from here */
        position->place.lsn = header->lsn;
        position->place.chain = header->chain;
        position->started = true;
    }
    *entered = true;
    return PH_OK;
}

/* Find the batch after the present one: on the next block, or first in the next segment. */
static ph_status next_batch(struct ph_scan *scan, bool *entered)
{
    struct ph_scan_position *position = &scan->position;
    uint64_t block = scan->wal->block_bytes;
    uint64_t offset = (position->batch_end + block - 1) & ~(block - 1);
    ph_status status = PH_OK;
    *entered = false;
    if (offset == 0)
        offset = block; /* a segment not yet begun */
    if (offset < scan->wal->segment_bytes)
        status = enter_batch(scan, offset, entered);
    if (status != PH_OK || *entered)
        return status;
    struct ph_scan_position saved = *position;
    position->segment++;
    const uint8_t *bytes;
    status = window(scan, 0, sizeof(struct ph_segment_header), &bytes);
    if (status == PH_OK && bytes != NULL) {
        const struct ph_segment_header *header = (const struct ph_segment_header *)(const void *)bytes;
        if (segment_header_good(scan->wal, header) && header->epoch == position->place.epoch &&
            header->sequence == position->segment)
            status = enter_batch(scan, block, entered);
    }
    if (!*entered)
        *position = saved;
    return status;
}

static ph_status next_any(struct ph_scan *scan, const uint8_t **record)
{
    struct ph_scan_position *position = &scan->position;
    if (position->offset >= position->batch_end) {
        bool entered;
        ph_status status = next_batch(scan, &entered);
        if (status != PH_OK)
            return status;
        if (!entered)
            return PH_END;
    }
    const uint8_t *bytes;
    uint64_t available = position->batch_end - position->offset;
    uint64_t most = available < scan->wal->record_max ? available : scan->wal->record_max;
    ph_status status = window(scan, position->offset, most, &bytes);
    if (status != PH_OK)
        return status;
    scan->fault = bytes == NULL ? PH_RECORD_SHORT : ph_record_check(bytes, most, &position->place);
    if (scan->fault != PH_RECORD_GOOD)
        return PH_END;
    const struct ph_record_header *header = (const struct ph_record_header *)(const void *)bytes;
    position->offset += header->length;
    position->place.lsn += header->length;
    position->place.chain = header->checksum;
    *record = bytes;
    return PH_OK;
}

ph_status ph_scan_next(struct ph_scan *scan, const uint8_t **record)
{
    struct ph_record_place wanted = scan->position.place;
    if (scan->position.started)
        return next_any(scan, record);
    for (;;) { /* from the batch that the position names to the record that was asked for */
        ph_status status = next_any(scan, record);
        if (status == PH_END && !scan->position.started)
            return status; /* nothing was written from here on */
        const struct ph_record_place *at = &scan->position.place;
        if (status == PH_END && at->lsn < wanted.lsn) {
            scan->position.started = true;
            return PH_END;
        }
        if (status != PH_OK)
            return status;
        const struct ph_record_header *header = (const struct ph_record_header *)(const void *)*record;
        if (header->lsn < wanted.lsn)
            continue;
        if (header->lsn == wanted.lsn && header->chain == wanted.chain)
            return PH_OK;
        scan->position.place = wanted;
        scan->fault = PH_RECORD_CHAIN;
        return PH_END;
    }
}

/* Read the blocks of the present batch, with those of the segment's header if it is the first. */
static ph_status read_batch(struct ph_scan *scan, uint8_t **bytes, uint64_t *length, uint64_t *file_offset)
{
    struct ph_wal *wal = scan->wal;
    uint64_t block = wal->block_bytes, end = (scan->position.batch_end + block - 1) & ~(block - 1);
    uint64_t start = scan->position.batch_start == block ? 0 : scan->position.batch_start;
    int64_t slot = find_slot(scan, scan->position.segment);
    *length = end - start;
    *file_offset = ph_log_slot_offset(wal, (uint64_t)slot) + start;
    *bytes = wal->io->alloc(wal->io->ctx, *length, PH_PAGE_BYTES);
    return *bytes == NULL ? no_memory(wal) : ph_file_read_exact(&wal->file, *bytes, *length, *file_offset);
}

static ph_status rewrite_batch(struct ph_scan *scan)
{
    struct ph_wal *wal = scan->wal;
    uint8_t *bytes = NULL;
    uint64_t length, at;
    ph_status status = read_batch(scan, &bytes, &length, &at);
    if (status == PH_OK)
        status = ph_file_write(&wal->file, bytes, length, at, PH_WRITE_DSYNC);
    if (bytes != NULL)
        wal->io->free(wal->io->ctx, bytes);
    return status;
}

/* End the present batch at the scan's position. */
static ph_status cut_batch(struct ph_scan *scan)
{
    struct ph_wal *wal = scan->wal;
    struct ph_scan_position *position = &scan->position;
    uint64_t block = wal->block_bytes, first = position->batch_start + sizeof(struct ph_batch_header);
    if (position->offset == first) { /* nothing of it is good: the next batch takes its place, and writes the segment's
                                        header again if that stood with it */
        position->batch_end = position->offset = position->batch_start == block ? 0 : position->batch_start;
        return PH_OK;
    }
    uint8_t *bytes = NULL;
    uint64_t length, at;
    position->batch_end = position->offset;
    ph_status status = read_batch(scan, &bytes, &length, &at);
    if (status == PH_OK) {
        uint64_t skipped = position->batch_start == block ? block : 0, good = position->offset - first;
        struct ph_batch_header *header = (struct ph_batch_header *)(void *)(bytes + skipped);
        header->length = (uint32_t)good;
        header->checksum = ph_checksum(header, offsetof(struct ph_batch_header, checksum));
        uint64_t used = skipped + sizeof *header + good;
        memset(bytes + used, 0, length - used);
        status = ph_file_write(&wal->file, bytes, length, at, PH_WRITE_DSYNC);
    }
    if (bytes != NULL)
        wal->io->free(wal->io->ctx, bytes);
    return status;
}

ph_status ph_scan_secure(struct ph_wal *wal, uint64_t segment, uint64_t offset, const struct ph_record_place *place,
                         uint64_t lsn, uint64_t end, struct ph_scan_position *position)
{
    struct ph_scan scan;
    ph_status status = ph_scan_init(&scan, wal, segment, offset, place, false);
    if (status != PH_OK)
        return status;
    uint64_t rewritten = 0; /* LSN of the batch last looked at */
    const uint8_t *record;
    while ((status = ph_scan_next(&scan, &record)) == PH_OK) {
        if (scan.position.batch_lsn < lsn || scan.position.batch_lsn == rewritten)
            continue;
        rewritten = scan.position.batch_lsn;
        status = rewrite_batch(&scan);
        if (status != PH_OK)
            break;
    }
    if (status == PH_END)
        status = PH_OK;
    if (status == PH_OK && scan.position.place.lsn < end && scan.position.offset < scan.position.batch_end)
        status = cut_batch(&scan);
    *position = scan.position;
    ph_scan_deinit(&scan);
    return status;
}

void ph_scan_slots(const struct ph_scan *scan, struct ph_coord *coord)
{
    for (uint32_t slot = 0; slot < scan->slot_count; slot++)
        atomic_store(&coord->slot_sequence[slot], scan->slots[slot] >= scan->position.segment ? scan->slots[slot] : 0);
    atomic_store(&coord->slot_count, scan->slot_count);
}

/* Take note of what stands at the start of one block. */
static void weigh_block(const struct ph_wal *wal, const uint8_t *block, uint64_t at, uint64_t epoch,
                        struct ph_scan_evidence *evidence)
{
    uint64_t block_epoch, durable, sequence;
    const struct ph_batch_header *batch = (const struct ph_batch_header *)(const void *)block;
    const struct ph_segment_header *segment = (const struct ph_segment_header *)(const void *)block;
    if (batch->magic == PH_BATCH_MAGIC && batch_header_good(wal, batch)) {
        block_epoch = batch->epoch;
        durable = batch->durable;
        sequence = batch->sequence;
    } else if (segment->magic == PH_SEGMENT_MAGIC && segment_header_good(wal, segment)) {
        block_epoch = segment->epoch;
        durable = segment->durable;
        sequence = segment->sequence;
    } else {
        return;
    }
    if (sequence > evidence->newest_segment)
        evidence->newest_segment = sequence;
    if (block_epoch == epoch && durable > evidence->durable) {
        evidence->durable = durable;
        evidence->durable_at = at;
    }
    if (block_epoch > epoch && block_epoch > evidence->newer_epoch)
        evidence->newer_epoch = block_epoch;
}

ph_status ph_scan_evidence(const struct ph_scan *scan, uint64_t first, struct ph_scan_evidence *evidence)
{
    struct ph_wal *wal = scan->wal;
    const struct ph_scan_position *position = &scan->position;
    *evidence = (struct ph_scan_evidence){.durable = position->batch_lsn, .newest_segment = position->segment};
    size_t capacity = wal->segment_bytes < WINDOW_BYTES ? wal->segment_bytes : WINDOW_BYTES;
    uint8_t *bytes = wal->io->alloc(wal->io->ctx, capacity, PH_PAGE_BYTES);
    if (bytes == NULL)
        return no_memory(wal);
    ph_status status = PH_OK;
    for (uint32_t slot = 0; slot < scan->slot_count && status == PH_OK; slot++) {
        if (scan->slots[slot] >= first && scan->slots[slot] < position->segment)
            continue;
        uint64_t at = ph_log_slot_offset(wal, slot), end = at + wal->segment_bytes;
        for (; at < end && status == PH_OK; at += capacity) {
            size_t got = 0;
            status = ph_file_read(&wal->file, bytes, capacity, at, &got);
            for (size_t block = 0; status == PH_OK && block + PH_SECTOR_BYTES <= got; block += PH_SECTOR_BYTES)
                weigh_block(wal, bytes + block, at + block, position->place.epoch, evidence);
        }
    }
    wal->io->free(wal->io->ctx, bytes);
    return status;
}
