/* SPDX-License-Identifier: MIT */
/*
 * A new file that appears under its name whole and on stable storage, or not at all.
 *
 * It is written without a name where the file system has such files; elsewhere, and always for those who ask for it,
 * under NAME-new, which a crash may leave behind and the next maker empties.  Makers of one NAME exclude each other by a
 * lock on NAME-new.
 *
 * To replace what is at NAME, an unnamed file gets the name NAME-new first, because only a rename replaces.
 */
#ifndef IO_NEWFILE_H
#define IO_NEWFILE_H

#include "io/file.h"

struct ph_newfile {
    struct ph_file file; /* open for reading and writing; empty at first */
    char *path;          /* NAME; owned */
    char *beside;        /* NAME-new; owned */
    bool named;          /* it stands at `beside` now */
};

/* Begin one.  `unnamed`: without a name if that can be.  On failure it stays zeroed.  BUSY, NO_MEMORY, as
 * ph_file_open. */
PH_MUST_CHECK ph_status ph_newfile_begin(struct ph_newfile *file, const ph_io *io, const char *path, uint32_t mode,
                                         bool unnamed);

/*
 * Sync it, give it its name, and sync the directory.  EXISTS if there is a file of that name, unless `replace`.  On
 * failure the name is as before, unless it was only the directory that could not be synced.
 */
PH_MUST_CHECK ph_status ph_newfile_publish(struct ph_newfile *file, bool replace);

/* Close it.  What was not published is gone.  Zeroed state is fine. */
void ph_newfile_end(struct ph_newfile *file);

#endif
