/* SPDX-License-Identifier: MIT */
/*
 * pheap log: list the records in the log file.
 *
 * Reads the superblock and the log file as they are, without recovery and without a lock, so it shows a crashed heap
 * as the crash left it, and a heap in use as it is written.  What a writer recycles meanwhile is left out.
 *
 * The segments in the file are listed by epoch and sequence number.  A scan from the first of them runs as far as
 * records follow each other; the next scan begins with the segment behind that.  Segments whose records the heap file
 * already has are shown too, for as long as they have not been overwritten.
 */
#include "tools/output.h"

#include <inttypes.h>
#include <stdlib.h>

#include "io/disk.h"
#include "io/file.h"
#include "recovery/superblock.h"
#include "wal/record.h"
#include "wal/scan.h"

struct segment {
    uint64_t epoch;
    uint64_t sequence;
    uint64_t lsn;   /* of its first batch */
    uint64_t chain; /* that this batch claims */
};

struct listing {
    struct output *output;
    struct ph_file heap;
    struct ph_superblock superblock;
    struct ph_wal wal;
    struct ph_log_header header;
    struct segment *segments; /* owned; by epoch, then sequence */
    size_t segment_count;
    uint64_t record_count; /* shown so far */
    uint64_t end_lsn;      /* where the last scan ended */
    uint64_t end_epoch;
    enum ph_record_fault end_fault; /* and why */
};

static enum pheap_status public_status(ph_status status)
{
    return (enum pheap_status)status;
}

/* ------------------------------------------------------------------------------------------------- the segments */

static int compare_segments(const void *left_address, const void *right_address)
{
    const struct segment *left = left_address;
    const struct segment *right = right_address;
    if (left->epoch != right->epoch)
        return left->epoch < right->epoch ? -1 : 1;
    return (left->sequence > right->sequence) - (left->sequence < right->sequence);
}

/*
 * Take down the segment in `slot` if its headers say that it holds records.  They are only hints of where to begin:
 * the scan checks everything again.
 */
static ph_status read_segment(struct listing *listing, uint32_t slot, uint8_t *page)
{
    struct ph_wal *wal = &listing->wal;
    uint64_t start = ph_log_slot_offset(wal, slot);
    size_t got = 0;
    ph_status status = ph_file_read(&wal->file, page, PH_PAGE_BYTES, start, &got);
    if (status != PH_OK || got < PH_PAGE_BYTES)
        return status;
    const struct ph_segment_header *header = (const struct ph_segment_header *)(const void *)page;
    if (header->magic != PH_SEGMENT_MAGIC || header->heap_id != wal->heap_id)
        return PH_OK;
    struct segment segment = {.epoch = header->epoch, .sequence = header->sequence};
    if (wal->block_bytes >= PH_PAGE_BYTES) {
        status = ph_file_read(&wal->file, page, PH_PAGE_BYTES, start + wal->block_bytes, &got);
        if (status != PH_OK || got < PH_PAGE_BYTES)
            return status;
    }
    size_t at = wal->block_bytes % PH_PAGE_BYTES;
    const struct ph_batch_header *batch = (const struct ph_batch_header *)(const void *)(page + at);
    if (batch->magic == PH_BATCH_MAGIC && batch->sequence == segment.sequence && batch->epoch == segment.epoch) {
        segment.lsn = batch->lsn;
        segment.chain = batch->chain;
        listing->segments[listing->segment_count++] = segment;
    }
    return PH_OK;
}

