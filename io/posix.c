/* SPDX-License-Identifier: MIT */
/*
 * The seam over Linux: this file and posix_pages.c are the only ones of the library that make system calls.
 *
 * Owns: the choice of each system call, and what stands in where a kernel or file system lacks one:
 *
 *   RWF_DSYNC            pwrite, then fdatasync
 *   RENAME_NOREPLACE     link, then unlink
 *   SEEK_DATA            all of the file is data
 *   O_TMPFILE            none, and none where /proc is missing, by which such a file gets its name: -EOPNOTSUPP
 *   FALLOC_FL_*          none: the caller is told -EOPNOTSUPP and decides
 *
 * Keeps no state, so that fork, exec and any number of threads need no care here.  A descriptor is never 0, 1 or 2: a
 * program that closed its standard streams must not print into its heap.
 */
#include "io/posix.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/falloc.h>
#include <linux/futex.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/vfs.h>
#include <time.h>
#include <unistd.h>

#define LINKS_MAX 40 /* as the kernel */

/* The result of a system call in the seam's terms. */
static int result(int value)
{
    return value < 0 ? -errno : value;
}

int ph_posix_above_standard(int file)
{
    if (file > STDERR_FILENO)
        return file;
    int above = result(fcntl(file, F_DUPFD_CLOEXEC, STDERR_FILENO + 1));
    (void)close(file);
    return above;
}

/* Files. */

/* The directory that holds `path`, as a path of its own. */
static int directory_of(const char *path, char *out, size_t size)
{
    const char *slash = strrchr(path, '/');
    size_t length = slash == NULL ? 0 : (size_t)(slash - path);
    if (length >= size)
        return -ENAMETOOLONG;
    if (slash == NULL) {
        strcpy(out, ".");
    } else {
        memcpy(out, path, length);
        strcpy(out + length, length == 0 ? "/" : "");
    }
    return 0;
}

/* Where an open file is to be found under a name. */
static void name_of_descriptor(int file, char name[static 40])
{
    (void)snprintf(name, 40, "/proc/self/fd/%d", file);
}

/* A file that cannot be given a name later is of no use, so that is looked at now. */
static int open_unnamed(const char *path, uint32_t mode)
{
    char directory[PATH_MAX], name[40];
    struct stat in;
    int result = directory_of(path, directory, sizeof directory);
    if (result < 0)
        return result;
    int file = open(directory, O_TMPFILE | O_RDWR | O_CLOEXEC, (mode_t)mode);
    if (file < 0) /* EISDIR: a kernel without it opens the directory; EINVAL: some file systems */
        return errno == EISDIR || errno == EINVAL ? -EOPNOTSUPP : -errno;
    name_of_descriptor(file, name);
    if (stat(name, &in) == 0)
        return file;
    (void)close(file);
    return -EOPNOTSUPP;
}

static int posix_open(void *ctx, const char *path, unsigned flags, uint32_t mode)
{
    (void)ctx;
    /* O_NONBLOCK: a FIFO in the heap's place must not hang the open; regular files ignore it. */
    int how = O_CLOEXEC | O_NOCTTY | O_NONBLOCK;
    how |= (flags & PH_OPEN_WRITE) != 0 ? O_RDWR : O_RDONLY;
    how |= (flags & PH_OPEN_CREATE) != 0 ? O_CREAT : 0;
    how |= (flags & PH_OPEN_EXCLUSIVE) != 0 ? O_EXCL : 0;
    how |= (flags & PH_OPEN_DIRECT) != 0 ? O_DIRECT : 0;
    bool unnamed = (flags & PH_OPEN_UNNAMED) != 0;
    int file = unnamed ? open_unnamed(path, mode) : result(open(path, how, (mode_t)mode));
    if (file == -EWOULDBLOCK)
        file =
            result(open(path, how & ~O_NONBLOCK, (mode_t)mode)); /* someone gives up a lease on the file: wait for it */
    if (file < 0)
        return file;
    return ph_posix_above_standard(file);
}

static int posix_close(void *ctx, int file)
{
    (void)ctx;
    return result(close(file));
}

static int64_t posix_read(void *ctx, int file, void *buffer, size_t length, uint64_t offset)
{
    (void)ctx;
    if (offset > INT64_MAX)
        return -EINVAL;
    ssize_t got = pread(file, buffer, length, (off_t)offset);
    return got < 0 ? -errno : got;
}

