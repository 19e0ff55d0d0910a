/* SPDX-License-Identifier: MIT */
/*
 * One place of a heap of values is wrong, each in turn, in the ways that tell an unchecked use; then every function is
 * called.  And what programs give is wrong: no address, what is too large.
 *
 * (test_types_hostile.c draws damage by chance, several words at a time, and looks for crashes only.)
 */
#include "tests/support/effort.h"
#include "tests/types_content.h"
#include "tests/types_evil.h"
#include "tests/types_functions.h"
#include "types/session.h"

#define BLOCKS_MAX 2048u
#define FIRST_WORDS 9u

/* What a function may say of a damaged heap; to find nothing wrong is possible, too. */
#define POSSIBLE                                                                                   \
    (ONE_OF(PHEAP_OK) | ONE_OF(PHEAP_CORRUPT) | ONE_OF(PHEAP_WRONG_TYPE) | ONE_OF(PHEAP_INVALID) | \
     ONE_OF(PHEAP_FULL) | ONE_OF(PHEAP_NOT_FOUND) | ONE_OF(PHEAP_NEWER))

static struct {
    uint64_t offset, length;
} blocks[BLOCKS_MAX];

static unsigned list_blocks(pheap *heap)
{
    unsigned count = 0;
    uint64_t from = 0;
    pheap_read *reader = read_begin(heap, PHEAP_FRESH);
    while (count < BLOCKS_MAX &&
           pheap_read_next_block(reader, from, &blocks[count].offset, &blocks[count].length) == PHEAP_OK) {
        from = blocks[count].offset + blocks[count].length;
        count++;
    }
    (void)pheap_read_end(reader);
    return count;
}

/* What a word becomes: outside of the heap, not where a block begins, another block, a large count, nothing. */
static uint64_t wrong_word(uint64_t word, unsigned how, uint64_t other)
{
    switch (how) {
    case 0:
        return UINT64_C(1) << 40;
    case 1:
        return word + 8;
    case 2:
        return other;
    case 3:
        return word | UINT64_C(0x7fffffff);
    case 4:
        return word | UINT64_C(0x7fffffff00000000);
    default:
        return 0;
    }
}
#define WAYS 6u

/* One word of a block is wrong: the numbers in `functions` are tried. */
static void try_functions(const struct rig *rig, uint64_t at, unsigned how, uint64_t other, unsigned first,
                          unsigned step)
{
    for (unsigned function = first; function < FUNCTIONS; function += step) {
        struct pht t;
        uint64_t word;
        pheap_txn *txn = begin(rig->heap);
        memcpy(&word, pheap_ptr(txn, at), sizeof word);
        word = wrong_word(word, how, other);
        ok(pheap_write(txn, at, &word, sizeof word));
        if (expect_one(POSSIBLE, pht_begin(txn, &t)) == PHEAP_OK) {
            struct pht view = t;
            if (function == first && how == at / 8 % WAYS)
                ask(&view, pht_root(&view), 2);
            (void)expect_one(POSSIBLE, store(function, &t, rig));
        }
        ok(pheap_abort(txn));
    }
}

/*
 * Catches: an offset, count, kind or link from the heap that is used before it was checked, a damaged heap that is told
 * as something else, a failure without a text; and what the abort of such a transaction does not bring back.
 */
