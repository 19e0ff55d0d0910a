/* SPDX-License-Identifier: MIT */
/*
 * Restore: an archive's operations into a new heap file.
 *
 * The heap begins with an identity of its own and an empty log, so that no log of the heap that was backed up, or of one
 * that was here before, can be taken for its own.  The version goes on from that of the archive.  The superblocks are
 * written last: before that, the file is no heap.
 */
#include "recovery/backup.h"

#define FOLD_MEMORY_BYTES (UINT64_C(64) << 20)
#define REPORT_OPERATIONS 64u

struct restore {
    struct ph_archive_reader *reader;
    const struct ph_backup_settings *settings;
    struct ph_file *heap; /* NULL: only check */
    struct ph_fold_set *set;
    struct ph_backup_tally *tally;
};

static ph_status report(struct restore *restore)
{
    const struct ph_archive_reader *reader = restore->reader;
    restore->tally->done_bytes = restore->tally->archive_bytes = reader->archive_bytes;
    restore->tally->content_bytes = reader->content_bytes;
    restore->tally->operation_count = reader->operation_count;
    return restore->settings->watch(restore->settings->watch_context, restore->tally);
}

static ph_status apply(struct restore *restore, const struct ph_operation *operation)
{
    if (restore->heap == NULL)
        return PH_OK;
    if (operation->kind == PH_OPERATION_GROW)
        return ph_file_truncate(restore->heap, operation->value);
    return ph_fold_set_apply(restore->set, operation);
}

static ph_status apply_all(struct restore *restore)
{
    struct ph_operation operation;
    ph_status status = PH_OK;
    if (restore->heap != NULL)
        status = ph_file_truncate(restore->heap, restore->reader->header.heap_bytes);
    while (status == PH_OK) {
        status = ph_archive_read(restore->reader, &operation);
        if (status == PH_OK)
            status = apply(restore, &operation);
        if (status == PH_OK && restore->reader->operation_count % REPORT_OPERATIONS == 0)
            status = report(restore);
    }
    return status == PH_END ? report(restore) : status;
}

static ph_status write_superblocks(struct restore *restore)
{
    struct ph_superblock s = ph_archive_superblock(&restore->reader->header, restore->reader->footer.version,
                                                   restore->reader->footer.heap_bytes);
    return ph_superblock_write_new(restore->heap, &s);
}

ph_status ph_restore_run(struct ph_archive_reader *reader, const struct ph_backup_settings *settings,
                         struct ph_file *heap, struct ph_backup_tally *tally)
{
    struct restore restore = {.reader = reader, .settings = settings, .heap = heap, .tally = tally};
    ph_status status = heap != NULL ? ph_fold_set_init(&restore.set, heap, FOLD_MEMORY_BYTES, 0, 0) : PH_OK;
    if (status == PH_OK)
        status = apply_all(&restore);
    if (status == PH_OK && heap != NULL)
        status = ph_fold_set_write(restore.set);
    if (status == PH_OK && heap != NULL)
        status = write_superblocks(&restore);
    ph_fold_set_deinit(restore.set);
    tally->version = reader->footer.version;
    tally->heap_bytes = reader->footer.heap_bytes;
    return status;
}
