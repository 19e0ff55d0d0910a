/* SPDX-License-Identifier: MIT */
/* Reading: batches of records in a snapshot, figures, and the check of a whole log. */
#define _POSIX_C_SOURCE 200809L
#include <string.h>

#include "layout.h"

#define NS_PER_MS UINT64_C(1000000)

/* --------------------------------------------------------------------------------------------------------- batches */

/* Begin a snapshot and set the batch to the listener's place in it; END if there is nothing to read. */
static enum sessionlog_status batch_open(pheap *heap, const struct sessionlog_listener *held,
                                         struct sessionlog_batch *batch, struct listener_block *listener)
{
    struct log_view view = {.txn = NULL};
    const struct log_block *block;
    struct listener_walk walk;
    *batch = (struct sessionlog_batch){.read = NULL};
    /* The newest version, or the wait for the next one would end at once. */
    enum pheap_status begun = pheap_read_begin(heap, PHEAP_FRESH, &view.read);
    if (begun != PHEAP_OK)
        return log_fail_heap(begun, "cannot read the log");
    batch->read = view.read;
    enum sessionlog_status status = listener_find(&walk, &view, held);
    if (status == SESSIONLOG_OK)
        status = log_get(&view, held->log, &block);
    if (status != SESSIONLOG_OK)
        return status;
    *listener = *walk.block;
    batch->chunk = listener->chunk != 0 ? listener->chunk : block->first_chunk;
    batch->position = listener->chunk != 0 ? listener->position : sizeof(struct chunk_block);
    batch->sequence = listener->sequence;
    batch->end = block->next;
    return batch->sequence < batch->end ? SESSIONLOG_OK : SESSIONLOG_END;
}

static enum sessionlog_status renew_alone(pheap *heap, const struct sessionlog_listener *listener)
{
    pheap_txn *txn;
    enum pheap_status status = pheap_begin(heap, &txn);
    if (status != PHEAP_OK)
        return log_fail_heap(status, "cannot renew a lease");
    enum sessionlog_status result = sessionlog_renew(txn, listener);
    if (result != SESSIONLOG_OK) {
        (void)pheap_abort(txn);
        return result;
    }
    status = pheap_commit(txn, PHEAP_LAZY, NULL);
    return status == PHEAP_OK ? SESSIONLOG_OK : log_fail_heap(status, "cannot renew a lease");
}

/* Wait for a commit after `version`, until `deadline_ns` or until the lease should be renewed; renew it then. */
static enum sessionlog_status batch_wait(pheap *heap, const struct sessionlog_listener *held,
                                         const struct listener_block *listener, uint64_t version, uint64_t deadline_ns)
{
    char boot[BOOT_BYTES];
    uint64_t now_ns;
    enum sessionlog_status status = lease_clock(&now_ns, boot);
    if (status != SESSIONLOG_OK)
        return status;
    if (now_ns >= deadline_ns)
        return SESSIONLOG_END;
    /* A lease of another boot looks as if it were far away, or long over: neither is ever waited for. */
    uint64_t left_ns = listener->until_ns > now_ns ? listener->until_ns - now_ns : 0;
    uint64_t third_ns = listener->lease_ns / 3;
    if (left_ns < listener->lease_ns - third_ns || left_ns > listener->lease_ns)
        return renew_alone(heap, held);
    uint64_t wait_ns = left_ns - (listener->lease_ns - third_ns);
    if (wait_ns > deadline_ns - now_ns)
        wait_ns = deadline_ns - now_ns;
    enum pheap_status waited = pheap_wait(heap, version, (int64_t)(wait_ns / NS_PER_MS) + 1, NULL);
    if (waited != PHEAP_OK && waited != PHEAP_TIMEOUT)
        return log_fail_heap(waited, "cannot wait for records");
    return SESSIONLOG_OK;
}

