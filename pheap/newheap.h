/* SPDX-License-Identifier: MIT */
/*
 * What backup, restore, salvage and scrub share: their options, and how a heap that was made takes its place, as a new file or
 * in the place of another heap.
 */
#ifndef PHEAP_NEWHEAP_H
#define PHEAP_NEWHEAP_H

#include "io/newfile.h"
#include "pheap/pheap.h"

/* Copy options of any size over zeroed ones; NULL leaves them.  INVALID, naming `call`. */
PH_MUST_CHECK ph_status ph_take_options(const char *call, const void *given, void *options, size_t options_bytes);
/* The flags are among those known.  INVALID. */
PH_MUST_CHECK ph_status ph_check_flags(const char *call, uint32_t flags, uint32_t known, uint32_t reserved);
/* The size that the caller of a result has set; NULL: there is no result.  INVALID. */
PH_MUST_CHECK ph_status ph_check_result(const char *call, const size_t *size);

struct ph_newheap {
    const ph_io *io;
    const char *path; /* resolved; the caller's */
    bool replace;     /* a heap that is there may be replaced */
    bool exists;      /* there is a file */
    struct ph_newfile new;
};

/* Before anything else: may there be a heap at the path?  Sets `exists`.  EXISTS, BUSY, LOG_FOREIGN, as ph_file_open. */
PH_MUST_CHECK ph_status ph_newheap_check_place(struct ph_newheap *heap);
/* Neither the heap nor a file that it may have beside it is `source`, which it is made from and `name` says what it is.
 * INVALID. */
PH_MUST_CHECK ph_status ph_newheap_spare(const struct ph_newheap *heap, const char *name,
                                         const struct ph_file_stat *source);
/* Begin the file, which is empty and has no name that counts.  On failure nothing is left. */
PH_MUST_CHECK ph_status ph_newheap_begin(struct ph_newheap *heap, uint32_t mode);
/* Check the heap in it as pheap_check() does.  CORRUPT, BUSY (stopped), NO_MEMORY. */
PH_MUST_CHECK ph_status ph_newheap_check(struct ph_newheap *heap, uint64_t heap_bytes, pheap_progress progress,
                                         void *context);
/* Sync it and give it its name, or let it take the place of the heap that is there. */
PH_MUST_CHECK ph_status ph_newheap_publish(struct ph_newheap *heap);
void ph_newheap_end(struct ph_newheap *heap); /* what was not published is gone; zeroed state is fine */

#endif
