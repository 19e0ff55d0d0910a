/* SPDX-License-Identifier: MIT */
/* The check of a heap of values, and the collection of what counting cannot free. */
#include "tests/types_rig.h"
#include "types/heap.h"

static uint64_t told;

static void count_fault(void *context, uint64_t offset, const char *text)
{
    if (context != NULL)
        (void)fprintf(stderr, "fault at 0x%llx: %s\n", (unsigned long long)offset, text);
    told++;
}

/* What happens in another program before a transaction of pht_collect(): the one after so many others. */
static void (*meanwhile)(pheap *heap);
static unsigned others_first;
static pht_value remembered, replaced;

/* The most that was logged from one beginning of a transaction to the next. */
static uint64_t most_logged, logged;

enum pheap_status __real_pheap_begin(pheap *heap, pheap_txn **txn);
enum pheap_status __wrap_pheap_begin(pheap *heap, pheap_txn **txn);
enum pheap_status __wrap_pheap_begin(pheap *heap, pheap_txn **txn)
{
    void (*now)(pheap * heap) = meanwhile;
    const uint64_t lsn = heap_info(heap).committed_lsn;
    if (logged != 0 && lsn - logged > most_logged)
        most_logged = lsn - logged;
    logged = lsn;
    if (now != NULL && others_first-- == 0) {
        meanwhile = NULL;
        now(heap);
    }
    return __real_pheap_begin(heap, txn);
}

static struct pht_census check(pheap *heap, enum pheap_status wanted)
{
    struct pht t;
    struct pht_census census = {.size = sizeof census};
    pheap_read *reader = read_begin(heap, PHEAP_FRESH);
    ok(pht_look(reader, &t));
    expect(wanted, pht_check(&t, count_fault, wanted == PHEAP_OK ? &t : NULL, &census));
    (void)pheap_read_end(reader);
    return census;
}

/* A container of a random kind with random content, some of it of `others`. */
static pht_value random_value(struct pht *t, uint64_t *dice, const pht_value *others, unsigned count)
{
    pht_value made;
    const uint64_t kind = dice_roll(dice) % 7, size = dice_roll(dice) % (dice_roll(dice) % 8 == 0 ? 400 : 12);
    struct pht_any elements[400], names[400];
    char texts[400][40];
    for (unsigned i = 0; i < size; i++) {
        (void)snprintf(texts[i], sizeof texts[i], i % 2 == 0 ? "%u" : "a text that is an object: %u", i);
        names[i] = pht_text(texts[i]);
        elements[i] =
            count > 0 && dice_roll(dice) % 3 == 0 ? pht_of(others[dice_roll(dice) % count]) : pht_text(texts[i]);
    }
    ok(kind == 0   ? pht_map_new(t, &made)
       : kind == 1 ? pht_set_new(t, &made)
       : kind == 2 ? pht_list_new(t, &made)
       : kind == 3 ? pht_queue_new(t, &made)
       : kind == 4 ? pht_omap_new(t, &made)
       : kind == 5 ? pht_tuple_new(t, elements, size, &made)
                   : pht_frozenset_new(t, names, size, &made));
    for (unsigned i = 0; i < size && kind < 5; i++)
        ok(kind == 0   ? pht_map_set(t, made, pht_text(texts[i]), elements[i])
           : kind == 1 ? pht_set_add(t, made, pht_text(texts[i]), NULL)
           : kind == 2 ? pht_list_insert(t, made, i / 2, elements[i])
           : kind == 3 ? pht_queue_push(t, made, i % 3 == 0, elements[i])
                       : pht_omap_set(t, made, pht_text(texts[i]), elements[i]));
    return made;
}

