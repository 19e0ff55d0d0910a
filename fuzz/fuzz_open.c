/* SPDX-License-Identifier: MIT */
/*
 * Opens a heap file and log of any content, and runs a script of operations on it, in one process or two.
 *
 * Whatever the files hold and the script does: every call returns a status; what it returns can be used as the public
 * header says; nothing is stored or read outside the heap (a page past the end of the heap file is a SIGBUS); outputs
 * are untouched on failure; what the script leaves, damaged or not, is salvaged to a heap that opens and is sound, or
 * refused; and fuzz/machine.h, M1 to M5.
 */
#include "fuzz/machine.h"
#include "fuzz/reseal.h"
#include "pheap/core.h"

#include <string.h>

#define SAVED_PATH "dir/saved"
#define SLOTS 64u
#define BLOCKS_MAX 2000u    /* one enumeration */
#define OPERATIONS_MAX 400u /* one script */
#define WORK_BYTES (UINT64_C(12) << 20)
#define OPEN_WORK_BYTES (UINT64_C(1) << 20)
#define RESERVE_BYTES (UINT64_C(32) << 20)
#define VERIFIED_MAX_BYTES (UINT64_C(64) << 20)
#define SALVAGED_MAX_BYTES (UINT64_C(1) << 20)
#define CHECKED_MAX_BYTES (UINT64_C(256) << 20)
#define BUDGET_BYTES (UINT64_C(4) << 20)
#define UNTOUCHED UINT64_C(0x5ca1ab1e0ddba115)

struct process {
    pheap *heap;
    pheap_txn *txn;
    pheap_read *reader;
    unsigned savepoints;
};

struct run {
    const uint8_t *at, *end;
    struct process processes[FUZZ_PROCESSES];
    unsigned present;
    uint64_t slots[SLOTS]; /* offsets of blocks there are, or were */
    unsigned next_slot;
    uint64_t work; /* bytes that the script may still have moved */
};

/* ----------------------------------------------------------------------------------------------------- the script */

static uint8_t take(struct run *run)
{
    return run->at < run->end ? *run->at++ : 0;
}

static uint64_t take_bytes(struct run *run, unsigned count)
{
    uint64_t value = 0;
    for (unsigned i = 0; i < count; i++)
        value |= (uint64_t)take(run) << (8 * i);
    return value;
}

static bool afford(struct run *run, uint64_t work)
{
    if (work > run->work)
        return false;
    run->work -= work;
    return true;
}

static uint64_t take_any_size(struct run *run)
{
    static const uint64_t odd[] = {0,
                                   1,
                                   16,
                                   4096,
                                   32768,
                                   32769,
                                   4095,
                                   524288,
                                   524289,
                                   262144,
                                   131072,
                                   UINT64_C(1) << 32,
                                   UINT64_C(1) << 46,
                                   UINT64_MAX};
    uint8_t kind = take(run);
    switch (kind % 8) {
    case 0:
    case 1:
    case 2:
        return 1 + take_bytes(run, 1);
    case 3:
        return take_bytes(run, 2);
    case 4:
        return 4096 * (1 + take_bytes(run, 1));
    case 5:
        return take_bytes(run, 3) & 0x1fffff;
    case 6:
        return odd[kind / 8 % (sizeof odd / sizeof odd[0])];
    default:
        return 16u << kind / 8 % 12;
    }
}

/* What is possible costs work; what is not is refused by the library. */
static uint64_t take_size(struct run *run)
{
    uint64_t size = take_any_size(run);
    return size >= UINT64_C(1) << 32 || size < 512 || afford(run, size) ? size : size % 512;
}

static uint64_t take_offset(struct run *run)
{
    uint8_t kind = take(run);
    if (kind < 176)
        return run->slots[kind % SLOTS];
    if (kind < 208)
        return take_bytes(run, 2) * 16;
    if (kind < 240)
        return take_bytes(run, 2) * 4096;
    return take_bytes(run, 8);
}

static void keep(struct run *run, uint64_t offset)
{
    run->slots[run->next_slot++ % SLOTS] = offset;
}

/* ---------------------------------------------------------------------------------------------- write transactions */

static void store(uint8_t *at)
{
    *at = (uint8_t)(*at + 1);
}

/* Store into the first and the last byte of a block that is fresh. */
static void use_block(struct process *p, uint64_t offset)
{
    uint64_t length = UNTOUCHED;
    FUZZ_REQUIRE(offset >= 4 * 4096 && offset % 16 == 0);
    if (pheap_usable_size(p->txn, offset, &length) != PHEAP_OK) {
        FUZZ_REQUIRE(length == UNTOUCHED);
        return;
    }
    store(pheap_ptr(p->txn, offset));
    store(pheap_ptr(p->txn, offset + length - 1));
}

