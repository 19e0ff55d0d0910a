/* SPDX-License-Identifier: MIT */
/*
 * A writer to be killed, and the check of what it left.
 *
 * Change number k stores k in the writer's block and replaces the texts of up to TREE_PLACES elements, spread over the
 * tree, by texts that name k: all of that in one transaction.  The texts differ in length from change to change, so
 * each change allocates and frees.  Whatever the moment of death, all places must name one k, and it must be a change
 * that was acknowledged, or the one after it.
 */
#define _POSIX_C_SOURCE 200809L
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "commands.h"

#define TEXT_BYTES_MAX 128

/* The text of one place after change `sequence`. */
static size_t place_text(uint64_t sequence, uint64_t place, char text[TEXT_BYTES_MAX])
{
    int length = snprintf(text, TEXT_BYTES_MAX, "change %llu of place %llu ", (unsigned long long)sequence,
                          (unsigned long long)place);
    size_t padding = (size_t)((sequence * 7 + place * 13) % 61);
    memset(text + length, '.', padding);
    return (size_t)length + padding;
}

/* Choose elements without children, spread evenly over the tree; if `texts`, only such as have a text. */
static int places_choose(const struct tree_view *view, bool texts, struct tree_writer *writer)
{
    uint64_t top;
    const struct tree_document *document;
    struct tree_walk walk;
    int result;
    if (tree_document_find(view, &top, &document) != 0)
        return -1;
    tree_walk_begin(&walk, view, top, document->nodes);
    while ((result = tree_walk_next(&walk)) == 0 && walk.event != TREE_END && writer->count < TREE_PLACES) {
        bool due = walk.entered > writer->count * (document->nodes / TREE_PLACES);
        if (walk.event == TREE_ENTER && due && walk.node->kind == TREE_ELEMENT && walk.node->first == 0 &&
            (walk.node->text != 0 || !texts))
            writer->place[writer->count++] = walk.offset;
    }
    return result;
}

/* Find the writer's block, making it the first time. */
static int writer_find(const struct tree_view *view, uint64_t *block)
{
    uint64_t root_offset;
    uint64_t top;
    const struct tree_root *root;
    const struct tree_document *document;
    struct tree_writer fresh = {.count = 0};
    if (tree_document_find(view, &top, &document) != 0 || tree_root_find(view, &root_offset, &root) != 0)
        return -1;
    *block = root->writer;
    if (*block != 0)
        return 0;
    if (places_choose(view, true, &fresh) != 0 || (fresh.count == 0 && places_choose(view, false, &fresh) != 0))
        return -1;
    enum pheap_status status = pheap_alloc(view->txn, sizeof fresh, block);
    if (status != PHEAP_OK)
        return tree_fail_heap(status, "cannot allocate the writer's block");
    memcpy(pheap_ptr(view->txn, *block), &fresh, sizeof fresh);
    return tree_word_set(view->txn, TREE_SLOT(root_offset, tree_root, writer), *block);
}

/* Inside a transaction: make the next change. */
static int change_make(const struct tree_view *view, uint64_t *sequence)
{
    uint64_t block;
    const struct tree_writer *writer;
    const struct tree_node *node;
    char text[TEXT_BYTES_MAX];
    if (writer_find(view, &block) != 0 || tree_writer_get(view, block, &writer) != 0)
        return -1;
    uint64_t next = writer->sequence + 1;
    for (uint64_t i = 0; i < writer->count; i++) {
        size_t length = place_text(next, i, text);
        if (tree_node_get(view, writer->place[i], &node) != 0 ||
            tree_string_replace(view->txn, TREE_SLOT(writer->place[i], tree_node, text), text, length) != 0)
            return -1;
    }
    *sequence = next;
    return tree_word_set(view->txn, TREE_SLOT(block, tree_writer, sequence), next);
}

/* One line, in one call of the operating system, so that a kill leaves no half number. */
static int acknowledge(uint64_t sequence)
{
    char line[32];
    int length = snprintf(line, sizeof line, "%llu\n", (unsigned long long)sequence);
    if (write(STDOUT_FILENO, line, (size_t)length) != length)
        return tree_fail("cannot write to standard output: %s", strerror(errno));
    return 0;
}

