/* SPDX-License-Identifier: MIT */
/* The processes of the rig. */
#include "tests/process/actor.h"

#include "tests/support/dice.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define LIVES 6u
#define PATIENCE_MS 20
#define MOST_PAUSE_US 2000
#define READER_PAUSE_US 500
#define EVICT_TRIES 24u

static struct stage *stage;
static struct actor *self;
static uint64_t dice;
static unsigned own_number;

static void pause_us(long microseconds)
{
    const struct timespec time = {.tv_nsec = microseconds * 1000};
    (void)nanosleep(&time, NULL);
}

static bool wanted(void)
{
    return atomic_load(&self->quit) == 0;
}

/* It was refused with a clear status; whoever is stopped may be the cause. */
static void note_refusal(uint32_t stop)
{
    if (stop != 0 && stop == atomic_load(&stage->stop)) {
        (void)snprintf(self->detail, sizeof self->detail, "%s", pheap_error_detail());
        for (unsigned i = 0; i < ACTORS_MAX; i++) {
            char name[32];
            (void)snprintf(name, sizeof name, " %d", (int)stage->actors[i].pid); /* the path has no spaces */
            if (stage->actors[i].pid != 0 && strstr(self->detail, name) != NULL) {
                atomic_store(&self->named[i], 1);
            }
        }
        atomic_fetch_add(&self->refusals, 1);
    }
}

/* ------------------------------------------------------------------------------------------------- opening, closing */

/* Small everything, so that a little work laps the buffer, fills the log and recycles segments. */
static const struct pheap_options options = {.size = sizeof(struct pheap_options),
                                             .reserve_bytes = 1u << 30,
                                             .log_limit_bytes = 256u << 10,
                                             .segment_bytes = 16u << 10,
                                             .buffer_bytes = 16u << 10,
                                             .pin_wait_ms = PATIENCE_MS};

static pheap *open_heap(void)
{
    pheap *heap;
    atomic_store(&self->state, ACTOR_OPENING);
    for (;;) {
        const uint32_t stop = atomic_load(&stage->stop);
        const enum pheap_status status = pheap_open(stage->path, PHEAP_CREATE, &options, &heap);
        if (status == PHEAP_OK) {
            break;
        }
        if (status != PHEAP_BUSY || stop == 0) {
            oracle_must(status, "open");
        }
        note_refusal(stop);
        pause_us(1000);
    }
    struct pheap_info info = {.size = sizeof info};
    oracle_must(pheap_get_info(heap, &info), "info");
    atomic_fetch_add(&stage->recoveries, info.recovered);
    atomic_store(&self->state, ACTOR_IDLE);
    return heap;
}

static void create_history(pheap *heap)
{
    uint32_t stop;
    do {
        stop = atomic_load(&stage->stop);
        if (oracle_create(heap, PATIENCE_MS) == PHEAP_OK) {
            return;
        }
        note_refusal(stop);
    } while (wanted());
}

static void close_heap(pheap *heap)
{
    atomic_store(&self->state, ACTOR_CLOSING);
    oracle_must(pheap_close(heap), "close");
    atomic_store(&self->state, ACTOR_AWAY);
}

/* ---------------------------------------------------------------------------------------------------- kinds of work */

static void commit(pheap *heap, unsigned flags)
{
    enum pheap_status status;
    do {
        status = oracle_commit(heap, PATIENCE_MS, flags);
    } while (status == PHEAP_TIMEOUT && wanted());
}

static void work_commit(pheap *heap)
{
    commit(heap, 0);
    commit(heap, ORACLE_LAZY);
}

static void work_durable(pheap *heap)
{
    commit(heap, ORACLE_DURABLE);
}

static void work_large(pheap *heap)
{
    commit(heap, ORACLE_LAZY | ORACLE_LARGE);
}

