/* SPDX-License-Identifier: MIT */
/*
 * Salvage of damaged heaps, against a model that knows every block, with its content, after every commit.
 *
 * The heaps are made once, on the simulated machine: closed, and killed with records in the log, folded or not.  Each case
 * damages the files of one of them and salvages it.  Whatever the damage: the call returns, the damaged files are as they
 * were, the new heap is sound, and every block in it is one of the model's at that offset and of that length, in the state
 * that the result names, with its content wherever no damage hit that.  What is missing is covered by what was reported.
 * Half of the heaps have checksums of their pages: of these no block that is kept has a wrong word, unless its page is
 * reported as suspect or counted as one of which no checksum can tell; and no page is suspect that was not damaged.
 *
 * Exceptions, each counted: a slot whose very bit of the bitmap was flipped (nothing else says whether it is live); and
 * a log that lost nothing but its last flush while the heap file already had it (it looks like a torn write, to opening
 * as well), where words of two commits may stand together.
 *
 * PHEAP_TEST_SEED=N repeats case N alone; PHEAP_TEST_CASES=N runs so many.
 */
#include "tests/salvage_rig.h"
#include "tests/support/effort.h"

#include "pheap/check.h"

#define CASES (SANITIZED ? 1000u : 10000u)

/* --------------------------------------------------------------------------------------------------------- the judge */

struct tally {
    uint64_t cases, failed, kept, missing, bitmap, mixed, states[3], compared, suspect;
};

static const struct block *find_block(const struct state *state, uint64_t offset)
{
    for (unsigned i = 0; i < state->count; i++)
        if (state->blocks[i].offset == offset)
            return &state->blocks[i];
    return NULL;
}

static bool was_hit(const struct wreck *wreck, uint64_t from, uint64_t to)
{
    for (unsigned i = 0; i < wreck->hit_count; i++)
        if (wreck->hits[i].from < to && wreck->hits[i].to > from)
            return true;
    return false;
}

/* The damage flipped the bit of this slot in its slab's bitmap. */
static bool bit_was_hit(const struct wreck *wreck, uint64_t offset)
{
    const struct bytes *images[] = {&wreck->of->files[FILE_HEAP], &wreck->of->recovered};
    for (unsigned h = 0; h < wreck->hit_count; h++)
        for (unsigned i = 0; i < 2; i++) {
            const struct hit *at = &wreck->hits[h];
            uint64_t page = at->from / 4096, in = at->from % 4096, name;
            if (at->bit < 0 || page < 4 || in < 24 || (page + 1) * 4096 > (uint64_t)images[i]->length)
                continue;
            memcpy(&name, images[i]->data + page * 4096, 8);
            unsigned class = (unsigned)(name >> 36 & 0xff);
            if (class >= PH_CLASSES || name != ph_slab_name(page, class))
                continue;
            uint64_t slot = (in - 24) * 8 + (uint64_t)at->bit;
            if (offset == page * 4096 + ph_classes[class].first + slot * ph_classes[class].size)
                return true;
        }
    return false;
}

static void blame(const struct wreck *wreck, uint64_t number, const char *what, uint64_t offset)
{
    check_failed(__FILE__, __LINE__, "PHEAP_TEST_SEED=%llu: %s at 0x%llx (heap of kind %d:%s)",
                 (unsigned long long)number, what, (unsigned long long)offset, (int)wreck->of->kind, wreck->story);
}

static bool told_suspect(uint64_t from, uint64_t to)
{
    for (uint64_t page = from / 4096; page * 4096 < to; page++)
        if (page < PAGES_MAX && suspects.pages[page])
            return true;
    return false;
}

/* Whether a block of a sound heap, in slab or not, lies in a page that was told to be suspect, or its bit of a bitmap does. */
static bool block_is_suspect(const uint8_t *image, uint64_t offset, uint64_t length)
{
    const uint64_t page = offset / 4096;
    if (told_suspect(offset, offset + length))
        return true;
    for (uint64_t first = page; first >= 4 && page - first < 40; first--) {
        uint64_t name;
        memcpy(&name, image + first * 4096, 8);
        const unsigned class = (unsigned)(name >> 36 & 0xff);
        if (class < PH_CLASSES && name == ph_slab_name(first, class) && page < first + ph_classes[class].pages)
            return told_suspect(first * 4096, first * 4096 + 1);
    }
    return false;
}

/* Nothing that is wrong is vouched for: all pages were compared, and the one with this byte was not told to be suspect. */
static bool vouched_for(const struct pheap_salvage_result *result, uint64_t offset)
{
    return result->unknown_pages == 0 && !told_suspect(offset, offset + 1);
}

static void judge_suspects(const struct wreck *wreck, uint64_t number, const struct pheap_salvage_result *result)
{
    const int64_t pages = wreck->files[FILE_HEAP].length / 4096;
    const uint64_t all = pages > 2 ? (uint64_t)pages - 2 : 0;
    if (!wreck->of->sums && (result->unknown_pages != all || suspects.count + result->suspect_blocks > 0))
        blame(wreck, number, "judged by checksums that there are not", 0);
    for (uint64_t page = 0; page < PAGES_MAX; page++)
        if (suspects.pages[page] && !wreck->sums_hit && !was_hit(wreck, page * 4096, (page + 1) * 4096))
            blame(wreck, number, "a sound page suspected", page * 4096);
}

