/* SPDX-License-Identifier: MIT */
/*
 * Read views and pins, through the public interface: which version a reader gets when several views are in use, what an
 * evictable reader loses and when, and what a writer does that a reader stands in the way of.
 */
#include "tests/rounds.h"

#include <pthread.h>
#include <stdatomic.h>

#define PATIENT_MS 60000

/* --------------------------------------------------------------------------------------------- the choice of a view */

/* Catches: a long reader that makes newer ones stale although a view is free; one that joins anything but the newest
 * view; and a version that is not what the pointers show. */
static void views__newest_that_can_be_had(void **state)
{
    (void)state;
    struct pheap_options options = small_options();
    options.read_views = 3;
    pheap *heap = create_with("newest", options);
    const uint64_t base = heap_info(heap).version;
    pheap_read *readers[5];
    for (uint64_t i = 0; i < 3; i++) {
        commit_all(heap, i + 1);
        readers[i] = read_begin(heap, 0);
        require_equal(pheap_read_version(readers[i]), base + i + 1);
        require_equal(user_of(heap, getpid()).pin_count, i + 1);
    }
    commit_all(heap, 4);
    /* No view is free: the newest of those in use. */
    readers[3] = read_begin(heap, 0);
    require_equal(pheap_read_version(readers[3]), base + 3);
    for (uint64_t i = 0; i < 4; i++) {
        require_round(readers[i], i < 3 ? i + 1 : 3);
    }
    const struct pheap_user user = user_of(heap, getpid());
    require(user.pin_count == 3 && user.pinned_version == base + 1 && user.evictable == 0);
    /* One of two readers of a view leaves: it stays where it is. */
    ok(pheap_read_end(readers[2]));
    commit_all(heap, 5);
    require_round(readers[3], 3);
    readers[4] = read_begin(heap, 0);
    require_equal(pheap_read_version(readers[4]), base + 3);
    ok(pheap_read_end(readers[4]));
    /* The oldest view is free now, and moves to the newest version. */
    ok(pheap_read_end(readers[0]));
    readers[0] = read_begin(heap, 0);
    require_equal(pheap_read_version(readers[0]), base + 5);
    require_round(readers[0], 5);
    /* What is newest already is joined rather than shown twice, by fresh ones too. */
    readers[2] = read_begin(heap, PHEAP_FRESH);
    require_equal(pheap_read_version(readers[2]), base + 5);
    require_round(readers[1], 2);
    require_round(readers[3], 3);
    require_equal(user_of(heap, getpid()).pinned_version, base + 2);
    for (unsigned i = 0; i < 4; i++) {
        ok(pheap_read_end(readers[i]));
    }
    require_equal(user_of(heap, getpid()).pin_count, 0);
    ok(pheap_close(heap));
}

/* Catches: a number of views that is not the one asked for, or one taken that the coordination file has no pins for. */
static void views__as_many_as_asked_for(void **state)
{
    (void)state;
    for (uint32_t views = 0; views <= 4; views++) {
        char name[32];
        (void)snprintf(name, sizeof name, "views-%u", views);
        struct pheap_options options = small_options();
        options.read_views = views;
        pheap *heap = create_with(name, options);
        const uint64_t base = heap_info(heap).version;
        const uint32_t wanted = views == 0 ? 2 : views; /* the default is 2 */
        pheap_read *readers[6];
        for (uint32_t i = 0; i < 6; i++) {
            commit_all(heap, i + 1);
            readers[i] = read_begin(heap, 0);
            require_equal(pheap_read_version(readers[i]), base + (i < wanted ? i + 1 : wanted));
        }
        require_equal(user_of(heap, getpid()).pin_count, wanted);
        for (uint32_t i = 0; i < 6; i++) {
            require_round(readers[i], i < wanted ? i + 1 : wanted);
            ok(pheap_read_end(readers[i]));
        }
        ok(pheap_close(heap));
    }
    struct pheap_options options = small_options();
    options.read_views = 5;
    pheap *heap = NULL;
    expect_detail(PHEAP_INVALID, "read_views",
                  pheap_open(path_of("views-5", ""), PHEAP_CREATE | PHEAP_EXCLUSIVE, &options, &heap));
    require(heap == NULL && access(path_of("views-5", ""), F_OK) != 0);
}

