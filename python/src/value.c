/* SPDX-License-Identifier: MIT */
/* Values on their way into the heap, and needles: see value.h. */
#include "python/src/record.h"

#include <stdlib.h>

/* Of keys, as pht_hash() has it. */
enum { KEY_DEPTH_MAX = 63, KEY_WEIGHT_MAX = 1 << 16 };

/* -------------------------------------------------------------------------------------------------------- plans */

void pp_plan_begin(struct pp_plan *plan, struct pp_heap *heap)
{
    memset(plan, 0, offsetof(struct pp_plan, few_items));
    plan->heap = heap;
    plan->filling = -1;
    plan->items = plan->few_items;
    plan->item_room = sizeof plan->few_items / sizeof plan->few_items[0];
    plan->keep = plan->few_kept;
    plan->keep_room = sizeof plan->few_kept / sizeof plan->few_kept[0];
}

void pp_plan_end(struct pp_plan *plan)
{
    for (size_t i = 0; i < plan->box_count; i++) {
        if (plan->boxes[i].kind == PHT_RECORD)
            pp_record_stored(plan->boxes[i].source, plan->boxes[i].word);
    }
    for (size_t i = 0; i < plan->keep_count; i++)
        Py_DECREF(plan->keep[i]);
    if (plan->keep != plan->few_kept)
        PyMem_Free(plan->keep);
    if (plan->items != plan->few_items)
        PyMem_Free(plan->items);
    PyMem_Free(plan->boxes);
    PyMem_Free(plan->sorted);
    Py_XDECREF(plan->memo);
}

/* Room for one more of `size` bytes in an array, which may begin as `few` that need not be freed. */
static int grow(void **array, void *few, size_t count, size_t *room, size_t size)
{
    if (count < *room)
        return 0;
    const size_t larger = *room == 0 ? 4 : 2 * *room;
    void *moved = larger > SIZE_MAX / 2 / size ? NULL : PyMem_Realloc(*array == few ? NULL : *array, larger * size);
    if (moved == NULL) {
        PyErr_NoMemory();
        return -1;
    }
    if (*array == few && few != NULL)
        memcpy(moved, few, count * size);
    *array = moved;
    *room = larger;
    return 0;
}

