/* SPDX-License-Identifier: MIT */
/*
 * Fold: durable records into the heap file, as far as pins allow.
 *
 * Pins (R3): the folder publishes fold_intent, then reads every seat's pin once, and goes no further than the oldest; a
 * reader stores its pin, then looks at fold_intent and tries again if that is beyond its pin (Dekker's protocol; both
 * sides sequentially consistent).  Whoever finds the fold lock's owner dead folds again from `folded`.  A pin marked
 * evictable may be taken away by compare-and-swap at any time; its reader finds that out when it ends.
 *
 * Vouching (R9): before the heap file gets anything of a record, something on stable storage says that the log was durable
 * beyond it: the header of a later batch, or else the superblock, which is written once more for that.  So if the record
 * rots, the log is not taken for one that was torn there, under a heap file that is ahead of it.
 *
 * Gathering: a process that flushes the log also takes what has become durable from the shared buffer into page images,
 * a fold set that begins where the heap file ends (`folded`).  When the set is large it is folded by itself, before more
 * is gathered: by then later batches vouch for it.  Nothing depends on it: when the fold comes, a set that begins at the
 * present `folded` and reaches no further than the fold may go saves reading that stretch of the log file; any other is
 * thrown away and the stretch is read.  It is private to the process, under the fold lock.
 */
#include "io/failpoint.h"
#include "recovery/sums.h"
#include "wal/flush.h"

#define FOLD_MEMORY_BYTES (UINT64_C(64) << 20)
#define GATHER_MEMORY_BYTES (UINT64_C(32) << 20) /* of images; then they are folded */

/* A program that closed all descriptors may have its own files there now: nothing of ours may be written to them. */
static ph_status check_handles(struct ph_store *store)
{
    ph_status status = ph_file_check_handle(&store->heap);
    if (status == PH_OK && store->sums.open)
        status = ph_file_check_handle(&store->sums);
    if (status == PH_OK && atomic_load(&store->wal.opened))
        status = ph_file_check_handle(&store->wal.file);
    return status;
}

ph_status ph_fold_lock(struct ph_store *store, uint64_t timeout_ns)
{
    enum ph_mutex_result result = ph_mutex_timedlock(&store->wal.coord->fold_lock, timeout_ns);
    PH_POINT(fold_lock_tried);
    if (result == PH_MUTEX_ACQUIRED || result == PH_MUTEX_OWNER_DIED) {
        ph_status status = check_handles(store);
        if (status != PH_OK)
            ph_fold_unlock(store);
        return status;
    }
    if (result == PH_MUTEX_TIMEOUT)
        return ph_fail(PH_TIMEOUT,
                       "%s: another process is at a checkpoint, or was stopped in the midst of one: thread %lld",
                       store->heap.path, (long long)ph_mutex_holder(&store->wal.coord->fold_lock));
    return ph_fail(PH_CORRUPT, "%s: the fold lock in the coordination file is damaged", store->heap.path);
}

void ph_fold_unlock(struct ph_store *store)
{
    ph_mutex_unlock(&store->wal.coord->fold_lock);
}

/* ----------------------------------------------------------------------------------------------------------- pins */

static uint64_t seat_lock_start(uint32_t seat)
{
    return seat;
}

bool ph_store_seat_alive(struct ph_store *store, uint32_t seat)
{
    if (seat == store->seat)
        return true;
    ph_local_lock(&store->wal.local_lock); /* all threads of the process count as one owner of the lock */
    bool dead = ph_file_lock(&store->coord_file, PH_LOCK_EXCLUSIVE, seat_lock_start(seat), 1, false) == PH_OK;
    if (dead) {
        PH_POINT(seat_of_dead_locked);
        /* While we hold its lock nobody can take the seat, so clearing what the dead left there is safe. */
        for (uint32_t i = 0; i < PH_PINS; i++)
            atomic_store(&store->wal.coord->seats[seat].pins[i].lsn, 0);
        atomic_store(&store->wal.coord->seats[seat].hold, 0);
        PH_POINT(seat_of_dead_cleared);
        ph_status status = ph_file_lock(&store->coord_file, PH_LOCK_NONE, seat_lock_start(seat), 1, false);
        (void)status; /* at worst the seat stays taken until this process closes the heap */
    }
    ph_local_unlock(&store->wal.local_lock);
    return !dead;
}

bool ph_store_oldest_pin(struct ph_store *store, struct ph_held_pin *oldest)
{
    bool found = false;
    for (uint32_t seat = 0; seat < PH_SEATS; seat++)
        for (uint32_t i = 0; i < PH_PINS; i++) {
            uint64_t lsn = atomic_load(&store->wal.coord->seats[seat].pins[i].lsn) & ~(uint64_t)PH_PIN_EVICTABLE;
            if (lsn == 0 || (found && lsn >= oldest->lsn) || !ph_store_seat_alive(store, seat))
                continue;
            *oldest = (struct ph_held_pin){.seat = seat, .index = i, .lsn = lsn};
            found = true;
        }
    return found;
}