/* Another thread that begins a reader, looks, and ends it. */
struct visitor {
    pthread_t thread;
    pheap *heap;
    unsigned flags;
    int64_t timeout_ms; /* -1: that of pheap_read_begin */
    enum pheap_status status;
    char detail[1024];
    uint64_t value;
    _Atomic bool begins;
    _Atomic bool done;
};

static void *visit(void *argument)
{
    struct visitor *visitor = argument;
    pheap_read *reader = NULL;
    atomic_store(&visitor->begins, true);
    visitor->status = visitor->timeout_ms < 0
                          ? pheap_read_begin(visitor->heap, visitor->flags, &reader)
                          : pheap_read_begin_timeout(visitor->heap, visitor->flags, visitor->timeout_ms, &reader);
    if (visitor->status == PHEAP_OK) {
        visitor->value = read_word(reader, 0);
        visitor->status = pheap_read_end(reader);
    } else {
        (void)snprintf(visitor->detail, sizeof visitor->detail, "%s", pheap_error_detail());
    }
    atomic_store(&visitor->done, true);
    return NULL;
}

static void visitor_start(struct visitor *visitor, pheap *heap, unsigned flags, int64_t timeout_ms)
{
    *visitor = (struct visitor){.heap = heap, .flags = flags, .timeout_ms = timeout_ms};
    require(pthread_create(&visitor->thread, NULL, visit, visitor) == 0);
}

static void visitor_join(struct visitor *visitor, enum pheap_status wanted)
{
    require(pthread_join(visitor->thread, NULL) == 0);
    if (visitor->status != wanted) {
        check_failed(__FILE__, __LINE__, "%s expected, got %s: %s", pheap_status_name(wanted),
                     pheap_status_name(visitor->status), visitor->detail);
    }
}

/* Catches: a fresh reader that does not wait, that is not woken when a view becomes free (its wait would end in a
 * TIMEOUT), or that gets an older version. */
static void fresh__waits_for_a_view(void **state)
{
    (void)state;
    struct pheap_options options = small_options();
    pheap *heap = create_with("fresh", options);
    pheap_read *readers[2];
    for (uint64_t round = 1; round < 20; round += 3) {
        for (unsigned i = 0; i < 2; i++) {
            commit_all(heap, round + i);
            readers[i] = read_begin(heap, 0);
        }
        commit_all(heap, round + 2);
        struct visitor visitor;
        visitor_start(&visitor, heap, PHEAP_FRESH, round % 2 == 0 ? -1 : PATIENT_MS);
        while (!atomic_load(&visitor.begins)) {
            pause_us(1000);
        }
        pause_us(10000);
        require(!atomic_load(&visitor.done));
        require_round(readers[0], round);
        require_round(readers[1], round + 1);
        ok(pheap_read_end(readers[round % 2]));
        visitor_join(&visitor, PHEAP_OK);
        require_equal(visitor.value, round + 2);
        require_round(readers[1 - round % 2], round + 1 - round % 2);
        ok(pheap_read_end(readers[1 - round % 2]));
    }
    ok(pheap_close(heap));
}

/* Catches: a limit of time that is not kept, that is kept by readers which need not wait, or arguments not checked. */
static void fresh__gives_up_in_time(void **state)
{
    (void)state;
    struct pheap_options options = small_options();
    options.read_views = 1;
    pheap *heap = create_with("give-up", options);
    commit_all(heap, 1);
    pheap_read *held = read_begin(heap, 0), *other = NULL;
    static const int64_t limits[] = {0, 30};
    for (unsigned i = 0; i < 2; i++) {
        struct visitor visitor;
        visitor_start(&visitor, heap, PHEAP_FRESH, limits[i]); /* it is the newest */
        visitor_join(&visitor, PHEAP_OK);
        require_equal(visitor.value, 1);
    }
    commit_all(heap, 2);
    for (unsigned i = 0; i < 2; i++) {
        struct visitor visitor;
        visitor_start(&visitor, heap, 0, limits[i]);
        visitor_join(&visitor, PHEAP_OK);
        require_equal(visitor.value, 1);
        visitor_start(&visitor, heap, PHEAP_FRESH, limits[i]);
        visitor_join(&visitor, PHEAP_TIMEOUT);
        require(strstr(visitor.detail, "read_views") != NULL);
    }
    /* It would wait for itself. */
    expect_detail(PHEAP_TIMEOUT, "this thread's own", pheap_read_begin(heap, PHEAP_FRESH, &other));
    expect_detail(PHEAP_TIMEOUT, "this thread's own",
                  pheap_read_begin_timeout(heap, PHEAP_FRESH | PHEAP_EVICTABLE, PATIENT_MS, &other));
    expect_detail(PHEAP_INVALID, "range", pheap_read_begin_timeout(heap, PHEAP_FRESH, -1, &other));
    expect_detail(PHEAP_INVALID, "range", pheap_read_begin_timeout(heap, PHEAP_FRESH, INT64_MAX, &other));
    expect_detail(PHEAP_INVALID, "0x8", pheap_read_begin_timeout(heap, 8, 0, &other));
    expect(PHEAP_INVALID, pheap_read_begin_timeout(heap, 0, 0, NULL));
    require(other == NULL);
    ok(pheap_read_end(held));
    struct visitor visitor;
    visitor_start(&visitor, heap, PHEAP_FRESH, 0);
    visitor_join(&visitor, PHEAP_OK);
    require_equal(visitor.value, 2);
    ok(pheap_close(heap));
}

