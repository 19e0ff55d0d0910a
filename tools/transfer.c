/* SPDX-License-Identifier: MIT */
/* The progress line of backup and restore, and their figures. */
#define _GNU_SOURCE
#include "tools/transfer.h"

#include <inttypes.h>
#include <time.h>

#define MB 1e6

static double now_seconds(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

static double ratio(const struct pheap_transfer *transfer)
{
    return transfer->archive_bytes == 0 ? 0 : (double)transfer->content_bytes / (double)transfer->archive_bytes;
}

static double rate(const struct pheap_transfer *transfer, double seconds)
{
    return seconds > 0 ? (double)transfer->content_bytes / MB / seconds : 0;
}

void transfer_begin(struct transfer *transfer, const char *what, const struct request *request)
{
    *transfer =
        (struct transfer){.what = what, .progress = progress_begin(what, request->progress), .begun = now_seconds()};
}

int transfer_watch(void *context, const struct pheap_transfer *now)
{
    struct transfer *transfer = context;
    if (transfer->progress == NULL)
        return 0;
    progress_note(transfer->progress, ", %.0f MB/s, ratio %.1f", rate(now, now_seconds() - transfer->begun),
                  ratio(now));
    return progress_update(transfer->progress, transfer->what, now->done_bytes, now->total_bytes);
}

double transfer_end(struct transfer *transfer)
{
    progress_end(transfer->progress);
    return now_seconds() - transfer->begun;
}

void transfer_write(struct output *output, const struct pheap_transfer *result, double seconds)
{
    output_field(output, "version", "%" PRIu64, result->version);
    output_field_size(output, "heap size", result->heap_bytes);
    output_field_size(output, "content", result->content_bytes);
    output_field_size(output, "archive", result->archive_bytes);
    output_field(output, "ratio", "%.2f", ratio(result));
    output_field(output, "throughput", "%.0f MB/s, %.1f s", rate(result, seconds), seconds);
    output_json_u64(output, "version", result->version);
    output_json_u64(output, "heap_bytes", result->heap_bytes);
    output_json_u64(output, "content_bytes", result->content_bytes);
    output_json_u64(output, "archive_bytes", result->archive_bytes);
    output_json_fraction(output, "ratio", ratio(result));
    output_json_fraction(output, "seconds", seconds);
}