static void damage__before_every_function(void **state)
{
    (void)state;
    struct rig rig = {.heap = new_values_heap("damage")};
    struct pht t = change(rig.heap);
    uint64_t places = 0, dice = 1;
    fill(&rig, &t);
    ok(pht_list_new(&t, &rig.loose));
    fill_limbo(&t);
    rig.content = content_of(&t, pht_root(&t));
    keep(&t);
    const unsigned count = list_blocks(rig.heap);
    (void)alarm(600);
    for (unsigned b = 0; b < count; b++) {
        uint32_t kind;
        t = change(rig.heap);
        memcpy(&kind, t.base + blocks[b].offset, sizeof kind);
        ok(pheap_abort(t.txn));
        if (kind < PHT_TYPE && b % 16 != 0) /* a few of the many that are all alike */
            continue;
        for (uint64_t word = 0; word < blocks[b].length / 8 && word < FIRST_WORDS; word++)
            for (unsigned how = 0; how < WAYS; how++, places++) {
                const unsigned step = WATCHES_THREADS ? 211 : SANITIZED ? 43 : 11;
                try_functions(&rig, blocks[b].offset + word * 8, how, blocks[dice_roll(&dice) % count].offset,
                              (unsigned)(places % step), step);
            }
    }
    (void)alarm(0);
    t = change(rig.heap);
    require_equal(content_of(&t, pht_root(&t)), rig.content);
    ok(pheap_abort(t.txn));
    check_values(rig.heap);
    print_message("%llu places and ways\n", (unsigned long long)places);
    ok(pheap_close(rig.heap));
}

/* ---------------------------------------------------------------------------------------------------------- sessions */

static bool has_all(void *context, pht_value word)
{
    (void)context;
    return word % 32 == 0;
}

static bool next_block(void *context, uint64_t *cursor, pht_value *word)
{
    if (*cursor >= *(const unsigned *)context)
        return false;
    *word = blocks[(*cursor)++].offset;
    return true;
}

/* Each list of limbo has something, some of it offered; a session holds some of it, and so does somebody dead. */
static void fill_all_limbo(pheap *heap, struct pht_session *session)
{
    struct pht t;
    pht_value list;
    const struct pht_session none = *session;
    for (unsigned round = 0; round < 3; round++) {
        t = change(heap);
        for (unsigned i = 0; i < 3; i++) {
            ok(pht_list_new(&t, &list));
            ok(pht_list_append(&t, list, pht_text(object_text)));
            ok(pht_discard(&t, list));
        }
        ok(pht_hold(&t, session, list));
        ok(pht_list_new(&t, &list));
        ok(pht_list_append(&t, list, pht_of(list)));
        ok(pt_limbo_offer(&t, list));
        if (round == 1)
            ok(pt_limbo_end_offer(&t));
        keep(&t);
    }
    struct pht_session dead = none;
    dead.attached_ns--;
    t = change(heap);
    ok(pht_hold(&t, &dead, list));
    keep(&t);
}

/* Function `number` of sessions and limbo; the word of a block is one of those it is about. */
static enum pheap_status look_after(unsigned number, struct pht *t, struct pht_session *session, pht_value word,
                                    unsigned count)
{
    bool flag;
    uint64_t objects;
    pht_value made;
    const struct pht_words words = {
        .count = number % 2 == 0 ? 0 : count, .has = has_all, .next = next_block, .context = &count};
    switch (number) {
    case 0:
    case 1:
        session->mark = 1;
        return pht_session_see(t, session, &words, &flag);
    case 2:
        return pht_hold(t, session, word);
    case 3:
        return pht_unhold(t, session, word);
    case 4:
        return pht_is_held(t, session, word, &flag);
    case 5:
        return pt_sessions_drop_dead(t, session->heap);
    case 6:
        return pt_limbo_take_offer_back(t, &flag);
    case 7:
        return pt_limbo_end_offer(t);
    case 8:
        t->asked = true; /* as if nobody remembered anything, in the next transaction */
        t->lowest = 0;
        t->version++;
        return pht_reclaim(t, 1000, &flag);
    case 9:
        return pht_waiting(t, &objects);
    case 10:
        return pht_list_append(t, pht_root(t), pht_of(word));
    case 11:
        return pht_map_set(t, pht_root(t), pht_int(1), pht_of(word));
    case 12:
        return pht_discard(t, word);
    default:
        return pht_list_new(t, &made);
    }
}
#define LOOKED_AFTER 14u

