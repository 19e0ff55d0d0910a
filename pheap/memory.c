/* SPDX-License-Identifier: MIT */
/* The public calls on an open write transaction: edits, savepoints, allocation, root. */
#include "pheap/memory.h"

#include "pheap/alloc.h"

#include <string.h>

static struct ph_space space_of(const struct ph_core *core)
{
    return (struct ph_space){.base = core->edits.base, .size = core->edits.heap_size};
}

void *pheap_ptr(pheap_txn *txn, uint64_t offset)
{
    return txn->core->write_view.base + offset;
}

uint64_t pheap_size(pheap_txn *txn)
{
    struct ph_core *core;
    return ph_txn_use(txn, &core) == PH_OK ? core->edits.heap_size : 0;
}

/* Check that the range lies in one live block: *start. */
static ph_status check_range(struct ph_core *core, uint64_t offset, uint64_t length, uint64_t *start)
{
    uint64_t size;
    ph_status status = ph_alloc_find(space_of(core), offset, start, &size);
    if (status == PH_OK && (length > size || offset - *start > size - length))
        status =
            ph_fail(PH_BAD_OFFSET, "%s: bytes [%llu, %llu) reach beyond the block at %llu, which has %llu usable bytes",
                    core->path, (unsigned long long)offset, (unsigned long long)(offset + length),
                    (unsigned long long)*start, (unsigned long long)size);
    return status;
}

/* The same, and save it, unless the block is fresh. */
static ph_status declare(struct ph_core *core, uint64_t offset, uint64_t length)
{
    uint64_t start;
    ph_status status = check_range(core, offset, length, &start);
    if (status != PH_OK)
        return status;
    if (ph_edits_is_fresh(&core->edits, start, NULL) == 1)
        return PH_OK;
    return ph_edits_range(&core->edits, offset, length);
}

enum pheap_status pheap_edit(pheap_txn *txn, uint64_t offset, uint64_t length, void **address)
{
    struct ph_core *core;
    ph_status status = ph_txn_use(txn, &core);
    if (status == PH_OK && length != 0)
        status = declare(core, offset, length);
    if (status == PH_OK && address != NULL)
        *address = core->edits.base + offset;
    return (enum pheap_status)status;
}

enum pheap_status pheap_track(pheap_txn *txn, uint64_t offset, uint64_t length, void **address)
{
    struct ph_core *core;
    uint64_t start;
    ph_status status = ph_txn_use(txn, &core);
    if (status == PH_OK && length != 0)
        status = check_range(core, offset, length, &start);
    if (status == PH_OK && length != 0)
        status = ph_track_range(core, offset, length);
    if (status == PH_OK && address != NULL)
        *address = core->edits.base + offset;
    return (enum pheap_status)status;
}

enum pheap_status pheap_track_all(pheap_txn *txn)
{
    struct ph_core *core;
    ph_status status = ph_txn_use(txn, &core);
    return (enum pheap_status)(status == PH_OK ? ph_track_all(core) : status);
}

enum pheap_status pheap_write(pheap_txn *txn, uint64_t offset, const void *source, uint64_t length)
{
    struct ph_core *core;
    ph_status status = ph_txn_use(txn, &core);
    if (status == PH_OK && source == NULL && length != 0)
        status = ph_fail(PH_INVALID, "pheap_write: source is NULL");
    if (status == PH_OK && length != 0) {
        status = declare(core, offset, length);
        if (status == PH_OK)
            memmove(core->edits.base + offset, source, length);
    }
    return (enum pheap_status)status;
}

enum pheap_status pheap_fill(pheap_txn *txn, uint64_t offset, unsigned char byte, uint64_t length)
{
    struct ph_core *core;
    ph_status status = ph_txn_use(txn, &core);
    if (status == PH_OK && length != 0) {
        status = declare(core, offset, length);
        if (status == PH_OK)
            memset(core->edits.base + offset, byte, length);
    }
    return (enum pheap_status)status;
}

