/* SPDX-License-Identifier: MIT */
/* Listeners: registration, acknowledgement, leases, and freeing what nobody waits for. */
#define _GNU_SOURCE
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "layout.h"

#define NS_PER_MS UINT64_C(1000000)

/* ------------------------------------------------------------------------------------------------------------ walk */

enum sessionlog_status listener_walk_begin(struct listener_walk *walk, const struct log_view *view, uint64_t log)
{
    const struct log_block *block;
    enum sessionlog_status status = log_get(view, log, &block);
    if (status == SESSIONLOG_OK)
        *walk = (struct listener_walk){.view = *view,
                                       .left = block->listeners,
                                       .next = block->first_listener,
                                       .slot = log + offsetof(struct log_block, first_listener)};
    return status;
}

enum sessionlog_status listener_walk_next(struct listener_walk *walk)
{
    if (walk->left == 0)
        return SESSIONLOG_END;
    enum sessionlog_status status = listener_get(&walk->view, walk->next, &walk->block);
    if (status != SESSIONLOG_OK)
        return status;
    walk->left--;
    walk->offset = walk->next;
    walk->next = walk->block->next;
    walk->own_slot = walk->slot;
    walk->slot = walk->offset + offsetof(struct listener_block, next);
    return SESSIONLOG_OK;
}

static enum sessionlog_status walk_to_name(struct listener_walk *walk, const char *name)
{
    enum sessionlog_status status;
    while ((status = listener_walk_next(walk)) == SESSIONLOG_OK && strcmp(walk->block->name, name) != 0)
        ;
    return status;
}

enum sessionlog_status listener_find(struct listener_walk *walk, const struct log_view *view,
                                     const struct sessionlog_listener *held)
{
    enum sessionlog_status status = listener_walk_begin(walk, view, held->log);
    if (status == SESSIONLOG_OK)
        status = walk_to_name(walk, held->name);
    if (status == SESSIONLOG_END)
        return log_fail(SESSIONLOG_EXPIRED, "the lease of listener %s ran out, or somebody unregistered it",
                        held->name);
    if (status == SESSIONLOG_OK && walk->block->holder != held->holder)
        return log_fail(SESSIONLOG_TAKEN, "another process has registered listener %s since", held->name);
    return status;
}

/* Take the listener of the walk out of the log; the walk goes on behind it. */
static enum sessionlog_status walk_remove(struct listener_walk *walk, uint64_t log)
{
    struct log_block *block;
    enum sessionlog_status result = log_edit(walk->view.txn, log, sizeof *block, &block);
    if (result != SESSIONLOG_OK)
        return result;
    block->listeners--;
    enum pheap_status status = pheap_write(walk->view.txn, walk->own_slot, &walk->next, sizeof walk->next);
    if (status == PHEAP_OK)
        status = pheap_free(walk->view.txn, walk->offset);
    walk->slot = walk->own_slot;
    return status == PHEAP_OK ? SESSIONLOG_OK : log_fail_heap(status, "cannot remove a listener");
}

/* ---------------------------------------------------------------------------------------------------------- leases */

enum sessionlog_status lease_clock(uint64_t *now_ns, char boot[BOOT_BYTES])
{
    static _Thread_local char known[BOOT_BYTES]; /* it does not change while a process lives */
    struct timespec now;
    if (known[0] == 0) {
        FILE *file = fopen("/proc/sys/kernel/random/boot_id", "re");
        if (file == NULL || fread(known, 1, BOOT_BYTES - 1, file) == 0)
            log_fail(SESSIONLOG_HEAP, "leases need /proc/sys/kernel/random/boot_id: %s", strerror(errno));
        if (file != NULL)
            fclose(file);
        if (known[0] == 0)
            return SESSIONLOG_HEAP;
    }
    if (clock_gettime(CLOCK_BOOTTIME, &now) != 0)
        return log_fail(SESSIONLOG_HEAP, "leases need the clock CLOCK_BOOTTIME: %s", strerror(errno));
    memcpy(boot, known, BOOT_BYTES);
    *now_ns = (uint64_t)now.tv_sec * UINT64_C(1000000000) + (uint64_t)now.tv_nsec;
    return SESSIONLOG_OK;
}

