/* SPDX-License-Identifier: MIT */
/* The log file: creation, header, slots. */
#include "io/checksum.h"
#include "io/failpoint.h"
#include "wal/record.h"
#include "wal/wal.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>

#define BATCH_MAX_BYTES (1u << 20)
#define ZERO_BYTES (1u << 20)

uint64_t ph_wal_heap_id(const uint8_t identity[16])
{
    return ph_checksum(identity, 16);
}

static uint32_t smaller(uint32_t a, uint32_t b)
{
    return a < b ? a : b;
}

ph_status ph_wal_init(struct ph_wal *wal, const ph_io *io, const char *heap_path,
                      const struct ph_superblock *superblock)
{
    *wal = (struct ph_wal){
        .io = io,
        .log_limit_bytes = superblock->log_limit_bytes,
        .segment_bytes = superblock->segment_bytes,
        .buffer_bytes = superblock->buffer_bytes,
        .file_mode = superblock->file_mode,
        .heap_id = ph_wal_heap_id(superblock->identity),
        .record_max = smaller(smaller(superblock->segment_bytes, superblock->buffer_bytes) / 4, BATCH_MAX_BYTES),
        .batch_max = smaller(smaller(superblock->buffer_bytes / 2, superblock->segment_bytes / 2), BATCH_MAX_BYTES),
    };
    memcpy(wal->identity, superblock->identity, sizeof wal->identity);
    size_t length = strlen(heap_path) + sizeof "-wal";
    wal->path = io->alloc(io->ctx, length, 16);
    wal->staging = io->alloc(io->ctx, wal->batch_max + 3 * (size_t)PH_PAGE_BYTES, PH_PAGE_BYTES);
    wal->local_lock_ready = ph_local_init(&wal->local_lock);
    if (wal->path == NULL || wal->staging == NULL || !wal->local_lock_ready) {
        ph_wal_deinit(wal);
        return ph_fail(PH_NO_MEMORY, "%s: out of memory opening the log", heap_path);
    }
    (void)snprintf(wal->path, length, "%s-wal", heap_path);
    return PH_OK;
}

void ph_wal_deinit(struct ph_wal *wal)
{
    if (wal->io == NULL)
        return;
    ph_file_close(&wal->file);
    if (wal->path != NULL)
        wal->io->free(wal->io->ctx, wal->path);
    if (wal->staging != NULL)
        wal->io->free(wal->io->ctx, wal->staging);
    if (wal->spare_record != NULL)
        wal->io->free(wal->io->ctx, wal->spare_record);
    if (wal->local_lock_ready)
        ph_local_deinit(&wal->local_lock);
    *wal = (struct ph_wal){0};
}

uint64_t ph_log_usable(const struct ph_wal *wal, uint64_t offset)
{
    assert(wal->block_bytes != 0);
    uint64_t lost = offset + ph_record_reserve(wal->record_max, wal->block_bytes);
    if (offset == 0)
        lost += wal->block_bytes; /* the segment header's */
    return lost < wal->segment_bytes ? wal->segment_bytes - lost : 0;
}

static ph_status open_file(struct ph_wal *wal, unsigned flags)
{
    ph_status status = ph_file_open(&wal->file, wal->io, wal->path, flags | PH_OPEN_DIRECT, wal->file_mode);
    if (status == PH_UNSUPPORTED)
        status = ph_file_open(&wal->file, wal->io, wal->path, flags, wal->file_mode);
    return status;
}

/* Read the header sector; *got is how much of it there is.  Reads a page, so that any block size will do. */
static ph_status read_header(struct ph_wal *wal, struct ph_log_header *header, size_t *got)
{
    ph_status status = ph_file_read(&wal->file, wal->staging, PH_PAGE_BYTES, 0, got);
    if (*got > sizeof *header)
        *got = sizeof *header;
    memset(header, 0, sizeof *header);
    memcpy(header, wal->staging, *got);
    return status;
}

