/* SPDX-License-Identifier: MIT */
/*
 * pheap collect: free the values that cannot be reached.
 */
#include <inttypes.h>

#include "tools/progress.h"
#include "tools/values.h"

#define ATTEMPTS_MAX 10 /* others may be in the way again and again */

static enum pheap_status get_space(pheap *heap, struct pheap_space *space)
{
    pheap_read *reader = NULL;
    *space = (struct pheap_space){.size = sizeof *space};
    enum pheap_status status = pheap_read_begin(heap, PHEAP_FRESH, &reader);
    if (status != PHEAP_OK)
        return status;
    status = pheap_get_space(reader, space, NULL, NULL);
    pheap_read_end(reader);
    return status;
}

/* The commits are lazy, and all of them on stable storage in the end: what a power cut brings back is only garbage. */
static enum pheap_status collect(pheap *heap, uint64_t *collected)
{
    enum pheap_status status = PHEAP_BUSY;
    for (unsigned i = 0; i < ATTEMPTS_MAX && status == PHEAP_BUSY; i++)
        status = pht_collect(heap, PHEAP_LAZY, collected);
    return status == PHEAP_OK ? pheap_sync(heap) : status;
}

static void write_result(struct output *output, uint64_t collected, const struct pheap_space *before,
                         const struct pheap_space *after)
{
    output_visible(output, output->request->path);
    output_text(output, ": %" PRIu64 " object%s collected\n", collected, collected == 1 ? "" : "s");
    output_text(output, "live bytes: %" PRIu64 " before, %" PRIu64 " now\n", before->live_bytes, after->live_bytes);
    output_json_u64(output, "collected", collected);
    output_json_u64(output, "live_blocks_before", before->live_blocks);
    output_json_u64(output, "live_bytes_before", before->live_bytes);
    output_json_u64(output, "live_blocks", after->live_blocks);
    output_json_u64(output, "live_bytes", after->live_bytes);
}

static enum exit_code collect_heap(struct output *output, pheap *heap)
{
    struct pheap_space before, after;
    uint64_t collected = 0;
    struct progress *progress = progress_begin("collecting", output->request->progress);
    enum pheap_status status = get_space(heap, &before);
    if (status == PHEAP_OK)
        status = collect(heap, &collected);
    if (status == PHEAP_OK)
        status = get_space(heap, &after);
    progress_end(progress);
    if (status == PHEAP_NOT_FOUND)
        return output_failure_text(output, status, "the heap has no values");
    if (status != PHEAP_OK)
        return output_failure(output, status);
    write_result(output, collected, &before, &after);
    return EXIT_DONE;
}

enum exit_code cmd_collect(const struct request *request, struct output *output)
{
    (void)request;
    return output_change(output, collect_heap);
}