/* The oldest pin that is not evictable, or `lsn` if none is older. */
static uint64_t oldest_firm(struct ph_store *store, uint64_t lsn)
{
    for (uint32_t seat = 0; seat < PH_SEATS; seat++)
        for (uint32_t i = 0; i < PH_PINS; i++) {
            uint64_t held = atomic_load(&store->wal.coord->seats[seat].pins[i].lsn);
            if (held != 0 && (held & PH_PIN_EVICTABLE) == 0 && held < lsn && ph_store_seat_alive(store, seat))
                lsn = held;
        }
    return lsn;
}

bool ph_store_evict(struct ph_store *store, uint64_t lsn)
{
    bool evicted = false;
    lsn = oldest_firm(store, lsn);
    for (uint32_t seat = 0; seat < PH_SEATS; seat++)
        for (uint32_t i = 0; i < PH_PINS; i++) {
            _Atomic uint64_t *pin = &store->wal.coord->seats[seat].pins[i].lsn;
            uint64_t held = atomic_load(pin);
            if ((held & PH_PIN_EVICTABLE) != 0 && held < lsn)
                evicted |= atomic_compare_exchange_strong(pin, &held, 0);
        }
    return evicted;
}

/* ------------------------------------------------------------------------------------------------------- gathering */

void ph_fold_forget(struct ph_store *store)
{
    ph_fold_set_deinit(store->gathered.set);
    store->gathered.set = NULL;
}

/* Whether there is a set that begins where the heap file ends. */
static bool has_gathered(const struct ph_store *store, const struct ph_fold_mark *folded)
{
    const struct ph_gathered *gathered = &store->gathered;
    return gathered->set != NULL && gathered->from.lsn == folded->lsn && gathered->from.chain == folded->chain;
}

static struct ph_boundary fold_boundary(const struct ph_fold_mark *mark)
{
    return (struct ph_boundary){mark->lsn, mark->chain, mark->version, mark->heap_bytes};
}

/* Take the buffer's records from the end of the set up to `target` into it. */
static ph_status gather_to(struct ph_store *store, uint64_t target, const struct ph_flush_mark *flushed)
{
    struct ph_gathered *gathered = &store->gathered;
    struct ph_replay replay;
    ph_status status = ph_replay_init_ring(&replay, &store->wal, &gathered->to, target);
    if (status == PH_OK)
        status = ph_replay_run(&replay, ph_fold_set_apply, gathered->set);
    if (status == PH_OK) {
        gathered->to = replay.boundary;
        if (flushed->lsn == gathered->to.lsn) {
            gathered->segment = flushed->segment;
            gathered->offset = flushed->offset;
        }
    }
    ph_replay_deinit(&replay);
    return status;
}

/* ----------------------------------------------------------------------------------------------------------- fold */

/* Replay [from, to) into the set, write it, and free it.  check_sums: as for the set. */
static ph_status fold_into(struct ph_store *store, struct ph_fold_set *set, const struct ph_boundary *from,
                           uint64_t segment, uint64_t offset, uint64_t to, bool check_sums, struct ph_boundary *reached)
{
    if (store->sums.open)
        ph_fold_set_keep_sums(set, &store->sums, check_sums);
    ph_status status = ph_replay_live(&store->wal, from, segment, offset, to, ph_fold_set_apply, set, reached);
    if (status == PH_OK)
        status = ph_fold_set_write(set);
    ph_fold_set_deinit(set);
    return status;
}

ph_status ph_fold_stretch(struct ph_store *store, const struct ph_boundary *from, uint64_t segment, uint64_t offset,
                          uint64_t to, uint32_t part, uint32_t parts, bool check_sums, struct ph_boundary *reached)
{
    struct ph_fold_set *set = NULL;
    ph_status status = ph_fold_set_init(&set, &store->heap, FOLD_MEMORY_BYTES, part, parts);
    return status == PH_OK ? fold_into(store, set, from, segment, offset, to, check_sums, reached) : status;
}

/* Fold up to `target`, a commit boundary, which the flush mark `flushed` has the log position of if they are equal. */
static ph_status fold_to(struct ph_store *store, uint64_t target, const struct ph_flush_mark *flushed)
{
    struct ph_coord *coord = store->wal.coord;
    struct ph_gathered *gathered = &store->gathered;
    struct ph_fold_mark now;
    if (!ph_coord_read_fold(coord, &now))
        return ph_coord_damaged(store->heap.path);
    if (target <= now.lsn)
        return PH_OK;
    ph_status status = ph_store_vouch(store, target);
    if (status != PH_OK)
        return status;
    const struct ph_boundary from = fold_boundary(&now);
    struct ph_boundary reached = from;
    bool check_sums = atomic_exchange(&coord->fold_unfinished, 1) == 0;
    if (has_gathered(store, &now) && gathered->to.lsn <= target) {
        struct ph_fold_set *set = gathered->set;
        gathered->set = NULL;
        ph_fold_set_unbound(set);
        status =
            fold_into(store, set, &gathered->to, gathered->segment, gathered->offset, target, check_sums, &reached);
    } else {
        ph_fold_forget(store);
        status = ph_fold_stretch(store, &from, now.segment, now.offset, target, 0, 0, check_sums, &reached);
    }
    if (status != PH_OK)
        return status;
    PH_POINT(fold_wrote);
    bool positioned = flushed->lsn == reached.lsn;
    struct ph_fold_mark mark = {
        .lsn = reached.lsn,
        .chain = reached.chain,
        .version = reached.version,
        .heap_bytes = reached.heap_bytes,
        .segment = positioned ? flushed->segment : now.segment,
        .offset = positioned ? flushed->offset : now.offset,
    };
    if (reached.lsn != from.lsn)
        ph_coord_publish_fold(coord, &mark);
    if (check_sums || reached.lsn == atomic_load(&coord->fold_intent)) /* else not all that was left is made good */
        atomic_store(&coord->fold_unfinished, 0);
    return PH_OK;
}

