/* SPDX-License-Identifier: MIT */
/* Redo records: building, sealing, checking and reading them. */
#include "wal/record.h"

#include "io/checksum.h"

#include <assert.h>
#include <string.h>

#define OFFSET_BITS 44
#define KIND_BITS 4
/* A stretch of at least this many equal words is worth a FILL. */
#define FILL_WORDS_MIN 16u

static uint64_t operation_word(enum ph_operation_kind kind, uint64_t offset, uint64_t count)
{
    return offset / 8 | (uint64_t)kind << OFFSET_BITS | count << (OFFSET_BITS + KIND_BITS);
}

static uint64_t load_word(const uint8_t *bytes)
{
    uint64_t word;
    memcpy(&word, bytes, sizeof word);
    return word;
}

static void store_word(uint8_t *bytes, uint64_t word)
{
    memcpy(bytes, &word, sizeof word);
}

static enum ph_operation_kind kind_of(uint64_t word)
{
    return (enum ph_operation_kind)(word >> OFFSET_BITS & ((1u << KIND_BITS) - 1));
}

static uint64_t count_of(uint64_t word)
{
    return word >> (OFFSET_BITS + KIND_BITS);
}

static uint64_t offset_of(uint64_t word)
{
    return (word & ((UINT64_C(1) << OFFSET_BITS) - 1)) * 8;
}

/* ------------------------------------------------------------------------------------------------------- building */

void ph_record_builder_reset(struct ph_record_builder *builder)
{
    builder->length = 0;
    builder->record_start = 0;
    builder->last_write = 0;
    builder->records = 0;
}

void ph_record_builder_deinit(struct ph_record_builder *builder)
{
    if (builder->bytes != NULL)
        builder->io->free(builder->io->ctx, builder->bytes);
    builder->bytes = NULL;
    builder->capacity = 0;
    ph_record_builder_reset(builder);
}

static ph_status make_room(struct ph_record_builder *builder, size_t more)
{
    size_t need = builder->length + more;
    if (need <= builder->capacity)
        return PH_OK;
    size_t capacity = builder->capacity == 0 ? 4096 : builder->capacity;
    while (capacity < need)
        capacity *= 2;
    uint8_t *bytes = builder->io->resize(builder->io->ctx, builder->bytes, capacity);
    if (bytes == NULL)
        return ph_fail(PH_NO_MEMORY, "out of memory encoding a transaction of %zu bytes", need);
    builder->bytes = bytes;
    builder->capacity = capacity;
    return PH_OK;
}

static void close_record(struct ph_record_builder *builder)
{
    struct ph_record_header *header = (struct ph_record_header *)(void *)(builder->bytes + builder->record_start);
    header->length = (uint32_t)(builder->length - builder->record_start);
}

/* Make sure that an operation of `bytes` bytes fits the present record, else begin the next. */
static ph_status begin_operation(struct ph_record_builder *builder, size_t bytes)
{
    ph_status status = make_room(builder, bytes + sizeof(struct ph_record_header));
    if (status != PH_OK)
        return status;
    if (builder->records != 0 && builder->length + bytes - builder->record_start <= builder->record_max)
        return PH_OK;
    if (builder->records != 0)
        close_record(builder);
    builder->record_start = builder->length;
    builder->last_write = 0;
    builder->records++;
    memset(builder->bytes + builder->length, 0, sizeof(struct ph_record_header));
    builder->length += sizeof(struct ph_record_header);
    return PH_OK;
}

static void append(struct ph_record_builder *builder, const void *bytes, size_t length)
{
    memcpy(builder->bytes + builder->length, bytes, length);
    builder->length += length;
}

static void append_word(struct ph_record_builder *builder, uint64_t word)
{
    append(builder, &word, sizeof word);
}

/* Extend the last WRITE if these bytes follow it directly; true if that was possible. */
static bool extend_write(struct ph_record_builder *builder, uint64_t offset, const uint8_t *bytes, uint64_t length)
{
    if (builder->last_write == 0)
        return false;
    uint64_t word = load_word(builder->bytes + builder->last_write);
    uint64_t count = count_of(word), start = offset_of(word);
    if (start + count * 8 != offset || count + length / 8 > PH_OPERATION_COUNT_MAX ||
        builder->length + length - builder->record_start > builder->record_max)
        return false;
    if (make_room(builder, length) != PH_OK)
        return false; /* the caller meets the same shortage and reports it */
    append(builder, bytes, length);
    store_word(builder->bytes + builder->last_write, operation_word(PH_OPERATION_WRITE, start, count + length / 8));
    return true;
}

