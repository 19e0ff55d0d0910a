/* SPDX-License-Identifier: MIT */
/* Values between Python and the heap: see value.h. */
#include "python/src/value.h"

#include <stdlib.h>

/* Of tuples within tuples, on their way in and out of a heap; and of keys, as pht_hash() has it. */
enum { DEPTH_MAX = 200, KEY_DEPTH_MAX = 63, KEY_WEIGHT_MAX = 1 << 16 };

/* -------------------------------------------------------------------------------------------------------- plans */

void pp_plan_begin(struct pp_plan *plan, struct pp_heap *heap)
{
    memset(plan, 0, sizeof *plan);
    plan->heap = heap;
}

void pp_plan_end(struct pp_plan *plan)
{
    PyMem_Free(plan->items);
    PyMem_Free(plan->boxes);
    PyMem_Free(plan->sorted);
    Py_XDECREF(plan->keep);
    Py_XDECREF(plan->memo);
}

/* Room for one more of `size` bytes in an array. */
static int grow(void **array, size_t count, size_t *room, size_t size)
{
    if (count < *room)
        return 0;
    const size_t larger = *room == 0 ? 4 : 2 * *room;
    void *moved = larger > SIZE_MAX / 2 / size ? NULL : PyMem_Realloc(*array, larger * size);
    if (moved == NULL) {
        PyErr_NoMemory();
        return -1;
    }
    *array = moved;
    *room = larger;
    return 0;
}

static int keep(struct pp_plan *plan, PyObject *object)
{
    if (plan->keep == NULL && (plan->keep = PyList_New(0)) == NULL)
        return -1;
    return PyList_Append(plan->keep, object);
}

/* An int beyond 64 bits, as limbs in a bytes object. */
static PyObject *limbs_of(PyObject *integer, bool *negative)
{
    PyObject *zero = PyLong_FromLong(0), *bytes = NULL, *magnitude = NULL, *bits = NULL;
    const int less = zero == NULL ? -1 : PyObject_RichCompareBool(integer, zero, Py_LT);
    if (less < 0)
        goto done;
    *negative = less;
    magnitude = PyNumber_Absolute(integer);
    bits = magnitude == NULL ? NULL : PyObject_CallMethod(magnitude, "bit_length", NULL);
    if (bits == NULL)
        goto done;
    const Py_ssize_t count = PyLong_AsSsize_t(bits);
    if (count >= 0)
        bytes = PyObject_CallMethod(magnitude, "to_bytes", "ns", (count + 63) / 64 * 8, "little");
done:
    Py_XDECREF(zero);
    Py_XDECREF(magnitude);
    Py_XDECREF(bits);
    return bytes;
}

/* An int, float, str or bytes, also of a subclass.  *holder: a new reference that the value needs, or NULL. */
static int scalar(PyObject *object, struct pht_any *any, PyObject **holder)
{
    *holder = NULL;
    if (PyLong_Check(object)) {
        int overflow;
        const long long integer = PyLong_AsLongLongAndOverflow(object, &overflow);
        if (overflow == 0) {
            *any = pht_int(integer);
            return integer == -1 && PyErr_Occurred() ? -1 : 0;
        }
        bool negative = false;
        PyObject *limbs = limbs_of(object, &negative);
        if (limbs == NULL)
            return -1;
        *holder = limbs;
        /* The bytes of a bytes object are aligned to 8 at least, but the language does not say so. */
        *any = pht_make_any(PHT_INT);
        any->negative = negative;
        any->bytes = PyBytes_AsString(limbs);
        any->length = (uint64_t)PyBytes_Size(limbs) / 8;
        return 0;
    }
    if (PyFloat_Check(object)) {
        *any = pht_float(PyFloat_AsDouble(object));
        return 0;
    }
    if (PyUnicode_Check(object)) {
        Py_ssize_t length;
        const char *utf8 = PyUnicode_AsUTF8AndSize(object, &length);
        if (utf8 == NULL)
            return -1; /* UnicodeEncodeError: a surrogate */
        *any = pht_str(utf8, (uint64_t)length);
    } else {
        char *bytes;
        Py_ssize_t length;
        if (PyBytes_AsStringAndSize(object, &bytes, &length) < 0)
            return -1;
        *any = pht_bytes(bytes, (uint64_t)length);
    }
    *holder = Py_NewRef(object);
    return 0;
}

