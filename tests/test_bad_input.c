/* SPDX-License-Identifier: MIT */
/*
 * Bad input and a bad environment: files that are no heap, or damaged, foreign, missing, read-only; full disks and
 * other limits.  Each must give its own clear error and change nothing.
 */
#include "tests/public.h"

#include "io/disk.h"
#include "recovery/superblock.h"

#include <sched.h>
#include <sys/mount.h>
#include <sys/resource.h>

/* The three files as one checksum-like text, to see that nothing was changed. */
static void fingerprint(const char *path, char text[512])
{
    char command[2048];
    (void)snprintf(
        command, sizeof command,
        "for f in '%s' '%s-wal'; do if [ -f \"$f\" ]; then stat -c %%s \"$f\"; cksum <\"$f\"; else echo none;"
        " fi; done",
        path, path);
    FILE *pipe = popen(command, "r");
    require(pipe != NULL);
    const size_t got = fread(text, 1, 511, pipe);
    text[got] = 0;
    require(pclose(pipe) == 0 && got != 0);
}

/* Opening is refused with one of these statuses, names the file, gives no handle and changes no byte. */
#define refused(statuses, path) refused_at(__FILE__, __LINE__, statuses, path)
static void refused_at(const char *file, int line, uint64_t statuses, const char *path)
{
    static const unsigned flags[] = {0, PHEAP_READONLY, PHEAP_CREATE};
    char before[512];
    char after[512];
    fingerprint(path, before);
    for (unsigned i = 0; i < 3; i++) {
        pheap *heap = NULL;
        const enum pheap_status status = pheap_open(path, flags[i], NULL, &heap);
        /* Read-only handles do not recover, so they may not get as far. */
        const bool not_tried = flags[i] == PHEAP_READONLY && status == PHEAP_READ_ONLY;
        if (((statuses >> status & 1) == 0 && !not_tried) || heap != NULL) {
            check_failed(file, line, "open with flags %u: %s (%s)", flags[i], pheap_status_name(status),
                         status == PHEAP_OK ? "" : pheap_error_detail());
        }
        const char *name = strrchr(path, '/') + 1;
        if (strstr(pheap_error_detail(), name) == NULL) {
            check_failed(file, line, "the detail does not name %s: %s", name, pheap_error_detail());
        }
    }
    fingerprint(path, after);
    if (strcmp(before, after) != 0) {
        check_failed(file, line, "a refused open changed the files from %s to %s", before, after);
    }
}

/* A cleanly closed heap with a few blocks. */
static const char *make_clean_heap(const char *name)
{
    const char *path = path_of(name, "");
    pheap *heap = create_heap(path);
    (void)make_root(heap, 1000);
    commit_word(heap, 3, 33, PHEAP_DURABLE);
    ok(pheap_close(heap));
    return path;
}

/* The process that dies with its heap open: durable commits in the log only. */
static void commit_and_wait(const struct peer *test, const char *path)
{
    pheap *heap = create_heap(path);
    (void)make_root(heap, 1000);
    ok(pheap_checkpoint(heap));
    for (uint64_t i = 1; i <= 50; i++) {
        commit_word(heap, i, i, PHEAP_DURABLE);
    }
    peer_tell(test, 'r');
    pause();
}

static const char *make_crashed_heap(const char *name)
{
    const char *path = path_of(name, "");
    struct peer child = peer_start(commit_and_wait, path);
    peer_hear(&child, 'r');
    peer_kill(&child);
    return path;
}

static void expect_word(const char *path, uint64_t index, uint64_t value)
{
    pheap *heap = open_heap(path);
    require_equal(fresh_word(heap, index), value);
    check_sound(heap);
    ok(pheap_close(heap));
}

/* ----------------------------------------------------------------------------------------------------- not a heap */

/* Catches: a path that is followed to something else, created by accident, or reported with a wrong status. */
static void open__what_is_not_there(void **state)
{
    (void)state;
    pheap *heap = NULL;
    expect_detail(PHEAP_NOT_FOUND, "absent", pheap_open(path_of("absent", ""), 0, NULL, &heap));
    expect(PHEAP_NOT_FOUND, pheap_open(path_of("no/such/dir", ""), 0, NULL, &heap));
    expect(PHEAP_NOT_FOUND, pheap_open(path_of("no/such/dir", ""), PHEAP_CREATE, NULL, &heap));
    require(symlink("nowhere", path_of("dangling", "")) == 0);
    expect(PHEAP_NOT_FOUND, pheap_open(path_of("dangling", ""), 0, NULL, &heap));
    require(symlink("loop", path_of("loop", "")) == 0);
    require(pheap_open(path_of("loop", ""), 0, NULL, &heap) != PHEAP_OK);
    require(pheap_open(path_of("loop", ""), PHEAP_CREATE, NULL, &heap) != PHEAP_OK);
    require(heap == NULL && access(path_of("absent", ""), F_OK) != 0);
    const char *there = make_clean_heap("there");
    expect_detail(PHEAP_EXISTS, "there", pheap_open(there, PHEAP_CREATE | PHEAP_EXCLUSIVE, NULL, &heap));
    expect_word(there, 3, 33);
}

