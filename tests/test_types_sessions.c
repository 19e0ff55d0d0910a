/* SPDX-License-Identifier: MIT */
/*
 * Sessions: what a program remembers stays whole, whatever others remove, collect, or die with; and nothing stays that
 * nobody remembers.
 *
 * The objects are lists whose first element is a number that no other has; the others are objects.  So a word that was
 * remembered can be asked whether it still is what it was.
 */
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
static unsigned effort(void)
{
    const char *text = getenv("PHEAP_TEST_EFFORT");
    const long effort = text == NULL ? 1 : strtol(text, NULL, 10);
    return effort < 1 ? 1 : (unsigned)effort;
}

static bool has_word(void *context, pht_value word)
{
    const struct rememberer *r = context;
    for (unsigned i = 0; i < r->count; i++) {
        if (r->words[i] == word)
            return true;
    }
    return false;
}

static bool next_word(void *context, uint64_t *cursor, pht_value *word)
{
    const struct rememberer *r = context;
    if (*cursor >= r->count)
        return false;
    *word = r->words[(*cursor)++];
    return true;
}

static struct pht_words words_of(struct rememberer *r, bool few)
{
    return (struct pht_words){.count = few ? 0 : r->count, .has = has_word, .next = next_word, .context = r};
}

static pheap_read *look(pheap *heap, struct pht *t)
{
    pheap_read *reader = read_begin(heap, PHEAP_FRESH);
    ok(pht_look(reader, t));
    return reader;
}

static int64_t number_of(struct pht *t, pht_value list)
{
    pht_value first;
    ok(pht_list_get(t, list, 0, &first));
    return integer_of(t, first);
}

static void begin_session(struct rememberer *r, bool holds)
{
    ok(pht_session_begin(r->heap, holds, -1, &r->session));
    r->count = r->dropped_count = 0;
}

static void forget(struct rememberer *r, unsigned i)
{
    if (r->dropped_count < WORDS_MAX)
        r->dropped[r->dropped_count++] = r->words[i];
    r->count--;
    r->words[i] = r->words[r->count];
    r->numbers[i] = r->numbers[r->count];
}

static void remember(struct rememberer *r, struct pht *t, pht_value word)
{
    if (has_word(r, word) || word == PHT_ABSENT || !pt_is_object(word))
        return;
    if (r->count == WORDS_MAX)
        forget(r, 0);
    ok(pht_session_wake(t, &r->session));
    r->words[r->count] = word;
    r->numbers[r->count++] = number_of(t, word);
}

static void rest(struct rememberer *r)
{
    if (r->count == 0)
        ok(pht_session_rest(&r->session));
}

/* All that is remembered is what it was. */
static void require_whole(struct rememberer *r)
{
    struct pht t;
    pheap_read *reader = look(r->heap, &t);
    for (unsigned i = 0; i < r->count; i++)
        require_equal(number_of(&t, r->words[i]), r->numbers[i]);
    ok(pheap_read_end(reader));
}

static void see(struct rememberer *r, bool few, bool aborted)
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

static void slot_name(char *name, unsigned slot)
{
    (void)snprintf(name, 8, "%u", slot);
}

static pht_value make_list(struct pht *t, unsigned slot)
{
    char name[8];
    pht_value made;
    slot_name(name, slot);
    ok(pht_list_new(t, &made));
    ok(pht_list_append(t, made, pht_int(next_number++)));
    root_set(t, name, pht_of(made));
    return made;
}

static pht_value child_of(struct pht *t, pht_value list, uint64_t roll)
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
static void read_something(struct rememberer *r, uint64_t *dice)
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
static void change_something(struct rememberer *r, uint64_t *dice)
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
static void require_nothing_stays(pheap *heap)
{
    struct pht t = change(heap);
    ok(pht_map_clear(&t, pht_root(&t)));
    keep(&t);
    ok(pht_collect(heap, PHEAP_LAZY, NULL));
    check_values(heap);
    require_equal(live_blocks(heap), 3);
}

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

/* ------------------------------------------------------------------------------------------------------- processes */

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
        cmocka_unit_test(processes__remember_and_die),
        cmocka_unit_test(processes__killed_at_any_moment),
        cmocka_unit_test(processes__rest),
        cmocka_unit_test(processes__wake_at_any_moment),
        cmocka_unit_test(sessions__refuse),
        cmocka_unit_test(sessions__without_room),
        cmocka_unit_test(sessions__come_by_what_was_offered),
        cmocka_unit_test(sessions__without_arguments),
        cmocka_unit_test(sessions__begin_beside_a_writer),
    };
    return cmocka_run_group_tests(tests, make_test_directory, remove_test_directory);
}
