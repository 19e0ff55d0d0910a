/* SPDX-License-Identifier: MIT */
/* Files of the disk: contents, sizes, syncs. */
#include "tests/powercut/disk_internal.h"

#include <errno.h>
#include <sys/stat.h>

struct disk_file *disk_file_of(const struct disk *disk, uint64_t inode)
{
    return inode < disk->file_count && disk->files[inode].used ? &disk->files[inode] : NULL;
}

uint64_t disk_file_new(struct disk *disk, const struct disk_stat *like)
{
    if (disk->file_count == disk->file_capacity) {
        disk->file_capacity = disk->file_capacity * 2 + 16;
        disk->files = disk_memory(disk->files, disk->file_capacity, sizeof disk->files[0]);
    }
    disk->files[disk->file_count] = (struct disk_file){
        .used = true, .mode = like->mode, .owner = like->owner, .group = like->group, .changed = like->changed};
    return disk->file_count++;
}

/* Forget the changes that are not durable. */
void disk_file_forget(struct disk_file *file)
{
    for (size_t i = 0; i < file->change_count; i++)
        free(file->changes[i].bytes);
    file->change_count = 0;
}

void disk_file_deinit(struct disk_file *file)
{
    disk_file_forget(file);
    free(file->changes);
    free(file->cache);
    free(file->durable);
    *file = (struct disk_file){0};
}

struct disk *disk_new(const struct disk_options *options)
{
    struct disk *disk = disk_memory(NULL, 1, sizeof *disk);
    *disk = (struct disk){.options = *options};
    (void)disk_file_new(disk, &(struct disk_stat){0}); /* number 0 is nobody's */
    disk->files[0].used = false;
    (void)disk_file_new(disk, &(struct disk_stat){.mode = S_IFDIR | 0755});
    disk->files[DISK_ROOT].links = 1;
    return disk;
}

void disk_free(struct disk *disk)
{
    for (size_t i = 0; i < disk->file_count; i++)
        disk_file_deinit(&disk->files[i]);
    disk_names_forget(disk);
    disk_list_clear(&disk->names);
    disk_list_clear(&disk->durable_names);
    free(disk->names.entries);
    free(disk->durable_names.entries);
    free(disk->events);
    free(disk->files);
    free(disk);
}

int disk_stat(const struct disk *disk, uint64_t inode, struct disk_stat *stat)
{
    const struct disk_file *file = disk_file_of(disk, inode);
    if (file == NULL)
        return -ENOENT;
    *stat = (struct disk_stat){.inode = inode,
                               .size = file->size,
                               .links = file->links,
                               .mode = file->mode,
                               .owner = file->owner,
                               .group = file->group,
                               .changed = file->changed};
    return 0;
}

void disk_set_mode(struct disk *disk, uint64_t inode, uint32_t mode, uint32_t owner, uint32_t group)
{
    struct disk_file *file = disk_file_of(disk, inode);
    file->mode = mode;
    file->owner = owner;
    file->group = group;
}

const uint8_t *disk_read(const struct disk *disk, uint64_t inode, uint64_t offset, size_t *length)
{
    const struct disk_file *file = disk_file_of(disk, inode);
    uint64_t there = file == NULL || offset >= file->size ? 0 : file->size - offset;
    if (*length > there)
        *length = (size_t)there;
    return *length == 0 ? NULL : file->cache + offset;
}

static int need_bytes(struct disk_file *file, uint64_t bytes)
{
    if (bytes > DISK_FILE_BYTES_MAX)
        return -EFBIG;
    if (bytes <= file->capacity)
        return 0;
    uint64_t capacity = file->capacity == 0 ? UINT64_C(16) * DISK_PAGE_BYTES : file->capacity;
    while (capacity < bytes)
        capacity *= 2;
    file->cache = disk_memory(file->cache, (size_t)capacity, 1);
    file->durable = disk_memory(file->durable, (size_t)capacity, 1);
    memset(file->cache + file->capacity, 0, (size_t)(capacity - file->capacity));
    memset(file->durable + file->capacity, 0, (size_t)(capacity - file->capacity));
    file->capacity = capacity;
    return 0;
}

