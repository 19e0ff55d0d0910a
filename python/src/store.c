/* SPDX-License-Identifier: MIT */
/* What pheap/struct.py builds the store of structs upon: types, and structs by key. */
#include "python/src/block.h"

#include "python/src/value.h"

#include <stdlib.h>

static struct pp_heap *heap_arg(PyObject *module, PyObject *object)
{
    struct pp_state *state = PyModule_GetState(module);
    if (PyObject_TypeCheck(object, state->heap))
        return (struct pp_heap *)object;
    PyErr_Format(PyExc_TypeError, "a heap is expected, not %R", (PyObject *)Py_TYPE(object));
    return NULL;
}

static PyObject *fail(struct pp_heap *heap, enum pheap_status status)
{
    pp_fail(heap->state, status);
    return NULL;
}

/* ---------------------------------------------------------------------------------------------------------- types */

/* A field of a tuple (name, kind, size, offset, count, bit_first, bit_count, type). */
static int field_of(PyObject *tuple, struct pht_field *field)
{
    const char *name;
    unsigned long long size, offset, count;
    if (!PyArg_ParseTuple(tuple, "sIKKKIII", &name, &field->kind, &size, &offset, &count, &field->bit_first,
                          &field->bit_count, &field->type))
        return -1;
    field->name = name;
    field->size = size;
    field->offset = offset;
    field->count = count;
    return 0;
}

PyDoc_STRVAR(register_doc,
             "register_type($module, /, heap, name, version, size, fields)\n--\n\nThe number of a type, in the open "
             "transaction.  fields: (name, kind, size, offset, count, bit_first, bit_count, type)...");
static PyObject *register_type(PyObject *module, PyObject *args)
{
    PyObject *object, *fields;
    const char *name;
    unsigned version;
    unsigned long long size;
    if (!PyArg_ParseTuple(args, "OsIKO!:register_type", &object, &name, &version, &size, &PyTuple_Type, &fields))
        return NULL;
    struct pp_heap *heap = heap_arg(module, object);
    if (heap == NULL || pp_heap_usable(heap) < 0)
        return NULL;
    const Py_ssize_t count = PyTuple_Size(fields);
    struct pht_field *list = calloc((size_t)count + 1, sizeof *list);
    if (list == NULL)
        return PyErr_NoMemory();
    for (Py_ssize_t i = 0; i < count; i++) {
        if (field_of(PyTuple_GetItem(fields, i), &list[i]) < 0) {
            free(list);
            return NULL;
        }
    }
    const struct pht_layout layout = {
        .name = name, .version = version, .size = size, .field_count = (uint32_t)count, .fields = list};
    uint32_t number = 0;
    enum pheap_status status = PHEAP_OK;
    if (!pp_in_transaction(heap))
        status = pheap_fail_with(PHEAP_INVALID, "a type is registered in a transaction: use with heap.transaction()");
    else
        status = pht_type_register(&heap->now.view, &layout, &number);
    free(list);
    return status == PHEAP_OK ? PyLong_FromUnsignedLong(number) : fail(heap, status);
}

/* What a type is: copied out of the view, as making objects may run anything. */
struct shown {
    char *names;
    size_t name_bytes;
    struct pht_layout layout;
    struct pht_field *fields;
};

static enum pheap_status copy_type(struct pht *t, uint32_t number, struct shown *shown)
{
    enum pheap_status status = pht_type_show(t, number, &shown->layout, NULL, 0, NULL);
    if (status != PHEAP_OK)
        return status;
    const uint32_t count = shown->layout.field_count;
    shown->fields = calloc(count + 1u, sizeof *shown->fields);
    shown->names = calloc(count + 1u, 256);
    if (shown->fields == NULL || shown->names == NULL)
        return pheap_fail_with(PHEAP_NO_MEMORY, "no memory for a type of %u fields", count);
    status = pht_type_show(t, number, &shown->layout, shown->fields, count, NULL);
    if (status != PHEAP_OK)
        return status;
    memcpy(shown->names, shown->layout.name, shown->layout.name_length);
    for (uint32_t i = 0; i < count; i++)
        memcpy(shown->names + (i + 1u) * 256u, shown->fields[i].name, shown->fields[i].name_length);
    return PHEAP_OK;
}

static PyObject *type_tuple(const struct shown *shown)
{
    PyObject *fields = PyTuple_New(shown->layout.field_count);
    for (uint32_t i = 0; fields != NULL && i < shown->layout.field_count; i++) {
        const struct pht_field *field = &shown->fields[i];
        PyObject *tuple =
            Py_BuildValue("s#IKKKIII", shown->names + (i + 1u) * 256u, (Py_ssize_t)field->name_length, field->kind,
                          (unsigned long long)field->size, (unsigned long long)field->offset,
                          (unsigned long long)field->count, field->bit_first, field->bit_count, field->type);
        if (tuple == NULL || PyTuple_SetItem(fields, (Py_ssize_t)i, tuple) < 0)
            Py_CLEAR(fields);
    }
    if (fields == NULL)
        return NULL;
    return Py_BuildValue("s#IKN", shown->names, (Py_ssize_t)shown->layout.name_length, shown->layout.version,
                         (unsigned long long)shown->layout.size, fields);
}

