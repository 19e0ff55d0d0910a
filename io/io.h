/* SPDX-License-Identifier: MIT */
/*
 * The seam: all contact with the operating system (rule R12).
 *
 * `struct ph_io` is a table of raw operations, one per kind of system call.  io/posix.c and io/posix_pages.c implement
 * it for Linux and are the only files of the library that make system calls; tests/support/simfs.c implements it in
 * memory, with faults and power cuts.  Raw operations return a value >= 0, or -errno; they may be interrupted (-EINTR) and
 * may read or write less than asked.  io/file.h, on top of the table, loops, and turns failures into a status and a text:
 * code above io/ uses io/file.h for files and this table for everything else.
 *
 * Thread safety: every operation may be called by any thread at any time.  `ctx` belongs to the implementation.
 */
#ifndef IO_IO_H
#define IO_IO_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum ph_open_flags {
    PH_OPEN_READ = 0,      /* read only */
    PH_OPEN_WRITE = 1,     /* read and write */
    PH_OPEN_CREATE = 2,    /* create if missing */
    PH_OPEN_EXCLUSIVE = 4, /* with CREATE: -EEXIST if there is one */
    PH_OPEN_DIRECT = 8,    /* bypass the page cache; -EINVAL where the file system cannot */
    PH_OPEN_UNNAMED = 16 /* with WRITE: a new file without a name, in the directory of `path`, which is gone when it is
                              closed unless `link` names it; -EOPNOTSUPP where the file system cannot */
};                       /* always: close-on-exec, no controlling terminal */

enum ph_write_flags {
    PH_WRITE_DSYNC = 1 /* on return the data, and the size needed to read it back, are on stable storage */
};

enum ph_allocate_mode {
    PH_ALLOCATE_RESERVE, /* make sure that later writes to the range cannot fail for lack of space; keeps content */
    PH_ALLOCATE_PUNCH    /* free the range's disk space; it reads as zeros; the size stays */
};

enum ph_lock_type { PH_LOCK_NONE, PH_LOCK_SHARED, PH_LOCK_EXCLUSIVE };

enum ph_file_type { PH_FILE_REGULAR, PH_FILE_DIRECTORY, PH_FILE_OTHER };

struct ph_file_stat {
    enum ph_file_type type;
    uint64_t device;
    uint64_t inode;
    uint64_t size_bytes;
    uint64_t disk_bytes;
    uint64_t links;
    uint32_t mode; /* permission bits */
};

enum ph_map_flags {
    PH_MAP_PRIVATE = 1, /* copy on write; PH_MAP_SHARED otherwise */
    PH_MAP_SHARED = 2
};

enum ph_clock {
    PH_CLOCK_MONOTONIC,
    PH_CLOCK_COARSE, /* monotonic, cheap, ~4 ms steps */
    PH_CLOCK_REALTIME,
    PH_CLOCK_REALTIME_COARSE /* cheap, likewise */
};

