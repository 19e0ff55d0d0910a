/* SPDX-License-Identifier: MIT */
/*
 * Two processes use a heap while somebody stores anything into the coordination file, but for its three locks, which
 * belong to the C library: their bytes are what pthreads trusts.
 *
 * Whatever marks, seats, words and buffer hold, and whenever they change:
 *   F1  every call returns a status, and what it gives lies inside the heap
 *   F2  the heap file and the superblocks are written as fuzz/machine.h, M1, says; M2 to M5 hold as well
 *   F3  after a reboot, which the coordination file does not survive, the heap opens or is refused
 *
 * Input: a script of the codes below.
 */
#include "fuzz/machine.h"
#include "fuzz/reseal.h"
#include "pheap/core.h"
#include "wal/coord.h"

#include <stdlib.h>
#include <string.h>

#define OPERATIONS_MAX 200u
#define SLOTS 16u
#define OPENS_MAX 8u
#define BEGINS_MAX 40u /* each may try for some milliseconds to gain log */
#define BLOCKS_MAX 200u

struct process {
    pheap *heap;
    pheap_txn *txn;
    pheap_read *reader;
};

struct run {
    const uint8_t *at, *end;
    struct process processes[FUZZ_PROCESSES];
    unsigned present, opens, begins;
    uint64_t slots[SLOTS];
    unsigned next_slot;
};

static uint8_t take(struct run *run)
{
    return run->at < run->end ? *run->at++ : 0;
}

/* ------------------------------------------------------------------------------------------------ the other one's hand */

static bool is_lock(uint64_t offset)
{
    static const size_t locks[] = {offsetof(struct ph_coord, writer_lock), offsetof(struct ph_coord, flush_lock),
                                   offsetof(struct ph_coord, fold_lock)};
    for (unsigned i = 0; i < 3; i++)
        if (offset + 8 > locks[i] && offset < locks[i] + sizeof(struct ph_mutex))
            return true;
    return false;
}

/* Mostly one of the words that mean something to everybody. */
static uint64_t take_place(struct run *run)
{
    static const size_t marks[] = {
        offsetof(struct ph_coord, reserved),     offsetof(struct ph_coord, appended),
        offsetof(struct ph_coord, committed),    offsetof(struct ph_coord, writer_seat),
        offsetof(struct ph_coord, reserve),      offsetof(struct ph_coord, durable),
        offsetof(struct ph_coord, flush_word),   offsetof(struct ph_coord, lazy_since_ns),
        offsetof(struct ph_coord, flush_crowd),  offsetof(struct ph_coord, reserve_limit),
        offsetof(struct ph_coord, fold_intent),  offsetof(struct ph_coord, folded),
        offsetof(struct ph_coord, checkpoint),   offsetof(struct ph_coord, sync_in_progress),
        offsetof(struct ph_coord, epoch_open),   offsetof(struct ph_coord, slot_count),
        offsetof(struct ph_coord, commit_marks), offsetof(struct ph_coord, fragment_marks),
        offsetof(struct ph_coord, flush_marks),  offsetof(struct ph_coord, fold_marks),
        offsetof(struct ph_coord, seats),        offsetof(struct ph_coord, slot_sequence),
    };
    uint8_t kind = take(run), more = take(run);
    uint64_t base = marks[kind % (sizeof marks / sizeof marks[0])];
    if (kind < 120)
        return base + more % 2 * 8;
    if (kind < 220)
        return base + more * UINT64_C(8);
    return kind < 235 ? more * UINT64_C(8) : PH_COORD_BUFFER_AT + (more | (uint64_t)take(run) << 8) % 2048 * 8;
}

static void poke(struct run *run)
{
    uint64_t offset = take_place(run), value = 0;
    uint8_t how = take(run);
    if (is_lock(offset) || ph_sim_peek(fuzz_machine_sim(), FUZZ_COORD_PATH, &value, 8, offset) != 8)
        return;
    switch (how % 8) {
    case 0:
        value += (take(run) - UINT64_C(128)) * 8;
        break;
    case 1:
        value ^= UINT64_C(1) << how / 8;
        break;
    case 2:
        value = (UINT64_C(1) << how / 8 * 2) - how / 128;
        break;
    case 3:
        value = how < 128 ? 0 : UINT64_MAX;
        break;
    case 4:
        value = take(run);
        break;
    case 5:
        value = how < 128 ? UINT32_MAX : UINT64_MAX / 2;
        break;
    case 6: /* as some other word */
        offset = offset / 8 * 8;
        (void)ph_sim_peek(fuzz_machine_sim(), FUZZ_COORD_PATH, &value, 8, take_place(run) / 8 * 8);
        break;
    default:
        for (unsigned i = 0; i < 8; i++)
            value = value << 8 | take(run);
        break;
    }
    /* The header and small words in it decide who joins; half of the time they stay as a pair. */
    (void)ph_sim_poke(fuzz_machine_sim(), FUZZ_COORD_PATH, &value, how % 16 < 8 ? 8 : 4, offset);
}

