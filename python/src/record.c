/* SPDX-License-Identifier: MIT */
/* Record: what pheap.Persistent is made of.  What is rare, as older layouts, is done by pheap/_classes.py. */
#include "python/src/record.h"

#include <stdlib.h>

static struct pp_record *record_of(PyObject *self)
{
    return (struct pp_record *)self;
}

/* -------------------------------------------------------------------------------------------------------- finding */

/* The layout of a record, and where it moved to: *body, *at. */
static enum pheap_status follow(struct pp_heap *heap, struct pht *t, pht_value word, pht_value *body, uint64_t *at,
                                struct pp_layout **layout)
{
    *body = word;
    for (int moves = 0;; moves++) {
        uint32_t number;
        enum pheap_status status = pht_record_at(t, *body, PHT_ANY_TYPE, at, &number);
        if (status == PHEAP_OK)
            status = pp_layout_of(heap, t, number, layout);
        if (status != PHEAP_OK || !(*layout)->moved)
            return status;
        if (moves == 1)
            return pheap_fail_with(PHEAP_CORRUPT, "object at 0x%llx: it moved to one that moved",
                                   (unsigned long long)word);
        status = pht_record_get(t, *body, 0, body);
        if (status == PHEAP_OK && *body == PHT_ABSENT)
            status = pheap_fail_with(PHEAP_CORRUPT, "object at 0x%llx: it moved to nowhere", (unsigned long long)word);
        if (status != PHEAP_OK)
            return status;
    }
}

enum pheap_status pp_record_find(struct pp_record *record, struct pht *t)
{
    struct pp_layout *layout;
    if (record->body == record->proxy.word &&
        pht_record_at(t, record->body, record->layout->number, &record->at, NULL) == PHEAP_OK)
        return PHEAP_OK;
    pht_value body;
    uint64_t at;
    enum pheap_status status = follow(record->proxy.heap, t, record->proxy.word, &body, &at, &layout);
    if (status == PHEAP_OK && strcmp(layout->is.name, record->layout->is.name) != 0)
        status = pheap_fail_with(PHEAP_WRONG_TYPE, "the object at 0x%llx was a %s and is a %s: it was freed elsewhere",
                                 (unsigned long long)record->proxy.word, record->layout->is.name, layout->is.name);
    if (status == PHEAP_OK) {
        record->layout = layout;
        record->body = body;
        record->at = at;
    }
    return status;
}

int pp_record_look(struct pp_record *record, struct pp_look *look)
{
    for (;;) {
        if (pp_look(look, &record->proxy) < 0)
            return -1;
        const enum pheap_status status = pp_record_find(record, look->t);
        if (status == PHEAP_OK && pp_layout_known(record->proxy.heap, record->layout))
            return 0;
        pp_seen(look);
        if (status != PHEAP_OK) {
            pp_fail(record->proxy.heap->state, status);
            return -1;
        }
        if (pp_layout_class(record->proxy.heap, record->layout) < 0)
            return -1;
    }
}

int pp_record_known(struct pp_record *record)
{
    while (record->proxy.word != PHT_ABSENT) {
        struct pp_heap *heap = record->proxy.heap;
        if (pp_layout_known(heap, record->layout))
            return 1;
        Py_INCREF((PyObject *)heap); /* looking for a class runs anything */
        const int found = pp_layout_class(heap, record->layout);
        Py_DECREF((PyObject *)heap);
        if (found < 0)
            return -1;
    }
    return 0;
}

int pp_record_change(struct pp_record *record, struct pp_change *change)
{
    for (;;) {
        const int known = pp_record_known(record);
        if (known <= 0)
            return known < 0 ? -1 : 1;
        const struct pp_layout *before = record->layout;
        struct pp_heap *heap = record->proxy.heap;
        if (pp_change(change, &record->proxy) < 0)
            return -1;
        /* While this thread waited, another one may have failed to store it, or have brought it to another layout. */
        const bool detached = record->proxy.word == PHT_ABSENT;
        const enum pheap_status status = detached ? PHEAP_OK : pp_record_find(record, change->t);
        if (!detached && status == PHEAP_OK && record->layout == before && pp_layout_known(heap, before))
            return 0;
        if (pp_changed(change, status, true) < 0)
            return -1;
        if (detached)
            return 1;
    }
}

