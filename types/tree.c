/* SPDX-License-Identifier: MIT */
/*
 * Counted trees.  A change goes down to a leaf, remembering the path, and up again: on each level the entry of the child
 * that was changed gets its new count and first key, and an entry comes when the child was split or goes when it is empty.
 */
#include "types/tree.h"

#include "types/value.h"

#include <inttypes.h>

/* Where a way down went through: a node and the entry that it took. */
struct step {
    uint64_t node;
    uint32_t entry;
};

struct path {
    struct step steps[PT_LEVELS_MAX + 1]; /* by level; of the leaf the entry is the item's */
};

/* Words of an item of a node: in inner ones a child, its count and, beside keys, its first key. */
static inline uint32_t entry_words(uint32_t level, uint32_t width)
{
    return level == 0 ? width : width + 1;
}

static inline uint32_t entries_max(const struct pt_node *node, uint32_t width)
{
    return node->capacity / entry_words(node->level, width);
}

const struct pt_node *pt_node_at(struct pht *t, uint64_t offset, uint32_t level, uint32_t width)
{
    const struct pt_node *node = pt_at_kind(t, offset, sizeof *node, PT_NODE);
    if (node == NULL)
        return NULL;
    if (node->level != level || node->capacity > PT_NODE_WORDS || node->capacity < width ||
        (level > 0 && node->capacity != PT_NODE_WORDS) || node->used > entries_max(node, width) ||
        node->capacity * sizeof(uint64_t) > t->size - offset - sizeof *node) {
        (void)pt_corrupt(t, offset, "a node of a tree whose level or size is impossible");
        return NULL;
    }
    return node;
}

static enum pheap_status edit_node(struct pht *t, uint64_t offset, uint32_t level, uint32_t width,
                                   struct pt_node **node)
{
    const struct pt_node *found = pt_node_at(t, offset, level, width);
    if (found == NULL)
        return PHEAP_CORRUPT;
    return pt_edit(t, offset, sizeof *found + found->capacity * sizeof(uint64_t), node);
}

/* One entry of a node alone. */
static enum pheap_status edit_entry(struct pht *t, uint64_t offset, uint32_t level, uint32_t width, uint32_t entry,
                                    uint64_t **address)
{
    const struct pt_node *node = pt_node_at(t, offset, level, width);
    if (node == NULL)
        return PHEAP_CORRUPT;
    if (entry >= node->used)
        return pt_corrupt(t, offset, "a node of a tree changed while it was used");
    const uint64_t bytes = entry_words(level, width) * sizeof(uint64_t);
    return pt_edit(t, offset + sizeof *node + entry * bytes, bytes, address);
}

/* The entry of an inner node. */
static inline uint64_t *entry_of(struct pt_node *node, uint32_t width, uint32_t entry)
{
    return node->words + entry * entry_words(node->level, width);
}

/* Items below a node. */
static uint64_t count_below(const struct pt_node *node, uint32_t width)
{
    uint64_t count = 0;
    if (node->level == 0)
        return node->used;
    for (uint32_t i = 0; i < node->used; i++)
        count += node->words[i * entry_words(node->level, width) + 1];
    return count;
}

/* The first key below a node that is not empty. */
static uint64_t first_key(const struct pt_node *node)
{
    return node->words[node->level == 0 ? 0 : 2];
}

bool pt_tree_sound(struct pht *t, uint64_t object, const struct pt_tree *tree)
{
    if (tree->level <= PT_LEVELS_MAX && tree->count <= t->size / sizeof(pht_value) &&
        (tree->top != 0 || tree->count == 0))
        return true;
    (void)pt_corrupt(t, object, "a tree whose height or count is impossible");
    return false;
}

/*
 * Go down to where item `index` is, or, with `between`, to where an item may be put before it.  The entry of the leaf is
 * checked against what it has.
 */
