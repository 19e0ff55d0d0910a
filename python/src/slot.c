/* SPDX-License-Identifier: MIT */
/*
 * Slots: the descriptors of the fields of persistent classes.
 *
 * A slot remembers where its field is in the layout that it met last.  Then reading is: load from the view of the heap's
 * glance, see that the record still is of that type, and ask whether the glance holds.  Until that, what was read may be
 * anything; so nothing is made of it before.
 *
 * A slot of kind 0 is no field: it stands for a value in the class body, which objects may have their own of, among their
 * other attributes.
 */
#include "python/src/record.h"

struct slot {
    PyObject_HEAD struct pp_state *state;
    PyObject *name;
    PyObject *fallback; /* the default; NULL: none */
    int fresh;          /* each object gets a copy of the default */
    struct pht_field field;
    /* The layout that it met last: */
    uint64_t serial; /* 0: none */
    uint32_t number;
    uint64_t place;
};

/* ------------------------------------------------------------------------------------------------------- reading */

/* The object for an unset field: a new reference; NULL with AttributeError. */
static PyObject *fallback_of(struct slot *slot, struct pp_record *record)
{
    const bool writable = record != NULL && record->proxy.snapshot == NULL && !record->proxy.heap->read_only;
    if (slot->fallback != NULL && slot->fresh) /* what is appended to it must not be lost */
        return PyObject_CallMethod(slot->state->classes_module, "fresh", "OOOO",
                                   record == NULL ? Py_None : (PyObject *)record, slot->name, slot->fallback,
                                   writable ? Py_True : Py_False);
    if (slot->fallback != NULL)
        return Py_NewRef(slot->fallback);
    switch (slot->field.kind) {
    case PHT_FIELD_SIGNED:
    case PHT_FIELD_UNSIGNED:
        return PyLong_FromLong(0);
    case PHT_FIELD_FLOAT:
        return PyFloat_FromDouble(0);
    case PHT_FIELD_BOOL:
        return Py_NewRef(Py_False);
    case PHT_FIELD_CHAR:
        return PyUnicode_FromString("");
    default:
        PyErr_Format(PyExc_AttributeError, "attribute %R is not set", slot->name);
        return NULL;
    }
}

static PyObject *get_detached(struct slot *slot, struct pp_record *record)
{
    PyObject *value = record->plain == NULL ? NULL : PyDict_GetItemWithError(record->plain, slot->name);
    if (value != NULL)
        return Py_NewRef(value);
    return PyErr_Occurred() ? NULL : fallback_of(slot, NULL);
}

static PyObject *read_old(struct slot *slot, struct pp_record *record)
{
    return PyObject_CallMethod(slot->state->classes_module, "read_old", "OO", (PyObject *)record, slot->name);
}

/* The field in a layout, if it is as the class has it; *there: it is there in whatever way. */
static const struct pht_field *field_in(const struct slot *slot, const struct pp_layout *layout, bool *there)
{
    const int32_t at = pp_struct_find(&layout->is, slot->field.name);
    *there = at >= 0;
    return at >= 0 && pp_same_kind(&layout->is.fields[at], &slot->field) ? &layout->is.fields[at] : NULL;
}

/* Of a value of the class: what the object has instead. */
static PyObject *get_own(struct slot *slot, struct pp_record *record)
{
    PyObject *object;
    const int found = pp_record_other(record, slot->name, &object);
    if (found != 0)
        return found > 0 ? object : NULL;
    const struct pp_layout *layout = record->layout;
    if (layout != NULL && layout->others >= 0 && (layout->current || !layout->hook)) {
        slot->serial = layout->serial;
        slot->number = layout->number;
        slot->place = layout->is.fields[layout->others].offset;
    }
    return Py_NewRef(slot->fallback);
}

static PyObject *get_slowly(struct slot *slot, struct pp_record *record)
{
    struct pp_look look;
    if (slot->field.kind == 0)
        return get_own(slot, record);
    if (pp_is_detached(record))
        return get_detached(slot, record);
    if (pp_record_look(record, &look) < 0)
        return NULL;
    const struct pp_layout *layout = record->layout;
    bool there;
    const struct pht_field *field = field_in(slot, layout, &there);
    if (!layout->current && (layout->hook || (there && field == NULL))) {
        pp_seen(&look);
        return read_old(slot, record);
    }
    struct pp_shown shown = {.kind = 0};
    enum pheap_status status = PHEAP_OK;
    if (field != NULL) {
        status = pp_field_show(look.t, record, field, &shown);
        slot->serial = layout->serial;
        slot->number = layout->number;
        slot->place = field->offset;
        pp_take_glance(record->proxy.heap, &look);
    }
    pp_seen(&look);
    PyObject *object = NULL;
    if (status != PHEAP_OK)
        pp_fail(slot->state, status);
    else if (field != NULL)
        object = pp_field_make(field, &shown, record->proxy.heap, record->proxy.snapshot);
    else if (pp_record_other(record, slot->name, &object) > 0)
        return object; /* it was set before it became a field */
    pp_shown_clear(&shown);
    return object != NULL || PyErr_Occurred() ? object : fallback_of(slot, record);
}