static ph_status check_header(const struct ph_wal *wal, const struct ph_log_header *header,
                              enum ph_log_condition *condition)
{
    static const uint8_t zeros[sizeof *header];
    *condition = PH_LOG_DAMAGED;
    if (memcmp(header, zeros, sizeof zeros) == 0) {
        *condition = PH_LOG_BLANK;
        return PH_OK;
    }
    if (memcmp(header->magic, PH_LOG_MAGIC, sizeof header->magic) != 0)
        return PH_OK;
    if (header->byte_order == __builtin_bswap32(PH_BYTE_ORDER_MARK))
        return ph_fail(PH_BYTE_ORDER, "%s: written on a machine of another byte order", wal->path);
    if (header->checksum != ph_checksum(header, offsetof(struct ph_log_header, checksum)))
        return PH_OK;
    if (header->format_version != PH_FORMAT_VERSION)
        return ph_fail(PH_NEWER, "%s: log format %u; this library knows %u", wal->path, header->format_version,
                       PH_FORMAT_VERSION);
    if (memcmp(header->identity, wal->identity, sizeof wal->identity) != 0)
        *condition = PH_LOG_ALIEN;
    else if (header->segment_bytes == wal->segment_bytes && header->start_segment < PH_NUMBER_LIMIT &&
             (header->block_bytes == PH_SECTOR_BYTES || header->block_bytes == PH_PAGE_BYTES))
        *condition = PH_LOG_OWN;
    return PH_OK;
}

ph_status ph_log_inspect(struct ph_wal *wal, bool read_only, enum ph_log_condition *condition,
                         struct ph_log_header *header)
{
    memset(header, 0, sizeof *header);
    *condition = PH_LOG_ABSENT;
    ph_status status = open_file(wal, read_only ? PH_OPEN_READ : PH_OPEN_WRITE);
    if (status == PH_NOT_FOUND)
        return PH_OK;
    if (status != PH_OK)
        return status;
    size_t got = 0;
    status = read_header(wal, header, &got);
    if (status == PH_OK)
        status = check_header(wal, header, condition);
    if (status == PH_OK && *condition == PH_LOG_OWN) {
        wal->block_bytes = header->block_bytes;
        atomic_store(&wal->opened, true);
    } else {
        ph_file_close(&wal->file);
    }
    return status;
}

ph_status ph_log_count_slots(struct ph_wal *wal, uint32_t *count)
{
    struct ph_file_stat stat;
    ph_status status = ph_file_stat(&wal->file, &stat);
    if (status != PH_OK)
        return status;
    uint64_t slots = stat.size_bytes < PH_LOG_SEGMENTS ? 0 : (stat.size_bytes - PH_LOG_SEGMENTS) / wal->segment_bytes;
    *count = slots > PH_SEGMENTS_MAX ? PH_SEGMENTS_MAX : (uint32_t)slots;
    return PH_OK;
}

/* Zero-fill and sync one slot.  Only then it counts. */
static ph_status fill_slot(struct ph_wal *wal, uint32_t slot)
{
    const uint32_t part = smaller(wal->segment_bytes, ZERO_BYTES); /* both are powers of two */
    uint8_t *zeros = wal->io->alloc(wal->io->ctx, part, PH_PAGE_BYTES);
    if (zeros == NULL)
        return ph_fail(PH_NO_MEMORY, "%s: out of memory extending the log", wal->path);
    memset(zeros, 0, part);
    ph_status status = PH_OK;
    uint64_t start = ph_log_slot_offset(wal, slot);
    for (uint64_t at = 0; at < wal->segment_bytes && status == PH_OK; at += part)
        status = ph_file_write(&wal->file, zeros, part, start + at, 0);
    if (status == PH_OK)
        status = ph_file_sync(&wal->file);
    wal->io->free(wal->io->ctx, zeros);
    return status;
}

/* Write the header, finding out by trying which block size the device takes for direct writes. */
static ph_status write_header(struct ph_wal *wal, struct ph_log_header *header)
{
    static const uint32_t sizes[] = {PH_SECTOR_BYTES, PH_PAGE_BYTES};
    ph_status status = PH_OK;
    for (size_t i = header->block_bytes == PH_PAGE_BYTES ? 1 : 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        header->block_bytes = sizes[i];
        header->checksum = ph_checksum(header, offsetof(struct ph_log_header, checksum));
        memset(wal->staging, 0, PH_PAGE_BYTES);
        memcpy(wal->staging, header, sizeof *header);
        status = ph_file_write(&wal->file, wal->staging, sizes[i], 0, PH_WRITE_DSYNC);
        if (status != PH_UNSUPPORTED && status != PH_IO) /* EINVAL where the device's blocks are larger */
            break;
    }
    if (status == PH_OK)
        wal->block_bytes = header->block_bytes;
    return status;
}

