/* SPDX-License-Identifier: MIT */
/* Heap: opening, closing, the root; Transaction: the context manager of h.transaction(). */
#include "python/src/block.h"

#include <limits.h>
#include <stdlib.h>

uint64_t pp_thread(void)
{
    static _Atomic uint64_t last;
    static _Thread_local uint64_t mine;
    if (mine == 0)
        mine = ++last;
    return mine;
}

int pp_is_task(struct pp_heap *heap)
{
    PyObject *now = PyObject_CallNoArgs(heap->current_task);
    if (now == NULL)
        PyErr_Clear(); /* no loop runs, so that no task does */
    const int same = now == heap->task;
    Py_XDECREF(now);
    return same;
}

int pp_heap_usable(struct pp_heap *heap)
{
    if (heap->handle == NULL) {
        PyErr_Format(heap->state->closed, "%R is closed", heap->path);
        return -1;
    }
    if (heap->forks != pp_forks) {
        /* A child process: what was begun before belongs to the parent. */
        heap->forks = pp_forks;
        heap->looking = 0;
        heap->watching = 0;
        heap->users = 0;
        const bool parent_writes = heap->now.txn != NULL && heap->now.owner == pp_thread();
        if (heap->now.txn != NULL) {
            struct pp_now now = heap->now;
            heap->now = (struct pp_now){.txn = NULL};
            pp_bury(heap, &now, 0);
            free(now.tending.drops);
            free(now.made);
        }
        return pp_session_adopt(heap, parent_writes);
    }
    return 0;
}

/* A timeout in seconds, or None, as milliseconds, or -1; -2 with an exception. */
static int64_t milliseconds(PyObject *timeout)
{
    if (timeout == NULL || timeout == Py_None)
        return -1;
    const double seconds = PyFloat_AsDouble(timeout);
    if (seconds == -1.0 && PyErr_Occurred())
        return -2;
    if (!(seconds >= 0)) {
        PyErr_SetString(PyExc_ValueError, "a timeout is None, or seconds from 0 on");
        return -2;
    }
    return seconds > 1e9 ? -1 : (int64_t)(seconds * 1000 + 0.999);
}

/* ------------------------------------------------------------------------------------------------- transactions */

struct transaction {
    PyObject_HEAD struct pp_heap *heap;
    enum pheap_durability how;
    int64_t timeout_ms;
    uint64_t serial; /* of the transaction, while it is open; 0: it is not */
    unsigned forks;  /* pp_forks when it began */
    uint32_t level;
    uint32_t savepoint;
    size_t made_count; /* when it began */
};

static PyObject *transaction_enter(PyObject *self, PyObject *unused)
{
    (void)unused;
    struct transaction *transaction = (struct transaction *)self;
    struct pp_heap *heap = transaction->heap;
    if (pp_heap_usable(heap) < 0)
        return NULL;
    if (transaction->serial != 0 && heap->now.txn != NULL && heap->now.serial == transaction->serial) {
        PyErr_SetString(PyExc_RuntimeError, "this transaction is open already");
        return NULL;
    }
    if (!pp_in_transaction(heap)) {
        if (pp_begin(heap, transaction->timeout_ms) < 0)
            return NULL;
    } else {
        const enum pheap_status status = pheap_savepoint(heap->now.txn, &transaction->savepoint);
        if (status != PHEAP_OK) {
            pp_fail(heap->state, status);
            return NULL;
        }
        heap->now.level++;
    }
    transaction->level = heap->now.level;
    transaction->serial = heap->now.serial;
    transaction->forks = pp_forks;
    transaction->made_count = heap->now.made_count;
    return Py_NewRef(self);
}

/* Back to where an inner transaction began. */
static int roll_back(struct transaction *transaction)
{
    struct pp_heap *heap = transaction->heap;
    struct pp_now *now = &heap->now;
    enum pheap_status status = pheap_rollback(now->txn, transaction->savepoint);
    if (status == PHEAP_OK)
        status = pht_begin(now->txn, &now->view);
    pp_bury(heap, now, transaction->made_count);
    now->made_count = transaction->made_count;
    if (status != PHEAP_OK) {
        now->view.failed = status; /* no commit of what should have been undone */
        pp_fail(heap->state, status);
        return -1;
    }
    pp_hold_all(heap);
    return 0;
}

