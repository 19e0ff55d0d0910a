/* SPDX-License-Identifier: MIT */
/* The seam over Linux, files over the seam, and locks in shared memory. */
#include "io/checksum.h"
#include "io/file.h"
#include "io/io.h"
#include "io/newfile.h"
#include "tests/support/simfs.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#define PAGE 4096u

static char directory[64];

static int make_directory(void **state)
{
    (void)state;
    strcpy(directory, "/tmp/pheap-io-XXXXXX");
    return mkdtemp(directory) == NULL;
}

static int remove_directory(void **state)
{
    (void)state;
    char command[128];
    (void)snprintf(command, sizeof command, "rm -rf '%s'", directory);
    return system(command);
}

static const char *in_directory(const char *name)
{
    static char paths[4][128];
    static unsigned next;
    char *path = paths[next++ % 4];
    (void)snprintf(path, sizeof paths[0], "%s/%s", directory, name);
    return path;
}

static int open_file(const char *name, unsigned flags)
{
    const ph_io *io = ph_io_posix();
    int file = io->open(io->ctx, in_directory(name), flags, 0600);
    assert_true(file > 2);
    return file;
}

static int open_pages(const char *name, unsigned count)
{
    const ph_io *io = ph_io_posix();
    int file = open_file(name, PH_OPEN_WRITE | PH_OPEN_CREATE);
    assert_int_equal(io->truncate(io->ctx, file, 0), 0);
    assert_int_equal(io->truncate(io->ctx, file, (uint64_t)count * PAGE), 0);
    return file;
}

/* Each open() is an owner of its own, and close() of one handle does not drop the lock of another: catches POSIX
 * record locks, which belong to the process. */
static void lock__conflicts_between_opens_of_one_process(void **state)
{
    (void)state;
    const ph_io *io = ph_io_posix();
    int one = open_file("lock", PH_OPEN_WRITE | PH_OPEN_CREATE);
    int other = open_file("lock", PH_OPEN_WRITE);
    int third = open_file("lock", PH_OPEN_READ);
    assert_int_equal(io->lock(io->ctx, one, PH_LOCK_EXCLUSIVE, 0, 10, false), 0);
    assert_int_equal(io->lock(io->ctx, other, PH_LOCK_SHARED, 9, 1, false), -EAGAIN);
    assert_int_equal(io->lock(io->ctx, other, PH_LOCK_SHARED, 10, 1, false), 0);
    assert_int_equal(io->close(io->ctx, third), 0);
    assert_int_equal(io->lock(io->ctx, other, PH_LOCK_SHARED, 9, 1, false), -EAGAIN);
    assert_int_equal(io->lock(io->ctx, one, PH_LOCK_SHARED, 0, 10, false), 0);
    assert_int_equal(io->lock(io->ctx, other, PH_LOCK_SHARED, 0, 10, false), 0);
    assert_int_equal(io->lock(io->ctx, one, PH_LOCK_EXCLUSIVE, 0, 10, false), -EAGAIN);
    assert_int_equal(io->close(io->ctx, other), 0);
    assert_int_equal(io->lock(io->ctx, one, PH_LOCK_EXCLUSIVE, 0, 10, true), 0);
    assert_int_equal(io->close(io->ctx, one), 0);
}

/* The kernel drops the lock with the process: catches a lock kept by an inherited descriptor. */
static void lock__is_dropped_when_the_process_dies(void **state)
{
    (void)state;
    const ph_io *io = ph_io_posix();
    int ready[2];
    assert_int_equal(pipe(ready), 0);
    pid_t child = fork();
    if (child == 0) {
        int file = io->open(io->ctx, in_directory("lock"), PH_OPEN_WRITE | PH_OPEN_CREATE, 0600);
        char done = io->lock(io->ctx, file, PH_LOCK_EXCLUSIVE, 0, 0, false) == 0 ? 'y' : 'n';
        (void)!write(ready[1], &done, 1);
        (void)pause();
        _exit(0);
    }
    char done = 0;
    assert_int_equal(read(ready[0], &done, 1), 1);
    assert_int_equal(done, 'y');
    int file = open_file("lock", PH_OPEN_WRITE);
    assert_int_equal(io->lock(io->ctx, file, PH_LOCK_SHARED, 5, 1, false), -EAGAIN);
    assert_int_equal(kill(child, SIGKILL), 0);
    assert_int_equal(io->lock(io->ctx, file, PH_LOCK_SHARED, 5, 1, true), 0);
    assert_int_equal(waitpid(child, NULL, 0), child);
    assert_int_equal(io->close(io->ctx, file), 0);
    assert_int_equal(close(ready[0]) | close(ready[1]), 0);
}

/* A program without standard streams must not print into its heap. */
static void open__never_gives_a_standard_descriptor(void **state)
{
    (void)state;
    pid_t child = fork();
    if (child == 0) {
        const ph_io *io = ph_io_posix();
        const char *path = in_directory("low");
        (void)close(0);
        (void)close(1);
        (void)close(2);
        int one = io->open(io->ctx, path, PH_OPEN_WRITE | PH_OPEN_CREATE, 0600);
        int other = io->open(io->ctx, path, PH_OPEN_WRITE, 0600);
        bool good = one > 2 && other > 2 && fcntl(0, F_GETFD) < 0 && fcntl(1, F_GETFD) < 0 && fcntl(2, F_GETFD) < 0 &&
                    fcntl(one, F_GETFD) == FD_CLOEXEC && fcntl(other, F_GETFD) == FD_CLOEXEC;
        _exit(good ? 0 : 1);
    }
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
}

