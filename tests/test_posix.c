/* SPDX-License-Identifier: MIT */
/*
 * The seam over Linux where the system refuses: older kernels, calls that a filter forbids, files that are not open,
 * places beyond the largest, paths that are too long, no descriptors left.  The filters are set in children.
 */
#include "io/file.h"
#include "tests/public.h"

#include <limits.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <linux/userfaultfd.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>

#define PAGE 4096u
#define CLOSED 1000000 /* no such descriptor */
#define BEYOND ((uint64_t)INT64_MAX + 1)
#define SKIPPED 77

static int open_new(const char *name)
{
    const ph_io *io = ph_io_posix();
    int file = io->open(io->ctx, path_of(name, ""), PH_OPEN_WRITE | PH_OPEN_CREATE, 0600);
    require(file > STDERR_FILENO);
    require_equal(io->truncate(io->ctx, file, 0), 0);
    return file;
}

/* ------------------------------------------------------------------------------------------------- forbidden calls */

/* A system call that fails with `error`, always or only where one of its arguments has a value. */
struct ban {
    unsigned call;
    int error;
    bool one_argument;
    unsigned argument, value;
};

/* Ends the child where the system has no filters. */
static void forbid(const struct ban *bans, size_t count)
{
    struct sock_filter program[64];
    unsigned short length = 0;
    for (size_t i = 0; i < count; i++) {
        const struct ban *ban = &bans[i];
        unsigned argument_at = (unsigned)offsetof(struct seccomp_data, args) + ban->argument * 8;
        program[length++] = (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr));
        program[length++] =
            (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, ban->call, 0, ban->one_argument ? 3 : 1);
        if (ban->one_argument) {
            program[length++] = (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS, argument_at);
            program[length++] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, ban->value, 0, 1);
        }
        program[length++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | (unsigned)ban->error);
    }
    program[length++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
    struct sock_fprog filter = {length, program};
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0 || prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &filter) != 0)
        _exit(SKIPPED);
}

/* Run a body, whose checks end the child, in a child. */
static void run_in_child(void (*body)(void))
{
    int status;
    pid_t child = fork();
    if (child == 0) {
        in_child = true;
        body();
        _exit(0);
    }
    require_equal(waitpid(child, &status, 0), child);
    require(WIFEXITED(status));
    if (WEXITSTATUS(status) == SKIPPED)
        skip();
    require_equal(WEXITSTATUS(status), 0);
}

static void use_stand_ins(void)
{
    const struct ban older[] = {{.call = SYS_pwritev2, .error = ENOSYS},
                                {.call = SYS_renameat2, .error = ENOSYS},
                                {.call = SYS_ioctl, .error = ENOSYS}};
    const ph_io *io = ph_io_posix();
    int file = open_new("old");
    forbid(older, 3);
    char back[3] = "";
    require_equal(io->write(io->ctx, file, "abc", 3, 5 * PAGE, PH_WRITE_DSYNC), 3);
    require_equal(io->read(io->ctx, file, back, 3, 5 * PAGE), 3);
    require(memcmp(back, "abc", 3) == 0);
    require_equal(io->write(io->ctx, CLOSED, "abc", 3, 0, PH_WRITE_DSYNC), -EBADF);
    require_equal(io->rename_new(io->ctx, path_of("old", ""), path_of("kept", "")), -EEXIST);
    require_equal(io->rename_new(io->ctx, path_of("old", ""), path_of("older", "")), 0);
    require_equal(io->unlink(io->ctx, path_of("older", "")), 0);
    void *address, *nowhere = (void *)((uintptr_t)1 << 56); /* no process has memory there */
    uint8_t bitmap = 0xff;
    require_equal(io->map(io->ctx, file, 8 * PAGE, PH_MAP_PRIVATE, &address), 0);
    volatile uint8_t *page = address;
    page[2 * PAGE] = page[3 * PAGE];
    require_equal(io->touched(io->ctx, address, 8 * PAGE, &bitmap), 1);
    require_equal(bitmap, 1U << 2);
    require_equal(io->touched(io->ctx, address, 8 * PAGE, NULL), 1);
    require_equal(io->touched(io->ctx, nowhere, PAGE, NULL), -ENOSYS);
}

