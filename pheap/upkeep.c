/* SPDX-License-Identifier: MIT */
/*
 * Upkeep: the flushes and checkpoints that calls of the library do on the way, in place of hidden threads.
 *
 *   before the writer lock   flush if the buffer is half full; extend the log, or checkpoint, if its free space would
 *                            not take two of the largest records; where a reader holds the log, evict it if it allows
 *                            that; where another reader or a backup does, wait for as long as the program says
 *                            (pin_wait_ms), then LOG_FULL; the same for the memory budget, then BUDGET
 *   after a commit           flush if the buffer is half full; gather what is durable for the next fold; extend the log
 *                            or checkpoint if less than a segment is free
 *   every call               flush LAZY commits older than a second (R5)
 */
#include "io/failpoint.h"
#include "pheap/core.h"
#include "wal/flush.h"

#include <stdio.h>

#define LAZY_AGE_NS UINT64_C(1000000000)
#define LOCKED_WAIT_NS UINT64_C(1000000000) /* for readers, under the writer lock */
#define PIN_POLL_NS UINT64_C(1000000)
#define CROWD_WAIT_NS UINT64_C(10000000000) /* for room that other writers take */

static uint64_t free_reserve(struct ph_core *core)
{
    uint64_t limit = atomic_load_explicit(&core->coord->reserve_limit, memory_order_acquire);
    uint64_t reserve = atomic_load_explicit(&core->coord->reserve, memory_order_relaxed);
    return limit > reserve ? limit - reserve : 0;
}

static uint64_t largest_reserve(const struct ph_core *core)
{
    return ph_record_reserve(core->store.wal.record_max, PH_PAGE_BYTES);
}

static bool buffer_half_full(struct ph_core *core)
{
    uint64_t durable = atomic_load_explicit(&core->coord->durable, memory_order_acquire);
    return ph_coord_stream_end(core->coord) - durable > core->store.wal.buffer_bytes / 2;
}

uint64_t ph_upkeep_log_used(struct ph_core *core)
{
    struct ph_flush_mark mark;
    uint64_t start = core->coord->checkpoint.segment;
    if (!ph_coord_read_flush(core->coord, &mark) || mark.segment < start)
        return 0;
    return (mark.segment - start) * core->store.wal.segment_bytes + mark.offset;
}

ph_status ph_upkeep_check_place(struct ph_core *core)
{
    uint64_t now = core->io->clock_ns(core->io->ctx, PH_CLOCK_COARSE);
    if (now == atomic_load_explicit(&core->place_checked_ns, memory_order_relaxed))
        return PH_OK;
    ph_status status = ph_file_check_place(&core->store.heap);
    /* Before the epoch is open, whoever opens it closes the log's file and opens it again, whoever else uses it. */
    if (status == PH_OK && atomic_load_explicit(&core->coord->epoch_open, memory_order_acquire) != 0 &&
        atomic_load(&core->store.wal.opened))
        status = ph_file_check_place(&core->store.wal.file);
    if (status == PH_OK) /* this and the sums may be deleted, but their descriptors not be closed */
        status = ph_file_check_handle(&core->store.coord_file);
    if (status == PH_OK && core->store.sums.open)
        status = ph_file_check_handle(&core->store.sums);
    if (status == PH_OK)
        atomic_store_explicit(&core->place_checked_ns, now, memory_order_relaxed);
    return status;
}

void ph_upkeep_note_lazy(struct ph_core *core)
{
    if (atomic_load(&core->coord->lazy_since_ns) == 0)
        atomic_store_explicit(&core->coord->lazy_since_ns, core->io->clock_ns(core->io->ctx, PH_CLOCK_COARSE),
                              memory_order_relaxed);
}

ph_status ph_upkeep_flush_old(struct ph_core *core, uint64_t timeout_ns)
{
    struct ph_coord *coord = core->coord;
    uint64_t since = atomic_load_explicit(&coord->lazy_since_ns, memory_order_relaxed);
    bool all_durable = atomic_load_explicit(&coord->committed, memory_order_relaxed) <=
                       atomic_load_explicit(&coord->durable, memory_order_relaxed);
    if (all_durable)
        return PH_OK;
    if (since == 0) {
        ph_upkeep_note_lazy(core); /* who committed may have died before */
        return PH_OK;
    }
    uint64_t now = core->io->clock_ns(core->io->ctx, PH_CLOCK_COARSE);
    if (now - since < LAZY_AGE_NS)
        return PH_OK;
    ph_status status = ph_flush_to(&core->store.wal, ph_coord_stream_end(core->coord), timeout_ns);
    return status == PH_TIMEOUT ? PH_OK : status; /* somebody is at it */
}

/* The seat of the process whose backup keeps the log from being recycled, or -1. */
static int backup_in_the_way(struct ph_core *core)
{
    uint64_t held;
    int seat = ph_store_oldest_hold(&core->store, &held);
    return seat >= 0 && held < core->coord->checkpoint.segment ? seat : -1;
}

