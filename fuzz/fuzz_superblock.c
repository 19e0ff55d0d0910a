/* SPDX-License-Identifier: MIT */
/*
 * Reads two copies of a superblock and the header of a log, of any content, and opens the heap that they say there is.
 * Beside it stands a second reader, written from docs/format.md alone (chapters 2, 3 and 7).
 *
 *   F1  which copies are good, which one is chosen, and what is said if none is, are as the second reader has them
 *   F2  so are the condition of the log and what is to be done: nothing, replay from where, or refuse with which status
 *   F3  recovery does that; where it refuses or has nothing to do, it writes nothing to the heap file
 *   F4  what it leaves is CLEAN, of the same heap, of a higher generation, and needs no recovery
 *   F5  fuzz/machine.h, M1 to M5
 *
 * Input: three bytes, `struct how`; then up to three sectors: copy 0, copy 1, the log's header.
 */
#include "fuzz/machine.h"
#include "fuzz/reseal.h"
#include "io/checksum.h"
#include "recovery/store.h"
#include "tests/support/dice.h"

#include <string.h>

#define HEAD_BYTES 3u
#define SECTORS 3u
#define INPUT_BYTES (HEAD_BYTES + SECTORS * FUZZ_SECTOR_BYTES)
#define HEAP_PAGES_MAX 64u /* of the file, if the superblocks do not ask for it to be large */

struct how {
    uint8_t seal; /* bits 0 to 2: the checksum of that sector is made right; bit 3: there is no log */
    uint8_t log;  /* how long the log is */
    uint8_t heap; /* how long the heap file is */
};

/* ------------------------------------------------------------------------------------------------ the second reader */

enum verdict { GOOD, BAD, STRANGE, TOO_NEW, SWAPPED };

static bool power_of_two(uint64_t value)
{
    return value >= 16384 && value <= 67108864 && (value & (value - 1)) == 0;
}

static enum verdict judge_copy(const struct ph_superblock *s, uint32_t place)
{
    const uint64_t limit = (UINT64_C(1) << 63) - 1;
    if (memcmp(s->magic, "\x89pheap\r\n", 8) != 0)
        return STRANGE;
    if (s->byte_order == 0x04030201)
        return SWAPPED;
    if (s->byte_order != 0x01020304 || s->checksum != ph_checksum(s, 504))
        return BAD;
    if (s->format_version > 1 || (s->incompat_flags & ~1u) != 0) /* SUMS */
        return TOO_NEW;
    bool parameters = power_of_two(s->segment_bytes) && power_of_two(s->buffer_bytes) &&
                      s->log_limit_bytes >= UINT64_C(3) * s->segment_bytes &&
                      s->log_limit_bytes < UINT64_C(4097) * s->segment_bytes;
    bool checkpoint = s->checkpoint_lsn % 8 == 0 && s->checkpoint_lsn >= 4096 && s->checkpoint_lsn < limit &&
                      s->checkpoint_offset <= s->segment_bytes && s->checkpoint_segment < limit &&
                      s->checkpoint_version < limit;
    bool numbers = s->generation >= 1 && s->generation < limit && s->epoch < limit && s->durable_lsn < limit;
    bool heap = s->heap_bytes % 4096 == 0 && s->heap_bytes >= 12288 && s->heap_bytes <= UINT64_C(1) << 47;
    bool kind = s->format_version == 1 && s->page_bytes == 4096 && (s->state == 1 || s->state == 2) &&
                s->copy == place && s->generation % 2 == place;
    return parameters && checkpoint && numbers && heap && kind ? GOOD : BAD;
}

