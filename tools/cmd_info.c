/* SPDX-License-Identifier: MIT */
/*
 * pheap info: what the heap is, how full it is, who has it open and who holds what.
 *
 * It reads a snapshot and shared marks, so it works while other processes write; figures that belong together
 * (the space figures) are of one version, the rest is of the moment.
 */
#include "tools/output.h"

#include <inttypes.h>
#include <time.h>

#include "tools/progress.h"

static void write_identity(struct output *output, const struct pheap_info *info)
{
    char identity[33];
    output_format_identity(info->identity, identity);
    output_text(output, "%-18s ", "heap");
    output_visible(output, output->request->path);
    output_text(output, "\n");
    output_field(output, "identity", "%s", identity);
    output_field(output, "version", "%" PRIu64 " commits", info->version);
    output_field(output, "epoch", "%" PRIu64, info->epoch);
    if (info->poisoned)
        output_field(output, "state", "POISONED: a sync failed; all must close the heap, then reopen it");
    else if (info->recovered)
        output_field(output, "state", "recovered just now, %" PRIu64 " bytes of log replayed", info->replayed_bytes);
    else
        output_field(output, "state", "good");
    output_json_string(output, "identity", identity);
    output_json_u64(output, "version", info->version);
    output_json_u64(output, "epoch", info->epoch);
    output_json_bool(output, "poisoned", info->poisoned != 0);
    output_json_bool(output, "recovered", info->recovered != 0);
    output_json_u64(output, "replayed_bytes", info->replayed_bytes);
}

static void write_size(struct output *output, const char *label, const char *key, uint64_t size_bytes)
{
    output_field_size(output, label, size_bytes);
    output_json_u64(output, key, size_bytes);
}

static void write_lsn(struct output *output, const char *label, const char *key, uint64_t lsn)
{
    output_field(output, label, "%" PRIu64, lsn);
    output_json_u64(output, key, lsn);
}

static void write_sizes_and_marks(struct output *output, const struct pheap_info *info)
{
    write_size(output, "heap size", "heap_bytes", info->heap_bytes);
    write_size(output, "file size", "file_bytes", info->file_bytes);
    write_size(output, "file on disk", "disk_bytes", info->disk_bytes);
    write_size(output, "log size", "log_bytes", info->log_bytes);
    write_size(output, "log limit", "log_limit_bytes", info->log_limit_bytes);
    write_size(output, "log in use", "log_used_bytes", info->log_used_bytes);
    write_lsn(output, "committed LSN", "committed_lsn", info->committed_lsn);
    write_lsn(output, "durable LSN", "durable_lsn", info->durable_lsn);
    write_lsn(output, "folded LSN", "folded_lsn", info->folded_lsn);
    write_lsn(output, "checkpoint LSN", "checkpoint_lsn", info->checkpoint_lsn);
}

static enum exit_code write_space(struct output *output, pheap *heap)
{
    pheap_read *reader = NULL;
    enum pheap_status status = pheap_read_begin(heap, 0, &reader);
    if (status != PHEAP_OK)
        return output_failure(output, status);
    struct pheap_space space = {.size = sizeof space};
    struct progress *progress = progress_begin("measuring space", output->request->progress);
    status = pheap_get_space(reader, &space, progress_update, progress);
    progress_end(progress);
    uint64_t version = pheap_read_version(reader);
    pheap_read_end(reader);
    if (status != PHEAP_OK)
        return output_failure(output, status);

    double fragmentation = 0.0;
    if (space.extent_free_bytes > 0)
        fragmentation = 1.0 - (double)space.largest_free_bytes / (double)space.extent_free_bytes;
    output_field(output, "live blocks", "%" PRIu64, space.live_blocks);
    output_json_begin(output, "space", '{');
    output_json_u64(output, "version", version);
    output_json_u64(output, "heap_bytes", space.heap_bytes);
    output_json_u64(output, "live_blocks", space.live_blocks);
    write_size(output, "live", "live_bytes", space.live_bytes);
    write_size(output, "metadata", "metadata_bytes", space.metadata_bytes);
    write_size(output, "free in slabs", "slab_free_bytes", space.slab_free_bytes);
    write_size(output, "free in extents", "extent_free_bytes", space.extent_free_bytes);
    output_field(output, "free extents", "%" PRIu64, space.free_extents);
    output_json_u64(output, "free_extents", space.free_extents);
    write_size(output, "largest extent", "largest_free_bytes", space.largest_free_bytes);
    output_field(output, "fragmentation", "%.1f %%", 100.0 * fragmentation);
    output_json_fraction(output, "fragmentation", fragmentation);
    output_json_end(output, '}');
    return EXIT_DONE;
}

