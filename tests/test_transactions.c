/* SPDX-License-Identifier: MIT */
/*
 * Transactions through the public interface: atomicity, savepoints, versions, durability, size, the verify mode; and a
 * long random script beside a plain model in memory.
 */
#include "tests/machine.h"
#include "tests/public.h"
#include "tests/support/dice.h"

#define SECOND_NS UINT64_C(1000000000)

static void *fill_new(pheap_txn *txn, uint64_t length, unsigned char byte, uint64_t *block)
{
    ok(pheap_alloc(txn, length, block));
    void *address = pheap_ptr(txn, *block);
    memset(address, byte, length);
    return address;
}

static bool all_bytes(const void *address, unsigned char byte, uint64_t length)
{
    const unsigned char *bytes = address;
    for (uint64_t i = 0; i < length; i++) {
        if (bytes[i] != byte) {
            return false;
        }
    }
    return true;
}

static uint64_t count_blocks(const pheap_read *reader)
{
    uint64_t offset = 0;
    uint64_t length = 0;
    uint64_t count = 0;
    enum pheap_status status;
    while ((status = pheap_read_next_block(reader, offset + length, &offset, &length)) == PHEAP_OK) {
        count++;
    }
    expect(PHEAP_END, status);
    return count;
}

/* --------------------------------------------------------------------------------------------- abort and versions */

/* Catches: an abort that forgets a byte, an allocation, a free, a growth or the root. */
static void abort__leaves_everything_as_it_was(void **state)
{
    (void)state;
    pheap *heap = create_heap(path_of("abort", ""));
    uint64_t kept;
    uint64_t doomed;
    uint64_t large;
    uint64_t other;
    pheap_txn *txn = begin(heap);
    (void)fill_new(txn, 5000, 1, &kept);
    (void)fill_new(txn, 300, 2, &doomed);
    (void)fill_new(txn, 100000, 3, &large);
    ok(pheap_set_root(txn, kept));
    ok(pheap_commit(txn, PHEAP_LAZY, NULL));
    const struct pheap_info before = heap_info(heap);

    for (unsigned round = 0; round < 3; round++) {
        void *address;
        txn = begin(heap);
        ok(pheap_edit(txn, kept + 100, 1000, &address));
        memset(address, 0xaa, 1000);
        ok(pheap_fill(txn, large, 0xbb, 100000));
        ok(pheap_free(txn, doomed));
        ok(pheap_free(txn, large));
        for (unsigned i = 0; i < 50; i++) {
            (void)fill_new(txn, 250 + i * 400, 0xcc, &other);
        }
        ok(pheap_set_root(txn, other));
        ok(pheap_abort(txn));

        txn = begin(heap);
        require_equal(pheap_root(txn), kept);
        require(all_bytes(pheap_ptr(txn, kept), 1, 5000));
        require(all_bytes(pheap_ptr(txn, doomed), 2, 300));
        require(all_bytes(pheap_ptr(txn, large), 3, 100000));
        ok(pheap_abort(txn));
        pheap_read *reader = read_begin(heap, PHEAP_FRESH);
        require_equal(count_blocks(reader), 3);
        require_equal(pheap_read_size(reader), before.heap_bytes);
        pheap_read_end(reader);
    }
    const struct pheap_info after = heap_info(heap);
    require_equal(after.version, before.version);
    require_equal(after.committed_lsn, before.committed_lsn);
    check_sound(heap);
    ok(pheap_close(heap));
}