ph_status ph_log_begin_epoch(struct ph_wal *wal, struct ph_log_header *header)
{
    struct ph_log_header old;
    enum ph_log_condition condition;
    ph_file_close(&wal->file);
    atomic_store(&wal->opened, false);
    ph_status status = ph_log_inspect(wal, false, &condition, &old);
    if (status != PH_OK)
        return status;
    if (condition == PH_LOG_ALIEN || condition == PH_LOG_DAMAGED)
        return ph_fail(PH_LOG_FOREIGN, "%s: this log %s; move it away if it is not needed", wal->path,
                       condition == PH_LOG_ALIEN ? "belongs to another heap" : "has a damaged header");
    if (condition != PH_LOG_OWN) {
        status = open_file(wal, PH_OPEN_WRITE | PH_OPEN_CREATE);
        if (status != PH_OK)
            return status;
    }
    memcpy(header->magic, PH_LOG_MAGIC, sizeof header->magic);
    header->byte_order = PH_BYTE_ORDER_MARK;
    header->format_version = PH_FORMAT_VERSION;
    memcpy(header->identity, wal->identity, sizeof header->identity);
    header->segment_bytes = wal->segment_bytes;
    header->block_bytes = condition == PH_LOG_OWN ? old.block_bytes : PH_SECTOR_BYTES;
    uint32_t slots = 0;
    if (condition == PH_LOG_OWN) /* without a header what is there may never have been synced */
        status = ph_log_count_slots(wal, &slots);
    for (uint32_t slot = slots; slot < PH_SEGMENTS_MIN && status == PH_OK; slot++)
        status = fill_slot(wal, slot);
    if (status == PH_OK && condition != PH_LOG_OWN) { /* a header vouches for the name */
        int result = wal->io->sync_directory(wal->io->ctx, wal->path);
        status = result < 0 ? ph_file_fail(wal->path, "cannot sync the directory", -result) : PH_OK;
    }
    PH_POINT(log_slots_ready);
    if (status == PH_OK)
        status = write_header(wal, header);
    if (status != PH_OK) {
        atomic_store(&wal->opened, false);
        ph_file_close(&wal->file);
        return status;
    }
    atomic_store(&wal->opened, true);
    return PH_OK;
}

ph_status ph_log_ensure_open(struct ph_wal *wal)
{
    if (atomic_load_explicit(&wal->opened, memory_order_acquire))
        return PH_OK;
    ph_local_lock(&wal->local_lock);
    ph_status status = PH_OK;
    if (!atomic_load(&wal->opened)) {
        ph_file_close(&wal->file);
        status = open_file(wal, PH_OPEN_WRITE);
        uint8_t *page = status == PH_OK ? wal->io->alloc(wal->io->ctx, PH_PAGE_BYTES, PH_PAGE_BYTES) : NULL;
        if (status == PH_OK && page == NULL)
            status = ph_fail(PH_NO_MEMORY, "%s: out of memory opening the log", wal->path);
        size_t got = 0;
        if (status == PH_OK)
            status = ph_file_read(&wal->file, page, PH_PAGE_BYTES, 0, &got);
        enum ph_log_condition condition = PH_LOG_BLANK;
        if (status == PH_OK && got >= sizeof(struct ph_log_header))
            status = check_header(wal, (const struct ph_log_header *)(const void *)page, &condition);
        if (status == PH_OK && condition != PH_LOG_OWN)
            status = ph_fail(PH_LOG_FOREIGN, "%s: the log was replaced while the heap is in use", wal->path);
        if (status == PH_OK)
            wal->block_bytes = ((const struct ph_log_header *)(const void *)page)->block_bytes;
        if (page != NULL)
            wal->io->free(wal->io->ctx, page);
        if (status == PH_OK)
            atomic_store_explicit(&wal->opened, true, memory_order_release);
        else
            ph_file_close(&wal->file);
    }
    ph_local_unlock(&wal->local_lock);
    return status;
}

ph_status ph_log_add_slot(struct ph_wal *wal)
{
    ph_status status = ph_log_ensure_open(wal);
    if (status != PH_OK)
        return status;
    /* Not by the file's size: what is beyond may be of one whose sync failed, or who died before it. */
    uint32_t slots = atomic_load(&wal->coord->slot_count);
    if (slots >= PH_SEGMENTS_MAX || ph_log_slot_offset(wal, slots + UINT64_C(1)) > wal->log_limit_bytes)
        return ph_fail(PH_LOG_FULL, "%s: the log is at its limit of %llu bytes", wal->path,
                       (unsigned long long)wal->log_limit_bytes);
    if (atomic_load(&wal->coord->slot_sequence[slots]) != 0) /* a count that rotted must not lead to one in use */
        return ph_coord_damaged(wal->path);
    status = fill_slot(wal, slots);
    PH_POINT(log_slot_filled);
    if (status == PH_OK)
        atomic_store_explicit(&wal->coord->slot_count, slots + 1, memory_order_release);
    return status;
}
