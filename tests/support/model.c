/* SPDX-License-Identifier: MIT */
/* Random changes to a heap, the model beside them, and the comparison. */
#include "tests/support/model.h"
#include "tests/support/dice.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define OBJECTS_MAX 40
#define ROOT_MAGIC UINT64_C(0x746f6f7274736574)
#define ROOT_BYTES ((uint64_t)8 * (3 + OBJECTS_MAX))

/* The first object is the root block: magic, k, count, offsets of the others. */
struct object {
    uint64_t offset, length;
    uint8_t *bytes;
    uint64_t tracked; /* the transaction that tracks it, where it is now */
};

struct ph_model {
    uint32_t references;
    uint32_t count;
    struct object objects[OBJECTS_MAX + 1];
};

enum { TRACK_NOTHING, TRACK_SOME, TRACK_LATER, TRACK_ALL };

/* Small things. */

static void *must(void *memory)
{
    if (memory == NULL)
        abort();
    return memory;
}

static uint64_t roll(struct ph_author *author)
{
    return dice_roll(&author->dice);
}

static uint64_t between(struct ph_author *author, uint64_t least, uint64_t most)
{
    return most <= least ? least : least + roll(author) % (most - least + 1);
}

static void random_bytes(struct ph_author *author, uint8_t *bytes, uint64_t length)
{
    uint64_t word = 0;
    for (uint64_t i = 0; i < length; i++) {
        if (i % 8 == 0)
            word = roll(author);
        bytes[i] = (uint8_t)(word >> (i % 8 * 8));
    }
}

struct ph_model *ph_model_copy(const struct ph_model *from)
{
    struct ph_model *model = must(malloc(sizeof *model));
    *model = *from;
    model->references = 1;
    for (uint32_t i = 0; i < model->count; i++) {
        model->objects[i].bytes = must(malloc(from->objects[i].length));
        memcpy(model->objects[i].bytes, from->objects[i].bytes, from->objects[i].length);
    }
    return model;
}

void ph_model_release(struct ph_model *model)
{
    if (model == NULL || --model->references > 0)
        return;
    for (uint32_t i = 0; i < model->count; i++)
        free(model->objects[i].bytes);
    free(model);
}

struct ph_model *ph_model_new(void)
{
    struct ph_model *empty = must(calloc(1, sizeof *empty));
    empty->references = 1;
    return empty;
}

struct ph_model *ph_model_share(struct ph_model *model)
{
    model->references++;
    return model;
}

/* Changes. */

/* Note the first failure; true if the call went well. */
static bool good(struct ph_writing *work, enum pheap_status status)
{
    if (status != PHEAP_OK && work->first_failure == PHEAP_OK) {
        work->first_failure = status;
        (void)snprintf(work->detail, sizeof work->detail, "%s", pheap_error_detail());
    }
    return status == PHEAP_OK;
}

static uint64_t live_bytes(const struct ph_model *model)
{
    uint64_t sum = 0;
    for (uint32_t i = 0; i < model->count; i++)
        sum += model->objects[i].length;
    return sum;
}

static uint64_t random_length(struct ph_writing *work)
{
    struct ph_author *author = work->author;
    uint64_t kind = roll(author) % 100;
    uint64_t most = kind < 50 ? 128 : kind < 80 ? 1500 : kind < 94 ? 5000 : author->large_max;
    return between(author, kind < 94 ? 1 : author->large_max / 4, most < author->large_max ? most : author->large_max);
}

/* Whether the block may be stored to without a declaration; perhaps makes it so. */
static bool tracked(struct ph_writing *work, struct object *object)
{
    if (work->track == TRACK_ALL)
        return true;
    if (work->track == TRACK_SOME && object->tracked != work->author->transactions && roll(work->author) % 2 == 0 &&
        good(work, pheap_track(work->txn, object->offset, object->length, NULL)))
        object->tracked = work->author->transactions;
    return object->tracked == work->author->transactions;
}

