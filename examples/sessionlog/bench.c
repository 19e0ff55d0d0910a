/* SPDX-License-Identifier: MIT */
/*
 * What a log costs, between two processes: this one appends, another listens.
 *
 * Throughput: records are appended as fast as they will, a transaction each, while the listener takes whatever has come
 * and acknowledges that; the time ends with its last acknowledgement.  A limit of the log keeps the two together.
 *
 * Latency: one record at a time.  It carries the time at which its transaction was begun; receipt is when the listener
 * has it in its hands, acknowledgement when the commit of that has returned, which for a durable one means that the
 * record, too, is on the disk.  The next record is appended after that, so nothing ever queues.
 *
 * The heap is made for each figure and removed after it.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <semaphore.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "commands.h"

#define SAMPLES_MAX 20000u
#define LOG_LIMIT (64u << 20)

/* What the two processes share. */
struct shared {
    sem_t ready;           /* the listener has registered */
    sem_t acknowledged;    /* latency: after each record */
    _Atomic uint64_t last; /* number of the last record, once it is known; 0 before */
    _Atomic int failed;
    uint64_t samples;
    double receipt[SAMPLES_MAX]; /* in microseconds */
    double durable[SAMPLES_MAX];
};

struct bench {
    const char *path;
    uint64_t record_bytes;
    enum pheap_durability how;
    bool latency;
    uint64_t seconds;
    struct shared *shared;
};

static uint64_t clock_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * UINT64_C(1000000000) + (uint64_t)now.tv_nsec;
}

/* -------------------------------------------------------------------------------------------------- the listener */

/* Take what there is: *sequence is the last of it, and *begun_ns the time that it carries. */
static int batch_take(pheap *heap, const struct sessionlog_listener *listener, uint64_t *sequence, uint64_t *begun_ns)
{
    struct sessionlog_batch batch;
    struct sessionlog_record record;
    enum sessionlog_status status = sessionlog_batch_begin(heap, listener, 100, &batch);
    if (status != SESSIONLOG_OK)
        return status == SESSIONLOG_END ? 0 : fail_log();
    while ((status = sessionlog_batch_next(&batch, &record)) == SESSIONLOG_OK) {
        memcpy(begun_ns, record.bytes, sizeof *begun_ns);
        *sequence = record.sequence;
    }
    sessionlog_batch_end(&batch);
    return status == SESSIONLOG_END ? 1 : fail_log();
}

static int listen_all(const struct bench *bench, pheap *heap, const struct sessionlog_listener *listener)
{
    struct shared *shared = bench->shared;
    uint64_t sequence = 0;
    uint64_t begun_ns = 0;
    while (sequence == 0 || sequence != atomic_load(&shared->last)) {
        int taken = batch_take(heap, listener, &sequence, &begun_ns);
        uint64_t received_ns = clock_ns();
        if (taken == 0)
            continue;
        pheap_txn *txn;
        if (taken < 0 || pheap_begin(heap, &txn) != PHEAP_OK ||
            txn_end(txn, sessionlog_acknowledge(txn, listener, sequence), bench->how) != 0)
            return -1;
        if (!bench->latency)
            continue;
        shared->receipt[shared->samples] = (double)(received_ns - begun_ns) * 1e-3;
        shared->durable[shared->samples++] = (double)(clock_ns() - begun_ns) * 1e-3;
        sem_post(&shared->acknowledged);
    }
    return 0;
}

static int listener_run(const struct bench *bench)
{
    pheap *heap;
    uint64_t log;
    struct sessionlog_listener listener;
    const struct options options = {.lease_ms = 60000, .how = PHEAP_LAZY};
    if (log_open(bench->path, &heap, &log) != 0)
        return -1;
    int result = listener_open(heap, log, "bench", &options, &listener);
    sem_post(&bench->shared->ready);
    if (result == 0)
        result = listen_all(bench, heap, &listener);
    return log_close(bench->path, heap, result);
}

static pid_t listener_start(const struct bench *bench)
{
    pid_t child = fork();
    if (child != 0)
        return child;
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    int result = listener_run(bench);
    if (result != 0)
        atomic_store(&bench->shared->failed, 1);
    /* Whoever waits shall see that. */
    sem_post(&bench->shared->ready);
    sem_post(&bench->shared->acknowledged);
    _exit(result == 0 ? 0 : 1);
}

/* -------------------------------------------------------------------------------------------------- the producer */

/* Append one record that carries the time; again if the log is full. */
static int record_append(const struct bench *bench, pheap *heap, uint64_t log, const void *filler, uint64_t *sequence)
{
    int again = 1;
    while (again == 1) {
        pheap_txn *txn;
        void *bytes;
        uint64_t begun_ns = clock_ns();
        enum pheap_status status = pheap_begin(heap, &txn);
        if (status != PHEAP_OK)
            return fail_heap(status, "cannot begin");
        enum sessionlog_status reserved = sessionlog_reserve(txn, log, bench->record_bytes, &bytes, sequence);
        if (reserved == SESSIONLOG_OK) {
            memcpy(bytes, filler, bench->record_bytes);
            memcpy(bytes, &begun_ns, sizeof begun_ns);
        }
        again = append_end(heap, txn, reserved, bench->how);
    }
    return again;
}

