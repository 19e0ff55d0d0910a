/* SPDX-License-Identifier: MIT */
/*
 * The library against a plain model: a script of operations by two processes on a new heap.
 *
 *   F1  what a call returns is what the model says: a block that overlaps no other, its bytes, a failure that is possible
 *   F2  a write transaction sees its own changes, and those of every commit before; abort and rollback undo them
 *   F3  a reader shows the version that it names: exactly its blocks, with their bytes and the root; also later
 *   F4  after the death of every process, in the middle of any call, the heap has every commit that had returned, and at
 *       most one more, whole; after a crash of the machine, every durable one, and of the others a beginning
 *   F5  the heap is always sound
 *   F6  fuzz/machine.h, M1 to M5
 *
 * What an unsynced write may become when the power fails is not here, but in tests/test_crash.c: of the machine's crash
 * every write has happened, and the coordination file is gone.
 *
 * Input: a script of the codes below.
 */
#include "fuzz/machine.h"
#include "fuzz/reseal.h"
#include "pheap/core.h"

#include <stdlib.h>
#include <string.h>

#define BLOCKS 24u
#define VERSIONS 64u
#define LEVELS 4u
#define READERS 3u
#define OPERATIONS_MAX 200u
#define WORK_BYTES (UINT64_C(1) << 20) /* that a script may store */
#define OPEN_WORK_BYTES (UINT64_C(1) << 17)
#define UNTOUCHED UINT64_C(0x5ca1ab1e0ddba115)

/* The bytes of a block, shared by the versions that have them. */
struct bytes {
    unsigned references;
    uint64_t length;
    uint8_t data[];
};

/* What the heap holds at one time. */
struct world {
    struct {
        uint64_t offset; /* 0: no block */
        struct bytes *bytes;
    } blocks[BLOCKS];
    uint64_t root;
};

struct process {
    pheap *heap;
    pheap_txn *txn;
    bool tracks;
};

struct reader {
    pheap_read *open;
    uint64_t version;
    unsigned process;
};

struct run {
    const uint8_t *at, *end;
    uint64_t work;
    struct process processes[FUZZ_PROCESSES];
    unsigned present;
    struct reader readers[READERS];
    struct world versions[VERSIONS]; /* by number */
    uint64_t committed, durable;     /* numbers */
    struct world now;                /* of the open transaction */
    struct world saved[LEVELS];
    unsigned levels;
    struct {
        bool taken;
        uint64_t committed, durable, most; /* what it must have: least after death, least after a crash, and most */
    } snapshot;
    uint64_t before_committed, before_durable; /* as of the beginning of the present operation */
};

/* ----------------------------------------------------------------------------------------------------------- worlds */

static struct bytes *bytes_new(uint64_t length)
{
    struct bytes *bytes = fuzz_memory(NULL, sizeof *bytes + length);
    *bytes = (struct bytes){.references = 1, .length = length};
    return bytes;
}

static void bytes_drop(struct bytes *bytes)
{
    if (bytes != NULL && --bytes->references == 0)
        free(bytes);
}

static void world_clear(struct world *world)
{
    for (unsigned i = 0; i < BLOCKS; i++)
        bytes_drop(world->blocks[i].bytes);
    memset(world, 0, sizeof *world);
}

static void world_copy(struct world *to, const struct world *from)
{
    world_clear(to);
    *to = *from;
    for (unsigned i = 0; i < BLOCKS; i++)
        if (to->blocks[i].bytes != NULL)
            to->blocks[i].bytes->references++;
}

/* The block's bytes, no longer shared, `length` of them; *new ones are zero. */
static uint8_t *world_own(struct world *world, unsigned slot, uint64_t length)
{
    struct bytes *old = world->blocks[slot].bytes, *own = bytes_new(length);
    uint64_t common = old == NULL ? 0 : old->length < length ? old->length : length;
    memset(own->data, 0, length);
    if (common > 0)
        memcpy(own->data, old->data, common);
    bytes_drop(old);
    world->blocks[slot].bytes = own;
    return own->data;
}

