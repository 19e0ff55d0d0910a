/* SPDX-License-Identifier: MIT */
/*
 * Every single bit of the metadata of small heaps and of their logs is flipped, one at a time.  Then either the heap is
 * refused when it is opened, or the whole-heap check finds the damage, or nothing is wrong: the flip was healed.
 *
 * What is neither is one of the exceptions of docs/format.md ("What the check cannot see"), each of which is recognised
 * here by what it is, not by where it is: anything else fails the test.
 *
 * The interior is flipped in memory, where the check takes microseconds; a sample of it, and every bit of superblocks and
 * log, on the simulated machine.
 */
#include "pheap/alloc.h"
#include "pheap/check.h"
#include "pheap/extent.h"
#include "pheap/slab.h"
#include "tests/recovery_rig.h"
#include "tests/support/effort.h"

#define LIVE_MAX 4096u
#define GROUP 2u /* commits of one flush */

/* ---------------------------------------------------------------------------------------------- a heap of everything */

static uint64_t allocate(struct rig *rig, uint64_t length, bool root)
{
    uint64_t offset;
    pheap_txn *txn = begin(rig);
    assert_int_equal(pheap_zalloc(txn, length, &offset), PHEAP_OK);
    if (root)
        assert_int_equal(pheap_set_root(txn, offset), PHEAP_OK);
    assert_int_equal(pheap_commit(txn, PHEAP_LAZY, NULL), PHEAP_OK);
    return offset;
}

static void release(struct rig *rig, const uint64_t *offsets, unsigned count, unsigned step)
{
    pheap_txn *txn = begin(rig);
    for (unsigned i = 0; i < count; i += step)
        assert_int_equal(pheap_free(txn, offsets[i]), PHEAP_OK);
    assert_int_equal(pheap_commit(txn, PHEAP_LAZY, NULL), PHEAP_OK);
}

/* Slabs that are full, partly used and (one) empty, several of a class in its list; large blocks; free extents of several
 * lists, some of them in one.  `huge`: a block besides that takes the heap past the first mapped table segment. */
static void fill(struct rig *rig, uint64_t huge)
{
    static const uint64_t sizes[] = {16, 100, 1000, 3000, 9000, 30000};
    uint64_t at[64];
    for (unsigned s = 0; s < sizeof sizes / sizeof sizes[0]; s++) {
        for (unsigned i = 0; i < 48; i++)
            at[i] = allocate(rig, sizes[s], s == 0 && i == 10);
        release(rig, at, 48, s % 2 == 0 ? 3 : 2);
    }
    for (unsigned i = 0; i < 30; i++)
        at[i] = allocate(rig, 33000 + 9000 * (uint64_t)(i % 7), false);
    release(rig, at, 9, 1);
    release(rig, at + 11, 19, 3);
    if (huge != 0)
        (void)allocate(rig, huge, false);
    for (unsigned i = 0; i < 3; i++)
        at[i] = allocate(rig, 500, false);
    release(rig, at, 3, 1); /* leaves an empty slab, the spare one */
}

/* The heap file of a cleanly closed heap, whole, in memory. */
static struct files make_closed(uint64_t seed, uint64_t huge)
{
    struct rig rig = new_rig(seed);
    const struct pheap_options large = {.size = sizeof large,
                                        .reserve_bytes = 128u << 20,
                                        .log_limit_bytes = 20 * SEGMENT,
                                        .segment_bytes = SEGMENT,
                                        .buffer_bytes = 16384};
    assert_int_equal(ph_open_io(ph_sim_io(rig.sim), PATH, PHEAP_CREATE, &large, &rig.heap), PH_OK);
    fill(&rig, huge);
    close_heap(&rig);
    struct files files = save(&rig);
    free_rig(&rig);
    return files;
}

/* --------------------------------------------------------------------------------------------- flips in the interior */

