/* SPDX-License-Identifier: MIT */
/* The public interface call by call: arguments, offsets, sizes, enumeration and figures; what each refuses, and how. */
#include "tests/public.h"

static pheap *heap;

static int open_common_heap(void **state)
{
    (void)state;
    static unsigned number;
    char name[32];
    const struct pheap_options options = {.size = sizeof options,
                                          .reserve_bytes = (uint64_t)4 << 30,
                                          .log_limit_bytes = 8u << 20,
                                          .segment_bytes = 64u << 10,
                                          .buffer_bytes = 64u << 10};
    (void)snprintf(name, sizeof name, "common-%u", number++);
    return pheap_open(path_of(name, ""), PHEAP_CREATE | PHEAP_EXCLUSIVE, &options, &heap) != PHEAP_OK;
}

static int close_common_heap(void **state)
{
    (void)state;
    return pheap_close(heap) != PHEAP_OK;
}

/* ------------------------------------------------------------------------------------------------------ arguments */

/* Catches: a null pointer followed instead of refused, in any function that takes one. */
static void arguments__null_is_invalid(void **state)
{
    (void)state;
    pheap *other = NULL;
    pheap_txn *txn = NULL;
    pheap_read *reader = NULL;
    expect(PHEAP_INVALID, pheap_open(NULL, PHEAP_CREATE, NULL, &other));
    expect(PHEAP_INVALID, pheap_open(path_of("never-made", ""), PHEAP_CREATE, NULL, NULL));
    require(access(path_of("never-made", ""), F_OK) != 0);
    expect(PHEAP_INVALID, pheap_begin(NULL, &txn));
    expect(PHEAP_INVALID, pheap_begin(heap, NULL));
    expect(PHEAP_INVALID, pheap_begin_timeout(NULL, 0, &txn));
    expect(PHEAP_INVALID, pheap_begin_timeout(heap, 0, NULL));
    expect(PHEAP_INVALID, pheap_read_begin(NULL, 0, &reader));
    expect(PHEAP_INVALID, pheap_read_begin(heap, 0, NULL));
    expect(PHEAP_INVALID, pheap_sync(NULL));
    expect(PHEAP_INVALID, pheap_fold(NULL));
    expect(PHEAP_INVALID, pheap_checkpoint(NULL));
    expect(PHEAP_INVALID, pheap_maintain(NULL));
    expect(PHEAP_INVALID, pheap_get_info(heap, NULL));
    expect(PHEAP_INVALID, pheap_next_user(heap, 0, NULL));
    ok(pheap_close(NULL));
    pheap_read_end(NULL);

    txn = begin(heap);
    uint64_t offset = 0;
    ok(pheap_alloc(txn, 64, &offset));
    expect(PHEAP_INVALID, pheap_alloc(txn, 8, NULL));
    expect(PHEAP_INVALID, pheap_zalloc(txn, 8, NULL));
    expect(PHEAP_INVALID, pheap_alloc_aligned(txn, 16, 8, NULL));
    expect(PHEAP_INVALID, pheap_realloc(txn, NULL, 8));
    expect(PHEAP_INVALID, pheap_usable_size(txn, offset, NULL));
    expect(PHEAP_INVALID, pheap_savepoint(txn, NULL));
    expect(PHEAP_INVALID, pheap_write(txn, offset, NULL, 8));
    ok(pheap_write(txn, offset, NULL, 0));
    ok(pheap_edit(txn, offset, 8, NULL));
    ok(pheap_commit(txn, PHEAP_LAZY, NULL));

    uint64_t length = 0;
    const void *address = NULL;
    reader = read_begin(heap, 0);
    expect(PHEAP_INVALID, pheap_read_range(reader, offset, 8, NULL));
    expect(PHEAP_INVALID, pheap_read_usable_size(reader, offset, NULL));
    expect(PHEAP_INVALID, pheap_read_next_block(reader, 0, NULL, &length));
    expect(PHEAP_INVALID, pheap_read_next_block(reader, 0, &offset, NULL));
    expect(PHEAP_INVALID, pheap_get_space(reader, NULL, NULL, NULL));
    pheap_read_end(reader);
    expect(PHEAP_INVALID, pheap_read_range(NULL, offset, 8, &address));
    expect(PHEAP_INVALID, pheap_read_usable_size(NULL, offset, &length));
    expect(PHEAP_INVALID, pheap_read_next_block(NULL, 0, &offset, &length));
    expect(PHEAP_INVALID, pheap_get_space(NULL, &(struct pheap_space){.size = sizeof(struct pheap_space)}, NULL, NULL));
    expect(PHEAP_INVALID, pheap_get_info(NULL, &(struct pheap_info){.size = sizeof(struct pheap_info)}));
    expect(PHEAP_INVALID, pheap_next_user(NULL, 0, &(struct pheap_user){.size = sizeof(struct pheap_user)}));
    expect(PHEAP_INVALID, pheap_check(NULL, NULL, NULL, NULL));
}

