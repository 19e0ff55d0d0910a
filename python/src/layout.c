/* SPDX-License-Identifier: MIT */
/* Shapes of classes, and layouts: the types of a heap as this process has met them. */
#include "python/src/record.h"

#include <stdlib.h>

enum { FIELDS_MAX = 4096 };

/* Threads of two interpreters may make them at the same time. */
static uint64_t new_serial(void)
{
    static uint64_t serials;
    return __atomic_add_fetch(&serials, 1, __ATOMIC_RELAXED);
}

/* A copy in one block of memory: the fields, then the names, each with a zero behind it. */
static bool copy_struct(struct pp_struct *to, const struct pht_layout *from)
{
    size_t bytes = from->field_count * sizeof(struct pht_field) + from->name_length + 1;
    for (uint32_t i = 0; i < from->field_count; i++)
        bytes += from->fields[i].name_length + 1;
    char *memory = malloc(bytes);
    if (memory == NULL)
        return false;
    struct pht_field *fields = (struct pht_field *)(void *)memory;
    char *text = memory + from->field_count * sizeof *fields;
    *to = (struct pp_struct){
        .name = text, .version = from->version, .count = from->field_count, .size = from->size, .fields = fields};
    memcpy(text, from->name, from->name_length);
    text[from->name_length] = 0;
    text += from->name_length + 1;
    for (uint32_t i = 0; i < from->field_count; i++) {
        fields[i] = from->fields[i];
        memcpy(text, fields[i].name, fields[i].name_length);
        text[fields[i].name_length] = 0;
        fields[i].name = text;
        text += fields[i].name_length + 1;
    }
    return true;
}

int32_t pp_struct_find(const struct pp_struct *is, const char *name)
{
    for (uint32_t i = 0; i < is->count; i++) {
        if (strcmp(is->fields[i].name, name) == 0)
            return (int32_t)i;
    }
    return -1;
}

bool pp_same_kind(const struct pht_field *a, const struct pht_field *b)
{
    return a->kind == b->kind && a->size == b->size && a->count == b->count && a->bit_first == b->bit_first &&
           a->bit_count == b->bit_count;
}

/* Has the struct what the shape wants, and nothing else?  A place for other attributes may be missing. */
static bool matches(const struct pp_shape *shape, const struct pp_struct *is)
{
    uint32_t found = 0;
    for (uint32_t i = 0; i < shape->is.count; i++) {
        const struct pht_field *field = &shape->is.fields[i];
        const int32_t at = pp_struct_find(is, field->name);
        if (at < 0 && strcmp(field->name, PP_OTHERS) == 0)
            continue;
        if (at < 0 || !pp_same_kind(field, &is->fields[at]))
            return false;
        found++;
    }
    return found == is->count && (shape->is.version == 0 || shape->is.version == is->version);
}

/* ------------------------------------------------------------------------------------------------------- layouts */

static enum pheap_status no_memory(void)
{
    return pheap_fail_with(PHEAP_NO_MEMORY, "no memory for the layout of a type");
}

static bool is_moved(const struct pp_struct *is)
{
    return strcmp(is->name, PP_MOVED) == 0 && is->count == 1 && is->fields[0].kind == PHT_FIELD_VALUE &&
           is->fields[0].offset == 0;
}