/* A number of a box for this container: that of the same one met before, or a new one. */
static Py_ssize_t box_of(struct pp_plan *plan, PyObject *source, enum pht_kind kind)
{
    PyObject *identity = PyLong_FromVoidPtr(source), *known;
    Py_ssize_t number = -1;
    if (identity == NULL || (plan->memo == NULL && (plan->memo = PyDict_New()) == NULL))
        goto done;
    known = PyDict_GetItemWithError(plan->memo, identity);
    if (known != NULL) {
        number = PyLong_AsSsize_t(known);
        goto done;
    }
    if (PyErr_Occurred() || keep(plan, source) < 0 ||
        grow((void **)&plan->boxes, plan->box_count, &plan->box_room, sizeof *plan->boxes) < 0)
        goto done;
    PyObject *index = PyLong_FromSize_t(plan->box_count);
    if (index != NULL && PyDict_SetItem(plan->memo, identity, index) == 0) {
        number = (Py_ssize_t)plan->box_count;
        plan->boxes[plan->box_count++] = (struct pp_box){.kind = kind, .source = source};
    }
    Py_XDECREF(index);
done:
    Py_XDECREF(identity);
    return number;
}

static enum pht_kind container_kind(const struct pp_state *state, PyObject *object)
{
    return PyDict_CheckExact(object)                       ? PHT_MAP
           : PyList_CheckExact(object)                     ? PHT_LIST
           : PySet_CheckExact(object)                      ? PHT_SET
           : PyTuple_CheckExact(object)                    ? PHT_TUPLE
           : PyFrozenSet_CheckExact(object)                ? PHT_FROZENSET
           : (PyObject *)Py_TYPE(object) == state->deque   ? PHT_QUEUE
           : (PyObject *)Py_TYPE(object) == state->ordered ? PHT_OMAP
                                                           : PHT_NONE;
}

static bool is_compound(enum pht_kind kind)
{
    return kind == PHT_TUPLE || kind == PHT_FROZENSET;
}

static bool is_map(enum pht_kind kind)
{
    return kind == PHT_MAP || kind == PHT_OMAP;
}

static int is_plain_scalar(PyObject *object)
{
    return PyLong_CheckExact(object) || PyUnicode_CheckExact(object) || PyFloat_CheckExact(object) ||
           PyBytes_CheckExact(object);
}

/* A container of this heap is stored as it is, a dead one not at all; one of another heap, or of a snapshot, is copied. */
static int plan_proxy(struct pp_plan *plan, PyObject *value, struct pp_item *item)
{
    struct pp_proxy *proxy = (struct pp_proxy *)value;
    if (proxy->heap == plan->heap && proxy->snapshot == NULL && !proxy->dead) {
        item->any = pht_of(proxy->word);
        return keep(plan, value);
    }
    PyObject *plain = PyObject_CallMethod(value, "plain", NULL);
    if (plain == NULL)
        return -1;
    const enum pht_kind kind = container_kind(plan->heap->state, plain);
    item->box = kind == PHT_NONE ? -1 : box_of(plan, plain, kind);
    Py_DECREF(plain);
    if (item->box < 0 && !PyErr_Occurred())
        PyErr_SetString(PyExc_TypeError, "plain() gave no plain container");
    return item->box < 0 ? -1 : 0;
}