/* Catches: on an older kernel, stand-ins for dsync, renaming and the report of private copies that do less. */
static void older_kernel__has_stand_ins(void **state)
{
    (void)state;
    require_equal(ph_io_posix()->close(NULL, open_new("kept")), 0);
    run_in_child(use_stand_ins);
}

static void rename_over_a_refusal(int error)
{
    const struct ban bans[] = {{.call = SYS_renameat2, .error = error}};
    const ph_io *io = ph_io_posix();
    require_equal(io->close(io->ctx, open_new("from")), 0);
    forbid(bans, 1);
    int wanted = error == EINVAL ? 0 : -error;
    require_equal(io->rename_new(io->ctx, path_of("from", ""), path_of("to", "")), wanted);
    struct ph_file_stat found;
    require_equal(io->stat_path(io->ctx, path_of("to", ""), &found), error == EINVAL ? 0 : -ENOENT);
    require_equal(io->stat_path(io->ctx, path_of("from", ""), &found), error == EINVAL ? -ENOENT : 0);
    require_equal(io->unlink(io->ctx, path_of(error == EINVAL ? "to" : "from", "")), 0);
}

static void rename_where_the_file_system_cannot(void)
{
    rename_over_a_refusal(EINVAL);
}

static void rename_on_a_full_disk(void)
{
    rename_over_a_refusal(ENOSPC);
}

/* Catches: a renaming that failed for a true reason, tried by another way; or none tried where only the flag is
 * unknown to the file system. */
static void rename__other_way_only_where_it_helps(void **state)
{
    (void)state;
    run_in_child(rename_where_the_file_system_cannot);
    run_in_child(rename_on_a_full_disk);
}

static void write_where_dsync_is_unknown(void)
{
    const struct ban bans[] = {{.call = SYS_pwritev2, .error = EOPNOTSUPP}, {.call = SYS_fdatasync, .error = EIO}};
    const ph_io *io = ph_io_posix();
    int file = open_new("dsync");
    forbid(bans, 2);
    require_equal(io->write(io->ctx, file, "abc", 3, 0, 0), 3);
    require_equal(io->write(io->ctx, file, "abc", 3, 0, PH_WRITE_DSYNC), -EIO);
    require_equal(io->sync(io->ctx, file), -EIO);
}

static void write_where_the_disk_fails(void)
{
    const struct ban bans[] = {{.call = SYS_pwritev2, .error = EIO}};
    const ph_io *io = ph_io_posix();
    int file = open_new("dsync");
    struct ph_file_stat found;
    forbid(bans, 1);
    require_equal(io->write(io->ctx, file, "abc", 3, 0, PH_WRITE_DSYNC), -EIO);
    require_equal(io->stat(io->ctx, file, &found), 0);
    require_equal(found.size_bytes, 0);
}

/* Catches (R7): a write acknowledged as durable though its sync failed, or one that failed tried in another way. */
static void write__with_dsync_tells_that_it_failed(void **state)
{
    (void)state;
    run_in_child(write_where_dsync_is_unknown);
    run_in_child(write_where_the_disk_fails);
}

/* The descriptor that the next open() will give: the same again if nothing was left open. */
static int next_descriptor(void)
{
    int next = dup(STDERR_FILENO);
    require(next >= 0);
    require_equal(close(next), 0);
    return next;
}

static void open_unnamed_over_a_refusal(int error, int wanted)
{
    const struct ban bans[] = {{SYS_openat, error, true, 2, O_TMPFILE | O_RDWR | O_CLOEXEC}};
    forbid(bans, 1);
    require_equal(ph_io_posix()->open(NULL, path_of("unnamed", ""), PH_OPEN_WRITE | PH_OPEN_UNNAMED, 0600), wanted);
}

static void open_unnamed_in_an_older_kernel(void)
{
    open_unnamed_over_a_refusal(EISDIR, -EOPNOTSUPP);
}

static void open_unnamed_where_the_file_system_cannot(void)
{
    open_unnamed_over_a_refusal(EINVAL, -EOPNOTSUPP);
}

static void open_unnamed_where_it_is_forbidden(void)
{
    open_unnamed_over_a_refusal(EACCES, -EACCES);
}