static enum pheap_status descend(struct pht *t, const struct pt_tree *tree, uint32_t width, uint64_t index,
                                 bool between, struct path *path)
{
    uint64_t at = tree->top;
    for (uint32_t level = tree->level;; level--) {
        const struct pt_node *node = pt_node_at(t, at, level, width);
        if (node == NULL)
            return PHEAP_CORRUPT;
        path->steps[level].node = at;
        if (level == 0) {
            if (index > node->used || (index == node->used && !between))
                return pt_corrupt(t, at, "a leaf with less items than its tree says");
            path->steps[0].entry = (uint32_t)index;
            return PHEAP_OK;
        }
        uint32_t entry = 0;
        const uint32_t words = entry_words(level, width);
        for (; entry + 1 < node->used; entry++) {
            const uint64_t below = node->words[entry * words + 1];
            if (index < below || (between && index == below))
                break;
            index -= below;
        }
        if (node->used == 0)
            return pt_corrupt(t, at, "an inner node of a tree without entries");
        path->steps[level].entry = entry;
        at = node->words[entry * words];
    }
}

const pt_word *pt_tree_at(struct pht *t, const struct pt_tree *tree, uint32_t width, uint64_t index, uint64_t *run)
{
    struct path path;
    if (descend(t, tree, width, index, false, &path) != PHEAP_OK)
        return NULL;
    const struct pt_node *leaf = (const struct pt_node *)(const void *)(t->base + path.steps[0].node);
    *run = leaf->used - path.steps[0].entry;
    return leaf->words + path.steps[0].entry * width;
}

/* ---------------------------------------------------------------------------------------------------------- leaves */

static enum pheap_status new_node(struct pht *t, uint32_t level, uint32_t capacity, uint64_t *offset)
{
    enum pheap_status status = pt_alloc(t, sizeof(struct pt_node) + capacity * sizeof(uint64_t), true, offset);
    if (status != PHEAP_OK)
        return status;
    struct pt_node *node = (struct pt_node *)(void *)(t->base + *offset);
    node->kind = PT_NODE;
    node->level = level;
    node->capacity = capacity;
    return PHEAP_OK;
}

enum pheap_status pt_leaf_new(struct pht *t, uint32_t capacity, uint64_t *leaf)
{
    return new_node(t, 0, capacity, leaf);
}

enum pheap_status pt_leaf_resize(struct pht *t, uint64_t *leaf, uint32_t capacity)
{
    struct pt_node *node;
    enum pheap_status status = pt_realloc(t, leaf, sizeof *node + capacity * sizeof(uint64_t));
    if (status == PHEAP_OK)
        status = pt_edit(t, *leaf, sizeof *node, &node);
    if (status == PHEAP_OK)
        node->capacity = capacity;
    return status;
}

/* --------------------------------------------------------------------------------------------------------- inserting */

/* Move the upper part of a full node into a new one: all from entry `from` on. */
static enum pheap_status split_node(struct pht *t, struct pt_node *node, uint32_t width, uint32_t from, uint64_t *right)
{
    enum pheap_status status = new_node(t, node->level, PT_NODE_WORDS, right);
    if (status != PHEAP_OK)
        return status;
    struct pt_node *made = (struct pt_node *)(void *)(t->base + *right);
    const uint32_t words = entry_words(node->level, width);
    made->used = node->used - from;
    memcpy(made->words, node->words + from * words, made->used * words * sizeof(uint64_t));
    node->used = from;
    return PHEAP_OK;
}

/*
 * Put an item or entry into a node.  If the node is full it is split, and *right becomes its new neighbour, else 0.  What
 * comes at the end goes into an empty neighbour, so that ascending insertions leave full nodes behind.
 */
static enum pheap_status put_entry(struct pht *t, uint64_t offset, uint32_t level, uint32_t width, uint32_t entry,
                                   const uint64_t *item, uint64_t *right)
{
    struct pt_node *node;
    enum pheap_status status = edit_node(t, offset, level, width, &node);
    *right = 0;
    if (status != PHEAP_OK)
        return status;
    if (entry > node->used)
        return pt_corrupt(t, offset, "a node of a tree changed while it was used");
    if (node->used == entries_max(node, width)) {
        const uint32_t from = entry == node->used ? node->used : node->used / 2;
        status = split_node(t, node, width, from, right);
        if (status != PHEAP_OK)
            return status;
        if (entry > from || from == entry) {
            node = (struct pt_node *)(void *)(t->base + *right);
            entry -= from;
        }
    }
    const uint32_t words = entry_words(level, width);
    uint64_t *at = node->words + entry * words;
    memmove(at + words, at, (node->used - entry) * words * sizeof(uint64_t));
    memcpy(at, item, words * sizeof(uint64_t));
    node->used++;
    return PHEAP_OK;
}

