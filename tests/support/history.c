/* SPDX-License-Identifier: MIT */
/* Random transactions one after the other, and the model after each. */
#include "tests/support/history.h"
#include "tests/support/dice.h"
#include "tests/support/model.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct ph_history {
    struct ph_author author;
    struct ph_model **models; /* after k transactions */
    uint64_t count, capacity;
    uint64_t committed; /* count - 1, or count - 2 while the last is of unknown fate */
};

static void *must(void *memory)
{
    if (memory == NULL)
        abort();
    return memory;
}

static void append(struct ph_history *history, struct ph_model *model)
{
    if (history->count == history->capacity) {
        history->capacity = history->capacity * 2 + 32;
        history->models = must(realloc(history->models, history->capacity * sizeof *history->models));
    }
    history->models[history->count++] = model;
}

struct ph_history *ph_history_new(uint64_t seed)
{
    struct ph_history *history = must(calloc(1, sizeof *history));
    history->author = (struct ph_author){.dice = seed, .large_max = 12000, .live_max = 40000};
    append(history, ph_model_new());
    return history;
}

struct ph_history *ph_history_branch(const struct ph_history *from, uint64_t k, uint64_t seed)
{
    struct ph_history *history = must(calloc(1, sizeof *history));
    history->author = from->author;
    history->author.dice = seed;
    for (uint64_t i = 0; i <= k && i < from->count; i++)
        append(history, from->models[i] == NULL ? NULL : ph_model_share(from->models[i]));
    history->committed = history->count - 1;
    return history;
}

void ph_history_free(struct ph_history *history)
{
    if (history == NULL)
        return;
    for (uint64_t i = 0; i < history->count; i++)
        ph_model_release(history->models[i]);
    free(history->models);
    free(history);
}

void ph_history_forget(struct ph_history *history, uint64_t k)
{
    for (uint64_t i = k; i-- > 0 && history->models[i] != NULL;) {
        ph_model_release(history->models[i]);
        history->models[i] = NULL;
    }
}

void ph_history_limit(struct ph_history *history, uint64_t large_max, uint64_t live_max)
{
    history->author.large_max = large_max;
    history->author.live_max = live_max;
}

void ph_history_track(struct ph_history *history)
{
    history->author.track = true;
}

uint64_t ph_history_committed(const struct ph_history *history)
{
    return history->committed;
}

uint64_t ph_history_begun(const struct ph_history *history)
{
    return history->count - 1;
}

void ph_history_settle(struct ph_history *history, uint64_t k)
{
    while (history->count > k + 1)
        ph_model_release(history->models[--history->count]);
    history->committed = history->count - 1;
}

/* Transactions. */

static bool says_aborted(enum pheap_status status)
{
    return status == PHEAP_IO || status == PHEAP_NO_MEMORY || status == PHEAP_TOO_BIG || status == PHEAP_LOG_FULL ||
           status == PHEAP_NO_SPACE || status == PHEAP_STRAY_STORE;
}

static void note(struct ph_sim *sim, enum ph_history_note kind, uint64_t value)
{
    if (sim != NULL)
        ph_sim_note(sim, kind, value);
}

/* Note the first failure; true if the call went well. */
static bool good(struct ph_step *step, enum pheap_status status)
{
    if (status != PHEAP_OK && step->first_failure == PHEAP_OK) {
        step->first_failure = status;
        (void)snprintf(step->detail, sizeof step->detail, "%s", pheap_error_detail());
    }
    return status == PHEAP_OK;
}

