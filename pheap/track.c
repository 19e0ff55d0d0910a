/* SPDX-License-Identifier: MIT */
/* Tracking: harvests, references, and the method by which pages are found. */
#include "pheap/track.h"

#include "pheap/alloc.h"
#include "pheap/core.h"

#include <assert.h>
#include <string.h>

#define PAGE_LINES (PH_PAGE_BYTES / PH_LINE_BYTES)
#define PAGE_MASK (~(uint64_t)(PH_PAGE_BYTES - 1))
#define DIRECT_PAGES 16 /* so few pages are compared sooner than the kernel is asked */
#define RANGES_FIRST 16

/* ---------------------------------------------------------------------------------------------------------- ranges */

/* The first range that ends after `offset`. */
static uint32_t range_after(const struct ph_track *track, uint64_t offset)
{
    uint32_t low = 0, high = track->range_count;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        if (track->ranges[middle].to > offset)
            high = middle;
        else
            low = middle + 1;
    }
    return low;
}

/* Which words of the line at `line` are tracked. */
static uint8_t tracked_words(const struct ph_track *track, uint64_t line)
{
    unsigned mask = 0;
    for (uint32_t i = range_after(track, line); i < track->range_count; i++) {
        const struct ph_track_range *range = &track->ranges[i];
        if (range->from >= line + PH_LINE_BYTES)
            break;
        unsigned first = range->from <= line ? 0 : (unsigned)(range->from - line) / 8;
        unsigned end = range->to >= line + PH_LINE_BYTES ? 8 : (unsigned)(range->to - line) / 8;
        mask |= (0xffu << first) & (0xffu >> (8 - end));
    }
    return (uint8_t)mask;
}

/* Add [from, to), one with the ranges that it meets. */
static bool add_range(struct ph_track *track, const ph_io *io, uint64_t from, uint64_t to)
{
    assert(from > 0);
    if (track->range_count == track->range_capacity) {
        uint32_t capacity = track->range_capacity == 0 ? RANGES_FIRST : track->range_capacity * 2;
        if (capacity > UINT32_MAX / 2)
            return false;
        void *grown = io->resize(io->ctx, track->ranges, (size_t)capacity * sizeof *track->ranges);
        if (grown == NULL)
            return false;
        track->ranges = grown;
        track->range_capacity = capacity;
    }
    uint32_t first = range_after(track, from - 1), end = first;
    for (; end < track->range_count && track->ranges[end].from <= to; end++) {
        from = track->ranges[end].from < from ? track->ranges[end].from : from;
        to = track->ranges[end].to > to ? track->ranges[end].to : to;
    }
    memmove(track->ranges + first + 1, track->ranges + end, (track->range_count - end) * sizeof *track->ranges);
    track->range_count = track->range_count - (end - first) + 1;
    track->ranges[first] = (struct ph_track_range){from, to};
    return true;
}

/* ----------------------------------------------------------------------------------------------------------- pages */

static const uint8_t *reference(const struct ph_track *track, uint64_t page)
{
    const uint8_t *image = ph_images_find(&track->images, page);
    return image != NULL ? image : track->shadow->base + page;
}

const uint8_t *ph_track_before(const struct ph_track *track, uint64_t offset)
{
    uint64_t page = offset & PAGE_MASK;
    uint32_t near = range_after(track, page);
    if (near == track->range_count || track->ranges[near].from >= page + PH_PAGE_BYTES)
        return track->view->base + offset;
    return reference(track, page) + (offset - page);
}

typedef ph_status (*page_function)(void *context, uint64_t page);

enum look {
    LOOK_STORED, /* at pages that may differ from their reference: the kernel forgets them */
    LOOK_PRIVATE /* at all private pages */
};

/* Which pages of [at, at + part) to look at, into the track's bitmap.  False if none. */
static bool find_pages(struct ph_track *track, enum look look, uint64_t at, uint64_t part)
{
    const ph_io *io = track->view->store->io;
    const uint8_t *address = track->view->base + at;
    int64_t found = -1;
    if (look == LOOK_STORED && track->view->watched && !track->missed)
        found = io->stored(io->ctx, address, part, track->bitmap);
    if (found < 0)
        found = io->touched(io->ctx, address, part, track->bitmap);
    if (found < 0)
        memset(track->bitmap, 0xff, sizeof track->bitmap);
    return found != 0;
}