int pp_plan_add(struct pp_plan *plan, PyObject *value)
{
    struct pp_item item = {.box = -1};
    PyObject *holder = NULL;
    if (value == Py_None) {
        item.any = pht_none();
    } else if (PyBool_Check(value)) {
        item.any = pht_bool(value == Py_True);
    } else if (is_plain_scalar(value)) {
        if (scalar(value, &item.any, &holder) < 0)
            return -1;
    } else if (container_kind(plan->heap->state, value) != PHT_NONE) {
        item.box = box_of(plan, value, container_kind(plan->heap->state, value));
        if (item.box < 0)
            return -1;
    } else if (PyObject_TypeCheck(value, plan->heap->state->proxy)) {
        if (plan_proxy(plan, value, &item) < 0)
            return -1;
    } else {
        PyErr_Format(PyExc_TypeError, "a heap cannot store objects of type %R", (PyObject *)Py_TYPE(value));
        return -1;
    }
    if (holder != NULL) {
        const int kept = keep(plan, holder);
        Py_DECREF(holder);
        if (kept < 0)
            return -1;
    }
    if (grow((void **)&plan->items, plan->item_count, &plan->item_room, sizeof *plan->items) < 0)
        return -1;
    plan->items[plan->item_count++] = item;
    return 0;
}

static int add_key(struct pp_plan *plan, PyObject *key)
{
    if (pp_plan_add(plan, key) < 0)
        return -1;
    plan->items[plan->item_count - 1].key = true;
    return 0;
}

/* Has a key an order, as pht_compare() has it?  Of tuples that are nested too deep for keys others will say so. */
static bool has_order(PyObject *key, unsigned depth)
{
    if (PyFloat_CheckExact(key))
        return PyFloat_AsDouble(key) == PyFloat_AsDouble(key);
    const bool tuple = PyTuple_CheckExact(key);
    bool ordered = is_plain_scalar(key) || PyBool_Check(key) || tuple;
    for (Py_ssize_t i = 0; ordered && tuple && depth < KEY_DEPTH_MAX && i < PyTuple_Size(key); i++)
        ordered = has_order(PyTuple_GetItem(key, i), depth + 1);
    return ordered;
}

/* The keys of an ordered map are sorted, to see that they can be. */
static int check_order(PyObject *source)
{
    PyObject *keys = PyDict_Keys(source);
    int result = keys == NULL ? -1 : PyList_Sort(keys);
    for (Py_ssize_t i = 0; result == 0 && i < PyList_Size(keys); i++) {
        if (has_order(PyList_GetItem(keys, i), 0))
            continue;
        PyErr_Format(PyExc_TypeError, "%R has no order: it cannot be a key of an OrderedMap", PyList_GetItem(keys, i));
        result = -1;
    }
    Py_XDECREF(keys);
    return result;
}

/* A copy, as anything may run meanwhile. */
static int fill_map(struct pp_plan *plan, PyObject *source, bool ordered)
{
    PyObject *items = PyDict_Items(source);
    int result = items == NULL || (ordered && check_order(source) < 0) ? -1 : 0;
    for (Py_ssize_t i = 0; result == 0 && i < PyList_Size(items); i++) {
        PyObject *pair = PyList_GetItem(items, i);
        result = add_key(plan, PyTuple_GetItem(pair, 0));
        if (result == 0)
            result = pp_plan_add(plan, PyTuple_GetItem(pair, 1));
        if (result == 0)
            result = keep(plan, pair);
    }
    Py_XDECREF(items);
    return result;
}

static int fill_sequence(struct pp_plan *plan, PyObject *source, bool keys)
{
    PyObject *elements = PySequence_List(source);
    int result = elements == NULL ? -1 : 0;
    for (Py_ssize_t i = 0; result == 0 && i < PyList_Size(elements); i++)
        result = keys ? add_key(plan, PyList_GetItem(elements, i)) : pp_plan_add(plan, PyList_GetItem(elements, i));
    Py_XDECREF(elements);
    return result;
}

/* The maxlen of a deque. */
static int limit_of(PyObject *deque, uint64_t *limit)
{
    PyObject *most = PyObject_GetAttrString(deque, "maxlen");
    if (most == NULL)
        return -1;
    *limit = most == Py_None ? PHT_NO_LIMIT : PyLong_AsUnsignedLongLong(most);
    Py_DECREF(most);
    if (PyErr_Occurred())
        return -1;
    if (*limit != PHT_NO_LIMIT && *limit >= UINT32_MAX) {
        PyErr_SetString(PyExc_OverflowError, "the maxlen of a queue in a heap is below 2**32 - 1");
        return -1;
    }
    return 0;
}

