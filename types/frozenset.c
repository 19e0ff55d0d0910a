/* SPDX-License-Identifier: MIT */
/*
 * Frozensets: keys that never change, made at once, in the order of their hashes.  So two are equal if they have the same
 * hashes and each element is among those of its hash, and the hash of one is that of its elements' hashes.  A key is
 * found by bisection.
 *
 * What a caller gives, to be stored or looked for, is brought into the same order beside the heap.
 */
#include "types/siphash.h"
#include "types/value.h"

#include <inttypes.h>
#include <stdlib.h>

struct PT_IN_HEAP pt_member {
    uint64_t hash;
    uint64_t word; /* beside the heap: the number of the element */
};

struct PT_IN_HEAP pt_frozenset {
    struct pt_container container; /* spare: how deep tuples and frozensets are nested, 1 if there are none */
    uint64_t count;
    /* members, by ascending hash */
};
_Static_assert(sizeof(struct pt_frozenset) == 32 && sizeof(struct pt_member) == 16, "frozenset");

/* The members of a frozenset, in the heap or as a caller gave it. */
struct members {
    const struct pt_member *list;
    uint64_t count;
    const struct pht_any *given; /* NULL: in the heap */
    struct pt_member *own;       /* the list, if it is to be freed */
};

static const struct pt_member *members_of(struct pht *t, pht_value set, uint64_t *count, uint32_t *depth)
{
    const struct pt_frozenset *head = pt_at_kind(t, set, sizeof *head, PHT_FROZENSET);
    if (head == NULL)
        return NULL;
    if (head->count > (t->size - set - sizeof *head) / sizeof(struct pt_member)) {
        (void)pt_corrupt(t, set, "a frozenset longer than the heap");
        return NULL;
    }
    *count = head->count;
    *depth = head->container.spare;
    return (const struct pt_member *)(head + 1);
}

static enum pheap_status member(struct pht *t, const struct members *members, uint64_t number, struct pt_key *key)
{
    const uint64_t word = members->list[number].word;
    return members->given == NULL ? pt_key_of(t, word, key) : pt_key_element(t, NULL, members->given, word, key);
}

/* By their hashes; of equal ones the one that was given first is first. */
static int by_hash(const void *a, const void *b)
{
    const struct pt_member *x = a, *y = b;
    if (x->hash != y->hash)
        return x->hash < y->hash ? -1 : 1;
    return (x->word > y->word) - (x->word < y->word);
}

/* Is `key` equal to one of the members from number `from` on up to `to`? */
static enum pheap_status is_among(struct pht *t, const struct members *members, uint64_t from, uint64_t to,
                                  const struct pt_key *key, struct pt_bounds *bounds, bool *among)
{
    struct pt_key other;
    enum pheap_status status = PHEAP_OK;
    *among = false;
    for (; from < to && status == PHEAP_OK && !*among; from++) {
        status = member(t, members, from, &other);
        if (status == PHEAP_OK)
            status = pt_key_equal_within(t, key, &other, bounds, among);
    }
    return status;
}

/* Of sorted members: those with the hash of number `first` end before this one. */
static uint64_t run_end(const struct members *members, uint64_t first)
{
    uint64_t end = first + 1;
    while (end < members->count && members->list[end].hash == members->list[first].hash)
        end++;
    return end;
}

/* Of equal members the first one stays. */
static enum pheap_status drop_equal(struct pht *t, struct members *members)
{
    struct members kept = {.list = members->own, .given = members->given};
    uint64_t run = 0; /* where those with the hash of this one begin */
    for (uint64_t i = 0; i < members->count; i++) {
        struct pt_key key;
        bool among = false;
        struct pt_bounds bounds = pt_key_bounds;
        if (kept.count > 0 && members->own[kept.count - 1].hash != members->own[i].hash)
            run = kept.count;
        enum pheap_status status = run < kept.count ? member(t, members, i, &key) : PHEAP_OK;
        if (status == PHEAP_OK && run < kept.count)
            status = is_among(t, &kept, run, kept.count, &key, &bounds, &among);
        if (status != PHEAP_OK)
            return status;
        if (!among)
            members->own[kept.count++] = members->own[i];
    }
    members->count = kept.count;
    return PHEAP_OK;
}

