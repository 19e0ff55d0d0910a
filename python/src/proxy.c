/* SPDX-License-Identifier: MIT */
/* Proxies: which objects of the heap have one, and what becomes of them when a transaction is aborted. */
#include "python/src/block.h"

#include <stdlib.h>

static size_t seat_of(pht_value word, size_t room)
{
    return (size_t)((word >> 4) * UINT64_C(0x9E3779B97F4A7C15) >> 32) & (room - 1);
}

struct pp_proxy *pp_table_get(const struct pp_table *table, pht_value word)
{
    if (table->room == 0)
        return NULL;
    for (size_t i = seat_of(word, table->room); table->seats[i] != NULL; i = (i + 1) & (table->room - 1)) {
        if (table->seats[i]->word == word)
            return table->seats[i];
    }
    return NULL;
}

static void put(struct pp_table *table, struct pp_proxy *proxy)
{
    size_t i = seat_of(proxy->word, table->room);
    while (table->seats[i] != NULL)
        i = (i + 1) & (table->room - 1);
    table->seats[i] = proxy;
    table->used++;
}

static int table_add(struct pp_table *table, struct pp_proxy *proxy)
{
    if (2 * (table->used + 1) > table->room) {
        struct pp_table larger = {.room = table->room == 0 ? 16 : 2 * table->room};
        larger.seats = PyMem_Calloc(larger.room, sizeof(struct pp_proxy *));
        if (larger.seats == NULL) {
            PyErr_NoMemory();
            return -1;
        }
        for (size_t i = 0; i < table->room; i++) {
            if (table->seats[i] != NULL)
                put(&larger, table->seats[i]);
        }
        PyMem_Free(table->seats);
        *table = larger;
    }
    put(table, proxy);
    return 0;
}

/* Those behind the one that goes move up, so that no seat between them and their place is empty. */
static void table_remove(struct pp_table *table, struct pp_proxy *proxy)
{
    if (table->room == 0)
        return;
    const size_t mask = table->room - 1;
    size_t hole = seat_of(proxy->word, table->room);
    while (table->seats[hole] != proxy) {
        if (table->seats[hole] == NULL)
            return;
        hole = (hole + 1) & mask;
    }
    for (size_t i = (hole + 1) & mask; table->seats[i] != NULL; i = (i + 1) & mask) {
        const size_t wanted = seat_of(table->seats[i]->word, table->room);
        if (((i - wanted) & mask) >= ((i - hole) & mask)) {
            table->seats[hole] = table->seats[i];
            hole = i;
        }
    }
    table->seats[hole] = NULL;
    table->used--;
}

static struct pp_table *table_of(const struct pp_proxy *proxy)
{
    return proxy->snapshot != NULL ? &proxy->snapshot->table : &proxy->heap->table;
}

static void die(struct pp_table *table, struct pp_proxy *proxy)
{
    table_remove(table, proxy);
    proxy->dead = 1;
}

void pp_table_lose(struct pp_table *table, pht_value root, bool all)
{
    for (size_t i = 0; i < table->room;) {
        struct pp_proxy *proxy = table->seats[i];
        if (proxy != NULL && proxy->word != root && (all || proxy->lost)) {
            die(table, proxy); /* another one may come into its seat */
            proxy->lost = true;
        } else {
            i++;
        }
    }
}

enum pheap_status pp_proxy_adopt(struct pp_proxy *proxy, struct pp_heap *heap, pht_value word, uint32_t kind)
{
    proxy->word = word;
    pp_session_wake(heap, &heap->now.view);
    if (table_add(&heap->table, proxy) < 0) {
        PyErr_Clear();
        proxy->word = PHT_ABSENT;
        return pheap_fail_with(PHEAP_NO_MEMORY, "no memory for the table of objects");
    }
    proxy->kind = kind;
    proxy->serial = heap->now.serial;
    proxy->heap = (struct pp_heap *)Py_NewRef((PyObject *)heap);
    return PHEAP_OK;
}

void pp_proxy_release(struct pp_proxy *proxy)
{
    struct pp_heap *heap = proxy->heap;
    table_remove(&heap->table, proxy);
    proxy->word = PHT_ABSENT;
    proxy->serial = 0;
    proxy->heap = NULL;
    Py_DECREF((PyObject *)heap); /* whoever calls has it, too */
}

static PyObject *make(PyTypeObject *class, struct pp_heap *heap, struct pp_snapshot *snapshot, pht_value word,
                      uint32_t kind)
{
    /* This may run the garbage collector, and so anything. */
    struct pp_proxy *proxy = pp_new(class);
    if (proxy == NULL)
        return NULL;
    struct pp_table *table = snapshot != NULL ? &snapshot->table : &heap->table;
    struct pp_proxy *other = pp_table_get(table, word);
    if (other != NULL && other->kind == kind) {
        Py_DECREF((PyObject *)proxy);
        return Py_NewRef((PyObject *)other);
    }
    if (other != NULL)
        die(table, other); /* another process has freed that object, and this one has its place now */
    proxy->word = word;
    proxy->kind = kind;
    proxy->serial = snapshot == NULL && pp_in_transaction(heap) ? heap->now.serial : 0;
    proxy->heap = (struct pp_heap *)Py_NewRef((PyObject *)heap);
    proxy->snapshot = (struct pp_snapshot *)Py_XNewRef((PyObject *)snapshot);
    if (snapshot == NULL && pp_in_transaction(heap)) /* else its word is in flight, or it is the root */
        pp_session_wake(heap, &heap->now.view);
    if (table_add(table, proxy) < 0) {
        proxy->dead = 1;
        Py_DECREF((PyObject *)proxy);
        return NULL;
    }
    if (snapshot != NULL || !pp_is_leaf(kind))
        return (PyObject *)proxy;
    const enum pheap_status status = pp_in_transaction(heap) ? pp_hold(proxy) : PHEAP_OK;
    heap->unheld = heap->unheld || !proxy->held;
    if (status == PHEAP_OK)
        return (PyObject *)proxy;
    pp_fail(heap->state, status);
    Py_DECREF((PyObject *)proxy);
    return NULL;
}

