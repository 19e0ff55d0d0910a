/* SPDX-License-Identifier: MIT */
/*
 * Limbo: where containers are that lost their last reference, until they are taken apart piece by piece.
 *
 * A program may remember the word of such an object (session.h).  So it goes through lists: young, waiting, ready.  When
 * `ready` is empty, and the mark of every process has reached the stamp of `waiting`, which is the version in which the last
 * object came into it, then `waiting` becomes ready, and `young` becomes waiting.
 *
 *   L1. What lost its last reference in a transaction is taken apart by a later one, if the heap ever had a session: so a
 *       process that sets its mark need not wait for a transaction that may have asked for marks before.  For what this
 *       transaction takes apart cannot be reached in the version before it, and that is what such a process sees.
 *   L2. All stamps in `waiting` are lower than those in `young`: so young becomes waiting in a later transaction only.
 *
 * If nobody has a mark and the heap never had a session, all of it is ready at once.
 *
 * An object in a list may be referred to again; it gets out of the list when its turn comes.  Lost again meanwhile, it goes
 * to the young ones.
 */
#include "types/heap.h"

static struct pt_registry *edit_registry(struct pht *t, enum pheap_status *status)
{
    struct pt_registry *registry = NULL;
    if (*status == PHEAP_OK)
        *status = pt_edit(t, t->registry, sizeof *registry, &registry);
    return registry;
}

static enum pheap_status put_link(struct pht *t, uint64_t object, uint64_t link)
{
    return pt_put(t, object + offsetof(struct pt_head, link), link);
}

/* A container in limbo; NULL (CORRUPT) if it is none. */
static const struct pt_head *limbo_head(struct pht *t, uint64_t object)
{
    const struct pt_head *head = pt_head(t, object);
    if (head != NULL && !pt_in_limbo(head)) {
        (void)pt_corrupt(t, object, "it is in limbo, and should not be");
        return NULL;
    }
    return head;
}

/* ----------------------------------------------------------------------------------------------------------- lists */

enum pheap_status pt_limbo_append(struct pht *t, enum pt_limbo list, uint64_t object, uint64_t bits)
{
    enum pheap_status status = PHEAP_OK;
    struct pt_registry *registry = edit_registry(t, &status);
    if (status != PHEAP_OK)
        return status;
    struct pt_list_in_limbo *to = &registry->limbo[list];
    if (to->first != 0) {
        const struct pt_head *last = limbo_head(t, to->last);
        if (last == NULL)
            return PHEAP_CORRUPT;
        if (last->link > PT_LINK_BITS || to->last == object)
            return pt_corrupt(t, to->last, "limbo does not end where the registry says");
        status = put_link(t, to->last, object | last->link);
    }
    if (status == PHEAP_OK)
        status = put_link(t, object, bits | PT_IN_LIMBO);
    if (status != PHEAP_OK)
        return status;
    if (to->first == 0)
        to->first = object;
    to->last = object;
    to->stamp = t->version;
    return PHEAP_OK;
}

/* Take the first one out of a list; its link is left as it is. */
static enum pheap_status unlink_first(struct pht *t, enum pt_limbo list, const struct pt_head *head)
{
    enum pheap_status status = PHEAP_OK;
    struct pt_registry *registry = edit_registry(t, &status);
    if (status != PHEAP_OK)
        return status;
    struct pt_list_in_limbo *from = &registry->limbo[list];
    const uint64_t next = head->link & ~(uint64_t)PT_LINK_BITS;
    if ((next == 0) != (from->last == from->first))
        return pt_corrupt(t, from->first, "limbo does not end where the registry says");
    from->first = next;
    if (next == 0)
        from->last = 0;
    return PHEAP_OK;
}

