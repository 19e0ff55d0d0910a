/* SPDX-License-Identifier: MIT */
/* The directory. */
#include "fuzz/place.h"

#include "io/checksum.h"
#include "pheap/core.h"

#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#define PATH_BYTES 256
#define PATHS 8u

static struct {
    char directory[PATH_BYTES / 2];
    int lowest; /* the lowest free descriptor when the input began */
    FILE *out, *err, *real_out, *real_err;
    struct fuzz_said said;
} place;

static void remove_files(void)
{
    DIR *directory = opendir(place.directory);
    struct dirent *entry;
    FUZZ_REQUIRE(directory != NULL);
    while ((entry = readdir(directory)) != NULL)
        if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0)
            FUZZ_REQUIRE(unlink(fuzz_place_path(entry->d_name)) == 0);
    (void)closedir(directory);
}

static void remove_place(void)
{
    remove_files();
    (void)rmdir(place.directory);
}

static void make_place(void)
{
    const char *where = access("/dev/shm", W_OK) == 0 ? "/dev/shm" : getenv("TMPDIR");
    const struct rlimit limit = {FUZZ_PLACE_FILE_MAX, FUZZ_PLACE_FILE_MAX};
    (void)snprintf(place.directory, sizeof place.directory, "%s/pheap-fuzz-XXXXXX", where != NULL ? where : "/tmp");
    FUZZ_REQUIRE(mkdtemp(place.directory) != NULL);
    FUZZ_REQUIRE(setrlimit(RLIMIT_FSIZE, &limit) == 0 && signal(SIGXFSZ, SIG_IGN) != SIG_ERR);
    FUZZ_REQUIRE(atexit(remove_place) == 0);
}

const char *fuzz_place_path(const char *name)
{
    static char paths[PATHS][PATH_BYTES + NAME_MAX];
    static unsigned next;
    char *path = paths[next++ % PATHS];
    (void)snprintf(path, sizeof paths[0], "%s/%s", place.directory, name);
    return path;
}

static int lowest_descriptor(void)
{
    int descriptor = dup(STDERR_FILENO);
    FUZZ_REQUIRE(descriptor >= 0);
    (void)close(descriptor);
    return descriptor;
}

void fuzz_place_begin(void)
{
    if (place.directory[0] == '\0')
        make_place();
    remove_files(); /* if the input before was a finding */
    place.lowest = lowest_descriptor();
}

void fuzz_place_listen(void)
{
    place.real_out = stdout;
    place.real_err = stderr;
    place.out = open_memstream(&place.said.out, &place.said.out_length);
    place.err = open_memstream(&place.said.err, &place.said.err_length);
    FUZZ_REQUIRE(place.out != NULL && place.err != NULL);
    stdout = place.out;
    stderr = place.err;
}

void fuzz_place_hear(struct fuzz_said *said)
{
    stdout = place.real_out;
    stderr = place.real_err;
    FUZZ_REQUIRE(fclose(place.out) == 0 && fclose(place.err) == 0);
    *said = place.said;
}

void fuzz_said_deinit(struct fuzz_said *said)
{
    free(said->out);
    free(said->err);
    *said = (struct fuzz_said){0};
}

void fuzz_place_end(void)
{
    remove_files();
    ph_core_forget_mappings(ph_io_posix());
    FUZZ_REQUIRE(lowest_descriptor() == place.lowest);
}

void fuzz_place_write(const char *name, const void *data, size_t length)
{
    int file = open(fuzz_place_path(name), O_CREAT | O_TRUNC | O_WRONLY | O_CLOEXEC, 0666);
    FUZZ_REQUIRE(file >= 0 && write(file, data, length) == (ssize_t)length);
    (void)close(file);
}

void fuzz_place_image(const char *name, const struct fuzz_image *image, uint64_t most)
{
    uint64_t size = (uint64_t)image->sectors * FUZZ_SECTOR_BYTES;
    size = size < most ? size : most;
    if (size == 0)
        return;
    int file = open(fuzz_place_path(name), O_CREAT | O_TRUNC | O_WRONLY | O_CLOEXEC, 0666);
    FUZZ_REQUIRE(file >= 0 && ftruncate(file, (off_t)size) == 0);
    for (uint32_t i = 0; i < image->count; i++) {
        uint64_t at = (uint64_t)image->list[i].number * FUZZ_SECTOR_BYTES;
        if (at < size)
            FUZZ_REQUIRE(pwrite(file, image->list[i].data, FUZZ_SECTOR_BYTES, (off_t)at) == FUZZ_SECTOR_BYTES);
    }
    (void)close(file);
}

uint64_t fuzz_place_checksum(const char *name)
{
    static uint8_t bytes[4096], zeros[4096];
    uint64_t sum = 0;
    ssize_t got;
    int file = open(fuzz_place_path(name), O_RDONLY | O_CLOEXEC);
    off_t at = 0, next;
    if (file < 0)
        return 0;
    /* Holes are passed over, since reading them would take memory; so are zeros, since reading them through a map makes
     * zeros of holes. */
    while ((next = lseek(file, at, SEEK_DATA)) >= 0 && (got = pread(file, bytes, sizeof bytes, next)) > 0) {
        if (memcmp(bytes, zeros, (size_t)got) != 0)
            sum = sum * 31 + ph_checksum(bytes, (size_t)got) + (uint64_t)next;
        at = next + got;
    }
    sum += (uint64_t)lseek(file, 0, SEEK_END) + 1;
    (void)close(file);
    return sum;
}

bool fuzz_place_has(const char *name)
{
    return access(fuzz_place_path(name), F_OK) == 0;
}
