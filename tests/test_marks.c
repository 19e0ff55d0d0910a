/* SPDX-License-Identifier: MIT */
/*
 * A coordination file, or a log, that rots while the heap is in use: every call that meets the damage says so, nothing
 * is done by a mark that does not fit, and what was acknowledged is there when the heap is opened anew (R8).
 */
#include "tests/machine.h"
#include "wal/flush.h"
#include "wal/ring.h"

#define WORDS 4096u

/* --------------------------------------------------------------------------------------------------------- the marks */

/* Make neither slot of a mark fit; done twice it is whole again.  `slots`: the first of both. */
static void turn_mark(void *slots)
{
    uint64_t lsn;
    for (size_t i = 0; i < 2; i++) {
        uint8_t *slot = (uint8_t *)slots + i * sizeof(struct ph_commit_mark);
        memcpy(&lsn, slot, sizeof lsn);
        lsn ^= UINT64_C(1) << 62;
        memcpy(slot, &lsn, sizeof lsn);
    }
}

static enum pheap_status try_begin(pheap *heap)
{
    pheap_txn *txn;
    enum pheap_status status = pheap_begin(heap, &txn);
    require(status != PHEAP_OK || pheap_abort(txn) == PHEAP_OK);
    return status;
}

static enum pheap_status try_read(pheap *heap)
{
    pheap_read *reader;
    enum pheap_status status = pheap_read_begin(heap, PHEAP_FRESH, &reader);
    if (status == PHEAP_OK)
        pheap_read_end(reader);
    return status;
}

/* The heap works in both processes, and then after it was closed and opened again. */
static void demand_use(struct machine *machine, pheap *first, pheap *second, uint64_t value)
{
    pheap *heaps[] = {first, second};
    for (size_t i = 0; i < 2; i++)
        if (heaps[i] != NULL) {
            require_equal(fresh_word(heaps[i], 0), value);
            commit_word(heaps[i], 0, ++value, PHEAP_DURABLE);
        }
    if (second != NULL)
        ok(pheap_close(second));
    check_sound(first);
    ok(pheap_close(first));
    first = machine_open(machine->first, 0);
    require_equal(fresh_word(first, 0), value);
    check_sound(first);
    ok(pheap_close(first));
}

/* Catches: a transaction that begins on a commit that is none, and figures made of garbage. */
static void commit_mark__fits_no_longer(void **state)
{
    (void)state;
    struct machine machine;
    machine_begin(&machine, NULL);
    pheap *first = machine_create(&machine, 0, WORDS);
    commit_word(first, 0, 1, PHEAP_LAZY);
    struct ph_coord *coord = first->core->coord;
    turn_mark(coord->commit_marks);
    struct pheap_info info = {.size = sizeof info};
    expect_detail(PHEAP_CORRUPT, "marks in the coordination file", try_begin(first));
    expect_detail(PHEAP_CORRUPT, "marks in the coordination file", pheap_get_info(first, &info));
    expect_detail(PHEAP_CORRUPT, "marks in the coordination file", pheap_wait(first, 0, 0, NULL));
    pheap *second = machine_open(&machine.second, 0);
    expect_detail(PHEAP_CORRUPT, "marks in the coordination file", try_begin(second));
    turn_mark(coord->commit_marks);
    demand_use(&machine, first, second, 1);
    machine_end(&machine);
}

/* Catches: a fold, a checkpoint or a view that starts from a place that is none. */
static void fold_mark__fits_no_longer(void **state)
{
    (void)state;
    struct machine machine;
    machine_begin(&machine, NULL);
    pheap *first = machine_create(&machine, 0, WORDS);
    struct ph_coord *coord = first->core->coord;
    uint64_t folded = atomic_load(&coord->folded), checkpoint = coord->checkpoint.lsn;
    turn_mark(coord->fold_marks);
    pheap *second = machine_open(&machine.second, 0);
    expect_detail(PHEAP_CORRUPT, "marks in the coordination file", pheap_fold(first));
    expect_detail(PHEAP_CORRUPT, "marks in the coordination file", pheap_checkpoint(first));
    expect_detail(PHEAP_CORRUPT, "marks in the coordination file", try_read(second));
    expect_detail(PHEAP_CORRUPT, "marks in the coordination file", try_begin(second));
    require(folded == atomic_load(&coord->folded) && checkpoint == coord->checkpoint.lsn);
    turn_mark(coord->fold_marks);
    demand_use(&machine, first, second, 0);
    /* No epoch is open now: the next transaction would begin one from that mark. */
    first = machine_open(machine.first, 0);
    turn_mark(first->core->coord->fold_marks);
    expect_detail(PHEAP_CORRUPT, "marks in the coordination file", try_begin(first));
    require_equal(atomic_load(&first->core->coord->epoch_open), 0);
    turn_mark(first->core->coord->fold_marks);
    demand_use(&machine, first, NULL, 2);
    machine_end(&machine);
}

