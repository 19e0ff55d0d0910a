/* SPDX-License-Identifier: MIT */
/* The module pheap._pheap: what pheap is made of.  Its classes are given to programs by pheap/__init__.py. */
#include "python/src/record.h"

struct pp_state *pp_state_of(PyTypeObject *type)
{
    struct pp_state *state = PyType_GetModuleState(type);
    if (state != NULL)
        return state;
    /* A subclass made in Python belongs to no module: one of its bases does. */
    PyErr_Clear();
    for (; type != NULL; type = PyType_GetSlot(type, Py_tp_base)) {
        if ((PyType_GetFlags(type) & Py_TPFLAGS_HEAPTYPE) == 0)
            break;
        state = PyType_GetModuleState(type);
        if (state != NULL)
            return state;
        PyErr_Clear();
    }
    PyErr_SetString(PyExc_SystemError, "a type of pheap without its module");
    return NULL;
}

void pp_fail(struct pp_state *state, enum pheap_status status)
{
    if (PyErr_Occurred())
        return;
    const char *detail = pheap_error_detail();
    PyObject *number = PyLong_FromLong((long)status);
    PyObject *text = PyUnicode_DecodeUTF8(detail, (Py_ssize_t)strlen(detail), "surrogateescape");
    if (number != NULL && text != NULL) {
        PyObject *class = PyDict_GetItemWithError(state->errors, number);
        if (class != NULL)
            PyErr_SetObject(class, text);
        else if (!PyErr_Occurred())
            PyErr_Format(PyExc_SystemError, "pheap: status %d has no exception: %U", (int)status, text);
    }
    if (text != NULL && (status == PHEAP_STRAY_STORE || status == PHEAP_POISONED || status == PHEAP_CORRUPT))
        (void)pp_log("error", "%U", text);
    Py_XDECREF(number);
    Py_XDECREF(text);
}

int pp_add_type(PyObject *module, PyType_Spec *spec, PyTypeObject *base, PyTypeObject **type)
{
    PyObject *made = PyType_FromModuleAndSpec(module, spec, (PyObject *)base);
    if (made == NULL)
        return -1;
    *type = (PyTypeObject *)made;
    return PyModule_AddType(module, *type);
}

void *pp_new(PyTypeObject *type)
{
    return ((allocfunc)PyType_GetSlot(type, Py_tp_alloc))(type, 0);
}

void pp_free(void *object)
{
    PyTypeObject *type = Py_TYPE((PyObject *)object);
    ((freefunc)PyType_GetSlot(type, Py_tp_free))(object);
    Py_DECREF(type);
}

PyDoc_STRVAR(set_class_doc, "set_class(kind, cls): proxies of this kind of value are of this class.");
static PyObject *set_class(PyObject *module, PyObject *args)
{
    struct pp_state *state = PyModule_GetState(module);
    int kind;
    PyObject *class;
    if (!PyArg_ParseTuple(args, "iO!", &kind, &PyType_Type, &class))
        return NULL;
    if (kind < 0 || kind >= PP_KINDS || !PyType_IsSubtype((PyTypeObject *)class, state->proxy)) {
        PyErr_SetString(PyExc_ValueError, "no kind, or no class of proxies");
        return NULL;
    }
    PyObject *old = state->classes[kind];
    state->classes[kind] = Py_NewRef(class);
    Py_XDECREF(old);
    Py_RETURN_NONE;
}

PyDoc_STRVAR(set_classes_doc, "set_classes(module): what finds classes, and knows older layouts.");
static PyObject *set_classes(PyObject *module, PyObject *classes)
{
    struct pp_state *state = PyModule_GetState(module);
    PyObject *old = state->classes_module;
    state->classes_module = Py_NewRef(classes);
    Py_XDECREF(old);
    Py_RETURN_NONE;
}

static int load_errors(struct pp_state *state)
{
    PyObject *errors = PyImport_ImportModule("pheap._errors");
    if (errors == NULL)
        return -1;
    state->errors = PyObject_GetAttrString(errors, "BY_STATUS");
    state->closed = PyObject_GetAttrString(errors, "Closed");
    state->dead = PyObject_GetAttrString(errors, "Aborted");
    Py_DECREF(errors);
    return state->errors == NULL || state->closed == NULL || state->dead == NULL ? -1 : 0;
}

