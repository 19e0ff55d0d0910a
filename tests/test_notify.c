/* SPDX-License-Identifier: MIT */
/*
 * Waiting for commits: pheap_wait() and watches, between threads and processes.
 *
 * A wake that is missed costs a waiter no more than a slice of a tenth of a second, so one miss does not show.
 * Therefore processes and threads go in step for thousands of rounds, which take seconds when no wake is missed and
 * many minutes when all are; whoever sees no step for a minute fails.
 */
#include "tests/machine.h"
#include "tests/public.h"

#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sys/eventfd.h>

enum { ROUNDS = 10000, CROWD = 8, CROWD_ROUNDS = 1000, PATIENCE_MS = 60000 };

static uint64_t newest(pheap *heap)
{
    uint64_t version;
    ok(pheap_newest_version(heap, &version));
    return version;
}

/* ------------------------------------------------------------------------------------------------------ pheap_wait */

/* Catches: a wait for what there is already, a limit of time that is not kept, arguments not checked, and an output
 * touched on failure. */
static void wait__at_once_or_not_at_all(void **state)
{
    (void)state;
    pheap *heap = create_heap(path_of("at-once", ""));
    (void)make_root(heap, 8);
    uint64_t seen = 77;
    require_equal(newest(heap), 1);
    ok(pheap_wait(heap, 0, -1, &seen));
    require_equal(seen, 1);
    commit_word(heap, 0, 1, PHEAP_LAZY);
    commit_word(heap, 0, 2, PHEAP_LAZY);
    ok(pheap_wait(heap, 0, 0, &seen));
    require_equal(seen, 3);
    ok(pheap_wait(heap, 2, 0, NULL));
    seen = 77;
    expect_detail(PHEAP_TIMEOUT, "version 3", pheap_wait(heap, 3, 0, &seen));
    expect_detail(PHEAP_TIMEOUT, "version 3", pheap_wait(heap, 3, 20, &seen));
    expect_detail(PHEAP_TIMEOUT, "250 ms", pheap_wait(heap, 3, 250, NULL)); /* more than a slice */
    expect(PHEAP_TIMEOUT, pheap_wait(heap, UINT64_MAX, 0, &seen));
    expect_detail(PHEAP_INVALID, "range", pheap_wait(heap, 3, INT64_MAX, &seen));
    expect(PHEAP_INVALID, pheap_wait(NULL, 3, 0, &seen));
    expect(PHEAP_INVALID, pheap_newest_version(heap, NULL));
    expect(PHEAP_INVALID, pheap_newest_version(NULL, &seen));
    require_equal(seen, 77);
    /* An abort is no commit, nor is a transaction that changed nothing. */
    pheap_txn *txn = begin(heap);
    put_word(txn, 0, 3);
    ok(pheap_abort(txn));
    txn = begin(heap);
    ok(pheap_commit(txn, PHEAP_LAZY, NULL));
    expect(PHEAP_TIMEOUT, pheap_wait(heap, 3, 0, &seen));
    ok(pheap_close(heap));
}

/* Wait for word 0 to be `value`, as a program would: with the version that it saw last. */
static uint64_t wait_for_value(pheap *heap, uint64_t version, uint64_t value)
{
    for (;;) {
        uint64_t now = 0;
        ok(pheap_wait(heap, version, PATIENCE_MS, &now));
        require(now > version);
        pheap_read *reader = read_begin(heap, PHEAP_FRESH);
        require(pheap_read_version(reader) >= now);
        version = pheap_read_version(reader);
        const uint64_t found = read_word(reader, 0);
        ok(pheap_read_end(reader));
        require(found <= value);
        if (found == value) {
            return version;
        }
    }
}

/* Odd values are the child's, even ones the test's.  Nobody else commits, so the versions go up by one. */
static void play(pheap *heap, uint64_t first, uint64_t rounds, uint64_t version)
{
    for (uint64_t i = first; i < 2 * rounds; i += 2) {
        commit_word(heap, 0, i + 1, PHEAP_LAZY);
        if (i + 2 <= 2 * rounds) {
            const uint64_t now = wait_for_value(heap, version + 1, i + 2);
            require_equal(now, version + 2);
            version = now;
        }
    }
}

