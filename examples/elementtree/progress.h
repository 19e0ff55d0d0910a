/* SPDX-License-Identifier: MIT */
/*
 * Progress on standard error for work that takes more than a second: one line that is rewritten on a terminal, one
 * line every five seconds elsewhere.
 */
#ifndef ELEMENTTREE_PROGRESS_H
#define ELEMENTTREE_PROGRESS_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <time.h>
#include <unistd.h>

struct progress {
    const char *what; /* a static string such as "importing" */
    double next;      /* when to print next, in seconds */
    bool shown;
    bool terminal;
};

static inline double progress_now(void)
{
    struct timespec now;
    timespec_get(&now, TIME_UTC);
    return (double)now.tv_sec + (double)now.tv_nsec * 1e-9;
}

static inline void progress_begin(struct progress *progress, const char *what)
{
    *progress = (struct progress){.what = what, .next = progress_now() + 1.0, .terminal = isatty(STDERR_FILENO) == 1};
}

/* `done` of `total` units of `unit` are done; total 0 means that it is not known. */
static inline void progress_step(struct progress *progress, uint64_t done, uint64_t total, const char *unit)
{
    double now = progress_now();
    if (now < progress->next)
        return;
    progress->next = now + (progress->terminal ? 0.2 : 5.0);
    progress->shown = true;
    fprintf(stderr, "%s%s: ", progress->terminal ? "\r" : "", progress->what);
    if (total != 0)
        fprintf(stderr, "%3.0f %% of %llu %s", 100.0 * (double)done / (double)total, (unsigned long long)total, unit);
    else
        fprintf(stderr, "%llu %s", (unsigned long long)done, unit);
    fputs(progress->terminal ? "  " : "\n", stderr);
    fflush(stderr);
}

static inline void progress_end(struct progress *progress)
{
    if (progress->shown && progress->terminal)
        fputs("\n", stderr);
    progress->shown = false;
}

#endif
