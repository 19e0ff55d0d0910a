/* SPDX-License-Identifier: MIT */
/*
 * A process that is stopped, or killed, between any two of its instructions, and what others do then: the tests run it
 * step by step, as a debugger does.  What goes wrong only in a window of a few instructions is met each time.
 *
 * Not under the sanitizers, whose instructions it would count; nor where the system lets nobody trace his own child.
 */
#include "pheap/core.h"
#include "tests/public.h"
#include "tests/support/effort.h"

#include <linux/futex.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/user.h>

#define STEPS (!SANITIZED)

#define PAGES 1500u
#define WORDS_PER_PAGE 512u

/* ------------------------------------------------------------------------------------------------------- single steps */

/* In the child: from here on the test decides about each step. */
static void hand_over(void)
{
    if (ptrace(PTRACE_TRACEME, 0, NULL, NULL) != 0)
        _exit(77);
}

/* Wait until the child stops: false if it has ended instead, *status says how. */
static bool await_stop(const struct peer *child, int *status)
{
    require(waitpid(child->pid, status, 0) == child->pid);
    return WIFSTOPPED(*status);
}

/* The child has come to a place where it stops itself; the case is skipped if it may not be traced. */
static void await_own_stop(const struct peer *child)
{
    int status;
    if (!await_stop(child, &status)) {
        if (WIFEXITED(status) && WEXITSTATUS(status) == 77) {
            print_message("skipped: this system does not let a process trace its child\n");
            skip();
        }
        check_failed(__FILE__, __LINE__, "the child ended with status 0x%x", (unsigned)status);
    }
    require_equal(WSTOPSIG(status), SIGSTOP);
}

static void go_on(const struct peer *child)
{
    require(ptrace(PTRACE_CONT, child->pid, NULL, NULL) == 0);
}

/* One instruction; false if the child has stopped by itself. */
static bool step(const struct peer *child)
{
    int status;
    require(ptrace(PTRACE_SINGLESTEP, child->pid, NULL, NULL) == 0);
    require(await_stop(child, &status));
    return WSTOPSIG(status) == SIGTRAP;
}

/* -------------------------------------------------------------------------------------------------------------- pins */

/*
 * Round r stores r in the first page, which every reader has a private copy of, and in page 1 + r, which none has.
 *
 * DURABLE where the child is to be stopped next: on a machine so busy that what is LAZY comes to be a second old, the child
 * would flush it, and be stopped with the lock for which this process then waits.
 */
static void commit_round(pheap *heap, uint64_t round, enum pheap_durability how)
{
    pheap_txn *txn = begin(heap);
    put_word(txn, 0, round);
    put_word(txn, (1 + round) * WORDS_PER_PAGE, round);
    ok(pheap_commit(txn, how, NULL));
}

static void read_again_and_again(const struct peer *test, const char *path)
{
    (void)test;
    pheap *heap = open_heap(path);
    hand_over();
    for (;;) {
        (void)raise(SIGSTOP);
        pheap_read *reader = read_begin(heap, 0);
        const uint64_t round = read_word(reader, 0);
        for (uint64_t r = round < 10 ? 1 : round - 9; r <= round + 10; r++)
            require_equal(read_word(reader, (1 + r) * WORDS_PER_PAGE), r <= round ? r : 0);
        pheap_read_end(reader);
    }
}

/*
 * Catches: a reader whose pin a fold does not see, because of the order in which the two store and look (R3): what the
 * reader's untouched pages show is then newer than its version.
 */