/* Catches: commits counted wrongly, or counted when nothing was changed. */
static void commit__numbers_count_changes(void **state)
{
    (void)state;
    pheap *heap = create_heap(path_of("numbers", ""));
    uint64_t version = 77;
    uint64_t block;
    pheap_txn *txn = begin(heap);
    ok(pheap_commit(txn, PHEAP_DURABLE, &version));
    require_equal(version, 0);
    for (uint64_t i = 1; i <= 20; i++) {
        txn = begin(heap);
        ok(pheap_zalloc(txn, 40, &block));
        ok(pheap_commit(txn, i % 2 == 0 ? PHEAP_LAZY : PHEAP_DURABLE, &version));
        require_equal(version, i);
        txn = begin(heap);
        ok(pheap_zalloc(txn, 40, &block));
        ok(pheap_abort(txn));
        txn = begin(heap);
        ok(pheap_commit(txn, PHEAP_LAZY, &version));
        require_equal(version, i);
        pheap_read *reader = read_begin(heap, PHEAP_FRESH);
        require_equal(pheap_read_version(reader), i);
        pheap_read_end(reader);
    }
    ok(pheap_close(heap));
    heap = open_heap(path_of("numbers", ""));
    require_equal(heap_info(heap).version, 20);
    txn = begin(heap);
    ok(pheap_zalloc(txn, 40, &block));
    ok(pheap_commit(txn, PHEAP_LAZY, &version));
    require_equal(version, 21);
    ok(pheap_close(heap));
}

/* Catches: changes that close and open lose, of any size and kind, with the address of a block moving meanwhile. */
static void reopen__shows_what_was_committed(void **state)
{
    (void)state;
    pheap *heap = create_heap(path_of("reopen", ""));
    enum { COUNT = 200 };
    static uint64_t blocks[COUNT];
    pheap_txn *txn = begin(heap);
    for (unsigned i = 0; i < COUNT; i++) {
        (void)fill_new(txn, 1 + i * 3, (unsigned char)i, &blocks[i]);
    }
    void *address = pheap_ptr(txn, blocks[7]);
    ok(pheap_commit(txn, PHEAP_LAZY, NULL));
    uint64_t large;
    txn = begin(heap);
    ok(pheap_zalloc(txn, 50u << 20, &large)); /* grows the heap, but needs no space in the log */
    ok(pheap_fill(txn, large + (40u << 20), 0x5a, 3000));
    require(pheap_ptr(txn, blocks[7]) == address);
    ok(pheap_commit(txn, PHEAP_LAZY, NULL));
    ok(pheap_close(heap));

    heap = open_heap(path_of("reopen", ""));
    require_equal(heap_info(heap).recovered, 0);
    pheap_read *reader = read_begin(heap, 0);
    for (unsigned i = 0; i < COUNT; i++) {
        require(all_bytes(pheap_read_ptr(reader, blocks[i]), (unsigned char)i, 1 + i * 3));
    }
    const unsigned char *bytes = pheap_read_ptr(reader, large);
    require(all_bytes(bytes + (40u << 20), 0x5a, 3000));
    require(all_bytes(bytes + (40u << 20) - 3000, 0, 3000) && all_bytes(bytes + (40u << 20) + 3000, 0, 3000));
    pheap_read_end(reader);
    check_sound(heap);
    ok(pheap_close(heap));
}

/* ----------------------------------------------------------------------------------------------------- savepoints */

/* Catches: a rollback that goes too far or not far enough, and a token that outlives its savepoint. */
static void savepoint__nested_rollback_is_exact(void **state)
{
    (void)state;
    pheap *heap = create_heap(path_of("savepoints", ""));
    const uint64_t root = make_root(heap, 64);
    uint32_t points[4];
    pheap_txn *txn = begin(heap);
    for (uint64_t i = 0; i < 4; i++) {
        put_word(txn, 0, i + 1);
        put_word(txn, 1 + i, 100 + i);
        ok(pheap_savepoint(txn, &points[i]));
    }
    put_word(txn, 0, 99);
    ok(pheap_rollback(txn, points[3]));
    require_equal(get_word(txn, 0), 4);
    put_word(txn, 0, 98);
    ok(pheap_rollback(txn, points[3])); /* stays */
    require_equal(get_word(txn, 0), 4);
    ok(pheap_rollback(txn, points[1]));
    require_equal(get_word(txn, 0), 2);
    require_equal(get_word(txn, 2), 101);
    require_equal(get_word(txn, 3), 0);
    expect(PHEAP_INVALID, pheap_rollback(txn, points[2]));
    expect(PHEAP_INVALID, pheap_rollback(txn, points[3]));
    expect(PHEAP_INVALID, pheap_rollback(txn, 12345));
    expect(PHEAP_INVALID, pheap_rollback(txn, UINT32_MAX));
    uint32_t again;
    ok(pheap_savepoint(txn, &again));
    put_word(txn, 5, 55);
    ok(pheap_rollback(txn, points[0]));
    require_equal(get_word(txn, 0), 1);
    require_equal(get_word(txn, 5), 0);
    ok(pheap_commit(txn, PHEAP_LAZY, NULL));

    txn = begin(heap);
    expect(PHEAP_INVALID, pheap_rollback(txn, points[0])); /* of another transaction */
    require_equal(get_word(txn, 0), 1);
    require_equal(pheap_root(txn), root);
    ok(pheap_abort(txn));
    ok(pheap_close(heap));
}

