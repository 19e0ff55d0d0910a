/* SPDX-License-Identifier: MIT */
/*
 * Sessions: what a program remembers stays whole, whatever others remove or collect; and nothing stays that nobody
 * remembers.  What processes remember that die or sleep is tested by test_types_holders.
 */
#include "tests/types_rememberer.h"

/*
 * Catches: an object that is taken apart or collected while somebody remembers its word; a hold, or something in limbo, that
 * stays for ever; and a heap that is not sound in between.
 */
static void sessions__keep_what_they_remember(void **state)
{
    (void)state;
    uint64_t dice = choose_seed();
    struct rememberer all[3];
    all[0].heap = new_values_heap("remember");
    all[1].heap = values_heap(path_of("remember", ""), 0);
    all[2].heap = values_heap(path_of("remember", ""), 0);
    for (unsigned i = 0; i < 3; i++)
        begin_session(&all[i], i < 2);
    uint64_t collected = 0, sum = 0;
    for (unsigned step = 0; step < 30000 * effort(); step++) {
        struct rememberer *r = &all[dice_roll(&dice) % 3];
        const uint64_t what = dice_roll(&dice) % 32;
        if (what < 12)
            read_something(r, &dice);
        else if (what < 20 && r->session.holds)
            change_something(r, &dice);
        else if (what < 29)
            see(r, what % 2 == 0, what == 28);
        else if (what < 31) {
            ok(pht_collect(r->heap, PHEAP_LAZY, &collected));
            sum += collected;
        } else if (dice_roll(&dice) % 8 == 0) {
            const bool holds = r->session.holds;
            ok(pht_session_end(&r->session, -1));
            begin_session(r, holds);
        }
        if (dice_roll(&dice) % 64 == 0)
            while (r->count > 0)
                forget(r, 0);
        if (what % 3 == 0)
            rest(r);
        if (all[2].count > 2)
            all[2].count = 0; /* it stops all others, so not for long */
        for (unsigned i = 0; i < 3; i++)
            require_whole(&all[i]);
        if (step % 64 == 0)
            check_values(all[0].heap);
    }
    require(sum > 0);
    for (unsigned i = 0; i < 3; i++)
        ok(pht_session_end(&all[i].session, -1));
    require_nothing_stays(all[0].heap);
    for (unsigned i = 0; i < 3; i++)
        ok(pheap_close(all[i].heap));
}

/* One step of a short history of two: A remembers, B removes. */
enum step { A_READS, A_FORGETS, A_SEES, A_STORES, A_CHILD, B_MAKES, B_REMOVES, B_SEES, B_CYCLE, COLLECT, STEPS };

static void take_step(struct rememberer *a, struct rememberer *b, enum step step)
{
    struct pht t;
    pheap_read *reader;
    switch (step) {
    case A_READS:
    case A_CHILD:
        reader = look(a->heap, &t);
        if (step == A_READS)
            remember(a, &t, root_get(&t, "0"));
        else if (a->count > 0)
            remember(a, &t, child_of(&t, a->words[a->count - 1], 0));
        ok(pheap_read_end(reader));
        break;
    case A_FORGETS:
        if (a->count == 0)
            break;
        forget(a, 0);
        t = change(a->heap);
        while (a->dropped_count > 0)
            ok(pht_unhold(&t, &a->session, a->dropped[--a->dropped_count]));
        keep(&t);
        rest(a);
        break;
    case A_SEES:
        see(a, false, false);
        break;
    case A_STORES:
        t = change(a->heap);
        if (a->count > 0)
            root_set(&t, "0", pht_of(a->words[a->count - 1]));
        keep(&t);
        break;
    case B_MAKES:
        t = change(b->heap);
        (void)make_list(&t, 0);
        keep(&t);
        break;
    case B_REMOVES:
        t = change(b->heap);
        ok(pht_map_remove(&t, pht_root(&t), pht_text("0"), NULL));
        keep(&t);
        break;
    case B_CYCLE: { /* two lists that refer to each other */
        pht_value other;
        t = change(b->heap);
        const pht_value list = make_list(&t, 0);
        ok(pht_list_new(&t, &other));
        ok(pht_list_append(&t, other, pht_int(next_number++)));
        ok(pht_list_append(&t, other, pht_of(list)));
        ok(pht_list_append(&t, list, pht_of(other)));
        keep(&t);
        break;
    }
    case B_SEES:
        see(b, false, false);
        break;
    default:
        ok(pht_collect(b->heap, PHEAP_LAZY, NULL));
    }
}

