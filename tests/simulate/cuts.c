/* SPDX-License-Identifier: MIT */
/* Every place of a journal, samples of what the disk may hold there, and what is found when that is opened. */
#include "tests/simulate/cuts.h"

#include "io/disk.h"
#include "pheap/core.h"
#include "tests/support/dice.h"

#include <errno.h>
#include <string.h>

#define EXHAUSTIVE_MAX 24 /* choices at one place: all of them */
#define PATH_WAL RUN_PATH "-wal"

/* What is the same for all cuts of one journal. */
struct level {
    const struct plan *plan;
    struct oracle *oracle;
    struct tally *tally;
    struct failure *failure;
    unsigned depth;
    struct ph_sim *image; /* plain: states are made on it */
    uint64_t last;        /* position of the journal */
    uint64_t stride;      /* about one position in so many is looked at */
    uint32_t least, tip;  /* where the journal has no note of these yet */
    bool opened;          /* before the journal begins */
    bool forgiving;       /* a disk fails while the image recovers */
    struct ph_sim_cut *cut;
};

/* One state of it. */
struct state {
    struct ph_sim_choice *choice;
    uint64_t dice;
    uint32_t least, tip;
    unsigned flags; /* to open it with */
};

static void describe(const struct level *level, const struct state *state)
{
    struct failure *failure = level->failure;
    size_t used = strlen(failure->place), room = sizeof failure->place - used;
    char text[900];
    ph_sim_cut_describe(level->cut, state->choice, text, sizeof text);
    (void)snprintf(failure->place + used, room, "  power cut %u: %s\n", level->depth, text);
}

static void fail(const struct level *level, const struct state *state, enum failure_kind kind)
{
    struct failure *failure = level->failure;
    if (failure->found)
        return;
    failure->found = true;
    failure->kind = kind;
    (void)snprintf(failure->why, sizeof failure->why, "%s", level->oracle->why);
    describe(level, state);
}

static bool leaked(const struct level *level, struct ph_sim *image)
{
    ph_core_forget_mappings(ph_sim_io(image));
    if (ph_sim_live_handles(image) == 0 && ph_sim_live_maps(image) == 0 && ph_sim_live_allocations(image) == 0)
        return false;
    (void)oracle_fail(level->oracle, "after close %lld files are open, %lld maps and %lld blocks of memory are left",
                      (long long)ph_sim_live_handles(image), (long long)ph_sim_live_maps(image),
                      (long long)ph_sim_live_allocations(image));
    return true;
}

static enum pheap_status open_image(const struct level *level, struct ph_sim *image, unsigned flags, pheap **heap)
{
    struct pheap_options options = run_options(level->plan);
    options.read_views = 1;
    return (enum pheap_status)ph_open_io(ph_sim_io(image), RUN_PATH, flags, &options, heap);
}

/* -------------------------------------------------------------------------------------------------------- one state */

/* *version: which one it is at. */
static bool check_state(const struct level *level, const struct state *state, struct ph_sim *image, uint32_t *version)
{
    pheap *heap = NULL;
    enum pheap_status status = open_image(level, image, state->flags, &heap);
    if (status != PHEAP_OK)
        (void)oracle_fail(level->oracle, "not opened: %s: %s", pheap_status_name(status), pheap_error_detail());
    else
        (void)oracle_recovered(level->oracle, heap, state->least, state->tip, version);
    status = pheap_close(heap);
    if (status != PHEAP_OK)
        (void)oracle_fail(level->oracle, "not closed: %s: %s", pheap_status_name(status), pheap_error_detail());
    return !leaked(level, image) && level->oracle->why[0] == '\0';
}

/* ----------------------------------------------------------------------------------------------------------- damage */

