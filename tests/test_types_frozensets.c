/* SPDX-License-Identifier: MIT */
/* Frozensets, keys that a program gives without having them in the heap, and limits and walks of queues. */
#include "tests/types_rig.h"

#define MOST 300u

/* Elements of every kind of key, by number; those that are equal as numbers are so in several kinds. */
static struct pht_any element(unsigned number, char text[64])
{
    switch (number % 5) {
    case 0:
        return pht_int(number);
    case 1:
        return pht_float(number + 0.25);
    case 2:
        (void)snprintf(text, 64, "element %u, which needs an object", number);
        return pht_text(text);
    case 3:
        (void)snprintf(text, 64, "%u", number);
        return pht_bytes(text, strlen(text));
    default:
        return number % 2 == 0 ? pht_none() : pht_bool(number % 4 == 1);
    }
}

static void shuffle(struct pht_any *elements, unsigned count, uint64_t *dice)
{
    for (unsigned i = count; i > 1; i--) {
        const unsigned other = (unsigned)(dice_roll(dice) % i);
        const struct pht_any moved = elements[i - 1];
        elements[i - 1] = elements[other];
        elements[other] = moved;
    }
}

static uint64_t hash_of(struct pht *t, struct pht_any any)
{
    uint64_t hash;
    ok(pht_hash(t, any, &hash));
    return hash;
}

static bool equal(struct pht *t, struct pht_any a, struct pht_any b)
{
    bool truth;
    ok(pht_equal(t, a, b, &truth));
    return truth;
}

/*
 * Catches: a hash or equality that depends on the order in which elements were given, or on whether the set is in the heap;
 * elements that are kept twice or lost; a key that is not found; memory that stays.
 */
static void frozenset__is_equal_to_all_of_the_same_elements(void **state)
{
    (void)state;
    static char texts[MOST][64];
    struct pht_any elements[2 * MOST];
    uint64_t dice = choose_seed(), count, distinct;
    pheap *heap = new_values_heap("sets");
    for (unsigned round = 0; round < 60; round++) {
        const unsigned size = (unsigned)(dice_roll(&dice) % (round % 10 == 0 ? MOST : 12));
        for (unsigned i = 0; i < size; i++)
            elements[i] = elements[size + i] = element(i, texts[i]);
        struct pht t = change(heap);
        pht_value one, two, less, plain, map, got;
        ok(pht_frozenset_new(&t, elements, size, &one));
        shuffle(elements, 2 * size, &dice);
        ok(pht_frozenset_new(&t, elements, 2 * size, &two)); /* each element twice */
        const struct pht_any outside = pht_frozenset(elements, 2 * size);
        require_equal(hash_of(&t, pht_of(one)), hash_of(&t, pht_of(two)));
        require_equal(hash_of(&t, pht_of(one)), hash_of(&t, outside));
        require(equal(&t, pht_of(one), pht_of(two)) && equal(&t, pht_of(one), outside) && equal(&t, outside, outside));
        ok(pht_set_new(&t, &plain));
        for (unsigned i = 0; i < 2 * size; i++)
            ok(pht_set_add(&t, plain, elements[i], NULL));
        ok(pht_set_count(&t, plain, &distinct));
        ok(pht_frozenset_count(&t, two, &count));
        require_equal(count, distinct);
        for (uint64_t i = 0; i < count; i++) {
            bool has, had;
            ok(pht_frozenset_get(&t, two, i, &got));
            ok(pht_frozenset_has(&t, one, pht_of(got), &has));
            ok(pht_set_remove(&t, plain, pht_of(got), &had));
            require(has && had);
        }
        expect(PHEAP_INVALID, pht_frozenset_get(&t, two, count, &got));
        bool has;
        ok(pht_frozenset_has(&t, one, pht_text("no element"), &has));
        require(!has);
        /* One element less is another key. */
        ok(pht_map_new(&t, &map));
        root_set(&t, "map", pht_of(map));
        ok(pht_map_set(&t, map, pht_of(one), pht_int(1)));
        ok(pht_map_set(&t, map, pht_of(two), pht_int(2)));
        ok(pht_map_get(&t, map, outside, &got));
        require_equal(integer_of(&t, got), 2);
        ok(pht_map_count(&t, map, &count));
        require_equal(count, 1);
        if (distinct > 0) {
            ok(pht_frozenset_get(&t, one, 0, &got));
            struct pht_any rest[MOST];
            uint64_t left = 0;
            for (uint64_t i = 1; i < distinct; i++) {
                ok(pht_frozenset_get(&t, one, i, &got));
                rest[left++] = pht_of(got);
            }
            ok(pht_frozenset_new(&t, rest, left, &less));
            require(!equal(&t, pht_of(less), outside));
            ok(pht_map_get(&t, map, pht_frozenset(rest, left), &got));
            require_equal(got, PHT_ABSENT);
            ok(pht_discard(&t, less));
        }
        ok(pht_discard(&t, two));
        ok(pht_discard(&t, plain));
        keep(&t);
        check_values(heap);
        t = change(heap);
        ok(pht_map_clear(&t, pht_root(&t)));
        keep(&t);
        require_all_given_back(heap);
    }
    ok(pheap_close(heap));
}

