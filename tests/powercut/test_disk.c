/* SPDX-License-Identifier: MIT */
/*
 * The disk of the power cuts: does a cut leave only what the rules allow, and all of it?  The simulated machine, which
 * has the same rules in other words, enumerates what is allowed.
 */
#include "tests/support/dice.h"
#include "tests/powercut/disk.h"
#include "tests/support/simfs.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
/* cmocka needs those before it */
#include <cmocka.h>

#define NAMES 3
#define STATE_BYTES 256
#define STATES_MAX 20000
#define FEW 8

static const char *const names[NAMES] = {"a", "b", "c"};
static const struct disk_stat like_file = {.mode = S_IFREG | 0644};

/* ---------------------------------------------------------------------------------------------- against the simulator */

enum kind { WRITE, WRITE_DSYNC, SIZE, SYNC, SYNC_NAMES, CREATE, UNLINK, RENAME, SYNC_FAILED, KINDS };

struct step {
    enum kind kind;
    unsigned name, to;
    uint64_t offset, length;
    uint8_t byte;
};

static struct step roll_step(uint64_t *dice, bool with_failures)
{
    uint64_t roll = dice_roll(dice);
    return (struct step){.kind = (enum kind)(roll % (with_failures ? KINDS : SYNC_FAILED)),
                         .name = (unsigned)(roll >> 8) % NAMES,
                         .to = (unsigned)(roll >> 16) % NAMES,
                         .offset = (roll >> 24) % 6 * 256,
                         .length = 1 + (roll >> 32) % 4 * 256,
                         .byte = (uint8_t)(1 + (roll >> 48) % 200)};
}

/*
 * The same step on both; what has no file to it is left out on both.  Sizes are set to whole sectors only: the simulator
 * knows a sector that was cut in the middle as a whole, while here what was written before the cut may be lost.
 */
static void step_on_disk(struct disk *disk, const struct step *step)
{
    uint8_t bytes[1024];
    uint64_t inode, other;
    bool there = disk_find(disk, DISK_ROOT, names[step->name], &inode) == 0;
    memset(bytes, step->byte, sizeof bytes);
    if (step->kind == CREATE) {
        if (!there)
            assert_int_equal(disk_create(disk, DISK_ROOT, names[step->name], &like_file, &other), 0);
        return;
    }
    if (step->kind == SYNC_NAMES)
        disk_sync(disk, DISK_ROOT);
    if (!there)
        return;
    if (step->kind == WRITE)
        assert_int_equal(disk_write(disk, inode, bytes, (size_t)step->length, step->offset), 0);
    else if (step->kind == WRITE_DSYNC) {
        assert_int_equal(disk_write(disk, inode, bytes, (size_t)step->length, step->offset), 0);
        disk_sync_range(disk, inode, step->offset, step->length);
    } else if (step->kind == SIZE)
        assert_int_equal(disk_set_size(disk, inode, step->offset / 512 * 512), 0);
    else if (step->kind == SYNC)
        disk_sync(disk, inode);
    else if (step->kind == SYNC_FAILED)
        disk_sync_failed(disk, inode, 0, UINT64_MAX, DISK_FAILURE_CLEAN);
    else if (step->kind == UNLINK)
        assert_int_equal(disk_unlink(disk, DISK_ROOT, names[step->name], false), 0);
    else if (step->kind == RENAME && step->to != step->name)
        assert_int_equal(disk_rename(disk, DISK_ROOT, names[step->name], DISK_ROOT, names[step->to], false), 0);
}

