/* SPDX-License-Identifier: MIT */
/*
 * Values in heaps that somebody, or something, has changed: every word of every object of a heap is replaced in turn by
 * what might hurt, often with some of its neighbours, and then everything is asked and done.  Any status is right; what is looked for is a crash, a store
 * outside the heap or a call that does not end, so this is worth most under the address sanitizer.
 */
#include "tests/support/effort.h"
#include "tests/types_evil.h"
#include "tests/types_rig.h"
#include "types/session.h"

#define PATIENCE_S 600

/* A heap that has something of every kind, large enough for directories and inner nodes where `large` says so. */
static void fill(struct pht *t, bool large)
{
    static const char *const names[] = {"map", "set", "list", "queue", "omap"};
    pht_value it[5], tuple, block, value;
    uint64_t at;
    const int64_t count = large ? 1500 : 10;
    ok(pht_map_new(t, &it[0]));
    ok(pht_set_new(t, &it[1]));
    ok(pht_list_new(t, &it[2]));
    ok(pht_queue_new(t, &it[3]));
    ok(pht_omap_new(t, &it[4]));
    for (int64_t i = 0; i < count; i++) {
        char text[48];
        (void)snprintf(text, sizeof text, i % 2 == 0 ? "%lld" : "a text that is an object: %lld", (long long)i);
        ok(pht_map_set(t, it[0], pht_text(text), pht_float(1e100 + (double)i)));
        ok(pht_set_add(t, it[1], pht_text(text), NULL));
        ok(pht_list_insert(t, it[2], (uint64_t)i / 2, pht_text(text)));
        ok(pht_queue_push(t, it[3], i % 2 == 0, pht_text(text)));
        ok(pht_omap_set(t, it[4], pht_text(text), pht_int(i)));
    }
    for (unsigned i = 0; i < 5; i++)
        root_set(t, names[i], pht_of(it[i]));
    const uint64_t limbs[] = {1, 2, 3};
    const struct pht_any elements[] = {pht_bigint(true, limbs, 3), pht_bytes("0123456789", 10), pht_of(it[0])};
    const struct pht_any plain[] = {pht_int(1), pht_text("a text that is an object")};
    ok(pht_tuple_new(t, elements, 3, &tuple));
    root_set(t, "tuple", pht_of(tuple));
    ok(pht_tuple_new(t, plain, 2, &tuple));
    ok(pht_map_set(t, pht_root(t), pht_of(tuple), pht_of(tuple)));
    const struct pht_any members[] = {pht_int(1), pht_text("a text that is an object"), pht_of(tuple), pht_none(),
                                      pht_frozenset(plain, 2)};
    ok(pht_frozenset_new(t, members, 5, &value));
    ok(pht_map_set(t, pht_root(t), pht_of(value), pht_of(value)));
    ok(pht_set_add(t, it[1], pht_of(value), NULL));
    ok(pht_block_new(t, 64, &block));
    root_set(t, "block", pht_of(block));
    const struct pht_field fields[] = {{.name = "v", .kind = PHT_FIELD_VALUE, .size = 8, .offset = 8, .count = 3},
                                       {.name = "i", .kind = PHT_FIELD_SIGNED, .size = 4, .offset = 0, .count = 2}};
    const struct pht_layout with = {.name = "with", .size = 32, .field_count = 2, .fields = fields};
    const struct pht_layout without = {.name = "without", .size = 8, .field_count = 1, .fields = fields + 1};
    uint32_t type;
    ok(pht_type_register(t, &with, &type));
    ok(pht_record_new(t, type, &value));
    ok(pht_record_set(t, value, 16, pht_text("a text that is an object")));
    root_set(t, "record", pht_of(value));
    ok(pht_type_register(t, &without, &type));
    ok(pht_array_new(t, type, 10, &value));
    root_set(t, "array", pht_of(value));
    ok(pht_ring_new(t, type, 4, &value));
    for (unsigned i = 0; i < 6; i++)
        ok(pht_ring_push(t, value, type, &at));
    root_set(t, "ring", pht_of(value));
    /* A list whose next element makes its tree higher. */
    ok(pht_list_new(t, &value));
    for (int64_t i = 0; i < 252; i++)
        ok(pht_list_append(t, value, pht_int(i)));
    root_set(t, "full", pht_of(value));
    /* Two objects in limbo. */
    for (unsigned i = 0; i < 2; i++) {
        ok(pht_list_new(t, &value));
        ok(pht_list_append(t, value, pht_text("a text that is an object")));
        ok(pht_discard(t, value));
    }
}

