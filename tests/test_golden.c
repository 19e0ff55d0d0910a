/* SPDX-License-Identifier: MIT */
/*
 * Golden files, one directory for each format version: heaps as that version wrote them, which every later library must
 * open, and the bytes of new files against docs/format.md, read and made here without the library's own structures.
 *
 *   tests/golden/v1/clean.*     a heap and its log, cleanly closed
 *   tests/golden/v1/crashed.*   the same heap later, with two segments of log to replay and a torn last flush
 *   tests/golden/v1/live.*      an archive of the clean heap, written to while it was backed up
 *   tests/golden/v1/values.*    a heap of values: see test_types_golden.c
 *   *.heap.txt, *.wal.txt       the files: offset and 32 bytes in hexadecimal; `*`: the line before repeats up to the
 *                               next offset; lines left out are zeros; the last line is the size
 *   *.expected.txt              what a reader must find; from the script's own book, not read back
 *
 * `PHEAP_GOLDEN_WRITE=DIRECTORY test_golden golden__write` wrote them.  Files of a released version are never written
 * again.
 */
#include "io/checksum.h"
#include "pheap/core.h"
#include "tests/golden_rig.h"

#define SIM_PATH "d/heap"
#define SIM_SEED 2026u
#define BLOCKS 24u
#define ROOT_BYTES (BLOCKS * 8)

/* --------------------------------------------------------------------------------------------------------- the book */

struct block {
    uint64_t offset, length, seed; /* offset 0: none */
};

/* What the heap holds: a root block with the offsets of the others. */
struct book {
    uint64_t version, root;
    struct block blocks[BLOCKS];
};

/* Content: noise, then zeros, one byte, or 32 bytes again and again; byte i does not depend on the length. */
static void pattern(uint64_t seed, uint8_t *bytes, uint64_t length)
{
    uint64_t dice = seed;
    for (uint64_t i = 0; i < length; i++) {
        uint64_t rest = seed % 3 == 0 ? 0 : seed % 3 == 1 ? seed : seed + i % 32;
        bytes[i] = (uint8_t)(i < 56 ? dice_roll(&dice) : rest);
    }
}

static void write_book(const struct book *book, const char *path)
{
    FILE *file = fopen(path, "w");
    require(file != NULL);
    (void)fprintf(file, "version %llu\nroot %llu\n", (unsigned long long)book->version, (unsigned long long)book->root);
    for (unsigned i = 0; i < BLOCKS; i++)
        if (book->blocks[i].offset != 0)
            (void)fprintf(file, "block %u offset %llu length %llu seed %llu\n", i,
                          (unsigned long long)book->blocks[i].offset, (unsigned long long)book->blocks[i].length,
                          (unsigned long long)book->blocks[i].seed);
    require(fclose(file) == 0);
}

static struct book read_book(const char *path)
{
    struct book book = {0};
    unsigned long long version, root, offset, length, seed;
    unsigned index;
    FILE *file = fopen(path, "r");
    require(file != NULL);
    require(fscanf(file, "version %llu root %llu", &version, &root) == 2);
    book.version = version;
    book.root = root;
    while (fscanf(file, " block %u offset %llu length %llu seed %llu", &index, &offset, &length, &seed) == 4) {
        require(index < BLOCKS);
        book.blocks[index] = (struct block){offset, length, seed};
    }
    require(feof(file) != 0);
    (void)fclose(file);
    return book;
}

