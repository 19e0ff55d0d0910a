/* SPDX-License-Identifier: MIT */
/* Random transactions, the model beside them, and the comparison. */
#include "tests/support/history.h"
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

struct model {
    uint32_t references;
    uint32_t count;
    struct object objects[OBJECTS_MAX + 1];
};

struct ph_history {
    uint64_t dice;
    uint64_t large_max, live_max;
    bool track;
    uint64_t steps;        /* so far */
    struct model **models; /* after k transactions */
    uint64_t count, capacity;
    uint64_t committed; /* count - 1, or count - 2 while the last is of unknown fate */
};

/* Small things. */

static void *must(void *memory)
{
    if (memory == NULL)
        abort();
    return memory;
}

static uint64_t roll(struct ph_history *history)
{
    return dice_roll(&history->dice);
}

static uint64_t between(struct ph_history *history, uint64_t least, uint64_t most)
{
    return most <= least ? least : least + roll(history) % (most - least + 1);
}

static void random_bytes(struct ph_history *history, uint8_t *bytes, uint64_t length)
{
    uint64_t word = 0;
    for (uint64_t i = 0; i < length; i++) {
        if (i % 8 == 0)
            word = roll(history);
        bytes[i] = (uint8_t)(word >> (i % 8 * 8));
    }
}

static struct model *model_copy(const struct model *from)
{
    struct model *model = must(malloc(sizeof *model));
    *model = *from;
    model->references = 1;
    for (uint32_t i = 0; i < model->count; i++) {
        model->objects[i].bytes = must(malloc(from->objects[i].length));
        memcpy(model->objects[i].bytes, from->objects[i].bytes, from->objects[i].length);
    }
    return model;
}

static void model_release(struct model *model)
{
    if (model == NULL || --model->references > 0)
        return;
    for (uint32_t i = 0; i < model->count; i++)
        free(model->objects[i].bytes);
    free(model);
}

static void append(struct ph_history *history, struct model *model)
{
    if (history->count == history->capacity) {
        history->capacity = history->capacity * 2 + 32;
        history->models = must(realloc(history->models, history->capacity * sizeof *history->models));
    }
    history->models[history->count++] = model;
}

struct ph_history *ph_history_new(uint64_t seed)
{
    struct ph_history *history = must(calloc(1, sizeof *history));
    history->dice = seed;
    history->large_max = 12000;
    history->live_max = 40000;
    struct model *empty = must(calloc(1, sizeof *empty));
    empty->references = 1;
    append(history, empty);
    return history;
}

struct ph_history *ph_history_branch(const struct ph_history *from, uint64_t k, uint64_t seed)
{
    struct ph_history *history = must(calloc(1, sizeof *history));
    history->dice = seed;
    history->large_max = from->large_max;
    history->live_max = from->live_max;
    history->track = from->track;
    for (uint64_t i = 0; i <= k && i < from->count; i++) {
        if (from->models[i] != NULL)
            from->models[i]->references++;
        append(history, from->models[i]);
    }
    history->committed = history->count - 1;
    return history;
}

void ph_history_free(struct ph_history *history)
{
    if (history == NULL)
        return;
    for (uint64_t i = 0; i < history->count; i++)
        model_release(history->models[i]);
    free(history->models);
    free(history);
}

void ph_history_forget(struct ph_history *history, uint64_t k)
{
    for (uint64_t i = k; i-- > 0 && history->models[i] != NULL;) {
        model_release(history->models[i]);
        history->models[i] = NULL;
    }
}

void ph_history_limit(struct ph_history *history, uint64_t large_max, uint64_t live_max)
{
    history->large_max = large_max;
    history->live_max = live_max;
}

void ph_history_track(struct ph_history *history)
{
    history->track = true;
}

uint64_t ph_history_committed(const struct ph_history *history)
{
    return history->committed;
}

uint64_t ph_history_begun(const struct ph_history *history)
{
    return history->count - 1;
}

void ph_history_settle(struct ph_history *history, uint64_t k)
{
    while (history->count > k + 1)
        model_release(history->models[--history->count]);
    history->committed = history->count - 1;
}

/* Transactions. */

struct work {
    struct ph_history *history;
    pheap_txn *txn;
    struct model *model;
    struct ph_step *step;
    bool doomed; /* must be aborted */
    enum { TRACK_NOTHING, TRACK_SOME, TRACK_LATER, TRACK_ALL } track;
};

/* Note the first failure; true if the call went well. */
static bool good(struct work *work, enum pheap_status status)
{
    if (status != PHEAP_OK && work->step->first_failure == PHEAP_OK) {
        work->step->first_failure = status;
        (void)snprintf(work->step->detail, sizeof work->step->detail, "%s", pheap_error_detail());
    }
    return status == PHEAP_OK;
}

