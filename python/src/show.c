/* SPDX-License-Identifier: MIT */
/* Values on their way out of the heap: see value.h. */
#include "python/src/block.h"
#include "python/src/record.h"

#include <stdlib.h>

/* Containers get proxies. */
static bool is_in_flight(const struct pp_shown *shown)
{
    return shown->kind >= PHT_MAP && !pp_compound(shown->kind);
}

/* Of the calling thread: a forked child has no other one. */
static _Thread_local unsigned long in_flight_here;

static void count_in_flight(long change)
{
    pp_in_flight += (unsigned long)change;
    in_flight_here += (unsigned long)change;
}

void pp_in_flight_of_child(void)
{
    pp_in_flight = in_flight_here;
}

void pp_shown_clear(struct pp_shown *shown)
{
    if (is_in_flight(shown))
        count_in_flight(-1);
    Py_CLEAR(shown->object);
    for (size_t i = 0; i < shown->count; i++)
        pp_shown_clear(&shown->parts[i]);
    free(shown->parts);
    shown->parts = NULL;
    shown->count = 0;
    shown->kind = 0;
}

static enum pheap_status show(struct pht *t, pht_value value, struct pp_shown *shown, unsigned depth, uint64_t *budget);

/* A tuple or frozenset. */
static enum pheap_status show_parts(struct pht *t, pht_value value, struct pp_shown *shown, unsigned depth,
                                    uint64_t *budget)
{
    uint64_t count;
    const bool tuple = shown->kind == PHT_TUPLE;
    enum pheap_status status = tuple ? pht_tuple_count(t, value, &count) : pht_frozenset_count(t, value, &count);
    if (status != PHEAP_OK)
        return status;
    if (depth == PP_DEPTH_MAX || count > *budget)
        return pheap_fail_with(PHEAP_TOO_BIG, "a tuple has too many elements, or tuples in it are nested too deep");
    *budget -= count;
    shown->parts = calloc(count == 0 ? 1 : (size_t)count, sizeof *shown->parts);
    if (shown->parts == NULL)
        return pheap_fail_with(PHEAP_NO_MEMORY, "no memory for a tuple");
    shown->count = (size_t)count;
    for (uint64_t i = 0; status == PHEAP_OK && i < count; i++) {
        pht_value element;
        status = tuple ? pht_tuple_get(t, value, i, &element) : pht_frozenset_get(t, value, i, &element);
        if (status == PHEAP_OK)
            status = show(t, element, &shown->parts[i], depth + 1, budget);
    }
    return status;
}

static enum pheap_status show(struct pht *t, pht_value value, struct pp_shown *shown, unsigned depth, uint64_t *budget)
{
    struct pht_any any;
    const enum pheap_status status = pht_show(t, &value, &any);
    if (status != PHEAP_OK)
        return status;
    shown->kind = any.kind;
    shown->word = value;
    shown->integer = 0;
    if (is_in_flight(shown))
        count_in_flight(1);
    if (any.kind == PHT_RECORD) {
        uint64_t offset;
        uint32_t number;
        const enum pheap_status found = pht_record_at(t, value, PHT_ANY_TYPE, &offset, &number);
        shown->integer = number;
        return found;
    }
    shown->negative = any.negative;
    switch (any.kind) {
    case PHT_STR:
        shown->object = PyUnicode_FromStringAndSize(any.bytes, (Py_ssize_t)any.length);
        break;
    case PHT_BYTES:
        shown->object = PyBytes_FromStringAndSize(any.bytes, (Py_ssize_t)any.length);
        break;
    case PHT_INT:
        if (any.bytes == NULL) {
            shown->integer = any.integer;
            return PHEAP_OK;
        }
        shown->object = PyBytes_FromStringAndSize(any.bytes, (Py_ssize_t)any.length * 8);
        break;
    case PHT_BOOL:
        shown->integer = any.integer;
        return PHEAP_OK;
    case PHT_FLOAT:
        shown->real = any.real;
        return PHEAP_OK;
    case PHT_TUPLE:
    case PHT_FROZENSET:
        return show_parts(t, value, shown, depth, budget);
    default:
        return PHEAP_OK;
    }
    return shown->object == NULL ? PHEAP_NO_MEMORY : PHEAP_OK;
}