/* A FIFO in the heap's place must not hang the open, nor a directory or a missing file look like something else. */
static void open__of_something_else_fails_at_once(void **state)
{
    (void)state;
    const ph_io *io = ph_io_posix();
    struct ph_file_stat found;
    assert_int_equal(mkfifo(in_directory("fifo"), 0600), 0);
    int file = io->open(io->ctx, in_directory("fifo"), PH_OPEN_WRITE, 0);
    assert_true(file >= 0);
    assert_int_equal(io->stat(io->ctx, file, &found), 0);
    assert_int_equal(found.type, PH_FILE_OTHER);
    assert_int_equal(io->close(io->ctx, file), 0);
    assert_int_equal(io->open(io->ctx, directory, PH_OPEN_WRITE, 0), -EISDIR);
    assert_int_equal(io->open(io->ctx, in_directory("none"), PH_OPEN_WRITE, 0), -ENOENT);
    assert_int_equal(io->stat_path(io->ctx, directory, &found), 0);
    assert_int_equal(found.type, PH_FILE_DIRECTORY);
    file = open_file("new", PH_OPEN_WRITE | PH_OPEN_CREATE | PH_OPEN_EXCLUSIVE);
    assert_int_equal(io->close(io->ctx, file), 0);
    assert_int_equal(io->open(io->ctx, in_directory("new"), PH_OPEN_WRITE | PH_OPEN_CREATE | PH_OPEN_EXCLUSIVE, 0600),
                     -EEXIST);
}

/* Both ways of writing give back what was written, and direct transfers work where they are offered. */
static void write__with_dsync_and_direct_reads_back(void **state)
{
    (void)state;
    const ph_io *io = ph_io_posix();
    static _Alignas(4096) uint8_t block[PAGE], back[PAGE];
    int file = open_pages("dsync", 0);
    memset(block, 'a', sizeof block);
    assert_int_equal(io->write(io->ctx, file, block, 100, 1000, PH_WRITE_DSYNC), 100);
    struct ph_file_stat found;
    assert_int_equal(io->stat(io->ctx, file, &found), 0);
    assert_int_equal(found.size_bytes, 1100);
    assert_int_equal(io->read(io->ctx, file, back, PAGE, 990), 110);
    assert_int_equal(back[9], 0);
    assert_memory_equal(back + 10, block, 100);
    assert_int_equal(io->read(io->ctx, file, back, PAGE, 1100), 0);
    assert_int_equal(io->sync(io->ctx, file), 0);
    int direct = io->open(io->ctx, in_directory("dsync"), PH_OPEN_WRITE | PH_OPEN_DIRECT, 0);
    if (direct >= 0) {
        assert_int_equal(io->write(io->ctx, direct, block, PAGE, PAGE, PH_WRITE_DSYNC), PAGE);
        assert_int_equal(io->read(io->ctx, file, back, PAGE, PAGE), PAGE);
        assert_memory_equal(back, block, PAGE);
        assert_int_equal(io->close(io->ctx, direct), 0);
    } else {
        assert_int_equal(direct, -EINVAL);
    }
    assert_int_equal(io->close(io->ctx, file), 0);
}

/* What the whole design stands on: a clean private page sees later writes of the file, one stored to does not, and after
 * it was dropped it does again. */
static void map__private_pages_follow_the_file_until_stored_to(void **state)
{
    (void)state;
    const ph_io *io = ph_io_posix();
    int file = open_pages("map", 4);
    void *address;
    assert_int_equal(io->map(io->ctx, file, 16 * PAGE, PH_MAP_PRIVATE, &address), 0);
    volatile uint8_t *page = address;
    assert_int_equal(page[0] + page[PAGE], 0);
    page[PAGE + 1] = 7;
    assert_int_equal(io->write(io->ctx, file, "x", 1, 0, 0), 1);
    assert_int_equal(io->write(io->ctx, file, "y", 1, PAGE, 0), 1);
    assert_int_equal(page[0], 'x');
    assert_int_equal(page[PAGE], 0);
    assert_int_equal(page[PAGE + 1], 7);
    assert_int_equal(io->drop(io->ctx, (uint8_t *)address + PAGE, PAGE), 0);
    assert_int_equal(page[PAGE], 'y');
    assert_int_equal(page[PAGE + 1], 0);
    /* Pages past the end appear when the file grows. */
    assert_int_equal(io->truncate(io->ctx, file, 16 * PAGE), 0);
    assert_int_equal(io->write(io->ctx, file, "z", 1, 10 * PAGE, 0), 1);
    assert_int_equal(page[10 * PAGE], 'z');
    /* Nothing stored in the map has reached the file. */
    uint8_t byte = 1;
    assert_int_equal(io->read(io->ctx, file, &byte, 1, PAGE + 1), 1);
    assert_int_equal(byte, 0);
    assert_int_equal(io->unmap(io->ctx, address, 16 * PAGE), 0);
    assert_int_equal(io->close(io->ctx, file), 0);
}

/* Views do not pass to a forked child: catches a missing MADV_DONTFORK, which would double private memory. */
static void map__private_is_gone_in_a_forked_child(void **state)
{
    (void)state;
    const ph_io *io = ph_io_posix();
    int file = open_pages("fork", 1);
    void *address;
    assert_int_equal(io->map(io->ctx, file, PAGE, PH_MAP_PRIVATE, &address), 0);
    pid_t child = fork();
    if (child == 0) {
        unsigned char resident;
        _exit(mincore(address, PAGE, &resident) == -1 && errno == ENOMEM ? 0 : 1);
    }
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
    assert_int_equal(io->unmap(io->ctx, address, PAGE), 0);
    assert_int_equal(io->close(io->ctx, file), 0);
}

static bool bit(const uint8_t *bitmap, unsigned index)
{
    return (bitmap[index / 8] >> (index % 8) & 1) != 0;
}