static void play_from_child(const struct peer *test, const char *path)
{
    pheap *heap = open_heap(path);
    const uint64_t version = newest(heap);
    peer_tell(test, 'r');
    require_equal(wait_for_value(heap, version, 1), version + 1);
    play(heap, 1, ROUNDS, version + 1);
    peer_tell(test, 'd');
    peer_hear(test, 'x');
    ok(pheap_close(heap));
}

/* Catches: a commit that does not wake a waiter of another process, and a version told of that cannot be read yet. */
static void wait__ping_pong_of_processes(void **state)
{
    (void)state;
    const char *path = path_of("ping-pong", "");
    pheap *heap = create_heap(path);
    (void)make_root(heap, 8);
    struct peer child = peer_start(play_from_child, path);
    peer_hear(&child, 'r');
    const uint64_t version = newest(heap);
    /* A minute for all of it: no limit of time, but of patience. */
    (void)alarm(PATIENCE_MS / 1000);
    play(heap, 0, ROUNDS, version);
    peer_hear(&child, 'd');
    (void)alarm(0);
    require_equal(newest(heap), version + 2 * ROUNDS);
    require_equal(fresh_word(heap, 0), 2 * ROUNDS);
    peer_tell(&child, 'x');
    peer_join(&child);
    ok(pheap_close(heap));
}

/* In memory that children share. */
struct crowd {
    _Atomic uint64_t seen[CROWD]; /* the version that each has been told of */
    _Atomic uint64_t wakes;
    _Atomic bool failed;
};

struct one {
    pthread_t thread;
    pheap *heap;
    struct crowd *crowd;
    unsigned index;
    uint64_t from, last;
};

static void *wait_in_crowd(void *argument)
{
    struct one *one = argument;
    struct crowd *crowd = one->crowd;
    for (uint64_t version = one->from; version < one->last;) {
        uint64_t now = 0;
        if (pheap_wait(one->heap, version, PATIENCE_MS, &now) != PHEAP_OK || now <= version) {
            atomic_store(&crowd->failed, true);
            break;
        }
        version = now;
        atomic_store(&crowd->seen[one->index], version);
        atomic_fetch_add(&crowd->wakes, 1);
    }
    return NULL;
}

/* Commit `rounds` times, each time once all those in `set` have seen the commit before. */
static void go_in_step(pheap *heap, struct crowd *crowd, unsigned set, uint64_t rounds)
{
    uint64_t version = newest(heap);
    (void)alarm(PATIENCE_MS / 1000);
    for (uint64_t round = 0; round < rounds; round++, version++) {
        commit_word(heap, 0, version, PHEAP_LAZY);
        for (unsigned i = 0; i < CROWD; i++) {
            while ((set >> i & 1) != 0 && atomic_load(&crowd->seen[i]) <= version) {
                require(!atomic_load(&crowd->failed));
                (void)sched_yield();
            }
        }
    }
    (void)alarm(0);
}

/* Catches: a wake that reaches one of several waiters, or that is lost between waiters that come and go. */
static void wait__many_threads_miss_none(void **state)
{
    (void)state;
    pheap *heap = create_heap(path_of("crowd", ""));
    (void)make_root(heap, 8);
    struct crowd crowd = {0};
    struct one ones[CROWD];
    const uint64_t from = newest(heap);
    for (unsigned i = 0; i < CROWD; i++) {
        ones[i] = (struct one){.heap = heap, .crowd = &crowd, .index = i, .from = from, .last = from + CROWD_ROUNDS};
        require(pthread_create(&ones[i].thread, NULL, wait_in_crowd, &ones[i]) == 0);
    }
    go_in_step(heap, &crowd, (1u << CROWD) - 1, CROWD_ROUNDS);
    for (unsigned i = 0; i < CROWD; i++) {
        require(pthread_join(ones[i].thread, NULL) == 0);
    }
    require(!atomic_load(&crowd.failed));
    require_equal(atomic_load(&crowd.wakes), CROWD * CROWD_ROUNDS); /* in step: one for each */
    ok(pheap_close(heap));
}

