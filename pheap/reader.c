/* SPDX-License-Identifier: MIT */
/* What a read transaction can be asked: addresses, blocks, checks.  Its begin and end are in readview.c. */
#include "pheap/alloc.h"
#include "pheap/check.h"
#include "pheap/core.h"
#include "pheap/space.h"

#include <string.h>

static struct ph_space space_of(const pheap_read *reader)
{
    const struct ph_view *view = &reader->on->view;
    return (struct ph_space){.base = view->base, .size = view->at.heap_bytes};
}

/* Whether the reader can be asked: not one that came through fork(), whose view stayed with the parent. */
static ph_status check_reader(const pheap_read *reader, const char *function)
{
    if (reader == NULL)
        return ph_fail(PH_INVALID, "%s: reader is NULL", function);
    if (atomic_load_explicit(&reader->core->forked, memory_order_relaxed))
        return ph_fail(PH_FORKED, "%s: this read transaction belongs to the parent process", reader->core->path);
    return PH_OK;
}

/* What an evictable reader met in a version that had been taken away says nothing. */
static ph_status judge(const pheap_read *reader, ph_status status)
{
    bool torn =
        status != PH_OK && status != PH_FORKED && reader != NULL && reader->evictable && !ph_readview_holds(reader);
    return torn ? ph_readview_evicted(reader) : status;
}

const void *pheap_read_ptr(const pheap_read *reader, uint64_t offset)
{
    return reader->on->view.base + offset;
}

enum pheap_status pheap_read_valid(const pheap_read *reader)
{
    ph_status status = check_reader(reader, "pheap_read_valid");
    if (status == PH_OK && !ph_readview_holds(reader))
        status = ph_readview_evicted(reader);
    return (enum pheap_status)status;
}

uint64_t pheap_read_version(const pheap_read *reader)
{
    return reader->on->view.at.version;
}

uint64_t pheap_read_size(const pheap_read *reader)
{
    return reader->on->view.at.heap_bytes;
}

uint64_t pheap_read_root(const pheap_read *reader)
{
    return check_reader(reader, "pheap_read_root") == PH_OK ? ph_alloc_root(space_of(reader)) : 0;
}

enum pheap_status pheap_read_range(const pheap_read *reader, uint64_t offset, uint64_t length, const void **address)
{
    uint64_t start, size;
    ph_status status = check_reader(reader, "pheap_read_range");
    if (status == PH_OK && address == NULL)
        status = ph_fail(PH_INVALID, "pheap_read_range: address is NULL");
    if (status == PH_OK)
        status = ph_alloc_find(space_of(reader), offset, &start, &size);
    if (status == PH_OK && (length > size || offset - start > size - length))
        status = ph_fail(PH_BAD_OFFSET, "bytes [%llu, %llu) reach beyond the block at %llu, which has %llu bytes",
                         (unsigned long long)offset, (unsigned long long)(offset + length), (unsigned long long)start,
                         (unsigned long long)size);
    if (status == PH_OK)
        *address = reader->on->view.base + offset;
    return (enum pheap_status)judge(reader, status);
}

enum pheap_status pheap_read_usable_size(const pheap_read *reader, uint64_t offset, uint64_t *length)
{
    ph_status status = check_reader(reader, "pheap_read_usable_size");
    if (status == PH_OK && length == NULL)
        status = ph_fail(PH_INVALID, "pheap_read_usable_size: length is NULL");
    if (status == PH_OK)
        status = ph_alloc_usable(space_of(reader), offset, length);
    return (enum pheap_status)judge(reader, status);
}

enum pheap_status pheap_read_next_block(const pheap_read *reader, uint64_t from, uint64_t *offset, uint64_t *length)
{
    ph_status status = check_reader(reader, "pheap_read_next_block");
    if (status == PH_OK && (offset == NULL || length == NULL))
        status = ph_fail(PH_INVALID, "pheap_read_next_block: offset or length is NULL");
    if (status == PH_OK)
        status = ph_alloc_next(space_of(reader), from, offset, length);
    return (enum pheap_status)judge(reader, status);
}

enum pheap_status pheap_check(const pheap_read *reader, pheap_fault fault, pheap_progress progress, void *context)
{
    ph_status status = check_reader(reader, "pheap_check");
    if (status != PH_OK)
        return (enum pheap_status)status;
    status = ph_check_heap(reader->core->io, space_of(reader), fault, progress, context);
    if (status != PH_OK)
        status = ph_fail_context(status, "%s", reader->core->path);
    return (enum pheap_status)judge(reader, status);
}

enum pheap_status pheap_get_space(const pheap_read *reader, struct pheap_space *space, pheap_progress progress,
                                  void *context)
{
    struct pheap_space full = {0};
    ph_status status = check_reader(reader, "pheap_get_space");
    if (status == PH_OK && (space == NULL || space->size < sizeof space->size || space->size > 4096))
        status = ph_fail(PH_INVALID, "pheap_get_space: space is NULL, or space->size is not set");
    if (status != PH_OK)
        return (enum pheap_status)status;
    size_t size = space->size;
    status = ph_space_walk(space_of(reader), &full, progress, context);
    if (status != PH_OK)
        return (enum pheap_status)judge(reader, ph_fail_context(status, "%s", reader->core->path));
    full.size = size;
    memcpy(space, &full, size < sizeof full ? size : sizeof full);
    return PHEAP_OK;
}
