/* SPDX-License-Identifier: MIT */
/* The simulated machine: that its power cuts produce every legal disk and no other, and that its faults strike. */
#include "tests/support/simfs.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define SECTOR PH_SIM_SECTOR_BYTES

/* A machine, a cut of it and an image, with a file `f` of `sectors` durable sectors of '.'. */
struct bench {
    struct ph_sim *sim, *image;
    const ph_io *io;
    struct ph_sim_cut *cut;
    struct ph_sim_choice choice;
    int file;
};

static void begin(struct bench *bench, unsigned sectors, const struct ph_sim_options *options)
{
    *bench = (struct bench){.sim = ph_sim_new(options)};
    struct ph_sim_options quiet = {.no_journal = true};
    bench->image = ph_sim_new(&quiet);
    bench->io = ph_sim_io(bench->sim);
    bench->file = bench->io->open(bench->sim, "d/f", PH_OPEN_WRITE | PH_OPEN_CREATE, 0600);
    uint8_t bytes[SECTOR];
    memset(bytes, '.', sizeof bytes);
    for (unsigned i = 0; i < sectors; i++)
        assert_int_equal(bench->io->write(bench->sim, bench->file, bytes, SECTOR, (uint64_t)i * SECTOR, 0), SECTOR);
    ph_sim_journal_restart(bench->sim);
}

static void end(struct bench *bench)
{
    ph_sim_choice_deinit(&bench->choice);
    ph_sim_cut_free(bench->cut);
    ph_sim_free(bench->sim);
    ph_sim_free(bench->image);
}

static void put(struct bench *bench, char letter, unsigned sector, unsigned count, unsigned flags)
{
    uint8_t bytes[16 * SECTOR];
    memset(bytes, letter, (size_t)count * SECTOR);
    assert_int_equal(
        bench->io->write(bench->sim, bench->file, bytes, (size_t)count * SECTOR, (uint64_t)sector * SECTOR, flags),
        (int)(count * SECTOR));
}

/* Go to the end of the journal, or to `position`. */
static void cut_at(struct bench *bench, uint64_t position)
{
    ph_sim_cut_free(bench->cut);
    bench->cut = ph_sim_cut_new(bench->sim);
    while (ph_sim_cut_position(bench->cut) < position && ph_sim_cut_next(bench->cut))
        continue;
}

/* The first letter of each sector of `path` in the image; "-" if there is no such file. */
static const char *letters(struct bench *bench, const char *path)
{
    static char text[64];
    int64_t size = ph_sim_size(bench->image, path);
    if (size < 0)
        return "-";
    size_t count = 0;
    for (; (int64_t)count * SECTOR < size; count++) {
        char byte = 0;
        (void)ph_sim_peek(bench->image, path, &byte, 1, count * SECTOR);
        text[count] = byte == 0 ? '0' : byte;
    }
    text[count] = '\0';
    return text;
}

static int compare(const void *one, const void *other)
{
    return strcmp(one, other);
}

/* All states at the position, sorted, without repeats: "ab ac bb". */
static const char *all_states(struct bench *bench, const char *path)
{
    static char text[4096];
    char found[256][64];
    uint64_t states = ph_sim_cut_states(bench->cut);
    assert_true(states <= 256);
    for (uint64_t i = 0; i < states; i++) {
        ph_sim_cut_choose(bench->cut, i, &bench->choice);
        ph_sim_cut_image(bench->cut, &bench->choice, i, bench->image);
        strcpy(found[i], letters(bench, path));
    }
    qsort(found, (size_t)states, sizeof found[0], compare);
    text[0] = '\0';
    for (uint64_t i = 0; i < states; i++)
        if (i == 0 || strcmp(found[i], found[i - 1]) != 0) {
            strcat(text, i == 0 ? "" : " ");
            strcat(text, found[i]);
        }
    return text;
}

