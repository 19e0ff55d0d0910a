/* SPDX-License-Identifier: MIT */
/*
 * Lists: a counted tree of words, and behind it the tail, a leaf of its own that is not in the tree yet.  So appending and
 * what concerns the last elements touch no tree, and a small list is a tail alone.  A full tail goes into the tree as it
 * is; when it is empty the tree's last leaf becomes the tail.
 */
#include "types/tree.h"
#include "types/value.h"

#include <inttypes.h>

#define COUNT_MAX (UINT64_C(1) << 48)

struct PT_IN_HEAP pt_list {
    struct pt_container container;
    uint64_t count; /* of all elements */
    uint64_t tail;  /* a leaf; 0: there is none */
    struct pt_tree tree;
};
_Static_assert(sizeof(struct pt_list) == PT_LIST_BYTES, "list");

/* ------------------------------------------------------------------------------------------------------------ looking */

/* A list that the caller names; its counts agree. */
static enum pheap_status use(struct pht *t, pht_value value, const struct pt_list **list)
{
    const void *address;
    enum pheap_status status = pt_use(t, value, PHT_LIST, sizeof **list, &address);
    if (status != PHEAP_OK)
        return status;
    *list = address;
    if (!pt_tree_sound(t, value, &(*list)->tree))
        return PHEAP_CORRUPT;
    if ((*list)->count < (*list)->tree.count || (*list)->count - (*list)->tree.count > PT_NODE_WORDS)
        return pt_corrupt(t, value, "a list whose elements are not those of its tree and its tail");
    return PHEAP_OK;
}

/* The same to be changed. */
static enum pheap_status edit(struct pht *t, pht_value value, struct pt_list **list)
{
    const struct pt_list *found;
    enum pheap_status status = pt_may_change(t);
    if (status == PHEAP_OK)
        status = use(t, value, &found);
    return status == PHEAP_OK ? pt_edit(t, value, sizeof **list, list) : status;
}

static const struct pt_node *tail_of(struct pht *t, const struct pt_list *list)
{
    const struct pt_node *tail = pt_node_at(t, list->tail, 0, 1);
    if (tail != NULL && tail->used != list->count - list->tree.count) {
        (void)pt_corrupt(t, list->tail, "the tail of a list that has another number of elements");
        return NULL;
    }
    return tail;
}

/* The words from element `index` on that lie together; NULL if the list is damaged. */
static const pt_word *words_at(struct pht *t, const struct pt_list *list, uint64_t index, uint64_t *run)
{
    if (index < list->tree.count)
        return pt_tree_at(t, &list->tree, 1, index, run);
    const struct pt_node *tail = tail_of(t, list);
    if (tail == NULL)
        return NULL;
    *run = list->count - index;
    return tail->words + (index - list->tree.count);
}

static enum pheap_status refuse_index(uint64_t index, uint64_t count)
{
    return pheap_fail_with(PHEAP_INVALID, "element %" PRIu64 " of a list of %" PRIu64, index, count);
}

enum pheap_status pht_list_new(struct pht *t, pht_value *list)
{
    return pt_container_new(t, PHT_LIST, sizeof(struct pt_list), list);
}

enum pheap_status pht_list_count(struct pht *t, pht_value list, uint64_t *count)
{
    const struct pt_list *found;
    if (count == NULL)
        return pheap_fail_with(PHEAP_INVALID, "pht_list_count: count is NULL");
    enum pheap_status status = use(t, list, &found);
    if (status == PHEAP_OK)
        *count = found->count;
    return status;
}

enum pheap_status pht_list_read(struct pht *t, pht_value list, uint64_t index, uint64_t count, pht_value *values)
{
    const struct pt_list *found;
    if (values == NULL && count > 0)
        return pheap_fail_with(PHEAP_INVALID, "pht_list_read: values is NULL");
    enum pheap_status status = use(t, list, &found);
    if (status != PHEAP_OK)
        return status;
    if (index > found->count || count > found->count - index)
        return refuse_index(index + count, found->count);
    while (count > 0) {
        uint64_t run;
        const pt_word *words = words_at(t, found, index, &run);
        if (words == NULL)
            return PHEAP_CORRUPT;
        run = run < count ? run : count;
        memcpy(values, words, run * sizeof *values);
        values += run;
        index += run;
        count -= run;
    }
    return PHEAP_OK;
}

enum pheap_status pht_list_get(struct pht *t, pht_value list, uint64_t index, pht_value *value)
{
    uint64_t run;
    const struct pt_list *found;
    if (value == NULL)
        return pheap_fail_with(PHEAP_INVALID, "pht_list_get: value is NULL");
    enum pheap_status status = use(t, list, &found);
    if (status != PHEAP_OK)
        return status;
    if (index >= found->count)
        return refuse_index(index, found->count);
    const pt_word *words = words_at(t, found, index, &run);
    if (words == NULL)
        return PHEAP_CORRUPT;
    *value = *words;
    return PHEAP_OK;
}

