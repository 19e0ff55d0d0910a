/* SPDX-License-Identifier: MIT */
/* The watched machine. */
#include "fuzz/machine.h"

#include "pheap/core.h"
#include "wal/coord.h"
#include "wal/wal.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define HANDLES 256
#define COPY_MAX_BYTES (UINT64_C(8) << 20) /* what a snapshot keeps of a file */
#define COPY_STEP_BYTES 65536u
#define GARBAGE 0xa5
#define WAIT_US 200 /* for looking whether what was waited for has come */

enum kind { KIND_OTHER, KIND_HEAP };

static struct {
    struct ph_sim *sim, *next;
    ph_io io[FUZZ_PROCESSES];
    enum kind kinds[HANDLES];
    uint64_t written, waits, file_max;
    unsigned snapshot_in; /* calls until one is taken; 0: none is wanted */
    uint64_t boot;        /* number of the boot */
} machine;

static const ph_io *inner(void)
{
    return ph_sim_io(machine.sim);
}

/* --------------------------------------------------------------------------------------------- what is watched */

static int watch_open(void *ctx, const char *path, unsigned flags, uint32_t mode)
{
    int handle = inner()->open(ctx, path, flags, mode);
    if (handle >= 0) {
        FUZZ_REQUIRE(handle < HANDLES);
        machine.kinds[handle] = strcmp(path, FUZZ_PATH) == 0 ? KIND_HEAP : KIND_OTHER;
    }
    return handle;
}

/* The files are about to change. */
static void count_down(void)
{
    if (machine.snapshot_in > 0 && --machine.snapshot_in == 0)
        fuzz_machine_snapshot();
}

static int64_t watch_write(void *ctx, int file, const void *buffer, size_t length, uint64_t offset, unsigned flags)
{
    count_down();
    if (machine.kinds[file] == KIND_HEAP && length > 0) {
        uint64_t size = (uint64_t)ph_sim_size(machine.sim, FUZZ_PATH);
        FUZZ_REQUIRE(offset <= size && length <= size - offset); /* M1 */
        FUZZ_REQUIRE(offset >= 2 * PH_PAGE_BYTES || (offset % PH_PAGE_BYTES == 0 && length <= PH_SECTOR_BYTES));
    }
    if (length > FUZZ_WRITTEN_MAX - machine.written)
        return -ENOSPC;
    int64_t result = inner()->write(ctx, file, buffer, length, offset, flags);
    machine.written += result > 0 ? (uint64_t)result : 0;
    return result;
}

static int watch_truncate(void *ctx, int file, uint64_t size)
{
    count_down();
    return size > machine.file_max ? -EFBIG : inner()->truncate(ctx, file, size);
}

static void *watch_alloc(void *ctx, size_t length, size_t alignment)
{
    FUZZ_REQUIRE(length <= FUZZ_ALLOCATION_MAX); /* M2 */
    return inner()->alloc(ctx, length, alignment);
}

static void *watch_resize(void *ctx, void *memory, size_t length)
{
    FUZZ_REQUIRE(length <= FUZZ_ALLOCATION_MAX); /* M2 */
    return inner()->resize(ctx, memory, length);
}

/* There is nobody who could wake us: time passes. */
static void watch_wait(void *ctx, uint32_t *word, uint32_t expected, uint64_t timeout_ns)
{
    (void)ctx;
    (void)word;
    (void)expected;
    FUZZ_REQUIRE(++machine.waits < FUZZ_WAITS_MAX); /* M3 */
    fuzz_time_allow(WAIT_US);
    fuzz_machine_pass(timeout_ns >> 1);
}

static void make_tables(void)
{
    for (unsigned i = 0; i < FUZZ_PROCESSES; i++) {
        ph_io *io = &machine.io[i];
        *io = *inner();
        io->open = watch_open;
        io->write = watch_write;
        io->truncate = watch_truncate;
        io->alloc = watch_alloc;
        io->resize = watch_resize;
        io->wait = watch_wait;
    }
}

