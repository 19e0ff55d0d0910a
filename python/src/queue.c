/* SPDX-License-Identifier: MIT */
/* Queue: what pheap.Queue is made of.  The rest of the surface of a deque is in pheap/_queue.py. */
#include "python/src/value.h"

static struct pp_proxy *proxy_of(PyObject *self)
{
    return (struct pp_proxy *)self;
}

static Py_ssize_t queue_length(PyObject *self)
{
    struct pp_proxy *proxy = proxy_of(self);
    struct pp_look look;
    if (pp_look(&look, proxy) < 0)
        return -1;
    uint64_t count = 0;
    const enum pheap_status status = pht_queue_count(look.t, proxy->word, &count);
    pp_seen(&look);
    if (status != PHEAP_OK) {
        pp_fail(proxy->heap->state, status);
        return -1;
    }
    return (Py_ssize_t)count;
}

/* An index from the front, or the count if there is no such element. */
static uint64_t from_front(Py_ssize_t index, uint64_t count)
{
    if (index >= 0)
        return (uint64_t)index < count ? (uint64_t)index : count;
    const uint64_t back = (uint64_t)0 - (uint64_t)index;
    return back <= count ? count - back : count;
}

/* An index object as a number; -1 with an exception is possible. */
static Py_ssize_t index_of(PyObject *key)
{
    if (!PyIndex_Check(key)) {
        PyErr_Format(PyExc_TypeError, "sequence index must be integer, not %R", (PyObject *)Py_TYPE(key));
        return -1;
    }
    return PyNumber_AsSsize_t(key, PyExc_IndexError);
}

static PyObject *queue_subscript(PyObject *self, PyObject *key)
{
    struct pp_proxy *proxy = proxy_of(self);
    const Py_ssize_t index = index_of(key);
    struct pp_look look;
    if ((index == -1 && PyErr_Occurred()) || pp_look(&look, proxy) < 0)
        return NULL;
    struct pp_shown shown = {.kind = 0};
    uint64_t count = 0;
    pht_value value;
    enum pheap_status status = pht_queue_count(look.t, proxy->word, &count);
    const uint64_t at = status == PHEAP_OK ? from_front(index, count) : 0;
    if (status == PHEAP_OK && at < count)
        status = pht_queue_get(look.t, proxy->word, at, &value);
    if (status == PHEAP_OK && at < count)
        status = pp_show(look.t, value, &shown);
    pp_seen(&look);
    PyObject *object = NULL;
    if (status != PHEAP_OK)
        pp_fail(proxy->heap->state, status);
    else if (at == count)
        PyErr_SetString(PyExc_IndexError, "deque index out of range");
    else
        object = pp_make(&shown, proxy->heap, proxy->snapshot);
    pp_shown_clear(&shown);
    return object;
}

/* ------------------------------------------------------------------------------------------------------- changes */

/* Add one; for one that is too many an element at the other end goes. */
static enum pheap_status push(struct pp_change *change, pht_value queue, bool front, struct pht_any value)
{
    uint64_t count, limit;
    enum pheap_status status = pht_queue_count(change->t, queue, &count);
    if (status == PHEAP_OK)
        status = pht_queue_limit(change->t, queue, &limit);
    if (status == PHEAP_OK && count > 0 && count >= limit)
        status = pht_queue_pop(change->t, queue, !front, NULL);
    return status == PHEAP_OK ? pht_queue_push(change->t, queue, front, value) : status;
}

/*
 * Move `count` elements from one end to a list, in that order; and put them back, the last one first.  The list refers to
 * them meanwhile: what has no reference may be in limbo, and gone, when something is stored.
 */
static enum pheap_status lift(struct pp_change *change, pht_value queue, bool front, uint64_t count, pht_value list)
{
    uint64_t left;
    pht_value word;
    enum pheap_status status = pht_queue_count(change->t, queue, &left);
    while (status == PHEAP_OK && count-- > 0) {
        status = pht_queue_get(change->t, queue, front ? 0 : left - 1, &word);
        left--;
        if (status == PHEAP_OK)
            status = pht_list_append(change->t, list, pht_of(word));
        if (status == PHEAP_OK)
            status = pht_queue_pop(change->t, queue, front, NULL);
    }
    return status;
}

