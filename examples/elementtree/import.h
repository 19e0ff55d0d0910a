/* SPDX-License-Identifier: MIT */
/* From an XML file into the heap. */
#ifndef ELEMENTTREE_IMPORT_H
#define ELEMENTTREE_IMPORT_H

#include <stdint.h>

struct import_request {
    const char *xml;  /* the file to read */
    const char *heap; /* the heap; created if there is none */
    /*
     * 0: import the file.  Otherwise put the children of its root element into the tree again and again until the
     * heap has this many bytes.
     */
    uint64_t fill_bytes;
};

struct import_result {
    uint64_t nodes;
    uint64_t source_bytes;
    uint64_t heap_bytes;
    uint64_t commits;
};

/*
 * Import, replacing the tree that the heap holds.  The file is parsed twice: first without touching the heap, so that
 * XML which is not well-formed changes nothing at all.  A file of more than TREE_BATCH nodes goes into the heap in
 * several transactions, under `staging`; the last one, which is durable, makes it the current tree.  A crash on the
 * way leaves the old tree, and the next import clears what is left of the interrupted one.
 */
int import_run(const struct import_request *request, struct import_result *result);

#endif
