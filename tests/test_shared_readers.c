/* SPDX-License-Identifier: MIT */
/*
 * What readers and their views do where another process, memory, a failing flush or the budget stands in the way, on a
 * simulated machine where that can be brought about.
 */
#include "tests/machine.h"

#define WORDS 16384u

/* Catches: a pin that stays when a reader fails to begin, or a snapshot given out of a view that can be stored to. */
static void reader__fails_to_protect_its_view(void **state)
{
    (void)state;
    struct machine machine;
    machine_begin(&machine, NULL);
    pheap *heap = machine_create(&machine, PHEAP_PROTECT, WORDS);
    for (uint64_t nth = 1; nth <= 2; nth++) {
        pheap_read *reader;
        commit_word(heap, 0, nth, PHEAP_LAZY);
        ph_sim_fail_at(machine.sim, PH_SIM_PROTECT, nth, ENOMEM, PH_SIM_ONCE);
        expect_detail(PHEAP_NO_MEMORY, "protect the read view", pheap_read_begin(heap, 0, &reader));
        struct pheap_user user = {.size = sizeof user};
        ok(pheap_next_user(heap, 0, &user));
        require_equal(user.pinned_lsn, 0);
        require_equal(fresh_word(heap, 0), nth);
    }
    ok(pheap_close(heap));
    machine_end(&machine);
}

/* Catches: a read view that keeps its private pages for ever, or drops them at every commit, or shows what they held. */
static void reader__view_stays_within_its_budget(void **state)
{
    (void)state;
    for (unsigned touched = 0; touched < 2; touched++) {
        struct ph_sim_options machine_options = {.seed = 1, .touched = touched != 0};
        struct machine machine;
        machine_begin(&machine, &machine_options);
        pheap *first = machine_create(&machine, 0, WORDS), *second = NULL;
        struct pheap_options options = small_options();
        options.budget_bytes = 64u << 10;
        ok(pheap_checkpoint(first));
        ok((enum pheap_status)ph_open_io(&machine.second, HEAP, 0, &options, &second));
        const struct ph_view *view = &second->core->read_views[0].view;
        uint64_t drops = 0;
        for (uint64_t i = 1; i <= 400; i++) { /* the same two pages again and again */
            uint64_t before = ph_sim_calls(machine.sim, PH_SIM_DROP);
            commit_word(first, i % 2 * 512, i, PHEAP_LAZY);
            if (touched == 0) /* there each page counts anew with each commit that is not folded */
                ok(pheap_fold(first));
            require_equal(fresh_word(second, i % 2 * 512), i);
            drops += ph_sim_calls(machine.sim, PH_SIM_DROP) - before;
            require(view->touched_bytes <= 2 * options.budget_bytes);
        }
        require(touched != 0 ? drops <= 1 : drops < 100);
        for (uint64_t i = 1; i <= 20; i++) {
            commit_spread(first, WORDS, i * 100, PHEAP_LAZY);
            require_spread(second, WORDS, i * 100);
            ok(pheap_fold(first));
            require(view->touched_bytes <= 4 * options.budget_bytes);
        }
        machine_close(&machine, second, first);
    }
}

/* Catches: reading refused because old commits could not be flushed; they are committed, and that is told elsewhere. */
static void reader__goes_on_when_a_flush_on_the_way_fails(void **state)
{
    (void)state;
    struct machine machine;
    machine_begin(&machine, NULL);
    pheap *first = machine_create(&machine, 0, WORDS), *second = machine_open(&machine.second, 0);
    pheap_read *reader;
    commit_word(first, 0, 1, PHEAP_LAZY);
    ph_sim_set_clock(machine.sim, UINT64_C(100000000000));
    ph_sim_fail_at(machine.sim, PH_SIM_OPEN, 1, EMFILE, PH_SIM_FOREVER);
    expect_detail(PHEAP_NO_MEMORY, LOG, pheap_read_begin(second, 0, &reader));
    ph_sim_fail_at(machine.sim, PH_SIM_WRITE, 1, EIO, PH_SIM_ONCE);
    require_equal(fresh_word(second, 0), 1);
    require_equal(heap_info(first).poisoned, 1);
    require_equal(fresh_word(second, 0), 1);
    machine_close_poisoned(&machine, second, first, 1);
}

/* Catches: a reader ended twice that takes another's pin along. */
static void reader__ended_twice(void **state)
{
    (void)state;
    struct machine machine;
    machine_begin(&machine, NULL);
    pheap *heap = machine_create(&machine, 0, WORDS);
    pheap_read *one = read_begin(heap, 0), *other = read_begin(heap, 0);
    pheap_read_end(one);
    pheap_read_end(one);
    struct pheap_user user = {.size = sizeof user};
    ok(pheap_next_user(heap, 0, &user));
    require(user.pinned_lsn != 0);
    commit_word(heap, 0, 1, PHEAP_DURABLE);
    ok(pheap_fold(heap));
    require_equal(read_word(other, 0), 0);
    pheap_read_end(other);
    ok(pheap_next_user(heap, 0, &user));
    require_equal(user.pinned_lsn, 0);
    ok(pheap_close(heap));
    machine_end(&machine);
}