/* --------------------------------------------------------------------------------------------------------- operations */

static void open_heap(struct run *run, unsigned process)
{
    const struct pheap_options options = {
        .size = sizeof options,
        .reserve_bytes = UINT64_C(16) << 20,
        .budget_bytes = UINT64_C(1) << 20,
        .log_limit_bytes = 8 * 16384,
        .segment_bytes = 16384,
        .buffer_bytes = 16384,
        .pin_wait_ms = 10,
    };
    struct process *p = &run->processes[process];
    if (p->heap == NULL && run->opens++ < OPENS_MAX)
        (void)!ph_open_io(fuzz_machine_io(process), FUZZ_PATH, PHEAP_CREATE, &options, &p->heap);
}

static void close_heap(struct process *p)
{
    if (p->txn != NULL)
        (void)pheap_abort(p->txn);
    p->txn = NULL;
    (void)pheap_read_end(p->reader);
    p->reader = NULL;
    FUZZ_REQUIRE(pheap_close(p->heap) != PHEAP_BUSY);
    p->heap = NULL;
}

static void change(struct run *run, struct process *p, uint8_t code)
{
    uint64_t offset = run->slots[take(run) % SLOTS], length = 1 + take(run) * UINT64_C(40);
    void *address = NULL;
    if (code % 4 == 0) {
        if (pheap_alloc(p->txn, length, &offset) == PHEAP_OK) {
            memset(pheap_ptr(p->txn, offset), code, length);
            run->slots[run->next_slot++ % SLOTS] = offset;
        }
    } else if (code % 4 == 1) {
        (void)!pheap_free(p->txn, offset);
    } else if (pheap_edit(p->txn, offset, length, &address) == PHEAP_OK) {
        memset(address, code, length);
    }
}

static void look(struct process *p)
{
    uint64_t from = 0, offset, length;
    if (p->reader == NULL && pheap_read_begin_timeout(p->heap, 0, 0, &p->reader) != PHEAP_OK)
        return;
    for (unsigned i = 0; i < BLOCKS_MAX; i++) {
        if (pheap_read_next_block(p->reader, from, &offset, &length) != PHEAP_OK)
            break;
        FUZZ_REQUIRE(offset >= from && offset <= pheap_read_size(p->reader) - length); /* F1 */
        const volatile uint8_t *bytes = pheap_read_ptr(p->reader, offset);
        (void)bytes[0];
        (void)bytes[length - 1];
        from = offset + length;
    }
}

static void maintain(struct process *p, uint8_t code)
{
    switch (code % 5) {
    case 0:
        (void)!pheap_sync(p->heap);
        break;
    case 1:
        (void)!pheap_fold(p->heap);
        break;
    case 2:
        (void)!pheap_checkpoint(p->heap);
        break;
    case 3:
        fuzz_machine_inquire(p->heap);
        break;
    default:
        fuzz_machine_pass(2 * FUZZ_SECOND_NS);
        (void)!pheap_maintain(p->heap);
        break;
    }
}

static void act(struct run *run)
{
    uint8_t code = take(run);
    struct process *p = &run->processes[run->present];
    if (code < 80) {
        poke(run);
        return;
    }
    if (p->heap == NULL)
        open_heap(run, run->present);
    if (p->heap == NULL || code >= 236) {
        run->present = 1 - run->present;
        return;
    }
    if (code < 160 && p->txn == NULL) {
        if (run->begins++ < BEGINS_MAX)
            (void)!pheap_begin_timeout(p->heap, 0, &p->txn);
    } else if (code < 136)
        change(run, p, code);
    else if (code < 160) {
        (void)!pheap_commit(p->txn, code % 2 == 0 ? PHEAP_DURABLE : PHEAP_LAZY, NULL);
        p->txn = NULL;
    } else if (code < 180)
        look(p);
    else if (code < 190) {
        (void)pheap_read_end(p->reader);
        p->reader = NULL;
    } else if (code < 230)
        maintain(p, code);
    else
        close_heap(p);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const struct fuzz_input nothing = {0};
    if (size > FUZZ_INPUT_MAX)
        return -1;
    struct run run = {.at = data, .end = data + size};
    fuzz_machine_start(&nothing);
    open_heap(&run, 0);
    open_heap(&run, 1);
    for (unsigned i = 0; i < OPERATIONS_MAX && run.at < run.end; i++)
        act(&run);
    for (unsigned i = 0; i < FUZZ_PROCESSES; i++)
        close_heap(&run.processes[i]);
    fuzz_machine_snapshot();
    fuzz_machine_revert(false);
    run.opens = 0;
    open_heap(&run, 0); /* F3 */
    if (run.processes[0].heap != NULL)
        look(&run.processes[0]);
    close_heap(&run.processes[0]);
    fuzz_machine_stop();
    return 0;
}
