/* SPDX-License-Identifier: MIT */
/*
 * counter: many processes increment one number in a heap, some are killed, and not one increment is lost or made twice.
 *
 * An increment is a transaction: the number goes up by one, and so does the share of the process that does it.  A
 * process that is killed is started again, and goes on from its share in the heap: what was committed is in it, what
 * was not is in neither number.  So at the end the total is the sum of the shares and exactly what was asked for.
 *
 * That alone would not show a commit that was acknowledged and lost, because its process would simply do it again.  So
 * each process also counts the commits that have returned in memory outside the heap, which outlives it; after its
 * death its share must be that number, or one more if it died between the commit and the note of it.
 *
 * One run at a time may use a heap; the next one counts on from where the last one ended.
 *
 * Exit status: 0 exact; 1 not, or it failed; 2 wrong usage.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "pheap/pheap.h"

#define PROCESSES_MAX 256u
#define MAGIC "counter"

/* The root block. */
struct counter {
    char magic[8];
    uint64_t total;
    uint64_t shares[PROCESSES_MAX]; /* increments by each process */
};

/* Memory that all processes of a run share, outside the heap. */
struct witness {
    _Atomic uint64_t committed[PROCESSES_MAX]; /* the share of each, as its commits returned */
};

struct run {
    const char *path;
    uint64_t processes;
    uint64_t increments;
    enum pheap_durability how;
    uint64_t kills;      /* how many; 0: none, or by time */
    double kill_seconds; /* for how long */
    pheap *heap;
    uint64_t root;
    uint64_t before;                 /* the total when the run began */
    uint64_t targets[PROCESSES_MAX]; /* the share at which each has done its part */
    pid_t children[PROCESSES_MAX];   /* 0: done */
    struct witness *witness;
    uint64_t killed;
    bool wrong;
};

static int fail(const char *format, ...) __attribute__((format(printf, 1, 2)));
static int fail(const char *format, ...)
{
    va_list arguments;
    fputs("counter: ", stderr);
    va_start(arguments, format);
    vfprintf(stderr, format, arguments);
    va_end(arguments);
    fputc('\n', stderr);
    return -1;
}

static int fail_heap(enum pheap_status status, const char *what)
{
    return fail("%s: %s: %s", what, pheap_status_text(status), pheap_error_detail());
}

static double clock_seconds(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec * 1e-9;
}

/* ------------------------------------------------------------------------------------------- a process that counts */

/* One increment; *share is what this process has done with it. */
static int increment(const struct run *run, pheap *heap, unsigned self, uint64_t *share)
{
    pheap_txn *txn;
    void *total;
    void *own;
    enum pheap_status status = pheap_begin(heap, &txn);
    if (status != PHEAP_OK)
        return fail_heap(status, "cannot begin");
    status = pheap_edit(txn, run->root + offsetof(struct counter, total), sizeof(uint64_t), &total);
    if (status == PHEAP_OK)
        status = pheap_edit(txn, run->root + offsetof(struct counter, shares) + self * sizeof(uint64_t),
                            sizeof(uint64_t), &own);
    if (status != PHEAP_OK) {
        (void)pheap_abort(txn);
        return fail_heap(status, "cannot change the counter");
    }
    ++*(uint64_t *)total;
    *share = ++*(uint64_t *)own;
    status = pheap_commit(txn, run->how, NULL);
    return status == PHEAP_OK ? 0 : fail_heap(status, "cannot commit");
}

/* The share of a process in the newest version. */
static int share_read(const struct run *run, pheap *heap, unsigned self, uint64_t *share)
{
    pheap_read *read;
    enum pheap_status status = pheap_read_begin(heap, PHEAP_FRESH, &read);
    if (status != PHEAP_OK)
        return fail_heap(status, "cannot read the counter");
    *share = ((const struct counter *)pheap_read_ptr(read, run->root))->shares[self];
    pheap_read_end(read);
    return 0;
}

static int worker_run(const struct run *run, unsigned self)
{
    pheap *heap;
    uint64_t share;
    enum pheap_status status = pheap_open(run->path, 0, NULL, &heap);
    if (status != PHEAP_OK)
        return fail_heap(status, "cannot open the heap");
    int result = share_read(run, heap, self, &share);
    while (result == 0 && share < run->targets[self]) {
        result = increment(run, heap, self, &share);
        if (result == 0)
            atomic_store(&run->witness->committed[self], share);
    }
    status = pheap_close(heap);
    return status == PHEAP_OK ? result : fail_heap(status, "cannot close the heap");
}

/* ------------------------------------------------------------------------------------- the process that starts them */

static int worker_start(struct run *run, unsigned worker)
{
    /* The child opens the heap itself: the handle of this process is not for it. */
    pid_t child = fork();
    if (child == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        _exit(worker_run(run, worker) == 0 ? 0 : 1);
    }
    if (child < 0)
        return fail("cannot start a process: %s", strerror(errno));
    run->children[worker] = child;
    return 0;
}

