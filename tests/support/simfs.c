/* SPDX-License-Identifier: MIT */
/*
 * The simulated machine behind the seam: each operation checks for a fault, does its work on the memfds, and leaves an
 * event in the journal.  One mutex makes operations atomic towards each other; a thread that waits for a file lock, or
 * on a word, does not hold it.
 */
#include "tests/support/simfs_internal.h"

#include <errno.h>
#include <stdatomic.h>
#include <sys/mman.h>
#include <unistd.h>

#define CLOCK_STEP_NS 100
#define REALTIME_BASE_NS UINT64_C(1700000000000000000)
#define COARSE_STEP_NS UINT64_C(4000000)
#define EXT4_MAGIC UINT64_C(0xef53)
#define DEVICE 0x51
#define FIRST_HANDLE 3

static struct ph_sim *enter(void *ctx)
{
    struct ph_sim *sim = ctx;
    (void)pthread_mutex_lock(&sim->mutex);
    return sim;
}

static int64_t leave(struct ph_sim *sim, int64_t result)
{
    (void)pthread_mutex_unlock(&sim->mutex);
    return result;
}

/* Handles. */

static struct sim_handle *handle_of(struct ph_sim *sim, int handle)
{
    SIM_REQUIRE(handle >= FIRST_HANDLE && (size_t)(handle - FIRST_HANDLE) < sim->handle_count);
    struct sim_handle *found = &sim->handles[handle - FIRST_HANDLE];
    SIM_REQUIRE(found->open);
    return found;
}

static int handle_new(struct ph_sim *sim, uint32_t file, unsigned flags, const char *path)
{
    size_t i = 0;
    while (i < sim->handle_count && sim->handles[i].open)
        i++;
    if (i == sim->handle_count)
        sim->handles = sim_resize(sim->handles, ++sim->handle_count * sizeof sim->handles[0]);
    sim->handles[i] = (struct sim_handle){.open = true, .file = file, .flags = flags, .path = sim_text(path)};
    sim->live_handles++;
    return (int)i + FIRST_HANDLE;
}

static int sim_open(void *ctx, const char *path, unsigned flags, uint32_t mode)
{
    (void)mode;
    struct ph_sim *sim = enter(ctx);
    int struck = sim_strike(sim, PH_SIM_OPEN, "open", path, 0, 0);
    if (struck < 0)
        return (int)leave(sim, struck);
    if ((flags & PH_OPEN_UNNAMED) != 0)
        return (int)leave(sim,
                          sim->options.refuse_unnamed ? -EOPNOTSUPP : handle_new(sim, sim_file_new(sim), flags, path));
    uint32_t file = sim_names_find(&sim->names, path);
    if (file != SIM_NO_FILE && (flags & PH_OPEN_CREATE) != 0 && (flags & PH_OPEN_EXCLUSIVE) != 0)
        return (int)leave(sim, -EEXIST);
    if (file == SIM_NO_FILE && (flags & PH_OPEN_CREATE) == 0)
        return (int)leave(sim, -ENOENT);
    if (file == SIM_NO_FILE) {
        file = sim_file_new(sim);
        sim->files[file].links = 1;
        sim_names_add(&sim->names, path, file);
        sim_journal_name(sim, SIM_EVENT_CREATE, path, NULL, file);
    }
    if ((flags & PH_OPEN_DIRECT) != 0 && sim->options.refuse_direct)
        return (int)leave(sim, -EINVAL);
    return (int)leave(sim, handle_new(sim, file, flags, path));
}

static void drop_locks(struct ph_sim *sim, int handle)
{
    size_t kept = 0;
    for (size_t i = 0; i < sim->lock_count; i++)
        if (sim->locks[i].handle != handle)
            sim->locks[kept++] = sim->locks[i];
    sim->lock_count = kept;
    (void)pthread_cond_broadcast(&sim->changed);
}

static int sim_close(void *ctx, int handle)
{
    struct ph_sim *sim = enter(ctx);
    struct sim_handle *closing = handle_of(sim, handle);
    drop_locks(sim, handle);
    free(closing->path);
    *closing = (struct sim_handle){0};
    sim->live_handles--;
    return (int)leave(sim, 0);
}

static bool misaligned(const struct sim_handle *handle, const void *buffer, size_t length, uint64_t offset)
{
    return (handle->flags & PH_OPEN_DIRECT) != 0 &&
           ((uintptr_t)buffer % PH_SIM_SECTOR_BYTES != 0 || length % PH_SIM_SECTOR_BYTES != 0 ||
            offset % PH_SIM_SECTOR_BYTES != 0);
}