static void write_word(pheap *heap, uint64_t at, uint64_t word)
{
    pheap_txn *txn = begin(heap);
    ok(pheap_write(txn, at, &word, sizeof word));
    ok(pheap_commit(txn, PHEAP_LAZY, NULL));
}

/* What readers see of a word that is wrong, and who begins a session. */
static void look_at_wrong_word(pheap *heap, pheap *other, const struct pht_session *session, uint64_t at, uint64_t word,
                               unsigned count)
{
    struct pht t;
    uint64_t there;
    struct pht_session copy = *session, begun;
    pheap_txn *txn = begin(heap);
    memcpy(&there, pheap_ptr(txn, at), sizeof there);
    ok(pheap_abort(txn));
    write_word(heap, at, word);
    pheap_read *reader = read_begin(heap, PHEAP_FRESH);
    if (expect_one(POSSIBLE, pht_look(reader, &t)) == PHEAP_OK) {
        (void)expect_one(POSSIBLE, pht_check(&t, ignore_fault, NULL, NULL));
        for (unsigned number = 0; number < 5; number += number == 1 ? 3 : 1)
            (void)expect_one(POSSIBLE, look_after(number, &t, &copy, at & ~UINT64_C(15), count));
    }
    ok(pheap_read_end(reader));
    if (expect_one(POSSIBLE, pht_session_begin(other, false, 0, &begun)) == PHEAP_OK)
        ok(pht_session_end(&begun, 0));
    ok(pheap_set_mark(heap, session->mark)); /* who has seen something in a wrong heap has moved it */
    write_word(heap, at, there);
}

/* Catches: what `damage__before_every_function` does, of limbo, sessions and what they hold. */
static void damage__of_sessions_and_limbo(void **state)
{
    (void)state;
    uint64_t dice = choose_seed();
    struct pht_session session;
    pheap *heap = new_values_heap("sessions"), *other = values_heap(path_of("sessions", ""), 0);
    ok(pht_session_begin(heap, true, -1, &session));
    fill_all_limbo(heap, &session);
    const unsigned count = list_blocks(heap);
    (void)alarm(600);
    for (unsigned b = 0; b < count; b++)
        for (uint64_t word = 0; word < blocks[b].length / 8 && word < 24; word++) {
            for (unsigned attempt = 0; attempt < WAYS * LOOKED_AFTER; attempt += WATCHES_THREADS ? 13 : 1) {
                struct pht t;
                uint64_t there;
                struct pht_session copy = session;
                const uint64_t at = blocks[b].offset + 8 * word;
                pheap_txn *txn = begin(heap);
                memcpy(&there, pheap_ptr(txn, at), sizeof there);
                there = wrong_word(there, attempt % WAYS, blocks[dice_roll(&dice) % count].offset);
                ok(pheap_write(txn, at, &there, sizeof there));
                if (expect_one(POSSIBLE, pht_begin(txn, &t)) == PHEAP_OK)
                    (void)expect_one(POSSIBLE, look_after(attempt / WAYS, &t, &copy,
                                                          blocks[dice_roll(&dice) % count].offset, count));
                ok(pheap_abort(txn));
            }
            for (unsigned way = 0; way < WAYS; way++)
                look_at_wrong_word(heap, other, &session, blocks[b].offset + 8 * word,
                                   wrong_word(1, way, blocks[dice_roll(&dice) % count].offset), count);
        }
    (void)alarm(0);
    check_values(heap);
    ok(pht_session_end(&session, -1));
    ok(pht_collect(heap, PHEAP_LAZY, NULL));
    check_values(heap);
    ok(pheap_close(other));
    ok(pheap_close(heap));
}

/* The word is wrong in a commit of its own; it becomes what is wrong with it, and the other way round. */
static void swap_word(pheap *heap, uint64_t at, uint64_t *word)
{
    uint64_t before;
    pheap_txn *txn = begin(heap);
    memcpy(&before, pheap_ptr(txn, at), sizeof before);
    ok(pheap_write(txn, at, word, sizeof *word));
    ok(pheap_commit(txn, PHEAP_LAZY, NULL));
    *word = before;
}