/* Catches: a null transaction taken for an open one. */
static void arguments__null_transaction_is_invalid(void **state)
{
    (void)state;
    uint64_t value = 0;
    uint32_t savepoint = 0;
    expect(PHEAP_INVALID, pheap_commit(NULL, PHEAP_LAZY, NULL));
    expect(PHEAP_INVALID, pheap_abort(NULL));
    expect(PHEAP_INVALID, pheap_edit(NULL, 16384, 8, NULL));
    expect(PHEAP_INVALID, pheap_write(NULL, 16384, &value, 8));
    expect(PHEAP_INVALID, pheap_fill(NULL, 16384, 0, 8));
    expect(PHEAP_INVALID, pheap_alloc(NULL, 8, &value));
    expect(PHEAP_INVALID, pheap_zalloc(NULL, 8, &value));
    expect(PHEAP_INVALID, pheap_alloc_aligned(NULL, 16, 8, &value));
    expect(PHEAP_INVALID, pheap_realloc(NULL, &value, 8));
    require_equal(pheap_read_root(NULL), 0);
    expect(PHEAP_INVALID, pheap_free(NULL, 16384));
    expect(PHEAP_INVALID, pheap_usable_size(NULL, 16384, &value));
    expect(PHEAP_INVALID, pheap_set_root(NULL, 0));
    expect(PHEAP_INVALID, pheap_savepoint(NULL, &savepoint));
    expect(PHEAP_INVALID, pheap_rollback(NULL, 0));
    require_equal(pheap_root(NULL), 0);
}

/* Catches: options out of their range that make a heap which nobody can use, or flags of the future taken for noise. */
static void arguments__options_out_of_range(void **state)
{
    (void)state;
    const char *path = path_of("options", "");
    pheap *other = NULL;
    const struct pheap_options good = small_options();
    struct pheap_options bad[13];
    for (unsigned i = 0; i < 13; i++) {
        bad[i] = good;
    }
    bad[0].size = 0;
    bad[1].size = 4;
    bad[2].segment_bytes = 16385;
    bad[3].segment_bytes = 8192;
    bad[4].segment_bytes = 1u << 27;
    bad[5].buffer_bytes = 16u << 10 | 16;
    bad[6].buffer_bytes = 4096;
    bad[7].buffer_bytes = 1u << 31;
    bad[8].checksums = 2;
    bad[9].log_limit_bytes = 1;
    bad[10].log_limit_bytes = UINT64_MAX;
    bad[11].mode = 0xffffffff;
    bad[12].size = 4097;
    for (unsigned i = 0; i < 13; i++) {
        const enum pheap_status status = pheap_open(path, PHEAP_CREATE, &bad[i], &other);
        if (status != PHEAP_INVALID || other != NULL || access(path, F_OK) == 0) {
            check_failed(__FILE__, __LINE__, "options %u: %s", i, pheap_status_name(status));
        }
    }
    expect(PHEAP_INVALID, pheap_open(path, PHEAP_CREATE | 1u << 20, &good, &other));
    expect(PHEAP_INVALID, pheap_open(path, PHEAP_EXCLUSIVE, &good, &other));
    expect(PHEAP_INVALID, pheap_open(path, PHEAP_CREATE | PHEAP_READONLY, &good, &other));
    expect(PHEAP_INVALID, pheap_open("", PHEAP_CREATE, &good, &other));
    char far[4200];
    memset(far, 'p', sizeof far - 1);
    far[sizeof far - 1] = '\0';
    expect_detail(PHEAP_INVALID, "longer than", pheap_open(far, PHEAP_CREATE, &good, &other));
    require(other == NULL && access(path, F_OK) != 0);
}

/* Catches: a library that reads beyond the options of a program built with an older header, or refuses it. */
static void arguments__shorter_options_are_those_of_an_older_program(void **state)
{
    (void)state;
    struct pheap_options options;
    memset(&options, 0xff, sizeof options);
    options.size = offsetof(struct pheap_options, budget_bytes);
    options.reserve_bytes = 1u << 30;
    pheap *other;
    ok(pheap_open(path_of("older", ""), PHEAP_CREATE, &options, &other));
    require_equal(heap_info(other).reserve_bytes, 1u << 30);
    ok(pheap_close(other));
}

