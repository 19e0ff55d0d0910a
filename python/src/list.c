/* SPDX-License-Identifier: MIT */
/* List: what pheap.List is made of.  The rest of the surface of a list is in pheap/_list.py. */
#include "python/src/value.h"

#include <stdlib.h>

/* So many elements are copied out of a view in one look. */
enum { BATCH = 256 };

static struct pp_proxy *proxy_of(PyObject *self)
{
    return (struct pp_proxy *)self;
}

static int count_of(struct pp_proxy *proxy, uint64_t *count)
{
    struct pp_look look;
    if (pp_look(&look, proxy) < 0)
        return -1;
    const enum pheap_status status = pht_list_count(look.t, proxy->word, count);
    pp_seen(&look);
    if (status != PHEAP_OK) {
        pp_fail(proxy->heap->state, status);
        return -1;
    }
    return 0;
}

static Py_ssize_t list_length(PyObject *self)
{
    uint64_t count;
    return count_of(proxy_of(self), &count) < 0 ? -1 : (Py_ssize_t)count;
}

/* 1: *object is the element; 0: there is none; -1: an exception. */
static int element(struct pp_proxy *proxy, Py_ssize_t index, PyObject **object)
{
    struct pp_look look;
    if (pp_look(&look, proxy) < 0)
        return -1;
    struct pp_shown shown = {.kind = 0};
    uint64_t count = 0;
    enum pheap_status status = pht_list_count(look.t, proxy->word, &count);
    const uint64_t at = status == PHEAP_OK ? pp_from_front(index, count) : 0;
    if (status == PHEAP_OK && at < count) {
        pht_value value;
        status = pht_list_get(look.t, proxy->word, at, &value);
        if (status == PHEAP_OK)
            status = pp_show(look.t, value, &shown);
    }
    pp_seen(&look);
    int result = -1;
    if (status != PHEAP_OK) {
        pp_fail(proxy->heap->state, status);
    } else if (at < count) {
        *object = pp_make(&shown, proxy->heap, proxy->snapshot);
        result = *object == NULL ? -1 : 1;
    } else {
        result = 0;
    }
    pp_shown_clear(&shown);
    return result;
}

/* Up to BATCH elements from `first` on, every `step`th, appended to `list`. */
static int read_batch(struct pp_proxy *proxy, uint64_t first, int64_t step, uint64_t wanted, PyObject *list)
{
    struct pp_shown *shown = calloc(BATCH, sizeof *shown);
    if (shown == NULL) {
        PyErr_NoMemory();
        return -1;
    }
    struct pp_look look;
    int result = pp_look(&look, proxy);
    if (result == 0) {
        uint64_t count = 0, got = 0;
        enum pheap_status status = pht_list_count(look.t, proxy->word, &count);
        for (; status == PHEAP_OK && got < wanted; got++) {
            const uint64_t at = first + got * (uint64_t)step;
            pht_value value;
            if (at >= count)
                break;
            status = pht_list_get(look.t, proxy->word, at, &value);
            if (status == PHEAP_OK)
                status = pp_show(look.t, value, &shown[got]);
        }
        pp_seen(&look);
        if (status != PHEAP_OK) {
            pp_fail(proxy->heap->state, status);
            result = -1;
        }
        for (uint64_t i = 0; result == 0 && i < got; i++) {
            PyObject *object = pp_make(&shown[i], proxy->heap, proxy->snapshot);
            result = object == NULL ? -1 : PyList_Append(list, object);
            Py_XDECREF(object);
        }
    }
    for (int i = 0; i < BATCH; i++)
        pp_shown_clear(&shown[i]);
    free(shown);
    return result;
}

static PyObject *read_slice(struct pp_proxy *proxy, PyObject *slice)
{
    Py_ssize_t start, stop, step;
    uint64_t count;
    if (PySlice_Unpack(slice, &start, &stop, &step) < 0 || count_of(proxy, &count) < 0)
        return NULL;
    const Py_ssize_t length = PySlice_AdjustIndices((Py_ssize_t)count, &start, &stop, step);
    PyObject *list = PyList_New(0);
    for (Py_ssize_t i = 0; list != NULL && i < length; i += BATCH) {
        const uint64_t batch = length - i < BATCH ? (uint64_t)(length - i) : BATCH;
        if (read_batch(proxy, (uint64_t)(start + i * step), step, batch, list) < 0)
            Py_CLEAR(list);
    }
    return list;
}

/* An index object as a number; -1 with an exception is possible. */
static Py_ssize_t index_of(PyObject *key)
{
    if (!PyIndex_Check(key)) {
        PyErr_Format(PyExc_TypeError, "list indices must be integers or slices, not %R", (PyObject *)Py_TYPE(key));
        return -1;
    }
    return PyNumber_AsSsize_t(key, PyExc_IndexError);
}