/* Exactly the pages stored to are reported: read ones, unread ones, dropped ones and those past the end are not. */
static void touched__reports_copies_and_nothing_else(void **state)
{
    (void)state;
    const ph_io *io = ph_io_posix();
    enum { PAGES = 5000, MAPPED = 6000 };
    int file = open_pages("touched", PAGES);
    void *address;
    assert_int_equal(io->write(io->ctx, file, "x", 1, 8 * PAGE, 0), 1);
    assert_int_equal(io->map(io->ctx, file, (size_t)MAPPED * PAGE, PH_MAP_PRIVATE, &address), 0);
    volatile uint8_t *page = address;
    unsigned sum = 0;
    for (unsigned i = 0; i < PAGES; i += 2)
        sum += page[(size_t)i * PAGE];
    assert_int_equal(sum, 'x');
    for (unsigned i = 0; i < PAGES; i += 3)
        page[(size_t)i * PAGE + 5] = 1;
    assert_int_equal(io->drop(io->ctx, (uint8_t *)address + 9 * PAGE, PAGE), 0);
    static uint8_t bitmap[MAPPED / 8];
    memset(bitmap, 0xa5, sizeof bitmap);
    int64_t done = io->touched(io->ctx, address, (size_t)MAPPED * PAGE, bitmap);
    if (done == -ENOSYS)
        skip();
    int64_t copies = 0;
    for (unsigned i = 0; i < MAPPED; i++) {
        assert_int_equal(bit(bitmap, i), i < PAGES && i % 3 == 0 && i != 9);
        copies += bit(bitmap, i);
    }
    assert_int_equal(done, copies);
    assert_int_equal(io->touched(io->ctx, address, (size_t)MAPPED * PAGE, NULL), copies);
    assert_int_equal(io->unmap(io->ctx, address, (size_t)MAPPED * PAGE), 0);
    assert_int_equal(io->close(io->ctx, file), 0);
}

/* Store to a page by its number and say so in `expected`. */
static void store_page(volatile uint8_t *page, unsigned index, bool *expected)
{
    page[(size_t)index * PAGE + index % PAGE]++;
    expected[index] = true;
}

/* `stored` tells the pages that were stored to since the last call, and no other. */
static void check_stored(const uint8_t *map, unsigned pages, bool *expected)
{
    const ph_io *io = ph_io_posix();
    static uint8_t bitmap[6000 / 8 + 1];
    memset(bitmap, 0xa5, sizeof bitmap);
    int64_t told = io->stored(io->ctx, map, (size_t)pages * PAGE, bitmap), count = 0;
    for (unsigned i = 0; i < pages; i++) {
        if (expected[i] && !bit(bitmap, i))
            fail_msg("page %u was stored to and is not told", i);
        if (!expected[i] && bit(bitmap, i))
            fail_msg("page %u was not stored to and is told", i);
        count += expected[i];
        expected[i] = false;
    }
    assert_int_equal(told, count);
}

/*
 * Catches: a store that a watch misses: to pages read before, private before, never touched, dropped, dropped and read
 * again, changed in the file meanwhile, or beyond the end of a file that grows; once and again.  And what a watch leaves
 * behind that looks like a private copy.
 */
static void stored__misses_no_store(void **state)
{
    (void)state;
    const ph_io *io = ph_io_posix();
    enum { PAGES = 5000, MAPPED = 6000 };
    static bool expected[MAPPED];
    int file = open_pages("stored", PAGES);
    void *address;
    assert_int_equal(io->map(io->ctx, file, (size_t)MAPPED * PAGE, PH_MAP_PRIVATE, &address), 0);
    volatile uint8_t *page = address;
    store_page(page, 1, expected); /* private before the watch begins */
    int watch = io->watch(io->ctx, address, (size_t)MAPPED * PAGE);
    if (watch == -ENOSYS)
        skip();
    assert_true(watch > STDERR_FILENO);
    unsigned sum = page[2 * PAGE];
    store_page(page, 3, expected);
    check_stored(address, MAPPED, expected);
    check_stored(address, MAPPED, expected);

    for (unsigned i = 0; i < 8; i++) /* 1 and 3: private, 2: read, the others never touched */
        store_page(page, i, expected);
    for (unsigned i = 100; i < PAGES; i += i < 3000 ? 7 : 77)
        store_page(page, i, expected);
    check_stored(address, MAPPED, expected);
    sum += page[5 * PAGE] + page[300 * PAGE];
    check_stored(address, MAPPED, expected);
    store_page(page, 5, expected);
    check_stored(address, MAPPED, expected);

    store_page(page, 6, expected);
    int64_t copies = io->touched(io->ctx, address, (size_t)MAPPED * PAGE, NULL);
    assert_int_equal(io->drop_watched(io->ctx, watch, address, 50 * PAGE), 0);
    expected[6] = false; /* it shows the file again */
    assert_int_equal(io->touched(io->ctx, address, (size_t)MAPPED * PAGE, NULL), copies - 8);
    sum += page[4 * PAGE];
    assert_int_equal(io->write(io->ctx, file, "new", 3, 9 * PAGE, 0), 3);
    check_stored(address, MAPPED, expected);
    assert_int_equal(page[9 * PAGE], 'n');
    for (unsigned i = 3; i < 10; i++)
        store_page(page, i, expected);
    check_stored(address, MAPPED, expected);

    assert_int_equal(io->truncate(io->ctx, file, (uint64_t)MAPPED * PAGE), 0);
    sum += page[5500 * PAGE];
    store_page(page, 5400, expected);
    store_page(page, 5999, expected);
    check_stored(address, MAPPED, expected);
    store_page(page, 5999, expected);
    store_page(page, 5500, expected);
    check_stored(address, MAPPED, expected);
    assert_int_equal(io->touched(io->ctx, address, (size_t)MAPPED * PAGE, NULL), copies - 8 + 7 + 3);
    assert_int_equal(sum, 0); /* the bytes read are not those stored to */
    io->unwatch(io->ctx, watch);
    page[PAGE] = 2;
    assert_int_equal(io->unmap(io->ctx, address, (size_t)MAPPED * PAGE), 0);
    assert_int_equal(io->close(io->ctx, file), 0);
}

