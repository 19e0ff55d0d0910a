/* SPDX-License-Identifier: MIT */
/* From the heap to XML text. */
#ifndef ELEMENTTREE_EXPORT_H
#define ELEMENTTREE_EXPORT_H

#include <stdint.h>
#include <stdio.h>

#include "tree.h"

/*
 * Write the node at `top` with everything below it, as UTF-8.  A document is written whole; any other node without
 * its tail.  Errors of `output` are the caller's to look for (ferror).
 */
int export_node(const struct tree_view *view, uint64_t top, uint64_t nodes_max, FILE *output);

#endif
