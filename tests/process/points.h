/* SPDX-License-Identifier: MIT */
/*
 * Fail points, as the process rig sees them: what a process passes is counted, and it is killed or stopped where the rig
 * says.
 *
 * There are the named ones of io/failpoint.h, and each call of the seam is one for each kind of file: before the call,
 * after it, and within a write, of which the first half has been done.  A program with this file is linked with
 * --wrap=ph_io_posix.
 */
#ifndef TESTS_PROCESS_POINTS_H
#define TESTS_PROCESS_POINTS_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#define POINTS_MAX 512u
#define POINTS_ANY POINTS_MAX /* in the place of a point: each counts */
#define POINTS_NAME_BYTES 64

enum points_action { POINTS_KILL, POINTS_STOP };

/* What is to happen to one process, in memory that it shares with the rig. */
struct points_arm {
    _Atomic uint32_t armed; /* point + 1, 0: nothing; stored last */
    _Atomic uint32_t action;
    _Atomic int64_t left;      /* passages until then */
    _Atomic uint32_t reached;  /* point + 1, once it has happened; never taken back while it lives */
    _Atomic uint64_t passages; /* so many fail points has it passed */
};

/* How often each point was passed, by all who count there. */
struct points_seen {
    _Atomic uint64_t passages[POINTS_MAX];
};

/* From now on this process is at the mercy of `arm`, and counts in `seen`. */
void points_use(struct points_arm *arm, struct points_seen *seen);

void points_set(struct points_arm *arm, unsigned point, int64_t passage, enum points_action action);
/* No more: for a process that is stopped, or gone. */
void points_clear(struct points_arm *arm);

unsigned points_count(void);
/* Whether the library has such a place; a point that is passed and is not expected is missing in a table of points.c. */
bool points_expected(unsigned point);
/* The same, and it is not only passed when two processes meet. */
bool points_certain(unsigned point);
const char *points_name(unsigned point); /* static, one at a time */
/* The point of that name, or POINTS_MAX. */
unsigned points_find(const char *name);

#endif
