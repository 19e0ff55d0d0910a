/* SPDX-License-Identifier: MIT */
/* Redo records: that they say what was put in, in little space, and that nothing else passes for one. */
#include "io/checksum.h"
#include "tests/support/dice.h"
#include "wal/record.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define HEAP_BYTES (UINT64_C(1) << 20)
#define RECORD_MAX 4096u
#define HEADER sizeof(struct ph_record_header)

/* ---------------------------------------------------------------------------------------------------------- the rig */

static uint64_t dice;

static uint64_t roll(void)
{
    return dice_roll(&dice);
}

/* Memory that fails once, at the `fail_at`th request. */
static uint64_t requests, fail_at;

static void *rig_resize(void *ctx, void *memory, size_t length)
{
    (void)ctx;
    return ++requests == fail_at ? NULL : realloc(memory, length);
}

static void rig_free(void *ctx, void *memory)
{
    (void)ctx;
    free(memory);
}

static const ph_io rig_io = {.resize = rig_resize, .free = rig_free};

static struct ph_record_builder new_builder(uint32_t record_max)
{
    fail_at = 0;
    return (struct ph_record_builder){.io = &rig_io, .record_max = record_max};
}

static const struct ph_record_place first_place = {
    .heap_id = UINT64_C(0x1122334455667788), .epoch = 7, .lsn = 4096, .chain = UINT64_C(0xfedcba9876543210)};

static struct ph_record_header *header_of(uint8_t *record)
{
    return (struct ph_record_header *)(void *)record;
}

/* Seal every record of the builder, one behind the other from `place` on. */
static void seal_all(struct ph_record_builder *builder, struct ph_record_place place)
{
    for (size_t at = 0; at < builder->length;) {
        uint8_t *record = builder->bytes + at;
        ph_record_seal(record, &place, place.lsn);
        place.lsn += ph_record_length(record);
        place.chain = header_of(record)->checksum;
        at += ph_record_length(record);
    }
}

/* ------------------------------------------------------------------------------------------------------ round trips */

/* What a transaction was told to do, and what reading its records does. */
struct model {
    uint8_t *wanted, *got;
    uint64_t wanted_bytes, got_bytes; /* of the heap */
};

static void apply(struct model *model, const struct ph_operation *operation)
{
    if (operation->kind == PH_OPERATION_GROW) {
        model->got_bytes = operation->value;
        return;
    }
    assert_true(operation->length % 8 == 0 && operation->offset % 8 == 0);
    assert_true(operation->offset <= HEAP_BYTES && operation->length <= HEAP_BYTES - operation->offset);
    if (operation->kind == PH_OPERATION_WRITE)
        memcpy(model->got + operation->offset, operation->bytes, operation->length);
    else
        for (uint64_t at = 0; at < operation->length; at += 8)
            memcpy(model->got + operation->offset + at, &operation->value, 8);
}

/* Check the builder's records in turn and apply them; how many there are. */
static unsigned replay(struct ph_record_builder *builder, struct model *model, uint64_t version)
{
    unsigned count = 0;
    struct ph_record_place place = first_place;
    for (size_t at = 0; at < builder->length; count++) {
        uint8_t *record = builder->bytes + at;
        const struct ph_record_header *header = header_of(record);
        assert_int_equal(ph_record_check(record, builder->length - at, &place), PH_RECORD_GOOD);
        assert_true(header->length <= builder->record_max);
        assert_int_equal(header->version, version);
        bool last = at + header->length == builder->length;
        assert_int_equal(header->flags, (at == 0 ? PH_RECORD_FIRST : 0) | (last ? PH_RECORD_LAST : 0));
        uint32_t cursor = HEADER;
        struct ph_operation operation;
        while (ph_record_next(record, &cursor, &operation))
            apply(model, &operation);
        assert_int_equal(cursor, header->length);
        at += header->length;
        place.lsn += header->length;
        place.chain = header->checksum;
    }
    assert_int_equal(count, builder->records);
    return count;
}

/* Bytes of the kinds that heaps hold: noise, zeros, one word again and again, and mixtures. */
static void fill(uint8_t *bytes, uint64_t length)
{
    for (uint64_t at = 0; at < length;) {
        uint64_t kind = roll() % 3, words = 1 + roll() % (roll() % 8 == 0 ? 600 : 24), value = roll();
        for (uint64_t i = 0; i < words && at < length; i++, at += 8) {
            uint64_t word = kind == 0 ? roll() : kind == 1 ? 0 : value;
            memcpy(bytes + at, &word, 8);
        }
    }
}

