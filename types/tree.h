/* SPDX-License-Identifier: MIT */
/*
 * Counted trees: sequences of items of one or two words, found, inserted and removed by their number in O(log n).
 *
 * A B+ tree whose inner entries know how many items lie below, and for items of two words, a key and its value, the first
 * key there, so that a search looks at one node for each level.  All nodes are blocks of 1 KiB, but for the only leaf of a
 * small tree, which grows.  After a removal a node that is less than a quarter full joins a neighbour if both together
 * leave room; so two neighbours are at least half full on average.
 */
#ifndef TYPES_TREE_H
#define TYPES_TREE_H

#include "types/heap.h"

#define PT_NODE_WORDS 126u
#define PT_LEVELS_MAX 14u /* of a tree of 2^48 words whose nodes are as empty as they may be */

/* In the header of the object that it belongs to.  All 0: empty. */
struct PT_IN_HEAP pt_tree {
    uint64_t top;   /* a node; 0: there is none */
    uint64_t count; /* items */
    uint32_t level; /* of the top: 0 for a leaf */
    uint32_t zero;
};
_Static_assert(sizeof(struct pt_tree) == 24, "tree");

struct PT_IN_HEAP pt_node {
    uint32_t kind;     /* PT_NODE */
    uint32_t level;    /* 0: leaf */
    uint32_t used;     /* items, or entries */
    uint32_t capacity; /* in words; PT_NODE_WORDS but for an only leaf */
    uint64_t words[]; /* leaf: items.  Inner: entries of a child, its count, and for items of two words its first key */
};
_Static_assert(sizeof(struct pt_node) == 16, "node");

/* A node that is sound in itself; NULL (CORRUPT) otherwise. */
const struct pt_node *pt_node_at(struct pht *t, uint64_t offset, uint32_t level, uint32_t width);

/* Are height and count of a tree possible?  CORRUPT, naming the object, if not.  What reads a tree asks first. */
bool pt_tree_sound(struct pht *t, uint64_t object, const struct pt_tree *tree);

/* Item `index`, below the count: its words, and how many items follow each other there.  NULL (CORRUPT) if damaged. */
const pt_word *pt_tree_at(struct pht *t, const struct pt_tree *tree, uint32_t width, uint64_t index, uint64_t *run);

/* Put an item before item `index`, at most the count; `tree` is the offset of the struct pt_tree. */
enum pheap_status pt_tree_insert(struct pht *t, uint64_t tree, uint32_t width, uint64_t index, const uint64_t *item);

/* Take item `index` out: *item becomes its words. */
enum pheap_status pt_tree_remove(struct pht *t, uint64_t tree, uint32_t width, uint64_t index, uint64_t *item);

/* Leaves of one-word items as a whole, which belong to the caller outside of the tree: add one behind all items, or take
 * the last out. */
enum pheap_status pt_tree_append_leaf(struct pht *t, uint64_t tree, uint64_t leaf);
enum pheap_status pt_tree_take_leaf(struct pht *t, uint64_t tree, uint64_t *leaf);

/* A new leaf with room for so many words, or one with another room. */
enum pheap_status pt_leaf_new(struct pht *t, uint32_t capacity, uint64_t *leaf);
enum pheap_status pt_leaf_resize(struct pht *t, uint64_t *leaf, uint32_t capacity);

/* The room that a leaf of `words` gets when it needs more. */
static inline uint32_t pt_leaf_next(uint32_t words)
{
    return words < 4 ? 4 : words > PT_NODE_WORDS / 3 ? PT_NODE_WORDS : words * 2;
}

/*
 * For the tree of an object that nobody refers to: drop the words of items from the end on.  *done: the tree is empty.
 */
enum pheap_status pt_tree_dismantle(struct pht *t, uint64_t tree, uint32_t width, uint32_t *budget, bool *done);

/*
 * Every node and word of a tree, and that its counts and first keys are what they should be and that keys ascend.
 */
enum pheap_status pt_tree_visit(struct pt_visit *visit, const struct pt_tree *tree, uint32_t width);

#endif