/* The open heap is what the book says, has nothing else, and is sound. */
static void check_heap(pheap *heap, const struct book *book)
{
    static uint8_t expected[1 << 20];
    pheap_read *reader = read_begin(heap, PHEAP_FRESH);
    require_equal(pheap_read_version(reader), book->version);
    require_equal(pheap_read_root(reader), book->root);
    ok(pheap_check(reader, NULL, NULL, NULL));
    const uint64_t *table = pheap_read_ptr(reader, book->root);
    unsigned blocks = 1;
    for (unsigned i = 0; i < BLOCKS; i++) {
        const struct block *block = &book->blocks[i];
        uint64_t usable;
        require_equal(table[i], block->offset);
        if (block->offset == 0)
            continue;
        blocks++;
        ok(pheap_read_usable_size(reader, block->offset, &usable));
        require(usable >= block->length && block->length <= sizeof expected);
        pattern(block->seed, expected, block->length);
        require(memcmp(pheap_read_ptr(reader, block->offset), expected, block->length) == 0);
    }
    uint64_t from = 0, offset, length;
    unsigned found = 0;
    for (; pheap_read_next_block(reader, from, &offset, &length) == PHEAP_OK; found++)
        from = offset + length;
    require_equal(found, blocks);
    pheap_read_end(reader);
}

/* -------------------------------------------------------------------------------------------------------- the files */

/* Put the pair into the test's directory; the path of the heap. */
static const char *unpack(const char *name)
{
    size_t size = 0;
    const char *path = path_of(name, "");
    require(run_command("rm -f '%s' '%s-wal' '%s-shm'", path, path, path) == 0);
    const uint8_t *image = read_text(golden(PH_GOLDEN_DIRECTORY "/v1", name, ".heap.txt"), &size);
    write_at(path, 0, image, size);
    image = read_text(golden(PH_GOLDEN_DIRECTORY "/v1", name, ".wal.txt"), &size);
    write_at(path_of(name, "-wal"), 0, image, size);
    return path;
}

/* ----------------------------------------------------------------------------------------------- how they were made */

struct script {
    struct ph_sim *sim;
    pheap *heap;
    struct book book;
};

static void sim_open_heap(struct script *script, unsigned flags)
{
    const struct pheap_options options = {.size = sizeof options,
                                          .reserve_bytes = 64u << 20,
                                          .log_limit_bytes = 1u << 20,
                                          .segment_bytes = 16384,
                                          .buffer_bytes = 16384,
                                          .mode = 0644};
    ok((enum pheap_status)ph_open_io(ph_sim_io(script->sim), SIM_PATH, flags, &options, &script->heap));
}

static void put(struct script *script, pheap_txn *txn, unsigned index, uint64_t length, uint64_t seed)
{
    struct block *block = &script->book.blocks[index];
    ok(pheap_realloc(txn, &block->offset, length));
    void *address, *entry;
    ok(pheap_edit(txn, block->offset, length, &address));
    pattern(seed, address, length);
    ok(pheap_edit(txn, script->book.root + index * UINT64_C(8), 8, &entry));
    memcpy(entry, &block->offset, 8);
    block->length = length;
    block->seed = seed;
}

static void drop(struct script *script, pheap_txn *txn, unsigned index)
{
    struct block *block = &script->book.blocks[index];
    ok(pheap_free(txn, block->offset));
    ok(pheap_fill(txn, script->book.root + index * UINT64_C(8), 0, 8));
    *block = (struct block){0};
}

static void end_with(struct script *script, pheap_txn *txn, enum pheap_durability how)
{
    ok(pheap_commit(txn, how, &script->book.version));
}

