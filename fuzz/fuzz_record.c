/* SPDX-License-Identifier: MIT */
/*
 * Checks a record of any content.
 *
 *   F1  checking and reading stay within the bytes that may be read
 *   F2  what is accepted has operations that lie within it and whose limits hold, and they end where it ends
 *   F3  a record for another place is never accepted
 *   F4  what the operations of an accepted record do, the encoder can put into records again, which are accepted and
 *       do the same
 *
 * Input: one byte, how the place differs from that which the record claims; then the record.
 */
#include "fuzz/reseal.h"
#include "wal/record.h"

#include <stdlib.h>
#include <string.h>

#define EFFECTS_MAX 300000u /* words; records that change more are not encoded again */
#define RECORD_MAX 65536u

/* What operations do, word by word in their order. */
struct effects {
    uint64_t *words; /* offset and value by turns */
    size_t count;
};

static struct ph_record_place claimed_place(const uint8_t *record)
{
    struct ph_record_header header;
    memcpy(&header, record, sizeof header);
    return (struct ph_record_place){header.heap_id, header.epoch, header.lsn, header.chain};
}

static void check_bounds(const uint8_t *record, const struct ph_operation *operation, size_t length)
{
    switch (operation->kind) {
    case PH_OPERATION_WRITE:
        FUZZ_REQUIRE(operation->bytes > record && operation->length <= length &&
                     (size_t)(operation->bytes - record) <= length - operation->length);
        break;
    case PH_OPERATION_FILL:
        FUZZ_REQUIRE(operation->length <= PH_FILL_COUNT_MAX * UINT64_C(8));
        break;
    case PH_OPERATION_GROW:
        FUZZ_REQUIRE(operation->value > 0 && operation->value <= PH_HEAP_MAX_BYTES &&
                     operation->value % PH_PAGE_BYTES == 0);
        return;
    }
    FUZZ_REQUIRE(operation->length > 0 && operation->length % 8 == 0 && operation->offset % 8 == 0);
    FUZZ_REQUIRE(operation->offset < PH_HEAP_MAX_BYTES);
}

/* Sum of the words that a record's operations change, after checking them (F2). */
static uint64_t check_operations(const uint8_t *record)
{
    struct ph_operation operation;
    uint32_t cursor = sizeof(struct ph_record_header), before = cursor;
    uint64_t words = 0;
    while (ph_record_next(record, &cursor, &operation)) {
        FUZZ_REQUIRE(cursor > before && cursor <= ph_record_length(record));
        check_bounds(record, &operation, ph_record_length(record));
        words += operation.kind == PH_OPERATION_GROW ? 1 : operation.length / 8;
        before = cursor;
    }
    FUZZ_REQUIRE(cursor == ph_record_length(record));
    return words;
}

static void add_effects(struct effects *effects, const uint8_t *record)
{
    struct ph_operation operation;
    uint32_t cursor = sizeof(struct ph_record_header);
    while (ph_record_next(record, &cursor, &operation)) {
        uint64_t count = operation.kind == PH_OPERATION_GROW ? 1 : operation.length / 8;
        FUZZ_REQUIRE(effects->count + count <= EFFECTS_MAX);
        for (uint64_t i = 0; i < count; i++) {
            uint64_t *word = &effects->words[2 * effects->count++];
            word[0] = operation.kind == PH_OPERATION_GROW ? UINT64_MAX : operation.offset + 8 * i;
            word[1] = operation.value;
            if (operation.kind == PH_OPERATION_WRITE)
                memcpy(&word[1], operation.bytes + 8 * i, 8);
        }
    }
}

static void encode(struct ph_record_builder *builder, const uint8_t *record)
{
    struct ph_operation operation;
    uint32_t cursor = sizeof(struct ph_record_header);
    uint64_t filled[PH_FILL_COUNT_MAX];
    while (ph_record_next(record, &cursor, &operation)) {
        const uint8_t *bytes = operation.bytes;
        if (operation.kind == PH_OPERATION_FILL) {
            for (uint64_t i = 0; i < operation.length / 8; i++)
                filled[i] = operation.value;
            bytes = (const uint8_t *)filled;
        }
        ph_status status = operation.kind == PH_OPERATION_GROW
                               ? ph_record_add_grow(builder, operation.value)
                               : ph_record_add_write(builder, operation.offset, bytes, operation.length);
        FUZZ_REQUIRE(status == PH_OK);
    }
}

static void check_encoding(const uint8_t *record, uint32_t record_max)
{
    static uint64_t words[2][2 * EFFECTS_MAX];
    struct effects effects[2] = {{words[0], 0}, {words[1], 0}};
    struct ph_record_place place = claimed_place(record);
    struct ph_record_builder builder = {.io = ph_io_posix(), .record_max = record_max};
    add_effects(&effects[0], record);
    encode(&builder, record);
    ph_record_builder_finish(&builder, 1);
    for (size_t at = 0; at < builder.length; at += ph_record_length(builder.bytes + at)) {
        uint8_t *encoded = builder.bytes + at;
        uint32_t length = ph_record_length(encoded);
        FUZZ_REQUIRE(length <= record_max);
        ph_record_seal(encoded, &place, 0);
        FUZZ_REQUIRE(ph_record_check(encoded, length, &place) == PH_RECORD_GOOD);
        (void)check_operations(encoded);
        add_effects(&effects[1], encoded);
        place.lsn += length;
        place.chain = ((const struct ph_record_header *)(const void *)encoded)->checksum;
    }
    FUZZ_REQUIRE(effects[0].count == effects[1].count &&
                 memcmp(effects[0].words, effects[1].words, 2 * sizeof(uint64_t) * effects[0].count) == 0);
    ph_record_builder_deinit(&builder);
}

static void check_record(const uint8_t *record, size_t size, uint8_t how)
{
    struct ph_record_place place = {0};
    if (size >= sizeof(struct ph_record_header))
        place = claimed_place(record);
    enum ph_record_fault fault = ph_record_check(record, size, &place);
    FUZZ_REQUIRE(ph_record_fault_text(fault) != NULL);
    if (fault != PH_RECORD_GOOD)
        return;
    FUZZ_REQUIRE(ph_record_length(record) <= size);
    uint64_t words = check_operations(record);
    if (words <= EFFECTS_MAX)
        check_encoding(record, how % 2 == 0 ? RECORD_MAX : 4096);
    uint64_t *fields[] = {&place.heap_id, &place.epoch, &place.lsn, &place.chain};
    *fields[how / 2 % 4] ^= UINT64_C(1) << how / 8;
    FUZZ_REQUIRE(ph_record_check(record, size, &place) != PH_RECORD_GOOD); /* F3 */
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size == 0 || size > FUZZ_INPUT_MAX)
        return -1;
    /* Memory of exactly that size, so that a sanitizer sees what reads past its end. */
    uint8_t *record = fuzz_memory(NULL, size - 1);
    if (size > 1)
        memcpy(record, data + 1, size - 1);
    fuzz_time_begin();
    check_record(record, size - 1, data[0]);
    fuzz_time_end();
    free(record);
    return 0;
}

size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t most, unsigned seed)
{
    return fuzz_mutate_record(data, size, most, seed);
}

size_t LLVMFuzzerCustomCrossOver(const uint8_t *one, size_t one_size, const uint8_t *other, size_t other_size,
                                 uint8_t *out, size_t most, unsigned seed)
{
    (void)other;
    (void)other_size;
    (void)seed;
    size_t size = one_size < most ? one_size : most;
    memcpy(out, one, size);
    return size;
}
