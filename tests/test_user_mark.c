/* SPDX-License-Identifier: MIT */
/* Marks that programs give to their handles: who sees them, and when they are gone. */
#include "tests/public.h"

#include <sys/wait.h>

static uint64_t lowest_mark(pheap *heap)
{
    uint64_t mark = UINT64_MAX;
    pheap_txn *txn = begin(heap);
    ok(pheap_lowest_mark(txn, &mark));
    ok(pheap_abort(txn));
    return mark;
}

/* As pheap_next_user() tells it; UINT64_MAX if there is no such process. */
static uint64_t mark_of(pheap *heap, pid_t pid)
{
    struct pheap_user user = {.size = sizeof user};
    for (uint32_t seat = 0; pheap_next_user(heap, seat, &user) == PHEAP_OK; seat = user.seat + 1) {
        if (user.pid == pid)
            return user.mark;
    }
    return UINT64_MAX;
}

/* Catches: the mark of another handle than the lowest, one that outlives its handle, and one on the wrong core. */
static void mark__is_the_lowest_of_the_handles(void **state)
{
    (void)state;
    const char *path = path_of("handles", "");
    pheap *first = create_heap(path);
    (void)make_root(first, 8);
    pheap *second = open_heap(path);
    pheap *third = open_heap(path);
    pheap *other = create_heap(path_of("other", ""));
    require_equal(lowest_mark(first), 0);
    ok(pheap_set_mark(first, 7));
    require_equal(lowest_mark(second), 7);
    ok(pheap_set_mark(second, 5));
    ok(pheap_set_mark(third, 9));
    require_equal(lowest_mark(first), 5);
    require_equal(mark_of(first, getpid()), 5);
    require_equal(mark_of(other, getpid()), 0);
    ok(pheap_set_mark(second, 8));
    require_equal(lowest_mark(first), 7);
    ok(pheap_set_mark(first, 0));
    ok(pheap_set_mark(first, 0));
    require_equal(lowest_mark(first), 8);
    ok(pheap_close(second));
    require_equal(lowest_mark(first), 9);
    ok(pheap_set_mark(third, UINT64_MAX));
    require_equal(lowest_mark(first), UINT64_MAX);
    ok(pheap_close(third));
    require_equal(lowest_mark(first), 0);
    ok(pheap_set_mark(first, 3));
    ok(pheap_close(first));
    first = open_heap(path);
    require_equal(mark_of(first, getpid()), 0);
    ok(pheap_close(first));
    ok(pheap_close(other));
}

/* Catches: an ended or foreign transaction that is answered, and numbers of commits that are not those that come. */
static void mark__belongs_to_a_transaction(void **state)
{
    (void)state;
    pheap *heap = create_heap(path_of("ended", ""));
    (void)make_root(heap, 8);
    uint64_t mark = 77, version;
    pheap_txn *txn = begin(heap);
    expect(PHEAP_INVALID, pheap_lowest_mark(txn, NULL));
    expect(PHEAP_INVALID, pheap_lowest_mark(NULL, &mark));
    expect(PHEAP_INVALID, pheap_set_mark(NULL, 1));
    const uint64_t next = pheap_version(txn);
    put_word(txn, 0, 1);
    require_equal(pheap_version(txn), next);
    ok(pheap_commit(txn, PHEAP_LAZY, &version));
    require_equal(version, next);
    require_equal(pheap_version(txn), 0);
    require_equal(pheap_version(NULL), 0);
    expect(PHEAP_ENDED, pheap_lowest_mark(txn, &mark));
    require_equal(mark, 77);
    ok(pheap_close(heap));
}

