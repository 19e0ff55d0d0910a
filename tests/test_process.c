/* SPDX-License-Identifier: MIT */
/* Processes and threads that share a heap: what they see of each other, whom they wait for, and who dies. */
#include "tests/public.h"

#include <pthread.h>
#include <stdatomic.h>
#include <time.h>

static uint64_t now_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

/* ------------------------------------------------------------------------------------------------ seeing each other */

static void count_odd_turns(const struct peer *test, const char *path)
{
    pheap *heap = open_heap(path);
    for (uint64_t i = 1; i <= 199; i += 2) {
        peer_hear(test, 't');
        require_equal(fresh_word(heap, 0), i);
        pheap_txn *txn = begin(heap);
        require_equal(get_word(txn, 0), i);
        put_word(txn, 0, i + 1);
        ok(pheap_commit(txn, i % 5 == 0 ? PHEAP_DURABLE : PHEAP_LAZY, NULL));
        peer_tell(test, 't');
    }
    ok(pheap_close(heap));
}

/* Catches: a commit of one process that another does not see at once, in a transaction or a snapshot. */
static void sharing__commits_are_seen_at_once(void **state)
{
    (void)state;
    const char *path = path_of("turns", "");
    pheap *heap = create_heap(path);
    (void)make_root(heap, 8);
    struct peer child = peer_start(count_odd_turns, path);
    for (uint64_t i = 0; i < 200; i += 2) {
        pheap_txn *txn = begin(heap);
        require_equal(get_word(txn, 0), i);
        put_word(txn, 0, i + 1);
        ok(pheap_commit(txn, PHEAP_LAZY, NULL));
        peer_tell(&child, 't');
        peer_hear(&child, 't');
        require_equal(fresh_word(heap, 0), i + 2);
    }
    peer_join(&child);
    ok(pheap_close(heap));
}

enum { WIDE = 4096 }; /* words */

static uint64_t word_after(uint64_t rounds, uint64_t index)
{
    return rounds * 1000003 + index * rounds % 7919;
}

static void change_widely(const struct peer *test, const char *path)
{
    pheap *heap = open_heap(path);
    for (uint64_t round = 1; round <= 12; round++) {
        peer_hear(test, 'g');
        for (uint64_t i = 0; i < WIDE; i += 64) {
            pheap_txn *txn = begin(heap);
            for (uint64_t j = i; j < i + 64; j++) {
                put_word(txn, j, word_after(round, j));
            }
            ok(pheap_commit(txn, PHEAP_LAZY, NULL));
        }
        peer_tell(test, 'd');
    }
    ok(pheap_close(heap));
}

/* Catches: an idle process that was lapped by the log buffer, or whose part of the log was recycled, and that then
 * misses a record, applies one twice, or keeps a private page that is too old. */
static void sharing__idle_process_catches_up(void **state)
{
    (void)state;
    const char *path = path_of("lapped", "");
    pheap *heap = create_heap(path);
    (void)make_root(heap, WIDE);
    struct peer child = peer_start(change_widely, path);
    for (uint64_t round = 1; round <= 12; round++) {
        peer_tell(&child, 'g');
        peer_hear(&child, 'd');
        if (round % 3 == 0) {
            continue; /* miss two rounds sometimes */
        }
        pheap_txn *txn = begin(heap);
        for (uint64_t i = 0; i < WIDE; i++) {
            require_equal(get_word(txn, i), word_after(round, i));
        }
        put_word(txn, round, get_word(txn, round)); /* make some pages private */
        ok(pheap_abort(txn));
        pheap_read *reader = read_begin(heap, 0);
        for (uint64_t i = 0; i < WIDE; i++) {
            require_equal(read_word(reader, i), word_after(round, i));
        }
        pheap_read_end(reader);
    }
    peer_join(&child);
    check_sound(heap);
    ok(pheap_close(heap));
}

