/* SPDX-License-Identifier: MIT */
/*
 * Bit rot in the log, with folds, power cuts and a shared buffer around it (R9).
 *
 * Whatever single sector of the log rots, and whenever: the heap is refused with a reason, or it is one commit, whole,
 * and none before the last that had been folded or that a later flush vouches for.  Never is it a mix of two commits,
 * which a heap file that is ahead of its log would make, and never has recovery itself destroyed what tells of the damage.
 */
#include "tests/recovery_rig.h"
#include "tests/support/dice.h"

#define GROUP 3u /* commits of one flush */

struct tally {
    uint64_t states, refused, last, cut;
};

static void print_tally(const char *what, const struct tally *tally)
{
    print_message("%s: %" PRIu64 " states, %" PRIu64 " refused, %" PRIu64 " the last commit, %" PRIu64 " cut\n", what,
                  tally->states, tally->refused, tally->last, tally->cut);
}

/* Open what lies there: refused for damage, or one commit, from `least` on; `what` and `at` name the state. */
static void expect_refused_or_commit(struct rig *rig, uint64_t least, struct tally *tally, const char *what,
                                     uint64_t at)
{
    ph_status status = try_open(rig, 0);
    tally->states++;
    if (status != PH_OK) {
        if (status != PH_CORRUPT && status != PH_LOG_FOREIGN)
            fail_msg("%s, %" PRIu64 ": %s: %s", what, at, ph_status_name(status), ph_detail());
        assert_non_null(strstr(ph_detail(), WAL));
        tally->refused++;
        ph_core_forget_mappings(ph_sim_io(rig->sim));
        return;
    }
    uint64_t k = which_commit(rig, rig->book);
    if (k < least)
        fail_msg("%s, %" PRIu64 ": opens with commit %" PRIu64 ", and %" PRIu64 " was certain", what, at, k, least);
    tally->last += k == rig->book->last;
    tally->cut += k < rig->book->last;
    close_heap(rig);
}

/* -------------------------------------------------------------------------------------------------------- every bit */

static void flip_range(struct rig *rig, struct files *files, uint64_t from, uint64_t to, uint64_t least,
                       struct tally *tally, const char *what)
{
    for (uint64_t at = from; at < to; at++)
        for (unsigned bit = 0; bit < 8; bit++) {
            load(rig, files);
            flip(rig, files, at, bit);
            expect_refused_or_commit(rig, least, tally, what, at * 8 + bit);
            files->bytes[1][at] ^= (uint8_t)(1u << bit);
        }
}

/* The process is killed.  Flip every bit of the segment's header, and of the batches after the first, which the checkpoint
 * has passed; then free all. */
static struct tally flip_all(struct rig *rig, uint64_t least, const char *what)
{
    struct tally tally = {0};
    kill_process(rig);
    struct files files = save(rig);
    struct map map = map_log(&files, EPOCH);
    flip_range(rig, &files, PH_LOG_SEGMENTS, PH_LOG_SEGMENTS + sizeof(struct ph_segment_header), least, &tally, what);
    for (unsigned i = 0; i < map.count; i++) {
        const struct found *r = &map.records[i];
        if (r->batch > 0 && map.records[i - 1].batch != r->batch)
            flip_range(rig, &files, r->batch_at, r->batch_at + r->batch_bytes, least, &tally, what);
    }
    print_tally(what, &tally);
    free_files(&files);
    free_rig(rig);
    return tally;
}

static void add_group(struct rig *rig)
{
    for (unsigned i = 0; i < GROUP; i++)
        commit(rig, 40, PHEAP_LAZY);
    assert_int_equal(pheap_sync(rig->heap), PHEAP_OK);
}

/* Catches: pages that have what was folded of a flush which then rots, and is cut off: two commits mixed. */
static void rot__of_the_last_flush_after_a_fold(void **state)
{
    (void)state;
    struct rig rig = new_rig(21);
    create(&rig);
    assert_int_equal(pheap_checkpoint(rig.heap), PHEAP_OK);
    add_group(&rig);
    add_group(&rig);
    assert_int_equal(pheap_fold(rig.heap), PHEAP_OK);
    const struct tally tally = flip_all(&rig, rig.book->last, "all is folded");
    assert_true(tally.refused > 1000 && tally.cut == 0);
}

