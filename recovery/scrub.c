/* SPDX-License-Identifier: MIT */
/*
 * Scrub: compare every page of the heap file with its sum, while others use the heap.
 *
 * Pages are read some at a time, without a lock.  Where a page is not as its sum says, a fold may be at it, or
 * have died at it, or pages may have been lost by a sync that failed.  So such pages are looked at again under the fold
 * lock, after a checkpoint has made good whatever was left unfinished; what is wrong then is damage.  Pages that are to get
 * a sum need the lock and no unfinished fold, but no checkpoint.
 *
 * It sees what the operating system gives: pages in the page cache, not what the medium has beneath them.
 */
#include "recovery/scrub.h"

#include "recovery/sums.h"

#include <string.h>

#define FIRST_PAGE 2u
#define PIECE_PAGES 16u /* a power of two: the sums of a piece stand in one block */

/* Pages [first, first + count), at most to the next multiple of PIECE_PAGES. */
struct piece {
    struct ph_store *store; /* NULL: nobody else writes to the files, so there is nothing to look at again */
    struct ph_file *heap, *sums;
    struct ph_scrub *scrub;
    bool complete; /* a page without a sum must be zero */
    uint64_t first;
    uint32_t count;
    struct ph_sums_block block;
    uint8_t verdicts[PIECE_PAGES];
    uint8_t *bytes; /* of the pages; owned */
};

const char *ph_page_verdict_text(enum ph_page_verdict verdict)
{
    switch (verdict) {
    case PH_PAGE_UNLIKE:
        return "does not match its checksum";
    case PH_PAGE_PATCHED:
        return "did not match its checksum when a part of it was overwritten";
    case PH_PAGE_STRAY:
        return "is not zero, though nothing was ever written to it";
    case PH_PAGE_UNREADABLE:
        return "cannot be read";
    case PH_PAGE_GOOD:
    case PH_PAGE_UNKNOWN:
    case PH_PAGE_VERDICTS:
        break;
    }
    return "";
}

static enum ph_page_verdict judge(const struct piece *piece, uint64_t sum, const uint8_t *page)
{
    if (sum == PH_SUM_DAMAGED)
        return PH_PAGE_PATCHED;
    if (sum != PH_SUM_NONE)
        return ph_sums_compute(page) == sum ? PH_PAGE_GOOD : PH_PAGE_UNLIKE;
    if (ph_page_is_zero(page))
        return PH_PAGE_GOOD;
    return piece->complete ? PH_PAGE_STRAY : PH_PAGE_UNKNOWN;
}

static ph_status look_at_page(struct piece *piece, uint32_t i)
{
    uint8_t *bytes = piece->bytes + (size_t)i * PH_PAGE_BYTES;
    uint64_t *sum;
    size_t got;
    ph_status status = ph_sums_find(&piece->block, piece->sums, piece->first + i, &sum);
    if (status != PH_OK)
        return status;
    status = ph_file_read(piece->heap, bytes, PH_PAGE_BYTES, (piece->first + i) * PH_PAGE_BYTES, &got);
    if (status == PH_OK)
        memset(bytes + got, 0, PH_PAGE_BYTES - got);
    else if (status != PH_IO)
        return status;
    piece->verdicts[i] = (uint8_t)(status == PH_OK ? judge(piece, *sum, bytes) : PH_PAGE_UNREADABLE);
    return PH_OK;
}

/* Whether there is a page that seems to be damaged. */
static bool seems_damaged(const struct piece *piece)
{
    bool damaged = false;
    for (uint32_t i = 0; i < piece->count; i++)
        damaged = damaged || (piece->verdicts[i] != PH_PAGE_GOOD && piece->verdicts[i] != PH_PAGE_UNKNOWN);
    return damaged;
}

