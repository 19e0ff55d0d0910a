/* SPDX-License-Identifier: MIT */
/* Set: what pheap.Set is made of.  The rest of the surface of a set is in pheap/_set.py. */
#include "python/src/value.h"

static struct pp_proxy *proxy_of(PyObject *self)
{
    return (struct pp_proxy *)self;
}

/* A needle as a set takes it: a set stands for the frozenset of its elements. */
static int needle_of(PyObject *self, struct pp_needle *needle, PyObject *object)
{
    if (!PyObject_TypeCheck(object, &PySet_Type) && !PyObject_TypeCheck(object, proxy_of(self)->heap->state->set))
        return pp_needle(needle, object);
    memset(needle, 0, sizeof *needle);
    PyObject *hash = PyObject_GetAttrString((PyObject *)Py_TYPE(object), "__hash__");
    if (hash == NULL)
        return -1;
    const bool hashable = hash != Py_None;
    Py_DECREF(hash);
    if (hashable) /* of a subclass that has one */
        return pp_needle(needle, object);
    PyObject *frozen = PyFrozenSet_New(object);
    const int result = frozen == NULL ? -1 : pp_needle(needle, frozen);
    Py_XDECREF(frozen);
    return result;
}

static int set_contains(PyObject *self, PyObject *object)
{
    struct pp_proxy *proxy = proxy_of(self);
    struct pp_needle needle;
    struct pp_look look;
    int result = needle_of(self, &needle, object);
    if (result >= 0 && pp_look(&look, proxy) < 0)
        result = -1;
    if (result >= 0) {
        pht_value value = PHT_ABSENT;
        enum pheap_status status = PHEAP_OK;
        if (result > 0)
            status = pp_find(look.t, proxy->word, PHT_SET, &needle, &value);
        pp_seen(&look);
        result = value != PHT_ABSENT;
        if (status != PHEAP_OK) {
            pp_fail(proxy->heap->state, status);
            result = -1;
        }
    }
    pp_needle_clear(&needle);
    return result;
}

static Py_ssize_t set_length(PyObject *self)
{
    struct pp_proxy *proxy = proxy_of(self);
    struct pp_look look;
    if (pp_look(&look, proxy) < 0)
        return -1;
    uint64_t count = 0;
    const enum pheap_status status = pht_set_count(look.t, proxy->word, &count);
    pp_seen(&look);
    if (status != PHEAP_OK) {
        pp_fail(proxy->heap->state, status);
        return -1;
    }
    return (Py_ssize_t)count;
}

PyDoc_STRVAR(change_doc,
             "_change($self, /, added, removed)\n--\n\n"
             "Remove the elements of one plain list, which are of the set, then add those of another.  One change.");
static PyObject *set_change(PyObject *self, PyObject *args)
{
    struct pp_proxy *proxy = proxy_of(self);
    PyObject *added, *removed;
    if (!PyArg_ParseTuple(args, "O!O!", &PyList_Type, &added, &PyList_Type, &removed))
        return NULL;
    struct pp_plan plan;
    pp_plan_begin(&plan, proxy->heap);
    const Py_ssize_t removed_count = PyList_Size(removed);
    int result = 0;
    for (Py_ssize_t i = 0; result == 0 && i < removed_count + PyList_Size(added); i++) {
        PyObject *element =
            Py_NewRef(i < removed_count ? PyList_GetItem(removed, i) : PyList_GetItem(added, i - removed_count));
        result = pp_plan_key(&plan, element);
        Py_DECREF(element);
    }
    const size_t count = plan.item_count;
    if (result == 0)
        result = pp_plan_finish(&plan);
    struct pp_change change;
    if (result == 0 && count > 0 && (result = pp_change(&change, proxy)) == 0) {
        enum pheap_status status = pp_plan_make(&plan, change.t);
        for (size_t i = 0; status == PHEAP_OK && i < count; i++) {
            const struct pht_any key = plan.items[i].any;
            status = i < (size_t)removed_count ? pht_set_remove(change.t, proxy->word, key, NULL)
                                               : pht_set_add(change.t, proxy->word, key, NULL);
        }
        if (status == PHEAP_OK)
            status = pp_plan_tidy(&plan, change.t, count);
        result = pp_changed(&change, status, false);
    }
    pp_plan_end(&plan);
    if (result < 0)
        return NULL;
    Py_RETURN_NONE;
}

