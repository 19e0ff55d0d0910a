/* SPDX-License-Identifier: MIT */
/*
 * What salvage makes of page checksums, case by case, of superblocks that are not damaged but others, and of calls that fail;
 * test_salvage, half of whose heaps have checksums, has the random damages.
 */
#include "tests/salvage_rig.h"

static const ph_io *real_io;

/* Salvage the specimen as it is now: nothing is lost, and so many blocks are suspect. */
static struct pheap_salvage_result salvage_all(struct ph_sim *sim, const struct specimen *s)
{
    struct pheap_salvage_result result;
    place(sim, s->files);
    ok(salvage(sim, 0, &result));
    require_equal(result.kept_blocks, s->states[s->last].count);
    require_equal(result.lost_blocks + result.uncertain_blocks, 0);
    return result;
}

static const struct block *find_larger(const struct specimen *s, uint64_t length)
{
    const struct state *last = &s->states[s->last];
    for (unsigned i = 0; i < last->count; i++)
        if (last->blocks[i].length > length)
            return &last->blocks[i];
    fail_msg("no such block");
    return NULL;
}

/* Catches: a block with a wrong bit that is vouched for, or thrown away; one that is not named; a sound one suspected. */
static void suspect__blocks_are_kept_and_named(void **state)
{
    (void)state;
    const struct ph_sim_options quiet = {.no_journal = true};
    struct ph_sim *sim = ph_sim_new(&quiet);
    struct specimen s = make_specimen(CLOSED, 310, true);
    const struct block *large = find_larger(&s, 3 * 4096);
    const uint64_t page = large->offset / 4096 + 1;
    char name[64];
    flip_in(&s.files[FILE_HEAP], page * 4096 + 100);
    struct pheap_salvage_result result = salvage_all(sim, &s);
    require(result.suspect_blocks == 1 && result.suspect_bytes == large->length);
    require(result.fault_count == 1 && suspects.count == 1 && suspects.pages[page]);
    (void)snprintf(name, sizeof name, "does not match its checksum; in doubt: block 0x%llx (%llu bytes)",
                   (unsigned long long)large->offset, (unsigned long long)large->length);
    require(strstr(suspects.text, name) != NULL);
    struct bytes image = peek(sim, NEW); /* with what was there, and nothing else */
    require(memcmp(image.data + large->offset, s.files[FILE_HEAP].data + large->offset, large->length) == 0);
    free(image.data);
    flip_in(&s.files[FILE_HEAP], page * 4096 + 100);
    flip_in(&s.files[FILE_SUM], 4096 + 8 * page); /* the page or the sum: nobody knows */
    require_equal(salvage_all(sim, &s).suspect_blocks, 1);
    memset(s.files[FILE_SUM].data + 4096 + 8 * page, 0, 8);
    s.files[FILE_SUM].data[4096 + 8 * page] = 1;
    require_equal(salvage_all(sim, &s).suspect_blocks, 1);
    require(strstr(suspects.text, "when a part of it was overwritten") != NULL);
    free_specimen(&s);
    ph_sim_free(sim);
}

