/* SPDX-License-Identifier: MIT */
/*
 * The census.  Memory: 40 bytes a block.  Every block is visited at most once, and every walk within an object passes
 * through blocks that belong to it alone, so the time is bounded by the heap, whatever is in it.
 */
#include "types/census.h"

#include "types/value.h"

#include <stdlib.h>

/* What the visits of a census are about. */
struct visitor {
    struct pt_visit visit;
    struct pt_census *census;
    enum pt_state state; /* of what is reached now */
};

/* The pheap_error_detail() of this moment is a fault. */
static enum pheap_status tell(struct pt_census *census, uint64_t offset)
{
    if (census->fault == NULL)
        return PHEAP_CORRUPT;
    if (census->faults++ < PT_FAULTS_MAX)
        census->fault(census->context, offset, pheap_error_detail());
    return PHEAP_OK;
}

static struct pt_block *block_at(const struct pt_census *census, uint64_t offset)
{
    uint64_t low = 0, high = census->count;
    while (low < high) {
        const uint64_t middle = low + (high - low) / 2;
        if (census->blocks[middle].offset < offset)
            low = middle + 1;
        else
            high = middle;
    }
    return low < census->count && census->blocks[low].offset == offset ? &census->blocks[low] : NULL;
}

static enum pheap_status list_blocks(struct pt_census *census)
{
    uint64_t room = 0, from = 0;
    for (;;) {
        uint64_t offset, length;
        enum pheap_status status = pheap_read_next_block(census->t->reader, from, &offset, &length);
        if (status == PHEAP_END)
            break;
        if (status != PHEAP_OK)
            return status;
        if (census->count == room) {
            room = room == 0 ? 1024 : room * 2;
            void *grown = realloc(census->blocks, room * sizeof *census->blocks);
            if (grown == NULL)
                return pheap_fail_with(PHEAP_NO_MEMORY, "no memory for a list of all blocks");
            census->blocks = grown;
        }
        census->blocks[census->count++] = (struct pt_block){.offset = offset, .length = length};
        from = offset + length;
    }
    census->queue = malloc((census->count + 1) * sizeof *census->queue);
    return census->queue == NULL ? pheap_fail_with(PHEAP_NO_MEMORY, "no memory for a list of all blocks") : PHEAP_OK;
}

/* A block that an object says is its own: the object's block itself, or a part of it. */
static enum pheap_status part(struct pt_visit *visit, uint64_t offset, uint64_t length)
{
    const struct visitor *v = (const struct visitor *)visit;
    struct pt_block *block = block_at(v->census, offset);
    if (block == NULL || block->length < length)
        return pt_corrupt(visit->t, offset, "it is part of a value, and no live block of that size");
    if (offset == visit->object)
        return PHEAP_OK;
    if (block->state != PT_UNSEEN)
        return pt_corrupt(visit->t, offset, "it is part of two values");
    block->state = PT_OWNED;
    return PHEAP_OK;
}

/* An object is referred to. */
static enum pheap_status reach(struct visitor *v, uint64_t offset, enum pt_state state)
{
    struct pt_census *census = v->census;
    struct pt_block *block = block_at(census, offset);
    const struct pt_head *head = block == NULL ? NULL : pt_head(census->t, offset);
    if (block == NULL)
        return pt_corrupt(census->t, offset, "it is referred to, and no live block");
    if (head == NULL)
        return PHEAP_CORRUPT;
    block->references += state != PT_LIMBO;
    if (block->state == PT_OWNED)
        return pt_corrupt(census->t, offset, "it is referred to, and part of another value");
    if (block->state == PT_UNSEEN) {
        block->state = (uint8_t)state;
        census->queue[census->queued++] = (uint64_t)(block - census->blocks);
    }
    return PHEAP_OK;
}

/* A word in an object. */
static enum pheap_status word(struct pt_visit *visit, pht_value value)
{
    struct visitor *v = (struct visitor *)visit;
    struct pt_key key;
    if (pt_is_object(value))
        return reach(v, value, v->state);
    enum pheap_status status = pt_key_of(visit->t, value, &key);
    if (status == PHEAP_OK && key.any.kind == PHT_STR && !pt_is_utf8(key.any.bytes, key.any.length))
        status = pt_corrupt(visit->t, visit->object, "it has a str that is not UTF-8");
    return status == PHEAP_OK ? PHEAP_OK : PHEAP_CORRUPT;
}