/* What reading the superblocks must say; *chosen: which copy, if OK. */
static ph_status choose(const struct ph_superblock copies[2], const enum verdict verdicts[2], bool file_empty,
                        uint32_t *chosen)
{
    bool good[2] = {verdicts[0] == GOOD, verdicts[1] == GOOD};
    for (unsigned i = 0; i < 2; i++) {
        if (verdicts[i] == TOO_NEW)
            return verdicts[0] == SWAPPED ? PH_BYTE_ORDER : PH_NEWER;
    }
    *chosen = good[0] && (!good[1] || copies[0].generation > copies[1].generation) ? 0 : 1;
    if (good[0] && good[1])
        return memcmp(copies[0].identity, copies[1].identity, 16) == 0 ? PH_OK : PH_CORRUPT;
    if (good[0] || good[1])
        return PH_OK;
    if (verdicts[0] == SWAPPED || verdicts[1] == SWAPPED)
        return PH_BYTE_ORDER;
    return file_empty || (verdicts[0] == STRANGE && verdicts[1] == STRANGE) ? PH_NOT_HEAP : PH_CORRUPT;
}

enum action { REFUSE, NOTHING, FROM_START, FROM_CHECKPOINT };

/* The table of chapter 7; *status is set if it says to refuse. */
static enum action decide(const struct ph_superblock *s, bool other_good, const struct ph_log_header *h, bool there,
                          ph_status *status)
{
    static const uint8_t zeros[512];
    bool open = s->state == 2;
    *status = PH_LOG_FOREIGN;
    if (!there || memcmp(h, zeros, sizeof zeros) == 0) {
        *status = open ? PH_LOG_MISSING : PH_CORRUPT;
        return open || !other_good ? REFUSE : NOTHING;
    }
    bool log = memcmp(h->magic, "\x89phlog\r\n", 8) == 0;
    if (log && h->byte_order == 0x04030201) {
        *status = PH_BYTE_ORDER;
        return REFUSE;
    }
    if (!log || h->checksum != ph_checksum(h, 504))
        return REFUSE;
    if (h->format_version != 1) {
        *status = PH_NEWER;
        return REFUSE;
    }
    if (memcmp(h->identity, s->identity, 16) != 0 || h->segment_bytes != s->segment_bytes ||
        (h->block_bytes != 512 && h->block_bytes != 4096) || h->start_segment >= (UINT64_C(1) << 63) - 1)
        return REFUSE;
    bool next = h->epoch == s->epoch + 1 && h->start_lsn == s->checkpoint_lsn &&
                h->start_chain == s->checkpoint_chain && h->start_version == s->checkpoint_version;
    if (open)
        return h->epoch == s->epoch ? FROM_CHECKPOINT : REFUSE;
    return h->epoch <= s->epoch ? NOTHING : next ? FROM_START : REFUSE;
}

/* -------------------------------------------------------------------------------------------------------- the files */

static uint32_t heap_sectors(const struct ph_superblock copies[2], uint8_t how)
{
    static const uint32_t odd[] = {0, 1, 8, 9, 16, 24, 23, 8 * HEAP_PAGES_MAX};
    uint64_t wanted = copies[0].heap_bytes > copies[1].heap_bytes ? copies[0].heap_bytes : copies[1].heap_bytes;
    if (how % 16 < sizeof odd / sizeof odd[0])
        return odd[how % 16];
    return wanted / FUZZ_SECTOR_BYTES < UINT32_MAX ? (uint32_t)(wanted / FUZZ_SECTOR_BYTES) : UINT32_MAX;
}

static uint32_t log_sectors(const struct ph_log_header *header, uint8_t how)
{
    static const uint32_t odd[] = {0, 1, 8, 9};
    uint32_t segment = header->segment_bytes <= 65536 ? header->segment_bytes / FUZZ_SECTOR_BYTES : 32;
    return how % 16 < sizeof odd / sizeof odd[0] ? odd[how % 16] : 8 + how % 16 / 4 * segment + how % 4;
}