/* Call `visit` for the pages of [from, to) that are to be looked at. */
static ph_status each_page(struct ph_track *track, enum look look, uint64_t from, uint64_t to, page_function visit,
                           void *context)
{
    ph_status status = PH_OK;
    from &= PAGE_MASK;
    to = (to + PH_PAGE_BYTES - 1) & PAGE_MASK;
    if (to - from <= DIRECT_PAGES * PH_PAGE_BYTES) {
        for (; from < to && status == PH_OK; from += PH_PAGE_BYTES)
            status = visit(context, from);
        return status;
    }
    for (; from < to && status == PH_OK; from += PH_TRACK_STEP_BYTES) {
        uint64_t part = to - from < PH_TRACK_STEP_BYTES ? to - from : PH_TRACK_STEP_BYTES;
        if (!find_pages(track, look, from, part))
            continue;
        for (uint64_t page = 0; page < part / PH_PAGE_BYTES && status == PH_OK; page++) {
            if (page % 8 == 0 && track->bitmap[page / 8] == 0)
                page += 7;
            else if ((track->bitmap[page / 8] >> (page % 8) & 1) != 0)
                status = visit(context, from + page * PH_PAGE_BYTES);
        }
    }
    if (status != PH_OK && look == LOOK_STORED)
        track->missed = true;
    return status;
}

/* The same in all tracked ranges. */
static ph_status each_tracked(struct ph_core *core, enum look look, page_function visit, void *context)
{
    struct ph_track *track = &core->track;
    ph_status status = PH_OK;
    for (uint32_t i = 0; i < track->range_count && status == PH_OK; i++) {
        uint64_t from = track->ranges[i].from, to = track->ranges[i].to;
        to = to < core->edits.heap_size ? to : core->edits.heap_size;
        if (from < to)
            status = each_page(track, look, from, to, visit, context);
    }
    return status;
}

/* ---------------------------------------------------------------------------------------------------------- verdicts */

enum verdict {
    VERDICT_SKIP, /* fresh: logged whole, and no abort needs what was there */
    VERDICT_SAVE, /* a live block, or one that an abort or rollback makes live again */
    VERDICT_STRAY /* free space or metadata */
};

struct judged {
    uint64_t from, to; /* the verdict is on all words of it */
    enum verdict verdict;
};

/* A word differs from its reference and the savepoint level has not saved it: what does that mean? */
static struct judged judge(const struct ph_core *core, uint64_t word)
{
    const struct ph_edits *edits = &core->edits;
    struct ph_space now = {edits->base, edits->heap_size};
    struct ph_space before = {core->shadow_view.base, edits->begin_size};
    uint64_t start, end;
    if (ph_alloc_kind(now, word) == PH_KIND_LIVE && ph_alloc_find(now, word, &start, &end) == PH_OK)
        return (struct judged){start, start + end,
                               ph_edits_is_fresh(edits, start, NULL) == 1 ? VERDICT_SKIP : VERDICT_SAVE};
    int fresh = ph_edits_fresh_around(edits, word, &start, &end);
    if (fresh != 0)
        return (struct judged){start, end, fresh == 1 ? VERDICT_SKIP : VERDICT_SAVE};
    if (ph_alloc_kind(before, word) == PH_KIND_LIVE && ph_alloc_find(before, word, &start, &end) == PH_OK)
        return (struct judged){start, start + end, VERDICT_SAVE};
    return (struct judged){word, word + 8, core->track.all ? VERDICT_STRAY : VERDICT_SAVE};
}

static uint8_t differing_words(const uint8_t *one, const uint8_t *other)
{
    unsigned mask = 0;
    for (unsigned word = 0; word < 8; word++)
        if (memcmp(one + word * 8, other + word * 8, 8) != 0)
            mask |= 1u << word;
    return (uint8_t)mask;
}

