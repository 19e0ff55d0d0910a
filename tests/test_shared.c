/* SPDX-License-Identifier: MIT */
/*
 * What transactions, readers and upkeep do where another process or thread, memory, address space or the log stands in
 * the way, on a simulated machine where that can be brought about.
 */
#include "tests/machine.h"

#include <pthread.h>

#define WORDS 16384u

/* Word `index` in every page of the root block has a number of its own. */
static void commit_wide(pheap *heap, uint64_t value)
{
    pheap_txn *txn = begin(heap);
    for (uint64_t i = 0; i < WORDS; i += 512)
        put_word(txn, i, value + i);
    ok(pheap_commit(txn, PHEAP_LAZY, NULL));
}

static void require_wide(pheap *heap, uint64_t value)
{
    pheap_read *reader = read_begin(heap, PHEAP_FRESH);
    for (uint64_t i = 0; i < WORDS; i += 512)
        require_equal(read_word(reader, i), value + i);
    pheap_read_end(reader);
}

static uint64_t waited_ns; /* the time that a process has wished to sleep */

static void do_not_wait(void *ctx, uint32_t *word, uint32_t expected, uint64_t timeout_ns)
{
    (void)ctx;
    (void)word;
    (void)expected;
    waited_ns += timeout_ns;
}

/* ------------------------------------------------------------------------------------------------------------ writers */

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
        commit_wide(first, 1000);
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
        require_wide(second, 1000);
        uint64_t version = heap_info(second).version;
        pheap_txn *txn = begin(first);
        require_equal(get_word(txn, 1), 0);
        require(atomic_load(&coord->committed) > appended);
        require_equal(heap_info(second).version, version);
        ok(pheap_abort(txn));
        require_wide(second, 1000);
        ok(pheap_sync(first)); /* it died with the flush lock too */
        commit_wide(first, 2000);
        require_wide(second, 2000);
        ok(pheap_fold(second));
        require_equal(atomic_load(&coord->folded), atomic_load(&coord->committed));
        commit_wide(second, 3000);
        require_wide(first, 3000);
        check_sound(first);
        ok(pheap_close(first));
        ok(pheap_close(second));
        first = machine_open(machine.first, 0);
        require_wide(first, 3000);
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
    commit_wide(first, value);
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
        commit_wide(second, ++value);
        require_wide(first, value);
    }
    check_sound(first);
    ok(pheap_close(second));
    ok(pheap_close(first));
    machine_end(&machine);
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
        commit_wide(first, ++value);
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
    ok(pheap_close(second));
    ok(pheap_close(first));
    machine_end(&machine);
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
        for (unsigned i = 0; i < 10 && status == PHEAP_OK; i++) {
            pheap_txn *txn = begin(second);
            ok(pheap_fill(txn, pheap_root(txn), (unsigned char)(0x10 * round + i + 1), WORDS * 8 * 3 / 4));
            status = pheap_commit(txn, PHEAP_LAZY, NULL);
        }
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
        ok(pheap_fill(txn, pheap_root(txn), 0xee, WORDS * 8 * 3 / 4));
        ok(pheap_commit(txn, PHEAP_DURABLE, NULL));
        require_equal(fresh_word(first, WORDS / 2), UINT64_C(0xeeeeeeeeeeeeeeee));
    }
    ok(pheap_close(second));
    ok(pheap_close(first));
    machine_end(&machine);
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

