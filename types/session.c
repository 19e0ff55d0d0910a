/* SPDX-License-Identifier: MIT */
/* Sessions: beginning, looking what became of remembered words, holding, ending. */
#include "types/session.h"

#include <sys/random.h>

struct key {
    uint64_t attached_ns;
    uint32_t seat;
    uint32_t number;
};
_Static_assert(sizeof(struct key) == 16, "key of a session");

_Static_assert(offsetof(struct pt_registry, limbo) + PT_WAITING * sizeof(struct pt_list_in_limbo) == PHT_WAITING_AT &&
                   sizeof(struct pt_list_in_limbo) == 24,
               "what pht_session_due() looks at");

#define SEATS_MAX 1024u /* far more than there can be */

static struct key key_of(const struct pht_session *session)
{
    return (struct key){.attached_ns = session->attached_ns, .seat = session->seat, .number = session->number};
}

/* -1: without end. */
static enum pheap_status begin_within(pheap *heap, int64_t timeout_ms, pheap_txn **txn)
{
    return timeout_ms < 0 ? pheap_begin(heap, txn) : pheap_begin_timeout(heap, timeout_ms, txn);
}

/* ----------------------------------------------------------------------------------------------------- of the dead */

struct living {
    uint64_t attached_ns[SEATS_MAX]; /* 0: nobody lives there */
};

static enum pheap_status find_living(pheap *heap, struct living *living)
{
    struct pheap_user user = {.size = sizeof user};
    memset(living, 0, sizeof *living);
    for (uint32_t seat = 0; seat < SEATS_MAX; seat = user.seat + 1) {
        const enum pheap_status status = pheap_next_user(heap, seat, &user);
        if (status == PHEAP_END)
            break;
        if (status != PHEAP_OK)
            return status;
        if (user.alive && user.seat < SEATS_MAX)
            living->attached_ns[user.seat] = user.attached_ns;
    }
    return PHEAP_OK;
}

static bool lives(const struct living *living, const struct key *key)
{
    return key->seat < SEATS_MAX && key->attached_ns != 0 && living->attached_ns[key->seat] == key->attached_ns;
}

/* The key of the first session of somebody dead.  END: there is none. */
static enum pheap_status find_dead(struct pht *t, pht_value sessions, const struct living *living, pht_value *dead)
{
    uint64_t cursor = 0;
    for (;;) {
        struct key key;
        struct pht_any any;
        enum pheap_status status = pht_map_next(t, sessions, &cursor, dead, NULL);
        if (status == PHEAP_OK)
            status = pht_show(t, dead, &any);
        if (status != PHEAP_OK)
            return status;
        if (any.kind != PHT_BYTES || any.length != sizeof key)
            return PHEAP_OK; /* nobody's */
        memcpy(&key, any.bytes, sizeof key);
        if (!lives(living, &key))
            return PHEAP_OK;
    }
}

enum pheap_status pt_sessions_drop_dead(struct pht *t, pheap *heap)
{
    struct living living;
    const struct pt_registry *registry = pt_registry_of(t);
    if (registry == NULL)
        return PHEAP_CORRUPT;
    if (registry->sessions == 0)
        return PHEAP_OK;
    enum pheap_status status = find_living(heap, &living);
    while (status == PHEAP_OK) {
        pht_value dead, holds;
        status = find_dead(t, registry->sessions, &living, &dead);
        if (status == PHEAP_OK)
            status = pht_map_get(t, registry->sessions, pht_of(dead), &holds);
        if (status == PHEAP_OK && holds == PHT_ABSENT)
            status = pt_corrupt(t, registry->sessions, "it has a session that is not found");
        if (status == PHEAP_OK)
            status = pht_map_remove(t, registry->sessions, pht_of(dead), NULL);
    }
    return status == PHEAP_END ? PHEAP_OK : status;
}

/* ------------------------------------------------------------------------------------------------------- beginning */

/* The map of sessions, made if there is none. */
static enum pheap_status make_sessions(struct pht *t)
{
    pht_value made;
    const struct pt_registry *registry = pt_registry_of(t);
    if (registry == NULL)
        return PHEAP_CORRUPT;
    if (registry->sessions != 0)
        return PHEAP_OK;
    enum pheap_status status = pht_map_new(t, &made);
    if (status == PHEAP_OK)
        status = pt_refer(t, made);
    return status == PHEAP_OK ? pt_put(t, t->registry + offsetof(struct pt_registry, sessions), made) : status;
}