/* Catches: the same where more was flushed after the fold.  Of that last flush, and of nothing else, rot may take some. */
static void rot__after_a_fold_and_another_flush(void **state)
{
    (void)state;
    struct rig rig = new_rig(22);
    create(&rig);
    assert_int_equal(pheap_checkpoint(rig.heap), PHEAP_OK);
    add_group(&rig);
    assert_int_equal(pheap_fold(rig.heap), PHEAP_OK);
    add_group(&rig);
    const struct tally tally = flip_all(&rig, rig.book->last - GROUP, "half is folded");
    assert_true(tally.refused > 1000 && tally.cut > 1000);
}

/* Catches: the same where a reader has stopped the fold within the last flush. */
static void rot__after_a_fold_up_to_a_pin(void **state)
{
    (void)state;
    struct rig rig = new_rig(23);
    pheap_read *reader;
    create(&rig);
    assert_int_equal(pheap_checkpoint(rig.heap), PHEAP_OK);
    add_group(&rig);
    commit(&rig, 40, PHEAP_LAZY);
    assert_int_equal(pheap_read_begin(rig.heap, PHEAP_FRESH, &reader), PHEAP_OK);
    const uint64_t pinned = rig.book->last;
    commit(&rig, 40, PHEAP_LAZY);
    commit(&rig, 40, PHEAP_LAZY);
    assert_int_equal(pheap_fold(rig.heap), PHEAP_OK);
    const struct tally tally = flip_all(&rig, pinned, "folded to a pin");
    assert_true(tally.refused > 1000 && tally.cut > 1000);
}

/* -------------------------------------------------------------------------------------------------- with power cuts */

/* The machine after a cut; its disk is the one chosen, and the coordination file is gone. */
static void make_image(struct ph_sim_cut *cut, const struct ph_sim_choice *choice, uint64_t seed, struct rig *image)
{
    ph_sim_cut_image(cut, choice, seed, image->sim);
    drop_coordination(image);
}

#define CHOICES_MAX 12u

/* Choice number i of a position: all of them if there are few, else samples. */
static bool choose(struct ph_sim_cut *cut, uint64_t i, uint64_t seed, struct ph_sim_choice *choice)
{
    uint64_t states = ph_sim_cut_states(cut);
    if (i >= (states < CHOICES_MAX ? states : CHOICES_MAX))
        return false;
    if (states <= CHOICES_MAX)
        ph_sim_cut_choose(cut, i, choice);
    else
        ph_sim_cut_sample(cut, i, seed, choice);
    return true;
}

/*
 * Catches: recovery that takes from the shared buffer what has rotted in the log, and writes it over the batches that
 * tell of the damage: a power cut in the midst of that leaves a log that looks whole, and short.
 */
static void rot__below_what_the_buffer_has_then_a_cut(void **state)
{
    (void)state;
    struct tally tally = {0};
    struct rig rig = new_rig(24), image = new_rig(24);
    create(&rig);
    assert_int_equal(pheap_checkpoint(rig.heap), PHEAP_OK);
    for (unsigned i = 0; i < 5; i++)
        add_group(&rig);
    kill_process(&rig);
    free(image.book);
    image.book = rig.book;
    struct files files = save(&rig);
    struct map map = map_log(&files, EPOCH);
    for (unsigned r = 0; r < map.count; r++) {
        const struct found *record = &map.records[r];
        if (record->batch == 0 || record->batch + 1 == map.batches) /* before the checkpoint; nothing vouches for it */
            continue;
        load(&rig, &files);
        put_file(&rig, &files, 2);
        flip(&rig, &files, record->at + 80, r % 8);
        ph_sim_journal_restart(rig.sim);
        if (try_open(&rig, 0) == PH_OK)
            close_heap(&rig);
        ph_core_forget_mappings(ph_sim_io(rig.sim));
        struct ph_sim_cut *cut = ph_sim_cut_new(rig.sim);
        struct ph_sim_choice choice = {0};
        do {
            for (uint64_t i = 0; ph_sim_cut_before_io(cut) && choose(cut, i, r, &choice); i++) {
                make_image(cut, &choice, r, &image);
                expect_refused_or_commit(&image, rig.book->last, &tally, "rotten record", r);
            }
        } while (ph_sim_cut_next(cut));
        ph_sim_choice_deinit(&choice);
        ph_sim_cut_free(cut);
        files.bytes[1][record->at + 80] ^= (uint8_t)(1u << r % 8);
    }
    print_tally("below what the buffer has", &tally);
    assert_true(tally.refused > 10 && tally.cut == 0);
    image.book = NULL;
    free_files(&files);
    free_rig(&image);
    free_rig(&rig);
}

