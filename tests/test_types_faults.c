/* SPDX-License-Identifier: MIT */
/*
 * Every function of types/ that stores, and every call that it makes of the library below or for memory, in turn: that
 * call fails, in each way in which it can.
 *
 * Whatever failed: the function says so, with that status; if it had changed anything the transaction stores nothing
 * more; after an abort, or a rollback and a commit, the heap is sound and holds what it held; and what failed works
 * when it is done again.
 *
 * PHEAP_TYPES_FAULTS_REPLAY=function,call,failure runs one fault alone.
 */
#include "tests/support/effort.h"
#include "tests/types_content.h"
#include "tests/types_functions.h"

/* ------------------------------------------------------------------------------------------------------- the faults */

/* What a call of each kind can fail with, once the arguments are right. */
enum { STORES, FREES, READS, MEMORY, RANDOM, KINDS };
static const enum pheap_status failures[KINDS][5] = {
    [STORES] = {PHEAP_NO_SPACE, PHEAP_NO_MEMORY, PHEAP_TOO_BIG, PHEAP_RESERVE, PHEAP_FULL},
    [FREES] = {PHEAP_NO_MEMORY, PHEAP_TOO_BIG, PHEAP_LOG_FULL, PHEAP_IO, PHEAP_BUDGET},
    [READS] = {PHEAP_NO_MEMORY, PHEAP_LOG_FULL, PHEAP_IO, PHEAP_POISONED, PHEAP_BUSY},
    [RANDOM] = {PHEAP_IO, PHEAP_IO, PHEAP_IO, PHEAP_IO, PHEAP_IO},
    [MEMORY] = {PHEAP_NO_MEMORY, PHEAP_NO_MEMORY, PHEAP_NO_MEMORY, PHEAP_NO_MEMORY, PHEAP_NO_MEMORY},
};
#define FAILURES 5u

static struct {
    bool armed;
    uint64_t countdown; /* calls until one fails */
    unsigned failure;
    enum pheap_status struck; /* PHEAP_OK: no call has failed yet */
} fault;

/* The status of this call; PHEAP_OK: it is made. */
static enum pheap_status strike(unsigned kind)
{
    if (!fault.armed || fault.struck != PHEAP_OK || --fault.countdown > 0)
        return PHEAP_OK;
    fault.struck = failures[kind][fault.failure];
    return pheap_fail_with(fault.struck, "a call was made to fail");
}

#define WRAP(kind, name, parameters, arguments)                       \
    enum pheap_status __real_##name parameters;                       \
    enum pheap_status __wrap_##name parameters;                       \
    enum pheap_status __wrap_##name parameters                        \
    {                                                                 \
        const enum pheap_status status = strike(kind);                \
        return status == PHEAP_OK ? __real_##name arguments : status; \
    }

WRAP(STORES, pheap_alloc, (pheap_txn * txn, uint64_t length, uint64_t *offset), (txn, length, offset))
WRAP(STORES, pheap_zalloc, (pheap_txn * txn, uint64_t length, uint64_t *offset), (txn, length, offset))
WRAP(STORES, pheap_realloc, (pheap_txn * txn, uint64_t *offset, uint64_t length), (txn, offset, length))
WRAP(STORES, pheap_edit, (pheap_txn * txn, uint64_t offset, uint64_t length, void **address),
     (txn, offset, length, address))
WRAP(STORES, pheap_write, (pheap_txn * txn, uint64_t offset, const void *bytes, uint64_t length),
     (txn, offset, bytes, length))
WRAP(STORES, pheap_fill, (pheap_txn * txn, uint64_t offset, int byte, uint64_t length), (txn, offset, byte, length))
WRAP(FREES, pheap_free, (pheap_txn * txn, uint64_t offset), (txn, offset))
WRAP(FREES, pheap_set_root, (pheap_txn * txn, uint64_t offset), (txn, offset))
WRAP(READS, pheap_begin, (pheap * heap, pheap_txn **txn), (heap, txn))
WRAP(READS, pheap_read_begin, (pheap * heap, unsigned flags, pheap_read **reader), (heap, flags, reader))
WRAP(READS, pheap_begin_timeout, (pheap * heap, int64_t timeout_ms, pheap_txn **txn), (heap, timeout_ms, txn))
WRAP(READS, pheap_newest_version, (pheap * heap, uint64_t *version), (heap, version))
WRAP(READS, pheap_set_mark, (pheap * heap, uint64_t mark), (heap, mark))
WRAP(READS, pheap_lowest_mark, (pheap_txn * txn, uint64_t *mark), (txn, mark))
WRAP(READS, pheap_next_user, (pheap * heap, uint32_t from, struct pheap_user *user), (heap, from, user))

