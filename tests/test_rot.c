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

static void add_group(struct rig *rig)
{
    for (unsigned i = 0; i < GROUP; i++)
        commit(rig, 40, PHEAP_LAZY);
    assert_int_equal(pheap_sync(rig->heap), PHEAP_OK);
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

int main(int argc, char **argv)
{
    if (argc > 1)
        cmocka_set_test_filter(argv[1]);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(rot__below_what_the_buffer_has_then_a_cut),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