static int ignore(void *context, const void *bytes, size_t length)
{
    (void)context;
    (void)bytes;
    return length == 0;
}

static struct ph_coord *coord_to_rot;

static int rot_on_the_way(void *context, const struct pheap_transfer *so_far)
{
    (void)so_far;
    if ((*(unsigned *)context)++ == 0)
        turn_mark(coord_to_rot->fold_marks);
    return 0;
}

/* Catches: a backup of a heap by a mark that is none: it would hold the wrong part of the log, and end as a whole one. */
static void fold_mark__rots_before_and_in_a_backup(void **state)
{
    (void)state;
    struct machine machine;
    unsigned calls = 0;
    machine_begin(&machine, NULL);
    pheap *heap = machine_create(&machine, 0, WORDS);
    const struct pheap_backup_options rots = {.size = sizeof rots, .progress = rot_on_the_way, .context = &calls};
    coord_to_rot = heap->core->coord;
    commit_word(heap, 0, 1, PHEAP_DURABLE);
    turn_mark(coord_to_rot->fold_marks);
    expect_detail(PHEAP_CORRUPT, "marks in the coordination file", pheap_backup_to(heap, ignore, NULL, NULL, NULL));
    turn_mark(coord_to_rot->fold_marks);
    expect_detail(PHEAP_CORRUPT, "marks in the coordination file", pheap_backup_to(heap, ignore, NULL, &rots, NULL));
    require_equal(atomic_load(&coord_to_rot->seats[heap->core->store.seat].hold), 0);
    turn_mark(coord_to_rot->fold_marks);
    ok(pheap_backup_to(heap, ignore, NULL, NULL, NULL));
    demand_use(&machine, heap, NULL, 1);
    machine_end(&machine);
}

/* Catches: figures that take hours, because a mark says that the heap is that large. */
static void commit_mark__says_that_the_heap_is_huge(void **state)
{
    (void)state;
    struct machine machine;
    machine_begin(&machine, NULL);
    pheap *heap = machine_create(&machine, 0, WORDS);
    commit_word(heap, 0, 1, PHEAP_DURABLE);
    struct ph_coord *coord = heap->core->coord;
    struct ph_commit_mark *mark = &coord->commit_marks[coord->commit_marks[0].lsn == coord->committed ? 0 : 1];
    uint64_t right = mark->heap_bytes;
    mark->heap_bytes = UINT64_C(1) << 46;
    (void)heap_info(heap);
    mark->heap_bytes = right;
    demand_use(&machine, heap, NULL, 1);
    machine_end(&machine);
}

/* Catches: a view of more bytes than the heap file has, because a mark says so: to read behind its end is a SIGBUS. */
static void fold_mark__says_more_than_the_file_has(void **state)
{
    (void)state;
    struct machine machine;
    machine_begin(&machine, NULL);
    pheap *first = machine_create(&machine, 0, WORDS);
    commit_word(first, 0, 1, PHEAP_DURABLE);
    ok(pheap_fold(first));
    struct ph_coord *coord = first->core->coord;
    struct ph_fold_mark *mark = &coord->fold_marks[coord->fold_marks[0].lsn == coord->folded ? 0 : 1];
    uint64_t right = mark->heap_bytes;
    mark->heap_bytes = right + (UINT64_C(1) << 20);
    pheap *second = machine_open(&machine.second, 0);
    expect_detail(PHEAP_CORRUPT, "marks in the coordination file", try_read(second));
    expect_detail(PHEAP_CORRUPT, "marks in the coordination file", try_begin(second));
    mark->heap_bytes = right;
    demand_use(&machine, first, second, 1);
    machine_end(&machine);
}

