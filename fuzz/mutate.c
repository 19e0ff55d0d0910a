/* SPDX-License-Identifier: MIT */
/*
 * The mutators: an input is taken apart, some of what it means is changed, most often checksums are made right, and it
 * is put together again.
 */
#include "fuzz/reseal.h"

#include "io/disk.h"
#include "io/disk_alloc.h"
#include "pheap/extent.h"
#include "pheap/sizeclass.h"
#include "tests/support/dice.h"

#include <stdlib.h>
#include <string.h>

#define CHANGES_MAX 4
#define BATCHES_MAX 256u
#define OPERATIONS_MAX 12u
#define SCRIPT_MAX 600u
#define RING_MAX 16384u

static uint64_t below(uint64_t *dice, uint64_t limit)
{
    return limit == 0 ? 0 : dice_roll(dice) % limit;
}

/* --------------------------------------------------------------------------------------------------- evil values */

static const uint64_t limits[] = {
    0,
    1,
    PH_FIRST_PAGE,
    255,
    256,
    PH_PAGE_BYTES,
    8192,
    65535,
    65536,
    UINT64_C(1) << 20,
    UINT64_C(1) << 31,
    UINT64_C(1) << 32,
    PH_PAGE_LIMIT,
    UINT64_C(1) << 36,
    UINT64_C(1) << 40,
    UINT64_C(1) << 44,
    PH_HEAP_MAX_BYTES,
    UINT64_C(1) << 48,
    UINT64_C(1) << 62,
    UINT64_C(1) << 63,
    UINT64_MAX,
};

uint64_t fuzz_evil(uint64_t *dice, const struct fuzz_image *heap, uint64_t old)
{
    uint64_t header = (uint64_t)PH_HEADER_PAGE * PH_PAGE_BYTES, pages = heap->sectors / 8;
    switch (below(dice, 10)) {
    case 0:
        return limits[below(dice, sizeof limits / sizeof limits[0])] + below(dice, 5) - 2;
    case 1:
        return old + below(dice, 17) - 8;
    case 2:
        return old ^ UINT64_C(1) << below(dice, 64);
    case 3:
        return below(dice, pages + 2);
    case 4:
        return below(dice, pages + 2) * PH_PAGE_BYTES + below(dice, 3) * 16;
    case 5:
        return fuzz_image_get(heap, header + 8 * below(dice, 512)) + below(dice, 3) - 1;
    case 6:
        return dice_roll(dice);
    case 7:
        return dice_roll(dice) >> below(dice, 64);
    case 8:
        return below(dice, 20);
    default: {
        uint64_t value = old;
        (void)LLVMFuzzerMutate((uint8_t *)&value, sizeof value, sizeof value);
        return value;
    }
    }
}

static void change_word(uint64_t *dice, struct fuzz_image *image, const struct fuzz_image *heap, uint64_t offset)
{
    fuzz_image_put(image, offset, fuzz_evil(dice, heap, fuzz_image_get(image, offset)));
}

/* ------------------------------------------------------------------------------------------------------- the heap */

static uint64_t field(uint64_t *dice, const size_t *fields, size_t count)
{
    return fields[below(dice, count)];
}

static void change_superblock(uint64_t *dice, struct fuzz_input *input)
{
    static const size_t fields[] = {8, 16, 24, 48, 56, 64, 72, 80, 88, 96, 104, 112, 120, 128, 136, 144};
    uint64_t copy = PH_SUPERBLOCK_OFFSET(below(dice, 2));
    uint64_t at = copy + field(dice, fields, sizeof fields / sizeof fields[0]);
    if (below(dice, 4) == 0) /* a log limit or parameter that is a power of two */
        fuzz_image_put(&input->heap, copy + 128, UINT64_C(1) << (14 + below(dice, 4)) | (UINT64_C(16384) << 32));
    else
        change_word(dice, &input->heap, &input->heap, at);
}

