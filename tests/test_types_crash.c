/* SPDX-License-Identifier: MIT */
/*
 * Values on a simulated machine that loses power, or whose system calls fail.
 *
 * A workload changes containers of every kind, in transactions that are committed, durably or lazily, aborted or rolled
 * back, with collections between them.  After a power cut at any of its writes, with any of what was not synced, and
 * after any failure: the heap passes pheap_check() and pht_check(), and holds what a commit left, one that is not older
 * than the last acknowledged.
 *
 * PHEAP_TYPES_CRASH_SEED chooses another workload, PHEAP_TYPES_CRASH_STATES how many states are tried.
 */
#include "pheap/core.h"
#include "tests/support/effort.h"
#include "tests/support/history.h"
#include "tests/support/simfs.h"
#include "tests/types_content.h"
#include "tests/types_rig.h"

#define PATH "dir/heap"
#define SEED_DEFAULT 1u
#define STATES_DEFAULT (SANITIZED ? 1000u : 6000u)
#define SAMPLES 12u
#define EXHAUSTIVE_MAX 32u
#define CRASH_ACTIONS 150u
#define FAULT_ACTIONS 24u
#define VERSIONS 1024u
#define KINDS 6u

/* A program, and what its heap held after each commit. */
struct program {
    struct ph_sim *sim;
    pheap *heap;
    uint64_t dice;
    uint64_t contents[VERSIONS]; /* by version; 0: not known */
    uint64_t acknowledged, begun;
    enum pheap_status status; /* the first failure */
};

static uint64_t from_environment(const char *name, uint64_t otherwise)
{
    const char *given = getenv(name);
    return given == NULL || *given == '\0' ? otherwise : strtoull(given, NULL, 0);
}

static enum pheap_status open_heap_of(struct ph_sim *sim, unsigned flags, pheap **heap)
{
    const struct pheap_options options = {.size = sizeof options,
                                          .reserve_bytes = 64u << 20,
                                          .log_limit_bytes = 1u << 20,
                                          .segment_bytes = 65536,
                                          .buffer_bytes = 65536};
    return (enum pheap_status)ph_open_io(ph_sim_io(sim), PATH, flags, &options, heap);
}

static uint64_t roll(struct program *p, uint64_t limit)
{
    return dice_roll(&p->dice) % limit;
}

static uint64_t newest(struct program *p)
{
    uint64_t version = 0;
    ph_sim_fail_pause(p->sim, true);
    ok(pheap_newest_version(p->heap, &version));
    ph_sim_fail_pause(p->sim, false);
    return version;
}

/* ----------------------------------------------------------------------------------------------------- the workload */

static struct pht_any draw(struct program *p, char key[static 48])
{
    const unsigned long long number = roll(p, 60);
    const int length = snprintf(key, 48, number % 3 == 0 ? "%llu" : "a text that is an object: %llu", number);
    return number % 5 == 0 ? pht_int((int64_t)number) : pht_str(key, (uint64_t)length);
}

static enum pheap_status change_list(struct program *p, struct pht *t, pht_value it, struct pht_any value)
{
    uint64_t count = 0;
    enum pheap_status status = pht_list_count(t, it, &count);
    if (status != PHEAP_OK)
        return status;
    return count > 0 && roll(p, 3) == 0 ? pht_list_remove(t, it, roll(p, count), NULL)
                                        : pht_list_insert(t, it, roll(p, count + 1), value);
}

/* One change of the container that the root map has under `slot`, which is made if it is not there. */
static enum pheap_status change_one(struct program *p, struct pht *t, int64_t slot)
{
    char key_text[48], value_text[48];
    const struct pht_any key = draw(p, key_text), value = draw(p, value_text);
    const bool less = roll(p, 3) == 0;
    pht_value it;
    enum pheap_status status = pht_map_get(t, pht_root(t), pht_int(slot), &it);
    if (status != PHEAP_OK)
        return status;
    if (it == PHT_ABSENT) {
        const uint64_t kind = roll(p, KINDS);
        status = kind == 0   ? pht_map_new(t, &it)
                 : kind == 1 ? pht_set_new(t, &it)
                 : kind == 2 ? pht_list_new(t, &it)
                 : kind == 3 ? pht_queue_new(t, &it)
                 : kind == 4 ? pht_omap_new(t, &it)
                             : pht_tuple_new(t, (const struct pht_any[]){key, value}, 2, &it);
        return status == PHEAP_OK ? pht_map_set(t, pht_root(t), pht_int(slot), pht_of(it)) : status;
    }
    enum pht_kind kind;
    status = pht_kind_of(t, it, &kind);
    if (status != PHEAP_OK)
        return status;
    if (roll(p, 12) == 0 || kind == PHT_TUPLE)
        return pht_map_remove(t, pht_root(t), pht_int(slot), NULL);
    switch (kind) {
    case PHT_MAP:
        return less ? pht_map_remove(t, it, key, NULL) : pht_map_set(t, it, key, value);
    case PHT_SET:
        return less ? pht_set_remove(t, it, key, NULL) : pht_set_add(t, it, key, NULL);
    case PHT_LIST:
        return change_list(p, t, it, value);
    case PHT_QUEUE:
        return less ? pht_queue_pop(t, it, true, NULL) : pht_queue_push(t, it, false, value);
    default:
        return less ? pht_omap_remove(t, it, pht_int((int64_t)roll(p, 60)), NULL)
                    : pht_omap_set(t, it, pht_int((int64_t)roll(p, 60)), value);
    }
}

