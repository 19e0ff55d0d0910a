/* SPDX-License-Identifier: MIT */
/*
 * Orders of things that cannot be seen in what comes of them, unless somebody else is quick, or the power fails, at the
 * right moment: calls to the simulated system look at the marks and locks as they are just then.
 */
#include "recovery/superblock.h"
#include "tests/machine.h"

#define WORDS 4096u

static const ph_io *real;        /* the table that the calls below hand on to */
static struct ph_coord *watched; /* what they look at; NULL: nothing */
static unsigned looks;

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
    commit_spread(heap, WORDS, 1, PHEAP_DURABLE);
    commit_spread(heap, WORDS, 2, PHEAP_LAZY);
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
    commit_spread(first, WORDS, 1, PHEAP_DURABLE);
    watched = coord;
    looks = 0;
    ok(pheap_fold(second));
    watched = NULL;
    require(looks > 0);
    require_equal(intended, atomic_load(&coord->committed));
    require_equal(atomic_load(&coord->folded), pinned);
    require_equal(read_word(reader, 0), 0);
    pheap_read_end(reader);
    machine_close(&machine, second, first);
}

/* -------------------------------------------------------------------------------------------------------------- flush */

static pheap *neighbour; /* the other process, which commits while this one writes */
static uint64_t value;   /* of the last commit */

static int64_t commit_meanwhile(void *ctx, int file, const void *buffer, size_t length, uint64_t offset, unsigned flags)
{
    if (neighbour != NULL) {
        pheap *heap = neighbour;
        neighbour = NULL;
        commit_spread(heap, WORDS, ++value, PHEAP_LAZY);
    }
    return real->write(ctx, file, buffer, length, offset, flags);
}

/* Catches: a flush that takes the time since which something is not durable for that of what it writes (R5), so that what
 * was committed meanwhile is thought to be younger than it is. */
static void flush__remembers_the_age_of_what_came_meanwhile(void **state)
{
    (void)state;
    struct machine machine;
    machine_begin(&machine, NULL);
    real = machine.first;
    machine.second.write = commit_meanwhile;
    pheap *first = machine_create(&machine, 0, WORDS), *second = machine_open(&machine.second, 0);
    struct ph_coord *coord = first->core->coord;
    ph_sim_set_clock(machine.sim, UINT64_C(100000000000));
    commit_spread(first, WORDS, ++value, PHEAP_LAZY);
    neighbour = first;
    ok(pheap_sync(second));
    require(neighbour == NULL);
    require(atomic_load(&coord->durable) < atomic_load(&coord->committed));
    ph_sim_set_clock(machine.sim, UINT64_C(101500000000));
    require_equal(fresh_word(first, 0), value);
    require_equal(atomic_load(&coord->durable), atomic_load(&coord->committed));
    machine_close(&machine, second, first);
}

/* ---------------------------------------------------------------------------------------------- checkpoint and close */

static void read_superblocks(pheap *heap, struct ph_superblock copies[2])
{
    for (uint32_t i = 0; i < 2; i++) {
        size_t got;
        require_equal(
            ph_file_read(&heap->core->store.heap, &copies[i], sizeof copies[i], PH_SUPERBLOCK_OFFSET(i), &got), PH_OK);
        require_equal(got, sizeof copies[i]);
    }
}

/* Catches: a checkpoint that writes its superblock over the newest one, so that only one that is too old is left if that
 * write goes wrong. */
static void checkpoint__spares_the_newest_superblock(void **state)
{
    (void)state;
    struct machine machine;
    machine_begin(&machine, NULL);
    pheap *heap = machine_create(&machine, 0, WORDS);
    for (uint64_t i = 1; i <= 6; i++) {
        struct ph_superblock before[2], after[2];
        read_superblocks(heap, before);
        const uint32_t newest = before[1].generation > before[0].generation;
        commit_spread(heap, WORDS, i, PHEAP_LAZY);
        ok(pheap_checkpoint(heap));
        read_superblocks(heap, after);
        /* One that vouches for what is folded, and that of the checkpoint. */
        require_equal(after[1 - newest].generation, before[newest].generation + 1);
        require_equal(after[newest].generation, before[newest].generation + 2);
        require_equal(after[1 - newest].checkpoint_lsn, before[newest].checkpoint_lsn);
        require_equal(after[1 - newest].durable_lsn, after[newest].checkpoint_lsn);
    }
    ok(pheap_close(heap));
    machine_end(&machine);
}