static void change_heap_header(uint64_t *dice, struct fuzz_input *input)
{
    uint64_t header = (uint64_t)PH_HEADER_PAGE * PH_PAGE_BYTES, at, end;
    switch (below(dice, 7)) {
    case 0:
        at = 8 * below(dice, 8);
        break;
    case 1:
        at = offsetof(struct ph_disk_heap, table) + 8 * below(dice, below(dice, 2) == 0 ? 3 : PH_TABLES);
        break;
    case 2:
        at = offsetof(struct ph_disk_heap, free_bits) + 8 * below(dice, PH_FREE_WORDS);
        break;
    case 3:
        at = offsetof(struct ph_disk_heap, partial) + 8 * below(dice, PH_CLASSES);
        break;
    case 4:
        at = offsetof(struct ph_disk_heap, free_head) + 8 * below(dice, below(dice, 2) == 0 ? 40 : PH_FREE_LISTS);
        break;
    case 5: /* no room behind the tail, and perhaps a table segment that just does not fit before it */
        end = fuzz_image_get(&input->heap, header + offsetof(struct ph_disk_heap, end_page));
        fuzz_image_put(&input->heap, header + offsetof(struct ph_disk_heap, tail_page), end);
        if (below(dice, 2) == 0)
            fuzz_image_put(&input->heap, header + offsetof(struct ph_disk_heap, table) + 8 * below(dice, 8),
                           end - 1 - below(dice, 4));
        return;
    default: { /* a list with its bit */
        uint64_t list = below(dice, 64);
        fuzz_image_put(&input->heap, header + offsetof(struct ph_disk_heap, free_bits) + list / 64 * 8,
                       UINT64_C(1) << (list % 64));
        at = offsetof(struct ph_disk_heap, free_head) + 8 * list;
        break;
    }
    }
    change_word(dice, &input->heap, &input->heap, header + at);
}

/* Where the descriptor of `page` stands if the table is as it says. */
static uint64_t descriptor(const struct fuzz_image *heap, uint64_t page)
{
    unsigned k = 0;
    uint64_t first = 0;
    while (k + 1 < PH_TABLES && page >= (uint64_t)PH_TABLE_UNIT << k) {
        first = (uint64_t)PH_TABLE_UNIT << k;
        k++;
    }
    uint64_t table = fuzz_image_get(heap, (uint64_t)PH_HEADER_PAGE * PH_PAGE_BYTES +
                                              offsetof(struct ph_disk_heap, table) + 8 * (uint64_t)k);
    table += k >= PH_TABLE_MAPPED ? 1 : 0;
    return table * PH_PAGE_BYTES + (page - first) * sizeof(struct ph_disk_page);
}

static void change_descriptor(uint64_t *dice, struct fuzz_input *input)
{
    struct fuzz_image *heap = &input->heap;
    uint64_t pages = heap->sectors / 8, page = below(dice, pages + 1), at = descriptor(heap, page);
    uint64_t word0 = fuzz_image_get(heap, at), word1 = fuzz_image_get(heap, at + 8);
    switch (below(dice, 5)) {
    case 0: /* any state and value */
        word0 = below(dice, 8) | (fuzz_evil(dice, heap, word0 >> 4) & ((UINT64_C(1) << 36) - 1)) << 4 |
                below(dice, PH_CLASSES + 2) << 40;
        break;
    case 1: /* a large block or free extent that may reach over others */
        word0 = (below(dice, 2) == 0 ? PH_PAGE_LARGE : PH_PAGE_FREE) | below(dice, pages + 4) << 4;
        word1 = below(dice, 3) == 0 ? below(dice, pages + 1) : word1;
        break;
    case 2:
        word0 = fuzz_evil(dice, heap, word0);
        break;
    case 3:
        word1 = fuzz_evil(dice, heap, word1);
        break;
    default: { /* as some other page */
        uint64_t other = descriptor(heap, below(dice, pages + 1));
        word0 = fuzz_image_get(heap, other);
        word1 = fuzz_image_get(heap, other + 8);
        break;
    }
    }
    fuzz_image_put(heap, at, word0);
    fuzz_image_put(heap, at + 8, word1);
}

static void put_descriptor(struct fuzz_image *heap, uint64_t page, uint64_t word0, uint64_t word1)
{
    uint64_t at = descriptor(heap, page);
    fuzz_image_put(heap, at, word0);
    fuzz_image_put(heap, at + 8, word1);
}

