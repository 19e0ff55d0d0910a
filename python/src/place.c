/* SPDX-License-Identifier: MIT */
/*
 * Places: structs, and arrays and rings of such, where they lie in a heap.
 *
 * A place is a part of an array, ring or record: its classes are made by pheap/struct.py, one for each type of struct,
 * whose fields are Field objects.  A field reads from the newest version, snapshot or transaction like everything else,
 * and each store is a change.  What lies where is checked at each access: the object is of its kind and type still, and the
 * bytes are in it.
 *
 * In a ring the bytes of a place count from its oldest element on.
 */
#include "python/src/block.h"

#include <inttypes.h>
#include <stdlib.h>

struct field {
    PyObject_HEAD PyObject *name;
    PyObject *ctype; /* of ctypes */
    PyObject *make;  /* struct, array: the class of its places */
    PyObject *inner; /* array: the Field of its elements */
    PyObject *pack;  /* struct, array: makes bytes of what is assigned */
    uint64_t offset; /* in what has it */
    uint64_t size;   /* bytes; of all elements of an array */
    uint64_t count;  /* array: elements */
    int code;        /* i u f ? c: scalars; s: chars with zeros behind; S struct, A array */
    unsigned bit_first, bit_count;
};

struct place {
    PyObject_HEAD struct pp_proxy *block; /* what it is a part of */
    uint64_t at, size;                    /* of its bytes */
    uint32_t type;                        /* number of the type of the block's elements */
    uint64_t record;                      /* of a record: its bytes */
    struct field *element;                /* of a sequence; NULL: a struct */
    uint64_t count;                       /* of a sequence but a whole ring: elements */
};

/* ---------------------------------------------------------------------------------------------------------- fields */

static PyObject *field_new(PyTypeObject *type, PyObject *args, PyObject *names)
{
    static char *const keywords[] = {"name", "ctype", "code",      "offset",    "size", "count",
                                     "make", "inner", "bit_first", "bit_count", "pack", NULL};
    PyObject *name, *ctype, *make = Py_None, *inner = Py_None, *pack = Py_None;
    int code;
    unsigned long long offset, size, count = 0;
    unsigned bit_first = 0, bit_count = 0;
    if (!PyArg_ParseTupleAndKeywords(args, names, "OOCKK|KOOIIO:Field", (char **)keywords, &name, &ctype, &code,
                                     &offset, &size, &count, &make, &inner, &bit_first, &bit_count, &pack))
        return NULL;
    const bool nested = code == 'S' || code == 'A';
    if (strchr("iuf?csSA", code) == NULL || (!nested && code != 's' && size > 8) || bit_first + bit_count > size * 8 ||
        (nested && (!PyType_Check(make) || !PyCallable_Check(pack))) || (code == 'A' && Py_TYPE(inner) != type)) {
        PyErr_SetString(PyExc_ValueError, "no such field");
        return NULL;
    }
    struct field *field = pp_new(type);
    if (field == NULL)
        return NULL;
    field->name = Py_NewRef(name);
    field->ctype = Py_NewRef(ctype);
    field->make = Py_NewRef(make);
    field->inner = Py_NewRef(inner);
    field->pack = Py_NewRef(pack);
    field->offset = offset;
    field->size = size;
    field->count = count;
    field->code = code;
    field->bit_first = bit_first;
    field->bit_count = bit_count;
    return (PyObject *)field;
}

static void field_dealloc(PyObject *self)
{
    struct field *field = (struct field *)self;
    Py_XDECREF(field->name);
    Py_XDECREF(field->ctype);
    Py_XDECREF(field->make);
    Py_XDECREF(field->inner);
    Py_XDECREF(field->pack);
    pp_free(self);
}

static bool is_nested(const struct field *field)
{
    return field->code == 'S' || field->code == 'A';
}

/* ---------------------------------------------------------------------------------------- between bytes and objects */

static uint64_t load(const unsigned char *bytes, uint64_t size)
{
    uint64_t number = 0;
    memcpy(&number, bytes, size); /* the format is little-endian, and so is the machine */
    return number;
}