/* Shared maps are one memory for all, and `protect` takes effect. */
static void map__shared_is_seen_through_every_map(void **state)
{
    (void)state;
    const ph_io *io = ph_io_posix();
    int file = open_pages("shared", 1);
    void *one, *other;
    assert_int_equal(io->map(io->ctx, file, PAGE, PH_MAP_SHARED, &one), 0);
    assert_int_equal(io->map(io->ctx, file, PAGE, PH_MAP_SHARED, &other), 0);
    *(volatile uint32_t *)one = 77;
    assert_int_equal(*(volatile uint32_t *)other, 77);
    assert_int_equal(io->protect(io->ctx, one, PAGE, false), 0);
    assert_int_equal(io->protect(io->ctx, one, PAGE, true), 0);
    *(volatile uint32_t *)one = 78;
    assert_int_equal(io->unmap(io->ctx, one, PAGE) | io->unmap(io->ctx, other, PAGE), 0);
    assert_int_equal(io->close(io->ctx, file), 0);
}

/* Reserving keeps content, punching makes zeros and keeps the size. */
static void allocate__keeps_what_it_should(void **state)
{
    (void)state;
    const ph_io *io = ph_io_posix();
    int file = open_pages("allocate", 2);
    uint8_t block[PAGE];
    memset(block, 'a', sizeof block);
    assert_int_equal(io->write(io->ctx, file, block, PAGE, 0, 0), PAGE);
    assert_int_equal(io->write(io->ctx, file, block, PAGE, PAGE, 0), PAGE);
    int done = io->allocate(io->ctx, file, PH_ALLOCATE_RESERVE, 0, 8 * PAGE);
    if (done == -EOPNOTSUPP)
        skip();
    assert_int_equal(done, 0);
    struct ph_file_stat found;
    assert_int_equal(io->stat(io->ctx, file, &found), 0);
    assert_int_equal(found.size_bytes, 8 * PAGE);
    assert_true(found.disk_bytes >= 8 * PAGE);
    assert_int_equal(io->allocate(io->ctx, file, PH_ALLOCATE_PUNCH, PAGE, PAGE), 0);
    assert_int_equal(io->read(io->ctx, file, block, PAGE, 0), PAGE);
    assert_int_equal(block[PAGE - 1], 'a');
    assert_int_equal(io->read(io->ctx, file, block, PAGE, PAGE), PAGE);
    assert_int_equal(block[0] | block[PAGE - 1], 0);
    assert_int_equal(io->stat(io->ctx, file, &found), 0);
    assert_int_equal(found.size_bytes, 8 * PAGE);
    assert_int_equal(io->close(io->ctx, file), 0);
}

/* A file that is there already is never replaced. */
static void rename__never_replaces(void **state)
{
    (void)state;
    const ph_io *io = ph_io_posix();
    assert_int_equal(io->close(io->ctx, open_file("from", PH_OPEN_WRITE | PH_OPEN_CREATE)), 0);
    assert_int_equal(io->close(io->ctx, open_file("there", PH_OPEN_WRITE | PH_OPEN_CREATE)), 0);
    assert_int_equal(io->rename_new(io->ctx, in_directory("from"), in_directory("there")), -EEXIST);
    assert_int_equal(io->rename_new(io->ctx, in_directory("from"), in_directory("to")), 0);
    assert_int_equal(io->open(io->ctx, in_directory("from"), PH_OPEN_READ, 0), -ENOENT);
    assert_int_equal(io->sync_directory(io->ctx, in_directory("to")), 0);
    assert_int_equal(io->unlink(io->ctx, in_directory("to")), 0);
    assert_int_equal(io->unlink(io->ctx, in_directory("to")), -ENOENT);
    assert_int_equal(io->sync_directory(io->ctx, "/nowhere/file"), -ENOENT);
    assert_int_equal(io->sync_directory(io->ctx, "file-in-the-present-directory"), 0);
}

static void write_byte(const ph_io *io, int file, char byte)
{
    assert_int_equal(io->write(io->ctx, file, &byte, 1, 0, 0), 1);
}

static char first_byte(const char *path)
{
    const ph_io *io = ph_io_posix();
    char byte = 0;
    int file = io->open(io->ctx, path, PH_OPEN_READ, 0);
    if (file < 0)
        return 0;
    assert_int_equal(io->read(io->ctx, file, &byte, 1, 0), 1);
    assert_int_equal(io->close(io->ctx, file), 0);
    return byte;
}

/* Catches a rename that refuses, and one that leaves the other name. */
static void rename__replaces_when_asked_to(void **state)
{
    (void)state;
    const ph_io *io = ph_io_posix();
    int from = open_file("from", PH_OPEN_WRITE | PH_OPEN_CREATE), to = open_file("to", PH_OPEN_WRITE | PH_OPEN_CREATE);
    write_byte(io, from, 'f');
    write_byte(io, to, 't');
    assert_int_equal(io->rename(io->ctx, in_directory("from"), in_directory("to")), 0);
    assert_int_equal(first_byte(in_directory("to")), 'f');
    assert_int_equal(first_byte(in_directory("from")), 0);
    assert_int_equal(io->close(io->ctx, from), 0);
    assert_int_equal(io->close(io->ctx, to), 0);
    assert_int_equal(io->unlink(io->ctx, in_directory("to")), 0);
}

/* Catches a file that has a name too early, and a link that replaces. */
static void unnamed__gets_a_name_by_link_only(void **state)
{
    (void)state;
    const ph_io *io = ph_io_posix();
    int file = io->open(io->ctx, in_directory("unnamed"), PH_OPEN_WRITE | PH_OPEN_UNNAMED, 0600);
    if (file == -EOPNOTSUPP)
        skip();
    assert_true(file > 2);
    write_byte(io, file, 'u');
    assert_int_equal(first_byte(in_directory("unnamed")), 0);
    assert_int_equal(io->link(io->ctx, file, in_directory("unnamed")), 0);
    assert_int_equal(first_byte(in_directory("unnamed")), 'u');
    int other = io->open(io->ctx, in_directory("unnamed"), PH_OPEN_WRITE | PH_OPEN_UNNAMED, 0600);
    assert_int_equal(io->link(io->ctx, other, in_directory("unnamed")), -EEXIST);
    assert_int_equal(io->close(io->ctx, other), 0);
    assert_int_equal(io->close(io->ctx, file), 0);
    assert_int_equal(io->unlink(io->ctx, in_directory("unnamed")), 0);
    assert_true(io->open(io->ctx, "/nowhere/file", PH_OPEN_WRITE | PH_OPEN_UNNAMED, 0600) < 0);
}