/* A commit that fails has ended the transaction. */
enum pheap_status __real_pheap_commit(pheap_txn *txn, enum pheap_durability how, uint64_t *version);
enum pheap_status __wrap_pheap_commit(pheap_txn *txn, enum pheap_durability how, uint64_t *version);
enum pheap_status __wrap_pheap_commit(pheap_txn *txn, enum pheap_durability how, uint64_t *version)
{
    const enum pheap_status status = strike(READS);
    if (status == PHEAP_OK)
        return __real_pheap_commit(txn, how, version);
    (void)pheap_abort(txn);
    return pheap_fail_with(status, "a commit was made to fail");
}

ssize_t __real_getrandom(void *bytes, size_t length, unsigned flags);
ssize_t __wrap_getrandom(void *bytes, size_t length, unsigned flags);
ssize_t __wrap_getrandom(void *bytes, size_t length, unsigned flags)
{
    return strike(RANDOM) == PHEAP_OK ? __real_getrandom(bytes, length, flags) : -1;
}

#define WRAP_MEMORY(name, parameters, arguments)                            \
    void *__real_##name parameters;                                         \
    void *__wrap_##name parameters;                                         \
    void *__wrap_##name parameters                                          \
    {                                                                       \
        return strike(MEMORY) == PHEAP_OK ? __real_##name arguments : NULL; \
    }
WRAP_MEMORY(malloc, (size_t size), (size))
WRAP_MEMORY(calloc, (size_t count, size_t size), (count, size))
WRAP_MEMORY(realloc, (void *memory, size_t size), (memory, size))

/* -------------------------------------------------------------------------------------------------------- the sweep */

/* The fault at work, for whoever must look into it. */
static char present[64];

static uint64_t garbage_of(pheap *heap)
{
    struct pht t;
    struct pht_census census = {.size = sizeof census};
    pheap_read *reader = read_begin(heap, PHEAP_FRESH);
    ok(pht_look(reader, &t));
    ok(pht_check(&t, print_fault, NULL, &census));
    (void)pheap_read_end(reader);
    return census.garbage;
}

static void require_unchanged(const struct rig *rig, const char *when)
{
    struct pht t;
    pheap_read *reader = read_begin(rig->heap, PHEAP_FRESH);
    ok(pheap_check(reader, print_fault, NULL, NULL));
    ok(pht_look(reader, &t));
    ok(pht_check(&t, print_fault, NULL, NULL));
    if (content_of(&t, pht_root(&t)) != rig->content)
        check_failed(__FILE__, __LINE__, "%s (%s) the heap holds something else", when, present);
    (void)pheap_read_end(reader);
}

static void arm(uint64_t call, unsigned failure)
{
    fault.failure = failure;
    fault.countdown = call;
    fault.struck = PHEAP_OK;
    fault.armed = true;
}

/*
 * After a failure nothing is stored any more.  True: something is, as when there was no memory to look at what was given; then
 * nothing had been changed.
 */
static bool goes_on(struct pht *t, enum pheap_status status)
{
    const enum pheap_status then = pht_map_set(t, pht_root(t), pht_text("then"), pht_text(object_text));
    if (then == PHEAP_OK && status == PHEAP_NO_MEMORY) {
        ok(pht_map_remove(t, pht_root(t), pht_text("then"), NULL));
        return true;
    }
    if (then == PHEAP_OK)
        check_failed(__FILE__, __LINE__, "it goes on after %s (%s)", pheap_status_name(status), present);
    require_equal(then, status);
    require(strstr(pheap_error_detail(), "half-way") != NULL);
    return false;
}