/* Blocks of many sizes, freed and resized; a transaction in fragments; a savepoint and an abort. */
static void first_life(struct script *script)
{
    static const uint64_t lengths[] = {1, 16, 24, 100, 128, 129, 1000, 4096, 5000, 20000, 32768, 40000, 4097};
    sim_open_heap(script, PHEAP_CREATE);
    pheap_txn *txn = begin(script->heap);
    ok(pheap_zalloc(txn, ROOT_BYTES, &script->book.root));
    ok(pheap_set_root(txn, script->book.root));
    end_with(script, txn, PHEAP_DURABLE);
    for (unsigned i = 0; i < sizeof lengths / sizeof lengths[0]; i++) {
        txn = begin(script->heap);
        put(script, txn, i, lengths[i], 100 + i);
        end_with(script, txn, i % 3 == 0 ? PHEAP_DURABLE : PHEAP_LAZY);
    }
    txn = begin(script->heap);
    drop(script, txn, 3);
    drop(script, txn, 9);
    drop(script, txn, 11);
    put(script, txn, 6, 3000, 206);
    end_with(script, txn, PHEAP_DURABLE);
    txn = begin(script->heap);
    for (unsigned i = 13; i < BLOCKS - 4; i++) /* more than one record */
        put(script, txn, i, 600, 200 + i);
    uint32_t savepoint;
    ok(pheap_savepoint(txn, &savepoint));
    ok(pheap_fill(txn, script->book.blocks[0].offset, 0xee, 1));
    ok(pheap_rollback(txn, savepoint));
    end_with(script, txn, PHEAP_DURABLE);
    txn = begin(script->heap);
    ok(pheap_fill(txn, script->book.blocks[1].offset, 0xee, 16));
    ok(pheap_abort(txn));
    ok(pheap_close(script->heap));
}

/* Checkpoints, growth, fills, a group of commits in one flush; the commits of the last flush do not count. */
static void second_life(struct script *script)
{
    sim_open_heap(script, 0);
    pheap_txn *txn = begin(script->heap);
    put(script, txn, 20, 2000, 301);
    end_with(script, txn, PHEAP_DURABLE);
    ok(pheap_checkpoint(script->heap));
    txn = begin(script->heap);
    put(script, txn, 21, 300000, 302);
    drop(script, txn, 8);
    end_with(script, txn, PHEAP_DURABLE);
    for (unsigned i = 13; i < 20; i++) {
        txn = begin(script->heap);
        put(script, txn, i, 2500 + i, 302 + 3 * i);
        end_with(script, txn, i < 17 ? PHEAP_DURABLE : PHEAP_LAZY);
    }
    ok(pheap_sync(script->heap));
    struct book kept = script->book;
    for (unsigned i = 0; i < 3; i++) {
        txn = begin(script->heap);
        put(script, txn, i, 40, 400 + i);
        end_with(script, txn, PHEAP_LAZY);
    }
    ok(pheap_sync(script->heap));
    script->book = kept;
}

/* The last flush loses its first sector. */
static void tear(struct ph_sim *sim)
{
    size_t size;
    uint8_t *log = take(sim, SIM_PATH "-wal", &size);
    uint64_t last = 0, place = 0;
    for (size_t at = 4096; at < size; at += 512) {
        uint64_t epoch, lsn;
        memcpy(&epoch, log + at + 16, 8);
        memcpy(&lsn, log + at + 24, 8);
        if (memcmp(log + at, "PTCH", 4) == 0 && epoch == 2 && lsn > last) {
            last = lsn;
            place = at;
        }
    }
    memset(log, 0, 512);
    require(ph_sim_poke(sim, SIM_PATH "-wal", log, 512, place) == 512);
    free(log);
}

static void write_pair(struct script *script, const char *directory, const char *name)
{
    size_t size;
    uint8_t *bytes = take(script->sim, SIM_PATH, &size);
    write_text(bytes, size, golden(directory, name, ".heap.txt"));
    free(bytes);
    bytes = take(script->sim, SIM_PATH "-wal", &size);
    write_text(bytes, size, golden(directory, name, ".wal.txt"));
    free(bytes);
    write_book(&script->book, golden(directory, name, ".expected.txt"));
}

struct archiving {
    struct script *script;
    FILE *file;
    bool changed;
};

/* When the archive has begun, the heap changes: fills, growth, a block in several pieces. */
static int change_and_write(void *context, const void *bytes, size_t length)
{
    struct archiving *archiving = context;
    if (!archiving->changed) {
        archiving->changed = true;
        pheap_txn *txn = begin(archiving->script->heap);
        put(archiving->script, txn, 21, 300000, 603);
        drop(archiving->script, txn, 8);
        end_with(archiving->script, txn, PHEAP_LAZY);
        txn = begin(archiving->script->heap);
        put(archiving->script, txn, 22, 5000, 601);
        end_with(archiving->script, txn, PHEAP_LAZY);
    }
    return fwrite(bytes, 1, length, archiving->file) == length ? 0 : -1;
}

