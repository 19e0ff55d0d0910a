/* SPDX-License-Identifier: MIT */
/* The allocator: size classes, blocks, and what becomes of freed space. */
#include "tests/alloc_rig.h"

/* --------------------------------------------------------------------------------------------------- size classes */

/* Catches a class table or class function that breaks the promised bound on rounding, or is not the tightest. */
static void sizeclass__rounds_up_by_at_most_an_eighth(void **state)
{
    (void)state;
    for (uint64_t length = 1; length <= PH_SMALL_MAX; length++) {
        unsigned class = ph_class_of(length);
        assert_true(class < PH_CLASSES);
        uint64_t size = ph_classes[class].size;
        assert_true(size >= length);
        assert_true(size - length < 16 || (size - length) * 8 <= length);
        assert_true(class == 0 || ph_classes[class - 1].size < length);
    }
}

/* Catches a slab layout that overlaps its header, passes its end, wastes more than 1/16, or is not aligned. */
static void sizeclass__layouts_fit(void **state)
{
    (void)state;
    for (unsigned class = 0; class < PH_CLASSES; class += 1) {
        const struct ph_class *c = &ph_classes[class];
        uint64_t bytes = (uint64_t)c->pages * PH_PAGE_BYTES;
        assert_true(c->pages <= PH_SLAB_PAGES && c->count <= 1024 && ph_class_words(c) <= PH_SLAB_WORDS);
        assert_true(ph_class_header(c) <= c->first);
        assert_true(c->first + (uint64_t)c->count * c->size <= bytes);
        assert_true(bytes - (uint64_t)c->count * c->size <= bytes / 16);
        uint64_t natural = c->size & (0 - c->size);
        natural = natural > PH_SLOT_ALIGN_MAX ? PH_SLOT_ALIGN_MAX : natural;
        assert_int_equal(c->first % natural, 0);
    }
}

/* Catches a reciprocal that is off by one for some offset. */
static void sizeclass__slot_is_the_quotient(void **state)
{
    (void)state;
    for (unsigned class = 0; class < PH_CLASSES; class += 1) {
        const struct ph_class *c = &ph_classes[class];
        for (uint64_t at = 0; at < PH_SLAB_PAGES * PH_PAGE_BYTES; at++) {
            assert_int_equal(ph_class_slot(c, at), at / c->size);
        }
    }
}

/* Catches lists of free extents that are not monotonic, or beyond the last. */
static void extent__lists_ascend_with_the_length(void **state)
{
    (void)state;
    unsigned last = 0;
    for (uint64_t pages = 1; pages < 100000; pages++) {
        unsigned list = ph_free_list(pages);
        assert_true(list == last || list == last + 1);
        last = list;
    }
    assert_int_equal(ph_free_list(PH_PAGE_LIMIT * 2 - 1), PH_FREE_LISTS - 1);
}

/* --------------------------------------------------------------------------------------------------------- blocks */

/* Catches blocks that overlap, are too short, not aligned, or that find does not know. */
static void alloc__gives_aligned_disjoint_blocks(void **state)
{
    (void)state;
    struct rig rig;
    rig_open(&rig, 8 * GIB);
    for (uint64_t alignment = 16; alignment <= MIB; alignment *= 2) {
        for (int i = 0; i < 40; i++) {
            uint64_t length = 1 + draw(UINT64_C(1) << (4 + draw(14)));
            uint64_t offset = 0;
            uint64_t start = 0;
            uint64_t usable = 0;
            assert_int_equal(ph_alloc(&rig.edits, alignment, length, false, &offset), PH_OK);
            assert_int_equal(offset % alignment, 0);
            for (uint64_t at = 0; at < length; at += 1 + length / 7) {
                assert_int_equal(ph_alloc_find(rig_space(&rig), offset + at, &start, &usable), PH_OK);
                assert_int_equal(start, offset);
                assert_true(usable >= length);
            }
        }
    }
    rig_commit(&rig);
    rig_check(&rig);
    rig_compare(&rig);
    uint64_t end = 0;
    uint64_t start;
    uint64_t length;
    unsigned count = 0;
    while (ph_alloc_next(rig_space(&rig), end, &start, &length) == PH_OK) {
        assert_true(start >= end);
        end = start + length;
        count++;
    }
    assert_int_equal(count, 17 * 40);
    rig_close(&rig);
}