static void open_unnamed_without_a_way_to_name_it(void)
{
    const struct ban bans[] = {{SYS_newfstatat, ENOENT, true, 3, 0}};
    const char *path = path_of("unnamed", "");
    int next = next_descriptor();
    forbid(bans, 1);
    require_equal(ph_io_posix()->open(NULL, path, PH_OPEN_WRITE | PH_OPEN_UNNAMED, 0600), -EOPNOTSUPP);
    require_equal(next_descriptor(), next);
}

/* Catches: a file without a name that cannot be given one, or a true reason taken for a file system that lacks them: the
 * caller then goes another way only in the first case. */
static void unnamed__cannot_or_may_not(void **state)
{
    (void)state;
    run_in_child(open_unnamed_in_an_older_kernel);
    run_in_child(open_unnamed_where_the_file_system_cannot);
    run_in_child(open_unnamed_where_it_is_forbidden);
    run_in_child(open_unnamed_without_a_way_to_name_it);
}

static void look_for_holes_without(int what)
{
    const struct ban bans[] = {{SYS_lseek, EINVAL, true, 2, (unsigned)what}};
    const ph_io *io = ph_io_posix();
    int file = open_new("holes");
    uint64_t end = 0;
    require_equal(io->truncate(io->ctx, file, 8 * PAGE), 0);
    forbid(bans, 1);
    require_equal(io->write(io->ctx, file, "x", 1, 0, 0), 1);
    require_equal(io->next_data(io->ctx, file, 0, &end), 0);
    require_equal(end, 8 * PAGE);
    require_equal(io->next_data(io->ctx, file, 8 * PAGE, &end), -ENXIO);
    require_equal(io->next_data(io->ctx, CLOSED, 0, &end), -EBADF);
    require_equal(end, 8 * PAGE);
}

static void look_for_data_where_nobody_knows(void)
{
    look_for_holes_without(SEEK_DATA);
}

static void look_for_holes_where_nobody_knows(void)
{
    look_for_holes_without(SEEK_HOLE);
}

/* Catches: bytes skipped as a hole where the file system cannot say what is one. */
static void holes__unknown_are_data(void **state)
{
    (void)state;
    run_in_child(look_for_data_where_nobody_knows);
    run_in_child(look_for_holes_where_nobody_knows);
}

static void watch_over_a_refusal(const struct ban *ban)
{
    const ph_io *io = ph_io_posix();
    int file = open_new("watched"), next = next_descriptor();
    void *address;
    require_equal(io->map(io->ctx, file, PAGE, PH_MAP_PRIVATE, &address), 0);
    forbid(ban, 1);
    require_equal(io->watch(io->ctx, address, PAGE), -ENOSYS);
    require_equal(next_descriptor(), next);
}

static void watch_where_it_is_forbidden(void)
{
    watch_over_a_refusal(&(struct ban){.call = SYS_userfaultfd, .error = EPERM});
}

static void watch_in_an_older_kernel(void)
{
    watch_over_a_refusal(&(struct ban){SYS_ioctl, EINVAL, true, 1, (unsigned)UFFDIO_API});
}

static void watch_a_place_that_cannot_be(void)
{
    watch_over_a_refusal(&(struct ban){SYS_ioctl, EINVAL, true, 1, (unsigned)UFFDIO_REGISTER});
}

static void drop_what_cannot_be_dropped(void)
{
    const struct ban bans[] = {{SYS_madvise, EINVAL, true, 2, MADV_DONTNEED}};
    const ph_io *io = ph_io_posix();
    int file = open_new("watched");
    void *address;
    uint8_t bitmap = 0;
    require_equal(io->truncate(io->ctx, file, PAGE), 0);
    require_equal(io->map(io->ctx, file, PAGE, PH_MAP_PRIVATE, &address), 0);
    volatile uint8_t *page = address;
    page[0] = 7;
    require_equal(io->drop_watched(io->ctx, file, address, PAGE), -ENOTTY);
    require_equal(page[0], 7);
    int watched = io->watch(io->ctx, address, PAGE);
    forbid(bans, 1);
    if (watched >= 0) {
        require_equal(io->drop_watched(io->ctx, watched, address, PAGE), -EINVAL);
        require_equal(page[0], 7);
    }
    require_equal(io->stored(io->ctx, (uint8_t *)address + 1, PAGE, &bitmap), -EINVAL);
}