/* A page somewhere, often near the tail or the end of the heap. */
static uint64_t some_page(uint64_t *dice, const struct fuzz_image *heap)
{
    uint64_t header = (uint64_t)PH_HEADER_PAGE * PH_PAGE_BYTES, near = heap->sectors / 8;
    if (below(dice, 2) == 0)
        return PH_FIRST_PAGE + below(dice, heap->sectors / 8);
    if (below(dice, 2) == 0)
        near = fuzz_image_get(heap, header + offsetof(struct ph_disk_heap, tail_page));
    return near - below(dice, 40);
}

/* A free extent that every check of its links finds right, wherever it lies and however far it reaches. */
static void plant_extent(uint64_t *dice, struct fuzz_input *input)
{
    struct fuzz_image *heap = &input->heap;
    uint64_t header = (uint64_t)PH_HEADER_PAGE * PH_PAGE_BYTES, page = some_page(dice, heap);
    uint64_t pages = 1 + below(dice, below(dice, 4) == 0 ? 400 : 40);
    unsigned list = ph_free_list(pages);
    uint64_t bits = header + offsetof(struct ph_disk_heap, free_bits) + list / 64 * 8;
    put_descriptor(heap, page, PH_PAGE_FREE | pages << 4, 0);
    if (pages > 1)
        put_descriptor(heap, page + pages - 1, PH_PAGE_LAST | pages << 4, 0);
    fuzz_image_put(heap, header + offsetof(struct ph_disk_heap, free_head) + 8 * (uint64_t)list, page);
    fuzz_image_put(heap, bits, fuzz_image_get(heap, bits) | UINT64_C(1) << (list % 64));
}

/* The same of a slab, with some of its slots free. */
static void plant_slab(uint64_t *dice, struct fuzz_input *input)
{
    struct fuzz_image *heap = &input->heap;
    uint64_t header = (uint64_t)PH_HEADER_PAGE * PH_PAGE_BYTES, page = some_page(dice, heap);
    unsigned class = (unsigned)below(dice, PH_CLASSES);
    uint64_t at = page * PH_PAGE_BYTES;
    fuzz_image_put(heap, at, page | (uint64_t) class << 36 | (uint64_t)PH_SLAB_MAGIC << 44);
    fuzz_image_put(heap, at + offsetof(struct ph_disk_slab, prev_page), page);
    fuzz_image_put(heap, at + offsetof(struct ph_disk_slab, next_page), page);
    for (unsigned word = 0; word < ph_class_words(&ph_classes[class]); word++)
        fuzz_image_put(heap, at + offsetof(struct ph_disk_slab, bitmap) + 8 * (uint64_t)word,
                       ph_class_mask(&ph_classes[class], word) & (below(dice, 2) == 0 ? UINT64_MAX : dice_roll(dice)));
    for (unsigned i = 0; i < ph_classes[class].pages; i++)
        put_descriptor(heap, page + i, PH_PAGE_SLAB | (uint64_t)i << 4 | (uint64_t) class << 40, 0);
    fuzz_image_put(heap, header + offsetof(struct ph_disk_heap, partial) + 8 * (uint64_t) class, page);
    if (below(dice, 4) == 0)
        fuzz_image_put(heap, header + offsetof(struct ph_disk_heap, spare_page), page);
}

static void change_slab(uint64_t *dice, struct fuzz_input *input)
{
    struct fuzz_image *heap = &input->heap;
    uint64_t page = below(dice, heap->sectors / 8 + UINT64_C(1)), at = page * PH_PAGE_BYTES;
    if (below(dice, 2) == 0) { /* a header where perhaps none was */
        uint64_t class = below(dice, PH_CLASSES);
        fuzz_image_put(heap, at, page | class << 36 | (uint64_t)PH_SLAB_MAGIC << 44);
        fuzz_image_put(heap, descriptor(heap, page), PH_PAGE_SLAB | class << 40);
        if (below(dice, 2) == 0)
            fuzz_image_put(
                heap, (uint64_t)PH_HEADER_PAGE * PH_PAGE_BYTES + offsetof(struct ph_disk_heap, partial) + 8 * class,
                page);
    }
    change_word(dice, heap, heap, at + 8 * below(dice, 3 + PH_SLAB_WORDS));
}