/* Catches zeroed blocks that show what an earlier block, or an aborted transaction, left there. */
static void alloc__zeroes_on_request(void **state)
{
    (void)state;
    static const uint64_t lengths[] = {1, 16, 200, 4096, 30000, 40000, 300000, 5000000};
    struct rig rig;
    rig_open(&rig, 8 * GIB);
    for (int round = 0; round < 6; round++) {
        for (size_t i = 0; i < sizeof lengths / sizeof lengths[0]; i++) {
            uint64_t offset;
            assert_int_equal(ph_alloc(&rig.edits, 16, lengths[i], true, &offset), PH_OK);
            for (uint64_t at = 0; at < lengths[i]; at++) {
                assert_int_equal(rig.edits.base[offset + at], 0);
            }
            memset(rig.edits.base + offset, 0xEE, lengths[i]);
            if (i % 2 == 0) {
                must_free(&rig, offset);
            }
        }
        if (round % 2 == 0) {
            rig_abort(&rig);
        } else {
            rig_commit(&rig);
        }
        rig_compare(&rig);
    }
    rig_close(&rig);
}

/* Catches requests out of range that are not refused, and outputs touched on failure. */
static void alloc__refuses_impossible_requests(void **state)
{
    (void)state;
    struct rig rig;
    rig_open(&rig, 64 * MIB);
    uint64_t offset = 77;
    assert_int_equal(ph_alloc(&rig.edits, 16, 0, false, &offset), PH_INVALID);
    assert_int_equal(ph_alloc(&rig.edits, 16, (UINT64_C(1) << 46) + 1, false, &offset), PH_INVALID);
    assert_int_equal(ph_alloc(&rig.edits, 24, 100, false, &offset), PH_INVALID);
    assert_int_equal(ph_alloc(&rig.edits, 8, 100, false, &offset), PH_INVALID);
    assert_int_equal(ph_alloc(&rig.edits, 0, 100, false, &offset), PH_INVALID);
    assert_int_equal(ph_alloc(&rig.edits, 2 * GIB, 100, false, &offset), PH_INVALID);
    assert_int_equal(ph_alloc(&rig.edits, 16, UINT64_C(1) << 46, false, &offset), PH_RESERVE);
    assert_int_equal(ph_realloc(&rig.edits, &offset, 100), PH_BAD_OFFSET);
    assert_int_equal(offset, 77);
    rig_commit(&rig);
    assert_one_extent(&rig);
    rig_close(&rig);
}

