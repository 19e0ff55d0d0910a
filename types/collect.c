/* SPDX-License-Identifier: MIT */
/*
 * Check and collection.
 *
 * Garbage is stable: what nobody can reach stays so, because to store a word one must have come by it.  So it is looked for
 * in a snapshot, without a lock, and freed in transactions that come later, of which each does a little:
 *
 *   1. Every container that is garbage gets the count that the census found, and one more: so nothing that follows frees it
 *      before its turn.  Leaves to which nobody refers are freed.
 *   2. Each of them in turn loses its content and that one reference.  When the last content is gone, so are they.
 *
 * What is in limbo may have the last references to more garbage, so limbo is emptied before the census that counts.
 *
 * Killed in between, it leaves garbage with wrong counts, which the next collection puts right.  Two at a time would meet
 * blocks that the other has freed: a counter in the registry tells them, and that somebody discarded an object.
 *
 * A program may remember the word of garbage and store it, or change what it stands for.  With a session it may do so; then
 * all garbage is offered to the sessions before, by way of limbo, and they take references to what they remember.  What all
 * have seen, and nobody came to refer to since, nor ceased to refer to, says so in its link: only that is freed, and of that
 * only what no other garbage refers to.  For whoever comes by such an object later came by way of one that he remembered;
 * all that is on that way either refers to the next still, and is no such garbage, or has let it go, which it shows.
 *
 * An offer is made whole, and another one only when all of the last have left limbo: so of what has the number of an offer
 * all was garbage at one time, before anybody saw it.
 *
 * Without a session to remember a word is against the rules.  If it was done, the count of references, or of changes, is not
 * what the census saw: the collection ends, and takes back what it did in 1.
 */
#include "types/census.h"
#include "types/session.h"

#include <stdlib.h>

#define OBJECTS_PIECE 100 /* of a transaction */
#define WORDS_PIECE 200

/* Where the census of kinds has a block. */
static uint32_t place_of_kind(const struct pht *t, uint64_t object)
{
    const uint32_t kind = ((const struct pt_head *)(const void *)(t->base + object))->kind;
    return kind < PHT_CENSUS_KINDS ? kind : 0;
}

enum pheap_status pht_check(struct pht *t, pheap_fault fault, void *context, struct pht_census *census)
{
    if (t == NULL || t->reader == NULL)
        return pheap_fail_with(PHEAP_INVALID, "pht_check: not the view of a reader");
    if (census != NULL && (census->size < sizeof census->size || census->size > 4096))
        return pheap_fail_with(PHEAP_INVALID, "pht_check: census->size is not set");
    struct pt_census taken = {.t = t, .fault = fault, .context = context};
    enum pheap_status status = pt_census_take(&taken);
    if (census != NULL && (status == PHEAP_OK || status == PHEAP_CORRUPT)) {
        struct pht_census all = {.size = census->size, .faults = taken.faults + (fault == NULL && status != PHEAP_OK)};
        for (uint64_t i = 0; i < taken.count; i++) {
            if (taken.blocks[i].state == PT_OBJECT) {
                all.objects++;
                all.kinds[place_of_kind(t, taken.blocks[i].offset)]++;
            }
            all.limbo += taken.blocks[i].state == PT_LIMBO || taken.blocks[i].state == PT_LEAVING;
            all.garbage += taken.blocks[i].state >= PT_SPARED;
            all.unknown += taken.blocks[i].state == PT_UNSEEN;
        }
        memcpy(census, &all, census->size < sizeof all ? census->size : sizeof all);
    }
    pt_census_free(&taken);
    return status;
}

/* An object to be collected, as the census found it. */
struct item {
    uint64_t offset;
    uint64_t references; /* found by the census */
    uint32_t kind;
    uint32_t counted; /* references as the object had them then */
    uint32_t changes; /* likewise, of what has such a count */
    uint64_t link;    /* likewise; it may have been in a limbo that was cut off */
    bool spared;      /* sessions may remember it */
    bool listed;      /* it is in limbo, as an offer */
};

/* What is to be collected, and how far that is. */
struct collection {
    pheap *heap;
    enum pheap_durability how;
    struct item *garbage;
    uint64_t count;
    uint64_t done;        /* of this phase */
    uint64_t end;         /* of it */
    bool lives;           /* some of it is not garbage any more */
    uint64_t collections; /* as the registry has it, if no other collection is at work */
    bool more;            /* something in limbo can be taken apart */
    bool alone;           /* nobody has a session */
    uint64_t waiting;     /* offers that not all have seen */
    uint64_t freed;
};

enum phase { HOLD = 1, RELEASE, UNDO, OFFER, PREPARE, RECLAIM };

static bool has_changes(uint32_t kind)
{
    return pt_refers(kind) && kind < PHT_RECORD;
}