static struct crowd *shared_crowd;
static unsigned child_index;

static void wait_for_ever(const struct peer *test, const char *path)
{
    pheap *heap = open_heap(path);
    struct one one = {
        .heap = heap, .crowd = shared_crowd, .index = child_index, .from = newest(heap), .last = UINT64_MAX};
    peer_tell(test, 'r');
    (void)wait_in_crowd(&one);
}

/* Catches: a waiter that is killed in its sleep, or between being woken and waiting again, and takes the wakes of the
 * others along, or the next commit. */
static void wait__goes_on_when_waiters_are_killed(void **state)
{
    (void)state;
    const char *path = path_of("killed", "");
    pheap *heap = create_heap(path);
    (void)make_root(heap, 8);
    shared_crowd = shared_memory(sizeof *shared_crowd);
    struct peer children[CROWD];
    unsigned set = 0;
    for (unsigned i = 0; i < CROWD; i++) {
        child_index = i;
        children[i] = peer_start(wait_for_ever, path);
        peer_hear(&children[i], 'r');
        set |= 1u << i;
    }
    for (unsigned round = 0; round < 2 * CROWD; round++) {
        go_in_step(heap, shared_crowd, set, 100);
        const unsigned victim = round % CROWD;
        if (round % 2 == 0) {
            pause_us(1000); /* asleep by now; else on its way there */
        }
        peer_kill(&children[victim]);
        commit_word(heap, 1, round, PHEAP_LAZY);
        if (round < CROWD) {
            child_index = victim;
            children[victim] = peer_start(wait_for_ever, path);
            peer_hear(&children[victim], 'r');
        } else {
            set &= ~(1u << victim);
        }
    }
    expect(PHEAP_TIMEOUT, pheap_wait(heap, newest(heap), 1, NULL));
    check_sound(heap);
    ok(pheap_close(heap));
    require(munmap(shared_crowd, sizeof *shared_crowd) == 0);
}

struct sleeper {
    pthread_t thread;
    pheap *heap;
    uint64_t version;
    int64_t timeout_ms;
    enum pheap_status status;
};

static void *sleep_for_commit(void *argument)
{
    struct sleeper *sleeper = argument;
    sleeper->status = pheap_wait(sleeper->heap, sleeper->version, sleeper->timeout_ms, NULL);
    return NULL;
}

/* Catches: a waiter without limit that sleeps on in a heap in which nobody will ever commit again, and a watch that
 * does not tell of it. */
static void wait__ends_when_the_heap_is_poisoned(void **state)
{
    (void)state;
    struct machine machine;
    machine_begin(&machine, NULL);
    pheap *heap = machine_create(&machine, 0, 64);
    ok(pheap_checkpoint(heap));
    const int event = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    struct sleeper sleeper = {.heap = heap, .version = newest(heap) + 1, .timeout_ms = -1};
    require(pthread_create(&sleeper.thread, NULL, sleep_for_commit, &sleeper) == 0);
    struct sleeper reader = sleeper;
    reader.heap = machine_open(&machine.second, PHEAP_READONLY);
    require(pthread_create(&reader.thread, NULL, sleep_for_commit, &reader) == 0);
    pheap_watch *watch;
    ok(pheap_watch_begin(heap, newest(heap) + 1, event, &watch));
    commit_word(heap, 0, 1, PHEAP_LAZY); /* this one they do not wait for */
    ph_sim_fail_at(machine.sim, PH_SIM_WRITE, 1, EIO, PH_SIM_FOREVER);
    expect(PHEAP_POISONED, pheap_sync(heap));
    require(pthread_join(sleeper.thread, NULL) == 0);
    require_equal(sleeper.status, PHEAP_POISONED);
    expect(PHEAP_POISONED, pheap_wait(heap, newest(heap), PATIENCE_MS, NULL));
    struct pollfd poll_event = {.fd = event, .events = POLLIN};
    require_equal(poll(&poll_event, 1, PATIENCE_MS), 1);
    uint64_t told = 0;
    require(read(event, &told, sizeof told) == sizeof told && told == 1);
    require_equal(poll(&poll_event, 1, 250), 0); /* it was the last time */
    pheap_watch_end(watch);
    /* One that may only read meets it too. */
    require(pthread_join(reader.thread, NULL) == 0);
    require_equal(reader.status, PHEAP_POISONED);
    expect(PHEAP_POISONED, pheap_close(reader.heap));
    expect(PHEAP_POISONED, pheap_close(heap));
    close(event);
    machine_end(&machine);
}