/* Catches a bad offset that is taken for a block, and a wrong status or place in the text. */
static void free__names_what_is_wrong(void **state)
{
    (void)state;
    struct rig rig;
    rig_open(&rig, 8 * GIB);
    uint64_t keep = must_alloc(&rig, 48);
    uint64_t small = must_alloc(&rig, 48);
    uint64_t large = must_alloc(&rig, 40 * PH_PAGE_BYTES);
    uint64_t wall = must_alloc(&rig, 40 * PH_PAGE_BYTES);
    uint64_t last = must_alloc(&rig, 9 * PH_PAGE_BYTES);
    uint64_t end = rig.edits.heap_size; /* it grew by more */
    char text[64];
    assert_int_equal(ph_free(&rig.edits, 0), PH_OK);
    assert_int_equal(ph_free(&rig.edits, small + 16), PH_BAD_OFFSET);
    (void)snprintf(text, sizeof text, "inside the 48-byte block at 0x%llx", (unsigned long long)small);
    assert_non_null(strstr(ph_detail(), text));
    assert_int_equal(ph_free(&rig.edits, small + 1), PH_BAD_OFFSET);
    assert_int_equal(ph_free(&rig.edits, large + 1), PH_BAD_OFFSET);
    for (uint64_t page = 1; page < 40; page++) {
        assert_int_equal(ph_free(&rig.edits, large + page * PH_PAGE_BYTES), PH_BAD_OFFSET);
        (void)snprintf(text, sizeof text, "inside the 163840-byte block at 0x%llx", (unsigned long long)large);
        assert_non_null(strstr(ph_detail(), text));
    }
    uint64_t slab = small & ~(uint64_t)(PH_PAGE_BYTES - 1);
    uint64_t metadata[] = {16, 4096, PH_HEAP_START, PH_HEAP_START + PH_PAGE_BYTES, slab};
    for (size_t i = 0; i < sizeof metadata / sizeof metadata[0]; i++) {
        assert_int_equal(ph_free(&rig.edits, metadata[i]), PH_BAD_OFFSET);
        assert_non_null(strstr(ph_detail(), "in metadata"));
        assert_int_equal(ph_alloc_kind(rig_space(&rig), metadata[i]), PH_KIND_METADATA);
    }
    assert_int_equal(ph_free(&rig.edits, end), PH_BAD_OFFSET);
    assert_int_equal(ph_free(&rig.edits, UINT64_MAX), PH_BAD_OFFSET);
    assert_int_equal(ph_free(&rig.edits, UINT64_MAX - 15), PH_BAD_OFFSET);
    assert_non_null(strstr(ph_detail(), "beyond the end"));
    assert_int_equal(ph_free(&rig.edits, end - 16), PH_BAD_OFFSET); /* never allocated */
    assert_int_equal(ph_alloc_kind(rig_space(&rig), end), PH_KIND_INVALID);
    assert_int_equal(ph_alloc_kind(rig_space(&rig), end - 16), PH_KIND_FREE);
    rig_commit(&rig);

    /* A block of an earlier transaction: freed, freed again in this one, and in the next. */
    for (int again = 0; again < 2; again++) {
        assert_int_equal(ph_free(&rig.edits, small), again ? PH_DOUBLE_FREE : PH_OK);
        assert_int_equal(ph_free(&rig.edits, large), again ? PH_DOUBLE_FREE : PH_OK);
        assert_int_equal(ph_free(&rig.edits, small), PH_DOUBLE_FREE);
        assert_int_equal(ph_free(&rig.edits, large), PH_DOUBLE_FREE);
        assert_int_equal(ph_free(&rig.edits, small + 16), PH_BAD_OFFSET);
        assert_int_equal(ph_alloc_kind(rig_space(&rig), small), PH_KIND_FREE);
        assert_int_equal(ph_alloc_kind(rig_space(&rig), large + 5000), PH_KIND_FREE);
        uint64_t start = 5;
        uint64_t length = 6;
        assert_int_equal(ph_alloc_find(rig_space(&rig), small, &start, &length), PH_BAD_OFFSET);
        assert_int_equal(ph_alloc_find(rig_space(&rig), large, &start, &length), PH_BAD_OFFSET);
        assert_true(start == 5 && length == 6);
        rig_commit(&rig);
        rig_check(&rig);
    }
    must_free(&rig, keep);
    must_free(&rig, wall);
    must_free(&rig, last);
    rig_commit(&rig);
    assert_int_equal(ph_free(&rig.edits, keep), PH_DOUBLE_FREE);
    assert_int_equal(ph_free(&rig.edits, wall), PH_DOUBLE_FREE);
    assert_one_extent(&rig);
    rig_close(&rig);
}

/* Catches extents that do not merge, slabs or table segments that are kept (M3): in any order, after growth. */
static void free__of_everything_leaves_one_extent(void **state)
{
    (void)state;
    enum { COUNT = 3000 };
    static uint64_t blocks[COUNT];
    for (int order = 0; order < 3; order++) {
        struct rig rig;
        rig_open(&rig, 64 * GIB);
        for (int i = 0; i < COUNT; i++) {
            blocks[i] = must_alloc(&rig, i % 10 == 0 ? 1 + draw(MIB) : 1 + draw(5000));
            if (i % 100 == 0) {
                rig_commit(&rig);
            }
        }
        rig_commit(&rig);
        rig_check(&rig);
        for (int i = 0; i < COUNT; i++) {
            int other = order == 2 ? (int)draw(COUNT) : i;
            uint64_t swap = blocks[i];
            blocks[i] = blocks[other];
            blocks[other] = swap;
        }
        for (int i = 0; i < COUNT; i++) {
            must_free(&rig, blocks[order == 1 ? COUNT - 1 - i : i]);
            if (i % 70 == 0) {
                rig_commit(&rig);
            }
        }
        rig_commit(&rig);
        assert_one_extent(&rig);
        rig_compare(&rig);
        rig_close(&rig);
    }
}