static void take(const uint8_t *data, size_t size, unsigned which, void *sector)
{
    size_t at = HEAD_BYTES + which * FUZZ_SECTOR_BYTES;
    memset(sector, 0, FUZZ_SECTOR_BYTES);
    if (at < size)
        memcpy(sector, data + at, size - at < FUZZ_SECTOR_BYTES ? size - at : FUZZ_SECTOR_BYTES);
    if ((data[0] >> which & 1) != 0) {
        uint64_t checksum = ph_checksum(sector, FUZZ_SECTOR_BYTES - 8);
        memcpy((uint8_t *)sector + FUZZ_SECTOR_BYTES - 8, &checksum, sizeof checksum);
    }
}

/* What a file of that length shows of a sector: nothing of it, or all. */
static void show(struct fuzz_image *image, uint32_t sector, void *bytes)
{
    if (sector < image->sectors)
        memcpy(fuzz_image_touch(image, sector), bytes, FUZZ_SECTOR_BYTES);
    else
        memset(bytes, 0, FUZZ_SECTOR_BYTES);
}

/* ---------------------------------------------------------------------------------------------------------- opening */

struct heap {
    struct ph_superblock copies[2];
    struct ph_log_header header;
    struct ph_file_stat stat;
    bool log_there;
};

static void close_store(struct ph_store *store)
{
    ph_file_close(&store->heap);
    ph_file_close(&store->sums);
    ph_wal_deinit(&store->wal);
}

static bool unchanged(const struct heap *heap)
{
    struct ph_superblock now[2] = {0};
    for (unsigned i = 0; i < 2; i++)
        (void)ph_sim_peek(fuzz_machine_sim(), FUZZ_PATH, &now[i], sizeof now[i], PH_SUPERBLOCK_OFFSET(i));
    return memcmp(now, heap->copies, sizeof now) == 0 &&
           ph_sim_size(fuzz_machine_sim(), FUZZ_PATH) == (int64_t)heap->stat.size_bytes;
}

/* Recover a heap whose superblock is `store->superblock`. */
static void recover(struct ph_store *store, const struct heap *heap, enum action action, ph_status expected)
{
    const struct ph_superblock before = store->superblock;
    bool whole = heap->stat.size_bytes >= before.heap_bytes;
    ph_status status = ph_store_recover(store, NULL, false);
    if (!whole)
        FUZZ_REQUIRE(status != PH_OK);
    else if (action == NOTHING)
        FUZZ_REQUIRE(status == PH_OK && !store->recovered);
    else if (action == REFUSE)
        FUZZ_REQUIRE(status == expected);
    else
        FUZZ_REQUIRE(status == PH_OK ? store->recovered : status == PH_CORRUPT || status == PH_LOG_FOREIGN);
    if (action == REFUSE || action == NOTHING || !whole)
        FUZZ_REQUIRE(unchanged(heap)); /* F3 */
    if (status != PH_OK)
        return;
    struct ph_superblock now;
    bool other_damaged;
    FUZZ_REQUIRE(ph_superblock_read(&store->heap, &now, &other_damaged) == PH_OK); /* F4 */
    FUZZ_REQUIRE(now.state == PH_STATE_CLEAN && memcmp(now.identity, before.identity, sizeof now.identity) == 0);
    FUZZ_REQUIRE(store->recovered ? now.generation > before.generation && now.epoch >= before.epoch
                                  : now.generation == before.generation);
}