/* The blocks of the heap that is spoilt, and a session that remembers some of them. */
static struct {
    uint64_t offset, length;
} blocks[8192];
static uint32_t block_count;
static struct pht_session session;

static bool remembers(void *context, pht_value word)
{
    (void)context;
    return word / 16 % 2 == 0;
}

static bool next_remembered(void *context, uint64_t *cursor, pht_value *word)
{
    (void)context;
    if (*cursor >= block_count || *cursor >= 400)
        return false;
    *word = blocks[(*cursor)++].offset;
    return true;
}

static void begin_remembering(pheap *heap)
{
    ok(pht_session_begin(heap, true, -1, &session));
}

static uint64_t word_in(const struct pht *t, uint64_t offset)
{
    uint64_t word;
    memcpy(&word, t->base + offset, sizeof word);
    return word;
}

/* One of the lists of limbo has what a session holds, one what was offered to it, one neither; and one an unfinished offer. */
static void fill_limbo(pheap *heap)
{
    for (unsigned round = 0; round < 3; round++) {
        pht_value list, ring;
        struct pht t = change(heap);
        for (unsigned i = 0; i < 2; i++) {
            ok(pht_list_new(&t, &list));
            ok(pht_list_append(&t, list, pht_text("a text that is an object")));
            ok(pht_discard(&t, list));
        }
        ok(pht_hold(&t, &session, list));
        if (round == 1) {
            ok(pht_list_new(&t, &ring));
            ok(pht_list_append(&t, ring, pht_of(ring)));
            ok(pt_limbo_offer(&t, ring));
            ok(pt_limbo_end_offer(&t));
        }
        if (round == 2) {
            ok(pht_list_new(&t, &ring));
            ok(pht_list_append(&t, ring, pht_of(ring)));
            ok(pt_limbo_offer(&t, ring));
            for (unsigned list_in_limbo = PT_WAITING; list_in_limbo < PT_LIMBOS; list_in_limbo++)
                require(word_in(&t, t.registry + offsetof(struct pt_registry, limbo[list_in_limbo])) != 0);
        }
        keep(&t);
    }
}

