/* SPDX-License-Identifier: MIT */
/* Files over the seam: whole transfers, and failures with a status and a text. */
#include "io/file.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#define DIRECT_BYTES 512

struct failure {
    int error;
    ph_status status;
    const char *remedy; /* "" where we know of none */
};

static const struct failure failures[] = {
    {ENOENT, PH_NOT_FOUND, ""},
    {ENOTDIR, PH_NOT_FOUND, ""},
    {EEXIST, PH_EXISTS, ""},
    {EACCES, PH_PERMISSION, "; check the permissions of the file and of its directory"},
    {EPERM, PH_PERMISSION, "; check the owner and the attributes (lsattr) of the file"},
    {EROFS, PH_READ_ONLY, ""},
    {ETXTBSY, PH_READ_ONLY, "; a running program's own file cannot be written"},
    {ENOSPC, PH_NO_SPACE, "; free some space, then try again"},
    {EDQUOT, PH_NO_SPACE, "; free some space or raise the quota, then try again"},
    {EFBIG, PH_NO_SPACE, "; beyond the largest file that the file system or `ulimit -f` allows"},
    {ENOMEM, PH_NO_MEMORY, ""},
    {EMFILE, PH_NO_MEMORY, "; this process has too many open files (`ulimit -n`)"},
    {ENFILE, PH_NO_MEMORY, "; the machine has too many open files"},
    {ENOLCK, PH_NO_MEMORY, "; out of file locks, or the file system has none"},
    {EISDIR, PH_NOT_HEAP, ""},
    {ENXIO, PH_NOT_HEAP, ""},
    {ELOOP, PH_INVALID, ""},
    {ENAMETOOLONG, PH_INVALID, ""},
    {EOPNOTSUPP, PH_UNSUPPORTED, ""},
    {ENOSYS, PH_UNSUPPORTED, ""},
};

ph_status ph_file_fail(const char *path, const char *what, int error)
{
    struct failure found = {error, PH_IO, ""};
    for (size_t i = 0; i < sizeof failures / sizeof failures[0]; i++)
        if (failures[i].error == error)
            found = failures[i];
    return ph_fail(found.status, "%s: %s: %s%s", path, what, strerror(error), found.remedy);
}

static ph_status fail(const struct ph_file *file, const char *what, int64_t negative_error)
{
    return ph_file_fail(file->path, what, (int)-negative_error);
}

ph_status ph_file_open(struct ph_file *file, const ph_io *io, const char *path, unsigned flags, uint32_t mode)
{
    memset(file, 0, sizeof *file);
    size_t path_bytes = strlen(path) + 1;
    char *copy = io->alloc(io->ctx, path_bytes, 16);
    if (copy == NULL)
        return ph_file_fail(path, "cannot open", ENOMEM);
    memcpy(copy, path, path_bytes);
    int handle;
    do
        handle = io->open(io->ctx, path, flags, mode);
    while (handle == -EINTR);
    if (handle < 0) {
        io->free(io->ctx, copy);
        const char *what = (flags & PH_OPEN_EXCLUSIVE) != 0 ? "cannot create" : "cannot open";
        if (handle == -EINVAL && (flags & PH_OPEN_DIRECT) != 0)
            return ph_file_fail(path, "cannot open for direct transfers", EOPNOTSUPP);
        return ph_file_fail(path, what, -handle);
    }
    struct ph_file_stat stat;
    int known = io->stat(io->ctx, handle, &stat);
    if (known < 0) {
        (void)io->close(io->ctx, handle);
        io->free(io->ctx, copy);
        return ph_file_fail(path, "cannot stat", -known);
    }
    file->io = io;
    file->path = copy;
    file->handle = handle;
    file->device = stat.device;
    file->inode = stat.inode;
    file->open = true;
    file->direct = (flags & PH_OPEN_DIRECT) != 0;
    file->writable = (flags & PH_OPEN_WRITE) != 0;
    return PH_OK;
}

ph_status ph_file_open_beside(struct ph_file *file, const ph_io *io, const char *path, const char *suffix,
                              unsigned flags, uint32_t mode)
{
    memset(file, 0, sizeof *file);
    size_t length = strlen(path) + strlen(suffix) + 1;
    char *beside = io->alloc(io->ctx, length, 16);
    if (beside == NULL)
        return ph_file_fail(path, "cannot open", ENOMEM);
    (void)snprintf(beside, length, "%s%s", path, suffix);
    ph_status status = ph_file_open(file, io, beside, flags, mode);
    io->free(io->ctx, beside);
    return status;
}

void ph_file_close(struct ph_file *file)
{
    ph_file_let_go(file);
    if (file->path != NULL)
        file->io->free(file->io->ctx, file->path);
    memset(file, 0, sizeof *file);
}

/* As the seam's stat; -EBADF also if the program has closed the handle and has another file open in its place. */
static int stat_own(const struct ph_file *file, struct ph_file_stat *out)
{
    int done = file->io->stat(file->io->ctx, file->handle, out);
    return done >= 0 && !ph_file_is(file, out) ? -EBADF : done;
}

void ph_file_let_go(struct ph_file *file)
{
    struct ph_file_stat stat;
    /* What must be on disk was synced before; an error here says nothing that matters. */
    if (file->open && stat_own(file, &stat) != -EBADF)
        (void)file->io->close(file->io->ctx, file->handle);
    file->open = false;
}

