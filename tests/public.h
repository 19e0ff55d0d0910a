/* SPDX-License-Identifier: MIT */
/*
 * What the tests of the public interface share: a directory of their own, checks that show the error detail, and
 * children that take turns with the test.
 *
 * A failed check fails the case; in a child it ends the child, and peer_join() in the test then fails.  Checks are for
 * the thread that runs the case, or that runs the child.
 */
#ifndef TESTS_PUBLIC_H
#define TESTS_PUBLIC_H

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "pheap/pheap.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#define PEER_PATIENCE_MS 60000

static bool in_child;

/* --------------------------------------------------------------------------------------------------------- checks */

__attribute__((noreturn, format(printf, 3, 4))) static inline void check_failed(const char *file, int line,
                                                                                const char *format, ...)
{
    char text[2048];
    va_list arguments;
    va_start(arguments, format);
    (void)vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    if (in_child) {
        (void)fprintf(stderr, "%s:%d: in a child: %s\n", file, line, text);
        _exit(1);
    }
    print_error("%s\n", text);
    _fail(file, line);
    abort();
}

static inline void check_status(const char *file, int line, const char *call, enum pheap_status wanted,
                                enum pheap_status got)
{
    if (got != wanted) {
        check_failed(file, line, "%s: %s expected, got %s (%s)", call, pheap_status_name(wanted),
                     pheap_status_name(got), got == PHEAP_OK ? "" : pheap_error_detail());
    }
    if (got != PHEAP_OK && got != PHEAP_END && (pheap_error_detail() == NULL || pheap_error_detail()[0] == 0)) {
        check_failed(file, line, "%s: %s without a detail", call, pheap_status_name(got));
    }
}

