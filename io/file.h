/* SPDX-License-Identifier: MIT */
/*
 * Files over the seam: whole reads and writes, retries, and failures as a status with a text that names the file.
 *
 * Owns: the loop over short transfers and EINTR, the mapping of errno to status (R11), and the counters that
 * pheap_get_info shows.  A `struct ph_file` is owned by its opener; zeroed means closed.
 */
#ifndef IO_FILE_H
#define IO_FILE_H

#include "io/io.h"
#include "io/status.h"

struct ph_file {
    const ph_io *io;
    char *path;             /* owned */
    int handle;             /* valid when open */
    uint64_t device, inode; /* which file it is then */
    bool open;
    bool direct; /* opened with PH_OPEN_DIRECT */
    bool writable;
    _Atomic uint64_t written_bytes; /* by this file object */
    _Atomic uint64_t sync_count;    /* syncs and DSYNC writes */
};

/* errno (positive) to status, and the standard text: "<path>: <what>: <strerror>". */
ph_status ph_file_fail(const char *path, const char *what, int error);

/* Open; on failure *file stays zeroed.  NOT_FOUND, EXISTS, PERMISSION, READ_ONLY, NO_SPACE, NO_MEMORY, IO,
 * UNSUPPORTED (PH_OPEN_DIRECT refused). */
PH_MUST_CHECK ph_status ph_file_open(struct ph_file *file, const ph_io *io, const char *path, unsigned flags,
                                     uint32_t mode);
/* The same with the file that has the path and a suffix as its name. */
PH_MUST_CHECK ph_status ph_file_open_beside(struct ph_file *file, const ph_io *io, const char *path, const char *suffix,
                                            unsigned flags, uint32_t mode);
void ph_file_close(struct ph_file *file); /* zeroed state is fine */
/* Close the descriptor and nothing else: in a forked child, which may not free memory yet.  ph_file_close() follows. */
void ph_file_let_go(struct ph_file *file);

/* Read up to `length` bytes; *got says how many there were before the end of the file. */
PH_MUST_CHECK ph_status ph_file_read(struct ph_file *file, void *buffer, size_t length, uint64_t offset, size_t *got);
/* Read exactly `length` bytes; a file that ends earlier is CORRUPT. */
PH_MUST_CHECK ph_status ph_file_read_exact(struct ph_file *file, void *buffer, size_t length, uint64_t offset);
PH_MUST_CHECK ph_status ph_file_write(struct ph_file *file, const void *buffer, size_t length, uint64_t offset,
                                      unsigned flags);
PH_MUST_CHECK ph_status ph_file_sync(struct ph_file *file);
PH_MUST_CHECK ph_status ph_file_truncate(struct ph_file *file, uint64_t size);
/* UNSUPPORTED where the file system can do neither; nothing has changed then. */
PH_MUST_CHECK ph_status ph_file_allocate(struct ph_file *file, enum ph_allocate_mode mode, uint64_t offset,
                                         uint64_t length);
/* IO if the handle is not that of the file which was opened: see ph_file_check_handle. */
PH_MUST_CHECK ph_status ph_file_stat(struct ph_file *file, struct ph_file_stat *out);
/* The first stretch at or after `offset` that may hold anything but zeros: [*start, *end).  END if there is none. */
PH_MUST_CHECK ph_status ph_file_next_data(struct ph_file *file, uint64_t offset, uint64_t *start, uint64_t *end);

/*
 * Whether the handle is still that of the file which was opened: IO if the program has closed it, or has another file
 * open in its place, which a write would damage.  OK where that cannot be found out.
 */
PH_MUST_CHECK ph_status ph_file_check_handle(const struct ph_file *file);
/* Whether these are the properties of the file that was opened. */
static inline bool ph_file_is(const struct ph_file *file, const struct ph_file_stat *stat)
{
    return stat->device == file->device && stat->inode == file->inode;
}
/* 1 if `path` names the file, 0 if not, -errno where that cannot be found out. */
int ph_file_is_at(const struct ph_file *file, const char *path);
/* As ph_file_check_handle, and whether the file is still the one at its path: REPLACED if not. */
PH_MUST_CHECK ph_status ph_file_check_place(struct ph_file *file);

/* OFD lock; when it is taken: BUSY without a text of its own (the caller knows what it means). */
PH_MUST_CHECK ph_status ph_file_lock(struct ph_file *file, enum ph_lock_type type, uint64_t start, uint64_t length,
                                     bool wait);

#endif
