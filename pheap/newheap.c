/* SPDX-License-Identifier: MIT */
/*
 * A new heap takes its place.
 *
 * Replacing a heap.  With the new one whole and synced, and not under any name that counts:
 *
 *   1. the old one is opened and closed, so that it is recovered and CLEAN
 *   2. its lock is taken exclusively: nobody has it, and who comes now waits, and then finds that it lost its name
 *   3. its superblock is written again, in both places if one was damaged, so that it opens without its log
 *   4. the log goes, and the directory is synced
 *   5. the new one takes the name, and the directory is synced
 *
 * Before 5 there is the old heap, which needs no log; after it the new one, which has none.
 */
#include "pheap/newheap.h"

#include "pheap/check.h"
#include "pheap/core.h"
#include "recovery/superblock.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

/* -------------------------------------------------------------------------------------------------------- options */

ph_status ph_take_options(const char *call, const void *given, void *options, size_t options_bytes)
{
    size_t size;
    if (given == NULL)
        return PH_OK;
    memcpy(&size, given, sizeof size);
    if (size < sizeof size || size > 4096)
        return ph_fail(PH_INVALID, "%s: options->size is %zu; set it to the size of the structure", call, size);
    memcpy(options, given, size < options_bytes ? size : options_bytes);
    return PH_OK;
}

ph_status ph_check_flags(const char *call, uint32_t flags, uint32_t known, uint32_t reserved)
{
    if ((flags & ~known) == 0 && reserved == 0)
        return PH_OK;
    return ph_fail(PH_INVALID, "%s: options->flags 0x%x has unknown bits, or options->reserved is not 0", call, flags);
}

ph_status ph_check_result(const char *call, const size_t *size)
{
    if (size == NULL || (*size >= sizeof *size && *size <= 4096))
        return PH_OK;
    return ph_fail(PH_INVALID, "%s: result->size is not set", call);
}

/* ---------------------------------------------------------------------------------------------------------- the heap */

/* Open what is to be replaced and lock everybody else out; it must still be what is at the path. */
static ph_status lock_old(struct ph_newheap *heap, struct ph_file *old)
{
    ph_status status = ph_file_open(old, heap->io, heap->path, PH_OPEN_WRITE, 0);
    if (status != PH_OK)
        return status;
    status = ph_attach_lock_alone(old);
    if (status == PH_OK && ph_file_is_at(old, heap->path) != 1)
        status = ph_fail(PH_REPLACED, "%s: somebody else has replaced the heap meanwhile", heap->path);
    if (status != PH_OK)
        ph_file_close(old);
    return status;
}

ph_status ph_newheap_check_place(struct ph_newheap *heap)
{
    struct ph_file_stat stat;
    struct ph_file old;
    int result = heap->io->stat_path(heap->io->ctx, heap->path, &stat);
    if (result < 0 && result != -ENOENT)
        return ph_file_fail(heap->path, "cannot create", -result);
    heap->exists = result == 0;
    if (!heap->exists)
        return ph_create_check_log(heap->io, heap->path);
    if (!heap->replace)
        return ph_fail(PH_EXISTS, "%s: the file exists", heap->path);
    ph_status status = lock_old(heap, &old);
    if (status == PH_OK)
        ph_file_close(&old);
    return status;
}

ph_status ph_newheap_spare(const struct ph_newheap *heap, const char *name, const struct ph_file_stat *source)
{
    static const char *const suffixes[] = {"", "-wal", "-shm", "-sum", "-new"};
    for (size_t i = 0; i < sizeof suffixes / sizeof suffixes[0]; i++) {
        struct ph_file_stat stat;
        char path[PH_PATH_BYTES];
        (void)snprintf(path, sizeof path, "%s%s", heap->path, suffixes[i]);
        if (heap->io->stat_path(heap->io->ctx, path, &stat) == 0 && stat.device == source->device &&
            stat.inode == source->inode)
            return ph_fail(PH_INVALID, "%s: this is %s itself, which is not changed; choose another place", path, name);
    }
    return PH_OK;
}

/* Make the old heap one that needs no log, and remove its log, and its sums. */
static ph_status retire_log(struct ph_newheap *heap, struct ph_file *old)
{
    const ph_io *io = heap->io;
    struct ph_superblock superblock;
    bool other_damaged;
    char beside[PH_PATH_BYTES];
    ph_status status = ph_superblock_read(old, &superblock, &other_damaged);
    if (status == PH_OK && superblock.state != PH_STATE_CLEAN)
        status = ph_fail(PH_BUSY, "%s: somebody has used the heap meanwhile; try again", heap->path);
    if (status == PH_OK && other_damaged)
        superblock.generation++;
    if (status == PH_OK)
        status = ph_superblock_write(old, &superblock);
    if (status != PH_OK)
        return status;
    (void)snprintf(beside, sizeof beside, "%s-wal", heap->path);
    int result = io->unlink(io->ctx, beside);
    if (result < 0 && result != -ENOENT)
        return ph_file_fail(beside, "cannot remove the log of the heap to be replaced", -result);
    (void)snprintf(beside, sizeof beside, "%s-sum", heap->path);
    (void)io->unlink(io->ctx, beside); /* one that stays is not believed */
    result = io->sync_directory(io->ctx, heap->path);
    return result < 0 ? ph_file_fail(heap->path, "cannot sync the directory", -result) : PH_OK;
}

/* See the head. */
static ph_status replace(struct ph_newheap *heap)
{
    pheap *opened;
    struct ph_file old;
    ph_status status = ph_open_io(heap->io, heap->path, 0, NULL, &opened);
    if (status == PH_OK)
        status = (ph_status)pheap_close(opened);
    if (status != PH_OK)
        return ph_fail_context(status, "the heap that is to be replaced cannot be closed cleanly; move it and its log "
                                       "away if they are not needed");
    status = lock_old(heap, &old);
    if (status != PH_OK)
        return status;
    status = retire_log(heap, &old);
    if (status == PH_OK)
        status = ph_newfile_publish(&heap->new, true);
    ph_file_close(&old);
    return status;
}

ph_status ph_newheap_begin(struct ph_newheap *heap, uint32_t mode)
{
    return ph_newfile_begin(&heap->new, heap->io, heap->path, mode, true);
}

ph_status ph_newheap_check(struct ph_newheap *heap, uint64_t heap_bytes, pheap_progress progress, void *context)
{
    const ph_io *io = heap->io;
    void *base;
    int result = io->map(io->ctx, heap->new.file.handle, heap_bytes, PH_MAP_PRIVATE, &base);
    if (result < 0)
        return ph_file_fail(heap->path, "map the new heap to check it", -result);
    struct ph_space space = {.base = base, .size = heap_bytes};
    ph_status status = ph_check_heap(io, space, NULL, progress, context);
    (void)io->unmap(io->ctx, base, heap_bytes);
    return status;
}

ph_status ph_newheap_publish(struct ph_newheap *heap)
{
    return heap->exists ? replace(heap) : ph_newfile_publish(&heap->new, false);
}

void ph_newheap_end(struct ph_newheap *heap)
{
    ph_newfile_end(&heap->new);
}
