/* SPDX-License-Identifier: MIT */
/*
 * Where an archive is restored to, what stands there already, what a backup is told and asked, and what disturbs it on
 * its way.
 */
#include "tests/backup_rig.h"
#include "tests/machine.h"

/* ----------------------------------------------------------------------------------------------------------- places */

static void crash_in_child(const struct peer *test, const char *path)
{
    pheap *heap = open_heap(path);
    for (unsigned i = 0; i < 5; i++) {
        require(transact(heap));
    }
    peer_tell(test, 'r');
    for (;;) {
        pause();
    }
}

/* Catches: an identity that a restored heap shares with the one that was backed up, or with another that was restored: the
 * log of one would be taken for that of the other. */
static void restore__gives_each_heap_an_identity(void **state)
{
    (void)state;
    const char *path = path_of("source", ""), *archive = path_of("source.archive", "");
    unsigned char identities[3][16];
    pheap *heap = create_heap(path);
    (void)make_root(heap, 8);
    memcpy(identities[0], heap_info(heap).identity, sizeof identities[0]);
    ok(pheap_backup(heap, archive, NULL, NULL));
    ok(pheap_close(heap));
    for (unsigned i = 1; i < 3; i++) {
        const char *copy = path_of(i == 1 ? "copy-1" : "copy-2", "");
        restore(archive, copy, 0);
        heap = open_heap(copy);
        memcpy(identities[i], heap_info(heap).identity, sizeof identities[i]);
        ok(pheap_close(heap));
        for (unsigned j = 0; j < i; j++) {
            require(memcmp(identities[i], identities[j], sizeof identities[i]) != 0);
        }
    }
}

/* Catches: something overwritten unasked, a heap replaced under its users, a log taken for that of another heap. */
static void restore__into_a_place_that_is_taken(void **state)
{
    (void)state;
    const char *path = path_of("place", ""), *archive = path_of("place.archive", ""), *other = path_of("other", "");
    const struct pheap_restore_options force = {.size = sizeof force, .flags = PHEAP_REPLACE};
    pheap *heap = create_model(path, 256u << 10);
    for (unsigned i = 0; i < 10; i++) {
        require(transact(heap));
    }
    ok(pheap_backup(heap, archive, NULL, NULL));
    expect(PHEAP_EXISTS, pheap_restore(archive, path, NULL, NULL));
    expect_detail(PHEAP_BUSY, "in use", pheap_restore(archive, path, &force, NULL)); /* by this process */
    struct peer child = peer_start(crash_in_child, path);
    peer_hear(&child, 'r');
    ok(pheap_close(heap));
    expect_detail(PHEAP_BUSY, "in use", pheap_restore(archive, path, &force, NULL)); /* by another */
    peer_kill(&child);                                                               /* with commits in the log */
    require(exists(path_of("place", "-wal")));
    restore(archive, path, PHEAP_REPLACE);
    require(!exists(path_of("place", "-wal")));
    require_equal(check_model(path), 10);

    /* What is no heap, or a damaged one, is not replaced. */
    write_at(other, 0, "something", 9);
    expect(PHEAP_NOT_HEAP, pheap_restore(archive, other, &force, NULL));
    expect(PHEAP_EXISTS, pheap_restore(archive, other, NULL, NULL));
    require_equal(file_size(other), 9);
    restore(archive, path_of("damaged", ""), 0);
    const uint64_t garbage[2] = {1, 2};
    write_at(path_of("damaged", ""), 64, garbage, sizeof garbage);
    write_at(path_of("damaged", ""), 4096 + 64, garbage, sizeof garbage);
    expect_detail(PHEAP_CORRUPT, "move it", pheap_restore(archive, path_of("damaged", ""), &force, NULL));

    /* The log of a heap that is gone. */
    write_at(path_of("stray", "-wal"), 0, "log", 3);
    expect_detail(PHEAP_LOG_FOREIGN, "stray-wal", pheap_restore(archive, path_of("stray", ""), NULL, NULL));
    require(!exists(path_of("stray", "")));

    /* A link is followed, not replaced. */
    require(symlink("place", path_of("link", "")) == 0);
    restore(archive, path_of("link", ""), PHEAP_REPLACE);
    struct stat info;
    require(lstat(path_of("link", ""), &info) == 0 && S_ISLNK(info.st_mode));
    require_equal(check_model(path), 10);
}