static void allocate_and_free(const struct peer *test, const char *path)
{
    pheap *heap = open_heap(path);
    for (uint64_t i = 0; i < 400; i++) {
        pheap_txn *txn = begin(heap);
        const uint64_t slot = i * 31 % 64;
        const uint64_t old = get_word(txn, slot);
        uint64_t block;
        ok(pheap_free(txn, old));
        ok(pheap_alloc(txn, 1 + i * 7919 % 9000, &block));
        ok(pheap_fill(txn, block, (unsigned char)i, 1));
        put_word(txn, slot, block);
        ok(pheap_commit(txn, PHEAP_LAZY, NULL));
    }
    peer_tell(test, 'd');
    ok(pheap_close(heap));
}

/* Catches: allocator state kept outside the heap, so that two processes hand out the same space. */
static void sharing__allocator_is_one(void **state)
{
    (void)state;
    const char *path = path_of("allocator", "");
    pheap *heap = create_heap(path);
    (void)make_root(heap, 64);
    struct peer children[3];
    for (unsigned i = 0; i < 3; i++) {
        children[i] = peer_start(allocate_and_free, path);
    }
    for (unsigned i = 0; i < 3; i++) {
        peer_hear(&children[i], 'd');
        peer_join(&children[i]);
    }
    check_sound(heap);
    pheap_read *reader = read_begin(heap, PHEAP_FRESH);
    struct pheap_space space = {.size = sizeof space};
    ok(pheap_get_space(reader, &space, NULL, NULL));
    require_equal(space.live_blocks, 65);
    require_equal(pheap_read_version(reader), 1201);
    pheap_read_end(reader);
    ok(pheap_close(heap));
}

static void open_count_close(const struct peer *test, const char *path)
{
    (void)test;
    for (unsigned i = 0; i < 25; i++) {
        pheap *heap = open_heap(path);
        pheap_txn *txn = begin(heap);
        put_word(txn, 0, get_word(txn, 0) + 1);
        ok(pheap_commit(txn, i % 8 == 0 ? PHEAP_DURABLE : PHEAP_LAZY, NULL));
        ok(pheap_close(heap));
    }
}

/* Catches: first and last users that meet: two recoveries at once, a close that folds under an open, a lost commit. */
static void sharing__eight_processes_open_and_close(void **state)
{
    (void)state;
    const char *path = path_of("eight", "");
    create_closed_heap(path, 8);
    struct peer children[8];
    for (unsigned i = 0; i < 8; i++) {
        children[i] = peer_start(open_count_close, path);
    }
    for (unsigned i = 0; i < 8; i++) {
        peer_join(&children[i]);
    }
    pheap *heap = open_heap(path);
    require_equal(fresh_word(heap, 0), 200);
    check_sound(heap);
    ok(pheap_close(heap));
}

/* ---------------------------------------------------------------------------------------------------- the writer lock */

static void hold_transaction(const struct peer *test, const char *path)
{
    pheap *heap = open_heap(path);
    peer_hear(test, 'b');
    pheap_txn *txn = begin(heap);
    put_word(txn, 0, 5);
    peer_tell(test, 'b');
    peer_hear(test, 'c');
    ok(pheap_commit(txn, PHEAP_LAZY, NULL));
    peer_tell(test, 'c');
    peer_hear(test, 'x');
    ok(pheap_close(heap));
}

/* Catches: a time limit that is not kept or not waited for, and a message that leaves a user to guess who holds the heap. */
static void begin_timeout__names_the_holder(void **state)
{
    (void)state;
    const char *path = path_of("timeout", "");
    pheap *heap = create_heap(path);
    (void)make_root(heap, 8);
    struct peer child = peer_start(hold_transaction, path);
    char pid[32];
    (void)snprintf(pid, sizeof pid, "%d", (int)child.pid);
    peer_tell(&child, 'b');
    peer_hear(&child, 'b');

    pheap_txn *txn = NULL;
    expect_detail(PHEAP_TIMEOUT, pid, pheap_begin_timeout(heap, 0, &txn)); /* one that waits for ever would hang */
    const uint64_t start = now_ms();
    expect_detail(PHEAP_TIMEOUT, pid, pheap_begin_timeout(heap, 100, &txn));
    require(now_ms() - start >= 99);
    require(txn == NULL);

    struct pheap_user user = {.size = sizeof user};
    unsigned users = 0;
    unsigned writers = 0;
    enum pheap_status status;
    for (uint32_t seat = 0; (status = pheap_next_user(heap, seat, &user)) == PHEAP_OK; seat = user.seat + 1) {
        users++;
        writers += user.writing;
        require(user.alive == 1 && user.writing == (user.pid == child.pid) && user.self == (user.pid == getpid()));
        require(user.attached_ns > 1600000000u * UINT64_C(1000000000));
    }
    expect(PHEAP_END, status);
    require(users == 2 && writers == 1);

    /* Readers do not care. */
    require_equal(fresh_word(heap, 0), 0);
    peer_tell(&child, 'c');
    ok(pheap_begin_timeout(heap, 10000, &txn));
    require_equal(get_word(txn, 0), 5);
    ok(pheap_abort(txn));
    peer_hear(&child, 'c');
    peer_tell(&child, 'x');
    peer_join(&child);
    ok(pheap_close(heap));
}

