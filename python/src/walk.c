/* SPDX-License-Identifier: MIT */
/* Iterators over queues and ordered maps, which end with an error when elements came or went since they were made. */
#include "python/src/value.h"

struct walk {
    PyObject_HEAD struct pp_proxy *proxy; /* NULL: at its end */
    struct pht_walk place;                /* of a queue */
    uint64_t low, high;                   /* ranks that are left, of an ordered map; of a queue high - low elements */
    uint32_t changes;
    int part; /* enum pp_part */
    int backwards;
};

PyObject *pp_walk_new(struct pp_proxy *proxy, uint64_t low, uint64_t high, int part, bool backwards)
{
    struct pp_look look;
    uint32_t changes;
    uint64_t count = 0;
    if (pp_look(&look, proxy) < 0)
        return NULL;
    enum pheap_status status = pht_changes(look.t, proxy->word, &changes);
    if (status == PHEAP_OK)
        status = proxy->kind == PHT_QUEUE ? pht_queue_count(look.t, proxy->word, &count)
                                          : pht_omap_count(look.t, proxy->word, &count);
    pp_seen(&look);
    if (status != PHEAP_OK) {
        pp_fail(proxy->heap->state, status);
        return NULL;
    }
    struct walk *walk = pp_new(proxy->heap->state->walk);
    if (walk == NULL)
        return NULL;
    walk->proxy = (struct pp_proxy *)Py_NewRef((PyObject *)proxy);
    walk->high = high < count ? high : count;
    walk->low = low < walk->high ? low : walk->high;
    walk->changes = changes;
    walk->part = part;
    walk->backwards = backwards;
    return (PyObject *)walk;
}

/* The next one out of a view. */
static enum pheap_status step(struct walk *walk, const struct pp_proxy *proxy, struct pht *t, struct pp_shown shown[2])
{
    const pht_value word = proxy->word;
    uint32_t changes;
    pht_value key = PHT_ABSENT, value;
    enum pheap_status status = pht_changes(t, word, &changes);
    if (status != PHEAP_OK)
        return status;
    if (changes != walk->changes)
        return PHEAP_BUSY;
    if (walk->low == walk->high)
        return PHEAP_END;
    if (proxy->kind == PHT_QUEUE)
        status = walk->backwards ? pht_queue_previous(t, word, &walk->place, &value)
                                 : pht_queue_next(t, word, &walk->place, &value);
    else
        status = pht_omap_at(t, word, walk->backwards ? walk->high - 1 : walk->low, &key, &value);
    if (status == PHEAP_OK && walk->part != PP_VALUES)
        status = pp_show(t, key, &shown[0]);
    if (status == PHEAP_OK && walk->part != PP_KEYS)
        status = pp_show(t, value, &shown[1]);
    if (status == PHEAP_OK) {
        walk->low += !walk->backwards;
        walk->high -= walk->backwards != 0;
    }
    return status;
}

static PyObject *walk_next(PyObject *self)
{
    struct walk *walk = (struct walk *)self;
    struct pp_proxy *proxy = walk->proxy;
    struct pp_look look;
    if (proxy == NULL)
        return NULL;
    Py_INCREF((PyObject *)proxy); /* what runs meanwhile may come back here, and end the iterator */
    if (pp_look(&look, proxy) < 0) {
        Py_DECREF((PyObject *)proxy);
        return NULL;
    }
    struct pp_shown shown[2] = {{.kind = 0}, {.kind = 0}};
    const enum pheap_status status = step(walk, proxy, look.t, shown);
    pp_seen(&look);
    PyObject *object = NULL;
    if (status == PHEAP_OK) {
        object = pp_make_part(shown, walk->part, proxy->heap, proxy->snapshot);
    } else if (status == PHEAP_END || status == PHEAP_BUSY) {
        if (status == PHEAP_BUSY)
            PyErr_SetString(PyExc_RuntimeError, proxy->kind == PHT_QUEUE ? "deque mutated during iteration"
                                                                         : "OrderedMap changed during iteration");
        walk->low = walk->high = 0;
        Py_CLEAR(walk->proxy);
    } else {
        pp_fail(proxy->heap->state, status);
    }
    pp_shown_clear(&shown[0]);
    pp_shown_clear(&shown[1]);
    Py_DECREF((PyObject *)proxy);
    return object;
}

static PyObject *walk_hint(PyObject *self, PyObject *unused)
{
    (void)unused;
    return PyLong_FromUnsignedLongLong(((struct walk *)self)->high - ((struct walk *)self)->low);
}

/* Pickled as an iterator over a plain list of what is left. */
static PyObject *walk_reduce(PyObject *self, PyObject *unused)
{
    (void)unused;
    const struct walk *walk = (struct walk *)self;
    struct walk *rest = pp_new(Py_TYPE(self));
    if (rest == NULL)
        return NULL;
    rest->proxy = (struct pp_proxy *)Py_XNewRef((PyObject *)walk->proxy);
    rest->place = walk->place;
    rest->low = walk->low;
    rest->high = walk->high;
    rest->changes = walk->changes;
    rest->part = walk->part;
    rest->backwards = walk->backwards;
    return pp_reduced((PyObject *)rest);
}

static void walk_dealloc(PyObject *self)
{
    Py_XDECREF((PyObject *)((struct walk *)self)->proxy);
    pp_free(self);
}

static PyMethodDef methods[] = {
    {"__length_hint__", walk_hint, METH_NOARGS, NULL},
    {"__reduce__", walk_reduce, METH_NOARGS, NULL},
    {NULL, NULL, 0, NULL},
};

static PyType_Slot slots[] = {
    {Py_tp_methods, methods},
    {Py_tp_iter, (void *)PyObject_SelfIter},
    {Py_tp_iternext, (void *)walk_next},
    {Py_tp_dealloc, (void *)walk_dealloc},
    {0, NULL},
};

static PyType_Spec spec = {"pheap._pheap.Walk", sizeof(struct walk), 0,
                           Py_TPFLAGS_DEFAULT | Py_TPFLAGS_DISALLOW_INSTANTIATION, slots};

int pp_walk_init(PyObject *module, struct pp_state *state)
{
    return pp_add_type(module, &spec, NULL, &state->walk);
}
