/* SPDX-License-Identifier: MIT */
/*
 * A tree that is being built, node after node, in transactions of bounded size.
 *
 * It hangs under `staging` of the root block until stage_finish() makes it the current tree, so a crash on the way
 * leaves the tree that was there.  New nodes are put at a cursor: they become children of `parent`, after `last`.
 * When an element ends it becomes `last`, and its parent becomes `parent`: the links in the heap are the stack, so
 * depth costs no memory here.
 */
#ifndef ELEMENTTREE_STAGE_H
#define ELEMENTTREE_STAGE_H

#include "tree.h"

struct stage {
    pheap *heap;
    pheap_txn *txn;
    uint64_t root;
    uint64_t serial;
    uint64_t document;
    uint64_t parent;
    uint64_t last;
    uint64_t nodes;
    uint64_t commits;
    uint64_t batch_nodes; /* in the present transaction */
    uint64_t batch_bytes;
    uint64_t batch_max; /* nodes in one transaction; TREE_BATCH unless the user of the stage sets another number */
};

/* Take the heap over, free what an interrupted import has left, and start an empty document. */
int stage_begin(struct stage *stage, pheap *heap);

/* Make a node at the cursor, which moves behind it.  `name` and `text` may be NULL. */
int stage_node(struct stage *stage, enum tree_kind kind, const char *name, const char *text, size_t text_length);

/* Give the node at `node` its attributes: `count` pairs of name and value. */
int stage_attributes(struct stage *stage, uint64_t node, const char *const *pairs, size_t count);

/* Store text at the cursor: the tail of the last node, or the text of the parent.  What has one already keeps it. */
int stage_text(struct stage *stage, const char *bytes, size_t length);

/* Move the cursor into the last node, and out of the parent again. */
void stage_descend(struct stage *stage);
void stage_ascend(struct stage *stage);

/* Is the present transaction as large as it should be?  Then commit it and begin another. */
bool stage_is_due(const struct stage *stage);
int stage_renew(struct stage *stage);

/* Make the document the current tree, durably, and free the one before it. */
int stage_finish(struct stage *stage);

/* Undo everything since stage_begin(). */
void stage_drop(struct stage *stage);

#endif