static void die_in_transaction(const struct peer *test, const char *path)
{
    pheap *heap = open_heap(path);
    pheap_txn *txn = begin(heap);
    uint64_t block;
    put_word(txn, 0, 66);
    ok(pheap_alloc(txn, 100000, &block));
    ok(pheap_fill(txn, block, 1, 100000));
    peer_tell(test, 'r');
    pause();
}

/* Catches: a lock that dies with its holder, and leavings of a dead transaction. */
static void death__of_a_writer_is_an_abort(void **state)
{
    (void)state;
    const char *path = path_of("dead-writer", "");
    pheap *heap = create_heap(path);
    (void)make_root(heap, 8);
    for (unsigned round = 0; round < 5; round++) {
        struct peer child = peer_start(die_in_transaction, path);
        peer_hear(&child, 'r');
        peer_kill(&child);
        pheap_txn *txn;
        ok(pheap_begin_timeout(heap, 20000, &txn));
        require_equal(get_word(txn, 0), round);
        put_word(txn, 0, round + 1);
        ok(pheap_commit(txn, PHEAP_LAZY, NULL));
        check_sound(heap);
    }
    require(heap_info(heap).heap_bytes < 100000);
    ok(pheap_close(heap));
}

static void commit_lazily_and_die(const struct peer *test, const char *path)
{
    pheap *heap = open_heap(path);
    for (uint64_t i = 1; i <= 100; i++) {
        commit_word(heap, 1, i, PHEAP_LAZY);
    }
    peer_tell(test, 'r');
    pause();
}

/* Catches: LAZY commits that exist only in the process that made them: with a survivor, and with none. */
static void death__lazy_commits_stay(void **state)
{
    (void)state;
    const char *path = path_of("lazy-death", "");
    pheap *heap = create_heap(path);
    (void)make_root(heap, 8);
    struct peer child = peer_start(commit_lazily_and_die, path);
    peer_hear(&child, 'r');
    peer_kill(&child);
    require_equal(fresh_word(heap, 1), 100);
    commit_word(heap, 1, 0, PHEAP_LAZY);
    ok(pheap_close(heap));
    child = peer_start(commit_lazily_and_die, path);
    peer_hear(&child, 'r');
    peer_kill(&child);
    heap = open_heap(path);
    require_equal(heap_info(heap).recovered, 1);
    require_equal(fresh_word(heap, 1), 100);
    ok(pheap_close(heap));
}

static void count_until_stopped(const struct peer *test, const char *path)
{
    pheap *heap = open_heap(path);
    peer_tell(test, 'r');
    for (uint64_t i = 1;; i++) {
        commit_word(heap, 1, i, PHEAP_LAZY);
    }
}

