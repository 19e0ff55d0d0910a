/* SPDX-License-Identifier: MIT */
/*
 * Values: words, objects without references to others, and how they are compared.
 *
 * A word, by its lowest three bits:
 *
 *     000  an object's offset; 0: absent                    011  none, false, true, 0.0: 0x03, 0x0b, 0x13, 0x1b
 *     001  an int of 61 bits, signed                        100  a str of up to 7 bytes: length in bits 3 to 5, bytes
 *     010  a float: its bits rotated left by 3, the two          from bit 8 on, everything else 0
 *     110  lowest, which say nothing new, replaced by 10    101  bytes likewise
 *
 * What fits in a word is never an object, so equal words are equal values (but for a NaN, which is always an object),
 * and unequal words without objects are unequal, unless both are numbers.
 */
#ifndef TYPES_VALUE_H
#define TYPES_VALUE_H

#include "types/heap.h"

#include <string.h>

#define PT_WORD_NONE UINT64_C(0x03)
#define PT_WORD_FALSE UINT64_C(0x0b)
#define PT_WORD_TRUE UINT64_C(0x13)
#define PT_WORD_ZERO UINT64_C(0x1b)

#define PT_DEPTH_MAX 64
#define PT_KEY_ELEMENTS_MAX (1u << 16) /* of a key */
#define PT_TUPLE_MAX (UINT64_C(1) << 32)

/*
 * A value that is looked for or compared: its content, and its word if it has one (PHT_ABSENT if it would need an object).
 * `any` is never PHT_VALUE.  A tuple or frozenset without a word is one that a caller gave: any.bytes are its elements.
 */
struct pt_key {
    struct pht_any any;
    pht_value word;
};

/* How far a comparison or hash may still go into tuples and frozensets. */
struct pt_bounds {
    unsigned depth;
    unsigned least;    /* the lowest depth so far */
    uint32_t elements; /* that may still be looked at */
};
extern const struct pt_bounds pt_key_bounds;

/* UTF-8, without surrogates and overlong forms? */
bool pt_is_utf8(const void *bytes, uint64_t length);

/* Make a key of what a caller gave; *key has pointers into itself, so that it cannot be copied. */
enum pheap_status pt_key(struct pht *t, const struct pht_any *any, struct pt_key *key);

/* The key of a word that is in the heap. */
enum pheap_status pt_key_of(struct pht *t, pht_value word, struct pt_key *key);

/* The word for a key: an object is made if there must be one; it has no reference yet. */
enum pheap_status pt_key_make(struct pht *t, const struct pt_key *key, pht_value *word);

/* For a value to be stored: make the word, and count the reference. */
enum pheap_status pt_store(struct pht *t, const struct pht_any *any, pht_value *word);

/* Is a number, without decoding?  Words of objects are not known to be. */
static inline bool pt_is_number_word(pht_value word)
{
    return (word & 7) == 1 || (word & 3) == 2 || word == PT_WORD_FALSE || word == PT_WORD_TRUE || word == PT_WORD_ZERO;
}

/* Is `word` equal to `key`?  Quick where words can tell. */
enum pheap_status pt_key_equal_slow(struct pht *t, const struct pt_key *key, pht_value word, bool *equal);
static inline enum pheap_status pt_key_equal(struct pht *t, const struct pt_key *key, pht_value word, bool *equal)
{
    if (word == key->word) {
        *equal = true;
        return PHEAP_OK;
    }
    if (key->word != PHT_ABSENT && !pt_is_object(key->word) && !pt_is_object(word) && !pt_is_number_word(key->word)) {
        *equal = false;
        return PHEAP_OK;
    }
    if (key->word == PHT_ABSENT && pt_is_object(word) && (key->any.kind == PHT_STR || key->any.kind == PHT_BYTES)) {
        const struct pt_leaf *leaf = pt_at(t, word, sizeof *leaf);
        if (leaf != NULL && leaf->kind == key->any.kind && leaf->length == key->any.length &&
            pt_at(t, word, sizeof *leaf + key->any.length) != NULL) {
            *equal = memcmp(leaf + 1, key->any.bytes, key->any.length) == 0;
            return PHEAP_OK;
        }
    }
    return pt_key_equal_slow(t, key, word, equal);
}

enum pheap_status pt_key_hash(struct pht *t, const struct pt_key *key, uint64_t *hash);
enum pheap_status pt_key_compare(struct pht *t, const struct pt_key *key, const struct pt_key *other, int *order);

/* Has it an order, and all that is in it, if it is a tuple?  WRONG_TYPE if not. */
enum pheap_status pt_key_ordered(struct pht *t, const struct pt_key *key);

/* ------------------------------------------------------------------------------------------------------ numbers */

/* Of two numbers; unordered: one is a NaN. */
bool pt_number_order(const struct pht_any *a, const struct pht_any *b, int *order);
uint64_t pt_number_hash(const uint64_t key[2], const struct pht_any *number);

static inline bool pt_is_number(const struct pht_any *any)
{
    return any->kind == PHT_INT || any->kind == PHT_FLOAT || any->kind == PHT_BOOL;
}

/* --------------------------------------------------------------------------------------- tuples and frozensets */

/* Element `index` of words in the heap, or, if they are NULL, of what a caller gave. */
enum pheap_status pt_key_element(struct pht *t, const pt_word *words, const struct pht_any *given, uint64_t index,
                                 struct pt_key *key);

/* Equality and hash, as part of those of something larger.  After a failure `bounds` is worthless. */
enum pheap_status pt_key_equal_within(struct pht *t, const struct pt_key *a, const struct pt_key *b,
                                      struct pt_bounds *bounds, bool *equal);
enum pheap_status pt_key_hash_within(struct pht *t, const struct pt_key *key, const uint64_t *secret,
                                     struct pt_bounds *bounds, uint64_t *hash);
enum pheap_status pt_frozenset_equal(struct pht *t, const struct pt_key *a, const struct pt_key *b,
                                     struct pt_bounds *bounds, bool *equal);
enum pheap_status pt_frozenset_hash(struct pht *t, const struct pt_key *key, const uint64_t *secret,
                                    struct pt_bounds *bounds, uint64_t *hash);

/* The key of the hash. */
enum pheap_status pt_secret(struct pht *t, uint64_t secret[2]);

/* The words of a tuple; NULL if it is damaged. */
const pt_word *pt_tuple_words(struct pht *t, pht_value tuple, uint64_t *count);

/* Make one of elements that pt_key() has seen. */
enum pheap_status pt_tuple_make(struct pht *t, const struct pht_any *elements, uint64_t count, pht_value *tuple);
enum pheap_status pt_frozenset_make(struct pht *t, const struct pht_any *elements, uint64_t count, pht_value *set);

#endif
