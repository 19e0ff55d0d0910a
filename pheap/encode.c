/* SPDX-License-Identifier: MIT */
/*
 * Encoding: what of a transaction's edits goes into its redo records.
 *
 * Of a line: the words that differ from their old value.  Of a fresh block: all of it, never compared with what was there,
 * because the bytes of free space may differ between views; of a large one, which begins on a page, the pages that were
 * stored to: the others show the file in every view.
 */
#include "pheap/edits.h"

#include "pheap/view.h"
#include "wal/record.h"

#define TOUCHED_STEP_BYTES (UINT64_C(128) << 20)

/* Words of an entry that no older entry of the same line has saved. */
static uint8_t own_words(const struct ph_edits *edits, const struct ph_edit_line *line)
{
    uint8_t mask = line->mask;
    for (uint32_t older = line->shadowed; older != 0; older = edits->lines[older - 1].shadowed)
        mask &= (uint8_t)~edits->lines[older - 1].mask;
    return mask;
}

/* Which words of a line to log: those that changed, and single unchanged ones between them. */
static unsigned changed_words(const struct ph_edits *edits, const struct ph_edit_line *line)
{
    const uint8_t *now = edits->base + line->offset;
    uint8_t mask = line->shadowed == 0 ? line->mask : own_words(edits, line);
    unsigned changed = 0;
    for (unsigned word = 0; word < 8; word++)
        if (memcmp(now + word * 8, line->old + word * 8, 8) != 0)
            changed |= 1u << word;
    changed &= mask;
    return changed | (changed << 1 & changed >> 1 & line->mask);
}

static ph_status encode_line(const struct ph_edits *edits, const struct ph_edit_line *line,
                             struct ph_record_builder *builder)
{
    unsigned changed = changed_words(edits, line);
    for (unsigned word = 0; changed >> word != 0;) {
        if ((changed >> word & 1) == 0) {
            word++;
            continue;
        }
        unsigned from = word;
        while ((changed >> word & 1) != 0)
            word++;
        uint64_t offset = line->offset + from * 8;
        ph_status status = ph_record_add_write(builder, offset, edits->base + offset, (uint64_t)(word - from) * 8);
        if (status != PH_OK)
            return status;
    }
    return PH_OK;
}

/* The runs of pages in [offset, offset + length) that were stored to. */
static ph_status encode_touched(const struct ph_edits *edits, uint64_t offset, uint64_t length, const uint8_t *bitmap,
                                struct ph_record_builder *builder)
{
    uint64_t pages = (length + PH_PAGE_BYTES - 1) / PH_PAGE_BYTES;
    for (uint64_t page = 0; page < pages;) {
        if ((bitmap[page / 8] >> (page % 8) & 1) == 0) {
            page++;
            continue;
        }
        uint64_t from = page * PH_PAGE_BYTES;
        while (page < pages && (bitmap[page / 8] >> (page % 8) & 1) != 0)
            page++;
        uint64_t to = page * PH_PAGE_BYTES < length ? page * PH_PAGE_BYTES : length;
        ph_status status = ph_record_add_write(builder, offset + from, edits->base + offset + from, to - from);
        if (status != PH_OK)
            return status;
        edits->view->touched_bytes += to - from;
    }
    return PH_OK;
}

/* A large fresh block: it begins on a page, so only the pages that were stored to differ from what every view has. */
static ph_status encode_large(const struct ph_edits *edits, const struct ph_fresh *fresh,
                              struct ph_record_builder *builder)
{
    size_t bitmap_bytes = TOUCHED_STEP_BYTES / PH_PAGE_BYTES / 8;
    uint8_t *bitmap = edits->io->alloc(edits->io->ctx, bitmap_bytes, 16);
    if (bitmap == NULL)
        return ph_fail(PH_NO_MEMORY, "%s: out of memory encoding a large block", edits->view->store->heap.path);
    ph_status status = PH_OK;
    for (uint64_t at = 0; at < fresh->length && status == PH_OK; at += TOUCHED_STEP_BYTES) {
        uint64_t part = fresh->length - at < TOUCHED_STEP_BYTES ? fresh->length - at : TOUCHED_STEP_BYTES;
        memset(bitmap, 0, bitmap_bytes);
        if (edits->io->touched(edits->io->ctx, edits->base + fresh->offset + at, part, bitmap) < 0)
            memset(bitmap, 0xff, bitmap_bytes);
        status = encode_touched(edits, fresh->offset + at, part, bitmap, builder);
    }
    edits->io->free(edits->io->ctx, bitmap);
    return status;
}

ph_status ph_edits_encode(struct ph_edits *edits, struct ph_record_builder *builder)
{
    ph_status status = PH_OK;
    if (edits->heap_size > edits->begin_size)
        status = ph_record_add_grow(builder, edits->heap_size);
    for (uint32_t i = 0; i < edits->line_count && status == PH_OK; i++)
        status = encode_line(edits, &edits->lines[i], builder);
    for (uint32_t i = 0; i < edits->fresh_count && status == PH_OK; i++) {
        const struct ph_fresh *fresh = &edits->fresh[i];
        if (!fresh->live)
            continue;
        if (fresh->length > PH_FRESH_WHOLE_MAX && fresh->offset % PH_PAGE_BYTES == 0)
            status = encode_large(edits, fresh, builder);
        else
            status = ph_record_add_write(builder, fresh->offset, edits->base + fresh->offset,
                                         (fresh->length + 7) & ~UINT64_C(7));
    }
    return status;
}