static enum pheap_status put_back(struct pp_change *change, pht_value queue, bool front, uint64_t count, pht_value list)
{
    enum pheap_status status = PHEAP_OK;
    while (status == PHEAP_OK && count-- > 0) {
        pht_value word;
        status = pht_list_get(change->t, list, count, &word);
        if (status == PHEAP_OK)
            status = pht_queue_push(change->t, queue, front, pht_of(word));
        if (status == PHEAP_OK)
            status = pht_list_remove(change->t, list, count, NULL);
    }
    return status;
}

/* What is done at a place between elements, when those before or behind it, whichever are fewer, were taken away. */
enum work { INSERT, DELETE, REVERSE };
static enum pheap_status work_at(struct pp_change *change, pht_value queue, enum work work, uint64_t at,
                                 const struct pht_any *value)
{
    uint64_t count;
    enum pheap_status status = pht_queue_count(change->t, queue, &count);
    if (status != PHEAP_OK)
        return status;
    const bool front = work == REVERSE || at <= count / 2;
    const uint64_t away = work == REVERSE ? count : front ? at : count - at - (work == DELETE);
    pht_value list;
    status = pht_list_new(change->t, &list);
    if (status == PHEAP_OK)
        status = lift(change, queue, front, away, list);
    if (status == PHEAP_OK && work == INSERT)
        status = pht_queue_push(change->t, queue, front, *value);
    if (status == PHEAP_OK && work == DELETE)
        status = pht_queue_pop(change->t, queue, front, NULL);
    if (status == PHEAP_OK)
        status = put_back(change, queue, work == REVERSE ? false : front, away, list);
    return status == PHEAP_OK ? pht_discard(change->t, list) : status;
}

PyDoc_STRVAR(extend_doc,
             "_extend($self, values, left, /)\n--\n\nAdd the values of a plain list at one end, as one change.");
static PyObject *queue_extend(PyObject *self, PyObject *args)
{
    struct pp_proxy *proxy = proxy_of(self);
    PyObject *values;
    int left;
    if (!PyArg_ParseTuple(args, "O!p", &PyList_Type, &values, &left))
        return NULL;
    struct pp_plan plan;
    pp_plan_begin(&plan, proxy->heap);
    int result = 0;
    for (Py_ssize_t i = 0; result == 0 && i < PyList_Size(values); i++) {
        PyObject *value = Py_NewRef(PyList_GetItem(values, i));
        result = pp_plan_add(&plan, value);
        Py_DECREF(value);
    }
    const size_t count = plan.item_count;
    if (result == 0)
        result = pp_plan_finish(&plan);
    struct pp_change change;
    if (result == 0)
        result = pp_change(&change, proxy);
    if (result == 0) {
        uint64_t limit = PHT_NO_LIMIT;
        enum pheap_status status = pp_plan_make(&plan, change.t);
        if (status == PHEAP_OK)
            status = pht_queue_limit(change.t, proxy->word, &limit);
        /* Those that would be dropped again at once are freed by pp_plan_tidy(). */
        for (size_t i = count > limit ? count - (size_t)limit : 0; status == PHEAP_OK && i < count; i++)
            status = push(&change, proxy->word, left != 0, plan.items[i].any);
        if (status == PHEAP_OK)
            status = pp_plan_tidy(&plan, change.t, count);
        result = pp_changed(&change, status, false);
    }
    pp_plan_end(&plan);
    if (result < 0)
        return NULL;
    Py_RETURN_NONE;
}

