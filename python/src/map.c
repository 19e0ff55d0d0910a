/* SPDX-License-Identifier: MIT */
/* Map: what pheap.Dict is made of, and the iterator that Set has, too.  The rest of the surface of a dict is in
 * pheap/_dict.py. */
#include "python/src/value.h"

static struct pp_proxy *proxy_of(PyObject *self)
{
    return (struct pp_proxy *)self;
}

static void raise_key_error(PyObject *key)
{
    PyObject *args = PyTuple_Pack(1, key); /* a tuple would be taken for the arguments */
    if (args != NULL)
        PyErr_SetObject(PyExc_KeyError, args);
    Py_XDECREF(args);
}

/* One step of a walk; for a set the value is the key. */
static enum pheap_status step(struct pht *t, pht_value container, bool set, bool backwards, uint64_t *cursor,
                              pht_value *key, pht_value *value)
{
    if (!set)
        return backwards ? pht_map_previous(t, container, cursor, key, value)
                         : pht_map_next(t, container, cursor, key, value);
    const enum pheap_status status =
        backwards ? pht_set_previous(t, container, cursor, key) : pht_set_next(t, container, cursor, key);
    if (status == PHEAP_OK)
        *value = *key;
    return status;
}

/* 1: *object is the value of the key; 0: it is not there; -1: an exception. */
static int look_up(PyObject *self, PyObject *key, PyObject **object)
{
    struct pp_proxy *proxy = proxy_of(self);
    struct pp_needle needle;
    struct pp_look look;
    int result = pp_needle(&needle, key);
    if (result >= 0 && pp_look(&look, proxy) < 0)
        result = -1;
    if (result >= 0) {
        struct pp_shown shown = {.kind = 0};
        pht_value value = PHT_ABSENT;
        enum pheap_status status = PHEAP_OK;
        if (result > 0)
            status = pp_find(look.t, proxy->word, proxy->kind, &needle, &value);
        if (status == PHEAP_OK && value != PHT_ABSENT && object != NULL)
            status = pp_show(look.t, value, &shown);
        pp_seen(&look);
        result = value != PHT_ABSENT;
        if (status != PHEAP_OK) {
            pp_fail(proxy->heap->state, status);
            result = -1;
        } else if (result > 0 && object != NULL) {
            *object = pp_make(&shown, proxy->heap, proxy->snapshot);
            if (*object == NULL)
                result = -1;
        }
        pp_shown_clear(&shown);
    }
    pp_needle_clear(&needle);
    return result;
}

int pp_map_contains(PyObject *self, PyObject *key)
{
    return look_up(self, key, NULL);
}

PyObject *pp_map_subscript(PyObject *self, PyObject *key)
{
    PyObject *object;
    const int found = look_up(self, key, &object);
    if (found != 0)
        return found < 0 ? NULL : object;
    struct pp_state *state = proxy_of(self)->heap->state;
    if ((PyObject *)Py_TYPE(self) != state->classes[proxy_of(self)->kind]) {
        PyObject *missing = PyObject_GetAttrString((PyObject *)Py_TYPE(self), "__missing__");
        if (missing != NULL) {
            object = PyObject_CallFunctionObjArgs(missing, self, key, NULL);
            Py_DECREF(missing);
            return object;
        }
        PyErr_Clear();
    }
    raise_key_error(key);
    return NULL;
}

Py_ssize_t pp_map_length(PyObject *self)
{
    struct pp_proxy *proxy = proxy_of(self);
    struct pp_look look;
    if (pp_look(&look, proxy) < 0)
        return -1;
    uint64_t count = 0;
    const enum pheap_status status = proxy->kind == PHT_MAP ? pht_map_count(look.t, proxy->word, &count)
                                                            : pht_omap_count(look.t, proxy->word, &count);
    pp_seen(&look);
    if (status != PHEAP_OK) {
        pp_fail(proxy->heap->state, status);
        return -1;
    }
    return (Py_ssize_t)count;
}

static enum pheap_status value_of(struct pht *t, const struct pp_proxy *map, struct pht_any key, pht_value *value)
{
    return map->kind == PHT_MAP ? pht_map_get(t, map->word, key, value) : pht_omap_get(t, map->word, key, value);
}

/* Store an entry, whose items begin at number `item`. */
static enum pheap_status store(const struct pp_change *change, const struct pp_proxy *map, const struct pp_plan *plan,
                               size_t item)
{
    const struct pht_any key = plan->items[item].any, value = plan->items[item + 1].any;
    return map->kind == PHT_MAP ? pht_map_set(change->t, map->word, key, value)
                                : pht_omap_set(change->t, map->word, key, value);
}