static PyObject *transaction_exit(PyObject *self, PyObject *args)
{
    struct transaction *transaction = (struct transaction *)self;
    struct pp_heap *heap = transaction->heap;
    PyObject *type, *value, *traceback;
    if (!PyArg_ParseTuple(args, "OOO", &type, &value, &traceback) || pp_heap_usable(heap) < 0)
        return NULL;
    if (transaction->serial != 0 && transaction->forks != pp_forks) {
        transaction->serial = 0;
        pp_fail(heap->state,
                pheap_fail_with(PHEAP_FORKED, "the transaction belongs to the parent process, which ends it"));
        return NULL;
    }
    if (transaction->serial == 0 || heap->now.txn == NULL || heap->now.serial != transaction->serial) {
        PyErr_SetString(PyExc_RuntimeError, "this transaction is not open");
        return NULL;
    }
    if (!pp_in_transaction(heap)) {
        pp_fail(heap->state, pheap_fail_with(PHEAP_WRONG_THREAD, "a transaction is ended by the thread that began it"));
        return NULL;
    }
    const bool failed = type != Py_None;
    transaction->serial = 0;
    if (heap->now.level < transaction->level) {
        if (failed)
            Py_RETURN_FALSE; /* which has undone it */
        PyErr_SetString(PyExc_RuntimeError, "this transaction was ended with the one that it is within");
        return NULL;
    }
    /* The end of this one ends those within it, too: nobody else would.  What they have done cannot be kept then. */
    const bool left = heap->now.level > transaction->level;
    int result = 0;
    if (transaction->level > 1) {
        heap->now.level = transaction->level - 1;
        if (failed || left)
            result = roll_back(transaction);
    } else if (failed || left) {
        pp_abort(heap);
    } else {
        result = pp_commit(heap, transaction->how);
    }
    if (left && !failed && result == 0) {
        PyErr_SetString(PyExc_RuntimeError,
                        "a transaction within this one is open still, so that all of it was undone");
        result = -1;
    }
    if (result < 0)
        return NULL;
    Py_RETURN_FALSE;
}

static void transaction_dealloc(PyObject *self)
{
    Py_XDECREF((PyObject *)((struct transaction *)self)->heap);
    pp_free(self);
}

static PyMethodDef transaction_methods[] = {
    {"__enter__", transaction_enter, METH_NOARGS, NULL},
    {"__exit__", transaction_exit, METH_VARARGS, NULL},
    {NULL, NULL, 0, NULL},
};

static PyType_Slot transaction_slots[] = {
    {Py_tp_doc, (void *)"A transaction: what happens in its with block is kept as a whole, or not at all."},
    {Py_tp_dealloc, (void *)transaction_dealloc},
    {Py_tp_methods, transaction_methods},
    {0, NULL},
};

static PyType_Spec transaction_spec = {"pheap.Transaction", sizeof(struct transaction), 0,
                                       Py_TPFLAGS_DEFAULT | Py_TPFLAGS_DISALLOW_INSTANTIATION, transaction_slots};

/* -------------------------------------------------------------------------------------------------------- heaps */

/* The registry of values and the root, in a heap that has none. */
static int make_values(struct pp_heap *heap)
{
    pheap_read *reader;
    enum pheap_status status = pheap_read_begin(heap->handle, 0, &reader);
    if (status == PHEAP_OK) {
        struct pht look;
        status = pht_look(reader, &look);
        pheap_read_end(reader);
    }
    if (status == PHEAP_OK || (status == PHEAP_NOT_FOUND && heap->read_only))
        return 0;
    if (status != PHEAP_NOT_FOUND) {
        pp_fail(heap->state, status);
        return -1;
    }
    return pp_begin(heap, -1) < 0 ? -1 : pp_commit(heap, PHEAP_DURABLE);
}

static int open_handle(struct pp_heap *heap, unsigned flags, const struct pheap_options *options)
{
    PyObject *path = NULL;
    if (!PyUnicode_FSConverter(heap->path, &path))
        return -1;
    char *name;
    if (PyBytes_AsStringAndSize(path, &name, NULL) < 0) {
        Py_DECREF(path);
        return -1;
    }
    enum pheap_status status;
    pheap *handle;
    Py_BEGIN_ALLOW_THREADS status = pheap_open(name, flags, options, &handle);
    Py_END_ALLOW_THREADS Py_DECREF(path);
    if (status != PHEAP_OK) {
        pp_fail(heap->state, status);
        return -1;
    }
    heap->handle = handle;
    heap->forks = pp_forks;
    struct pheap_info info = {.size = sizeof info};
    if (pheap_get_info(handle, &info) == PHEAP_OK && info.recovered)
        return pp_log("info", "%R: recovered: replayed %llu bytes of the log", heap->path,
                      (unsigned long long)info.replayed_bytes);
    return 0;
}

