/* SPDX-License-Identifier: MIT */
/* Looking at the heap, changing it, and counting references. */
#include "types/heap.h"

#include <inttypes.h>

/* ------------------------------------------------------------------------------------------------------- looking */

enum pheap_status pt_corrupt(struct pht *t, uint64_t offset, const char *what)
{
    return pt_failed(t, pheap_fail_with(PHEAP_CORRUPT, "object at 0x%" PRIx64 ": %s", offset, what));
}

const void *pt_at_slow(struct pht *t, uint64_t offset, uint64_t length)
{
    if (t->txn != NULL)
        t->size = pheap_size(t->txn); /* it grows */
    if ((offset & 15) != 0 || offset == 0 || offset >= t->size || length > t->size - offset) {
        (void)pt_failed(t, pheap_fail_with(PHEAP_CORRUPT,
                                           "no object can be at 0x%" PRIx64 ", of %" PRIu64
                                           " bytes or more, in a heap of %" PRIu64 " bytes",
                                           offset, length, t->size));
        return NULL;
    }
    return t->base + offset;
}

const void *pt_at_kind(struct pht *t, uint64_t offset, uint64_t length, uint32_t kind)
{
    const struct pt_head *head = pt_at(t, offset, length);
    if (head != NULL && head->kind != kind) {
        (void)pt_failed(t, pheap_fail_with(PHEAP_CORRUPT, "object at 0x%" PRIx64 ": of kind %u where %u is expected",
                                           offset, head->kind, kind));
        return NULL;
    }
    return head;
}

enum pheap_status pt_use(struct pht *t, pht_value value, enum pht_kind kind, uint64_t length, const void **container)
{
    enum pht_kind found;
    if (pt_is_object(value) && (value & 15) == 0 && value < t->size && length <= t->size - value &&
        ((const struct pt_head *)(const void *)(t->base + value))->kind == (uint32_t)kind) {
        *container = t->base + value;
        return PHEAP_OK;
    }
    enum pheap_status status = pht_kind_of(t, value, &found);
    if (status != PHEAP_OK)
        return status;
    if (found != kind)
        return pheap_fail_with(PHEAP_WRONG_TYPE, "%s expected, the value 0x%" PRIx64 " is %s", pht_kind_name(kind),
                               value, pht_kind_name(found));
    *container = pt_at(t, value, length);
    return *container == NULL ? PHEAP_CORRUPT : PHEAP_OK;
}

const struct pt_head *pt_head(struct pht *t, uint64_t offset)
{
    const struct pt_head *head = pt_at(t, offset, sizeof *head);
    if (head != NULL && !pt_is_kind(head->kind)) {
        (void)pt_corrupt(t, offset, "it has the kind of no object");
        return NULL;
    }
    return head;
}

/* ------------------------------------------------------------------------------------------------------ changing */

enum pheap_status pt_failed(struct pht *t, enum pheap_status status)
{
    if (t->txn != NULL && t->failed == PHEAP_OK)
        t->failed = status;
    return status;
}

enum pheap_status pt_may_change(struct pht *t)
{
    if (t->txn == NULL)
        return pheap_fail_with(PHEAP_READ_ONLY, "the values of a snapshot cannot be changed");
    if (t->failed != PHEAP_OK)
        return pheap_fail_with(t->failed,
                               "an earlier change of this transaction failed half-way (%s): abort it, or roll "
                               "back and call pht_begin() again",
                               pheap_status_name(t->failed));
    return PHEAP_OK;
}

/* What the heap named was no block. */
static enum pheap_status no_block(struct pht *t, uint64_t offset, enum pheap_status status)
{
    if (status == PHEAP_BAD_OFFSET || status == PHEAP_DOUBLE_FREE)
        status = pheap_fail_with(PHEAP_CORRUPT, "object at 0x%" PRIx64 ": %s", offset, pheap_error_detail());
    return status == PHEAP_OK ? PHEAP_OK : pt_failed(t, status);
}

enum pheap_status pt_edit(struct pht *t, uint64_t offset, uint64_t length, void *pointer)
{
    void *address;
    enum pheap_status status = no_block(t, offset, pheap_edit(t->txn, offset, length, &address));
    if (status == PHEAP_OK && pointer != NULL)
        memcpy(pointer, &address, sizeof address);
    return status;
}

enum pheap_status pt_alloc(struct pht *t, uint64_t length, bool zero, uint64_t *offset)
{
    enum pheap_status status = zero ? pheap_zalloc(t->txn, length, offset) : pheap_alloc(t->txn, length, offset);
    t->size = pheap_size(t->txn);
    return status == PHEAP_OK ? PHEAP_OK : pt_failed(t, status);
}

enum pheap_status pt_realloc(struct pht *t, uint64_t *offset, uint64_t length)
{
    enum pheap_status status = no_block(t, *offset, pheap_realloc(t->txn, offset, length));
    t->size = pheap_size(t->txn);
    return status;
}

enum pheap_status pt_free(struct pht *t, uint64_t offset)
{
    if (offset == 0 || offset == t->registry)
        return pt_corrupt(t, offset, "it is referred to as a part of another one");
    return no_block(t, offset, pheap_free(t->txn, offset));
}

enum pheap_status pt_put(struct pht *t, uint64_t offset, uint64_t word)
{
    void *address;
    enum pheap_status status = pt_edit(t, offset, sizeof word, &address);
    if (status == PHEAP_OK)
        *(pt_word *)address = word;
    return status;
}