/* Track everything now, if that was to be. */
static void track_all(struct ph_writing *work)
{
    if (work->track == TRACK_LATER && good(work, pheap_track_all(work->txn)))
        work->track = TRACK_ALL;
}

/* Change a range of a live block, in the heap and in the model, by one of four ways. */
static void change(struct ph_writing *work, struct object *object, uint64_t start, uint64_t length)
{
    struct ph_author *author = work->author;
    uint8_t *bytes = must(malloc(length == 0 ? 1 : length));
    uint64_t way = roll(author) % 3;
    random_bytes(author, bytes, length);
    if (way == 0)
        memset(bytes, (int)(author->dice & 0xff), length);
    bool done;
    void *address = NULL;
    if (work->track != TRACK_NOTHING && tracked(work, object) && roll(author) % 4 != 0) {
        memcpy((uint8_t *)pheap_ptr(work->txn, object->offset) + start, bytes, length);
        done = true;
    } else if (way == 0) {
        done = good(work, pheap_fill(work->txn, object->offset + start, length == 0 ? 0 : bytes[0], length));
    } else if (way == 1) {
        done = good(work, pheap_write(work->txn, object->offset + start, bytes, length));
    } else {
        done = good(work, pheap_edit(work->txn, object->offset + start, length, &address));
        if (done && length > 0)
            memcpy(address, bytes, length);
    }
    if (done)
        memcpy(object->bytes + start, bytes, length);
    free(bytes);
}

static void allocate(struct ph_writing *work)
{
    struct ph_model *model = work->model;
    struct ph_author *author = work->author;
    uint64_t length = model->count == 0 ? ROOT_BYTES : random_length(work);
    if (model->count > OBJECTS_MAX || (model->count > 0 && live_bytes(model) + length > author->live_max))
        return;
    uint64_t offset = 0, way = roll(author) % 8;
    enum pheap_status status = way == 0 ? pheap_zalloc(work->txn, length, &offset)
                               : way == 1
                                   ? pheap_alloc_aligned(work->txn, UINT64_C(16) << roll(author) % 5, length, &offset)
                                   : pheap_alloc(work->txn, length, &offset);
    if (!good(work, status))
        return;
    struct object *object = &model->objects[model->count++];
    *object = (struct object){offset, length, must(calloc(1, length)), 0};
    if (way == 0) /* zeros, of which some are changed */
        change(work, object, length / 3, length / 4);
    else /* fresh bytes may be stored to without a declaration */
        random_bytes(author, object->bytes, length);
    if (way != 0)
        memcpy(pheap_ptr(work->txn, offset), object->bytes, length);
}

static void release(struct ph_writing *work)
{
    struct ph_model *model = work->model;
    if (model->count < 2)
        return;
    uint32_t which = 1 + (uint32_t)(roll(work->author) % (model->count - 1));
    if (!good(work, pheap_free(work->txn, model->objects[which].offset)))
        return;
    free(model->objects[which].bytes);
    model->objects[which] = model->objects[--model->count];
}

static void edit(struct ph_writing *work)
{
    struct ph_model *model = work->model;
    if (model->count < 2)
        return;
    struct object *object = &model->objects[1 + roll(work->author) % (model->count - 1)];
    uint64_t start = roll(work->author) % object->length;
    uint64_t most = roll(work->author) % 2 == 0 ? 40 : object->length;
    uint64_t length = object->length - start < most ? object->length - start : most;
    change(work, object, start, between(work->author, 1, length));
}

static void resize(struct ph_writing *work)
{
    struct ph_model *model = work->model;
    if (model->count == 0)
        return;
    uint32_t which = (uint32_t)(roll(work->author) % model->count); /* the root may move too */
    struct object *object = &model->objects[which];
    uint64_t length = which == 0 ? ROOT_BYTES + roll(work->author) % 64 : random_length(work);
    if (live_bytes(model) + length > work->author->live_max + object->length)
        return;
    uint64_t offset = object->offset;
    if (!good(work, pheap_realloc(work->txn, &offset, length)))
        return;
    object->offset = offset;
    object->tracked = 0;
    uint64_t old = object->length;
    object->bytes = must(realloc(object->bytes, length));
    object->length = length;
    if (length > old)
        memset(object->bytes + old, 0, length - old);
    /* What realloc adds may hold anything; if it cannot be made known, the model cannot follow. */
    if (length > old && !good(work, pheap_fill(work->txn, offset + old, 0, length - old)))
        work->doomed = true;
}

