/* SPDX-License-Identifier: MIT */
/* The file of the page checksums: lost, foreign, replaced, filled anew, closed, and kept by backup and salvage. */
#include "tests/sums_rig.h"
#include "tests/support/effort.h"

/* ------------------------------------------------------------------------------------------------- files that are lost */

/* Catches: sums of another state of the heap, or of another heap, believed. */
static void sums__of_another_state_are_not_believed(void **state)
{
    (void)state;
    struct machine machine;
    machine_begin(&machine, NULL);
    pheap *heap = create_filled(machine.first);
    ok(pheap_close(heap));
    struct copy old_heap = take(machine.sim, HEAP), old_log = take(machine.sim, LOG), old_sums = take(machine.sim, SUM);
    heap = open_sums(machine.first, HEAP, 0);
    commit_word(heap, 5, 5, PHEAP_DURABLE);
    ok(pheap_close(heap));
    struct copy sums = take(machine.sim, SUM);

    put(machine.sim, SUM, &old_sums); /* older sums */
    expect_forgotten(machine.first, 0);

    put(machine.sim, SUM, &sums);
    put(machine.sim, HEAP, &old_heap); /* an older heap */
    put(machine.sim, LOG, &old_log);
    expect_forgotten(machine.first, 0);

    heap = open_sums(machine.first, "d/other", PHEAP_CREATE); /* another heap's */
    (void)make_root(heap, WORDS);
    ok(pheap_close(heap));
    struct copy others = take(machine.sim, "d/other-sum");
    put(machine.sim, SUM, &others);
    expect_forgotten(machine.first, 0);

    (void)ph_sim_remove(machine.sim, SUM); /* none */
    expect_forgotten(machine.first, PHEAP_READONLY);
    machine_end(&machine);
}

/* Damage the log in the batch before its last one. */
static void damage_log(struct ph_sim *sim, struct copy *log)
{
    struct ph_batch_header batches[2] = {{0}}, batch;
    int64_t at[2] = {0};
    for (int64_t offset = PH_LOG_SEGMENTS; offset + 512 <= log->size; offset += 512) {
        memcpy(&batch, log->bytes + offset, sizeof batch);
        if (batch.magic != PH_BATCH_MAGIC || batch.lsn <= batches[1].lsn)
            continue;
        batches[0] = batches[1];
        at[0] = at[1];
        batches[1] = batch;
        at[1] = offset;
    }
    require(at[0] != 0);
    log->bytes[at[0] + 100] ^= 1;
    put(sim, LOG, log);
}

/* Catches: a heap that is refused, beside which the sums are made or emptied all the same. */
static void sums__of_a_heap_that_is_refused(void **state)
{
    (void)state;
    struct machine machine;
    machine_begin(&machine, NULL);
    pheap *heap = create_filled(machine.first);
    ok(pheap_close(heap));
    struct copy old_sums = take(machine.sim, SUM), left = {.bytes = NULL};
    heap = open_sums(machine.first, HEAP, 0);
    commit_word(heap, 1, 1, PHEAP_DURABLE);
    ok(pheap_checkpoint(heap));
    for (uint64_t i = 0; i < 3; i++)
        commit_word(heap, i, i + 100, PHEAP_DURABLE);
    struct copy file = take(machine.sim, HEAP), log = take(machine.sim, LOG);
    ok(pheap_close(heap));
    put(machine.sim, HEAP, &file);
    damage_log(machine.sim, &log);
    (void)ph_sim_remove(machine.sim, SUM);
    expect_detail(PHEAP_CORRUPT, "damaged", machine_try(machine.first, 0, &heap));
    require(ph_sim_size(machine.sim, SUM) < 0);
    struct copy again = {.bytes = malloc((size_t)old_sums.size), .size = old_sums.size};
    memcpy(again.bytes, old_sums.bytes, (size_t)old_sums.size);
    put(machine.sim, SUM, &again);
    expect_detail(PHEAP_CORRUPT, "damaged", machine_try(machine.first, 0, &heap));
    left = take(machine.sim, SUM);
    require(left.size == old_sums.size && memcmp(left.bytes, old_sums.bytes, (size_t)left.size) == 0);
    free(left.bytes);
    free(old_sums.bytes);
    machine_end(&machine);
}

