/* SPDX-License-Identifier: MIT */
/*
 * Values: a script of operations on containers of every kind, against a plain model; and on a heap that somebody
 * damages meanwhile.
 *
 * Until something is damaged:
 *   F1  every call does what the model says, or fails for want of room, memory or log; then the transaction is aborted
 *   F2  a transaction sees what the model has: every container, in its order, with values of the very kind that was
 *       stored; so after rollback, abort, commit, closing, and the death of the process
 *   F3  a reader sees what the model had when it began
 *   F4  the heap passes pheap_check() and pht_check(); after a collection there is no garbage, and when all is removed
 *       every block comes back
 * From then on, and always:
 *   F5  every call returns, in time, and touches nothing outside the heap
 *   F6  fuzz/machine.h, M1 to M5
 *
 * Input: a script of the codes of act().
 */
#include "fuzz/machine.h"
#include "fuzz/reseal.h"
#include "fuzz/values_model.h"
#include "pheap/core.h"
#include "tests/types_content.h"
#include "tests/types_evil.h"

#include <stdio.h>
#include <stdlib.h>

#define OPERATIONS_MAX 150u
#define WORK_MAX 6000u /* elements that a script may store or take */
#define COMMITS_MAX 60u
#define LEVELS 2u
#define BLOCKS_MAX 4096u
#define RECORD_VALUES 4u
#define RING_CELLS 20u

struct run {
    const uint8_t *at, *end;
    pheap *heap;
    struct pht t; /* of the open transaction; without one its txn is NULL */
    pheap_read *reader;
    bool wanting; /* a call failed for want of something */
    bool damaged;
    uint64_t work, commits, opens, bare_blocks;
    uint32_t levels, savepoints[LEVELS];
    uint32_t record_type, cell_type;
};

/* Too large for a stack; one run at a time. */
static struct model now, committed, saved[LEVELS], read_model;

static uint8_t take(struct run *run)
{
    return run->at < run->end ? *run->at++ : 0;
}

static uint16_t take_key(struct run *run)
{
    const unsigned low = take(run);
    return (uint16_t)((low | (unsigned)take(run) << 8) % MODEL_KEYS);
}

/* Go on?  What a call may fail with is want of something; in a damaged heap, anything. */
static bool did(struct run *run, enum pheap_status status)
{
    if (status == PHEAP_OK || run->damaged)
        return status == PHEAP_OK;
    FUZZ_REQUIRE(status == PHEAP_NO_SPACE || status == PHEAP_NO_MEMORY || status == PHEAP_RESERVE ||
                 status == PHEAP_LOG_FULL || status == PHEAP_TOO_BIG || status == PHEAP_FULL ||
                 status == PHEAP_BUDGET); /* F1 */
    run->wanting = true;
    return false;
}

/* The model must agree, unless the heap is damaged. */
static void agree(const struct run *run, bool condition, const char *what)
{
    if (!run->damaged && !condition)
        fuzz_fail(__FILE__, __LINE__, what);
}
#define AGREE(condition) agree(run, condition, #condition)

/* --------------------------------------------------------------------------------------------------- plain values */

/* A key as a program has it; bytes in `text`, limbs in `limbs`.  A tuple has an int and a str. */
struct plain {
    char text[64];
    uint64_t limbs[2];
    struct pht_any parts[2];
};

static struct pht_any plain_any(uint16_t key, struct plain *plain)
{
    const bool negative = key % 16 == 14;
    const int length =
        snprintf(plain->text, sizeof plain->text, key % 2 == 0 ? "%04u" : "%04u: too long for a word", key);
    switch (key % 8) {
    case 0:
        return pht_int(key);
    case 1:
        return pht_float((double)(key - 1));
    case 2:
    case 3:
        return pht_str(plain->text, (uint64_t)length);
    case 4:
    case 5:
        return pht_bytes(plain->text, (uint64_t)length);
    case 6:
        plain->limbs[0] = key;
        plain->limbs[1] = 1;
        return pht_bigint(negative, plain->limbs, 2);
    default:
        plain->parts[0] = pht_int(key);
        plain->parts[1] = pht_str(plain->text, (uint64_t)length);
        return pht_make_any(PHT_TUPLE);
    }
}

