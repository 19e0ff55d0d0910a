/* SPDX-License-Identifier: MIT */
/*
 * The fold set: operations applied to images of the pages they change, and the pages written to the heap file in
 * offset order, one write for each page or run of whole pages.
 *
 * An image holds only the words that were changed, which its mask tells.  A page whose changes make at most RUNS_MAX runs
 * is written as those runs; else the rest of it is read first, as it is where the heap has sums.
 *
 * The images are more than the caches hold, so small parts wait in a short queue for the lines they go to, which are
 * fetched meanwhile.
 */
#include "recovery/sums.h"

#include <stdlib.h>
#include <string.h>

#define RUNS_MAX 2
#define OUTPUT_BYTES (256u << 10)
#define PACE_BYTES (4u << 20) /* start write-back after so much, so that the sync finds little left to do */
#define WORDS_PER_PAGE (PH_PAGE_BYTES / 8)
#define MASK_WORDS (WORDS_PER_PAGE / 64)
#define IMAGES_PER_BLOCK 64u
#define LINE_BYTES 64u
#define QUEUE_PARTS 8u
#define QUEUE_PART_BYTES 256u /* larger parts do not wait */

struct page {
    uint64_t number;
    uint64_t mask[MASK_WORDS]; /* which words of the image hold something */
    uint8_t *image;
};

/* A part of an operation that lies in one page. */
struct part {
    uint32_t page; /* index */
    uint16_t at;   /* bytes from the page's start */
    uint16_t length;
    uint8_t bytes[QUEUE_PART_BYTES];
};

struct ph_fold_set {
    const ph_io *io;
    struct ph_file *heap;
    uint64_t memory_max;
    uint32_t part, parts;
    uint8_t **blocks; /* of IMAGES_PER_BLOCK images */
    uint32_t block_count, block_capacity;
    struct page *pages;
    uint32_t page_count, page_capacity;
    uint32_t *index; /* open addressing: page number -> page + 1 */
    uint32_t index_mask;
    uint32_t recent; /* the page last touched, index + 1 */
    struct part queue[QUEUE_PARTS];
    uint32_t queue_first, queue_length; /* in order of arrival, from queue_first on, around its end */
    uint8_t *output;
    size_t output_length;
    uint64_t output_at, unpaced_at, unpaced;
    struct ph_file *sums; /* NULL: none are kept */
    bool check_sums;
    struct ph_sums_block block;
};

static ph_status no_memory(const struct ph_fold_set *set)
{
    return ph_fail(PH_NO_MEMORY, "%s: out of memory bringing the log into the heap file", set->heap->path);
}

ph_status ph_fold_set_init(struct ph_fold_set **out, struct ph_file *heap, uint64_t memory_max, uint32_t part,
                           uint32_t parts)
{
    const ph_io *io = heap->io;
    struct ph_fold_set *set = io->alloc(io->ctx, sizeof *set, 16);
    if (set == NULL)
        return ph_fail(PH_NO_MEMORY, "%s: out of memory", heap->path);
    *set = (struct ph_fold_set){.io = io, .heap = heap, .memory_max = memory_max, .part = part, .parts = parts};
    set->output = io->alloc(io->ctx, OUTPUT_BYTES, PH_PAGE_BYTES);
    if (set->output == NULL) {
        ph_status status = no_memory(set);
        ph_fold_set_deinit(set);
        return status;
    }
    *out = set;
    return PH_OK;
}

void ph_fold_set_deinit(struct ph_fold_set *set)
{
    if (set == NULL)
        return;
    const ph_io *io = set->io;
    for (uint32_t i = 0; i < set->block_count; i++)
        io->free(io->ctx, set->blocks[i]);
    void *owned[] = {set->blocks, set->pages, set->index, set->output, set};
    for (size_t i = 0; i < sizeof owned / sizeof owned[0]; i++)
        if (owned[i] != NULL)
            io->free(io->ctx, owned[i]);
}

/* Make room for one more element; doubles. */
static bool grow(const struct ph_fold_set *set, void **memory, uint32_t count, uint32_t *capacity, size_t element)
{
    if (count < *capacity)
        return true;
    uint32_t wanted = *capacity == 0 ? 64 : *capacity * 2;
    void *grown = set->io->resize(set->io->ctx, *memory, wanted * element);
    if (grown == NULL)
        return false;
    *memory = grown;
    *capacity = wanted;
    return true;
}

static uint32_t hash_page(uint64_t number)
{
    return (uint32_t)((number * UINT64_C(0x9e3779b97f4a7c15)) >> 32);
}

