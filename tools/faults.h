/* SPDX-License-Identifier: MIT */
/* What the commands check, scrub and salvage share: the list of faults in the answer, and progress meanwhile. */
#ifndef TOOLS_FAULTS_H
#define TOOLS_FAULTS_H

#include "tools/output.h"
#include "tools/progress.h"

struct faults {
    struct output *output;
    struct progress *progress; /* may be NULL */
    uint64_t count;
};

/* Open the list; `what` is being done. */
void faults_begin(struct faults *faults, struct output *output, const char *what);
/* A pheap_fault and a pheap_progress: `context` is a struct faults *. */
void faults_add(void *context, uint64_t offset, const char *text);
int faults_progress(void *context, const char *what, uint64_t done, uint64_t total);
/* Close it. */
void faults_end(struct faults *faults);

#endif