static PyObject *heap_new(PyTypeObject *type, PyObject *args, PyObject *names)
{
    static char *const keywords[] = {"path",    "create", "readonly", "durable",   "reserve",     "budget", "log_limit",
                                     "segment", "buffer", "mode",     "checksums", "pin_wait_ms", NULL};
    struct pp_state *state = pp_state_of(type);
    if (state == NULL)
        return NULL;
    PyObject *path;
    int create, read_only, durable, checksums;
    unsigned long long reserve, budget, log_limit;
    unsigned segment, buffer, mode, pin_wait_ms;
    if (!PyArg_ParseTupleAndKeywords(args, names, "OpppKKKIIIpI:Heap", (char **)keywords, &path, &create, &read_only,
                                     &durable, &reserve, &budget, &log_limit, &segment, &buffer, &mode, &checksums,
                                     &pin_wait_ms))
        return NULL;
    struct pp_heap *heap = pp_new(type);
    if (heap == NULL)
        return NULL;
    heap->state = state;
    heap->glance_forks = UINT_MAX;
    heap->path = Py_NewRef(path);
    heap->read_only = read_only;
    heap->how = durable ? PHEAP_DURABLE : PHEAP_LAZY;
    heap->pin_wait_ms = pin_wait_ms == 0 ? 1000 : pin_wait_ms;
    const struct pheap_options options = {
        .size = sizeof options,
        .reserve_bytes = reserve,
        .budget_bytes = budget,
        .log_limit_bytes = log_limit,
        .segment_bytes = segment,
        .buffer_bytes = buffer,
        .mode = mode,
        .checksums = (uint32_t)checksums,
        .read_views = 4, /* the heap's own reader, and snapshots of three versions */
        .pin_wait_ms = pin_wait_ms,
    };
    const unsigned flags = (create ? (unsigned)PHEAP_CREATE : 0u) | (read_only ? (unsigned)PHEAP_READONLY : 0u);
    if (open_handle(heap, flags, &options) < 0 || make_values(heap) < 0 || pp_session_begin(heap) < 0) {
        Py_DECREF((PyObject *)heap);
        return NULL;
    }
    return (PyObject *)heap;
}

static PyObject *heap_close(PyObject *self, PyObject *unused)
{
    (void)unused;
    struct pp_heap *heap = (struct pp_heap *)self;
    if (heap->handle == NULL)
        Py_RETURN_NONE;
    if (pp_heap_usable(heap) < 0)
        return NULL;
    if (heap->now.txn != NULL && heap->now.owner != pp_thread())
        pp_end_of_thread(heap);
    if (heap->now.txn != NULL || heap->looking > 0 || heap->watching > 0 || heap->users > 0) {
        const char *what = heap->now.txn != NULL ? "a transaction is open"
                           : heap->looking > 0   ? "a snapshot is open"
                           : heap->watching > 0  ? "something watches it"
                                                 : "another thread is in a call";
        pp_fail(heap->state, pheap_fail_with(PHEAP_BUSY, "the heap cannot be closed: %s", what));
        return NULL;
    }
    if (pp_refuse_exports(heap, PHT_ABSENT, NULL, "the heap cannot be closed") < 0)
        return NULL;
    pheap *handle = heap->handle;
    heap->handle = NULL;
    heap->glance_forks = UINT_MAX;
    enum pheap_status status;
    pp_session_end(heap);
    Py_BEGIN_ALLOW_THREADS status = pheap_close(handle);
    Py_END_ALLOW_THREADS if (status == PHEAP_OK && heap->stray != NULL) status = PHEAP_STRAY_STORE;
    if (status != PHEAP_OK) {
        if (status == PHEAP_BUSY) {
            heap->handle = handle;
            pp_table_lose(&heap->table, heap->root, true);
            if (pp_session_begin(heap) < 0)
                return NULL;
            pheap_fail_with(PHEAP_BUSY, "the heap cannot be closed: something of it is in use");
        }
        pp_fail_views(heap, status);
        return NULL;
    }
    Py_RETURN_NONE;
}

