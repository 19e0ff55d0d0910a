/* SPDX-License-Identifier: MIT */
/*
 * pheap check: walk the whole heap and say what is wrong where.  If it is sound and has values, they are looked at, too.
 *
 * The walk reads a snapshot, so other processes may go on writing meanwhile.
 */
#include "tools/output.h"
#include "types/types.h"

#include <inttypes.h>

#include "tools/progress.h"

struct check {
    struct output *output;
    struct progress *progress;
    uint64_t fault_count;
};

static void on_fault(void *context, uint64_t offset, const char *text)
{
    struct check *check = context;
    struct output *output = check->output;
    check->fault_count++;
    progress_hide(check->progress);
    output_fault(output, offset, text);
}

static int on_progress(void *context, const char *what, uint64_t done, uint64_t total)
{
    struct check *check = context;
    return progress_update(check->progress, what, done, total);
}

/* The values of a sound heap; *have: there are some.  A root that belongs to another program is none of our business. */
static enum pheap_status check_values(struct check *check, const pheap_read *reader, struct pht_census *census,
                                      bool *have)
{
    struct pht t;
    enum pheap_status status = pht_look(reader, &t);
    *have = status != PHEAP_NOT_FOUND && status != PHEAP_WRONG_TYPE;
    if (!*have)
        return PHEAP_OK;
    if (status == PHEAP_CORRUPT)
        on_fault(check, pheap_read_root(reader), pheap_error_detail());
    if (status != PHEAP_OK)
        return status;
    return pht_check(&t, on_fault, check, census);
}

static void write_values(struct output *output, const struct pht_census *census)
{
    output_text(output,
                "values: %" PRIu64 " objects, %" PRIu64 " being freed, %" PRIu64 " garbage, %" PRIu64
                " blocks of others\n",
                census->objects, census->limbo, census->garbage, census->unknown);
    output_json_begin(output, "values", '{');
    output_json_u64(output, "objects", census->objects);
    output_json_u64(output, "limbo", census->limbo);
    output_json_u64(output, "garbage", census->garbage);
    output_json_u64(output, "unknown", census->unknown);
    output_json_end(output, '}');
}

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
    struct check check = {.output = output};
    struct pht_census census = {.size = sizeof census};
    bool have_values = false;
    pheap_read *reader = NULL;
    enum pheap_status status = pheap_read_begin(heap, 0, &reader);
    if (status != PHEAP_OK)
        return output_failure(output, status);
    uint64_t version = pheap_read_version(reader);
    output_json_u64(output, "version", version);
    output_json_begin(output, "faults", '[');
    check.progress = progress_begin("checking", output->request->progress);
    status = pheap_check(reader, on_fault, on_progress, &check);
    if (status == PHEAP_OK)
        status = check_values(&check, reader, &census, &have_values);
    progress_end(check.progress);
    output_json_end(output, ']');
    if (have_values && status == PHEAP_OK)
        write_values(output, &census);
    else
        output_json_null(output, "values");
    if (status == PHEAP_OK || status == PHEAP_CORRUPT)
        write_verdict(output, status == PHEAP_OK, check.fault_count, version);
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
