/* SPDX-License-Identifier: MIT */
/* Words and objects of values: making them, taking them apart, equality, order, hash. */
#include "types/value.h"

#include "types/siphash.h"

#include <inttypes.h>
#include <math.h>

#define INT_MIN_WORD (-(INT64_C(1) << 60)) /* of an int in a word */
#define INT_MAX_WORD ((INT64_C(1) << 60) - 1)
#define SHORT_MAX 7             /* bytes of a str or bytes in a word */
#define ELEMENTS_MAX (1u << 24) /* that one comparison or hash looks at: shared tuples may stand for many more */

const char *pht_kind_name(enum pht_kind kind)
{
    static const char *const names[] = {"nothing", "none",  "bool",  "int",   "float",       "str",
                                        "bytes",   "block", "type",  "array", "ring",        "map",
                                        "set",     "list",  "tuple", "queue", "ordered map", "frozenset"};
    if ((unsigned)kind < sizeof names / sizeof names[0])
        return names[kind];
    return kind >= PHT_RECORD ? "record" : "?";
}

/* ----------------------------------------------------------------------------------------------------------- words */

static bool word_of_int(int64_t value, pht_value *word)
{
    if (value < INT_MIN_WORD || value > INT_MAX_WORD)
        return false;
    *word = (uint64_t)value << 3 | 1;
    return true;
}

/*
 * Of the eleven bits of exponent the highest two are 01 or 10 for magnitudes about 1, with a third bit that says which:
 * 011 or 100.  Rotated by 3, the third is on top and the other two at the bottom.  (So does CRuby.)
 */
static bool word_of_float(double value, pht_value *word)
{
    uint64_t bits;
    memcpy(&bits, &value, sizeof bits);
    if (bits == 0) {
        *word = PT_WORD_ZERO;
        return true;
    }
    if ((bits >> 60 & 7) != 3 && (bits >> 60 & 7) != 4)
        return false;
    *word = (pt_rotate(bits, 3) & ~UINT64_C(3)) | 2;
    return true;
}

static double float_of_word(pht_value word)
{
    double value;
    uint64_t bits = (word & ~UINT64_C(3)) | (2 - (word >> 63));
    bits = pt_rotate(bits, 61);
    memcpy(&value, &bits, sizeof value);
    return value;
}

static bool word_of_bytes(const void *bytes, uint64_t length, unsigned tag, pht_value *word)
{
    if (length > SHORT_MAX)
        return false;
    uint64_t made = 0;
    if (length > 0)
        memcpy((unsigned char *)&made + 1, bytes, length);
    *word = made | length << 3 | tag;
    return true;
}

/* The word of a key without an object, if there is one. */
static bool word_of(const struct pht_any *any, pht_value *word)
{
    switch (any->kind) {
    case PHT_NONE:
        *word = PT_WORD_NONE;
        return true;
    case PHT_BOOL:
        *word = any->integer != 0 ? PT_WORD_TRUE : PT_WORD_FALSE;
        return true;
    case PHT_INT:
        return any->length == 0 && word_of_int(any->integer, word);
    case PHT_FLOAT:
        return word_of_float(any->real, word);
    case PHT_STR:
        return word_of_bytes(any->bytes, any->length, 4, word);
    case PHT_BYTES:
        return word_of_bytes(any->bytes, any->length, 5, word);
    default:
        return false;
    }
}

/* ----------------------------------------------------------------------------------------------------- checking */

/* The length of the UTF-8 sequence that begins at `at`, 0 if there is none: table 3-7 of the Unicode standard. */
static unsigned sequence(const unsigned char *at, uint64_t left)
{
    unsigned char low = 0x80, high = 0xbf, first = at[0];
    unsigned length = first < 0x80 ? 1 : first < 0xc2 ? 0 : first < 0xe0 ? 2 : first < 0xf0 ? 3 : first < 0xf5 ? 4 : 0;
    if (length == 0 || length > left)
        return 0;
    if (first == 0xe0)
        low = 0xa0;
    else if (first == 0xed)
        high = 0x9f; /* no surrogates */
    else if (first == 0xf0)
        low = 0x90;
    else if (first == 0xf4)
        high = 0x8f;
    for (unsigned i = 1; i < length; i++, low = 0x80, high = 0xbf)
        if (at[i] < low || at[i] > high)
            return 0;
    return length;
}