/* Catches: a stopped process taken for dead and robbed of its lock, whose transaction then goes on beside ours. */
static void stop__is_not_death(void **state)
{
    (void)state;
    const char *path = path_of("stopped", "");
    pheap *heap = create_heap(path);
    (void)make_root(heap, 8);
    struct peer child = peer_start(count_until_stopped, path);
    peer_hear(&child, 'r');
    unsigned held = 0;
    for (unsigned round = 0; round < 100; round++) {
        require(kill(child.pid, SIGSTOP) == 0);
        int status;
        require(waitpid(child.pid, &status, WUNTRACED) == child.pid && WIFSTOPPED(status));
        pheap_txn *txn;
        const enum pheap_status begun = pheap_begin_timeout(heap, 1, &txn);
        (void)fresh_word(heap, 1); /* a reader is never held up */
        if (begun == PHEAP_OK) {
            put_word(txn, 0, get_word(txn, 0) + 1);
        } else {
            expect(PHEAP_TIMEOUT, begun);
            held++;
        }
        require(kill(child.pid, SIGCONT) == 0);
        if (begun == PHEAP_OK) { /* a commit may have to wait for a flush or fold that was stopped */
            ok(pheap_commit(txn, PHEAP_LAZY, NULL));
        }
        pause_us(100 + round * 7919 % 900);
    }
    peer_kill(&child);
    require_equal(fresh_word(heap, 0), 100 - held);
    check_sound(heap);
    ok(pheap_close(heap));
}

/* -------------------------------------------------------------------------------------------------------- snapshots */

enum { SUM_WORDS = 4096, SUM_ROUNDS = 120 };

static void change_everything(const struct peer *test, const char *path)
{
    pheap *heap = open_heap(path);
    peer_hear(test, 'g');
    for (uint64_t round = 1; round <= SUM_ROUNDS; round++) {
        pheap_txn *txn = begin(heap);
        for (uint64_t i = 0; i < SUM_WORDS; i++) {
            const uint64_t rest = i == 0 ? round * SUM_WORDS * (SUM_WORDS - 1) / 2 : 0;
            put_word(txn, i, round * SUM_WORDS - i * round + rest);
        }
        ok(pheap_commit(txn, PHEAP_LAZY, NULL));
        if (round % 10 == 0) {
            ok(pheap_fold(heap));
        }
        if (round % 25 == 0) {
            ok(pheap_checkpoint(heap));
        }
        if (round == SUM_ROUNDS / 2) {
            peer_tell(test, 'h');
        }
    }
    peer_tell(test, 'd');
    peer_hear(test, 'x');
    ok(pheap_close(heap));
}

static uint64_t sum_words(const pheap_read *reader, uint64_t count)
{
    uint64_t sum = 0;
    for (uint64_t i = 0; i < count; i++) {
        sum += read_word(reader, i);
    }
    return sum;
}

/* Catches: fold or replay that changes a byte under a pinned reader, and a snapshot that mixes two versions. */
static void snapshot__stays_while_all_changes(void **state)
{
    (void)state;
    const char *path = path_of("snapshot", "");
    struct pheap_options options = small_options();
    options.log_limit_bytes = 32u << 20;
    pheap *heap;
    ok(pheap_open(path, PHEAP_CREATE, &options, &heap));
    const uint64_t root = make_root(heap, SUM_WORDS);
    pheap_txn *txn = begin(heap);
    for (uint64_t i = 0; i < SUM_WORDS; i++) {
        put_word(txn, i, i * 3);
    }
    ok(pheap_commit(txn, PHEAP_LAZY, NULL));
    /* Opened anew, the view shows the file's own pages; and most of them are touched only after they have changed. */
    ok(pheap_close(heap));
    heap = open_heap(path);
    struct peer child = peer_start(change_everything, path);
    pheap_read *reader = read_begin(heap, 0);
    const uint64_t version = pheap_read_version(reader);
    static uint64_t copy[SUM_WORDS];
    for (uint64_t i = 0; i < SUM_WORDS; i++) {
        copy[i] = i * 3;
    }
    require(memcmp(pheap_read_ptr(reader, root), copy, 4096) == 0);
    peer_tell(&child, 'g');
    for (unsigned i = 0; i < 2000; i++) {
        require(memcmp(pheap_read_ptr(reader, root), copy, 4096) == 0);
    }
    peer_hear(&child, 'h');
    require(memcmp(pheap_read_ptr(reader, root), copy, sizeof copy) == 0);
    peer_hear(&child, 'd');
    require(memcmp(pheap_read_ptr(reader, root), copy, sizeof copy) == 0);
    require_equal(pheap_read_version(reader), version);
    ok(pheap_check(reader, print_fault, NULL, NULL));
    pheap_read_end(reader);
    reader = read_begin(heap, 0);
    require_equal(pheap_read_version(reader), version + SUM_ROUNDS);
    pheap_read_end(reader);
    peer_tell(&child, 'x');
    peer_join(&child);
    ok(pheap_close(heap));
}

