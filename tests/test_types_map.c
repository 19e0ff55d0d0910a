/* SPDX-License-Identifier: MIT */
/* Persistent maps and sets against a plain model: content, order, memory, cost, crafted keys. */
#include "tests/support/effort.h"
#include "tests/types_rig.h"

#define KEYS 3000u /* that a model knows */

/* A map as a program would have it: for each key its value and when it came; and the order. */
struct model {
    uint32_t count;
    uint32_t clock;
    int64_t value[KEYS]; /* -1: not there */
    uint32_t came[KEYS];
};

/* Key number `i`, of a kind that depends on it; `text` is where its bytes are. */
static struct pht_any key_of(uint32_t i, char text[64])
{
    switch (i % 5) {
    case 0:
        return pht_int((int64_t)i << 32);
    case 1:
        return pht_float(i + 0.25);
    case 2:
        (void)snprintf(text, 64, "k%u", i);
        return pht_text(text);
    case 3:
        (void)snprintf(text, 64, "a key that needs an object of its own, number %u", i);
        return pht_text(text);
    default:
        (void)snprintf(text, 64, "bytes %u", i);
        return pht_bytes(text, strlen(text));
    }
}

static void model_put(struct model *m, uint32_t i, int64_t value)
{
    if (m->value[i] < 0) {
        m->count++;
        m->came[i] = ++m->clock;
    }
    m->value[i] = value;
}

static void model_remove(struct model *m, uint32_t i)
{
    if (m->value[i] >= 0)
        m->count--;
    m->value[i] = -1;
}

static void model_clear(struct model *m)
{
    for (uint32_t i = 0; i < KEYS; i++)
        model_remove(m, i);
}

static const struct model *sorted_model;
static int by_age(const void *a, const void *b)
{
    const uint32_t x = sorted_model->came[*(const uint32_t *)a], y = sorted_model->came[*(const uint32_t *)b];
    return (x > y) - (x < y);
}

/* Everything that can be asked gives what the model has. */
static void compare(struct pht *t, pht_value map, const struct model *m, bool set)
{
    static uint32_t order[KEYS];
    uint32_t found = 0;
    uint64_t count, cursor = 0;
    pht_value key, value;
    char text[64];
    for (uint32_t i = 0; i < KEYS; i++) {
        if (m->value[i] >= 0)
            order[found++] = i;
        if (set) {
            bool has;
            ok(pht_set_has(t, map, key_of(i, text), &has));
            require_equal(has, m->value[i] >= 0);
        } else {
            ok(pht_map_get(t, map, key_of(i, text), &value));
            require_equal(value != PHT_ABSENT, m->value[i] >= 0);
            if (value != PHT_ABSENT)
                require(is(t, value, pht_int(m->value[i])));
        }
    }
    sorted_model = m;
    qsort(order, found, sizeof order[0], by_age);
    ok(set ? pht_set_count(t, map, &count) : pht_map_count(t, map, &count));
    require_equal(count, m->count);
    for (uint32_t i = 0; i < found; i++) {
        ok(set ? pht_set_next(t, map, &cursor, &key) : pht_map_next(t, map, &cursor, &key, &value));
        require(is(t, key, key_of(order[i], text)));
    }
    expect(PHEAP_END, set ? pht_set_next(t, map, &cursor, &key) : pht_map_next(t, map, &cursor, &key, NULL));
    cursor = 0;
    for (uint32_t i = found; i-- > 0;) {
        ok(set ? pht_set_previous(t, map, &cursor, &key) : pht_map_previous(t, map, &cursor, &key, NULL));
        require(is(t, key, key_of(order[i], text)));
    }
    expect(PHEAP_END, set ? pht_set_previous(t, map, &cursor, &key) : pht_map_previous(t, map, &cursor, &key, NULL));
}