/* Catches: TOO_BIG for a transaction that fits, where two held the log for a moment, one after the other. */
static void log__held_by_two_in_turn(void **state)
{
    (void)state;
    struct machine machine;
    machine_begin(&machine, NULL);
    ending_real = machine.first;
    machine.second.lock = pass_by_at_lock;
    machine.second.wait = do_not_wait;
    pheap *first = machine_create(&machine, 0, WORDS), *second = machine_open(&machine.second, 0);
    passing_by = first->core;
    passing_hold = 0;
    commit_word(first, 1, 77, PHEAP_DURABLE);
    ending_reader = read_begin(first, PHEAP_FRESH);
    for (unsigned i = 0; i < 10; i++) {
        pheap_txn *txn = begin(second);
        ok(pheap_fill(txn, pheap_root(txn), (unsigned char)(i + 1), WORDS * 8 * 3 / 4));
        ok(pheap_commit(txn, PHEAP_LAZY, NULL));
    }
    require(ending_reader == NULL && passing_hold != 0);
    require_equal(atomic_load(&first->core->coord->seats[first->core->store.seat].hold), 0);
    passing_by = NULL;
    ok(pheap_close(second));
    ok(pheap_close(first));
    machine_end(&machine);
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
    struct machine machine;
    machine_begin(&machine, NULL);
    ending_real = machine.first;
    machine.second.lock = checkpoint_at_lock;
    machine.second.wait = do_not_wait;
    pheap *first = machine_create(&machine, 0, WORDS), *second = machine_open(&machine.second, 0);
    passing_by = first->core;
    commit_word(first, 1, 77, PHEAP_DURABLE);
    ending_reader = read_begin(first, PHEAP_FRESH);
    for (unsigned i = 0; i < 10; i++) {
        pheap_txn *txn = begin(second);
        ok(pheap_fill(txn, pheap_root(txn), (unsigned char)(i + 1), WORDS * 8 * 3 / 4));
        ok(pheap_commit(txn, PHEAP_LAZY, NULL));
    }
    require(ending_reader == NULL);
    passing_by = NULL;
    ok(pheap_close(second));
    ok(pheap_close(first));
    machine_end(&machine);
}

/* ----------------------------------------------------------------------------------------------------------- readers */

/* Catches: a pin that stays when a reader fails to begin, or a snapshot given out of a view that can be stored to. */
static void reader__fails_to_protect_its_view(void **state)
{
    (void)state;
    struct machine machine;
    machine_begin(&machine, NULL);
    pheap *heap = machine_create(&machine, PHEAP_PROTECT, WORDS);
    for (uint64_t nth = 1; nth <= 2; nth++) {
        pheap_read *reader;
        commit_word(heap, 0, nth, PHEAP_LAZY);
        ph_sim_fail_at(machine.sim, PH_SIM_PROTECT, nth, ENOMEM, PH_SIM_ONCE);
        expect_detail(PHEAP_NO_MEMORY, "protect the read view", pheap_read_begin(heap, 0, &reader));
        struct pheap_user user = {.size = sizeof user};
        ok(pheap_next_user(heap, 0, &user));
        require_equal(user.pinned_lsn, 0);
        require_equal(fresh_word(heap, 0), nth);
    }
    ok(pheap_close(heap));
    machine_end(&machine);
}

/* Catches: a read view that keeps its private pages for ever, or drops them at every commit, or shows what they held. */
static void reader__view_stays_within_its_budget(void **state)
{
    (void)state;
    for (unsigned touched = 0; touched < 2; touched++) {
        struct ph_sim_options machine_options = {.seed = 1, .touched = touched != 0};
        struct machine machine;
        machine_begin(&machine, &machine_options);
        pheap *first = machine_create(&machine, 0, WORDS), *second = NULL;
        struct pheap_options options = small_options();
        options.budget_bytes = 64u << 10;
        ok(pheap_checkpoint(first));
        ok((enum pheap_status)ph_open_io(&machine.second, HEAP, 0, &options, &second));
        const struct ph_view *view = &second->core->read_views[0].view;
        uint64_t drops = 0;
        for (uint64_t i = 1; i <= 400; i++) { /* the same two pages again and again */
            uint64_t before = ph_sim_calls(machine.sim, PH_SIM_DROP);
            commit_word(first, i % 2 * 512, i, PHEAP_LAZY);
            if (touched == 0) /* there each page counts anew with each commit that is not folded */
                ok(pheap_fold(first));
            require_equal(fresh_word(second, i % 2 * 512), i);
            drops += ph_sim_calls(machine.sim, PH_SIM_DROP) - before;
            require(view->touched_bytes <= 2 * options.budget_bytes);
        }
        require(touched != 0 ? drops <= 1 : drops < 100);
        for (uint64_t i = 1; i <= 20; i++) {
            commit_wide(first, i * 100);
            require_wide(second, i * 100);
            ok(pheap_fold(first));
            require(view->touched_bytes <= 4 * options.budget_bytes);
        }
        ok(pheap_close(second));
        ok(pheap_close(first));
        machine_end(&machine);
    }
}