/* Whatever the file system tells, all that was written lies in some stretch: catches data taken for a hole. */
static void next_data__passes_over_holes_only(void **state)
{
    (void)state;
    const ph_io *io = ph_io_posix();
    int file = open_file("holes", PH_OPEN_WRITE | PH_OPEN_CREATE);
    static const uint64_t written[] = {3, 200, 201, 5000};
    for (size_t i = 0; i < sizeof written / sizeof written[0]; i++)
        assert_int_equal(io->write(io->ctx, file, "x", 1, written[i] * PAGE, 0), 1);
    assert_int_equal(io->truncate(io->ctx, file, 6000 * PAGE), 0);
    uint64_t at = 0, end = 0, pages = 0;
    unsigned found = 0;
    for (int64_t start; (start = io->next_data(io->ctx, file, at, &end)) >= 0; at = end) {
        assert_true((uint64_t)start >= at && end > (uint64_t)start && end <= 6000 * PAGE);
        for (size_t i = 0; i < sizeof written / sizeof written[0]; i++)
            found += (uint64_t)start <= written[i] * PAGE && written[i] * PAGE < end;
        pages += (end - (uint64_t)start) / PAGE;
    }
    assert_int_equal(found, 4);
    assert_int_equal(io->next_data(io->ctx, file, 6000 * PAGE, &end), -ENXIO);
    print_message("%llu of 6000 pages are data\n", (unsigned long long)pages);
    assert_int_equal(io->close(io->ctx, file), 0);
    assert_int_equal(io->unlink(io->ctx, in_directory("holes")), 0);
}

/* One byte in a new file, published or not. */
static ph_status make_file(const ph_io *io, const char *path, char byte, bool unnamed, bool replace)
{
    struct ph_newfile file;
    ph_status status = ph_newfile_begin(&file, io, path, 0600, unnamed);
    if (status == PH_OK)
        status = ph_file_write(&file.file, &byte, 1, 0, 0);
    if (status == PH_OK)
        status = ph_newfile_publish(&file, replace);
    ph_newfile_end(&file);
    return status;
}

/* Catches a file that is replaced unasked, one that is not replaced though asked, and one left beside. */
static void newfile__appears_whole_or_not_at_all(void **state)
{
    (void)state;
    const ph_io *io = ph_io_posix();
    const char *path = in_directory("made");
    for (int unnamed = 0; unnamed < 2; unnamed++) {
        assert_int_equal(make_file(io, path, 'a', unnamed, false), PH_OK);
        assert_int_equal(first_byte(path), 'a');
        assert_int_equal(make_file(io, path, 'b', unnamed, false), PH_EXISTS);
        assert_int_equal(first_byte(path), 'a');
        assert_int_equal(make_file(io, path, 'c', unnamed, true), PH_OK);
        assert_int_equal(first_byte(path), 'c');
        struct ph_newfile dropped;
        assert_int_equal(ph_newfile_begin(&dropped, io, path, 0600, unnamed), PH_OK);
        ph_newfile_end(&dropped);
        assert_int_equal(first_byte(path), 'c');
        struct ph_file_stat stat;
        assert_int_equal(io->stat_path(io->ctx, in_directory("made-new"), &stat), -ENOENT);
        assert_int_equal(io->unlink(io->ctx, path), 0);
    }
}

/*
 * Every call of it fails once, with and without names for unfinished files: the name shows the old content or the new,
 * and nothing is left beside.  Catches a failure that is passed over and a file that is half there.
 */
static void newfile__every_call_may_fail(void **state)
{
    (void)state;
    struct ph_file_stat stat;
    for (unsigned way = 0; way < 4; way++)
        for (uint64_t call = 1;; call++) {
            struct ph_sim *sim = ph_sim_new(&(struct ph_sim_options){.seed = call, .no_journal = true});
            assert_int_equal(ph_sim_poke(sim, "d/f", "o", 1, 0), 1);
            ph_sim_fail_at(sim, PH_SIM_ANY, call, EIO, PH_SIM_ONCE);
            ph_status status = make_file(ph_sim_io(sim), "d/f", 'n', way % 2 != 0, true);
            bool struck = ph_sim_struck(sim) != 0;
            char byte = 0;
            assert_int_equal(ph_sim_peek(sim, "d/f", &byte, 1, 0), 1);
            assert_true(byte == 'n' || (byte == 'o' && status != PH_OK));
            assert_true(struck || (status == PH_OK && byte == 'n'));
            /* What could not be unlinked stays, empty; the next maker takes it. */
            bool beside = ph_sim_io(sim)->stat_path(sim, "d/f-new", &stat) == 0;
            assert_true(!beside || status != PH_OK);
            assert_int_equal(make_file(ph_sim_io(sim), "d/f", 'm', way / 2 != 0, true), PH_OK);
            assert_int_equal(ph_sim_size(sim, "d/f-new"), -ENOENT);
            assert_int_equal(ph_sim_live_handles(sim), 0);
            assert_int_equal(ph_sim_live_allocations(sim), 0);
            ph_sim_free(sim);
            if (!struck)
                break;
        }
}

/* The whole of a stream has the checksum of the bytes in one piece, however it is cut. */
static void checksum__stream_equals_the_whole(void **state)
{
    (void)state;
    uint8_t bytes[5000];
    for (size_t i = 0; i < sizeof bytes; i++)
        bytes[i] = (uint8_t)(i * 31 + i / 251);
    for (size_t part = 1; part <= sizeof bytes; part = part * 3 + 1) {
        struct ph_checksum_stream stream;
        ph_checksum_begin(&stream);
        for (size_t at = 0; at < sizeof bytes; at += part)
            ph_checksum_add(&stream, bytes + at, sizeof bytes - at < part ? sizeof bytes - at : part);
        assert_int_equal(ph_checksum_value(&stream), ph_checksum(bytes, sizeof bytes));
    }
}

