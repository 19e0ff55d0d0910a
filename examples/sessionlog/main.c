/* SPDX-License-Identifier: MIT */
/*
 * sessionlog: a log of records between processes, from the command line.
 *
 * Exit status: 0 done; 1 it failed; 2 wrong usage.
 */
#define _POSIX_C_SOURCE 200809L
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "commands.h"

static const char usage_text[] =
    "usage: sessionlog HEAP COMMAND ...\n"
    "\n"
    "  create [--limit N]          make a heap with a log in it, of at most N bytes of records (default: no limit)\n"
    "  produce                     append the lines of standard input as records\n"
    "      --file FILE             read this file instead\n"
    "      --bytes N               make a record of every N bytes, not of every line\n"
    "      --batch N               records in a transaction (default: 1)\n"
    "  listen NAME                 write records to standard output, acknowledging what has been written; goes on "
    "where\n"
    "                              a listener of this name has stopped.  If it is killed after writing and before\n"
    "                              acknowledging, the next one writes those records again.\n"
    "      --from oldest|now       where a new listener begins (default: oldest)\n"
    "      --lease MS              without a sign of life for so long, the listener is removed (default: 60000)\n"
    "      --count N               end after N records\n"
    "      --wait MS               end when there has been none for so long (default: wait for ever)\n"
    "      --batch N               acknowledge at least every N records (default: 256)\n"
    "      --raw                   no newline after each record\n"
    "      --leave                 remove the listener at the end\n"
    "  leave NAME                  remove a listener\n"
    "  expire                      remove the listeners whose leases have run out\n"
    "  status                      what is in the log, and how far each listener is\n"
    "  check                       walk over every record\n"
    "  bench [--seconds N]         throughput and latency, in a heap that is made for it and removed (default: 2 s "
    "for\n"
    "                              each figure)\n"
    "\n"
    "--lazy with produce and listen: commits survive processes at once, and power cuts after a second.\n"
    "Numbers may end in K, M or G.\n";

int fail(const char *format, ...)
{
    va_list arguments;
    fputs("sessionlog: ", stderr);
    va_start(arguments, format);
    vfprintf(stderr, format, arguments);
    va_end(arguments);
    fputc('\n', stderr);
    return -1;
}

int fail_heap(enum pheap_status status, const char *what)
{
    return fail("%s: %s: %s", what, pheap_status_text(status), pheap_error_detail());
}

int fail_log(void)
{
    return fail("%s", sessionlog_detail());
}

/* ---------------------------------------------------------------------------------------------------- heap and log */

int log_open(const char *path, pheap **heap, uint64_t *log)
{
    pheap_read *read;
    struct sessionlog_stats stats;
    enum pheap_status status = pheap_open(path, 0, NULL, heap);
    if (status != PHEAP_OK)
        return fail_heap(status, "cannot open the heap");
    status = pheap_read_begin(*heap, 0, &read);
    if (status != PHEAP_OK)
        return log_close(path, *heap, fail_heap(status, "cannot read the heap"));
    *log = pheap_read_root(read);
    bool found = sessionlog_stat(read, *log, &stats) == SESSIONLOG_OK;
    pheap_read_end(read);
    return found ? 0 : log_close(path, *heap, fail("%s holds no log: %s", path, sessionlog_detail()));
}

int log_close(const char *path, pheap *heap, int result)
{
    enum pheap_status status = pheap_close(heap);
    if (status == PHEAP_OK)
        return result;
    fail("cannot close %s: %s", path, pheap_error_detail());
    return result == 0 ? -1 : result;
}

int log_make(const char *path, uint64_t limit_bytes)
{
    pheap *heap;
    pheap_txn *txn;
    uint64_t log;
    enum pheap_status status = pheap_open(path, PHEAP_CREATE | PHEAP_EXCLUSIVE, NULL, &heap);
    if (status != PHEAP_OK)
        return fail_heap(status, "cannot make the heap");
    status = pheap_begin(heap, &txn);
    if (status != PHEAP_OK)
        return log_close(path, heap, fail_heap(status, "cannot begin"));
    enum sessionlog_status made = sessionlog_create(txn, limit_bytes, &log);
    if (made == SESSIONLOG_OK && (status = pheap_set_root(txn, log)) != PHEAP_OK) {
        (void)pheap_abort(txn);
        return log_close(path, heap, fail_heap(status, "cannot set the root"));
    }
    return log_close(path, heap, txn_end(txn, made, PHEAP_DURABLE));
}

int txn_end(pheap_txn *txn, enum sessionlog_status status, enum pheap_durability how)
{
    if (status != SESSIONLOG_OK) {
        (void)pheap_abort(txn);
        return fail_log();
    }
    enum pheap_status committed = pheap_commit(txn, how, NULL);
    return committed == PHEAP_OK ? 0 : fail_heap(committed, "cannot commit");
}

/* ---------------------------------------------------------------------------------------------------- the commands */

