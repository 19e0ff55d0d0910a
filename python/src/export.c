/* SPDX-License-Identifier: MIT */
/* Exports: the buffer protocol of blocks.  See block.h. */
#include "python/src/block.h"

#include <inttypes.h>
#include <stdio.h>

enum { NAMED_MAX = 8 }; /* exports that a message names */

enum pheap_status pp_bytes_at(struct pht *t, pht_value word, uint64_t *offset, uint64_t *length)
{
    enum pht_kind kind;
    uint32_t type = 0;
    uint64_t count = 0, size = 0;
    struct pht_layout layout;
    struct pht_elements elements = {.size = 0};
    enum pheap_status status = pht_kind_of(t, word, &kind);
    if (status != PHEAP_OK)
        return status;
    switch ((int)kind) {
    case PHT_ARRAY:
    case PHT_RING:
        status = pht_elements_at(t, word, PHT_ANY_TYPE, &elements);
        *offset = elements.offset;
        count = elements.capacity;
        size = elements.size;
        break;
    case PHT_RECORD:
        status = pht_record_at(t, word, PHT_ANY_TYPE, offset, &type);
        if (status == PHEAP_OK)
            status = pht_type_show(t, type, &layout, NULL, 0, NULL);
        size = status == PHEAP_OK ? layout.size : 0;
        count = 1;
        break;
    default:
        status = pht_block_at(t, word, offset, &count);
        size = 1;
    }
    if (status == PHEAP_OK)
        *length = count * size;
    return status;
}

/* -------------------------------------------------------------------------------------------------- who has views */

/* Note where the program is: the innermost frame that is not of this package. */
static void note_place(struct pp_export *export)
{
    PyFrameObject *frame = PyEval_GetFrame();
    Py_XINCREF((PyObject *)frame);
    while (frame != NULL) {
        PyObject *globals = PyObject_GetAttrString((PyObject *)frame, "f_globals");
        PyObject *name = globals == NULL ? NULL : PyDict_GetItemString(globals, "__name__");
        const char *text = name != NULL && PyUnicode_Check(name) ? PyUnicode_AsUTF8AndSize(name, NULL) : NULL;
        const bool ours = text != NULL && strncmp(text, "pheap.", 6) == 0;
        Py_XDECREF(globals);
        PyFrameObject *back = !ours ? NULL : (PyFrameObject *)PyObject_GetAttrString((PyObject *)frame, "f_back");
        if (!ours || back == NULL || (PyObject *)back == Py_None) {
            Py_XDECREF((PyObject *)back);
            break;
        }
        Py_DECREF((PyObject *)frame);
        frame = back;
    }
    if (frame != NULL) {
        export->code = (PyObject *)PyFrame_GetCode(frame);
        export->line = PyFrame_GetLineNumber(frame);
        Py_DECREF((PyObject *)frame);
    }
    PyErr_Clear(); /* it is for messages only */
}

/* "block 0x120, viewed at notes.py:12" */
static PyObject *name_of(const struct pp_export *export)
{
    PyObject *file = export->code == NULL ? NULL : PyObject_GetAttrString(export->code, "co_filename");
    char word[32];
    (void)snprintf(word, sizeof word, "0x%" PRIx64, export->word);
    PyObject *name = file == NULL ? PyUnicode_FromFormat("block %s", word)
                                  : PyUnicode_FromFormat("block %s, viewed at %U:%d", word, file, export->line);
    Py_XDECREF(file);
    return name;
}

/* Add the name of an export to a text; NULL with an exception. */
static PyObject *and_name(PyObject *text, const struct pp_export *export)
{
    PyObject *name = text == NULL ? NULL : name_of(export);
    PyObject *longer = name == NULL ? NULL : PyUnicode_FromFormat("%U; %U", text, name);
    Py_XDECREF(name);
    Py_XDECREF(text);
    return longer;
}

