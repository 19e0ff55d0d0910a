/* SPDX-License-Identifier: MIT */
/*
 * Maps and sets.
 *
 * Entries have numbers, 1 to the count, without gaps: a removed one is replaced by the last.  They are in a segmented
 * array, and linked in the order in which they came.  A second array has the heads of chains of entries whose hashes fall
 * into one bucket: linear hashing (W. Litwin, "Linear Hashing: a new tool for file and table addressing", VLDB 1980).
 * Each insertion that makes more entries than buckets splits one bucket, each removal that leaves less than half merges
 * two pairs: so nothing ever is rehashed at once, and what is no longer needed is given back as the map shrinks.  A map of
 * up to 8 entries has no buckets and is searched from end to end.
 *
 * Entries keep 32 bits of the hash: the key is looked at only when those agree.
 */
#include "types/segments.h"
#include "types/value.h"

#include <inttypes.h>

#define SMALL 8u         /* entries without buckets */
#define FIRST_BUCKETS 8u /* when there are more */
#define BLOCK_COST 8u    /* what freeing a block counts as, for limbo */
#define COUNT_MAX (UINT32_MAX - 1)
#define STEPS_EACH 16u /* entries that one is found behind on average, at most: in a sound map it is less than one */
#define STEPS_MIN 1000u

struct PT_IN_HEAP pt_map {
    struct pt_head head;
    uint32_t changes; /* as in struct pt_container */
    uint32_t buckets; /* 0: small */
    uint32_t count;   /* entries */
    uint32_t zero;
    uint32_t first; /* number of the oldest entry, 0: none */
    uint32_t last;
    struct pt_segments entries;
    struct pt_segments chains; /* for each bucket the number of its first entry, 0: none */
};
_Static_assert(sizeof(struct pt_map) == PT_MAP_BYTES, "map");
_Static_assert(offsetof(struct pt_map, buckets) == offsetof(struct pt_container, spare), "map header");

struct PT_IN_HEAP pt_entry {
    uint64_t key;
    uint32_t hash;
    uint32_t chain; /* the next entry in the bucket; 0: none */
    uint32_t previous;
    uint32_t next;
    uint64_t value; /* only of maps */
};
_Static_assert(sizeof(struct pt_entry) == 32 && offsetof(struct pt_entry, value) == 24, "map entry");

static const struct pt_shape map_shape = {.width = 32, .whole = 127};
static const struct pt_shape set_shape = {.width = 24, .whole = 170};
static const struct pt_shape chain_shape = {.width = 4, .whole = 1020};

static struct pt_shape shape_of(const struct pt_map *map)
{
    return map->head.kind == PHT_MAP ? map_shape : set_shape;
}

/* -------------------------------------------------------------------------------------------------------- looking */

/* The offset of entry `number`, 1 to the count; 0 (CORRUPT) if the map is damaged. */
static uint64_t entry_offset(struct pht *t, const struct pt_map *map, uint32_t number)
{
    if (number == 0 || number > map->count) {
        (void)pt_corrupt(t, (uint64_t)((const unsigned char *)map - t->base), "a map that names an entry it has not");
        return 0;
    }
    return map->head.kind == PHT_MAP ? pt_segments_find(t, &map->entries, map_shape, number - 1)
                                     : pt_segments_find(t, &map->entries, set_shape, number - 1);
}

static const struct pt_entry *entry_at(struct pht *t, const struct pt_map *map, uint32_t number)
{
    uint64_t at = entry_offset(t, map, number);
    return at == 0 ? NULL : (const struct pt_entry *)(const void *)(t->base + at);
}

/* Of a number of buckets, the bucket of a hash. */
static uint32_t bucket_of(uint32_t hash, uint32_t buckets)
{
    uint32_t mask = UINT32_MAX >> __builtin_clz(buckets | 1);
    uint32_t bucket = hash & mask; /* below the next power of two */
    return bucket < buckets ? bucket : bucket & (mask >> 1);
}

/* The offset of the head of a bucket's chain. */
static uint64_t chain_offset(struct pht *t, const struct pt_map *map, uint32_t bucket)
{
    return pt_segments_find(t, &map->chains, chain_shape, bucket);
}

static uint32_t chain_head(const struct pht *t, uint64_t at)
{
    uint32_t head;
    memcpy(&head, t->base + at, sizeof head);
    return head;
}