static enum pheap_status read_layout(struct pp_heap *heap, struct pht *t, uint32_t number, struct pp_layout **made)
{
    struct pht_layout shown;
    enum pheap_status status = pht_type_show(t, number, &shown, NULL, 0, NULL);
    if (status != PHEAP_OK)
        return status;
    const uint32_t room = shown.field_count;
    struct pht_field *fields = malloc((room + 1) * sizeof *fields);
    struct pp_layout *layout = calloc(1, sizeof *layout);
    status = fields == NULL || layout == NULL ? no_memory() : pht_type_show(t, number, &shown, fields, room, NULL);
    if (status == PHEAP_OK && (shown.field_count != room || !copy_struct(&layout->is, &shown)))
        status = no_memory();
    free(fields);
    if (status != PHEAP_OK) {
        free(layout);
        return status;
    }
    layout->serial = new_serial();
    layout->number = number;
    layout->others = pp_struct_find(&layout->is, PP_OTHERS);
    if (layout->others >= 0 && layout->is.fields[layout->others].kind != PHT_FIELD_VALUE)
        layout->others = -1;
    layout->moved = is_moved(&layout->is);
    layout->made = t->txn != NULL ? heap->now.serial : 0;
    *made = layout;
    return PHEAP_OK;
}

enum pheap_status pp_layout_of(struct pp_heap *heap, struct pht *t, uint32_t number, struct pp_layout **layout)
{
    if (number < heap->layout_room && heap->layouts[number] != NULL) {
        *layout = heap->layouts[number];
        return PHEAP_OK;
    }
    struct pp_layout *made;
    enum pheap_status status = read_layout(heap, t, number, &made);
    if (status != PHEAP_OK)
        return status;
    if (number >= heap->layout_room) {
        const size_t room = (size_t)number + 16;
        struct pp_layout **layouts = realloc(heap->layouts, room * sizeof(struct pp_layout *));
        if (layouts == NULL) {
            free(made->is.fields);
            free(made);
            return no_memory();
        }
        memset(layouts + heap->layout_room, 0, (room - heap->layout_room) * sizeof(struct pp_layout *));
        heap->layouts = layouts;
        heap->layout_room = room;
    }
    heap->layouts[number] = made;
    *layout = made;
    return PHEAP_OK;
}

static enum pheap_status register_shape(struct pht *t, const struct pp_struct *is, uint32_t version, uint32_t *number)
{
    const struct pht_layout layout = {
        .name = is->name, .version = version, .size = is->size, .field_count = is->count, .fields = is->fields};
    return pht_type_register(t, &layout, number);
}

enum pheap_status pp_layout_for(struct pp_heap *heap, struct pht *t, const struct pp_shape *shape, bool make,
                                struct pp_layout **layout)
{
    struct pp_layout *best = NULL, *other;
    uint32_t newest = 0, number = 0;
    for (size_t i = 0; i < heap->layout_room; i++) {
        if (heap->layouts[i] != NULL && heap->layouts[i]->wanted_by == shape->serial) {
            *layout = heap->layouts[i];
            return PHEAP_OK;
        }
    }
    enum pheap_status status;
    for (; (status = pp_layout_of(heap, t, number, &other)) == PHEAP_OK; number++) {
        if (strcmp(other->is.name, shape->is.name) != 0)
            continue;
        newest = other->is.version > newest ? other->is.version : newest;
        if (matches(shape, &other->is) && (best == NULL || other->is.version > best->is.version))
            best = other;
    }
    if (status != PHEAP_NOT_FOUND)
        return status;
    if (best == NULL && make) {
        status = register_shape(t, &shape->is, shape->is.version != 0 ? shape->is.version : newest + 1, &number);
        if (status == PHEAP_OK)
            status = pp_layout_of(heap, t, number, &best);
        if (status != PHEAP_OK)
            return status;
    }
    if (best != NULL)
        best->wanted_by = shape->serial;
    *layout = best;
    return PHEAP_OK;
}

void pp_layouts_forget(struct pp_heap *heap, uint64_t made)
{
    for (size_t i = 0; i < heap->layout_room; i++) {
        struct pp_layout *layout = heap->layouts[i];
        if (layout == NULL || layout->made != made)
            continue;
        layout->next = heap->layouts_gone;
        heap->layouts_gone = layout;
        heap->layouts[i] = NULL;
    }
}

static void free_layout(struct pp_layout *layout)
{
    Py_XDECREF(layout->class);
    free(layout->is.fields);
    free(layout);
}