enum exception {
    EX_ROOT,      /* the root is 0, or another live block */
    EX_SPARE,     /* the spare slab is none, or another slab, and no slab but it is empty */
    EX_PARTIAL,   /* the list of slabs begins at another one of its slabs */
    EX_END,       /* fewer pages are managed, all of them below it free and never used */
    EX_ZERO_PAGE, /* fewer pages are said to be zero, or more, which are */
    EX_BITMAP,    /* a slot is live or free that was not, and its slab may be so */
    EX_MAP,       /* a page of descriptors is said to be used, and is zero */
    EXCEPTIONS
};
static const char *const exception_names[EXCEPTIONS] = {"root",      "spare",  "partial", "end",
                                                        "zero page", "bitmap", "map"};

struct tally {
    uint64_t flips, found;
    uint64_t exceptions[EXCEPTIONS];
};

struct image {
    uint8_t *bytes;
    struct ph_space space;
    struct ph_heap heap;
    uint64_t live[LIVE_MAX];
    unsigned live_count;
    struct tally tally;
};

static unsigned list_live(struct ph_space space, uint64_t *live)
{
    uint64_t at = 0, start, length;
    unsigned count = 0;
    while (ph_alloc_next(space, at, &start, &length) == PH_OK) {
        assert_true(count < LIVE_MAX);
        live[count++] = start;
        at = start + length;
    }
    return count;
}

static bool is_live(const struct image *image, uint64_t offset)
{
    for (unsigned i = 0; i < image->live_count; i++)
        if (image->live[i] == offset)
            return true;
    return false;
}

static bool all_zero(const struct image *image, uint64_t from, uint64_t to)
{
    for (uint64_t at = from; at < to; at++)
        if (image->bytes[at] != 0)
            return false;
    return true;
}

/* The block lists of the image before and after differ in the slot `start` alone. */
static bool one_slot_differs(const struct image *image, uint64_t start)
{
    static uint64_t now[LIVE_MAX];
    unsigned count = list_live(image->space, now), i = 0, j = 0, differ = 0;
    while (i < image->live_count || j < count) {
        uint64_t a = i < image->live_count ? image->live[i] : UINT64_MAX, b = j < count ? now[j] : UINT64_MAX;
        if (a != b) {
            differ++;
            if ((a < b ? a : b) != start)
                return false;
        }
        i += a <= b;
        j += b <= a;
    }
    return differ == 1;
}

static bool is_bitmap_bit(const struct image *image, uint64_t at, unsigned bit)
{
    uint64_t page = at >> PH_PAGE_SHIFT;
    struct ph_disk_page d = ph_page_get(&image->heap, page);
    if (page < PH_FIRST_PAGE || ph_page_state(d) != PH_PAGE_SLAB || ph_page_value(d) != 0)
        return false;
    const struct ph_class *class = &ph_classes[ph_page_class(d)];
    uint64_t bitmap = PH_SLAB_FIELD(page, bitmap);
    if (at < bitmap || at >= (page << PH_PAGE_SHIFT) + ph_class_header(class))
        return false;
    uint64_t slot = (at - bitmap) * 8 + bit;
    return one_slot_differs(image, (page << PH_PAGE_SHIFT) + class->first + slot * class->size);
}

