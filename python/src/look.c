/* SPDX-License-Identifier: MIT */
/*
 * Looking at values, and snapshots.
 *
 * Each look at the newest version is a read transaction of its own, so that a process that reads and then sleeps pins
 * nothing.  Fields of records are read without one: see pheap_glance_begin() and slot.c.  types/ cannot look in that way,
 * as it reads some words twice.
 */
#include "python/src/block.h"

enum { GLANCES = 1 << 16 };

int pp_look_at(struct pp_look *look, struct pp_heap *heap, struct pp_snapshot *snapshot)
{
    look->reader = NULL;
    look->heap = heap;
    if (pp_heap_usable(heap) < 0)
        return -1;
    if (snapshot != NULL) {
        if (snapshot->reader == NULL || snapshot->forks != pp_forks) {
            PyErr_SetString(heap->state->closed, snapshot->reader == NULL
                                                     ? "the snapshot is closed"
                                                     : "the snapshot belongs to the parent process");
            return -1;
        }
        look->t = &snapshot->look;
        return 0;
    }
    if (pp_in_transaction(heap)) {
        look->t = &heap->now.view;
        return 0;
    }
    if (pp_session_is_pressing(heap)) {
        pp_session_tend(heap);
        if (pp_heap_usable(heap) < 0)
            return -1;
    }
    /* FRESH: an error when snapshots have all the views, rather than what an older one shows. */
    enum pheap_status status = pheap_read_begin_timeout(heap->handle, PHEAP_FRESH, 0, &look->reader);
    if (status == PHEAP_OK) {
        look->t = &look->own;
        status = pht_look(look->reader, &look->own);
        if (status == PHEAP_OK) {
            pp_session_look(heap, look->t);
            return 0;
        }
        pp_seen(look);
    }
    pp_fail(heap->state, status);
    return -1;
}

int pp_look(struct pp_look *look, struct pp_proxy *proxy)
{
    if (proxy->dead) {
        PyErr_SetString(proxy->heap->state->dead,
                        proxy->lost
                            ? "this object came from the parent process, or from before a close() that failed: get it "
                              "from the root again"
                            : "this object is gone: the transaction that made it was aborted, or it was freed");
        return -1;
    }
    return pp_look_at(look, proxy->heap, proxy->snapshot);
}

void pp_take_glance(struct pp_heap *heap, const struct pp_look *look)
{
    if (look->reader == NULL || pheap_glance_begin(look->reader, &heap->glance) != PHEAP_OK)
        return;
    heap->glance_forks = pp_forks;
    heap->glance_left = GLANCES;
}

void pp_seen(struct pp_look *look)
{
    if (look->reader == NULL)
        return;
    if (pp_in_flight > 0)
        pp_session_wake(look->heap, look->t);
    pheap_read_end(look->reader);
    look->reader = NULL;
}

/* --------------------------------------------------------------------------------------------------- snapshots */

static void end_snapshot(struct pp_snapshot *snapshot)
{
    if (snapshot->reader == NULL)
        return;
    if (snapshot->forks == pp_forks) {
        pheap_read_end(snapshot->reader);
        snapshot->heap->looking--;
        pp_session_may_rest(snapshot->heap);
    }
    snapshot->reader = NULL;
}

/* Has this process readers of as many versions as it may have?  Only worth a question if some of them stay. */
static bool views_are_out(struct pp_heap *heap)
{
    struct pheap_user user = {.size = sizeof user};
    if (heap->looking < 3 && heap->exports == NULL)
        return false;
    for (uint32_t from = 0; pheap_next_user(heap->handle, from, &user) == PHEAP_OK; from = user.seat + 1) {
        if (user.self)
            return user.pin_count == sizeof user.pins / sizeof user.pins[0];
    }
    return false;
}

enum pheap_status pp_may_stay(struct pp_heap *heap, enum pheap_status status, pheap_read **reader)
{
    if (status == PHEAP_OK && views_are_out(heap)) {
        (void)pheap_read_end(*reader);
        *reader = NULL;
        status = PHEAP_TIMEOUT;
    }
    return status != PHEAP_TIMEOUT
               ? status
               : pheap_fail_with(PHEAP_BUSY, "this process has snapshots and read-only views of "
                                             "three versions open, and can have no more: close one");
}