/* Catches: blocks that a rollback leaks or loses, and content of blocks that were allocated before the savepoint. */
static void savepoint__undoes_allocations_and_frees(void **state)
{
    (void)state;
    pheap *heap = create_heap(path_of("savepoint-blocks", ""));
    uint64_t old;
    uint64_t fresh;
    uint64_t later;
    uint32_t point;
    pheap_txn *txn = begin(heap);
    (void)fill_new(txn, 700, 1, &old);
    ok(pheap_commit(txn, PHEAP_LAZY, NULL));
    txn = begin(heap);
    (void)fill_new(txn, 700, 2, &fresh);
    ok(pheap_savepoint(txn, &point));
    for (unsigned round = 0; round < 3; round++) {
        ok(pheap_fill(txn, fresh, 9, 700));
        ok(pheap_free(txn, fresh));
        ok(pheap_free(txn, old));
        for (unsigned i = 0; i < 20; i++) {
            (void)fill_new(txn, 700, 8, &later);
        }
        (void)fill_new(txn, 70000, 8, &later);
        ok(pheap_rollback(txn, point));
        require(all_bytes(pheap_ptr(txn, fresh), 2, 700));
        require(all_bytes(pheap_ptr(txn, old), 1, 700));
        expect(PHEAP_BAD_OFFSET, pheap_edit(txn, later, 8, NULL));
    }
    ok(pheap_commit(txn, PHEAP_LAZY, NULL));
    pheap_read *reader = read_begin(heap, PHEAP_FRESH);
    require_equal(count_blocks(reader), 2);
    require(all_bytes(pheap_read_ptr(reader, fresh), 2, 700));
    require(all_bytes(pheap_read_ptr(reader, old), 1, 700));
    pheap_read_end(reader);
    check_sound(heap);
    ok(pheap_close(heap));
}

/* --------------------------------------------------------------------------------------------------- random script */

/* A block of the model. */
struct model_block {
    uint64_t offset;
    uint64_t length;
    unsigned char *bytes;
};

enum { MODEL_BLOCKS = 60, MODEL_DEPTH = 4 };

struct model {
    struct model_block blocks[MODEL_BLOCKS];
};

static uint64_t random_state;

static uint64_t draw(uint64_t limit)
{
    return dice_roll(&random_state) % limit;
}

static void copy_model(struct model *to, const struct model *from)
{
    for (unsigned i = 0; i < MODEL_BLOCKS; i++) {
        free(to->blocks[i].bytes);
        to->blocks[i] = from->blocks[i];
        if (from->blocks[i].bytes != NULL) {
            to->blocks[i].bytes = malloc(from->blocks[i].length);
            require(to->blocks[i].bytes != NULL);
            memcpy(to->blocks[i].bytes, from->blocks[i].bytes, from->blocks[i].length);
        }
    }
}

static void clear_model(struct model *model)
{
    static const struct model empty;
    copy_model(model, &empty);
}

static uint64_t draw_length(void)
{
    const uint64_t kind = draw(20);
    return 1 + (kind == 0 ? draw(60000) : kind < 4 ? draw(5000) : draw(300));
}

static void model_edit(pheap_txn *txn, struct model_block *block)
{
    const uint64_t from = draw(block->length);
    const uint64_t length = 1 + draw(draw(4) == 0 ? block->length - from : (block->length - from + 15) / 16);
    const unsigned char byte = (unsigned char)draw(256);
    void *address;
    switch (draw(3)) {
    case 0:
        ok(pheap_edit(txn, block->offset + from, length, &address));
        memset(address, byte, length);
        break;
    case 1:
        ok(pheap_fill(txn, block->offset + from, byte, length));
        break;
    default:
        memset(block->bytes + from, byte, length);
        ok(pheap_write(txn, block->offset + from, block->bytes + from, length));
        break;
    }
    memset(block->bytes + from, byte, length);
}