/* What the newest version says: is there a map of sessions, and are there some of the dead? */
static enum pheap_status survey(pheap *heap, bool *made, bool *dead)
{
    struct pht t;
    struct living living;
    pheap_read *reader;
    pht_value key;
    *made = *dead = false;
    enum pheap_status status = pheap_read_begin(heap, PHEAP_FRESH, &reader);
    if (status != PHEAP_OK)
        return status;
    status = pht_look(reader, &t);
    const struct pt_registry *registry = status == PHEAP_OK ? pt_registry_of(&t) : NULL;
    if (status == PHEAP_OK && registry == NULL)
        status = PHEAP_CORRUPT;
    if (status == PHEAP_OK && registry->sessions != 0) {
        *made = true;
        status = find_living(heap, &living);
        if (status == PHEAP_OK)
            status = find_dead(&t, registry->sessions, &living, &key);
        *dead = status == PHEAP_OK;
        status = status == PHEAP_END ? PHEAP_OK : status;
    }
    (void)pheap_read_end(reader);
    return status == PHEAP_NOT_FOUND ? PHEAP_OK : status;
}

/* Make the map of sessions, and remove the dead. */
static enum pheap_status tidy(pheap *heap, int64_t timeout_ms)
{
    struct pht t;
    pheap_txn *txn;
    enum pheap_status status = begin_within(heap, timeout_ms, &txn);
    if (status != PHEAP_OK)
        return status;
    status = pht_begin(txn, &t);
    if (status == PHEAP_OK)
        status = make_sessions(&t);
    if (status == PHEAP_OK)
        status = pt_sessions_drop_dead(&t, heap);
    if (status == PHEAP_OK)
        return pheap_commit(txn, PHEAP_LAZY, NULL);
    (void)pheap_abort(txn);
    return status;
}

/*
 * In a heap that never had a session a writer who began before the mark was set may take apart what this process is about to
 * see: wait until there is none of them.
 */
static enum pheap_status await_writer(pheap *heap, int64_t timeout_ms)
{
    struct pheap_user user = {.size = sizeof user};
    for (;;) {
        uint64_t version;
        bool writing = false;
        enum pheap_status status = pheap_newest_version(heap, &version);
        for (uint32_t seat = 0; status == PHEAP_OK; seat = user.seat + 1) {
            status = pheap_next_user(heap, seat, &user);
            writing = writing || (status == PHEAP_OK && user.alive && user.writing);
        }
        if (status != PHEAP_END)
            return status;
        if (!writing)
            return PHEAP_OK;
        const int64_t slice = timeout_ms < 0 || timeout_ms > 20 ? 20 : timeout_ms;
        if (slice == 0)
            return pheap_fail_with(PHEAP_TIMEOUT, "a session cannot begin: a transaction that began before is open");
        status = pheap_wait(heap, version, slice, NULL);
        if (status != PHEAP_TIMEOUT && status != PHEAP_OK)
            return status;
        timeout_ms -= timeout_ms < 0 ? 0 : slice;
    }
}

static enum pheap_status find_self(pheap *heap, struct pht_session *session)
{
    struct pheap_user user = {.size = sizeof user};
    enum pheap_status status;
    for (uint32_t seat = 0; (status = pheap_next_user(heap, seat, &user)) == PHEAP_OK; seat = user.seat + 1) {
        if (user.self) {
            session->seat = user.seat;
            session->attached_ns = user.attached_ns;
            return PHEAP_OK;
        }
    }
    return status == PHEAP_END ? PHEAP_OK : status; /* alone, where nobody can write */
}

/* A session with a number, but without a place and a mark. */
static enum pheap_status make_session(pheap *heap, bool holds, struct pht_session *session)
{
    *session = (struct pht_session){.heap = heap, .holds = holds};
    /* Other sessions of this process have the same seat, maybe through another copy of this library. */
    if (getrandom(&session->number, sizeof session->number, 0) != (ssize_t)sizeof session->number)
        return pheap_fail_with(PHEAP_IO, "the system gives no random number for a session");
    return PHEAP_OK;
}