/* Catches a heap that grows for ever under a steady load, and memory that exceeds 1.2 times the payload. */
static void alloc__reuses_what_was_freed(void **state)
{
    (void)state;
    enum { COUNT = 100000 };
    static uint64_t blocks[COUNT];
    static uint64_t lengths[COUNT];
    struct rig rig;
    rig_open(&rig, 8 * GIB);
    uint64_t payload = 0;
    for (int i = 0; i < 8 * COUNT; i++) {
        int k = i < COUNT ? i : (int)draw(COUNT);
        if (i >= COUNT) {
            must_free(&rig, blocks[k]);
            payload -= lengths[k];
        }
        uint64_t scale = UINT64_C(16) << draw(6);
        lengths[k] = scale + draw(scale);
        payload += lengths[k];
        blocks[k] = must_alloc(&rig, lengths[k]);
        if (i % 100 == 0) {
            rig_commit(&rig);
        }
    }
    rig_commit(&rig);
    struct pheap_space figures = rig_figures(&rig);
    uint64_t used = figures.heap_bytes - figures.extent_free_bytes;
    assert_true(used * 10 < payload * 12);
    rig_check(&rig);
    rig_close(&rig);
}

/* Catches an allocation that fails for lack of room although there is a free extent long enough. */
static void alloc__uses_the_last_extent(void **state)
{
    (void)state;
    enum { COUNT = 30 };
    uint64_t blocks[COUNT];
    struct rig rig;
    rig_open(&rig, 16 * MIB);
    for (int i = 0; i < COUNT; i++) {
        blocks[i] = must_alloc(&rig, (i == 0 ? 35 : 34) * PH_PAGE_BYTES); /* lengths that share a list */
        (void)must_alloc(&rig, 10 * PH_PAGE_BYTES);
    }
    uint64_t offset = 0;
    while (ph_alloc(&rig.edits, 16, 9 * PH_PAGE_BYTES, false, &offset) == PH_OK) {
    }
    assert_int_equal(ph_alloc(&rig.edits, 16, 35 * PH_PAGE_BYTES, false, &offset), PH_RESERVE);
    for (int i = 0; i < COUNT; i++) {
        must_free(&rig, blocks[i]);
    }
    assert_int_equal(ph_alloc(&rig.edits, 16, 35 * PH_PAGE_BYTES, false, &offset), PH_OK);
    assert_int_equal(offset, blocks[0]);
    assert_int_equal(ph_alloc(&rig.edits, 16, 35 * PH_PAGE_BYTES, false, &offset), PH_RESERVE);
    rig_commit(&rig);
    rig_check(&rig);
    rig_close(&rig);
}

/* Catches metadata, superblocks aside, above 2 % of a heap from 1 MiB on. */
static void alloc__keeps_metadata_below_a_fiftieth(void **state)
{
    (void)state;
    static const uint64_t lengths[] = {10, 24, 64, 100, 1000, 5000, 20000, 60000, 3000000};
    for (size_t i = 0; i < sizeof lengths / sizeof lengths[0]; i++) {
        struct rig rig;
        rig_open(&rig, 8 * GIB);
        for (uint64_t goal = 1; goal <= 64; goal *= 4) {
            while (rig.edits.heap_size < goal * MIB) {
                (void)must_alloc(&rig, lengths[i]);
            }
            rig_commit(&rig);
            struct pheap_space figures = rig_figures(&rig);
            assert_true((figures.metadata_bytes - PH_HEAP_START) * 50 <= figures.heap_bytes);
        }
        rig_close(&rig);
    }
}

/* Catches a steady small allocate or free that logs more than a word or two. */
static void alloc__logs_few_words(void **state)
{
    (void)state;
    enum { COUNT = 200 };
    uint64_t blocks[COUNT];
    struct rig rig;
    rig_open(&rig, MIB);
    for (int i = 0; i < COUNT; i++) {
        blocks[i] = must_alloc(&rig, 64);
    }
    rig_commit(&rig);
    rig.logged_words = 0;
    for (int i = 0; i < 50; i++) {
        must_free(&rig, blocks[i]);
        rig_commit(&rig);
    }
    for (int i = 0; i < 50; i++) {
        (void)must_alloc(&rig, 64);
        rig_commit(&rig);
    }
    assert_int_equal(rig.logged_words, 100);
    rig_close(&rig);
}