static void write_archive(const char *directory)
{
    struct ph_sim_options options = {.seed = SIM_SEED};
    struct script script = {.sim = ph_sim_new(&options)};
    first_life(&script);
    sim_open_heap(&script, 0);
    struct archiving archiving = {.script = &script, .file = fopen(golden(directory, "live", ".archive"), "w")};
    require(archiving.file != NULL);
    ok(pheap_backup_to(script.heap, change_and_write, &archiving, NULL, NULL));
    require(fclose(archiving.file) == 0);
    write_book(&script.book, golden(directory, "live", ".expected.txt"));
    ok(pheap_close(script.heap));
    ph_core_forget_mappings(ph_sim_io(script.sim));
    ph_sim_free(script.sim);
}

/* Does nothing unless it is asked to: see the head. */
static void golden__write(void **state)
{
    (void)state;
    const char *directory = getenv("PHEAP_GOLDEN_WRITE");
    if (directory == NULL)
        skip();
    struct ph_sim_options options = {.seed = SIM_SEED};
    struct script script = {.sim = ph_sim_new(&options)};
    first_life(&script);
    write_pair(&script, directory, "clean");
    second_life(&script);
    ph_sim_kill(script.sim);
    tear(script.sim);
    write_pair(&script, directory, "crashed");
    ph_sim_free(script.sim);
    write_archive(directory);
}

/* -------------------------------------------------------------------------------------------------- old files today */

/* It is what the book says, and it can be written to, closed and opened again. */
static void use_heap(const char *path, const struct book *book)
{
    pheap *heap = open_heap(path);
    check_heap(heap, book);
    struct book now = *book;
    struct script script = {.heap = heap, .book = now};
    pheap_txn *txn = begin(heap);
    put(&script, txn, 2, 7000, 501);
    drop(&script, txn, 4);
    put(&script, txn, 23, 70000, 502);
    end_with(&script, txn, PHEAP_DURABLE);
    check_heap(heap, &script.book);
    ok(pheap_close(heap));
    heap = open_heap(path);
    check_heap(heap, &script.book);
    ok(pheap_close(heap));
}

/* Catches: a heap of version 1 that this library no longer reads, or reads otherwise. */
static void golden__clean_heap(void **state)
{
    (void)state;
    const char *path = unpack("clean");
    struct book book = read_book(golden(PH_GOLDEN_DIRECTORY "/v1", "clean", ".expected.txt"));
    pheap *heap;
    ok(pheap_open(path, PHEAP_READONLY, NULL, &heap));
    check_heap(heap, &book);
    ok(pheap_close(heap));
    use_heap(path, &book);
    /* Cleanly closed, it needs no log. */
    path = unpack("clean");
    require(unlink(path_of("clean", "-wal")) == 0);
    use_heap(path, &book);
}

/* Catches: a log of version 1 that this library no longer replays, or of which it replays more or less. */
static void golden__crashed_heap(void **state)
{
    (void)state;
    const char *path = unpack("crashed");
    struct book book = read_book(golden(PH_GOLDEN_DIRECTORY "/v1", "crashed", ".expected.txt"));
    pheap *heap = open_heap(path);
    require_equal(heap_info(heap).recovered, 1);
    require(heap_info(heap).replayed_bytes > 16384);
    ok(pheap_close(heap));
    path = unpack("crashed");
    expect(PHEAP_READ_ONLY, pheap_open(path, PHEAP_READONLY, NULL, &heap));
    use_heap(path, &book);
    path = unpack("crashed");
    require(unlink(path_of("crashed", "-wal")) == 0);
    expect(PHEAP_LOG_MISSING, pheap_open(path, 0, NULL, &heap));
}