static void ask_for_stores_in_an_older_kernel(void)
{
    const struct ban bans[] = {{.call = SYS_ioctl, .error = ENOTTY}};
    const ph_io *io = ph_io_posix();
    int file = open_new("watched");
    void *address;
    uint8_t bitmap = 0;
    require_equal(io->map(io->ctx, file, PAGE, PH_MAP_PRIVATE, &address), 0);
    forbid(bans, 1);
    require_equal(io->stored(io->ctx, address, PAGE, &bitmap), -ENOSYS);
}

/* Catches: stores missed because the system that refuses to watch them is believed to see none; a descriptor left open. */
static void watch__refused_is_told(void **state)
{
    (void)state;
    run_in_child(watch_where_it_is_forbidden);
    run_in_child(watch_in_an_older_kernel);
    run_in_child(watch_a_place_that_cannot_be);
    run_in_child(drop_what_cannot_be_dropped);
    run_in_child(ask_for_stores_in_an_older_kernel);
}

static void *run_nothing(void *argument)
{
    return argument;
}

static void start_a_thread_too_many(void)
{
    const struct ban bans[] = {{.call = SYS_clone3, .error = EAGAIN}, {.call = SYS_clone, .error = EAGAIN}};
    sigset_t blocked;
    uint64_t thread = 7;
    forbid(bans, 2);
    require_equal(ph_io_posix()->thread_start(NULL, run_nothing, NULL, &thread), -EAGAIN);
    require_equal(thread, 7);
    require_equal(pthread_sigmask(SIG_SETMASK, NULL, &blocked), 0);
    require_equal(sigismember(&blocked, SIGTERM), 0);
}

#define SMALL_TEXT 63 /* what is asked for of a file in /proc with one number */

static void read_what_cannot_be_read(void)
{
    const struct ban bans[] = {{SYS_read, EIO, true, 2, SMALL_TEXT}};
    const ph_io *io = ph_io_posix();
    uint8_t boot_id[16];
    forbid(bans, 1);
    require_equal(io->boot_id(io->ctx, boot_id), -EIO);
    require_equal(io->memory_limit(io->ctx), (uint64_t)sysconf(_SC_PHYS_PAGES) * PAGE);
}

static void lock_where_refusal_is_eacces(void)
{
    const struct ban bans[] = {{SYS_fcntl, EACCES, true, 1, F_OFD_SETLK}};
    int file = open_new("lock");
    forbid(bans, 1);
    require_equal(ph_io_posix()->lock(NULL, file, PH_LOCK_SHARED, 0, 1, false), -EAGAIN);
}

static void map_where_advice_is_refused(void)
{
    const struct ban bans[] = {{SYS_madvise, EINVAL, true, 2, MADV_DONTFORK}};
    int file = open_new("map");
    void *address = &file;
    forbid(bans, 1);
    require_equal(ph_io_posix()->map(NULL, file, PAGE, PH_MAP_SHARED, &address), -EINVAL);
    require(address == &file);
}

static void ask_for_what_is_not_to_be_had(void)
{
    const struct ban bans[] = {{.call = SYS_getrandom, .error = ENOSYS},
                               {SYS_newfstatat, ENOENT, true, 3, 0},
                               {.call = SYS_ioctl, .error = ENOTTY},
                               {.call = SYS_pread64, .error = EIO}};
    const ph_io *io = ph_io_posix();
    int file = open_new("map");
    void *address;
    uint64_t namespace = 7;
    uint8_t chance[16], bitmap = 0xff;
    require_equal(io->map(io->ctx, file, PAGE, PH_MAP_PRIVATE, &address), 0);
    forbid(bans, 4);
    require_equal(io->random(io->ctx, chance, sizeof chance), -ENOSYS);
    require_equal(io->pid_namespace(io->ctx, &namespace), -ENOENT);
    require_equal(namespace, 7);
    require_equal(io->touched(io->ctx, address, PAGE, NULL), -ENOSYS);
    require_equal(io->touched(io->ctx, address, PAGE, &bitmap), -ENOSYS);
    require_equal(bitmap, 0);
    require_equal(io->read(io->ctx, file, chance, 1, 0), -EIO);
}