/* The object for a word that needs nothing of the heap; NULL: it does, or it is absent. */
static PyObject *immediate(uint64_t word)
{
    static const struct pht nothing;
    struct pht t = nothing;
    struct pp_shown shown = {.kind = 0};
    if ((word & 7) == 0 || pp_show(&t, word, &shown) != PHEAP_OK)
        return NULL;
    return pp_make(&shown, NULL, NULL);
}

/* What the field shows, from its eight bytes or fewer. */
static inline PyObject *object_of(const struct pht_field *field, uint64_t word)
{
    double real;
    switch (field->kind) {
    case PHT_FIELD_SIGNED:
        return PyLong_FromLongLong((int64_t)(word << (64 - field->size * 8)) >> (64 - field->size * 8));
    case PHT_FIELD_UNSIGNED:
        return PyLong_FromUnsignedLongLong(word);
    case PHT_FIELD_BOOL:
        return PyBool_FromLong(word != 0);
    case PHT_FIELD_FLOAT:
        memcpy(&real, &word, sizeof real);
        return PyFloat_FromDouble(real);
    default:
        return immediate(word);
    }
}

static inline uint64_t load(const unsigned char *from, uint64_t size)
{
    uint64_t word = 0;
    uint32_t half;
    uint16_t quarter;
    switch (size) {
    case 8:
        memcpy(&word, from, 8);
        return word;
    case 4:
        memcpy(&half, from, sizeof half);
        return half;
    case 2:
        memcpy(&quarter, from, sizeof quarter);
        return quarter;
    default:
        return *from;
    }
}

/* One number or value, of a size that load() knows. */
static inline bool is_quick(const struct pht_field *field)
{
    return field->count == 1 && field->bit_count == 0 && field->kind != PHT_FIELD_STRUCT &&
           field->kind != PHT_FIELD_CHAR && (field->kind != PHT_FIELD_FLOAT || field->size == 8);
}

/* What the eight bytes or fewer show; NULL without an exception: they do not tell. */
static inline PyObject *shown_by(const struct slot *slot, uint64_t word)
{
    if (slot->field.kind != 0)
        return object_of(&slot->field, word);
    return word == PHT_ABSENT ? Py_NewRef(slot->fallback) : NULL; /* no other attributes at all */
}

static PyObject *slot_get(PyObject *self, PyObject *object, PyObject *type)
{
    (void)type;
    struct slot *slot = (struct slot *)self;
    if (object == NULL || object == Py_None)
        return Py_NewRef(slot->field.kind != 0 ? self : slot->fallback);
    if (!PyObject_TypeCheck(object, slot->state->record)) {
        PyErr_Format(PyExc_TypeError, "%R has no field %R", (PyObject *)Py_TYPE(object), slot->name);
        return NULL;
    }
    struct pp_record *record = (struct pp_record *)object;
    const struct pp_layout *layout = record->layout;
    if (layout == NULL || layout->serial != slot->serial || layout->generation != slot->state->generation ||
        record->plain != NULL || record->proxy.dead || record->proxy.snapshot != NULL ||
        record->body != record->proxy.word || !is_quick(&slot->field))
        return get_slowly(slot, record);
    struct pp_heap *heap = record->proxy.heap;
    const uint64_t at = record->at + slot->place;
    const unsigned char *base;
    uint64_t size;
    bool own = false;
    if (heap->now.txn != NULL && pp_in_transaction(heap) && heap->forks == pp_forks && heap->handle != NULL) {
        base = heap->now.view.base;
        size = heap->now.view.size;
        own = true;
    } else if (heap->glance_forks == pp_forks && --heap->glance_left > 0 &&
               (heap->now.txn == NULL || record->proxy.serial != heap->now.serial)) {
        base = heap->glance.base;
        size = heap->glance.size;
    } else {
        return get_slowly(slot, record);
    }
    if (at > size - 8 || size < 8)
        return get_slowly(slot, record);
    const uint64_t word = load(base + at, slot->field.size);
    const uint32_t number = pht_record_type_at(base, record->at);
    if (number != slot->number || (!own && !pheap_glance_holds(&heap->glance)))
        return get_slowly(slot, record);
    PyObject *value = shown_by(slot, word);
    return value != NULL || PyErr_Occurred() ? value : get_slowly(slot, record);
}