/* The same as it may be given to a function: a tuple is made first, and *made is to be discarded. */
static bool give(struct run *run, uint16_t key, struct plain *plain, struct pht_any *any, pht_value *made)
{
    *made = PHT_ABSENT;
    *any = plain_any(key, plain);
    if (any->kind != PHT_TUPLE)
        return true;
    if (!did(run, pht_tuple_new(&run->t, plain->parts, 2, made)))
        return false;
    *any = pht_of(*made);
    return true;
}

static void done_with(struct run *run, pht_value made)
{
    if (made != PHT_ABSENT && !run->wanting)
        (void)did(run, pht_discard(&run->t, made));
}

static bool equal(struct run *run, struct pht *t, pht_value value, struct pht_any any)
{
    bool same = false;
    return did(run, pht_equal(t, pht_of(value), any, &same)) && same;
}

/* Is a value the plain one, of its very kind? */
static bool is_plain(struct run *run, struct pht *t, pht_value value, uint16_t key)
{
    struct plain plain;
    const struct pht_any any = plain_any(key, &plain);
    enum pht_kind kind;
    pht_value part;
    if (!did(run, pht_kind_of(t, value, &kind)) || kind != any.kind)
        return false;
    if (kind != PHT_TUPLE)
        return equal(run, t, value, any);
    uint64_t count;
    if (!did(run, pht_tuple_count(t, value, &count)) || count != 2)
        return false;
    for (uint64_t i = 0; i < 2; i++)
        if (!did(run, pht_tuple_get(t, value, i, &part)) || !equal(run, t, part, plain.parts[i]))
            return false;
    return true;
}

/* -------------------------------------------------------------------------------------------- the same as the model */

/* A walk over what the slots lead to. */
struct walk {
    struct run *run;
    struct pht *t;
    pht_value words[MODEL_OBJECTS]; /* where each object was found */
    uint8_t queue[MODEL_OBJECTS];
    unsigned queued;
};

static void same_value(struct walk *walk, pht_value value, uint16_t expected)
{
    if (expected == MODEL_ABSENT) {
        FUZZ_REQUIRE(value == PHT_ABSENT); /* F2 */
    } else if (expected < MODEL_KEYS) {
        FUZZ_REQUIRE(is_plain(walk->run, walk->t, value, expected));
    } else if (walk->words[expected - MODEL_KEYS] == PHT_ABSENT) {
        walk->words[expected - MODEL_KEYS] = value;
        walk->queue[walk->queued++] = (uint8_t)(expected - MODEL_KEYS);
    } else {
        FUZZ_REQUIRE(walk->words[expected - MODEL_KEYS] == value);
    }
}

static void must(enum pheap_status status)
{
    FUZZ_REQUIRE(status == PHEAP_OK);
}

static void same_entries(struct walk *walk, pht_value it, const struct model_object *object)
{
    struct pht *t = walk->t;
    uint64_t cursor = 0;
    pht_value key, value;
    for (uint32_t i = 0; i < object->count; i++) {
        if (object->kind == PHT_MAP)
            must(pht_map_next(t, it, &cursor, &key, &value));
        else if (object->kind == PHT_SET)
            must(pht_set_next(t, it, &cursor, &key));
        else
            must(pht_omap_at(t, it, i, &key, &value));
        FUZZ_REQUIRE(is_plain(walk->run, t, key, object->entries[i].key));
        if (object->kind != PHT_SET)
            same_value(walk, value, object->entries[i].value);
    }
    if (object->kind == PHT_MAP)
        FUZZ_REQUIRE(pht_map_next(t, it, &cursor, &key, &value) == PHEAP_END);
    else if (object->kind == PHT_SET)
        FUZZ_REQUIRE(pht_set_next(t, it, &cursor, &key) == PHEAP_END);
    else
        FUZZ_REQUIRE(pht_omap_at(t, it, object->count, &key, &value) == PHEAP_INVALID);
}

static void same_ring(struct walk *walk, pht_value ring, const struct model_object *object)
{
    uint64_t count, capacity, offset, cell;
    must(pht_ring_count(walk->t, ring, &count, &capacity));
    FUZZ_REQUIRE(count == object->count && capacity == RING_CELLS);
    for (uint64_t i = 0; i < count; i++) {
        must(pht_ring_at(walk->t, ring, walk->run->cell_type, i, &offset));
        memcpy(&cell, walk->t->base + offset, sizeof cell);
        FUZZ_REQUIRE(cell == object->entries[i].key);
    }
}