/* Values that refer to each other in every way, half of which are held by the root. */
static void tangle(struct pht *t, uint64_t *dice, bool keep_some)
{
    enum { COUNT = 60 };
    pht_value values[COUNT];
    for (unsigned i = 0; i < COUNT; i++)
        values[i] = random_value(t, dice, values, i);
    for (unsigned i = 0; i < COUNT * 2; i++) { /* cycles */
        const pht_value from = values[dice_roll(dice) % COUNT], to = values[dice_roll(dice) % COUNT];
        enum pht_kind kind;
        char name[16];
        (void)snprintf(name, sizeof name, "again %u", i);
        ok(pht_kind_of(t, from, &kind));
        if (kind == PHT_MAP)
            ok(pht_map_set(t, from, pht_int(i), pht_of(to)));
        else if (kind == PHT_LIST)
            ok(pht_list_append(t, from, pht_of(to)));
        else if (kind == PHT_QUEUE)
            ok(pht_queue_push(t, from, false, pht_of(to)));
        else if (kind == PHT_OMAP)
            ok(pht_omap_set(t, from, pht_text(name), pht_of(to)));
    }
    for (unsigned i = 0; i < COUNT; i++) {
        char name[16];
        (void)snprintf(name, sizeof name, "%u", i);
        if (i % 2 == 0 && keep_some)
            root_set(t, name, pht_of(values[i]));
    }
}

/* Catches: a sound heap that the check complains about; garbage that stays, or what is no garbage collected with it. */
static void collect__frees_what_nobody_reaches(void **state)
{
    (void)state;
    uint64_t dice = choose_seed(), collected;
    for (unsigned round = 0; round < 30; round++) {
        char name[32];
        (void)snprintf(name, sizeof name, "tangle-%u", round);
        /* In some, the library makes sure that all that is changed was declared. */
        const unsigned flags = round % 10 == 0 ? PHEAP_VERIFY : 0;
        pheap *heap = values_heap(path_of(name, ""), PHEAP_CREATE | PHEAP_EXCLUSIVE | flags);
        expect(PHEAP_NOT_FOUND, pht_collect(heap, PHEAP_LAZY, NULL));
        struct pht t = change(heap);
        tangle(&t, &dice, true);
        keep(&t);
        struct pht_census before = check(heap, PHEAP_OK);
        require_equal(before.unknown, 0);
        ok(pht_collect(heap, PHEAP_LAZY, &collected));
        require_equal(collected, before.garbage);
        struct pht_census after = check(heap, PHEAP_OK);
        require_equal(after.garbage + after.limbo, 0);
        require_equal(after.objects, before.objects);
        t = change(heap);
        ok(pht_map_clear(&t, pht_root(&t)));
        keep(&t);
        reclaim_all(heap);
        ok(pht_collect(heap, PHEAP_LAZY, &collected));
        require_all_given_back(heap);
        check_sound(heap);
        ok(pheap_close(heap));
    }
}

/* Catches: a collection that is killed and leaves something that is not sound, or that none can free. */
static void collector(const struct peer *test, const char *path)
{
    (void)test;
    pheap *heap = values_heap(path, 0);
    for (;;)
        ok(pht_collect(heap, PHEAP_LAZY, NULL));
}

static void collect__may_be_killed(void **state)
{
    (void)state;
    uint64_t dice = choose_seed(), collected;
    pheap *heap = new_values_heap("killed");
    struct pht t = change(heap);
    pht_value live, value;
    ok(pht_map_new(&t, &live)); /* what must stay, among others that come and go */
    for (int64_t i = 0; i < 1000; i++)
        ok(pht_map_set(&t, live, pht_int(i), pht_text("a text that is an object")));
    tangle(&t, &dice, true);
    root_set(&t, "live", pht_of(live));
    keep(&t);
    for (unsigned round = 0; round < 20; round++) {
        struct peer peer = peer_start(collector, path_of("killed", ""));
        for (unsigned i = 0; i < 5; i++) {
            t = change(heap);
            tangle(&t, &dice, false);
            keep(&t);
            pause_us(dice_roll(&dice) % 3000);
        }
        peer_kill(&peer);
        (void)check(heap, PHEAP_OK);
        t = change(heap);
        for (int64_t i = 0; i < 1000; i++) {
            ok(pht_map_get(&t, live, pht_int(i), &value));
            require(value != PHT_ABSENT && is(&t, value, pht_text("a text that is an object")));
        }
        keep(&t);
    }
    t = change(heap);
    ok(pht_map_clear(&t, pht_root(&t)));
    keep(&t);
    reclaim_all(heap);
    ok(pht_collect(heap, PHEAP_LAZY, &collected));
    require_all_given_back(heap);
    ok(pheap_close(heap));
}