/* Catches: a fold to a place that is none; room promised that nobody counted; a batch written anywhere. */
static void flush_mark__fits_no_longer(void **state)
{
    (void)state;
    struct machine machine;
    machine_begin(&machine, NULL);
    pheap *heap = machine_create(&machine, 0, WORDS);
    struct ph_coord *coord = heap->core->coord;
    uint64_t limit = atomic_load(&coord->reserve_limit);
    turn_mark(coord->flush_marks);
    expect_detail(PHEAP_CORRUPT, "marks in the coordination file", pheap_fold(heap));
    require_equal(heap_info(heap).log_used_bytes, 0);
    require_equal(ph_store_extend_log(&heap->core->store, UINT64_MAX), PH_OK);
    require_equal(atomic_load(&coord->reserve_limit), limit);
    turn_mark(coord->flush_marks);
    commit_word(heap, 0, 1, PHEAP_DURABLE);
    require(atomic_load(&coord->reserve_limit) > limit);
    turn_mark(coord->flush_marks);
    int64_t size = ph_sim_size(machine.sim, LOG);
    uint8_t *log = malloc((size_t)size), *after = malloc((size_t)size);
    require(log != NULL && after != NULL);
    require_equal(ph_sim_peek(machine.sim, LOG, log, (size_t)size, 0), size);
    pheap_txn *txn = begin(heap);
    put_word(txn, 0, 2);
    expect_detail(PHEAP_POISONED, "marks in the coordination file", pheap_commit(txn, PHEAP_DURABLE, NULL));
    require_equal(ph_sim_peek(machine.sim, LOG, after, (size_t)size, 0), size);
    require(memcmp(log, after, (size_t)size) == 0);
    free(log);
    free(after);
    expect(PHEAP_POISONED, try_begin(heap));
    expect(PHEAP_POISONED, pheap_close(heap));
    heap = machine_open(machine.first, 0); /* the commit stands in the buffer */
    require_equal(fresh_word(heap, 0), 2);
    demand_use(&machine, heap, NULL, 2);
    machine_end(&machine);
}

/* Catches: a batch written over acknowledged ones, or across the end of its segment, because a mark of the right LSN has
 * another place. */
static void flush_mark__leads_elsewhere(void **state)
{
    (void)state;
    for (unsigned i = 0; i < 3; i++) {
        struct machine machine;
        machine_begin(&machine, NULL);
        pheap *heap = machine_create(&machine, 0, WORDS);
        struct ph_coord *coord = heap->core->coord;
        commit_word(heap, 0, 1, PHEAP_DURABLE);
        for (unsigned j = 0; j < 2; j++) {
            struct ph_flush_mark *mark = &coord->flush_marks[j];
            mark->offset = i == 0   ? mark->offset - 8
                           : i == 1 ? heap->core->store.wal.segment_bytes + 512
                                    : mark->offset;
            mark->segment -= i == 2;
        }
        const int64_t size = ph_sim_size(machine.sim, LOG);
        uint8_t *log = malloc((size_t)size), *after = malloc((size_t)size);
        require(log != NULL && after != NULL);
        require_equal(ph_sim_peek(machine.sim, LOG, log, (size_t)size, 0), size);
        pheap_txn *txn = begin(heap);
        put_word(txn, 0, 2);
        expect_detail(PHEAP_POISONED, "marks in the coordination file", pheap_commit(txn, PHEAP_DURABLE, NULL));
        require_equal(ph_sim_peek(machine.sim, LOG, after, (size_t)size, 0), size);
        require(memcmp(log, after, (size_t)size) == 0);
        free(log);
        free(after);
        expect(PHEAP_POISONED, pheap_close(heap));
        heap = machine_open(machine.first, 0);
        require_equal(fresh_word(heap, 0), 2);
        demand_use(&machine, heap, NULL, 2);
        machine_end(&machine);
    }
}

/* Catches: a record put behind fragments of a dead writer that are not there. */
static void fragment_mark__fits_no_longer(void **state)
{
    (void)state;
    struct machine machine;
    machine_begin(&machine, NULL);
    pheap *heap = machine_create(&machine, 0, WORDS);
    struct ph_coord *coord = heap->core->coord;
    uint64_t committed = atomic_load(&coord->committed);
    atomic_store(&coord->appended, committed + 4096);
    expect_detail(PHEAP_CORRUPT, "marks in the coordination file", try_begin(heap));
    require_equal(atomic_load(&coord->committed), committed);
    atomic_store(&coord->appended, 0);
    demand_use(&machine, heap, NULL, 0);
    machine_end(&machine);
}

/* Catches: room promised that is not there, by a process that has not opened the log and so does not know its blocks. */
static void reserve_limit__of_a_process_that_only_checkpoints(void **state)
{
    (void)state;
    struct machine machine;
    machine_begin(&machine, NULL);
    pheap *first = machine_create(&machine, 0, WORDS), *second = machine_open(&machine.second, 0);
    struct ph_coord *coord = first->core->coord;
    commit_word(first, 0, 1, PHEAP_DURABLE);
    ok(pheap_checkpoint(first));
    uint64_t limit = atomic_load(&coord->reserve_limit);
    require(limit > 0 && !atomic_load(&second->core->store.wal.opened));
    ok(pheap_checkpoint(second));
    require_equal(atomic_load(&coord->reserve_limit), limit);
    demand_use(&machine, first, second, 1);
    machine_end(&machine);
}

/* The next call of a kind spoils a mark. */
enum rot_at { ROT_NEVER, ROT_AT_READ, ROT_AT_SYNC };
static enum rot_at rot_at;
static void *rot_mark;
static const ph_io *rot_real;