/* Catches: snapshots torn between two commits, taken again and again while another process commits, folds and
 * checkpoints: in every version but the first the words add up to a multiple of its number. */
static void snapshot__is_never_torn(void **state)
{
    (void)state;
    const char *path = path_of("torn", "");
    struct pheap_options options = small_options();
    options.log_limit_bytes = 1u << 20;
    pheap *heap;
    ok(pheap_open(path, PHEAP_CREATE, &options, &heap));
    (void)make_root(heap, SUM_WORDS);
    const uint64_t first = heap_info(heap).version;
    struct peer child = peer_start(change_everything, path);
    peer_tell(&child, 'g');
    uint64_t round = 0;
    while (round < SUM_ROUNDS) {
        pheap_read *reader = read_begin(heap, round % 2 == 0 ? PHEAP_FRESH : 0);
        const uint64_t now = pheap_read_version(reader) - first;
        require(now >= round);
        require_equal(sum_words(reader, SUM_WORDS), now * SUM_WORDS * SUM_WORDS);
        round = now;
        pheap_read_end(reader);
    }
    peer_hear(&child, 'h');
    peer_hear(&child, 'd');
    peer_tell(&child, 'x');
    peer_join(&child);
    ok(pheap_close(heap));
}

static void pin_until_told(const struct peer *test, const char *path)
{
    pheap *heap = open_heap(path);
    pheap_read *reader = read_begin(heap, 0);
    const uint64_t value = read_word(reader, 0);
    peer_tell(test, 'p');
    peer_hear(test, 'e');
    require_equal(read_word(reader, 0), value);
    pheap_read_end(reader);
    peer_tell(test, 'e');
    peer_hear(test, 'x');
    ok(pheap_close(heap));
}

/* Commit until the log refuses; the last value that was committed. */
static uint64_t commit_until_full(pheap *heap, uint64_t from, const char *holder)
{
    for (uint64_t i = from;; i++) {
        pheap_txn *txn;
        enum pheap_status status = pheap_begin(heap, &txn);
        if (status == PHEAP_OK) {
            for (uint64_t j = 0; j < 64; j++) {
                put_word(txn, j, i * 1000003 + j);
            }
            put_word(txn, 0, i);
            status = pheap_commit(txn, PHEAP_LAZY, NULL);
        }
        if (status != PHEAP_OK) {
            expect_detail(PHEAP_LOG_FULL, holder, status);
            return i - 1;
        }
        require(i < from + 100000);
    }
}

/* Catches: a log that grows past its limit or laps a reader, and a writer that is not told whom it waits for. */
static void pin__fills_the_log_and_is_named(void **state)
{
    (void)state;
    const char *path = path_of("pinned", "");
    pheap *heap = create_heap(path);
    (void)make_root(heap, 64);
    commit_word(heap, 0, 1, PHEAP_DURABLE);
    struct peer child = peer_start(pin_until_told, path);
    peer_hear(&child, 'p');
    char pid[32];
    (void)snprintf(pid, sizeof pid, "%d", (int)child.pid);
    const uint64_t last = commit_until_full(heap, 2, pid);
    require(last > 50);
    struct pheap_info info = heap_info(heap);
    require(info.log_bytes <= info.log_limit_bytes + 8192);
    require_equal(fresh_word(heap, 0), last);

    struct pheap_user user = {.size = sizeof user};
    bool found = false;
    for (uint32_t seat = 0; pheap_next_user(heap, seat, &user) == PHEAP_OK; seat = user.seat + 1) {
        if (user.pid == child.pid) {
            found = true;
            require(user.pinned_version == 2 && user.pinned_lsn != 0 && user.pinned_ns + 100000000 >= user.attached_ns);
        }
    }
    require(found);
    peer_tell(&child, 'e');
    peer_hear(&child, 'e');
    for (uint64_t i = 0; i < 2000; i++) {
        commit_word(heap, 0, last + i, PHEAP_LAZY);
    }
    require_equal(fresh_word(heap, 0), last + 1999);
    peer_tell(&child, 'x');
    peer_join(&child);
    check_sound(heap);
    ok(pheap_close(heap));
}

