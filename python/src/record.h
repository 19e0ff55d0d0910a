/* SPDX-License-Identifier: MIT */
/*
 * Records: objects of the program's classes, in the heap as structs of registered types.
 *
 * A *shape* is what a class wants its objects to look like: names and kinds of fields.  A *layout* is a type of a heap:
 * the same, with the places of the fields, a version, and the class that goes by its name, which is looked for when the
 * first object needs it.  A layout that has what the shape wants, wherever, is current; an object of another one is read
 * through its own layout, and comes to a current one when it is changed: pheap/_classes.py does that.
 *
 * A record is *detached* before it is stored: its attributes are in the dict `plain`.  While it is being stored by a
 * transaction of its own it has both, until that has ended: other threads see `plain` meanwhile, and if the transaction
 * fails the record is detached again.
 *
 * An object whose block has no room for a newer layout becomes a record of the type MOVED, whose only value is the record
 * that has its fields.  Its word, and so its identity, stays.
 */
#ifndef PYTHON_RECORD_H
#define PYTHON_RECORD_H

#include "python/src/value.h"

#define PP_MOVED "pheap.moved"
#define PP_OTHERS "__dict__" /* the field for the map of attributes that are no fields */

/* The struct of a type: one block of memory. */
struct pp_struct {
    char *name;
    uint32_t version, count;
    uint64_t size;
    struct pht_field *fields;
};

struct pp_shape {
    PyObject_HEAD uint64_t serial; /* of all shapes of the process; never used again */
    struct pp_struct is;
    PyObject *names; /* of the fields: tuple of str */
    bool hook;       /* the class converts older objects itself */
};

struct pp_layout {
    uint64_t serial; /* of all layouts of the process; never used again */
    uint32_t number; /* of the type */
    struct pp_struct is;
    int32_t others;     /* which field is PP_OTHERS; -1: none */
    bool moved;         /* it is MOVED */
    uint64_t made;      /* the transaction in which it was met, 0: none; gone with that */
    uint64_t wanted_by; /* serial of the shape that found it */
    /* When the class was looked for: */
    PyObject *class;
    uint64_t generation;
    bool current, hook, pickled;
    struct pp_layout *next; /* of those that are gone, which records may still point to */
};

struct pp_record {
    struct pp_proxy proxy;    /* word PHT_ABSENT: detached */
    PyObject *plain;          /* dict */
    struct pp_layout *layout; /* of `body`; NULL: detached */
    pht_value body;           /* the record that has the fields: that of proxy.word, or where it moved */
    uint64_t at;              /* where its bytes begin */
};

int pp_record_init(PyObject *module, struct pp_state *state);
int pp_slot_init(PyObject *module, struct pp_state *state);
int pp_shape_init(PyObject *module, struct pp_state *state);

/* Is its content in `plain`, for this thread? */
static inline bool pp_is_detached(const struct pp_record *record)
{
    return record->proxy.word == PHT_ABSENT || (record->plain != NULL && !pp_in_transaction(record->proxy.heap));
}

/* ------------------------------------------------------------------------------------------------------- layouts */

/* The layout of a type, made if it was not met yet; its class is not looked for. */
enum pheap_status pp_layout_of(struct pp_heap *heap, struct pht *t, uint32_t number, struct pp_layout **layout);

/* The newest layout that is what the shape wants.  If there is none it is registered, or (`make` false) *layout is NULL. */
enum pheap_status pp_layout_for(struct pp_heap *heap, struct pht *t, const struct pp_shape *shape, bool make,
                                struct pp_layout **layout);

/* Find its class, and whether it is current.  Runs Python code; -1 with an exception. */
int pp_layout_class(struct pp_heap *heap, struct pp_layout *layout);
static inline bool pp_layout_known(const struct pp_heap *heap, const struct pp_layout *layout)
{
    return layout->class != NULL && layout->generation == heap->state->generation;
}

/* The shape of a class of records: borrowed; NULL with an exception. */
struct pp_shape *pp_shape_of(struct pp_state *state, PyObject *class);

/* Are fields alike, wherever they are? */
bool pp_same_kind(const struct pht_field *a, const struct pht_field *b);

/* The field of a name; -1: none. */
int32_t pp_struct_find(const struct pp_struct *is, const char *name);

/* ------------------------------------------------------------------------------------------------------- records */

/* Find where the fields of a record are now.  WRONG_TYPE: another object has its place. */
enum pheap_status pp_record_find(struct pp_record *record, struct pht *t);

/* See that the class of its layout is known: 1; 0: it is detached; -1: an exception. */
int pp_record_known(struct pp_record *record);

/* Begin a look at a record; its layout is known.  Or a change: 1 says that it is detached after all. */
int pp_record_look(struct pp_record *record, struct pp_look *look);
int pp_record_change(struct pp_record *record, struct pp_change *change);

/* An attribute that is no field: 1: *object is it; 0: there is none; -1: an exception. */
int pp_record_other(struct pp_record *record, PyObject *name, PyObject **object);
int pp_record_set_other(struct pp_record *record, PyObject *name, PyObject *value);

/* A field out of a view: of a value what pp_show() gives, of anything else its bytes.  pp_field_make() makes the object:
 * NULL without an exception if a value is absent. */
enum pheap_status pp_field_show(struct pht *t, const struct pp_record *record, const struct pht_field *field,
                                struct pp_shown *shown);
PyObject *pp_field_make(const struct pht_field *field, struct pp_shown *shown, struct pp_heap *heap,
                        struct pp_snapshot *snapshot);

/* Store to a field, within a change. */
enum pheap_status pp_field_store(struct pht *t, const struct pp_record *record, const struct pht_field *field,
                                 struct pht_any any);

/* A value as a scalar field will show it, e.g. an int of 64 bits: a new reference.  TypeError, OverflowError. */
PyObject *pp_field_check(const struct pht_field *field, PyObject *value);

#endif
