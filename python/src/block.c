/* SPDX-License-Identifier: MIT */
/* Block: bytes in a heap. */
#include "python/src/block.h"

#include "python/src/value.h"

#include <inttypes.h>

static struct pp_proxy *proxy_of(PyObject *self)
{
    return (struct pp_proxy *)self;
}

/* ---------------------------------------------------------------------------------------------------------- bytes */

static int bytes_at(struct pp_proxy *proxy, struct pp_look *look, uint64_t *offset, uint64_t *length)
{
    if (pp_look(look, proxy) < 0)
        return -1;
    const enum pheap_status status = pp_bytes_at(look->t, proxy->word, offset, length);
    if (status == PHEAP_OK)
        return 0;
    pp_seen(look);
    pp_fail(proxy->heap->state, status);
    return -1;
}

static Py_ssize_t block_length(PyObject *self)
{
    struct pp_look look;
    uint64_t offset, length;
    if (bytes_at(proxy_of(self), &look, &offset, &length) < 0)
        return -1;
    pp_seen(&look);
    return (Py_ssize_t)length;
}

static PyObject *index_error(void)
{
    PyErr_SetString(PyExc_IndexError, "block index out of range");
    return NULL;
}

static PyObject *block_item(PyObject *self, Py_ssize_t index)
{
    struct pp_look look;
    uint64_t offset, length;
    if (bytes_at(proxy_of(self), &look, &offset, &length) < 0)
        return NULL;
    const bool there = index >= 0 && (uint64_t)index < length;
    const unsigned char byte = there ? look.t->base[offset + (uint64_t)index] : 0;
    pp_seen(&look);
    return there ? PyLong_FromLong(byte) : index_error();
}

/* Bytes of a slice, which is gone through with this step. */
static PyObject *slice_bytes(PyObject *self, PyObject *slice)
{
    Py_ssize_t start, stop, step;
    struct pp_look look;
    uint64_t offset, length;
    if (PySlice_Unpack(slice, &start, &stop, &step) < 0 || bytes_at(proxy_of(self), &look, &offset, &length) < 0)
        return NULL;
    const Py_ssize_t count = PySlice_AdjustIndices((Py_ssize_t)length, &start, &stop, step);
    const unsigned char *from = look.t->base + offset;
    PyObject *bytes = PyBytes_FromStringAndSize(step == 1 ? (const char *)from + start : NULL, count);
    if (bytes != NULL && step != 1) {
        char *to = PyBytes_AsString(bytes);
        for (Py_ssize_t i = 0; i < count; i++)
            to[i] = (char)from[start + i * step];
    }
    pp_seen(&look);
    return bytes;
}

static int index_of(PyObject *self, PyObject *key, Py_ssize_t *index)
{
    *index = PyNumber_AsSsize_t(key, PyExc_IndexError);
    if (*index == -1 && PyErr_Occurred())
        return -1;
    if (*index < 0) {
        const Py_ssize_t length = block_length(self);
        if (length < 0)
            return -1;
        *index += length;
    }
    return 0;
}

static PyObject *block_subscript(PyObject *self, PyObject *key)
{
    if (PySlice_Check(key))
        return slice_bytes(self, key);
    Py_ssize_t index;
    return index_of(self, key, &index) < 0 ? NULL : block_item(self, index);
}

/* Store `count` bytes, each `step` after the other. */
static int store(struct pp_proxy *proxy, Py_ssize_t start, Py_ssize_t step, const char *bytes, Py_ssize_t count)
{
    struct pp_change change;
    if (count == 0)
        return 0;
    if (pp_change(&change, proxy) < 0)
        return -1;
    uint64_t offset, length;
    enum pheap_status status = pp_bytes_at(change.t, proxy->word, &offset, &length);
    const Py_ssize_t last = start + (count - 1) * step;
    if (status == PHEAP_OK && ((uint64_t)start >= length || (uint64_t)last >= length))
        status = pheap_fail_with(PHEAP_INVALID, "the block has only %" PRIu64 " bytes now", length);
    pheap_txn *txn = change.heap->now.txn;
    if (status == PHEAP_OK && step == 1)
        status = pheap_write(txn, offset + (uint64_t)start, bytes, (uint64_t)count);
    for (Py_ssize_t i = 0; step != 1 && status == PHEAP_OK && i < count; i++)
        status = pheap_write(txn, offset + (uint64_t)(start + i * step), bytes + i, 1);
    return pp_changed(&change, status, false);
}

