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
    uint64_t link; /* in limbo: the next object there, and bits of enum pt_link_bits; else 0, or as PT_OFFERED says */
};

/* In the link of a container, whose upper bits are the offset of the next one, or 0. */
enum pt_link_bits {
    PT_IN_LIMBO = 1, /* in one of the lists of the registry, even as the last of it */
    PT_AGAIN = 2,    /* it was referred to since it came there, and lost its last reference again */
    PT_OFFERED =
        4,        /* pht_collect() took it for garbage, and nobody came to refer to it, or ceased to, since; when it has
                        left limbo, all sessions have seen it, and the upper bits are the registry's number of the offer */
    PT_BEGUN = 8, /* part of it is taken apart */
    PT_LINK_BITS = 15
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

/* Objects in limbo, linked; first and last are 0 if there are none. */
struct PT_IN_HEAP pt_list_in_limbo {
    uint64_t first;
    uint64_t last;
    uint64_t stamp; /* the version in which the last one came, if there are any */
};

struct PT_IN_HEAP pt_registry {
    uint32_t kind;       /* PT_REGISTRY */
    uint32_t references; /* 1 */
    uint64_t magic;
    uint32_t version;
    uint32_t features;    /* 0; a bit that is not known means NEWER */
    uint64_t hash_key[2]; /* drawn when the registry was made */
    uint64_t root;        /* the root map */
    uint64_t collections; /* transactions of pht_collect() so far */
    uint64_t types;       /* a list of types, by number; 0: none yet */
    uint64_t sessions;    /* a map of sessions: session.c; 0: there never was one */
    struct pt_list_in_limbo limbo[4];
    uint64_t offer;         /* number of the last offer of garbage to the sessions */
    uint64_t offered_count; /* objects with PT_OFFERED that are in limbo */
    uint64_t unused;        /* 0 */
};
_Static_assert(sizeof(struct pt_registry) == 192, "registry");

/* The lists of limbo. */
enum pt_limbo {
    PT_READY = 0,   /* may be taken apart */
    PT_WAITING = 1, /* ... when all marks have reached its stamp */
    PT_YOUNG = 2,   /* follow when those are ready */
    PT_OFFERS = 3,  /* of pht_collect(): become young all at once */
    PT_LIMBOS = 4
};

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

/* The registry; NULL (CORRUPT) if there is none where it should be. */
static inline const struct pt_registry *pt_registry_of(struct pht *t)
{
    return (const struct pt_registry *)pt_at_kind(t, t->registry, sizeof(struct pt_registry), PT_REGISTRY);
}

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

/* Is it in limbo?  It may have references nevertheless. */
static inline bool pt_in_limbo(const struct pt_head *head)
{
    return pt_refers(head->kind) && (head->link & PT_IN_LIMBO) != 0;
}

/* Is it being taken apart, so that nobody may refer to it any more? */
static inline bool pt_is_going(const struct pt_head *head)
{
    return pt_in_limbo(head) && (head->link & PT_BEGUN) != 0;
}

/* Was it offered to the sessions, and left alone by all? */
static inline bool pt_was_seen(const struct pt_head *head, uint64_t offer)
{
    return pt_refers(head->kind) && head->link == (offer << 4 | PT_OFFERED);
}

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

/* An object has lost its last reference: put it into limbo, if it is not there. */
enum pheap_status pt_limbo_add(struct pht *t, uint64_t object);

/* Append an object, which is in none, to a list of limbo, with these bits in its link. */
enum pheap_status pt_limbo_append(struct pht *t, enum pt_limbo list, uint64_t object, uint64_t bits);

/* Offer garbage to the sessions. */
enum pheap_status pt_limbo_offer(struct pht *t, uint64_t object);

/* All offers are made: they become young. */
enum pheap_status pt_limbo_end_offer(struct pht *t);

/* Take one out of the offers that somebody left unfinished; *more: there was one. */
enum pheap_status pt_limbo_take_offer_back(struct pht *t, bool *more);

/* The references of an offered object change: it is not what was offered. */
enum pheap_status pt_limbo_touch(struct pht *t, uint64_t object);

/* Take apart up to `budget` words of what may be.  *more (may be NULL): there is more of it. */
enum pheap_status pt_limbo_reclaim(struct pht *t, uint32_t budget, bool *more);

/* If there is something in limbo take a piece of it apart. */
#define PT_LIMBO_PIECE 64u /* words that one call takes apart */
static inline enum pheap_status pt_limbo_work(struct pht *t)
{
    const struct pt_registry *registry = pt_at(t, t->registry, sizeof *registry);
    if (registry == NULL)
        return PHEAP_CORRUPT;
    if ((registry->limbo[PT_READY].first | registry->limbo[PT_WAITING].first | registry->limbo[PT_YOUNG].first) == 0)
        return PHEAP_OK;
    return pt_limbo_reclaim(t, PT_LIMBO_PIECE, NULL);
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