/* One change, to both. */
static void step(struct pht *t, pht_value map, struct model *m, bool set, uint64_t *dice, uint32_t keys)
{
    char text[64];
    bool changed;
    pht_value taken;
    const uint32_t i = (uint32_t)(dice_roll(dice) % keys);
    const int64_t value = (int64_t)(dice_roll(dice) >> (dice_roll(dice) % 60 + 3));
    const struct pht_any key = key_of(i, text);
    const uint64_t what = dice_roll(dice) % 1000;
    if (what == 0) {
        ok(set ? pht_set_clear(t, map) : pht_map_clear(t, map));
        model_clear(m);
    } else if (what < 450) {
        if (set) {
            ok(pht_set_add(t, map, key, &changed));
            require_equal(changed, m->value[i] < 0);
        } else {
            ok(pht_map_set(t, map, key, pht_int(value)));
        }
        model_put(m, i, value);
    } else if (what < 500 && !set) {
        ok(pht_map_add(t, map, key, pht_int(value), &taken));
        require_equal(taken == PHT_ABSENT, m->value[i] < 0);
        if (m->value[i] < 0)
            model_put(m, i, value);
    } else if (set) {
        ok(pht_set_remove(t, map, key, &changed));
        require_equal(changed, m->value[i] >= 0);
        model_remove(m, i);
    } else {
        ok(pht_map_remove(t, map, key, what % 2 == 0 ? &taken : NULL));
        if (what % 2 == 0) {
            require_equal(taken != PHT_ABSENT, m->value[i] >= 0);
            if (taken != PHT_ABSENT) {
                require(is(t, taken, pht_int(m->value[i])));
                ok(pht_discard(t, taken));
            }
        }
        model_remove(m, i);
    }
}

static void random_work(const char *name, bool set, unsigned flags, unsigned rounds)
{
    static struct model committed, now, saved;
    uint64_t dice = choose_seed();
    pheap *heap = values_heap(path_of(name, ""), PHEAP_CREATE | PHEAP_EXCLUSIVE | flags);
    struct pht t = change(heap);
    pht_value map;
    ok(set ? pht_set_new(&t, &map) : pht_map_new(&t, &map));
    root_set(&t, "it", pht_of(map));
    keep(&t);
    memset(&now, 0, sizeof now);
    for (uint32_t i = 0; i < KEYS; i++)
        now.value[i] = -1;
    committed = now;
    for (unsigned round = 0; round < rounds; round++) {
        /* Few keys: small maps; many: several chunks.  In some rounds most keys go again. */
        const uint32_t keys = round % 3 == 0 ? 12 : round % 3 == 1 ? 300 : KEYS;
        uint32_t savepoint;
        t = change(heap);
        map = root_get(&t, "it");
        for (unsigned i = 0; i < keys; i++)
            step(&t, map, &now, set, &dice, keys);
        if (dice_roll(&dice) % 3 == 0) {
            ok(pheap_savepoint(t.txn, &savepoint));
            saved = now;
            for (unsigned i = 0; i < keys / 2; i++)
                step(&t, map, &now, set, &dice, keys);
            if (dice_roll(&dice) % 2 == 0) {
                ok(pheap_rollback(t.txn, savepoint));
                ok(pht_begin(t.txn, &t));
                now = saved;
            }
        }
        compare(&t, map, &now, set);
        if (dice_roll(&dice) % 4 == 0) {
            ok(pheap_abort(t.txn));
            now = committed;
        } else {
            keep(&t);
            committed = now;
            check_values(heap);
        }
        if (round % 10 == 9) {
            ok(pheap_close(heap));
            heap = values_heap(path_of(name, ""), flags);
            pheap_read *reader = read_begin(heap, PHEAP_FRESH);
            ok(pht_look(reader, &t));
            compare(&t, root_get(&t, "it"), &now, set);
            expect(PHEAP_READ_ONLY, pht_map_set(&t, pht_root(&t), pht_text("it"), pht_none()));
            (void)pheap_read_end(reader);
        }
    }
    check_sound(heap);
    t = change(heap);
    ok(pht_map_remove(&t, pht_root(&t), pht_text("it"), NULL));
    keep(&t);
    require_all_given_back(heap);
    ok(pheap_close(heap));
}

/* Catches: an entry lost, found twice, out of order or with another value; memory that never comes back; whatever abort,
 * rollback or reopening do to any of that. */
static void map__does_what_a_plain_one_does(void **state)
{
    (void)state;
    random_work("map", false, 0, 60);
}

static void set__does_what_a_plain_one_does(void **state)
{
    (void)state;
    random_work("set", true, 0, 60);
}