static void rot(enum rot_at here)
{
    if (rot_at != here)
        return;
    turn_mark(rot_mark);
    rot_at = ROT_NEVER;
}

static int rot_sync(void *ctx, int file)
{
    rot(ROT_AT_SYNC);
    return rot_real->sync(ctx, file);
}

static int64_t rot_read(void *ctx, int file, void *buffer, size_t length, uint64_t offset)
{
    rot(ROT_AT_READ);
    return rot_real->read(ctx, file, buffer, length, offset);
}

/* Catches: an LSN that is no multiple of 8 believed: the record that is appended there has a word across the end of the
 * buffer, and so over memory that is not the heap's. */
static void marks__at_no_whole_word(void **state)
{
    (void)state;
    struct machine machine;
    pheap_txn *txn;
    machine_begin(&machine, NULL);
    pheap *heap = machine_open(machine.first, PHEAP_CREATE);
    (void)make_root(heap, WORDS);
    struct ph_coord *coord = heap->core->coord;
    struct ph_commit_mark commits[2];
    memcpy(commits, coord->commit_marks, sizeof commits);
    const uint64_t committed = atomic_load(&coord->committed);
    coord->commit_marks[0].lsn = coord->commit_marks[1].lsn = committed + 5;
    atomic_store(&coord->committed, committed + 5);
    expect_detail(PHEAP_CORRUPT, "marks in the coordination file", pheap_begin(heap, &txn));
    memcpy(coord->commit_marks, commits, sizeof commits);
    atomic_store(&coord->committed, committed);
    commit_word(heap, 0, 1, PHEAP_DURABLE);
    ok(pheap_close(heap));
    machine_end(&machine);
}

/* Catches: the same, for who comes by an LSN in another way. */
static void ring__keeps_to_its_buffer(void **state)
{
    (void)state;
    static const uint64_t words[4] = {1, 2, 3, 4};
    const uint32_t bytes = PH_BUFFER_MIN_BYTES;
    const size_t guarded = (size_t)ph_coord_bytes(bytes) + 64;
    uint8_t *memory = aligned_alloc(64, guarded), copy[sizeof words];
    require(memory != NULL);
    memset(memory, 0x5a, guarded);
    memset(memory, 0, sizeof(struct ph_coord));
    struct ph_wal wal = {.coord = (struct ph_coord *)(void *)memory, .buffer_bytes = bytes};
    for (uint64_t lsn = bytes - 40; lsn < bytes + 8; lsn++) {
        ph_ring_append(&wal, lsn, (const uint8_t *)words, sizeof words);
        (void)ph_ring_copy(&wal, lsn, copy, sizeof copy);
        for (size_t i = (size_t)ph_coord_bytes(bytes); i < guarded; i++)
            require_equal(memory[i], 0x5a);
    }
    free(memory);
}

/* Catches: a CLEAN superblock, or a second fold, from a mark that rotted since it was last looked at. */
static void marks__rot_during_a_checkpoint(void **state)
{
    (void)state;
    struct machine machine;
    machine_begin(&machine, NULL);
    rot_real = machine.first;
    machine.second.sync = rot_sync;
    machine.second.read = rot_read;
    pheap *heap = machine_open(&machine.second, PHEAP_CREATE);
    (void)make_root(heap, WORDS);
    struct ph_coord *coord = heap->core->coord;
    /* A sync that nobody judged: everything is folded again, from the superblock that is read first. */
    commit_word(heap, 0, 1, PHEAP_DURABLE);
    ok(pheap_fold(heap));
    atomic_store(&coord->sync_in_progress, 1);
    rot_mark = coord->fold_marks;
    rot_at = ROT_AT_READ;
    uint64_t generation = coord->checkpoint.generation;
    expect_detail(PHEAP_CORRUPT, "marks in the coordination file", pheap_checkpoint(heap));
    require(rot_at == ROT_NEVER && coord->checkpoint.generation == generation);
    turn_mark(coord->fold_marks);
    ok(pheap_checkpoint(heap));
    require_equal(coord->checkpoint.generation, generation + 1);
    for (unsigned mark = 0; mark < 2; mark++) {
        commit_word(heap, 0, 2 + mark, PHEAP_DURABLE);
        rot_mark = mark == 0 ? (void *)coord->fold_marks : (void *)coord->flush_marks;
        rot_at = ROT_AT_SYNC;
        expect_detail(PHEAP_CORRUPT, "marks in the coordination file", pheap_close(heap));
        require(rot_at == ROT_NEVER);
        heap = machine_open(&machine.second, 0);
        require_equal(fresh_word(heap, 0), 2 + mark);
        require(heap_info(heap).recovered);
        ok(try_begin(heap));
        coord = heap->core->coord;
    }
    demand_use(&machine, heap, NULL, 3);
    machine_end(&machine);
}