/* Change number `which` of a heap like that; one that is refused half-way would stop those after it. */
static void change_something(struct pht *t, unsigned which)
{
    pht_value it = PHT_ABSENT, taken;
    uint64_t at;
    static const char *const names[] = {"map", "set", "list", "queue", "omap"};
    if (which < 10 && (pht_map_get(t, pht_root(t), pht_text(names[which / 2]), &it) != PHEAP_OK || it == PHT_ABSENT))
        return;
    for (unsigned i = 0; i < 12; i++) {
        char text[48];
        (void)snprintf(text, sizeof text, i % 2 == 0 ? "%u" : "a text that is an object: %u",
                       which % 2 == 0 ? i + 5000 : i);
        switch (which) {
        case 0:
            ignored = pht_map_set(t, it, pht_text(text), pht_text("a text that is an object"));
            break;
        case 1:
            ignored = pht_map_remove(t, it, pht_text(text), i % 2 == 0 ? &taken : NULL);
            break;
        case 2:
            ignored = pht_set_add(t, it, pht_text(text), NULL);
            break;
        case 3:
            ignored = pht_set_remove(t, it, pht_text(text), NULL);
            break;
        case 4:
            ignored = i % 3 == 0 ? pht_list_append(t, it, pht_text(text)) : pht_list_insert(t, it, i, pht_text(text));
            break;
        case 5:
            ignored = i % 3 == 0 ? pht_list_remove(t, it, i, NULL) : pht_list_set(t, it, i % 5, pht_text(text));
            break;
        case 6:
            ignored = pht_queue_push(t, it, i % 2 == 0, pht_text(text));
            break;
        case 7:
            ignored = i % 3 == 0 ? pht_queue_set(t, it, i, pht_none()) : pht_queue_pop(t, it, i % 2 == 0, NULL);
            break;
        case 8:
            ignored = pht_omap_set(t, it, pht_text(text), pht_text(text));
            break;
        case 9:
            ignored = pht_omap_remove(t, it, pht_text(text), NULL);
            break;
        case 10:
            ignored = pht_reclaim(t, 100, NULL);
            break;
        case 11:
            ignored = pht_map_clear(t, pht_root(t));
            ignored = pht_reclaim(t, 5000, NULL);
            break;
        case 12:
            if (pht_map_get(t, pht_root(t), pht_text("record"), &it) == PHEAP_OK)
                ignored = pht_record_set(t, it, 8 + i % 3 * 8, i % 4 == 0 ? pht_of(PHT_ABSENT) : pht_text(text));
            break;
        case 13:
            if (pht_map_get(t, pht_root(t), pht_text("ring"), &it) == PHEAP_OK)
                ignored = i % 3 == 0 ? pht_ring_pop(t, it) : pht_ring_push(t, it, 1, &at);
            break;
        case 14:
            if (pht_map_get(t, pht_root(t), pht_text("full"), &it) == PHEAP_OK)
                ignored = i < 6 ? pht_list_append(t, it, pht_text(text)) : pht_list_remove(t, it, 0, NULL);
            break;
        case 15: {
            bool must_hold, held, more;
            struct pht_session copy = session;
            const struct pht_words words = {.count = i, .has = remembers, .next = next_remembered};
            copy.mark = i % 4 == 0 ? session.mark : 0;
            ignored = pht_session_see(t, &copy, &words, &must_hold);
            ignored = pht_is_held(t, &session, blocks[i * 7 % block_count].offset, &held);
            ignored = pht_unhold(t, &session, blocks[i * 5 % block_count].offset);
            ignored = pt_limbo_take_offer_back(t, &more);
            break;
        }
        case 16:
            if (i == 3)
                ignored = pt_sessions_drop_dead(t, session.heap);
            else if (i % 4 == 0 && pht_list_new(t, &it) == PHEAP_OK)
                ignored = pt_limbo_offer(t, it);
            else
                ignored = i % 4 == 1 ? pt_limbo_end_offer(t) : pht_hold(t, &session, blocks[i % block_count].offset);
            t->lowest = 0; /* as if nobody remembered anything */
            t->version++;
            ignored = pht_reclaim(t, 50, NULL);
            break;
        default:
            fail();
        }
    }
}
#define CHANGES 17u

/* Words that are replaced together. */
struct spoilt {
    uint64_t offset[5], word[5];
    unsigned count;
};

/* Put them in place; what was there takes theirs. */
static void swap_words(pheap_txn *txn, struct spoilt *spoilt)
{
    for (unsigned i = 0; i < spoilt->count; i++) {
        uint64_t before;
        memcpy(&before, pheap_ptr(txn, spoilt->offset[i]), sizeof before);
        ok(pheap_write(txn, spoilt->offset[i], &spoilt->word[i], sizeof before));
        spoilt->word[i] = before;
    }
}

/* A word of a block and, in every other case, up to four near it, each of them once. */
static struct spoilt draw_words(pheap_txn *txn, uint64_t block, uint64_t length, uint64_t at, uint64_t other,
                                uint64_t *dice)
{
    struct spoilt spoilt = {.count = 0};
    const unsigned most = dice_roll(dice) % 2 == 0 ? 1 : 2 + (unsigned)(dice_roll(dice) % 4);
    for (; spoilt.count < most && at + 8 <= length; at += 8 + 8 * (dice_roll(dice) % 3)) {
        uint64_t word;
        memcpy(&word, (const char *)pheap_ptr(txn, block) + at, sizeof word);
        const uint64_t near_or_far = dice_roll(dice) % 2 == 0 ? other : block;
        spoilt.offset[spoilt.count] = block + at;
        spoilt.word[spoilt.count++] = evil(word, (unsigned)(dice_roll(dice) % EVILS), near_or_far, dice);
    }
    return spoilt;
}