/* All of one list go to the end of another. */
static enum pheap_status splice(struct pht *t, enum pt_limbo from, enum pt_limbo to)
{
    enum pheap_status status = PHEAP_OK;
    struct pt_registry *registry = edit_registry(t, &status);
    if (status != PHEAP_OK)
        return status;
    struct pt_list_in_limbo *source = &registry->limbo[from], *target = &registry->limbo[to];
    if (target->first == 0) {
        *target = *source;
    } else {
        const struct pt_head *last = limbo_head(t, target->last);
        if (last == NULL)
            return PHEAP_CORRUPT;
        if (last->link > PT_LINK_BITS)
            return pt_corrupt(t, target->last, "limbo does not end where the registry says");
        status = put_link(t, target->last, source->first | last->link);
        target->last = source->last;
        target->stamp = source->stamp;
    }
    *source = (struct pt_list_in_limbo){.first = 0};
    return status;
}

enum pheap_status pt_limbo_add(struct pht *t, uint64_t object)
{
    const struct pt_head *head = pt_head(t, object);
    if (head == NULL)
        return PHEAP_CORRUPT;
    if (!pt_in_limbo(head))
        return pt_limbo_append(t, PT_YOUNG, object, 0);
    if ((head->link & PT_BEGUN) != 0)
        return pt_corrupt(t, object, "it is discarded, and it was before");
    return (head->link & PT_AGAIN) != 0 ? PHEAP_OK : put_link(t, object, head->link | PT_AGAIN);
}

/* ---------------------------------------------------------------------------------------------------------- offers */

/* One with PT_OFFERED is not in limbo, or not offered, any more. */
static enum pheap_status count_offer(struct pht *t, bool more)
{
    enum pheap_status status = PHEAP_OK;
    struct pt_registry *registry = edit_registry(t, &status);
    if (status == PHEAP_OK)
        registry->offered_count += more ? 1 : registry->offered_count == 0 ? 0 : UINT64_MAX;
    return status;
}

enum pheap_status pt_limbo_touch(struct pht *t, uint64_t object)
{
    const struct pt_head *head = pt_head(t, object);
    if (head == NULL)
        return PHEAP_CORRUPT;
    if (!pt_in_limbo(head))
        return put_link(t, object, 0);
    const enum pheap_status status = put_link(t, object, head->link & ~(uint64_t)PT_OFFERED);
    return status == PHEAP_OK ? count_offer(t, false) : status;
}

enum pheap_status pt_limbo_offer(struct pht *t, uint64_t object)
{
    const enum pheap_status status = pt_limbo_append(t, PT_OFFERS, object, PT_OFFERED);
    return status == PHEAP_OK ? count_offer(t, true) : status;
}

enum pheap_status pt_limbo_end_offer(struct pht *t)
{
    const struct pt_registry *registry = pt_registry_of(t);
    if (registry == NULL)
        return PHEAP_CORRUPT;
    enum pheap_status status = registry->limbo[PT_OFFERS].first == 0 ? PHEAP_OK : splice(t, PT_OFFERS, PT_YOUNG);
    struct pt_registry *edited = edit_registry(t, &status);
    if (status == PHEAP_OK)
        edited->limbo[PT_YOUNG].stamp = t->version;
    return status;
}

enum pheap_status pt_limbo_take_offer_back(struct pht *t, bool *more)
{
    const struct pt_registry *registry = pt_registry_of(t);
    if (registry == NULL)
        return PHEAP_CORRUPT;
    const uint64_t object = registry->limbo[PT_OFFERS].first;
    *more = object != 0;
    if (object == 0)
        return PHEAP_OK;
    const struct pt_head *head = limbo_head(t, object);
    if (head == NULL)
        return PHEAP_CORRUPT;
    const uint64_t bits = head->link & PT_LINK_BITS;
    enum pheap_status status = unlink_first(t, PT_OFFERS, head);
    if (status == PHEAP_OK)
        status = put_link(t, object, 0);
    if (status == PHEAP_OK && (bits & PT_OFFERED) != 0)
        status = count_offer(t, false);
    if (status == PHEAP_OK && (bits & PT_AGAIN) != 0 && head->references == 0)
        status = pt_limbo_append(t, PT_YOUNG, object, 0);
    return status;
}