/* The words of a line that are tracked and differ from `was`, and that the level has not saved. */
static uint8_t unsaved_words(const struct ph_core *core, uint64_t line, const uint8_t *was)
{
    uint8_t mask = differing_words(core->edits.base + line, was);
    if (mask != 0)
        mask &= tracked_words(&core->track, line);
    return mask == 0 ? 0 : (uint8_t)(mask & ~ph_edits_saved(&core->edits, line));
}

/* --------------------------------------------------------------------------------------------------------- harvests */

struct harvest {
    struct ph_core *core;
    uint32_t image_level; /* for which to keep images of pages that differ; 0: none */
    struct judged judged; /* the last verdict */
};

/* What of `mask` is to be saved. */
static uint8_t judge_words(struct harvest *harvest, uint64_t line, uint8_t mask)
{
    struct judged *judged = &harvest->judged;
    unsigned save = 0;
    for (unsigned word = 0; mask >> word != 0; word++) {
        uint64_t at = line + word * 8;
        if ((mask >> word & 1) == 0)
            continue;
        if (at < judged->from || at >= judged->to)
            *judged = judge(harvest->core, at);
        if (judged->verdict == VERDICT_SAVE)
            save |= 1u << word;
        else if (judged->verdict == VERDICT_STRAY && harvest->core->track.stray == 0)
            harvest->core->track.stray = at;
    }
    return (uint8_t)save;
}

static ph_status out_of_memory(const struct ph_core *core)
{
    return ph_fail(PH_NO_MEMORY, "%s: out of memory for what the transaction's tracked stores have changed",
                   core->path);
}

static ph_status keep_image(struct ph_core *core, uint64_t page, uint32_t level)
{
    return ph_images_put(&core->track.images, core->io, page, level, core->edits.base + page) ? PH_OK
                                                                                              : out_of_memory(core);
}

static ph_status harvest_page(void *context, uint64_t page)
{
    struct harvest *harvest = context;
    struct ph_core *core = harvest->core;
    const uint8_t *was = reference(&core->track, page), *now = core->edits.base + page;
    uint8_t masks[PAGE_LINES], any = 0;
    if (memcmp(now, was, PH_PAGE_BYTES) == 0)
        return PH_OK;
    for (unsigned i = 0; i < PAGE_LINES; i++) {
        uint64_t at = (uint64_t)i * PH_LINE_BYTES;
        masks[i] = unsaved_words(core, page + at, was + at);
        if (masks[i] != 0)
            masks[i] = judge_words(harvest, page + at, masks[i]);
        any |= masks[i];
    }
    ph_status status = any == 0 ? PH_OK : ph_edits_found(&core->edits, page, masks, was);
    if (status == PH_OK && harvest->image_level != 0)
        status = keep_image(core, page, harvest->image_level);
    return status;
}

static ph_status harvest_all(struct ph_core *core, uint32_t image_level)
{
    struct harvest harvest = {.core = core, .image_level = image_level};
    return each_tracked(core, LOOK_STORED, harvest_page, &harvest);
}

/* The page is as the level began, but for what the level has saved: make that its reference. */
static ph_status refresh_page(void *context, uint64_t page)
{
    struct ph_core *core = context;
    if (memcmp(core->edits.base + page, reference(&core->track, page), PH_PAGE_BYTES) == 0)
        return PH_OK;
    return keep_image(core, page, core->edits.level);
}

static ph_status refresh_images(struct ph_core *core)
{
    ph_status status = PH_OK;
    for (uint32_t i = 0, count = core->track.images.count; i < count && status == PH_OK; i++)
        status = refresh_page(core, core->track.images.list[i].offset);
    return status;
}

