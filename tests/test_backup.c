/* SPDX-License-Identifier: MIT */
/* Backup of real files, while threads and processes write, stall and are killed. */
#include "tests/backup_rig.h"

#include <pthread.h>

#define KILLS 120u

/* ------------------------------------------------------------------------------------------------ states of the source */

/* Catches: a state of the heap in which a backup misses something, or a restored heap that is not the same. */
static void backup__of_a_heap_in_any_state(void **state)
{
    (void)state;
    static const char *const states[] = {"written to", "folded", "checkpointed", "with a reader", "read-only", "idle"};
    for (unsigned i = 0; i < sizeof states / sizeof states[0]; i++) {
        const char *path = path_of("state", ""), *archive = path_of("state.archive", ""), *copy = path_of("copy", "");
        pheap *heap = create_model(path, 256u << 10);
        pheap_read *reader = i == 3 ? read_begin(heap, 0) : NULL;
        for (unsigned j = 0; j < (i == 3 ? 3 : 60); j++) {
            require(transact(heap));
        }
        if (i == 1) {
            ok(pheap_fold(heap));
        } else if (i == 2) {
            ok(pheap_checkpoint(heap));
        } else if (i >= 4) {
            ok(pheap_close(heap));
            ok(pheap_open(path, i == 4 ? PHEAP_READONLY : 0, NULL, &heap));
        }
        const struct pheap_info info = heap_info(heap);
        struct pheap_transfer made = {.size = sizeof made}, read = {.size = sizeof read};
        ok(pheap_backup(heap, archive, NULL, &made));
        pheap_read_end(reader);
        require_equal(made.version, info.version);
        require_equal(made.heap_bytes, info.heap_bytes);
        require_equal(made.archive_bytes, file_size(archive));
        ok(pheap_restore(archive, copy, NULL, &read));
        require(read.version == made.version && read.heap_bytes == made.heap_bytes &&
                read.archive_bytes == made.archive_bytes && read.content_bytes == made.content_bytes);
        ok(pheap_close(heap));
        require(!exists(path_of("copy", "-wal")) && !exists(path_of("copy", "-new")));
        /* Closed cleanly, both are the same from the end of the superblocks on. */
        require(run_command("cmp -i 8192 '%s' '%s'", path, copy) == 0);
        require_equal(check_model(copy), i == 3 ? 3 : 60);
        heap = open_heap(copy);
        const struct pheap_info other = heap_info(heap);
        require(memcmp(info.identity, other.identity, sizeof info.identity) != 0);
        require_equal(other.log_limit_bytes, info.log_limit_bytes);
        require_equal(other.recovered, 0);
        require(transact(heap)); /* and it goes on */
        ok(pheap_close(heap));
        require_equal(check_model(copy), i == 3 ? 4 : 61);
        remove_heap(path);
        remove_heap(copy);
        require(unlink(archive) == 0);
        shared->started = shared->acknowledged = 0;
    }
}

/* Catches: holes that are filled, in the archive or in the heap that is made of it. */
static void backup__keeps_holes(void **state)
{
    (void)state;
    const uint64_t length = UINT64_C(3) << 30;
    const char *path = path_of("sparse", ""), *archive = path_of("sparse.archive", ""), *copy = path_of("copy", "");
    pheap *heap = create_heap(path);
    uint64_t block;
    pheap_txn *txn = begin(heap);
    expect(PHEAP_RESERVE, pheap_zalloc(txn, length, &block));
    ok(pheap_abort(txn));
    ok(pheap_close(heap));
    const struct pheap_options options = {.size = sizeof options, .reserve_bytes = UINT64_C(8) << 30};
    ok(pheap_open(path, 0, &options, &heap));
    txn = begin(heap);
    ok(pheap_zalloc(txn, length, &block));
    ok(pheap_set_root(txn, block));
    ok(pheap_fill(txn, block + length / 2, 7, 5000));
    ok(pheap_fill(txn, block + length / 3, 0, 50000)); /* zeros that may take space in the source */
    ok(pheap_commit(txn, PHEAP_DURABLE, NULL));
    ok(pheap_checkpoint(heap));
    const struct pheap_info info = heap_info(heap);
    ok(pheap_backup(heap, archive, NULL, NULL));
    ok(pheap_close(heap));
    require(file_size(archive) < 65536);
    restore(archive, copy, 0);
    struct stat made;
    require(stat(copy, &made) == 0);
    require_equal(made.st_size, info.heap_bytes);
    require((uint64_t)made.st_blocks * 512 <= info.disk_bytes + 65536);
    require(run_command("cmp -i 8192 '%s' '%s'", path, copy) == 0);
    remove_heap(copy);
}