/* As the program gets it. */
static PyObject *give(struct pp_heap *heap, struct pp_record *record)
{
    return record->layout->pickled && heap->pickle ? PyObject_CallMethod((PyObject *)record, "load", NULL)
                                                   : Py_NewRef((PyObject *)record);
}

PyObject *pp_record_of(struct pp_heap *heap, struct pp_snapshot *snapshot, pht_value word, uint32_t number)
{
    const struct pp_table *table = snapshot != NULL ? &snapshot->table : &heap->table;
    struct pp_record *known = (struct pp_record *)pp_table_get(table, word);
    if (known != NULL && known->proxy.kind == PP_STRUCT)
        return Py_NewRef((PyObject *)known); /* a struct of a store, which the program has as such */
    if (known != NULL && known->proxy.kind == PHT_RECORD && known->body == word && known->layout->number == number)
        return give(heap, known);
    struct pp_layout *layout;
    struct pp_look look;
    pht_value body;
    uint64_t at;
    if (pp_look_at(&look, heap, snapshot) < 0)
        return NULL;
    const enum pheap_status status = follow(heap, look.t, word, &body, &at, &layout);
    pp_seen(&look);
    if (status != PHEAP_OK) {
        pp_fail(heap->state, status);
        return NULL;
    }
    if (pp_layout_class(heap, layout) < 0)
        return NULL;
    known = (struct pp_record *)pp_table_get(table, word);
    if (known != NULL && known->proxy.kind == PHT_RECORD && strcmp(known->layout->is.name, layout->is.name) != 0)
        pp_proxy_die(&known->proxy); /* another process has freed that object, and this one has its place now */
    PyObject *object = pp_proxy_found((PyTypeObject *)layout->class, heap, snapshot, word, PHT_RECORD);
    if (object == NULL)
        return NULL;
    struct pp_record *record = record_of(object);
    record->layout = layout;
    record->body = body;
    record->at = at;
    PyObject *given = give(heap, record);
    Py_DECREF(object);
    return given;
}

enum pheap_status pp_record_adopt(PyObject *object, struct pp_heap *heap, struct pht *t, pht_value word,
                                  struct pp_layout *layout)
{
    struct pp_record *record = record_of(object);
    enum pheap_status status = pht_record_at(t, word, layout->number, &record->at, NULL);
    if (status == PHEAP_OK)
        status = pp_proxy_adopt(&record->proxy, heap, word, PHT_RECORD);
    if (status == PHEAP_OK) {
        record->layout = layout;
        record->body = word;
    }
    return status;
}

void pp_record_revert(struct pp_proxy *proxy)
{
    struct pp_record *record = (struct pp_record *)proxy;
    record->layout = NULL;
    pp_proxy_release(proxy);
}

bool pp_record_is_new(const struct pp_proxy *proxy)
{
    return proxy->kind == PHT_RECORD && ((const struct pp_record *)proxy)->plain != NULL;
}

void pp_record_stored(PyObject *object, pht_value word)
{
    if (word != PHT_ABSENT && record_of(object)->proxy.word == word)
        Py_CLEAR(record_of(object)->plain);
}

PyObject *pp_record_detached(PyObject *object)
{
    struct pp_record *record = record_of(object);
    return record->proxy.heap == NULL ? record->plain : NULL;
}

/* ---------------------------------------------------------------------------------------------- other attributes */

/* The name of an attribute; NULL with an exception: a surrogate, or a zero in it. */
static const char *text_of(PyObject *name)
{
    Py_ssize_t length;
    const char *text = PyUnicode_AsUTF8AndSize(name, &length);
    if (text != NULL && strlen(text) != (size_t)length) {
        PyErr_SetString(PyExc_ValueError, "the name of an attribute has a zero in it");
        return NULL;
    }
    return text;
}