enum pheap_status pheap_savepoint(pheap_txn *txn, uint32_t *savepoint)
{
    struct ph_core *core;
    ph_status status = ph_txn_use(txn, &core);
    if (status == PH_OK && savepoint == NULL)
        status = ph_fail(PH_INVALID, "pheap_savepoint: savepoint is NULL");
    return (enum pheap_status)(status == PH_OK ? ph_track_savepoint(core, savepoint) : status);
}

enum pheap_status pheap_rollback(pheap_txn *txn, uint32_t savepoint)
{
    struct ph_core *core;
    ph_status status = ph_txn_use(txn, &core);
    return (enum pheap_status)(status == PH_OK ? ph_track_rollback(core, savepoint) : status);
}

static ph_status allocate(pheap_txn *txn, uint64_t alignment, uint64_t length, bool zero, uint64_t *offset)
{
    struct ph_core *core;
    ph_status status = ph_txn_use(txn, &core);
    if (status == PH_OK && offset == NULL)
        status = ph_fail(PH_INVALID, "pheap_alloc: offset is NULL");
    if (status == PH_OK && (length == 0 || length > UINT64_C(1) << 46))
        status = ph_fail(PH_INVALID, "%s: a block of %llu bytes; blocks have 1 to 2^46", core->path,
                         (unsigned long long)length);
    if (status == PH_OK && (alignment < 16 || alignment > 1u << 30 || (alignment & (alignment - 1)) != 0))
        status = ph_fail(PH_INVALID, "%s: an alignment of %llu; it is a power of two from 16 to 2^30", core->path,
                         (unsigned long long)alignment);
    return status == PH_OK ? ph_alloc(&core->edits, alignment, length, zero, offset) : status;
}

enum pheap_status pheap_alloc(pheap_txn *txn, uint64_t length, uint64_t *offset)
{
    return (enum pheap_status)allocate(txn, 16, length, false, offset);
}

enum pheap_status pheap_zalloc(pheap_txn *txn, uint64_t length, uint64_t *offset)
{
    return (enum pheap_status)allocate(txn, 16, length, true, offset);
}

enum pheap_status pheap_alloc_aligned(pheap_txn *txn, uint64_t alignment, uint64_t length, uint64_t *offset)
{
    return (enum pheap_status)allocate(txn, alignment, length, false, offset);
}

enum pheap_status pheap_free(pheap_txn *txn, uint64_t offset)
{
    struct ph_core *core;
    ph_status status = ph_txn_use(txn, &core);
    return (enum pheap_status)(status == PH_OK && offset != 0 ? ph_free(&core->edits, offset) : status);
}

enum pheap_status pheap_realloc(pheap_txn *txn, uint64_t *offset, uint64_t length)
{
    struct ph_core *core;
    ph_status status = ph_txn_use(txn, &core);
    if (status == PH_OK && offset == NULL)
        status = ph_fail(PH_INVALID, "pheap_realloc: offset is NULL");
    if (status != PH_OK || *offset == 0)
        return (enum pheap_status)(status == PH_OK ? allocate(txn, 16, length, false, offset) : status);
    if (length == 0 || length > UINT64_C(1) << 46)
        return (enum pheap_status)ph_fail(PH_INVALID, "%s: a block of %llu bytes; blocks have 1 to 2^46", core->path,
                                          (unsigned long long)length);
    return (enum pheap_status)ph_realloc(&core->edits, offset, length);
}

enum pheap_status pheap_usable_size(pheap_txn *txn, uint64_t offset, uint64_t *length)
{
    struct ph_core *core;
    ph_status status = ph_txn_use(txn, &core);
    if (status == PH_OK && length == NULL)
        status = ph_fail(PH_INVALID, "pheap_usable_size: length is NULL");
    return (enum pheap_status)(status == PH_OK ? ph_alloc_usable(space_of(core), offset, length) : status);
}

uint64_t pheap_root(pheap_txn *txn)
{
    struct ph_core *core;
    return ph_txn_use(txn, &core) == PH_OK ? ph_alloc_root(space_of(core)) : 0;
}

enum pheap_status pheap_set_root(pheap_txn *txn, uint64_t offset)
{
    struct ph_core *core;
    ph_status status = ph_txn_use(txn, &core);
    return (enum pheap_status)(status == PH_OK ? ph_alloc_set_root(&core->edits, offset) : status);
}