/* Catches: reading refused because old commits could not be flushed; they are committed, and that is told elsewhere. */
static void reader__goes_on_when_a_flush_on_the_way_fails(void **state)
{
    (void)state;
    struct machine machine;
    machine_begin(&machine, NULL);
    pheap *first = machine_create(&machine, 0, WORDS), *second = machine_open(&machine.second, 0);
    pheap_read *reader;
    commit_word(first, 0, 1, PHEAP_LAZY);
    ph_sim_set_clock(machine.sim, UINT64_C(100000000000));
    ph_sim_fail_at(machine.sim, PH_SIM_OPEN, 1, EMFILE, PH_SIM_FOREVER);
    expect_detail(PHEAP_NO_MEMORY, LOG, pheap_read_begin(second, 0, &reader));
    ph_sim_fail_at(machine.sim, PH_SIM_WRITE, 1, EIO, PH_SIM_ONCE);
    require_equal(fresh_word(second, 0), 1);
    require_equal(heap_info(first).poisoned, 1);
    require_equal(fresh_word(second, 0), 1);
    expect(PHEAP_POISONED, pheap_close(second));
    expect(PHEAP_POISONED, pheap_close(first));
    first = machine_open(machine.first, 0);
    require_equal(fresh_word(first, 0), 1);
    ok(pheap_close(first));
    machine_end(&machine);
}

/* Catches: a reader ended twice that takes another's pin along. */
static void reader__ended_twice(void **state)
{
    (void)state;
    struct machine machine;
    machine_begin(&machine, NULL);
    pheap *heap = machine_create(&machine, 0, WORDS);
    pheap_read *one = read_begin(heap, 0), *other = read_begin(heap, 0);
    pheap_read_end(one);
    pheap_read_end(one);
    struct pheap_user user = {.size = sizeof user};
    ok(pheap_next_user(heap, 0, &user));
    require(user.pinned_lsn != 0);
    commit_word(heap, 0, 1, PHEAP_DURABLE);
    ok(pheap_fold(heap));
    require_equal(read_word(other, 0), 0);
    pheap_read_end(other);
    ok(pheap_next_user(heap, 0, &user));
    require_equal(user.pinned_lsn, 0);
    ok(pheap_close(heap));
    machine_end(&machine);
}

static struct ph_coord *lap_coord;
static const ph_io *lap_real;
static bool lap_armed;

static void *lap_at_alloc(void *ctx, size_t length, size_t alignment)
{
    if (lap_armed) {
        lap_armed = false;
        atomic_fetch_add(&lap_coord->reserved, UINT64_C(1) << 30);
    }
    return lap_real->alloc(ctx, length, alignment);
}

/* Catches: records applied from a buffer that a writer has overwritten since they were found to be in it. */
static void view__is_lapped_while_it_moves(void **state)
{
    (void)state;
    struct machine machine;
    machine_begin(&machine, NULL);
    lap_real = machine.first;
    machine.second.alloc = lap_at_alloc;
    pheap *first = machine_create(&machine, 0, WORDS), *second = machine_open(&machine.second, 0);
    require_equal(fresh_word(second, 0), 0);
    for (unsigned i = 1; i <= 5; i++)
        commit_word(first, 0, i, PHEAP_DURABLE);
    lap_coord = first->core->coord;
    lap_armed = true;
    require_equal(fresh_word(second, 0), 5);
    require(!lap_armed);
    lap_armed = true; /* the same under a fold, which is on the log's side of the buffer */
    commit_word(first, 0, 6, PHEAP_DURABLE);
    ok(pheap_fold(second));
    require(!lap_armed);
    require_equal(atomic_load(&lap_coord->folded), atomic_load(&lap_coord->committed));
    require_equal(fresh_word(second, 0), 6);
    ok(pheap_close(second));
    ok(pheap_close(first));
    machine_end(&machine);
}