static void same_elements(struct walk *walk, pht_value it, const struct model_object *object)
{
    struct pht *t = walk->t;
    uint64_t count = 0;
    pht_value value;
    if (object->kind == PHT_LIST)
        must(pht_list_count(t, it, &count));
    else if (object->kind == PHT_QUEUE)
        must(pht_queue_count(t, it, &count));
    else if (object->kind == PHT_TUPLE)
        must(pht_tuple_count(t, it, &count));
    else
        count = RECORD_VALUES;
    FUZZ_REQUIRE(count == object->count);
    for (uint32_t i = 0; i < object->count; i++) {
        must(object->kind == PHT_LIST    ? pht_list_get(t, it, i, &value)
             : object->kind == PHT_QUEUE ? pht_queue_get(t, it, i, &value)
             : object->kind == PHT_TUPLE ? pht_tuple_get(t, it, i, &value)
                                         : pht_record_get(t, it, UINT64_C(8) * i, &value));
        same_value(walk, value, object->entries[i].value);
    }
}

/* F2, F3 */
static void compare(struct run *run, struct pht *t, const struct model *model)
{
    struct walk walk = {.run = run, .t = t};
    uint64_t count, used = 0;
    pht_value value;
    for (unsigned i = 0; i < MODEL_SLOTS; i++) {
        must(pht_map_get(t, pht_root(t), pht_int(i), &value));
        used += model->slots[i] >= 0;
        same_value(&walk, value,
                   model->slots[i] < 0 ? MODEL_ABSENT : (uint16_t)(MODEL_KEYS + (unsigned)model->slots[i]));
    }
    must(pht_map_count(t, pht_root(t), &count));
    FUZZ_REQUIRE(count == used);
    for (unsigned visited = 0; visited < walk.queued; visited++) {
        const struct model_object *object = &model->objects[walk.queue[visited]];
        const pht_value it = walk.words[walk.queue[visited]];
        enum pht_kind kind;
        must(pht_kind_of(t, it, &kind));
        FUZZ_REQUIRE(kind == object->kind);
        if (kind == PHT_MAP || kind == PHT_SET || kind == PHT_OMAP)
            same_entries(&walk, it, object);
        else if (kind == PHT_RING)
            same_ring(&walk, it, object);
        else
            same_elements(&walk, it, object);
    }
}

/* F4 */
static void check(struct run *run)
{
    struct pht t;
    pheap_read *reader;
    struct pht_census census = {.size = sizeof census};
    if (run->heap == NULL || pheap_read_begin_timeout(run->heap, 0, 0, &reader) != PHEAP_OK)
        return;
    must(pheap_check(reader, NULL, NULL, NULL));
    const enum pheap_status status = pht_look(reader, &t);
    if (status == PHEAP_OK && run->damaged) {
        ignored = pht_check(&t, ignore_fault, NULL, &census);
        ask(&t, pht_root(&t), 2);
    } else if (!run->damaged) {
        must(status);
        must(pht_check(&t, NULL, NULL, &census));
        FUZZ_REQUIRE(census.unknown == 0 && census.faults == 0);
    }
    (void)pheap_read_end(reader);
}

/* -------------------------------------------------------------------------------------------------- transactions */

static void open_heap(struct run *run)
{
    const struct pheap_options options = {.size = sizeof options,
                                          .reserve_bytes = UINT64_C(64) << 20,
                                          .budget_bytes = UINT64_C(16) << 20,
                                          .log_limit_bytes = UINT64_C(4) << 20,
                                          .segment_bytes = 1u << 18,
                                          .buffer_bytes = 1u << 18,
                                          .pin_wait_ms = 10};
    if (run->heap == NULL && run->opens++ < 6)
        (void)!ph_open_io(fuzz_machine_io(0), FUZZ_PATH, PHEAP_CREATE, &options, &run->heap);
}

/* The types have the same numbers each time. */
static bool register_types(struct run *run)
{
    const struct pht_field values = {.name = "v", .kind = PHT_FIELD_VALUE, .size = 8, .count = RECORD_VALUES};
    const struct pht_field number = {.name = "n", .kind = PHT_FIELD_UNSIGNED, .size = 8, .count = 1};
    const struct pht_layout record = {.name = "record", .size = 32, .field_count = 1, .fields = &values};
    const struct pht_layout cell = {.name = "cell", .size = 8, .field_count = 1, .fields = &number};
    if (!did(run, pht_type_register(&run->t, &record, &run->record_type)) ||
        !did(run, pht_type_register(&run->t, &cell, &run->cell_type)))
        return false;
    AGREE(run->record_type == 0 && run->cell_type == 1);
    return true;
}

