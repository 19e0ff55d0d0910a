/* SPDX-License-Identifier: MIT */
/*
 * The fold set: operations gathered by page, applied last-writer-wins in memory, and written to the heap file in offset
 * order, one write for each page or run of whole pages.
 *
 * A page whose changes make at most RUNS_MAX runs is written as those runs; else the rest of it is read first.
 */
#include "recovery/store.h"

#include <stdlib.h>
#include <string.h>

#define RUNS_MAX 2
#define OUTPUT_BYTES (256u << 10)
#define PACE_BYTES (4u << 20) /* start write-back after so much, so that the sync finds little left to do */
#define WORDS_PER_PAGE (PH_PAGE_BYTES / 8)

/* A piece of one page: `length` bytes at `at` of the page; data in the arena, or `value` repeated. */
struct piece {
    uint32_t next; /* index + 1 */
    uint16_t at;
    uint16_t length; /* 0 stands for 4096 */
    uint64_t data;   /* arena offset, or the value */
    bool fill;
};

struct page {
    uint64_t number;
    uint32_t first, last; /* pieces, index + 1 */
};

struct ph_fold_set {
    const ph_io *io;
    struct ph_file *heap;
    uint64_t memory_max;
    uint8_t *arena;
    size_t arena_length, arena_capacity;
    struct piece *pieces;
    uint32_t piece_count, piece_capacity;
    struct page *pages;
    uint32_t page_count, page_capacity;
    uint32_t *index; /* open addressing: page number -> page + 1 */
    uint32_t index_mask;
    uint32_t recent; /* the page last touched, index + 1 */
    uint8_t *output;
    size_t output_length;
    uint64_t output_at, unpaced_at, unpaced;
};

static ph_status no_memory(const struct ph_fold_set *set)
{
    return ph_fail(PH_NO_MEMORY, "%s: out of memory bringing the log into the heap file", set->heap->path);
}

ph_status ph_fold_set_init(struct ph_fold_set **out, struct ph_file *heap, uint64_t memory_max)
{
    const ph_io *io = heap->io;
    struct ph_fold_set *set = io->alloc(io->ctx, sizeof *set, 16);
    if (set == NULL)
        return ph_fail(PH_NO_MEMORY, "%s: out of memory", heap->path);
    *set = (struct ph_fold_set){.io = io, .heap = heap, .memory_max = memory_max};
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
    void *owned[] = {set->arena, set->pieces, set->pages, set->index, set->output, set};
    for (size_t i = 0; i < sizeof owned / sizeof owned[0]; i++)
        if (owned[i] != NULL)
            io->free(io->ctx, owned[i]);
}

/* Make room for one more element; doubles. */
static bool grow(const struct ph_fold_set *set, void **memory, uint32_t count, uint32_t *capacity, size_t element)
{
    if (count < *capacity)
        return true;
    uint32_t wanted = *capacity == 0 ? 1024 : *capacity * 2;
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
    uint32_t size = set->index == NULL ? 4096 : (set->index_mask + 1) * 2;
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
        void *pages = set->pages;
        if (!grow(set, &pages, set->page_count, &set->page_capacity, sizeof *set->pages))
            return NULL;
        set->pages = pages;
        set->pages[set->page_count++] = (struct page){.number = number};
        set->index[at] = set->page_count;
    }
    set->recent = set->index[at];
    return &set->pages[set->recent - 1];
}

static ph_status add_piece(struct ph_fold_set *set, uint64_t offset, uint32_t length, uint64_t data, bool fill)
{
    struct page *page = find_page(set, offset / PH_PAGE_BYTES);
    void *pieces = set->pieces;
    if (page == NULL || !grow(set, &pieces, set->piece_count, &set->piece_capacity, sizeof *set->pieces))
        return no_memory(set);
    set->pieces = pieces;
    set->pieces[set->piece_count++] = (struct piece){
        .at = (uint16_t)(offset % PH_PAGE_BYTES), .length = (uint16_t)(length % PH_PAGE_BYTES), .data = data, .fill = fill};
    if (page->last != 0)
        set->pieces[page->last - 1].next = set->piece_count;
    else
        page->first = set->piece_count;
    page->last = set->piece_count;
    return PH_OK;
}

static ph_status take_data(struct ph_fold_set *set, const uint8_t *bytes, uint64_t length, uint64_t *at)
{
    if (set->arena_length + length > set->arena_capacity) {
        size_t capacity = set->arena_capacity == 0 ? 1u << 20 : set->arena_capacity * 2;
        while (capacity < set->arena_length + length)
            capacity *= 2;
        uint8_t *arena = set->io->resize(set->io->ctx, set->arena, capacity);
        if (arena == NULL)
            return no_memory(set);
        set->arena = arena;
        set->arena_capacity = capacity;
    }
    *at = set->arena_length;
    memcpy(set->arena + set->arena_length, bytes, length);
    set->arena_length += length;
    return PH_OK;
}

