/* SPDX-License-Identifier: MIT */
/*
 * pheap salvage: a sound heap out of what is left of a damaged one, and a report of what is lost.
 */
#include <inttypes.h>

#include "tools/faults.h"

static const char *state_name(uint32_t state)
{
    static const char *const state_names[] = {"whole", "cut", "unused"};
    return state < sizeof state_names / sizeof state_names[0] ? state_names[state] : "unknown";
}

static void write_state(struct output *output, const struct pheap_salvage_result *result)
{
    const char *how = result->log_state == PHEAP_SALVAGE_WHOLE ? ", the last commit"
                      : result->log_state == PHEAP_SALVAGE_CUT ? "; later ones are lost"
                                                               : " or later, as the heap file has it";
    output_field(output, "version", "%" PRIu64 "%s", result->version, how);
    output_json_u64(output, "version", result->version);
    output_json_string(output, "log", state_name(result->log_state));
}

static void write_result(struct output *output, const struct pheap_salvage_result *result)
{
    write_state(output, result);
    output_field_size(output, "heap size", result->heap_bytes);
    output_field(output, "kept", "%" PRIu64 " blocks, %" PRIu64 " bytes", result->kept_blocks, result->kept_bytes);
    output_field(output, "suspect", "%" PRIu64 " of the kept blocks, %" PRIu64 " bytes, do not match their checksums",
                 result->suspect_blocks, result->suspect_bytes);
    output_field(output, "uncertain", "%" PRIu64 " blocks, %" PRIu64 " bytes, not kept", result->uncertain_blocks,
                 result->uncertain_bytes);
    output_field(output, "lost", "%" PRIu64 " blocks that are known, %" PRIu64 " bytes at most", result->lost_blocks,
                 result->lost_bytes);
    output_field(output, "root", "%s", result->root_kept ? "kept" : "none");
    output_json_u64(output, "heap_bytes", result->heap_bytes);
    output_json_u64(output, "kept_blocks", result->kept_blocks);
    output_json_u64(output, "kept_bytes", result->kept_bytes);
    output_json_u64(output, "suspect_blocks", result->suspect_blocks);
    output_json_u64(output, "suspect_bytes", result->suspect_bytes);
    output_json_u64(output, "unknown_pages", result->unknown_pages);
    output_json_u64(output, "uncertain_blocks", result->uncertain_blocks);
    output_json_u64(output, "uncertain_bytes", result->uncertain_bytes);
    output_json_u64(output, "lost_blocks", result->lost_blocks);
    output_json_u64(output, "lost_bytes", result->lost_bytes);
    output_json_bool(output, "root_kept", result->root_kept != 0);
    output_json_u64(output, "fault_count", result->fault_count);
}

enum exit_code cmd_salvage(const struct request *request, struct output *output)
{
    struct pheap_salvage_result result = {.size = sizeof result};
    struct faults faults;
    const struct pheap_salvage_options options = {.size = sizeof options,
                                                  .flags = request->backup.flags,
                                                  .progress = faults_progress,
                                                  .fault = faults_add,
                                                  .context = &faults};
    output_json_string(output, "new_path", request->new_path);
    faults_begin(&faults, output, "salvage");
    enum pheap_status status = pheap_salvage(request->path, request->new_path, &options, &result);
    faults_end(&faults);
    if (status != PHEAP_OK)
        return output_failure(output, status);
    write_result(output, &result);
    return result.fault_count == 0 ? EXIT_DONE : EXIT_DAMAGED;
}
