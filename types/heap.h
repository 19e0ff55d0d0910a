/* SPDX-License-Identifier: MIT */
/*
 * What all of types/ stands on: the structures in the heap, and how they are looked at, changed and counted.
 *
 * Nothing in the heap is trusted.  pt_at() is the only way to an address: it checks the offset and the room, and callers
 * check kinds, counts and levels before they use them.  Every walk is bounded by a count that was checked against the
 * size of something.  pheap_edit() and pheap_free() check in turn that what is changed is a live block.
 *
 * Names: pt_* within the library, pht_* public.
 */
#ifndef TYPES_HEAP_H
#define TYPES_HEAP_H

#include "types/types.h"

#include <stddef.h>

/* Structures in the heap are looked at as they lie there, as several types. */
#define PT_IN_HEAP __attribute__((may_alias))
typedef uint64_t PT_IN_HEAP pt_word;

/* Kinds of blocks: those of objects are enum pht_kind, PHT_INT to PHT_FROZENSET, and from PHT_RECORD on; these are parts of objects. */
enum pt_part {
    PT_REGISTRY = 32,
    PT_CHUNK = 33,     /* of a segmented array */
    PT_DIRECTORY = 34, /* of its chunks */
    PT_NODE = 35,      /* of a tree */
    PT_LINK = 36       /* of a queue */
};

/* How every object begins.  Of an int, float, str, bytes and block `link` is something else: see below. */
struct PT_IN_HEAP pt_head {
    uint32_t kind;
    uint32_t references; /* UINT32_MAX: nobody knows */
    uint64_t link;       /* in limbo: the next object there; 0 otherwise */
};
_Static_assert(sizeof(struct pt_head) == 16, "object header");

/* int, float, str, bytes, block, type, array, ring: the head, and the content behind it. */
struct PT_IN_HEAP pt_leaf {
    uint32_t kind;
    uint32_t references;
    uint64_t length; /* bytes of content; but int: limbs * 2 + 1 if negative, float: its bits */
};
_Static_assert(sizeof(struct pt_leaf) == sizeof(struct pt_head), "one size of head");

/* How every container begins. */
struct PT_IN_HEAP pt_container {
    struct pt_head head;
    uint32_t changes; /* so often did elements come or go, modulo 2^32: for those who walk */
    uint32_t spare;   /* map: its buckets; queue: its limit + 1, or 0; frozenset: its depth; else 0 */
};
_Static_assert(sizeof(struct pt_container) == 24, "container header");

#define PT_MAGIC UINT64_C(0x7365707974706870) /* "phptypes" */
#define PT_VERSION 1u
#define PT_LENGTH_MAX (UINT64_C(1) << 40) /* of an int, str or bytes */

struct PT_IN_HEAP pt_registry {
    uint32_t kind;       /* PT_REGISTRY */
    uint32_t references; /* 1 */
    uint64_t magic;
    uint32_t version;
    uint32_t features;    /* 0; a bit that is not known means NEWER */
    uint64_t hash_key[2]; /* drawn when the registry was made */
    uint64_t root;        /* the root map */
    uint64_t limbo_first; /* objects without references that wait to be taken apart, in a list; 0: none */
    uint64_t limbo_last;
    uint64_t collections; /* transactions of pht_collect() so far */
    uint64_t types;       /* a list of types, by number; 0: none yet */
    uint64_t unused[2];   /* 0 */
};
_Static_assert(sizeof(struct pt_registry) == 96, "registry");

/* --------------------------------------------------------------------------------------------------- looking */

/* Fail with CORRUPT: what is wrong with what lies at `offset`. */
enum pheap_status pt_corrupt(struct pht *t, uint64_t offset, const char *what);