/* Catches: structures whose size was not set, and values of enumerations that do not exist. */
static void arguments__other_values_out_of_range(void **state)
{
    (void)state;
    struct pheap_info info = {.size = 0};
    struct pheap_user user = {.size = 0};
    struct pheap_space space = {.size = 0};
    pheap_read *reader = NULL;
    pheap_txn *txn = NULL;
    expect(PHEAP_INVALID, pheap_get_info(heap, &info));
    expect(PHEAP_INVALID, pheap_next_user(heap, 0, &user));
    info.size = user.size = space.size = 4097; /* nothing of that size was ever in the header */
    expect(PHEAP_INVALID, pheap_get_info(heap, &info));
    expect(PHEAP_INVALID, pheap_next_user(heap, 0, &user));
    expect(PHEAP_INVALID, pheap_begin_timeout(heap, INT64_MAX / 1000, &txn));
    expect(PHEAP_INVALID, pheap_read_begin(heap, 1u << 30, &reader));
    expect(PHEAP_INVALID, pheap_begin_timeout(heap, -1, &txn));
    require(reader == NULL && txn == NULL);
    reader = read_begin(heap, 0);
    expect(PHEAP_INVALID, pheap_get_space(reader, &space, NULL, NULL));
    space.size = 0;
    expect(PHEAP_INVALID, pheap_get_space(reader, &space, NULL, NULL));
    pheap_read_end(reader);

    txn = begin(heap);
    expect(PHEAP_INVALID, pheap_begin_timeout(heap, 0, &(pheap_txn *){NULL}));
    expect(PHEAP_INVALID, pheap_begin(heap, &(pheap_txn *){NULL}));
    expect(PHEAP_INVALID, pheap_commit(txn, (enum pheap_durability)7, NULL));
    (void)pheap_abort(txn);
    txn = begin(heap);
    ok(pheap_commit(txn, PHEAP_LAZY, NULL));
}

/* Catches: a status without a name or a text, or a number out of range used as an index. */
static void status__every_code_has_name_and_text(void **state)
{
    (void)state;
    for (int i = 0; i <= PHEAP_WRONG_TYPE; i++) {
        require(strncmp(pheap_status_name((enum pheap_status)i), "PHEAP_", 6) == 0);
        require(pheap_status_text((enum pheap_status)i)[0] != 0);
        for (int j = 0; j < i; j++) {
            require(strcmp(pheap_status_name((enum pheap_status)i), pheap_status_name((enum pheap_status)j)) != 0);
        }
    }
    const int strange[] = {-1, PHEAP_WRONG_TYPE + 1, 1000000, INT32_MAX, INT32_MIN};
    for (unsigned i = 0; i < sizeof strange / sizeof strange[0]; i++) {
        require(pheap_status_name((enum pheap_status)strange[i]) != NULL);
        require(pheap_status_text((enum pheap_status)strange[i]) != NULL);
    }
    require_equal(strlen(pheap_version_string()) >= 5, 1);
}

/* Catches: a detail that a layer above sets and that does not arrive, loses its end, or is spoilt by quoting itself. */
static void fail_with__sets_the_detail(void **state)
{
    (void)state;
    static char text[3000];
    require_equal(pheap_fail_with(PHEAP_WRONG_TYPE, "%s number %d", "fault", 7), PHEAP_WRONG_TYPE);
    require(strcmp(pheap_error_detail(), "fault number 7") == 0);
    require_equal(pheap_fail_with(PHEAP_INVALID, "outer: %s", pheap_error_detail()), PHEAP_INVALID);
    require(strcmp(pheap_error_detail(), "outer: fault number 7") == 0);
    memset(text, 'x', sizeof text - 1);
    require_equal(pheap_fail_with(PHEAP_IO, "%s the end", text), PHEAP_IO);
    require_equal(strlen(pheap_error_detail()), 1023);
    require(strcmp(pheap_error_detail() + 1023 - 8, " the end") == 0);
}

/* Catches: a size that is not that of the transaction, or stays when growth is rolled back. */
static void size__is_that_of_the_transaction(void **state)
{
    (void)state;
    uint64_t block;
    uint32_t savepoint;
    pheap_read *reader = read_begin(heap, PHEAP_FRESH);
    pheap_txn *txn = begin(heap);
    const uint64_t size = pheap_size(txn);
    require_equal(size, pheap_read_size(reader));
    (void)pheap_read_end(reader);
    ok(pheap_savepoint(txn, &savepoint));
    ok(pheap_alloc(txn, size, &block));
    require(pheap_size(txn) >= block + size);
    ok(pheap_rollback(txn, savepoint));
    require_equal(pheap_size(txn), size);
    (void)pheap_abort(txn);
    require_equal(pheap_size(txn), 0);
}

/* -------------------------------------------------------------------------------------------------------- offsets */

/* Offsets that no edit may touch, whatever the length. */
static const uint64_t bad_offsets[] = {0,
                                       1,
                                       512,
                                       4096,
                                       8191,
                                       8192,
                                       8200,
                                       (uint64_t)1 << 30,
                                       (uint64_t)1 << 46,
                                       (uint64_t)1 << 47,
                                       ((uint64_t)1 << 63) - 8,
                                       (uint64_t)1 << 63,
                                       UINT64_MAX - 15,
                                       UINT64_MAX};