#define SYNCS 3u /* of a checkpoint: the superblock that vouches for the fold, the heap file, the superblock */

static void fail_sync(uint64_t nth)
{
    struct machine machine;
    machine_begin(&machine, NULL);
    pheap *first = machine_create(&machine, 0, WORDS), *second = machine_open(&machine.second, 0);
    commit_spread(first, WORDS, 1, PHEAP_DURABLE);
    pheap_txn *txn = begin(second);
    put_word(txn, 0, 2);
    ph_sim_fail_at(machine.sim, PH_SIM_SYNC, nth, EIO, PH_SIM_ONCE);
    expect_detail(PHEAP_IO, "sync", pheap_checkpoint(first));
    require_equal(ph_sim_struck(machine.sim), 1);
    ph_sim_fail_clear(machine.sim);
    expect(PHEAP_POISONED, pheap_commit(txn, PHEAP_LAZY, NULL));
    expect(PHEAP_POISONED, pheap_begin(first, &txn));
    expect(PHEAP_POISONED, pheap_begin(second, &txn));
    expect(PHEAP_POISONED, pheap_checkpoint(second));
    machine_close_poisoned(&machine, second, first, 1);
}

/* Catches: a sync of the heap file that failed and is only an error of that call (R7): every process must learn of it;
 * and a commit, of a transaction that had begun before, which stands all the same, though its writer may have seen pages
 * that the failed sync had set back. */
static void checkpoint__that_cannot_sync_poisons_the_heap(void **state)
{
    (void)state;
    for (uint64_t nth = 1; nth <= SYNCS; nth++)
        fail_sync(nth);
}

static void fill_disk(uint64_t nth)
{
    struct machine machine;
    machine_begin(&machine, NULL);
    pheap *heap = machine_create(&machine, 0, WORDS);
    const struct ph_coord *coord = heap->core->coord;
    const uint64_t before = atomic_load(&coord->checkpoint.lsn);
    commit_spread(heap, WORDS, 1, PHEAP_DURABLE);
    ph_sim_fail_at(machine.sim, PH_SIM_SYNC, nth, ENOSPC, PH_SIM_ONCE);
    expect(PHEAP_NO_SPACE, pheap_checkpoint(heap));
    require_equal(ph_sim_struck(machine.sim), 1);
    ph_sim_fail_clear(machine.sim);
    require_equal(atomic_load(&coord->checkpoint.lsn), before);
    commit_spread(heap, WORDS, 2, PHEAP_DURABLE);
    ok(pheap_checkpoint(heap));
    require_equal(atomic_load(&coord->checkpoint.lsn), atomic_load(&coord->committed));
    ok(pheap_close(heap));
    machine_end(&machine);
}

/* Catches: a full disk in the sync of a checkpoint that is taken for a broken one (R11): the heap must go on, and the next
 * checkpoint make good what the first could not. */
static void checkpoint__on_a_full_disk_is_tried_again(void **state)
{
    (void)state;
    for (uint64_t nth = 1; nth <= SYNCS; nth++)
        fill_disk(nth);
}

/* Catches: a close that leaves LAZY commits to those who stay (R5): they may never flush them. */
static void close__leaves_nothing_to_be_flushed(void **state)
{
    (void)state;
    struct machine machine;
    machine_begin(&machine, NULL);
    pheap *first = machine_create(&machine, 0, WORDS), *second = machine_open(&machine.second, 0);
    struct ph_coord *coord = second->core->coord;
    commit_spread(first, WORDS, 1, PHEAP_LAZY);
    require(atomic_load(&coord->durable) < atomic_load(&coord->committed));
    ok(pheap_close(first));
    require_equal(atomic_load(&coord->durable), atomic_load(&coord->committed));
    ok(pheap_close(second));
    machine_end(&machine);
}