static ph_status read_segments(struct listing *listing)
{
    const ph_io *io = listing->wal.io;
    uint32_t slot_count = 0;
    ph_status status = ph_log_count_slots(&listing->wal, &slot_count);
    if (status != PH_OK)
        return status;
    listing->segments = calloc((size_t)slot_count + 1, sizeof *listing->segments);
    uint8_t *page = io->alloc(io->ctx, PH_PAGE_BYTES, PH_PAGE_BYTES);
    if (listing->segments == NULL || page == NULL)
        status = ph_fail(PH_NO_MEMORY, "%s: out of memory reading the log", listing->wal.path);
    for (uint32_t slot = 0; slot < slot_count && status == PH_OK; slot++)
        status = read_segment(listing, slot, page);
    if (page != NULL)
        io->free(io->ctx, page);
    if (status == PH_OK)
        qsort(listing->segments, listing->segment_count, sizeof *listing->segments, compare_segments);
    return status;
}

/* -------------------------------------------------------------------------------------------------- the records */

/* Whether recovery would replay this record. */
static bool needed(const struct listing *listing, const struct ph_record_header *header)
{
    const struct ph_superblock *superblock = &listing->superblock;
    if (header->epoch == superblock->epoch)
        return superblock->state == PH_STATE_OPEN && header->lsn >= superblock->checkpoint_lsn;
    return header->epoch == superblock->epoch + 1 && header->epoch == listing->header.epoch;
}

static void write_operation(struct output *output, const struct ph_operation *operation)
{
    output_json_begin(output, NULL, '{');
    switch (operation->kind) {
    case PH_OPERATION_WRITE:
        output_text(output, "    write  %" PRIu64 " + %" PRIu64 "\n", operation->offset, operation->length);
        output_json_string(output, "kind", "write");
        output_json_u64(output, "offset", operation->offset);
        output_json_u64(output, "length", operation->length);
        break;
    case PH_OPERATION_FILL:
        output_text(output, "    fill   %" PRIu64 " + %" PRIu64 " with 0x%" PRIx64 "\n", operation->offset,
                    operation->length, operation->value);
        output_json_string(output, "kind", "fill");
        output_json_u64(output, "offset", operation->offset);
        output_json_u64(output, "length", operation->length);
        output_json_u64(output, "value", operation->value);
        break;
    case PH_OPERATION_GROW:
        output_text(output, "    grow   to %" PRIu64 "\n", operation->value);
        output_json_string(output, "kind", "grow");
        output_json_u64(output, "heap_bytes", operation->value);
        break;
    }
    output_json_end(output, '}');
}

static void write_ranges(struct output *output, const uint8_t *record)
{
    struct ph_operation operation;
    uint32_t cursor = sizeof(struct ph_record_header);
    output_json_begin(output, "ranges", '[');
    while (ph_record_next(record, &cursor, &operation))
        write_operation(output, &operation);
    output_json_end(output, ']');
}

static void write_record(struct listing *listing, const uint8_t *record)
{
    struct output *output = listing->output;
    const struct ph_record_header *header = (const struct ph_record_header *)(const void *)record;
    bool first = (header->flags & PH_RECORD_FIRST) != 0;
    bool last = (header->flags & PH_RECORD_LAST) != 0;
    const char *part = first && last ? "whole" : first ? "first part" : last ? "last part" : "middle part";
    uint64_t range_count = 0;
    uint64_t changed_bytes = 0;
    struct ph_operation operation;
    uint32_t cursor = sizeof *header;
    while (ph_record_next(record, &cursor, &operation)) {
        range_count++;
        if (operation.kind != PH_OPERATION_GROW)
            changed_bytes += operation.length;
    }
    output_text(output,
                "LSN %" PRIu64 "  epoch %" PRIu64 "  commit %" PRIu64 " (%s)  %" PRIu32 " bytes  %" PRIu64
                " ranges of %" PRIu64 " bytes  %s\n",
                header->lsn, header->epoch, header->version, part, header->length, range_count, changed_bytes,
                needed(listing, header) ? "needed" : "old");
    output_json_begin(output, NULL, '{');
    output_json_u64(output, "lsn", header->lsn);
    output_json_u64(output, "epoch", header->epoch);
    output_json_u64(output, "version", header->version);
    output_json_bool(output, "first", first);
    output_json_bool(output, "last", last);
    output_json_u64(output, "bytes", header->length);
    output_json_u64(output, "durable_lsn", header->durable);
    output_json_u64(output, "range_count", range_count);
    output_json_u64(output, "changed_bytes", changed_bytes);
    output_json_bool(output, "needed", needed(listing, header));
    if (output->request->ranges)
        write_ranges(output, record);
    output_json_end(output, '}');
}