/* Every subset of unsynced sectors, and after a sync exactly one state. */
static void cut__enumerates_all_subsets_of_sectors(void **state)
{
    (void)state;
    struct bench bench;
    begin(&bench, 3, NULL);
    put(&bench, 'a', 0, 2, 0);
    cut_at(&bench, 0);
    assert_string_equal(all_states(&bench, "d/f"), "...");
    cut_at(&bench, UINT64_MAX);
    assert_string_equal(all_states(&bench, "d/f"), "... .a. a.. aa.");
    assert_int_equal(bench.io->sync(bench.sim, bench.file), 0);
    cut_at(&bench, 1);
    assert_int_equal(ph_sim_cut_states(bench.cut), 4);
    cut_at(&bench, 2);
    assert_string_equal(all_states(&bench, "d/f"), "aa.");
    end(&bench);
}

/* A sector written twice may hold any of three contents: catches a model that knows only old and new. */
static void cut__a_sector_may_hold_any_unsynced_version(void **state)
{
    (void)state;
    struct bench bench;
    begin(&bench, 1, NULL);
    put(&bench, 'a', 0, 1, 0);
    put(&bench, 'b', 0, 1, 0);
    put(&bench, 'b', 0, 1, 0); /* the same again is no new state */
    cut_at(&bench, UINT64_MAX);
    assert_string_equal(all_states(&bench, "d/f"), ". a b");
    assert_int_equal(ph_sim_cut_states(bench.cut), 3);
    end(&bench);
}

/* A dsync write in flight is torn in every way; once it has returned, it is there, and its neighbours are not. */
static void cut__dsync_write_is_torn_only_in_flight(void **state)
{
    (void)state;
    struct bench bench;
    begin(&bench, 3, NULL);
    put(&bench, 'n', 2, 1, 0);
    put(&bench, 'a', 0, 2, PH_WRITE_DSYNC);
    cut_at(&bench, 2);
    assert_string_equal(all_states(&bench, "d/f"), "... ..n .a. .an a.. a.n aa. aan");
    cut_at(&bench, 3);
    assert_string_equal(all_states(&bench, "d/f"), "aa. aan");
    end(&bench);
}

/* Sizes come in order, and data beyond the size that persists is lost. */
static void cut__sizes_may_lag_behind(void **state)
{
    (void)state;
    struct bench bench;
    begin(&bench, 1, NULL);
    put(&bench, 'a', 1, 1, 0);
    put(&bench, 'b', 2, 1, 0);
    cut_at(&bench, UINT64_MAX);
    assert_string_equal(all_states(&bench, "d/f"), ". .0 .00 .0b .a .a0 .ab");
    put(&bench, 'c', 3, 1, PH_WRITE_DSYNC); /* needs the size, and so brings it */
    cut_at(&bench, UINT64_MAX);
    assert_string_equal(all_states(&bench, "d/f"), ".00c .0bc .a0c .abc");
    end(&bench);
}

/* What a smaller size cut off never comes back once that size has persisted, and is there until then. */
static void cut__shrinking_and_growing_again_shows_zeros(void **state)
{
    (void)state;
    struct bench bench;
    begin(&bench, 2, NULL);
    assert_int_equal(bench.io->truncate(bench.sim, bench.file, SECTOR), 0);
    assert_int_equal(bench.io->truncate(bench.sim, bench.file, 2 * SECTOR), 0);
    cut_at(&bench, UINT64_MAX);
    assert_string_equal(all_states(&bench, "d/f"), ". .. .0");
    assert_int_equal(bench.io->sync(bench.sim, bench.file), 0);
    cut_at(&bench, UINT64_MAX);
    assert_string_equal(all_states(&bench, "d/f"), ".0");
    end(&bench);
}

/* Punching may have happened or not; reserving beyond the end changes the size. */
static void cut__punch_and_reserve(void **state)
{
    (void)state;
    struct bench bench;
    begin(&bench, 2, NULL);
    assert_int_equal(bench.io->allocate(bench.sim, bench.file, PH_ALLOCATE_PUNCH, SECTOR, SECTOR), 0);
    cut_at(&bench, UINT64_MAX);
    assert_string_equal(all_states(&bench, "d/f"), ".. .0");
    assert_int_equal(bench.io->sync(bench.sim, bench.file), 0);
    assert_int_equal(bench.io->allocate(bench.sim, bench.file, PH_ALLOCATE_RESERVE, 0, 3 * SECTOR), 0);
    cut_at(&bench, UINT64_MAX);
    assert_string_equal(all_states(&bench, "d/f"), ".0 .00");
    end(&bench);
}