static void model_allocate(pheap_txn *txn, struct model_block *block)
{
    block->length = draw_length();
    block->bytes = calloc(1, block->length);
    require(block->bytes != NULL);
    if (draw(2) == 0) {
        ok(pheap_zalloc(txn, block->length, &block->offset));
    } else {
        const unsigned char byte = (unsigned char)draw(256);
        memset(block->bytes, byte, block->length);
        (void)fill_new(txn, block->length, byte, &block->offset);
    }
}

static void model_resize(pheap_txn *txn, struct model_block *block)
{
    const uint64_t length = draw_length();
    unsigned char *bytes = calloc(1, length);
    require(bytes != NULL);
    ok(pheap_realloc(txn, &block->offset, length));
    const uint64_t kept = length < block->length ? length : block->length;
    memcpy(bytes, block->bytes, kept);
    if (length > kept) {
        ok(pheap_fill(txn, block->offset + kept, 0, length - kept));
    }
    free(block->bytes);
    block->bytes = bytes;
    block->length = length;
}

static void model_step(pheap_txn *txn, struct model *model)
{
    struct model_block *block = &model->blocks[draw(MODEL_BLOCKS)];
    if (block->bytes == NULL) {
        model_allocate(txn, block);
    } else if (draw(4) == 0) {
        ok(pheap_free(txn, block->offset));
        free(block->bytes);
        *block = (struct model_block){0};
    } else if (draw(6) == 0) {
        model_resize(txn, block);
    } else {
        model_edit(txn, block);
    }
}

/* The snapshot holds exactly the model's blocks, byte for byte. */
static void compare_model(pheap *heap, const struct model *model)
{
    pheap_read *reader = read_begin(heap, PHEAP_FRESH);
    uint64_t count = 0;
    for (unsigned i = 0; i < MODEL_BLOCKS; i++) {
        const struct model_block *block = &model->blocks[i];
        const void *address;
        if (block->bytes != NULL) {
            count++;
            ok(pheap_read_range(reader, block->offset, block->length, &address));
            require(memcmp(address, block->bytes, block->length) == 0);
        }
    }
    require_equal(count_blocks(reader), count);
    ok(pheap_check(reader, print_fault, NULL, NULL));
    pheap_read_end(reader);
}

/* One transaction of some steps, with nested savepoints; *model is what the heap should be afterwards. */
static void model_transaction(pheap *heap, struct model *model)
{
    static struct model saved[MODEL_DEPTH + 1];
    uint32_t points[MODEL_DEPTH + 1];
    unsigned depth = 0;
    pheap_txn *txn = begin(heap);
    copy_model(&saved[0], model);
    for (uint64_t steps = 1 + draw(12); steps != 0; steps--) {
        model_step(txn, model);
        if (depth < MODEL_DEPTH && draw(6) == 0) {
            ok(pheap_savepoint(txn, &points[++depth]));
            copy_model(&saved[depth], model);
        } else if (depth != 0 && draw(6) == 0) {
            depth = 1 + (unsigned)draw(depth);
            ok(pheap_rollback(txn, points[depth]));
            copy_model(model, &saved[depth]);
        }
    }
    if (draw(5) == 0) {
        ok(pheap_abort(txn));
        copy_model(model, &saved[0]);
    } else {
        ok(pheap_commit(txn, draw(20) == 0 ? PHEAP_DURABLE : PHEAP_LAZY, NULL));
    }
    for (unsigned i = 0; i <= MODEL_DEPTH; i++) {
        clear_model(&saved[i]);
    }
}