/* ------------------------------------------------------------------------------------------------------- its turn */

/* Take apart what is in an object: more of it, or all. */
static enum pheap_status dismantle(struct pht *t, uint64_t object, uint32_t *budget, bool *done)
{
    const struct pt_head *head = pt_head(t, object);
    if (head == NULL)
        return PHEAP_CORRUPT;
    switch (head->kind) {
    case PHT_MAP:
    case PHT_SET:
        return pt_map_dismantle(t, object, budget, done);
    case PHT_LIST:
        return pt_list_dismantle(t, object, budget, done);
    case PHT_TUPLE:
        return pt_tuple_dismantle(t, object, budget, done);
    case PHT_FROZENSET:
        return pt_frozenset_dismantle(t, object, budget, done);
    case PHT_QUEUE:
        return pt_queue_dismantle(t, object, budget, done);
    case PHT_OMAP:
        return pt_omap_dismantle(t, object, budget, done);
    default:
        if (head->kind >= PHT_RECORD)
            return pt_record_dismantle(t, object, budget, done);
        return pt_corrupt(t, object, "it is in limbo, and refers to nothing");
    }
}

/* May objects be taken apart, or become waiting, that came here up to version `stamp`?  At most once in a transaction the
 * marks are asked for. */
static enum pheap_status have_all_seen(struct pht *t, const struct pt_registry *registry, uint64_t stamp, bool *seen)
{
    enum pheap_status status = PHEAP_OK;
    if (registry->sessions != 0 && stamp >= t->version) {
        *seen = false;
        return PHEAP_OK;
    }
    if (!t->asked)
        status = pt_failed(t, pheap_lowest_mark(t->txn, &t->lowest)); /* something was stored before */
    t->asked = status == PHEAP_OK;
    *seen = t->lowest == 0 || (t->lowest >= stamp && stamp < t->version);
    return status;
}

/* Nothing is ready: pass on what may be.  *more: something is ready now. */
static enum pheap_status advance(struct pht *t, bool *more)
{
    for (unsigned turn = 0; turn < 2; turn++) {
        bool seen = true;
        const struct pt_registry *registry = pt_registry_of(t);
        if (registry == NULL)
            return PHEAP_CORRUPT;
        const struct pt_list_in_limbo *waiting = &registry->limbo[PT_WAITING], *young = &registry->limbo[PT_YOUNG];
        if ((waiting->first | young->first) == 0)
            break;
        /* A stamp that is yet to come is a damaged one: it must not hold up limbo for good. */
        if (waiting->stamp > t->version || young->stamp > t->version) {
            enum pheap_status status = PHEAP_OK;
            struct pt_registry *edited = edit_registry(t, &status);
            if (status != PHEAP_OK)
                return status;
            for (unsigned i = PT_WAITING; i <= PT_YOUNG; i++)
                edited->limbo[i].stamp = t->version;
        }
        enum pheap_status status = waiting->first == 0 ? PHEAP_OK : have_all_seen(t, registry, waiting->stamp, &seen);
        if (status == PHEAP_OK && waiting->first != 0 && seen)
            status = splice(t, PT_WAITING, PT_READY);
        if (status != PHEAP_OK || !seen)
            return status;
        if (young->first != 0 && young->stamp < t->version) {
            status = splice(t, PT_YOUNG, PT_WAITING);
        } else if (young->first != 0) { /* of this transaction */
            status = have_all_seen(t, registry, young->stamp, &seen);
            if (status == PHEAP_OK && seen)
                status = splice(t, PT_YOUNG, PT_READY);
        }
        *more = registry->limbo[PT_READY].first != 0;
        if (status != PHEAP_OK || *more)
            return status;
    }
    return PHEAP_OK;
}