/* Catches: a flipped bit in a bitmap, which no other metadata shows, or a root that changed, told by nothing. */
static void suspect__bitmap_and_root(void **state)
{
    (void)state;
    const struct ph_sim_options quiet = {.no_journal = true};
    struct ph_sim *sim = ph_sim_new(&quiet);
    struct specimen s = make_specimen(CLOSED, 311, true);
    struct pheap_salvage_result result;
    const struct state *last = &s.states[s.last];
    uint8_t *heap = s.files[FILE_HEAP].data;
    uint64_t blocks = 0, page, name, root;
    for (page = 4;; page++) { /* of a slab with blocks in other pages too, of which slot 2 is one that lives */
        require((page + 1) * 4096 <= (uint64_t)s.files[FILE_HEAP].length);
        memcpy(&name, heap + page * 4096, 8);
        const unsigned class = (unsigned)(name >> 36 & 0xff);
        if (class >= PH_CLASSES || name != ph_slab_name(page, class))
            continue;
        uint64_t elsewhere = 0;
        blocks = 0;
        for (unsigned i = 0; i < last->count; i++) {
            const uint64_t distance = last->blocks[i].offset / 4096 - page;
            blocks += distance < ph_classes[class].pages;
            elsewhere += distance > 0 && distance < ph_classes[class].pages;
        }
        if (elsewhere > 1 && (heap[page * 4096 + 24] & 4) == 0)
            break;
    }
    flip_in(&s.files[FILE_HEAP], page * 4096 + 24); /* slot 2 lives no more */
    place(sim, s.files);
    ok(salvage(sim, 0, &result));
    require_equal(result.kept_blocks, last->count - 1);
    require_equal(result.suspect_blocks, blocks - 1);
    require(result.fault_count == 1 && suspects.pages[page]);
    flip_in(&s.files[FILE_HEAP], page * 4096 + 24);
    for (unsigned i = 0; i < 2; i++) {
        root = last->blocks[i].offset;
        if (root != last->root)
            break;
    }
    memcpy(heap + PH_HEAP_START + 32, &root, sizeof root);
    result = salvage_all(sim, &s);
    require(result.root_kept == 1 && result.suspect_blocks == 0 && result.fault_count == 1);
    require(strstr(suspects.text, "which block is the root") != NULL);
    free_specimen(&s);
    ph_sim_free(sim);
}

/*
 * What the log overwrites wholly is right again; of a page that it changes in part the sum tells nothing, but for the mark
 * of damage.  Catches: a page suspected that is made good, one vouched for that cannot be, a mark that is passed over.
 */
static void suspect__pages_that_the_log_changes(void **state)
{
    (void)state;
    const struct ph_sim_options quiet = {.no_journal = true};
    const struct pheap_options options = {.size = sizeof options, .reserve_bytes = 16u << 20, .checksums = 1};
    struct pheap_salvage_result result;
    struct ph_sim *sim = ph_sim_new(&quiet);
    const ph_io *io = ph_sim_io(sim);
    static const uint64_t mark = 1;
    uint64_t old, new, word;
    pheap *heap;
    ok((enum pheap_status)ph_open_io(io, HEAP, PHEAP_CREATE, &options, &heap));
    pheap_txn *txn = begin(heap);
    ok(pheap_alloc(txn, 3 * 16384, &old));
    ok(pheap_fill(txn, old, 'o', 3 * 16384));
    ok(pheap_commit(txn, PHEAP_DURABLE, NULL));
    ok(pheap_checkpoint(heap));
    txn = begin(heap);
    ok(pheap_alloc(txn, 3 * 16384, &new));
    ok(pheap_fill(txn, new, 'n', 3 * 16384));
    ok(pheap_write(txn, old + 4096, &(uint64_t){7}, 8));
    ok(pheap_commit(txn, PHEAP_DURABLE, NULL));
    ok(pheap_fold(heap));
    io->free(io->ctx, heap);
    ph_sim_kill(sim);
    struct bytes files[FILES];
    for (unsigned i = 0; i < FILES; i++)
        files[i] = peek(sim, names[i]);
    ok(salvage(sim, 0, &result)); /* nothing is wrong yet */
    require_equal(result.fault_count + result.suspect_blocks + result.unknown_pages, 0);

    flip_in(&files[FILE_HEAP], new + 4096 + 8); /* the page is overwritten wholly */
    place(sim, files);
    ok(salvage(sim, 0, &result));
    require_equal(result.fault_count + result.suspect_blocks + result.unknown_pages, 0);
    require_equal(ph_sim_peek(sim, NEW, &word, sizeof word, new + 4096 + 8), 8);
    require(word == UINT64_C(0x6e6e6e6e6e6e6e6e));
    memcpy(files[FILE_SUM].data + 4096 + (new / 4096 + 1) * 8, &mark, sizeof mark);
    place(sim, files);
    ok(salvage(sim, 0, &result));
    require_equal(result.fault_count + result.suspect_blocks + result.unknown_pages, 0);

    flip_in(&files[FILE_HEAP], old + 4096); /* the page is overwritten in part */
    place(sim, files);
    ok(salvage(sim, 0, &result));
    require(result.fault_count + result.suspect_blocks == 0 && result.unknown_pages == 1);
    memcpy(files[FILE_SUM].data + 4096 + (old / 4096 + 1) * 8, &mark, sizeof mark);
    place(sim, files);
    ok(salvage(sim, 0, &result));
    require(result.suspect_blocks == 1 && suspects.pages[old / 4096 + 1] && result.unknown_pages == 0);

    flip_in(&files[FILE_HEAP], old + 8192); /* the page is not in the log */
    place(sim, files);
    ok(salvage(sim, 0, &result));
    require(result.suspect_blocks == 1 && suspects.count == 2 && suspects.pages[old / 4096 + 2]);
    for (unsigned i = 0; i < FILES; i++)
        free(files[i].data);
    ph_core_forget_mappings(io);
    ph_sim_free(sim);
}

