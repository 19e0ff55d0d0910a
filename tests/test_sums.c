/* SPDX-License-Identifier: MIT */
/*
 * Page checksums and the scrub: what it finds, and that it never takes a sound page for a damaged one, whatever happened
 * between two checkpoints.  What becomes of the sums' file is in test_sums_files; power cuts and faults at every call are
 * the business of test_crash and test_faults, where half of the heaps have checksums.
 */
#include "io/checksum.h"
#include "tests/sums_rig.h"
#include "tests/support/effort.h"

#include <pthread.h>

/* Catches: a file that is not as docs/format.md has it; read by nothing but that text. */
static void format__is_as_described(void **state)
{
    (void)state;
    struct machine machine;
    machine_begin(&machine, NULL);
    pheap *heap = create_filled(machine.first);
    const uint64_t pages = heap_info(heap).heap_bytes / 4096;
    ok(pheap_close(heap));
    struct copy file = take(machine.sim, HEAP), sums = take(machine.sim, SUM);
    uint64_t copies[2][64], header[64], sum, found = 0;
    uint32_t flags, incompat[2];
    memcpy(copies[0], file.bytes, 512);
    memcpy(copies[1], file.bytes + 4096, 512);
    memcpy(header, sums.bytes, 512);
    memcpy(&flags, sums.bytes + 32, sizeof flags);
    const uint64_t *newest = copies[copies[1][6] > copies[0][6]];
    for (unsigned i = 0; i < 2; i++) {
        memcpy(&incompat[i], file.bytes + 4096 * i + 20, sizeof incompat[i]);
        require_equal(incompat[i], 1);
    }
    require(memcmp(header, "\x89phsum\r\n", 8) == 0);
    require_equal(header[1], UINT64_C(0x0000000101020304));
    require(header[2] == newest[4] && header[3] == newest[5]); /* identity */
    require_equal(flags, 1);
    require(header[5] == newest[8] && header[6] == newest[9]); /* checkpoint_lsn, checkpoint_chain */
    require(header[7] == newest[8] && header[8] == newest[9]);
    for (unsigned i = 9; i < 63; i++)
        require_equal(header[i], 0);
    require_equal(header[63], ph_checksum(header, 504));
    for (uint64_t page = 0; page < pages; page++) {
        uint64_t at = 4096 + 8 * page;
        sum = 0;
        if (at + 8 <= (uint64_t)sums.size)
            memcpy(&sum, sums.bytes + at, sizeof sum);
        uint64_t computed = ph_checksum(file.bytes + 4096 * page, 4096);
        bool zero = true;
        for (unsigned i = 0; i < 4096; i++)
            zero = zero && file.bytes[4096 * page + i] == 0;
        require(page < 2 ? sum == 0 : sum == (computed < 2 ? computed + 2 : computed) || (sum == 0 && zero));
        found += sum != 0;
    }
    require(found > 10);
    free(file.bytes);
    free(sums.bytes);
    machine_end(&machine);
}

/* ----------------------------------------------------------------------------------------------------- what it finds */

/* Catches: a page of the heap file that no checksum covers, or that is not named rightly. */
static void scrub__finds_flips_in_every_page(void **state)
{
    (void)state;
    struct machine machine;
    machine_begin(&machine, NULL);
    pheap *heap = create_filled(machine.first);
    ok(pheap_checkpoint(heap));
    expect_clean(heap, 0);
    const uint64_t root = root_of(heap), size = heap_info(heap).heap_bytes;
    char name[32];
    (void)snprintf(name, sizeof name, "block 0x%llx", (unsigned long long)root);
    for (uint64_t at = 8192; at < size; at += 173) { /* so that each page is met */
        bool in_root = at >= root && at < root + WORDS * 8;
        unsigned bit = (unsigned)(at / 3 % 8);
        /* Metadata that leads nowhere may name nothing, or something else. */
        const char *word = in_root ? name : "page";
        expect_flip_found(machine.sim, heap, HEAP, at, bit, at - at % 4096, word);
    }
    expect_clean(heap, 0);
    ok(pheap_close(heap));
    machine_end(&machine);
}

/* Catches: a checksum that is weak; each bit of one page of payload. */
static void scrub__finds_every_bit_of_a_page(void **state)
{
    (void)state;
    struct machine machine;
    machine_begin(&machine, NULL);
    pheap *heap = create_filled(machine.first);
    ok(pheap_checkpoint(heap));
    const uint64_t page = (root_of(heap) | 4095) + 1;
    for (uint64_t bit = 0; bit < 4096 * 8; bit += BIT_STEP) {
        expect_flip_found(machine.sim, heap, HEAP, page + bit / 8, (unsigned)(bit % 8), page, "does not match");
    }
    ok(pheap_close(heap));
    machine_end(&machine);
}

