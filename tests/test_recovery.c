/* SPDX-License-Identifier: MIT */
/*
 * Recovery of whole heaps whose files were damaged, torn, swapped or cut, on the simulated machine (R9, R4, R1).
 *
 * The heap has one block.  Commit k writes k into its first word and noise behind it; beside the heap stands the book
 * of what the block held after each commit, so that after any opening the test knows whether the heap is some commit,
 * and which.
 */
#include "io/checksum.h"
#include "io/disk.h"
#include "pheap/core.h"
#include "recovery/superblock.h"
#include "tests/support/simfs_internal.h"

#include <errno.h>
#include <inttypes.h>
#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

#define PATH "d/heap"
#define WAL PATH "-wal"
#define SHM PATH "-shm"
#define BLOCK_BYTES 12288u
#define COMMITS_MAX 400u
#define SEGMENT 16384u
#define NONE UINT64_MAX

/* ---------------------------------------------------------------------------------------------------------- the rig */

/* What the block held after each commit. */
struct book {
    uint64_t seed, last;
    uint8_t states[COMMITS_MAX + 1][BLOCK_BYTES];
};

struct rig {
    struct ph_sim *sim;
    struct book *book;
    pheap *heap;
    uint64_t block;
};

static const struct pheap_options options = {.size = sizeof options,
                                             .reserve_bytes = 16u << 20,
                                             .log_limit_bytes = 20 * SEGMENT,
                                             .segment_bytes = SEGMENT,
                                             .buffer_bytes = 16384};

static struct book *new_book(uint64_t seed)
{
    struct book *book = calloc(1, sizeof *book);
    assert_non_null(book);
    book->seed = seed;
    return book;
}

static struct rig new_rig(uint64_t seed)
{
    struct ph_sim_options machine = {.seed = seed, .no_journal = true};
    return (struct rig){.sim = ph_sim_new(&machine), .book = new_book(seed)};
}

static void free_rig(struct rig *rig)
{
    ph_core_forget_mappings(ph_sim_io(rig->sim));
    ph_sim_free(rig->sim);
    free(rig->book);
}

static ph_status try_open(struct rig *rig, unsigned flags)
{
    return ph_open_io(ph_sim_io(rig->sim), PATH, flags, &options, &rig->heap);
}

static void close_heap(struct rig *rig)
{
    assert_int_equal(pheap_close(rig->heap), PHEAP_OK);
    rig->heap = NULL;
    ph_core_forget_mappings(ph_sim_io(rig->sim));
}

/* The dead gives nothing back; but the handle is freed here, because a leak checker would not find it again. */
static void kill_process(struct rig *rig)
{
    const ph_io *io = ph_sim_io(rig->sim);
    io->free(io->ctx, rig->heap);
    rig->heap = NULL;
    ph_sim_kill(rig->sim);
}

static pheap_txn *begin(struct rig *rig)
{
    pheap_txn *txn;
    enum pheap_status status = pheap_begin(rig->heap, &txn);
    if (status != PHEAP_OK)
        fail_msg("begin: %s: %s", pheap_status_name(status), pheap_error_detail());
    return txn;
}

/* The first transaction: the block, which is commit 1 with nothing but zeros. */
static void create(struct rig *rig)
{
    assert_int_equal(try_open(rig, PHEAP_CREATE), PH_OK);
    pheap_txn *txn = begin(rig);
    assert_int_equal(pheap_zalloc(txn, BLOCK_BYTES, &rig->block), PHEAP_OK);
    assert_int_equal(pheap_set_root(txn, rig->block), PHEAP_OK);
    assert_int_equal(pheap_commit(txn, PHEAP_DURABLE, NULL), PHEAP_OK);
    rig->book->last = 0;
}

/* Commit k: its number, and `length` bytes of noise at a place of its own. */
static void commit(struct rig *rig, uint64_t length, enum pheap_durability how)
{
    struct book *book = rig->book;
    uint64_t k = book->last + 1, dice = book->seed * 1000 + k;
    assert_true(k <= COMMITS_MAX && length < BLOCK_BYTES - 16);
    uint8_t *now = book->states[k];
    memcpy(now, book->states[k - 1], BLOCK_BYTES);
    memcpy(now, &k, sizeof k);
    uint64_t at = 8 + sim_roll(&dice) % ((BLOCK_BYTES - 8 - length) / 8) * 8;
    for (uint64_t i = 0; i < length; i += 8) {
        uint64_t word = sim_roll(&dice);
        memcpy(now + at + i, &word, 8);
    }
    pheap_txn *txn = begin(rig);
    assert_int_equal(pheap_write(txn, rig->block, now, 8), PHEAP_OK);
    assert_int_equal(pheap_write(txn, rig->block + at, now + at, length), PHEAP_OK);
    enum pheap_status status = pheap_commit(txn, how, NULL);
    if (status != PHEAP_OK)
        fail_msg("commit: %s: %s", pheap_status_name(status), pheap_error_detail());
    book->last = k;
}

/* Which commit of the book the open heap is; the test fails if it is none, or not sound. */
static uint64_t which_commit(struct rig *rig, const struct book *book)
{
    pheap_read *reader;
    uint64_t k;
    assert_int_equal(pheap_read_begin(rig->heap, PHEAP_FRESH, &reader), PHEAP_OK);
    const uint8_t *block = pheap_read_ptr(reader, pheap_read_root(reader));
    memcpy(&k, block, sizeof k);
    assert_true(k <= book->last);
    assert_memory_equal(block, book->states[k], BLOCK_BYTES);
    if (pheap_check(reader, NULL, NULL, NULL) != PHEAP_OK)
        fail_msg("check: %s", pheap_error_detail());
    pheap_read_end(reader);
    return k;
}

/* The three files as they are. */
struct files {
    uint8_t *bytes[3];
    int64_t size[3]; /* -1: not there */
};
static const char *const names[3] = {PATH, WAL, SHM};

static struct files save(struct rig *rig)
{
    struct files files = {{NULL}, {0}};
    for (unsigned i = 0; i < 3; i++) {
        files.size[i] = ph_sim_size(rig->sim, names[i]);
        if (files.size[i] < 0) {
            files.size[i] = -1;
            continue;
        }
        files.bytes[i] = sim_resize(NULL, (size_t)files.size[i]);
        assert_int_equal(ph_sim_peek(rig->sim, names[i], files.bytes[i], (size_t)files.size[i], 0), files.size[i]);
    }
    return files;
}

static void free_files(struct files *files)
{
    for (unsigned i = 0; i < 3; i++)
        free(files->bytes[i]);
}