/* ----------------------------------------------------------------------------------------------------------- recovery */

/* The superblock of a checkpoint, not the one that vouches for its fold, reaches the cache and not the disk; meanwhile
 * another process goes on. */
static int64_t lose_superblock(void *ctx, int file, const void *buffer, size_t length, uint64_t offset, unsigned flags)
{
    const struct ph_superblock *superblock = buffer;
    if (neighbour == NULL || length != sizeof *superblock || offset >= 2 * PH_PAGE_BYTES ||
        superblock->checkpoint_lsn == neighbour->core->coord->checkpoint.lsn)
        return real->write(ctx, file, buffer, length, offset, flags);
    for (uint64_t i = 0; i < 25; i++)
        commit_spread(neighbour, WORDS, ++value, PHEAP_LAZY);
    neighbour = NULL;
    require_equal(real->write(ctx, file, buffer, length, offset, flags & ~(unsigned)PH_WRITE_DSYNC), length);
    return -EIO;
}

/* Fill two segments and most of the next, so that what is committed next needs another one. */
static void fill_segments(pheap *heap)
{
    struct ph_flush_mark mark;
    const uint64_t first = atomic_load(&heap->core->coord->checkpoint.segment);
    do {
        commit_spread(heap, WORDS, ++value, PHEAP_DURABLE);
        require(ph_coord_read_flush(heap->core->coord, &mark));
    } while (mark.segment < first + 2 || mark.offset < small_options().segment_bytes - 2048);
    require_equal(atomic_load(&heap->core->coord->checkpoint.segment), first);
}

/* Open the machine as it is after a power cut that left nothing of what was not synced. */
static uint64_t word_after_cut(struct ph_sim_cut *cut, struct ph_sim *image)
{
    struct ph_sim_choice choice = {0};
    ph_sim_cut_choose(cut, 0, &choice);
    ph_sim_cut_image(cut, &choice, 1, image);
    ph_sim_choice_deinit(&choice);
    pheap *heap = machine_open(ph_sim_io(image), 0);
    const uint64_t word = fresh_word(heap, 0);
    require_spread(heap, WORDS, word); /* all of that commit */
    check_sound(heap);
    ok(pheap_close(heap));
    ph_core_forget_mappings(ph_sim_io(image));
    return word;
}

/* After every operation since `before` the power fails, and nothing persists that was not synced: a heap with no less than
 * `durable`, and no more than was ever committed, must be there. */
static void cut_everywhere(struct machine *machine, uint64_t before, uint64_t durable)
{
    struct ph_sim *image = ph_sim_new(NULL);
    struct ph_sim_cut *cut = ph_sim_cut_new(machine->sim);
    unsigned cuts = 0;
    while (ph_sim_cut_next(cut))
        if (ph_sim_cut_position(cut) > before) {
            const uint64_t word = word_after_cut(cut, image);
            require(word >= durable && word <= value);
            cuts++;
        }
    require(cuts > 0);
    ph_sim_cut_free(cut);
    ph_sim_free(image);
}

/* Catches: recovery that begins from a superblock which is in the cache only, and does not write it again before it
 * uses the segments of the log which that one has freed (R4): the disk's superblock still needs them. */
static void recovery__secures_the_superblock_it_begins_from(void **state)
{
    (void)state;
    struct machine machine;
    machine_begin_journaled(&machine, NULL);
    real = machine.first;
    machine.second.write = lose_superblock;
    pheap *first = machine_create(&machine, 0, WORDS), *second = machine_open(&machine.second, 0);
    while (ph_store_extend_log(&first->core->store, UINT64_MAX) == PH_OK) /* so that no commit has to do it */
        continue;
    ok(pheap_checkpoint(first));
    fill_segments(first);
    const uint64_t durable = value;
    neighbour = first;
    expect(PHEAP_IO, pheap_checkpoint(second));
    require(neighbour == NULL);
    expect(PHEAP_POISONED, pheap_close(second));
    expect(PHEAP_POISONED, pheap_close(first));
    const uint64_t before = ph_sim_journal_length(machine.sim);
    first = machine_open(machine.first, 0);
    require_equal(fresh_word(first, 0), value);
    ok(pheap_close(first));
    cut_everywhere(&machine, before, durable);
    machine_end(&machine);
}

