/* SPDX-License-Identifier: MIT */
/*
 * What the tests of the allocator share: the allocator on real edits over plain memory, no file, no log.
 *
 * A second copy of the heap, the replica, gets at each commit exactly what the edits would log: changed words and
 * fresh blocks.  Where the replica and the heap differ in something that matters, a change was not declared, or an
 * abort did not put back what it should have.
 */
#ifndef TESTS_ALLOC_RIG_H
#define TESTS_ALLOC_RIG_H

#include "io/io.h"
#include "pheap/alloc.h"
#include "pheap/check.h"
#include "pheap/extent.h"
#include "pheap/pagemap.h"
#include "pheap/sizeclass.h"
#include "pheap/slab.h"
#include "pheap/space.h"
#include "pheap/view.h"
#include "tests/support/dice.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>

#include <cmocka.h>

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

static inline void *rig_alloc(void *ctx, size_t length, size_t alignment)
{
    (void)ctx;
    if (++current->memory_calls == current->fail_at) {
        return NULL;
    }
    return aligned_alloc(alignment, (length + alignment - 1) & ~(alignment - 1));
}

static inline void *rig_resize(void *ctx, void *memory, size_t length)
{
    (void)ctx;
    return ++current->memory_calls == current->fail_at ? NULL : realloc(memory, length);
}

static inline void rig_free(void *ctx, void *memory)
{
    (void)ctx;
    free(memory);
}

/* The dropped pages show the file again: everything that was ever committed. */
static inline int rig_drop(void *ctx, void *address, size_t length)
{
    (void)ctx;
    int result = madvise(address, length, MADV_DONTNEED);
    if (length <= 64 * MIB) {
        memcpy(address, current->replica + ((uint8_t *)address - current->edits.base), length);
    }
    return result == 0 ? 0 : -1;
}

static inline int rig_random(void *ctx, void *buffer, size_t length)
{
    (void)ctx;
    memset(buffer, 42, length);
    return 0;
}

static inline uint8_t *map_reserve(uint64_t length)
{
    void *address = mmap(NULL, length, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (address == MAP_FAILED) {
        return NULL;
    }
    (void)madvise(address, length, MADV_NOHUGEPAGE);
    return address;
}

static inline struct ph_space rig_space(const struct rig *rig)
{
    return (struct ph_space){rig->edits.base, rig->edits.heap_size};
}

static inline void rig_begin(struct rig *rig)
{
    rig->view.at.heap_bytes = rig->size;
    assert_int_equal(ph_edits_begin(&rig->edits, &rig->view), PH_OK);
}

/* A new heap.  As much address space as there is, up to `reserve`. */
static inline void rig_open(struct rig *rig, uint64_t reserve)
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
    rig->store.heap_file_bytes = UINT64_MAX; /* no file to extend */
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

static inline void rig_close(struct rig *rig)
{
    rig->fail_at = 0;
    ph_edits_end(&rig->edits);
    ph_edits_deinit(&rig->edits);
    (void)munmap(rig->view.base, rig->reserve);
    (void)munmap(rig->replica, rig->reserve);
    free(rig->coord);
}

/* What commit would log: words whose value differs from the oldest one saved, and fresh blocks whole. */
static inline void rig_replay(struct rig *rig)
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

static inline void rig_abort(struct rig *rig)
{
    /* Whatever a program stored into its new blocks stays behind. */
    for (uint32_t i = 0; i < rig->edits.fresh_count; i++) {
        const struct ph_fresh *fresh = &rig->edits.fresh[i];
        memset(rig->edits.base + fresh->offset, 0x5A, fresh->length < 64 * KIB ? fresh->length : 64 * KIB);
    }
    ph_alloc_undo(&rig->edits);
    ph_edits_end(&rig->edits);
    rig_begin(rig);
}

static inline void rig_commit(struct rig *rig)
{
    assert_int_equal(ph_alloc_apply_deferred(&rig->edits), PH_OK);
    rig_replay(rig);
    rig->size = rig->edits.heap_size;
    ph_edits_end(&rig->edits);
    rig_begin(rig);
}

static inline void print_fault(void *context, uint64_t offset, const char *text)
{
    (void)context;
    print_error("fault at 0x%llx: %s\n", (unsigned long long)offset, text);
}

/* What was committed is sound.  (The heap itself may hold leftovers of an abort where nothing was ever allocated.) */
static inline void rig_check(const struct rig *rig)
{
    struct ph_space space = {rig->replica, rig->size};
    assert_int_equal(ph_check_heap(&rig->io, space, print_fault, NULL, NULL), PH_OK);
}

/* The committed heap and the replica agree in everything that matters: metadata and the content of live blocks. */
static inline void rig_compare(const struct rig *rig)
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

static inline uint64_t must_alloc(struct rig *rig, uint64_t length)
{
    uint64_t offset = 0;
    assert_int_equal(ph_alloc(&rig->edits, 16, length, false, &offset), PH_OK);
    return offset;
}

static inline void must_free(struct rig *rig, uint64_t offset)
{
    assert_int_equal(ph_free(&rig->edits, offset), PH_OK);
}

static inline struct pheap_space rig_figures(const struct rig *rig)
{
    struct pheap_space figures = {.size = sizeof figures};
    assert_int_equal(ph_space_walk(rig_space(rig), &figures, NULL, NULL), PH_OK);
    assert_int_equal(figures.metadata_bytes + figures.live_bytes + figures.slab_free_bytes + figures.extent_free_bytes,
                     figures.heap_bytes);
    return figures;
}

/* Everything was freed and committed: what must be left is one free extent and the least of metadata. */
static inline void assert_one_extent(const struct rig *rig)
{
    struct pheap_space figures = rig_figures(rig);
    rig_check(rig);
    assert_int_equal(figures.live_blocks, 0);
    assert_int_equal(figures.slab_free_bytes, 0);
    assert_int_equal(figures.free_extents, 1);
    assert_int_equal(figures.metadata_bytes, PH_FIRST_PAGE * PH_PAGE_BYTES);
}

static uint64_t seed = 1;

static inline uint64_t draw(uint64_t limit)
{
    return dice_roll(&seed) % limit;
}

#endif