/* An object that refers to nothing. */
static enum pheap_status visit_leaf(struct pt_visit *visit)
{
    struct pt_key key;
    enum pheap_status status = pt_key_of(visit->t, visit->object, &key);
    if (status != PHEAP_OK)
        return status;
    const struct pt_leaf *leaf = (const struct pt_leaf *)(const void *)(visit->t->base + visit->object);
    uint64_t bytes = 0;
    if (leaf->kind == PHT_INT)
        bytes = (leaf->length >> 1) * sizeof(uint64_t);
    else if (leaf->kind != PHT_FLOAT)
        bytes = leaf->length;
    if (leaf->kind == PHT_STR && !pt_is_utf8(key.any.bytes, key.any.length))
        return pt_corrupt(visit->t, visit->object, "a str that is not UTF-8");
    if (leaf->kind == PHT_ARRAY || leaf->kind == PHT_RING)
        status = pt_array_check(visit->t, visit->object);
    if (status != PHEAP_OK)
        return status;
    return visit->part(visit, visit->object, sizeof *leaf + bytes);
}

static enum pheap_status visit_object(struct visitor *v, const struct pt_block *block)
{
    const struct pt_head *head = pt_head(v->census->t, block->offset);
    if (head == NULL)
        return PHEAP_CORRUPT;
    v->visit.object = block->offset;
    v->visit.in_limbo = block->state == PT_LIMBO || block->state >= PT_SPARED;
    switch (head->kind) {
    case PHT_MAP:
    case PHT_SET:
        return pt_map_visit(&v->visit);
    case PHT_LIST:
        return pt_list_visit(&v->visit);
    case PHT_TUPLE:
        return pt_tuple_visit(&v->visit);
    case PHT_FROZENSET:
        return pt_frozenset_visit(&v->visit);
    case PHT_QUEUE:
        return pt_queue_visit(&v->visit);
    case PHT_OMAP:
        return pt_omap_visit(&v->visit);
    default:
        return head->kind >= PHT_RECORD ? pt_record_visit(&v->visit) : visit_leaf(&v->visit);
    }
}

/* Visit what is in the queue from `from` to `to`, and tell of its faults. */
static enum pheap_status visit_queued(struct visitor *v, uint64_t from, uint64_t to)
{
    struct pt_census *census = v->census;
    for (; from < to; from++) {
        const struct pt_block *block = &census->blocks[census->queue[from]];
        enum pheap_status status = visit_object(v, block);
        if (status != PHEAP_OK && (status != PHEAP_CORRUPT || tell(census, block->offset) != PHEAP_OK))
            return status;
    }
    return PHEAP_OK;
}

/* Visit all that is queued, and what that brings. */
static enum pheap_status visit_queue(struct visitor *v)
{
    struct pt_census *census = v->census;
    enum pheap_status status = PHEAP_OK;
    while (census->visited < census->queued && status == PHEAP_OK) {
        const uint64_t from = census->visited;
        census->visited = census->queued;
        status = visit_queued(v, from, census->visited);
    }
    return status;
}

/* The objects in a list of limbo, in their order.  Those that are referred to again are reached otherwise, or are garbage. */
static enum pheap_status reach_limbo(struct visitor *v, const struct pt_list_in_limbo *list)
{
    struct pt_census *census = v->census;
    uint64_t last = 0;
    enum pheap_status status = PHEAP_OK;
    for (uint64_t at = list->first; at != 0 && status == PHEAP_OK;) {
        struct pt_block *block = block_at(census, at);
        const struct pt_head *head = block == NULL ? NULL : pt_head(census->t, at);
        if (block == NULL)
            return pt_corrupt(census->t, at, "it is in limbo, and no live block");
        if (head == NULL)
            return PHEAP_CORRUPT;
        if (block->listed || !pt_in_limbo(head))
            return pt_corrupt(census->t, at, "it is in limbo, and should not be");
        block->listed = 1;
        if (head->references == 0)
            status = reach(v, at, PT_LIMBO);
        last = at;
        at = head->link & ~(uint64_t)PT_LINK_BITS;
    }
    if (status == PHEAP_OK && last != list->last)
        status = pt_corrupt(census->t, last, "limbo does not end where the registry says");
    return status;
}

/* Does the link of what can be reached say what is? */
static bool is_link_right(const struct pt_block *block, const struct pt_head *head)
{
    if (!pt_refers(head->kind))
        return true;
    if (pt_in_limbo(head))
        return block->listed && (head->link & PT_BEGUN) == 0;
    return head->link == 0 || (head->link & PT_LINK_BITS) == PT_OFFERED;
}

/*
 * Does what was found agree with what objects say of themselves?  Of garbage it need not: pht_collect() mends that.  What
 * is leaving may have one reference more, of a collection that was killed; it will be garbage soon.
 */