/* Catches: in all histories of a few steps what the random ones may miss. */
static void sessions__every_short_history(void **state)
{
    (void)state;
    const unsigned length = effort() > 8 ? 6 : 5;
    unsigned histories = 1;
    struct rememberer a = {.heap = new_values_heap("short")}, b = {.heap = values_heap(path_of("short", ""), 0)};
    for (unsigned i = 0; i < length; i++)
        histories *= STEPS;
    for (unsigned history = 0; history < histories; history++) {
        unsigned rest = history;
        begin_session(&a, true);
        begin_session(&b, true);
        take_step(&a, &b, B_CYCLE);
        take_step(&a, &b, A_READS);
        for (unsigned i = 0; i < length; i++) {
            take_step(&a, &b, rest % STEPS);
            rest /= STEPS;
            require_whole(&a);
        }
        ok(pht_session_end(&a.session, -1));
        ok(pht_session_end(&b.session, -1));
        if (history % 16 == 0)
            require_nothing_stays(a.heap);
    }
    require_nothing_stays(a.heap);
    ok(pheap_close(a.heap));
    ok(pheap_close(b.heap));
}

/* ------------------------------------------------------------------------------------------------ arguments, states */

/* Catches: a session that does what it must not, or says nothing of it. */
static void sessions__refuse(void **state)
{
    (void)state;
    bool must_hold;
    struct rememberer r = {.heap = new_values_heap("refuse")};
    const struct pht_words words = words_of(&r, false);
    expect(PHEAP_INVALID, pht_session_begin(r.heap, true, -1, NULL));
    expect(PHEAP_INVALID, pht_session_begin(NULL, true, -1, &r.session));
    begin_session(&r, false); /* of a heap without values */
    struct pht t = change(r.heap);
    const pht_value list = make_list(&t, 0);
    expect(PHEAP_READ_ONLY, pht_hold(&t, &r.session, list));
    keep(&t);
    ok(pht_session_end(&r.session, -1));
    ok(pht_session_end(&r.session, -1));
    expect(PHEAP_INVALID, pht_session_seen(&r.session));
    expect(PHEAP_INVALID, pht_session_rest(&r.session));
    expect(PHEAP_INVALID, pht_session_rest(NULL));
    expect(PHEAP_INVALID, pht_session_wake(NULL, &r.session));
    expect(PHEAP_INVALID, pht_session_wake(&t, &r.session));
    begin_session(&r, true);
    pheap_read *reader = look(r.heap, &t);
    expect(PHEAP_READ_ONLY, pht_hold(&t, &r.session, list));
    expect(PHEAP_READ_ONLY, pht_unhold(&t, &r.session, list));
    expect(PHEAP_INVALID, pht_session_see(&t, &r.session, NULL, &must_hold));
    expect(PHEAP_INVALID, pht_session_see(NULL, &r.session, &words, &must_hold));
    expect(PHEAP_INVALID, pht_waiting(&t, NULL));
    ok(pheap_read_end(reader));
    t = change(r.heap);
    ok(pht_unhold(&t, &r.session, list)); /* it was not held */
    ok(pht_hold(&t, &r.session, pht_root(&t)));
    ok(pht_hold(&t, &r.session, PT_IN_LIMBO)); /* a small int */
    ok(pht_hold(&t, &r.session, list));
    ok(pht_hold(&t, &r.session, list));
    uint32_t count;
    ok(pht_references(&t, list, &count));
    require_equal(count, 2);
    keep(&t);
    ok(pht_session_end(&r.session, -1));
    require_nothing_stays(r.heap);
    ok(pheap_close(r.heap));
}