/* Catches: a reader that stays at a version which a fold, that has not seen its pin, is about to leave behind (R3); and one
 * that waits for ever, with a lock that its whole process needs, for a commit that only a rotten word speaks of (R8). */
static void pin__is_behind_a_fold(void **state)
{
    (void)state;
    static const unsigned flags[] = {0, PHEAP_EVICTABLE};
    struct machine machine;
    machine_begin(&machine, NULL);
    pheap *heap = machine_create(&machine, 0, WORDS);
    struct ph_coord *coord = heap->core->coord;
    const uint64_t before = atomic_load(&coord->fold_intent);
    const uint64_t beyond[] = {atomic_load(&coord->committed) + 8, UINT64_MAX};
    for (size_t i = 0; i < 4; i++) {
        pheap_read *reader;
        atomic_store(&coord->fold_intent, beyond[i / 2]);
        expect_detail(PHEAP_CORRUPT, "coordination file", pheap_read_begin(heap, flags[i % 2], &reader));
        require_equal(atomic_load(&coord->seats[heap->core->store.seat].pins[0].lsn), 0);
        atomic_store(&coord->fold_intent, before);
        pheap_read_end(read_begin(heap, flags[i % 2]));
    }
    ok(pheap_close(heap));
    machine_end(&machine);
}

static struct ph_coord *evict_coord;
static uint32_t evict_seat;
static unsigned evictions;

/* A writer in need takes the pin away each time the view is about to move. */
static void *evict_at_alloc(void *ctx, size_t length, size_t alignment)
{
    struct ph_pin *pin = evict_coord == NULL ? NULL : &evict_coord->seats[evict_seat].pins[0];
    if (pin != NULL && (atomic_load(&pin->lsn) & PH_PIN_EVICTABLE) != 0) {
        atomic_store(&pin->lsn, 0);
        evictions++;
    }
    return lap_real->alloc(ctx, length, alignment);
}

/* Catches: an evictable reader that never gets there because it is evicted on its way each time, or that is firm for ever
 * once it is there. */
static void view__is_evicted_while_it_moves(void **state)
{
    (void)state;
    struct machine machine;
    machine_begin(&machine, NULL);
    lap_real = machine.first;
    machine.second.alloc = evict_at_alloc;
    pheap *first = machine_create(&machine, 0, WORDS), *second = machine_open(&machine.second, 0);
    evict_seat = second->core->store.seat;
    commit_wide(first, 1000);
    evict_coord = first->core->coord;
    pheap_read *reader = read_begin(second, PHEAP_EVICTABLE);
    require(evictions >= 100);
    evict_coord = NULL;
    for (uint64_t i = 0; i < WORDS; i += 512)
        require_equal(read_word(reader, i), 1000 + i);
    struct pheap_user user = {.size = sizeof user};
    ok(pheap_next_user(first, evict_seat, &user));
    require(user.pin_count == 1 && user.evictable == 1);
    ok(pheap_read_end(reader));
    ok(pheap_close(second));
    ok(pheap_close(first));
    machine_end(&machine);
}

/* ------------------------------------------------------------------------------------------------------ address space */

