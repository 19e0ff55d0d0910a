/* SPDX-License-Identifier: MIT */
/*
 * The file of the page checksums: lost, foreign, replaced, filled anew, closed, and kept by backup and salvage; and calls
 * that fail.
 */
#include "io/checksum.h"
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

/* --------------------------------------------------------------------------------------------- calls and fields that fail */

static void put_again(struct ph_sim *sim, const char *path, const struct copy *copy)
{
    struct copy again = {.bytes = malloc((size_t)copy->size), .size = copy->size};
    require(again.bytes != NULL);
    memcpy(again.bytes, copy->bytes, (size_t)copy->size);
    put(sim, path, &again);
}

/* Catches: a field of the header that nobody looks at: sums of another format, heap or state believed; and sums thrown away
 * that are good for the checkpoint before, or for the one that was to come. */
static void sums__any_field_of_the_header(void **state)
{
    (void)state;
    enum { LSN = 1, CHAIN = 2, NEXT_LSN = 4, NEXT_CHAIN = 8, MAGIC = 16, ORDER = 32, VERSION = 64, IDENTITY = 128 };
    static const struct {
        unsigned wrong;
        bool believed;
    } rows[] = {{0, true},
                {LSN, true},
                {CHAIN, true},
                {NEXT_LSN, true},
                {NEXT_CHAIN, true},
                {LSN | CHAIN, true},
                {LSN | NEXT_LSN, false},
                {CHAIN | NEXT_CHAIN, false},
                {LSN | NEXT_CHAIN, false},
                {CHAIN | NEXT_LSN, false},
                {MAGIC, false},
                {ORDER, false},
                {VERSION, false},
                {IDENTITY, false}};
    struct machine machine;
    machine_begin(&machine, NULL);
    pheap *heap = create_filled(machine.first);
    ok(pheap_close(heap));
    struct copy heap_file = take(machine.sim, HEAP), log = take(machine.sim, LOG), sums = take(machine.sim, SUM);
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct ph_sums_header header;
        memcpy(&header, sums.bytes, sizeof header);
        header.lsn += (rows[i].wrong & LSN) != 0;
        header.chain += (rows[i].wrong & CHAIN) != 0;
        header.next_lsn += (rows[i].wrong & NEXT_LSN) != 0;
        header.next_chain += (rows[i].wrong & NEXT_CHAIN) != 0;
        header.magic[3] ^= (rows[i].wrong & MAGIC) != 0;
        header.byte_order ^= (rows[i].wrong & ORDER) != 0;
        header.format_version += (rows[i].wrong & VERSION) != 0;
        header.identity[7] ^= (rows[i].wrong & IDENTITY) != 0;
        header.checksum = ph_checksum(&header, offsetof(struct ph_sums_header, checksum));
        put_again(machine.sim, HEAP, &heap_file);
        put_again(machine.sim, LOG, &log);
        put_again(machine.sim, SUM, &sums);
        require_equal(ph_sim_poke(machine.sim, SUM, &header, sizeof header, 0), sizeof header);
        if (!rows[i].believed) {
            expect_forgotten(machine.first, 0);
            continue;
        }
        heap = open_sums(machine.first, HEAP, 0);
        expect_clean(heap, 0);
        ok(pheap_close(heap));
    }
    free(heap_file.bytes);
    free(log.bytes);
    free(sums.bytes);
    machine_end(&machine);
}

static const struct {
    unsigned ops;
    int error;
} any_faults[] = {{PH_SIM_ANY & ~(unsigned)PH_SIM_UNLINK, EIO},
                  {PH_SIM_READ, ENOMEM},
                  {PH_SIM_WRITE | PH_SIM_SYNC | PH_SIM_TRUNCATE, ENOSPC}};
#define ANY_FAULTS (sizeof any_faults / sizeof any_faults[0])

enum opening { CREATES, BEGINS_ANEW, JOINS, ONLY_READS, OPENINGS };

/* Catches: a heap that is opened though its sums could not be made or read, and then has pages that pass for damaged, or
 * for known; one that is never opened again. */