static void put_file(struct rig *rig, const struct files *files, unsigned which)
{
    if (files->size[which] < 0) {
        (void)ph_sim_remove(rig->sim, names[which]);
        return;
    }
    (void)ph_sim_poke(rig->sim, names[which], "", 0, 0);
    assert_int_equal(ph_sim_set_size(rig->sim, names[which], 0), 0);
    if (files->size[which] > 0)
        (void)ph_sim_poke(rig->sim, names[which], files->bytes[which], (size_t)files->size[which], 0);
}

/* The coordination file is gone, as after a power cut.  (An empty one is as good as none.) */
static void drop_coordination(struct rig *rig)
{
    (void)ph_sim_set_size(rig->sim, SHM, 0);
}

static void load(struct rig *rig, const struct files *files)
{
    put_file(rig, files, 0);
    put_file(rig, files, 1);
    drop_coordination(rig);
}

static void check_unchanged(struct rig *rig, const struct files *files, unsigned which)
{
    static uint8_t bytes[1 << 20];
    assert_int_equal(ph_sim_size(rig->sim, names[which]), files->size[which]);
    assert_true(files->size[which] <= (int64_t)sizeof bytes);
    (void)ph_sim_peek(rig->sim, names[which], bytes, sizeof bytes, 0);
    assert_memory_equal(bytes, files->bytes[which], (size_t)files->size[which]);
}

/* Open what lies there: refused with CORRUPT at that LSN (NONE: at any), and nothing is changed. */
static void expect_damage(struct rig *rig, const struct files *damaged, uint64_t lsn)
{
    char place[64];
    ph_status status = try_open(rig, 0);
    if (status != PH_CORRUPT)
        fail_msg("damage at LSN %" PRIu64 ": %s", lsn, ph_status_name(status));
    if (lsn == NONE)
        (void)snprintf(place, sizeof place, "at LSN ");
    else
        (void)snprintf(place, sizeof place, "at LSN %" PRIu64 " ", lsn);
    if (strstr(ph_detail(), WAL) == NULL || strstr(ph_detail(), place) == NULL)
        fail_msg("damage at LSN %" PRIu64 ": %s", lsn, ph_detail());
    ph_core_forget_mappings(ph_sim_io(rig->sim));
    drop_coordination(rig);
    check_unchanged(rig, damaged, 0);
    check_unchanged(rig, damaged, 1);
}

/* Open what lies there: it must be commit k, and stay that when it is opened again. */
static void expect_commit(struct rig *rig, uint64_t k)
{
    for (unsigned i = 0; i < 2; i++) {
        ph_status status = try_open(rig, 0);
        if (status != PH_OK)
            fail_msg("not opened: %s: %s", ph_status_name(status), ph_detail());
        assert_int_equal(which_commit(rig, rig->book), k);
        close_heap(rig);
        drop_coordination(rig);
    }
}

/* ----------------------------------------------------------------------------------------------------- the log file */

/* A record that stands in the log, found by looking at every block. */
struct found {
    uint64_t at;                    /* in the file */
    uint64_t batch;                 /* number of its batch, from 0 */
    uint64_t batch_at, batch_bytes; /* header and records */
    uint64_t lsn, length, version;
};

struct map {
    struct found records[COMMITS_MAX + 8];
    unsigned count, batches;
};

static bool batch_at(const struct files *files, uint64_t at, uint64_t epoch, struct ph_batch_header *batch)
{
    memcpy(batch, files->bytes[1] + at, sizeof *batch);
    return batch->magic == PH_BATCH_MAGIC && batch->epoch == epoch && batch->checksum == ph_checksum(batch, 56);
}

static struct map map_log(const struct files *files, uint64_t epoch)
{
    struct map map = {.count = 0};
    struct ph_batch_header batch;
    for (uint64_t at = PH_LOG_SEGMENTS; (int64_t)at < files->size[1]; at += 512) {
        if (!batch_at(files, at, epoch, &batch))
            continue;
        for (uint64_t done = 0; done < batch.length;) {
            struct ph_record_header record;
            uint64_t place = at + sizeof batch + done;
            memcpy(&record, files->bytes[1] + place, sizeof record);
            assert_true(record.length >= sizeof record && map.count < COMMITS_MAX + 8);
            map.records[map.count++] = (struct found){.at = place,
                                                      .batch = map.batches,
                                                      .batch_at = at,
                                                      .batch_bytes = sizeof batch + batch.length,
                                                      .lsn = record.lsn,
                                                      .length = record.length,
                                                      .version = record.version};
            done += record.length;
        }
        map.batches++;
    }
    return map;
}

static void flip(struct rig *rig, struct files *files, uint64_t at, unsigned bit)
{
    files->bytes[1][at] ^= (uint8_t)(1u << bit);
    (void)ph_sim_poke(rig->sim, WAL, &files->bytes[1][at], 1, at);
}

/* A crashed heap whose log has, after a checkpoint, `batches` flushes of `group` commits each. */
static struct files make_crashed(struct rig *rig, unsigned batches, unsigned group, uint64_t length)
{
    create(rig);
    commit(rig, 64, PHEAP_DURABLE);
    commit(rig, 64, PHEAP_DURABLE);
    assert_int_equal(pheap_checkpoint(rig->heap), PHEAP_OK);
    for (unsigned i = 0; i < batches; i++) {
        for (unsigned n = 0; n < group; n++)
            commit(rig, length, PHEAP_LAZY);
        assert_int_equal(pheap_sync(rig->heap), PHEAP_OK);
    }
    kill_process(rig);
    struct files files = save(rig);
    drop_coordination(rig);
    return files;
}

#define EPOCH 1u
#define BEFORE_CHECKPOINT 3u /* records: creation and two commits */

/* -------------------------------------------------------------------------------------------- damage and torn tails */

/*
 * Catches: damage below a durable mark taken for a torn tail, which would silently cut off acknowledged commits (R9).
 * Every bit of every record and header of every batch but the last.
 */