static void world_forget(struct world *world, unsigned slot)
{
    if (world->root == world->blocks[slot].offset)
        world->root = 0;
    bytes_drop(world->blocks[slot].bytes);
    world->blocks[slot].offset = 0;
    world->blocks[slot].bytes = NULL;
}

static unsigned world_count(const struct world *world)
{
    unsigned count = 0;
    for (unsigned i = 0; i < BLOCKS; i++)
        count += world->blocks[i].offset != 0;
    return count;
}

/* F3: the reader shows this world. */
static void world_compare(const struct world *world, const pheap_read *reader)
{
    uint64_t from = 0, offset, length;
    unsigned seen = 0;
    while (pheap_read_next_block(reader, from, &offset, &length) == PHEAP_OK) {
        unsigned slot = 0;
        while (slot < BLOCKS && world->blocks[slot].offset != offset)
            slot++;
        FUZZ_REQUIRE(slot < BLOCKS && offset >= from && world->blocks[slot].bytes->length <= length);
        FUZZ_REQUIRE(memcmp(pheap_read_ptr(reader, offset), world->blocks[slot].bytes->data,
                            world->blocks[slot].bytes->length) == 0);
        seen++;
        from = offset + length;
    }
    FUZZ_REQUIRE(seen == world_count(world));
    FUZZ_REQUIRE(pheap_read_root(reader) == world->root);
}

/* ------------------------------------------------------------------------------------------------------ the script */

static uint8_t take(struct run *run)
{
    return run->at < run->end ? *run->at++ : 0;
}

static uint64_t take_size(struct run *run)
{
    uint8_t kind = take(run);
    uint64_t size = kind % 8 < 4   ? 1u + take(run)
                    : kind % 8 < 6 ? 1u + take(run) * 16u
                    : kind % 8 < 7 ? 16u << kind / 8 % 12
                                   : 4096u * (8u + take(run) % 8) + kind / 8 % 2;
    size = size < run->work ? size : 1 + size % 16;
    run->work -= size < run->work ? size : run->work;
    return size;
}

static struct process *present(struct run *run)
{
    return &run->processes[run->present];
}

/* A block that there is, or BLOCKS. */
static unsigned take_block(struct run *run)
{
    unsigned first = take(run) % BLOCKS;
    for (unsigned i = 0; i < BLOCKS; i++)
        if (run->now.blocks[(first + i) % BLOCKS].offset != 0)
            return (first + i) % BLOCKS;
    return BLOCKS;
}

static bool is_lack(enum pheap_status status)
{
    return status == PHEAP_TOO_BIG || status == PHEAP_RESERVE || status == PHEAP_NO_SPACE || status == PHEAP_FULL;
}

/* A snapshot that was taken during the last call shows what was before it, or what came of it. */
static void note_snapshot(struct run *run)
{
    if (!fuzz_machine_has_snapshot() || run->snapshot.taken)
        return;
    run->snapshot.taken = true;
    run->snapshot.committed = run->before_committed;
    run->snapshot.durable = run->before_durable;
    run->snapshot.most = run->committed;
}

static void begin_call(struct run *run)
{
    run->before_committed = run->committed;
    run->before_durable = run->durable;
}

/* ----------------------------------------------------------------------------------------------- write transactions */

/* Make bytes [from, from + length) of the block `byte`, in the heap and in the model. */
static void store(struct run *run, unsigned slot, uint64_t from, uint64_t length, uint8_t byte, unsigned how)
{
    struct process *p = present(run);
    uint64_t offset = run->now.blocks[slot].offset;
    uint8_t *model = world_own(&run->now, slot, run->now.blocks[slot].bytes->length) + from;
    enum pheap_status status = PHEAP_OK;
    void *address = NULL;
    for (uint64_t i = 0; i < length; i++)
        model[i] = (uint8_t)(how == 2 ? byte : byte + i * 7);
    if (how == 0)
        status = pheap_write(p->txn, offset + from, model, length);
    else if (how == 1)
        status = pheap_edit(p->txn, offset + from, length, &address);
    else if (how == 2)
        status = pheap_fill(p->txn, offset + from, byte, length);
    else if (!p->tracks)
        status = pheap_track(p->txn, offset + from, length, &address);
    else
        address = pheap_ptr(p->txn, offset + from);
    FUZZ_REQUIRE(status == PHEAP_OK);
    if (address != NULL)
        memcpy(address, model, length);
}