static void step_on_sim(struct ph_sim *sim, const struct step *step)
{
    const ph_io *io = ph_sim_io(sim);
    uint8_t bytes[1024];
    char path[8], to[8];
    (void)snprintf(path, sizeof path, "/%s", names[step->name]);
    (void)snprintf(to, sizeof to, "/%s", names[step->to]);
    bool there = ph_sim_size(sim, path) >= 0;
    memset(bytes, step->byte, sizeof bytes);
    if (step->kind == SYNC_NAMES)
        assert_int_equal(io->sync_directory(io->ctx, path), 0);
    if (!there && step->kind != CREATE)
        return;
    int file = io->open(io->ctx, path, PH_OPEN_WRITE | (step->kind == CREATE ? PH_OPEN_CREATE : 0), 0644);
    assert_true(file >= 0);
    if (step->kind == WRITE)
        assert_int_equal(io->write(io->ctx, file, bytes, (size_t)step->length, step->offset, 0), step->length);
    else if (step->kind == WRITE_DSYNC)
        assert_int_equal(io->write(io->ctx, file, bytes, (size_t)step->length, step->offset, PH_WRITE_DSYNC),
                         step->length);
    else if (step->kind == SIZE)
        assert_int_equal(io->truncate(io->ctx, file, step->offset / 512 * 512), 0);
    else if (step->kind == SYNC)
        assert_int_equal(io->sync(io->ctx, file), 0);
    else if (step->kind == UNLINK)
        assert_int_equal(io->unlink(io->ctx, path), 0);
    else if (step->kind == RENAME && step->to != step->name)
        assert_int_equal(io->rename(io->ctx, path, to), 0);
    if (step->kind == SYNC_FAILED) {
        ph_sim_fail_at(sim, PH_SIM_SYNC, 1, EIO, PH_SIM_ONCE);
        assert_int_equal(io->sync(io->ctx, file), -EIO);
        ph_sim_fail_clear(sim);
    }
    assert_int_equal(io->close(io->ctx, file), 0);
}

/* What there is, as text: "a:1024:<sum>" for each file. */
struct state {
    char text[STATE_BYTES];
};

static void add_file(struct state *state, const char *name, const uint8_t *bytes, uint64_t size)
{
    uint64_t sum = size;
    size_t used = strlen(state->text);
    for (uint64_t i = 0; i < size; i++)
        sum = dice_mix(sum + bytes[i]);
    (void)snprintf(state->text + used, sizeof state->text - used, "%s:%llu:%016llx ", name, (unsigned long long)size,
                   (unsigned long long)sum);
}

static struct state state_of_disk(const struct disk *disk)
{
    struct state state = {""};
    for (unsigned i = 0; i < NAMES; i++) {
        uint64_t inode;
        size_t length = SIZE_MAX;
        if (disk_find(disk, DISK_ROOT, names[i], &inode) == 0) {
            const uint8_t *bytes = disk_read(disk, inode, 0, &length);
            add_file(&state, names[i], bytes, length);
        }
    }
    return state;
}

static struct state state_of_sim(struct ph_sim *sim)
{
    struct state state = {""};
    for (unsigned i = 0; i < NAMES; i++) {
        uint8_t bytes[8192];
        char path[8];
        (void)snprintf(path, sizeof path, "/%s", names[i]);
        int64_t size = ph_sim_size(sim, path);
        if (size < 0)
            continue;
        assert_true(size <= (int64_t)sizeof bytes);
        (void)ph_sim_peek(sim, path, bytes, (size_t)size, 0);
        add_file(&state, names[i], bytes, (uint64_t)size);
    }
    return state;
}

static int compare(const void *one, const void *other)
{
    return strcmp(((const struct state *)one)->text, ((const struct state *)other)->text);
}

/* Sort, and keep each state once. */
static size_t unique(struct state *states, size_t count)
{
    size_t kept = 0;
    qsort(states, count, sizeof *states, compare);
    for (size_t i = 0; i < count; i++)
        if (kept == 0 || compare(&states[kept - 1], &states[i]) != 0)
            states[kept++] = states[i];
    return kept;
}

/* All states that a cut after these steps may leave, by the simulator; 0: too many. */
static size_t allowed_states(const struct step *steps, size_t count, struct state *states)
{
    struct ph_sim *sim = ph_sim_new(NULL), *image = ph_sim_new(NULL);
    struct ph_sim_choice choice = {0};
    ph_sim_journal_restart(sim);
    for (size_t i = 0; i < count; i++)
        step_on_sim(sim, &steps[i]);
    struct ph_sim_cut *cut = ph_sim_cut_new(sim);
    while (ph_sim_cut_next(cut))
        ;
    uint64_t total = ph_sim_cut_states(cut);
    size_t found = 0;
    for (uint64_t i = 0; total <= STATES_MAX && i < total; i++) {
        ph_sim_cut_choose(cut, i, &choice);
        ph_sim_cut_image(cut, &choice, 1, image);
        states[found++] = state_of_sim(image);
    }
    ph_sim_choice_deinit(&choice);
    ph_sim_cut_free(cut);
    ph_sim_free(image);
    ph_sim_free(sim);
    return unique(states, found);
}

