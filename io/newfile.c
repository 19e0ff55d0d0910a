/* SPDX-License-Identifier: MIT */
/* A new file that appears under its name whole, or not at all. */
#include "io/newfile.h"

#include "io/failpoint.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#define POLL_NS UINT64_C(1000000)
#define POLLS_MAX 60000u /* while others make such a file: a minute */

/* Open and lock the file at `path`, emptied; BUSY if somebody else is at it, or has renamed it meanwhile, so that it must be
 * tried again. */
static ph_status open_beside(struct ph_file *file, const ph_io *io, const char *path, uint32_t mode)
{
    ph_status status = ph_file_open(file, io, path, PH_OPEN_WRITE | PH_OPEN_CREATE, mode);
    if (status != PH_OK)
        return status;
    status = ph_file_lock(file, PH_LOCK_EXCLUSIVE, 0, 1, false);
    if (status == PH_BUSY)
        status = ph_fail(PH_BUSY, "%s: another process is making this file, or was stopped in the midst of it", path);
    if (status == PH_OK && ph_file_is_at(file, path) != 1)
        status = ph_fail(PH_BUSY, "%s: another process is making this file", path);
    if (status == PH_OK) {
        status = ph_file_truncate(file, 0);
        if (status != PH_OK)
            (void)io->unlink(io->ctx, path);
    }
    if (status != PH_OK)
        ph_file_close(file);
    return status;
}

/* open_beside, as long as others are at it. */
static ph_status take_beside(struct ph_file *file, const ph_io *io, const char *path, uint32_t mode)
{
    ph_status status = open_beside(file, io, path, mode);
    for (unsigned i = 0; status == PH_BUSY && i < POLLS_MAX; i++) {
        ph_io_pause(io, POLL_NS);
        status = open_beside(file, io, path, mode);
    }
    return status;
}

ph_status ph_newfile_begin(struct ph_newfile *file, const ph_io *io, const char *path, uint32_t mode, bool unnamed)
{
    memset(file, 0, sizeof *file);
    size_t length = strlen(path) + 1;
    char *name = io->alloc(io->ctx, length, 16), *beside = io->alloc(io->ctx, length + sizeof "-new", 16);
    ph_status status = name == NULL || beside == NULL ? ph_fail(PH_NO_MEMORY, "%s: out of memory", path) : PH_OK;
    if (status == PH_OK) {
        memcpy(name, path, length);
        (void)snprintf(beside, length + sizeof "-new", "%s-new", path);
        status = unnamed ? ph_file_open(&file->file, io, path, PH_OPEN_WRITE | PH_OPEN_UNNAMED, mode) : PH_UNSUPPORTED;
        if (status == PH_UNSUPPORTED) {
            status = take_beside(&file->file, io, beside, mode);
            file->named = status == PH_OK;
        }
    }
    if (status == PH_OK) {
        file->path = name;
        file->beside = beside;
        return PH_OK;
    }
    if (name != NULL)
        io->free(io->ctx, name);
    if (beside != NULL)
        io->free(io->ctx, beside);
    return status;
}

/* Give an unnamed file the name NAME-new, in the place of an empty one that keeps others from it meanwhile. */
static ph_status link_beside(struct ph_newfile *file)
{
    const ph_io *io = file->file.io;
    struct ph_file place;
    ph_status status = take_beside(&place, io, file->beside, 0600);
    if (status != PH_OK)
        return status;
    status = ph_file_lock(&file->file, PH_LOCK_EXCLUSIVE, 0, 1, true);
    int result = io->unlink(io->ctx, file->beside);
    if (status == PH_OK && result >= 0)
        result = io->link(io->ctx, file->file.handle, file->beside);
    if (status == PH_OK && result < 0)
        status = ph_file_fail(file->beside, "cannot create", -result);
    file->named = status == PH_OK;
    ph_file_close(&place);
    return status;
}

ph_status ph_newfile_publish(struct ph_newfile *file, bool replace)
{
    const ph_io *io = file->file.io;
    ph_status status = ph_file_sync(&file->file);
    if (status != PH_OK)
        return status;
    bool was_named = file->named;
    if (!file->named && replace)
        status = link_beside(file);
    if (status != PH_OK)
        return status;
    int result = !file->named ? io->link(io->ctx, file->file.handle, file->path)
                 : replace    ? io->rename(io->ctx, file->beside, file->path)
                              : io->rename_new(io->ctx, file->beside, file->path);
    if (result < 0)
        return ph_file_fail(file->path, "cannot create", -result);
    file->named = false;
    PH_POINT(create_named);
    if (!was_named) /* that it has a name is a change of the file itself */
        status = ph_file_sync(&file->file);
    result = io->sync_directory(io->ctx, file->path);
    return result < 0 ? ph_file_fail(file->path, "cannot sync the directory", -result) : status;
}

void ph_newfile_end(struct ph_newfile *file)
{
    const ph_io *io = file->file.io;
    if (io == NULL)
        return;
    if (file->named)
        (void)io->unlink(io->ctx, file->beside);
    ph_file_close(&file->file);
    io->free(io->ctx, file->path);
    io->free(io->ctx, file->beside);
    memset(file, 0, sizeof *file);
}
