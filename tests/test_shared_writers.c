/* SPDX-License-Identifier: MIT */
/*
 * What transactions and their upkeep do where another process or thread, memory or the log stands in the way, on a
 * simulated machine where that can be brought about.
 */
#include "tests/machine.h"

#include <pthread.h>

#define WORDS 16384u

/* A thread that dies while it commits what does not fit in the buffer. */
static void *die_in_commit(void *argument)
{
    struct machine *machine = ((void **)argument)[0];
    pheap *heap = ((void **)argument)[1];
    static sigjmp_buf grave;
    if (sigsetjmp(grave, 0) == 0) {
        pheap_txn *txn = begin(heap);
        ok(pheap_fill(txn, pheap_root(txn), 0xdd, WORDS * 8));
        ph_sim_set_mortal(machine->sim, &grave);
        ph_sim_fail_at(machine->sim, PH_SIM_WRITE, 3, 0, PH_SIM_DIE);
        expect(PHEAP_OK, pheap_commit(txn, PHEAP_LAZY, NULL));
        require(false); /* it did not die */
    }
    ph_sim_set_mortal(machine->sim, NULL);
    return NULL;
}

/* Catches: fragments of a dead writer that come alive with the next commit, or that keep fold from going on. */
static void fragments__of_the_dead_are_buried(void **state)
{
    (void)state;
    static const unsigned flags[] = {0, PHEAP_VERIFY};
    for (size_t i = 0; i < 2; i++) {
        struct machine machine;
        machine_begin(&machine, NULL);
        pheap *first = machine_create(&machine, flags[i], WORDS), *second = machine_open(&machine.second, 0);
        commit_spread(first, WORDS, 1000, PHEAP_LAZY);
        struct ph_coord *coord = first->core->coord;
        /* All the log there can be is there and free: what is written next is the fragments. */
        while (ph_store_extend_log(&first->core->store, UINT64_MAX) == PH_OK)
            continue;
        ok(pheap_checkpoint(first));
        void *arguments[] = {&machine, first};
        pthread_t thread;
        require_equal(pthread_create(&thread, NULL, die_in_commit, arguments), 0);
        require_equal(pthread_join(thread, NULL), 0);
        uint64_t appended = atomic_load(&coord->appended);
        require(appended > atomic_load(&coord->committed));
        require_spread(second, WORDS, 1000);
        uint64_t version = heap_info(second).version;
        pheap_txn *txn = begin(first);
        require_equal(get_word(txn, 1), 0);
        require(atomic_load(&coord->committed) > appended);
        require_equal(heap_info(second).version, version);
        ok(pheap_abort(txn));
        require_spread(second, WORDS, 1000);
        ok(pheap_sync(first)); /* it died with the flush lock too */
        commit_spread(first, WORDS, 2000, PHEAP_LAZY);
        require_spread(second, WORDS, 2000);
        ok(pheap_fold(second));
        require_equal(atomic_load(&coord->folded), atomic_load(&coord->committed));
        commit_spread(second, WORDS, 3000, PHEAP_LAZY);
        require_spread(first, WORDS, 3000);
        check_sound(first);
        ok(pheap_close(first));
        ok(pheap_close(second));
        first = machine_open(machine.first, 0);
        require_spread(first, WORDS, 3000);
        require_equal(fresh_word(first, 1), 0);
        ok(pheap_close(first));
        machine_end(&machine);
    }
}

/* Catches: lines declared in one transaction taken for declared in another when the count of transactions wraps
 * round, so that abort leaves a change behind. */
static void edits__generation_wraps(void **state)
{
    (void)state;
    struct machine machine;
    machine_begin(&machine, NULL);
    pheap *heap = machine_create(&machine, 0, WORDS);
    ok(pheap_close(heap));
    heap = machine_open(machine.first, 0);
    commit_word(heap, 0, 5, PHEAP_LAZY); /* the first generation of this core */
    require_equal(heap->core->edits.generation, 1);
    heap->core->edits.generation = UINT32_MAX;
    for (uint64_t i = 0; i < 4; i++) {
        uint64_t block;
        pheap_txn *txn = begin(heap);
        require_equal(get_word(txn, 0), 5);
        ok(pheap_abort(txn));
        txn = begin(heap);
        put_word(txn, 0, 100 + i);
        ok(pheap_alloc(txn, 100, &block));
        ok(pheap_abort(txn));
        require_equal(fresh_word(heap, 0), 5);
        txn = begin(heap);
        require_equal(get_word(txn, 0), 5);
        ok(pheap_abort(txn));
    }
    require(heap->core->edits.generation < 100);
    check_sound(heap);
    ok(pheap_close(heap));
    machine_end(&machine);
}

