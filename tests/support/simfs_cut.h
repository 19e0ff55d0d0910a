/* SPDX-License-Identifier: MIT */
/* What the two parts of a cut share: the walk over the journal (simfs_cut.c), and choices and images (simfs_image.c). */
#ifndef TESTS_SUPPORT_SIMFS_CUT_H
#define TESTS_SUPPORT_SIMFS_CUT_H

#include "tests/support/simfs_internal.h"

/* What a sector held after some write that no sync has covered since. */
struct cut_version {
    uint64_t position; /* of the event that made it */
    bool clean;        /* a failed sync lost it: a later sync does not cover it */
    bool shrink;       /* zeros that came with a smaller size: there if and only if that size is */
    struct cut_version *next;
    uint8_t bytes[PH_SIM_SECTOR_BYTES];
};

struct cut_sector {
    uint32_t sector;
    uint16_t count;
    struct cut_version *first, *last; /* oldest first */
};

struct cut_size {
    uint64_t position;
    uint64_t size;
};

struct cut_file {
    bool coordination;
    uint64_t size;      /* as the program sees it */
    uint64_t base_size; /* durable */
    uint8_t *cache;     /* content as the program sees it, zeros after the end */
    uint8_t *base;      /* durable content, zeros after the end */
    uint64_t *stamps;   /* one for each page of base */
    uint32_t *slots;    /* for each sector: index + 1 in pending, 0 if durable */
    uint64_t capacity;  /* of cache and base, in bytes */
    struct cut_sector *pending;
    size_t pending_count, pending_capacity;
    struct cut_size *sizes; /* since base_size, oldest first */
    size_t size_count, size_capacity;
    const uint8_t *copies[2]; /* what the coordination file held: lately, and before */
    uint64_t copy_bytes[2];
    uint32_t first_digit; /* when the digits are laid out: its size, if any is pending, then its sectors */
};

struct cut_name_event {
    uint64_t position;
    const struct sim_event *event;
};

struct ph_sim_cut {
    const struct sim_journal *journal;
    uint64_t position; /* events done, the last perhaps only partly */
    struct cut_file *files;
    size_t file_count;
    struct sim_names names; /* durable */
    struct cut_name_event *name_events;
    size_t name_count, name_capacity;
    struct cut_version *spare;
    uint64_t *notes;
    size_t note_count;

    bool laid_out; /* the fields below fit the position */
    uint16_t *radixes;
    uint32_t digit_count, digit_capacity;
    uint32_t first_name_digit;
};

#endif