/* Catches: an entry lost, or buckets or chunks left behind, where a map gets them or gives them back. */
static void map__grows_and_shrinks_through_every_size(void **state)
{
    (void)state;
    enum { MOST = 300 };
    uint64_t dice = choose_seed(), count;
    pheap *heap = new_values_heap("sizes");
    struct pht t = change(heap);
    pht_value map, value;
    uint32_t keys[MOST];
    char text[64];
    ok(pht_map_new(&t, &map));
    root_set(&t, "it", pht_of(map));
    keep(&t);
    const uint64_t blocks = live_blocks(heap);
    for (uint32_t most = 1; most <= MOST; most += most < 20 ? 1 : 70) {
        t = change(heap);
        for (uint32_t i = 0; i < most; i++) {
            keys[i] = i * 5; /* ints alone, so that blocks are those of the map */
            ok(pht_map_set(&t, map, key_of(keys[i], text), pht_int(i)));
        }
        for (uint32_t left = most; left > 0; left--) {
            const uint32_t at = (uint32_t)(dice_roll(&dice) % left);
            ok(pht_map_remove(&t, map, key_of(keys[at], text), NULL));
            keys[at] = keys[left - 1];
            for (uint32_t i = 0; i + 1 < left; i++) {
                ok(pht_map_get(&t, map, key_of(keys[i], text), &value));
                require(is(&t, value, pht_int(keys[i] / 5)));
            }
            ok(pht_map_count(&t, map, &count));
            require_equal(count, left - 1);
            if (left % 7 == 0) {
                keep(&t);
                check_values(heap);
                t = change(heap);
            }
        }
        keep(&t);
        require_equal(live_blocks(heap), blocks);
    }
    ok(pheap_close(heap));
}

/* Catches: a store that was never declared: other processes, and this one later, would not see it. */
static void map__declares_what_it_changes(void **state)
{
    (void)state;
    random_work("verify-map", false, PHEAP_VERIFY, 12);
    random_work("verify-set", true, PHEAP_VERIFY, 12);
}

/* Catches: an operation that copies or rehashes the whole map; memory that is not given back as a map shrinks. */
static void map__of_a_million_changes_little_at_a_time(void **state)
{
    (void)state;
    enum { COUNT = SANITIZED ? 100000 : 1000000, MORE = 2000, GROUP = 20, LIMIT = 64 << 10 };
    pheap *heap = new_values_heap("million");
    struct pht t = change(heap);
    pht_value map, value;
    ok(pht_map_new(&t, &map));
    root_set(&t, "it", pht_of(map));
    for (int64_t i = 0; i < COUNT; i++)
        ok(pht_map_set(&t, map, pht_int(i), pht_int(-i)));
    keep(&t);
    /* Both arrays grow a chunk within these, and give it back; what a few do together bounds what one does. */
    uint64_t most = 0, before = heap_info(heap).committed_lsn;
    for (int64_t i = 0; i < 2 * MORE; i++) {
        t = change(heap);
        if (i < MORE)
            ok(pht_map_set(&t, map, pht_int(-i - 1), pht_text("a value that needs an object")));
        else
            ok(pht_map_remove(&t, map, pht_int(-(i - MORE) - 1), NULL));
        keep(&t);
        if (i % GROUP == GROUP - 1) {
            const uint64_t now = heap_info(heap).committed_lsn;
            most = now - before > most ? now - before : most;
            before = now;
        }
    }
    print_message("at most %llu bytes of log for %d operations\n", (unsigned long long)most, GROUP);
    require(most > 0 && most <= LIMIT);
    const uint64_t blocks_full = live_blocks(heap);
    t = change(heap);
    for (int64_t i = 0; i < COUNT; i++) {
        ok(pht_map_get(&t, map, pht_int(i), &value));
        require_equal(integer_of(&t, value), -i);
    }
    for (int64_t i = 0; i < COUNT * 3 / 4; i++)
        ok(pht_map_remove(&t, map, pht_int(i), NULL));
    keep(&t);
    require(live_blocks(heap) < blocks_full / 2);
    t = change(heap);
    ok(pht_map_clear(&t, map));
    require(keep_and_measure(heap, &t) <= LIMIT);
    const uint64_t blocks_cleared = live_blocks(heap);
    for (unsigned i = 0; i < 2000; i++) { /* storing alone drains limbo, bit by bit */
        t = change(heap);
        ok(pht_map_set(&t, map, pht_int(7), pht_int(i)));
        require(keep_and_measure(heap, &t) <= LIMIT);
    }
    require(live_blocks(heap) < blocks_cleared);
    t = change(heap);
    ok(pht_map_remove(&t, pht_root(&t), pht_text("it"), NULL));
    keep(&t);
    require_all_given_back(heap);
    ok(pheap_close(heap));
}