/* What is behind the superblocks. */
static void change_interior(uint64_t *dice, struct fuzz_input *input)
{
    struct fuzz_image *heap = &input->heap;
    switch (2 + below(dice, 18)) {
    case 2:
    case 3:
    case 4:
        change_heap_header(dice, input);
        break;
    case 5:
    case 6:
    case 7:
    case 8:
        change_descriptor(dice, input);
        break;
    case 9:
    case 10:
        change_slab(dice, input);
        break;
    case 11:
        heap->sectors =
            (uint32_t)(fuzz_evil(dice, heap, heap->sectors) & (below(dice, 50) == 0 ? UINT32_MAX : 0x3ffff));
        break;
    case 12: /* the logical size with the size of the file */
        heap->sectors = 8 * (uint32_t)below(dice, below(dice, 2) == 0 ? 64 : 9000);
        fuzz_image_put(heap, offsetof(struct ph_superblock, heap_bytes), (uint64_t)heap->sectors * 512);
        fuzz_image_put(heap, PH_PAGE_BYTES + offsetof(struct ph_superblock, heap_bytes), (uint64_t)heap->sectors * 512);
        break;
    case 13:
        if (heap->count > 0)
            heap->list[below(dice, heap->count)].number = (uint32_t)below(dice, heap->sectors);
        break;
    case 14:
        if (heap->count > 0) {
            heap->count--;
            heap->list[below(dice, heap->count + 1)] = heap->list[heap->count];
        }
        break;
    case 15:
    case 16:
        plant_extent(dice, input);
        break;
    case 17:
    case 18:
        plant_slab(dice, input);
        break;
    default:
        if (heap->count > 0)
            (void)LLVMFuzzerMutate(heap->list[below(dice, heap->count)].data, FUZZ_SECTOR_BYTES, FUZZ_SECTOR_BYTES);
        break;
    }
}

static void change_heap(uint64_t *dice, struct fuzz_input *input)
{
    if (below(dice, 10) == 0)
        change_superblock(dice, input);
    else
        change_interior(dice, input);
}

/* -------------------------------------------------------------------------------------------------------- the log */

static void put_word(uint8_t *bytes, size_t *at, uint64_t word)
{
    memcpy(bytes + *at, &word, sizeof word);
    *at += sizeof word;
}

/* One operation, of at most `room` bytes; the bytes it takes, 0 if it does not fit. */
static size_t make_operation(uint64_t *dice, const struct fuzz_image *heap, uint8_t *bytes, size_t room)
{
    uint64_t size = (uint64_t)heap->sectors * FUZZ_SECTOR_BYTES, header = (uint64_t)PH_HEADER_PAGE * PH_PAGE_BYTES;
    uint64_t kind = below(dice, 20) == 0 ? below(dice, 16) : 1 + below(dice, 3), count = 1 + below(dice, 6);
    uint64_t offset =
        below(dice, 3) == 0 ? header + 8 * below(dice, 512) : fuzz_evil(dice, heap, below(dice, size + 16));
    size_t at = 0;
    if (kind == PH_OPERATION_FILL)
        count = below(dice, 2) == 0 ? PH_FILL_COUNT_MAX - below(dice, 3) : count * 16;
    if (kind == PH_OPERATION_GROW && below(dice, 8) != 0)
        offset = count = 0;
    if (room < 8 + 8 * (kind == PH_OPERATION_WRITE ? count : 1))
        return 0;
    put_word(bytes, &at, (offset / 8 & ((UINT64_C(1) << 44) - 1)) | kind << 44 | count << 48);
    if (kind == PH_OPERATION_GROW)
        put_word(bytes, &at,
                 below(dice, 2) == 0 ? size + PH_PAGE_BYTES * below(dice, 64)
                                     : fuzz_evil(dice, heap, size) & ~(uint64_t)(PH_PAGE_BYTES - 1));
    for (uint64_t i = 0; i < (kind == PH_OPERATION_WRITE ? count : 1) && kind != PH_OPERATION_GROW; i++)
        put_word(bytes, &at, fuzz_evil(dice, heap, 0));
    return at;
}

