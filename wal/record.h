/* SPDX-License-Identifier: MIT */
/*
 * Redo records: building, sealing, checking and reading them.  Pure: no state, no input or output.
 *
 * A record is a header and a list of operations (io/disk.h).  A transaction is one record with FIRST and LAST, or
 * several of which the first has FIRST and the last has LAST.
 */
#ifndef WAL_RECORD_H
#define WAL_RECORD_H

#include "io/disk.h"
#include "io/io.h"
#include "io/status.h"

/* What a record must be to follow a given one in the stream. */
struct ph_record_place {
    uint64_t heap_id;
    uint64_t epoch;
    uint64_t lsn;
    uint64_t chain;
};

/* ------------------------------------------------------------------------------------------------------- building */

/* The records of one transaction, unsealed, one behind the other. */
struct ph_record_builder {
    const ph_io *io;
    uint8_t *bytes; /* owned */
    size_t length, capacity;
    size_t record_start; /* of the record being built */
    size_t last_write;   /* offset of the last WRITE's header in `bytes`, 0 if it cannot be extended */
    uint32_t record_max; /* a record is never longer */
    uint32_t records;    /* begun so far */
};

/* Forget the content, keep the memory.  Zeroed state with io and record_max set is fine. */
void ph_record_builder_reset(struct ph_record_builder *builder);
void ph_record_builder_deinit(struct ph_record_builder *builder);

/* Append operations.  offset and length are multiples of 8.  NO_MEMORY. */
PH_MUST_CHECK ph_status ph_record_add_write(struct ph_record_builder *builder, uint64_t offset, const uint8_t *bytes,
                                            uint64_t length);
PH_MUST_CHECK ph_status ph_record_add_grow(struct ph_record_builder *builder, uint64_t heap_bytes);

/* Finish building: header fields that do not depend on the place in the log. */
void ph_record_builder_finish(struct ph_record_builder *builder, uint64_t version);

/* Put a finished record in its place: lsn, chain, durable, checksum. */
void ph_record_seal(uint8_t *record, const struct ph_record_place *place, uint64_t durable);

static inline uint32_t ph_record_length(const uint8_t *record)
{
    return ((const struct ph_record_header *)(const void *)record)->length;
}

/* Log bytes to set aside for a record: as if it were alone in a batch, with a block of 4096. */
static inline uint64_t ph_record_reserve(uint64_t length, uint32_t block_bytes)
{
    return (length + sizeof(struct ph_batch_header) + block_bytes - 1) & ~(uint64_t)(block_bytes - 1);
}

/* ------------------------------------------------------------------------------------------------------- checking */

enum ph_record_fault {
    PH_RECORD_GOOD = 0,
    PH_RECORD_SHORT,    /* the header or the length it gives does not fit */
    PH_RECORD_LENGTH,   /* impossible length */
    PH_RECORD_FOREIGN,  /* another heap */
    PH_RECORD_EPOCH,    /* another epoch */
    PH_RECORD_LSN,      /* another place */
    PH_RECORD_CHAIN,    /* does not follow the record before */
    PH_RECORD_CHECKSUM, /* altered */
    PH_RECORD_FORM      /* checksum good, but flags, reserved bytes or operations impossible */
};
const char *ph_record_fault_text(enum ph_record_fault fault);

/*
 * Check that `bytes` begins with a good record for `place`; `available` bytes may be read (8-byte aligned).  Looks at
 * everything but whether offsets lie in the heap, which whoever applies it checks.
 */
enum ph_record_fault ph_record_check(const uint8_t *bytes, size_t available, const struct ph_record_place *place);

/* -------------------------------------------------------------------------------------------------------- reading */

struct ph_operation {
    enum ph_operation_kind kind;
    uint64_t offset;      /* WRITE, FILL */
    uint64_t length;      /* bytes; WRITE, FILL */
    const uint8_t *bytes; /* WRITE */
    uint64_t value;       /* FILL: the word; GROW: the new size */
};

/* Operations by themselves.  How many bytes one takes that begins with `word`, 8 at least; 0 if none does. */
uint32_t ph_operation_bytes(uint64_t word);
/* Read the one that `bytes` begins with; `available` bytes may be read.  0 if there is no possible one, else the bytes it
 * takes.  Offsets are not checked against a heap. */
uint32_t ph_operation_decode(const uint8_t *bytes, uint64_t available, struct ph_operation *operation);
/* What an operation begins with, in at most 16 bytes; those of a WRITE, which follow, are not copied.  The length. */
uint32_t ph_operation_encode(const struct ph_operation *operation, uint8_t head[static 16]);

/* Read the operation at *cursor (start with sizeof(struct ph_record_header)) of a checked record and step on.
 * False at the end. */
bool ph_record_next(const uint8_t *record, uint32_t *cursor, struct ph_operation *operation);

#endif
