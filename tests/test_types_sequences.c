/* SPDX-License-Identifier: MIT */
/* Persistent lists, queues and ordered maps against plain arrays: content, order, memory, cost. */
#include "tests/support/effort.h"
#include "tests/types_rig.h"

#include <math.h>

#define MOST 4000u

/* A sequence as a program would have it. */
struct model {
    uint32_t count;
    int64_t key[MOST]; /* of ordered maps: ascending */
    int64_t value[MOST];
};

static void model_insert(struct model *m, uint32_t at, int64_t key, int64_t value)
{
    memmove(m->key + at + 1, m->key + at, (m->count - at) * sizeof m->key[0]);
    memmove(m->value + at + 1, m->value + at, (m->count - at) * sizeof m->value[0]);
    m->key[at] = key;
    m->value[at] = value;
    m->count++;
}

static void model_remove(struct model *m, uint32_t at)
{
    m->count--;
    memmove(m->key + at, m->key + at + 1, (m->count - at) * sizeof m->key[0]);
    memmove(m->value + at, m->value + at + 1, (m->count - at) * sizeof m->value[0]);
}

static uint32_t model_rank(const struct model *m, int64_t key)
{
    uint32_t rank = 0;
    while (rank < m->count && m->key[rank] < key)
        rank++;
    return rank;
}

/* A value that is a word, or an object, as its number says. */
static struct pht_any any_of(int64_t number)
{
    static char text[64];
    if (number % 3 != 0)
        return pht_int(number);
    (void)snprintf(text, sizeof text, "a value with an object: %lld", (long long)number);
    return pht_text(text);
}

/* What a kind of container does, to it and to the model. */
struct sequence {
    enum pheap_status (*make)(struct pht *t, pht_value *made);
    enum pheap_status (*count)(struct pht *t, pht_value it, uint64_t *count);
    enum pheap_status (*clear)(struct pht *t, pht_value it);
    void (*grow)(struct pht *t, pht_value it, struct model *m, uint64_t *dice, uint32_t most);
    void (*shrink)(struct pht *t, pht_value it, struct model *m, uint64_t *dice);
    void (*replace)(struct pht *t, pht_value it, struct model *m, uint64_t *dice);
    void (*compare)(struct pht *t, pht_value it, const struct model *m);
};

/* ----------------------------------------------------------------------------------------------------------- lists */

/* A place in 0 to count: often an end. */
static uint32_t place(uint64_t *dice, uint32_t count)
{
    const uint64_t what = dice_roll(dice) % 4;
    return what == 0 ? 0 : what == 1 ? count : (uint32_t)(dice_roll(dice) % (count + UINT64_C(1)));
}

static void list_grow(struct pht *t, pht_value it, struct model *m, uint64_t *dice, uint32_t most)
{
    const int64_t value = (int64_t)(dice_roll(dice) >> 8);
    const uint32_t at = place(dice, m->count);
    (void)most;
    if (at == m->count && dice_roll(dice) % 2 == 0)
        ok(pht_list_append(t, it, any_of(value)));
    else
        ok(pht_list_insert(t, it, at, any_of(value)));
    model_insert(m, at, 0, value);
}

static void list_shrink(struct pht *t, pht_value it, struct model *m, uint64_t *dice)
{
    pht_value taken;
    uint32_t at = place(dice, m->count);
    at -= at == m->count;
    const bool take = dice_roll(dice) % 2 == 0;
    ok(pht_list_remove(t, it, at, take ? &taken : NULL));
    if (take) {
        require(is(t, taken, any_of(m->value[at])));
        ok(pht_discard(t, taken));
    }
    model_remove(m, at);
}

static void list_replace(struct pht *t, pht_value it, struct model *m, uint64_t *dice)
{
    uint32_t at = place(dice, m->count);
    at -= at == m->count;
    m->value[at] = (int64_t)(dice_roll(dice) >> 8);
    ok(pht_list_set(t, it, at, any_of(m->value[at])));
}