static void add_random(struct ph_record_builder *builder, struct model *model, uint64_t *next)
{
    if (roll() % 10 == 0) {
        model->wanted_bytes += PH_PAGE_BYTES * (roll() % 4);
        assert_int_equal(ph_record_add_grow(builder, model->wanted_bytes), PH_OK);
        return;
    }
    uint64_t most = roll() % 6 == 0 ? 200000 : 400;
    uint64_t length = roll() % (most / 8) * 8;
    uint64_t offset = roll() % 3 == 0 ? *next : roll() % (HEAP_BYTES / 8) * 8;
    if (offset + length > HEAP_BYTES)
        offset = HEAP_BYTES - length;
    fill(model->wanted + offset, length);
    *next = offset + length;
    assert_int_equal(ph_record_add_write(builder, offset, model->wanted + offset, length), PH_OK);
}

/* Catches: bytes lost, doubled or misplaced by runs, by operations that grow together, or by the cut into records. */
static void record__says_what_was_put_in(void **state)
{
    (void)state;
    static const uint32_t sizes[] = {4096, 4104, 8192, 16384, 65536, 1u << 20};
    struct model model = {calloc(1, HEAP_BYTES), calloc(1, HEAP_BYTES), 16384, 16384};
    uint64_t fragmented = 0;
    for (uint64_t round = 1; round <= 600; round++) {
        dice = round;
        struct ph_record_builder builder = new_builder(sizes[round % 6]);
        uint64_t operations = 1 + roll() % 30, next = 0;
        for (uint64_t i = 0; i < operations; i++)
            add_random(&builder, &model, &next);
        if (builder.records > 0) {
            ph_record_builder_finish(&builder, round);
            seal_all(&builder, first_place);
            fragmented += replay(&builder, &model, round) > 1;
        }
        assert_memory_equal(model.wanted, model.got, HEAP_BYTES);
        assert_int_equal(model.wanted_bytes, model.got_bytes);
        ph_record_builder_deinit(&builder);
    }
    assert_true(fragmented > 100);
    free(model.wanted);
    free(model.got);
}

/* Catches: a builder that keeps something of the transaction before when it is used again. */
static void record__builder_starts_anew_after_reset(void **state)
{
    (void)state;
    struct ph_record_builder used = new_builder(RECORD_MAX), fresh = new_builder(RECORD_MAX);
    uint8_t bytes[20000];
    dice = 4;
    for (unsigned i = 0; i < sizeof bytes; i += 8) {
        uint64_t word = roll();
        memcpy(bytes + i, &word, 8);
    }
    assert_int_equal(ph_record_add_write(&used, 4096 + 512, bytes, sizeof bytes), PH_OK);
    ph_record_builder_finish(&used, 1);
    ph_record_builder_reset(&used);
    struct ph_record_builder *builders[] = {&used, &fresh};
    for (unsigned i = 0; i < 2; i++) {
        assert_int_equal(ph_record_add_write(builders[i], 4096 + 512 + sizeof bytes, bytes, 64), PH_OK);
        ph_record_builder_finish(builders[i], 2);
        seal_all(builders[i], first_place);
    }
    assert_int_equal(used.length, fresh.length);
    assert_memory_equal(used.bytes, fresh.bytes, fresh.length);
    ph_record_builder_deinit(&used);
    ph_record_builder_deinit(&fresh);
}

/* How many operations the builder's only record has, and the first of them. */
static unsigned operations_of(struct ph_record_builder *builder, struct ph_operation *first)
{
    assert_int_equal(builder->records, 1);
    ph_record_builder_finish(builder, 1);
    seal_all(builder, first_place);
    assert_int_equal(ph_record_check(builder->bytes, builder->length, &first_place), PH_RECORD_GOOD);
    struct ph_operation operation;
    uint32_t cursor = HEADER;
    unsigned count = 0;
    while (ph_record_next(builder->bytes, &cursor, &operation))
        if (count++ == 0)
            *first = operation;
    return count;
}

