/* SPDX-License-Identifier: MIT */
/* Which versions a heap may be at. */
#include "tests/simulate/oracle.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

bool oracle_fail(struct oracle *oracle, const char *format, ...)
{
    if (oracle->why[0] != '\0')
        return false; /* the first one counts */
    va_list arguments;
    va_start(arguments, format);
    (void)vsnprintf(oracle->why, sizeof oracle->why, format, arguments);
    va_end(arguments);
    return false;
}

static uint32_t append(struct oracle *oracle, uint32_t parent, uint64_t k, struct ph_model *model)
{
    if (oracle->count == oracle->capacity) {
        oracle->capacity = oracle->capacity * 2 + 64;
        oracle->versions = realloc(oracle->versions, oracle->capacity * sizeof oracle->versions[0]);
        if (oracle->versions == NULL)
            abort();
    }
    oracle->versions[oracle->count] = (struct oracle_version){.parent = parent, .k = k, .model = model};
    return oracle->count++;
}

static void set_tip(struct oracle *oracle, uint32_t tip)
{
    oracle->tip = tip;
    ph_sim_note(oracle->sim, ORACLE_NOTE_TIP, tip);
}

void oracle_init(struct oracle *oracle, struct ph_sim *sim)
{
    *oracle = (struct oracle){.sim = sim};
    (void)append(oracle, 0, 0, ph_model_new());
    oracle->versions[0].known = true;
}

void oracle_deinit(struct oracle *oracle)
{
    for (uint32_t i = 0; i < oracle->count; i++)
        ph_model_release(oracle->versions[i].model);
    free(oracle->versions);
    *oracle = (struct oracle){0};
}

/* What a writer that died had not yet published is published by the recovery after the death of all others. */
static void come_back(struct oracle *oracle, uint64_t k)
{
    uint32_t latent = oracle->latent;
    if (latent == 0 || oracle->versions[latent].parent != oracle->tip || oracle->versions[latent].k != k)
        return;
    oracle->versions[latent].gone = false;
    oracle->latent = 0;
    set_tip(oracle, latent);
}

/* The version of the history with number k, from the tip down; UINT32_MAX if there is none. */
static uint32_t find(const struct oracle *oracle, uint32_t tip, uint64_t k)
{
    uint32_t at = tip;
    while (oracle->versions[at].k > k)
        at = oracle->versions[at].parent;
    return oracle->versions[at].k == k ? at : UINT32_MAX;
}

uint32_t oracle_known(const struct oracle *oracle)
{
    uint32_t at = oracle->tip;
    while (!oracle->versions[at].known)
        at = oracle->versions[at].parent;
    return at;
}

/* Somebody has seen the version, and so all before it. */
static void see(struct oracle *oracle, uint32_t version)
{
    for (; !oracle->versions[version].known; version = oracle->versions[version].parent)
        oracle->versions[version].known = true;
}

/* What is above the version is not in the heap. */
static bool drop_above(struct oracle *oracle, uint32_t version)
{
    for (uint32_t at = oracle->tip; at != version; at = oracle->versions[at].parent) {
        if (oracle->versions[at].known && !oracle->forgiving)
            return oracle_fail(oracle, "transaction %llu is lost, though it was acknowledged or seen",
                               (unsigned long long)oracle->versions[at].k);
        if (at == oracle->durable)
            return oracle_fail(oracle, "transaction %llu is lost, though it was durable",
                               (unsigned long long)oracle->versions[at].k);
        oracle->versions[at].gone = true;
        oracle->latent = at; /* the last of them is the one right above the version */
    }
    if (oracle->tip != version)
        set_tip(oracle, version);
    return true;
}

bool oracle_began(struct oracle *oracle, uint64_t k, uint32_t *version)
{
    come_back(oracle, k);
    uint32_t found = find(oracle, oracle->tip, k);
    if (found == UINT32_MAX)
        return oracle_fail(oracle, "a transaction began on %llu, which is not in the history (the last is %llu)",
                           (unsigned long long)k, (unsigned long long)oracle->versions[oracle->tip].k);
    *version = found;
    if (!drop_above(oracle, found))
        return false;
    see(oracle, found);
    return true;
}

uint32_t oracle_commit(struct oracle *oracle, uint32_t base, struct ph_model *model)
{
    uint32_t version = append(oracle, base, oracle->versions[base].k + 1, model);
    set_tip(oracle, version);
    return version;
}

