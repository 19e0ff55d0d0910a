/* SPDX-License-Identifier: MIT */
/*
 * Which heap is it, and whose handle: two opens in a process, forks, links, files copied, deleted and replaced while in
 * use, coordination files of another boot; and handles and transactions used after their end.
 */
#include "tests/public.h"

#include "wal/coord.h"

/* Those that live. */
static unsigned count_users(pheap *heap)
{
    struct pheap_user user = {.size = sizeof user};
    unsigned users = 0;
    enum pheap_status status;
    for (uint32_t seat = 0; (status = pheap_next_user(heap, seat, &user)) == PHEAP_OK; seat = user.seat + 1) {
        users += user.alive;
    }
    expect(PHEAP_END, status);
    return users;
}

/* ------------------------------------------------------------------------------------------- handles of one process */

/* Catches: a second core in one process, whose locks the first one's do not exclude, and a close that ends both. */
static void handles__share_a_core(void **state)
{
    (void)state;
    const char *path = path_of("twice", "");
    pheap *first = create_heap(path);
    (void)make_root(first, 8);
    char detour[700];
    (void)snprintf(detour, sizeof detour, "%s/../%s/./twice", test_directory, strrchr(test_directory, '/') + 1);
    require(symlink("twice", path_of("twice-link", "")) == 0);
    pheap *second = open_heap(path);
    pheap *third = open_heap(detour);
    pheap *fourth = open_heap(path_of("twice-link", ""));
    require_equal(count_users(first), 1);
    require_equal(count_users(fourth), 1);
    commit_word(first, 0, 1, PHEAP_LAZY);
    require_equal(fresh_word(second, 0), 1);
    commit_word(third, 0, 2, PHEAP_LAZY);
    require_equal(fresh_word(fourth, 0), 2);

    /* One transaction a thread and heap, whatever the handle. */
    pheap_txn *txn = begin(first);
    void *address = pheap_ptr(txn, pheap_root(txn));
    pheap_txn *other = NULL;
    expect(PHEAP_INVALID, pheap_begin(second, &other));
    expect(PHEAP_INVALID, pheap_begin_timeout(fourth, 0, &other));
    put_word(txn, 0, 3);
    ok(pheap_close(second));
    expect(PHEAP_BUSY, pheap_close(first));
    put_word(txn, 1, 3);
    ok(pheap_commit(txn, PHEAP_LAZY, NULL));
    ok(pheap_close(first));
    require_equal(fresh_word(third, 1), 3);
    txn = begin(third);
    require(pheap_ptr(txn, pheap_root(txn)) == address);
    ok(pheap_abort(txn));
    ok(pheap_close(third));
    commit_word(fourth, 0, 4, PHEAP_DURABLE);
    ok(pheap_close(fourth));
    first = open_heap(path);
    require_equal(heap_info(first).recovered, 0);
    require_equal(fresh_word(first, 0), 4);
    ok(pheap_close(first));
}

/* Catches: POSIX record locks, which any close of the file in the process drops. */
static void handles__survive_an_unrelated_close(void **state)
{
    (void)state;
    const char *path = path_of("unrelated", "");
    pheap *heap = create_heap(path);
    (void)make_root(heap, 8);
    static const char *const suffixes[] = {"", "-wal", "-shm"};
    for (unsigned i = 0; i < 3; i++) {
        const int file = open(path_of("unrelated", suffixes[i]), O_RDWR | O_CLOEXEC);
        require(file >= 0);
        close(file);
    }
    pheap *second = open_heap(path);
    ok(pheap_close(second));
    /* If a lock were gone, this copy of the command would take itself for the first user. */
    const pid_t child = fork();
    require(child >= 0);
    if (child == 0) {
        pheap *anew;
        const enum pheap_status status = pheap_open(path, 0, NULL, &anew);
        _exit(status == PHEAP_OK && count_users(anew) == 2 ? 0 : 1);
    }
    int status = 1;
    require(waitpid(child, &status, 0) == child && status == 0);
    commit_word(heap, 0, 1, PHEAP_DURABLE);
    ok(pheap_close(heap));
}