enum sessionlog_status sessionlog_batch_begin(pheap *heap, const struct sessionlog_listener *listener,
                                              int64_t timeout_ms, struct sessionlog_batch *batch)
{
    char boot[BOOT_BYTES];
    struct listener_block place = {.lease_ns = 0};
    uint64_t now_ns;
    enum sessionlog_status status = lease_clock(&now_ns, boot);
    if (status != SESSIONLOG_OK)
        return status;
    uint64_t deadline_ns = timeout_ms < 0 || (uint64_t)timeout_ms > SESSIONLOG_LEASE_MAX_MS
                               ? UINT64_MAX
                               : now_ns + (uint64_t)timeout_ms * NS_PER_MS;
    while ((status = batch_open(heap, listener, batch, &place)) == SESSIONLOG_END) {
        uint64_t version = pheap_read_version(batch->read);
        sessionlog_batch_end(batch);
        status = batch_wait(heap, listener, &place, version, deadline_ns);
        if (status != SESSIONLOG_OK)
            return status;
    }
    if (status != SESSIONLOG_OK)
        sessionlog_batch_end(batch);
    return status;
}

enum sessionlog_status sessionlog_batch_next(struct sessionlog_batch *batch, struct sessionlog_record *record)
{
    const struct log_view view = {.read = batch->read};
    const struct chunk_block *chunk;
    const struct record_head *head;
    if (batch->sequence == batch->end)
        return SESSIONLOG_END;
    enum sessionlog_status status = place_settle(&view, &batch->chunk, &batch->position, batch->sequence, &chunk);
    if (status == SESSIONLOG_OK)
        status = record_get(batch->chunk, chunk, batch->position, batch->sequence, &head);
    if (status != SESSIONLOG_OK)
        return status;
    *record = (struct sessionlog_record){.sequence = head->sequence, .length = head->length, .bytes = head + 1};
    batch->sequence++;
    batch->position += record_space(head->length);
    return SESSIONLOG_OK;
}

void sessionlog_batch_end(struct sessionlog_batch *batch)
{
    pheap_read_end(batch->read);
    batch->read = NULL;
}

/* ------------------------------------------------------------------------------------------------------ inspection */

/* Number of the oldest record that is kept. */
static enum sessionlog_status oldest_get(const struct log_view *view, const struct log_block *block, uint64_t *oldest)
{
    const struct chunk_block *chunk;
    *oldest = block->next;
    if (block->first_chunk == 0)
        return SESSIONLOG_OK;
    enum sessionlog_status status = chunk_get(view, block->first_chunk, &chunk);
    if (status == SESSIONLOG_OK)
        *oldest = chunk->first;
    return status;
}

enum sessionlog_status sessionlog_stat(pheap_read *read, uint64_t log, struct sessionlog_stats *stats)
{
    const struct log_view view = {.read = read};
    const struct log_block *block;
    uint64_t oldest;
    enum sessionlog_status status = log_get(&view, log, &block);
    if (status == SESSIONLOG_OK)
        status = oldest_get(&view, block, &oldest);
    if (status == SESSIONLOG_OK)
        *stats = (struct sessionlog_stats){.next = block->next,
                                           .oldest = oldest,
                                           .chunks = block->chunks,
                                           .space_bytes = block->space_bytes,
                                           .limit_bytes = block->limit_bytes,
                                           .appended_bytes = block->appended_bytes,
                                           .listeners = block->listeners,
                                           .expired = block->expired};
    return status;
}

enum sessionlog_status sessionlog_listener_get(pheap_read *read, uint64_t log, uint64_t index,
                                               struct sessionlog_listener_info *info)
{
    const struct log_view view = {.read = read};
    const struct log_block *block;
    struct listener_walk walk;
    char boot[BOOT_BYTES];
    uint64_t now_ns;
    enum sessionlog_status status = lease_clock(&now_ns, boot);
    if (status == SESSIONLOG_OK)
        status = log_get(&view, log, &block);
    if (status == SESSIONLOG_OK)
        status = listener_walk_begin(&walk, &view, log);
    for (uint64_t i = 0; i <= index && status == SESSIONLOG_OK; i++)
        status = listener_walk_next(&walk);
    if (status != SESSIONLOG_OK)
        return status;
    /* Leases of another boot will begin anew. */
    bool same_boot = memcmp(block->boot, boot, BOOT_BYTES) == 0;
    int64_t left_ns = (int64_t)(same_boot ? walk.block->until_ns - now_ns : walk.block->lease_ns);
    *info = (struct sessionlog_listener_info){.next = walk.block->sequence,
                                              .lease_ms = walk.block->lease_ns / NS_PER_MS,
                                              .left_ms = left_ns / (int64_t)NS_PER_MS};
    memcpy(info->name, walk.block->name, sizeof info->name);
    return SESSIONLOG_OK;
}

