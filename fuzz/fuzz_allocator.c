/* SPDX-License-Identifier: MIT */
/*
 * Uses the allocator on metadata of any content: real edits over plain memory, no files.  What lies behind the end of
 * the heap cannot be touched.
 *
 * Whatever the metadata say:
 *   F1  check, walk and enumeration end and give blocks that lie inside the heap and follow one another
 *   F2  a block that is given lies inside the heap, is aligned and can be stored to; outputs are untouched on failure
 * If the check called the heap sound, moreover:
 *   F3  a block that is given overlaps no live one; only live blocks can be freed or resized, and those can
 *   F4  a rollback and an abort bring back the blocks of then with their content
 *   F5  after a commit the heap is sound again; and the records that it logs make of what was committed before a heap
 *       that is sound and has the same blocks with the same content
 *
 * Input: as fuzz/input.h says; the heap image, from its third page on, and a script of the codes below.
 */
#include "fuzz/input.h"
#include "fuzz/reseal.h"
#include "pheap/alloc.h"
#include "pheap/check.h"
#include "pheap/space.h"
#include "pheap/view.h"
#include "wal/record.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#define HEAP_MAX (UINT64_C(8) << 20)
#define START_MAX (UINT64_C(4) << 20) /* of the heap in the input */
#define UNIT 16u                      /* blocks are counted in these */
#define OPERATIONS_MAX 300u
#define BLOCKS_MAX 4096u
#define SLOTS 64u
#define WORK_BYTES (UINT64_C(1) << 20) /* that a script may ask for */
#define LEVELS 3u
#define UNTOUCHED UINT64_C(0x5ca1ab1e0ddba115)
#define RECORD_MAX 65536u

/* What the heap holds, if it is sound: live blocks by their first unit, and how they are marked. */
struct blocks {
    uint32_t count;
    struct block {
        uint64_t offset, length;
        uint8_t mark;
    } list[BLOCKS_MAX];
};

struct bench {
    struct ph_edits edits;
    struct ph_view view;
    struct ph_store store;
    struct ph_coord *coord;
    uint8_t *heap, *committed; /* HEAP_MAX bytes each; what the file would hold, as replay makes it */
    uint64_t usable;           /* bytes of both that can be touched */
    uint64_t size;             /* logical size at the last commit */
    bool sound;
    uint64_t work;
    struct blocks now, then; /* `then` as of the last commit */
    struct blocks saved[LEVELS];
    uint32_t level;
    uint8_t live[HEAP_MAX / UNIT / 8];
    uint64_t slots[SLOTS];
    unsigned next_slot;
    const uint8_t *at, *end;
};

static struct bench bench;

/* --------------------------------------------------------------------------------------------------------- the seam */

static void *bench_alloc(void *ctx, size_t length, size_t alignment)
{
    (void)ctx;
    return aligned_alloc(alignment, (length + alignment - 1) & ~(alignment - 1));
}

static void *bench_resize(void *ctx, void *memory, size_t length)
{
    (void)ctx;
    return realloc(memory, length);
}

static void bench_free(void *ctx, void *memory)
{
    (void)ctx;
    free(memory);
}

/* Dropped pages show the file again. */
static int bench_drop(void *ctx, void *address, size_t length)
{
    (void)ctx;
    memcpy(address, bench.committed + ((uint8_t *)address - bench.heap), length);
    return 0;
}

static int bench_random(void *ctx, void *buffer, size_t length)
{
    (void)ctx;
    memset(buffer, 42, length);
    return 0;
}

static void allow(uint64_t size)
{
    size = size < HEAP_MAX ? size : HEAP_MAX;
    if (size > bench.usable) {
        FUZZ_REQUIRE(mprotect(bench.heap, size, PROT_READ | PROT_WRITE) == 0);
        FUZZ_REQUIRE(mprotect(bench.committed, size, PROT_READ | PROT_WRITE) == 0);
        bench.usable = size;
    }
}

static int bench_truncate(void *ctx, int file, uint64_t size)
{
    (void)ctx;
    (void)file;
    allow(size);
    return size > HEAP_MAX ? -EFBIG : 0;
}

