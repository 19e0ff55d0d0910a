/* SPDX-License-Identifier: MIT */
/* The persistent element tree; tree.h describes it. */
#define _POSIX_C_SOURCE 200809L
#include "tree.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "progress.h"

/* ------------------------------------------------------------------------------------------------------- messages */

int tree_fail(const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    fputs("elementtree: ", stderr);
    vfprintf(stderr, format, arguments);
    fputc('\n', stderr);
    va_end(arguments);
    return -1;
}

int tree_fail_heap(enum pheap_status status, const char *format, ...)
{
    const char *detail = pheap_error_detail();
    va_list arguments;
    va_start(arguments, format);
    fputs("elementtree: ", stderr);
    vfprintf(stderr, format, arguments);
    fprintf(stderr, ": %s%s%s\n", pheap_status_text(status), *detail != '\0' ? ": " : "", detail);
    va_end(arguments);
    return -1;
}

/* ----------------------------------------------------------------------------------------------------- read access */

/* Check that a live block starts at `block` and has at least `length` usable bytes. */
static int block_get(const struct tree_view *view, uint64_t block, uint64_t length, const char *what,
                     const void **address, uint64_t *usable)
{
    uint64_t size = 0;
    enum pheap_status status = view->txn != NULL ? pheap_usable_size(view->txn, block, &size)
                                                 : pheap_read_usable_size(view->read, block, &size);
    if (status != PHEAP_OK)
        return tree_fail_heap(status, "the tree is damaged: no %s at offset %llu", what, (unsigned long long)block);
    if (size < length)
        return tree_fail("the tree is damaged: the block at offset %llu is too small for a %s",
                         (unsigned long long)block, what);
    *address = view->txn != NULL ? pheap_ptr(view->txn, block) : pheap_read_ptr(view->read, block);
    *usable = size;
    return 0;
}

int tree_root_find(const struct tree_view *view, uint64_t *offset, const struct tree_root **root)
{
    uint64_t block = view->txn != NULL ? pheap_root(view->txn) : pheap_read_root(view->read);
    const void *address;
    uint64_t usable;
    *offset = block;
    *root = NULL;
    if (block == 0)
        return 0;
    if (block_get(view, block, sizeof(struct tree_root), "root block", &address, &usable) != 0)
        return -1;
    const struct tree_root *found = address;
    if (memcmp(found->magic, TREE_MAGIC, sizeof found->magic) != 0)
        return tree_fail("the heap belongs to another program: its root is not an element tree");
    if (found->format != TREE_FORMAT)
        return tree_fail("the tree has format %u; this program knows format %u", found->format, TREE_FORMAT);
    *root = found;
    return 0;
}

static int document_get(const struct tree_view *view, uint64_t offset, const struct tree_document **document)
{
    const void *address;
    uint64_t usable;
    if (block_get(view, offset, sizeof(struct tree_document), "document", &address, &usable) != 0)
        return -1;
    *document = address;
    if ((*document)->node.kind != TREE_DOCUMENT)
        return tree_fail("the tree is damaged: no document at offset %llu", (unsigned long long)offset);
    return 0;
}

int tree_document_find(const struct tree_view *view, uint64_t *offset, const struct tree_document **document)
{
    uint64_t root_offset;
    const struct tree_root *root;
    if (tree_root_find(view, &root_offset, &root) != 0)
        return -1;
    if (root == NULL || root->current == 0)
        return tree_fail(root != NULL && root->staging != 0
                             ? "the heap holds no tree: an import was interrupted; import again"
                             : "the heap holds no tree: import one first");
    if (document_get(view, root->current, document) != 0)
        return -1;
    *offset = root->current;
    return 0;
}