/* Show the records that follow each other from `segment` on; *last becomes the last segment they are in. */
static ph_status list_run(struct listing *listing, const struct segment *segment, uint64_t *last)
{
    const struct request *request = listing->output->request;
    struct ph_record_place place = {
        .heap_id = listing->wal.heap_id, .epoch = segment->epoch, .lsn = segment->lsn, .chain = segment->chain};
    struct ph_scan scan;
    ph_status status = ph_scan_init(&scan, &listing->wal, segment->sequence, listing->wal.block_bytes, &place, false);
    if (status != PH_OK)
        return status;
    const uint8_t *record = NULL;
    while (listing->record_count < request->count_max && (status = ph_scan_next(&scan, &record)) == PH_OK) {
        const struct ph_record_header *header = (const struct ph_record_header *)(const void *)record;
        if (header->lsn >= request->from_lsn) {
            write_record(listing, record);
            listing->record_count++;
        }
    }
    *last = scan.position.segment;
    listing->end_lsn = scan.position.place.lsn;
    listing->end_epoch = segment->epoch;
    listing->end_fault = scan.fault;
    ph_scan_deinit(&scan);
    return status == PH_END ? PH_OK : status;
}

static ph_status list_records(struct listing *listing)
{
    ph_status status = PH_OK;
    for (size_t i = 0; i < listing->segment_count && status == PH_OK;) {
        if (listing->record_count >= listing->output->request->count_max)
            break;
        const struct segment *start = &listing->segments[i];
        uint64_t last = start->sequence;
        status = list_run(listing, start, &last);
        do
            i++;
        while (i < listing->segment_count && listing->segments[i].epoch == start->epoch &&
               listing->segments[i].sequence <= last);
    }
    return status;
}

/* ----------------------------------------------------------------------------------------------------- the command */

static void write_head(struct listing *listing)
{
    struct output *output = listing->output;
    const struct ph_superblock *superblock = &listing->superblock;
    char identity[33];
    output_format_identity(superblock->identity, identity);
    bool clean = superblock->state == PH_STATE_CLEAN;
    output_text(output, "heap %s, %s; checkpoint at LSN %" PRIu64 " of epoch %" PRIu64 ", commit %" PRIu64 "\n",
                identity, clean ? "closed cleanly" : "in use, or left by a crash", superblock->checkpoint_lsn,
                superblock->epoch, superblock->checkpoint_version);
    output_json_string(output, "identity", identity);
    output_json_bool(output, "clean", clean);
    output_json_u64(output, "epoch", superblock->epoch);
    output_json_u64(output, "checkpoint_lsn", superblock->checkpoint_lsn);
    output_json_u64(output, "checkpoint_version", superblock->checkpoint_version);
    output_json_u64(output, "durable_lsn", superblock->durable_lsn);
}

/*
 * Whether records are missing that were on stable storage once (R9).  A writer that goes on meanwhile may recycle
 * segments under the scan; then the superblock is another one by now, and nothing can be said.
 */
static bool records_lost(struct listing *listing)
{
    const struct request *request = listing->output->request;
    const struct ph_superblock *superblock = &listing->superblock;
    if (superblock->state != PH_STATE_OPEN || listing->record_count >= request->count_max)
        return false;
    uint64_t end = listing->end_epoch == superblock->epoch ? listing->end_lsn : superblock->checkpoint_lsn;
    struct ph_superblock now;
    bool other_damaged = false;
    return end < superblock->durable_lsn && ph_superblock_read(&listing->heap, &now, &other_damaged) == PH_OK &&
           now.generation == superblock->generation;
}