static void open_what_is_replaced(const struct peer *test, const char *path)
{
    pheap *heap;
    peer_hear(test, 'g');
    expect(PHEAP_REPLACED, pheap_open(path, 0, NULL, &heap));
    heap = open_heap(path);
    require_equal(fresh_word(heap, 0), 2);
    ok(pheap_close(heap));
    peer_tell(test, 'd');
}

/* Catches: a process that waited for a heap's lock, got it when the heap had been replaced, and shares the files beside
 * with the users of the new one. */
static void open__of_a_heap_that_is_being_replaced(void **state)
{
    (void)state;
    const char *names[] = {path_of("old", ""), path_of("newer", "")};
    for (uint64_t i = 0; i < 2; i++) {
        pheap *heap = create_heap(names[i]);
        (void)make_root(heap, 1);
        commit_word(heap, 0, i + 1, PHEAP_DURABLE);
        ok(pheap_close(heap));
    }
    /* The lock that a restore holds, of a descriptor that the child does not inherit. */
    struct peer child = peer_start(open_what_is_replaced, names[0]);
    struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = (off_t)1 << 62, .l_len = 1};
    const int file = open(names[0], O_RDWR | O_CLOEXEC);
    require(file >= 0 && fcntl(file, F_OFD_SETLK, &lock) == 0);
    peer_tell(&child, 'g');
    for (unsigned i = 0; run_command("ls -l /proc/%d/fd 2>/dev/null | grep -q '/old$'", (int)child.pid) != 0; i++) {
        require(i < PEER_PATIENCE_MS); /* the child has ended, or never comes to open it */
        pause_us(1000);
    }
    require(unlink(path_of("old", "-wal")) == 0 && rename(names[1], names[0]) == 0);
    close(file);
    peer_hear(&child, 'd');
    peer_join(&child);
}

static int stop_at_once(void *context, const struct pheap_transfer *now)
{
    (void)context;
    return now->content_bytes > 100000;
}

static int refuse(void *context, const void *bytes, size_t length)
{
    (void)bytes;
    size_t *room = context;
    if (length > *room) {
        return -1;
    }
    *room -= length;
    return 0;
}

static int64_t give_nonsense(void *context, void *bytes, size_t length)
{
    (void)bytes;
    return *(const bool *)context ? -1 : (int64_t)length + 1;
}