/* Catches: any other kind of file taken for a heap, overwritten, or waited for (a FIFO blocks whoever opens it). */
static void open__what_is_not_a_heap(void **state)
{
    (void)state;
    const uint64_t not_heap = ONE_OF(PHEAP_NOT_HEAP);
    write_at(path_of("empty", ""), 0, "", 0);
    refused(not_heap, path_of("empty", ""));
    write_at(path_of("text", ""), 0, "This is not a heap.\n", 20);
    refused(not_heap, path_of("text", ""));
    static char noise[100000];
    for (size_t i = 0; i < sizeof noise; i++) {
        noise[i] = (char)(i * i + i / 7);
    }
    write_at(path_of("noise", ""), 0, noise, sizeof noise);
    refused(not_heap, path_of("noise", ""));
    memset(noise, 0, sizeof noise);
    write_at(path_of("zeros", ""), 0, noise, sizeof noise);
    refused(not_heap, path_of("zeros", ""));
    const char *path = make_clean_heap("real");
    copy_file(path_of("real", "-wal"), path_of("log", ""));
    refused(not_heap, path_of("log", ""));

    pheap *heap = NULL;
    require(mkdir(path_of("directory", ""), 0755) == 0);
    expect_detail(PHEAP_NOT_HEAP, "directory", pheap_open(path_of("directory", ""), 0, NULL, &heap));
    expect(PHEAP_NOT_HEAP, pheap_open(path_of("directory", ""), PHEAP_CREATE, NULL, &heap));
    require(mkfifo(path_of("fifo", ""), 0644) == 0);
    (void)alarm(20);
    expect_detail(PHEAP_NOT_HEAP, "fifo", pheap_open(path_of("fifo", ""), 0, NULL, &heap));
    (void)alarm(0);
    expect(PHEAP_NOT_HEAP, pheap_open("/dev/null", 0, NULL, &heap));
    expect_word(path, 3, 33);
}

/* ------------------------------------------------------------------------------------------------------ damage */

/* Catches: a heap whose end is missing, which would show zeros or fault later, far from the cause. */
static void open__truncated_file(void **state)
{
    (void)state;
    const char *whole = make_clean_heap("whole");
    const uint64_t size = file_size(whole);
    const uint64_t lengths[] = {1, 100, 511, 512, 4096, 4607, 8191, 8192, 12288, size - 4096, size - 1};
    const char *path = path_of("truncated", "");
    for (size_t i = 0; i < sizeof lengths / sizeof lengths[0]; i++) {
        copy_heap(whole, path, false);
        require(truncate(path, (off_t)lengths[i]) == 0);
        refused(ONE_OF(PHEAP_CORRUPT) | ONE_OF(PHEAP_NOT_HEAP), path);
    }
}

/* Overwrite a field of both superblocks, and seal them or not. */
static void patch_superblocks(const char *path, size_t at, uint32_t value, bool seal)
{
    for (unsigned copy = 0; copy < 2; copy++) {
        struct ph_superblock superblock;
        read_at(path, PH_SUPERBLOCK_OFFSET(copy), &superblock, sizeof superblock);
        memcpy((char *)&superblock + at, &value, sizeof value);
        if (seal) {
            ph_superblock_seal(&superblock);
        }
        write_at(path, PH_SUPERBLOCK_OFFSET(copy), &superblock, sizeof superblock);
    }
}