ph_status ph_fold_set_apply(void *context, const struct ph_operation *operation)
{
    struct ph_fold_set *set = context;
    if (operation->kind == PH_OPERATION_GROW)
        return PH_OK; /* the file's size is seen to apart */
    uint64_t used = set->arena_length + (uint64_t)set->piece_count * sizeof *set->pieces;
    if (used > set->memory_max) {
        ph_status status = ph_fold_set_write(set);
        if (status != PH_OK)
            return status;
    }
    uint64_t data = operation->value;
    bool fill = operation->kind == PH_OPERATION_FILL;
    if (!fill) {
        ph_status status = take_data(set, operation->bytes, operation->length, &data);
        if (status != PH_OK)
            return status;
    }
    for (uint64_t done = 0; done < operation->length;) {
        uint64_t offset = operation->offset + done, rest = PH_PAGE_BYTES - offset % PH_PAGE_BYTES;
        uint64_t part = operation->length - done < rest ? operation->length - done : rest;
        ph_status status = add_piece(set, offset, (uint32_t)part, fill ? data : data + done, fill);
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

/* The page's pieces in order onto `bytes`; `changed` gets a flag for each word. */
static void overlay(const struct ph_fold_set *set, const struct page *page, uint8_t *bytes, uint8_t *changed)
{
    for (uint32_t i = page->first; i != 0; i = set->pieces[i - 1].next) {
        const struct piece *piece = &set->pieces[i - 1];
        uint32_t length = piece->length == 0 ? PH_PAGE_BYTES : piece->length;
        if (piece->fill)
            for (uint32_t at = 0; at < length; at += 8)
                memcpy(bytes + piece->at + at, &piece->data, 8);
        else
            memcpy(bytes + piece->at, set->arena + piece->data, length);
        memset(changed + piece->at / 8, 1, length / 8);
    }
}

static uint32_t count_runs(const uint8_t *changed)
{
    uint32_t runs = changed[0];
    for (uint32_t word = 1; word < WORDS_PER_PAGE; word++)
        runs += changed[word] != 0 && changed[word - 1] == 0;
    return runs;
}

static ph_status put_runs(struct ph_fold_set *set, uint64_t start, const uint8_t *bytes, const uint8_t *changed)
{
    for (uint32_t word = 0; word < WORDS_PER_PAGE;) {
        uint32_t from = word;
        while (word < WORDS_PER_PAGE && changed[word] != 0)
            word++;
        if (word > from) {
            ph_status status = put(set, start + from * 8, bytes + from * 8, (size_t)(word - from) * 8);
            if (status != PH_OK)
                return status;
        }
        while (word < WORDS_PER_PAGE && changed[word] == 0)
            word++;
    }
    return PH_OK;
}

static ph_status write_page(struct ph_fold_set *set, const struct page *page)
{
    uint8_t bytes[PH_PAGE_BYTES], changed[WORDS_PER_PAGE];
    uint64_t start = page->number * PH_PAGE_BYTES;
    memset(changed, 0, sizeof changed);
    overlay(set, page, bytes, changed);
    if (count_runs(changed) <= RUNS_MAX)
        return put_runs(set, start, bytes, changed);
    uint8_t whole[PH_PAGE_BYTES];
    size_t got;
    ph_status status = ph_file_read(set->heap, whole, sizeof whole, start, &got);
    if (status != PH_OK)
        return status;
    memset(whole + got, 0, sizeof whole - got);
    for (uint32_t word = 0; word < WORDS_PER_PAGE; word++)
        if (changed[word] != 0)
            memcpy(whole + word * 8, bytes + word * 8, 8);
    return put(set, start, whole, sizeof whole);
}

static int by_number(const void *a, const void *b)
{
    uint64_t left = ((const struct page *)a)->number, right = ((const struct page *)b)->number;
    return left < right ? -1 : left > right;
}

ph_status ph_fold_set_write(struct ph_fold_set *set)
{
    ph_status status = PH_OK;
    if (set->page_count > 0)
        qsort(set->pages, set->page_count, sizeof *set->pages, by_number);
    for (uint32_t i = 0; i < set->page_count && status == PH_OK; i++)
        status = write_page(set, &set->pages[i]);
    if (status == PH_OK)
        status = write_output(set);
    set->output_length = 0;
    set->page_count = set->piece_count = set->recent = 0;
    set->arena_length = 0;
    if (set->index != NULL)
        memset(set->index, 0, (set->index_mask + UINT64_C(1)) * sizeof *set->index);
    return status;
}