static int fill_box(struct pp_plan *plan, size_t number)
{
    PyObject *source = plan->boxes[number].source;
    const enum pht_kind kind = plan->boxes[number].kind;
    plan->boxes[number].first = plan->item_count;
    if (kind == PHT_QUEUE && limit_of(source, &plan->boxes[number].limit) < 0)
        return -1;
    if ((is_map(kind) ? fill_map(plan, source, kind == PHT_OMAP)
                      : fill_sequence(plan, source, kind == PHT_SET || kind == PHT_FROZENSET)) < 0)
        return -1;
    plan->boxes[number].count = plan->item_count - plan->boxes[number].first;
    return 0;
}

/* All that is in it was sorted: how deep is it, and how much does it count as a key? */
static int weigh(const struct pp_plan *plan, struct pp_box *box)
{
    uint64_t weight = 1;
    for (size_t i = 0; i < box->count; i++) {
        const struct pp_item *item = &plan->items[box->first + i];
        const struct pp_box *inner = item->box < 0 ? NULL : &plan->boxes[item->box];
        if (inner != NULL && inner->depth >= box->depth)
            box->depth = inner->depth;
        weight += inner != NULL && box->kind == PHT_TUPLE && inner->depth > 0 ? inner->weight : 1;
    }
    box->depth++;
    box->weight = weight < UINT32_MAX ? (uint32_t)weight : UINT32_MAX;
    if (box->depth <= DEPTH_MAX)
        return 0;
    PyErr_Format(PyExc_RecursionError, "tuples are nested more than %d deep", DEPTH_MAX);
    return -1;
}

/* Tuples need what they refer to, and so the tuples in them first.  Tuples that consist of themselves do not exist. */
static int sort_tuples(struct pp_plan *plan, size_t from)
{
    plan->boxes[from].above = SIZE_MAX;
    for (size_t at = from; at != SIZE_MAX;) {
        struct pp_box *box = &plan->boxes[at];
        Py_ssize_t inner = -1;
        while (inner < 0 && box->seen < box->count) {
            inner = plan->items[box->first + box->seen++].box;
            if (inner >= 0 && (!is_compound(plan->boxes[inner].kind) || plan->boxes[inner].depth > 0))
                inner = -1;
        }
        if (inner >= 0) {
            plan->boxes[inner].above = at;
            at = (size_t)inner;
            continue;
        }
        if (weigh(plan, box) < 0)
            return -1;
        plan->sorted[plan->sorted_count++] = at;
        at = box->above;
    }
    return 0;
}

int pp_plan_finish(struct pp_plan *plan)
{
    for (size_t i = 0; i < plan->box_count; i++) {
        if (fill_box(plan, i) < 0)
            return -1;
    }
    plan->sorted = plan->box_count == 0 ? NULL : PyMem_Calloc(plan->box_count, sizeof *plan->sorted);
    if (plan->box_count > 0 && plan->sorted == NULL) {
        PyErr_NoMemory();
        return -1;
    }
    for (size_t i = 0; i < plan->box_count; i++) {
        if (is_compound(plan->boxes[i].kind) && plan->boxes[i].depth == 0 && sort_tuples(plan, i) < 0)
            return -1;
    }
    for (size_t i = 0; plan->sorted_count > 0 && i < plan->item_count; i++) {
        const struct pp_box *box = plan->items[i].box < 0 ? NULL : &plan->boxes[plan->items[i].box];
        if (!plan->items[i].key || box == NULL || (box->depth <= KEY_DEPTH_MAX && box->weight <= KEY_WEIGHT_MAX))
            continue;
        PyErr_Format(PyExc_ValueError, "a tuple or frozenset that is a key has at most %d elements, nested %d deep",
                     KEY_WEIGHT_MAX, KEY_DEPTH_MAX);
        return -1;
    }
    return 0;
}

/* ------------------------------------------------------------------------------------------------ making of plans */

/* What a box has become is what its items are. */
static struct pht_any any_of(const struct pp_plan *plan, const struct pp_item *item)
{
    return item->box < 0 ? item->any : pht_of(plan->boxes[item->box].word);
}