typedef struct ph_io {
    void *ctx;

    /* Files.  A handle is an int >= 0.  `path` is as the user gave it. */
    int (*open)(void *ctx, const char *path, unsigned flags, uint32_t mode);
    int (*close)(void *ctx, int file);
    int64_t (*read)(void *ctx, int file, void *buffer, size_t length, uint64_t offset); /* 0 at the end of the file */
    int64_t (*write)(void *ctx, int file, const void *buffer, size_t length, uint64_t offset, unsigned flags);
    int (*sync)(void *ctx, int file);                                              /* data and size: fdatasync */
    int (*start_writeback)(void *ctx, int file, uint64_t offset, uint64_t length); /* a hint, makes nothing durable */
    int (*truncate)(void *ctx, int file, uint64_t size);                           /* shrinks, or grows with zeros */
    int (*allocate)(void *ctx, int file, enum ph_allocate_mode mode, uint64_t offset, uint64_t length);
    int (*stat)(void *ctx, int file, struct ph_file_stat *out);
    /*
     * The first stretch at or after `offset` that may hold anything but zeros: its start, and its end in *end.  -ENXIO if
     * there is none before the end of the file.  A file system that does not tell calls everything such a stretch.
     */
    int64_t (*next_data)(void *ctx, int file, uint64_t offset, uint64_t *end);
    int (*resolve)(void *ctx, const char *path, char *out, size_t size); /* absolute, symbolic links followed; the last
                                                                            part need not exist */
    int (*stat_path)(void *ctx, const char *path, struct ph_file_stat *out); /* follows symbolic links */
    int (*unlink)(void *ctx, const char *path);
    int (*link)(void *ctx, int file, const char *path);             /* name an unnamed file; -EEXIST if `path` exists */
    int (*rename_new)(void *ctx, const char *from, const char *to); /* atomically; -EEXIST if `to` exists */
    int (*rename)(void *ctx, const char *from, const char *to);     /* atomically; what was at `to` is unlinked */
    int (*sync_directory)(void *ctx, const char *path);             /* of the directory that holds `path` */
    int (*filesystem)(void *ctx, int file, uint64_t *magic);        /* statfs f_type */

    /*
     * Advisory locks on byte ranges, owned by the open file (OFD locks): dropped by the kernel when the last
     * descriptor of that open() is closed, also at death.  wait: block until granted; else -EAGAIN.
     * Converting from EXCLUSIVE to SHARED is atomic.
     */
    int (*lock)(void *ctx, int file, enum ph_lock_type type, uint64_t start, uint64_t length, bool wait);

    /*
     * Mappings.  map: `length` bytes of the file from 0, which may go past its end (such pages appear when the file
     * grows); no map passes to forked children; private maps are readable and writable, reserve no memory and are advised
     * for random access.  Fails with -ENOMEM where address space is short.
     */
    int (*map)(void *ctx, int file, size_t length, unsigned flags, void **address);
    int (*unmap)(void *ctx, void *address, size_t length);
    int (*drop)(void *ctx, void *address, size_t length); /* private pages go; the file shows again */
    int (*protect)(void *ctx, void *address, size_t length, bool writable);
    /*
     * Count the 4 KiB pages of [address, address + length) of a private map that have been stored to (are private
     * copies).  bitmap, if not NULL: bit i is set for each of them and cleared for a page that still shows the file.
     * -ENOSYS where that cannot be told.
     */
    int64_t (*touched)(void *ctx, const void *address, size_t length, uint8_t *bitmap);
    /*
     * Watch the stores into a private map, while it is mapped or until unwatch.  Gives a handle >= 0; -ENOSYS where the
     * system cannot or may not.  A forked child has a copy of the handle: it must give it up, and watches nothing with it.
     */
    int (*watch)(void *ctx, void *address, size_t length);
    void (*unwatch)(void *ctx, int handle);
    /*
     * As touched, of a range of a watched map: the private copies that have been stored to since they were told last.  If it
     * fails (-ENOSYS) some may be forgotten: then look at all that touched tells of.
     */
    int64_t (*stored)(void *ctx, const void *address, size_t length, uint8_t *bitmap);
    int (*drop_watched)(void *ctx, int handle, void *address, size_t length); /* as drop, where stores are watched */

    /* Memory.  NULL when there is none.  alignment: a power of two >= 16.  resize keeps alignment 16. */
    void *(*alloc)(void *ctx, size_t length, size_t alignment);
    void *(*resize)(void *ctx, void *memory, size_t length);
    void (*free)(void *ctx, void *memory);
    uint64_t (*memory_limit)(void *ctx); /* bytes this process may use: control group or machine */

    /* Time, chance, identity. */
    uint64_t (*clock_ns)(void *ctx, enum ph_clock clock);
    int (*random)(void *ctx, void *buffer, size_t length);
    int (*boot_id)(void *ctx, uint8_t id[16]); /* differs after each start of the operating system */
    int (*pid_namespace)(void *ctx, uint64_t *id);
    int64_t (*process)(void *ctx); /* pid, for people only */

    /* Sleep while *word == expected, at most timeout_ns; returns for any reason or none.  Works across processes. */
    void (*wait)(void *ctx, uint32_t *word, uint32_t expected, uint64_t timeout_ns);
    void (*wake)(void *ctx, uint32_t *word, int count);
    /* A thread in which no signal handler of the program runs; *thread is for thread_join alone. */
    int (*thread_start)(void *ctx, void *(*run)(void *), void *argument, uint64_t *thread);
    void (*thread_join)(void *ctx, uint64_t thread);
    void (*signal_event)(void *ctx, int event_fd); /* add 1 to the program's eventfd; if that fails, nothing helps */
} ph_io;

/* Sleep for about so long. */
static inline void ph_io_pause(const ph_io *io, uint64_t time_ns)
{
    uint32_t word = 0;
    io->wait(io->ctx, &word, 0, time_ns);
}

/* The operating system.  Static; never fails. */
const ph_io *ph_io_posix(void);

#endif