/* Catches blocks of terabytes that cost more than their ends, or whose inside is not found. */
static void alloc__holds_huge_sparse_blocks(void **state)
{
    (void)state;
    struct rig rig;
    rig_open(&rig, 8 * TIB);
    uint64_t length = TIB;
    while (length > rig.reserve / 4) {
        length /= 2;
    }
    uint64_t front = must_alloc(&rig, 100);
    uint64_t huge;
    uint64_t second;
    assert_int_equal(ph_alloc(&rig.edits, 16, length, true, &huge), PH_OK);
    assert_int_equal(ph_alloc(&rig.edits, GIB, length / 2 + 1, true, &second), PH_OK);
    uint64_t back = must_alloc(&rig, 100);
    assert_int_equal(second % GIB, 0);
    memcpy(rig.edits.base + huge + length - 8, "the end", 8);
    rig_commit(&rig);
    rig_check(&rig);
    struct pheap_space figures = rig_figures(&rig);
    assert_true(figures.metadata_bytes * 50 <= figures.heap_bytes);
    for (int i = 0; i < 10000; i++) {
        uint64_t start;
        uint64_t usable;
        uint64_t at = huge + (i % 2 == 0 ? draw(length) : draw(64 * PH_PAGE_BYTES));
        assert_int_equal(ph_alloc_find(rig_space(&rig), at, &start, &usable), PH_OK);
        assert_int_equal(start, huge);
        assert_int_equal(usable, length);
        at = second + draw(length / 2);
        assert_int_equal(ph_alloc_find(rig_space(&rig), at, &start, &usable), PH_OK);
        assert_int_equal(start, second);
    }
    for (int i = 0; i < 3; i++) {
        must_free(&rig, second);
        rig_commit(&rig);
        rig_check(&rig);
        assert_int_equal(ph_alloc(&rig.edits, 16, length / 2, false, &second), PH_OK);
        rig_commit(&rig);
        rig_check(&rig);
    }
    must_free(&rig, huge);
    must_free(&rig, back);
    rig_commit(&rig);
    rig_check(&rig);
    must_free(&rig, second);
    must_free(&rig, front);
    rig_commit(&rig);
    assert_one_extent(&rig);
    huge = must_alloc(&rig, length); /* the tables are built again, over pages that were used */
    rig_commit(&rig);
    rig_check(&rig);
    must_free(&rig, huge);
    rig_commit(&rig);
    assert_one_extent(&rig);
    rig_close(&rig);
}

/* Catches realloc losing content, moving without need, or leaving the root behind. */
static void realloc__keeps_content_and_place(void **state)
{
    (void)state;
    struct rig rig;
    rig_open(&rig, 8 * GIB);
    uint64_t block = 0;
    assert_int_equal(ph_realloc(&rig.edits, &block, 50), PH_OK);
    memcpy(rig.edits.base + block, "content", 8);
    assert_int_equal(ph_alloc_set_root(&rig.edits, block), PH_OK);
    uint64_t before = block;
    assert_int_equal(ph_realloc(&rig.edits, &block, 63), PH_OK);
    assert_int_equal(block, before);
    static const uint64_t lengths[] = {100, 5000, 40000, 80000, 3000000, 2000000, 100000, 33000, 5000, 10};
    for (int together = 0; together < 2; together++) {
        for (size_t i = 0; i < sizeof lengths / sizeof lengths[0]; i++) {
            if (!together) {
                rig_commit(&rig);
                rig_check(&rig);
                rig_compare(&rig);
            }
            before = block;
            assert_int_equal(ph_realloc(&rig.edits, &block, lengths[i]), PH_OK);
            assert_memory_equal(rig.edits.base + block, "content", 8);
            assert_int_equal(ph_alloc_root(rig_space(&rig)), block);
            if (i == 5 || i == 6 || i == 7) {
                assert_int_equal(block, before); /* it shrinks, by whole pages */
            }
        }
    }
    rig_commit(&rig);
    rig_check(&rig);
    must_free(&rig, block);
    assert_int_equal(ph_alloc_root(rig_space(&rig)), 0);
    rig_commit(&rig);
    assert_one_extent(&rig);
    rig_close(&rig);
}