static enum pheap_status change_some(struct program *p, struct pht *t)
{
    enum pheap_status status = PHEAP_OK;
    for (uint64_t left = 1 + roll(p, 30), slot = roll(p, 5); left > 0 && status == PHEAP_OK; left--)
        status = change_one(p, t, (int64_t)(roll(p, 4) == 0 ? roll(p, 5) : slot));
    return status;
}

/* What the newest version holds, and which that is. */
static void note_content(struct program *p)
{
    struct pht t;
    pheap_read *reader;
    ph_sim_fail_pause(p->sim, true);
    if (pheap_read_begin(p->heap, PHEAP_FRESH, &reader) == PHEAP_OK) {
        const uint64_t version = pheap_read_version(reader);
        require(version < VERSIONS);
        if (pht_look(reader, &t) == PHEAP_OK)
            p->contents[version] = content_of(&t, pht_root(&t));
        (void)pheap_read_end(reader);
    }
    ph_sim_fail_pause(p->sim, false);
}

/* Everything up to the newest version is on stable storage. */
static void acknowledge(struct program *p)
{
    p->acknowledged = newest(p);
    ph_sim_note(p->sim, PH_NOTE_ACKNOWLEDGED, p->acknowledged);
}

static enum pheap_status end_transaction(struct program *p, struct pht *t)
{
    const uint64_t how = roll(p, 8);
    if (how == 0)
        return pheap_abort(t->txn);
    /* What it will be if it is committed: the death of the machine may come before this program hears of it. */
    p->contents[++p->begun] = content_of(t, pht_root(t));
    ph_sim_note(p->sim, PH_NOTE_BEGUN, p->begun);
    uint64_t version = 0;
    const enum pheap_status status = pheap_commit(t->txn, how < 5 ? PHEAP_DURABLE : PHEAP_LAZY, &version);
    if (status == PHEAP_OK && how < 5 && version == p->begun) /* else nothing was changed, and nothing is promised */
        acknowledge(p);
    return status;
}

static enum pheap_status transact(struct program *p)
{
    pheap_txn *txn;
    struct pht t;
    uint32_t savepoint;
    p->begun = newest(p);
    enum pheap_status status = pheap_begin(p->heap, &txn);
    if (status != PHEAP_OK)
        return status;
    status = pht_begin(txn, &t);
    if (status == PHEAP_OK && p->begun == 0)
        status = content_fix_hash_key(&t);
    if (status == PHEAP_OK)
        status = change_some(p, &t);
    if (status == PHEAP_OK && roll(p, 4) == 0) {
        status = pheap_savepoint(txn, &savepoint);
        if (status == PHEAP_OK)
            (void)!change_some(p, &t);
        if (status == PHEAP_OK)
            status = pheap_rollback(txn, savepoint);
        if (status == PHEAP_OK)
            status = pht_begin(txn, &t);
    }
    if (status == PHEAP_OK)
        return end_transaction(p, &t);
    (void)pheap_abort(txn);
    return status;
}

