/* SPDX-License-Identifier: MIT */
/*
 * The promises of docs/promises.md that the library keeps by itself, one case for each row, named after it.  Each shows
 * the whole of its row once, through the public interface; what can go wrong in the parts has tests of its own.
 */
#include "tests/public.h"

#include <inttypes.h>
#include <sys/resource.h>

#define MIB (UINT64_C(1) << 20)
#define GIB (UINT64_C(1) << 30)

static pheap *open_sized(const char *path, unsigned flags, uint64_t reserve)
{
    struct pheap_options options = small_options();
    options.reserve_bytes = reserve;
    options.log_limit_bytes = 64 * MIB;
    options.segment_bytes = options.buffer_bytes = 256u << 10;
    pheap *heap;
    ok(pheap_open(path, flags, &options, &heap));
    return heap;
}

static uint64_t allocate(pheap_txn *txn, uint64_t length)
{
    uint64_t offset;
    ok(pheap_alloc(txn, length, &offset));
    return offset;
}

static struct pheap_space space_of(pheap *heap)
{
    struct pheap_space space = {.size = sizeof space};
    pheap_read *reader = read_begin(heap, PHEAP_FRESH);
    ok(pheap_get_space(reader, &space, NULL, NULL));
    pheap_read_end(reader);
    return space;
}

/* ------------------------------------------------------------------------------------------------------------- M1 */

/* Catches a life of a heap that does not go through: its files, its blocks, what is on the disk after a flush, and what
 * is told when there is no more room, after which everything goes on. */
static void M1__create_open_flush_close_and_blocks(void **state)
{
    (void)state;
    const char *path = path_of("M1", "");
    pheap *heap = open_sized(path, PHEAP_CREATE | PHEAP_EXCLUSIVE, 64 * MIB);
    pheap_txn *txn = begin(heap);
    uint64_t block = allocate(txn, 100);
    memset(pheap_ptr(txn, block), 'a', 100);
    ok(pheap_realloc(txn, &block, 100000));
    require(((char *)pheap_ptr(txn, block))[99] == 'a');
    ok(pheap_set_root(txn, block));
    const uint64_t other = allocate(txn, 1);
    ok(pheap_free(txn, other));
    expect(PHEAP_DOUBLE_FREE, pheap_free(txn, other));
    ok(pheap_commit(txn, PHEAP_LAZY, NULL));
    ok(pheap_sync(heap));
    struct pheap_info info = heap_info(heap);
    require_equal(info.durable_lsn, info.committed_lsn);
    ok(pheap_close(heap));

    heap = open_sized(path, 0, 64 * MIB);
    txn = begin(heap);
    require_equal(pheap_root(txn), block);
    require(((char *)pheap_ptr(txn, block))[99] == 'a');
    uint64_t last = 0;
    enum pheap_status status;
    for (uint64_t offset; (status = pheap_alloc(txn, MIB, &offset)) == PHEAP_OK;)
        last = offset;
    expect_detail(PHEAP_RESERVE, "reserve", status);
    require(last != 0);
    ok(pheap_free(txn, last));
    (void)allocate(txn, MIB);
    ok(pheap_commit(txn, PHEAP_DURABLE, NULL));
    check_sound(heap);
    ok(pheap_close(heap));
}

/* ------------------------------------------------------------------------------------------------------------- M3 */

/* Catches free neighbours that are not merged, in whatever order they become free. */
static void M3__freeing_everything_leaves_one_free_block(void **state)
{
    (void)state;
    enum { COUNT = 3000 };
    static uint64_t blocks[COUNT];
    uint64_t random = choose_seed() | 1;
    pheap *heap = open_sized(path_of("M3", ""), PHEAP_CREATE, GIB);
    for (int order = 0; order < 3; order++) {
        pheap_txn *txn = begin(heap);
        for (int i = 0; i < COUNT; i++)
            blocks[i] = allocate(txn, (uint64_t)(i % 97) * (uint64_t)(i % 89) * 13 + 1);
        ok(pheap_commit(txn, PHEAP_LAZY, NULL));
        require(space_of(heap).live_blocks == COUNT);
        txn = begin(heap);
        for (int i = 0; i < COUNT; i++) {
            /* upwards, downwards, at random */
            random = random * UINT64_C(6364136223846793005) + 1;
            const int chosen = order == 0   ? i
                               : order == 1 ? COUNT - 1 - i
                                            : i + (int)((random >> 33) % (uint64_t)(COUNT - i));
            const uint64_t block = blocks[chosen];
            if (order == 2)
                blocks[chosen] = blocks[i];
            ok(pheap_free(txn, block));
        }
        ok(pheap_commit(txn, PHEAP_LAZY, NULL));
        const struct pheap_space space = space_of(heap);
        require_equal(space.live_blocks, 0);
        require_equal(space.free_extents, 1);
        require_equal(space.slab_free_bytes, 0);
        require_equal(space.largest_free_bytes, space.extent_free_bytes);
    }
    ok(pheap_close(heap));
}

