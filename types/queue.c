/* SPDX-License-Identifier: MIT */
/*
 * Queues: words in links of 1 KiB that follow each other.  The first element is `begin` places into the first link, all
 * links between the first and the last are full.  A queue that became empty keeps one link, so that one that is filled and
 * drained again and again does not allocate.
 */
#include "types/value.h"

#include <inttypes.h>

#define LINK_WORDS 124u
#define COUNT_MAX (UINT64_C(1) << 48)

struct PT_IN_HEAP pt_queue {
    struct pt_container container;
    uint64_t count;
    uint64_t first; /* a link; 0: none */
    uint64_t last;
    uint64_t begin; /* below LINK_WORDS */
};
_Static_assert(sizeof(struct pt_queue) == PT_QUEUE_BYTES, "queue");

struct PT_IN_HEAP pt_link {
    uint32_t kind; /* PT_LINK */
    uint32_t zero;
    uint64_t previous; /* 0: none */
    uint64_t next;
    uint64_t unused; /* 0 */
    uint64_t words[LINK_WORDS];
};
_Static_assert(sizeof(struct pt_link) == 1024, "link of a queue");

static enum pheap_status use(struct pht *t, pht_value value, const struct pt_queue **queue)
{
    const void *address;
    enum pheap_status status = pt_use(t, value, PHT_QUEUE, sizeof **queue, &address);
    if (status != PHEAP_OK)
        return status;
    *queue = address;
    if ((*queue)->begin >= LINK_WORDS || (*queue)->count > t->size / 8 || ((*queue)->count > 0 && (*queue)->first == 0))
        return pt_corrupt(t, value, "a queue whose beginning or count is impossible");
    return PHEAP_OK;
}

static enum pheap_status edit(struct pht *t, pht_value value, struct pt_queue **queue)
{
    const struct pt_queue *found;
    enum pheap_status status = pt_may_change(t);
    if (status == PHEAP_OK)
        status = use(t, value, &found);
    return status == PHEAP_OK ? pt_edit(t, value, sizeof **queue, queue) : status;
}

static const struct pt_link *link_at(struct pht *t, uint64_t offset)
{
    return pt_at_kind(t, offset, sizeof(struct pt_link), PT_LINK);
}

/* The offset of the word of element `index`; 0 (CORRUPT) if the queue is damaged. */
static uint64_t find(struct pht *t, const struct pt_queue *queue, uint64_t index)
{
    const uint64_t place = queue->begin + index, number = place / LINK_WORDS;
    const uint64_t links = (queue->begin + queue->count - 1) / LINK_WORDS + 1;
    const bool forth = number <= links / 2;
    uint64_t at = forth ? queue->first : queue->last;
    for (uint64_t steps = forth ? number : links - 1 - number;; steps--) {
        const struct pt_link *link = link_at(t, at);
        if (link == NULL)
            return 0;
        if (steps == 0)
            return at + offsetof(struct pt_link, words) + place % LINK_WORDS * sizeof(uint64_t);
        at = forth ? link->next : link->previous;
    }
}

enum pheap_status pht_queue_new(struct pht *t, pht_value *queue)
{
    return pt_container_new(t, PHT_QUEUE, sizeof(struct pt_queue), queue);
}

enum pheap_status pht_queue_count(struct pht *t, pht_value queue, uint64_t *count)
{
    const struct pt_queue *found;
    if (count == NULL)
        return pheap_fail_with(PHEAP_INVALID, "pht_queue_count: count is NULL");
    enum pheap_status status = use(t, queue, &found);
    if (status == PHEAP_OK)
        *count = found->count;
    return status;
}

static enum pheap_status refuse_index(uint64_t index, uint64_t count)
{
    return pheap_fail_with(PHEAP_INVALID, "element %" PRIu64 " of a queue of %" PRIu64, index, count);
}