/* Names that a heap never keeps. */
static bool is_special(const char *name)
{
    return name[0] == '_' && name[1] == '_';
}

static bool is_volatile(const char *name)
{
    return strncmp(name, "_v_", 3) == 0;
}

/* The map of the other attributes, or PHT_ABSENT. */
static enum pheap_status others_of(const struct pp_record *record, struct pht *t, pht_value *map)
{
    const struct pp_layout *layout = record->layout;
    *map = PHT_ABSENT;
    return layout->others < 0 ? PHEAP_OK
                              : pht_record_get(t, record->body, layout->is.fields[layout->others].offset, map);
}

/* 1: *object is the attribute; 0: there is none; -1: an exception. */
static int look_up_other(struct pp_record *record, PyObject *name, const char *text, PyObject **object)
{
    if (pp_is_detached(record)) {
        *object = record->plain == NULL ? NULL : Py_XNewRef(PyDict_GetItemWithError(record->plain, name));
        return *object != NULL ? 1 : PyErr_Occurred() ? -1 : 0;
    }
    struct pp_look look;
    if (pp_record_look(record, &look) < 0)
        return -1;
    struct pp_shown shown = {.kind = 0};
    pht_value map, value = PHT_ABSENT;
    enum pheap_status status = others_of(record, look.t, &map);
    if (status == PHEAP_OK && map != PHT_ABSENT)
        status = pht_map_get(look.t, map, pht_text(text), &value);
    if (status == PHEAP_OK && value != PHT_ABSENT)
        status = pp_show(look.t, value, &shown);
    const bool old = !record->layout->current;
    pp_take_glance(record->proxy.heap, &look);
    pp_seen(&look);
    int result = -1;
    if (status != PHEAP_OK) {
        pp_fail(record->proxy.heap->state, status);
    } else if (old && record->layout->hook) {
        *object =
            PyObject_CallMethod(record->proxy.heap->state->classes_module, "read_old", "OO", (PyObject *)record, name);
        result = *object != NULL ? 1 : -1;
        if (result < 0 && PyErr_ExceptionMatches(PyExc_AttributeError)) {
            PyErr_Clear();
            result = 0;
        }
    } else if (value != PHT_ABSENT) {
        *object = pp_make(&shown, record->proxy.heap, record->proxy.snapshot);
        result = *object != NULL ? 1 : -1;
    } else {
        result = 0;
    }
    pp_shown_clear(&shown);
    return result;
}

int pp_record_other(struct pp_record *record, PyObject *name, PyObject **object)
{
    const char *text = text_of(name);
    return text == NULL ? -1 : look_up_other(record, name, text, object);
}

static PyObject *record_getattro(PyObject *self, PyObject *name)
{
    PyObject *object = PyObject_GenericGetAttr(self, name), *type, *value, *traceback;
    if (object != NULL || !PyErr_ExceptionMatches(PyExc_AttributeError))
        return object;
    PyErr_Fetch(&type, &value, &traceback);
    const char *text = text_of(name);
    int found = -1;
    if (text != NULL)
        found = is_special(text) || is_volatile(text) ? 0 : look_up_other(record_of(self), name, text, &object);
    if (found == 0) {
        PyErr_Restore(type, value, traceback);
        return NULL;
    }
    Py_XDECREF(type);
    Py_XDECREF(value);
    Py_XDECREF(traceback);
    return found > 0 ? object : NULL;
}

static void raise_missing(PyObject *self, PyObject *name)
{
    PyErr_Format(PyExc_AttributeError, "%R object has no attribute %R", (PyObject *)Py_TYPE(self), name);
}