/* What the check says of the newest version. */
static enum pheap_status checked(pheap *heap)
{
    struct pht t;
    pheap_read *reader = read_begin(heap, PHEAP_FRESH);
    enum pheap_status status = pht_look(reader, &t);
    if (status == PHEAP_OK)
        status = pht_check(&t, ignore_fault, NULL, NULL);
    (void)pheap_read_end(reader);
    return status;
}

/* Catches: damage that the check does not see, and a function meets; a function that fails in a sound heap. */
static void damage__that_the_check_does_not_see(void **state)
{
    (void)state;
    struct rig rig = {.heap = new_values_heap("unseen")};
    struct pht t = change(rig.heap);
    uint64_t dice = 2, places = 0, unseen = 0;
    fill(&rig, &t);
    ok(pht_list_new(&t, &rig.loose));
    fill_limbo(&t);
    keep(&t);
    const unsigned count = list_blocks(rig.heap);
    (void)alarm(600);
    for (; places < (SANITIZED ? 100 : 1500); places++) {
        const unsigned b = (unsigned)(dice_roll(&dice) % count);
        if (blocks[b].offset == rig.loose)
            continue; /* nothing refers to it: with another kind it is a block that is none of the values' */
        const uint64_t words = blocks[b].length / 8, most = dice_roll(&dice) % 2 == 0 && words > 9 ? 9 : words;
        const uint64_t at = blocks[b].offset + dice_roll(&dice) % most * 8;
        uint64_t word;
        t = change(rig.heap);
        memcpy(&word, t.base + at, sizeof word);
        ok(pheap_abort(t.txn));
        word = wrong_word(word, (unsigned)(dice_roll(&dice) % WAYS), blocks[dice_roll(&dice) % count].offset);
        swap_word(rig.heap, at, &word);
        const bool sound = checked(rig.heap) == PHEAP_OK;
        unseen += sound;
        for (unsigned function = 0; function < FUNCTIONS && sound; function++) {
            t = change(rig.heap);
            if (store(function, &t, &rig) == PHEAP_CORRUPT)
                check_failed(__FILE__, __LINE__,
                             "function %u meets what is wrong at 0x%llx, in the block at 0x%llx: %s", function,
                             (unsigned long long)at, (unsigned long long)blocks[b].offset, pheap_error_detail());
            ok(pheap_abort(t.txn));
        }
        swap_word(rig.heap, at, &word);
    }
    (void)alarm(0);
    check_values(rig.heap);
    print_message("%llu of %llu places are not seen, and do no harm\n", (unsigned long long)unseen,
                  (unsigned long long)places);
    ok(pheap_close(rig.heap));
}

/* Catches: a function that changes something in a snapshot, or after another failed, before it has asked. */
static void functions__that_may_not_change_anything(void **state)
{
    (void)state;
    struct pht t;
    struct rig rig = {.heap = new_values_heap("refused")};
    t = change(rig.heap);
    fill(&rig, &t);
    ok(pht_list_new(&t, &rig.loose));
    rig.content = content_of(&t, pht_root(&t));
    keep(&t);
    pheap_read *reader = read_begin(rig.heap, PHEAP_FRESH);
    ok(pht_look(reader, &t));
    for (unsigned function = 0; function < FUNCTIONS; function++)
        expect(PHEAP_READ_ONLY, store(function, &t, &rig));
    require_equal(content_of(&t, pht_root(&t)), rig.content);
    (void)pheap_read_end(reader);
    t = change(rig.heap);
    t.failed = PHEAP_NO_SPACE;
    for (unsigned function = 0; function < FUNCTIONS; function++)
        expect_detail(PHEAP_NO_SPACE, "half-way", store(function, &t, &rig));
    require_equal(content_of(&t, pht_root(&t)), rig.content);
    keep(&t);
    check_values(rig.heap);
    ok(pheap_close(rig.heap));
}