static struct ph_coord *lap_coord;
static const ph_io *lap_real;
static bool lap_armed;

static void *lap_at_alloc(void *ctx, size_t length, size_t alignment)
{
    if (lap_armed) {
        lap_armed = false;
        atomic_fetch_add(&lap_coord->reserved, UINT64_C(1) << 30);
    }
    return lap_real->alloc(ctx, length, alignment);
}

/* Catches: records applied from a buffer that a writer has overwritten since they were found to be in it. */
static void view__is_lapped_while_it_moves(void **state)
{
    (void)state;
    struct machine machine;
    machine_begin(&machine, NULL);
    lap_real = machine.first;
    machine.second.alloc = lap_at_alloc;
    pheap *first = machine_create(&machine, 0, WORDS), *second = machine_open(&machine.second, 0);
    require_equal(fresh_word(second, 0), 0);
    for (unsigned i = 1; i <= 5; i++)
        commit_word(first, 0, i, PHEAP_DURABLE);
    lap_coord = first->core->coord;
    lap_armed = true;
    require_equal(fresh_word(second, 0), 5);
    require(!lap_armed);
    lap_armed = true; /* the same under a fold, which is on the log's side of the buffer */
    commit_word(first, 0, 6, PHEAP_DURABLE);
    ok(pheap_fold(second));
    require(!lap_armed);
    require_equal(atomic_load(&lap_coord->folded), atomic_load(&lap_coord->committed));
    require_equal(fresh_word(second, 0), 6);
    machine_close(&machine, second, first);
}

/* Catches: a reader that stays at a version which a fold, that has not seen its pin, is about to leave behind (R3); and one
 * that waits for ever, with a lock that its whole process needs, for a commit that only a rotten word speaks of (R8). */
static void pin__is_behind_a_fold(void **state)
{
    (void)state;
    static const unsigned flags[] = {0, PHEAP_EVICTABLE};
    struct machine machine;
    machine_begin(&machine, NULL);
    pheap *heap = machine_create(&machine, 0, WORDS);
    struct ph_coord *coord = heap->core->coord;
    const uint64_t before = atomic_load(&coord->fold_intent);
    const uint64_t beyond[] = {atomic_load(&coord->committed) + 8, UINT64_MAX};
    for (size_t i = 0; i < 4; i++) {
        pheap_read *reader;
        atomic_store(&coord->fold_intent, beyond[i / 2]);
        expect_detail(PHEAP_CORRUPT, "coordination file", pheap_read_begin(heap, flags[i % 2], &reader));
        require_equal(atomic_load(&coord->seats[heap->core->store.seat].pins[0].lsn), 0);
        atomic_store(&coord->fold_intent, before);
        pheap_read_end(read_begin(heap, flags[i % 2]));
    }
    ok(pheap_close(heap));
    machine_end(&machine);
}

static struct ph_coord *evict_coord;
static uint32_t evict_seat;
static unsigned evictions;

/* A writer in need takes the pin away each time the view is about to move. */
static void *evict_at_alloc(void *ctx, size_t length, size_t alignment)
{
    struct ph_pin *pin = evict_coord == NULL ? NULL : &evict_coord->seats[evict_seat].pins[0];
    if (pin != NULL && (atomic_load(&pin->lsn) & PH_PIN_EVICTABLE) != 0) {
        atomic_store(&pin->lsn, 0);
        evictions++;
    }
    return lap_real->alloc(ctx, length, alignment);
}

/* Catches: an evictable reader that never gets there because it is evicted on its way each time, or that is firm for ever
 * once it is there. */
static void view__is_evicted_while_it_moves(void **state)
{
    (void)state;
    struct machine machine;
    machine_begin(&machine, NULL);
    lap_real = machine.first;
    machine.second.alloc = evict_at_alloc;
    pheap *first = machine_create(&machine, 0, WORDS), *second = machine_open(&machine.second, 0);
    evict_seat = second->core->store.seat;
    commit_spread(first, WORDS, 1000, PHEAP_LAZY);
    evict_coord = first->core->coord;
    pheap_read *reader = read_begin(second, PHEAP_EVICTABLE);
    require(evictions >= 100);
    evict_coord = NULL;
    for (uint64_t i = 0; i < WORDS; i += 512)
        require_equal(read_word(reader, i), 1000 + i);
    struct pheap_user user = {.size = sizeof user};
    ok(pheap_next_user(first, evict_seat, &user));
    require(user.pin_count == 1 && user.evictable == 1);
    ok(pheap_read_end(reader));
    machine_close(&machine, second, first);
}

int main(int argc, char **argv)
{
    choose_cases(argc, argv);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(reader__fails_to_protect_its_view),
        cmocka_unit_test(reader__view_stays_within_its_budget),
        cmocka_unit_test(reader__goes_on_when_a_flush_on_the_way_fails),
        cmocka_unit_test(reader__ended_twice),
        cmocka_unit_test(view__is_lapped_while_it_moves),
        cmocka_unit_test(pin__is_behind_a_fold),
        cmocka_unit_test(view__is_evicted_while_it_moves),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