void pp_layouts_free(struct pp_heap *heap)
{
    for (size_t i = 0; i < heap->layout_room; i++) {
        if (heap->layouts[i] != NULL)
            free_layout(heap->layouts[i]);
    }
    while (heap->layouts_gone != NULL) {
        struct pp_layout *layout = heap->layouts_gone;
        heap->layouts_gone = layout->next;
        free_layout(layout);
    }
    free(heap->layouts);
}

/* ------------------------------------------------------------------------------------------------------- classes */

struct pp_shape *pp_shape_of(struct pp_state *state, PyObject *class)
{
    PyObject *shape = PyObject_GetAttrString(class, "__pheap_shape__");
    if (shape == NULL)
        return NULL;
    Py_DECREF(shape); /* the class has it */
    if (Py_TYPE(shape) == state->shape)
        return (struct pp_shape *)shape;
    PyErr_Format(PyExc_TypeError, "%R cannot have objects: make a subclass of pheap.Persistent", class);
    return NULL;
}

/* The fields for Python: (name, kind, size, count, bit_first, bit_count) each. */
static PyObject *describe(const struct pp_struct *is)
{
    PyObject *list = PyList_New(0);
    for (uint32_t i = 0; list != NULL && i < is->count; i++) {
        const struct pht_field *field = &is->fields[i];
        PyObject *one = Py_BuildValue("(sIKKII)", field->name, field->kind, (unsigned long long)field->size,
                                      (unsigned long long)field->count, field->bit_first, field->bit_count);
        if (one == NULL || PyList_Append(list, one) < 0)
            Py_CLEAR(list);
        Py_XDECREF(one);
    }
    return list;
}

int pp_layout_class(struct pp_heap *heap, struct pp_layout *layout)
{
    struct pp_state *state = heap->state;
    if (pp_layout_known(heap, layout))
        return 0;
    PyObject *fields = describe(&layout->is);
    PyObject *class = fields == NULL ? NULL
                                     : PyObject_CallMethod(state->classes_module, "find_class", "sIO", layout->is.name,
                                                           layout->is.version, fields);
    Py_XDECREF(fields);
    if (class == NULL)
        return -1;
    if (!PyType_Check(class) || !PyType_IsSubtype((PyTypeObject *)class, state->record)) {
        PyErr_SetString(PyExc_TypeError, "find_class() gave no class of records");
        Py_DECREF(class);
        return -1;
    }
    struct pp_shape *shape = pp_shape_of(state, class);
    if (shape == NULL) {
        Py_DECREF(class);
        return -1;
    }
    layout->current = matches(shape, &layout->is);
    layout->hook = shape->hook;
    layout->pickled = strcmp(layout->is.name, "pheap.Pickled") == 0;
    PyObject *old = layout->class;
    layout->class = class;
    layout->generation = state->generation;
    Py_XDECREF(old);
    return 0;
}

/* -------------------------------------------------------------------------------------------------------- shapes */

/* One field of shape_new(), behind those before it, as C would lay it out. */
static int take_field(PyObject *item, struct pht_field *field, uint64_t *size)
{
    const char *name;
    unsigned kind, bit_first, bit_count;
    unsigned long long bytes, count;
    if (!PyArg_ParseTuple(item, "sIKKII", &name, &kind, &bytes, &count, &bit_first, &bit_count))
        return -1;
    const size_t length = strlen(name);
    if (length == 0 || length > 255 || bytes == 0 || bytes > 65536 || count == 0 || count > 65536) {
        PyErr_Format(PyExc_ValueError, "field '%s': its name or its size is impossible", name);
        return -1;
    }
    uint64_t align = 1;
    while (align < 8 && align < bytes)
        align *= 2;
    *field = (struct pht_field){.name = name,
                                .name_length = (uint32_t)length,
                                .kind = kind,
                                .bit_first = bit_first,
                                .bit_count = bit_count,
                                .size = bytes,
                                .offset = (*size + align - 1) / align * align,
                                .count = count};
    *size = field->offset + bytes * count;
    return 0;
}