static void store_all(struct run *run, unsigned slot, uint64_t from, uint8_t byte)
{
    uint64_t length = run->now.blocks[slot].bytes->length;
    if (from < length)
        store(run, slot, from, length - from, byte, byte % 4);
}

/* F1: the block at `slot` overlaps no other. */
static void must_be_apart(const struct run *run, unsigned slot)
{
    uint64_t offset = run->now.blocks[slot].offset, end = offset + run->now.blocks[slot].bytes->length;
    for (unsigned i = 0; i < BLOCKS; i++) {
        uint64_t other = run->now.blocks[i].offset;
        if (i != slot && other != 0)
            FUZZ_REQUIRE(end <= other || other + run->now.blocks[i].bytes->length <= offset);
    }
}

static void allocate(struct run *run)
{
    struct process *p = present(run);
    uint64_t length = take_size(run), offset = UNTOUCHED, alignment;
    uint8_t how = take(run);
    unsigned slot = 0;
    while (slot < BLOCKS && run->now.blocks[slot].offset != 0)
        slot++;
    if (slot == BLOCKS)
        return;
    alignment = UINT64_C(16) << how / 4 % 12;
    enum pheap_status status = how % 4 == 0   ? pheap_zalloc(p->txn, length, &offset)
                               : how % 4 == 1 ? pheap_alloc_aligned(p->txn, alignment, length, &offset)
                                              : pheap_alloc(p->txn, length, &offset);
    if (status != PHEAP_OK) {
        FUZZ_REQUIRE(is_lack(status) && offset == UNTOUCHED);
        return;
    }
    FUZZ_REQUIRE(offset % 16 == 0 && (how % 4 != 1 || offset % alignment == 0));
    run->now.blocks[slot].offset = offset;
    (void)world_own(&run->now, slot, length);
    must_be_apart(run, slot);
    if (how % 4 == 0)
        FUZZ_REQUIRE(memcmp(pheap_ptr(p->txn, offset), run->now.blocks[slot].bytes->data, length) == 0);
    else
        store_all(run, slot, 0, how);
}

static void release(struct run *run)
{
    struct process *p = present(run);
    unsigned slot = take_block(run);
    if (slot == BLOCKS)
        return;
    uint64_t offset = run->now.blocks[slot].offset;
    FUZZ_REQUIRE(pheap_free(p->txn, offset) == PHEAP_OK);
    FUZZ_REQUIRE(pheap_free(p->txn, offset) == PHEAP_DOUBLE_FREE);
    world_forget(&run->now, slot);
}

static void resize(struct run *run)
{
    struct process *p = present(run);
    unsigned slot = take_block(run);
    uint64_t length = take_size(run);
    if (slot == BLOCKS)
        return;
    uint64_t old = run->now.blocks[slot].offset, offset = old, had = run->now.blocks[slot].bytes->length;
    enum pheap_status status = pheap_realloc(p->txn, &offset, length);
    if (status != PHEAP_OK) {
        FUZZ_REQUIRE(is_lack(status) && offset == old);
        return;
    }
    uint8_t *model = world_own(&run->now, slot, length);
    if (run->now.root == old)
        run->now.root = offset;
    run->now.blocks[slot].offset = offset;
    must_be_apart(run, slot);
    FUZZ_REQUIRE(memcmp(pheap_ptr(p->txn, offset), model, had < length ? had : length) == 0);
    store_all(run, slot, had, take(run));
}