/* Within a change: the value of an attribute in the map, which is made if need be; value NULL: remove it. */
static enum pheap_status store_other(struct pp_record *record, struct pp_change *change, const char *text,
                                     const struct pp_plan *plan, bool *missing)
{
    struct pht *t = change->t;
    const struct pht_any key = pht_text(text);
    pht_value map, old = PHT_ABSENT;
    enum pheap_status status = others_of(record, t, &map);
    if (status == PHEAP_OK && plan != NULL && record->layout->others < 0)
        return pheap_fail_with(PHEAP_WRONG_TYPE, "the object at 0x%llx has no place for attributes that are no fields",
                               (unsigned long long)record->proxy.word);
    if (status == PHEAP_OK && map == PHT_ABSENT && plan != NULL) {
        status = pht_map_new(t, &map);
        if (status == PHEAP_OK)
            status = pp_note_made(change->heap, map);
        if (status == PHEAP_OK)
            status =
                pht_record_set(t, record->body, record->layout->is.fields[record->layout->others].offset, pht_of(map));
    }
    if (status == PHEAP_OK && map != PHT_ABSENT)
        status = pht_map_get(t, map, key, &old);
    *missing = old == PHT_ABSENT;
    if (status == PHEAP_OK && plan != NULL)
        return pht_map_set(t, map, key, plan->items[0].any);
    return status == PHEAP_OK && old != PHT_ABSENT ? pht_map_remove(t, map, key, NULL) : status;
}

static int call_move(struct pp_record *record, PyObject *name, PyObject *value)
{
    PyObject *moved = PyObject_CallMethod(record->proxy.heap->state->classes_module, "move", "OOO", (PyObject *)record,
                                          name, value == NULL ? Py_NotImplemented : value);
    Py_XDECREF(moved);
    return moved == NULL ? -1 : 0;
}

static int set_plain(PyObject *self, PyObject *name, PyObject *value)
{
    struct pp_record *record = record_of(self);
    if (record->plain == NULL && (record->plain = PyDict_New()) == NULL)
        return -1;
    if (value != NULL)
        return PyDict_SetItem(record->plain, name, value);
    if (PyDict_DelItem(record->plain, name) == 0)
        return 0;
    if (PyErr_ExceptionMatches(PyExc_KeyError)) {
        PyErr_Clear();
        raise_missing(self, name);
    }
    return -1;
}

int pp_record_set_other(struct pp_record *record, PyObject *name, PyObject *value)
{
    PyObject *self = (PyObject *)record;
    const char *text = text_of(name);
    if (text == NULL)
        return -1;
    const int known = pp_record_known(record);
    if (known <= 0)
        return known < 0 ? -1 : set_plain(self, name, value);
    if (!record->layout->current)
        return call_move(record, name, value);
    if (record->layout->others < 0 && value != NULL) {
        PyErr_Format(PyExc_AttributeError,
                     "%R object has no attribute %R, and its type in the heap no field %s for others",
                     (PyObject *)Py_TYPE(self), name, PP_OTHERS);
        return -1;
    }
    struct pp_plan plan;
    struct pp_change change;
    bool missing = false;
    int result = 0;
    pp_plan_begin(&plan, record->proxy.heap);
    if (value != NULL && (pp_plan_add(&plan, value) < 0 || pp_plan_finish(&plan) < 0))
        result = -1;
    if (result == 0)
        result = pp_record_change(record, &change);
    if (result == 0) {
        enum pheap_status status = value == NULL ? PHEAP_OK : pp_plan_make(&plan, change.t);
        if (status == PHEAP_OK)
            status = store_other(record, &change, text, value == NULL ? NULL : &plan, &missing);
        result = pp_changed(&change, status, false);
        if (result == 0 && value == NULL && missing) {
            raise_missing(self, name);
            result = -1;
        }
    }
    pp_plan_end(&plan);
    return result > 0 ? set_plain(self, name, value) : result;
}

