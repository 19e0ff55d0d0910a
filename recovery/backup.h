/* SPDX-License-Identifier: MIT */
/*
 * Backup and restore: the heap of a store into an archive while others write, and a heap file out of an archive.
 *
 * See the heads of backup.c and restore.c for why the result is what it should be.
 */
#ifndef RECOVERY_BACKUP_H
#define RECOVERY_BACKUP_H

#include "recovery/archive.h"
#include "recovery/store.h"

/* How far it is, and in the end what it was. */
struct ph_backup_tally {
    uint64_t done_bytes;    /* of the heap file read, or of the archive */
    uint64_t total_bytes;   /* of that, as far as is known; 0: it is not */
    uint64_t content_bytes; /* operations, uncompressed */
    uint64_t archive_bytes;
    uint64_t operation_count;
    uint64_t version;    /* in the end */
    uint64_t heap_bytes; /* likewise */
};

/* Called now and then.  A status other than OK stops the work and comes back from it. */
typedef ph_status (*ph_backup_watch)(void *context, const struct ph_backup_tally *tally);

struct ph_backup_settings {
    int level;
    uint32_t window_log;
    ph_backup_watch watch; /* not NULL */
    void *watch_context;
};

/*
 * Write an archive of the newest commit, or a newer one.  Holds the log as far as it has not read it; nothing else waits
 * for it.  One at a time in a process: BUSY.  INVALID, NO_MEMORY, IO, CORRUPT, POISONED, what `put` and `watch` give.
 */
PH_MUST_CHECK ph_status ph_backup_run(struct ph_store *store, const struct ph_backup_settings *settings,
                                      ph_archive_put put, void *context, struct ph_backup_tally *tally);

/*
 * Read the archive that `reader` has begun to its end, checking all of it.  heap: an empty file that becomes the heap,
 * CLEAN and with an identity of its own, and is not synced; NULL: only check.  If this fails the file is good for
 * nothing.  CORRUPT, NO_MEMORY, NO_SPACE, IO, what the reader's source and `watch` give.
 */
PH_MUST_CHECK ph_status ph_restore_run(struct ph_archive_reader *reader, const struct ph_backup_settings *settings,
                                       struct ph_file *heap, struct ph_backup_tally *tally);

#endif