/* The object for a scalar. */
static PyObject *decode(const struct field *field, const unsigned char *bytes)
{
    uint64_t number;
    double real;
    float small;
    switch (field->code) {
    case 's': {
        const unsigned char *end = memchr(bytes, 0, field->size);
        return PyBytes_FromStringAndSize((const char *)bytes,
                                         (Py_ssize_t)(end == NULL ? field->size : (uint64_t)(end - bytes)));
    }
    case 'c':
        return PyBytes_FromStringAndSize((const char *)bytes, 1);
    case '?':
        return PyBool_FromLong(bytes[0] != 0);
    case 'f':
        if (field->size == 4) {
            memcpy(&small, bytes, 4);
            return PyFloat_FromDouble((double)small);
        }
        memcpy(&real, bytes, 8);
        return PyFloat_FromDouble(real);
    default:
        break;
    }
    number = load(bytes, field->size);
    unsigned bits = (unsigned)field->size * 8;
    if (field->bit_count != 0) {
        number >>= field->bit_first;
        bits = field->bit_count;
    }
    if (bits < 64)
        number &= (UINT64_C(1) << bits) - 1;
    if (field->code == 'u')
        return PyLong_FromUnsignedLongLong(number);
    const uint64_t sign = UINT64_C(1) << (bits - 1);
    return PyLong_FromLongLong((int64_t)((number ^ sign) - sign));
}

static int out_of_range(const struct field *field)
{
    PyErr_Format(PyExc_OverflowError, "the value does not fit in the field %R", field->name);
    return -1;
}

static int encode_integer(const struct field *field, PyObject *value, uint64_t *number)
{
    const unsigned bits = field->bit_count != 0 ? field->bit_count : (unsigned)field->size * 8;
    PyObject *integer = PyNumber_Index(value);
    if (integer == NULL)
        return -1;
    int overflow;
    const long long small = PyLong_AsLongLongAndOverflow(integer, &overflow);
    *number = (uint64_t)small;
    int result = small == -1 && overflow == 0 && PyErr_Occurred() ? -1 : 0;
    bool large = false; /* beyond int64_t */
    if (overflow > 0 && field->code == 'u') {
        *number = PyLong_AsUnsignedLongLong(integer);
        large = PyErr_Occurred() == NULL;
        overflow = !large;
        PyErr_Clear();
    }
    Py_DECREF(integer);
    if (result < 0)
        return -1;
    const int64_t top = bits == 64 ? INT64_MAX : (INT64_C(1) << (bits - 1)) - 1;
    if (overflow != 0 || (field->code == 'i' && (small > top || small < -top - 1)) ||
        (field->code == 'u' && ((small < 0 && !large) || (bits < 64 && *number >> bits != 0))))
        return out_of_range(field);
    return 0;
}

/* The bytes of a value: field->size of them, into `bytes`.  This may run anything. */
static int encode(const struct field *field, PyObject *value, unsigned char *bytes)
{
    if (is_nested(field) || field->code == 's' || field->code == 'c') {
        PyObject *packed = is_nested(field) ? PyObject_CallFunctionObjArgs(field->pack, value, NULL) : Py_NewRef(value);
        char *content;
        Py_ssize_t length;
        int result = packed == NULL ? -1 : PyBytes_AsStringAndSize(packed, &content, &length);
        if (result == 0 &&
            ((uint64_t)length > field->size || (field->code != 's' && (uint64_t)length != field->size))) {
            PyErr_Format(PyExc_ValueError, "%zd bytes for the field %R of %llu", length, field->name,
                         (unsigned long long)field->size);
            result = -1;
        }
        if (result == 0) {
            memset(bytes, 0, field->size);
            memcpy(bytes, content, (size_t)length);
        }
        Py_XDECREF(packed);
        return result;
    }
    uint64_t number = 0;
    if (field->code == 'f') {
        const double real = PyFloat_AsDouble(value);
        if (real == -1.0 && PyErr_Occurred())
            return -1;
        const float small = (float)real;
        if (field->size == 4)
            memcpy(&number, &small, 4);
        else
            memcpy(&number, &real, 8);
    } else if (field->code == '?') {
        const int truth = PyObject_IsTrue(value);
        if (truth < 0)
            return -1;
        number = (uint64_t)truth;
    } else if (encode_integer(field, value, &number) < 0) {
        return -1;
    }
    memcpy(bytes, &number, field->size);
    return 0;
}

/* ---------------------------------------------------------------------------------------------------------- looking */