static struct state cut_state(const struct step *steps, size_t count, uint64_t seed)
{
    char text[64];
    struct disk *disk = disk_new(&(struct disk_options){0});
    for (size_t i = 0; i < count; i++)
        step_on_disk(disk, &steps[i]);
    disk_cut(disk, seed, text, sizeof text);
    struct state state = state_of_disk(disk);
    disk_free(disk);
    return state;
}

/* Cuts of these steps: are they among the allowed states?  How many of those were seen, of few all if possible. */
static size_t cut_often(const struct step *steps, size_t count, const struct state *allowed, size_t allowed_count)
{
    static bool hit[STATES_MAX];
    size_t hits = 0;
    memset(hit, 0, sizeof hit);
    for (uint64_t i = 0; i < 400 || (allowed_count <= FEW && hits < allowed_count && i < 50000); i++) {
        struct state state = cut_state(steps, count, i);
        const struct state *found = bsearch(&state, allowed, allowed_count, sizeof state, compare);
        if (found == NULL)
            fail_msg("the rules do not allow \"%s\"", state.text);
        hits += !hit[found - allowed];
        hit[found - allowed] = true;
    }
    return hits;
}

/* Cuts of random steps: never a state that the simulator does not know; and where it knows few, each of them. */
static void against_simulator(uint64_t seed, bool with_failures)
{
    static struct state allowed[STATES_MAX];
    unsigned exhausted = 0, compared = 0;
    for (uint64_t round = 0; round < 300; round++) {
        struct step steps[24];
        uint64_t dice = dice_of(seed, round);
        size_t count = 4 + dice_roll(&dice) % 20;
        for (size_t i = 0; i < count; i++)
            steps[i] = roll_step(&dice, with_failures);
        size_t allowed_count = allowed_states(steps, count, allowed);
        if (allowed_count == 0)
            continue;
        compared++;
        size_t hits = cut_often(steps, count, allowed, allowed_count);
        if (allowed_count <= FEW)
            assert_int_equal(hits, allowed_count);
        exhausted += allowed_count > 1 && allowed_count <= FEW;
    }
    assert_true(compared > 100);
    assert_true(exhausted > 10);
}

static void cut__leaves_what_the_simulator_allows(void **context)
{
    (void)context;
    against_simulator(1, false);
}

static void cut__after_failed_syncs(void **context)
{
    (void)context;
    against_simulator(2, true);
}

/* --------------------------------------------------------------------------------------- what the simulator has not */

/* A disk with a durable file "a" of 1024 bytes of 1. */
static struct disk *prepare(enum disk_names rule, uint64_t *inode)
{
    uint8_t bytes[1024];
    struct disk *disk = disk_new(&(struct disk_options){.names = rule});
    memset(bytes, 1, sizeof bytes);
    assert_int_equal(disk_create(disk, DISK_ROOT, "a", &like_file, inode), 0);
    assert_int_equal(disk_write(disk, *inode, bytes, sizeof bytes, 0), 0);
    disk_sync(disk, *inode);
    disk_sync(disk, DISK_ROOT);
    return disk;
}

static uint8_t first_byte(const struct disk *disk, uint64_t inode)
{
    size_t length = 1;
    const uint8_t *bytes = disk_read(disk, inode, 0, &length);
    return length == 1 ? bytes[0] : 0;
}