/*
 * Catches: a tuple or frozenset from outside that is hashed or compared otherwise than the one in the heap; an object that
 * is made for looking, or made twice for storing.
 */
static void key__from_outside_finds_what_is_there(void **state)
{
    (void)state;
    pheap *heap = new_values_heap("outside");
    struct pht t = change(heap);
    const struct pht_any inner[] = {pht_text("a text that needs an object"), pht_int(7), pht_none()};
    const struct pht_any same[] = {pht_none(), pht_float(7.0), pht_text("a text that needs an object"), pht_int(7)};
    const struct pht_any first[] = {pht_frozenset(inner, 3), pht_tuple(inner, 3), pht_bytes("b", 1)};
    const struct pht_any second[] = {pht_frozenset(same, 4), pht_tuple(inner, 3), pht_bytes("b", 1)};
    const struct pht_any third[] = {pht_frozenset(same, 3), pht_tuple(same, 3), pht_bytes("b", 1)};
    pht_value map, omap, got;
    ok(pht_map_new(&t, &map));
    root_set(&t, "map", pht_of(map));
    ok(pht_map_set(&t, map, pht_tuple(first, 3), pht_tuple(second, 3)));
    ok(pht_map_set(&t, map, pht_tuple(second, 3), pht_int(2)));
    ok(pht_map_set(&t, map, pht_frozenset(first, 3), pht_int(3)));
    ok(pht_omap_new(&t, &omap));
    root_set(&t, "omap", pht_of(omap));
    const struct pht_any low[] = {pht_text("a text that needs an object"), pht_int(1)};
    const struct pht_any high[] = {pht_text("a text that needs an object"), pht_int(2), pht_tuple(low, 2)};
    ok(pht_omap_set(&t, omap, pht_tuple(high, 3), pht_int(2)));
    ok(pht_omap_set(&t, omap, pht_tuple(low, 2), pht_int(1)));
    expect(PHEAP_WRONG_TYPE, pht_omap_set(&t, omap, pht_frozenset(low, 2), pht_int(1)));
    expect(PHEAP_WRONG_TYPE, pht_omap_set(&t, omap, pht_tuple(first, 3), pht_int(1)));
    keep(&t);
    check_values(heap);
    const uint64_t blocks = live_blocks(heap);
    pheap_read *reader = read_begin(heap, PHEAP_FRESH);
    ok(pht_look(reader, &t));
    map = root_get(&t, "map");
    uint64_t count, rank;
    bool found;
    ok(pht_map_count(&t, map, &count));
    require_equal(count, 2);
    ok(pht_map_get(&t, map, pht_tuple(second, 3), &got));
    require_equal(integer_of(&t, got), 2);
    ok(pht_map_get(&t, map, pht_tuple(third, 3), &got));
    require_equal(got, PHT_ABSENT);
    ok(pht_map_get(&t, map, pht_frozenset(second, 3), &got));
    require_equal(integer_of(&t, got), 3);
    ok(pht_omap_rank(&t, root_get(&t, "omap"), pht_tuple(high, 3), &rank, &found));
    require(rank == 1 && found);
    ok(pht_omap_rank(&t, root_get(&t, "omap"), pht_tuple(high, 2), &rank, &found));
    require(rank == 1 && !found);
    int order;
    ok(pht_compare(&t, pht_tuple(low, 2), pht_tuple(high, 3), &order));
    require_equal(order, -1);
    expect(PHEAP_READ_ONLY, pht_make(&t, pht_tuple(low, 2), &got));
    (void)pheap_read_end(reader);
    require_equal(live_blocks(heap), blocks);
    t = change(heap);
    ok(pht_map_clear(&t, pht_root(&t)));
    keep(&t);
    require_all_given_back(heap);
    ok(pheap_close(heap));
}