/* Catches: a handle closed under a transaction or snapshot, which would then use what is gone. */
static void close__waits_for_nobody_but_refuses(void **state)
{
    (void)state;
    pheap *heap = create_heap(path_of("close-busy", ""));
    (void)make_root(heap, 8);
    pheap_txn *txn = begin(heap);
    expect(PHEAP_BUSY, pheap_close(heap));
    put_word(txn, 0, 1);
    ok(pheap_commit(txn, PHEAP_LAZY, NULL));
    pheap_read *reader = read_begin(heap, 0);
    expect(PHEAP_BUSY, pheap_close(heap));
    require_equal(read_word(reader, 0), 1);
    pheap_read_end(reader);
    ok(pheap_close(heap));
}

/* Catches: a transaction that goes on after its end: a change without a lock, or a second commit. */
static void ended__transaction_is_refused(void **state)
{
    (void)state;
    pheap *heap = create_heap(path_of("ended", ""));
    (void)make_root(heap, 8);
    for (unsigned how = 0; how < 2; how++) {
        pheap_txn *txn = begin(heap);
        uint64_t value = 99;
        uint32_t savepoint;
        const uint64_t root = pheap_root(txn);
        put_word(txn, 0, 1);
        ok(how == 0 ? pheap_commit(txn, PHEAP_LAZY, NULL) : pheap_abort(txn));
        expect(PHEAP_ENDED, pheap_edit(txn, root, 8, NULL));
        expect(PHEAP_ENDED, pheap_write(txn, root, &value, 8));
        expect(PHEAP_ENDED, pheap_fill(txn, root, 0, 8));
        expect(PHEAP_ENDED, pheap_alloc(txn, 8, &value));
        expect(PHEAP_ENDED, pheap_zalloc(txn, 8, &value));
        expect(PHEAP_ENDED, pheap_alloc_aligned(txn, 16, 8, &value));
        expect(PHEAP_ENDED, pheap_realloc(txn, &value, 8));
        expect(PHEAP_ENDED, pheap_free(txn, root));
        expect(PHEAP_ENDED, pheap_usable_size(txn, root, &value));
        expect(PHEAP_ENDED, pheap_set_root(txn, 0));
        expect(PHEAP_ENDED, pheap_savepoint(txn, &savepoint));
        expect(PHEAP_ENDED, pheap_rollback(txn, 1));
        expect(PHEAP_ENDED, pheap_commit(txn, PHEAP_LAZY, &value));
        expect(PHEAP_ENDED, pheap_abort(txn));
        require_equal(value, 99);
    }
    require_equal(fresh_word(heap, 0), 1);
    ok(pheap_close(heap));
}

/* ------------------------------------------------------------------------------------------------------------- fork */

/* In the child the handle is one of its own; what was begun before belongs to the parent. */
static int use_inherited(pheap *heap, pheap_txn *txn, pheap_read *reader, const char *path)
{
    pheap_txn *other = NULL;
    in_child = true;
    if (reader != NULL) {
        expect(PHEAP_FORKED, pheap_read_valid(reader));
        expect(PHEAP_FORKED, pheap_read_end(reader));
    }
    if (txn != NULL) {
        const uint64_t not_ours = ONE_OF(PHEAP_FORKED) | ONE_OF(PHEAP_WRONG_THREAD);
        expect_one(not_ours, pheap_edit(txn, 16384, 8, NULL));
        expect_one(not_ours, pheap_alloc(txn, 8, &(uint64_t){0}));
        expect_one(not_ours, pheap_commit(txn, PHEAP_LAZY, NULL));
        expect_one(not_ours, pheap_abort(txn));
    }
    (void)fresh_word(heap, 0);
    require_equal(count_users(heap), 2);
    pheap *anew = open_heap(path); /* shares the core that the handle has got */
    if (txn == NULL) {
        commit_word(anew, 1, 11, PHEAP_LAZY);
    } else {
        expect(PHEAP_TIMEOUT, pheap_begin_timeout(anew, 10, &other)); /* the parent holds it */
    }
    require_equal(count_users(anew), 2);
    ok(pheap_close(anew));
    ok(pheap_close(heap));
    return 0;
}

static void wait_for_child(pid_t child)
{
    int status = 1;
    require(waitpid(child, &status, 0) == child);
    if (status != 0) {
        check_failed(__FILE__, __LINE__, "the forked child ended with status 0x%x", (unsigned)status);
    }
}