/* --------------------------------------------------------------------------------------------------------- the locks */

/* Catches: a lock that cannot be taken treated as taken. */
static void locks__cannot_be_taken(void **state)
{
    (void)state;
    struct machine machine;
    machine_begin(&machine, NULL);
    pheap *heap = machine_create(&machine, 0, WORDS);
    struct ph_coord *coord = heap->core->coord;
    struct ph_store *store = &heap->core->store;
    spoil_lock(&coord->writer_lock);
    expect_detail(PHEAP_CORRUPT, "writer lock", try_begin(heap));
    repair_lock(&coord->writer_lock);
    spoil_lock(&coord->fold_lock);
    uint64_t folded = atomic_load(&coord->folded);
    commit_word(heap, 0, 1, PHEAP_DURABLE);
    expect_detail(PHEAP_CORRUPT, "fold lock", pheap_fold(heap));
    expect_detail(PHEAP_CORRUPT, "fold lock", pheap_checkpoint(heap));
    require_equal(ph_store_extend_log(store, 0), PH_CORRUPT);
    require_equal(atomic_load(&coord->folded), folded);
    repair_lock(&coord->fold_lock);
    spoil_lock(&coord->flush_lock);
    commit_word(heap, 0, 2, PHEAP_LAZY);
    expect_detail(PHEAP_CORRUPT, "flush lock", pheap_sync(heap));
    expect_detail(PHEAP_CORRUPT, "flush lock", pheap_fold(heap));
    expect_detail(PHEAP_CORRUPT, "flush lock", pheap_checkpoint(heap));
    require_equal(ph_store_extend_log(store, UINT64_MAX), PH_CORRUPT);
    require(atomic_load(&coord->durable) < atomic_load(&coord->committed));
    repair_lock(&coord->flush_lock);
    demand_use(&machine, heap, NULL, 2);
    /* Without an epoch the first transaction takes the fold lock. */
    heap = machine_open(machine.first, 0);
    spoil_lock(&heap->core->coord->fold_lock);
    expect_detail(PHEAP_CORRUPT, "fold lock", try_begin(heap));
    repair_lock(&heap->core->coord->fold_lock);
    demand_use(&machine, heap, NULL, 3);
    machine_end(&machine);
}

/* Catches: a commit that stands, and cannot be made durable, told in words that mean "aborted". */
static void locks__flush_lock_spoiled_after_a_commit(void **state)
{
    (void)state;
    struct machine machine;
    machine_begin(&machine, NULL);
    pheap *heap = machine_create(&machine, 0, WORDS);
    commit_word(heap, 0, 1, PHEAP_DURABLE);
    pheap_txn *txn = begin(heap);
    put_word(txn, 0, 2);
    spoil_lock(&heap->core->coord->flush_lock);
    expect_detail(PHEAP_POISONED, "flush lock", pheap_commit(txn, PHEAP_DURABLE, NULL));
    expect(PHEAP_POISONED, pheap_begin(heap, &txn));
    repair_lock(&heap->core->coord->flush_lock);
    expect(PHEAP_POISONED, pheap_close(heap));
    heap = machine_open(machine.first, 0);
    demand_use(&machine, heap, NULL, 2); /* the shared buffer had it */
    machine_end(&machine);
}

/* Catches: a dead owner's lock refused where the work can simply be done again. */
static void locks__of_the_dead_are_taken_over(void **state)
{
    (void)state;
    struct machine machine;
    machine_begin(&machine, NULL);
    pheap *heap = machine_create(&machine, 0, WORDS);
    struct ph_coord *coord = heap->core->coord;
    struct ph_mutex *const locks[] = {&coord->fold_lock, &coord->flush_lock};
    for (size_t i = 0; i < 2; i++) {
        pthread_t owner;
        uint64_t limit = atomic_load(&coord->reserve_limit);
        require_equal(pthread_create(&owner, NULL, die_with_lock, locks[i]), 0);
        require_equal(pthread_join(owner, NULL), 0);
        require_equal(ph_store_extend_log(&heap->core->store, UINT64_MAX), PH_OK);
        require(atomic_load(&coord->reserve_limit) > limit);
        require_equal(ph_mutex_trylock(locks[i]), PH_MUTEX_ACQUIRED);
        ph_mutex_unlock(locks[i]);
    }
    demand_use(&machine, heap, NULL, 0);
    machine_end(&machine);
}

struct holder {
    struct ph_mutex *lock;
    pthread_barrier_t held, enough;
};

