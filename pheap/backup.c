/* SPDX-License-Identifier: MIT */
/*
 * Backup and restore as the public header has them: where archives come from and go to.
 */
#include "pheap/core.h"
#include "pheap/newheap.h"
#include "recovery/backup.h"

#include <string.h>

#define PACE_BYTES (UINT64_C(8) << 20) /* start write-back after so much, so that the sync finds little left to do */

/* ------------------------------------------------------------------------------------------------------- progress */

struct watched {
    pheap_transfer_progress progress;
    void *context;
};

static struct pheap_transfer make_transfer(const struct ph_backup_tally *tally)
{
    return (struct pheap_transfer){
        .size = sizeof(struct pheap_transfer),
        .done_bytes = tally->done_bytes,
        .total_bytes = tally->total_bytes,
        .content_bytes = tally->content_bytes,
        .archive_bytes = tally->archive_bytes,
        .version = tally->version,
        .heap_bytes = tally->heap_bytes,
    };
}

static ph_status watch(void *context, const struct ph_backup_tally *tally)
{
    const struct watched *watched = context;
    struct pheap_transfer now = make_transfer(tally);
    if (watched->progress == NULL || watched->progress(watched->context, &now) == 0)
        return PH_OK;
    return ph_fail(PH_BUSY, "stopped");
}

static void give_result(const struct ph_backup_tally *tally, struct pheap_transfer *result)
{
    if (result == NULL)
        return;
    struct pheap_transfer full = make_transfer(tally);
    full.size = result->size;
    memcpy(result, &full, full.size < sizeof full ? full.size : sizeof full);
}

/* ---------------------------------------------------------------------------------------------------------- backup */

struct sink {
    pheap_sink function;
    void *context;
};

static ph_status put_to_function(void *context, const void *bytes, size_t length)
{
    const struct sink *sink = context;
    if (sink->function(sink->context, bytes, length) == 0)
        return PH_OK;
    return ph_fail(PH_IO, "the archive could not be written: the program's function for it failed");
}

struct archive_file {
    struct ph_newfile new;
    uint64_t length, paced;
};

static ph_status put_to_file(void *context, const void *bytes, size_t length)
{
    struct archive_file *archive = context;
    struct ph_file *file = &archive->new.file;
    ph_status status = ph_file_write(file, bytes, length, archive->length, 0);
    if (status != PH_OK)
        return status;
    archive->length += length;
    if (archive->length - archive->paced >= PACE_BYTES) {
        (void)file->io->start_writeback(file->io->ctx, file->handle, archive->paced, archive->length - archive->paced);
        archive->paced = archive->length;
    }
    return PH_OK;
}

static ph_status prepare_backup(const char *call, pheap *heap, const struct pheap_backup_options *given,
                                const struct pheap_transfer *result, struct ph_core **core,
                                struct pheap_backup_options *options)
{
    ph_status status = ph_core_use(heap, core);
    if (status == PH_OK)
        status = ph_check_result(call, result == NULL ? NULL : &result->size);
    if (status == PH_OK)
        status = ph_take_options(call, given, options, sizeof *options);
    return status == PH_OK ? ph_check_flags(call, options->flags, PHEAP_REPLACE, options->reserved) : status;
}

static ph_status run_backup(struct ph_core *core, const struct pheap_backup_options *options, ph_archive_put put,
                            void *context, struct ph_backup_tally *tally)
{
    struct watched watched = {options->progress, options->context};
    const struct ph_backup_settings settings = {
        .level = options->level, .window_log = options->window_log, .watch = watch, .watch_context = &watched};
    return ph_backup_run(&core->store, &settings, put, context, tally);
}

enum pheap_status pheap_backup_to(pheap *heap, pheap_sink function, void *sink_context,
                                  const struct pheap_backup_options *given, struct pheap_transfer *result)
{
    struct ph_core *core;
    struct pheap_backup_options options = {.size = sizeof options};
    struct ph_backup_tally tally;
    struct sink sink = {function, sink_context};
    ph_status status = prepare_backup("pheap_backup_to", heap, given, result, &core, &options);
    if (status == PH_OK && function == NULL)
        status = ph_fail(PH_INVALID, "pheap_backup_to: the function is NULL");
    if (status == PH_OK)
        status = run_backup(core, &options, put_to_function, &sink, &tally);
    if (status == PH_OK)
        give_result(&tally, result);
    return (enum pheap_status)status;
}