/* Catches: a page that should be a hole and is not, or the reverse; two pages that changed places. */
static void scrub__finds_lost_and_misplaced_pages(void **state)
{
    (void)state;
    static const uint8_t zeros[4096], letters[4096] = "x";
    uint8_t a[4096], b[4096];
    struct machine machine;
    machine_begin(&machine, NULL);
    pheap *heap = create_filled(machine.first);
    for (uint64_t i = 0; i < WORDS; i++)
        commit_word(heap, i, i + 1, PHEAP_LAZY);
    ok(pheap_close(heap));
    heap = open_sums(machine.first, HEAP, 0);
    const uint64_t page = (root_of(heap) | 4095) + 1, last = heap_info(heap).heap_bytes - 4096;
    (void)ph_sim_peek(machine.sim, HEAP, a, sizeof a, page);
    (void)ph_sim_peek(machine.sim, HEAP, b, sizeof b, page + 4096);
    (void)ph_sim_poke(machine.sim, HEAP, zeros, sizeof zeros, page);
    expect_damage(heap, page, "does not match");
    (void)ph_sim_poke(machine.sim, HEAP, b, sizeof b, page);
    (void)ph_sim_poke(machine.sim, HEAP, a, sizeof a, page + 4096);
    struct report report;
    expect(PHEAP_CORRUPT, scrub(heap, 0, &report));
    require_equal(report.result.damaged_pages, 2);
    (void)ph_sim_poke(machine.sim, HEAP, a, sizeof a, page);
    (void)ph_sim_poke(machine.sim, HEAP, b, sizeof b, page + 4096);
    (void)ph_sim_poke(machine.sim, HEAP, letters, sizeof letters, last);
    expect(PHEAP_CORRUPT, scrub(heap, 0, &report));
    require_equal(report.offset, last);
    (void)ph_sim_poke(machine.sim, HEAP, zeros, sizeof zeros, last);
    expect_clean(heap, 0);
    ok(pheap_close(heap));
    machine_end(&machine);
}

/* Catches: a page that grew with the heap and was written by nobody, which holds something all the same. */
static void scrub__finds_what_nobody_wrote(void **state)
{
    (void)state;
    struct machine machine;
    machine_begin(&machine, NULL);
    pheap *heap = create_filled(machine.first);
    pheap_txn *txn = begin(heap);
    uint64_t block;
    ok(pheap_zalloc(txn, 1u << 20, &block));
    ok(pheap_commit(txn, PHEAP_DURABLE, NULL));
    ok(pheap_checkpoint(heap));
    expect_clean(heap, 0);
    expect_flip_found(machine.sim, heap, HEAP, block + (512u << 10), 3, block + (512u << 10), "1048576 bytes");
    expect_clean(heap, 0);
    ok(pheap_close(heap));
    machine_end(&machine);
}

/* Catches: a rotten sum or header taken for the heap's damage elsewhere, or believed. */
static void scrub__of_a_rotten_sums_file(void **state)
{
    (void)state;
    struct machine machine;
    machine_begin(&machine, NULL);
    pheap *heap = create_filled(machine.first);
    ok(pheap_checkpoint(heap));
    for (uint64_t at = 2 * 8; at < 16 * 8; at++) {
        expect_flip_found(machine.sim, heap, SUM, PH_SUMS_START + at, at % 8, at / 8 * 4096, "page");
    }
    ok(pheap_close(heap));
    struct copy good = take(machine.sim, SUM);
    for (uint64_t at = 0; at < PH_SECTOR_BYTES; at++) {
        struct copy again = {.bytes = malloc((size_t)good.size), .size = good.size};
        memcpy(again.bytes, good.bytes, (size_t)good.size);
        again.bytes[at] ^= (uint8_t)(1u << at % 8);
        put(machine.sim, SUM, &again);
        expect_forgotten(machine.first, 0);
    }
    free(good.bytes);
    machine_end(&machine);
}