/* A name vanishes until its directory is synced, whatever was done to the file itself. */
static void cut__names_vanish_until_the_directory_is_synced(void **state)
{
    (void)state;
    struct bench bench;
    begin(&bench, 1, NULL);
    const ph_io *io = bench.io;
    int file = io->open(io->ctx, "d/new", PH_OPEN_WRITE | PH_OPEN_CREATE, 0600);
    assert_int_equal(io->write(io->ctx, file, "x", 1, 0, 0), 1);
    assert_int_equal(io->sync(io->ctx, file), 0);
    assert_int_equal(io->sync_directory(io->ctx, "elsewhere/f"), 0);
    cut_at(&bench, UINT64_MAX);
    assert_string_equal(all_states(&bench, "d/new"), "- x");
    assert_int_equal(io->sync_directory(io->ctx, "d/f"), 0);
    cut_at(&bench, UINT64_MAX);
    assert_string_equal(all_states(&bench, "d/new"), "x");
    assert_int_equal(io->rename_new(io->ctx, "d/new", "d/newer"), 0);
    assert_int_equal(io->unlink(io->ctx, "d/f"), 0);
    cut_at(&bench, UINT64_MAX);
    assert_string_equal(all_states(&bench, "d/new"), "- x");
    assert_string_equal(all_states(&bench, "d/newer"), "- x");
    assert_string_equal(all_states(&bench, "d/f"), "- .");
    assert_int_equal(ph_sim_cut_states(bench.cut), 4);
    end(&bench);
}

/* After a failed sync the cache calls the data clean: the next sync succeeds and saves only what was written again. */
static void cut__failed_sync_drops_what_was_dirty(void **state)
{
    (void)state;
    struct bench bench;
    begin(&bench, 2, NULL);
    put(&bench, 'a', 0, 2, 0);
    ph_sim_fail_at(bench.sim, PH_SIM_SYNC, 1, EIO, PH_SIM_ONCE);
    assert_int_equal(bench.io->sync(bench.sim, bench.file), -EIO);
    put(&bench, 'a', 1, 1, 0);
    assert_int_equal(bench.io->sync(bench.sim, bench.file), 0);
    uint8_t byte;
    assert_int_equal(bench.io->read(bench.sim, bench.file, &byte, 1, 0), 1);
    assert_int_equal(byte, 'a');
    cut_at(&bench, UINT64_MAX);
    assert_string_equal(all_states(&bench, "d/f"), ".a aa");
    end(&bench);
    struct ph_sim_options options = {.keep_dirty = true};
    begin(&bench, 1, &options);
    put(&bench, 'a', 0, 1, 0);
    ph_sim_fail_at(bench.sim, PH_SIM_SYNC, 1, EIO, PH_SIM_ONCE);
    assert_int_equal(bench.io->sync(bench.sim, bench.file), -EIO);
    assert_int_equal(bench.io->sync(bench.sim, bench.file), 0);
    cut_at(&bench, UINT64_MAX);
    assert_string_equal(all_states(&bench, "d/f"), "a");
    end(&bench);
}

/* An image is a machine: it can be used, and lose power again, and the same image serves the next state. */
static void image__runs_and_loses_power_again(void **state)
{
    (void)state;
    struct bench bench;
    begin(&bench, 40, NULL);
    put(&bench, 'a', 3, 1, 0);
    cut_at(&bench, UINT64_MAX);
    ph_sim_cut_sample(bench.cut, 1, 0, &bench.choice);
    for (unsigned round = 0; round < 3; round++) {
        ph_sim_cut_image(bench.cut, &bench.choice, 1, bench.image);
        const ph_io *io = ph_sim_io(bench.image);
        ph_sim_journal_restart(bench.image);
        int file = io->open(io->ctx, "d/f", PH_OPEN_WRITE, 0);
        assert_true(file >= 0);
        assert_int_equal(io->write(io->ctx, file, "z", 1, 7 * SECTOR, 0), 1);
        assert_int_equal(io->write(io->ctx, file, "z", 1, 60 * SECTOR, 0), 1);
        struct bench second = {.sim = bench.image, .image = ph_sim_new(NULL), .io = io};
        cut_at(&second, 1);
        assert_string_equal(all_states(&second, "d/f"),
                            "...a.................................... ...a...z................................");
        ph_sim_cut_free(second.cut);
        ph_sim_choice_deinit(&second.choice);
        ph_sim_free(second.image);
        assert_int_equal(io->truncate(io->ctx, file, 10 * SECTOR), 0);
        assert_int_equal(io->close(io->ctx, file), 0);
    }
    ph_sim_cut_image(bench.cut, &bench.choice, 1, bench.image);
    assert_string_equal(letters(&bench, "d/f"), "...a....................................");
    end(&bench);
}