static PyObject *heap_abort(PyObject *self, PyObject *unused)
{
    (void)unused;
    struct pp_heap *heap = (struct pp_heap *)self;
    if (heap->handle == NULL)
        Py_RETURN_NONE;
    if (pp_heap_usable(heap) < 0)
        return NULL;
    if (pp_in_transaction(heap))
        pp_abort(heap);
    Py_RETURN_NONE;
}

static void heap_dealloc(PyObject *self)
{
    struct pp_heap *heap = (struct pp_heap *)self;
    if (heap->weak != NULL)
        PyObject_ClearWeakRefs(self);
    if (heap->handle != NULL && heap->forks != pp_forks) {
        /* What it was at belongs to the parent. */
        if (heap->session.heap != NULL) {
            pp_fork_count_session(-1);
            pp_fork_gone_on();
        }
        free(heap->now.tending.drops);
        free(heap->now.made);
        free(heap->drops);
    } else if (heap->handle != NULL) {
        /* Of another thread it cannot be: that would hold the heap. */
        if (heap->now.txn != NULL)
            pp_abort(heap);
        pp_session_end(heap);
    }
    if (heap->handle != NULL) {
        enum pheap_status status;
        Py_BEGIN_ALLOW_THREADS status = pheap_close(heap->handle);
        Py_END_ALLOW_THREADS(void) status; /* errors have nobody to tell them to */
    }
    pp_forget_views(heap);
    Py_XDECREF(heap->stray);
    PyMem_Free(heap->table.seats);
    pp_layouts_free(heap);
    Py_XDECREF(heap->path);
    Py_XDECREF(heap->task);
    Py_XDECREF(heap->current_task);
    pp_free(self);
}

static PyObject *heap_enter(PyObject *self, PyObject *unused)
{
    (void)unused;
    return pp_heap_usable((struct pp_heap *)self) < 0 ? NULL : Py_NewRef(self);
}

/* If the block has failed, its exception is worth more than one of closing. */
static PyObject *heap_exit(PyObject *self, PyObject *args)
{
    PyObject *type, *value, *traceback;
    if (!PyArg_ParseTuple(args, "OOO", &type, &value, &traceback))
        return NULL;
    PyObject *closed = heap_close(self, NULL);
    if (closed == NULL) {
        if (type == Py_None)
            return NULL;
        PyErr_WriteUnraisable(self);
    }
    Py_XDECREF(closed);
    Py_RETURN_FALSE;
}

static PyObject *heap_transaction(PyObject *self, PyObject *args, PyObject *names)
{
    static char *const keywords[] = {"durable", "timeout", "lazy", NULL};
    struct pp_heap *heap = (struct pp_heap *)self;
    PyObject *durable = Py_None, *timeout = Py_None, *lazy = Py_None;
    if (!PyArg_ParseTupleAndKeywords(args, names, "|$OOO:transaction", (char **)keywords, &durable, &timeout, &lazy))
        return NULL;
    if (durable != Py_None && lazy != Py_None) {
        PyErr_SetString(PyExc_TypeError, "lazy=True is durable=False: give one of them");
        return NULL;
    }
    const int said = PyObject_IsTrue(lazy != Py_None ? lazy : durable);
    const int64_t timeout_ms = milliseconds(timeout);
    if (said < 0 || timeout_ms == -2)
        return NULL;
    const bool truth = lazy != Py_None ? !said : durable != Py_None ? said : heap->how == PHEAP_DURABLE;
    struct transaction *transaction = pp_new(heap->state->transaction);
    if (transaction == NULL)
        return NULL;
    transaction->heap = (struct pp_heap *)Py_NewRef(self);
    transaction->how = truth ? PHEAP_DURABLE : PHEAP_LAZY;
    transaction->timeout_ms = timeout_ms;
    return (PyObject *)transaction;
}

static PyObject *heap_snapshot(PyObject *self, PyObject *unused)
{
    (void)unused;
    return pp_snapshot_new((struct pp_heap *)self);
}

static PyObject *heap_sync(PyObject *self, PyObject *unused)
{
    (void)unused;
    struct pp_heap *heap = (struct pp_heap *)self;
    if (pp_heap_usable(heap) < 0)
        return NULL;
    enum pheap_status status;
    heap->users++;
    Py_BEGIN_ALLOW_THREADS status = pheap_sync(heap->handle);
    Py_END_ALLOW_THREADS heap->users--;
    if (status != PHEAP_OK) {
        pp_fail(heap->state, status);
        return NULL;
    }
    Py_RETURN_NONE;
}

