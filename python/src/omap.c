/* SPDX-License-Identifier: MIT */
/* OrderedMap: what pheap.OrderedMap is made of, besides what it shares with Map.  The rest is in pheap/_omap.py. */
#include "python/src/value.h"

#include <stdlib.h>

/* So many entries are copied out of a view in one look. */
enum { BATCH = 128 };

static struct pp_proxy *proxy_of(PyObject *self)
{
    return (struct pp_proxy *)self;
}

PyDoc_STRVAR(rank_doc, "_rank($self, key, /)\n--\n\nHow many keys are less, and whether the key is there.");
static PyObject *omap_rank(PyObject *self, PyObject *key)
{
    struct pp_proxy *proxy = proxy_of(self);
    struct pp_needle needle;
    struct pp_look look;
    PyObject *result = NULL;
    const int may = pp_needle(&needle, key);
    if (may == 0)
        PyErr_Format(PyExc_TypeError, "%R has no order with the keys of an OrderedMap", key);
    if (may > 0 && pp_look(&look, proxy) == 0) {
        uint64_t rank;
        bool found;
        const enum pheap_status status = pht_omap_rank(look.t, proxy->word, needle.any, &rank, &found);
        pp_seen(&look);
        if (status == PHEAP_OK)
            result = Py_BuildValue("KN", (unsigned long long)rank, PyBool_FromLong(found));
        else
            pp_fail(proxy->heap->state, status);
    }
    pp_needle_clear(&needle);
    return result;
}

/* Up to BATCH entries, every `step`th from rank `first` on, appended to `list`. */
static int read_batch(struct pp_proxy *proxy, uint64_t first, int64_t step, uint64_t wanted, int part, PyObject *list)
{
    struct pp_shown(*shown)[2] = calloc(BATCH, sizeof *shown);
    if (shown == NULL) {
        PyErr_NoMemory();
        return -1;
    }
    struct pp_look look;
    int result = pp_look(&look, proxy);
    if (result == 0) {
        uint64_t count = 0, got = 0;
        enum pheap_status status = pht_omap_count(look.t, proxy->word, &count);
        for (; status == PHEAP_OK && got < wanted; got++) {
            const uint64_t at = first + got * (uint64_t)step;
            pht_value key, value;
            if (at >= count)
                break;
            status = pht_omap_at(look.t, proxy->word, at, &key, &value);
            if (status == PHEAP_OK && part != PP_VALUES)
                status = pp_show(look.t, key, &shown[got][0]);
            if (status == PHEAP_OK && part != PP_KEYS)
                status = pp_show(look.t, value, &shown[got][1]);
        }
        pp_seen(&look);
        if (status != PHEAP_OK) {
            pp_fail(proxy->heap->state, status);
            result = -1;
        }
        for (uint64_t i = 0; result == 0 && i < got; i++) {
            PyObject *object = pp_make_part(shown[i], part, proxy->heap, proxy->snapshot);
            result = object == NULL ? -1 : PyList_Append(list, object);
            Py_XDECREF(object);
        }
    }
    for (int i = 0; i < BATCH; i++) {
        pp_shown_clear(&shown[i][0]);
        pp_shown_clear(&shown[i][1]);
    }
    free(shown);
    return result;
}

PyDoc_STRVAR(read_doc, "_read($self, start, step, count, part, /)\n--\n\n"
                       "A list of `count` keys (0), values (1) or items (2), every `step`th from rank `start` on.");
static PyObject *omap_read(PyObject *self, PyObject *args)
{
    Py_ssize_t start, step, count;
    int part;
    if (!PyArg_ParseTuple(args, "nnni", &start, &step, &count, &part))
        return NULL;
    PyObject *list = PyList_New(0);
    for (Py_ssize_t i = 0; list != NULL && i < count; i += BATCH) {
        const uint64_t batch = count - i < BATCH ? (uint64_t)(count - i) : BATCH;
        if (read_batch(proxy_of(self), (uint64_t)(start + i * step), step, batch, part, list) < 0)
            Py_CLEAR(list);
    }
    return list;
}