/* Catches: a collection of a million objects, or of one large one, that is a single large transaction. */
static void collect__logs_little_at_a_time(void **state)
{
    (void)state;
    pheap *heap = new_values_heap("steps");
    struct pht t = change(heap);
    pht_value list, inner;
    uint64_t collected;
    ok(pht_list_new(&t, &list));
    ok(pht_list_append(&t, list, pht_of(list)));
    for (unsigned i = 0; i < 20000; i++) {
        ok(pht_list_new(&t, &inner));
        ok(pht_list_append(&t, inner, pht_of(list)));
        ok(pht_list_append(&t, list, pht_of(inner)));
    }
    keep(&t);
    const struct pheap_info before = heap_info(heap);
    logged = before.committed_lsn;
    most_logged = 0;
    ok(pht_collect(heap, PHEAP_LAZY, &collected));
    const struct pheap_info after = heap_info(heap);
    require_equal(collected, 20001);
    print_message("%llu transactions of at most %llu bytes\n", (unsigned long long)(after.version - before.version),
                  (unsigned long long)most_logged);
    require(after.version - before.version > 400);
    require(most_logged > 0 && most_logged <= 64 << 10);
    require_all_given_back(heap);
    ok(pheap_close(heap));
}

/* It is freed, and another map made until one lies in its place. */
static void replace_remembered(pheap *heap)
{
    struct pht t = change(heap);
    ok(pht_discard(&t, remembered));
    ok(pht_reclaim(&t, 1000, NULL));
    replaced = PHT_ABSENT;
    for (unsigned i = 0; i < 100 && replaced != remembered; i++) {
        char name[16];
        (void)snprintf(name, sizeof name, "map %u", i);
        ok(pht_map_new(&t, &replaced));
        ok(pht_map_set(&t, replaced, pht_int(1), pht_text("a text that is an object")));
        root_set(&t, name, pht_of(replaced));
    }
    keep(&t);
    require_equal(replaced, remembered);
}

static void store_remembered(pheap *heap)
{
    struct pht t = change(heap);
    root_set(&t, "remembered", pht_of(remembered));
    keep(&t);
}

static void change_remembered(pheap *heap)
{
    struct pht t = change(heap);
    ok(pht_map_set(&t, remembered, pht_text("more"), pht_int(1)));
    keep(&t);
}

/*
 * Catches: a collection that empties what lives: what was made in the place of garbage, or was stored by somebody who
 * remembered its word, before or between its transactions; and one that leaves wrong counts when it ends because of that.
 */
static void collect__leaves_what_came_to_life(void **state)
{
    (void)state;
    static const struct {
        void (*meanwhile)(pheap *heap);
        unsigned before, garbage;
    } cases[] = {{replace_remembered, 0, 0},   {store_remembered, 0, 0},   {change_remembered, 0, 0},
                 {replace_remembered, 0, 300}, {store_remembered, 0, 300}, {store_remembered, 2, 300}};
    for (unsigned i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char name[32];
        uint64_t count;
        pht_value list, more;
        (void)snprintf(name, sizeof name, "life-%u", i);
        pheap *heap = new_values_heap(name);
        struct pht t = change(heap);
        ok(pht_list_new(&t, &list));
        for (int64_t n = 0; n < 3; n++)
            ok(pht_list_append(&t, list, pht_int(n)));
        for (unsigned n = 0; n < cases[i].garbage; n++)
            ok(pht_list_new(&t, &more));
        ok(pht_map_new(&t, &remembered));
        ok(pht_map_set(&t, remembered, pht_int(1), pht_of(list)));
        keep(&t);
        meanwhile = cases[i].meanwhile;
        others_first = cases[i].before;
        expect(PHEAP_BUSY, pht_collect(heap, PHEAP_LAZY, NULL));
        require(meanwhile == NULL);
        t = change(heap);
        ok(pht_map_count(&t, remembered, &count));
        require_equal(count, cases[i].meanwhile == change_remembered ? 2 : 1);
        if (cases[i].meanwhile != replace_remembered) {
            ok(pht_list_count(&t, list, &count));
            require_equal(count, 3);
        }
        keep(&t);
        check_values(heap);
        ok(pht_collect(heap, PHEAP_LAZY, NULL));
        check_values(heap);
        ok(pheap_close(heap));
    }
}

