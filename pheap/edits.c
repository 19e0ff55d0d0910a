/* SPDX-License-Identifier: MIT */
/* Edits: the undo image and the fresh blocks of the open transaction, and what commit logs of them. */
#include "pheap/edits.h"

#include "io/failpoint.h"
#include "pheap/track.h"
#include "pheap/view.h"

#include <assert.h>

#define RESERVE_MAX_BYTES (UINT64_C(64) << 20)

struct ph_savepoint {
    uint32_t line_count;
    uint32_t fresh_count;
    uint32_t deferred_count;
    uint64_t heap_size;
};

/* ------------------------------------------------------------------------------------------------------- helpers */

static ph_status no_memory(const struct ph_edits *edits)
{
    return ph_fail(PH_NO_MEMORY, "%s: out of memory for the transaction's undo image", edits->view->store->heap.path);
}

static uint32_t hash_offset(uint64_t offset)
{
    return (uint32_t)((offset * UINT64_C(0x9e3779b97f4a7c15)) >> 32);
}

/* Room for `more` elements beyond `count`. */
static bool make_room(const struct ph_edits *edits, void **memory, uint32_t *capacity, uint64_t count, uint64_t more,
                      size_t element)
{
    if (count + more <= *capacity)
        return true;
    uint64_t wanted = *capacity == 0 ? 64 : *capacity;
    while (wanted < count + more)
        wanted *= 2;
    if (wanted > UINT32_MAX / 2)
        return false;
    void *grown = edits->io->resize(edits->io->ctx, *memory, wanted * element);
    if (grown == NULL)
        return false;
    *memory = grown;
    *capacity = (uint32_t)wanted;
    return true;
}

/* A new index of `size` (a power of two) zeros in place of the old. */
static bool renew_index(const struct ph_edits *edits, uint64_t **index, uint32_t *mask, uint64_t size)
{
    if (size > UINT32_MAX / 2)
        return false;
    uint64_t *grown = edits->io->alloc(edits->io->ctx, size * sizeof *grown, 64);
    if (grown == NULL)
        return false;
    memset(grown, 0, size * sizeof *grown);
    if (*index != NULL)
        edits->io->free(edits->io->ctx, *index);
    *index = grown;
    *mask = (uint32_t)size - 1;
    return true;
}

/* Empty both indexes by outdating what they hold. */
static void outdate_indexes(struct ph_edits *edits)
{
    if (++edits->generation != 0)
        return;
    memset(edits->index, 0, (edits->index_mask + UINT64_C(1)) * sizeof *edits->index);
    memset(edits->fresh_index, 0, (edits->fresh_index_mask + UINT64_C(1)) * sizeof *edits->fresh_index);
    edits->generation = 1;
}

static uint64_t index_value(const struct ph_edits *edits, uint32_t entry)
{
    return (uint64_t)edits->generation << 32 | entry;
}

/* The entry + 1 that an index value names, 0 if it is empty. */
static uint32_t index_entry(const struct ph_edits *edits, uint64_t value)
{
    return value >> 32 == edits->generation ? (uint32_t)value : 0;
}

/* The index slot for a line: the one that names it, or the empty one where it belongs. */
static uint32_t line_slot(const struct ph_edits *edits, uint64_t offset)
{
    uint32_t at = hash_offset(offset) & edits->index_mask, entry;
    while ((entry = index_entry(edits, edits->index[at])) != 0 && edits->lines[entry - 1].offset != offset)
        at = (at + 1) & edits->index_mask;
    return at;
}

static uint32_t fresh_slot(const struct ph_edits *edits, uint64_t offset)
{
    uint32_t at = hash_offset(offset) & edits->fresh_index_mask, entry;
    while ((entry = index_entry(edits, edits->fresh_index[at])) != 0 && edits->fresh[entry - 1].offset != offset)
        at = (at + 1) & edits->fresh_index_mask;
    return at;
}

/* Enter everything, oldest first, so that an index names the newest entry of each offset. */
static void reindex_lines(struct ph_edits *edits)
{
    for (uint32_t i = 0; i < edits->line_count; i++)
        edits->index[line_slot(edits, edits->lines[i].offset)] = index_value(edits, i + 1);
}

