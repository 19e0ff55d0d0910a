/* SPDX-License-Identifier: MIT */
/*
 * Creation: a new heap file appears under its name complete, or not at all.
 *
 * It is made under NAME-new, synced, and renamed without replacing anything; then the directory is synced
 * (io/newfile.h).
 */
#include "io/failpoint.h"
#include "io/newfile.h"
#include "pheap/alloc.h"
#include "pheap/core.h"
#include "recovery/superblock.h"

#include <stdio.h>
#include <string.h>

#define LOG_LIMIT_DEFAULT (UINT64_C(256) << 20)
#define SEGMENT_DEFAULT (4u << 20)
#define BUFFER_DEFAULT (2u << 20)

static bool power_of_two_within(uint32_t value, uint32_t least, uint32_t most)
{
    return value >= least && value <= most && (value & (value - 1)) == 0;
}

ph_status ph_create_superblock(const ph_io *io, const char *path, const struct pheap_options *options,
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
        .incompat_flags = options->checksums != 0 ? PH_INCOMPAT_SUMS : 0,
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

/* Write the whole file. */
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
    ph_status status = ph_file_write(file, image, length, 0, 0);
    io->free(io->ctx, image);
    return status;
}

ph_status ph_create_check_log(const ph_io *io, const char *path)
{
    struct ph_file_stat stat;
    size_t length = strlen(path) + sizeof "-wal";
    char *log = io->alloc(io->ctx, length, 16);
    if (log == NULL)
        return ph_fail(PH_NO_MEMORY, "%s: out of memory creating the heap", path);
    (void)snprintf(log, length, "%s-wal", path);
    ph_status status = PH_OK;
    bool found = io->stat_path(io->ctx, log, &stat) == 0 && stat.size_bytes > 0;
    if (found && io->stat_path(io->ctx, path, &stat) == 0) /* another has made both since we looked */
        status = ph_fail(PH_EXISTS, "%s: the file exists", path);
    else if (found)
        status = ph_fail(PH_LOG_FOREIGN, "%s exists though %s does not: the log of a heap that is gone; move it away",
                         log, path);
    io->free(io->ctx, log);
    return status;
}

ph_status ph_create(const ph_io *io, const char *path, const struct pheap_options *options)
{
    struct ph_superblock superblock;
    struct ph_newfile file;
    ph_status status = ph_create_superblock(io, path, options, &superblock);
    if (status == PH_OK)
        status = ph_create_check_log(io, path);
    if (status == PH_OK)
        status = ph_newfile_begin(&file, io, path, superblock.file_mode, false);
    if (status != PH_OK)
        return status;
    status = write_heap(&file.file, &superblock);
    PH_POINT(create_written);
    if (status == PH_OK)
        status = ph_newfile_publish(&file, false);
    ph_newfile_end(&file);
    return status;
}