/* Catches: a heap that outgrew the address space of another process read, or written, beyond it. */
static void reserve__outgrown_by_another_process(void **state)
{
    (void)state;
    for (unsigned lapped = 0; lapped < 2; lapped++) {
        struct machine machine;
        machine_begin(&machine, NULL);
        pheap *first = machine_create(&machine, 0, WORDS), *second = NULL;
        struct pheap_options options = small_options();
        options.reserve_bytes = 1u << 20;
        ok((enum pheap_status)ph_open_io(&machine.second, HEAP, 0, &options, &second));
        require_equal(fresh_word(second, 0), 0);
        pheap_txn *txn = begin(first);
        uint64_t block;
        ok(pheap_alloc(txn, 8u << 20, &block));
        ok(pheap_write(txn, block + (7u << 20), "far away", 8));
        ok(pheap_commit(txn, PHEAP_DURABLE, NULL));
        for (unsigned i = 0; i < 300 && lapped != 0; i++) /* the second must begin with what is folded */
            commit_word(first, 0, i, PHEAP_LAZY);
        ok(pheap_checkpoint(first));
        pheap_read *reader;
        expect_detail(PHEAP_RESERVE, "reserved when it was opened here", pheap_read_begin(second, 0, &reader));
        expect_detail(PHEAP_RESERVE, "reserved when it was opened here", pheap_begin(second, &txn));
        commit_word(first, 0, 1, PHEAP_DURABLE); /* nothing is held by the one that failed */
        ok(pheap_close(second));
        second = machine_open(&machine.second, 0);
        reader = read_begin(second, 0);
        require(memcmp(pheap_read_ptr(reader, block + (7u << 20)), "far away", 8) == 0);
        pheap_read_end(reader);
        commit_word(second, 0, 2, PHEAP_LAZY);
        require_equal(fresh_word(first, 0), 2);
        ok(pheap_close(second));
        ok(pheap_close(first));
        machine_end(&machine);
    }
}

/* Catches: a search for address space that gives up before it has come down to the heap's size, or goes below it. */
static void reserve__short_of_what_was_asked(void **state)
{
    (void)state;
    struct machine machine;
    machine_begin(&machine, NULL);
    pheap *heap = machine_create(&machine, 0, WORDS);
    uint64_t heap_bytes = heap_info(heap).heap_bytes;
    ok(pheap_close(heap));
    struct pheap_options options = small_options();
    options.reserve_bytes = heap_bytes + heap_bytes / 2;
    /* The first mapping is that of the coordination file. */
    ph_sim_fail_at(machine.sim, PH_SIM_MAP, 2, ENOMEM, PH_SIM_FOREVER);
    expect_detail(PHEAP_NO_MEMORY, "no address space",
                  (enum pheap_status)ph_open_io(&machine.second, HEAP, 0, &options, &heap));
    ph_sim_fail_at(machine.sim, PH_SIM_MAP, 1, ENOMEM, PH_SIM_ONCE); /* which this process has kept */
    ok((enum pheap_status)ph_open_io(&machine.second, HEAP, 0, &options, &heap));
    require_equal(heap->core->read_views[0].view.reserve_bytes, heap_bytes);
    require_equal(heap->core->write_view.reserve_bytes, options.reserve_bytes);
    commit_wide(heap, 10);
    require_wide(heap, 10);
    ok(pheap_close(heap));
    machine_end(&machine);
}

static int64_t refuse_beyond(void *ctx, int file, const void *buffer, size_t length, uint64_t offset, unsigned flags)
{
    return offset + length > PH_LOG_SEGMENTS + 6 * UINT64_C(16384)
               ? -ENOSPC
               : ending_real->write(ctx, file, buffer, length, offset, flags);
}

/* Catches: writers that are stopped because the log cannot grow, where recycling what is there would do (R11). */
static void log__cannot_grow_but_be_recycled(void **state)
{
    (void)state;
    struct machine machine;
    machine_begin(&machine, NULL);
    ending_real = machine.first;
    machine.second.write = refuse_beyond; /* the heap is smaller than that */
    pheap *first = machine_create(&machine, 0, 1024), *second = machine_open(&machine.second, 0);
    for (uint64_t i = 1; i < 5000; i++)
        commit_word(second, i % 1024, i, PHEAP_LAZY);
    ok(pheap_sync(second));
    require(heap_info(second).log_bytes <= PH_LOG_SEGMENTS + 6 * 16384);
    require_equal(fresh_word(first, 4999 % 1024), 4999);
    ok(pheap_close(second));
    ok(pheap_close(first));
    machine_end(&machine);
}