/* The address of `length` bytes of a block at `offset`; NULL (CORRUPT) if there is no room for them in the heap. */
const void *pt_at_slow(struct pht *t, uint64_t offset, uint64_t length);
static inline const void *pt_at(struct pht *t, uint64_t offset, uint64_t length)
{
    if ((offset & 15) != 0 || offset == 0 || offset >= t->size || length > t->size - offset)
        return pt_at_slow(t, offset, length);
    return t->base + offset;
}

/* The same for a block that must be of this kind. */
const void *pt_at_kind(struct pht *t, uint64_t offset, uint64_t length, uint32_t kind);

/* A container that the caller names: *container is its address.  INVALID if it is no value, WRONG_TYPE if another one. */
enum pheap_status pt_use(struct pht *t, pht_value value, enum pht_kind kind, uint64_t length, const void **container);

/* --------------------------------------------------------------------------------------------------- changing */

/* READ_ONLY in a snapshot, else what failed half-way before, else OK: the first thing that a changing function asks. */
enum pheap_status pt_may_change(struct pht *t);

/* pheap_edit(), pheap_alloc(), pheap_zalloc(), pheap_realloc() and pheap_free() for objects: what fails makes the
 * transaction unfit for more, and an offset from the heap that is no block is CORRUPT.  `pointer` is the address of a
 * pointer of any type, which becomes that of the range, or NULL. */
enum pheap_status pt_edit(struct pht *t, uint64_t offset, uint64_t length, void *pointer);
enum pheap_status pt_alloc(struct pht *t, uint64_t length, bool zero, uint64_t *offset);
enum pheap_status pt_realloc(struct pht *t, uint64_t *offset, uint64_t length);
enum pheap_status pt_free(struct pht *t, uint64_t offset);

/* Store a word of the heap. */
enum pheap_status pt_put(struct pht *t, uint64_t offset, uint64_t word);

/* Note that a changing function failed half-way; gives `status` back. */
enum pheap_status pt_failed(struct pht *t, enum pheap_status status);

/* A new container: `length` bytes, all 0 but the kind.  pt_container_new() ends a public function. */
enum pheap_status pt_container_make(struct pht *t, enum pht_kind kind, uint64_t length, pht_value *container);
enum pheap_status pt_container_new(struct pht *t, enum pht_kind kind, uint64_t length, pht_value *container);

/* The length of containers but tuples and frozensets. */
enum { PT_MAP_BYTES = 72, PT_LIST_BYTES = 64, PT_QUEUE_BYTES = 56, PT_OMAP_BYTES = 48 };

/* Note that elements come or go. */
static inline void pt_changed(void *container)
{
    ((struct pt_container *)container)->changes++;
}

/* ----------------------------------------------------------------------------------------------------- counting */

/* Is it an object, not a value in a word? */
static inline bool pt_is_object(pht_value value)
{
    return (value & 7) == 0 && value != PHT_ABSENT;
}

/* Does the kind of an object refer to others? */
static inline bool pt_refers(uint32_t kind)
{
    return kind >= PHT_MAP;
}

/* Is it the kind of an object? */
static inline bool pt_is_kind(uint32_t kind)
{
    return (kind >= PHT_INT && kind <= PHT_FROZENSET) || kind >= PHT_RECORD;
}

/* The head of an object; NULL (CORRUPT) if it is none. */
const struct pt_head *pt_head(struct pht *t, uint64_t offset);

/* Did an object that may refer to others lose its last reference? */
bool pt_in_limbo(const struct pht *t, const struct pt_head *head, uint64_t object);

/* A word is stored somewhere: one more reference. */
enum pheap_status pt_refer(struct pht *t, pht_value value);

/* A word was overwritten or removed: one reference less.  pt_take() leaves what has none any more to the caller;
 * pt_drop() frees it, or puts it into limbo. */
enum pheap_status pt_take(struct pht *t, pht_value value);
enum pheap_status pt_drop(struct pht *t, pht_value value);