/* A data descriptor of the class, such as a field or a property, decides; _v_ names are the object's own. */
static int record_setattro(PyObject *self, PyObject *name, PyObject *value)
{
    const char *text = text_of(name);
    if (text == NULL)
        return -1;
    if (is_special(text) || is_volatile(text))
        return PyObject_GenericSetAttr(self, name, value);
    PyObject *of_class = PyObject_GetAttr((PyObject *)Py_TYPE(self), name);
    if (of_class == NULL) {
        PyErr_Clear();
        return pp_record_set_other(record_of(self), name, value);
    }
    const bool decides = PyType_GetSlot(Py_TYPE(of_class), Py_tp_descr_set) != NULL;
    Py_DECREF(of_class);
    if (decides)
        return PyObject_GenericSetAttr(self, name, value);
    /* A value in the class body is that of a slot; from the class one gets the value. */
    PyObject *values = PyObject_GetAttrString((PyObject *)Py_TYPE(self), "__pheap_class_values__");
    const int has_slot = values == NULL ? -1 : PySet_Contains(values, name);
    Py_XDECREF(values);
    if (has_slot == 0)
        PyErr_Format(PyExc_AttributeError, "%R is an attribute of the class %R: its objects cannot have another one",
                     name, (PyObject *)Py_TYPE(self));
    return has_slot > 0 ? PyObject_GenericSetAttr(self, name, value) : -1;
}

/* ------------------------------------------------------------------------------------------------ for _classes.py */

PyDoc_STRVAR(state_doc, "_state($self, /)\n--\n\n"
                        "Its attributes but the volatile ones, through its own layout, as a dict; values that are not\n"
                        "there are missing.  Of a stored one the other attributes are in _others().");
static PyObject *record_state(PyObject *self, PyObject *unused)
{
    (void)unused;
    struct pp_record *record = record_of(self);
    if (pp_is_detached(record))
        return record->plain == NULL ? PyDict_New() : PyDict_Copy(record->plain);
    struct pp_look look;
    if (pp_record_look(record, &look) < 0)
        return NULL;
    const struct pp_layout *layout = record->layout;
    struct pp_shown *shown = calloc(layout->is.count + 1, sizeof *shown);
    enum pheap_status status = shown == NULL ? pheap_fail_with(PHEAP_NO_MEMORY, "no memory for fields") : PHEAP_OK;
    for (uint32_t i = 0; status == PHEAP_OK && i < layout->is.count; i++) {
        if ((int32_t)i != layout->others)
            status = pp_field_show(look.t, record, &layout->is.fields[i], &shown[i]);
    }
    pp_seen(&look);
    PyObject *state = NULL;
    if (status != PHEAP_OK)
        pp_fail(record->proxy.heap->state, status);
    else
        state = PyDict_New();
    for (uint32_t i = 0; state != NULL && i < layout->is.count; i++) {
        if ((int32_t)i == layout->others)
            continue;
        PyObject *value = pp_field_make(&layout->is.fields[i], &shown[i], record->proxy.heap, record->proxy.snapshot);
        if ((value == NULL && PyErr_Occurred()) ||
            (value != NULL && PyDict_SetItemString(state, layout->is.fields[i].name, value) < 0))
            Py_CLEAR(state);
        Py_XDECREF(value);
    }
    for (uint32_t i = 0; shown != NULL && i < layout->is.count; i++)
        pp_shown_clear(&shown[i]);
    free(shown);
    return state;
}

PyDoc_STRVAR(others_doc, "_others($self, /)\n--\n\nThe Dict of a stored one's attributes that are no fields, or None.");
static PyObject *record_others(PyObject *self, PyObject *unused)
{
    (void)unused;
    struct pp_record *record = record_of(self);
    if (pp_is_detached(record))
        Py_RETURN_NONE;
    struct pp_look look;
    if (pp_record_look(record, &look) < 0)
        return NULL;
    pht_value map;
    PyObject *others = NULL;
    struct pp_heap *heap = record->proxy.heap;
    const enum pheap_status status = others_of(record, look.t, &map);
    pp_in_flight++;
    pp_seen(&look);
    if (status != PHEAP_OK)
        pp_fail(heap->state, status);
    else
        others = map == PHT_ABSENT ? Py_NewRef(Py_None) : pp_proxy_of(heap, record->proxy.snapshot, map, PHT_MAP);
    pp_in_flight--;
    return others;
}