static void allocate(struct run *run, struct process *p, unsigned how)
{
    uint64_t offset = UNTOUCHED, length = take_size(run);
    uint64_t alignment = how == 2 ? UINT64_C(1) << take(run) % 34 : 16;
    enum pheap_status status = how == 0   ? pheap_alloc(p->txn, length, &offset)
                               : how == 1 ? pheap_zalloc(p->txn, length, &offset)
                                          : pheap_alloc_aligned(p->txn, alignment, length, &offset);
    if (status == PHEAP_OK) {
        FUZZ_REQUIRE(offset % alignment == 0);
        use_block(p, offset);
        keep(run, offset);
    } else {
        FUZZ_REQUIRE(offset == UNTOUCHED);
    }
}

static void reallocate(struct run *run, struct process *p)
{
    uint64_t old = take_offset(run), offset = old;
    if (pheap_realloc(p->txn, &offset, take_size(run)) == PHEAP_OK) {
        FUZZ_REQUIRE(offset >= 4 * 4096 && offset % 16 == 0);
        keep(run, offset);
    } else {
        FUZZ_REQUIRE(offset == old);
    }
}

static void edit(struct run *run, struct process *p)
{
    uint64_t offset = take_offset(run) + take(run) % 16, length = take_size(run);
    void *address = NULL;
    if (pheap_edit(p->txn, offset, length, &address) == PHEAP_OK && length > 0) {
        uint8_t *bytes = address;
        store(bytes);
        store(bytes + length - 1);
        store(bytes + take_bytes(run, 4) % length);
    }
}

static void write_bytes(struct run *run, struct process *p)
{
    uint8_t bytes[256];
    uint64_t offset = take_offset(run), length = take(run);
    for (unsigned i = 0; i < sizeof bytes; i++)
        bytes[i] = take(run);
    (void)!pheap_write(p->txn, offset, bytes, length);
}

static void change(struct run *run, struct process *p, unsigned code)
{
    uint32_t savepoint = 0;
    uint64_t value;
    switch (code) {
    case 0:
    case 1:
    case 2:
        allocate(run, p, code);
        break;
    case 3:
    case 4:
        (void)!pheap_free(p->txn, take_offset(run));
        break;
    case 5:
        reallocate(run, p);
        break;
    case 6:
        edit(run, p);
        break;
    case 7:
        write_bytes(run, p);
        break;
    case 8:
        value = take_offset(run);
        (void)!pheap_fill(p->txn, value, take(run), take_size(run));
        break;
    case 9:
        if (pheap_savepoint(p->txn, &savepoint) == PHEAP_OK)
            p->savepoints = savepoint + 1;
        break;
    case 10:
        (void)!pheap_rollback(p->txn, take(run) % (p->savepoints + 2));
        break;
    case 11:
        value = take_offset(run);
        (void)!pheap_set_root(p->txn, value);
        keep(run, pheap_root(p->txn));
        break;
    default:
        (void)!pheap_usable_size(p->txn, take_offset(run), &value);
        break;
    }
}

static void begin(struct run *run, struct process *p)
{
    if (p->txn == NULL && pheap_begin_timeout(p->heap, 0, &p->txn) != PHEAP_OK)
        FUZZ_REQUIRE(p->txn == NULL);
    p->savepoints = 0;
    keep(run, p->txn != NULL ? pheap_root(p->txn) : 0);
}

static void end(struct process *p, unsigned code)
{
    uint64_t version;
    if (p->txn == NULL)
        return;
    if (code == 0)
        (void)pheap_abort(p->txn);
    else
        (void)!pheap_commit(p->txn, code == 1 ? PHEAP_DURABLE : PHEAP_LAZY, &version);
    p->txn = NULL;
}

/* --------------------------------------------------------------------------------------------------------- readers */

static void count_fault(void *context, uint64_t offset, const char *text)
{
    (void)offset;
    FUZZ_REQUIRE(text != NULL && ++*(unsigned *)context <= 1000);
}

static void read_block(const pheap_read *reader, uint64_t offset, uint64_t length)
{
    const void *address = NULL;
    if (pheap_read_range(reader, offset, length, &address) != PHEAP_OK || length == 0)
        return;
    const volatile uint8_t *bytes = address;
    (void)bytes[0];
    (void)bytes[length - 1];
}

