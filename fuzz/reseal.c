/* SPDX-License-Identifier: MIT */
/* Making checksums right. */
#include "fuzz/reseal.h"

#include "io/checksum.h"
#include "io/disk.h"
#include "wal/wal.h"

#include <stdlib.h>
#include <string.h>

#define LOG_MAX_BYTES (4u << 20) /* larger logs are left alone */
#define BATCHES_MAX 1024u

/* Where the stream has come to. */
struct place {
    bool known;
    uint64_t epoch, lsn, chain;
};

static uint32_t load32(const uint8_t *bytes)
{
    uint32_t value;
    memcpy(&value, bytes, sizeof value);
    return value;
}

static uint64_t load64(const uint8_t *bytes)
{
    uint64_t value;
    memcpy(&value, bytes, sizeof value);
    return value;
}

/* -------------------------------------------------------------------------------------------------------- the log */

void fuzz_log_load(struct fuzz_log *log, const struct fuzz_image *image)
{
    uint64_t length = (uint64_t)image->sectors * FUZZ_SECTOR_BYTES;
    *log = (struct fuzz_log){.segment_bytes = PH_SEGMENT_MIN_BYTES};
    if (length < PH_LOG_SEGMENTS || length > LOG_MAX_BYTES)
        return;
    log->length = (size_t)length;
    log->bytes = fuzz_memory(NULL, log->length);
    fuzz_image_to_bytes(image, log->bytes, log->length);
    uint32_t segment = load32(log->bytes + offsetof(struct ph_log_header, segment_bytes));
    if (segment >= PH_SEGMENT_MIN_BYTES && segment <= PH_SEGMENT_MAX_BYTES && (segment & (segment - 1)) == 0)
        log->segment_bytes = segment;
}

void fuzz_log_store(const struct fuzz_log *log, struct fuzz_image *image)
{
    if (log->bytes != NULL)
        fuzz_image_from_bytes(image, log->bytes, log->length);
}

void fuzz_log_deinit(struct fuzz_log *log)
{
    free(log->bytes);
    *log = (struct fuzz_log){0};
}

static int by_place(const void *a, const void *b)
{
    const struct fuzz_batch *left = a, *right = b;
    if (left->sequence != right->sequence)
        return left->sequence < right->sequence ? -1 : 1;
    return left->at < right->at ? -1 : left->at > right->at;
}

size_t fuzz_log_batches(const struct fuzz_log *log, struct fuzz_batch *batches, size_t most)
{
    size_t count = 0;
    for (size_t at = PH_LOG_SEGMENTS; at + sizeof(struct ph_batch_header) <= log->length && count < most;
         at += PH_SECTOR_BYTES) {
        if (load32(log->bytes + at) != PH_BATCH_MAGIC)
            continue;
        batches[count++] =
            (struct fuzz_batch){at, load64(log->bytes + at + offsetof(struct ph_batch_header, sequence))};
    }
    if (count > 0)
        qsort(batches, count, sizeof batches[0], by_place);
    return count;
}

size_t fuzz_record_length(const uint8_t *bytes, size_t at, size_t end)
{
    if (end - at < sizeof(struct ph_record_header) + 8)
        return 0;
    size_t length = load32(bytes + at + offsetof(struct ph_record_header, length));
    return length < sizeof(struct ph_record_header) + 8 || length % 8 != 0 || length > end - at ? 0 : length;
}

size_t fuzz_batch_end(const struct fuzz_log *log, size_t at)
{
    size_t start = at + sizeof(struct ph_batch_header);
    size_t length = load32(log->bytes + at + offsetof(struct ph_batch_header, length));
    size_t segment_end = ((at - PH_LOG_SEGMENTS) / log->segment_bytes + 1) * log->segment_bytes + PH_LOG_SEGMENTS;
    size_t end = segment_end < log->length ? segment_end : log->length;
    return length < end - start ? start + length : end;
}

/* ------------------------------------------------------------------------------------------------------- resealing */

void fuzz_reseal_record(uint8_t *record, size_t length)
{
    uint64_t checksum = ph_checksum(record + 8, length - 8);
    memcpy(record, &checksum, sizeof checksum);
}

/* The records in [at, end) of `bytes`. */
static void reseal_records(uint8_t *bytes, size_t at, size_t end, uint64_t heap_id, uint64_t epoch, struct place *place,
                           enum fuzz_seal seal, struct ph_superblock *checkpoint)
{
    size_t length;
    while ((length = fuzz_record_length(bytes, at, end)) != 0) {
        struct ph_record_header header;
        memcpy(&header, bytes + at, sizeof header);
        if (seal == FUZZ_RELINK) {
            header.lsn = place->lsn;
            header.chain = place->chain;
            header.heap_id = heap_id;
            header.epoch = epoch;
        }
        memcpy(bytes + at, &header, sizeof header);
        fuzz_reseal_record(bytes + at, length);
        place->lsn = header.lsn + length;
        place->chain = load64(bytes + at);
        if (seal == FUZZ_RELINK && place->lsn == checkpoint->checkpoint_lsn)
            checkpoint->checkpoint_chain = place->chain;
        at += length;
    }
}