PyDoc_STRVAR(layout_doc,
             "_layout($self, /)\n--\n\n"
             "None if it is detached, else (version, is it current?, is it newer than what its class has in\n"
             "the heap?).");
static PyObject *record_layout(PyObject *self, PyObject *unused)
{
    (void)unused;
    struct pp_record *record = record_of(self);
    if (pp_is_detached(record))
        Py_RETURN_NONE;
    struct pp_shape *shape = pp_shape_of(record->proxy.heap->state, (PyObject *)Py_TYPE(self));
    struct pp_look look;
    if (shape == NULL || pp_record_look(record, &look) < 0)
        return NULL;
    struct pp_layout *wanted = NULL;
    const enum pheap_status status = pp_layout_for(record->proxy.heap, look.t, shape, false, &wanted);
    pp_seen(&look);
    if (status != PHEAP_OK) {
        pp_fail(record->proxy.heap->state, status);
        return NULL;
    }
    const struct pp_layout *layout = record->layout;
    const bool newer =
        !layout->current && (wanted != NULL ? wanted->is.version < layout->is.version
                                            : shape->is.version != 0 && shape->is.version < layout->is.version);
    return Py_BuildValue("(IOO)", layout->is.version, layout->current ? Py_True : Py_False, newer ? Py_True : Py_False);
}

/* Let a stored record have what the plan's first item, a new record, has. */
static enum pheap_status take_over(struct pp_record *record, struct pp_change *change, pht_value from)
{
    static const struct pht_field to = {
        .name = "to", .name_length = 2, .kind = PHT_FIELD_VALUE, .size = 8, .offset = 0, .count = 1};
    static const struct pht_layout moved = {
        .name = PP_MOVED, .version = 1, .size = sizeof(pht_value), .field_count = 1, .fields = &to};
    struct pht *t = change->t;
    uint32_t number;
    pht_value sign;
    enum pheap_status status = pht_record_take(t, record->proxy.word, from);
    if (status == PHEAP_OK)
        return pht_discard(t, from);
    if (status != PHEAP_INVALID)
        return status;
    /* There is no room for it. */
    status = pht_type_register(t, &moved, &number);
    if (status == PHEAP_OK)
        status = pht_record_new(t, number, &sign);
    if (status == PHEAP_OK)
        status = pht_record_set(t, sign, 0, pht_of(from));
    if (status == PHEAP_OK)
        status = pht_record_take(t, record->proxy.word, sign);
    return status == PHEAP_OK ? pht_discard(t, sign) : status;
}

PyDoc_STRVAR(become_doc, "_become($self, /, other)\n--\n\n"
                         "Let a stored object have the layout of its class, and the attributes of a detached one.");
static PyObject *record_become(PyObject *self, PyObject *other)
{
    struct pp_record *record = record_of(self);
    if (Py_TYPE(other) != Py_TYPE(self) || record->proxy.word == PHT_ABSENT || pp_record_detached(other) == NULL) {
        PyErr_SetString(PyExc_TypeError, "a stored object, and a detached one of the same class");
        return NULL;
    }
    struct pp_plan plan;
    struct pp_change change;
    pp_plan_begin(&plan, record->proxy.heap);
    plan.copies = true;
    int result = -1;
    if (pp_plan_add(&plan, other) == 0 && pp_plan_finish(&plan) == 0)
        result = pp_record_change(record, &change);
    if (result == 0) {
        enum pheap_status status = pp_plan_make(&plan, change.t);
        if (status == PHEAP_OK)
            status = take_over(record, &change, plan.items[0].any.value);
        if (status == PHEAP_OK)
            status = pp_record_find(record, change.t);
        result = pp_changed(&change, status, false);
    }
    pp_plan_end(&plan);
    if (result < 0)
        return NULL;
    Py_RETURN_NONE;
}

PyDoc_STRVAR(
    set_doc,
    "_set($self, /, name, value)\n--\n\nSet an attribute of a detached object, whatever its class thinks of it.");
