/* SPDX-License-Identifier: MIT */
/* The files and names of the simulated machine. */
#include "tests/support/simfs_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

uint32_t sim_names_find(const struct sim_names *names, const char *path)
{
    for (size_t i = 0; i < names->count; i++)
        if (strcmp(names->list[i].path, path) == 0)
            return names->list[i].file;
    return SIM_NO_FILE;
}

void sim_names_add(struct sim_names *names, const char *path, uint32_t file)
{
    (void)sim_names_remove(names, path);
    if (names->count == names->capacity) {
        names->capacity = names->capacity * 2 + 8;
        names->list = sim_resize(names->list, names->capacity * sizeof names->list[0]);
    }
    names->list[names->count++] = (struct sim_name){sim_text(path), file};
}

bool sim_names_remove(struct sim_names *names, const char *path)
{
    for (size_t i = 0; i < names->count; i++)
        if (strcmp(names->list[i].path, path) == 0) {
            free(names->list[i].path);
            names->list[i] = names->list[--names->count];
            return true;
        }
    return false;
}

void sim_names_copy(struct sim_names *to, const struct sim_names *from)
{
    sim_names_deinit(to);
    for (size_t i = 0; i < from->count; i++)
        sim_names_add(to, from->list[i].path, from->list[i].file);
}

void sim_names_deinit(struct sim_names *names)
{
    for (size_t i = 0; i < names->count; i++)
        free(names->list[i].path);
    free(names->list);
    *names = (struct sim_names){0};
}

static size_t directory_length(const char *path)
{
    const char *slash = strrchr(path, '/');
    return slash == NULL ? 0 : (size_t)(slash - path) + 1;
}

bool sim_names_same_directory(const char *one, const char *other)
{
    size_t length = directory_length(one);
    return length == directory_length(other) && memcmp(one, other, length) == 0;
}

/* Make slot `file` an empty file that nothing names. */
void sim_file_open_slot(struct ph_sim *sim, uint32_t file)
{
    if (file >= sim->file_count) {
        sim->files = sim_resize(sim->files, (file + 1) * sizeof sim->files[0]);
        for (; sim->file_count <= file; sim->file_count++)
            sim->files[sim->file_count] = (struct sim_file){.memfd = -1};
    }
    struct sim_file *slot = &sim->files[file];
    if (sim->options.plain && slot->plain == NULL) {
        void *plain =
            mmap(NULL, PH_SIM_PLAIN_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        SIM_REQUIRE(plain != MAP_FAILED);
        slot->plain = plain;
    } else if (!sim->options.plain && slot->memfd < 0) {
        slot->memfd = memfd_create("simulated", MFD_CLOEXEC);
        SIM_REQUIRE(slot->memfd >= 0);
    }
    if (slot->coordination) /* it was stored to through a map, of which the stamps know nothing */
        sim_file_set_size(slot, 0);
    slot->used = true;
    slot->coordination = false;
    slot->links = 0;
}

uint32_t sim_file_new(struct ph_sim *sim)
{
    uint32_t file = 0;
    while (file < sim->file_count && sim->files[file].used)
        file++;
    sim_file_open_slot(sim, file);
    sim_file_set_size(&sim->files[file], 0);
    return file;
}

static void stamp(struct sim_file *file, uint64_t from, uint64_t to, uint64_t value)
{
    for (size_t page = (size_t)from; page < to && page < file->stamp_count; page++)
        file->stamps[page] = value;
}

static void make_stamps(struct sim_file *file, uint64_t size)
{
    size_t pages = sim_pages(size);
    if (pages <= file->stamp_count)
        return;
    /* A machine with huge sparse files is never an image: its stamps end somewhere and nobody asks for them. */
    if (pages > (size_t)1 << 20)
        return;
    pages += pages / 2;
    file->stamps = sim_resize(file->stamps, pages * sizeof file->stamps[0]);
    while (file->stamp_count < pages)
        file->stamps[file->stamp_count++] = SIM_STAMP_ZERO;
}

void sim_file_write(struct sim_file *file, const void *data, size_t length, uint64_t offset)
{
    SIM_REQUIRE(file->plain == NULL || offset + length <= PH_SIM_PLAIN_BYTES);
    if (file->plain != NULL && length > 0)
        memcpy(file->plain + offset, data, length);
    for (size_t done = 0; file->plain == NULL && done < length;) {
        ssize_t part = pwrite(file->memfd, (const uint8_t *)data + done, length - done, (off_t)(offset + done));
        SIM_REQUIRE(part > 0 || errno == EINTR);
        done += part > 0 ? (size_t)part : 0;
    }
    if (length > 0 && offset + length > file->size)
        file->size = offset + length;
    make_stamps(file, offset + length);
    stamp(file, offset / SIM_PAGE_BYTES, sim_pages(offset + length), SIM_STAMP_UNKNOWN);
}

void sim_file_set_size(struct sim_file *file, uint64_t size)
{
    if (size == file->size)
        return;
    SIM_REQUIRE(file->plain == NULL ? ftruncate(file->memfd, (off_t)size) == 0 : size <= PH_SIM_PLAIN_BYTES);
    if (file->plain != NULL && size < file->size)
        memset(file->plain + size, 0, (size_t)(file->size - size));
    if (size < file->size) {
        stamp(file, sim_pages(size), sim_pages(file->size), SIM_STAMP_ZERO);
        if (size % SIM_PAGE_BYTES != 0)
            stamp(file, size / SIM_PAGE_BYTES, size / SIM_PAGE_BYTES + 1, SIM_STAMP_UNKNOWN);
    }
    make_stamps(file, size);
    file->size = size;
}

void sim_file_punch(struct sim_file *file, uint64_t offset, uint64_t length)
{
    if (offset >= file->size || length == 0)
        return;
    if (file->plain != NULL)
        memset(file->plain + offset, 0, (size_t)(length < file->size - offset ? length : file->size - offset));
    SIM_REQUIRE(file->plain != NULL ||
                fallocate(file->memfd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)offset, (off_t)length) == 0);
    stamp(file, offset / SIM_PAGE_BYTES, sim_pages(offset + length), SIM_STAMP_UNKNOWN);
}

