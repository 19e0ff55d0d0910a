/* SPDX-License-Identifier: MIT */
/*
 * Values between Python and the heap.
 *
 * Into the heap: a plan is made of a Python value before anything is changed; that may run any code and fail in any way.
 * Then pp_store() makes the value, without Python.  Out of the heap: pp_show() copies a value out of a view without
 * running Python code, and pp_make() makes an object of it when the look has ended.
 */
#ifndef PYTHON_VALUE_H
#define PYTHON_VALUE_H

#include "python/src/heap.h"

struct pp_shape;

/* Of tuples within tuples, on their way in and out of a heap. */
enum { PP_DEPTH_MAX = 200 };

/* Values that have elements and never change. */
static inline bool pp_compound(uint32_t kind)
{
    return kind == PHT_TUPLE || kind == PHT_FROZENSET;
}

/* ------------------------------------------------------------------------------------------------ into the heap */

/* A value of a plan: `box` names a container that is to be made, -1: there is none. */
struct pp_item {
    struct pht_any any;
    Py_ssize_t box;
    bool key;
};

/* A container to be made of items first, first + 1... (a map: keys and values by turns). */
struct pp_box {
    enum pht_kind kind;
    PyObject *source; /* borrowed, kept by `keep` */
    size_t first, count;
    Py_ssize_t inside;      /* the box that it was met in; -1: none */
    uint64_t limit;         /* of a queue */
    struct pp_shape *shape; /* of a record: its items are its fields */
    struct pp_layout *layout;
    pht_value word;     /* when it was made */
    size_t above, seen; /* while tuples are sorted: the one that wanted it, and how many of its items are done */
    uint32_t depth;     /* of a tuple or frozenset that was sorted: how deep they are nested in it; else 0 */
    uint32_t weight;    /* of it: elements, as those of a key are counted */
};

/* A plan stays where it began: a small one has its items, and what it keeps, in itself. */
struct pp_plan {
    struct pp_heap *heap;
    struct pp_item *items;
    size_t item_count, item_room;
    struct pp_box *boxes;
    size_t box_count, box_room;
    size_t *sorted; /* numbers of the tuples and frozensets, those first that are in others */
    size_t sorted_count;
    PyObject **keep; /* what the plan points into */
    size_t keep_count, keep_room;
    PyObject *memo;              /* dict: id of a container -> its box */
    Py_ssize_t filling;          /* the box whose items are being added; -1: none */
    bool copies;                 /* its first box is a record whose object stays detached */
    struct pp_item few_items[4]; /* of most plans all */
    PyObject *few_kept[4];
};

/* Plans of several values: call pp_plan_add() for each; a value is item number *item.  -1 with an exception.
 * pp_plan_end() is called in any case. */
void pp_plan_begin(struct pp_plan *plan, struct pp_heap *heap);
int pp_plan_add(struct pp_plan *plan, PyObject *value);
int pp_plan_finish(struct pp_plan *plan);
void pp_plan_end(struct pp_plan *plan);

/* Make the containers of the plan; then item `i` is to be stored as items[i].any. */
enum pheap_status pp_plan_make(struct pp_plan *plan, struct pht *t);

/* After the first `count` items were stored, or not: free the containers among them that are stored nowhere. */
enum pheap_status pp_plan_tidy(struct pp_plan *plan, struct pht *t, size_t count);

/* pp_plan_add() of a key: TypeError, or whatever its hash raises, if it cannot be hashed. */
int pp_plan_key(struct pp_plan *plan, PyObject *key);

/*
 * Something to look for: 1 if the heap may have it, 0 if nothing equal to it can be in a heap, -1 with an exception
 * (what cannot be hashed).  pp_needle_clear() is called in any case.
 */
struct pp_needle {
    struct pht_any any;
    PyObject *keep;           /* a reference to what `any` points to */
    struct pp_needle *parts;  /* of a tuple or frozenset */
    struct pht_any *elements; /* what `any` of its parts are */
    size_t count;
};
int pp_needle(struct pp_needle *needle, PyObject *object);
void pp_needle_clear(struct pp_needle *needle);

/* Look for it in a map, set or ordered map: *value (of a set: any word) or PHT_ABSENT.  What can be no key, or has no order
 * with the keys of an ordered map, is not there. */
enum pheap_status pp_find(struct pht *t, pht_value container, uint32_t kind, const struct pp_needle *needle,
                          pht_value *value);

/* What Map and OrderedMap have in common. */
int pp_map_contains(PyObject *self, PyObject *key);
PyObject *pp_map_subscript(PyObject *self, PyObject *key);
Py_ssize_t pp_map_length(PyObject *self);
int pp_map_assign(PyObject *self, PyObject *key, PyObject *value);
PyObject *pp_map_get(PyObject *self, PyObject *args);
PyObject *pp_map_setdefault(PyObject *self, PyObject *args);
PyObject *pp_map_pop(PyObject *self, PyObject *args);
PyObject *pp_map_update(PyObject *self, PyObject *plain);
extern const char pp_map_get_doc[], pp_map_setdefault_doc[], pp_map_pop_doc[], pp_map_update_doc[];

/* An index from the front, or the count if there is no such element. */
static inline uint64_t pp_from_front(Py_ssize_t index, uint64_t count)
{
    if (index >= 0)
        return (uint64_t)index < count ? (uint64_t)index : count;
    const uint64_t back = (uint64_t)0 - (uint64_t)index;
    return back <= count ? count - back : count;
}

struct pp_shown;

/* What an iterator over items gives, of two that were shown, the key and the value. */
enum pp_part { PP_KEYS = 0, PP_VALUES = 1, PP_ITEMS = 2 };
PyObject *pp_make_part(struct pp_shown *shown, int part, struct pp_heap *heap, struct pp_snapshot *snapshot);

/* An iterator over a queue, or over the ranks from `low` up to `high` of an ordered map. */
PyObject *pp_walk_new(struct pp_proxy *proxy, uint64_t low, uint64_t high, int part, bool backwards);

/* For __reduce__ of an iterator: iter() of a plain list of what `rest`, which is taken over, gives. */
PyObject *pp_reduced(PyObject *rest);

/* An iterator over the elements of a set, or the keys of a map. */
PyObject *pp_walk(struct pp_proxy *proxy, bool backwards);

/* ---------------------------------------------------------------------------------------------- out of the heap */

/* A value copied out of a view.  Begin with zeros. */
struct pp_shown {
    pht_value word;
    uint32_t kind; /* enum pht_kind; 0: nothing */
    uint32_t negative;
    int64_t
        integer; /* of a record the number of its type; of a block or the like the transaction that holds it, or 0 */
    double real;
    PyObject *object;       /* str, bytes; of a large int its limbs */
    struct pp_shown *parts; /* of a tuple */
    size_t count;
};
enum pheap_status pp_show(struct pht *t, pht_value value, struct pp_shown *shown);

/* Within a change, before what was shown is removed: hold the blocks, arrays and rings in it, until they have proxies. */
enum pheap_status pp_hold_shown(struct pp_heap *heap, struct pp_shown *shown);

/* The object for it, and `shown` is empty again.  NULL with an exception. */
PyObject *pp_make(struct pp_shown *shown, struct pp_heap *heap, struct pp_snapshot *snapshot);

void pp_shown_clear(struct pp_shown *shown);

/* tp_new of a class of containers: make one in the heap that is the first argument, in its transaction. */
PyObject *pp_container_new(PyTypeObject *class, PyObject *args, struct pp_state *state, enum pht_kind kind);

#endif