/* Catches: an argument that is not looked at, a backup or restore that leaves something when it is stopped. */
static void arguments__and_stopping(void **state)
{
    (void)state;
    const char *path = path_of("arguments", ""), *archive = path_of("arguments.archive", "");
    pheap *heap = create_model(path, 256u << 10);
    for (unsigned i = 0; i < 100; i++) {
        require(transact(heap));
    }
    struct pheap_backup_options options = {.size = sizeof options, .level = 100};
    struct pheap_restore_options how = {.size = sizeof how, .flags = 8};
    struct pheap_transfer none = {.size = 0};
    size_t room = 1000;
    expect_detail(PHEAP_INVALID, "level 100", pheap_backup(heap, archive, &options, NULL));
    options.level = -200000;
    expect_detail(PHEAP_INVALID, "level -200000", pheap_backup(heap, archive, &options, NULL));
    options = (struct pheap_backup_options){.size = sizeof options, .window_log = 9};
    expect_detail(PHEAP_INVALID, "2^9", pheap_backup(heap, archive, &options, NULL));
    options = (struct pheap_backup_options){.size = sizeof options, .window_log = 28};
    expect_detail(PHEAP_INVALID, "2^28", pheap_backup(heap, archive, &options, NULL));
    options = (struct pheap_backup_options){.size = sizeof options, .reserved = 1};
    expect(PHEAP_INVALID, pheap_backup(heap, archive, &options, NULL));
    options = (struct pheap_backup_options){.size = 0};
    expect(PHEAP_INVALID, pheap_backup(heap, archive, &options, NULL));
    expect(PHEAP_INVALID, pheap_backup(heap, archive, NULL, &none));
    none.size = 5000;
    expect(PHEAP_INVALID, pheap_backup(heap, archive, NULL, &none));
    options.size = 5000;
    expect_detail(PHEAP_INVALID, "5000", pheap_backup(heap, archive, &options, NULL));
    expect(PHEAP_INVALID, pheap_backup(NULL, archive, NULL, NULL));
    expect(PHEAP_INVALID, pheap_backup(heap, NULL, NULL, NULL));
    expect(PHEAP_INVALID, pheap_backup(heap, "", NULL, NULL));
    expect(PHEAP_INVALID, pheap_backup_to(NULL, NULL, NULL, NULL, NULL));
    expect(PHEAP_INVALID, pheap_backup_to(heap, NULL, NULL, NULL, NULL));
    expect(PHEAP_IO, pheap_backup_to(heap, refuse, &room, NULL, NULL));
    options = (struct pheap_backup_options){.size = sizeof options, .flags = PHEAP_REPLACE};
    expect_detail(PHEAP_INVALID, "heap itself", pheap_backup(heap, path, &options, NULL));
    expect_detail(PHEAP_EXISTS, "exists", pheap_backup(heap, test_directory, &options, NULL));
    /* An archive in the place of the log would be the end of the heap. */
    static const char *const beside[] = {"-wal", "-shm", "-sum", "-new"};
    for (size_t i = 0; i < sizeof beside / sizeof beside[0]; i++) {
        expect_detail(PHEAP_INVALID, beside[i], pheap_backup(heap, path_of("arguments", beside[i]), &options, NULL));
    }
    options.progress = stop_at_once;
    expect(PHEAP_BUSY, pheap_backup(heap, archive, &options, NULL));
    expect(PHEAP_NOT_FOUND, pheap_backup(heap, path_of("nowhere/archive", ""), NULL, NULL));
    require(none_of("arguments.archive"));
    ok(pheap_backup(heap, archive, NULL, NULL));
    expect(PHEAP_EXISTS, pheap_backup(heap, archive, NULL, NULL));

    expect(PHEAP_INVALID, pheap_restore(archive, path_of("made", ""), &how, NULL));
    expect(PHEAP_INVALID, pheap_restore(NULL, path_of("made", ""), &how, NULL));
    expect(PHEAP_INVALID, pheap_restore_from(NULL, NULL, path_of("made", ""), &how, NULL));
    how = (struct pheap_restore_options){.size = sizeof how, .progress = stop_at_once};
    expect(PHEAP_BUSY, pheap_restore(archive, path_of("made", ""), &how, NULL));
    expect(PHEAP_BUSY, pheap_restore(archive, NULL, &how, NULL));
    expect(PHEAP_INVALID, pheap_restore(NULL, path_of("made", ""), NULL, NULL));
    expect(PHEAP_INVALID, pheap_restore("", path_of("made", ""), NULL, NULL));
    expect(PHEAP_INVALID, pheap_restore(archive, "", NULL, NULL));
    for (size_t i = 0; i < sizeof beside / sizeof beside[0]; i++) { /* nor is the archive emptied to make the heap */
        require(rename(archive, path_of("made", beside[i])) == 0);
        how = (struct pheap_restore_options){.size = sizeof how, .flags = PHEAP_REPLACE};
        const enum pheap_status status = pheap_restore(path_of("made", beside[i]), path_of("made", ""), &how, NULL);
        require(status == PHEAP_INVALID || status == PHEAP_LOG_FOREIGN);
        require(!exists(path_of("made", "")) && rename(path_of("made", beside[i]), archive) == 0);
        ok(pheap_restore(archive, NULL, NULL, NULL));
    }
    expect(PHEAP_INVALID, pheap_restore_from(NULL, NULL, path_of("made", ""), NULL, NULL));
    for (unsigned stops = 0; stops < 2; stops++) {
        bool stop = stops != 0;
        expect_detail(PHEAP_IO, "function", pheap_restore_from(give_nonsense, &stop, path_of("made", ""), NULL, NULL));
    }
    expect(PHEAP_NOT_FOUND, pheap_restore(path_of("missing", ""), path_of("made", ""), NULL, NULL));
    expect(PHEAP_NOT_HEAP, pheap_restore(path, path_of("made", ""), NULL, NULL));
    expect(PHEAP_NOT_HEAP, pheap_restore(test_directory, path_of("made", ""), NULL, NULL));
    require(none_of("made"));
    ok(pheap_close(heap));
}