/* Catches: something wrong deep in what was given that is found after something was made, or not at all. */
static void key__that_is_none_changes_nothing(void **state)
{
    (void)state;
    pheap *heap = new_values_heap("refused");
    struct pht t = change(heap);
    pht_value list, made;
    ok(pht_list_new(&t, &list));
    root_set(&t, "list", pht_of(list));
    keep(&t);
    const uint64_t blocks = live_blocks(heap);
    t = change(heap);
    const struct pht_any text = pht_text("a text that needs an object");
    const struct pht_any bad[] = {pht_str("\xed\xa0\x80", 3), pht_of(PHT_ABSENT), pht_of(list),
                                  pht_make_any(PHT_LIST),     pht_tuple(NULL, 1), pht_tuple(&text, UINT64_C(1) << 40)};
    for (unsigned i = 0; i < 6; i++) {
        const struct pht_any members[] = {text, bad[i]};
        const struct pht_any set = pht_frozenset(members, 2);
        const struct pht_any nested[] = {text, pht_tuple(&set, 1)};
        expect(PHEAP_INVALID, pht_list_append(&t, list, pht_tuple(nested, 2)));
        expect(PHEAP_INVALID, pht_map_set(&t, pht_root(&t), pht_tuple(nested, 2), pht_none()));
        expect(PHEAP_INVALID, pht_frozenset_new(&t, members, 2, &made));
    }
    /* What pht_show() says of a tuple is not the tuple. */
    struct pht_any shown;
    ok(pht_tuple_new(&t, &text, 1, &made));
    ok(pht_show(&t, &made, &shown));
    expect(PHEAP_INVALID, pht_list_append(&t, list, shown));
    ok(pht_discard(&t, made));
    /* 63 levels are a key, 64 are none. */
    struct pht_any levels[70];
    for (unsigned i = 0; i < 70; i++) {
        levels[i] = i == 0 ? pht_int(1) : i % 2 == 0 ? pht_tuple(&levels[i - 1], 1) : pht_frozenset(&levels[i - 1], 1);
        if (i <= 63) {
            ok(pht_map_set(&t, pht_root(&t), levels[i], pht_int(i)));
            ok(pht_map_get(&t, pht_root(&t), levels[i], &made));
            require_equal(integer_of(&t, made), i);
            ok(pht_map_remove(&t, pht_root(&t), levels[i], NULL));
        } else {
            expect(PHEAP_INVALID, pht_map_set(&t, pht_root(&t), levels[i], pht_int(i)));
        }
    }
    keep(&t);
    reclaim_all(heap);
    require_equal(live_blocks(heap), blocks);
    ok(pheap_close(heap));
}

static void count_fault(void *context, uint64_t offset, const char *text)
{
    (void)offset;
    (void)text;
    ++*(unsigned *)context;
}

static unsigned faults(pheap *heap)
{
    struct pht t;
    unsigned found = 0;
    pheap_read *reader = read_begin(heap, PHEAP_FRESH);
    ok(pht_look(reader, &t));
    expect(PHEAP_CORRUPT, pht_check(&t, count_fault, &found, NULL));
    (void)pheap_read_end(reader);
    return found;
}