bool pt_is_utf8(const void *bytes, uint64_t length)
{
    const unsigned char *at = bytes;
    while (length > 0) {
        uint64_t eight;
        unsigned step = 8;
        if (length >= 8) {
            memcpy(&eight, at, 8);
            if ((eight & UINT64_C(0x8080808080808080)) != 0)
                step = sequence(at, length);
        } else {
            step = sequence(at, length);
        }
        if (step == 0)
            return false;
        at += step;
        length -= step;
    }
    return true;
}

/* Bring an int with limbs into its one form: no leading zeros, no limbs where int64_t can have it. */
static void shorten(struct pht_any *any)
{
    const uint64_t *limbs = any->bytes;
    while (any->length > 0 && limbs[any->length - 1] == 0)
        any->length--;
    const uint64_t low = any->length > 0 ? limbs[0] : 0, most = (uint64_t)INT64_MAX + (any->negative != 0);
    if (any->length > 1 || low > most)
        return;
    any->integer = any->negative != 0 ? (int64_t)-low : (int64_t)low;
    any->negative = 0;
    any->length = 0;
    any->bytes = NULL;
}

static enum pheap_status refuse_word(pht_value word)
{
    if (word == PHT_ABSENT)
        return pheap_fail_with(PHEAP_INVALID, "there is no value (PHT_ABSENT) where one is needed");
    return pheap_fail_with(PHEAP_INVALID, "the word 0x%" PRIx64 " is no value", word);
}

/* A key of what a caller gave; of tuples and frozensets only what they say of themselves. */
static enum pheap_status key_given(struct pht *t, const struct pht_any *any, struct pt_key *key)
{
    if (any->kind == PHT_VALUE) {
        enum pheap_status status = pt_key_of(t, any->value, key);
        if (status == PHEAP_OK && pt_is_object(any->value) &&
            pt_is_going((const struct pt_head *)(const void *)(t->base + any->value)))
            status = pheap_fail_with(PHEAP_INVALID, "the %s at 0x%" PRIx64 " lost its last reference: it is going",
                                     pht_kind_name((enum pht_kind)key->any.kind), any->value);
        if (status == PHEAP_OK && !pt_is_object(any->value) && key->any.kind == PHT_STR &&
            !pt_is_utf8(key->any.bytes, key->any.length)) /* what is in the heap was looked at when it was made */
            status = refuse_word(any->value);
        return status;
    }
    key->any = *any;
    key->word = PHT_ABSENT;
    switch (any->kind) {
    case PHT_BOOL:
        key->any.integer = any->integer != 0;
        break;
    case PHT_NONE:
    case PHT_FLOAT:
        break;
    case PHT_INT:
        if (any->length > PT_LENGTH_MAX / 8 || (any->length > 0 && any->bytes == NULL))
            return pheap_fail_with(PHEAP_INVALID, "an int of %" PRIu64 " limbs, or of limbs at NULL", any->length);
        if (any->length > 0)
            shorten(&key->any);
        break;
    case PHT_STR:
    case PHT_BYTES:
        if (any->length > PT_LENGTH_MAX || (any->length > 0 && any->bytes == NULL))
            return pheap_fail_with(PHEAP_INVALID, "a %s of %" PRIu64 " bytes, or at NULL",
                                   pht_kind_name((enum pht_kind)any->kind), any->length);
        if (any->kind == PHT_STR && !pt_is_utf8(any->bytes, any->length))
            return pheap_fail_with(PHEAP_INVALID, "a str that is not UTF-8");
        break;
    case PHT_TUPLE:
    case PHT_FROZENSET:
        if (any->value == PHT_ABSENT && any->length <= PT_TUPLE_MAX && (any->length == 0 || any->bytes != NULL))
            break;
        __attribute__((fallthrough)); /* one that pht_show() gave, or an impossible one */
    default:
        return pheap_fail_with(PHEAP_INVALID,
                               "%s (kind %u) is no kind of value to be put in; give what is in the heap as "
                               "pht_of()",
                               pht_kind_name((enum pht_kind)any->kind), any->kind);
    }
    if (!word_of(&key->any, &key->word))
        key->word = PHT_ABSENT;
    return PHEAP_OK;
}

/* How far a comparison or hash may still go into tuples and frozensets, which may contain each other. */
static enum pheap_status go_deeper(struct pt_bounds *bounds)
{
    if (bounds->depth == 0 || bounds->elements == 0)
        return pheap_fail_with(PHEAP_INVALID,
                               "tuples or frozensets that are nested more than %u deep, or have more than %u elements, "
                               "as keys %u",
                               PT_DEPTH_MAX, ELEMENTS_MAX, PT_KEY_ELEMENTS_MAX);
    bounds->elements--;
    if (bounds->depth < bounds->least)
        bounds->least = bounds->depth;
    return PHEAP_OK;
}