static void change(struct run *run)
{
    unsigned slot = take_block(run);
    uint8_t how = take(run);
    if (slot == BLOCKS)
        return;
    uint64_t size = run->now.blocks[slot].bytes->length, from = take(run) * UINT64_C(37) % size;
    uint64_t wide = how % 16 == 15 ? 97 : 1, length = 1 + take(run) * wide % (size - from);
    if (length > run->work)
        return;
    run->work -= length;
    store(run, slot, from, length, take(run), how % 4);
}

/* F2: what the transaction sees. */
static void verify_own(struct run *run)
{
    struct process *p = present(run);
    for (unsigned i = 0; i < BLOCKS; i++) {
        uint64_t length = 0;
        if (run->now.blocks[i].offset == 0)
            continue;
        FUZZ_REQUIRE(pheap_usable_size(p->txn, run->now.blocks[i].offset, &length) == PHEAP_OK);
        FUZZ_REQUIRE(length >= run->now.blocks[i].bytes->length);
        FUZZ_REQUIRE(memcmp(pheap_ptr(p->txn, run->now.blocks[i].offset), run->now.blocks[i].bytes->data,
                            run->now.blocks[i].bytes->length) == 0);
    }
    FUZZ_REQUIRE(pheap_root(p->txn) == run->now.root);
}

static void begin(struct run *run)
{
    struct process *p = present(run), *other = &run->processes[1 - run->present];
    enum pheap_status status = pheap_begin_timeout(p->heap, 0, &p->txn);
    if (status != PHEAP_OK) {
        FUZZ_REQUIRE(p->txn == NULL);
        bool held = false;
        for (unsigned i = 0; i < READERS; i++)
            held = held || run->readers[i].open != NULL;
        FUZZ_REQUIRE(other->txn != NULL ? status == PHEAP_INVALID /* it is the same thread's */
                                        : held && (status == PHEAP_LOG_FULL || status == PHEAP_BUDGET));
        return;
    }
    FUZZ_REQUIRE(other->txn == NULL);
    world_copy(&run->now, &run->versions[run->committed]);
    run->levels = 0;
    p->tracks = false;
    verify_own(run);
}

static void set_version(struct run *run, uint64_t version)
{
    FUZZ_REQUIRE(version == run->committed || version == run->committed + 1);
    world_copy(&run->versions[version], &run->now);
    run->committed = version;
}

static void end(struct run *run, bool commits, bool lazy)
{
    struct process *p = present(run);
    uint64_t version = UNTOUCHED;
    if (!commits || run->committed + 1 == VERSIONS) {
        FUZZ_REQUIRE(pheap_abort(p->txn) == PHEAP_OK);
        p->txn = NULL;
        return;
    }
    world_copy(&run->versions[run->committed + 1], &run->now); /* should it die in there */
    enum pheap_status status = pheap_commit(p->txn, lazy ? PHEAP_LAZY : PHEAP_DURABLE, &version);
    p->txn = NULL;
    if (status != PHEAP_OK) {
        FUZZ_REQUIRE(status == PHEAP_TOO_BIG || status == PHEAP_LOG_FULL);
        return;
    }
    if (!lazy && version > run->committed) /* one that changed nothing promises nothing */
        run->durable = version;
    set_version(run, version);
}

static void savepoint(struct run *run)
{
    uint32_t token = UINT32_MAX;
    if (run->levels == LEVELS)
        return;
    FUZZ_REQUIRE(pheap_savepoint(present(run)->txn, &token) == PHEAP_OK && token == run->levels);
    world_copy(&run->saved[run->levels++], &run->now);
}

static void rollback(struct run *run)
{
    uint32_t to = take(run) % (LEVELS + 1);
    enum pheap_status status = pheap_rollback(present(run)->txn, to);
    FUZZ_REQUIRE(status == (to < run->levels ? PHEAP_OK : PHEAP_INVALID));
    if (status != PHEAP_OK)
        return;
    world_copy(&run->now, &run->saved[to]);
    run->levels = to + 1;
    verify_own(run);
}

static void set_root(struct run *run)
{
    unsigned slot = take_block(run);
    uint64_t root = slot == BLOCKS ? 0 : run->now.blocks[slot].offset;
    FUZZ_REQUIRE(pheap_set_root(present(run)->txn, root) == PHEAP_OK);
    run->now.root = root;
}