/* After a death: what was acknowledged must be there, and at most one commit more. */
static int share_check(struct run *run, unsigned worker)
{
    uint64_t share;
    uint64_t seen = atomic_load(&run->witness->committed[worker]);
    if (share_read(run, run->heap, worker, &share) != 0)
        return -1;
    if (share == seen || share == seen + 1) {
        atomic_store(&run->witness->committed[worker], share);
        return 0;
    }
    run->wrong = true;
    return fail("process %u had committed %llu increments, and the heap has %llu of it", worker,
                (unsigned long long)seen, (unsigned long long)share);
}

/* A process has ended: done, killed and to be started again, or failed. */
static int worker_ended(struct run *run, unsigned worker, int status)
{
    run->children[worker] = 0;
    if (share_check(run, worker) != 0)
        return -1;
    if (WIFEXITED(status) && WEXITSTATUS(status) == 0)
        return 0;
    if (!WIFSIGNALED(status) || WTERMSIG(status) != SIGKILL)
        return fail("process %u failed", worker);
    run->killed++;
    return worker_start(run, worker);
}

/* Take note of the processes that have ended: how many there are left, or -1. */
static int workers_reap(struct run *run, bool wait)
{
    int status;
    int left = 0;
    for (unsigned i = 0; i < run->processes; i++)
        left += run->children[i] != 0;
    while (left > 0) {
        pid_t ended = waitpid(-1, &status, wait ? 0 : WNOHANG);
        if (ended <= 0)
            return ended == 0 || errno == EINTR ? left : fail("cannot wait: %s", strerror(errno));
        for (unsigned i = 0; i < run->processes; i++) {
            if (run->children[i] != ended)
                continue;
            if (worker_ended(run, i, status) != 0)
                return -1;
            left -= run->children[i] == 0;
        }
    }
    return left;
}

static uint64_t total_seen(const struct run *run)
{
    uint64_t total = 0;
    for (unsigned i = 0; i < run->processes; i++)
        total += atomic_load(&run->witness->committed[i]);
    return total;
}

/* Kill one of those that are still counting. */
static void worker_kill(const struct run *run)
{
    unsigned first = (unsigned)random() % (unsigned)run->processes;
    for (unsigned i = 0; i < run->processes; i++) {
        unsigned worker = (first + i) % (unsigned)run->processes;
        if (run->children[worker] == 0)
            continue;
        kill(run->children[worker], SIGKILL);
        return;
    }
}

/*
 * Let them count until all have done their part.  By number, kill k is due when the k-th of equal parts of the work is
 * done; by time, kills come at random intervals of up to 20 ms.
 */
static int workers_watch(struct run *run)
{
    uint64_t already = total_seen(run);
    double end = clock_seconds() + run->kill_seconds;
    uint64_t sent = 0;
    int left;
    while ((left = workers_reap(run, run->kill_seconds == 0 && sent == run->kills)) > 0) {
        if (run->kill_seconds > 0 && clock_seconds() < end) {
            usleep((useconds_t)(random() % 20000));
            worker_kill(run);
        } else if (run->kill_seconds > 0) {
            run->kill_seconds = 0;
        } else if (sent < run->kills) {
            double part = (double)run->processes * (double)run->increments / (double)(run->kills + 1);
            if ((double)(total_seen(run) - already) >= part * (double)(sent + 1)) {
                worker_kill(run);
                sent++;
            }
            usleep(200);
        }
    }
    return left;
}

/* ------------------------------------------------------------------------------------------------------------ run */

/* Find the counter in the heap, or put one there, and note where it stands. */
static int counter_find(struct run *run)
{
    pheap_txn *txn;
    uint64_t usable;
    enum pheap_status status = pheap_begin(run->heap, &txn);
    if (status != PHEAP_OK)
        return fail_heap(status, "cannot begin");
    run->root = pheap_root(txn);
    if (run->root == 0) {
        status = pheap_zalloc(txn, sizeof(struct counter), &run->root);
        if (status == PHEAP_OK)
            status = pheap_write(txn, run->root, MAGIC, sizeof MAGIC);
        if (status == PHEAP_OK)
            status = pheap_set_root(txn, run->root);
    }
    if (status == PHEAP_OK)
        status = pheap_usable_size(txn, run->root, &usable);
    if (status != PHEAP_OK) {
        (void)pheap_abort(txn);
        return fail_heap(status, "cannot make a counter");
    }
    const struct counter *counter = pheap_ptr(txn, run->root);
    if (usable < sizeof *counter || memcmp(counter->magic, MAGIC, sizeof MAGIC) != 0) {
        (void)pheap_abort(txn);
        return fail("%s belongs to another program: its root is not a counter", run->path);
    }
    run->before = counter->total;
    for (unsigned i = 0; i < run->processes; i++) {
        run->targets[i] = counter->shares[i] + run->increments;
        atomic_store(&run->witness->committed[i], counter->shares[i]);
    }
    status = pheap_commit(txn, PHEAP_DURABLE, NULL);
    return status == PHEAP_OK ? 0 : fail_heap(status, "cannot commit");
}