/* Catches: a second end that counts, and so takes the view from under another reader. */
static void end__twice(void **state)
{
    (void)state;
    pheap *heap = create_with("twice", small_options());
    commit_all(heap, 1);
    static const unsigned flags[] = {0, PHEAP_EVICTABLE};
    for (unsigned i = 0; i < 2; i++) {
        pheap_read *stays = read_begin(heap, flags[i]), *ends = read_begin(heap, flags[i]);
        ok(pheap_read_end(ends));
        expect_detail(PHEAP_ENDED, "ended", pheap_read_end(ends));
        expect(PHEAP_ENDED, pheap_read_end(ends));
        require_equal(user_of(heap, getpid()).pin_count, 1);
        commit_all(heap, 100 + i);
        ok(pheap_fold(heap));
        require_round(stays, i == 0 ? 1 : 100);
        ok(pheap_read_end(stays));
        require_equal(user_of(heap, getpid()).pin_count, 0);
    }
    ok(pheap_read_end(NULL));
    expect(PHEAP_INVALID, pheap_read_valid(NULL));
    ok(pheap_close(heap));
}

/* ------------------------------------------------------------------------------------------------ evictable readers */

/* Commit until the reader has lost its version, but not before the log was used up; the round that was last. */
static uint64_t commit_until_evicted(pheap *heap, const pheap_read *reader, uint64_t round)
{
    for (unsigned i = 0; i < COMMITS_MAX; i++) {
        commit_all(heap, ++round);
        if (pheap_read_valid(reader) != PHEAP_OK) {
            const struct pheap_info info = heap_info(heap);
            require(info.log_bytes + info.log_limit_bytes / 4 >= info.log_limit_bytes);
            return round;
        }
    }
    check_failed(__FILE__, __LINE__, "the reader was never evicted");
}

/* The last of the commits before the log was full because of a reader that is not to be evicted. */
static uint64_t commit_until_refused(pheap *heap, uint64_t round, enum pheap_status wanted, const char *named)
{
    for (unsigned i = 0; i < COMMITS_MAX; i++) {
        const enum pheap_status status = try_commit_all(heap, round + 1);
        if (status != PHEAP_OK) {
            expect_detail(wanted, named, status);
            return round;
        }
        round++;
    }
    check_failed(__FILE__, __LINE__, "the writer was never refused");
}

/* Catches: an evictable reader that stops a writer, one evicted without need or not told of it, and a view that shows
 * torn bytes to the next reader. */