static const ph_io *roomy;
static unsigned private_maps;

static int no_room_for_the_fourth(void *ctx, int file, size_t length, unsigned flags, void **address)
{
    if ((flags & PH_MAP_PRIVATE) != 0 && ++private_maps == 4)
        return -ENOMEM;
    return roomy->map(ctx, file, length, flags, address);
}

/* Catches: verify mode that writes beyond the address space of its second view, which may have found less than the first. */
static void reserve__of_verify_mode_is_outgrown(void **state)
{
    (void)state;
    struct machine machine;
    machine_begin(&machine, &(struct ph_sim_options){.seed = 1, .touched = true});
    pheap *first = machine_create(&machine, 0, WORDS), *second;
    roomy = machine.first;
    private_maps = 0;
    machine.second.map = no_room_for_the_fourth; /* two read views, the write view, the shadow */
    struct pheap_options options = small_options();
    options.reserve_bytes = 4u << 20;
    ok((enum pheap_status)ph_open_io(&machine.second, HEAP, PHEAP_VERIFY, &options, &second));
    require(second->core->shadow_view.reserve_bytes < second->core->write_view.reserve_bytes);
    commit_word(second, 0, 1, PHEAP_LAZY);
    pheap_txn *txn = begin(second);
    uint64_t block;
    ok(pheap_alloc(txn, 2u << 20, &block));
    ok(pheap_fill(txn, block, 0x77, 2u << 20));
    expect_detail(PHEAP_RESERVE, "reserved when it was opened here", pheap_commit(txn, PHEAP_LAZY, NULL));
    commit_word(second, 0, 2, PHEAP_LAZY);
    require_equal(fresh_word(first, 0), 2);
    check_sound(first);
    ok(pheap_close(second));
    ok(pheap_close(first));
    machine_end(&machine);
}

/* Catches: verify mode that takes what another process committed for a store of this one.  Word 8192 is on a page that the
 * aborted transaction has made private in the write view alone. */
static void verify__not_confused_by_a_neighbour(void **state)
{
    (void)state;
    struct machine machine;
    machine_begin(&machine, &(struct ph_sim_options){.seed = 1, .touched = true});
    pheap *heap = machine_create(&machine, PHEAP_VERIFY, 16384), *second = machine_open(&machine.second, 0);
    commit_word(heap, 0, 1, PHEAP_LAZY);
    pheap_txn *txn = begin(heap);
    put_word(txn, 8192, 5);
    ok(pheap_abort(txn));
    commit_word(second, 8192, 7, PHEAP_LAZY);
    ok(pheap_fold(second));
    txn = begin(heap);
    require_equal(get_word(txn, 8192), 7);
    ok(pheap_abort(txn));
    ok(pheap_close(second));
    ok(pheap_close(heap));
    machine_end(&machine);
}

/* ------------------------------------------------------------------------------------------------------------- zeros */

#define CLEAR_BYTES (UINT64_C(1) << 18)

static int refuse_to_drop(void *ctx, void *address, size_t length)
{
    (void)ctx;
    (void)address;
    (void)length;
    return -ENOMEM;
}

/* `giver` gets zeros where `spoiler` has stored in a transaction that was aborted, or rolled back; the pages that it does
 * not store to are in no record. */
