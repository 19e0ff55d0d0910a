/* SPDX-License-Identifier: MIT */
/* Tuples: a fixed number of values that never change. */
#include "types/value.h"

#include <inttypes.h>

struct PT_IN_HEAP pt_tuple {
    struct pt_container container;
    uint64_t count;
    /* words */
};
_Static_assert(sizeof(struct pt_tuple) == 32, "tuple");

const pt_word *pt_tuple_words(struct pht *t, pht_value tuple, uint64_t *count)
{
    const struct pt_tuple *head = pt_at_kind(t, tuple, sizeof *head, PHT_TUPLE);
    if (head == NULL)
        return NULL;
    *count = head->count;
    if (head->count > (t->size - tuple - sizeof *head) / sizeof(pt_word)) {
        (void)pt_corrupt(t, tuple, "a tuple longer than the heap");
        return NULL;
    }
    return (const pt_word *)(head + 1);
}

enum pheap_status pt_tuple_make(struct pht *t, const struct pht_any *elements, uint64_t count, pht_value *tuple)
{
    pht_value made;
    enum pheap_status status =
        pt_container_make(t, PHT_TUPLE, sizeof(struct pt_tuple) + count * sizeof(pt_word), &made);
    for (uint64_t i = 0; i < count && status == PHEAP_OK; i++) {
        pht_value word;
        status = pt_failed(t, pt_store(t, &elements[i], &word));
        if (status == PHEAP_OK) /* not declared: the block is fresh, unless the caller takes savepoints in between */
            *((pt_word *)(void *)(t->base + made + sizeof(struct pt_tuple)) + i) = word;
    }
    if (status != PHEAP_OK)
        return status;
    ((struct pt_tuple *)(void *)(t->base + made))->count = count;
    *tuple = made;
    return PHEAP_OK;
}

enum pheap_status pht_tuple_new(struct pht *t, const struct pht_any *elements, uint64_t count, pht_value *tuple)
{
    pht_value made;
    struct pt_key key;
    if (tuple == NULL || count > PT_TUPLE_MAX || (elements == NULL && count > 0))
        return pheap_fail_with(PHEAP_INVALID, "pht_tuple_new: %" PRIu64 " elements, or a NULL", count);
    for (uint64_t i = 0; i < count; i++) { /* what is no value is found before anything is made */
        enum pheap_status status = pt_key(t, &elements[i], &key);
        if (status != PHEAP_OK)
            return status;
    }
    enum pheap_status status = pt_then_limbo(t, pt_tuple_make(t, elements, count, &made));
    if (status == PHEAP_OK)
        *tuple = made;
    return status;
}

enum pheap_status pht_tuple_count(struct pht *t, pht_value tuple, uint64_t *count)
{
    const void *head;
    uint64_t found;
    enum pheap_status status = pt_use(t, tuple, PHT_TUPLE, sizeof(struct pt_tuple), &head);
    if (status != PHEAP_OK)
        return status;
    if (count == NULL)
        return pheap_fail_with(PHEAP_INVALID, "pht_tuple_count: count is NULL");
    if (pt_tuple_words(t, tuple, &found) == NULL)
        return PHEAP_CORRUPT;
    *count = found;
    return PHEAP_OK;
}

enum pheap_status pht_tuple_get(struct pht *t, pht_value tuple, uint64_t index, pht_value *value)
{
    const void *head;
    uint64_t count;
    enum pheap_status status = pt_use(t, tuple, PHT_TUPLE, sizeof(struct pt_tuple), &head);
    if (status != PHEAP_OK)
        return status;
    const pt_word *words = pt_tuple_words(t, tuple, &count);
    if (words == NULL)
        return PHEAP_CORRUPT;
    if (value == NULL || index >= count)
        return pheap_fail_with(PHEAP_INVALID, "element %" PRIu64 " of a tuple of %" PRIu64 ", or value is NULL", index,
                               count);
    *value = words[index];
    return PHEAP_OK;
}

enum pheap_status pt_tuple_dismantle(struct pht *t, uint64_t tuple, uint32_t *budget, bool *done)
{
    uint64_t count;
    struct pt_tuple *head;
    const pt_word *words = pt_tuple_words(t, tuple, &count);
    if (words == NULL)
        return PHEAP_CORRUPT;
    enum pheap_status status = pt_edit(t, tuple, sizeof *head, &head);
    for (; status == PHEAP_OK && count > 0 && *budget > 0; --*budget) {
        head->count = --count; /* not read again: in a damaged heap what is dropped may lie in it */
        status = pt_drop(t, words[count]);
    }
    *done = status == PHEAP_OK && count == 0;
    return status;
}

enum pheap_status pt_tuple_visit(struct pt_visit *visit)
{
    uint64_t count;
    const pt_word *words = pt_tuple_words(visit->t, visit->object, &count);
    if (words == NULL)
        return PHEAP_CORRUPT;
    enum pheap_status status = visit->part(visit, visit->object, sizeof(struct pt_tuple) + count * sizeof *words);
    for (uint64_t i = 0; i < count && status == PHEAP_OK; i++)
        status = visit->word(visit, words[i]);
    return status;
}
