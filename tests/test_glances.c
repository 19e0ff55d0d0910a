/* SPDX-License-Identifier: MIT */
/* Glances, through the public interface: what may be read without a read transaction, and when that has ended. */
#include "tests/rounds.h"

static struct pheap_glance take_glance(pheap *heap, const volatile uint64_t **words)
{
    struct pheap_glance glance;
    pheap_read *reader = read_begin(heap, 0);
    ok(pheap_glance_begin(reader, &glance));
    *words = (const volatile uint64_t *)(const void *)((const char *)glance.base + pheap_read_root(reader));
    ok(pheap_read_end(reader));
    return glance;
}

/* Catches: a glance that holds beyond a commit, stops to hold without one, pins something, or is in the way of close. */
static void glance__holds_until_somebody_commits(void **state)
{
    (void)state;
    const volatile uint64_t *words, *later_words;
    pheap *heap = create_with("glance", small_options());
    commit_all(heap, 1);
    struct pheap_glance glance = take_glance(heap, &words);
    require(glance.size > WORDS * sizeof *words && words[0] == 1 && pheap_glance_holds(&glance));
    require_equal(user_of(heap, getpid()).pin_count, 0);
    ok(pheap_checkpoint(heap));
    pheap_read *reader = read_begin(heap, 0); /* which need not move the view */
    ok(pheap_read_end(reader));
    require(words[STRIDE] == 1 && pheap_glance_holds(&glance));
    commit_all(heap, 2);
    require(!pheap_glance_holds(&glance));
    const struct pheap_glance later = take_glance(heap, &later_words);
    require(later_words[0] == 2 && !pheap_glance_holds(&glance) && pheap_glance_holds(&later));
    expect(PHEAP_INVALID, pheap_glance_begin(NULL, &glance));
    reader = read_begin(heap, 0);
    expect(PHEAP_INVALID, pheap_glance_begin(reader, NULL));
    ok(pheap_read_end(reader));
    ok(pheap_close(heap));
}

/* Catches: a glance that holds while its view is being reset, which shows pages of an older version for a moment. */
static void glance__ends_when_its_view_moves(void **state)
{
    (void)state;
    struct pheap_options options = small_options();
    options.budget_bytes = 100u << 10; /* two rounds change more: the reader after them drops all pages */
    options.read_views = 1;
    pheap *heap = create_with("glance-moves", options);
    const volatile uint64_t *words;
    uint64_t moved = 0;
    for (uint64_t round = 1; round < 100; round++) {
        commit_all(heap, round);
        const struct pheap_glance glance = take_glance(heap, &words);
        pheap_read *reader = read_begin(heap, 0);
        moved += !pheap_glance_holds(&glance);
        require_round(reader, round);
        ok(pheap_read_end(reader));
        require(words[0] == round);
    }
    require(moved > 0);
    ok(pheap_close(heap));
}

static void commit_rounds(const struct peer *test, const char *path)
{
    pheap *heap = open_heap(path);
    peer_hear(test, 'g');
    for (uint64_t round = 2; round < COMMITS_MAX; round++)
        commit_all(heap, round);
    ok(pheap_close(heap));
    peer_tell(test, 'd');
}

/*
 * Another process commits, folds and checkpoints as fast as it can, and nothing is pinned.  Catches: bytes of two versions
 * that a glance says are of one, whether they are torn by fold or by moving the view; and one that is older than a
 * glance that held before.
 */
static void glance__beside_a_writer(void **state)
{
    (void)state;
    const char *path = path_of("glance-beside", "");
    pheap *heap = create_with("glance-beside", small_options());
    commit_all(heap, 1);
    struct peer child = peer_start(commit_rounds, path);
    peer_tell(&child, 'g');
    uint64_t newest = 0, held = 0, lost = 0;
    while (newest < COMMITS_MAX - 1) {
        const volatile uint64_t *words;
        const struct pheap_glance glance = take_glance(heap, &words);
        for (int i = 0; i < 3; i++) {
            const uint64_t first = words[0];
            uint64_t other = 0;
            for (uint64_t j = 0; j < WORDS; j += STRIDE)
                other += words[j] != first;
            if (!pheap_glance_holds(&glance)) {
                lost++;
                break;
            }
            held++;
            require(other == 0 && first >= newest);
            newest = first;
        }
    }
    peer_hear(&child, 'd');
    peer_join(&child);
    require(lost > 0 && held > 0);
    ok(pheap_close(heap));
}

int main(int argc, char **argv)
{
    choose_cases(argc, argv);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(glance__holds_until_somebody_commits),
        cmocka_unit_test(glance__ends_when_its_view_moves),
        cmocka_unit_test(glance__beside_a_writer),
    };
    return cmocka_run_group_tests(tests, make_test_directory, remove_test_directory);
}
