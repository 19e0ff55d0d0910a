/* SPDX-License-Identifier: MIT */
/*
 * The persistent element tree: its layout in the heap, and the few operations that change or walk it.
 *
 * Everything is linked by offsets; 0 means "none".  A heap that holds a tree looks like this:
 *
 *     root block (struct tree_root)
 *       current ──> document ──first──> doctype, comments, the root element ...
 *       staging ──> document of an import that has not finished
 *       trash   ──> document of a tree that is being freed
 *
 * Text follows Python's ElementTree: `text` is what stands between a start tag and the first child, `tail` is what
 * stands between the end of a node and whatever follows it.  So text needs no nodes of its own, order is kept, and
 * replacing a text is: allocate a string, store its offset in the node, free the old string.
 *
 * Invariants.  Each string, each attribute block and each node has exactly one owner, and is freed with it.  The
 * tree under `staging` or `trash` is sound after every commit, so whoever finds one left behind by a dead process
 * frees it (tree_release).  `serial` changes when an import begins; a process that sees it change between two of its
 * transactions lets go, because somebody else now owns `staging` and `trash`.
 *
 * No function here recurses over the tree: its depth is the author's of the XML.  Offsets are checked before they
 * are followed, so a damaged tree ends in a message, not in a crash.
 */
#ifndef ELEMENTTREE_TREE_H
#define ELEMENTTREE_TREE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "pheap/pheap.h"

enum tree_kind {
    TREE_DOCUMENT = 1,    /* struct tree_document; attributes: those of the XML declaration */
    TREE_ELEMENT = 2,     /* name, attributes, text, children */
    TREE_COMMENT = 3,     /* text */
    TREE_INSTRUCTION = 4, /* name: target, text: data */
    TREE_ENTITY = 5,      /* name: of an entity that is kept as a reference, &name; */
    TREE_DOCTYPE = 6      /* text: the whole declaration as written */
};

/* One node: 64 bytes, one cache line. */
struct tree_node {
    uint64_t parent;     /* 0 for the document */
    uint64_t next;       /* next sibling */
    uint64_t first;      /* first child */
    uint64_t attributes; /* struct tree_attributes */
    uint64_t name;       /* struct tree_string, as are text and tail */
    uint64_t text;
    uint64_t tail;
    uint32_t kind; /* enum tree_kind */
    uint32_t zero; /* reserved, 0 */
};

struct tree_document {
    struct tree_node node;
    uint64_t nodes; /* how many nodes the tree has, the document not counted; bounds every walk */
    uint64_t zero;  /* reserved, 0 */
};

struct tree_string {
    uint64_t length; /* bytes of UTF-8 that follow; no terminator; never 0, as an empty string is offset 0 */
    char bytes[];
};

struct tree_attribute {
    uint64_t name;
    uint64_t value; /* 0 is the empty value */
};

struct tree_attributes {
    uint64_t count;
    struct tree_attribute item[];
};

/* Where `elementtree writer` keeps its count and the nodes whose texts repeat it. */
#define TREE_PLACES 8
struct tree_writer {
    uint64_t sequence;
    uint64_t count;
    uint64_t place[TREE_PLACES]; /* elements of the current tree */
};

struct tree_root {
    char magic[8];   /* TREE_MAGIC */
    uint32_t format; /* TREE_FORMAT */
    uint32_t zero;   /* reserved, 0 */
    uint64_t serial;
    uint64_t current;
    uint64_t staging;
    uint64_t trash;
    uint64_t writer; /* struct tree_writer */
    uint64_t zero2;  /* reserved, 0 */
};

#define TREE_MAGIC "elemtree"
#define TREE_FORMAT 1u

_Static_assert(sizeof(struct tree_node) == 64, "nodes are laid out for one cache line");
_Static_assert(sizeof(struct tree_document) == 80, "no hidden padding");
_Static_assert(sizeof(struct tree_root) == 64, "no hidden padding");

/* ------------------------------------------------------------------------------------------------------- messages */