static bool losing;

/* The superblock of a clean close reaches the cache, and not the disk. */
static int64_t lose_clean(void *ctx, int file, const void *buffer, size_t length, uint64_t offset, unsigned flags)
{
    if (!losing || length != sizeof(struct ph_superblock) || offset >= 2 * PH_PAGE_BYTES ||
        ((const struct ph_superblock *)buffer)->state != PH_STATE_CLEAN)
        return real->write(ctx, file, buffer, length, offset, flags);
    losing = false;
    require_equal(real->write(ctx, file, buffer, length, offset, flags & ~(unsigned)PH_WRITE_DSYNC), length);
    return -EIO;
}

/* Catches: an epoch that is begun on a superblock which says CLEAN in the cache only (R9): with the header of its log
 * the disk then has an older superblock, and a log that goes on from one that is not there. */
static void epoch__begins_on_a_superblock_that_is_durable(void **state)
{
    (void)state;
    struct machine machine;
    machine_begin_journaled(&machine, NULL);
    real = machine.first;
    machine.second.write = lose_clean;
    pheap *heap = machine_open(&machine.second, PHEAP_CREATE);
    (void)make_root(heap, WORDS);
    commit_spread(heap, WORDS, ++value, PHEAP_DURABLE);
    const uint64_t durable = value;
    losing = true;
    expect(PHEAP_IO, pheap_close(heap));
    require(!losing);
    const uint64_t before = ph_sim_journal_length(machine.sim);
    heap = machine_open(machine.first, 0);
    commit_spread(heap, WORDS, ++value, PHEAP_DURABLE);
    ok(pheap_close(heap));
    cut_everywhere(&machine, before, durable);
    machine_end(&machine);
}

static struct ph_sim *failing; /* its next sync fails, and whoever called it dies */

static int fail_and_die(void *ctx, int file)
{
    if (failing == NULL)
        return real->sync(ctx, file);
    ph_sim_fail_at(failing, PH_SIM_SYNC, 1, EIO, PH_SIM_ONCE);
    require_equal(real->sync(ctx, file), -EIO);
    ph_sim_fail_clear(failing);
    failing = NULL;
    pthread_exit(NULL);
}

static void *checkpoint_and_die(void *heap)
{
    return pheap_checkpoint(heap) == PHEAP_OK ? heap : NULL;
}

/* Catches: a sync that failed in somebody who was killed before he could tell (R7): the pages look clean, so the next
 * sync succeeds without them, and a checkpoint on top of that loses what they held. */
static void sync__failed_in_one_who_died_is_made_good(void **state)
{
    (void)state;
    struct machine machine;
    machine_begin_journaled(&machine, NULL);
    real = machine.first;
    machine.second.sync = fail_and_die;
    pheap *first = machine_create(&machine, 0, WORDS), *second = machine_open(&machine.second, 0);
    commit_spread(first, WORDS, ++value, PHEAP_DURABLE);
    pthread_t thread;
    failing = machine.sim;
    require_equal(pthread_create(&thread, NULL, checkpoint_and_die, second), 0);
    require_equal(pthread_join(thread, NULL), 0);
    require(failing == NULL);
    ok(pheap_checkpoint(first));
    const uint64_t before = ph_sim_journal_length(machine.sim), durable = value;
    commit_spread(first, WORDS, ++value, PHEAP_DURABLE);
    cut_everywhere(&machine, before, durable);
    machine_close(&machine, second, first);
}

/* Catches: recovery that does not write what the heap file already shows (R7): after a sync that failed the cache may
 * show what the disk lacks. */