static void pin__a_fold_at_every_instruction_of_begin(void **state)
{
    (void)state;
    if (!STEPS)
        skip();
    const char *path = path_of("pin", "");
    pheap *heap = create_heap(path);
    (void)make_root(heap, PAGES * WORDS_PER_PAGE);
    struct peer child = peer_start(read_again_and_again, path);
    await_own_stop(&child);
    const struct ph_coord *coord = heap->core->coord;
    const uint32_t seat = heap->core->store.seat == 0 ? 1 : 0;
    uint64_t steps = 0, pinned_at = 0, round = 0;
    while (pinned_at == 0 || steps < pinned_at + 40) {
        commit_round(heap, ++round, PHEAP_DURABLE); /* so that the reader has somewhere to move */
        bool inside = true;
        for (uint64_t i = 0; i < steps && inside; i++)
            inside = step(&child);
        require(inside);
        if (pinned_at == 0 && atomic_load(&coord->seats[seat].pins[0].lsn) != 0)
            pinned_at = steps;
        commit_round(heap, ++round, PHEAP_LAZY);
        ok(pheap_fold(heap));
        go_on(&child);
        await_own_stop(&child);
        steps++;
        require(round + 20 < PAGES);
    }
    print_message("a fold after each of the first %llu instructions of a reader, whose pin is there after %llu\n",
                  (unsigned long long)steps, (unsigned long long)pinned_at);
    peer_kill(&child);
    check_sound(heap);
    ok(pheap_close(heap));
}

static void wake_again_and_again(const struct peer *test, const char *path)
{
    (void)test;
    pheap *heap = open_heap(path);
    hand_over();
    for (;;) {
        ok(pheap_set_mark(heap, PHEAP_MARK_RESTS));
        (void)raise(SIGSTOP);
        pheap_read *reader = read_begin(heap, PHEAP_FRESH);
        ok(pheap_set_mark(heap, pheap_read_version(reader)));
        pheap_read_end(reader);
        (void)raise(SIGSTOP);
    }
}

/* The lowest mark, and the version that a transaction which asks for it begins with. */
static uint64_t ask_for_mark(pheap *heap, uint64_t *version)
{
    uint64_t mark;
    pheap_txn *txn = begin(heap);
    ok(pheap_lowest_mark(txn, &mark));
    *version = pheap_version(txn) - 1;
    ok(pheap_abort(txn));
    return mark;
}

/* Catches: a process that rests, whose reader a writer does not see, and that sees less than the writer began with. */
static void mark__a_commit_at_every_instruction_of_begin(void **state)
{
    (void)state;
    if (!STEPS)
        skip();
    const char *path = path_of("mark", "");
    pheap *heap = create_heap(path);
    (void)make_root(heap, PAGES * WORDS_PER_PAGE);
    struct peer child = peer_start(wake_again_and_again, path);
    await_own_stop(&child);
    uint64_t steps = 0, round = 0, seen_at = 0;
    for (; seen_at == 0 || steps < seen_at + 40; steps++) {
        uint64_t version, now;
        commit_round(heap, ++round, PHEAP_DURABLE);
        for (uint64_t i = 0; i < steps; i++)
            require(step(&child));
        commit_round(heap, ++round, PHEAP_DURABLE);
        const uint64_t asked = ask_for_mark(heap, &version);
        if (seen_at == 0 && asked != PHEAP_MARK_RESTS)
            seen_at = steps;
        go_on(&child);
        await_own_stop(&child);
        const uint64_t seen = ask_for_mark(heap, &now);
        require(seen >= (asked < version ? asked : version));
        go_on(&child);
        await_own_stop(&child);
        require(round + 20 < PAGES);
    }
    print_message("a commit after each of the first %llu instructions of a reader, which is seen after %llu\n",
                  (unsigned long long)steps, (unsigned long long)seen_at);
    peer_kill(&child);
    ok(pheap_close(heap));
}

/* ------------------------------------------------------------------------------------------------------------- poison */

static _Atomic int *synced; /* the status of the child's last sync */

static void sync_again_and_again(const struct peer *test, const char *path)
{
    (void)test;
    pheap *heap = open_heap(path);
    hand_over();
    for (;;) {
        (void)raise(SIGSTOP);
        atomic_store(synced, (int)pheap_sync(heap));
    }
}

/* Catches: a flush by one who has looked whether the heap is poisoned before another's flush failed, and has not looked
 * again since (R7): it writes over what failed, and may acknowledge it. */
