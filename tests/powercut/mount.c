/* SPDX-License-Identifier: MIT */
/* The file system's requests, and the thread that answers them. */
#define FUSE_USE_VERSION 312
#include "tests/powercut/mount.h"

#include <errno.h>
#include <fcntl.h>
#include <fuse_lowlevel.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

/* Nobody but the kernel changes anything, so it may remember for ever. */
#define REMEMBER_SECONDS 1e6
/* More than the largest write with its header. */
#define REQUEST_BYTES_MAX ((size_t)2 << 20)

enum state { STATE_RUNNING, STATE_STOPPED, STATE_OFF };

/* Where the last write ended, and whose it was: only the thread looks at it. */
struct last_write {
    pid_t thread;
    fuse_ino_t inode;
    uint64_t end;
};

struct mount {
    struct disk *disk;
    struct fuse_session *session;
    char *path;
    int event_fd;
    pthread_t thread;
    pthread_mutex_t mutex; /* for `state`, on which the thread waits while stopped */
    pthread_cond_t changed;
    enum state state;
    _Atomic uint64_t operations, stop_at, syncs_to_failure, failed_syncs;
    enum disk_failure failure;
    atomic_bool trace;
    struct last_write last;
    char stopped_in[160];
};

static struct mount *mount_of(fuse_req_t request)
{
    return fuse_req_userdata(request);
}

/*
 * A counted operation, which has changed the disk's cache already if it changes it at all: so if the power fails here,
 * it is one that may have happened.  False: it did.
 */
static bool pass(fuse_req_t request, const char *what, uint64_t inode, const char *name, uint64_t length,
                 uint64_t offset)
{
    struct mount *mount = mount_of(request);
    char text[sizeof mount->stopped_in];
    uint64_t number = ++mount->operations;
    bool stops = number == mount->stop_at;
    if (stops || mount->trace)
        (void)snprintf(text, sizeof text, "operation %llu: %s %llu %s%s%llu@%llu", (unsigned long long)number, what,
                       (unsigned long long)inode, name, name[0] == '\0' ? "" : " ", (unsigned long long)length,
                       (unsigned long long)offset);
    if (mount->trace)
        fprintf(stderr, "    %s\n", text);
    (void)pthread_mutex_lock(&mount->mutex);
    if (stops && mount->state == STATE_RUNNING) {
        const uint64_t one = 1;
        strcpy(mount->stopped_in, text);
        mount->state = STATE_STOPPED;
        if (write(mount->event_fd, &one, sizeof one) < 0)
            abort();
        while (mount->state == STATE_STOPPED)
            (void)pthread_cond_wait(&mount->changed, &mount->mutex);
    }
    bool on = mount->state == STATE_RUNNING;
    (void)pthread_mutex_unlock(&mount->mutex);
    return on;
}

static bool is_off(fuse_req_t request)
{
    struct mount *mount = mount_of(request);
    (void)pthread_mutex_lock(&mount->mutex);
    bool off = mount->state == STATE_OFF;
    (void)pthread_mutex_unlock(&mount->mutex);
    return off;
}

/* Answer a request that has nothing to say. */
static void reply(fuse_req_t request, bool on, int result)
{
    (void)fuse_reply_err(request, !on ? EIO : -result);
}

static struct stat attributes(const struct disk *disk, uint64_t inode)
{
    struct disk_stat from = {0};
    (void)disk_stat(disk, inode, &from);
    return (struct stat){.st_ino = (ino_t)inode,
                         .st_mode = (mode_t)from.mode,
                         .st_nlink = (nlink_t)(S_ISDIR(from.mode) ? from.links + 1 : from.links),
                         .st_uid = from.owner,
                         .st_gid = from.group,
                         .st_size = (off_t)from.size,
                         .st_blksize = 4096,
                         .st_blocks = (blkcnt_t)((from.size + 511) / 512),
                         .st_atim = from.changed,
                         .st_mtim = from.changed,
                         .st_ctim = from.changed};
}

static struct fuse_entry_param entry_of(const struct disk *disk, uint64_t inode)
{
    return (struct fuse_entry_param){.ino = inode,
                                     .attr = attributes(disk, inode),
                                     .attr_timeout = REMEMBER_SECONDS,
                                     .entry_timeout = REMEMBER_SECONDS};
}

