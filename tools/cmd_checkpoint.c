/* SPDX-License-Identifier: MIT */
/*
 * pheap checkpoint: bring the heap file up to date, sync it, and let the log be recycled.
 */
#include "tools/output.h"

#include <inttypes.h>

#include "tools/progress.h"

static void write_result(struct output *output, const struct pheap_info *before, const struct pheap_info *after)
{
    output_visible(output, output->request->path);
    if (after->checkpoint_lsn >= after->committed_lsn)
        output_text(output, ": checkpoint at LSN %" PRIu64 ", the heap file holds everything\n", after->checkpoint_lsn);
    else
        output_text(output, ": checkpoint at LSN %" PRIu64 ", newer commits up to LSN %" PRIu64 " are in the log\n",
                    after->checkpoint_lsn, after->committed_lsn);
    output_json_u64(output, "checkpoint_lsn_before", before->checkpoint_lsn);
    output_json_u64(output, "checkpoint_lsn", after->checkpoint_lsn);
    output_json_u64(output, "committed_lsn", after->committed_lsn);
    output_json_u64(output, "log_used_bytes_before", before->log_used_bytes);
    output_json_u64(output, "log_used_bytes", after->log_used_bytes);
    output_json_bool(output, "recovered", before->recovered != 0);
    output_json_u64(output, "replayed_bytes", before->replayed_bytes);
}

static enum exit_code checkpoint(struct output *output, pheap *heap)
{
    struct pheap_info before = {.size = sizeof before};
    struct pheap_info after = {.size = sizeof after};
    enum pheap_status status = pheap_get_info(heap, &before);
    if (status == PHEAP_OK) {
        struct progress *progress = progress_begin("checkpoint", output->request->progress);
        status = pheap_checkpoint(heap);
        progress_end(progress);
    }
    if (status == PHEAP_OK)
        status = pheap_get_info(heap, &after);
    if (status != PHEAP_OK)
        return output_failure(output, status);
    write_result(output, &before, &after);
    return EXIT_DONE;
}

enum exit_code cmd_checkpoint(const struct request *request, struct output *output)
{
    (void)request;
    return output_change(output, checkpoint);
}