/* The same words in a commit of their own, so that the check can be asked; then they are what they were. */
static void check_spoiled(pheap *heap, struct spoilt spoilt)
{
    struct pht t;
    pheap_txn *txn = begin(heap);
    swap_words(txn, &spoilt);
    ok(pheap_commit(txn, PHEAP_LAZY, NULL));
    pheap_read *reader = read_begin(heap, PHEAP_FRESH);
    if (pht_look(reader, &t) == PHEAP_OK) /* it goes on after a fault only if somebody is told */
        ignored = pht_check(&t, ignore_fault, NULL, NULL);
    if (pht_look(reader, &t) == PHEAP_OK) {
        bool must_hold;
        struct pht_session copy = session;
        const struct pht_words words = {.count = 3, .has = remembers, .next = next_remembered};
        ignored = pht_session_see(&t, &copy, &words, &must_hold);
        ok(pheap_set_mark(heap, session.mark));
    }
    (void)pheap_read_end(reader);
    txn = begin(heap);
    swap_words(txn, &spoilt);
    ok(pheap_commit(txn, PHEAP_LAZY, NULL));
}

static void spoil(const char *name, bool large)
{
    uint64_t dice = choose_seed(), from = 0, tried = 0;
    uint32_t count = 0;
    pheap *heap = new_values_heap(name);
    begin_remembering(heap);
    struct pht t = change(heap);
    fill(&t, large);
    keep(&t);
    fill_limbo(heap);
    pheap_read *reader = read_begin(heap, PHEAP_FRESH);
    while (count < 8192 &&
           pheap_read_next_block(reader, from, &blocks[count].offset, &blocks[count].length) == PHEAP_OK) {
        from = blocks[count].offset + blocks[count].length;
        count++;
    }
    (void)pheap_read_end(reader);
    block_count = count;
    (void)alarm(PATIENCE_S);
    for (uint32_t b = 0; b < count; b++) {
        /* Of a large heap the objects without references are as in the small one. */
        if (large && blocks[b].length < 64)
            continue;
        for (uint64_t at = 0; at < blocks[b].length; at += 8) {
            if (large && at >= 64 && dice_roll(&dice) % (SANITIZED ? 48 : 16) != 0)
                continue;
            const unsigned first = (unsigned)(dice_roll(&dice) % CHANGES);
            pheap_txn *txn = begin(heap);
            const struct spoilt drawn =
                draw_words(txn, blocks[b].offset, blocks[b].length, at, blocks[dice_roll(&dice) % count].offset, &dice);
            struct spoilt spoilt = drawn;
            swap_words(txn, &spoilt);
            if (pht_begin(txn, &t) == PHEAP_OK) {
                struct pht view = t;
                ask(&view, pht_root(&t), large ? 2 : 3);
                change_something(&t, first);
                t.failed = PHEAP_OK; /* as a program would that does not listen */
                change_something(&t, (first + 1 + (unsigned)(dice_roll(&dice) % (CHANGES - 1))) % CHANGES);
            }
            (void)pheap_abort(txn);
            if (tried++ % 8 == 0)
                check_spoiled(heap, drawn);
        }
    }
    (void)alarm(0);
    print_message("%llu words\n", (unsigned long long)tried);
    t = change(heap);
    ok(pht_map_clear(&t, pht_root(&t)));
    keep(&t);
    ok(pht_session_end(&session, -1));
    ok(pht_collect(heap, PHEAP_LAZY, NULL));
    require_equal(live_blocks(heap), 7); /* registry, root, list of types and its leaf, two types, sessions */
    ok(pheap_close(heap));
}

