/* SPDX-License-Identifier: MIT */
/*
 * The allocator, on real edits over plain memory: no file, no log.
 *
 * A second copy of the heap, the replica, gets at each commit exactly what the edits would log: changed words and
 * fresh blocks.  Where the replica and the heap differ in something that matters, a change was not declared, or an
 * abort did not put back what it should have.
 */
#include "io/io.h"
#include "pheap/alloc.h"
#include "pheap/check.h"
#include "pheap/extent.h"
#include "pheap/pagemap.h"
#include "pheap/sizeclass.h"
#include "pheap/slab.h"
#include "pheap/space.h"
#include "pheap/view.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>

#include <cmocka.h>

/* -------------------------------------------------------------------------------------------------------- the rig */

#define KIB UINT64_C(1024)
#define MIB (KIB * KIB)
#define GIB (KIB * MIB)
#define TIB (KIB * GIB)

struct rig {
    struct ph_edits edits;
    struct ph_view view;
    struct ph_store store;
    struct ph_coord *coord;
    ph_io io;
    uint64_t reserve;
    uint64_t size; /* committed */
    uint8_t *replica;
    uint64_t logged_words; /* by commits so far, fresh blocks not counted */
    uint64_t memory_calls; /* allocations from `io` */
    uint64_t fail_at;      /* the allocation that fails, 0: none */
};

static struct rig *current;
static char heap_name[] = "test-heap";

static void *rig_alloc(void *ctx, size_t length, size_t alignment)
{
    (void)ctx;
    if (++current->memory_calls == current->fail_at) {
        return NULL;
    }
    return aligned_alloc(alignment, (length + alignment - 1) & ~(alignment - 1));
}

static void *rig_resize(void *ctx, void *memory, size_t length)
{
    (void)ctx;
    return ++current->memory_calls == current->fail_at ? NULL : realloc(memory, length);
}

static void rig_free(void *ctx, void *memory)
{
    (void)ctx;
    free(memory);
}

/* The dropped pages show the file again: everything that was ever committed. */
static int rig_drop(void *ctx, void *address, size_t length)
{
    (void)ctx;
    int result = madvise(address, length, MADV_DONTNEED);
    if (length <= 64 * MIB) {
        memcpy(address, current->replica + ((uint8_t *)address - current->edits.base), length);
    }
    return result == 0 ? 0 : -1;
}

static int rig_random(void *ctx, void *buffer, size_t length)
{
    (void)ctx;
    memset(buffer, 42, length);
    return 0;
}