/* Catches: a page counted twice against the budget, so that a transaction is refused that fits; or not at all. */
static void budget__counts_a_page_once(void **state)
{
    (void)state;
    struct ph_sim_options machine_options = {.seed = 1, .touched = true};
    struct machine machine;
    machine_begin(&machine, &machine_options);
    struct pheap_options options = small_options();
    options.log_limit_bytes = 16u << 20;
    options.budget_bytes = 256u << 10;
    pheap *heap = NULL;
    ok((enum pheap_status)ph_open_io(machine.first, HEAP, PHEAP_CREATE, &options, &heap));
    uint64_t root = make_root(heap, 65536);
    ok(pheap_checkpoint(heap));
    pheap_txn *txn = begin(heap);
    for (unsigned i = 0; i < 8; i++)
        ok(pheap_fill(txn, root, (unsigned char)i, 160u << 10));
    expect_detail(PHEAP_TOO_BIG, "budget", pheap_fill(txn, root + (160u << 10), 1, 160u << 10));
    ok(pheap_commit(txn, PHEAP_LAZY, NULL));
    require_equal(fresh_word(heap, 0), UINT64_C(0x0707070707070707));
    require_equal(fresh_word(heap, (160u << 10) / 8), 0);
    ok(pheap_close(heap));
    machine_end(&machine);
}

/* Catches: a transaction without memory half done, or a text that does not say so. */
static void memory__none_at_any_point_of_a_transaction(void **state)
{
    (void)state;
    static const unsigned flags[] = {0, PHEAP_VERIFY};
    for (size_t i = 0; i < 2; i++) {
        struct ph_sim_options options = {.seed = 1, .touched = true};
        struct machine machine;
        machine_begin(&machine, &options);
        pheap *heap = machine_create(&machine, flags[i], WORDS);
        unsigned failures = 0;
        bool struck = true;
        for (uint64_t nth = 1; struck; nth++) {
            pheap_txn *txn = NULL;
            uint64_t large = 0, small = 0;
            uint32_t savepoint;
            ok(pheap_close(heap)); /* what the core has kept would do */
            heap = machine_open(machine.first, flags[i]);
            ph_sim_fail_at(machine.sim, PH_SIM_MEMORY, nth, ENOMEM, PH_SIM_ONCE);
            enum pheap_status status = pheap_begin(heap, &txn);
            bool begun = status == PHEAP_OK;
            if (status == PHEAP_OK)
                status = pheap_alloc(txn, 96u << 10, &large);
            if (status == PHEAP_OK)
                status = pheap_fill(txn, large, 7, 20000);
            if (status == PHEAP_OK)
                status = pheap_savepoint(txn, &savepoint);
            if (status == PHEAP_OK)
                status = pheap_alloc(txn, 24, &small);
            if (status == PHEAP_OK)
                status = pheap_write(txn, pheap_root(txn), &nth, sizeof nth);
            if (status == PHEAP_OK)
                status = pheap_free(txn, large);
            if (status == PHEAP_OK)
                status = pheap_rollback(txn, savepoint);
            if (status == PHEAP_OK) {
                status = pheap_commit(txn, PHEAP_LAZY, NULL);
                begun = false;
            }
            struck = ph_sim_struck(machine.sim) > 0;
            ph_sim_fail_clear(machine.sim);
            require(status == PHEAP_OK || (status == PHEAP_NO_MEMORY && struck));
            require(status == PHEAP_OK || strstr(pheap_error_detail(), "memory") != NULL);
            if (begun)
                ok(pheap_abort(txn));
            failures += status != PHEAP_OK;
            require_equal(fresh_word(heap, 0), 0);
            check_sound(heap);
            if (status == PHEAP_OK) {
                txn = begin(heap);
                ok(pheap_free(txn, large));
                ok(pheap_commit(txn, PHEAP_LAZY, NULL));
            }
        }
        require(failures > 8);
        ok(pheap_close(heap));
        machine_end(&machine);
    }
}

/* Catches: growth by a large step that takes its disk space at once where that is not needed, or does not where a store
 * into a hole would be a SIGBUS. */