/* pt_take() if `taken` wants it, else pt_drop(). */
static inline enum pheap_status pt_let_go(struct pht *t, pht_value value, pht_value *taken)
{
    if (taken == NULL)
        return pt_drop(t, value);
    enum pheap_status status = pt_take(t, value);
    if (status == PHEAP_OK)
        *taken = value;
    return status;
}

/* ------------------------------------------------------------------------------------------------------- limbo */

/* Put an object without references into limbo. */
enum pheap_status pt_limbo_add(struct pht *t, uint64_t object);

/* If there is something in limbo take a piece of it apart. */
enum pheap_status pt_limbo_work_slow(struct pht *t);
static inline enum pheap_status pt_limbo_work(struct pht *t)
{
    const struct pt_registry *registry = pt_at(t, t->registry, sizeof *registry);
    if (registry == NULL)
        return PHEAP_CORRUPT;
    return registry->limbo_first == 0 ? PHEAP_OK : pt_limbo_work_slow(t);
}

/*
 * The end of a public function that makes or stores something: only when all words that the caller gave are counted may
 * limbo be taken apart, which may have had the last references to them.  What the call itself drops goes there after that,
 * so that the caller can still store what was in it.
 */
static inline enum pheap_status pt_then_limbo(struct pht *t, enum pheap_status status)
{
    return status == PHEAP_OK ? pt_limbo_work(t) : status;
}

/* Take everything out of a container of `length` bytes at once: what it held becomes an object in limbo. */
enum pheap_status pt_clear(struct pht *t, pht_value container, uint64_t length);

/*
 * Take apart the content of a container that nobody refers to, as much as *budget allows: about one for each word let
 * go, more for a block freed.  *done: nothing is left but the container's own block.
 */
enum pheap_status pt_map_dismantle(struct pht *t, uint64_t map, uint32_t *budget, bool *done);
enum pheap_status pt_tuple_dismantle(struct pht *t, uint64_t tuple, uint32_t *budget, bool *done);
enum pheap_status pt_frozenset_dismantle(struct pht *t, uint64_t set, uint32_t *budget, bool *done);
enum pheap_status pt_list_dismantle(struct pht *t, uint64_t list, uint32_t *budget, bool *done);
enum pheap_status pt_queue_dismantle(struct pht *t, uint64_t queue, uint32_t *budget, bool *done);
enum pheap_status pt_omap_dismantle(struct pht *t, uint64_t map, uint32_t *budget, bool *done);
enum pheap_status pt_record_dismantle(struct pht *t, uint64_t record, uint32_t *budget, bool *done);

/* ------------------------------------------------------------------------------------------------------- visits */

/*
 * To go through an object: `part` is called for each block that belongs to it, with the bytes that are needed there, and
 * `word` for each word in it that counts as a reference.  Both may fail, which ends the visit.  CORRUPT: the object
 * contradicts itself.  One in limbo is half gone, and so may be garbage that was: then only what is left is looked at.
 */
struct pt_visit {
    struct pht *t;
    uint64_t object;
    bool in_limbo;
    enum pheap_status (*part)(struct pt_visit *visit, uint64_t offset, uint64_t length);
    enum pheap_status (*word)(struct pt_visit *visit, pht_value word);
};
enum pheap_status pt_map_visit(struct pt_visit *visit);
enum pheap_status pt_tuple_visit(struct pt_visit *visit);
enum pheap_status pt_frozenset_visit(struct pt_visit *visit);
enum pheap_status pt_list_visit(struct pt_visit *visit);
enum pheap_status pt_queue_visit(struct pt_visit *visit);
enum pheap_status pt_omap_visit(struct pt_visit *visit);
enum pheap_status pt_record_visit(struct pt_visit *visit);

/* Is a type, by its number, what could have been registered?  NOT_FOUND: there are not so many. */
enum pheap_status pt_type_check(struct pht *t, uint32_t number);

/* Of an array or ring: does what it says of itself fit its length? */
enum pheap_status pt_array_check(struct pht *t, uint64_t array);

#endif