/* What a short transfer of `length` bytes moves: less, up to the end of some sector; all if it has but one. */
static size_t shortened(size_t length, uint64_t offset)
{
    uint64_t end = (offset + length / 2) / PH_SIM_SECTOR_BYTES * PH_SIM_SECTOR_BYTES;
    return end > offset ? (size_t)(end - offset) : length;
}

static int64_t sim_read(void *ctx, int file, void *buffer, size_t length, uint64_t offset)
{
    struct ph_sim *sim = enter(ctx);
    const struct sim_handle *handle = handle_of(sim, file);
    int struck = sim_strike(sim, PH_SIM_READ, "read", handle->path, length, offset);
    if (struck < 0 || misaligned(handle, buffer, length, offset))
        return leave(sim, struck < 0 ? struck : -EINVAL);
    if (struck == SIM_SHORT_TRANSFER)
        length = shortened(length, offset);
    return leave(sim, (int64_t)sim_file_read(&sim->files[handle->file], buffer, length, offset));
}

static unsigned growing(const struct ph_sim *sim, const struct sim_handle *handle, uint64_t end)
{
    return end > sim->files[handle->file].size ? PH_SIM_GROW : 0;
}

static void do_write(struct ph_sim *sim, uint32_t file, const void *buffer, size_t length, uint64_t offset)
{
    if (length == 0)
        return;
    sim_journal_range(sim, SIM_EVENT_WRITE, file, offset, length, buffer);
    sim_file_write(&sim->files[file], buffer, length, offset);
}

/* What a sync that failed leaves: see the personalities in struct ph_sim_options. */
static void fail_sync(struct ph_sim *sim, uint32_t file)
{
    sim->shut_down = sim->options.shut_down;
    if (sim->options.revert)
        sim_file_revert(sim, file);
    else if (!sim->options.keep_dirty)
        sim_journal_range(sim, SIM_EVENT_SYNC_FAILED, file, 0, 0, NULL);
}

/* A write that failed on the device: nothing of it happened, or a part, or all; nobody knows. */
static void fail_write(struct ph_sim *sim, const struct sim_handle *handle, const void *buffer, size_t length,
                       uint64_t offset, unsigned flags)
{
    uint64_t sectors = length / PH_SIM_SECTOR_BYTES + 1;
    uint64_t part = dice_roll(&sim->dice) % (sectors + 1) * PH_SIM_SECTOR_BYTES;
    do_write(sim, handle->file, buffer, part < length ? (size_t)part : length, offset);
    if ((flags & PH_WRITE_DSYNC) != 0)
        fail_sync(sim, handle->file);
}

/* Whether the disk keeps to itself that it did not sync. */
static bool lies(const struct ph_sim *sim, enum ph_sim_lie lie, const char *path)
{
    const char *suffix = sim->options.lie_suffix;
    if (sim->options.lie != lie)
        return false;
    size_t length = strlen(path), end = suffix == NULL ? 0 : strlen(suffix);
    return end <= length && (end == 0 || strcmp(path + length - end, suffix) == 0);
}

static int64_t sim_write(void *ctx, int file, const void *buffer, size_t length, uint64_t offset, unsigned flags)
{
    struct ph_sim *sim = enter(ctx);
    const struct sim_handle *handle = handle_of(sim, file);
    if ((handle->flags & PH_OPEN_WRITE) == 0)
        return leave(sim, -EBADF);
    if (offset > INT64_MAX || length > INT64_MAX - offset)
        return leave(sim, -EFBIG);
    if (misaligned(handle, buffer, length, offset))
        return leave(sim, -EINVAL);
    unsigned sync = (flags & PH_WRITE_DSYNC) != 0 ? PH_SIM_SYNC : 0;
    unsigned ops = PH_SIM_WRITE | sync | growing(sim, handle, offset + length);
    bool gone = sim->power_off || sim->shut_down;
    int struck = sim_strike(sim, ops, sync != 0 ? "dsync write" : "write", handle->path, length, offset);
    if (struck == -EIO && !gone)
        fail_write(sim, handle, buffer, length, offset, flags);
    if (struck < 0)
        return leave(sim, struck);
    if (struck == SIM_SHORT_TRANSFER)
        length = shortened(length, offset);
    do_write(sim, handle->file, buffer, length, offset);
    if (sync != 0 && !lies(sim, PH_SIM_LIE_DSYNC, handle->path))
        sim_journal_range(sim, SIM_EVENT_SYNC_RANGE, handle->file, offset, length, NULL);
    return leave(sim, (int64_t)length);
}