static bool grow_index(struct ph_fold_set *set)
{
    uint32_t size = set->index == NULL ? 256 : (set->index_mask + 1) * 2;
    uint32_t *index = set->io->alloc(set->io->ctx, size * sizeof *index, 64);
    if (index == NULL)
        return false;
    memset(index, 0, size * sizeof *index);
    for (uint32_t i = 0; i < set->page_count; i++) {
        uint32_t at = hash_page(set->pages[i].number) & (size - 1);
        while (index[at] != 0)
            at = (at + 1) & (size - 1);
        index[at] = i + 1;
    }
    if (set->index != NULL)
        set->io->free(set->io->ctx, set->index);
    set->index = index;
    set->index_mask = size - 1;
    return true;
}

/* A page with an empty image, at the end of the list; NULL without memory. */
static struct page *add_page(struct ph_fold_set *set, uint64_t number)
{
    void *pages = set->pages, *blocks = set->blocks;
    if (!grow(set, &pages, set->page_count, &set->page_capacity, sizeof *set->pages))
        return NULL;
    set->pages = pages;
    if (set->page_count / IMAGES_PER_BLOCK == set->block_count) {
        if (!grow(set, &blocks, set->block_count, &set->block_capacity, sizeof *set->blocks))
            return NULL;
        set->blocks = blocks;
        uint8_t *block = set->io->alloc(set->io->ctx, IMAGES_PER_BLOCK * PH_PAGE_BYTES, PH_PAGE_BYTES);
        if (block == NULL)
            return NULL;
        set->blocks[set->block_count++] = block;
    }
    struct page *page = &set->pages[set->page_count];
    uint8_t *block = set->blocks[set->page_count / IMAGES_PER_BLOCK];
    *page =
        (struct page){.number = number, .image = block + (size_t)(set->page_count % IMAGES_PER_BLOCK) * PH_PAGE_BYTES};
    set->page_count++;
    return page;
}

/* The page with this number, new if need be; NULL without memory. */
static struct page *find_page(struct ph_fold_set *set, uint64_t number)
{
    if (set->recent != 0 && set->pages[set->recent - 1].number == number)
        return &set->pages[set->recent - 1];
    if ((set->index == NULL || set->page_count * 2 > set->index_mask) && !grow_index(set))
        return NULL;
    uint32_t at = hash_page(number) & set->index_mask;
    while (set->index[at] != 0 && set->pages[set->index[at] - 1].number != number)
        at = (at + 1) & set->index_mask;
    if (set->index[at] == 0) {
        if (add_page(set, number) == NULL)
            return NULL;
        set->index[at] = set->page_count;
    }
    set->recent = set->index[at];
    return &set->pages[set->recent - 1];
}

static void mark_words(struct page *page, uint32_t first, uint32_t count)
{
    for (uint32_t word = first; word < first + count;) {
        uint32_t in_mask = word % 64, part = 64 - in_mask;
        if (part > first + count - word)
            part = first + count - word;
        page->mask[word / 64] |= (part == 64 ? UINT64_MAX : (UINT64_C(1) << part) - 1) << in_mask;
        word += part;
    }
}

static void apply_queued(struct ph_fold_set *set)
{
    const struct part *part = &set->queue[set->queue_first];
    struct page *page = &set->pages[part->page];
    memcpy(page->image + part->at, part->bytes, part->length);
    mark_words(page, part->at / 8, part->length / 8);
    set->queue_first = (set->queue_first + 1) % QUEUE_PARTS;
    set->queue_length--;
}

static void apply_all_queued(struct ph_fold_set *set)
{
    while (set->queue_length > 0)
        apply_queued(set);
}

static void put_bytes(uint8_t *to, const struct ph_operation *operation, uint64_t done, uint64_t length)
{
    if (operation->kind == PH_OPERATION_WRITE)
        memcpy(to, operation->bytes + done, length);
    else
        for (uint64_t i = 0; i < length; i += 8)
            memcpy(to + i, &operation->value, 8);
}

