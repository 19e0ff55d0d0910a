/* SPDX-License-Identifier: MIT */
/* The superblock: make, read, check, write. */
#include "recovery/superblock.h"

#include "io/checksum.h"

#include <string.h>

static bool power_of_two_within(uint64_t value, uint64_t least, uint64_t most)
{
    return value >= least && value <= most && (value & (value - 1)) == 0;
}

/* Whether every field that is used later lies in its range (R8). */
static bool values_possible(const struct ph_superblock *s, uint32_t copy)
{
    return s->page_bytes == PH_PAGE_BYTES && (s->state == PH_STATE_CLEAN || s->state == PH_STATE_OPEN) &&
           s->copy == copy && s->generation % 2 == copy && s->generation > 0 && s->generation < PH_NUMBER_LIMIT &&
           s->checkpoint_lsn >= PH_FIRST_LSN && s->checkpoint_lsn % 8 == 0 && s->checkpoint_lsn < PH_NUMBER_LIMIT &&
           s->durable_lsn < PH_NUMBER_LIMIT && s->checkpoint_version < PH_NUMBER_LIMIT &&
           power_of_two_within(s->segment_bytes, PH_SEGMENT_MIN_BYTES, PH_SEGMENT_MAX_BYTES) &&
           power_of_two_within(s->buffer_bytes, PH_BUFFER_MIN_BYTES, PH_BUFFER_MAX_BYTES) &&
           s->log_limit_bytes / s->segment_bytes >= PH_SEGMENTS_MIN &&
           s->log_limit_bytes / s->segment_bytes <= PH_SEGMENTS_MAX && s->checkpoint_offset <= s->segment_bytes &&
           s->checkpoint_segment < PH_NUMBER_LIMIT && s->epoch < PH_NUMBER_LIMIT &&
           s->heap_bytes % PH_PAGE_BYTES == 0 && s->heap_bytes > 2 * PH_PAGE_BYTES &&
           s->heap_bytes <= PH_HEAP_MAX_BYTES;
}

enum ph_copy_verdict ph_superblock_check(const struct ph_superblock *s, uint32_t copy)
{
    if (memcmp(s->magic, PH_HEAP_MAGIC, sizeof s->magic) != 0)
        return PH_COPY_ALIEN;
    if (s->byte_order == __builtin_bswap32(PH_BYTE_ORDER_MARK))
        return PH_COPY_BYTE_ORDER;
    if (s->byte_order != PH_BYTE_ORDER_MARK)
        return PH_COPY_DAMAGED;
    bool sound = s->checksum == ph_checksum(s, offsetof(struct ph_superblock, checksum));
    if (sound && (s->format_version > PH_FORMAT_VERSION || (s->incompat_flags & ~PH_INCOMPAT_KNOWN) != 0))
        return PH_COPY_NEWER;
    return sound && s->format_version == PH_FORMAT_VERSION && values_possible(s, copy) ? PH_COPY_GOOD : PH_COPY_DAMAGED;
}

/* No copy is good: say what the file is. */
static ph_status refuse(const struct ph_file *file, const struct ph_superblock copies[2],
                        const enum ph_copy_verdict verdicts[2], size_t bytes)
{
    if (bytes == 0)
        return ph_fail(PH_NOT_HEAP, "%s: the file is empty, so it is not a heap", file->path);
    for (uint32_t i = 0; i < 2; i++) {
        if (verdicts[i] == PH_COPY_BYTE_ORDER)
            return ph_fail(PH_BYTE_ORDER, "%s: the heap was made on a machine of another byte order", file->path);
        bool same = copies[0].format_version == copies[1].format_version;
        if (verdicts[i] == PH_COPY_NEWER ||
            (verdicts[i] == PH_COPY_DAMAGED && same && copies[i].format_version > PH_FORMAT_VERSION))
            return ph_fail(PH_NEWER,
                           "%s: heap format %u, incompatible features 0x%x; this library knows format %u, features "
                           "0x%x; use a newer pheap",
                           file->path, copies[i].format_version, copies[i].incompat_flags, PH_FORMAT_VERSION,
                           PH_INCOMPAT_KNOWN);
    }
    if (verdicts[0] == PH_COPY_ALIEN && verdicts[1] == PH_COPY_ALIEN)
        return ph_fail(PH_NOT_HEAP, "%s: not a heap: no superblock at offset 0 or 4096", file->path);
    return ph_fail(PH_CORRUPT,
                   "%s: both superblocks (offsets 0 and 4096) are damaged; pheap salvage saves what is left",
                   file->path);
}

ph_status ph_superblock_read(struct ph_file *file, struct ph_superblock *superblock, bool *other_damaged)
{
    struct ph_superblock copies[2];
    enum ph_copy_verdict verdicts[2];
    size_t bytes = 0;
    memset(copies, 0, sizeof copies);
    for (uint32_t i = 0; i < 2; i++) {
        size_t got = 0;
        ph_status status = ph_file_read(file, &copies[i], sizeof copies[i], PH_SUPERBLOCK_OFFSET(i), &got);
        if (status != PH_OK)
            return status;
        bytes += got;
        verdicts[i] = ph_superblock_check(&copies[i], i);
    }
    bool good[2] = {verdicts[0] == PH_COPY_GOOD, verdicts[1] == PH_COPY_GOOD};
    if (!good[0] && !good[1])
        return refuse(file, copies, verdicts, bytes);
    if (verdicts[0] == PH_COPY_NEWER || verdicts[1] == PH_COPY_NEWER)
        return refuse(file, copies, verdicts, bytes); /* a newer library has begun to write it */
    uint32_t chosen = good[1] && (!good[0] || copies[1].generation > copies[0].generation) ? 1 : 0;
    if (good[0] && good[1] && memcmp(copies[0].identity, copies[1].identity, sizeof copies[0].identity) != 0)
        return ph_fail(PH_CORRUPT, "%s: the superblocks at 0 and 4096 belong to different heaps", file->path);
    *superblock = copies[chosen];
    *other_damaged = !good[1 - chosen];
    return PH_OK;
}

void ph_superblock_seal(struct ph_superblock *superblock)
{
    superblock->copy = (uint32_t)(superblock->generation % 2);
    superblock->checksum = ph_checksum(superblock, offsetof(struct ph_superblock, checksum));
}

ph_status ph_superblock_write(struct ph_file *file, struct ph_superblock *superblock)
{
    ph_superblock_seal(superblock);
    if (ph_superblock_check(superblock, superblock->copy) != PH_COPY_GOOD) /* nobody could open the heap again */
        return ph_fail(PH_CORRUPT, "%s: what the files hold leads to a superblock that is impossible", file->path);
    return ph_file_write(file, superblock, sizeof *superblock, PH_SUPERBLOCK_OFFSET(superblock->copy), PH_WRITE_DSYNC);
}

ph_status ph_superblock_write_new(struct ph_file *file, struct ph_superblock *superblock)
{
    const ph_io *io = file->io;
    if (io->random(io->ctx, superblock->identity, sizeof superblock->identity) < 0)
        return ph_fail(PH_IO, "%s: the operating system gave no random numbers for the heap's identity", file->path);
    ph_status status = PH_OK;
    for (int copy = 0; copy < 2 && status == PH_OK; copy++) {
        status = ph_superblock_write(file, superblock);
        superblock->generation++;
    }
    return status;
}