/* Catches: a size in the coordination file that is believed though the heap file is shorter. */
static void scrub__of_a_size_that_cannot_be(void **state)
{
    (void)state;
    struct machine machine;
    struct report report;
    machine_begin(&machine, NULL);
    pheap *heap = create_filled(machine.first);
    ok(pheap_checkpoint(heap));
    struct ph_coord *coord = heap->core->coord;
    const struct ph_fold_mark good[2] = {coord->fold_marks[0], coord->fold_marks[1]};
    const uint64_t sizes[] = {UINT64_C(1) << 60, PH_PAGE_BYTES};
    for (unsigned n = 0; n < 2; n++) {
        coord->fold_marks[0].heap_bytes = coord->fold_marks[1].heap_bytes = sizes[n];
        expect_detail(PHEAP_CORRUPT, "marks in the coordination file", scrub(heap, 0, &report));
        require_equal(report.faults, 0);
    }
    coord->fold_marks[0].lsn ^= UINT64_C(1) << 62; /* neither fits */
    coord->fold_marks[1].lsn ^= UINT64_C(1) << 62;
    expect_detail(PHEAP_CORRUPT, "marks in the coordination file", scrub(heap, 0, &report));
    memcpy(coord->fold_marks, good, sizeof good);
    expect_clean(heap, 0);
    ok(pheap_close(heap));
    machine_end(&machine);
}

/* Catches: damage that is forgotten because another part of its page was changed; and damage that stays for ever. */
static void damage__outlives_a_change_of_its_page(void **state)
{
    (void)state;
    struct machine machine;
    machine_begin(&machine, NULL);
    pheap *heap = create_filled(machine.first);
    for (uint64_t i = 0; i < WORDS; i++)
        commit_word(heap, i, i + 1, PHEAP_LAZY);
    ok(pheap_checkpoint(heap));
    const uint64_t root = root_of(heap), page = (root | 4095) + 1, first = (page - root) / 8;
    flip_at(machine.sim, HEAP, page + 100, 2);
    commit_word(heap, first + 400, 1, PHEAP_DURABLE);
    ok(pheap_checkpoint(heap));
    expect_damage(heap, page, "overwritten");
    for (uint64_t i = 0; i < 100; i++) /* many runs, so that the page is written whole */
        commit_word(heap, first + 40 + i * 2, 2, PHEAP_LAZY);
    ok(pheap_close(heap));
    heap = open_sums(machine.first, HEAP, 0);
    expect_damage(heap, page, "overwritten");
    pheap_txn *txn = begin(heap);
    for (uint64_t i = 0; i < 512; i++)
        put_word(txn, first + i, 77777 + i);
    ok(pheap_commit(txn, PHEAP_DURABLE, NULL));
    ok(pheap_checkpoint(heap));
    expect_clean(heap, 0);
    ok(pheap_close(heap));
    machine_end(&machine);
}

static void hold_up(bool half_way)
{
    struct machine machine;
    machine_begin(&machine, NULL);
    pheap *heap = create_filled(machine.first);
    for (uint64_t i = 0; i < WORDS; i++)
        commit_word(heap, i, i + 1, PHEAP_LAZY);
    ok(pheap_checkpoint(heap));
    const uint64_t root = root_of(heap), page = (root | 4095) + 1, first = (page - root) / 8;
    if (half_way)
        commit_word(heap, first + 500, 1, PHEAP_DURABLE);
    pheap_read *reader = read_begin(heap, 0);
    commit_word(heap, first + 600, 1, PHEAP_DURABLE);
    ok(pheap_fold(heap));
    pheap_read_end(reader);
    flip_at(machine.sim, HEAP, page + 100, 2);
    commit_word(heap, first + 400, 1, PHEAP_DURABLE);
    ok(pheap_checkpoint(heap));
    expect_damage(heap, page, "overwritten");
    ok(pheap_close(heap));
    machine_end(&machine);
}

/* Catches: a fold that a reader held up, at its beginning or half-way, taken for one that was left unfinished, so that the
 * next one heals damage. */
static void damage__outlives_a_fold_that_was_held_up(void **state)
{
    (void)state;
    hold_up(false);
    hold_up(true);
}

static const ph_io *real;
static int bad_handle;
static uint64_t bad_from, bad_to;

static int64_t read_badly(void *ctx, int handle, void *buffer, size_t length, uint64_t offset)
{
    if (handle == bad_handle && offset < bad_to && offset + length > bad_from)
        return -EIO;
    return real->read(ctx, handle, buffer, length, offset);
}