static void evictable__gives_way_to_a_full_log(void **state)
{
    (void)state;
    for (uint32_t views = 1; views <= 2; views++) {
        struct pheap_options options = small_options();
        options.read_views = views;
        pheap *heap = create_with(views == 1 ? "evict-1" : "evict-2", options);
        uint64_t round = 1;
        commit_all(heap, round);
        for (unsigned i = 0; i < 5; i++) {
            pheap_read *reader = read_begin(heap, PHEAP_EVICTABLE);
            require_round(reader, round);
            const struct pheap_user user = user_of(heap, getpid());
            require(user.pin_count == 1 && user.evictable == 1 && user.pinned_version == pheap_read_version(reader));
            ok(pheap_read_valid(reader));
            round = commit_until_evicted(heap, reader, round);
            expect_detail(PHEAP_EVICTED, "begin anew", pheap_read_valid(reader));
            require_equal(user_of(heap, getpid()).pin_count, 0);
            pheap_read *firm = NULL;
            if (views == 1) {
                /* The view is not to be had while the evicted reader is on it, nor to be joined. */
                expect(PHEAP_TIMEOUT, pheap_read_begin_timeout(heap, 0, 0, &firm));
                expect(PHEAP_TIMEOUT, pheap_read_begin_timeout(heap, PHEAP_EVICTABLE, 0, &firm));
            } else {
                firm = read_begin(heap, 0);
                require_round(firm, round);
            }
            expect_detail(PHEAP_EVICTED, "begin anew", pheap_read_end(reader));
            expect(PHEAP_ENDED, pheap_read_end(reader));
            if (views == 1) {
                firm = read_begin(heap, 0);
            }
            require_round(firm, round);
            require_equal(user_of(heap, getpid()).evictable, 0);
            ok(pheap_read_end(firm));
            /* One that ends before the log is full has lost nothing. */
            reader = read_begin(heap, PHEAP_EVICTABLE);
            commit_all(heap, ++round);
            require_round(reader, round - 1);
            ok(pheap_read_end(reader));
        }
        check_sound(heap);
        ok(pheap_close(heap));
    }
}

/* Catches: a firm reader that is evicted because an evictable one came first, or still is on its view; evictable
 * readers that stay firm when the firm one has gone; and readers of one view of whom some are not told. */
static void evictable__is_firm_beside_a_firm_one(void **state)
{
    (void)state;
    struct pheap_options options = small_options();
    options.read_views = 1;
    options.pin_wait_ms = UINT32_MAX; /* but no thread waits for its own reader */
    pheap *heap = create_with("firm", options);
    uint64_t round = 1;
    char pid[32];
    (void)snprintf(pid, sizeof pid, "process %d ", (int)getpid());
    commit_all(heap, round);
    for (unsigned order = 0; order < 2; order++) {
        const uint64_t seen = round;
        pheap_read *first = read_begin(heap, order == 0 ? PHEAP_EVICTABLE : 0);
        require_equal(user_of(heap, getpid()).evictable, order == 0);
        pheap_read *second = read_begin(heap, order == 0 ? 0 : PHEAP_EVICTABLE);
        pheap_read *firm = order == 0 ? second : first, *soft = order == 0 ? first : second;
        pheap_read *third = read_begin(heap, PHEAP_EVICTABLE);
        require_equal(user_of(heap, getpid()).pin_count, 1);
        require_equal(user_of(heap, getpid()).evictable, 0);
        round = commit_until_refused(heap, round, PHEAP_LOG_FULL, pid);
        require(round > seen + 5);
        ok(pheap_read_valid(firm));
        ok(pheap_read_valid(soft));
        require_round(firm, seen);
        require_round(soft, seen);
        ok(pheap_read_end(firm));
        require_equal(user_of(heap, getpid()).evictable, 1);
        ok(pheap_read_valid(soft));
        require_round(soft, seen);
        commit_all(heap, ++round);
        expect(PHEAP_EVICTED, pheap_read_valid(soft));
        expect(PHEAP_EVICTED, pheap_read_end(third));
        expect(PHEAP_EVICTED, pheap_read_end(soft));
        pheap_read *next = read_begin(heap, 0);
        require_round(next, round);
        ok(pheap_read_end(next));
    }
    ok(pheap_close(heap));
}

/* Catches: the eviction of a reader that is in nobody's way, because another one is; and of the others with it. */
static void evictable__newest_stays(void **state)
{
    (void)state;
    pheap *heap = create_with("stays", small_options());
    uint64_t round = 1;
    commit_all(heap, round);
    pheap_read *firm = read_begin(heap, 0);
    round = commit_until_refused(heap, round, PHEAP_LOG_FULL, "held version");
    pheap_read *newest = read_begin(heap, PHEAP_EVICTABLE);
    require_round(newest, round);
    expect(PHEAP_LOG_FULL, try_commit_all(heap, round + 1));
    const struct pheap_user user = user_of(heap, getpid());
    require(user.pin_count == 2 && user.evictable == 0 && user.pinned_version == pheap_read_version(firm));
    ok(pheap_read_valid(newest));
    require_round(newest, round);
    ok(pheap_read_end(newest));
    require_round(firm, 1);
    ok(pheap_read_end(firm));
    commit_all(heap, ++round);
    ok(pheap_close(heap));
}