/* The session sees what comes into limbo by turns: young, waiting, and what that lets go of. */
enum { COLLECT_TURNS = 4 };

static PyObject *heap_collect(PyObject *self, PyObject *unused)
{
    (void)unused;
    struct pp_heap *heap = (struct pp_heap *)self;
    if (pp_heap_usable(heap) < 0)
        return NULL;
    if (heap->now.txn != NULL) {
        pp_fail(heap->state, pheap_fail_with(PHEAP_BUSY, "the heap cannot be collected: a transaction is open"));
        return NULL;
    }
    uint64_t sum = 0;
    /* What waits after that waits for other processes. */
    for (unsigned turn = 0; turn < COLLECT_TURNS; turn++) {
        enum pheap_status status;
        uint64_t collected = 0;
        heap->users++;
        Py_BEGIN_ALLOW_THREADS status = pht_collect(heap->handle, heap->how, &collected);
        Py_END_ALLOW_THREADS heap->users--;
        if (status != PHEAP_OK) {
            pp_fail_views(heap, status);
            return NULL;
        }
        sum += collected;
        if (!pp_session_tend(heap))
            break;
        if (pp_heap_usable(heap) < 0)
            return NULL;
    }
    if (pp_log("info", "%R: collected %llu objects", heap->path, (unsigned long long)sum) < 0)
        return NULL;
    return PyLong_FromUnsignedLongLong(sum);
}

/* TIMEOUT as a whole: what the library tells is about the last part of the wait. */
static void fail_waiting(struct pp_heap *heap, unsigned long long version, int64_t timeout_ms)
{
    PyObject *path = PyObject_Str(heap->path);
    const char *text = path == NULL ? NULL : PyUnicode_AsUTF8AndSize(path, NULL);
    if (text == NULL)
        PyErr_Clear(); /* not UTF-8 */
    pp_fail(heap->state, pheap_fail_with(PHEAP_TIMEOUT, "%s: no commit after version %llu in %lld ms",
                                         text == NULL ? "the heap" : text, version, (long long)timeout_ms));
    Py_XDECREF(path);
}

static PyObject *heap_wait(PyObject *self, PyObject *args, PyObject *names)
{
    static char *const keywords[] = {"version", "timeout", NULL};
    struct pp_heap *heap = (struct pp_heap *)self;
    PyObject *given, *timeout = Py_None;
    if (!PyArg_ParseTupleAndKeywords(args, names, "O!|O:wait", (char **)keywords, &PyLong_Type, &given, &timeout))
        return NULL;
    const unsigned long long version = PyLong_AsUnsignedLongLong(given);
    if (version == (unsigned long long)-1 && PyErr_Occurred())
        return NULL;
    const int64_t timeout_ms = milliseconds(timeout);
    if (timeout_ms == -2 || pp_heap_usable(heap) < 0)
        return NULL;
    const bool in_vain = timeout_ms < 0 && pp_in_transaction(heap);
    for (int64_t waited = 0;;) {
        const int64_t left = timeout_ms < 0 ? 100 : timeout_ms - waited;
        const int64_t slice = in_vain ? 0 : left < 100 ? left : 100;
        enum pheap_status status;
        uint64_t newest;
        heap->users++;
        Py_BEGIN_ALLOW_THREADS status = pheap_wait(heap->handle, version, slice, &newest);
        Py_END_ALLOW_THREADS heap->users--;
        if (status == PHEAP_OK)
            return PyLong_FromUnsignedLongLong(newest);
        waited += slice;
        if (status == PHEAP_TIMEOUT && in_vain) {
            PyErr_SetString(PyExc_RuntimeError, "nobody can commit while this thread has a transaction open: who waits "
                                                "in it without a timeout waits for ever");
            return NULL;
        }
        if (status == PHEAP_TIMEOUT && timeout_ms >= 0 && waited >= timeout_ms)
            fail_waiting(heap, version, timeout_ms);
        else if (status != PHEAP_TIMEOUT)
            pp_fail(heap->state, status);
        if (PyErr_Occurred())
            return NULL;
        /* Commits wake it, so this is only about those that it does not wait for. */
        pp_session_keep_up(heap);
        if (pp_heap_usable(heap) < 0)
            return NULL;
        /* Whoever handles a signal may have closed the heap. */
        if (PyErr_CheckSignals() < 0 || pp_heap_usable(heap) < 0)
            return NULL;
    }
}