/* Catches: what the cases above did not think of. */
static void random__script_equals_model(void **state)
{
    (void)state;
    random_state = choose_seed();
    const char *path = path_of("random", "");
    struct pheap_options options = small_options();
    options.log_limit_bytes = 2u << 20;
    pheap *heap;
    ok(pheap_open(path, PHEAP_CREATE, &options, &heap));
    static struct model model;
    for (unsigned i = 0; i < 4000; i++) {
        model_transaction(heap, &model);
        if (i % 50 == 0) {
            compare_model(heap, &model);
        }
        switch (draw(200)) {
        case 0:
            ok(pheap_fold(heap));
            break;
        case 1:
            ok(pheap_checkpoint(heap));
            break;
        case 2:
            ok(pheap_close(heap));
            heap = open_heap(path_of("random", ""));
            break;
        default:
            break;
        }
    }
    compare_model(heap, &model);
    ok(pheap_close(heap));
    clear_model(&model);
}

/* ----------------------------------------------------------------------------------------------------- durability */

/* Catches: DURABLE that is not, LAZY that waits, and calls that do not move the mark they are there for. */
static void durability__marks_move_as_promised(void **state)
{
    (void)state;
    struct machine machine; /* whose clock hardly moves, so that nothing becomes old here */
    machine_begin(&machine, NULL);
    pheap *heap = machine_create(&machine, 0, 8);
    commit_word(heap, 0, 1, PHEAP_DURABLE);
    struct pheap_info info = heap_info(heap);
    require_equal(info.durable_lsn, info.committed_lsn);
    const uint64_t syncs = info.sync_count;
    for (uint64_t i = 0; i < 20; i++) {
        commit_word(heap, 0, 100 + i, PHEAP_LAZY);
    }
    info = heap_info(heap);
    require(info.durable_lsn < info.committed_lsn);
    require_equal(info.sync_count, syncs);
    ok(pheap_sync(heap));
    info = heap_info(heap);
    require_equal(info.durable_lsn, info.committed_lsn);
    commit_word(heap, 1, 1, PHEAP_LAZY);
    ok(pheap_fold(heap));
    info = heap_info(heap);
    require_equal(info.durable_lsn, info.committed_lsn);
    require_equal(info.folded_lsn, info.committed_lsn);
    require(info.checkpoint_lsn < info.committed_lsn);
    commit_word(heap, 2, 1, PHEAP_LAZY);
    ok(pheap_checkpoint(heap));
    info = heap_info(heap);
    require_equal(info.checkpoint_lsn, info.committed_lsn);
    require(info.log_used_bytes <= 16384); /* the segment in use */
    ok(pheap_close(heap));
    machine_end(&machine);
}

/* Catches: LAZY commits that nobody ever flushes while the library is in use, or that are flushed too early. */
static void durability__lazy_is_flushed_after_a_second(void **state)
{
    (void)state;
    struct machine machine;
    machine_begin(&machine, NULL);
    uint64_t now = UINT64_C(100) * SECOND_NS;
    ph_sim_set_clock(machine.sim, now);
    pheap *heap = machine_create(&machine, 0, 8);
    commit_word(heap, 0, 1, PHEAP_LAZY);
    struct pheap_info info = heap_info(heap);
    require(info.durable_lsn < info.committed_lsn);
    ph_sim_set_clock(machine.sim, now += SECOND_NS * 12 / 10);
    ok(pheap_maintain(heap));
    info = heap_info(heap);
    require_equal(info.durable_lsn, info.committed_lsn);
    commit_word(heap, 0, 2, PHEAP_LAZY);
    const uint64_t first = heap_info(heap).committed_lsn;
    ph_sim_set_clock(machine.sim, now += SECOND_NS * 8 / 10);
    commit_word(heap, 0, 3, PHEAP_LAZY);
    require(heap_info(heap).durable_lsn < first);
    ph_sim_set_clock(machine.sim, now += SECOND_NS * 4 / 10);
    commit_word(heap, 0, 4, PHEAP_LAZY);
    require(heap_info(heap).durable_lsn >= first);
    ok(pheap_close(heap));
    machine_end(&machine);
}