/* A map or set and a key: its parts, and the entry with its number, if there is one. */
struct search {
    const struct pt_map *map;
    struct pt_key key;
    uint32_t hash;
    uint32_t number;              /* 0: none */
    const struct pt_entry *entry; /* NULL: none */
};

/* Look for the key.  *steps is how many entries it may pass by. */
static enum pheap_status find(struct pht *t, struct search *s, uint64_t *steps)
{
    const struct pt_map *map = s->map;
    const uint32_t hash = s->hash;
    uint32_t at = map->count;
    s->number = 0;
    s->entry = NULL;
    if (map->buckets != 0) {
        uint64_t head = chain_offset(t, map, bucket_of(hash, map->buckets));
        if (head == 0)
            return PHEAP_CORRUPT;
        at = chain_head(t, head);
    } else if (map->count > SMALL) {
        return pt_corrupt(t, (uint64_t)((const unsigned char *)map - t->base), "a map too large to be without buckets");
    }
    while (at != 0) {
        bool equal = false;
        const struct pt_entry *entry = entry_at(t, map, at);
        if (entry == NULL)
            return PHEAP_CORRUPT;
        if (entry->hash == hash) {
            enum pheap_status status = pt_key_equal(t, &s->key, entry->key, &equal);
            if (status != PHEAP_OK)
                return status;
        }
        if (equal) {
            s->number = at;
            s->entry = entry;
            return PHEAP_OK;
        }
        if (*steps == 0)
            return pt_corrupt(t, (uint64_t)((const unsigned char *)map - t->base),
                              "a map with chains that have no end, or are much too long");
        --*steps;
        at = map->buckets != 0 ? entry->chain : at - 1;
    }
    return PHEAP_OK;
}

/* For what the caller names. */
static enum pheap_status search(struct pht *t, pht_value value, enum pht_kind kind, const struct pht_any *any,
                                struct search *s)
{
    const void *map;
    uint64_t hash;
    enum pheap_status status = pt_use(t, value, kind, sizeof *s->map, &map);
    if (status == PHEAP_OK)
        status = pt_key(t, any, &s->key);
    if (status == PHEAP_OK)
        status = pt_key_hash(t, &s->key, &hash);
    if (status != PHEAP_OK)
        return status;
    s->map = map;
    s->hash = (uint32_t)hash;
    uint64_t steps = s->map->count;
    return find(t, s, &steps);
}

/* ------------------------------------------------------------------------------------------------------- changing */

/* The map itself, to be changed. */
static enum pheap_status edit_map(struct pht *t, uint64_t at, struct pt_map **map)
{
    return pt_edit(t, at, sizeof **map, map);
}

/* An entry, to be changed. */
static enum pheap_status edit_entry(struct pht *t, const struct pt_map *map, uint32_t number, struct pt_entry **entry)
{
    uint64_t at = entry_offset(t, map, number);
    return at == 0 ? PHEAP_CORRUPT : pt_edit(t, at, shape_of(map).width, entry);
}

static enum pheap_status put_chain_head(struct pht *t, const struct pt_map *map, uint32_t bucket, uint32_t number)
{
    void *address;
    uint64_t at = chain_offset(t, map, bucket);
    if (at == 0)
        return PHEAP_CORRUPT;
    enum pheap_status status = pt_edit(t, at, sizeof number, &address);
    if (status == PHEAP_OK)
        memcpy(address, &number, sizeof number);
    return status;
}

/* Let entry `number` be followed by another one in its chain. */
static enum pheap_status put_next_in_chain(struct pht *t, const struct pt_map *map, uint32_t number, uint32_t next)
{
    struct pt_entry *entry;
    enum pheap_status status = edit_entry(t, map, number, &entry);
    if (status == PHEAP_OK)
        entry->chain = next;
    return status;
}

/* Put an entry at the head of the chain where it belongs. */
static enum pheap_status chain_entry(struct pht *t, const struct pt_map *map, struct pt_entry *entry, uint32_t number)
{
    uint32_t bucket = bucket_of(entry->hash, map->buckets);
    uint64_t head = chain_offset(t, map, bucket);
    if (head == 0)
        return PHEAP_CORRUPT;
    entry->chain = chain_head(t, head);
    return put_chain_head(t, map, bucket, number);
}

/*
 * In the chain of entry `number`, name `other` in its place: entry->chain to take it out, another number after it has
 * moved.
 */