/* Whole seconds from `since_ns` until now; 0 where the clock was set back. */
static uint64_t seconds_since(uint64_t since_ns)
{
    struct timespec now = {0};
    (void)timespec_get(&now, TIME_UTC);
    const uint64_t now_ns = (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
    return now_ns > since_ns ? (now_ns - since_ns) / 1000000000 : 0;
}

static void write_pin(struct output *output, const struct pheap_pin *pin)
{
    char since[32];
    const uint64_t seconds = seconds_since(pin->since_ns);
    output_format_time(pin->since_ns, since);
    output_text(output, "    pins version %" PRIu64 " (LSN %" PRIu64 ") since %s, for %" PRIu64 " s%s\n", pin->version,
                pin->lsn, since, seconds, pin->evictable ? ", evictable" : "");
    output_json_begin(output, NULL, '{');
    output_json_u64(output, "version", pin->version);
    output_json_u64(output, "lsn", pin->lsn);
    output_json_string(output, "since", since);
    output_json_u64(output, "seconds", seconds);
    output_json_bool(output, "evictable", pin->evictable != 0);
    output_json_end(output, '}');
}

static void write_user(struct output *output, const struct pheap_user *user)
{
    char attached[32];
    char backup[32];
    output_format_time(user->attached_ns, attached);
    output_text(output, "  seat %" PRIu32 ": process %" PRId64 "%s, attached %s%s%s\n", user->seat, user->pid,
                user->self ? " (this command)" : "", attached, user->alive ? "" : ", DEAD",
                user->writing ? ", writing" : "");
    if (user->backup_ns != 0) {
        output_format_time(user->backup_ns, backup);
        output_text(output, "    at a backup since %s\n", backup);
    }

    output_json_begin(output, NULL, '{');
    output_json_u64(output, "seat", user->seat);
    output_json_i64(output, "pid", user->pid);
    output_json_bool(output, "self", user->self != 0);
    output_json_bool(output, "alive", user->alive != 0);
    output_json_bool(output, "writing", user->writing != 0);
    output_json_string(output, "attached", attached);
    output_json_begin(output, "pins", '[');
    for (uint32_t i = 0; i < user->pin_count; i++)
        write_pin(output, &user->pins[i]);
    output_json_end(output, ']');
    if (user->backup_ns != 0)
        output_json_string(output, "backup", backup);
    else
        output_json_null(output, "backup");
    output_json_end(output, '}');
}

static enum exit_code write_users(struct output *output, pheap *heap)
{
    output_text(output, "users\n");
    output_json_begin(output, "users", '[');
    struct pheap_user user = {.size = sizeof user};
    enum pheap_status status = PHEAP_OK;
    uint32_t from = 0;
    for (;;) {
        status = pheap_next_user(heap, from, &user);
        if (status != PHEAP_OK)
            break;
        write_user(output, &user);
        if (user.seat == UINT32_MAX)
            break;
        from = user.seat + 1;
    }
    output_json_end(output, ']');
    return status == PHEAP_END || status == PHEAP_OK ? EXIT_DONE : output_failure(output, status);
}

static enum exit_code write_all(struct output *output, pheap *heap)
{
    struct pheap_info info = {.size = sizeof info};
    enum pheap_status status = pheap_get_info(heap, &info);
    if (status != PHEAP_OK)
        return output_failure(output, status);
    write_identity(output, &info);
    write_sizes_and_marks(output, &info);
    /* The users first, so that this command's own reader is not among the pins. */
    enum exit_code code = write_users(output, heap);
    if (code == EXIT_DONE && !output->request->quick)
        code = write_space(output, heap);
    return code;
}

enum exit_code cmd_info(const struct request *request, struct output *output)
{
    (void)request;
    return output_look(output, write_all);
}