/* Notes in the journal: the commit that no single rotten sector can take any more. */
#define NOTE_CERTAIN 1u

static uint64_t word_at(const uint8_t *bytes)
{
    uint64_t word;
    memcpy(&word, bytes, sizeof word);
    return word;
}

/* One sector in `every` of the log's that hold something rots, by itself, in the machine after that cut. */
static void rot_sectors(struct ph_sim_cut *cut, const struct ph_sim_choice *choice, struct rig *image, uint64_t *dice,
                        uint64_t every, struct tally *tally)
{
    static uint8_t log[PH_LOG_SEGMENTS + 20 * SEGMENT];
    const uint64_t position = ph_sim_cut_position(cut), seed = dice_roll(dice);
    make_image(cut, choice, seed, image);
    const int64_t length = ph_sim_peek(image->sim, WAL, log, sizeof log, 0);
    for (int64_t at = PH_LOG_SEGMENTS; at + 512 <= length; at += 512) {
        if (word_at(log + at) == 0 || dice_roll(dice) % every != 0)
            continue;
        const uint64_t bit = dice_roll(dice) % 4096, place = (uint64_t)at + bit / 8;
        const uint8_t wrong = log[place] ^ (uint8_t)(1u << bit % 8);
        make_image(cut, choice, seed, image);
        (void)ph_sim_poke(image->sim, WAL, &wrong, 1, place);
        expect_refused_or_commit(image, ph_sim_cut_note(cut, NOTE_CERTAIN), tally, "position", position);
    }
}

/* Cut what the machine has journaled everywhere, and let rot follow; none if `every` is 0. */
static void cut_and_rot(struct rig *rig, uint64_t every, struct tally *tally)
{
    struct rig image = {.sim = ph_sim_new(&(struct ph_sim_options){.no_journal = true}), .book = rig->book};
    struct ph_sim_cut *cut = ph_sim_cut_new(rig->sim);
    struct ph_sim_choice choice = {0};
    uint64_t dice = rig->book->seed;
    do {
        for (uint64_t i = 0; ph_sim_cut_before_io(cut) && choose(cut, i, dice, &choice); i++) {
            if (every != 0) {
                rot_sectors(cut, &choice, &image, &dice, every, tally);
                continue;
            }
            make_image(cut, &choice, dice_roll(&dice), &image);
            expect_refused_or_commit(&image, ph_sim_cut_note(cut, NOTE_CERTAIN), tally, "position",
                                     ph_sim_cut_position(cut));
        }
    } while (ph_sim_cut_next(cut));
    ph_sim_choice_deinit(&choice);
    ph_sim_cut_free(cut);
    ph_core_forget_mappings(ph_sim_io(image.sim));
    ph_sim_free(image.sim);
}

/* Catches: a fold that writes before what tells how far the log was durable is itself durable. */
static void rot__after_a_cut_anywhere(void **state)
{
    (void)state;
    struct tally tally = {0};
    struct rig rig = {.sim = ph_sim_new(NULL), .book = new_book(25)};
    uint64_t dice = 25;
    create(&rig);
    assert_int_equal(pheap_checkpoint(rig.heap), PHEAP_OK);
    ph_sim_journal_restart(rig.sim);
    for (unsigned i = 0; i < 24; i++) {
        const uint64_t before = rig.book->last;
        commit(&rig, 40 + dice_roll(&dice) % 100 * 8, PHEAP_LAZY);
        commit(&rig, 40, dice_roll(&dice) % 2 == 0 ? PHEAP_DURABLE : PHEAP_LAZY);
        assert_int_equal(pheap_sync(rig.heap), PHEAP_OK);
        ph_sim_note(rig.sim, NOTE_CERTAIN, before);
        uint64_t what = dice_roll(&dice) % 8;
        if (what > 3)
            continue;
        assert_int_equal(what == 0 ? pheap_checkpoint(rig.heap) : pheap_fold(rig.heap), PHEAP_OK);
        ph_sim_note(rig.sim, NOTE_CERTAIN, rig.book->last);
    }
    close_heap(&rig);
    cut_and_rot(&rig, 6, &tally);
    print_tally("after a cut anywhere", &tally);
    assert_true(tally.refused > 1000 && tally.cut > 100 && tally.last > 100);
    free_rig(&rig);
}