/* Print the outcome: 0 if it is exact. */
static int outcome_print(const struct run *run, double seconds)
{
    pheap_read *read;
    uint64_t sum = 0;
    uint64_t work = run->processes * run->increments;
    enum pheap_status status = pheap_read_begin(run->heap, PHEAP_FRESH, &read);
    if (status != PHEAP_OK)
        return fail_heap(status, "cannot read the counter");
    const struct counter *counter = pheap_read_ptr(read, run->root);
    uint64_t total = counter->total;
    for (unsigned i = 0; i < PROCESSES_MAX; i++)
        sum += counter->shares[i];
    pheap_read_end(read);
    printf("total: %llu\nexpected: %llu\nsum of shares: %llu\nkills: %llu\ncommits/s: %.0f\n",
           (unsigned long long)total, (unsigned long long)(run->before + work), (unsigned long long)sum,
           (unsigned long long)run->killed, (double)work / seconds);
    if (fflush(stdout) != 0)
        return fail("cannot write to standard output: %s", strerror(errno));
    bool exact = total == run->before + work && total == sum && !run->wrong;
    return exact ? 0 : fail("the counter is wrong");
}

/* After a failure the others need not go on. */
static void workers_stop(struct run *run)
{
    for (unsigned i = 0; i < run->processes; i++) {
        if (run->children[i] == 0)
            continue;
        kill(run->children[i], SIGKILL);
        waitpid(run->children[i], NULL, 0);
    }
}

static int counter_run(struct run *run)
{
    enum pheap_status status = pheap_open(run->path, PHEAP_CREATE, NULL, &run->heap);
    if (status != PHEAP_OK)
        return fail_heap(status, "cannot open the heap");
    int result = counter_find(run);
    double began = clock_seconds();
    for (unsigned i = 0; i < run->processes && result == 0; i++)
        result = worker_start(run, i);
    if (result == 0)
        result = workers_watch(run);
    if (result == 0)
        result = outcome_print(run, clock_seconds() - began);
    workers_stop(run);
    status = pheap_close(run->heap);
    return status == PHEAP_OK ? result : fail_heap(status, "cannot close the heap");
}

static const char usage_text[] =
    "usage: counter HEAP --processes N --increments M [--durable] [--kill COUNT|SECONDSs]\n"
    "\n"
    "N processes (at most 256) increment one counter in the heap M times each, a transaction an increment.\n"
    "\n"
    "  --durable        each increment is on stable storage before the next; otherwise it survives only processes\n"
    "  --kill 20        kill 20 processes in the course of the work, and start them again\n"
    "  --kill 5s        kill one after the other for 5 seconds, or until the work is done\n"
    "\n"
    "Exit status: 0 if the count is exact.\n";

/* A number from 1 to `most` that ends at `*end`. */
static bool number_parse(const char *text, uint64_t most, uint64_t *number, char **end)
{
    if (text == NULL || *text < '0' || *text > '9')
        return false;
    errno = 0;
    *number = strtoull(text, end, 10);
    return errno == 0 && *number >= 1 && *number <= most;
}

static bool option_parse(struct run *run, const char *name, const char *value)
{
    char *end = NULL;
    uint64_t number;
    if (strcmp(name, "--processes") == 0)
        return number_parse(value, PROCESSES_MAX, &run->processes, &end) && *end == '\0';
    if (strcmp(name, "--increments") == 0)
        return number_parse(value, UINT64_C(1) << 40, &run->increments, &end) && *end == '\0';
    if (strcmp(name, "--kill") != 0 || !number_parse(value, 1000000, &number, &end))
        return false;
    if (*end == '\0')
        run->kills = number;
    else if (strcmp(end, "s") == 0)
        run->kill_seconds = (double)number;
    else
        return false;
    return true;
}

int main(int count, char **arguments)
{
    static struct run run = {.how = PHEAP_LAZY};
    if (count == 2 && (strcmp(arguments[1], "--help") == 0 || strcmp(arguments[1], "-h") == 0)) {
        if (fputs(usage_text, stdout) >= 0 && fflush(stdout) == 0)
            return 0;
        fail("cannot write to standard output: %s", strerror(errno));
        return 1;
    }
    bool right = count > 1 && strncmp(arguments[1], "--", 2) != 0;
    for (int i = 2; i < count && right; i++) {
        if (strcmp(arguments[i], "--durable") == 0)
            run.how = PHEAP_DURABLE;
        else
            right = i + 1 < count && option_parse(&run, arguments[i], arguments[i + 1]) && ++i > 0;
    }
    if (!right || run.processes == 0 || run.increments == 0) {
        fputs(usage_text, stderr);
        return 2;
    }
    run.path = arguments[1];
    run.witness = mmap(NULL, sizeof *run.witness, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (run.witness == MAP_FAILED) {
        fail("no memory: %s", strerror(errno));
        return 1;
    }
    srandom((unsigned)getpid());
    return counter_run(&run) == 0 ? 0 : 1;
}