static int bench_stat(void *ctx, int file, struct ph_file_stat *out)
{
    (void)ctx;
    (void)file;
    *out = (struct ph_file_stat){.type = PH_FILE_REGULAR, .size_bytes = bench.usable};
    return 0;
}

static int bench_allocate(void *ctx, int file, enum ph_allocate_mode mode, uint64_t offset, uint64_t length)
{
    (void)mode;
    return bench_truncate(ctx, file, offset + length);
}

static int64_t bench_touched(void *ctx, const void *address, size_t length, uint8_t *bitmap)
{
    (void)ctx;
    (void)address;
    (void)length;
    (void)bitmap;
    return -ENOSYS;
}

static const ph_io bench_io = {
    .alloc = bench_alloc,
    .resize = bench_resize,
    .free = bench_free,
    .drop = bench_drop,
    .random = bench_random,
    .truncate = bench_truncate,
    .allocate = bench_allocate,
    .stat = bench_stat,
    .touched = bench_touched,
};

/* ---------------------------------------------------------------------------------------------------- begin and end */

static uint8_t *reserve(void)
{
    void *address = mmap(NULL, HEAP_MAX, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    FUZZ_REQUIRE(address != MAP_FAILED);
    (void)madvise(address, HEAP_MAX, MADV_NOHUGEPAGE);
    return address;
}

static void begin(void)
{
    bench.view.at.heap_bytes = bench.size;
    FUZZ_REQUIRE(ph_edits_begin(&bench.edits, &bench.view) == PH_OK);
    bench.level = 0;
}

static void start(const struct fuzz_input *input)
{
    static char path[] = "the heap";
    if (bench.heap == NULL) {
        bench.heap = reserve();
        bench.committed = reserve();
        bench.coord = aligned_alloc(64, (sizeof *bench.coord + 63) / 64 * 64);
        FUZZ_REQUIRE(bench.coord != NULL);
    }
    uint64_t size = (uint64_t)input->heap.sectors * FUZZ_SECTOR_BYTES / PH_PAGE_BYTES * PH_PAGE_BYTES;
    size = size < 3 * PH_PAGE_BYTES ? 3 * PH_PAGE_BYTES : size < START_MAX ? size : START_MAX;
    bench.usable = 0;
    allow(size);
    for (uint32_t i = 0; i < input->heap.count; i++) {
        uint64_t at = (uint64_t)input->heap.list[i].number * FUZZ_SECTOR_BYTES;
        if (at < PH_HEAP_START || at >= size)
            continue;
        memcpy(bench.heap + at, input->heap.list[i].data, FUZZ_SECTOR_BYTES);
        memcpy(bench.committed + at, input->heap.list[i].data, FUZZ_SECTOR_BYTES);
    }
    memset(bench.coord, 0, sizeof *bench.coord);
    bench.store.heap_file_bytes = size;
    bench.store.io = &bench_io;
    bench.store.heap = (struct ph_file){.io = &bench_io, .path = path};
    bench.store.wal.coord = bench.coord;
    bench.view = (struct ph_view){
        .store = &bench.store, .base = bench.heap, .reserve_bytes = HEAP_MAX, .budget_bytes = UINT64_MAX};
    bench.size = size;
    bench.work = WORK_BYTES;
    bench.now.count = 0;
    bench.next_slot = 0;
    memset(bench.slots, 0, sizeof bench.slots);
    begin();
}

static void stop(void)
{
    ph_edits_end(&bench.edits);
    ph_edits_deinit(&bench.edits);
    (void)madvise(bench.heap, bench.usable, MADV_DONTNEED);
    (void)madvise(bench.committed, bench.usable, MADV_DONTNEED);
    (void)mprotect(bench.heap, HEAP_MAX, PROT_NONE);
    (void)mprotect(bench.committed, HEAP_MAX, PROT_NONE);
}

/* --------------------------------------------------------------------------------------------------------- the model */

static struct ph_space space_of(const uint8_t *base)
{
    return (struct ph_space){base, bench.edits.heap_size};
}

/* Count the units of a block; whether none (if `live`) or all were counted before. */
static bool count_units(uint64_t offset, uint64_t length, bool live)
{
    bool as_expected = true;
    for (uint64_t unit = offset / UNIT; unit < (offset + length) / UNIT; unit++) {
        uint8_t bit = (uint8_t)(1u << unit % 8);
        if (unit % 8 == 0 && (offset + length) / UNIT - unit >= 8) {
            as_expected = as_expected && bench.live[unit / 8] == (live ? 0 : 0xff);
            bench.live[unit / 8] = live ? 0xff : 0;
            unit += 7;
            continue;
        }
        as_expected = as_expected && ((bench.live[unit / 8] & bit) != 0) != live;
        bench.live[unit / 8] = (uint8_t)(live ? bench.live[unit / 8] | bit : bench.live[unit / 8] & ~bit);
    }
    return as_expected;
}

/* What marks a block stands in its first and its last word. */
static uint64_t word_of(const struct block *block)
{
    return block->offset * 0x9e3779b97f4a7c15u ^ (uint64_t)block->mark << 56 ^ block->length;
}

static void mark(struct block *block, uint8_t how)
{
    block->mark = how;
    uint64_t word = word_of(block);
    memcpy(bench.heap + block->offset, &word, sizeof word);
    memcpy(bench.heap + block->offset + block->length - sizeof word, &word, sizeof word);
}

static void must_be_marked(const uint8_t *base, const struct block *block)
{
    uint64_t word = word_of(block);
    if (block->mark == 0) /* as it was in the input */
        return;
    FUZZ_REQUIRE(memcmp(base + block->offset, &word, sizeof word) == 0);
    FUZZ_REQUIRE(memcmp(base + block->offset + block->length - sizeof word, &word, sizeof word) == 0);
}

static struct block *find(uint64_t offset)
{
    for (uint32_t i = 0; i < bench.now.count; i++)
        if (bench.now.list[i].offset == offset)
            return &bench.now.list[i];
    return NULL;
}

static void forget(struct block *block)
{
    FUZZ_REQUIRE(count_units(block->offset, block->length, false));
    *block = bench.now.list[--bench.now.count];
}

static void copy_blocks(struct blocks *to, const struct blocks *from)
{
    to->count = from->count;
    memcpy(to->list, from->list, from->count * sizeof from->list[0]);
}

static void put_back(const struct blocks *then)
{
    copy_blocks(&bench.now, then);
    memset(bench.live, 0, (bench.usable / UNIT + 7) / 8);
    for (uint32_t i = 0; i < then->count; i++)
        FUZZ_REQUIRE(count_units(then->list[i].offset, then->list[i].length, true));
}

/* Enumerate; in a sound heap exactly the blocks of the model are there (F1, F4). */
static void compare(const uint8_t *base)
{
    uint64_t at = 0, offset, length;
    uint32_t seen = 0;
    while (seen < BLOCKS_MAX && ph_alloc_next(space_of(base), at, &offset, &length) == PH_OK) {
        FUZZ_REQUIRE(offset >= at && offset % UNIT == 0 && length > 0 && length <= bench.edits.heap_size);
        FUZZ_REQUIRE(offset <= bench.edits.heap_size - length);
        at = offset + length;
        seen++;
        if (bench.sound) {
            const struct block *block = find(offset);
            FUZZ_REQUIRE(block != NULL && block->length == length);
            must_be_marked(base, block);
        }
    }
    FUZZ_REQUIRE(!bench.sound || seen == bench.now.count);
}

static void count_fault(void *context, uint64_t offset, const char *text)
{
    (void)offset;
    FUZZ_REQUIRE(text != NULL && ++*(unsigned *)context <= PH_CHECK_FAULTS_MAX);
}

static bool check(const uint8_t *base)
{
    unsigned faults = 0;
    ph_status status = ph_check_heap(&bench_io, space_of(base), count_fault, NULL, &faults);
    FUZZ_REQUIRE(status == (faults == 0 ? PH_OK : PH_CORRUPT)); /* F1 */
    return status == PH_OK;
}

/* What the input holds: if it is sound and not too much, the model begins with it. */
static void look(void)
{
    struct pheap_space figures = {.size = sizeof figures};
    uint64_t at = 0, offset, length;
    ph_status walked = ph_space_walk(space_of(bench.heap), &figures, NULL, NULL);
    bench.sound = check(bench.heap);
    FUZZ_REQUIRE(!bench.sound || walked == PH_OK);
    memset(bench.live, 0, sizeof bench.live);
    while (bench.sound && ph_alloc_next(space_of(bench.heap), at, &offset, &length) == PH_OK) {
        if (bench.now.count == BLOCKS_MAX / 2) {
            bench.sound = false;
            break;
        }
        FUZZ_REQUIRE(count_units(offset, length, true));
        bench.now.list[bench.now.count++] = (struct block){offset, length, 0};
        at = offset + length;
    }
    compare(bench.heap);
    for (unsigned i = 0; i < SLOTS && i < bench.now.count; i++)
        bench.slots[bench.next_slot++ % SLOTS] = bench.now.list[i * bench.now.count / SLOTS].offset;
    copy_blocks(&bench.then, &bench.now);
}

/* ----------------------------------------------------------------------------------------------------- the script */

static uint8_t take(void)
{
    return bench.at < bench.end ? *bench.at++ : 0;
}

static uint64_t take_size(void)
{
    uint8_t kind = take();
    uint64_t size;
    switch (kind % 8) {
    case 0:
    case 1:
    case 2:
        size = 1 + take();
        break;
    case 3:
        size = 1 + take() + 256u * take();
        break;
    case 4:
        size = 4096 * (UINT64_C(1) + take());
        break;
    case 5:
        size = 4096 * (UINT64_C(8) + take() % 32) + take() % 2;
        break;
    case 6:
        size = kind == 254 ? UINT64_C(1) << 46 : kind == 246 ? UINT64_MAX : 32768u + kind / 8;
        break;
    default:
        size = 16u << kind / 8 % 12;
        break;
    }
    if (size < HEAP_MAX && size > bench.work)
        return size % 512 + 1;
    bench.work -= size < HEAP_MAX ? size : 0;
    return size;
}

static uint64_t take_offset(void)
{
    uint8_t kind = take();
    if (kind < 216)
        return bench.slots[kind % SLOTS];
    uint64_t value = take();
    return (value | (uint64_t)take() << 8) * (kind < 236 ? UNIT : PH_PAGE_BYTES) + (kind == 255 ? 1 : 0);
}

/* What a call may say of a request that it cannot meet. */
static void must_be_lack(ph_status status, uint64_t length)
{
    bool lack = status == PH_NO_SPACE || status == PH_FULL || status == PH_RESERVE || status == PH_TOO_BIG;
    bool asked = status == PH_INVALID && (length == 0 || length > UINT64_C(1) << 46);
    FUZZ_REQUIRE(!bench.sound || lack || asked);
}

/* A block that was given: F2, F3. */
static struct block *given(uint64_t offset, uint64_t length, uint64_t alignment)
{
    static struct block elsewhere;
    uint64_t usable = 0;
    FUZZ_REQUIRE(offset >= 4 * PH_PAGE_BYTES && offset % alignment == 0 && offset < bench.edits.heap_size);
    FUZZ_REQUIRE(length <= bench.edits.heap_size - offset);
    bench.slots[bench.next_slot++ % SLOTS] = offset;
    ph_status status = ph_alloc_usable(space_of(bench.heap), offset, &usable);
    FUZZ_REQUIRE(status != PH_OK || usable <= bench.edits.heap_size - offset);
    FUZZ_REQUIRE(!bench.sound || (status == PH_OK && usable >= length));
    elsewhere = (struct block){offset, usable < UNIT ? UNIT : usable, 0};
    if (!bench.sound)
        return &elsewhere;
    FUZZ_REQUIRE(count_units(offset, usable, true)); /* F3 */
    FUZZ_REQUIRE(bench.now.count < BLOCKS_MAX);
    bench.now.list[bench.now.count] = elsewhere;
    return &bench.now.list[bench.now.count++];
}

static void allocate(void)
{
    uint64_t length = take_size(), offset = UNTOUCHED;
    uint8_t how = take();
    uint64_t alignment = how % 4 == 0 ? UINT64_C(16) << how / 4 % 13 : 16;
    bool zero = how % 4 == 1;
    ph_status status = ph_alloc(&bench.edits, alignment, length, zero, &offset);
    if (status != PH_OK) {
        FUZZ_REQUIRE(offset == UNTOUCHED);
        must_be_lack(status, length);
        return;
    }
    struct block *block = given(offset, length, alignment);
    for (uint64_t i = 0; zero && bench.sound && i < length; i += 509)
        FUZZ_REQUIRE(bench.heap[offset + i] == 0);
    mark(block, (uint8_t)(1 + how / 4));
}

static void release(void)
{
    uint64_t offset = take_offset();
    struct block *block = bench.sound ? find(offset) : NULL;
    ph_status status = ph_free(&bench.edits, offset);
    if (!bench.sound)
        return;
    if (block != NULL)
        forget(block);
    FUZZ_REQUIRE(status == PH_OK ? block != NULL || offset == 0
                                 : block == NULL && (status == PH_BAD_OFFSET || status == PH_DOUBLE_FREE));
}

static void resize(void)
{
    uint64_t old = take_offset(), offset = old, length = take_size();
    struct block *block = bench.sound ? find(old) : NULL;
    struct block before = block != NULL ? *block : (struct block){0};
    ph_status status = ph_realloc(&bench.edits, &offset, length);
    if (status != PH_OK) {
        FUZZ_REQUIRE(offset == old);
        if (block != NULL || old == 0)
            must_be_lack(status, length);
        return;
    }
    FUZZ_REQUIRE(!bench.sound || block != NULL || old == 0);
    if (before.mark != 0) {
        uint64_t word = word_of(&before);
        FUZZ_REQUIRE(length < sizeof word || memcmp(bench.heap + offset, &word, sizeof word) == 0);
    }
    if (block != NULL)
        forget(block);
    struct block *now = given(offset, length, 16);
    /* It is marked anew: what is fresh as it is, what is not by declaring it. */
    if (ph_edits_is_fresh(&bench.edits, now->offset, NULL) == 1 ||
        ph_edits_range(&bench.edits, now->offset, now->length) == PH_OK)
        mark(now, (uint8_t)(1 + length % 255));
}

static void change(void)
{
    struct block *block = bench.sound ? find(take_offset()) : NULL;
    if (block == NULL || block->length > bench.work)
        return;
    bench.work -= block->length;
    if (ph_edits_is_fresh(&bench.edits, block->offset, NULL) != 1)
        FUZZ_REQUIRE(ph_edits_range(&bench.edits, block->offset, block->length) == PH_OK);
    mark(block, (uint8_t)(1 + take() % 255));
}

static void savepoint(void)
{
    uint32_t number;
    if (bench.level == LEVELS)
        return;
    FUZZ_REQUIRE(ph_edits_savepoint(&bench.edits, &number) == PH_OK && number == bench.level);
    copy_blocks(&bench.saved[bench.level++], &bench.now);
}

static void rollback(void)
{
    uint32_t to = take() % (LEVELS + 1);
    FUZZ_REQUIRE(ph_alloc_rollback(&bench.edits, to) == (to < bench.level));
    if (to >= bench.level)
        return;
    bench.level = to + 1;
    if (bench.sound)
        put_back(&bench.saved[to]);
    compare(bench.heap);
}

static void undo(void)
{
    ph_alloc_undo(&bench.edits);
    ph_edits_end(&bench.edits);
    begin();
    if (bench.sound)
        put_back(&bench.then);
    compare(bench.heap);
}

/* Replay what a commit logs into what was committed before. */
static void replay(const struct ph_record_builder *builder)
{
    struct ph_operation operation;
    for (size_t at = 0; at < builder->length; at += ph_record_length(builder->bytes + at)) {
        uint32_t cursor = sizeof(struct ph_record_header);
        while (ph_record_next(builder->bytes + at, &cursor, &operation)) {
            if (operation.kind == PH_OPERATION_GROW) {
                FUZZ_REQUIRE(operation.value == bench.edits.heap_size);
                continue;
            }
            FUZZ_REQUIRE(operation.offset >= PH_HEAP_START && operation.length <= bench.edits.heap_size);
            FUZZ_REQUIRE(operation.offset <= bench.edits.heap_size - operation.length);
            uint8_t *to = bench.committed + operation.offset;
            if (operation.kind == PH_OPERATION_WRITE)
                memcpy(to, operation.bytes, operation.length);
            for (uint64_t i = 0; operation.kind == PH_OPERATION_FILL && i < operation.length; i += 8)
                memcpy(to + i, &operation.value, 8);
        }
    }
}

static void commit(void)
{
    struct ph_record_builder builder = {.io = &bench_io, .record_max = RECORD_MAX};
    ph_status status = ph_alloc_apply_deferred(&bench.edits);
    FUZZ_REQUIRE(status == PH_OK || !bench.sound);
    if (status == PH_OK)
        status = ph_edits_encode(&bench.edits, &builder);
    if (status != PH_OK) {
        FUZZ_REQUIRE(!bench.sound);
        ph_record_builder_deinit(&builder);
        undo();
        return;
    }
    if (builder.length > 0)
        ph_record_builder_finish(&builder, 1);
    replay(&builder);
    ph_record_builder_deinit(&builder);
    bench.size = bench.edits.heap_size;
    ph_edits_end(&bench.edits);
    begin();
    if (bench.sound) {
        FUZZ_REQUIRE(check(bench.committed)); /* F5 */
        copy_blocks(&bench.then, &bench.now);
    }
    compare(bench.committed);
    compare(bench.heap);
}

static void act(uint8_t code)
{
    uint64_t offset, start = UNTOUCHED, length = UNTOUCHED;
    switch (code % 16) {
    case 0:
    case 1:
    case 2:
    case 3:
    case 4:
        allocate();
        break;
    case 5:
    case 6:
    case 7:
        release();
        break;
    case 8:
    case 9:
        resize();
        break;
    case 10:
        change();
        break;
    case 11:
        savepoint();
        break;
    case 12:
        rollback();
        break;
    case 13:
        if (code >= 128)
            commit();
        else
            undo();
        break;
    case 14:
        offset = take_offset();
        (void)!ph_alloc_set_root(&bench.edits, offset);
        break;
    default:
        offset = take_offset();
        (void)ph_alloc_kind(space_of(bench.heap), offset);
        if (ph_alloc_find(space_of(bench.heap), offset, &start, &length) == PH_OK)
            FUZZ_REQUIRE(start <= offset && offset - start < length && length <= bench.edits.heap_size - start);
        else
            FUZZ_REQUIRE(start == UNTOUCHED && length == UNTOUCHED);
        break;
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct fuzz_input input;
    if (size > FUZZ_INPUT_MAX)
        return -1;
    fuzz_time_begin();
    fuzz_input_parse(&input, data, size);
    start(&input);
    look();
    bench.at = input.script.data;
    bench.end = input.script.data + input.script.length;
    for (unsigned i = 0; i < OPERATIONS_MAX && bench.at < bench.end; i++)
        act(take());
    commit();
    stop();
    fuzz_input_deinit(&input);
    fuzz_time_end();
    return 0;
}

size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t most, unsigned seed)
{
    return fuzz_mutate_heap(data, size, most, seed);
}

size_t LLVMFuzzerCustomCrossOver(const uint8_t *one, size_t one_size, const uint8_t *other, size_t other_size,
                                 uint8_t *out, size_t most, unsigned seed)
{
    return fuzz_cross_inputs(one, one_size, other, other_size, out, most, seed);
}