static bool is_of(const struct pp_export *export, pht_value word, const struct pp_snapshot *snapshot)
{
    return export->forks == pp_forks && (word == PHT_ABSENT || export->word == word) &&
           (snapshot == NULL || export->snapshot == snapshot);
}

bool pp_exported(const struct pp_heap *heap, pht_value word, const struct pp_snapshot *snapshot)
{
    for (const struct pp_export *export = heap->exports; export != NULL; export = export->next) {
        if (is_of(export, word, snapshot))
            return true;
    }
    return false;
}

int pp_refuse_exports(struct pp_heap *heap, pht_value word, const struct pp_snapshot *snapshot, const char *what)
{
    size_t count = 0;
    for (const struct pp_export *export = heap->exports; export != NULL; export = export->next)
        count += is_of(export, word, snapshot);
    if (count == 0)
        return 0;
    PyObject *text = PyUnicode_FromFormat("%s: %zu views of its bytes are in use", what, count);
    unsigned named = 0;
    for (const struct pp_export *export = heap->exports; export != NULL && named < NAMED_MAX; export = export->next) {
        if (is_of(export, word, snapshot)) {
            text = and_name(text, export);
            named++;
        }
    }
    if (text != NULL) {
        PyErr_SetObject(PyExc_BufferError, text);
        Py_DECREF(text);
    }
    return -1;
}

void pp_forget_views(struct pp_heap *heap)
{
    while (heap->released != NULL) {
        struct pp_export *export = heap->released;
        heap->released = export->next;
        Py_XDECREF(export->code);
        PyMem_Free(export);
    }
}

/* Those of which the detail names the guarded bytes. */
static PyObject *and_matching(PyObject *text, const struct pp_export *list, const char *detail)
{
    unsigned named = 0;
    for (; list != NULL && named < NAMED_MAX && text != NULL; list = list->next) {
        char range[64];
        (void)snprintf(range, sizeof range, "[%" PRIu64 ", %" PRIu64 ")", list->offset, list->offset + list->length);
        if (list->guarded && strstr(detail, range) != NULL) {
            text = and_name(text, list);
            named++;
        }
    }
    return text;
}

/* What is to be told of a stray store, of which the detail is.  NULL with an exception. */
static PyObject *stray_text(struct pp_heap *heap)
{
    char detail[1024];
    (void)snprintf(detail, sizeof detail, "%s", pheap_error_detail());
    PyObject *text = PyUnicode_DecodeUTF8(detail, (Py_ssize_t)strlen(detail), "surrogateescape");
    text = and_matching(text, heap->exports, detail);
    text = and_matching(text, heap->released, detail);
    pp_forget_views(heap);
    return text;
}

void pp_note_stray(struct pp_heap *heap, enum pheap_status status)
{
    if (status != PHEAP_STRAY_STORE || heap->stray != NULL)
        return;
    heap->stray = stray_text(heap);
    if (heap->stray == NULL)
        PyErr_Clear();
}

void pp_fail_views(struct pp_heap *heap, enum pheap_status status)
{
    if (status != PHEAP_STRAY_STORE) {
        pp_fail(heap->state, status);
        return;
    }
    PyObject *text = heap->stray != NULL ? heap->stray : stray_text(heap);
    heap->stray = NULL;
    PyObject *number = PyLong_FromLong((long)status);
    PyObject *class = number == NULL ? NULL : PyDict_GetItemWithError(heap->state->errors, number);
    if (text != NULL && class != NULL)
        PyErr_SetObject(class, text);
    Py_XDECREF(number);
    if (text != NULL)
        (void)pp_log("error", "%U", text);
    Py_XDECREF(text);
}

/* --------------------------------------------------------------------------------------------------------- buffers */