static enum pheap_status rename_in_chain(struct pht *t, const struct pt_map *map, uint32_t hash, uint32_t number,
                                         uint32_t other)
{
    uint32_t bucket = bucket_of(hash, map->buckets), steps = 0;
    uint64_t head = chain_offset(t, map, bucket);
    if (head == 0)
        return PHEAP_CORRUPT;
    uint32_t at = chain_head(t, head);
    if (at == number)
        return put_chain_head(t, map, bucket, other);
    for (; at != 0 && steps <= map->count; steps++) {
        const struct pt_entry *entry = entry_at(t, map, at);
        if (entry == NULL)
            return PHEAP_CORRUPT;
        if (entry->chain == number)
            return put_next_in_chain(t, map, at, other);
        at = entry->chain;
    }
    return pt_corrupt(t, (uint64_t)((const unsigned char *)map - t->base), "a map that lost an entry out of its chain");
}

/* Of the chain of a bucket, let entry `number` be what follows `last`, or its head if that is 0: if it is not already. */
static enum pheap_status link_chain(struct pht *t, const struct pt_map *map, uint32_t bucket, uint32_t last,
                                    uint32_t number)
{
    if (last == 0) {
        const uint64_t head = chain_offset(t, map, bucket);
        if (head == 0)
            return PHEAP_CORRUPT;
        return chain_head(t, head) == number ? PHEAP_OK : put_chain_head(t, map, bucket, number);
    }
    const struct pt_entry *entry = entry_at(t, map, last);
    if (entry == NULL)
        return PHEAP_CORRUPT;
    return entry->chain == number ? PHEAP_OK : put_next_in_chain(t, map, last, number);
}

/* Divide the chain of a bucket between it and the last bucket, which is new. */
static enum pheap_status divide(struct pht *t, const struct pt_map *map, uint32_t bucket)
{
    const uint32_t buckets[2] = {bucket, map->buckets - 1};
    const uint64_t head = chain_offset(t, map, bucket);
    if (head == 0)
        return PHEAP_CORRUPT;
    enum pheap_status status = PHEAP_OK;
    uint32_t at = chain_head(t, head), steps = 0, last[2] = {0, 0};
    while (at != 0 && status == PHEAP_OK) {
        const struct pt_entry *entry = entry_at(t, map, at);
        if (entry == NULL)
            return PHEAP_CORRUPT;
        if (++steps > map->count)
            return pt_corrupt(t, (uint64_t)((const unsigned char *)map - t->base),
                              "a map with a chain that has no end");
        const uint32_t next = entry->chain, side = bucket_of(entry->hash, map->buckets) == buckets[1];
        status = link_chain(t, map, buckets[side], last[side], at);
        last[side] = at;
        at = next;
    }
    for (uint32_t side = 0; side < 2 && status == PHEAP_OK; side++)
        status = link_chain(t, map, buckets[side], last[side], 0);
    return status;
}

/* One bucket more: the entries of the one that had its hashes are divided. */
static enum pheap_status split(struct pht *t, uint64_t at, struct pt_map *map)
{
    enum pheap_status status = PHEAP_OK;
    uint32_t made = map->buckets;
    if (map->chains.capacity <= made)
        status = pt_segments_grow(t, at + offsetof(struct pt_map, chains), chain_shape);
    if (status != PHEAP_OK)
        return status;
    map->buckets = made + 1;
    return divide(t, map, made & (UINT32_MAX >> __builtin_clz(made | 1) >> 1)); /* without its highest bit */
}

/* The last bucket less: its chain goes before that of the bucket it came from. */
static enum pheap_status merge(struct pht *t, uint64_t at, struct pt_map *map)
{
    bool freed;
    const uint32_t last = map->buckets - 1, bucket = last & (UINT32_MAX >> __builtin_clz(last | 1) >> 1);
    const uint64_t from = chain_offset(t, map, last), to = chain_offset(t, map, bucket);
    if (from == 0 || to == 0)
        return PHEAP_CORRUPT;
    const uint32_t first = chain_head(t, from), second = chain_head(t, to);
    uint32_t end = first, steps = 0;
    for (uint32_t next = first; next != 0; steps++) {
        const struct pt_entry *entry = entry_at(t, map, next);
        if (entry == NULL)
            return PHEAP_CORRUPT;
        if (steps > map->count)
            return pt_corrupt(t, at, "a map with a chain that has no end");
        end = next;
        next = entry->chain;
    }
    enum pheap_status status = PHEAP_OK;
    if (first != 0 && second != 0)
        status = put_next_in_chain(t, map, end, second);
    if (first != 0 && status == PHEAP_OK)
        status = put_chain_head(t, map, bucket, first);
    if (status != PHEAP_OK)
        return status;
    map->buckets = last;
    return pt_segments_shrink(t, at + offsetof(struct pt_map, chains), chain_shape, map->buckets, &freed);
}

