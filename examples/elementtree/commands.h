/* SPDX-License-Identifier: MIT */
/* What the source files of the command share: access to heaps, and the subcommands. */
#ifndef ELEMENTTREE_COMMANDS_H
#define ELEMENTTREE_COMMANDS_H

#include <stdbool.h>
#include <stdint.h>

#include "tree.h"

/* A clock that nobody sets, to measure with. */
double clock_seconds(void);

/* Open a heap that must exist; or one that is created if it does not. */
int heap_open(const char *path, pheap **heap);
int heap_open_or_create(const char *path, pheap **heap);

/* The same for reading only: a heap on a read-only place will do. */
int heap_open_to_read(const char *path, pheap **heap);

/* Close it.  `result` is what the command has come to; a failure to close turns 0 into -1. */
int heap_close(const char *path, pheap *heap, int result);

/* Begin a transaction and look at the tree in it; or a snapshot. */
int write_begin(pheap *heap, struct tree_view *view);
int snapshot_begin(pheap *heap, struct tree_view *view);

/* Commit what `view` has done if result is 0, else abort. */
int write_end(struct tree_view *view, int result, enum pheap_durability how);

/* Write the current tree as XML, to standard output if `file` is NULL. */
int export_run(const char *path, const char *file);

/* Print what a path leads to; 1 if it leads nowhere. */
int find_run(const char *path, const char *expression);

/* Replace one text by `text`, or by the contents of `file` if that is not NULL. */
int set_run(const char *path, const char *expression, const char *text, const char *file);

/* Print what the tree consists of. */
int stats_run(const char *path);

/* Commit one change after the other until killed, printing the number of each after its commit has returned. */
int writer_run(const char *path, bool lazy);

/* Check that the changes of the writer up to `first`, at most `last`, are there, all of them and whole. */
int verify_run(const char *path, uint64_t first, uint64_t last);

/* Measure the change of a text near the front from Foo to Foobar and back. */
int foobar_run(const char *path, uint64_t changes);

#endif