enum pheap_status pt_container_make(struct pht *t, enum pht_kind kind, uint64_t length, pht_value *container)
{
    uint64_t offset;
    if (container == NULL)
        return pheap_fail_with(PHEAP_INVALID, "the address for a new %s is NULL", pht_kind_name(kind));
    enum pheap_status status = pt_may_change(t);
    if (status == PHEAP_OK)
        status = pt_alloc(t, length, true, &offset);
    if (status != PHEAP_OK)
        return status;
    ((struct pt_head *)(void *)(t->base + offset))->kind = (uint32_t)kind;
    *container = offset;
    return PHEAP_OK;
}

enum pheap_status pt_container_new(struct pht *t, enum pht_kind kind, uint64_t length, pht_value *container)
{
    pht_value made;
    enum pheap_status status = pt_then_limbo(t, pt_container_make(t, kind, length, container == NULL ? NULL : &made));
    if (status == PHEAP_OK)
        *container = made;
    return status;
}

/* ------------------------------------------------------------------------------------------------------ counting */

/* References come or go: if it was offered as garbage it is that no more. */
static enum pheap_status touch(struct pht *t, const struct pt_head *head, uint64_t object)
{
    return pt_refers(head->kind) && (head->link & PT_OFFERED) != 0 ? pt_limbo_touch(t, object) : PHEAP_OK;
}

enum pheap_status pt_refer(struct pht *t, pht_value value)
{
    void *address;
    if (!pt_is_object(value))
        return PHEAP_OK;
    const struct pt_head *head = pt_head(t, value);
    if (head == NULL)
        return PHEAP_CORRUPT;
    if (pt_is_going(head))
        return pt_corrupt(t, value, "it is being taken apart, and is to be referred to");
    enum pheap_status status = touch(t, head, value);
    if (status != PHEAP_OK || head->references == UINT32_MAX)
        return status;
    status = pt_edit(t, value, sizeof *head, &address);
    if (status == PHEAP_OK)
        ((struct pt_head *)address)->references++;
    return status;
}

enum pheap_status pt_take(struct pht *t, pht_value value)
{
    void *address;
    if (!pt_is_object(value))
        return PHEAP_OK;
    const struct pt_head *head = pt_head(t, value);
    if (head == NULL)
        return PHEAP_CORRUPT;
    if (head->references == 0)
        return pt_corrupt(t, value, "it is referred to, and its count says that it is not");
    enum pheap_status status = touch(t, head, value);
    if (status != PHEAP_OK || head->references == UINT32_MAX)
        return status;
    status = pt_edit(t, value, sizeof *head, &address);
    if (status == PHEAP_OK)
        ((struct pt_head *)address)->references--;
    return status;
}

/* Free an object if nothing refers to it. */
static enum pheap_status free_unreferred(struct pht *t, pht_value value)
{
    const struct pt_head *head = pt_head(t, value);
    if (head == NULL)
        return PHEAP_CORRUPT;
    if (head->references != 0)
        return PHEAP_OK;
    return pt_refers(head->kind) ? pt_limbo_add(t, value) : pt_free(t, value);
}

enum pheap_status pt_drop(struct pht *t, pht_value value)
{
    if (!pt_is_object(value))
        return PHEAP_OK;
    const struct pt_head *head = pt_head(t, value);
    if (head == NULL)
        return PHEAP_CORRUPT;
    if (head->references == 1 && !pt_refers(head->kind))
        return pt_free(t, value); /* its count need not be changed before */
    enum pheap_status status = pt_take(t, value);
    return status == PHEAP_OK ? free_unreferred(t, value) : status;
}

enum pheap_status pht_discard(struct pht *t, pht_value value)
{
    enum pheap_status status = pt_may_change(t);
    if (status != PHEAP_OK || !pt_is_object(value))
        return status;
    const struct pt_head *head = pt_head(t, value);
    if (head == NULL)
        return PHEAP_CORRUPT;
    if (pt_in_limbo(head) && head->references == 0 && (head->link & PT_OFFERED) == 0)
        return pheap_fail_with(PHEAP_INVALID, "pht_discard: the %s at 0x%" PRIx64 " was discarded before",
                               pht_kind_name((enum pht_kind)head->kind), value);
    if (head->references != 0)
        return PHEAP_OK;
    struct pt_registry
        *registry; /* it may be what a collection found: that must not free it, or what comes in its place */
    status = pt_edit(t, t->registry, sizeof *registry, &registry);
    if (status != PHEAP_OK)
        return status;
    registry->collections++;
    return free_unreferred(t, value);
}

enum pheap_status pht_references(struct pht *t, pht_value value, uint32_t *count)
{
    const struct pt_head *head = NULL;
    if (count == NULL || value == PHT_ABSENT)
        return pheap_fail_with(PHEAP_INVALID, "pht_references: no value, or count is NULL");
    if (pt_is_object(value)) {
        head = pt_head(t, value);
        if (head == NULL)
            return PHEAP_CORRUPT;
    }
    *count = head == NULL ? 0 : head->references;
    return PHEAP_OK;
}

enum pheap_status pht_changes(struct pht *t, pht_value container, uint32_t *changes)
{
    enum pht_kind kind;
    if (changes == NULL)
        return pheap_fail_with(PHEAP_INVALID, "pht_changes: changes is NULL");
    enum pheap_status status = pht_kind_of(t, container, &kind);
    if (status != PHEAP_OK)
        return status;
    if (kind < PHT_MAP || kind >= PHT_RECORD)
        return pheap_fail_with(PHEAP_WRONG_TYPE, "%s has no elements that come and go", pht_kind_name(kind));
    const struct pt_container *head = pt_at(t, container, sizeof *head);
    if (head == NULL)
        return PHEAP_CORRUPT;
    *changes = head->changes;
    return PHEAP_OK;
}