/* Where `length` bytes of a block are, from `at` on. */
static enum pheap_status find(struct pht *t, const struct place *place, uint64_t at, uint64_t length, uint64_t *offset)
{
    enum pheap_status status;
    struct pht_elements elements;
    uint64_t there = 0;
    const struct pp_proxy *block = place->block;
    if (block->kind == PP_STRUCT) {
        status = pht_record_at(t, block->word, place->type, offset, NULL);
        there = place->record;
    } else {
        status = pht_elements_at(t, block->word, place->type, &elements);
        if (status == PHEAP_OK && elements.count > 0) {
            there = elements.count * elements.size;
            *offset = elements.offset;
        }
    }
    if (status != PHEAP_OK)
        return status;
    if (at > there || length > there - at)
        return pheap_fail_with(PHEAP_INVALID,
                               "there is no such element any more: bytes %" PRIu64 " to %" PRIu64 " of %" PRIu64, at,
                               at + length, there);
    if (block->kind != PP_STRUCT && elements.count > 0) {
        const uint64_t whole = elements.capacity * elements.size, from = elements.first * elements.size + at;
        *offset += from < whole ? from : from - whole;
        if (from < whole && length > whole - from)
            return pheap_fail_with(PHEAP_INVALID, "a part of a ring that goes round its end");
    } else {
        *offset += at;
    }
    return PHEAP_OK;
}

static PyObject *place_at(PyObject *class, const struct place *of, uint64_t at, const struct field *field)
{
    struct place *place = pp_new((PyTypeObject *)class);
    if (place == NULL)
        return NULL;
    place->block = (struct pp_proxy *)Py_NewRef((PyObject *)of->block);
    place->at = at;
    place->size = field->size;
    place->type = of->type;
    place->record = of->record;
    place->element = field->code == 'A' ? (struct field *)Py_NewRef(field->inner) : NULL;
    place->count = field->count;
    return (PyObject *)place;
}

/* Copy `count` pieces of a block, each `size` bytes long, to `bytes`: in one look.  A piece never goes round the end of a
 * ring. */
static int fetch(const struct place *place, uint64_t at, uint64_t size, uint64_t count, uint64_t step, bool backwards,
                 unsigned char *bytes)
{
    struct pp_look look;
    enum pheap_status status = PHEAP_OK;
    if (pp_look(&look, place->block) < 0)
        return -1;
    for (uint64_t i = 0; status == PHEAP_OK && i < count;) {
        uint64_t offset;
        const bool whole = place->block->kind != PHT_RING && step == size && !backwards;
        const uint64_t from = backwards ? at - i * step : at + i * step;
        const uint64_t pieces = whole ? count : 1;
        status = find(look.t, place, from, size * pieces, &offset);
        if (status == PHEAP_OK)
            memcpy(bytes + i * size, look.t->base + offset, size * pieces);
        i += pieces;
    }
    pp_seen(&look);
    if (status == PHEAP_OK)
        return 0;
    pp_fail(place->block->heap->state, status);
    return -1;
}

static PyObject *get(const struct place *place, const struct field *field, uint64_t at)
{
    unsigned char few[64], *bytes = few;
    PyObject *object = NULL;
    if (is_nested(field)) {
        struct pp_look look; /* whether there is still something is soon seen; what is known to be gone is told now */
        return place->block->dead && pp_look(&look, place->block) < 0 ? NULL : place_at(field->make, place, at, field);
    }
    if (field->size > sizeof few && (bytes = malloc(field->size)) == NULL)
        return PyErr_NoMemory();
    if (fetch(place, at, field->size, 1, field->size, false, bytes) == 0)
        object = decode(field, bytes);
    if (bytes != few)
        free(bytes);
    return object;
}

/* --------------------------------------------------------------------------------------------------------- changing */

/* Store `count` pieces. */
static int put(const struct place *place, uint64_t at, uint64_t size, uint64_t count, uint64_t step, bool backwards,
               const unsigned char *bytes)
{
    struct pp_change change;
    if (pp_change(&change, place->block) < 0)
        return -1;
    enum pheap_status status = PHEAP_OK;
    for (uint64_t i = 0; status == PHEAP_OK && i < count;) {
        uint64_t offset;
        const bool whole = place->block->kind != PHT_RING && step == size && !backwards;
        const uint64_t from = backwards ? at - i * step : at + i * step;
        const uint64_t pieces = whole ? count : 1;
        status = find(change.t, place, from, size * pieces, &offset);
        if (status == PHEAP_OK)
            status = pheap_write(change.heap->now.txn, offset, bytes + i * size, size * pieces);
        i += pieces;
    }
    return pp_changed(&change, status, false);
}