/* False: the function makes fewer calls. */
static bool fail_once(const struct rig *rig, unsigned function, uint64_t call, unsigned failure)
{
    uint32_t savepoint;
    struct pht t = change(rig->heap);
    ok(pheap_savepoint(t.txn, &savepoint));
    (void)snprintf(present, sizeof present, "PHEAP_TYPES_FAULTS_REPLAY=%u,%llu,%u", function, (unsigned long long)call,
                   failure);
    arm(call, failure);
    enum pheap_status status = store(function, &t, rig);
    fault.armed = false;
    if (fault.struck == PHEAP_OK) {
        ok(status);
        ok(pheap_abort(t.txn));
        return false;
    }
    if (status != fault.struck)
        check_failed(__FILE__, __LINE__, "%s: %s, but the call gave %s", present, pheap_status_name(status),
                     pheap_status_name(fault.struck));
    if (goes_on(&t, status)) {
        keep(&t);
        if (garbage_of(rig->heap) != rig->garbage)
            check_failed(__FILE__, __LINE__, "something is left of what could be gone on from (%s)", present);
    } else if (call % 2 == 0) {
        ok(pheap_abort(t.txn));
    } else {
        ok(pheap_rollback(t.txn, savepoint));
        ok(pht_begin(t.txn, &t));
        ok(pheap_commit(t.txn, PHEAP_LAZY, NULL));
    }
    return true;
}

/* The same until the function makes no more calls. */
static uint64_t fail_all(const struct rig *rig, unsigned function, unsigned failure)
{
    uint64_t call = 1;
    while (fail_once(rig, function, call, failure))
        if (call++ % 8 == 0)
            require_unchanged(rig, "after a failure");
    require_unchanged(rig, "after failures");
    struct pht t = change(rig->heap);
    ok(store(function, &t, rig));
    ok(pheap_abort(t.txn));
    return call - 1;
}

/*
 * Catches: a failure that is swallowed, told as another, leaves something half done that can be committed, or remains.
 */
static void faults__of_every_function(void **state)
{
    (void)state;
    struct rig rig = {.heap = new_values_heap("functions")};
    struct pht t = change(rig.heap);
    uint64_t calls = 0;
    fill(&rig, &t);
    ok(pht_list_new(&t, &rig.loose));
    ok(pht_list_append(&t, rig.loose, pht_text(object_text)));
    fill_limbo(&t);
    rig.content = content_of(&t, pht_root(&t));
    keep(&t);
    rig.garbage = garbage_of(rig.heap);
    unsigned only[3];
    const char *replay = getenv("PHEAP_TYPES_FAULTS_REPLAY");
    if (replay != NULL) {
        require(sscanf(replay, "%u,%u,%u", &only[0], &only[1], &only[2]) == 3);
        require(fail_once(&rig, only[0], only[1], only[2]));
        require_unchanged(&rig, "after that failure");
    } else {
        for (unsigned function = 0; function < FUNCTIONS; function++)
            for (unsigned failure = 0; failure < (WATCHES_THREADS ? 1 : FAILURES); failure++)
                calls += fail_all(&rig, function, failure);
        print_message("%llu failures\n", (unsigned long long)calls);
    }
    ok(pheap_close(rig.heap));
}

/* Catches: a registry that is half made, in the root or forgotten. */
static void faults__of_the_first_begin(void **state)
{
    (void)state;
    struct pht t;
    pheap *heap = new_values_heap("first");
    for (unsigned failure = 0; failure < FAILURES; failure++)
        for (uint64_t call = 1;; call++) {
            pheap_txn *txn = begin(heap);
            arm(call, failure);
            const enum pheap_status status = pht_begin(txn, &t);
            fault.armed = false;
            require_equal(status, fault.struck);
            if (status == PHEAP_OK)
                require(call > 5);
            ok(pheap_abort(txn));
            require_equal(live_blocks(heap), 0);
            if (status == PHEAP_OK)
                break;
        }
    ok(pheap_close(heap));
}

/* Two maps that refer to each other, a tuple of many, a leaf: all stored nowhere. */
static void make_garbage(pheap *heap)
{
    struct pht t = change(heap);
    pht_value one, other, made;
    const struct pht_any elements[] = {pht_text(object_text), pht_text(object_text)};
    ok(pht_map_new(&t, &one));
    ok(pht_map_new(&t, &other));
    ok(pht_map_set(&t, one, pht_text(object_text), pht_of(other)));
    ok(pht_map_set(&t, other, pht_text(object_text), pht_of(one)));
    ok(pht_tuple_new(&t, elements, 2, &made));
    ok(pht_make(&t, pht_text(object_text), &made));
    keep(&t);
}

/*
 * Catches: a collection that a failure leaves in a heap that is not sound, or that takes what is reached; memory, a
 * reader or the writer lock that it keeps; one that cannot be done again.
 */