PyObject *pp_proxy_of(struct pp_heap *heap, struct pp_snapshot *snapshot, pht_value word, uint32_t kind)
{
    struct pp_proxy *proxy = pp_table_get(snapshot != NULL ? &snapshot->table : &heap->table, word);
    if (proxy != NULL && (proxy->kind == kind || (proxy->kind == PP_STRUCT && kind == PHT_RECORD)))
        return Py_NewRef((PyObject *)proxy);
    PyObject *class = kind < PP_KINDS ? heap->state->classes[kind] : NULL;
    if (class == NULL) {
        pp_fail(heap->state, pheap_fail_with(PHEAP_WRONG_TYPE, "values of kind %s cannot be used from Python",
                                             pht_kind_name((enum pht_kind)kind)));
        return NULL;
    }
    return make((PyTypeObject *)class, heap, snapshot, word, kind);
}

PyObject *pp_proxy_made(PyTypeObject *class, struct pp_heap *heap, pht_value word, uint32_t kind)
{
    return make(class, heap, NULL, word, kind);
}

PyObject *pp_proxy_found(PyTypeObject *class, struct pp_heap *heap, struct pp_snapshot *snapshot, pht_value word,
                         uint32_t kind)
{
    return make(class, heap, snapshot, word, kind);
}

void pp_proxy_die(struct pp_proxy *proxy)
{
    die(table_of(proxy), proxy);
}

enum pheap_status pp_note_made(struct pp_heap *heap, pht_value word)
{
    struct pp_now *now = &heap->now;
    /* What had this place before is gone, if somebody here has a proxy of it still. */
    struct pp_proxy *stale = pp_table_get(&heap->table, word);
    if (stale != NULL)
        die(&heap->table, stale);
    if (now->made_count == now->made_room) {
        const size_t room = now->made_room == 0 ? 64 : 2 * now->made_room;
        pht_value *made = realloc(now->made, room * sizeof *made);
        if (made == NULL)
            return pheap_fail_with(PHEAP_NO_MEMORY, "no memory to remember what a transaction has made");
        now->made = made;
        now->made_room = room;
    }
    now->made[now->made_count++] = word;
    return PHEAP_OK;
}

void pp_bury(struct pp_heap *heap, const struct pp_now *now, size_t from)
{
    for (size_t i = from; i < now->made_count; i++) {
        struct pp_proxy *proxy = pp_table_get(&heap->table, now->made[i]);
        if (proxy == NULL || proxy->serial != now->serial)
            continue;
        if (pp_record_is_new(proxy))
            pp_record_revert(proxy);
        else
            die(&heap->table, proxy);
    }
    pp_holds_undone(heap, now->serial);
    pp_layouts_forget(heap, now->serial);
}

void pp_proxy_dealloc(PyObject *self)
{
    struct pp_proxy *proxy = (struct pp_proxy *)self;
    if (proxy->weak != NULL)
        PyObject_ClearWeakRefs(self);
    if (proxy->heap != NULL && !proxy->dead) {
        table_remove(table_of(proxy), proxy);
        if (proxy->held)
            pp_session_forget(proxy->heap, proxy->word);
        if (proxy->heap->table.used <= 1)
            pp_session_may_rest(proxy->heap);
    }
    Py_XDECREF((PyObject *)proxy->snapshot);
    Py_XDECREF((PyObject *)proxy->heap);
    pp_free(self);
}

static PyObject *get_heap(PyObject *self, void *closure)
{
    (void)closure;
    PyObject *heap = (PyObject *)((struct pp_proxy *)self)->heap;
    return Py_NewRef(heap != NULL ? heap : Py_None);
}

static PyObject *get_storable(PyObject *self, void *closure)
{
    (void)closure;
    const struct pp_proxy *proxy = (struct pp_proxy *)self;
    return PyBool_FromLong(proxy->word != PHT_ABSENT && proxy->snapshot == NULL && !proxy->dead);
}

static PyObject *get_word(PyObject *self, void *closure)
{
    (void)closure;
    return PyLong_FromUnsignedLongLong(((struct pp_proxy *)self)->word);
}

static PyGetSetDef getset[] = {
    {"_word", get_word, NULL, "The word of the object, which is its offset.", NULL},
    {"_heap", get_heap, NULL, "The heap that has the object, or None.", NULL},
    {"_writable", get_storable, NULL, "Can it be changed in a transaction?", NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyMemberDef members[] = {
    {"__weaklistoffset__", T_PYSSIZET, offsetof(struct pp_proxy, weak), READONLY, NULL},
    {NULL, 0, 0, 0, NULL},
};

static PyType_Slot slots[] = {
    {Py_tp_doc, (void *)"A container in a heap."},
    {Py_tp_dealloc, (void *)pp_proxy_dealloc},
    {Py_tp_getset, getset},
    {Py_tp_members, members},
    {0, NULL},
};

static PyType_Spec spec = {"pheap._pheap.Proxy", sizeof(struct pp_proxy), 0,
                           Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE | Py_TPFLAGS_DISALLOW_INSTANTIATION, slots};

int pp_proxy_init(PyObject *module, struct pp_state *state)
{
    return pp_add_type(module, &spec, NULL, &state->proxy);
}
