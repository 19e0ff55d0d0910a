/* SPDX-License-Identifier: MIT */
/* Durability on demand, and figures about an open heap and its users. */
#include "pheap/core.h"
#include "wal/flush.h"

#include <string.h>

_Static_assert(sizeof((struct pheap_user *)0)->pins / sizeof(struct pheap_pin) == PH_PINS, "room for every pin");

/* The core for a call that may have to write: not read-only, not poisoned. */
static ph_status use_for_upkeep(pheap *heap, struct ph_core **core)
{
    ph_status status = ph_core_use(heap, core);
    if (status == PH_OK && (*core)->read_only)
        status = ph_fail(PH_READ_ONLY, "%s: the heap was opened read-only", (*core)->path);
    return status == PH_OK ? ph_coord_check_poison((*core)->coord, (*core)->path) : status;
}

enum pheap_status pheap_sync(pheap *heap)
{
    struct ph_core *core;
    ph_status status = use_for_upkeep(heap, &core);
    if (status == PH_OK)
        status = ph_flush_to(&core->store.wal, atomic_load(&core->coord->committed), UINT64_MAX);
    return (enum pheap_status)status;
}

enum pheap_status pheap_fold(pheap *heap)
{
    struct ph_core *core;
    ph_status status = use_for_upkeep(heap, &core);
    return (enum pheap_status)(status == PH_OK ? ph_store_fold(&core->store, UINT64_MAX) : status);
}

enum pheap_status pheap_checkpoint(pheap *heap)
{
    struct ph_core *core;
    ph_status status = use_for_upkeep(heap, &core);
    return (enum pheap_status)(status == PH_OK ? ph_store_checkpoint(&core->store, UINT64_MAX) : status);
}

enum pheap_status pheap_maintain(pheap *heap)
{
    struct ph_core *core;
    ph_status status = use_for_upkeep(heap, &core);
    if (status == PH_OK)
        status = ph_upkeep_flush_old(core, UINT64_MAX);
    if (status == PH_OK && ph_upkeep_log_used(core) >= core->store.wal.log_limit_bytes / 2)
        status = ph_store_checkpoint(&core->store, UINT64_MAX);
    return (enum pheap_status)status;
}

static ph_status fill_files(struct ph_core *core, struct pheap_info *info)
{
    struct ph_file_stat stat;
    ph_status status = ph_file_stat(&core->store.heap, &stat);
    if (status != PH_OK)
        return status;
    info->file_bytes = stat.size_bytes;
    info->disk_bytes = stat.disk_bytes;
    if (core->io->stat_path(core->io->ctx, core->store.wal.path, &stat) == 0)
        info->log_bytes = stat.size_bytes;
    const struct ph_file *heap = &core->store.heap, *log = &core->store.wal.file, *sums = &core->store.sums;
    info->fold_written_bytes = atomic_load(&heap->written_bytes);
    info->log_written_bytes = atomic_load(&log->written_bytes);
    info->sync_count = atomic_load(&heap->sync_count) + atomic_load(&log->sync_count) + atomic_load(&sums->sync_count);
    return PH_OK;
}

static uint64_t private_bytes(const struct ph_core *core, uint64_t heap_bytes)
{
    const struct ph_view *views[2 + PH_PINS] = {&core->write_view};
    size_t count = 1;
    uint64_t sum = 0;
    for (uint32_t i = 0; i < core->read_view_count; i++)
        views[count++] = &core->read_views[i].view;
    if (atomic_load_explicit(&core->shadow_mapped, memory_order_acquire)) /* it may come later */
        views[count++] = &core->shadow_view;
    for (size_t i = 0; i < count; i++) {
        int64_t bytes = ph_view_count_private(views[i], heap_bytes);
        sum += bytes >= 0 ? (uint64_t)bytes : atomic_load(&views[i]->touched_bytes);
    }
    return sum;
}