/* ------------------------------------------------------------------------------------------------------------- M4 */

struct cost {
    uint64_t extents, logged, faults;
};

/* What it costs to allocate where `count` free blocks are all in the list of that length and all a page too short: in a
 * fresh process every page of metadata that is looked at is a fault. */
static struct cost cost_among(uint64_t count, const char *path)
{
    enum { PAGE = 4096, SHORT = 33, WANTED = 35 };
    struct cost *cost = shared_memory(sizeof *cost);
    uint64_t *gaps = calloc(count, sizeof *gaps);
    require(gaps != NULL);
    pheap *heap = open_sized(path, PHEAP_CREATE, 8 * GIB);
    pheap_txn *txn = begin(heap);
    for (uint64_t i = 0; i < count; i++) {
        gaps[i] = allocate(txn, SHORT * PAGE);
        (void)allocate(txn, PAGE * 9);
    }
    ok(pheap_commit(txn, PHEAP_LAZY, NULL));
    txn = begin(heap);
    for (uint64_t i = 0; i < count; i++)
        ok(pheap_free(txn, gaps[i]));
    ok(pheap_commit(txn, PHEAP_LAZY, NULL));
    cost->extents = space_of(heap).free_extents;
    ok(pheap_close(heap));
    free(gaps);

    (void)fflush(NULL);
    const pid_t pid = fork();
    require(pid >= 0);
    if (pid == 0) {
        enter_child();
        heap = open_sized(path, 0, 8 * GIB);
        txn = begin(heap);
        (void)allocate(txn, 16); /* what any first allocation touches */
        struct rusage before, after;
        (void)getrusage(RUSAGE_SELF, &before);
        (void)allocate(txn, (uint64_t)WANTED * PAGE);
        (void)getrusage(RUSAGE_SELF, &after);
        cost->faults = (uint64_t)(after.ru_minflt - before.ru_minflt);
        const uint64_t lsn = heap_info(heap).committed_lsn;
        ok(pheap_commit(txn, PHEAP_DURABLE, NULL));
        cost->logged = heap_info(heap).committed_lsn - lsn;
        ok(pheap_close(heap));
        exit(0);
    }
    int status = -1;
    require(waitpid(pid, &status, 0) == pid && status == 0);
    const struct cost result = *cost;
    (void)munmap(cost, sizeof *cost);
    return result;
}

/* Catches a search through free blocks that gets longer with their number: 128 times as many may cost 7 steps more. */
static void M4__cost_grows_at_most_with_the_logarithm(void **state)
{
    (void)state;
    const struct cost few = cost_among(64, path_of("M4-few", "")), many = cost_among(8192, path_of("M4-many", ""));
    print_message("%" PRIu64 " free blocks: %" PRIu64 " pages looked at, %" PRIu64 " bytes logged; %" PRIu64
                  ": %" PRIu64 ", %" PRIu64 "\n",
                  few.extents, few.faults, few.logged, many.extents, many.faults, many.logged);
    require(few.extents >= 64 && many.extents >= 8192);
    require(many.faults <= few.faults + 7);
    require(many.logged <= few.logged + 7 * sizeof(uint64_t));
}

/* ------------------------------------------------------------------------------------------------------------- M5 */

enum { SLOTS = 200 };

/* The trace is a function of its seed; how far it has come, and where its blocks are, is in the root block. */
struct trace {
    uint64_t random, steps;
    struct {
        uint64_t offset, length, byte;
    } slots[SLOTS];
};