/* Catches a shrink of an old block that abort does not undo, or whose rest is used before commit. */
static void realloc__of_an_old_block_can_be_undone(void **state)
{
    (void)state;
    struct rig rig;
    rig_open(&rig, 8 * GIB);
    uint64_t block = must_alloc(&rig, 100 * PH_PAGE_BYTES);
    memset(rig.edits.base + block, 7, 100 * PH_PAGE_BYTES);
    uint64_t wall = must_alloc(&rig, 10 * PH_PAGE_BYTES);
    rig_commit(&rig);
    for (int commit = 0; commit < 2; commit++) {
        uint64_t start;
        uint64_t length;
        uint64_t same = block;
        assert_int_equal(ph_realloc(&rig.edits, &same, 20 * PH_PAGE_BYTES), PH_OK);
        assert_int_equal(same, block);
        assert_int_equal(ph_alloc_find(rig_space(&rig), block, &start, &length), PH_OK);
        assert_int_equal(length, 20 * PH_PAGE_BYTES);
        assert_int_equal(ph_alloc_find(rig_space(&rig), block + 30 * PH_PAGE_BYTES, &start, &length), PH_BAD_OFFSET);
        uint64_t other = must_alloc(&rig, 60 * PH_PAGE_BYTES);
        assert_true(other > wall);
        assert_int_equal(ph_realloc(&rig.edits, &same, 90 * PH_PAGE_BYTES), PH_OK);
        assert_int_equal(same, block);
        assert_int_equal(ph_realloc(&rig.edits, &same, 50 * PH_PAGE_BYTES), PH_OK);
        if (commit) {
            rig_commit(&rig);
        } else {
            rig_abort(&rig);
        }
        rig_check(&rig);
        rig_compare(&rig);
        assert_int_equal(ph_alloc_find(rig_space(&rig), block, &start, &length), PH_OK);
        assert_int_equal(length, (commit ? 50 : 100) * PH_PAGE_BYTES);
    }
    rig_close(&rig);
}

/* Catches the rest of a cut that is described in a part of the page table that was never used. */
static void realloc__shrinks_far_out(void **state)
{
    (void)state;
    struct rig rig;
    rig_open(&rig, 8 * GIB);
    for (int old = 0; old < 2; old++) {
        uint64_t block = must_alloc(&rig, 300 * MIB);
        uint64_t wall = must_alloc(&rig, 300 * MIB);
        if (old) {
            rig_commit(&rig);
        }
        assert_int_equal(ph_realloc(&rig.edits, &block, 150 * MIB + 5), PH_OK);
        rig_commit(&rig);
        rig_check(&rig);
        must_free(&rig, block);
        must_free(&rig, wall);
        rig_commit(&rig);
        assert_one_extent(&rig);
    }
    rig_close(&rig);
}

/* Catches a root that is not checked, or not part of the transaction. */
static void root__must_be_a_live_block(void **state)
{
    (void)state;
    struct rig rig;
    rig_open(&rig, MIB);
    assert_int_equal(ph_alloc_root(rig_space(&rig)), 0);
    uint64_t block = must_alloc(&rig, 48);
    assert_int_equal(ph_alloc_set_root(&rig.edits, block + 16), PH_BAD_OFFSET);
    assert_int_equal(ph_alloc_set_root(&rig.edits, 8192), PH_BAD_OFFSET);
    assert_int_equal(ph_alloc_set_root(&rig.edits, block), PH_OK);
    rig_commit(&rig);
    assert_int_equal(ph_alloc_set_root(&rig.edits, 0), PH_OK);
    rig_abort(&rig);
    assert_int_equal(ph_alloc_root(rig_space(&rig)), block);
    must_free(&rig, block);
    assert_int_equal(ph_alloc_set_root(&rig.edits, block), PH_BAD_OFFSET);
    rig_close(&rig);
}

/* --------------------------------------------------------------------------------------------------------- damage */

#define SLABS 3u

/* Allocate all that the slabs offer and more, undo it, then free all that they have: whether something was refused. */
static bool use_slabs(struct rig *rig, const uint64_t *blocks, unsigned count, uint64_t length)
{
    bool refused = false;
    for (unsigned i = 0; i < count; i++) {
        uint64_t block;
        ph_status status = ph_alloc(&rig->edits, 16, length, false, &block);
        assert_true(status == PH_OK || status == PH_CORRUPT);
        refused = refused || status == PH_CORRUPT;
    }
    rig_abort(rig);
    for (unsigned i = 0; i < count; i++) {
        ph_status status = ph_free(&rig->edits, blocks[i]);
        assert_true(status == PH_OK || status == PH_CORRUPT || status == PH_DOUBLE_FREE || status == PH_BAD_OFFSET);
        refused = refused || status == PH_CORRUPT;
    }
    refused = ph_alloc_apply_deferred(&rig->edits) == PH_CORRUPT || refused;
    rig_abort(rig);
    return refused;
}

