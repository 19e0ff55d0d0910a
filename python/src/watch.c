/* SPDX-License-Identifier: MIT */
/* Watch: tells an eventfd of commits, for event loops; pheap/aio.py waits with it. */
#include "python/src/heap.h"

struct watch {
    PyObject_HEAD struct pp_heap *heap;
    pheap_watch *watch; /* NULL: ended */
};

static void end(struct watch *self)
{
    pheap_watch *watch = self->watch;
    self->watch = NULL;
    if (watch != NULL) {
        Py_BEGIN_ALLOW_THREADS pheap_watch_end(watch);
        Py_END_ALLOW_THREADS
    }
}

static PyObject *watch_new(PyTypeObject *type, PyObject *args, PyObject *names)
{
    static char *const keywords[] = {"heap", "version", "eventfd", NULL};
    struct pp_state *state = pp_state_of(type);
    PyObject *heap;
    unsigned long long version;
    int event_fd;
    if (state == NULL || !PyArg_ParseTupleAndKeywords(args, names, "O!Ki:Watch", (char **)keywords, state->heap, &heap,
                                                      &version, &event_fd))
        return NULL;
    if (pp_heap_usable((struct pp_heap *)heap) < 0)
        return NULL;
    struct watch *self = pp_new(type);
    if (self == NULL)
        return NULL;
    self->heap = (struct pp_heap *)Py_NewRef(heap);
    const enum pheap_status status = pheap_watch_begin(self->heap->handle, version, event_fd, &self->watch);
    if (status == PHEAP_OK)
        return (PyObject *)self;
    pp_fail(state, status);
    Py_DECREF((PyObject *)self);
    return NULL;
}

static PyObject *watch_close(PyObject *self, PyObject *unused)
{
    (void)unused;
    end((struct watch *)self);
    Py_RETURN_NONE;
}

static void watch_dealloc(PyObject *self)
{
    end((struct watch *)self);
    Py_XDECREF((PyObject *)((struct watch *)self)->heap);
    pp_free(self);
}

static PyMethodDef methods[] = {
    {"close", watch_close, METH_NOARGS, "close($self, /)\n--\n\nEnd it: then the eventfd may be closed."},
    {NULL, NULL, 0, NULL},
};

static PyType_Slot slots[] = {
    {Py_tp_doc, (void *)"Watch($self, /, heap, version, eventfd)\n--\n\nAdds 1 to the eventfd when there are commits "
                        "after `version`."},
    {Py_tp_new, (void *)watch_new},
    {Py_tp_dealloc, (void *)watch_dealloc},
    {Py_tp_methods, methods},
    {0, NULL},
};

static PyType_Spec spec = {"pheap._pheap.Watch", sizeof(struct watch), 0, Py_TPFLAGS_DEFAULT, slots};

int pp_watch_init(PyObject *module, struct pp_state *state)
{
    return pp_add_type(module, &spec, NULL, &state->watch);
}