static int unreadable_sums;

static int open_but_note_sums(void *ctx, const char *path, unsigned flags, unsigned mode)
{
    const int file = real_io->open(ctx, path, flags, mode);
    if (strcmp(path, SUM) == 0)
        unreadable_sums = file;
    return file;
}

static int64_t read_but_sums(void *ctx, int file, void *buffer, size_t length, uint64_t offset)
{
    if (file == unreadable_sums && offset >= 4096)
        return -EIO;
    return real_io->read(ctx, file, buffer, length, offset);
}

/* Catches: sums of another state, or of another heap, believed; sums that cannot be used and make salvage fail, or go on as
 * if the heap had none, without a word. */
static void suspect__nothing_without_sums_that_fit(void **state)
{
    (void)state;
    const struct ph_sim_options quiet = {.no_journal = true};
    struct ph_sim *sim = ph_sim_new(&quiet);
    struct specimen s = make_specimen(CLOSED, 312, true), other = make_specimen(CLOSED, 313, true);
    const uint64_t pages = (uint64_t)s.files[FILE_HEAP].length / 4096 - 2;
    struct bytes whole = s.files[FILE_SUM], blank = {.length = 0}, none = {.length = -1}, rotten = copy_of(&whole);
    rotten.data[40] ^= 1;
    const struct bytes *useless[] = {&none, &blank, &rotten, &other.files[FILE_SUM]};
    flip_in(&s.files[FILE_HEAP], find_larger(&s, 4096)->offset);
    for (unsigned i = 0; i < sizeof useless / sizeof useless[0]; i++) {
        s.files[FILE_SUM] = *useless[i];
        const struct pheap_salvage_result result = salvage_all(sim, &s);
        require(result.suspect_blocks == 0 && result.fault_count == 1 && result.unknown_pages == pages);
    }
    s.files[FILE_SUM] = whole;
    place(sim, s.files);
    ph_io io = *ph_sim_io(sim);
    real_io = ph_sim_io(sim);
    io.open = open_but_note_sums;
    io.read = read_but_sums;
    struct pheap_salvage_result result = {.size = sizeof result};
    ok((enum pheap_status)ph_salvage_io(&io, HEAP, NEW, NULL, &result));
    require_equal(result.kept_blocks, s.states[s.last].count);
    require(result.suspect_blocks == 0 && result.fault_count == 1 && result.unknown_pages == pages);
    free(rotten.data);
    free_specimen(&s);
    free_specimen(&other);
    ph_sim_free(sim);
}

/* Work whose folds and checkpoints leave pages and sums in every state, on a heap of which a root of that many words is
 * all. */
static void work(pheap *heap, uint64_t words)
{
    for (uint64_t i = 0; i < 60; i++) {
        commit_word(heap, roll(words), i, i % 4 == 0 ? PHEAP_DURABLE : PHEAP_LAZY);
        if (i % 7 == 3)
            ok(pheap_fold(heap));
        if (i % 20 == 19)
            ok(pheap_checkpoint(heap));
    }
}

/*
 * The power fails anywhere, in recovery too, and any of what was not synced is lost, of pages and sums.  Catches: pages
 * that are called damaged, where only a sum is older or newer than its page.
 */