/* Catches: a process that rests and stops others, or whose readers do not; and a mark that is no version. */
static void mark__rests(void **state)
{
    (void)state;
    const char *path = path_of("rests", "");
    pheap *heap = create_heap(path), *other = open_heap(path);
    (void)make_root(heap, 8);
    uint64_t version;
    ok(pheap_newest_version(heap, &version));
    expect(PHEAP_INVALID, pheap_set_mark(heap, UINT64_C(1) << 63));
    expect(PHEAP_INVALID, pheap_set_mark(heap, PHEAP_MARK_RESTS - 1));
    ok(pheap_set_mark(heap, PHEAP_MARK_RESTS));
    require_equal(lowest_mark(heap), PHEAP_MARK_RESTS);
    require_equal(mark_of(heap, getpid()), PHEAP_MARK_RESTS);
    ok(pheap_set_mark(other, version + 5));
    require_equal(lowest_mark(heap), version + 5);
    require_equal(mark_of(heap, getpid()), version + 5);
    pheap_read *reader = read_begin(other, PHEAP_FRESH);
    require_equal(lowest_mark(heap), version);
    pheap_txn *txn = begin(heap);
    put_word(txn, 0, 1);
    ok(pheap_commit(txn, PHEAP_LAZY, NULL));
    pheap_read *newer = read_begin(other, PHEAP_FRESH);
    require_equal(lowest_mark(heap), version);
    ok(pheap_read_end(reader));
    require_equal(lowest_mark(heap), version + 1);
    ok(pheap_set_mark(heap, version + 4));
    require_equal(lowest_mark(heap), version + 4);
    ok(pheap_read_end(newer));
    ok(pheap_close(heap));
    ok(pheap_close(other));
}

static void set_marks(const struct peer *test, const char *path)
{
    pheap *heap = open_heap(path);
    ok(pheap_set_mark(heap, 4));
    peer_tell(test, 's');
    peer_hear(test, 'r');
    ok(pheap_set_mark(heap, 6));
    peer_tell(test, 'r');
    peer_hear(test, 'c');
    ok(pheap_close(heap));
    peer_tell(test, 'c');
    pause();
}

/* Catches: a mark that other processes do not see, or do still see when its process has closed the heap or was killed; and
 * one that somebody finds who takes the seat of the dead. */
static void mark__goes_with_its_process(void **state)
{
    (void)state;
    const char *path = path_of("processes", "");
    pheap *heap = create_heap(path);
    (void)make_root(heap, 8);
    struct peer first = peer_start(set_marks, path);
    struct peer second = peer_start(set_marks, path);
    peer_hear(&first, 's');
    peer_hear(&second, 's');
    peer_tell(&first, 'r');
    peer_hear(&first, 'r');
    ok(pheap_set_mark(heap, 5));
    require_equal(lowest_mark(heap), 4);
    require_equal(mark_of(heap, first.pid), 6);
    require_equal(mark_of(heap, second.pid), 4);
    peer_kill(&second);
    require_equal(lowest_mark(heap), 5);
    require_equal(mark_of(heap, second.pid), 0);
    ok(pheap_set_mark(heap, 0));
    require_equal(lowest_mark(heap), 6);
    struct peer third = peer_start(set_marks, path); /* in the seat of the second */
    peer_hear(&third, 's');
    require_equal(lowest_mark(heap), 4);
    peer_tell(&third, 'r');
    peer_hear(&third, 'r');
    peer_tell(&third, 'c');
    peer_hear(&third, 'c');
    require_equal(lowest_mark(heap), 6);
    peer_tell(&first, 'c');
    peer_hear(&first, 'c');
    require_equal(lowest_mark(heap), 0);
    peer_kill(&first);
    peer_kill(&third);
    ok(pheap_close(heap));
}

/* Catches: a child's handle with the mark of the parent's, and a parent's that the child takes away. */
static void mark__is_not_inherited(void **state)
{
    (void)state;
    pheap *heap = create_heap(path_of("forked", ""));
    (void)make_root(heap, 8);
    ok(pheap_set_mark(heap, 5));
    const pid_t child = fork();
    if (child == 0) {
        if (mark_of(heap, getpid()) != 0 || lowest_mark(heap) != 5)
            _exit(1);
        if (pheap_set_mark(heap, 3) != PHEAP_OK || lowest_mark(heap) != 3 || mark_of(heap, getppid()) != 5)
            _exit(2);
        _exit(pheap_close(heap) == PHEAP_OK ? 0 : 3);
    }
    int status;
    require(waitpid(child, &status, 0) == child);
    require_equal(status, 0);
    require_equal(lowest_mark(heap), 5);
    ok(pheap_close(heap));
}

int main(int argc, char **argv)
{
    choose_cases(argc, argv);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(mark__is_the_lowest_of_the_handles),
        cmocka_unit_test(mark__rests),
        cmocka_unit_test(mark__belongs_to_a_transaction),
        cmocka_unit_test(mark__goes_with_its_process),
        cmocka_unit_test(mark__is_not_inherited),
    };
    return cmocka_run_group_tests(tests, make_test_directory, remove_test_directory);
}