/* ----------------------------------------------------------------------------------------------------------- changing */

/* Put a word into the tail, which has room for it, `at` places from its beginning. */
static enum pheap_status put_in_tail(struct pht *t, struct pt_list *list, uint64_t at, pht_value word)
{
    struct pt_node *edited;
    const struct pt_node *tail = tail_of(t, list);
    if (tail == NULL)
        return PHEAP_CORRUPT;
    const uint64_t words = list->tail + sizeof *tail, more = tail->used - at;
    enum pheap_status status = pt_edit(t, words + at * sizeof word, (more + 1) * sizeof word, NULL);
    if (status == PHEAP_OK)
        status = pt_edit(t, list->tail, sizeof *tail, &edited);
    if (status != PHEAP_OK)
        return status;
    memmove(edited->words + at + 1, edited->words + at, more * sizeof word);
    edited->words[at] = word;
    edited->used++;
    list->count++;
    return PHEAP_OK;
}

/* The tail is full: it goes into the tree, but for its elements from `from` on, which begin a new one. */
static enum pheap_status renew_tail(struct pht *t, uint64_t list, struct pt_list *edited, uint32_t from)
{
    uint64_t made, full = edited->tail;
    struct pt_node *old;
    enum pheap_status status = pt_leaf_new(t, PT_NODE_WORDS, &made);
    if (status == PHEAP_OK)
        status = pt_edit(t, full, sizeof *old, &old);
    if (status != PHEAP_OK)
        return status;
    struct pt_node *tail = (struct pt_node *)(void *)(t->base + made);
    tail->used = old->used - from;
    memcpy(tail->words, old->words + from, tail->used * sizeof(pht_value));
    old->used = from;
    edited->tail = made;
    return pt_tree_append_leaf(t, list + offsetof(struct pt_list, tree), full);
}

/* See to it that the tail has room for one more, before its element `at`; *at changes when others leave it. */
static enum pheap_status make_room(struct pht *t, uint64_t list, struct pt_list *edited, uint64_t *at)
{
    if (edited->tail == 0)
        return pt_leaf_new(t, pt_leaf_next(0), &edited->tail);
    const struct pt_node *tail = tail_of(t, edited);
    if (tail == NULL)
        return PHEAP_CORRUPT;
    if (tail->used < tail->capacity)
        return PHEAP_OK;
    if (tail->capacity < PT_NODE_WORDS)
        return pt_leaf_resize(t, &edited->tail, pt_leaf_next(tail->capacity));
    /* What comes at the end leaves a full leaf in the tree; else half of it stays at hand. */
    const uint32_t from = *at == tail->used ? tail->used : tail->used / 2;
    if (*at < from) { /* it belongs to what goes into the tree: there is room there, or will be */
        *at = UINT64_MAX;
    } else {
        *at -= from;
    }
    return renew_tail(t, list, edited, from);
}

enum pheap_status pht_list_insert(struct pht *t, pht_value list, uint64_t index, struct pht_any value)
{
    pht_value word;
    struct pt_key key;
    struct pt_list *edited;
    enum pheap_status status = pt_key(t, &value, &key);
    if (status == PHEAP_OK)
        status = edit(t, list, &edited);
    if (status != PHEAP_OK)
        return status;
    if (index > edited->count)
        return refuse_index(index, edited->count);
    if (edited->count >= COUNT_MAX)
        return pheap_fail_with(PHEAP_FULL, "a list has at most 2^48 elements");
    status = pt_store(t, &value, &word);
    if (status != PHEAP_OK)
        return status;
    pt_changed(edited);
    uint64_t at = UINT64_MAX; /* place in the tail, if it is there */
    if (index >= edited->tree.count) {
        at = index - edited->tree.count;
        status = make_room(t, list, edited, &at);
    }
    if (status == PHEAP_OK && at != UINT64_MAX)
        return pt_then_limbo(t, put_in_tail(t, edited, at, word));
    if (status == PHEAP_OK)
        status = pt_tree_insert(t, list + offsetof(struct pt_list, tree), 1, index, &word);
    edited->count += status == PHEAP_OK;
    return pt_then_limbo(t, status);
}

enum pheap_status pht_list_append(struct pht *t, pht_value list, struct pht_any value)
{
    const struct pt_list *found;
    enum pheap_status status = use(t, list, &found);
    return status == PHEAP_OK ? pht_list_insert(t, list, found->count, value) : status;
}

