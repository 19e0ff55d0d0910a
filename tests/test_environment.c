/* SPDX-License-Identifier: MIT */
/*
 * What a program and its surroundings may do to an open heap: exec in the midst of a transaction, close descriptors that
 * are not its own, load the library twice, step the clock, run in another PID namespace under the same PID, or put an old
 * coordination file back.
 */
#include "tests/public.h"

#include "io/posix.h"
#include "pheap/core.h"

#include <dlfcn.h>

/* ----------------------------------------------------------------------------------------------------------- exec */

/*
 * Catches: descriptors of the heap that a program inherits which is started in a transaction, so that locks outlive their
 * owner; and a transaction that its parent loses by that.
 */
static void exec__in_a_transaction(void **state)
{
    (void)state;
    const char *path = path_of("exec", "");
    const char *list = path_of("listing", "");
    pheap *heap = create_heap(path);
    (void)make_root(heap, 8);
    pheap_txn *txn = begin(heap);
    put_word(txn, 0, 5);
    int gate[2];
    require(pipe2(gate, O_CLOEXEC) == 0);
    const pid_t child = fork();
    require(child >= 0);
    if (child == 0) {
        char command[1500];
        enter_child();
        (void)snprintf(command, sizeof command, "ls -l /proc/self/fd >'%s.part' && mv '%s.part' '%s'; read -r line",
                       list, list, list);
        require(dup2(gate[0], 0) == 0);
        execl("/bin/sh", "sh", "-c", command, (char *)NULL);
        _exit(1);
    }
    close(gate[0]);
    put_word(txn, 1, 6);
    ok(pheap_commit(txn, PHEAP_DURABLE, NULL));
    for (unsigned i = 0; access(list, F_OK) != 0; i++) {
        require(i < PEER_PATIENCE_MS);
        pause_us(1000);
    }
    require(run_command("! grep -qF '%s' '%s'", path, list) == 0); /* neither heap nor log nor coordination file */
    ok(pheap_close(heap));
    heap = open_heap(path); /* the other program still runs: it was the last one to close all the same */
    require_equal(heap_info(heap).recovered, 0);
    require_equal(fresh_word(heap, 0), 5);
    require_equal(fresh_word(heap, 1), 6);
    ok(pheap_close(heap));
    close(gate[1]);
    require(waitpid(child, NULL, 0) == child);
}

/* ----------------------------------------------------------------------------------------------------- two copies */

/* The calls of one copy of the library. */
struct copy {
    enum pheap_status (*open)(const char *, unsigned, const struct pheap_options *, pheap **);
    enum pheap_status (*close)(pheap *);
    enum pheap_status (*begin)(pheap *, int64_t, pheap_txn **);
    enum pheap_status (*write)(pheap_txn *, uint64_t, const void *, uint64_t);
    enum pheap_status (*commit)(pheap_txn *, enum pheap_durability, uint64_t *);
    uint64_t (*root)(pheap_txn *);
    const char *(*detail)(void);
};

static void load(struct copy *copy, const char *path)
{
    void *library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    if (library == NULL) {
        check_failed(__FILE__, __LINE__, "%s", dlerror());
    }
    /* C has no conversion from void * to a function. */
    *(void **)&copy->open = dlsym(library, "pheap_open");
    *(void **)&copy->close = dlsym(library, "pheap_close");
    *(void **)&copy->begin = dlsym(library, "pheap_begin_timeout");
    *(void **)&copy->write = dlsym(library, "pheap_write");
    *(void **)&copy->commit = dlsym(library, "pheap_commit");
    *(void **)&copy->root = dlsym(library, "pheap_root");
    *(void **)&copy->detail = dlsym(library, "pheap_error_detail");
}

static void write_through(const struct copy *copy, pheap *heap, uint64_t index, uint64_t value)
{
    pheap_txn *txn;
    ok(copy->begin(heap, 1000, &txn));
    ok(copy->write(txn, copy->root(txn) + index * sizeof value, &value, sizeof value));
    ok(copy->commit(txn, PHEAP_LAZY, NULL));
}