/* One value: at an end, into the place of an element, or before it. */
enum where { BACK, FRONT, PLACE, BEFORE };
static int put(struct pp_proxy *proxy, enum where where, Py_ssize_t index, PyObject *value)
{
    struct pp_plan plan;
    pp_plan_begin(&plan, proxy->heap);
    struct pp_change change;
    int result = -1;
    if (pp_plan_add(&plan, value) == 0 && pp_plan_finish(&plan) == 0 && pp_change(&change, proxy) == 0) {
        const pht_value queue = proxy->word;
        uint64_t count = 0, limit = 0;
        enum pheap_status status = pht_queue_count(change.t, queue, &count);
        if (status == PHEAP_OK)
            status = pht_queue_limit(change.t, queue, &limit);
        uint64_t at = from_front(index, count);
        if (where == BEFORE && index < 0 && at == count)
            at = 0; /* before the first */
        const bool there = where == PLACE ? at < count : where != BEFORE || count < limit;
        if (status == PHEAP_OK && there)
            status = pp_plan_make(&plan, change.t);
        if (status == PHEAP_OK && there)
            status = where == PLACE    ? pht_queue_set(change.t, queue, at, plan.items[0].any)
                     : where == BEFORE ? work_at(&change, queue, INSERT, at, &plan.items[0].any)
                                       : push(&change, queue, where == FRONT, plan.items[0].any);
        if (status == PHEAP_OK && there)
            status = pp_plan_tidy(&plan, change.t, 1);
        result = pp_changed(&change, status, !there);
        if (result == 0 && !there) {
            PyErr_SetString(PyExc_IndexError,
                            where == PLACE ? "deque index out of range" : "deque already at its maximum size");
            result = -1;
        }
    }
    pp_plan_end(&plan);
    return result;
}

static PyObject *queue_append(PyObject *self, PyObject *value)
{
    if (put(proxy_of(self), BACK, 0, value) < 0)
        return NULL;
    Py_RETURN_NONE;
}

static PyObject *queue_appendleft(PyObject *self, PyObject *value)
{
    if (put(proxy_of(self), FRONT, 0, value) < 0)
        return NULL;
    Py_RETURN_NONE;
}

static PyObject *queue_insert(PyObject *self, PyObject *args)
{
    PyObject *where, *value;
    if (!PyArg_UnpackTuple(args, "insert", 2, 2, &where, &value))
        return NULL;
    const Py_ssize_t index = PyNumber_AsSsize_t(where, NULL); /* the ends stand for what is beyond them */
    if ((index == -1 && PyErr_Occurred()) || put(proxy_of(self), BEFORE, index, value) < 0)
        return NULL;
    Py_RETURN_NONE;
}

static int queue_assign(PyObject *self, PyObject *key, PyObject *value)
{
    struct pp_proxy *proxy = proxy_of(self);
    const Py_ssize_t index = index_of(key);
    if (index == -1 && PyErr_Occurred())
        return -1;
    if (value != NULL)
        return put(proxy, PLACE, index, value);
    struct pp_change change;
    uint64_t count = 0;
    if (pp_change(&change, proxy) < 0)
        return -1;
    enum pheap_status status = pht_queue_count(change.t, proxy->word, &count);
    const uint64_t at = from_front(index, count);
    const bool there = status == PHEAP_OK && at < count;
    if (there)
        status = work_at(&change, proxy->word, DELETE, at, NULL);
    if (pp_changed(&change, status, !there) < 0)
        return -1;
    if (there)
        return 0;
    PyErr_SetString(PyExc_IndexError, "deque index out of range");
    return -1;
}

/* Take the element at one end. */
static PyObject *take(struct pp_proxy *proxy, bool front)
{
    struct pp_change change;
    if (pp_change(&change, proxy) < 0)
        return NULL;
    struct pp_shown shown = {.kind = 0};
    uint64_t count = 0;
    pht_value value;
    enum pheap_status status = pht_queue_count(change.t, proxy->word, &count);
    const bool there = status == PHEAP_OK && count > 0;
    if (there)
        status = pht_queue_get(change.t, proxy->word, front ? 0 : count - 1, &value);
    if (status == PHEAP_OK && there)
        status = pp_show(change.t, value, &shown);
    if (status == PHEAP_OK && there)
        status = pht_queue_pop(change.t, proxy->word, front, NULL);
    PyObject *object = NULL;
    if (pp_changed(&change, status, !there) == 0) {
        if (there)
            object = pp_make(&shown, proxy->heap, NULL);
        else
            PyErr_SetString(PyExc_IndexError, "pop from an empty deque");
    }
    pp_shown_clear(&shown);
    return object;
}

static PyObject *queue_pop(PyObject *self, PyObject *unused)
{
    (void)unused;
    return take(proxy_of(self), false);
}