/* --------------------------------------------------------------------------------------------------- under writers */

static void *write_in_thread(void *heap)
{
    while (!atomic_load(&shared->stop)) {
        (void)transact(heap);
    }
    return NULL;
}

static void write_in_child(const struct peer *test, const char *path)
{
    pheap *heap = open_heap(path);
    peer_tell(test, 'r');
    for (uint64_t i = 0; !atomic_load(&shared->stop); i++) {
        (void)transact(heap);
        if (i % 50 == 0) {
            ok(pheap_fold(heap));
        } else if (i % 80 == 0) {
            ok(pheap_checkpoint(heap));
        }
    }
    ok(pheap_close(heap));
}

/* Wait for `count` commits, or until the log is full. */
static void let_others_commit(uint64_t count)
{
    const uint64_t until = atomic_load(&shared->acknowledged) + count, full = atomic_load(&shared->log_full);
    while (atomic_load(&shared->acknowledged) < until && atomic_load(&shared->log_full) == full) {
        pause_us(100);
    }
}

/* An archive that is written to slowly, so that much is folded meanwhile; here while records go out, too. */
static int slow_sink(void *file, const void *bytes, size_t length)
{
    let_others_commit(mix(length, 1) % 3 == 0);
    return fwrite(bytes, 1, length, file) == length ? 0 : -1;
}

/* Here between two pieces. */
static int slow_progress(void *context, const struct pheap_transfer *now)
{
    (void)context;
    let_others_commit(mix(now->content_bytes, 2) % 5);
    return 0;
}

static int64_t read_source(void *file, void *bytes, size_t length)
{
    const size_t got = fread(bytes, 1, length, file);
    return ferror(file) ? -1 : (int64_t)got;
}

static void back_up_under_writers(uint64_t log_limit_bytes, bool must_recycle)
{
    const char *path = path_of("busy", ""), *archive = path_of("busy.archive", ""), *copy = path_of("copy", "");
    pheap *heap = create_model(path, log_limit_bytes);
    pthread_t threads[2];
    unsigned recycled = 0, moved = 0, number = 0;
    struct peer child = peer_start(write_in_child, path);
    peer_hear(&child, 'r');
    for (unsigned i = 0; i < 2; i++) {
        require(pthread_create(&threads[i], NULL, write_in_thread, heap) == 0);
    }
    /* More of them where too little was committed meanwhile to prove anything. */
    for (; number < 10 || (number < 100 && (moved == 0 || (must_recycle && recycled == 0))); number++) {
        const struct pheap_info before = heap_info(heap);
        const uint64_t least = atomic_load(&shared->acknowledged);
        struct pheap_backup_options options = {.size = sizeof options, .level = number % 2 == 0 ? 1 : 0};
        struct pheap_transfer made = {.size = sizeof made};
        options.window_log = number % 3 == 0 ? 20 : 0;
        if (number % 2 == 0) {
            FILE *file = fopen(archive, "w");
            options.progress = slow_progress;
            ok(pheap_backup_to(heap, slow_sink, file, &options, &made));
            require(fclose(file) == 0);
        } else {
            options.flags = PHEAP_REPLACE;
            ok(pheap_backup(heap, archive, &options, &made));
        }
        const uint64_t most = atomic_load(&shared->started);
        const struct pheap_info after = heap_info(heap);
        recycled += after.checkpoint_lsn - before.committed_lsn < UINT64_MAX / 2 &&
                    after.checkpoint_lsn - before.committed_lsn > before.log_limit_bytes;
        FILE *file = fopen(archive, "r");
        ok(pheap_restore_from(read_source, file, copy, NULL, NULL));
        (void)fclose(file);
        const uint64_t k = check_model(copy);
        require_equal(made.version, base_version + k);
        require(least <= k && k <= most);
        moved += k > least + 20;
        remove_heap(copy);
    }
    atomic_store(&shared->stop, true);
    for (unsigned i = 0; i < 2; i++) {
        require(pthread_join(threads[i], NULL) == 0);
    }
    peer_join(&child);
    print_message("%llu transactions, %u of %u backups while the log was recycled, log full %llu times\n",
                  (unsigned long long)shared->acknowledged, recycled, number, (unsigned long long)shared->log_full);
    require((recycled > 0 || !must_recycle) && moved > 0);
    ok(pheap_close(heap));
    atomic_store(&shared->stop, false);
    require_equal(check_model(path), shared->acknowledged);
    remove_heap(path);
    require(unlink(archive) == 0);
}