/* Has a key an order with those of an ordered map?  Asked before anything is made. */
static enum pheap_status fits(struct pht *t, const struct pp_proxy *map, const struct pp_needle *key)
{
    uint64_t rank;
    return map->kind == PHT_MAP ? PHEAP_OK : pht_omap_rank(t, map->word, key->any, &rank, NULL);
}

static int set_item(struct pp_proxy *proxy, PyObject *key, PyObject *value)
{
    struct pp_plan plan;
    struct pp_needle needle = {.count = 0};
    pp_plan_begin(&plan, proxy->heap);
    struct pp_change change;
    int result = -1;
    if (pp_plan_key(&plan, key) == 0 && pp_plan_add(&plan, value) == 0 && pp_plan_finish(&plan) == 0 &&
        (proxy->kind == PHT_MAP || pp_needle(&needle, key) >= 0) && pp_change(&change, proxy) == 0) {
        enum pheap_status status = fits(change.t, proxy, &needle);
        if (status == PHEAP_OK)
            status = pp_plan_make(&plan, change.t);
        if (status == PHEAP_OK)
            status = store(&change, proxy, &plan, 0);
        if (status == PHEAP_OK)
            status = pp_plan_tidy(&plan, change.t, 2);
        result = pp_changed(&change, status, false);
    }
    pp_plan_end(&plan);
    pp_needle_clear(&needle);
    return result;
}

/* Remove a key: 1; 0: it was not there; -1: an exception.  *object (may be NULL) becomes its value. */
static int remove_key(struct pp_proxy *proxy, PyObject *key, PyObject **object)
{
    struct pp_needle needle;
    struct pp_shown shown = {.kind = 0};
    struct pp_change change;
    int result = pp_needle(&needle, key);
    if (result >= 0 && pp_change(&change, proxy) < 0)
        result = -1;
    if (result >= 0) {
        pht_value value = PHT_ABSENT;
        enum pheap_status status = PHEAP_OK;
        if (result > 0)
            status = pp_find(change.t, proxy->word, proxy->kind, &needle, &value);
        const bool there = value != PHT_ABSENT;
        if (status == PHEAP_OK && there && object != NULL)
            status = pp_show(change.t, value, &shown);
        if (status == PHEAP_OK && there && object != NULL)
            status = pp_hold_shown(change.heap, &shown);
        if (status == PHEAP_OK && there)
            status = proxy->kind == PHT_MAP ? pht_map_remove(change.t, proxy->word, needle.any, NULL)
                                            : pht_omap_remove(change.t, proxy->word, needle.any, NULL);
        result = pp_changed(&change, status, !there) < 0 ? -1 : there;
    }
    if (result > 0 && object != NULL) {
        *object = pp_make(&shown, proxy->heap, NULL);
        if (*object == NULL)
            result = -1;
    }
    pp_shown_clear(&shown);
    pp_needle_clear(&needle);
    return result;
}

int pp_map_assign(PyObject *self, PyObject *key, PyObject *value)
{
    if (value != NULL)
        return set_item(proxy_of(self), key, value);
    const int removed = remove_key(proxy_of(self), key, NULL);
    if (removed == 0)
        raise_key_error(key);
    return removed > 0 ? 0 : -1;
}

PyObject *pp_map_get(PyObject *self, PyObject *args)
{
    PyObject *key, *other = Py_None, *object;
    if (!PyArg_UnpackTuple(args, "get", 1, 2, &key, &other))
        return NULL;
    const int found = look_up(self, key, &object);
    return found < 0 ? NULL : found > 0 ? object : Py_NewRef(other);
}

