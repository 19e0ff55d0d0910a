/* SPDX-License-Identifier: MIT */
/* Persistent values: words and objects, equality, order, hash, references, the registry, and what is refused. */
#include "tests/types_rig.h"
#include "types/siphash.h"

#include <math.h>

/* ------------------------------------------------------------------------------------------------------- contents */

/* Store a value in the root map and give what comes back, in `t`'s view. */
static struct pht_any through(struct pht *t, struct pht_any any, pht_value *value)
{
    struct pht_any back;
    root_set(t, "it", any);
    *value = root_get(t, "it");
    ok(pht_show(t, value, &back));
    require(is(t, *value, any) || (any.kind == PHT_FLOAT && isnan(any.real)));
    return back;
}

/* Catches: an int that changes on its way, or is an object where a word would do, or the other way round. */
static void int__of_any_size_comes_back(void **state)
{
    (void)state;
    pheap *heap = new_values_heap("ints");
    struct pht t = change(heap);
    pht_value value;
    for (unsigned bit = 0; bit < 64; bit++) {
        for (int add = -2; add <= 2; add++) {
            for (int sign = -1; sign <= 1; sign += 2) {
                const int64_t wanted =
                    (int64_t)(((UINT64_C(1) << bit) + (uint64_t)(int64_t)add) * (uint64_t)(int64_t)sign);
                const struct pht_any back = through(&t, pht_int(wanted), &value);
                require_equal(back.kind, PHT_INT);
                require_equal(back.length, 0);
                require_equal(back.integer, wanted);
                require_equal((value & 7) != 0, wanted >= -(INT64_C(1) << 60) && wanted < INT64_C(1) << 60);
                /* The same as limbs, with zeros in front. */
                const uint64_t limbs[3] = {wanted < 0 ? -(uint64_t)wanted : (uint64_t)wanted, 0, 0};
                require_equal(through(&t, pht_bigint(wanted < 0, limbs, 3), &value).integer, wanted);
            }
        }
    }
    uint64_t dice = 5;
    for (unsigned count = 1; count < 40; count++) {
        uint64_t limbs[40];
        for (unsigned i = 0; i < count; i++)
            limbs[i] = dice_roll(&dice) | 1;
        const struct pht_any back = through(&t, pht_bigint(count % 2 == 0, limbs, count), &value);
        if (count > 1) {
            require_equal(back.length, count);
            require_equal(back.negative, count % 2 == 0);
            require(memcmp(back.bytes, limbs, count * 8) == 0);
        }
    }
    const uint64_t edge[1] = {UINT64_C(1) << 63};
    require_equal(through(&t, pht_bigint(true, edge, 1), &value).integer, INT64_MIN);
    require_equal(through(&t, pht_bigint(false, edge, 1), &value).length, 1);
    root_set(&t, "it", pht_none());
    ok(pht_map_remove(&t, pht_root(&t), pht_text("it"), NULL));
    keep(&t);
    require_all_given_back(heap);
    ok(pheap_close(heap));
}

static uint64_t bits_of(double value)
{
    uint64_t bits;
    memcpy(&bits, &value, sizeof bits);
    return bits;
}

/* Catches: a bit of a float that gets lost in a word; ordinary ones that need an object. */
static void float__comes_back_bit_by_bit(void **state)
{
    (void)state;
    pheap *heap = new_values_heap("floats");
    struct pht t = change(heap);
    pht_value value;
    uint64_t dice = 7;
    const double some[] = {0.0,      -0.0,      1.0, -1.0,    0.1,      1e300,    -1e-300, 5e-324,
                           INFINITY, -INFINITY, NAN, 0x1p256, 0x1p-255, 0x1p-256, 0x1p257, 1.7976931348623157e308};
    for (unsigned i = 0; i < 5000; i++) {
        double wanted = i < sizeof some / sizeof some[0] ? some[i] : 0;
        if (i >= sizeof some / sizeof some[0]) {
            const uint64_t bits = dice_roll(&dice);
            memcpy(&wanted, &bits, sizeof wanted);
        }
        const struct pht_any back = through(&t, pht_float(wanted), &value);
        require_equal(back.kind, PHT_FLOAT);
        require_equal(bits_of(back.real), bits_of(wanted));
        if ((fabs(wanted) >= 1e-70 && fabs(wanted) <= 1e70) || bits_of(wanted) == 0)
            require((value & 7) != 0);
    }
    keep(&t);
    ok(pheap_close(heap));
}