/* A record that wants sealing; its length, 0 if there is no room. */
static size_t make_record(uint64_t *dice, const struct fuzz_image *heap, uint8_t *bytes, size_t room)
{
    struct ph_record_header header = {.flags = (uint16_t)(below(dice, 6) == 0 ? below(dice, 4) : 3),
                                      .version = below(dice, 5) == 0 ? dice_roll(dice) : 5,
                                      .durable = below(dice, 8) == 0 ? dice_roll(dice) : 0};
    size_t length = sizeof header, taken;
    for (uint64_t left = 1 + below(dice, OPERATIONS_MAX); left > 0; left--) {
        if (length >= room || (taken = make_operation(dice, heap, bytes + length, room - length)) == 0)
            break;
        length += taken;
    }
    if (length == sizeof header || length > room)
        return 0;
    header.length = (uint32_t)length;
    memcpy(bytes, &header, sizeof header);
    return length;
}

/* A batch of new records after the last, whose place relinking finds. */
static void append_batch(uint64_t *dice, struct fuzz_log *log, const struct fuzz_image *heap)
{
    struct fuzz_batch batches[BATCHES_MAX];
    size_t count = fuzz_log_batches(log, batches, BATCHES_MAX);
    if (count == 0)
        return;
    size_t last = batches[count - 1].at, at = (fuzz_batch_end(log, last) + 511) / 512 * 512;
    size_t start = PH_LOG_SEGMENTS + (last - PH_LOG_SEGMENTS) / log->segment_bytes * log->segment_bytes;
    size_t segment_end = start + log->segment_bytes;
    segment_end = segment_end < log->length ? segment_end : log->length;
    if (at + 256 > segment_end)
        return;
    struct ph_batch_header header;
    memcpy(&header, log->bytes + last, sizeof header);
    size_t end = at + sizeof header, length;
    size_t most = segment_end - end < 2048 ? segment_end : end + 2048;
    for (uint64_t records = 1 + below(dice, 3); records > 0; records--) {
        length = end < most ? make_record(dice, heap, log->bytes + end, most - end) : 0;
        end += length;
    }
    header.length = (uint32_t)(end - at - sizeof header);
    memcpy(log->bytes + at, &header, sizeof header);
}

/* Some record of the log: its place and length. */
static size_t pick_record(uint64_t *dice, const struct fuzz_log *log, size_t *at)
{
    struct fuzz_batch batches[BATCHES_MAX];
    size_t count = fuzz_log_batches(log, batches, BATCHES_MAX), length;
    if (count == 0)
        return 0;
    *at = batches[below(dice, count)].at;
    size_t end = fuzz_batch_end(log, *at);
    *at += sizeof(struct ph_batch_header);
    length = fuzz_record_length(log->bytes, *at, end);
    for (uint64_t steps = below(dice, 8); steps > 0 && length != 0; steps--) {
        size_t next = fuzz_record_length(log->bytes, *at + length, end);
        if (next == 0)
            break;
        *at += length;
        length = next;
    }
    return length;
}

static void change_word_at(uint64_t *dice, struct fuzz_input *input, uint8_t *bytes)
{
    uint64_t word;
    memcpy(&word, bytes, sizeof word);
    word = fuzz_evil(dice, &input->heap, word);
    memcpy(bytes, &word, sizeof word);
}

static void change_record(uint64_t *dice, struct fuzz_input *input, uint8_t *bytes, size_t length)
{
    static const size_t fields[] = {8, 16, 24, 32, 40, 48, 56};
    size_t head = sizeof(struct ph_record_header), at;
    switch (below(dice, 4)) {
    case 0: /* other operations, as many as fit; what stays behind them is malformed, or not */
        for (at = head; at < length;) {
            size_t taken = make_operation(dice, &input->heap, bytes + at, length - at);
            if (taken == 0)
                break;
            at += taken;
        }
        return;
    case 1:
        at = (size_t)field(dice, fields, sizeof fields / sizeof fields[0]);
        break;
    default:
        at = head + 8 * (size_t)below(dice, (length - head) / 8);
        break;
    }
    change_word_at(dice, input, bytes + at);
}

