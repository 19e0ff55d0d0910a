/* SPDX-License-Identifier: MIT */
/* Where an archive is restored to, what stands there already, and what a backup is told and asked. */
#include "tests/backup_rig.h"

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
    };
    return cmocka_run_group_tests(tests, make_test_directory, remove_test_directory);
}