static void reply_entry(fuse_req_t request, bool on, int result, uint64_t inode)
{
    if (!on || result < 0) {
        reply(request, on, result);
        return;
    }
    struct fuse_entry_param entry = entry_of(mount_of(request)->disk, inode);
    (void)fuse_reply_entry(request, &entry);
}

static void on_init(void *context, struct fuse_conn_info *connection)
{
    (void)context;
    connection->want &= ~(unsigned)(FUSE_CAP_AUTO_INVAL_DATA | FUSE_CAP_ATOMIC_O_TRUNC | FUSE_CAP_WRITEBACK_CACHE);
}

static void on_lookup(fuse_req_t request, fuse_ino_t directory, const char *name)
{
    uint64_t inode = 0;
    int result = disk_find(mount_of(request)->disk, directory, name, &inode);
    reply_entry(request, !is_off(request), result, inode);
}

static void on_getattr(fuse_req_t request, fuse_ino_t inode, struct fuse_file_info *info)
{
    (void)info;
    struct stat found = attributes(mount_of(request)->disk, inode);
    (void)fuse_reply_attr(request, &found, REMEMBER_SECONDS);
}

static void on_setattr(fuse_req_t request, fuse_ino_t inode, struct stat *to, int which, struct fuse_file_info *info)
{
    (void)info;
    struct disk *disk = mount_of(request)->disk;
    struct disk_stat now;
    bool on = !is_off(request);
    int result = disk_stat(disk, inode, &now);
    if (on && result == 0 && (which & FUSE_SET_ATTR_SIZE) != 0) {
        result = disk_set_size(disk, inode, (uint64_t)to->st_size);
        on = pass(request, "size", inode, "", (uint64_t)to->st_size, 0);
    }
    if (!on || result < 0) {
        reply(request, on, result);
        return;
    }
    uint32_t mode = (which & FUSE_SET_ATTR_MODE) != 0 ? (now.mode & S_IFMT) | (to->st_mode & 07777) : now.mode;
    uint32_t owner = (which & FUSE_SET_ATTR_UID) != 0 ? to->st_uid : now.owner;
    uint32_t group = (which & FUSE_SET_ATTR_GID) != 0 ? to->st_gid : now.group;
    disk_set_mode(disk, inode, mode, owner, group);
    struct stat after = attributes(disk, inode);
    (void)fuse_reply_attr(request, &after, REMEMBER_SECONDS);
}

/* A new file or directory; it counts, and `on` says how it went on. */
static int make(fuse_req_t request, fuse_ino_t directory, const char *name, mode_t mode, uint64_t *inode, bool *on)
{
    const struct fuse_ctx *who = fuse_req_ctx(request);
    struct disk_stat like = {.mode = mode, .owner = who->uid, .group = who->gid};
    (void)clock_gettime(CLOCK_REALTIME, &like.changed);
    *inode = 0;
    *on = !is_off(request);
    if (!*on)
        return -EIO;
    int result = disk_create(mount_of(request)->disk, directory, name, &like, inode);
    *on = pass(request, "create", *inode, name, 0, 0);
    return result;
}

static void on_mknod(fuse_req_t request, fuse_ino_t directory, const char *name, mode_t mode, dev_t device)
{
    (void)device;
    uint64_t inode;
    bool on;
    if (!S_ISREG(mode)) {
        reply(request, true, -EPERM);
        return;
    }
    int result = make(request, directory, name, mode, &inode, &on);
    reply_entry(request, on, result, inode);
}

static void on_mkdir(fuse_req_t request, fuse_ino_t directory, const char *name, mode_t mode)
{
    uint64_t inode;
    bool on;
    int result = make(request, directory, name, S_IFDIR | mode, &inode, &on);
    reply_entry(request, on, result, inode);
}

/* What is open has no state: the kernel has checked the permissions, and pages stay in its cache. */
static void open_info(struct fuse_file_info *info)
{
    info->keep_cache = 1;
}

