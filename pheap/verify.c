/* SPDX-License-Identifier: MIT */
/*
 * The verify mode (PHEAP_VERIFY): find stores that no declaration covers.
 *
 * The shadow view is changed by replay only.  Before a commit is published its records are applied
 * to the shadow, and the write view must then equal it; at begin it must equal it as the last transaction left it.
 * Only pages that either view has private copies of are compared, and only bytes of live blocks and metadata count:
 * free space may differ, because nothing is logged of what was stored in a block that was freed again, or whose
 * allocation was undone.  There the write view is made the same as the shadow, before another process gives the space out:
 * of the pages of a large block that it does not store to no record would tell.
 */
#include "pheap/alloc.h"
#include "pheap/core.h"
#include "pheap/memory.h"

#include <string.h>

#define STEP_BYTES (UINT64_C(128) << 20)

/* The first byte of a page that differs and matters; -1 if there is none.  What does not matter is made the same. */
static int64_t compare_page(struct ph_core *core, uint64_t page_offset)
{
    const uint8_t *expected = core->shadow_view.base + page_offset;
    uint8_t *written = core->write_view.base + page_offset;
    struct ph_space space = {core->shadow_view.base, core->edits.heap_size};
    if (memcmp(written, expected, PH_PAGE_BYTES) == 0)
        return -1;
    for (uint64_t at = 0; at < PH_PAGE_BYTES; at++) {
        if (written[at] == expected[at])
            continue;
        if (ph_alloc_kind(space, page_offset + at) != PH_KIND_FREE)
            return (int64_t)(page_offset + at);
        ph_view_touch(&core->write_view, page_offset + at, 1);
        written[at] = expected[at];
    }
    return -1;
}

/* Which pages of [at, at + part) have private copies in either view. */
static void private_pages(struct ph_core *core, uint64_t at, uint64_t part, uint8_t *bitmap, uint8_t *more,
                          size_t bitmap_bytes)
{
    const ph_io *io = core->io;
    memset(bitmap, 0, bitmap_bytes);
    memset(more, 0, bitmap_bytes);
    if (io->touched(io->ctx, core->write_view.base + at, part, bitmap) < 0 ||
        io->touched(io->ctx, core->shadow_view.base + at, part, more) < 0)
        memset(bitmap, 0xff, bitmap_bytes);
    for (size_t i = 0; i < bitmap_bytes; i++)
        bitmap[i] |= more[i];
}

/* The first byte of the views that differs and matters: *stray, -1 if there is none. */
static ph_status find_stray(struct ph_core *core, int64_t *stray)
{
    const ph_io *io = core->io;
    size_t bitmap_bytes = STEP_BYTES / PH_PAGE_BYTES / 8;
    uint8_t *bitmap = io->alloc(io->ctx, 2 * bitmap_bytes, 16);
    if (bitmap == NULL)
        return ph_fail(PH_NO_MEMORY, "%s: out of memory verifying", core->path);
    uint64_t bytes = core->edits.heap_size;
    *stray = -1;
    for (uint64_t at = 0; at < bytes && *stray < 0; at += STEP_BYTES) {
        uint64_t part = bytes - at < STEP_BYTES ? bytes - at : STEP_BYTES;
        private_pages(core, at, part, bitmap, bitmap + bitmap_bytes, bitmap_bytes);
        for (uint64_t page = 0; page < part / PH_PAGE_BYTES && *stray < 0; page++)
            if ((bitmap[page / 8] >> (page % 8) & 1) != 0)
                *stray = compare_page(core, at + page * PH_PAGE_BYTES);
    }
    io->free(io->ctx, bitmap);
    return PH_OK;
}

static ph_status compare_views(struct ph_core *core, const char *when)
{
    int64_t stray;
    ph_status status = find_stray(core, &stray);
    if (status != PH_OK || stray < 0)
        return status;
    uint64_t start = 0, length = 0;
    struct ph_space space = {core->shadow_view.base, core->edits.heap_size};
    bool block = ph_alloc_find(space, (uint64_t)stray, &start, &length) == PH_OK;
    core->write_view.current = core->shadow_view.current = false;
    return ph_fail(PH_STRAY_STORE,
                   "%s: %s, the byte at offset %lld (%s at %llu, %llu bytes) was changed without pheap_edit; the "
                   "change has been thrown away",
                   core->path, when, (long long)stray, block ? "in the block" : "metadata",
                   (unsigned long long)(block ? start : (uint64_t)stray), (unsigned long long)(block ? length : 1));
}

ph_status ph_verify(struct ph_core *core, const char *when)
{
    core->edits.heap_size = core->write_view.at.heap_bytes;
    return compare_views(core, when);
}

ph_status ph_verify_commit(struct ph_core *core)
{
    if (core->builder.records > 0)
        ph_record_builder_finish(&core->builder, 0);
    ph_status status = ph_shadow_apply(core);
    return status == PH_OK ? compare_views(core, "in this transaction") : status;
}

void ph_verify_undone(struct ph_core *core)
{
    int64_t stray; /* for the next begin to tell */
    if (!core->shadow_view.current || find_stray(core, &stray) != PH_OK)
        core->write_view.current = false;
}