/* What is in the heap already counts as acknowledged. */
static int present_acknowledge(pheap *heap)
{
    struct tree_view view;
    uint64_t block;
    uint64_t sequence = 0;
    const struct tree_writer *writer;
    if (write_begin(heap, &view) != 0)
        return -1;
    int result = writer_find(&view, &block);
    if (result == 0)
        result = tree_writer_get(&view, block, &writer);
    if (result == 0)
        sequence = writer->sequence;
    result = write_end(&view, result, PHEAP_DURABLE);
    return result == 0 ? acknowledge(sequence) : result;
}

int writer_run(const char *path, bool lazy)
{
    pheap *heap;
    struct tree_view view;
    uint64_t sequence = 0;
    if (heap_open(path, &heap) != 0)
        return -1;
    int result = present_acknowledge(heap);
    while (result == 0) {
        result = write_begin(heap, &view);
        if (result == 0)
            result = write_end(&view, change_make(&view, &sequence), lazy ? PHEAP_LAZY : PHEAP_DURABLE);
        if (result == 0)
            result = acknowledge(sequence);
    }
    return heap_close(path, heap, result);
}

/* ---------------------------------------------------------------------------------------------------------- verify */

static int place_verify(const struct tree_view *view, uint64_t sequence, uint64_t place, uint64_t offset)
{
    const struct tree_node *node;
    const char *bytes;
    uint64_t length;
    char expected[TEXT_BYTES_MAX];
    size_t expected_length = place_text(sequence, place, expected);
    if (tree_node_get(view, offset, &node) != 0 || tree_string_get(view, node->text, &bytes, &length) != 0)
        return -1;
    if (length == expected_length && memcmp(bytes, expected, expected_length) == 0)
        return 0;
    return tree_fail("place %llu should have the text of change %llu, and has: %.*s", (unsigned long long)place,
                     (unsigned long long)sequence, (int)(length < TEXT_BYTES_MAX ? length : TEXT_BYTES_MAX), bytes);
}

/* The whole tree hangs together, and has as many nodes as it counts. */
static int links_verify(const struct tree_view *view)
{
    uint64_t top;
    const struct tree_document *document;
    struct tree_walk walk;
    int result;
    if (tree_document_find(view, &top, &document) != 0)
        return -1;
    tree_walk_begin(&walk, view, top, document->nodes);
    while ((result = tree_walk_next(&walk)) == 0 && walk.event != TREE_END)
        ;
    if (result == 0 && walk.entered != document->nodes + 1)
        return tree_fail("the tree should have %llu nodes, and has %llu", (unsigned long long)document->nodes,
                         (unsigned long long)walk.entered - 1);
    return result;
}

static int snapshot_verify(const struct tree_view *view, uint64_t first, uint64_t last)
{
    uint64_t root_offset;
    const struct tree_root *root;
    const struct tree_writer *writer = NULL;
    if (links_verify(view) != 0 || tree_root_find(view, &root_offset, &root) != 0)
        return -1;
    if (root->writer != 0 && tree_writer_get(view, root->writer, &writer) != 0)
        return -1;
    uint64_t sequence = writer != NULL ? writer->sequence : 0;
    for (uint64_t i = 0; sequence != 0 && i < writer->count; i++)
        if (place_verify(view, sequence, i, writer->place[i]) != 0)
            return -1;
    if (sequence < first)
        return tree_fail("change %llu was acknowledged, and the heap has only those up to %llu",
                         (unsigned long long)first, (unsigned long long)sequence);
    if (sequence > last)
        return tree_fail("change %llu is in the heap, and no change after %llu was begun", (unsigned long long)sequence,
                         (unsigned long long)last);
    printf("%llu\n", (unsigned long long)sequence);
    return 0;
}

int verify_run(const char *path, uint64_t first, uint64_t last)
{
    pheap *heap;
    struct tree_view view;
    if (heap_open_to_read(path, &heap) != 0)
        return -1;
    int result = snapshot_begin(heap, &view);
    if (result == 0) {
        result = snapshot_verify(&view, first, last);
        pheap_read_end(view.read);
    }
    return heap_close(path, heap, result);
}