/* Catches a slab that is put into a list, or taken out, by links that lead elsewhere, and slots that there are not. */
static void slab__damaged_lists_are_refused(void **state)
{
    (void)state;
    struct rig rig;
    struct ph_heap heap = {0};
    const uint64_t length = 2048;
    const unsigned class = ph_class_of(length), count = ph_classes[class].count * SLABS;
    uint64_t *blocks = calloc(count, sizeof *blocks);
    assert_non_null(blocks);
    assert_true(ph_classes[class].count < 63);
    rig_open(&rig, 64 * MIB);
    const uint64_t large = must_alloc(&rig, 100000) >> PH_PAGE_SHIFT;
    for (unsigned i = 0; i < count; i++) {
        blocks[i] = must_alloc(&rig, length);
    }
    rig_commit(&rig);
    for (unsigned i = 0; i < count; i += 2) {
        must_free(&rig, blocks[i]);
    }
    rig_commit(&rig);
    rig_check(&rig);
    assert_int_equal(ph_heap_load(rig_space(&rig), &heap), PH_OK);
    const uint64_t list = PH_HEADER_AT(partial) + 8u * class, head = ph_load(rig.edits.base, list);
    const uint64_t next = PH_SLAB_FIELD(head, next_page), prev = PH_SLAB_FIELD(head, prev_page);
    const uint64_t bitmap = PH_SLAB_FIELD(head, bitmap), spare = PH_HEADER_AT(spare_page);
    const struct {
        uint64_t at, value;
    } damages[] = {
        {next, 0},  {next, heap.tail + 1}, {next, large},      {next, head},
        {prev, 0},  {prev, heap.tail},     {prev, large},      {prev, head},
        {list, 1},  {list, large},         {list, heap.tail},  {bitmap, 0},
        {spare, 1}, {spare, large},        {spare, heap.tail}, {bitmap, UINT64_C(1) << 63},
    };
    const size_t used = heap.tail << PH_PAGE_SHIFT;
    uint8_t *image = malloc(used);
    assert_non_null(image);
    memcpy(image, rig.edits.base, used);
    for (size_t i = 0; i < sizeof damages / sizeof damages[0]; i++) {
        memcpy(rig.edits.base + damages[i].at, &damages[i].value, sizeof damages[i].value);
        if (!use_slabs(&rig, blocks, count, length)) {
            fail_msg("damage %zu was not noticed", i);
        }
        memcpy(rig.edits.base + damages[i].at, image + damages[i].at, sizeof damages[i].value);
        assert_int_equal(ph_load(rig.edits.base, spare), ph_load(image, spare));
    }
    assert_false(use_slabs(&rig, blocks, count, length));
    rig_check(&rig);
    free(image);
    free(blocks);
    rig_close(&rig);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sizeclass__rounds_up_by_at_most_an_eighth),
        cmocka_unit_test(sizeclass__layouts_fit),
        cmocka_unit_test(sizeclass__slot_is_the_quotient),
        cmocka_unit_test(extent__lists_ascend_with_the_length),
        cmocka_unit_test(alloc__gives_aligned_disjoint_blocks),
        cmocka_unit_test(alloc__zeroes_on_request),
        cmocka_unit_test(alloc__refuses_impossible_requests),
        cmocka_unit_test(free__names_what_is_wrong),
        cmocka_unit_test(free__of_everything_leaves_one_extent),
        cmocka_unit_test(alloc__reuses_what_was_freed),
        cmocka_unit_test(alloc__uses_the_last_extent),
        cmocka_unit_test(alloc__keeps_metadata_below_a_fiftieth),
        cmocka_unit_test(alloc__logs_few_words),
        cmocka_unit_test(alloc__holds_huge_sparse_blocks),
        cmocka_unit_test(realloc__keeps_content_and_place),
        cmocka_unit_test(realloc__of_an_old_block_can_be_undone),
        cmocka_unit_test(realloc__shrinks_far_out),
        cmocka_unit_test(root__must_be_a_live_block),
        cmocka_unit_test(slab__damaged_lists_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