static ph_status add_plain(struct ph_record_builder *builder, uint64_t offset, const uint8_t *bytes, uint64_t length)
{
    uint64_t most = (builder->record_max - sizeof(struct ph_record_header) - 8) & ~UINT64_C(7);
    if (most > PH_OPERATION_COUNT_MAX * UINT64_C(8))
        most = PH_OPERATION_COUNT_MAX * UINT64_C(8);
    if (length <= most && extend_write(builder, offset, bytes, length))
        return PH_OK;
    while (length > 0) {
        uint64_t part = length < most ? length : most;
        ph_status status = begin_operation(builder, part + 8);
        if (status != PH_OK)
            return status;
        builder->last_write = builder->length;
        append_word(builder, operation_word(PH_OPERATION_WRITE, offset, part / 8));
        append(builder, bytes, part);
        offset += part;
        bytes += part;
        length -= part;
    }
    return PH_OK;
}

static ph_status add_fill(struct ph_record_builder *builder, uint64_t offset, uint64_t words, uint64_t value)
{
    while (words > 0) {
        uint64_t part = words < PH_FILL_COUNT_MAX ? words : PH_FILL_COUNT_MAX;
        ph_status status = begin_operation(builder, 16);
        if (status != PH_OK)
            return status;
        builder->last_write = 0;
        append_word(builder, operation_word(PH_OPERATION_FILL, offset, part));
        append_word(builder, value);
        offset += part * 8;
        words -= part;
    }
    return PH_OK;
}

/* How many words from `bytes` on equal the first. */
static uint64_t equal_words(const uint8_t *bytes, uint64_t length)
{
    uint64_t value = load_word(bytes), words = 1;
    while (words * 8 < length && load_word(bytes + words * 8) == value)
        words++;
    return words;
}

/*
 * The start of the first stretch of FILL_WORDS_MIN equal words at or after `at`, or `length`.  A stretch that starts
 * before word p and does not end before it has words p - 1 and p equal, so looking at every fifteenth pair passes none.
 */
static uint64_t find_stretch(const uint8_t *bytes, uint64_t at, uint64_t length)
{
    const uint64_t stride = (FILL_WORDS_MIN - 1) * 8;
    while (at + stride < length) {
        uint64_t p = at + stride, value = load_word(bytes + p);
        if (load_word(bytes + p - 8) != value) {
            at = p;
            continue;
        }
        uint64_t start = p;
        while (start > at && load_word(bytes + start - 8) == value)
            start -= 8;
        uint64_t words = equal_words(bytes + start, length - start);
        if (words >= FILL_WORDS_MIN)
            return start;
        at = start + words * 8;
    }
    return length;
}

ph_status ph_record_add_write(struct ph_record_builder *builder, uint64_t offset, const uint8_t *bytes, uint64_t length)
{
    assert(offset % 8 == 0 && length % 8 == 0);
    for (uint64_t plain = 0; plain < length;) {
        uint64_t start = find_stretch(bytes, plain, length);
        ph_status status = PH_OK;
        if (start > plain)
            status = add_plain(builder, offset + plain, bytes + plain, start - plain);
        if (status != PH_OK || start == length)
            return status;
        uint64_t words = equal_words(bytes + start, length - start);
        status = add_fill(builder, offset + start, words, load_word(bytes + start));
        if (status != PH_OK)
            return status;
        plain = start + words * 8;
    }
    return PH_OK;
}

ph_status ph_record_add_grow(struct ph_record_builder *builder, uint64_t heap_bytes)
{
    ph_status status = begin_operation(builder, 16);
    if (status != PH_OK)
        return status;
    builder->last_write = 0;
    append_word(builder, operation_word(PH_OPERATION_GROW, 0, 0));
    append_word(builder, heap_bytes);
    return PH_OK;
}

void ph_record_builder_finish(struct ph_record_builder *builder, uint64_t version)
{
    assert(builder->records > 0);
    close_record(builder);
    for (size_t at = 0; at < builder->length;) {
        struct ph_record_header *header = (struct ph_record_header *)(void *)(builder->bytes + at);
        header->version = version;
        header->flags =
            (uint16_t)((at == 0 ? PH_RECORD_FIRST : 0) | (at == builder->record_start ? PH_RECORD_LAST : 0));
        at += header->length;
    }
}

void ph_record_seal(uint8_t *record, const struct ph_record_place *place, uint64_t durable)
{
    struct ph_record_header *header = (struct ph_record_header *)(void *)record;
    header->lsn = place->lsn;
    header->durable = durable;
    header->chain = place->chain;
    header->heap_id = place->heap_id;
    header->epoch = place->epoch;
    header->checksum = ph_checksum(record + 8, header->length - 8);
}

/* ------------------------------------------------------------------------------------------------------- checking */

