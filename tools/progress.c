/* SPDX-License-Identifier: MIT */
/*
 * The progress line of the pheap tool; see progress.h.
 *
 * Lock order: there is one lock, `lock`; it guards everything below it in the struct.  The ticker holds it except
 * while it sleeps, and standard error is written under it, so that the line is gone when progress_end() returns.
 */
#define _GNU_SOURCE
#include "tools/progress.h"

#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

enum {
    FIRST_REPORT_MS = 1000, /* shorter work is not worth a line */
    TERMINAL_REPORT_MS = 200,
    PLAIN_REPORT_MS = 1000,
    WHAT_BYTES_MAX = 64,
    NOTE_BYTES_MAX = 64
};

struct progress {
    pthread_t ticker;
    pthread_cond_t ended_changed;
    bool terminal;
    struct timespec begun;
    pthread_mutex_t lock;
    bool ended;
    bool shown;
    char what[WHAT_BYTES_MAX];
    char note[NOTE_BYTES_MAX];
    uint64_t done;
    uint64_t total;
};

static double seconds_since(const struct timespec *begun)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)(now.tv_sec - begun->tv_sec) + (double)(now.tv_nsec - begun->tv_nsec) / 1e9;
}

static void report(struct progress *progress)
{
    const char *start = progress->terminal ? "\r\033[K" : "";
    const char *end = progress->terminal ? "" : "\n";
    double seconds = seconds_since(&progress->begun);
    if (progress->total > 0) {
        double part = (double)progress->done / (double)progress->total;
        fprintf(stderr, "%spheap: %s: %.0f %% of %" PRIu64 "%s, %.0f s%s", start, progress->what,
                100.0 * (part < 1.0 ? part : 1.0), progress->total, progress->note, seconds, end);
    } else if (progress->done > 0) {
        fprintf(stderr, "%spheap: %s: %" PRIu64 "%s, %.0f s%s", start, progress->what, progress->done, progress->note,
                seconds, end);
    } else {
        fprintf(stderr, "%spheap: %s: %.0f s%s", start, progress->what, seconds, end);
    }
    fflush(stderr);
    progress->shown = true;
}

static void add_ms(struct timespec *time, long ms)
{
    time->tv_nsec += (ms % 1000) * 1000000L;
    time->tv_sec += ms / 1000 + time->tv_nsec / 1000000000L;
    time->tv_nsec %= 1000000000L;
}

static void *tick(void *context)
{
    struct progress *progress = context;
    struct timespec deadline = progress->begun;
    add_ms(&deadline, FIRST_REPORT_MS);
    pthread_mutex_lock(&progress->lock);
    while (!progress->ended) {
        if (pthread_cond_timedwait(&progress->ended_changed, &progress->lock, &deadline) != ETIMEDOUT)
            continue;
        report(progress);
        add_ms(&deadline, progress->terminal ? TERMINAL_REPORT_MS : PLAIN_REPORT_MS);
    }
    pthread_mutex_unlock(&progress->lock);
    return NULL;
}

struct progress *progress_begin(const char *what, bool always)
{
    bool terminal = isatty(STDERR_FILENO) == 1;
    if (!terminal && !always)
        return NULL;
    struct progress *progress = calloc(1, sizeof *progress);
    if (progress == NULL)
        return NULL;
    progress->terminal = terminal;
    snprintf(progress->what, sizeof progress->what, "%s", what);
    clock_gettime(CLOCK_MONOTONIC, &progress->begun);
    pthread_condattr_t attributes;
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_cond_init(&progress->ended_changed, &attributes);
    pthread_condattr_destroy(&attributes);
    pthread_mutex_init(&progress->lock, NULL);
    if (pthread_create(&progress->ticker, NULL, tick, progress) != 0) {
        /* The work matters more than the line about it. */
        pthread_cond_destroy(&progress->ended_changed);
        pthread_mutex_destroy(&progress->lock);
        free(progress);
        return NULL;
    }
    return progress;
}

int progress_update(void *context, const char *what, uint64_t done, uint64_t total)
{
    struct progress *progress = context;
    if (progress == NULL)
        return 0;
    pthread_mutex_lock(&progress->lock);
    if (what != NULL)
        snprintf(progress->what, sizeof progress->what, "%s", what);
    progress->done = done;
    progress->total = total;
    pthread_mutex_unlock(&progress->lock);
    return 0;
}

void progress_note(struct progress *progress, const char *format, ...)
{
    if (progress == NULL)
        return;
    va_list arguments;
    va_start(arguments, format);
    pthread_mutex_lock(&progress->lock);
    vsnprintf(progress->note, sizeof progress->note, format, arguments);
    pthread_mutex_unlock(&progress->lock);
    va_end(arguments);
}

static void erase(struct progress *progress)
{
    if (progress->shown && progress->terminal)
        fputs("\r\033[K", stderr);
    progress->shown = false;
}

void progress_hide(struct progress *progress)
{
    if (progress == NULL)
        return;
    pthread_mutex_lock(&progress->lock);
    erase(progress);
    pthread_mutex_unlock(&progress->lock);
}

void progress_end(struct progress *progress)
{
    if (progress == NULL)
        return;
    pthread_mutex_lock(&progress->lock);
    progress->ended = true;
    pthread_cond_signal(&progress->ended_changed);
    pthread_mutex_unlock(&progress->lock);
    pthread_join(progress->ticker, NULL);
    erase(progress);
    pthread_cond_destroy(&progress->ended_changed);
    pthread_mutex_destroy(&progress->lock);
    free(progress);
}
