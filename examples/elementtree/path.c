/* SPDX-License-Identifier: MIT */
/*
 * Path expressions over the tree.
 *
 * The expression runs as an automaton along one walk.  Each node on the way from the document to the node in hand has
 * a frame: `mask`, whose bit i says that step i may be taken from there; `done`, whose bit i says that a position asked
 * for by step i has been passed, so that no later child can match; and a counter for each position predicate.
 */
#define _POSIX_C_SOURCE 200809L
#include "path.h"

#include <stdlib.h>
#include <string.h>

#include "progress.h"

/* ---------------------------------------------------------------------------------------------------------- parse */

struct parser {
    struct path *path;
    const char *at;
};

static int refuse(const struct parser *parser, const char *what)
{
    return tree_fail("path %s: %s at character %zu", parser->path->text, what,
                     (size_t)(parser->at - parser->path->text) + 1);
}

static bool accept(struct parser *parser, const char *token)
{
    size_t length = strlen(token);
    if (strncmp(parser->at, token, length) != 0)
        return false;
    parser->at += length;
    return true;
}

static int parse_name(struct parser *parser, struct path_word *name)
{
    name->bytes = parser->at;
    name->length = strcspn(parser->at, "/[]()@='\"*, \t\r\n");
    if (name->length == 0)
        return refuse(parser, "a name is missing");
    parser->at += name->length;
    return 0;
}

static int parse_value(struct parser *parser, struct path_word *value)
{
    char quote = *parser->at;
    if (quote != '\'' && quote != '"')
        return refuse(parser, "a value in quotes is missing");
    const char *end = strchr(parser->at + 1, quote);
    if (end == NULL)
        return refuse(parser, "the closing quote of the value is missing");
    *value = (struct path_word){parser->at + 1, (size_t)(end - parser->at) - 1};
    parser->at = end + 1;
    return 0;
}

static int parse_number(struct parser *parser, uint64_t *number)
{
    char *end;
    *number = strtoull(parser->at, &end, 10);
    if (*number == 0 || *number == UINT64_MAX)
        return refuse(parser, "positions count from 1");
    parser->at = end;
    return 0;
}

/* The inside of [...]. */
static int parse_predicate(struct parser *parser, enum path_test test)
{
    struct path *path = parser->path;
    if (path->predicates == PATH_PREDICATES_MAX)
        return refuse(parser, "too many predicates");
    struct path_predicate *predicate = &path->predicate[path->predicates++];
    *predicate = (struct path_predicate){.kind = PATH_POSITION};
    if (*parser->at >= '0' && *parser->at <= '9') {
        predicate->counter = path->counters++;
        if (parse_number(parser, &predicate->number) != 0)
            return -1;
    } else if (test == PATH_TEXT) {
        return refuse(parser, "text() takes a position only");
    } else if (accept(parser, "@")) {
        predicate->kind = PATH_HAS_ATTRIBUTE;
        if (parse_name(parser, &predicate->name) != 0)
            return -1;
        if (accept(parser, "=")) {
            predicate->kind = PATH_ATTRIBUTE_IS;
            if (parse_value(parser, &predicate->value) != 0)
                return -1;
        }
    } else if (accept(parser, "text()=")) {
        predicate->kind = PATH_TEXT_IS;
        if (parse_value(parser, &predicate->value) != 0)
            return -1;
    } else {
        return refuse(parser, "expected a position, @name, @name='value' or text()='value'");
    }
    return accept(parser, "]") ? 0 : refuse(parser, "] is missing");
}

static int parse_step(struct parser *parser)
{
    struct path *path = parser->path;
    if (path->steps == PATH_STEPS_MAX)
        return refuse(parser, "too many steps");
    struct path_step *step = &path->step[path->steps];
    *step = (struct path_step){.first = path->predicates};
    if (accept(parser, "/")) {
        step->descendant = accept(parser, "/");
    } else if (path->steps != 0) {
        return refuse(parser, "/ is missing");
    } else {
        *step = (struct path_step){.test = PATH_ANY};
        path->steps++;
        step++;
        *step = (struct path_step){.first = path->predicates};
    }
    path->steps++;
    if (accept(parser, "text()")) {
        step->test = PATH_TEXT;
    } else if (accept(parser, "@")) {
        step->test = PATH_ATTRIBUTE;
        if (accept(parser, "*"))
            step->name = (struct path_word){"", 0};
        else if (parse_name(parser, &step->name) != 0)
            return -1;
    } else if (accept(parser, "*")) {
        step->test = PATH_ANY;
    } else {
        step->test = PATH_NAME;
        if (parse_name(parser, &step->name) != 0)
            return -1;
    }
    while (step->test != PATH_ATTRIBUTE && accept(parser, "["))
        if (parse_predicate(parser, step->test) != 0)
            return -1;
    step->end = path->predicates;
    if ((step->test == PATH_TEXT || step->test == PATH_ATTRIBUTE) && *parser->at != '\0')
        return refuse(parser, "nothing may follow an attribute or text()");
    return 0;
}