/*
 * Catches: a piece of the file that is newer than what follows, a record that is left out, one that goes out too early,
 * a hold that does not hold, and one that holds writers up.  With the smallest log, all of it is recycled many times
 * during one backup.
 */
static void backup__under_writers_with_the_smallest_log(void **state)
{
    (void)state;
    back_up_under_writers(256u << 10, true);
}

/* The same with room, so that far more is committed than folded. */
static void backup__under_writers_with_a_larger_log(void **state)
{
    (void)state;
    back_up_under_writers(4u << 20, false);
}

/* ----------------------------------------------------------------------------------------------------- the log's hold */

struct stall {
    pheap *heap;
    uint64_t full_at; /* commits after which the log was full */
    bool stalled;
};

/* While the backup waits in here, the log fills. */
static int stalling_sink(void *context, const void *bytes, size_t length)
{
    struct stall *stall = context;
    (void)bytes;
    (void)length;
    if (stall->stalled) {
        return 0;
    }
    stall->stalled = true;
    const struct pheap_info begun = heap_info(stall->heap);
    require_equal(begun.folded_lsn, begun.committed_lsn);
    const uint64_t before = atomic_load(&shared->acknowledged);
    while (transact(stall->heap)) {
        ok(pheap_fold(stall->heap));
        require_equal(heap_info(stall->heap).folded_lsn, heap_info(stall->heap).committed_lsn);
    }
    char detail[1024];
    (void)snprintf(detail, sizeof detail, "%s", pheap_error_detail());
    struct pheap_user user = {.size = sizeof user};
    ok(pheap_next_user(stall->heap, 0, &user));
    require(user.self != 0 && user.backup_ns != 0);
    char process[32];
    (void)snprintf(process, sizeof process, "process %d", (int)getpid());
    require(strstr(detail, "backup") != NULL && strstr(detail, process) != NULL);
    stall->full_at = atomic_load(&shared->acknowledged) - before;
    struct pheap_transfer made = {.size = sizeof made};
    expect(PHEAP_BUSY, pheap_backup_to(stall->heap, stalling_sink, stall, NULL, &made));
    return 0;
}

/*
 * Catches: a backup that holds folding, one that holds more of the log than it must, a hold that is not honoured, a log
 * that is full without a word about the backup, writers that do not go on when it has ended.
 */
static void hold__stalled_backup_fills_the_log_and_is_named(void **state)
{
    (void)state;
    const char *path = path_of("stalled", "");
    struct stall stall = {.heap = create_model(path, 256u << 10)};
    for (unsigned i = 0; i < 40; i++) {
        require(transact(stall.heap));
    }
    struct pheap_transfer made = {.size = sizeof made};
    ok(pheap_backup_to(stall.heap, stalling_sink, &stall, NULL, &made));
    require(stall.full_at > 5); /* of 27 KB at most, in the three segments that are not held */
    struct pheap_user user = {.size = sizeof user};
    ok(pheap_next_user(stall.heap, 0, &user));
    require_equal(user.backup_ns, 0);
    require_equal(made.version, base_version + atomic_load(&shared->acknowledged));
    for (uint64_t i = 0; i < 3 * stall.full_at; i++) {
        require(transact(stall.heap));
    }
    ok(pheap_close(stall.heap));
    require_equal(check_model(path), shared->acknowledged);
}