static int64_t write_and_sync(int file, const void *buffer, size_t length, uint64_t offset)
{
    ssize_t put = pwrite(file, buffer, length, (off_t)offset);
    if (put < 0 || fdatasync(file) != 0)
        return -errno;
    return put;
}

static int64_t posix_write(void *ctx, int file, const void *buffer, size_t length, uint64_t offset, unsigned flags)
{
    (void)ctx;
    if (offset > INT64_MAX)
        return -EFBIG;
    if ((flags & PH_WRITE_DSYNC) == 0) {
        ssize_t put = pwrite(file, buffer, length, (off_t)offset);
        return put < 0 ? -errno : put;
    }
    struct iovec part = {.iov_base = (void *)(uintptr_t)buffer, .iov_len = length};
    ssize_t put = pwritev2(file, &part, 1, (off_t)offset, RWF_DSYNC);
    if (put >= 0)
        return put;
    if (errno == EOPNOTSUPP || errno == ENOSYS)
        return write_and_sync(file, buffer, length, offset);
    return -errno;
}

static int posix_sync(void *ctx, int file)
{
    (void)ctx;
    return result(fdatasync(file));
}

static int posix_start_writeback(void *ctx, int file, uint64_t offset, uint64_t length)
{
    (void)ctx;
    return result(sync_file_range(file, (off_t)offset, (off_t)length, SYNC_FILE_RANGE_WRITE));
}

static int posix_truncate(void *ctx, int file, uint64_t size)
{
    (void)ctx;
    if (size > INT64_MAX)
        return -EFBIG;
    return result(ftruncate(file, (off_t)size));
}

static int posix_allocate(void *ctx, int file, enum ph_allocate_mode mode, uint64_t offset, uint64_t length)
{
    (void)ctx;
    if (offset > INT64_MAX || length > INT64_MAX - offset)
        return -EFBIG;
    int how = mode == PH_ALLOCATE_PUNCH ? FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE : 0;
    return result(fallocate(file, how, (off_t)offset, (off_t)length));
}

/*
 * By statx(), without the times: since Linux 6.13 who asks for them makes the next write store the inode anew, and so a
 * durable write of one sector half as slow again (multigrain timestamps).
 */
static int stat_at(int directory, const char *path, int flags, struct ph_file_stat *out)
{
    struct statx in;
    if (statx(directory, path, flags, STATX_TYPE | STATX_MODE | STATX_NLINK | STATX_INO | STATX_SIZE | STATX_BLOCKS,
              &in) != 0)
        return -errno;
    *out = (struct ph_file_stat){
        .type = S_ISREG(in.stx_mode)   ? PH_FILE_REGULAR
                : S_ISDIR(in.stx_mode) ? PH_FILE_DIRECTORY
                                       : PH_FILE_OTHER,
        .device = (uint64_t)makedev(in.stx_dev_major, in.stx_dev_minor),
        .inode = in.stx_ino,
        .size_bytes = in.stx_size,
        .disk_bytes = in.stx_blocks * 512,
        .links = in.stx_nlink,
        .mode = (uint32_t)in.stx_mode & 07777,
    };
    return 0;
}

static int posix_stat(void *ctx, int file, struct ph_file_stat *out)
{
    (void)ctx;
    return stat_at(file, "", AT_EMPTY_PATH, out);
}

static int64_t posix_next_data(void *ctx, int file, uint64_t offset, uint64_t *end)
{
    (void)ctx;
    if (offset > INT64_MAX)
        return -ENXIO;
    /* The descriptor's own position moves; nothing here uses it. */
    off_t start = lseek(file, (off_t)offset, SEEK_DATA);
    if (start < 0 && errno != EINVAL)
        return -errno;
    off_t stop = start < 0 ? -1 : lseek(file, start, SEEK_HOLE);
    if (stop >= 0) {
        *end = (uint64_t)stop;
        return start;
    }
    struct stat in;
    if (fstat(file, &in) != 0)
        return -errno;
    if (offset >= (uint64_t)in.st_size)
        return -ENXIO;
    *end = (uint64_t)in.st_size;
    return (int64_t)offset;
}

/* `path`, shorter than PATH_MAX, whose last part is not there or is a symbolic link to something that is not: one step of
 * its resolution. */