/* A small map gets its buckets. */
static enum pheap_status make_buckets(struct pht *t, uint64_t at, struct pt_map *map)
{
    enum pheap_status status = PHEAP_OK;
    while (map->chains.capacity < FIRST_BUCKETS && status == PHEAP_OK)
        status = pt_segments_grow(t, at + offsetof(struct pt_map, chains), chain_shape);
    for (uint32_t i = 0; i < FIRST_BUCKETS && status == PHEAP_OK; i++)
        status = put_chain_head(t, map, i, 0);
    map->buckets = FIRST_BUCKETS;
    for (uint32_t number = 1; number <= map->count && status == PHEAP_OK; number++) {
        struct pt_entry *entry;
        status = edit_entry(t, map, number, &entry);
        if (status == PHEAP_OK)
            status = chain_entry(t, map, entry, number);
    }
    return status;
}

/* A small one does without. */
static enum pheap_status drop_buckets(struct pht *t, uint64_t at, struct pt_map *map)
{
    bool freed = true;
    enum pheap_status status = PHEAP_OK;
    map->buckets = 0;
    while (freed && status == PHEAP_OK)
        status = pt_segments_shrink(t, at + offsetof(struct pt_map, chains), chain_shape, 0, &freed);
    return status;
}

/* Append an entry for a key that is not there; its words are counted already. */
static enum pheap_status append(struct pht *t, uint64_t at, uint32_t hash, pht_value key, pht_value value)
{
    struct pt_map *map;
    struct pt_entry *entry;
    enum pheap_status status = edit_map(t, at, &map);
    if (status != PHEAP_OK)
        return status;
    if (map->entries.capacity <= map->count)
        status = pt_segments_grow(t, at + offsetof(struct pt_map, entries), shape_of(map));
    if (status != PHEAP_OK)
        return status;
    uint32_t number = ++map->count, last = map->last;
    status = edit_entry(t, map, number, &entry);
    if (status != PHEAP_OK)
        return status;
    entry->key = key;
    entry->hash = hash;
    entry->chain = 0;
    entry->previous = last;
    entry->next = 0;
    if (map->head.kind == PHT_MAP)
        entry->value = value;
    if (map->buckets != 0)
        status = chain_entry(t, map, entry, number);
    if (status != PHEAP_OK)
        return status;
    if (last == 0) {
        map->first = number;
    } else {
        status = edit_entry(t, map, last, &entry);
        if (status != PHEAP_OK)
            return status;
        entry->next = number;
    }
    map->last = number;
    pt_changed(map);
    if (map->buckets == 0)
        return number > SMALL ? make_buckets(t, at, map) : PHEAP_OK;
    return number > map->buckets ? split(t, at, map) : PHEAP_OK;
}

/* In what links the entries by age, name `back` and `forth` for the two sides of an entry. */
static enum pheap_status relink(struct pht *t, struct pt_map *map, const struct pt_entry *entry, uint32_t forth,
                                uint32_t back)
{
    struct pt_entry *other;
    enum pheap_status status = PHEAP_OK;
    uint32_t previous = entry->previous, next = entry->next;
    if (previous == 0)
        map->first = forth;
    else if ((status = edit_entry(t, map, previous, &other)) == PHEAP_OK)
        other->next = forth;
    if (status != PHEAP_OK)
        return status;
    if (next == 0)
        map->last = back;
    else if ((status = edit_entry(t, map, next, &other)) == PHEAP_OK)
        other->previous = back;
    return status;
}

/* The last entry moves to where `hole` was. */
static enum pheap_status fill_hole(struct pht *t, struct pt_map *map, uint32_t hole)
{
    struct pt_entry *to;
    uint32_t last = map->count;
    const struct pt_entry *from = entry_at(t, map, last);
    enum pheap_status status = from == NULL ? PHEAP_CORRUPT : edit_entry(t, map, hole, &to);
    if (status == PHEAP_OK)
        status = relink(t, map, from, hole, hole);
    if (status == PHEAP_OK && map->buckets != 0)
        status = rename_in_chain(t, map, from->hash, last, hole);
    if (status == PHEAP_OK)
        memmove(to, from, shape_of(map).width);
    return status;
}