/* Catches: an archive of version 1 that this library no longer restores, or restores otherwise. */
static void golden__archive(void **state)
{
    (void)state;
    struct book book = read_book(golden(PH_GOLDEN_DIRECTORY "/v1", "live", ".expected.txt"));
    const char *path = path_of("live", "");
    ok(pheap_restore(golden(PH_GOLDEN_DIRECTORY "/v1", "live", ".archive"), path, NULL, NULL));
    use_heap(path, &book);
}

/* ------------------------------------------------------------------------------------------- byte by byte: creation */

static void set32(uint8_t *bytes, size_t at, uint32_t value)
{
    for (unsigned i = 0; i < 4; i++)
        bytes[at + i] = (uint8_t)(value >> 8 * i);
}

static void set64(uint8_t *bytes, size_t at, uint64_t value)
{
    for (unsigned i = 0; i < 8; i++)
        bytes[at + i] = (uint8_t)(value >> 8 * i);
}

static uint32_t get32(const uint8_t *bytes)
{
    return (uint32_t)bytes[0] | (uint32_t)bytes[1] << 8 | (uint32_t)bytes[2] << 16 | (uint32_t)bytes[3] << 24;
}

static uint64_t get64(const uint8_t *bytes)
{
    return (uint64_t)get32(bytes) | (uint64_t)get32(bytes + 4) << 32;
}

#define NEW_HEAP_BYTES 65536u

/* A new heap as docs/format.md has it: identity and time are what the machine's dice and clock give. */
static void make_new_heap(uint8_t *image)
{
    uint64_t dice = SIM_SEED;
    uint8_t identity[16];
    for (unsigned i = 0; i < sizeof identity; i++)
        identity[i] = (uint8_t)dice_roll(&dice);
    memset(image, 0, NEW_HEAP_BYTES);
    for (uint32_t generation = 1; generation <= 2; generation++) {
        uint8_t *s = image + (generation % 2 == 0 ? 0 : 4096);
        memcpy(s, "\x89pheap\r\n", 8);
        set32(s, 8, 0x01020304);
        set32(s, 12, 1);    /* format version */
        set32(s, 24, 4096); /* page */
        set32(s, 28, 1);    /* CLEAN */
        memcpy(s + 32, identity, sizeof identity);
        set64(s, 48, generation);
        set64(s, 64, 4096);   /* checkpoint_lsn */
        set64(s, 104, 65536); /* heap_bytes */
        set64(s, 112, 4096);  /* durable_lsn */
        set64(s, 120, 1 << 20);
        set32(s, 128, 16384);
        set32(s, 132, 16384);
        set32(s, 136, generation % 2);
        set32(s, 140, 0644);
        set64(s, 144, UINT64_C(1700000001000000100)); /* the first reading of the simulated clock */
        set64(s, 504, ph_checksum(s, 504));
    }
    uint8_t *heap = image + 8192; /* the heap header */
    memcpy(heap, "PHPHEAP1", 8);
    set64(heap, 8, 16); /* end_page */
    set64(heap, 16, 4); /* tail_page */
    set64(heap, 24, 4); /* zero_page */
    set64(heap, 40, 1); /* table_count */
    set64(heap, 64, 3); /* table[0] */
}

static void require_same(const uint8_t *got, const uint8_t *wanted, size_t from, size_t to)
{
    for (size_t at = from; at < to; at++)
        if (got[at] != wanted[at])
            check_failed(__FILE__, __LINE__, "byte %zu is 0x%02x, not 0x%02x", at, got[at], wanted[at]);
}

/* Catches: a byte of a new heap that docs/format.md does not have. */
static void layout__new_heap(void **state)
{
    (void)state;
    static uint8_t wanted[NEW_HEAP_BYTES];
    struct ph_sim_options options = {.seed = SIM_SEED};
    struct script script = {.sim = ph_sim_new(&options)};
    sim_open_heap(&script, PHEAP_CREATE);
    ok(pheap_close(script.heap));
    size_t size;
    uint8_t *heap = take(script.sim, SIM_PATH, &size);
    make_new_heap(wanted);
    require_equal(size, NEW_HEAP_BYTES);
    require_same(heap, wanted, 0, size);
    require(ph_sim_size(script.sim, SIM_PATH "-wal") < 0); /* the first writer makes the log */
    free(heap);
    ph_core_forget_mappings(ph_sim_io(script.sim));
    ph_sim_free(script.sim);
}