/* Catches: a new reader put on an evicted view, or kept from a good one by it. */
static void evictable__evicted_view_is_left_alone(void **state)
{
    (void)state;
    pheap *heap = create_with("alone", small_options());
    uint64_t round = 1;
    commit_all(heap, round);
    pheap_read *evicted = read_begin(heap, PHEAP_EVICTABLE);
    round = commit_until_evicted(heap, evicted, round);
    pheap_read *good = read_begin(heap, 0);
    commit_all(heap, round + 1);
    static const unsigned flags[] = {0, PHEAP_EVICTABLE};
    for (unsigned i = 0; i < 2; i++) {
        pheap_read *joined = read_begin(heap, flags[i]);
        require_round(joined, round);
        ok(pheap_read_end(joined));
    }
    ok(pheap_read_end(good));
    expect(PHEAP_EVICTED, pheap_read_end(evicted));
    ok(pheap_close(heap));
}

static void read_evictable(const struct peer *test, const char *path)
{
    pheap *heap = open_heap(path);
    for (unsigned i = 0; i < 3; i++) {
        peer_hear(test, 'b');
        pheap_read *reader = read_begin(heap, PHEAP_EVICTABLE), *beside = read_begin(heap, PHEAP_EVICTABLE);
        const uint64_t first = read_word(reader, 0);
        require_round(reader, first);
        peer_tell(test, 'p');
        peer_hear(test, 'v');
        expect(PHEAP_EVICTED, pheap_read_valid(reader));
        expect(PHEAP_EVICTED, pheap_read_valid(beside));
        /* Its memory can be read still, whatever it says. */
        volatile uint64_t sum = 0;
        for (uint64_t j = 0; j < WORDS; j++) {
            sum += read_word(reader, j);
        }
        expect(PHEAP_EVICTED, pheap_read_end(reader));
        expect(PHEAP_EVICTED, pheap_read_end(beside));
        reader = read_begin(heap, PHEAP_FRESH | PHEAP_EVICTABLE);
        const uint64_t now = read_word(reader, 0);
        require(now > first);
        require_round(reader, now);
        ok(pheap_check(reader, print_fault, NULL, NULL));
        ok(pheap_read_end(reader));
    }
    ok(pheap_close(heap));
}

/* Catches: an eviction that does not reach the reader of another process, and one that reaches others. */
static void evictable__of_another_process(void **state)
{
    (void)state;
    const char *path = path_of("evict-other", "");
    pheap *heap = create_with("evict-other", small_options());
    struct peer child = peer_start(read_evictable, path);
    uint64_t round = 0;
    for (unsigned i = 0; i < 3; i++) {
        commit_all(heap, ++round);
        peer_tell(&child, 'b');
        peer_hear(&child, 'p');
        const struct pheap_user user = user_of(heap, child.pid);
        require(user.pin_count == 1 && user.evictable == 1);
        while (user_of(heap, child.pid).pin_count == 1) {
            commit_all(heap, ++round);
            require(round < (i + 1) * COMMITS_MAX);
        }
        /* What shows the newest version is in nobody's way. */
        pheap_read *newest = read_begin(heap, PHEAP_EVICTABLE);
        ok(pheap_checkpoint(heap));
        ok(pheap_read_valid(newest));
        require_round(newest, round);
        ok(pheap_read_end(newest));
        peer_tell(&child, 'v');
    }
    peer_join(&child);
    check_sound(heap);
    ok(pheap_close(heap));
}

/* -------------------------------------------------------------------------------------- writers in need of a reader */

static void hold_until_told(const struct peer *test, const char *path)
{
    pheap *heap = open_heap(path);
    pheap_read *reader = read_begin(heap, 0);
    const uint64_t round = read_word(reader, 0);
    peer_tell(test, 'p');
    peer_hear(test, 'e');
    require_round(reader, round);
    ok(pheap_read_end(reader));
    peer_hear(test, 'x');
    ok(pheap_close(heap));
}

struct writer {
    pthread_t thread;
    pheap *heap;
    uint64_t rounds; /* to commit */
    _Atomic uint64_t round;
    enum pheap_status status;
    char detail[1024];
};