static int use_in_grandchild(pheap *heap)
{
    in_child = true;
    commit_word(heap, 3, 1, PHEAP_LAZY);
    const pid_t child = fork();
    require(child >= 0);
    if (child == 0) {
        require_equal(fresh_word(heap, 3), 1);
        require_equal(count_users(heap), 3);
        commit_word(heap, 3, 2, PHEAP_DURABLE);
        ok(pheap_close(heap));
        _exit(0);
    }
    wait_for_child(child);
    require_equal(fresh_word(heap, 3), 2);
    return 0; /* without closing */
}

/* Catches: a child that uses its parent's locks, views or transaction, or whose end or close drops them. */
static void fork__child_has_a_handle_of_its_own(void **state)
{
    (void)state;
    const char *path = path_of("forked", "");
    pheap *heap = create_heap(path);
    (void)make_root(heap, 8);
    commit_word(heap, 0, 7, PHEAP_LAZY);
    (void)fresh_word(heap, 0);
    (void)fflush(NULL);
    pid_t child = fork();
    require(child >= 0);
    if (child == 0) {
        _exit(use_inherited(heap, NULL, NULL, path));
    }
    wait_for_child(child);
    require_equal(fresh_word(heap, 1), 11);
    require_equal(count_users(heap), 1);

    /* In the middle of a transaction and of a snapshot. */
    pheap_txn *txn = begin(heap);
    pheap_read *reader = read_begin(heap, 0);
    put_word(txn, 0, 8);
    child = fork();
    require(child >= 0);
    if (child == 0) {
        _exit(use_inherited(heap, txn, reader, path));
    }
    wait_for_child(child);
    require_equal(read_word(reader, 0), 7);
    put_word(txn, 2, 8);
    ok(pheap_commit(txn, PHEAP_DURABLE, NULL));
    pheap_read_end(reader);
    require_equal(fresh_word(heap, 0), 8);
    require_equal(fresh_word(heap, 2), 8);

    child = fork();
    require(child >= 0);
    if (child == 0) {
        _exit(use_in_grandchild(heap));
    }
    wait_for_child(child);
    require_equal(fresh_word(heap, 3), 2);

    /* A child that closes without having used it; with another file at the path; without any. */
    for (unsigned how = 0; how < 3; how++) {
        child = fork();
        require(child >= 0);
        if (child == 0) {
            in_child = true;
            if (how > 0) {
                require(rename(path, path_of("aside", "")) == 0);
            }
            if (how == 1) {
                copy_file(path_of("aside", ""), path);
            }
            if (how > 0) {
                expect(how == 1 ? PHEAP_REPLACED : PHEAP_NOT_FOUND, pheap_sync(heap));
                pheap *stranger;
                expect(how == 1 ? PHEAP_REPLACED : PHEAP_NOT_FOUND, pheap_open(path, 0, NULL, &stranger));
                require(rename(path_of("aside", ""), path) == 0);
            }
            ok(pheap_close(heap));
            _exit(0);
        }
        wait_for_child(child);
    }
    commit_word(heap, 3, 3, PHEAP_LAZY);

    /* A child that just exits, and one that outlives its parent's handle. */
    int gate[2];
    require(pipe2(gate, O_CLOEXEC) == 0);
    child = fork();
    require(child >= 0);
    if (child == 0) {
        char byte;
        close(gate[1]);
        _exit(read(gate[0], &byte, 1) == 0 ? 0 : 1);
    }
    close(gate[0]);
    commit_word(heap, 0, 9, PHEAP_LAZY);
    ok(pheap_close(heap));
    heap = open_heap(path);
    commit_word(heap, 0, 10, PHEAP_LAZY);
    require_equal(count_users(heap), 1);
    ok(pheap_close(heap));
    close(gate[1]);
    wait_for_child(child);
    heap = open_heap(path);
    require_equal(heap_info(heap).recovered, 0);
    require_equal(fresh_word(heap, 0), 10);
    check_sound(heap);
    ok(pheap_close(heap));
}