/* ------------------------------------------------------------------------------------------------ byte by byte: log */

/* Do a record's operations to `image`, which has *heap_bytes bytes; as docs/format.md has them. */
static void apply_by_hand(const uint8_t *record, uint32_t length, uint8_t *image, uint64_t *heap_bytes)
{
    for (uint32_t at = 64; at < length;) {
        uint64_t word = get64(record + at), count = word >> 48, kind = word >> 44 & 15;
        uint64_t offset = (word & ((UINT64_C(1) << 44) - 1)) * 8;
        require(kind >= 1 && kind <= 3);
        at += 8;
        if (kind == 3) {
            *heap_bytes = get64(record + at);
            at += 8;
            continue;
        }
        require(offset >= 8192 && offset + count * 8 <= *heap_bytes);
        for (uint64_t i = 0; i < count; i++)
            set64(image, offset + i * 8, get64(record + at + (kind == 1 ? i * 8 : 0)));
        at += (uint32_t)(kind == 1 ? count * 8 : 8);
    }
}

/* A log file read by hand. */
struct reading {
    const uint8_t *log;
    uint64_t heap_id, lsn, chain, version;
    unsigned batches, records, unfinished;
};

/* A batch at `at`: check its header, do its records. */
static uint64_t read_batch(struct reading *r, uint64_t at, uint64_t sequence, uint8_t *image, uint64_t *heap_bytes)
{
    const uint8_t *batch = r->log + at;
    require(memcmp(batch, "PTCH", 4) == 0 && get64(batch + 56) == ph_checksum(batch, 56));
    require_equal(get64(batch + 8), r->heap_id);
    require_equal(get64(batch + 16), 1); /* epoch */
    require_equal(get64(batch + 24), r->lsn);
    require_equal(get64(batch + 32), r->lsn); /* durable */
    require_equal(get64(batch + 40), r->chain);
    require_equal(get64(batch + 48), sequence);
    uint32_t length = get32(batch + 4), done = 0;
    while (done < length) {
        const uint8_t *record = batch + 64 + done;
        uint32_t bytes = get32(record + 8);
        require(get64(record) == ph_checksum(record + 8, bytes - 8) && bytes % 8 == 0);
        unsigned flags = record[12] | (unsigned)record[13] << 8;
        require((flags & ~3u) == 0 && record[14] == 0 && record[15] == 0);
        require_equal((flags & 1) != 0, r->unfinished == 0); /* FIRST */
        r->unfinished = (flags & 2) != 0 ? 0 : r->unfinished + 1;
        require_equal(get64(record + 16), r->lsn);
        require(get64(record + 24) <= r->lsn);
        require_equal(get64(record + 32), r->chain);
        require_equal(get64(record + 40), r->heap_id);
        require_equal(get64(record + 48), 1);
        require_equal(get64(record + 56), r->version + 1);
        apply_by_hand(record, bytes, image, heap_bytes);
        r->version += (flags & 2) != 0;
        r->chain = get64(record);
        r->lsn += bytes;
        r->records++;
        done += bytes;
    }
    require_equal(done, length);
    uint64_t end = at + 64 + length;
    for (; end % 512 != 0; end++)
        require_equal(r->log[end], 0);
    r->batches++;
    return end;
}