/* Catches: a page that the disk cannot read ends the scrub, or makes its neighbours bad. */
static void scrub__goes_on_behind_what_cannot_be_read(void **state)
{
    (void)state;
    struct machine machine;
    machine_begin(&machine, NULL);
    real = machine.first;
    machine.second.read = read_badly;
    bad_to = 0;
    pheap *heap = create_filled(&machine.second);
    ok(pheap_checkpoint(heap));
    expect_clean(heap, 0);
    bad_handle = heap->core->store.heap.handle;
    bad_from = (root_of(heap) | 4095) + 1;
    bad_to = bad_from + 4096;
    expect_damage(heap, bad_from, "cannot be read");
    flip_at(machine.sim, HEAP, bad_to, 1);
    struct report report;
    expect(PHEAP_CORRUPT, scrub(heap, 0, &report));
    require_equal(report.faults, 2);
    require(report.offset == bad_to &&
            strstr(report.text, "block") == NULL); /* what names them might not be readable */
    flip_at(machine.sim, HEAP, bad_to, 1);
    bad_handle = heap->core->store.sums.handle;
    bad_from = 4096;
    bad_to = 8192;
    expect_detail(PHEAP_IO, "-sum", scrub(heap, 0, &report));
    bad_to = 0;
    ok(pheap_close(heap));
    machine_end(&machine);
}

/* ------------------------------------------------------------------------------------------------- what is no damage */

/*
 * Catches: pages whose fold was not finished, because the folder failed or died, taken for damaged ones; by the scrub, and
 * by the next fold.
 */
static void unfinished__fold_is_no_damage(void **state)
{
    (void)state;
    static const int errors[] = {ENOSPC, EIO};
    unsigned struck = 0;
    for (unsigned mode = 0; mode < 4; mode++)
        for (uint64_t nth = 1 + mode % 2;; nth++) { /* a failure of the first write, of the superblock, poisons */
            struct machine machine;
            machine_begin(&machine, NULL);
            pheap *heap = create_filled(machine.first), *other = open_sums(&machine.second, HEAP, 0);
            ok(pheap_checkpoint(heap));
            for (uint64_t i = 0; i < WORDS; i += 97)
                commit_word(heap, i, i + 5, PHEAP_LAZY);
            ok(pheap_sync(heap));
            ph_sim_fail_at(machine.sim, PH_SIM_WRITE, nth, errors[mode % 2], PH_SIM_ONCE);
            enum pheap_status status = pheap_fold(heap);
            bool over = ph_sim_struck(machine.sim) == 0;
            ph_sim_fail_clear(machine.sim);
            require(over == (status == PHEAP_OK));
            struck += !over;
            if (mode < 2)
                expect_clean(other, 0);
            commit_word(other, 3, 1, PHEAP_DURABLE);
            ok(pheap_checkpoint(other));
            expect_clean(heap, 0);
            machine_close(&machine, heap, other);
            if (over)
                break;
        }
    require(struck >= 8);
}

/* Catches: sums written by one process that another does not see. */
static void processes__take_turns(void **state)
{
    (void)state;
    struct machine machine;
    machine_begin(&machine, NULL);
    pheap *heaps[2] = {create_filled(machine.first), open_sums(&machine.second, HEAP, 0)};
    for (uint64_t i = 0; i < 600; i++) {
        commit_word(heaps[i % 2], i * 31 % WORDS, i, PHEAP_LAZY);
        if (i % 5 == 0)
            ok(pheap_fold(heaps[i / 5 % 2]));
        if (i % 17 == 0)
            ok(pheap_checkpoint(heaps[i / 17 % 2]));
        if (i % 3 == 0)
            expect_clean(heaps[i / 3 % 2], 0);
    }
    ok(pheap_close(heaps[0]));
    expect_clean(heaps[1], 0);
    ok(pheap_close(heaps[1]));
    machine_end(&machine);
}

struct busy {
    pheap *heap;
    _Atomic bool stop;
    _Atomic uint64_t commits;
};

static void *write_and_fold(void *argument)
{
    struct busy *busy = argument;
    while (!atomic_load(&busy->stop)) {
        uint64_t i = atomic_fetch_add(&busy->commits, 1);
        commit_word(busy->heap, i * 37 % WORDS, i, PHEAP_LAZY);
        if (i % 8 == 0)
            ok(pheap_fold(busy->heap));
        if (i % 200 == 0)
            ok(pheap_checkpoint(busy->heap));
    }
    return NULL;
}

/* Catches: a fold that is under way beside the scrub taken for damage. */
static void scrub__beside_a_writer(void **state)
{
    (void)state;
    struct pheap_options options = small_options();
    options.checksums = 1;
    struct busy busy = {.commits = 0};
    ok(pheap_open(path_of("busy", ""), PHEAP_CREATE, &options, &busy.heap));
    (void)make_root(busy.heap, WORDS);
    pthread_t writer;
    require_equal(pthread_create(&writer, NULL, write_and_fold, &busy), 0);
    for (unsigned i = 0; i < 2000 || atomic_load(&busy.commits) <= 100; i++) /* the writer too gets its turn */
        expect_clean(busy.heap, 0);
    atomic_store(&busy.stop, true);
    require_equal(pthread_join(writer, NULL), 0);
    ok(pheap_close(busy.heap));
}