static PyObject *shape_new(PyTypeObject *type, PyObject *args, PyObject *names)
{
    (void)names;
    struct pp_state *state = pp_state_of(type);
    const char *name;
    unsigned version;
    int hook;
    PyObject *given;
    if (state == NULL || !PyArg_ParseTuple(args, "sIO!p:Shape", &name, &version, &PyTuple_Type, &given, &hook))
        return NULL;
    const Py_ssize_t count = PyTuple_Size(given);
    if (strlen(name) == 0 || strlen(name) > 255 || count > FIELDS_MAX) {
        PyErr_Format(PyExc_ValueError, "a class has a name of up to 255 bytes and at most %d fields", FIELDS_MAX);
        return NULL;
    }
    struct pht_field *fields = calloc((size_t)count + 1, sizeof *fields);
    struct pht_layout layout = {.name = name,
                                .name_length = (uint32_t)strlen(name),
                                .version = version,
                                .field_count = (uint32_t)count,
                                .fields = fields};
    if (fields == NULL)
        return PyErr_NoMemory();
    int result = 0;
    PyObject *field_names = PyTuple_New(count);
    for (Py_ssize_t i = 0; field_names != NULL && result == 0 && i < count; i++) {
        PyObject *item = PyTuple_GetItem(given, i);
        if (!PyTuple_Check(item))
            PyErr_SetString(PyExc_TypeError, "fields are tuples");
        result = PyTuple_Check(item) ? take_field(item, &fields[i], &layout.size) : -1;
        if (result == 0)
            result = PyTuple_SetItem(field_names, i, PyUnicode_InternFromString(fields[i].name));
    }
    layout.size = layout.size == 0 ? 8 : (layout.size + 7) / 8 * 8;
    struct pp_shape *shape = field_names == NULL || result < 0 ? NULL : pp_new(type);
    if (shape != NULL && !copy_struct(&shape->is, &layout)) {
        PyErr_NoMemory();
        Py_CLEAR(shape);
    }
    free(fields);
    if (shape == NULL) {
        Py_XDECREF(field_names);
        return NULL;
    }
    shape->names = field_names;
    shape->hook = hook;
    shape->serial = new_serial();
    state->generation++; /* a name may be that of another class now */
    return (PyObject *)shape;
}

static void shape_dealloc(PyObject *self)
{
    struct pp_shape *shape = (struct pp_shape *)self;
    free(shape->is.fields);
    Py_XDECREF(shape->names);
    pp_free(self);
}

static PyMemberDef shape_members[] = {
    {"names", T_OBJECT, offsetof(struct pp_shape, names), READONLY, "Of the fields."},
    {"hook", T_BOOL, offsetof(struct pp_shape, hook), READONLY, "Does the class convert older objects itself?"},
    {NULL, 0, 0, 0, NULL},
};

static PyObject *shape_name(PyObject *self, void *closure)
{
    (void)closure;
    return PyUnicode_FromString(((struct pp_shape *)self)->is.name);
}

static PyGetSetDef shape_getset[] = {
    {"name", shape_name, NULL, "Of the type in heaps.", NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyType_Slot slots[] = {
    {Py_tp_doc, (void *)"Shape(name, version, fields, hook): what a class wants its objects to look like."},
    {Py_tp_new, (void *)shape_new},
    {Py_tp_dealloc, (void *)shape_dealloc},
    {Py_tp_members, shape_members},
    {Py_tp_getset, shape_getset},
    {0, NULL},
};

static PyType_Spec spec = {"pheap._pheap.Shape", sizeof(struct pp_shape), 0, Py_TPFLAGS_DEFAULT, slots};

int pp_shape_init(PyObject *module, struct pp_state *state)
{
    return pp_add_type(module, &spec, NULL, &state->shape);
}