/* Whether the name is one of those that only the heap may use: what is there now could be its log. */
static bool is_name_beside(const struct ph_core *core, const char *resolved)
{
    const size_t length = strlen(core->path);
    const char *suffix = resolved + length;
    return strncmp(resolved, core->path, length) == 0 && (strcmp(suffix, "-wal") == 0 || strcmp(suffix, "-shm") == 0 ||
                                                          strcmp(suffix, "-sum") == 0 || strcmp(suffix, "-new") == 0);
}

/* The path without symbolic links; what is there must be what `replace` allows, and no file of the heap itself. */
static ph_status check_archive_path(const struct ph_core *core, const char *path, bool replace, char *resolved)
{
    struct ph_file_stat stat;
    if (path == NULL || path[0] == '\0')
        return ph_fail(PH_INVALID, "pheap_backup: the path is missing");
    int result = core->io->resolve(core->io->ctx, path, resolved, PH_PATH_BYTES - 8);
    if (result < 0)
        return ph_file_fail(path, "cannot create", -result);
    if (is_name_beside(core, resolved))
        return ph_fail(PH_INVALID, "%s: this name is the heap's, for a file beside it; choose another", path);
    if (core->io->stat_path(core->io->ctx, resolved, &stat) < 0)
        return PH_OK;
    if (ph_file_is(&core->store.heap, &stat))
        return ph_fail(PH_INVALID, "%s: this is the heap itself", path);
    if (stat.type != PH_FILE_REGULAR || !replace)
        return ph_fail(PH_EXISTS, "%s: the file exists", path);
    return PH_OK;
}

enum pheap_status pheap_backup(pheap *heap, const char *path, const struct pheap_backup_options *given,
                               struct pheap_transfer *result)
{
    struct ph_core *core;
    struct pheap_backup_options options = {.size = sizeof options};
    struct ph_backup_tally tally;
    struct archive_file archive = {.length = 0};
    struct ph_file_stat stat;
    char resolved[PH_PATH_BYTES];
    ph_status status = prepare_backup("pheap_backup", heap, given, result, &core, &options);
    bool replace = (options.flags & PHEAP_REPLACE) != 0;
    if (status == PH_OK)
        status = check_archive_path(core, path, replace, resolved);
    if (status == PH_OK)
        status = ph_file_stat(&core->store.heap, &stat);
    if (status == PH_OK) /* who may not read the heap may not read its archive */
        status = ph_newfile_begin(&archive.new, core->io, resolved, stat.mode & 0777, true);
    if (status == PH_OK)
        status = run_backup(core, &options, put_to_file, &archive, &tally);
    if (status == PH_OK)
        status = ph_newfile_publish(&archive.new, replace);
    ph_newfile_end(&archive.new);
    if (status == PH_OK)
        give_result(&tally, result);
    return (enum pheap_status)status;
}

/* --------------------------------------------------------------------------------------------------------- restore */

struct source {
    pheap_source function;
    void *context;
};

static ph_status get_from_function(void *context, void *bytes, size_t length, size_t *got)
{
    const struct source *source = context;
    int64_t result = source->function(source->context, bytes, length);
    if (result < 0 || (uint64_t)result > length)
        return ph_fail(PH_IO, "the archive could not be read: the program's function for it failed");
    *got = (size_t)result;
    return PH_OK;
}

struct archive_source {
    struct ph_file file;
    uint64_t at;
};

static ph_status get_from_file(void *context, void *bytes, size_t length, size_t *got)
{
    struct archive_source *archive = context;
    ph_status status = ph_file_read(&archive->file, bytes, length, archive->at, got);
    if (status == PH_OK)
        archive->at += *got;
    return status;
}

struct restore {
    struct ph_newheap to;
    struct watched watched;
    struct ph_backup_settings settings;
    struct ph_backup_tally tally;
};

static int go_on(void *context, const char *what, uint64_t done, uint64_t total)
{
    struct restore *restore = context;
    (void)what;
    (void)done;
    (void)total;
    return watch(&restore->watched, &restore->tally) == PH_OK ? 0 : 1;
}

static ph_status check_new(struct restore *restore, const char *archive)
{
    ph_status status = ph_newheap_check(&restore->to, restore->tally.heap_bytes, go_on, restore);
    if (status == PH_CORRUPT)
        status = ph_fail_context(status, "%s: the archive is whole, but the heap in it was damaged when it was made",
                                 archive);
    return status;
}