/* Each of these changes a word of a heap that has nothing else wrong; the check must say so, of the right object. */
enum damage {
    WRONG_COUNT,
    WRONG_HASH,
    LOST_CHAIN,
    CUT_ORDER,
    TEXT_NOT_UTF8,
    TREE_COUNT,
    TREE_FIRST_KEY,
    TREE_ORDER,
    QUEUE_LINK,
    LIST_TAIL,
    SHARED_PART,
    DANGLING,
    INT_WITH_ZEROS,
    LIMBO_END,
    DAMAGES
};

static void poke(struct pht *t, uint64_t offset, uint64_t word)
{
    ok(pheap_write(t->txn, offset, &word, sizeof word));
}

static uint64_t peek(const struct pht *t, uint64_t offset)
{
    uint64_t word;
    memcpy(&word, t->base + offset, sizeof word);
    return word;
}

static void damage(struct pht *t, enum damage what, pht_value map, pht_value list, pht_value omap, pht_value queue)
{
    pht_value text, number;
    const uint64_t chunk = peek(t, map + 40), top = peek(t, omap + 24), limbs[] = {1, 1};
    switch (what) {
    case WRONG_COUNT:
        poke(t, map, peek(t, map) + (UINT64_C(1) << 32));
        break;
    case WRONG_HASH:
        poke(t, chunk + 16 + 32 + 8, peek(t, chunk + 16 + 32 + 8) ^ 1);
        break;
    case LOST_CHAIN: /* of all buckets */
        for (unsigned i = 0; i < 8; i++)
            poke(t, peek(t, map + 56) + 16 + i * 4 / 8 * 8, 0);
        break;
    case CUT_ORDER:
        poke(t, chunk + 16 + 5 * 32 + 16, 0);
        break;
    case TEXT_NOT_UTF8:
        ok(pht_map_get(t, map, pht_text("text"), &text));
        poke(t, text + 16, UINT64_MAX);
        break;
    case TREE_COUNT:
        poke(t, top + 16 + 8, peek(t, top + 16 + 8) + 1);
        break;
    case TREE_FIRST_KEY:
        poke(t, top + 16 + 24 + 16, peek(t, top + 16 + 24 + 16) + 8);
        break;
    case TREE_ORDER: /* in the first leaf */
        poke(t, peek(t, top + 16) + 16 + 16, peek(t, peek(t, top + 16) + 16));
        break;
    case QUEUE_LINK:
        poke(t, peek(t, queue + 40) + 8, 0);
        break;
    case LIST_TAIL:
        poke(t, list + 24, peek(t, list + 24) + 1);
        break;
    case SHARED_PART:
        poke(t, list + 32, peek(t, peek(t, list + 40) + 16));
        break;
    case DANGLING:
        poke(t, chunk + 16 + 3 * 32 + 24, chunk + 64);
        break;
    case INT_WITH_ZEROS:
        ok(pht_make(t, pht_bigint(false, limbs, 2), &number));
        root_set(t, "number", pht_of(number));
        poke(t, number + 24, 0);
        break;
    case LIMBO_END:
        poke(t, t->registry + 72 + 8, map);
        break;
    default:
        fail();
    }
}

/* Catches: a check that does not see one of these. */
static void check__sees_damage(void **state)
{
    (void)state;
    for (unsigned what = 0; what < DAMAGES; what++) {
        char name[32];
        pht_value map, list, omap, queue;
        (void)snprintf(name, sizeof name, "damage-%u", what);
        pheap *heap = new_values_heap(name);
        struct pht t = change(heap);
        ok(pht_map_new(&t, &map));
        ok(pht_list_new(&t, &list));
        ok(pht_omap_new(&t, &omap));
        ok(pht_queue_new(&t, &queue));
        for (int64_t i = 0; i < 300; i++) {
            ok(pht_list_append(&t, list, pht_int(i)));
            ok(pht_omap_set(&t, omap, pht_int(i), pht_int(i)));
            ok(pht_queue_push(&t, queue, false, pht_int(i)));
            if (i < 20)
                ok(pht_map_set(&t, map, pht_int(i), pht_int(i)));
        }
        ok(pht_map_set(&t, map, pht_text("text"), pht_text("a text that is an object")));
        root_set(&t, "map", pht_of(map));
        root_set(&t, "list", pht_of(list));
        root_set(&t, "omap", pht_of(omap));
        root_set(&t, "queue", pht_of(queue));
        keep(&t);
        told = 0;
        (void)check(heap, PHEAP_OK);
        require_equal(told, 0);
        t = change(heap);
        damage(&t, (enum damage)what, map, list, omap, queue);
        keep(&t);
        const struct pht_census census = check(heap, PHEAP_CORRUPT);
        if (told == 0 || census.faults != told)
            check_failed(__FILE__, __LINE__, "damage %u is not told", what);
        expect(PHEAP_CORRUPT, pht_collect(heap, PHEAP_LAZY, NULL));
        ok(pheap_close(heap));
    }
}