PyDoc_STRVAR(
    show_doc,
    "show_type($module, /, block, number)\n--\n\nWhat the type of this number is in the heap of a block or map: "
    "(name, version, size, fields).");
static PyObject *show_type(PyObject *module, PyObject *args)
{
    struct pp_state *state = PyModule_GetState(module);
    PyObject *object;
    unsigned number;
    struct pp_look look;
    if (!PyArg_ParseTuple(args, "O!I:show_type", state->proxy, &object, &number) ||
        pp_look(&look, (struct pp_proxy *)object) < 0)
        return NULL;
    struct shown shown = {.names = NULL};
    const enum pheap_status status = copy_type(look.t, number, &shown);
    pp_seen(&look);
    PyObject *tuple = status == PHEAP_OK ? type_tuple(&shown) : fail(((struct pp_proxy *)object)->heap, status);
    free(shown.names);
    free(shown.fields);
    return tuple;
}

PyDoc_STRVAR(type_of_doc,
             "type_of($module, /, block)\n--\n\nThe kind of an array, ring or record, and the number of its type.");
static PyObject *type_of(PyObject *module, PyObject *object)
{
    struct pp_state *state = PyModule_GetState(module);
    if (!PyObject_TypeCheck(object, state->block)) {
        PyErr_SetString(PyExc_TypeError, "an array, ring or record is expected");
        return NULL;
    }
    struct pp_proxy *proxy = (struct pp_proxy *)object;
    struct pp_look look;
    if (pp_look(&look, proxy) < 0)
        return NULL;
    uint64_t offset;
    struct pht_elements elements = {.type = 0};
    const enum pheap_status status = proxy->kind == PP_STRUCT
                                         ? pht_record_at(look.t, proxy->word, PHT_ANY_TYPE, &offset, &elements.type)
                                         : pht_elements_at(look.t, proxy->word, PHT_ANY_TYPE, &elements);
    pp_seen(&look);
    return status != PHEAP_OK ? fail(proxy->heap, status)
                              : Py_BuildValue("IIK", proxy->kind == PP_STRUCT ? PHT_RECORD : proxy->kind, elements.type,
                                              (unsigned long long)elements.capacity);
}

/* ---------------------------------------------------------------------------------------------------------- structs */

PyDoc_STRVAR(
    new_doc,
    "new_struct($module, /, heap, kind, type, count)\n--\n\nA record, or an array or ring of `count` structs, in the "
    "open transaction, in which it is to be stored.");
static PyObject *new_struct(PyObject *module, PyObject *args)
{
    PyObject *object;
    unsigned kind, type;
    unsigned long long count;
    if (!PyArg_ParseTuple(args, "OIIK:new_struct", &object, &kind, &type, &count))
        return NULL;
    struct pp_heap *heap = heap_arg(module, object);
    if (heap == NULL || pp_heap_usable(heap) < 0)
        return NULL;
    if (!pp_in_transaction(heap))
        return fail(heap, pheap_fail_with(PHEAP_INVALID, "a struct is made and stored in a transaction: use with "
                                                         "heap.transaction()"));
    struct pht *t = &heap->now.view;
    pht_value word = PHT_ABSENT;
    enum pheap_status status = kind == PHT_RECORD ? pht_record_new(t, type, &word)
                               : kind == PHT_RING ? pht_ring_new(t, type, count, &word)
                                                  : pht_array_new(t, type, count, &word);
    if (status == PHEAP_OK)
        status = pp_note_made(heap, word);
    return status == PHEAP_OK
               ? pp_proxy_found(heap->state->block, heap, NULL, word, kind == PHT_RECORD ? PP_STRUCT : kind)
               : fail(heap, status);
}

static struct pp_proxy *map_arg(PyObject *module, PyObject *object)
{
    struct pp_state *state = PyModule_GetState(module);
    if (PyObject_TypeCheck(object, state->map))
        return (struct pp_proxy *)object;
    PyErr_Format(PyExc_TypeError, "a dict of a heap is expected, not %R", (PyObject *)Py_TYPE(object));
    return NULL;
}

/* The proxy of what a key has, which is in flight. */
static PyObject *give_struct(struct pp_proxy *map, pht_value value, enum pht_kind kind)
{
    if (kind != PHT_ARRAY && kind != PHT_RING && (int)kind != PHT_RECORD && kind != PHT_BLOCK)
        return fail(map->heap,
                    pheap_fail_with(PHEAP_WRONG_TYPE, "the key has a value of kind %s, not a struct, array or ring",
                                    pht_kind_name(kind)));
    const struct pp_table *table = map->snapshot != NULL ? &map->snapshot->table : &map->heap->table;
    const struct pp_proxy *other = pp_table_get(table, value);
    if (other != NULL && other->kind == PHT_RECORD && (int)kind == PHT_RECORD)
        return fail(map->heap,
                    pheap_fail_with(PHEAP_WRONG_TYPE, "the program has the record as an object of a class; it "
                                                      "cannot be used as a struct at the same time"));
    const uint32_t proxy_kind = (int)kind == PHT_RECORD ? (uint32_t)PP_STRUCT : (uint32_t)kind;
    return pp_proxy_found(map->heap->state->block, map->heap, map->snapshot, value, proxy_kind);
}