const char *ph_record_fault_text(enum ph_record_fault fault)
{
    switch (fault) {
    case PH_RECORD_GOOD:
        return "good";
    case PH_RECORD_SHORT:
        return "it is cut short";
    case PH_RECORD_LENGTH:
        return "its length is impossible";
    case PH_RECORD_FOREIGN:
        return "it belongs to another heap";
    case PH_RECORD_EPOCH:
        return "it belongs to another epoch";
    case PH_RECORD_LSN:
        return "it belongs elsewhere in the log";
    case PH_RECORD_CHAIN:
        return "it does not follow the record before it";
    case PH_RECORD_CHECKSUM:
        return "its checksum does not match";
    case PH_RECORD_FORM:
        return "its content is malformed";
    }
    return "unknown";
}

uint32_t ph_operation_bytes(uint64_t word)
{
    switch (kind_of(word)) {
    case PH_OPERATION_WRITE:
        return (uint32_t)(8 + count_of(word) * 8);
    case PH_OPERATION_FILL:
    case PH_OPERATION_GROW:
        return 16;
    }
    return 0;
}

uint32_t ph_operation_decode(const uint8_t *bytes, uint64_t available, struct ph_operation *out)
{
    if (available < 8)
        return 0;
    uint64_t word = load_word(bytes), count = count_of(word);
    uint32_t taken = ph_operation_bytes(word);
    if (taken > available)
        return 0;
    *out = (struct ph_operation){.kind = kind_of(word), .offset = offset_of(word)};
    switch (out->kind) {
    case PH_OPERATION_WRITE:
        if (count == 0)
            return 0;
        out->length = count * 8;
        out->bytes = bytes + 8;
        return taken;
    case PH_OPERATION_FILL:
        if (count == 0 || count > PH_FILL_COUNT_MAX)
            return 0;
        out->length = count * 8;
        out->value = load_word(bytes + 8);
        return taken;
    case PH_OPERATION_GROW:
        if (count != 0 || out->offset != 0)
            return 0;
        out->value = load_word(bytes + 8);
        if (out->value % PH_PAGE_BYTES != 0 || out->value == 0 || out->value > PH_HEAP_MAX_BYTES)
            return 0;
        return taken;
    }
    return 0;
}

uint32_t ph_operation_encode(const struct ph_operation *operation, uint8_t head[static 16])
{
    bool grow = operation->kind == PH_OPERATION_GROW;
    assert(operation->length % 8 == 0 && operation->length / 8 <= PH_OPERATION_COUNT_MAX);
    store_word(head, operation_word(operation->kind, grow ? 0 : operation->offset, grow ? 0 : operation->length / 8));
    if (operation->kind == PH_OPERATION_WRITE)
        return 8;
    store_word(head + 8, operation->value);
    return 16;
}

enum ph_record_fault ph_record_check(const uint8_t *bytes, size_t available, const struct ph_record_place *place)
{
    const struct ph_record_header *header = (const struct ph_record_header *)(const void *)bytes;
    if (available < sizeof *header)
        return PH_RECORD_SHORT;
    uint32_t length = header->length;
    if (length < sizeof *header + 8 || length % 8 != 0)
        return PH_RECORD_LENGTH;
    if (length > available)
        return PH_RECORD_SHORT;
    if (header->heap_id != place->heap_id)
        return PH_RECORD_FOREIGN;
    if (header->epoch != place->epoch)
        return PH_RECORD_EPOCH;
    if (header->lsn != place->lsn)
        return PH_RECORD_LSN;
    if (header->chain != place->chain)
        return PH_RECORD_CHAIN;
    if (header->checksum != ph_checksum(bytes + 8, length - 8))
        return PH_RECORD_CHECKSUM;
    if (header->reserved != 0 || (header->flags & ~(PH_RECORD_FIRST | PH_RECORD_LAST)) != 0 ||
        header->durable > header->lsn)
        return PH_RECORD_FORM;
    for (uint32_t cursor = sizeof *header; cursor < length;) {
        struct ph_operation operation;
        uint32_t taken = ph_operation_decode(bytes + cursor, length - cursor, &operation);
        if (taken == 0)
            return PH_RECORD_FORM;
        cursor += taken;
    }
    return PH_RECORD_GOOD;
}

/* -------------------------------------------------------------------------------------------------------- reading */

bool ph_record_next(const uint8_t *record, uint32_t *cursor, struct ph_operation *operation)
{
    uint32_t length = ph_record_length(record);
    if (*cursor >= length)
        return false;
    uint32_t taken = ph_operation_decode(record + *cursor, length - *cursor, operation);
    assert(taken != 0); /* ph_record_check has passed */
    *cursor += taken;
    return taken != 0;
}