static uint64_t live_bytes(const struct model *model)
{
    uint64_t sum = 0;
    for (uint32_t i = 0; i < model->count; i++)
        sum += model->objects[i].length;
    return sum;
}

static uint64_t random_length(struct work *work)
{
    struct ph_history *history = work->history;
    uint64_t kind = roll(history) % 100;
    uint64_t most = kind < 50 ? 128 : kind < 80 ? 1500 : kind < 94 ? 5000 : history->large_max;
    return between(history, kind < 94 ? 1 : history->large_max / 4,
                   most < history->large_max ? most : history->large_max);
}

/* Whether the block may be stored to without a declaration; perhaps makes it so. */
static bool tracked(struct work *work, struct object *object)
{
    if (work->track == TRACK_ALL)
        return true;
    if (work->track == TRACK_SOME && object->tracked != work->history->steps && roll(work->history) % 2 == 0 &&
        good(work, pheap_track(work->txn, object->offset, object->length, NULL)))
        object->tracked = work->history->steps;
    return object->tracked == work->history->steps;
}

/* Track everything now, if that was to be. */
static void track_all(struct work *work)
{
    if (work->track == TRACK_LATER && good(work, pheap_track_all(work->txn)))
        work->track = TRACK_ALL;
}

/* Change a range of a live block, in the heap and in the model, by one of four ways. */
static void change(struct work *work, struct object *object, uint64_t start, uint64_t length)
{
    struct ph_history *history = work->history;
    uint8_t *bytes = must(malloc(length == 0 ? 1 : length));
    uint64_t way = roll(history) % 3;
    random_bytes(history, bytes, length);
    if (way == 0)
        memset(bytes, (int)(history->dice & 0xff), length);
    bool done;
    void *address = NULL;
    if (work->track != TRACK_NOTHING && tracked(work, object) && roll(history) % 4 != 0) {
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

static void allocate(struct work *work)
{
    struct model *model = work->model;
    struct ph_history *history = work->history;
    uint64_t length = model->count == 0 ? ROOT_BYTES : random_length(work);
    if (model->count > OBJECTS_MAX || (model->count > 0 && live_bytes(model) + length > history->live_max))
        return;
    uint64_t offset = 0, way = roll(history) % 8;
    enum pheap_status status = way == 0 ? pheap_zalloc(work->txn, length, &offset)
                               : way == 1
                                   ? pheap_alloc_aligned(work->txn, UINT64_C(16) << roll(history) % 5, length, &offset)
                                   : pheap_alloc(work->txn, length, &offset);
    if (!good(work, status))
        return;
    struct object *object = &model->objects[model->count++];
    *object = (struct object){offset, length, must(calloc(1, length)), 0};
    if (way == 0) /* zeros, of which some are changed */
        change(work, object, length / 3, length / 4);
    else /* fresh bytes may be stored to without a declaration */
        random_bytes(history, object->bytes, length);
    if (way != 0)
        memcpy(pheap_ptr(work->txn, offset), object->bytes, length);
}

static void release(struct work *work)
{
    struct model *model = work->model;
    if (model->count < 2)
        return;
    uint32_t which = 1 + (uint32_t)(roll(work->history) % (model->count - 1));
    if (!good(work, pheap_free(work->txn, model->objects[which].offset)))
        return;
    free(model->objects[which].bytes);
    model->objects[which] = model->objects[--model->count];
}

static void edit(struct work *work)
{
    struct model *model = work->model;
    if (model->count < 2)
        return;
    struct object *object = &model->objects[1 + roll(work->history) % (model->count - 1)];
    uint64_t start = roll(work->history) % object->length;
    uint64_t most = roll(work->history) % 2 == 0 ? 40 : object->length;
    uint64_t length = object->length - start < most ? object->length - start : most;
    change(work, object, start, between(work->history, 1, length));
}

static void resize(struct work *work)
{
    struct model *model = work->model;
    if (model->count == 0)
        return;
    uint32_t which = (uint32_t)(roll(work->history) % model->count); /* the root may move too */
    struct object *object = &model->objects[which];
    uint64_t length = which == 0 ? ROOT_BYTES + roll(work->history) % 64 : random_length(work);
    if (live_bytes(model) + length > work->history->live_max + object->length)
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

static void operate(struct work *work)
{
    uint64_t kind = roll(work->history) % 100;
    if (kind < 40)
        allocate(work);
    else if (kind < 58)
        release(work);
    else if (kind < 85)
        edit(work);
    else
        resize(work);
}

static void excursion(struct work *work, unsigned depth);

/* One operation; where stores are tracked, it may be an excursion in an excursion. */
static void operate_within(struct work *work, unsigned depth)
{
    if (work->history->track && depth < 3 && roll(work->history) % 4 == 0)
        excursion(work, depth + 1);
    else
        operate(work);
    if (work->history->track && roll(work->history) % 4 == 0)
        track_all(work);
}

/* Some operations, and as if they had never been. */
static void excursion(struct work *work, unsigned depth)
{
    uint32_t savepoint = 0;
    if (!good(work, pheap_savepoint(work->txn, &savepoint)))
        return;
    struct model *before = model_copy(work->model);
    uint64_t operations = between(work->history, 1, 4);
    for (uint64_t i = 0; i < operations; i++)
        operate_within(work, depth);
    bool keep = roll(work->history) % 3 == 0;
    if (!keep && good(work, pheap_rollback(work->txn, savepoint))) {
        model_release(work->model);
        work->model = before;
    } else {
        model_release(before);
    }
}

/* Write number, count and offsets into the root block. */
static bool seal(struct work *work, uint64_t k)
{
    struct model *model = work->model;
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

static bool says_aborted(enum pheap_status status)
{
    return status == PHEAP_IO || status == PHEAP_NO_MEMORY || status == PHEAP_TOO_BIG || status == PHEAP_LOG_FULL ||
           status == PHEAP_NO_SPACE || status == PHEAP_STRAY_STORE;
}

static void note(struct ph_sim *sim, enum ph_history_note kind, uint64_t value)
{
    if (sim != NULL)
        ph_sim_note(sim, kind, value);
}

static void finish(struct work *work, struct ph_sim *sim)
{
    struct ph_history *history = work->history;
    struct ph_step *step = work->step;
    uint64_t k = history->committed + 1;
    step->durable = roll(history) % 3 != 0;
    if (!seal(work, k) || work->doomed || roll(history) % 12 == 0) {
        (void)good(work, pheap_abort(work->txn));
        return;
    }
    note(sim, PH_NOTE_BEGUN, k);
    append(history, work->model); /* from here on it may be there, even if the process dies in the call */
    work->model = NULL;
    enum pheap_status status = pheap_commit(work->txn, step->durable ? PHEAP_DURABLE : PHEAP_LAZY, NULL);
    if (!good(work, status) && says_aborted(status)) {
        ph_history_settle(history, history->committed);
        return;
    }
    step->fate = status == PHEAP_OK ? PH_FATE_COMMITTED : PH_FATE_UNKNOWN;
    if (status != PHEAP_OK)
        return;
    history->committed = k;
    if (step->durable)
        note(sim, PH_NOTE_ACKNOWLEDGED, k);
}

void ph_history_step(struct ph_history *history, pheap *heap, struct ph_sim *sim, struct ph_step *step)
{
    *step = (struct ph_step){.fate = PH_FATE_ABORTED, .first_failure = PHEAP_OK};
    struct work work = {.history = history, .step = step};
    history->steps++;
    if (!good(&work, pheap_begin(heap, &work.txn)))
        return;
    if (history->count - 1 != history->committed) {
        (void)good(&work, pheap_abort(work.txn));
        step->accepted_after_unknown = true;
        return;
    }
    work.model = model_copy(history->models[history->committed]);
    if (history->track) {
        uint64_t kind = roll(history) % 8;
        work.track = kind == 0 ? TRACK_NOTHING : kind < 4 ? TRACK_SOME : TRACK_LATER;
        if (kind < 7)
            track_all(&work);
    }
    while (work.model->count == 0 && step->first_failure == PHEAP_OK)
        allocate(&work);
    uint64_t operations = between(history, 1, 5);
    for (uint64_t i = 0; i < operations && work.model->count > 0; i++) {
        if (roll(history) % 8 == 0)
            excursion(&work, 0);
        else
            operate(&work);
        track_all(&work);
    }
    finish(&work, sim);
    model_release(work.model);
}

/* The comparison. */

static bool differs(char *why, size_t why_bytes, const char *format, ...) __attribute__((format(printf, 3, 4)));

static bool differs(char *why, size_t why_bytes, const char *format, ...)
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

static bool same_blocks(const struct model *model, const pheap_read *reader, char *why, size_t why_bytes)
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
                                       : differs(why, why_bytes, "a block at %llu that should not be (%s)",
                                                 (unsigned long long)offset, pheap_status_name(status));
        if (status != PHEAP_OK)
            return differs(why, why_bytes, "no block at %llu: %s: %s", (unsigned long long)sorted[i]->offset,
                           pheap_status_name(status), pheap_error_detail());
        if (offset != sorted[i]->offset || length < sorted[i]->length)
            return differs(why, why_bytes, "a block of %llu bytes at %llu where %llu at %llu were expected",
                           (unsigned long long)length, (unsigned long long)offset,
                           (unsigned long long)sorted[i]->length, (unsigned long long)sorted[i]->offset);
        const uint8_t *bytes = pheap_read_ptr(reader, offset);
        uint64_t at = first_difference(bytes, sorted[i]->bytes, sorted[i]->length);
        if (at != sorted[i]->length)
            return differs(why, why_bytes, "block at %llu of %llu bytes differs from byte %llu on",
                           (unsigned long long)offset, (unsigned long long)sorted[i]->length, (unsigned long long)at);
        from = offset + length;
    }
    return true;
}

struct faults {
    unsigned count;
    char first[160];
};

static void on_fault(void *context, uint64_t offset, const char *text)
{
    struct faults *faults = context;
    if (faults->count++ == 0)
        (void)snprintf(faults->first, sizeof faults->first, "%llu: %s", (unsigned long long)offset, text);
}

bool ph_history_verify_reader(const struct ph_history *history, const pheap_read *reader, uint64_t least, uint64_t most,
                              uint64_t *k, char *why, size_t why_bytes)
{
    uint64_t root = pheap_read_root(reader), words[2] = {ROOT_MAGIC, 0};
    const void *address = NULL;
    if (root != 0) {
        enum pheap_status status = pheap_read_range(reader, root, ROOT_BYTES, &address);
        if (status != PHEAP_OK)
            return differs(why, why_bytes, "root %llu: %s: %s", (unsigned long long)root, pheap_status_name(status),
                           pheap_error_detail());
        memcpy(words, address, sizeof words);
    }
    uint64_t found = words[1];
    if (words[0] != ROOT_MAGIC || found >= history->count || history->models[found] == NULL)
        return differs(why, why_bytes, "the root block holds nonsense");
    if (k != NULL)
        *k = found;
    if (found < least || found > most)
        return differs(why, why_bytes, "transaction %llu is the last, but it must be one of %llu to %llu",
                       (unsigned long long)found, (unsigned long long)least, (unsigned long long)most);
    if (pheap_read_version(reader) != found)
        return differs(why, why_bytes, "version %llu shows transaction %llu",
                       (unsigned long long)pheap_read_version(reader), (unsigned long long)found);
    const struct model *model = history->models[found];
    if (root != (model->count == 0 ? 0 : model->objects[0].offset))
        return differs(why, why_bytes, "the root is at %llu", (unsigned long long)root);
    char place[160] = "";
    if (!same_blocks(model, reader, place, sizeof place))
        return differs(why, why_bytes, "after transaction %llu: %s", (unsigned long long)found, place);
    struct faults faults = {0};
    enum pheap_status status = pheap_check(reader, on_fault, NULL, &faults);
    if (status != PHEAP_OK || faults.count > 0)
        return differs(why, why_bytes, "the check says %s, %u faults, first %s", pheap_status_name(status),
                       faults.count, faults.first);
    return true;
}

/* No page is damaged, and none has lost its checksum; if the heap has them. */
static bool scrubs_clean(pheap *heap, char *why, size_t why_bytes)
{
    struct faults faults = {0};
    const struct pheap_scrub_options options = {.size = sizeof options, .fault = on_fault, .context = &faults};
    struct pheap_scrub_result result = {.size = sizeof result};
    enum pheap_status status = pheap_scrub(heap, &options, &result);
    if (status == PHEAP_UNSUPPORTED || (status == PHEAP_OK && result.unknown_pages == 0))
        return true;
    return differs(why, why_bytes, "the scrub says %s, %u faults, first %s, %llu pages unknown",
                   pheap_status_name(status), faults.count, faults.first, (unsigned long long)result.unknown_pages);
}

bool ph_history_verify(const struct ph_history *history, pheap *heap, uint64_t least, uint64_t most, uint64_t *k,
                       char *why, size_t why_bytes)
{
    pheap_read *reader = NULL;
    enum pheap_status status = pheap_read_begin(heap, PHEAP_FRESH, &reader);
    if (status != PHEAP_OK)
        return differs(why, why_bytes, "read: %s: %s", pheap_status_name(status), pheap_error_detail());
    bool same = ph_history_verify_reader(history, reader, least, most, k, why, why_bytes);
    pheap_read_end(reader);
    return same && scrubs_clean(heap, why, why_bytes);
}