/* Catches: an edit of metadata or beyond the heap, and an offset plus length that wraps around. */
static void edit__refuses_what_is_not_one_live_block(void **state)
{
    (void)state;
    pheap_txn *txn = begin(heap);
    uint64_t block;
    uint64_t usable;
    void *address = &block;
    const uint64_t word = 7;
    ok(pheap_zalloc(txn, 100, &block));
    ok(pheap_commit(txn, PHEAP_LAZY, NULL));
    txn = begin(heap);
    ok(pheap_usable_size(txn, block, &usable));
    for (size_t i = 0; i < sizeof bad_offsets / sizeof bad_offsets[0]; i++) {
        expect(PHEAP_BAD_OFFSET, pheap_edit(txn, bad_offsets[i], 8, &address));
        expect(PHEAP_BAD_OFFSET, pheap_edit(txn, bad_offsets[i], UINT64_MAX, &address));
        expect(PHEAP_BAD_OFFSET, pheap_write(txn, bad_offsets[i], &word, sizeof word));
        expect(PHEAP_BAD_OFFSET, pheap_fill(txn, bad_offsets[i], 1, 8));
    }
    const uint64_t lengths[] = {usable + 1,          usable + 4096, (uint64_t)1 << 40,
                                ((uint64_t)1 << 63), UINT64_MAX,    UINT64_MAX - block + 1};
    for (size_t i = 0; i < sizeof lengths / sizeof lengths[0]; i++) {
        expect(PHEAP_BAD_OFFSET, pheap_edit(txn, block, lengths[i], &address));
        expect(PHEAP_BAD_OFFSET, pheap_fill(txn, block, 1, lengths[i]));
    }
    expect(PHEAP_BAD_OFFSET, pheap_edit(txn, block + usable - 4, 8, &address));
    expect(PHEAP_BAD_OFFSET, pheap_edit(txn, block - 4, 8, &address));
    require(address == &block);
    ok(pheap_edit(txn, block, usable, &address));
    require(address == pheap_ptr(txn, block));
    ok(pheap_edit(txn, block + usable - 1, 1, NULL));
    ok(pheap_edit(txn, block, 0, NULL));
    ok(pheap_abort(txn));
}

/* Catches: an edit of space that is free, before and after it was a block. */
static void edit__refuses_free_space(void **state)
{
    (void)state;
    pheap_txn *txn = begin(heap);
    uint64_t small;
    uint64_t large;
    ok(pheap_alloc(txn, 200, &small));
    ok(pheap_alloc(txn, 200000, &large));
    ok(pheap_commit(txn, PHEAP_LAZY, NULL));
    txn = begin(heap);
    ok(pheap_free(txn, small));
    ok(pheap_free(txn, large));
    expect(PHEAP_BAD_OFFSET, pheap_edit(txn, small, 8, NULL));
    ok(pheap_commit(txn, PHEAP_LAZY, NULL));
    txn = begin(heap);
    expect(PHEAP_BAD_OFFSET, pheap_edit(txn, small, 8, NULL));
    expect(PHEAP_BAD_OFFSET, pheap_edit(txn, large, 8, NULL));
    expect(PHEAP_BAD_OFFSET, pheap_edit(txn, large + 100000, 8, NULL));
    ok(pheap_abort(txn));
}

/* Catches: a free that believes any number, frees the inside of a block, or frees twice. */
static void free__refuses_what_is_not_the_start_of_a_live_block(void **state)
{
    (void)state;
    pheap_txn *txn = begin(heap);
    uint64_t small;
    uint64_t neighbour;
    uint64_t large;
    ok(pheap_alloc(txn, 100, &small));
    ok(pheap_alloc(txn, 100, &neighbour));
    ok(pheap_alloc(txn, 100000, &large));
    ok(pheap_fill(txn, neighbour, 0x55, 100));
    ok(pheap_commit(txn, PHEAP_LAZY, NULL));
    const uint64_t version = heap_info(heap).version;

    txn = begin(heap);
    ok(pheap_free(txn, 0));
    for (size_t i = 1; i < sizeof bad_offsets / sizeof bad_offsets[0]; i++) {
        expect(PHEAP_BAD_OFFSET, pheap_free(txn, bad_offsets[i]));
    }
    const uint64_t inside[] = {small + 1, small + 8, small + 16, large + 16, large + 4096, large + 8192};
    for (size_t i = 0; i < sizeof inside / sizeof inside[0]; i++) {
        expect(PHEAP_BAD_OFFSET, pheap_free(txn, inside[i]));
    }
    uint64_t after;
    ok(pheap_commit(txn, PHEAP_LAZY, &after));
    require_equal(after, version);

    txn = begin(heap);
    ok(pheap_free(txn, small));
    expect(PHEAP_DOUBLE_FREE, pheap_free(txn, small));
    ok(pheap_free(txn, large));
    expect_one(ONE_OF(PHEAP_DOUBLE_FREE) | ONE_OF(PHEAP_BAD_OFFSET), pheap_free(txn, large));
    ok(pheap_commit(txn, PHEAP_LAZY, NULL));
    txn = begin(heap);
    expect(PHEAP_DOUBLE_FREE, pheap_free(txn, small));
    expect_one(ONE_OF(PHEAP_DOUBLE_FREE) | ONE_OF(PHEAP_BAD_OFFSET), pheap_free(txn, large));
    require(*(const unsigned char *)pheap_ptr(txn, neighbour) == 0x55);
    ok(pheap_commit(txn, PHEAP_LAZY, NULL));
    check_sound(heap);
}