static void list_compare(struct pht *t, pht_value it, const struct model *m)
{
    static pht_value words[MOST];
    pht_value value;
    uint64_t dice = m->count;
    for (uint32_t i = 0; i < m->count; i++) {
        ok(pht_list_get(t, it, i, &value));
        require(is(t, value, any_of(m->value[i])));
    }
    expect(PHEAP_INVALID, pht_list_get(t, it, m->count, &value));
    expect(PHEAP_INVALID, pht_list_read(t, it, 1, m->count, words));
    expect(PHEAP_INVALID, pht_list_read(t, it, 1, UINT64_MAX, words));
    for (unsigned i = 0; i < 5; i++) {
        const uint32_t from = (uint32_t)(dice_roll(&dice) % (m->count + 1));
        const uint32_t count = (uint32_t)(dice_roll(&dice) % (m->count - from + 1));
        ok(pht_list_read(t, it, from, count, words));
        for (uint32_t j = 0; j < count; j++)
            require(is(t, words[j], any_of(m->value[from + j])));
    }
}

static const struct sequence list_sequence = {.make = pht_list_new,
                                              .count = pht_list_count,
                                              .clear = pht_list_clear,
                                              .grow = list_grow,
                                              .shrink = list_shrink,
                                              .replace = list_replace,
                                              .compare = list_compare};

/* ---------------------------------------------------------------------------------------------------------- queues */

static void queue_grow(struct pht *t, pht_value it, struct model *m, uint64_t *dice, uint32_t most)
{
    const int64_t value = (int64_t)(dice_roll(dice) >> 8);
    const bool front = most % 2 == 0 ? dice_roll(dice) % 2 == 0 : false;
    ok(pht_queue_push(t, it, front, any_of(value)));
    model_insert(m, front ? 0 : m->count, 0, value);
}

static void queue_shrink(struct pht *t, pht_value it, struct model *m, uint64_t *dice)
{
    pht_value taken;
    const bool front = dice_roll(dice) % 4 != 0, take = dice_roll(dice) % 2 == 0;
    const uint32_t at = front ? 0 : m->count - 1;
    ok(pht_queue_pop(t, it, front, take ? &taken : NULL));
    if (take) {
        require(is(t, taken, any_of(m->value[at])));
        ok(pht_discard(t, taken));
    }
    model_remove(m, at);
}

static void queue_replace(struct pht *t, pht_value it, struct model *m, uint64_t *dice)
{
    const uint32_t at = (uint32_t)(dice_roll(dice) % m->count);
    m->value[at] = (int64_t)(dice_roll(dice) >> 8);
    ok(pht_queue_set(t, it, at, any_of(m->value[at])));
}

static void queue_compare(struct pht *t, pht_value it, const struct model *m)
{
    pht_value value;
    for (uint32_t i = 0; i < m->count; i++) {
        ok(pht_queue_get(t, it, i, &value));
        require(is(t, value, any_of(m->value[i])));
    }
    expect(PHEAP_INVALID, pht_queue_get(t, it, m->count, &value));
}

static const struct sequence queue_sequence = {.make = pht_queue_new,
                                               .count = pht_queue_count,
                                               .clear = pht_queue_clear,
                                               .grow = queue_grow,
                                               .shrink = queue_shrink,
                                               .replace = queue_replace,
                                               .compare = queue_compare};

/* ---------------------------------------------------------------------------------------------------- ordered maps */

/* Keys of both kinds of numbers, so that their order is not that of their words. */
static struct pht_any omap_key(int64_t key)
{
    return key % 2 == 0 ? pht_int(key) : pht_float((double)key);
}

static void omap_grow(struct pht *t, pht_value it, struct model *m, uint64_t *dice, uint32_t most)
{
    /* Now ascending, now anywhere. */
    int64_t key = (int64_t)(dice_roll(dice) % 100000) - 50000;
    if (most % 3 == 0 && m->count > 0)
        key = m->key[m->count - 1] + 1;
    const int64_t value = (int64_t)(dice_roll(dice) >> 8);
    const uint32_t rank = model_rank(m, key);
    ok(pht_omap_set(t, it, omap_key(key), any_of(value)));
    if (rank < m->count && m->key[rank] == key)
        m->value[rank] = value;
    else
        model_insert(m, rank, key, value);
}

