/* SPDX-License-Identifier: MIT */
/* A tree that is being built; stage.h describes it. */
#include "stage.h"

#include <string.h>

static int batch_begin(struct stage *stage)
{
    enum pheap_status status = pheap_begin(stage->heap, &stage->txn);
    if (status != PHEAP_OK) {
        stage->txn = NULL;
        return tree_fail_heap(status, "cannot begin a transaction");
    }
    stage->batch_nodes = 0;
    stage->batch_bytes = 0;
    return tree_still_ours(stage->txn, stage->root, stage->serial);
}

static int batch_commit(struct stage *stage, enum pheap_durability how)
{
    if (tree_word_set(stage->txn, TREE_SLOT(stage->document, tree_document, nodes), stage->nodes) != 0)
        return -1;
    enum pheap_status status = pheap_commit(stage->txn, how, NULL);
    stage->txn = NULL;
    if (status != PHEAP_OK)
        return tree_fail_heap(status, "cannot commit");
    stage->commits++;
    return 0;
}

static int string_add(struct stage *stage, const char *bytes, size_t length, uint64_t *offset)
{
    stage->batch_bytes += length;
    return tree_string_new(stage->txn, bytes, length, offset);
}

/* ------------------------------------------------------------------------------------------------ nodes and strings */

int stage_node(struct stage *stage, enum tree_kind kind, const char *name, const char *text, size_t text_length)
{
    uint64_t name_offset = 0;
    uint64_t text_offset = 0;
    uint64_t offset;
    if (tree_node_new(stage->txn, kind, stage->parent, stage->last, &offset) != 0 ||
        (name != NULL && string_add(stage, name, strlen(name), &name_offset) != 0) ||
        (text != NULL && string_add(stage, text, text_length, &text_offset) != 0))
        return -1;
    /* The node was allocated in this transaction, so it needs no declaration. */
    struct tree_node *node = pheap_ptr(stage->txn, offset);
    node->name = name_offset;
    node->text = text_offset;
    stage->last = offset;
    stage->nodes++;
    stage->batch_nodes++;
    return 0;
}

int stage_attributes(struct stage *stage, uint64_t node, const char *const *pairs, size_t count)
{
    uint64_t block;
    if (count == 0)
        return 0;
    uint64_t bytes = sizeof(struct tree_attributes) + count * sizeof(struct tree_attribute);
    stage->batch_bytes += bytes;
    enum pheap_status status = pheap_zalloc(stage->txn, bytes, &block);
    if (status != PHEAP_OK)
        return tree_fail_heap(status, "cannot allocate %zu attributes", count);
    struct tree_attributes *attributes = pheap_ptr(stage->txn, block);
    attributes->count = count;
    for (size_t i = 0; i < count; i++)
        if (string_add(stage, pairs[2 * i], strlen(pairs[2 * i]), &attributes->item[i].name) != 0 ||
            string_add(stage, pairs[2 * i + 1], strlen(pairs[2 * i + 1]), &attributes->item[i].value) != 0)
            return -1;
    return tree_word_set(stage->txn, TREE_SLOT(node, tree_node, attributes), block);
}

int stage_text(struct stage *stage, const char *bytes, size_t length)
{
    uint64_t slot =
        stage->last != 0 ? TREE_SLOT(stage->last, tree_node, tail) : TREE_SLOT(stage->parent, tree_node, text);
    uint64_t present;
    uint64_t offset;
    memcpy(&present, pheap_ptr(stage->txn, slot), sizeof present);
    if (present != 0 || length == 0)
        return 0;
    if (string_add(stage, bytes, length, &offset) != 0)
        return -1;
    return tree_word_set(stage->txn, slot, offset);
}

void stage_descend(struct stage *stage)
{
    stage->parent = stage->last;
    stage->last = 0;
}

void stage_ascend(struct stage *stage)
{
    const struct tree_node *node = pheap_ptr(stage->txn, stage->parent);
    stage->last = stage->parent;
    stage->parent = node->parent;
}

/* --------------------------------------------------------------------------------------------------- transactions */

bool stage_is_due(const struct stage *stage)
{
    return stage->batch_nodes >= stage->batch_max || stage->batch_bytes >= TREE_BATCH_BYTES;
}

int stage_renew(struct stage *stage)
{
    if (batch_commit(stage, PHEAP_LAZY) != 0)
        return -1;
    return batch_begin(stage);
}

/* The document goes under `staging` in the same transaction as its first nodes. */
static int document_make(struct stage *stage)
{
    uint64_t block;
    if (batch_begin(stage) != 0)
        return -1;
    enum pheap_status status = pheap_zalloc(stage->txn, sizeof(struct tree_document), &block);
    if (status != PHEAP_OK)
        return tree_fail_heap(status, "cannot allocate the document");
    struct tree_document *document = pheap_ptr(stage->txn, block);
    document->node.kind = TREE_DOCUMENT;
    stage->document = stage->parent = block;
    return tree_word_set(stage->txn, TREE_SLOT(stage->root, tree_root, staging), block);
}

int stage_begin(struct stage *stage, pheap *heap)
{
    *stage = (struct stage){.heap = heap, .batch_max = TREE_BATCH};
    if (tree_take_over(heap, &stage->root, &stage->serial) != 0 ||
        tree_release(heap, stage->root, TREE_SLOT(stage->root, tree_root, trash), stage->serial) != 0 ||
        tree_release(heap, stage->root, TREE_SLOT(stage->root, tree_root, staging), stage->serial) != 0)
        return -1;
    int result = document_make(stage);
    if (result != 0)
        stage_drop(stage);
    return result;
}

int stage_finish(struct stage *stage)
{
    uint64_t root = stage->root;
    const struct tree_root *now = pheap_ptr(stage->txn, root);
    enum pheap_status status = pheap_free(stage->txn, now->writer);
    if (status != PHEAP_OK)
        return tree_fail_heap(status, "cannot free the writer's block");
    if (tree_word_set(stage->txn, TREE_SLOT(root, tree_root, writer), 0) != 0 ||
        tree_word_set(stage->txn, TREE_SLOT(root, tree_root, trash), now->current) != 0 ||
        tree_word_set(stage->txn, TREE_SLOT(root, tree_root, current), stage->document) != 0 ||
        tree_word_set(stage->txn, TREE_SLOT(root, tree_root, staging), 0) != 0 ||
        batch_commit(stage, PHEAP_DURABLE) != 0)
        return -1;
    return tree_release(stage->heap, root, TREE_SLOT(root, tree_root, trash), stage->serial);
}

void stage_drop(struct stage *stage)
{
    if (stage->txn != NULL)
        pheap_abort(stage->txn);
    stage->txn = NULL;
    /* If this fails too, it has said so, and the next import frees what is left. */
    (void)tree_release(stage->heap, stage->root, TREE_SLOT(stage->root, tree_root, staging), stage->serial);
}