static void damage__below_a_durable_mark_is_refused(void **state)
{
    (void)state;
    struct rig rig = new_rig(1);
    struct files files = make_crashed(&rig, 5, 2, 24);
    struct map map = map_log(&files, EPOCH);
    assert_int_equal(map.batches, BEFORE_CHECKPOINT + 5);
    unsigned flips = 0;
    for (unsigned r = BEFORE_CHECKPOINT; r < map.count; r++) {
        const struct found *record = &map.records[r];
        if (record->batch == map.batches - 1)
            continue;
        for (uint64_t i = 0; i < record->length; i++)
            for (unsigned bit = 0; bit < 8; bit++, flips++) {
                flip(&rig, &files, record->at + i, bit);
                expect_damage(&rig, &files, record->lsn);
                flip(&rig, &files, record->at + i, bit);
            }
        bool first = record->at == record->batch_at + sizeof(struct ph_batch_header);
        for (uint64_t i = 0; first && i < sizeof(struct ph_batch_header); i++)
            for (unsigned bit = 0; bit < 8; bit++, flips++) {
                flip(&rig, &files, record->batch_at + i, bit);
                expect_damage(&rig, &files, record->lsn);
                flip(&rig, &files, record->batch_at + i, bit);
            }
    }
    assert_true(flips > 6000);
    /* Without the segment's header none of its records can be found. */
    for (uint64_t i = 0; i < sizeof(struct ph_segment_header); i++) {
        flip(&rig, &files, PH_LOG_SEGMENTS + i, i % 8);
        expect_damage(&rig, &files, map.records[BEFORE_CHECKPOINT].lsn);
        flip(&rig, &files, PH_LOG_SEGMENTS + i, i % 8);
    }
    expect_commit(&rig, rig.book->last);
    free_files(&files);
    free_rig(&rig);
}

/* Catches: a log refused for damage in what it no longer needs: before the checkpoint, and between the records. */
static void damage__where_nothing_is_needed(void **state)
{
    (void)state;
    struct rig rig = new_rig(2);
    struct files files = make_crashed(&rig, 3, 1, 24);
    struct map map = map_log(&files, EPOCH);
    for (unsigned r = 0; r < map.count; r++) {
        const struct found *record = &map.records[r];
        uint64_t at = r < BEFORE_CHECKPOINT ? record->batch_at : record->batch_at + record->batch_bytes;
        uint64_t most = r < BEFORE_CHECKPOINT ? record->batch_bytes : 512 - record->batch_bytes % 512;
        for (uint64_t i = 0; i < most; i += 5) {
            load(&rig, &files);
            uint8_t wrong = files.bytes[1][at + i] ^ 0x21;
            (void)ph_sim_poke(rig.sim, WAL, &wrong, 1, at + i);
            expect_commit(&rig, rig.book->last);
        }
    }
    free_files(&files);
    free_rig(&rig);
}

/* The commit before the first record of the last batch that a torn [from, to) of the file has changed. */
static uint64_t survivor(const struct map *map, const struct files *whole, const struct files *torn, uint64_t last)
{
    for (unsigned r = 0; r < map->count; r++) {
        const struct found *record = &map->records[r];
        uint64_t start = record->at, end = record->at + record->length;
        if (record->at == record->batch_at + sizeof(struct ph_batch_header))
            start = record->batch_at;
        if (record->batch == map->batches - 1 &&
            memcmp(whole->bytes[1] + start, torn->bytes[1] + start, end - start) != 0)
            return record->version - 2; /* commit k is version k + 1 */
    }
    return last;
}

/* Catches: a torn last flush that is refused, or of which a record behind the damage is replayed (R9). */
static void damage__in_the_last_flush_is_cut(void **state)
{
    (void)state;
    struct rig rig = new_rig(3);
    struct files files = make_crashed(&rig, 2, 4, 40);
    struct map map = map_log(&files, EPOCH);
    const struct found *last = &map.records[map.count - 1];
    struct files torn = files;
    torn.bytes[1] = sim_resize(NULL, (size_t)files.size[1]);
    for (uint64_t i = 0; i < last->batch_bytes; i++)
        for (unsigned bit = 0; bit < 8; bit += i % 3 == 0 ? 1 : 3) {
            memcpy(torn.bytes[1], files.bytes[1], (size_t)files.size[1]);
            torn.bytes[1][last->batch_at + i] ^= (uint8_t)(1u << bit);
            load(&rig, &torn);
            expect_commit(&rig, survivor(&map, &files, &torn, rig.book->last));
        }
    free(torn.bytes[1]);
    free_files(&files);
    free_rig(&rig);
}

/*
 * Catches: a lost early sector of one group flush, with later records of it intact, refused as damage (R9).  Every
 * subset of the sectors of the last flush is lost: zero as in a new segment, stale as in a recycled one, or anything.
 */
static void damage__any_sectors_of_the_last_flush_lost(void **state)
{
    (void)state;
    struct rig rig = new_rig(4);
    struct files files = make_crashed(&rig, 2, 12, 168);
    struct map map = map_log(&files, EPOCH);
    const struct found *last = &map.records[map.count - 1];
    unsigned sectors = (unsigned)((last->batch_bytes + 511) / 512), later_intact = 0;
    assert_true(sectors >= 6 && sectors <= 8);
    struct files torn = files;
    torn.bytes[1] = sim_resize(NULL, (size_t)files.size[1]);
    for (unsigned lost = 0; lost < 1u << sectors; lost++)
        for (unsigned kind = 0; kind < 3; kind++) {
            memcpy(torn.bytes[1], files.bytes[1], (size_t)files.size[1]);
            for (unsigned i = 0; i < sectors; i++) {
                uint8_t *sector = torn.bytes[1] + last->batch_at + (uint64_t)i * 512;
                if ((lost & 1u << i) == 0)
                    continue;
                /* What stood there before is a batch of an older flush, whole and sealed. */
                memset(sector, kind == 0 ? 0 : 0xa5, 512);
                if (kind == 1)
                    memcpy(sector, files.bytes[1] + map.records[i % 4].batch_at, 512);
            }
            load(&rig, &torn);
            uint64_t k = survivor(&map, &files, &torn, rig.book->last);
            later_intact += k < rig.book->last && (lost & 1u << (sectors - 1)) == 0;
            expect_commit(&rig, k);
        }
    assert_true(later_intact > 50);
    free(torn.bytes[1]);
    free_files(&files);
    free_rig(&rig);
}

/* Catches: whole blocks of the log exchanged, or one written twice (misdirected writes), replayed or cut off. */
static void damage__misdirected_blocks(void **state)
{
    (void)state;
    struct rig rig = new_rig(5);
    struct files files = make_crashed(&rig, 6, 1, 32);
    struct map map = map_log(&files, EPOCH);
    assert_int_equal(map.count, map.batches);
    struct files wrong = files;
    wrong.bytes[1] = sim_resize(NULL, (size_t)files.size[1]);
    for (unsigned to = BEFORE_CHECKPOINT; to < map.count; to++)
        for (unsigned from = 0; from < map.count; from++)
            for (unsigned both = 0; both < 2; both++) {
                const struct found *one = &map.records[to], *other = &map.records[from];
                unsigned first = both != 0 && from < to && from >= BEFORE_CHECKPOINT ? from : to;
                bool last = first == map.count - 1;
                if (from == to)
                    continue;
                memcpy(wrong.bytes[1], files.bytes[1], (size_t)files.size[1]);
                memcpy(wrong.bytes[1] + one->batch_at, files.bytes[1] + other->batch_at, 512);
                if (both != 0)
                    memcpy(wrong.bytes[1] + other->batch_at, files.bytes[1] + one->batch_at, 512);
                load(&rig, &wrong);
                if (last)
                    expect_commit(&rig, rig.book->last - 1);
                else
                    expect_damage(&rig, &wrong, NONE);
            }
    free(wrong.bytes[1]);
    free_files(&files);
    free_rig(&rig);
}