static void omap_shrink(struct pht *t, pht_value it, struct model *m, uint64_t *dice)
{
    pht_value taken;
    uint32_t at = place(dice, m->count);
    at -= at == m->count;
    const bool take = dice_roll(dice) % 2 == 0;
    ok(pht_omap_remove(t, it, omap_key(m->key[at]), take ? &taken : NULL));
    if (take) {
        require(is(t, taken, any_of(m->value[at])));
        ok(pht_discard(t, taken));
    }
    ok(pht_omap_remove(t, it, omap_key(m->key[at]), &taken));
    require_equal(taken, PHT_ABSENT);
    model_remove(m, at);
}

static void omap_replace(struct pht *t, pht_value it, struct model *m, uint64_t *dice)
{
    const uint32_t at = (uint32_t)(dice_roll(dice) % m->count);
    m->value[at] = (int64_t)(dice_roll(dice) >> 8);
    ok(pht_omap_set(t, it, omap_key(m->key[at]), any_of(m->value[at])));
}

static void omap_compare(struct pht *t, pht_value it, const struct model *m)
{
    pht_value key, value;
    uint64_t rank, dice = m->count;
    bool found;
    for (uint32_t i = 0; i < m->count; i++) {
        ok(pht_omap_at(t, it, i, &key, &value));
        require(is(t, key, omap_key(m->key[i])));
        require(is(t, value, any_of(m->value[i])));
        ok(pht_omap_get(t, it, omap_key(m->key[i]), &value));
        require(is(t, value, any_of(m->value[i])));
    }
    expect(PHEAP_INVALID, pht_omap_at(t, it, m->count, &key, NULL));
    for (unsigned i = 0; i < 200; i++) {
        const int64_t wanted = (int64_t)(dice_roll(&dice) % 100002) - 50001;
        ok(pht_omap_rank(t, it, omap_key(wanted), &rank, &found));
        require_equal(rank, model_rank(m, wanted));
        require_equal(found, rank < m->count && m->key[rank] == wanted);
    }
}

static const struct sequence omap_sequence = {.make = pht_omap_new,
                                              .count = pht_omap_count,
                                              .clear = pht_omap_clear,
                                              .grow = omap_grow,
                                              .shrink = omap_shrink,
                                              .replace = omap_replace,
                                              .compare = omap_compare};

/* ------------------------------------------------------------------------------------------------------- all of them */

static void work(const struct sequence *s, struct pht *t, pht_value it, struct model *m, uint64_t *dice, uint32_t most)
{
    /* A phase that mostly grows, or mostly shrinks. */
    const uint64_t growth = dice_roll(dice) % 3 == 0 ? 20 : 65;
    for (uint32_t i = 0; i < most; i++) {
        const uint64_t what = dice_roll(dice) % 100;
        if (what == 0 && dice_roll(dice) % 20 == 0) {
            ok(s->clear(t, it));
            m->count = 0;
        } else if (m->count == 0 || (what < growth && m->count < most)) {
            s->grow(t, it, m, dice, most);
        } else if (what < 90) {
            s->shrink(t, it, m, dice);
        } else {
            s->replace(t, it, m, dice);
        }
    }
}