static PyObject *queue_popleft(PyObject *self, PyObject *unused)
{
    (void)unused;
    return take(proxy_of(self), true);
}

static PyObject *queue_clear(PyObject *self, PyObject *unused)
{
    (void)unused;
    struct pp_proxy *proxy = proxy_of(self);
    struct pp_change change;
    if (pp_change(&change, proxy) < 0)
        return NULL;
    const enum pheap_status status = pht_queue_clear(change.t, proxy->word);
    if (pp_changed(&change, status, false) < 0)
        return NULL;
    Py_RETURN_NONE;
}

static PyObject *queue_reverse(PyObject *self, PyObject *unused)
{
    (void)unused;
    struct pp_proxy *proxy = proxy_of(self);
    struct pp_change change;
    if (pp_change(&change, proxy) < 0 ||
        pp_changed(&change, work_at(&change, proxy->word, REVERSE, 0, NULL), false) < 0)
        return NULL;
    Py_RETURN_NONE;
}

static PyObject *queue_rotate(PyObject *self, PyObject *args)
{
    struct pp_proxy *proxy = proxy_of(self);
    Py_ssize_t steps = 1;
    struct pp_change change;
    if (!PyArg_ParseTuple(args, "|n:rotate", &steps) || pp_change(&change, proxy) < 0)
        return NULL;
    uint64_t count;
    enum pheap_status status = pht_queue_count(change.t, proxy->word, &count);
    int64_t left = 0;
    if (status == PHEAP_OK && count > 1) {
        left = (int64_t)steps % (int64_t)count;
        if (left > (int64_t)count / 2)
            left -= (int64_t)count;
        else if (left < -(int64_t)(count / 2))
            left += (int64_t)count;
    }
    const bool none = left == 0, right = left > 0;
    for (left = right ? left : -left; status == PHEAP_OK && left > 0; left--) {
        pht_value word;
        status = pht_queue_pop(change.t, proxy->word, !right, &word);
        if (status == PHEAP_OK)
            status = pht_queue_push(change.t, proxy->word, right, pht_of(word));
    }
    if (pp_changed(&change, status, none) < 0)
        return NULL;
    Py_RETURN_NONE;
}

/* ------------------------------------------------------------------------------------------------------- the rest */

static PyObject *queue_changes(PyObject *self, PyObject *unused)
{
    (void)unused;
    struct pp_proxy *proxy = proxy_of(self);
    struct pp_look look;
    if (pp_look(&look, proxy) < 0)
        return NULL;
    uint32_t changes = 0;
    const enum pheap_status status = pht_changes(look.t, proxy->word, &changes);
    pp_seen(&look);
    if (status == PHEAP_OK)
        return PyLong_FromUnsignedLong(changes);
    pp_fail(proxy->heap->state, status);
    return NULL;
}

static PyObject *get_limit(PyObject *self, void *closure)
{
    (void)closure;
    struct pp_proxy *proxy = proxy_of(self);
    struct pp_look look;
    if (pp_look(&look, proxy) < 0)
        return NULL;
    uint64_t limit = 0;
    const enum pheap_status status = pht_queue_limit(look.t, proxy->word, &limit);
    pp_seen(&look);
    if (status == PHEAP_OK)
        return limit == PHT_NO_LIMIT ? Py_NewRef(Py_None) : PyLong_FromUnsignedLongLong(limit);
    pp_fail(proxy->heap->state, status);
    return NULL;
}

PyDoc_STRVAR(
    bound_doc,
    "_bound($self, maxlen, /)\n--\n\nKeep at most so many elements; those at the front go.  None: any number.");
