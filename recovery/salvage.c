/* SPDX-License-Identifier: MIT */
/*
 * Salvage: the heap file and the log, as far as they can be read.
 *
 * Which state the copy shows.  Fold writes whole commits, in order, so the heap file alone is the commit that was folded
 * last (after a power cut it may be a mix of commits, which only the log could mend).  Records are replayed in order and
 * give the same if they are replayed again.  So:
 *
 *   the log is whole, as opening judges it,  all of it is replayed: the last commit.  A torn tail is no loss.
 *   or the buffer has what it lacks          (Damage to nothing but the last flush, if that is not folded, looks like
 *                                            one, and is cut off.)
 *   it breaks off, and went on once          the heap file may be ahead of what can be read.  Replaying that would put
 *                                            back some words of a later commit and not others: a state that never was.
 *                                            Nothing tells how far fold has come, but the heap file shows it: if hardly any
 *                                            of its pages has what the readable records leave behind there, nothing was
 *                                            folded since the checkpoint, and they are replayed.  Else it is left as it is.
 *                                            (Pages are counted, not words: one that is damaged itself has one voice.)
 *   missing, foreign, header damaged,        the heap file as it is
 *   checkpoint not reached, no superblock
 *
 * Which pages of it are suspect.  Where the heap has sums (recovery/sums.h), the copy is compared with them before the
 * log is replayed.  What does not match is copied all the same, and told: these are all the bytes there are, a damaged page
 * is mostly right, and it may be the sum that is damaged.  Only what no sum can tell is passed over, as by a scrub:
 *
 *   a page that replay changes          its sum may be that from before or after a fold that was not finished.  But if it
 *                                       has the mark of damage, that is believed unless one operation overwrites it whole.
 *   a page without a sum                it may not have been written since the sums were begun
 *   all pages, if the sums are missing, or are not those of the checkpoint, or nobody knows which that is
 *
 * If records are lost that changed a page, or the log is not used, it may be suspect because it was being folded: then it
 * is not certain to be of the commit that is shown.
 *
 * Memory: what replay takes, bounded, and 16 bytes for each run of pages that cannot be read and each suspect page.
 */
#include "recovery/salvage.h"

#include "recovery/sums.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#define CHUNK_BYTES (UINT64_C(1) << 20)
#define FOLD_MEMORY_BYTES (UINT64_C(64) << 20)
#define SHOWN_PART 8u /* "hardly any": fewer than one of so many */

__attribute__((format(printf, 3, 4))) static void report(struct ph_salvage *salvage, uint64_t offset,
                                                         const char *format, ...)
{
    char text[PH_DETAIL_BYTES];
    va_list arguments;
    va_start(arguments, format);
    (void)vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    salvage->fault(salvage->context, offset, text);
}

/* ----------------------------------------------------------------------------------------------------- superblocks */

ph_status ph_salvage_begin(struct ph_salvage *salvage)
{
    struct ph_superblock copies[2];
    enum ph_copy_verdict verdicts[2];
    struct ph_file_stat stat;
    ph_status status = ph_file_stat(salvage->heap, &stat);
    if (status != PH_OK)
        return status;
    salvage->file_bytes = stat.size_bytes;
    memset(copies, 0, sizeof copies);
    for (uint32_t i = 0; i < 2; i++) {
        size_t got;
        status = ph_file_read(salvage->heap, &copies[i], sizeof copies[i], PH_SUPERBLOCK_OFFSET(i), &got);
        verdicts[i] = status == PH_OK ? ph_superblock_check(&copies[i], i) : PH_COPY_DAMAGED;
    }
    bool good[2] = {verdicts[0] == PH_COPY_GOOD, verdicts[1] == PH_COPY_GOOD};
    for (uint32_t i = 0; i < 2; i++) {
        if (verdicts[i] == PH_COPY_NEWER)
            return ph_fail(PH_NEWER, "%s: heap format %u, incompatible features 0x%x; use a newer pheap",
                           salvage->heap->path, copies[i].format_version, copies[i].incompat_flags);
        if (verdicts[i] == PH_COPY_BYTE_ORDER && !good[1 - i])
            return ph_fail(PH_BYTE_ORDER, "%s: the heap was made on a machine of another byte order",
                           salvage->heap->path);
        if (!good[i])
            report(salvage, PH_SUPERBLOCK_OFFSET(i), "superblock copy %u is damaged", i);
    }
    if (good[0] && good[1] && memcmp(copies[0].identity, copies[1].identity, sizeof copies[0].identity) != 0) {
        report(salvage, 0, "the two superblocks belong to different heaps; neither is believed");
        good[0] = good[1] = false;
    }
    salvage->found = good[0] || good[1];
    salvage->other_damaged = !good[0] || !good[1];
    if (salvage->found)
        salvage->superblock = copies[good[1] && (!good[0] || copies[1].generation > copies[0].generation)];
    return PH_OK;
}