/* Catches: a refusal taken for an answer, reported with another error, or that leaves a mapping or output behind. */
static void refusal__is_told(void **state)
{
    (void)state;
    run_in_child(lock_where_refusal_is_eacces);
    run_in_child(map_where_advice_is_refused);
    run_in_child(ask_for_what_is_not_to_be_had);
    run_in_child(start_a_thread_too_many);
    run_in_child(read_what_cannot_be_read);
}

static void run_out_of_descriptors(void)
{
    const ph_io *io = ph_io_posix();
    int file = open_new("few");
    void *address;
    uint8_t boot_id[16];
    struct rlimit limit, none;
    require_equal(io->map(io->ctx, file, PAGE, PH_MAP_PRIVATE, &address), 0);
    require_equal(getrlimit(RLIMIT_NOFILE, &limit), 0);
    none = (struct rlimit){.rlim_cur = 0, .rlim_max = limit.rlim_max};
    require_equal(setrlimit(RLIMIT_NOFILE, &none), 0);
    require_equal(io->open(io->ctx, path_of("few", ""), PH_OPEN_READ, 0), -EMFILE);
    require_equal(io->touched(io->ctx, address, PAGE, NULL), -ENOSYS);
    require_equal(io->stored(io->ctx, address, PAGE, boot_id), -ENOSYS);
    require_equal(io->watch(io->ctx, address, PAGE), -ENOSYS);
    require_equal(io->boot_id(io->ctx, boot_id), -EMFILE);
    require_equal(io->sync_directory(io->ctx, path_of("few", "")), -EMFILE);
    require_equal(io->memory_limit(io->ctx), (uint64_t)sysconf(_SC_PHYS_PAGES) * PAGE);
    require_equal(setrlimit(RLIMIT_NOFILE, &limit), 0);
}

/* Catches: a process without descriptors told that it has no memory, or that this machine was never started. */
static void descriptors__none_left(void **state)
{
    (void)state;
    run_in_child(run_out_of_descriptors);
}

/* ------------------------------------------------------------------------------------------------- other refusals */

/* Catches: an offset that wraps round to a place in the file, and a size that does. */
static void offsets__beyond_the_largest_are_refused(void **state)
{
    (void)state;
    const ph_io *io = ph_io_posix();
    int file = open_new("beyond");
    struct ph_file_stat found;
    uint64_t end;
    char byte = 1;
    require_equal(io->write(io->ctx, file, "x", 1, 0, 0), 1);
    require_equal(io->read(io->ctx, file, &byte, 1, BEYOND), -EINVAL);
    require_equal(io->write(io->ctx, file, &byte, 1, BEYOND, 0), -EFBIG);
    require_equal(io->write(io->ctx, file, &byte, 1, UINT64_MAX, PH_WRITE_DSYNC), -EFBIG);
    require_equal(io->truncate(io->ctx, file, BEYOND), -EFBIG);
    require_equal(io->next_data(io->ctx, file, BEYOND, &end), -ENXIO);
    require_equal(io->allocate(io->ctx, file, PH_ALLOCATE_RESERVE, BEYOND, 1), -EFBIG);
    require_equal(io->allocate(io->ctx, file, PH_ALLOCATE_PUNCH, 1, INT64_MAX), -EFBIG);
    require_equal(io->stat(io->ctx, file, &found), 0);
    require_equal(found.size_bytes, 1);
    require_equal(io->close(io->ctx, file), 0);
}

/* Catches: an error number lost or replaced on its way out. */
static void closed_file__is_told_by_every_call(void **state)
{
    (void)state;
    const ph_io *io = ph_io_posix();
    struct ph_file_stat found;
    uint64_t magic;
    void *address;
    char byte = 0;
    require_equal(io->read(io->ctx, CLOSED, &byte, 1, 0), -EBADF);
    require_equal(io->write(io->ctx, CLOSED, &byte, 1, 0, 0), -EBADF);
    require_equal(io->write(io->ctx, CLOSED, &byte, 1, 0, PH_WRITE_DSYNC), -EBADF);
    require_equal(io->sync(io->ctx, CLOSED), -EBADF);
    require_equal(io->start_writeback(io->ctx, CLOSED, 0, 1), -EBADF);
    require_equal(io->truncate(io->ctx, CLOSED, 0), -EBADF);
    require_equal(io->allocate(io->ctx, CLOSED, PH_ALLOCATE_RESERVE, 0, 1), -EBADF);
    require_equal(io->stat(io->ctx, CLOSED, &found), -EBADF);
    require_equal(io->next_data(io->ctx, CLOSED, 0, &magic), -EBADF);
    require_equal(io->filesystem(io->ctx, CLOSED, &magic), -EBADF);
    require_equal(io->lock(io->ctx, CLOSED, PH_LOCK_SHARED, 0, 1, false), -EBADF);
    require_equal(io->map(io->ctx, CLOSED, PAGE, PH_MAP_SHARED, &address), -EBADF);
    require_equal(io->close(io->ctx, CLOSED), -EBADF);
    require_equal(io->touched(io->ctx, &byte + (((uintptr_t)&byte & 1) == 0), PAGE, NULL), -EINVAL);
}