/* A block that was kept is what the model has, in one of the two states (the same, but for mixed ones). */
static void judge_block(const struct wreck *wreck, uint64_t number, const struct state *states[2], const uint8_t *image,
                        uint64_t offset, uint64_t length, const struct pheap_salvage_result *result,
                        struct tally *tally)
{
    const struct block *a = find_block(states[0], offset), *b = find_block(states[1], offset);
    if (a == NULL && b == NULL) {
        if (!bit_was_hit(wreck, offset))
            blame(wreck, number, "a block that was none", offset);
        if (result->unknown_pages == 0 && !block_is_suspect(image, offset, length))
            blame(wreck, number, "a block that was none, vouched for", offset);
        tally->bitmap++;
        return;
    }
    const struct block *either = a != NULL ? a : b;
    if (length != either->length)
        blame(wreck, number, "a block of another length", offset);
    if (states[0] != states[1])
        return; /* where commits are mixed nothing can be said of words */
    for (uint64_t i = 0; i < length / 8; i++) {
        uint64_t word;
        memcpy(&word, image + offset + i * 8, 8);
        if (word == word_of(either, i))
            continue;
        if (!was_hit(wreck, offset + i * 8, offset + i * 8 + 8))
            blame(wreck, number, "another content", offset + i * 8);
        if (vouched_for(result, offset + i * 8))
            blame(wreck, number, "a wrong word vouched for", offset + i * 8);
    }
}

static void judge(const struct wreck *wreck, uint64_t number, struct ph_sim *sim,
                  const struct pheap_salvage_result *result, struct tally *tally)
{
    const struct specimen *of = wreck->of;
    struct bytes image = peek(sim, NEW);
    struct ph_space space = {image.data, result->heap_bytes};
    if (image.length != (int64_t)result->heap_bytes || ph_check_heap(NULL, space, NULL, NULL, NULL) != PH_OK)
        blame(wreck, number, "a heap that is not sound", 0);
    if (result->log_state > PHEAP_SALVAGE_UNUSED || result->version > of->last)
        blame(wreck, number, "a result that cannot be", 0);
    bool unused = result->log_state == PHEAP_SALVAGE_UNUSED;
    const struct state *states[2] = {&of->states[unused ? of->folded : result->version]};
    states[1] = states[0];
    if (!unused && result->version < of->folded) { /* the last flush is lost, and so is what vouched for it */
        if (result->log_state != PHEAP_SALVAGE_WHOLE || !was_hit(wreck, 0, 8192))
            blame(wreck, number, "records applied to a heap file that was newer", 0);
        states[1] = &of->states[of->folded];
        tally->mixed++;
    }
    uint64_t at = 0, start, length, blocks = 0, missing = 0, suspect = 0;
    while (ph_alloc_next(space, at, &start, &length) == PH_OK) {
        judge_block(wreck, number, states, image.data, start, length, result, tally);
        suspect += block_is_suspect(image.data, start, length);
        at = start + length;
        blocks++;
    }
    judge_suspects(wreck, number, result);
    for (unsigned i = 0; i < states[0]->count; i++) {
        const struct block *block = &states[0]->blocks[i];
        if (ph_alloc_find(space, block->offset, &start, &length) == PH_OK && start == block->offset)
            continue;
        if (states[0] != states[1] && find_block(states[1], block->offset) == NULL)
            continue;
        tally->missing++;
        missing += bit_was_hit(wreck, block->offset) ? 0 : block->length;
    }
    require_equal(blocks, result->kept_blocks);
    require_equal(suspect, result->suspect_blocks);
    if (missing > result->lost_bytes + result->uncertain_bytes && !wreck->shortened)
        blame(wreck, number, "more lost than was said", missing);
    if (missing > 0 && result->fault_count == 0)
        blame(wreck, number, "lost without a word", missing);
    tally->kept += blocks;
    tally->suspect += suspect;
    tally->compared += result->unknown_pages == 0;
    tally->states[result->log_state]++;
    free(image.data);
}

static void check_untouched(const struct wreck *wreck, uint64_t number, struct ph_sim *sim)
{
    for (unsigned i = 0; i < FILES; i++) {
        struct bytes now = peek(sim, names[i]);
        const struct bytes *was = &wreck->files[i];
        if (was->length < 0 ? now.length >= 0
                            : now.length != was->length ||
                                  (was->length > 0 && memcmp(now.data, was->data, (size_t)was->length) != 0))
            blame(wreck, number, "a damaged file was changed", i);
        free(now.data);
    }
}

static void run_case(struct ph_sim *sim, const struct specimen *specimens, unsigned count, uint64_t number,
                     struct tally *tally)
{
    struct pheap_salvage_result result;
    dice = number * UINT64_C(1000003);
    uint64_t which = roll(count);
    struct wreck wreck = make_wreck(&specimens[which], &specimens[(which + 1) % count]);
    place(sim, wreck.files);
    enum pheap_status status = salvage(sim, 0, &result);
    tally->cases++;
    if (status == PHEAP_OK) {
        judge(&wreck, number, sim, &result, tally);
    } else {
        if (status != PHEAP_NOT_HEAP && status != PHEAP_NEWER && status != PHEAP_BYTE_ORDER)
            blame(&wreck, number, pheap_error_detail(), status);
        require(ph_sim_size(sim, NEW) < 0);
        tally->failed++;
    }
    check_untouched(&wreck, number, sim);
    if (status == PHEAP_OK && number % 64 == 0) {
        const struct pheap_options options = {.size = sizeof options, .reserve_bytes = 16u << 20};
        pheap *heap;
        struct state state = {.count = 0};
        ok((enum pheap_status)ph_open_io(ph_sim_io(sim), NEW, 0, &options, &heap));
        pheap_txn *txn = begin(heap);
        for (unsigned i = 0; i < 100; i++)
            allocate(txn, &state, any_length());
        ok(pheap_commit(txn, PHEAP_DURABLE, NULL));
        check_sound(heap);
        ok(pheap_close(heap));
        (void)ph_sim_remove(sim, NEW "-wal");
        (void)ph_sim_remove(sim, NEW "-shm");
        ph_core_forget_mappings(ph_sim_io(sim));
    }
    free_wreck(&wreck);
}