/* Grow the heap, and think better of it. */
static void work_growth(pheap *heap)
{
    pheap_txn *txn;
    uint64_t offset;
    enum pheap_status status;
    do {
        status = pheap_begin_timeout(heap, PATIENCE_MS, &txn);
    } while ((status == PHEAP_TIMEOUT || status == PHEAP_LOG_FULL) && wanted());
    if (status == PHEAP_TIMEOUT || status == PHEAP_LOG_FULL) {
        return;
    }
    oracle_must(status, "begin");
    oracle_must(pheap_alloc(txn, 3u << 20, &offset), "a large block");
    oracle_must(pheap_fill(txn, offset, 0x77, 4096), "fill");
    oracle_must(pheap_abort(txn), "abort");
}

static void work_fold(pheap *heap)
{
    oracle_must(pheap_fold(heap), "fold");
}

static void work_checkpoint(pheap *heap)
{
    oracle_must(pheap_checkpoint(heap), "checkpoint");
}

static void work_sync(pheap *heap)
{
    oracle_must(pheap_sync(heap), "sync");
}

static void work_maintain(pheap *heap)
{
    oracle_must(pheap_maintain(heap), "maintain");
}

static void work_read(pheap *heap)
{
    pheap_read *reader;
    oracle_must(pheap_read_begin(heap, PHEAP_FRESH, &reader), "read");
    oracle_glance(reader);
    oracle_must(pheap_read_end(reader), "the end of a reader");
}

static void end_evictable(pheap_read *reader)
{
    const enum pheap_status status = pheap_read_end(reader);
    if (status != PHEAP_EVICTED) {
        oracle_must(status, "the end of an evictable reader");
    }
}

/* A firm reader joins an evictable one, and leaves it to its fate. */
static void work_join(pheap *heap)
{
    pheap_read *evictable;
    pheap_read *firm;
    oracle_must(pheap_read_begin(heap, PHEAP_EVICTABLE, &evictable), "read");
    oracle_must(pheap_read_begin(heap, 0, &firm), "read");
    oracle_glance(firm);
    oracle_must(pheap_read_end(firm), "the end of a reader");
    end_evictable(evictable);
}

/* Write until an evictable reader is in the way of the log. */
static void work_evict(pheap *heap)
{
    pheap_read *reader;
    oracle_must(pheap_read_begin(heap, PHEAP_EVICTABLE, &reader), "read");
    for (unsigned i = 0; i < EVICT_TRIES && pheap_read_valid(reader) == PHEAP_OK && wanted(); i++) {
        commit(heap, ORACLE_LAZY | ORACLE_LARGE);
    }
    end_evictable(reader);
}

static void work_wait(pheap *heap)
{
    uint64_t newest;
    oracle_must(pheap_newest_version(heap, &newest), "newest version");
    const enum pheap_status status = pheap_wait(heap, newest, 1, NULL);
    if (status != PHEAP_TIMEOUT) {
        oracle_must(status, "wait");
    }
}

/* Takes an archive and throws it away; at its first bytes the heap goes on, so that the backup has to follow. */
static int sink(void *context, const void *bytes, size_t length)
{
    pheap **heap = context;
    (void)bytes;
    (void)length;
    if (*heap != NULL) {
        pheap *once = *heap;
        *heap = NULL;
        commit(once, ORACLE_LAZY | ORACLE_LARGE);
        oracle_must(pheap_fold(once), "fold");
    }
    return 0;
}

static void work_backup(pheap *heap)
{
    const struct pheap_backup_options how = {.size = sizeof how, .level = 1};
    pheap *context = heap;
    oracle_must(pheap_backup_to(heap, sink, &context, &how, NULL), "backup");
}

/* In the order in which a process does all of it; the first weigh more where they are drawn at random. */
static void (*const kinds_of_work[])(pheap *heap) = {
    work_commit, work_durable,    work_commit, work_large, work_growth, work_fold,
    work_commit, work_checkpoint, work_commit, work_sync,  work_commit, work_maintain,
    work_read,   work_join,       work_evict,  work_wait,  work_commit, work_backup,
};
#define KINDS_OF_WORK (sizeof kinds_of_work / sizeof kinds_of_work[0])