/* Where the bytes are that the export shows, and what keeps them. */
static enum pheap_status find(struct pp_export *export, struct pp_proxy *proxy, int flags, void **address)
{
    struct pp_heap *heap = export->heap;
    enum pheap_status status = PHEAP_OK;
    struct pht own, *t = &own;
    const bool writing = proxy->snapshot == NULL && pp_in_transaction(heap);
    if (proxy->snapshot != NULL)
        t = &proxy->snapshot->look;
    else if (writing)
        t = &heap->now.view;
    else
        status =
            pp_may_stay(heap, pheap_read_begin_timeout(heap->handle, PHEAP_FRESH, 0, &export->reader), &export->reader);
    if (status == PHEAP_OK && t == &own)
        status = pht_look(export->reader, &own);
    if (status == PHEAP_OK)
        status = pp_bytes_at(t, proxy->word, &export->offset, &export->length);
    if (status == PHEAP_OK && writing && flags != PyBUF_SIMPLE && export->length > 0) {
        status = pheap_guard(heap->now.txn, export->offset, export->length, NULL);
        export->guarded = status == PHEAP_OK;
    }
    if (status == PHEAP_OK)
        *address = t->base + export->offset;
    else if (export->reader != NULL)
        pheap_read_end(export->reader);
    return status;
}

int pp_export(PyObject *self, Py_buffer *buffer, int flags)
{
    struct pp_proxy *proxy = (struct pp_proxy *)self;
    struct pp_heap *heap = proxy->heap;
    struct pp_look look;
    buffer->obj = NULL;
    if (pp_look(&look, proxy) < 0)
        return -1;
    pp_seen(&look);
    if ((flags & PyBUF_WRITABLE) != 0 && (proxy->snapshot != NULL || !pp_in_transaction(heap))) {
        PyErr_SetString(PyExc_BufferError,
                        proxy->snapshot != NULL
                            ? "a block of a snapshot is read-only"
                            : "a block is read-only outside of a transaction of this thread: use with "
                              "heap.transaction()");
        return -1;
    }
    struct pp_export *export = PyMem_Calloc(1, sizeof *export);
    if (export == NULL) {
        PyErr_NoMemory();
        return -1;
    }
    *export = (struct pp_export){.heap = heap, .snapshot = proxy->snapshot, .word = proxy->word, .forks = pp_forks};
    note_place(export); /* may run anything: from here on nothing does until the view is counted */
    void *address = NULL;
    enum pheap_status status = PHEAP_ENDED;
    if (pp_look(&look, proxy) == 0) {
        pp_seen(&look);
        status = find(export, proxy, flags, &address);
        if (status != PHEAP_OK)
            pp_fail(heap->state, status);
    }
    const int read_only = !export->guarded && !(export->reader == NULL && export->snapshot == NULL && flags != 0);
    if (status != PHEAP_OK ||
        PyBuffer_FillInfo(buffer, self, address, (Py_ssize_t) export->length, read_only, flags) < 0) {
        if (status == PHEAP_OK && export->reader != NULL)
            pheap_read_end(export->reader);
        if (export->guarded)
            status = pheap_unguard(heap->handle, export->offset, export->length);
        Py_XDECREF(export->code);
        PyMem_Free(export);
        return -1;
    }
    buffer->internal = export;
    export->next = heap->exports;
    if (heap->exports != NULL)
        heap->exports->previous = export;
    heap->exports = export;
    return 0;
}

void pp_release(PyObject *self, Py_buffer *buffer)
{
    (void)self;
    struct pp_export *export = buffer->internal;
    struct pp_heap *heap = export->heap;
    if (export->previous != NULL)
        export->previous->next = export->next;
    else
        heap->exports = export->next;
    if (export->next != NULL)
        export->next->previous = export->previous;
    const bool here = export->forks == pp_forks && heap->handle != NULL; /* else it was the parent's */
    if (here && export->reader != NULL)
        pheap_read_end(export->reader);
    if (here && export->guarded && pheap_unguard(heap->handle, export->offset, export->length) == PHEAP_OK) {
        export->next = heap->released; /* if something was stored through it, the next begin tells */
        heap->released = export;
        return;
    }
    Py_XDECREF(export->code);
    PyMem_Free(export);
}