/* Images brought up page by page equal images built from nothing: catches a wrong stamp. */
static void image__reuse_equals_building_anew(void **state)
{
    (void)state;
    struct bench bench;
    begin(&bench, 64, NULL);
    uint64_t dice = 42;
    uint8_t bytes[3000];
    for (unsigned i = 0; i < 120; i++) {
        dice = dice * UINT64_C(6364136223846793005) + 1442695040888963407U;
        uint64_t roll = dice >> 20;
        memset(bytes, 'a' + (int)(roll % 26), sizeof bytes);
        uint64_t offset = roll % 50000;
        if (roll % 11 == 0)
            assert_int_equal(bench.io->sync(bench.sim, bench.file), 0);
        else if (roll % 13 == 0)
            assert_int_equal(bench.io->truncate(bench.sim, bench.file, offset), 0);
        else
            assert_int_equal(bench.io->write(bench.sim, bench.file, bytes, (size_t)(roll % 2999) + 1, offset,
                                             roll % 5 == 0 ? PH_WRITE_DSYNC : 0),
                             (int)(roll % 2999) + 1);
    }
    static uint8_t one[60000], other[60000];
    bench.cut = ph_sim_cut_new(bench.sim);
    do {
        for (uint64_t i = 0; i < 12; i++) {
            struct ph_sim_options quiet = {.no_journal = true};
            struct ph_sim *fresh = ph_sim_new(&quiet);
            ph_sim_cut_sample(bench.cut, i, 7, &bench.choice);
            ph_sim_cut_image(bench.cut, &bench.choice, 0, bench.image);
            ph_sim_cut_image(bench.cut, &bench.choice, 0, fresh);
            int64_t size = ph_sim_size(fresh, "d/f");
            assert_int_equal(ph_sim_size(bench.image, "d/f"), size);
            assert_int_equal(ph_sim_peek(fresh, "d/f", one, sizeof one, 0), size);
            assert_int_equal(ph_sim_peek(bench.image, "d/f", other, sizeof other, 0), size);
            assert_memory_equal(one, other, (size_t)size);
            if (i % 3 == 0) /* the image is used between states */
                (void)ph_sim_poke(bench.image, "d/f", "dirt", 4, i * 4321);
            ph_sim_free(fresh);
        }
    } while (ph_sim_cut_next(bench.cut));
    end(&bench);
}

/* The coordination file is gone or holds what it held at some earlier time, never later stores. */
static void image__coordination_file_is_gone_or_stale(void **state)
{
    (void)state;
    struct bench bench;
    begin(&bench, 1, NULL);
    const ph_io *io = bench.io;
    int file = io->open(io->ctx, "d/f-shm", PH_OPEN_WRITE | PH_OPEN_CREATE, 0600);
    assert_int_equal(io->truncate(io->ctx, file, 4096), 0);
    void *address;
    assert_int_equal(io->map(io->ctx, file, 4096, PH_MAP_SHARED, &address), 0);
    for (char letter = 'a'; letter <= 'z'; letter++) {
        *(volatile char *)address = letter;
        for (unsigned i = 0; i < 5; i++)
            put(&bench, letter, 0, 1, 0);
    }
    cut_at(&bench, 80); /* five or six events a letter */
    unsigned gone = 0, stale = 0;
    for (uint64_t seed = 0; seed < 100; seed++) {
        ph_sim_cut_sample(bench.cut, 0, 0, &bench.choice);
        ph_sim_cut_image(bench.cut, &bench.choice, seed, bench.image);
        const char *text = letters(&bench, "d/f-shm");
        gone += strcmp(text, "-") == 0;
        stale += text[0] >= 'a' && text[0] <= 'p';
        assert_true(strcmp(text, "-") == 0 || text[0] == '\0' || text[0] == '0' || (text[0] >= 'a' && text[0] <= 'p'));
    }
    assert_true(gone > 20 && stale > 20);
    uint8_t before[16], after[16];
    assert_int_equal(io->boot_id(io->ctx, before), 0);
    assert_int_equal(ph_sim_io(bench.image)->boot_id(bench.image, after), 0);
    assert_memory_not_equal(before, after, 16);
    assert_int_equal(io->unmap(io->ctx, address, 4096), 0);
    end(&bench);
}