/* Take an entry out; *key and *value are its words, which still are counted. */
static enum pheap_status extract(struct pht *t, uint64_t at, uint32_t number, pht_value *key, pht_value *value)
{
    struct pt_map *map;
    bool freed;
    enum pheap_status status = edit_map(t, at, &map);
    const struct pt_entry *entry = status == PHEAP_OK ? entry_at(t, map, number) : NULL;
    if (entry == NULL)
        return status == PHEAP_OK ? PHEAP_CORRUPT : status;
    *key = entry->key;
    if (map->head.kind == PHT_MAP)
        *value = entry->value;
    status = relink(t, map, entry, entry->next, entry->previous);
    if (status == PHEAP_OK && map->buckets != 0)
        status = rename_in_chain(t, map, entry->hash, number, entry->chain);
    if (status == PHEAP_OK && number != map->count)
        status = fill_hole(t, map, number);
    if (status != PHEAP_OK)
        return status;
    map->count--;
    pt_changed(map);
    if (map->buckets != 0 && map->count <= SMALL / 2)
        status = drop_buckets(t, at, map);
    for (unsigned i = 0; i < 2 && status == PHEAP_OK && map->buckets > FIRST_BUCKETS && map->count < map->buckets / 2;
         i++)
        status = merge(t, at, map);
    if (status == PHEAP_OK)
        status = pt_segments_shrink(t, at + offsetof(struct pt_map, entries), shape_of(map), map->count, &freed);
    return status;
}

enum pheap_status pt_map_dismantle(struct pht *t, uint64_t at, uint32_t *budget, bool *done)
{
    struct pt_map *map;
    bool freed = false;
    enum pheap_status status = edit_map(t, at, &map);
    while (status == PHEAP_OK && *budget > 0 && map->count > 0) {
        const struct pt_entry *entry = entry_at(t, map, map->count);
        if (entry == NULL)
            return PHEAP_CORRUPT;
        pht_value key = entry->key, value = map->head.kind == PHT_MAP ? entry->value : PHT_ABSENT;
        map->count--;
        status = pt_drop(t, key);
        if (status == PHEAP_OK)
            status = pt_drop(t, value);
        if (status == PHEAP_OK)
            status = pt_segments_shrink(t, at + offsetof(struct pt_map, entries), shape_of(map), map->count, &freed);
        *budget -= *budget > 1 ? 2 : 1;
    }
    while (status == PHEAP_OK && *budget > 0 && map->count == 0 && map->chains.capacity > 0) {
        status = pt_segments_shrink(t, at + offsetof(struct pt_map, chains), chain_shape, 0, &freed);
        *budget -= *budget > BLOCK_COST ? BLOCK_COST : *budget;
    }
    while (status == PHEAP_OK && *budget > 0 && map->count == 0 && map->entries.capacity > 0) {
        status = pt_segments_shrink(t, at + offsetof(struct pt_map, entries), shape_of(map), 0, &freed);
        *budget -= *budget > BLOCK_COST ? BLOCK_COST : *budget;
    }
    *done = status == PHEAP_OK && map->count == 0 && map->chains.capacity == 0 && map->entries.capacity == 0;
    return status;
}

/* --------------------------------------------------------------------------------------------------------- visits */

/* Can an entry be found by its key, and was its hash kept?  *steps is what all entries of the map may take together. */
static enum pheap_status check_entry(struct pht *t, const struct pt_map *map, uint64_t at, uint32_t number,
                                     uint64_t *steps)
{
    struct search s = {.map = map};
    uint64_t hash;
    const struct pt_entry *entry = entry_at(t, map, number);
    if (entry == NULL)
        return PHEAP_CORRUPT;
    enum pheap_status status = pt_key_of(t, entry->key, &s.key);
    if (status == PHEAP_OK)
        status = pt_key_hash(t, &s.key, &hash);
    if (status != PHEAP_OK)
        return pt_corrupt(t, at, "a map with a key that is none");
    if ((uint32_t)hash != entry->hash)
        return pt_corrupt(t, at, "a map with the wrong hash of a key");
    s.hash = entry->hash;
    status = find(t, &s, steps);
    if (status == PHEAP_OK && s.number != number)
        status = pt_corrupt(t, at, "a map in which a key cannot be found, or is twice");
    return status;
}