/* Catches: a crash, a hang, a block that is made up, one that is lost without a word, a damaged file that is written to. */
static void damage__of_any_kind(void **state)
{
    (void)state;
    const char *seed = getenv("PHEAP_TEST_SEED"), *many = getenv("PHEAP_TEST_CASES");
    const uint64_t cases = many != NULL ? strtoull(many, NULL, 0) : CASES;
    const struct ph_sim_options quiet = {.no_journal = true};
    struct specimen specimens[KINDS * 2];
    struct tally tally = {0};
    struct ph_sim *sim = ph_sim_new(&quiet);
    for (unsigned i = 0; i < KINDS * 2; i++)
        specimens[i] = make_specimen((enum kind)(i % KINDS), 100 + i, i >= KINDS);
    if (seed != NULL)
        run_case(sim, specimens, KINDS * 2, strtoull(seed, NULL, 0), &tally);
    for (uint64_t number = 1; number <= cases && seed == NULL; number++)
        run_case(sim, specimens, KINDS * 2, number, &tally);
    print_message(
        "%llu damages, %llu of them left no heap; states %llu whole, %llu cut, %llu unused; %llu blocks kept, "
        "%llu missing, %llu by a bit of a bitmap, %llu heaps mixed; %llu compared whole with checksums, %llu blocks "
        "suspect\n",
        (unsigned long long)tally.cases, (unsigned long long)tally.failed, (unsigned long long)tally.states[0],
        (unsigned long long)tally.states[1], (unsigned long long)tally.states[2], (unsigned long long)tally.kept,
        (unsigned long long)tally.missing, (unsigned long long)tally.bitmap, (unsigned long long)tally.mixed,
        (unsigned long long)tally.compared, (unsigned long long)tally.suspect);
    if (seed == NULL && many == NULL)
        require(tally.compared > cases / 4 && tally.suspect > cases / 4);
    for (unsigned i = 0; i < KINDS * 2; i++)
        free_specimen(&specimens[i]);
    require_equal(ph_sim_live_handles(sim), 0);
    require_equal(ph_sim_live_maps(sim), 0);
    require_equal(ph_sim_live_allocations(sim), 0);
    ph_sim_free(sim);
}

/* Catches: anything at all that is lost of a heap that is not damaged. */
static void undamaged__is_kept_whole(void **state)
{
    (void)state;
    const struct ph_sim_options quiet = {.no_journal = true};
    struct ph_sim *sim = ph_sim_new(&quiet);
    for (unsigned i = 0; i < KINDS * 2; i++) {
        struct specimen s = make_specimen((enum kind)(i % KINDS), 200 + i, i >= KINDS);
        struct wreck wreck = {.of = &s};
        struct pheap_salvage_result result;
        struct tally tally = {0};
        memcpy(wreck.files, s.files, sizeof wreck.files);
        place(sim, s.files);
        ok(salvage(sim, 0, &result));
        require_equal(result.log_state, PHEAP_SALVAGE_WHOLE);
        require_equal(result.version, s.last);
        require_equal(result.kept_blocks, s.states[s.last].count);
        require_equal(result.root_kept, 1);
        require_equal(result.fault_count + result.uncertain_blocks + result.lost_blocks + result.lost_bytes, 0);
        require_equal(result.unknown_pages, s.sums ? 0 : s.files[FILE_HEAP].length / 4096 - 2);
        judge(&wreck, 0, sim, &result, &tally);
        require_equal(tally.missing + tally.mixed + tally.bitmap, 0);
        check_untouched(&wreck, 0, sim);
        free_specimen(&s);
    }
    ph_sim_free(sim);
}

static uint64_t batch_lsn(const struct specimen *s, unsigned i)
{
    struct ph_batch_header batch;
    memcpy(&batch, s->files[FILE_LOG].data + s->batches[i], sizeof batch);
    return batch.lsn;
}

/* Catches: records lost that have rotted in the log, where the buffer still has them.  Opening such a heap is refused. */
static void rotten_log__is_made_good_from_the_buffer(void **state)
{
    (void)state;
    const struct ph_sim_options quiet = {.no_journal = true};
    const struct pheap_options options = {.size = sizeof options, .reserve_bytes = 16u << 20};
    struct ph_sim *sim = ph_sim_new(&quiet);
    struct specimen s = make_specimen(LAZY, 300, false);
    uint64_t last = 0, whole = 0;
    for (unsigned i = 0; i < s.batch_count; i++)
        last = batch_lsn(&s, i) > last ? batch_lsn(&s, i) : last;
    for (unsigned i = 0; i < s.batch_count; i++) {
        struct wreck wreck = {.of = &s};
        struct pheap_salvage_result result;
        struct tally tally = {0};
        pheap *heap;
        if (batch_lsn(&s, i) == last) /* nothing vouches for it */
            continue;
        memcpy(wreck.files, s.files, sizeof wreck.files);
        s.files[FILE_LOG].data[s.batches[i] + 100] ^= 1;
        place(sim, s.files);
        require_equal(ph_open_io(ph_sim_io(sim), HEAP, 0, &options, &heap), PH_CORRUPT);
        require(strstr(pheap_error_detail(), "salvage") != NULL);
        ph_core_forget_mappings(ph_sim_io(sim));
        ok(salvage(sim, 0, &result));
        whole += result.log_state == PHEAP_SALVAGE_WHOLE;
        if (result.log_state == PHEAP_SALVAGE_WHOLE)
            require(result.version == s.last && result.lost_blocks + result.lost_bytes + result.fault_count == 0);
        judge(&wreck, 0, sim, &result, &tally);
        check_untouched(&wreck, 0, sim);
        s.files[FILE_LOG].data[s.batches[i] + 100] ^= 1;
    }
    require(whole > 3);
    free_specimen(&s);
    ph_sim_free(sim);
}

