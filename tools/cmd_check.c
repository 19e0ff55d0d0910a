/* SPDX-License-Identifier: MIT */
/*
 * pheap check: walk the whole heap and say what is wrong where.  If it is sound and has values, they are looked at, too.
 *
 * The walk reads a snapshot, so other processes may go on writing meanwhile.
 */
#include "types/types.h"

#include <inttypes.h>

#include "tools/faults.h"

/* The values of a sound heap; *have: there are some.  A root that belongs to another program is none of our business. */
static enum pheap_status check_values(struct faults *faults, const pheap_read *reader, struct pht_census *census,
                                      bool *have)
{
    struct pht t;
    enum pheap_status status = pht_look(reader, &t);
    *have = status != PHEAP_NOT_FOUND && status != PHEAP_WRONG_TYPE;
    if (!*have)
        return PHEAP_OK;
    if (status == PHEAP_CORRUPT)
        faults_add(faults, pheap_read_root(reader), pheap_error_detail());
    if (status != PHEAP_OK)
        return status;
    return pht_check(&t, faults_add, faults, census);
}

/* How many objects of a kind can be reached. */
static void write_kind(struct output *output, uint64_t count, enum pht_kind kind)
{
    if (count == 0)
        return;
    output_text(output, "%12" PRIu64 " %s\n", count, pht_kind_name(kind));
    output_json_u64(output, pht_kind_name(kind), count);
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
    output_json_begin(output, "kinds", '{');
    for (uint32_t kind = 1; kind <= PHT_CENSUS_KINDS; kind++)
        write_kind(output, census->kinds[kind % PHT_CENSUS_KINDS], kind < PHT_CENSUS_KINDS ? kind : PHT_RECORD);
    output_json_end(output, '}');
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
    struct faults faults;
    struct pht_census census = {.size = sizeof census};
    bool have_values = false;
    pheap_read *reader = NULL;
    enum pheap_status status = pheap_read_begin(heap, 0, &reader);
    if (status != PHEAP_OK)
        return output_failure(output, status);
    uint64_t version = pheap_read_version(reader);
    output_json_u64(output, "version", version);
    faults_begin(&faults, output, "checking");
    status = pheap_check(reader, faults_add, faults_progress, &faults);
    if (status == PHEAP_OK)
        (void)progress_update(faults.progress, "checking values", 0, 0);
    if (status == PHEAP_OK)
        status = check_values(&faults, reader, &census, &have_values);
    faults_end(&faults);
    if (have_values && (status == PHEAP_OK || census.faults > 0))
        write_values(output, &census);
    else
        output_json_null(output, "values");
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
