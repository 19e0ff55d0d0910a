/* SPDX-License-Identifier: MIT */
/* Persistent values in several processes at the same time, some of which are killed. */
#include "tests/types_rig.h"

#define WORKERS 3
#define ROUNDS 400

/* Add 1 to the number under a name in the root map. */
static void increment(struct pht *t, const char *name)
{
    const pht_value value = root_get(t, name);
    root_set(t, name, pht_int(value == PHT_ABSENT ? 1 : integer_of(t, value) + 1));
}

static unsigned rounds = ROUNDS; /* of a worker; it is started as a copy of this process */

/* Count in common, count alone, and pass texts through a queue; each round is one transaction. */
static void worker(const struct peer *test, const char *path)
{
    pheap *heap = values_heap(path, 0);
    char name[32], text[64];
    peer_hear(test, 'g');
    (void)snprintf(name, sizeof name, "worker %d", (int)getpid());
    for (unsigned i = 0; i < rounds; i++) {
        struct pht t = change(heap);
        const pht_value queue = root_get(&t, "queue");
        pht_value first;
        increment(&t, "all");
        increment(&t, name);
        (void)snprintf(text, sizeof text, "a text from %d, which is an object, number %u", (int)getpid(), i);
        ok(pht_queue_push(&t, queue, false, pht_text(text)));
        if (i % 2 == 0) {
            ok(pht_queue_pop(&t, queue, true, &first));
            require(first != PHT_ABSENT);
            ok(pht_list_append(&t, root_get(&t, "list"), pht_of(first)));
        }
        keep(&t);
    }
    ok(pheap_close(heap));
}

/* What each finished transaction did, and nothing else, is there. */
static void compare(pheap *heap, int64_t least)
{
    struct pht t;
    uint64_t cursor = 0, queued, listed, count;
    pht_value key, value, all;
    int64_t sum = 0;
    pheap_read *reader = read_begin(heap, PHEAP_FRESH);
    ok(pht_look(reader, &t));
    all = root_get(&t, "all");
    while (pht_map_next(&t, pht_root(&t), &cursor, &key, &value) == PHEAP_OK) {
        struct pht_any any;
        ok(pht_show(&t, &key, &any));
        if (any.length > 6 && memcmp(any.bytes, "worker", 6) == 0)
            sum += integer_of(&t, value);
    }
    require_equal(integer_of(&t, all), sum);
    require(sum >= least);
    ok(pht_queue_count(&t, root_get(&t, "queue"), &queued));
    ok(pht_list_count(&t, root_get(&t, "list"), &listed));
    require_equal(queued + listed, sum);
    for (count = 0; count < listed; count++) {
        struct pht_any any;
        ok(pht_list_get(&t, root_get(&t, "list"), count, &value));
        ok(pht_show(&t, &value, &any));
        require(any.kind == PHT_STR && any.length > 11 && memcmp(any.bytes, "a text from", 11) == 0);
    }
    (void)pheap_read_end(reader);
    check_values(heap);
    check_sound(heap);
}

/* Catches: a count that is lost between processes, an element that two of them get, memory that a killed one leaves. */
static void processes__share_values(void **state)
{
    (void)state;
    pheap *heap = new_values_heap("shared");
    struct peer peers[WORKERS];
    struct pht t = change(heap);
    pht_value queue, list;
    ok(pht_queue_new(&t, &queue));
    ok(pht_list_new(&t, &list));
    root_set(&t, "queue", pht_of(queue));
    root_set(&t, "list", pht_of(list));
    keep(&t);
    for (unsigned i = 0; i < WORKERS; i++)
        peers[i] = peer_start(worker, path_of("shared", ""));
    for (unsigned i = 0; i < WORKERS; i++)
        peer_tell(&peers[i], 'g');
    for (unsigned i = 0; i < WORKERS; i++)
        peer_join(&peers[i]);
    compare(heap, WORKERS * ROUNDS);
    rounds = UINT32_MAX;
    for (unsigned round = 0; round < 10; round++) {
        for (unsigned i = 0; i < WORKERS; i++)
            peers[i] = peer_start(worker, path_of("shared", ""));
        for (unsigned i = 0; i < WORKERS; i++)
            peer_tell(&peers[i], 'g');
        pause_us(3000 + round * 1000);
        for (unsigned i = 0; i < WORKERS; i++)
            peer_kill(&peers[i]);
        compare(heap, WORKERS * ROUNDS);
    }
    t = change(heap);
    ok(pht_map_clear(&t, pht_root(&t)));
    keep(&t);
    require_all_given_back(heap);
    ok(pheap_close(heap));
}

int main(int argc, char **argv)
{
    choose_cases(argc, argv);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(processes__share_values),
    };
    return cmocka_run_group_tests(tests, make_test_directory, remove_test_directory);
}