/* Catches: a heap of the future misread or called damaged, whether or not its checksum is where ours is. */
static void open__newer_version(void **state)
{
    (void)state;
    const char *whole = make_clean_heap("of-today");
    const char *path = path_of("of-tomorrow", "");
    for (unsigned seal = 0; seal < 2; seal++) {
        copy_heap(whole, path, false);
        patch_superblocks(path, offsetof(struct ph_superblock, format_version), PH_FORMAT_VERSION + 1, seal != 0);
        refused(ONE_OF(PHEAP_NEWER), path);
    }
    copy_heap(whole, path, false);
    patch_superblocks(path, offsetof(struct ph_superblock, incompat_flags), 1u << 31, true);
    refused(ONE_OF(PHEAP_NEWER), path);
    /* A compatible feature may be ignored. */
    copy_heap(whole, path, false);
    patch_superblocks(path, offsetof(struct ph_superblock, compat_flags), 1u << 31, true);
    expect_word(path, 3, 33);
}

/* Catches: a heap of another byte order called damaged. */
static void open__other_byte_order(void **state)
{
    (void)state;
    const char *whole = make_clean_heap("little");
    const char *path = path_of("big", "");
    for (unsigned seal = 0; seal < 2; seal++) {
        copy_heap(whole, path, false);
        patch_superblocks(path, offsetof(struct ph_superblock, byte_order), __builtin_bswap32(PH_BYTE_ORDER_MARK),
                          seal != 0);
        refused(ONE_OF(PHEAP_BYTE_ORDER), path);
    }
}

/* Catches: one lost superblock that costs the heap, and two that are guessed at. */
static void open__damaged_superblocks(void **state)
{
    (void)state;
    const char *whole = make_clean_heap("two-copies");
    const char *path = path_of("damaged-copies", "");
    const char garbage[16] = "garbage garbage";
    for (unsigned copy = 0; copy < 2; copy++) {
        copy_heap(whole, path, false);
        write_at(path, PH_SUPERBLOCK_OFFSET(copy) + 64, garbage, sizeof garbage);
        expect_word(path, 3, 33);
    }
    copy_heap(whole, path, false);
    write_at(path, PH_SUPERBLOCK_OFFSET(0) + 64, garbage, sizeof garbage);
    write_at(path, PH_SUPERBLOCK_OFFSET(1) + 64, garbage, sizeof garbage);
    refused(ONE_OF(PHEAP_CORRUPT), path);
    copy_heap(whole, path, false);
    patch_superblocks(path, offsetof(struct ph_superblock, segment_bytes), 12345, true);
    refused(ONE_OF(PHEAP_CORRUPT), path);
    copy_heap(whole, path, false);
    patch_superblocks(path, offsetof(struct ph_superblock, state), 77, true);
    refused(ONE_OF(PHEAP_CORRUPT), path);
}

/* ----------------------------------------------------------------------------------------------------------- logs */

/* Catches: recovery without the log it needs: acknowledged commits would vanish without a word. */
static void recovery__needs_its_log(void **state)
{
    (void)state;
    const char *crashed = make_crashed_heap("crashed");
    const char *path = path_of("without-log", "");
    copy_file(crashed, path);
    refused(ONE_OF(PHEAP_LOG_MISSING), path);
    write_at(path_of("without-log", "-wal"), 0, "", 0);
    refused(ONE_OF(PHEAP_LOG_MISSING) | ONE_OF(PHEAP_LOG_FOREIGN) | ONE_OF(PHEAP_CORRUPT), path);

    const char *foreign = make_crashed_heap("foreign");
    copy_file(path_of("foreign", "-wal"), path_of("without-log", "-wal"));
    refused(ONE_OF(PHEAP_LOG_FOREIGN), path);
    expect_word(foreign, 50, 50);

    copy_file(path_of("crashed", "-wal"), path_of("without-log", "-wal"));
    expect_word(path, 50, 50);
    expect_word(crashed, 50, 50);
}

/* Catches: the log of an earlier life of the same heap, put back from a backup, replayed over a newer heap. */
static void recovery__refuses_an_older_log(void **state)
{
    (void)state;
    const char *path = make_crashed_heap("aged");
    copy_file(path_of("aged", "-wal"), path_of("old-log", ""));
    pheap *heap = open_heap(path);
    commit_word(heap, 60, 60, PHEAP_DURABLE);
    ok(pheap_close(heap));
    copy_file(path_of("old-log", ""), path_of("aged", "-wal"));
    /* Cleanly closed, nothing is needed from it. */
    heap = NULL;
    const enum pheap_status status = pheap_open(path, 0, NULL, &heap);
    if (status == PHEAP_OK) {
        require_equal(fresh_word(heap, 60), 60);
        ok(pheap_close(heap));
    } else {
        expect(PHEAP_LOG_FOREIGN, status);
    }
}