/* The entry of a child as it is now. */
static void describe(struct pht *t, uint64_t child, uint32_t width, uint64_t entry[3])
{
    const struct pt_node *node = (const struct pt_node *)(const void *)(t->base + child);
    entry[0] = child;
    entry[1] = count_below(node, width);
    if (width == 2)
        entry[2] = first_key(node);
}

/* A new top above the old one and its new neighbour. */
static enum pheap_status raise_top(struct pht *t, struct pt_tree *tree, uint32_t width, uint64_t right)
{
    uint64_t top;
    if (tree->level >= PT_LEVELS_MAX)
        return pt_failed(t, pheap_fail_with(PHEAP_FULL, "a tree cannot be higher"));
    if (pt_node_at(t, tree->top, tree->level, width) == NULL)
        return PHEAP_CORRUPT;
    enum pheap_status status = new_node(t, tree->level + 1, PT_NODE_WORDS, &top);
    if (status != PHEAP_OK)
        return status;
    struct pt_node *node = (struct pt_node *)(void *)(t->base + top);
    describe(t, tree->top, width, entry_of(node, width, 0));
    describe(t, right, width, entry_of(node, width, 1));
    node->used = 2;
    tree->top = top;
    tree->level++;
    return PHEAP_OK;
}

/*
 * Level `from` of the path has new content, and a new neighbour `right` unless that is 0: bring what is above up to date.
 * `added` is by how much the items below became more.
 */
static enum pheap_status go_up(struct pht *t, struct pt_tree *tree, uint32_t width, const struct path *path,
                               uint32_t from, uint64_t right, uint64_t added)
{
    for (uint32_t level = from + 1; level <= tree->level; level++) {
        uint64_t entry[3], *below;
        const struct step *step = &path->steps[level];
        enum pheap_status status = edit_entry(t, step->node, level, width, step->entry, &below);
        if (status != PHEAP_OK)
            return status;
        if (right == 0) {
            below[1] += added;
            if (width == 2)
                below[2] = first_key((const struct pt_node *)(const void *)(t->base + path->steps[level - 1].node));
            continue;
        }
        describe(t, path->steps[level - 1].node, width, below);
        describe(t, right, width, entry);
        status = put_entry(t, step->node, level, width, step->entry + 1, entry, &right);
        if (status != PHEAP_OK)
            return status;
    }
    return right == 0 ? PHEAP_OK : raise_top(t, tree, width, right);
}

enum pheap_status pt_tree_insert(struct pht *t, uint64_t tree, uint32_t width, uint64_t index, const uint64_t *item)
{
    struct path path;
    struct pt_tree *head;
    uint64_t right;
    enum pheap_status status = pt_edit(t, tree, sizeof *head, &head);
    if (status != PHEAP_OK)
        return status;
    if (!pt_tree_sound(t, tree, head))
        return PHEAP_CORRUPT;
    if (head->top == 0) {
        head->level = 0;
        status = pt_leaf_new(t, pt_leaf_next(0) * width, &head->top);
    }
    if (status == PHEAP_OK)
        status = descend(t, head, width, index, true, &path);
    if (status != PHEAP_OK)
        return status;
    const struct pt_node *leaf = (const struct pt_node *)(const void *)(t->base + path.steps[0].node);
    if (head->level == 0 && leaf->used == entries_max(leaf, width) && leaf->capacity < PT_NODE_WORDS) {
        status = pt_leaf_resize(t, &head->top, pt_leaf_next(leaf->capacity));
        path.steps[0].node = head->top;
    }
    if (status == PHEAP_OK)
        status = put_entry(t, path.steps[0].node, 0, width, path.steps[0].entry, item, &right);
    if (status == PHEAP_OK)
        status = go_up(t, head, width, &path, 0, right, 1);
    head->count++;
    return status;
}