/* What the next step does: to which slot, of which length (0: freed), filled with what. */
static void next_step(uint64_t *random, uint64_t *slot, uint64_t *length, uint64_t *byte)
{
    *random = *random * UINT64_C(6364136223846793005) + 1442695040888963407u;
    const uint64_t draw = *random >> 16;
    *slot = draw % SLOTS;
    *byte = draw >> 40 & 255;
    const uint64_t kind = draw >> 8 & 7;
    *length = kind == 0 ? 0 : kind == 7 ? (draw >> 11) % 200000 + 1 : (draw >> 11) % 600 + 1;
}

static void do_step(pheap *heap)
{
    pheap_txn *txn = begin(heap);
    struct trace *trace;
    ok(pheap_edit(txn, pheap_root(txn), sizeof *trace, (void **)&trace));
    uint64_t at, length, byte;
    next_step(&trace->random, &at, &length, &byte);
    if (trace->slots[at].offset != 0 && length != 0 && byte % 2 != 0) {
        ok(pheap_realloc(txn, &trace->slots[at].offset, length));
    } else {
        ok(pheap_free(txn, trace->slots[at].offset));
        trace->slots[at].offset = length == 0 ? 0 : allocate(txn, length);
    }
    if (length != 0)
        ok(pheap_fill(txn, trace->slots[at].offset, (unsigned char)byte, length));
    trace->slots[at].length = length;
    trace->slots[at].byte = byte;
    trace->steps++;
    ok(pheap_commit(txn, PHEAP_LAZY, NULL));
}

/* The heap is as the trace says that it is after so many steps, at least `least`. */
static uint64_t require_trace(pheap *heap, uint64_t seed, uint64_t least)
{
    struct trace expected = {.random = seed};
    pheap_read *reader = read_begin(heap, PHEAP_FRESH);
    const struct trace *trace = pheap_read_ptr(reader, pheap_read_root(reader));
    require(trace->steps >= least);
    for (uint64_t i = 0; i < trace->steps; i++) {
        uint64_t at, length, byte;
        next_step(&expected.random, &at, &length, &byte);
        expected.slots[at].length = length;
        expected.slots[at].byte = byte;
    }
    require_equal(trace->random, expected.random);
    uint64_t live = 1;
    for (int i = 0; i < SLOTS; i++) {
        require_equal(trace->slots[i].length, expected.slots[i].length);
        require_equal(trace->slots[i].offset != 0, expected.slots[i].length != 0);
        if (trace->slots[i].offset == 0)
            continue;
        live++;
        const void *bytes;
        ok(pheap_read_range(reader, trace->slots[i].offset, trace->slots[i].length, &bytes));
        for (uint64_t at = 0; at < trace->slots[i].length; at++)
            require_equal(((const unsigned char *)bytes)[at], expected.slots[i].byte);
    }
    const uint64_t steps = trace->steps;
    pheap_read_end(reader);
    require_equal(space_of(heap).live_blocks, live);
    check_sound(heap);
    return steps;
}

static _Atomic uint64_t *steps_done;

static void go_on_until_killed(const struct peer *test, const char *path)
{
    (void)test;
    pheap *heap = open_sized(path, 0, GIB);
    for (;;) {
        do_step(heap);
        atomic_fetch_add(steps_done, 1);
    }
}

/* Catches a trace of allocations that cannot go on where it was, with all blocks as they were, after the heap was closed
 * or its process killed; and a step that is there in part. */
static void M5__a_random_trace_goes_on_after_reopening_and_kills(void **state)
{
    (void)state;
    const char *path = path_of("M5", "");
    const uint64_t seed = choose_seed();
    steps_done = shared_memory(sizeof *steps_done);
    pheap *heap = open_sized(path, PHEAP_CREATE, GIB);
    pheap_txn *txn = begin(heap);
    uint64_t root;
    ok(pheap_zalloc(txn, sizeof(struct trace), &root));
    ((struct trace *)pheap_ptr(txn, root))->random = seed;
    ok(pheap_set_root(txn, root));
    ok(pheap_commit(txn, PHEAP_DURABLE, NULL));
    uint64_t steps = 0;
    for (int round = 0; round < 8; round++) {
        for (int i = 0; i < 300; i++)
            do_step(heap);
        steps = require_trace(heap, seed, steps + 300);
        ok(pheap_close(heap));
        const uint64_t before = atomic_load(steps_done);
        struct peer child = peer_start(go_on_until_killed, path);
        for (int waits = 0; atomic_load(steps_done) < before + 200; waits++) {
            require(waits < PEER_PATIENCE_MS);
            pause_us(1000);
        }
        peer_kill(&child);
        heap = open_sized(path, 0, GIB);
        steps = require_trace(heap, seed, steps + atomic_load(steps_done) - before);
    }
    ok(pheap_close(heap));
}