static void suspect__nothing_after_a_power_cut(void **state)
{
    (void)state;
    const struct pheap_options options = {.size = sizeof options,
                                          .reserve_bytes = 16u << 20,
                                          .checksums = 1,
                                          .log_limit_bytes = 1u << 20,
                                          .segment_bytes = 16u << 10,
                                          .buffer_bytes = 64u << 10};
    const uint64_t words = 6 * 512;
    struct ph_sim *sim = ph_sim_new(NULL), *image = ph_sim_new(NULL);
    const ph_io *io = ph_sim_io(sim);
    pheap *heap;
    dice = 7;
    ok((enum pheap_status)ph_open_io(io, HEAP, PHEAP_CREATE, &options, &heap));
    (void)make_root(heap, words);
    ok(pheap_checkpoint(heap));
    const uint64_t before = ph_sim_journal_length(sim);
    work(heap, words);
    io->free(io->ctx, heap);
    ph_sim_kill(sim);
    ok((enum pheap_status)ph_open_io(ph_sim_io(sim), HEAP, 0, &options, &heap));
    work(heap, words);
    ok(pheap_close(heap));
    struct ph_sim_cut *cut = ph_sim_cut_new(sim);
    struct ph_sim_choice choice = {0};
    uint64_t states = 0, unknown = 0;
    while (ph_sim_cut_next(cut))
        for (uint64_t i = 0; i < 3 && ph_sim_cut_position(cut) > before; i++, states++) {
            struct pheap_salvage_result result;
            ph_sim_cut_sample(cut, i, states, &choice);
            ph_sim_cut_image(cut, &choice, states, image);
            ok(salvage(image, 0, &result));
            require_equal(result.log_state, PHEAP_SALVAGE_WHOLE);
            require_equal(result.kept_blocks, 1);
            require_equal(result.fault_count + result.suspect_blocks, 0);
            unknown += result.unknown_pages;
            (void)ph_sim_remove(image, NEW);
        }
    print_message("%llu states, %llu pages unknown\n", (unsigned long long)states, (unsigned long long)unknown);
    require(states > 300 && unknown > 0);
    ph_sim_choice_deinit(&choice);
    ph_sim_cut_free(cut);
    ph_sim_free(image);
    ph_core_forget_mappings(ph_sim_io(sim));
    ph_sim_free(sim);
}

/* ------------------------------------------------------------------------------------------------- superblocks */

static void change_superblock(struct bytes *heap, unsigned copy, unsigned what)
{
    struct ph_superblock *s = (struct ph_superblock *)(void *)(heap->data + PH_SUPERBLOCK_OFFSET(copy));
    if (what == 0)
        s->incompat_flags |= UINT64_C(1) << 30;
    else if (what == 1)
        s->byte_order = __builtin_bswap32(s->byte_order);
    else
        s->identity[3] ^= 1;
    if (what != 1)
        ph_superblock_seal(s);
}

/* Catches: a heap of a newer format, or of another machine, taken apart as if it were damaged, though nothing of it is lost;
 * the superblock of another heap believed, with its log. */
static void superblocks__of_another_format_or_heap(void **state)
{
    (void)state;
    const struct ph_sim_options quiet = {.no_journal = true};
    struct ph_sim *sim = ph_sim_new(&quiet);
    struct specimen s = make_specimen(FOLDED, 340, true);
    struct bytes whole = copy_of(&s.files[FILE_HEAP]);
    struct pheap_salvage_result result;
    for (unsigned what = 0; what < 3; what++)
        for (unsigned copies = 1; copies < 4; copies++) {
            memcpy(s.files[FILE_HEAP].data, whole.data, (size_t)whole.length);
            for (unsigned copy = 0; copy < 2; copy++)
                if ((copies >> copy & 1) != 0)
                    change_superblock(&s.files[FILE_HEAP], copy, what);
            place(sim, s.files);
            const enum pheap_status status = salvage(sim, 0, &result);
            if (what == 0) {
                expect_detail(PHEAP_NEWER, "newer", status);
            } else if (what == 1 && copies == 3) {
                expect_detail(PHEAP_BYTE_ORDER, "byte order", status);
            } else {
                ok(status);
                require_equal(result.kept_blocks, s.states[s.last].count);
                require(what == 1 || result.log_state == PHEAP_SALVAGE_UNUSED);
                require(what == 1 || result.unknown_pages == (uint64_t)whole.length / 4096 - 2);
                require(result.fault_count > 0);
            }
            require((status == PHEAP_OK) == (ph_sim_size(sim, NEW) >= 0));
        }
    free(whole.data);
    free_specimen(&s);
    ph_sim_free(sim);
}