/* Catches: bytes cut, added or mixed up at any length about the border of words; a zero that ends a str. */
static void str_and_bytes__of_any_length_come_back(void **state)
{
    (void)state;
    pheap *heap = new_values_heap("strings");
    struct pht t = change(heap);
    char text[3000];
    pht_value value;
    bool equal;
    for (unsigned i = 0; i < sizeof text; i++)
        text[i] = (char)(i % 127);
    for (unsigned length = 0; length < sizeof text; length += length < 40 ? 1 : 97) {
        struct pht_any back = through(&t, pht_str(text, length), &value);
        require_equal(back.kind, PHT_STR);
        require_equal(back.length, length);
        require(length == 0 || memcmp(back.bytes, text, length) == 0);
        require_equal((value & 7) != 0, length <= 7);
        back = through(&t, pht_bytes(text, length), &value);
        require_equal(back.kind, PHT_BYTES);
        require_equal(back.length, length);
        require(length == 0 || memcmp(back.bytes, text, length) == 0);
        ok(pht_equal(&t, pht_str(text, length), pht_bytes(text, length), &equal));
        require(!equal);
    }
    keep(&t);
    ok(pheap_close(heap));
}

/* What the Unicode standard says of one character, in other words than the library. */
static bool encodes_one(const unsigned char *at, unsigned length)
{
    static const uint32_t least[] = {0, 0, 0x80, 0x800, 0x10000};
    uint32_t code = length == 1 ? at[0] : at[0] & (0x7fu >> length);
    if (length == 1)
        return at[0] < 0x80;
    if ((unsigned)at[0] >> (7 - length) != (2u << length) - 2)
        return false;
    for (unsigned i = 1; i < length; i++) {
        if (at[i] >> 6 != 2)
            return false;
        code = code << 6 | (at[i] & 0x3f);
    }
    return code >= least[length] && code <= 0x10ffff && (code < 0xd800 || code > 0xdfff);
}

static bool encodes(const unsigned char *at, unsigned length)
{
    for (unsigned one = 1; one <= 4 && one <= length; one++)
        if (encodes_one(at, one))
            return one == length || encodes(at + one, length - one);
    return false;
}

/* Catches: a str that other languages cannot read: overlong, a surrogate, cut off, beyond the last character. */
static void str__is_utf8_or_refused(void **state)
{
    (void)state;
    pheap *heap = new_values_heap("utf8");
    struct pht t = change(heap);
    static const unsigned char tails[] = {0x00, 0x7f, 0x80, 0x8f, 0x90, 0x9f, 0xa0, 0xbf, 0xc0, 0xff};
    unsigned char text[12] = "abcdefgh";
    pht_value value;
    for (unsigned first = 0; first < 256; first++) {
        for (unsigned choice = 0; choice < 1000; choice++) {
            const unsigned char four[4] = {(unsigned char)first, tails[choice % 10], tails[choice / 10 % 10],
                                           tails[choice / 100]};
            for (unsigned length = 1; length <= 4; length++) {
                const bool valid = encodes(four, length);
                memcpy(text + 8, four, length);
                const enum pheap_status status = pht_make(&t, pht_str((char *)text + 8, length), &value);
                require_equal(status, valid ? PHEAP_OK : PHEAP_INVALID);
                if (valid)
                    ok(pht_discard(&t, value));
            }
        }
    }
    expect_detail(PHEAP_INVALID, "UTF-8", pht_make(&t, pht_text("eight by\xed\xa0\x80"), &value));
    keep(&t);
    require_all_given_back(heap);
    ok(pheap_close(heap));
}

/* ------------------------------------------------------------------------------------------ equality, order, hash */

/* An int that does not fit 64 bits, as a program has it. */
static struct pht_any wide(__int128 value, uint64_t limbs[2])
{
    const unsigned __int128 size = value < 0 ? -(unsigned __int128)value : (unsigned __int128)value;
    limbs[0] = (uint64_t)size;
    limbs[1] = (uint64_t)(size >> 64);
    return pht_bigint(value < 0, limbs, 2);
}

/* The order of an int and a float by whole numbers alone: floats below 2^126 have an exact whole part. */
static int reference_order(__int128 a, double b)
{
    const double whole = trunc(b);
    const __int128 w = (__int128)whole;
    if (a != w)
        return a < w ? -1 : 1;
    return b == whole ? 0 : b > whole ? -1 : 1;
}