static void growth__by_a_large_step(void **state)
{
    (void)state;
    static const uint64_t filesystems[] = {0, 0x01021994 /* tmpfs */};
    for (size_t i = 0; i < 2; i++) {
        struct ph_sim_options options = {.seed = 1, .touched = true, .filesystem = filesystems[i]};
        struct machine machine;
        machine_begin(&machine, &options);
        pheap *heap = machine_create(&machine, 0, WORDS);
        uint64_t reserved = ph_sim_calls(machine.sim, PH_SIM_ALLOCATE), block;
        pheap_txn *txn = begin(heap);
        ok(pheap_alloc(txn, 80u << 20, &block));
        require_equal(ph_sim_calls(machine.sim, PH_SIM_ALLOCATE) - reserved, i);
        ok(pheap_fill(txn, block + (79u << 20), 9, 8));
        ok(pheap_commit(txn, PHEAP_DURABLE, NULL));
        require(ph_sim_size(machine.sim, HEAP) > (80 << 20));
        check_sound(heap);
        ok(pheap_close(heap));
        machine_end(&machine);
    }
}

/* A clock that goes on by an hour whenever it is read. */
static _Atomic uint64_t hours;

static uint64_t hourly_clock(void *context, enum ph_clock clock)
{
    (void)context;
    (void)clock;
    return atomic_fetch_add(&hours, 1) * UINT64_C(3600000000000);
}

struct holder {
    pheap *heap;
    _Atomic int step; /* 1: holds the writer lock; 2: may give it up */
};

static void *hold_writer(void *arguments)
{
    struct holder *holder = arguments;
    pheap_txn *txn = begin(holder->heap);
    atomic_store(&holder->step, 1);
    while (atomic_load(&holder->step) == 1)
        pause_us(100);
    ok(pheap_abort(txn));
    return NULL;
}

/* Catches: a begin with a time limit that gives as much to each thing that it waits for; it would hang here. */
static void begin_timeout__is_one_for_all(void **state)
{
    (void)state;
    struct machine machine;
    machine_begin(&machine, NULL);
    pheap *first = machine_create(&machine, 0, WORDS), *second = machine_open(&machine.second, 0);
    struct holder holder = {.heap = first};
    pthread_t thread;
    require_equal(pthread_create(&thread, NULL, hold_writer, &holder), 0);
    while (atomic_load(&holder.step) == 0)
        pause_us(100);
    machine.second.clock_ns = hourly_clock;
    pheap_txn *txn;
    (void)alarm(60);
    expect(PHEAP_TIMEOUT, pheap_begin_timeout(second, 2 * 3600 * 1000, &txn));
    (void)alarm(0);
    machine.second.clock_ns = machine.first->clock_ns;
    atomic_store(&holder.step, 2);
    require_equal(pthread_join(thread, NULL), 0);
    ok(pheap_begin_timeout(second, 1000, &txn));
    ok(pheap_abort(txn));
    machine_close(&machine, second, first);
}

/* ------------------------------------------------------------------------------------------------------ a full log */

/* Catches: a writer that waits for its own thread's reader, or longer than it was told, and a text that does not say
 * who holds the log. */
static void log__held_by_a_reader(void **state)
{
    (void)state;
    struct machine machine;
    machine_begin(&machine, NULL);
    machine.second.wait = do_not_wait;
    pheap *first = machine_create(&machine, 0, WORDS), *second = machine_open(&machine.second, 0);
    pheap *holders[] = {first, second};
    uint64_t value = 1000;
    commit_spread(first, WORDS, value, PHEAP_LAZY);
    for (unsigned round = 0; round < 4; round++) {
        pheap *holder = holders[round % 2];
        pheap_read *reader = read_begin(holder, PHEAP_FRESH);
        uint64_t before = pheap_read_version(reader), kept = value;
        struct ph_core *core = holder->core;
        if (round >= 2) /* a clock that was set back */
            atomic_store(&core->coord->seats[core->store.seat].pins[0].since_ns, UINT64_MAX);
        enum pheap_status status = PHEAP_OK;
        waited_ns = 0;
        for (unsigned i = 0; i < 10000 && status == PHEAP_OK; i++) {
            pheap_txn *txn = NULL;
            status = round >= 2 ? pheap_begin_timeout(second, 1, &txn) : pheap_begin(second, &txn);
            for (uint64_t word = 0; word < WORDS && status == PHEAP_OK; word += 512)
                put_word(txn, word, value + 1 + word);
            if (status == PHEAP_OK)
                status = pheap_commit(txn, PHEAP_LAZY, NULL);
            value += status == PHEAP_OK;
        }
        char text[64];
        (void)snprintf(text, sizeof text, "(seat %u) has held version %llu for ", core->store.seat,
                       (unsigned long long)before);
        expect_detail(PHEAP_LOG_FULL, text, status);
        require(round < 2 || strstr(pheap_error_detail(), "for 0 s") != NULL);
        /* Its own reader will not end while it waits; for another it waits a second, or the time given. */
        require_equal(waited_ns > 0, holder == first);
        require_equal(waited_ns >= 1000000000, round == 0);
        require_equal(read_word(reader, 512), kept + 512);
        pheap_read_end(reader);
        commit_spread(second, WORDS, ++value, PHEAP_LAZY);
        require_spread(first, WORDS, value);
    }
    check_sound(first);
    machine_close(&machine, second, first);
}