static void require_zeros(pheap *spoiler, pheap *giver, bool roll_back)
{
    uint64_t block;
    uint32_t savepoint;
    pheap_txn *txn = begin(spoiler);
    const uint64_t root = pheap_root(txn);
    ok(pheap_savepoint(txn, &savepoint));
    ok(pheap_alloc(txn, CLEAR_BYTES, &block));
    ok(pheap_fill(txn, block, 0xaa, CLEAR_BYTES));
    if (roll_back) {
        ok(pheap_rollback(txn, savepoint));
        put_word(txn, 0, 1);
        ok(pheap_commit(txn, PHEAP_LAZY, NULL));
    } else {
        ok(pheap_abort(txn));
    }
    txn = begin(giver);
    ok(pheap_zalloc(txn, CLEAR_BYTES, &block));
    ok(pheap_set_root(txn, block));
    ok(pheap_commit(txn, PHEAP_LAZY, NULL));
    txn = begin(spoiler);
    require_equal(pheap_root(txn), block);
    const unsigned char *bytes = pheap_ptr(txn, block);
    for (uint64_t i = 0; i < CLEAR_BYTES; i++)
        require_equal(bytes[i], 0);
    ok(pheap_free(txn, block));
    ok(pheap_set_root(txn, root));
    ok(pheap_commit(txn, PHEAP_LAZY, NULL));
}

/* Catches: what an aborted transaction stored beyond all that was ever allocated, shown by this process's write view when
 * another process has committed zeros there. */
static void zeros__of_another_process_after_an_abort(void **state)
{
    (void)state;
    for (unsigned i = 0; i < 8; i++) {
        struct machine machine;
        machine_begin(&machine, &(struct ph_sim_options){.seed = 1, .touched = true});
        pheap *giver = machine_create(&machine, 0, WORDS);
        pheap *spoiler = machine_open(&machine.second, (i & 1) != 0 ? PHEAP_VERIFY : 0);
        commit_wide(spoiler, 1000);
        if ((i & 2) != 0)
            machine.second.drop = refuse_to_drop;
        require_zeros(spoiler, giver, (i & 4) != 0);
        check_sound(giver);
        ok(pheap_close(giver));
        ok(pheap_close(spoiler));
        machine_end(&machine);
    }
}

/* Catches: verify mode that takes for a stray store what an aborted transaction, or one that freed its block again, stored
 * in free space, when another process has made a large block of it and stored nothing there. */
static void verify__not_confused_by_what_free_space_held(void **state)
{
    (void)state;
    for (unsigned aborted = 0; aborted < 2; aborted++) {
        struct machine machine;
        machine_begin(&machine, &(struct ph_sim_options){.seed = 1, .touched = true});
        pheap *giver = machine_create(&machine, 0, WORDS), *spoiler = machine_open(&machine.second, PHEAP_VERIFY);
        uint64_t block, guard, again;
        pheap_txn *txn = begin(giver);
        ok(pheap_alloc(txn, CLEAR_BYTES, &block));
        ok(pheap_alloc(txn, CLEAR_BYTES, &guard));
        ok(pheap_commit(txn, PHEAP_LAZY, NULL));
        txn = begin(giver);
        ok(pheap_free(txn, block));
        ok(pheap_commit(txn, PHEAP_LAZY, NULL));
        txn = begin(spoiler);
        ok(pheap_alloc(txn, CLEAR_BYTES, &again));
        require_equal(again, block);
        ok(pheap_fill(txn, again, 0xaa, CLEAR_BYTES));
        if (aborted != 0) {
            ok(pheap_abort(txn));
        } else {
            put_word(txn, 0, 5);
            ok(pheap_free(txn, again));
            ok(pheap_commit(txn, PHEAP_LAZY, NULL));
        }
        txn = begin(giver);
        ok(pheap_alloc(txn, CLEAR_BYTES, &again));
        require_equal(again, block);
        ok(pheap_commit(txn, PHEAP_LAZY, NULL));
        commit_word(spoiler, 0, 7, PHEAP_LAZY);
        ok(pheap_close(giver));
        ok(pheap_close(spoiler));
        machine_end(&machine);
    }
}

static uint64_t paced_to;

static int watch_pace(void *ctx, int file, uint64_t offset, uint64_t length)
{
    (void)ctx;
    (void)file;
    require(length > 0 && length <= UINT64_MAX - offset);
    paced_to = offset + length;
    return 0;
}

/* Catches: write-back that is not started, because the set was written in two goes and the second began further to the
 * front than the first ended. */