/* Catches: a cursor that goes on in a map that has lost entries or got one; one that does not survive a new value. */
static void map__tells_who_walks_it_of_changes(void **state)
{
    (void)state;
    pheap *heap = new_values_heap("walk");
    struct pht t = change(heap);
    pht_value key, value;
    uint64_t cursor = 0;
    for (int64_t i = 0; i < 20; i++)
        ok(pht_map_set(&t, pht_root(&t), pht_int(i), pht_int(i)));
    ok(pht_map_next(&t, pht_root(&t), &cursor, &key, &value));
    ok(pht_map_set(&t, pht_root(&t), pht_int(1), pht_text("another value, and an object at that")));
    ok(pht_map_next(&t, pht_root(&t), &cursor, &key, &value));
    require(is(&t, value, pht_text("another value, and an object at that")));
    ok(pht_map_remove(&t, pht_root(&t), pht_int(7), NULL));
    expect_detail(PHEAP_BUSY, "changed", pht_map_next(&t, pht_root(&t), &cursor, &key, &value));
    cursor = 0;
    ok(pht_map_next(&t, pht_root(&t), &cursor, &key, &value));
    ok(pht_map_set(&t, pht_root(&t), pht_int(70), pht_int(7)));
    expect_detail(PHEAP_BUSY, "changed", pht_map_next(&t, pht_root(&t), &cursor, &key, &value));
    keep(&t);
    ok(pheap_close(heap));
}

/* Catches: keys that meet in one bucket because of a pattern in them, or a hash without a secret. */
static void map__spreads_keys_that_were_chosen(void **state)
{
    (void)state;
    enum { COUNT = 1 << 14, BUCKETS = 1 << 14 };
    static uint8_t load[4][BUCKETS];
    pheap *heaps[2] = {new_values_heap("crafted-1"), new_values_heap("crafted-2")};
    uint64_t hash[2], same = 0;
    for (unsigned h = 0; h < 2; h++) {
        struct pht t = change(heaps[h]);
        memset(load, 0, sizeof load);
        for (int64_t i = 0; i < COUNT; i++) {
            char text[16];
            uint64_t found;
            const struct pht_any keys[] = {pht_int(i << 40), pht_int(i), pht_float((double)i * 4294967296.0),
                                           (snprintf(text, sizeof text, "%08lld", (long long)i), pht_text(text))};
            for (unsigned k = 0; k < 4; k++) {
                ok(pht_hash(&t, keys[k], &found));
                require(load[k][found % BUCKETS] < 16); /* of 2^14 at random none has 16: less than 1 in 10^9 */
                load[k][found % BUCKETS]++;
            }
        }
        keep(&t);
    }
    for (int64_t i = 0; i < 100; i++) {
        for (unsigned h = 0; h < 2; h++) {
            pheap_read *reader = read_begin(heaps[h], 0);
            struct pht t;
            ok(pht_look(reader, &t));
            ok(pht_hash(&t, pht_int(i), &hash[h]));
            (void)pheap_read_end(reader);
        }
        same += hash[0] == hash[1];
    }
    require_equal(same, 0);
    ok(pheap_close(heaps[0]));
    ok(pheap_close(heaps[1]));
}

int main(int argc, char **argv)
{
    choose_cases(argc, argv);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(map__does_what_a_plain_one_does),
        cmocka_unit_test(set__does_what_a_plain_one_does),
        cmocka_unit_test(map__grows_and_shrinks_through_every_size),
        cmocka_unit_test(map__declares_what_it_changes),
        cmocka_unit_test(map__of_a_million_changes_little_at_a_time),
        cmocka_unit_test(map__tells_who_walks_it_of_changes),
        cmocka_unit_test(map__spreads_keys_that_were_chosen),
    };
    return cmocka_run_group_tests(tests, make_test_directory, remove_test_directory);
}