static void open__with_sums_when_any_call_fails(void **state)
{
    (void)state;
    unsigned struck[OPENINGS] = {0};
    for (int opening = 0; opening < OPENINGS; opening++)
        for (size_t f = 0; f < ANY_FAULTS; f++)
            for (uint64_t nth = 1;; nth++) {
                struct machine machine;
                struct report report;
                struct pheap_options options = small_options();
                pheap *heap = NULL, *user = NULL;
                options.checksums = 1;
                machine_begin(&machine, NULL);
                if (opening != CREATES)
                    user = create_filled(machine.first);
                if (opening == BEGINS_ANEW || opening == ONLY_READS) {
                    ok(pheap_close(user));
                    user = NULL;
                }
                if (opening == BEGINS_ANEW)
                    (void)ph_sim_remove(machine.sim, SUM);
                real = machine.first;
                if (opening == ONLY_READS)
                    machine.second.open = open_read_only;
                const unsigned flags = opening == CREATES ? PHEAP_CREATE : opening == ONLY_READS ? PHEAP_READONLY : 0;
                ph_sim_fail_at(machine.sim, any_faults[f].ops, nth, any_faults[f].error, PH_SIM_ONCE);
                enum pheap_status status = (enum pheap_status)ph_open_io(&machine.second, HEAP, flags, &options, &heap);
                const bool over = ph_sim_struck(machine.sim) == 0;
                ph_sim_fail_clear(machine.sim);
                require(status == PHEAP_OK || (!over && pheap_error_detail()[0] != 0));
                struck[opening] += status != PHEAP_OK;
                if (status == PHEAP_OK) {
                    status = scrub(heap, 0, &report); /* a reader does without the sums that it could not read */
                    require(status == PHEAP_OK || (opening == ONLY_READS && status == PHEAP_UNSUPPORTED && !over));
                    require_equal(report.faults, 0);
                    ok(pheap_close(heap));
                }
                if (user != NULL)
                    ok(pheap_close(user));
                heap = open_sums(machine.first, HEAP, opening == CREATES ? PHEAP_CREATE : 0);
                if (opening == BEGINS_ANEW)
                    (void)unknown_pages(heap);
                else
                    expect_clean(heap, 0);
                ok(pheap_close(heap));
                machine_end(&machine);
                if (over)
                    break;
            }
    for (int opening = 0; opening < OPENINGS; opening++)
        require(struck[opening] > 3);
}

/* A heap whose sums stand in two blocks, with changes in the pages of each that no fold has seen. */
static pheap *create_wide(const ph_io *io)
{
    uint64_t block;
    pheap *heap = create_filled(io);
    pheap_txn *txn = begin(heap);
    ok(pheap_zalloc(txn, 3u << 20, &block));
    ok(pheap_commit(txn, PHEAP_DURABLE, NULL));
    ok(pheap_checkpoint(heap));
    for (uint64_t value = 1; value < 4; value++) {
        txn = begin(heap);
        for (uint64_t at = 0; at < 3u << 20; at += 700u << 10)
            ok(pheap_write(txn, block + at, &value, sizeof value));
        ok(pheap_commit(txn, PHEAP_LAZY, NULL));
    }
    return heap;
}

/* Catches: a fold or checkpoint that goes on when a sum was not read or written, after which a sound page passes for
 * damaged; sums of the wrong checkpoint believed after a death. */
static void checkpoint__with_sums_when_any_call_fails(void **state)
{
    (void)state;
    unsigned struck = 0;
    for (size_t f = 0; f < 2 * ANY_FAULTS; f++)
        for (uint64_t nth = 1;; nth++) {
            struct machine machine;
            machine_begin(&machine, NULL);
            pheap *heap = create_wide(machine.first);
            if (f >= ANY_FAULTS) { /* a sync that nobody judged: everything is folded again */
                ok(pheap_fold(heap));
                atomic_store(&heap->core->coord->sync_in_progress, 1);
            }
            ph_sim_fail_at(machine.sim, any_faults[f % ANY_FAULTS].ops, nth, any_faults[f % ANY_FAULTS].error,
                           PH_SIM_ONCE);
            const enum pheap_status status = pheap_checkpoint(heap);
            const bool over = ph_sim_struck(machine.sim) == 0;
            ph_sim_fail_clear(machine.sim);
            require(!over || status == PHEAP_OK);
            struck += status != PHEAP_OK;
            if (heap_info(heap).poisoned == 0) {
                if (nth % 2 == 0) {
                    ok(pheap_checkpoint(heap));
                    atomic_store(&heap->core->coord->sync_in_progress, 1); /* and nothing is left to be folded again */
                    ok(pheap_checkpoint(heap));
                }
                expect_clean(heap, 0);
                ok(pheap_close(heap));
            } else {
                expect(PHEAP_POISONED, pheap_close(heap));
            }
            heap = open_sums(machine.first, HEAP, 0);
            expect_clean(heap, 0);
            ok(pheap_close(heap));
            machine_end(&machine);
            if (over)
                break;
        }
    require(struck > 10);
}