/* Catches: the same in recovery, which folds the last flush too, and what it found in the buffer. */
static void rot__after_a_cut_in_recovery(void **state)
{
    (void)state;
    struct tally tally = {0};
    for (unsigned torn = 0; torn < 2; torn++) {
        struct rig rig = {.sim = ph_sim_new(NULL), .book = new_book(26)};
        create(&rig);
        commit(&rig, 3000, PHEAP_DURABLE);
        assert_int_equal(pheap_checkpoint(rig.heap), PHEAP_OK);
        for (unsigned i = 0; i < 3; i++)
            commit(&rig, 3000, PHEAP_DURABLE);
        const uint64_t certain = rig.book->last - 1;
        commit(&rig, 400, PHEAP_LAZY); /* in the buffer only */
        kill_process(&rig);
        struct files files = save(&rig);
        struct map map = map_log(&files, EPOCH);
        if (torn != 0) /* the buffer makes that good */
            flip(&rig, &files, map.records[map.count - 1].at + 2000, 1);
        ph_sim_journal_restart(rig.sim);
        ph_sim_note(rig.sim, NOTE_CERTAIN, certain);
        assert_int_equal(try_open(&rig, 0), PH_OK);
        assert_int_equal(which_commit(&rig, rig.book), rig.book->last);
        close_heap(&rig);
        cut_and_rot(&rig, 1, &tally);
        free_files(&files);
        free_rig(&rig);
    }
    print_tally("after a cut in recovery", &tally);
    assert_true(tally.refused > 1000 && tally.cut > 100 && tally.last > 100);
}

/*
 * Catches: a superblock that recovery writes to vouch for a log whose header may not be on stable storage.  The process
 * that was beginning an epoch is killed when it has written that header, or anything else, and could not sync it; it is
 * recovered; and then the power fails.  No sector rots here, and nothing may be refused.
 */
static void cut__after_recovery_of_an_epoch_hardly_begun(void **state)
{
    (void)state;
    struct tally tally = {0};
    bool struck = true;
    for (uint64_t turn = 0; struck || turn % 4 != 0;
         turn++) { /* what a failed write leaves in the cache is up to dice */
        struct rig rig = {.sim = ph_sim_new(&(struct ph_sim_options){.seed = turn}), .book = new_book(27)};
        pheap_txn *txn;
        create(&rig);
        commit(&rig, 40, PHEAP_DURABLE);
        close_heap(&rig);
        ph_sim_journal_restart(rig.sim);
        ph_sim_note(rig.sim, NOTE_CERTAIN, rig.book->last);
        assert_int_equal(try_open(&rig, 0), PH_OK);
        ph_sim_fail_at(rig.sim, PH_SIM_SYNC, 1 + turn / 4, EIO, PH_SIM_FOREVER);
        enum pheap_status status = pheap_begin(rig.heap, &txn);
        struck = ph_sim_struck(rig.sim) > 0;
        assert_int_equal(struck, status != PHEAP_OK);
        ph_sim_fail_clear(rig.sim);
        kill_process(&rig);
        assert_int_equal(try_open(&rig, 0), PH_OK);
        assert_int_equal(which_commit(&rig, rig.book), rig.book->last);
        close_heap(&rig);
        cut_and_rot(&rig, 0, &tally);
        free_rig(&rig);
    }
    print_tally("an epoch hardly begun", &tally);
    assert_true(tally.refused == 0 && tally.cut == 0 && tally.last > 50);
}

int main(int argc, char **argv)
{
    if (argc > 1)
        cmocka_set_test_filter(argv[1]);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(rot__of_the_last_flush_after_a_fold),
        cmocka_unit_test(rot__after_a_fold_and_another_flush),
        cmocka_unit_test(rot__after_a_fold_up_to_a_pin),
        cmocka_unit_test(rot__below_what_the_buffer_has_then_a_cut),
        cmocka_unit_test(rot__after_a_cut_anywhere),
        cmocka_unit_test(rot__after_a_cut_in_recovery),
        cmocka_unit_test(cut__after_recovery_of_an_epoch_hardly_begun),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
