/* SPDX-License-Identifier: MIT */
/* A program that uses one heap on a simulated machine. */
#include "tests/support/workload.h"

#include "pheap/core.h"
#include "tests/support/dice.h"

#include <stdio.h>
#include <string.h>

#define SEGMENT_BYTES 16384u
#define BUFFER_BYTES 16384u
#define RESERVE_BYTES (UINT64_C(16) << 20)
#define SECOND_NS UINT64_C(1000000000)

static uint64_t roll(struct ph_workload *workload)
{
    return dice_roll(&workload->dice);
}

void ph_workload_init(struct ph_workload *workload, struct ph_sim *sim, uint64_t seed)
{
    *workload = (struct ph_workload){.sim = sim, .history = ph_history_new(seed ^ 0x6b7e), .seed = seed, .dice = seed};
    uint64_t segments = 4 + roll(workload) % 5;
    workload->options = (struct pheap_options){
        .size = sizeof workload->options,
        .reserve_bytes = RESERVE_BYTES,
        .log_limit_bytes = segments * SEGMENT_BYTES,
        .segment_bytes = SEGMENT_BYTES,
        .buffer_bytes = BUFFER_BYTES,
    };
    workload->flags = roll(workload) % 4 == 0 ? PHEAP_VERIFY | PHEAP_PROTECT : 0;
    workload->steady = roll(workload) % 2 == 0;
    workload->social = roll(workload) % 2 == 0;
    uint64_t large = segments > 5 && roll(workload) % 2 == 0 ? 36000 : segments * 2500;
    ph_history_limit(workload->history, large, large + 24000);
    workload->options.checksums = seed / 24 % 2;
    if (seed / 8 % 3 == 0)
        ph_history_track(workload->history);
}

void ph_workload_branch(struct ph_workload *workload, struct ph_sim *sim, const struct ph_workload *from, uint64_t k,
                        uint64_t seed)
{
    *workload = (struct ph_workload){.sim = sim,
                                     .history = ph_history_branch(from->history, k, seed ^ 0x6b7e),
                                     .acknowledged = k,
                                     .seed = seed,
                                     .dice = seed,
                                     .options = from->options};
}

void ph_workload_deinit(struct ph_workload *workload)
{
    ph_history_free(workload->history);
    workload->history = NULL;
    while (workload->superseded_count > 0)
        ph_history_free(workload->superseded[--workload->superseded_count].history);
}

static bool begin_action(struct ph_workload *workload, const char *what)
{
    workload->what = what;
    workload->status = PHEAP_OK;
    workload->was_transaction = false;
    workload->detail[0] = workload->why[0] = '\0';
    return true;
}

static bool good(struct ph_workload *workload, enum pheap_status status)
{
    workload->doubtful = workload->doubtful || status == PHEAP_POISONED || status == PHEAP_IO;
    if (status != PHEAP_OK && workload->status == PHEAP_OK) {
        workload->status = status;
        (void)snprintf(workload->detail, sizeof workload->detail, "%s", pheap_error_detail());
    }
    return status == PHEAP_OK && workload->why[0] == '\0';
}

static void acknowledge_all(struct ph_workload *workload)
{
    workload->acknowledged = ph_history_committed(workload->history);
    ph_sim_note(workload->sim, PH_NOTE_ACKNOWLEDGED, workload->acknowledged);
}

uint64_t ph_workload_oldest(const struct ph_workload *workload)
{
    uint64_t oldest = workload->acknowledged;
    for (unsigned i = 0; i < PH_WORKLOAD_READERS; i++)
        if (workload->readers[i].open != NULL && workload->readers[i].k < oldest)
            oldest = workload->readers[i].k;
    return oldest;
}

const struct ph_history *ph_workload_history_at(const struct ph_workload *workload, uint64_t opens)
{
    for (unsigned i = 0; i < workload->superseded_count; i++)
        if (opens < workload->superseded[i].opens)
            return workload->superseded[i].history;
    return workload->history;
}