/* Two maps that nobody reaches, and their collection, in as many commits as that takes; what is reached stays. */
static enum pheap_status make_and_collect(struct program *p)
{
    struct pht t;
    pheap_txn *txn;
    pht_value one, other;
    enum pheap_status status = pheap_begin(p->heap, &txn);
    if (status != PHEAP_OK)
        return status;
    const uint64_t before = newest(p);
    for (uint64_t version = before + 1; version < before + 40 && version < VERSIONS; version++)
        p->contents[version] = p->contents[before];
    ph_sim_note(p->sim, PH_NOTE_BEGUN, before + 40);
    status = pht_begin(txn, &t);
    if (status == PHEAP_OK)
        status = pht_map_new(&t, &one);
    if (status == PHEAP_OK)
        status = pht_map_new(&t, &other);
    if (status == PHEAP_OK)
        status = pht_map_set(&t, one, pht_int(1), pht_of(other));
    if (status == PHEAP_OK)
        status = pht_map_set(&t, other, pht_int(1), pht_of(one));
    if (status != PHEAP_OK) {
        (void)pheap_abort(txn);
        return status;
    }
    status = pheap_commit(txn, PHEAP_LAZY, NULL);
    if (status == PHEAP_OK)
        status = pht_collect(p->heap, PHEAP_DURABLE, NULL);
    if (status == PHEAP_OK)
        acknowledge(p);
    return status;
}

/* The next piece of work.  What is known of a version that was never committed is forgotten with the next. */
static enum pheap_status act(struct program *p)
{
    enum pheap_status status;
    if (p->heap == NULL) {
        status = open_heap_of(p->sim, PHEAP_CREATE, &p->heap);
    } else if (roll(p, 9) == 0) {
        status = pheap_close(p->heap);
        p->heap = NULL;
    } else if (roll(p, 7) == 0 && newest(p) > 0) {
        status = make_and_collect(p);
    } else if (roll(p, 7) == 0) {
        status = pheap_checkpoint(p->heap);
    } else {
        status = transact(p);
    }
    if (p->heap != NULL)
        note_content(p);
    return status;
}

/* ----------------------------------------------------------------------------------------------------- what is left */

/* The heap on that machine: sound, and as a commit left it that is not older than `least`. */
static void demand_a_commit(struct ph_sim *sim, const uint64_t contents[static VERSIONS], uint64_t least, uint64_t most,
                            const char *where)
{
    pheap *heap;
    struct pht t;
    pheap_read *reader;
    enum pheap_status status = open_heap_of(sim, PHEAP_CREATE, &heap);
    if (status != PHEAP_OK)
        check_failed(__FILE__, __LINE__, "%s: not opened: %s", where, pheap_error_detail());
    reader = read_begin(heap, PHEAP_FRESH);
    const uint64_t version = pheap_read_version(reader);
    ok(pheap_check(reader, print_fault, NULL, NULL));
    status = pht_look(reader, &t);
    if (status != PHEAP_OK && (status != PHEAP_NOT_FOUND || least > 0 || version > 0))
        check_failed(__FILE__, __LINE__, "%s: version %llu: %s", where, (unsigned long long)version,
                     pheap_error_detail());
    if (version < least || version > most)
        check_failed(__FILE__, __LINE__, "%s: version %llu of %llu to %llu", where, (unsigned long long)version,
                     (unsigned long long)least, (unsigned long long)most);
    if (status == PHEAP_OK) {
        status = pht_check(&t, print_fault, NULL, NULL);
        if (status != PHEAP_OK || content_of(&t, pht_root(&t)) != contents[version])
            check_failed(__FILE__, __LINE__, "%s: version %llu is not what was committed: %s", where,
                         (unsigned long long)version, status == PHEAP_OK ? "other values" : pheap_error_detail());
    }
    (void)pheap_read_end(reader);
    ok(pheap_close(heap));
    ph_core_forget_mappings(ph_sim_io(sim));
}

static uint64_t cut_everywhere(struct program *p, uint64_t states_max)
{
    const struct ph_sim_options quiet = {.no_journal = true, .plain = true};
    struct ph_sim *image = ph_sim_new(&quiet);
    struct ph_sim_cut *cut = ph_sim_cut_new(p->sim);
    struct ph_sim_choice choice = {0};
    const uint64_t stride = ph_sim_journal_length(p->sim) * 4 / states_max + 1;
    uint64_t states = 0;
    do {
        if (!ph_sim_cut_before_io(cut) || ph_sim_cut_position(cut) % stride != 0)
            continue;
        const uint64_t least = ph_sim_cut_note(cut, PH_NOTE_ACKNOWLEDGED), most = ph_sim_cut_note(cut, PH_NOTE_BEGUN);
        const uint64_t all = ph_sim_cut_states(cut);
        for (uint64_t i = 0; i < (all <= EXHAUSTIVE_MAX ? all : SAMPLES); i++, states++) {
            char where[64];
            (void)snprintf(where, sizeof where, "position %llu, state %llu",
                           (unsigned long long)ph_sim_cut_position(cut), (unsigned long long)i);
            if (all <= EXHAUSTIVE_MAX)
                ph_sim_cut_choose(cut, i, &choice);
            else
                ph_sim_cut_sample(cut, i, p->dice + ph_sim_cut_position(cut), &choice);
            ph_sim_cut_image(cut, &choice, ph_sim_cut_position(cut) + i, image);
            demand_a_commit(image, p->contents, least, most, where);
        }
    } while (ph_sim_cut_next(cut));
    ph_sim_choice_deinit(&choice);
    ph_sim_cut_free(cut);
    ph_sim_free(image);
    return states;
}