__attribute__((noreturn)) static int waiting_sink(void *context, const void *bytes, size_t length)
{
    const struct peer *test = context;
    (void)bytes;
    (void)length;
    peer_tell(test, 's');
    for (;;) {
        pause();
    }
}

static void stall_in_child(const struct peer *test, const char *path)
{
    pheap *heap = open_heap(path);
    const enum pheap_status status = pheap_backup_to(heap, waiting_sink, (void *)(uintptr_t)test, NULL, NULL);
    (void)status; /* it is killed in there */
}

/* Catches: the hold of a process that was killed in a backup. */
static void hold__of_a_dead_backup_is_dropped(void **state)
{
    (void)state;
    const char *path = path_of("dead", "");
    pheap *heap = create_model(path, 256u << 10);
    require(transact(heap));
    struct peer child = peer_start(stall_in_child, path);
    peer_hear(&child, 's');
    uint64_t room = 0;
    while (transact(heap)) {
        room++;
    }
    char process[32];
    (void)snprintf(process, sizeof process, "process %d", (int)child.pid);
    require(strstr(pheap_error_detail(), process) != NULL);
    peer_kill(&child);
    for (uint64_t i = 0; i < 3 * room + 10; i++) {
        require(transact(heap));
    }
    ok(pheap_close(heap));
}

static void stay_open(const struct peer *test, const char *path)
{
    pheap *heap = open_heap(path);
    peer_tell(test, 'o');
    peer_hear(test, 'x');
    ok(pheap_close(heap));
}

/* Catches: a process that inherits, with its seat, the hold of a backup that was killed there, and keeps it while it
 * lives. */
static void hold__of_a_dead_backup_is_not_inherited(void **state)
{
    (void)state;
    const char *path = path_of("heir", "");
    pheap *heap = create_model(path, 256u << 10);
    require(transact(heap));
    struct peer child = peer_start(stall_in_child, path);
    peer_hear(&child, 's');
    peer_kill(&child);
    struct peer heir = peer_start(stay_open, path); /* before anybody has looked whether the child lives */
    peer_hear(&heir, 'o');
    for (uint64_t i = 0; i < 200; i++) { /* many times what fills the log */
        require(transact(heap));
    }
    peer_tell(&heir, 'x');
    peer_join(&heir);
    ok(pheap_close(heap));
}

/* ------------------------------------------------------------------------------------------------------------- kills */

static uint64_t now_us(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000 + (uint64_t)now.tv_nsec / 1000;
}

/* Sleep at random for up to three times as long as something took here, so that kills fall everywhere in it. */
static void sleep_within(uint64_t took_us, uint64_t random)
{
    pause_us(random % (3 * took_us + 1));
}

static void backup_in_child(const struct peer *test, const char *path)
{
    pheap *heap = open_heap(path);
    const struct pheap_backup_options options = {.size = sizeof options, .flags = PHEAP_REPLACE};
    peer_tell(test, 'r');
    for (bool first = true;; first = false) {
        (void)transact(heap);
        ok(pheap_backup(heap, path_of("killed.archive", ""), &options, NULL));
        if (first) {
            peer_tell(test, 'b');
        }
    }
}

/* Catches: half an archive under its name after kill -9, a heap that suffers. */
static void kill__backup_leaves_a_whole_archive_or_none(void **state)
{
    (void)state;
    const char *path = path_of("killed", ""), *archive = path_of("killed.archive", "");
    pheap *heap = create_model(path, 256u << 10);
    const uint64_t began = now_us();
    ok(pheap_backup(heap, archive, NULL, NULL));
    const uint64_t took = now_us() - began;
    require(unlink(archive) == 0);
    ok(pheap_close(heap));
    unsigned whole = 0;
    for (unsigned i = 0; i < KILLS; i++) {
        struct peer child = peer_start(backup_in_child, path);
        peer_hear(&child, 'r');
        if (i % 4 == 0) {
            peer_hear(&child, 'b'); /* else there might be none where `took` is less than it takes now */
        }
        sleep_within(took, mix(i, 2));
        peer_kill(&child);
        if (exists(archive)) {
            whole++;
            ok(pheap_restore(archive, NULL, NULL, NULL));
        }
        if (i % 7 == 0) {
            require(!exists(archive) || unlink(archive) == 0);
        }
    }
    print_message("%u of %u kills left an archive\n", whole, KILLS);
    require(whole > 0);
    (void)check_model(path);
}

