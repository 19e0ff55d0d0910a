/* SPDX-License-Identifier: MIT */
/*
 * pheap scrub: compare every page with its checksum, and name the pages that are damaged and the blocks in them.
 *
 * Other processes may use the heap meanwhile.
 */
#include <inttypes.h>

#include "tools/faults.h"

static void write_result(struct output *output, const struct pheap_scrub_result *result)
{
    output_visible(output, output->request->path);
    output_text(output, ": %" PRIu64 " of %" PRIu64 " pages damaged\n", result->damaged_pages, result->page_count);
    if (result->filled_pages > 0)
        output_text(output, "%" PRIu64 " pages had no checksum and were given one\n", result->filled_pages);
    if (result->unknown_pages > 0)
        output_text(output, "%" PRIu64 " pages have no checksum (--fill gives them one)\n", result->unknown_pages);
    output_json_u64(output, "page_count", result->page_count);
    output_json_u64(output, "damaged_pages", result->damaged_pages);
    output_json_u64(output, "unknown_pages", result->unknown_pages);
    output_json_u64(output, "filled_pages", result->filled_pages);
}

static enum exit_code scrub_heap(struct output *output, pheap *heap)
{
    struct pheap_scrub_result result = {.size = sizeof result};
    struct faults faults;
    const struct pheap_scrub_options options = {.size = sizeof options,
                                                .flags = output->request->fill ? PHEAP_SCRUB_FILL : 0,
                                                .progress = faults_progress,
                                                .fault = faults_add,
                                                .context = &faults};
    faults_begin(&faults, output, "scrub");
    enum pheap_status status = pheap_scrub(heap, &options, &result);
    faults_end(&faults);
    if (status == PHEAP_OK || status == PHEAP_CORRUPT)
        write_result(output, &result);
    return status == PHEAP_OK ? EXIT_DONE : output_failure(output, status);
}

enum exit_code cmd_scrub(const struct request *request, struct output *output)
{
    (void)request;
    return output_look(output, scrub_heap);
}
