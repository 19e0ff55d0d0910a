/* SPDX-License-Identifier: MIT */
/*
 * A line on standard error that says what a command is doing, once that takes longer than a second.
 *
 * It is written by a thread of its own, so that work without a callback (recovery, a checkpoint) shows signs of life
 * too.  On a terminal the line is rewritten in place and erased at the end; elsewhere (--progress) each report is a
 * line.  There is no thread, and nothing is written, when standard error is not a terminal and --progress was not
 * given.
 */
#ifndef TOOLS_PROGRESS_H
#define TOOLS_PROGRESS_H

#include <stdbool.h>
#include <stdint.h>

struct progress;

/* Begin a piece of work named `what` ("opening").  NULL if there is nothing to show; that is allowed below. */
struct progress *progress_begin(const char *what, bool always);

/* Note how far it is; `total` 0 if that is not known.  Of the type pheap_progress: `context` is a struct progress *. */
int progress_update(void *context, const char *what, uint64_t done, uint64_t total);

/* Text that each report has besides, at most 63 bytes. */
__attribute__((format(printf, 2, 3))) void progress_note(struct progress *progress, const char *format, ...);

/* Erase the line, so that something else can be printed; the next report brings it back. */
void progress_hide(struct progress *progress);

/* The work has ended: erase the line. */
void progress_end(struct progress *progress);

#endif