static void work_until_killed(const struct peer *test, const char *path)
{
    pheap *heap = create_heap(path);
    (void)make_root(heap, 100);
    ok(pheap_checkpoint(heap));
    commit_word(heap, 1, 11, PHEAP_DURABLE);
    commit_word(heap, 2, 22, PHEAP_LAZY);
    peer_tell(test, 'r');
    peer_hear(test, 'x');
}

/* Real files, and a process that is really killed: catches what the simulated machine is too kind to show. */
static void undamaged__of_a_killed_process(void **state)
{
    (void)state;
    const char *path = path_of("killed", ""), *new_path = path_of("saved", "");
    struct pheap_salvage_result result = {.size = sizeof result};
    struct peer peer = peer_start(work_until_killed, path);
    peer_hear(&peer, 'r');
    expect(PHEAP_BUSY, pheap_salvage(path, new_path, NULL, NULL));
    peer_kill(&peer);
    ok(pheap_salvage(path, new_path, NULL, &result));
    require_equal(result.log_state, PHEAP_SALVAGE_WHOLE);
    require_equal(result.fault_count, 0);
    pheap *heap = open_heap(new_path);
    check_sound(heap);
    require_equal(fresh_word(heap, 1), 11);
    require_equal(fresh_word(heap, 2), 22);
    ok(pheap_close(heap));
    heap = open_heap(path); /* which is as it was */
    require_equal(heap_info(heap).recovered, 1);
    require_equal(fresh_word(heap, 2), 22);
    ok(pheap_close(heap));
}

/* Descriptors of every kind with values that may fit. */
static void write_evil(uint8_t *descriptors, uint64_t count, uint64_t pages)
{
    for (uint64_t i = 0; i < count; i++) {
        uint64_t value = roll(3) == 0 ? roll(pages) : roll(40), words[2] = {0, 0};
        if (roll(3) == 0)
            continue;
        words[0] = roll(7) | value << 4;
        if ((words[0] & 15) == PH_PAGE_SLAB)
            words[0] |= roll(PH_CLASSES) << 40;
        else if ((words[0] & 15) == PH_PAGE_FREE)
            words[1] = roll(pages);
        memcpy(descriptors + i * 16, words, sizeof words);
    }
}

/*
 * A page table, heap header and slabs that look right one by one and contradict each other: catches metadata of the new
 * heap that is not sound, and a crash.  What is kept cannot be judged.
 */
static void evil__metadata_makes_a_sound_heap_all_the_same(void **state)
{
    (void)state;
    const struct ph_sim_options quiet = {.no_journal = true};
    struct ph_sim *sim = ph_sim_new(&quiet);
    struct specimen s = make_specimen(CLOSED, 303, false);
    const uint64_t pages = (uint64_t)s.files[FILE_HEAP].length / 4096;
    uint64_t kept = 0;
    for (uint64_t number = 0; number < 1500; number++) {
        struct wreck wreck = {.of = &s};
        struct pheap_salvage_result result;
        dice = number;
        for (unsigned i = 0; i < FILES; i++)
            wreck.files[i] = copy_of(&s.files[i]);
        uint8_t *heap = wreck.files[FILE_HEAP].data;
        uint64_t second, words = roll(30);
        memcpy(&second, heap + PH_HEAP_START + 64 + 8, 8);
        require(second > 3 && second < pages);
        write_evil(heap + 3 * 4096 + roll(256) * 16, roll(64), pages);
        write_evil(heap + second * 4096 + roll(200) * 16, roll(56), pages);
        for (uint64_t i = 0; i < words; i++) { /* small numbers in the header, and slabs where none are */
            uint64_t value = roll(pages + 2), page = 4 + roll(pages - 4);
            unsigned class = (unsigned)roll(PH_CLASSES);
            if (roll(3) == 0)
                memcpy(heap + PH_HEAP_START + 8 + roll(380) * 8, &value, sizeof value);
            value = ph_slab_name(page, class);
            memcpy(heap + page * 4096, &value, sizeof value);
        }
        place(sim, wreck.files);
        ok(salvage(sim, 0, &result)); /* which checks the whole heap */
        kept += result.kept_blocks;
        free_wreck(&wreck);
    }
    require(kept > 1500);
    free_specimen(&s);
    ph_sim_free(sim);
}