static int sim_sync(void *ctx, int file)
{
    struct ph_sim *sim = enter(ctx);
    const struct sim_handle *handle = handle_of(sim, file);
    bool gone = sim->power_off || sim->shut_down;
    int struck = sim_strike(sim, PH_SIM_SYNC, "sync", handle->path, 0, 0);
    if (struck == 0 && lies(sim, PH_SIM_LIE_SYNC, handle->path))
        return (int)leave(sim, 0);
    if (struck == 0)
        sim_journal_range(sim, SIM_EVENT_SYNC, handle->file, 0, 0, NULL);
    else if (struck != -EINTR && !gone)
        fail_sync(sim, handle->file);
    return (int)leave(sim, struck < 0 ? struck : 0);
}

static int sim_start_writeback(void *ctx, int file, uint64_t offset, uint64_t length)
{
    struct ph_sim *sim = enter(ctx);
    const struct sim_handle *handle = handle_of(sim, file);
    int struck = sim_strike(sim, PH_SIM_WRITEBACK, "start writeback", handle->path, length, offset);
    return (int)leave(sim, struck < 0 ? struck : 0);
}

static int sim_truncate(void *ctx, int file, uint64_t size)
{
    struct ph_sim *sim = enter(ctx);
    const struct sim_handle *handle = handle_of(sim, file);
    int struck = sim_strike(sim, PH_SIM_TRUNCATE | growing(sim, handle, size), "truncate", handle->path, size, 0);
    if (struck >= 0 && (handle->flags & PH_OPEN_WRITE) == 0)
        struck = -EINVAL;
    if (struck >= 0 && size > INT64_MAX)
        struck = -EFBIG;
    if (struck < 0)
        return (int)leave(sim, struck);
    sim_journal_range(sim, SIM_EVENT_SIZE, handle->file, size, 0, NULL);
    sim_file_set_size(&sim->files[handle->file], size);
    return (int)leave(sim, 0);
}

static int sim_allocate(void *ctx, int handle_number, enum ph_allocate_mode mode, uint64_t offset, uint64_t length)
{
    struct ph_sim *sim = enter(ctx);
    const struct sim_handle *handle = handle_of(sim, handle_number);
    struct sim_file *file = &sim->files[handle->file];
    bool reserve = mode == PH_ALLOCATE_RESERVE;
    unsigned grows = reserve ? growing(sim, handle, offset + length) : 0;
    int struck = sim_strike(sim, PH_SIM_ALLOCATE | grows, reserve ? "reserve" : "punch", handle->path, length, offset);
    if (struck >= 0 && sim->options.refuse_allocate)
        struck = -EOPNOTSUPP;
    if (struck >= 0 && (handle->flags & PH_OPEN_WRITE) == 0)
        struck = -EBADF;
    if (struck >= 0 && length == 0)
        struck = -EINVAL;
    if (struck < 0)
        return (int)leave(sim, struck);
    if (grows != 0) {
        sim_journal_range(sim, SIM_EVENT_SIZE, handle->file, offset + length, 0, NULL);
        sim_file_set_size(file, offset + length);
    } else if (!reserve && offset < file->size) {
        uint64_t end = length < file->size - offset ? offset + length : file->size;
        sim_journal_range(sim, SIM_EVENT_ZERO, handle->file, offset, end - offset, NULL);
        sim_file_punch(file, offset, end - offset);
    }
    return (int)leave(sim, 0);
}

static void stat_file(const struct ph_sim *sim, uint32_t file, struct ph_file_stat *out)
{
    const struct sim_file *found = &sim->files[file];
    struct ph_file_stat inner = {.disk_bytes = found->size};
    SIM_REQUIRE(found->plain != NULL || ph_io_posix()->stat(NULL, found->memfd, &inner) == 0);
    *out = (struct ph_file_stat){.type = PH_FILE_REGULAR,
                                 .device = DEVICE,
                                 .inode = file + 100,
                                 .size_bytes = found->size,
                                 .disk_bytes = inner.disk_bytes,
                                 .links = found->links,
                                 .mode = 0644};
}

static int sim_stat(void *ctx, int file, struct ph_file_stat *out)
{
    struct ph_sim *sim = enter(ctx);
    const struct sim_handle *handle = handle_of(sim, file);
    int struck = sim_strike(sim, PH_SIM_STAT, "stat", handle->path, 0, 0);
    if (struck >= 0)
        stat_file(sim, handle->file, out);
    return (int)leave(sim, struck < 0 ? struck : 0);
}