static void *hold_lock(void *argument)
{
    struct holder *holder = argument;
    require_equal(ph_mutex_lock(holder->lock), PH_MUTEX_ACQUIRED);
    (void)pthread_barrier_wait(&holder->held);
    (void)pthread_barrier_wait(&holder->enough);
    ph_mutex_unlock(holder->lock);
    return NULL;
}

static pthread_t start_holder(struct holder *holder, struct ph_mutex *lock)
{
    pthread_t thread;
    holder->lock = lock;
    require_equal(pthread_barrier_init(&holder->held, NULL, 2) | pthread_barrier_init(&holder->enough, NULL, 2), 0);
    require_equal(pthread_create(&thread, NULL, hold_lock, holder), 0);
    (void)pthread_barrier_wait(&holder->held);
    return thread;
}

static void end_holder(struct holder *holder, pthread_t thread)
{
    (void)pthread_barrier_wait(&holder->enough);
    require_equal(pthread_join(thread, NULL), 0);
    (void)pthread_barrier_destroy(&holder->held);
    (void)pthread_barrier_destroy(&holder->enough);
}

/* Catches: garbage in the place that names the writer used as a seat's number. */
static void writer_seat__is_garbage(void **state)
{
    (void)state;
    struct machine machine;
    struct holder holder;
    machine_begin(&machine, NULL);
    pheap *heap = machine_create(&machine, 0, WORDS);
    struct ph_coord *coord = heap->core->coord;
    pthread_t thread = start_holder(&holder, &coord->writer_lock);
    static const uint32_t seats[] = {0, PH_SEATS + 1, UINT32_MAX};
    for (size_t i = 0; i < sizeof seats / sizeof seats[0]; i++) {
        pheap_txn *txn;
        atomic_store(&coord->writer_seat, seats[i]);
        expect_detail(PHEAP_TIMEOUT, "process 0 ", pheap_begin_timeout(heap, 0, &txn));
    }
    end_holder(&holder, thread);
    demand_use(&machine, heap, NULL, 0);
    machine_end(&machine);
}

/* Catches: a reader, or a call that only flushes what is old on the way, held up by a flusher that was stopped. */
static void flush_lock__of_a_stopped_process_holds_no_reader_up(void **state)
{
    (void)state;
    struct machine machine;
    struct holder holder;
    machine_begin(&machine, NULL);
    pheap *heap = machine_create(&machine, 0, WORDS);
    commit_word(heap, 0, 1, PHEAP_LAZY);
    ph_sim_set_clock(machine.sim, UINT64_C(100000000000));
    pthread_t thread = start_holder(&holder, &heap->core->coord->flush_lock);
    require_equal(fresh_word(heap, 0), 1);
    require(atomic_load(&heap->core->coord->durable) < atomic_load(&heap->core->coord->committed));
    end_holder(&holder, thread);
    require_equal(fresh_word(heap, 0), 1);
    require_equal(atomic_load(&heap->core->coord->durable), atomic_load(&heap->core->coord->committed));
    demand_use(&machine, heap, NULL, 1);
    machine_end(&machine);
}

/* Catches: who gives the log another segment, with the fold lock, kept by a stopped flusher for longer than the time given,
 * or a segment that is lost by that. */
static void flush_lock__of_a_stopped_process_holds_no_segment_up(void **state)
{
    (void)state;
    struct machine machine;
    struct holder holder;
    machine_begin(&machine, NULL);
    pheap *heap = machine_create(&machine, 0, WORDS);
    struct ph_coord *coord = heap->core->coord;
    const uint64_t limit = atomic_load(&coord->reserve_limit);
    commit_word(heap, 0, 1, PHEAP_LAZY);
    pthread_t thread = start_holder(&holder, &coord->flush_lock);
    require_equal(ph_store_extend_log(&heap->core->store, 0), PH_TIMEOUT);
    require_equal(ph_mutex_trylock(&coord->fold_lock), PH_MUTEX_ACQUIRED);
    ph_mutex_unlock(&coord->fold_lock);
    end_holder(&holder, thread);
    ok(pheap_sync(heap));
    require(atomic_load(&coord->reserve_limit) > limit);
    demand_use(&machine, heap, NULL, 1);
    machine_end(&machine);
}

/* Catches: a LAZY commit that nobody ever flushes, because the one who published it died before it noted the time (R5,
 * R6). */
