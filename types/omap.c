/* SPDX-License-Identifier: MIT */
/* Ordered maps: a counted tree of keys and values in the order of the keys. */
#include "types/tree.h"
#include "types/value.h"

#include <inttypes.h>

struct PT_IN_HEAP pt_omap {
    struct pt_container container;
    struct pt_tree tree;
};
_Static_assert(sizeof(struct pt_omap) == PT_OMAP_BYTES, "ordered map");

#define WIDTH 2u /* words of an item */

static const uint64_t tree_at = offsetof(struct pt_omap, tree);

static enum pheap_status use(struct pht *t, pht_value value, const struct pt_omap **map)
{
    const void *address;
    enum pheap_status status = pt_use(t, value, PHT_OMAP, sizeof **map, &address);
    if (status != PHEAP_OK)
        return status;
    *map = address;
    return pt_tree_sound(t, value, &(*map)->tree) ? PHEAP_OK : PHEAP_CORRUPT;
}

/* Of a str in a word: its bytes as a number, the first one highest. */
static inline uint64_t word_bytes(pht_value word)
{
    return __builtin_bswap64(word & ~UINT64_C(0xff));
}

/* Compare a key with one of the map: *order is that of the map's. */
static inline enum pheap_status order_of(struct pht *t, pht_value word, const struct pt_key *key, int *order)
{
    struct pt_key other;
    if ((word & 7) == 1 && (key->word & 7) == 1) { /* ints in words, which have the order of the words */
        *order = ((int64_t)word > (int64_t)key->word) - ((int64_t)word < (int64_t)key->word);
        return PHEAP_OK;
    }
    if ((word & 7) == 4 && (key->word & 7) == 4 && word_bytes(word) != word_bytes(key->word)) {
        *order = word_bytes(word) > word_bytes(key->word) ? 1 : -1;
        return PHEAP_OK;
    }
    enum pheap_status status = pt_key_of(t, word, &other);
    return status == PHEAP_OK ? pt_key_compare(t, &other, key, order) : status;
}

/*
 * In a node, count the entries whose key is less than `key`; *equal: the next one is equal.  The keys are `step` words
 * apart.
 */
static enum pheap_status bisect(struct pht *t, const uint64_t *keys, uint32_t step, uint32_t count,
                                const struct pt_key *key, uint32_t *less, bool *equal)
{
    uint32_t low = 0, high = count;
    *equal = false;
    while (low < high) {
        const uint32_t middle = low + (high - low) / 2;
        int order;
        enum pheap_status status = order_of(t, keys[middle * step], key, &order);
        if (status != PHEAP_OK)
            return status;
        if (order < 0) {
            low = middle + 1;
        } else {
            high = middle;
            *equal = order == 0;
        }
    }
    *less = low;
    return PHEAP_OK;
}

/* How many keys are less than `key`, if `rank` wants that; the item of the key itself, NULL if it is not there. */
static enum pheap_status search(struct pht *t, const struct pt_omap *map, const struct pt_key *key, uint64_t *rank,
                                const uint64_t **item)
{
    uint64_t at = map->tree.top, before = 0;
    bool equal;
    if (rank != NULL)
        *rank = 0;
    *item = NULL;
    if (at == 0)
        return PHEAP_OK;
    for (uint32_t level = map->tree.level;; level--) {
        uint32_t less;
        const struct pt_node *node = pt_node_at(t, at, level, WIDTH);
        if (node == NULL)
            return PHEAP_CORRUPT;
        const uint32_t step = level == 0 ? WIDTH : WIDTH + 1;
        enum pheap_status status = bisect(t, node->words + (level == 0 ? 0 : 2), step, node->used, key, &less, &equal);
        if (status != PHEAP_OK)
            return status;
        if (level == 0) {
            if (rank != NULL)
                *rank = before + less;
            *item = equal ? node->words + less * WIDTH : NULL;
            return PHEAP_OK;
        }
        /* Below the last entry that begins with it or with less; a key less than all is looked for below the first. */
        if (!equal && less > 0)
            less--;
        if (less >= node->used)
            return pt_corrupt(t, at, "an inner node of a tree without entries");
        for (uint32_t i = 0; rank != NULL && i < less; i++)
            before += node->words[i * step + 1];
        at = node->words[less * step];
    }
}

/* A map and a key that the caller names. */
static enum pheap_status look(struct pht *t, pht_value value, const struct pht_any *any, struct pt_key *key,
                              uint64_t *rank, const uint64_t **item)
{
    const struct pt_omap *map;
    enum pheap_status status = use(t, value, &map);
    if (status == PHEAP_OK)
        status = pt_key(t, any, key);
    if (status == PHEAP_OK)
        status = pt_key_ordered(t, key);
    return status == PHEAP_OK ? search(t, map, key, rank, item) : status;
}

enum pheap_status pht_omap_new(struct pht *t, pht_value *map)
{
    return pt_container_new(t, PHT_OMAP, sizeof(struct pt_omap), map);
}

enum pheap_status pht_omap_count(struct pht *t, pht_value map, uint64_t *count)
{
    const struct pt_omap *found;
    if (count == NULL)
        return pheap_fail_with(PHEAP_INVALID, "pht_omap_count: count is NULL");
    enum pheap_status status = use(t, map, &found);
    if (status == PHEAP_OK)
        *count = found->tree.count;
    return status;
}