static PyObject *heap_bind(PyObject *self, PyObject *args)
{
    struct pp_heap *heap = (struct pp_heap *)self;
    PyObject *task, *current_task;
    if (!PyArg_ParseTuple(args, "OO:_bind", &task, &current_task))
        return NULL;
    PyObject *old[] = {heap->task, heap->current_task};
    heap->task = Py_NewRef(task);
    heap->current_task = Py_NewRef(current_task);
    heap->task_serial = task == Py_None ? 0 : heap->now.serial;
    Py_XDECREF(old[0]);
    Py_XDECREF(old[1]);
    Py_RETURN_NONE;
}

static PyObject *heap_in_transaction(PyObject *self, void *closure)
{
    (void)closure;
    struct pp_heap *heap = (struct pp_heap *)self;
    return pp_heap_usable(heap) < 0 ? NULL : PyBool_FromLong(pp_in_transaction(heap));
}

static PyObject *heap_root(PyObject *self, void *closure)
{
    (void)closure;
    struct pp_heap *heap = (struct pp_heap *)self;
    struct pp_look look;
    if (pp_look_at(&look, heap, NULL) < 0)
        return NULL;
    heap->root = pht_root(look.t);
    pp_seen(&look);
    return pp_proxy_of(heap, NULL, heap->root, PHT_MAP);
}

static PyObject *heap_version(PyObject *self, void *closure)
{
    (void)closure;
    struct pp_heap *heap = (struct pp_heap *)self;
    if (pp_heap_usable(heap) < 0)
        return NULL;
    uint64_t version;
    const enum pheap_status status = pheap_newest_version(heap->handle, &version);
    if (status != PHEAP_OK) {
        pp_fail(heap->state, status);
        return NULL;
    }
    return PyLong_FromUnsignedLongLong(version);
}

static PyObject *heap_path(PyObject *self, void *closure)
{
    (void)closure;
    return Py_NewRef(((struct pp_heap *)self)->path);
}

static PyObject *heap_closed(PyObject *self, void *closure)
{
    (void)closure;
    return PyBool_FromLong(((struct pp_heap *)self)->handle == NULL);
}

static PyObject *heap_repr(PyObject *self)
{
    const struct pp_heap *heap = (struct pp_heap *)self;
    return PyUnicode_FromFormat("<pheap.Heap %R%s>", heap->path, heap->handle == NULL ? ", closed" : "");
}

static PyObject *heap_migrate(PyObject *self, PyObject *class)
{
    struct pp_heap *heap = (struct pp_heap *)self;
    if (pp_heap_usable(heap) < 0)
        return NULL;
    return PyObject_CallMethod(heap->state->classes_module, "migrate", "OO", self, class);
}