/* Catches: a root that points into nothing, or outlives an abort. */
static void root__is_a_live_block_or_nothing(void **state)
{
    (void)state;
    pheap_txn *txn = begin(heap);
    uint64_t block;
    require_equal(pheap_root(txn), 0);
    ok(pheap_alloc(txn, 50, &block));
    for (size_t i = 1; i < sizeof bad_offsets / sizeof bad_offsets[0]; i++) {
        expect(PHEAP_BAD_OFFSET, pheap_set_root(txn, bad_offsets[i]));
    }
    expect(PHEAP_BAD_OFFSET, pheap_set_root(txn, block + 16));
    ok(pheap_set_root(txn, block));
    require_equal(pheap_root(txn), block);
    ok(pheap_commit(txn, PHEAP_LAZY, NULL));
    txn = begin(heap);
    ok(pheap_set_root(txn, 0));
    require_equal(pheap_root(txn), 0);
    ok(pheap_abort(txn));
    pheap_read *reader = read_begin(heap, PHEAP_FRESH);
    require_equal(pheap_read_root(reader), block);
    pheap_read_end(reader);
}

/* Catches: reads that trust an offset. */
static void read_range__refuses_what_is_not_one_live_block(void **state)
{
    (void)state;
    pheap_txn *txn = begin(heap);
    uint64_t block;
    uint64_t length = 99;
    const void *address = NULL;
    ok(pheap_zalloc(txn, 100, &block));
    ok(pheap_commit(txn, PHEAP_LAZY, NULL));
    pheap_read *reader = read_begin(heap, PHEAP_FRESH);
    for (size_t i = 0; i < sizeof bad_offsets / sizeof bad_offsets[0]; i++) {
        expect(PHEAP_BAD_OFFSET, pheap_read_range(reader, bad_offsets[i], 8, &address));
        expect(PHEAP_BAD_OFFSET, pheap_read_range(reader, bad_offsets[i], UINT64_MAX, &address));
        expect(PHEAP_BAD_OFFSET, pheap_read_usable_size(reader, bad_offsets[i], &length));
    }
    expect(PHEAP_BAD_OFFSET, pheap_read_range(reader, block, UINT64_MAX - block + 1, &address));
    expect(PHEAP_BAD_OFFSET, pheap_read_range(reader, block, 4096, &address));
    expect(PHEAP_BAD_OFFSET, pheap_read_usable_size(reader, block + 16, &length));
    require(address == NULL && length == 99);
    ok(pheap_read_range(reader, block + 10, 90, &address));
    require(address == pheap_read_ptr(reader, block + 10));
    ok(pheap_read_usable_size(reader, block, &length));
    require(length >= 100 && block + length <= pheap_read_size(reader));
    pheap_read_end(reader);
}

/* ------------------------------------------------------------------------------------------------------ allocation */

/* Catches: a length that overflows on its way through rounding, a failed call that changed its output or the heap. */
static void alloc__refuses_impossible_lengths(void **state)
{
    (void)state;
    const uint64_t lengths[] = {0,
                                ((uint64_t)1 << 46) + 1,
                                (uint64_t)1 << 47,
                                ((uint64_t)1 << 63) - 4096,
                                ((uint64_t)1 << 63) - 1,
                                (uint64_t)1 << 63,
                                ((uint64_t)1 << 63) + 1,
                                UINT64_MAX - 4096,
                                UINT64_MAX - 15,
                                UINT64_MAX};
    const uint64_t version = heap_info(heap).version;
    pheap_txn *txn = begin(heap);
    uint64_t block = 4711;
    uint64_t live;
    ok(pheap_alloc(txn, 64, &live));
    ok(pheap_fill(txn, live, 0x33, 64));
    const uint64_t before = live;
    for (size_t i = 0; i < sizeof lengths / sizeof lengths[0]; i++) {
        expect(PHEAP_INVALID, pheap_alloc(txn, lengths[i], &block));
        expect(PHEAP_INVALID, pheap_zalloc(txn, lengths[i], &block));
        expect(PHEAP_INVALID, pheap_alloc_aligned(txn, 64, lengths[i], &block));
        expect(PHEAP_INVALID, pheap_realloc(txn, &live, lengths[i]));
        require(block == 4711 && live == before);
    }
    /* A possible length that does not fit into this address space: the transaction goes on. */
    const uint64_t no_room = ONE_OF(PHEAP_RESERVE) | ONE_OF(PHEAP_FULL) | ONE_OF(PHEAP_NO_SPACE);
    expect_one(no_room, pheap_alloc(txn, (uint64_t)1 << 46, &block));
    expect_one(no_room, pheap_zalloc(txn, (uint64_t)1 << 40, &block));
    expect_one(no_room, pheap_realloc(txn, &live, (uint64_t)1 << 45));
    require(block == 4711 && live == before && *(const char *)pheap_ptr(txn, live) == 0x33);
    uint64_t after;
    ok(pheap_commit(txn, PHEAP_LAZY, &after));
    require_equal(after, version + 1);
    require(heap_info(heap).heap_bytes < 1u << 20);
    check_sound(heap);
}

