/* SPDX-License-Identifier: MIT */
/* Guards: stores through addresses that have outlived their transaction are found and undone.  See guard.h. */
#include "pheap/guard.h"

#include "io/checksum.h"
#include "pheap/alloc.h"
#include "pheap/core.h"
#include "pheap/memory.h"

#include <string.h>

#define STEP_BYTES PH_TRACK_STEP_BYTES

bool ph_guards_init(struct ph_guards *guards)
{
    guards->lock_ready = ph_local_init(&guards->lock);
    return guards->lock_ready;
}

static void remove_guard(const ph_io *io, struct ph_guards *guards, uint32_t index)
{
    if (guards->list[index].pages != NULL)
        io->free(io->ctx, guards->list[index].pages);
    guards->list[index] = guards->list[--guards->used];
}

void ph_guards_deinit(struct ph_core *core)
{
    struct ph_guards *guards = &core->guards;
    while (guards->used > 0)
        remove_guard(core->io, guards, guards->used - 1);
    if (guards->list != NULL)
        core->io->free(core->io->ctx, guards->list);
    guards->list = NULL;
    if (guards->lock_ready)
        ph_local_deinit(&guards->lock);
    guards->lock_ready = false;
}

/* ----------------------------------------------------------------------------------------------------------- pages */

/* The guarded bytes of the page at `page`. */
static struct ph_guard_page look_at(const struct ph_core *core, const struct ph_guard *guard, uint64_t page)
{
    const uint64_t from = page > guard->from ? page : guard->from;
    const uint64_t to = page + PH_PAGE_BYTES < guard->to ? page + PH_PAGE_BYTES : guard->to;
    return (struct ph_guard_page){from, ph_checksum(core->write_view.base + from, (size_t)(to - from))};
}

typedef bool (*page_function)(struct ph_core *core, struct ph_guard *guard, uint64_t page, void *context);

/* Call `visit` for the private pages of a guard, in order, until it says false; for all, where the system cannot tell
 * which those are: then *told becomes false. */
static bool each_page(struct ph_core *core, struct ph_guard *guard, page_function visit, void *context, bool *told)
{
    const ph_io *io = core->io;
    uint8_t *bitmap = core->track.bitmap;
    uint64_t at = guard->from & ~(uint64_t)(PH_PAGE_BYTES - 1);
    for (; at < guard->to; at += STEP_BYTES) {
        const uint64_t whole = (guard->to - at + PH_PAGE_BYTES - 1) & ~(uint64_t)(PH_PAGE_BYTES - 1);
        const uint64_t part = whole < STEP_BYTES ? whole : STEP_BYTES;
        const int64_t found = io->touched(io->ctx, core->write_view.base + at, part, bitmap);
        if (found == 0)
            continue;
        if (found < 0) {
            memset(bitmap, 0xff, sizeof core->track.bitmap);
            *told = false;
        }
        for (uint64_t page = 0; page < part / PH_PAGE_BYTES; page++)
            if ((bitmap[page / 8] >> (page % 8) & 1) != 0 && !visit(core, guard, at + page * PH_PAGE_BYTES, context))
                return false;
    }
    return true;
}

static bool remember(struct ph_core *core, struct ph_guard *guard, uint64_t page, void *context)
{
    (void)context;
    if (guard->page_count == guard->page_room) {
        const size_t room = guard->page_room == 0 ? 4 : 2 * guard->page_room;
        struct ph_guard_page *pages = core->io->resize(core->io->ctx, guard->pages, room * sizeof *pages);
        if (pages == NULL)
            return false;
        guard->pages = pages;
        guard->page_room = room;
    }
    guard->pages[guard->page_count++] = look_at(core, guard, page);
    return true;
}

struct comparison {
    size_t next;    /* of the pages that are remembered */
    uint64_t stray; /* where there was a store; 0: nowhere */
};

static bool compare(struct ph_core *core, struct ph_guard *guard, uint64_t page, void *context)
{
    struct comparison *comparison = context;
    const struct ph_guard_page now = look_at(core, guard, page);
    while (comparison->next < guard->page_count && guard->pages[comparison->next].at < now.at)
        comparison->next++;
    const struct ph_guard_page *was = comparison->next < guard->page_count ? &guard->pages[comparison->next] : NULL;
    if (was == NULL || was->at != now.at || was->sum != now.sum)
        comparison->stray = now.at;
    return comparison->stray == 0;
}

/* ---------------------------------------------------------------------------------------- between two transactions */

static ph_status report(struct ph_core *core, const struct ph_guard *guard, uint64_t page)
{
    return ph_fail(PH_STRAY_STORE,
                   "%s: between transactions, in the guarded bytes [%llu, %llu), something was stored at or soon after "
                   "offset %llu; it has been undone",
                   core->path, (unsigned long long)guard->from, (unsigned long long)guard->to,
                   (unsigned long long)page);
}