/* Catches: an argument that is used and is not there; what a session that has ended, or that nobody has, is asked to do. */
static void sessions__without_arguments(void **state)
{
    (void)state;
    bool flag;
    uint64_t objects;
    uint32_t count;
    struct pht_session ended = {.heap = NULL}, other;
    struct rememberer r = {.heap = new_values_heap("arguments")};
    const struct pht_words words = words_of(&r, false);
    begin_session(&r, true);
    struct pht t = change(r.heap);
    const pht_value list = make_list(&t, 0), small = 1; /* the int 0 */
    expect(PHEAP_INVALID, pht_session_adopt(NULL, &r.session, &other, &flag));
    expect(PHEAP_INVALID, pht_session_adopt(r.heap, NULL, &other, &flag));
    expect(PHEAP_INVALID, pht_session_adopt(r.heap, &r.session, NULL, &flag));
    expect(PHEAP_INVALID, pht_session_adopt(r.heap, &r.session, &other, NULL));
    expect(PHEAP_INVALID, pht_hold(NULL, &r.session, list));
    expect(PHEAP_INVALID, pht_hold(&t, NULL, list));
    expect(PHEAP_INVALID, pht_hold(&t, &ended, list));
    expect(PHEAP_INVALID, pht_unhold(&t, &ended, list));
    expect(PHEAP_INVALID, pht_is_held(NULL, &r.session, list, &flag));
    expect(PHEAP_INVALID, pht_is_held(&t, NULL, list, &flag));
    expect(PHEAP_INVALID, pht_is_held(&t, &r.session, list, NULL));
    expect(PHEAP_INVALID, pht_session_see(&t, NULL, &words, &flag));
    expect(PHEAP_INVALID, pht_session_see(&t, &ended, &words, &flag));
    expect(PHEAP_INVALID, pht_session_see(&t, &r.session, NULL, &flag));
    expect(PHEAP_INVALID, pht_session_see(&t, &r.session, &words, NULL));
    expect(PHEAP_INVALID, pht_session_seen(NULL));
    expect(PHEAP_INVALID, pht_waiting(NULL, &objects));
    expect(PHEAP_INVALID, pht_references(&t, PHT_ABSENT, &count));
    expect(PHEAP_INVALID, pht_references(&t, list, NULL));
    expect(PHEAP_INVALID, pht_changes(&t, list, NULL));
    expect(PHEAP_INVALID, pht_changes(&t, PHT_ABSENT, &count));
    expect(PHEAP_WRONG_TYPE, pht_changes(&t, small, &count));
    ok(pht_session_end(NULL, 0));
    ok(pht_references(&t, small, &count));
    require_equal(count, 0);
    ok(pht_unhold(&t, &r.session, small));
    ok(pht_is_held(&t, &r.session, small, &flag));
    require(!flag);
    ok(pht_is_held(&t, &r.session, list, &flag));
    require(!flag);
    keep(&t);
    /* A seat that there is not, and that of somebody else. */
    other = r.session;
    other.seat = 100000;
    ok(pht_session_adopt(r.heap, &other, &ended, &flag));
    require(!flag);
    other = r.session;
    other.mark = 0;
    ok(pht_session_adopt(r.heap, &other, &ended, &flag));
    require(!flag);
    ok(pht_session_end(&r.session, -1));
    require_nothing_stays(r.heap);
    ok(pheap_close(r.heap));
}

/* Catches: a session that has seen what it could not hold for want of room, and a heap or limbo that such a failure spoils. */
static void sessions__without_room(void **state)
{
    (void)state;
    enum { LISTS = 6000 };
    static pht_value lists[LISTS];
    const struct pheap_options options = {.size = sizeof options, .reserve_bytes = 4u << 20};
    struct rememberer all = {.heap = NULL}, one = {.heap = NULL};
    bool must_hold;
    ok(pheap_open(path_of("no-room", ""), PHEAP_CREATE, &options, &all.heap));
    ok(pheap_open(path_of("no-room", ""), 0, &options, &one.heap));
    begin_session(&all, true);
    struct pht t = change(all.heap);
    for (unsigned i = 0; i < LISTS; i++) {
        char name[8];
        ok(pht_list_new(&t, &lists[i]));
        ok(pht_list_append(&t, lists[i], pht_int(next_number++)));
        slot_name(name, i);
        root_set(&t, name, pht_of(lists[i]));
    }
    keep(&t);
    begin_session(&one, true);
    remember(&one, &t, lists[LISTS - 1]);
    /* Fill the heap, then remove the lists, all of which `all` remembers. */
    t = change(all.heap);
    uint32_t savepoint;
    for (enum pheap_status status = PHEAP_OK; status == PHEAP_OK;) {
        pht_value block;
        ok(pheap_savepoint(t.txn, &savepoint));
        status = pht_block_new(&t, 4000, &block);
        if (status == PHEAP_OK)
            ok(pht_map_set(&t, pht_root(&t), pht_int((int64_t)block), pht_of(block)));
    }
    ok(pheap_rollback(t.txn, savepoint));
    keep(&t);
    t = change(all.heap);
    for (unsigned i = 0; i < LISTS; i++) {
        char name[8];
        slot_name(name, i);
        ok(pht_map_remove(&t, pht_root(&t), pht_text(name), NULL));
    }
    keep(&t);
    t = change(all.heap);
    ok(pht_reclaim(&t, 1, NULL)); /* the young ones wait now */
    keep(&t);
    t = change(all.heap);
    enum pheap_status status = PHEAP_OK;
    for (unsigned i = 0; i < LISTS && status == PHEAP_OK; i++)
        status = pht_hold(&t, &all.session, lists[i]);
    expect(PHEAP_RESERVE, status);
    const struct pht_words words = words_of(&one, false);
    expect(PHEAP_RESERVE, pht_session_see(&t, &all.session, &words, &must_hold));
    require(pht_session_due(&t, &all.session));
    ok(pheap_abort(t.txn));
    check_values(all.heap);
    see(&one, false, false); /* one more there is room for */
    require_whole(&one);
    t = change(all.heap);
    require_equal(number_of(&t, lists[LISTS - 1]), number_of(&t, lists[0]) + LISTS - 1);
    ok(pheap_abort(t.txn));
    ok(pht_session_end(&all.session, -1));
    ok(pht_collect(one.heap, PHEAP_LAZY, NULL));
    require_whole(&one);
    ok(pht_session_end(&one.session, -1));
    require_nothing_stays(one.heap);
    ok(pheap_close(one.heap));
    ok(pheap_close(all.heap));
}