static enum exit_code write_end(struct listing *listing)
{
    struct output *output = listing->output;
    if (records_lost(listing)) {
        ph_status status = ph_fail(PH_CORRUPT,
                                   "%s: the records end at LSN %" PRIu64 " (%s), but the superblock says that the log "
                                   "was durable up to LSN %" PRIu64,
                                   listing->wal.path, listing->end_lsn, ph_record_fault_text(listing->end_fault),
                                   listing->superblock.durable_lsn);
        return output_failure(output, public_status(status));
    }
    if (listing->record_count == 0)
        output_text(output, "no records\n");
    else if (listing->end_fault != PH_RECORD_GOOD)
        output_text(output, "end at LSN %" PRIu64 ": what follows is not a record (%s)\n", listing->end_lsn,
                    ph_record_fault_text(listing->end_fault));
    output_json_u64(output, "record_count", listing->record_count);
    return EXIT_DONE;
}

/* No log that can be read: is that an error? */
static enum exit_code write_without_log(struct listing *listing, enum ph_log_condition condition)
{
    struct output *output = listing->output;
    const char *path = listing->wal.path;
    bool missing = condition == PH_LOG_ABSENT || condition == PH_LOG_BLANK;
    if (missing && listing->superblock.state == PH_STATE_CLEAN) {
        output_json_begin(output, "records", '[');
        output_json_end(output, ']');
        return write_end(listing);
    }
    ph_status status;
    if (missing)
        status = ph_fail(PH_LOG_MISSING, "%s: the heap was not closed cleanly, and its log is missing", path);
    else if (condition == PH_LOG_DAMAGED)
        status = ph_fail(PH_CORRUPT, "%s: the header of the log is damaged", path);
    else
        status = ph_fail(PH_LOG_FOREIGN, "%s: this log belongs to another heap", path);
    return output_failure(output, public_status(status));
}

static enum exit_code list_log(struct listing *listing)
{
    struct output *output = listing->output;
    enum ph_log_condition condition = PH_LOG_ABSENT;
    ph_status status = ph_log_inspect(&listing->wal, true, &condition, &listing->header);
    if (status != PH_OK)
        return output_failure(output, public_status(status));
    write_head(listing);
    if (condition != PH_LOG_OWN)
        return write_without_log(listing, condition);
    output_json_begin(output, "records", '[');
    status = read_segments(listing);
    if (status == PH_OK)
        status = list_records(listing);
    output_json_end(output, ']');
    return status == PH_OK ? write_end(listing) : output_failure(output, public_status(status));
}

/* Open the heap file, if it is one, and believe the better of its superblocks. */
static ph_status open_heap(struct listing *listing, const char *path)
{
    const ph_io *io = ph_io_posix();
    struct ph_file_stat stat;
    bool other_damaged = false;
    ph_status status = ph_file_open(&listing->heap, io, path, PH_OPEN_READ, 0);
    if (status == PH_OK)
        status = ph_file_stat(&listing->heap, &stat);
    if (status == PH_OK && stat.type != PH_FILE_REGULAR)
        status = ph_fail(PH_NOT_HEAP, "%s: not a regular file, so it is not a heap", path);
    if (status == PH_OK)
        status = ph_superblock_read(&listing->heap, &listing->superblock, &other_damaged);
    if (status == PH_OK)
        status = ph_wal_init(&listing->wal, io, path, &listing->superblock);
    return status;
}

enum exit_code cmd_log(const struct request *request, struct output *output)
{
    struct listing *listing = calloc(1, sizeof *listing);
    if (listing == NULL)
        return output_failure_text(output, PHEAP_NO_MEMORY, "out of memory");
    listing->output = output;
    ph_status status = open_heap(listing, request->path);
    enum exit_code code = status == PH_OK ? list_log(listing) : output_failure(output, public_status(status));
    ph_wal_deinit(&listing->wal);
    ph_file_close(&listing->heap);
    free(listing->segments);
    free(listing);
    return code;
}