static void on_create(fuse_req_t request, fuse_ino_t directory, const char *name, mode_t mode,
                      struct fuse_file_info *info)
{
    uint64_t inode;
    bool on;
    int result = make(request, directory, name, S_IFREG | (mode & 07777), &inode, &on);
    if (!on || result < 0) {
        reply(request, on, result);
        return;
    }
    struct fuse_entry_param entry = entry_of(mount_of(request)->disk, inode);
    open_info(info);
    (void)fuse_reply_create(request, &entry, info);
}

static void on_open(fuse_req_t request, fuse_ino_t inode, struct fuse_file_info *info)
{
    (void)inode;
    open_info(info);
    if (is_off(request))
        reply(request, false, 0);
    else
        (void)fuse_reply_open(request, info);
}

static void on_link(fuse_req_t request, fuse_ino_t inode, fuse_ino_t directory, const char *name)
{
    bool on = !is_off(request);
    int result = !on ? -EIO : disk_link(mount_of(request)->disk, inode, directory, name);
    on = on && pass(request, "link", inode, name, 0, 0);
    reply_entry(request, on, result, inode);
}

static void remove_name(fuse_req_t request, fuse_ino_t directory, const char *name, bool is_directory)
{
    bool on = !is_off(request);
    int result = !on ? -EIO : disk_unlink(mount_of(request)->disk, directory, name, is_directory);
    on = on && pass(request, "unlink", directory, name, 0, 0);
    reply(request, on, result);
}

static void on_unlink(fuse_req_t request, fuse_ino_t directory, const char *name)
{
    remove_name(request, directory, name, false);
}

static void on_rmdir(fuse_req_t request, fuse_ino_t directory, const char *name)
{
    remove_name(request, directory, name, true);
}

static void on_rename(fuse_req_t request, fuse_ino_t directory, const char *name, fuse_ino_t to_directory,
                      const char *to_name, unsigned flags)
{
    bool on = !is_off(request);
    if ((flags & ~(unsigned)RENAME_NOREPLACE) != 0) {
        reply(request, on, -EINVAL);
        return;
    }
    int result = !on ? -EIO
                     : disk_rename(mount_of(request)->disk, directory, name, to_directory, to_name,
                                   (flags & RENAME_NOREPLACE) != 0);
    on = on && pass(request, "rename", directory, to_name, 0, 0);
    reply(request, on, result);
}

static void on_read(fuse_req_t request, fuse_ino_t inode, size_t size, off_t offset, struct fuse_file_info *info)
{
    (void)info;
    if (is_off(request)) {
        reply(request, false, 0);
        return;
    }
    const uint8_t *bytes = disk_read(mount_of(request)->disk, inode, (uint64_t)offset, &size);
    (void)fuse_reply_buf(request, (const char *)bytes, size);
}

static void on_write(fuse_req_t request, fuse_ino_t inode, const char *bytes, size_t size, off_t offset,
                     struct fuse_file_info *info)
{
    struct disk *disk = mount_of(request)->disk;
    bool mapped = info->writepage != 0;
    bool on = !is_off(request);
    int result = !on && !mapped ? -EIO : disk_write(disk, inode, bytes, size, (uint64_t)offset);
    /* The kernel writes pages of mappings back when it likes: counted, they would keep a seed from telling the cut. */
    if (mapped && mount_of(request)->trace)
        fprintf(stderr, "    mapped: write %llu %zu@%llu%s\n", (unsigned long long)inode, size,
                (unsigned long long)offset, on ? "" : " after the cut");
    if (!mapped)
        mount_of(request)->last =
            (struct last_write){fuse_req_ctx(request)->pid, inode, (uint64_t)offset + (uint64_t)size};
    if (!mapped)
        on = on && pass(request, "write", inode, "", size, (uint64_t)offset);
    if (result < 0 || (!on && !mapped))
        reply(request, on, result);
    else
        (void)fuse_reply_write(request, size);
}

static void on_fallocate(fuse_req_t request, fuse_ino_t inode, int mode, off_t offset, off_t length,
                         struct fuse_file_info *info)
{
    (void)info;
    struct disk *disk = mount_of(request)->disk;
    struct disk_stat now;
    uint64_t end = (uint64_t)offset + (uint64_t)length;
    bool on = !is_off(request);
    int result = disk_stat(disk, inode, &now);
    if (on && result == 0 && mode == (FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE))
        result = disk_punch(disk, inode, (uint64_t)offset, (uint64_t)length);
    else if (on && result == 0 && mode == 0)
        result = end > now.size ? disk_set_size(disk, inode, end) : 0;
    else if (result == 0)
        result = -EOPNOTSUPP;
    on = on && pass(request, "allocate", inode, "", (uint64_t)length, (uint64_t)offset);
    reply(request, on, result);
}