/* One file has one resolved name, whether it exists yet or not: catches a log beside the link instead of the heap. */
static void resolve__follows_links_even_to_what_is_not_there(void **state)
{
    (void)state;
    const ph_io *io = ph_io_posix();
    char real[PATH_MAX], found[PATH_MAX], want[PATH_MAX + 16];
    assert_non_null(realpath(directory, real));
    (void)snprintf(want, sizeof want, "%s/target", real);
    assert_int_equal(io->resolve(io->ctx, in_directory("target"), found, sizeof found), 0);
    assert_string_equal(found, want);
    assert_int_equal(symlink("target", in_directory("link1")), 0);
    assert_int_equal(symlink(in_directory("link1"), in_directory("link2")), 0);
    assert_int_equal(io->resolve(io->ctx, in_directory("link2"), found, sizeof found), 0);
    assert_string_equal(found, want);
    assert_int_equal(io->close(io->ctx, open_file("target", PH_OPEN_WRITE | PH_OPEN_CREATE)), 0);
    assert_int_equal(io->resolve(io->ctx, in_directory("./link2"), found, sizeof found), 0);
    assert_string_equal(found, want);
    assert_int_equal(symlink("loop", in_directory("loop")), 0);
    assert_int_equal(io->resolve(io->ctx, in_directory("loop"), found, sizeof found), -ELOOP);
    assert_int_equal(io->resolve(io->ctx, in_directory("none/file"), found, sizeof found), -ENOENT);
    assert_int_equal(io->resolve(io->ctx, in_directory("none/"), found, sizeof found), -ENOENT);
    assert_int_equal(io->resolve(io->ctx, in_directory("target"), found, 5), -ENAMETOOLONG);
    assert_int_equal(io->resolve(io->ctx, "/", found, sizeof found), 0);
    assert_string_equal(found, "/");
}

/* Identity and limits are what the system says: catches parsers that read nonsense. */
static void machine__answers_are_plausible(void **state)
{
    (void)state;
    const ph_io *io = ph_io_posix();
    uint8_t boot[2][16], chance[2][32];
    uint64_t namespace = 0, magic = 0;
    assert_int_equal(io->boot_id(io->ctx, boot[0]) | io->boot_id(io->ctx, boot[1]), 0);
    assert_memory_equal(boot[0], boot[1], 16);
    assert_int_equal(io->random(io->ctx, chance[0], 32) | io->random(io->ctx, chance[1], 32), 0);
    assert_memory_not_equal(chance[0], chance[1], 32);
    assert_int_equal(io->pid_namespace(io->ctx, &namespace), 0);
    assert_true(namespace != 0);
    assert_int_equal(io->process(io->ctx), getpid());
    assert_true(io->memory_limit(io->ctx) >= UINT64_C(1) << 20);
    assert_true(io->memory_limit(io->ctx) <= (uint64_t)sysconf(_SC_PHYS_PAGES) * PAGE);
    int file = open_pages("magic", 0);
    assert_int_equal(io->filesystem(io->ctx, file, &magic), 0);
    assert_true(magic != 0);
    assert_int_equal(io->close(io->ctx, file), 0);
    uint64_t before = io->clock_ns(io->ctx, PH_CLOCK_MONOTONIC);
    assert_true(io->clock_ns(io->ctx, PH_CLOCK_MONOTONIC) >= before);
    assert_true(io->clock_ns(io->ctx, PH_CLOCK_COARSE) + UINT64_C(100000000) >= before);
    assert_true(io->clock_ns(io->ctx, PH_CLOCK_REALTIME) > UINT64_C(1600000000000000000));
    assert_true(io->clock_ns(io->ctx, PH_CLOCK_REALTIME_COARSE) > UINT64_C(1600000000000000000));
    void *memory = io->alloc(io->ctx, 100, 4096);
    assert_non_null(memory);
    assert_int_equal((uintptr_t)memory % 4096, 0);
    memory = io->resize(io->ctx, memory, 100000);
    assert_non_null(memory);
    io->free(io->ctx, memory);
}

/* wait() sleeps only while the word is as expected, ends with the time, and a wake in another process reaches it. */
static void wait__is_woken_across_processes(void **state)
{
    (void)state;
    const ph_io *io = ph_io_posix();
    int file = open_pages("futex", 1);
    void *address;
    assert_int_equal(io->map(io->ctx, file, PAGE, PH_MAP_SHARED, &address), 0);
    uint32_t *word = address;
    io->wait(io->ctx, word, 5, UINT64_C(60000000000));
    uint64_t before = io->clock_ns(io->ctx, PH_CLOCK_MONOTONIC);
    io->wait(io->ctx, word, 0, UINT64_C(2000000));
    assert_true(io->clock_ns(io->ctx, PH_CLOCK_MONOTONIC) - before >= UINT64_C(1000000));
    pid_t child = fork();
    if (child == 0) { /* it has no part in the parent's map */
        void *own;
        if (io->map(io->ctx, file, PAGE, PH_MAP_SHARED, &own) != 0)
            _exit(1);
        word = own;
        (void)usleep(20000);
        __atomic_store_n(word, 1, __ATOMIC_SEQ_CST);
        io->wake(io->ctx, word, INT_MAX);
        _exit(0);
    }
    while (__atomic_load_n(word, __ATOMIC_SEQ_CST) == 0)
        io->wait(io->ctx, word, 0, UINT64_C(60000000000));
    assert_true(io->clock_ns(io->ctx, PH_CLOCK_MONOTONIC) - before < UINT64_C(30000000000));
    assert_int_equal(waitpid(child, NULL, 0), child);
    assert_int_equal(io->unmap(io->ctx, address, PAGE), 0);
    assert_int_equal(io->close(io->ctx, file), 0);
}

/* Files over the seam. */