/* Catches: a log that grows for ever, and a recycled segment that loses what was in it. */
static void log__is_recycled_and_bounded(void **state)
{
    (void)state;
    pheap *heap = create_heap(path_of("recycled", ""));
    (void)make_root(heap, 512);
    for (uint64_t i = 0; i < 30000; i++) {
        commit_word(heap, i % 512, i, PHEAP_LAZY);
    }
    const struct pheap_info info = heap_info(heap);
    require(info.log_bytes <= info.log_limit_bytes + 8192);
    require(info.committed_lsn > 4 * info.log_limit_bytes);
    for (uint64_t i = 30000 - 512; i < 30000; i++) {
        require_equal(fresh_word(heap, i % 512), i);
    }
    ok(pheap_close(heap));
}

/* ----------------------------------------------------------------------------------------------------------- size */

/* Catches: a transaction larger than the log buffer that is lost, torn or refused. */
static void size__beyond_the_buffer_streams(void **state)
{
    (void)state;
    const char *path = path_of("streams", "");
    struct pheap_options options = small_options();
    options.log_limit_bytes = 16u << 20;
    pheap *heap;
    uint64_t block;
    ok(pheap_open(path, PHEAP_CREATE, &options, &heap));
    for (unsigned round = 0; round < 4; round++) {
        pheap_txn *txn = begin(heap);
        if (round == 0) {
            ok(pheap_alloc(txn, 1u << 20, &block));
            ok(pheap_set_root(txn, block));
        }
        unsigned char *bytes;
        ok(pheap_edit(txn, block, 1u << 20, (void **)&bytes));
        for (unsigned i = 0; i < 1u << 20; i++) {
            bytes[i] = (unsigned char)(i * 31 + (i >> 8) + round);
        }
        pheap_read *reader = read_begin(heap, 0); /* sees nothing of it, also while it streams */
        require_equal(pheap_read_version(reader), round);
        pheap_read_end(reader);
        ok(pheap_commit(txn, round % 2 == 0 ? PHEAP_DURABLE : PHEAP_LAZY, NULL));
        reader = read_begin(heap, PHEAP_FRESH);
        const unsigned char *seen = pheap_read_ptr(reader, block);
        for (unsigned i = 0; i < 1u << 20; i++) {
            require(seen[i] == (unsigned char)(i * 31 + (i >> 8) + round));
        }
        pheap_read_end(reader);
    }
    check_sound(heap);
    ok(pheap_close(heap));
}

/* Catches: a transaction larger than the log that hangs, breaks the log, or is half done. */
static void size__beyond_the_log_is_refused(void **state)
{
    (void)state;
    pheap *heap = create_heap(path_of("too-big", ""));
    (void)make_root(heap, 8);
    commit_word(heap, 0, 5, PHEAP_LAZY);
    uint64_t block = 0;
    uint64_t version = 4711;
    for (unsigned round = 0; round < 3; round++) {
        pheap_txn *txn = begin(heap);
        put_word(txn, 0, 6);
        enum pheap_status status = pheap_alloc(txn, 2u << 20, &block);
        if (status == PHEAP_OK) {
            unsigned char *bytes = pheap_ptr(txn, block);
            for (unsigned i = 0; i < 2u << 20; i++) {
                bytes[i] = (unsigned char)(i * 131 + (i >> 9));
            }
            status = pheap_commit(txn, PHEAP_LAZY, &version);
        } else {
            ok(pheap_abort(txn));
        }
        expect_one(ONE_OF(PHEAP_TOO_BIG) | ONE_OF(PHEAP_LOG_FULL), status);
        require_equal(version, 4711);
        require_equal(fresh_word(heap, 0), 5);
    }
    check_sound(heap);
    commit_word(heap, 0, 7, PHEAP_DURABLE);
    require_equal(fresh_word(heap, 0), 7);
    ok(pheap_close(heap));
    heap = open_heap(path_of("too-big", ""));
    require_equal(fresh_word(heap, 0), 7);
    ok(pheap_close(heap));
}

