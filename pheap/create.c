/* SPDX-License-Identifier: MIT */
/*
 * Creation: a new heap file appears under its name complete, or not at all.
 *
 * It is made under NAME-new, synced, and renamed without replacing anything; then the directory is synced.  Creators
 * exclude each other by a lock on NAME-new; one that a crash left behind is made anew.
 */
#include "pheap/alloc.h"
#include "pheap/core.h"
#include "recovery/superblock.h"

#include <stdio.h>
#include <string.h>

#define LOG_LIMIT_DEFAULT (UINT64_C(256) << 20)
#define SEGMENT_DEFAULT (4u << 20)
#define BUFFER_DEFAULT (2u << 20)
#define ATTEMPTS_MAX 100

static bool power_of_two_within(uint32_t value, uint32_t least, uint32_t most)
{
    return value >= least && value <= most && (value & (value - 1)) == 0;
}

static ph_status fill_superblock(const ph_io *io, const char *path, const struct pheap_options *options,
                                 struct ph_superblock *superblock)
{
    uint32_t segment = options->segment_bytes != 0 ? options->segment_bytes : SEGMENT_DEFAULT;
    uint32_t buffer = options->buffer_bytes != 0 ? options->buffer_bytes : BUFFER_DEFAULT;
    uint64_t limit = options->log_limit_bytes != 0 ? options->log_limit_bytes : LOG_LIMIT_DEFAULT;
    if (!power_of_two_within(segment, PH_SEGMENT_MIN_BYTES, PH_SEGMENT_MAX_BYTES))
        return ph_fail(PH_INVALID, "segment_bytes is %u; it must be a power of two from %u to %u", segment,
                       PH_SEGMENT_MIN_BYTES, PH_SEGMENT_MAX_BYTES);
    if (!power_of_two_within(buffer, PH_BUFFER_MIN_BYTES, PH_BUFFER_MAX_BYTES))
        return ph_fail(PH_INVALID, "buffer_bytes is %u; it must be a power of two from %u to %u", buffer,
                       PH_BUFFER_MIN_BYTES, PH_BUFFER_MAX_BYTES);
    if (limit / segment <= PH_SEGMENTS_MIN || limit / segment > PH_SEGMENTS_MAX)
        return ph_fail(PH_INVALID, "log_limit_bytes is %llu; it must be more than %u and at most %u segments of %u",
                       (unsigned long long)limit, PH_SEGMENTS_MIN, PH_SEGMENTS_MAX, segment);
    if (options->mode > 0777)
        return ph_fail(PH_INVALID, "mode is 0%o; it has permission bits only, up to 0777", options->mode);
    *superblock = (struct ph_superblock){
        .byte_order = PH_BYTE_ORDER_MARK,
        .format_version = PH_FORMAT_VERSION,
        .page_bytes = PH_PAGE_BYTES,
        .state = PH_STATE_CLEAN,
        .generation = 1,
        .checkpoint_lsn = PH_FIRST_LSN,
        .heap_bytes = ph_alloc_initial_bytes(),
        .durable_lsn = PH_FIRST_LSN,
        .log_limit_bytes = limit,
        .segment_bytes = segment,
        .buffer_bytes = buffer,
        .file_mode = options->mode != 0 ? options->mode : 0666,
        .created_ns = io->clock_ns(io->ctx, PH_CLOCK_REALTIME),
    };
    memcpy(superblock->magic, PH_HEAP_MAGIC, sizeof superblock->magic);
    if (io->random(io->ctx, superblock->identity, sizeof superblock->identity) < 0)
        return ph_fail(PH_IO, "%s: the operating system gave no random numbers for the heap's identity", path);
    return PH_OK;
}

/* Write the whole file and sync it. */
static ph_status write_heap(struct ph_file *file, struct ph_superblock *superblock)
{
    const ph_io *io = file->io;
    size_t length = (size_t)superblock->heap_bytes;
    uint8_t *image = io->alloc(io->ctx, length, PH_PAGE_BYTES);
    if (image == NULL)
        return ph_fail(PH_NO_MEMORY, "%s: out of memory creating the heap", file->path);
    memset(image, 0, length);
    ph_alloc_format(image);
    for (int copy = 0; copy < 2; copy++) { /* generations 1 and 2 */
        ph_superblock_seal(superblock);
        memcpy(image + PH_SUPERBLOCK_OFFSET(superblock->copy), superblock, sizeof *superblock);
        superblock->generation++;
    }
    ph_status status = ph_file_truncate(file, 0);
    if (status == PH_OK)
        status = ph_file_write(file, image, length, 0, 0);
    if (status == PH_OK)
        status = ph_file_sync(file);
    io->free(io->ctx, image);
    return status;
}

/* Open and lock NAME-new; BUSY if somebody else renamed it meanwhile, so that it must be tried again. */
static ph_status open_new(const ph_io *io, const char *path, uint32_t mode, struct ph_file *file)
{
    struct ph_file_stat ours, named;
    ph_status status = ph_file_open(file, io, path, PH_OPEN_WRITE | PH_OPEN_CREATE, mode);
    if (status != PH_OK)
        return status;
    status = ph_file_lock(file, PH_LOCK_EXCLUSIVE, 0, 1, true);
    if (status == PH_OK)
        status = ph_file_stat(file, &ours);
    if (status == PH_OK &&
        (io->stat_path(io->ctx, path, &named) < 0 || named.inode != ours.inode || named.device != ours.device))
        status = ph_fail(PH_BUSY, "%s: another process is creating this heap", path);
    if (status != PH_OK)
        ph_file_close(file);
    return status;
}

static ph_status publish(const ph_io *io, const char *from, const char *path)
{
    int result = io->rename_new(io->ctx, from, path);
    if (result < 0)
        return ph_file_fail(path, "cannot create", -result);
    result = io->sync_directory(io->ctx, path);
    return result < 0 ? ph_file_fail(path, "cannot sync the directory", -result) : PH_OK;
}

ph_status ph_create(const ph_io *io, const char *path, const struct pheap_options *options)
{
    struct ph_superblock superblock;
    struct ph_file_stat stat;
    ph_status status = fill_superblock(io, path, options, &superblock);
    if (status != PH_OK)
        return status;
    size_t length = strlen(path) + sizeof "-new";
    char *beside = io->alloc(io->ctx, length, 16);
    if (beside == NULL)
        return ph_fail(PH_NO_MEMORY, "%s: out of memory creating the heap", path);
    (void)snprintf(beside, length, "%s-wal", path);
    if (io->stat_path(io->ctx, beside, &stat) == 0 && stat.size_bytes > 0) {
        status = ph_fail(PH_LOG_FOREIGN, "%s exists though %s does not: the log of a heap that is gone; move it away",
                         beside, path);
        io->free(io->ctx, beside);
        return status;
    }
    (void)snprintf(beside, length, "%s-new", path);
    for (int attempt = 0; attempt < ATTEMPTS_MAX; attempt++) {
        struct ph_file file;
        status = open_new(io, beside, superblock.file_mode, &file);
        if (status == PH_BUSY)
            continue;
        if (status == PH_OK) {
            status = write_heap(&file, &superblock);
            if (status == PH_OK)
                status = publish(io, beside, path);
            if (status != PH_OK)
                (void)io->unlink(io->ctx, beside);
            ph_file_close(&file);
        }
        break;
    }
    io->free(io->ctx, beside);
    return status;
}
