/* SPDX-License-Identifier: MIT */
/*
 * From the heap to XML text: one walk, start tags on the way in, end tags and tails on the way out.
 *
 * The canonical form of what is written is that of what was imported.  What a parser would change on reading is
 * written as a character reference: carriage returns everywhere, tabs and newlines in attributes.
 */
#define _POSIX_C_SOURCE 200809L
#include "export.h"

#include <string.h>

#include "progress.h"

static const char *escape_of(unsigned char byte, bool attribute)
{
    switch (byte) {
    case '&':
        return "&amp;";
    case '<':
        return "&lt;";
    case '>':
        return "&gt;";
    case '"':
        return attribute ? "&quot;" : NULL;
    case '\t':
        return attribute ? "&#9;" : NULL;
    case '\n':
        return attribute ? "&#10;" : NULL;
    case '\r':
        return "&#13;";
    default:
        return NULL;
    }
}

static void escaped_write(const char *bytes, uint64_t length, bool attribute, FILE *output)
{
    uint64_t written = 0;
    for (uint64_t i = 0; i < length; i++) {
        const char *escape = escape_of((unsigned char)bytes[i], attribute);
        if (escape == NULL)
            continue;
        fwrite(bytes + written, 1, i - written, output);
        fputs(escape, output);
        written = i + 1;
    }
    fwrite(bytes + written, 1, length - written, output);
}

/* Write the string at `offset` as it is. */
static int plain_put(const struct tree_view *view, uint64_t offset, FILE *output)
{
    const char *bytes;
    uint64_t length;
    if (tree_string_get(view, offset, &bytes, &length) != 0)
        return -1;
    fwrite(bytes, 1, length, output);
    return 0;
}

static int escaped_put(const struct tree_view *view, uint64_t offset, bool attribute, FILE *output)
{
    const char *bytes;
    uint64_t length;
    if (tree_string_get(view, offset, &bytes, &length) != 0)
        return -1;
    escaped_write(bytes, length, attribute, output);
    return 0;
}

static int attributes_put(const struct tree_view *view, uint64_t offset, FILE *output)
{
    const struct tree_attributes *attributes;
    if (tree_attributes_get(view, offset, &attributes) != 0)
        return -1;
    for (uint64_t i = 0; attributes != NULL && i < attributes->count; i++) {
        fputc(' ', output);
        if (plain_put(view, attributes->item[i].name, output) != 0)
            return -1;
        fputs("=\"", output);
        if (escaped_put(view, attributes->item[i].value, true, output) != 0)
            return -1;
        fputc('"', output);
    }
    return 0;
}

static bool is_empty(const struct tree_node *node)
{
    return node->text == 0 && node->first == 0;
}

/* The XML declaration.  Its attributes are the version and, where it was given, `standalone`. */
static int declaration_put(const struct tree_view *view, const struct tree_node *node, FILE *output)
{
    const struct tree_attributes *attributes;
    if (tree_attributes_get(view, node->attributes, &attributes) != 0)
        return -1;
    if (attributes == NULL || attributes->count == 0)
        return 0;
    fputs("<?xml version=\"", output);
    if (escaped_put(view, attributes->item[0].value, true, output) != 0)
        return -1;
    fputs("\" encoding=\"UTF-8\"", output);
    if (attributes->count > 1) {
        fputs(" standalone=\"", output);
        if (escaped_put(view, attributes->item[1].value, true, output) != 0)
            return -1;
        fputc('"', output);
    }
    fputs("?>\n", output);
    return 0;
}

static int instruction_put(const struct tree_view *view, const struct tree_node *node, FILE *output)
{
    fputs("<?", output);
    if (plain_put(view, node->name, output) != 0)
        return -1;
    if (node->text != 0)
        fputc(' ', output);
    if (plain_put(view, node->text, output) != 0)
        return -1;
    fputs("?>", output);
    return 0;
}

/* Write `before`, a string as it is, and `after`. */
static int framed_put(const struct tree_view *view, const char *before, uint64_t string, const char *after,
                      FILE *output)
{
    fputs(before, output);
    if (plain_put(view, string, output) != 0)
        return -1;
    fputs(after, output);
    return 0;
}

static int enter_put(const struct tree_view *view, const struct tree_node *node, FILE *output)
{
    switch ((enum tree_kind)node->kind) {
    case TREE_DOCUMENT:
        return declaration_put(view, node, output);
    case TREE_ELEMENT:
        if (framed_put(view, "<", node->name, "", output) != 0 || attributes_put(view, node->attributes, output) != 0)
            return -1;
        fputs(is_empty(node) ? "/>" : ">", output);
        return escaped_put(view, node->text, false, output);
    case TREE_COMMENT:
        return framed_put(view, "<!--", node->text, "-->", output);
    case TREE_INSTRUCTION:
        return instruction_put(view, node, output);
    case TREE_ENTITY:
        return framed_put(view, "&", node->name, ";", output);
    case TREE_DOCTYPE:
        return plain_put(view, node->text, output);
    }
    return 0;
}

static int leave_put(const struct tree_walk *walk, FILE *output)
{
    const struct tree_node *node = walk->node;
    if (node->kind == TREE_ELEMENT && !is_empty(node) && framed_put(walk->view, "</", node->name, ">", output) != 0)
        return -1;
    if (walk->offset == walk->top)
        return 0;
    if (node->parent == walk->top) {
        const struct tree_node *top;
        if (tree_node_get(walk->view, walk->top, &top) != 0)
            return -1;
        if (top->kind == TREE_DOCUMENT)
            fputc('\n', output);
    }
    return escaped_put(walk->view, node->tail, false, output);
}

int export_node(const struct tree_view *view, uint64_t top, uint64_t nodes_max, FILE *output)
{
    struct tree_walk walk;
    struct progress progress;
    int result;
    progress_begin(&progress, "exporting");
    tree_walk_begin(&walk, view, top, nodes_max);
    while ((result = tree_walk_next(&walk)) == 0 && walk.event != TREE_END && ferror(output) == 0) {
        result = walk.event == TREE_ENTER ? enter_put(view, walk.node, output) : leave_put(&walk, output);
        if (result != 0)
            break;
        if (walk.entered % 4096 == 0)
            progress_step(&progress, walk.entered, nodes_max, "nodes");
    }
    progress_end(&progress);
    return result;
}