#define require(condition) ((condition) ? (void)0 : check_failed(__FILE__, __LINE__, "not true: %s", #condition))
#define require_equal(left, right) \
    check_equal(__FILE__, __LINE__, #left " = " #right, (uint64_t)(left), (uint64_t)(right))
#define expect(wanted, call) check_status(__FILE__, __LINE__, #call, wanted, call)
#define ok(call) expect(PHEAP_OK, call)
/* The status and a word that the detail must have. */
#define expect_detail(wanted, word, call) (expect(wanted, call), check_detail(__FILE__, __LINE__, #call, word))

static inline void check_equal(const char *file, int line, const char *what, uint64_t left, uint64_t right)
{
    if (left != right) {
        check_failed(file, line, "%s: %llu and %llu", what, (unsigned long long)left, (unsigned long long)right);
    }
}

static inline void check_detail(const char *file, int line, const char *call, const char *word)
{
    if (strstr(pheap_error_detail(), word) == NULL) {
        check_failed(file, line, "%s: the detail does not have '%s': %s", call, word, pheap_error_detail());
    }
}

/* Where the status may be one of a few: is it?  A set of bits 1 << status. */
#define ONE_OF(status) (UINT64_C(1) << (status))
#define expect_one(set, call) check_one(__FILE__, __LINE__, #call, set, call)
static inline enum pheap_status check_one(const char *file, int line, const char *call, uint64_t set,
                                          enum pheap_status got)
{
    if ((set >> got & 1) == 0) {
        check_failed(file, line, "%s: unexpected %s (%s)", call, pheap_status_name(got), pheap_error_detail());
    }
    if (got != PHEAP_OK && pheap_error_detail()[0] == 0) {
        check_failed(file, line, "%s: %s without a detail", call, pheap_status_name(got));
    }
    return got;
}

/* ---------------------------------------------------------------------------------------------------------- files */

static char test_directory[256];

static inline int make_test_directory(void **state)
{
    (void)state;
    const char *parent = getenv("TMPDIR");
    (void)snprintf(test_directory, sizeof test_directory, "%s/pheap-test-XXXXXX", parent == NULL ? "/tmp" : parent);
    return mkdtemp(test_directory) == NULL || chmod(test_directory, 0755) != 0;
}

static inline int run_command(const char *format, ...) __attribute__((format(printf, 1, 2)));
static inline int run_command(const char *format, ...)
{
    char command[2048];
    va_list arguments;
    va_start(arguments, format);
    (void)vsnprintf(command, sizeof command, format, arguments);
    va_end(arguments);
    return system(command);
}

static inline int remove_test_directory(void **state)
{
    (void)state;
    return run_command("chmod -R u+rwX '%s' && rm -rf '%s'", test_directory, test_directory);
}

/* An argument of a test program chooses cases by name, with * and ?. */
static inline void choose_cases(int argc, char **argv)
{
    if (argc > 1) {
        cmocka_set_test_filter(argv[1]);
    }
}

/* The seed of a test's choices: PHEAP_TEST_SEED, or another each time; it is told, so that they can be repeated. */
static inline uint64_t choose_seed(void)
{
    const char *text = getenv("PHEAP_TEST_SEED");
    struct timespec now;
    (void)clock_gettime(CLOCK_REALTIME, &now);
    const uint64_t seed =
        text != NULL ? strtoull(text, NULL, 10) : (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
    print_message("seed %llu (PHEAP_TEST_SEED repeats it)\n", (unsigned long long)seed);
    return seed;
}

/* The path of `name` followed by `suffix` in the test's directory.  Static; the last 64 are valid. */
static inline const char *path_of(const char *name, const char *suffix)
{
    static char paths[64][640];
    static unsigned next;
    char *path = paths[next++ % 64];
    (void)snprintf(path, sizeof paths[0], "%s/%s%s", test_directory, name, suffix);
    return path;
}

/* Read or overwrite part of a file. */
static inline void read_at(const char *path, uint64_t offset, void *bytes, size_t length)
{
    const int file = open(path, O_RDONLY | O_CLOEXEC);
    require(file >= 0);
    require(pread(file, bytes, length, (off_t)offset) == (ssize_t)length);
    close(file);
}

static inline void write_at(const char *path, uint64_t offset, const void *bytes, size_t length)
{
    const int file = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0644);
    require(file >= 0);
    require(pwrite(file, bytes, length, (off_t)offset) == (ssize_t)length);
    close(file);
}

static inline void copy_file(const char *from, const char *to)
{
    require(run_command("cp '%s' '%s'", from, to) == 0);
}

/* The heap with its log and coordination file. */
static inline void copy_heap(const char *from, const char *to, bool with_coordination)
{
    require(run_command("cp '%s' '%s' && cp '%s-wal' '%s-wal'", from, to, from, to) == 0);
    if (with_coordination) {
        require(run_command("cp '%s-shm' '%s-shm'", from, to) == 0);
    }
}

static inline uint64_t file_size(const char *path)
{
    struct stat info;
    require(stat(path, &info) == 0);
    return (uint64_t)info.st_size;
}

/* ---------------------------------------------------------------------------------------------------------- heaps */

/* Small everything, so that a little work laps the buffer, fills the log and recycles segments. */
static inline struct pheap_options small_options(void)
{
    return (struct pheap_options){.size = sizeof(struct pheap_options),
                                  .reserve_bytes = 1u << 30,
                                  .log_limit_bytes = 256u << 10,
                                  .segment_bytes = 16u << 10,
                                  .buffer_bytes = 16u << 10};
}

static inline pheap *create_heap(const char *path)
{
    const struct pheap_options options = small_options();
    pheap *heap;
    ok(pheap_open(path, PHEAP_CREATE | PHEAP_EXCLUSIVE, &options, &heap));
    return heap;
}

static inline pheap *open_heap(const char *path)
{
    const struct pheap_options options = {.size = sizeof options, .reserve_bytes = 1u << 30};
    pheap *heap;
    ok(pheap_open(path, 0, &options, &heap));
    return heap;
}

static inline pheap_txn *begin(pheap *heap)
{
    pheap_txn *txn;
    ok(pheap_begin(heap, &txn));
    return txn;
}

static inline pheap_read *read_begin(pheap *heap, unsigned flags)
{
    pheap_read *reader;
    ok(pheap_read_begin(heap, flags, &reader));
    return reader;
}

/* Make the root block: `count` words, all 0. */
static inline uint64_t make_root(pheap *heap, uint64_t count)
{
    uint64_t root;
    pheap_txn *txn = begin(heap);
    ok(pheap_zalloc(txn, count * sizeof(uint64_t), &root));
    ok(pheap_set_root(txn, root));
    ok(pheap_commit(txn, PHEAP_DURABLE, NULL));
    return root;
}

/* Make a heap with such a root block, and close it. */
static inline void create_closed_heap(const char *path, uint64_t count)
{
    pheap *heap = create_heap(path);
    (void)make_root(heap, count);
    ok(pheap_close(heap));
}

static inline uint64_t get_word(pheap_txn *txn, uint64_t index)
{
    uint64_t value;
    memcpy(&value, (const char *)pheap_ptr(txn, pheap_root(txn)) + index * sizeof value, sizeof value);
    return value;
}

static inline void put_word(pheap_txn *txn, uint64_t index, uint64_t value)
{
    ok(pheap_write(txn, pheap_root(txn) + index * sizeof value, &value, sizeof value));
}

static inline uint64_t read_word(const pheap_read *reader, uint64_t index)
{
    uint64_t value;
    memcpy(&value, (const char *)pheap_read_ptr(reader, pheap_read_root(reader)) + index * sizeof value, sizeof value);
    return value;
}

/* One transaction that stores `value` in word `index` of the root block. */
static inline void commit_word(pheap *heap, uint64_t index, uint64_t value, enum pheap_durability how)
{
    pheap_txn *txn = begin(heap);
    put_word(txn, index, value);
    ok(pheap_commit(txn, how, NULL));
}

/* Word `index` of the newest version. */
static inline uint64_t fresh_word(pheap *heap, uint64_t index)
{
    pheap_read *reader = read_begin(heap, PHEAP_FRESH);
    const uint64_t value = read_word(reader, index);
    pheap_read_end(reader);
    return value;
}

static inline struct pheap_info heap_info(pheap *heap)
{
    struct pheap_info info = {.size = sizeof info};
    ok(pheap_get_info(heap, &info));
    return info;
}

static inline void print_fault(void *context, uint64_t offset, const char *text)
{
    (void)context;
    (void)fprintf(stderr, "fault at %llu: %s\n", (unsigned long long)offset, text);
}

/* The whole heap is sound. */
static inline void check_sound(pheap *heap)
{
    pheap_read *reader = read_begin(heap, PHEAP_FRESH);
    ok(pheap_check(reader, print_fault, NULL, NULL));
    pheap_read_end(reader);
}

/* ------------------------------------------------------------------------------------------------------- children */

/* Raise a mark that others raise as well. */
static inline void raise_to(_Atomic uint64_t *mark, uint64_t value)
{
    uint64_t now = atomic_load(mark);
    while (now < value && !atomic_compare_exchange_weak(mark, &now, value)) {
    }
}

static inline void pause_us(uint64_t microseconds)
{
    const struct timespec time = {.tv_sec = (time_t)(microseconds / 1000000),
                                  .tv_nsec = (long)(microseconds % 1000000) * 1000};
    (void)nanosleep(&time, NULL);
}

/* The places of the files are looked at once in each tick of the coarse clock. */
static inline void next_clock_tick(void)
{
    pause_us(30000);
}

/* Memory, all 0, that the children have in common with the test; what is not touched costs address space only. */
static inline void *shared_memory(size_t length)
{
    const int flags = MAP_SHARED | MAP_ANONYMOUS | MAP_NORESERVE;
    void *memory = mmap(NULL, length, PROT_READ | PROT_WRITE, flags, -1, 0);
    require(memory != MAP_FAILED);
    return memory;
}

/* The other end of a child (in the test) or of the test (in the child). */
struct peer {
    pid_t pid;
    int to;
    int from;
};

static inline void peer_tell(const struct peer *peer, char token)
{
    require(write(peer->to, &token, 1) == 1);
}

/* Wait for the other side to say exactly this; a side that says nothing for a minute is a failure, not a hang. */
#define peer_hear(peer, token) peer_hear_at(__FILE__, __LINE__, peer, token)
static inline void peer_hear_at(const char *file, int line, const struct peer *peer, char token)
{
    struct pollfd wait = {.fd = peer->from, .events = POLLIN};
    char got = 0;
    if (poll(&wait, 1, PEER_PATIENCE_MS) != 1 || read(peer->from, &got, 1) != 1 || got != token) {
        check_failed(file, line, "the other process did not say '%c'", token);
    }
}

/* In a child: it dies with the test, and the test's handlers, which would go on with the next case, are not its own. */
static inline void enter_child(void)
{
    static const int fatal[] = {SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGABRT};
    in_child = true;
    (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
    for (size_t i = 0; i < sizeof fatal / sizeof fatal[0]; i++) {
        (void)signal(fatal[i], SIG_DFL);
    }
}

/* Run `work` in a child.  It exits with 0 when `work` returns.  The child dies with the test. */
static inline struct peer peer_start(void (*work)(const struct peer *test, const char *path), const char *path)
{
    int down[2];
    int up[2];
    require(pipe2(down, O_CLOEXEC) == 0 && pipe2(up, O_CLOEXEC) == 0);
    (void)fflush(NULL);
    const pid_t pid = fork();
    require(pid >= 0);
    if (pid == 0) {
        enter_child();
        (void)signal(SIGPIPE, SIG_IGN);
        close(down[1]);
        close(up[0]);
        const struct peer test = {.pid = getppid(), .to = up[1], .from = down[0]};
        work(&test, path);
        exit(0);
    }
    close(down[0]);
    close(up[1]);
    return (struct peer){.pid = pid, .to = down[1], .from = up[0]};
}

/* The child has ended, and without complaint. */
#define peer_join(peer) peer_join_at(__FILE__, __LINE__, peer)
static inline void peer_join_at(const char *file, int line, struct peer *peer)
{
    int status = -1;
    close(peer->to);
    if (waitpid(peer->pid, &status, 0) != peer->pid || status != 0) {
        check_failed(file, line, "the child ended with status 0x%x", (unsigned)status);
    }
    close(peer->from);
}

static inline void peer_kill(struct peer *peer)
{
    int status = 0;
    require(kill(peer->pid, SIGKILL) == 0);
    require(waitpid(peer->pid, &status, 0) == peer->pid);
    require(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
    close(peer->to);
    close(peer->from);
}

#define NO_NAMESPACE 77

/* Run `work` as the first process, with the PID 1, of a new PID namespace.  The status that it exits with, which is 0 when
 * `work` returns; NO_NAMESPACE: this process may not make one. */
static inline int run_in_namespace(void (*work)(const char *path), const char *path)
{
    int status = 0;
    (void)fflush(NULL);
    const pid_t pid = fork();
    require(pid >= 0);
    if (pid == 0) {
        enter_child();
        if (unshare(CLONE_NEWPID) != 0) {
            _exit(NO_NAMESPACE);
        }
        const pid_t first = fork();
        require(first >= 0);
        if (first == 0) {
            work(path);
            _exit(0);
        }
        require(waitpid(first, &status, 0) == first && WIFEXITED(status));
        _exit(WEXITSTATUS(status)); /* the namespace is dead: nothing that needs a thread or process can run at exit */
    }
    require(waitpid(pid, &status, 0) == pid && WIFEXITED(status));
    return WEXITSTATUS(status);
}

#endif