/* ------------------------------------------------------------------------------------------------------- disturbances */

#define ARCHIVE "d/archive"
#define COPY "d/copy"
#define SPREAD (1u << 16) /* words: two pieces and more */

/* A heap of which commit `version` has the same number in every page of the root. */
struct disturbed {
    struct ph_sim *sim;
    pheap *heap;
    unsigned calls;   /* of the watcher */
    unsigned stop_at; /* the call that stops the backup, 0: none */
    unsigned grown;
};

static void commit_next(pheap *heap, enum pheap_durability how)
{
    commit_spread(heap, SPREAD, heap_info(heap).version + 1, how);
}

static pheap *open_spread(const ph_io *io, unsigned flags)
{
    const struct pheap_options options = small_options();
    pheap *heap;
    ok((enum pheap_status)ph_open_io(io, HEAP, flags, &options, &heap));
    return heap;
}

/* A page of the file is zero between others: one that was written, and a hole. */
static pheap *create_spread(const ph_io *io)
{
    uint64_t block;
    pheap *heap = open_spread(io, PHEAP_CREATE);
    (void)make_root(heap, SPREAD);
    pheap_txn *txn = begin(heap);
    ok(pheap_zalloc(txn, 1u << 20, &block));
    ok(pheap_fill(txn, block, 'x', 3 * 4096));
    ok(pheap_commit(txn, PHEAP_DURABLE, NULL));
    ok(pheap_fold(heap));
    txn = begin(heap);
    ok(pheap_fill(txn, block + 4096, 0, 4096));
    ok(pheap_commit(txn, PHEAP_DURABLE, NULL));
    commit_next(heap, PHEAP_DURABLE);
    ok(pheap_fold(heap));
    return heap;
}

/* Between two pieces others commit more than the buffer keeps, fold, and at times let the heap grow. */
static int commit_meanwhile(void *context, const struct pheap_transfer *now)
{
    struct disturbed *disturbed = context;
    (void)now;
    ph_sim_fail_pause(disturbed->sim, true);
    commit_next(disturbed->heap, PHEAP_LAZY);
    commit_next(disturbed->heap, PHEAP_LAZY);
    if (disturbed->calls++ % 2 == 0)
        ok(pheap_fold(disturbed->heap));
    if (disturbed->grown < 3) {
        uint64_t block;
        disturbed->grown++;
        pheap_txn *txn = begin(disturbed->heap);
        ok(pheap_zalloc(txn, 1u << 20, &block));
        ok(pheap_fill(txn, block, 'g', 64));
        for (uint64_t i = 0; i < SPREAD; i += PH_PAGE_BYTES / 8)
            put_word(txn, i, heap_info(disturbed->heap).version + 1 + i);
        ok(pheap_commit(txn, PHEAP_DURABLE, NULL));
        ok(pheap_fold(disturbed->heap));
    }
    commit_next(disturbed->heap, PHEAP_LAZY); /* for the end to flush */
    ph_sim_fail_pause(disturbed->sim, false);
    return disturbed->calls == disturbed->stop_at;
}

static enum pheap_status back_up(struct disturbed *disturbed, struct pheap_transfer *result)
{
    const struct pheap_backup_options how = {
        .size = sizeof how, .flags = PHEAP_REPLACE, .level = -5, .progress = commit_meanwhile, .context = disturbed};
    *result = (struct pheap_transfer){.size = sizeof *result};
    disturbed->calls = 0;
    return pheap_backup(disturbed->heap, ARCHIVE, &how, result);
}

static void require_no_hold(pheap *heap)
{
    require_equal(atomic_load(&heap->core->coord->seats[heap->core->store.seat].hold), 0);
}