/* The part of the operation from `done` on that lies in one page. */
static ph_status apply_part(struct ph_fold_set *set, const struct ph_operation *operation, uint64_t done,
                            uint64_t length)
{
    uint64_t offset = operation->offset + done;
    struct page *page = find_page(set, offset / PH_PAGE_BYTES);
    if (page == NULL)
        return no_memory(set);
    uint32_t at = (uint32_t)(offset % PH_PAGE_BYTES);
    if (length > QUEUE_PART_BYTES) {
        apply_all_queued(set);
        put_bytes(page->image + at, operation, done, length);
        mark_words(page, at / 8, (uint32_t)length / 8);
        return PH_OK;
    }
    if (set->queue_length == QUEUE_PARTS)
        apply_queued(set);
    struct part *part = &set->queue[(set->queue_first + set->queue_length++) % QUEUE_PARTS];
    part->page = (uint32_t)(page - set->pages);
    part->at = (uint16_t)at;
    part->length = (uint16_t)length;
    put_bytes(part->bytes, operation, done, length);
    for (uint32_t line = at / LINE_BYTES; line <= (at + length - 1) / LINE_BYTES; line++)
        __builtin_prefetch(page->image + (size_t)line * LINE_BYTES, 1);
    return PH_OK;
}

uint64_t ph_fold_set_bytes(const struct ph_fold_set *set)
{
    return (uint64_t)set->page_count * PH_PAGE_BYTES;
}

void ph_fold_set_unbound(struct ph_fold_set *set)
{
    set->parts = 0;
}

void ph_fold_set_keep_sums(struct ph_fold_set *set, struct ph_file *sums, bool check)
{
    set->sums = sums;
    set->check_sums = check;
}

/* By bits that the index has no use for, or the pages of one part would crowd in it. */
static bool is_ours(const struct ph_fold_set *set, uint64_t number)
{
    return set->parts <= 1 || (hash_page(number) >> 16) % set->parts == set->part;
}

ph_status ph_fold_set_apply(void *context, const struct ph_operation *operation)
{
    struct ph_fold_set *set = context;
    if (operation->kind == PH_OPERATION_GROW)
        return PH_OK; /* the file's size is seen to apart */
    for (uint64_t done = 0; done < operation->length;) {
        uint64_t offset = operation->offset + done, rest = PH_PAGE_BYTES - offset % PH_PAGE_BYTES;
        uint64_t part = operation->length - done < rest ? operation->length - done : rest;
        ph_status status = PH_OK;
        if (ph_fold_set_bytes(set) >= set->memory_max) {
            if (set->parts > 0)
                return ph_fail(PH_TOO_BIG, "%s: a part of the log changes too many pages", set->heap->path);
            status = ph_fold_set_write(set);
        }
        if (status == PH_OK && is_ours(set, offset / PH_PAGE_BYTES))
            status = apply_part(set, operation, done, part);
        if (status != PH_OK)
            return status;
        done += part;
    }
    return PH_OK;
}

/* -------------------------------------------------------------------------------------------------------- writing */

static ph_status write_output(struct ph_fold_set *set)
{
    if (set->output_length == 0)
        return PH_OK;
    ph_status status = ph_file_write(set->heap, set->output, set->output_length, set->output_at, 0);
    if (status != PH_OK)
        return status;
    if (set->unpaced == 0)
        set->unpaced_at = set->output_at;
    set->unpaced += set->output_length;
    if (set->unpaced > PACE_BYTES) {
        (void)set->io->start_writeback(set->io->ctx, set->heap->handle, set->unpaced_at,
                                       set->output_at + set->output_length - set->unpaced_at);
        set->unpaced = 0;
    }
    set->output_length = 0;
    return PH_OK;
}

static ph_status put(struct ph_fold_set *set, uint64_t offset, const uint8_t *bytes, size_t length)
{
    if (set->output_length + length > OUTPUT_BYTES || set->output_at + set->output_length != offset) {
        ph_status status = write_output(set);
        if (status != PH_OK)
            return status;
        set->output_at = offset;
    }
    memcpy(set->output + set->output_length, bytes, length);
    set->output_length += length;
    return PH_OK;
}

static bool has_word(const struct page *page, uint32_t word)
{
    return (page->mask[word / 64] >> (word % 64) & 1) != 0;
}

static uint32_t count_runs(const struct page *page)
{
    uint32_t runs = 0;
    uint64_t before = 0; /* whether the last word of the mask word before was set */
    for (uint32_t i = 0; i < MASK_WORDS; i++) {
        uint64_t mask = page->mask[i], starts = mask & ~(mask << 1 | before);
        runs += (uint32_t)__builtin_popcountll(starts);
        before = mask >> 63;
    }
    return runs;
}

static ph_status put_runs(struct ph_fold_set *set, const struct page *page)
{
    uint64_t start = page->number * PH_PAGE_BYTES;
    for (uint32_t word = 0; word < WORDS_PER_PAGE;) {
        uint32_t from = word;
        while (word < WORDS_PER_PAGE && has_word(page, word))
            word++;
        if (word > from) {
            ph_status status = put(set, start + from * 8, page->image + from * 8, (size_t)(word - from) * 8);
            if (status != PH_OK)
                return status;
        }
        while (word < WORDS_PER_PAGE && !has_word(page, word))
            word++;
    }
    return PH_OK;
}