/* Samples begin with nothing and everything, and reach every digit: catches a sampler that never tears. */
static void sample__covers_extremes_and_singles(void **state)
{
    (void)state;
    struct bench bench;
    begin(&bench, 16, NULL);
    put(&bench, 'a', 0, 16, 0);
    cut_at(&bench, UINT64_MAX);
    assert_int_equal(ph_sim_cut_digits(bench.cut), 16);
    assert_int_equal(ph_sim_cut_states(bench.cut), 65536);
    bool seen[17] = {false};
    for (uint64_t i = 0; i < 300; i++) {
        ph_sim_cut_sample(bench.cut, i, 5, &bench.choice);
        unsigned sum = 0;
        for (unsigned j = 0; j < 16; j++)
            sum += bench.choice.digits[j];
        assert_true(i != 0 || sum == 0);
        assert_true(i != 1 || sum == 16);
        seen[sum] = true;
    }
    assert_true(seen[1] && seen[15] && seen[7] && seen[8] && seen[9]);
    end(&bench);
}

/* Notes arrive in their place between the events. */
static void note__is_passed_in_order(void **state)
{
    (void)state;
    struct bench bench;
    begin(&bench, 1, NULL);
    ph_sim_note(bench.sim, 1, 5);
    put(&bench, 'a', 0, 1, 0);
    ph_sim_note(bench.sim, 0, 9);
    cut_at(&bench, 0);
    assert_false(ph_sim_cut_before_io(bench.cut));
    cut_at(&bench, 2);
    assert_int_equal(ph_sim_cut_note(bench.cut, 1), 5);
    assert_int_equal(ph_sim_cut_note(bench.cut, 0), 0);
    assert_false(ph_sim_cut_before_io(bench.cut));
    assert_true(ph_sim_cut_next(bench.cut));
    assert_true(ph_sim_cut_before_io(bench.cut));
    assert_int_equal(ph_sim_cut_note(bench.cut, 0), 9);
    assert_false(ph_sim_cut_next(bench.cut));
    end(&bench);
}

/* Faults strike the call they are meant for, once or for good, and then are gone. */
static void fault__strikes_the_nth_call(void **state)
{
    (void)state;
    struct ph_sim *sim = ph_sim_new(NULL);
    const ph_io *io = ph_sim_io(sim);
    int file = io->open(io->ctx, "f", PH_OPEN_WRITE | PH_OPEN_CREATE, 0600);
    uint8_t bytes[2048] = {0};
    ph_sim_fail_at(sim, PH_SIM_WRITE, 2, ENOSPC, PH_SIM_ONCE);
    assert_int_equal(io->write(io->ctx, file, bytes, 10, 0, 0), 10);
    assert_int_equal(io->sync(io->ctx, file), 0);
    assert_int_equal(io->write(io->ctx, file, bytes, 10, 10, 0), -ENOSPC);
    assert_int_equal(io->write(io->ctx, file, bytes, 10, 10, 0), 10);
    assert_int_equal(ph_sim_struck(sim), 1);
    assert_string_equal(ph_sim_struck_at(sim), "write f 10@10");
    ph_sim_fail_at(sim, PH_SIM_GROW, 1, ENOSPC, PH_SIM_FOREVER);
    assert_int_equal(io->write(io->ctx, file, bytes, 20, 0, 0), 20);
    assert_int_equal(io->write(io->ctx, file, bytes, 21, 0, 0), -ENOSPC);
    assert_int_equal(io->truncate(io->ctx, file, 21), -ENOSPC);
    assert_int_equal(io->truncate(io->ctx, file, 19), 0);
    ph_sim_fail_clear(sim);
    assert_int_equal(io->truncate(io->ctx, file, 21), 0);
    ph_sim_fail_at(sim, PH_SIM_READ | PH_SIM_WRITE, 1, 0, PH_SIM_SHORT);
    assert_int_equal(io->write(io->ctx, file, bytes, 2048, 0, 0), 1024);
    ph_sim_fail_at(sim, PH_SIM_MEMORY, 1, ENOMEM, PH_SIM_ONCE);
    assert_null(io->alloc(io->ctx, 10, 16));
    void *memory = io->alloc(io->ctx, 10, 16);
    assert_int_equal(ph_sim_live_allocations(sim), 1);
    io->free(io->ctx, memory);
    assert_int_equal(ph_sim_live_allocations(sim), 0);
    assert_int_equal(ph_sim_calls(sim, PH_SIM_SYNC), 1);
    ph_sim_power_off(sim);
    assert_int_equal(io->write(io->ctx, file, bytes, 1, 0, 0), -EIO);
    assert_int_equal(io->close(io->ctx, file), 0);
    assert_int_equal(ph_sim_live_handles(sim), 0);
    ph_sim_free(sim);
}