/* --------------------------------------------------------------------------------------------------------- the copy */

/* The list, with room for one more element; NULL without memory. */
static void *grow(struct ph_salvage *salvage, void *list, uint32_t count, uint32_t *capacity, size_t element)
{
    const ph_io *io = salvage->heap->io;
    if (count < *capacity)
        return list;
    if (*capacity > UINT32_MAX / 4)
        return NULL;
    uint32_t wanted = *capacity * 2 + 16;
    void *grown = io->resize(io->ctx, list, wanted * element);
    if (grown != NULL)
        *capacity = wanted;
    return grown;
}

static ph_status no_memory(const struct ph_salvage *salvage)
{
    return ph_fail(PH_NO_MEMORY, "%s: out of memory", salvage->heap->path);
}

/* Pages [from, to), which come after all others so far, cannot be read. */
static ph_status add_unread(struct ph_salvage *salvage, uint64_t from, uint64_t to)
{
    struct ph_page_range *last = salvage->unread_count > 0 ? &salvage->unread[salvage->unread_count - 1] : NULL;
    if (last != NULL && last->to == from) {
        last->to = to;
        return PH_OK;
    }
    struct ph_page_range *list =
        grow(salvage, salvage->unread, salvage->unread_count, &salvage->unread_capacity, sizeof *salvage->unread);
    if (list == NULL)
        return no_memory(salvage);
    list[salvage->unread_count++] = (struct ph_page_range){from, to};
    salvage->unread = list;
    return PH_OK;
}

bool ph_salvage_unread(const struct ph_salvage *salvage, uint64_t from, uint64_t to)
{
    uint32_t low = 0, high = salvage->unread_count; /* the first range that ends behind `from` */
    while (low < high) {
        uint32_t middle = (low + high) / 2;
        if (salvage->unread[middle].to <= from)
            low = middle + 1;
        else
            high = middle;
    }
    return low < salvage->unread_count && salvage->unread[low].from < to;
}

/* Copy [at, at + length), whole pages; page by page if it cannot be read in one go. */
static ph_status copy_chunk(struct ph_salvage *salvage, struct ph_file *to, uint8_t *buffer, uint64_t at,
                            uint64_t length)
{
    ph_status status = ph_file_read_exact(salvage->heap, buffer, length, at);
    if (status == PH_OK)
        return ph_file_write(to, buffer, length, at, 0);
    for (uint64_t page = at; page < at + length; page += PH_PAGE_BYTES) {
        if (ph_file_read_exact(salvage->heap, buffer, PH_PAGE_BYTES, page) == PH_OK)
            status = ph_file_write(to, buffer, PH_PAGE_BYTES, page, 0);
        else
            status = add_unread(salvage, page / PH_PAGE_BYTES, page / PH_PAGE_BYTES + 1);
        if (status != PH_OK)
            return status;
    }
    return PH_OK;
}

/* Copy bytes [first, last) of the heap file, which are whole pages, but for holes. */
static ph_status copy_stretches(struct ph_salvage *salvage, struct ph_file *to, uint64_t first, uint64_t last)
{
    const ph_io *io = salvage->heap->io;
    uint8_t *buffer = io->alloc(io->ctx, CHUNK_BYTES, PH_PAGE_BYTES);
    if (buffer == NULL)
        return no_memory(salvage);
    ph_status status = PH_OK;
    uint64_t at = first;
    while (at < last && status == PH_OK) {
        uint64_t start, end;
        status = ph_file_next_data(salvage->heap, at, &start, &end);
        if (status == PH_END || (status == PH_OK && start >= last)) {
            status = PH_OK;
            break;
        }
        if (status != PH_OK) { /* it cannot say: as if there were no holes */
            start = at;
            end = last;
            status = PH_OK;
        }
        start = (start < at ? at : start) & ~(uint64_t)(PH_PAGE_BYTES - 1);
        end = (end + PH_PAGE_BYTES - 1) & ~(uint64_t)(PH_PAGE_BYTES - 1);
        end = end > last ? last : end;
        for (at = start; at < end && status == PH_OK;) {
            uint64_t length = end - at < CHUNK_BYTES ? end - at : CHUNK_BYTES;
            status = copy_chunk(salvage, to, buffer, at, length);
            at += length;
            if (status == PH_OK)
                status = salvage->watch(salvage->context, "copying", at, last);
        }
    }
    io->free(io->ctx, buffer);
    return status;
}