int tree_node_get(const struct tree_view *view, uint64_t offset, const struct tree_node **node)
{
    const void *address;
    uint64_t usable;
    if (block_get(view, offset, sizeof(struct tree_node), "node", &address, &usable) != 0)
        return -1;
    const struct tree_node *found = address;
    if (found->kind < TREE_DOCUMENT || found->kind > TREE_DOCTYPE)
        return tree_fail("the tree is damaged: the node at offset %llu has kind %u", (unsigned long long)offset,
                         found->kind);
    *node = found;
    return 0;
}

int tree_string_get(const struct tree_view *view, uint64_t offset, const char **bytes, uint64_t *length)
{
    const void *address;
    uint64_t usable;
    *bytes = "";
    *length = 0;
    if (offset == 0)
        return 0;
    if (block_get(view, offset, sizeof(struct tree_string), "string", &address, &usable) != 0)
        return -1;
    const struct tree_string *string = address;
    if (string->length > usable - sizeof *string)
        return tree_fail("the tree is damaged: the string at offset %llu is longer than its block",
                         (unsigned long long)offset);
    *bytes = string->bytes;
    *length = string->length;
    return 0;
}

int tree_attributes_get(const struct tree_view *view, uint64_t offset, const struct tree_attributes **attributes)
{
    const void *address;
    uint64_t usable;
    *attributes = NULL;
    if (offset == 0)
        return 0;
    if (block_get(view, offset, sizeof(struct tree_attributes), "list of attributes", &address, &usable) != 0)
        return -1;
    *attributes = address;
    if ((*attributes)->count > (usable - sizeof(struct tree_attributes)) / sizeof(struct tree_attribute))
        return tree_fail("the tree is damaged: the attributes at offset %llu are more than their block holds",
                         (unsigned long long)offset);
    return 0;
}

int tree_writer_get(const struct tree_view *view, uint64_t offset, const struct tree_writer **writer)
{
    const void *address;
    uint64_t usable;
    if (block_get(view, offset, sizeof(struct tree_writer), "writer's block", &address, &usable) != 0)
        return -1;
    *writer = address;
    if ((*writer)->count > TREE_PLACES)
        return tree_fail("the tree is damaged: the writer's block at offset %llu lists %llu places",
                         (unsigned long long)offset, (unsigned long long)(*writer)->count);
    return 0;
}

/* ------------------------------------------------------------------------------------------------------------ walk */

void tree_walk_begin(struct tree_walk *walk, const struct tree_view *view, uint64_t top, uint64_t limit)
{
    *walk = (struct tree_walk){.view = view, .top = top, .limit = limit};
}

static int walk_enter(struct tree_walk *walk, uint64_t offset)
{
    if (walk->entered > walk->limit)
        return tree_fail("the tree is damaged: it has more nodes than it counts, or its links run in a circle");
    walk->entered++;
    walk->depth++;
    walk->offset = offset;
    walk->event = TREE_ENTER;
    return tree_node_get(walk->view, offset, &walk->node);
}

int tree_walk_next(struct tree_walk *walk)
{
    if (walk->entered == 0)
        return walk_enter(walk, walk->top);
    if (walk->event == TREE_ENTER) {
        if (walk->node->first != 0 && !walk->skip_children)
            return walk_enter(walk, walk->node->first);
        walk->skip_children = false;
        walk->event = TREE_LEAVE;
        return 0;
    }
    walk->depth--;
    if (walk->offset == walk->top) {
        walk->event = TREE_END;
        return 0;
    }
    if (walk->node->next != 0 && !walk->skip_siblings)
        return walk_enter(walk, walk->node->next);
    walk->skip_siblings = false;
    if (walk->depth == 0)
        return tree_fail("the tree is damaged: a parent link at offset %llu is wrong",
                         (unsigned long long)walk->offset);
    walk->offset = walk->node->parent;
    return tree_node_get(walk->view, walk->offset, &walk->node);
}

/* --------------------------------------------------------------------------------------------------------- changes */

