/* SPDX-License-Identifier: MIT */
/* The superblock: make, read, check, write.  Owns the rules for which of the two copies is to be believed. */
#ifndef RECOVERY_SUPERBLOCK_H
#define RECOVERY_SUPERBLOCK_H

#include "io/disk.h"
#include "io/file.h"

enum ph_copy_verdict {
    PH_COPY_GOOD,
    PH_COPY_DAMAGED, /* says it is a superblock, but checksum or values are wrong; or unreadable */
    PH_COPY_ALIEN,   /* not a superblock at all */
    PH_COPY_NEWER,   /* another format version, or unknown incompatible features */
    PH_COPY_BYTE_ORDER
};

/* Judge one copy; `copy` says from which place it was read. */
enum ph_copy_verdict ph_superblock_check(const struct ph_superblock *superblock, uint32_t copy);

/*
 * Read both copies and choose: the good one with the higher generation.  *other_damaged: the one not chosen is not
 * good.  NOT_HEAP, NEWER, BYTE_ORDER, CORRUPT (no good copy), IO.
 */
PH_MUST_CHECK ph_status ph_superblock_read(struct ph_file *file, struct ph_superblock *superblock, bool *other_damaged);

/* Set copy and checksum of a superblock whose other fields are complete. */
void ph_superblock_seal(struct ph_superblock *superblock);

/* Seal it and write it in its place, durably.  IO, NO_SPACE. */
PH_MUST_CHECK ph_status ph_superblock_write(struct ph_file *file, struct ph_superblock *superblock);

/* Give it an identity of its own and write it in both places: generations 1 and 2. */
PH_MUST_CHECK ph_status ph_superblock_write_new(struct ph_file *file, struct ph_superblock *superblock);

#endif