static uint8_t *map_reserve(uint64_t length)
{
    void *address = mmap(NULL, length, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (address == MAP_FAILED) {
        return NULL;
    }
    (void)madvise(address, length, MADV_NOHUGEPAGE);
    return address;
}

static struct ph_space rig_space(const struct rig *rig)
{
    return (struct ph_space){rig->edits.base, rig->edits.heap_size};
}

static void rig_begin(struct rig *rig)
{
    rig->view.at.heap_bytes = rig->size;
    assert_int_equal(ph_edits_begin(&rig->edits, &rig->view), PH_OK);
}

/* A new heap.  As much address space as there is, up to `reserve`. */
static void rig_open(struct rig *rig, uint64_t reserve)
{
    memset(rig, 0, sizeof *rig);
    current = rig;
    rig->io =
        (ph_io){.alloc = rig_alloc, .resize = rig_resize, .free = rig_free, .drop = rig_drop, .random = rig_random};
    while ((rig->view.base = map_reserve(reserve)) == NULL || (rig->replica = map_reserve(reserve)) == NULL) {
        if (rig->view.base != NULL) {
            (void)munmap(rig->view.base, reserve);
        }
        reserve /= 2;
        assert_true(reserve >= MIB);
    }
    rig->reserve = reserve;
    rig->coord = aligned_alloc(64, (sizeof *rig->coord + 63) / 64 * 64);
    assert_non_null(rig->coord);
    memset(rig->coord, 0, sizeof *rig->coord);
    rig->coord->physical_bytes = UINT64_MAX; /* no file to extend */
    rig->store.io = &rig->io;
    rig->store.heap.path = heap_name;
    rig->store.wal.coord = rig->coord;
    rig->view.store = &rig->store;
    rig->view.reserve_bytes = reserve;
    rig->view.budget_bytes = UINT64_MAX;
    rig->size = ph_alloc_initial_bytes();
    ph_alloc_format(rig->view.base);
    ph_alloc_format(rig->replica);
    rig_begin(rig);
}

static void rig_close(struct rig *rig)
{
    rig->fail_at = 0;
    ph_edits_end(&rig->edits);
    ph_edits_deinit(&rig->edits);
    (void)munmap(rig->view.base, rig->reserve);
    (void)munmap(rig->replica, rig->reserve);
    free(rig->coord);
}

/* What commit would log: words whose value differs from the oldest one saved, and fresh blocks whole. */
static void rig_replay(struct rig *rig)
{
    const struct ph_edits *e = &rig->edits;
    for (uint32_t i = 0; i < e->line_count; i++) {
        const struct ph_edit_line *line = &e->lines[i];
        for (unsigned word = 0; word < 8; word++) {
            bool own = line->mask >> word & 1;
            for (uint32_t older = line->shadowed; older != 0 && own; older = e->lines[older - 1].shadowed) {
                own = !(e->lines[older - 1].mask >> word & 1);
            }
            uint64_t at = line->offset + 8 * word;
            if (own && memcmp(line->old + 8 * word, e->base + at, 8) != 0) {
                memcpy(rig->replica + at, e->base + at, 8);
                rig->logged_words++;
            }
        }
    }
    for (uint32_t i = 0; i < e->fresh_count; i++) {
        if (e->fresh[i].live && e->fresh[i].length <= 64 * MIB) {
            memcpy(rig->replica + e->fresh[i].offset, e->base + e->fresh[i].offset, e->fresh[i].length);
        }
    }
}

static void rig_abort(struct rig *rig)
{
    /* Whatever a program stored into its new blocks stays behind. */
    for (uint32_t i = 0; i < rig->edits.fresh_count; i++) {
        const struct ph_fresh *fresh = &rig->edits.fresh[i];
        memset(rig->edits.base + fresh->offset, 0x5A, fresh->length < 64 * KIB ? fresh->length : 64 * KIB);
    }
    ph_edits_undo(&rig->edits);
    ph_edits_end(&rig->edits);
    rig_begin(rig);
}

static void rig_commit(struct rig *rig)
{
    assert_int_equal(ph_alloc_apply_deferred(&rig->edits), PH_OK);
    rig_replay(rig);
    rig->size = rig->edits.heap_size;
    ph_edits_end(&rig->edits);
    rig_begin(rig);
}

static void print_fault(void *context, uint64_t offset, const char *text)
{
    (void)context;
    print_error("fault at 0x%llx: %s\n", (unsigned long long)offset, text);
}

static void rig_check(const struct rig *rig)
{
    assert_int_equal(ph_check_heap(&rig->io, rig_space(rig), print_fault, NULL, NULL), PH_OK);
}

/* The committed heap and the replica agree in everything that matters: metadata and the content of live blocks. */
static void rig_compare(const struct rig *rig)
{
    struct ph_space space = {rig->edits.base, rig->size};
    struct ph_space copy = {rig->replica, rig->size};
    struct ph_heap heap = {0};
    struct ph_heap other = {0};
    assert_int_equal(ph_heap_load(space, &heap), PH_OK);
    assert_memory_equal(space.base + PH_HEAP_START, copy.base + PH_HEAP_START, PH_PAGE_BYTES);
    assert_int_equal(ph_heap_load(copy, &other), PH_OK);
    for (uint64_t page = 0; page < heap.tail; page++) {
        struct ph_disk_page a = ph_page_get(&heap, page);
        struct ph_disk_page b = ph_page_get(&other, page);
        assert_int_equal(a.word0, b.word0);
        assert_int_equal(a.word1, b.word1);
        if (ph_page_state(a) == PH_PAGE_SLAB && ph_page_value(a) == 0) {
            assert_memory_equal(space.base + (page << PH_PAGE_SHIFT), copy.base + (page << PH_PAGE_SHIFT),
                                ph_class_header(&ph_classes[ph_page_class(a)]));
        }
    }
    uint64_t at = 0;
    uint64_t start;
    uint64_t length;
    while (ph_alloc_next(space, at, &start, &length) == PH_OK) {
        assert_memory_equal(space.base + start, copy.base + start, length);
        at = start + length;
    }
}

static uint64_t must_alloc(struct rig *rig, uint64_t length)
{
    uint64_t offset = 0;
    assert_int_equal(ph_alloc(&rig->edits, 16, length, false, &offset), PH_OK);
    return offset;
}

static void must_free(struct rig *rig, uint64_t offset)
{
    assert_int_equal(ph_free(&rig->edits, offset), PH_OK);
}

static struct pheap_space rig_figures(const struct rig *rig)
{
    struct pheap_space figures = {.size = sizeof figures};
    assert_int_equal(ph_space_walk(rig_space(rig), &figures, NULL, NULL), PH_OK);
    assert_int_equal(figures.metadata_bytes + figures.live_bytes + figures.slab_free_bytes + figures.extent_free_bytes,
                     figures.heap_bytes);
    return figures;
}

/* Everything was freed and committed: what must be left is one free extent and the least of metadata. */
static void assert_one_extent(const struct rig *rig)
{
    struct pheap_space figures = rig_figures(rig);
    rig_check(rig);
    assert_int_equal(figures.live_blocks, 0);
    assert_int_equal(figures.slab_free_bytes, 0);
    assert_int_equal(figures.free_extents, 1);
    assert_int_equal(figures.metadata_bytes, PH_FIRST_PAGE * PH_PAGE_BYTES);
}

static uint64_t seed = 1;

static uint64_t draw(uint64_t limit)
{
    seed += UINT64_C(0x9e3779b97f4a7c15);
    uint64_t x = seed;
    x = (x ^ x >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    x = (x ^ x >> 27) * UINT64_C(0x94d049bb133111eb);
    return (x ^ x >> 31) % limit;
}

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

/* ------------------------------------------------------------------------------------------------- the model test */

#define MODEL_MAX 600

struct block {
    uint64_t offset;
    uint64_t length;
    uint64_t mark; /* what its bytes are made from */
};

struct model {
    struct block blocks[MODEL_MAX];
    int count;
};

static void fill(struct rig *rig, const struct block *block)
{
    uint8_t *at = rig->edits.base + block->offset;
    for (uint64_t i = 0; i < block->length; i += i < 512 ? 1 : 509) {
        at[i] = (uint8_t)(block->mark * 31 + i);
    }
}

static void verify(const struct rig *rig, const struct block *block)
{
    const uint8_t *at = rig->edits.base + block->offset;
    for (uint64_t i = 0; i < block->length; i += i < 512 ? 1 : 509) {
        if (at[i] != (uint8_t)(block->mark * 31 + i)) {
            fail_msg("byte %llu of the block at 0x%llx is wrong", (unsigned long long)i,
                     (unsigned long long)block->offset);
        }
    }
}

static int by_offset(const void *a, const void *b)
{
    uint64_t x = ((const struct block *)a)->offset;
    uint64_t y = ((const struct block *)b)->offset;
    return x < y ? -1 : x > y;
}

/* Enumeration, contents and (unless blocks await commit) the whole-heap check agree with the model. */
static void compare_model(const struct rig *rig, struct model *model)
{
    qsort(model->blocks, (size_t)model->count, sizeof model->blocks[0], by_offset);
    uint64_t at = 0;
    uint64_t start = 0;
    uint64_t length = 0;
    for (int i = 0; i < model->count; i++) {
        assert_int_equal(ph_alloc_next(rig_space(rig), at, &start, &length), PH_OK);
        assert_int_equal(start, model->blocks[i].offset);
        assert_true(length >= model->blocks[i].length);
        verify(rig, &model->blocks[i]);
        at = start + length;
        /* The same from an arbitrary place before it. */
        uint64_t from = i == 0 ? 0 : model->blocks[i - 1].offset + 1;
        from += draw(start - from + 1);
        assert_int_equal(ph_alloc_next(rig_space(rig), from, &start, &length), PH_OK);
        assert_int_equal(start, model->blocks[i].offset);
    }
    assert_int_equal(ph_alloc_next(rig_space(rig), at, &start, &length), PH_END);
}

static uint64_t random_length(void)
{
    switch (draw(12)) {
    case 0:
        return 32768 + draw(200000);
    case 1:
        return 1 + draw(40000);
    case 2:
        return draw(40) == 0 ? 1 + draw(20000000) : 1 + draw(9000);
    default:
        return 1 + draw(UINT64_C(1) << (3 + draw(9)));
    }
}

static void step_alloc(struct rig *rig, struct model *model)
{
    struct block block = {.length = random_length(), .mark = draw(1000)};
    uint64_t alignment = draw(8) == 0 ? UINT64_C(16) << draw(13) : 16;
    bool zero = draw(4) == 0;
    assert_int_equal(ph_alloc(&rig->edits, alignment, block.length, zero, &block.offset), PH_OK);
    assert_int_equal(block.offset % alignment, 0);
    for (uint64_t i = 0; zero && i < block.length; i += 61) {
        assert_int_equal(rig->edits.base[block.offset + i], 0);
    }
    fill(rig, &block);
    model->blocks[model->count++] = block;
}

static void step_free(struct rig *rig, struct model *model)
{
    int i = (int)draw((uint64_t)model->count);
    verify(rig, &model->blocks[i]);
    must_free(rig, model->blocks[i].offset);
    assert_int_equal(ph_free(&rig->edits, model->blocks[i].offset), PH_DOUBLE_FREE);
    model->blocks[i] = model->blocks[--model->count];
}

/* Declare and store, as a program does. */
static void step_write(struct rig *rig, struct block *block)
{
    block->mark = draw(1000);
    if (ph_edits_is_fresh(&rig->edits, block->offset, NULL) != 1) {
        assert_int_equal(ph_edits_range(&rig->edits, block->offset, block->length), PH_OK);
    }
    fill(rig, block);
}

static void step_realloc(struct rig *rig, struct block *block)
{
    uint64_t length = draw(2) == 0 ? random_length() : 1 + draw(2 * block->length);
    uint64_t shorter = length < block->length ? length : block->length;
    assert_int_equal(ph_realloc(&rig->edits, &block->offset, length), PH_OK);
    block->length = shorter;
    verify(rig, block);
    block->length = length;
    step_write(rig, block);
}

static void model_step(struct rig *rig, struct model *model, uint64_t mood)
{
    uint64_t dice = draw(100);
    if (model->count == 0 || (dice < mood && model->count < MODEL_MAX)) {
        step_alloc(rig, model);
    } else if (dice < 70) {
        step_free(rig, model);
    } else if (dice < 85) {
        step_write(rig, &model->blocks[draw((uint64_t)model->count)]);
    } else {
        step_realloc(rig, &model->blocks[draw((uint64_t)model->count)]);
    }
}

/* One transaction with savepoints. */
static void model_transaction(struct rig *rig, struct model *model, uint64_t mood)
{
    enum { LEVELS = 4 };
    static struct model saved[LEVELS];
    static struct model committed;
    uint32_t depth = 0;
    committed = *model;
    for (uint64_t steps = draw(60); steps > 0; steps--) {
        uint64_t dice = draw(30);
        if (dice == 0 && depth < LEVELS) {
            uint32_t savepoint;
            assert_int_equal(ph_edits_savepoint(&rig->edits, &savepoint), PH_OK);
            assert_int_equal(savepoint, depth);
            saved[depth++] = *model;
        } else if (dice == 1 && depth > 0) {
            uint32_t to = (uint32_t)draw(depth);
            assert_true(ph_edits_rollback(&rig->edits, to));
            *model = saved[to];
            depth = to + 1;
            compare_model(rig, model);
        } else {
            model_step(rig, model, mood);
        }
    }
    if (draw(3) == 0) {
        rig_abort(rig);
        *model = committed;
    } else {
        rig_commit(rig);
    }
}

/* Catches everything in which the allocator differs from a list of blocks: the differential model test. */
static void alloc__behaves_like_the_model(void **state)
{
    (void)state;
    static struct model model;
    for (uint64_t run = 1; run <= 6; run++) {
        struct rig rig;
        rig_open(&rig, 8 * GIB);
        seed = run;
        model.count = 0;
        for (int i = 0; i < 400; i++) {
            model_transaction(&rig, &model, i / 40 % 2 == 0 ? 55 : 25);
            compare_model(&rig, &model);
            rig_check(&rig);
            if (i % 8 == 0) {
                rig_compare(&rig);
            }
        }
        while (model.count > 0) {
            step_free(&rig, &model);
        }
        rig_commit(&rig);
        assert_one_extent(&rig);
        rig_compare(&rig);
        rig_close(&rig);
    }
}

/* Catches a failure that leaves the heap changed: memory runs out at each allocation in turn. */
static void alloc__survives_lack_of_memory(void **state)
{
    (void)state;
    static struct model model;
    static struct model before;
    struct rig rig;
    rig_open(&rig, 8 * GIB);
    model.count = 0;
    unsigned struck = 0;
    for (int round = 0; round < 3000; round++) {
        ph_edits_end(&rig.edits);
        ph_edits_deinit(&rig.edits);
        rig_begin(&rig);
        rig.memory_calls = 0;
        rig.fail_at = 1 + draw(6);
        before = model;
        for (int i = 0; i < 70 && model.count < MODEL_MAX - 1; i++) {
            struct block block = {.length = random_length(), .mark = draw(1000)};
            ph_status status;
            uint64_t dice = draw(10);
            int victim = model.count > 0 ? (int)draw((uint64_t)model.count) : -1;
            if (victim < 0 || dice < 5) {
                status = ph_alloc(&rig.edits, 16, block.length, dice == 0, &block.offset);
                if (status == PH_OK) {
                    fill(&rig, &block);
                    model.blocks[model.count++] = block;
                }
            } else if (dice < 8) {
                status = ph_free(&rig.edits, model.blocks[victim].offset);
                if (status == PH_OK) {
                    model.blocks[victim] = model.blocks[--model.count];
                }
            } else {
                block.offset = model.blocks[victim].offset;
                status = ph_realloc(&rig.edits, &block.offset, block.length);
                if (status == PH_OK) {
                    uint64_t fail_at = rig.fail_at;
                    rig.fail_at = 0;
                    step_write(&rig, &block);
                    rig.fail_at = fail_at;
                    model.blocks[victim] = block;
                }
            }
            if (status != PH_OK) {
                assert_int_equal(status, PH_NO_MEMORY);
                struck++;
                compare_model(&rig, &model);
            }
        }
        rig.fail_at = 0;
        if (draw(2) == 0) {
            rig_abort(&rig);
            model = before;
        } else {
            rig_commit(&rig);
        }
        if (round % 10 == 0) {
            compare_model(&rig, &model);
            rig_check(&rig);
            rig_compare(&rig);
        }
        while (model.count > MODEL_MAX / 2) {
            step_free(&rig, &model);
        }
        rig_commit(&rig);
    }
    assert_true(struck > 100);
    rig_close(&rig);
}

/* -------------------------------------------------------------------------------------------------------- damage */

/* A heap of every kind of thing, committed. */
static void build_variety(struct rig *rig)
{
    uint64_t blocks[400];
    rig_open(rig, 8 * GIB);
    for (int i = 0; i < 400; i++) {
        blocks[i] = must_alloc(rig, i % 5 == 0 ? 32769 + draw(100000) : 1 + draw(3000));
    }
    rig_commit(rig);
    for (int i = 0; i < 400; i += 1 + (int)draw(4)) {
        must_free(rig, blocks[i]);
        blocks[i] = 0;
    }
    for (int i = 0; i < 400; i++) {
        if (blocks[i] != 0) {
            assert_int_equal(ph_alloc_set_root(&rig->edits, blocks[i]), PH_OK);
            break;
        }
    }
    rig_commit(rig);
    rig_check(rig);
}

/* A random byte of metadata; *judged: whether the check must notice when a bit of it flips. */
static uint64_t random_metadata(const struct ph_heap *heap, bool *judged)
{
    *judged = true;
    for (;;) {
        uint64_t page = PH_FIRST_PAGE + draw(heap->tail - PH_FIRST_PAGE + 1);
        struct ph_disk_page d = ph_page_get(heap, page);
        uint64_t dice = heap->tail == PH_FIRST_PAGE ? 0 : draw(10);
        if (dice < 3) {
            uint64_t at = PH_HEAP_START + draw(PH_PAGE_BYTES);
            /* Where the heap ends, and what of it was ever used, only the file's size bounds. */
            *judged = (at < PH_HEADER_AT(end_page) || at >= PH_HEADER_AT(tail_page)) &&
                      (at < PH_HEADER_AT(zero_page) || at >= PH_HEADER_AT(root)) &&
                      (at < PH_HEADER_AT(spare_page) || at >= PH_HEADER_AT(reserved0));
            return at;
        }
        if (dice < 7) {
            uint64_t slot = ph_page_slot(heap, page);
            if (slot > PH_SLOT_BAD) {
                return slot + draw(sizeof d);
            }
        } else if (ph_page_state(d) == PH_PAGE_SLAB && ph_page_value(d) == 0) {
            uint64_t at = draw(ph_class_header(&ph_classes[ph_page_class(d)]));
            /* A bit of the bitmap is one block more or less: often as plausible as before. */
            *judged = at < offsetof(struct ph_disk_slab, bitmap);
            return (page << PH_PAGE_SHIFT) + at;
        }
    }
}

static void count_fault(void *context, uint64_t offset, const char *text)
{
    (void)offset;
    assert_non_null(text);
    ++*(unsigned *)context;
}

/* The check of a damaged heap, which must not look beyond its end. */
static ph_status check_damaged(struct rig *rig, unsigned *faults)
{
    uint8_t *end = rig->edits.base + rig->edits.heap_size;
    size_t rest = rig->reserve - rig->edits.heap_size;
    assert_int_equal(mprotect(end, rest, PROT_NONE), 0);
    ph_status status = ph_check_heap(&rig->io, rig_space(rig), count_fault, NULL, faults);
    assert_int_equal(mprotect(end, rest, PROT_READ | PROT_WRITE), 0);
    assert_true(*faults <= PH_CHECK_FAULTS_MAX);
    assert_true((status == PH_CORRUPT) == (*faults > 0));
    return status;
}

/* Use a damaged heap: whatever it answers, it must answer. */
static void exercise(struct rig *rig)
{
    struct ph_space space = rig_space(rig);
    uint64_t start;
    uint64_t length;
    uint64_t at = 0;
    for (int i = 0; i < 1000 && ph_alloc_next(space, at, &start, &length) == PH_OK; i++) {
        assert_true(start >= at && start + length > start && start + length <= space.size);
        at = start + length;
    }
    struct pheap_space figures = {.size = sizeof figures};
    ph_status status = ph_space_walk(space, &figures, NULL, NULL);
    for (int i = 0; i < 40; i++) {
        uint64_t offset = draw(2) == 0 ? draw(space.size) & ~UINT64_C(15) : draw(space.size) & ~UINT64_C(4095);
        (void)ph_alloc_kind(space, offset);
        if (ph_alloc_find(space, offset, &start, &length) == PH_OK) {
            assert_true(start <= offset && offset - start < length && start + length <= space.size);
            status = draw(2) == 0 ? ph_free(&rig->edits, start) : ph_realloc(&rig->edits, &start, random_length());
        }
        status = ph_alloc(&rig->edits, UINT64_C(16) << draw(10), random_length(), draw(8) == 0, &start);
        if (status == PH_OK) {
            assert_true(start < rig->edits.heap_size);
        }
        space = rig_space(rig);
    }
    status = ph_alloc_apply_deferred(&rig->edits);
    (void)status;
}

/* Catches a crash, a hang or a wild store on damaged metadata, and damage that the check does not see. */
static void check__notices_flipped_bits(void **state)
{
    (void)state;
    struct rig rig;
    seed = 7;
    build_variety(&rig);
    struct ph_heap heap = {0};
    assert_int_equal(ph_heap_load(rig_space(&rig), &heap), PH_OK);
    uint64_t used = heap.tail << PH_PAGE_SHIFT;
    uint8_t *image = malloc(used);
    assert_non_null(image);
    memcpy(image, rig.edits.base, used);
    unsigned judged_count = 0;
    unsigned missed = 0;
    for (int i = 0; i < 3000; i++) {
        bool judged;
        uint64_t at = random_metadata(&heap, &judged);
        rig.edits.base[at] ^= (uint8_t)(1u << draw(8));
        unsigned faults = 0;
        ph_status status = check_damaged(&rig, &faults);
        judged_count += judged;
        if (judged && status == PH_OK) {
            missed++;
            print_message("not noticed: a bit of the byte at 0x%llx\n", (unsigned long long)at);
        }
        exercise(&rig);
        rig_abort(&rig);
        memcpy(rig.edits.base, image, used);
    }
    assert_true(judged_count > 1000);
    assert_int_equal(missed, 0);
    rig_check(&rig);
    free(image);
    rig_close(&rig);
}

/* Catches a crash or hang on metadata that is garbage in many places. */
static void check__ends_on_garbage(void **state)
{
    (void)state;
    struct rig rig;
    seed = 8;
    build_variety(&rig);
    struct ph_heap heap = {0};
    assert_int_equal(ph_heap_load(rig_space(&rig), &heap), PH_OK);
    uint64_t used = heap.tail << PH_PAGE_SHIFT;
    uint8_t *image = malloc(used);
    assert_non_null(image);
    memcpy(image, rig.edits.base, used);
    for (int i = 0; i < 1500; i++) {
        for (uint64_t count = 1 + draw(60); count > 0; count--) {
            bool judged;
            uint64_t at = random_metadata(&heap, &judged) & ~UINT64_C(7);
            uint64_t value = draw(3) == 0 ? draw(heap.tail + 10) : draw(UINT64_MAX) >> draw(64);
            value = draw(4) == 0 ? ph_load(rig.edits.base, random_metadata(&heap, &judged) & ~UINT64_C(7)) : value;
            if (at != PH_HEAP_START) {
                memcpy(rig.edits.base + at, &value, sizeof value);
            }
            if (ph_heap_load(rig_space(&rig), &heap) != PH_OK) {
                memcpy(rig.edits.base + PH_HEAP_START, image + PH_HEAP_START, 64);
                assert_int_equal(ph_heap_load(rig_space(&rig), &heap), PH_OK);
            }
        }
        unsigned faults = 0;
        (void)check_damaged(&rig, &faults);
        exercise(&rig);
        rig_abort(&rig);
        memcpy(rig.edits.base, image, used);
        assert_int_equal(ph_heap_load(rig_space(&rig), &heap), PH_OK);
    }
    free(image);
    rig_close(&rig);
}

static int stop_at_once(void *context, const char *what, uint64_t done, uint64_t total)
{
    assert_non_null(what);
    assert_true(done <= total);
    ++*(unsigned *)context;
    return 1;
}

/* Catches long work that cannot be stopped. */
static void check__can_be_stopped(void **state)
{
    (void)state;
    struct rig rig;
    build_variety(&rig);
    unsigned calls = 0;
    struct pheap_space figures = {.size = sizeof figures, .live_blocks = 5};
    assert_int_equal(ph_check_heap(&rig.io, rig_space(&rig), NULL, stop_at_once, &calls), PH_BUSY);
    assert_int_equal(ph_space_walk(rig_space(&rig), &figures, stop_at_once, &calls), PH_BUSY);
    assert_int_equal(calls, 2);
    assert_int_equal(figures.live_blocks, 5);
    rig_close(&rig);
}

/* Catches reading beyond a heap that is too short to hold the header. */
static void check__refuses_a_short_heap(void **state)
{
    (void)state;
    struct rig rig;
    rig_open(&rig, MIB);
    for (uint64_t size = 0; size < 65536; size += 512) {
        struct ph_space space = {rig.edits.base, size};
        uint64_t start;
        uint64_t length;
        assert_int_equal(ph_check_heap(NULL, space, NULL, NULL, NULL), PH_CORRUPT);
        assert_int_equal(ph_alloc_next(space, 0, &start, &length), PH_CORRUPT);
        assert_int_equal(ph_alloc_find(space, 20000, &start, &length), PH_CORRUPT);
        assert_int_equal(ph_alloc_kind(space, 20000), PH_KIND_INVALID);
        assert_int_equal(ph_alloc_root(space), 0);
    }
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
        cmocka_unit_test(alloc__behaves_like_the_model),
        cmocka_unit_test(alloc__survives_lack_of_memory),
        cmocka_unit_test(check__notices_flipped_bits),
        cmocka_unit_test(check__ends_on_garbage),
        cmocka_unit_test(check__can_be_stopped),
        cmocka_unit_test(check__refuses_a_short_heap),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