/* ------------------------------------------------------------------------------------------------------------- M6 */

/* Catches a root that is bound to its first block: the table of contents is replaced by a longer one, which grows. */
static void M6__the_table_at_the_root_is_replaced_and_regrown(void **state)
{
    (void)state;
    const char *path = path_of("M6", "");
    pheap *heap = open_sized(path, PHEAP_CREATE, GIB);
    uint64_t count = 0;
    for (uint64_t length = 4; length <= 100000; length *= 5) {
        pheap_txn *txn = begin(heap);
        uint64_t table = pheap_root(txn);
        if (length % 2 == 0 && count != 0) { /* another block */
            uint64_t longer = allocate(txn, (length + 1) * sizeof(uint64_t));
            memcpy(pheap_ptr(txn, longer), pheap_ptr(txn, table), (count + 1) * sizeof(uint64_t));
            ok(pheap_set_root(txn, longer));
            ok(pheap_free(txn, table));
            table = longer;
        } else {
            ok(pheap_realloc(txn, &table, (length + 1) * sizeof(uint64_t)));
            ok(pheap_set_root(txn, table));
        }
        uint64_t *words;
        ok(pheap_edit(txn, table, (length + 1) * sizeof(uint64_t), (void **)&words));
        for (; count < length; count++) {
            words[count + 1] = allocate(txn, sizeof count);
            memcpy(pheap_ptr(txn, words[count + 1]), &count, sizeof count);
        }
        words[0] = count;
        ok(pheap_commit(txn, PHEAP_LAZY, NULL));
        ok(pheap_close(heap));
        heap = open_sized(path, 0, GIB);
        pheap_read *reader = read_begin(heap, 0);
        const uint64_t *read = pheap_read_ptr(reader, pheap_read_root(reader));
        require_equal(read[0], length);
        for (uint64_t i = 0; i < length; i++) {
            uint64_t value;
            memcpy(&value, pheap_read_ptr(reader, read[i + 1]), sizeof value);
            require_equal(value, i);
        }
        pheap_read_end(reader);
        require_equal(space_of(heap).live_blocks, length + 1); /* nothing of the old tables is left */
    }
    ok(pheap_close(heap));
}

/* ------------------------------------------------------------------------------------------------------------- M7 */

static char letter(uint64_t length, uint64_t at)
{
    return (char)('a' + (length * 7 + at / 3 + at / 4096) % 26);
}

/* Catches a length at which a string is cut: round the sizes of slots, pages, records, the log's buffer and segments. */
static void M7__strings_of_any_length(void **state)
{
    (void)state;
    static const uint64_t lengths[] = {1,     15,    16,    17,     127,    4095,   4096,    4097,    32767,
                                       32768, 32769, 65537, 262143, 262145, 999999, 4194305, 20000001};
    enum { COUNT = sizeof lengths / sizeof lengths[0] };
    const char *path = path_of("M7", "");
    pheap *heap = open_sized(path, PHEAP_CREATE, GIB);
    pheap_txn *txn = begin(heap);
    uint64_t *root, table;
    ok(pheap_alloc(txn, sizeof lengths, &table));
    ok(pheap_set_root(txn, table));
    ok(pheap_commit(txn, PHEAP_LAZY, NULL));
    for (int i = 0; i < COUNT; i++) {
        txn = begin(heap);
        ok(pheap_edit(txn, table, sizeof lengths, (void **)&root));
        root[i] = allocate(txn, lengths[i]);
        char *text = pheap_ptr(txn, root[i]);
        for (uint64_t at = 0; at < lengths[i]; at++)
            text[at] = letter(lengths[i], at);
        ok(pheap_commit(txn, PHEAP_DURABLE, NULL));
    }
    ok(pheap_close(heap));
    heap = open_sized(path, 0, GIB);
    pheap_read *reader = read_begin(heap, 0);
    const uint64_t *read = pheap_read_ptr(reader, pheap_read_root(reader));
    for (int i = 0; i < COUNT; i++) {
        const void *bytes;
        ok(pheap_read_range(reader, read[i], lengths[i], &bytes));
        for (uint64_t at = 0; at < lengths[i]; at++)
            require(((const char *)bytes)[at] == letter(lengths[i], at));
    }
    pheap_read_end(reader);
    ok(pheap_close(heap));
}