/* Catches: a log that no longer reaches back to the checkpoint, though its damaged part is in the heap file already. */
static void damage__before_a_pinned_checkpoint(void **state)
{
    (void)state;
    struct rig rig = new_rig(6);
    pheap_read *reader;
    create(&rig);
    commit(&rig, 64, PHEAP_LAZY);
    assert_int_equal(pheap_read_begin(rig.heap, PHEAP_FRESH, &reader), PHEAP_OK);
    commit(&rig, 64, PHEAP_LAZY);
    assert_int_equal(pheap_checkpoint(rig.heap), PHEAP_OK); /* in the middle of a batch */
    commit(&rig, 64, PHEAP_DURABLE);
    kill_process(&rig);
    struct files files = save(&rig);
    drop_coordination(&rig);
    struct map map = map_log(&files, EPOCH);
    struct ph_superblock superblock;
    memcpy(&superblock, files.bytes[0] + PH_SUPERBLOCK_OFFSET(0), sizeof superblock);
    struct ph_superblock other;
    memcpy(&other, files.bytes[0] + PH_SUPERBLOCK_OFFSET(1), sizeof other);
    if (other.generation > superblock.generation)
        superblock = other;
    unsigned before = 0;
    for (unsigned r = 0; r < map.count; r++)
        if (map.records[r].batch == 1 && map.records[r].lsn < superblock.checkpoint_lsn) {
            before++;
            flip(&rig, &files, map.records[r].at + 70, 3);
            expect_damage(&rig, &files, map.records[r].lsn);
            flip(&rig, &files, map.records[r].at + 70, 3);
        }
    assert_true(before > 0);
    expect_commit(&rig, rig.book->last);
    free_files(&files);
    free_rig(&rig);
}

/* Catches: acknowledged commits lost because the log header, damaged, is believed or made anew. */
static void damage__log_header(void **state)
{
    (void)state;
    struct rig rig = new_rig(7);
    struct files files = make_crashed(&rig, 2, 1, 32);
    for (uint64_t bit = 0; bit < 512 * 8; bit += 3) {
        flip(&rig, &files, bit / 8, bit % 8);
        assert_int_equal(try_open(&rig, 0), PH_LOG_FOREIGN);
        assert_non_null(strstr(ph_detail(), WAL));
        drop_coordination(&rig);
        check_unchanged(&rig, &files, 0);
        check_unchanged(&rig, &files, 1);
        flip(&rig, &files, bit / 8, bit % 8);
    }
    expect_commit(&rig, rig.book->last);
    free_files(&files);
    free_rig(&rig);
}

/* ------------------------------------------------------------------------------------------------------- truncation */

/* Catches: a heap file cut short that is filled up with zeros, where its superblock knows better. */
static void truncated__heap(void **state)
{
    (void)state;
    struct rig rig = new_rig(8);
    create(&rig);
    assert_int_equal(pheap_checkpoint(rig.heap), PHEAP_OK);
    pheap_txn *txn = begin(&rig);
    uint64_t more;
    assert_int_equal(pheap_zalloc(txn, 200000, &more), PHEAP_OK); /* grows the heap after the checkpoint */
    assert_int_equal(pheap_fill(txn, more, 7, 200000), PHEAP_OK);
    assert_int_equal(pheap_commit(txn, PHEAP_DURABLE, NULL), PHEAP_OK);
    commit(&rig, 64, PHEAP_DURABLE);
    assert_int_equal(pheap_fold(rig.heap), PHEAP_OK);
    kill_process(&rig);
    struct files files = save(&rig);
    struct ph_superblock superblock;
    memcpy(&superblock, files.bytes[0], sizeof superblock);
    unsigned refused = 0, extended = 0;
    for (int64_t size = files.size[0]; size > 8192; size -= 2048) {
        load(&rig, &files);
        assert_int_equal(ph_sim_set_size(rig.sim, PATH, (uint64_t)size), 0);
        if (size >= (int64_t)superblock.heap_bytes) {
            expect_commit(&rig, rig.book->last); /* what the log adds, the log can add again */
            extended += size < files.size[0];
            continue;
        }
        assert_int_equal(try_open(&rig, 0), PH_CORRUPT);
        assert_true(strstr(ph_detail(), "truncated") != NULL && strstr(ph_detail(), PATH) != NULL);
        assert_int_equal(ph_sim_size(rig.sim, PATH), size);
        refused++;
    }
    assert_true(refused > 2 && extended > 2);
    free_files(&files);
    free_rig(&rig);
}

/* Catches: a log file cut short anywhere that is taken for a whole one. */
static void truncated__log(void **state)
{
    (void)state;
    struct rig rig = new_rig(9);
    struct files files = make_crashed(&rig, 5, 1, 2000);
    assert_int_equal(files.size[1], PH_LOG_SEGMENTS + 3 * SEGMENT);
    for (int64_t size = 0; size < files.size[1]; size += 256) {
        load(&rig, &files);
        assert_int_equal(ph_sim_set_size(rig.sim, WAL, (uint64_t)size), 0);
        ph_status status = try_open(&rig, 0), wanted = size == 0 ? PH_LOG_MISSING : PH_LOG_FOREIGN;
        assert_string_equal(ph_status_name(status), ph_status_name(size < 512 ? wanted : PH_CORRUPT));
        assert_non_null(strstr(ph_detail(), WAL));
        check_unchanged(&rig, &files, 0);
    }
    load(&rig, &files);
    expect_commit(&rig, rig.book->last);
    free_files(&files);
    free_rig(&rig);
}

/* -------------------------------------------------------------------------------------------- pairs of heap and log */

/* A moment in the life of a heap, with both of its files. */
struct moment {
    unsigned life; /* which heap */
    bool clean;
    uint64_t epoch; /* of the superblock, and of the log, which may not be there */
    uint64_t k;     /* the last commit */
    uint64_t needs; /* of the checkpoint: the log must go at least so far */
    struct files files;
};