static void leave_a_child_behind(const struct peer *test, const char *path)
{
    pheap *heap = open_heap(path);
    pheap_read *reader = read_begin(heap, 0);
    pheap_txn *txn = begin(heap);
    require(read_word(reader, 0) == 0);
    put_word(txn, 0, 66);
    const pid_t child = fork();
    require(child >= 0);
    if (child == 0) {
        char byte;
        peer_tell(test, 'r');
        _exit(read(test->from, &byte, 1) == 0 ? 0 : 1); /* until the test closes its end */
    }
    pause();
}

/* Catches: locks and pins of a dead process that its child, which never used the heap, keeps alive. */
static void fork__child_outlives_its_parent(void **state)
{
    (void)state;
    const char *path = path_of("orphan", "");
    pheap *heap = create_heap(path);
    (void)make_root(heap, 64);
    struct peer child = peer_start(leave_a_child_behind, path);
    peer_hear(&child, 'r');
    int status = 0;
    require(kill(child.pid, SIGKILL) == 0 && waitpid(child.pid, &status, 0) == child.pid);
    pheap_txn *txn;
    ok(pheap_begin_timeout(heap, 20000, &txn));
    require_equal(get_word(txn, 0), 0);
    ok(pheap_abort(txn));
    for (uint64_t i = 0; i < 3000; i++) {
        commit_word(heap, i % 64, i, PHEAP_LAZY);
    }
    require_equal(count_users(heap), 1);
    ok(pheap_close(heap));
    heap = open_heap(path);
    require_equal(fresh_word(heap, 2999 % 64), 2999);
    ok(pheap_close(heap));
    close(child.to);
    close(child.from);
}

static void open_and_close(const struct peer *test, const char *path)
{
    (void)test;
    pheap *heap = open_heap(path);
    ok(pheap_close(heap));
}

/* Catches: a process that has left shown as one that died. */
static void users__who_closed_is_gone(void **state)
{
    (void)state;
    const char *path = path_of("users", "");
    pheap *heap = create_heap(path);
    struct peer child = peer_start(open_and_close, path);
    peer_join(&child);
    struct pheap_user user = {.size = sizeof user};
    ok(pheap_next_user(heap, 0, &user));
    require(user.self == 1 && user.alive == 1 && user.pid == getpid() && user.writing == 0 && user.pinned_version == 0);
    expect(PHEAP_END, pheap_next_user(heap, user.seat + 1, &user));
    ok(pheap_close(heap));
}

/* ------------------------------------------------------------------------------------------------- files under us */

/*
 * Opens the path it is given while the test holds a transaction on the heap.  Whoever gets in must be the second user:
 * it sees the commits and waits for the writer.  Refusing clearly is right as well.
 */
static void open_second(const struct peer *test, const char *path)
{
    pheap *heap = NULL;
    const enum pheap_status status = pheap_open(path, 0, NULL, &heap);
    if (status != PHEAP_OK) {
        require(heap == NULL && strlen(pheap_error_detail()) > 20);
        require(status != PHEAP_CORRUPT && status != PHEAP_INVALID);
        peer_tell(test, 'r');
        return;
    }
    pheap_txn *txn = NULL;
    require_equal(fresh_word(heap, 0), 1);
    expect(PHEAP_TIMEOUT, pheap_begin_timeout(heap, 20, &txn));
    peer_tell(test, 's');
    peer_hear(test, 'x');
    require_equal(fresh_word(heap, 0), 2);
    commit_word(heap, 1, 3, PHEAP_LAZY);
    ok(pheap_close(heap));
}

static void expect_second_user(pheap *heap, const char *path, const char *what)
{
    commit_word(heap, 0, 1, PHEAP_LAZY);
    pheap_txn *txn = begin(heap);
    put_word(txn, 0, 2);
    struct peer child = peer_start(open_second, path);
    char token = 0;
    require(read(child.from, &token, 1) == 1);
    if (token == 'r') {
        print_message("%s: refused\n", what);
        ok(pheap_commit(txn, PHEAP_LAZY, NULL));
    } else {
        require(token == 's');
        print_message("%s: shared\n", what);
        ok(pheap_commit(txn, PHEAP_LAZY, NULL));
        peer_tell(&child, 'x');
    }
    peer_join(&child);
    if (token == 's') {
        require_equal(fresh_word(heap, 1), 3);
    }
    require_equal(fresh_word(heap, 0), 2);
    check_sound(heap);
}