/* Where things went wrong, and whether checksums cover that. */
static bool damage(struct ph_sim *image, uint64_t dice)
{
    uint8_t sector[PH_SIM_SECTOR_BYTES], other[PH_SIM_SECTOR_BYTES];
    bool in_log = dice_roll(&dice) % 2 == 0;
    const char *path = in_log ? PATH_WAL : RUN_PATH;
    int64_t size = ph_sim_size(image, path);
    if (size < (int64_t)PH_SIM_SECTOR_BYTES * 2)
        return true;
    uint64_t sectors = (uint64_t)size / PH_SIM_SECTOR_BYTES;
    /* A superblock often, so that checksums have something to do in the heap file too. */
    uint64_t at = !in_log && dice_roll(&dice) % 2 == 0 ? PH_SUPERBLOCK_OFFSET(dice % 2) / PH_SIM_SECTOR_BYTES
                                                       : dice_roll(&dice) % sectors;
    uint64_t elsewhere = dice_roll(&dice) % sectors;
    (void)ph_sim_peek(image, path, sector, sizeof sector, at * PH_SIM_SECTOR_BYTES);
    (void)ph_sim_peek(image, path, other, sizeof other, elsewhere * PH_SIM_SECTOR_BYTES);
    bool superblock = at % 8 == 0 && at / 8 < 2;
    switch (dice_roll(&dice) % 4) {
    case 0: /* a bit rots */
        sector[dice % PH_SIM_SECTOR_BYTES] ^= (uint8_t)(1u << (dice >> 20) % 8);
        break;
    case 1: /* several do */
        for (unsigned i = 0; i < 8; i++) {
            uint64_t roll = dice_roll(&dice);
            sector[roll % PH_SIM_SECTOR_BYTES] ^= (uint8_t)(roll >> 32);
        }
        break;
    case 2: /* it holds what belongs elsewhere: a misdirected write */
        memcpy(sector, other, sizeof sector);
        break;
    default: /* it was never written, and reads as zeros */
        memset(sector, 0, sizeof sector);
        break;
    }
    (void)ph_sim_poke(image, path, sector, sizeof sector, at * PH_SIM_SECTOR_BYTES);
    return in_log || superblock;
}

static bool is_clear_refusal(enum pheap_status status)
{
    return status == PHEAP_CORRUPT || status == PHEAP_NOT_HEAP || status == PHEAP_NEWER || status == PHEAP_BYTE_ORDER ||
           status == PHEAP_LOG_MISSING || status == PHEAP_LOG_FOREIGN || status == PHEAP_RESERVE;
}

static void walk(pheap *heap)
{
    pheap_read *reader = NULL;
    uint64_t at = 0, length = 0;
    if (pheap_read_begin(heap, PHEAP_FRESH, &reader) != PHEAP_OK)
        return;
    for (uint64_t from = 0; pheap_read_next_block(reader, from, &at, &length) == PHEAP_OK; from = at + length)
        continue;
    enum pheap_status status = pheap_check(reader, NULL, NULL, NULL);
    (void)status; /* either will do */
    (void)pheap_read_end(reader);
}

/* A heap that opened though something under a checksum was damaged. */
static void check_accepted(const struct level *level, const struct state *state, pheap *heap, uint32_t whole)
{
    struct oracle *oracle = level->oracle;
    uint32_t version = 0;
    bool good = oracle_recovered(oracle, heap, 0, state->tip, &version);
    if (version == whole) {
        char why[ORACLE_WHY_BYTES];
        memcpy(why, oracle->why, sizeof why);
        oracle->why[0] = '\0';
        if (!good)
            (void)oracle_fail(oracle, "damage under a checksum was accepted: %.300s", why);
        return;
    }
    level->tally->cut_back++;
    level->tally->mixed += !good;
    oracle->why[0] = '\0';
}

/* whole: the version that the state has without damage. */
static bool check_damaged(const struct level *level, const struct state *state, struct ph_sim *image, uint32_t whole)
{
    pheap *heap = NULL;
    bool covered = damage(image, state->dice);
    enum pheap_status status = open_image(level, image, state->flags, &heap);
    level->tally->damaged++;
    level->tally->refused += status != PHEAP_OK;
    if (status != PHEAP_OK && (!is_clear_refusal(status) || pheap_error_detail()[0] == '\0'))
        (void)oracle_fail(level->oracle, "a damaged heap is refused with %s: %s", pheap_status_name(status),
                          pheap_error_detail());
    else if (status == PHEAP_OK && covered)
        check_accepted(level, state, heap, whole);
    else if (status == PHEAP_OK)
        walk(heap);
    status = pheap_close(heap);
    (void)status; /* may find the damage */
    return !leaked(level, image) && level->oracle->why[0] == '\0';
}