enum pheap_status pheap_get_info(pheap *heap, struct pheap_info *info)
{
    struct ph_core *core;
    struct pheap_info full = {0};
    struct ph_commit_mark mark;
    ph_status status = ph_core_use(heap, &core);
    if (status == PH_OK && (info == NULL || info->size < sizeof info->size || info->size > 4096))
        status = ph_fail(PH_INVALID, "pheap_get_info: info is NULL, or info->size is not set");
    if (status == PH_OK)
        status = fill_files(core, &full);
    if (status == PH_OK && !ph_coord_read_commit(core->coord, &mark))
        status = ph_coord_damaged(core->path);
    if (status != PH_OK)
        return (enum pheap_status)status;
    struct ph_coord *coord = core->coord;
    full.size = info->size;
    memcpy(full.identity, core->store.superblock.identity, sizeof full.identity);
    full.epoch = coord->checkpoint.epoch;
    full.version = mark.version;
    full.heap_bytes = mark.heap_bytes;
    full.log_limit_bytes = core->store.wal.log_limit_bytes;
    full.log_used_bytes = ph_upkeep_log_used(core);
    full.committed_lsn = mark.lsn;
    full.durable_lsn = atomic_load(&coord->durable);
    full.folded_lsn = atomic_load(&coord->folded);
    full.checkpoint_lsn = coord->checkpoint.lsn;
    full.private_bytes = private_bytes(core, mark.heap_bytes);
    full.reserve_bytes = core->read_views[0].view.reserve_bytes;
    full.poisoned = atomic_load(&coord->poisoned);
    full.recovered = core->store.recovered;
    full.replayed_bytes = core->store.replayed_bytes;
    full.track_method = atomic_load(&core->track.method);
    memcpy(info, &full, info->size < sizeof full ? info->size : sizeof full);
    return PHEAP_OK;
}

/* The pins of a seat, the oldest first. */
static void fill_pins(struct ph_seat *seat, struct pheap_user *user)
{
    for (uint32_t i = 0; i < PH_PINS; i++) {
        struct ph_pin *from = &seat->pins[i];
        const uint64_t lsn = atomic_load(&from->lsn);
        if (lsn == 0)
            continue;
        const struct pheap_pin pin = {
            .version = atomic_load(&from->version),
            .lsn = lsn & ~(uint64_t)PH_PIN_EVICTABLE,
            .since_ns = atomic_load(&from->since_ns),
            .evictable = (lsn & PH_PIN_EVICTABLE) != 0,
        };
        uint32_t at = user->pin_count++;
        for (; at > 0 && user->pins[at - 1].lsn > pin.lsn; at--)
            user->pins[at] = user->pins[at - 1];
        user->pins[at] = pin;
    }
    user->pinned_version = user->pins[0].version;
    user->pinned_lsn = user->pins[0].lsn;
    user->pinned_ns = user->pins[0].since_ns;
    user->evictable = user->pins[0].evictable;
}

enum pheap_status pheap_next_user(pheap *heap, uint32_t from, struct pheap_user *user)
{
    struct ph_core *core;
    ph_status status = ph_core_use(heap, &core);
    if (status == PH_OK && (user == NULL || user->size < sizeof user->size || user->size > 4096))
        status = ph_fail(PH_INVALID, "pheap_next_user: user is NULL, or user->size is not set");
    if (status != PH_OK)
        return (enum pheap_status)status;
    for (uint32_t seat = from; seat < PH_SEATS && !core->private_coord; seat++) {
        struct ph_seat *s = &core->coord->seats[seat];
        if (atomic_load(&s->process) == 0)
            continue;
        struct pheap_user full = {
            .size = user->size,
            .seat = seat,
            .alive = ph_store_seat_alive(&core->store, seat),
            .pid = atomic_load(&s->process),
            .attached_ns = atomic_load(&s->attached_ns),
            .writing = atomic_load(&core->coord->writer_seat) == seat + 1,
            .self = seat == core->store.seat,
        };
        fill_pins(s, &full);
        if (atomic_load(&s->hold) != 0)
            full.backup_ns = atomic_load(&s->hold_since_ns);
        full.mark = full.alive ? ph_mark_of(core, seat) : 0;
        memcpy(user, &full, user->size < sizeof full ? user->size : sizeof full);
        return PHEAP_OK;
    }
    return PHEAP_END;
}