static PyMethodDef heap_methods[] = {
    {"close", heap_close, METH_NOARGS,
     "close($self, /)\n--\n\nMake everything durable and close the heap.  An open transaction or snapshot is an "
     "error."},
    {"transaction", (PyCFunction)(void (*)(void))heap_transaction, METH_VARARGS | METH_KEYWORDS,
     "transaction($self, /, *, durable=None, timeout=None, lazy=None)\n--\n\n"
     "A context manager: its block is one transaction, undone if it is left by an exception.  Within another one it "
     "is\n"
     "a savepoint.  durable: is it on stable storage in the end, or soon after?  None: as the heap was opened.\n"
     "lazy=True is durable=False.\n"
     "timeout: seconds to wait for the writer of another thread or process."},
    {"snapshot", heap_snapshot, METH_NOARGS,
     "snapshot($self, /)\n--\n\nThe heap as it is now, for reading: with heap.snapshot() as s: s.root[...]\n"
     "A process can have snapshots of three versions at a time: Busy."},
    {"sync", heap_sync, METH_NOARGS, "sync($self, /)\n--\n\nMake every commit that has returned durable."},
    {"wait", (PyCFunction)(void (*)(void))heap_wait, METH_VARARGS | METH_KEYWORDS,
     "wait($self, /, version, timeout=None)\n--\n\n"
     "Wait until anybody has made a commit after this version, and return the number of the newest.\n"
     "timeout: seconds, then pheap.Timeout."},
    {"collect", heap_collect, METH_NOARGS,
     "collect($self, /)\n--\n\nFree what cannot be reached from the root any more, but refers to itself.  Objects that "
     "a "
     "process\n"
     "holds stay, with all that is in them; what dead processes held goes.  Returns how many objects were freed.  "
     "What\n"
     "other processes have not looked at yet is left for the next call."},
    {"_bind", heap_bind, METH_VARARGS,
     "_bind($self, /, task, current_task)\n--\n\nThe open transaction is of this task alone, not of all that run in "
     "its thread."},
    {"alloc", pp_heap_alloc, METH_O,
     "alloc($self, size, /)\n--\n\nA new Block of zeros, in the open transaction, in which it is to be stored "
     "somewhere."},
    {"free", pp_heap_free, METH_O,
     "free($self, block, /)\n--\n\nFree a block that is stored nowhere.  One that is stored goes with the last place "
     "that has "
     "it."},
    {"realloc", pp_heap_realloc, METH_VARARGS,
     "realloc($self, block, size, /)\n--\n\nMake a block longer, with zeros, or shorter.  Returns it, or another one "
     "that has "
     "its "
     "bytes: then store that in its place.\nThe old one is gone, or, if it is stored, is what it was."},
    {"info", pp_heap_info, METH_NOARGS,
     "info($self, /)\n--\n\nFigures of the heap and of this process, by the names of pheap_get_info(3).  `users` is a "
     "list of "
     "the\n"
     "processes that have it open, by the names of pheap_next_user(3)."},
    {"space", pp_heap_space, METH_NOARGS,
     "space($self, /)\n--\n\nWhat the newest version has of live blocks and free space, by a walk over it."},
    {"check", pp_heap_check, METH_NOARGS,
     "check($self, /)\n--\n\nWalk all blocks and values and prove them sound.  Returns the faults: a list of (offset, "
     "text)."},
    {"_abort", heap_abort, METH_NOARGS,
     "_abort($self, /)\n--\n\nAbort what this thread has open, at the exit of the program."},
    {"migrate", heap_migrate, METH_O,
     "migrate($self, cls, /)\n--\n\nGive all objects of a persistent class, and of its subclasses, that the root leads "
     "to the "
     "fields that the\nclass has now.  Each is a transaction of its own, unless one is open.  Returns how many it "
     "were."},
    {"__enter__", heap_enter, METH_NOARGS, NULL},
    {"__exit__", heap_exit, METH_VARARGS, NULL},
    {NULL, NULL, 0, NULL},
};

static PyGetSetDef heap_getset[] = {
    {"root", heap_root, NULL, "The dict by which everything else is found.", NULL},
    {"version", heap_version, NULL, "The number of the newest commit of any process.", NULL},
    {"in_transaction", heap_in_transaction, NULL, "Has this thread a transaction open?", NULL},
    {"path", heap_path, NULL, "The path that it was opened by.", NULL},
    {"closed", heap_closed, NULL, "Was it closed?", NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyMemberDef heap_members[] = {
    {"_pickle", T_INT, offsetof(struct pp_heap, pickle), 0, NULL},
    {"_readonly", T_INT, offsetof(struct pp_heap, read_only), READONLY, NULL},
    {"__weaklistoffset__", T_PYSSIZET, offsetof(struct pp_heap, weak), READONLY, NULL},
    {NULL, 0, 0, 0, NULL},
};

static PyType_Slot heap_slots[] = {
    {Py_tp_doc, (void *)"An open heap: see pheap.open()."},
    {Py_tp_new, (void *)heap_new},
    {Py_tp_dealloc, (void *)heap_dealloc},
    {Py_tp_repr, (void *)heap_repr},
    {Py_tp_methods, heap_methods},
    {Py_tp_getset, heap_getset},
    {Py_tp_members, heap_members},
    {0, NULL},
};

static PyType_Spec heap_spec = {"pheap.Heap", sizeof(struct pp_heap), 0, Py_TPFLAGS_DEFAULT, heap_slots};

int pp_heap_init(PyObject *module, struct pp_state *state)
{
    pp_fork_watch();
    if (pp_add_type(module, &heap_spec, NULL, &state->heap) < 0)
        return -1;
    return pp_add_type(module, &transaction_spec, NULL, &state->transaction);
}