static void *write_rounds(void *argument)
{
    struct writer *writer = argument;
    for (uint64_t i = 0; i < writer->rounds && writer->status == PHEAP_OK; i++) {
        const uint64_t round = atomic_load(&writer->round) + 1;
        pheap_txn *txn;
        writer->status = pheap_begin(writer->heap, &txn);
        for (uint64_t j = 0; j < WORDS && writer->status == PHEAP_OK; j += STRIDE) {
            writer->status = pheap_write(txn, pheap_root(txn) + j * sizeof round, &round, sizeof round);
        }
        if (writer->status == PHEAP_OK) {
            writer->status = pheap_commit(txn, PHEAP_LAZY, NULL);
        }
        if (writer->status == PHEAP_OK) {
            atomic_store(&writer->round, round);
        }
    }
    if (writer->status != PHEAP_OK) {
        (void)snprintf(writer->detail, sizeof writer->detail, "%s", pheap_error_detail());
    }
    return NULL;
}

/* Wait until the writer stands still: it has come to the limit. */
static void await_standstill(struct writer *writer)
{
    uint64_t before = UINT64_MAX;
    for (unsigned still = 0; still < 20; pause_us(5000)) {
        const uint64_t now = atomic_load(&writer->round);
        still = now == before ? still + 1 : 0;
        before = now;
    }
}

/* Catches: pin_wait_ms that is not heeded, either way, and a writer that does not go on when the reader has ended. */
static void pin_wait__as_long_as_asked_for(void **state)
{
    (void)state;
    struct pheap_options options = small_options();
    options.pin_wait_ms = 1;
    const char *path = path_of("pin-wait", "");
    pheap *heap = create_with("pin-wait", options);
    uint64_t round = 1;
    commit_all(heap, round);
    /* Not at all: LOG_FULL with who and what. */
    struct peer child = peer_start(hold_until_told, path);
    peer_hear(&child, 'p');
    char who[96];
    (void)snprintf(who, sizeof who, "process %d (seat %u) has held version %llu ", (int)child.pid,
                   user_of(heap, child.pid).seat, (unsigned long long)heap_info(heap).version);
    round = commit_until_refused(heap, round, PHEAP_LOG_FULL, who);
    require_equal(fresh_word(heap, 0), round);
    peer_tell(&child, 'e');
    peer_tell(&child, 'x');
    peer_join(&child);
    commit_all(heap, ++round);
    ok(pheap_close(heap));
    /* For ever: until the reader ends. */
    static const uint32_t waits[] = {UINT32_MAX, PATIENT_MS};
    for (unsigned i = 0; i < 2; i++) {
        options.pin_wait_ms = waits[i];
        ok(pheap_open(path, 0, &options, &heap));
        child = peer_start(hold_until_told, path);
        peer_hear(&child, 'p');
        struct writer writer = {.heap = heap, .rounds = COMMITS_MAX, .round = round};
        require(pthread_create(&writer.thread, NULL, write_rounds, &writer) == 0);
        await_standstill(&writer);
        require(atomic_load(&writer.round) < round + COMMITS_MAX);
        peer_tell(&child, 'e');
        require(pthread_join(writer.thread, NULL) == 0);
        require(writer.status == PHEAP_OK);
        require_equal(writer.round, round + COMMITS_MAX);
        round += COMMITS_MAX;
        require_equal(fresh_word(heap, 0), round);
        peer_tell(&child, 'x');
        peer_join(&child);
        ok(pheap_close(heap));
    }
}

/* The rounds that a transaction of its own size can hold are few: every page counts. */
static struct pheap_options options_with_budget(void)
{
    struct pheap_options options = small_options();
    options.log_limit_bytes = 16u << 20;
    options.segment_bytes = 256u << 10;
    options.buffer_bytes = 256u << 10;
    options.budget_bytes = 512u << 10;
    options.pin_wait_ms = 1;
    return options;
}

enum { WIDE_PAGES = 1024, PAGE_WORDS = 512, WIDE_STEP = 32 };

/* One word in each of WIDE_STEP pages; other pages in each round. */
static enum pheap_status try_commit_wide(pheap *heap, uint64_t round)
{
    pheap_txn *txn;
    const enum pheap_status status = pheap_begin(heap, &txn);
    if (status != PHEAP_OK) {
        return status;
    }
    for (uint64_t i = 0; i < WIDE_STEP; i++) {
        put_word(txn, (round * WIDE_STEP + i) % WIDE_PAGES * PAGE_WORDS, round);
    }
    return pheap_commit(txn, PHEAP_LAZY, NULL);
}

static uint64_t wide_until_refused(pheap *heap, uint64_t round, const char *named)
{
    for (unsigned i = 0; i < COMMITS_MAX; i++, round++) {
        const enum pheap_status status = try_commit_wide(heap, round);
        if (status != PHEAP_OK) {
            expect_detail(PHEAP_BUDGET, named, status);
            return round;
        }
    }
    check_failed(__FILE__, __LINE__, "the writer was never refused");
}