static void reopen_and_wait(const struct peer *test, const char *path)
{
    pheap *heap = open_heap(path);
    commit_word(heap, 70, 70, PHEAP_DURABLE);
    peer_tell(test, 'r');
    pause();
}

/* Catches: the same with a heap that needs recovery: now the log of the wrong generation must be refused. */
static void recovery__refuses_a_log_of_another_generation(void **state)
{
    (void)state;
    const char *path = make_crashed_heap("generations");
    copy_file(path_of("generations", "-wal"), path_of("generation-one", ""));
    struct peer child = peer_start(reopen_and_wait, path);
    peer_hear(&child, 'r');
    peer_kill(&child);
    copy_file(path_of("generations", "-wal"), path_of("generation-two", ""));
    copy_file(path_of("generation-one", ""), path_of("generations", "-wal"));
    refused(ONE_OF(PHEAP_LOG_FOREIGN) | ONE_OF(PHEAP_CORRUPT), path);
    copy_file(path_of("generation-two", ""), path_of("generations", "-wal"));
    expect_word(path, 70, 70);
}

/* Catches: damage before acknowledged commits taken for a torn tail, which would cut them off silently (R9). */
static void recovery__refuses_damage_in_the_middle_of_the_log(void **state)
{
    (void)state;
    const char *crashed = make_crashed_heap("rotten");
    const char *path = path_of("rotten-copy", "");
    static unsigned char log[64u << 10];
    read_at(path_of("rotten", "-wal"), PH_LOG_SEGMENTS, log, 16384);
    /* Find the batches; damage a byte of an early one's records. */
    unsigned batches = 0;
    for (uint64_t at = 0; at < 16384; at += PH_SECTOR_BYTES) {
        uint32_t magic;
        memcpy(&magic, log + at, sizeof magic);
        if (magic == PH_BATCH_MAGIC && ++batches > 4 && batches < 12) {
            copy_heap(crashed, path, false);
            const unsigned char wrong = (unsigned char)(log[at + 100] ^ 0x10);
            write_at(path_of("rotten-copy", "-wal"), PH_LOG_SEGMENTS + at + 100, &wrong, 1);
            refused(ONE_OF(PHEAP_CORRUPT), path);
        }
    }
    require(batches > 12);
    expect_word(crashed, 50, 50);
}

/* ------------------------------------------------------------------------------------------------------ read-only */

static void become_nobody(void)
{
    if (geteuid() == 0) {
        require(setresgid(65534, 65534, 65534) == 0 && setresuid(65534, 65534, 65534) == 0);
    }
}

static void open_unwritable(const struct peer *test, const char *path)
{
    (void)test;
    become_nobody();
    pheap *heap = NULL;
    const uint64_t refusals = ONE_OF(PHEAP_READ_ONLY) | ONE_OF(PHEAP_PERMISSION);
    expect_one(refusals, pheap_open(path, 0, NULL, &heap));
    expect_one(refusals, pheap_open(path, PHEAP_CREATE, NULL, &heap));
    ok(pheap_open(path, PHEAP_READONLY, NULL, &heap));
    pheap_txn *txn;
    expect(PHEAP_READ_ONLY, pheap_begin(heap, &txn));
    expect(PHEAP_READ_ONLY, pheap_begin_timeout(heap, 0, &txn));
    require_equal(fresh_word(heap, 3), 33);
    check_sound(heap);
    ok(pheap_close(heap));
}

/* Catches: a read-only place that is written to, or refused although reading a clean heap needs no writing. */
static void readonly__file_and_directory(void **state)
{
    (void)state;
    require(mkdir(path_of("ro", ""), 0755) == 0);
    const char *path = make_clean_heap("ro/clean");
    require(run_command("chmod a=r '%s'/*", path_of("ro", "")) == 0);
    require(chmod(path_of("ro", ""), 0555) == 0);
    char before[512];
    char after[512];
    fingerprint(path, before);
    struct peer child = peer_start(open_unwritable, path);
    peer_join(&child);
    fingerprint(path, after);
    require(strcmp(before, after) == 0);
}

static void open_unrecoverable(const struct peer *test, const char *path)
{
    (void)test;
    become_nobody();
    pheap *heap = NULL;
    expect_one(ONE_OF(PHEAP_READ_ONLY) | ONE_OF(PHEAP_PERMISSION), pheap_open(path, 0, NULL, &heap));
    expect_one(ONE_OF(PHEAP_READ_ONLY) | ONE_OF(PHEAP_PERMISSION) | ONE_OF(PHEAP_BUSY),
               pheap_open(path, PHEAP_READONLY, NULL, &heap));
}

