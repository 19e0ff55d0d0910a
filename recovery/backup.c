/* SPDX-License-Identifier: MIT */
/*
 * Backup: a fuzzy copy of the heap file, and redo, as base backups of PostgreSQL are made.
 *
 * The heap file is read piece by piece while others fold into it, so the pieces are of different ages and may be torn.
 * Pieces and the operations of the log's records go into one stream of operations, which makes the heap when they are
 * applied in order, because of three rules:
 *
 *   B1  An operation of a record goes out before a piece is read only if the record was folded then.  So the piece has
 *       it, or something newer, and does not take a byte back to what it was.
 *   B2  Every record that may have reached the file by the time when the last piece was read goes out in the end, up to
 *       a commit E: E is what was committed after that piece was read, and folds go no further than what is committed.
 *       So each byte ends as the last record before E that changed it left it, whatever the pieces had.
 *   B3  No record is left out that was not in the file when the copying began, so what no record changes is as the
 *       pieces have it, and those had nothing else.
 *
 * Zeros are left out: holes, and pages of zeros.  A word that a record has changed before such a page was read is, after
 * the operations that are out by then, zero as well, or changed again by one that is still to come.
 *
 * It copies no further than the heap reached when it began: what came later is in records.  So it ends.
 *
 * The hold (R4).  The records to go out are read from the log, beginning at `cursor`.  The seat's `hold` names the
 * segment in which that lies; checkpoints do not free it and those behind it.  It is published, and then the checkpoint
 * looked at: whoever frees segments publishes the checkpoint, and then looks at the holds; so one sees the other
 * (Dekker, as with pins).  The hold moves on as records go out, which happens before half the shared buffer has been
 * folded or when a segment has been: a backup whose archive can be written fast enough keeps a segment or two.  It never
 * stops a fold.
 */
#include "recovery/backup.h"

#include "io/failpoint.h"
#include "wal/flush.h"

#include <string.h>

#define PIECE_BYTES (64u * PH_PAGE_BYTES)
#define FOLD_WAIT_NS UINT64_C(1000000000)

struct backup {
    struct ph_store *store;
    const struct ph_backup_settings *settings;
    struct ph_archive_writer writer;
    struct ph_boundary cursor; /* records before it have gone out, or were folded at the start */
    uint64_t segment, offset;  /* a batch at or before it */
    uint64_t grown_to;         /* the largest GROW that has gone out */
    uint8_t *piece;            /* owned */
    struct ph_backup_tally *tally;
};

static struct ph_seat *own_seat(struct ph_store *store)
{
    return &store->wal.coord->seats[store->seat];
}

int ph_store_oldest_hold(struct ph_store *store, uint64_t *segment)
{
    int oldest = -1;
    for (uint32_t seat = 0; seat < PH_SEATS; seat++) {
        uint64_t hold = atomic_load(&store->wal.coord->seats[seat].hold);
        if (hold == 0 || (oldest >= 0 && hold - 1 >= *segment) || !ph_store_seat_alive(store, seat))
            continue;
        *segment = hold - 1;
        oldest = (int)seat;
    }
    return oldest;
}

static void set_cursor(struct backup *backup, const struct ph_fold_mark *mark)
{
    backup->cursor = (struct ph_boundary){mark->lsn, mark->chain, mark->version, mark->heap_bytes};
    backup->segment = mark->segment;
    backup->offset = mark->offset;
}

/*
 * Publish the hold at the fold mark.  A checkpoint beyond it that was not seen to move the mark as well is an epoch that
 * begins: then there is no log behind yet.
 */
static ph_status take_hold(struct backup *backup)
{
    struct ph_coord *coord = backup->store->wal.coord;
    struct ph_seat *seat = own_seat(backup->store);
    struct ph_fold_mark mark, before;
    if (!ph_coord_read_fold(coord, &mark))
        return ph_coord_damaged(backup->store->heap.path);
    atomic_store(&seat->hold_since_ns, backup->store->io->clock_ns(backup->store->io->ctx, PH_CLOCK_REALTIME));
    do {
        before = mark;
        atomic_store(&seat->hold, mark.segment + 1);
        PH_POINT(hold_published);
        if (atomic_load(&coord->checkpoint.segment) <= mark.segment)
            break;
        if (!ph_coord_read_fold(coord, &mark))
            return ph_coord_damaged(backup->store->heap.path);
    } while (mark.lsn != before.lsn || mark.segment != before.segment);
    set_cursor(backup, &mark);
    backup->grown_to = mark.heap_bytes;
    return PH_OK;
}