enum pheap_status pp_show(struct pht *t, pht_value value, struct pp_shown *shown)
{
    uint64_t budget = UINT64_C(1) << 24;
    pp_shown_clear(shown);
    return show(t, value, shown, 0, &budget);
}

static PyObject *integer_of(const struct pp_shown *shown)
{
    PyObject *integer = PyObject_CallMethod((PyObject *)&PyLong_Type, "from_bytes", "Os", shown->object, "little");
    if (integer == NULL || !shown->negative)
        return integer;
    PyObject *negative = PyNumber_Negative(integer);
    Py_DECREF(integer);
    return negative;
}

static PyObject *make(struct pp_shown *shown, struct pp_heap *heap, struct pp_snapshot *snapshot);

static PyObject *make_parts(struct pp_shown *shown, struct pp_heap *heap, struct pp_snapshot *snapshot)
{
    PyObject *tuple = PyTuple_New((Py_ssize_t)shown->count);
    for (size_t i = 0; tuple != NULL && i < shown->count; i++) {
        PyObject *part = make(&shown->parts[i], heap, snapshot);
        if (part == NULL || PyTuple_SetItem(tuple, (Py_ssize_t)i, part) < 0)
            Py_CLEAR(tuple);
    }
    return tuple;
}

static PyObject *make(struct pp_shown *shown, struct pp_heap *heap, struct pp_snapshot *snapshot)
{
    switch (shown->kind) {
    case PHT_NONE:
        return Py_NewRef(Py_None);
    case PHT_BOOL:
        return PyBool_FromLong(shown->integer != 0);
    case PHT_FLOAT:
        return PyFloat_FromDouble(shown->real);
    case PHT_INT:
        return shown->object == NULL ? PyLong_FromLongLong(shown->integer) : integer_of(shown);
    case PHT_STR:
    case PHT_BYTES:
        return Py_NewRef(shown->object);
    case PHT_TUPLE:
        return make_parts(shown, heap, snapshot);
    case PHT_FROZENSET: {
        PyObject *parts = make_parts(shown, heap, snapshot);
        PyObject *set = parts == NULL ? NULL : PyFrozenSet_New(parts);
        Py_XDECREF(parts);
        return set;
    }
    case PHT_RECORD:
        return pp_record_of(heap, snapshot, shown->word, (uint32_t)shown->integer);
    default:
        break;
    }
    PyObject *object = pp_proxy_of(heap, snapshot, shown->word, shown->kind);
    if (object != NULL && pp_is_leaf(shown->kind) && shown->integer != 0 && !((struct pp_proxy *)object)->held) {
        ((struct pp_proxy *)object)->held = true;
        ((struct pp_proxy *)object)->hold = (uint64_t)shown->integer;
    }
    return object;
}

enum pheap_status pp_hold_shown(struct pp_heap *heap, struct pp_shown *shown)
{
    enum pheap_status status = PHEAP_OK;
    for (size_t i = 0; status == PHEAP_OK && i < shown->count; i++)
        status = pp_hold_shown(heap, &shown->parts[i]);
    if (status != PHEAP_OK || !pp_is_leaf(shown->kind) || heap->session.heap == NULL)
        return status;
    shown->integer = (int64_t)heap->now.serial;
    return pht_hold(&heap->now.view, &heap->session, shown->word);
}

PyObject *pp_make(struct pp_shown *shown, struct pp_heap *heap, struct pp_snapshot *snapshot)
{
    PyObject *object = make(shown, heap, snapshot);
    pp_shown_clear(shown);
    return object;
}

PyObject *pp_make_part(struct pp_shown *shown, int part, struct pp_heap *heap, struct pp_snapshot *snapshot)
{
    if (part != PP_ITEMS)
        return pp_make(&shown[part == PP_VALUES], heap, snapshot);
    PyObject *key = pp_make(&shown[0], heap, snapshot);
    PyObject *value = key == NULL ? NULL : pp_make(&shown[1], heap, snapshot);
    PyObject *pair = value == NULL ? NULL : PyTuple_Pack(2, key, value);
    Py_XDECREF(key);
    Py_XDECREF(value);
    return pair;
}