static void enumerate(struct run *run, const pheap_read *reader, uint64_t from)
{
    uint64_t offset, length;
    for (unsigned i = 0; i < BLOCKS_MAX && pheap_read_next_block(reader, from, &offset, &length) == PHEAP_OK; i++) {
        FUZZ_REQUIRE(offset >= from && length > 0 && length <= pheap_read_size(reader));
        FUZZ_REQUIRE(offset <= pheap_read_size(reader) - length);
        read_block(reader, offset, length);
        if (i < SLOTS / 4)
            keep(run, offset);
        from = offset + length;
    }
}

static void look(struct run *run, struct process *p, unsigned code)
{
    struct pheap_space space = {.size = sizeof space};
    unsigned faults = 0;
    uint64_t value;
    switch (code) {
    case 0:
        if (p->reader == NULL)
            (void)!pheap_read_begin(p->heap, take(run) & 1, &p->reader);
        return;
    case 1:
        pheap_read_end(p->reader);
        p->reader = NULL;
        return;
    default:
        break;
    }
    if (p->reader == NULL)
        return;
    switch (code) {
    case 2:
        enumerate(run, p->reader, take(run) < 200 ? 0 : take_offset(run));
        break;
    case 3: /* looks at that many bytes, at most, of pages that were never allocated */
        value = pheap_read_size(p->reader) < CHECKED_MAX_BYTES ? pheap_read_size(p->reader) : CHECKED_MAX_BYTES;
        if (afford(run, value / 64))
            (void)!pheap_check(p->reader, count_fault, NULL, &faults);
        break;
    case 4:
        (void)!pheap_get_space(p->reader, &space, NULL, NULL);
        break;
    case 5:
        value = take_offset(run);
        read_block(p->reader, value, 1 + take_size(run));
        break;
    default:
        (void)!pheap_read_usable_size(p->reader, take_offset(run), &value);
        keep(run, pheap_read_root(p->reader));
        break;
    }
}

/* ------------------------------------------------------------------------------------------------------- the heap */

static void open_heap(struct run *run, struct process *p, unsigned process)
{
    static const unsigned flags[] = {0, 0, 0, 0, 0, PHEAP_VERIFY, PHEAP_READONLY, PHEAP_PROTECT, PHEAP_CREATE};
    struct pheap_options options = {
        .size = sizeof options,
        .reserve_bytes = RESERVE_BYTES,
        .budget_bytes = BUDGET_BYTES,
        .log_limit_bytes = 8 * 16384,
        .segment_bytes = 16384,
        .buffer_bytes = 16384,
    };
    unsigned how = flags[take(run) % (sizeof flags / sizeof flags[0])];
    if (p->heap != NULL || !afford(run, OPEN_WORK_BYTES))
        return;
    if (how == PHEAP_VERIFY) /* which looks at every page of the heap */
        fuzz_machine_limit(VERIFIED_MAX_BYTES);
    if (how == PHEAP_VERIFY && ph_sim_size(fuzz_machine_sim(), FUZZ_PATH) > (int64_t)VERIFIED_MAX_BYTES)
        how = 0;
    (void)!ph_open_io(fuzz_machine_io(process), FUZZ_PATH, how, &options, &p->heap);
}

static void close_heap(struct process *p)
{
    end(p, 0);
    pheap_read_end(p->reader);
    p->reader = NULL;
    FUZZ_REQUIRE(pheap_close(p->heap) != PHEAP_BUSY);
    p->heap = NULL;
}

static void close_all(struct run *run)
{
    for (unsigned i = 0; i < FUZZ_PROCESSES; i++)
        close_heap(&run->processes[i]);
}

static void maintain(struct run *run, struct process *p, unsigned code)
{
    switch (code) {
    case 0:
        (void)!pheap_sync(p->heap);
        break;
    case 1:
        (void)!pheap_fold(p->heap);
        break;
    case 2:
    case 3:
        (void)!pheap_checkpoint(p->heap);
        break;
    case 4:
        fuzz_machine_pass(2 * FUZZ_SECOND_NS);
        (void)!pheap_maintain(p->heap);
        break;
    case 5:
        fuzz_machine_inquire(p->heap);
        break;
    case 6:
        close_heap(p);
        break;
    default:
        close_heap(p);
        open_heap(run, p, run->present);
        break;
    }
}

/* ---------------------------------------------------------------------------------------------------- the machine */