PyObject *pp_snapshot_new(struct pp_heap *heap)
{
    struct pp_snapshot *snapshot = pp_new(heap->state->snapshot);
    if (snapshot == NULL)
        return NULL;
    snapshot->heap = (struct pp_heap *)Py_NewRef((PyObject *)heap);
    if (pp_heap_usable(heap) < 0)
        goto failed;
    pheap_read *reader;
    enum pheap_status status;
    heap->users++;
    Py_BEGIN_ALLOW_THREADS status = pheap_read_begin(heap->handle, PHEAP_FRESH, &reader);
    Py_END_ALLOW_THREADS heap->users--;
    status = pp_may_stay(heap, status, &reader);
    if (status == PHEAP_OK) {
        status = pht_look(reader, &snapshot->look);
        if (status == PHEAP_OK) {
            snapshot->reader = reader;
            snapshot->forks = pp_forks;
            heap->looking++;
            pp_session_wake(heap, &snapshot->look); /* else others would wait for it */
            return (PyObject *)snapshot;
        }
        pheap_read_end(reader);
    }
    pp_fail(heap->state, status);
failed:
    Py_DECREF((PyObject *)snapshot);
    return NULL;
}

static PyObject *snapshot_close(PyObject *self, PyObject *unused)
{
    (void)unused;
    struct pp_snapshot *snapshot = (struct pp_snapshot *)self;
    if (pp_refuse_exports(snapshot->heap, PHT_ABSENT, snapshot, "the snapshot cannot be closed") < 0)
        return NULL;
    end_snapshot(snapshot);
    Py_RETURN_NONE;
}

static PyObject *snapshot_enter(PyObject *self, PyObject *unused)
{
    (void)unused;
    struct pp_look look;
    if (pp_look_at(&look, ((struct pp_snapshot *)self)->heap, (struct pp_snapshot *)self) < 0)
        return NULL;
    return Py_NewRef(self);
}

static PyObject *snapshot_exit(PyObject *self, PyObject *args)
{
    (void)args;
    return snapshot_close(self, NULL);
}

static PyObject *snapshot_root(PyObject *self, void *closure)
{
    (void)closure;
    struct pp_snapshot *snapshot = (struct pp_snapshot *)self;
    struct pp_look look;
    if (pp_look_at(&look, snapshot->heap, snapshot) < 0)
        return NULL;
    return pp_proxy_of(snapshot->heap, snapshot, pht_root(look.t), PHT_MAP);
}

static PyObject *snapshot_version(PyObject *self, void *closure)
{
    (void)closure;
    struct pp_snapshot *snapshot = (struct pp_snapshot *)self;
    struct pp_look look;
    if (pp_look_at(&look, snapshot->heap, snapshot) < 0)
        return NULL;
    return PyLong_FromUnsignedLongLong(pheap_read_version(snapshot->reader));
}

static PyObject *snapshot_closed(PyObject *self, void *closure)
{
    (void)closure;
    return PyBool_FromLong(((struct pp_snapshot *)self)->reader == NULL);
}

static void snapshot_dealloc(PyObject *self)
{
    struct pp_snapshot *snapshot = (struct pp_snapshot *)self;
    end_snapshot(snapshot);
    PyMem_Free(snapshot->table.seats);
    Py_XDECREF((PyObject *)snapshot->heap);
    pp_free(self);
}

static PyMethodDef snapshot_methods[] = {
    {"close", snapshot_close, METH_NOARGS, "close($self, /)\n--\n\nEnd it: its objects cannot be used any more."},
    {"__enter__", snapshot_enter, METH_NOARGS, NULL},
    {"__exit__", snapshot_exit, METH_VARARGS, NULL},
    {NULL, NULL, 0, NULL},
};

static PyGetSetDef snapshot_getset[] = {
    {"root", snapshot_root, NULL, "The dict by which everything else is found, for reading.", NULL},
    {"version", snapshot_version, NULL, "The number of the commit that it shows.", NULL},
    {"closed", snapshot_closed, NULL, "Was it closed?", NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyType_Slot snapshot_slots[] = {
    {Py_tp_doc, (void *)"A heap as it was at one commit."},
    {Py_tp_dealloc, (void *)snapshot_dealloc},
    {Py_tp_methods, snapshot_methods},
    {Py_tp_getset, snapshot_getset},
    {0, NULL},
};

static PyType_Spec snapshot_spec = {"pheap.Snapshot", sizeof(struct pp_snapshot), 0,
                                    Py_TPFLAGS_DEFAULT | Py_TPFLAGS_DISALLOW_INSTANTIATION, snapshot_slots};

int pp_snapshot_init(PyObject *module, struct pp_state *state)
{
    return pp_add_type(module, &snapshot_spec, NULL, &state->snapshot);
}
