/* SPDX-License-Identifier: MIT */
/* What the parts of the simulated machine share: its structures, its journal, its dice. */
#ifndef TESTS_SUPPORT_SIMFS_INTERNAL_H
#define TESTS_SUPPORT_SIMFS_INTERNAL_H

#include "tests/support/dice.h"
#include "tests/support/simfs.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SIM_PAGE_BYTES 4096u
#define SIM_PAGE_SECTORS (SIM_PAGE_BYTES / PH_SIM_SECTOR_BYTES)
#define SIM_NO_FILE UINT32_MAX

/* A simulator that cannot go on has nothing to clean up. */
#define SIM_REQUIRE(condition)                                                         \
    do {                                                                               \
        if (!(condition)) {                                                            \
            fprintf(stderr, "%s:%d: simulator: %s\n", __FILE__, __LINE__, #condition); \
            abort();                                                                   \
        }                                                                              \
    } while (0)

/*
 * Stamps say which pages of a file in an image hold what the cut's durable copy holds, so that an image is brought to
 * the next state by writing only the pages that differ.  0: zeros; SIM_STAMP_UNKNOWN: anything; else: the content that
 * the durable page had when it got that stamp.
 */
#define SIM_STAMP_ZERO UINT64_C(0)
#define SIM_STAMP_UNKNOWN UINT64_MAX

struct sim_file {
    int memfd;      /* -1: never used */
    uint8_t *plain; /* the content instead, PH_SIM_PLAIN_BYTES of it, zeros after the end; NULL: never used */
    bool used;
    bool coordination; /* has been mapped shared */
    uint64_t size;
    uint32_t links;
    uint64_t *stamps; /* one a page, only as many as were ever needed */
    size_t stamp_count;
};

struct sim_name {
    char *path;
    uint32_t file;
};

struct sim_names {
    struct sim_name *list;
    size_t count, capacity;
};

struct sim_handle {
    bool open;
    uint32_t file;
    unsigned flags;
    char *path;
};

struct sim_lock {
    uint32_t file;
    int handle;
    enum ph_lock_type type;
    uint64_t start, end; /* end not included; UINT64_MAX: for ever */
};

enum sim_event_kind {
    SIM_EVENT_CREATE,       /* name, file */
    SIM_EVENT_UNLINK,       /* name */
    SIM_EVENT_RENAME,       /* name, name2 */
    SIM_EVENT_WRITE,        /* file, offset, length, data */
    SIM_EVENT_ZERO,         /* file, offset, length: a hole */
    SIM_EVENT_SIZE,         /* file, offset: the new size */
    SIM_EVENT_SYNC,         /* file */
    SIM_EVENT_SYNC_RANGE,   /* file, offset, length */
    SIM_EVENT_SYNC_FAILED,  /* file: what was dirty is called clean */
    SIM_EVENT_REVERTED,     /* file: what was dirty is gone */
    SIM_EVENT_SYNC_NAMES,   /* name: some file in the directory */
    SIM_EVENT_COORDINATION, /* file, length, data: what the coordination file held then */
    SIM_EVENT_NOTE          /* file: kind, offset: value */
};

struct sim_event {
    enum sim_event_kind kind;
    uint32_t file;
    uint64_t offset, length;
    uint8_t *data;
    char *name, *name2;
};

struct sim_initial {
    uint32_t file;
    uint64_t size;
    uint8_t *data;
};

struct sim_journal {
    bool on;
    struct sim_event *events;
    size_t count, capacity;
    struct sim_initial *initial;
    size_t initial_count;
    struct sim_names names;
    size_t since_coordination; /* events since its last copy */
};

struct sim_map {
    void *address;
    size_t length;
};

struct ph_sim {
    ph_io *io;        /* of the present process */
    ph_io *neighbour; /* of a second one; NULL: none yet */
    struct ph_sim_options options;
    pthread_mutex_t mutex;
    pthread_cond_t changed; /* a lock was given up */
    struct sim_file *files;
    size_t file_count;
    struct sim_names names;
    struct sim_handle *handles;
    size_t handle_count;
    struct sim_lock *locks;
    size_t lock_count, lock_capacity;
    struct sim_map *maps;
    size_t map_count, map_capacity;
    int watches[8]; /* handles of the system */
    size_t watch_count;
    struct sim_journal journal;

    uint64_t dice;
    uint64_t clock_ns;
    uint64_t boot;
    uint64_t namespace;
    bool power_off;
    bool shut_down;

    uint64_t calls[PH_SIM_OP_KINDS];
    unsigned fault_ops;
    uint64_t fault_countdown; /* 0: none */
    bool fault_paused;
    sigjmp_buf *grave;
    int fault_error;
    enum ph_sim_fault_mode fault_mode;
    uint64_t struck, struck_position;
    char struck_at[160];

    _Atomic int64_t live_allocations, live_handles;
};

/* Memory that is always there. */
static inline void *sim_resize(void *memory, size_t length)
{
    void *result = realloc(memory, length == 0 ? 1 : length);
    SIM_REQUIRE(result != NULL);
    return result;
}

static inline char *sim_text(const char *text)
{
    char *copy = strdup(text);
    SIM_REQUIRE(copy != NULL);
    return copy;
}

static inline size_t sim_pages(uint64_t bytes)
{
    return (size_t)((bytes + SIM_PAGE_BYTES - 1) / SIM_PAGE_BYTES);
}

/* Faults: simfs_faults.c.  Count a call of the kinds `ops`.  0: go on; SIM_SHORT_TRANSFER; or -errno.  May not return. */
#define SIM_SHORT_TRANSFER 1
int sim_strike(struct ph_sim *sim, unsigned ops, const char *what, const char *path, uint64_t length, uint64_t offset);

/* Names: simfs_files.c. */
uint32_t sim_names_find(const struct sim_names *names, const char *path);
void sim_names_add(struct sim_names *names, const char *path, uint32_t file);
bool sim_names_remove(struct sim_names *names, const char *path);
void sim_names_copy(struct sim_names *to, const struct sim_names *from);
void sim_names_deinit(struct sim_names *names);
bool sim_names_same_directory(const char *one, const char *other);

/* Files: simfs_files.c.  They keep the stamps right. */
uint32_t sim_file_new(struct ph_sim *sim);
void sim_file_open_slot(struct ph_sim *sim, uint32_t file);
void sim_file_write(struct sim_file *file, const void *data, size_t length, uint64_t offset);
void sim_file_set_size(struct sim_file *file, uint64_t size);
void sim_file_punch(struct sim_file *file, uint64_t offset, uint64_t length);
size_t sim_file_read(const struct sim_file *file, void *data, size_t length, uint64_t offset);

/* Bring back what is durable, as a disk that loses what it could not sync would: simfs_cut.c. */
void sim_file_revert(struct ph_sim *sim, uint32_t file);

/* The journal: simfs_journal.c.  Calls do nothing while it is off. */
void sim_journal_name(struct ph_sim *sim, enum sim_event_kind kind, const char *name, const char *name2, uint32_t file);
void sim_journal_range(struct ph_sim *sim, enum sim_event_kind kind, uint32_t file, uint64_t offset, uint64_t length,
                       const void *data);
void sim_journal_deinit(struct sim_journal *journal);

#endif