enum pheap_status pht_session_adopt(pheap *heap, const struct pht_session *parents, struct pht_session *session,
                                    bool *whole)
{
    struct pht_session begun;
    struct pheap_user user = {.size = sizeof user};
    if (heap == NULL || parents == NULL || session == NULL || whole == NULL)
        return pheap_fail_with(PHEAP_INVALID, "pht_session_adopt: an argument is NULL");
    enum pheap_status status = make_session(heap, parents->holds, &begun);
    begun.mark = parents->mark;
    if (status == PHEAP_OK) /* before it is looked whether that of the parent still stands */
        status = pheap_set_mark(heap, begun.mark);
    if (status == PHEAP_OK)
        status = find_self(heap, &begun);
    if (status != PHEAP_OK)
        return status;
    status = pheap_next_user(heap, parents->seat, &user);
    *whole = status == PHEAP_OK && user.seat == parents->seat && user.alive &&
             user.attached_ns == parents->attached_ns && user.mark != 0 && user.mark <= begun.mark;
    if (status != PHEAP_OK && status != PHEAP_END)
        return status;
    if (!*whole) {
        status = pheap_newest_version(heap, &begun.mark);
        begun.mark += begun.mark == 0;
        if (status == PHEAP_OK)
            status = pheap_set_mark(heap, begun.mark);
        if (status != PHEAP_OK)
            return status;
    }
    *session = begun;
    return PHEAP_OK;
}

enum pheap_status pht_session_begin(pheap *heap, bool holds, int64_t timeout_ms, struct pht_session *session)
{
    bool made, dead;
    if (heap == NULL || session == NULL)
        return pheap_fail_with(PHEAP_INVALID, "pht_session_begin: heap or session is NULL");
    struct pht_session begun;
    enum pheap_status status = make_session(heap, holds, &begun);
    if (status == PHEAP_OK)
        status = pheap_newest_version(heap, &begun.mark);
    begun.mark += begun.mark == 0;
    if (status == PHEAP_OK)
        status = pheap_set_mark(heap, begun.mark);
    if (status == PHEAP_OK)
        status = find_self(heap, &begun);
    if (status == PHEAP_OK)
        status = survey(heap, &made, &dead);
    if (status == PHEAP_OK && !made)
        status = holds ? tidy(heap, timeout_ms) : await_writer(heap, timeout_ms);
    else if (status == PHEAP_OK && holds && dead)
        (void)!tidy(heap, 0); /* somebody else will */
    if (status == PHEAP_OK)
        *session = begun;
    else if (heap != NULL)
        (void)!pheap_set_mark(heap, 0);
    return status;
}

/* ---------------------------------------------------------------------------------------------------------- holding */

static enum pheap_status may_hold(const struct pht *t, const struct pht_session *session)
{
    if (t == NULL || session == NULL || session->heap == NULL)
        return pheap_fail_with(PHEAP_INVALID, "there is no session, or it has ended");
    if (!session->holds)
        return pheap_fail_with(PHEAP_READ_ONLY, "a session that only reads cannot hold objects");
    return PHEAP_OK;
}

/* The map of the session's holds: PHT_ABSENT if there is none, and it is not to be made. */
static enum pheap_status find_holds(struct pht *t, const struct pht_session *session, bool make, pht_value *holds)
{
    *holds = PHT_ABSENT;
    const struct pt_registry *registry = pt_registry_of(t);
    if (registry == NULL)
        return PHEAP_CORRUPT;
    if (registry->sessions == 0 && !make)
        return PHEAP_OK;
    enum pheap_status status = make ? make_sessions(t) : PHEAP_OK;
    const struct key key = key_of(session);
    if (status == PHEAP_OK)
        status = pht_map_get(t, registry->sessions, pht_bytes(&key, sizeof key), holds);
    if (status != PHEAP_OK || *holds != PHT_ABSENT || !make)
        return status;
    status = pht_map_new(t, holds);
    if (status == PHEAP_OK)
        status = pht_map_set(t, registry->sessions, pht_bytes(&key, sizeof key), pht_of(*holds));
    return status;
}

enum pheap_status pht_hold(struct pht *t, const struct pht_session *session, pht_value value)
{
    pht_value holds;
    enum pheap_status status = may_hold(t, session);
    if (status == PHEAP_OK)
        status = pt_may_change(t);
    if (status != PHEAP_OK || !pt_is_object(value))
        return status;
    status = find_holds(t, session, true, &holds);
    return status == PHEAP_OK ? pht_map_set(t, holds, pht_int((int64_t)(value >> 4)), pht_of(value)) : status;
}

