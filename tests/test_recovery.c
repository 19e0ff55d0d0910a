/* SPDX-License-Identifier: MIT */
/* Recovery of whole heaps whose files were damaged, torn, swapped or cut, on the simulated machine (R9, R4, R1). */
#include "tests/recovery_rig.h"

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
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
