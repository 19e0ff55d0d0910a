/* SPDX-License-Identifier: MIT */
/* The log itself: checked access to its parts, making one, appending to it. */
#define _POSIX_C_SOURCE 200809L
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "layout.h"

static _Thread_local char detail[1200];

const char *sessionlog_detail(void)
{
    return detail;
}

enum sessionlog_status log_fail(enum sessionlog_status status, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    (void)vsnprintf(detail, sizeof detail, format, arguments);
    va_end(arguments);
    return status;
}

enum sessionlog_status log_fail_heap(enum pheap_status status, const char *what)
{
    return log_fail(SESSIONLOG_HEAP, "%s: %s: %s", what, pheap_status_text(status), pheap_error_detail());
}

/* ---------------------------------------------------------------------------------------------------------- access */

/* Check that a live block starts at `offset` and has at least `length` usable bytes. */
static enum sessionlog_status block_get(const struct log_view *view, uint64_t offset, uint64_t length, const char *what,
                                        const void **address, uint64_t *usable)
{
    enum pheap_status status = view->txn != NULL ? pheap_usable_size(view->txn, offset, usable)
                                                 : pheap_read_usable_size(view->read, offset, usable);
    if (status == PHEAP_BAD_OFFSET || (status == PHEAP_OK && *usable < length))
        return log_fail(SESSIONLOG_DAMAGED, "no %s at offset %llu", what, (unsigned long long)offset);
    if (status != PHEAP_OK)
        return log_fail_heap(status, "cannot look at the log");
    *address = view->txn != NULL ? pheap_ptr(view->txn, offset) : pheap_read_ptr(view->read, offset);
    return SESSIONLOG_OK;
}

enum sessionlog_status log_get(const struct log_view *view, uint64_t log, const struct log_block **block)
{
    const void *address;
    uint64_t usable;
    enum sessionlog_status status = block_get(view, log, sizeof **block, "log", &address, &usable);
    if (status != SESSIONLOG_OK)
        return status;
    const struct log_block *found = address;
    if (memcmp(found->magic, LOG_MAGIC, sizeof found->magic) != 0)
        return log_fail(SESSIONLOG_DAMAGED, "no log at offset %llu: the block there is something else",
                        (unsigned long long)log);
    if (found->format != LOG_FORMAT)
        return log_fail(SESSIONLOG_DAMAGED, "the log has format %u; this program knows format %u", found->format,
                        LOG_FORMAT);
    if (found->listeners > SESSIONLOG_LISTENERS_MAX)
        return log_fail(SESSIONLOG_DAMAGED, "the log counts %llu listeners", (unsigned long long)found->listeners);
    *block = found;
    return SESSIONLOG_OK;
}

enum sessionlog_status chunk_get(const struct log_view *view, uint64_t chunk, const struct chunk_block **block)
{
    const void *address;
    uint64_t usable;
    enum sessionlog_status status = block_get(view, chunk, sizeof **block, "chunk of records", &address, &usable);
    if (status != SESSIONLOG_OK)
        return status;
    const struct chunk_block *found = address;
    if (found->capacity > usable || found->used > found->capacity || found->used < sizeof *found ||
        found->used % 16 != 0 || found->count == 0)
        return log_fail(SESSIONLOG_DAMAGED, "the chunk at offset %llu has sizes that cannot be",
                        (unsigned long long)chunk);
    *block = found;
    return SESSIONLOG_OK;
}

enum sessionlog_status listener_get(const struct log_view *view, uint64_t listener, const struct listener_block **block)
{
    const void *address;
    uint64_t usable;
    enum sessionlog_status status = block_get(view, listener, sizeof **block, "listener", &address, &usable);
    if (status != SESSIONLOG_OK)
        return status;
    const struct listener_block *found = address;
    if (memchr(found->name, 0, sizeof found->name) == NULL)
        return log_fail(SESSIONLOG_DAMAGED, "the listener at offset %llu has a name without an end",
                        (unsigned long long)listener);
    *block = found;
    return SESSIONLOG_OK;
}