/*
 * Bring what a caller gave into order.  With `bounds` NULL each element may be as large as a key.  *least: the lowest
 * depth of bounds that an element needed.
 */
static enum pheap_status gather(struct pht *t, const struct pht_any *given, uint64_t count, const uint64_t *secret,
                                struct pt_bounds *bounds, unsigned *least, struct members *members)
{
    enum pheap_status status = PHEAP_OK;
    *members = (struct members){.count = count, .given = given};
    members->own = malloc((count == 0 ? 1 : count) * sizeof *members->own);
    if (members->own == NULL)
        return pheap_fail_with(PHEAP_NO_MEMORY, "no memory for a frozenset of %" PRIu64 " elements", count);
    members->list = members->own;
    *least = PT_DEPTH_MAX;
    for (uint64_t i = 0; i < count && status == PHEAP_OK; i++) {
        struct pt_key key;
        struct pt_bounds own = pt_key_bounds;
        struct pt_bounds *used = bounds != NULL ? bounds : &own;
        members->own[i].word = i;
        status = pt_key_element(t, NULL, given, i, &key);
        if (status == PHEAP_OK)
            status = pt_key_hash_within(t, &key, secret, used, &members->own[i].hash);
        if (used->least < *least)
            *least = used->least;
    }
    if (status == PHEAP_OK && count > 0)
        qsort(members->own, count, sizeof *members->own, by_hash);
    if (status == PHEAP_OK)
        status = drop_equal(t, members);
    if (status != PHEAP_OK)
        free(members->own);
    return status;
}

/* The members of a key; free(members->own) when they were used. */
static enum pheap_status take_members(struct pht *t, const struct pt_key *key, const uint64_t *secret,
                                      struct pt_bounds *bounds, struct members *members)
{
    uint32_t depth;
    unsigned least;
    if (key->word == PHT_ABSENT) {
        bounds->depth--;
        enum pheap_status status = gather(t, key->any.bytes, key->any.length, secret, bounds, &least, members);
        bounds->depth++;
        return status;
    }
    *members = (struct members){.list = NULL};
    members->list = members_of(t, key->word, &members->count, &depth);
    if (members->list == NULL)
        return PHEAP_CORRUPT;
    if (depth >= bounds->depth || members->count > bounds->elements)
        return pheap_fail_with(PHEAP_INVALID,
                               "a frozenset with %" PRIu64 " elements, nested %u deep, is too large for a key",
                               members->count, depth);
    bounds->elements -= (uint32_t)members->count;
    if (bounds->depth - depth < bounds->least)
        bounds->least = bounds->depth - depth;
    return PHEAP_OK;
}

enum pheap_status pt_frozenset_hash(struct pht *t, const struct pt_key *key, const uint64_t *secret,
                                    struct pt_bounds *bounds, uint64_t *hash)
{
    struct members members;
    struct pt_sip sip = pt_sip_begin(secret);
    enum pheap_status status = take_members(t, key, secret, bounds, &members);
    if (status != PHEAP_OK)
        return status;
    for (uint64_t i = 0; i < members.count; i++)
        pt_sip_word(&sip, members.list[i].hash);
    *hash = pt_sip_end(&sip, members.count << 59 | 4);
    free(members.own);
    return PHEAP_OK;
}

static enum pheap_status same_members(struct pht *t, const struct members *a, const struct members *b,
                                      struct pt_bounds *bounds, bool *equal)
{
    enum pheap_status status = PHEAP_OK;
    *equal = a->count == b->count;
    for (uint64_t i = 0; i < a->count && *equal; i++)
        *equal = a->list[i].hash == b->list[i].hash;
    bounds->depth--;
    for (uint64_t i = 0, end = 0, run = 0; i < a->count && *equal && status == PHEAP_OK; i++) {
        struct pt_key key;
        if (i == end) {
            run = i;
            end = run_end(a, i);
        }
        status = member(t, a, i, &key);
        if (status == PHEAP_OK)
            status = is_among(t, b, run, end, &key, bounds, equal);
    }
    bounds->depth++;
    return status;
}

