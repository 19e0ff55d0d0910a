/* SPDX-License-Identifier: MIT */
/*
 * A disk (tests/powercut/disk.h) as a mounted file system, by FUSE, for programs that know nothing of it.
 *
 * An operation that changes the disk, or syncs, is counted.  The mount can be told to stop at one: from then on the disk
 * answers nobody, as if the power were gone already, until the campaign has killed whoever waits and says how it goes
 * on.  So nothing that a program does or says after the cut can be mistaken for something before it.
 *
 * The page cache is the kernel's, write-through: write() reaches the disk's cache at once and in order, and a later
 * mapping or read sees it.  Stores through a shared mapping reach it when the kernel writes the page back: on msync, when
 * the mapping ends, or when its holder dies; then they count as not synced like everything else.  A write with RWF_DSYNC
 * or O_DSYNC to a place makes durable only what it has written.  Locks are the kernel's own.
 *
 * A mount has a thread of its own, which alone touches the disk while it is mounted.
 */
#ifndef TESTS_POWERCUT_MOUNT_H
#define TESTS_POWERCUT_MOUNT_H

#include "tests/powercut/disk.h"

struct mount;

/* How a stopped mount goes on. */
enum mount_power {
    MOUNT_ON, /* the operation is done, as if nothing had been */
    MOUNT_OFF /* it and all others fail with EIO; only pages of mappings are still taken, as if stored before the cut */
};

/* Mount it at a directory.  When it stops, `event_fd` (an eventfd) becomes readable.  NULL: not possible, see errno. */
struct mount *mount_begin(struct disk *disk, const char *path, int event_fd);
/* Unmount; only when nobody uses it any more. */
void mount_end(struct mount *mount);

/* Stop at the `nth` (1, 2, ...) counted operation from now on; 0: never. */
void mount_stop_at(struct mount *mount, uint64_t nth);
/* Operations counted so far. */
uint64_t mount_operations(const struct mount *mount);
/* The operation that it stopped at, for people. */
const char *mount_stopped_in(const struct mount *mount);
void mount_resume(struct mount *mount, enum mount_power power);
/* Let the `nth` sync of a file from now on fail with EIO; 0: none. */
void mount_fail_sync(struct mount *mount, uint64_t nth, enum disk_failure failure);
/* How many have failed. */
uint64_t mount_failed_syncs(const struct mount *mount);
/* Print each counted operation on standard error. */
void mount_trace(struct mount *mount, bool trace);

#endif