/* Catches: numbers compared through a rounded float, and equal ones with other hashes. */
static void numbers__are_compared_exactly(void **state)
{
    (void)state;
    pheap *heap = new_values_heap("numbers");
    struct pht t = change(heap);
    uint64_t dice = choose_seed(), x, y, limbs[2], more[2];
    int order;
    bool equal;
    for (unsigned i = 0; i < 200000; i++) {
        const unsigned bits = (unsigned)(dice_roll(&dice) % 126);
        __int128 a = (__int128)1 << bits;
        a = dice_roll(&dice) % 2 == 0 ? -a : a;
        a += (__int128)(int64_t)(dice_roll(&dice) % 5) - 2;
        double b = (double)a + (double)((int64_t)(dice_roll(&dice) % 5) - 2) * (dice_roll(&dice) % 3 == 0 ? 0.5 : 1.0);
        const int wanted = reference_order(a, b);
        ok(pht_compare(&t, wide(a, limbs), pht_float(b), &order));
        require_equal(order, wanted);
        ok(pht_compare(&t, pht_float(b), wide(a, limbs), &order));
        require_equal(order, -wanted);
        ok(pht_equal(&t, wide(a, limbs), pht_float(b), &equal));
        require_equal(equal, wanted == 0);
        ok(pht_hash(&t, wide(a, limbs), &x));
        ok(pht_hash(&t, pht_float(b), &y));
        require_equal(x == y, wanted == 0);
        const __int128 c = a + (__int128)(dice_roll(&dice) % 3) - 1;
        ok(pht_compare(&t, wide(a, limbs), wide(c, more), &order));
        require_equal(order, (a > c) - (a < c));
    }
    const struct pht_any ones[] = {pht_int(1), pht_float(1.0), pht_bool(true)};
    for (unsigned i = 0; i < 3; i++) {
        for (unsigned j = 0; j < 3; j++) {
            ok(pht_equal(&t, ones[i], ones[j], &equal));
            require(equal);
        }
    }
    const uint64_t huge[17] = {[16] = 1}; /* 2^1024: beyond every float but infinity */
    ok(pht_compare(&t, pht_bigint(false, huge, 17), pht_float(1.7976931348623157e308), &order));
    require_equal(order, 1);
    ok(pht_compare(&t, pht_bigint(false, huge, 17), pht_float(INFINITY), &order));
    require_equal(order, -1);
    ok(pht_compare(&t, pht_bigint(true, huge, 17), pht_float(-INFINITY), &order));
    require_equal(order, 1);
    const uint64_t largest[16] = {[15] = UINT64_MAX << 11}; /* the largest float */
    ok(pht_compare(&t, pht_bigint(false, largest, 16), pht_float(1.7976931348623157e308), &order));
    require_equal(order, 0);
    ok(pht_equal(&t, pht_float(0.0), pht_float(-0.0), &equal));
    require(equal);
    ok(pht_equal(&t, pht_float(NAN), pht_float(NAN), &equal));
    require(!equal);
    /* A NaN on either side, beside an int or a float; infinities on either side. */
    expect_detail(PHEAP_WRONG_TYPE, "NaN", pht_compare(&t, pht_float(NAN), pht_int(1), &order));
    const struct pht_any others[] = {pht_int(1), pht_float(1.5), pht_float(INFINITY)};
    for (unsigned i = 0; i < 3; i++) {
        expect_detail(PHEAP_WRONG_TYPE, "NaN", pht_compare(&t, others[i], pht_float(NAN), &order));
        expect_detail(PHEAP_WRONG_TYPE, "NaN", pht_compare(&t, pht_float(NAN), others[i], &order));
        ok(pht_equal(&t, others[i], pht_float(NAN), &equal));
        require(!equal);
        ok(pht_equal(&t, pht_float(NAN), others[i], &equal));
        require(!equal);
    }
    ok(pht_compare(&t, pht_float(INFINITY), pht_int(INT64_MAX), &order));
    require_equal(order, 1);
    uint64_t hash, other;
    ok(pht_hash(&t, pht_float(NAN), &hash));
    ok(pht_hash(&t, pht_float(INFINITY), &other));
    require(hash != other);
    expect_detail(PHEAP_WRONG_TYPE, "str and int", pht_compare(&t, pht_text("1"), pht_int(1), &order));
    expect(PHEAP_WRONG_TYPE, pht_compare(&t, pht_none(), pht_none(), &order));
    keep(&t);
    ok(pheap_close(heap));
}

/* Catches: an order of bytes that is signed, or stops at a zero; a prefix that is not less. */
static void bytes__are_ordered_as_bytes(void **state)
{
    (void)state;
    pheap *heap = new_values_heap("order");
    struct pht t = change(heap);
    static const char *const ascending[] = {"",  "a",        "a longer one", "ab",
                                            "b", "\xc3\xa9", "\xe2\x82\xac", "\xf0\x9f\x98\x80"};
    int order;
    for (unsigned i = 0; i < 8; i++) {
        for (unsigned j = 0; j < 8; j++) {
            ok(pht_compare(&t, pht_text(ascending[i]), pht_text(ascending[j]), &order));
            require_equal(order, (i > j) - (i < j));
        }
    }
    ok(pht_compare(&t, pht_bytes("a\0b", 3), pht_bytes("a\0c", 3), &order));
    require_equal(order, -1);
    keep(&t);
    ok(pheap_close(heap));
}