static void operate(struct ph_writing *work)
{
    uint64_t kind = roll(work->author) % 100;
    if (kind < 40)
        allocate(work);
    else if (kind < 58)
        release(work);
    else if (kind < 85)
        edit(work);
    else
        resize(work);
}

static void excursion(struct ph_writing *work, unsigned depth);

/* One operation; where stores are tracked, it may be an excursion in an excursion. */
static void operate_within(struct ph_writing *work, unsigned depth)
{
    if (work->author->track && depth < 3 && roll(work->author) % 4 == 0)
        excursion(work, depth + 1);
    else
        operate(work);
    if (work->author->track && roll(work->author) % 4 == 0)
        track_all(work);
}

/* Some operations, and as if they had never been. */
static void excursion(struct ph_writing *work, unsigned depth)
{
    uint32_t savepoint = 0;
    if (!good(work, pheap_savepoint(work->txn, &savepoint)))
        return;
    struct ph_model *before = ph_model_copy(work->model);
    uint64_t operations = between(work->author, 1, 4);
    for (uint64_t i = 0; i < operations; i++)
        operate_within(work, depth);
    bool keep = roll(work->author) % 3 == 0;
    if (!keep && good(work, pheap_rollback(work->txn, savepoint))) {
        ph_model_release(work->model);
        work->model = before;
    } else {
        ph_model_release(before);
    }
}

/* Write number, count and offsets into the root block. */
bool ph_writing_seal(struct ph_writing *work, uint64_t k)
{
    struct ph_model *model = work->model;
    if (model->count == 0)
        return false;
    struct object *root = &model->objects[0];
    uint64_t words[3 + OBJECTS_MAX] = {ROOT_MAGIC, k, model->count};
    for (uint32_t i = 1; i < model->count; i++)
        words[2 + i] = model->objects[i].offset;
    if (work->track == TRACK_ALL)
        memcpy(pheap_ptr(work->txn, root->offset), words, sizeof words);
    else if (!good(work, pheap_write(work->txn, root->offset, words, sizeof words)))
        return false;
    memcpy(root->bytes, words, sizeof words);
    return good(work, pheap_set_root(work->txn, root->offset));
}

void ph_writing_begin(struct ph_writing *work)
{
    struct ph_author *author = work->author;
    author->transactions++;
    if (author->track) {
        uint64_t kind = roll(author) % 8;
        work->track = kind == 0 ? TRACK_NOTHING : kind < 4 ? TRACK_SOME : TRACK_LATER;
        if (kind < 7)
            track_all(work);
    }
    while (work->model->count == 0 && work->first_failure == PHEAP_OK)
        allocate(work);
    uint64_t operations = between(author, 1, 5);
    for (uint64_t i = 0; i < operations && work->model->count > 0; i++) {
        if (roll(author) % 8 == 0)
            excursion(work, 0);
        else
            operate(work);
        track_all(work);
    }
}

bool ph_writing_number(pheap_txn *txn, uint64_t *k)
{
    uint64_t root = pheap_root(txn), words[2] = {ROOT_MAGIC, 0};
    if (root != 0)
        memcpy(words, pheap_ptr(txn, root), sizeof words);
    *k = words[1];
    return words[0] == ROOT_MAGIC;
}

/* The comparison. */

bool ph_differs(char *why, size_t why_bytes, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    (void)vsnprintf(why, why_bytes, format, arguments);
    va_end(arguments);
    return false;
}