static void require_wide(const pheap_read *reader, uint64_t rounds)
{
    for (uint64_t i = 0; i < WIDE_PAGES; i++) {
        const uint64_t slot = i / WIDE_STEP, laps = WIDE_PAGES / WIDE_STEP;
        const uint64_t last = rounds <= slot ? 0 : rounds - 1 - (rounds - 1 - slot) % laps;
        require_equal(read_word(reader, i * PAGE_WORDS), last);
    }
}

static void hold_wide(const struct peer *test, const char *path)
{
    pheap *heap = open_heap(path);
    pheap_read *reader = read_begin(heap, 0);
    peer_tell(test, 'p');
    peer_hear(test, 'e');
    require_wide(reader, 10);
    ok(pheap_read_end(reader));
    peer_tell(test, 'd');
    peer_hear(test, 'x');
    ok(pheap_close(heap));
}

/* Catches: private pages beyond the budget while a reader keeps them from being dropped, a refusal that does not say
 * who that is, and one that outlasts the reader. */
static void budget__held_by_a_reader(void **state)
{
    (void)state;
    struct pheap_options options = options_with_budget();
    pheap *heap;
    const char *path = path_of("budget", "");
    ok(pheap_open(path, PHEAP_CREATE | PHEAP_EXCLUSIVE, &options, &heap));
    (void)make_root(heap, WIDE_PAGES * PAGE_WORDS);
    uint64_t round = 0;
    while (round < 10) {
        ok(try_commit_wide(heap, round++));
    }
    struct peer child = peer_start(hold_wide, path);
    peer_hear(&child, 'p');
    char who[64];
    (void)snprintf(who, sizeof who, "process %d ", (int)child.pid);
    round = wide_until_refused(heap, round, who);
    require(round > 11);
    require(heap_info(heap).private_bytes <= 2 * options.budget_bytes);
    (void)wide_until_refused(heap, round, "budget");
    pheap_read *reader = read_begin(heap, 0);
    require_wide(reader, round);
    ok(pheap_read_end(reader));
    peer_tell(&child, 'e');
    peer_hear(&child, 'd');
    for (unsigned i = 0; i < 200; i++) {
        ok(try_commit_wide(heap, round++));
    }
    reader = read_begin(heap, PHEAP_FRESH);
    require_wide(reader, round);
    ok(pheap_read_end(reader));
    /* Its own thread's reader is not waited for, an evictable one gives way. */
    reader = read_begin(heap, 0);
    (void)snprintf(who, sizeof who, "process %d ", (int)getpid());
    const uint64_t held = round;
    round = wide_until_refused(heap, round, who);
    require_wide(reader, held);
    ok(pheap_read_end(reader));
    ok(try_commit_wide(heap, round++));
    reader = read_begin(heap, PHEAP_EVICTABLE);
    for (unsigned i = 0; i < 100; i++) {
        ok(try_commit_wide(heap, round++));
    }
    require(heap_info(heap).log_bytes < options.log_limit_bytes / 2); /* it was not the log */
    expect(PHEAP_EVICTED, pheap_read_end(reader));
    reader = read_begin(heap, 0);
    require_wide(reader, round);
    ok(pheap_read_end(reader));
    peer_tell(&child, 'x');
    peer_join(&child);
    check_sound(heap);
    ok(pheap_close(heap));
}

/* ------------------------------------------------------------------------------------------------ all of it at once */

struct throng {
    pheap *heap;
    _Atomic bool stop;
    _Atomic uint64_t evicted, read;
    char failure[256];
    _Atomic bool failed;
};

struct member {
    pthread_t thread;
    struct throng *throng;
    unsigned index;
};

static void fail_throng(struct throng *throng, const char *what, uint64_t round, uint64_t found)
{
    if (!atomic_exchange(&throng->failed, true)) {
        (void)snprintf(throng->failure, sizeof throng->failure, "%s: %llu, %llu (%s)", what, (unsigned long long)round,
                       (unsigned long long)found, pheap_error_detail());
    }
    atomic_store(&throng->stop, true);
}