/* Catches: a scrub that finds nothing because a call failed on the way to the damage, or finds more than there is. */
static void scrub__of_damage_when_any_call_fails(void **state)
{
    (void)state;
    unsigned struck = 0;
    for (size_t f = 0; f < ANY_FAULTS; f++)
        for (uint64_t nth = 1;; nth++) {
            struct machine machine;
            struct report report;
            machine_begin(&machine, NULL);
            pheap *heap = create_filled(machine.first);
            ok(pheap_checkpoint(heap));
            commit_word(heap, WORDS - 1, nth, PHEAP_LAZY);
            const uint64_t bad = root_of(heap) + 4096;
            flip_at(machine.sim, HEAP, bad, 3);
            ph_sim_fail_at(machine.sim, any_faults[f].ops, nth, any_faults[f].error, PH_SIM_ONCE);
            const enum pheap_status status = scrub(heap, 0, &report);
            const bool over = ph_sim_struck(machine.sim) == 0;
            ph_sim_fail_clear(machine.sim);
            require(status != PHEAP_OK && (!over || status == PHEAP_CORRUPT));
            require(status != PHEAP_CORRUPT || report.faults > 0);
            struck += status != PHEAP_CORRUPT;
            if (heap_info(heap).poisoned == 0) {
                expect_damage(heap, bad & ~UINT64_C(4095), "does not match its checksum");
                ok(pheap_close(heap));
            } else {
                expect(PHEAP_POISONED, scrub(heap, 0, &report)); /* no page is judged by what a failed sync has left */
                require_equal(report.faults, 0);
                expect(PHEAP_POISONED, pheap_close(heap));
            }
            heap = open_sums(machine.first, HEAP, 0);
            expect_damage(heap, bad & ~UINT64_C(4095), "does not match its checksum");
            ok(pheap_close(heap));
            machine_end(&machine);
            if (over)
                break;
        }
    require(struck > 5);
}

static int rot_header(void *context, const char *what, uint64_t done, uint64_t total)
{
    (void)what;
    if (done == total)
        flip_at(context, SUM, 40, 0);
    return 0;
}

static int stop(void *context, const char *what, uint64_t done, uint64_t total)
{
    (void)context;
    (void)what;
    (void)done;
    (void)total;
    return 1;
}

/* Catches: pages filled, or judged, without the lock that keeps folds out; a header that has rotted called complete; a scrub
 * that does not stop. */
static void fill__without_lock_or_header(void **state)
{
    (void)state;
    struct machine machine;
    struct report report;
    machine_begin(&machine, NULL);
    pheap *heap = create_wide(machine.first);
    ok(pheap_close(heap));
    (void)ph_sim_remove(machine.sim, SUM);
    heap = open_sums(machine.first, HEAP, 0);
    const uint64_t unknown = unknown_pages(heap);
    struct ph_mutex *lock = &heap->core->coord->fold_lock;
    spoil_lock(lock);
    expect_detail(PHEAP_CORRUPT, "fold lock", scrub(heap, PHEAP_SCRUB_FILL, &report));
    repair_lock(lock);
    struct pheap_scrub_options options = {.size = sizeof options, .flags = PHEAP_SCRUB_FILL, .progress = stop};
    expect_detail(PHEAP_BUSY, "stopped", pheap_scrub(heap, &options, NULL));
    require(unknown_pages(heap) < unknown);
    options.progress = rot_header;
    options.context = machine.sim;
    ok(pheap_scrub(heap, &options, NULL));
    require_equal(unknown_pages(heap), 0);
    spoil_lock(lock); /* nothing is left to fill, but to be called complete */
    expect_detail(PHEAP_CORRUPT, "fold lock", scrub(heap, PHEAP_SCRUB_FILL, &report));
    repair_lock(lock);
    ok(pheap_close(heap));
    expect_forgotten(machine.first, 0);
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
        cmocka_unit_test(sums__any_field_of_the_header),
        cmocka_unit_test(open__with_sums_when_any_call_fails),
        cmocka_unit_test(checkpoint__with_sums_when_any_call_fails),
        cmocka_unit_test(scrub__of_damage_when_any_call_fails),
        cmocka_unit_test(fill__without_lock_or_header),
    };
    return cmocka_run_group_tests(tests, make_test_directory, remove_test_directory);
}