int tree_string_new(pheap_txn *txn, const char *bytes, size_t length, uint64_t *offset)
{
    uint64_t block;
    if (length == 0) {
        *offset = 0;
        return 0;
    }
    enum pheap_status status = pheap_alloc(txn, sizeof(struct tree_string) + length, &block);
    if (status != PHEAP_OK)
        return tree_fail_heap(status, "cannot allocate a string of %zu bytes", length);
    struct tree_string *string = pheap_ptr(txn, block);
    string->length = length;
    memcpy(string->bytes, bytes, length);
    *offset = block;
    return 0;
}

int tree_node_new(pheap_txn *txn, enum tree_kind kind, uint64_t parent, uint64_t previous, uint64_t *offset)
{
    uint64_t block;
    enum pheap_status status = pheap_alloc(txn, sizeof(struct tree_node), &block);
    if (status != PHEAP_OK)
        return tree_fail_heap(status, "cannot allocate a node");
    struct tree_node *node = pheap_ptr(txn, block);
    *node = (struct tree_node){.parent = parent, .kind = (uint32_t)kind};
    if (tree_word_set(txn, previous != 0 ? TREE_SLOT(previous, tree_node, next) : TREE_SLOT(parent, tree_node, first),
                      block) != 0)
        return -1;
    *offset = block;
    return 0;
}

int tree_word_set(pheap_txn *txn, uint64_t slot, uint64_t value)
{
    enum pheap_status status = pheap_write(txn, slot, &value, sizeof value);
    if (status != PHEAP_OK)
        return tree_fail_heap(status, "cannot change the word at offset %llu", (unsigned long long)slot);
    return 0;
}

static int block_free(pheap_txn *txn, uint64_t offset)
{
    enum pheap_status status = pheap_free(txn, offset);
    if (status != PHEAP_OK)
        return tree_fail_heap(status, "cannot free the block at offset %llu", (unsigned long long)offset);
    return 0;
}

int tree_string_replace(pheap_txn *txn, uint64_t slot, const char *bytes, size_t length)
{
    uint64_t before;
    uint64_t after;
    memcpy(&before, pheap_ptr(txn, slot), sizeof before);
    if (tree_string_new(txn, bytes, length, &after) != 0 || tree_word_set(txn, slot, after) != 0)
        return -1;
    return block_free(txn, before);
}

int tree_take_over(pheap *heap, uint64_t *root, uint64_t *serial)
{
    pheap_txn *txn;
    const struct tree_root *found;
    uint64_t offset;
    enum pheap_status status = pheap_begin(heap, &txn);
    if (status != PHEAP_OK)
        return tree_fail_heap(status, "cannot begin a transaction");
    struct tree_view view = {.txn = txn};
    if (tree_root_find(&view, &offset, &found) != 0)
        goto failed;
    if (found == NULL) {
        status = pheap_zalloc(txn, sizeof(struct tree_root), &offset);
        if (status == PHEAP_OK) {
            struct tree_root *fresh = pheap_ptr(txn, offset);
            memcpy(fresh->magic, TREE_MAGIC, sizeof fresh->magic);
            fresh->format = TREE_FORMAT;
            found = fresh;
            status = pheap_set_root(txn, offset);
        }
        if (status != PHEAP_OK) {
            tree_fail_heap(status, "cannot make the root block");
            goto failed;
        }
    }
    uint64_t next = found->serial + 1;
    if (tree_word_set(txn, TREE_SLOT(offset, tree_root, serial), next) != 0)
        goto failed;
    status = pheap_commit(txn, PHEAP_LAZY, NULL);
    if (status != PHEAP_OK)
        return tree_fail_heap(status, "cannot commit");
    *root = offset;
    *serial = next;
    return 0;
failed:
    pheap_abort(txn);
    return -1;
}

int tree_still_ours(pheap_txn *txn, uint64_t root, uint64_t serial)
{
    const struct tree_root *now = pheap_ptr(txn, root);
    if (now->serial != serial)
        return tree_fail("another import into this heap has begun; this one gives way");
    return 0;
}

/* -------------------------------------------------------------------------------------------------------- release */