static int64_t sim_next_data(void *ctx, int handle_number, uint64_t offset, uint64_t *end)
{
    struct ph_sim *sim = enter(ctx);
    const struct sim_handle *handle = handle_of(sim, handle_number);
    int64_t result = sim_strike(sim, PH_SIM_STAT, "next data", handle->path, 0, offset);
    const struct sim_file *file = &sim->files[handle->file];
    if (result >= 0 && file->plain != NULL) {
        *end = file->size;
        result = offset < file->size ? (int64_t)offset : -ENXIO;
    } else if (result >= 0) {
        result = ph_io_posix()->next_data(NULL, file->memfd, offset, end);
    }
    return leave(sim, result);
}

/* There are no symbolic links, and names are as they are. */
static int sim_resolve(void *ctx, const char *path, char *out, size_t size)
{
    struct ph_sim *sim = enter(ctx);
    int struck = sim_strike(sim, PH_SIM_STAT, "resolve", path, 0, 0);
    if (struck >= 0 && strlen(path) >= size)
        struck = -ENAMETOOLONG;
    if (struck >= 0)
        strcpy(out, path);
    return (int)leave(sim, struck < 0 ? struck : 0);
}

static int sim_stat_path(void *ctx, const char *path, struct ph_file_stat *out)
{
    struct ph_sim *sim = enter(ctx);
    int struck = sim_strike(sim, PH_SIM_STAT, "stat", path, 0, 0);
    uint32_t file = sim_names_find(&sim->names, path);
    if (struck >= 0 && file == SIM_NO_FILE)
        struck = -ENOENT;
    if (struck >= 0)
        stat_file(sim, file, out);
    return (int)leave(sim, struck < 0 ? struck : 0);
}

static int sim_unlink(void *ctx, const char *path)
{
    struct ph_sim *sim = enter(ctx);
    int struck = sim_strike(sim, PH_SIM_UNLINK, "unlink", path, 0, 0);
    uint32_t file = sim_names_find(&sim->names, path);
    if (struck >= 0 && file == SIM_NO_FILE)
        struck = -ENOENT;
    if (struck < 0)
        return (int)leave(sim, struck);
    sim_journal_name(sim, SIM_EVENT_UNLINK, path, NULL, file);
    (void)sim_names_remove(&sim->names, path);
    sim->files[file].links--;
    return (int)leave(sim, 0);
}

static int sim_link(void *ctx, int handle_number, const char *path)
{
    struct ph_sim *sim = enter(ctx);
    const struct sim_handle *handle = handle_of(sim, handle_number);
    struct sim_file *file = &sim->files[handle->file];
    int struck = sim_strike(sim, PH_SIM_RENAME, "link", path, 0, 0);
    if (struck >= 0 && sim_names_find(&sim->names, path) != SIM_NO_FILE)
        struck = -EEXIST;
    if (struck >= 0 && (file->links != 0 || (handle->flags & PH_OPEN_UNNAMED) == 0))
        struck = -ENOENT;
    if (struck < 0)
        return (int)leave(sim, struck);
    file->links = 1;
    sim_names_add(&sim->names, path, handle->file);
    sim_journal_name(sim, SIM_EVENT_CREATE, path, NULL, handle->file);
    return (int)leave(sim, 0);
}

static int change_name(void *ctx, const char *from, const char *to, bool replace)
{
    struct ph_sim *sim = enter(ctx);
    int struck = sim_strike(sim, PH_SIM_RENAME, "rename", from, 0, 0);
    uint32_t file = sim_names_find(&sim->names, from), there = sim_names_find(&sim->names, to);
    if (struck >= 0 && file == SIM_NO_FILE)
        struck = -ENOENT;
    if (struck >= 0 && there != SIM_NO_FILE && !replace)
        struck = -EEXIST;
    if (struck < 0 || file == there)
        return (int)leave(sim, struck < 0 ? struck : 0);
    if (there != SIM_NO_FILE)
        sim->files[there].links--;
    sim_journal_name(sim, SIM_EVENT_RENAME, from, to, file);
    (void)sim_names_remove(&sim->names, from);
    sim_names_add(&sim->names, to, file);
    return (int)leave(sim, 0);
}

static int sim_rename_new(void *ctx, const char *from, const char *to)
{
    return change_name(ctx, from, to, false);
}

static int sim_rename(void *ctx, const char *from, const char *to)
{
    return change_name(ctx, from, to, true);
}

static int sim_sync_directory(void *ctx, const char *path)
{
    struct ph_sim *sim = enter(ctx);
    int struck = sim_strike(sim, PH_SIM_SYNC_DIRECTORY, "sync directory of", path, 0, 0);
    if (struck >= 0 && !lies(sim, PH_SIM_LIE_DIRECTORY, path))
        sim_journal_name(sim, SIM_EVENT_SYNC_NAMES, path, NULL, SIM_NO_FILE);
    return (int)leave(sim, struck < 0 ? struck : 0);
}