static const struct pt_bounds whole = {.depth = PT_DEPTH_MAX, .least = PT_DEPTH_MAX, .elements = ELEMENTS_MAX};

static bool is_compound(const struct pht_any *any)
{
    return any->kind == PHT_TUPLE || any->kind == PHT_FROZENSET;
}

static enum pheap_status refuse_key(const struct pt_key *key)
{
    return pheap_fail_with(PHEAP_INVALID, "%s is unhashable: it cannot be a key",
                           pht_kind_name((enum pht_kind)key->any.kind));
}

static enum pheap_status check_given(struct pht *t, const struct pht_any *any, struct pt_bounds *bounds, bool hashable);

/* An element of what a caller gave; one of a frozenset must be a key. */
static enum pheap_status check_element(struct pht *t, const struct pht_any *any, struct pt_bounds *bounds, bool member)
{
    struct pt_bounds own = *bounds;
    if (member && own.elements > PT_KEY_ELEMENTS_MAX)
        own.elements = PT_KEY_ELEMENTS_MAX;
    const uint32_t had = own.elements;
    enum pheap_status status = check_given(t, any, &own, member);
    bounds->elements -= had - own.elements;
    return status;
}

/* All that a caller gave, so that nothing is found wrong when something was changed already. */
static enum pheap_status check_given(struct pht *t, const struct pht_any *any, struct pt_bounds *bounds, bool hashable)
{
    struct pt_key key;
    uint64_t hash;
    enum pheap_status status = go_deeper(bounds);
    if (status == PHEAP_OK)
        status = key_given(t, any, &key);
    if (status != PHEAP_OK)
        return status;
    if (any->kind == PHT_VALUE || !is_compound(any)) {
        if (hashable && pt_is_object(key.word) && any->kind == PHT_VALUE)
            return pt_key_hash(t, &key, &hash);
        return hashable && key.any.kind > PHT_BYTES ? refuse_key(&key) : PHEAP_OK;
    }
    bounds->depth--;
    const struct pht_any *elements = any->bytes;
    for (uint64_t i = 0; i < any->length && status == PHEAP_OK; i++)
        status = check_element(t, &elements[i], bounds, hashable || any->kind == PHT_FROZENSET);
    bounds->depth++;
    return status;
}

enum pheap_status pt_key(struct pht *t, const struct pht_any *any, struct pt_key *key)
{
    struct pt_bounds bounds = whole;
    enum pheap_status status = is_compound(any) ? check_given(t, any, &bounds, false) : PHEAP_OK;
    return status == PHEAP_OK ? key_given(t, any, key) : status;
}

/* -------------------------------------------------------------------------------------------------- what is there */

/* Content of an object without references. */
static enum pheap_status show_leaf(struct pht *t, uint64_t offset, struct pht_any *any)
{
    const struct pt_leaf *leaf = pt_at(t, offset, sizeof *leaf);
    if (leaf == NULL)
        return PHEAP_CORRUPT;
    uint64_t bytes = leaf->length;
    if (any->kind == PHT_FLOAT) {
        memcpy(&any->real, &leaf->length, sizeof any->real);
        return PHEAP_OK;
    }
    if (any->kind == PHT_INT) {
        any->negative = bytes & 1;
        any->length = bytes >> 1;
        bytes = any->length > PT_LENGTH_MAX ? UINT64_MAX : any->length * 8;
    } else {
        any->length = bytes;
    }
    if (bytes > t->size - offset - sizeof *leaf)
        return pt_corrupt(t, offset, "it is longer than the heap");
    if (any->kind > PHT_BLOCK) {
        any->value = offset;
        any->length = 0;
        return PHEAP_OK;
    }
    any->bytes = leaf + 1;
    if (any->kind != PHT_INT)
        return PHEAP_OK;
    if (any->length == 0 || ((const pt_word *)any->bytes)[any->length - 1] == 0)
        return pt_corrupt(t, offset, "an int that begins with zeros");
    shorten(any);
    return PHEAP_OK;
}