/* ---------------------------------------------------------------------------------------------------------- files */

static void place_image(const struct fuzz_image *image, const char *path, uint64_t size_max)
{
    uint64_t size = (uint64_t)image->sectors * FUZZ_SECTOR_BYTES;
    if (size == 0)
        return;
    size = size < size_max ? size : size_max;
    (void)ph_sim_poke(machine.sim, path, NULL, 0, 0);
    (void)ph_sim_set_size(machine.sim, path, size);
    for (uint32_t i = 0; i < image->count; i++) {
        uint64_t at = (uint64_t)image->list[i].number * FUZZ_SECTOR_BYTES;
        if (at < size)
            (void)ph_sim_poke(machine.sim, path, image->list[i].data, FUZZ_SECTOR_BYTES, at);
    }
}

/* The newer of the two superblocks as they are, good or not, so that the rest of the coordination file fits it. */
static bool find_superblock(const struct fuzz_image *heap, struct ph_superblock *out)
{
    bool found = false;
    for (uint32_t copy = 0; copy < 2; copy++) {
        const uint8_t *sector = fuzz_image_sector(heap, (uint32_t)(PH_SUPERBLOCK_OFFSET(copy) / FUZZ_SECTOR_BYTES));
        struct ph_superblock s;
        if (sector == NULL)
            continue;
        memcpy(&s, sector, sizeof s);
        if (memcmp(s.magic, PH_HEAP_MAGIC, sizeof s.magic) != 0 || (found && s.generation < out->generation))
            continue;
        *out = s;
        found = true;
    }
    return found;
}

/* A coordination file whose users have died: right where it is believed, garbage elsewhere. */
static void place_coord(const struct fuzz_input *input)
{
    struct ph_superblock s;
    if (input->ring.length < 8 || !find_superblock(&input->heap, &s))
        return;
    if (s.buffer_bytes < PH_BUFFER_MIN_BYTES || s.buffer_bytes > 1u << 20 ||
        (s.buffer_bytes & (s.buffer_bytes - 1)) != 0)
        return;
    size_t size = (size_t)ph_coord_bytes(s.buffer_bytes), length = input->ring.length - 8;
    struct ph_coord *coord = aligned_alloc(64, (size + 63) / 64 * 64);
    FUZZ_REQUIRE(coord != NULL);
    memset(coord, GARBAGE, size);
    coord->magic = PH_COORD_MAGIC;
    coord->abi = PH_COORD_ABI + ph_mutex_abi();
    coord->size_bytes = size;
    coord->buffer_bytes = s.buffer_bytes;
    memcpy(coord->identity, s.identity, sizeof coord->identity);
    (void)inner()->boot_id(inner()->ctx, coord->boot_id);
    uint64_t lsn;
    memcpy(&lsn, input->ring.data, sizeof lsn);
    coord->reserved = lsn + length;
    for (size_t i = 0; i < length; i++)
        ph_coord_buffer(coord)[(lsn + i) & (s.buffer_bytes - 1)] = input->ring.data[8 + i];
    (void)ph_sim_poke(machine.sim, FUZZ_COORD_PATH, coord, size, 0);
    free(coord);
}

static struct ph_sim *new_sim(void)
{
    return ph_sim_new(&(struct ph_sim_options){.seed = 1, .no_journal = true, .touched = true});
}

void fuzz_machine_start(const struct fuzz_input *input)
{
    machine.sim = new_sim();
    machine.boot = 1;
    ph_sim_set_boot(machine.sim, machine.boot);
    machine.next = NULL;
    machine.written = machine.waits = 0;
    machine.snapshot_in = 0;
    machine.file_max = FUZZ_FILE_MAX;
    fuzz_time_begin();
    make_tables();
    place_image(&input->heap, FUZZ_PATH, FUZZ_FILE_MAX);
    place_image(&input->log, FUZZ_LOG_PATH, FUZZ_LOG_FILE_MAX);
    place_coord(input);
}