/* Do the entries follow each other, all of them? */
static enum pheap_status check_order(struct pht *t, const struct pt_map *map, uint64_t at)
{
    uint32_t previous = 0, number = map->first, left = map->count;
    for (; number != 0 && left > 0; left--) {
        const struct pt_entry *entry = entry_at(t, map, number);
        if (entry == NULL)
            return PHEAP_CORRUPT;
        if (entry->previous != previous)
            break;
        previous = number;
        number = entry->next;
    }
    return number == 0 && left == 0 && map->last == previous
               ? PHEAP_OK
               : pt_corrupt(t, at, "a map whose entries do not follow each other");
}

enum pheap_status pt_map_visit(struct pt_visit *visit)
{
    struct pht *t = visit->t;
    const struct pt_map *map = pt_at(t, visit->object, sizeof *map);
    if (map == NULL)
        return PHEAP_CORRUPT;
    enum pheap_status status = visit->part(visit, visit->object, sizeof *map);
    if (status == PHEAP_OK)
        status = pt_segments_visit(visit, &map->entries, shape_of(map));
    if (status == PHEAP_OK)
        status = pt_segments_visit(visit, &map->chains, chain_shape);
    if (status == PHEAP_OK && (map->count > map->entries.capacity || map->buckets > map->chains.capacity))
        status = pt_corrupt(t, visit->object, "a map with more entries or buckets than room for them");
    if (status == PHEAP_OK && map->buckets != 0 && (map->buckets < FIRST_BUCKETS || map->buckets + 1 < map->count))
        status = pt_corrupt(t, visit->object, "a map with too few buckets");
    uint64_t steps = STEPS_MIN + (uint64_t)map->count * STEPS_EACH;
    for (uint32_t number = 1; number <= map->count && status == PHEAP_OK; number++) {
        const struct pt_entry *entry = entry_at(t, map, number);
        if (entry == NULL)
            return PHEAP_CORRUPT;
        status = visit->word(visit, entry->key);
        if (status == PHEAP_OK && map->head.kind == PHT_MAP)
            status = visit->word(visit, entry->value);
        if (status == PHEAP_OK && !visit->in_limbo)
            status = check_entry(t, map, visit->object, number, &steps);
    }
    return status == PHEAP_OK && !visit->in_limbo ? check_order(t, map, visit->object) : status;
}

/* ------------------------------------------------------------------------------------------- what both have in common */

static enum pheap_status null_argument(const char *function)
{
    return pheap_fail_with(PHEAP_INVALID, "%s: the address for the result is NULL", function);
}

static enum pheap_status count_of(struct pht *t, pht_value value, enum pht_kind kind, uint64_t *count)
{
    const void *map;
    if (count == NULL)
        return null_argument(pht_kind_name(kind));
    enum pheap_status status = pt_use(t, value, kind, sizeof(struct pt_map), &map);
    if (status == PHEAP_OK)
        *count = ((const struct pt_map *)map)->count;
    return status;
}

/* Store a new entry: words are made and counted, the key's first. */
static enum pheap_status insert(struct pht *t, pht_value map, const struct search *s, const struct pht_any *value)
{
    pht_value key_word, value_word = PHT_ABSENT;
    enum pheap_status status;
    if (s->map->count >= COUNT_MAX)
        return pheap_fail_with(PHEAP_FULL, "a map or set has at most %u entries", COUNT_MAX);
    status = pt_key_make(t, &s->key, &key_word);
    if (status == PHEAP_OK)
        status = pt_refer(t, key_word);
    if (status == PHEAP_OK && value != NULL)
        status = pt_store(t, value, &value_word);
    return status == PHEAP_OK ? pt_then_limbo(t, append(t, map, s->hash, key_word, value_word)) : status;
}

static enum pheap_status remove_key(struct pht *t, pht_value map, enum pht_kind kind, const struct pht_any *any,
                                    pht_value *value, bool *found)
{
    struct search s;
    pht_value key;
    enum pheap_status status = pt_may_change(t);
    if (status == PHEAP_OK)
        status = search(t, map, kind, any, &s);
    if (status != PHEAP_OK)
        return status;
    *found = s.number != 0;
    if (!*found)
        return PHEAP_OK;
    status = extract(t, map, s.number, &key, value);
    return status == PHEAP_OK ? pt_drop(t, key) : status;
}