PyObject *pp_map_setdefault(PyObject *self, PyObject *args)
{
    struct pp_proxy *proxy = proxy_of(self);
    PyObject *key, *value = Py_None, *object = NULL;
    if (!PyArg_UnpackTuple(args, "setdefault", 1, 2, &key, &value))
        return NULL;
    int found = look_up(self, key, &object);
    if (found != 0)
        return found < 0 ? NULL : object;
    struct pp_plan plan;
    struct pp_needle needle = {.count = 0};
    struct pp_shown shown = {.kind = 0};
    pp_plan_begin(&plan, proxy->heap);
    struct pp_change change;
    if (pp_plan_key(&plan, key) == 0 && pp_plan_add(&plan, value) == 0 && pp_plan_finish(&plan) == 0 &&
        (proxy->kind == PHT_MAP || pp_needle(&needle, key) >= 0) && pp_change(&change, proxy) == 0) {
        /* Somebody else may have been quicker: then theirs stays, and what was made here goes. */
        pht_value present = PHT_ABSENT;
        enum pheap_status status = fits(change.t, proxy, &needle);
        if (status == PHEAP_OK)
            status = pp_plan_make(&plan, change.t);
        if (status == PHEAP_OK)
            status = value_of(change.t, proxy, plan.items[0].any, &present);
        const bool there = present != PHT_ABSENT;
        if (status == PHEAP_OK && !there)
            status = store(&change, proxy, &plan, 0);
        if (status == PHEAP_OK && !there)
            status = value_of(change.t, proxy, plan.items[0].any, &present);
        if (status == PHEAP_OK)
            status = pp_plan_tidy(&plan, change.t, 2);
        if (status == PHEAP_OK)
            status = pp_show(change.t, present, &shown);
        if (pp_changed(&change, status, false) == 0)
            object = pp_make(&shown, proxy->heap, NULL);
    }
    pp_shown_clear(&shown);
    pp_needle_clear(&needle);
    pp_plan_end(&plan);
    return object;
}

PyObject *pp_map_pop(PyObject *self, PyObject *args)
{
    PyObject *key, *other = NULL, *object;
    if (!PyArg_UnpackTuple(args, "pop", 1, 2, &key, &other))
        return NULL;
    const int removed = remove_key(proxy_of(self), key, &object);
    if (removed != 0)
        return removed < 0 ? NULL : object;
    if (other != NULL)
        return Py_NewRef(other);
    raise_key_error(key);
    return NULL;
}

static PyObject *map_popitem(PyObject *self, PyObject *unused)
{
    (void)unused;
    struct pp_proxy *proxy = proxy_of(self);
    struct pp_change change;
    if (pp_change(&change, proxy) < 0)
        return NULL;
    struct pp_shown shown[2] = {{.kind = 0}, {.kind = 0}};
    uint64_t cursor = 0;
    pht_value key, value;
    enum pheap_status status = pht_map_previous(change.t, proxy->word, &cursor, &key, &value);
    const bool empty = status == PHEAP_END;
    if (empty)
        status = PHEAP_OK;
    if (status == PHEAP_OK && !empty)
        status = pp_show(change.t, key, &shown[0]);
    if (status == PHEAP_OK && !empty)
        status = pp_show(change.t, value, &shown[1]);
    if (status == PHEAP_OK && !empty)
        status = pp_hold_shown(change.heap, &shown[1]);
    if (status == PHEAP_OK && !empty)
        status = pht_map_remove(change.t, proxy->word, pht_of(key), NULL);
    PyObject *pair = NULL;
    if (pp_changed(&change, status, empty) == 0) {
        if (empty) {
            PyErr_SetString(PyExc_KeyError, "popitem(): dictionary is empty");
        } else {
            PyObject *first = pp_make(&shown[0], proxy->heap, NULL);
            PyObject *second = first == NULL ? NULL : pp_make(&shown[1], proxy->heap, NULL);
            pair = second == NULL ? NULL : PyTuple_Pack(2, first, second);
            Py_XDECREF(first);
            Py_XDECREF(second);
        }
    }
    pp_shown_clear(&shown[0]);
    pp_shown_clear(&shown[1]);
    return pair;
}

static PyObject *map_clear(PyObject *self, PyObject *unused)
{
    (void)unused;
    struct pp_proxy *proxy = proxy_of(self);
    struct pp_change change;
    if (pp_change(&change, proxy) < 0)
        return NULL;
    const enum pheap_status status = pht_map_clear(change.t, proxy->word);
    if (pp_changed(&change, status, false) < 0)
        return NULL;
    Py_RETURN_NONE;
}

const char pp_map_get_doc[] = "get($self, key, default=None, /)\n--\n\nThe value of the key, else the default.";
const char pp_map_setdefault_doc[] = "setdefault($self, key, default=None, /)\n--\n\n"
                                     "The value of the key, which becomes the default if it is not there.";
const char pp_map_pop_doc[] =
    "pop(key[, default])\n\nRemove a key and return its value, or the default, or raise KeyError.";