static int assign_slice(PyObject *self, PyObject *slice, PyObject *value)
{
    Py_ssize_t start, stop, step;
    Py_buffer buffer;
    const Py_ssize_t length = block_length(self);
    if (length < 0 || PySlice_Unpack(slice, &start, &stop, &step) < 0)
        return -1;
    const Py_ssize_t count = PySlice_AdjustIndices(length, &start, &stop, step);
    if (PyObject_GetBuffer(value, &buffer, PyBUF_SIMPLE) < 0)
        return -1;
    int result = -1;
    if (buffer.len != count)
        PyErr_Format(PyExc_ValueError, "%zd bytes cannot take the place of %zd: a block keeps its length", buffer.len,
                     count);
    else
        result = store(proxy_of(self), start, step, buffer.buf, count);
    PyBuffer_Release(&buffer);
    return result;
}

static int block_assign(PyObject *self, PyObject *key, PyObject *value)
{
    if (value == NULL) {
        PyErr_SetString(PyExc_TypeError, "bytes of a block cannot be deleted");
        return -1;
    }
    if (PySlice_Check(key))
        return assign_slice(self, key, value);
    Py_ssize_t index;
    const long byte = PyLong_AsLong(value);
    if ((byte == -1 && PyErr_Occurred()) || index_of(self, key, &index) < 0)
        return -1;
    if (byte < 0 || byte > 255) {
        PyErr_SetString(PyExc_ValueError, "byte must be in range(0, 256)");
        return -1;
    }
    const Py_ssize_t length = block_length(self);
    if (length < 0)
        return -1;
    if (index < 0 || index >= length) {
        (void)index_error();
        return -1;
    }
    const char one = (char)byte;
    return store(proxy_of(self), index, 1, &one, 1);
}

static PyObject *block_bytes(PyObject *self, PyObject *unused)
{
    (void)unused;
    struct pp_look look;
    uint64_t offset, length;
    if (bytes_at(proxy_of(self), &look, &offset, &length) < 0)
        return NULL;
    PyObject *bytes = PyBytes_FromStringAndSize((const char *)look.t->base + offset, (Py_ssize_t)length);
    pp_seen(&look);
    return bytes;
}

/* As bytes are compared, with anything that has bytes. */
static PyObject *block_compare(PyObject *self, PyObject *other, int operation)
{
    if ((operation != Py_EQ && operation != Py_NE) || !PyObject_CheckBuffer(other))
        return Py_NewRef(Py_NotImplemented);
    PyObject *own = block_bytes(self, NULL);
    PyObject *bytes = own == NULL ? NULL : PyBytes_FromObject(other);
    PyObject *result = bytes == NULL ? NULL : PyObject_RichCompare(own, bytes, operation);
    Py_XDECREF(own);
    Py_XDECREF(bytes);
    return result;
}

static PyObject *block_offset(PyObject *self, void *closure)
{
    (void)closure;
    struct pp_look look;
    uint64_t offset, length;
    if (bytes_at(proxy_of(self), &look, &offset, &length) < 0)
        return NULL;
    pp_seen(&look);
    return PyLong_FromUnsignedLongLong(offset);
}

static PyObject *block_kind(PyObject *self, void *closure)
{
    (void)closure;
    const uint32_t kind = proxy_of(self)->kind;
    return PyUnicode_FromString(pht_kind_name(kind == PP_STRUCT ? PHT_RECORD : (enum pht_kind)kind));
}

