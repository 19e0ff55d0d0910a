/* SPDX-License-Identifier: MIT */
/*
 * Who remembers words of values, and has a session for that.
 *
 * The objects are lists whose first element is a number that no other has; the others are objects.  So a word that was
 * remembered can be asked whether it still is what it was.
 */
#ifndef TESTS_TYPES_REMEMBERER_H
#define TESTS_TYPES_REMEMBERER_H

#include "tests/types_rig.h"
#include "types/heap.h"

#define WORDS_MAX 24
#define SLOTS 4

/* Who remembers words, through a handle and a session of its own. */
struct rememberer {
    pheap *heap;
    struct pht_session session;
    pht_value words[WORDS_MAX];
    int64_t numbers[WORDS_MAX];
    unsigned count;
    pht_value dropped[WORDS_MAX]; /* forgotten, and perhaps held */
    unsigned dropped_count;
};

static int64_t next_number;

/* PHEAP_TEST_EFFORT: how many times as much as in an ordinary run. */
static inline unsigned effort(void)
{
    const char *text = getenv("PHEAP_TEST_EFFORT");
    const long effort = text == NULL ? 1 : strtol(text, NULL, 10);
    return effort < 1 ? 1 : (unsigned)effort;
}

static inline bool has_word(void *context, pht_value word)
{
    const struct rememberer *r = context;
    for (unsigned i = 0; i < r->count; i++) {
        if (r->words[i] == word)
            return true;
    }
    return false;
}

static inline bool next_word(void *context, uint64_t *cursor, pht_value *word)
{
    const struct rememberer *r = context;
    if (*cursor >= r->count)
        return false;
    *word = r->words[(*cursor)++];
    return true;
}

static inline struct pht_words words_of(struct rememberer *r, bool few)
{
    return (struct pht_words){.count = few ? 0 : r->count, .has = has_word, .next = next_word, .context = r};
}

static inline pheap_read *look(pheap *heap, struct pht *t)
{
    pheap_read *reader = read_begin(heap, PHEAP_FRESH);
    ok(pht_look(reader, t));
    return reader;
}

static inline int64_t number_of(struct pht *t, pht_value list)
{
    pht_value first;
    ok(pht_list_get(t, list, 0, &first));
    return integer_of(t, first);
}

static inline void begin_session(struct rememberer *r, bool holds)
{
    ok(pht_session_begin(r->heap, holds, -1, &r->session));
    r->count = r->dropped_count = 0;
}

static inline void forget(struct rememberer *r, unsigned i)
{
    if (r->dropped_count < WORDS_MAX)
        r->dropped[r->dropped_count++] = r->words[i];
    r->count--;
    r->words[i] = r->words[r->count];
    r->numbers[i] = r->numbers[r->count];
}

static inline void remember(struct rememberer *r, struct pht *t, pht_value word)
{
    if (has_word(r, word) || word == PHT_ABSENT || !pt_is_object(word))
        return;
    if (r->count == WORDS_MAX)
        forget(r, 0);
    ok(pht_session_wake(t, &r->session));
    r->words[r->count] = word;
    r->numbers[r->count++] = number_of(t, word);
}

static inline void rest(struct rememberer *r)
{
    if (r->count == 0)
        ok(pht_session_rest(&r->session));
}

/* All that is remembered is what it was. */
static inline void require_whole(struct rememberer *r)
{
    struct pht t;
    pheap_read *reader = look(r->heap, &t);
    for (unsigned i = 0; i < r->count; i++)
        require_equal(number_of(&t, r->words[i]), r->numbers[i]);
    ok(pheap_read_end(reader));
}

static inline void see(struct rememberer *r, bool few, bool aborted)
{
    struct pht t;
    bool must_hold = false;
    const struct pht_words words = words_of(r, few);
    pheap_read *reader = look(r->heap, &t);
    if (pht_session_due(&t, &r->session))
        ok(pht_session_see(&t, &r->session, &words, &must_hold));
    ok(pheap_read_end(reader));
    if (!must_hold || !r->session.holds)
        return;
    t = change(r->heap);
    ok(pht_session_see(&t, &r->session, &words, &must_hold));
    if (aborted) {
        ok(pheap_abort(t.txn));
        return;
    }
    keep(&t);
    ok(pht_session_seen(&r->session));
}

