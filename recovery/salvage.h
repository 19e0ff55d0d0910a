/* SPDX-License-Identifier: MIT */
/*
 * Salvage, the part that knows files and log but not the allocator: what can be read of a damaged heap file and of its
 * log, as a copy of the heap file at the newest commit that can be reached.
 *
 * The damaged files are only read.  See the head of salvage.c for which state the copy shows.
 */
#ifndef RECOVERY_SALVAGE_H
#define RECOVERY_SALVAGE_H

#include "recovery/classify.h"
#include "recovery/scrub.h"
#include "recovery/superblock.h"

enum ph_salvage_log {
    PH_SALVAGE_WHOLE, /* the copy is the last commit */
    PH_SALVAGE_CUT,   /* it is an earlier one: records behind it are lost */
    PH_SALVAGE_UNUSED /* nothing was replayed: it is the heap file as it was, from the checkpoint or later */
};

/* Pages [from, to) that could not be read. */
struct ph_page_range {
    uint64_t from, to;
};

/* A page of which the checksum says that it is not what was written. */
struct ph_suspect_page {
    uint64_t page;
    enum ph_page_verdict verdict;
};

/* Something is lost: the place in the heap file, 0 if it is in the log, and what. */
typedef void (*ph_salvage_fault)(void *context, uint64_t offset, const char *text);
/* Called now and then; a status other than OK stops the work and comes back from it. */
typedef ph_status (*ph_salvage_watch)(void *context, const char *what, uint64_t done, uint64_t total);

struct ph_salvage {
    struct ph_file *heap;   /* the damaged file, to which nobody else writes; the caller's */
    ph_salvage_fault fault; /* not NULL */
    ph_salvage_watch watch; /* not NULL */
    void *context;
    uint64_t file_bytes;             /* of the damaged file */
    bool found;                      /* there is a good superblock: */
    struct ph_superblock superblock; /* the newest one */
    bool other_damaged;
    enum ph_salvage_log log;
    uint64_t version;             /* of the commit that the copy shows; UNUSED: of the checkpoint, 0 if not known */
    uint64_t page_count;          /* of the copy, whole pages; 2 at least */
    struct ph_page_range *unread; /* owned; ascending */
    uint32_t unread_count, unread_capacity;
    struct ph_suspect_page *suspects; /* owned; ascending, pages of the copy */
    uint32_t suspect_count, suspect_capacity;
    uint64_t unknown_pages; /* of the heap file: there is no checksum that could tell */
};

/* Read the superblocks and choose.  One or both may be damaged.  NEWER, BYTE_ORDER: nothing can be said of such a heap. */
PH_MUST_CHECK ph_status ph_salvage_begin(struct ph_salvage *salvage);

/*
 * Copy the heap file, from the heap header on, to the empty file `to`, compare that with the sums, if the heap has any, and
 * replay the log into it.  coord: what the last
 * users left in the coordination file, or NULL; only its buffer is read.  NO_MEMORY, NO_SPACE, IO (of `to`), what `watch`
 * gives.
 */
PH_MUST_CHECK ph_status ph_salvage_copy(struct ph_salvage *salvage, struct ph_coord *coord, struct ph_file *to);

void ph_salvage_deinit(struct ph_salvage *salvage); /* zeroed state is fine */

/* Whether any of pages [from, to) could not be read. */
bool ph_salvage_unread(const struct ph_salvage *salvage, uint64_t from, uint64_t to);

/* Whether any of pages [from, to) of the copy is not what was written, by its checksum. */
bool ph_salvage_suspect(const struct ph_salvage *salvage, uint64_t from, uint64_t to);

#endif
