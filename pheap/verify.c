/* SPDX-License-Identifier: MIT */
/*
 * The verify mode (PHEAP_VERIFY): find stores that no declaration covers.
 *
 * The shadow view is changed by replay only.  Before a commit is published its records are applied
 * to the shadow, and the write view must then equal it; at begin it must equal it as the last transaction left it.
 * Only pages that either view has private copies of are compared, and only bytes of live blocks and metadata count:
 * free space may differ, because nothing is logged of what was stored in a block that was freed again.
 */
#include "pheap/alloc.h"
#include "pheap/core.h"
#include "pheap/memory.h"

#include <string.h>

#define STEP_BYTES (UINT64_C(128) << 20)

/* The first byte of a page that differs and matters; -1 if there is none. */
static int64_t compare_page(struct ph_core *core, uint64_t page_offset)
{
    const uint8_t *written = core->write_view.base + page_offset, *expected = core->shadow_view.base + page_offset;
    struct ph_space space = {core->shadow_view.base, core->edits.heap_size};
    if (memcmp(written, expected, PH_PAGE_BYTES) == 0)
        return -1;
    for (uint64_t at = 0; at < PH_PAGE_BYTES; at++)
        if (written[at] != expected[at] && ph_alloc_kind(space, page_offset + at) != PH_KIND_FREE)
            return (int64_t)(page_offset + at);
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

static ph_status compare_views(struct ph_core *core, const char *when)
{
    const ph_io *io = core->io;
    size_t bitmap_bytes = STEP_BYTES / PH_PAGE_BYTES / 8;
    uint8_t *bitmap = io->alloc(io->ctx, 2 * bitmap_bytes, 16);
    if (bitmap == NULL)
        return ph_fail(PH_NO_MEMORY, "%s: out of memory verifying", core->path);
    int64_t stray = -1;
    uint64_t bytes = core->edits.heap_size;
    for (uint64_t at = 0; at < bytes && stray < 0; at += STEP_BYTES) {
        uint64_t part = bytes - at < STEP_BYTES ? bytes - at : STEP_BYTES;
        private_pages(core, at, part, bitmap, bitmap + bitmap_bytes, bitmap_bytes);
        for (uint64_t page = 0; page < part / PH_PAGE_BYTES && stray < 0; page++)
            if ((bitmap[page / 8] >> (page % 8) & 1) != 0)
                stray = compare_page(core, at + page * PH_PAGE_BYTES);
    }
    io->free(io->ctx, bitmap);
    if (stray < 0)
        return PH_OK;
    uint64_t start = 0, length = 0;
    struct ph_space space = {core->shadow_view.base, bytes};
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