/* ------------------------------------------------------------------------------------------------- calls that fail */

/* What there is to salvage: damage in many pages, and so many suspects, or a lost end or head, or a log that breaks off. */
enum ruin { SUSPECTS, CUT_SHORT, BROKEN_LOG, NO_SUPERBLOCKS, RUINS };

static struct specimen ruin_specimen(enum ruin ruin)
{
    static const enum kind kinds[RUINS] = {CLOSED, FOLDED_ONCE, KILLED, FOLDED};
    struct specimen s = make_specimen(kinds[ruin], 320 + (uint64_t)ruin, true);
    struct bytes *heap = &s.files[FILE_HEAP];
    free(s.files[FILE_SHM].data); /* or the buffer makes good what the log lacks */
    s.files[FILE_SHM] = (struct bytes){.length = -1};
    switch (ruin) {
    case SUSPECTS:
        for (uint64_t page = 5; page * 4096 < (uint64_t)heap->length; page += 2)
            flip_in(heap, page * 4096 + 4000);
        break;
    case CUT_SHORT:
        heap->length = heap->length / 8192 * 4096;
        break;
    case BROKEN_LOG:
        flip_in(&s.files[FILE_LOG], s.batches[s.batch_count / 2] + 100);
        break;
    default:
        memset(heap->data, 0, 512);
        memset(heap->data + 4096, 0, 512);
    }
    return s;
}

/* The blocks that a state of the specimen has with just this content, of those of a heap. */
static uint64_t count_known(const struct specimen *s, pheap *heap)
{
    static uint64_t words[1u << 15];
    pheap_read *reader = read_begin(heap, PHEAP_FRESH);
    uint64_t from = 0, offset, length, known = 0;
    for (; pheap_read_next_block(reader, from, &offset, &length) == PHEAP_OK; from = offset + length) {
        bool found = false;
        for (uint64_t version = s->last + 1; version-- > 0 && !found;)
            for (unsigned i = 0; i < s->states[version].count && !found; i++) {
                const struct block *block = &s->states[version].blocks[i];
                if (block->offset != offset || block->length != length)
                    continue;
                require(length <= sizeof words);
                fill(words, block, length / 8);
                found = memcmp(pheap_read_ptr(reader, offset), words, length) == 0;
            }
        known += found;
    }
    pheap_read_end(reader);
    return known;
}

/* What was salvaged opens and is sound, and has what the result says. */
static uint64_t open_salvaged(struct ph_sim *sim, const struct specimen *s, const struct pheap_salvage_result *result)
{
    const struct pheap_options options = {.size = sizeof options, .reserve_bytes = 16u << 20};
    pheap *heap;
    require_equal(ph_sim_size(sim, NEW), result->heap_bytes);
    ok((enum pheap_status)ph_open_io(ph_sim_io(sim), NEW, PHEAP_READONLY, &options, &heap));
    check_sound(heap);
    const uint64_t known = count_known(s, heap);
    ok(pheap_close(heap));
    ph_core_forget_mappings(ph_sim_io(sim));
    return known;
}

/*
 * Each call of the salvage of a heap that is damaged fails.  Catches: a failure that is passed over and leaves a heap that is
 * not sound, or has blocks less without a word; something left under the name or not given back; a damaged file changed.
 */
