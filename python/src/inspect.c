/* SPDX-License-Identifier: MIT */
/* What a heap tells of itself: a check of all that it has, and its figures. */
#include "python/src/heap.h"

#include <stdlib.h>
#include <string.h>

/* Faults are kept outside of Python while the check runs without the GIL. */
struct faults {
    struct fault {
        uint64_t offset;
        char *text;
    } * list;
    size_t count, room;
    bool lost; /* for want of memory */
};

static void keep_fault(void *context, uint64_t offset, const char *text)
{
    struct faults *faults = context;
    if (faults->count == faults->room) {
        const size_t room = faults->room == 0 ? 16 : faults->room * 2;
        struct fault *list = realloc(faults->list, room * sizeof *list);
        if (list == NULL) {
            faults->lost = true;
            return;
        }
        faults->list = list;
        faults->room = room;
    }
    char *copy = strdup(text);
    if (copy == NULL)
        faults->lost = true;
    else
        faults->list[faults->count++] = (struct fault){offset, copy};
}

static void drop_faults(struct faults *faults)
{
    for (size_t i = 0; i < faults->count; i++)
        free(faults->list[i].text);
    free(faults->list);
}

/* The blocks, then the values that they hold. */
static enum pheap_status check_all(pheap *handle, struct faults *faults)
{
    pheap_read *reader;
    struct pht look;
    enum pheap_status status = pheap_read_begin(handle, PHEAP_FRESH, &reader);
    if (status != PHEAP_OK)
        return status;
    status = pheap_check(reader, keep_fault, NULL, faults);
    if (status == PHEAP_OK)
        status = pht_look(reader, &look);
    if (status == PHEAP_OK)
        status = pht_check(&look, keep_fault, faults, NULL);
    const enum pheap_status ended = pheap_read_end(reader);
    return status == PHEAP_OK ? ended : status;
}

PyObject *pp_heap_check(PyObject *self, PyObject *args)
{
    (void)args;
    struct pp_heap *heap = (struct pp_heap *)self;
    if (pp_heap_usable(heap) < 0)
        return NULL;
    struct faults faults = {NULL, 0, 0, false};
    enum pheap_status status;
    heap->users++;
    Py_BEGIN_ALLOW_THREADS status = check_all(heap->handle, &faults);
    Py_END_ALLOW_THREADS heap->users--;
    PyObject *list = NULL;
    if (faults.lost)
        status = pheap_fail_with(PHEAP_NO_MEMORY, "no memory for what the check has found");
    if (status != PHEAP_OK && (status != PHEAP_CORRUPT || faults.count == 0))
        pp_fail(heap->state, status);
    else
        list = PyList_New(0);
    for (size_t i = 0; list != NULL && i < faults.count; i++) {
        PyObject *text = PyUnicode_DecodeUTF8(faults.list[i].text, (Py_ssize_t)strlen(faults.list[i].text), "replace");
        PyObject *pair = text == NULL ? NULL : Py_BuildValue("(KN)", (unsigned long long)faults.list[i].offset, text);
        if (pair == NULL || PyList_Append(list, pair) < 0)
            Py_CLEAR(list);
        Py_XDECREF(pair);
    }
    drop_faults(&faults);
    return list;
}

/* The figures of struct pheap_info, by their names. */
#define FIGURE(name)                             \
    {                                            \
#name, offsetof(struct pheap_info, name) \
    }
static const struct figure {
    const char *name;
    size_t at;
} figures[] = {
    FIGURE(version),
    FIGURE(epoch),
    FIGURE(heap_bytes),
    FIGURE(file_bytes),
    FIGURE(disk_bytes),
    FIGURE(log_bytes),
    FIGURE(log_limit_bytes),
    FIGURE(log_used_bytes),
    FIGURE(committed_lsn),
    FIGURE(durable_lsn),
    FIGURE(folded_lsn),
    FIGURE(checkpoint_lsn),
    FIGURE(private_bytes),
    FIGURE(reserve_bytes),
    FIGURE(replayed_bytes),
    FIGURE(log_written_bytes),
    FIGURE(fold_written_bytes),
    FIGURE(sync_count),
};

static int put(PyObject *dict, const char *name, PyObject *value)
{
    const int result = value == NULL ? -1 : PyDict_SetItemString(dict, name, value);
    Py_XDECREF(value);
    return result;
}

static PyObject *show_user(const struct pheap_user *user)
{
    return Py_BuildValue("{s:L,s:O,s:O,s:O,s:d,s:K,s:I}", "pid", (long long)user->pid, "alive",
                         user->alive ? Py_True : Py_False, "self", user->self ? Py_True : Py_False, "writing",
                         user->writing ? Py_True : Py_False, "attached", (double)user->attached_ns / 1e9,
                         "pinned_version", (unsigned long long)user->pinned_version, "pins", user->pin_count);
}

static PyObject *list_users(struct pp_heap *heap)
{
    PyObject *list = PyList_New(0);
    struct pheap_user user = {.size = sizeof user};
    uint32_t from = 0;
    enum pheap_status status = PHEAP_OK;
    while (list != NULL && (status = pheap_next_user(heap->handle, from, &user)) == PHEAP_OK) {
        PyObject *shown = show_user(&user);
        if (shown == NULL || PyList_Append(list, shown) < 0)
            Py_CLEAR(list);
        Py_XDECREF(shown);
        from = user.seat + 1;
    }
    if (list != NULL && status != PHEAP_END) {
        pp_fail(heap->state, status);
        Py_CLEAR(list);
    }
    return list;
}

PyObject *pp_heap_info(PyObject *self, PyObject *args)
{
    (void)args;
    struct pp_heap *heap = (struct pp_heap *)self;
    struct pheap_info info = {.size = sizeof info};
    if (pp_heap_usable(heap) < 0)
        return NULL;
    const enum pheap_status status = pheap_get_info(heap->handle, &info);
    if (status != PHEAP_OK) {
        pp_fail(heap->state, status);
        return NULL;
    }
    PyObject *dict = PyDict_New();
    if (dict == NULL)
        return NULL;
    int failed = put(dict, "identity", PyBytes_FromStringAndSize((const char *)info.identity, sizeof info.identity));
    for (size_t i = 0; failed == 0 && i < sizeof figures / sizeof figures[0]; i++) {
        uint64_t value;
        memcpy(&value, (const char *)&info + figures[i].at, sizeof value);
        failed = put(dict, figures[i].name, PyLong_FromUnsignedLongLong(value));
    }
    if (failed == 0)
        failed = put(dict, "poisoned", PyBool_FromLong(info.poisoned != 0));
    if (failed == 0)
        failed = put(dict, "recovered", PyBool_FromLong(info.recovered != 0));
    if (failed == 0)
        failed = put(dict, "users", list_users(heap));
    if (failed != 0)
        Py_CLEAR(dict);
    return dict;
}