/* Catches: a filled heap that still does not know its pages, or takes what is not zero for one of them. */
static void fill__gives_every_page_a_checksum(void **state)
{
    (void)state;
    struct machine machine;
    struct report report;
    machine_begin(&machine, NULL);
    pheap *heap = create_filled(machine.first);
    ok(pheap_close(heap));
    (void)ph_sim_remove(machine.sim, SUM);
    heap = open_sums(machine.first, HEAP, 0);
    uint64_t unknown = unknown_pages(heap);
    commit_word(heap, 5, 5, PHEAP_DURABLE);
    ok(pheap_checkpoint(heap));
    require_equal(unknown_pages(heap), unknown - 1); /* a page that changes gets one */
    ok(scrub(heap, PHEAP_SCRUB_FILL, &report));
    require_equal(report.result.filled_pages, unknown - 1);
    require_equal(report.result.unknown_pages, 0);
    expect_clean(heap, 0);
    ok(pheap_close(heap));
    heap = open_sums(machine.first, HEAP, 0);
    expect_clean(heap, 0);
    const uint64_t last = heap_info(heap).heap_bytes - 4096;
    expect_flip_found(machine.sim, heap, HEAP, last, 1, last, "nothing was ever written");
    ok(scrub(heap, PHEAP_SCRUB_FILL, &report));
    require_equal(report.result.filled_pages, 0);
    ok(pheap_close(heap));
    machine_end(&machine);
}

/* A commit between two pieces of a scrub. */
static int commit_meanwhile(void *context, const char *what, uint64_t done, uint64_t total)
{
    (void)what;
    (void)total;
    commit_word(context, 7, done, PHEAP_LAZY);
    return 0;
}

/* Catches: a checkpoint for each few pages that have no checksum, whether they are filled or not. */
static void scrub__of_unknown_pages_makes_no_checkpoints(void **state)
{
    (void)state;
    struct machine machine;
    machine_begin(&machine, NULL);
    pheap *heap = create_filled(machine.first);
    pheap_txn *txn = begin(heap);
    uint64_t block;
    ok(pheap_alloc(txn, 1u << 20, &block));
    ok(pheap_fill(txn, block, 'x', 1u << 20));
    ok(pheap_commit(txn, PHEAP_DURABLE, NULL));
    ok(pheap_close(heap));
    (void)ph_sim_remove(machine.sim, SUM);
    heap = open_sums(machine.first, HEAP, 0);
    commit_word(heap, 5, 5, PHEAP_DURABLE);
    for (uint32_t flags = 0; flags <= PHEAP_SCRUB_FILL; flags++) {
        const struct pheap_scrub_options options = {
            .size = sizeof options, .flags = flags, .progress = commit_meanwhile, .context = heap};
        struct pheap_scrub_result result = {.size = sizeof result};
        const uint64_t checkpoint = heap_info(heap).checkpoint_lsn;
        ok(pheap_scrub(heap, &options, &result));
        require((flags == 0 ? result.unknown_pages : result.filled_pages) > 256);
        require_equal(heap_info(heap).checkpoint_lsn, checkpoint);
    }
    expect_clean(heap, 0);
    ok(pheap_close(heap));
    machine_end(&machine);
}