/* Catches: a SipHash that is none: these are what CPython's has under the key 0 for the bytes 0, 1, 2... */
static void hash__is_siphash_1_3(void **state)
{
    (void)state;
    static const struct {
        unsigned length;
        uint64_t hash;
    } known[] = {
        {1, UINT64_C(0x68a914128e01e473)},  {2, UINT64_C(0x010bac45c41e3669)},  {3, UINT64_C(0x4d4c9a4a8ef6e0ad)},
        {4, UINT64_C(0x7cc43f98813e4dbd)},  {5, UINT64_C(0x5abe2169dff36275)},  {6, UINT64_C(0xe3c25f87624f1cdb)},
        {7, UINT64_C(0x2f098ab0c751325a)},  {8, UINT64_C(0xead411e67ebe2eea)},  {9, UINT64_C(0x75927f9d95124362)},
        {10, UINT64_C(0xaf9f77a65ab51a1d)}, {11, UINT64_C(0xfe64ce8b6617fcff)}, {12, UINT64_C(0xa6baf4fb0f9fe1c2)},
        {13, UINT64_C(0xa0cf3211850f8e0d)}, {14, UINT64_C(0x7f86049379fbfe67)}, {15, UINT64_C(0xf30eb725bb91c9ea)},
        {16, UINT64_C(0x8972188433a5c5b7)}, {31, UINT64_C(0x169739443111d49b)},
    };
    const uint64_t key[2] = {0, 0};
    unsigned char bytes[32];
    for (unsigned i = 0; i < sizeof bytes; i++)
        bytes[i] = (unsigned char)i;
    for (unsigned i = 0; i < sizeof known / sizeof known[0]; i++)
        require_equal(pt_sip_bytes(key, bytes, known[i].length), known[i].hash);
}

/* Catches: tuples compared by identity, or hashed by what their elements are made of rather than by their values. */
static void tuple__is_compared_by_its_elements(void **state)
{
    (void)state;
    pheap *heap = new_values_heap("tuples");
    struct pht t = change(heap);
    pht_value a, b, c, nested, value, list;
    uint64_t x, y, count;
    int order;
    bool equal;
    const struct pht_any first[] = {pht_int(1), pht_text("a text with an object"), pht_float(2.5)};
    const struct pht_any second[] = {pht_float(1.0), pht_text("a text with an object"), pht_float(2.5)};
    ok(pht_tuple_new(&t, first, 3, &a));
    ok(pht_tuple_new(&t, second, 3, &b));
    ok(pht_tuple_new(&t, first, 2, &c));
    ok(pht_equal(&t, pht_of(a), pht_of(b), &equal));
    require(equal);
    ok(pht_hash(&t, pht_of(a), &x));
    ok(pht_hash(&t, pht_of(b), &y));
    require_equal(x, y);
    ok(pht_compare(&t, pht_of(a), pht_of(c), &order));
    require_equal(order, 1);
    ok(pht_map_set(&t, pht_root(&t), pht_of(a), pht_text("found")));
    ok(pht_map_get(&t, pht_root(&t), pht_of(b), &value));
    require(is(&t, value, pht_text("found")));
    ok(pht_map_remove(&t, pht_root(&t), pht_of(b), NULL)); /* a goes, the others stay */
    ok(pht_tuple_count(&t, c, &count));
    require_equal(count, 2);
    ok(pht_tuple_get(&t, c, 1, &value));
    require(is(&t, value, first[1]));
    expect(PHEAP_INVALID, pht_tuple_get(&t, c, 2, &value));
    ok(pht_map_new(&t, &list));
    const struct pht_any changing[] = {pht_of(list)};
    ok(pht_tuple_new(&t, changing, 1, &nested));
    expect_detail(PHEAP_INVALID, "unhashable", pht_map_set(&t, pht_root(&t), pht_of(nested), pht_none()));
    ok(pht_discard(&t, nested));
    ok(pht_discard(&t, b));
    /* Deeper than anybody needs: an error, not a stack overflow. */
    for (unsigned i = 0; i < 100; i++) {
        const struct pht_any inner[] = {pht_of(c), pht_of(c)};
        ok(pht_tuple_new(&t, inner, 2, &c));
    }
    expect_detail(PHEAP_INVALID, "nested", pht_hash(&t, pht_of(c), &x));
    ok(pht_discard(&t, c));
    /* Shared, so that few blocks stand for 2^20 elements: compared once they are, but no key. */
    ok(pht_tuple_new(&t, first, 2, &c));
    for (unsigned i = 0; i < 20; i++) {
        const struct pht_any inner[] = {pht_of(c), pht_of(c)};
        if (i == 13)
            ok(pht_hash(&t, pht_of(c), &x));
        ok(pht_tuple_new(&t, inner, 2, &c));
    }
    ok(pht_tuple_new(&t, (const struct pht_any[]){pht_of(c)}, 1, &a));
    ok(pht_tuple_new(&t, (const struct pht_any[]){pht_of(c)}, 1, &b));
    ok(pht_equal(&t, pht_of(a), pht_of(b), &equal));
    require(equal);
    expect_detail(PHEAP_INVALID, "as keys", pht_map_set(&t, pht_root(&t), pht_of(a), pht_none()));
    ok(pht_omap_new(&t, &list));
    expect_detail(PHEAP_INVALID, "as keys", pht_omap_set(&t, list, pht_of(a), pht_none()));
    ok(pht_discard(&t, list));
    ok(pht_discard(&t, a));
    ok(pht_discard(&t, b));
    keep(&t);
    require_all_given_back(heap);
    ok(pheap_close(heap));
}

/* ------------------------------------------------------------------------------------------- references, registry */