/* ----------------------------------------------------------------------------------------------------------- deeper */

static void explore(struct level *level);

static void work_on(const struct level *level, const struct state *state, pheap *heap)
{
    enum pheap_status status = PHEAP_OK;
    for (uint64_t i = 0; i < state->dice % 4 && status != PHEAP_POISONED; i++) {
        if (!run_transaction(level->oracle, heap, level->plan, dice_mix(state->dice + i), &status))
            return;
        if (status == PHEAP_OK && state->dice / 4 % 3 == i) {
            status = pheap_checkpoint(heap);
            if (status == PHEAP_OK)
                oracle_durable(level->oracle, level->oracle->tip);
        }
        if (status != PHEAP_OK && status != PHEAP_LOG_FULL && status != PHEAP_TOO_BIG && !level->oracle->forgiving)
            (void)oracle_fail(level->oracle, "after recovery: %s: %s", pheap_status_name(status), pheap_error_detail());
    }
}

/* Recover the state where everything is recorded, and work on; half of the disks fail once meanwhile, and then another
 * process tries again without a reboot.  What it may hold afterwards is in the notes. */
static void live_on(const struct level *level, const struct state *state, struct ph_sim *image)
{
    struct oracle *oracle = level->oracle;
    bool fails = state->dice / 16 % 2 == 0;
    uint32_t least = state->least;
    oracle->sim = image;
    for (unsigned attempt = 0; attempt < 2 && oracle->why[0] == '\0'; attempt++) {
        pheap *heap = NULL;
        uint32_t version = 0;
        if (fails && attempt == 0)
            ph_sim_fail_at(image, PH_SIM_SYNC | PH_SIM_WRITE | PH_SIM_READ | PH_SIM_MEMORY, 1 + state->dice / 32 % 24,
                           state->dice % 3 == 0 ? ENOSPC : EIO, PH_SIM_ONCE);
        oracle->forgiving = fails && attempt == 0;
        enum pheap_status status = open_image(level, image, state->flags, &heap);
        bool struck = ph_sim_struck(image) > 0;
        if (status != PHEAP_OK && !struck)
            (void)oracle_fail(oracle, "not opened: %s: %s", pheap_status_name(status), pheap_error_detail());
        ph_sim_fail_pause(image, true);
        if (status == PHEAP_OK && oracle_recovered(oracle, heap, least, oracle->tip, &version)) {
            oracle_go_on(oracle, image, version);
            ph_sim_note(image, ORACLE_NOTE_OPENED, 1);
            ph_sim_fail_pause(image, false);
            work_on(level, state, heap);
            least = oracle->durable;
        }
        ph_sim_fail_pause(image, false);
        ph_sim_fail_clear(image);
        level->tally->faulted += struck && attempt == 0;
        if (heap != NULL) {
            status = pheap_close(heap);
            if (status == PHEAP_OK) {
                oracle_durable(oracle, oracle_known(oracle));
                least = oracle->durable;
            } else if (!oracle->forgiving) {
                (void)oracle_fail(oracle, "not closed: %s: %s", pheap_status_name(status), pheap_error_detail());
            }
        }
        if (!fails)
            break;
    }
    oracle->forgiving = false;
    (void)leaked(level, image);
}

static void deepen(struct level *level, struct state *state)
{
    struct oracle *oracle = level->oracle;
    struct oracle before = *oracle;
    struct ph_sim_options lasting = plan_machine(level->plan);
    lasting.no_journal = true; /* until it has its content */
    struct ph_sim *image = ph_sim_new(&lasting);
    ph_sim_cut_image(level->cut, state->choice, state->dice, image);
    ph_sim_journal_restart(image);
    oracle->tip = state->tip;
    oracle->durable = state->least;
    live_on(level, state, image);
    struct level below = *level;
    below.depth++;
    below.last = ph_sim_journal_length(image);
    below.stride = 1;
    below.least = state->least;
    below.tip = state->tip;
    below.opened = (state->flags & PHEAP_CREATE) == 0;
    if (oracle->why[0] != '\0') {
        fail(level, state, FAILURE_AFTER_CUT);
    } else {
        below.cut = ph_sim_cut_new(image);
        explore(&below);
        ph_sim_cut_free(below.cut);
        if (level->failure->found)
            describe(level, state);
    }
    ph_sim_free(image);
    oracle->sim = before.sim;
    oracle->tip = before.tip;
    oracle->durable = before.durable;
    oracle->forgiving = before.forgiving;
}