static void release_hold(struct ph_store *store)
{
    PH_POINT(hold_to_release);
    atomic_store(&own_seat(store)->hold, 0);
}

static ph_status report(struct backup *backup)
{
    backup->tally->content_bytes = backup->writer.content_bytes;
    backup->tally->archive_bytes = backup->writer.archive_bytes;
    backup->tally->operation_count = backup->writer.operation_count;
    return backup->settings->watch(backup->settings->watch_context, backup->tally);
}

/* --------------------------------------------------------------------------------------------------- from the log */

/* A stretch that had to be begun again has put out some of its operations already, which does no harm, but a size must
 * not shrink. */
static ph_status put_operation(void *context, const struct ph_operation *operation)
{
    struct backup *backup = context;
    if (operation->kind == PH_OPERATION_GROW) {
        if (operation->value <= backup->grown_to)
            return PH_OK;
        backup->grown_to = operation->value;
    }
    return ph_archive_write(&backup->writer, operation);
}

/* Put out the records from the cursor to `to`, a commit that is durable. */
static ph_status put_records(struct backup *backup, uint64_t to, struct ph_boundary *reached)
{
    struct ph_wal *wal = &backup->store->wal;
    ph_status status =
        ph_replay_live(wal, &backup->cursor, backup->segment, backup->offset, to, put_operation, backup, reached);
    if (status == PH_OK && reached->lsn != to)
        return ph_fail(PH_CORRUPT, "%s: the log was damaged while the heap is in use: LSN %llu is no commit's end",
                       wal->path, (unsigned long long)to);
    return status;
}

/* Between two pieces: put out what has been folded, if it is time for that, and move the hold on. */
static ph_status follow(struct backup *backup)
{
    struct ph_fold_mark mark;
    struct ph_boundary reached;
    if (!ph_coord_read_fold(backup->store->wal.coord, &mark))
        return ph_coord_damaged(backup->store->heap.path);
    if (mark.lsn == backup->cursor.lsn ||
        (mark.segment == backup->segment && mark.lsn - backup->cursor.lsn < backup->store->wal.buffer_bytes / 2))
        return PH_OK;
    ph_status status = put_records(backup, mark.lsn, &reached);
    if (status != PH_OK)
        return status;
    set_cursor(backup, &mark);
    atomic_store(&own_seat(backup->store)->hold, mark.segment + 1);
    PH_POINT(hold_moved);
    return report(backup);
}

/* After the last piece: everything up to what is committed now. */
static ph_status finish(struct backup *backup)
{
    struct ph_wal *wal = &backup->store->wal;
    uint64_t end = atomic_load(&wal->coord->committed);
    struct ph_boundary reached = backup->cursor;
    ph_status status = ph_flush_to(wal, end, UINT64_MAX);
    if (status == PH_OK && end != backup->cursor.lsn)
        status = put_records(backup, end, &reached);
    if (status == PH_OK)
        status = ph_archive_write_end(&backup->writer, reached.version, reached.heap_bytes);
    if (status != PH_OK)
        return status;
    backup->tally->version = reached.version;
    backup->tally->heap_bytes = reached.heap_bytes;
    return report(backup);
}

/* -------------------------------------------------------------------------------------------- from the heap file */

/* Put out the pages of a piece that are not zero. */
static ph_status put_piece(struct backup *backup, uint64_t offset, uint64_t length)
{
    for (uint64_t at = 0; at < length;) {
        uint64_t from = at;
        while (at < length && !ph_page_is_zero(backup->piece + at))
            at += PH_PAGE_BYTES;
        struct ph_operation write = {
            .kind = PH_OPERATION_WRITE, .offset = offset + from, .length = at - from, .bytes = backup->piece + from};
        ph_status status = at > from ? ph_archive_write(&backup->writer, &write) : PH_OK;
        if (status != PH_OK)
            return status;
        while (at < length && ph_page_is_zero(backup->piece + at))
            at += PH_PAGE_BYTES;
    }
    return PH_OK;
}