/* Catches: an operation whose parts come into different commits, or that relies on the order of writes. */
static void crash__at_every_write(void **state)
{
    (void)state;
    const uint64_t seed = from_environment("PHEAP_TYPES_CRASH_SEED", SEED_DEFAULT);
    const struct ph_sim_options options = {.seed = seed};
    static struct program p;
    p = (struct program){.sim = ph_sim_new(&options), .dice = seed};
    for (unsigned i = 0; i < CRASH_ACTIONS || p.heap == NULL; i++)
        ok(act(&p));
    ok(pheap_close(p.heap));
    ph_core_forget_mappings(ph_sim_io(p.sim));
    const uint64_t states = cut_everywhere(&p, from_environment("PHEAP_TYPES_CRASH_STATES", STATES_DEFAULT));
    print_message("seed %llu: %llu versions, %llu states\n", (unsigned long long)seed, (unsigned long long)p.begun,
                  (unsigned long long)states);
    require(states > 500);
    ph_sim_free(p.sim);
}

/* -------------------------------------------------------------------------------------------------------- failures */

static const struct {
    unsigned ops;
    int error;
    enum ph_sim_fault_mode mode;
} rows[] = {
    {PH_SIM_WRITE, EIO, PH_SIM_ONCE},     {PH_SIM_WRITE, ENOSPC, PH_SIM_FOREVER}, {PH_SIM_SYNC, EIO, PH_SIM_ONCE},
    {PH_SIM_GROW, ENOSPC, PH_SIM_ONCE},   {PH_SIM_GROW, ENOSPC, PH_SIM_FOREVER},  {PH_SIM_READ, EIO, PH_SIM_ONCE},
    {PH_SIM_MEMORY, ENOMEM, PH_SIM_ONCE}, {PH_SIM_MAP, ENOMEM, PH_SIM_ONCE},
};
#define ROWS (sizeof rows / sizeof rows[0])

/* One fault in one workload; then the heap is opened again, on a machine without faults.  False: it did not strike. */
static bool fail_once(uint64_t seed, unsigned row, uint64_t call)
{
    const struct ph_sim_options options = {.seed = seed, .no_journal = true};
    char where[64];
    static struct program p;
    p = (struct program){.sim = ph_sim_new(&options), .dice = seed};
    (void)snprintf(where, sizeof where, "row %u, call %llu", row, (unsigned long long)call);
    ph_sim_fail_at(p.sim, rows[row].ops, call, rows[row].error, rows[row].mode);
    for (unsigned i = 0, failed = 0; i < FAULT_ACTIONS && failed < 3; i++) {
        const enum pheap_status status = act(&p);
        failed += status != PHEAP_OK;
        if (status == PHEAP_CORRUPT || (status != PHEAP_OK && ph_sim_struck(p.sim) == 0))
            check_failed(__FILE__, __LINE__, "%s: %s: %s", where, pheap_status_name(status), pheap_error_detail());
    }
    const bool struck = ph_sim_struck(p.sim) > 0;
    ph_sim_fail_clear(p.sim);
    if (p.heap != NULL)
        (void)!pheap_close(p.heap);
    ph_core_forget_mappings(ph_sim_io(p.sim));
    demand_a_commit(p.sim, p.contents, p.acknowledged, VERSIONS - 1, where);
    require_equal(ph_sim_live_allocations(p.sim), 0);
    ph_sim_free(p.sim);
    return struck;
}

/* Catches: values that are half changed, or lost, when the system fails. */
static void faults__of_the_machine(void **state)
{
    (void)state;
    const uint64_t seed = from_environment("PHEAP_TYPES_CRASH_SEED", SEED_DEFAULT);
    uint64_t struck = 0;
    for (unsigned row = 0; row < ROWS; row++)
        for (uint64_t call = 1; fail_once(seed, row, call); call += SANITIZED ? 8 : 2)
            struck++;
    print_message("%llu failures\n", (unsigned long long)struck);
    require(struck > 20);
}

int main(int argc, char **argv)
{
    choose_cases(argc, argv);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(crash__at_every_write),
        cmocka_unit_test(faults__of_the_machine),
    };
    return cmocka_run_group_tests(tests, make_test_directory, remove_test_directory);
}