size_t sim_file_read(const struct sim_file *file, void *data, size_t length, uint64_t offset)
{
    if (offset >= file->size)
        return 0;
    if (length > file->size - offset)
        length = (size_t)(file->size - offset);
    if (file->plain != NULL)
        memcpy(data, file->plain + offset, length);
    for (size_t done = 0; file->plain == NULL && done < length;) {
        ssize_t part = pread(file->memfd, (uint8_t *)data + done, length - done, (off_t)(offset + done));
        SIM_REQUIRE(part > 0 || errno == EINTR);
        done += part > 0 ? (size_t)part : 0;
    }
    return length;
}

/* ----------------------------------------------------------------------------------------------------- past the seam */

int64_t ph_sim_size(struct ph_sim *sim, const char *path)
{
    uint32_t file = sim_names_find(&sim->names, path);
    return file == SIM_NO_FILE ? -ENOENT : (int64_t)sim->files[file].size;
}

int64_t ph_sim_peek(struct ph_sim *sim, const char *path, void *buffer, size_t length, uint64_t offset)
{
    uint32_t file = sim_names_find(&sim->names, path);
    return file == SIM_NO_FILE ? -ENOENT : (int64_t)sim_file_read(&sim->files[file], buffer, length, offset);
}

int64_t ph_sim_poke(struct ph_sim *sim, const char *path, const void *buffer, size_t length, uint64_t offset)
{
    uint32_t file = sim_names_find(&sim->names, path);
    if (file == SIM_NO_FILE) {
        file = sim_file_new(sim);
        sim->files[file].links = 1;
        sim_names_add(&sim->names, path, file);
    }
    sim_file_write(&sim->files[file], buffer, length, offset);
    return (int64_t)length;
}

int ph_sim_set_size(struct ph_sim *sim, const char *path, uint64_t size)
{
    uint32_t file = sim_names_find(&sim->names, path);
    if (file == SIM_NO_FILE)
        return -ENOENT;
    sim_file_set_size(&sim->files[file], size);
    return 0;
}

int ph_sim_remove(struct ph_sim *sim, const char *path)
{
    uint32_t file = sim_names_find(&sim->names, path);
    if (file == SIM_NO_FILE)
        return -ENOENT;
    sim->files[file].links--;
    (void)sim_names_remove(&sim->names, path);
    return 0;
}