static uint32_t references(struct pht *t, pht_value value)
{
    uint32_t count;
    ok(pht_references(t, value, &count));
    return count;
}

/* Catches: counts that do not follow what is stored; an object freed too early, or not with its last reference. */
static void references__follow_what_is_stored(void **state)
{
    (void)state;
    pheap *heap = new_values_heap("references");
    struct pht t = change(heap);
    pht_value text, map, inner, taken;
    ok(pht_make(&t, pht_text("a text with an object"), &text));
    require_equal(references(&t, text), 0);
    root_set(&t, "a", pht_of(text));
    root_set(&t, "b", pht_of(text));
    require_equal(references(&t, text), 2);
    ok(pht_discard(&t, text)); /* it is stored, so it stays */
    root_set(&t, "a", pht_of(text));
    require_equal(references(&t, text), 2);
    root_set(&t, "a", pht_int(1));
    ok(pht_map_remove(&t, pht_root(&t), pht_text("b"), &taken));
    require_equal(taken, text);
    require_equal(references(&t, text), 0);
    root_set(&t, "b", pht_of(taken));
    /* A chain of maps that goes as a whole, and one that somebody else holds. */
    ok(pht_map_new(&t, &map));
    ok(pht_map_new(&t, &inner));
    ok(pht_map_set(&t, map, pht_int(1), pht_of(inner)));
    ok(pht_map_set(&t, inner, pht_int(1), pht_of(text)));
    root_set(&t, "map", pht_of(map));
    root_set(&t, "inner", pht_of(inner));
    require_equal(references(&t, inner), 2);
    root_set(&t, "map", pht_none());
    ok(pht_reclaim(&t, 1000, NULL));
    require_equal(references(&t, inner), 1);
    require_equal(references(&t, text), 2);
    root_set(&t, "inner", pht_none());
    expect_detail(PHEAP_INVALID, "gone", pht_map_set(&t, pht_root(&t), pht_text("again"), pht_of(inner)));
    ok(pheap_abort(t.txn));
    require_all_given_back(heap);
    t = change(heap);
    /* A long chain: taken apart without a deep stack, and bit by bit. */
    ok(pht_map_new(&t, &map));
    for (int i = 0; i < 100000; i++) {
        pht_value outer;
        ok(pht_map_new(&t, &outer));
        ok(pht_map_set(&t, outer, pht_int(1), pht_of(map)));
        map = outer;
    }
    root_set(&t, "chain", pht_of(map));
    keep(&t);
    t = change(heap);
    ok(pht_map_remove(&t, pht_root(&t), pht_text("chain"), NULL));
    require(keep_and_measure(heap, &t) <= 64 << 10);
    require(live_blocks(heap) > 100000);
    require_all_given_back(heap);
    ok(pheap_close(heap));
}

/*
 * Catches: limbo that is taken apart before the words that a call was given are counted, while it has their last
 * references: a failure half-way in a sound heap, a word of a block that was freed, or of another one in its place.
 */
static void references__that_limbo_has_are_enough_to_store(void **state)
{
    (void)state;
    static const char *const text = "a text that is an object";
    for (unsigned i = 0; i < 8; i++) {
        pht_value into, gone, word, made;
        char name[16];
        bool there = true;
        (void)snprintf(name, sizeof name, "limbo-%u", i);
        pheap *heap = new_values_heap(name);
        struct pht t = change(heap);
        ok(i == 1 || i == 2   ? pht_map_new(&t, &into)
           : i == 3           ? pht_set_new(&t, &into)
           : i == 4           ? pht_queue_new(&t, &into)
           : i == 5 || i == 6 ? pht_omap_new(&t, &into)
                              : pht_list_new(&t, &into));
        root_set(&t, "into", pht_of(into));
        if (i == 7)
            ok(pht_list_append(&t, into, pht_none()));
        ok(pht_list_new(&t, &gone));
        ok(pht_list_append(&t, gone, pht_text(text)));
        ok(pht_list_get(&t, gone, 0, &word));
        ok(pht_discard(&t, gone));
        const struct pht_any value = pht_of(word), other = pht_text("another one that is an object");
        switch (i) {
        case 0:
            ok(pht_list_append(&t, into, value));
            ok(pht_list_get(&t, into, 0, &word));
            break;
        case 1:
            ok(pht_map_set(&t, into, other, value));
            ok(pht_map_get(&t, into, other, &word));
            break;
        case 2:
            ok(pht_map_set(&t, into, value, other));
            ok(pht_map_get(&t, into, pht_text(text), &made));
            there = made != PHT_ABSENT;
            break;
        case 3:
            ok(pht_set_add(&t, into, value, NULL));
            ok(pht_set_has(&t, into, pht_text(text), &there));
            break;
        case 4:
            ok(pht_queue_push(&t, into, true, value));
            ok(pht_queue_get(&t, into, 0, &word));
            break;
        case 5:
            ok(pht_omap_set(&t, into, value, other));
            ok(pht_omap_get(&t, into, pht_text(text), &made));
            there = made != PHT_ABSENT;
            break;
        case 6:
            ok(pht_tuple_new(&t, (const struct pht_any[]){other, value}, 2, &made));
            ok(pht_omap_set(&t, into, pht_int(1), pht_of(made)));
            ok(pht_tuple_get(&t, made, 1, &word));
            break;
        default:
            ok(pht_list_set(&t, into, 0, value));
            ok(pht_list_get(&t, into, 0, &word));
            break;
        }
        require(there);
        require(is(&t, word, pht_text(text)));
        keep(&t);
        reclaim_all(heap);
        check_values(heap);
        ok(pheap_close(heap));
    }
}

