/* SPDX-License-Identifier: MIT */
/*
 * Path expressions, a small part of XPath:
 *
 *     /a/b            children by name, from the document down; a leading / may be left out, then it starts at the
 *                     children of the root element
 *     //b             at any depth
 *     *               any element
 *     b[2]            the second b of its parent, counted from 1
 *     b[@x]  b[@x='v']  b[text()='v']      predicates, which may follow one another
 *     .../@x          an attribute; last step only
 *     .../text()      texts, of which text()[2] is the second of its parent; last step only
 *
 * Names are compared as written, prefix and all.
 */
#ifndef ELEMENTTREE_PATH_H
#define ELEMENTTREE_PATH_H

#include <stddef.h>
#include <stdint.h>

#include "tree.h"

#define PATH_STEPS_MAX 32
#define PATH_PREDICATES_MAX 32

enum path_test { PATH_NAME, PATH_ANY, PATH_ATTRIBUTE, PATH_TEXT };
enum path_predicate_kind { PATH_POSITION, PATH_HAS_ATTRIBUTE, PATH_ATTRIBUTE_IS, PATH_TEXT_IS };

/* A piece of the expression. */
struct path_word {
    const char *bytes;
    size_t length;
};

struct path_predicate {
    enum path_predicate_kind kind;
    uint64_t number;
    unsigned counter; /* which of the counters of a parent this position uses */
    struct path_word name;
    struct path_word value;
};

struct path_step {
    enum path_test test;
    bool descendant; /* written with // */
    struct path_word name;
    unsigned first; /* predicates [first, end) */
    unsigned end;
};

/* A parsed expression; it points into the text that it was parsed from. */
struct path {
    const char *text;
    unsigned steps;
    unsigned predicates;
    unsigned counters;
    struct path_step step[PATH_STEPS_MAX];
    struct path_predicate predicate[PATH_PREDICATES_MAX];
};

/* What a path led to. */
struct path_match {
    enum path_test test;   /* PATH_NAME for an element, PATH_ATTRIBUTE or PATH_TEXT */
    uint64_t node;         /* the element, or that to which the attribute or text belongs */
    uint64_t slot;         /* where the offset of the string stands; for an element that of its text */
    uint64_t string;       /* that offset */
    const char *attribute; /* the name of the attribute, not terminated */
    uint64_t attribute_length;
};

/* Parse `text`; on failure print what is wrong and where. */
int path_parse(const char *text, struct path *path);

/*
 * Call `found` for each match in document order.  It returns 0 to go on, 1 to stop, -1 on failure.  Subtrees and
 * siblings that cannot match are not visited.
 */
int path_find(const struct tree_view *view, const struct path *path,
              int (*found)(void *context, const struct path_match *match), void *context);

#endif