static void reindex_fresh(struct ph_edits *edits)
{
    for (uint32_t i = 0; i < edits->fresh_count; i++)
        edits->fresh_index[fresh_slot(edits, edits->fresh[i].offset)] = index_value(edits, i + 1);
}

/* ------------------------------------------------------------------------------------------------------ life time */

ph_status ph_edits_begin(struct ph_edits *edits, struct ph_view *view)
{
    edits->io = view->store->io;
    edits->view = view;
    edits->base = view->base;
    edits->heap_size = edits->begin_size = view->at.heap_bytes;
    if (edits->index == NULL && !renew_index(edits, &edits->index, &edits->index_mask, 256))
        return no_memory(edits);
    if (edits->fresh_index == NULL && !renew_index(edits, &edits->fresh_index, &edits->fresh_index_mask, 64))
        return no_memory(edits);
    outdate_indexes(edits);
    return PH_OK;
}

void ph_edits_end(struct ph_edits *edits)
{
    edits->line_count = edits->fresh_count = edits->deferred_count = 0;
    edits->level = 0;
    edits->level_first_line = 0;
}

void ph_edits_deinit(struct ph_edits *edits)
{
    void *owned[] = {edits->lines, edits->index, edits->fresh, edits->fresh_index, edits->deferred, edits->levels};
    for (size_t i = 0; i < sizeof owned / sizeof owned[0]; i++)
        if (owned[i] != NULL)
            edits->io->free(edits->io->ctx, owned[i]);
    *edits = (struct ph_edits){0};
}

/* ---------------------------------------------------------------------------------------------------------- lines */

/* Bytes of private pages in a range of the view; 0 where that cannot be told. */
static uint64_t private_in_range(struct ph_edits *edits, uint64_t offset, uint64_t length)
{
    uint64_t first = offset & ~(uint64_t)(PH_PAGE_BYTES - 1);
    int64_t pages = edits->io->touched(edits->io->ctx, edits->base + first, offset + length - first, NULL);
    return pages < 0 ? 0 : (uint64_t)pages * PH_PAGE_BYTES;
}

/* Whether `length` bytes at `offset` may become private too; looks closely only when the bound is near. */
static ph_status check_budget(struct ph_edits *edits, uint64_t offset, uint64_t length)
{
    struct ph_view *view = edits->view;
    if (view->touched_bytes + length <= view->budget_bytes)
        return PH_OK;
    uint64_t more = length + PH_PAGE_BYTES, have = private_in_range(edits, offset, length);
    more = more > have ? more - have : 0;
    if (ph_view_private_bytes(view) + more <= view->budget_bytes)
        return PH_OK;
    return ph_fail(PH_TOO_BIG,
                   "%s: the transaction changes more pages than the budget of %llu bytes allows; commit in smaller "
                   "parts or raise budget_bytes",
                   view->store->heap.path, (unsigned long long)view->budget_bytes);
}

ph_status ph_edits_reserve(struct ph_edits *edits, uint32_t count)
{
    if (edits->line_count + (uint64_t)count > edits->line_capacity) {
        void *lines = edits->lines;
        if (!make_room(edits, &lines, &edits->line_capacity, edits->line_count, count, sizeof *edits->lines))
            return no_memory(edits);
        edits->lines = lines;
    }
    uint64_t size = edits->index_mask + UINT64_C(1), needed = (edits->line_count + (uint64_t)count) * 2;
    if (needed <= size)
        return PH_OK;
    while (size < needed)
        size *= 2;
    if (!renew_index(edits, &edits->index, &edits->index_mask, size))
        return no_memory(edits);
    reindex_lines(edits);
    return PH_OK;
}

/* The bytes of a line as they were when the savepoint level began, apart from words that it has saved. */
static const uint8_t *line_before(const struct ph_edits *edits, uint64_t offset)
{
    return edits->track == NULL ? edits->base + offset : ph_track_before(edits->track, offset);
}