/* Catches: recovery that needs writing and fails obscurely, or half, or shows the heap without its log. */
static void readonly__place_that_needs_recovery(void **state)
{
    (void)state;
    require(mkdir(path_of("ro-crashed", ""), 0755) == 0);
    const char *path = make_crashed_heap("ro-crashed/heap");
    require(run_command("chmod a=r '%s'/*", path_of("ro-crashed", "")) == 0);
    require(chmod(path_of("ro-crashed", ""), 0555) == 0);
    struct peer child = peer_start(open_unrecoverable, path);
    peer_join(&child);
    require(run_command("chmod u+w '%s' '%s'/*", path_of("ro-crashed", ""), path_of("ro-crashed", "")) == 0);
    expect_word(path, 50, 50);
}

/* Catches: PHEAP_READONLY that writes, or recovers, although the place would allow it. */
static void readonly__handle(void **state)
{
    (void)state;
    const char *path = make_crashed_heap("ro-flag");
    pheap *heap = NULL;
    char before[512];
    char after[512];
    fingerprint(path, before);
    expect(PHEAP_READ_ONLY, pheap_open(path, PHEAP_READONLY, NULL, &heap));
    fingerprint(path, after);
    require(strcmp(before, after) == 0);
    expect_word(path, 50, 50);
    ok(pheap_open(path, PHEAP_READONLY, NULL, &heap));
    pheap_txn *txn;
    expect(PHEAP_READ_ONLY, pheap_begin(heap, &txn));
    expect(PHEAP_READ_ONLY, pheap_begin_timeout(heap, 10, &txn));
    require_equal(fresh_word(heap, 50), 50);
    check_sound(heap);
    ok(pheap_close(heap));
}

/* Catches: a handle for reading that writes, because another one of the same process may. */
static void readonly__beside_a_writer(void **state)
{
    (void)state;
    const char *path = make_crashed_heap("ro-beside");
    pheap *writer, *reader;
    pheap_txn *txn;
    ok(pheap_open(path, 0, NULL, &writer));
    ok(pheap_open(path, PHEAP_READONLY, NULL, &reader));
    expect(PHEAP_READ_ONLY, pheap_begin(reader, &txn));
    ok(pheap_begin(writer, &txn));
    pheap_abort(txn);
    ok(pheap_close(writer));
    expect(PHEAP_READ_ONLY, pheap_begin(reader, &txn));
    ok(pheap_close(reader));
}

/* ------------------------------------------------------------------------------------------------------ full disk */

/* Bytes that no log makes shorter. */
static void fill_block(unsigned char *bytes, uint64_t number)
{
    for (uint64_t i = 0; i < 60000; i++) {
        bytes[i] = (unsigned char)((i * 0x9e3779b97f4a7c15u + number) >> 40);
    }
}

static uint64_t grow_until_refused(pheap *heap, enum pheap_status *refusal)
{
    uint64_t blocks = 0;
    for (;; blocks++) {
        pheap_txn *txn;
        uint64_t block;
        enum pheap_status status = pheap_begin(heap, &txn);
        if (status == PHEAP_OK) {
            status = pheap_alloc(txn, 60000, &block);
            if (status == PHEAP_OK) {
                fill_block(pheap_ptr(txn, block), blocks);
                put_word(txn, 0, blocks + 1);
                put_word(txn, blocks % 99 + 1, block);
                status = pheap_commit(txn, PHEAP_DURABLE, NULL);
            } else {
                put_word(txn, 0, 4711);
                ok(pheap_abort(txn));
            }
        }
        if (status != PHEAP_OK) {
            *refusal = status;
            return blocks;
        }
        require(blocks < 10000);
    }
}

/* What is acknowledged is there, the failed transaction is not, and the heap is sound. */
static void expect_blocks(pheap *heap, uint64_t blocks)
{
    pheap_read *reader = read_begin(heap, PHEAP_FRESH);
    require_equal(read_word(reader, 0), blocks);
    for (uint64_t i = blocks > 99 ? blocks - 99 : 0; i < blocks; i++) {
        static unsigned char expected[60000];
        fill_block(expected, i);
        require(memcmp(pheap_read_ptr(reader, read_word(reader, i % 99 + 1)), expected, sizeof expected) == 0);
    }
    ok(pheap_check(reader, print_fault, NULL, NULL));
    pheap_read_end(reader);
}