/* Catches: a check that does not see elements out of order, with a wrong hash, twice, or a wrong count or depth. */
static void frozenset__damage_is_seen(void **state)
{
    (void)state;
    static const struct {
        uint64_t offset, other; /* words that are swapped; or, if they are the same, one that is changed */
    } damage[] = {{32, 48}, {40, 56}, {32, 32}, {24, 24}, {16, 16}};
    for (unsigned i = 0; i < 5; i++) {
        char name[32];
        (void)snprintf(name, sizeof name, "damaged-%u", i);
        pheap *heap = new_values_heap(name);
        struct pht t = change(heap);
        const struct pht_any elements[] = {pht_int(1), pht_int(2), pht_int(3)};
        pht_value set;
        ok(pht_frozenset_new(&t, elements, 3, &set));
        root_set(&t, "set", pht_of(set));
        keep(&t);
        check_values(heap);
        t = change(heap);
        uint64_t one, two;
        memcpy(&one, t.base + set + damage[i].offset, sizeof one);
        memcpy(&two, t.base + set + damage[i].other, sizeof two);
        if (damage[i].offset == damage[i].other)
            one = two = one ^ UINT64_C(0x300000000) ^ (damage[i].offset == 24 ? UINT64_C(1) << 60 : 0);
        ok(pheap_write(t.txn, set + damage[i].offset, &two, sizeof two));
        ok(pheap_write(t.txn, set + damage[i].other, &one, sizeof one));
        keep(&t);
        require(faults(heap) > 0);
        ok(pheap_close(heap));
    }
}

/* Catches: a queue that grows beyond its limit, drops at the wrong end, forgets the limit, or loses memory. */
static void queue__keeps_its_limit(void **state)
{
    (void)state;
    uint64_t dice = choose_seed(), count, limit;
    pheap *heap = new_values_heap("limit");
    for (uint64_t most = 0; most < 300; most += most < 4 ? 1 : 97) {
        int64_t model[301], model_count = 0;
        pht_value queue, got;
        struct pht t = change(heap);
        ok(pht_queue_new(&t, &queue));
        root_set(&t, "queue", pht_of(queue));
        ok(pht_queue_limit(&t, queue, &limit));
        require_equal(limit, PHT_NO_LIMIT);
        ok(pht_queue_set_limit(&t, queue, most));
        for (int64_t i = 0; i < 1500; i++) {
            const bool front = dice_roll(&dice) % 3 == 0;
            ok(pht_queue_push(&t, queue, front, pht_int(INT64_MAX - i))); /* each needs an object */
            memmove(model + front, model, (size_t)model_count * sizeof *model);
            model[front ? 0 : model_count] = i;
            model_count++;
            if (model_count > (int64_t)most) {
                model_count--;
                if (!front)
                    memmove(model, model + 1, (size_t)model_count * sizeof *model);
            }
            if (i == 700) {
                ok(pht_queue_clear(&t, queue));
                model_count = 0;
            }
        }
        ok(pht_queue_limit(&t, queue, &limit));
        require_equal(limit, most);
        ok(pht_queue_count(&t, queue, &count));
        require_equal(count, model_count);
        for (int64_t i = 0; i < model_count; i++) {
            ok(pht_queue_get(&t, queue, (uint64_t)i, &got));
            require_equal(integer_of(&t, got), INT64_MAX - model[i]);
        }
        if (most > 0)
            expect(PHEAP_INVALID, pht_queue_set_limit(&t, queue, most - 1));
        expect(PHEAP_INVALID, pht_queue_set_limit(&t, queue, UINT32_MAX));
        ok(pht_queue_set_limit(&t, queue, PHT_NO_LIMIT));
        ok(pht_queue_push(&t, queue, false, pht_int(1)));
        ok(pht_queue_count(&t, queue, &count));
        require_equal(count, model_count + 1);
        keep(&t);
        check_values(heap);
        t = change(heap);
        ok(pht_map_clear(&t, pht_root(&t)));
        keep(&t);
        require_all_given_back(heap);
    }
    ok(pheap_close(heap));
}