static void edit(struct run *run, unsigned code)
{
    switch (code % 16) {
    case 0:
    case 1:
    case 2:
    case 3:
        allocate(run);
        break;
    case 4:
    case 5:
        release(run);
        break;
    case 6:
    case 7:
        resize(run);
        break;
    case 8:
    case 9:
    case 10:
        change(run);
        break;
    case 11:
        savepoint(run);
        break;
    case 12:
        rollback(run);
        break;
    case 13:
        set_root(run);
        break;
    case 14:
        FUZZ_REQUIRE(pheap_track_all(present(run)->txn) == PHEAP_OK);
        present(run)->tracks = true;
        break;
    default:
        verify_own(run);
        break;
    }
}

/* ---------------------------------------------------------------------------------------------------------- readers */

static void read_begin(struct run *run)
{
    struct reader *reader = &run->readers[take(run) % READERS];
    bool alone = true;
    if (reader->open != NULL)
        return;
    for (unsigned i = 0; i < READERS; i++)
        alone = alone && (run->readers[i].open == NULL || run->readers[i].process != run->present);
    FUZZ_REQUIRE(pheap_read_begin(present(run)->heap, 0, &reader->open) == PHEAP_OK);
    reader->process = run->present;
    reader->version = pheap_read_version(reader->open);
    FUZZ_REQUIRE(alone ? reader->version == run->committed : reader->version <= run->committed);
    world_compare(&run->versions[reader->version], reader->open);
}

static void read_again(struct run *run)
{
    const struct reader *reader = &run->readers[take(run) % READERS];
    if (reader->open == NULL)
        return;
    world_compare(&run->versions[reader->version], reader->open);
    FUZZ_REQUIRE(pheap_check(reader->open, NULL, NULL, NULL) == PHEAP_OK); /* F5 */
}

static void read_end(struct reader *reader)
{
    if (reader->open != NULL)
        FUZZ_REQUIRE(pheap_read_end(reader->open) == PHEAP_OK);
    reader->open = NULL;
}

static void end_readers(struct run *run, unsigned process)
{
    for (unsigned i = 0; i < READERS; i++)
        if (run->readers[i].process == process)
            read_end(&run->readers[i]);
}

/* --------------------------------------------------------------------------------------------------------- the heap */

static void open_heap(struct run *run, unsigned process)
{
    static const struct pheap_options options = {
        .size = sizeof options,
        .reserve_bytes = UINT64_C(32) << 20,
        .log_limit_bytes = 8 * 16384,
        .segment_bytes = 16384,
        .buffer_bytes = 16384,
        .pin_wait_ms = 5,
    };
    struct process *p = &run->processes[process];
    if (p->heap != NULL || run->work < OPEN_WORK_BYTES)
        return;
    run->work -= OPEN_WORK_BYTES;
    ph_status status = ph_open_io(fuzz_machine_io(process), FUZZ_PATH, PHEAP_CREATE, &options, &p->heap);
    FUZZ_REQUIRE(status == PH_OK);
}

static void close_heap(struct run *run, unsigned process)
{
    struct process *p = &run->processes[process];
    if (p->txn != NULL)
        (void)pheap_abort(p->txn);
    p->txn = NULL;
    end_readers(run, process);
    if (p->heap == NULL)
        return;
    FUZZ_REQUIRE(pheap_close(p->heap) == PHEAP_OK);
    p->heap = NULL;
    run->durable = run->committed;
}

/* A reader of its own sees the newest version. */
static void verify(struct run *run, unsigned process)
{
    pheap_read *reader = NULL;
    FUZZ_REQUIRE(pheap_read_begin(run->processes[process].heap, 0, &reader) == PHEAP_OK);
    uint64_t version = pheap_read_version(reader);
    FUZZ_REQUIRE(version == run->committed);
    world_compare(&run->versions[version], reader);
    FUZZ_REQUIRE(pheap_check(reader, NULL, NULL, NULL) == PHEAP_OK);
    FUZZ_REQUIRE(pheap_read_end(reader) == PHEAP_OK);
}