static struct disk_change *add_change(struct disk *disk, struct disk_file *file, uint64_t where)
{
    if (file->change_count == file->change_capacity) {
        file->change_capacity = file->change_capacity * 2 + 64;
        file->changes = disk_memory(file->changes, file->change_capacity, sizeof file->changes[0]);
    }
    struct disk_change *change = &file->changes[file->change_count++];
    *change = (struct disk_change){.position = disk->position, .where = where};
    return change;
}

/* The program has changed [offset, end) in the cache. */
static void add_sectors(struct disk *disk, struct disk_file *file, uint64_t offset, uint64_t end)
{
    for (uint64_t sector = offset / DISK_SECTOR_BYTES; sector * DISK_SECTOR_BYTES < end; sector++) {
        struct disk_change *change = add_change(disk, file, sector);
        change->bytes = disk_memory(NULL, DISK_SECTOR_BYTES, 1);
        memcpy(change->bytes, file->cache + sector * DISK_SECTOR_BYTES, DISK_SECTOR_BYTES);
    }
}

int disk_write(struct disk *disk, uint64_t inode, const void *bytes, size_t length, uint64_t offset)
{
    struct disk_file *file = disk_file_of(disk, inode);
    uint64_t end = offset + length;
    int result = offset > DISK_FILE_BYTES_MAX ? -EFBIG : need_bytes(file, end);
    if (result < 0 || length == 0)
        return result;
    disk->position++;
    memcpy(file->cache + offset, bytes, length);
    add_sectors(disk, file, offset, end);
    (void)clock_gettime(CLOCK_REALTIME, &file->changed);
    if (end <= file->size)
        return 0;
    uint64_t middle = (file->size + end) / 2 / DISK_PAGE_BYTES * DISK_PAGE_BYTES;
    if (middle > file->size)
        (void)add_change(disk, file, middle);
    (void)add_change(disk, file, end);
    file->size = end;
    return 0;
}

int disk_set_size(struct disk *disk, uint64_t inode, uint64_t size)
{
    struct disk_file *file = disk_file_of(disk, inode);
    int result = need_bytes(file, size);
    if (result < 0 || size == file->size)
        return result;
    disk->position++;
    (void)add_change(disk, file, size);
    if (size < file->size)
        memset(file->cache + size, 0, (size_t)(file->size - size));
    file->size = size;
    (void)clock_gettime(CLOCK_REALTIME, &file->changed);
    return 0;
}

int disk_punch(struct disk *disk, uint64_t inode, uint64_t offset, uint64_t length)
{
    struct disk_file *file = disk_file_of(disk, inode);
    if (offset >= file->size)
        return 0;
    uint64_t end = length < file->size - offset ? offset + length : file->size;
    disk->position++;
    memset(file->cache + offset, 0, (size_t)(end - offset));
    add_sectors(disk, file, offset, end);
    return 0;
}

/* Of the first `count` changes, all of them sectors, none reaches beyond `size` any more; how many are left. */
static size_t cut_off(struct disk_file *file, size_t count, uint64_t size)
{
    size_t kept = 0;
    memset(file->durable + size, 0, (size_t)(file->capacity - size));
    for (size_t i = 0; i < count; i++) {
        struct disk_change change = file->changes[i];
        uint64_t from = change.where * DISK_SECTOR_BYTES, end = from + DISK_SECTOR_BYTES;
        if (from >= size) {
            free(change.bytes);
            continue;
        }
        if (end > size)
            memset(change.bytes + (size - from), 0, (size_t)(end - size));
        file->changes[kept++] = change;
    }
    return kept;
}

/* All sizes so far are durable, and with them what smaller ones cut off. */
static void settle_sizes(struct disk_file *file)
{
    uint64_t size = file->durable_size;
    size_t kept = 0;
    for (size_t i = 0; i < file->change_count; i++) {
        struct disk_change change = file->changes[i];
        if (change.bytes != NULL) {
            file->changes[kept++] = change;
            continue;
        }
        if (change.where < size)
            kept = cut_off(file, kept, change.where);
        size = change.where;
    }
    file->change_count = kept;
    file->durable_size = file->size;
}