static void restore_in_child(const struct peer *test, const char *path)
{
    const struct pheap_restore_options options = {.size = sizeof options, .flags = PHEAP_REPLACE};
    pheap *heap;
    peer_tell(test, 'r');
    for (bool first = true;; first = false) {
        ok(pheap_restore(path_of("two.archive", ""), path, &options, NULL));
        if (first) {
            peer_tell(test, 'n');
            peer_hear(test, 'g');
        }
        heap = open_heap(path);
        require(transact(heap)); /* a log, so that there is one to be removed */
        ok(pheap_close(heap));
        if (first) {
            peer_tell(test, 'c');
            peer_hear(test, 'g');
        }
    }
}

/* Catches: a heap that is neither the old one nor the new one after kill -9 at any moment of a replacement. */
static void kill__restore_leaves_the_old_heap_or_the_new(void **state)
{
    (void)state;
    const char *path = path_of("victim", ""), *archive = path_of("two.archive", "");
    pheap *heap = create_model(path, 256u << 10);
    for (unsigned i = 0; i < 20; i++) {
        require(transact(heap));
    }
    ok(pheap_backup(heap, archive, NULL, NULL));
    ok(pheap_close(heap));
    const uint64_t began = now_us();
    restore(archive, path, PHEAP_REPLACE);
    const uint64_t took = now_us() - began;
    uint64_t seen[2] = {0};
    for (unsigned i = 0; i < KILLS; i++) {
        /* Killed in the first restore, after it, or after the commit: then and there, or some time after that. */
        const unsigned halves = i % 3;
        struct peer child = peer_start(restore_in_child, path);
        peer_hear(&child, 'r');
        if (halves >= 1) {
            peer_hear(&child, 'n');
        }
        if (halves == 2) {
            peer_tell(&child, 'g');
            peer_hear(&child, 'c');
        }
        if (halves == 0 || i / 3 % 4 != 0) {
            peer_tell(&child, 'g');
            sleep_within(took, mix(i, 3));
        }
        peer_kill(&child);
        const uint64_t k = check_model(path);
        require(k == 20 || k == 21);
        seen[k - 20]++;
    }
    print_message("after %u kills: %llu times as restored, %llu times one commit later\n", KILLS,
                  (unsigned long long)seen[0], (unsigned long long)seen[1]);
    require(seen[0] > 0 && seen[1] > 0);
}

int main(int argc, char **argv)
{
    choose_cases(argc, argv);
    seed = choose_seed();
    shared = shared_memory(sizeof *shared);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(backup__of_a_heap_in_any_state, forget_the_past),
        cmocka_unit_test_setup(backup__keeps_holes, forget_the_past),
        cmocka_unit_test_setup(backup__under_writers_with_the_smallest_log, forget_the_past),
        cmocka_unit_test_setup(backup__under_writers_with_a_larger_log, forget_the_past),
        cmocka_unit_test_setup(hold__stalled_backup_fills_the_log_and_is_named, forget_the_past),
        cmocka_unit_test_setup(hold__of_a_dead_backup_is_dropped, forget_the_past),
        cmocka_unit_test_setup(hold__of_a_dead_backup_is_not_inherited, forget_the_past),
        cmocka_unit_test_setup(kill__backup_leaves_a_whole_archive_or_none, forget_the_past),
        cmocka_unit_test_setup(kill__restore_leaves_the_old_heap_or_the_new, forget_the_past),
    };
    return cmocka_run_group_tests(tests, make_test_directory, remove_test_directory);
}