/* Catches: a count, number, offset, kind or length from the heap that is used before it was checked; a walk without end. */
static void hostile__every_word_of_a_small_heap(void **state)
{
    (void)state;
    for (unsigned round = 0; round < (WATCHES_THREADS ? 1 : 3); round++) {
        char name[32];
        (void)snprintf(name, sizeof name, "small-%u", round);
        spoil(name, false);
    }
}

static void hostile__words_of_a_larger_heap(void **state)
{
    (void)state;
    spoil("large", true);
}

/* ----------------------------------------------------------------------------------------------- aimed at one place */

static void spoil_word(const struct pht *t, uint64_t offset, uint64_t word)
{
    ok(pheap_write(t->txn, offset, &word, sizeof word));
}

/* A list of so many ints, which the root map has. */
static pht_value list_of(struct pht *t, int64_t count)
{
    pht_value list;
    ok(pht_list_new(t, &list));
    root_set(t, "list", pht_of(list));
    for (int64_t i = 0; i < count; i++)
        ok(pht_list_append(t, list, pht_int(i)));
    return list;
}

/* Catches: the top of a tree that is described in a new one above it, and was not looked at (a read anywhere). */
static void hostile__top_of_a_tree_that_rises(void **state)
{
    (void)state;
    pheap *heap = new_values_heap("top");
    struct pht t = change(heap);
    const pht_value list = list_of(&t, 252); /* a leaf in the tree, and a full tail */
    spoil_word(&t, list + 40, UINT64_C(0x7ffffffffff0));
    expect(PHEAP_CORRUPT, pht_list_append(&t, list, pht_int(0)));
    ok(pheap_abort(t.txn));
    ok(pheap_close(heap));
}

/* Catches: the count of a tuple that is read again after an element was dropped, whose link in limbo was put into it. */
static void hostile__limbo_that_ends_in_a_tuple(void **state)
{
    (void)state;
    pht_value list, tuple;
    pheap *heap = new_values_heap("tuple");
    struct pht t = change(heap);
    ok(pht_list_new(&t, &list));
    const struct pht_any elements[] = {pht_int(1), pht_of(list)};
    ok(pht_tuple_new(&t, elements, 2, &tuple));
    ok(pht_discard(&t, tuple));
    spoil_word(&t, tuple + 16, PHT_MAP); /* what looks like the head of an object, whose link is the tuple's count */
    spoil_word(&t, t.registry + 72 + 48 + 8, tuple + 16);
    expect(PHEAP_CORRUPT, pht_reclaim(&t, 100, NULL)); /* limbo does not end where the registry says */
    require_equal(word_in(&t, tuple + 24), 0);
    ok(pheap_abort(t.txn));
    ok(pheap_close(heap));
}

/* Catches: two nodes that lie in each other, and are joined by copying what the copy changes. */
static void hostile__nodes_within_nodes(void **state)
{
    (void)state;
    pheap *heap = new_values_heap("nodes");
    struct pht t = change(heap);
    const pht_value list = list_of(&t, 20000);
    require_equal(word_in(&t, list + 56), 2); /* its height */
    const uint64_t top = word_in(&t, list + 40), left = word_in(&t, top + 16), right = left + 16 + 2 * 16;
    const uint64_t entries[] = {left, 252, right, 1000};
    const uint64_t inner[] = {35 | UINT64_C(1) << 32, 1 | UINT64_C(126) << 32, left, UINT64_C(0xfffffff0)};
    spoil_word(&t, left + 8, 2 | UINT64_C(126) << 32);
    ok(pheap_write(t.txn, right, inner, sizeof inner));
    ok(pheap_write(t.txn, top + 16, entries, sizeof entries));
    spoil_word(&t, top + 8, 2 | UINT64_C(126) << 32);
    expect(PHEAP_CORRUPT, pht_list_remove(&t, list, 0, NULL));
    require_equal(word_in(&t, left + 8), 2 | UINT64_C(126) << 32); /* nothing was copied */
    ok(pheap_abort(t.txn));
    ok(pheap_close(heap));
}