/* ------------------------------------------------------------------------------------------------------------- M8 */

static void count_fault(void *context, uint64_t offset, const char *text)
{
    (void)offset;
    (void)text;
    ++*(int *)context;
}

/* Catches a walk that leaves out a live block or shows one that is free, and a check that a contradiction escapes. */
static void M8__a_walk_over_all_blocks(void **state)
{
    (void)state;
    enum { COUNT = 2000 };
    static uint64_t blocks[COUNT];
    const char *path = path_of("M8", "");
    pheap *heap = open_sized(path, PHEAP_CREATE, GIB);
    pheap_txn *txn = begin(heap);
    for (uint64_t i = 0; i < COUNT; i++)
        blocks[i] = allocate(txn, i % 10 == 0 ? i * 50 + 1 : i % 700 + 1);
    uint64_t live = 0;
    for (uint64_t i = 0; i < COUNT; i++) {
        if (i % 3 == 1)
            ok(pheap_free(txn, blocks[i]));
        else
            blocks[live++] = blocks[i];
    }
    ok(pheap_commit(txn, PHEAP_LAZY, NULL));
    pheap_read *reader = read_begin(heap, 0);
    uint64_t seen = 0, last = 0, at = 0, length = 0;
    while (pheap_read_next_block(reader, at + length, &at, &length) == PHEAP_OK) {
        require(at > last && length > 0);
        last = at;
        bool known = false;
        for (uint64_t i = 0; i < live && !known; i++)
            known = blocks[i] == at;
        require(known);
        seen++;
    }
    require_equal(seen, live);
    int faults = 0;
    ok(pheap_check(reader, count_fault, NULL, &faults));
    require_equal(faults, 0);
    pheap_read_end(reader);
    ok(pheap_close(heap));

    /* A changed byte here and there in the first pages, where tables are. */
    int noticed = 0;
    const uint64_t end = file_size(path) < 256u << 10 ? file_size(path) : 256u << 10;
    for (uint64_t offset = 16384; offset < end; offset += 4096 + 16) {
        const char *copy = path_of("M8-damaged", "");
        unsigned char byte;
        copy_heap(path, copy, false);
        read_at(copy, offset, &byte, 1);
        byte ^= 0x11;
        write_at(copy, offset, &byte, 1);
        const struct pheap_options options = {.size = sizeof options, .reserve_bytes = GIB};
        if (pheap_open(copy, 0, &options, &heap) != PHEAP_OK) {
            noticed++;
            continue;
        }
        reader = read_begin(heap, 0);
        if (pheap_check(reader, count_fault, NULL, &faults) == PHEAP_CORRUPT) {
            require(faults > 0);
            noticed++;
        }
        pheap_read_end(reader);
        (void)!pheap_close(heap);
        require(run_command("rm -f '%s' '%s-wal' '%s-shm'", copy, copy, copy) == 0);
    }
    require(noticed > 0);
}

/* ------------------------------------------------------------------------------------------------------------- M9 */

struct node {
    uint64_t text, next;
};

struct written {
    uint64_t logged, to_log, to_heap;
};

/* In a heap of so many bytes: the text of the element at its front was Foo, and becomes Foobar. */
static struct written write_foobar(const char *path, uint64_t bytes)
{
    pheap *heap = open_sized(path, PHEAP_CREATE, 16 * GIB);
    pheap_txn *txn = begin(heap);
    const uint64_t root = allocate(txn, sizeof(struct node));
    struct node *node = pheap_ptr(txn, root);
    *node = (struct node){.text = allocate(txn, sizeof "Foo")};
    memcpy(pheap_ptr(txn, node->text), "Foo", sizeof "Foo");
    ok(pheap_set_root(txn, root));
    /* Behind it the rest of the tree: elements with their texts, then the bulk. */
    uint64_t last = root;
    for (int i = 0; i < 10000; i++) {
        const uint64_t next = allocate(txn, sizeof(struct node));
        *(struct node *)pheap_ptr(txn, next) = (struct node){.text = allocate(txn, (uint64_t)(i % 40) + 1)};
        ((struct node *)pheap_ptr(txn, last))->next = next;
        last = next;
    }
    while (pheap_size(txn) < bytes) {
        uint64_t bulk;
        ok(pheap_zalloc(txn, bytes < GIB ? MIB / 4 : 64 * MIB, &bulk));
        ((struct node *)pheap_ptr(txn, last))->next = bulk;
        last = bulk;
    }
    ok(pheap_commit(txn, PHEAP_DURABLE, NULL));
    ok(pheap_checkpoint(heap));
    ok(pheap_close(heap));