static PyObject *list_subscript(PyObject *self, PyObject *key)
{
    if (PyObject_TypeCheck(key, &PySlice_Type))
        return read_slice(proxy_of(self), key);
    const Py_ssize_t index = index_of(key);
    if (index == -1 && PyErr_Occurred())
        return NULL;
    PyObject *object;
    const int found = element(proxy_of(self), index, &object);
    if (found > 0)
        return object;
    if (found == 0)
        PyErr_SetString(PyExc_IndexError, "list index out of range");
    return NULL;
}

/* ------------------------------------------------------------------------------------------------------ changes */

PyDoc_STRVAR(replace_doc,
             "_replace($self, /, start, step, count, values)\n--\n\n"
             "Put the values of a plain list in the place of `count` elements, every `step`th from `start` on; with\n"
             "another step than 1 there are as many values as elements, or none.  One change.");
static PyObject *list_replace(PyObject *self, PyObject *args)
{
    struct pp_proxy *proxy = proxy_of(self);
    Py_ssize_t start, step, count;
    PyObject *values;
    if (!PyArg_ParseTuple(args, "nnnO!", &start, &step, &count, &PyList_Type, &values))
        return NULL;
    struct pp_plan plan;
    pp_plan_begin(&plan, proxy->heap);
    int result = 0;
    for (Py_ssize_t i = 0; result == 0 && i < PyList_Size(values); i++) {
        PyObject *value = Py_NewRef(PyList_GetItem(values, i));
        result = pp_plan_add(&plan, value);
        Py_DECREF(value);
    }
    const size_t given = plan.item_count;
    if (result == 0)
        result = pp_plan_finish(&plan);
    struct pp_change change;
    if (result == 0)
        result = pp_change(&change, proxy);
    if (result == 0) {
        uint64_t length;
        enum pheap_status status = pp_plan_make(&plan, change.t);
        if (status == PHEAP_OK)
            status = pht_list_count(change.t, proxy->word, &length);
        /* Of elements that are not there any more nothing is left to replace. */
        const uint64_t first = (uint64_t)start;
        size_t done = 0;
        if (status == PHEAP_OK && (step != 1 ? given > 0 : true)) {
            for (; status == PHEAP_OK && done < given && done < (size_t)count; done++) {
                const uint64_t at = first + done * (uint64_t)step;
                if (at >= length)
                    break;
                status = pht_list_set(change.t, proxy->word, at, plan.items[done].any);
            }
        }
        /* From the end, so that the places of the others stay. */
        const bool falls = step < 0;
        for (size_t i = 0, left = (size_t)count - done; status == PHEAP_OK && i < left; i++) {
            const size_t which = falls ? done + i : (size_t)count - 1 - i;
            const uint64_t at = first + which * (uint64_t)step;
            if (at < length)
                status = pht_list_remove(change.t, proxy->word, at, NULL);
        }
        if (step == 1 && status == PHEAP_OK)
            status = pht_list_count(change.t, proxy->word, &length);
        for (; step == 1 && status == PHEAP_OK && done < given; done++, length++) {
            const uint64_t at = first + done;
            status = pht_list_insert(change.t, proxy->word, at < length ? at : length, plan.items[done].any);
        }
        result = pp_changed(&change, status, false);
    }
    pp_plan_end(&plan);
    if (result < 0)
        return NULL;
    Py_RETURN_NONE;
}

/* One value: into the place of an element, before it, or (index SSIZE_MAX) at the end. */
static int put(struct pp_proxy *proxy, Py_ssize_t index, bool insert, PyObject *value)
{
    struct pp_plan plan;
    pp_plan_begin(&plan, proxy->heap);
    struct pp_change change;
    int result = -1;
    if (pp_plan_add(&plan, value) == 0 && pp_plan_finish(&plan) == 0 && pp_change(&change, proxy) == 0) {
        uint64_t count;
        bool there = true;
        enum pheap_status status = pht_list_count(change.t, proxy->word, &count);
        uint64_t at = 0;
        if (status == PHEAP_OK) {
            at = pp_from_front(index, count);
            if (insert && index < 0 && at == count)
                at = 0; /* before the first */
            there = insert || at < count;
        }
        if (status == PHEAP_OK && there)
            status = pp_plan_make(&plan, change.t);
        if (status == PHEAP_OK && there)
            status = insert ? pht_list_insert(change.t, proxy->word, at, plan.items[0].any)
                            : pht_list_set(change.t, proxy->word, at, plan.items[0].any);
        result = pp_changed(&change, status, !there);
        if (result == 0 && !there) {
            PyErr_SetString(PyExc_IndexError, "list assignment index out of range");
            result = -1;
        }
    }
    pp_plan_end(&plan);
    return result;
}