/* Save, out of `was`, the words of `mask` in the line at `offset` that this level has not saved; room is there. */
static void save_line(struct ph_edits *edits, uint64_t offset, uint8_t mask, const uint8_t *was)
{
    uint32_t slot = line_slot(edits, offset), entry = index_entry(edits, edits->index[slot]);
    if (entry > edits->level_first_line) {
        struct ph_edit_line *line = &edits->lines[entry - 1];
        uint8_t missing = (uint8_t)(mask & ~line->mask);
        if (missing == 0)
            return;
        for (unsigned word = 0; word < 8; word++)
            if ((missing >> word & 1) != 0)
                memcpy(line->old + word * 8, was + word * 8, 8);
        line->mask |= missing;
        return;
    }
    assert(edits->line_count < edits->line_capacity);
    struct ph_edit_line *line = &edits->lines[edits->line_count++];
    line->offset = offset;
    line->shadowed = entry;
    line->mask = mask;
    memcpy(line->old, was, PH_LINE_BYTES);
    edits->index[slot] = index_value(edits, edits->line_count);
    ph_view_touch(edits->view, offset, 1);
}

ph_status ph_edits_range(struct ph_edits *edits, uint64_t offset, uint64_t length)
{
    if (length == 0)
        return PH_OK;
    uint64_t first_word = offset / 8, last_word = (offset + length - 1) / 8;
    uint64_t first = first_word / 8, last = last_word / 8;
    if (last - first >= UINT32_MAX / 4)
        return ph_fail(PH_TOO_BIG, "%s: a range of %llu bytes is more than a transaction can keep for undo",
                       edits->view->store->heap.path, (unsigned long long)length);
    ph_status status = check_budget(edits, offset, length);
    if (status == PH_OK)
        status = ph_edits_reserve(edits, (uint32_t)(last - first + 1));
    if (status != PH_OK)
        return status;
    for (uint64_t line = first; line <= last; line++) {
        unsigned from = line == first ? first_word % 8 : 0, to = line == last ? last_word % 8 : 7;
        uint64_t at = line * PH_LINE_BYTES;
        save_line(edits, at, (uint8_t)((0xffu >> (7 - to)) & (0xffu << from)), line_before(edits, at));
    }
    return PH_OK;
}

void ph_edits_word(struct ph_edits *edits, uint64_t offset, uint64_t value)
{
    assert(offset % 8 == 0);
    uint64_t line = offset & ~(uint64_t)(PH_LINE_BYTES - 1);
    /* Metadata: nobody stores there undeclared, and the reference of a fresh page is no start for it. */
    save_line(edits, line, (uint8_t)(1u << (offset / 8 % 8)), edits->base + line);
    memcpy(edits->base + offset, &value, sizeof value);
}

uint8_t ph_edits_saved(const struct ph_edits *edits, uint64_t offset)
{
    uint32_t entry = index_entry(edits, edits->index[line_slot(edits, offset)]);
    return entry > edits->level_first_line ? edits->lines[entry - 1].mask : 0;
}

ph_status ph_edits_found(struct ph_edits *edits, uint64_t page, const uint8_t *masks, const uint8_t *was)
{
    ph_status status = check_budget(edits, page, PH_PAGE_BYTES);
    if (status == PH_OK)
        status = ph_edits_reserve(edits, PH_PAGE_BYTES / PH_LINE_BYTES);
    if (status != PH_OK)
        return status;
    for (uint64_t at = 0; at < PH_PAGE_BYTES; at += PH_LINE_BYTES)
        if (masks[at / PH_LINE_BYTES] != 0)
            save_line(edits, page + at, masks[at / PH_LINE_BYTES], was + at);
    return PH_OK;
}

uint64_t ph_edits_common(const struct ph_edits *edits, uint64_t offset)
{
    uint64_t common = UINT64_MAX;
    unsigned word = offset % PH_LINE_BYTES / 8;
    uint32_t slot = line_slot(edits, offset & ~(uint64_t)(PH_LINE_BYTES - 1));
    uint32_t entry = index_entry(edits, edits->index[slot]);
    for (; entry != 0; entry = edits->lines[entry - 1].shadowed) {
        const struct ph_edit_line *line = &edits->lines[entry - 1];
        uint64_t old;
        memcpy(&old, line->old + word * 8, sizeof old);
        if ((line->mask >> word & 1) != 0)
            common &= old;
    }
    return common;
}