static void faults__of_a_collection(void **state)
{
    (void)state;
    uint64_t collected, failed = 0;
    struct rig rig = {.heap = new_values_heap("collection")};
    struct pht t = change(rig.heap);
    fill(&rig, &t);
    rig.content = content_of(&t, pht_root(&t));
    keep(&t);
    reclaim_all(rig.heap);
    const uint64_t blocks = live_blocks(rig.heap);
    for (unsigned failure = 0; failure < FAILURES; failure++)
        for (uint64_t call = 1;; call++, failed++) {
            make_garbage(rig.heap);
            arm(call, failure);
            const enum pheap_status status = pht_collect(rig.heap, PHEAP_LAZY, &collected);
            fault.armed = false;
            require_equal(status, fault.struck);
            require_unchanged(&rig, "after a collection");
            ok(pht_collect(rig.heap, PHEAP_LAZY, &collected));
            require_unchanged(&rig, "after the next collection");
            reclaim_all(rig.heap);
            require_equal(live_blocks(rig.heap), blocks);
            if (status == PHEAP_OK)
                break;
        }
    print_message("%llu failures\n", (unsigned long long)failed);
    ok(pheap_close(rig.heap));
}

/* Catches: a check that loses memory, or calls a heap damaged, when there is no memory for it. */
static void faults__of_a_check(void **state)
{
    (void)state;
    struct pht t;
    struct rig rig = {.heap = new_values_heap("check")};
    t = change(rig.heap);
    fill(&rig, &t);
    keep(&t);
    pheap_read *reader = read_begin(rig.heap, PHEAP_FRESH);
    ok(pht_look(reader, &t));
    uint64_t call = 1;
    for (;; call++) {
        arm(call, 0);
        const enum pheap_status status = pht_check(&t, NULL, NULL, NULL);
        fault.armed = false;
        require_equal(status, fault.struck);
        if (status == PHEAP_OK)
            break;
    }
    require(call > 2);
    (void)pheap_read_end(reader);
    ok(pheap_close(rig.heap));
}

/* ---------------------------------------------------------------------------------------------------------- sessions */

/* A list that a session remembers, and one that somebody dead holds. */
struct remembered {
    pheap *heap;
    struct pht_session session;
    pht_value list;
};

static bool remembers(void *context, pht_value word)
{
    return word == *(const pht_value *)context;
}

static bool next_word(void *context, uint64_t *cursor, pht_value *word)
{
    *word = *(const pht_value *)context;
    return (*cursor)++ == 0;
}

/* With `begun` there is a session, and the list has gone from the root and waits in limbo for it to see that. */
static struct remembered remember(const char *name, bool begun)
{
    struct remembered r = {.heap = new_values_heap(name)};
    struct pht t = change(r.heap);
    ok(pht_list_new(&t, &r.list));
    ok(pht_list_append(&t, r.list, pht_text(object_text)));
    root_set(&t, "list", pht_of(r.list));
    keep(&t);
    if (!begun)
        return r;
    ok(pht_session_begin(r.heap, true, -1, &r.session));
    t = change(r.heap);
    struct pht_session dead = r.session;
    dead.attached_ns--;
    ok(pht_hold(&t, &dead, pht_root(&t)));
    keep(&t);
    t = change(r.heap);
    ok(pht_map_remove(&t, pht_root(&t), pht_text("list"), NULL));
    keep(&t);
    t = change(r.heap);
    root_set(&t, "then", pht_int(1)); /* what was young waits now */
    keep(&t);
    return r;
}

/* Whoever held it is dead. */
static void require_root_is_not_held(pheap *heap)
{
    uint32_t count;
    struct pht t;
    pheap_read *reader = read_begin(heap, PHEAP_FRESH);
    ok(pht_look(reader, &t));
    ok(pht_references(&t, pht_root(&t), &count));
    require_equal(count, 1);
    ok(pheap_read_end(reader));
}

/* What is called in no transaction. */
enum { BEGIN_FIRST, BEGIN_TO_READ, BEGIN_AGAIN, ADOPT, ADOPT_OF_THE_DEAD, END, OUTSIDE };
static enum pheap_status call_outside(unsigned function, struct remembered *r)
{
    bool whole;
    struct pht_session made, parents = r->session;
    parents.attached_ns -= function == ADOPT_OF_THE_DEAD;
    enum pheap_status status;
    switch (function) {
    case BEGIN_FIRST:
    case BEGIN_TO_READ:
    case BEGIN_AGAIN:
        return pht_session_begin(r->heap, function != BEGIN_TO_READ, -1, &r->session);
    case END:
        status = pht_session_end(&r->session, -1);
        require(r->session.heap == NULL);
        return status;
    default:
        status = pht_session_adopt(r->heap, &parents, &made, &whole);
        if (status == PHEAP_OK)
            require(whole == (function == ADOPT));
        return status;
    }
}