/* Catches: a program that only reads and begins while a transaction is open which takes apart what it is about to see. */
static void sessions__begin_beside_a_writer(void **state)
{
    (void)state;
    struct pht_session session;
    pheap *heap = new_values_heap("beside"), *other = values_heap(path_of("beside", ""), 0);
    struct pht t = change(heap);
    (void)make_list(&t, 0);
    keep(&t);
    t = change(heap);
    ok(pht_map_clear(&t, pht_root(&t)));
    ok(pht_reclaim(&t, 1000, NULL));
    expect(PHEAP_TIMEOUT, pht_session_begin(other, false, 30, &session));
    keep(&t);
    ok(pht_session_begin(other, false, 0, &session));
    ok(pht_session_end(&session, 0));
    ok(pht_session_begin(other, true, 0, &session));
    ok(pht_session_end(&session, 0));
    /* Now there was one: what goes in a transaction stays whole until its end, and nobody waits. */
    t = change(heap);
    const pht_value list = make_list(&t, 1);
    keep(&t);
    t = change(heap);
    ok(pht_map_clear(&t, pht_root(&t)));
    bool more = true;
    ok(pht_reclaim(&t, 1000, &more));
    require(!more);
    require_equal(number_of(&t, list), next_number - 1);
    ok(pht_session_begin(other, false, 0, &session));
    ok(pht_session_end(&session, 0));
    keep(&t);
    require_nothing_stays(heap);
    ok(pheap_close(heap));
    ok(pheap_close(other));
}

/*
 * Catches: garbage that was offered, and is taken for seen by all although it was referred to since: somebody may have come by it
 * then, after he had seen the offer.
 */
static void sessions__come_by_what_was_offered(void **state)
{
    (void)state;
    struct rememberer a = {.heap = new_values_heap("offered")}, b = {.heap = values_heap(path_of("offered", ""), 0)};
    begin_session(&a, true);
    begin_session(&b, true);
    take_step(&a, &b, B_CYCLE);
    take_step(&a, &b, A_READS);
    struct pht t = change(b.heap);
    ok(pht_map_remove(&t, pht_root(&t), pht_text("0"), NULL));
    keep(&t);
    ok(pht_collect(b.heap, PHEAP_LAZY, NULL)); /* offers both lists */
    t = change(b.heap);
    root_set(&t, "then", pht_int(1)); /* they wait now */
    keep(&t);
    see(&b, false, false);
    bool must_hold;
    const struct pht_words words = words_of(&a, false);
    t = change(a.heap);
    ok(pht_session_see(&t, &a.session, &words, &must_hold)); /* holds one of them */
    require(must_hold);
    root_set(&t, "0", pht_of(a.words[0])); /* at once, since what is stored later gets it out of limbo */
    keep(&t);
    ok(pht_session_seen(&a.session));
    pheap_read *reader = look(b.heap, &t);
    remember(&b, &t, root_get(&t, "0"));
    ok(pheap_read_end(reader));
    require_equal(b.count, 1);
    t = change(a.heap);
    ok(pht_map_remove(&t, pht_root(&t), pht_text("0"), NULL));
    ok(pht_unhold(&t, &a.session, a.words[0]));
    keep(&t);
    a.count = 0;
    for (unsigned i = 0; i < 3; i++) {
        ok(pht_collect(a.heap, PHEAP_LAZY, NULL));
        require_whole(&b);
        see(&a, false, false);
        see(&b, false, false);
    }
    ok(pht_session_end(&a.session, -1));
    ok(pht_session_end(&b.session, -1));
    require_nothing_stays(a.heap);
    ok(pheap_close(a.heap));
    ok(pheap_close(b.heap));
}

int main(int argc, char **argv)
{
    choose_cases(argc, argv);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sessions__keep_what_they_remember),
        cmocka_unit_test(sessions__every_short_history),
        cmocka_unit_test(sessions__refuse),
        cmocka_unit_test(sessions__without_room),
        cmocka_unit_test(sessions__come_by_what_was_offered),
        cmocka_unit_test(sessions__without_arguments),
        cmocka_unit_test(sessions__begin_beside_a_writer),
    };
    return cmocka_run_group_tests(tests, make_test_directory, remove_test_directory);
}