/* Catches: the first chunk of an array that is made larger, and is no chunk but the map itself. */
static void hostile__chunk_that_is_the_map(void **state)
{
    (void)state;
    pht_value map;
    pheap *heap = new_values_heap("chunk");
    struct pht t = change(heap);
    ok(pht_map_new(&t, &map));
    for (int64_t i = 0; i < 8; i++)
        ok(pht_map_set(&t, map, pht_int(i), pht_int(i)));
    root_set(&t, "map", pht_of(map));
    spoil_word(&t, map + 56, map);
    spoil_word(&t, map + 64, UINT64_C(4) << 32);
    expect(PHEAP_CORRUPT, pht_map_set(&t, map, pht_text("z"), pht_int(9)));
    require_equal(word_in(&t, map) & UINT32_MAX, PHT_MAP);
    ok(pheap_abort(t.txn));
    ok(pheap_close(heap));
}

/* The check of the newest version; what is told is not looked at. */
static enum pheap_status check_quietly(pheap *heap)
{
    struct pht t;
    pheap_read *reader = read_begin(heap, PHEAP_FRESH);
    ok(pht_look(reader, &t));
    const enum pheap_status status = pht_check(&t, NULL, NULL, NULL);
    (void)pheap_read_end(reader);
    return status;
}

/*
 * Catches: a type that could not have been registered, and is shown or passes the check: one that contains itself, has
 * fields of no kind, with impossible bits or sizes, a name that is not UTF-8, or another fingerprint.
 */
static void hostile__types_that_cannot_be(void **state)
{
    (void)state;
    uint32_t inner, outer;
    struct pht_layout found;
    const struct pht_field x = {.name = "x", .kind = PHT_FIELD_SIGNED, .size = 4, .count = 1};
    const struct pht_layout plain = {.name = "inner", .size = 4, .field_count = 1, .fields = &x};
    pheap *heap = new_values_heap("types");
    struct pht t = change(heap);
    ok(pht_type_register(&t, &plain, &inner));
    const struct pht_field fields[] = {{.name = "s", .kind = PHT_FIELD_STRUCT, .size = 4, .count = 1, .type = inner},
                                       x};
    const struct pht_layout nested = {.name = "outer", .size = 4, .field_count = 2, .fields = fields};
    ok(pht_type_register(&t, &nested, &outer));
    ok(pht_type_show(&t, outer, &found, NULL, 0, NULL));
    const uint64_t at = (uint64_t)((const unsigned char *)found.name - t.base) - 2 * 32; /* the first field */
    keep(&t);
    ok(check_quietly(heap));
    const struct {
        uint64_t offset;
        unsigned char byte;
    } changes[] = {
        {at + 20, (unsigned char)outer}, /* itself */
        {at + 16, 3},                    /* not as long as its type */
        {at + 24, 99},                   /* no kind */
        {at + 26, 200},                  /* bits of a struct */
        {at + 32 + 16, 3},               /* an integer of three bytes */
        {at + 32 + 27, 33},              /* more bits than it has */
        {at + 32 + 24, 2},               /* unsigned: possible, and another fingerprint */
        {at + 64, 0xff},                 /* no UTF-8 */
        {at + 64 + 6, 0xff},
    };
    for (unsigned i = 0; i < sizeof changes / sizeof changes[0]; i++) {
        t = change(heap);
        const unsigned char good = t.base[changes[i].offset];
        ok(pheap_write(t.txn, changes[i].offset, &changes[i].byte, 1));
        expect(PHEAP_CORRUPT, pht_type_show(&t, outer, &found, NULL, 0, NULL));
        keep(&t);
        expect(PHEAP_CORRUPT, check_quietly(heap));
        t = change(heap);
        ok(pheap_write(t.txn, changes[i].offset, &good, 1));
        keep(&t);
    }
    ok(check_quietly(heap));
    ok(pheap_close(heap));
}

/*
 * Catches: a check whose time is quadratic, because all entries are in one chain: of a map with a single bucket, and of
 * one that has enough of them, which all begin with the same entry.
 */