/* In a child: what a library leaves in a process stays there. */
static void use_two_copies(const struct peer *test, const char *path)
{
    (void)test;
    const struct pheap_options options = {.size = sizeof options, .reserve_bytes = 1u << 30};
    struct copy copies[2];
    pheap *heaps[2];
    for (size_t i = 0; i < 2; i++) {
        const char *library = path_of(i == 0 ? "one" : "two", ".so");
        copy_file(PH_LIBRARY, library);
        load(&copies[i], library);
        ok(copies[i].open(path, 0, &options, &heaps[i]));
    }
    require(copies[0].open != copies[1].open);
    for (uint64_t i = 0; i < 400; i++) { /* enough to lap the buffer and to recycle the log */
        write_through(&copies[i % 2], heaps[i % 2], i % 8, i);
    }
    /* One thread, two transactions: the second is refused, and not a hang or an overlap. */
    pheap_txn *first;
    pheap_txn *second = NULL;
    ok(copies[0].begin(heaps[0], 1000, &first));
    require(copies[1].begin(heaps[1], 50, &second) != PHEAP_OK && second == NULL);
    require(copies[1].detail()[0] != 0);
    ok(copies[0].commit(first, PHEAP_DURABLE, NULL));
    /* The first to close must not take the other's locks along. */
    ok(copies[0].close(heaps[0]));
    write_through(&copies[1], heaps[1], 0, 1000);
    pheap *third; /* of this program's own copy, which knows nothing of the other */
    ok(pheap_open(path, 0, &options, &third));
    require_equal(fresh_word(third, 0), 1000);
    require_equal(heap_info(third).recovered, 0);
    ok(copies[1].close(heaps[1]));
    commit_word(third, 1, 1001, PHEAP_LAZY);
    ok(pheap_close(third));
}

/*
 * Catches: locks that belong to the process and not to the open file, so that two copies of the library in one process
 * recover a heap under each other, or one's close drops the other's locks.
 */
static void copies_of_the_library__are_like_processes(void **state)
{
    (void)state;
    const char *path = path_of("copies", "");
    create_closed_heap(path, 8);
    struct peer child = peer_start(use_two_copies, path);
    peer_join(&child);
    pheap *heap = open_heap(path);
    require_equal(heap_info(heap).recovered, 0);
    require_equal(fresh_word(heap, 0), 1000);
    require_equal(fresh_word(heap, 1), 1001);
    check_sound(heap);
    ok(pheap_close(heap));
}

/* ---------------------------------------------------------------------------------------------------- descriptors */

/* The heap's descriptors, which this process has no business to close. */
static void close_its_files(const char *path)
{
    for (int file = 3; file < 64; file++) {
        char link[64];
        char target[640];
        (void)snprintf(link, sizeof link, "/proc/self/fd/%d", file);
        const ssize_t length = readlink(link, target, sizeof target - 1);
        if (length > 0 && (size_t)length >= strlen(path) && strncmp(target, path, strlen(path)) == 0) {
            close(file);
        }
    }
}

static void lose_descriptors(const struct peer *test, const char *path)
{
    pheap *heap = open_heap(path);
    commit_word(heap, 0, 1, PHEAP_DURABLE);
    commit_word(heap, 1, 1, PHEAP_LAZY);
    close_its_files(path);
    next_clock_tick(); /* then begin looks at its files */
    pheap_txn *txn = NULL;
    expect_detail(PHEAP_IO, "descriptor", pheap_begin_timeout(heap, 1000, &txn));
    require_equal(fresh_word(heap, 1), 1); /* reading needs no files, and the locks live on in the mappings */
    peer_tell(test, 'c');
    peer_hear(test, 'g');
    (void)expect_one(UINT64_MAX, pheap_close(heap));
}

/*
 * Catches: a program that closes all descriptors, as daemons do, and then poisons the heap for everybody with its next
 * commit, or commits into nothing; and others who take it for dead and recover the heap under it.
 */
static void descriptors__closed_under_us(void **state)
{
    (void)state;
    const char *path = path_of("closed", "");
    create_closed_heap(path, 8);
    struct peer child = peer_start(lose_descriptors, path);
    peer_hear(&child, 'c');
    pheap *heap = open_heap(path);
    require_equal(heap_info(heap).recovered, 0);
    require_equal(fresh_word(heap, 0), 1);
    require_equal(fresh_word(heap, 1), 1);
    commit_word(heap, 2, 2, PHEAP_DURABLE);
    peer_tell(&child, 'g');
    peer_join(&child);
    require_equal(fresh_word(heap, 2), 2);
    commit_word(heap, 3, 3, PHEAP_DURABLE);
    check_sound(heap);
    ok(pheap_close(heap));
    heap = open_heap(path);
    require_equal(fresh_word(heap, 3), 3);
    ok(pheap_close(heap));
}

#define OWN_FILES 48
#define OWN_BYTES 4096

static void fill_own(int file)
{
    static const char byte[OWN_BYTES] = {'o', 'w', 'n'};
    require_equal(pwrite(file, byte, sizeof byte, 0), OWN_BYTES);
}