/* Catches: a path cut off silently, which would be another file's. */
static void paths__too_long_or_at_the_root(void **state)
{
    (void)state;
    const ph_io *io = ph_io_posix();
    char resolved[PATH_MAX], deep[PATH_MAX + 64], target[PATH_MAX];
    memset(deep, 'd', sizeof deep - 1);
    memcpy(deep + sizeof deep - 3, "/x", 3);
    require_equal(io->resolve(io->ctx, deep, resolved, sizeof resolved), -ENAMETOOLONG);
    require_equal(io->sync_directory(io->ctx, deep), -ENAMETOOLONG);
    require_equal(io->open(io->ctx, deep, PH_OPEN_WRITE | PH_OPEN_UNNAMED, 0600), -ENAMETOOLONG);
    /* A link to something missing, which together with the link's directory is too long. */
    for (size_t i = 0; i < sizeof target; i++)
        target[i] = i % 2 == 0 ? 'm' : '/';
    target[PATH_MAX - 5] = '\0';
    const char *link = path_of("far", "");
    require_equal(symlink(target, link), 0);
    require_equal(io->resolve(io->ctx, link, resolved, sizeof resolved), -ENAMETOOLONG);
    require_equal(io->resolve(io->ctx, "/pheap-missing", resolved, sizeof resolved), 0);
    require(strcmp(resolved, "/pheap-missing") == 0);
    require_equal(io->resolve(io->ctx, "/pheap-missing", resolved, 14), -ENAMETOOLONG);
    require_equal(io->sync_directory(io->ctx, "/pheap-missing"), 0);
}

/* Catches: another file of the same number taken for the one that is open, or "not there" said of what cannot be seen. */
static void is_at__another_place_or_none(void **state)
{
    (void)state;
    char inside[PATH_MAX], deep[PATH_MAX + 64];
    struct ph_file_stat sys;
    struct ph_file file, root;
    require_equal(close(open_new("here")), 0);
    (void)snprintf(inside, sizeof inside, "%s/x", path_of("here", ""));
    memset(deep, 'd', sizeof deep - 1);
    deep[sizeof deep - 1] = '\0';
    require_equal(ph_file_open(&file, ph_io_posix(), path_of("here", ""), PH_OPEN_READ, 0), PH_OK);
    require_equal(ph_file_is_at(&file, path_of("here", "")), 1);
    require_equal(ph_file_is_at(&file, inside), 0);
    require_equal(ph_file_is_at(&file, path_of("nowhere", "")), 0);
    require_equal(ph_file_is_at(&file, deep), -ENAMETOOLONG);
    ph_file_close(&file);
    /* The roots of such file systems have number 1. */
    require_equal(ph_file_open(&root, ph_io_posix(), "/proc", PH_OPEN_READ, 0), PH_OK);
    require_equal(ph_file_is_at(&root, "/proc"), 1);
    if (ph_io_posix()->stat_path(NULL, "/sys", &sys) == 0 && sys.device != root.device)
        require_equal(ph_file_is_at(&root, "/sys"), 0);
    ph_file_close(&root);
}

static int full_event; /* for the handler */

static void empty_the_event(int number)
{
    uint64_t count;
    (void)number;
    ssize_t got = read(full_event, &count, sizeof count);
    (void)got;
}

