/* SPDX-License-Identifier: MIT */
/*
 * Orders of things that cannot be seen in what comes of them, unless somebody else is quick, or the power fails, at the
 * right moment: calls to the simulated system look at the marks and locks as they are just then.
 */
#include "tests/machine.h"

#define WORDS 4096u

static const ph_io *real;        /* the table that the calls below hand on to */
static struct ph_coord *watched; /* what they look at; NULL: nothing */
static unsigned looks;

static void commit_wide(pheap *heap, uint64_t value, enum pheap_durability how)
{
    pheap_txn *txn = begin(heap);
    for (uint64_t i = 0; i < WORDS; i += 512)
        put_word(txn, i, value);
    ok(pheap_commit(txn, how, NULL));
}

/* --------------------------------------------------------------------------------------------------------------- fold */

/* Catches: a fold by one who has not just flushed, as gathering does, that puts into the heap file what is committed but
 * not durable (R1, R2): a power cut then leaves pages of a commit that the log does not have. */
static void fold__goes_no_further_than_what_is_durable(void **state)
{
    (void)state;
    struct machine machine;
    machine_begin(&machine, NULL);
    pheap *heap = machine_create(&machine, 0, WORDS);
    struct ph_coord *coord = heap->core->coord;
    commit_wide(heap, 1, PHEAP_DURABLE);
    commit_wide(heap, 2, PHEAP_LAZY);
    const uint64_t durable = atomic_load(&coord->durable);
    require(durable < atomic_load(&coord->committed));
    require_equal(ph_fold_lock(&heap->core->store, UINT64_MAX), PH_OK);
    require_equal(ph_fold_locked(&heap->core->store), PH_OK);
    ph_fold_unlock(&heap->core->store);
    require_equal(atomic_load(&coord->durable), durable);
    require_equal(atomic_load(&coord->folded), durable);
    require_equal(fresh_word(heap, 0), 2);
    ok(pheap_close(heap));
    machine_end(&machine);
}

static uint64_t intended;

/* Of a seat that has a pin a folder asks whether its process lives. */
static int look_at_intent(void *ctx, int file, enum ph_lock_type type, uint64_t start, uint64_t length, bool wait)
{
    if (watched != NULL && length == 1 && start < PH_SEATS && type == PH_LOCK_EXCLUSIVE) {
        intended = atomic_load(&watched->fold_intent);
        looks++;
    }
    return real->lock(ctx, file, type, start, length, wait);
}

/* Catches: a folder that looks at the pins before it has said how far it will fold (R3): a reader that pins in between
 * sees nothing of the fold, which goes past it. */
static void fold__says_how_far_before_it_looks_at_pins(void **state)
{
    (void)state;
    struct machine machine;
    machine_begin(&machine, NULL);
    real = machine.first;
    machine.second.lock = look_at_intent;
    pheap *first = machine_create(&machine, 0, WORDS), *second = machine_open(&machine.second, 0);
    struct ph_coord *coord = first->core->coord;
    pheap_read *reader = read_begin(first, 0);
    const uint64_t pinned = atomic_load(&coord->committed);
    commit_wide(first, 1, PHEAP_DURABLE);
    watched = coord;
    looks = 0;
    ok(pheap_fold(second));
    watched = NULL;
    require(looks > 0);
    require_equal(intended, atomic_load(&coord->committed));
    require_equal(atomic_load(&coord->folded), pinned);
    require_equal(read_word(reader, 0), 0);
    pheap_read_end(reader);
    ok(pheap_close(second));
    ok(pheap_close(first));
    machine_end(&machine);
}

/* -------------------------------------------------------------------------------------------------------- writer lock */

/* The lock refuses its own owner as well. */
static void look_at_writer_lock(void)
{
    if (watched == NULL)
        return;
    require_equal(ph_mutex_trylock(&watched->writer_lock), PH_MUTEX_ACQUIRED);
    ph_mutex_unlock(&watched->writer_lock);
    looks++;
}

static int64_t write_unlocked(void *ctx, int file, const void *buffer, size_t length, uint64_t offset, unsigned flags)
{
    look_at_writer_lock();
    return real->write(ctx, file, buffer, length, offset, flags);
}

static int sync_unlocked(void *ctx, int file)
{
    look_at_writer_lock();
    return real->sync(ctx, file);
}

/* Catches: a flush, a fold, a checkpoint or a new segment of the log under the writer lock, while every other writer
 * waits for the disk (R10).  The log is so small that all of them are needed on the way. */
static void writer_lock__is_free_while_the_disk_works(void **state)
{
    (void)state;
    struct machine machine;
    machine_begin(&machine, NULL);
    real = machine.first;
    machine.second.write = write_unlocked;
    machine.second.sync = sync_unlocked;
    pheap *first = machine_create(&machine, 0, WORDS), *second = machine_open(&machine.second, 0);
    struct ph_coord *coord = first->core->coord;
    const uint64_t generation = atomic_load(&coord->checkpoint.generation);
    watched = coord;
    looks = 0;
    for (uint64_t i = 1; i <= 4000; i++)
        commit_wide(second, i, i % 3 == 0 ? PHEAP_DURABLE : PHEAP_LAZY);
    watched = NULL;
    require(looks > 1000);
    require(atomic_load(&coord->checkpoint.generation) > generation);
    ok(pheap_close(second));
    ok(pheap_close(first));
    machine_end(&machine);
}

int main(int argc, char **argv)
{
    choose_cases(argc, argv);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(fold__goes_no_further_than_what_is_durable),
        cmocka_unit_test(fold__says_how_far_before_it_looks_at_pins),
        cmocka_unit_test(writer_lock__is_free_while_the_disk_works),
    };
    return cmocka_run_group_tests(tests, make_test_directory, remove_test_directory);
}
