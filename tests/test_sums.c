/* SPDX-License-Identifier: MIT */
/*
 * Page checksums and the scrub: what it finds, and that it never takes a sound page for a damaged one, whatever happened
 * between two checkpoints.  Power cuts and faults at every call are the business of test_crash and test_faults, where half
 * of the heaps have checksums.
 */
#include "io/checksum.h"
#include "tests/machine.h"
#include "tests/support/effort.h"

#include <pthread.h>

#define SUM HEAP "-sum"
#define WORDS 2000u

/* ------------------------------------------------------------------------------------------------------------ tools */

struct report {
    unsigned faults;
    uint64_t offset; /* of the last one */
    char text[512];
    struct pheap_scrub_result result;
};

static void on_fault(void *context, uint64_t offset, const char *text)
{
    struct report *report = context;
    report->faults++;
    report->offset = offset;
    (void)snprintf(report->text, sizeof report->text, "%s", text);
}

static enum pheap_status scrub(pheap *heap, uint32_t flags, struct report *report)
{
    *report = (struct report){.result = {.size = sizeof report->result}};
    const struct pheap_scrub_options options = {
        .size = sizeof options, .flags = flags, .fault = on_fault, .context = report};
    return pheap_scrub(heap, &options, &report->result);
}

/* No damage; so many pages without a checksum. */
#define expect_clean(heap, unknown) check_clean(__FILE__, __LINE__, heap, unknown)
static void check_clean(const char *file, int line, pheap *heap, uint64_t unknown)
{
    struct report report;
    enum pheap_status status = scrub(heap, 0, &report);
    if (status != PHEAP_OK || report.faults != 0)
        check_failed(file, line, "scrub: %s, %u faults: %s", pheap_status_name(status), report.faults, report.text);
    check_equal(file, line, "damaged pages", report.result.damaged_pages, 0);
    check_equal(file, line, "unknown pages", report.result.unknown_pages, unknown);
}

/* One damaged page, at `offset`; the text has the word. */
#define expect_damage(heap, offset, word) check_damage(__FILE__, __LINE__, heap, offset, word)
static void check_damage(const char *file, int line, pheap *heap, uint64_t offset, const char *word)
{
    struct report report;
    enum pheap_status status = scrub(heap, 0, &report);
    if (status != PHEAP_CORRUPT || report.faults != 1 || report.offset != offset || strstr(report.text, word) == NULL)
        check_failed(file, line, "damage at 0x%llx (%s): %s, %u faults, 0x%llx: %s", (unsigned long long)offset, word,
                     pheap_status_name(status), report.faults, (unsigned long long)report.offset, report.text);
    check_equal(file, line, "damaged pages", report.result.damaged_pages, 1);
}

static uint64_t unknown_pages(pheap *heap)
{
    struct report report;
    ok(scrub(heap, 0, &report));
    return report.result.unknown_pages;
}

static pheap *open_sums(const ph_io *io, const char *path, unsigned flags)
{
    struct pheap_options options = small_options();
    options.checksums = 1;
    pheap *heap;
    ok((enum pheap_status)ph_open_io(io, path, flags, &options, &heap));
    return heap;
}

/* Opened now, the heap has lost the checksums of its pages, and takes none for damaged. */
#define expect_forgotten(io, flags) check_forgotten(__FILE__, __LINE__, io, flags)
static void check_forgotten(const char *file, int line, const ph_io *io, unsigned flags)
{
    pheap *heap = open_sums(io, HEAP, flags);
    if (unknown_pages(heap) <= 5)
        check_failed(file, line, "the checksums are believed");
    ok(pheap_close(heap));
}

static void flip_at(struct ph_sim *sim, const char *path, uint64_t at, unsigned bit)
{
    uint8_t byte;
    require_equal(ph_sim_peek(sim, path, &byte, 1, at), 1);
    byte ^= (uint8_t)(1u << bit);
    require_equal(ph_sim_poke(sim, path, &byte, 1, at), 1);
}

/* While that bit is wrong, the page at `page` is damaged. */
#define expect_flip_found(sim, heap, path, at, bit, page, word) \
    check_flip(__FILE__, __LINE__, sim, heap, path, at, bit, page, word)
