/* SPDX-License-Identifier: MIT */
/* The list of faults that check, scrub and salvage give. */
#include "tools/faults.h"

void faults_begin(struct faults *faults, struct output *output, const char *what)
{
    output_json_begin(output, "faults", '[');
    *faults = (struct faults){.output = output, .progress = progress_begin(what, output->request->progress)};
}

void faults_add(void *context, uint64_t offset, const char *text)
{
    struct faults *faults = context;
    faults->count++;
    progress_hide(faults->progress);
    output_fault(faults->output, offset, text);
}

int faults_progress(void *context, const char *what, uint64_t done, uint64_t total)
{
    struct faults *faults = context;
    return progress_update(faults->progress, what, done, total);
}

void faults_end(struct faults *faults)
{
    progress_end(faults->progress);
    output_json_end(faults->output, ']');
}