static void flush__of_a_commit_whose_time_nobody_noted(void **state)
{
    (void)state;
    struct machine machine;
    machine_begin(&machine, NULL);
    pheap *heap = machine_create(&machine, 0, WORDS), *second = machine_open(&machine.second, 0);
    struct ph_coord *coord = heap->core->coord;
    ok(pheap_sync(heap));
    commit_word(heap, 0, 1, PHEAP_LAZY);
    atomic_store(&coord->lazy_since_ns, 0);
    for (uint64_t second_hand = 100; second_hand <= 102; second_hand += 2) {
        require(atomic_load(&coord->durable) < atomic_load(&coord->committed));
        ph_sim_set_clock(machine.sim, second_hand * UINT64_C(1000000000));
        require_equal(fresh_word(second, 0), 1);
    }
    require_equal(atomic_load(&coord->durable), atomic_load(&coord->committed));
    require_equal(atomic_load(&coord->lazy_since_ns), 0);
    ok(pheap_close(second));
    demand_use(&machine, heap, NULL, 1);
    machine_end(&machine);
}

/* ------------------------------------------------------------------------------------------------ buffer, slots, log */

/* Catches: a length from the shared buffer believed, and so a batch of garbage written, or read past the buffer. */
static void buffer__record_of_impossible_length(void **state)
{
    (void)state;
    for (unsigned i = 0; i < 4; i++) {
        struct machine machine;
        machine_begin(&machine, NULL);
        pheap *heap = machine_create(&machine, 0, WORDS);
        struct ph_wal *wal = &heap->core->store.wal;
        const uint32_t lengths[] = {0, sizeof(struct ph_record_header) + 12, wal->record_max + 8, UINT32_MAX - 7};
        commit_word(heap, 0, 1, PHEAP_DURABLE);
        uint64_t lsn = atomic_load(&wal->coord->committed);
        commit_word(heap, 0, 2, PHEAP_LAZY);
        memcpy(ph_coord_buffer(wal->coord) + (lsn + 8) % wal->buffer_bytes, &lengths[i], sizeof lengths[i]);
        expect_detail(PHEAP_POISONED, "shared log buffer is damaged at LSN", pheap_sync(heap));
        expect(PHEAP_POISONED, pheap_close(heap));
        heap = machine_open(machine.first, 0); /* the last commit was not durable, and its record is gone */
        demand_use(&machine, heap, NULL, 1);
        machine_end(&machine);
    }
}

/* Catches: a segment that is in use overwritten because no slot is free. */
static void slots__none_for_a_batch(void **state)
{
    (void)state;
    struct machine machine;
    machine_begin(&machine, NULL);
    pheap *heap = machine_create(&machine, 0, WORDS);
    struct ph_coord *coord = heap->core->coord;
    commit_word(heap, 0, 1, PHEAP_DURABLE);
    for (uint32_t slot = 0; slot < PH_SEGMENTS_MAX; slot++)
        atomic_store(&coord->slot_sequence[slot], 1000000 + slot);
    /* More slots than there can be are not looked at. */
    atomic_store(&coord->slot_count, UINT32_MAX);
    require_equal(ph_coord_find_slot(coord, 1000000 + PH_SEGMENTS_MAX), -1);
    commit_word(heap, 0, 2, PHEAP_LAZY);
    expect_detail(PHEAP_POISONED, "no free segment", pheap_sync(heap));
    expect(PHEAP_POISONED, pheap_close(heap));
    heap = machine_open(machine.first, 0);
    demand_use(&machine, heap, NULL, 2);
    machine_end(&machine);
}

/* Catches: a fold or a view that goes on without the records that the log has lost. */
static void log__damaged_while_in_use(void **state)
{
    (void)state;
    struct machine machine;
    machine_begin(&machine, NULL);
    pheap *heap = machine_create(&machine, 0, WORDS), *second = machine_open(&machine.second, 0);
    struct ph_coord *coord = heap->core->coord;
    uint64_t folded = atomic_load(&coord->folded);
    for (uint64_t i = 0; i < 200; i++) /* lap the buffer, but not the log */
        commit_word(heap, 0, i + 1, PHEAP_LAZY);
    ok(pheap_sync(heap));
    require(!ph_ring_has(&heap->core->store.wal, folded) && atomic_load(&coord->folded) == folded);
    uint8_t good[512], zeros[512] = {0};
    require_equal(ph_sim_peek(machine.sim, LOG, good, sizeof good, PH_LOG_SEGMENTS + 512), sizeof good);
    require_equal(ph_sim_poke(machine.sim, LOG, zeros, sizeof zeros, PH_LOG_SEGMENTS + 512), sizeof zeros);
    /* The first process has gathered them; the second must read them. */
    expect_detail(PHEAP_CORRUPT, "log was damaged while the heap is in use", pheap_fold(second));
    expect_detail(PHEAP_CORRUPT, "log was damaged while the heap is in use", pheap_checkpoint(second));
    expect_detail(PHEAP_CORRUPT, "log was damaged while the heap is in use", try_read(second));
    require_equal(atomic_load(&coord->folded), folded);
    require_equal(ph_sim_poke(machine.sim, LOG, good, sizeof good, PH_LOG_SEGMENTS + 512), sizeof good);
    ok(pheap_fold(second));
    require(atomic_load(&coord->folded) > folded);
    demand_use(&machine, heap, second, 200);
    machine_end(&machine);
}