static int create_run(const char *path, const struct options *options)
{
    if (options->limit != 0 && options->limit < SESSIONLOG_LIMIT_MIN)
        return fail("--limit takes at least %u bytes", SESSIONLOG_LIMIT_MIN);
    return log_make(path, options->limit);
}

static int status_print(pheap_read *read, uint64_t log)
{
    struct sessionlog_stats stats;
    struct sessionlog_listener_info info;
    enum sessionlog_status status = sessionlog_stat(read, log, &stats);
    if (status != SESSIONLOG_OK)
        return fail_log();
    printf("records appended: %llu\nbytes appended: %llu\noldest kept: %llu\nblocks: %llu\nblock bytes: %llu\n"
           "limit bytes: %llu\nlisteners: %llu\nlisteners expired: %llu\n",
           (unsigned long long)(stats.next - 1), (unsigned long long)stats.appended_bytes,
           (unsigned long long)stats.oldest, (unsigned long long)stats.chunks, (unsigned long long)stats.space_bytes,
           (unsigned long long)stats.limit_bytes, (unsigned long long)stats.listeners,
           (unsigned long long)stats.expired);
    for (uint64_t i = 0; (status = sessionlog_listener_get(read, log, i, &info)) == SESSIONLOG_OK; i++)
        printf("listener %s: next %llu, behind by %llu, lease %lld of %llu ms\n", info.name,
               (unsigned long long)info.next, (unsigned long long)(stats.next - info.next), (long long)info.left_ms,
               (unsigned long long)info.lease_ms);
    return status == SESSIONLOG_END ? 0 : fail_log();
}

static int check_print(pheap_read *read, uint64_t log)
{
    if (sessionlog_check(read, log) != SESSIONLOG_OK)
        return fail_log();
    puts("the log is sound");
    return 0;
}

static int snapshot_run(const char *path, int (*print)(pheap_read *read, uint64_t log))
{
    pheap *heap;
    pheap_read *read;
    uint64_t log;
    if (log_open(path, &heap, &log) != 0)
        return -1;
    enum pheap_status status = pheap_read_begin(heap, 0, &read);
    if (status != PHEAP_OK)
        return log_close(path, heap, fail_heap(status, "cannot read the heap"));
    int result = print(read, log);
    pheap_read_end(read);
    return log_close(path, heap, result);
}

static int expire_run(const char *path)
{
    pheap *heap;
    pheap_txn *txn;
    uint64_t log;
    if (log_open(path, &heap, &log) != 0)
        return -1;
    enum pheap_status status = pheap_begin(heap, &txn);
    if (status != PHEAP_OK)
        return log_close(path, heap, fail_heap(status, "cannot begin"));
    return log_close(path, heap, txn_end(txn, sessionlog_expire(txn, log), PHEAP_DURABLE));
}

/* Whether a listener of this name is registered: 1, 0, or -1 on failure. */
static int listener_known(pheap *heap, uint64_t log, const char *name)
{
    pheap_read *read;
    struct sessionlog_listener_info info;
    enum sessionlog_status found;
    enum pheap_status status = pheap_read_begin(heap, 0, &read);
    if (status != PHEAP_OK)
        return fail_heap(status, "cannot read the heap");
    uint64_t index = 0;
    while ((found = sessionlog_listener_get(read, log, index, &info)) == SESSIONLOG_OK && strcmp(info.name, name) != 0)
        index++;
    pheap_read_end(read);
    return found == SESSIONLOG_OK ? 1 : found == SESSIONLOG_END ? 0 : fail_log();
}

static int leave_run(const char *path, const char *name)
{
    pheap *heap;
    pheap_txn *txn;
    struct sessionlog_listener listener;
    uint64_t log;
    if (log_open(path, &heap, &log) != 0)
        return -1;
    int known = listener_known(heap, log, name);
    if (known != 1)
        return log_close(path, heap, known == 0 ? fail("there is no listener %s", name) : -1);
    enum pheap_status status = pheap_begin(heap, &txn);
    if (status != PHEAP_OK)
        return log_close(path, heap, fail_heap(status, "cannot begin"));
    /* Only who holds a listener can remove it. */
    enum sessionlog_status left = sessionlog_register(txn, log, name, 1, SESSIONLOG_NOW, &listener, NULL);
    if (left == SESSIONLOG_OK)
        left = sessionlog_unregister(txn, &listener);
    return log_close(path, heap, txn_end(txn, left, PHEAP_DURABLE));
}

/* ------------------------------------------------------------------------------------------------------- arguments */

/* A number from `least` to `most`, with K, M or G for powers of 1024. */
static bool number_parse(const char *text, uint64_t least, uint64_t most, uint64_t *number)
{
    static const char units[] = "KMG";
    char *end;
    if (text == NULL || *text < '0' || *text > '9')
        return false;
    errno = 0;
    unsigned long long value = strtoull(text, &end, 10);
    const char *unit = *end != '\0' ? strchr(units, *end) : NULL;
    unsigned shift = unit != NULL ? 10 * (unsigned)(unit - units + 1) : 0;
    if (errno != 0 || (unit == NULL ? *end != '\0' : end[1] != '\0') || value > UINT64_MAX >> shift)
        return false;
    *number = (uint64_t)value << shift;
    return *number >= least && *number <= most;
}