/* See what the heap has after it was opened again, and go on from there. */
static bool settle(struct ph_workload *workload)
{
    struct ph_history *history = workload->history;
    uint64_t begun = ph_history_begun(history), k = 0;
    uint64_t least = workload->doubtful ? workload->acknowledged : ph_history_committed(history);
    ph_sim_fail_pause(workload->sim, true);
    bool same = ph_history_verify(history, workload->heap, least, begun, &k, workload->why, sizeof workload->why);
    ph_sim_fail_pause(workload->sim, false);
    if (!same)
        return false;
    if (k < begun && workload->superseded_count < PH_SUPERSEDED_MAX)
        workload->superseded[workload->superseded_count++] =
            (struct ph_superseded){ph_history_branch(history, begun, 0), workload->opens};
    ph_history_settle(history, k);
    workload->doubtful = false;
    acknowledge_all(workload);
    return true;
}

bool ph_workload_open(struct ph_workload *workload, unsigned flags)
{
    (void)begin_action(workload, "open");
    pheap *heap = NULL;
    ph_sim_set_mortal(workload->sim, NULL); /* the registry of open heaps would stay locked */
    ph_status status =
        ph_open_io(ph_sim_io(workload->sim), PH_WORKLOAD_PATH, flags | workload->flags, &workload->options, &heap);
    ph_sim_set_mortal(workload->sim, workload->grave);
    if (!good(workload, (enum pheap_status)status))
        return false;
    workload->heap = heap;
    ph_sim_note(workload->sim, PH_NOTE_OPENED, ++workload->opens);
    return workload->opens == 1 || settle(workload);
}

static void end_readers(struct ph_workload *workload, unsigned first, unsigned count)
{
    for (unsigned i = first; i < first + count; i++) {
        (void)pheap_read_end(workload->readers[i].open);
        workload->readers[i].open = NULL;
    }
}

void ph_workload_end_readers(struct ph_workload *workload)
{
    end_readers(workload, 0, PH_WORKLOAD_READERS);
}

static bool close_neighbour(struct ph_workload *workload)
{
    pheap *heap = workload->neighbour;
    if (heap == NULL)
        return true;
    end_readers(workload, PH_WORKLOAD_READERS / 2, PH_WORKLOAD_READERS / 2);
    workload->neighbour = NULL;
    ph_sim_set_mortal(workload->sim, NULL);
    enum pheap_status status = pheap_close(heap);
    ph_core_forget_mappings(ph_sim_neighbour(workload->sim));
    ph_sim_set_mortal(workload->sim, workload->grave);
    return good(workload, status);
}

/* The neighbour's heap, opened if need be; NULL if that failed. */
static pheap *visit_neighbour(struct ph_workload *workload)
{
    if (workload->neighbour != NULL)
        return workload->neighbour;
    pheap *heap = NULL;
    ph_sim_set_mortal(workload->sim, NULL);
    ph_status status =
        ph_open_io(ph_sim_neighbour(workload->sim), PH_WORKLOAD_PATH, workload->flags, &workload->options, &heap);
    ph_sim_set_mortal(workload->sim, workload->grave);
    if (good(workload, (enum pheap_status)status))
        workload->neighbour = heap;
    return workload->neighbour;
}

bool ph_workload_close(struct ph_workload *workload)
{
    (void)begin_action(workload, "close");
    ph_workload_end_readers(workload);
    bool both = close_neighbour(workload);
    pheap *heap = workload->heap;
    workload->heap = NULL;
    if (heap == NULL)
        return both;
    ph_sim_set_mortal(workload->sim, NULL);
    enum pheap_status status = pheap_close(heap);
    ph_sim_set_mortal(workload->sim, workload->grave);
    if (!good(workload, status) || !both) {
        workload->doubtful = true;
        return false;
    }
    acknowledge_all(workload);
    return true;
}