static PyGetSetDef getset[] = {
    {"offset", block_offset, NULL, "Where its bytes are in the heap: what pht_block_at() gives a C program.", NULL},
    {"_kind", block_kind, NULL, "block, array, ring or record.", NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyMethodDef methods[] = {
    {"__bytes__", block_bytes, METH_NOARGS, "A copy of all its bytes."},
    {NULL, NULL, 0, NULL},
};

static PyType_Slot slots[] = {
    {Py_tp_doc, (void *)"Raw bytes in a heap."},
    {Py_tp_methods, methods},
    {Py_tp_getset, getset},
    {Py_tp_richcompare, (void *)block_compare},
    {Py_tp_hash, (void *)PyObject_HashNotImplemented},
    {Py_sq_length, (void *)block_length},
    {Py_sq_item, (void *)block_item},
    {Py_mp_length, (void *)block_length},
    {Py_mp_subscript, (void *)block_subscript},
    {Py_mp_ass_subscript, (void *)block_assign},
    {Py_bf_getbuffer, (void *)pp_export},
    {Py_bf_releasebuffer, (void *)pp_release},
    {0, NULL},
};

static PyType_Spec spec = {"pheap._pheap.Block", sizeof(struct pp_proxy), 0,
                           Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE | Py_TPFLAGS_DISALLOW_INSTANTIATION, slots};

int pp_block_init(PyObject *module, struct pp_state *state)
{
    return pp_add_type(module, &spec, state->proxy, &state->block);
}

/* ------------------------------------------------------------------------------------------------------ allocation */

static struct pp_heap *heap_of(PyObject *self)
{
    return (struct pp_heap *)self;
}

static int in_transaction(struct pp_heap *heap, const char *what)
{
    if (pp_heap_usable(heap) < 0)
        return -1;
    if (pp_in_transaction(heap))
        return 0;
    pp_fail(heap->state, pheap_fail_with(PHEAP_INVALID, "%s in a transaction: use with heap.transaction()", what));
    return -1;
}

static int length_of(PyObject *object, uint64_t *length)
{
    const Py_ssize_t size = PyNumber_AsSsize_t(object, PyExc_OverflowError);
    if (size == -1 && PyErr_Occurred())
        return -1;
    if (size < 0) {
        PyErr_SetString(PyExc_ValueError, "a block has 0 bytes or more");
        return -1;
    }
    *length = (uint64_t)size;
    return 0;
}

/* The proxy of a block that was just made. */
static PyObject *made(struct pp_heap *heap, enum pheap_status status, pht_value word)
{
    if (status == PHEAP_OK)
        status = pp_note_made(heap, word);
    if (status != PHEAP_OK) {
        pp_fail(heap->state, status);
        return NULL;
    }
    return pp_proxy_of(heap, NULL, word, PHT_BLOCK);
}

PyObject *pp_heap_alloc(PyObject *self, PyObject *size)
{
    struct pp_heap *heap = heap_of(self);
    uint64_t length;
    pht_value word = PHT_ABSENT;
    if (length_of(size, &length) < 0 || in_transaction(heap, "a block is made and stored") < 0)
        return NULL;
    const enum pheap_status status = pht_block_new(&heap->now.view, length, &word);
    return made(heap, status, word);
}

/* A block of this heap, that is to be freed or moved. */
static struct pp_proxy *block_of(struct pp_heap *heap, PyObject *object)
{
    struct pp_look look;
    if (!PyObject_TypeCheck(object, heap->state->block) || proxy_of(object)->kind != PHT_BLOCK ||
        proxy_of(object)->heap != heap || proxy_of(object)->snapshot != NULL) {
        PyErr_SetString(PyExc_TypeError, "a block of this heap is expected, not of a snapshot");
        return NULL;
    }
    if (in_transaction(heap, "a block is freed or moved") < 0 || pp_look(&look, proxy_of(object)) < 0)
        return NULL;
    pp_seen(&look);
    return proxy_of(object);
}

PyObject *pp_heap_free(PyObject *self, PyObject *object)
{
    struct pp_heap *heap = heap_of(self);
    struct pp_proxy *block = block_of(heap, object);
    uint32_t count = 0;
    if (block == NULL || pp_refuse_exports(heap, block->word, NULL, "the block cannot be freed") < 0)
        return NULL;
    enum pheap_status status = pht_references(&heap->now.view, block->word, &count);
    count -= block->held;
    if (status == PHEAP_OK && count > 0)
        status = pheap_fail_with(PHEAP_INVALID, "the block is stored in %u places: remove it there first", count);
    else if (status == PHEAP_OK) /* what is held goes with its hold */
        status = block->held ? pp_unhold(block) : pht_discard(&heap->now.view, block->word);
    if (status != PHEAP_OK) {
        pp_fail(heap->state, status);
        return NULL;
    }
    pp_proxy_die(block);
    Py_RETURN_NONE;
}

PyObject *pp_heap_realloc(PyObject *self, PyObject *args)
{
    struct pp_heap *heap = heap_of(self);
    PyObject *object, *size;
    uint64_t length;
    uint32_t count = 0;
    if (!PyArg_ParseTuple(args, "OO:realloc", &object, &size) || length_of(size, &length) < 0)
        return NULL;
    struct pp_proxy *block = block_of(heap, object);
    if (block == NULL)
        return NULL;
    pht_value word = block->word;
    struct pht *t = &heap->now.view;
    const bool exported = pp_exported(heap, word, NULL);
    enum pheap_status status = pht_references(t, word, &count);
    if (status == PHEAP_OK)
        status = pht_block_resize(t, &word, length, !exported);
    if (status == PHEAP_OK && word == block->word)
        return Py_NewRef(object);
    if (status == PHEAP_NO_SPACE && exported) {
        (void)pp_refuse_exports(heap, word, NULL, "the block would have to move");
        return NULL;
    }
    if (status == PHEAP_OK && count == block->held) {
        status = pp_unhold(block);
        pp_proxy_die(block); /* nothing else had the old one */
    }
    return made(heap, status, word);
}