/* Catches: a heap of another program taken for one of values, or overwritten; one from the future half understood. */
static void begin__refuses_other_heaps(void **state)
{
    (void)state;
    pheap *heap = create_heap(path_of("other", ""));
    struct pht t;
    pheap_read *reader = read_begin(heap, 0);
    expect(PHEAP_NOT_FOUND, pht_look(reader, &t));
    (void)pheap_read_end(reader);
    (void)make_root(heap, 100);
    pheap_txn *txn = begin(heap);
    expect_detail(PHEAP_WRONG_TYPE, "no registry", pht_begin(txn, &t));
    expect(PHEAP_INVALID, pht_begin(NULL, &t));
    expect(PHEAP_INVALID, pht_begin(txn, NULL));
    (void)pheap_abort(txn);
    expect(PHEAP_ENDED, pht_begin(txn, &t));
    reader = read_begin(heap, PHEAP_FRESH);
    expect(PHEAP_WRONG_TYPE, pht_look(reader, &t));
    (void)pheap_read_end(reader);
    ok(pheap_close(heap));
    heap = new_values_heap("newer");
    t = change(heap);
    const uint32_t version = 2;
    ok(pheap_write(t.txn, t.registry + 16, &version, sizeof version));
    keep(&t);
    txn = begin(heap);
    expect_detail(PHEAP_NEWER, "version 2", pht_begin(txn, &t));
    (void)pheap_abort(txn);
    ok(pheap_close(heap));
}

/* Catches: a change that failed half-way and can be committed by who goes on; a view that cannot be used again. */
static void failure__stops_the_transaction(void **state)
{
    (void)state;
    const struct pheap_options options = {.size = sizeof options, .reserve_bytes = 4u << 20};
    pheap *heap;
    struct pht t;
    uint32_t savepoint;
    pht_value block;
    uint64_t count;
    ok(pheap_open(path_of("full", ""), PHEAP_CREATE, &options, &heap));
    t = change(heap);
    ok(pheap_savepoint(t.txn, &savepoint));
    enum pheap_status status = PHEAP_OK;
    for (int64_t i = 0; status == PHEAP_OK; i++)
        status = pht_map_set(&t, pht_root(&t), pht_int(i), pht_text("something that needs an object"));
    require_equal(status, PHEAP_RESERVE);
    expect_detail(PHEAP_RESERVE, "half-way", pht_map_set(&t, pht_root(&t), pht_int(1), pht_int(1)));
    expect(PHEAP_RESERVE, pht_block_new(&t, 1, &block));
    ok(pheap_rollback(t.txn, savepoint));
    ok(pht_begin(t.txn, &t));
    ok(pht_map_count(&t, pht_root(&t), &count));
    require_equal(count, 0);
    ok(pht_map_set(&t, pht_root(&t), pht_int(1), pht_int(1)));
    keep(&t);
    ok(pheap_close(heap));
}

/* Catches: one of the functions that store or make something, which goes on after it failed half-way, or calls that INVALID. */
static void failure__of_every_function_stops_the_transaction(void **state)
{
    (void)state;
    const struct pheap_options options = {.size = sizeof options, .reserve_bytes = 4u << 20};
    pheap *heap;
    ok(pheap_open(path_of("full-of-all", ""), PHEAP_CREATE, &options, &heap));
    struct pht t = change(heap);
    keep(&t);
    for (unsigned what = 0; what < 10; what++) {
        pht_value it, made;
        static char text[40000];
        memset(text, 'a', sizeof text);
        t = change(heap);
        ok(what == 0   ? pht_set_new(&t, &it)
           : what == 1 ? pht_queue_new(&t, &it)
           : what == 2 ? pht_omap_new(&t, &it)
                       : pht_list_new(&t, &it));
        enum pheap_status status = PHEAP_OK;
        for (unsigned i = 0; status == PHEAP_OK && i < 100000; i++) {
            char name[16];
            (void)snprintf(name, sizeof name, "%u", i);
            memcpy(text, name, strlen(name));
            const struct pht_any any = pht_str(text, what % 2 == 0 ? 40 : sizeof text);
            const struct pht_any both[] = {any, any};
            status = what == 0   ? pht_set_add(&t, it, any, NULL)
                     : what == 1 ? pht_queue_push(&t, it, i % 2 == 0, any)
                     : what == 2 ? pht_omap_set(&t, it, any, any)
                     : what == 3 ? pht_list_append(&t, it, any)
                     : what == 4 ? pht_list_insert(&t, it, i / 2, any)
                     : what == 5 ? pht_make(&t, any, &made)
                     : what == 6 ? pht_map_new(&t, &made)
                     : what == 7 ? pht_block_new(&t, 100000, &made)
                     : what == 8 ? pht_tuple_new(&t, both, 2, &made)
                                 : pht_map_add(&t, pht_root(&t), any, any, &made);
        }
        require_equal(status, PHEAP_RESERVE);
        expect_detail(PHEAP_RESERVE, "half-way", pht_map_set(&t, pht_root(&t), pht_int(1), pht_int(1)));
        ok(pheap_abort(t.txn));
        check_values(heap);
    }
    ok(pheap_close(heap));
}