static PyObject *queue_bound(PyObject *self, PyObject *most)
{
    struct pp_proxy *proxy = proxy_of(self);
    struct pp_change change;
    const Py_ssize_t given = most == Py_None ? 0 : PyLong_AsSsize_t(most);
    if (given == -1 && PyErr_Occurred())
        return NULL;
    if (given < 0) {
        PyErr_SetString(PyExc_ValueError, "maxlen must be non-negative");
        return NULL;
    }
    if (pp_change(&change, proxy) < 0)
        return NULL;
    const uint64_t limit = most == Py_None ? PHT_NO_LIMIT : (uint64_t)given;
    uint64_t count;
    enum pheap_status status = pht_queue_count(change.t, proxy->word, &count);
    for (; status == PHEAP_OK && count > limit; count--)
        status = pht_queue_pop(change.t, proxy->word, true, NULL);
    if (status == PHEAP_OK)
        status = pht_queue_set_limit(change.t, proxy->word, limit);
    if (pp_changed(&change, status, false) < 0)
        return NULL;
    Py_RETURN_NONE;
}

static PyObject *may_wait(PyObject *self, void *closure)
{
    (void)closure;
    return PyBool_FromLong(proxy_of(self)->snapshot == NULL && !pp_in_transaction(proxy_of(self)->heap));
}

static PyObject *queue_iter(PyObject *self)
{
    return pp_walk_new(proxy_of(self), 0, UINT64_MAX, PP_VALUES, false);
}

static PyObject *queue_reversed(PyObject *self, PyObject *unused)
{
    (void)unused;
    return pp_walk_new(proxy_of(self), 0, UINT64_MAX, PP_VALUES, true);
}

static PyObject *queue_new(PyTypeObject *type, PyObject *args, PyObject *names)
{
    (void)names;
    struct pp_state *state = pp_state_of(type);
    return state == NULL ? NULL : pp_container_new(type, args, state, PHT_QUEUE);
}

static PyMethodDef methods[] = {
    {"append", queue_append, METH_O, "append($self, value, /)\n--\n\nAdd an element at the right end."},
    {"appendleft", queue_appendleft, METH_O, "appendleft($self, value, /)\n--\n\nAdd an element at the left end."},
    {"insert", queue_insert, METH_VARARGS,
     "insert($self, index, value, /)\n--\n\nAdd an element before that of the index."},
    {"pop", queue_pop, METH_NOARGS, "pop($self, /)\n--\n\nRemove and return the element at the right end."},
    {"popleft", queue_popleft, METH_NOARGS, "popleft($self, /)\n--\n\nRemove and return the element at the left end."},
    {"clear", queue_clear, METH_NOARGS, "clear($self, /)\n--\n\nRemove everything."},
    {"reverse", queue_reverse, METH_NOARGS, "reverse($self, /)\n--\n\nReverse the order."},
    {"rotate", queue_rotate, METH_VARARGS,
     "rotate($self, n=1, /)\n--\n\nMove n elements from the right end to the left one."},
    {"__reversed__", queue_reversed, METH_NOARGS, NULL},
    {"_extend", queue_extend, METH_VARARGS, extend_doc},
    {"_bound", queue_bound, METH_O, bound_doc},
    {"_changes", queue_changes, METH_NOARGS, "_changes($self, /)\n--\n\nHow often elements came or went."},
    {NULL, NULL, 0, NULL},
};

static PyGetSetDef getset[] = {
    {"maxlen", get_limit, NULL, "At most how many elements it keeps; None: any number.", NULL},
    {"_may_wait", may_wait, NULL, "Can this thread wait for others to change it?", NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyType_Slot slots[] = {
    {Py_tp_doc, (void *)"Values that come and go at both ends."},
    {Py_tp_new, (void *)queue_new},
    {Py_tp_methods, methods},
    {Py_tp_getset, getset},
    {Py_tp_iter, (void *)queue_iter},
    {Py_mp_length, (void *)queue_length},
    {Py_sq_length, (void *)queue_length},
    {Py_mp_subscript, (void *)queue_subscript},
    {Py_mp_ass_subscript, (void *)queue_assign},
    {0, NULL},
};

static PyType_Spec spec = {"pheap._pheap.Queue", sizeof(struct pp_proxy), 0, Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE,
                           slots};

int pp_queue_init(PyObject *module, struct pp_state *state)
{
    /* That module would import five others. */
    PyObject *collections = PyImport_ImportModule("_collections");
    state->deque = collections == NULL ? NULL : PyObject_GetAttrString(collections, "deque");
    Py_XDECREF(collections);
    return state->deque == NULL ? -1 : pp_add_type(module, &spec, state->proxy, &state->queue);
}