int path_parse(const char *text, struct path *path)
{
    struct parser parser = {.path = path, .at = text};
    *path = (struct path){.text = text};
    if (*text == '\0')
        return tree_fail("the path is empty");
    while (*parser.at != '\0')
        if (parse_step(&parser) != 0)
            return -1;
    return 0;
}

/* ------------------------------------------------------------------------------------------------------------ find */

struct frame {
    uint64_t mask;
    uint64_t done;
    uint64_t counter[];
};

struct finder {
    const struct tree_view *view;
    const struct path *path;
    int (*found)(void *context, const struct path_match *match);
    void *context;
    unsigned char *frames;
    size_t frame_bytes;
    uint64_t capacity;
};

static struct frame *frame_at(const struct finder *finder, uint64_t depth)
{
    return (struct frame *)(void *)(finder->frames + depth * finder->frame_bytes);
}

static int frame_make(struct finder *finder, uint64_t depth)
{
    if (depth >= finder->capacity) {
        uint64_t capacity = depth * 2 + 64;
        unsigned char *grown = realloc(finder->frames, capacity * finder->frame_bytes);
        if (grown == NULL)
            return tree_fail("out of memory");
        finder->frames = grown;
        finder->capacity = capacity;
    }
    memset(frame_at(finder, depth), 0, finder->frame_bytes);
    return 0;
}

/* Does the string at `offset` equal `word`?  1 or 0, -1 on failure. */
static int string_is(const struct tree_view *view, uint64_t offset, struct path_word word)
{
    const char *bytes;
    uint64_t length;
    if (tree_string_get(view, offset, &bytes, &length) != 0)
        return -1;
    return length == word.length && memcmp(bytes, word.bytes, word.length) == 0;
}

/* Find an attribute by name: 1 and its slot and value, or 0, or -1. */
static int attribute_find(const struct tree_view *view, const struct tree_node *node, struct path_word name,
                          uint64_t *value)
{
    const struct tree_attributes *attributes;
    if (tree_attributes_get(view, node->attributes, &attributes) != 0)
        return -1;
    for (uint64_t i = 0; attributes != NULL && i < attributes->count; i++) {
        int is = string_is(view, attributes->item[i].name, name);
        if (is != 0) {
            *value = attributes->item[i].value;
            return is;
        }
    }
    return 0;
}

/* Does a position hold for the next candidate below `parent`? */
static bool position_holds(struct frame *parent, unsigned step, const struct path_predicate *predicate)
{
    uint64_t number = ++parent->counter[predicate->counter];
    if (number >= predicate->number)
        parent->done |= UINT64_C(1) << step;
    return number == predicate->number;
}

/* Does `node` pass test and predicates of the step?  1, 0 or -1. */
static int step_holds(struct finder *finder, struct frame *parent, unsigned index, const struct tree_node *node)
{
    const struct path_step *step = &finder->path->step[index];
    int holds = step->test == PATH_ANY    ? 1
                : step->test == PATH_NAME ? string_is(finder->view, node->name, step->name)
                                          : 0;
    for (unsigned i = step->first; i < step->end && holds == 1; i++) {
        const struct path_predicate *predicate = &finder->path->predicate[i];
        uint64_t value = 0;
        switch (predicate->kind) {
        case PATH_POSITION:
            holds = position_holds(parent, index, predicate);
            break;
        case PATH_HAS_ATTRIBUTE:
            holds = attribute_find(finder->view, node, predicate->name, &value);
            break;
        case PATH_ATTRIBUTE_IS:
            holds = attribute_find(finder->view, node, predicate->name, &value);
            if (holds == 1)
                holds = string_is(finder->view, value, predicate->value);
            break;
        case PATH_TEXT_IS:
            holds = string_is(finder->view, node->text, predicate->value);
            break;
        }
    }
    return holds;
}

static int attributes_emit(struct finder *finder, uint64_t offset, const struct tree_node *node,
                           const struct path_step *step)
{
    const struct tree_attributes *attributes;
    if (tree_attributes_get(finder->view, node->attributes, &attributes) != 0)
        return -1;
    for (uint64_t i = 0; attributes != NULL && i < attributes->count; i++) {
        int is = step->name.length == 0 ? 1 : string_is(finder->view, attributes->item[i].name, step->name);
        if (is < 0)
            return -1;
        if (is == 0)
            continue;
        struct path_match match = {.test = PATH_ATTRIBUTE, .node = offset, .string = attributes->item[i].value};
        match.slot = node->attributes + offsetof(struct tree_attributes, item) + i * sizeof(struct tree_attribute) +
                     offsetof(struct tree_attribute, value);
        int result = tree_string_get(finder->view, attributes->item[i].name, &match.attribute, &match.attribute_length);
        if (result == 0)
            result = finder->found(finder->context, &match);
        if (result != 0)
            return result;
    }
    return 0;
}

