/* SPDX-License-Identifier: MIT */
/* Names of the disk: two lists, what the program sees and what is durable, and the events between them. */
#include "tests/powercut/disk_internal.h"

#include <errno.h>
#include <sys/stat.h>

static char *copy_text(const char *text)
{
    return memcpy(disk_memory(NULL, strlen(text) + 1, 1), text, strlen(text) + 1);
}

static struct disk_name *list_find(const struct disk_list *list, uint64_t directory, const char *name)
{
    for (size_t i = 0; i < list->count; i++)
        if (list->entries[i].directory == directory && strcmp(list->entries[i].name, name) == 0)
            return &list->entries[i];
    return NULL;
}

void disk_list_set(struct disk_list *list, uint64_t directory, const char *name, uint64_t inode)
{
    struct disk_name *found = list_find(list, directory, name);
    if (found != NULL) {
        found->inode = inode;
        return;
    }
    if (list->count == list->capacity) {
        list->capacity = list->capacity * 2 + 16;
        list->entries = disk_memory(list->entries, list->capacity, sizeof list->entries[0]);
    }
    list->entries[list->count++] = (struct disk_name){directory, copy_text(name), inode};
}

static void list_remove(struct disk_list *list, uint64_t directory, const char *name)
{
    struct disk_name *found = list_find(list, directory, name);
    if (found == NULL)
        return;
    free(found->name);
    memmove(found, found + 1, (size_t)(&list->entries[--list->count] - found) * sizeof *found);
}

void disk_list_clear(struct disk_list *list)
{
    for (size_t i = 0; i < list->count; i++)
        free(list->entries[i].name);
    list->count = 0;
}

void disk_list_copy(struct disk_list *to, const struct disk_list *from)
{
    disk_list_clear(to);
    for (size_t i = 0; i < from->count; i++)
        disk_list_set(to, from->entries[i].directory, from->entries[i].name, from->entries[i].inode);
}

void disk_event_apply(struct disk_list *list, const struct disk_event *event)
{
    if (event->from != NULL)
        list_remove(list, event->from_directory, event->from);
    if (event->to != NULL)
        disk_list_set(list, event->to_directory, event->to, event->inode);
}

static void event_deinit(struct disk_event *event)
{
    free(event->from);
    free(event->to);
}

/* The program changes a name. */
static void add_event(struct disk *disk, uint64_t inode, uint64_t from_directory, const char *from,
                      uint64_t to_directory, const char *to)
{
    if (disk->event_count == disk->event_capacity) {
        disk->event_capacity = disk->event_capacity * 2 + 16;
        disk->events = disk_memory(disk->events, disk->event_capacity, sizeof disk->events[0]);
    }
    struct disk_event *event = &disk->events[disk->event_count++];
    *event = (struct disk_event){.position = ++disk->position,
                                 .inode = inode,
                                 .from_directory = from_directory,
                                 .to_directory = to_directory,
                                 .from = from == NULL ? NULL : copy_text(from),
                                 .to = to == NULL ? NULL : copy_text(to)};
    disk_event_apply(&disk->names, event);
}

void disk_names_settle(struct disk *disk, uint64_t directory)
{
    size_t kept = 0;
    for (size_t i = 0; i < disk->event_count; i++) {
        struct disk_event *event = &disk->events[i];
        if (directory == 0 || (event->from != NULL && event->from_directory == directory) ||
            (event->to != NULL && event->to_directory == directory)) {
            disk_event_apply(&disk->durable_names, event);
            event_deinit(event);
        } else {
            disk->events[kept++] = *event;
        }
    }
    disk->event_count = kept;
}

void disk_names_forget(struct disk *disk)
{
    for (size_t i = 0; i < disk->event_count; i++)
        event_deinit(&disk->events[i]);
    disk->event_count = 0;
}

int disk_find(const struct disk *disk, uint64_t directory, const char *name, uint64_t *inode)
{
    const struct disk_name *found = list_find(&disk->names, directory, name);
    if (found == NULL)
        return -ENOENT;
    *inode = found->inode;
    return 0;
}

const char *disk_entry(const struct disk *disk, uint64_t directory, size_t index, uint64_t *inode)
{
    for (size_t i = 0; i < disk->names.count; i++) {
        const struct disk_name *entry = &disk->names.entries[i];
        if (entry->directory != directory || index-- > 0)
            continue;
        *inode = entry->inode;
        return entry->name;
    }
    return NULL;
}

int disk_create(struct disk *disk, uint64_t directory, const char *name, const struct disk_stat *like, uint64_t *inode)
{
    if (list_find(&disk->names, directory, name) != NULL)
        return -EEXIST;
    *inode = disk_file_new(disk, like);
    return disk_link(disk, *inode, directory, name);
}

int disk_link(struct disk *disk, uint64_t inode, uint64_t directory, const char *name)
{
    if (list_find(&disk->names, directory, name) != NULL)
        return -EEXIST;
    add_event(disk, inode, 0, NULL, directory, name);
    disk_file_of(disk, inode)->links++;
    return 0;
}

static bool is_directory(const struct disk *disk, uint64_t inode)
{
    return S_ISDIR(disk_file_of(disk, inode)->mode);
}

int disk_unlink(struct disk *disk, uint64_t directory, const char *name, bool wants_directory)
{
    uint64_t inode, child;
    if (disk_find(disk, directory, name, &inode) < 0)
        return -ENOENT;
    if (is_directory(disk, inode) != wants_directory)
        return wants_directory ? -ENOTDIR : -EISDIR;
    if (wants_directory && disk_entry(disk, inode, 0, &child) != NULL)
        return -ENOTEMPTY;
    add_event(disk, inode, directory, name, 0, NULL);
    disk_file_of(disk, inode)->links--;
    return 0;
}

int disk_rename(struct disk *disk, uint64_t directory, const char *name, uint64_t to_directory, const char *to_name,
                bool only_new)
{
    uint64_t inode, other = 0, child;
    if (disk_find(disk, directory, name, &inode) < 0)
        return -ENOENT;
    if (disk_find(disk, to_directory, to_name, &other) == 0) {
        if (only_new)
            return -EEXIST;
        if (other == inode)
            return 0;
        if (is_directory(disk, other) != is_directory(disk, inode))
            return is_directory(disk, other) ? -EISDIR : -ENOTDIR;
        if (disk_entry(disk, other, 0, &child) != NULL)
            return -ENOTEMPTY;
        disk_file_of(disk, other)->links--;
    }
    add_event(disk, inode, directory, name, to_directory, to_name);
    return 0;
}