static uint32_t changes_of(const struct pt_head *head)
{
    return has_changes(head->kind) ? ((const struct pt_container *)(const void *)head)->changes : 0;
}

/* The count that phase 1 gives to an object. */
static uint32_t held(const struct item *item)
{
    const uint64_t references = item->references + pt_refers(item->kind);
    return references < UINT32_MAX ? (uint32_t)references : UINT32_MAX;
}

static enum pheap_status refuse_living(struct collection *c)
{
    c->lives = true;
    return pheap_fail_with(PHEAP_BUSY, "somebody stored or changed what was garbage: a word that was remembered");
}

static enum pheap_status put_references(struct pht *t, const struct item *item, uint32_t references)
{
    struct pt_head *edited;
    enum pheap_status status = pt_edit(t, item->offset, sizeof *edited, &edited);
    if (status == PHEAP_OK)
        edited->references = references;
    return status;
}

/* Phase 1, one object. */
static enum pheap_status hold(struct collection *c, struct pht *t, const struct item *item)
{
    const struct pt_head *head =
        pt_at(t, item->offset, has_changes(item->kind) ? sizeof(struct pt_container) : sizeof *head);
    if (head == NULL)
        return PHEAP_CORRUPT;
    if (head->kind != item->kind || head->link != item->link || head->references != item->counted ||
        changes_of(head) != item->changes)
        return refuse_living(c);
    if (!pt_refers(item->kind) && item->references == 0)
        return pt_free(t, item->offset);
    enum pheap_status status = put_references(t, item, held(item));
    if (status == PHEAP_OK && item->link != 0 && pt_refers(item->kind))
        status = pt_put(t, item->offset + offsetof(struct pt_head, link), 0);
    return status;
}

/* Phase 1 taken back, one object that may refer to others: others were only freed, or got the count they had. */
static enum pheap_status undo(struct pht *t, const struct item *item)
{
    if (!pt_refers(item->kind))
        return PHEAP_OK;
    const struct pt_head *head = pt_at_kind(t, item->offset, sizeof *head, item->kind);
    if (head == NULL)
        return PHEAP_CORRUPT;
    const bool full = head->references == 0 || head->references == UINT32_MAX;
    return full ? PHEAP_OK : put_references(t, item, head->references - 1);
}

/*
 * Phase 2, one object; of a long tuple a part of it, *done: all.  A block that could not refer to others is not looked at:
 * it was freed in phase 1, and may be anything now, or goes with what refers to it.
 */
static enum pheap_status release(struct collection *c, struct pht *t, const struct item *item, uint32_t *budget,
                                 bool *done)
{
    enum pheap_status status = PHEAP_OK;
    *done = true;
    if (!pt_refers(item->kind))
        return PHEAP_OK;
    const struct pt_head *head = pt_at_kind(t, item->offset, sizeof *head, item->kind);
    if (head == NULL)
        return PHEAP_CORRUPT;
    if (head->references > held(item))
        return refuse_living(c);
    switch (item->kind) {
    case PHT_TUPLE:
        status = pt_tuple_dismantle(t, item->offset, budget, done);
        break;
    case PHT_FROZENSET:
        status = pt_frozenset_dismantle(t, item->offset, budget, done);
        break;
    case PHT_LIST:
        status = pt_clear(t, item->offset, PT_LIST_BYTES);
        break;
    case PHT_QUEUE:
        status = pt_clear(t, item->offset, PT_QUEUE_BYTES);
        break;
    case PHT_OMAP:
        status = pt_clear(t, item->offset, PT_OMAP_BYTES);
        break;
    case PHT_MAP:
    case PHT_SET:
        status = pt_clear(t, item->offset, PT_MAP_BYTES);
        break;
    default:
        status = pt_record_dismantle(t, item->offset, budget, done);
        break;
    }
    return status == PHEAP_OK && *done ? pt_drop(t, item->offset) : status;
}

/* Offer one object to the sessions, if it is what the census saw. */
static enum pheap_status offer(struct pht *t, const struct item *item)
{
    const struct pt_head *head =
        pt_at(t, item->offset, has_changes(item->kind) ? sizeof(struct pt_container) : sizeof *head);
    if (head == NULL)
        return PHEAP_CORRUPT;
    if (head->kind != item->kind || head->link != item->link || head->references != item->counted ||
        changes_of(head) != item->changes)
        return PHEAP_OK;
    return pt_limbo_offer(t, item->offset);
}

/* Whether an object has part in a phase. */
static bool takes_part(const struct collection *c, enum phase phase, const struct item *item)
{
    if (phase == OFFER)
        return item->spared && !item->listed && pt_refers(item->kind);
    return !item->spared || c->alone;
}

