/* SPDX-License-Identifier: MIT */
/*
 * What the commands backup and restore share: the progress line with throughput and ratio, and the figures of the
 * answer.
 */
#ifndef TOOLS_TRANSFER_H
#define TOOLS_TRANSFER_H

#include "tools/output.h"
#include "tools/progress.h"

struct transfer {
    const char *what;
    struct progress *progress; /* may be NULL */
    double begun;
};

void transfer_begin(struct transfer *transfer, const char *what, const struct request *request);
/* A pheap_transfer_progress: `context` is a struct transfer *. */
int transfer_watch(void *context, const struct pheap_transfer *now);
/* The work has ended; seconds that it took. */
double transfer_end(struct transfer *transfer);

/* The figures, in both forms. */
void transfer_write(struct output *output, const struct pheap_transfer *result, double seconds);

#endif