/* -------------------------------------------------------------------------------------------------------- arguments */

#define invalid(call) expect(PHEAP_INVALID, call)

static void missing_results(struct pht *t, const struct rig *rig)
{
    const struct pht_any one = pht_int(1);
    pht_value value = PHT_ABSENT;
    uint64_t cursor = 0, offset;
    invalid(pht_make(t, one, NULL));
    invalid(pht_show(t, NULL, NULL));
    invalid(pht_show(t, &rig->map, NULL));
    invalid(pht_kind_of(t, rig->map, NULL));
    invalid(pht_references(t, rig->map, NULL));
    invalid(pht_equal(t, one, one, NULL));
    invalid(pht_compare(t, one, one, NULL));
    invalid(pht_hash(t, one, NULL));
    invalid(pht_block_new(t, 1, NULL));
    invalid(pht_block_at(t, rig->map, NULL, &offset));
    invalid(pht_block_at(t, rig->map, &offset, NULL));
    invalid(pht_map_new(t, NULL));
    invalid(pht_map_count(t, rig->map, NULL));
    invalid(pht_map_get(t, rig->map, one, NULL));
    invalid(pht_map_add(t, rig->map, one, one, NULL));
    invalid(pht_map_next(t, rig->map, NULL, &value, &value));
    invalid(pht_map_next(t, rig->map, &cursor, NULL, &value));
    invalid(pht_set_new(t, NULL));
    invalid(pht_set_count(t, rig->set, NULL));
    invalid(pht_set_has(t, rig->set, one, NULL));
    invalid(pht_set_next(t, rig->set, NULL, &value));
    invalid(pht_set_previous(t, rig->set, &cursor, NULL));
    invalid(pht_list_new(t, NULL));
    invalid(pht_list_count(t, rig->list, NULL));
    invalid(pht_list_get(t, rig->list, 0, NULL));
    invalid(pht_list_read(t, rig->list, 0, 1, NULL));
    invalid(pht_queue_new(t, NULL));
    invalid(pht_queue_count(t, rig->queue, NULL));
    invalid(pht_queue_get(t, rig->queue, 0, NULL));
    invalid(pht_omap_new(t, NULL));
    invalid(pht_omap_count(t, rig->omap, NULL));
    invalid(pht_omap_get(t, rig->omap, one, NULL));
    invalid(pht_omap_rank(t, rig->omap, one, NULL, NULL));
    invalid(pht_omap_at(t, rig->omap, 0, NULL, &value));
    invalid(pht_tuple_new(t, NULL, 1, &value));
    invalid(pht_tuple_new(t, &one, 1, NULL));
}

static void missing_results_of_structs(struct pht *t, const struct rig *rig)
{
    pht_value array, tuple;
    struct pht_layout layout;
    uint64_t count, offset;
    const struct pht_any one = pht_int(1);
    ok(pht_array_new(t, rig->cell_type, 1, &array));
    ok(pht_tuple_new(t, &one, 1, &tuple));
    invalid(pht_tuple_count(t, tuple, NULL));
    invalid(pht_tuple_get(t, tuple, 0, NULL));
    invalid(pht_type_register(t, &cell_layout, NULL));
    invalid(pht_type_register(t, NULL, NULL));
    invalid(pht_type_find(t, NULL, 0, NULL));
    invalid(pht_type_find(t, "cell", 0, NULL));
    invalid(pht_type_show(t, 0, NULL, NULL, 0, NULL));
    invalid(pht_type_show(t, 0, &layout, NULL, 1, NULL));
    invalid(pht_record_new(t, rig->record_type, NULL));
    invalid(pht_record_at(t, rig->record, PHT_ANY_TYPE, NULL, NULL));
    invalid(pht_record_get(t, rig->record, 8, NULL));
    invalid(pht_array_new(t, rig->cell_type, 1, NULL));
    invalid(pht_array_at(t, array, PHT_ANY_TYPE, NULL, &count));
    invalid(pht_array_at(t, array, PHT_ANY_TYPE, &offset, NULL));
    invalid(pht_ring_count(t, rig->ring, NULL, NULL));
    invalid(pht_ring_push(t, rig->ring, rig->cell_type, NULL));
    invalid(pht_ring_at(t, rig->ring, rig->cell_type, 0, NULL));
    ok(pht_discard(t, array));
    ok(pht_discard(t, tuple));
}