static const struct pheap_options roomy = {.size = sizeof roomy,
                                           .reserve_bytes = 1u << 30,
                                           .log_limit_bytes = 512u << 10,
                                           .segment_bytes = 32u << 10,
                                           .buffer_bytes = 32u << 10};

static void grow_to_file_size_limit(const struct peer *test, const char *path)
{
    (void)test;
    (void)signal(SIGXFSZ, SIG_IGN);
    struct rlimit limit = {.rlim_cur = 6000, .rlim_max = RLIM_INFINITY};
    pheap *heap = NULL;
    require(setrlimit(RLIMIT_FSIZE, &limit) == 0);
    const uint64_t no_space = ONE_OF(PHEAP_NO_SPACE) | ONE_OF(PHEAP_FULL);
    expect_one(no_space, pheap_open(path, PHEAP_CREATE, &roomy, &heap));
    require(heap == NULL && access(path, F_OK) != 0);
    limit.rlim_cur = 4u << 20;
    require(setrlimit(RLIMIT_FSIZE, &limit) == 0);
    ok(pheap_open(path, PHEAP_CREATE, &roomy, &heap));
    (void)make_root(heap, 100);
    enum pheap_status refusal;
    const uint64_t blocks = grow_until_refused(heap, &refusal);
    expect_one(no_space, refusal);
    require(blocks > 30);
    expect_blocks(heap, blocks);
    limit.rlim_cur = RLIM_INFINITY;
    require(setrlimit(RLIMIT_FSIZE, &limit) == 0);
    pheap_txn *txn = begin(heap);
    uint64_t block;
    ok(pheap_alloc(txn, 2u << 20, &block));
    ok(pheap_commit(txn, PHEAP_DURABLE, NULL));
    expect_blocks(heap, blocks);
    ok(pheap_close(heap));
    heap = open_heap(path);
    expect_blocks(heap, blocks);
    ok(pheap_close(heap));
}

/* Catches: a limit met in the middle of growth that kills by signal, poisons the heap, or leaves a piece behind. */
static void full__file_size_limit(void **state)
{
    (void)state;
    struct peer child = peer_start(grow_to_file_size_limit, path_of("limited", ""));
    peer_join(&child);
}

static void grow_to_full_disk(const struct peer *test, const char *path)
{
    (void)test;
    char filler[700];
    (void)snprintf(filler, sizeof filler, "%s-filler", path);
    require(run_command("dd if=/dev/zero of='%s' bs=64k count=16 2>/dev/null", filler) == 0);
    pheap *heap;
    ok(pheap_open(path, PHEAP_CREATE, &roomy, &heap));
    (void)make_root(heap, 100);
    enum pheap_status refusal;
    uint64_t blocks = grow_until_refused(heap, &refusal);
    expect(PHEAP_NO_SPACE, refusal);
    require(blocks > 10);
    expect_blocks(heap, blocks);
    for (unsigned i = 0; i < 3; i++) { /* it stays so, and stays usable for reading */
        uint64_t more = grow_until_refused(heap, &refusal);
        expect(PHEAP_NO_SPACE, refusal);
        require_equal(more, 0);
        expect_blocks(heap, blocks);
    }
    require(unlink(filler) == 0);
    pheap_txn *txn = begin(heap);
    uint64_t block;
    ok(pheap_alloc(txn, 200000, &block));
    ok(pheap_commit(txn, PHEAP_DURABLE, NULL));
    require_equal(heap_info(heap).poisoned, 0);
    expect_blocks(heap, blocks);
    ok(pheap_close(heap));
    heap = open_heap(path);
    expect_blocks(heap, blocks);
    ok(pheap_close(heap));
}

/* Run grow_to_full_disk on a small file system of its own, if this process may mount one. */
static void on_small_filesystem(const struct peer *test, const char *type)
{
    const char *mount_point = path_of(type, "-mount");
    const bool tmpfs = strcmp(type, "tmpfs") == 0;
    int result = 0;
    if (unshare(CLONE_NEWNS) != 0 || mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) != 0) {
        peer_tell(test, 's');
        return;
    }
    require(mkdir(mount_point, 0755) == 0);
    if (tmpfs) {
        result = mount("none", mount_point, "tmpfs", 0, "size=4m");
    } else {
        result = run_command("truncate -s 8M '%s-image' && mkfs.%s -q '%s-image' 2>/dev/null && "
                             "mount -o loop '%s-image' '%s' 2>/dev/null",
                             mount_point, type, mount_point, mount_point, mount_point);
    }
    if (result != 0) {
        peer_tell(test, 's');
        return;
    }
    char path[600];
    (void)snprintf(path, sizeof path, "%s/heap", mount_point);
    grow_to_full_disk(test, path);
    require(umount2(mount_point, MNT_DETACH) == 0);
    peer_tell(test, 'd');
}