uint64_t record_space(uint64_t length)
{
    return sizeof(struct record_head) + ((length + 15) & ~UINT64_C(15));
}

enum sessionlog_status record_get(uint64_t chunk, const struct chunk_block *block, uint64_t position, uint64_t sequence,
                                  const struct record_head **record)
{
    if (position < sizeof *block || position % 16 != 0 || position > block->used ||
        block->used - position < sizeof **record)
        return log_fail(SESSIONLOG_DAMAGED, "no record at byte %llu of the chunk at offset %llu",
                        (unsigned long long)position, (unsigned long long)chunk);
    const struct record_head *found = (const void *)((const char *)block + position);
    if (found->sequence != sequence || found->length > SESSIONLOG_RECORD_MAX ||
        record_space(found->length) > block->used - position)
        return log_fail(SESSIONLOG_DAMAGED, "byte %llu of the chunk at offset %llu is not record %llu",
                        (unsigned long long)position, (unsigned long long)chunk, (unsigned long long)sequence);
    *record = found;
    return SESSIONLOG_OK;
}

enum sessionlog_status place_settle(const struct log_view *view, uint64_t *chunk, uint64_t *position, uint64_t sequence,
                                    const struct chunk_block **block)
{
    enum sessionlog_status status = chunk_get(view, *chunk, block);
    if (status != SESSIONLOG_OK || *position != (*block)->used)
        return status;
    uint64_t next = (*block)->next;
    status = chunk_get(view, next, block);
    if (status == SESSIONLOG_OK && (*block)->first != sequence)
        status = log_fail(SESSIONLOG_DAMAGED, "the chunk at offset %llu does not begin with record %llu",
                          (unsigned long long)next, (unsigned long long)sequence);
    if (status == SESSIONLOG_OK) {
        *chunk = next;
        *position = sizeof **block;
    }
    return status;
}

enum sessionlog_status log_edit(pheap_txn *txn, uint64_t offset, uint64_t length, void *address)
{
    enum pheap_status status = pheap_edit(txn, offset, length, address);
    return status == PHEAP_OK ? SESSIONLOG_OK : log_fail_heap(status, "cannot change the log");
}

/* ---------------------------------------------------------------------------------------------------------- append */

enum sessionlog_status sessionlog_create(pheap_txn *txn, uint64_t limit_bytes, uint64_t *log)
{
    if (limit_bytes != 0 && limit_bytes < SESSIONLOG_LIMIT_MIN)
        return log_fail(SESSIONLOG_INVALID, "the limit of a log must be 0 or at least %u bytes", SESSIONLOG_LIMIT_MIN);
    struct log_block fresh = {.magic = LOG_MAGIC, .format = LOG_FORMAT, .next = 1, .limit_bytes = limit_bytes};
    uint64_t offset;
    enum pheap_status status = pheap_alloc(txn, sizeof fresh, &offset);
    if (status == PHEAP_OK)
        status = pheap_write(txn, offset, &fresh, sizeof fresh);
    if (status != PHEAP_OK)
        return log_fail_heap(status, "cannot make a log");
    *log = offset;
    return SESSIONLOG_OK;
}