enum pheap_status pt_frozenset_equal(struct pht *t, const struct pt_key *a, const struct pt_key *b,
                                     struct pt_bounds *bounds, bool *equal)
{
    uint64_t secret[2];
    struct members x, y;
    enum pheap_status status = pt_secret(t, secret);
    if (status == PHEAP_OK)
        status = take_members(t, a, secret, bounds, &x);
    if (status != PHEAP_OK)
        return status;
    status = take_members(t, b, secret, bounds, &y);
    if (status == PHEAP_OK) {
        status = same_members(t, &x, &y, bounds, equal);
        free(y.own);
    }
    free(x.own);
    return status;
}

enum pheap_status pt_frozenset_make(struct pht *t, const struct pht_any *elements, uint64_t count, pht_value *set)
{
    pht_value made;
    unsigned least;
    uint64_t secret[2];
    struct members members;
    enum pheap_status status = pt_secret(t, secret);
    if (status == PHEAP_OK)
        status = gather(t, elements, count, secret, NULL, &least, &members);
    if (status != PHEAP_OK) /* the key that it is stored under may have been made */
        return pt_failed(t, status);
    status = pt_container_make(t, PHT_FROZENSET, sizeof(struct pt_frozenset) + members.count * sizeof(struct pt_member),
                               &made);
    for (uint64_t i = 0; i < members.count && status == PHEAP_OK; i++) {
        pht_value word;
        status = pt_failed(t, pt_store(t, &elements[members.own[i].word], &word));
        if (status != PHEAP_OK)
            break;
        struct pt_member *list = (struct pt_member *)(void *)(t->base + made + sizeof(struct pt_frozenset));
        list[i] = (struct pt_member){.hash = members.own[i].hash, .word = word}; /* the block is fresh */
    }
    if (status == PHEAP_OK) {
        struct pt_frozenset *head = (struct pt_frozenset *)(void *)(t->base + made);
        head->count = members.count;
        head->container.spare = 1 + PT_DEPTH_MAX - least;
        *set = made;
    }
    free(members.own);
    return status;
}

enum pheap_status pht_frozenset_new(struct pht *t, const struct pht_any *elements, uint64_t count, pht_value *set)
{
    pht_value made;
    struct pt_key key;
    if (set == NULL || count > PT_TUPLE_MAX || (elements == NULL && count > 0))
        return pheap_fail_with(PHEAP_INVALID, "pht_frozenset_new: %" PRIu64 " elements, or a NULL", count);
    const struct pht_any any = pht_frozenset(elements, count);
    enum pheap_status status = pt_may_change(t);
    if (status == PHEAP_OK)
        status = pt_key(t, &any, &key); /* what is no key is found before anything is made */
    if (status == PHEAP_OK)
        status = pt_then_limbo(t, pt_frozenset_make(t, elements, count, &made));
    if (status == PHEAP_OK)
        *set = made;
    return status;
}

/* A frozenset that the caller names. */
static enum pheap_status use(struct pht *t, pht_value set, struct members *members)
{
    const void *head;
    uint32_t depth;
    enum pheap_status status = pt_use(t, set, PHT_FROZENSET, sizeof(struct pt_frozenset), &head);
    if (status != PHEAP_OK)
        return status;
    *members = (struct members){.list = NULL};
    members->list = members_of(t, set, &members->count, &depth);
    return members->list == NULL ? PHEAP_CORRUPT : PHEAP_OK;
}

enum pheap_status pht_frozenset_count(struct pht *t, pht_value set, uint64_t *count)
{
    struct members members;
    if (count == NULL)
        return pheap_fail_with(PHEAP_INVALID, "pht_frozenset_count: count is NULL");
    enum pheap_status status = use(t, set, &members);
    if (status == PHEAP_OK)
        *count = members.count;
    return status;
}

enum pheap_status pht_frozenset_get(struct pht *t, pht_value set, uint64_t index, pht_value *value)
{
    struct members members;
    enum pheap_status status = use(t, set, &members);
    if (status != PHEAP_OK)
        return status;
    if (value == NULL || index >= members.count)
        return pheap_fail_with(PHEAP_INVALID, "element %" PRIu64 " of a frozenset of %" PRIu64 ", or value is NULL",
                               index, members.count);
    *value = members.list[index].word;
    return PHEAP_OK;
}