/* Put the saved words of entries [first, line_count) back, newest first, and forget the entries. */
static void undo_lines(struct ph_edits *edits, uint32_t first)
{
    while (edits->line_count > first) {
        struct ph_edit_line *line = &edits->lines[edits->line_count - 1];
        for (unsigned word = 0; word < 8; word++)
            if ((line->mask >> word & 1) != 0)
                memcpy(edits->base + line->offset + word * 8, line->old + word * 8, 8);
        edits->line_count--;
    }
}

/* ---------------------------------------------------------------------------------------------------------- fresh */

ph_status ph_edits_add_fresh(struct ph_edits *edits, uint64_t offset, uint64_t length)
{
    void *fresh = edits->fresh;
    if (length <= PH_FRESH_WHOLE_MAX) {
        ph_status status = check_budget(edits, offset, length);
        if (status != PH_OK)
            return status;
    }
    if (!make_room(edits, &fresh, &edits->fresh_capacity, edits->fresh_count, 1, sizeof *edits->fresh))
        return no_memory(edits);
    edits->fresh = fresh;
    uint64_t size = edits->fresh_index_mask + UINT64_C(1);
    if ((edits->fresh_count + UINT64_C(1)) * 2 > size) {
        if (!renew_index(edits, &edits->fresh_index, &edits->fresh_index_mask, size * 2))
            return no_memory(edits);
        reindex_fresh(edits);
    }
    edits->fresh[edits->fresh_count++] =
        (struct ph_fresh){.offset = offset, .length = length, .level = edits->level, .live = true};
    edits->fresh_index[fresh_slot(edits, offset)] = index_value(edits, edits->fresh_count);
    if (length <= PH_FRESH_WHOLE_MAX)
        ph_view_touch(edits->view, offset, length);
    return PH_OK;
}

ph_status ph_edits_zero(struct ph_edits *edits, uint64_t offset, uint64_t length)
{
    ph_status status = length == 0 ? PH_OK : check_budget(edits, offset, length);
    if (status != PH_OK || length == 0)
        return status;
    memset(edits->base + offset, 0, length);
    ph_view_touch(edits->view, offset, length);
    return PH_OK;
}

static struct ph_fresh *find_fresh(const struct ph_edits *edits, uint64_t offset)
{
    if (edits->fresh_count == 0)
        return NULL;
    uint32_t entry = index_entry(edits, edits->fresh_index[fresh_slot(edits, offset)]);
    return entry != 0 && edits->fresh[entry - 1].live ? &edits->fresh[entry - 1] : NULL;
}

int ph_edits_is_fresh(const struct ph_edits *edits, uint64_t offset, uint64_t *length)
{
    const struct ph_fresh *fresh = find_fresh(edits, offset);
    if (fresh == NULL)
        return 0;
    if (length != NULL)
        *length = fresh->length;
    return fresh->level == edits->level ? 1 : 2;
}

int ph_edits_fresh_around(const struct ph_edits *edits, uint64_t offset, uint64_t *from, uint64_t *to)
{
    for (uint32_t i = edits->fresh_count; i-- > 0;) {
        const struct ph_fresh *fresh = &edits->fresh[i];
        if (fresh->live && offset >= fresh->offset && offset - fresh->offset < fresh->length) {
            *from = fresh->offset;
            *to = fresh->offset + fresh->length;
            return fresh->level == edits->level ? 1 : 2;
        }
    }
    return 0;
}

void ph_edits_change_fresh(struct ph_edits *edits, uint64_t offset, uint64_t length)
{
    struct ph_fresh *fresh = find_fresh(edits, offset);
    assert(fresh != NULL && fresh->level == edits->level);
    if (fresh == NULL)
        return;
    if (edits->track != NULL && length < fresh->length)
        ph_track_forget(edits->track, offset + length, offset + fresh->length);
    fresh->live = length != 0;
    fresh->length = length;
}

ph_status ph_edits_reserve_deferred(struct ph_edits *edits)
{
    void *deferred = edits->deferred;
    if (!make_room(edits, &deferred, &edits->deferred_capacity, edits->deferred_count, 1, sizeof *edits->deferred))
        return no_memory(edits);
    edits->deferred = deferred;
    return PH_OK;
}