/* Catches: two "first users" of one file by two names, each with its own log. */
static void names__links_lead_to_the_same_heap(void **state)
{
    (void)state;
    const char *path = path_of("linked", "");
    pheap *heap = create_heap(path);
    (void)make_root(heap, 8);
    require(link(path, path_of("hard", "")) == 0);
    require(symlink("linked", path_of("symbolic", "")) == 0);
    expect_second_user(heap, path, "the same name");
    expect_second_user(heap, path_of("hard", ""), "a hard link");
    expect_second_user(heap, path_of("symbolic", ""), "a symbolic link");
    pheap *again = NULL;
    if (pheap_open(path_of("hard", ""), 0, NULL, &again) == PHEAP_OK) { /* in one process too */
        require_equal(count_users(heap), 1);
        commit_word(again, 5, 5, PHEAP_LAZY);
        require_equal(fresh_word(heap, 5), 5);
        ok(pheap_close(again));
    }
    ok(pheap_close(heap));
}

/* Catches: a second "first user" after the coordination file was deleted or replaced in use, and after a rename. */
static void names__coordination_file_deleted_or_replaced(void **state)
{
    (void)state;
    const char *path = path_of("without-shm", "");
    pheap *heap = create_heap(path);
    (void)make_root(heap, 8);
    commit_word(heap, 0, 1, PHEAP_LAZY);
    copy_file(path_of("without-shm", "-shm"), path_of("kept-shm", ""));
    require(unlink(path_of("without-shm", "-shm")) == 0);
    expect_second_user(heap, path, "-shm deleted");
    copy_file(path_of("kept-shm", ""), path_of("without-shm", "-shm"));
    expect_second_user(heap, path, "-shm replaced by a copy");
    copy_heap(path, path_of("twin", ""), false);
    pheap *twin = NULL;
    if (pheap_open(path_of("twin", ""), 0, NULL, &twin) == PHEAP_OK) {
        /* The same identity, and a living coordination file; but of another inode. */
        require(rename(path_of("twin", "-shm"), path_of("without-shm", "-shm")) == 0);
        expect_second_user(heap, path, "-shm replaced by that of a copy in use");
        ok(pheap_close(twin));
    }
    write_at(path_of("garbage", ""), 0, "garbage", 7);
    require(rename(path_of("garbage", ""), path_of("without-shm", "-shm")) == 0);
    expect_second_user(heap, path, "-shm replaced by garbage");
    ok(pheap_close(heap));
    heap = open_heap(path);
    require_equal(fresh_word(heap, 0), 2);
    expect_second_user(heap, path, "opened again");
    ok(pheap_close(heap));
}

/* Catches: writing to, or recovering with the log of, a heap that is not the one at this path any more. */
static void names__heap_renamed_and_replaced(void **state)
{
    (void)state;
    const char *path = path_of("renamed", "");
    pheap *heap = create_heap(path);
    (void)make_root(heap, 8);
    commit_word(heap, 0, 1, PHEAP_DURABLE);
    require(rename(path, path_of("elsewhere", "")) == 0);
    pheap *other = create_heap(path_of("substitute", ""));
    (void)make_root(other, 8);
    commit_word(other, 0, 50, PHEAP_LAZY);
    ok(pheap_close(other));
    require(rename(path_of("substitute", ""), path) == 0);

    /* The substitute beside the files of the one in use: refused, and nobody else's log is touched. */
    other = NULL;
    const enum pheap_status status = pheap_open(path, 0, NULL, &other);
    if (status == PHEAP_OK) {
        require_equal(fresh_word(other, 0), 50);
        ok(pheap_close(other));
    } else {
        require(other == NULL && strlen(pheap_error_detail()) > 20 && status != PHEAP_CORRUPT);
    }
    /* The open one says what happened. */
    pheap_txn *txn;
    next_clock_tick();
    expect_detail(PHEAP_REPLACED, path, pheap_begin(heap, &txn));
    ok(pheap_close(heap));
    require(rename(path, path_of("substitute", "")) == 0);
    require(rename(path_of("elsewhere", ""), path) == 0);
    heap = open_heap(path);
    require_equal(fresh_word(heap, 0), 1);
    check_sound(heap);
    ok(pheap_close(heap));
}