/* Catches: the pin of a dead reader that holds fold and log for ever. */
static void pin__of_a_dead_reader_is_dropped(void **state)
{
    (void)state;
    const char *path = path_of("dead-reader", "");
    pheap *heap = create_heap(path);
    (void)make_root(heap, 64);
    for (unsigned round = 0; round < 3; round++) {
        struct peer child = peer_start(pin_until_told, path);
        peer_hear(&child, 'p');
        peer_kill(&child);
        for (uint64_t i = 0; i < 3000; i++) {
            commit_word(heap, i % 64, i, PHEAP_LAZY);
        }
        ok(pheap_checkpoint(heap));
        const struct pheap_info info = heap_info(heap);
        require_equal(info.folded_lsn, info.committed_lsn);
        require(info.log_bytes <= info.log_limit_bytes + 8192);
    }
    ok(pheap_close(heap));
}

/* Catches: PHEAP_FRESH that waits for the very thread that asks, and a plain reader that does not join. */
static void readers__of_one_process_share_a_version(void **state)
{
    (void)state;
    const char *path = path_of("joined", "");
    struct pheap_options options = small_options();
    options.read_views = 1;
    pheap *heap;
    ok(pheap_open(path, PHEAP_CREATE | PHEAP_EXCLUSIVE, &options, &heap));
    (void)make_root(heap, 8);
    commit_word(heap, 0, 1, PHEAP_LAZY);
    pheap_read *first = read_begin(heap, 0);
    require_equal(read_word(first, 0), 1);
    commit_word(heap, 0, 2, PHEAP_LAZY);
    pheap_read *second = read_begin(heap, 0);
    require_equal(pheap_read_version(second), pheap_read_version(first));
    require_equal(read_word(second, 0), 1);
    pheap_read *third = NULL;
    expect_detail(PHEAP_TIMEOUT, "this thread's own", pheap_read_begin(heap, PHEAP_FRESH, &third));
    require(third == NULL);
    pheap_read_end(first);
    require_equal(read_word(second, 0), 1);
    pheap_read_end(second);
    third = read_begin(heap, PHEAP_FRESH);
    require_equal(read_word(third, 0), 2);
    /* A fresh one needs no wait when nothing has changed. */
    pheap_read *fourth = read_begin(heap, PHEAP_FRESH);
    pheap_read_end(fourth);
    pheap_read_end(third);
    ok(pheap_close(heap));
}

/* ----------------------------------------------------------------------------------------------------------- threads */

struct crew {
    pheap *heap;
    _Atomic unsigned failures;
    _Atomic bool stop;
};

enum { CREW_ROUNDS = 300 };

static void *increment(void *argument)
{
    struct crew *crew = argument;
    for (unsigned i = 0; i < CREW_ROUNDS; i++) {
        pheap_txn *txn;
        uint64_t values[2];
        if (pheap_begin(crew->heap, &txn) != PHEAP_OK) {
            crew->failures++;
            return NULL;
        }
        memcpy(values, pheap_ptr(txn, pheap_root(txn)), sizeof values);
        values[0]++;
        values[1]--;
        const bool written = pheap_write(txn, pheap_root(txn), values, sizeof values) == PHEAP_OK;
        if (i % 7 == 0) {
            (void)pheap_abort(txn);
        } else if (!written || pheap_commit(txn, i % 10 == 0 ? PHEAP_DURABLE : PHEAP_LAZY, NULL) != PHEAP_OK) {
            crew->failures++;
        }
    }
    return NULL;
}