static enum pheap_status clear(struct pht *t, pht_value value, enum pht_kind kind)
{
    const void *map;
    enum pheap_status status = pt_may_change(t);
    if (status == PHEAP_OK)
        status = pt_use(t, value, kind, sizeof(struct pt_map), &map);
    if (status != PHEAP_OK || ((const struct pt_map *)map)->count == 0)
        return status;
    return pt_clear(t, value, sizeof(struct pt_map));
}

/*
 * A cursor: the number of the entry it gave last, and above it the count of changes then.  Each entry must name the one
 * that the walk comes from, and the first none: so no walk goes in circles, whatever the links say.
 */
static enum pheap_status walk(struct pht *t, pht_value value, enum pht_kind kind, uint64_t *cursor, bool forth,
                              const struct pt_entry **entry)
{
    const void *address;
    enum pheap_status status = pt_use(t, value, kind, sizeof(struct pt_map), &address);
    if (status != PHEAP_OK)
        return status;
    const struct pt_map *map = address;
    const uint32_t from = (uint32_t)*cursor;
    uint32_t at = forth ? map->first : map->last;
    if (from != 0) {
        if ((uint32_t)(*cursor >> 32) != map->changes)
            return pheap_fail_with(PHEAP_BUSY, "the %s at 0x%" PRIx64 " was changed while it was walked",
                                   pht_kind_name(kind), value);
        const struct pt_entry *last = entry_at(t, map, from);
        if (last == NULL)
            return PHEAP_CORRUPT;
        at = forth ? last->next : last->previous;
    }
    if (at == 0)
        return pheap_fail_with(PHEAP_END, "no more entries");
    const struct pt_entry *found = entry_at(t, map, at);
    if (found == NULL)
        return PHEAP_CORRUPT;
    if ((forth ? found->previous : found->next) != from)
        return pt_corrupt(t, value, "a map whose entries do not follow each other");
    *entry = found;
    *cursor = (uint64_t)map->changes << 32 | at;
    return PHEAP_OK;
}

/* ----------------------------------------------------------------------------------------------------------- maps */

enum pheap_status pht_map_new(struct pht *t, pht_value *map)
{
    return pt_container_new(t, PHT_MAP, sizeof(struct pt_map), map);
}

enum pheap_status pht_map_count(struct pht *t, pht_value map, uint64_t *count)
{
    return count_of(t, map, PHT_MAP, count);
}

enum pheap_status pht_map_get(struct pht *t, pht_value map, struct pht_any key, pht_value *value)
{
    struct search s;
    if (value == NULL)
        return null_argument("pht_map_get");
    enum pheap_status status = search(t, map, PHT_MAP, &key, &s);
    if (status != PHEAP_OK)
        return status;
    *value = s.entry == NULL ? PHT_ABSENT : s.entry->value;
    return PHEAP_OK;
}

/* Replace the value of an entry. */
static enum pheap_status replace(struct pht *t, const struct search *s, const struct pht_any *value)
{
    pht_value word;
    struct pt_entry *entry;
    enum pheap_status status = pt_store(t, value, &word);
    if (status == PHEAP_OK)
        status = edit_entry(t, s->map, s->number, &entry);
    if (status != PHEAP_OK)
        return status;
    pht_value old = entry->value;
    entry->value = word;
    status = pt_limbo_work(t);
    return status == PHEAP_OK ? pt_drop(t, old) : status;
}

/* Before anything is changed: the key, and whether the value can be stored. */
static enum pheap_status prepare(struct pht *t, pht_value map, const struct pht_any *key, const struct pht_any *value,
                                 struct search *s)
{
    struct pt_key checked;
    enum pheap_status status = pt_may_change(t);
    if (status == PHEAP_OK)
        status = search(t, map, PHT_MAP, key, s);
    if (status == PHEAP_OK)
        status = pt_key(t, value, &checked);
    return status;
}

enum pheap_status pht_map_set(struct pht *t, pht_value map, struct pht_any key, struct pht_any value)
{
    struct search s;
    enum pheap_status status = prepare(t, map, &key, &value, &s);
    if (status != PHEAP_OK)
        return status;
    return s.number != 0 ? replace(t, &s, &value) : insert(t, map, &s, &value);
}