struct release {
    pheap_txn *txn;
    uint64_t slot;
    uint64_t cursor; /* the node to go on with; 0: the document; stays valid from one transaction to the next */
    uint64_t depth;
    uint64_t limit;
    uint64_t freed;
    struct progress progress;
};

/* Free a node that has no children, and all that it owns. */
static int leaf_free(pheap_txn *txn, uint64_t offset, const struct tree_node *node)
{
    struct tree_view view = {.txn = txn};
    const struct tree_attributes *attributes;
    if (tree_attributes_get(&view, node->attributes, &attributes) != 0)
        return -1;
    for (uint64_t i = 0; attributes != NULL && i < attributes->count; i++)
        if (block_free(txn, attributes->item[i].name) != 0 || block_free(txn, attributes->item[i].value) != 0)
            return -1;
    if (block_free(txn, node->attributes) != 0 || block_free(txn, node->name) != 0 ||
        block_free(txn, node->text) != 0 || block_free(txn, node->tail) != 0)
        return -1;
    return block_free(txn, offset);
}

/* Free up to TREE_BATCH nodes, first children first; the cursor becomes 0 when the document itself is gone. */
static int release_batch(struct release *release)
{
    pheap_txn *txn = release->txn;
    struct tree_view view = {.txn = txn};
    for (unsigned count = 0; count < TREE_BATCH;) {
        const struct tree_node *node;
        uint64_t offset = release->cursor;
        if (tree_node_get(&view, offset, &node) != 0)
            return -1;
        if (node->first != 0) {
            const struct tree_node *child;
            if (tree_node_get(&view, node->first, &child) != 0)
                return -1;
            if (child->parent != offset || ++release->depth > release->limit + 1)
                return tree_fail("the tree is damaged: the links at offset %llu disagree", (unsigned long long)offset);
            release->cursor = node->first;
            continue;
        }
        uint64_t parent = node->parent;
        uint64_t next = node->next;
        if (leaf_free(txn, offset, node) != 0)
            return -1;
        release->cursor = parent;
        if (parent == 0)
            return tree_word_set(txn, release->slot, 0);
        if (tree_word_set(txn, TREE_SLOT(parent, tree_node, first), next) != 0)
            return -1;
        release->depth--;
        release->freed++;
        count++;
    }
    return 0;
}

/* One transaction.  *more tells whether there is anything left to do. */
static int release_step(struct release *release, pheap *heap, uint64_t root, uint64_t serial, bool *more)
{
    uint64_t document;
    *more = false;
    enum pheap_status status = pheap_begin(heap, &release->txn);
    if (status != PHEAP_OK)
        return tree_fail_heap(status, "cannot begin a transaction");
    memcpy(&document, pheap_ptr(release->txn, release->slot), sizeof document);
    const struct tree_root *now = pheap_ptr(release->txn, root);
    if (document == 0 || now->serial != serial) {
        pheap_abort(release->txn);
        return 0;
    }
    if (release->cursor == 0) {
        struct tree_view view = {.txn = release->txn};
        const struct tree_document *found;
        if (document_get(&view, document, &found) != 0)
            goto failed;
        release->cursor = document;
        release->limit = found->nodes;
    }
    if (release_batch(release) != 0)
        goto failed;
    *more = release->cursor != 0;
    status = pheap_commit(release->txn, PHEAP_LAZY, NULL);
    if (status != PHEAP_OK)
        return tree_fail_heap(status, "cannot commit");
    return 0;
failed:
    pheap_abort(release->txn);
    return -1;
}

int tree_release(pheap *heap, uint64_t root, uint64_t slot, uint64_t serial)
{
    struct release release = {.slot = slot};
    bool more = true;
    int result = 0;
    progress_begin(&release.progress, "freeing the old tree");
    while (result == 0 && more) {
        result = release_step(&release, heap, root, serial, &more);
        progress_step(&release.progress, release.freed, release.limit, "nodes");
    }
    progress_end(&release.progress);
    return result;
}