/* What earlier transactions left in free space of the write view, where it mattered to nobody, goes (T3). */
static ph_status settle_page(void *context, uint64_t page)
{
    struct ph_core *core = context;
    struct ph_space now = {core->edits.base, core->edits.heap_size};
    const uint8_t *was = reference(&core->track, page);
    if (memcmp(core->edits.base + page, was, PH_PAGE_BYTES) == 0)
        return PH_OK;
    for (uint64_t at = 0; at < PH_PAGE_BYTES; at += 8) {
        uint64_t word = page + at;
        uint8_t mask = unsaved_words(core, word & ~(uint64_t)(PH_LINE_BYTES - 1), was + (at & ~(uint64_t)63));
        if ((mask >> (at / 8 % 8) & 1) != 0 && judge(core, word).verdict == VERDICT_STRAY &&
            ph_alloc_kind(now, word) == PH_KIND_FREE)
            memcpy(core->edits.base + word, was + at, 8);
    }
    return PH_OK;
}

struct forgotten {
    struct ph_track *track;
    uint64_t from, to;
};

static ph_status forget_page(void *context, uint64_t page)
{
    const struct forgotten *forgotten = context;
    uint64_t from = page > forgotten->from ? page : forgotten->from;
    uint64_t to = page + PH_PAGE_BYTES < forgotten->to ? page + PH_PAGE_BYTES : forgotten->to;
    const uint8_t *was = reference(forgotten->track, page) + (from - page);
    uint8_t *now = forgotten->track->view->base + from;
    if (memcmp(now, was, to - from) != 0)
        memcpy(now, was, to - from);
    return PH_OK;
}

void ph_track_forget(struct ph_track *track, uint64_t from, uint64_t to)
{
    struct forgotten forgotten = {track, from, to};
    if (track->all)
        (void)each_page(track, LOOK_PRIVATE, from, to, forget_page, &forgotten);
}

/* ------------------------------------------------------------------------------------------------------------ start */

static void choose_method(struct ph_core *core)
{
    struct ph_track *track = &core->track;
    if (atomic_load_explicit(&track->method, memory_order_relaxed) != PHEAP_TRACK_UNUSED)
        return;
    ph_view_watch(&core->write_view);
    atomic_store(&track->method, core->write_view.watched ? PHEAP_TRACK_WATCHED : PHEAP_TRACK_COMPARED);
}

/* The first use in a transaction. */
static ph_status start(struct ph_core *core)
{
    struct ph_track *track = &core->track;
    if (track->active)
        return PH_OK;
    uint64_t reserve = core->write_view.reserve_bytes;
    ph_core_lock_registry(); /* no fork between mapping it and keeping it from children */
    ph_status status = ph_shadow_map(core, reserve, reserve);
    ph_core_unlock_registry();
    if (status == PH_OK && core->shadow_view.reserve_bytes < reserve)
        status = ph_fail(PH_NO_MEMORY, "%s: too little address space for tracking; open with a smaller reserve_bytes",
                         core->path);
    if (status == PH_OK)
        status = ph_view_move(&core->shadow_view, core->begin_mark.lsn);
    if (status != PH_OK)
        return status;
    choose_method(core);
    track->view = &core->write_view;
    track->shadow = &core->shadow_view;
    track->active = true;
    core->edits.track = track;
    return PH_OK;
}

/*
 * Add [from, to) to what is tracked.  Within a savepoint its pages get images first: what they are now is what they were
 * when the level began, but for words that are saved, and stores pending in ranges tracked before, which are saved now.
 */
static ph_status add(struct ph_core *core, uint64_t from, uint64_t to)
{
    struct harvest harvest = {.core = core, .image_level = core->edits.level};
    uint64_t end = to < core->edits.heap_size ? to : core->edits.heap_size;
    ph_status status = start(core);
    if (status == PH_OK && core->edits.level > 0)
        status = each_page(&core->track, LOOK_PRIVATE, from, end, harvest_page, &harvest);
    if (status == PH_OK && !add_range(&core->track, core->io, from, to))
        status = out_of_memory(core);
    return status;
}

ph_status ph_track_range(struct ph_core *core, uint64_t offset, uint64_t length)
{
    if (core->track.all)
        return PH_OK;
    return add(core, offset & ~UINT64_C(7), (offset + length + 7) & ~UINT64_C(7));
}