/* Catches: a heap in use, a file that is no heap, or a place that is taken, not refused; a heap that is not replaced. */
static void refuses__what_it_should(void **state)
{
    (void)state;
    const char *path = path_of("used", ""), *new_path = path_of("new", "");
    struct pheap_salvage_result result = {.size = sizeof result};
    struct pheap_salvage_options options = {.size = sizeof options};
    pheap *heap = create_heap(path);
    (void)make_root(heap, 100);
    expect(PHEAP_BUSY, pheap_salvage(path, new_path, NULL, NULL));
    ok(pheap_close(heap));
    expect(PHEAP_INVALID, pheap_salvage(NULL, new_path, NULL, NULL));
    expect(PHEAP_INVALID, pheap_salvage(path, "", NULL, NULL));
    expect(PHEAP_NOT_FOUND, pheap_salvage(path_of("nothing", ""), new_path, NULL, NULL));
    expect(PHEAP_EXISTS, pheap_salvage(path, path, NULL, NULL));
    options.flags = PHEAP_REPLACE;
    expect_detail(PHEAP_INVALID, "damaged heap itself", pheap_salvage(path, path, &options, NULL));
    require(rename(path, path_of("to-be-new", "")) == 0); /* where the new heap might be made */
    expect_detail(PHEAP_INVALID, "damaged heap itself",
                  pheap_salvage(path_of("to-be-new", ""), path_of("to-be", ""), &options, NULL));
    require(rename(path_of("to-be-new", ""), path) == 0);
    options.flags = 8;
    expect(PHEAP_INVALID, pheap_salvage(path, new_path, &options, NULL));
    options.flags = 0;
    result.size = 0;
    expect(PHEAP_INVALID, pheap_salvage(path, new_path, &options, &result));
    static const char letter[10000] = "Dear all, ";
    write_at(path_of("letter", ""), 0, letter, sizeof letter);
    expect(PHEAP_NOT_HEAP, pheap_salvage(path_of("letter", ""), new_path, NULL, NULL));
    expect(PHEAP_NOT_HEAP, pheap_salvage(test_directory, new_path, NULL, NULL));
    write_at(path_of("new", "-wal"), 0, letter, sizeof letter);
    expect(PHEAP_LOG_FOREIGN, pheap_salvage(path, new_path, NULL, NULL));
    require(unlink(path_of("new", "-wal")) == 0);
    require(access(new_path, F_OK) != 0 && access(path_of("new", "-new"), F_OK) != 0);
    result.size = sizeof result;
    ok(pheap_salvage(path, new_path, NULL, &result));
    require_equal(result.kept_blocks, 1);
    expect(PHEAP_EXISTS, pheap_salvage(path, new_path, NULL, NULL));
    heap = open_heap(new_path);
    check_sound(heap);
    commit_word(heap, 5, 55, PHEAP_DURABLE);
    options.flags = PHEAP_REPLACE;
    expect(PHEAP_BUSY, pheap_salvage(path, new_path, &options, NULL));
    ok(pheap_close(heap));
    ok(pheap_salvage(path, new_path, &options, NULL));
    heap = open_heap(new_path);
    require_equal(fresh_word(heap, 5), 0);
    ok(pheap_close(heap));
}

static int stop_late(void *context, const char *what, uint64_t done, uint64_t total)
{
    unsigned *left = context;
    require(what[0] != 0 && done <= total);
    return (*left)-- == 0;
}

/* Catches: a call that goes on when it is told to stop, while it looks for a lost page table too, or leaves something
 * behind. */
static void progress__can_stop_it_anywhere(void **state)
{
    (void)state;
    const struct ph_sim_options quiet = {.no_journal = true};
    struct ph_sim *sim = ph_sim_new(&quiet);
    struct specimen s = make_specimen(KILLED, 300, true);
    unsigned stops[2] = {0};
    for (unsigned lost = 0; lost < 2; lost++) {
        for (enum pheap_status status = PHEAP_BUSY; status == PHEAP_BUSY; stops[lost]++) {
            unsigned left = stops[lost];
            const struct pheap_salvage_options options = {
                .size = sizeof options, .progress = stop_late, .context = &left};
            place(sim, s.files);
            status = (enum pheap_status)ph_salvage_io(ph_sim_io(sim), HEAP, NEW, &options, NULL);
            require((status == PHEAP_OK) == (ph_sim_size(sim, NEW) >= 0));
            require(status == PHEAP_OK || status == PHEAP_BUSY);
        }
        memset(s.files[FILE_HEAP].data + PH_HEAP_START, 0, sizeof(struct ph_disk_heap));
    }
    require(stops[0] > 3 && stops[1] > stops[0]);
    require_equal(ph_sim_live_allocations(sim), 0);
    free_specimen(&s);
    ph_sim_free(sim);
}

/* Each call fails: catches a failure that is passed over, a heap that is not whole under the name, a leak. */
static void faults__in_every_call(void **state)
{
    (void)state;
    static const struct {
        unsigned ops;
        int error;
        enum ph_sim_fault_mode mode;
    } faults[] = {
        {PH_SIM_WRITE | PH_SIM_GROW | PH_SIM_TRUNCATE, ENOSPC, PH_SIM_FOREVER},
        {PH_SIM_ANY & ~(unsigned)PH_SIM_UNLINK, EIO, PH_SIM_ONCE},
        {PH_SIM_READ, EIO, PH_SIM_FOREVER},
        {PH_SIM_READ | PH_SIM_WRITE, 0, PH_SIM_SHORT},
    };
    struct specimen s = make_specimen(LAZY, 301, true);
    struct wreck wreck = {.of = &s};
    uint64_t runs = 0;
    memcpy(wreck.files, s.files, sizeof wreck.files);
    for (size_t i = 0; i < sizeof faults / sizeof faults[0]; i++)
        for (uint64_t call = 1;; call++, runs++) {
            const struct ph_sim_options quiet = {.no_journal = true, .refuse_unnamed = call % 2 == 0};
            struct ph_sim *sim = ph_sim_new(&quiet);
            struct pheap_salvage_result result;
            place(sim, s.files);
            ph_sim_fail_at(sim, faults[i].ops, call, faults[i].error, faults[i].mode);
            const enum pheap_status status = salvage(sim, 0, &result);
            const bool struck = ph_sim_struck(sim) != 0;
            require(struck || status == PHEAP_OK);
            require(faults[i].mode != PH_SIM_SHORT || status == PHEAP_OK);
            ph_sim_fail_clear(sim);
            require_equal(ph_sim_live_handles(sim), 0);
            require_equal(ph_sim_live_maps(sim), 0);
            require_equal(ph_sim_live_allocations(sim), 0);
            check_untouched(&wreck, 0, sim);
            if (status == PHEAP_OK) { /* what could not be read may be missing, and is told of */
                require(result.kept_blocks == s.states[s.last].count || result.fault_count > 0);
                require(ph_sim_size(sim, NEW) == (int64_t)result.heap_bytes);
            }
            ph_sim_free(sim);
            if (!struck)
                break;
        }
    print_message("%llu faults\n", (unsigned long long)runs);
    free_specimen(&s);
}