static enum pheap_status make_tuple(struct pp_plan *plan, struct pht *t, struct pp_box *box)
{
    struct pht_any *elements = calloc(box->count == 0 ? 1 : box->count, sizeof *elements);
    if (elements == NULL)
        return pheap_fail_with(PHEAP_NO_MEMORY, "no memory for a tuple of %zu elements", box->count);
    for (size_t i = 0; i < box->count; i++)
        elements[i] = any_of(plan, &plan->items[box->first + i]);
    enum pheap_status status = box->kind == PHT_TUPLE ? pht_tuple_new(t, elements, box->count, &box->word)
                                                      : pht_frozenset_new(t, elements, box->count, &box->word);
    free(elements);
    return status;
}

static enum pheap_status fill(struct pp_plan *plan, struct pht *t, const struct pp_box *box)
{
    enum pheap_status status = PHEAP_OK;
    const size_t step = is_map(box->kind) ? 2 : 1;
    for (size_t i = 0; status == PHEAP_OK && !is_compound(box->kind) && i < box->count; i += step) {
        const struct pp_item *item = &plan->items[box->first + i];
        const struct pht_any any = any_of(plan, item);
        status = box->kind == PHT_LIST    ? pht_list_append(t, box->word, any)
                 : box->kind == PHT_QUEUE ? pht_queue_push(t, box->word, false, any)
                 : box->kind == PHT_SET   ? pht_set_add(t, box->word, any, NULL)
                 : box->kind == PHT_OMAP  ? pht_omap_set(t, box->word, any, any_of(plan, item + 1))
                                          : pht_map_set(t, box->word, any, any_of(plan, item + 1));
    }
    return status;
}

/* An empty container, which abort() will know. */
static enum pheap_status new_container(struct pp_heap *heap, struct pht *t, enum pht_kind kind, pht_value *word)
{
    const enum pheap_status status = kind == PHT_LIST    ? pht_list_new(t, word)
                                     : kind == PHT_SET   ? pht_set_new(t, word)
                                     : kind == PHT_QUEUE ? pht_queue_new(t, word)
                                     : kind == PHT_OMAP  ? pht_omap_new(t, word)
                                                         : pht_map_new(t, word);
    return status == PHEAP_OK ? pp_note_made(heap, *word) : status;
}

enum pheap_status pp_plan_make(struct pp_plan *plan, struct pht *t)
{
    enum pheap_status status = PHEAP_OK;
    for (size_t i = 0; status == PHEAP_OK && i < plan->box_count; i++) {
        struct pp_box *box = &plan->boxes[i];
        if (is_compound(box->kind))
            continue;
        status = new_container(plan->heap, t, box->kind, &box->word);
        if (status == PHEAP_OK && box->kind == PHT_QUEUE)
            status = pht_queue_set_limit(t, box->word, box->limit);
    }
    for (size_t i = 0; status == PHEAP_OK && i < plan->sorted_count; i++)
        status = make_tuple(plan, t, &plan->boxes[plan->sorted[i]]);
    for (size_t i = 0; status == PHEAP_OK && i < plan->box_count; i++)
        status = fill(plan, t, &plan->boxes[i]);
    for (size_t i = 0; status == PHEAP_OK && i < plan->item_count; i++)
        plan->items[i].any = any_of(plan, &plan->items[i]);
    return status;
}

enum pheap_status pp_plan_tidy(struct pp_plan *plan, struct pht *t, size_t count)
{
    enum pheap_status status = PHEAP_OK;
    for (size_t i = 0; status == PHEAP_OK && i < count; i++) {
        struct pp_box *box = plan->items[i].box < 0 ? NULL : &plan->boxes[plan->items[i].box];
        if (box != NULL && box->word != PHT_ABSENT)
            status = pht_discard(t, box->word);
        if (box != NULL)
            box->word = PHT_ABSENT;
    }
    return status;
}

int pp_plan_key(struct pp_plan *plan, PyObject *key)
{
    /* Of most keys it is known. */
    if (!PyUnicode_CheckExact(key) && !PyLong_CheckExact(key) && PyObject_Hash(key) == -1)
        return -1;
    return add_key(plan, key);
}