/* A flip at `at` that the check of the flipped image has not found: is it one that cannot be seen? */
static enum exception classify(const struct image *image, uint64_t at, unsigned bit)
{
    const uint8_t *base = image->bytes;
    uint64_t word = at & ~UINT64_C(7), now = ph_load(base, word), before = now ^ UINT64_C(1) << ((at & 7) * 8 + bit);
    uint64_t zero = ph_load(base, PH_HEADER_AT(zero_page));
    if (word == PH_HEADER_AT(root) && (now == 0 || is_live(image, now)))
        return EX_ROOT;
    if (word == PH_HEADER_AT(spare_page)) /* the check has seen that it is a slab, and that no other is empty */
        return EX_SPARE;
    if (word == PH_HEADER_AT(end_page) && now < before && now >= zero)
        return EX_END;
    if (word == PH_HEADER_AT(zero_page) && now <= image->heap.end &&
        (now > before || all_zero(image, now << PH_PAGE_SHIFT, before << PH_PAGE_SHIFT)))
        return EX_ZERO_PAGE;
    uint64_t partial = PH_HEADER_AT(partial);
    if (word >= partial && word < partial + 8 * PH_CLASSES) {
        unsigned class = (unsigned)((word - partial) / 8);
        if (ph_slab_valid(&image->heap, now, class) && ph_load(base, PH_SLAB_FIELD(now, next_page)) != 0)
            return EX_PARTIAL;
    }
    for (unsigned k = PH_TABLE_MAPPED; k < image->heap.tables; k++) {
        uint64_t map = ph_load(base, ph_header_slot(PH_HEADER_AT(table), k)) << PH_PAGE_SHIFT;
        uint64_t leaf = (at - map) * 8 + bit, array = map + (ph_table_map_pages(k) << PH_PAGE_SHIFT);
        if (at >= map && at < array && now > before &&
            all_zero(image, array + (leaf << PH_PAGE_SHIFT), array + ((leaf + 1) << PH_PAGE_SHIFT)))
            return EX_MAP;
    }
    return is_bitmap_bit(image, at, bit) ? EX_BITMAP : EXCEPTIONS;
}

static void flip_range(struct image *image, uint64_t from, uint64_t to)
{
    for (uint64_t at = from; at < to; at++)
        for (unsigned bit = (unsigned)(at % BIT_STEP); bit < 8; bit += BIT_STEP) {
            image->bytes[at] ^= (uint8_t)(1u << bit);
            image->tally.flips++;
            if (ph_check_heap(NULL, image->space, NULL, NULL, NULL) != PH_OK) {
                image->tally.found++;
            } else {
                enum exception exception = classify(image, at, bit);
                if (exception == EXCEPTIONS)
                    fail_msg("bit %u of byte 0x%" PRIx64 " is not seen", bit, at);
                image->tally.exceptions[exception]++;
            }
            image->bytes[at] ^= (uint8_t)(1u << bit);
        }
}

static struct image load_image(const struct files *files)
{
    struct ph_superblock copies[2];
    for (unsigned i = 0; i < 2; i++)
        memcpy(&copies[i], files->bytes[0] + PH_SUPERBLOCK_OFFSET(i), sizeof copies[i]);
    uint64_t size = copies[copies[1].generation > copies[0].generation].heap_bytes;
    struct image image = {.bytes = files->bytes[0], .space = {files->bytes[0], size}};
    assert_true(files->size[0] >= (int64_t)size);
    if (ph_check_heap(NULL, image.space, NULL, NULL, NULL) != PH_OK)
        fail_msg("%s", ph_detail());
    assert_int_equal(ph_heap_load(image.space, &image.heap), PH_OK);
    image.live_count = list_live(image.space, image.live);
    return image;
}

static void print_tally(const struct image *image)
{
    print_message("%" PRIu64 " pages, %u blocks: %" PRIu64 " flips, %" PRIu64 " found", image->heap.tail,
                  image->live_count, image->tally.flips, image->tally.found);
    for (unsigned i = 0; i < EXCEPTIONS; i++)
        print_message(", %s %" PRIu64, exception_names[i], image->tally.exceptions[i]);
    print_message("\n");
}

static void flip_slab_headers(struct image *image)
{
    for (uint64_t page = PH_FIRST_PAGE; page < image->heap.tail; page++) {
        struct ph_disk_page d = ph_page_get(&image->heap, page);
        if (ph_page_state(d) == PH_PAGE_SLAB && ph_page_value(d) == 0)
            flip_range(image, page << PH_PAGE_SHIFT,
                       (page << PH_PAGE_SHIFT) + ph_class_header(&ph_classes[ph_page_class(d)]));
    }
}