/* Make the heap of an archive whose header has been read. */
static ph_status make_heap(struct restore *restore, struct ph_archive_reader *reader)
{
    ph_status status = ph_newheap_begin(&restore->to, reader->header.file_mode & 0777);
    if (status == PH_OK)
        status = ph_restore_run(reader, &restore->settings, &restore->to.new.file, &restore->tally);
    if (status == PH_OK)
        status = check_new(restore, reader->name);
    if (status == PH_OK)
        status = ph_newheap_publish(&restore->to);
    ph_newheap_end(&restore->to);
    return status;
}

static ph_status run_restore(const ph_io *io, const char *name, ph_archive_get get, void *context, const char *path,
                             const struct pheap_restore_options *options, struct pheap_transfer *result,
                             const struct ph_file_stat *archive)
{
    char resolved[PH_PATH_BYTES];
    struct ph_archive_reader reader;
    struct restore restore = {
        .to = {.io = io, .path = resolved, .replace = (options->flags & PHEAP_REPLACE) != 0},
        .watched = {options->progress, options->context},
        .tally = {.total_bytes = archive == NULL ? 0 : archive->size_bytes},
    };
    restore.settings = (struct ph_backup_settings){.watch = watch, .watch_context = &restore.watched};
    ph_status status = PH_OK;
    if (path != NULL) {
        int found = io->resolve(io->ctx, path, resolved, sizeof resolved - 8);
        status = found < 0 ? ph_file_fail(path, "cannot create", -found) : ph_newheap_check_place(&restore.to);
        if (status == PH_OK && archive != NULL)
            status = ph_newheap_spare(&restore.to, "the archive", archive);
    }
    if (status == PH_OK)
        status = ph_archive_read_begin(&reader, io, name, get, context);
    if (status != PH_OK)
        return status;
    status =
        path == NULL ? ph_restore_run(&reader, &restore.settings, NULL, &restore.tally) : make_heap(&restore, &reader);
    ph_archive_read_deinit(&reader);
    if (status == PH_OK)
        give_result(&restore.tally, result);
    return status;
}

static ph_status prepare_restore(const char *call, const struct pheap_restore_options *given,
                                 const struct pheap_transfer *result, const char *path,
                                 struct pheap_restore_options *options)
{
    ph_status status = ph_check_result(call, result == NULL ? NULL : &result->size);
    if (status == PH_OK)
        status = ph_take_options(call, given, options, sizeof *options);
    if (status == PH_OK)
        status = ph_check_flags(call, options->flags, PHEAP_REPLACE, options->reserved);
    if (status == PH_OK && path != NULL && path[0] == '\0')
        status = ph_fail(PH_INVALID, "%s: the path is empty", call);
    return status;
}

enum pheap_status pheap_restore_from(pheap_source function, void *source_context, const char *path,
                                     const struct pheap_restore_options *given, struct pheap_transfer *result)
{
    struct pheap_restore_options options = {.size = sizeof options};
    struct source source = {function, source_context};
    ph_status status = prepare_restore("pheap_restore_from", given, result, path, &options);
    if (status == PH_OK && function == NULL)
        status = ph_fail(PH_INVALID, "pheap_restore_from: the function is NULL");
    if (status == PH_OK)
        status = run_restore(ph_io_posix(), "the archive", get_from_function, &source, path, &options, result, NULL);
    return (enum pheap_status)status;
}

ph_status ph_restore_io(const ph_io *io, const char *archive, const char *path,
                        const struct pheap_restore_options *given, struct pheap_transfer *result)
{
    struct pheap_restore_options options = {.size = sizeof options};
    struct archive_source source;
    struct ph_file_stat stat;
    ph_status status = prepare_restore("pheap_restore", given, result, path, &options);
    if (status == PH_OK && (archive == NULL || archive[0] == '\0'))
        status = ph_fail(PH_INVALID, "pheap_restore: the path of the archive is missing");
    if (status == PH_OK)
        status = ph_file_open(&source.file, io, archive, PH_OPEN_READ, 0);
    if (status != PH_OK)
        return status;
    source.at = 0;
    status = ph_file_stat(&source.file, &stat);
    if (status == PH_OK && stat.type != PH_FILE_REGULAR)
        status = ph_fail(PH_NOT_HEAP, "%s: not an archive of pheap: it is no regular file", archive);
    if (status == PH_OK)
        status = run_restore(io, archive, get_from_file, &source, path, &options, result, &stat);
    ph_file_close(&source.file);
    return status;
}

enum pheap_status pheap_restore(const char *archive, const char *path, const struct pheap_restore_options *options,
                                struct pheap_transfer *result)
{
    return (enum pheap_status)ph_restore_io(ph_io_posix(), archive, path, options, result);
}