/* Without a lock; *doubts: there is a page that must be looked at again. */
static ph_status look(struct piece *piece, bool *doubts)
{
    uint64_t *sum;
    size_t got;
    *doubts = false;
    piece->block.loaded = false;
    ph_status status = ph_sums_find(&piece->block, piece->sums, piece->first, &sum);
    if (status != PH_OK)
        return status;
    status = ph_file_read(piece->heap, piece->bytes, (size_t)piece->count * PH_PAGE_BYTES, piece->first * PH_PAGE_BYTES,
                          &got);
    if (status == PH_OK)
        memset(piece->bytes + got, 0, (size_t)piece->count * PH_PAGE_BYTES - got);
    else if (status != PH_IO || piece->store == NULL)
        return status;
    for (uint32_t i = 0; i < piece->count; i++) {
        enum ph_page_verdict verdict =
            status == PH_OK ? judge(piece, sum[i], piece->bytes + (size_t)i * PH_PAGE_BYTES) : PH_PAGE_UNREADABLE;
        piece->verdicts[i] = (uint8_t)verdict;
        *doubts = *doubts || (verdict != PH_PAGE_GOOD && (verdict != PH_PAGE_UNKNOWN || piece->scrub->fill));
    }
    return PH_OK;
}

static ph_status give_sum(struct piece *piece, uint32_t i)
{
    uint64_t *sum;
    ph_status status = ph_sums_find(&piece->block, piece->sums, piece->first + i, &sum);
    if (status != PH_OK)
        return status;
    *sum = ph_sums_compute(piece->bytes + (size_t)i * PH_PAGE_BYTES);
    piece->block.changed = true;
    piece->verdicts[i] = PH_PAGE_GOOD;
    piece->scrub->filled++;
    return PH_OK;
}

static ph_status look_again_locked(struct piece *piece)
{
    ph_status status = PH_OK;
    if (seems_damaged(piece) || atomic_load(&piece->store->wal.coord->fold_unfinished) != 0)
        status = ph_checkpoint_locked(piece->store, UINT64_MAX);
    piece->block.loaded = false;
    for (uint32_t i = 0; i < piece->count && status == PH_OK; i++) {
        if (piece->verdicts[i] == PH_PAGE_GOOD)
            continue;
        status = look_at_page(piece, i);
        if (status == PH_OK && piece->scrub->fill && piece->verdicts[i] == PH_PAGE_UNKNOWN)
            status = give_sum(piece, i);
    }
    return status == PH_OK ? ph_sums_flush(&piece->block, piece->sums) : status;
}

/* The pages that are not good, under the fold lock. */
static ph_status look_again(struct piece *piece)
{
    ph_status status = ph_fold_lock(piece->store, UINT64_MAX);
    if (status != PH_OK)
        return status;
    status = ph_coord_check_poison(piece->store->wal.coord, piece->store->heap.path);
    if (status == PH_OK)
        status = look_again_locked(piece);
    ph_fold_unlock(piece->store);
    return status;
}

static ph_status scrub_piece(struct piece *piece)
{
    struct ph_scrub *scrub = piece->scrub;
    bool doubts;
    ph_status status = look(piece, &doubts);
    if (status == PH_OK && doubts && piece->store != NULL)
        status = look_again(piece);
    if (status != PH_OK)
        return status;
    for (uint32_t i = 0; i < piece->count; i++) {
        enum ph_page_verdict verdict = piece->verdicts[i];
        scrub->counts[verdict]++;
        if (verdict != PH_PAGE_GOOD && verdict != PH_PAGE_UNKNOWN)
            scrub->fault(scrub->context, piece->first + i, verdict);
    }
    return scrub->watch(scrub->context, piece->first + piece->count, scrub->page_count + FIRST_PAGE);
}

/* The first byte at or after `offset` that may be other than zero; UINT64_MAX if there is none. */
static uint64_t next_data(struct ph_file *file, uint64_t offset)
{
    uint64_t start, end;
    ph_status status = ph_file_next_data(file, offset, &start, &end);
    if (status == PH_END)
        return UINT64_MAX;
    return status == PH_OK && start > offset ? start : offset; /* who cannot say where holes are has none */
}

/* The first page at or after this one that has bytes or a sum. */
static uint64_t next_page(struct piece *piece, uint64_t page)
{
    uint64_t bytes = next_data(piece->heap, page * PH_PAGE_BYTES);
    uint64_t sum = next_data(piece->sums, PH_SUMS_START + page * 8);
    uint64_t by_bytes = bytes == UINT64_MAX ? bytes : bytes / PH_PAGE_BYTES;
    uint64_t by_sum = sum == UINT64_MAX ? sum : (sum - PH_SUMS_START) / 8;
    return by_bytes < by_sum ? by_bytes : by_sum;
}