/* Catches: an alignment that is not kept, or a wrong one that is taken. */
static void alloc_aligned__keeps_powers_of_two(void **state)
{
    (void)state;
    pheap_txn *txn = begin(heap);
    uint64_t block = 4711;
    const uint64_t bad[] = {0, 1, 8, 15, 17, 24, 48, 4095, 4097, (uint64_t)1 << 31, (uint64_t)1 << 63, UINT64_MAX};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        expect(PHEAP_INVALID, pheap_alloc_aligned(txn, bad[i], 100, &block));
    }
    require_equal(block, 4711);
    for (uint64_t alignment = 16; alignment <= 1u << 20; alignment *= 2) {
        const uint64_t lengths[] = {1, 100, alignment - 1, alignment + 1, 40000};
        for (size_t i = 0; i < sizeof lengths / sizeof lengths[0]; i++) {
            uint64_t usable;
            ok(pheap_alloc_aligned(txn, alignment, lengths[i], &block));
            require_equal(block & (alignment - 1), 0);
            ok(pheap_usable_size(txn, block, &usable));
            require(usable >= lengths[i]);
            ok(pheap_fill(txn, block, (unsigned char)i, lengths[i]));
        }
    }
    ok(pheap_commit(txn, PHEAP_LAZY, NULL));
    check_sound(heap);
}

/* Catches: rounding up by more than 12.5 % (or 16 bytes), a misaligned block, a block shorter than asked for. */
static void alloc__rounds_up_by_an_eighth_at_most(void **state)
{
    (void)state;
    pheap_txn *txn = begin(heap);
    for (uint64_t length = 1; length < 300000; length += 1 + length / 37) {
        uint64_t block;
        uint64_t usable;
        ok(pheap_alloc(txn, length, &block));
        ok(pheap_usable_size(txn, block, &usable));
        require_equal(block % 16, 0);
        const uint64_t in_sixteens = (length + 15) / 16 * 16;
        const uint64_t with_an_eighth = length + length / 8;
        if (usable < length || (usable > in_sixteens && usable > with_an_eighth)) {
            check_failed(__FILE__, __LINE__, "%llu bytes asked for, %llu given", (unsigned long long)length,
                         (unsigned long long)usable);
        }
        if (length > 32768) {
            require_equal(usable % 4096, 0);
        }
    }
    ok(pheap_abort(txn));
}

/* Catches: zeroed blocks with old bytes in them, from slots and pages that were used before. */
static void zalloc__is_zero_also_in_space_used_before(void **state)
{
    (void)state;
    const uint64_t lengths[] = {16, 100, 3000, 32768, 32769, 200000};
    const size_t count = sizeof lengths / sizeof lengths[0];
    for (unsigned round = 0; round < 3; round++) {
        uint64_t blocks[6];
        pheap_txn *txn = begin(heap);
        for (size_t i = 0; i < count; i++) {
            ok(pheap_zalloc(txn, lengths[i], &blocks[i]));
            const char *bytes = pheap_ptr(txn, blocks[i]);
            for (uint64_t j = 0; j < lengths[i]; j++) {
                require(bytes[j] == 0);
            }
            ok(pheap_fill(txn, blocks[i], 0xff, lengths[i]));
        }
        if (round == 1) {
            ok(pheap_commit(txn, PHEAP_LAZY, NULL));
            txn = begin(heap);
        }
        for (size_t i = 0; i < count; i++) {
            ok(pheap_free(txn, blocks[i]));
        }
        ok(pheap_commit(txn, PHEAP_LAZY, NULL));
    }
    check_sound(heap);
}