/* A stretch of the file, whole pages. */
static ph_status copy_stretch(struct backup *backup, uint64_t from, uint64_t to)
{
    ph_status status = PH_OK;
    for (uint64_t at = from; at < to && status == PH_OK; at += PIECE_BYTES) {
        uint64_t length = to - at < PIECE_BYTES ? to - at : PIECE_BYTES;
        status = ph_file_read_exact(&backup->store->heap, backup->piece, length, at);
        if (status == PH_OK)
            status = put_piece(backup, at, length);
        backup->tally->done_bytes += length;
        if (status == PH_OK)
            status = report(backup);
        if (status == PH_OK)
            status = follow(backup);
    }
    return status;
}

static ph_status copy_file(struct backup *backup)
{
    struct ph_file *heap = &backup->store->heap;
    uint64_t end_of_heap = backup->cursor.heap_bytes, at = 2 * PH_PAGE_BYTES, from, to;
    while (at < end_of_heap) {
        ph_status status = ph_file_next_data(heap, at, &from, &to);
        if (status == PH_END || (status == PH_OK && from >= end_of_heap))
            return PH_OK;
        if (status != PH_OK)
            return status;
        from &= ~(uint64_t)(PH_PAGE_BYTES - 1);
        to = (to + PH_PAGE_BYTES - 1) & ~(uint64_t)(PH_PAGE_BYTES - 1);
        at = to < end_of_heap ? to : end_of_heap;
        status = copy_stretch(backup, from, at);
        if (status != PH_OK)
            return status;
    }
    return PH_OK;
}

static ph_status run_held(struct backup *backup, ph_archive_put put, void *context)
{
    struct ph_store *store = backup->store;
    const ph_io *io = store->io;
    ph_status status = PH_OK;
    if (store->heap.writable) /* so that little of the log is held at first */
        status = ph_store_fold(store, FOLD_WAIT_NS);
    if (status == PH_OK || atomic_load(&store->wal.coord->poisoned) == 0) /* a disk that is full or failing will do */
        status = take_hold(backup);
    if (status != PH_OK)
        return status;
    struct ph_file_stat stat;
    status = ph_file_stat(&store->heap, &stat);
    if (status != PH_OK)
        return status;
    struct ph_archive_header header =
        ph_archive_describe(&store->superblock, backup->cursor.heap_bytes, io->clock_ns(io->ctx, PH_CLOCK_REALTIME));
    header.file_mode = stat.mode & 0777; /* it may have been changed since creation */
    backup->tally->total_bytes = stat.disk_bytes < header.heap_bytes ? stat.disk_bytes : header.heap_bytes;
    status = ph_archive_write_begin(&backup->writer, io, put, context, &header, backup->settings->level,
                                    backup->settings->window_log);
    if (status == PH_OK)
        status = copy_file(backup);
    if (status == PH_OK)
        status = finish(backup);
    ph_archive_write_deinit(&backup->writer);
    return status;
}

ph_status ph_backup_run(struct ph_store *store, const struct ph_backup_settings *settings, ph_archive_put put,
                        void *context, struct ph_backup_tally *tally)
{
    if (atomic_exchange(&store->backing_up, true))
        return ph_fail(PH_BUSY, "%s: this process is at a backup of the heap already", store->heap.path);
    struct backup backup = {.store = store, .settings = settings, .tally = tally};
    *tally = (struct ph_backup_tally){.total_bytes = 0};
    backup.piece = store->io->alloc(store->io->ctx, PIECE_BYTES, PH_PAGE_BYTES);
    ph_status status = backup.piece != NULL
                           ? run_held(&backup, put, context)
                           : ph_fail(PH_NO_MEMORY, "%s: out of memory beginning a backup", store->heap.path);
    release_hold(store);
    if (backup.piece != NULL)
        store->io->free(store->io->ctx, backup.piece);
    atomic_store(&store->backing_up, false);
    return status;
}