/* Catches: garbage that only shows when limbo is empty, and waits for the next collection. */
static void collect__finds_what_limbo_hid(void **state)
{
    (void)state;
    uint64_t collected;
    pheap *heap = new_values_heap("hidden");
    for (unsigned other = 0; other < 2; other++) { /* with and without garbage besides */
        struct pht t = change(heap);
        pht_value ring[2], list;
        for (unsigned i = 0; i < 2; i++)
            ok(pht_map_new(&t, &ring[i]));
        for (unsigned i = 0; i < 2; i++)
            ok(pht_map_set(&t, ring[i], pht_int(1), pht_of(ring[1 - i])));
        ok(pht_list_new(&t, &list));
        ok(pht_list_append(&t, list, pht_of(ring[0])));
        if (other == 1)
            ok(pht_map_new(&t, &ring[1]));
        ok(pht_discard(&t, list));
        keep(&t);
        ok(pht_collect(heap, PHEAP_LAZY, &collected));
        require_equal(collected, 2 + other);
        require_equal(check(heap, PHEAP_OK).garbage, 0);
        require_equal(live_blocks(heap), 2);
    }
    ok(pheap_close(heap));
}

/* Catches: a block that two values believe to be theirs: the first that goes frees it under the other. */
static void check__sees_a_part_of_two_values(void **state)
{
    (void)state;
    static const uint64_t places[] = {32, 40, 40,
                                      24}; /* of what a list, a map, a queue and an ordered map consist of */
    for (unsigned what = 0; what < 4; what++) {
        char name[32];
        pht_value two[2];
        (void)snprintf(name, sizeof name, "shared-%u", what);
        pheap *heap = new_values_heap(name);
        struct pht t = change(heap);
        for (unsigned i = 0; i < 2; i++) {
            ok(what == 0   ? pht_list_new(&t, &two[i])
               : what == 1 ? pht_map_new(&t, &two[i])
               : what == 2 ? pht_queue_new(&t, &two[i])
                           : pht_omap_new(&t, &two[i]));
            ok(what == 0   ? pht_list_append(&t, two[i], pht_int(1))
               : what == 1 ? pht_map_set(&t, two[i], pht_int(1), pht_int(1))
               : what == 2 ? pht_queue_push(&t, two[i], false, pht_int(1))
                           : pht_omap_set(&t, two[i], pht_int(1), pht_int(1)));
            root_set(&t, i == 0 ? "one" : "two", pht_of(two[i]));
        }
        const uint64_t part = *(const uint64_t *)(const void *)(t.base + two[0] + places[what]);
        ok(pheap_write(t.txn, two[1] + places[what], &part, sizeof part));
        if (what == 2)
            ok(pheap_write(t.txn, two[1] + 32, &part, sizeof part));
        keep(&t);
        told = 0;
        (void)check(heap, PHEAP_CORRUPT);
        require(told > 0);
        ok(pheap_close(heap));
    }
}

int main(int argc, char **argv)
{
    choose_cases(argc, argv);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(collect__frees_what_nobody_reaches), cmocka_unit_test(collect__may_be_killed),
        cmocka_unit_test(collect__logs_little_at_a_time),     cmocka_unit_test(collect__leaves_what_came_to_life),
        cmocka_unit_test(collect__finds_what_limbo_hid),      cmocka_unit_test(check__sees_damage),
        cmocka_unit_test(check__sees_a_part_of_two_values),
    };
    return cmocka_run_group_tests(tests, make_test_directory, remove_test_directory);
}