/* The clock, in a transaction: if the leases ran by that of another boot, they all begin anew. */
static enum sessionlog_status leases_settle(pheap_txn *txn, uint64_t log, uint64_t *now_ns)
{
    const struct log_view view = {.txn = txn};
    const struct log_block *block;
    struct log_block *changed;
    struct listener_block *listener;
    struct listener_walk walk;
    char boot[BOOT_BYTES];
    enum sessionlog_status status = lease_clock(now_ns, boot);
    if (status == SESSIONLOG_OK)
        status = log_get(&view, log, &block);
    if (status != SESSIONLOG_OK || memcmp(block->boot, boot, BOOT_BYTES) == 0)
        return status;
    status = listener_walk_begin(&walk, &view, log);
    while (status == SESSIONLOG_OK && (status = listener_walk_next(&walk)) == SESSIONLOG_OK) {
        status = log_edit(txn, walk.offset, sizeof *listener, &listener);
        if (status == SESSIONLOG_OK)
            listener->until_ns = *now_ns + listener->lease_ns;
    }
    if (status == SESSIONLOG_END)
        status = log_edit(txn, log, sizeof *changed, &changed);
    if (status == SESSIONLOG_OK)
        memcpy(changed->boot, boot, BOOT_BYTES);
    return status;
}

/* ------------------------------------------------------------------------------------------------------------ trim */

/* Whether every listener, and there is one, has acknowledged all records before `sequence`. */
static enum sessionlog_status all_beyond(const struct log_view *view, uint64_t log, uint64_t sequence, bool *beyond)
{
    struct listener_walk walk;
    *beyond = false;
    enum sessionlog_status status = listener_walk_begin(&walk, view, log);
    while (status == SESSIONLOG_OK && (status = listener_walk_next(&walk)) == SESSIONLOG_OK) {
        *beyond = walk.block->sequence >= sequence;
        if (!*beyond)
            return SESSIONLOG_OK;
    }
    return status == SESSIONLOG_END ? SESSIONLOG_OK : status;
}

/* Take the first chunk out of the log.  Listeners at its end move to the beginning of the next. */
static enum sessionlog_status first_chunk_free(pheap_txn *txn, uint64_t log, const struct chunk_block *chunk)
{
    const struct log_view view = {.txn = txn};
    struct listener_walk walk;
    struct listener_block *listener;
    struct log_block *block;
    enum sessionlog_status status = log_edit(txn, log, sizeof *block, &block);
    if (status == SESSIONLOG_OK)
        status = listener_walk_begin(&walk, &view, log);
    while (status == SESSIONLOG_OK && (status = listener_walk_next(&walk)) == SESSIONLOG_OK) {
        if (walk.block->chunk != block->first_chunk)
            continue;
        status = log_edit(txn, walk.offset, sizeof *listener, &listener);
        if (status == SESSIONLOG_OK) {
            listener->chunk = chunk->next;
            listener->position = chunk->next != 0 ? sizeof *chunk : 0;
        }
    }
    if (status != SESSIONLOG_END)
        return status;
    uint64_t offset = block->first_chunk;
    block->first_chunk = chunk->next;
    if (chunk->next == 0)
        block->last_chunk = 0;
    block->chunks--;
    block->space_bytes -= chunk->capacity;
    enum pheap_status freed = pheap_free(txn, offset);
    return freed == PHEAP_OK ? SESSIONLOG_OK : log_fail_heap(freed, "cannot free a chunk");
}

/* Free the chunks that every listener has acknowledged. */
static enum sessionlog_status trim(pheap_txn *txn, uint64_t log)
{
    const struct log_view view = {.txn = txn};
    const struct log_block *block;
    const struct chunk_block *chunk;
    bool done;
    enum sessionlog_status status = log_get(&view, log, &block);
    while (status == SESSIONLOG_OK && block->first_chunk != 0) {
        status = chunk_get(&view, block->first_chunk, &chunk);
        if (status != SESSIONLOG_OK)
            break;
        if (block->first_chunk == block->last_chunk && chunk->capacity == SESSIONLOG_CHUNK_BYTES)
            break;
        status = all_beyond(&view, log, chunk->first + chunk->count, &done);
        if (status != SESSIONLOG_OK || !done)
            break;
        status = first_chunk_free(txn, log, chunk);
    }
    return status;
}