/* The same, as far as pins allow. */
static ph_status fold_below_pins(struct ph_store *store, uint64_t target, const struct ph_flush_mark *flushed)
{
    struct ph_coord *coord = store->wal.coord;
    uint64_t intent = atomic_load(&coord->fold_intent);
    if (target > intent)
        atomic_store(&coord->fold_intent, target);
    PH_POINT(fold_intended);
    struct ph_held_pin pin;
    if (ph_store_oldest_pin(store, &pin) && pin.lsn < target)
        target = pin.lsn;
    PH_POINT(fold_pins_read);
    return fold_to(store, target, flushed);
}

ph_status ph_fold_locked(struct ph_store *store)
{
    struct ph_coord *coord = store->wal.coord;
    struct ph_flush_mark flushed;
    if (!ph_coord_read_flush(coord, &flushed))
        return ph_coord_damaged(store->heap.path);
    uint64_t committed = atomic_load(&coord->committed);
    return fold_below_pins(store, flushed.lsn < committed ? flushed.lsn : committed, &flushed);
}

ph_status ph_store_fold(struct ph_store *store, uint64_t timeout_ns)
{
    if (atomic_load(&store->wal.coord->epoch_open) == 0)
        return PH_OK;
    ph_status status = ph_flush_to(&store->wal, ph_coord_stream_end(store->wal.coord), timeout_ns);
    if (status == PH_OK)
        status = ph_fold_lock(store, timeout_ns);
    if (status != PH_OK)
        return status;
    status = ph_fold_locked(store);
    ph_fold_unlock(store);
    return status;
}

/* --------------------------------------------------------------------------------------------- gathering in advance */

static void gather_locked(struct ph_store *store)
{
    struct ph_coord *coord = store->wal.coord;
    struct ph_gathered *gathered = &store->gathered;
    struct ph_fold_mark folded;
    struct ph_flush_mark flushed;
    if (!ph_coord_read_fold(coord, &folded) || !ph_coord_read_flush(coord, &flushed))
        return; /* whoever folds will say so */
    if (has_gathered(store, &folded) && ph_fold_set_bytes(gathered->set) >= GATHER_MEMORY_BYTES &&
        flushed.lsn > gathered->to.lsn) { /* now it is vouched for */
        const struct ph_flush_mark end = {
            .lsn = gathered->to.lsn, .segment = gathered->segment, .offset = gathered->offset};
        if (check_handles(store) != PH_OK || fold_below_pins(store, end.lsn, &end) != PH_OK ||
            !ph_coord_read_fold(coord, &folded))
            return; /* as in any other upkeep after a commit: whoever needs the fold will meet it */
    }
    if (!has_gathered(store, &folded)) {
        ph_fold_forget(store);
        if (!ph_ring_has(&store->wal, folded.lsn)) /* until the next fold */
            return;
        gathered->from = gathered->to = fold_boundary(&folded);
        gathered->segment = folded.segment;
        gathered->offset = folded.offset;
        if (ph_fold_set_init(&gathered->set, &store->heap, FOLD_MEMORY_BYTES, 0, 1) != PH_OK)
            return;
    }
    uint64_t committed = atomic_load(&coord->committed);
    uint64_t target = flushed.lsn < committed ? flushed.lsn : committed;
    if (target > gathered->to.lsn && gather_to(store, target, &flushed) != PH_OK)
        ph_fold_forget(store); /* lapped, too many pages at once, no memory */
}

void ph_store_gather(struct ph_store *store)
{
    struct ph_coord *coord = store->wal.coord;
    atomic_store_explicit(&store->gather_next,
                          atomic_load_explicit(&coord->durable, memory_order_relaxed) + store->wal.buffer_bytes / 4,
                          memory_order_relaxed);
    enum ph_mutex_result result = ph_mutex_trylock(&coord->fold_lock);
    if (result != PH_MUTEX_ACQUIRED && result != PH_MUTEX_OWNER_DIED)
        return;
    gather_locked(store);
    PH_POINT(fold_gathered);
    ph_fold_unlock(store);
}
