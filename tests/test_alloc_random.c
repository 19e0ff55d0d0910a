/* SPDX-License-Identifier: MIT */
/* The allocator under random work, compared with a model, and on heaps whose metadata is damaged. */
#include "tests/alloc_rig.h"

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
            assert_true(ph_alloc_rollback(&rig->edits, to));
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

/* A heap of all kinds of blocks, and its image, to put it right again with; the caller frees the image. */
static uint8_t *build_to_damage(struct rig *rig, struct ph_heap *heap)
{
    build_variety(rig);
    assert_int_equal(ph_heap_load(rig_space(rig), heap), PH_OK);
    const uint64_t used = heap->tail << PH_PAGE_SHIFT;
    uint8_t *image = malloc(used);
    assert_non_null(image);
    memcpy(image, rig->edits.base, used);
    return image;
}

/* Catches a crash, a hang or a wild store on damaged metadata, and damage that the check does not see. */
static void check__notices_flipped_bits(void **state)
{
    (void)state;
    struct rig rig;
    struct ph_heap heap = {0};
    seed = 7;
    uint8_t *image = build_to_damage(&rig, &heap);
    const uint64_t used = heap.tail << PH_PAGE_SHIFT;
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
    struct ph_heap heap = {0};
    seed = 8;
    uint8_t *image = build_to_damage(&rig, &heap);
    const uint64_t used = heap.tail << PH_PAGE_SHIFT;
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

/* A number that may stand in a word of metadata instead of `old`: near it, a page, a length, or none of these. */
static uint64_t plausible(const struct rig *rig, const struct ph_heap *heap, uint64_t old)
{
    bool judged;
    const uint64_t values[] = {0,
                               1,
                               old + 1,
                               old - 1,
                               old + 4096,
                               heap->tail,
                               heap->tail - 1,
                               PH_FIRST_PAGE,
                               UINT64_MAX,
                               old ^ UINT64_C(1) << draw(64),
                               PH_FIRST_PAGE + draw(heap->tail - PH_FIRST_PAGE),
                               ph_load(rig->edits.base, random_metadata(heap, &judged) & ~UINT64_C(7))};
    return values[draw(sizeof values / sizeof values[0])];
}

/* Catches a word that is believed because all the others are sound: the blocks that it leads to would lie in others, or
 * outside the heap. */
static void check__one_word_that_may_be_right(void **state)
{
    (void)state;
    struct rig rig;
    struct ph_heap heap = {0};
    seed = 9;
    uint8_t *image = build_to_damage(&rig, &heap);
    const uint64_t used = heap.tail << PH_PAGE_SHIFT;
    for (int i = 0; i < 2000; i++) {
        bool judged;
        uint64_t at = random_metadata(&heap, &judged) & ~UINT64_C(7);
        uint64_t old = ph_load(rig.edits.base, at), value = plausible(&rig, &heap, old);
        memcpy(rig.edits.base + at, &value, sizeof value);
        unsigned faults = 0;
        ph_status status = check_damaged(&rig, &faults);
        /* What is as true as before: docs/format.md says where the check cannot see. */
        judged = judged && at != PH_HEADER_AT(root) &&
                 (at < PH_HEADER_AT(partial) || at >= PH_HEADER_AT(partial) + 8 * PH_CLASSES);
        assert_true(!judged || value == old || status == PH_CORRUPT);
        exercise(&rig);
        rig_abort(&rig);
        memcpy(rig.edits.base, image, used);
    }
    rig_check(&rig);
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
        assert_int_equal(ph_alloc_usable(space, 20000, &length), PH_CORRUPT);
        assert_int_equal(ph_alloc_kind(space, 20000), PH_KIND_INVALID);
        assert_int_equal(ph_alloc_root(space), 0);
    }
    rig_close(&rig);
}

/* Catches a check that passes over pages behind the end page: growth takes them in, and calls them zero. */
static void check__sees_what_growth_would_take_for_zero(void **state)
{
    (void)state;
    struct rig rig;
    rig_open(&rig, MIB);
    uint64_t last = rig.edits.heap_size - 8, end = rig.edits.heap_size / PH_PAGE_BYTES - 2, dirt = 1;
    memcpy(rig.edits.base + PH_HEADER_AT(end_page), &end, sizeof end);
    assert_int_equal(ph_check_heap(NULL, rig_space(&rig), print_fault, NULL, NULL), PH_OK);
    memcpy(rig.edits.base + last, &dirt, sizeof dirt);
    assert_int_equal(ph_check_heap(NULL, rig_space(&rig), NULL, NULL, NULL), PH_CORRUPT);
    rig_close(&rig);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(alloc__behaves_like_the_model),
        cmocka_unit_test(alloc__survives_lack_of_memory),
        cmocka_unit_test(check__notices_flipped_bits),
        cmocka_unit_test(check__ends_on_garbage),
        cmocka_unit_test(check__one_word_that_may_be_right),
        cmocka_unit_test(check__can_be_stopped),
        cmocka_unit_test(check__refuses_a_short_heap),
        cmocka_unit_test(check__sees_what_growth_would_take_for_zero),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