static void poison__at_every_instruction_before_a_flush(void **state)
{
    (void)state;
    if (!STEPS)
        skip();
    const char *path = path_of("poison", "");
    pheap *heap = create_heap(path);
    (void)make_root(heap, PAGES * WORDS_PER_PAGE);
    synced = shared_memory(sizeof *synced);
    struct peer child = peer_start(sync_again_and_again, path);
    await_own_stop(&child);
    struct ph_coord *coord = heap->core->coord;
    uint64_t steps = 0, round = 0;
    for (;; steps++) {
        do /* a commit may find the buffer half full, and flush */
            commit_round(heap, ++round, PHEAP_LAZY);
        while (atomic_load(&coord->durable) == atomic_load(&coord->committed));
        const uint64_t durable = atomic_load(&coord->durable);
        atomic_store(synced, -1);
        for (uint64_t i = 0; i < steps; i++)
            require(step(&child));
        if (ph_mutex_trylock(&coord->flush_lock) != PH_MUTEX_ACQUIRED)
            break; /* the child has it: it may write */
        atomic_store(&coord->poisoned, 1);
        ph_mutex_unlock(&coord->flush_lock);
        go_on(&child);
        await_own_stop(&child);
        require_equal(atomic_load(synced), PHEAP_POISONED);
        require_equal(atomic_load(&coord->durable), durable);
        atomic_store(&coord->poisoned, 0); /* it was nothing */
        require(round + 20 < PAGES);
    }
    print_message("a failure after each of the first %llu instructions of a flush\n", (unsigned long long)steps);
    require(steps > 20);
    peer_kill(&child);
    ok(pheap_sync(heap));
    check_sound(heap);
    ok(pheap_close(heap));
}

/* ------------------------------------------------------------------------------------------------------------ waiting */

#if STEPS && defined(__x86_64__)
#define WAIT_STEPS 200u

static void wait_again_and_again(const struct peer *test, const char *path)
{
    (void)test;
    pheap *heap = open_heap(path);
    uint64_t seen = 0;
    ok(pheap_newest_version(heap, &seen));
    hand_over();
    for (;;) {
        (void)raise(SIGSTOP);
        ok(pheap_wait(heap, seen, PEER_PATIENCE_MS, &seen));
    }
}

/* The child is about to go to sleep. */
static bool before_sleep(const struct peer *child)
{
    struct user_regs_struct registers;
    require(ptrace(PTRACE_GETREGS, child->pid, NULL, &registers) == 0);
    errno = 0;
    const long code = ptrace(PTRACE_PEEKTEXT, child->pid, registers.rip, NULL);
    return errno == 0 && (code & 0xffff) == 0x050f && registers.rax == SYS_futex &&
           ((int)registers.rsi & FUTEX_CMD_MASK) == FUTEX_WAIT;
}

/* Let the child go on until it stops itself; no sleep on the way may end because its time was over. */
static void go_on_awake(const struct peer *child)
{
    for (;;) {
        struct user_regs_struct registers;
        int status;
        require(ptrace(PTRACE_SYSCALL, child->pid, NULL, NULL) == 0);
        require(await_stop(child, &status));
        if (WSTOPSIG(status) == SIGSTOP)
            return;
        require(ptrace(PTRACE_GETREGS, child->pid, NULL, &registers) == 0);
        require(registers.orig_rax != SYS_futex || (int64_t)registers.rax != -ETIMEDOUT);
    }
}

/* Catches: a waiter that can miss the commit it waits for, because of the order in which it looks and reads the word that
 * it sleeps on: it then sleeps until its slice of time is over. */