enum pheap_status pht_omap_get(struct pht *t, pht_value map, struct pht_any key, pht_value *value)
{
    struct pt_key k;
    const uint64_t *item;
    if (value == NULL)
        return pheap_fail_with(PHEAP_INVALID, "pht_omap_get: value is NULL");
    enum pheap_status status = look(t, map, &key, &k, NULL, &item);
    if (status == PHEAP_OK)
        *value = item == NULL ? PHT_ABSENT : item[1];
    return status;
}

enum pheap_status pht_omap_rank(struct pht *t, pht_value map, struct pht_any key, uint64_t *rank, bool *found)
{
    struct pt_key k;
    uint64_t less;
    const uint64_t *item;
    if (rank == NULL)
        return pheap_fail_with(PHEAP_INVALID, "pht_omap_rank: rank is NULL");
    enum pheap_status status = look(t, map, &key, &k, &less, &item);
    if (status != PHEAP_OK)
        return status;
    *rank = less;
    if (found != NULL)
        *found = item != NULL;
    return PHEAP_OK;
}

enum pheap_status pht_omap_at(struct pht *t, pht_value map, uint64_t rank, pht_value *key, pht_value *value)
{
    uint64_t run;
    const struct pt_omap *found;
    enum pheap_status status = use(t, map, &found);
    if (status != PHEAP_OK)
        return status;
    if (key == NULL || rank >= found->tree.count)
        return pheap_fail_with(PHEAP_INVALID, "entry %" PRIu64 " of an ordered map of %" PRIu64 ", or key is NULL",
                               rank, found->tree.count);
    const pt_word *item = pt_tree_at(t, &found->tree, WIDTH, rank, &run);
    if (item == NULL)
        return PHEAP_CORRUPT;
    *key = item[0];
    if (value != NULL)
        *value = item[1];
    return PHEAP_OK;
}

enum pheap_status pht_omap_set(struct pht *t, pht_value map, struct pht_any key, struct pht_any value)
{
    struct pt_key k, checked;
    uint64_t rank, words[WIDTH];
    const uint64_t *item;
    struct pt_container *edited;
    enum pheap_status status = pt_may_change(t);
    if (status == PHEAP_OK)
        status = look(t, map, &key, &k, &rank, &item);
    if (status == PHEAP_OK)
        status = pt_key(t, &value, &checked);
    if (status == PHEAP_OK)
        status = pt_store(t, &value, &words[1]);
    if (status != PHEAP_OK)
        return status;
    if (item != NULL) {
        const pht_value old = item[1];
        status = pt_then_limbo(t, pt_put(t, (uint64_t)((const unsigned char *)(item + 1) - t->base), words[1]));
        return status == PHEAP_OK ? pt_drop(t, old) : status;
    }
    status = pt_key_make(t, &k, &words[0]);
    if (status == PHEAP_OK)
        status = pt_refer(t, words[0]);
    if (status == PHEAP_OK)
        status = pt_edit(t, map, sizeof *edited, &edited);
    if (status != PHEAP_OK)
        return status;
    pt_changed(edited);
    return pt_then_limbo(t, pt_tree_insert(t, map + tree_at, WIDTH, rank, words));
}

enum pheap_status pht_omap_remove(struct pht *t, pht_value map, struct pht_any key, pht_value *taken)
{
    struct pt_key k;
    uint64_t rank, words[WIDTH];
    const uint64_t *item;
    struct pt_container *edited;
    enum pheap_status status = pt_may_change(t);
    if (status == PHEAP_OK)
        status = look(t, map, &key, &k, &rank, &item);
    if (status == PHEAP_OK && item == NULL && taken != NULL)
        *taken = PHT_ABSENT;
    if (status != PHEAP_OK || item == NULL)
        return status;
    status = pt_edit(t, map, sizeof *edited, &edited);
    if (status != PHEAP_OK)
        return status;
    pt_changed(edited);
    status = pt_tree_remove(t, map + tree_at, WIDTH, rank, words);
    if (status == PHEAP_OK)
        status = pt_drop(t, words[0]);
    return status == PHEAP_OK ? pt_let_go(t, words[1], taken) : status;
}

enum pheap_status pht_omap_clear(struct pht *t, pht_value map)
{
    const struct pt_omap *found;
    enum pheap_status status = pt_may_change(t);
    if (status == PHEAP_OK)
        status = use(t, map, &found);
    if (status != PHEAP_OK || found->tree.count == 0)
        return status;
    return pt_clear(t, map, sizeof *found);
}

enum pheap_status pt_omap_dismantle(struct pht *t, uint64_t map, uint32_t *budget, bool *done)
{
    const struct pt_omap *found;
    enum pheap_status status = use(t, map, &found);
    if (status != PHEAP_OK)
        return status;
    return pt_tree_dismantle(t, map + tree_at, WIDTH, budget, done);
}

enum pheap_status pt_omap_visit(struct pt_visit *visit)
{
    const struct pt_omap *map;
    enum pheap_status status = use(visit->t, visit->object, &map);
    if (status == PHEAP_OK)
        status = visit->part(visit, visit->object, sizeof *map);
    return status == PHEAP_OK ? pt_tree_visit(visit, &map->tree, WIDTH) : status;
}