/* ------------------------------------------------------------------------------------------------------- needles */

/* Is it of a type, or of a subclass that is compared and hashed in the same way? */
static int compares_as(PyObject *object, PyTypeObject *base)
{
    PyTypeObject *type = Py_TYPE(object);
    return type == base ||
           (PyType_IsSubtype(type, base) && PyType_GetSlot(type, Py_tp_hash) == PyType_GetSlot(base, Py_tp_hash) &&
            PyType_GetSlot(type, Py_tp_richcompare) == PyType_GetSlot(base, Py_tp_richcompare));
}

static int part_of(struct pp_needle *needle, PyObject *object, unsigned depth);

/* A tuple, or a frozenset, from a list or tuple of its elements. */
static int parts_of(struct pp_needle *needle, PyObject *elements, bool set, unsigned depth)
{
    const Py_ssize_t count = PySequence_Size(elements);
    needle->parts = count < 0 ? NULL : calloc(count == 0 ? 1 : (size_t)count, sizeof *needle->parts);
    needle->elements = count < 0 ? NULL : calloc(count == 0 ? 1 : (size_t)count, sizeof *needle->elements);
    if (needle->parts == NULL || needle->elements == NULL) {
        PyErr_NoMemory();
        return -1;
    }
    needle->count = (size_t)count;
    int result = 1;
    for (Py_ssize_t i = 0; result > 0 && i < count; i++) {
        PyObject *element = PySequence_GetItem(elements, i);
        result = element == NULL ? -1 : part_of(&needle->parts[i], element, depth);
        Py_XDECREF(element);
        needle->elements[i] = needle->parts[i].any;
    }
    needle->any = set ? pht_frozenset(needle->elements, needle->count) : pht_tuple(needle->elements, needle->count);
    return result;
}

/* Something that can be hashed. */
static int part_of(struct pp_needle *needle, PyObject *object, unsigned depth)
{
    memset(needle, 0, sizeof *needle);
    if (object == Py_None) {
        needle->any = pht_none();
        return 1;
    }
    if (compares_as(object, &PyLong_Type) || compares_as(object, &PyFloat_Type) || PyBool_Check(object) ||
        compares_as(object, &PyBytes_Type))
        return scalar(object, &needle->any, &needle->keep) < 0 ? -1 : 1;
    if (compares_as(object, &PyUnicode_Type)) {
        if (scalar(object, &needle->any, &needle->keep) == 0)
            return 1;
        if (!PyErr_ExceptionMatches(PyExc_UnicodeEncodeError))
            return -1;
        PyErr_Clear(); /* no str in a heap has surrogates */
        return 0;
    }
    const bool set = compares_as(object, &PyFrozenSet_Type);
    if ((!set && !compares_as(object, &PyTuple_Type)) || depth > KEY_DEPTH_MAX)
        return 0;
    /* Of a subclass the iterator may be anything; what it is compared by is its content. */
    PyObject *elements = set ? PyObject_CallMethod((PyObject *)&PyFrozenSet_Type, "union", "O", object) : NULL;
    PyObject *list = set ? elements == NULL ? NULL : PySequence_List(elements) : Py_NewRef(object);
    Py_XDECREF(elements);
    const int result = list == NULL ? -1 : parts_of(needle, list, set, depth + 1);
    Py_XDECREF(list);
    return result;
}

int pp_needle(struct pp_needle *needle, PyObject *object)
{
    memset(needle, 0, sizeof *needle);
    if (!PyUnicode_CheckExact(object) && !PyLong_CheckExact(object) && PyObject_Hash(object) == -1)
        return -1;
    return part_of(needle, object, 0);
}

void pp_needle_clear(struct pp_needle *needle)
{
    Py_CLEAR(needle->keep);
    for (size_t i = 0; i < needle->count; i++)
        pp_needle_clear(&needle->parts[i]);
    free(needle->parts);
    free(needle->elements);
    memset(needle, 0, sizeof *needle);
}