static void fold__paces_a_set_that_goes_back(void **state)
{
    (void)state;
    struct machine machine;
    struct ph_file file;
    struct ph_fold_set *set;
    machine_begin(&machine, NULL);
    machine.second.start_writeback = watch_pace;
    require_equal(ph_file_open(&file, &machine.second, HEAP, PH_OPEN_WRITE | PH_OPEN_CREATE, 0600), PH_OK);
    require_equal(ph_fold_set_init(&set, &file, UINT64_MAX, 0, 0), PH_OK);
    paced_to = 0;
    struct ph_operation fill = {.kind = PH_OPERATION_FILL, .length = 65536, .value = 5};
    for (fill.offset = 32u << 20; fill.offset < 33u << 20; fill.offset += fill.length)
        require_equal(ph_fold_set_apply(set, &fill), PH_OK);
    require_equal(ph_fold_set_write(set), PH_OK);
    for (fill.offset = 1u << 20; fill.offset < 6u << 20; fill.offset += fill.length)
        require_equal(ph_fold_set_apply(set, &fill), PH_OK);
    require_equal(ph_fold_set_write(set), PH_OK);
    require(paced_to > 5u << 20 && paced_to <= 6u << 20);
    ph_fold_set_deinit(set);
    ph_file_close(&file);
    machine_end(&machine);
}

/* Catches: a page that is private again after it was dropped, and not counted towards the budget. */
static void view__counts_a_dropped_page_again(void **state)
{
    (void)state;
    struct machine machine;
    machine_begin(&machine, NULL);
    pheap *heap = machine_create(&machine, 0, WORDS);
    struct ph_view *view = &heap->core->write_view;
    const uint64_t page = UINT64_C(5) * PH_PAGE_BYTES, before = view->touched_bytes;
    ph_view_touch(view, page, 8);
    ph_view_touch(view, page + 8, 8);
    require_equal(view->touched_bytes, before + PH_PAGE_BYTES);
    require_equal(ph_view_drop(view, page, PH_PAGE_BYTES), PH_OK);
    ph_view_touch(view, page, 8);
    require_equal(view->touched_bytes, before + 2 * PH_PAGE_BYTES);
    view->current = false; /* its pages are not what they should be */
    ok(pheap_close(heap));
    machine_end(&machine);
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
    ok(pheap_close(second));
    ok(pheap_close(first));
    machine_end(&machine);
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
        cmocka_unit_test(log__held_by_a_reader),
        cmocka_unit_test(log__reader_ends_while_room_is_made),
        cmocka_unit_test(log__held_by_a_reader_from_a_large_transaction),
        cmocka_unit_test(log__held_by_two_in_turn),
        cmocka_unit_test(log__room_made_by_another),
        cmocka_unit_test(reader__fails_to_protect_its_view),
        cmocka_unit_test(reader__view_stays_within_its_budget),
        cmocka_unit_test(reader__goes_on_when_a_flush_on_the_way_fails),
        cmocka_unit_test(reader__ended_twice),
        cmocka_unit_test(view__is_lapped_while_it_moves),
        cmocka_unit_test(view__is_evicted_while_it_moves),
        cmocka_unit_test(pin__is_behind_a_fold),
        cmocka_unit_test(reserve__outgrown_by_another_process),
        cmocka_unit_test(reserve__short_of_what_was_asked),
        cmocka_unit_test(log__cannot_grow_but_be_recycled),
        cmocka_unit_test(reserve__of_verify_mode_is_outgrown),
        cmocka_unit_test(verify__not_confused_by_a_neighbour),
        cmocka_unit_test(zeros__of_another_process_after_an_abort),
        cmocka_unit_test(verify__not_confused_by_what_free_space_held),
        cmocka_unit_test(fold__paces_a_set_that_goes_back),
        cmocka_unit_test(view__counts_a_dropped_page_again),
        cmocka_unit_test(begin_timeout__is_one_for_all),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
