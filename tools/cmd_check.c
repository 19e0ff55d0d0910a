/* SPDX-License-Identifier: MIT */
/*
 * pheap check: walk the whole heap and say what is wrong where.
 *
 * The walk reads a snapshot, so other processes may go on writing meanwhile.
 */
#include <inttypes.h>

#include "tools/faults.h"

static void write_verdict(struct output *output, bool sound, uint64_t fault_count, uint64_t version)
{
    output_visible(output, output->request->path);
    if (sound)
        output_text(output, ": sound at version %" PRIu64 "\n", version);
    else
        output_text(output, ": damaged at version %" PRIu64 ", %" PRIu64 " fault%s%s\n", version, fault_count,
                    fault_count == 1 ? "" : "s", fault_count >= 1000 ? " or more" : "");
    output_json_bool(output, "sound", sound);
}

static enum exit_code check_heap(struct output *output, pheap *heap)
{
    struct faults faults;
    pheap_read *reader = NULL;
    enum pheap_status status = pheap_read_begin(heap, 0, &reader);
    if (status != PHEAP_OK)
        return output_failure(output, status);
    uint64_t version = pheap_read_version(reader);
    output_json_u64(output, "version", version);
    faults_begin(&faults, output, "checking");
    status = pheap_check(reader, faults_add, faults_progress, &faults);
    faults_end(&faults);
    if (status == PHEAP_OK || status == PHEAP_CORRUPT)
        write_verdict(output, status == PHEAP_OK, faults.count, version);
    else
        output_json_null(output, "sound");
    enum exit_code code = status == PHEAP_OK ? EXIT_DONE : output_failure(output, status);
    pheap_read_end(reader);
    return code;
}

enum exit_code cmd_check(const struct request *request, struct output *output)
{
    (void)request;
    return output_look(output, check_heap);
}