static void change_log(uint64_t *dice, struct fuzz_input *input)
{
    struct fuzz_log log;
    struct fuzz_batch batches[BATCHES_MAX];
    size_t at = 0, length, count;
    uint64_t choice = below(dice, 16);
    fuzz_log_load(&log, &input->log);
    if (log.bytes == NULL)
        choice = 15;
    if (choice < 5) {
        append_batch(dice, &log, &input->heap);
    } else if (choice < 10) {
        length = pick_record(dice, &log, &at);
        if (length != 0)
            change_record(dice, input, log.bytes + at, length);
    } else if (choice < 12) { /* a field of the log's header */
        static const size_t fields[] = {8, 32, 40, 48, 56, 64, 72};
        change_word_at(dice, input, log.bytes + field(dice, fields, sizeof fields / sizeof fields[0]));
    } else if (choice < 14) { /* a field of a batch's or a segment's */
        count = fuzz_log_batches(&log, batches, BATCHES_MAX);
        at = count > 0 && choice == 12 ? batches[below(dice, count)].at
                                       : PH_LOG_SEGMENTS + below(dice, 4) * log.segment_bytes;
        at += 8 * below(dice, 7);
        if (at + 8 <= log.length)
            change_word_at(dice, input, log.bytes + at);
    }
    fuzz_log_store(&log, &input->log);
    fuzz_log_deinit(&log);
    if (choice == 14 && input->log.count > 0)
        (void)LLVMFuzzerMutate(input->log.list[below(dice, input->log.count)].data, FUZZ_SECTOR_BYTES,
                               FUZZ_SECTOR_BYTES);
    if (choice == 15 && below(dice, 4) == 0)
        input->log.sectors = (uint32_t)below(dice, 400);
}

static void change_ring(uint64_t *dice, struct fuzz_input *input)
{
    struct fuzz_bytes *ring = &input->ring;
    uint8_t bytes[RING_MAX];
    size_t length = ring->length < RING_MAX / 2 ? ring->length : RING_MAX / 2, added;
    if (length > 0)
        memcpy(bytes, ring->data, length);
    if (length < 8) {
        memset(bytes, 0, 8);
        length = 8;
    }
    switch (below(dice, 4)) {
    case 0:
        length = LLVMFuzzerMutate(bytes, length, RING_MAX / 2);
        break;
    case 1:
        length = 0;
        break;
    default:
        added = make_record(dice, &input->heap, bytes + length, 1024);
        length += added;
        break;
    }
    fuzz_bytes_set(ring, bytes, length);
}

/* ----------------------------------------------------------------------------------------------------- the script */

/* Change it in place, at most `most` bytes; the new length. */
static size_t change_codes(uint64_t *dice, uint8_t *bytes, size_t length, size_t most)
{
    if (below(dice, 2) != 0 || length + 16 >= most)
        return LLVMFuzzerMutate(bytes, length, most);
    size_t at = (size_t)below(dice, length + 1), more = 1 + (size_t)below(dice, 12);
    memmove(bytes + at + more, bytes + at, length - at);
    for (size_t i = 0; i < more; i++)
        bytes[at + i] = (uint8_t)dice_roll(dice);
    return length + more;
}

static void change_script(uint64_t *dice, struct fuzz_input *input)
{
    uint8_t bytes[SCRIPT_MAX];
    size_t length = input->script.length < SCRIPT_MAX ? input->script.length : SCRIPT_MAX;
    if (length > 0)
        memcpy(bytes, input->script.data, length);
    fuzz_bytes_set(&input->script, bytes, change_codes(dice, bytes, length, SCRIPT_MAX));
}

/* ------------------------------------------------------------------------------------------------------- mutators */

size_t fuzz_mutate_input(uint8_t *data, size_t size, size_t most, unsigned seed)
{
    uint64_t dice = seed;
    struct fuzz_input input;
    if (below(&dice, 64) == 0)
        return LLVMFuzzerMutate(data, size, most);
    fuzz_input_parse(&input, data, size);
    for (uint64_t left = 1 + below(&dice, CHANGES_MAX); left > 0; left--) {
        uint64_t choice = below(&dice, 16);
        if (choice < 6)
            change_heap(&dice, &input);
        else if (choice < 10)
            change_log(&dice, &input);
        else if (choice < 11)
            change_ring(&dice, &input);
        else
            change_script(&dice, &input);
    }
    uint64_t seal = below(&dice, 16);
    if (seal > 0)
        fuzz_reseal(&input, seal == 1 ? FUZZ_SEAL : FUZZ_RELINK);
    size_t written = fuzz_input_write(&input, data, most);
    fuzz_input_deinit(&input);
    return written != 0 ? written : size;
}