/* Kind and content of *word; the bytes of short ones are in *word. */
static enum pheap_status show(struct pht *t, const pht_value *word, struct pht_any *any)
{
    const pht_value value = *word;
    memset(any, 0, sizeof *any);
    switch (value & 7) {
    case 0:
        if ((value & 15) != 0 || value == PHT_ABSENT)
            return refuse_word(value);
        const struct pt_head *head = pt_head(t, value);
        if (head == NULL)
            return PHEAP_CORRUPT;
        any->kind = head->kind < PHT_RECORD ? head->kind : PHT_RECORD;
        if (!pt_refers(head->kind))
            return show_leaf(t, value, any);
        any->value = value;
        return PHEAP_OK;
    case 1:
        any->kind = PHT_INT;
        any->integer = (int64_t)value >> 3;
        return PHEAP_OK;
    case 2:
    case 6:
        any->kind = PHT_FLOAT;
        any->real = float_of_word(value);
        return PHEAP_OK;
    case 4:
    case 5:
        any->kind = (value & 7) == 4 ? PHT_STR : PHT_BYTES;
        any->length = value >> 3 & 7;
        any->bytes = (const char *)word + 1;
        if ((value & 0xc0) != 0 || (any->length < SHORT_MAX && value >> (8 + 8 * any->length) != 0))
            return refuse_word(value);
        return PHEAP_OK;
    case 3:
        any->kind = value == PT_WORD_NONE ? PHT_NONE : value == PT_WORD_ZERO ? PHT_FLOAT : PHT_BOOL;
        any->integer = value == PT_WORD_TRUE; /* of 0.0 all bits are 0, too */
        if (value <= PT_WORD_ZERO)
            return PHEAP_OK;
        return refuse_word(value);
    default:
        return refuse_word(value);
    }
}

enum pheap_status pt_key_of(struct pht *t, pht_value word, struct pt_key *key)
{
    key->word = word;
    return show(t, &key->word, &key->any);
}

enum pheap_status pht_show(struct pht *t, const pht_value *value, struct pht_any *any)
{
    struct pht_any shown;
    if (value == NULL || any == NULL)
        return pheap_fail_with(PHEAP_INVALID, "pht_show: the value or its content is NULL");
    enum pheap_status status = show(t, value, &shown);
    if (status == PHEAP_OK)
        *any = shown;
    return status;
}

enum pheap_status pht_kind_of(struct pht *t, pht_value value, enum pht_kind *kind)
{
    struct pht_any any;
    if (kind == NULL)
        return pheap_fail_with(PHEAP_INVALID, "pht_kind_of: kind is NULL");
    enum pheap_status status = show(t, &value, &any);
    if (status == PHEAP_OK)
        *kind = (enum pht_kind)any.kind;
    return status;
}

/* --------------------------------------------------------------------------------------------------------- making */

/* An object for what fits in no word. */
static enum pheap_status make_leaf(struct pht *t, const struct pht_any *any, pht_value *word)
{
    uint64_t offset;
    struct pt_leaf head = {.kind = any->kind, .length = any->length};
    uint64_t bytes = any->length;
    uint64_t low = 0;
    const void *content = any->bytes;
    if (any->kind == PHT_FLOAT) {
        memcpy(&head.length, &any->real, sizeof any->real);
        bytes = 0;
    } else if (any->kind == PHT_INT && any->length == 0) { /* between 61 and 64 bits */
        low = any->integer < 0 ? -(uint64_t)any->integer : (uint64_t)any->integer;
        head.length = 2 + (any->integer < 0);
        content = &low;
        bytes = sizeof low;
    } else if (any->kind == PHT_INT) {
        head.length = any->length * 2 + (any->negative != 0);
        bytes = any->length * 8;
    }
    enum pheap_status status = pt_alloc(t, sizeof head + bytes, false, &offset);
    if (status != PHEAP_OK)
        return status;
    memcpy(t->base + offset, &head, sizeof head);
    if (bytes > 0)
        memcpy(t->base + offset + sizeof head, content, bytes);
    *word = offset;
    return PHEAP_OK;
}

enum pheap_status pt_key_make(struct pht *t, const struct pt_key *key, pht_value *word)
{
    if (key->word != PHT_ABSENT) {
        *word = key->word;
        return PHEAP_OK;
    }
    enum pheap_status status = pt_may_change(t);
    if (status != PHEAP_OK)
        return status;
    if (key->any.kind == PHT_TUPLE)
        return pt_tuple_make(t, key->any.bytes, key->any.length, word);
    if (key->any.kind == PHT_FROZENSET)
        return pt_frozenset_make(t, key->any.bytes, key->any.length, word);
    return make_leaf(t, &key->any, word);
}