static void run(struct heap *heap)
{
    enum verdict verdicts[2];
    struct ph_store store = {.io = fuzz_machine_io(0)};
    bool other_damaged = false, recovered;
    uint32_t chosen = 0;
    ph_status expected;
    FUZZ_REQUIRE(ph_file_open(&store.heap, store.io, FUZZ_PATH, PH_OPEN_WRITE, 0) == PH_OK);
    FUZZ_REQUIRE(ph_file_stat(&store.heap, &heap->stat) == PH_OK);
    for (uint32_t i = 0; i < 2; i++)
        verdicts[i] = judge_copy(&heap->copies[i], i);
    ph_status status = ph_superblock_read(&store.heap, &store.superblock, &other_damaged);
    expected = choose(heap->copies, verdicts, heap->stat.size_bytes == 0, &chosen);
    /* A copy without a checksum that both agree on may still say which version it is of. */
    FUZZ_REQUIRE(status == expected || (expected != PH_OK && status == PH_NEWER &&
                                        heap->copies[0].format_version == heap->copies[1].format_version &&
                                        heap->copies[0].format_version > 1)); /* F1 */
    if (status == PH_OK) {
        FUZZ_REQUIRE(memcmp(&store.superblock, &heap->copies[chosen], sizeof store.superblock) == 0);
        FUZZ_REQUIRE(other_damaged == (verdicts[1 - chosen] != GOOD));
        enum action action = decide(&store.superblock, !other_damaged, &heap->header, heap->log_there, &expected);
        FUZZ_REQUIRE(ph_wal_init(&store.wal, store.io, FUZZ_PATH, &store.superblock) == PH_OK);
        recover(&store, heap, action, expected); /* F2 */
        recovered = store.recovered;
        close_store(&store);
        if (!recovered)
            return;
        store = (struct ph_store){.io = fuzz_machine_io(0)};
        FUZZ_REQUIRE(ph_file_open(&store.heap, store.io, FUZZ_PATH, PH_OPEN_WRITE, 0) == PH_OK);
        FUZZ_REQUIRE(ph_superblock_read(&store.heap, &store.superblock, &other_damaged) == PH_OK);
        FUZZ_REQUIRE(ph_wal_init(&store.wal, store.io, FUZZ_PATH, &store.superblock) == PH_OK);
        FUZZ_REQUIRE(ph_store_recover(&store, NULL, false) == PH_OK && !store.recovered); /* F4 */
    }
    close_store(&store);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct fuzz_input input = {0};
    struct heap heap;
    if (size < HEAD_BYTES || size > INPUT_BYTES)
        return -1;
    for (unsigned i = 0; i < 2; i++)
        take(data, size, i, &heap.copies[i]);
    take(data, size, 2, &heap.header);
    input.heap.sectors = heap_sectors(heap.copies, data[2]);
    input.log.sectors = (data[0] & 8) != 0 ? 0 : log_sectors(&heap.header, data[1]);
    for (uint32_t i = 0; i < 2; i++)
        show(&input.heap, i * (PH_PAGE_BYTES / FUZZ_SECTOR_BYTES), &heap.copies[i]);
    heap.log_there = input.log.sectors > 0;
    show(&input.log, 0, &heap.header);
    fuzz_machine_start(&input);
    (void)ph_sim_poke(fuzz_machine_sim(), FUZZ_PATH, NULL, 0, 0);
    run(&heap);
    fuzz_machine_stop();
    fuzz_input_deinit(&input);
    return 0;
}

/* --------------------------------------------------------------------------------------------------------- mutation */

static void *sector(uint8_t *data, unsigned which)
{
    return data + HEAD_BYTES + which * FUZZ_SECTOR_BYTES;
}

static void change_field(uint64_t *dice, uint8_t *data)
{
    static const uint8_t superblock[] = {8,  12, 16, 20, 24,  28,  32,  48,  56,  64,
                                         72, 80, 88, 96, 104, 112, 120, 128, 132, 136};
    static const uint8_t header[] = {8, 12, 16, 32, 40, 48, 56, 64, 72, 76};
    const struct fuzz_image image = {.sectors = 128};
    unsigned which = (unsigned)(dice_roll(dice) % SECTORS);
    uint64_t roll = dice_roll(dice);
    uint8_t *at = (uint8_t *)sector(data, which) +
                  (which < 2 ? superblock[roll % sizeof superblock] : header[roll % sizeof header]);
    bool narrow = (at - (uint8_t *)sector(data, which)) % 8 == 4 || dice_roll(dice) % 4 == 0;
    uint64_t value = 0;
    memcpy(&value, at, narrow ? 4 : 8);
    value = fuzz_evil(dice, &image, value);
    memcpy(at, &value, narrow ? 4 : 8);
}