enum pheap_status pht_is_held(struct pht *t, const struct pht_session *session, pht_value value, bool *held)
{
    pht_value holds, found = PHT_ABSENT;
    if (t == NULL || session == NULL || held == NULL)
        return pheap_fail_with(PHEAP_INVALID, "pht_is_held: an argument is NULL");
    enum pheap_status status = pt_is_object(value) ? find_holds(t, session, false, &holds) : PHEAP_OK;
    if (status == PHEAP_OK && pt_is_object(value) && holds != PHT_ABSENT)
        status = pht_map_get(t, holds, pht_int((int64_t)(value >> 4)), &found);
    *held = status == PHEAP_OK && found != PHT_ABSENT;
    return status;
}

enum pheap_status pht_unhold(struct pht *t, const struct pht_session *session, pht_value value)
{
    pht_value holds;
    enum pheap_status status = may_hold(t, session);
    if (status == PHEAP_OK)
        status = pt_may_change(t);
    if (status != PHEAP_OK || !pt_is_object(value))
        return status;
    status = find_holds(t, session, false, &holds);
    if (status != PHEAP_OK || holds == PHT_ABSENT)
        return status;
    return pht_map_remove(t, holds, pht_int((int64_t)(value >> 4)), NULL);
}

/* ----------------------------------------------------------------------------------------------------------- seeing */

/* What becomes of remembered words: in a reader it is only found out whether one must be held. */
struct seeing {
    struct pht *t;
    const struct pht_session *session;
    const struct pht_words *words;
    bool hold;
    bool found;
};

static enum pheap_status see_word(struct seeing *seeing, pht_value word)
{
    seeing->found = true;
    if (!seeing->hold)
        return PHEAP_OK;
    const enum pheap_status status = pht_hold(seeing->t, seeing->session, word);
    if (status == PHEAP_OK && seeing->words->held != NULL)
        seeing->words->held(seeing->words->context, word);
    return status;
}

/* Will it be taken apart, or may pht_collect() do so? */
static bool is_lost(const struct pt_head *head)
{
    return pt_in_limbo(head) && !pt_is_going(head) && (head->references == 0 || (head->link & PT_OFFERED) != 0);
}

/* Go through what waits: at most `most` of it, *done: that was all. */
static enum pheap_status see_waiting(struct seeing *seeing, uint64_t most, bool *done)
{
    const struct pht_words *words = seeing->words;
    const struct pt_registry *registry = pt_registry_of(seeing->t);
    if (registry == NULL)
        return PHEAP_CORRUPT;
    uint64_t at = registry->limbo[PT_WAITING].first;
    for (; at != 0 && most > 0; most--) {
        const struct pt_head *head = pt_head(seeing->t, at);
        if (head == NULL)
            return PHEAP_CORRUPT;
        const uint64_t next = head->link & ~(uint64_t)PT_LINK_BITS;
        if (is_lost(head) && words->has(words->context, at)) {
            const enum pheap_status status = see_word(seeing, at);
            if (status != PHEAP_OK || !seeing->hold)
                return status;
        }
        at = next;
    }
    *done = at == 0;
    return PHEAP_OK;
}

/* Go through the words. */
static enum pheap_status see_words(struct seeing *seeing)
{
    const struct pht_words *words = seeing->words;
    const struct pht *t = seeing->t;
    uint64_t cursor = 0;
    pht_value word;
    enum pheap_status status = PHEAP_OK;
    while (status == PHEAP_OK && (seeing->hold || !seeing->found) && words->next(words->context, &cursor, &word)) {
        if (!pt_is_object(word) || (word & 15) != 0 || word >= t->size || t->size - word < sizeof(struct pt_head))
            continue;
        const struct pt_head *head = (const struct pt_head *)(const void *)(t->base + word);
        if (pt_is_kind(head->kind) && is_lost(head))
            status = see_word(seeing, word);
    }
    return status;
}

enum pheap_status pht_session_see(struct pht *t, struct pht_session *session, const struct pht_words *words,
                                  bool *must_hold)
{
    if (t == NULL || session == NULL || session->heap == NULL || words == NULL || must_hold == NULL)
        return pheap_fail_with(PHEAP_INVALID, "pht_session_see: an argument is NULL, or the session has ended");
    *must_hold = false;
    session->next = 0;
    if (!pht_session_due(t, session))
        return PHEAP_OK;
    const struct pt_registry *registry = pt_registry_of(t);
    if (registry == NULL)
        return PHEAP_CORRUPT;
    const uint64_t stamp = registry->limbo[PT_WAITING].stamp;
    struct seeing seeing = {.t = t, .session = session, .words = words, .hold = t->txn != NULL && session->holds};
    bool done = false;
    enum pheap_status status = see_waiting(&seeing, words->count + 16, &done);
    if (status == PHEAP_OK && !done && (seeing.hold || !seeing.found))
        status = see_words(&seeing);
    if (status != PHEAP_OK)
        return status;
    *must_hold = seeing.found;
    if (seeing.found && !seeing.hold)
        return PHEAP_OK;
    session->next = stamp;
    return t->txn == NULL ? pht_session_seen(session) : PHEAP_OK;
}