/* Some bits of an integer. */
static int put_bits(const struct place *place, const struct field *field, uint64_t at, const unsigned char *bytes)
{
    struct pp_change change;
    uint64_t offset;
    if (pp_change(&change, place->block) < 0)
        return -1;
    enum pheap_status status = find(change.t, place, at, field->size, &offset);
    if (status == PHEAP_OK) {
        const uint64_t ones = field->bit_count == 64 ? UINT64_MAX : (UINT64_C(1) << field->bit_count) - 1;
        const uint64_t mask = ones << field->bit_first;
        uint64_t number = load(change.t->base + offset, field->size);
        number = (number & ~mask) | (load(bytes, field->size) << field->bit_first & mask);
        status = pheap_write(change.heap->now.txn, offset, &number, field->size);
    }
    return pp_changed(&change, status, false);
}

static int set(const struct place *place, const struct field *field, uint64_t at, PyObject *value)
{
    unsigned char few[64], *bytes = few;
    if (value == NULL) {
        PyErr_Format(PyExc_TypeError, "the field %R cannot be deleted", field->name);
        return -1;
    }
    if (field->size > sizeof few && (bytes = malloc(field->size)) == NULL) {
        PyErr_NoMemory();
        return -1;
    }
    int result = encode(field, value, bytes);
    if (result == 0)
        result = field->bit_count != 0 ? put_bits(place, field, at, bytes)
                                       : put(place, at, field->size, 1, field->size, false, bytes);
    if (bytes != few)
        free(bytes);
    return result;
}

/* A field that a program put into another class would take anything for a place. */
static struct place *owner_of(PyObject *self, PyObject *object)
{
    const struct pp_state *state = PyType_GetModuleState(Py_TYPE(self));
    if (state != NULL && PyObject_TypeCheck(object, state->place))
        return (struct place *)object;
    PyErr_Format(PyExc_TypeError, "%R is no struct of a heap", (PyObject *)Py_TYPE(object));
    return NULL;
}

static PyObject *field_get(PyObject *self, PyObject *object, PyObject *class)
{
    (void)class;
    const struct field *field = (const struct field *)self;
    if (object == NULL)
        return Py_NewRef(self);
    const struct place *place = owner_of(self, object);
    return place == NULL ? NULL : get(place, field, place->at + field->offset);
}

static int field_set(PyObject *self, PyObject *object, PyObject *value)
{
    const struct field *field = (const struct field *)self;
    const struct place *place = owner_of(self, object);
    return place == NULL ? -1 : set(place, field, place->at + field->offset, value);
}

static PyObject *get_number(PyObject *self, void *closure)
{
    const struct field *field = (const struct field *)self;
    const uint64_t numbers[] = {field->offset, field->size, field->count, field->bit_first, field->bit_count};
    return PyLong_FromUnsignedLongLong(numbers[(size_t)closure]);
}

static PyObject *get_code(PyObject *self, void *closure)
{
    (void)closure;
    return PyUnicode_FromOrdinal(((struct field *)self)->code);
}

static PyMemberDef field_members[] = {
    {"name", T_OBJECT, offsetof(struct field, name), READONLY, NULL},
    {"ctype", T_OBJECT, offsetof(struct field, ctype), READONLY, "Its type in ctypes."},
    {"make", T_OBJECT, offsetof(struct field, make), READONLY, "The class of its places."},
    {"inner", T_OBJECT, offsetof(struct field, inner), READONLY, "The field of an element."},
    {NULL, 0, 0, 0, NULL},
};