static void roll_back_all(struct run *run)
{
    if (run->t.txn != NULL)
        (void)!pheap_abort(run->t.txn);
    run->t.txn = NULL;
    run->wanting = false;
    run->levels = 0;
    now = committed;
}

/* True: there is an open one. */
static bool transact(struct run *run)
{
    pheap_txn *txn;
    if (run->t.txn != NULL)
        return true;
    if (run->heap == NULL || run->commits >= COMMITS_MAX || pheap_begin_timeout(run->heap, 0, &txn) != PHEAP_OK)
        return false;
    const enum pheap_status status = pht_begin(txn, &run->t);
    if (status == PHEAP_OK)
        return true;
    run->t.txn = NULL;
    (void)did(run, status);
    (void)!pheap_abort(txn);
    run->wanting = false;
    return false;
}

static void commit(struct run *run)
{
    if (run->t.txn == NULL)
        return;
    run->commits++;
    const enum pheap_status status = pheap_commit(run->t.txn, PHEAP_LAZY, NULL);
    run->t.txn = NULL;
    run->levels = 0;
    if (status == PHEAP_OK)
        committed = now;
    else
        roll_back_all(run);
}

static void end_reader(struct run *run)
{
    struct pht t;
    if (run->reader == NULL)
        return;
    if (!run->damaged) {
        must(pht_look(run->reader, &t));
        compare(run, &t, &read_model); /* F3 */
    }
    (void)pheap_read_end(run->reader);
    run->reader = NULL;
}

static void begin_reader(struct run *run)
{
    if (run->heap == NULL || run->reader != NULL || run->damaged ||
        pheap_read_begin_timeout(run->heap, PHEAP_FRESH, 0, &run->reader) != PHEAP_OK)
        return;
    read_model = committed;
}

static void savepoint(struct run *run, uint8_t code)
{
    if (!transact(run))
        return;
    if (code % 2 == 0 && run->levels < LEVELS) {
        if (did(run, pheap_savepoint(run->t.txn, &run->savepoints[run->levels])))
            saved[run->levels++] = now;
    } else if (run->levels > 0) {
        --run->levels;
        pheap_txn *txn = run->t.txn;
        must(pheap_rollback(txn, run->savepoints[run->levels]));
        const enum pheap_status status = pht_begin(txn, &run->t);
        now = saved[run->levels];
        if (!did(run, status)) {
            run->t.txn = txn;
            roll_back_all(run);
        }
    }
}

static void close_heap(struct run *run)
{
    end_reader(run);
    FUZZ_REQUIRE(pheap_close(run->heap) != PHEAP_BUSY);
    run->heap = NULL;
}

/* Close and open; or every process dies, and only what was committed is there. */
static void open_again(struct run *run, uint8_t code)
{
    if (code % 2 == 0)
        commit(run);
    else
        fuzz_machine_snapshot();
    roll_back_all(run);
    close_heap(run);
    if (code % 2 != 0)
        fuzz_machine_revert(true);
    open_heap(run);
}

static void collect(struct run *run)
{
    struct pht t;
    pheap_read *reader;
    struct pht_census census = {.size = sizeof census};
    commit(run);
    end_reader(run);
    if (run->heap == NULL || run->commits++ >= COMMITS_MAX)
        return;
    const enum pheap_status status = pht_collect(run->heap, PHEAP_LAZY, NULL);
    if (!did(run, status) || run->damaged) {
        run->wanting = false;
        return;
    }
    must(pheap_read_begin(run->heap, PHEAP_FRESH, &reader));
    must(pht_look(reader, &t));
    must(pht_check(&t, NULL, NULL, &census));
    FUZZ_REQUIRE(census.garbage == 0); /* F4 */
    (void)pheap_read_end(reader);
}

/* ------------------------------------------------------------------------------------------------------ operations */

/* The container in a slot. */
static bool find(struct run *run, unsigned slot, pht_value *it)
{
    return now.slots[slot] >= 0 && did(run, pht_map_get(&run->t, pht_root(&run->t), pht_int(slot), it));
}