static void hostile__maps_of_one_chain(void **state)
{
    (void)state;
    enum { COUNT = 2000 };
    pht_value map;
    pheap *heap = new_values_heap("chain");
    struct pht t = change(heap);
    ok(pht_map_new(&t, &map));
    root_set(&t, "map", pht_of(map));
    for (int64_t i = 0; i < COUNT; i++)
        ok(pht_map_set(&t, map, pht_int(i), pht_int(i)));
    const uint64_t entries = word_in(&t, map + 40), chains = word_in(&t, map + 56),
                   head = COUNT | (uint64_t)COUNT << 32;
    for (uint32_t i = 0; i < COUNT; i++) {
        const uint64_t chunk = word_in(&t, entries + 16 + i / 127 * 8);
        ok(pheap_write(t.txn, chunk + 16 + i % 127 * 32 + 12, &i, sizeof i)); /* the entry before it */
    }
    const uint64_t first = word_in(&t, chains + 16), second = word_in(&t, chains + 24);
    for (uint32_t i = 0; i < 1020; i += 2) {
        spoil_word(&t, first + 16 + i * 4, head);
        spoil_word(&t, second + 16 + i * 4, head);
    }
    keep(&t);
    char text[200];
    expect(PHEAP_CORRUPT, check_quietly(heap));
    (void)snprintf(text, sizeof text, "%s", pheap_error_detail());
    require(strstr(text, "too long") != NULL);
    t = change(heap);
    spoil_word(&t, map + 16, UINT64_C(1) << 32 | (word_in(&t, map + 16) & UINT32_MAX));
    keep(&t);
    expect(PHEAP_CORRUPT, check_quietly(heap));
    (void)snprintf(text, sizeof text, "%s", pheap_error_detail());
    require(strstr(text, "too few buckets") != NULL);
    ok(pheap_close(heap));
}

/* Catches: a damaged limbo that stops all writing for ever; garbage in its place that cannot be collected. */
static void hostile__limbo_that_is_cut_off(void **state)
{
    (void)state;
    pht_value map, list;
    uint64_t collected;
    pheap *heap = new_values_heap("cut");
    struct pht t = change(heap);
    ok(pht_map_new(&t, &map));
    for (int64_t i = 0; i < 1000; i++)
        ok(pht_map_set(&t, map, pht_int(i), pht_text("a text that is an object")));
    ok(pht_list_new(&t, &list));
    ok(pht_list_append(&t, list, pht_text("another one that is an object")));
    ok(pht_discard(&t, map));
    ok(pht_discard(&t, list));
    ok(pht_reclaim(&t, 100, NULL)); /* the map is half gone */
    spoil_word(&t, t.registry + 72, 0x5550);
    keep(&t);
    t = change(heap);
    expect(PHEAP_CORRUPT, pht_map_set(&t, pht_root(&t), pht_int(1), pht_int(1)));
    ok(pheap_abort(t.txn));
    t = change(heap);
    ok(pht_forget_limbo(&t));
    ok(pht_map_set(&t, pht_root(&t), pht_int(1), pht_int(1)));
    keep(&t);
    check_values(heap);
    ok(pht_collect(heap, PHEAP_LAZY, &collected));
    require(collected > 900);
    t = change(heap);
    ok(pht_map_clear(&t, pht_root(&t)));
    keep(&t);
    require_all_given_back(heap);
    check_values(heap);
    ok(pheap_close(heap));
}

int main(int argc, char **argv)
{
    choose_cases(argc, argv);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(hostile__every_word_of_a_small_heap), cmocka_unit_test(hostile__words_of_a_larger_heap),
        cmocka_unit_test(hostile__top_of_a_tree_that_rises),   cmocka_unit_test(hostile__limbo_that_ends_in_a_tuple),
        cmocka_unit_test(hostile__nodes_within_nodes),         cmocka_unit_test(hostile__chunk_that_is_the_map),
        cmocka_unit_test(hostile__types_that_cannot_be),       cmocka_unit_test(hostile__maps_of_one_chain),
        cmocka_unit_test(hostile__limbo_that_is_cut_off),
    };
    return cmocka_run_group_tests(tests, make_test_directory, remove_test_directory);
}