/* Remove an element: 1; 0: there is none; -1: an exception.  *object (may be NULL) becomes what it was. */
static int take(struct pp_proxy *proxy, Py_ssize_t index, PyObject **object, uint64_t *count)
{
    struct pp_change change;
    if (pp_change(&change, proxy) < 0)
        return -1;
    struct pp_shown shown = {.kind = 0};
    enum pheap_status status = pht_list_count(change.t, proxy->word, count);
    const uint64_t at = status == PHEAP_OK ? pp_from_front(index, *count) : 0;
    const bool there = status == PHEAP_OK && at < *count;
    if (there && object != NULL) {
        pht_value value;
        status = pht_list_get(change.t, proxy->word, at, &value);
        if (status == PHEAP_OK)
            status = pp_show(change.t, value, &shown);
        if (status == PHEAP_OK)
            status = pp_hold_shown(change.heap, &shown);
    }
    if (status == PHEAP_OK && there)
        status = pht_list_remove(change.t, proxy->word, at, NULL);
    int result = pp_changed(&change, status, !there) < 0 ? -1 : there;
    if (result > 0 && object != NULL) {
        *object = pp_make(&shown, proxy->heap, NULL);
        if (*object == NULL)
            result = -1;
    }
    pp_shown_clear(&shown);
    return result;
}

static int list_assign(PyObject *self, PyObject *key, PyObject *value)
{
    if (PyObject_TypeCheck(key, &PySlice_Type)) {
        PyObject *done = value != NULL ? PyObject_CallMethod(self, "_set_slice", "OO", key, value)
                                       : PyObject_CallMethod(self, "_delete_slice", "O", key);
        Py_XDECREF(done);
        return done == NULL ? -1 : 0;
    }
    const Py_ssize_t index = index_of(key);
    if (index == -1 && PyErr_Occurred())
        return -1;
    if (value != NULL)
        return put(proxy_of(self), index, false, value);
    uint64_t count;
    const int taken = take(proxy_of(self), index, NULL, &count);
    if (taken == 0)
        PyErr_SetString(PyExc_IndexError, "list assignment index out of range");
    return taken > 0 ? 0 : -1;
}

static PyObject *list_append(PyObject *self, PyObject *value)
{
    if (put(proxy_of(self), PY_SSIZE_T_MAX, true, value) < 0)
        return NULL;
    Py_RETURN_NONE;
}

static PyObject *list_insert(PyObject *self, PyObject *args)
{
    PyObject *where, *value;
    if (!PyArg_UnpackTuple(args, "insert", 2, 2, &where, &value))
        return NULL;
    const Py_ssize_t index = PyNumber_AsSsize_t(where, NULL); /* the ends stand for what is beyond them */
    if ((index == -1 && PyErr_Occurred()) || put(proxy_of(self), index, true, value) < 0)
        return NULL;
    Py_RETURN_NONE;
}

static PyObject *list_pop(PyObject *self, PyObject *args)
{
    PyObject *where = NULL, *object;
    if (!PyArg_UnpackTuple(args, "pop", 0, 1, &where))
        return NULL;
    const Py_ssize_t index = where == NULL ? -1 : PyNumber_AsSsize_t(where, PyExc_IndexError);
    if (index == -1 && PyErr_Occurred())
        return NULL;
    uint64_t count;
    const int taken = take(proxy_of(self), index, &object, &count);
    if (taken > 0)
        return object;
    if (taken == 0)
        PyErr_SetString(PyExc_IndexError, count == 0 ? "pop from empty list" : "pop index out of range");
    return NULL;
}

static PyObject *list_clear(PyObject *self, PyObject *unused)
{
    (void)unused;
    struct pp_proxy *proxy = proxy_of(self);
    struct pp_change change;
    if (pp_change(&change, proxy) < 0)
        return NULL;
    const enum pheap_status status = pht_list_clear(change.t, proxy->word);
    if (pp_changed(&change, status, false) < 0)
        return NULL;
    Py_RETURN_NONE;
}

static PyObject *list_new(PyTypeObject *type, PyObject *args, PyObject *names)
{
    (void)names;
    struct pp_state *state = pp_state_of(type);
    return state == NULL ? NULL : pp_container_new(type, args, state, PHT_LIST);
}

/* ----------------------------------------------------------------------------------------------------- iterators */

struct iterator {
    PyObject_HEAD struct pp_proxy *list; /* NULL: at its end */
    Py_ssize_t index;
    int backwards;
};

static PyObject *iterate(PyObject *self, Py_ssize_t index, int backwards)
{
    struct iterator *iterator = pp_new(proxy_of(self)->heap->state->list_iterator);
    if (iterator == NULL)
        return NULL;
    iterator->list = (struct pp_proxy *)Py_NewRef(self);
    iterator->index = index;
    iterator->backwards = backwards;
    return (PyObject *)iterator;
}