    heap = open_sized(path, 0, 16 * GIB);
    commit_word(heap, 1, fresh_word(heap, 1), PHEAP_DURABLE); /* what a first transaction after opening writes */
    ok(pheap_checkpoint(heap));
    const struct pheap_info before = heap_info(heap);
    require(before.heap_bytes >= bytes);
    txn = begin(heap);
    ok(pheap_edit(txn, root, sizeof *node, (void **)&node));
    ok(pheap_free(txn, node->text));
    node->text = allocate(txn, sizeof "Foobar");
    ok(pheap_write(txn, node->text, "Foobar", sizeof "Foobar"));
    ok(pheap_commit(txn, PHEAP_DURABLE, NULL));
    const struct pheap_info durable = heap_info(heap);
    ok(pheap_checkpoint(heap));
    const struct pheap_info after = heap_info(heap);
    ok(pheap_close(heap));

    heap = open_sized(path, 0, 16 * GIB);
    pheap_read *reader = read_begin(heap, 0);
    const struct node *read = pheap_read_ptr(reader, pheap_read_root(reader));
    require(strcmp(pheap_read_ptr(reader, read->text), "Foobar") == 0);
    pheap_read_end(reader);
    check_sound(heap);
    ok(pheap_close(heap));
    return (struct written){.logged = durable.committed_lsn - before.committed_lsn,
                            .to_log = durable.log_written_bytes - before.log_written_bytes,
                            .to_heap = after.fold_written_bytes - before.fold_written_bytes};
}

/* Catches a change that costs more in a larger heap, down to the byte: in the log, on the log's disk, in the heap file. */
static void M9__foobar_writes_the_same_at_4_MB_and_4_GB(void **state)
{
    (void)state;
    const struct written small = write_foobar(path_of("M9-small", ""), 4 * MIB);
    const struct written large = write_foobar(path_of("M9-large", ""), 4 * GIB);
    print_message("logged %" PRIu64 " bytes, written %" PRIu64 " to the log and %" PRIu64 " to the heap\n",
                  small.logged, small.to_log, small.to_heap);
    require(small.logged > 0 && small.logged <= 256);
    require(small.to_heap > 0);
    require_equal(large.logged, small.logged);
    require_equal(large.to_log, small.to_log);
    require_equal(large.to_heap, small.to_heap);
}

/* ------------------------------------------------------------------------------------------------------------ M10 */

/* A chain through the heap by offsets. */
static void read_elsewhere(const struct peer *test, const char *path)
{
    /* Take the address space where the other process has it, so that it must be mapped elsewhere. */
    void *theirs;
    require(read(test->from, &theirs, sizeof theirs) == sizeof theirs);
    require(mmap(theirs, 1, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0) != MAP_FAILED);
    pheap *heap = open_heap(path);
    pheap_read *reader = read_begin(heap, 0);
    require(pheap_read_ptr(reader, 0) != theirs);
    uint64_t count = 0;
    for (uint64_t at = pheap_read_root(reader); at != 0; at = ((const struct node *)pheap_read_ptr(reader, at))->next)
        count++;
    require_equal(count, 1000);
    pheap_read_end(reader);
    ok(pheap_close(heap));
}

/* Catches a heap that only works where it was mapped, an address that is taken for an offset, and a pointer into the heap
 * that growth would move. */