static void wait__a_commit_at_every_instruction_before_sleep(void **state)
{
    (void)state;
    const char *path = path_of("wait", "");
    pheap *heap = create_heap(path);
    (void)make_root(heap, PAGES * WORDS_PER_PAGE);
    struct peer child = peer_start(wait_again_and_again, path);
    await_own_stop(&child);
    uint64_t steps = 0, round = 0;
    for (unsigned time = 0; time < 2; time++) { /* the first time there is more to do, for the dynamic linker */
        for (steps = 0; !before_sleep(&child); steps++)
            require(step(&child));
        commit_round(heap, ++round, PHEAP_DURABLE);
        go_on_awake(&child);
    }
    require(steps > WAIT_STEPS);
    for (uint64_t before = 1; before <= WAIT_STEPS; before++) {
        for (uint64_t i = before; i < steps && !before_sleep(&child);
             i++) /* the way may be shorter by a look at the clock */
            require(step(&child));
        commit_round(heap, ++round, PHEAP_DURABLE);
        go_on_awake(&child);
    }
    print_message("a commit after each of the last %u of %llu instructions before a sleep\n", WAIT_STEPS,
                  (unsigned long long)steps);
    peer_kill(&child);
    ok(pheap_close(heap));
}
#endif

/* -------------------------------------------------------------------------------------------------------------- death */

#define WORDS 64u
#define DEATHS 60u

static void put_all(pheap *heap, uint64_t value, bool stop)
{
    pheap_txn *txn = begin(heap);
    for (uint64_t i = 0; i < WORDS; i += 9)
        put_word(txn, i, value);
    if (stop)
        (void)raise(SIGSTOP);
    ok(pheap_commit(txn, PHEAP_LAZY, NULL));
}

static uint64_t get_all(pheap *heap)
{
    pheap_read *reader = read_begin(heap, PHEAP_FRESH);
    const uint64_t value = read_word(reader, 0);
    for (uint64_t i = 0; i < WORDS; i += 9)
        require_equal(read_word(reader, i), value);
    pheap_read_end(reader);
    return value;
}

static void commit_stepwise(const struct peer *test, const char *path)
{
    (void)test;
    pheap *heap = open_heap(path);
    hand_over();
    put_all(heap, get_all(heap) + 1, true);
    (void)raise(SIGSTOP);
}

/* Catches: marks, locks, records or a view that a writer leaves unusable, or half changed, wherever in a commit it is
 * killed (R6). */
static void death__at_any_instruction_of_a_commit(void **state)
{
    (void)state;
    if (!STEPS)
        skip();
    const char *path = path_of("death", "");
    pheap *heap = create_heap(path);
    (void)make_root(heap, WORDS);
    uint64_t length = 1, done = 0; /* instructions of a commit, as far as they are known */
    struct peer child = peer_start(commit_stepwise, path);
    await_own_stop(&child);
    while (step(&child))
        length++;
    peer_kill(&child);
    const uint64_t offset = choose_seed();
    for (uint64_t i = 0; i < DEATHS; i++) {
        const uint64_t before = get_all(heap), steps = (i * length + offset % length) / DEATHS;
        child = peer_start(commit_stepwise, path);
        await_own_stop(&child);
        bool inside = true;
        for (uint64_t j = 0; j < steps && inside; j++)
            inside = step(&child);
        peer_kill(&child);
        const uint64_t after = get_all(heap);
        require(after == before || after == before + 1);
        done += after != before;
        put_all(heap, after + 1, false);
        require_equal(get_all(heap), after + 1);
        if (i % 8 == 0)
            ok(pheap_checkpoint(heap));
    }
    print_message("%u deaths in a commit of about %llu instructions, %llu of them behind the point of no return\n",
                  DEATHS, (unsigned long long)length, (unsigned long long)done);
    require(done > 0 && done < DEATHS);
    check_sound(heap);
    ok(pheap_close(heap));
    heap = open_heap(path);
    (void)get_all(heap);
    check_sound(heap);
    ok(pheap_close(heap));
}

int main(int argc, char **argv)
{
    choose_cases(argc, argv);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(pin__a_fold_at_every_instruction_of_begin),
        cmocka_unit_test(mark__a_commit_at_every_instruction_of_begin),
        cmocka_unit_test(poison__at_every_instruction_before_a_flush),
#if STEPS && defined(__x86_64__)
        cmocka_unit_test(wait__a_commit_at_every_instruction_before_sleep),
#endif
        cmocka_unit_test(death__at_any_instruction_of_a_commit),
    };
    return cmocka_run_group_tests(tests, make_test_directory, remove_test_directory);
}