/* Catches: a result without an address that is stored to, and one that is refused when something had been done. */
static void arguments__without_an_address(void **state)
{
    (void)state;
    struct rig rig = {.heap = new_values_heap("missing")};
    struct pht t = change(rig.heap);
    fill(&rig, &t);
    rig.content = content_of(&t, pht_root(&t));
    keep(&t);
    reclaim_all(rig.heap);
    const uint64_t before = live_blocks(rig.heap);
    t = change(rig.heap);
    missing_results(&t, &rig);
    missing_results_of_structs(&t, &rig);
    require_equal(content_of(&t, pht_root(&t)), rig.content);
    keep(&t);
    check_values(rig.heap);
    reclaim_all(rig.heap);
    require_equal(live_blocks(rig.heap), before);
    pheap_read *reader = read_begin(rig.heap, PHEAP_FRESH);
    invalid(pht_look(reader, NULL));
    invalid(pht_look(NULL, &t));
    ok(pht_look(reader, &t));
    struct pht_census census = {.size = 0};
    invalid(pht_check(&t, NULL, NULL, &census));
    census.size = 5000;
    invalid(pht_check(&t, NULL, NULL, &census));
    census.size = 16; /* of an older program */
    census.faults = 77;
    ok(pht_check(&t, NULL, NULL, &census));
    require(census.objects > 10 && census.faults == 77);
    invalid(pht_check(NULL, NULL, NULL, NULL));
    (void)pheap_read_end(reader);
    t = change(rig.heap);
    invalid(pht_check(&t, NULL, NULL, NULL));
    invalid(pht_begin(NULL, &t));
    ok(pheap_abort(t.txn));
    invalid(pht_collect(NULL, PHEAP_LAZY, NULL));
    invalid(pht_collect(rig.heap, (enum pheap_durability)7, NULL));
    ok(pheap_close(rig.heap));
}