/* Catches: an opening that reads a heap of any size because its superblock says that it is new. */
static void sums__of_a_huge_heap_that_says_it_is_new(void **state)
{
    (void)state;
    struct machine machine;
    machine_begin(&machine, NULL);
    pheap *heap = open_sums(machine.first, HEAP, PHEAP_CREATE);
    ok(pheap_close(heap));
    const uint64_t before = ph_sim_calls(machine.sim, PH_SIM_READ);
    for (uint64_t copy = 0; copy < 2; copy++) {
        struct ph_superblock s;
        (void)ph_sim_peek(machine.sim, HEAP, &s, sizeof s, PH_SUPERBLOCK_OFFSET(copy));
        s.heap_bytes = UINT64_C(1) << 30;
        s.identity[0] ^= 1;
        ph_superblock_seal(&s);
        (void)ph_sim_poke(machine.sim, HEAP, &s, sizeof s, PH_SUPERBLOCK_OFFSET(copy));
    }
    require_equal(ph_sim_set_size(machine.sim, HEAP, UINT64_C(1) << 30), 0);
    struct pheap_options options = small_options();
    options.reserve_bytes = UINT64_C(1) << 31;
    enum pheap_status status = (enum pheap_status)ph_open_io(machine.first, HEAP, 0, &options, &heap);
    require(ph_sim_calls(machine.sim, PH_SIM_READ) - before < 100);
    if (status == PHEAP_OK)
        ok(pheap_close(heap));
    machine_end(&machine);
}

/* Catches: damage that filling takes for good. */
static void fill__does_not_heal_damage(void **state)
{
    (void)state;
    struct machine machine;
    struct report report;
    machine_begin(&machine, NULL);
    pheap *heap = create_filled(machine.first);
    ok(pheap_checkpoint(heap));
    flip_at(machine.sim, HEAP, root_of(heap), 0);
    expect(PHEAP_CORRUPT, scrub(heap, PHEAP_SCRUB_FILL, &report));
    require_equal(report.result.damaged_pages, 1);
    expect(PHEAP_CORRUPT, scrub(heap, 0, &report));
    ok(pheap_close(heap));
    machine_end(&machine);
}

/*
 * Catches: a call of the system that fails in a scrub and is told as damage, or not told; sums that such a scrub leaves
 * wrong; and a failed sync of them after which the heap goes on as if nothing had been.
 */
static void fill__any_call_fails(void **state)
{
    (void)state;
    static const struct {
        unsigned ops;
        int error;
    } faults[] = {{PH_SIM_READ, EIO}, {PH_SIM_READ, ENOMEM}, {PH_SIM_WRITE, ENOSPC}, {PH_SIM_WRITE, EIO},
                  {PH_SIM_SYNC, EIO}, {PH_SIM_SYNC, ENOSPC}, {PH_SIM_MEMORY, ENOMEM}};
    const uint64_t possible =
        ONE_OF(PHEAP_OK) | ONE_OF(PHEAP_IO) | ONE_OF(PHEAP_NO_SPACE) | ONE_OF(PHEAP_NO_MEMORY) | ONE_OF(PHEAP_CORRUPT);
    unsigned struck[sizeof faults / sizeof faults[0]] = {0};
    for (size_t f = 0; f < sizeof faults / sizeof faults[0]; f++)
        for (uint64_t nth = 1;; nth++) {
            struct machine machine;
            struct report report;
            machine_begin(&machine, NULL);
            pheap *heap = create_filled(machine.first);
            ok(pheap_close(heap));
            (void)ph_sim_remove(machine.sim, SUM);
            heap = open_sums(machine.first, HEAP, 0);
            commit_word(heap, 1, 1, PHEAP_DURABLE);
            ph_sim_fail_at(machine.sim, faults[f].ops, nth, faults[f].error, PH_SIM_ONCE);
            enum pheap_status status = expect_one(possible, scrub(heap, PHEAP_SCRUB_FILL, &report));
            bool over = ph_sim_struck(machine.sim) == 0;
            ph_sim_fail_clear(machine.sim);
            require(report.faults == 0 || strstr(report.text, "cannot be read") != NULL);
            require((status == PHEAP_CORRUPT) == (report.faults != 0));
            require(!over || status == PHEAP_OK);
            struck[f] += !over;
            bool poisoned = heap_info(heap).poisoned != 0;
            require(poisoned || over || faults[f].ops != PH_SIM_SYNC || faults[f].error != EIO);
            require(!poisoned || ((faults[f].ops & (PH_SIM_SYNC | PH_SIM_WRITE)) != 0 && faults[f].error != ENOSPC));
            if (!poisoned) {
                ok(scrub(heap, PHEAP_SCRUB_FILL, &report));
                ok(pheap_close(heap));
            } else {
                expect_one(ONE_OF(PHEAP_POISONED) | ONE_OF(PHEAP_OK), pheap_close(heap));
            }
            heap = open_sums(machine.first, HEAP, 0);
            if (poisoned)
                ok(scrub(heap, PHEAP_SCRUB_FILL, &report));
            expect_clean(heap, 0);
            ok(pheap_close(heap));
            machine_end(&machine);
            if (over)
                break;
        }
    for (size_t f = 0; f < sizeof faults / sizeof faults[0]; f++)
        require(struck[f] > 0);
}