/* A lying disk acknowledges and forgets. */
static void lie__forgets_what_it_acknowledged(void **state)
{
    (void)state;
    struct bench bench;
    struct ph_sim_options options = {.lie = PH_SIM_LIE_SYNC, .lie_suffix = "f"};
    begin(&bench, 1, &options);
    put(&bench, 'a', 0, 1, 0);
    assert_int_equal(bench.io->sync(bench.sim, bench.file), 0);
    cut_at(&bench, UINT64_MAX);
    assert_string_equal(all_states(&bench, "d/f"), ". a");
    put(&bench, 'b', 0, 1, PH_WRITE_DSYNC);
    cut_at(&bench, UINT64_MAX);
    assert_string_equal(all_states(&bench, "d/f"), "b");
    end(&bench);
}

/* Death closes, unlocks and unmaps, and leaves the files and the coordination file as they were. */
static void kill__takes_handles_locks_and_maps(void **state)
{
    (void)state;
    struct ph_sim *sim = ph_sim_new(&(struct ph_sim_options){.watch = true});
    const ph_io *io = ph_sim_io(sim);
    int file = io->open(io->ctx, "f", PH_OPEN_WRITE | PH_OPEN_CREATE, 0600);
    void *address, *private;
    assert_int_equal(io->truncate(io->ctx, file, 4096), 0);
    assert_int_equal(io->map(io->ctx, file, 4096, PH_MAP_SHARED, &address), 0);
    assert_int_equal(io->map(io->ctx, file, 4096, PH_MAP_PRIVATE, &private), 0);
    int watch = io->watch(io->ctx, private, 4096);
    assert_true(watch >= 0 || watch == -ENOSYS);
    assert_int_equal(ph_sim_live_handles(sim), watch >= 0 ? 2 : 1);
    assert_int_equal(io->lock(io->ctx, file, PH_LOCK_EXCLUSIVE, 0, 1, false), 0);
    *(volatile char *)address = 'k';
    ph_sim_kill(sim);
    assert_ptr_not_equal(ph_sim_io(sim), io);
    io = ph_sim_io(sim);
    assert_int_equal(ph_sim_live_handles(sim) + ph_sim_live_maps(sim), 0);
    file = io->open(io->ctx, "f", PH_OPEN_WRITE, 0);
    char byte = 0;
    assert_int_equal(io->lock(io->ctx, file, PH_LOCK_EXCLUSIVE, 0, 1, false), 0);
    assert_int_equal(io->read(io->ctx, file, &byte, 1, 0), 1);
    assert_int_equal(byte, 'k');
    ph_sim_free(sim);
}