static enum pheap_status handle(struct collection *c, enum phase phase, struct pht *t, const struct item *item,
                                uint32_t *budget, bool *done)
{
    switch (phase) {
    case HOLD:
        return hold(c, t, item);
    case RELEASE:
        return release(c, t, item, budget, done);
    case UNDO:
        return undo(t, item);
    default:
        return offer(t, item);
    }
}

/* One transaction of a phase. */
static enum pheap_status work(struct collection *c, enum phase phase, struct pht *t)
{
    struct pt_registry *registry;
    uint32_t budget = OBJECTS_PIECE;
    uint64_t at = c->done;
    enum pheap_status status = pt_edit(t, t->registry, sizeof *registry, &registry);
    if (status != PHEAP_OK)
        return status;
    if (registry->collections != c->collections)
        return pheap_fail_with(
            PHEAP_BUSY, "another collection of garbage is at work in this heap, or somebody discarded something");
    const uint64_t collections = ++registry->collections;
    if (phase == OFFER && at == 0)
        registry->offer++;
    while (at < c->end && budget > 0 && status == PHEAP_OK) {
        bool done = true;
        const struct item *item = &c->garbage[at];
        --budget;
        if (takes_part(c, phase, item))
            status = handle(c, phase, t, item, &budget, &done);
        at += done;
    }
    if (status == PHEAP_OK && phase == OFFER && at == c->end)
        status = pt_limbo_end_offer(t);
    if (status != PHEAP_OK)
        return status;
    c->collections = collections;
    c->done = at;
    return PHEAP_OK;
}

/* Holds of the dead go, an offer that somebody left unfinished is taken back, limbo goes on. */
static enum pheap_status prepare(struct collection *c, struct pht *t)
{
    bool more = true;
    enum pheap_status status = pt_sessions_drop_dead(t, c->heap);
    for (uint32_t left = OBJECTS_PIECE; more && left > 0 && status == PHEAP_OK; left--)
        status = pt_limbo_take_offer_back(t, &more);
    c->more = more;
    return status;
}

static enum pheap_status reclaim(struct collection *c, struct pht *t)
{
    uint64_t lowest = 0;
    enum pheap_status status = pht_reclaim(t, WORDS_PIECE, &c->more);
    if (status == PHEAP_OK)
        status = pheap_lowest_mark(t->txn, &lowest);
    const struct pt_registry *registry = status == PHEAP_OK ? pt_at(t, t->registry, sizeof *registry) : NULL;
    if (registry == NULL)
        return status == PHEAP_OK ? PHEAP_CORRUPT : status;
    /* What came into limbo just now is the next transaction's. */
    c->more = c->more || ((lowest == 0 || lowest == PHEAP_MARK_RESTS) &&
                          (registry->limbo[PT_WAITING].first | registry->limbo[PT_YOUNG].first) != 0);
    c->waiting = registry->offered_count;
    return PHEAP_OK;
}

static enum pheap_status transact(struct collection *c, enum phase phase)
{
    pheap_txn *txn;
    struct pht t;
    enum pheap_status status = pheap_begin(c->heap, &txn);
    if (status != PHEAP_OK)
        return status;
    status = pht_begin(txn, &t);
    if (status == PHEAP_OK)
        status = phase == RECLAIM ? reclaim(c, &t) : phase == PREPARE ? prepare(c, &t) : work(c, phase, &t);
    if (status == PHEAP_OK)
        return pheap_commit(txn, c->how, NULL);
    (void)pheap_abort(txn);
    return status;
}

/* The objects from `from` on up to `to` go through a phase. */
static enum pheap_status go_through(struct collection *c, enum phase phase, uint64_t from, uint64_t to)
{
    enum pheap_status status = PHEAP_OK;
    c->end = to;
    for (c->done = from; c->done < c->end && status == PHEAP_OK;)
        status = transact(c, phase);
    return status;
}

static enum pheap_status list_garbage(struct collection *c, const struct pt_census *census)
{
    const struct pht *t = census->t;
    c->collections = ((const struct pt_registry *)(const void *)(t->base + t->registry))->collections;
    free(c->garbage);
    c->count = 0;
    c->garbage = malloc((census->count + 1) * sizeof *c->garbage);
    if (c->garbage == NULL)
        return pheap_fail_with(PHEAP_NO_MEMORY, "no memory for a list of all garbage");
    for (uint64_t i = 0; i < census->count; i++) {
        const struct pt_block *block = &census->blocks[i];
        const struct pt_head *head = (const struct pt_head *)(const void *)(t->base + block->offset);
        if (block->state >= PT_SPARED)
            c->garbage[c->count++] = (struct item){.offset = block->offset,
                                                   .references = block->references,
                                                   .kind = head->kind,
                                                   .counted = head->references,
                                                   .changes = changes_of(head),
                                                   .link = head->link,
                                                   .spared = block->state == PT_SPARED,
                                                   .listed = block->listed};
    }
    return PHEAP_OK;
}

