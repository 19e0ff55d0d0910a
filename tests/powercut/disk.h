/* SPDX-License-Identifier: MIT */
/*
 * A disk in memory with a page cache before it: what the program sees, what would survive a power cut, and in between
 * the changes that no sync has covered yet, in their order.
 *
 * The rules are those of the simulated machine (tests/support/simfs_cut.c), written a second time on purpose: a mistake
 * in one of the two shows as a difference.
 *
 *   sectors   512 bytes reach the disk as a whole or not at all.  Until a sync covers it, a sector may hold its durable
 *             content or any content that it had since, independently of all others.
 *   sizes     change in order: a file has its durable size or any that it had since (for a write that makes it longer,
 *             also some page end on the way).  What lies beyond the size that persists is lost.  What a smaller size
 *             cut off is zero if that size persisted; if not, nothing that was written there later is on the disk.
 *   names     DISK_NAMES_STRICT, as POSIX has it: each creation, removal and renaming persists or not, independently,
 *             until its directory is synced; a sync of the file does not help.  DISK_NAMES_JOURNAL, as ext4 and XFS do
 *             it: they persist in order, and every successful sync of anything makes all of them durable.
 *   dsync     a write with O_DSYNC or RWF_DSYNC makes its own sectors durable, and the sizes if it lies beyond one that
 *             may persist; nothing else of the file.
 *   failure   of a sync: what was dirty may or may not have reached the disk, and then
 *             DISK_FAILURE_CLEAN   (ext4, XFS) the cache keeps it and calls it clean: a later sync makes durable only
 *                                  what was written again;
 *             DISK_FAILURE_REVERT  (btrfs) the cache forgets it: the program sees the durable content again, and
 *                                  nothing of it has reached the disk;
 *             DISK_FAILURE_DIRTY   it stays dirty, and a later sync covers it.
 *
 * Files are named by their inode numbers, which a power cut does not change.  One thread at a time.  Results are 0 or
 * -errno.  Where memory ends, so does the program.
 */
#ifndef TESTS_POWERCUT_DISK_H
#define TESTS_POWERCUT_DISK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <time.h>

#define DISK_SECTOR_BYTES 512u
#define DISK_ROOT UINT64_C(1)
#define DISK_FILE_BYTES_MAX (UINT64_C(256) << 20)

enum disk_names { DISK_NAMES_STRICT, DISK_NAMES_JOURNAL };
enum disk_failure { DISK_FAILURE_CLEAN, DISK_FAILURE_REVERT, DISK_FAILURE_DIRTY };
/* A disk that says it has synced and has not: planted to see whether a campaign notices. */
enum disk_lie { DISK_HONEST, DISK_LIE_FILE, DISK_LIE_DIRECTORY };

struct disk_options {
    enum disk_names names;
    enum disk_lie lie;
};

struct disk_stat {
    uint64_t inode, size, links;
    uint32_t mode, owner, group;
    struct timespec changed;
};

struct disk;

struct disk *disk_new(const struct disk_options *options);
void disk_free(struct disk *disk);

/* Names.  A directory is named by its inode too; `inode` is set on success. */
int disk_find(const struct disk *disk, uint64_t directory, const char *name, uint64_t *inode);
/* The entry number `index` of the directory; NULL: there are no more.  Valid until a name changes. */
const char *disk_entry(const struct disk *disk, uint64_t directory, size_t index, uint64_t *inode);
/* A regular file or a directory, as `mode` says, in the present process's time. */
int disk_create(struct disk *disk, uint64_t directory, const char *name, const struct disk_stat *like, uint64_t *inode);
int disk_link(struct disk *disk, uint64_t inode, uint64_t directory, const char *name);
int disk_unlink(struct disk *disk, uint64_t directory, const char *name, bool is_directory);
int disk_rename(struct disk *disk, uint64_t directory, const char *name, uint64_t to_directory, const char *to_name,
                bool only_new);

/* Files. */
int disk_stat(const struct disk *disk, uint64_t inode, struct disk_stat *stat);
/* Permissions and owners are of no interest to a cut: they are durable at once. */
void disk_set_mode(struct disk *disk, uint64_t inode, uint32_t mode, uint32_t owner, uint32_t group);
/* A pointer to the bytes that there are from `offset` on, *length at most, which is set to their number. */
const uint8_t *disk_read(const struct disk *disk, uint64_t inode, uint64_t offset, size_t *length);
int disk_write(struct disk *disk, uint64_t inode, const void *bytes, size_t length, uint64_t offset);
int disk_set_size(struct disk *disk, uint64_t inode, uint64_t size);
/* Zeros in [offset, offset + length), as far as the file reaches. */
int disk_punch(struct disk *disk, uint64_t inode, uint64_t offset, uint64_t length);

/* All of a file or a directory, by its inode. */
void disk_sync(struct disk *disk, uint64_t inode);
/* Only what a write with O_DSYNC or RWF_DSYNC has just written, and the size if that was needed to find it again. */
void disk_sync_range(struct disk *disk, uint64_t inode, uint64_t offset, uint64_t length);
/* A sync of such a range has failed; length UINT64_MAX: of everything. */
void disk_sync_failed(struct disk *disk, uint64_t inode, uint64_t offset, uint64_t length, enum disk_failure failure);

/*
 * The power fails: chosen by the seed, some of what is not durable has reached the disk, and that is what the program
 * sees from now on.  What was chosen is told for people in `text`.
 */
void disk_cut(struct disk *disk, uint64_t seed, char *text, size_t text_size);

/* Write all files under their names into a directory that exists: what the program sees. */
int disk_dump(const struct disk *disk, const char *path);

#endif