/* Pages that the kernel keeps are not what the disk says any more. */
static void forget_pages(struct mount *mount, fuse_ino_t inode)
{
    (void)fuse_lowlevel_notify_inval_inode(mount->session, inode, 0, 0);
}

/*
 * FUSE tells of a write with O_DSYNC or RWF_DSYNC as of a write and a sync of the whole file.  Which it is the kernel
 * knows: it says what system call the thread that waits for this sync is in.  If that is a write to a place, *offset and
 * *length are set to it; else the sync is of everything.
 */
static void range_of_sync(fuse_req_t request, fuse_ino_t inode, uint64_t *offset, uint64_t *length)
{
    const struct last_write *last = &mount_of(request)->last;
    pid_t thread = fuse_req_ctx(request)->pid;
    unsigned long long place;
    char path[64];
    long number;
    *offset = 0;
    *length = UINT64_MAX;
    if (thread != last->thread || inode != last->inode)
        return;
    (void)snprintf(path, sizeof path, "/proc/%d/syscall", (int)thread);
    FILE *file = fopen(path, "r");
    if (file == NULL)
        return;
    bool read = fscanf(file, "%ld %*x %*x %*x %llx", &number, &place) == 2;
    (void)fclose(file);
    if (!read || (number != SYS_pwrite64 && number != SYS_pwritev && number != SYS_pwritev2) || place >= last->end)
        return;
    *offset = place;
    *length = last->end - place;
}

static void sync_any(fuse_req_t request, fuse_ino_t inode, bool fails)
{
    struct mount *mount = mount_of(request);
    uint64_t offset, length;
    range_of_sync(request, inode, &offset, &length);
    bool all = length == UINT64_MAX;
    bool on = !is_off(request) &&
              pass(request, fails ? "failing sync" : "sync", inode, all ? "all" : "", all ? 0 : length, offset);
    if (!on || !fails) {
        if (on && all)
            disk_sync(mount->disk, inode);
        else if (on)
            disk_sync_range(mount->disk, inode, offset, length);
        reply(request, on, 0);
        return;
    }
    mount->failed_syncs++;
    disk_sync_failed(mount->disk, inode, offset, length, mount->failure);
    if (mount->failure == DISK_FAILURE_REVERT)
        forget_pages(mount, inode);
    reply(request, true, -EIO);
}

static void on_fsync(fuse_req_t request, fuse_ino_t inode, int data_only, struct fuse_file_info *info)
{
    (void)data_only;
    (void)info;
    struct mount *mount = mount_of(request);
    bool fails = mount->syncs_to_failure > 0 && --mount->syncs_to_failure == 0;
    sync_any(request, inode, fails);
}

static void on_fsyncdir(fuse_req_t request, fuse_ino_t inode, int data_only, struct fuse_file_info *info)
{
    (void)data_only;
    (void)info;
    sync_any(request, inode, false);
}

static void on_readdir(fuse_req_t request, fuse_ino_t directory, size_t size, off_t offset, struct fuse_file_info *info)
{
    (void)info;
    const struct disk *disk = mount_of(request)->disk;
    char *buffer = malloc(size);
    size_t used = 0;
    uint64_t inode;
    const char *name;
    if (buffer == NULL) {
        reply(request, true, -ENOMEM);
        return;
    }
    while ((name = disk_entry(disk, directory, (size_t)offset, &inode)) != NULL) {
        struct stat found = attributes(disk, inode);
        size_t needs = fuse_add_direntry(request, buffer + used, size - used, name, &found, ++offset);
        if (needs > size - used)
            break;
        used += needs;
    }
    (void)fuse_reply_buf(request, buffer, used);
    free(buffer);
}

static void on_statfs(fuse_req_t request, fuse_ino_t inode)
{
    (void)inode;
    struct statvfs plenty = {.f_bsize = 4096,
                             .f_frsize = 4096,
                             .f_blocks = 1 << 20,
                             .f_bfree = 1 << 19,
                             .f_bavail = 1 << 19,
                             .f_files = 1 << 20,
                             .f_ffree = 1 << 19,
                             .f_namemax = 255};
    (void)fuse_reply_statfs(request, &plenty);
}