static enum pheap_status compare_counts(struct pt_census *census)
{
    for (uint64_t i = 0; i < census->count; i++) {
        const struct pt_block *block = &census->blocks[i];
        if (block->state != PT_OBJECT && block->state != PT_LIMBO && block->state != PT_LEAVING)
            continue;
        const struct pt_head *head = pt_head(census->t, block->offset);
        if (head != NULL && block->state == PT_OBJECT && !is_link_right(block, head)) {
            (void)pt_corrupt(census->t, block->offset, "it says that it is in limbo, and is not, or is half gone");
            if (tell(census, block->offset) != PHEAP_OK)
                return PHEAP_CORRUPT;
        }
        if (head == NULL || head->references == UINT32_MAX || head->references == block->references ||
            (block->state == PT_LEAVING && head->references == block->references + 1))
            continue;
        (void)pt_corrupt(census->t, block->offset, "its count of references is wrong");
        if (tell(census, block->offset) != PHEAP_OK)
            return PHEAP_CORRUPT;
    }
    return PHEAP_OK;
}

/* May a session remember this garbage, of which nobody knows whether it is an object or a part of one? */
static bool is_spared(const struct pt_head *head, uint64_t offer)
{
    return pt_refers(head->kind) && !pt_was_seen(head, offer) && !pt_is_going(head);
}

/*
 * What was not reached: first what begins with the head of an object is taken for one, then it is visited.  First that which
 * sessions may remember, so that all it refers to is spared, too.
 */
static enum pheap_status take_garbage(struct visitor *v, const struct pt_registry *registry)
{
    struct pt_census *census = v->census;
    enum pheap_status status = PHEAP_OK;
    for (v->state = PT_SPARED; v->state <= PT_GARBAGE && status == PHEAP_OK; v->state++) {
        for (uint64_t i = 0; i < census->count; i++) {
            struct pt_block *block = &census->blocks[i];
            if (block->state != PT_UNSEEN)
                continue;
            const struct pt_head *head = pt_at(census->t, block->offset, sizeof *head);
            if (head == NULL || !pt_is_kind(head->kind) || (v->state == PT_SPARED && !is_spared(head, registry->offer)))
                continue; /* a part of an object that is yet to be visited; or nobody's */
            block->state = (uint8_t)v->state;
            census->queue[census->queued++] = i;
        }
        status = visit_queue(v);
    }
    return status;
}

/* The types of the registry, in which one refers to another by its number; of those with faults the first is told. */
static enum pheap_status check_types(struct pt_census *census)
{
    uint32_t number = 0;
    enum pheap_status status = PHEAP_OK;
    while (status == PHEAP_OK)
        status = pt_type_check(census->t, number++);
    if (status == PHEAP_NOT_FOUND)
        return PHEAP_OK;
    return tell(census, census->t->registry);
}

enum pheap_status pt_census_take(struct pt_census *census)
{
    struct pht *t = census->t;
    struct visitor v = {.visit = {.t = t, .part = part, .word = word}, .census = census};
    enum pheap_status status = list_blocks(census);
    if (status != PHEAP_OK)
        return status;
    const struct pt_registry *registry = pt_at_kind(t, t->registry, sizeof *registry, PT_REGISTRY);
    struct pt_block *block = block_at(census, t->registry);
    if (registry == NULL || block == NULL || block->length < sizeof *registry)
        return pt_corrupt(t, t->registry, "the registry is no live block");
    block->state = PT_OWNED;
    /* Limbo first, so that nothing else can claim what is there; but it is visited later. */
    for (unsigned i = 0; i < PT_LIMBOS && status == PHEAP_OK; i++)
        status = reach_limbo(&v, &registry->limbo[i]);
    const uint64_t limbo = census->queued;
    census->visited = limbo;
    if (status == PHEAP_OK)
        status = reach(&v, registry->root, PT_OBJECT);
    if (status == PHEAP_OK && registry->types != 0)
        status = reach(&v, registry->types, PT_OBJECT);
    if (status == PHEAP_OK && registry->sessions != 0)
        status = reach(&v, registry->sessions, PT_OBJECT);
    if (status == PHEAP_CORRUPT)
        status = tell(census, t->registry);
    v.state = PT_OBJECT;
    if (status == PHEAP_OK)
        status = visit_queue(&v);
    if (status == PHEAP_OK)
        status = check_types(census);
    v.state = PT_LEAVING;
    if (status == PHEAP_OK)
        status = visit_queued(&v, 0, limbo);
    if (status == PHEAP_OK)
        status = visit_queue(&v);
    if (status == PHEAP_OK)
        status = take_garbage(&v, registry);
    if (status == PHEAP_OK) /* garbage refers to what can be reached, too */
        status = compare_counts(census);
    if (status == PHEAP_OK && census->faults > 0)
        status =
            pheap_fail_with(PHEAP_CORRUPT, "%llu faults in the values of the heap", (unsigned long long)census->faults);
    return status;
}

void pt_census_free(struct pt_census *census)
{
    free(census->blocks);
    free(census->queue);
}