/* Find what is garbage in the newest version. */
static enum pheap_status find_garbage(struct collection *c)
{
    pheap_read *reader;
    struct pht t;
    struct pt_census census = {.t = &t};
    enum pheap_status status = pheap_read_begin(c->heap, PHEAP_FRESH, &reader);
    if (status != PHEAP_OK)
        return status;
    status = pht_look(reader, &t);
    if (status == PHEAP_OK)
        status = pt_census_take(&census);
    if (status == PHEAP_OK)
        status = list_garbage(c, &census);
    pt_census_free(&census);
    (void)pheap_read_end(reader);
    return status;
}

/* Is there limbo to be taken apart, or sessions to be looked after, before the census?  NOT_FOUND: the heap has no values. */
static enum pheap_status look_first(struct collection *c, bool *limbo)
{
    pheap_read *reader;
    struct pht t;
    enum pheap_status status = pheap_read_begin(c->heap, 0, &reader);
    if (status != PHEAP_OK)
        return status;
    status = pht_look(reader, &t);
    *limbo = false;
    if (status == PHEAP_OK) {
        const struct pt_registry *registry = (const struct pt_registry *)(const void *)(t.base + t.registry);
        *limbo = registry->sessions != 0;
        for (unsigned i = 0; i < PT_LIMBOS; i++)
            *limbo = *limbo || registry->limbo[i].first != 0;
    }
    (void)pheap_read_end(reader);
    return status;
}

/* Has anybody a session, as of now, which is after the census?  Who begins one later cannot reach what it found. */
static enum pheap_status look_for_sessions(struct collection *c)
{
    pheap_txn *txn;
    uint64_t lowest = 0;
    enum pheap_status status = pheap_begin(c->heap, &txn);
    if (status != PHEAP_OK)
        return status;
    status = pheap_lowest_mark(txn, &lowest);
    (void)pheap_abort(txn);
    c->alone = lowest == 0;
    return status;
}

/* Free what nobody can remember, in two phases. */
static enum pheap_status free_garbage(struct collection *c)
{
    enum pheap_status status = go_through(c, HOLD, 0, c->count);
    const bool all = status == PHEAP_OK;
    if (all)
        status = go_through(c, RELEASE, 0, c->count);
    if (c->lives) {
        status = go_through(c, UNDO, all ? c->done : 0, all ? c->count : c->done);
        if (status == PHEAP_OK)
            status = refuse_living(c);
    }
    return status;
}

/* Transactions of a kind for as long as they find something to do. */
static enum pheap_status go_on(struct collection *c, enum phase phase)
{
    enum pheap_status status = PHEAP_OK;
    for (c->more = true; c->more && status == PHEAP_OK;)
        status = transact(c, phase);
    return status;
}

/* *again: something was offered, and all have seen it. */
static enum pheap_status collect_round(struct collection *c, bool *again)
{
    uint64_t freed = 0, offers = 0;
    *again = false;
    enum pheap_status status = find_garbage(c);
    if (status == PHEAP_OK && c->count > 0)
        status = look_for_sessions(c);
    for (uint64_t i = 0; i < c->count; i++) {
        freed += takes_part(c, HOLD, &c->garbage[i]);
        offers += !c->alone && takes_part(c, OFFER, &c->garbage[i]);
    }
    if (status == PHEAP_OK && freed > 0)
        status = free_garbage(c);
    if (status == PHEAP_OK)
        c->freed += freed;
    const bool offering = offers > 0 && c->waiting == 0;
    if (status == PHEAP_OK && offering)
        status = go_through(c, OFFER, 0, c->count);
    if (status == PHEAP_OK && (freed > 0 || offering))
        status = go_on(c, RECLAIM);
    *again = offering && c->waiting == 0;
    return status;
}

enum pheap_status pht_collect(pheap *heap, enum pheap_durability how, uint64_t *collected)
{
    struct collection c = {.heap = heap, .how = how};
    bool limbo, again = false;
    if (heap == NULL || (how != PHEAP_DURABLE && how != PHEAP_LAZY))
        return pheap_fail_with(PHEAP_INVALID, "pht_collect: heap is NULL, or %d is no durability", (int)how);
    enum pheap_status status = look_first(&c, &limbo);
    if (status == PHEAP_OK && limbo)
        status = go_on(&c, PREPARE);
    if (status == PHEAP_OK && limbo)
        status = go_on(&c, RECLAIM);
    if (status == PHEAP_OK)
        status = collect_round(&c, &again);
    if (status == PHEAP_OK && again)
        status = collect_round(&c, &again);
    free(c.garbage);
    if (status == PHEAP_OK && collected != NULL)
        *collected = c.freed;
    return status;
}
