/* SPDX-License-Identifier: MIT */
/* What a heap tells of itself: its figures and users, its space, and a check of all that it has. */
#include "python/src/heap.h"

#include <stdlib.h>
#include <string.h>

struct figure {
    const char *name;
    uint64_t value;
};

/* Takes the reference to the value. */
static int put(PyObject *dict, const char *name, PyObject *value)
{
    const int result = value == NULL ? -1 : PyDict_SetItemString(dict, name, value);
    Py_XDECREF(value);
    return result;
}

static PyObject *dict_of(const struct figure *figures, size_t count)
{
    PyObject *dict = PyDict_New();
    for (size_t i = 0; dict != NULL && i < count; i++) {
        if (put(dict, figures[i].name, PyLong_FromUnsignedLongLong(figures[i].value)) < 0)
            Py_CLEAR(dict);
    }
    return dict;
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

PyObject *pp_heap_info(PyObject *self, PyObject *unused)
{
    (void)unused;
    struct pp_heap *heap = (struct pp_heap *)self;
    if (pp_heap_usable(heap) < 0)
        return NULL;
    struct pheap_info info = {.size = sizeof info};
    const enum pheap_status status = pheap_get_info(heap->handle, &info);
    if (status != PHEAP_OK) {
        pp_fail(heap->state, status);
        return NULL;
    }
    const struct figure figures[] = {
        {"version", info.version},
        {"epoch", info.epoch},
        {"heap_bytes", info.heap_bytes},
        {"file_bytes", info.file_bytes},
        {"disk_bytes", info.disk_bytes},
        {"log_bytes", info.log_bytes},
        {"log_limit_bytes", info.log_limit_bytes},
        {"log_used_bytes", info.log_used_bytes},
        {"committed_lsn", info.committed_lsn},
        {"durable_lsn", info.durable_lsn},
        {"folded_lsn", info.folded_lsn},
        {"checkpoint_lsn", info.checkpoint_lsn},
        {"private_bytes", info.private_bytes},
        {"reserve_bytes", info.reserve_bytes},
        {"replayed_bytes", info.replayed_bytes},
        {"log_written_bytes", info.log_written_bytes},
        {"fold_written_bytes", info.fold_written_bytes},
        {"sync_count", info.sync_count},
        {"track_method", info.track_method},
    };
    PyObject *dict = dict_of(figures, sizeof figures / sizeof figures[0]);
    if (dict != NULL &&
        (put(dict, "identity", PyBytes_FromStringAndSize((const char *)info.identity, sizeof info.identity)) < 0 ||
         put(dict, "poisoned", PyBool_FromLong(info.poisoned != 0)) < 0 ||
         put(dict, "recovered", PyBool_FromLong(info.recovered != 0)) < 0 || put(dict, "users", list_users(heap)) < 0))
        Py_CLEAR(dict);
    return dict;
}

PyObject *pp_heap_space(PyObject *self, PyObject *unused)
{
    (void)unused;
    struct pp_heap *heap = (struct pp_heap *)self;
    if (pp_heap_usable(heap) < 0)
        return NULL;
    struct pheap_space space = {.size = sizeof space};
    pheap_read *reader;
    enum pheap_status status;
    heap->users++;
    Py_BEGIN_ALLOW_THREADS status = pheap_read_begin(heap->handle, PHEAP_FRESH, &reader);
    if (status == PHEAP_OK) {
        status = pheap_get_space(reader, &space, NULL, NULL);
        pheap_read_end(reader);
    }
    Py_END_ALLOW_THREADS heap->users--;
    if (status != PHEAP_OK) {
        pp_fail(heap->state, status);
        return NULL;
    }
    const struct figure figures[] = {
        {"heap_bytes", space.heap_bytes},           {"metadata_bytes", space.metadata_bytes},
        {"live_bytes", space.live_bytes},           {"live_blocks", space.live_blocks},
        {"slab_free_bytes", space.slab_free_bytes}, {"extent_free_bytes", space.extent_free_bytes},
        {"free_extents", space.free_extents},       {"largest_free_bytes", space.largest_free_bytes},
    };
    return dict_of(figures, sizeof figures / sizeof figures[0]);
}

/* Faults as they are told, without the GIL. */
struct faults {
    struct fault {
        uint64_t offset;
        char *text;
    } * list;
    size_t count, room;
    bool short_of_memory;
};

static void note_fault(void *context, uint64_t offset, const char *text)
{
    struct faults *faults = context;
    if (faults->count == faults->room) {
        const size_t room = faults->room == 0 ? 16 : 2 * faults->room;
        struct fault *list = realloc(faults->list, room * sizeof *list);
        if (list == NULL) {
            faults->short_of_memory = true;
            return;
        }
        faults->list = list;
        faults->room = room;
    }
    const size_t length = strlen(text) + 1;
    char *copy = malloc(length);
    if (copy == NULL) {
        faults->short_of_memory = true;
        return;
    }
    memcpy(copy, text, length);
    faults->list[faults->count++] = (struct fault){offset, copy};
}

/* Of the blocks, and if they are sound, of the values in them. */
static enum pheap_status find_faults(pheap *handle, struct faults *faults)
{
    pheap_read *reader;
    struct pht t;
    enum pheap_status status = pheap_read_begin(handle, PHEAP_FRESH, &reader);
    if (status != PHEAP_OK)
        return status;
    status = pheap_check(reader, note_fault, NULL, faults);
    if (status == PHEAP_OK) {
        status = pht_look(reader, &t);
        if (status == PHEAP_OK)
            status = pht_check(&t, note_fault, faults, NULL);
        else if (status == PHEAP_NOT_FOUND)
            status = PHEAP_OK; /* no values yet */
    }
    pheap_read_end(reader);
    return status == PHEAP_CORRUPT && faults->count > 0 ? PHEAP_OK : status;
}

PyObject *pp_heap_check(PyObject *self, PyObject *unused)
{
    (void)unused;
    struct pp_heap *heap = (struct pp_heap *)self;
    if (pp_heap_usable(heap) < 0)
        return NULL;
    struct faults faults = {.count = 0};
    enum pheap_status status;
    heap->users++;
    Py_BEGIN_ALLOW_THREADS status = find_faults(heap->handle, &faults);
    Py_END_ALLOW_THREADS heap->users--;
    PyObject *list = NULL;
    if (status != PHEAP_OK)
        pp_fail(heap->state, status);
    else if (faults.short_of_memory)
        PyErr_NoMemory();
    else
        list = PyList_New(0);
    for (size_t i = 0; i < faults.count; i++) {
        const struct fault *fault = &faults.list[i];
        PyObject *pair =
            list == NULL ? NULL
                         : Py_BuildValue("KN", (unsigned long long)fault->offset,
                                         PyUnicode_DecodeUTF8(fault->text, (Py_ssize_t)strlen(fault->text), "replace"));
        if (list != NULL && (pair == NULL || PyList_Append(list, pair) < 0))
            Py_CLEAR(list);
        Py_XDECREF(pair);
        free(fault->text);
    }
    free(faults.list);
    return list;
}