static const ph_io *meddle_real;
static pheap *meddle_heap;
static uint64_t meddle_round;
static unsigned meddle_sleeps;

/* A commit that comes when the waiter has looked and is about to sleep. */
static void commit_before_sleep(void *ctx, uint32_t *word, uint32_t expected, uint64_t timeout_ns)
{
    if (meddle_heap != NULL) {
        commit_word(meddle_heap, 0, ++meddle_round, PHEAP_LAZY);
        require(*(volatile uint32_t *)word != expected);
    }
    meddle_real->wait(ctx, word, expected, timeout_ns);
}

/* One that comes when the waiter has looked for the first time, and has not said yet that it waits. */
static uint64_t commit_at_clock(void *ctx, enum ph_clock clock)
{
    if (meddle_heap != NULL && clock == PH_CLOCK_MONOTONIC) {
        pheap *heap = meddle_heap;
        meddle_heap = NULL;
        commit_word(heap, 0, ++meddle_round, PHEAP_LAZY);
    }
    return meddle_real->clock_ns(ctx, clock);
}

static void count_sleep(void *ctx, uint32_t *word, uint32_t expected, uint64_t timeout_ns)
{
    meddle_sleeps++;
    meddle_real->wait(ctx, word, expected, timeout_ns);
}

/* Catches: a waiter that sleeps without looking again after it has said that it waits. */
static void wait__commit_before_it_is_awaited(void **state)
{
    (void)state;
    struct machine machine;
    machine_begin(&machine, NULL);
    meddle_real = machine.first;
    machine.second.clock_ns = commit_at_clock;
    machine.second.wait = count_sleep;
    pheap *first = machine_create(&machine, 0, 64), *second = machine_open(&machine.second, 0);
    for (unsigned i = 0; i < 10; i++) {
        const uint64_t version = newest(second);
        uint64_t now = 0;
        meddle_heap = first;
        meddle_sleeps = 0;
        ok(pheap_wait(second, version, -1, &now));
        require_equal(now, version + 1);
        require_equal(meddle_sleeps, 0);
    }
    machine_close(&machine, second, first);
}

/* Catches: a commit between a waiter's look and its sleep that does not keep it from sleeping. */
static void wait__commit_just_before_sleep(void **state)
{
    (void)state;
    struct machine machine;
    machine_begin(&machine, NULL);
    meddle_real = machine.first;
    machine.second.wait = commit_before_sleep;
    pheap *first = machine_create(&machine, 0, 64), *second = machine_open(&machine.second, 0);
    meddle_heap = first;
    for (unsigned i = 0; i < 100; i++) {
        const uint64_t version = newest(second);
        uint64_t now = 0;
        ok(pheap_wait(second, version, -1, &now));
        require_equal(now, version + 1);
    }
    meddle_heap = NULL;
    machine_close(&machine, second, first);
}