/* The archive makes a sound heap, which is one commit and no mixture; at least that one. */
static void check_archive(struct machine *machine, uint64_t version)
{
    const struct pheap_restore_options how = {.size = sizeof how, .flags = PHEAP_REPLACE};
    const struct pheap_options options = small_options();
    pheap *copy;
    ok((enum pheap_status)ph_restore_io(machine->first, ARCHIVE, COPY, &how, NULL));
    ok((enum pheap_status)ph_open_io(machine->first, COPY, 0, &options, &copy));
    require(heap_info(copy).version >= version);
    require_spread(copy, SPREAD, heap_info(copy).version);
    check_sound(copy);
    ok(pheap_close(copy));
}

/*
 * Others commit, fold and let the heap grow between any two pieces, and each call fails in turn.  Catches: a failure that is
 * passed over while the backup follows the log or ends, an archive that is a mixture of commits, a hold that stays.
 */
static void backup__of_a_busy_heap_when_any_call_fails(void **state)
{
    (void)state;
    static const struct {
        unsigned ops;
        int error;
    } faults[] = {{PH_SIM_ANY & ~(unsigned)PH_SIM_UNLINK, EIO}, {PH_SIM_WRITE, ENOSPC}};
    struct machine machine;
    struct pheap_transfer result;
    unsigned struck[2] = {0};
    machine_begin(&machine, NULL);
    struct disturbed disturbed = {.sim = machine.sim, .heap = create_spread(machine.first)};
    for (size_t i = 0; i < sizeof faults / sizeof faults[0]; i++)
        for (uint64_t nth = 1;; nth++) {
            const uint64_t before = heap_info(disturbed.heap).version;
            commit_next(disturbed.heap, PHEAP_LAZY);
            ph_sim_fail_at(machine.sim, faults[i].ops, nth, faults[i].error, PH_SIM_ONCE);
            const enum pheap_status status = back_up(&disturbed, &result);
            const bool over = ph_sim_struck(machine.sim) == 0;
            ph_sim_fail_clear(machine.sim);
            require(!over || status == PHEAP_OK);
            require_no_hold(disturbed.heap);
            if (status == PHEAP_OK) {
                require(result.version > before);
                if (over || nth % 8 == 0)
                    check_archive(&machine, result.version);
            }
            struck[i] += status != PHEAP_OK;
            if (heap_info(disturbed.heap).poisoned != 0) {
                expect(PHEAP_POISONED, pheap_close(disturbed.heap));
                disturbed.heap = open_spread(machine.first, 0);
            }
            if (over)
                break;
        }
    print_message("%u and %u faults\n", struck[0], struck[1]);
    require(struck[0] > 10 && struck[1] > 2);
    for (disturbed.stop_at = 1;; disturbed.stop_at++) { /* the watcher stops it at each of its calls */
        const enum pheap_status status = back_up(&disturbed, &result);
        require_no_hold(disturbed.heap);
        if (status == PHEAP_OK)
            break;
        expect(PHEAP_BUSY, status);
    }
    require(disturbed.stop_at > 5);
    check_archive(&machine, result.version);
    ok(pheap_close(disturbed.heap));
    machine_end(&machine);
}

static const ph_io *real_io;
static void (*between)(pheap *); /* done when the backup has read the fold mark, and does not hold it yet */
static pheap *other_heap;

static uint64_t clock_and_more(void *ctx, enum ph_clock clock)
{
    void (*act)(pheap *) = clock == PH_CLOCK_REALTIME ? between : NULL;
    if (act != NULL) {
        between = NULL;
        act(other_heap);
    }
    return real_io->clock_ns(ctx, clock);
}

static void checkpoint_and_recycle(pheap *heap)
{
    for (unsigned i = 0; i < 40; i++)
        commit_next(heap, PHEAP_DURABLE);
    ok(pheap_checkpoint(heap));
    for (unsigned i = 0; i < 40; i++)
        commit_next(heap, PHEAP_DURABLE);
}

/* Both copies of the fold mark fit no longer; done twice they are whole again. */
static void turn_fold_mark(pheap *heap)
{
    for (unsigned i = 0; i < 2; i++)
        heap->core->coord->fold_marks[i].lsn ^= UINT64_C(1) << 62;
}