enum pheap_status pht_queue_get(struct pht *t, pht_value queue, uint64_t index, pht_value *value)
{
    const struct pt_queue *found;
    if (value == NULL)
        return pheap_fail_with(PHEAP_INVALID, "pht_queue_get: value is NULL");
    enum pheap_status status = use(t, queue, &found);
    if (status != PHEAP_OK)
        return status;
    if (index >= found->count)
        return refuse_index(index, found->count);
    const uint64_t at = find(t, found, index);
    if (at == 0)
        return PHEAP_CORRUPT;
    *value = *(const pt_word *)(const void *)(t->base + at);
    return PHEAP_OK;
}

enum pheap_status pht_queue_set(struct pht *t, pht_value queue, uint64_t index, struct pht_any value)
{
    pht_value word;
    struct pt_key key;
    struct pt_queue *edited;
    enum pheap_status status = pt_key(t, &value, &key);
    if (status == PHEAP_OK)
        status = edit(t, queue, &edited);
    if (status != PHEAP_OK)
        return status;
    if (index >= edited->count)
        return refuse_index(index, edited->count);
    status = pt_store(t, &value, &word);
    const uint64_t at = status == PHEAP_OK ? find(t, edited, index) : 0;
    if (at == 0)
        return status == PHEAP_OK ? PHEAP_CORRUPT : status;
    const pht_value old = *(const pt_word *)(const void *)(t->base + at);
    status = pt_then_limbo(t, pt_put(t, at, word));
    return status == PHEAP_OK ? pt_drop(t, old) : status;
}

/* A new link at one end. */
static enum pheap_status add_link(struct pht *t, struct pt_queue *queue, bool front)
{
    uint64_t made, old = front ? queue->first : queue->last;
    enum pheap_status status = pt_alloc(t, sizeof(struct pt_link), true, &made);
    if (status != PHEAP_OK)
        return status;
    struct pt_link *link = (struct pt_link *)(void *)(t->base + made);
    link->kind = PT_LINK;
    if (front)
        link->next = old;
    else
        link->previous = old;
    if (old == 0) {
        queue->first = queue->last = made;
        return PHEAP_OK;
    }
    if (link_at(t, old) == NULL)
        return PHEAP_CORRUPT;
    if (front)
        queue->first = made;
    else
        queue->last = made;
    return pt_put(t, old + (front ? offsetof(struct pt_link, previous) : offsetof(struct pt_link, next)), made);
}

/* The link at one end is not needed any more. */
static enum pheap_status remove_link(struct pht *t, struct pt_queue *queue, bool front)
{
    const uint64_t old = front ? queue->first : queue->last;
    const struct pt_link *link = link_at(t, old);
    if (link == NULL)
        return PHEAP_CORRUPT;
    const uint64_t end = front ? link->next : link->previous;
    if (front)
        queue->first = end;
    else
        queue->last = end;
    enum pheap_status status = pt_free(t, old);
    if (end == 0 || status != PHEAP_OK) {
        queue->first = queue->last = 0;
        return status;
    }
    if (link_at(t, end) == NULL)
        return PHEAP_CORRUPT;
    return pt_put(t, end + (front ? offsetof(struct pt_link, previous) : offsetof(struct pt_link, next)), 0);
}

static uint64_t limit_of(const struct pt_queue *queue)
{
    return queue->container.spare == 0 ? PHT_NO_LIMIT : queue->container.spare - 1;
}

enum pheap_status pht_queue_limit(struct pht *t, pht_value queue, uint64_t *limit)
{
    const struct pt_queue *found;
    if (limit == NULL)
        return pheap_fail_with(PHEAP_INVALID, "pht_queue_limit: limit is NULL");
    enum pheap_status status = use(t, queue, &found);
    if (status == PHEAP_OK)
        *limit = limit_of(found);
    return status;
}

