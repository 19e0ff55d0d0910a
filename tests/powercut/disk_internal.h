/* SPDX-License-Identifier: MIT */
/* What the parts of the disk share: files (disk.c), names (disk_names.c) and the power cut (disk_cut.c). */
#ifndef TESTS_POWERCUT_DISK_INTERNAL_H
#define TESTS_POWERCUT_DISK_INTERNAL_H

#include "tests/powercut/disk.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define DISK_PAGE_BYTES 4096u

/* A change of a file that is not durable: a sector's content, or a size. */
struct disk_change {
    uint64_t position; /* in the order of all changes of the disk */
    uint64_t where;    /* the number of the sector, or the size */
    uint8_t *bytes;    /* NULL: a size */
    bool clean;        /* a failed sync lost it: a later sync does not cover it */
};

struct disk_file {
    bool used;
    uint32_t mode, owner, group;
    uint64_t links; /* names that the program sees */
    struct timespec changed;
    uint64_t size;         /* as the program sees it */
    uint64_t durable_size; /* as the disk has it */
    uint8_t *cache;        /* zeros from size on */
    uint8_t *durable;      /* zeros from durable_size on */
    uint64_t capacity;     /* of both, in bytes, a multiple of a sector */
    struct disk_change *changes;
    size_t change_count, change_capacity;
};

struct disk_name {
    uint64_t directory;
    char *name;
    uint64_t inode;
};

struct disk_list {
    struct disk_name *entries;
    size_t count, capacity;
};

/* An inode gets a name, loses one, or has it changed: one of `from` and `to` may be NULL. */
struct disk_event {
    uint64_t position;
    uint64_t inode;
    uint64_t from_directory, to_directory;
    char *from, *to;
};

struct disk {
    struct disk_options options;
    uint64_t position;
    struct disk_file *files; /* by inode number */
    size_t file_count, file_capacity;
    struct disk_list names, durable_names;
    struct disk_event *events;
    size_t event_count, event_capacity;
};

/* Memory that is always there. */
static inline void *disk_memory(void *memory, size_t count, size_t element)
{
    void *result = reallocarray(memory, count == 0 ? 1 : count, element);
    if (result == NULL) {
        fputs("powercut: out of memory\n", stderr);
        abort();
    }
    return result;
}

/* disk.c */
struct disk_file *disk_file_of(const struct disk *disk, uint64_t inode);
uint64_t disk_file_new(struct disk *disk, const struct disk_stat *like);
void disk_file_forget(struct disk_file *file);
void disk_file_deinit(struct disk_file *file);

/* disk_names.c */
void disk_list_set(struct disk_list *list, uint64_t directory, const char *name, uint64_t inode);
void disk_list_copy(struct disk_list *to, const struct disk_list *from);
void disk_list_clear(struct disk_list *list);
void disk_event_apply(struct disk_list *list, const struct disk_event *event);
/* The events of a directory become durable; 0: of all directories. */
void disk_names_settle(struct disk *disk, uint64_t directory);
void disk_names_forget(struct disk *disk);

#endif