static PyObject *list_iter(PyObject *self)
{
    return iterate(self, 0, 0);
}

static PyObject *list_reversed(PyObject *self, PyObject *unused)
{
    (void)unused;
    const Py_ssize_t count = list_length(self);
    return count < 0 ? NULL : iterate(self, count - 1, 1);
}

static PyObject *iterator_next(PyObject *self)
{
    struct iterator *iterator = (struct iterator *)self;
    struct pp_proxy *list = iterator->list;
    if (list == NULL)
        return NULL;
    PyObject *object;
    Py_INCREF((PyObject *)list);
    const int found = iterator->index < 0 ? 0 : element(list, iterator->index, &object);
    if (found > 0) {
        iterator->index += iterator->backwards ? -1 : 1;
    } else if (found == 0 && iterator->list == list) {
        iterator->list = NULL;
        Py_DECREF((PyObject *)list);
    }
    Py_DECREF((PyObject *)list);
    return found > 0 ? object : NULL;
}

static PyObject *iterator_hint(PyObject *self, PyObject *unused)
{
    (void)unused;
    const struct iterator *iterator = (struct iterator *)self;
    if (iterator->list == NULL)
        return PyLong_FromLong(0);
    PyObject *list = Py_NewRef((PyObject *)iterator->list);
    const Py_ssize_t count = list_length(list);
    Py_DECREF(list);
    if (count < 0)
        return NULL;
    if (iterator->backwards)
        return PyLong_FromSsize_t(iterator->index < count ? iterator->index + 1 : 0);
    return PyLong_FromSsize_t(iterator->index < count ? count - iterator->index : 0);
}

/* Pickled as an iterator over a plain list of what is left. */
static PyObject *iterator_reduce(PyObject *self, PyObject *unused)
{
    (void)unused;
    const struct iterator *iterator = (struct iterator *)self;
    struct iterator *rest = pp_new(Py_TYPE(self));
    if (rest == NULL)
        return NULL;
    rest->list = (struct pp_proxy *)Py_XNewRef((PyObject *)iterator->list);
    rest->index = iterator->index;
    rest->backwards = iterator->backwards;
    return pp_reduced((PyObject *)rest);
}

static void iterator_dealloc(PyObject *self)
{
    Py_XDECREF((PyObject *)((struct iterator *)self)->list);
    pp_free(self);
}

static PyMethodDef iterator_methods[] = {
    {"__length_hint__", iterator_hint, METH_NOARGS, NULL},
    {"__reduce__", iterator_reduce, METH_NOARGS, NULL},
    {NULL, NULL, 0, NULL},
};

static PyType_Slot iterator_slots[] = {
    {Py_tp_iter, (void *)PyObject_SelfIter},
    {Py_tp_iternext, (void *)iterator_next},
    {Py_tp_methods, iterator_methods},
    {Py_tp_dealloc, (void *)iterator_dealloc},
    {0, NULL},
};

static PyType_Spec iterator_spec = {"pheap._pheap.ListIterator", sizeof(struct iterator), 0,
                                    Py_TPFLAGS_DEFAULT | Py_TPFLAGS_DISALLOW_INSTANTIATION, iterator_slots};

static PyMethodDef methods[] = {
    {"append", list_append, METH_O, "append($self, value, /)\n--\n\nAdd an element at the end."},
    {"insert", list_insert, METH_VARARGS,
     "insert($self, index, value, /)\n--\n\nAdd an element before that of the index."},
    {"pop", list_pop, METH_VARARGS, "pop($self, index=-1, /)\n--\n\nRemove an element and return it."},
    {"clear", list_clear, METH_NOARGS, "clear($self, /)\n--\n\nRemove everything."},
    {"__reversed__", list_reversed, METH_NOARGS, NULL},
    {"_replace", list_replace, METH_VARARGS, replace_doc},
    {NULL, NULL, 0, NULL},
};

static PyType_Slot slots[] = {
    {Py_tp_doc, (void *)"Values by index."},
    {Py_tp_new, (void *)list_new},
    {Py_tp_methods, methods},
    {Py_tp_iter, (void *)list_iter},
    {Py_mp_length, (void *)list_length},
    {Py_sq_length, (void *)list_length},
    {Py_mp_subscript, (void *)list_subscript},
    {Py_mp_ass_subscript, (void *)list_assign},
    {0, NULL},
};

static PyType_Spec spec = {"pheap._pheap.List", sizeof(struct pp_proxy), 0, Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE,
                           slots};

int pp_list_init(PyObject *module, struct pp_state *state)
{
    if (pp_add_type(module, &spec, state->proxy, &state->list) < 0)
        return -1;
    return pp_add_type(module, &iterator_spec, NULL, &state->list_iterator);
}