static void faults__in_every_call_on_a_ruin(void **state)
{
    (void)state;
    static const struct {
        unsigned ops;
        int error;
    } faults[] = {{PH_SIM_ANY & ~(unsigned)PH_SIM_UNLINK, EIO}, {PH_SIM_READ, ENOMEM}, {PH_SIM_WRITE, ENOSPC}};
    unsigned failed[RUINS] = {0};
    for (int ruin = 0; ruin < RUINS; ruin++) {
        struct specimen s = ruin_specimen((enum ruin)ruin);
        const struct ph_sim_options quiet = {.no_journal = true};
        struct pheap_salvage_result whole, result;
        struct ph_sim *sim = ph_sim_new(&quiet);
        place(sim, s.files);
        ok(salvage(sim, 0, &whole));
        const uint64_t known = open_salvaged(sim, &s, &whole);
        require(whole.fault_count > 0 && known > 0);
        require((ruin == SUSPECTS) == (whole.suspect_blocks > 20));
        for (size_t f = 0; f < sizeof faults / sizeof faults[0]; f++)
            for (uint64_t nth = 1;; nth++) {
                place(sim, s.files);
                ph_sim_fail_at(sim, faults[f].ops, nth, faults[f].error, PH_SIM_ONCE);
                const enum pheap_status status = salvage(sim, 0, &result);
                const bool over = ph_sim_struck(sim) == 0;
                const bool name_stays = strncmp(ph_sim_struck_at(sim), "sync", 4) == 0; /* of the directory */
                ph_sim_fail_clear(sim);
                require(status == PHEAP_OK || (!over && pheap_error_detail()[0] != 0));
                require((status == PHEAP_OK) == (ph_sim_size(sim, NEW) >= 0) || name_stays);
                require_equal(ph_sim_live_handles(sim), 0);
                require_equal(ph_sim_live_maps(sim), 0);
                require_equal(ph_sim_live_allocations(sim), 0);
                for (unsigned i = 0; i < FILES; i++) {
                    struct bytes now = peek(sim, names[i]);
                    require(now.length == s.files[i].length || (now.length < 0 && s.files[i].length < 0));
                    require(now.length <= 0 || memcmp(now.data, s.files[i].data, (size_t)now.length) == 0);
                    free(now.data);
                }
                failed[ruin] += status != PHEAP_OK;
                if (status == PHEAP_OK &&
                    ruin == SUSPECTS) /* no suspect less, but for pages not read or not compared */
                    require(result.suspect_blocks == whole.suspect_blocks ||
                            result.lost_blocks + result.uncertain_blocks > 0 ||
                            result.unknown_pages > whole.unknown_pages);
                if (status == PHEAP_OK && (over || nth % 4 == 0)) {
                    const uint64_t now_known = open_salvaged(sim, &s, &result);
                    require(over ? now_known == known : now_known == known || result.fault_count > 0);
                }
                if (over)
                    break;
            }
        free_specimen(&s);
        ph_sim_free(sim);
    }
    for (int ruin = 0; ruin < RUINS; ruin++)
        require(failed[ruin] > 10);
}

/* The files beside the heap stand, but may not be read; the heap file cannot say where its holes are. */
static int open_heap_alone(void *ctx, const char *path, unsigned flags, unsigned mode)
{
    if (strcmp(path, SUM) == 0 || strcmp(path, WAL) == 0 || strcmp(path, SHM) == 0)
        return -EACCES;
    return real_io->open(ctx, path, flags, mode);
}

static int64_t know_no_holes(void *ctx, int file, uint64_t offset, uint64_t *end)
{
    (void)ctx;
    (void)file;
    (void)offset;
    (void)end;
    return -EINVAL;
}

/* Catches: a salvage that fails because of a file that it can do without, or does not say what it had to do without; one
 * that takes a heap for empty where the file system does not tell of holes. */