/* Catches: zeroed space logged in full, and short runs that cost more as a FILL than as they are. */
static void record__constant_runs_become_fills(void **state)
{
    (void)state;
    static uint8_t zeros[1 << 20];
    uint8_t bytes[1024];
    struct ph_operation first;
    struct ph_record_builder builder = new_builder(RECORD_MAX);
    assert_int_equal(ph_record_add_write(&builder, 8192, zeros, sizeof zeros), PH_OK);
    unsigned fills = operations_of(&builder, &first);
    assert_int_equal(fills, sizeof zeros / 8 / PH_FILL_COUNT_MAX);
    assert_int_equal(builder.length, HEADER + fills * 16);
    assert_int_equal(first.kind, PH_OPERATION_FILL);
    assert_int_equal(first.length, PH_FILL_COUNT_MAX * 8);
    assert_int_equal(first.value, 0);
    for (unsigned words = 1; words <= 40; words++) {
        memset(bytes, 0x5a, sizeof bytes);
        ph_record_builder_reset(&builder);
        assert_int_equal(ph_record_add_write(&builder, 8192, bytes, words * 8), PH_OK);
        assert_int_equal(operations_of(&builder, &first), 1);
        assert_int_equal(first.kind, words >= 16 ? PH_OPERATION_FILL : PH_OPERATION_WRITE);
        assert_int_equal(first.length, words * 8);
        assert_int_equal(builder.length, HEADER + 8 + (words >= 16 ? 8 : words * 8));
    }
    ph_record_builder_deinit(&builder);
}

/* Catches: neighbours logged apart, which would make the log of a structure's words twice as long. */
static void record__writes_that_touch_are_one(void **state)
{
    (void)state;
    struct ph_operation first;
    struct ph_record_builder builder = new_builder(1u << 20);
    uint64_t words[3] = {1, 2, 3};
    for (unsigned i = 0; i < 3; i++)
        assert_int_equal(ph_record_add_write(&builder, 8192 + 8 * i, (const uint8_t *)&words[i], 8), PH_OK);
    assert_int_equal(operations_of(&builder, &first), 1);
    assert_int_equal(first.length, 24);
    assert_memory_equal(first.bytes, words, 24);

    /* As far as a count goes. */
    uint64_t count = PH_OPERATION_COUNT_MAX + UINT64_C(5);
    uint64_t *many = malloc(count * 8);
    assert_non_null(many);
    for (uint64_t i = 0; i < count; i++)
        many[i] = i;
    ph_record_builder_reset(&builder);
    for (uint64_t i = 0; i < count; i++)
        assert_int_equal(ph_record_add_write(&builder, 8192 + 8 * i, (const uint8_t *)&many[i], 8), PH_OK);
    assert_int_equal(operations_of(&builder, &first), 2);
    assert_int_equal(first.length, PH_OPERATION_COUNT_MAX * UINT64_C(8));
    assert_int_equal(builder.length, HEADER + 16 + count * 8);
    free(many);
    ph_record_builder_deinit(&builder);
}

/* Catches: a transaction without memory for its records that is logged in part, or a builder that is broken then. */
static void record__builder_out_of_memory(void **state)
{
    (void)state;
    uint8_t bytes[50000];
    dice = 9;
    fill(bytes, sizeof bytes);
    struct ph_record_builder builder = new_builder(RECORD_MAX);
    ph_status status = PH_NO_MEMORY;
    for (uint64_t nth = 1; status != PH_OK; nth++) {
        assert_true(nth < 20);
        builder = new_builder(RECORD_MAX);
        requests = 0;
        fail_at = nth;
        status = ph_record_add_write(&builder, 8192, bytes, sizeof bytes);
        if (status == PH_OK)
            break;
        assert_int_equal(status, PH_NO_MEMORY);
        assert_non_null(strstr(ph_detail(), "out of memory"));
        fail_at = 0;
        ph_record_builder_reset(&builder);
        assert_int_equal(ph_record_add_write(&builder, 8192, bytes, sizeof bytes), PH_OK);
        ph_record_builder_deinit(&builder);
    }
    assert_true(requests > 2);
    ph_record_builder_deinit(&builder);
}

/* --------------------------------------------------------------------------------------------------------- checking */