static void check_log_header(const uint8_t *log, const uint8_t *heap)
{
    uint8_t wanted[4096] = {0};
    memcpy(wanted, "\x89phlog\r\n", 8);
    set32(wanted, 8, 0x01020304);
    set32(wanted, 12, 1);
    memcpy(wanted + 16, heap + 32, 16);
    set64(wanted, 32, 1);    /* epoch */
    set64(wanted, 40, 4096); /* where it starts */
    set64(wanted, 64, 1);    /* segment */
    set32(wanted, 72, 16384);
    set32(wanted, 76, 512);
    set64(wanted, 504, ph_checksum(wanted, 504));
    require_same(log, wanted, 0, sizeof wanted);
}

/*
 * Catches: a log that docs/format.md does not describe: a reader written from the document alone finds every record,
 * and its operations, done by hand to a new heap, give the heap file byte by byte.
 */
static void layout__log_of_the_first_epoch(void **state)
{
    (void)state;
    static uint8_t image[4 << 20];
    struct ph_sim_options options = {.seed = SIM_SEED};
    struct script script = {.sim = ph_sim_new(&options)};
    first_life(&script);
    size_t heap_size, log_size;
    uint8_t *heap = take(script.sim, SIM_PATH, &heap_size), *log = take(script.sim, SIM_PATH "-wal", &log_size);
    check_log_header(log, heap);
    require_equal((log_size - 4096) % 16384, 0);
    make_new_heap(image);
    uint64_t heap_bytes = NEW_HEAP_BYTES;
    struct reading reading = {.log = log, .heap_id = ph_checksum(heap + 32, 16), .lsn = 4096};
    uint64_t sequence = 1;
    for (size_t slot = 0; 4096 + slot * 16384 < log_size; slot++, sequence++) {
        uint64_t start = 4096 + slot * 16384, at = start;
        if (get64(log + at) == 0)
            break; /* never used */
        require(memcmp(log + at, "PSEG", 4) == 0 && get32(log + at + 4) == 0 && get64(log + at + 48) == 0);
        require(get64(log + at + 56) == ph_checksum(log + at, 56));
        require_equal(get64(log + at + 8), reading.heap_id);
        require_equal(get64(log + at + 16), 1);
        require_equal(get64(log + at + 24), sequence);
        require_equal(get64(log + at + 32), reading.lsn);
        require_equal(get64(log + at + 40), reading.lsn);
        for (at += 64; at % 512 != 0; at++)
            require_equal(log[at], 0);
        while (at < start + 16384 && get64(log + at) != 0)
            at = read_batch(&reading, at, sequence, image, &heap_bytes);
    }
    require(reading.batches > 5 && reading.records > reading.batches && reading.unfinished == 0);
    require_equal(reading.version, script.book.version);
    require_equal(heap_bytes, heap_size);
    require_same(heap, image, 8192, heap_size);

    /* The CLEAN superblock, in the place of its generation. */
    const uint8_t *s = heap + (get64(heap + 48) > get64(heap + 4096 + 48) ? 0 : 4096);
    require(get32(s + 28) == 1 && get64(s + 504) == ph_checksum(s, 504));
    require_equal(get32(s + 136), get64(s + 48) % 2);
    require_equal(get64(s + 56), 1); /* epoch */
    require_equal(get64(s + 64), reading.lsn);
    require_equal(get64(s + 72), reading.chain);
    require_equal(get64(s + 80), reading.version);
    require_equal(get64(s + 88), sequence - 1);
    require_equal(get64(s + 96), 0);
    require_equal(get64(s + 104), heap_bytes);
    require_equal(get64(s + 112), reading.lsn);
    free(heap);
    free(log);
    ph_core_forget_mappings(ph_sim_io(script.sim));
    ph_sim_free(script.sim);
}

int main(int argc, char **argv)
{
    choose_cases(argc, argv);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(golden__write),        cmocka_unit_test(golden__clean_heap),
        cmocka_unit_test(golden__crashed_heap), cmocka_unit_test(golden__archive),
        cmocka_unit_test(layout__new_heap),     cmocka_unit_test(layout__log_of_the_first_epoch),
    };
    return cmocka_run_group_tests(tests, make_test_directory, remove_test_directory);
}
