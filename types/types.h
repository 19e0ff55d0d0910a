/* SPDX-License-Identifier: MIT */
/*
 * pheap types: persistent values and containers, on top of pheap.h.
 *
 * A heap of raw blocks becomes a heap of values: none, bool, int of any size, float, str, bytes, raw block, and of
 * containers of them: map, set, frozenset, list, tuple, queue, ordered map, and records, arrays and rings of the program's own
 * structs.  They are changed in place inside a write transaction,
 * read in one or in a snapshot, and shared by every process, whatever language it is written in.
 *
 *     struct pht t;
 *     pht_value ages;
 *     pheap_begin(heap, &txn);
 *     pht_begin(txn, &t);
 *     pht_map_new(&t, &ages);
 *     pht_map_set(&t, pht_root(&t), pht_text("ages"), pht_of(ages));
 *     pht_map_set(&t, ages, pht_text("Joe"), pht_int(27));
 *     pheap_commit(txn, PHEAP_DURABLE, NULL);
 *
 * THE RULES THAT A USER MUST KNOW
 *
 * Views.  All functions take a `struct pht`, which shows the heap as one transaction or one reader sees it: pht_begin()
 * and pht_look() fill it.  It is used by the thread of that transaction or reader, and is worthless when that has ended.
 * Functions that change something give READ_ONLY on the view of a reader.
 *
 * Values.  A pht_value is one word.  Small ints, most floats, short strings, none and bools are in the word itself;
 * anything else is an object in the heap, and the word its offset.  Words stay valid for as long as the object lives, in
 * every process.  0, PHT_ABSENT, is no value: it says "there is none".  What a program puts in, a key or an element, it
 * gives as a struct pht_any, which is made by pht_int(), pht_text() and so on, and by pht_of() of a pht_value; so looking
 * something up never needs an object in the heap.
 *
 * Ownership.  Objects are counted: each word that is stored in a container, and the root, counts as one reference, in the
 * transaction that stores it.  An object that loses its last one is freed: with all that it alone refers to, but piece by
 * piece, at the end of calls that make or store something, so that no call is slow because something large went.  So what
 * was in a container that went can still be stored by the next such call, and is gone after it if it was not.  A container that was made
 * and is not stored anywhere is the caller's: store it, or pht_discard() it, else it stays until pht_collect() finds it.
 * The same holds for a value that was *taken* out of a container.  Containers may contain themselves; such cycles are
 * what pht_collect() is for.
 *
 * Errors.  As in pheap.h: every status must be checked, outputs are untouched on failure, pheap_error_detail() has the
 * text.  INVALID, WRONG_TYPE and READ_ONLY mean that nothing was done.  After any other failure of a function that
 * changes something the change may be half done: abort the transaction, or roll back to an earlier savepoint and call
 * pht_begin() again; until then functions that change something fail with the same status.  Nothing read from the heap
 * is trusted: a damaged one gives CORRUPT, which names the place, or WRONG_TYPE, or wrong values, never a crash.
 * Functions of a transaction also give ENDED and WRONG_THREAD; those that store, NO_SPACE, NO_MEMORY, TOO_BIG, RESERVE
 * and FULL; these are not repeated below.
 *
 * Cost.  Constant, or as said at the function.  No call logs more than 64 KiB, however large the container, apart from
 * the bytes of a value that is itself long.
 *
 * A heap is one of values when its root block is their registry: pht_begin() makes it in a heap that has no root.  All
 * blocks are then objects; raw bytes belong into block objects, not into blocks of pheap_alloc(), which pht_check() and
 * pht_collect() take for objects that nobody refers to.
 */
#ifndef PHEAP_TYPES_H
#define PHEAP_TYPES_H

#include <pheap/pheap.h>
#include <stdbool.h>
#include <string.h>