enum pheap_status pt_store(struct pht *t, const struct pht_any *any, pht_value *word)
{
    struct pt_key key;
    enum pheap_status status = pt_key(t, any, &key);
    if (status == PHEAP_OK)
        status = pt_key_make(t, &key, word);
    return status == PHEAP_OK ? pt_refer(t, *word) : status;
}

enum pheap_status pht_make(struct pht *t, struct pht_any any, pht_value *value)
{
    pht_value made;
    struct pt_key key;
    if (value == NULL)
        return pheap_fail_with(PHEAP_INVALID, "pht_make: value is NULL");
    enum pheap_status status = pt_key(t, &any, &key);
    if (status == PHEAP_OK)
        status = pt_key_make(t, &key, &made);
    if (status == PHEAP_OK && key.word == PHT_ABSENT)
        status = pt_limbo_work(t);
    if (status == PHEAP_OK)
        *value = made;
    return status;
}

enum pheap_status pht_block_new(struct pht *t, uint64_t length, pht_value *block)
{
    uint64_t offset;
    if (block == NULL || length > (UINT64_C(1) << 46) - sizeof(struct pt_leaf))
        return pheap_fail_with(PHEAP_INVALID, "pht_block_new: a block of %" PRIu64 " bytes, or block is NULL", length);
    enum pheap_status status = pt_may_change(t);
    if (status == PHEAP_OK)
        status = pt_alloc(t, sizeof(struct pt_leaf) + length, true, &offset);
    if (status != PHEAP_OK)
        return status;
    struct pt_leaf *leaf = (struct pt_leaf *)(void *)(t->base + offset);
    leaf->kind = PHT_BLOCK;
    leaf->length = length;
    status = pt_limbo_work(t);
    if (status == PHEAP_OK)
        *block = offset;
    return status;
}

enum pheap_status pht_block_at(struct pht *t, pht_value block, uint64_t *offset, uint64_t *length)
{
    const void *head;
    struct pht_any any;
    if (offset == NULL || length == NULL)
        return pheap_fail_with(PHEAP_INVALID, "pht_block_at: offset or length is NULL");
    enum pheap_status status = pt_use(t, block, PHT_BLOCK, sizeof(struct pt_leaf), &head);
    if (status == PHEAP_OK)
        status = show(t, &block, &any);
    if (status != PHEAP_OK)
        return status;
    *offset = block + sizeof(struct pt_leaf);
    *length = any.length;
    return PHEAP_OK;
}

/* Another block with the first bytes of one that is `old` bytes long. */
static enum pheap_status move_block(struct pht *t, pht_value *block, uint64_t old, uint64_t length)
{
    pht_value made;
    const pht_value from = *block;
    enum pheap_status status = pht_block_new(t, length, &made);
    if (status != PHEAP_OK)
        return status;
    const uint64_t kept = old < length ? old : length;
    if (kept > 0)
        memcpy(t->base + made + sizeof(struct pt_leaf), t->base + from + sizeof(struct pt_leaf), kept);
    *block = made;
    return pht_discard(t, from);
}

enum pheap_status pht_block_resize(struct pht *t, pht_value *block, uint64_t length, bool move)
{
    uint64_t offset, old, usable;
    struct pt_leaf *leaf;
    if (block == NULL || length > (UINT64_C(1) << 46) - sizeof *leaf)
        return pheap_fail_with(PHEAP_INVALID, "pht_block_resize: %" PRIu64 " bytes, or block is NULL", length);
    enum pheap_status status = pt_may_change(t);
    if (status == PHEAP_OK)
        status = pht_block_at(t, *block, &offset, &old);
    if (status == PHEAP_OK)
        status = pheap_usable_size(t->txn, *block, &usable);
    if (status == PHEAP_BAD_OFFSET || (status == PHEAP_OK && usable < sizeof *leaf))
        return pt_corrupt(t, *block, "a block that is none of the heap's");
    if (status != PHEAP_OK)
        return status;
    const uint64_t room = usable - sizeof *leaf;
    if (length > room && !move)
        return pheap_fail_with(PHEAP_NO_SPACE, "the block at 0x%" PRIx64 " has room for %" PRIu64 " bytes where it is",
                               *block, room);
    if (length > room || (length < room / 2 && move && usable > 64))
        return move_block(t, block, old, length);
    status = pt_edit(t, *block, sizeof *leaf, &leaf);
    if (status == PHEAP_OK && length > old)
        status = pt_edit(t, offset + old, length - old, NULL);
    if (status != PHEAP_OK)
        return status;
    leaf->length = length;
    if (length > old)
        memset(t->base + offset + old, 0, length - old);
    return PHEAP_OK;
}