const char pp_map_update_doc[] = "_update($self, /, plain)\n--\n\nStore all entries of a plain dict, as one change.";
PyObject *pp_map_update(PyObject *self, PyObject *plain)
{
    struct pp_proxy *proxy = proxy_of(self);
    if (!PyDict_CheckExact(plain)) {
        PyErr_SetString(PyExc_TypeError, "_update() takes a plain dict");
        return NULL;
    }
    PyObject *items = PyDict_Items(plain);
    if (items == NULL)
        return NULL;
    struct pp_plan plan;
    pp_plan_begin(&plan, proxy->heap);
    const Py_ssize_t count = PyList_Size(items);
    int result = 0;
    for (Py_ssize_t i = 0; result == 0 && i < count; i++) {
        PyObject *pair = PyList_GetItem(items, i);
        result = pp_plan_key(&plan, PyTuple_GetItem(pair, 0));
        if (result == 0)
            result = pp_plan_add(&plan, PyTuple_GetItem(pair, 1));
    }
    struct pp_change change;
    if (result == 0 && count > 0) {
        result = pp_plan_finish(&plan);
        if (result == 0)
            result = pp_change(&change, proxy);
        if (result == 0) {
            enum pheap_status status = pp_plan_make(&plan, change.t);
            for (Py_ssize_t i = 0; status == PHEAP_OK && i < count; i++)
                status = store(&change, proxy, &plan, 2 * (size_t)i);
            if (status == PHEAP_OK)
                status = pp_plan_tidy(&plan, change.t, 2 * (size_t)count);
            result = pp_changed(&change, status, false);
        }
    }
    pp_plan_end(&plan);
    Py_DECREF(items);
    if (result < 0)
        return NULL;
    Py_RETURN_NONE;
}

static PyObject *map_new(PyTypeObject *type, PyObject *args, PyObject *names)
{
    (void)names;
    struct pp_state *state = pp_state_of(type);
    if (state == NULL)
        return NULL;
    return pp_container_new(type, args, state, PHT_MAP);
}

/* ----------------------------------------------------------------------------------------------------- iterators */

struct iterator {
    PyObject_HEAD struct pp_proxy *map; /* NULL: at its end */
    uint64_t cursor;
    uint64_t done; /* entries given so far */
    int part;      /* enum pp_part */
    int backwards;
};

static PyObject *iterate(PyObject *self, int part, int backwards)
{
    struct iterator *iterator = pp_new(proxy_of(self)->heap->state->map_iterator);
    if (iterator == NULL)
        return NULL;
    iterator->map = (struct pp_proxy *)Py_NewRef(self);
    iterator->part = part;
    iterator->backwards = backwards;
    return (PyObject *)iterator;
}

PyDoc_STRVAR(iterate_doc,
             "_iterate($self, /, part, backwards)\n--\n\nAn iterator over keys (0), values (1) or items (2).");
static PyObject *map_iterate(PyObject *self, PyObject *args)
{
    int part, backwards;
    return PyArg_ParseTuple(args, "ip", &part, &backwards) ? iterate(self, part, backwards) : NULL;
}

PyObject *pp_walk(struct pp_proxy *proxy, bool backwards)
{
    struct pp_look look;
    if (pp_look(&look, proxy) < 0)
        return NULL;
    pp_seen(&look);
    return iterate((PyObject *)proxy, PP_KEYS, backwards);
}

static PyObject *map_iter(PyObject *self)
{
    return pp_walk(proxy_of(self), false);
}

static PyObject *iterator_next(PyObject *self)
{
    struct iterator *iterator = (struct iterator *)self;
    struct pp_proxy *map = iterator->map;
    struct pp_look look;
    if (map == NULL)
        return NULL;
    Py_INCREF((PyObject *)map); /* what runs meanwhile may come back here, and end the iterator */
    if (pp_look(&look, map) < 0) {
        Py_DECREF((PyObject *)map);
        return NULL;
    }
    struct pp_shown shown[2] = {{.kind = 0}, {.kind = 0}};
    uint64_t cursor = iterator->cursor;
    pht_value key, value;
    const bool set = map->kind == PHT_SET;
    enum pheap_status status = step(look.t, map->word, set, iterator->backwards, &cursor, &key, &value);
    if (status == PHEAP_OK && iterator->part != PP_VALUES)
        status = pp_show(look.t, key, &shown[0]);
    if (status == PHEAP_OK && iterator->part != PP_KEYS)
        status = pp_show(look.t, value, &shown[1]);
    pp_seen(&look);
    PyObject *object = NULL;
    if (status == PHEAP_OK) {
        iterator->cursor = cursor;
        iterator->done++;
        object = pp_make_part(shown, iterator->part, map->heap, map->snapshot);
    } else if (status == PHEAP_END) {
        Py_CLEAR(iterator->map);
    } else if (status == PHEAP_BUSY) {
        PyErr_Format(PyExc_RuntimeError, "%s changed size during iteration", set ? "Set" : "dictionary");
    } else {
        pp_fail(map->heap->state, status);
    }
    pp_shown_clear(&shown[0]);
    pp_shown_clear(&shown[1]);
    Py_DECREF((PyObject *)map);
    return object;
}