static void check_own(int file)
{
    char bytes[OWN_BYTES + 1];
    require_equal(pread(file, bytes, sizeof bytes, 0), OWN_BYTES);
    require_equal(memcmp(bytes, "own", 4), 0);
    for (size_t i = 3; i < OWN_BYTES; i++)
        require_equal(bytes[i], 0);
}

/* Closes all and opens files of its own, some of which get the numbers that the heap's files had. */
static void use_descriptors_again(const struct peer *test, const char *path)
{
    (void)test;
    int own[OWN_FILES];
    uint64_t offset;
    pheap *heap = open_heap(path);
    commit_word(heap, 0, 1, PHEAP_DURABLE);
    pheap_txn *txn = begin(heap);
    ok(pheap_alloc(txn, 100, &offset));
    close_its_files(path);
    for (int i = 0; i < OWN_FILES; i++) {
        own[i] = memfd_create("own", MFD_CLOEXEC);
        require(own[i] >= 0);
        fill_own(own[i]);
    }
    expect_detail(PHEAP_IO, "descriptor", pheap_alloc(txn, 8 << 20, &offset)); /* the heap cannot grow */
    ok(pheap_commit(txn, PHEAP_LAZY, NULL));
    expect_detail(PHEAP_IO, "descriptor", pheap_sync(heap));
    expect_detail(PHEAP_IO, "descriptor", pheap_checkpoint(heap));
    (void)check_one(__FILE__, __LINE__, "close", UINT64_MAX, pheap_close(heap));
    for (int i = 0; i < OWN_FILES; i++)
        check_own(own[i]);
}

/* Catches: log or heap written into files of the program's own, which got the numbers of descriptors that it closed. */
static void descriptors__used_again_by_the_program(void **state)
{
    (void)state;
    for (uint32_t checksums = 0; checksums < 2; checksums++) {
        struct pheap_options options = {.size = sizeof options, .checksums = checksums};
        const char *path = path_of(checksums != 0 ? "again-sums" : "again", "");
        pheap *heap;
        ok(pheap_open(path, PHEAP_CREATE, &options, &heap));
        (void)make_root(heap, 8);
        ok(pheap_close(heap));
        struct peer child = peer_start(use_descriptors_again, path);
        peer_join(&child);
        heap = open_heap(path);
        require_equal(fresh_word(heap, 0), 1);
        check_sound(heap);
        ok(pheap_close(heap));
    }
}

/* ---------------------------------------------------------------------------------------------- coordination file */

static void hold_and_wait(const struct peer *test, const char *path)
{
    pheap *heap = open_heap(path);
    commit_word(heap, 0, 3, PHEAP_DURABLE);
    commit_word(heap, 1, 3, PHEAP_LAZY);
    pheap_txn *txn = begin(heap);
    put_word(txn, 2, 666);
    peer_tell(test, 'h');
    (void)pause();
}

/* Catches: a coordination file believed in which the writer lock is held by a process that is no more, or by the number of
 * one that lives; and records of its buffer that are older than the log. */
static void coordination__copied_while_a_lock_was_held(void **state)
{
    (void)state;
    const char *path = path_of("mid-hold", "");
    create_closed_heap(path, 8);
    struct peer child = peer_start(hold_and_wait, path);
    peer_hear(&child, 'h');
    copy_file(path_of("mid-hold", "-shm"), path_of("kept", "-shm"));
    peer_kill(&child);
    pheap *heap = open_heap(path);
    for (uint64_t i = 0; i < 50; i++) {
        commit_word(heap, 0, 100 + i, PHEAP_DURABLE);
    }
    ok(pheap_close(heap));
    for (unsigned again = 0; again < 2; again++) { /* into the same file, and as a file of its own */
        if (again == 1) {
            require(unlink(path_of("mid-hold", "-shm")) == 0);
        }
        copy_file(path_of("kept", "-shm"), path_of("mid-hold", "-shm"));
        heap = open_heap(path);
        require_equal(fresh_word(heap, 0), 149 + again);
        require_equal(fresh_word(heap, 1), 3);
        require_equal(fresh_word(heap, 2), 0);
        pheap_txn *txn;
        ok(pheap_begin_timeout(heap, 1000, &txn));
        put_word(txn, 0, 150 + again);
        ok(pheap_commit(txn, PHEAP_LAZY, NULL));
        check_sound(heap);
        ok(pheap_close(heap));
    }
}

/* ---------------------------------------------------------------------------------------------------- PID namespace */

#define DIED_WITH_THE_LOCK 9

static void die_in_a_transaction(const char *path)
{
    pheap *heap = open_heap(path);
    require(getpid() == 1);
    commit_word(heap, 0, 7, PHEAP_LAZY);
    pheap_txn *txn = begin(heap);
    put_word(txn, 0, 8);
    _exit(DIED_WITH_THE_LOCK); /* SIGKILL is not heard by the first process of a namespace */
}