/* Catches: a process that writes sums to another file than those that are there. */
static void sums__replaced_while_in_use(void **state)
{
    (void)state;
    struct machine machine;
    machine_begin(&machine, NULL);
    pheap *heap = create_filled(machine.first), *other;
    const struct pheap_options options = small_options();
    struct copy sums = take(machine.sim, SUM);
    (void)ph_sim_remove(machine.sim, SUM);
    expect_detail(PHEAP_REPLACED, "-sum", (enum pheap_status)ph_open_io(&machine.second, HEAP, 0, &options, &other));
    put(machine.sim, SUM, &sums);
    expect_detail(PHEAP_REPLACED, "-sum", (enum pheap_status)ph_open_io(&machine.second, HEAP, 0, &options, &other));
    commit_word(heap, 1, 1, PHEAP_DURABLE);
    ok(pheap_close(heap));
    expect_forgotten(&machine.second, 0);
    machine_end(&machine);
}

/*
 * Catches: an old sum that survives under a new header when the power fails while a sums file is begun anew.
 */
static void sums__begun_anew_and_power_fails(void **state)
{
    (void)state;
    const struct ph_sim_options with_journal = {.seed = 5}, quiet = {.seed = 6, .no_journal = true};
    struct ph_sim *sim = ph_sim_new(&with_journal), *image = ph_sim_new(&quiet);
    pheap *heap = create_filled(ph_sim_io(sim));
    ok(pheap_close(heap));
    struct copy old_sums = take(sim, SUM);
    heap = open_sums(ph_sim_io(sim), HEAP, 0);
    for (uint64_t i = 0; i < WORDS; i++)
        commit_word(heap, i, i + 9, PHEAP_LAZY);
    ok(pheap_close(heap));
    put(sim, SUM, &old_sums);
    ph_sim_journal_restart(sim);
    expect_forgotten(ph_sim_io(sim), 0);

    struct ph_sim_cut *cut = ph_sim_cut_new(sim);
    struct ph_sim_choice choice = {.count = 0};
    uint64_t states = 0;
    do {
        uint64_t count = ph_sim_cut_states(cut), most = count < 300 ? count : 300;
        for (uint64_t i = 0; i < most; i++, states++) {
            if (count == most)
                ph_sim_cut_choose(cut, i, &choice);
            else
                ph_sim_cut_sample(cut, i, states, &choice);
            ph_sim_cut_image(cut, &choice, states, image);
            heap = open_sums(ph_sim_io(image), HEAP, 0);
            (void)unknown_pages(heap);
            ok(pheap_close(heap));
            ph_core_forget_mappings(ph_sim_io(image));
        }
    } while (ph_sim_cut_next(cut));
    require(states > 20);
    ph_sim_choice_deinit(&choice);
    ph_sim_cut_free(cut);
    ph_core_forget_mappings(ph_sim_io(sim));
    ph_sim_free(image);
    ph_sim_free(sim);
}

/* ------------------------------------------------------------------------------------------------------------- others */

/* Catches: the sums of a heap that is gone beside the one that has replaced it, and a backup or salvage after which the
 * heap is without checksums. */
