/* SPDX-License-Identifier: MIT */
/* Sessions of several processes: what they remember while others remove and collect it, are stopped, killed, or sleep. */
#include "tests/types_rememberer.h"

/* Remember what is in the root, see when told, read it when told. */
static void holder(const struct peer *test, const char *path)
{
    struct rememberer r = {.heap = values_heap(path, 0)};
    begin_session(&r, true);
    for (unsigned slot = 0; slot < SLOTS; slot++) {
        char name[8];
        struct pht t;
        pheap_read *reader = look(r.heap, &t);
        slot_name(name, slot);
        remember(&r, &t, root_get(&t, name));
        ok(pheap_read_end(reader));
    }
    require_equal(r.count, SLOTS);
    peer_tell(test, 'r');
    for (;;) {
        char what = 0;
        require(read(test->from, &what, 1) == 1);
        if (what == 's')
            see(&r, false, false);
        else if (what == 'x')
            break;
        require_whole(&r);
        peer_tell(test, what);
    }
    ok(pheap_close(r.heap)); /* without an end of the session */
}

static void fill_slots(pheap *heap)
{
    struct pht t = change(heap);
    for (unsigned slot = 0; slot < SLOTS; slot++) {
        const pht_value list = make_list(&t, slot);
        if (slot % 2 == 1) /* one that counting does not free */
            ok(pht_list_append(&t, list, pht_of(list)));
    }
    keep(&t);
}

/* Remove all, and use the space again, if there is any to be had. */
static void remove_and_reuse(pheap *heap)
{
    struct pht t = change(heap);
    ok(pht_map_clear(&t, pht_root(&t)));
    keep(&t);
    for (unsigned i = 0; i < 50; i++) {
        t = change(heap);
        (void)make_list(&t, i % SLOTS);
        keep(&t);
        if (i % 10 == 0)
            ok(pht_collect(heap, PHEAP_LAZY, NULL));
    }
    t = change(heap);
    ok(pht_map_clear(&t, pht_root(&t)));
    keep(&t);
}

static uint64_t waiting(pheap *heap)
{
    struct pht t;
    uint64_t objects;
    pheap_read *reader = look(heap, &t);
    ok(pht_waiting(&t, &objects));
    ok(pheap_read_end(reader));
    return objects;
}

/*
 * Catches: objects that another process removes, collects and overwrites while this one remembers them (T2); a collector that
 * waits for a process that was stopped; and what was held by one that was killed and stays for ever.
 */
static void processes__remember_and_die(void **state)
{
    (void)state;
    const char *path = path_of("die", "");
    static pheap *heap; /* where a child's copy is found by those who look for leaks */
    heap = new_values_heap("die");
    for (unsigned round = 0; round < 12; round++) {
        fill_slots(heap);
        struct peer child = peer_start(holder, path);
        peer_hear(&child, 'r');
        if (round % 3 == 2)
            require(kill(child.pid, SIGSTOP) == 0);
        remove_and_reuse(heap);
        if (round % 3 == 2) {
            require(waiting(heap) >= SLOTS / 2); /* the cycles */
            require(kill(child.pid, SIGCONT) == 0);
        }
        peer_tell(&child, 'w');
        peer_hear(&child, 'w');
        for (unsigned i = 0; i < 3; i++) {
            if (round % 2 == 0) {
                peer_tell(&child, 's');
                peer_hear(&child, 's');
            }
            remove_and_reuse(heap);
            peer_tell(&child, 'w');
            peer_hear(&child, 'w');
        }
        if (round % 2 == 0)
            require(live_blocks(heap) > 3 + SLOTS); /* what it holds */
        if (round % 4 < 2) {
            peer_kill(&child);
        } else {
            peer_tell(&child, 'x');
            peer_join(&child);
        }
        require_nothing_stays(heap);
    }
    ok(pheap_close(heap));
}

/* Begin sessions and hold all there is, until killed. */
static void hold_and_let_go(const struct peer *test, const char *path)
{
    uint64_t dice = (uint64_t)getpid();
    struct rememberer r = {.heap = values_heap(path, 0)};
    peer_tell(test, 'r');
    for (;;) {
        begin_session(&r, true);
        for (unsigned i = 0; i < 40; i++) {
            switch (dice_roll(&dice) % 8) {
            case 0:
                (void)!pht_collect(r.heap, PHEAP_LAZY, NULL); /* others may be at it */
                break;
            case 1:
                see(&r, false, false);
                break;
            case 2:
            case 3:
                change_something(&r, &dice);
                break;
            default:
                read_something(&r, &dice);
            }
            require_whole(&r);
        }
        ok(pht_session_end(&r.session, -1));
    }
}

/* Catches: a kill in the midst of a hold, a look, an end or a collection that leaves a damaged heap, or something nobody can free. */
static void processes__killed_at_any_moment(void **state)
{
    (void)state;
    const char *path = path_of("kills", "");
    pheap *heap = new_values_heap("kills");
    fill_slots(heap);
    for (unsigned round = 0; round < 8 * effort(); round++) {
        struct peer children[3];
        for (unsigned i = 0; i < 3; i++)
            children[i] = peer_start(hold_and_let_go, path);
        for (unsigned i = 0; i < 3; i++)
            peer_hear(&children[i], 'r');
        for (unsigned i = 0; i < 20; i++) {
            const enum pheap_status status = pht_collect(heap, PHEAP_LAZY, NULL);
            if (status != PHEAP_BUSY) /* somebody is in the way of a collection */
                ok(status);
        }
        for (unsigned i = 0; i < 3; i++)
            peer_kill(&children[i]);
        check_values(heap);
        require_nothing_stays(heap);
    }
    ok(pheap_close(heap));
}