static void reseal_batch(struct fuzz_log *log, const struct fuzz_batch *batch, uint64_t heap_id, struct place *place,
                         enum fuzz_seal seal, struct ph_superblock *checkpoint)
{
    struct ph_batch_header header;
    memcpy(&header, log->bytes + batch->at, sizeof header);
    if (seal == FUZZ_RELINK) {
        if (!place->known || place->epoch != header.epoch)
            *place = (struct place){true, header.epoch, header.lsn, header.chain};
        header.heap_id = heap_id;
        header.lsn = place->lsn;
        header.chain = place->chain;
    }
    header.checksum = ph_checksum(&header, offsetof(struct ph_batch_header, checksum));
    memcpy(log->bytes + batch->at, &header, sizeof header);
    reseal_records(log->bytes, batch->at + sizeof header, fuzz_batch_end(log, batch->at), heap_id, header.epoch, place,
                   seal, checkpoint);
}

static void reseal_segments(struct fuzz_log *log, uint64_t heap_id, enum fuzz_seal seal)
{
    for (size_t at = PH_LOG_SEGMENTS; at + sizeof(struct ph_segment_header) <= log->length; at += log->segment_bytes) {
        struct ph_segment_header header;
        memcpy(&header, log->bytes + at, sizeof header);
        if (header.magic != PH_SEGMENT_MAGIC)
            continue;
        if (seal == FUZZ_RELINK)
            header.heap_id = heap_id;
        header.checksum = ph_checksum(&header, offsetof(struct ph_segment_header, checksum));
        memcpy(log->bytes + at, &header, sizeof header);
    }
}

static void reseal_log_header(struct fuzz_log *log, const struct ph_superblock *heap, enum fuzz_seal seal)
{
    struct ph_log_header header;
    memcpy(&header, log->bytes, sizeof header);
    if (memcmp(header.magic, PH_LOG_MAGIC, sizeof header.magic) != 0)
        return;
    if (seal == FUZZ_RELINK)
        memcpy(header.identity, heap->identity, sizeof header.identity);
    header.checksum = ph_checksum(&header, offsetof(struct ph_log_header, checksum));
    memcpy(log->bytes, &header, sizeof header);
}

/* The superblock that counts, as it is; the log's header stands in if the heap has none. */
static struct ph_superblock find_checkpoint(const struct fuzz_input *input, const struct fuzz_log *log)
{
    struct ph_superblock found = {0}, s;
    if (log->bytes != NULL) {
        struct ph_log_header header;
        memcpy(&header, log->bytes, sizeof header);
        memcpy(found.identity, header.identity, sizeof found.identity);
    }
    for (uint32_t copy = 0; copy < 2; copy++) {
        const uint8_t *sector = fuzz_image_sector(&input->heap, copy * (PH_PAGE_BYTES / FUZZ_SECTOR_BYTES));
        if (sector == NULL)
            continue;
        memcpy(&s, sector, sizeof s);
        if (s.generation >= found.generation)
            found = s;
    }
    return found;
}

static void reseal_superblocks(struct fuzz_input *input, const struct ph_superblock *checkpoint)
{
    for (uint32_t copy = 0; copy < 2; copy++) {
        uint8_t *sector = fuzz_image_sector(&input->heap, copy * (PH_PAGE_BYTES / FUZZ_SECTOR_BYTES));
        struct ph_superblock s;
        if (sector == NULL)
            continue;
        memcpy(&s, sector, sizeof s);
        if (s.generation == checkpoint->generation)
            s.checkpoint_chain = checkpoint->checkpoint_chain;
        s.checksum = ph_checksum(&s, offsetof(struct ph_superblock, checksum));
        memcpy(sector, &s, sizeof s);
    }
}

void fuzz_reseal(struct fuzz_input *input, enum fuzz_seal seal)
{
    struct fuzz_log log;
    struct fuzz_batch batches[BATCHES_MAX];
    fuzz_log_load(&log, &input->log);
    struct ph_superblock checkpoint = find_checkpoint(input, &log);
    uint64_t heap_id = ph_wal_heap_id(checkpoint.identity), epoch = checkpoint.epoch;
    struct place place = {0};
    if (log.bytes != NULL) {
        struct ph_log_header header;
        size_t count = fuzz_log_batches(&log, batches, BATCHES_MAX);
        reseal_log_header(&log, &checkpoint, seal);
        reseal_segments(&log, heap_id, seal);
        for (size_t i = 0; i < count; i++)
            reseal_batch(&log, &batches[i], heap_id, &place, seal, &checkpoint);
        memcpy(&header, log.bytes, sizeof header);
        epoch = header.epoch;
        fuzz_log_store(&log, &input->log);
    }
    if (input->ring.length > 8) {
        if (!place.known)
            place = (struct place){true, epoch, checkpoint.checkpoint_lsn, checkpoint.checkpoint_chain};
        if (seal == FUZZ_RELINK)
            memcpy(input->ring.data, &place.lsn, sizeof place.lsn);
        reseal_records(input->ring.data, 8, input->ring.length, heap_id, epoch, &place, seal, &checkpoint);
    }
    reseal_superblocks(input, &checkpoint);
    fuzz_log_deinit(&log);
}