ph_status ph_edits_defer(struct ph_edits *edits, uint64_t offset)
{
    ph_status status = ph_edits_reserve_deferred(edits);
    if (status == PH_OK)
        edits->deferred[edits->deferred_count++] = offset;
    return status;
}

/* ----------------------------------------------------------------------------------------------- space, savepoints */

void ph_edits_clear(struct ph_edits *edits, uint64_t offset, uint64_t length)
{
    assert(offset % PH_PAGE_BYTES == 0 && length % PH_PAGE_BYTES == 0);
    if (ph_view_drop(edits->view, offset, length) != PH_OK) /* the file has zeros there */
        memset(edits->base + offset, 0, length);
}

/*
 * Make the heap file `size` bytes long.  Ordinary growth gets its disk space now, so that a full disk is an error of
 * this transaction and not of a later fold; a step of more than RESERVE_MAX_BYTES stays sparse.  On tmpfs a private
 * store into a hole needs a page of the file system, and ends in a SIGBUS if there is none, so there all is reserved.
 */
static ph_status extend_file(struct ph_store *store, uint64_t size)
{
    struct ph_file_stat stat;
    ph_status status = ph_file_stat(&store->heap, &stat);
    if (status == PH_OK && stat.size_bytes < size) {
        uint64_t now = stat.size_bytes;
        status = PH_UNSUPPORTED;
        if (size - now <= RESERVE_MAX_BYTES || store->tmpfs)
            status = ph_file_allocate(&store->heap, PH_ALLOCATE_RESERVE, now, size - now);
        if (status == PH_UNSUPPORTED)
            status = ph_file_truncate(&store->heap, size);
    }
    PH_POINT(growth_file_extended);
    if (status == PH_OK)
        atomic_store(&store->heap_file_bytes, size);
    return status;
}

ph_status ph_edits_grow(struct ph_edits *edits, uint64_t size)
{
    struct ph_store *store = edits->view->store;
    assert(size % PH_PAGE_BYTES == 0 && size >= edits->heap_size);
    if (size > PH_HEAP_MAX_BYTES)
        return ph_fail(PH_FULL, "%s: a heap cannot be larger than %llu bytes", store->heap.path,
                       (unsigned long long)PH_HEAP_MAX_BYTES);
    if (size > edits->view->reserve_bytes)
        return ph_fail(PH_RESERVE,
                       "%s: the heap would grow to %llu bytes, beyond the %llu of address space reserved when it was "
                       "opened; close and open it again, or set reserve_bytes",
                       store->heap.path, (unsigned long long)size, (unsigned long long)edits->view->reserve_bytes);
    if (atomic_load(&store->heap_file_bytes) < size) {
        ph_status status = extend_file(store, size);
        if (status != PH_OK)
            return status;
    }
    edits->heap_size = size;
    return PH_OK;
}

void ph_edits_undo(struct ph_edits *edits)
{
    undo_lines(edits, 0);
    edits->heap_size = edits->begin_size;
}

ph_status ph_edits_savepoint(struct ph_edits *edits, uint32_t *savepoint)
{
    void *levels = edits->levels;
    if (!make_room(edits, &levels, &edits->level_capacity, edits->level, 1, sizeof *edits->levels))
        return no_memory(edits);
    edits->levels = levels;
    edits->levels[edits->level] = (struct ph_savepoint){
        .line_count = edits->line_count,
        .fresh_count = edits->fresh_count,
        .deferred_count = edits->deferred_count,
        .heap_size = edits->heap_size,
    };
    *savepoint = edits->level++;
    edits->level_first_line = edits->line_count;
    return PH_OK;
}

bool ph_edits_rollback(struct ph_edits *edits, uint32_t savepoint)
{
    if (savepoint >= edits->level)
        return false;
    const struct ph_savepoint *to = &edits->levels[savepoint];
    undo_lines(edits, to->line_count);
    edits->fresh_count = to->fresh_count;
    edits->deferred_count = to->deferred_count;
    edits->heap_size = to->heap_size;
    edits->level = savepoint + 1;
    edits->level_first_line = to->line_count;
    outdate_indexes(edits);
    reindex_lines(edits);
    reindex_fresh(edits);
    return true;
}