/* Rest; when told begin a reader, then remember what it saw, and end it. */
static void rester(const struct peer *test, const char *path)
{
    struct rememberer r = {.heap = values_heap(path, 0)};
    begin_session(&r, true);
    for (;;) {
        struct pht t;
        char what = 0;
        rest(&r);
        peer_tell(test, 'r');
        require(read(test->from, &what, 1) == 1);
        if (what == 'x')
            break;
        pheap_read *reader = look(r.heap, &t);
        peer_tell(test, 'l');
        peer_hear(test, 'w');
        for (unsigned slot = 0; slot < SLOTS; slot++) {
            char name[8];
            slot_name(name, slot);
            remember(&r, &t, root_get(&t, name));
        }
        require_equal(r.count, SLOTS);
        ok(pheap_read_end(reader));
        peer_tell(test, 'w');
        peer_hear(test, 's');
        require_whole(&r);
        see(&r, false, false);
        peer_tell(test, 's');
        peer_hear(test, 'f');
        require_whole(&r);
        while (r.count > 0)
            forget(&r, 0);
        t = change(r.heap);
        while (r.dropped_count > 0)
            ok(pht_unhold(&t, &r.session, r.dropped[--r.dropped_count]));
        keep(&t);
    }
    ok(pht_session_end(&r.session, -1));
    ok(pheap_close(r.heap));
}

/* Catches: a process that sleeps and remembers nothing, and stops others for ever; and one that wakes too late for what it saw. */
static void processes__rest(void **state)
{
    (void)state;
    pheap *heap = new_values_heap("rest");
    fill_slots(heap);
    struct peer child = peer_start(rester, path_of("rest", ""));
    for (unsigned round = 0; round < 20; round++) {
        peer_hear(&child, 'r');
        remove_and_reuse(heap);
        ok(pht_collect(heap, PHEAP_LAZY, NULL));
        require_equal(waiting(heap), 0);
        require(live_blocks(heap) <= 3 + 3); /* and the map of its holds, which is empty */
        fill_slots(heap);
        peer_tell(&child, 'l');
        peer_hear(&child, 'l');
        remove_and_reuse(heap);
        if (round % 2 == 0) /* sees them in its reader still */
            require(live_blocks(heap) > 3 + SLOTS);
        peer_tell(&child, 'w');
        peer_hear(&child, 'w');
        remove_and_reuse(heap);
        peer_tell(&child, 's');
        peer_hear(&child, 's');
        remove_and_reuse(heap);
        peer_tell(&child, 'f');
    }
    peer_hear(&child, 'r');
    peer_tell(&child, 'x');
    peer_join(&child);
    require_nothing_stays(heap);
    ok(pheap_close(heap));
}

/* Wake, remember and rest, as often as may be, until killed. */
static void wake_and_rest(const struct peer *test, const char *path)
{
    uint64_t dice = (uint64_t)getpid();
    struct rememberer r = {.heap = values_heap(path, 0)};
    begin_session(&r, true);
    peer_tell(test, 'r');
    for (;;) {
        struct pht t;
        rest(&r);
        pheap_read *reader = look(r.heap, &t);
        for (unsigned slot = 0; slot < SLOTS; slot++) {
            char name[8];
            slot_name(name, slot);
            remember(&r, &t, root_get(&t, name));
        }
        ok(pheap_read_end(reader));
        for (uint64_t i = dice_roll(&dice) % 8; i > 0; i--)
            require_whole(&r);
        if (dice_roll(&dice) % 4 == 0)
            see(&r, false, false);
        require_whole(&r);
        while (r.count > 0)
            forget(&r, 0);
        if (r.dropped_count < WORDS_MAX / 2)
            continue;
        t = change(r.heap);
        while (r.dropped_count > 0)
            ok(pht_unhold(&t, &r.session, r.dropped[--r.dropped_count]));
        keep(&t);
    }
}

/* Catches: a moment at which what a process is about to remember can be taken apart. */
static void processes__wake_at_any_moment(void **state)
{
    (void)state;
    pheap *heap = new_values_heap("wake");
    fill_slots(heap);
    struct peer children[2];
    for (unsigned i = 0; i < 2; i++)
        children[i] = peer_start(wake_and_rest, path_of("wake", ""));
    for (unsigned i = 0; i < 2; i++)
        peer_hear(&children[i], 'r');
    for (unsigned round = 0; round < 20000 * effort(); round++) {
        bool more;
        struct pht t = change(heap);
        (void)make_list(&t, round % SLOTS);
        ok(pht_reclaim(&t, 1000, &more));
        keep(&t);
    }
    for (unsigned i = 0; i < 2; i++) {
        require_equal(waitpid(children[i].pid, NULL, WNOHANG), 0); /* it lives */
        peer_kill(&children[i]);
    }
    require_nothing_stays(heap);
    ok(pheap_close(heap));
}

int main(int argc, char **argv)
{
    choose_cases(argc, argv);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(processes__remember_and_die),
        cmocka_unit_test(processes__killed_at_any_moment),
        cmocka_unit_test(processes__rest),
        cmocka_unit_test(processes__wake_at_any_moment),
    };
    return cmocka_run_group_tests(tests, make_test_directory, remove_test_directory);
}
