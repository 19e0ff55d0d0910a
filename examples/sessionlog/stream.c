/* SPDX-License-Identifier: MIT */
/* Records from a stream, and to one: the commands produce and listen. */
#define _POSIX_C_SOURCE 200809L
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>

#include "commands.h"

#define BATCH_BYTES (4u << 20) /* a transaction ends at so many bytes, whatever the number of records */

/* -------------------------------------------------------------------------------------------------------- produce */

/* Where records come from, and those of one transaction: read before it begins, because reading may take long. */
struct source {
    FILE *file;
    const char *name;
    char *line;
    size_t line_room;
    char *bytes; /* one record after the other */
    size_t room;
    size_t used;
    size_t *lengths;
    uint64_t count;
};

/* Room for `length` bytes more. */
static int source_grow(struct source *source, size_t length)
{
    if (source->room - source->used >= length)
        return 0;
    size_t room = source->used + length + source->room;
    char *bytes = realloc(source->bytes, room);
    if (bytes == NULL)
        return fail("no memory for records of %zu bytes", room);
    source->bytes = bytes;
    source->room = room;
    return 0;
}

/* Read one more record, a piece of `piece` bytes or, if that is 0, a line without its end: 1, 0 at the end, or -1. */
static int source_next(struct source *source, size_t piece)
{
    ssize_t length;
    errno = 0;
    if (piece != 0) {
        if (source_grow(source, piece) != 0)
            return -1;
        length = (ssize_t)fread(source->bytes + source->used, 1, piece, source->file);
    } else {
        length = getline(&source->line, &source->line_room, source->file);
        if (length > 0 && source_grow(source, (size_t)length) != 0)
            return -1;
        if (length > 0)
            memcpy(source->bytes + source->used, source->line, (size_t)length);
    }
    if (ferror(source->file))
        return fail("cannot read %s: %s", source->name, strerror(errno));
    if (length <= 0)
        return 0;
    if (piece == 0 && source->bytes[source->used + (size_t)length - 1] == '\n')
        length--;
    source->used += (size_t)length;
    source->lengths[source->count++] = (size_t)length;
    return 1;
}

/* Read the records of one transaction: 1, 0 if there are none left, or -1. */
static int source_fill(struct source *source, const struct options *options)
{
    int more = 1;
    source->used = 0;
    source->count = 0;
    while (more == 1 && source->count < options->batch && source->used < BATCH_BYTES)
        more = source_next(source, (size_t)options->bytes);
    return more < 0 ? -1 : source->count > 0;
}

int append_end(pheap *heap, pheap_txn *txn, enum sessionlog_status status, enum pheap_durability how)
{
    uint64_t version;
    if (status != SESSIONLOG_FULL)
        return txn_end(txn, status, how);
    enum pheap_status committed = pheap_commit(txn, how, &version);
    if (committed != PHEAP_OK)
        return fail_heap(committed, "cannot commit");
    /* Not for ever: what makes room may be a lease that runs out, and that is no commit. */
    committed = pheap_wait(heap, version, 100, NULL);
    return committed == PHEAP_OK || committed == PHEAP_TIMEOUT ? 1 : fail_heap(committed, "cannot wait for room");
}

/* Append the records that have been read: in one transaction, or in several if the log is full meanwhile. */
static int source_append(pheap *heap, uint64_t log, const struct source *source, enum pheap_durability how)
{
    uint64_t done = 0;
    const char *bytes = source->bytes;
    while (done < source->count) {
        pheap_txn *txn;
        enum sessionlog_status appended = SESSIONLOG_OK;
        enum pheap_status status = pheap_begin(heap, &txn);
        if (status != PHEAP_OK)
            return fail_heap(status, "cannot begin");
        while (done < source->count && appended == SESSIONLOG_OK) {
            appended = sessionlog_append(txn, log, bytes, source->lengths[done], NULL);
            if (appended == SESSIONLOG_OK)
                bytes += source->lengths[done++];
        }
        if (append_end(heap, txn, appended, how) < 0)
            return -1;
    }
    return 0;
}