/* Something to be stored: plain, or a container that is in a slot. */
static bool take_value(struct run *run, uint16_t *value, struct plain *plain, struct pht_any *any, pht_value *made)
{
    const uint8_t code = take(run);
    *made = PHT_ABSENT;
    if (code % 4 == 3 && now.slots[code / 4 % MODEL_SLOTS] >= 0) {
        pht_value it;
        const unsigned slot = code / 4 % MODEL_SLOTS;
        *value = (uint16_t)(MODEL_KEYS + (unsigned)now.slots[slot]);
        if (!find(run, slot, &it))
            return false;
        *any = pht_of(it);
        return true;
    }
    *value = (uint16_t)(code * 4u + code % 4);
    return give(run, *value, plain, any, made);
}

static void new_object(struct run *run, unsigned slot, uint8_t which)
{
    static const enum pht_kind kinds[8] = {PHT_MAP,   PHT_SET,  PHT_LIST,   PHT_TUPLE,
                                           PHT_QUEUE, PHT_OMAP, PHT_RECORD, PHT_RING};
    struct pht *t = &run->t;
    const enum pht_kind kind = kinds[which % 8];
    const int index = model_spare(&now);
    struct model_object *object = &now.objects[index < 0 ? 0 : index];
    pht_value it, parts[3] = {PHT_ABSENT, PHT_ABSENT, PHT_ABSENT};
    struct plain plain[3];
    struct pht_any any[3];
    if (index < 0 || ((kind == PHT_RECORD || kind == PHT_RING) && !register_types(run)))
        return;
    *object = (struct model_object){.kind = kind};
    if (kind == PHT_TUPLE) {
        for (; object->count < which / 8 % 4; object->count++)
            if (!take_value(run, &object->entries[object->count].value, &plain[object->count], &any[object->count],
                            &parts[object->count]))
                return;
    } else if (kind == PHT_RECORD) {
        for (; object->count < RECORD_VALUES; object->count++)
            object->entries[object->count].value = MODEL_ABSENT;
    }
    if (!did(run, kind == PHT_MAP      ? pht_map_new(t, &it)
                  : kind == PHT_SET    ? pht_set_new(t, &it)
                  : kind == PHT_LIST   ? pht_list_new(t, &it)
                  : kind == PHT_TUPLE  ? pht_tuple_new(t, any, object->count, &it)
                  : kind == PHT_QUEUE  ? pht_queue_new(t, &it)
                  : kind == PHT_OMAP   ? pht_omap_new(t, &it)
                  : kind == PHT_RECORD ? pht_record_new(t, run->record_type, &it)
                                       : pht_ring_new(t, run->cell_type, RING_CELLS, &it)))
        return;
    for (unsigned i = 0; i < 3; i++)
        done_with(run, parts[i]);
    if (!run->wanting && did(run, pht_map_set(t, pht_root(t), pht_int(slot), pht_of(it))))
        now.slots[slot] = (int8_t)index;
}

static void on_map(struct run *run, pht_value it, struct model_object *object, uint8_t how, uint16_t key)
{
    struct pht *t = &run->t;
    struct plain plain, value_plain;
    struct pht_any any, value_any;
    pht_value made, value_made, found;
    uint16_t value;
    const int at = model_find(object, key);
    bool has = false;
    if (how % 8 == 7 && object->count > 64) {
        if (did(run, object->kind == PHT_MAP ? pht_map_clear(t, it) : pht_set_clear(t, it)))
            object->count = 0;
        return;
    }
    if (!give(run, key, &plain, &any, &made))
        return;
    if (how % 8 < 5 && object->count < MODEL_ENTRIES) {
        if (object->kind == PHT_SET) {
            if (did(run, pht_set_add(t, it, any, &has))) {
                AGREE(has == (at < 0));
                if (at < 0)
                    model_insert(object, object->count, key, 0);
            }
        } else if (take_value(run, &value, &value_plain, &value_any, &value_made)) {
            if (how % 8 == 4 && did(run, pht_map_add(t, it, any, value_any, &found))) {
                AGREE((found == PHT_ABSENT) == (at < 0));
                if (at < 0)
                    model_insert(object, object->count, key, value);
            } else if (how % 8 < 4 && did(run, pht_map_set(t, it, any, value_any))) {
                if (at < 0)
                    model_insert(object, object->count, key, value);
                else
                    object->entries[at].value = value;
            }
            done_with(run, value_made);
        }
    } else if (object->kind == PHT_SET) {
        if (did(run, pht_set_has(t, it, any, &has)))
            AGREE(has == (at >= 0));
        if (did(run, pht_set_remove(t, it, any, &has)) && at >= 0)
            model_remove(object, (uint32_t)at);
    } else if (did(run, pht_map_get(t, it, any, &found))) {
        AGREE((found != PHT_ABSENT) == (at >= 0));
        if (did(run, pht_map_remove(t, it, any, NULL)) && at >= 0)
            model_remove(object, (uint32_t)at);
    }
    done_with(run, made);
}