/* Remove the listeners whose leases have run out, except that of `holder`, and free what only they have held. */
static enum sessionlog_status expire_others(pheap_txn *txn, uint64_t log, uint64_t now_ns, uint64_t holder)
{
    const struct log_view view = {.txn = txn};
    struct listener_walk walk;
    struct log_block *block;
    enum sessionlog_status status = listener_walk_begin(&walk, &view, log);
    while (status == SESSIONLOG_OK && (status = listener_walk_next(&walk)) == SESSIONLOG_OK) {
        if (walk.block->until_ns >= now_ns || walk.block->holder == holder)
            continue;
        status = log_edit(txn, log, sizeof *block, &block);
        if (status != SESSIONLOG_OK)
            break;
        block->expired++;
        status = walk_remove(&walk, log);
    }
    return status == SESSIONLOG_END ? trim(txn, log) : status;
}

enum sessionlog_status sessionlog_expire(pheap_txn *txn, uint64_t log)
{
    uint64_t now_ns;
    enum sessionlog_status status = leases_settle(txn, log, &now_ns);
    return status == SESSIONLOG_OK ? expire_others(txn, log, now_ns, 0) : status;
}

/* -------------------------------------------------------------------------------------------------------- register */

/* Make a listener and put it in front of the others. */
static enum sessionlog_status listener_add(pheap_txn *txn, uint64_t log, const char *name, enum sessionlog_from from,
                                           uint64_t *offset)
{
    const struct log_view view = {.txn = txn};
    struct listener_block fresh = {.next = 0};
    struct log_block *block;
    const struct chunk_block *chunk;
    enum sessionlog_status result = log_edit(txn, log, sizeof *block, &block);
    if (result != SESSIONLOG_OK)
        return result;
    if (block->listeners == SESSIONLOG_LISTENERS_MAX)
        return log_fail(SESSIONLOG_INVALID, "a log has at most %u listeners", SESSIONLOG_LISTENERS_MAX);
    fresh.next = block->first_listener;
    fresh.sequence = block->next;
    fresh.chunk = from == SESSIONLOG_NOW ? block->last_chunk : block->first_chunk;
    if (fresh.chunk != 0) {
        result = chunk_get(&view, fresh.chunk, &chunk);
        if (result != SESSIONLOG_OK)
            return result;
        fresh.position = from == SESSIONLOG_NOW ? chunk->used : sizeof *chunk;
        fresh.sequence = from == SESSIONLOG_NOW ? block->next : chunk->first;
    }
    memcpy(fresh.name, name, strlen(name));
    enum pheap_status status = pheap_alloc(txn, sizeof fresh, offset);
    if (status == PHEAP_OK)
        status = pheap_write(txn, *offset, &fresh, sizeof fresh);
    if (status != PHEAP_OK)
        return log_fail_heap(status, "cannot add a listener");
    block->first_listener = *offset;
    block->listeners++;
    return SESSIONLOG_OK;
}

enum sessionlog_status sessionlog_register(pheap_txn *txn, uint64_t log, const char *name, uint64_t lease_ms,
                                           enum sessionlog_from from, struct sessionlog_listener *listener,
                                           uint64_t *next)
{
    const struct log_view view = {.txn = txn};
    struct listener_walk walk;
    struct log_block *block;
    struct listener_block *entry;
    uint64_t now_ns;
    size_t length = strlen(name);
    if (length == 0 || length >= SESSIONLOG_NAME_BYTES)
        return log_fail(SESSIONLOG_INVALID, "the name of a listener has 1 to %d bytes", SESSIONLOG_NAME_BYTES - 1);
    if (lease_ms == 0 || lease_ms > SESSIONLOG_LEASE_MAX_MS)
        return log_fail(SESSIONLOG_INVALID, "a lease lasts from 1 millisecond to a year");
    enum sessionlog_status status = leases_settle(txn, log, &now_ns);
    if (status == SESSIONLOG_OK)
        status = listener_walk_begin(&walk, &view, log);
    if (status == SESSIONLOG_OK)
        status = walk_to_name(&walk, name);
    uint64_t offset = walk.offset;
    if (status == SESSIONLOG_END)
        status = listener_add(txn, log, name, from, &offset);
    if (status == SESSIONLOG_OK)
        status = log_edit(txn, log, sizeof *block, &block);
    if (status == SESSIONLOG_OK)
        status = log_edit(txn, offset, sizeof *entry, &entry);
    if (status != SESSIONLOG_OK)
        return status;
    entry->holder = ++block->holder;
    entry->lease_ns = lease_ms * NS_PER_MS;
    entry->until_ns = now_ns + entry->lease_ns;
    *listener = (struct sessionlog_listener){.log = log, .holder = entry->holder};
    memcpy(listener->name, name, length);
    if (next != NULL)
        *next = entry->sequence;
    return SESSIONLOG_OK;
}