/* --------------------------------------------------------------------------------------------------------- the sums */

struct comparison {
    struct ph_salvage *salvage;
    ph_status status;
};

static void add_suspect(void *context, uint64_t page, enum ph_page_verdict verdict)
{
    struct comparison *comparison = context;
    struct ph_salvage *salvage = comparison->salvage;
    if (comparison->status != PH_OK || ph_salvage_unread(salvage, page, page + 1))
        return;
    struct ph_suspect_page *list =
        grow(salvage, salvage->suspects, salvage->suspect_count, &salvage->suspect_capacity, sizeof *salvage->suspects);
    if (list == NULL) {
        comparison->status = no_memory(salvage);
        return;
    }
    list[salvage->suspect_count++] = (struct ph_suspect_page){page, verdict};
    salvage->suspects = list;
}

static ph_status watch_comparison(void *context, uint64_t done_pages, uint64_t page_count)
{
    const struct comparison *comparison = context;
    if (comparison->status != PH_OK)
        return comparison->status;
    return comparison->salvage->watch(comparison->salvage->context, "comparing", done_pages, page_count);
}

/* Compare the copy, into which nothing has been replayed yet, with the sums of the heap file.  Sums that cannot be used
 * are no reason to give up. */
static ph_status compare_with_sums(struct ph_salvage *salvage, struct ph_file *to, uint64_t page_count)
{
    struct ph_store store = {.io = salvage->heap->io, .superblock = salvage->superblock}; /* that is only read */
    struct comparison comparison = {.salvage = salvage};
    struct ph_scrub scrub = {
        .fault = add_suspect, .watch = watch_comparison, .context = &comparison, .page_count = page_count};
    uint32_t flags;
    store.heap.path = salvage->heap->path;
    ph_status status = ph_sums_open(&store);
    if (status != PH_OK)
        return status;
    if (!store.sums.open) {
        report(salvage, 0,
               "%s-sum: the checksums are missing, unreadable or of another state of the heap: no page can be compared",
               salvage->heap->path);
        return PH_OK;
    }
    status = ph_sums_flags(&store, &flags);
    if (status == PH_OK)
        status = ph_scrub_files(to, &store.sums, flags, &scrub);
    if (status == PH_IO) {
        report(salvage, 0, "%s; the pages from there on are not compared with their checksums", ph_detail());
        status = PH_OK;
    }
    ph_file_close(&store.sums);
    for (int verdict = 0; verdict < PH_PAGE_VERDICTS; verdict++)
        if (verdict != PH_PAGE_UNKNOWN)
            salvage->unknown_pages -= scrub.counts[verdict];
    return status;
}