static int execute(PyObject *module)
{
    struct pp_state *state = PyModule_GetState(module);
    if (load_errors(state) < 0 || pp_heap_init(module, state) < 0 || pp_snapshot_init(module, state) < 0 ||
        pp_proxy_init(module, state) < 0 || pp_map_init(module, state) < 0 || pp_list_init(module, state) < 0 ||
        pp_set_init(module, state) < 0 || pp_queue_init(module, state) < 0 || pp_omap_init(module, state) < 0 ||
        pp_walk_init(module, state) < 0 || pp_block_init(module, state) < 0 || pp_place_init(module, state) < 0 ||
        pp_store_init(module) < 0 || pp_watch_init(module, state) < 0 || pp_shape_init(module, state) < 0 ||
        pp_record_init(module, state) < 0 || pp_slot_init(module, state) < 0)
        return -1;
    static const struct {
        const char *name;
        enum pht_kind kind;
    } kinds[] = {
        {"MAP", PHT_MAP},     {"SET", PHT_SET},     {"LIST", PHT_LIST}, {"QUEUE", PHT_QUEUE},   {"OMAP", PHT_OMAP},
        {"BLOCK", PHT_BLOCK}, {"ARRAY", PHT_ARRAY}, {"RING", PHT_RING}, {"RECORD", PHT_RECORD}, {NULL, 0}};
    for (size_t i = 0; kinds[i].name != NULL; i++) {
        if (PyModule_AddIntConstant(module, kinds[i].name, kinds[i].kind) < 0)
            return -1;
    }
    return PyModule_AddStringConstant(module, "__version__", pheap_version_string());
}

static int traverse(PyObject *module, visitproc visit, void *arg)
{
    struct pp_state *state = PyModule_GetState(module);
    Py_VISIT(state->errors);
    Py_VISIT(state->closed);
    Py_VISIT(state->dead);
    Py_VISIT(state->heap);
    Py_VISIT(state->transaction);
    Py_VISIT(state->snapshot);
    Py_VISIT(state->proxy);
    Py_VISIT(state->map);
    Py_VISIT(state->map_iterator);
    Py_VISIT(state->list);
    Py_VISIT(state->list_iterator);
    Py_VISIT(state->set);
    Py_VISIT(state->queue);
    Py_VISIT(state->omap);
    Py_VISIT(state->walk);
    Py_VISIT(state->deque);
    Py_VISIT(state->ordered);
    Py_VISIT(state->watch);
    Py_VISIT(state->block);
    Py_VISIT(state->field);
    Py_VISIT(state->place);
    Py_VISIT(state->record);
    Py_VISIT(state->slot);
    Py_VISIT(state->shape);
    Py_VISIT(state->classes_module);
    for (int i = 0; i < PP_KINDS; i++)
        Py_VISIT(state->classes[i]);
    return 0;
}

static int clear(PyObject *module)
{
    struct pp_state *state = PyModule_GetState(module);
    Py_CLEAR(state->errors);
    Py_CLEAR(state->closed);
    Py_CLEAR(state->dead);
    Py_CLEAR(state->heap);
    Py_CLEAR(state->transaction);
    Py_CLEAR(state->snapshot);
    Py_CLEAR(state->proxy);
    Py_CLEAR(state->map);
    Py_CLEAR(state->map_iterator);
    Py_CLEAR(state->list);
    Py_CLEAR(state->list_iterator);
    Py_CLEAR(state->set);
    Py_CLEAR(state->queue);
    Py_CLEAR(state->omap);
    Py_CLEAR(state->walk);
    Py_CLEAR(state->deque);
    Py_CLEAR(state->ordered);
    Py_CLEAR(state->watch);
    Py_CLEAR(state->block);
    Py_CLEAR(state->field);
    Py_CLEAR(state->place);
    Py_CLEAR(state->record);
    Py_CLEAR(state->slot);
    Py_CLEAR(state->shape);
    Py_CLEAR(state->classes_module);
    for (int i = 0; i < PP_KINDS; i++)
        Py_CLEAR(state->classes[i]);
    return 0;
}

static void free_module(void *module)
{
    (void)clear(module);
}

PyDoc_STRVAR(set_ordered_doc, "set_ordered(cls): this subclass of dict becomes an ordered map when it is stored.");
static PyObject *set_ordered(PyObject *module, PyObject *class)
{
    struct pp_state *state = PyModule_GetState(module);
    if (!PyType_Check(class) || !PyType_IsSubtype((PyTypeObject *)class, &PyDict_Type)) {
        PyErr_SetString(PyExc_TypeError, "no subclass of dict");
        return NULL;
    }
    PyObject *old = state->ordered;
    state->ordered = Py_NewRef(class);
    Py_XDECREF(old);
    Py_RETURN_NONE;
}

static PyMethodDef methods[] = {
    {"set_class", set_class, METH_VARARGS, set_class_doc},
    {"set_ordered", set_ordered, METH_O, set_ordered_doc},
    {"set_classes", set_classes, METH_O, set_classes_doc},
    {NULL, NULL, 0, NULL},
};

static PyModuleDef_Slot slots[] = {{Py_mod_exec, (void *)execute}, {0, NULL}};

static struct PyModuleDef definition = {
    PyModuleDef_HEAD_INIT,
    .m_name = "pheap._pheap",
    .m_doc = "What pheap is made of.",
    .m_size = sizeof(struct pp_state),
    .m_methods = methods,
    .m_slots = slots,
    .m_traverse = traverse,
    .m_clear = clear,
    .m_free = free_module,
};

PyMODINIT_FUNC PyInit__pheap(void)
{
    return PyModuleDef_Init(&definition);
}