static struct moment note_moment(struct rig *rig, unsigned life, uint64_t epoch, bool clean, uint64_t needs)
{
    return (struct moment){
        .life = life, .clean = clean, .epoch = epoch, .k = rig->book->last, .needs = needs, .files = save(rig)};
}

#define MOMENTS 9

/* Live a life of three epochs, and note nine moments of it. */
static void live(struct rig *rig, unsigned life, struct moment *moments)
{
    unsigned count = 0;
    assert_int_equal(try_open(rig, PHEAP_CREATE), PH_OK);
    close_heap(rig);
    moments[count++] = note_moment(rig, life, 0, true, 0); /* never written to: there is no log */
    create(rig);
    for (uint64_t epoch = 1; epoch <= 3; epoch++) {
        commit(rig, 40, PHEAP_DURABLE);
        assert_int_equal(pheap_checkpoint(rig->heap), PHEAP_OK);
        uint64_t needs = rig->book->last;
        commit(rig, 40, PHEAP_DURABLE);
        moments[count++] = note_moment(rig, life, epoch, false, needs);
        commit(rig, 40, PHEAP_DURABLE);
        if (epoch < 3)
            moments[count++] = note_moment(rig, life, epoch, false, needs);
        close_heap(rig);
        moments[count++] = note_moment(rig, life, epoch, true, 0);
        assert_int_equal(try_open(rig, 0), PH_OK);
    }
    close_heap(rig);
    assert_int_equal(count, MOMENTS);
}

/* What the table of recovery/classify.h makes of that heap file with that log, and which commit it is then. */
static ph_status expected(const struct moment *heap, const struct moment *log, uint64_t *k)
{
    *k = heap->k;
    bool absent = log->files.size[1] < 0;
    if (absent)
        return heap->clean ? PH_OK : PH_LOG_MISSING;
    if (log->life != heap->life)
        return PH_LOG_FOREIGN;
    if (heap->clean && log->epoch <= heap->epoch)
        return PH_OK;
    if (heap->clean && log->epoch > heap->epoch + 1)
        return PH_LOG_FOREIGN;
    if (!heap->clean && log->epoch != heap->epoch)
        return PH_LOG_FOREIGN;
    *k = log->k;
    return heap->clean || log->k >= heap->needs ? PH_OK : PH_CORRUPT;
}

/* Catches: commits of one heap in another, or of another generation, or acknowledged ones lost without a word (30). */
static void pairs__all_identities_and_generations(void **state)
{
    (void)state;
    static struct moment moments[2 * MOMENTS];
    struct rig lives[2] = {new_rig(11), new_rig(12)};
    for (unsigned life = 0; life < 2; life++)
        live(&lives[life], life, moments + life * MOMENTS);
    unsigned accepted = 0, refused = 0;
    for (unsigned h = 0; h < 2 * MOMENTS; h++)
        for (unsigned l = 0; l < 2 * MOMENTS; l++) {
            struct moment *heap = &moments[h], *log = &moments[l];
            struct rig *rig = &lives[heap->life];
            struct files pair = heap->files;
            pair.bytes[1] = log->files.bytes[1];
            pair.size[1] = log->files.size[1];
            uint64_t k;
            ph_status wanted = expected(heap, log, &k);
            load(rig, &pair);
            if (wanted == PH_OK && heap->epoch == 0 && log->files.size[1] < 0) {
                assert_int_equal(try_open(rig, 0), PH_OK); /* there is no block yet */
                close_heap(rig);
                accepted++;
                continue;
            }
            if (wanted == PH_OK) {
                expect_commit(rig, k);
                accepted++;
                continue;
            }
            ph_status status = try_open(rig, 0);
            if (status != wanted)
                fail_msg("heap %u with log %u: %s, not %s: %s", h, l, ph_status_name(status), ph_status_name(wanted),
                         ph_detail());
            assert_non_null(strstr(ph_detail(), PATH));
            check_unchanged(rig, &pair, 0);
            if (pair.size[1] >= 0)
                check_unchanged(rig, &pair, 1);
            refused++;
        }
    assert_true(accepted > 60 && refused > 150);
    /* The header of one epoch before the segments of the next, and nothing else of the older one. */
    struct files mixed = moments[1].files;
    mixed.size[1] = moments[4].files.size[1];
    mixed.bytes[1] = sim_resize(NULL, (size_t)mixed.size[1]);
    memcpy(mixed.bytes[1], moments[4].files.bytes[1], (size_t)mixed.size[1]);
    memcpy(mixed.bytes[1], moments[1].files.bytes[1], 512);
    struct ph_batch_header batch;
    for (uint64_t at = PH_LOG_SEGMENTS; (int64_t)at < mixed.size[1]; at += 512)
        if (batch_at(&mixed, at, 1, &batch))
            memset(mixed.bytes[1] + at, 0, 512);
    load(&lives[0], &mixed);
    assert_int_equal(try_open(&lives[0], 0), PH_LOG_FOREIGN);
    assert_non_null(strstr(ph_detail(), "epoch 2"));
    check_unchanged(&lives[0], &mixed, 0);
    free(mixed.bytes[1]);
    for (unsigned i = 0; i < 2 * MOMENTS; i++)
        free_files(&moments[i].files);
    free_rig(&lives[0]);
    free_rig(&lives[1]);
}

/* ----------------------------------------------------------------------------------------------------------- epochs */

/* The greatest sequence number of a segment, of any epoch, in the log. */
static uint64_t newest_segment(const struct files *files)
{
    uint64_t newest = 0;
    for (uint64_t at = PH_LOG_SEGMENTS; (int64_t)at < files->size[1]; at += SEGMENT) {
        struct ph_segment_header segment;
        memcpy(&segment, files->bytes[1] + at, sizeof segment);
        if (segment.magic == PH_SEGMENT_MAGIC && segment.sequence > newest)
            newest = segment.sequence;
    }
    return newest;
}