/* Whole seconds since a time of the real clock. */
static unsigned long long seconds_since(struct ph_core *core, uint64_t since_ns)
{
    uint64_t now = core->io->clock_ns(core->io->ctx, PH_CLOCK_REALTIME);
    return now > since_ns ? (now - since_ns) / 1000000000 : 0;
}

/* "a reader of process ..." into `text`, of a pin that is behind the newest commit; false if there is none. */
static bool describe_pin(struct ph_core *core, char *text, size_t length)
{
    struct ph_held_pin held;
    if (!ph_store_oldest_pin(&core->store, &held) || held.lsn >= atomic_load(&core->coord->committed))
        return false;
    const struct ph_seat *seat = &core->coord->seats[held.seat];
    const struct ph_pin *pin = &seat->pins[held.index];
    (void)snprintf(text, length,
                   "a reader of process %lld (seat %u) has held version %llu for %llu s; end that read transaction",
                   (long long)atomic_load(&seat->process), held.seat, (unsigned long long)atomic_load(&pin->version),
                   seconds_since(core, atomic_load(&pin->since_ns)));
    return true;
}

/* The same of whatever holds the log, a backup too. */
static bool describe_holder(struct ph_core *core, char *text, size_t length)
{
    int seat = backup_in_the_way(core);
    if (seat < 0)
        return describe_pin(core, text, length);
    const struct ph_seat *s = &core->coord->seats[seat];
    (void)snprintf(text, length,
                   "a backup by process %lld (seat %d), begun %llu s ago, has not read it yet; see where that is held "
                   "up, or end it",
                   (long long)atomic_load(&s->process), seat, seconds_since(core, atomic_load(&s->hold_since_ns)));
    return true;
}

static ph_status refuse_log_full(struct ph_core *core, const char *who)
{
    return ph_fail(PH_LOG_FULL, "%s: the log is at its limit of %llu bytes and cannot be recycled: %s", core->path,
                   (unsigned long long)core->store.wal.log_limit_bytes, who);
}

static ph_status refuse_too_big(struct ph_core *core, uint64_t wanted)
{
    return ph_fail(PH_TOO_BIG,
                   "%s: the transaction needs up to %llu bytes of log, whose limit is %llu; commit in smaller parts, "
                   "or create the heap with a larger log_limit_bytes",
                   core->path, (unsigned long long)wanted, (unsigned long long)core->store.wal.log_limit_bytes);
}

/* Nothing holds the log, and yet there is no room in it: what is gained other writers take. */
static ph_status refuse_crowded(struct ph_core *core, bool timed)
{
    return ph_fail(timed ? PH_TIMEOUT : PH_BUSY, "%s: other writers fill the log faster than it drains", core->path);
}

/* Whether waiting longer for a reader makes sense: not for ourselves, and not beyond what the program allows. */
static bool may_wait(struct ph_core *core, uint64_t waited, uint64_t timeout_ns)
{
    return waited < core->pin_wait_ns && waited < timeout_ns && !ph_readview_in_use_here(core);
}

static bool evict(struct ph_core *core)
{
    PH_POINT(pin_to_evict);
    return ph_store_evict(&core->store, atomic_load(&core->coord->committed));
}

/* More free log: another segment while less than half of the limit is in use, else a checkpoint. */
static ph_status gain_log(struct ph_core *core, uint64_t timeout_ns)
{
    struct ph_wal *wal = &core->store.wal;
    ph_status status = PH_LOG_FULL;
    if (ph_upkeep_log_used(core) < wal->log_limit_bytes / 2)
        status = ph_store_extend_log(&core->store, timeout_ns);
    return status == PH_LOG_FULL || status == PH_NO_SPACE ? ph_store_checkpoint(&core->store, timeout_ns) : status;
}

ph_status ph_upkeep_make_room(struct ph_core *core, uint64_t timeout_ns)
{
    ph_status status = ph_upkeep_flush_old(core, timeout_ns);
    if (status == PH_OK && buffer_half_full(core))
        status = ph_flush_to(&core->store.wal, ph_coord_stream_end(core->coord), timeout_ns);
    if (status != PH_OK)
        return status;
    char who[256];
    uint64_t waited = 0;
    while (status == PH_OK && free_reserve(core) < 2 * largest_reserve(core)) {
        status = gain_log(core, timeout_ns);
        if (status != PH_OK || free_reserve(core) >= 2 * largest_reserve(core))
            break;
        status =
            ph_store_extend_log(&core->store, timeout_ns); /* a pin may hold the log: use what the limit still allows */
        if (status != PH_LOG_FULL && status != PH_NO_SPACE)
            continue;
        if (ph_upkeep_room_for_one(core))
            return PH_OK;
        if (evict(core)) {
            status = PH_OK;
            continue;
        }
        if (status == PH_NO_SPACE)
            return status;
        status = PH_OK;
        if (describe_holder(core, who, sizeof who)) {
            if (!may_wait(core, waited, timeout_ns))
                return refuse_log_full(core, who);
        } else if (waited >= timeout_ns || waited >= CROWD_WAIT_NS) {
            return refuse_crowded(core, waited >= timeout_ns);
        }
        ph_io_pause(core->io, PIN_POLL_NS);
        waited += PIN_POLL_NS;
    }
    return status;
}