/* Catches: a word of heap header, page table or slab header that the check does not look at. */
static void interior__every_bit(void **state)
{
    (void)state;
    struct files files = make_closed(1, 0);
    struct image image = load_image(&files);
    assert_true(image.heap.tables >= 2 && image.heap.tables < PH_TABLE_MAPPED);
    assert_int_not_equal(ph_load(image.bytes, PH_HEADER_AT(spare_page)), 0);
    flip_range(&image, PH_HEAP_START, PH_HEAP_START + PH_PAGE_BYTES);
    for (unsigned k = 0; k < image.heap.tables; k++) {
        uint64_t table = ph_load(image.bytes, ph_header_slot(PH_HEADER_AT(table), k)) << PH_PAGE_SHIFT;
        flip_range(&image, table, table + (ph_table_pages(k) << PH_PAGE_SHIFT));
    }
    flip_slab_headers(&image);
    print_tally(&image);
    /* The exceptions do occur: nothing else in this test would notice if they were taken for granted. */
    assert_true((SANITIZED || image.tally.exceptions[EX_ROOT] > 0) && image.tally.exceptions[EX_BITMAP] > 0);
    free_files(&files);
}

/* The same for a table segment with a map: its map, the page of it that is used, and the header. */
static void interior__of_a_mapped_table(void **state)
{
    (void)state;
    struct files files = make_closed(2, 18u << 20);
    struct image image = load_image(&files);
    const unsigned k = PH_TABLE_MAPPED;
    assert_int_equal(image.heap.tables, k + 1);
    uint64_t map = ph_load(image.bytes, ph_header_slot(PH_HEADER_AT(table), k)) << PH_PAGE_SHIFT;
    uint64_t used = ph_load(image.bytes, map);
    assert_int_not_equal(used, 0);
    uint64_t array = map + PH_PAGE_BYTES + ((uint64_t)__builtin_ctzll(used) << PH_PAGE_SHIFT);
    flip_range(&image, PH_HEADER_AT(magic), PH_HEADER_AT(partial));
    flip_range(&image, map, map + PH_PAGE_BYTES);
    flip_range(&image, array, array + PH_PAGE_BYTES);
    print_tally(&image);
    free_files(&files);
}

/* ------------------------------------------------------------------------------------- flips in superblocks and log */

struct outcome {
    uint64_t flips, refused, healed, cut;
};

/* What a flip may come to, beside a refusal. */
enum excuse {
    NOTHING, /* no excuse */
    HEALS,   /* the heap must be the last commit: the bit means nothing, or there is a second copy */
    LAST     /* it belongs to the last flush of a heap that was killed, which no other part of the log vouches for */
};

static void load_flipped(struct rig *rig, const struct files *files, unsigned which, uint64_t at, unsigned bit)
{
    uint8_t byte = files->bytes[which][at] ^ (uint8_t)(1u << bit);
    load(rig, files);
    (void)ph_sim_poke(rig->sim, names[which], &byte, 1, at);
}

/* Flip a bit of the files, which are in place, and open.  A heap that is refused is as it was. */
static void try_flip(struct rig *rig, const struct files *files, unsigned which, uint64_t at, unsigned bit,
                     enum excuse excuse, struct outcome *outcome)
{
    uint8_t byte = files->bytes[which][at] ^ (uint8_t)(1u << bit);
    (void)ph_sim_poke(rig->sim, names[which], &byte, 1, at);
    outcome->flips++;
    ph_status status = try_open(rig, 0);
    if (status != PH_OK) {
        if ((status != PH_CORRUPT && status != PH_LOG_FOREIGN) || excuse == HEALS)
            fail_msg("%s, bit %u of byte %" PRIu64 ": %s: %s", names[which], bit, at, ph_status_name(status),
                     ph_detail());
        outcome->refused++;
        ph_core_forget_mappings(ph_sim_io(rig->sim));
        (void)ph_sim_poke(rig->sim, names[which], files->bytes[which] + at, 1, at);
        return;
    }
    uint64_t k = which_commit(rig, rig->book), last = rig->book->last;
    close_heap(rig);
    load(rig, files);
    outcome->healed += k == last;
    outcome->cut += k != last;
    if (excuse == NOTHING || (k != last && (excuse != LAST || k + GROUP < last)))
        fail_msg("%s, bit %u of byte %" PRIu64 ": opens with commit %" PRIu64 " of %" PRIu64, names[which], bit, at, k,
                 last);
}