/* ------------------------------------------------------------------------------------------------------- equality */

/* Of keys, of which a map may have many: what goes into one, all are asked again and again. */
const struct pt_bounds pt_key_bounds = {.depth = PT_DEPTH_MAX, .least = PT_DEPTH_MAX, .elements = PT_KEY_ELEMENTS_MAX};

static bool is_bytes(uint32_t kind)
{
    return kind == PHT_STR || kind == PHT_BYTES || kind == PHT_BLOCK;
}

static bool same_bytes(const struct pht_any *a, const struct pht_any *b)
{
    return a->length == b->length && (a->length == 0 || memcmp(a->bytes, b->bytes, a->length) == 0);
}

static bool is_nan(const struct pht_any *any)
{
    return any->kind == PHT_FLOAT && isnan(any->real);
}

/* A tuple, in the heap or as a caller gave it. */
struct tuple {
    const pt_word *words;
    const struct pht_any *given; /* NULL: in the heap */
    uint64_t count;
};

static enum pheap_status tuple_of(struct pht *t, const struct pt_key *key, struct tuple *tuple)
{
    *tuple = (struct tuple){.given = key->any.bytes, .count = key->any.length};
    if (key->word == PHT_ABSENT)
        return PHEAP_OK;
    tuple->words = pt_tuple_words(t, key->word, &tuple->count);
    return tuple->words == NULL ? PHEAP_CORRUPT : PHEAP_OK;
}

enum pheap_status pt_key_element(struct pht *t, const pt_word *words, const struct pht_any *given, uint64_t index,
                                 struct pt_key *key)
{
    return words == NULL ? key_given(t, &given[index], key) : pt_key_of(t, words[index], key);
}

static enum pheap_status equal_tuples(struct pht *t, const struct pt_key *a, const struct pt_key *b,
                                      struct pt_bounds *bounds, bool *equal)
{
    struct tuple m, n;
    struct pt_key x, y;
    enum pheap_status status = tuple_of(t, a, &m);
    if (status == PHEAP_OK)
        status = tuple_of(t, b, &n);
    if (status != PHEAP_OK)
        return status;
    bounds->depth--;
    *equal = m.count == n.count;
    for (uint64_t i = 0; i < m.count && *equal; i++) {
        status = pt_key_element(t, m.words, m.given, i, &x);
        if (status == PHEAP_OK)
            status = pt_key_element(t, n.words, n.given, i, &y);
        if (status == PHEAP_OK)
            status = pt_key_equal_within(t, &x, &y, bounds, equal);
        if (status != PHEAP_OK)
            return status;
    }
    bounds->depth++;
    return PHEAP_OK;
}

enum pheap_status pt_key_equal_within(struct pht *t, const struct pt_key *a, const struct pt_key *b,
                                      struct pt_bounds *bounds, bool *equal)
{
    int order;
    enum pheap_status status = go_deeper(bounds);
    if (status != PHEAP_OK)
        return status;
    if (a->word != PHT_ABSENT && a->word == b->word) {
        *equal = true;
    } else if (pt_is_number(&a->any) && pt_is_number(&b->any)) {
        *equal = pt_number_order(&a->any, &b->any, &order) && order == 0;
    } else if (a->any.kind != b->any.kind) {
        *equal = false;
    } else if (is_bytes(a->any.kind)) {
        *equal = same_bytes(&a->any, &b->any);
    } else if (a->any.kind == PHT_TUPLE) {
        return equal_tuples(t, a, b, bounds, equal);
    } else if (a->any.kind == PHT_FROZENSET) {
        return pt_frozenset_equal(t, a, b, bounds, equal);
    } else {
        *equal = a->any.kind == PHT_NONE;
    }
    return PHEAP_OK;
}

enum pheap_status pt_key_equal_slow(struct pht *t, const struct pt_key *key, pht_value word, bool *equal)
{
    struct pt_key other;
    struct pt_bounds bounds = whole;
    enum pheap_status status = pt_key_of(t, word, &other);
    return status == PHEAP_OK ? pt_key_equal_within(t, key, &other, &bounds, equal) : status;
}