/* Catches: a walk that skips or repeats at the end of a link, in one of the directions, or goes on after a change. */
static void queue__is_walked_both_ways(void **state)
{
    (void)state;
    pheap *heap = new_values_heap("walk");
    struct pht t = change(heap);
    pht_value queue, got;
    ok(pht_queue_new(&t, &queue));
    root_set(&t, "queue", pht_of(queue));
    int64_t low = 0, high = 0; /* it has the ints from low up to high */
    for (unsigned round = 0; round < 800; round++) {
        if (round % 3 == 0)
            ok(pht_queue_push(&t, queue, true, pht_int(--low)));
        else
            ok(pht_queue_push(&t, queue, false, pht_int(high++)));
        if (round % 7 == 6) {
            ok(pht_queue_pop(&t, queue, true, NULL));
            low++;
        }
        if (round % 13 != 0)
            continue;
        struct pht_walk forth = {.done = 0}, back = {.done = 0};
        for (int64_t i = 0; i < high - low; i++) {
            ok(pht_queue_next(&t, queue, &forth, &got));
            require_equal(integer_of(&t, got), low + i);
            ok(pht_queue_previous(&t, queue, &back, &got));
            require_equal(integer_of(&t, got), high - 1 - i);
        }
        expect(PHEAP_END, pht_queue_next(&t, queue, &forth, &got));
        expect(PHEAP_END, pht_queue_previous(&t, queue, &back, &got));
    }
    struct pht_walk walk = {.done = 0};
    uint32_t before, after;
    ok(pht_changes(&t, queue, &before));
    ok(pht_queue_next(&t, queue, &walk, &got));
    ok(pht_queue_set(&t, queue, 1, pht_int(-1000)));
    ok(pht_queue_next(&t, queue, &walk, &got));
    require_equal(integer_of(&t, got), -1000);
    ok(pht_changes(&t, queue, &after));
    require_equal(before, after);
    ok(pht_queue_pop(&t, queue, false, NULL));
    expect(PHEAP_BUSY, pht_queue_next(&t, queue, &walk, &got));
    ok(pht_changes(&t, queue, &after));
    require(before != after);
    expect(PHEAP_WRONG_TYPE, pht_changes(&t, 1, &after));
    keep(&t);
    ok(pheap_close(heap));
}

/* Catches: an argument that is used and is not there, and a value that is no frozenset. */
static void frozenset__arguments_are_looked_at(void **state)
{
    (void)state;
    bool has;
    uint64_t count;
    pht_value set, list, value;
    const struct pht_any one[] = {pht_int(1)};
    pheap *heap = new_values_heap("arguments");
    struct pht t = change(heap);
    ok(pht_list_new(&t, &list));
    root_set(&t, "list", pht_of(list));
    const struct pht_any unhashable[] = {pht_of(list)};
    expect(PHEAP_INVALID, pht_frozenset_new(&t, one, 1, NULL));
    expect(PHEAP_INVALID, pht_frozenset_new(&t, NULL, 1, &set));
    expect(PHEAP_INVALID, pht_frozenset_new(&t, one, (UINT64_C(1) << 32) + 1, &set));
    expect(PHEAP_INVALID, pht_frozenset_new(&t, unhashable, 1, &set));
    ok(pht_frozenset_new(&t, one, 1, &set));
    root_set(&t, "set", pht_of(set));
    expect(PHEAP_INVALID, pht_frozenset_count(&t, set, NULL));
    expect(PHEAP_WRONG_TYPE, pht_frozenset_count(&t, list, &count));
    expect(PHEAP_INVALID, pht_frozenset_get(&t, set, 0, NULL));
    expect(PHEAP_INVALID, pht_frozenset_get(&t, set, 1, &value));
    expect(PHEAP_WRONG_TYPE, pht_frozenset_get(&t, list, 0, &value));
    expect(PHEAP_INVALID, pht_frozenset_has(&t, set, one[0], NULL));
    expect(PHEAP_WRONG_TYPE, pht_frozenset_has(&t, list, one[0], &has));
    expect(PHEAP_INVALID, pht_frozenset_has(&t, set, pht_bytes(NULL, 1), &has));
    expect(PHEAP_INVALID, pht_frozenset_has(&t, set, pht_of(list), &has));
    keep(&t);
    pheap_read *reader = read_begin(heap, PHEAP_FRESH);
    ok(pht_look(reader, &t));
    expect(PHEAP_READ_ONLY, pht_frozenset_new(&t, one, 1, &set));
    (void)pheap_read_end(reader);
    ok(pheap_close(heap));
}

int main(int argc, char **argv)
{
    choose_cases(argc, argv);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(frozenset__is_equal_to_all_of_the_same_elements),
        cmocka_unit_test(key__from_outside_finds_what_is_there),
        cmocka_unit_test(key__that_is_none_changes_nothing),
        cmocka_unit_test(frozenset__damage_is_seen),
        cmocka_unit_test(queue__keeps_its_limit),
        cmocka_unit_test(frozenset__arguments_are_looked_at),
        cmocka_unit_test(queue__is_walked_both_ways),
    };
    return cmocka_run_group_tests(tests, make_test_directory, remove_test_directory);
}