static void on_omap(struct run *run, pht_value it, struct model_object *object, uint8_t how, uint16_t key)
{
    struct pht *t = &run->t;
    struct plain plain, value_plain;
    struct pht_any any, value_any;
    pht_value made, value_made;
    uint16_t value;
    uint64_t rank = 0;
    bool found = false, there = false;
    if (how % 8 == 7 && object->count > 64) {
        if (did(run, pht_omap_clear(t, it)))
            object->count = 0;
        return;
    }
    if (!give(run, key, &plain, &any, &made))
        return;
    if (object->count > 0 && model_family(object->entries[0].key) != model_family(key)) {
        const enum pheap_status status = pht_omap_set(t, it, any, pht_int(1));
        AGREE(status == PHEAP_WRONG_TYPE);
        done_with(run, made);
        return;
    }
    const uint32_t at = model_rank(object, key, &there);
    if (did(run, pht_omap_rank(t, it, any, &rank, &found)))
        AGREE(rank == at && found == there);
    if (how % 8 < 5 && object->count < MODEL_ENTRIES) {
        if (take_value(run, &value, &value_plain, &value_any, &value_made)) {
            if (did(run, pht_omap_set(t, it, any, value_any))) {
                if (there)
                    object->entries[at].value = value;
                else
                    model_insert(object, at, key, value);
            }
            done_with(run, value_made);
        }
    } else if (did(run, pht_omap_remove(t, it, any, NULL)) && there) {
        model_remove(object, at);
    }
    done_with(run, made);
}

static void on_list(struct run *run, pht_value it, struct model_object *object, uint8_t how, uint16_t place)
{
    struct pht *t = &run->t;
    struct plain plain;
    struct pht_any any;
    pht_value made;
    uint16_t value;
    const uint32_t count = object->count, at = count == 0 ? 0 : place % count;
    if (how % 8 == 7 && count > 64) {
        if (did(run, pht_list_clear(t, it)))
            object->count = 0;
    } else if (how % 8 < 5 && count < MODEL_ENTRIES) {
        if (!take_value(run, &value, &plain, &any, &made))
            return;
        if (how % 8 == 4 && count > 0) {
            if (did(run, pht_list_set(t, it, at, any)))
                object->entries[at].value = value;
        } else if (how % 8 < 2) {
            if (did(run, pht_list_append(t, it, any)))
                model_insert(object, count, 0, value);
        } else if (did(run, pht_list_insert(t, it, place % (count + 1), any))) {
            model_insert(object, place % (count + 1), 0, value);
        }
        done_with(run, made);
    } else if (count == 0) {
        const enum pheap_status status = pht_list_remove(t, it, 0, NULL);
        AGREE(status == PHEAP_INVALID);
    } else if (did(run, pht_list_remove(t, it, at, NULL))) {
        model_remove(object, at);
    }
}

static void on_queue(struct run *run, pht_value it, struct model_object *object, uint8_t how, uint16_t place)
{
    struct pht *t = &run->t;
    struct plain plain;
    struct pht_any any;
    pht_value made;
    uint16_t value;
    const bool front = how / 8 % 2 == 0;
    if (how % 8 == 7 && object->count > 64) {
        if (did(run, pht_queue_clear(t, it)))
            object->count = 0;
    } else if (how % 8 < 5 && object->count < MODEL_ENTRIES) {
        if (!take_value(run, &value, &plain, &any, &made))
            return;
        if (how % 8 == 4 && object->count > 0) {
            if (did(run, pht_queue_set(t, it, place % object->count, any)))
                object->entries[place % object->count].value = value;
        } else if (did(run, pht_queue_push(t, it, front, any))) {
            model_insert(object, front ? 0 : object->count, 0, value);
        }
        done_with(run, made);
    } else if (did(run, pht_queue_pop(t, it, front, NULL)) && object->count > 0) {
        model_remove(object, front ? 0 : object->count - 1);
    }
}