enum pheap_status pht_equal(struct pht *t, struct pht_any a, struct pht_any b, bool *equal)
{
    struct pt_key x, y;
    struct pt_bounds bounds = whole;
    if (equal == NULL)
        return pheap_fail_with(PHEAP_INVALID, "pht_equal: equal is NULL");
    enum pheap_status status = pt_key(t, &a, &x);
    if (status == PHEAP_OK)
        status = pt_key(t, &b, &y);
    return status == PHEAP_OK ? pt_key_equal_within(t, &x, &y, &bounds, equal) : status;
}

/* ---------------------------------------------------------------------------------------------------------- order */

static int order_of(uint64_t a, uint64_t b)
{
    return (a > b) - (a < b);
}

static int bytes_order(const struct pht_any *a, const struct pht_any *b)
{
    uint64_t common = a->length < b->length ? a->length : b->length;
    int order = common == 0 ? 0 : memcmp(a->bytes, b->bytes, common);
    return order != 0 ? (order > 0) - (order < 0) : order_of(a->length, b->length);
}

static enum pheap_status order_keys(struct pht *t, const struct pt_key *a, const struct pt_key *b,
                                    struct pt_bounds *bounds, int *order);

static enum pheap_status order_tuples(struct pht *t, const struct pt_key *a, const struct pt_key *b,
                                      struct pt_bounds *bounds, int *order)
{
    struct tuple m, n;
    struct pt_key x, y;
    enum pheap_status status = tuple_of(t, a, &m);
    if (status == PHEAP_OK)
        status = tuple_of(t, b, &n);
    if (status != PHEAP_OK)
        return status;
    bounds->depth--;
    *order = 0;
    for (uint64_t i = 0; i < m.count && i < n.count && *order == 0; i++) {
        bool equal;
        status = pt_key_element(t, m.words, m.given, i, &x);
        if (status == PHEAP_OK)
            status = pt_key_element(t, n.words, n.given, i, &y);
        if (status == PHEAP_OK) /* elements without an order may be equal, as none is to itself */
            status = pt_key_equal_within(t, &x, &y, bounds, &equal);
        if (status == PHEAP_OK && !equal)
            status = order_keys(t, &x, &y, bounds, order);
        if (status != PHEAP_OK)
            return status;
    }
    bounds->depth++;
    if (*order == 0)
        *order = order_of(m.count, n.count);
    return PHEAP_OK;
}

static enum pheap_status order_keys(struct pht *t, const struct pt_key *a, const struct pt_key *b,
                                    struct pt_bounds *bounds, int *order)
{
    enum pheap_status status = go_deeper(bounds);
    if (status != PHEAP_OK)
        return status;
    if (pt_is_number(&a->any) && pt_is_number(&b->any) && !is_nan(&a->any) && !is_nan(&b->any)) {
        (void)pt_number_order(&a->any, &b->any, order);
    } else if (a->any.kind == b->any.kind && (a->any.kind == PHT_STR || a->any.kind == PHT_BYTES)) {
        *order = bytes_order(&a->any, &b->any);
    } else if (a->any.kind == PHT_TUPLE && b->any.kind == PHT_TUPLE) {
        return order_tuples(t, a, b, bounds, order);
    } else {
        return pheap_fail_with(PHEAP_WRONG_TYPE, "%s and %s have no order%s", pht_kind_name((enum pht_kind)a->any.kind),
                               pht_kind_name((enum pht_kind)b->any.kind),
                               is_nan(&a->any) || is_nan(&b->any) ? ": one is not a number (NaN)" : "");
    }
    return PHEAP_OK;
}

enum pheap_status pt_key_compare(struct pht *t, const struct pt_key *key, const struct pt_key *other, int *order)
{
    struct pt_bounds bounds = whole;
    return order_keys(t, key, other, &bounds, order);
}

static enum pheap_status ordered(struct pht *t, const struct pt_key *key, struct pt_bounds *bounds)
{
    struct tuple tuple;
    struct pt_key element;
    enum pheap_status status = go_deeper(bounds);
    if (status != PHEAP_OK)
        return status;
    if (key->any.kind != PHT_TUPLE) {
        const bool text = key->any.kind == PHT_STR || key->any.kind == PHT_BYTES;
        if (text || (pt_is_number(&key->any) && !is_nan(&key->any)))
            return PHEAP_OK;
        return pheap_fail_with(PHEAP_WRONG_TYPE, "%s has no order%s", pht_kind_name((enum pht_kind)key->any.kind),
                               is_nan(&key->any) ? ": it is not a number (NaN)" : "");
    }
    status = tuple_of(t, key, &tuple);
    bounds->depth--;
    for (uint64_t i = 0; status == PHEAP_OK && i < tuple.count; i++) {
        status = pt_key_element(t, tuple.words, tuple.given, i, &element);
        if (status == PHEAP_OK)
            status = ordered(t, &element, bounds);
    }
    bounds->depth++;
    return status;
}