static void write_as_the_same_number(const char *path)
{
    require(getpid() == 1);
    pheap *heap = open_heap(path);
    require_equal(fresh_word(heap, 0), 7);
    pheap_txn *txn;
    ok(pheap_begin_timeout(heap, 1000, &txn));
    put_word(txn, 0, 9);
    ok(pheap_commit(txn, PHEAP_DURABLE, NULL));
    ok(pheap_close(heap));
}

/*
 * Catches: the lock of a dead process taken for one's own, or for that of a living process, because its number is the same
 * in another PID namespace.
 */
static void namespaces__same_pid_in_both(void **state)
{
    (void)state;
    const char *path = path_of("same-pid", "");
    create_closed_heap(path, 8);
    const int status = run_in_namespace(die_in_a_transaction, path);
    if (status == NO_NAMESPACE) {
        print_message("skipped: no right to make a PID namespace\n");
        skip();
    }
    require_equal(status, DIED_WITH_THE_LOCK);
    require_equal(run_in_namespace(write_as_the_same_number, path), 0);
    pheap *heap = open_heap(path);
    require_equal(fresh_word(heap, 0), 9);
    ok(pheap_close(heap));
}

/* ---------------------------------------------------------------------------------------------------------- clock */

static uint64_t looks_at_the_clock;

/* Wall clock that jumps by years, forwards and back, each time somebody looks. */
static uint64_t jumping_clock(void *ctx, enum ph_clock clock)
{
    static const int64_t years[] = {0, 30, -20, 1, -40, 100};
    const uint64_t now = ph_io_posix()->clock_ns(ctx, clock);
    if (clock != PH_CLOCK_REALTIME && clock != PH_CLOCK_REALTIME_COARSE) {
        return now;
    }
    const int64_t year = INT64_C(31557600) * 1000000000;
    return now + (uint64_t)(years[looks_at_the_clock++ % (sizeof years / sizeof years[0])] * year);
}

/* Catches: anything but texts for people that depends on the wall clock. */
static void clock__steps_both_ways(void **state)
{
    (void)state;
    ph_io io = *ph_io_posix();
    io.clock_ns = jumping_clock;
    const char *path = path_of("clock", "");
    struct pheap_options options = small_options();
    options.pin_wait_ms = 20;
    pheap *heap;
    ok((enum pheap_status)ph_open_io(&io, path, PHEAP_CREATE, &options, &heap));
    (void)make_root(heap, 1000);
    for (uint64_t round = 0; round < 6; round++) {
        pheap_read *reader = read_begin(heap, 0);
        enum pheap_status status = PHEAP_OK;
        for (uint64_t i = 0; i < 3000 && status == PHEAP_OK; i++) {
            pheap_txn *txn;
            status = pheap_begin_timeout(heap, 200, &txn);
            if (status == PHEAP_OK) {
                for (uint64_t j = 0; j < 50; j++) {
                    put_word(txn, (i * 50 + j) % 999 + 1, (round << 32) + i);
                }
                put_word(txn, 0, round);
                ok(pheap_commit(txn, PHEAP_LAZY, NULL));
            }
        }
        expect_detail(PHEAP_LOG_FULL, " s; end that read transaction", status);
        require(read_word(reader, 0) == (round == 0 ? 0 : round - 1));
        pheap_read_end(reader);
        ok(pheap_checkpoint(heap));
        require_equal(fresh_word(heap, 0), round);
        pheap_txn *txn;
        ok(pheap_begin_timeout(heap, 0, &txn));
        ok(pheap_abort(txn));
    }
    check_sound(heap);
    ok(pheap_close(heap));
    require(looks_at_the_clock > 12);
    ok((enum pheap_status)ph_open_io(&io, path, 0, &options, &heap));
    require_equal(heap_info(heap).recovered, 0);
    require_equal(fresh_word(heap, 0), 5);
    ok(pheap_close(heap));
}

int main(int argc, char **argv)
{
    choose_cases(argc, argv);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(exec__in_a_transaction),
        cmocka_unit_test(copies_of_the_library__are_like_processes),
        cmocka_unit_test(descriptors__closed_under_us),
        cmocka_unit_test(descriptors__used_again_by_the_program),
        cmocka_unit_test(coordination__copied_while_a_lock_was_held),
        cmocka_unit_test(namespaces__same_pid_in_both),
        cmocka_unit_test(clock__steps_both_ways),
    };
    return cmocka_run_group_tests(tests, make_test_directory, remove_test_directory);
}