/* Catches: commits into a file that nobody will ever open again. */
static void names__removed_while_in_use(void **state)
{
    (void)state;
    static const char *const suffixes[] = {"", "-wal"};
    for (unsigned i = 0; i < 2; i++) {
        const char *path = path_of(i == 0 ? "removed" : "log-removed", "");
        pheap *heap = create_heap(path);
        pheap_txn *txn;
        (void)make_root(heap, 8);
        commit_word(heap, 0, 1, PHEAP_DURABLE);
        char name[600];
        (void)snprintf(name, sizeof name, "%s%s", path, suffixes[i]);
        require(rename(name, path_of("kept", "")) == 0);
        next_clock_tick();
        expect_detail(PHEAP_REPLACED, name, pheap_begin(heap, &txn));
        require(rename(path_of("kept", ""), name) == 0);
        commit_word(heap, 0, 2, PHEAP_LAZY); /* all is well again */
        ok(pheap_close(heap));
        heap = open_heap(path);
        require_equal(fresh_word(heap, 0), 2);
        ok(pheap_close(heap));
    }
}

/* Catches: a program that gives up its rights after it has opened the heap, and can then no longer write. */
static void names__out_of_sight(void **state)
{
    (void)state;
    const char *path = path_of("private/heap", "");
    require(mkdir(path_of("private", ""), 0700) == 0);
    pheap *heap = create_heap(path);
    (void)make_root(heap, 8);
    if (geteuid() != 0) {
        ok(pheap_close(heap));
        print_message("skipped: no rights to give up\n");
        skip();
    }
    const pid_t child = fork();
    require(child >= 0);
    if (child == 0) {
        in_child = true;
        commit_word(heap, 0, 1, PHEAP_DURABLE);
        require(setresuid(65534, 65534, 65534) == 0);
        next_clock_tick();
        commit_word(heap, 0, 2, PHEAP_DURABLE);
        ok(pheap_close(heap));
        _exit(0);
    }
    wait_for_child(child);
    require_equal(fresh_word(heap, 0), 2);
    ok(pheap_close(heap));
}

/* ------------------------------------------------------------------------------------------------------ copied files */

static void write_for_ever(const struct peer *test, const char *path)
{
    pheap *heap = open_heap(path);
    peer_tell(test, 'r');
    for (uint64_t i = 1;; i++) {
        pheap_txn *txn = begin(heap);
        for (uint64_t j = 0; j < 64; j++) {
            put_word(txn, j * 16, i);
        }
        ok(pheap_commit(txn, i % 16 == 0 ? PHEAP_DURABLE : PHEAP_LAZY, NULL));
    }
}

/* All words of one transaction, or none. */
static uint64_t common_word(pheap *heap)
{
    pheap_read *reader = read_begin(heap, PHEAP_FRESH);
    const uint64_t value = read_word(reader, 0);
    for (uint64_t j = 0; j < 64; j++) {
        require_equal(read_word(reader, j * 16), value);
    }
    ok(pheap_check(reader, print_fault, NULL, NULL));
    pheap_read_end(reader);
    return value;
}

/* Catches: a copy taken in use (heap, log and coordination file, each at another moment) that opens inconsistently, or
 * takes the original's coordination file for its own. */
static void copies__taken_in_use_open_consistently_or_not(void **state)
{
    (void)state;
    const char *path = path_of("original", "");
    pheap *heap = create_heap(path);
    (void)make_root(heap, 1024);
    struct peer child = peer_start(write_for_ever, path);
    peer_hear(&child, 'r');
    unsigned opened = 0;
    for (unsigned i = 0; i < 12; i++) {
        char name[32];
        (void)snprintf(name, sizeof name, "copy-%u", i);
        const char *copy = path_of(name, "");
        copy_heap(path, copy, i % 2 == 0);
        pheap *other = NULL;
        const enum pheap_status status = pheap_open(copy, 0, NULL, &other);
        if (status == PHEAP_OK) {
            opened++;
            require_equal(count_users(other), 1);
            const uint64_t value = common_word(other);
            commit_word(other, 1, value, PHEAP_LAZY);
            require(common_word(heap) >= value);
            ok(pheap_close(other));
        } else {
            require(other == NULL);
            (void)expect_one(ONE_OF(PHEAP_CORRUPT) | ONE_OF(PHEAP_LOG_FOREIGN) | ONE_OF(PHEAP_LOG_MISSING), status);
        }
    }
    print_message("%u of 12 copies opened\n", opened);
    peer_kill(&child);
    (void)common_word(heap);
    ok(pheap_close(heap));
}