static const struct fuse_lowlevel_ops operations = {
    .init = on_init,
    .lookup = on_lookup,
    .getattr = on_getattr,
    .setattr = on_setattr,
    .mknod = on_mknod,
    .mkdir = on_mkdir,
    .unlink = on_unlink,
    .rmdir = on_rmdir,
    .rename = on_rename,
    .link = on_link,
    .create = on_create,
    .open = on_open,
    .read = on_read,
    .write = on_write,
    .fsync = on_fsync,
    .fsyncdir = on_fsyncdir,
    .readdir = on_readdir,
    .statfs = on_statfs,
    .fallocate = on_fallocate,
};

/* Until the file system is gone, which fuse_session_loop() would call an error now and then. */
static void *serve(void *argument)
{
    struct mount *mount = argument;
    struct fuse_buf buffer = {.mem = malloc(REQUEST_BYTES_MAX)};
    if (buffer.mem == NULL)
        abort();
    for (;;) {
        ssize_t got = read(fuse_session_fd(mount->session), buffer.mem, REQUEST_BYTES_MAX);
        if (got < 0 && (errno == EINTR || errno == EAGAIN || errno == ENOENT))
            continue;
        if (got <= 0)
            break;
        buffer.size = (size_t)got;
        fuse_session_process_buf(mount->session, &buffer);
    }
    free(buffer.mem);
    return NULL;
}

struct mount *mount_begin(struct disk *disk, const char *path, int event_fd)
{
    char *words[] = {"powercut", "-o", "fsname=powercut,default_permissions"};
    struct fuse_args arguments = FUSE_ARGS_INIT(3, words);
    struct mount *mount = calloc(1, sizeof *mount);
    if (mount == NULL)
        return NULL;
    mount->disk = disk;
    mount->event_fd = event_fd;
    mount->path = strdup(path);
    (void)pthread_mutex_init(&mount->mutex, NULL);
    (void)pthread_cond_init(&mount->changed, NULL);
    mount->session = fuse_session_new(&arguments, &operations, sizeof operations, mount);
    fuse_opt_free_args(&arguments);
    if (mount->path != NULL && mount->session != NULL && fuse_session_mount(mount->session, path) == 0) {
        if (pthread_create(&mount->thread, NULL, serve, mount) == 0)
            return mount;
        fuse_session_unmount(mount->session);
    }
    if (mount->session != NULL)
        fuse_session_destroy(mount->session);
    free(mount->path);
    free(mount);
    return NULL;
}

void mount_end(struct mount *mount)
{
    /* The thread ends when the kernel says that the file system is gone. */
    (void)umount2(mount->path, MNT_DETACH);
    (void)pthread_join(mount->thread, NULL);
    fuse_session_unmount(mount->session);
    fuse_session_destroy(mount->session);
    (void)pthread_mutex_destroy(&mount->mutex);
    (void)pthread_cond_destroy(&mount->changed);
    free(mount->path);
    free(mount);
}

void mount_stop_at(struct mount *mount, uint64_t nth)
{
    mount->stop_at = nth == 0 ? 0 : mount->operations + nth;
}

uint64_t mount_operations(const struct mount *mount)
{
    return mount->operations;
}

const char *mount_stopped_in(const struct mount *mount)
{
    return mount->stopped_in;
}

void mount_resume(struct mount *mount, enum mount_power power)
{
    (void)pthread_mutex_lock(&mount->mutex);
    mount->state = power == MOUNT_ON ? STATE_RUNNING : STATE_OFF;
    (void)pthread_cond_signal(&mount->changed);
    (void)pthread_mutex_unlock(&mount->mutex);
}

void mount_fail_sync(struct mount *mount, uint64_t nth, enum disk_failure failure)
{
    mount->failure = failure;
    mount->syncs_to_failure = nth;
}

uint64_t mount_failed_syncs(const struct mount *mount)
{
    return mount->failed_syncs;
}

void mount_trace(struct mount *mount, bool trace)
{
    mount->trace = trace;
}
