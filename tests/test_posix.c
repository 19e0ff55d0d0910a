/* SPDX-License-Identifier: MIT */
/*
 * The seam over Linux where the system refuses: older kernels, calls that a filter forbids, files that are not open,
 * places beyond the largest, paths that are too long, no descriptors left.  The filters are set in children.
 */
#include "io/io.h"
#include "tests/public.h"

#include <limits.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/syscall.h>
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
    void *address;
    uint8_t bitmap = 0xff;
    require_equal(io->map(io->ctx, file, 8 * PAGE, PH_MAP_PRIVATE, &address), 0);
    volatile uint8_t *page = address;
    page[2 * PAGE] = page[3 * PAGE];
    require_equal(io->touched(io->ctx, address, 8 * PAGE, &bitmap), 1);
    require_equal(bitmap, 1U << 2);
    require_equal(io->touched(io->ctx, address, 8 * PAGE, NULL), 1);
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
    char byte = 1;
    require_equal(io->write(io->ctx, file, "x", 1, 0, 0), 1);
    require_equal(io->read(io->ctx, file, &byte, 1, BEYOND), -EINVAL);
    require_equal(io->write(io->ctx, file, &byte, 1, BEYOND, 0), -EFBIG);
    require_equal(io->write(io->ctx, file, &byte, 1, UINT64_MAX, PH_WRITE_DSYNC), -EFBIG);
    require_equal(io->truncate(io->ctx, file, BEYOND), -EFBIG);
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
        cmocka_unit_test(refusal__is_told),
        cmocka_unit_test(descriptors__none_left),
        cmocka_unit_test(offsets__beyond_the_largest_are_refused),
        cmocka_unit_test(closed_file__is_told_by_every_call),
        cmocka_unit_test(paths__too_long_or_at_the_root),
        cmocka_unit_test(memory__of_no_length_is_memory),
        cmocka_unit_test(open__waits_for_a_lease_to_be_given_up),
    };
    return cmocka_run_group_tests(tests, make_test_directory, remove_test_directory);
}