/* Does the change concern a sector in [offset, end)? */
static bool is_within(const struct disk_change *change, uint64_t offset, uint64_t end)
{
    uint64_t from = change->where * DISK_SECTOR_BYTES;
    return change->bytes != NULL && from < end && from + DISK_SECTOR_BYTES > offset;
}

/* The newest content of each sector in [offset, end) is durable, unless a failed sync has called it clean. */
static void settle_sectors(struct disk_file *file, uint64_t offset, uint64_t end)
{
    uint8_t *settled = disk_memory(NULL, (size_t)(file->capacity / DISK_SECTOR_BYTES), 1);
    memset(settled, 0, (size_t)(file->capacity / DISK_SECTOR_BYTES));
    for (size_t i = file->change_count; i-- > 0;) {
        struct disk_change *change = &file->changes[i];
        if (is_within(change, offset, end) && !change->clean && !settled[change->where]) {
            memcpy(file->durable + change->where * DISK_SECTOR_BYTES, change->bytes, DISK_SECTOR_BYTES);
            settled[change->where] = 1;
        }
    }
    size_t kept = 0;
    for (size_t i = 0; i < file->change_count; i++) {
        if (file->changes[i].bytes != NULL && settled[file->changes[i].where])
            free(file->changes[i].bytes);
        else
            file->changes[kept++] = file->changes[i];
    }
    file->change_count = kept;
    free(settled);
}

void disk_sync(struct disk *disk, uint64_t inode)
{
    struct disk_file *file = disk_file_of(disk, inode);
    bool directory = S_ISDIR(file->mode);
    if (disk->options.lie == (directory ? DISK_LIE_DIRECTORY : DISK_LIE_FILE))
        return;
    if (disk->options.names == DISK_NAMES_JOURNAL)
        disk_names_settle(disk, 0);
    else if (directory)
        disk_names_settle(disk, inode);
    if (directory)
        return;
    settle_sizes(file);
    settle_sectors(file, 0, UINT64_MAX);
}

void disk_sync_range(struct disk *disk, uint64_t inode, uint64_t offset, uint64_t length)
{
    struct disk_file *file = disk_file_of(disk, inode);
    if (disk->options.lie == DISK_LIE_FILE)
        return;
    bool reached = offset + length <= file->durable_size;
    for (size_t i = 0; i < file->change_count; i++)
        reached = reached && (file->changes[i].bytes != NULL || offset + length <= file->changes[i].where);
    if (!reached)
        settle_sizes(file);
    settle_sectors(file, offset, offset + length);
}

/* The program sees again what is durable, and the size too if all of the file is meant. */
static void revert(struct disk_file *file, uint64_t offset, uint64_t end)
{
    size_t kept = 0;
    for (size_t i = 0; i < file->change_count; i++) {
        struct disk_change *change = &file->changes[i];
        uint64_t from = change->where * DISK_SECTOR_BYTES;
        if (is_within(change, offset, end)) {
            memcpy(file->cache + from, file->durable + from, DISK_SECTOR_BYTES);
            free(change->bytes);
        } else if (change->bytes != NULL || end != UINT64_MAX) {
            file->changes[kept++] = *change;
        }
    }
    file->change_count = kept;
    if (end != UINT64_MAX)
        return;
    file->size = file->durable_size;
    if (file->capacity > 0) /* what a smaller size had cut off */
        memcpy(file->cache, file->durable, (size_t)file->capacity);
}

void disk_sync_failed(struct disk *disk, uint64_t inode, uint64_t offset, uint64_t length, enum disk_failure failure)
{
    struct disk_file *file = disk_file_of(disk, inode);
    uint64_t end = length == UINT64_MAX ? UINT64_MAX : offset + length;
    if (failure == DISK_FAILURE_CLEAN) {
        for (size_t i = 0; i < file->change_count; i++)
            file->changes[i].clean = file->changes[i].clean || is_within(&file->changes[i], offset, end);
    } else if (failure == DISK_FAILURE_REVERT && !S_ISDIR(file->mode)) {
        revert(file, offset, end);
    }
}