/* One copy serves as long as the log is there. */
static void flip_superblocks(struct rig *rig, const struct files *files, struct outcome *outcome)
{
    for (unsigned copy = 0; copy < 2; copy++)
        for (uint64_t at = 0; at < PH_SECTOR_BYTES; at++)
            for (unsigned bit = (unsigned)(at % BIT_STEP); bit < 8; bit += BIT_STEP)
                try_flip(rig, files, 0, PH_SUPERBLOCK_OFFSET(copy) + at, bit, HEALS, outcome);
}

static void flip_log(struct rig *rig, const struct files *files, uint64_t from, uint64_t length, enum excuse excuse,
                     struct outcome *outcome)
{
    for (uint64_t at = from; at < from + length; at++)
        for (unsigned bit = (unsigned)(at % BIT_STEP); bit < 8; bit += BIT_STEP)
            try_flip(rig, files, 1, at, bit, excuse, outcome);
}

static void print_outcome(const char *what, const struct outcome *outcome)
{
    print_message("%s: %" PRIu64 " flips, %" PRIu64 " refused, %" PRIu64 " healed, %" PRIu64 " in the last flush\n",
                  what, outcome->flips, outcome->refused, outcome->healed, outcome->cut);
}

/* Catches: a field of a superblock, segment header, batch header or record that is believed when it is wrong, in a heap
 * whose user was killed. */
static void log__every_bit_of_a_killed_heap(void **state)
{
    (void)state;
    struct rig rig = new_rig(3);
    struct files files = make_crashed(&rig, 17, GROUP, 240); /* fills more than one segment */
    struct map map = map_log(&files, EPOCH);
    struct outcome superblocks = {0}, headers = {0}, records = {0};
    unsigned segments = 0;
    uint64_t at = PH_LOG_SEGMENTS;
    flip_superblocks(&rig, &files, &superblocks);
    flip_log(&rig, &files, 0, sizeof(struct ph_log_header), NOTHING, &headers);
    for (struct ph_segment_header header; (int64_t)at < files.size[1]; at += SEGMENT) {
        memcpy(&header, files.bytes[1] + at, sizeof header);
        if (header.magic != PH_SEGMENT_MAGIC)
            continue;
        segments++;
        flip_log(&rig, &files, at, sizeof header, NOTHING, &headers);
    }
    assert_true(segments >= 2);
    for (unsigned i = 0; i < map.count; i++) {
        const struct found *r = &map.records[i];
        if (i > 0 && map.records[i - 1].batch == r->batch)
            continue;
        const enum excuse excuse = i < BEFORE_CHECKPOINT ? HEALS : r->batch + 1 == map.batches ? LAST : NOTHING;
        flip_log(&rig, &files, r->batch_at, sizeof(struct ph_batch_header), excuse, &headers);
        flip_log(&rig, &files, r->batch_at + sizeof(struct ph_batch_header),
                 r->batch_bytes - sizeof(struct ph_batch_header), excuse, &records);
    }
    print_outcome("superblocks", &superblocks);
    print_outcome("headers", &headers);
    print_outcome("records", &records);
    assert_true(records.cut > 0);
    assert_int_equal(superblocks.cut, 0);
    free_files(&files);
    free_rig(&rig);
}