/* Catches: records of an epoch that was cut off, which have the LSNs of the new one, found behind its end (R9). */
static void epoch__old_records_are_never_mistaken(void **state)
{
    (void)state;
    struct rig rig = new_rig(13);
    uint64_t newest = 0;
    create(&rig);
    for (unsigned round = 0; round < 60; round++) {
        /* All records have one length, so that old and new ones have the same places and LSNs. */
        unsigned fresh = round % 5;
        for (unsigned i = 0; i < fresh; i++)
            commit(&rig, 40, round % 3 == 0 ? PHEAP_LAZY : PHEAP_DURABLE);
        uint64_t kept = rig.book->last;
        if (fresh > 0)
            assert_int_equal(pheap_sync(rig.heap), PHEAP_OK);
        unsigned lost = 1 + round % 4;
        for (unsigned i = 0; i < lost; i++)
            commit(&rig, 40, PHEAP_LAZY);
        if (round % 2 == 0)
            assert_int_equal(pheap_sync(rig.heap), PHEAP_OK);
        kill_process(&rig);
        struct files files = save(&rig);
        struct ph_log_header header;
        memcpy(&header, files.bytes[1], sizeof header);
        assert_true(header.start_segment > newest); /* sequence numbers never come again */
        newest = newest_segment(&files);
        if (round % 2 == 0) { /* the last flush is torn at its first record */
            struct map map = map_log(&files, header.epoch);
            const struct found *last = &map.records[map.count - 1];
            for (unsigned r = 0; r < map.count; r++)
                if (map.records[r].lsn > last->lsn)
                    last = &map.records[r];
            files.bytes[1][last->batch_at + 100] ^= 1;
        }
        load(&rig, &files);
        free_files(&files);
        assert_int_equal(try_open(&rig, 0), PH_OK);
        assert_int_equal(which_commit(&rig, rig.book), kept);
        rig.book->last = kept;
        if (round % 7 == 0) { /* and again, before the new epoch has a record */
            pheap_txn *txn = begin(&rig);
            assert_int_equal(pheap_abort(txn), PHEAP_OK);
            kill_process(&rig);
            drop_coordination(&rig);
            assert_int_equal(try_open(&rig, 0), PH_OK);
            assert_int_equal(which_commit(&rig, rig.book), kept);
        }
        for (unsigned i = 0; i < 3 && round % 10 == 9; i++) /* more than a segment */
            commit(&rig, 8000, PHEAP_DURABLE);
    }
    close_heap(&rig);
    expect_commit(&rig, rig.book->last);
    free_rig(&rig);
}

/* ------------------------------------------------------------------------------------------------ the shared buffer */

/* A heap of which three commits are in the log file and `lazy` more only in the coordination file. */
static struct files make_lazy(struct rig *rig, unsigned lazy, uint64_t length)
{
    create(rig);
    for (unsigned i = 0; i < 3; i++)
        commit(rig, 64, PHEAP_DURABLE);
    for (unsigned i = 0; i < lazy; i++)
        commit(rig, length, PHEAP_LAZY);
    kill_process(rig);
    return save(rig);
}

/* Catches: LAZY commits lost with their process, and what a reboot left in the buffer believed though it is damaged. */
static void buffer__damage_in_it_is_a_torn_tail(void **state)
{
    (void)state;
    struct rig rig = new_rig(14);
    struct files files = make_lazy(&rig, 5, 40);
    const uint64_t header_bytes = (uint64_t)files.size[2] - options.buffer_bytes;
    unsigned outcomes[16] = {0};
    for (uint64_t at = header_bytes; at < (uint64_t)files.size[2]; at += files.bytes[2][at] == 0 ? 64 : 1)
        for (unsigned bit = 0; bit < 8; bit += 3) {
            load(&rig, &files);
            put_file(&rig, &files, 2);
            uint8_t wrong = files.bytes[2][at] ^ (uint8_t)(1u << bit);
            (void)ph_sim_poke(rig.sim, SHM, &wrong, 1, at);
            ph_sim_set_boot(rig.sim, at);
            assert_int_equal(try_open(&rig, 0), PH_OK);
            uint64_t k = which_commit(&rig, rig.book);
            assert_true(k >= 3 && k <= 8);
            outcomes[k]++;
            close_heap(&rig);
        }
    for (uint64_t k = 3; k <= 8; k++)
        assert_true(outcomes[k] > 0);
    free_files(&files);
    free_rig(&rig);
}

/* Catches: a number from a stale or rotten coordination file used before it was checked (R8, RELIABILITY 23 and 39). */
static void buffer__any_word_of_the_marks_is_rotten(void **state)
{
    (void)state;
    struct rig rig = new_rig(15);
    struct files files = make_lazy(&rig, 4, 40);
    static const uint64_t values[] = {0, 1, 4096, UINT64_MAX, UINT64_MAX / 2, 1u << 31};
    for (uint64_t at = 0; at < sizeof(struct ph_coord); at += at < 2048 ? 8 : 1544)
        for (size_t v = 0; v <= sizeof values / sizeof values[0]; v++) {
            uint64_t word;
            memcpy(&word, files.bytes[2] + at, sizeof word);
            word = v == 0 ? word + 8 : values[v - 1];
            load(&rig, &files);
            put_file(&rig, &files, 2);
            (void)ph_sim_poke(rig.sim, SHM, &word, sizeof word, at);
            ph_status status = try_open(&rig, 0);
            if (status != PH_OK)
                fail_msg("word at %" PRIu64 ": %s: %s", at, ph_status_name(status), ph_detail());
            assert_true(which_commit(&rig, rig.book) >= 3);
            close_heap(&rig);
        }
    free_files(&files);
    free_rig(&rig);
}

/* ------------------------------------------------------------------------------------- recovery that is interrupted */

/* The heap's content, without the superblocks. */
static void check_same_heap(struct rig *rig, const struct files *reference)
{
    static uint8_t bytes[1 << 20];
    assert_int_equal(ph_sim_size(rig->sim, PATH), reference->size[0]);
    (void)ph_sim_peek(rig->sim, PATH, bytes, sizeof bytes, 0);
    assert_memory_equal(bytes + 8192, reference->bytes[0] + 8192, (size_t)reference->size[0] - 8192);
}