size_t fuzz_mutate_heap(uint8_t *data, size_t size, size_t most, unsigned seed)
{
    uint64_t dice = seed;
    struct fuzz_input input;
    fuzz_input_parse(&input, data, size);
    for (uint64_t left = 1 + below(&dice, CHANGES_MAX); left > 0; left--) {
        if (below(&dice, 3) == 0)
            change_interior(&dice, &input);
        else
            change_script(&dice, &input);
    }
    size_t written = fuzz_input_write(&input, data, most);
    fuzz_input_deinit(&input);
    return written != 0 ? written : size;
}

size_t fuzz_mutate_script(uint8_t *data, size_t size, size_t most, unsigned seed)
{
    uint64_t dice = seed;
    for (uint64_t left = 1 + below(&dice, CHANGES_MAX); left > 0; left--)
        size = change_codes(&dice, data, size, most < SCRIPT_MAX ? most : SCRIPT_MAX);
    return size;
}

size_t fuzz_mutate_record(uint8_t *data, size_t size, size_t most, unsigned seed)
{
    uint64_t dice = seed;
    struct fuzz_image heap = {.sectors = 256};
    struct fuzz_input input = {.heap = heap};
    size_t prefix = 1; /* see fuzz_record.c */
    uint64_t choice = below(&dice, 8);
    if (choice == 0 || size < prefix + 80)
        size = LLVMFuzzerMutate(data, size, most);
    if (choice < 3 && most > prefix + 80)
        size = prefix + make_record(&dice, &heap, data + prefix, most - prefix < 2048 ? most - prefix : 2048);
    size_t length = size > prefix ? size - prefix : 0;
    if (length >= 80)
        change_record(&dice, &input, data + prefix, length / 8 * 8);
    fuzz_image_deinit(&input.heap);
    if (length >= 72 && below(&dice, 8) != 0) {
        uint32_t stated = (uint32_t)(length / 8 * 8);
        if (below(&dice, 8) != 0)
            memcpy(data + prefix + 8, &stated, sizeof stated);
        size_t sealed = fuzz_record_length(data + prefix, 0, length);
        if (sealed != 0)
            fuzz_reseal_record(data + prefix, sealed);
    }
    return size;
}

size_t fuzz_cross_inputs(const uint8_t *one, size_t one_size, const uint8_t *other, size_t other_size, uint8_t *out,
                         size_t most, unsigned seed)
{
    uint64_t dice = seed;
    struct fuzz_input a, b;
    fuzz_input_parse(&a, one, one_size);
    fuzz_input_parse(&b, other, other_size);
    uint64_t take = 1 + below(&dice, 7); /* which parts come from the other */
    if ((take & 1) != 0) {
        struct fuzz_image swap = a.heap;
        a.heap = b.heap;
        b.heap = swap;
    }
    if ((take & 2) != 0) {
        struct fuzz_image swap = a.log;
        a.log = b.log;
        b.log = swap;
    }
    if ((take & 4) != 0) {
        struct fuzz_bytes swap = a.script;
        a.script = b.script;
        b.script = swap;
    }
    if (below(&dice, 2) == 0)
        fuzz_reseal(&a, FUZZ_RELINK);
    size_t written = fuzz_input_write(&a, out, most);
    fuzz_input_deinit(&a);
    fuzz_input_deinit(&b);
    return written;
}

size_t fuzz_cross_bytes(const uint8_t *one, size_t one_size, const uint8_t *other, size_t other_size, uint8_t *out,
                        size_t most, unsigned seed)
{
    size_t cut = one_size == 0 ? 0 : seed % one_size, from = other_size == 0 ? 0 : seed / 7 % other_size;
    cut = cut < most ? cut : most;
    size_t more = other_size - from < most - cut ? other_size - from : most - cut;
    memcpy(out, one, cut);
    memcpy(out + cut, other + from, more);
    return cut + more;
}