enum pheap_status pt_tree_append_leaf(struct pht *t, uint64_t tree, uint64_t leaf)
{
    struct path path;
    struct pt_tree *head;
    uint64_t entry[3], right;
    enum pheap_status status = pt_edit(t, tree, sizeof *head, &head);
    const struct pt_node *node = pt_node_at(t, leaf, 0, 1);
    if (status != PHEAP_OK || node == NULL || !pt_tree_sound(t, tree, head))
        return status == PHEAP_OK ? PHEAP_CORRUPT : status;
    const uint64_t added = node->used;
    if (head->top == 0) {
        head->top = leaf;
        head->level = 0;
    } else if (head->level == 0) {
        status = raise_top(t, head, 1, leaf);
    } else {
        status = descend(t, head, 1, head->count, true, &path);
        if (status != PHEAP_OK)
            return status;
        describe(t, leaf, 1, entry);
        const struct pt_node *above = pt_node_at(t, path.steps[1].node, 1, 1);
        if (above == NULL)
            return PHEAP_CORRUPT;
        status = put_entry(t, path.steps[1].node, 1, 1, above->used, entry, &right);
        if (status == PHEAP_OK)
            status = go_up(t, head, 1, &path, 1, right, added);
    }
    head->count += added;
    return status;
}

/* ---------------------------------------------------------------------------------------------------------- removing */

/* Take an entry out of a node. */
static enum pheap_status cut_entries(struct pht *t, uint64_t offset, uint32_t level, uint32_t width, uint32_t entry)
{
    struct pt_node *node;
    enum pheap_status status = edit_node(t, offset, level, width, &node);
    if (status != PHEAP_OK)
        return status;
    if (entry >= node->used)
        return pt_corrupt(t, offset, "a node of a tree changed while it was used");
    const uint32_t words = entry_words(level, width);
    uint64_t *at = node->words + entry * words;
    memmove(at, at + words, (node->used - entry - 1) * words * sizeof(uint64_t));
    node->used--;
    return PHEAP_OK;
}

/* Where a node ends. */
static uint64_t end_of(uint64_t offset, const struct pt_node *node)
{
    return offset + sizeof *node + node->capacity * sizeof(uint64_t);
}

/* Put what is in the child at entry + 1 of a node into the one at `entry`, if both together leave a quarter free. */
static enum pheap_status join(struct pht *t, uint64_t above, uint32_t level, uint32_t width, uint32_t entry,
                              bool *joined)
{
    struct pt_node *node, *left;
    enum pheap_status status = edit_node(t, above, level, width, &node);
    *joined = false;
    if (status != PHEAP_OK)
        return status;
    if (entry + 1 >= node->used)
        return PHEAP_OK;
    const uint64_t at = entry_of(node, width, entry)[0], next = entry_of(node, width, entry + 1)[0];
    const struct pt_node *right = pt_node_at(t, next, level - 1, width);
    const struct pt_node *there = right == NULL ? NULL : pt_node_at(t, at, level - 1, width);
    if (there == NULL)
        return PHEAP_CORRUPT;
    if (at < end_of(next, right) && next < end_of(at, there))
        return pt_corrupt(t, at, "a node of a tree that is there twice, or lies in another one");
    const uint32_t words = entry_words(level - 1, width), most = entries_max(there, width), moved = right->used;
    if (there->used + moved > most - most / 4)
        return PHEAP_OK;
    status = edit_node(t, at, level - 1, width, &left);
    if (status != PHEAP_OK)
        return status;
    memcpy(left->words + left->used * words, right->words, moved * words * sizeof(uint64_t));
    left->used += moved;
    describe(t, at, width, entry_of(node, width, entry));
    status = pt_free(t, next);
    if (status == PHEAP_OK)
        status = cut_entries(t, above, level, width, entry + 1);
    *joined = status == PHEAP_OK;
    return status;
}

/* A top with a single entry is not needed, nor one that is empty. */
static enum pheap_status lower_top(struct pht *t, struct pt_tree *tree, uint32_t width)
{
    for (;;) {
        const struct pt_node *top = pt_node_at(t, tree->top, tree->level, width);
        if (top == NULL)
            return PHEAP_CORRUPT;
        if (top->used > 1 || (top->used == 1 && tree->level == 0))
            return PHEAP_OK;
        const uint64_t below = top->used == 1 ? top->words[0] : 0;
        enum pheap_status status = pt_free(t, tree->top);
        if (status != PHEAP_OK)
            return status;
        tree->top = below;
        tree->level = below == 0 ? 0 : tree->level - 1;
        if (below == 0)
            return PHEAP_OK;
    }
}