static ph_status scrub_pages(struct piece *piece)
{
    const uint64_t end = FIRST_PAGE + piece->scrub->page_count;
    ph_status status = PH_OK;
    uint64_t page = FIRST_PAGE;
    while (status == PH_OK) {
        uint64_t next = next_page(piece, page);
        uint64_t from = next < end ? next : end;
        piece->scrub->counts[PH_PAGE_GOOD] += from - page;
        if (from == end)
            break;
        uint64_t to = from - from % PIECE_PAGES + PIECE_PAGES;
        piece->first = from;
        piece->count = (uint32_t)((to < end ? to : end) - from);
        status = scrub_piece(piece);
        page = from + piece->count;
    }
    return status;
}

/* store: NULL if nobody else writes to the files. */
static ph_status scrub_all(struct ph_store *store, struct ph_file *heap, struct ph_file *sums, uint32_t flags,
                           struct ph_scrub *scrub)
{
    const ph_io *io = heap->io;
    struct piece *piece = io->alloc(io->ctx, sizeof *piece, 64);
    uint8_t *bytes = io->alloc(io->ctx, PIECE_PAGES * PH_PAGE_BYTES, PH_PAGE_BYTES);
    ph_status status;
    if (piece != NULL && bytes != NULL) {
        *piece = (struct piece){.store = store,
                                .heap = heap,
                                .sums = sums,
                                .scrub = scrub,
                                .complete = (flags & PH_SUMS_COMPLETE) != 0,
                                .bytes = bytes};
        status = scrub_pages(piece);
    } else {
        status = ph_fail(PH_NO_MEMORY, "%s: out of memory", heap->path);
    }
    if (bytes != NULL)
        io->free(io->ctx, bytes);
    if (piece != NULL)
        io->free(io->ctx, piece);
    return status;
}

ph_status ph_scrub_files(struct ph_file *heap, struct ph_file *sums, uint32_t flags, struct ph_scrub *scrub)
{
    return scrub_all(NULL, heap, sums, flags, scrub);
}

/* Make durable what was filled; all: no page was left out. */
static ph_status complete(struct ph_store *store, bool all)
{
    ph_status status = ph_fold_lock(store, UINT64_MAX);
    if (status != PH_OK)
        return status;
    status = ph_coord_check_poison(store->wal.coord, store->heap.path);
    if (status == PH_OK)
        status = ph_checkpoint_sums(store);
    if (status == PH_OK && all)
        status = ph_sums_complete(store);
    ph_fold_unlock(store);
    return status;
}

ph_status ph_store_scrub(struct ph_store *store, struct ph_scrub *scrub)
{
    struct ph_fold_mark mark;
    uint32_t flags = 0;
    if ((store->superblock.incompat_flags & PH_INCOMPAT_SUMS) == 0)
        return ph_fail(PH_UNSUPPORTED, "%s: the heap keeps no checksums; they are chosen when a heap is created",
                       store->heap.path);
    if (!store->sums.open)
        return ph_fail(PH_UNSUPPORTED,
                       "%s: the checksums in %s-sum are missing, unreadable or of another state of the heap; open the "
                       "heap once for writing, so that they are begun anew",
                       store->heap.path, store->heap.path);
    if (!ph_coord_read_fold(store->wal.coord, &mark) || mark.heap_bytes < FIRST_PAGE * PH_PAGE_BYTES)
        return ph_coord_damaged(store->heap.path);
    ph_status status = ph_store_check_size(store, mark.heap_bytes);
    if (status == PH_OK)
        status = ph_sums_flags(store, &flags);
    if (status != PH_OK)
        return status;
    scrub->page_count = mark.heap_bytes / PH_PAGE_BYTES - FIRST_PAGE;
    status = scrub_all(store, &store->heap, &store->sums, flags, scrub);
    if (status == PH_OK && scrub->fill && (flags & PH_SUMS_COMPLETE) == 0)
        status = complete(store, scrub->counts[PH_PAGE_UNREADABLE] == 0);
    return status;
}