static void run_on_small_filesystem(const char *type)
{
    struct peer child = peer_start(on_small_filesystem, type);
    char token = 0;
    if (read(child.from, &token, 1) == 1 && token == 's') {
        print_message("skipped: cannot mount a small %s here\n", type);
        peer_join(&child);
        skip();
    }
    peer_join(&child);
    require(token == 'd');
}

/* Catches: a full disk that is a SIGBUS, poison, a lost acknowledged commit, or a heap that does not go on. */
static void full__small_tmpfs(void **state)
{
    (void)state;
    run_on_small_filesystem("tmpfs");
}

/* The same where direct writes meet a real allocator of blocks. */
static void full__small_ext4(void **state)
{
    (void)state;
    run_on_small_filesystem("ext4");
}

/* ------------------------------------------------------------------------------------------------ names and limits */

/* Catches: names pasted into something that reads them as other than bytes. */
static void names__with_spaces_and_other_scripts(void **state)
{
    (void)state;
    static const char *const names[] = {"with space",       "späte Größe",  "名前 heap", "quote'\"`$(x)",
                                        "line\nbreak\ttab", "\xff\xfe raw", "-dash",     "%s%n%d",
                                        "trailing.",        "a.heap-wal",   "b-shm"};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        const char *path = path_of(names[i], "");
        pheap *heap = create_heap(path);
        (void)make_root(heap, 10);
        commit_word(heap, 1, i, PHEAP_LAZY);
        require(access(path_of(names[i], "-wal"), F_OK) == 0 && access(path_of(names[i], "-shm"), F_OK) == 0);
        ok(pheap_close(heap));
        expect_word(path, 1, i);
        expect_detail(PHEAP_EXISTS, "xists", pheap_open(path, PHEAP_CREATE | PHEAP_EXCLUSIVE, NULL, &heap));
    }
}

/* Catches: a heap created whose log or coordination file then cannot have a name. */
static void names__too_long_for_the_files_beside(void **state)
{
    (void)state;
    char name[300];
    for (size_t length = 250; length <= 260; length++) {
        memset(name, 'n', length);
        name[length] = 0;
        pheap *heap = NULL;
        const enum pheap_status status = pheap_open(path_of(name, ""), PHEAP_CREATE, NULL, &heap);
        if (length + 4 <= 255) {
            ok(status);
            ok(pheap_close(heap));
        } else {
            require(status != PHEAP_OK && heap == NULL);
            require(access(path_of(name, ""), F_OK) != 0);
        }
    }
}

static void work_without_standard_descriptors(const struct peer *test, const char *path)
{
    (void)test;
    close(0);
    close(1);
    close(2);
    pheap *heap = create_heap(path);
    (void)make_root(heap, 1000);
    for (uint64_t i = 0; i < 300; i++) {
        commit_word(heap, i, i, PHEAP_DURABLE);
        for (int file = 0; file <= 2; file++) {
            require(write(file, "stray output of a daemon\n", 25) == -1 && errno == EBADF);
        }
    }
    ok(pheap_checkpoint(heap));
    check_sound(heap);
    ok(pheap_close(heap));
}

/* Catches: the heap opened as descriptor 0, 1 or 2, so that what the program prints overwrites it. */
static void limits__low_descriptors_closed(void **state)
{
    (void)state;
    const char *path = path_of("low", "");
    struct peer child = peer_start(work_without_standard_descriptors, path);
    peer_join(&child);
    expect_word(path, 299, 299);
}

static void open_without_descriptors(const struct peer *test, const char *path)
{
    (void)test;
    for (rlim_t count = 0; count < 24; count++) {
        const struct rlimit limit = {.rlim_cur = count, .rlim_max = 1024};
        require(setrlimit(RLIMIT_NOFILE, &limit) == 0);
        pheap *heap = NULL;
        const enum pheap_status status = pheap_open(path, 0, NULL, &heap);
        if (status == PHEAP_OK) {
            require_equal(fresh_word(heap, 3), 33);
            ok(pheap_close(heap));
        } else {
            require(heap == NULL && pheap_error_detail()[0] != 0);
            require(status != PHEAP_CORRUPT && status != PHEAP_NOT_HEAP && status != PHEAP_NOT_FOUND &&
                    status != PHEAP_LOG_MISSING);
        }
    }
}