static void interrupt(struct rig *rig, const struct files *crashed, const struct files *reference, bool with_buffer)
{
    static const struct {
        unsigned ops;
        int error;
        enum ph_sim_fault_mode mode;
    } faults[] = {{PH_SIM_READ, EIO, PH_SIM_ONCE},      {PH_SIM_WRITE, EIO, PH_SIM_ONCE},
                  {PH_SIM_WRITE, ENOSPC, PH_SIM_ONCE},  {PH_SIM_WRITE, EIO, PH_SIM_FOREVER},
                  {PH_SIM_SYNC, EIO, PH_SIM_ONCE},      {PH_SIM_TRUNCATE, ENOSPC, PH_SIM_ONCE},
                  {PH_SIM_GROW, ENOSPC, PH_SIM_ONCE},   {PH_SIM_STAT, EIO, PH_SIM_ONCE},
                  {PH_SIM_MEMORY, ENOMEM, PH_SIM_ONCE}, {PH_SIM_MEMORY, ENOMEM, PH_SIM_FOREVER},
                  {PH_SIM_MAP, ENOMEM, PH_SIM_ONCE},    {PH_SIM_LOCK, ENOLCK, PH_SIM_ONCE},
                  {PH_SIM_OPEN, EMFILE, PH_SIM_ONCE}};
    for (size_t f = 0; f < sizeof faults / sizeof faults[0]; f++) {
        bool struck = true;
        for (uint64_t nth = 1; struck; nth++) {
            load(rig, crashed);
            if (with_buffer)
                put_file(rig, crashed, 2);
            ph_sim_fail_at(rig->sim, faults[f].ops, nth, faults[f].error, faults[f].mode);
            ph_status status = try_open(rig, 0);
            struck = ph_sim_struck(rig->sim) > 0;
            ph_sim_fail_clear(rig->sim);
            if (status == PH_CORRUPT || status == PH_LOG_FOREIGN || status == PH_LOG_MISSING || status == PH_NOT_HEAP)
                fail_msg("a fault at %s is told as damage: %s", ph_sim_struck_at(rig->sim), ph_detail());
            if (status == PH_OK)
                close_heap(rig);
            else if (nth % 2 == 0)
                kill_process(rig);
            ph_core_forget_mappings(ph_sim_io(rig->sim));
            /* Power may fail before the second try, which takes what is only in the coordination file; not here. */
            status = try_open(rig, 0);
            if (status != PH_OK)
                fail_msg("after a fault at %s: %s: %s", ph_sim_struck_at(rig->sim), ph_status_name(status),
                         ph_detail());
            assert_int_equal(which_commit(rig, rig->book), rig->book->last);
            close_heap(rig);
            check_same_heap(rig, reference);
        }
    }
}

/*
 * Catches: records folded into the heap file before they are durable in the log (R1).  The last flush is torn, but the
 * buffer of the dead process still has its records; recovery from that fails somewhere, and then the buffer is lost.
 */
static void interrupted__then_the_buffer_is_lost(void **state)
{
    (void)state;
    unsigned secured = 0, early = 0;
    for (unsigned torn = 0; torn < 6; torn++) {
        struct rig rig = new_rig(19);
        struct files files =
            make_crashed(&rig, 2 + torn % 2 * 5, 8, 200); /* the last batch within a segment, or first */
        struct map map = map_log(&files, EPOCH);
        const struct found *last = &map.records[map.count - 1];
        uint64_t durable = rig.book->last - 8; /* the log has so much without the last flush */
        if (torn >= 2)
            flip(&rig, &files, torn < 4 ? last->at + 80 : last->batch_at + 70, 0);
        for (unsigned kind = 0; kind < 2; kind++) {
            bool struck = true;
            for (uint64_t nth = 1; struck; nth++) {
                load(&rig, &files);
                put_file(&rig, &files, 2);
                ph_sim_fail_at(rig.sim, kind == 0 ? PH_SIM_WRITE : PH_SIM_SYNC, nth, EIO, PH_SIM_FOREVER);
                ph_status status = try_open(&rig, 0);
                struck = ph_sim_struck(rig.sim) > 0;
                ph_sim_fail_clear(rig.sim);
                if (status == PH_OK)
                    close_heap(&rig);
                kill_process(&rig);
                drop_coordination(&rig);
                static uint8_t bytes[1 << 20];
                (void)ph_sim_peek(rig.sim, PATH, bytes, sizeof bytes, 0);
                bool folded = memcmp(bytes + 8192, files.bytes[0] + 8192, (size_t)files.size[0] - 8192) != 0;
                assert_int_equal(try_open(&rig, 0), PH_OK);
                uint64_t k = which_commit(&rig, rig.book);
                assert_true(k >= durable && (!folded || k == rig.book->last));
                secured += k == rig.book->last;
                early += k < rig.book->last;
                close_heap(&rig);
            }
        }
        free_files(&files);
        free_rig(&rig);
    }
    assert_true(secured > 20 && early > 5);
}

/* Catches: recovery that cannot be run again after it failed in the middle (17), or that loses what it had found. */
static void interrupted__anywhere_then_run_again(void **state)
{
    (void)state;
    for (unsigned with_buffer = 0; with_buffer < 2; with_buffer++) {
        struct rig rig = new_rig(16);
        create(&rig);
        assert_int_equal(pheap_checkpoint(rig.heap), PHEAP_OK);
        pheap_txn *txn = begin(&rig);
        uint64_t more;
        assert_int_equal(pheap_zalloc(txn, 100000, &more), PHEAP_OK);
        assert_int_equal(pheap_fill(txn, more, 9, 100000), PHEAP_OK);
        assert_int_equal(pheap_commit(txn, PHEAP_DURABLE, NULL), PHEAP_OK);
        for (unsigned i = 0; i < 6; i++)
            commit(&rig, 3000, PHEAP_DURABLE); /* more than one segment */
        for (unsigned i = 0; i < 3 && with_buffer != 0; i++)
            commit(&rig, 1000, PHEAP_LAZY);
        kill_process(&rig);
        struct files crashed = save(&rig);
        assert_int_equal(try_open(&rig, 0), PH_OK);
        close_heap(&rig);
        struct files reference = save(&rig);
        interrupt(&rig, &crashed, &reference, with_buffer != 0);
        free_files(&crashed);
        free_files(&reference);
        free_rig(&rig);
    }
}

/* ------------------------------------------------------------------------------------------------------------ order */

/* What a walk over the journal knows: see order__of_writes. */
struct order {
    uint32_t heap, wal;
    bool heap_dirty;                   /* bytes of the heap's inside written since its last sync */
    uint64_t log_pending, log_durable; /* LSN */
    struct ph_superblock pending, durable;
    uint64_t slot_sequence[64];
    uint64_t reused, checkpoints, folds;
};

static void order_write_heap(struct order *order, const struct sim_event *event, const uint64_t *lsn_of, uint64_t block)
{
    if (event->offset == 0 && event->length > 8192) /* creation */
        return;
    if (event->offset < 8192) {
        assert_true(event->length == 512 && event->offset % 4096 == 0);
        memcpy(&order->pending, event->data, 512);
        if (order->pending.checkpoint_lsn == order->durable.checkpoint_lsn)
            return;
        assert_false(order->heap_dirty); /* R4: what the checkpoint stands for is synced before it is written */
        order->checkpoints++;
        return;
    }
    order->heap_dirty = true;
    if (event->offset <= block && block + 8 <= event->offset + event->length) {
        uint64_t k;
        memcpy(&k, event->data + (block - event->offset), 8);
        order->folds++;
        assert_true(lsn_of[k] <= order->log_durable); /* R1: only what is durable in the log reaches the heap file */
    }
}