enum pheap_status pht_queue_set_limit(struct pht *t, pht_value queue, uint64_t limit)
{
    struct pt_queue *edited;
    const bool none = limit == PHT_NO_LIMIT;
    if (!none && limit >= UINT32_MAX)
        return pheap_fail_with(PHEAP_INVALID, "%" PRIu64 " cannot be the limit of a queue", limit);
    enum pheap_status status = edit(t, queue, &edited);
    if (status != PHEAP_OK)
        return status;
    if (!none && edited->count > limit)
        return pheap_fail_with(PHEAP_INVALID, "a queue of %" PRIu64 " elements cannot have the limit %" PRIu64,
                               edited->count, limit);
    edited->container.spare = none ? 0 : (uint32_t)limit + 1;
    return PHEAP_OK;
}

/* Take an element out of a queue that has one. */
static enum pheap_status pop(struct pht *t, struct pt_queue *queue, bool front, pht_value *word)
{
    const uint64_t at = find(t, queue, front ? 0 : queue->count - 1);
    if (at == 0)
        return PHEAP_CORRUPT;
    *word = *(const pt_word *)(const void *)(t->base + at);
    queue->begin += front;
    queue->count--;
    pt_changed(queue);
    if (queue->count == 0) {
        queue->begin = 0;
        return PHEAP_OK;
    }
    const bool empty = front ? queue->begin == LINK_WORDS : (queue->begin + queue->count) % LINK_WORDS == 0;
    if (front && empty)
        queue->begin = 0;
    return empty ? remove_link(t, queue, front) : PHEAP_OK;
}

enum pheap_status pht_queue_push(struct pht *t, pht_value queue, bool front, struct pht_any value)
{
    pht_value word, old = PHT_ABSENT;
    struct pt_key key;
    struct pt_queue *edited;
    enum pheap_status status = pt_key(t, &value, &key);
    if (status == PHEAP_OK)
        status = edit(t, queue, &edited);
    if (status != PHEAP_OK)
        return status;
    if (edited->count >= COUNT_MAX)
        return pheap_fail_with(PHEAP_FULL, "a queue has at most 2^48 elements");
    if (limit_of(edited) == 0)
        return PHEAP_OK;
    status = pt_store(t, &value, &word);
    if (status == PHEAP_OK && edited->count >= limit_of(edited))
        status = pop(t, edited, !front, &old);
    if (status != PHEAP_OK)
        return status;
    if (edited->count == 0) /* of the link it may have kept, the end that is needed is free */
        edited->begin = front && edited->first != 0 ? LINK_WORDS : 0;
    if (edited->first == 0 ||
        (front ? edited->begin == 0 : edited->count > 0 && (edited->begin + edited->count) % LINK_WORDS == 0)) {
        status = add_link(t, edited, front);
        if (front)
            edited->begin = LINK_WORDS;
    }
    if (status != PHEAP_OK)
        return status;
    edited->begin -= front;
    edited->count++;
    pt_changed(edited);
    const uint64_t at = find(t, edited, front ? 0 : edited->count - 1);
    status = at == 0 ? PHEAP_CORRUPT : pt_then_limbo(t, pt_put(t, at, word));
    return status == PHEAP_OK && old != PHT_ABSENT ? pt_drop(t, old) : status;
}

enum pheap_status pht_queue_pop(struct pht *t, pht_value queue, bool front, pht_value *taken)
{
    pht_value word;
    struct pt_queue *edited;
    enum pheap_status status = edit(t, queue, &edited);
    if (status != PHEAP_OK)
        return status;
    if (edited->count == 0) {
        if (taken != NULL)
            *taken = PHT_ABSENT;
        return PHEAP_OK;
    }
    status = pop(t, edited, front, &word);
    return status == PHEAP_OK ? pt_let_go(t, word, taken) : status;
}

enum pheap_status pht_queue_clear(struct pht *t, pht_value queue)
{
    struct pt_queue *edited;
    enum pheap_status status = edit(t, queue, &edited);
    if (status != PHEAP_OK || edited->count == 0)
        return status;
    const uint32_t spare = edited->container.spare;
    status = pt_clear(t, queue, sizeof *edited);
    if (status == PHEAP_OK)
        edited->container.spare = spare;
    return status;
}