/* One that has references: out of limbo. */
static enum pheap_status release(struct pht *t, uint64_t object, const struct pt_head *head)
{
    const struct pt_registry *registry = pt_registry_of(t);
    if (registry == NULL)
        return PHEAP_CORRUPT;
    const bool offered = (head->link & PT_OFFERED) != 0;
    enum pheap_status status = unlink_first(t, PT_READY, head);
    if (status == PHEAP_OK)
        status = put_link(t, object, offered ? registry->offer << 4 | PT_OFFERED : 0);
    return status == PHEAP_OK && offered ? count_offer(t, false) : status;
}

/* The turn of the first one. */
static enum pheap_status take_turn(struct pht *t, uint64_t object, uint32_t *budget)
{
    bool done = false;
    const struct pt_head *head = limbo_head(t, object);
    if (head == NULL)
        return PHEAP_CORRUPT;
    if (head->references != 0)
        return (head->link & PT_BEGUN) == 0 ? release(t, object, head)
                                            : pt_corrupt(t, object, "it is being taken apart, and referred to");
    if ((head->link & PT_AGAIN) != 0) {
        enum pheap_status status = unlink_first(t, PT_READY, head);
        return status == PHEAP_OK ? pt_limbo_append(t, PT_YOUNG, object, 0) : status;
    }
    if ((head->link & PT_OFFERED) != 0) {
        const enum pheap_status status = pt_limbo_touch(t, object);
        if (status != PHEAP_OK)
            return status;
    }
    enum pheap_status status = dismantle(t, object, budget, &done);
    if (status == PHEAP_OK && !done && (head->link & PT_BEGUN) == 0)
        status = put_link(t, object, head->link | PT_BEGUN);
    if (status == PHEAP_OK && done)
        status = unlink_first(t, PT_READY, head);
    return status == PHEAP_OK && done ? pt_free(t, object) : status;
}

enum pheap_status pt_limbo_reclaim(struct pht *t, uint32_t budget, bool *more)
{
    bool ready = true;
    while (ready) {
        const struct pt_registry *registry = pt_registry_of(t);
        if (registry == NULL)
            return PHEAP_CORRUPT;
        const uint64_t object = registry->limbo[PT_READY].first;
        enum pheap_status status = PHEAP_OK;
        if (object == 0) {
            ready = false;
            status = advance(t, &ready);
        } else if (budget == 0) {
            break;
        } else {
            status = take_turn(t, object, &budget);
            budget -= budget > 0;
        }
        if (status != PHEAP_OK)
            return status;
    }
    if (more != NULL)
        *more = ready;
    return PHEAP_OK;
}

enum pheap_status pht_reclaim(struct pht *t, uint32_t words, bool *more)
{
    const enum pheap_status status = pt_may_change(t);
    return status == PHEAP_OK ? pt_limbo_reclaim(t, words, more) : status;
}

enum pheap_status pht_forget_limbo(struct pht *t)
{
    enum pheap_status status = pt_may_change(t);
    struct pt_registry *registry = edit_registry(t, &status);
    if (status == PHEAP_OK) {
        memset(registry->limbo, 0, sizeof registry->limbo);
        registry->offered_count = 0;
    }
    return status;
}

enum pheap_status pt_clear(struct pht *t, pht_value container, uint64_t length)
{
    void *address;
    uint64_t remains;
    const size_t body = sizeof(struct pt_container) - sizeof(uint32_t);
    enum pheap_status status = pt_alloc(t, length, false, &remains);
    if (status == PHEAP_OK)
        status = pt_edit(t, container, length, &address);
    if (status != PHEAP_OK)
        return status;
    memcpy(t->base + remains, address, length);
    struct pt_head *head = (struct pt_head *)(void *)(t->base + remains);
    head->references = 0;
    head->link = 0;
    memset((char *)address + body, 0, length - body);
    pt_changed(address);
    return pt_limbo_append(t, PT_READY, remains, 0); /* nobody knows its word */
}