/* Catches: private memory that grows without bound over many transactions, or a budget that nobody looks at. */
static void size__private_pages_stay_within_the_budget(void **state)
{
    (void)state;
    enum { SLOTS = 16u << 20 };
    struct pheap_options options = small_options();
    options.log_limit_bytes = 64u << 20;
    options.budget_bytes = 2u << 20;
    pheap *heap;
    uint64_t block;
    ok(pheap_open(path_of("budget", ""), PHEAP_CREATE, &options, &heap));
    pheap_txn *txn = begin(heap);
    ok(pheap_zalloc(txn, SLOTS, &block));
    ok(pheap_commit(txn, PHEAP_LAZY, NULL));
    for (uint64_t i = 0; i < 20000; i++) {
        txn = begin(heap);
        ok(pheap_write(txn, block + i * 4096 % SLOTS, &i, sizeof i));
        ok(pheap_commit(txn, PHEAP_LAZY, NULL));
        if (i % 1000 == 999) {
            require(heap_info(heap).private_bytes <= 2 * (options.budget_bytes + (1u << 20)));
        }
    }
    txn = begin(heap);
    enum pheap_status status = pheap_fill(txn, block, 0xee, SLOTS);
    if (status == PHEAP_OK) {
        status = pheap_commit(txn, PHEAP_LAZY, NULL);
    } else {
        ok(pheap_abort(txn));
    }
    expect(PHEAP_TOO_BIG, status);
    pheap_read *reader = read_begin(heap, PHEAP_FRESH);
    const unsigned char *seen = pheap_read_ptr(reader, block);
    for (uint64_t i = 20000 - SLOTS / 4096; i < 20000; i++) {
        uint64_t value;
        memcpy(&value, seen + i * 4096 % SLOTS, sizeof value);
        require_equal(value, i);
    }
    pheap_read_end(reader);
    ok(pheap_close(heap));
}

/* ------------------------------------------------------------------------------------------------- stray stores */

static pheap *create_verified_heap(const char *name)
{
    const struct pheap_options options = small_options();
    pheap *heap;
    ok(pheap_open(path_of(name, ""), PHEAP_CREATE | PHEAP_VERIFY, &options, &heap));
    return heap;
}

/* Catches: a store without a declaration that the verify mode does not see, or reports without saying where. */
static void verify__reports_undeclared_stores(void **state)
{
    (void)state;
    pheap *heap = create_verified_heap("verify");
    const uint64_t root = make_root(heap, 1024);
    /* Far from the declaration, next to it, in another page; and in metadata. */
    const uint64_t strays[] = {root + 4000, root + 816, root + 784, root + 8191, 8192 + 64};
    for (size_t i = 0; i < sizeof strays / sizeof strays[0]; i++) {
        pheap_txn *txn = begin(heap);
        unsigned char *stray = pheap_ptr(txn, strays[i]);
        const unsigned char old = *stray;
        put_word(txn, 100, i + 1); /* bytes 800 to 807 */
        *stray = (unsigned char)(old + 1);
        char place[32];
        (void)snprintf(place, sizeof place, "%llu", (unsigned long long)strays[i]);
        expect_detail(PHEAP_STRAY_STORE, place, pheap_commit(txn, PHEAP_LAZY, NULL));
        require_equal(fresh_word(heap, 100), 0);
        txn = begin(heap);
        require(*(unsigned char *)pheap_ptr(txn, strays[i]) == old);
        require_equal(get_word(txn, 100), 0);
        ok(pheap_abort(txn));
    }
    commit_word(heap, 100, 42, PHEAP_LAZY);
    require_equal(fresh_word(heap, 100), 42);
    check_sound(heap);
    ok(pheap_close(heap));
}

/* Catches: a store through a pointer kept beyond the commit, which would become part of a later transaction. */
static void verify__reports_stores_after_commit(void **state)
{
    (void)state;
    pheap *heap = create_verified_heap("verify-late");
    (void)make_root(heap, 1024);
    pheap_txn *txn = begin(heap);
    void *address;
    ok(pheap_edit(txn, pheap_root(txn) + 800, 8, &address));
    *(volatile uint64_t *)address = 1;
    ok(pheap_commit(txn, PHEAP_LAZY, NULL));
    *(volatile uint64_t *)address = 2;
    expect(PHEAP_STRAY_STORE, pheap_begin(heap, &txn));
    txn = begin(heap);
    require_equal(get_word(txn, 100), 1);
    put_word(txn, 100, 3);
    ok(pheap_abort(txn));
    *(volatile uint64_t *)address = 4; /* also after an abort */
    expect(PHEAP_STRAY_STORE, pheap_begin(heap, &txn));
    commit_word(heap, 101, 1, PHEAP_LAZY);
    require_equal(fresh_word(heap, 100), 1);
    ok(pheap_close(heap));
}