static void checkpoint_and_rot(pheap *heap)
{
    checkpoint_and_recycle(heap);
    turn_fold_mark(heap);
}

/* As another process that begins an epoch has it half-way. */
static void begin_an_epoch(pheap *heap)
{
    heap->core->coord->checkpoint.segment++;
}

/* Catches: a hold on segments that a checkpoint has freed meanwhile, so that others write over the records to go out; a
 * backup that waits for ever for somebody who is about to begin an epoch; a mark that rots and is believed. */
static void hold__is_taken_while_others_checkpoint(void **state)
{
    (void)state;
    struct machine machine;
    struct pheap_transfer result;
    machine_begin(&machine, NULL);
    real_io = machine.first;
    machine.second.clock_ns = clock_and_more;
    other_heap = create_spread(machine.first);
    struct disturbed disturbed = {.sim = machine.sim, .heap = open_spread(&machine.second, 0)};

    uint64_t version = heap_info(other_heap).version;
    between = checkpoint_and_recycle;
    ok(back_up(&disturbed, &result));
    require(between == NULL && result.version > version + 80);
    check_archive(&machine, result.version);

    between = checkpoint_and_rot;
    expect_detail(PHEAP_CORRUPT, "marks in the coordination file", back_up(&disturbed, &result));
    require(between == NULL);
    require_no_hold(disturbed.heap);
    turn_fold_mark(other_heap);
    check_archive(&machine, version + 80); /* the one before is still there */

    ok(pheap_checkpoint(other_heap));
    struct pheap_backup_options quiet = {.size = sizeof quiet, .flags = PHEAP_REPLACE};
    version = heap_info(other_heap).version;
    between = begin_an_epoch;
    ok(pheap_backup(disturbed.heap, ARCHIVE, &quiet, &result));
    require(between == NULL && result.version == version);
    other_heap->core->coord->checkpoint.segment--;
    check_archive(&machine, version);
    machine_close(&machine, disturbed.heap, other_heap);
}

/* Nothing of the heap may be written. */
static int open_to_read(void *ctx, const char *path, unsigned flags, uint32_t mode)
{
    const bool of_heap = strncmp(path, HEAP, strlen(HEAP)) == 0;
    return of_heap && (flags & PH_OPEN_WRITE) != 0 ? -EACCES : real_io->open(ctx, path, flags, mode);
}

struct nested {
    pheap *worker; /* who commits */
    pheap *next;   /* of which another backup is made in the middle of this one; NULL: none */
    bool done;
};

static int back_up_within(void *context, const struct pheap_transfer *now)
{
    struct nested *nested = context;
    (void)now;
    if (nested->done)
        return 0;
    nested->done = true;
    for (unsigned i = 0; i < 12; i++)
        commit_next(nested->worker, PHEAP_DURABLE);
    ok(pheap_checkpoint(nested->worker));
    if (nested->next != NULL) {
        struct nested inner = {.worker = nested->worker};
        const struct pheap_backup_options how = {
            .size = sizeof how, .flags = PHEAP_REPLACE, .progress = back_up_within, .context = &inner};
        ok(pheap_backup(nested->next, "d/inner", &how, NULL));
    }
    return 0;
}

/* Catches: a checkpoint that frees what the older of two backups holds, whichever process makes it; a heap
 * that cannot be backed up by who may only read it. */
static void backup__by_two_processes_at_once(void **state)
{
    (void)state;
    struct machine machine;
    struct pheap_transfer result = {.size = sizeof result};
    machine_begin(&machine, NULL);
    pheap *writer = create_spread(machine.first), *reader = open_spread(&machine.second, PHEAP_READONLY);
    for (unsigned turn = 0; turn < 2; turn++) {
        struct nested outer = {.worker = writer, .next = turn == 0 ? reader : writer};
        const struct pheap_backup_options how = {
            .size = sizeof how, .flags = PHEAP_REPLACE, .progress = back_up_within, .context = &outer};
        const uint64_t version = heap_info(writer).version;
        ok(pheap_backup(turn == 0 ? writer : reader, ARCHIVE, &how, &result));
        require(result.version == version + 24);
        check_archive(&machine, version + 24);
        require_no_hold(writer);
        require_no_hold(reader);
    }
    ok(pheap_close(reader));
    ok(pheap_close(writer));
    real_io = machine.first;
    machine.second.open = open_to_read;
    reader = open_spread(&machine.second, PHEAP_READONLY);
    const struct pheap_backup_options how = {.size = sizeof how, .flags = PHEAP_REPLACE};
    (void)ph_sim_remove(machine.sim, ARCHIVE);
    ok(pheap_backup(reader, ARCHIVE, &how, &result));
    check_archive(&machine, result.version);
    ok(pheap_close(reader));
    machine_end(&machine);
}