static void on_record(struct run *run, pht_value it, struct model_object *object, uint8_t how, uint16_t place)
{
    struct plain plain;
    struct pht_any any = pht_of(PHT_ABSENT);
    pht_value made = PHT_ABSENT;
    uint16_t value = MODEL_ABSENT;
    const uint32_t at = place % RECORD_VALUES;
    if (how % 8 != 0 && !take_value(run, &value, &plain, &any, &made))
        return;
    if (did(run, pht_record_set(&run->t, it, UINT64_C(8) * at, any)))
        object->entries[at].value = value;
    done_with(run, made);
}

static void on_ring(struct run *run, pht_value it, struct model_object *object, uint8_t how, uint16_t number)
{
    uint64_t offset;
    if (how % 8 < 6) {
        if (!did(run, pht_ring_push(&run->t, it, run->cell_type, &offset)))
            return;
        const uint64_t cell = number;
        if (offset <= run->t.size - sizeof cell)
            memcpy(run->t.base + offset, &cell, sizeof cell);
        if (object->count == RING_CELLS)
            model_remove(object, 0);
        model_insert(object, object->count, number, 0);
    } else if (object->count == 0) {
        const enum pheap_status status = pht_ring_pop(&run->t, it);
        AGREE(status == PHEAP_INVALID);
    } else if (did(run, pht_ring_pop(&run->t, it))) {
        model_remove(object, 0);
    }
}

/* One operation on the container in a slot, or the same on several keys or places. */
static void operate(struct run *run, unsigned slot)
{
    const uint8_t how = take(run), more = take(run);
    uint16_t key = take_key(run);
    pht_value it;
    if (!transact(run))
        return;
    if (now.slots[slot] < 0) {
        new_object(run, slot, how);
    } else if (how >= 240) {
        if (did(run, pht_map_remove(&run->t, pht_root(&run->t), pht_int(slot), NULL)))
            now.slots[slot] = -1;
    } else if (find(run, slot, &it)) {
        struct model_object *object = &now.objects[now.slots[slot]];
        const uint8_t *values = run->at;
        for (unsigned left = more % 4 == 3 ? more : 1; left > 0 && !run->wanting && run->work < WORK_MAX; left--) {
            run->work++;
            if (run->at - values > 8)
                run->at = values; /* the same values again */
            if (object->kind == PHT_MAP || object->kind == PHT_SET)
                on_map(run, it, object, how, key);
            else if (object->kind == PHT_OMAP)
                on_omap(run, it, object, how, key);
            else if (object->kind == PHT_LIST)
                on_list(run, it, object, how, key);
            else if (object->kind == PHT_QUEUE)
                on_queue(run, it, object, how, key);
            else if (object->kind == PHT_RECORD)
                on_record(run, it, object, how, key);
            else if (object->kind == PHT_RING)
                on_ring(run, it, object, how, key);
            key = (uint16_t)((key + (object->kind == PHT_OMAP ? 8u : 1u + how / 64u)) % MODEL_KEYS);
            if (run->damaged)
                run->t.failed = PHEAP_OK; /* as a program would that does not listen */
        }
    }
    if (run->wanting)
        roll_back_all(run);
}

/* -------------------------------------------------------------------------------------------------------- damage */