/* Whole transfers come out of short and interrupted ones, at every call. */
static void file__short_and_interrupted_transfers_are_made_whole(void **state)
{
    (void)state;
    struct ph_sim *sim = ph_sim_new(NULL);
    const ph_io *io = ph_sim_io(sim);
    struct ph_file file;
    uint8_t out[5000], in[5000];
    for (size_t i = 0; i < sizeof out; i++)
        out[i] = (uint8_t)(i * 7);
    for (unsigned variant = 0; variant < 4; variant++) {
        enum ph_sim_fault_mode mode = variant % 2 == 0 ? PH_SIM_SHORT : PH_SIM_ONCE;
        unsigned ops = variant < 2 ? PH_SIM_WRITE : PH_SIM_READ;
        assert_int_equal(ph_file_open(&file, io, "f", PH_OPEN_WRITE | PH_OPEN_CREATE, 0600), PH_OK);
        ph_sim_fail_at(sim, ops, 1, EINTR, mode);
        assert_int_equal(ph_file_write(&file, out, sizeof out, 100, 0), PH_OK);
        memset(in, 0, sizeof in);
        assert_int_equal(ph_file_read_exact(&file, in, sizeof in, 100), PH_OK);
        assert_int_equal(ph_sim_struck(sim), 1);
        assert_memory_equal(in, out, sizeof in);
        ph_file_close(&file);
    }
    assert_int_equal(ph_file_open(&file, io, "f", PH_OPEN_WRITE, 0), PH_OK);
    ph_sim_fail_at(sim, PH_SIM_SYNC, 1, EINTR, PH_SIM_ONCE);
    assert_int_equal(ph_file_sync(&file), PH_OK);
    assert_int_equal(file.sync_count, 1);
    ph_sim_fail_at(sim, PH_SIM_TRUNCATE, 1, EINTR, PH_SIM_ONCE);
    assert_int_equal(ph_file_truncate(&file, 5100), PH_OK);
    assert_int_equal(ph_sim_struck(sim), 1);
    size_t got = 0;
    assert_int_equal(ph_file_read(&file, in, sizeof in, 5000, &got), PH_OK);
    assert_int_equal(got, 100);
    assert_int_equal(ph_file_read_exact(&file, in, sizeof in, 5000), PH_CORRUPT);
    assert_non_null(strstr(ph_detail(), "the file ends at 5100"));
    ph_file_close(&file);
    ph_file_close(&file);
    ph_sim_free(sim);
}

/* Every failure names the file and has the status that R11 promises. */
static void file__failures_have_a_status_and_a_text(void **state)
{
    (void)state;
    static const struct {
        int error;
        ph_status status;
    } rows[] = {
        {ENOSPC, PH_NO_SPACE},      {EDQUOT, PH_NO_SPACE},  {EFBIG, PH_NO_SPACE},         {EIO, PH_IO},
        {ENOMEM, PH_NO_MEMORY},     {EROFS, PH_READ_ONLY},  {EACCES, PH_PERMISSION},      {EPERM, PH_PERMISSION},
        {ENOENT, PH_NOT_FOUND},     {EEXIST, PH_EXISTS},    {EISDIR, PH_NOT_HEAP},        {ELOOP, PH_INVALID},
        {ENAMETOOLONG, PH_INVALID}, {EMFILE, PH_NO_MEMORY}, {EOPNOTSUPP, PH_UNSUPPORTED}, {EBADF, PH_IO}};
    struct ph_sim *sim = ph_sim_new(NULL);
    const ph_io *io = ph_sim_io(sim);
    struct ph_file file, second;
    struct ph_file_stat found;
    uint8_t byte = 0;
    assert_int_equal(ph_file_open(&file, io, "some/file", PH_OPEN_WRITE | PH_OPEN_CREATE, 0600), PH_OK);
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        ph_status want = rows[i].status;
        ph_sim_fail_at(sim, PH_SIM_ANY & ~(unsigned)PH_SIM_MEMORY, 1, rows[i].error, PH_SIM_FOREVER);
        assert_int_equal(ph_file_open(&second, io, "some/file", PH_OPEN_WRITE, 0600), want);
        assert_non_null(strstr(ph_detail(), "some/file: cannot open: "));
        assert_int_equal(ph_file_write(&file, &byte, 1, 0, 0), want);
        assert_non_null(strstr(ph_detail(), "some/file: cannot write: "));
        assert_int_equal(ph_file_read_exact(&file, &byte, 1, 0), want);
        assert_int_equal(ph_file_sync(&file), want);
        assert_int_equal(ph_file_truncate(&file, 9), want);
        assert_int_equal(ph_file_allocate(&file, PH_ALLOCATE_RESERVE, 0, 9), want);
        assert_int_equal(ph_file_stat(&file, &found), want);
        assert_int_equal(ph_file_lock(&file, PH_LOCK_SHARED, 0, 1, false), want);
        assert_non_null(strstr(ph_detail(), "some/file: cannot lock: "));
        assert_non_null(strstr(ph_detail(), strerror(rows[i].error)));
        assert_int_equal(ph_file_open(&second, io, "some/other", PH_OPEN_WRITE | PH_OPEN_CREATE | PH_OPEN_EXCLUSIVE, 0),
                         want);
        assert_non_null(strstr(ph_detail(), "some/other: cannot create: "));
        assert_int_equal(ph_file_allocate(&file, PH_ALLOCATE_PUNCH, 0, 9), want);
        assert_non_null(strstr(ph_detail(), "some/file: cannot free space: "));
    }
    ph_sim_fail_at(sim, PH_SIM_OPEN, 1, EINVAL, PH_SIM_ONCE); /* not for want of direct transfers */
    assert_int_equal(ph_file_open(&second, io, "some/file", PH_OPEN_WRITE, 0600), PH_IO);
    ph_sim_fail_clear(sim);
    assert_int_equal(file.sync_count, 0);
    assert_int_equal(ph_file_stat(&file, &found), PH_OK);
    assert_true(found.size_bytes <= 1); /* the write that met EIO may have happened */
    ph_sim_fail_at(sim, PH_SIM_MEMORY, 1, ENOMEM, PH_SIM_ONCE);
    assert_int_equal(ph_file_open(&second, io, "some/file", PH_OPEN_WRITE, 0600), PH_NO_MEMORY);
    assert_false(second.open);
    ph_file_close(&second);
    ph_file_close(&file);
    assert_int_equal(ph_sim_live_allocations(sim), 0);
    assert_int_equal(ph_sim_live_handles(sim), 0);
    ph_sim_free(sim);
}