/* Catches: a process that writes to a log put in the place of the heap's while it is in use, or that treats a failure
 * to open it as one of the disk. */
static void log__opened_late(void **state)
{
    (void)state;
    struct machine machine;
    machine_begin(&machine, NULL);
    pheap *first = machine_create(&machine, 0, WORDS), *second = machine_open(&machine.second, 0);
    commit_word(first, 0, 1, PHEAP_LAZY);
    static const struct {
        unsigned ops;
        int error;
        enum pheap_status status;
    } rows[] = {{PH_SIM_OPEN, EMFILE, PHEAP_NO_MEMORY},
                {PH_SIM_OPEN, ENOENT, PHEAP_NOT_FOUND},
                {PH_SIM_READ, EIO, PHEAP_IO},
                {PH_SIM_MEMORY, ENOMEM, PHEAP_NO_MEMORY}};
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        ph_sim_fail_at(machine.sim, rows[i].ops, 1, rows[i].error, PH_SIM_FOREVER);
        expect_detail(rows[i].status, LOG, pheap_sync(second));
        expect_detail(rows[i].status, LOG, try_begin(second));
        ph_sim_fail_clear(machine.sim);
    }
    struct ph_log_header header;
    int64_t size = ph_sim_size(machine.sim, LOG);
    require_equal(ph_sim_peek(machine.sim, LOG, &header, sizeof header, 0), sizeof header);
    header.identity[0] ^= 1;
    require_equal(ph_sim_poke(machine.sim, LOG, &header, sizeof header, 0), sizeof header);
    expect_detail(PHEAP_LOG_FOREIGN, "replaced while the heap is in use", pheap_sync(second));
    header.identity[0] ^= 1;
    header.byte_order = __builtin_bswap32(header.byte_order);
    require_equal(ph_sim_poke(machine.sim, LOG, &header, sizeof header, 0), sizeof header);
    expect_detail(PHEAP_BYTE_ORDER, "another byte order", pheap_sync(second));
    header.byte_order = __builtin_bswap32(header.byte_order);
    require_equal(ph_sim_poke(machine.sim, LOG, &header, sizeof header, 0), sizeof header);
    uint8_t *log = malloc((size_t)size);
    require(log != NULL && ph_sim_peek(machine.sim, LOG, log, (size_t)size, 0) == size);
    require_equal(ph_sim_set_size(machine.sim, LOG, 100), 0);
    expect_detail(PHEAP_LOG_FOREIGN, "replaced while the heap is in use", pheap_sync(second));
    require_equal(ph_sim_poke(machine.sim, LOG, log, (size_t)size, 0), size);
    free(log);
    ok(pheap_sync(second));
    require_equal(heap_info(first).poisoned, 0);
    demand_use(&machine, first, second, 1);
    machine_end(&machine);
}

int main(int argc, char **argv)
{
    choose_cases(argc, argv);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(commit_mark__fits_no_longer),
        cmocka_unit_test(fold_mark__fits_no_longer),
        cmocka_unit_test(fold_mark__rots_before_and_in_a_backup),
        cmocka_unit_test(commit_mark__says_that_the_heap_is_huge),
        cmocka_unit_test(fold_mark__says_more_than_the_file_has),
        cmocka_unit_test(flush_mark__fits_no_longer),
        cmocka_unit_test(flush_mark__leads_elsewhere),
        cmocka_unit_test(fragment_mark__fits_no_longer),
        cmocka_unit_test(reserve_limit__of_a_process_that_only_checkpoints),
        cmocka_unit_test(marks__at_no_whole_word),
        cmocka_unit_test(ring__keeps_to_its_buffer),
        cmocka_unit_test(marks__rot_during_a_checkpoint),
        cmocka_unit_test(locks__cannot_be_taken),
        cmocka_unit_test(locks__flush_lock_spoiled_after_a_commit),
        cmocka_unit_test(locks__of_the_dead_are_taken_over),
        cmocka_unit_test(writer_seat__is_garbage),
        cmocka_unit_test(flush_lock__of_a_stopped_process_holds_no_reader_up),
        cmocka_unit_test(flush_lock__of_a_stopped_process_holds_no_segment_up),
        cmocka_unit_test(flush__of_a_commit_whose_time_nobody_noted),
        cmocka_unit_test(buffer__record_of_impossible_length),
        cmocka_unit_test(slots__none_for_a_batch),
        cmocka_unit_test(log__damaged_while_in_use),
        cmocka_unit_test(log__opened_late),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