static int sim_filesystem(void *ctx, int file, uint64_t *magic)
{
    struct ph_sim *sim = enter(ctx);
    const struct sim_handle *handle = handle_of(sim, file);
    int struck = sim_strike(sim, PH_SIM_STAT, "statfs", handle->path, 0, 0);
    if (struck >= 0)
        *magic = sim->options.filesystem == 0 ? EXT4_MAGIC : sim->options.filesystem;
    return (int)leave(sim, struck < 0 ? struck : 0);
}

/* Locks. */

static bool conflicts(const struct ph_sim *sim, const struct sim_lock *wanted)
{
    for (size_t i = 0; i < sim->lock_count; i++) {
        const struct sim_lock *held = &sim->locks[i];
        bool exclusive = held->type == PH_LOCK_EXCLUSIVE || wanted->type == PH_LOCK_EXCLUSIVE;
        if (held->file == wanted->file && held->handle != wanted->handle && exclusive && held->start < wanted->end &&
            wanted->start < held->end)
            return true;
    }
    return false;
}

static void add_lock(struct ph_sim *sim, struct sim_lock lock)
{
    if (lock.start >= lock.end)
        return;
    if (sim->lock_count == sim->lock_capacity) {
        sim->lock_capacity = sim->lock_capacity * 2 + 16;
        sim->locks = sim_resize(sim->locks, sim->lock_capacity * sizeof sim->locks[0]);
    }
    sim->locks[sim->lock_count++] = lock;
}

/* The owner's locks on the range give way to the new one; what sticks out on both sides stays. */
static void replace_locks(struct ph_sim *sim, const struct sim_lock *wanted)
{
    size_t count = sim->lock_count, kept = 0;
    struct sim_lock *old = sim_resize(NULL, count * sizeof old[0]);
    if (count > 0)
        memcpy(old, sim->locks, count * sizeof old[0]);
    sim->lock_count = 0;
    for (; kept < count; kept++) {
        struct sim_lock part = old[kept];
        if (part.handle != wanted->handle || part.end <= wanted->start || part.start >= wanted->end) {
            add_lock(sim, part);
            continue;
        }
        struct sim_lock before = part, after = part;
        before.end = wanted->start;
        after.start = wanted->end;
        add_lock(sim, before);
        add_lock(sim, after);
    }
    free(old);
    if (wanted->type != PH_LOCK_NONE)
        add_lock(sim, *wanted);
    (void)pthread_cond_broadcast(&sim->changed);
}

static int sim_lock(void *ctx, int file, enum ph_lock_type type, uint64_t start, uint64_t length, bool wait)
{
    struct ph_sim *sim = enter(ctx);
    const struct sim_handle *handle = handle_of(sim, file);
    int struck = sim_strike(sim, PH_SIM_LOCK, "lock", handle->path, length, start);
    if (struck >= 0 && type == PH_LOCK_EXCLUSIVE && (handle->flags & PH_OPEN_WRITE) == 0)
        struck = -EBADF;
    if (struck < 0)
        return (int)leave(sim, struck);
    struct sim_lock wanted = {handle->file, file, type, start, length == 0 ? UINT64_MAX : start + length};
    while (type != PH_LOCK_NONE && conflicts(sim, &wanted)) {
        if (!wait)
            return (int)leave(sim, -EAGAIN);
        (void)pthread_cond_wait(&sim->changed, &sim->mutex);
    }
    replace_locks(sim, &wanted);
    return (int)leave(sim, 0);
}

/* Mappings: of the memfd, by the real system. */

static void add_map(struct ph_sim *sim, void *address, size_t length)
{
    if (sim->map_count == sim->map_capacity) {
        sim->map_capacity = sim->map_capacity * 2 + 16;
        sim->maps = sim_resize(sim->maps, sim->map_capacity * sizeof sim->maps[0]);
    }
    sim->maps[sim->map_count++] = (struct sim_map){address, length};
}