/* All processes die, or the machine does; at the snapshot. */
static void crash(struct run *run)
{
    bool warm = take(run) % 2 == 0;
    if (run->work < OPEN_WORK_BYTES)
        return;
    if (!run->snapshot.taken) {
        fuzz_machine_snapshot();
        begin_call(run);
        note_snapshot(run);
    }
    uint64_t least = warm ? run->snapshot.committed : run->snapshot.durable, most = run->snapshot.most;
    for (unsigned i = 0; i < FUZZ_PROCESSES; i++)
        close_heap(run, i);
    fuzz_machine_revert(warm);
    run->snapshot.taken = false;
    run->present = 0;
    open_heap(run, 0);
    pheap_read *reader = NULL;
    FUZZ_REQUIRE(pheap_read_begin(run->processes[0].heap, 0, &reader) == PHEAP_OK);
    uint64_t version = pheap_read_version(reader);
    FUZZ_REQUIRE(pheap_read_end(reader) == PHEAP_OK);
    FUZZ_REQUIRE(version >= least && version <= most); /* F4 */
    run->committed = run->durable = version;
    verify(run, 0);
}

static void maintain(struct run *run, unsigned code)
{
    struct process *p = present(run);
    enum pheap_status status = PHEAP_OK;
    bool busy = false;
    for (unsigned i = 0; i < READERS; i++)
        busy = busy || run->readers[i].open != NULL;
    switch (code % 4) {
    case 0:
        status = pheap_sync(p->heap);
        run->durable = status == PHEAP_OK ? run->committed : run->durable;
        break;
    case 1:
        status = pheap_fold(p->heap);
        break;
    case 2:
        status = pheap_checkpoint(p->heap);
        break;
    default:
        fuzz_machine_pass(2 * FUZZ_SECOND_NS);
        status = pheap_maintain(p->heap);
        break;
    }
    FUZZ_REQUIRE(status == PHEAP_OK || busy);
}

/* Codes: below 128 in a transaction what edit() says, else as 128. */
static void act(struct run *run)
{
    uint8_t code = take(run);
    struct process *p = present(run);
    if (p->heap == NULL)
        open_heap(run, run->present);
    if (p->heap == NULL)
        return;
    if (code < 128 && p->txn != NULL)
        edit(run, code);
    else if (code < 160 && p->txn == NULL)
        begin(run);
    else if (code < 160)
        end(run, code % 8 != 0, code % 2 != 0);
    else if (code < 176)
        read_begin(run);
    else if (code < 184)
        read_again(run);
    else if (code < 196)
        read_end(&run->readers[take(run) % READERS]);
    else if (code < 212)
        maintain(run, code);
    else if (code < 220)
        run->present = 1 - run->present;
    else if (code < 228)
        close_heap(run, run->present);
    else if (code < 240 && !run->snapshot.taken)
        fuzz_machine_snapshot_at(1 + take(run) % 32u);
    else if (code >= 240)
        crash(run);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct run run;
    const struct fuzz_input nothing = {0};
    if (size > FUZZ_INPUT_MAX)
        return -1;
    run = (struct run){.at = data, .end = data + size, .work = WORK_BYTES};
    fuzz_machine_start(&nothing);
    open_heap(&run, 0);
    for (unsigned i = 0; i < OPERATIONS_MAX && run.at < run.end; i++) {
        begin_call(&run);
        act(&run);
        note_snapshot(&run);
    }
    for (unsigned i = 0; i < FUZZ_PROCESSES; i++)
        close_heap(&run, i);
    run.work = OPEN_WORK_BYTES;
    open_heap(&run, 0);
    verify(&run, 0);
    close_heap(&run, 0);
    for (unsigned i = 0; i < VERSIONS; i++)
        world_clear(&run.versions[i]);
    for (unsigned i = 0; i < LEVELS; i++)
        world_clear(&run.saved[i]);
    world_clear(&run.now);
    fuzz_machine_stop();
    return 0;
}