static void turn_log(struct ph_sim *sim, uint64_t from_lsn)
{
    const int64_t size = ph_sim_size(sim, LOG);
    for (int64_t at = PH_LOG_SEGMENTS; at + 512 <= size; at += 512) {
        struct ph_batch_header batch;
        require_equal(ph_sim_peek(sim, LOG, &batch, sizeof batch, (uint64_t)at), sizeof batch);
        if (batch.magic != PH_BATCH_MAGIC || batch.lsn < from_lsn)
            continue;
        batch.heap_id ^= 1;
        require_equal(ph_sim_poke(sim, LOG, &batch, sizeof batch, (uint64_t)at), sizeof batch);
    }
}

struct rotting {
    struct ph_sim *sim;
    pheap *heap;
    uint64_t lsn;
    bool folds;
};

/* After the first piece: more than the buffer keeps is committed, and then the log rots; or some of it was folded. */
static int rot_log_once(void *context, const struct pheap_transfer *now)
{
    struct rotting *rotting = context;
    (void)now;
    if (rotting->lsn != 0)
        return 0;
    rotting->lsn = heap_info(rotting->heap).committed_lsn;
    for (unsigned i = 0; i < 16; i++)
        commit_next(rotting->heap, PHEAP_DURABLE);
    if (rotting->folds)
        ok(pheap_fold(rotting->heap));
    turn_log(rotting->sim, rotting->lsn);
    return 0;
}

/* Catches: an archive of a state that never was, because records that it needs were not there and nobody said so. */
static void backup__of_a_log_that_rots(void **state)
{
    (void)state;
    struct machine machine;
    struct pheap_transfer result = {.size = sizeof result};
    machine_begin(&machine, NULL);
    pheap *heap = create_spread(machine.first);
    for (unsigned i = 0; i < 2; i++) {
        struct rotting rotting = {.sim = machine.sim, .heap = heap, .folds = i == 1};
        struct pheap_backup_options how = {
            .size = sizeof how, .flags = PHEAP_REPLACE, .progress = rot_log_once, .context = &rotting};
        expect_detail(PHEAP_CORRUPT, "log was damaged", pheap_backup(heap, ARCHIVE, &how, NULL));
        require_no_hold(heap);
        require(ph_sim_size(machine.sim, ARCHIVE) < 0);
        turn_log(machine.sim, rotting.lsn);
    }
    ok(pheap_backup(heap, ARCHIVE, NULL, &result));
    check_archive(&machine, result.version);
    ok(pheap_close(heap));
    machine_end(&machine);
}

int main(int argc, char **argv)
{
    choose_cases(argc, argv);
    seed = choose_seed();
    shared = shared_memory(sizeof *shared);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(restore__gives_each_heap_an_identity, forget_the_past),
        cmocka_unit_test_setup(restore__into_a_place_that_is_taken, forget_the_past),
        cmocka_unit_test_setup(open__of_a_heap_that_is_being_replaced, forget_the_past),
        cmocka_unit_test_setup(arguments__and_stopping, forget_the_past),
        cmocka_unit_test(backup__of_a_busy_heap_when_any_call_fails),
        cmocka_unit_test(hold__is_taken_while_others_checkpoint),
        cmocka_unit_test(backup__by_two_processes_at_once),
        cmocka_unit_test(backup__of_a_log_that_rots),
    };
    return cmocka_run_group_tests(tests, make_test_directory, remove_test_directory);
}