/* Catches: a waiting process that leaves LAZY commits of its own in memory for longer than a second (R5). */
static void wait__flushes_what_is_old(void **state)
{
    (void)state;
    pheap *heap = create_heap(path_of("flushes", ""));
    (void)make_root(heap, 8);
    commit_word(heap, 0, 1, PHEAP_LAZY);
    require(heap_info(heap).durable_lsn < heap_info(heap).committed_lsn);
    for (unsigned i = 0; heap_info(heap).durable_lsn < heap_info(heap).committed_lsn; i++) {
        require(i < 600); /* a minute */
        expect(PHEAP_TIMEOUT, pheap_wait(heap, newest(heap), 110, NULL));
    }
    ok(pheap_close(heap));
}

/* --------------------------------------------------------------------------------------------------------- watches */

/* Whether the eventfd is readable before `timeout_ms`; its count. */
static uint64_t event_count(int event, int timeout_ms)
{
    struct pollfd wait = {.fd = event, .events = POLLIN};
    uint64_t count = 0;
    if (poll(&wait, 1, timeout_ms) == 1) {
        require(read(event, &count, sizeof count) == sizeof count);
    }
    return count;
}

static void commit_when_told(const struct peer *test, const char *path)
{
    pheap *heap = open_heap(path);
    for (unsigned i = 0; i < 5; i++) {
        peer_hear(test, 'c');
        for (unsigned j = 0; j <= i; j++) {
            commit_word(heap, 0, 100 * i + j + 2, PHEAP_LAZY);
        }
    }
    peer_hear(test, 'x');
    ok(pheap_close(heap));
}

/* Catches: a watch that tells of nothing, too often, of what it was told is known, or on after its end; and a close
 * that takes the heap from under it. */
static void watch__tells_an_event_loop(void **state)
{
    (void)state;
    const char *path = path_of("watch", "");
    pheap *heap = create_heap(path);
    (void)make_root(heap, 8);
    const int event = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    pheap_watch *watch = NULL;
    expect(PHEAP_INVALID, pheap_watch_begin(heap, 0, -1, &watch));
    expect(PHEAP_INVALID, pheap_watch_begin(heap, 0, event, NULL));
    expect(PHEAP_INVALID, pheap_watch_begin(NULL, 0, event, &watch));
    require(watch == NULL);
    pheap_watch_end(NULL);
    /* What was there before the watch, it tells of once. */
    ok(pheap_watch_begin(heap, 0, event, &watch));
    require_equal(event_count(event, PATIENCE_MS), 1);
    require_equal(event_count(event, 150), 0);
    struct peer child = peer_start(commit_when_told, path);
    const uint64_t first = newest(heap);
    uint64_t version = first, told = 0;
    for (unsigned i = 0; i < 5; i++) {
        const uint64_t last = version + i + 1;
        peer_tell(&child, 'c');
        while (version < last) {
            const uint64_t count = event_count(event, PATIENCE_MS);
            require(count > 0);
            told += count;
            version = newest(heap);
        }
        /* What is told of later still, when the version had been seen, counts for the commits up to here as well. */
        told += event_count(event, 20);
        require(told <= last - first);
    }
    expect_detail(PHEAP_BUSY, "watch", pheap_close(heap));
    pheap_watch_end(watch);
    require(told + event_count(event, 0) <= version - first);
    commit_word(heap, 0, 1, PHEAP_LAZY);
    require_equal(event_count(event, 20), 0);
    peer_tell(&child, 'x');
    peer_join(&child);
    ok(pheap_close(heap));
    close(event);
}

/* Catches: an event that is lost while the loop is at work: in step, each commit is told of before the next. */
static void watch__misses_none(void **state)
{
    (void)state;
    pheap *heap = create_heap(path_of("no-miss", ""));
    (void)make_root(heap, 8);
    int events[3];
    pheap_watch *watches[3];
    for (unsigned i = 0; i < 3; i++) {
        events[i] = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
        ok(pheap_watch_begin(heap, newest(heap), events[i], &watches[i]));
    }
    (void)alarm(PATIENCE_MS / 1000);
    for (unsigned round = 0; round < CROWD_ROUNDS; round++) {
        commit_word(heap, 0, round + 1, PHEAP_LAZY);
        for (unsigned i = 0; i < 3; i++) {
            require_equal(event_count(events[i], PATIENCE_MS), 1);
        }
    }
    /* Ends and begins, of some, while others are told. */
    for (unsigned round = 0; round < 100; round++) {
        pheap_watch_end(watches[round % 3]);
        ok(pheap_watch_begin(heap, newest(heap), events[round % 3], &watches[round % 3]));
        commit_word(heap, 0, round + 1, PHEAP_LAZY);
        for (unsigned i = 0; i < 3; i++) {
            require_equal(event_count(events[i], PATIENCE_MS), 1);
        }
    }
    (void)alarm(0);
    for (unsigned i = 0; i < 3; i++) {
        pheap_watch_end(watches[i]);
        close(events[i]);
    }
    ok(pheap_close(heap));
}