static void *watch(void *argument)
{
    struct crew *crew = argument;
    uint64_t seen = 0;
    for (unsigned i = 0; !crew->stop; i++) {
        pheap_read *reader;
        const enum pheap_status status = pheap_read_begin(crew->heap, i % 3 == 0 ? PHEAP_FRESH : 0, &reader);
        if (status != PHEAP_OK) {
            crew->failures++;
            return NULL;
        }
        const uint64_t up = read_word(reader, 0);
        if (up + read_word(reader, 1) != 0 || pheap_read_version(reader) != up + 1 || up < seen) {
            crew->failures++;
        }
        seen = up;
        pheap_read_end(reader);
    }
    return NULL;
}

/* Catches: races between writers, readers and upkeep inside one process (with the thread sanitizer too). */
static void threads__write_read_and_maintain(void **state)
{
    (void)state;
    pheap *heap = create_heap(path_of("threads", ""));
    (void)make_root(heap, 8);
    struct crew crew = {.heap = heap};
    pthread_t writers[4];
    pthread_t watchers[2];
    for (unsigned i = 0; i < 4; i++) {
        require(pthread_create(&writers[i], NULL, increment, &crew) == 0);
    }
    for (unsigned i = 0; i < 2; i++) {
        require(pthread_create(&watchers[i], NULL, watch, &crew) == 0);
    }
    for (unsigned i = 0; i < 20; i++) {
        ok(i % 4 == 0 ? pheap_checkpoint(heap) : i % 4 == 1 ? pheap_fold(heap) : pheap_maintain(heap));
        (void)heap_info(heap);
    }
    for (unsigned i = 0; i < 4; i++) {
        pthread_join(writers[i], NULL);
    }
    crew.stop = true;
    for (unsigned i = 0; i < 2; i++) {
        pthread_join(watchers[i], NULL);
    }
    require_equal(crew.failures, 0);
    require_equal(fresh_word(heap, 0), 4 * (CREW_ROUNDS - (CREW_ROUNDS + 6) / 7));
    check_sound(heap);
    ok(pheap_close(heap));
}

/* What another thread may not do with the transaction: everything. */
static void *use_foreign_transaction(void *argument)
{
    pheap_txn *txn = argument;
    uint64_t value = 0;
    uint32_t savepoint = 0;
    const enum pheap_status got[] = {pheap_edit(txn, 16384, 8, NULL),       pheap_write(txn, 16384, &value, 8),
                                     pheap_fill(txn, 16384, 0, 8),          pheap_alloc(txn, 8, &value),
                                     pheap_zalloc(txn, 8, &value),          pheap_alloc_aligned(txn, 16, 8, &value),
                                     pheap_realloc(txn, &value, 8),         pheap_free(txn, 16384),
                                     pheap_usable_size(txn, 16384, &value), pheap_set_root(txn, 0),
                                     pheap_savepoint(txn, &savepoint),      pheap_rollback(txn, 1),
                                     pheap_commit(txn, PHEAP_LAZY, NULL),   pheap_abort(txn)};
    uintptr_t wrong = 0;
    for (unsigned i = 0; i < sizeof got / sizeof got[0]; i++) {
        if (got[i] != PHEAP_WRONG_THREAD) {
            (void)fprintf(stderr, "call %u: %s\n", i, pheap_status_name(got[i]));
            wrong++;
        }
    }
    return (void *)wrong;
}

/* Catches: a transaction ended or changed by a thread that it does not belong to. */
static void threads__foreign_transaction(void **state)
{
    (void)state;
    pheap *heap = create_heap(path_of("foreign-thread", ""));
    (void)make_root(heap, 8);
    pheap_txn *txn = begin(heap);
    put_word(txn, 0, 8);
    pthread_t thread;
    void *wrong;
    require(pthread_create(&thread, NULL, use_foreign_transaction, txn) == 0);
    require(pthread_join(thread, &wrong) == 0);
    require(wrong == NULL);
    put_word(txn, 1, 9);
    ok(pheap_commit(txn, PHEAP_LAZY, NULL));
    require_equal(fresh_word(heap, 0), 8);
    require_equal(fresh_word(heap, 1), 9);
    ok(pheap_close(heap));
}

static void *leave_transaction_open(void *argument)
{
    pheap_txn *txn;
    uint64_t value = 77;
    if (pheap_begin(argument, &txn) == PHEAP_OK &&
        pheap_write(txn, pheap_root(txn), &value, sizeof value) == PHEAP_OK) {
        return argument;
    }
    return NULL;
}