static int resolve_missing(const char *path, char *next, size_t size)
{
    char copy[PATH_MAX], directory[PATH_MAX], target[PATH_MAX];
    strcpy(copy, path);
    char *slash = strrchr(copy, '/');
    const char *last = slash == NULL ? copy : slash + 1;
    if (last[0] == '\0')
        return -ENOENT; /* "missing/" */
    ssize_t length = readlink(path, target, sizeof target - 1);
    if (length >= 0) {
        target[length] = '\0';
        last = target;
    }
    if (slash != NULL)
        *slash = '\0';
    if (realpath(slash == NULL ? "." : slash == copy ? "/" : copy, directory) == NULL)
        return -errno;
    const char *between = directory[1] == '\0' ? "" : "/";
    int written =
        last[0] == '/' ? snprintf(next, size, "%s", last) : snprintf(next, size, "%s%s%s", directory, between, last);
    if (written < 0 || (size_t)written >= size)
        return -ENAMETOOLONG;
    return length >= 0 ? 1 : 0;
}

static int posix_resolve(void *ctx, const char *path, char *out, size_t size)
{
    (void)ctx;
    char present[PATH_MAX], next[PATH_MAX];
    int more = snprintf(next, sizeof next, "%s", path) >= (int)sizeof next ? -ENAMETOOLONG : 1;
    for (int links = 0; more > 0; links++) {
        if (links > LINKS_MAX)
            return -ELOOP;
        if (realpath(next, present) != NULL) {
            strcpy(next, present);
            break;
        }
        if (errno != ENOENT)
            return -errno;
        strcpy(present, next);
        more = resolve_missing(present, next, sizeof next);
    }
    if (more < 0)
        return more;
    size_t length = strlen(next);
    if (length >= size)
        return -ENAMETOOLONG;
    memcpy(out, next, length + 1);
    return 0;
}

static int posix_stat_path(void *ctx, const char *path, struct ph_file_stat *out)
{
    (void)ctx;
    return stat_at(AT_FDCWD, path, 0, out);
}

static int posix_unlink(void *ctx, const char *path)
{
    (void)ctx;
    return result(unlink(path));
}

static int posix_link(void *ctx, int file, const char *path)
{
    (void)ctx;
    char name[40];
    name_of_descriptor(file, name);
    return result(linkat(AT_FDCWD, name, AT_FDCWD, path, AT_SYMLINK_FOLLOW));
}

static int posix_rename(void *ctx, const char *from, const char *to)
{
    (void)ctx;
    return result(rename(from, to));
}

static int posix_rename_new(void *ctx, const char *from, const char *to)
{
    (void)ctx;
    if (renameat2(AT_FDCWD, from, AT_FDCWD, to, RENAME_NOREPLACE) == 0)
        return 0;
    if (errno != EINVAL && errno != ENOSYS)
        return -errno;
    if (link(from, to) != 0)
        return -errno;
    return result(unlink(from));
}