static void finish(struct ph_history *history, struct ph_writing *work, struct ph_step *step, struct ph_sim *sim)
{
    uint64_t k = history->committed + 1;
    step->durable = dice_roll(&history->author.dice) % 3 != 0;
    bool sealed = ph_writing_seal(work, k);
    step->first_failure = work->first_failure;
    memcpy(step->detail, work->detail, sizeof step->detail);
    if (!sealed || work->doomed || dice_roll(&history->author.dice) % 12 == 0) {
        (void)good(step, pheap_abort(work->txn));
        return;
    }
    note(sim, PH_NOTE_BEGUN, k);
    append(history, work->model); /* from here on it may be there, even if the process dies in the call */
    work->model = NULL;
    enum pheap_status status = pheap_commit(work->txn, step->durable ? PHEAP_DURABLE : PHEAP_LAZY, NULL);
    if (!good(step, status) && says_aborted(status)) {
        ph_history_settle(history, history->committed);
        return;
    }
    step->fate = status == PHEAP_OK ? PH_FATE_COMMITTED : PH_FATE_UNKNOWN;
    if (status != PHEAP_OK)
        return;
    history->committed = k;
    if (step->durable)
        note(sim, PH_NOTE_ACKNOWLEDGED, k);
}

void ph_history_step(struct ph_history *history, pheap *heap, struct ph_sim *sim, struct ph_step *step)
{
    *step = (struct ph_step){.fate = PH_FATE_ABORTED, .first_failure = PHEAP_OK};
    struct ph_writing work = {.author = &history->author};
    if (!good(step, pheap_begin(heap, &work.txn)))
        return;
    if (history->count - 1 != history->committed) {
        (void)good(step, pheap_abort(work.txn));
        step->accepted_after_unknown = true;
        return;
    }
    work.model = ph_model_copy(history->models[history->committed]);
    ph_writing_begin(&work);
    finish(history, &work, step, sim);
    ph_model_release(work.model);
}

/* The comparison. */

bool ph_history_verify_reader(const struct ph_history *history, const pheap_read *reader, uint64_t least, uint64_t most,
                              uint64_t *k, char *why, size_t why_bytes)
{
    uint64_t found = 0;
    char place[200] = "";
    if (!ph_model_number(reader, &found, why, why_bytes))
        return false;
    if (found >= history->count || history->models[found] == NULL)
        return ph_differs(why, why_bytes, "the root block holds nonsense");
    if (k != NULL)
        *k = found;
    if (found < least || found > most)
        return ph_differs(why, why_bytes, "transaction %llu is the last, but it must be one of %llu to %llu",
                          (unsigned long long)found, (unsigned long long)least, (unsigned long long)most);
    if (pheap_read_version(reader) != found)
        return ph_differs(why, why_bytes, "version %llu shows transaction %llu",
                          (unsigned long long)pheap_read_version(reader), (unsigned long long)found);
    return ph_model_verify(history->models[found], reader, place, sizeof place) ||
           ph_differs(why, why_bytes, "after transaction %llu: %s", (unsigned long long)found, place);
}

/* No page is damaged, and none has lost its checksum; if the heap has them. */
static bool scrubs_clean(pheap *heap, char *why, size_t why_bytes)
{
    struct ph_faults faults = {0};
    const struct pheap_scrub_options options = {.size = sizeof options, .fault = ph_note_fault, .context = &faults};
    struct pheap_scrub_result result = {.size = sizeof result};
    enum pheap_status status = pheap_scrub(heap, &options, &result);
    if (status == PHEAP_UNSUPPORTED || (status == PHEAP_OK && result.unknown_pages == 0))
        return true;
    return ph_differs(why, why_bytes, "the scrub says %s, %u faults, first %s, %llu pages unknown",
                      pheap_status_name(status), faults.count, faults.first, (unsigned long long)result.unknown_pages);
}

bool ph_history_verify(const struct ph_history *history, pheap *heap, uint64_t least, uint64_t most, uint64_t *k,
                       char *why, size_t why_bytes)
{
    pheap_read *reader = NULL;
    enum pheap_status status = pheap_read_begin(heap, PHEAP_FRESH, &reader);
    if (status != PHEAP_OK)
        return ph_differs(why, why_bytes, "read: %s: %s", pheap_status_name(status), pheap_error_detail());
    bool same = ph_history_verify_reader(history, reader, least, most, k, why, why_bytes);
    pheap_read_end(reader);
    return same && scrubs_clean(heap, why, why_bytes);
}