static const ph_io *real_io;
static uint64_t bad_page;

/* One page of the heap file cannot be read. */
static int64_t read_but_one(void *ctx, int file, void *buffer, size_t length, uint64_t offset)
{
    if (offset < (bad_page + 1) * 4096 && offset + length > bad_page * 4096)
        return -EIO;
    return real_io->read(ctx, file, buffer, length, offset);
}

/* Salvage what is there but for the bad page. */
static void salvage_but_one(const struct specimen *s)
{
    const struct ph_sim_options quiet = {.no_journal = true};
    struct ph_sim *sim = ph_sim_new(&quiet);
    const struct state *last = &s->states[s->last];
    struct wreck wreck = {.of = s};
    struct pheap_salvage_result result = {.size = sizeof result};
    struct tally tally = {0};
    memcpy(wreck.files, s->files, sizeof wreck.files);
    place(sim, s->files);
    ph_io io = *ph_sim_io(sim);
    real_io = ph_sim_io(sim);
    io.read = read_but_one;
    ok((enum pheap_status)ph_salvage_io(&io, HEAP, NEW, NULL, &result));
    require(result.fault_count > 0 && result.kept_blocks < last->count);
    require(result.kept_blocks + 300 > last->count);
    judge(&wreck, 0, sim, &result, &tally);
    require(tally.missing > 0 && tally.missing + result.kept_blocks == last->count);
    ph_sim_free(sim);
}

/* Catches: a page that cannot be read and takes others with it, or is taken for one of zeros: the first of a slab; then,
 * where no metadata tells of it, one in the middle of a large block, and one that a slot of a slab reaches into. */
static void unreadable__pages_are_lost_alone(void **state)
{
    (void)state;
    struct specimen s = make_specimen(CLOSED, 302, false);
    const struct state *last = &s.states[s.last];
    unsigned large = 0, small = 0;
    bad_page = last->blocks[7].offset / 4096;
    salvage_but_one(&s);
    for (unsigned i = 0; i < last->count; i++) {
        const struct block *block = &last->blocks[i];
        const uint64_t end_page = (block->offset + block->length - 1) / 4096;
        if (block->length >= 3 * 4096 && block->offset % 4096 == 0 && large < 4) {
            bad_page = (block->offset + block->length / 2) / 4096;
            large++;
        } else if (block->offset % 4096 != 0 && block->offset / 4096 < end_page && small < 4) {
            bad_page = end_page;
            small++;
        } else {
            continue;
        }
        salvage_but_one(&s);
    }
    require(large > 0 && small > 0);
    free_specimen(&s);
}

/* Overwrite segment 4 of the page table of the closed heap. */
static void lose_table(struct ph_sim *sim)
{
    uint8_t noise[8 * 4096];
    uint64_t table;
    garbage(noise, sizeof noise);
    require_equal(ph_sim_peek(sim, HEAP, &table, 8, PH_HEAP_START + 64 + 4 * 8), 8);
    require(table > 4);
    require_equal(ph_sim_poke(sim, HEAP, noise, sizeof noise, table * 4096), sizeof noise);
}

static void demand_lost(void *context, uint64_t offset, const char *text)
{
    (void)context;
    (void)offset;
    require(strstr(text, "table segment 4 is not") != NULL || strstr(text, "table segment") == NULL);
}

/*
 * Segment 4 of the page table is lost, segment 5 is not.  Catches: the place of one segment that is given to another that
 * is sought; a segment without a place that is taken to lie at the beginning, over the blocks that are there.
 */
static void table__that_is_lost_takes_nothing_else_with_it(void **state)
{
    (void)state;
    const struct ph_sim_options quiet = {.no_journal = true};
    const struct pheap_options options = {.size = sizeof options, .reserve_bytes = 64u << 20};
    const struct pheap_salvage_options demand = {.size = sizeof demand, .fault = demand_lost};
    struct ph_sim *sim = ph_sim_new(&quiet);
    for (unsigned behind = 0; behind < 2; behind++) {
        struct pheap_salvage_result result = {.size = sizeof result};
        uint64_t small, large, last = 0, length;
        pheap *heap;
        ok((enum pheap_status)ph_open_io(ph_sim_io(sim), HEAP, PHEAP_CREATE, &options, &heap));
        pheap_txn *txn = begin(heap);
        ok(pheap_alloc(txn, 16, &small));
        memcpy(pheap_ptr(txn, small), "sixteen letters", 16);
        ok(pheap_alloc(txn, 20u << 20, &large));
        if (behind)
            ok(pheap_alloc(txn, 1u << 20, &last));
        ok(pheap_commit(txn, PHEAP_DURABLE, NULL));
        ok(pheap_close(heap));
        require(small < 8 * 4096);
        lose_table(sim);
        ok((enum pheap_status)ph_salvage_io(ph_sim_io(sim), HEAP, NEW, &demand, &result));
        require_equal(result.kept_blocks, 1 + behind);
        require_equal(result.uncertain_blocks, 1);
        struct bytes image = peek(sim, NEW);
        struct ph_space space = {image.data, result.heap_bytes};
        ok((enum pheap_status)ph_alloc_usable(space, small, &length));
        require(memcmp(image.data + small, "sixteen letters", 16) == 0);
        if (behind)
            ok((enum pheap_status)ph_alloc_usable(space, last, &length));
        free(image.data);
        for (unsigned i = 0; i < FILES; i++)
            (void)ph_sim_remove(sim, names[i]);
        (void)ph_sim_remove(sim, NEW);
    }
    ph_core_forget_mappings(ph_sim_io(sim));
    ph_sim_free(sim);
}