ph_status ph_file_read(struct ph_file *file, void *buffer, size_t length, uint64_t offset, size_t *got)
{
    size_t done = 0;
    while (done < length) {
        int64_t part =
            file->io->read(file->io->ctx, file->handle, (uint8_t *)buffer + done, length - done, offset + done);
        if (part == -EINTR)
            continue;
        if (part < 0)
            return fail(file, "cannot read", part);
        done += (size_t)part;
        /* Direct transfers go by whole sectors; less is the end of the file, behind which a read would be refused. */
        if (part == 0 || (file->direct && part % DIRECT_BYTES != 0))
            break;
    }
    *got = done;
    return PH_OK;
}

ph_status ph_file_read_exact(struct ph_file *file, void *buffer, size_t length, uint64_t offset)
{
    size_t got;
    ph_status status = ph_file_read(file, buffer, length, offset, &got);
    if (status != PH_OK)
        return status;
    if (got != length)
        return ph_fail(PH_CORRUPT, "%s: the file ends at %" PRIu64 ", within the %zu bytes at %" PRIu64, file->path,
                       offset + got, length, offset);
    return PH_OK;
}

ph_status ph_file_write(struct ph_file *file, const void *buffer, size_t length, uint64_t offset, unsigned flags)
{
    size_t done = 0;
    while (done < length) {
        int64_t part = file->io->write(file->io->ctx, file->handle, (const uint8_t *)buffer + done, length - done,
                                       offset + done, flags);
        if (part == -EINTR)
            continue;
        if (part <= 0)
            return fail(file, "cannot write", part == 0 ? -EIO : part);
        done += (size_t)part;
    }
    file->written_bytes += length;
    if ((flags & PH_WRITE_DSYNC) != 0)
        file->sync_count++;
    return PH_OK;
}

ph_status ph_file_sync(struct ph_file *file)
{
    int done;
    /* An interrupted sync did not report an error of the disk; only a complete one counts (R7). */
    do
        done = file->io->sync(file->io->ctx, file->handle);
    while (done == -EINTR);
    if (done < 0)
        return fail(file, "cannot sync", done);
    file->sync_count++;
    return PH_OK;
}

ph_status ph_file_truncate(struct ph_file *file, uint64_t size)
{
    int done;
    do
        done = file->io->truncate(file->io->ctx, file->handle, size);
    while (done == -EINTR);
    return done < 0 ? fail(file, "cannot set the size", done) : PH_OK;
}

ph_status ph_file_allocate(struct ph_file *file, enum ph_allocate_mode mode, uint64_t offset, uint64_t length)
{
    int done;
    do
        done = file->io->allocate(file->io->ctx, file->handle, mode, offset, length);
    while (done == -EINTR);
    const char *what = mode == PH_ALLOCATE_PUNCH ? "cannot free space" : "cannot reserve space";
    return done < 0 ? fail(file, what, done) : PH_OK;
}

static ph_status refuse_lost(const struct ph_file *file)
{
    return ph_fail(PH_IO,
                   "%s: the program has closed this file's descriptor, which belongs to pheap; close the heap and open "
                   "it again",
                   file->path);
}

ph_status ph_file_stat(struct ph_file *file, struct ph_file_stat *out)
{
    struct ph_file_stat found;
    int done = stat_own(file, &found);
    if (done == -EBADF)
        return refuse_lost(file);
    if (done < 0)
        return fail(file, "cannot stat", done);
    *out = found;
    return PH_OK;
}

ph_status ph_file_check_handle(const struct ph_file *file)
{
    struct ph_file_stat stat;
    return stat_own(file, &stat) == -EBADF ? refuse_lost(file) : PH_OK;
}

int ph_file_is_at(const struct ph_file *file, const char *path)
{
    struct ph_file_stat named;
    int found = file->io->stat_path(file->io->ctx, path, &named);
    if (found == -ENOENT || found == -ENOTDIR)
        return 0;
    return found < 0 ? found : ph_file_is(file, &named);
}

ph_status ph_file_check_place(struct ph_file *file)
{
    ph_status status = ph_file_check_handle(file);
    if (status != PH_OK)
        return status;
    int there = ph_file_is_at(file, file->path);
    if (there < 0) /* this process may not look there any more, which says nothing about the file */
        return PH_OK;
    if (there == 0)
        return ph_fail(
            PH_REPLACED,
            "%s: the file was removed, renamed or replaced while the heap is in use; close the heap, put the "
            "file back, and open it again",
            file->path);
    return PH_OK;
}

ph_status ph_file_next_data(struct ph_file *file, uint64_t offset, uint64_t *start, uint64_t *end)
{
    int64_t found;
    do
        found = file->io->next_data(file->io->ctx, file->handle, offset, end);
    while (found == -EINTR);
    if (found == -ENXIO)
        return PH_END;
    if (found < 0)
        return fail(file, "cannot look for holes", found);
    *start = (uint64_t)found;
    return PH_OK;
}

ph_status ph_file_lock(struct ph_file *file, enum ph_lock_type type, uint64_t start, uint64_t length, bool wait)
{
    int done;
    do
        done = file->io->lock(file->io->ctx, file->handle, type, start, length, wait);
    while (done == -EINTR);
    if (done == -EAGAIN)
        return PH_BUSY;
    return done < 0 ? fail(file, "cannot lock", done) : PH_OK;
}