/* The commands that an option belongs to, by their initial letters: create, produce, listen, bench. */
static bool belongs(const char *command, const char *commands)
{
    static const char *const names[] = {"create", "produce", "listen", "bench"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (strcmp(command, names[i]) == 0)
            return strchr(commands, *command) != NULL;
    return false;
}

static bool flag_parse(const char *command, const char *name, struct options *options)
{
    if (strcmp(name, "--lazy") == 0 && belongs(command, "pl"))
        options->how = PHEAP_LAZY;
    else if (strcmp(name, "--raw") == 0 && belongs(command, "l"))
        options->raw = true;
    else if (strcmp(name, "--leave") == 0 && belongs(command, "l"))
        options->leave = true;
    else
        return false;
    return true;
}

static bool value_parse(const char *command, const char *name, const char *value, struct options *options)
{
    uint64_t wait_ms;
    if (value == NULL)
        return false;
    if (strcmp(name, "--limit") == 0 && belongs(command, "c"))
        return number_parse(value, 0, UINT64_C(1) << 46, &options->limit);
    if (strcmp(name, "--bytes") == 0 && belongs(command, "p"))
        return number_parse(value, 1, UINT64_C(1) << 30, &options->bytes);
    if (strcmp(name, "--batch") == 0 && belongs(command, "pl"))
        return number_parse(value, 1, 1u << 20, &options->batch);
    if (strcmp(name, "--count") == 0 && belongs(command, "l"))
        return number_parse(value, 1, UINT64_MAX, &options->count);
    if (strcmp(name, "--lease") == 0 && belongs(command, "l"))
        return number_parse(value, 1, SESSIONLOG_LEASE_MAX_MS, &options->lease_ms);
    if (strcmp(name, "--seconds") == 0 && belongs(command, "b"))
        return number_parse(value, 1, 3600, &options->seconds);
    if (strcmp(name, "--wait") == 0 && belongs(command, "l")) {
        if (!number_parse(value, 0, SESSIONLOG_LEASE_MAX_MS, &wait_ms))
            return false;
        options->wait_ms = (int64_t)wait_ms;
        return true;
    }
    if (strcmp(name, "--file") == 0 && belongs(command, "p")) {
        options->file = value;
        return true;
    }
    if (strcmp(name, "--from") == 0 && belongs(command, "l")) {
        options->from = strcmp(value, "now") == 0 ? SESSIONLOG_NOW : SESSIONLOG_OLDEST;
        return strcmp(value, "now") == 0 || strcmp(value, "oldest") == 0;
    }
    return false;
}

/* Run a command; -2 if that is not how it is used. */
static int command_run(const char *path, const char *command, int count, char **arguments)
{
    struct options options = {.batch = strcmp(command, "listen") == 0 ? 256 : 1,
                              .count = UINT64_MAX,
                              .lease_ms = 60000,
                              .wait_ms = -1,
                              .seconds = 2};
    const char *name = NULL;
    for (int i = 0; i < count; i++) {
        if (strncmp(arguments[i], "--", 2) != 0 && name == NULL)
            name = arguments[i];
        else if (flag_parse(command, arguments[i], &options))
            continue;
        else if (i + 1 < count && value_parse(command, arguments[i], arguments[i + 1], &options))
            i++;
        else
            return -2;
    }
    if (strcmp(command, "listen") == 0 && name != NULL)
        return listen_run(path, name, &options);
    if (strcmp(command, "leave") == 0 && name != NULL)
        return leave_run(path, name);
    if (name != NULL)
        return -2;
    if (strcmp(command, "create") == 0)
        return create_run(path, &options);
    if (strcmp(command, "produce") == 0)
        return produce_run(path, &options);
    if (strcmp(command, "expire") == 0)
        return expire_run(path);
    if (strcmp(command, "status") == 0)
        return snapshot_run(path, status_print);
    if (strcmp(command, "check") == 0)
        return snapshot_run(path, check_print);
    if (strcmp(command, "bench") == 0)
        return bench_run(path, &options);
    return -2;
}

int main(int count, char **arguments)
{
    int result = -2;
    if (count == 2 && (strcmp(arguments[1], "--help") == 0 || strcmp(arguments[1], "-h") == 0))
        result = fputs(usage_text, stdout) < 0 ? -1 : 0;
    else if (count > 2)
        result = command_run(arguments[1], arguments[2], count - 3, arguments + 3);
    if (result == -2) {
        fputs(usage_text, stderr);
        return 2;
    }
    if (result == 0 && (fflush(stdout) != 0 || ferror(stdout) != 0))
        result = fail("cannot write to standard output: %s", strerror(errno));
    return result == 0 ? 0 : 1;
}