/* The same for a heap that was cleanly closed: its log means nothing but for the header, which says whose it is. */
static void log__every_bit_of_a_closed_heap(void **state)
{
    (void)state;
    struct rig rig = new_rig(4);
    struct outcome superblocks = {0}, header = {0}, rest = {0};
    create(&rig);
    for (unsigned i = 0; i < 12; i++)
        commit(&rig, 400, i % 3 == 0 ? PHEAP_DURABLE : PHEAP_LAZY);
    close_heap(&rig);
    struct files files = save(&rig);
    drop_coordination(&rig);
    flip_superblocks(&rig, &files, &superblocks);
    flip_log(&rig, &files, 0, sizeof(struct ph_log_header), NOTHING, &header);
    for (uint64_t at = PH_LOG_SEGMENTS; (int64_t)at < files.size[1]; at += 61)
        try_flip(&rig, &files, 1, at, (unsigned)(at % 8), HEALS, &rest);
    print_outcome("superblocks", &superblocks);
    print_outcome("log header", &header);
    print_outcome("log", &rest);
    free_files(&files);
    free_rig(&rig);
}

/* Neither metadata nor the log: blocks, and what is free. */
static bool is_payload(const struct image *image, uint64_t at)
{
    return ph_alloc_kind(image->space, at) != PH_KIND_METADATA;
}

/* A sample of the interior, through opening and recovery: a flip in the heap file of a killed heap is as if it were made
 * after recovery, unless replay writes over it. */
static void interior__of_a_killed_heap(void **state)
{
    (void)state;
    struct rig rig = new_rig(5);
    struct outcome outcome = {0};
    uint64_t payload = 0;
    create(&rig);
    (void)allocate(&rig, 200, true);
    assert_int_equal(pheap_checkpoint(rig.heap), PHEAP_OK);
    for (unsigned i = 0; i < 8; i++)
        (void)allocate(&rig, 200 + 900 * i, false);
    assert_int_equal(pheap_sync(rig.heap), PHEAP_OK);
    kill_process(&rig);
    struct files files = save(&rig);
    drop_coordination(&rig);
    assert_int_equal(try_open(&rig, 0), PH_OK);
    close_heap(&rig);
    struct files recovered = save(&rig);
    struct image image = load_image(&recovered);
    const uint64_t size = image.heap.tail << PH_PAGE_SHIFT;
    for (uint64_t at = PH_HEAP_START; at < size; at += at < (PH_FIRST_PAGE << PH_PAGE_SHIFT) + 4096 ? 3 : 509) {
        unsigned bit = (unsigned)(at / 3 % 8);
        load_flipped(&rig, &files, 0, at, bit);
        outcome.flips++;
        ph_status status = try_open(&rig, 0);
        if (status == PH_OK) {
            pheap_read *reader;
            assert_int_equal(pheap_read_begin(rig.heap, PHEAP_FRESH, &reader), PHEAP_OK);
            status = (ph_status)pheap_check(reader, NULL, NULL, NULL);
            pheap_read_end(reader);
            close_heap(&rig);
        }
        if (status == PH_CORRUPT) {
            outcome.refused++;
            ph_core_forget_mappings(ph_sim_io(rig.sim));
            continue;
        }
        assert_int_equal(status, PH_OK);
        uint8_t byte;
        assert_int_equal(ph_sim_peek(rig.sim, PATH, &byte, 1, at), 1);
        if (byte == image.bytes[at]) {
            outcome.healed++;
            continue;
        }
        image.bytes[at] ^= (uint8_t)(1u << bit);
        payload += is_payload(&image, at);
        if (!is_payload(&image, at) && classify(&image, at, bit) == EXCEPTIONS)
            fail_msg("bit %u of byte 0x%" PRIx64 " is not seen", bit, at);
        image.bytes[at] ^= (uint8_t)(1u << bit);
    }
    assert_true(outcome.healed > 0 && payload > 0);
    print_outcome("interior of a killed heap", &outcome);
    free_files(&files);
    free_files(&recovered);
    free_rig(&rig);
}

int main(int argc, char **argv)
{
    if (argc > 1)
        cmocka_set_test_filter(argv[1]);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(interior__every_bit),
        cmocka_unit_test(interior__of_a_mapped_table),
        cmocka_unit_test(interior__of_a_killed_heap),
        cmocka_unit_test(log__every_bit_of_a_killed_heap),
        cmocka_unit_test(log__every_bit_of_a_closed_heap),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