static inline void slot_name(char *name, unsigned slot)
{
    (void)snprintf(name, 8, "%u", slot);
}

static inline pht_value make_list(struct pht *t, unsigned slot)
{
    char name[8];
    pht_value made;
    slot_name(name, slot);
    ok(pht_list_new(t, &made));
    ok(pht_list_append(t, made, pht_int(next_number++)));
    root_set(t, name, pht_of(made));
    return made;
}

static inline pht_value child_of(struct pht *t, pht_value list, uint64_t roll)
{
    uint64_t count;
    pht_value child;
    ok(pht_list_count(t, list, &count));
    if (count < 2)
        return PHT_ABSENT;
    ok(pht_list_get(t, list, 1 + roll % (count - 1), &child));
    return child;
}

/* Something that only reads. */
static inline void read_something(struct rememberer *r, uint64_t *dice)
{
    char name[8];
    struct pht t;
    const uint64_t roll = dice_roll(dice) >> 8;
    pheap_read *reader = look(r->heap, &t);
    slot_name(name, (unsigned)(roll % SLOTS));
    switch (dice_roll(dice) % 3) {
    case 0:
        remember(r, &t, root_get(&t, name));
        break;
    case 1:
        if (r->count > 0)
            remember(r, &t, child_of(&t, r->words[roll % r->count], roll >> 8));
        break;
    default:
        if (r->count > 0)
            forget(r, (unsigned)(roll % r->count));
    }
    ok(pheap_read_end(reader));
}

/* A transaction that changes something, and may be aborted. */
static inline void change_something(struct rememberer *r, uint64_t *dice)
{
    char name[8];
    uint64_t count;
    const uint64_t roll = dice_roll(dice) >> 8, other = dice_roll(dice) >> 8;
    struct rememberer before = *r;
    struct pht t = change(r->heap);
    slot_name(name, (unsigned)(roll % SLOTS));
    const pht_value word = r->count > 0 ? r->words[roll % r->count] : PHT_ABSENT;
    switch (dice_roll(dice) % 8) {
    case 0:
    case 1:
        remember(r, &t, make_list(&t, (unsigned)(roll % SLOTS)));
        break;
    case 2:
        if (word != PHT_ABSENT)
            root_set(&t, name, pht_of(word));
        break;
    case 3:
    case 4:
        if (word == PHT_ABSENT)
            break;
        ok(pht_list_count(&t, word, &count));
        if (count < 5)
            ok(pht_list_append(&t, word, pht_of(r->words[other % r->count])));
        else
            ok(pht_list_remove(&t, word, 1 + other % (count - 1), NULL));
        break;
    case 5:
    case 6:
        ok(pht_map_remove(&t, pht_root(&t), pht_text(name), NULL));
        break;
    default:
        ok(pht_reclaim(&t, 1000, NULL));
    }
    while (r->dropped_count > 0)
        ok(pht_unhold(&t, &r->session, r->dropped[--r->dropped_count]));
    if (dice_roll(dice) % 4 == 0) {
        ok(pheap_abort(t.txn));
        before.session = r->session;
        *r = before;
        return;
    }
    bool must_hold, sees = dice_roll(dice) % 2 == 0;
    const struct pht_words words = words_of(r, false);
    if (sees)
        ok(pht_session_see(&t, &r->session, &words, &must_hold));
    keep(&t);
    if (sees)
        ok(pht_session_seen(&r->session));
}

/* Nothing is left when all sessions have ended and the root is empty: but the registry, the root, the map of sessions. */
static inline void require_nothing_stays(pheap *heap)
{
    struct pht t = change(heap);
    ok(pht_map_clear(&t, pht_root(&t)));
    keep(&t);
    ok(pht_collect(heap, PHEAP_LAZY, NULL));
    check_values(heap);
    require_equal(live_blocks(heap), 3);
}

#endif