/* ----------------------------------------------------------------------------------------------------- acknowledge */

/* Move a listener's place behind record `sequence`, which is in the log. */
static enum sessionlog_status place_advance(const struct log_view *view, struct listener_block *listener,
                                            uint64_t sequence)
{
    const struct chunk_block *chunk;
    const struct record_head *record;
    while (listener->sequence <= sequence) {
        enum sessionlog_status status =
            place_settle(view, &listener->chunk, &listener->position, listener->sequence, &chunk);
        if (status != SESSIONLOG_OK)
            return status;
        if (sequence - chunk->first >= chunk->count - 1) {
            listener->sequence = chunk->first + chunk->count;
            listener->position = chunk->used;
            continue;
        }
        status = record_get(listener->chunk, chunk, listener->position, listener->sequence, &record);
        if (status != SESSIONLOG_OK)
            return status;
        listener->sequence++;
        listener->position += record_space(record->length);
    }
    return SESSIONLOG_OK;
}

/* Renew the lease of a listener and move it behind record `sequence` if it is not yet there. */
static enum sessionlog_status listener_touch(pheap_txn *txn, const struct sessionlog_listener *held, uint64_t sequence)
{
    const struct log_view view = {.txn = txn};
    const struct log_block *block;
    struct listener_walk walk;
    struct listener_block *listener;
    uint64_t now_ns;
    enum sessionlog_status status = leases_settle(txn, held->log, &now_ns);
    if (status == SESSIONLOG_OK)
        status = listener_find(&walk, &view, held);
    if (status == SESSIONLOG_OK)
        status = log_get(&view, held->log, &block);
    if (status == SESSIONLOG_OK && sequence >= block->next)
        status = log_fail(SESSIONLOG_INVALID, "there is no record %llu to acknowledge", (unsigned long long)sequence);
    if (status == SESSIONLOG_OK)
        status = log_edit(txn, walk.offset, sizeof *listener, &listener);
    if (status != SESSIONLOG_OK)
        return status;
    listener->until_ns = now_ns + listener->lease_ns;
    if (listener->chunk == 0 && block->first_chunk != 0) {
        listener->chunk = block->first_chunk;
        listener->position = sizeof(struct chunk_block);
    }
    status = place_advance(&view, listener, sequence);
    return status == SESSIONLOG_OK ? expire_others(txn, held->log, now_ns, held->holder) : status;
}

enum sessionlog_status sessionlog_acknowledge(pheap_txn *txn, const struct sessionlog_listener *listener,
                                              uint64_t sequence)
{
    return listener_touch(txn, listener, sequence);
}

enum sessionlog_status sessionlog_renew(pheap_txn *txn, const struct sessionlog_listener *listener)
{
    return listener_touch(txn, listener, 0);
}

enum sessionlog_status sessionlog_unregister(pheap_txn *txn, const struct sessionlog_listener *listener)
{
    const struct log_view view = {.txn = txn};
    struct listener_walk walk;
    enum sessionlog_status status = listener_find(&walk, &view, listener);
    if (status == SESSIONLOG_OK)
        status = walk_remove(&walk, listener->log);
    return status == SESSIONLOG_OK ? trim(txn, listener->log) : status;
}