enum pheap_status pht_map_add(struct pht *t, pht_value map, struct pht_any key, struct pht_any value,
                              pht_value *present)
{
    struct search s;
    if (present == NULL)
        return null_argument("pht_map_add");
    enum pheap_status status = prepare(t, map, &key, &value, &s);
    if (status != PHEAP_OK)
        return status;
    const pht_value there = s.entry == NULL ? PHT_ABSENT : s.entry->value;
    if (s.entry == NULL)
        status = insert(t, map, &s, &value);
    if (status == PHEAP_OK)
        *present = there;
    return status;
}

enum pheap_status pht_map_remove(struct pht *t, pht_value map, struct pht_any key, pht_value *taken)
{
    bool found;
    pht_value value = PHT_ABSENT;
    enum pheap_status status = remove_key(t, map, PHT_MAP, &key, &value, &found);
    if (status == PHEAP_OK && found)
        return pt_let_go(t, value, taken);
    if (status == PHEAP_OK && taken != NULL)
        *taken = PHT_ABSENT;
    return status;
}

enum pheap_status pht_map_clear(struct pht *t, pht_value map)
{
    return clear(t, map, PHT_MAP);
}

static enum pheap_status walk_map(struct pht *t, pht_value map, uint64_t *cursor, bool forth, pht_value *key,
                                  pht_value *value)
{
    const struct pt_entry *entry;
    if (cursor == NULL || key == NULL)
        return null_argument("pht_map_next");
    enum pheap_status status = walk(t, map, PHT_MAP, cursor, forth, &entry);
    if (status != PHEAP_OK)
        return status;
    *key = entry->key;
    if (value != NULL)
        *value = entry->value;
    return PHEAP_OK;
}

enum pheap_status pht_map_next(struct pht *t, pht_value map, uint64_t *cursor, pht_value *key, pht_value *value)
{
    return walk_map(t, map, cursor, true, key, value);
}

enum pheap_status pht_map_previous(struct pht *t, pht_value map, uint64_t *cursor, pht_value *key, pht_value *value)
{
    return walk_map(t, map, cursor, false, key, value);
}

/* ----------------------------------------------------------------------------------------------------------- sets */

enum pheap_status pht_set_new(struct pht *t, pht_value *set)
{
    return pt_container_new(t, PHT_SET, sizeof(struct pt_map), set);
}

enum pheap_status pht_set_count(struct pht *t, pht_value set, uint64_t *count)
{
    return count_of(t, set, PHT_SET, count);
}

enum pheap_status pht_set_has(struct pht *t, pht_value set, struct pht_any key, bool *has)
{
    struct search s;
    if (has == NULL)
        return null_argument("pht_set_has");
    enum pheap_status status = search(t, set, PHT_SET, &key, &s);
    if (status == PHEAP_OK)
        *has = s.number != 0;
    return status;
}

enum pheap_status pht_set_add(struct pht *t, pht_value set, struct pht_any key, bool *changed)
{
    struct search s;
    enum pheap_status status = pt_may_change(t);
    if (status == PHEAP_OK)
        status = search(t, set, PHT_SET, &key, &s);
    if (status == PHEAP_OK && s.number == 0)
        status = insert(t, set, &s, NULL);
    if (status == PHEAP_OK && changed != NULL)
        *changed = s.number == 0;
    return status;
}

enum pheap_status pht_set_remove(struct pht *t, pht_value set, struct pht_any key, bool *changed)
{
    bool found;
    pht_value none;
    enum pheap_status status = remove_key(t, set, PHT_SET, &key, &none, &found);
    if (status == PHEAP_OK && changed != NULL)
        *changed = found;
    return status;
}

enum pheap_status pht_set_clear(struct pht *t, pht_value set)
{
    return clear(t, set, PHT_SET);
}

static enum pheap_status walk_set(struct pht *t, pht_value set, uint64_t *cursor, bool forth, pht_value *key)
{
    const struct pt_entry *entry;
    if (cursor == NULL || key == NULL)
        return null_argument("pht_set_next");
    enum pheap_status status = walk(t, set, PHT_SET, cursor, forth, &entry);
    if (status == PHEAP_OK)
        *key = entry->key;
    return status;
}

enum pheap_status pht_set_next(struct pht *t, pht_value set, uint64_t *cursor, pht_value *key)
{
    return walk_set(t, set, cursor, true, key);
}

enum pheap_status pht_set_previous(struct pht *t, pht_value set, uint64_t *cursor, pht_value *key)
{
    return walk_set(t, set, cursor, false, key);
}