int produce_run(const char *path, const struct options *options)
{
    pheap *heap;
    uint64_t log;
    struct source source = {.file = stdin, .name = options->file != NULL ? options->file : "standard input"};
    if (log_open(path, &heap, &log) != 0)
        return -1;
    int more = 1;
    if (options->file != NULL && (source.file = fopen(options->file, "re")) == NULL)
        more = fail("cannot read %s: %s", source.name, strerror(errno));
    if (more == 1 && (source.lengths = calloc(options->batch, sizeof *source.lengths)) == NULL)
        more = fail("no memory for %llu records", (unsigned long long)options->batch);
    while (more == 1 && (more = source_fill(&source, options)) == 1)
        if (source_append(heap, log, &source, options->how) != 0)
            more = -1;
    free(source.line);
    free(source.bytes);
    free(source.lengths);
    if (source.file != NULL && source.file != stdin)
        fclose(source.file);
    return log_close(path, heap, more);
}

/* --------------------------------------------------------------------------------------------------------- listen */

int listener_open(pheap *heap, uint64_t log, const char *name, const struct options *options,
                  struct sessionlog_listener *listener)
{
    pheap_txn *txn;
    enum pheap_status status = pheap_begin(heap, &txn);
    if (status != PHEAP_OK)
        return fail_heap(status, "cannot begin");
    return txn_end(txn, sessionlog_register(txn, log, name, options->lease_ms, options->from, listener, NULL),
                   options->how);
}

/* Write the records of a batch that has begun, at most `most`: *sequence is the last of them, *written how many. */
static int batch_write(struct sessionlog_batch *batch, const struct options *options, uint64_t most, uint64_t *sequence,
                       uint64_t *written)
{
    struct sessionlog_record record;
    enum sessionlog_status status = SESSIONLOG_END;
    *written = 0;
    while (*written < most && (status = sessionlog_batch_next(batch, &record)) == SESSIONLOG_OK) {
        fwrite(record.bytes, 1, record.length, stdout);
        if (!options->raw)
            putchar('\n');
        *sequence = record.sequence;
        ++*written;
    }
    if (status != SESSIONLOG_OK && status != SESSIONLOG_END)
        return fail_log();
    /* What is acknowledged must have left this process. */
    if (fflush(stdout) == 0 && ferror(stdout) == 0)
        return 0;
    return fail("cannot write to standard output: %s", strerror(errno));
}

/* Wait for records, write them, acknowledge them: 1 to go on, 0 when none came, -1 on failure. */
static int batch_listen(pheap *heap, const struct sessionlog_listener *listener, const struct options *options,
                        uint64_t *left)
{
    struct sessionlog_batch batch;
    pheap_txn *txn;
    uint64_t sequence = 0;
    uint64_t written;
    enum sessionlog_status status = sessionlog_batch_begin(heap, listener, options->wait_ms, &batch);
    if (status != SESSIONLOG_OK)
        return status == SESSIONLOG_END ? 0 : fail_log();
    int result = batch_write(&batch, options, *left < options->batch ? *left : options->batch, &sequence, &written);
    sessionlog_batch_end(&batch);
    if (result != 0)
        return -1;
    enum pheap_status begun = pheap_begin(heap, &txn);
    if (begun != PHEAP_OK)
        return fail_heap(begun, "cannot begin");
    *left -= written;
    return txn_end(txn, sessionlog_acknowledge(txn, listener, sequence), options->how) == 0 ? 1 : -1;
}

int listen_run(const char *path, const char *name, const struct options *options)
{
    pheap *heap;
    pheap_txn *txn;
    struct sessionlog_listener listener;
    uint64_t log;
    uint64_t left = options->count;
    if (log_open(path, &heap, &log) != 0)
        return -1;
    int more = listener_open(heap, log, name, options, &listener) == 0 ? 1 : -1;
    while (more == 1 && left > 0)
        more = batch_listen(heap, &listener, options, &left);
    int result = more < 0 ? -1 : 0;
    if (result == 0 && options->leave) {
        enum pheap_status status = pheap_begin(heap, &txn);
        result = status != PHEAP_OK ? fail_heap(status, "cannot begin")
                                    : txn_end(txn, sessionlog_unregister(txn, &listener), options->how);
    }
    return log_close(path, heap, result);
}