static PyObject *set_add(PyObject *self, PyObject *element)
{
    PyObject *added = PyList_New(0), *removed = PyList_New(0), *args = NULL, *result = NULL;
    if (added != NULL && removed != NULL && PyList_Append(added, element) == 0 &&
        (args = PyTuple_Pack(2, added, removed)) != NULL)
        result = set_change(self, args);
    Py_XDECREF(added);
    Py_XDECREF(removed);
    Py_XDECREF(args);
    return result;
}

PyDoc_STRVAR(take_doc, "_take($self, /, element)\n--\n\nRemove an element; was it there?");
static PyObject *set_take(PyObject *self, PyObject *element)
{
    struct pp_proxy *proxy = proxy_of(self);
    struct pp_needle needle;
    struct pp_change change;
    int result = needle_of(self, &needle, element);
    if (result >= 0 && pp_change(&change, proxy) < 0)
        result = -1;
    if (result >= 0) {
        pht_value value = PHT_ABSENT;
        enum pheap_status status = PHEAP_OK;
        if (result > 0)
            status = pp_find(change.t, proxy->word, PHT_SET, &needle, &value);
        const bool there = value != PHT_ABSENT;
        if (status == PHEAP_OK && there)
            status = pht_set_remove(change.t, proxy->word, needle.any, NULL);
        result = pp_changed(&change, status, !there) < 0 ? -1 : there;
    }
    pp_needle_clear(&needle);
    return result < 0 ? NULL : PyBool_FromLong(result);
}

static PyObject *set_pop(PyObject *self, PyObject *unused)
{
    (void)unused;
    struct pp_proxy *proxy = proxy_of(self);
    struct pp_change change;
    if (pp_change(&change, proxy) < 0)
        return NULL;
    struct pp_shown shown = {.kind = 0};
    uint64_t cursor = 0;
    pht_value key;
    enum pheap_status status = pht_set_previous(change.t, proxy->word, &cursor, &key);
    const bool empty = status == PHEAP_END;
    if (empty)
        status = PHEAP_OK;
    if (status == PHEAP_OK && !empty)
        status = pp_show(change.t, key, &shown);
    if (status == PHEAP_OK && !empty)
        status = pht_set_remove(change.t, proxy->word, pht_of(key), NULL);
    PyObject *element = NULL;
    if (pp_changed(&change, status, empty) == 0) {
        if (empty)
            PyErr_SetString(PyExc_KeyError, "pop from an empty set");
        else
            element = pp_make(&shown, proxy->heap, NULL);
    }
    pp_shown_clear(&shown);
    return element;
}

static PyObject *set_clear(PyObject *self, PyObject *unused)
{
    (void)unused;
    struct pp_change change;
    if (pp_change(&change, proxy_of(self)) < 0 ||
        pp_changed(&change, pht_set_clear(change.t, proxy_of(self)->word), false) < 0)
        return NULL;
    Py_RETURN_NONE;
}

static PyObject *set_iter(PyObject *self)
{
    return pp_walk(proxy_of(self), false);
}

static PyObject *set_reversed(PyObject *self, PyObject *unused)
{
    (void)unused;
    return pp_walk(proxy_of(self), true);
}

static PyObject *set_new(PyTypeObject *type, PyObject *args, PyObject *names)
{
    (void)names;
    struct pp_state *state = pp_state_of(type);
    return state == NULL ? NULL : pp_container_new(type, args, state, PHT_SET);
}

static PyMethodDef methods[] = {
    {"add", set_add, METH_O, "add($self, element, /)\n--\n\nAdd an element."},
    {"pop", set_pop, METH_NOARGS, "pop($self, /)\n--\n\nRemove and return the element that came last."},
    {"clear", set_clear, METH_NOARGS, "clear($self, /)\n--\n\nRemove everything."},
    {"__reversed__", set_reversed, METH_NOARGS, NULL},
    {"_take", set_take, METH_O, take_doc},
    {"_change", set_change, METH_VARARGS, change_doc},
    {NULL, NULL, 0, NULL},
};

static PyType_Slot slots[] = {
    {Py_tp_doc, (void *)"Elements, in the order in which they came."},
    {Py_tp_new, (void *)set_new},
    {Py_tp_methods, methods},
    {Py_tp_iter, (void *)set_iter},
    {Py_sq_length, (void *)set_length},
    {Py_sq_contains, (void *)set_contains},
    {0, NULL},
};

static PyType_Spec spec = {"pheap._pheap.Set", sizeof(struct pp_proxy), 0, Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE,
                           slots};

int pp_set_init(PyObject *module, struct pp_state *state)
{
    return pp_add_type(module, &spec, state->proxy, &state->set);
}