/* Make the sectors agree in some way. */
static void relate(uint64_t *dice, uint8_t *data)
{
    struct ph_superblock s;
    struct ph_log_header h;
    uint32_t from = (uint32_t)(dice_roll(dice) % 2);
    memcpy(&s, sector(data, from), sizeof s);
    memcpy(&h, sector(data, 2), sizeof h);
    switch (dice_roll(dice) % 8) {
    case 0:
    case 1: /* the other copy: the one before, or after */
        s.generation += dice_roll(dice) % 2 == 0 ? 1 : UINT64_MAX;
        s.copy = 1 - from;
        memcpy(sector(data, 1 - from), &s, sizeof s);
        break;
    case 2: /* this copy belongs where it is */
        s.copy = from;
        s.generation = (s.generation & ~UINT64_C(1)) | from;
        memcpy(sector(data, from), &s, sizeof s);
        break;
    case 3:
        s.state = 1 + dice_roll(dice) % 2;
        memcpy(sector(data, from), &s, sizeof s);
        break;
    default: /* the log is of that heap, in an epoch near its */
        memcpy(h.magic, PH_LOG_MAGIC, sizeof h.magic);
        memcpy(h.identity, s.identity, sizeof h.identity);
        h.byte_order = PH_BYTE_ORDER_MARK;
        h.format_version = PH_FORMAT_VERSION;
        h.epoch = s.epoch + dice_roll(dice) % 4 - 1;
        h.start_lsn = s.checkpoint_lsn;
        h.start_chain = s.checkpoint_chain;
        h.start_version = s.checkpoint_version;
        h.segment_bytes = s.segment_bytes;
        h.block_bytes = dice_roll(dice) % 2 == 0 ? 512 : 4096;
        memcpy(sector(data, 2), &h, sizeof h);
        break;
    }
}

size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t most, unsigned seed)
{
    uint64_t dice = seed;
    if (size < INPUT_BYTES && most >= INPUT_BYTES && dice_roll(&dice) % 8 != 0) {
        memset(data + size, 0, INPUT_BYTES - size);
        size = INPUT_BYTES;
    }
    if (size < INPUT_BYTES)
        return LLVMFuzzerMutate(data, size, most < INPUT_BYTES ? most : INPUT_BYTES);
    for (uint64_t changes = 1 + dice_roll(&dice) % 3; changes > 0; changes--) {
        uint64_t choice = dice_roll(&dice) % 16;
        if (choice < 7)
            change_field(&dice, data);
        else if (choice < 13)
            relate(&dice, data);
        else if (choice < 15)
            data[dice_roll(&dice) % HEAD_BYTES] = (uint8_t)dice_roll(&dice);
        else
            size = LLVMFuzzerMutate(data, size, INPUT_BYTES);
        if (size < INPUT_BYTES)
            return size;
    }
    if (dice_roll(&dice) % 4 != 0)
        data[0] |= 7; /* sealed */
    return size;
}

size_t LLVMFuzzerCustomCrossOver(const uint8_t *one, size_t one_size, const uint8_t *other, size_t other_size,
                                 uint8_t *out, size_t most, unsigned seed)
{
    size_t size = one_size < most ? one_size : most;
    memcpy(out, one, size);
    for (unsigned which = 0; which < SECTORS; which++) {
        size_t end = HEAD_BYTES + (which + 1) * FUZZ_SECTOR_BYTES;
        if ((seed >> which & 1) != 0 && end <= size && end <= other_size)
            memcpy(out + end - FUZZ_SECTOR_BYTES, other + end - FUZZ_SECTOR_BYTES, FUZZ_SECTOR_BYTES);
    }
    return size;
}