#ifdef __cplusplus
extern "C" {
#endif

/* ---------------------------------------------------------------------------------------------------------- views */

/* How one transaction or reader sees the values of a heap.  Its members are the library's. */
struct pht {
    unsigned char *base;      /* address of offset 0; const in a snapshot */
    uint64_t size;            /* bytes that may be looked at */
    uint64_t registry;        /* offset of the registry */
    pheap_txn *txn;           /* NULL in a snapshot */
    const pheap_read *reader; /* NULL in a transaction */
    enum pheap_status failed; /* what a changing function failed with half-way */
    uint64_t version;         /* that its commit will have; 0 in a snapshot */
    uint64_t lowest;          /* mark of any process, if */
    bool asked;               /* it was asked for */
};

/*
 * See the heap through a write transaction.  In a heap without a root the registry and an empty root map are made.
 * Call it again after pheap_rollback(): it forgets that something failed, and the registry may be gone.  Cost: constant.
 *
 * Errors: WRONG_TYPE (the root block is no registry: the heap belongs to a program that does not use values), NEWER (the
 * values have a later format), CORRUPT, INVALID (NULL), IO (the system gives no random numbers for the hash key).
 */
PHEAP_API PHEAP_MUST_CHECK enum pheap_status pht_begin(pheap_txn *txn, struct pht *t);

/*
 * The same through a read transaction.  NOT_FOUND: the heap has no values yet.  Not through one that was begun as
 * PHEAP_EVICTABLE: when its version is taken away, what it sees may change between being checked and being used.
 * Errors: WRONG_TYPE, NEWER, CORRUPT, NOT_FOUND, INVALID.
 */
PHEAP_API PHEAP_MUST_CHECK enum pheap_status pht_look(const pheap_read *reader, struct pht *t);

/* --------------------------------------------------------------------------------------------------------- values */

/* A value: one word. */
typedef uint64_t pht_value;
#define PHT_ABSENT ((pht_value)0) /* no value */

/* What a value is.  The numbers are those of the format. */
enum pht_kind {
    PHT_NONE = 1,
    PHT_BOOL = 2,
    PHT_INT = 3,
    PHT_FLOAT = 4,
    PHT_STR = 5,
    PHT_BYTES = 6,
    PHT_BLOCK = 7,
    PHT_TYPE = 8,  /* the layout of a struct */
    PHT_ARRAY = 9, /* of structs */
    PHT_RING = 10, /* likewise */
    PHT_MAP = 11,  /* this one and all that follow can refer to other values */
    PHT_SET = 12,
    PHT_LIST = 13,
    PHT_TUPLE = 14,
    PHT_QUEUE = 15,
    PHT_OMAP = 16,
    PHT_FROZENSET = 17,
    PHT_RECORD = 64, /* 64 and the number of its type; pht_kind_of() and pht_show() say 64 */
    PHT_VALUE = 63   /* in a struct pht_any that goes in: whatever the word `value` is */
};

/* "map", "int" and so on; "?" for anything else.  Static. */
PHEAP_API const char *pht_kind_name(enum pht_kind kind);

/* A value as a program has it, on its way into the heap or out of it. */
struct pht_any {
    uint32_t kind;     /* enum pht_kind */
    uint32_t negative; /* PHT_INT with limbs: 1 if it is below 0 */
    union {
        int64_t integer; /* PHT_INT without limbs; PHT_BOOL: 0 or 1 */
        double real;     /* PHT_FLOAT */
        pht_value value; /* PHT_VALUE, and containers on their way out */
    };
    const void *bytes; /* PHT_STR (UTF-8), PHT_BYTES, PHT_BLOCK; PHT_INT beyond int64_t: limbs of 64 bits, the lowest
                          first, of its magnitude; PHT_TUPLE and PHT_FROZENSET on their way in: their elements, as
                          struct pht_any; else NULL */
    uint64_t length;   /* of them: bytes, or limbs, or elements */
};

static inline struct pht_any pht_make_any(enum pht_kind kind)
{
    struct pht_any any;
    memset(&any, 0, sizeof any);
    any.kind = (uint32_t)kind;
    return any;
}

static inline struct pht_any pht_none(void)
{
    return pht_make_any(PHT_NONE);
}

static inline struct pht_any pht_bool(bool truth)
{
    struct pht_any any = pht_make_any(PHT_BOOL);
    any.integer = truth;
    return any;
}

static inline struct pht_any pht_int(int64_t integer)
{
    struct pht_any any = pht_make_any(PHT_INT);
    any.integer = integer;
    return any;
}

/* An int of any size: its magnitude as limbs of 64 bits, the lowest first. */
static inline struct pht_any pht_bigint(bool negative, const uint64_t *limbs, uint64_t count)
{
    struct pht_any any = pht_make_any(PHT_INT);
    any.negative = negative;
    any.bytes = limbs;
    any.length = count;
    return any;
}

static inline struct pht_any pht_float(double real)
{
    struct pht_any any = pht_make_any(PHT_FLOAT);
    any.real = real;
    return any;
}

/* `length` bytes of UTF-8, any characters, also the zero. */
static inline struct pht_any pht_str(const char *utf8, uint64_t length)
{
    struct pht_any any = pht_make_any(PHT_STR);
    any.bytes = utf8;
    any.length = length;
    return any;
}

/* A str that ends with a zero byte, which does not belong to it. */
static inline struct pht_any pht_text(const char *utf8)
{
    return pht_str(utf8, strlen(utf8));
}

static inline struct pht_any pht_bytes(const void *bytes, uint64_t length)
{
    struct pht_any any = pht_make_any(PHT_BYTES);
    any.bytes = bytes;
    any.length = length;
    return any;
}

/*
 * A tuple, or a frozenset, of these elements: to be stored, or to look for one as a key.  Looking needs nothing in the heap;
 * for a frozenset it sorts the hashes of the elements, in memory of malloc(), for the hash and for each comparison.
 */
static inline struct pht_any pht_tuple(const struct pht_any *elements, uint64_t count)
{
    struct pht_any any = pht_make_any(PHT_TUPLE);
    any.bytes = elements;
    any.length = count;
    return any;
}

static inline struct pht_any pht_frozenset(const struct pht_any *elements, uint64_t count)
{
    struct pht_any any = pht_make_any(PHT_FROZENSET);
    any.bytes = elements;
    any.length = count;
    return any;
}

/* A value that is in the heap, or in the word, already. */
static inline struct pht_any pht_of(pht_value value)
{
    struct pht_any any = pht_make_any(PHT_VALUE);
    any.value = value;
    return any;
}

/*
 * Make a value that is the caller's until it is stored: store functions do this by themselves for what they are given.
 * A str must be UTF-8 (no surrogates, no overlong forms).  Cost: proportional to its bytes.
 * Errors: INVALID (no such kind; not UTF-8; longer than 2^40 bytes; PHT_VALUE of a word that is no value), READ_ONLY
 * (an object would be needed; words of small values are made in snapshots, too).
 */
PHEAP_API PHEAP_MUST_CHECK enum pheap_status pht_make(struct pht *t, struct pht_any any, pht_value *value);

/*
 * What a value is: *any has its kind and content.  The bytes of a short str or bytes lie in *value itself, those of a
 * longer one in the view: they are valid as long as both.  A container is told by its kind and word only.
 * Errors: INVALID (PHT_ABSENT, or a word that is no value), CORRUPT.
 */
PHEAP_API PHEAP_MUST_CHECK enum pheap_status pht_show(struct pht *t, const pht_value *value, struct pht_any *any);

/* The kind alone.  Errors as pht_show(). */
PHEAP_API PHEAP_MUST_CHECK enum pheap_status pht_kind_of(struct pht *t, pht_value value, enum pht_kind *kind);

/*
 * Free a value that the caller has and that is stored nowhere; one that is stored, or needs no object, stays.  A
 * container goes with everything that it alone refers to.  Errors: CORRUPT, READ_ONLY.
 */
PHEAP_API PHEAP_MUST_CHECK enum pheap_status pht_discard(struct pht *t, pht_value value);

/*
 * Take apart up to `words` words of objects that lost their last reference: for idle moments, or before measuring.
 * *more (may be NULL): it can go on in this transaction; some may have to wait for a later one, or for others to look (see
 * sessions).  Cost: about 0.1 us a word.  Errors: CORRUPT, READ_ONLY.
 */
PHEAP_API PHEAP_MUST_CHECK enum pheap_status pht_reclaim(struct pht *t, uint32_t words, bool *more);

/*
 * When limbo, the list of such objects, is damaged, every call that makes or stores something fails with CORRUPT.  This
 * empties the list: what was in it becomes garbage, for pht_collect().  Cost: constant.  Errors: READ_ONLY.
 */
PHEAP_API PHEAP_MUST_CHECK enum pheap_status pht_forget_limbo(struct pht *t);

/* How many references an object has; UINT32_MAX means "so many or more".  A value without an object has 0. */
PHEAP_API PHEAP_MUST_CHECK enum pheap_status pht_references(struct pht *t, pht_value value, uint32_t *count);

/*
 * Are two values equal?  Numbers by their value, whatever their kind (1 = 1.0 = true); a NaN only to the very same
 * object; str, bytes and blocks by their bytes (a str is never equal to bytes); tuples element by element; frozensets if
 * each element of one is in the other; any other container only to itself.  Errors: INVALID (tuples and frozensets nested
 * more than 64 deep, or of more than 2^24 elements with those of the tuples and frozensets in them, which count as often
 * as they are met), CORRUPT, NO_MEMORY (a frozenset that is not in the heap).
 */
PHEAP_API PHEAP_MUST_CHECK enum pheap_status pht_equal(struct pht *t, struct pht_any a, struct pht_any b, bool *equal);

/*
 * The order of two values: *order becomes -1, 0 or 1.  Numbers by value, str and bytes by their bytes (for str that is
 * the order of code points), tuples by their first elements that differ.  WRONG_TYPE for anything else, and for NaN;
 * else as pht_equal().
 */
PHEAP_API PHEAP_MUST_CHECK enum pheap_status pht_compare(struct pht *t, struct pht_any a, struct pht_any b, int *order);

/*
 * The hash of a key: SipHash-1-3 under a key of 128 bits that was drawn for this heap; the same in every process.
 * Equal values have equal hashes.  Keys are none, bool, int, float, str, bytes, and tuples and frozensets of keys: at most
 * 64 deep, and of at most 2^16 elements with those of the tuples in them, which count as often as they are met.  Cost:
 * proportional to the bytes and elements; of a frozenset in the heap, what is in its elements is not looked at.
 * Errors: INVALID (no key), CORRUPT, NO_MEMORY.
 */
PHEAP_API PHEAP_MUST_CHECK enum pheap_status pht_hash(struct pht *t, struct pht_any key, uint64_t *hash);

/*
 * How often elements of a map, set, list, queue or ordered map came or went, modulo 2^32: who walks through it in several
 * transactions sees whether it has changed in between.  Errors: WRONG_TYPE, INVALID, CORRUPT.
 */
PHEAP_API PHEAP_MUST_CHECK enum pheap_status pht_changes(struct pht *t, pht_value container, uint32_t *changes);

/* The root map, by which everything else is found.  It cannot be replaced or discarded. */
PHEAP_API pht_value pht_root(const struct pht *t);

/* --------------------------------------------------------------------------------------------------------- blocks */

/*
 * Raw bytes in the heap: zeroed, up to 2^46 bytes, which take no disk until they are written; changed by pheap_edit(),
 * pheap_write(), pheap_fill() and pheap_track() at *offset, or stored to at once in the transaction that made the block.
 * The first byte is aligned to 16.  pht_make() of a PHT_BLOCK that is not in the heap is INVALID.
 */
PHEAP_API PHEAP_MUST_CHECK enum pheap_status pht_block_new(struct pht *t, uint64_t length, pht_value *block);

/* Where the bytes of a block are, and how many.  Errors: WRONG_TYPE, CORRUPT, INVALID. */
PHEAP_API PHEAP_MUST_CHECK enum pheap_status pht_block_at(struct pht *t, pht_value block, uint64_t *offset,
                                                          uint64_t *length);

/*
 * Make a block as long as `length`; what is added is zeroed.  It stays where it is if there is room and not much too much of
 * it, or if it must not `move`.  Else *block becomes another one, with the same bytes, which is the caller's to store; the
 * old one is freed if it is stored nowhere, and else stays as it was until it is replaced.  With `move` 0 NO_SPACE says
 * that it would have to.  Cost: proportional to the bytes that move.  Other errors: WRONG_TYPE, CORRUPT, INVALID.
 */
PHEAP_API PHEAP_MUST_CHECK enum pheap_status pht_block_resize(struct pht *t, pht_value *block, uint64_t length,
                                                              bool move);

/* ---------------------------------------------------------------------------------------------------- map and set */

/*
 * A map: values by keys, in the order in which the keys came.  Any value may be stored, keys are those of pht_hash().
 * Up to 2^32 - 2 entries.  All functions give WRONG_TYPE when `map` is not a map, CORRUPT, and INVALID for a bad key.
 *
 * Cost of get, set and remove: constant on average, whatever keys somebody chooses; a map never is rehashed at once.
 */
PHEAP_API PHEAP_MUST_CHECK enum pheap_status pht_map_new(struct pht *t, pht_value *map);
PHEAP_API PHEAP_MUST_CHECK enum pheap_status pht_map_count(struct pht *t, pht_value map, uint64_t *count);

/* The value of a key; PHT_ABSENT if it is not there. */
PHEAP_API PHEAP_MUST_CHECK enum pheap_status pht_map_get(struct pht *t, pht_value map, struct pht_any key,
                                                         pht_value *value);

/* Store a value under a key: in place of the one that is there, whose key stays, or as a new last entry. */
PHEAP_API PHEAP_MUST_CHECK enum pheap_status pht_map_set(struct pht *t, pht_value map, struct pht_any key,
                                                         struct pht_any value);

/* The same only if the key is not there; *present becomes the value that was, PHT_ABSENT if it was stored. */
PHEAP_API PHEAP_MUST_CHECK enum pheap_status pht_map_add(struct pht *t, pht_value map, struct pht_any key,
                                                         struct pht_any value, pht_value *present);

/*
 * Remove an entry.  With `taken` NULL its value loses a reference; else *taken is the value, which the caller owns now
 * if nothing else refers to it, or PHT_ABSENT if the key was not there.
 */
PHEAP_API PHEAP_MUST_CHECK enum pheap_status pht_map_remove(struct pht *t, pht_value map, struct pht_any key,
                                                            pht_value *taken);

/*
 * Remove everything.  Constant cost: what was there loses its references piece by piece, in later calls that make or store
 * something, or in pht_reclaim(); first what was cleared first, and of it the entries in no order that a program can
 * rely on.  Until then those objects have the references they had, and the memory is theirs.  The same holds for the other
 * functions that end in _clear.
 */
PHEAP_API PHEAP_MUST_CHECK enum pheap_status pht_map_clear(struct pht *t, pht_value map);

/*
 * Walk: set *cursor to 0; each call gives the next entry, or the previous one, and END behind the last.  `value` may be
 * NULL.  Values of entries may be replaced during the walk; when entries come or go the next call gives BUSY.
 */
PHEAP_API PHEAP_MUST_CHECK enum pheap_status pht_map_next(struct pht *t, pht_value map, uint64_t *cursor,
                                                          pht_value *key, pht_value *value);
PHEAP_API PHEAP_MUST_CHECK enum pheap_status pht_map_previous(struct pht *t, pht_value map, uint64_t *cursor,
                                                              pht_value *key, pht_value *value);

/* A set: keys in the order in which they came.  As a map without values. */
PHEAP_API PHEAP_MUST_CHECK enum pheap_status pht_set_new(struct pht *t, pht_value *set);
PHEAP_API PHEAP_MUST_CHECK enum pheap_status pht_set_count(struct pht *t, pht_value set, uint64_t *count);
PHEAP_API PHEAP_MUST_CHECK enum pheap_status pht_set_has(struct pht *t, pht_value set, struct pht_any key, bool *has);
/* *changed (may be NULL): whether the key was not there before, or was there. */
PHEAP_API PHEAP_MUST_CHECK enum pheap_status pht_set_add(struct pht *t, pht_value set, struct pht_any key,
                                                         bool *changed);
PHEAP_API PHEAP_MUST_CHECK enum pheap_status pht_set_remove(struct pht *t, pht_value set, struct pht_any key,
                                                            bool *changed);
PHEAP_API PHEAP_MUST_CHECK enum pheap_status pht_set_clear(struct pht *t, pht_value set);
PHEAP_API PHEAP_MUST_CHECK enum pheap_status pht_set_next(struct pht *t, pht_value set, uint64_t *cursor,
                                                          pht_value *key);
PHEAP_API PHEAP_MUST_CHECK enum pheap_status pht_set_previous(struct pht *t, pht_value set, uint64_t *cursor,
                                                              pht_value *key);

/* ---------------------------------------------------------------------------------------------------------- lists */

/*
 * A list: values by index, from 0.  Up to 2^48.  All functions give WRONG_TYPE when `list` is not a list, CORRUPT, and
 * INVALID for an index beyond the end.  Cost: constant at the end, else O(log n).
 */
PHEAP_API PHEAP_MUST_CHECK enum pheap_status pht_list_new(struct pht *t, pht_value *list);
PHEAP_API PHEAP_MUST_CHECK enum pheap_status pht_list_count(struct pht *t, pht_value list, uint64_t *count);
PHEAP_API PHEAP_MUST_CHECK enum pheap_status pht_list_get(struct pht *t, pht_value list, uint64_t index,
                                                          pht_value *value);

/* The `count` elements from `index` on into values[].  Cost: O(count + log n). */
PHEAP_API PHEAP_MUST_CHECK enum pheap_status pht_list_read(struct pht *t, pht_value list, uint64_t index,
                                                           uint64_t count, pht_value *values);

PHEAP_API PHEAP_MUST_CHECK enum pheap_status pht_list_set(struct pht *t, pht_value list, uint64_t index,
                                                          struct pht_any value);
PHEAP_API PHEAP_MUST_CHECK enum pheap_status pht_list_append(struct pht *t, pht_value list, struct pht_any value);

/* Before the element `index`, or at the end. */
PHEAP_API PHEAP_MUST_CHECK enum pheap_status pht_list_insert(struct pht *t, pht_value list, uint64_t index,
                                                             struct pht_any value);

/* With `taken` NULL the element loses a reference, else it is the caller's, as with pht_map_remove(). */
PHEAP_API PHEAP_MUST_CHECK enum pheap_status pht_list_remove(struct pht *t, pht_value list, uint64_t index,
                                                             pht_value *taken);
PHEAP_API PHEAP_MUST_CHECK enum pheap_status pht_list_clear(struct pht *t, pht_value list);

/* --------------------------------------------------------------------------------------------------------- queues */

/*
 * A queue: values that come and go at both ends, `front` or back, at constant cost.  Index 0 is at the front; looking at
 * or replacing an element far from both ends costs O(n / 124).  Errors as of lists.
 */
PHEAP_API PHEAP_MUST_CHECK enum pheap_status pht_queue_new(struct pht *t, pht_value *queue);
PHEAP_API PHEAP_MUST_CHECK enum pheap_status pht_queue_count(struct pht *t, pht_value queue, uint64_t *count);
PHEAP_API PHEAP_MUST_CHECK enum pheap_status pht_queue_get(struct pht *t, pht_value queue, uint64_t index,
                                                           pht_value *value);
PHEAP_API PHEAP_MUST_CHECK enum pheap_status pht_queue_set(struct pht *t, pht_value queue, uint64_t index,
                                                           struct pht_any value);
PHEAP_API PHEAP_MUST_CHECK enum pheap_status pht_queue_push(struct pht *t, pht_value queue, bool front,
                                                            struct pht_any value);

/*
 * At most how many elements a queue keeps, below 2^32 - 1; PHT_NO_LIMIT, as in a new queue: any number.  pht_queue_push()
 * then removes an element at the other end for one that would be too many; with the limit 0 it does nothing.  INVALID:
 * another limit, or one below the count.
 */
#define PHT_NO_LIMIT UINT64_MAX
PHEAP_API PHEAP_MUST_CHECK enum pheap_status pht_queue_set_limit(struct pht *t, pht_value queue, uint64_t limit);
PHEAP_API PHEAP_MUST_CHECK enum pheap_status pht_queue_limit(struct pht *t, pht_value queue, uint64_t *limit);

/*
 * Walk: fill *walk with zeros; each call gives the next element, or, from the back, the previous one, and END behind the
 * last.  Constant cost.  BUSY: elements came or went since the walk began.
 */
struct pht_walk {
    uint64_t link;    /* where it is: the library's */
    uint64_t done;    /* elements given so far */
    uint32_t changes; /* pht_changes() when it began */
    uint32_t unused;
};
PHEAP_API PHEAP_MUST_CHECK enum pheap_status pht_queue_next(struct pht *t, pht_value queue, struct pht_walk *walk,
                                                            pht_value *value);
PHEAP_API PHEAP_MUST_CHECK enum pheap_status pht_queue_previous(struct pht *t, pht_value queue, struct pht_walk *walk,
                                                                pht_value *value);

/* *taken as with pht_map_remove(); PHT_ABSENT if the queue is empty. */
PHEAP_API PHEAP_MUST_CHECK enum pheap_status pht_queue_pop(struct pht *t, pht_value queue, bool front,
                                                           pht_value *taken);
PHEAP_API PHEAP_MUST_CHECK enum pheap_status pht_queue_clear(struct pht *t, pht_value queue);

/* --------------------------------------------------------------------------------------------------- ordered maps */

/*
 * An ordered map: values by keys, in the order of the keys, which is that of pht_compare(); all keys of a map must be
 * comparable (WRONG_TYPE): numbers, or str, or bytes, or tuples of such; no NaN.  Entries also have a rank, from 0, so that
 * ranges are walked by it in both directions.  Cost: O(log n).  Other errors as of maps.
 */
PHEAP_API PHEAP_MUST_CHECK enum pheap_status pht_omap_new(struct pht *t, pht_value *map);
PHEAP_API PHEAP_MUST_CHECK enum pheap_status pht_omap_count(struct pht *t, pht_value map, uint64_t *count);

/* As pht_map_get(), pht_map_set(), pht_map_remove() and pht_map_clear(). */
PHEAP_API PHEAP_MUST_CHECK enum pheap_status pht_omap_get(struct pht *t, pht_value map, struct pht_any key,
                                                          pht_value *value);
PHEAP_API PHEAP_MUST_CHECK enum pheap_status pht_omap_set(struct pht *t, pht_value map, struct pht_any key,
                                                          struct pht_any value);
PHEAP_API PHEAP_MUST_CHECK enum pheap_status pht_omap_remove(struct pht *t, pht_value map, struct pht_any key,
                                                             pht_value *taken);
PHEAP_API PHEAP_MUST_CHECK enum pheap_status pht_omap_clear(struct pht *t, pht_value map);

/*
 * How many keys are less than `key`, which need not be there: the rank of the first that is not less.  *found (may be
 * NULL): that one is equal.  So the greatest key up to `key` has rank *rank if it was found, else *rank - 1.
 */
PHEAP_API PHEAP_MUST_CHECK enum pheap_status pht_omap_rank(struct pht *t, pht_value map, struct pht_any key,
                                                           uint64_t *rank, bool *found);

/* The entry of a rank; `value` may be NULL.  INVALID beyond the end. */
PHEAP_API PHEAP_MUST_CHECK enum pheap_status pht_omap_at(struct pht *t, pht_value map, uint64_t rank, pht_value *key,
                                                         pht_value *value);

/* --------------------------------------------------------------------------------------------------------- tuples */

/* A tuple: values that never change.  Cost of making one: proportional to `count`, at most 2^32. */
PHEAP_API PHEAP_MUST_CHECK enum pheap_status pht_tuple_new(struct pht *t, const struct pht_any *elements,
                                                           uint64_t count, pht_value *tuple);
PHEAP_API PHEAP_MUST_CHECK enum pheap_status pht_tuple_count(struct pht *t, pht_value tuple, uint64_t *count);

/* Element `index`, from 0.  INVALID beyond the end. */
PHEAP_API PHEAP_MUST_CHECK enum pheap_status pht_tuple_get(struct pht *t, pht_value tuple, uint64_t index,
                                                           pht_value *value);

/* ----------------------------------------------------------------------------------------------------- frozensets */

/*
 * A frozenset: keys that never change, each once; it is a key itself, equal to all of the same elements.  Of equal elements
 * the first is kept.  Cost of making one: O(n log n), and memory for its hashes; at most 2^24 elements.  INVALID: an
 * element that is no key.
 */
PHEAP_API PHEAP_MUST_CHECK enum pheap_status pht_frozenset_new(struct pht *t, const struct pht_any *elements,
                                                               uint64_t count, pht_value *set);
PHEAP_API PHEAP_MUST_CHECK enum pheap_status pht_frozenset_count(struct pht *t, pht_value set, uint64_t *count);

/* Element `index`, from 0, in an order that tells nothing but stays the same.  INVALID beyond the end. */
PHEAP_API PHEAP_MUST_CHECK enum pheap_status pht_frozenset_get(struct pht *t, pht_value set, uint64_t index,
                                                               pht_value *value);

/* Is it an element?  Cost: O(log n). */
PHEAP_API PHEAP_MUST_CHECK enum pheap_status pht_frozenset_has(struct pht *t, pht_value set, struct pht_any key,
                                                               bool *has);

/* ------------------------------------------------------------------------------------ types, records, struct arrays */

/* What a field of a struct is. */
enum pht_field_kind {
    PHT_FIELD_SIGNED = 1,   /* two's complement, of 1, 2, 4 or 8 bytes */
    PHT_FIELD_UNSIGNED = 2, /* of 1, 2, 4 or 8 bytes */
    PHT_FIELD_FLOAT = 3,    /* IEEE 754, of 4 or 8 bytes */
    PHT_FIELD_BOOL = 4,     /* 1 byte: 0 or 1 */
    PHT_FIELD_CHAR = 5,     /* 1 byte; with a count, a text or bytes of that length at most, zeros behind it */
    PHT_FIELD_VALUE = 6,    /* a pht_value: 8 bytes at a multiple of 8, in records only; pht_record_set() changes it */
    PHT_FIELD_STRUCT = 7    /* a struct of another type, which has no values */
};

struct pht_field {
    const char *name;     /* UTF-8, 1 to 255 bytes */
    uint32_t name_length; /* 0 on its way in: the name ends with a zero byte */
    uint32_t kind;        /* enum pht_field_kind */
    uint32_t type;        /* PHT_FIELD_STRUCT: the number of that type; else 0 */
    uint32_t bit_first;   /* of a bit field: its lowest bit in the integer */
    uint32_t bit_count;   /* its bits; 0: the whole integer */
    uint64_t size;        /* bytes of one element */
    uint64_t offset;      /* from the beginning of the struct */
    uint64_t count;       /* elements: more than 1 for an array */
};

/* The layout of a struct, as sizeof and offsetof of C give it, or ctypes. */
struct pht_layout {
    const char *name; /* as that of a field */
    uint32_t name_length;
    uint32_t version;     /* the program's own number for this layout of the name */
    uint64_t size;        /* bytes of the struct, 1 to 2^30 */
    uint32_t field_count; /* at most 4096 */
    const struct pht_field *fields;
};

/*
 * Enter a layout in the heap: *type becomes its number, from 0, valid in every process for as long as the heap lives.  The
 * same layout gives the same number again.  Types are never removed.  Cost: proportional to the number of types.
 *
 * WRONG_TYPE: this name and version stand for another layout; the detail names what differs.  INVALID: fields that do
 * not lie in the struct, overlap a value, or are impossible; more than 65536 values.  NOT_FOUND: the type of a field.
 */
PHEAP_API PHEAP_MUST_CHECK enum pheap_status pht_type_register(struct pht *t, const struct pht_layout *layout,
                                                               uint32_t *type);

/* The number of a type by name and version.  NOT_FOUND. */
PHEAP_API PHEAP_MUST_CHECK enum pheap_status pht_type_find(struct pht *t, const char *name, uint32_t version,
                                                           uint32_t *type);

/*
 * What a type is: *layout, and its first `room` fields in fields[], which layout->fields then is.  Names lie in the view.
 * *fingerprint (may be NULL) is the same for the same layout in every heap.  NOT_FOUND: so many types there are not.
 */
PHEAP_API PHEAP_MUST_CHECK enum pheap_status pht_type_show(struct pht *t, uint32_t type, struct pht_layout *layout,
                                                           struct pht_field *fields, uint32_t room,
                                                           uint64_t *fingerprint);

/* Any type is right. */
#define PHT_ANY_TYPE UINT32_MAX

/*
 * A record: one struct, whose fields may be values; zeroed, so that values are absent.  pht_record_at() says where its
 * bytes are (aligned to 16) and of which type it is (`found` may be NULL); WRONG_TYPE if it is not of `type`.  Fields other
 * than values are changed in place, by pheap_edit(), pheap_write() and so on.
 */
PHEAP_API PHEAP_MUST_CHECK enum pheap_status pht_record_new(struct pht *t, uint32_t type, pht_value *record);
PHEAP_API PHEAP_MUST_CHECK enum pheap_status pht_record_at(struct pht *t, pht_value record, uint32_t type,
                                                           uint64_t *offset, uint32_t *found);

/*
 * The value at `field` bytes from the beginning of the struct; PHT_ABSENT if none was stored.  To store pht_of(PHT_ABSENT)
 * removes it.  INVALID: the type has no value there.
 */
PHEAP_API PHEAP_MUST_CHECK enum pheap_status pht_record_get(struct pht *t, pht_value record, uint64_t field,
                                                            pht_value *value);
PHEAP_API PHEAP_MUST_CHECK enum pheap_status pht_record_set(struct pht *t, pht_value record, uint64_t field,
                                                            struct pht_any value);

/*
 * `record` takes over what `from` is: its type, its bytes, its values.  All that refers to `record` then finds that, which
 * is how objects come to a newer layout.  What it had goes, and `from` is left zeroed, to be discarded.  Structs of up to
 * 16 KiB.  INVALID: larger ones, or the block of `record` has no room for them; nothing was done.
 */
PHEAP_API PHEAP_MUST_CHECK enum pheap_status pht_record_take(struct pht *t, pht_value record, pht_value from);

/*
 * The type of a record whose bytes begin `offset` (as of pht_record_at()) behind `base`, for programs that remember where
 * records are, and look whether they still are what they were: by a load, without any check of `offset`.
 */
static inline uint32_t pht_record_type_at(const void *base, uint64_t offset)
{
    uint32_t kind;
    memcpy(&kind, (const char *)base + offset - 16, sizeof kind);
    return kind - PHT_RECORD;
}

/*
 * An array of `count` structs of a type without values, zeroed.  A huge one takes no disk until it is written.  Together
 * with a map this is a store of structs by key, whose index changes in the same transaction.  pht_array_at() says where
 * the first element is (aligned to 16) and how many there are; WRONG_TYPE if they are not of `type`.
 */
PHEAP_API PHEAP_MUST_CHECK enum pheap_status pht_array_new(struct pht *t, uint32_t type, uint64_t count,
                                                           pht_value *array);
PHEAP_API PHEAP_MUST_CHECK enum pheap_status pht_array_at(struct pht *t, pht_value array, uint32_t type,
                                                          uint64_t *offset, uint64_t *count);

/*
 * What an array or ring is, for tools and for whoever walks it: element i, from 0 to count - 1, is `size` bytes long, and at
 * `offset` + (first + i) mod capacity * size.  WRONG_TYPE if they are not of `type`.
 */
struct pht_elements {
    uint64_t offset;   /* of the first place */
    uint64_t size;     /* bytes of one */
    uint64_t capacity; /* places */
    uint64_t first;    /* ring: the place of the oldest; array: 0 */
    uint64_t count;    /* ring: how many there are; array: the capacity */
    uint32_t type;     /* of each */
};
PHEAP_API PHEAP_MUST_CHECK enum pheap_status pht_elements_at(struct pht *t, pht_value value, uint32_t type,
                                                             struct pht_elements *elements);

/*
 * A ring: the last `capacity` structs, at least 1.  pht_ring_push() gives the place for the next one, in which the oldest
 * may still be, and declares it, so that it can be stored to.  Index 0 is the oldest.
 */
PHEAP_API PHEAP_MUST_CHECK enum pheap_status pht_ring_new(struct pht *t, uint32_t type, uint64_t capacity,
                                                          pht_value *ring);
PHEAP_API PHEAP_MUST_CHECK enum pheap_status pht_ring_count(struct pht *t, pht_value ring, uint64_t *count,
                                                            uint64_t *capacity);
PHEAP_API PHEAP_MUST_CHECK enum pheap_status pht_ring_push(struct pht *t, pht_value ring, uint32_t type,
                                                           uint64_t *offset);
PHEAP_API PHEAP_MUST_CHECK enum pheap_status pht_ring_at(struct pht *t, pht_value ring, uint32_t type, uint64_t index,
                                                         uint64_t *offset);
/* Forget the oldest.  INVALID: there is none. */
PHEAP_API PHEAP_MUST_CHECK enum pheap_status pht_ring_pop(struct pht *t, pht_value ring);

/* --------------------------------------------------------------------------------------------------------- sessions */

/*
 * A session makes words good for longer than the transaction or reader they were read in: for as long as the program
 * remembers them, also when another process takes away the last reference.  A container that is to be taken apart waits
 * until every process with a session has said that it does not remember it, or holds it.  A hold is a counted reference
 * that belongs to the session, and goes with it, also when the process dies.
 *
 *     struct pht_session session;
 *     pht_session_begin(heap, true, -1, &session);
 *     ...                                          words are read, through readers and transactions, and remembered
 *     if (pht_session_due(&t, &session))           now and then, in a reader: another process waits
 *         pht_session_see(&t, &session, &words, &must_hold);
 *     if (must_hold) {                             in a write transaction, as the last thing:
 *         pht_session_see(&t, &session, &words, &must_hold);
 *         pheap_commit(t.txn, PHEAP_LAZY, NULL);
 *         pht_session_seen(&session);
 *     }
 *
 * Between the look that a word was read in and the moment at which pht_words tells of it there must be no
 * pht_session_see().  When the program has forgotten a word that it
 * may hold, pht_unhold() lets go of it.  What a container has in it need not be told: as long as
 * the container is held so is its content.  Values that have no others in them (str, bytes, int, float, block, array, ring)
 * are freed at once when they lose their last reference: who wants to keep such a one must pht_hold() it.
 *
 * Who does not look stops others from freeing memory: containers that went stay whole for as long as a process with a session
 * does not answer, unless it rests.  What loses its last reference is not taken apart in the same transaction in a heap that ever had a session.
 *
 * A session is used by one thread at a time.  In a forked child it is the parent's: see pht_session_adopt().
 */
struct pht_session {
    pheap *heap;   /* NULL: it has ended.  Its members are the library's */
    uint64_t mark; /* of containers that went up to this version none is remembered, or it is held */
    uint64_t next; /* what that becomes when the transaction has been committed; 0: nothing else */
    uint64_t attached_ns;
    uint32_t seat;
    uint32_t number;
    bool holds;
};

/* What a program remembers. */
struct pht_words {
    uint64_t count;                             /* how many words, about */
    bool (*has)(void *context, pht_value word); /* is this one of them? */
    bool (*next)(void *context, uint64_t *cursor,
                 pht_value *word);               /* each of them, from *cursor 0 on; false: no more */
    void (*held)(void *context, pht_value word); /* it was held, in a transaction; may be NULL */
    void *context;
};

/*
 * Begin: words that are read from now on are good.  `holds`: it can hold objects, which takes write transactions; without,
 * as in a handle that is read-only, what is remembered stops others from freeing it until it is forgotten.  Removes what dead
 * processes held, if no other writer is in the way.  The first session of a heap waits for the writer, timeout_ms at most
 * (-1: without end).  A handle has one session at a time.
 *
 * Errors: TIMEOUT, INVALID, IO, those of pheap_read_begin(), pht_look(), and of transactions.
 */
PHEAP_API PHEAP_MUST_CHECK enum pheap_status pht_session_begin(pheap *heap, bool holds, int64_t timeout_ms,
                                                               struct pht_session *session);

/*
 * Begin in a forked child what goes on from the parent's session, as it was copied by fork().  *whole: no word that the
 * parent remembered then has gone, but for those that it held: pht_is_held() tells of each whether the parent holds it still,
 * and then the child can.  Not whole: the parent has ended, or has looked around since; the words are not good any more.
 */
PHEAP_API PHEAP_MUST_CHECK enum pheap_status pht_session_adopt(pheap *heap, const struct pht_session *parents,
                                                               struct pht_session *session, bool *whole);

#define PHT_WAITING_AT 96 /* for pht_session_due() */

/* Does somebody wait for this session?  Cost: a comparison. */
static inline bool pht_session_due(const struct pht *t, const struct pht_session *session)
{
    uint64_t waiting[3];
    memcpy(waiting, t->base + t->registry + PHT_WAITING_AT, sizeof waiting);
    return waiting[0] != 0 && waiting[2] > session->mark;
}

/*
 * Look whether what is remembered has lost its last reference, in the view of a reader or of a transaction.  In a
 * transaction such objects get holds, and pht_session_seen() must be called when it was committed, and only then: nothing
 * may be rolled back in between.  In a reader, and without holds in general, *must_hold says that there are such; else the
 * session has seen all there was.  Cost: proportional to what waits or to the words, whichever is less.
 * Errors: INVALID, CORRUPT, and those of functions that store.
 */
PHEAP_API PHEAP_MUST_CHECK enum pheap_status pht_session_see(struct pht *t, struct pht_session *session,
                                                             const struct pht_words *words, bool *must_hold);
PHEAP_API PHEAP_MUST_CHECK enum pheap_status pht_session_seen(struct pht_session *session);

/*
 * A program that remembers nothing between its looks, and perhaps sleeps, lets its session rest: then it stops nobody, and
 * nothing is due.  Readers that are open stop others while they last.  Before it remembers a word again it wakes the session
 * in the reader or transaction that the word was read in, while that is open; a reader that may be evicted will not do.
 * What is held stays held.  Cost: that of pheap_set_mark().  Errors: INVALID, and those of pheap_set_mark().
 */
PHEAP_API PHEAP_MUST_CHECK enum pheap_status pht_session_rest(struct pht_session *session);
PHEAP_API PHEAP_MUST_CHECK enum pheap_status pht_session_wake(const struct pht *t, struct pht_session *session);

/* Does it rest? */
static inline bool pht_session_rests(const struct pht_session *session)
{
    return session->mark == PHEAP_MARK_RESTS;
}

/* Hold a value that is not to go, or let go of it.  To hold one twice is to hold it once. */
PHEAP_API PHEAP_MUST_CHECK enum pheap_status pht_hold(struct pht *t, const struct pht_session *session,
                                                      pht_value value);
PHEAP_API PHEAP_MUST_CHECK enum pheap_status pht_unhold(struct pht *t, const struct pht_session *session,
                                                        pht_value value);

/* Does this session, of any process, hold a value? */
PHEAP_API PHEAP_MUST_CHECK enum pheap_status pht_is_held(struct pht *t, const struct pht_session *session,
                                                         pht_value value, bool *held);

/* End it, with all its holds; it has ended whatever is returned, and what could not be dropped goes with the process. */
PHEAP_API PHEAP_MUST_CHECK enum pheap_status pht_session_end(struct pht_session *session, int64_t timeout_ms);

/* How many objects pht_collect() has found to be garbage and that some session has not seen yet. */
PHEAP_API PHEAP_MUST_CHECK enum pheap_status pht_waiting(struct pht *t, uint64_t *objects);

/* ---------------------------------------------------------------------------------------------- check and collect */

#define PHT_CENSUS_KINDS 32

/* What a heap of values has.  Set `size` before the call. */
struct pht_census {
    size_t size;
    uint64_t objects;                 /* that can be reached from the root map */
    uint64_t limbo;                   /* objects that wait to be taken apart, and those that only such refer to */
    uint64_t garbage;                 /* objects that cannot be reached: cycles, and what was made and stored nowhere */
    uint64_t unknown;                 /* blocks that are neither objects nor parts of such: of pheap_alloc() */
    uint64_t faults;                  /* found, including those beyond the first 1000 */
    uint64_t kinds[PHT_CENSUS_KINDS]; /* of `objects`, by enum pht_kind; records are at 0 */
};

/*
 * Walk all values of a snapshot and prove: every object and each of its parts is a live block, and belongs to one object
 * only; kinds, lengths, counts and links agree; every key can be found, and is there once; ordered keys ascend; every str
 * is UTF-8; every object is referred to as often as it says.  Each fault is told through `fault` (may be NULL), at most
 * 1000, the first of each object.  What is below is the business of pheap_check().
 *
 * Bounded in time and memory (40 bytes a block) on any input.  *census (may be NULL) is filled with OK and with CORRUPT.
 * Errors: CORRUPT, INVALID (not the view of a reader), NO_MEMORY.
 */
PHEAP_API PHEAP_MUST_CHECK enum pheap_status pht_check(struct pht *t, pheap_fault fault, void *context,
                                                       struct pht_census *census);

/*
 * Collect garbage: objects that cannot be reached from the root map, because they refer to each other, or because they
 * were made and never stored.  Takes a census of the newest version, then frees in small transactions, each committed as
 * `how` says; others may read and write meanwhile.  Killed at any moment it leaves a sound heap, and the next call begins
 * anew.  *collected (may be NULL): how many objects.
 *
 * What dead processes held is let go of first.  What living ones hold stays, with all that it refers to.  If there are
 * sessions, garbage is offered to them first; what not all of them have seen when the call ends is left to the next one, and
 * pht_waiting() tells how much that is.  It waits for nobody: a program that has a session itself calls
 * pht_session_see(), and then this again.
 *
 * Without a session, a value that no container has when the transaction that made or took it ends is garbage, also while
 * a program remembers its word.
 *
 * Errors: CORRUPT (nothing is collected in a damaged heap), NOT_FOUND (the heap has no values), BUSY (another collection
 * is at work, or somebody used pht_discard(), or stored a word that he remembered without a session: call it again),
 * NO_MEMORY, and those of pheap_read_begin(), pheap_begin() and pheap_commit().
 */
PHEAP_API PHEAP_MUST_CHECK enum pheap_status pht_collect(pheap *heap, enum pheap_durability how, uint64_t *collected);

#ifdef __cplusplus
}
#endif
#endif