/* The child at level `level - 1` of the path has `removed` items less: bring what is above up to date. */
static enum pheap_status shrink_up(struct pht *t, struct pt_tree *tree, uint32_t width, const struct path *path,
                                   uint32_t level, uint64_t removed)
{
    bool joined;
    for (; level <= tree->level; level++) {
        uint64_t *entry;
        const struct step *step = &path->steps[level];
        enum pheap_status status = edit_entry(t, step->node, level, width, step->entry, &entry);
        if (status != PHEAP_OK)
            return status;
        const uint64_t child = path->steps[level - 1].node;
        const struct pt_node *below = pt_node_at(t, child, level - 1, width);
        if (below == NULL)
            return PHEAP_CORRUPT;
        if (below->used == 0) {
            status = pt_free(t, child);
            if (status == PHEAP_OK)
                status = cut_entries(t, step->node, level, width, step->entry);
        } else {
            entry[1] -= removed;
            if (width == 2)
                entry[2] = first_key(below);
            joined = true;
            if (below->used < entries_max(below, width) / 4) {
                status = join(t, step->node, level, width, step->entry, &joined);
                if (status == PHEAP_OK && !joined && step->entry > 0)
                    status = join(t, step->node, level, width, step->entry - 1, &joined);
            }
        }
        if (status != PHEAP_OK)
            return status;
    }
    return PHEAP_OK;
}

/* A small tree gives back what its only leaf does not need. */
static enum pheap_status shrink_leaf(struct pht *t, struct pt_tree *tree, uint32_t width)
{
    if (tree->top == 0 || tree->level != 0)
        return PHEAP_OK;
    const struct pt_node *leaf = pt_node_at(t, tree->top, 0, width);
    if (leaf == NULL)
        return PHEAP_CORRUPT;
    const uint32_t half = leaf->capacity / 2 / width * width;
    return leaf->capacity <= 4 * width || leaf->used * width > leaf->capacity / 4 ? PHEAP_OK
                                                                                  : pt_leaf_resize(t, &tree->top, half);
}

enum pheap_status pt_tree_remove(struct pht *t, uint64_t tree, uint32_t width, uint64_t index, uint64_t *item)
{
    struct path path;
    struct pt_tree *head;
    enum pheap_status status = pt_edit(t, tree, sizeof *head, &head);
    if (status != PHEAP_OK)
        return status;
    if (!pt_tree_sound(t, tree, head))
        return PHEAP_CORRUPT;
    status = descend(t, head, width, index, false, &path);
    if (status != PHEAP_OK)
        return status;
    const struct step *step = &path.steps[0];
    memcpy(item, t->base + step->node + sizeof(struct pt_node) + step->entry * width * sizeof(uint64_t),
           width * sizeof(uint64_t));
    head->count--;
    status = cut_entries(t, step->node, 0, width, step->entry);
    if (status == PHEAP_OK)
        status = shrink_up(t, head, width, &path, 1, 1);
    if (status == PHEAP_OK)
        status = lower_top(t, head, width);
    return status == PHEAP_OK ? shrink_leaf(t, head, width) : status;
}

enum pheap_status pt_tree_take_leaf(struct pht *t, uint64_t tree, uint64_t *leaf)
{
    struct path path;
    struct pt_tree *head;
    enum pheap_status status = pt_edit(t, tree, sizeof *head, &head);
    if (status != PHEAP_OK)
        return status;
    if (!pt_tree_sound(t, tree, head))
        return PHEAP_CORRUPT;
    status = descend(t, head, 1, head->count, true, &path);
    if (status != PHEAP_OK)
        return status;
    const struct pt_node *last = pt_node_at(t, path.steps[0].node, 0, 1);
    if (last == NULL)
        return PHEAP_CORRUPT;
    const uint64_t removed = last->used;
    *leaf = path.steps[0].node;
    head->count -= removed;
    if (head->level == 0) {
        head->top = 0;
        return PHEAP_OK;
    }
    status = cut_entries(t, path.steps[1].node, 1, 1, path.steps[1].entry);
    if (status == PHEAP_OK)
        status = shrink_up(t, head, 1, &path, 2, removed);
    return status == PHEAP_OK ? lower_top(t, head, 1) : status;
}