/* A record with one of each operation, in a block of memory of exactly its length. */
static uint8_t *sample(uint32_t *length)
{
    struct ph_record_builder builder = new_builder(RECORD_MAX);
    uint64_t words[] = {0x0102030405060708, 2, 3, 5, 7};
    uint8_t ones[200];
    memset(ones, 1, sizeof ones);
    assert_int_equal(ph_record_add_write(&builder, 12288, (const uint8_t *)words, sizeof words), PH_OK);
    assert_int_equal(ph_record_add_write(&builder, 16384, ones, sizeof ones), PH_OK);
    assert_int_equal(ph_record_add_grow(&builder, 1 << 20), PH_OK);
    ph_record_builder_finish(&builder, 42);
    seal_all(&builder, first_place);
    *length = (uint32_t)builder.length;
    uint8_t *record = malloc(builder.length);
    assert_non_null(record);
    memcpy(record, builder.bytes, builder.length);
    ph_record_builder_deinit(&builder);
    return record;
}

/* Catches: a byte that no check covers: any single flipped bit must be noticed. */
static void check__every_flipped_bit(void **state)
{
    (void)state;
    uint32_t length;
    uint8_t *record = sample(&length);
    for (uint32_t bit = 0; bit < length * 8; bit++) {
        record[bit / 8] ^= (uint8_t)(1u << bit % 8);
        assert_int_not_equal(ph_record_check(record, length, &first_place), PH_RECORD_GOOD);
        record[bit / 8] ^= (uint8_t)(1u << bit % 8);
    }
    assert_int_equal(ph_record_check(record, length, &first_place), PH_RECORD_GOOD);
    free(record);
}

/* Catches: reading past the end of what there is (under the address sanitizer), and a record cut short taken whole. */
static void check__truncated_at_every_byte(void **state)
{
    (void)state;
    uint32_t length;
    uint8_t *record = sample(&length);
    for (uint32_t available = 0; available < length; available++) {
        uint8_t *part = malloc(available == 0 ? 1 : available);
        assert_non_null(part);
        memcpy(part, record, available);
        assert_int_equal(ph_record_check(part, available, &first_place), PH_RECORD_SHORT);
        free(part);
    }
    assert_int_equal(ph_record_check(record, length + 8, &first_place), PH_RECORD_GOOD); /* more may follow */
    free(record);
}

/* Catches: torn writes: sectors of a record that are still zero, or still hold something else. */
static void check__torn_at_every_sector_and_word(void **state)
{
    (void)state;
    struct ph_record_builder builder = new_builder(RECORD_MAX);
    uint8_t bytes[3000];
    dice = 11;
    for (unsigned i = 0; i < sizeof bytes; i += 8) {
        uint64_t word = roll();
        memcpy(bytes + i, &word, 8);
    }
    assert_int_equal(ph_record_add_write(&builder, 8192, bytes, sizeof bytes), PH_OK);
    ph_record_builder_finish(&builder, 1);
    seal_all(&builder, first_place);
    uint8_t *torn = malloc(builder.length);
    assert_non_null(torn);
    for (unsigned garbage = 0; garbage < 3; garbage++)
        for (size_t piece = 8; piece <= 512; piece *= 8)
            for (size_t at = 0; at < builder.length; at += piece) {
                size_t count = builder.length - at < piece ? builder.length - at : piece;
                memcpy(torn, builder.bytes, builder.length);
                memset(torn + at, garbage == 2 ? 0xff : 0, count);
                if (garbage == 1)
                    memset(torn + at, 0, builder.length - at);
                if (memcmp(torn, builder.bytes, builder.length) != 0)
                    assert_int_not_equal(ph_record_check(torn, builder.length, &first_place), PH_RECORD_GOOD);
            }
    free(torn);
    ph_record_builder_deinit(&builder);
}

enum seal { KEEP, RESEAL };

/* Overwrite `width` bytes at `at`, seal again or not, and expect that fault. */
static void damage(size_t at, uint64_t value, size_t width, enum seal seal, enum ph_record_fault fault)
{
    uint32_t length;
    uint8_t *record = sample(&length);
    memcpy(record + at, &value, width);
    if (seal == RESEAL)
        header_of(record)->checksum = ph_checksum(record + 8, length - 8);
    assert_string_equal(ph_record_fault_text(ph_record_check(record, length, &first_place)),
                        ph_record_fault_text(fault));
    free(record);
}