/* A text that belongs to the element whose frame is `frame`, and whose offset stands at `slot`. */
static int text_emit(struct finder *finder, struct frame *frame, uint64_t node, uint64_t slot, uint64_t string)
{
    unsigned last = finder->path->steps - 1;
    const struct path_step *step = &finder->path->step[last];
    if (string == 0 || step->test != PATH_TEXT || (frame->mask >> last & 1) == 0)
        return 0;
    for (unsigned i = step->first; i < step->end; i++)
        if (!position_holds(frame, last, &finder->path->predicate[i]))
            return 0;
    struct path_match match = {.test = PATH_TEXT, .node = node, .slot = slot, .string = string};
    return finder->found(finder->context, &match);
}

/* Enter an element: which steps can be taken from it, and is it a match itself? */
static int element_enter(struct finder *finder, uint64_t offset, const struct tree_node *node, struct frame *parent,
                         struct frame *frame)
{
    const struct path *path = finder->path;
    unsigned last = path->steps - 1;
    int result;
    for (unsigned i = 0; i < path->steps; i++) {
        if ((parent->mask >> i & 1) == 0)
            continue;
        if (path->step[i].descendant)
            frame->mask |= UINT64_C(1) << i;
        result = step_holds(finder, parent, i, node);
        if (result < 0)
            return -1;
        if (result == 0)
            continue;
        if (i < last) {
            frame->mask |= UINT64_C(1) << (i + 1);
            continue;
        }
        struct path_match match = {
            .test = PATH_NAME, .node = offset, .slot = TREE_SLOT(offset, tree_node, text), .string = node->text};
        result = finder->found(finder->context, &match);
        if (result != 0)
            return result;
    }
    if (path->step[last].test == PATH_ATTRIBUTE && (frame->mask >> last & 1) != 0) {
        result = attributes_emit(finder, offset, node, &path->step[last]);
        if (result != 0)
            return result;
    }
    return text_emit(finder, frame, offset, TREE_SLOT(offset, tree_node, text), node->text);
}

/* Can a child of the node with this frame, or anything below one, still match? */
static bool is_alive(const struct path *path, const struct frame *frame)
{
    for (unsigned i = 0; i < path->steps; i++) {
        if ((frame->mask >> i & 1) == 0)
            continue;
        if (path->step[i].descendant)
            return true;
        if (path->step[i].test != PATH_ATTRIBUTE && (frame->done >> i & 1) == 0)
            return true;
    }
    return false;
}

static int find_step(struct finder *finder, struct tree_walk *walk)
{
    uint64_t depth = walk->depth;
    int result = 0;
    if (walk->event == TREE_LEAVE) {
        if (depth > 1) {
            struct frame *parent = frame_at(finder, depth - 1);
            result = text_emit(finder, parent, walk->node->parent, TREE_SLOT(walk->offset, tree_node, tail),
                               walk->node->tail);
            walk->skip_siblings = !is_alive(finder->path, parent);
        }
        return result;
    }
    if (frame_make(finder, depth) != 0)
        return -1;
    struct frame *frame = frame_at(finder, depth);
    if (depth == 1)
        frame->mask = 1;
    else if (walk->node->kind == TREE_ELEMENT)
        result = element_enter(finder, walk->offset, walk->node, frame_at(finder, depth - 1), frame);
    walk->skip_children = !is_alive(finder->path, frame);
    return result;
}

int path_find(const struct tree_view *view, const struct path *path,
              int (*found)(void *context, const struct path_match *match), void *context)
{
    struct finder finder = {.view = view, .path = path, .found = found, .context = context};
    const struct tree_document *document;
    struct tree_walk walk;
    struct progress progress;
    uint64_t top;
    int result;
    if (tree_document_find(view, &top, &document) != 0)
        return -1;
    finder.frame_bytes = sizeof(struct frame) + path->counters * sizeof(uint64_t);
    progress_begin(&progress, "searching");
    tree_walk_begin(&walk, view, top, document->nodes);
    while ((result = tree_walk_next(&walk)) == 0 && walk.event != TREE_END) {
        result = find_step(&finder, &walk);
        if (result != 0)
            break;
        if (walk.entered % 4096 == 0)
            progress_step(&progress, walk.entered, document->nodes, "nodes");
    }
    progress_end(&progress);
    free(finder.frames);
    return result < 0 ? -1 : 0;
}