/* Print "elementtree: MESSAGE" on standard error.  Always -1, which every function here returns on failure. */
int tree_fail(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* The same, followed by what the library says about `status`. */
int tree_fail_heap(enum pheap_status status, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* ----------------------------------------------------------------------------------------------------- read access */

/* A view of the heap: a snapshot, or the inside of a write transaction.  Exactly one of the two is set. */
struct tree_view {
    pheap_txn *txn;
    pheap_read *read;
};

/* The root block; *root is NULL in a heap that is still empty.  Fails if the heap belongs to another program. */
int tree_root_find(const struct tree_view *view, uint64_t *offset, const struct tree_root **root);

/* The current document.  Fails, saying why, when there is none. */
int tree_document_find(const struct tree_view *view, uint64_t *offset, const struct tree_document **document);

/* Checked access to the parts.  Offset 0 gives an empty string and NULL attributes, and is an error for a node. */
int tree_node_get(const struct tree_view *view, uint64_t offset, const struct tree_node **node);
int tree_string_get(const struct tree_view *view, uint64_t offset, const char **bytes, uint64_t *length);
int tree_attributes_get(const struct tree_view *view, uint64_t offset, const struct tree_attributes **attributes);
int tree_writer_get(const struct tree_view *view, uint64_t offset, const struct tree_writer **writer);

/* ------------------------------------------------------------------------------------------------------------ walk */

enum tree_event { TREE_END = 0, TREE_ENTER = 1, TREE_LEAVE = 2 };

/* A walk in document order: every node is entered once, and left once after its children. */
struct tree_walk {
    const struct tree_view *view;
    uint64_t top;    /* where the walk began; it never goes above or beside it */
    uint64_t offset; /* the node of the last event */
    const struct tree_node *node;
    enum tree_event event;
    uint64_t depth;   /* nodes entered and not yet left */
    uint64_t entered; /* nodes entered so far */
    uint64_t limit;   /* more than this many means that the links run in a circle */
    /* Set by the user after an event, good for the next move: after TREE_ENTER do not enter the children ... */
    bool skip_children;
    /* ... and do not enter the siblings that follow this node. */
    bool skip_siblings;
};

void tree_walk_begin(struct tree_walk *walk, const struct tree_view *view, uint64_t top, uint64_t limit);

/* Move to the next event; walk->event is TREE_END when the walk is over. */
int tree_walk_next(struct tree_walk *walk);

/* --------------------------------------------------------------------------------------------------------- changes */

/* Make a string of `length` bytes; *offset is 0 when length is 0. */
int tree_string_new(pheap_txn *txn, const char *bytes, size_t length, uint64_t *offset);

/* Make a node without name and text, and link it as the child of `parent` that follows `previous` (0: the first). */
int tree_node_new(pheap_txn *txn, enum tree_kind kind, uint64_t parent, uint64_t previous, uint64_t *offset);

/* Store an offset, or another word, at `slot`. */
int tree_word_set(pheap_txn *txn, uint64_t slot, uint64_t value);

/* The change that this example is about: the string whose offset is stored at `slot` becomes another one. */
int tree_string_replace(pheap_txn *txn, uint64_t slot, const char *bytes, size_t length);

/* The offset of a member of the structure of type `type` at `offset`, for the functions above. */
#define TREE_SLOT(offset, type, member) ((offset) + offsetof(struct type, member))

/*
 * Find the root block, creating it in an empty heap, and take the heap over for an import: *serial is the new serial.
 * Commits.
 */
int tree_take_over(pheap *heap, uint64_t *root, uint64_t *serial);

/* Fails unless `serial` is still that of the heap. */
int tree_still_ours(pheap_txn *txn, uint64_t root, uint64_t serial);

/*
 * Free the document whose offset is stored at `slot` (of the root block), and clear the slot: a transaction for every
 * TREE_BATCH nodes, each of which leaves a sound tree.  Stops quietly when the serial is no longer `serial`.
 */
int tree_release(pheap *heap, uint64_t root, uint64_t slot, uint64_t serial);

#define TREE_BATCH 10000u           /* nodes in one transaction of import and release */
#define TREE_BATCH_BYTES (4u << 20) /* or this many bytes of text, whichever comes first */

#endif