enum pheap_status pht_list_set(struct pht *t, pht_value list, uint64_t index, struct pht_any value)
{
    pht_value word;
    uint64_t run;
    struct pt_key key;
    const struct pt_list *found;
    enum pheap_status status = pt_may_change(t);
    if (status == PHEAP_OK)
        status = pt_key(t, &value, &key);
    if (status == PHEAP_OK)
        status = use(t, list, &found);
    if (status != PHEAP_OK)
        return status;
    if (index >= found->count)
        return refuse_index(index, found->count);
    status = pt_store(t, &value, &word);
    if (status != PHEAP_OK)
        return status;
    const pt_word *words = words_at(t, found, index, &run);
    if (words == NULL)
        return PHEAP_CORRUPT;
    const pht_value old = *words;
    status = pt_then_limbo(t, pt_put(t, (uint64_t)((const unsigned char *)words - t->base), word));
    return status == PHEAP_OK ? pt_drop(t, old) : status;
}

/* Take element `at` out of the tail. */
static enum pheap_status cut_from_tail(struct pht *t, uint64_t list, struct pt_list *edited, uint64_t at,
                                       pht_value *word)
{
    struct pt_node *tail;
    if (tail_of(t, edited) == NULL)
        return PHEAP_CORRUPT;
    enum pheap_status status = pt_edit(t, edited->tail, sizeof *tail, &tail);
    const uint64_t words = edited->tail + sizeof *tail, behind = status == PHEAP_OK ? tail->used - at - 1 : 0;
    if (behind > 0)
        status = pt_edit(t, words + at * sizeof *word, behind * sizeof *word, NULL);
    if (status != PHEAP_OK)
        return status;
    *word = tail->words[at];
    memmove(tail->words + at, tail->words + at + 1, behind * sizeof *word);
    tail->used--;
    edited->count--;
    if (tail->used == 0) {
        status = pt_free(t, edited->tail);
        edited->tail = 0;
        if (status == PHEAP_OK && edited->count > 0)
            status = pt_tree_take_leaf(t, list + offsetof(struct pt_list, tree), &edited->tail);
        return status;
    }
    const bool much = tail->capacity > 8 && tail->used <= tail->capacity / 4;
    return much && edited->tree.count == 0 ? pt_leaf_resize(t, &edited->tail, tail->capacity / 2) : PHEAP_OK;
}

static enum pheap_status remove_word(struct pht *t, uint64_t list, struct pt_list *edited, uint64_t index,
                                     pht_value *word)
{
    pt_changed(edited);
    if (index >= edited->tree.count)
        return cut_from_tail(t, list, edited, index - edited->tree.count, word);
    enum pheap_status status = pt_tree_remove(t, list + offsetof(struct pt_list, tree), 1, index, word);
    edited->count -= status == PHEAP_OK;
    return status;
}

enum pheap_status pht_list_remove(struct pht *t, pht_value list, uint64_t index, pht_value *taken)
{
    pht_value word;
    struct pt_list *edited;
    enum pheap_status status = edit(t, list, &edited);
    if (status != PHEAP_OK)
        return status;
    if (index >= edited->count)
        return refuse_index(index, edited->count);
    status = remove_word(t, list, edited, index, &word);
    return status == PHEAP_OK ? pt_let_go(t, word, taken) : status;
}

enum pheap_status pht_list_clear(struct pht *t, pht_value list)
{
    struct pt_list *edited;
    enum pheap_status status = edit(t, list, &edited);
    if (status != PHEAP_OK || edited->count == 0)
        return status;
    return pt_clear(t, list, sizeof *edited);
}

enum pheap_status pt_list_dismantle(struct pht *t, uint64_t list, uint32_t *budget, bool *done)
{
    const struct pt_list *found;
    struct pt_list *edited;
    enum pheap_status status = use(t, list, &found);
    if (status == PHEAP_OK)
        status = pt_edit(t, list, sizeof *edited, &edited);
    for (; status == PHEAP_OK && *budget > 0 && edited->count > 0; --*budget) {
        pht_value word;
        status = remove_word(t, list, edited, edited->count - 1, &word);
        if (status == PHEAP_OK)
            status = pt_drop(t, word);
    }
    *done = status == PHEAP_OK && edited->count == 0;
    return status;
}

enum pheap_status pt_list_visit(struct pt_visit *visit)
{
    const struct pt_list *list;
    enum pheap_status status = use(visit->t, visit->object, &list);
    if (status == PHEAP_OK)
        status = visit->part(visit, visit->object, sizeof *list);
    if (status == PHEAP_OK)
        status = pt_tree_visit(visit, &list->tree, 1);
    if (status != PHEAP_OK || list->tail == 0)
        return status == PHEAP_OK && list->count != list->tree.count
                   ? pt_corrupt(visit->t, visit->object, "a list that has lost its tail")
                   : status;
    const struct pt_node *tail = tail_of(visit->t, list);
    if (tail == NULL)
        return PHEAP_CORRUPT;
    status = visit->part(visit, list->tail, sizeof *tail + tail->capacity * sizeof(pht_value));
    for (uint32_t i = 0; i < tail->used && status == PHEAP_OK; i++)
        status = visit->word(visit, tail->words[i]);
    return status;
}