/* Somebody else writes into the files, or they rot. */
static void damage(struct run *run)
{
    const char *path = take(run) % 4 == 0 ? FUZZ_LOG_PATH : FUZZ_PATH;
    int64_t size = ph_sim_size(fuzz_machine_sim(), path);
    uint64_t offset = take_bytes(run, 3) * 8, value = take(run) < 128 ? take(run) : take_bytes(run, 8);
    if (size >= 8)
        (void)ph_sim_poke(fuzz_machine_sim(), path, &value, sizeof value, offset % (uint64_t)(size - 7) / 8 * 8);
}

static void fail(struct run *run)
{
    static const int errors[] = {5 /* EIO */, 28 /* ENOSPC */, 12 /* ENOMEM */, 4 /* EINTR */, 13 /* EACCES */};
    unsigned kind = 1u << take(run) % (PH_SIM_OP_KINDS - 1);
    uint64_t nth = 1 + take(run) % 16;
    uint8_t how = take(run);
    if (kind == PH_SIM_MEMORY)
        nth = 1 + nth * take(run) % 64;
    ph_sim_fail_at(fuzz_machine_sim(), kind, nth, errors[how % 5], how % 7 == 0 ? PH_SIM_SHORT : PH_SIM_ONCE);
}

static void disturb(struct run *run, unsigned code)
{
    uint8_t how;
    switch (code) {
    case 0:
    case 1:
        damage(run);
        break;
    case 2:
        fail(run);
        break;
    case 3:
        fuzz_machine_snapshot();
        break;
    case 4: /* the last snapshot is what a crash has left */
        how = take(run);
        ph_sim_fail_clear(fuzz_machine_sim());
        close_all(run);
        fuzz_machine_revert(how % 2 == 0);
        open_heap(run, &run->processes[0], 0);
        run->present = 0;
        break;
    default:
        run->present = (run->present + 1) % FUZZ_PROCESSES;
        open_heap(run, &run->processes[run->present], run->present);
        break;
    }
}

static void act(struct run *run)
{
    struct process *p = &run->processes[run->present];
    uint8_t code = take(run);
    if (code >= FUZZ_DISTURB)
        disturb(run, (unsigned)((code - FUZZ_DISTURB) % 6));
    else if (p->heap == NULL)
        open_heap(run, p, run->present);
    else if (code < FUZZ_BEGIN && p->txn != NULL)
        change(run, p, code % 13);
    else if (code < FUZZ_END)
        begin(run, p);
    else if (code < FUZZ_LOOK)
        end(p, (unsigned)((code - FUZZ_END) % 3));
    else if (code < FUZZ_MAINTAIN)
        look(run, p, (unsigned)((code - FUZZ_LOOK) % 7));
    else
        maintain(run, p, (unsigned)((code - FUZZ_MAINTAIN) % 8));
}

/* Salvage what is there, unless it is so large that this takes long; `rarely`, if it is not small. */
static void salvage(bool rarely)
{
    const struct pheap_options options = {.size = sizeof options, .reserve_bytes = RESERVE_BYTES};
    pheap *heap = NULL;
    pheap_read *reader = NULL;
    int64_t size = ph_sim_size(fuzz_machine_sim(), FUZZ_PATH);
    if (size < 0 || size > (int64_t)(rarely ? SALVAGED_MAX_BYTES : VERIFIED_MAX_BYTES))
        return;
    fuzz_machine_limit(VERIFIED_MAX_BYTES);
    if (ph_salvage_io(fuzz_machine_io(0), FUZZ_PATH, SAVED_PATH, NULL, NULL) != PH_OK ||
        ph_open_io(fuzz_machine_io(0), SAVED_PATH, 0, &options, &heap) != PH_OK) /* the disk may be full */
        return;
    FUZZ_REQUIRE(pheap_read_begin(heap, 0, &reader) == PHEAP_OK);
    FUZZ_REQUIRE(pheap_check(reader, NULL, NULL, NULL) == PHEAP_OK);
    pheap_read_end(reader);
    FUZZ_REQUIRE(pheap_close(heap) == PHEAP_OK);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct fuzz_input input;
    if (size > FUZZ_INPUT_MAX)
        return -1;
    fuzz_input_parse(&input, data, size);
    fuzz_machine_start(&input);
    struct run run = {.at = input.script.data, .end = input.script.data + input.script.length, .work = WORK_BYTES};
    open_heap(&run, &run.processes[0], 0);
    for (unsigned i = 0; i < OPERATIONS_MAX && run.at < run.end; i++)
        act(&run);
    ph_sim_fail_clear(fuzz_machine_sim());
    close_all(&run);
    salvage(input.script.length % 16 != 0);
    fuzz_machine_stop();
    fuzz_input_deinit(&input);
    return 0;
}