struct ph_sim *fuzz_machine_sim(void)
{
    return machine.sim;
}

const ph_io *fuzz_machine_io(unsigned process)
{
    return &machine.io[process];
}

void fuzz_machine_limit(uint64_t file_bytes)
{
    machine.file_max = file_bytes;
}

void fuzz_machine_pass(uint64_t ns)
{
    ph_sim_set_clock(machine.sim, ph_sim_clock(machine.sim) + ns);
}

void fuzz_machine_inquire(pheap *heap)
{
    struct pheap_info info = {.size = sizeof info};
    struct pheap_user user = {.size = sizeof user};
    uint32_t seat = 0;
    (void)!pheap_get_info(heap, &info);
    while (pheap_next_user(heap, seat, &user) == PHEAP_OK) {
        FUZZ_REQUIRE(user.seat >= seat && user.seat < PH_SEATS);
        seat = user.seat + 1;
    }
}

static void check_nothing_left(void)
{
    for (unsigned i = 0; i < FUZZ_PROCESSES; i++)
        ph_core_forget_mappings(&machine.io[i]);
    FUZZ_REQUIRE(ph_sim_live_allocations(machine.sim) == 0); /* M4 */
    FUZZ_REQUIRE(ph_sim_live_maps(machine.sim) == 0);
    FUZZ_REQUIRE(ph_sim_live_handles(machine.sim) == 0);
}

void fuzz_machine_stop(void)
{
    check_nothing_left();
    ph_sim_free(machine.sim);
    ph_sim_free(machine.next);
    machine.sim = machine.next = NULL;
    fuzz_time_end(); /* M5 */
}

/* ----------------------------------------------------------------------------------------------------- snapshots */

static void copy_file(struct ph_sim *from, struct ph_sim *to, const char *path)
{
    static uint8_t bytes[COPY_STEP_BYTES], zeros[PH_PAGE_BYTES];
    int64_t size = ph_sim_size(from, path);
    if (size < 0)
        return;
    (void)ph_sim_poke(to, path, NULL, 0, 0);
    (void)ph_sim_set_size(to, path, (uint64_t)size);
    uint64_t end = (uint64_t)size < COPY_MAX_BYTES ? (uint64_t)size : COPY_MAX_BYTES;
    for (uint64_t at = 0; at < end; at += sizeof bytes) {
        int64_t got = ph_sim_peek(from, path, bytes, sizeof bytes, at);
        for (uint64_t page = 0; got > 0 && page < (uint64_t)got; page += sizeof zeros) {
            size_t length = (uint64_t)got - page < sizeof zeros ? (size_t)((uint64_t)got - page) : sizeof zeros;
            if (memcmp(bytes + page, zeros, length) != 0)
                (void)ph_sim_poke(to, path, bytes + page, length, at + page);
        }
    }
}

void fuzz_machine_snapshot(void)
{
    static const char *const paths[] = {FUZZ_PATH, FUZZ_LOG_PATH, FUZZ_COORD_PATH};
    ph_sim_free(machine.next);
    machine.next = new_sim();
    machine.snapshot_in = 0;
    for (size_t i = 0; i < sizeof paths / sizeof paths[0]; i++)
        copy_file(machine.sim, machine.next, paths[i]);
}

void fuzz_machine_snapshot_at(unsigned nth)
{
    machine.snapshot_in = nth;
}

bool fuzz_machine_has_snapshot(void)
{
    return machine.next != NULL;
}

void fuzz_machine_revert(bool warm)
{
    if (machine.next == NULL)
        return;
    check_nothing_left();
    ph_sim_free(machine.sim);
    machine.sim = machine.next;
    machine.next = NULL;
    machine.snapshot_in = 0;
    if (!warm) {
        (void)ph_sim_remove(machine.sim, FUZZ_COORD_PATH);
        machine.boot++;
    }
    ph_sim_set_boot(machine.sim, machine.boot);
    make_tables();
}