/* Begin or end one of the process's readers.  A snapshot does not change while transactions go on, unless it is evicted. */
static bool toggle_reader(struct ph_workload *workload, pheap *heap)
{
    const unsigned half = PH_WORKLOAD_READERS / 2;
    unsigned at = (unsigned)(roll(workload) % half) + (heap == workload->heap ? 0 : half);
    struct ph_workload_reader *reader = &workload->readers[at];
    uint64_t committed = ph_history_committed(workload->history);
    if (reader->open == NULL) {
        reader->evictable = roll(workload) % 2 == 0;
        pheap_read *open = NULL;
        enum pheap_status status = pheap_read_begin(heap, reader->evictable ? PHEAP_EVICTABLE : 0, &open);
        if (!good(workload, status))
            return false;
        reader->open = open;
        /* As many readers as views: so each new one finds a view that can show the newest version. */
        return ph_history_verify_reader(workload->history, open, committed, ph_history_begun(workload->history),
                                        &reader->k, workload->why, sizeof workload->why);
    }
    bool same = ph_history_verify_reader(workload->history, reader->open, reader->k, reader->k, NULL, workload->why,
                                         sizeof workload->why);
    enum pheap_status status = pheap_read_end(reader->open);
    reader->open = NULL;
    if (status != PHEAP_EVICTED || !reader->evictable)
        return good(workload, status) && same;
    workload->why[0] = '\0';
    workload->evictions++;
    return true;
}

static bool transact(struct ph_workload *workload, pheap *heap)
{
    (void)begin_action(workload, "transaction");
    struct ph_step step;
    ph_history_step(workload->history, heap, workload->sim, &step);
    workload->was_transaction = true;
    if (step.fate == PH_FATE_COMMITTED && step.durable)
        workload->acknowledged = ph_history_committed(workload->history);
    workload->fate = step.fate;
    workload->doubtful = workload->doubtful || step.fate == PH_FATE_UNKNOWN;
    workload->status = step.first_failure;
    memcpy(workload->detail, step.detail, sizeof workload->detail);
    if (step.accepted_after_unknown)
        (void)snprintf(workload->why, sizeof workload->why,
                       "a transaction began though the last one's fate is unknown");
    return step.first_failure == PHEAP_OK && workload->why[0] == '\0';
}

bool ph_workload_transaction(struct ph_workload *workload)
{
    return transact(workload, workload->heap);
}

static bool reopen(struct ph_workload *workload)
{
    if (workload->social && roll(workload) % 2 == 0)
        return begin_action(workload, "close the neighbour") && close_neighbour(workload);
    return ph_workload_close(workload) && ph_workload_open(workload, 0);
}

void ph_workload_kill(struct ph_workload *workload)
{
    workload->heap = workload->neighbour = NULL;
    for (unsigned i = 0; i < PH_WORKLOAD_READERS; i++)
        workload->readers[i].open = NULL;
    ph_sim_kill(workload->sim);
}

/* What a commit has acknowledged, LAZY or not, survives the process. */
static bool die(struct ph_workload *workload)
{
    ph_workload_kill(workload);
    return ph_workload_open(workload, 0);
}

static bool maintain(struct ph_workload *workload, pheap *heap)
{
    uint64_t now = ph_sim_io(workload->sim)->clock_ns(workload->sim, PH_CLOCK_MONOTONIC);
    ph_sim_set_clock(workload->sim, now + 2 * SECOND_NS);
    return good(workload, pheap_maintain(heap));
}

bool ph_workload_act(struct ph_workload *workload)
{
    uint64_t kind = roll(workload) % 100;
    if (workload->heap == NULL && !ph_workload_open(workload, 0))
        return false;
    (void)begin_action(workload, "open the neighbour");
    pheap *heap = workload->social && roll(workload) % 2 == 0 ? visit_neighbour(workload) : workload->heap;
    if (heap == NULL)
        return false;
    if (kind < 70 || (kind >= 96 && workload->steady && kind < 99))
        return transact(workload, heap);
    if (kind < 76) {
        (void)begin_action(workload, "sync");
        if (!good(workload, pheap_sync(heap)))
            return false;
        acknowledge_all(workload);
        return true;
    }
    if (kind < 80)
        return begin_action(workload, "fold") && good(workload, pheap_fold(heap));
    if (kind < 85)
        return begin_action(workload, "checkpoint") && good(workload, pheap_checkpoint(heap));
    if (kind < 88)
        return begin_action(workload, "maintain") && maintain(workload, heap);
    if (kind < 96)
        return begin_action(workload, "reader") && toggle_reader(workload, heap);
    return roll(workload) % 2 == 0 ? reopen(workload) : begin_action(workload, "die") && die(workload);
}