static pheap *parents_heap;
static pheap_watch *parents_watch;

static void end_parents_watch(const struct peer *test, const char *path)
{
    (void)path;
    ok(pheap_wait(parents_heap, 0, 0, NULL)); /* the handle is one of its own */
    pheap_watch_end(parents_watch);           /* a thread that is not there is not waited for */
    ok(pheap_close(parents_heap));
    peer_tell(test, 'd');
    _exit(0); /* the thread's memory is the parent's to give back */
}

/* Catches: a child that ends or waits for a watch that its parent has. */
static void watch__is_the_parents(void **state)
{
    (void)state;
    const char *path = path_of("forked", "");
    pheap *heap = create_heap(path);
    (void)make_root(heap, 8);
    const int event = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    ok(pheap_watch_begin(heap, newest(heap), event, &parents_watch));
    parents_heap = heap;
    struct peer child = peer_start(end_parents_watch, path);
    peer_hear(&child, 'd');
    peer_join(&child);
    commit_word(heap, 0, 1, PHEAP_LAZY);
    require_equal(event_count(event, PATIENCE_MS), 1);
    pheap_watch_end(parents_watch);
    ok(pheap_close(heap));
    close(event);
}

static int start_no_thread(void *ctx, void *(*run)(void *), void *argument, uint64_t *thread)
{
    (void)ctx;
    (void)run;
    (void)argument;
    (void)thread;
    return -EAGAIN;
}

/* Catches: a watch that could not begin and is counted or kept all the same. */
static void watch__cannot_begin(void **state)
{
    (void)state;
    struct machine machine;
    machine_begin(&machine, NULL);
    machine.second.thread_start = start_no_thread;
    pheap *first = machine_create(&machine, 0, 64), *second = machine_open(&machine.second, 0);
    const int event = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    pheap_watch *watch = NULL;
    expect_detail(PHEAP_NO_MEMORY, "thread", pheap_watch_begin(second, 0, event, &watch));
    ph_sim_fail_at(machine.sim, PH_SIM_MEMORY, 1, ENOMEM, PH_SIM_ONCE);
    expect(PHEAP_NO_MEMORY, pheap_watch_begin(first, 0, event, &watch));
    require(watch == NULL);
    require_equal(event_count(event, 20), 0);
    ok(pheap_close(second));
    ok(pheap_close(first));
    close(event);
    machine_end(&machine);
}

int main(int argc, char **argv)
{
    choose_cases(argc, argv);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(wait__at_once_or_not_at_all),
        cmocka_unit_test(wait__ping_pong_of_processes),
        cmocka_unit_test(wait__many_threads_miss_none),
        cmocka_unit_test(wait__goes_on_when_waiters_are_killed),
        cmocka_unit_test(wait__ends_when_the_heap_is_poisoned),
        cmocka_unit_test(wait__commit_before_it_is_awaited),
        cmocka_unit_test(wait__commit_just_before_sleep),
        cmocka_unit_test(wait__flushes_what_is_old),
        cmocka_unit_test(watch__tells_an_event_loop),
        cmocka_unit_test(watch__misses_none),
        cmocka_unit_test(watch__is_the_parents),
        cmocka_unit_test(watch__cannot_begin),
    };
    return cmocka_run_group_tests(tests, make_test_directory, remove_test_directory);
}