/* ------------------------------------------------------------------------------------------------------------- others */

static int stop_at_once(void *context, const char *what, uint64_t done, uint64_t total)
{
    (void)context;
    return what != NULL && done > 0 && done <= total;
}

/* Catches: options that are not looked at, and a scrub that says that all is well where there are no checksums. */
static void scrub__misuse(void **state)
{
    (void)state;
    pheap *heap = create_heap(path_of("plain", ""));
    struct report report;
    expect_detail(PHEAP_UNSUPPORTED, "no checksums", scrub(heap, 0, &report));
    require(access(path_of("plain", "-sum"), F_OK) != 0);
    ok(pheap_close(heap));
    struct pheap_options options = small_options();
    options.checksums = 1;
    ok(pheap_open(path_of("misused", ""), PHEAP_CREATE, &options, &heap));
    (void)make_root(heap, WORDS);
    expect(PHEAP_INVALID, scrub(heap, 2, &report));
    expect(PHEAP_INVALID, scrub(NULL, 0, &report));
    struct pheap_scrub_options bad = {.size = sizeof bad, .reserved = 1};
    expect(PHEAP_INVALID, pheap_scrub(heap, &bad, NULL));
    bad = (struct pheap_scrub_options){.size = 0};
    expect(PHEAP_INVALID, pheap_scrub(heap, &bad, NULL));
    bad = (struct pheap_scrub_options){.size = sizeof bad, .progress = stop_at_once};
    expect(PHEAP_BUSY, pheap_scrub(heap, &bad, NULL));
    struct pheap_scrub_result result = {.size = 0};
    expect(PHEAP_INVALID, pheap_scrub(heap, NULL, &result));
    ok(pheap_scrub(heap, NULL, NULL));
    ok(pheap_close(heap));
    ok(pheap_open(path_of("misused", ""), PHEAP_READONLY, NULL, &heap));
    expect(PHEAP_READ_ONLY, scrub(heap, PHEAP_SCRUB_FILL, &report));
    expect_clean(heap, 0);
    ok(pheap_close(heap));
}

/* Catches: a report that runs over its text where a damaged page has many blocks, or that is made for nobody. */
static void scrub__names_the_first_blocks(void **state)
{
    (void)state;
    struct machine machine;
    struct report report;
    machine_begin(&machine, NULL);
    pheap *heap = open_sums(machine.first, HEAP, PHEAP_CREATE);
    pheap_txn *txn = begin(heap);
    uint64_t block = 0;
    for (unsigned i = 0; i < 400; i++)
        ok(pheap_alloc(txn, 16, &block));
    ok(pheap_commit(txn, PHEAP_DURABLE, NULL));
    ok(pheap_checkpoint(heap));
    flip_at(machine.sim, HEAP, block, 0);
    expect(PHEAP_CORRUPT, scrub(heap, 0, &report));
    require_equal(report.faults, 1);
    require(strstr(report.text, "block 0x") != NULL && strstr(report.text, " more") != NULL);
    const struct pheap_scrub_options silent = {.size = sizeof silent};
    report.result = (struct pheap_scrub_result){.size = sizeof report.result};
    expect(PHEAP_CORRUPT, pheap_scrub(heap, &silent, &report.result));
    require_equal(report.result.damaged_pages, 1);
    ok(pheap_close(heap));
    machine_end(&machine);
}

int main(int argc, char **argv)
{
    choose_cases(argc, argv);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(format__is_as_described),
        cmocka_unit_test(scrub__finds_flips_in_every_page),
        cmocka_unit_test(scrub__finds_every_bit_of_a_page),
        cmocka_unit_test(scrub__finds_lost_and_misplaced_pages),
        cmocka_unit_test(scrub__finds_what_nobody_wrote),
        cmocka_unit_test(scrub__of_a_rotten_sums_file),
        cmocka_unit_test(scrub__of_a_size_that_cannot_be),
        cmocka_unit_test(damage__outlives_a_change_of_its_page),
        cmocka_unit_test(damage__outlives_a_fold_that_was_held_up),
        cmocka_unit_test(scrub__goes_on_behind_what_cannot_be_read),
        cmocka_unit_test(unfinished__fold_is_no_damage),
        cmocka_unit_test(processes__take_turns),
        cmocka_unit_test(scrub__beside_a_writer),
        cmocka_unit_test(scrub__names_the_first_blocks),
        cmocka_unit_test(scrub__misuse),
    };
    return cmocka_run_group_tests(tests, make_test_directory, remove_test_directory);
}