static const ph_io *ending_real;
static pheap_read *ending_reader;

/* The reader that holds the log ends right after a fold has seen its pin. */
static int end_reader_at_lock(void *ctx, int file, enum ph_lock_type type, uint64_t start, uint64_t length, bool wait)
{
    int result = ending_real->lock(ctx, file, type, start, length, wait);
    if (ending_reader != NULL && type == PH_LOCK_EXCLUSIVE) {
        pheap_read *reader = ending_reader;
        ending_reader = NULL;
        ok(pheap_read_end(reader));
    }
    return result;
}

/* Catches: TOO_BIG for an ordinary transaction, where only a reader was in the way and has gone meanwhile. */
static void log__reader_ends_while_room_is_made(void **state)
{
    (void)state;
    struct machine machine;
    machine_begin(&machine, NULL);
    ending_real = machine.first;
    machine.second.lock = end_reader_at_lock;
    machine.second.wait = do_not_wait;
    pheap *first = machine_create(&machine, 0, WORDS), *second = machine_open(&machine.second, 0);
    uint64_t value = 1;
    for (unsigned round = 0; round < 2; round++) {
        commit_spread(first, WORDS, ++value, PHEAP_LAZY);
        pheap_read *reader = read_begin(first, PHEAP_FRESH), *own = NULL;
        pheap_txn *txn = NULL;
        enum pheap_status status = PHEAP_OK;
        while (status == PHEAP_OK) {
            status = pheap_begin_timeout(second, 0, &txn);
            if (status == PHEAP_OK) {
                put_word(txn, value % WORDS, value + 1);
                ok(pheap_commit(txn, PHEAP_LAZY, NULL));
                value++;
            }
        }
        require_equal(status, PHEAP_LOG_FULL);
        if (round == 1) /* its own newest reader is not in the way, but forbids it to wait for others */
            own = read_begin(second, PHEAP_FRESH);
        ending_reader = reader;
        if (round == 0)
            expect_detail(PHEAP_TIMEOUT, "other writers", pheap_begin_timeout(second, 0, &txn));
        txn = begin(second);
        require(ending_reader == NULL);
        put_word(txn, 0, value);
        ok(pheap_commit(txn, PHEAP_LAZY, NULL));
        ok(pheap_read_end(own));
    }
    machine_close(&machine, second, first);
}

/* One transaction that needs more log than is free as long as somebody holds a part of it. */
static enum pheap_status commit_large(pheap *heap, unsigned char byte)
{
    pheap_txn *txn = begin(heap);
    ok(pheap_fill(txn, pheap_root(txn), byte, WORDS * 8 * 3 / 4));
    return pheap_commit(txn, PHEAP_LAZY, NULL);
}

/* Catches: the same for one transaction that needs more log than is free: it must be undone. */
static void log__held_by_a_reader_from_a_large_transaction(void **state)
{
    (void)state;
    struct machine machine;
    machine_begin(&machine, NULL);
    machine.second.wait = do_not_wait;
    pheap *first = machine_create(&machine, 0, WORDS), *second = machine_open(&machine.second, 0);
    pheap *holders[] = {first, second};
    commit_word(first, 1, 77, PHEAP_DURABLE);
    for (unsigned round = 0; round < 2; round++) {
        pheap_read *reader = read_begin(holders[round], PHEAP_FRESH);
        enum pheap_status status = PHEAP_OK;
        waited_ns = 0;
        for (unsigned i = 0; i < 10 && status == PHEAP_OK; i++)
            status = commit_large(second, (unsigned char)(0x10 * round + i + 1));
        expect_detail(PHEAP_LOG_FULL, "end that read transaction", status);
        require_equal(waited_ns >= 1000000000, holders[round] == first);
        require(waited_ns == 0 || holders[round] == first);
        require_equal(read_word(reader, 1), round == 0 ? 77 : read_word(reader, 0));
        pheap_read_end(reader);
        uint64_t last = fresh_word(first, 0);
        require_equal(fresh_word(first, WORDS / 2), last);
        pheap_txn *txn = begin(second);
        require_equal(get_word(txn, 0), last);
        require_equal(get_word(txn, WORDS / 2), last);
        ok(pheap_abort(txn));
        ok(commit_large(second, 0xee));
        require_equal(fresh_word(first, WORDS / 2), UINT64_C(0xeeeeeeeeeeeeeeee));
    }
    machine_close(&machine, second, first);
}