/* Catches: a verify mode that cries wolf: everything that is allowed, in it. */
static void verify__accepts_what_is_declared(void **state)
{
    (void)state;
    pheap *heap = create_verified_heap("verify-good");
    static struct model model;
    random_state = 5;
    for (unsigned i = 0; i < 300; i++) {
        model_transaction(heap, &model);
        if (i % 50 == 0) {
            compare_model(heap, &model);
        }
        if (i % 70 == 0) {
            ok(pheap_checkpoint(heap));
        }
    }
    compare_model(heap, &model);
    clear_model(&model);
    ok(pheap_close(heap));
}

/* Catches: a stray store that reaches the log, the file or another view when nobody verifies. */
static void stray__store_stays_in_the_process(void **state)
{
    (void)state;
    pheap *heap = create_heap(path_of("stray", ""));
    (void)make_root(heap, 1024);
    pheap_txn *txn = begin(heap);
    uint64_t *words = pheap_ptr(txn, pheap_root(txn));
    put_word(txn, 0, 1);
    words[700] = 7;
    ok(pheap_commit(txn, PHEAP_DURABLE, NULL));
    require_equal(fresh_word(heap, 0), 1);
    require_equal(fresh_word(heap, 700), 0);
    ok(pheap_close(heap));
    heap = open_heap(path_of("stray", ""));
    require_equal(fresh_word(heap, 700), 0);
    ok(pheap_close(heap));
}

/* A child that stores into a protected snapshot. */
static void store_into_snapshot(const struct peer *test, const char *path)
{
    (void)test;
    pheap *heap;
    ok(pheap_open(path, PHEAP_PROTECT, NULL, &heap));
    pheap_read *reader = read_begin(heap, 0);
    union {
        const void *shown;
        volatile char *stored;
    } place = {.shown = pheap_read_ptr(reader, pheap_read_root(reader))};
    *place.stored = 1;
}

/* Catches: a read view that can be stored into although it was to be protected. */
static void protect__makes_a_store_into_a_snapshot_fault(void **state)
{
    (void)state;
    const char *path = path_of("protect", "");
    create_closed_heap(path, 8);
    struct peer child = peer_start(store_into_snapshot, path);
    int status = 0;
    require(waitpid(child.pid, &status, 0) == child.pid);
    require(WIFSIGNALED(status) && WTERMSIG(status) == SIGSEGV);
    close(child.to);
    close(child.from);
    pheap *heap = open_heap(path);
    require_equal(fresh_word(heap, 0), 0);
    ok(pheap_close(heap));
}

int main(int argc, char **argv)
{
    choose_cases(argc, argv);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(abort__leaves_everything_as_it_was),
        cmocka_unit_test(commit__numbers_count_changes),
        cmocka_unit_test(reopen__shows_what_was_committed),
        cmocka_unit_test(savepoint__nested_rollback_is_exact),
        cmocka_unit_test(savepoint__undoes_allocations_and_frees),
        cmocka_unit_test(random__script_equals_model),
        cmocka_unit_test(durability__marks_move_as_promised),
        cmocka_unit_test(durability__lazy_is_flushed_after_a_second),
        cmocka_unit_test(log__is_recycled_and_bounded),
        cmocka_unit_test(size__beyond_the_buffer_streams),
        cmocka_unit_test(size__beyond_the_log_is_refused),
        cmocka_unit_test(size__private_pages_stay_within_the_budget),
        cmocka_unit_test(verify__reports_undeclared_stores),
        cmocka_unit_test(verify__reports_stores_after_commit),
        cmocka_unit_test(verify__accepts_what_is_declared),
        cmocka_unit_test(stray__store_stays_in_the_process),
        cmocka_unit_test(protect__makes_a_store_into_a_snapshot_fault),
    };
    return cmocka_run_group_tests(tests, make_test_directory, remove_test_directory);
}