/* Catches: a field of the header that is not compared, or a fault told as another one. */
static void check__every_field_of_the_header(void **state)
{
    (void)state;
    uint32_t length;
    free(sample(&length));
    damage(0, 0, 8, KEEP, PH_RECORD_CHECKSUM);
    static const uint32_t impossible[] = {0, 8, 63, 64, 65, 71, 73, 100};
    for (size_t i = 0; i < sizeof impossible / sizeof impossible[0]; i++)
        damage(8, impossible[i], 4, KEEP, PH_RECORD_LENGTH);
    damage(8, length + 8, 4, KEEP, PH_RECORD_SHORT);
    damage(8, UINT32_MAX - 7, 4, KEEP, PH_RECORD_SHORT);
    damage(8, length - 8, 4, KEEP, PH_RECORD_CHECKSUM);
    for (unsigned bit = 0; bit < 16; bit++) {
        bool known = (1u << bit & (PH_RECORD_FIRST | PH_RECORD_LAST)) != 0;
        damage(12, (PH_RECORD_FIRST | PH_RECORD_LAST) ^ 1u << bit, 2, RESEAL, known ? PH_RECORD_GOOD : PH_RECORD_FORM);
        damage(14, 1u << bit, 2, RESEAL, PH_RECORD_FORM);
    }
    damage(16, first_place.lsn + 8, 8, RESEAL, PH_RECORD_LSN);
    damage(16, 0, 8, RESEAL, PH_RECORD_LSN);
    damage(24, first_place.lsn + 1, 8, RESEAL, PH_RECORD_FORM); /* durable beyond itself */
    damage(24, UINT64_MAX, 8, RESEAL, PH_RECORD_FORM);
    damage(24, 0, 8, RESEAL, PH_RECORD_GOOD);
    damage(32, first_place.chain + 1, 8, RESEAL, PH_RECORD_CHAIN);
    damage(40, first_place.heap_id + 1, 8, RESEAL, PH_RECORD_FOREIGN);
    damage(48, first_place.epoch + 1, 8, RESEAL, PH_RECORD_EPOCH);
    damage(48, first_place.epoch - 1, 8, RESEAL, PH_RECORD_EPOCH);
    damage(56, 43, 8, KEEP, PH_RECORD_CHECKSUM);
}

static uint64_t word(uint64_t offset, uint64_t kind, uint64_t count)
{
    return offset / 8 | kind << 44 | count << 48;
}

/* Check a record whose operations are these words. */
static enum ph_record_fault check_words(const uint64_t *words, size_t count)
{
    uint32_t length = (uint32_t)(HEADER + count * 8);
    uint8_t *record = calloc(1, length);
    assert_non_null(record);
    header_of(record)->length = length;
    header_of(record)->flags = PH_RECORD_FIRST | PH_RECORD_LAST;
    if (count > 0)
        memcpy(record + HEADER, words, count * 8);
    ph_record_seal(record, &first_place, 0);
    enum ph_record_fault fault = ph_record_check(record, length, &first_place);
    free(record);
    return fault;
}
#define CHECK_WORDS(...) \
    check_words((const uint64_t[]){__VA_ARGS__}, sizeof((const uint64_t[]){__VA_ARGS__}) / sizeof(uint64_t))