static PyObject *iterator_hint(PyObject *self, PyObject *unused)
{
    (void)unused;
    const struct iterator *iterator = (struct iterator *)self;
    PyObject *map = Py_XNewRef((PyObject *)iterator->map);
    const Py_ssize_t count = map == NULL ? 0 : PyObject_Size(map);
    Py_XDECREF(map);
    if (count < 0)
        return NULL;
    return PyLong_FromUnsignedLongLong((uint64_t)count > iterator->done ? (uint64_t)count - iterator->done : 0);
}

/* As those of dict and set: pickled as an iterator over a list of what is left. */
static PyObject *iterator_reduce(PyObject *self, PyObject *unused)
{
    (void)unused;
    const struct iterator *iterator = (struct iterator *)self;
    struct iterator *rest = pp_new(Py_TYPE(self));
    if (rest == NULL)
        return NULL;
    rest->map = (struct pp_proxy *)Py_XNewRef((PyObject *)iterator->map);
    rest->cursor = iterator->cursor;
    rest->done = iterator->done;
    rest->part = iterator->part;
    rest->backwards = iterator->backwards;
    return pp_reduced((PyObject *)rest);
}

static void iterator_dealloc(PyObject *self)
{
    Py_XDECREF((PyObject *)((struct iterator *)self)->map);
    pp_free(self);
}

static PyMethodDef iterator_methods[] = {
    {"__length_hint__", iterator_hint, METH_NOARGS, NULL},
    {"__reduce__", iterator_reduce, METH_NOARGS, NULL},
    {NULL, NULL, 0, NULL},
};

static PyType_Slot iterator_slots[] = {
    {Py_tp_methods, iterator_methods},
    {Py_tp_iter, (void *)PyObject_SelfIter},
    {Py_tp_iternext, (void *)iterator_next},
    {Py_tp_dealloc, (void *)iterator_dealloc},
    {0, NULL},
};

static PyType_Spec iterator_spec = {"pheap._pheap.MapIterator", sizeof(struct iterator), 0,
                                    Py_TPFLAGS_DEFAULT | Py_TPFLAGS_DISALLOW_INSTANTIATION, iterator_slots};

static PyMethodDef methods[] = {
    {"get", pp_map_get, METH_VARARGS, pp_map_get_doc},
    {"setdefault", pp_map_setdefault, METH_VARARGS, pp_map_setdefault_doc},
    {"pop", pp_map_pop, METH_VARARGS, pp_map_pop_doc},
    {"popitem", map_popitem, METH_NOARGS, "popitem($self, /)\n--\n\nRemove and return the last (key, value) pair."},
    {"clear", map_clear, METH_NOARGS, "clear($self, /)\n--\n\nRemove everything."},
    {"_update", pp_map_update, METH_O, pp_map_update_doc},
    {"_iterate", map_iterate, METH_VARARGS, iterate_doc},
    {NULL, NULL, 0, NULL},
};

static PyType_Slot slots[] = {
    {Py_tp_doc, (void *)"Values by keys, in the order in which the keys came."},
    {Py_tp_new, (void *)map_new},
    {Py_tp_methods, methods},
    {Py_tp_iter, (void *)map_iter},
    {Py_mp_length, (void *)pp_map_length},
    {Py_mp_subscript, (void *)pp_map_subscript},
    {Py_mp_ass_subscript, (void *)pp_map_assign},
    {Py_sq_contains, (void *)pp_map_contains},
    {0, NULL},
};

static PyType_Spec spec = {"pheap._pheap.Map", sizeof(struct pp_proxy), 0, Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE,
                           slots};

int pp_map_init(PyObject *module, struct pp_state *state)
{
    if (pp_add_type(module, &spec, state->proxy, &state->map) < 0)
        return -1;
    return pp_add_type(module, &iterator_spec, NULL, &state->map_iterator);
}