static void sums__go_with_backup_and_replacement(void **state)
{
    (void)state;
    struct pheap_options options = small_options();
    options.checksums = 1;
    pheap *heap;
    struct report report;
    ok(pheap_open(path_of("source", ""), PHEAP_CREATE, &options, &heap));
    (void)make_root(heap, WORDS);
    ok(pheap_backup(heap, path_of("archive", ""), NULL, NULL));
    ok(pheap_close(heap));
    const struct pheap_restore_options replace = {.size = sizeof replace, .flags = PHEAP_REPLACE};
    ok(pheap_restore(path_of("archive", ""), path_of("source", ""), &replace, NULL));
    require(access(path_of("source", "-sum"), F_OK) != 0); /* that of the heap that is gone */
    heap = open_heap(path_of("source", ""));
    require(unknown_pages(heap) > 0);
    ok(scrub(heap, PHEAP_SCRUB_FILL, &report));
    expect_clean(heap, 0);
    ok(pheap_close(heap));
    ok(pheap_salvage(path_of("source", ""), path_of("salvaged", ""), NULL, NULL));
    heap = open_heap(path_of("salvaged", ""));
    (void)unknown_pages(heap);
    ok(pheap_close(heap));
}

/* Catches: commits taken though the program has closed the descriptor of the sums, so that no fold will ever succeed. */
static void sums__descriptor_closed_under_us(void **state)
{
    (void)state;
    struct pheap_options options = small_options();
    options.checksums = 1;
    pheap *heap;
    pheap_txn *txn;
    ok(pheap_open(path_of("closed", ""), PHEAP_CREATE, &options, &heap));
    (void)make_root(heap, WORDS);
    commit_word(heap, 1, 1, PHEAP_DURABLE);
    require_equal(close(heap->core->store.sums.handle), 0);
    pause_us(20000); /* the next tick of the clock: then begin looks at its files */
    expect_detail(PHEAP_IO, "descriptor", pheap_begin_timeout(heap, 1000, &txn));
    expect(PHEAP_IO, pheap_close(heap)); /* nothing can be folded */
    heap = open_heap(path_of("closed", ""));
    expect_clean(heap, 0);
    require_equal(fresh_word(heap, 1), 1);
    ok(pheap_close(heap));
}

static const ph_io *real;

static int open_read_only(void *ctx, const char *path, unsigned flags, uint32_t mode)
{
    return (flags & PH_OPEN_WRITE) != 0 ? -EACCES : real->open(ctx, path, flags, mode);
}

/* Catches: a reader that may write nothing kept from a heap whose sums it cannot use. */
static void sums__of_a_heap_that_may_only_be_read(void **state)
{
    (void)state;
    struct machine machine;
    struct report report;
    machine_begin(&machine, NULL);
    real = machine.first;
    machine.second.open = open_read_only;
    pheap *heap = create_filled(machine.first);
    ok(pheap_close(heap));
    heap = open_sums(&machine.second, HEAP, PHEAP_READONLY);
    expect_clean(heap, 0);
    flip_at(machine.sim, HEAP, root_of(heap), 0);
    expect(PHEAP_CORRUPT, scrub(heap, 0, &report));
    ok(pheap_close(heap));
    (void)ph_sim_remove(machine.sim, SUM);
    heap = open_sums(&machine.second, HEAP, PHEAP_READONLY);
    expect_detail(PHEAP_UNSUPPORTED, "-sum", scrub(heap, 0, &report));
    ok(pheap_close(heap));
    require(ph_sim_size(machine.sim, SUM) < 0);
    machine_end(&machine);
}

int main(int argc, char **argv)
{
    choose_cases(argc, argv);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sums__of_another_state_are_not_believed),
        cmocka_unit_test(sums__of_a_heap_that_is_refused),
        cmocka_unit_test(fill__gives_every_page_a_checksum),
        cmocka_unit_test(scrub__of_unknown_pages_makes_no_checkpoints),
        cmocka_unit_test(sums__of_a_huge_heap_that_says_it_is_new),
        cmocka_unit_test(fill__does_not_heal_damage),
        cmocka_unit_test(fill__any_call_fails),
        cmocka_unit_test(sums__replaced_while_in_use),
        cmocka_unit_test(sums__begun_anew_and_power_fails),
        cmocka_unit_test(sums__go_with_backup_and_replacement),
        cmocka_unit_test(sums__descriptor_closed_under_us),
        cmocka_unit_test(sums__of_a_heap_that_may_only_be_read),
    };
    return cmocka_run_group_tests(tests, make_test_directory, remove_test_directory);
}