bool ph_upkeep_room_for_one(struct ph_core *core)
{
    return free_reserve(core) >= largest_reserve(core);
}

ph_status ph_upkeep_after_commit(struct ph_core *core)
{
    ph_status status = PH_OK;
    if (buffer_half_full(core)) /* if somebody else is at it, begin waits for that, and has a time limit */
        status = ph_flush_to(&core->store.wal, ph_coord_stream_end(core->coord), 0);
    if (status == PH_TIMEOUT)
        status = PH_OK;
    if (status == PH_OK && atomic_load_explicit(&core->coord->durable, memory_order_relaxed) >=
                               atomic_load_explicit(&core->store.gather_next, memory_order_relaxed))
        ph_store_gather(&core->store);
    if (status == PH_OK && free_reserve(core) < core->store.wal.segment_bytes)
        status = gain_log(core, 0);
    /* What went wrong here did not undo the commit; whoever needs the room will meet it. */
    return status == PH_POISONED ? status : PH_OK;
}

/* Under the writer lock: whether nothing of the log is in use but where it ends; so it stays until the lock is given up. */
static bool log_is_drained(struct ph_core *core)
{
    struct ph_coord *coord = core->coord;
    uint64_t keep = coord->checkpoint.segment;
    bool drained = coord->checkpoint.lsn >= atomic_load(&coord->committed);
    uint32_t count = atomic_load(&coord->slot_count);
    for (uint32_t slot = 0; slot < count && slot < PH_SEGMENTS_MAX; slot++) {
        uint64_t sequence = atomic_load(&coord->slot_sequence[slot]);
        drained &= sequence == 0 || sequence >= keep;
    }
    return drained;
}

/*
 * An unusually big transaction: flushing may show that less is used, the log may have room to grow, a checkpoint may free
 * some; a reader that holds it is waited for as in make_room.
 */
ph_status ph_upkeep_make_log_room(struct ph_core *core, uint64_t reserve_so_far, uint64_t reserve)
{
    ph_status status = ph_flush_all(&core->store.wal);
    while (status == PH_OK && !ph_upkeep_log_has_room(core, reserve_so_far, reserve))
        status = ph_store_extend_log(&core->store, UINT64_MAX);
    if (status != PH_LOG_FULL && status != PH_NO_SPACE)
        return status;
    char who[256];
    bool drained = false;
    for (uint64_t waited = 0;; waited += PIN_POLL_NS) {
        bool drained_before = drained;
        status = ph_store_checkpoint(&core->store, UINT64_MAX);
        if (status != PH_OK || ph_upkeep_log_has_room(core, reserve_so_far, reserve))
            return status;
        if (evict(core))
            continue;
        /* Who was in its way may have gone since, and others may have made room: only a checkpoint after that tells. */
        if (drained_before)
            return refuse_too_big(core, reserve);
        drained = log_is_drained(core);
        if (drained)
            continue;
        if (describe_holder(core, who, sizeof who)) {
            if (!may_wait(core, waited, LOCKED_WAIT_NS))
                return refuse_log_full(core, who);
        } else if (waited >= CROWD_WAIT_NS) { /* nobody is in the way, nobody else commits, and it does not drain */
            return ph_coord_damaged(core->path);
        }
        ph_io_pause(core->io, PIN_POLL_NS);
    }
}

bool ph_upkeep_log_has_room(struct ph_core *core, uint64_t reserve_so_far, uint64_t reserve)
{
    uint64_t limit = atomic_load_explicit(&core->coord->reserve_limit, memory_order_acquire);
    return reserve_so_far + reserve <= limit;
}

ph_status ph_upkeep_make_budget_room(struct ph_core *core, uint64_t timeout_ns)
{
    const uint64_t folded = atomic_load(&core->coord->folded);
    char who[256];
    for (uint64_t waited = 0;; waited += PIN_POLL_NS) {
        ph_status status = ph_store_fold(&core->store, timeout_ns);
        if (status != PH_OK || atomic_load(&core->coord->folded) > folded)
            return status;
        if (evict(core))
            continue;
        if (!describe_pin(core, who, sizeof who))
            return PH_OK; /* gone meanwhile, or there is nothing to fold */
        if (!may_wait(core, waited, timeout_ns))
            return ph_fail(PH_BUDGET,
                           "%s: this process's changed pages are at the memory budget of %llu bytes and cannot be "
                           "dropped: %s",
                           core->path, (unsigned long long)core->write_view.budget_bytes, who);
        ph_io_pause(core->io, PIN_POLL_NS);
    }
}