/* ------------------------------------------------------------------------------------------------------- writing */

static int set_detached(struct slot *slot, struct pp_record *record, PyObject *value)
{
    if (record->plain == NULL && (record->plain = PyDict_New()) == NULL)
        return -1;
    if (value != NULL)
        return PyDict_SetItem(record->plain, slot->name, value);
    if (PyDict_DelItem(record->plain, slot->name) == 0)
        return 0;
    if (PyErr_ExceptionMatches(PyExc_KeyError)) {
        PyErr_Clear();
        PyErr_Format(PyExc_AttributeError, "attribute %R is not set", slot->name);
    }
    return -1;
}

/* Within a change. */
static enum pheap_status store(struct pp_record *record, struct pp_change *change, const struct pht_field *field,
                               struct pht_any any, bool *missing)
{
    pht_value old = PHT_ABSENT;
    if (field->kind == PHT_FIELD_VALUE)
        memcpy(&old, change->t->base + record->at + field->offset, sizeof old);
    *missing = old == PHT_ABSENT;
    return pp_field_store(change->t, record, field, any);
}

/* A value that pp_field_check() has seen, of a field that holds no values; the words lie in it and in *limb. */
static int number_of(const struct pht_field *field, PyObject *value, struct pht_any *any, uint64_t *limb)
{
    Py_ssize_t length;
    const char *text;
    int overflow;
    switch (field->kind) {
    case PHT_FIELD_FLOAT:
        *any = pht_float(PyFloat_AsDouble(value));
        return 0;
    case PHT_FIELD_BOOL:
        *any = pht_bool(value == Py_True);
        return 0;
    case PHT_FIELD_CHAR:
        text = PyUnicode_AsUTF8AndSize(value, &length);
        *any = pht_str(text, text == NULL ? 0 : (uint64_t)length);
        return text == NULL ? -1 : 0;
    default:
        *any = pht_int(PyLong_AsLongLongAndOverflow(value, &overflow));
        if (overflow != 0) {
            *limb = PyLong_AsUnsignedLongLong(value);
            *any = pht_bigint(false, limb, 1);
        }
        return PyErr_Occurred() ? -1 : 0;
    }
}

/* If another thread is about to store the object, this one waits for that. */
static int set_field(struct slot *slot, struct pp_record *record, PyObject *value, bool move)
{
    struct pp_plan plan;
    struct pp_change change;
    struct pht_any any = pht_of(PHT_ABSENT);
    uint64_t limb;
    bool there, missing = false;
    const bool planned = value != NULL && slot->field.kind == PHT_FIELD_VALUE;
    const int known = pp_record_known(record);
    if (known <= 0)
        return known < 0 ? -1 : set_detached(slot, record, value);
    if (move && !record->layout->current) {
        PyObject *moved = PyObject_CallMethod(slot->state->classes_module, "move", "OOO", (PyObject *)record,
                                              slot->name, value == NULL ? Py_NotImplemented : value);
        Py_XDECREF(moved);
        return moved == NULL ? -1 : 0;
    }
    int result = 0;
    if (planned) {
        pp_plan_begin(&plan, record->proxy.heap);
        result = pp_plan_add(&plan, value) < 0 || pp_plan_finish(&plan) < 0 ? -1 : 0;
    } else if (value != NULL) {
        result = number_of(&slot->field, value, &any, &limb);
    }
    if (result == 0)
        result = pp_record_change(record, &change);
    if (result == 0) {
        const struct pht_field *field = field_in(slot, record->layout, &there);
        enum pheap_status status = PHEAP_OK;
        if (field == NULL)
            status = pheap_fail_with(PHEAP_WRONG_TYPE, "the object at 0x%llx has no such field '%s' in its layout",
                                     (unsigned long long)record->proxy.word, slot->field.name);
        else if (planned)
            status = pp_plan_make(&plan, change.t);
        if (status == PHEAP_OK)
            status = store(record, &change, field, planned ? plan.items[0].any : any, &missing);
        result = pp_changed(&change, status, false);
        if (result == 0 && value == NULL && missing) {
            PyErr_Format(PyExc_AttributeError, "attribute %R is not set", slot->name);
            result = -1;
        }
    }
    if (planned)
        pp_plan_end(&plan);
    return result > 0 ? set_detached(slot, record, value) : result;
}