/* The first suspect page at or behind this one. */
static uint32_t find_suspect(const struct ph_salvage *salvage, uint64_t page)
{
    uint32_t low = 0, high = salvage->suspect_count;
    while (low < high) {
        uint32_t middle = (low + high) / 2;
        if (salvage->suspects[middle].page < page)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

bool ph_salvage_suspect(const struct ph_salvage *salvage, uint64_t from, uint64_t to)
{
    uint32_t found = find_suspect(salvage, from);
    return found < salvage->suspect_count && salvage->suspects[found].page < to;
}

/* An operation is replayed: of the pages that it changes the sums tell nothing, of those that it overwrites they need not. */
static void acquit(struct ph_salvage *salvage, const struct ph_operation *operation)
{
    if (operation->kind == PH_OPERATION_GROW)
        return;
    const uint64_t end = operation->offset + operation->length;
    for (uint32_t i = find_suspect(salvage, operation->offset / PH_PAGE_BYTES); i < salvage->suspect_count; i++) {
        struct ph_suspect_page *suspect = &salvage->suspects[i];
        const uint64_t start = suspect->page * PH_PAGE_BYTES;
        if (start >= end)
            break;
        if (operation->offset <= start && start + PH_PAGE_BYTES <= end)
            suspect->verdict = PH_PAGE_GOOD;
        else if (suspect->verdict != PH_PAGE_GOOD && suspect->verdict != PH_PAGE_PATCHED)
            suspect->verdict = PH_PAGE_UNKNOWN;
    }
}

/* Keep the suspects that are. */
static void sift_suspects(struct ph_salvage *salvage)
{
    uint32_t kept = 0;
    for (uint32_t i = 0; i < salvage->suspect_count; i++) {
        const struct ph_suspect_page suspect = salvage->suspects[i];
        if (suspect.page >= salvage->page_count)
            break;
        if (suspect.verdict == PH_PAGE_UNKNOWN)
            salvage->unknown_pages++;
        else if (suspect.verdict != PH_PAGE_GOOD)
            salvage->suspects[kept++] = suspect;
    }
    salvage->suspect_count = kept;
}

/* ---------------------------------------------------------------------------------------------------------- the log */

/* is_behind, by the first of so many parts of the pages.  TOO_BIG: these are still too many. */
static ph_status compare_part(struct ph_wal *wal, const struct ph_log_origin *origin, const struct ph_boundary *end,
                              struct ph_file *to, uint32_t parts, bool *behind)
{
    struct ph_fold_set *set = NULL;
    uint64_t shown = 0, pages = 0;
    ph_status status = ph_fold_set_init(&set, to, FOLD_MEMORY_BYTES, 0, parts);
    if (status == PH_OK)
        status = ph_replay_again(wal, origin, end, ph_fold_set_apply, set);
    if (status == PH_OK)
        status = ph_fold_set_compare(set, SHOWN_PART, &shown, &pages);
    if (status == PH_OK)
        *behind = shown * SHOWN_PART < pages;
    ph_fold_set_deinit(set);
    return status;
}

/*
 * Whether the copy, and so the heap file, has hardly anything of what the records up to `end` leave behind.  If they
 * change more pages than fit in memory, some of them, picked by a hash, answer for all.
 */
static ph_status is_behind(struct ph_wal *wal, const struct ph_log_origin *origin, const struct ph_boundary *end,
                           struct ph_file *to, bool *behind)
{
    ph_status status = PH_TOO_BIG;
    *behind = false;
    for (uint32_t parts = 1; parts <= PH_FOLD_PARTS_MAX && status == PH_TOO_BIG; parts *= 2)
        status = compare_part(wal, origin, end, to, parts, behind);
    return status == PH_TOO_BIG ? PH_OK : status;
}

struct replaying {
    struct ph_salvage *salvage;
    struct ph_fold_set *set;
};

static ph_status apply(void *context, const struct ph_operation *operation)
{
    const struct replaying *replaying = context;
    acquit(replaying->salvage, operation);
    return ph_fold_set_apply(replaying->set, operation);
}

static ph_status replay(struct ph_salvage *salvage, struct ph_wal *wal, const struct ph_log_origin *origin,
                        const struct ph_boundary *end, struct ph_file *to)
{
    struct replaying replaying = {.salvage = salvage};
    ph_status status = ph_fold_set_init(&replaying.set, to, FOLD_MEMORY_BYTES, 0, 0);
    if (status == PH_OK)
        status = ph_replay_again(wal, origin, end, apply, &replaying);
    if (status == PH_OK)
        status = ph_fold_set_write(replaying.set);
    ph_fold_set_deinit(replaying.set);
    return status;
}

/* Bring the copy to the newest commit that the log leads to; *heap_bytes is its logical size. */
static ph_status replay_log(struct ph_salvage *salvage, struct ph_wal *wal, const struct ph_log_origin *origin,
                            struct ph_file *to, uint64_t *heap_bytes)
{
    struct ph_finding found;
    const struct ph_boundary *end = &found.end;
    bool use = true;
    ph_status status = ph_find_end(wal, &salvage->superblock, origin, true, NULL, NULL, &found);
    if (status == PH_NO_MEMORY)
        return status;
    salvage->log = PH_SALVAGE_WHOLE;
    if (status != PH_OK) {
        report(salvage, 0, "%s; what was committed from LSN %" PRIu64 " on, after version %" PRIu64 ", is lost",
               ph_detail(), found.lsn, end->version);
        salvage->log = PH_SALVAGE_CUT;
        use = false;
        status = end->lsn > origin->from.lsn ? is_behind(wal, origin, end, to, &use) : PH_OK;
    }
    if (status == PH_OK && use)
        status = replay(salvage, wal, origin, end, to);
    if (status == PH_OK && use) {
        salvage->version = end->version < PH_NUMBER_LIMIT ? end->version : 0; /* not known: no heap can have it */
        *heap_bytes = end->heap_bytes;
    } else if (status == PH_OK) {
        salvage->log = PH_SALVAGE_UNUSED;
        report(salvage, 0,
               "the log is not used: the heap file is taken as it is, with version %" PRIu64
               " and what was brought into it since",
               salvage->version);
    }
    return status;
}

static ph_status use_log(struct ph_salvage *salvage, struct ph_coord *coord, struct ph_file *to, uint64_t *heap_bytes)
{
    struct ph_wal wal;
    enum ph_log_condition condition;
    struct ph_log_header header;
    const struct ph_superblock *s = &salvage->superblock;
    ph_status status = ph_wal_init(&wal, salvage->heap->io, salvage->heap->path, s);
    if (status != PH_OK)
        return status;
    wal.coord = coord;
    status = ph_log_inspect(&wal, true, &condition, &header);
    enum ph_plan plan =
        ph_classify((enum ph_superblock_state)s->state, salvage->other_damaged, ph_classify_log(s, condition, &header));
    if (status == PH_OK)
        status = ph_plan_refuse(plan, salvage->heap->path, wal.path);
    if (status != PH_OK && status != PH_NO_MEMORY) {
        salvage->log = PH_SALVAGE_UNUSED;
        report(salvage, 0,
               "the log is not used: the heap file is taken as it is, with version %" PRIu64
               " and what was brought into it since: %s",
               salvage->version, ph_detail());
        status = PH_OK;
    } else if (status == PH_OK && plan == PH_PLAN_CLEAN) {
        salvage->log = PH_SALVAGE_WHOLE;
    } else if (status == PH_OK) {
        struct ph_log_origin origin = ph_plan_origin(plan, s, &header);
        status = replay_log(salvage, &wal, &origin, to, heap_bytes);
    }
    wal.coord = NULL;
    ph_wal_deinit(&wal);
    return status;
}

ph_status ph_salvage_copy(struct ph_salvage *salvage, struct ph_coord *coord, struct ph_file *to)
{
    const uint64_t first = 2 * PH_PAGE_BYTES, page_mask = ~(uint64_t)(PH_PAGE_BYTES - 1);
    struct ph_file_stat stat;
    uint64_t readable = salvage->file_bytes < PH_HEAP_MAX_BYTES ? salvage->file_bytes : PH_HEAP_MAX_BYTES;
    uint64_t whole = readable & page_mask, heap_bytes = whole;
    salvage->log = PH_SALVAGE_UNUSED;
    ph_status status = ph_file_truncate(to, whole > first ? whole : first);
    if (status == PH_OK)
        status = copy_stretches(salvage, to, first, whole);
    salvage->unknown_pages = whole > first ? (whole - first) / PH_PAGE_BYTES : 0;
    if (status == PH_OK && salvage->found && (salvage->superblock.incompat_flags & PH_INCOMPAT_SUMS) != 0)
        status = compare_with_sums(salvage, to, salvage->unknown_pages);
    if (status == PH_OK && salvage->found) {
        const uint64_t wanted = salvage->superblock.heap_bytes;
        salvage->version = salvage->superblock.checkpoint_version;
        heap_bytes = wanted;
        if (whole < wanted) {
            report(salvage, whole, "the file is truncated: it has %" PRIu64 " bytes, the superblock says %" PRIu64,
                   salvage->file_bytes, wanted);
            status = add_unread(salvage, whole / PH_PAGE_BYTES, wanted / PH_PAGE_BYTES);
        }
        if (status == PH_OK)
            status = use_log(salvage, coord, to, &heap_bytes);
    } else if (status == PH_OK) {
        report(salvage, 0,
               "no superblock is left to say which log is that of the heap: the heap file is taken as it is");
    }
    for (uint32_t i = 0; i < salvage->unread_count; i++)
        if (salvage->unread[i].to <= whole / PH_PAGE_BYTES)
            report(salvage, salvage->unread[i].from * PH_PAGE_BYTES, "pages %" PRIu64 " to %" PRIu64 " cannot be read",
                   salvage->unread[i].from, salvage->unread[i].to - 1);
    if (status == PH_OK)
        status = ph_file_stat(to, &stat);
    if (status != PH_OK)
        return status;
    /* Behind the logical size nothing counts, if that is known; and what the heap has grown by may not be in the file. */
    uint64_t bytes = (stat.size_bytes + PH_PAGE_BYTES - 1) & page_mask;
    if (salvage->log != PH_SALVAGE_UNUSED && (bytes > heap_bytes || whole >= salvage->superblock.heap_bytes))
        bytes = heap_bytes;
    salvage->page_count = bytes / PH_PAGE_BYTES;
    sift_suspects(salvage);
    return ph_file_truncate(to, bytes);
}

void ph_salvage_deinit(struct ph_salvage *salvage)
{
    void *lists[] = {salvage->unread, salvage->suspects};
    for (unsigned i = 0; i < 2; i++)
        if (lists[i] != NULL)
            salvage->heap->io->free(salvage->heap->io->ctx, lists[i]);
    salvage->unread = NULL;
    salvage->suspects = NULL;
}