/* And in a view. */
enum { HOLD, UNHOLD, IS_HELD, SEE, SEE_IN_A_READER, INSIDE };
static enum pheap_status call_inside(unsigned function, struct remembered *r, struct pht *t)
{
    bool flag;
    const struct pht_words words = {.count = 1, .has = remembers, .next = next_word, .context = &r->list};
    switch (function) {
    case HOLD:
        return pht_hold(t, &r->session, r->list);
    case UNHOLD:
        return pht_unhold(t, &r->session, pht_root(t));
    case IS_HELD:
        return pht_is_held(t, &r->session, pht_root(t), &flag);
    default:
        r->session.mark = function == SEE ? r->session.mark : 1;
        return pht_session_see(t, &r->session, &words, &flag);
    }
}

/* Catches: a session that is begun or ended half, or with a mark that nobody takes back; and a failure that is not told. */
static void faults__of_sessions_outside(void **state)
{
    (void)state;
    unsigned number = 0;
    for (unsigned function = 0; function < OUTSIDE; function++)
        for (unsigned failure = 0; failure < (WATCHES_THREADS ? 1 : FAILURES); failure++)
            for (uint64_t call = 1;; call++) {
                char name[32];
                (void)snprintf(name, sizeof name, "outside-%u", number++);
                struct remembered r = remember(name, function >= BEGIN_AGAIN);
                if (function == BEGIN_AGAIN)
                    ok(pht_session_end(&r.session, -1));
                if (function == END) {
                    struct pht t = change(r.heap);
                    ok(pht_hold(&t, &r.session, r.list));
                    keep(&t);
                }
                arm(call, failure);
                const enum pheap_status status = call_outside(function, &r);
                fault.armed = false;
                /* Of the dead somebody else takes care when it could not be done. */
                require(status == fault.struck || (function == BEGIN_AGAIN && status == PHEAP_OK));
                check_values(r.heap);
                if (status != PHEAP_OK && function < ADOPT)
                    ok(pht_session_begin(r.heap, function != BEGIN_TO_READ, -1, &r.session));
                ok(pht_session_end(&r.session, -1));
                ok(pht_collect(r.heap, PHEAP_LAZY, NULL));
                check_values(r.heap);
                if (status == PHEAP_OK ||
                    function != END) /* else its mark may hold limbo up until the heap is closed */
                    require_root_is_not_held(r.heap);
                ok(pheap_close(r.heap));
                if (fault.struck == PHEAP_OK)
                    break;
            }
}

static void faults__of_sessions_inside(void **state)
{
    (void)state;
    struct remembered r = remember("inside", true);
    struct pht t = change(r.heap);
    ok(pht_hold(&t, &r.session, pht_root(&t)));
    keep(&t);
    for (unsigned function = 0; function < INSIDE; function++)
        for (unsigned failure = 0; failure < FAILURES; failure++)
            for (uint64_t call = 1;; call++) {
                struct remembered copy = r;
                pheap_read *reader = NULL;
                if (function == SEE_IN_A_READER) {
                    reader = read_begin(r.heap, PHEAP_FRESH);
                    ok(pht_look(reader, &t));
                } else {
                    t = change(r.heap);
                }
                arm(call, failure);
                const enum pheap_status status = call_inside(function, &copy, &t);
                fault.armed = false;
                require_equal(status, fault.struck);
                if (reader != NULL)
                    ok(pheap_read_end(reader));
                else if (status == PHEAP_OK)
                    ok(pheap_abort(t.txn));
                else
                    require(!goes_on(&t, status) && pheap_abort(t.txn) == PHEAP_OK);
                check_values(r.heap);
                require(pht_session_due(&t, &r.session));
                if (status == PHEAP_OK)
                    break;
            }
    ok(pht_session_end(&r.session, -1));
    ok(pheap_close(r.heap));
}

int main(int argc, char **argv)
{
    choose_cases(argc, argv);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(faults__of_sessions_outside), cmocka_unit_test(faults__of_sessions_inside),
        cmocka_unit_test(faults__of_every_function),   cmocka_unit_test(faults__of_the_first_begin),
        cmocka_unit_test(faults__of_a_collection),     cmocka_unit_test(faults__of_a_check),
    };
    return cmocka_run_group_tests(tests, make_test_directory, remove_test_directory);
}