/* Catches: numbers of the user's that are taken for a part of the page table when the heap header does not tell where that
 * is: they need only look like free extents of one page each. */
static void table__is_not_found_in_a_block(void **state)
{
    (void)state;
    const struct ph_sim_options quiet = {.no_journal = true};
    static const struct ph_disk_heap lost;
    struct ph_sim *sim = ph_sim_new(&quiet);
    uint64_t kept[2];
    for (uint64_t i = 0; i < 2; i++) {
        const struct pheap_options options = {.size = sizeof options, .reserve_bytes = 64u << 20};
        struct pheap_salvage_result result;
        uint64_t offset, words[5120];
        pheap *heap;
        for (uint64_t n = 0; n < 5120; n += 2) { /* a length, and an offset */
            words[n] = i * (PH_PAGE_FREE | 1u << 4);
            words[n + 1] = n;
        }
        ok((enum pheap_status)ph_open_io(ph_sim_io(sim), HEAP, PHEAP_CREATE, &options, &heap));
        pheap_txn *txn = begin(heap);
        ok(pheap_alloc(txn, sizeof words, &offset));
        ok(pheap_write(txn, offset, words, sizeof words));
        for (unsigned n = 0; n < 40; n++)
            ok(pheap_alloc(txn, 100000, &offset));
        ok(pheap_commit(txn, PHEAP_DURABLE, NULL));
        ok(pheap_close(heap));
        require_equal(ph_sim_poke(sim, HEAP, &lost, sizeof lost, PH_HEAP_START), sizeof lost);
        ok(salvage(sim, 0, &result));
        kept[i] = result.kept_blocks;
        (void)ph_sim_remove(sim, HEAP);
        (void)ph_sim_remove(sim, WAL);
        (void)ph_sim_remove(sim, NEW);
    }
    require(kept[0] > 30);
    require_equal(kept[1], kept[0]);
    ph_core_forget_mappings(ph_sim_io(sim));
    ph_sim_free(sim);
}

/*
 * The heap grew, and the power went before the heap file's new length was durable: the log knows it.  Catches: blocks that
 * are lost because pages that nobody has stored to are not in the file.
 */
static void grown__heap_whose_file_is_short(void **state)
{
    (void)state;
    const struct ph_sim_options quiet = {.no_journal = true};
    const struct pheap_options options = {.size = sizeof options, .reserve_bytes = 16u << 20};
    struct ph_sim *sim = ph_sim_new(&quiet);
    const ph_io *io = ph_sim_io(sim);
    struct pheap_salvage_result result;
    uint64_t offset, length;
    pheap *heap;
    ok((enum pheap_status)ph_open_io(io, HEAP, PHEAP_CREATE, &options, &heap));
    const int64_t short_bytes = ph_sim_size(sim, HEAP);
    pheap_txn *txn = begin(heap);
    ok(pheap_alloc(txn, 4096, &offset)); /* of a slab that is longer than the heap was */
    strcpy(pheap_ptr(txn, offset), "here");
    ok(pheap_commit(txn, PHEAP_DURABLE, NULL));
    require(ph_sim_size(sim, HEAP) > short_bytes);
    io->free(io->ctx, heap);
    ph_sim_kill(sim);
    require(ph_sim_set_size(sim, HEAP, (uint64_t)short_bytes) == 0);
    ok(salvage(sim, 0, &result));
    require_equal(result.log_state, PHEAP_SALVAGE_WHOLE);
    require_equal(result.fault_count, 0);
    require_equal(result.kept_blocks, 1);
    struct bytes image = peek(sim, NEW);
    ok((enum pheap_status)ph_alloc_usable((struct ph_space){image.data, result.heap_bytes}, offset, &length));
    require(strcmp((const char *)image.data + offset, "here") == 0);
    free(image.data);
    ok((enum pheap_status)ph_open_io(ph_sim_io(sim), HEAP, 0, &options, &heap)); /* as opening takes it */
    check_sound(heap);
    ok(pheap_close(heap));
    ph_core_forget_mappings(ph_sim_io(sim));
    ph_sim_free(sim);
}

/* A bit of the record that is commit `version` of the log flips. */
static void damage_record(struct ph_sim *sim, uint64_t version)
{
    struct bytes log = peek(sim, WAL);
    for (int64_t at = 4096; at + 512 <= log.length; at += 512) {
        struct ph_batch_header batch;
        struct ph_record_header record;
        memcpy(&batch, log.data + at, sizeof batch);
        memcpy(&record, log.data + at + sizeof batch, sizeof record);
        if (batch.magic != PH_BATCH_MAGIC || record.version != version)
            continue;
        uint8_t byte = log.data[at + 100] ^ 1;
        require_equal(ph_sim_poke(sim, WAL, &byte, 1, (uint64_t)at + 100), 1);
        free(log.data);
        return;
    }
    fail_msg("no such record");
}