static void commit_and_pause(const struct peer *test, const char *path)
{
    pheap *heap = open_heap(path);
    for (uint64_t i = 1; i <= 40; i++) {
        commit_word(heap, 0, i, i <= 20 ? PHEAP_DURABLE : PHEAP_LAZY);
    }
    peer_tell(test, 'r');
    pause();
}

/* Catches: marks and locks of a coordination file believed after a reboot, when the log holds less than they say. */
static void boot__coordination_file_of_another_is_ignored(void **state)
{
    (void)state;
    const char *path = path_of("rebooted", "");
    create_closed_heap(path, 8);
    struct peer child = peer_start(commit_and_pause, path);
    peer_hear(&child, 'r');
    peer_kill(&child);
    uint8_t boot_id[16];
    read_at(path_of("rebooted", "-shm"), offsetof(struct ph_coord, boot_id), boot_id, sizeof boot_id);
    boot_id[5] ^= 0x40;
    write_at(path_of("rebooted", "-shm"), offsetof(struct ph_coord, boot_id), boot_id, sizeof boot_id);
    pheap *heap = open_heap(path);
    require_equal(heap_info(heap).recovered, 1);
    const uint64_t value = fresh_word(heap, 0);
    require(value >= 20 && value <= 40); /* the LAZY ones may be in the buffer still */
    check_sound(heap);
    commit_word(heap, 0, 100, PHEAP_DURABLE);
    ok(pheap_close(heap));

    /* Copied in the middle of a transaction, and put back after the heap had gone on. */
    child = peer_start(commit_and_pause, path);
    peer_hear(&child, 'r');
    copy_file(path_of("rebooted", "-shm"), path_of("old-shm", ""));
    peer_kill(&child);
    heap = open_heap(path);
    require_equal(fresh_word(heap, 0), 40);
    commit_word(heap, 0, 200, PHEAP_DURABLE);
    ok(pheap_close(heap));
    copy_file(path_of("old-shm", ""), path_of("rebooted", "-shm"));
    heap = open_heap(path);
    require_equal(fresh_word(heap, 0), 200);
    commit_word(heap, 0, 201, PHEAP_LAZY);
    ok(pheap_close(heap));
    heap = open_heap(path);
    require_equal(fresh_word(heap, 0), 201);
    ok(pheap_close(heap));
}

/* Catches: a coordination file whose contents are trusted: any byte of its head changed while nobody is attached. */
static void boot__rotten_coordination_file_does_no_harm(void **state)
{
    (void)state;
    const char *path = path_of("rotten-shm", "");
    create_closed_heap(path, 8);
    for (unsigned i = 0; i < 40; i++) {
        struct peer child = peer_start(commit_and_pause, path);
        peer_hear(&child, 'r');
        peer_kill(&child);
        static unsigned char noise[4096];
        for (size_t j = 0; j < sizeof noise; j++) {
            noise[j] = (unsigned char)(j * 2654435761u >> 13 ^ i * 77);
        }
        const char *shm = path_of("rotten-shm", "-shm");
        const uint64_t size = file_size(shm);
        switch (i % 4) {
        case 0:
            require(truncate(shm, (off_t)(size * i / 40)) == 0);
            break;
        case 1: /* one word of the head */
            write_at(shm, i / 4 * 64 % 2048, noise, 8);
            break;
        case 2: /* all of the head but what says that it is ours */
            write_at(shm, 128, noise, 2048);
            break;
        default: /* the log buffer */
            write_at(shm, size - 8192 + i * 64, noise, 4096);
            break;
        }
        pheap *heap = open_heap(path);
        const uint64_t value = fresh_word(heap, 0);
        require(value >= 20 && value <= 40); /* what was durable is there */
        check_sound(heap);
        commit_word(heap, 0, 0, PHEAP_DURABLE);
        ok(pheap_close(heap));
    }
}