PyDoc_STRVAR(pop_at_doc, "_pop_end($self, last, /)\n--\n\nRemove the first or last entry and return it, or None.");
static PyObject *omap_pop_end(PyObject *self, PyObject *args)
{
    struct pp_proxy *proxy = proxy_of(self);
    struct pp_change change;
    int last;
    if (!PyArg_ParseTuple(args, "p", &last) || pp_change(&change, proxy) < 0)
        return NULL;
    struct pp_shown shown[2] = {{.kind = 0}, {.kind = 0}};
    uint64_t count;
    pht_value key, value;
    enum pheap_status status = pht_omap_count(change.t, proxy->word, &count);
    const bool there = status == PHEAP_OK && count > 0;
    if (there)
        status = pht_omap_at(change.t, proxy->word, last ? count - 1 : 0, &key, &value);
    if (status == PHEAP_OK && there)
        status = pp_show(change.t, key, &shown[0]);
    if (status == PHEAP_OK && there)
        status = pp_show(change.t, value, &shown[1]);
    if (status == PHEAP_OK && there)
        status = pp_hold_shown(change.heap, &shown[1]);
    if (status == PHEAP_OK && there)
        status = pht_omap_remove(change.t, proxy->word, pht_of(key), NULL);
    PyObject *pair = NULL;
    if (pp_changed(&change, status, !there) == 0)
        pair = there ? pp_make_part(shown, PP_ITEMS, proxy->heap, NULL) : Py_NewRef(Py_None);
    pp_shown_clear(&shown[0]);
    pp_shown_clear(&shown[1]);
    return pair;
}

static PyObject *omap_clear(PyObject *self, PyObject *unused)
{
    (void)unused;
    struct pp_proxy *proxy = proxy_of(self);
    struct pp_change change;
    if (pp_change(&change, proxy) < 0)
        return NULL;
    const enum pheap_status status = pht_omap_clear(change.t, proxy->word);
    if (pp_changed(&change, status, false) < 0)
        return NULL;
    Py_RETURN_NONE;
}

PyDoc_STRVAR(iterate_doc, "_iterate($self, part, backwards, low, high, /)\n--\n\n"
                          "An iterator over keys (0), values (1) or items (2), of the ranks from low up to high.");
static PyObject *omap_iterate(PyObject *self, PyObject *args)
{
    int part, backwards;
    unsigned long long low, high;
    if (!PyArg_ParseTuple(args, "ipKK", &part, &backwards, &low, &high))
        return NULL;
    return pp_walk_new(proxy_of(self), low, high, part, backwards != 0);
}

static PyObject *omap_iter(PyObject *self)
{
    return pp_walk_new(proxy_of(self), 0, UINT64_MAX, PP_KEYS, false);
}

static PyObject *omap_new(PyTypeObject *type, PyObject *args, PyObject *names)
{
    (void)names;
    struct pp_state *state = pp_state_of(type);
    return state == NULL ? NULL : pp_container_new(type, args, state, PHT_OMAP);
}

static PyMethodDef methods[] = {
    {"get", pp_map_get, METH_VARARGS, pp_map_get_doc},
    {"setdefault", pp_map_setdefault, METH_VARARGS, pp_map_setdefault_doc},
    {"pop", pp_map_pop, METH_VARARGS, pp_map_pop_doc},
    {"clear", omap_clear, METH_NOARGS, "clear($self, /)\n--\n\nRemove everything."},
    {"_update", pp_map_update, METH_O, pp_map_update_doc},
    {"_rank", omap_rank, METH_O, rank_doc},
    {"_read", omap_read, METH_VARARGS, read_doc},
    {"_pop_end", omap_pop_end, METH_VARARGS, pop_at_doc},
    {"_iterate", omap_iterate, METH_VARARGS, iterate_doc},
    {NULL, NULL, 0, NULL},
};

static PyType_Slot slots[] = {
    {Py_tp_doc, (void *)"Values by keys, in the order of the keys."},
    {Py_tp_new, (void *)omap_new},
    {Py_tp_methods, methods},
    {Py_tp_iter, (void *)omap_iter},
    {Py_mp_length, (void *)pp_map_length},
    {Py_mp_subscript, (void *)pp_map_subscript},
    {Py_mp_ass_subscript, (void *)pp_map_assign},
    {Py_sq_contains, (void *)pp_map_contains},
    {0, NULL},
};

static PyType_Spec spec = {"pheap._pheap.OrderedMap", sizeof(struct pp_proxy), 0,
                           Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE, slots};

int pp_omap_init(PyObject *module, struct pp_state *state)
{
    return pp_add_type(module, &spec, state->proxy, &state->omap);
}