static void order_write_log(struct order *order, const struct sim_event *event)
{
    struct ph_segment_header segment;
    if (event->offset < PH_LOG_SEGMENTS)
        return;
    uint64_t slot = (event->offset - PH_LOG_SEGMENTS) / SEGMENT;
    assert_true(slot < 64);
    memcpy(&segment, event->data, sizeof segment);
    const uint8_t *bytes = event->data;
    if (segment.magic == PH_SEGMENT_MAGIC) {
        uint64_t old = order->slot_sequence[slot];
        /* R4: a segment is used again only when a durable checkpoint has passed it. */
        assert_true(old == 0 || old == segment.sequence || old < order->durable.checkpoint_segment);
        order->reused += old != 0 && old != segment.sequence;
        order->slot_sequence[slot] = segment.sequence;
        bytes += 512;
    }
    struct ph_batch_header batch;
    memcpy(&batch, bytes, sizeof batch);
    if (batch.magic == PH_BATCH_MAGIC)
        order->log_pending = batch.lsn + batch.length;
}

static void walk_order(struct order *order, const struct sim_journal *journal, const uint64_t *lsn_of, uint64_t block)
{
    for (size_t i = 0; i < journal->count; i++) {
        const struct sim_event *event = &journal->events[i];
        bool heap = event->file == order->heap, wal = event->file == order->wal;
        switch (event->kind) {
        case SIM_EVENT_WRITE:
            if (heap)
                order_write_heap(order, event, lsn_of, block);
            else if (wal)
                order_write_log(order, event);
            break;
        case SIM_EVENT_SYNC:
            order->heap_dirty = order->heap_dirty && !heap;
            break;
        case SIM_EVENT_SYNC_RANGE:
            if (wal && order->log_pending > order->log_durable)
                order->log_durable = order->log_pending;
            if (heap && event->offset < 8192)
                order->durable = order->pending;
            break;
        default:
            break;
        }
    }
}

/* Catches: folding before the log is durable (R1), a checkpoint before its sync, a segment reused too early (R4). */
static void order__of_writes(void **state)
{
    (void)state;
    struct rig rig = {.sim = ph_sim_new(NULL), .book = new_book(17)};
    static uint64_t lsn_of[COMMITS_MAX + 1];
    create(&rig);
    uint64_t dice = 17, refused = 0;
    struct pheap_info info = {.size = sizeof info};
    for (unsigned i = 1; i <= COMMITS_MAX; i++) {
        commit(&rig, 40 + sim_roll(&dice) % 300 * 8, sim_roll(&dice) % 2 == 0 ? PHEAP_DURABLE : PHEAP_LAZY);
        assert_int_equal(pheap_get_info(rig.heap, &info), PHEAP_OK);
        lsn_of[i] = info.committed_lsn;
        if (sim_roll(&dice) % 12 == 0)
            assert_int_equal(pheap_fold(rig.heap), PHEAP_OK);
        uint64_t kind = sim_roll(&dice) % 30;
        if (kind == 1) { /* the superblock cannot be written: the log must stay */
            assert_int_equal(pheap_sync(rig.heap), PHEAP_OK);
            ph_sim_fail_at(rig.sim, PH_SIM_SYNC, 2, ENOSPC, PH_SIM_ONCE);
            refused += pheap_checkpoint(rig.heap) == PHEAP_NO_SPACE;
            ph_sim_fail_clear(rig.sim);
        } else if (kind <= 2) {
            assert_int_equal(pheap_checkpoint(rig.heap), PHEAP_OK);
        }
        if (sim_roll(&dice) % 40 == 0) {
            if (sim_roll(&dice) % 2 == 0)
                close_heap(&rig);
            else
                kill_process(&rig);
            assert_int_equal(try_open(&rig, 0), PH_OK);
            assert_int_equal(which_commit(&rig, rig.book), i);
        }
    }
    close_heap(&rig);
    struct order order = {.heap = sim_names_find(&rig.sim->names, PATH), .wal = sim_names_find(&rig.sim->names, WAL)};
    walk_order(&order, &rig.sim->journal, lsn_of, rig.block);
    assert_true(order.reused > 10 && order.checkpoints > 20 && order.folds > 40 && refused > 5);
    free_rig(&rig);
}

/* Catches: system calls under the writer lock, or more of them than one write for a durable commit (R5, R10). */
static void order__commits_do_no_needless_io(void **state)
{
    (void)state;
    struct rig rig = new_rig(18);
    const unsigned calls = (PH_SIM_ANY | PH_SIM_GROW) & ~(unsigned)PH_SIM_MEMORY;
    create(&rig);
    for (unsigned i = 0; i < 5; i++) /* what is done once is done */
        commit(&rig, 40, PHEAP_DURABLE);
    for (unsigned i = 0; i < 20; i++) {
        uint64_t before = ph_sim_calls(rig.sim, calls);
        commit(&rig, 40, PHEAP_LAZY);
        assert_int_equal(ph_sim_calls(rig.sim, calls), before);
        uint64_t writes = ph_sim_calls(rig.sim, PH_SIM_WRITE);
        before = ph_sim_calls(rig.sim, calls & ~(unsigned)PH_SIM_SYNC);
        commit(&rig, 40, PHEAP_DURABLE);
        assert_int_equal(ph_sim_calls(rig.sim, PH_SIM_WRITE), writes + 1);
        assert_int_equal(ph_sim_calls(rig.sim, calls & ~(unsigned)PH_SIM_SYNC), before + 1);
    }
    close_heap(&rig);
    free_rig(&rig);
}

int main(int argc, char **argv)
{
    if (argc > 1)
        cmocka_set_test_filter(argv[1]);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(damage__below_a_durable_mark_is_refused),
        cmocka_unit_test(damage__where_nothing_is_needed),
        cmocka_unit_test(damage__in_the_last_flush_is_cut),
        cmocka_unit_test(damage__any_sectors_of_the_last_flush_lost),
        cmocka_unit_test(damage__misdirected_blocks),
        cmocka_unit_test(damage__before_a_pinned_checkpoint),
        cmocka_unit_test(damage__log_header),
        cmocka_unit_test(truncated__heap),
        cmocka_unit_test(truncated__log),
        cmocka_unit_test(pairs__all_identities_and_generations),
        cmocka_unit_test(epoch__old_records_are_never_mistaken),
        cmocka_unit_test(buffer__damage_in_it_is_a_torn_tail),
        cmocka_unit_test(buffer__any_word_of_the_marks_is_rotten),
        cmocka_unit_test(interrupted__then_the_buffer_is_lost),
        cmocka_unit_test(interrupted__anywhere_then_run_again),
        cmocka_unit_test(order__of_writes),
        cmocka_unit_test(order__commits_do_no_needless_io),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