ph_status ph_track_all(struct ph_core *core)
{
    struct ph_track *track = &core->track;
    if (track->all)
        return PH_OK;
    ph_status status = add(core, PH_HEAP_START, PH_HEAP_MAX_BYTES);
    if (status != PH_OK)
        return status;
    track->all = true;
    track->whole = core->edits.level == 0;
    if (track->whole && (!track->settled || core->edits.fresh_count > 0))
        status = each_tracked(core, LOOK_PRIVATE, settle_page, core);
    return status;
}

/* -------------------------------------------------------------------------------------------------------------- end */

ph_status ph_track_commit(struct ph_core *core)
{
    struct ph_track *track = &core->track;
    if (!track->active)
        return PH_OK;
    ph_status status = track->broken ? out_of_memory(core) : harvest_all(core, 0);
    if (status == PH_OK && track->stray != 0) {
        struct ph_space now = {core->edits.base, core->edits.heap_size};
        bool free = ph_alloc_kind(now, track->stray) == PH_KIND_FREE;
        status =
            ph_fail(PH_STRAY_STORE,
                    "%s: the 8 bytes at offset %llu, which are %s, were changed in a transaction that tracks all live "
                    "blocks; all its changes have been thrown away",
                    core->path, (unsigned long long)track->stray, free ? "free space" : "metadata");
    }
    track->broken = status != PH_OK;
    return status;
}

void ph_track_abort(struct ph_core *core)
{
    struct ph_track *track = &core->track;
    if (!track->active)
        return;
    /* What cannot be found, or is in no block, cannot be undone: the next transaction makes the view anew. */
    if (track->broken || harvest_all(core, 0) != PH_OK || track->stray != 0)
        core->write_view.current = false;
}

ph_status ph_track_savepoint(struct ph_core *core, uint32_t *savepoint)
{
    struct ph_edits *edits = &core->edits;
    ph_status status = core->track.active ? harvest_all(core, edits->level + 1) : PH_OK;
    if (status == PH_OK)
        status = ph_edits_savepoint(edits, savepoint);
    if (status != PH_OK) {
        ph_images_cut(&core->track.images, edits->level);
        core->track.missed = true;
    }
    return status;
}

ph_status ph_track_rollback(struct ph_core *core, uint32_t savepoint)
{
    struct ph_track *track = &core->track;
    bool known = savepoint < core->edits.level;
    ph_status status = known && track->active ? harvest_all(core, 0) : PH_OK;
    if (status != PH_OK)
        return status;
    if (!ph_alloc_rollback(&core->edits, savepoint))
        return ph_fail(PH_INVALID, "%s: there is no savepoint %u in this transaction", core->path, savepoint);
    if (!track->active)
        return PH_OK;
    /*
     * The bytes are as they were at the savepoint, but for free space, and ranges that were tracked later have no image.
     * Pages that were made zeros again have perhaps one of what they were, and are private no more.
     */
    ph_images_cut(&track->images, core->edits.level);
    if (refresh_images(core) != PH_OK || each_tracked(core, LOOK_PRIVATE, refresh_page, core) != PH_OK)
        track->broken = true; /* it has been rolled back all the same */
    track->whole = false;
    return PH_OK;
}

void ph_track_end(struct ph_core *core, bool committed)
{
    struct ph_track *track = &core->track;
    track->settled = track->active && track->whole && committed;
    if (!track->active)
        return;
    if (committed && !core->verify && core->shadow_view.at.lsn == core->begin_mark.lsn) {
        core->shadow_view.current = ph_shadow_apply(core) == PH_OK;
        core->shadow_view.at = core->write_view.at;
    }
    ph_images_deinit(&track->images, core->io);
    track->range_count = 0;
    track->active = track->all = track->whole = track->missed = track->broken = false;
    track->stray = 0;
    core->edits.track = NULL;
}

void ph_track_deinit(struct ph_core *core)
{
    ph_images_deinit(&core->track.images, core->io);
    if (core->track.ranges != NULL)
        core->io->free(core->io->ctx, core->track.ranges);
    core->track.ranges = NULL;
}
