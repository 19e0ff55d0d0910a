/* SPDX-License-Identifier: MIT */
/* Fields of structs: their bytes as values of Python, and back. */
#include "python/src/record.h"

#include <stdlib.h>

enum { BYTES_MAX = 1 << 20 }; /* of one field */

static bool is_text(const struct pht_field *field)
{
    return field->kind == PHT_FIELD_CHAR;
}

static bool is_one(const struct pht_field *field)
{
    return field->count == 1 && field->kind != PHT_FIELD_STRUCT && field->kind != PHT_FIELD_CHAR;
}

/* ----------------------------------------------------------------------------------------------------------- out */

/* An integer, a float or a bool from its bytes. */
static void decode(const struct pht_field *field, const void *bytes, struct pp_shown *shown)
{
    uint64_t word = 0;
    memcpy(&word, bytes, field->size <= 8 ? field->size : 8);
    shown->kind = field->kind == PHT_FIELD_FLOAT ? PHT_FLOAT : field->kind == PHT_FIELD_BOOL ? PHT_BOOL : PHT_INT;
    if (field->kind == PHT_FIELD_FLOAT && field->size == 8) {
        memcpy(&shown->real, &word, sizeof shown->real);
    } else if (field->kind == PHT_FIELD_FLOAT) {
        float single;
        memcpy(&single, &word, sizeof single);
        shown->real = (double)single;
    } else if (field->kind == PHT_FIELD_BOOL) {
        shown->integer = word != 0;
    } else {
        const unsigned bits = field->bit_count != 0 ? field->bit_count : (unsigned)field->size * 8;
        word = bits == 0 || bits > 64 || field->bit_first > 63 ? 0 : word >> field->bit_first << (64 - bits);
        const int64_t value = (int64_t)word;
        shown->integer = field->kind == PHT_FIELD_SIGNED ? value >> (64 - bits) : (int64_t)(word >> (64 - bits));
    }
}

static enum pheap_status show_values(struct pht *t, const struct pp_record *record, const struct pht_field *field,
                                     struct pp_shown *shown)
{
    enum pheap_status status = PHEAP_OK;
    shown->parts = calloc(field->count, sizeof *shown->parts);
    if (shown->parts == NULL)
        return pheap_fail_with(PHEAP_NO_MEMORY, "no memory for the values of a field");
    shown->kind = PHT_TUPLE;
    shown->count = field->count;
    for (uint64_t i = 0; status == PHEAP_OK && i < field->count; i++) {
        pht_value word;
        status = pht_record_get(t, record->body, field->offset + i * sizeof word, &word);
        shown->parts[i].kind = PHT_NONE;
        if (status == PHEAP_OK && word != PHT_ABSENT)
            status = pp_show(t, word, &shown->parts[i]);
    }
    return status;
}

enum pheap_status pp_field_show(struct pht *t, const struct pp_record *record, const struct pht_field *field,
                                struct pp_shown *shown)
{
    const unsigned char *bytes = t->base + record->at + field->offset;
    if (field->kind == PHT_FIELD_VALUE) {
        if (field->count > 1)
            return show_values(t, record, field, shown);
        pht_value word;
        memcpy(&word, bytes, sizeof word);
        return word == PHT_ABSENT ? PHEAP_OK : pp_show(t, word, shown);
    }
    if (is_one(field)) {
        decode(field, bytes, shown);
        return PHEAP_OK;
    }
    if (field->count > BYTES_MAX / field->size)
        return pheap_fail_with(PHEAP_TOO_BIG, "field '%s' has more than %d bytes", field->name, BYTES_MAX);
    shown->kind = PHT_BYTES;
    shown->object = PyBytes_FromStringAndSize((const char *)bytes, (Py_ssize_t)(field->count * field->size));
    return shown->object == NULL ? PHEAP_NO_MEMORY : PHEAP_OK;
}

static PyObject *number_of(const struct pht_field *field, const struct pp_shown *shown)
{
    if (shown->kind == PHT_FLOAT)
        return PyFloat_FromDouble(shown->real);
    if (shown->kind == PHT_BOOL)
        return PyBool_FromLong(shown->integer != 0);
    return field->kind == PHT_FIELD_UNSIGNED ? PyLong_FromUnsignedLongLong((uint64_t)shown->integer)
                                             : PyLong_FromLongLong(shown->integer);
}

/* A text up to its first zero; an array as a tuple; a struct as its bytes. */
static PyObject *array_of(const struct pht_field *field, const char *bytes)
{
    if (is_text(field))
        return PyUnicode_DecodeUTF8(bytes, (Py_ssize_t)strnlen(bytes, field->count), "surrogateescape");
    if (field->kind == PHT_FIELD_STRUCT)
        return PyBytes_FromStringAndSize(bytes, (Py_ssize_t)(field->count * field->size));
    PyObject *tuple = PyTuple_New((Py_ssize_t)field->count);
    for (uint64_t i = 0; tuple != NULL && i < field->count; i++) {
        struct pp_shown one = {.kind = 0};
        decode(field, bytes + i * field->size, &one);
        PyObject *number = number_of(field, &one);
        if (number == NULL || PyTuple_SetItem(tuple, (Py_ssize_t)i, number) < 0)
            Py_CLEAR(tuple);
    }
    return tuple;
}