ph_status ph_guards_check(struct ph_core *core, uint64_t lsn)
{
    struct ph_guards *guards = &core->guards;
    ph_status status = PH_OK;
    if (guards->used == 0)
        return PH_OK;
    ph_local_lock(&guards->lock);
    for (uint32_t i = 0; guards->armed && status == PH_OK && i < guards->used; i++) {
        struct ph_guard *guard = &guards->list[i];
        struct comparison comparison = {.stray = 0};
        bool told = true;
        if (!guard->told && guards->lsn != lsn) {
            core->write_view.current = false;
            continue;
        }
        each_page(core, guard, compare, &comparison, &told);
        if (comparison.stray != 0 && (told || guards->lsn == lsn))
            status = report(core, guard, comparison.stray);
        if (comparison.stray != 0)
            core->write_view.current = core->shadow_view.current = false;
    }
    guards->armed = false;
    ph_local_unlock(&guards->lock);
    return status;
}

/* A guard of the list, which gets shorter only under the writer lock. */
static struct ph_guard get_guard(struct ph_guards *guards, uint32_t index)
{
    ph_local_lock(&guards->lock);
    const struct ph_guard guard = guards->list[index];
    ph_local_unlock(&guards->lock);
    return guard;
}

ph_status ph_guards_track(struct ph_core *core)
{
    struct ph_guards *guards = &core->guards;
    ph_status status = PH_OK;
    for (uint32_t i = 0; status == PH_OK && i < guards->used; i++) {
        const struct ph_guard guard = get_guard(guards, i);
        const struct ph_space space = {core->edits.base, core->edits.heap_size};
        uint64_t start, size;
        if (guard.count == 0 || ph_alloc_kind(space, guard.from) != PH_KIND_LIVE ||
            ph_alloc_find(space, guard.from, &start, &size) != PH_OK || guard.to > start + size)
            continue; /* its block was freed */
        status = ph_track_range(core, guard.from, guard.to - guard.from);
    }
    return status;
}

void ph_guards_arm(struct ph_core *core)
{
    struct ph_guards *guards = &core->guards;
    if (guards->used == 0)
        return;
    ph_local_lock(&guards->lock);
    bool armed = core->write_view.current;
    for (uint32_t i = 0; i < guards->used;) {
        struct ph_guard *guard = &guards->list[i];
        if (guard->count == 0) {
            remove_guard(core->io, guards, i);
            continue;
        }
        guard->page_count = 0;
        guard->told = true;
        armed = armed && each_page(core, guard, remember, NULL, &guard->told);
        i++;
    }
    guards->armed = armed;
    guards->lsn = core->write_view.at.lsn;
    if (!armed) /* then nothing that is stored now may stay */
        core->write_view.current = false;
    ph_local_unlock(&guards->lock);
}

void ph_guards_disarm(struct ph_core *core)
{
    struct ph_guards *guards = &core->guards;
    if (guards->used == 0)
        return;
    ph_local_lock(&guards->lock);
    guards->armed = false;
    ph_local_unlock(&guards->lock);
}

/* --------------------------------------------------------------------------------------------------- public calls */

/* The guard of just this range; NULL: there is none. */
static struct ph_guard *find_guard(struct ph_guards *guards, uint64_t offset, uint64_t length)
{
    for (uint32_t i = 0; i < guards->used; i++)
        if (guards->list[i].from == offset && guards->list[i].to == offset + length)
            return &guards->list[i];
    return NULL;
}

static ph_status add_guard(struct ph_core *core, uint64_t offset, uint64_t length)
{
    struct ph_guards *guards = &core->guards;
    struct ph_guard *guard = find_guard(guards, offset, length);
    if (guard == NULL && guards->used == guards->room) {
        const uint32_t room = guards->room == 0 ? 8 : 2 * guards->room;
        struct ph_guard *list = core->io->resize(core->io->ctx, guards->list, room * sizeof *list);
        if (list == NULL)
            return ph_fail(PH_NO_MEMORY, "%s: out of memory for a guard", core->path);
        guards->list = list;
        guards->room = room;
    }
    if (guard == NULL) {
        guard = &guards->list[guards->used++];
        *guard = (struct ph_guard){.from = offset, .to = offset + length};
    }
    guard->count++;
    return PH_OK;
}

enum pheap_status pheap_guard(pheap_txn *txn, uint64_t offset, uint64_t length, void **address)
{
    struct ph_core *core;
    enum pheap_status tracked = pheap_track(txn, offset, length, address);
    if (tracked != PHEAP_OK || length == 0)
        return tracked;
    ph_status status = ph_txn_use(txn, &core);
    if (status != PH_OK)
        return (enum pheap_status)status;
    ph_local_lock(&core->guards.lock);
    status = add_guard(core, offset, length);
    ph_local_unlock(&core->guards.lock);
    return (enum pheap_status)status;
}

enum pheap_status pheap_unguard(pheap *heap, uint64_t offset, uint64_t length)
{
    struct ph_core *core;
    ph_status status = ph_core_use(heap, &core);
    if (status != PH_OK || length == 0)
        return (enum pheap_status)status;
    ph_local_lock(&core->guards.lock);
    struct ph_guard *guard = find_guard(&core->guards, offset, length);
    if (guard == NULL || guard->count == 0)
        status = ph_fail(PH_INVALID, "%s: bytes [%llu, %llu) are not guarded", core->path, (unsigned long long)offset,
                         (unsigned long long)(offset + length));
    else
        guard->count--;
    ph_local_unlock(&core->guards.lock);
    return (enum pheap_status)status;
}