enum pheap_status pt_tree_dismantle(struct pht *t, uint64_t tree, uint32_t width, uint32_t *budget, bool *done)
{
    const struct pt_tree *head = (const struct pt_tree *)(const void *)(t->base + tree);
    enum pheap_status status = PHEAP_OK;
    while (status == PHEAP_OK && *budget > 0 && head->count > 0) {
        uint64_t item[2];
        status = pt_tree_remove(t, tree, width, head->count - 1, item);
        for (uint32_t i = 0; i < width && status == PHEAP_OK; i++)
            status = pt_drop(t, item[i]);
        *budget -= *budget > width ? width : *budget;
    }
    *done = status == PHEAP_OK && head->count == 0;
    return status;
}

/* --------------------------------------------------------------------------------------------------------- visits */

/* Do two keys ascend? */
static enum pheap_status check_keys(struct pt_visit *visit, pht_value less, pht_value more)
{
    int order;
    struct pt_key x, y;
    enum pheap_status status = pt_key_of(visit->t, less, &x);
    if (status == PHEAP_OK)
        status = pt_key_of(visit->t, more, &y);
    if (status == PHEAP_OK)
        status = pt_key_compare(visit->t, &x, &y, &order);
    return status == PHEAP_OK && order < 0
               ? PHEAP_OK
               : pt_corrupt(visit->t, visit->object, "an ordered map whose keys do not ascend");
}

/* What lies at and below a node; *count and *last are added to, and the key at the end of what was visited so far. */
static enum pheap_status visit_node(struct pt_visit *visit, uint64_t at, uint32_t level, uint32_t width,
                                    uint64_t *count, pht_value *last)
{
    struct pht *t = visit->t;
    const struct pt_node *node = pt_node_at(t, at, level, width);
    if (node == NULL)
        return PHEAP_CORRUPT;
    enum pheap_status status = visit->part(visit, at, sizeof *node + node->capacity * sizeof(uint64_t));
    if (status == PHEAP_OK && node->used == 0)
        status = pt_corrupt(t, at, "a node of a tree without entries");
    const uint32_t words = entry_words(level, width);
    for (uint32_t i = 0; i < node->used && status == PHEAP_OK; i++) {
        const uint64_t *entry = node->words + i * words, before = *count;
        if (level == 0) {
            for (uint32_t w = 0; w < width && status == PHEAP_OK; w++)
                status = visit->word(visit, entry[w]);
            if (status == PHEAP_OK && width == 2 && *last != PHT_ABSENT)
                status = check_keys(visit, *last, entry[0]);
            *last = entry[0];
            ++*count;
            continue;
        }
        status = visit_node(visit, entry[0], level - 1, width, count, last);
        if (status == PHEAP_OK && *count - before != entry[1])
            status = pt_corrupt(t, at, "a node of a tree with a wrong count");
        const struct pt_node *below = status == PHEAP_OK ? pt_node_at(t, entry[0], level - 1, width) : NULL;
        if (below != NULL && width == 2 && first_key(below) != entry[2])
            status = pt_corrupt(t, at, "a node of a tree with a wrong first key");
    }
    return status;
}

enum pheap_status pt_tree_visit(struct pt_visit *visit, const struct pt_tree *tree, uint32_t width)
{
    uint64_t count = 0;
    pht_value last = PHT_ABSENT;
    if (!pt_tree_sound(visit->t, visit->object, tree))
        return PHEAP_CORRUPT;
    enum pheap_status status =
        tree->top == 0 ? PHEAP_OK : visit_node(visit, tree->top, tree->level, width, &count, &last);
    if (status == PHEAP_OK && count != tree->count)
        status = pt_corrupt(visit->t, visit->object, "a tree with a wrong count");
    return status;
}