/* Catches: operations with a good checksum and impossible content let through to replay (R8). */
static void check__every_field_of_operations(void **state)
{
    (void)state;
    enum { WRITE = PH_OPERATION_WRITE, FILL = PH_OPERATION_FILL, GROW = PH_OPERATION_GROW };
    assert_int_equal(check_words(NULL, 0), PH_RECORD_LENGTH);
    assert_int_equal(CHECK_WORDS(word(8192, WRITE, 2), 1, 2), PH_RECORD_GOOD);
    assert_int_equal(CHECK_WORDS(word(8192, WRITE, 0)), PH_RECORD_FORM);
    assert_int_equal(CHECK_WORDS(word(8192, WRITE, 0), 1), PH_RECORD_FORM);
    assert_int_equal(CHECK_WORDS(word(8192, WRITE, 3), 1, 2), PH_RECORD_FORM);
    assert_int_equal(CHECK_WORDS(word(8192, WRITE, 65535), 1, 2), PH_RECORD_FORM);
    assert_int_equal(CHECK_WORDS(word(8192, WRITE, 1), 1, 0), PH_RECORD_FORM); /* then an operation of kind 0 */
    for (uint64_t kind = 0; kind < 16; kind++)
        if (kind < WRITE || kind > GROW)
            assert_int_equal(CHECK_WORDS(word(8192, kind, 1), 4096), PH_RECORD_FORM);
    assert_int_equal(CHECK_WORDS(word(8192, FILL, 1), 1), PH_RECORD_GOOD);
    assert_int_equal(CHECK_WORDS(word(8192, FILL, PH_FILL_COUNT_MAX), 1), PH_RECORD_GOOD);
    assert_int_equal(CHECK_WORDS(word(8192, FILL, PH_FILL_COUNT_MAX + 1), 1), PH_RECORD_FORM);
    assert_int_equal(CHECK_WORDS(word(8192, FILL, 65535), 1), PH_RECORD_FORM);
    assert_int_equal(CHECK_WORDS(word(8192, FILL, 0), 1), PH_RECORD_FORM);
    assert_int_equal(CHECK_WORDS(word(8192, FILL, 1)), PH_RECORD_FORM);
    assert_int_equal(CHECK_WORDS(word(0, GROW, 0), 4096), PH_RECORD_GOOD);
    assert_int_equal(CHECK_WORDS(word(0, GROW, 0), PH_HEAP_MAX_BYTES), PH_RECORD_GOOD);
    assert_int_equal(CHECK_WORDS(word(0, GROW, 0), PH_HEAP_MAX_BYTES + 4096), PH_RECORD_FORM);
    assert_int_equal(CHECK_WORDS(word(0, GROW, 0), 0), PH_RECORD_FORM);
    assert_int_equal(CHECK_WORDS(word(0, GROW, 0), 4097), PH_RECORD_FORM);
    assert_int_equal(CHECK_WORDS(word(0, GROW, 0), UINT64_MAX - 4095), PH_RECORD_FORM);
    assert_int_equal(CHECK_WORDS(word(0, GROW, 0)), PH_RECORD_FORM);
    assert_int_equal(CHECK_WORDS(word(0, GROW, 1), 4096), PH_RECORD_FORM);
    assert_int_equal(CHECK_WORDS(word(8, GROW, 0), 4096), PH_RECORD_FORM);
    assert_int_equal(CHECK_WORDS(word(8192, WRITE, 1), 1, word(0, GROW, 0), 4096, word(8192, FILL, 9), 3),
                     PH_RECORD_GOOD);
}

/* Catches: an operation that reaches its limits decoded as something smaller. */
static void read__operations_at_their_limits(void **state)
{
    (void)state;
    uint64_t words[] = {word(PH_HEAP_MAX_BYTES - 8, PH_OPERATION_FILL, PH_FILL_COUNT_MAX), UINT64_MAX};
    uint8_t record[HEADER + sizeof words];
    memset(record, 0, sizeof record);
    header_of(record)->length = sizeof record;
    memcpy(record + HEADER, words, sizeof words);
    ph_record_seal(record, &first_place, 0);
    struct ph_operation operation;
    uint32_t cursor = HEADER;
    assert_int_equal(ph_record_check(record, sizeof record, &first_place), PH_RECORD_GOOD);
    assert_true(ph_record_next(record, &cursor, &operation));
    assert_int_equal(operation.offset, PH_HEAP_MAX_BYTES - 8);
    assert_int_equal(operation.length, PH_FILL_COUNT_MAX * UINT64_C(8));
    assert_int_equal(operation.value, UINT64_MAX);
    assert_false(ph_record_next(record, &cursor, &operation));
}

/* Catches: log space set aside that a batch of one record does not fit in, or that wastes a block for each record. */
static void reserve__is_what_a_batch_of_one_takes(void **state)
{
    (void)state;
    for (uint32_t block = 512; block <= 4096; block *= 8)
        for (uint64_t length = 72; length < 20000; length += 8) {
            uint64_t reserve = ph_record_reserve(length, block), needed = length + sizeof(struct ph_batch_header);
            assert_true(reserve % block == 0 && reserve >= needed && reserve - needed < block);
        }
}

int main(int argc, char **argv)
{
    if (argc > 1)
        cmocka_set_test_filter(argv[1]);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(record__says_what_was_put_in),       cmocka_unit_test(record__builder_starts_anew_after_reset),
        cmocka_unit_test(record__constant_runs_become_fills), cmocka_unit_test(record__writes_that_touch_are_one),
        cmocka_unit_test(record__builder_out_of_memory),      cmocka_unit_test(check__every_flipped_bit),
        cmocka_unit_test(check__truncated_at_every_byte),     cmocka_unit_test(check__torn_at_every_sector_and_word),
        cmocka_unit_test(check__every_field_of_the_header),   cmocka_unit_test(check__every_field_of_operations),
        cmocka_unit_test(read__operations_at_their_limits),   cmocka_unit_test(reserve__is_what_a_batch_of_one_takes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