/* Catches: an event lost to a signal that came meanwhile, and a call that never returns because nobody reads the events. */
static void event__full_or_interrupted(void **state)
{
    (void)state;
    const ph_io *io = ph_io_posix();
    const uint64_t most = UINT64_MAX - 1;
    uint64_t count = 0;
    full_event = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    require_equal(write(full_event, &most, sizeof most), sizeof most);
    io->signal_event(io->ctx, full_event);
    require_equal(fcntl(full_event, F_SETFL, 0), 0); /* now it blocks, until the handler has made room */
    struct sigaction empty = {.sa_handler = empty_the_event}, before;
    const struct itimerval soon = {.it_value = {.tv_usec = 20000}};
    require_equal(sigaction(SIGALRM, &empty, &before), 0);
    require_equal(setitimer(ITIMER_REAL, &soon, NULL), 0);
    io->signal_event(io->ctx, full_event);
    require_equal(sigaction(SIGALRM, &before, NULL), 0);
    require_equal(read(full_event, &count, sizeof count), sizeof count);
    require_equal(count, 1);
    require_equal(close(full_event), 0);
}

/* Catches: a request for nothing answered with NULL, which means that there is no memory. */
static void memory__of_no_length_is_memory(void **state)
{
    (void)state;
    const ph_io *io = ph_io_posix();
    void *plain = io->alloc(io->ctx, 0, 16), *aligned = io->alloc(io->ctx, 0, PAGE);
    void *resized = io->resize(io->ctx, io->alloc(io->ctx, 10, 16), 0);
    require(plain != NULL && aligned != NULL && resized != NULL);
    require_equal((uintptr_t)aligned % PAGE, 0);
    io->free(io->ctx, plain);
    io->free(io->ctx, aligned);
    io->free(io->ctx, resized);
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__) /* which end the program there */
    require(io->alloc(io->ctx, SIZE_MAX / 4, PAGE) == NULL);
#endif
}

static void open_leased(const struct peer *test, const char *path)
{
    const ph_io *io = ph_io_posix();
    int file = io->open(io->ctx, path, PH_OPEN_WRITE, 0);
    require(file > STDERR_FILENO);
    peer_tell(test, 'o');
    require_equal(io->close(io->ctx, file), 0);
}

/* Catches: a file that another process holds a lease on, as file servers do, called busy instead of waited for. */
static void open__waits_for_a_lease_to_be_given_up(void **state)
{
    (void)state;
    const char *path = path_of("leased", "");
    require_equal(ph_io_posix()->close(NULL, open_new("leased")), 0);
    sigset_t broken, before;
    require_equal(sigemptyset(&broken) | sigaddset(&broken, SIGIO), 0);
    require_equal(sigprocmask(SIG_BLOCK, &broken, &before), 0);
    int file = open(path, O_RDONLY | O_CLOEXEC);
    require(file >= 0);
    bool leased = fcntl(file, F_SETLEASE, F_RDLCK) == 0;
    if (leased) {
        struct peer child = peer_start(open_leased, path);
        const struct timespec patience = {.tv_sec = 60};
        require_equal(sigtimedwait(&broken, NULL, &patience), SIGIO);
        require_equal(fcntl(file, F_SETLEASE, F_UNLCK), 0);
        peer_hear(&child, 'o');
        peer_join(&child);
    }
    require_equal(close(file), 0);
    require_equal(sigprocmask(SIG_SETMASK, &before, NULL), 0);
    if (!leased)
        skip();
}

int main(int argc, char **argv)
{
    choose_cases(argc, argv);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(older_kernel__has_stand_ins),
        cmocka_unit_test(rename__other_way_only_where_it_helps),
        cmocka_unit_test(write__with_dsync_tells_that_it_failed),
        cmocka_unit_test(unnamed__cannot_or_may_not),
        cmocka_unit_test(holes__unknown_are_data),
        cmocka_unit_test(watch__refused_is_told),
        cmocka_unit_test(refusal__is_told),
        cmocka_unit_test(descriptors__none_left),
        cmocka_unit_test(offsets__beyond_the_largest_are_refused),
        cmocka_unit_test(closed_file__is_told_by_every_call),
        cmocka_unit_test(paths__too_long_or_at_the_root),
        cmocka_unit_test(is_at__another_place_or_none),
        cmocka_unit_test(event__full_or_interrupted),
        cmocka_unit_test(memory__of_no_length_is_memory),
        cmocka_unit_test(open__waits_for_a_lease_to_be_given_up),
    };
    return cmocka_run_group_tests(tests, make_test_directory, remove_test_directory);
}