/* Up to four words of a block become what might hurt. */
static void damage(struct run *run)
{
    static uint64_t offsets[BLOCKS_MAX], lengths[BLOCKS_MAX];
    const uint8_t block = take(run), place = take(run), how = take(run), more = take(run);
    uint64_t count = 0, from = 0, dice = (uint64_t)how << 8 | more;
    pheap_read *reader;
    pheap_txn *txn;
    commit(run);
    end_reader(run);
    if (run->heap == NULL || run->commits++ >= COMMITS_MAX ||
        pheap_read_begin_timeout(run->heap, PHEAP_FRESH, 0, &reader) != PHEAP_OK)
        return;
    while (count < BLOCKS_MAX && pheap_read_next_block(reader, from, &offsets[count], &lengths[count]) == PHEAP_OK) {
        from = offsets[count] + lengths[count];
        count++;
    }
    (void)pheap_read_end(reader);
    if (count == 0 || pheap_begin_timeout(run->heap, 0, &txn) != PHEAP_OK)
        return;
    run->damaged = true;
    const uint64_t chosen = block % 2 == 0 ? block / 2 % count : (uint64_t)block * more % count;
    const uint64_t words = lengths[chosen] / 8;
    for (unsigned i = 0; i < 1u + more % 4; i++) {
        const uint64_t at = offsets[chosen] + (place + i * (1u + more / 4 % 3)) % words * 8;
        uint64_t word;
        memcpy(&word, pheap_ptr(txn, at), sizeof word);
        word = evil(word, (how + i) % EVILS, offsets[dice_roll(&dice) % count], &dice);
        ignored = pheap_write(txn, at, &word, sizeof word);
    }
    (void)!pheap_commit(txn, PHEAP_LAZY, NULL);
}

/* ------------------------------------------------------------------------------------------------------ the script */

static void look(struct run *run)
{
    if (run->damaged && run->t.txn != NULL)
        ask(&run->t, pht_root(&run->t), 2);
    else if (run->t.txn != NULL)
        compare(run, &run->t, &now);
    else
        check(run);
}

static void act(struct run *run)
{
    const uint8_t code = take(run);
    open_heap(run);
    if (code < 160)
        operate(run, code % MODEL_SLOTS);
    else if (code < 176)
        commit(run);
    else if (code < 184)
        savepoint(run, code);
    else if (code < 190)
        roll_back_all(run);
    else if (code < 200)
        look(run);
    else if (code < 206)
        open_again(run, code);
    else if (code < 212)
        collect(run);
    else if (code < 216)
        begin_reader(run);
    else if (code < 220)
        end_reader(run);
    else if (code < 226) {
        if (transact(run) && !did(run, pht_reclaim(&run->t, code, NULL)) && run->wanting)
            roll_back_all(run);
    } else if (code < 228) {
        if (transact(run) && run->damaged)
            ignored = pht_forget_limbo(&run->t);
    } else if (code >= 240)
        damage(run);
}

static uint64_t live_blocks(struct run *run)
{
    struct pheap_space space = {.size = sizeof space};
    pheap_read *reader;
    must(pheap_read_begin(run->heap, PHEAP_FRESH, &reader));
    must(pheap_get_space(reader, &space, NULL, NULL));
    (void)pheap_read_end(reader);
    return space.live_blocks;
}

/* The registry, the root map and the types are there, in a commit. */
static bool prepare(struct run *run)
{
    model_init(&now);
    committed = now;
    open_heap(run);
    if (!transact(run) || !did(run, content_fix_hash_key(&run->t)) || !register_types(run))
        return false;
    commit(run);
    run->bare_blocks = live_blocks(run);
    return true;
}

/* All is removed and collected: nothing is left. */
static void take_all_back(struct run *run)
{
    bool more = true;
    commit(run);
    end_reader(run);
    if (!transact(run) || !did(run, pht_map_clear(&run->t, pht_root(&run->t))))
        return;
    while (more)
        if (!did(run, pht_reclaim(&run->t, 1000, &more)))
            return;
    memset(now.slots, -1, sizeof now.slots);
    commit(run);
    if (committed.slots[0] >= 0 || !did(run, pht_collect(run->heap, PHEAP_LAZY, NULL)))
        return;
    FUZZ_REQUIRE(live_blocks(run) == run->bare_blocks); /* F4 */
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const struct fuzz_input nothing = {0};
    if (size > FUZZ_INPUT_MAX)
        return -1;
    struct run run = {.at = data, .end = data + size};
    fuzz_machine_start(&nothing);
    if (prepare(&run)) {
        for (unsigned i = 0; i < OPERATIONS_MAX && run.at < run.end; i++)
            act(&run);
        look(&run);
        commit(&run);
        run.opens = run.commits = 0;
        open_again(&run, 0);
        check(&run);
        if (transact(&run)) {
            look(&run);
            if (!run.damaged)
                take_all_back(&run);
        }
    }
    roll_back_all(&run);
    close_heap(&run);
    fuzz_machine_stop();
    return 0;
}