/* Catches: content lost or mixed when a block is resized, in place or by moving, small to large and back. */
static void realloc__keeps_the_content(void **state)
{
    (void)state;
    const uint64_t lengths[] = {1, 16, 17, 100, 90, 5000, 40000, 39999, 500000, 60000, 1000000, 33000, 20, 1};
    pheap_txn *txn = begin(heap);
    uint64_t block = 0;
    uint64_t other;
    uint64_t previous = 0;
    for (size_t i = 0; i < sizeof lengths / sizeof lengths[0]; i++) {
        uint64_t usable;
        ok(pheap_realloc(txn, &block, lengths[i]));
        ok(pheap_usable_size(txn, block, &usable));
        require(usable >= lengths[i]);
        const unsigned char *bytes = pheap_ptr(txn, block);
        for (uint64_t j = 0; j < previous && j < lengths[i]; j++) {
            require(bytes[j] == (unsigned char)(j * 7 + i - 1));
        }
        unsigned char *fresh;
        ok(pheap_edit(txn, block, lengths[i], (void **)&fresh));
        for (uint64_t j = 0; j < lengths[i]; j++) {
            fresh[j] = (unsigned char)(j * 7 + i);
        }
        previous = lengths[i];
        ok(pheap_alloc(txn, 64, &other)); /* so that growing in place is not always possible */
        if (i % 3 == 2) {
            ok(pheap_commit(txn, PHEAP_LAZY, NULL));
            txn = begin(heap);
        }
    }
    uint64_t bad = block + 8;
    expect(PHEAP_BAD_OFFSET, pheap_realloc(txn, &bad, 100));
    require_equal(bad, block + 8);
    expect(PHEAP_INVALID, pheap_realloc(txn, &block, 0));
    ok(pheap_commit(txn, PHEAP_LAZY, NULL));
    check_sound(heap);
}

/* ----------------------------------------------------------------------------------------- enumeration and figures */

/* Catches: blocks that an enumeration forgets, repeats or invents, and space figures that do not add up. */
static void enumeration__gives_exactly_the_live_blocks(void **state)
{
    (void)state;
    enum { COUNT = 600 };
    static uint64_t blocks[COUNT];
    uint64_t live = 0;
    pheap_txn *txn = begin(heap);
    for (uint64_t i = 0; i < COUNT; i++) {
        ok(pheap_alloc(txn, 1 + i * i % 50021, &blocks[i]));
    }
    ok(pheap_commit(txn, PHEAP_LAZY, NULL));
    txn = begin(heap);
    for (uint64_t i = 0; i < COUNT; i += 3) {
        ok(pheap_free(txn, blocks[i]));
        blocks[i] = 0;
    }
    ok(pheap_commit(txn, PHEAP_LAZY, NULL));

    pheap_read *reader = read_begin(heap, PHEAP_FRESH);
    uint64_t from = 0;
    uint64_t found = 0;
    uint64_t offset = 4711;
    uint64_t length = 4711;
    enum pheap_status status;
    while ((status = pheap_read_next_block(reader, from, &offset, &length)) == PHEAP_OK) {
        uint64_t usable;
        unsigned known = 0;
        require(offset >= from && length != 0);
        for (uint64_t i = 0; i < COUNT; i++) {
            known += blocks[i] == offset;
        }
        require_equal(known, 1);
        ok(pheap_read_usable_size(reader, offset, &usable));
        require_equal(usable, length);
        from = offset + length;
        live += length;
        found++;
    }
    expect(PHEAP_END, status);
    require_equal(found, COUNT - COUNT / 3);
    expect(PHEAP_END, pheap_read_next_block(reader, UINT64_MAX, &offset, &length));

    struct pheap_space space = {.size = sizeof space};
    ok(pheap_get_space(reader, &space, NULL, NULL));
    require_equal(space.live_blocks, found);
    require_equal(space.live_bytes, live);
    require_equal(space.heap_bytes, pheap_read_size(reader));
    require_equal(space.heap_bytes,
                  space.metadata_bytes + space.live_bytes + space.slab_free_bytes + space.extent_free_bytes);
    require(space.largest_free_bytes <= space.extent_free_bytes);
    ok(pheap_check(reader, print_fault, NULL, NULL));
    pheap_read_end(reader);
}

/* Catches: space that freeing loses: after everything is freed one extent is left, and the heap does not grow. */
static void free__of_everything_leaves_one_extent(void **state)
{
    (void)state;
    enum { COUNT = 400 };
    uint64_t first_size = 0;
    for (unsigned round = 0; round < 4; round++) {
        uint64_t blocks[COUNT];
        pheap_txn *txn = begin(heap);
        for (uint64_t i = 0; i < COUNT; i++) {
            ok(pheap_alloc(txn, 1 + (i * 7919 + round) % 60000, &blocks[i]));
        }
        ok(pheap_commit(txn, PHEAP_LAZY, NULL));
        const uint64_t size = heap_info(heap).heap_bytes;
        first_size = round == 0 ? size : first_size;
        require(size <= first_size + first_size / 8);
        txn = begin(heap);
        for (uint64_t i = 0; i < COUNT; i++) {
            ok(pheap_free(txn, blocks[(i * 37 + round) % COUNT]));
        }
        ok(pheap_commit(txn, PHEAP_LAZY, NULL));
        pheap_read *reader = read_begin(heap, PHEAP_FRESH);
        struct pheap_space space = {.size = sizeof space};
        ok(pheap_get_space(reader, &space, NULL, NULL));
        require_equal(space.live_blocks, 0);
        require(space.free_extents <= 1);
        require(space.slab_free_bytes == 0);
        pheap_read_end(reader);
    }
    check_sound(heap);
}