static PyObject *record_set(PyObject *self, PyObject *args)
{
    struct pp_record *record = record_of(self);
    PyObject *name, *value;
    if (!PyArg_ParseTuple(args, "UO", &name, &value))
        return NULL;
    const char *text = PyUnicode_AsUTF8AndSize(name, NULL);
    struct pp_shape *shape = text == NULL ? NULL : pp_shape_of(pp_state_of(Py_TYPE(self)), (PyObject *)Py_TYPE(self));
    if (shape == NULL)
        return NULL;
    if (!pp_is_detached(record)) {
        PyErr_SetString(PyExc_TypeError, "_set() is for detached objects");
        return NULL;
    }
    const int32_t at = pp_struct_find(&shape->is, text);
    PyObject *checked = at < 0 ? Py_NewRef(value) : pp_field_check(&shape->is.fields[at], value);
    const int result = checked == NULL ? -1 : set_plain(self, name, checked);
    Py_XDECREF(checked);
    if (result < 0)
        return NULL;
    Py_RETURN_NONE;
}

static PyObject *get_stored(PyObject *self, void *closure)
{
    (void)closure;
    return PyBool_FromLong(record_of(self)->proxy.word != PHT_ABSENT);
}

/* ----------------------------------------------------------------------------------------------------- the object */

static PyObject *record_new(PyTypeObject *type, PyObject *args, PyObject *names)
{
    (void)args;
    (void)names;
    struct pp_state *state = pp_state_of(type);
    if (state == NULL || pp_shape_of(state, (PyObject *)type) == NULL)
        return NULL;
    PyObject *defaults = PyObject_GetAttrString((PyObject *)type, "__pheap_defaults__");
    PyObject *plain = defaults == NULL ? NULL : PyObject_CallMethod(state->classes_module, "begin", "O", defaults);
    Py_XDECREF(defaults);
    if (plain == NULL)
        return NULL;
    struct pp_record *record = PyDict_Check(plain) ? pp_new(type) : NULL;
    if (record == NULL) {
        Py_DECREF(plain);
        return NULL;
    }
    record->proxy.kind = PHT_RECORD;
    record->plain = plain;
    return (PyObject *)record;
}

static int record_traverse(PyObject *self, visitproc visit, void *arg)
{
    Py_VISIT(Py_TYPE(self));
    Py_VISIT(record_of(self)->plain);
    return 0;
}

static int record_clear(PyObject *self)
{
    Py_CLEAR(record_of(self)->plain);
    return 0;
}

static void record_dealloc(PyObject *self)
{
    PyObject_GC_UnTrack(self);
    Py_CLEAR(record_of(self)->plain);
    pp_proxy_dealloc(self);
}

static PyMethodDef methods[] = {
    {"_state", record_state, METH_NOARGS, state_doc},    {"_others", record_others, METH_NOARGS, others_doc},
    {"_layout", record_layout, METH_NOARGS, layout_doc}, {"_become", record_become, METH_O, become_doc},
    {"_set", record_set, METH_VARARGS, set_doc},         {NULL, NULL, 0, NULL},
};

static PyGetSetDef getset[] = {
    {"_stored", get_stored, NULL, "Is it in a heap?", NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyType_Slot slots[] = {
    {Py_tp_doc, (void *)"An object of a class of the program."},
    {Py_tp_new, (void *)record_new},
    {Py_tp_dealloc, (void *)record_dealloc},
    {Py_tp_traverse, (void *)record_traverse},
    {Py_tp_clear, (void *)record_clear},
    {Py_tp_getattro, (void *)record_getattro},
    {Py_tp_setattro, (void *)record_setattro},
    {Py_tp_methods, methods},
    {Py_tp_getset, getset},
    {0, NULL},
};

static PyType_Spec spec = {"pheap._pheap.Record", sizeof(struct pp_record), 0,
                           Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE | Py_TPFLAGS_HAVE_GC, slots};

int pp_record_init(PyObject *module, struct pp_state *state)
{
    return pp_add_type(module, &spec, state->proxy, &state->record);
}