/* -------------------------------------------------------------------------------------------------------- all of it */

static void test_state(struct level *level, struct state *state)
{
    struct tally *tally = level->tally;
    bool damaged = level->plan->damage != 0 && state->dice / 1024 % level->plan->damage == 0;
    uint32_t version = 0;
    ph_sim_cut_image(level->cut, state->choice, state->dice, level->image);
    tally->states++;
    tally->at_depth[level->depth]++;
    if (!check_state(level, state, level->image, &version)) {
        fail(level, state, FAILURE_AFTER_CUT);
        return;
    }
    if (damaged) {
        ph_sim_cut_image(level->cut, state->choice, state->dice, level->image);
        tally->states++;
        tally->at_depth[level->depth]++;
        if (!check_damaged(level, state, level->image, version))
            fail(level, state, FAILURE_AFTER_DAMAGE);
    } else if (level->depth < level->plan->depth && level->depth < CUTS_DEPTH_MAX &&
               (state->dice >> 32) % level->plan->deepen[level->depth - 1] == 0)
        deepen(level, state);
}

static void explore_position(struct level *level, struct state *state)
{
    struct ph_sim_cut *cut = level->cut;
    uint64_t all = ph_sim_cut_states(cut), position = ph_sim_cut_position(cut);
    uint64_t samples = level->depth == 1 ? level->plan->samples : 4;
    bool exhaustive = all <= (level->depth == 1 ? EXHAUSTIVE_MAX : samples);
    level->tally->positions++;
    for (uint64_t i = 0; i < (exhaustive ? all : samples) && !level->failure->found; i++) {
        state->dice = dice_mix(level->plan->seed ^ dice_mix(position * 8191 + i + level->depth * UINT64_C(0x10001)));
        if (exhaustive)
            ph_sim_cut_choose(cut, i, state->choice);
        else
            ph_sim_cut_sample(cut, i, level->plan->seed, state->choice);
        test_state(level, state);
    }
}

static void explore(struct level *level)
{
    struct ph_sim_choice choice = {0};
    struct state state = {.choice = &choice};
    do {
        uint64_t position = ph_sim_cut_position(level->cut);
        if (!ph_sim_cut_before_io(level->cut) || dice_mix(level->plan->seed + position) % level->stride != 0)
            continue;
        bool opened = ph_sim_cut_note(level->cut, ORACLE_NOTE_OPENED) != 0;
        bool noted = level->depth == 1 || opened;
        state.least = noted ? (uint32_t)ph_sim_cut_note(level->cut, ORACLE_NOTE_DURABLE) : level->least;
        state.tip = noted ? (uint32_t)ph_sim_cut_note(level->cut, ORACLE_NOTE_TIP) : level->tip;
        /* One process may have opened it before the one that made it has synced its name. */
        bool there = opened && state.least != 0;
        state.flags = there || level->opened ? 0 : PHEAP_CREATE;
        explore_position(level, &state);
    } while (!level->failure->found && ph_sim_cut_position(level->cut) < level->last && ph_sim_cut_next(level->cut));
    ph_sim_choice_deinit(&choice);
}

void cuts_explore(struct run *run, const struct plan *plan, struct tally *tally, struct failure *failure)
{
    const struct ph_sim_options plain = {.no_journal = true, .plain = true, .refuse_direct = plan->seed % 4 == 0};
    struct level level = {.plan = plan,
                          .oracle = &run->oracle,
                          .tally = tally,
                          .failure = failure,
                          .depth = 1,
                          .image = ph_sim_new(&plain),
                          .last = run->journal_length,
                          .stride = 1 + run->journal_length * plan->samples * 3 / plan->states_max,
                          .cut = ph_sim_cut_new(run->sim)};
    explore(&level);
    ph_sim_cut_free(level.cut);
    ph_sim_free(level.image);
}