/* Thread ids may be those of others there. */
static void open_elsewhere(const char *path)
{
    pheap *heap = NULL;
    const enum pheap_status status = pheap_open(path, 0, NULL, &heap);
    if (status == PHEAP_OK) { /* safe locks would do as well as a refusal */
        pheap_txn *txn;
        expect(PHEAP_TIMEOUT, pheap_begin_timeout(heap, 20, &txn));
        ok(pheap_close(heap));
    } else {
        expect_detail(PHEAP_NAMESPACE, "namespace", status);
    }
}

/* Catches: robust locks shared by processes of different PID namespaces, where a dead owner's id may be a living one. */
static void boot__other_pid_namespace_is_told_apart(void **state)
{
    (void)state;
    const char *path = path_of("namespaces", "");
    pheap *heap = create_heap(path);
    (void)make_root(heap, 8);
    pheap_txn *txn = begin(heap);
    const int status = run_in_namespace(open_elsewhere, path);
    put_word(txn, 0, 1);
    ok(pheap_commit(txn, PHEAP_LAZY, NULL));
    ok(pheap_close(heap));
    if (status == NO_NAMESPACE) {
        print_message("skipped: no right to make a PID namespace\n");
        skip();
    }
    require_equal(status, 0);
}

/* ---------------------------------------------------------------------------------------------------------- readers */

static void read_only_beside_a_writer(const struct peer *test, const char *path)
{
    pheap *heap = NULL;
    ok(pheap_open(path, PHEAP_READONLY, NULL, &heap));
    pheap_txn *txn = NULL;
    expect(PHEAP_READ_ONLY, pheap_begin(heap, &txn));
    for (uint64_t i = 1; i <= 20; i++) {
        peer_tell(test, 'g');
        peer_hear(test, 'd');
        require_equal(fresh_word(heap, 0), i);
    }
    check_sound(heap);
    ok(pheap_close(heap));
}

/* Catches: a read-only handle that shows an old version, or that holds the writer up. */
static void readonly__handle_follows_a_writer(void **state)
{
    (void)state;
    const char *path = path_of("followed", "");
    pheap *heap = create_heap(path);
    (void)make_root(heap, 8);
    struct peer child = peer_start(read_only_beside_a_writer, path);
    for (uint64_t i = 1; i <= 20; i++) {
        peer_hear(&child, 'g');
        for (unsigned j = 0; j < 100; j++) {
            commit_word(heap, 1, i * 1000 + j, PHEAP_LAZY);
        }
        commit_word(heap, 0, i, PHEAP_LAZY);
        peer_tell(&child, 'd');
    }
    peer_join(&child);
    ok(pheap_close(heap));
}

int main(int argc, char **argv)
{
    choose_cases(argc, argv);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(handles__share_a_core),
        cmocka_unit_test(handles__survive_an_unrelated_close),
        cmocka_unit_test(close__waits_for_nobody_but_refuses),
        cmocka_unit_test(ended__transaction_is_refused),
        cmocka_unit_test(names__removed_while_in_use),
        cmocka_unit_test(names__out_of_sight),
        cmocka_unit_test(fork__child_has_a_handle_of_its_own),
        cmocka_unit_test(fork__child_outlives_its_parent),
        cmocka_unit_test(users__who_closed_is_gone),
        cmocka_unit_test(names__links_lead_to_the_same_heap),
        cmocka_unit_test(names__coordination_file_deleted_or_replaced),
        cmocka_unit_test(names__heap_renamed_and_replaced),
        cmocka_unit_test(copies__taken_in_use_open_consistently_or_not),
        cmocka_unit_test(boot__coordination_file_of_another_is_ignored),
        cmocka_unit_test(boot__rotten_coordination_file_does_no_harm),
        cmocka_unit_test(boot__other_pid_namespace_is_told_apart),
        cmocka_unit_test(readonly__handle_follows_a_writer),
    };
    return cmocka_run_group_tests(tests, make_test_directory, remove_test_directory);
}