enum pheap_status pp_find(struct pht *t, pht_value container, uint32_t kind, const struct pp_needle *needle,
                          pht_value *value)
{
    bool has = false;
    uint64_t count;
    enum pheap_status status = kind == PHT_MAP    ? pht_map_get(t, container, needle->any, value)
                               : kind == PHT_OMAP ? pht_omap_get(t, container, needle->any, value)
                                                  : pht_set_has(t, container, needle->any, &has);
    if (kind == PHT_SET)
        *value = has ? ~PHT_ABSENT : PHT_ABSENT;
    if ((status == PHEAP_INVALID && is_compound((enum pht_kind)needle->any.kind)) ||
        (status == PHEAP_WRONG_TYPE && kind == PHT_OMAP && pht_omap_count(t, container, &count) == PHEAP_OK)) {
        *value = PHT_ABSENT;
        return PHEAP_OK;
    }
    return status;
}

/* ---------------------------------------------------------------------------------------------------- out of it */

void pp_shown_clear(struct pp_shown *shown)
{
    Py_CLEAR(shown->object);
    for (size_t i = 0; i < shown->count; i++)
        pp_shown_clear(&shown->parts[i]);
    free(shown->parts);
    shown->parts = NULL;
    shown->count = 0;
    shown->kind = 0;
}

bool pp_shown_refers(const struct pp_shown *shown)
{
    if (!is_compound((enum pht_kind)shown->kind))
        return shown->kind >= PHT_MAP;
    for (size_t i = 0; i < shown->count; i++) {
        if (pp_shown_refers(&shown->parts[i]))
            return true;
    }
    return false;
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
    if (depth == DEPTH_MAX || count > *budget)
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
    if (any.kind == PHT_STR)
        shown->object = PyUnicode_FromStringAndSize(any.bytes, (Py_ssize_t)any.length);
    else if (any.kind == PHT_BYTES)
        shown->object = PyBytes_FromStringAndSize(any.bytes, (Py_ssize_t)any.length);
    else if (any.kind == PHT_INT && any.bytes != NULL)
        shown->object = PyBytes_FromStringAndSize(any.bytes, (Py_ssize_t)any.length * 8);
    else if (is_compound((enum pht_kind)any.kind))
        return show_parts(t, value, shown, depth, budget);
    else if (any.kind == PHT_FLOAT)
        shown->real = any.real;
    else if (any.kind == PHT_INT || any.kind == PHT_BOOL)
        shown->integer = any.integer;
    shown->negative = any.negative;
    return PyErr_Occurred() ? PHEAP_NO_MEMORY : PHEAP_OK;
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
    default:
        return pp_proxy_of(heap, snapshot, shown->word, shown->kind);
    }
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

PyObject *pp_container_new(PyTypeObject *class, PyObject *args, struct pp_state *state, enum pht_kind kind)
{
    PyObject *first = PyTuple_Size(args) > 0 ? PyTuple_GetItem(args, 0) : NULL;
    if (first == NULL || !PyObject_TypeCheck(first, state->heap)) {
        PyErr_SetString(PyExc_TypeError, "the first argument is the heap in which to make it");
        return NULL;
    }
    struct pp_heap *heap = (struct pp_heap *)first;
    if (pp_heap_usable(heap) < 0)
        return NULL;
    if (!pp_in_transaction(heap)) {
        pp_fail(state,
                pheap_fail_with(PHEAP_INVALID, "a container is made and stored in the same transaction: use with "
                                               "heap.transaction()"));
        return NULL;
    }
    pht_value word;
    const enum pheap_status status = new_container(heap, &heap->now.view, kind, &word);
    if (status != PHEAP_OK) {
        pp_fail(state, status);
        return NULL;
    }
    return pp_proxy_made(class, heap, word, kind);
}

PyObject *pp_reduced(PyObject *rest)
{
    PyObject *list = PySequence_List(rest);
    Py_DECREF(rest);
    PyObject *iter = list == NULL ? NULL : PyDict_GetItemString(PyEval_GetBuiltins(), "iter");
    PyObject *reduced = iter == NULL ? NULL : Py_BuildValue("O(O)", iter, list);
    Py_XDECREF(list);
    return reduced;
}