static void recovery__writes_what_the_cache_shows_already(void **state)
{
    (void)state;
    struct machine machine;
    machine_begin_journaled(&machine, NULL);
    pheap *heap = machine_create(&machine, 0, WORDS);
    commit_spread(heap, WORDS, ++value, PHEAP_DURABLE);
    ph_sim_fail_at(machine.sim, PH_SIM_SYNC, 1, EIO, PH_SIM_ONCE);
    expect(PHEAP_IO, pheap_checkpoint(heap));
    ph_sim_fail_clear(machine.sim);
    expect(PHEAP_POISONED, pheap_close(heap));
    const uint64_t before = ph_sim_journal_length(machine.sim);
    heap = machine_open(machine.first, 0);
    require_equal(fresh_word(heap, 0), value);
    ok(pheap_close(heap));
    cut_everywhere(&machine, before, value);
    machine_end(&machine);
}

/* ---------------------------------------------------------------------------------------------------------------- wake */

/* One of those who are woken is so quick that it waits again before wake has returned. */
static void wish_again(void *ctx, uint32_t *word, int count)
{
    real->wake(ctx, word, count);
    if (watched == NULL)
        return;
    atomic_store(&watched->commit_awaited, 1);
    looks++;
}

/* Catches: a commit that clears, with the wish that it has fulfilled, one that came after it: whoever had it sleeps while
 * others commit. */
static void wake__leaves_the_wishes_of_the_quick(void **state)
{
    (void)state;
    struct machine machine;
    machine_begin(&machine, NULL);
    real = machine.first;
    machine.second.wake = wish_again;
    pheap *heap = machine_open(&machine.second, PHEAP_CREATE);
    (void)make_root(heap, WORDS);
    struct ph_coord *coord = heap->core->coord;
    atomic_store(&coord->commit_awaited, 1);
    watched = coord;
    for (unsigned round = 1; round <= 3; round++) {
        const uint32_t word = atomic_load(&coord->commit_word);
        looks = 0;
        commit_spread(heap, WORDS, round, PHEAP_LAZY);
        require_equal(looks, 1);
        require(atomic_load(&coord->commit_word) != word);
        require_equal(atomic_load(&coord->commit_awaited), 1);
    }
    watched = NULL;
    atomic_store(&coord->commit_awaited, 0);
    ok(pheap_close(heap));
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
    for (uint64_t i = 1; i <= 4000; i++) {
        commit_spread(second, WORDS, i, i % 3 == 0 ? PHEAP_DURABLE : PHEAP_LAZY);
        if (i % 100 == 0) { /* what begin finds is older than a second */
            const unsigned before = looks;
            commit_spread(second, WORDS, i + 1, PHEAP_LAZY);
            ph_sim_set_clock(machine.sim, (1 + i) * UINT64_C(2000000000));
            commit_spread(second, WORDS, i, PHEAP_LAZY);
            require(looks > before);
        }
    }
    watched = NULL;
    require(looks > 1000);
    require(atomic_load(&coord->checkpoint.generation) > generation);
    machine_close(&machine, second, first);
}

int main(int argc, char **argv)
{
    choose_cases(argc, argv);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(fold__goes_no_further_than_what_is_durable),
        cmocka_unit_test(fold__says_how_far_before_it_looks_at_pins),
        cmocka_unit_test(flush__remembers_the_age_of_what_came_meanwhile),
        cmocka_unit_test(checkpoint__spares_the_newest_superblock),
        cmocka_unit_test(checkpoint__that_cannot_sync_poisons_the_heap),
        cmocka_unit_test(checkpoint__on_a_full_disk_is_tried_again),
        cmocka_unit_test(close__leaves_nothing_to_be_flushed),
        cmocka_unit_test(recovery__secures_the_superblock_it_begins_from),
        cmocka_unit_test(epoch__begins_on_a_superblock_that_is_durable),
        cmocka_unit_test(sync__failed_in_one_who_died_is_made_good),
        cmocka_unit_test(recovery__writes_what_the_cache_shows_already),
        cmocka_unit_test(wake__leaves_the_wishes_of_the_quick),
        cmocka_unit_test(writer_lock__is_free_while_the_disk_works),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
