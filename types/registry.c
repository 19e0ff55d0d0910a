/* SPDX-License-Identifier: MIT */
/* The registry: the root block of a heap of values, and the views that begin with it. */
#include "types/heap.h"

#include <inttypes.h>
#include <sys/random.h>

/* What lies at the root of a heap that is not empty. */
static enum pheap_status check_registry(struct pht *t)
{
    const struct pt_registry *registry = pt_at(t, t->registry, sizeof *registry);
    if (registry == NULL || registry->kind != PT_REGISTRY || registry->magic != PT_MAGIC)
        return pheap_fail_with(PHEAP_WRONG_TYPE,
                               "the root block at 0x%" PRIx64
                               " is no registry of values: another kind of program uses this heap",
                               t->registry);
    if (registry->version != PT_VERSION || registry->features != 0)
        return pheap_fail_with(PHEAP_NEWER,
                               "the values of this heap have version %u and features 0x%x; this library knows "
                               "version %u without features",
                               registry->version, registry->features, PT_VERSION);
    const struct pt_head *root = pt_at(t, registry->root, sizeof *root);
    if (root == NULL || root->kind != PHT_MAP)
        return pheap_fail_with(PHEAP_CORRUPT, "the registry of values at 0x%" PRIx64 " names no root map", t->registry);
    return PHEAP_OK;
}

/* A registry and an empty root map in a heap that has neither. */
static enum pheap_status make_registry(struct pht *t)
{
    struct pt_registry made = {.kind = PT_REGISTRY, .references = 1, .magic = PT_MAGIC, .version = PT_VERSION};
    if (getrandom(made.hash_key, sizeof made.hash_key, 0) != (ssize_t)sizeof made.hash_key)
        return pheap_fail_with(PHEAP_IO, "the system gives no random numbers for the hash key of a heap");
    enum pheap_status status = pt_alloc(t, sizeof made, true, &t->registry);
    if (status == PHEAP_OK)
        status = pheap_write(t->txn, t->registry, &made, sizeof made);
    if (status == PHEAP_OK)
        status = pht_map_new(t, &made.root);
    if (status == PHEAP_OK)
        status = pt_refer(t, made.root);
    if (status == PHEAP_OK)
        status = pt_put(t, t->registry + offsetof(struct pt_registry, root), made.root);
    if (status == PHEAP_OK)
        status = pheap_set_root(t->txn, t->registry);
    return status;
}

enum pheap_status pht_begin(pheap_txn *txn, struct pht *t)
{
    if (txn == NULL || t == NULL)
        return pheap_fail_with(PHEAP_INVALID, "pht_begin: the transaction or the view is NULL");
    struct pht made = {.size = pheap_size(txn), .txn = txn, .version = pheap_version(txn)};
    if (made.size == 0)
        return pheap_edit(txn, 0, 1, NULL); /* says why the transaction cannot be used */
    made.base = pheap_ptr(txn, 0);
    made.registry = pheap_root(txn);
    enum pheap_status status = made.registry == 0 ? make_registry(&made) : check_registry(&made);
    if (status != PHEAP_OK)
        return status;
    made.failed = PHEAP_OK;
    *t = made;
    return PHEAP_OK;
}

enum pheap_status pht_look(const pheap_read *reader, struct pht *t)
{
    if (reader == NULL || t == NULL)
        return pheap_fail_with(PHEAP_INVALID, "pht_look: the reader or the view is NULL");
    union {
        const void *shown;
        unsigned char *base; /* nothing stores through it: pt_may_change() */
    } address = {.shown = pheap_read_ptr(reader, 0)};
    struct pht made = {
        .base = address.base, .size = pheap_read_size(reader), .registry = pheap_read_root(reader), .reader = reader};
    if (made.registry == 0)
        return pheap_fail_with(PHEAP_NOT_FOUND, "the heap has no values yet");
    enum pheap_status status = check_registry(&made);
    if (status == PHEAP_OK)
        *t = made;
    return status;
}

pht_value pht_root(const struct pht *t)
{
    return ((const struct pt_registry *)(const void *)(t->base + t->registry))->root;
}