PyObject *pp_field_make(const struct pht_field *field, struct pp_shown *shown, struct pp_heap *heap,
                        struct pp_snapshot *snapshot)
{
    if (field->kind == PHT_FIELD_VALUE)
        return shown->kind == 0 ? NULL : pp_make(shown, heap, snapshot);
    if (is_one(field))
        return number_of(field, shown);
    PyObject *made = array_of(field, PyBytes_AsString(shown->object));
    pp_shown_clear(shown);
    return made;
}

/* ------------------------------------------------------------------------------------------------------------ in */

static void raise_kind(const struct pht_field *field, const char *wanted, PyObject *value)
{
    PyErr_Format(PyExc_TypeError, "field '%s' takes %s, not %R", field->name, wanted, (PyObject *)Py_TYPE(value));
}

static PyObject *check_integer(const struct pht_field *field, PyObject *value)
{
    if (!PyIndex_Check(value)) {
        raise_kind(field, "an int", value);
        return NULL;
    }
    PyObject *integer = PyNumber_Index(value);
    if (integer == NULL)
        return NULL;
    const unsigned bits = (unsigned)field->size * 8;
    bool fits;
    if (field->kind == PHT_FIELD_UNSIGNED) {
        const unsigned long long number = PyLong_AsUnsignedLongLong(integer);
        fits = !(number == (unsigned long long)-1 && PyErr_Occurred()) && (bits == 64 || number >> bits == 0);
    } else {
        const long long number = PyLong_AsLongLong(integer);
        fits = !(number == -1 && PyErr_Occurred()) && (bits == 64 || (number >> (bits - 1)) == (number < 0 ? -1 : 0));
    }
    if (fits && PyBool_Check(integer)) {
        PyObject *plain = PyLong_FromLong(integer == Py_True);
        Py_DECREF(integer);
        return plain;
    }
    if (fits)
        return integer;
    Py_DECREF(integer);
    PyErr_Clear();
    PyErr_Format(PyExc_OverflowError,
                 "field '%s' has %u bits%s: the number is out of range; without a type, or as "
                 "'object', it would hold any",
                 field->name, bits, field->kind == PHT_FIELD_UNSIGNED ? " and no sign" : "");
    return NULL;
}

static PyObject *check_float(const struct pht_field *field, PyObject *value)
{
    const double real = PyFloat_AsDouble(value);
    if (real == -1.0 && PyErr_Occurred()) {
        if (PyErr_ExceptionMatches(PyExc_TypeError))
            raise_kind(field, "a float", value);
        return NULL;
    }
    if (field->size == 8)
        return PyFloat_CheckExact(value) ? Py_NewRef(value) : PyFloat_FromDouble(real);
    const float single = (float)real;
    const bool fits = !(real - real == 0.0) || single - single == 0.0f;
    if (fits)
        return PyFloat_FromDouble((double)single);
    PyErr_Format(PyExc_OverflowError, "field '%s' has 32 bits: the number is out of range", field->name);
    return NULL;
}

static PyObject *check_text(const struct pht_field *field, PyObject *value)
{
    Py_ssize_t length;
    if (!PyUnicode_Check(value)) {
        raise_kind(field, "a str", value);
        return NULL;
    }
    const char *text = PyUnicode_AsUTF8AndSize(value, &length);
    if (text == NULL)
        return NULL;
    if ((uint64_t)length <= field->count && memchr(text, 0, (size_t)length) == NULL)
        return Py_NewRef(value);
    PyErr_Format(PyExc_OverflowError, "field '%s' takes a str of up to %llu bytes of UTF-8 without zeros", field->name,
                 (unsigned long long)field->count);
    return NULL;
}

PyObject *pp_field_check(const struct pht_field *field, PyObject *value)
{
    if (field->kind == PHT_FIELD_VALUE && field->count == 1)
        return Py_NewRef(value);
    if (is_text(field))
        return check_text(field, value);
    if (!is_one(field) || field->bit_count != 0) {
        PyErr_Format(PyExc_TypeError, "field '%s' is an array, a struct or a bit field: it can only be read",
                     field->name);
        return NULL;
    }
    if (field->kind == PHT_FIELD_FLOAT)
        return check_float(field, value);
    if (field->kind != PHT_FIELD_BOOL)
        return check_integer(field, value);
    if (PyBool_Check(value))
        return Py_NewRef(value);
    raise_kind(field, "a bool", value);
    return NULL;
}

enum pheap_status pp_field_store(struct pht *t, const struct pp_record *record, const struct pht_field *field,
                                 struct pht_any any)
{
    if (field->kind == PHT_FIELD_VALUE)
        return pht_record_set(t, record->body, field->offset, any);
    void *address;
    const uint64_t bytes = field->size * field->count;
    const enum pheap_status status = pheap_edit(t->txn, record->at + field->offset, bytes, &address);
    if (status != PHEAP_OK)
        return status;
    if (is_text(field)) {
        const size_t length = any.length < bytes ? (size_t)any.length : (size_t)bytes;
        memset(address, 0, bytes);
        memcpy(address, any.bytes, length);
    } else if (field->kind == PHT_FIELD_FLOAT && field->size == 4) {
        const float single = (float)any.real;
        memcpy(address, &single, sizeof single);
    } else if (field->kind == PHT_FIELD_FLOAT) {
        memcpy(address, &any.real, sizeof any.real);
    } else if (any.bytes != NULL) {
        memcpy(address, any.bytes, sizeof(uint64_t)); /* an unsigned one beyond int64_t: one limb */
    } else {
        memcpy(address, &any.integer, field->size); /* the lowest bytes come first */
    }
    return PHEAP_OK;
}