/*
 * A reader kept everything from being folded, and the log breaks off behind a commit that changed more pages than salvage
 * compares at a time.  Catches: records that are not replayed because there are many of them.
 */
static void cut__log_of_many_pages_is_used(void **state)
{
    (void)state;
    const struct ph_sim_options quiet = {.no_journal = true};
    const struct pheap_options options = {
        .size = sizeof options, .reserve_bytes = 256u << 20, .budget_bytes = 400u << 20, .log_limit_bytes = 32u << 20};
    const uint64_t pages = 18000;
    struct ph_sim *sim = ph_sim_new(&quiet);
    const ph_io *io = ph_sim_io(sim);
    struct pheap_salvage_result result;
    uint64_t offset, word, big = 0;
    pheap *heap;
    pheap_read *reader;
    ok((enum pheap_status)ph_open_io(io, HEAP, PHEAP_CREATE, &options, &heap));
    pheap_txn *txn = begin(heap);
    ok(pheap_zalloc(txn, pages * 4096, &offset));
    ok(pheap_commit(txn, PHEAP_DURABLE, NULL));
    ok(pheap_checkpoint(heap));
    ok(pheap_read_begin(heap, PHEAP_FRESH, &reader));
    txn = begin(heap);
    for (word = 1; word <= pages; word++)
        ok(pheap_write(txn, offset + (word - 1) * 4096, &word, sizeof word));
    ok(pheap_commit(txn, PHEAP_DURABLE, &big));
    for (unsigned i = 0; i < 4; i++) {
        txn = begin(heap);
        ok(pheap_write(txn, offset + 8, &(uint64_t){i}, 8));
        ok(pheap_commit(txn, PHEAP_DURABLE, NULL));
    }
    io->free(io->ctx, heap);
    ph_sim_kill(sim);
    (void)ph_sim_remove(sim, SHM);
    damage_record(sim, big + 2);
    ok(salvage(sim, 0, &result));
    require_equal(result.log_state, PHEAP_SALVAGE_CUT);
    require_equal(result.version, big + 1);
    require_equal(result.kept_blocks, 1);
    require_equal(ph_sim_peek(sim, NEW, &word, 8, offset + (pages - 1) * 4096), 8);
    require_equal(word, pages);
    ph_sim_free(sim);
}

/* ------------------------------------------------------------------------------------------------------------ advice */

/* Catches: a refusal that does not tell of salvage.  (That salvage does not advise to salvage, count_fault sees.) */
static void refused__heaps_are_for_salvage(void **state)
{
    (void)state;
    const struct ph_sim_options quiet = {.no_journal = true};
    const struct pheap_options options = {.size = sizeof options, .reserve_bytes = 16u << 20};
    struct ph_sim *sim = ph_sim_new(&quiet);
    struct specimen s = make_specimen(KILLED, 314, false);
    free(s.files[FILE_SHM].data); /* which would make a rotten log good */
    s.files[FILE_SHM] = (struct bytes){.length = -1};
    const int64_t lengths[] = {s.files[FILE_HEAP].length, s.files[FILE_LOG].length};
    for (unsigned i = 0; i < 4; i++) {
        struct pheap_salvage_result result;
        pheap *heap;
        s.files[FILE_HEAP].length = i == 0 ? 4096 * 10 : lengths[0];
        s.files[FILE_LOG].length = i == 1 ? -1 : lengths[1];
        if (i == 2)
            flip_in(&s.files[FILE_LOG], s.batches[0] + 100);
        if (i == 3)
            for (uint64_t copy = 0; copy < 2; copy++)
                flip_in(&s.files[FILE_HEAP], copy * 4096 + 100);
        place(sim, s.files);
        require_equal(ph_open_io(ph_sim_io(sim), HEAP, 0, &options, &heap), i == 1 ? PH_LOG_MISSING : PH_CORRUPT);
        require(strstr(pheap_error_detail(), "; pheap salvage saves what is left") != NULL);
        ph_core_forget_mappings(ph_sim_io(sim));
        place(sim, s.files);
        ok(salvage(sim, 0, &result));
        require(result.fault_count > 0);
    }
    free_specimen(&s);
    ph_sim_free(sim);
}

int main(int argc, char **argv)
{
    choose_cases(argc, argv);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(undamaged__is_kept_whole),
        cmocka_unit_test(rotten_log__is_made_good_from_the_buffer),
        cmocka_unit_test(undamaged__of_a_killed_process),
        cmocka_unit_test(evil__metadata_makes_a_sound_heap_all_the_same),
        cmocka_unit_test(refuses__what_it_should),
        cmocka_unit_test(progress__can_stop_it_anywhere),
        cmocka_unit_test(faults__in_every_call),
        cmocka_unit_test(unreadable__pages_are_lost_alone),
        cmocka_unit_test(table__that_is_lost_takes_nothing_else_with_it),
        cmocka_unit_test(table__is_not_found_in_a_block),
        cmocka_unit_test(grown__heap_whose_file_is_short),
        cmocka_unit_test(cut__log_of_many_pages_is_used),
        cmocka_unit_test(refused__heaps_are_for_salvage),
        cmocka_unit_test(damage__of_any_kind),
    };
    return cmocka_run_group_tests(tests, make_test_directory, remove_test_directory);
}