static int stop_at_once(void *context, const char *what, uint64_t done, uint64_t total)
{
    (void)what;
    (void)done;
    (void)total;
    ++*(unsigned *)context;
    return 1;
}

/* Catches: long work that cannot be stopped. */
static void check__stops_when_told(void **state)
{
    (void)state;
    pheap_txn *txn = begin(heap);
    for (unsigned i = 0; i < 20000; i++) {
        uint64_t block;
        ok(pheap_alloc(txn, 1 + i % 900, &block));
    }
    ok(pheap_commit(txn, PHEAP_LAZY, NULL));
    pheap_read *reader = read_begin(heap, PHEAP_FRESH);
    unsigned calls = 0;
    expect(PHEAP_BUSY, pheap_check(reader, NULL, stop_at_once, &calls));
    require_equal(calls, 1);
    struct pheap_space space = {.size = sizeof space};
    expect(PHEAP_BUSY, pheap_get_space(reader, &space, stop_at_once, &calls));
    require_equal(calls, 2);
    pheap_read_end(reader);
}

/* Catches: figures that are not those of this heap. */
static void info__tells_what_was_done(void **state)
{
    (void)state;
    struct pheap_info before = heap_info(heap);
    static const unsigned char none[16];
    require(memcmp(before.identity, none, 16) != 0);
    require_equal(before.version, 0);
    require_equal(before.log_limit_bytes, 8u << 20);
    require(before.poisoned == 0 && before.recovered == 0 && before.heap_bytes <= before.file_bytes);
    pheap_txn *txn = begin(heap);
    uint64_t block;
    ok(pheap_alloc(txn, 1u << 20, &block));
    ok(pheap_commit(txn, PHEAP_DURABLE, NULL));
    ok(pheap_checkpoint(heap));
    struct pheap_info after = heap_info(heap);
    require_equal(after.version, 1);
    require(after.heap_bytes >= 1u << 20 && after.heap_bytes < 2u << 20);
    require(after.file_bytes >= after.heap_bytes);
    require(after.committed_lsn > before.committed_lsn);
    require_equal(after.durable_lsn, after.committed_lsn);
    require_equal(after.folded_lsn, after.committed_lsn);
    require_equal(after.checkpoint_lsn, after.committed_lsn);
    require(after.log_bytes <= after.log_limit_bytes + 8192);
    require(after.sync_count > before.sync_count && after.log_written_bytes > before.log_written_bytes);

    struct pheap_info part;
    memset(&part, 0x77, sizeof part);
    part.size = offsetof(struct pheap_info, heap_bytes);
    ok(pheap_get_info(heap, &part));
    require_equal(part.version, 1);
    require_equal(part.heap_bytes, 0x7777777777777777u);
}

#define CASE(name) cmocka_unit_test_setup_teardown(name, open_common_heap, close_common_heap)

int main(int argc, char **argv)
{
    choose_cases(argc, argv);
    const struct CMUnitTest tests[] = {
        CASE(arguments__null_is_invalid),
        CASE(arguments__null_transaction_is_invalid),
        CASE(arguments__options_out_of_range),
        CASE(arguments__shorter_options_are_those_of_an_older_program),
        CASE(arguments__other_values_out_of_range),
        CASE(status__every_code_has_name_and_text),
        CASE(fail_with__sets_the_detail),
        CASE(size__is_that_of_the_transaction),
        CASE(edit__refuses_what_is_not_one_live_block),
        CASE(edit__refuses_free_space),
        CASE(free__refuses_what_is_not_the_start_of_a_live_block),
        CASE(root__is_a_live_block_or_nothing),
        CASE(read_range__refuses_what_is_not_one_live_block),
        CASE(alloc__refuses_impossible_lengths),
        CASE(alloc_aligned__keeps_powers_of_two),
        CASE(alloc__rounds_up_by_an_eighth_at_most),
        CASE(zalloc__is_zero_also_in_space_used_before),
        CASE(realloc__keeps_the_content),
        CASE(enumeration__gives_exactly_the_live_blocks),
        CASE(free__of_everything_leaves_one_extent),
        CASE(check__stops_when_told),
        CASE(info__tells_what_was_done),
    };
    return cmocka_run_group_tests(tests, make_test_directory, remove_test_directory);
}