static void random_work(const char *name, const struct sequence *s, unsigned flags, unsigned rounds)
{
    static struct model committed, now, saved;
    static const uint32_t sizes[] = {9, 140, 800, 3999};
    uint64_t dice = choose_seed(), count;
    pheap *heap = values_heap(path_of(name, ""), PHEAP_CREATE | PHEAP_EXCLUSIVE | flags);
    struct pht t = change(heap);
    pht_value it;
    ok(s->make(&t, &it));
    root_set(&t, "it", pht_of(it));
    keep(&t);
    now.count = committed.count = 0;
    for (unsigned round = 0; round < rounds; round++) {
        const uint32_t most = sizes[round % 4];
        uint32_t savepoint;
        t = change(heap);
        it = root_get(&t, "it");
        work(s, &t, it, &now, &dice, most);
        if (dice_roll(&dice) % 3 == 0) {
            ok(pheap_savepoint(t.txn, &savepoint));
            saved = now;
            work(s, &t, it, &now, &dice, most / 2);
            if (dice_roll(&dice) % 2 == 0) {
                ok(pheap_rollback(t.txn, savepoint));
                ok(pht_begin(t.txn, &t));
                now = saved;
            }
        }
        ok(s->count(&t, it, &count));
        require_equal(count, now.count);
        s->compare(&t, it, &now);
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
            s->compare(&t, root_get(&t, "it"), &now);
            expect(PHEAP_READ_ONLY, s->clear(&t, root_get(&t, "it")));
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

/* Catches: an element lost, twice, or at another place; memory that never comes back; whatever abort, rollback or
 * reopening do to any of that. */
static void list__does_what_a_plain_one_does(void **state)
{
    (void)state;
    random_work("list", &list_sequence, 0, 60);
}

static void queue__does_what_a_plain_one_does(void **state)
{
    (void)state;
    random_work("queue", &queue_sequence, 0, 60);
}

static void omap__does_what_a_plain_one_does(void **state)
{
    (void)state;
    random_work("omap", &omap_sequence, 0, 60);
}

/* Catches: a store that was never declared: other processes, and this one later, would not see it. */
static void sequences__declare_what_they_change(void **state)
{
    (void)state;
    random_work("verify-list", &list_sequence, PHEAP_VERIFY, 12);
    random_work("verify-queue", &queue_sequence, PHEAP_VERIFY, 12);
    random_work("verify-omap", &omap_sequence, PHEAP_VERIFY, 12);
}

/* Catches: keys without an order that get in, into an empty map or beside others; an order that is not that of values. */
static void omap__takes_only_keys_with_an_order(void **state)
{
    (void)state;
    pheap *heap = new_values_heap("keys");
    struct pht t = change(heap);
    pht_value map, key, tuple, other;
    uint64_t count;
    ok(pht_omap_new(&t, &map));
    expect(PHEAP_WRONG_TYPE, pht_omap_set(&t, map, pht_none(), pht_int(1)));
    expect_detail(PHEAP_WRONG_TYPE, "NaN", pht_omap_set(&t, map, pht_float(0.0 / 0.0), pht_int(1)));
    expect(PHEAP_WRONG_TYPE, pht_omap_set(&t, map, pht_of(map), pht_int(1)));
    static const char *const words[] = {"pear", "apple", "a text that needs an object", "", "\xc3\xa9"};
    for (unsigned i = 0; i < 5; i++)
        ok(pht_omap_set(&t, map, pht_text(words[i]), pht_int(i)));
    expect_detail(PHEAP_WRONG_TYPE, "no order", pht_omap_set(&t, map, pht_int(1), pht_int(1)));
    expect_detail(PHEAP_WRONG_TYPE, "no order", pht_omap_set(&t, map, pht_bytes("a", 1), pht_int(1)));
    ok(pht_omap_count(&t, map, &count));
    require_equal(count, 5);
    static const unsigned sorted[] = {3, 2, 1, 0, 4};
    for (unsigned i = 0; i < 5; i++) {
        ok(pht_omap_at(&t, map, i, &key, NULL));
        require(is(&t, key, pht_text(words[sorted[i]])));
    }
    ok(pht_omap_clear(&t, map));
    const struct pht_any pair[] = {pht_int(1), pht_text("x")}, mixed[] = {pht_int(1), pht_int(2)};
    ok(pht_tuple_new(&t, pair, 2, &tuple));
    ok(pht_tuple_new(&t, mixed, 2, &other));
    ok(pht_omap_set(&t, map, pht_of(tuple), pht_int(1)));
    expect(PHEAP_WRONG_TYPE, pht_omap_set(&t, map, pht_of(other), pht_int(1)));
    ok(pht_discard(&t, other));
    ok(pht_discard(&t, map));
    keep(&t);
    require_all_given_back(heap);
    ok(pheap_close(heap));
}

/* Catches: keys that are compared as words, and not in the order of their values: signs, lengths, bytes from 128 on, zeros. */
static void omap__orders_words_by_value(void **state)
{
    (void)state;
    static const struct {
        const char *bytes;
        unsigned length;
    } texts[] = {{"", 0},   {"\0", 1},      {"\0\0", 2},     {"\0a", 2},     {"a", 1}, {"a\0", 2},     {"a\0b", 3},
                 {"ab", 2}, {"abcdefg", 7}, {"abcdefgh", 8}, {"abcdefh", 7}, {"b", 1}, {"\xc3\xa9", 2}};
    static const int64_t ints[] = {INT64_MIN, -(INT64_C(1) << 60) - 1, -(INT64_C(1) << 60), -7,       -1, 0, 1,
                                   300,       (INT64_C(1) << 60) - 1,  INT64_C(1) << 60,    INT64_MAX};
    enum { TEXTS = sizeof texts / sizeof texts[0], INTS = sizeof ints / sizeof ints[0] };
    pheap *heap = new_values_heap("words");
    struct pht t = change(heap);
    pht_value spelled, counted, key, value;
    ok(pht_omap_new(&t, &spelled));
    ok(pht_omap_new(&t, &counted));
    for (unsigned i = 0; i < TEXTS; i++) {
        const unsigned at = i * 5 % TEXTS;
        ok(pht_omap_set(&t, spelled, pht_str(texts[at].bytes, texts[at].length), pht_int(at)));
    }
    for (unsigned i = 0; i < INTS; i++) {
        const unsigned at = i * 5 % INTS;
        ok(pht_omap_set(&t, counted, pht_int(ints[at]), pht_int(at)));
    }
    for (unsigned i = 0; i < TEXTS; i++) {
        ok(pht_omap_at(&t, spelled, i, &key, NULL));
        require(is(&t, key, pht_str(texts[i].bytes, texts[i].length)));
        ok(pht_omap_get(&t, spelled, pht_str(texts[i].bytes, texts[i].length), &value));
        require(is(&t, value, pht_int(i)));
    }
    for (unsigned i = 0; i < INTS; i++) {
        ok(pht_omap_at(&t, counted, i, &key, NULL));
        require(is(&t, key, pht_int(ints[i])));
        ok(pht_omap_get(&t, counted, pht_int(ints[i]), &value));
        require(is(&t, value, pht_int(i)));
    }
    ok(pht_discard(&t, spelled));
    ok(pht_discard(&t, counted));
    keep(&t);
    require_all_given_back(heap);
    ok(pheap_close(heap));
}

/* Catches: a tuple that has an order as long as nothing else is there, or in which what has none is never compared. */
static void omap__takes_only_tuples_with_an_order(void **state)
{
    (void)state;
    pht_value map, not_a_number, list, key, good;
    pheap *heap = new_values_heap("tuple-keys");
    struct pht t = change(heap);
    ok(pht_make(&t, pht_float(NAN), &not_a_number));
    ok(pht_list_new(&t, &list));
    ok(pht_tuple_new(&t, (const struct pht_any[]){pht_int(1), pht_text("a")}, 2, &good));
    const struct pht_any bad[] = {pht_none(), pht_of(not_a_number), pht_of(list)};
    for (unsigned i = 0; i < 3; i++) {
        uint64_t count;
        for (unsigned place = 0; place < 2; place++) {
            struct pht_any elements[] = {pht_int(2), pht_int(2)};
            elements[place] = bad[i];
            ok(pht_tuple_new(&t, elements, 2, &key));
            ok(pht_omap_new(&t, &map));
            expect_detail(PHEAP_WRONG_TYPE, "order", pht_omap_set(&t, map, pht_of(key), pht_int(1)));
            ok(pht_omap_set(&t, map, pht_of(good), pht_int(1)));
            expect_detail(PHEAP_WRONG_TYPE, "order", pht_omap_set(&t, map, pht_of(key), pht_int(1)));
            ok(pht_omap_count(&t, map, &count));
            require_equal(count, 1);
        }
    }
    ok(pheap_abort(t.txn));
    ok(pheap_close(heap));
}

/* The most log that a few changes of one container take, each in a transaction of its own. */
static uint64_t most_log(pheap *heap, void (*change_it)(struct pht *t, pht_value it, int64_t i), int64_t times)
{
    enum { GROUP = 10 };
    uint64_t most = 0, before = heap_info(heap).committed_lsn;
    for (int64_t i = 0; i < times; i++) {
        struct pht t = change(heap);
        change_it(&t, root_get(&t, "it"), i);
        keep(&t);
        if (i % GROUP == GROUP - 1) {
            const uint64_t now = heap_info(heap).committed_lsn;
            most = now - before > most ? now - before : most;
            before = now;
        }
    }
    print_message("at most %llu bytes of log for %d operations\n", (unsigned long long)most, GROUP);
    return most;
}

/* Elements of what is large. */
enum { MANY = SANITIZED ? 100000 : 1000000 };

static void change_list(struct pht *t, pht_value it, int64_t i)
{
    if (i % 4 == 0)
        ok(pht_list_append(t, it, pht_int(i)));
    else if (i % 4 == 1)
        ok(pht_list_insert(t, it, 0, pht_int(i)));
    else if (i % 4 == 2)
        ok(pht_list_insert(t, it, (uint64_t)i * 7919 % MANY, pht_int(i)));
    else
        ok(pht_list_remove(t, it, (uint64_t)i * 104729 % MANY, NULL));
}

static void change_omap(struct pht *t, pht_value it, int64_t i)
{
    if (i % 3 == 2)
        ok(pht_omap_remove(t, it, pht_int(i * 104729 % MANY), NULL));
    else
        ok(pht_omap_set(t, it, pht_float((double)(i * 7919 % MANY) + 0.5), pht_int(i)));
}

static void change_queue(struct pht *t, pht_value it, int64_t i)
{
    if (i % 3 == 2)
        ok(pht_queue_pop(t, it, i % 2 == 0, NULL));
    else
        ok(pht_queue_push(t, it, i % 2 == 0, pht_int(i)));
}

/* Catches: an operation on a large container that moves or copies all of it; one that is freed in one go. */
static void sequences__of_a_million_change_little_at_a_time(void **state)
{
    (void)state;
    enum { LIMIT = 64 << 10 };
    static const struct {
        enum pheap_status (*make)(struct pht *t, pht_value *made);
        void (*change)(struct pht *t, pht_value it, int64_t i);
        enum pheap_status (*clear)(struct pht *t, pht_value it);
    } kinds[] = {{pht_list_new, change_list, pht_list_clear},
                 {pht_omap_new, change_omap, pht_omap_clear},
                 {pht_queue_new, change_queue, pht_queue_clear}};
    for (unsigned k = 0; k < 3; k++) {
        char name[32];
        pht_value it;
        (void)snprintf(name, sizeof name, "million-%u", k);
        pheap *heap = new_values_heap(name);
        struct pht t = change(heap);
        ok(kinds[k].make(&t, &it));
        root_set(&t, "it", pht_of(it));
        for (int64_t i = 0; i < MANY; i++) {
            if (k == 0)
                ok(pht_list_append(&t, it, pht_int(i)));
            else if (k == 1)
                ok(pht_omap_set(&t, it, pht_int(i), pht_int(i)));
            else
                ok(pht_queue_push(&t, it, false, pht_int(i)));
        }
        keep(&t);
        require(most_log(heap, kinds[k].change, 1000) <= LIMIT);
        t = change(heap);
        ok(kinds[k].clear(&t, it));
        require(keep_and_measure(heap, &t) <= LIMIT);
        const uint64_t blocks_cleared = live_blocks(heap);
        for (unsigned i = 0; i < 2000; i++) {
            t = change(heap);
            root_set(&t, "drain", pht_int(i)); /* what stores something drains limbo */
            require(keep_and_measure(heap, &t) <= LIMIT);
        }
        require(live_blocks(heap) < blocks_cleared);
        t = change(heap);
        ok(pht_map_clear(&t, pht_root(&t)));
        keep(&t);
        require_all_given_back(heap);
        ok(pheap_close(heap));
    }
}

int main(int argc, char **argv)
{
    choose_cases(argc, argv);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(list__does_what_a_plain_one_does),
        cmocka_unit_test(queue__does_what_a_plain_one_does),
        cmocka_unit_test(omap__does_what_a_plain_one_does),
        cmocka_unit_test(sequences__declare_what_they_change),
        cmocka_unit_test(omap__takes_only_keys_with_an_order),
        cmocka_unit_test(omap__orders_words_by_value),
        cmocka_unit_test(omap__takes_only_tuples_with_an_order),
        cmocka_unit_test(sequences__of_a_million_change_little_at_a_time),
    };
    return cmocka_run_group_tests(tests, make_test_directory, remove_test_directory);
}