static int set_checked(struct slot *slot, PyObject *object, PyObject *value, bool move)
{
    if (!PyObject_TypeCheck(object, slot->state->record)) {
        PyErr_Format(PyExc_TypeError, "%R has no field %R", (PyObject *)Py_TYPE(object), slot->name);
        return -1;
    }
    struct pp_record *record = (struct pp_record *)object;
    PyObject *checked = NULL;
    if (slot->field.kind == 0)
        return pp_record_set_other(record, slot->name, value);
    if (value == NULL && slot->field.kind != PHT_FIELD_VALUE) {
        PyErr_Format(PyExc_TypeError, "field %R always has a value: it cannot be deleted", slot->name);
        return -1;
    }
    if (value != NULL && (checked = pp_field_check(&slot->field, value)) == NULL)
        return -1;
    const int result = set_field(slot, record, checked, move);
    Py_XDECREF(checked);
    return result;
}

static int slot_set(PyObject *self, PyObject *object, PyObject *value)
{
    return set_checked((struct slot *)self, object, value, true);
}

PyDoc_STRVAR(in_place_doc, "_set_in_place($self, /, object, value)\n--\n\n"
                           "Set it in the layout that the object has, and say True; False: that has no such field.");
static PyObject *slot_set_in_place(PyObject *self, PyObject *args)
{
    PyObject *object, *value;
    if (!PyArg_ParseTuple(args, "OO", &object, &value))
        return NULL;
    struct slot *slot = (struct slot *)self;
    struct pp_look look;
    bool there;
    if (!PyObject_TypeCheck(object, slot->state->record) || pp_is_detached((struct pp_record *)object))
        Py_RETURN_FALSE;
    if (pp_record_look((struct pp_record *)object, &look) < 0)
        return NULL;
    const bool same = field_in(slot, ((struct pp_record *)object)->layout, &there) != NULL;
    pp_seen(&look);
    if (!same)
        Py_RETURN_FALSE;
    if (set_checked(slot, object, value == Py_NotImplemented ? NULL : value, false) < 0)
        return NULL;
    Py_RETURN_TRUE;
}

/* -------------------------------------------------------------------------------------------------------- the type */

static PyObject *slot_new(PyTypeObject *type, PyObject *args, PyObject *names)
{
    (void)names;
    struct pp_state *state = pp_state_of(type);
    PyObject *name, *fallback = NULL;
    unsigned kind, bit_first, bit_count;
    unsigned long long size, count;
    int fresh;
    if (state == NULL || !PyArg_ParseTuple(args, "(UIKKII)pO:Slot", &name, &kind, &size, &count, &bit_first, &bit_count,
                                           &fresh, &fallback))
        return NULL;
    const char *text = PyUnicode_AsUTF8AndSize(name, NULL);
    struct slot *slot = text == NULL ? NULL : pp_new(type);
    if (slot == NULL)
        return NULL;
    slot->state = state;
    slot->name = Py_NewRef(name);
    PyUnicode_InternInPlace(&slot->name);
    slot->fallback = fallback == Py_NotImplemented ? NULL : Py_NewRef(fallback);
    slot->fresh = fresh;
    slot->field = (struct pht_field){.name = PyUnicode_AsUTF8AndSize(slot->name, NULL),
                                     .kind = kind,
                                     .size = size,
                                     .count = count,
                                     .bit_first = bit_first,
                                     .bit_count = bit_count};
    return (PyObject *)slot;
}

static void slot_dealloc(PyObject *self)
{
    struct slot *slot = (struct slot *)self;
    Py_XDECREF(slot->name);
    Py_XDECREF(slot->fallback);
    pp_free(self);
}

static PyObject *slot_repr(PyObject *self)
{
    return PyUnicode_FromFormat("<field %R of a persistent class>", ((struct slot *)self)->name);
}

static PyMethodDef methods[] = {
    {"_set_in_place", slot_set_in_place, METH_VARARGS, in_place_doc},
    {NULL, NULL, 0, NULL},
};

static PyMemberDef members[] = {
    {"__name__", T_OBJECT, offsetof(struct slot, name), READONLY, NULL},
    {NULL, 0, 0, 0, NULL},
};

static PyType_Slot slots[] = {
    {Py_tp_doc, (void *)"A field of a persistent class."},
    {Py_tp_new, (void *)slot_new},
    {Py_tp_dealloc, (void *)slot_dealloc},
    {Py_tp_repr, (void *)slot_repr},
    {Py_tp_descr_get, (void *)slot_get},
    {Py_tp_descr_set, (void *)slot_set},
    {Py_tp_methods, methods},
    {Py_tp_members, members},
    {0, NULL},
};

static PyType_Spec spec = {"pheap._pheap.Slot", sizeof(struct slot), 0, Py_TPFLAGS_DEFAULT, slots};

int pp_slot_init(PyObject *module, struct pp_state *state)
{
    return pp_add_type(module, &spec, NULL, &state->slot);
}
