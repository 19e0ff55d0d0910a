/* SPDX-License-Identifier: MIT */
/*
 * Notification: waiting for a commit, of whatever process.
 *
 * A waiter reads the futex word, sets commit_awaited, looks whether there is a newer version, and sleeps while the word
 * is what it read.  Whoever commits publishes, looks at commit_awaited (full fences on both sides, as for pins), and if
 * it is set clears it, changes the word and wakes all; those who still wait set it again.  So a commit that nobody
 * waits for costs a load, and a waiter that died costs one wake.  The death of a committer between publishing and waking
 * delays the others by one slice.
 *
 * For event loops a watch is a thread that waits in that way and adds 1 to an eventfd for each time it was woken.
 */
#include "io/failpoint.h"
#include "pheap/core.h"
#include "wal/flush.h"

#define SLICE_NS UINT64_C(100000000)

static uint32_t *commit_word(struct ph_core *core)
{
    return (uint32_t *)(uintptr_t)&core->coord->commit_word; /* the seam takes it as the kernel sees it */
}

void ph_notify_commit(struct ph_core *core)
{
    struct ph_coord *coord = core->coord;
    atomic_thread_fence(memory_order_seq_cst);
    if (atomic_load_explicit(&coord->commit_awaited, memory_order_relaxed) == 0)
        return;
    PH_POINT(notify_wanted);
    atomic_store(&coord->commit_awaited, 0);
    PH_POINT(notify_cleared);
    atomic_fetch_add(&coord->commit_word, 1);
    PH_POINT(notify_word_changed);
    core->io->wake(core->io->ctx, commit_word(core), INT32_MAX);
}

static ph_status newest_version(struct ph_core *core, uint64_t *version)
{
    struct ph_commit_mark mark;
    if (!ph_coord_read_commit(core->coord, &mark))
        return ph_coord_damaged(core->path);
    *version = mark.version;
    return PH_OK;
}

/* Sleep until somebody commits, for at most a slice; at once if there is something newer than `version`, or *stop. */
static ph_status wait_slice(struct ph_core *core, uint64_t version, uint64_t timeout_ns, const _Atomic bool *stop,
                            uint64_t *newest)
{
    struct ph_coord *coord = core->coord;
    uint32_t word = atomic_load(&coord->commit_word);
    atomic_store(&coord->commit_awaited, 1);
    PH_POINT(wait_announced);
    atomic_thread_fence(memory_order_seq_cst);
    ph_status status = newest_version(core, newest);
    if (status != PH_OK || *newest > version || (stop != NULL && atomic_load(stop)))
        return status;
    core->io->wait(core->io->ctx, commit_word(core), word, timeout_ns < SLICE_NS ? timeout_ns : SLICE_NS);
    status = ph_coord_check_poison(coord, core->path);
    if (status == PH_OK && !core->read_only && ph_upkeep_flush_old(core, 0) == PH_POISONED)
        return PH_POISONED; /* any other failure is for somebody to meet who has something to write */
    return status == PH_OK ? newest_version(core, newest) : status;
}

enum pheap_status pheap_newest_version(pheap *heap, uint64_t *version)
{
    struct ph_core *core;
    ph_status status = ph_core_use(heap, &core);
    if (status == PH_OK && version == NULL)
        status = ph_fail(PH_INVALID, "pheap_newest_version: version is NULL");
    return (enum pheap_status)(status == PH_OK ? newest_version(core, version) : status);
}

enum pheap_status pheap_wait(pheap *heap, uint64_t version, int64_t timeout_ms, uint64_t *newest)
{
    struct ph_core *core;
    uint64_t now = 0;
    ph_status status = ph_core_use(heap, &core);
    if (status == PH_OK && timeout_ms > INT64_MAX / 1000000)
        status = ph_fail(PH_INVALID, "pheap_wait: %lld ms is out of range", (long long)timeout_ms);
    if (status == PH_OK)
        status = newest_version(core, &now);
    if (status == PH_OK && now <= version) {
        const ph_io *io = core->io;
        const uint64_t start = io->clock_ns(io->ctx, PH_CLOCK_MONOTONIC);
        const uint64_t limit = timeout_ms < 0 ? UINT64_MAX : (uint64_t)timeout_ms * 1000000;
        for (uint64_t waited = 0; status == PH_OK && now <= version;
             waited = io->clock_ns(io->ctx, PH_CLOCK_MONOTONIC) - start) {
            if (waited >= limit)
                return (enum pheap_status)ph_fail(PH_TIMEOUT, "%s: no commit after version %llu in %lld ms", core->path,
                                                  (unsigned long long)version, (long long)timeout_ms);
            status = wait_slice(core, version, limit - waited, NULL, &now);
        }
    }
    if (status == PH_OK && newest != NULL)
        *newest = now;
    return (enum pheap_status)status;
}

/* ---------------------------------------------------------------------------------------------------------- watch */

struct pheap_watch {
    struct ph_core *core;
    uint64_t thread;
    int event_fd;
    uint64_t version; /* seen last */
    _Atomic bool stop;
};

static void *run_watch(void *argument)
{
    struct pheap_watch *watch = argument;
    struct ph_core *core = watch->core;
    while (!atomic_load(&watch->stop)) {
        uint64_t newest = watch->version;
        ph_status status = wait_slice(core, watch->version, UINT64_MAX, &watch->stop, &newest);
        if (status == PH_OK && newest <= watch->version)
            continue;
        watch->version = newest;
        core->io->signal_event(core->io->ctx, watch->event_fd);
        if (status != PH_OK) /* poisoned or damaged: the program will meet it in its next call, once it is awake */
            break;
    }
    return NULL;
}

enum pheap_status pheap_watch_begin(pheap *heap, uint64_t version, int event_fd, pheap_watch **out)
{
    struct ph_core *core;
    ph_status status = ph_core_use(heap, &core);
    if (status == PH_OK && (out == NULL || event_fd < 0))
        status = ph_fail(PH_INVALID, "pheap_watch_begin: watch is NULL, or event_fd is %d", event_fd);
    if (status != PH_OK)
        return (enum pheap_status)status;
    struct pheap_watch *watch = core->io->alloc(core->io->ctx, sizeof *watch, 16);
    if (watch == NULL)
        return (enum pheap_status)ph_fail(PH_NO_MEMORY, "%s: out of memory", core->path);
    *watch = (struct pheap_watch){.core = core, .event_fd = event_fd, .version = version};
    atomic_fetch_add(&core->watches, 1);
    if (core->io->thread_start(core->io->ctx, run_watch, watch, &watch->thread) < 0) {
        atomic_fetch_sub(&core->watches, 1);
        core->io->free(core->io->ctx, watch);
        return (enum pheap_status)ph_fail(PH_NO_MEMORY, "%s: cannot start a thread for the watch", core->path);
    }
    *out = watch;
    return PHEAP_OK;
}

void pheap_watch_end(pheap_watch *watch)
{
    if (watch == NULL)
        return;
    struct ph_core *core = watch->core;
    if (!atomic_load(&core->forked)) { /* a child has the memory, but not the thread */
        atomic_store(&watch->stop, true);
        atomic_fetch_add(&core->coord->commit_word, 1);
        core->io->wake(core->io->ctx, commit_word(core), INT32_MAX);
        core->io->thread_join(core->io->ctx, watch->thread);
        atomic_fetch_sub(&core->watches, 1);
    }
    core->io->free(core->io->ctx, watch);
}