/* The real system's errors arrive through the same texts; a refused direct open is UNSUPPORTED. */
static void file__real_errors_are_told(void **state)
{
    (void)state;
    struct ph_file file;
    assert_int_equal(ph_file_open(&file, ph_io_posix(), in_directory("missing"), PH_OPEN_READ, 0), PH_NOT_FOUND);
    assert_non_null(strstr(ph_detail(), "missing: cannot open: No such file"));
    assert_int_equal(ph_file_open(&file, ph_io_posix(), directory, PH_OPEN_WRITE, 0), PH_NOT_HEAP);
    struct ph_sim_options options = {.refuse_direct = true};
    struct ph_sim *sim = ph_sim_new(&options);
    assert_int_equal(ph_file_open(&file, ph_sim_io(sim), "f", PH_OPEN_WRITE | PH_OPEN_CREATE | PH_OPEN_DIRECT, 0600),
                     PH_UNSUPPORTED);
    assert_int_equal(ph_sim_size(sim, "f"), 0); /* as on Linux: the file is there all the same */
    ph_sim_free(sim);
}

/* BUSY is silent, and ends when the other gives up the lock. */
static void file__lock_taken_is_busy(void **state)
{
    (void)state;
    struct ph_file one, other;
    assert_int_equal(ph_file_open(&one, ph_io_posix(), in_directory("busy"), PH_OPEN_WRITE | PH_OPEN_CREATE, 0600),
                     PH_OK);
    assert_int_equal(ph_file_open(&other, ph_io_posix(), in_directory("busy"), PH_OPEN_WRITE, 0), PH_OK);
    assert_int_equal(ph_file_lock(&one, PH_LOCK_EXCLUSIVE, 3, 1, true), PH_OK);
    assert_int_equal(ph_file_lock(&other, PH_LOCK_EXCLUSIVE, 0, 0, false), PH_BUSY);
    ph_file_close(&one);
    assert_int_equal(ph_file_lock(&other, PH_LOCK_EXCLUSIVE, 0, 0, false), PH_OK);
    ph_file_close(&other);
}

/* Catches: a message whose reason was cut off behind a long path, or a character cut in two. */
static void detail__of_long_names_keeps_the_reason(void **state)
{
    (void)state;
    char path[4000];
    for (size_t i = 0; i < 4; i++) {
        memset(path, 'x', i);
        for (size_t at = i; at + 2 < sizeof path; at += 2) {
            memcpy(path + at, "\xc3\xa4", 2);
        }
        path[sizeof path - 2 + i % 2] = 0;
        assert_int_equal(ph_fail(PH_IO, "cannot link %s to %s: why", path, path), PH_IO);
        for (unsigned context = 0; context < 2; context++) {
            const char *text = ph_detail();
            const size_t length = strlen(text);
            assert_in_range(length, PH_DETAIL_BYTES - 8, PH_DETAIL_BYTES - 1);
            assert_int_equal(strncmp(text, context ? "again: cannot link" : "cannot link", 11), 0);
            assert_string_equal(text + length - 5, ": why");
            for (const char *at = strchr(text, '\xc3'); at != NULL; at = strchr(at + 1, '\xc3')) {
                assert_int_equal((unsigned char)at[1], 0xa4);
            }
            for (const char *at = strchr(text, '\xa4'); at != NULL; at = strchr(at + 1, '\xa4')) {
                assert_int_equal((unsigned char)at[-1], 0xc3);
            }
            (void)ph_fail_context(PH_IO, "again");
        }
    }
    (void)ph_fail(PH_IO, "%1023d", 1);
    assert_int_equal(strlen(ph_detail()), PH_DETAIL_BYTES - 1);
    assert_null(strstr(ph_detail(), "..."));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(detail__of_long_names_keeps_the_reason),
        cmocka_unit_test(lock__conflicts_between_opens_of_one_process),
        cmocka_unit_test(lock__is_dropped_when_the_process_dies),
        cmocka_unit_test(open__never_gives_a_standard_descriptor),
        cmocka_unit_test(open__of_something_else_fails_at_once),
        cmocka_unit_test(write__with_dsync_and_direct_reads_back),
        cmocka_unit_test(map__private_pages_follow_the_file_until_stored_to),
        cmocka_unit_test(map__private_is_gone_in_a_forked_child),
        cmocka_unit_test(touched__reports_copies_and_nothing_else),
        cmocka_unit_test(stored__misses_no_store),
        cmocka_unit_test(map__shared_is_seen_through_every_map),
        cmocka_unit_test(allocate__keeps_what_it_should),
        cmocka_unit_test(rename__never_replaces),
        cmocka_unit_test(rename__replaces_when_asked_to),
        cmocka_unit_test(unnamed__gets_a_name_by_link_only),
        cmocka_unit_test(next_data__passes_over_holes_only),
        cmocka_unit_test(newfile__appears_whole_or_not_at_all),
        cmocka_unit_test(newfile__every_call_may_fail),
        cmocka_unit_test(checksum__stream_equals_the_whole),
        cmocka_unit_test(resolve__follows_links_even_to_what_is_not_there),
        cmocka_unit_test(machine__answers_are_plausible),
        cmocka_unit_test(wait__is_woken_across_processes),
        cmocka_unit_test(file__short_and_interrupted_transfers_are_made_whole),
        cmocka_unit_test(file__failures_have_a_status_and_a_text),
        cmocka_unit_test(file__real_errors_are_told),
        cmocka_unit_test(file__lock_taken_is_busy),
    };
    return cmocka_run_group_tests(tests, make_directory, remove_directory);
}
