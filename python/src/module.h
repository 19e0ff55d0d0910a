/* SPDX-License-Identifier: MIT */
/* The state of the module pheap._pheap, and how a status becomes an exception. */
#ifndef PYTHON_MODULE_H
#define PYTHON_MODULE_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <structmember.h>

#include "types/types.h"

/* Kinds of values are numbers below this. */
enum { PP_KINDS = 18 };

/* The kind of a proxy of a record that pheap.struct uses as a plain struct: its class is not that of its type. */
enum { PP_STRUCT = 62 };

struct pp_state {
    PyObject *errors; /* dict: status -> class, of pheap._errors */
    PyObject *closed; /* pheap.Closed */
    PyObject *dead;   /* pheap.Aborted */
    PyTypeObject *heap, *transaction, *snapshot, *proxy, *map, *map_iterator, *list, *list_iterator, *set, *queue,
        *omap, *walk, *block, *field, *place, *watch, *record, *slot, *shape;
    PyObject *deque;             /* collections.deque */
    PyObject *ordered;           /* the plain kin of pheap.OrderedMap; NULL: not known yet */
    PyObject *classes_module;    /* pheap._classes, when it has been imported */
    uint64_t generation;         /* of the classes of records: raised when there is another one */
    PyObject *classes[PP_KINDS]; /* by enum pht_kind: the class of its proxies; NULL: it has none */
};

/* The state of the module that an object of one of its types belongs to. */
struct pp_state *pp_state_of(PyTypeObject *type);

/* Raise what a status and pheap_error_detail() say, but not in the place of an exception that is raised already. */
void pp_fail(struct pp_state *state, enum pheap_status status);

/* Tell the logger "pheap", by its method `level`; a text as for PyUnicode_FromFormat().  Handlers are code of the program, so
 * this is a call that may do anything.  -1 if an exception is raised, be it that it was before. */
int pp_log(const char *level, const char *format, ...);

/* Make a type and add it to the module. */
int pp_add_type(PyObject *module, PyType_Spec *spec, PyTypeObject *base, PyTypeObject **type);

/* An object of a type of ours, and the end of one: memory and the reference to its type. */
void *pp_new(PyTypeObject *type);
void pp_free(void *object);

#endif