static int keep(struct pp_plan *plan, PyObject *object)
{
    if (grow((void **)&plan->keep, plan->few_kept, plan->keep_count, &plan->keep_room, sizeof object) < 0)
        return -1;
    plan->keep[plan->keep_count++] = Py_NewRef(object);
    return 0;
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

static int text(PyObject *object, struct pht_any *any, PyObject **holder)
{
    Py_ssize_t length;
    const char *utf8 = PyUnicode_AsUTF8AndSize(object, &length);
    if (utf8 == NULL)
        return -1; /* UnicodeEncodeError: a surrogate */
    *any = pht_str(utf8, (uint64_t)length);
    *holder = Py_NewRef(object);
    return 0;
}

/* An int, float, str or bytes, also of a subclass.  *holder: a new reference that the value needs, or NULL. */
static int scalar(PyObject *object, struct pht_any *any, PyObject **holder)
{
    *holder = NULL;
    if (PyUnicode_CheckExact(object)) /* most keys: the other questions are calls */
        return text(object, any, holder);
    if (PyLong_CheckExact(object) || PyLong_Check(object)) {
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
    if (PyUnicode_Check(object))
        return text(object, any, holder);
    char *bytes;
    Py_ssize_t length;
    if (PyBytes_AsStringAndSize(object, &bytes, &length) < 0)
        return -1;
    *any = pht_bytes(bytes, (uint64_t)length);
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
        grow((void **)&plan->boxes, NULL, plan->box_count, &plan->box_room, sizeof *plan->boxes) < 0)
        goto done;
    PyObject *index = PyLong_FromSize_t(plan->box_count);
    if (index != NULL && PyDict_SetItem(plan->memo, identity, index) == 0) {
        number = (Py_ssize_t)plan->box_count;
        plan->boxes[plan->box_count++] = (struct pp_box){.kind = kind, .source = source, .inside = plan->filling};
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
    if (pp_record_detached(value) != NULL) {
        item->box = box_of(plan, value, PHT_RECORD);
        return item->box < 0 ? -1 : 0;
    }
    if (proxy->heap == plan->heap && proxy->snapshot == NULL && !proxy->dead) {
        item->any = pht_of(proxy->word);
        return keep(plan, value);
    }
    if (PyObject_TypeCheck(value, plan->heap->state->block)) {
        PyErr_SetString(PyExc_TypeError, "a block is stored in the heap that has it, where it is now: copy its bytes");
        return -1;
    }
    PyObject *plain = PyObject_CallMethod(value, "plain", NULL);
    if (plain == NULL)
        return -1;
    const enum pht_kind kind = container_kind(plan->heap->state, plain);
    if (kind != PHT_NONE)
        item->box = box_of(plan, plain, kind);
    else if (pp_record_detached(plain) != NULL)
        item->box = box_of(plan, plain, PHT_RECORD);
    Py_DECREF(plain);
    if (item->box < 0 && !PyErr_Occurred())
        PyErr_SetString(PyExc_TypeError, "plain() gave no plain container");
    return item->box < 0 ? -1 : 0;
}

/* Of a type that no heap knows: TypeError, which says where it is in what was to be stored. */
static void refuse(const struct pp_plan *plan, PyObject *value)
{
    PyObject *way = PyList_New(0), *text = NULL;
    int result = way == NULL ? -1 : PyList_Append(way, value);
    for (Py_ssize_t at = plan->filling; result == 0 && at >= 0; at = plan->boxes[at].inside)
        result = PyList_Insert(way, 0, plan->boxes[at].source);
    if (result == 0)
        text = PyObject_CallMethod(plan->heap->state->classes_module, "refusal", "O", way);
    if (text != NULL)
        PyErr_SetObject(PyExc_TypeError, text);
    Py_XDECREF(text);
    Py_XDECREF(way);
}

static int plan_pickled(struct pp_plan *plan, PyObject *value, struct pp_item *item)
{
    PyObject *pickled = PyObject_CallMethod(plan->heap->state->classes_module, "Pickled", "O", value);
    if (pickled == NULL)
        return -1;
    item->box = pp_record_detached(pickled) == NULL ? -1 : box_of(plan, pickled, PHT_RECORD);
    Py_DECREF(pickled);
    return item->box < 0 ? -1 : 0;
}

static int add_item(struct pp_plan *plan, struct pp_item item)
{
    if (grow((void **)&plan->items, plan->few_items, plan->item_count, &plan->item_room, sizeof item) < 0)
        return -1;
    plan->items[plan->item_count++] = item;
    return 0;
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
    } else if (!plan->heap->pickle) {
        refuse(plan, value);
        return -1;
    } else if (plan_pickled(plan, value, &item) < 0) {
        return -1;
    }
    if (holder != NULL) {
        const int kept = keep(plan, holder);
        Py_DECREF(holder);
        if (kept < 0)
            return -1;
    }
    return add_item(plan, item);
}

/* The fields of a detached record, in the order of its shape; the last one is a dict of its other attributes. */
static int fill_record(struct pp_plan *plan, size_t number)
{
    PyObject *source = plan->boxes[number].source;
    struct pp_shape *shape = pp_shape_of(plan->heap->state, (PyObject *)Py_TYPE(source));
    PyObject *state = pp_record_detached(source);
    if (shape != NULL && state == NULL) {
        pp_fail(
            plan->heap->state,
            pheap_fail_with(PHEAP_BUSY,
                            "an object that was to be stored has been stored by somebody else meanwhile: try again"));
        return -1;
    }
    if (shape == NULL || keep(plan, (PyObject *)shape) < 0 || (state = PyDict_Copy(state)) == NULL)
        return -1;
    int result = keep(plan, state);
    for (Py_ssize_t i = 0; result == 0 && i < PyTuple_Size(shape->names); i++) {
        PyObject *name = PyTuple_GetItem(shape->names, i);
        PyObject *value = PyDict_GetItemWithError(state, name);
        const bool others = strcmp(shape->is.fields[i].name, PP_OTHERS) == 0;
        if (value != NULL && !others) {
            result = pp_plan_add(plan, value);
            if (result == 0)
                result = keep(plan, value);
            if (result == 0)
                result = PyDict_DelItem(state, name);
        } else if (others && PyDict_Size(state) > 0) {
            result = pp_plan_add(plan, state);
        } else {
            result = PyErr_Occurred() ? -1 : add_item(plan, (struct pp_item){.any = pht_of(PHT_ABSENT), .box = -1});
        }
    }
    if (result == 0 && PyDict_Size(state) > 0 && pp_struct_find(&shape->is, PP_OTHERS) < 0) {
        PyErr_Format(PyExc_TypeError, "objects of %R have no other attributes than its fields: %R",
                     (PyObject *)Py_TYPE(source), state);
        result = -1;
    }
    Py_DECREF(state);
    plan->boxes[number].shape = shape;
    plan->boxes[number].count = plan->item_count - plan->boxes[number].first;
    return result;
}

/* An element of a set or a key, which objects are not: the heap knows them by their word only. */
static int add_key(struct pp_plan *plan, PyObject *key)
{
    if (PyObject_TypeCheck(key, plan->heap->state->record)) {
        PyErr_Format(PyExc_TypeError, "objects of persistent classes cannot be keys or elements of sets in a heap: %R",
                     (PyObject *)Py_TYPE(key));
        return -1;
    }
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
    plan->filling = (Py_ssize_t)number;
    if (kind == PHT_RECORD)
        return fill_record(plan, number);
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
    if (box->depth <= PP_DEPTH_MAX)
        return 0;
    PyErr_Format(PyExc_RecursionError, "tuples are nested more than %d deep", PP_DEPTH_MAX);
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
            if (inner >= 0 && (!pp_compound(plan->boxes[inner].kind) || plan->boxes[inner].depth > 0))
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
        if (pp_compound(plan->boxes[i].kind) && plan->boxes[i].depth == 0 && sort_tuples(plan, i) < 0)
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

/* The fields of a new record, wherever its layout has them. */
static enum pheap_status fill_fields(struct pp_plan *plan, struct pht *t, const struct pp_box *box)
{
    struct pp_record place = {.layout = box->layout, .body = box->word};
    enum pheap_status status = pht_record_at(t, box->word, box->layout->number, &place.at, NULL);
    for (size_t i = 0; status == PHEAP_OK && i < box->count; i++) {
        const struct pht_any any = any_of(plan, &plan->items[box->first + i]);
        const int32_t field = pp_struct_find(&box->layout->is, box->shape->is.fields[i].name);
        if (any.kind == PHT_VALUE && any.value == PHT_ABSENT)
            continue;
        if (field < 0)
            return pheap_fail_with(PHEAP_WRONG_TYPE,
                                   "type %s of the heap has no field %s for attributes that are no fields",
                                   box->layout->is.name, box->shape->is.fields[i].name);
        status = pp_field_store(t, &place, &box->layout->is.fields[field], any);
    }
    return status;
}

static enum pheap_status fill(struct pp_plan *plan, struct pht *t, const struct pp_box *box)
{
    enum pheap_status status = PHEAP_OK;
    const size_t step = is_map(box->kind) ? 2 : 1;
    if (box->kind == PHT_RECORD)
        return fill_fields(plan, t, box);
    for (size_t i = 0; status == PHEAP_OK && !pp_compound(box->kind) && i < box->count; i += step) {
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

static enum pheap_status new_record(struct pp_heap *heap, struct pht *t, struct pp_box *box)
{
    enum pheap_status status = pp_layout_for(heap, t, box->shape, true, &box->layout);
    if (status == PHEAP_OK)
        status = pht_record_new(t, box->layout->number, &box->word);
    return status == PHEAP_OK ? pp_note_made(heap, box->word) : status;
}

/* Between the plan and the change other threads may have run: is what it refers to there, and what it stores detached? */
static enum pheap_status look_again(const struct pp_plan *plan)
{
    for (size_t i = 0; i < plan->keep_count; i++) {
        const struct pp_proxy *proxy = (const struct pp_proxy *)plan->keep[i];
        if (PyObject_TypeCheck(plan->keep[i], plan->heap->state->proxy) && proxy->dead && proxy->heap == plan->heap &&
            proxy->snapshot == NULL)
            return pheap_fail_with(PHEAP_ENDED,
                                   "an object that was to be stored is gone meanwhile: the transaction that "
                                   "made it was aborted");
    }
    for (size_t i = 0; i < plan->box_count; i++) {
        if (plan->boxes[i].kind == PHT_RECORD && pp_record_detached(plan->boxes[i].source) == NULL)
            return pheap_fail_with(PHEAP_BUSY, "an object that was to be stored has been stored by somebody else "
                                               "meanwhile: try again");
    }
    return PHEAP_OK;
}

enum pheap_status pp_plan_make(struct pp_plan *plan, struct pht *t)
{
    enum pheap_status status = look_again(plan);
    for (size_t i = 0; status == PHEAP_OK && i < plan->box_count; i++) {
        struct pp_box *box = &plan->boxes[i];
        if (pp_compound(box->kind))
            continue;
        status = box->kind == PHT_RECORD ? new_record(plan->heap, t, box)
                                         : new_container(plan->heap, t, box->kind, &box->word);
        if (status == PHEAP_OK && box->kind == PHT_QUEUE)
            status = pht_queue_set_limit(t, box->word, box->limit);
    }
    for (size_t i = 0; status == PHEAP_OK && i < plan->sorted_count; i++)
        status = make_tuple(plan, t, &plan->boxes[plan->sorted[i]]);
    for (size_t i = 0; status == PHEAP_OK && i < plan->box_count; i++)
        status = fill(plan, t, &plan->boxes[i]);
    for (size_t i = 0; status == PHEAP_OK && i < plan->item_count && plan->box_count > 0; i++)
        plan->items[i].any = any_of(plan, &plan->items[i]);
    for (size_t i = plan->copies ? 1 : 0; status == PHEAP_OK && i < plan->box_count; i++) {
        const struct pp_box *box = &plan->boxes[i];
        if (box->kind == PHT_RECORD)
            status = pp_record_adopt(box->source, plan->heap, t, box->word, box->layout);
    }
    return status;
}

/* Records that only discarded items lead to are detached again.  discarded[]: boxes that went. */
static enum pheap_status revert_records(struct pp_plan *plan, size_t count, const bool *discarded)
{
    bool *reached = calloc(plan->box_count, sizeof *reached);
    size_t *stack = calloc(plan->box_count, sizeof *stack), depth = 0;
    if (reached == NULL || stack == NULL) {
        free(reached);
        free(stack);
        return pheap_fail_with(PHEAP_NO_MEMORY, "no memory to tidy up");
    }
    for (size_t i = 0; i < count; i++) {
        const Py_ssize_t box = plan->items[i].box;
        if (box >= 0 && !discarded[box] && !reached[box]) {
            reached[box] = true;
            stack[depth++] = (size_t)box;
        }
    }
    while (depth > 0) {
        const struct pp_box *box = &plan->boxes[stack[--depth]];
        for (size_t i = box->first; i < box->first + box->count; i++) {
            const Py_ssize_t inner = plan->items[i].box;
            if (inner >= 0 && !reached[inner]) {
                reached[inner] = true;
                stack[depth++] = (size_t)inner;
            }
        }
    }
    for (size_t i = 0; i < plan->box_count; i++) {
        struct pp_box *box = &plan->boxes[i];
        if (box->kind == PHT_RECORD && !reached[i] && ((struct pp_proxy *)box->source)->word == box->word)
            pp_record_revert((struct pp_proxy *)box->source);
    }
    free(reached);
    free(stack);
    return PHEAP_OK;
}

enum pheap_status pp_plan_tidy(struct pp_plan *plan, struct pht *t, size_t count)
{
    if (plan->box_count == 0)
        return PHEAP_OK;
    bool *discarded = calloc(plan->box_count, sizeof *discarded), any = false;
    enum pheap_status status = discarded == NULL ? pheap_fail_with(PHEAP_NO_MEMORY, "no memory to tidy up") : PHEAP_OK;
    for (size_t i = 0; status == PHEAP_OK && i < count; i++) {
        const Py_ssize_t number = plan->items[i].box;
        uint32_t references;
        if (number < 0 || discarded[number])
            continue;
        status = pht_references(t, plan->boxes[number].word, &references);
        if (status == PHEAP_OK && references == 0) {
            status = pht_discard(t, plan->boxes[number].word);
            any = discarded[number] = true;
        }
    }
    if (status == PHEAP_OK && any)
        status = revert_records(plan, count, discarded);
    free(discarded);
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
    if (compares_as(object, &PyUnicode_Type)) {
        if (text(object, &needle->any, &needle->keep) == 0)
            return 1;
        if (!PyErr_ExceptionMatches(PyExc_UnicodeEncodeError))
            return -1;
        PyErr_Clear(); /* no str in a heap has surrogates */
        return 0;
    }
    if (compares_as(object, &PyLong_Type) || compares_as(object, &PyFloat_Type) || PyBool_Check(object) ||
        compares_as(object, &PyBytes_Type))
        return scalar(object, &needle->any, &needle->keep) < 0 ? -1 : 1;
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
    if ((status == PHEAP_INVALID && pp_compound(needle->any.kind)) ||
        (status == PHEAP_WRONG_TYPE && kind == PHT_OMAP && pht_omap_count(t, container, &count) == PHEAP_OK)) {
        *value = PHT_ABSENT;
        return PHEAP_OK;
    }
    return status;
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