static int sim_map(void *ctx, int file, size_t length, unsigned flags, void **address)
{
    struct ph_sim *sim = enter(ctx);
    const struct sim_handle *handle = handle_of(sim, file);
    struct sim_file *mapped = &sim->files[handle->file];
    int result = sim_strike(sim, PH_SIM_MAP, "map", handle->path, length, 0);
    bool shared = (flags & PH_MAP_SHARED) != 0;
    if (result >= 0 && shared && (handle->flags & PH_OPEN_WRITE) == 0)
        result = -EACCES;
    if (result >= 0 && mapped->plain != NULL && length > PH_SIM_PLAIN_BYTES)
        result = -ENOMEM;
    if (result >= 0 && mapped->plain != NULL)
        *address = mapped->plain;
    else if (result >= 0)
        result = ph_io_posix()->map(NULL, mapped->memfd, length, flags, address);
    if (result >= 0) {
        add_map(sim, *address, length);
        mapped->coordination = mapped->coordination || shared;
    }
    return (int)leave(sim, result);
}

static int sim_unmap(void *ctx, void *address, size_t length)
{
    struct ph_sim *sim = enter(ctx);
    for (size_t i = 0; i < sim->map_count; i++)
        if (sim->maps[i].address == address && sim->maps[i].length == length) {
            sim->maps[i] = sim->maps[--sim->map_count];
            return (int)leave(sim, sim->options.plain ? 0 : ph_io_posix()->unmap(NULL, address, length));
        }
    return (int)leave(sim, -EINVAL);
}

static int sim_drop(void *ctx, void *address, size_t length)
{
    struct ph_sim *sim = enter(ctx);
    int result = sim_strike(sim, PH_SIM_DROP, "drop", "", length, 0);
    return (int)leave(sim, result < 0 || sim->options.plain ? result : ph_io_posix()->drop(NULL, address, length));
}

static int sim_protect(void *ctx, void *address, size_t length, bool writable)
{
    struct ph_sim *sim = enter(ctx);
    int result = sim_strike(sim, PH_SIM_PROTECT, "protect", "", length, 0);
    return (int)leave(sim, result < 0 || sim->options.plain ? result
                                                            : ph_io_posix()->protect(NULL, address, length, writable));
}

static int64_t sim_touched(void *ctx, const void *address, size_t length, uint8_t *bitmap)
{
    struct ph_sim *sim = ctx;
    return sim->options.touched ? ph_io_posix()->touched(NULL, address, length, bitmap) : -ENOSYS;
}

static int sim_watch(void *ctx, void *address, size_t length)
{
    struct ph_sim *sim = enter(ctx);
    int handle = sim->options.watch ? ph_io_posix()->watch(NULL, address, length) : -ENOSYS;
    if (handle >= 0) {
        SIM_REQUIRE(sim->watch_count < sizeof sim->watches / sizeof sim->watches[0]);
        sim->watches[sim->watch_count++] = handle;
        sim->live_handles++;
    }
    return (int)leave(sim, handle);
}

static void sim_unwatch(void *ctx, int handle)
{
    struct ph_sim *sim = enter(ctx);
    size_t i = 0;
    while (i < sim->watch_count && sim->watches[i] != handle)
        i++;
    SIM_REQUIRE(i < sim->watch_count);
    sim->watches[i] = sim->watches[--sim->watch_count];
    sim->live_handles--;
    ph_io_posix()->unwatch(NULL, handle);
    (void)leave(sim, 0);
}

static int64_t sim_stored(void *ctx, const void *address, size_t length, uint8_t *bitmap)
{
    (void)ctx;
    return ph_io_posix()->stored(NULL, address, length, bitmap);
}

static int sim_drop_watched(void *ctx, int handle, void *address, size_t length)
{
    struct ph_sim *sim = enter(ctx);
    int result = sim_strike(sim, PH_SIM_DROP, "drop", "", length, 0);
    return (int)leave(sim, result < 0 ? result : ph_io_posix()->drop_watched(NULL, handle, address, length));
}

/* Memory. */

static void *sim_alloc(void *ctx, size_t length, size_t alignment)
{
    struct ph_sim *sim = enter(ctx);
    int struck = sim_strike(sim, PH_SIM_MEMORY, "alloc", "memory", length, 0);
    (void)leave(sim, 0);
    void *memory = struck < 0 ? NULL : ph_io_posix()->alloc(NULL, length, alignment);
    sim->live_allocations += memory != NULL ? 1 : 0;
    return memory;
}

static void *sim_resize_memory(void *ctx, void *memory, size_t length)
{
    struct ph_sim *sim = enter(ctx);
    int struck = sim_strike(sim, PH_SIM_MEMORY, "resize", "memory", length, 0);
    (void)leave(sim, 0);
    void *resized = struck < 0 ? NULL : ph_io_posix()->resize(NULL, memory, length);
    sim->live_allocations += memory == NULL && resized != NULL ? 1 : 0;
    return resized;
}

static void sim_release(void *ctx, void *memory)
{
    struct ph_sim *sim = ctx;
    sim->live_allocations -= memory != NULL ? 1 : 0;
    ph_io_posix()->free(NULL, memory);
}