/* ----------------------------------------------------------------------------------------------------------- parts */

/*
 * A writer never waits for long, so that it can say whom it waits for.  Under a stop the first of two only commits
 * LAZY, which needs nobody; the other also waits for the disk.
 */
static void play_writer(pheap *heap)
{
    for (uint64_t turn = 0; wanted(); turn++) {
        const uint32_t stop = atomic_load(&stage->stop);
        const unsigned flags = own_number % 2 == 0 && stop != 0 ? ORACLE_LAZY : turn % 4 == 0 ? ORACLE_DURABLE : 0;
        atomic_store(&self->state, ACTOR_BEGINNING);
        const enum pheap_status status = oracle_commit(heap, PATIENCE_MS, flags);
        atomic_store(&self->state, ACTOR_IDLE);
        if (status != PHEAP_OK) {
            note_refusal(stop);
            continue;
        }
        atomic_fetch_add(&self->progress, 1);
        if (stop != 0 && stop == atomic_load(&stage->stop)) {
            atomic_fetch_add(&self->commits, 1);
        }
    }
}

static void play_reader(pheap *heap)
{
    while (wanted()) {
        const uint32_t stop = atomic_load(&stage->stop);
        work_read(heap);
        atomic_fetch_add(&self->progress, 1);
        if (stop != 0 && stop == atomic_load(&stage->stop)) {
            atomic_fetch_add(&self->commits, 1);
        }
        work_wait(heap);
        if (stop == 0) {
            pause_us(READER_PAUSE_US);
        }
    }
}

static bool reached(void)
{
    return atomic_load(&self->arm.reached) != 0;
}

static void play_all(void)
{
    for (unsigned life = 0; life < LIVES && !reached() && wanted(); life++) {
        pheap *heap = open_heap();
        while (atomic_load(&self->held_back) != 0) {
            pause_us(200);
        }
        create_history(heap);
        for (size_t i = 0; i < KINDS_OF_WORK && !reached() && wanted(); i++) {
            kinds_of_work[i](heap);
            atomic_fetch_add(&self->progress, 1);
        }
        close_heap(heap);
    }
}

static void play_any(void)
{
    while (wanted()) {
        pheap *heap = open_heap();
        create_history(heap);
        do {
            const uint64_t random = dice_roll(&dice);
            if (random % 4 != 0) {
                commit(heap, 0);
            } else {
                kinds_of_work[random / 4 % KINDS_OF_WORK](heap);
            }
            atomic_fetch_add(&self->progress, 1);
            if (random / 1000 % 4 == 0) { /* so that others come in between, and no processor is wasted */
                pause_us((long)(random / 4000 % MOST_PAUSE_US));
            }
        } while (wanted() && dice_roll(&dice) % 64 != 0);
        close_heap(heap);
    }
}

void actor_play(struct stage *on, unsigned number, enum actor_role role, uint64_t seed)
{
    stage = on;
    self = &on->actors[number];
    own_number = number;
    dice = seed;
    oracle_use(&on->oracle);
    pheap *heap;
    switch (role) {
    case ACTOR_WRITER:
    case ACTOR_READER:
        heap = open_heap();
        if (role == ACTOR_WRITER) {
            create_history(heap);
            play_writer(heap);
        } else {
            play_reader(heap);
        }
        close_heap(heap);
        break;
    case ACTOR_ALL:
        play_all();
        break;
    case ACTOR_ANY:
        play_any();
        break;
    case ACTOR_OPENER:
        close_heap(open_heap());
        break;
    case ACTOR_VERIFIER:
        heap = open_heap();
        oracle_verify(heap);
        close_heap(heap);
        break;
    }
    exit(0);
}