/* Put an empty chunk with room for a record that takes `space` bytes at the end of the log. */
static enum sessionlog_status chunk_add(pheap_txn *txn, uint64_t log, uint64_t space)
{
    struct log_block *block;
    struct chunk_block *last;
    uint64_t chunk;
    struct chunk_block fresh = {.used = sizeof fresh, .capacity = SESSIONLOG_CHUNK_BYTES};
    if (space > SESSIONLOG_CHUNK_BYTES / 2)
        fresh.capacity = sizeof fresh + space;
    enum sessionlog_status result = log_edit(txn, log, sizeof *block, &block);
    if (result != SESSIONLOG_OK)
        return result;
    if (block->limit_bytes != 0 && fresh.capacity > block->limit_bytes - SESSIONLOG_CHUNK_BYTES)
        return log_fail(SESSIONLOG_INVALID, "the record would never fit the limit of the log, %llu bytes",
                        (unsigned long long)block->limit_bytes);
    if (block->limit_bytes != 0 && block->space_bytes + fresh.capacity > block->limit_bytes)
        return log_fail(SESSIONLOG_FULL, "the log is at its limit of %llu bytes; listeners must acknowledge",
                        (unsigned long long)block->limit_bytes);
    enum pheap_status status = pheap_alloc(txn, fresh.capacity, &chunk);
    if (status != PHEAP_OK)
        return log_fail_heap(status, "no room for a record");
    fresh.first = block->next;
    status = pheap_write(txn, chunk, &fresh, sizeof fresh);
    if (status != PHEAP_OK)
        return log_fail_heap(status, "cannot begin a chunk");
    if (block->last_chunk != 0) {
        result = log_edit(txn, block->last_chunk, sizeof *last, &last);
        if (result != SESSIONLOG_OK)
            return result;
        last->next = chunk;
    } else {
        block->first_chunk = chunk;
    }
    block->last_chunk = chunk;
    block->chunks++;
    block->space_bytes += fresh.capacity;
    return SESSIONLOG_OK;
}

/* Whether the last chunk has room for `space` bytes more. */
static enum sessionlog_status room_find(const struct log_view *view, uint64_t log, uint64_t space, bool *room)
{
    const struct log_block *block;
    const struct chunk_block *last;
    *room = false;
    enum sessionlog_status status = log_get(view, log, &block);
    if (status != SESSIONLOG_OK || block->last_chunk == 0)
        return status;
    status = chunk_get(view, block->last_chunk, &last);
    *room = status == SESSIONLOG_OK && last->capacity - last->used >= space;
    return status;
}

enum sessionlog_status sessionlog_reserve(pheap_txn *txn, uint64_t log, uint64_t length, void **bytes,
                                          uint64_t *sequence)
{
    const struct log_view view = {.txn = txn};
    struct log_block *block = NULL;
    struct chunk_block *chunk;
    struct record_head *record;
    bool room;
    if (length > SESSIONLOG_RECORD_MAX)
        return log_fail(SESSIONLOG_INVALID, "a record has at most %llu bytes",
                        (unsigned long long)SESSIONLOG_RECORD_MAX);
    uint64_t space = record_space(length);
    enum sessionlog_status status = room_find(&view, log, space, &room);
    /* A new chunk is the occasion to let the dead go; what they held may be what is needed. */
    if (status == SESSIONLOG_OK && !room)
        status = sessionlog_expire(txn, log);
    if (status == SESSIONLOG_OK && !room)
        status = chunk_add(txn, log, space);
    if (status == SESSIONLOG_OK)
        status = log_edit(txn, log, sizeof *block, &block);
    if (status == SESSIONLOG_OK)
        status = log_edit(txn, block->last_chunk, sizeof *chunk, &chunk);
    if (status == SESSIONLOG_OK)
        status = log_edit(txn, block->last_chunk + chunk->used, space, &record);
    if (status != SESSIONLOG_OK)
        return status;
    *record = (struct record_head){.sequence = block->next, .length = length};
    *bytes = record + 1;
    chunk->used += space;
    chunk->count++;
    block->appended_bytes += length;
    if (sequence != NULL)
        *sequence = block->next;
    block->next++;
    return SESSIONLOG_OK;
}

enum sessionlog_status sessionlog_append(pheap_txn *txn, uint64_t log, const void *bytes, uint64_t length,
                                         uint64_t *sequence)
{
    void *place;
    enum sessionlog_status status = sessionlog_reserve(txn, log, length, &place, sequence);
    if (status == SESSIONLOG_OK && length > 0)
        memcpy(place, bytes, length);
    return status;
}