static uint64_t sim_memory_limit(void *ctx)
{
    const struct ph_sim *sim = ctx;
    return sim->options.memory_limit == 0 ? UINT64_C(1) << 30 : sim->options.memory_limit;
}

/* Time, chance, identity. */

static uint64_t sim_clock_ns(void *ctx, enum ph_clock clock)
{
    struct ph_sim *sim = enter(ctx);
    sim->clock_ns += CLOCK_STEP_NS;
    uint64_t now = sim->clock_ns;
    (void)leave(sim, 0);
    if (clock == PH_CLOCK_COARSE)
        return now - now % COARSE_STEP_NS;
    return clock == PH_CLOCK_REALTIME || clock == PH_CLOCK_REALTIME_COARSE ? REALTIME_BASE_NS + now : now;
}

static int sim_random(void *ctx, void *buffer, size_t length)
{
    struct ph_sim *sim = enter(ctx);
    int struck = sim_strike(sim, PH_SIM_RANDOM, "random", "", length, 0);
    for (size_t i = 0; struck >= 0 && i < length; i++)
        ((uint8_t *)buffer)[i] = (uint8_t)dice_roll(&sim->dice);
    return (int)leave(sim, struck < 0 ? struck : 0);
}

static int sim_boot_id(void *ctx, uint8_t id[16])
{
    const struct ph_sim *sim = ctx;
    uint64_t words[2] = {dice_mix(sim->boot + 1), dice_mix(~sim->boot)};
    memcpy(id, words, sizeof words);
    return 0;
}

static int sim_pid_namespace(void *ctx, uint64_t *id)
{
    const struct ph_sim *sim = ctx;
    *id = sim->namespace;
    return 0;
}

static int64_t sim_process(void *ctx)
{
    (void)ctx;
    return getpid();
}

static void sim_wait(void *ctx, uint32_t *word, uint32_t expected, uint64_t timeout_ns)
{
    struct ph_sim *sim = ctx;
    const ph_io *real = ph_io_posix();
    uint64_t before = real->clock_ns(NULL, PH_CLOCK_MONOTONIC);
    real->wait(NULL, word, expected, timeout_ns);
    /* Who sleeps until a time of the simulated clock must get there. */
    uint64_t slept = real->clock_ns(NULL, PH_CLOCK_MONOTONIC) - before;
    (void)enter(ctx);
    sim->clock_ns += slept;
    (void)leave(sim, 0);
}

static void sim_wake(void *ctx, uint32_t *word, int count)
{
    (void)ctx;
    ph_io_posix()->wake(NULL, word, count);
}

static int sim_thread_start(void *ctx, void *(*run)(void *), void *argument, uint64_t *thread)
{
    (void)ctx;
    return ph_io_posix()->thread_start(NULL, run, argument, thread);
}

static void sim_thread_join(void *ctx, uint64_t thread)
{
    (void)ctx;
    ph_io_posix()->thread_join(NULL, thread);
}

static void sim_signal_event(void *ctx, int event_fd)
{
    (void)ctx;
    ph_io_posix()->signal_event(NULL, event_fd);
}

static const ph_io table = {
    .open = sim_open,
    .close = sim_close,
    .read = sim_read,
    .write = sim_write,
    .sync = sim_sync,
    .start_writeback = sim_start_writeback,
    .truncate = sim_truncate,
    .allocate = sim_allocate,
    .stat = sim_stat,
    .next_data = sim_next_data,
    .resolve = sim_resolve,
    .stat_path = sim_stat_path,
    .unlink = sim_unlink,
    .link = sim_link,
    .rename_new = sim_rename_new,
    .rename = sim_rename,
    .sync_directory = sim_sync_directory,
    .filesystem = sim_filesystem,
    .lock = sim_lock,
    .map = sim_map,
    .unmap = sim_unmap,
    .drop = sim_drop,
    .protect = sim_protect,
    .touched = sim_touched,
    .watch = sim_watch,
    .unwatch = sim_unwatch,
    .stored = sim_stored,
    .drop_watched = sim_drop_watched,
    .alloc = sim_alloc,
    .resize = sim_resize_memory,
    .free = sim_release,
    .memory_limit = sim_memory_limit,
    .clock_ns = sim_clock_ns,
    .random = sim_random,
    .boot_id = sim_boot_id,
    .pid_namespace = sim_pid_namespace,
    .process = sim_process,
    .wait = sim_wait,
    .wake = sim_wake,
    .thread_start = sim_thread_start,
    .thread_join = sim_thread_join,
    .signal_event = sim_signal_event,
};