static void M10__offsets_at_any_address(void **state)
{
    (void)state;
    const char *path = path_of("M10", "");
    pheap *heap = open_heap((create_closed_heap(path, 2), path));
    pheap_txn *txn = begin(heap);
    uint64_t last = 0;
    for (int i = 0; i < 1000; i++) {
        const uint64_t block = allocate(txn, sizeof(struct node));
        *(struct node *)pheap_ptr(txn, block) = (struct node){.next = last};
        last = block;
    }
    ok(pheap_set_root(txn, last));
    ok(pheap_commit(txn, PHEAP_DURABLE, NULL));

    struct node live = {0};
    struct node *held;
    txn = begin(heap);
    const uint64_t address = (uint64_t)(uintptr_t)&live;
    expect(PHEAP_BAD_OFFSET, pheap_set_root(txn, address));
    expect(PHEAP_BAD_OFFSET, pheap_free(txn, address));
    expect(PHEAP_BAD_OFFSET, pheap_edit(txn, address, 8, NULL));
    expect(PHEAP_BAD_OFFSET, pheap_set_root(txn, (uint64_t)(uintptr_t)pheap_ptr(txn, last)));
    ok(pheap_edit(txn, last, sizeof *held, (void **)&held));
    (void)allocate(txn, 100 * MIB); /* the heap grows */
    held->text = 4711;
    require(held == pheap_ptr(txn, last));
    ok(pheap_commit(txn, PHEAP_DURABLE, NULL));

    pheap_read *reader = read_begin(heap, PHEAP_FRESH);
    const void *here = pheap_read_ptr(reader, 0);
    require_equal(((const struct node *)pheap_read_ptr(reader, last))->text, 4711);
    struct peer child = peer_start(read_elsewhere, path);
    require(write(child.to, &here, sizeof here) == sizeof here);
    peer_join(&child);
    pheap_read_end(reader);
    ok(pheap_close(heap));
}

/* ------------------------------------------------------------------------------------------------------------- T3 */

enum { ITEMS = 5000 };

static void change_until_killed(const struct peer *test, const char *path)
{
    pheap *heap = open_heap(path);
    for (uint64_t i = 1; i < ITEMS; i++) {
        if (i == ITEMS / 2) {
            ok(pheap_sync(heap));
            ok(pheap_checkpoint(heap)); /* the snapshot */
        }
        commit_word(heap, i, i * i, PHEAP_LAZY);
    }
    ok(pheap_sync(heap));
    peer_tell(test, 'd');
    pause();
}

/* Catches a state of objects that does not come back from its last snapshot and the log behind it, or comes back
 * otherwise the second time; and reads that are not those of plain memory. */
static void T3__a_prevalent_system(void **state)
{
    (void)state;
    const char *path = path_of("T3", ""), *again = path_of("T3-again", "");
    pheap *heap = open_sized(path, PHEAP_CREATE, GIB);
    (void)make_root(heap, ITEMS);
    ok(pheap_close(heap));
    struct peer child = peer_start(change_until_killed, path);
    peer_hear(&child, 'd');
    peer_kill(&child);
    copy_heap(path, again, false);
    uint64_t replayed[2];
    for (int i = 0; i < 2; i++) {
        heap = open_heap(i == 0 ? path : again);
        const struct pheap_info info = heap_info(heap);
        require_equal(info.recovered, 1);
        replayed[i] = info.replayed_bytes;
        /* Of the log only what is behind the snapshot: 2,500 of 5,000 records. */
        require(replayed[i] > 0 && replayed[i] < info.committed_lsn);
        pheap_read *reader = read_begin(heap, 0);
        const uint64_t *items = pheap_read_ptr(reader, pheap_read_root(reader));
        for (uint64_t item = 0; item < ITEMS; item++) {
            require_equal(items[item], item * item);
            require(&items[item] == pheap_read_ptr(reader, pheap_read_root(reader) + item * sizeof *items));
        }
        const uint64_t syncs = heap_info(heap).sync_count;
        pheap_read_end(reader);
        require_equal(heap_info(heap).sync_count, syncs);
        ok(pheap_close(heap));
    }
    require_equal(replayed[0], replayed[1]);
}

int main(int argc, char **argv)
{
    choose_cases(argc, argv);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(M1__create_open_flush_close_and_blocks),
        cmocka_unit_test(M3__freeing_everything_leaves_one_free_block),
        cmocka_unit_test(M4__cost_grows_at_most_with_the_logarithm),
        cmocka_unit_test(M5__a_random_trace_goes_on_after_reopening_and_kills),
        cmocka_unit_test(M6__the_table_at_the_root_is_replaced_and_regrown),
        cmocka_unit_test(M7__strings_of_any_length),
        cmocka_unit_test(M8__a_walk_over_all_blocks),
        cmocka_unit_test(M9__foobar_writes_the_same_at_4_MB_and_4_GB),
        cmocka_unit_test(M10__offsets_at_any_address),
        cmocka_unit_test(T3__a_prevalent_system),
    };
    return cmocka_run_group_tests(tests, make_test_directory, remove_test_directory);
}