bool oracle_aborted(struct oracle *oracle, uint32_t version)
{
    if (oracle->versions[version].gone)
        return true;
    if (oracle->versions[version].known)
        return oracle_fail(oracle, "the commit of transaction %llu says that it was aborted, but others have seen it",
                           (unsigned long long)oracle->versions[version].k);
    bool good = drop_above(oracle, oracle->versions[version].parent);
    oracle->latent = 0; /* it will never be */
    return good;
}

bool oracle_acknowledged(struct oracle *oracle, uint32_t version, bool durable)
{
    if (oracle->versions[version].gone && !(oracle->forgiving && !durable))
        return oracle_fail(oracle, "transaction %llu is acknowledged, but another one has begun without it",
                           (unsigned long long)oracle->versions[version].k);
    if (oracle->versions[version].gone)
        return true;
    see(oracle, version);
    if (durable)
        oracle_durable(oracle, version);
    return true;
}

void oracle_durable(struct oracle *oracle, uint32_t version)
{
    if (oracle->versions[version].k <= oracle->versions[oracle->durable].k)
        return;
    oracle->durable = version;
    ph_sim_note(oracle->sim, ORACLE_NOTE_DURABLE, version);
}

/* Which version of the history up to `tip` the snapshot shows, if it shows it truly. */
static bool identify(struct oracle *oracle, const pheap_read *reader, uint32_t tip, uint32_t *version)
{
    uint64_t k = 0;
    char place[200] = "";
    if (!ph_model_number(reader, &k, place, sizeof place))
        return oracle_fail(oracle, "%s", place);
    if (tip == oracle->tip) {
        come_back(oracle, k);
        tip = oracle->tip;
    }
    uint32_t found = find(oracle, tip, k);
    if (found == UINT32_MAX)
        return oracle_fail(oracle, "transaction %llu is not in the history (the last is %llu)", (unsigned long long)k,
                           (unsigned long long)oracle->versions[tip].k);
    if (pheap_read_version(reader) != k)
        return oracle_fail(oracle, "version %llu shows transaction %llu",
                           (unsigned long long)pheap_read_version(reader), (unsigned long long)k);
    *version = found;
    return ph_model_verify(oracle->versions[found].model, reader, place, sizeof place) ||
           oracle_fail(oracle, "after transaction %llu: %s", (unsigned long long)k, place);
}

bool oracle_read(struct oracle *oracle, const pheap_read *reader, uint32_t least, uint32_t *version)
{
    if (!identify(oracle, reader, oracle->tip, version))
        return false;
    if (oracle->versions[*version].k < oracle->versions[least].k && !oracle->forgiving)
        return oracle_fail(oracle, "a reader sees transaction %llu as the last, but %llu was there before it began",
                           (unsigned long long)oracle->versions[*version].k,
                           (unsigned long long)oracle->versions[least].k);
    see(oracle, *version);
    return true;
}

bool oracle_read_again(struct oracle *oracle, const pheap_read *reader, uint32_t version)
{
    uint32_t found;
    if (!identify(oracle, reader, version, &found))
        return false;
    return found == version ||
           oracle_fail(oracle, "a snapshot of transaction %llu has become one of %llu",
                       (unsigned long long)oracle->versions[version].k, (unsigned long long)oracle->versions[found].k);
}

bool oracle_recovered(struct oracle *oracle, pheap *heap, uint32_t least, uint32_t tip, uint32_t *version)
{
    pheap_read *reader = NULL;
    enum pheap_status status = pheap_read_begin(heap, PHEAP_FRESH, &reader);
    if (status != PHEAP_OK)
        return oracle_fail(oracle, "read: %s: %s", pheap_status_name(status), pheap_error_detail());
    bool good = identify(oracle, reader, tip, version);
    (void)pheap_read_end(reader);
    if (good && oracle->versions[*version].k < oracle->versions[least].k)
        return oracle_fail(oracle, "transaction %llu is the last, but %llu was acknowledged",
                           (unsigned long long)oracle->versions[*version].k,
                           (unsigned long long)oracle->versions[least].k);
    return good;
}

void oracle_go_on(struct oracle *oracle, struct ph_sim *sim, uint32_t version)
{
    oracle->sim = sim;
    oracle->tip = oracle->durable = version;
    oracle->latent = 0;
    ph_sim_note(sim, ORACLE_NOTE_TIP, version);
    ph_sim_note(sim, ORACLE_NOTE_DURABLE, version);
}