/* Catches: running out of descriptors in the middle of open: a leak, a wrong verdict on the heap, a changed file. */
static void limits__out_of_descriptors(void **state)
{
    (void)state;
    const char *path = make_clean_heap("descriptors");
    struct peer child = peer_start(open_without_descriptors, path);
    peer_join(&child);
    expect_word(path, 3, 33);
}

/* Catches: descriptors that leak into programs started later, and files with other permissions than asked for. */
static void limits__close_on_exec_and_mode(void **state)
{
    (void)state;
    struct pheap_options options = small_options();
    options.mode = 0600;
    pheap *heap;
    const char *path = path_of("mode", "");
    ok(pheap_open(path, PHEAP_CREATE, &options, &heap));
    (void)make_root(heap, 8);
    static const char *const suffixes[] = {"", "-wal", "-shm"};
    for (unsigned i = 0; i < 3; i++) {
        struct stat info;
        require(stat(path_of("mode", suffixes[i]), &info) == 0);
        require_equal(info.st_mode & 0777, 0600);
    }
    for (int file = 3; file < 200; file++) {
        char name[64];
        char target[600];
        (void)snprintf(name, sizeof name, "/proc/self/fd/%d", file);
        const ssize_t length = readlink(name, target, sizeof target - 1);
        if (length > 0) {
            target[length] = 0;
            if (strstr(target, "/mode") != NULL) {
                require((fcntl(file, F_GETFD) & FD_CLOEXEC) != 0);
            }
        }
    }
    ok(pheap_close(heap));
}

static void open_in_little_address_space(const struct peer *test, const char *path)
{
    (void)test;
    for (rlim_t megabytes = 4096; megabytes >= 16; megabytes /= 2) {
        const struct rlimit limit = {.rlim_cur = megabytes << 20, .rlim_max = megabytes << 20};
        require(setrlimit(RLIMIT_AS, &limit) == 0);
        pheap *heap = NULL;
        const enum pheap_status status = pheap_open(path, 0, NULL, &heap);
        if (megabytes >= 512) {
            ok(status);
        }
        if (status == PHEAP_OK) {
            require_equal(fresh_word(heap, 3), 33);
            commit_word(heap, 4, megabytes, PHEAP_DURABLE);
            ok(pheap_close(heap));
        } else {
            expect(PHEAP_NO_MEMORY, status);
        }
    }
}

/* Catches: a reservation of address space that cannot be made smaller. */
static void limits__address_space(void **state)
{
    (void)state;
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
    print_message("skipped: sanitizers need the address space themselves\n");
    skip();
#endif
    const char *path = make_clean_heap("address-space");
    struct peer child = peer_start(open_in_little_address_space, path);
    peer_join(&child);
    expect_word(path, 3, 33);
}

int main(int argc, char **argv)
{
    choose_cases(argc, argv);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(open__what_is_not_there),
        cmocka_unit_test(open__what_is_not_a_heap),
        cmocka_unit_test(open__truncated_file),
        cmocka_unit_test(open__newer_version),
        cmocka_unit_test(open__other_byte_order),
        cmocka_unit_test(open__damaged_superblocks),
        cmocka_unit_test(recovery__needs_its_log),
        cmocka_unit_test(recovery__refuses_an_older_log),
        cmocka_unit_test(recovery__refuses_a_log_of_another_generation),
        cmocka_unit_test(recovery__refuses_damage_in_the_middle_of_the_log),
        cmocka_unit_test(readonly__file_and_directory),
        cmocka_unit_test(readonly__place_that_needs_recovery),
        cmocka_unit_test(readonly__handle),
        cmocka_unit_test(readonly__beside_a_writer),
        cmocka_unit_test(full__file_size_limit),
        cmocka_unit_test(full__small_tmpfs),
        cmocka_unit_test(full__small_ext4),
        cmocka_unit_test(names__with_spaces_and_other_scripts),
        cmocka_unit_test(names__too_long_for_the_files_beside),
        cmocka_unit_test(limits__low_descriptors_closed),
        cmocka_unit_test(limits__out_of_descriptors),
        cmocka_unit_test(limits__close_on_exec_and_mode),
        cmocka_unit_test(limits__address_space),
    };
    return cmocka_run_group_tests(tests, make_test_directory, remove_test_directory);
}
