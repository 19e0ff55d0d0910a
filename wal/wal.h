/* SPDX-License-Identifier: MIT */
/*
 * One process's hold on the log: the parameters, the log file and the coordination file.
 *
 * Owns: the log file's life (create, open, grow), the arithmetic of segments and reserves.
 *
 * The log file is a header sector and, from PH_LOG_SEGMENTS on, segments of equal size in slots.  A segment is written
 * once from its start to its end by flushes, each beginning on a fresh block (R10), and is free again when a
 * checkpoint has passed it (R4).  Slots are zero-filled and synced before their first use, so that a flush is an
 * overwrite of allocated blocks: one direct synchronous write.
 */
#ifndef WAL_WAL_H
#define WAL_WAL_H

#include "io/disk.h"
#include "io/file.h"
#include "io/mutex.h"
#include "wal/coord.h"

struct ph_wal {
    const ph_io *io;
    char *path; /* owned */
    struct ph_coord *coord;
    uint8_t identity[16];
    uint64_t heap_id;
    uint64_t log_limit_bytes;
    uint32_t segment_bytes;
    uint32_t buffer_bytes;
    uint32_t file_mode;
    uint32_t record_max;  /* bytes of one record */
    uint32_t batch_max;   /* bytes of records in one flush write */
    uint32_t block_bytes; /* valid once the file is open */
    struct ph_file file;
    struct ph_local_lock local_lock; /* guards opening the file late, and tests of other seats */
    bool local_lock_ready;
    _Atomic bool opened;
    uint8_t *staging; /* what a flush writes, under the flush lock */
    /* record_max bytes that a replay has left for the next one, or NULL: whoever swaps it out owns it.  To allocate much
     * each time that a view catches up would take as long as to apply a small commit. */
    uint8_t *_Atomic spare_record;
};

/* Parameters of the heap `identity`; takes no resources but memory.  NO_MEMORY. */
PH_MUST_CHECK ph_status ph_wal_init(struct ph_wal *wal, const ph_io *io, const char *heap_path,
                                    const struct ph_superblock *superblock);
void ph_wal_deinit(struct ph_wal *wal); /* zeroed state is fine */

uint64_t ph_wal_heap_id(const uint8_t identity[16]);

/* ------------------------------------------------------------------------------------------------- the log file */

/* What the log file's header says, judged against the heap's identity. */
enum ph_log_condition {
    PH_LOG_ABSENT,  /* no file */
    PH_LOG_BLANK,   /* a file whose header was never written: creation was cut short */
    PH_LOG_DAMAGED, /* a header that is not one */
    PH_LOG_ALIEN,   /* of another heap */
    PH_LOG_OWN
};

/* Open the file if it is there (for writing unless read_only) and read its header.  IO, PERMISSION, NEWER... */
PH_MUST_CHECK ph_status ph_log_inspect(struct ph_wal *wal, bool read_only, enum ph_log_condition *condition,
                                       struct ph_log_header *header);

/*
 * Make the log ready for a new epoch: create the file if there is none, give it at least PH_SEGMENTS_MIN slots, write
 * the header.  header->start_* and epoch are given; the rest is filled in.  Under the fold lock or alone.
 * NO_SPACE, IO, PERMISSION, READ_ONLY.
 */
PH_MUST_CHECK ph_status ph_log_begin_epoch(struct ph_wal *wal, struct ph_log_header *header);

/* Open the file that another process has created.  Any thread, any time after the epoch began. */
PH_MUST_CHECK ph_status ph_log_ensure_open(struct ph_wal *wal);

/* Append one zero-filled slot, unless the limit forbids (LOG_FULL).  Under the fold lock.  NO_SPACE, IO. */
PH_MUST_CHECK ph_status ph_log_add_slot(struct ph_wal *wal);

/* How many slots the file has. */
PH_MUST_CHECK ph_status ph_log_count_slots(struct ph_wal *wal, uint32_t *count);

static inline uint64_t ph_log_slot_offset(const struct ph_wal *wal, uint64_t slot)
{
    return PH_LOG_SEGMENTS + slot * wal->segment_bytes;
}

/* Reserve that a segment still takes when `offset` bytes of it are used, and the sum over the log: see flush.h. */
uint64_t ph_log_usable(const struct ph_wal *wal, uint64_t offset);

#endif