/* Follow the records of a chunk to its end. */
static enum sessionlog_status chunk_check(uint64_t offset, const struct chunk_block *chunk, uint64_t sequence)
{
    const struct record_head *record;
    uint64_t position = sizeof *chunk;
    if (chunk->first != sequence)
        return log_fail(SESSIONLOG_DAMAGED, "the chunk at offset %llu should begin with record %llu, not %llu",
                        (unsigned long long)offset, (unsigned long long)sequence, (unsigned long long)chunk->first);
    for (uint64_t i = 0; i < chunk->count; i++) {
        enum sessionlog_status status = record_get(offset, chunk, position, sequence + i, &record);
        if (status != SESSIONLOG_OK)
            return status;
        position += record_space(record->length);
    }
    if (position != chunk->used)
        return log_fail(SESSIONLOG_DAMAGED, "the chunk at offset %llu has bytes behind its last record",
                        (unsigned long long)offset);
    return SESSIONLOG_OK;
}

static enum sessionlog_status chunks_check(const struct log_view *view, const struct log_block *block)
{
    const struct chunk_block *chunk;
    uint64_t offset = block->first_chunk;
    uint64_t last = 0;
    uint64_t space_bytes = 0;
    uint64_t sequence;
    enum sessionlog_status status = oldest_get(view, block, &sequence);
    for (uint64_t i = 0; i < block->chunks && status == SESSIONLOG_OK; i++) {
        status = chunk_get(view, offset, &chunk);
        if (status == SESSIONLOG_OK)
            status = chunk_check(offset, chunk, sequence);
        if (status != SESSIONLOG_OK)
            break;
        sequence += chunk->count;
        space_bytes += chunk->capacity;
        last = offset;
        offset = chunk->next;
    }
    if (status == SESSIONLOG_OK &&
        (offset != 0 || last != block->last_chunk || sequence != block->next || space_bytes != block->space_bytes))
        status = log_fail(SESSIONLOG_DAMAGED, "the chunks of the log do not end where and as the log says");
    return status;
}

/* A listener's place must be where its number is. */
static enum sessionlog_status listener_check(const struct log_view *view, const struct log_block *block,
                                             const struct listener_block *listener)
{
    const struct chunk_block *chunk;
    const struct record_head *record;
    uint64_t offset = listener->chunk != 0 ? listener->chunk : block->first_chunk;
    uint64_t position = listener->chunk != 0 ? listener->position : sizeof *chunk;
    if (listener->sequence > block->next)
        return log_fail(SESSIONLOG_DAMAGED, "listener %s is beyond the end of the log", listener->name);
    if (offset == 0 && listener->sequence == block->next)
        return SESSIONLOG_OK;
    enum sessionlog_status status;
    if (listener->sequence < block->next) {
        status = place_settle(view, &offset, &position, listener->sequence, &chunk);
        return status == SESSIONLOG_OK ? record_get(offset, chunk, position, listener->sequence, &record) : status;
    }
    status = chunk_get(view, offset, &chunk);
    if (status == SESSIONLOG_OK && (offset != block->last_chunk || position != chunk->used))
        status = log_fail(SESSIONLOG_DAMAGED, "listener %s has read all, and is not at the end", listener->name);
    return status;
}

enum sessionlog_status sessionlog_check(pheap_read *read, uint64_t log)
{
    const struct log_view view = {.read = read};
    const struct log_block *block;
    struct listener_walk walk;
    enum sessionlog_status status = log_get(&view, log, &block);
    if (status == SESSIONLOG_OK)
        status = chunks_check(&view, block);
    if (status == SESSIONLOG_OK)
        status = listener_walk_begin(&walk, &view, log);
    while (status == SESSIONLOG_OK && (status = listener_walk_next(&walk)) == SESSIONLOG_OK)
        status = listener_check(&view, block, walk.block);
    if (status == SESSIONLOG_END && walk.next != 0)
        return log_fail(SESSIONLOG_DAMAGED, "the log has more listeners than it counts");
    return status == SESSIONLOG_END ? SESSIONLOG_OK : status;
}