/* The place of element number walk->done, from one end; the walk goes on from link to link. */
static enum pheap_status step(struct pht *t, pht_value queue, bool backwards, struct pht_walk *walk, pht_value *value)
{
    const struct pt_queue *found;
    if (walk == NULL || value == NULL)
        return pheap_fail_with(PHEAP_INVALID, "a walk through a queue, or its value, is NULL");
    enum pheap_status status = use(t, queue, &found);
    if (status != PHEAP_OK)
        return status;
    if (walk->done > 0 && walk->changes != found->container.changes)
        return pheap_fail_with(PHEAP_BUSY, "elements of the queue came or went during a walk");
    if (walk->done >= found->count)
        return PHEAP_END;
    const uint64_t place = found->begin + (backwards ? found->count - 1 - walk->done : walk->done);
    const bool crosses = place % LINK_WORDS == (backwards ? LINK_WORDS - 1 : 0);
    uint64_t at = walk->link;
    if (walk->done == 0) {
        at = backwards ? found->last : found->first;
    } else if (crosses) {
        const struct pt_link *before = link_at(t, at);
        if (before == NULL)
            return PHEAP_CORRUPT;
        at = backwards ? before->previous : before->next;
    }
    const struct pt_link *link = link_at(t, at);
    if (link == NULL)
        return PHEAP_CORRUPT;
    *value = link->words[place % LINK_WORDS];
    *walk = (struct pht_walk){.link = at, .done = walk->done + 1, .changes = found->container.changes};
    return PHEAP_OK;
}

enum pheap_status pht_queue_next(struct pht *t, pht_value queue, struct pht_walk *walk, pht_value *value)
{
    return step(t, queue, false, walk, value);
}

enum pheap_status pht_queue_previous(struct pht *t, pht_value queue, struct pht_walk *walk, pht_value *value)
{
    return step(t, queue, true, walk, value);
}

enum pheap_status pt_queue_dismantle(struct pht *t, uint64_t queue, uint32_t *budget, bool *done)
{
    const struct pt_queue *found;
    struct pt_queue *edited;
    enum pheap_status status = use(t, queue, &found);
    if (status == PHEAP_OK)
        status = pt_edit(t, queue, sizeof *edited, &edited);
    for (; status == PHEAP_OK && *budget > 0 && edited->count > 0; --*budget) {
        pht_value word;
        status = pop(t, edited, false, &word);
        if (status == PHEAP_OK)
            status = pt_drop(t, word);
    }
    if (status == PHEAP_OK && edited->count == 0 && edited->first != 0)
        status = remove_link(t, edited, false);
    *done = status == PHEAP_OK && edited->count == 0;
    return status;
}

enum pheap_status pt_queue_visit(struct pt_visit *visit)
{
    const struct pt_queue *queue;
    struct pht *t = visit->t;
    enum pheap_status status = use(t, visit->object, &queue);
    if (status == PHEAP_OK)
        status = visit->part(visit, visit->object, sizeof *queue);
    if (status != PHEAP_OK)
        return status;
    if (queue->count > limit_of(queue))
        return pt_corrupt(t, visit->object, "a queue with more elements than its limit");
    uint64_t at = queue->first, previous = 0, left = queue->count, place = queue->begin;
    for (; at != 0 && status == PHEAP_OK; place = 0) {
        const struct pt_link *link = link_at(t, at);
        if (link == NULL)
            return PHEAP_CORRUPT;
        status = visit->part(visit, at, sizeof *link);
        if (status == PHEAP_OK && (link->previous != previous || (left == 0 && queue->count > 0)))
            status = pt_corrupt(t, visit->object, "a queue whose links do not follow each other, or are too many");
        for (; place < LINK_WORDS && left > 0 && status == PHEAP_OK; place++, left--)
            status = visit->word(visit, link->words[place]);
        previous = at;
        at = link->next;
    }
    if (status == PHEAP_OK && (left != 0 || queue->last != previous))
        status = pt_corrupt(t, visit->object, "a queue whose links do not follow each other, or are too few");
    return status;
}