static struct ph_core *passing_by;
static uint64_t passing_hold;

/* Right after a fold has seen its pin the reader ends, and its process begins a backup; right after a checkpoint has seen
 * its hold the backup ends. */
static int pass_by_at_lock(void *ctx, int file, enum ph_lock_type type, uint64_t start, uint64_t length, bool wait)
{
    const bool reads = ending_reader != NULL && type == PH_LOCK_EXCLUSIVE;
    int result = end_reader_at_lock(ctx, file, type, start, length, wait);
    if (passing_by == NULL)
        return result;
    struct ph_coord *coord = passing_by->coord;
    _Atomic uint64_t *hold = &coord->seats[passing_by->store.seat].hold;
    if (reads) {
        passing_hold = coord->checkpoint.segment + 1;
        atomic_store(hold, passing_hold);
    } else if (atomic_load(hold) != 0 && coord->checkpoint.segment >= passing_hold) {
        atomic_store(hold, 0);
    }
    return result;
}

/* The second process commits more than the log holds, while a reader of the first and what `lock` does are in the way for
 * a moment. */
static void commit_past_others(int (*lock)(void *, int, enum ph_lock_type, uint64_t, uint64_t, bool))
{
    struct machine machine;
    machine_begin(&machine, NULL);
    ending_real = machine.first;
    machine.second.lock = lock;
    machine.second.wait = do_not_wait;
    pheap *first = machine_create(&machine, 0, WORDS), *second = machine_open(&machine.second, 0);
    passing_by = first->core;
    commit_word(first, 1, 77, PHEAP_DURABLE);
    ending_reader = read_begin(first, PHEAP_FRESH);
    for (unsigned i = 0; i < 10; i++)
        ok(commit_large(second, (unsigned char)(i + 1)));
    require(ending_reader == NULL);
    require_equal(atomic_load(&first->core->coord->seats[first->core->store.seat].hold), 0);
    passing_by = NULL;
    machine_close(&machine, second, first);
}

/* Catches: TOO_BIG for a transaction that fits, where two held the log for a moment, one after the other. */
static void log__held_by_two_in_turn(void **state)
{
    (void)state;
    passing_hold = 0;
    commit_past_others(pass_by_at_lock);
    require(passing_hold != 0);
}

/* Right after a checkpoint that a reader was in the way of, the reader ends and its process makes one that gains all. */
static int checkpoint_at_lock(void *ctx, int file, enum ph_lock_type type, uint64_t start, uint64_t length, bool wait)
{
    if (passing_by != NULL && ending_reader != NULL && type == PH_LOCK_EXCLUSIVE &&
        ph_mutex_trylock(&passing_by->coord->fold_lock) == PH_MUTEX_ACQUIRED) {
        ph_mutex_unlock(&passing_by->coord->fold_lock);
        pheap_read *reader = ending_reader;
        ending_reader = NULL;
        ok(pheap_read_end(reader));
        require_equal(ph_store_checkpoint(&passing_by->store, 0), PH_OK);
    }
    return ending_real->lock(ctx, file, type, start, length, wait);
}

/* Catches: TOO_BIG for a transaction that fits, where another process made room between two looks. */
static void log__room_made_by_another(void **state)
{
    (void)state;
    commit_past_others(checkpoint_at_lock);
}

int main(int argc, char **argv)
{
    choose_cases(argc, argv);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(fragments__of_the_dead_are_buried),
        cmocka_unit_test(edits__generation_wraps),
        cmocka_unit_test(budget__counts_a_page_once),
        cmocka_unit_test(memory__none_at_any_point_of_a_transaction),
        cmocka_unit_test(growth__by_a_large_step),
        cmocka_unit_test(begin_timeout__is_one_for_all),
        cmocka_unit_test(log__held_by_a_reader),
        cmocka_unit_test(log__reader_ends_while_room_is_made),
        cmocka_unit_test(log__held_by_a_reader_from_a_large_transaction),
        cmocka_unit_test(log__held_by_two_in_turn),
        cmocka_unit_test(log__room_made_by_another),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