/* Catches: a thread that ends in its transaction and takes the writer lock, or its changes, along. */
static void threads__death_is_an_abort(void **state)
{
    (void)state;
    const char *path = path_of("dead-thread", "");
    pheap *heap = create_heap(path);
    (void)make_root(heap, 8);
    for (unsigned i = 0; i < 3; i++) {
        pthread_t thread;
        void *begun;
        require(pthread_create(&thread, NULL, leave_transaction_open, heap) == 0);
        require(pthread_join(thread, &begun) == 0);
        require(begun != NULL);
        require_equal(fresh_word(heap, 0), i);
        pheap_txn *txn;
        ok(pheap_begin_timeout(heap, 20000, &txn));
        require_equal(get_word(txn, 0), i);
        put_word(txn, 0, i + 1);
        ok(pheap_commit(txn, PHEAP_LAZY, NULL));
    }
    check_sound(heap);
    ok(pheap_close(heap));
    heap = open_heap(path);
    require_equal(fresh_word(heap, 0), 3);
    ok(pheap_close(heap));
}

static void commit_elsewhere(const struct peer *test, const char *path)
{
    pheap *heap = open_heap(path);
    peer_tell(test, 'r');
    peer_hear(test, 'g');
    commit_word(heap, 200, 5, PHEAP_LAZY); /* takes the lock over */
    peer_tell(test, 'd');
    ok(pheap_close(heap));
}

/* Catches: the stores of a thread that died in its transaction, committed by another thread of its process, because a
 * third process was the one who met the dead owner of the lock. */
static void threads__death_met_by_another_process(void **state)
{
    (void)state;
#ifdef __SANITIZE_THREAD__
    print_message("skipped: the sanitizer does not see that another process takes over a dead thread's lock\n");
    skip();
#endif
    const char *path = path_of("dead-thread-elsewhere", "");
    pheap *heap = create_heap(path);
    (void)make_root(heap, 1024);
    struct peer child = peer_start(commit_elsewhere, path);
    peer_hear(&child, 'r');
    pthread_t thread;
    void *begun;
    require(pthread_create(&thread, NULL, leave_transaction_open, heap) == 0 && pthread_join(thread, &begun) == 0);
    require(begun != NULL);
    peer_tell(&child, 'g');
    peer_hear(&child, 'd');
    pheap_txn *txn = begin(heap);
    require_equal(get_word(txn, 0), 0);
    require_equal(get_word(txn, 200), 5);
    put_word(txn, 1, 3);
    ok(pheap_commit(txn, PHEAP_LAZY, NULL));
    require_equal(fresh_word(heap, 0), 0);
    require_equal(fresh_word(heap, 1), 3);
    peer_join(&child);
    check_sound(heap);
    ok(pheap_close(heap));
}

int main(int argc, char **argv)
{
    choose_cases(argc, argv);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sharing__commits_are_seen_at_once),
        cmocka_unit_test(sharing__idle_process_catches_up),
        cmocka_unit_test(sharing__allocator_is_one),
        cmocka_unit_test(sharing__eight_processes_open_and_close),
        cmocka_unit_test(begin_timeout__names_the_holder),
        cmocka_unit_test(death__of_a_writer_is_an_abort),
        cmocka_unit_test(death__lazy_commits_stay),
        cmocka_unit_test(stop__is_not_death),
        cmocka_unit_test(snapshot__stays_while_all_changes),
        cmocka_unit_test(snapshot__is_never_torn),
        cmocka_unit_test(pin__fills_the_log_and_is_named),
        cmocka_unit_test(pin__of_a_dead_reader_is_dropped),
        cmocka_unit_test(readers__of_one_process_share_a_version),
        cmocka_unit_test(threads__write_read_and_maintain),
        cmocka_unit_test(threads__foreign_transaction),
        cmocka_unit_test(threads__death_is_an_abort),
        cmocka_unit_test(threads__death_met_by_another_process),
    };
    return cmocka_run_group_tests(tests, make_test_directory, remove_test_directory);
}