static int posix_sync_directory(void *ctx, const char *path)
{
    (void)ctx;
    char name[PATH_MAX];
    int found = directory_of(path, name, sizeof name);
    if (found < 0)
        return found;
    int directory = open(name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (directory < 0)
        return -errno;
    int done = result(fsync(directory));
    (void)close(directory);
    return done;
}

static int posix_filesystem(void *ctx, int file, uint64_t *magic)
{
    (void)ctx;
    struct statfs in;
    if (fstatfs(file, &in) != 0)
        return -errno;
    *magic = (uint32_t)in.f_type; /* a magic number has 32 bits; a 32-bit machine shows some as negative */
    return 0;
}

static int posix_lock(void *ctx, int file, enum ph_lock_type type, uint64_t start, uint64_t length, bool wait)
{
    (void)ctx;
    struct flock range = {
        .l_type = (short)(type == PH_LOCK_EXCLUSIVE ? F_WRLCK
                          : type == PH_LOCK_SHARED  ? F_RDLCK
                                                    : F_UNLCK),
        .l_whence = SEEK_SET,
        .l_start = (off_t)start,
        .l_len = (off_t)length,
    };
    if (fcntl(file, wait ? F_OFD_SETLKW : F_OFD_SETLK, &range) == 0)
        return 0;
    return errno == EACCES ? -EAGAIN : -errno;
}

/* Mappings. */

static int posix_map(void *ctx, int file, size_t length, unsigned flags, void **address)
{
    (void)ctx;
    bool private = (flags & PH_MAP_PRIVATE) != 0;
    void *map = mmap(NULL, length, PROT_READ | PROT_WRITE, private ? MAP_PRIVATE | MAP_NORESERVE : MAP_SHARED, file, 0);
    if (map == MAP_FAILED)
        return -errno;
    if (madvise(map, length, MADV_DONTFORK) != 0) {
        int error = errno;
        (void)munmap(map, length);
        return -error;
    }
    if (private)
        (void)madvise(map, length, MADV_RANDOM); /* only speed */
    *address = map;
    return 0;
}

static int posix_unmap(void *ctx, void *address, size_t length)
{
    (void)ctx;
    return result(munmap(address, length));
}

static int posix_drop(void *ctx, void *address, size_t length)
{
    (void)ctx;
    return result(madvise(address, length, MADV_DONTNEED));
}

static int posix_protect(void *ctx, void *address, size_t length, bool writable)
{
    (void)ctx;
    return result(mprotect(address, length, writable ? PROT_READ | PROT_WRITE : PROT_READ));
}

/* Memory. */

static void *posix_alloc(void *ctx, size_t length, size_t alignment)
{
    (void)ctx;
    void *memory = NULL;
    if (alignment <= _Alignof(max_align_t))
        return malloc(length == 0 ? 1 : length);
    return posix_memalign(&memory, alignment, length == 0 ? 1 : length) == 0 ? memory : NULL;
}

static void *posix_resize(void *ctx, void *memory, size_t length)
{
    (void)ctx;
    return realloc(memory, length == 0 ? 1 : length);
}

static void posix_free(void *ctx, void *memory)
{
    (void)ctx;
    free(memory);
}

/* The whole of a small file as a string; false if there is none. */
static bool read_text(const char *path, char *text, size_t size)
{
    int file = open(path, O_RDONLY | O_CLOEXEC);
    if (file < 0)
        return false;
    ssize_t got = read(file, text, size - 1);
    (void)close(file);
    if (got < 0)
        return false;
    text[got] = '\0';
    return true;
}

/* The least limit of the group at `path` below `mount` and of its ancestors.  "max" and nonsense limit nothing. */
static uint64_t group_limit(const char *mount, const char *path, const char *file)
{
    char name[2 * PATH_MAX], group[PATH_MAX], text[64];
    uint64_t least = UINT64_MAX;
    if (snprintf(group, sizeof group, "%s", path) >= (int)sizeof group)
        return least;
    for (;;) {
        (void)snprintf(name, sizeof name, "%s%s/%s", mount, group, file);
        if (read_text(name, text, sizeof text)) {
            char *end = text;
            unsigned long long limit = strtoull(text, &end, 10);
            if (end != text && limit < least)
                least = limit;
        }
        char *slash = strrchr(group, '/');
        if (slash == NULL)
            return least;
        *slash = '\0';
    }
}

static uint64_t posix_memory_limit(void *ctx)
{
    (void)ctx;
    char groups[8192];
    uint64_t least = UINT64_MAX;
    long pages = sysconf(_SC_PHYS_PAGES), page = sysconf(_SC_PAGESIZE);
    if (pages > 0 && page > 0)
        least = (uint64_t)pages * (uint64_t)page;
    if (!read_text("/proc/self/cgroup", groups, sizeof groups))
        return least;
    /* Lines "number:controllers:/path"; version 2 has number 0 and no controllers. */
    char *rest = groups;
    for (char *line = strsep(&rest, "\n"); line != NULL; line = strsep(&rest, "\n")) {
        char *fields = line;
        (void)strsep(&fields, ":");
        const char *controllers = strsep(&fields, ":"), *path = fields;
        if (controllers == NULL || path == NULL)
            continue;
        uint64_t limit = UINT64_MAX;
        if (controllers[0] == '\0')
            limit = group_limit("/sys/fs/cgroup", path, "memory.max");
        else if (strcmp(controllers, "memory") == 0)
            limit = group_limit("/sys/fs/cgroup/memory", path, "memory.limit_in_bytes");
        if (limit < least)
            least = limit;
    }
    return least;
}

/* Time, chance, identity. */

static uint64_t posix_clock_ns(void *ctx, enum ph_clock clock)
{
    (void)ctx;
    struct timespec now = {0};
    (void)clock_gettime(clock == PH_CLOCK_REALTIME          ? CLOCK_REALTIME
                        : clock == PH_CLOCK_REALTIME_COARSE ? CLOCK_REALTIME_COARSE
                        : clock == PH_CLOCK_COARSE          ? CLOCK_MONOTONIC_COARSE
                                                            : CLOCK_MONOTONIC,
                        &now);
    return (uint64_t)now.tv_sec * UINT64_C(1000000000) + (uint64_t)now.tv_nsec;
}

static int posix_random(void *ctx, void *buffer, size_t length)
{
    (void)ctx;
    for (size_t done = 0; done < length;) {
        ssize_t got = getrandom((char *)buffer + done, length - done, 0);
        if (got < 0 && errno != EINTR)
            return -errno;
        done += got > 0 ? (size_t)got : 0;
    }
    return 0;
}

static int posix_boot_id(void *ctx, uint8_t id[16])
{
    (void)ctx;
    char text[64];
    if (!read_text("/proc/sys/kernel/random/boot_id", text, sizeof text))
        return -errno;
    const char *at = text;
    for (size_t i = 0; i < 16; i++) {
        unsigned value;
        at += *at == '-' ? 1 : 0;
        if (sscanf(at, "%2x", &value) != 1)
            return -EIO;
        id[i] = (uint8_t)value;
        at += 2;
    }
    return 0;
}

static int posix_pid_namespace(void *ctx, uint64_t *id)
{
    (void)ctx;
    struct stat in;
    if (stat("/proc/self/ns/pid", &in) != 0)
        return -errno;
    *id = (uint64_t)in.st_ino;
    return 0;
}

static int64_t posix_process(void *ctx)
{
    (void)ctx;
    return getpid();
}

/* The futex is not private: the word lies in a file that several processes map. */

static void posix_wait(void *ctx, uint32_t *word, uint32_t expected, uint64_t timeout_ns)
{
    (void)ctx;
    struct timespec timeout = {.tv_sec = (time_t)(timeout_ns / UINT64_C(1000000000)),
                               .tv_nsec = (long)(timeout_ns % UINT64_C(1000000000))};
    (void)syscall(SYS_futex, word, FUTEX_WAIT, expected, &timeout, NULL, 0);
}

static void posix_wake(void *ctx, uint32_t *word, int count)
{
    (void)ctx;
    (void)syscall(SYS_futex, word, FUTEX_WAKE, count, NULL, NULL, 0);
}

_Static_assert(sizeof(pthread_t) == sizeof(uint64_t), "a thread fits into a word");

static int posix_thread_start(void *ctx, void *(*run)(void *), void *argument, uint64_t *thread)
{
    (void)ctx;
    pthread_t started;
    sigset_t all, before;
    (void)sigfillset(&all);
    (void)pthread_sigmask(SIG_SETMASK, &all, &before);
    int error = pthread_create(&started, NULL, run, argument);
    (void)pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (error == 0)
        memcpy(thread, &started, sizeof started);
    return -error;
}

static void posix_thread_join(void *ctx, uint64_t thread)
{
    (void)ctx;
    pthread_t started;
    memcpy(&started, &thread, sizeof started);
    (void)pthread_join(started, NULL);
}

static void posix_signal_event(void *ctx, int event_fd)
{
    (void)ctx;
    const uint64_t one = 1;
    while (write(event_fd, &one, sizeof one) < 0 && errno == EINTR)
        ;
}

static const ph_io posix_io = {
    .open = posix_open,
    .close = posix_close,
    .read = posix_read,
    .write = posix_write,
    .sync = posix_sync,
    .start_writeback = posix_start_writeback,
    .truncate = posix_truncate,
    .allocate = posix_allocate,
    .stat = posix_stat,
    .next_data = posix_next_data,
    .resolve = posix_resolve,
    .stat_path = posix_stat_path,
    .unlink = posix_unlink,
    .link = posix_link,
    .rename_new = posix_rename_new,
    .rename = posix_rename,
    .sync_directory = posix_sync_directory,
    .filesystem = posix_filesystem,
    .lock = posix_lock,
    .map = posix_map,
    .unmap = posix_unmap,
    .drop = posix_drop,
    .protect = posix_protect,
    .touched = ph_posix_touched,
    .watch = ph_posix_watch,
    .unwatch = ph_posix_unwatch,
    .stored = ph_posix_stored,
    .drop_watched = ph_posix_drop_watched,
    .alloc = posix_alloc,
    .resize = posix_resize,
    .free = posix_free,
    .memory_limit = posix_memory_limit,
    .clock_ns = posix_clock_ns,
    .random = posix_random,
    .boot_id = posix_boot_id,
    .pid_namespace = posix_pid_namespace,
    .process = posix_process,
    .wait = posix_wait,
    .wake = posix_wake,
    .thread_start = posix_thread_start,
    .thread_join = posix_thread_join,
    .signal_event = posix_signal_event,
};

const ph_io *ph_io_posix(void)
{
    return &posix_io;
}