/* Direct transfers must be aligned, as on a real device: catches code that only works where they are refused. */
static void direct__needs_alignment(void **state)
{
    (void)state;
    struct ph_sim *sim = ph_sim_new(NULL);
    const ph_io *io = ph_sim_io(sim);
    _Alignas(512) static uint8_t bytes[1024];
    int file = io->open(io->ctx, "f", PH_OPEN_WRITE | PH_OPEN_CREATE | PH_OPEN_DIRECT, 0600);
    assert_int_equal(io->write(io->ctx, file, bytes, 512, 512, 0), 512);
    assert_int_equal(io->write(io->ctx, file, bytes, 100, 512, 0), -EINVAL);
    assert_int_equal(io->write(io->ctx, file, bytes, 512, 100, 0), -EINVAL);
    assert_int_equal(io->write(io->ctx, file, bytes + 8, 512, 0, 0), -EINVAL);
    assert_int_equal(io->read(io->ctx, file, bytes, 1024, 512), 512);
    assert_int_equal(io->close(io->ctx, file), 0);
    ph_sim_free(sim);
}

/* Locks conflict between opens, split and convert as the kernel's do. */
static void locks__behave_as_the_kernels(void **state)
{
    (void)state;
    struct ph_sim *sim = ph_sim_new(NULL);
    const ph_io *io = ph_sim_io(sim);
    int one = io->open(io->ctx, "f", PH_OPEN_WRITE | PH_OPEN_CREATE, 0600);
    int other = io->open(io->ctx, "f", PH_OPEN_WRITE, 0);
    int reader = io->open(io->ctx, "f", PH_OPEN_READ, 0);
    assert_int_equal(io->lock(io->ctx, one, PH_LOCK_EXCLUSIVE, 0, 100, false), 0);
    assert_int_equal(io->lock(io->ctx, one, PH_LOCK_NONE, 40, 20, false), 0);
    assert_int_equal(io->lock(io->ctx, other, PH_LOCK_EXCLUSIVE, 40, 20, false), 0);
    assert_int_equal(io->lock(io->ctx, other, PH_LOCK_SHARED, 39, 1, false), -EAGAIN);
    assert_int_equal(io->lock(io->ctx, other, PH_LOCK_SHARED, 60, 1, false), -EAGAIN);
    assert_int_equal(io->lock(io->ctx, one, PH_LOCK_SHARED, 60, 40, false), 0);
    assert_int_equal(io->lock(io->ctx, other, PH_LOCK_SHARED, 60, 0, false), 0);
    assert_int_equal(io->lock(io->ctx, reader, PH_LOCK_EXCLUSIVE, 1000, 1, false), -EBADF);
    assert_int_equal(io->close(io->ctx, one), 0);
    assert_int_equal(io->lock(io->ctx, reader, PH_LOCK_SHARED, 0, 40, true), 0);
    assert_int_equal(io->lock(io->ctx, reader, PH_LOCK_SHARED, 50, 1, false), -EAGAIN);
    assert_int_equal(io->close(io->ctx, reader), 0);
    assert_int_equal(io->close(io->ctx, other), 0);
    ph_sim_free(sim);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(cut__enumerates_all_subsets_of_sectors),
        cmocka_unit_test(cut__a_sector_may_hold_any_unsynced_version),
        cmocka_unit_test(cut__dsync_write_is_torn_only_in_flight),
        cmocka_unit_test(cut__sizes_may_lag_behind),
        cmocka_unit_test(cut__shrinking_and_growing_again_shows_zeros),
        cmocka_unit_test(cut__punch_and_reserve),
        cmocka_unit_test(cut__names_vanish_until_the_directory_is_synced),
        cmocka_unit_test(cut__failed_sync_drops_what_was_dirty),
        cmocka_unit_test(image__runs_and_loses_power_again),
        cmocka_unit_test(image__reuse_equals_building_anew),
        cmocka_unit_test(image__coordination_file_is_gone_or_stale),
        cmocka_unit_test(sample__covers_extremes_and_singles),
        cmocka_unit_test(note__is_passed_in_order),
        cmocka_unit_test(fault__strikes_the_nth_call),
        cmocka_unit_test(lie__forgets_what_it_acknowledged),
        cmocka_unit_test(kill__takes_handles_locks_and_maps),
        cmocka_unit_test(direct__needs_alignment),
        cmocka_unit_test(locks__behave_as_the_kernels),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