static int by_offset(const void *one, const void *other)
{
    const struct object *const *a = one, *const *b = other;
    return ((*a)->offset > (*b)->offset) - ((*a)->offset < (*b)->offset);
}

static uint64_t first_difference(const uint8_t *one, const uint8_t *other, uint64_t length)
{
    uint64_t at = 0;
    if (memcmp(one, other, length) == 0)
        return length;
    while (one[at] == other[at])
        at++;
    return at;
}

static bool same_blocks(const struct ph_model *model, const pheap_read *reader, char *why, size_t why_bytes)
{
    const struct object *sorted[OBJECTS_MAX + 1];
    for (uint32_t i = 0; i < model->count; i++)
        sorted[i] = &model->objects[i];
    qsort(sorted, model->count, sizeof sorted[0], by_offset);
    uint64_t from = 0;
    for (uint32_t i = 0; i <= model->count; i++) {
        uint64_t offset = 0, length = 0;
        enum pheap_status status = pheap_read_next_block(reader, from, &offset, &length);
        if (i == model->count)
            return status == PHEAP_END ? true
                                       : ph_differs(why, why_bytes, "a block at %llu that should not be (%s)",
                                                    (unsigned long long)offset, pheap_status_name(status));
        if (status != PHEAP_OK)
            return ph_differs(why, why_bytes, "no block at %llu: %s: %s", (unsigned long long)sorted[i]->offset,
                              pheap_status_name(status), pheap_error_detail());
        if (offset != sorted[i]->offset || length < sorted[i]->length)
            return ph_differs(why, why_bytes, "a block of %llu bytes at %llu where %llu at %llu were expected",
                              (unsigned long long)length, (unsigned long long)offset,
                              (unsigned long long)sorted[i]->length, (unsigned long long)sorted[i]->offset);
        const uint8_t *bytes = pheap_read_ptr(reader, offset);
        uint64_t at = first_difference(bytes, sorted[i]->bytes, sorted[i]->length);
        if (at != sorted[i]->length)
            return ph_differs(why, why_bytes, "block at %llu of %llu bytes differs from byte %llu on",
                              (unsigned long long)offset, (unsigned long long)sorted[i]->length,
                              (unsigned long long)at);
        from = offset + length;
    }
    return true;
}

void ph_note_fault(void *context, uint64_t offset, const char *text)
{
    struct ph_faults *faults = context;
    if (faults->count++ == 0)
        (void)snprintf(faults->first, sizeof faults->first, "%llu: %s", (unsigned long long)offset, text);
}

bool ph_model_number(const pheap_read *reader, uint64_t *k, char *why, size_t why_bytes)
{
    uint64_t root = pheap_read_root(reader), words[2] = {ROOT_MAGIC, 0};
    const void *address = NULL;
    if (root != 0) {
        enum pheap_status status = pheap_read_range(reader, root, ROOT_BYTES, &address);
        if (status != PHEAP_OK)
            return ph_differs(why, why_bytes, "root %llu: %s: %s", (unsigned long long)root, pheap_status_name(status),
                              pheap_error_detail());
        memcpy(words, address, sizeof words);
    }
    if (words[0] != ROOT_MAGIC)
        return ph_differs(why, why_bytes, "the root block holds nonsense");
    *k = words[1];
    return true;
}

bool ph_model_verify(const struct ph_model *model, const pheap_read *reader, char *why, size_t why_bytes)
{
    uint64_t root = pheap_read_root(reader);
    if (root != (model->count == 0 ? 0 : model->objects[0].offset))
        return ph_differs(why, why_bytes, "the root is at %llu", (unsigned long long)root);
    if (!same_blocks(model, reader, why, why_bytes))
        return false;
    struct ph_faults faults = {0};
    enum pheap_status status = pheap_check(reader, ph_note_fault, NULL, &faults);
    if (status != PHEAP_OK || faults.count > 0)
        return ph_differs(why, why_bytes, "the check says %s, %u faults, first %s", pheap_status_name(status),
                          faults.count, faults.first);
    return true;
}