static PyGetSetDef field_getset[] = {
    {"offset", get_number, NULL, NULL, (void *)0},
    {"size", get_number, NULL, NULL, (void *)1},
    {"count", get_number, NULL, NULL, (void *)2},
    {"bit_first", get_number, NULL, NULL, (void *)3},
    {"bit_count", get_number, NULL, NULL, (void *)4},
    {"code", get_code, NULL, NULL, NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyType_Slot field_slots[] = {
    {Py_tp_doc, (void *)"A field of a struct in a heap."},
    {Py_tp_new, (void *)field_new},
    {Py_tp_dealloc, (void *)field_dealloc},
    {Py_tp_descr_get, (void *)field_get},
    {Py_tp_descr_set, (void *)field_set},
    {Py_tp_members, field_members},
    {Py_tp_getset, field_getset},
    {0, NULL},
};

static PyType_Spec field_spec = {"pheap._pheap.Field", sizeof(struct field), 0, Py_TPFLAGS_DEFAULT, field_slots};

/* ---------------------------------------------------------------------------------------------------------- places */

static struct place *place_of(PyObject *self)
{
    return (struct place *)self;
}

/* Place(block, type, field): all of a block, whose elements are of this type; `field` describes it. */
static PyObject *place_new(PyTypeObject *class, PyObject *args, PyObject *names)
{
    (void)names;
    struct pp_state *state = pp_state_of(class);
    PyObject *block, *field;
    unsigned type;
    if (state == NULL || !PyArg_ParseTuple(args, "O!IO!:Place", state->block, &block, &type, state->field, &field))
        return NULL;
    struct place whole = {.block = (struct pp_proxy *)block, .type = type};
    struct pp_look look;
    uint64_t offset;
    if (pp_look(&look, whole.block) < 0)
        return NULL;
    const enum pheap_status status = pp_bytes_at(look.t, whole.block->word, &offset, &whole.record);
    pp_seen(&look);
    if (status != PHEAP_OK) {
        pp_fail(state, status);
        return NULL;
    }
    return place_at((PyObject *)class, &whole, 0, (struct field *)field);
}

static void place_dealloc(PyObject *self)
{
    Py_XDECREF((PyObject *)place_of(self)->block);
    Py_XDECREF((PyObject *)place_of(self)->element);
    pp_free(self);
}

static int elements(PyObject *self, struct field **element)
{
    *element = place_of(self)->element;
    if (*element != NULL)
        return 0;
    PyErr_Format(PyExc_TypeError, "%R is not a sequence", (PyObject *)Py_TYPE(self));
    return -1;
}

static bool is_ring(const struct place *place)
{
    return place->block->kind == PHT_RING && place->count == 0;
}

static Py_ssize_t place_length(PyObject *self)
{
    const struct place *place = place_of(self);
    struct field *element;
    struct pp_look look;
    if (elements(self, &element) < 0)
        return -1;
    const bool ring = is_ring(place);
    if (pp_look(&look, place->block) < 0)
        return -1;
    uint64_t count = place->count;
    const enum pheap_status status = ring ? pht_ring_count(look.t, place->block->word, &count, NULL) : PHEAP_OK;
    pp_seen(&look);
    if (status == PHEAP_OK)
        return (Py_ssize_t)count;
    pp_fail(place->block->heap->state, status);
    return -1;
}

static int check_index(PyObject *self, Py_ssize_t *index)
{
    /* An array does not change its length, and whether it is there at all is seen when the element is wanted. */
    const Py_ssize_t length = is_ring(place_of(self)) ? place_length(self) : (Py_ssize_t)place_of(self)->count;
    if (length < 0)
        return -1;
    if (*index >= 0 && *index < length)
        return 0;
    PyErr_SetString(PyExc_IndexError, "index out of range");
    return -1;
}

static PyObject *place_item(PyObject *self, Py_ssize_t index)
{
    struct field *element;
    if (elements(self, &element) < 0 || check_index(self, &index) < 0)
        return NULL;
    return get(place_of(self), element, place_of(self)->at + (uint64_t)index * element->size);
}

static int place_assign_item(PyObject *self, Py_ssize_t index, PyObject *value)
{
    struct field *element;
    if (elements(self, &element) < 0 || check_index(self, &index) < 0)
        return -1;
    return set(place_of(self), element, place_of(self)->at + (uint64_t)index * element->size, value);
}

struct range {
    uint64_t at, step;
    Py_ssize_t count;
    bool backwards;
};

static int range_of(PyObject *self, PyObject *slice, const struct field *element, struct range *range)
{
    Py_ssize_t start, stop, step;
    const Py_ssize_t length = place_length(self);
    if (length < 0 || PySlice_Unpack(slice, &start, &stop, &step) < 0)
        return -1;
    range->count = PySlice_AdjustIndices(length, &start, &stop, step);
    range->backwards = step < 0;
    range->at = place_of(self)->at + (uint64_t)(range->count > 0 ? start : 0) * element->size;
    range->step = (uint64_t)(step < 0 ? -step : step) * element->size;
    return 0;
}

/* A list of the elements of a slice. */
static PyObject *get_slice(PyObject *self, PyObject *slice)
{
    const struct place *place = place_of(self);
    struct field *element;
    struct range range;
    if (elements(self, &element) < 0 || range_of(self, slice, element, &range) < 0)
        return NULL;
    unsigned char *bytes = NULL;
    const uint64_t size = element->size;
    if (!is_nested(element)) {
        bytes = malloc(size * (uint64_t)range.count + 1);
        if (bytes == NULL)
            return PyErr_NoMemory();
        if (range.count > 0 &&
            fetch(place, range.at, size, (uint64_t)range.count, range.step, range.backwards, bytes) < 0) {
            free(bytes);
            return NULL;
        }
    }
    PyObject *list = PyList_New(range.count);
    for (Py_ssize_t i = 0; list != NULL && i < range.count; i++) {
        const uint64_t step = (uint64_t)i * range.step;
        PyObject *object = bytes != NULL ? decode(element, bytes + (uint64_t)i * size)
                                         : get(place, element, range.backwards ? range.at - step : range.at + step);
        if (object == NULL || PyList_SetItem(list, i, object) < 0)
            Py_CLEAR(list);
    }
    free(bytes);
    return list;
}

static int set_slice(PyObject *self, PyObject *slice, PyObject *values)
{
    struct field *element;
    struct range range;
    PyObject *list = PySequence_List(values);
    if (list == NULL)
        return -1;
    int result = elements(self, &element) < 0 || range_of(self, slice, element, &range) < 0 ? -1 : 0;
    unsigned char *bytes = NULL;
    if (result == 0 && PyList_Size(list) != range.count) {
        PyErr_Format(PyExc_ValueError, "%zd values cannot take the place of %zd: the length does not change",
                     PyList_Size(list), range.count);
        result = -1;
    }
    if (result == 0 && (bytes = malloc(element->size * (uint64_t)range.count + 1)) == NULL) {
        PyErr_NoMemory();
        result = -1;
    }
    for (Py_ssize_t i = 0; result == 0 && i < range.count; i++) {
        PyObject *value = PyList_GetItem(list, i);
        Py_XINCREF(value);
        result = value == NULL ? -1 : encode(element, value, bytes + (uint64_t)i * element->size);
        Py_XDECREF(value);
    }
    if (result == 0 && range.count > 0)
        result =
            put(place_of(self), range.at, element->size, (uint64_t)range.count, range.step, range.backwards, bytes);
    free(bytes);
    Py_DECREF(list);
    return result;
}

static int index_of(PyObject *self, PyObject *key, Py_ssize_t *index)
{
    *index = PyNumber_AsSsize_t(key, PyExc_IndexError);
    if (*index == -1 && PyErr_Occurred())
        return -1;
    if (*index < 0)
        *index += place_length(self);
    return PyErr_Occurred() ? -1 : 0;
}

static PyObject *place_subscript(PyObject *self, PyObject *key)
{
    Py_ssize_t index;
    if (PySlice_Check(key))
        return get_slice(self, key);
    return index_of(self, key, &index) < 0 ? NULL : place_item(self, index);
}

static int place_assign(PyObject *self, PyObject *key, PyObject *value)
{
    Py_ssize_t index;
    if (value == NULL) {
        PyErr_SetString(PyExc_TypeError, "elements of an array cannot be deleted");
        return -1;
    }
    if (PySlice_Check(key))
        return set_slice(self, key, value);
    return index_of(self, key, &index) < 0 ? -1 : place_assign_item(self, index, value);
}

PyDoc_STRVAR(bytes_doc, "A copy of its bytes; of a ring from the oldest element on.");
static PyObject *place_bytes(PyObject *self, PyObject *unused)
{
    (void)unused;
    const struct place *place = place_of(self);
    const bool ring = place->element != NULL && is_ring(place);
    uint64_t size = place->size, count = 1;
    if (ring) {
        const Py_ssize_t length = place_length(self);
        if (length < 0)
            return NULL;
        size = place->element->size;
        count = (uint64_t)length;
    }
    PyObject *bytes = PyBytes_FromStringAndSize(NULL, (Py_ssize_t)(size * count));
    if (bytes != NULL && size * count > 0 &&
        fetch(place, place->at, size, count, size, false, (unsigned char *)PyBytes_AsString(bytes)) < 0)
        Py_CLEAR(bytes);
    return bytes;
}

PyDoc_STRVAR(where_doc, "_where($self, /)\n--\n\nAt which byte of its block it is now.");
static PyObject *place_where(PyObject *self, PyObject *unused)
{
    (void)unused;
    const struct place *place = place_of(self);
    struct pp_look look;
    uint64_t offset = 0, start = 0, length;
    if (pp_look(&look, place->block) < 0)
        return NULL;
    enum pheap_status status = find(look.t, place, place->at, place->size, &offset);
    if (status == PHEAP_OK)
        status = pp_bytes_at(look.t, place->block->word, &start, &length);
    pp_seen(&look);
    if (status != PHEAP_OK) {
        pp_fail(place->block->heap->state, status);
        return NULL;
    }
    return PyLong_FromUnsignedLongLong(offset - start);
}

PyDoc_STRVAR(
    push_doc,
    "_push($self, /, value)\n--\n\nPut a value at the end of a ring, in the place of the oldest if it is full.");
static PyObject *place_push(PyObject *self, PyObject *value)
{
    const struct place *place = place_of(self);
    struct field *element;
    struct pp_change change;
    if (elements(self, &element) < 0)
        return NULL;
    unsigned char *bytes = malloc(element->size);
    if (bytes == NULL)
        return PyErr_NoMemory();
    int result = encode(element, value, bytes);
    if (result == 0)
        result = pp_change(&change, place->block);
    if (result == 0) {
        uint64_t offset;
        enum pheap_status status = pht_ring_push(change.t, place->block->word, place->type, &offset);
        if (status == PHEAP_OK)
            status = pheap_write(change.heap->now.txn, offset, bytes, element->size);
        result = pp_changed(&change, status, false);
    }
    free(bytes);
    if (result < 0)
        return NULL;
    Py_RETURN_NONE;
}

PyDoc_STRVAR(drop_doc, "_drop($self, /)\n--\n\nForget the oldest element of a ring.");
static PyObject *place_drop(PyObject *self, PyObject *unused)
{
    (void)unused;
    struct pp_change change;
    if (pp_change(&change, place_of(self)->block) < 0 ||
        pp_changed(&change, pht_ring_pop(change.t, place_of(self)->block->word), false) < 0)
        return NULL;
    Py_RETURN_NONE;
}

static PyMemberDef place_members[] = {
    {"_block", T_OBJECT, offsetof(struct place, block), READONLY, "What it is a part of."},
    {"_element", T_OBJECT, offsetof(struct place, element), READONLY, "The field of an element, or None."},
    {"_type", T_UINT, offsetof(struct place, type), READONLY, "The number of its type."},
    {"_count", T_ULONGLONG, offsetof(struct place, count), READONLY, "Elements; of a ring 0."},
    {"_size", T_ULONGLONG, offsetof(struct place, size), READONLY, "Its bytes."},
    {NULL, 0, 0, 0, NULL},
};

static PyMethodDef place_methods[] = {
    {"__bytes__", place_bytes, METH_NOARGS, bytes_doc},
    {"_where", place_where, METH_NOARGS, where_doc},
    {"_push", place_push, METH_O, push_doc},
    {"_drop", place_drop, METH_NOARGS, drop_doc},
    {NULL, NULL, 0, NULL},
};

static PyType_Slot place_slots[] = {
    {Py_tp_doc, (void *)"A struct, or an array or ring of such, where it lies in a heap."},
    {Py_tp_new, (void *)place_new},
    {Py_tp_dealloc, (void *)place_dealloc},
    {Py_tp_members, place_members},
    {Py_tp_methods, place_methods},
    {Py_sq_length, (void *)place_length},
    {Py_sq_item, (void *)place_item},
    {Py_mp_length, (void *)place_length},
    {Py_mp_subscript, (void *)place_subscript},
    {Py_mp_ass_subscript, (void *)place_assign},
    {0, NULL},
};

static PyType_Spec place_spec = {"pheap._pheap.Place", sizeof(struct place), 0,
                                 Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE, place_slots};

int pp_place_init(PyObject *module, struct pp_state *state)
{
    if (pp_add_type(module, &field_spec, NULL, &state->field) < 0)
        return -1;
    return pp_add_type(module, &place_spec, NULL, &state->place);
}
