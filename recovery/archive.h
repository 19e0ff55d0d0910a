/* SPDX-License-Identifier: MIT */
/*
 * The archive: a stream of operations in one zstd frame, between a header and a footer with checksums over everything
 * (io/disk.h; docs/format.md is the normative text).
 *
 * Owns: compression, checksums, and the check of every byte of an archive that is read.  Knows nothing of heaps but
 * their parameters, so an archive can come from anywhere and go anywhere: bytes go out and come in through functions.
 *
 * Memory: the zstd state, which the window bounds (PH_ARCHIVE_WINDOW_MAX), and less than 2 MiB of buffers.  zstd takes
 * its own by malloc, not through the seam.
 */
#ifndef RECOVERY_ARCHIVE_H
#define RECOVERY_ARCHIVE_H

#include "io/checksum.h"
#include "io/disk.h"
#include "io/io.h"
#include "wal/record.h"

/* ------------------------------------------------------------------------------------------------------- parameters */

/* The header of an archive of the heap that this is the superblock of, complete but for window_log and checksum. */
struct ph_archive_header ph_archive_describe(const struct ph_superblock *superblock, uint64_t heap_bytes,
                                             uint64_t archived_ns);

/* The superblock of the heap that an archive makes, but for identity, copy and checksum: CLEAN and in its first
 * generation. */
struct ph_superblock ph_archive_superblock(const struct ph_archive_header *header, uint64_t version,
                                           uint64_t heap_bytes);

/* -------------------------------------------------------------------------------------------------------- writing */

/* Take `length` bytes of the archive.  A status other than OK stops the writer and comes back from it. */
typedef ph_status (*ph_archive_put)(void *context, const void *bytes, size_t length);

struct ph_archive_writer {
    const ph_io *io;
    ph_archive_put put;
    void *context;
    void *zstd;
    uint8_t *content; /* owned: operations that wait to be compressed */
    size_t content_length;
    uint8_t *output; /* owned */
    size_t output_capacity;
    struct ph_checksum_stream content_checksum, checksum;
    uint64_t operation_count, content_bytes, archive_bytes;
};

/*
 * Begin an archive: put its header.  level: as zstd has them, 0 is its default; window_log: 0, or the size of the window
 * in which long repetitions are looked for.  INVALID, NO_MEMORY, what `put` gives.
 */
PH_MUST_CHECK ph_status ph_archive_write_begin(struct ph_archive_writer *writer, const ph_io *io, ph_archive_put put,
                                               void *context, struct ph_archive_header *header, int level,
                                               uint32_t window_log);
PH_MUST_CHECK ph_status ph_archive_write(struct ph_archive_writer *writer, const struct ph_operation *operation);
/* End it with its footer. */
PH_MUST_CHECK ph_status ph_archive_write_end(struct ph_archive_writer *writer, uint64_t version, uint64_t heap_bytes);
void ph_archive_write_deinit(struct ph_archive_writer *writer); /* zeroed state is fine */

/* -------------------------------------------------------------------------------------------------------- reading */

/* Give the next bytes of the archive, at most `length`; *got is 0 at its end only. */
typedef ph_status (*ph_archive_get)(void *context, void *bytes, size_t length, size_t *got);

struct ph_archive_reader {
    const ph_io *io;
    const char *name; /* for texts; the caller's */
    ph_archive_get get;
    void *context;
    void *zstd;
    uint8_t *input; /* owned */
    size_t input_at, input_length;
    bool input_ended;
    bool frame_ended;
    uint8_t *content; /* owned: [content_at, content_length) is not handed out yet */
    size_t content_at, content_length;
    struct ph_checksum_stream content_checksum, checksum;
    uint64_t operation_count, content_bytes;
    uint64_t archive_bytes; /* taken out of `input` so far */
    uint64_t heap_bytes;    /* as the operations so far have made it */
    struct ph_archive_header header;
    struct ph_archive_footer footer; /* valid after END */
};

/* Read and check the header.  NOT_HEAP (no archive), NEWER, BYTE_ORDER, CORRUPT, NO_MEMORY, what `get` gives. */
PH_MUST_CHECK ph_status ph_archive_read_begin(struct ph_archive_reader *reader, const ph_io *io, const char *name,
                                              ph_archive_get get, void *context);
/*
 * The next operation, which lies inside the heap as it is then; valid until the next call.  END when the archive has
 * ended as it should, with all its checksums right, and nothing comes after it; before that, nothing read of it may be
 * believed.  CORRUPT, NO_MEMORY, what `get` gives.
 */
PH_MUST_CHECK ph_status ph_archive_read(struct ph_archive_reader *reader, struct ph_operation *operation);
void ph_archive_read_deinit(struct ph_archive_reader *reader); /* zeroed state is fine */

#endif