static enum pheap_status move_mark(struct pht_session *session, uint64_t mark)
{
    const enum pheap_status status = pheap_set_mark(session->heap, mark);
    if (status == PHEAP_OK)
        session->mark = mark;
    return status;
}

enum pheap_status pht_session_seen(struct pht_session *session)
{
    if (session == NULL || session->heap == NULL)
        return pheap_fail_with(PHEAP_INVALID, "pht_session_seen: there is no session, or it has ended");
    if (session->next <= session->mark)
        return PHEAP_OK;
    const enum pheap_status status = move_mark(session, session->next);
    session->next = 0;
    return status;
}

/* -------------------------------------------------------------------------------------------------------- resting */

enum pheap_status pht_session_rest(struct pht_session *session)
{
    if (session == NULL || session->heap == NULL)
        return pheap_fail_with(PHEAP_INVALID, "pht_session_rest: there is no session, or it has ended");
    session->next = 0;
    return pht_session_rests(session) ? PHEAP_OK : move_mark(session, PHEAP_MARK_RESTS);
}

enum pheap_status pht_session_wake(const struct pht *t, struct pht_session *session)
{
    if (t == NULL || session == NULL || session->heap == NULL)
        return pheap_fail_with(PHEAP_INVALID, "pht_session_wake: there is no view, or the session has ended");
    if (!pht_session_rests(session))
        return PHEAP_OK;
    /* What came into limbo up to the version that is seen cannot be reached there.  What came later nobody takes apart yet:
     * others see the reader's pin until they see this mark.  A writer sees what the version before its own has left. */
    const uint64_t seen = t->txn != NULL ? t->version - 1 : pheap_read_version(t->reader);
    return move_mark(session, seen == 0 ? 1 : seen);
}

enum pheap_status pht_waiting(struct pht *t, uint64_t *objects)
{
    const struct pt_registry *registry = t == NULL || objects == NULL ? NULL : pt_registry_of(t);
    if (t == NULL || objects == NULL)
        return pheap_fail_with(PHEAP_INVALID, "pht_waiting: an argument is NULL");
    if (registry == NULL)
        return PHEAP_CORRUPT;
    *objects = registry->offered_count;
    return PHEAP_OK;
}

/* ----------------------------------------------------------------------------------------------------------- ending */

static enum pheap_status drop_holds(struct pht_session *session, int64_t timeout_ms)
{
    struct pht t;
    pheap_txn *txn;
    pheap_read *reader;
    pht_value holds = PHT_ABSENT;
    enum pheap_status status = pheap_read_begin(session->heap, PHEAP_FRESH, &reader);
    if (status != PHEAP_OK)
        return status;
    status = pht_look(reader, &t);
    if (status == PHEAP_OK)
        status = find_holds(&t, session, false, &holds);
    (void)pheap_read_end(reader);
    if (status != PHEAP_OK || holds == PHT_ABSENT)
        return status;
    status = begin_within(session->heap, timeout_ms, &txn);
    if (status != PHEAP_OK)
        return status;
    const struct key key = key_of(session);
    status = pht_begin(txn, &t);
    const struct pt_registry *registry = status == PHEAP_OK ? pt_registry_of(&t) : NULL;
    if (registry != NULL)
        status = pht_map_remove(&t, registry->sessions, pht_bytes(&key, sizeof key), NULL);
    if (status == PHEAP_OK)
        return pheap_commit(txn, PHEAP_LAZY, NULL);
    (void)pheap_abort(txn);
    return status;
}

enum pheap_status pht_session_end(struct pht_session *session, int64_t timeout_ms)
{
    if (session == NULL || session->heap == NULL)
        return PHEAP_OK;
    const enum pheap_status dropped = session->holds ? drop_holds(session, timeout_ms) : PHEAP_OK;
    const enum pheap_status status = pheap_set_mark(session->heap, 0);
    session->heap = NULL;
    return dropped == PHEAP_OK ? status : dropped;
}