/* Catches: lengths and counts whose bytes cannot be counted, and structs that are larger than anything. */
static void arguments__that_are_too_large(void **state)
{
    (void)state;
    static char name[300];
    static struct pht_field many[4097];
    struct rig rig = {.heap = new_values_heap("large")};
    struct pht t = change(rig.heap);
    const struct pht_any one = pht_int(1);
    pht_value value;
    uint32_t type;
    fill(&rig, &t);
    memset(name, 'n', sizeof name - 1);
    invalid(pht_make(&t, pht_str(name, UINT64_MAX), &value));
    invalid(pht_make(&t, pht_bigint(false, &t.size, UINT64_MAX), &value));
    invalid(pht_make(&t, pht_bigint(false, NULL, 2), &value));
    invalid(pht_make(&t, pht_bytes(NULL, 2), &value));
    invalid(pht_block_new(&t, UINT64_C(1) << 46, &value));
    invalid(pht_tuple_new(&t, &one, UINT64_C(1) << 33, &value));
    invalid(pht_array_new(&t, rig.cell_type, UINT64_MAX / 8, &value));
    invalid(pht_array_new(&t, rig.record_type, 1, &value)); /* it has values */
    invalid(pht_ring_new(&t, rig.cell_type, 0, &value));
    expect(PHEAP_NOT_FOUND, pht_array_new(&t, 9, 1, &value));
    expect(PHEAP_NOT_FOUND, pht_record_new(&t, 9, &value));
    struct pht_layout layout = {.name = name, .size = 8};
    invalid(pht_type_register(&t, &layout, &type));
    layout.name = "\xff";
    invalid(pht_type_register(&t, &layout, &type));
    layout = (struct pht_layout){.name = "t", .size = (UINT64_C(1) << 30) + 1};
    invalid(pht_type_register(&t, &layout, &type));
    for (unsigned i = 0; i < 4097; i++)
        many[i] = (struct pht_field){.name = "f", .kind = PHT_FIELD_BOOL, .size = 1, .count = 1};
    layout = (struct pht_layout){.name = "t", .size = 8, .field_count = 4097, .fields = many};
    invalid(pht_type_register(&t, &layout, &type));
    layout.field_count = 4096;
    ok(pht_type_register(&t, &layout, &type));
    many[0] = (struct pht_field){.name = "f", .kind = PHT_FIELD_VALUE, .size = 8, .count = 65537};
    layout = (struct pht_layout){.name = "v", .size = 65537 * 8, .field_count = 1, .fields = many};
    invalid(pht_type_register(&t, &layout, &type));
    many[0].name = name;
    many[0].count = 1;
    invalid(pht_type_register(&t, &layout, &type));
    keep(&t);
    check_values(rig.heap);
    ok(pheap_close(rig.heap));
}

/* Catches: a count that wraps round: of references, which then would free what is referred to, and of elements. */
static void counts__that_are_at_their_end(void **state)
{
    (void)state;
    struct rig rig = {.heap = new_values_heap("counts")};
    struct pht t = change(rig.heap);
    pht_value tuple, text, word;
    uint32_t references = UINT32_MAX - 1;
    const struct pht_any one = pht_text(object_text);
    fill(&rig, &t);
    ok(pht_tuple_new(&t, &one, 1, &tuple));
    ok(pht_make(&t, one, &text));
    const pht_value both[] = {tuple, text};
    for (unsigned i = 0; i < 2; i++) {
        ok(pheap_write(t.txn, both[i] + 4, &references, sizeof references));
        for (unsigned times = 0; times < 3; times++)
            ok(pht_list_append(&t, rig.short_list, pht_of(both[i])));
        for (unsigned times = 0; times < 3; times++)
            ok(pht_list_remove(&t, rig.short_list, 1, NULL));
        ok(pht_references(&t, both[i], &references));
        require_equal(references, UINT32_MAX); /* once there, it stays */
        references = UINT32_MAX - 1;
    }
    ok(pht_tuple_get(&t, tuple, 0, &word));
    require(is(&t, word, one));
    /* Elements: of maps and sets 2^32 - 2, of others as many as the heap can have at most. */
    const uint64_t most = UINT64_C(0xfffffffe);
    const uint32_t most_entries = (uint32_t)most;
    ok(pheap_write(t.txn, rig.set + 24, &most_entries, sizeof most_entries));
    enum pheap_status status = pht_set_add(&t, rig.set, pht_int(1000), NULL);
    require(status == PHEAP_FULL || status == PHEAP_CORRUPT);
    ok(pheap_abort(t.txn));
    ok(pheap_close(rig.heap));
}

int main(int argc, char **argv)
{
    choose_cases(argc, argv);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(damage__before_every_function),
        cmocka_unit_test(damage__of_sessions_and_limbo),
        cmocka_unit_test(damage__that_the_check_does_not_see),
        cmocka_unit_test(functions__that_may_not_change_anything),
        cmocka_unit_test(arguments__without_an_address),
        cmocka_unit_test(arguments__that_are_too_large),
        cmocka_unit_test(counts__that_are_at_their_end),
    };
    return cmocka_run_group_tests(tests, make_test_directory, remove_test_directory);
}