/* The first member whose hash is not below `hash`. */
static uint64_t bisect(const struct members *members, uint64_t hash)
{
    uint64_t low = 0, high = members->count;
    while (low < high) {
        const uint64_t middle = low + (high - low) / 2;
        if (members->list[middle].hash < hash)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

enum pheap_status pht_frozenset_has(struct pht *t, pht_value set, struct pht_any any, bool *has)
{
    bool among = false;
    uint64_t hash;
    struct pt_key key;
    struct members members;
    struct pt_bounds bounds = pt_key_bounds;
    if (has == NULL)
        return pheap_fail_with(PHEAP_INVALID, "pht_frozenset_has: has is NULL");
    enum pheap_status status = use(t, set, &members);
    if (status == PHEAP_OK)
        status = pt_key(t, &any, &key);
    if (status == PHEAP_OK)
        status = pt_key_hash(t, &key, &hash);
    if (status != PHEAP_OK)
        return status;
    const uint64_t first = bisect(&members, hash);
    if (first < members.count && members.list[first].hash == hash)
        status = is_among(t, &members, first, run_end(&members, first), &key, &bounds, &among);
    if (status == PHEAP_OK)
        *has = among;
    return status;
}

enum pheap_status pt_frozenset_dismantle(struct pht *t, uint64_t set, uint32_t *budget, bool *done)
{
    uint32_t depth;
    uint64_t count;
    struct pt_frozenset *head;
    const struct pt_member *list = members_of(t, set, &count, &depth);
    if (list == NULL)
        return PHEAP_CORRUPT;
    enum pheap_status status = pt_edit(t, set, sizeof *head, &head);
    for (; status == PHEAP_OK && count > 0 && *budget > 0; --*budget) {
        head->count = --count; /* as in pt_tuple_dismantle() */
        status = pt_drop(t, list[count].word);
    }
    *done = status == PHEAP_OK && count == 0;
    return status;
}

/* Member `number` is a key with its hash, not less than the one before, and not equal to one of this hash. */
static enum pheap_status check_member(struct pht *t, uint64_t set, const struct members *members, uint64_t number,
                                      uint64_t run, const uint64_t *secret, struct pt_bounds *bounds)
{
    uint64_t hash;
    bool among;
    struct pt_key key;
    struct pt_bounds own = pt_key_bounds;
    enum pheap_status status = member(t, members, number, &key);
    if (status == PHEAP_OK)
        status = pt_key_hash_within(t, &key, secret, &own, &hash);
    if (status != PHEAP_OK)
        return pt_corrupt(t, set, "a frozenset with an element that is no key");
    if (hash != members->list[number].hash || (number > 0 && members->list[number - 1].hash > hash))
        return pt_corrupt(t, set, "a frozenset with the wrong hash of an element, or out of order");
    if (own.least < bounds->least)
        bounds->least = own.least;
    status = is_among(t, members, run, number, &key, bounds, &among);
    return status == PHEAP_OK && !among ? PHEAP_OK : pt_corrupt(t, set, "a frozenset with an element twice");
}

enum pheap_status pt_frozenset_visit(struct pt_visit *visit)
{
    struct pht *t = visit->t;
    uint32_t depth;
    uint64_t secret[2];
    struct pt_bounds bounds = {.depth = PT_DEPTH_MAX, .least = PT_DEPTH_MAX, .elements = UINT32_MAX >> 8};
    struct members members = {.given = NULL};
    members.list = members_of(t, visit->object, &members.count, &depth);
    if (members.list == NULL)
        return PHEAP_CORRUPT;
    enum pheap_status status = pt_secret(t, secret);
    if (status == PHEAP_OK)
        status = visit->part(visit, visit->object, sizeof(struct pt_frozenset) + members.count * sizeof *members.list);
    for (uint64_t i = 0, run = 0; i < members.count && status == PHEAP_OK; i++) {
        if (i > 0 && members.list[i - 1].hash != members.list[i].hash)
            run = i;
        status = visit->word(visit, members.list[i].word);
        if (status == PHEAP_OK && !visit->in_limbo)
            status = check_member(t, visit->object, &members, i, run, secret, &bounds);
    }
    if (status == PHEAP_OK && !visit->in_limbo && depth != 1 + PT_DEPTH_MAX - bounds.least)
        status = pt_corrupt(t, visit->object, "a frozenset with the wrong depth");
    return status;
}