PyDoc_STRVAR(
    get_doc,
    "get_struct($module, /, map, key)\n--\n\nThe block, array, ring or record of a key; None if it is not there.");
static PyObject *get_struct(PyObject *module, PyObject *args)
{
    PyObject *object, *key;
    if (!PyArg_ParseTuple(args, "OO:get_struct", &object, &key))
        return NULL;
    struct pp_proxy *map = map_arg(module, object);
    struct pp_needle needle;
    struct pp_look look;
    if (map == NULL)
        return NULL;
    int found = pp_needle(&needle, key);
    if (found >= 0 && pp_look(&look, map) < 0)
        found = -1;
    if (found < 0) {
        pp_needle_clear(&needle);
        return NULL;
    }
    pht_value value = PHT_ABSENT;
    enum pht_kind kind = PHT_NONE;
    enum pheap_status status = found > 0 ? pp_find(look.t, map->word, PHT_MAP, &needle, &value) : PHEAP_OK;
    if (status == PHEAP_OK && value != PHT_ABSENT)
        status = pht_kind_of(look.t, value, &kind);
    pp_in_flight++;
    pp_seen(&look);
    pp_needle_clear(&needle);
    PyObject *given = status != PHEAP_OK    ? fail(map->heap, status)
                      : value == PHT_ABSENT ? Py_NewRef(Py_None)
                                            : give_struct(map, value, kind);
    pp_in_flight--;
    return given;
}

/* Remove a key: what it has is freed if nothing else has it. */
static enum pheap_status remove_key(struct pp_change *change, struct pp_proxy *map, const struct pp_needle *needle,
                                    bool *there, bool *held, struct pp_proxy **gone)
{
    pht_value value = PHT_ABSENT;
    uint32_t references = 0;
    *gone = NULL;
    enum pheap_status status = pp_find(change->t, map->word, PHT_MAP, needle, &value);
    *there = value != PHT_ABSENT;
    if (status != PHEAP_OK || !*there)
        return status;
    *held = pp_exported(map->heap, value, NULL);
    if (*held)
        return PHEAP_OK;
    status = pht_references(change->t, value, &references);
    if (status == PHEAP_OK)
        status = pht_map_remove(change->t, map->word, needle->any, NULL);
    struct pp_proxy *proxy = pp_table_get(&map->heap->table, value);
    if (status == PHEAP_OK && proxy != NULL && references == 1u + (pp_is_leaf(proxy->kind) && proxy->held)) {
        *gone = proxy;
        if (pp_is_leaf(proxy->kind))
            status = pp_unhold(proxy);
    }
    return status;
}

PyDoc_STRVAR(delete_doc,
             "delete_struct($module, /, map, key)\n--\n\nRemove a key, and free what it has; was it there?");
static PyObject *delete_struct(PyObject *module, PyObject *args)
{
    PyObject *object, *key;
    if (!PyArg_ParseTuple(args, "OO:delete_struct", &object, &key))
        return NULL;
    struct pp_proxy *map = map_arg(module, object), *gone = NULL;
    struct pp_needle needle;
    struct pp_change change;
    if (map == NULL)
        return NULL;
    int found = pp_needle(&needle, key);
    bool there = false, held = false;
    if (found > 0 && pp_change(&change, map) < 0)
        found = -1;
    if (found > 0) {
        const enum pheap_status status = remove_key(&change, map, &needle, &there, &held, &gone);
        if (pp_changed(&change, status, !there || held) < 0)
            found = -1;
        else if (gone != NULL)
            pp_proxy_die(gone);
    }
    pp_needle_clear(&needle);
    if (found < 0)
        return NULL;
    if (held) {
        (void)pp_refuse_exports(map->heap, PHT_ABSENT, NULL, "the struct cannot be deleted");
        return NULL;
    }
    return PyBool_FromLong(there);
}

static PyMethodDef methods[] = {
    {"register_type", register_type, METH_VARARGS, register_doc},
    {"show_type", show_type, METH_VARARGS, show_doc},
    {"type_of", type_of, METH_O, type_of_doc},
    {"new_struct", new_struct, METH_VARARGS, new_doc},
    {"get_struct", get_struct, METH_VARARGS, get_doc},
    {"delete_struct", delete_struct, METH_VARARGS, delete_doc},
    {NULL, NULL, 0, NULL},
};

int pp_store_init(PyObject *module)
{
    return PyModule_AddFunctions(module, methods);
}