/* After a failed sync btrfs shows what is on the disk; what was written is nowhere. */
static void failure__reverts(void **context)
{
    (void)context;
    for (uint64_t seed = 0; seed < 50; seed++) {
        char text[64];
        uint64_t inode;
        struct disk *disk = prepare(DISK_NAMES_STRICT, &inode);
        assert_int_equal(disk_write(disk, inode, "\2", 1, 0), 0);
        assert_int_equal(disk_set_size(disk, inode, 4096), 0);
        disk_sync_failed(disk, inode, 0, UINT64_MAX, DISK_FAILURE_REVERT);
        assert_int_equal(first_byte(disk, inode), 1);
        disk_cut(disk, seed, text, sizeof text);
        size_t length = SIZE_MAX;
        (void)disk_read(disk, inode, 0, &length);
        assert_int_equal(first_byte(disk, inode), 1);
        assert_int_equal(length, 1024);
        disk_free(disk);
    }
}

/* What a failed sync leaves dirty the next one makes durable; what it calls clean may be lost after it. */
static void failure__dirty_and_clean(void **context)
{
    (void)context;
    unsigned lost[2] = {0, 0};
    for (uint64_t seed = 0; seed < 100; seed++) {
        char text[64];
        uint64_t inode;
        struct disk *disk = prepare(DISK_NAMES_STRICT, &inode);
        assert_int_equal(disk_write(disk, inode, "\2", 1, 0), 0);
        disk_sync_failed(disk, inode, 0, UINT64_MAX, seed % 2 == 0 ? DISK_FAILURE_DIRTY : DISK_FAILURE_CLEAN);
        assert_int_equal(first_byte(disk, inode), 2);
        disk_sync(disk, inode);
        disk_cut(disk, seed, text, sizeof text);
        lost[seed % 2] += first_byte(disk, inode) == 1;
        disk_free(disk);
    }
    assert_int_equal(lost[0], 0);
    assert_in_range(lost[1], 1, 49);
}

/* In a journal names persist in order, and the sync of any file covers them. */
static void names__in_a_journal(void **context)
{
    (void)context;
    unsigned both = 0, none = 0;
    for (uint64_t seed = 0; seed < 100; seed++) {
        char text[64];
        uint64_t inode, other;
        struct disk *disk = prepare(DISK_NAMES_JOURNAL, &inode);
        assert_int_equal(disk_create(disk, DISK_ROOT, "b", &like_file, &other), 0);
        disk_sync(disk, inode);
        assert_int_equal(disk_create(disk, DISK_ROOT, "c", &like_file, &other), 0);
        assert_int_equal(disk_create(disk, DISK_ROOT, "d", &like_file, &other), 0);
        disk_cut(disk, seed, text, sizeof text);
        assert_int_equal(disk_find(disk, DISK_ROOT, "b", &other), 0);
        bool c = disk_find(disk, DISK_ROOT, "c", &other) == 0, d = disk_find(disk, DISK_ROOT, "d", &other) == 0;
        assert_false(d && !c);
        both += d;
        none += !c;
        disk_free(disk);
    }
    assert_in_range(both, 1, 99);
    assert_in_range(none, 1, 99);
}

/* The name of a directory is lost with all that is in it. */
static void names__below_a_lost_directory(void **context)
{
    (void)context;
    unsigned lost = 0;
    for (uint64_t seed = 0; seed < 50; seed++) {
        char text[64];
        uint64_t directory, inode;
        struct disk *disk = disk_new(&(struct disk_options){.names = DISK_NAMES_STRICT});
        struct disk_stat like = {.mode = S_IFDIR | 0755};
        assert_int_equal(disk_create(disk, DISK_ROOT, "directory", &like, &directory), 0);
        assert_int_equal(disk_create(disk, directory, "a", &like_file, &inode), 0);
        disk_sync(disk, directory);
        disk_cut(disk, seed, text, sizeof text);
        bool there = disk_find(disk, DISK_ROOT, "directory", &directory) == 0;
        assert_int_equal(disk_find(disk, directory, "a", &inode) == 0, there);
        lost += !there;
        disk_free(disk);
    }
    assert_in_range(lost, 1, 49);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(cut__leaves_what_the_simulator_allows),
        cmocka_unit_test(cut__after_failed_syncs),
        cmocka_unit_test(failure__reverts),
        cmocka_unit_test(failure__dirty_and_clean),
        cmocka_unit_test(names__in_a_journal),
        cmocka_unit_test(names__below_a_lost_directory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