static bool is_full(const struct page *page)
{
    uint64_t all = UINT64_MAX;
    for (uint32_t i = 0; i < MASK_WORDS; i++)
        all &= page->mask[i];
    return all == UINT64_MAX;
}

static void overlay(const struct page *page, uint8_t *bytes)
{
    for (uint32_t i = 0; i < MASK_WORDS; i++)
        for (uint64_t mask = page->mask[i]; mask != 0; mask &= mask - 1) {
            uint32_t at = (i * 64 + (uint32_t)__builtin_ctzll(mask)) * 8;
            memcpy(bytes + at, page->image + at, 8);
        }
}

/* Bring what the file has of the page to what it shall be, and put the sum of that. */
static ph_status overlay_and_sum(struct ph_fold_set *set, const struct page *page, uint8_t *bytes)
{
    uint64_t *sum;
    ph_status status = ph_sums_find(&set->block, set->sums, page->number, &sum);
    if (status != PH_OK)
        return status;
    bool damaged = set->check_sums && !is_full(page) && *sum != PH_SUM_NONE && *sum != ph_sums_compute(bytes);
    overlay(page, bytes);
    *sum = damaged ? PH_SUM_DAMAGED : ph_sums_compute(bytes);
    set->block.changed = true;
    return PH_OK;
}

static ph_status write_page(struct ph_fold_set *set, const struct page *page)
{
    const bool in_runs = count_runs(page) <= RUNS_MAX;
    if (in_runs && set->sums == NULL)
        return put_runs(set, page);
    uint8_t whole[PH_PAGE_BYTES];
    size_t got = 0;
    uint64_t start = page->number * PH_PAGE_BYTES;
    ph_status status = is_full(page) ? PH_OK : ph_file_read(set->heap, whole, sizeof whole, start, &got);
    if (status != PH_OK)
        return status;
    memset(whole + got, 0, sizeof whole - got);
    if (set->sums == NULL)
        overlay(page, whole);
    else
        status = overlay_and_sum(set, page, whole);
    if (status != PH_OK)
        return status;
    return in_runs ? put_runs(set, page) : put(set, start, whole, sizeof whole);
}

static int by_number(const void *a, const void *b)
{
    uint64_t left = ((const struct page *)a)->number, right = ((const struct page *)b)->number;
    return left < right ? -1 : left > right;
}

ph_status ph_fold_set_write(struct ph_fold_set *set)
{
    ph_status status = PH_OK;
    apply_all_queued(set);
    set->unpaced = 0; /* this time it may begin before what was written last */
    if (set->page_count > 0)
        qsort(set->pages, set->page_count, sizeof *set->pages, by_number);
    for (uint32_t i = 0; i < set->page_count && status == PH_OK; i++)
        status = write_page(set, &set->pages[i]);
    if (status == PH_OK)
        status = write_output(set);
    if (status == PH_OK && set->sums != NULL)
        status = ph_sums_flush(&set->block, set->sums);
    set->output_length = 0;
    set->page_count = set->recent = 0;
    if (set->index != NULL)
        memset(set->index, 0, (set->index_mask + UINT64_C(1)) * sizeof *set->index);
    return status;
}

/* ------------------------------------------------------------------------------------------------------- comparing */

ph_status ph_fold_set_compare(struct ph_fold_set *set, uint64_t part, uint64_t *shown, uint64_t *pages)
{
    *shown = *pages = 0;
    apply_all_queued(set);
    for (uint32_t i = 0; i < set->page_count; i++) {
        const struct page *page = &set->pages[i];
        uint8_t there[PH_PAGE_BYTES];
        uint64_t same = 0, words = 0;
        size_t got;
        ph_status status = ph_file_read(set->heap, there, sizeof there, page->number * PH_PAGE_BYTES, &got);
        if (status != PH_OK)
            return status;
        for (uint32_t word = 0; word < got / 8; word++) {
            uint64_t wanted;
            memcpy(&wanted, page->image + word * 8, sizeof wanted);
            if (!has_word(page, word) || wanted == 0)
                continue;
            words++;
            same += memcmp(there + word * 8, &wanted, sizeof wanted) == 0;
        }
        *pages += words > 0;
        *shown += words > 0 && same * part >= words;
    }
    return PH_OK;
}