static int produce_all(const struct bench *bench, const void *filler, uint64_t *records, double *seconds, pid_t child)
{
    pheap *heap;
    uint64_t log;
    uint64_t sequence = 0;
    uint64_t count = 0;
    struct shared *shared = bench->shared;
    if (log_open(bench->path, &heap, &log) != 0)
        return -1;
    int result = 0;
    uint64_t begun_ns = clock_ns();
    uint64_t end_ns = begun_ns + bench->seconds * UINT64_C(1000000000);
    bool last = false;
    while (result == 0 && !last && atomic_load(&shared->failed) == 0) {
        last = clock_ns() >= end_ns || (bench->latency && count + 1 == SAMPLES_MAX);
        /* For the listener to find with its last record, not after it. */
        if (last)
            atomic_store(&shared->last, sequence + 1);
        result = record_append(bench, heap, log, filler, &sequence);
        count++;
        if (bench->latency && result == 0)
            while (sem_wait(&shared->acknowledged) != 0 && errno == EINTR)
                ;
    }
    int status;
    if (result != 0)
        kill(child, SIGKILL);
    if (waitpid(child, &status, 0) != child || status != 0)
        result = -1;
    *seconds = (double)(clock_ns() - begun_ns) * 1e-9;
    *records = count;
    return log_close(bench->path, heap, result);
}

/* -------------------------------------------------------------------------------------------------------- figures */

static int ascending(const void *left, const void *right)
{
    double a = *(const double *)left;
    double b = *(const double *)right;
    return (a > b) - (a < b);
}

static double percentile(const double *sorted, uint64_t count, unsigned percent)
{
    return count > 0 ? sorted[(count - 1) * percent / 100] : 0;
}

static void figures_print(const struct bench *bench, uint64_t records, double seconds)
{
    struct shared *shared = bench->shared;
    printf("%-10s %8llu bytes  %-7s ", bench->latency ? "latency" : "throughput",
           (unsigned long long)bench->record_bytes, bench->how == PHEAP_LAZY ? "LAZY" : "DURABLE");
    if (!bench->latency) {
        printf("%10.0f records/s %9.1f MB/s\n", (double)records / seconds,
               (double)(records * bench->record_bytes) / seconds * 1e-6);
        return;
    }
    qsort(shared->receipt, shared->samples, sizeof *shared->receipt, ascending);
    qsort(shared->durable, shared->samples, sizeof *shared->durable, ascending);
    printf("receipt p50 %.1f us p99 %.1f us, acknowledged p50 %.1f us p99 %.1f us\n",
           percentile(shared->receipt, shared->samples, 50), percentile(shared->receipt, shared->samples, 99),
           percentile(shared->durable, shared->samples, 50), percentile(shared->durable, shared->samples, 99));
}

static void heap_remove(const char *path)
{
    static const char *const parts[] = {"", "-wal", "-shm"};
    char name[4096];
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++)
        if (snprintf(name, sizeof name, "%s%s", path, parts[i]) < (int)sizeof name)
            unlink(name);
}

static int figure_run(struct bench *bench, const void *filler)
{
    uint64_t records;
    double seconds;
    struct shared *shared = bench->shared;
    memset(shared, 0, sizeof *shared);
    if (sem_init(&shared->ready, 1, 0) != 0 || sem_init(&shared->acknowledged, 1, 0) != 0)
        return fail("cannot make a semaphore: %s", strerror(errno));
    if (log_make(bench->path, LOG_LIMIT) != 0)
        return -1;
    fflush(stdout);
    pid_t child = listener_start(bench);
    int result = child > 0 ? 0 : fail("cannot start a process: %s", strerror(errno));
    if (result == 0) {
        while (sem_wait(&shared->ready) != 0 && errno == EINTR)
            ;
        result = produce_all(bench, filler, &records, &seconds, child);
    }
    if (result == 0)
        figures_print(bench, records, seconds);
    heap_remove(bench->path);
    return result;
}

int bench_run(const char *path, const struct options *options)
{
    static const uint64_t sizes[] = {100, 65536};
    static const enum pheap_durability hows[] = {PHEAP_LAZY, PHEAP_DURABLE};
    struct bench bench = {.path = path, .seconds = options->seconds};
    void *filler = malloc(sizes[1]);
    bench.shared = mmap(NULL, sizeof *bench.shared, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    int result = 0;
    if (filler == NULL || bench.shared == MAP_FAILED) {
        free(filler);
        return fail("no memory");
    }
    /* Nothing that the log could shorten. */
    uint64_t word = 1;
    for (uint64_t i = 0; i < sizes[1] / sizeof word; i++) {
        word = word * UINT64_C(6364136223846793005) + 1442695040888963407u;
        memcpy((char *)filler + i * sizeof word, &word, sizeof word);
    }
    for (unsigned i = 0; i < 8 && result == 0; i++) {
        bench.latency = i >= 4;
        bench.record_bytes = sizes[i / 2 % 2];
        bench.how = hows[i % 2];
        result = figure_run(&bench, filler);
    }
    free(filler);
    munmap(bench.shared, sizeof *bench.shared);
    return result;
}