/* Catches: arguments that are not looked at, and values of another kind than the call wants. */
static void arguments__that_cannot_be_are_refused(void **state)
{
    (void)state;
    pheap *heap = new_values_heap("arguments");
    struct pht t = change(heap);
    pht_value value, map;
    struct pht_any any;
    enum pht_kind kind;
    ok(pht_map_new(&t, &map));
    expect_detail(PHEAP_WRONG_TYPE, "map expected", pht_map_get(&t, 9, pht_int(1), &value));
    expect_detail(PHEAP_WRONG_TYPE, "set expected", pht_set_add(&t, map, pht_int(1), NULL));
    expect(PHEAP_INVALID, pht_map_get(&t, PHT_ABSENT, pht_int(1), &value));
    expect(PHEAP_INVALID, pht_map_get(&t, map, pht_of(PHT_ABSENT), &value));
    expect(PHEAP_INVALID, pht_map_get(&t, map, pht_int(1), NULL));
    expect(PHEAP_INVALID, pht_map_set(&t, map, pht_int(1), pht_of(7)));
    expect(PHEAP_INVALID, pht_map_set(&t, map, pht_of(map), pht_int(1)));
    expect(PHEAP_INVALID, pht_map_set(&t, map, pht_int(1), pht_make_any(PHT_LIST)));
    expect(PHEAP_INVALID, pht_map_set(&t, map, pht_str(NULL, 3), pht_int(1)));
    expect(PHEAP_INVALID, pht_make(&t, pht_bytes(&t, UINT64_MAX), &value));
    const pht_value strange[] = {0x23, 0xc4, 0xff000c, 7, 0xff, PHT_ABSENT};
    for (unsigned i = 0; i < sizeof strange / sizeof strange[0]; i++) {
        expect(PHEAP_INVALID, pht_show(&t, &strange[i], &any));
        expect(PHEAP_INVALID, pht_kind_of(&t, strange[i], &kind));
    }
    /* None of that kept the transaction from going on. */
    ok(pht_map_set(&t, map, pht_int(1), pht_int(1)));
    ok(pht_discard(&t, map));
    expect_detail(PHEAP_INVALID, "before", pht_discard(&t, map));
    ok(pht_discard(&t, pht_root(&t)));
    const pht_value outside = t.size * 2;
    expect(PHEAP_CORRUPT, pht_kind_of(&t, outside, &kind));
    ok(pheap_abort(t.txn));
    ok(pheap_close(heap));
}

/*
 * Catches: a bool that is neither 0 nor 1 under a hash of its own; words that are no values and come into the heap, or
 * that end the transaction though nothing was done.
 */
static void arguments__that_look_like_values(void **state)
{
    (void)state;
    enum pht_kind kind;
    pht_value value;
    pheap *heap = new_values_heap("looks");
    struct pht t = change(heap);
    struct pht_any two = pht_bool(true);
    two.integer = 2;
    ok(pht_map_set(&t, pht_root(&t), two, pht_int(1)));
    ok(pht_map_get(&t, pht_root(&t), pht_bool(true), &value));
    require_equal(integer_of(&t, value), 1);
    static const pht_value none[] = {8, 0x108, 0xff0c, 0x80c014, 7};
    for (unsigned i = 0; i < sizeof none / sizeof none[0]; i++) {
        expect(PHEAP_INVALID, pht_map_set(&t, pht_root(&t), pht_int(1), pht_of(none[i])));
        expect(PHEAP_INVALID, pht_map_set(&t, pht_root(&t), pht_of(none[i]), pht_int(1)));
    }
    expect(PHEAP_INVALID, pht_kind_of(&t, 8, &kind));
    ok(pht_map_set(&t, pht_root(&t), pht_int(1), pht_int(2)));
    keep(&t);
    check_values(heap);
    ok(pheap_close(heap));
}