/* The machine. */

struct process {
    ph_io io;
    struct process *before; /* in the list of the dead */
};

/* The library may still know the tables of processes that died with something open: no other may get their addresses. */
static struct process *_Atomic dead;

static ph_io *start_process(struct ph_sim *sim)
{
    struct process *process = sim_resize(NULL, sizeof *process);
    process->io = table;
    process->io.ctx = sim;
    return &process->io;
}

static void bury_process(ph_io *io)
{
    struct process *process = (struct process *)io;
    if (process == NULL)
        return;
    process->before = dead;
    while (!atomic_compare_exchange_weak(&dead, &process->before, process))
        continue;
}

void ph_sim_kill(struct ph_sim *sim)
{
    for (size_t i = 0; i < sim->handle_count; i++)
        if (sim->handles[i].open)
            (void)sim_close(sim, (int)i + FIRST_HANDLE);
    for (size_t i = 0; i < sim->map_count && !sim->options.plain; i++)
        SIM_REQUIRE(ph_io_posix()->unmap(NULL, sim->maps[i].address, sim->maps[i].length) == 0);
    sim->map_count = 0;
    while (sim->watch_count > 0)
        sim_unwatch(sim, sim->watches[0]);
    sim->live_allocations = 0;
    bury_process(sim->io);
    bury_process(sim->neighbour);
    sim->io = start_process(sim);
    sim->neighbour = NULL;
}

struct ph_sim *ph_sim_new(const struct ph_sim_options *options)
{
    struct ph_sim *sim = calloc(1, sizeof *sim);
    SIM_REQUIRE(sim != NULL);
    sim->io = start_process(sim);
    if (options != NULL)
        sim->options = *options;
    SIM_REQUIRE(pthread_mutex_init(&sim->mutex, NULL) == 0 && pthread_cond_init(&sim->changed, NULL) == 0);
    sim->dice = sim->options.seed;
    sim->clock_ns = UINT64_C(1000000000);
    sim->boot = dice_mix(sim->options.seed);
    sim->namespace = 1;
    if (!sim->options.no_journal)
        ph_sim_journal_restart(sim);
    return sim;
}

void ph_sim_free(struct ph_sim *sim)
{
    if (sim == NULL)
        return;
    sim_journal_deinit(&sim->journal);
    sim_names_deinit(&sim->names);
    for (size_t i = 0; i < sim->handle_count; i++)
        free(sim->handles[i].path);
    for (size_t i = 0; i < sim->file_count; i++) {
        if (sim->files[i].memfd >= 0)
            (void)close(sim->files[i].memfd);
        if (sim->files[i].plain != NULL)
            (void)munmap(sim->files[i].plain, PH_SIM_PLAIN_BYTES);
        free(sim->files[i].stamps);
    }
    free(sim->handles);
    free(sim->files);
    free(sim->locks);
    free(sim->maps);
    if (sim->live_allocations == 0) {
        free(sim->io);
        free(sim->neighbour);
    } else {
        bury_process(sim->io);
        bury_process(sim->neighbour);
    }
    (void)pthread_mutex_destroy(&sim->mutex);
    (void)pthread_cond_destroy(&sim->changed);
    free(sim);
}

const ph_io *ph_sim_io(struct ph_sim *sim)
{
    return sim->io;
}

const ph_io *ph_sim_neighbour(struct ph_sim *sim)
{
    if (sim->neighbour == NULL)
        sim->neighbour = start_process(sim);
    return sim->neighbour;
}

int64_t ph_sim_live_allocations(const struct ph_sim *sim)
{
    return sim->live_allocations;
}

int64_t ph_sim_live_maps(const struct ph_sim *sim)
{
    return (int64_t)sim->map_count;
}

int64_t ph_sim_live_handles(const struct ph_sim *sim)
{
    return sim->live_handles;
}

void ph_sim_remount(struct ph_sim *sim)
{
    for (size_t i = 0; i < sim->file_count && sim->shut_down; i++)
        if (sim->files[i].used && !sim->files[i].coordination)
            sim_file_revert(sim, (uint32_t)i);
    sim->shut_down = false;
}

uint64_t ph_sim_clock(const struct ph_sim *sim)
{
    return sim->clock_ns;
}

void ph_sim_set_clock(struct ph_sim *sim, uint64_t now_ns)
{
    sim->clock_ns = now_ns;
}

void ph_sim_set_boot(struct ph_sim *sim, uint64_t number)
{
    sim->boot = number;
}

void ph_sim_set_namespace(struct ph_sim *sim, uint64_t id)
{
    sim->namespace = id;
}