static void suspect__with_the_heap_file_alone(void **state)
{
    (void)state;
    const struct ph_sim_options quiet = {.no_journal = true};
    struct ph_sim *sim = ph_sim_new(&quiet);
    struct specimen s = make_specimen(FOLDED, 330, true);
    struct pheap_salvage_result result = {.size = sizeof result}, with_all;
    uint64_t faults = 0;
    const struct pheap_salvage_options options = {.size = sizeof options, .fault = count_fault, .context = &faults};
    ph_io io = *ph_sim_io(sim);
    real_io = ph_sim_io(sim);
    place(sim, s.files);
    io.next_data = know_no_holes;
    with_all = result;
    ok((enum pheap_status)ph_salvage_io(&io, HEAP, NEW, &options, &with_all));
    require(with_all.kept_blocks == s.states[s.last].count && with_all.log_state == PHEAP_SALVAGE_WHOLE);
    require(faults == 0 && with_all.suspect_blocks == 0);
    (void)ph_sim_remove(sim, NEW);
    io.open = open_heap_alone;
    ok((enum pheap_status)ph_salvage_io(&io, HEAP, NEW, &options, &result));
    require(result.kept_blocks == s.states[s.last].count && result.log_state == PHEAP_SALVAGE_UNUSED);
    require_equal(faults, 3); /* the buffer, the sums, the log */
    require_equal(result.unknown_pages, (uint64_t)s.files[FILE_HEAP].length / 4096 - 2);
    require_equal(open_salvaged(sim, &s, &result), s.states[s.last].count);
    free_specimen(&s);
    ph_sim_free(sim);
}

static int heap_handle;

static int open_but_note_heap(void *ctx, const char *path, unsigned flags, unsigned mode)
{
    const int file = real_io->open(ctx, path, flags, mode);
    if (strcmp(path, HEAP) == 0)
        heap_handle = file;
    return file;
}

/* Pages 20, 21 and 30 of the heap file cannot be read. */
static int64_t read_but_three(void *ctx, int file, void *buffer, size_t length, uint64_t offset)
{
    if (file == heap_handle &&
        ((offset < 22 * 4096 && offset + length > 20 * 4096) || (offset < 31 * 4096 && offset + length > 30 * 4096)))
        return -EIO;
    return real_io->read(ctx, file, buffer, length, offset);
}

/* Catches: a place that cannot be read and that takes what lies between it and the next with it; a page that was not read
 * called suspect. */
static void unreadable__places_lie_apart(void **state)
{
    (void)state;
    const struct ph_sim_options quiet = {.no_journal = true};
    struct ph_sim *sim = ph_sim_new(&quiet);
    struct specimen s = make_specimen(CLOSED, 331, true);
    struct pheap_salvage_result result = {.size = sizeof result};
    const struct state *last = &s.states[s.last];
    uint64_t touched = 0, faults = 0;
    const struct pheap_salvage_options options = {.size = sizeof options, .fault = count_fault, .context = &faults};
    for (unsigned i = 0; i < last->count; i++) {
        const uint64_t from = last->blocks[i].offset / 4096;
        const uint64_t to = (last->blocks[i].offset + last->blocks[i].length - 1) / 4096;
        touched += (from < 22 && to >= 20) || (from <= 30 && to >= 30);
    }
    ph_io io = *ph_sim_io(sim);
    real_io = ph_sim_io(sim);
    io.open = open_but_note_heap;
    io.read = read_but_three;
    place(sim, s.files);
    memset(&suspects, 0, sizeof suspects);
    ok((enum pheap_status)ph_salvage_io(&io, HEAP, NEW, &options, &result));
    require(touched > 0 && result.kept_blocks >= last->count - touched && result.kept_blocks < last->count);
    require(faults >= 2 && suspects.count == 0 && result.suspect_blocks == 0);
    require_equal(open_salvaged(sim, &s, &result), result.kept_blocks);
    free_specimen(&s);
    ph_sim_free(sim);
}

int main(int argc, char **argv)
{
    choose_cases(argc, argv);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(suspect__blocks_are_kept_and_named),  cmocka_unit_test(suspect__bitmap_and_root),
        cmocka_unit_test(suspect__pages_that_the_log_changes), cmocka_unit_test(suspect__nothing_without_sums_that_fit),
        cmocka_unit_test(suspect__nothing_after_a_power_cut),  cmocka_unit_test(superblocks__of_another_format_or_heap),
        cmocka_unit_test(faults__in_every_call_on_a_ruin),     cmocka_unit_test(suspect__with_the_heap_file_alone),
        cmocka_unit_test(unreadable__places_lie_apart),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