/* Catches: a block whose bytes are not where it says; a huge one that takes disk space untouched. */
static void block__is_raw_zeroed_memory(void **state)
{
    (void)state;
    pheap *heap = new_values_heap("blocks");
    struct pht t = change(heap);
    pht_value block, huge;
    uint64_t offset, length;
    ok(pht_block_new(&t, 100, &block));
    ok(pht_block_at(&t, block, &offset, &length));
    require_equal(length, 100);
    require_equal(offset % 16, 0);
    ok(pheap_write(t.txn, offset, "raw", 4));
    root_set(&t, "block", pht_of(block));
    ok(pht_block_new(&t, 1u << 30, &huge));
    root_set(&t, "huge", pht_of(huge));
    ok(pht_block_at(&t, huge, &offset, &length));
    ok(pheap_write(t.txn, offset + length - 4, "end", 4));
    require(keep_and_measure(heap, &t) < 64 << 10);
    ok(pheap_checkpoint(heap));
    require(heap_info(heap).disk_bytes < 64 << 20);
    t = change(heap);
    ok(pht_block_at(&t, root_get(&t, "block"), &offset, &length));
    require(strcmp((const char *)t.base + offset, "raw") == 0);
    expect(PHEAP_WRONG_TYPE, pht_block_at(&t, pht_root(&t), &offset, &length));
    ok(pht_map_clear(&t, pht_root(&t)));
    keep(&t);
    require_all_given_back(heap);
    ok(pheap_close(heap));
}

/* Catches: bytes that are lost, not zeroed or not declared when a block gets longer or shorter; an old one that stays, or
 * goes while a container has it. */
static void block__is_resized(void **state)
{
    (void)state;
    pheap *heap = new_values_heap("resized");
    static const uint64_t lengths[] = {100, 110, 40, 0, 5, 100000, 103000, 99, 3000000, 0};
    struct pht t = change(heap);
    pht_value block;
    uint64_t offset, length, old = 100;
    ok(pht_block_new(&t, 100, &block));
    root_set(&t, "block", pht_of(block));
    ok(pht_block_at(&t, block, &offset, &length));
    memset(t.base + offset, 7, 100);
    keep(&t);
    uint64_t sevens = 100;
    for (unsigned i = 0; i < sizeof lengths / sizeof lengths[0]; i++) {
        t = change(heap);
        const pht_value before = block = root_get(&t, "block");
        const enum pheap_status stays = pht_block_resize(&t, &block, lengths[i], false);
        require(stays == PHEAP_OK || (stays == PHEAP_NO_SPACE && lengths[i] > old));
        require_equal(block, before);
        if (i % 2 == 0) { /* with what was changed in place undone */
            ok(pheap_abort(t.txn));
            t = change(heap);
            ok(pht_block_at(&t, block, &offset, &length));
            require_equal(length, old);
        }
        ok(pht_block_resize(&t, &block, lengths[i], true));
        if (block != before) {
            ok(pht_block_at(&t, before, &offset, &length)); /* the map has it still */
            root_set(&t, "block", pht_of(block));
        }
        keep(&t);
        sevens = sevens < lengths[i] ? sevens : lengths[i];
        t = change(heap);
        ok(pht_block_at(&t, root_get(&t, "block"), &offset, &length));
        require_equal(length, lengths[i]);
        for (uint64_t at = 0; at < length; at++) {
            require_equal(t.base[offset + at], at < sevens ? 7 : 0);
        }
        ok(pheap_abort(t.txn));
        old = lengths[i];
    }
    check_values(heap);
    t = change(heap);
    expect(PHEAP_WRONG_TYPE, pht_block_resize(&t, &(pht_value){pht_root(&t)}, 1, true));
    expect(PHEAP_INVALID, pht_block_resize(&t, &block, UINT64_MAX, true));
    ok(pht_block_new(&t, 10, &block));
    ok(pht_block_resize(&t, &block, 1000, true)); /* nothing refers to the old one, so it is freed */
    ok(pht_discard(&t, block));
    ok(pht_map_clear(&t, pht_root(&t)));
    keep(&t);
    require_all_given_back(heap);
    ok(pheap_close(heap));
}

int main(int argc, char **argv)
{
    choose_cases(argc, argv);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(int__of_any_size_comes_back),
        cmocka_unit_test(float__comes_back_bit_by_bit),
        cmocka_unit_test(str_and_bytes__of_any_length_come_back),
        cmocka_unit_test(str__is_utf8_or_refused),
        cmocka_unit_test(numbers__are_compared_exactly),
        cmocka_unit_test(bytes__are_ordered_as_bytes),
        cmocka_unit_test(hash__is_siphash_1_3),
        cmocka_unit_test(tuple__is_compared_by_its_elements),
        cmocka_unit_test(references__follow_what_is_stored),
        cmocka_unit_test(references__that_limbo_has_are_enough_to_store),
        cmocka_unit_test(begin__refuses_other_heaps),
        cmocka_unit_test(failure__stops_the_transaction),
        cmocka_unit_test(failure__of_every_function_stops_the_transaction),
        cmocka_unit_test(arguments__that_cannot_be_are_refused),
        cmocka_unit_test(arguments__that_look_like_values),
        cmocka_unit_test(block__is_raw_zeroed_memory),
        cmocka_unit_test(block__is_resized),
    };
    return cmocka_run_group_tests(tests, make_test_directory, remove_test_directory);
}