enum pheap_status pt_key_ordered(struct pht *t, const struct pt_key *key)
{
    struct pt_bounds bounds = pt_key_bounds;
    return ordered(t, key, &bounds);
}

enum pheap_status pht_compare(struct pht *t, struct pht_any a, struct pht_any b, int *order)
{
    struct pt_key x, y;
    if (order == NULL)
        return pheap_fail_with(PHEAP_INVALID, "pht_compare: order is NULL");
    enum pheap_status status = pt_key(t, &a, &x);
    if (status == PHEAP_OK)
        status = pt_key(t, &b, &y);
    return status == PHEAP_OK ? pt_key_compare(t, &x, &y, order) : status;
}

/* ----------------------------------------------------------------------------------------------------------- hash */

static enum pheap_status hash_tuple(struct pht *t, const struct pt_key *key, const uint64_t *secret,
                                    struct pt_bounds *bounds, uint64_t *hash)
{
    uint64_t part;
    struct tuple tuple;
    struct pt_key element;
    struct pt_sip sip = pt_sip_begin(secret);
    enum pheap_status status = tuple_of(t, key, &tuple);
    if (status != PHEAP_OK)
        return status;
    bounds->depth--;
    for (uint64_t i = 0; i < tuple.count; i++) {
        status = pt_key_element(t, tuple.words, tuple.given, i, &element);
        if (status == PHEAP_OK)
            status = pt_key_hash_within(t, &element, secret, bounds, &part);
        if (status != PHEAP_OK)
            return status;
        pt_sip_word(&sip, part);
    }
    bounds->depth++;
    *hash = pt_sip_end(&sip, tuple.count << 59 | 3);
    return PHEAP_OK;
}

enum pheap_status pt_key_hash_within(struct pht *t, const struct pt_key *key, const uint64_t *secret,
                                     struct pt_bounds *bounds, uint64_t *hash)
{
    enum pheap_status status = go_deeper(bounds);
    if (status != PHEAP_OK)
        return status;
    struct pt_sip sip = pt_sip_begin(secret);
    switch (key->any.kind) {
    case PHT_NONE:
        *hash = pt_sip_end(&sip, 1);
        return PHEAP_OK;
    case PHT_BOOL:
    case PHT_INT:
    case PHT_FLOAT:
        *hash = pt_number_hash(secret, &key->any);
        return PHEAP_OK;
    case PHT_STR:
    case PHT_BYTES:
        *hash = pt_sip_bytes(secret, key->any.bytes, key->any.length);
        return PHEAP_OK;
    case PHT_TUPLE:
        return hash_tuple(t, key, secret, bounds, hash);
    case PHT_FROZENSET:
        return pt_frozenset_hash(t, key, secret, bounds, hash);
    default:
        return refuse_key(key);
    }
}

enum pheap_status pt_secret(struct pht *t, uint64_t secret[2])
{
    const struct pt_registry *registry = pt_at(t, t->registry, sizeof *registry);
    if (registry == NULL)
        return PHEAP_CORRUPT;
    secret[0] = registry->hash_key[0];
    secret[1] = registry->hash_key[1];
    return PHEAP_OK;
}

enum pheap_status pt_key_hash(struct pht *t, const struct pt_key *key, uint64_t *hash)
{
    uint64_t secret[2];
    struct pt_bounds bounds = pt_key_bounds;
    enum pheap_status status = pt_secret(t, secret);
    return status == PHEAP_OK ? pt_key_hash_within(t, key, secret, &bounds, hash) : status;
}

enum pheap_status pht_hash(struct pht *t, struct pht_any any, uint64_t *hash)
{
    struct pt_key key;
    if (hash == NULL)
        return pheap_fail_with(PHEAP_INVALID, "pht_hash: hash is NULL");
    enum pheap_status status = pt_key(t, &any, &key);
    return status == PHEAP_OK ? pt_key_hash(t, &key, hash) : status;
}