/* Firm and evictable readers by turns, of all lengths; what is not evicted must be one round, the whole time. */
static void *read_at_random(void *argument)
{
    struct member *member = argument;
    struct throng *throng = member->throng;
    uint64_t chance = member->index * UINT64_C(0x9e3779b97f4a7c15) + 1;
    while (!atomic_load(&throng->stop)) {
        chance = chance * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
        const unsigned flags = chance >> 60 < 9 ? PHEAP_EVICTABLE : 0;
        pheap_read *reader;
        if (pheap_read_begin(throng->heap, flags, &reader) != PHEAP_OK) {
            fail_throng(throng, "begin", 0, 0);
            break;
        }
        bool torn = false;
        uint64_t found = 0;
        const uint64_t round = read_word(reader, 0);
        for (unsigned look = 0; look <= (chance >> 40 & 3); look++) {
            if (look > 0) {
                pause_us((chance >> 30 & 7) * 1000);
            }
            for (uint64_t i = 0; i < WORDS; i += STRIDE) {
                if (read_word(reader, i) != round) {
                    torn = true;
                    found = read_word(reader, i);
                }
            }
        }
        const enum pheap_status status = pheap_read_end(reader);
        if (status != PHEAP_OK && (status != PHEAP_EVICTED || flags == 0)) {
            fail_throng(throng, "end", round, (uint64_t)status);
        } else if (status == PHEAP_OK && torn) {
            fail_throng(throng, "torn", round, found);
        }
        atomic_fetch_add(status == PHEAP_OK ? &throng->read : &throng->evicted, 1);
    }
    return NULL;
}

/* Too few have come to an end to prove anything: where threads are hardly scheduled it takes more rounds. */
static bool lacks_readers(struct throng *throng)
{
    return atomic_load(&throng->read) <= 100 || atomic_load(&throng->evicted) <= 10;
}

/* Catches: races between eviction, joining, leaving and moving; a snapshot that is torn although its end says OK. */
static void evictable__many_threads(void **state)
{
    (void)state;
    struct pheap_options options = small_options();
    options.pin_wait_ms = PATIENT_MS;
    struct throng throng = {.heap = create_with("throng", options)};
    commit_all(throng.heap, 1);
    struct member members[4];
    for (unsigned i = 0; i < 4; i++) {
        members[i] = (struct member){.throng = &throng, .index = i};
        require(pthread_create(&members[i].thread, NULL, read_at_random, &members[i]) == 0);
    }
    enum pheap_status status = PHEAP_OK;
    for (uint64_t round = 2; round < 4000 || (lacks_readers(&throng) && round < 4000000); round++) {
        status = try_commit_all(throng.heap, round);
        if (status != PHEAP_OK || atomic_load(&throng.stop)) {
            break;
        }
    }
    char detail[1024];
    (void)snprintf(detail, sizeof detail, "%s", pheap_error_detail());
    atomic_store(&throng.stop, true);
    for (unsigned i = 0; i < 4; i++) {
        require(pthread_join(members[i].thread, NULL) == 0);
    }
    if (atomic_load(&throng.failed)) {
        check_failed(__FILE__, __LINE__, "%s", throng.failure);
    }
    if (status != PHEAP_OK) {
        check_failed(__FILE__, __LINE__, "the writer got %s: %s", pheap_status_name(status), detail);
    }
    require(!lacks_readers(&throng));
    print_message("%llu snapshots, %llu evicted\n", (unsigned long long)atomic_load(&throng.read),
                  (unsigned long long)atomic_load(&throng.evicted));
    check_sound(throng.heap);
    ok(pheap_close(throng.heap));
}

int main(int argc, char **argv)
{
    choose_cases(argc, argv);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(views__newest_that_can_be_had),
        cmocka_unit_test(views__as_many_as_asked_for),
        cmocka_unit_test(fresh__waits_for_a_view),
        cmocka_unit_test(fresh__gives_up_in_time),
        cmocka_unit_test(end__twice),
        cmocka_unit_test(evictable__gives_way_to_a_full_log),
        cmocka_unit_test(evictable__is_firm_beside_a_firm_one),
        cmocka_unit_test(evictable__newest_stays),
        cmocka_unit_test(evictable__evicted_view_is_left_alone),
        cmocka_unit_test(evictable__of_another_process),
        cmocka_unit_test(evictable__many_threads),
        cmocka_unit_test(pin_wait__as_long_as_asked_for),
        cmocka_unit_test(budget__held_by_a_reader),
    };
    return cmocka_run_group_tests(tests, make_test_directory, remove_test_directory);
}