static void check_flip(const char *file, int line, struct ph_sim *sim, pheap *heap, const char *path, uint64_t at,
                       unsigned bit, uint64_t page, const char *word)
{
    flip_at(sim, path, at, bit);
    check_damage(file, line, heap, page, word);
    flip_at(sim, path, at, bit);
}

struct copy {
    uint8_t *bytes;
    int64_t size;
};

static struct copy take(struct ph_sim *sim, const char *path)
{
    struct copy copy = {.size = ph_sim_size(sim, path)};
    require(copy.size > 0);
    copy.bytes = malloc((size_t)copy.size);
    require(copy.bytes != NULL);
    require_equal(ph_sim_peek(sim, path, copy.bytes, (size_t)copy.size, 0), copy.size);
    return copy;
}

static void put(struct ph_sim *sim, const char *path, struct copy *copy)
{
    require_equal(ph_sim_poke(sim, path, "", 0, 0), 0);
    require_equal(ph_sim_set_size(sim, path, (uint64_t)copy->size), 0);
    require_equal(ph_sim_poke(sim, path, copy->bytes, (size_t)copy->size, 0), copy->size);
    free(copy->bytes);
    copy->bytes = NULL;
}

/* A heap with a root of WORDS words and small blocks around it. */
static pheap *create_filled(const ph_io *io)
{
    pheap *heap = open_sums(io, HEAP, PHEAP_CREATE);
    (void)make_root(heap, WORDS);
    pheap_txn *txn = begin(heap);
    for (uint64_t i = 0; i < 40; i++) {
        uint64_t block;
        ok(pheap_alloc(txn, 16 + i * 60, &block));
        ok(pheap_fill(txn, block, (unsigned char)i, 16 + i * 60));
    }
    ok(pheap_commit(txn, PHEAP_DURABLE, NULL));
    return heap;
}

static uint64_t root_of(pheap *heap)
{
    pheap_read *reader = read_begin(heap, 0);
    uint64_t root = pheap_read_root(reader);
    pheap_read_end(reader);
    return root;
}

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
    for (unsigned i = 0; i < 2; i++)
        coord->fold_marks[i].heap_bytes = UINT64_C(1) << 60;
    expect_detail(PHEAP_CORRUPT, "coordination file", scrub(heap, 0, &report));
    require_equal(report.faults, 0);
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

/* Catches: a fold that a reader held up taken for one that was left unfinished, so that the next one heals damage. */
static void damage__outlives_a_fold_that_was_held_up(void **state)
{
    (void)state;
    struct machine machine;
    machine_begin(&machine, NULL);
    pheap *heap = create_filled(machine.first);
    for (uint64_t i = 0; i < WORDS; i++)
        commit_word(heap, i, i + 1, PHEAP_LAZY);
    ok(pheap_checkpoint(heap));
    const uint64_t root = root_of(heap), page = (root | 4095) + 1, first = (page - root) / 8;
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

/* Catches: a scrub of the pages that a rotten mark says there are. */
static void scrub__by_a_rotten_mark(void **state)
{
    (void)state;
    struct machine machine;
    struct report report;
    machine_begin(&machine, NULL);
    pheap *heap = create_filled(machine.first);
    ok(pheap_checkpoint(heap));
    struct ph_coord *coord = heap->core->coord, kept;
    memcpy(&kept, coord, sizeof kept);
    for (unsigned i = 0; i < 2; i++)
        coord->fold_marks[i].heap_bytes = PH_PAGE_BYTES;
    expect_detail(PHEAP_CORRUPT, "marks in the coordination file", scrub(heap, 0, &report));
    for (unsigned i = 0; i < 2; i++)
        coord->fold_marks[i].lsn ^= UINT64_C(1) << 62;
    expect_detail(PHEAP_CORRUPT, "marks in the coordination file", scrub(heap, 0, &report));
    memcpy(coord->fold_marks, kept.fold_marks, sizeof kept.fold_marks);
    expect_clean(heap, 0);
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
        cmocka_unit_test(scrub__misuse),
        cmocka_unit_test(scrub__names_the_first_blocks),
        cmocka_unit_test(scrub__by_a_rotten_mark),
        cmocka_unit_test(sums__descriptor_closed_under_us),
        cmocka_unit_test(sums__of_a_heap_that_may_only_be_read),
    };
    return cmocka_run_group_tests(tests, make_test_directory, remove_test_directory);
}
