/* SPDX-License-Identifier: MIT */
/*
 * What the tests of recovery share: a heap on the simulated machine that has one block.  Commit k writes k into its
 * first word and noise behind it; beside the heap stands the book of what the block held after each commit, so that
 * after any opening the test knows whether the heap is some commit, and which.
 */
#ifndef TESTS_RECOVERY_RIG_H
#define TESTS_RECOVERY_RIG_H

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

static inline struct book *new_book(uint64_t seed)
{
    struct book *book = calloc(1, sizeof *book);
    assert_non_null(book);
    book->seed = seed;
    return book;
}

static inline struct rig new_rig(uint64_t seed)
{
    struct ph_sim_options machine = {.seed = seed, .no_journal = true};
    return (struct rig){.sim = ph_sim_new(&machine), .book = new_book(seed)};
}

static inline void free_rig(struct rig *rig)
{
    ph_core_forget_mappings(ph_sim_io(rig->sim));
    ph_sim_free(rig->sim);
    free(rig->book);
}

static inline ph_status try_open(struct rig *rig, unsigned flags)
{
    return ph_open_io(ph_sim_io(rig->sim), PATH, flags, &options, &rig->heap);
}

static inline void close_heap(struct rig *rig)
{
    assert_int_equal(pheap_close(rig->heap), PHEAP_OK);
    rig->heap = NULL;
    ph_core_forget_mappings(ph_sim_io(rig->sim));
}

/* The dead gives nothing back; but the handle is freed here, because a leak checker would not find it again. */
static inline void kill_process(struct rig *rig)
{
    const ph_io *io = ph_sim_io(rig->sim);
    io->free(io->ctx, rig->heap);
    rig->heap = NULL;
    ph_sim_kill(rig->sim);
}

static inline pheap_txn *begin(struct rig *rig)
{
    pheap_txn *txn;
    enum pheap_status status = pheap_begin(rig->heap, &txn);
    if (status != PHEAP_OK)
        fail_msg("begin: %s: %s", pheap_status_name(status), pheap_error_detail());
    return txn;
}

/* The first transaction: the block, which is commit 1 with nothing but zeros. */
static inline void create(struct rig *rig)
{
    assert_int_equal(try_open(rig, PHEAP_CREATE), PH_OK);
    pheap_txn *txn = begin(rig);
    assert_int_equal(pheap_zalloc(txn, BLOCK_BYTES, &rig->block), PHEAP_OK);
    assert_int_equal(pheap_set_root(txn, rig->block), PHEAP_OK);
    assert_int_equal(pheap_commit(txn, PHEAP_DURABLE, NULL), PHEAP_OK);
    rig->book->last = 0;
}

/* Commit k: its number, and `length` bytes of noise at a place of its own. */
static inline void commit(struct rig *rig, uint64_t length, enum pheap_durability how)
{
    struct book *book = rig->book;
    uint64_t k = book->last + 1, dice = book->seed * 1000 + k;
    assert_true(k <= COMMITS_MAX && length < BLOCK_BYTES - 16);
    uint8_t *now = book->states[k];
    memcpy(now, book->states[k - 1], BLOCK_BYTES);
    memcpy(now, &k, sizeof k);
    uint64_t at = 8 + dice_roll(&dice) % ((BLOCK_BYTES - 8 - length) / 8) * 8;
    for (uint64_t i = 0; i < length; i += 8) {
        uint64_t word = dice_roll(&dice);
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
static inline uint64_t which_commit(struct rig *rig, const struct book *book)
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

static inline struct files save(struct rig *rig)
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

static inline void free_files(struct files *files)
{
    for (unsigned i = 0; i < 3; i++)
        free(files->bytes[i]);
}

static inline void put_file(struct rig *rig, const struct files *files, unsigned which)
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
static inline void drop_coordination(struct rig *rig)
{
    (void)ph_sim_set_size(rig->sim, SHM, 0);
}

static inline void load(struct rig *rig, const struct files *files)
{
    put_file(rig, files, 0);
    put_file(rig, files, 1);
    drop_coordination(rig);
}

static inline void check_unchanged(struct rig *rig, const struct files *files, unsigned which)
{
    static uint8_t bytes[1 << 20];
    assert_int_equal(ph_sim_size(rig->sim, names[which]), files->size[which]);
    assert_true(files->size[which] <= (int64_t)sizeof bytes);
    (void)ph_sim_peek(rig->sim, names[which], bytes, sizeof bytes, 0);
    assert_memory_equal(bytes, files->bytes[which], (size_t)files->size[which]);
}

/* Open what lies there: refused with CORRUPT at that LSN (NONE: at any), and nothing is changed. */
static inline void expect_damage(struct rig *rig, const struct files *damaged, uint64_t lsn)
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
static inline void expect_commit(struct rig *rig, uint64_t k)
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

static inline bool batch_at(const struct files *files, uint64_t at, uint64_t epoch, struct ph_batch_header *batch)
{
    memcpy(batch, files->bytes[1] + at, sizeof *batch);
    return batch->magic == PH_BATCH_MAGIC && batch->epoch == epoch && batch->checksum == ph_checksum(batch, 56);
}

static inline struct map map_log(const struct files *files, uint64_t epoch)
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

static inline void flip(struct rig *rig, struct files *files, uint64_t at, unsigned bit)
{
    files->bytes[1][at] ^= (uint8_t)(1u << bit);
    (void)ph_sim_poke(rig->sim, WAL, &files->bytes[1][at], 1, at);
}

/* A crashed heap whose log has, after a checkpoint, `batches` flushes of `group` commits each. */
static inline struct files make_crashed(struct rig *rig, unsigned batches, unsigned group, uint64_t length)
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

#endif
