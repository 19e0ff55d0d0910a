/* SPDX-License-Identifier: MIT */
/* The oracle of acknowledged history. */
#include "tests/process/oracle.h"

#include "tests/support/dice.h"

#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define OBJECTS ORACLE_OBJECTS
#define COUNTERS ORACLE_COUNTERS
#define BALLAST_BYTES (ORACLE_BALLAST_WORDS * sizeof(uint64_t))

static struct oracle *shared;

void oracle_use(struct oracle *oracle)
{
    shared = oracle;
}

void oracle_restart(uint64_t seed)
{
    memset(shared, 0, sizeof *shared);
    shared->seed = seed;
}

void oracle_give_up(const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    (void)vsnprintf(shared->error, sizeof shared->error, format, arguments);
    va_end(arguments);
    (void)fprintf(stderr, "%s\n", shared->error);
    _exit(3);
}

void oracle_must(enum pheap_status status, const char *what)
{
    if (status != PHEAP_OK) {
        oracle_give_up("%s: %s: %s", what, pheap_status_name(status), pheap_error_detail());
    }
}

static void raise_to(_Atomic uint64_t *mark, uint64_t value)
{
    uint64_t now = atomic_load(mark);
    while (now < value && !atomic_compare_exchange_weak(mark, &now, value)) {
    }
}

uint64_t oracle_mix(uint64_t a, uint64_t b)
{
    return dice_mix(shared->seed + a * 0x9e3779b97f4a7c15u + b * 0xd1342543de82ef95u);
}

/* ----------------------------------------------------------------------------------------------- what is in the heap */

struct root {
    uint64_t sequence; /* k */
    uint64_t hash;     /* hash_of(k) */
    uint64_t objects[OBJECTS];
    uint64_t counters[COUNTERS];
    uint64_t ballast;
    uint64_t ballast_stamp; /* the transaction that wrote it last */
};

struct object {
    uint64_t stamp; /* the transaction that wrote it */
    uint64_t birth; /* the transaction that allocated it, which fixes its length */
    uint64_t check;
    uint64_t words[];
};

static uint64_t hash_of(uint64_t k)
{
    return oracle_mix(k, 1);
}

static uint64_t words_of(unsigned object, uint64_t birth)
{
    const uint64_t random = oracle_mix(birth, 100 + object);
    /* Mostly small, but object 0 is often beyond the largest slab. */
    if (object == 0 && random % 3 == 0) {
        return 4200 + random / 3 % 800;
    }
    return random % 7 == 0 ? random / 7 % 400 : random % 40;
}

static uint64_t bytes_of(unsigned object, uint64_t birth)
{
    return sizeof(struct object) + words_of(object, birth) * sizeof(uint64_t);
}

static void make_object(struct object *to, unsigned object, uint64_t stamp, uint64_t birth)
{
    to->stamp = stamp;
    to->birth = birth;
    to->check = oracle_mix(stamp, oracle_mix(birth, object));
    const uint64_t count = words_of(object, birth);
    for (uint64_t i = 0; i < count; i++) {
        to->words[i] = to->check + i * 0x9e3779b97f4a7c15u;
    }
}

/* ------------------------------------------------------------------------------------------- transaction k, as a plan */

struct plan {
    unsigned count;
    struct {
        unsigned object;
        bool move;
    } changes[OBJECTS];
    unsigned up;
    unsigned down;
    uint64_t amount;
    bool durable;
    bool spoil; /* savepoint, spoil, roll back */
    bool abort; /* do it once and abort, then again */
};

static struct plan make_plan(uint64_t k)
{
    struct plan plan = {0};
    uint64_t turn = 1000;
    bool taken[OBJECTS] = {false};
    /* Every 300th or so is larger than the log buffer. */
    const uint64_t size = oracle_mix(k, 2);
    const unsigned wanted = size % 307 == 0 ? OBJECTS : size % 37 == 0 ? 12 : 1 + (unsigned)(size / 37 % 4);
    for (unsigned i = 0; i < wanted; i++) {
        const uint64_t random = oracle_mix(k, turn++);
        const unsigned object = (unsigned)(random % OBJECTS);
        if (!taken[object]) {
            taken[object] = true;
            plan.changes[plan.count].object = object;
            plan.changes[plan.count++].move = random / OBJECTS % 3 == 0;
        }
    }
    plan.up = (unsigned)(oracle_mix(k, 3) % COUNTERS);
    plan.down = (unsigned)(oracle_mix(k, 4) % COUNTERS);
    plan.amount = oracle_mix(k, 5) % 1000;
    plan.durable = oracle_mix(k, 6) % 48 == 0;
    plan.spoil = oracle_mix(k, 7) % 13 == 0;
    plan.abort = oracle_mix(k, 8) % 17 == 0;
    return plan;
}

static void advance_model(struct oracle_model *model, uint64_t to)
{
    while (model->k < to) {
        const struct plan plan = make_plan(++model->k);
        for (unsigned i = 0; i < plan.count; i++) {
            const unsigned object = plan.changes[i].object;
            model->stamp[object] = model->k;
            if (plan.changes[i].move) {
                model->birth[object] = model->k;
            }
        }
        model->counters[plan.up] += plan.amount;
        model->counters[plan.down] -= plan.amount;
    }
}

/* -------------------------------------------------------------------------------------------------- transactions */

static void make_ballast(uint64_t *words, uint64_t k)
{
    for (uint64_t i = 0; i < ORACLE_BALLAST_WORDS; i++) {
        words[i] = hash_of(k) + i;
    }
}

/* Where an object is and what it should be; a wrong one was lost or torn on its way to this process. */
static struct object *find_object(pheap_txn *txn, uint64_t offset, unsigned object, uint64_t k)
{
    struct object *found = pheap_ptr(txn, offset);
    if (found->stamp >= k || found->birth > found->stamp ||
        found->check != oracle_mix(found->stamp, oracle_mix(found->birth, object))) {
        oracle_give_up("transaction %llu sees object %u of transaction %llu, born in %llu", (unsigned long long)k,
                       object, (unsigned long long)found->stamp, (unsigned long long)found->birth);
    }
    return found;
}

static void change_object(pheap_txn *txn, uint64_t root, unsigned object, bool move, uint64_t k)
{
    const uint64_t slot = root + offsetof(struct root, objects) + object * sizeof(uint64_t);
    uint64_t offset;
    memcpy(&offset, pheap_ptr(txn, slot), sizeof offset);
    const uint64_t birth = find_object(txn, offset, object, k)->birth;
    if (move) {
        oracle_must(pheap_free(txn, offset), "free");
        oracle_must(pheap_alloc(txn, bytes_of(object, k), &offset), "alloc");
        make_object(pheap_ptr(txn, offset), object, k, k);
        oracle_must(pheap_write(txn, slot, &offset, sizeof offset), "write");
    } else {
        void *address;
        oracle_must(pheap_edit(txn, offset, bytes_of(object, birth), &address), "edit");
        make_object(address, object, k, birth);
    }
}

static void spoil(pheap_txn *txn, uint64_t root, uint64_t k)
{
    uint32_t savepoint;
    uint64_t junk;
    struct root *now = pheap_ptr(txn, root);
    oracle_must(pheap_savepoint(txn, &savepoint), "savepoint");
    for (unsigned i = 0; i < 3; i++) {
        oracle_must(pheap_fill(txn, now->objects[oracle_mix(k, 20 + i) % OBJECTS], 0xee, sizeof(struct object)),
                    "fill");
    }
    oracle_must(pheap_free(txn, now->objects[oracle_mix(k, 30) % OBJECTS]), "free");
    oracle_must(pheap_alloc(txn, 1 + oracle_mix(k, 31) % 20000, &junk), "alloc");
    oracle_must(pheap_fill(txn, junk, 0xdd, 1), "fill");
    oracle_must(pheap_fill(txn, root + offsetof(struct root, counters), 0xcc, sizeof now->counters), "fill");
    oracle_must(pheap_rollback(txn, savepoint), "rollback");
}

static void apply_plan(pheap_txn *txn, uint64_t root, const struct plan *plan, uint64_t k)
{
    for (unsigned i = 0; i < plan->count; i++) {
        change_object(txn, root, plan->changes[i].object, plan->changes[i].move, k);
        if (plan->spoil && i == plan->count / 2) {
            spoil(txn, root, k);
        }
    }
    void *address;
    oracle_must(pheap_edit(txn, root, 2 * sizeof(uint64_t), &address), "edit");
    struct root *now = address;
    now->sequence = k;
    now->hash = hash_of(k);
    oracle_must(pheap_edit(txn, root + offsetof(struct root, counters) + plan->up * sizeof(uint64_t), 8, NULL), "edit");
    oracle_must(pheap_edit(txn, root + offsetof(struct root, counters) + plan->down * sizeof(uint64_t), 8, NULL),
                "edit");
    now->counters[plan->up] += plan->amount;
    now->counters[plan->down] -= plan->amount;
}

static void change_ballast(pheap_txn *txn, uint64_t root, uint64_t k)
{
    void *address;
    struct root *now = pheap_ptr(txn, root);
    oracle_must(pheap_edit(txn, root + offsetof(struct root, ballast_stamp), 8, NULL), "edit");
    now->ballast_stamp = k;
    oracle_must(pheap_edit(txn, now->ballast, BALLAST_BYTES, &address), "edit");
    make_ballast(address, k);
}

static enum pheap_status begin_within(pheap *heap, int64_t timeout_ms, pheap_txn **txn)
{
    return timeout_ms < 0 ? pheap_begin(heap, txn) : pheap_begin_timeout(heap, timeout_ms, txn);
}

enum pheap_status oracle_create(pheap *heap, int64_t timeout_ms)
{
    pheap_txn *txn;
    uint64_t offset;
    uint64_t version;
    const enum pheap_status status = begin_within(heap, timeout_ms, &txn);
    if (status == PHEAP_LOG_FULL || (status == PHEAP_TIMEOUT && timeout_ms >= 0)) {
        return status;
    }
    oracle_must(status, "begin");
    if (pheap_root(txn) != 0) {
        oracle_must(pheap_abort(txn), "abort");
        return PHEAP_OK;
    }
    if (atomic_load(&shared->born) != 0) {
        oracle_give_up("the heap is empty, though its first commit was acknowledged");
    }
    oracle_must(pheap_zalloc(txn, sizeof(struct root), &offset), "alloc");
    oracle_must(pheap_set_root(txn, offset), "set_root");
    struct root *root = pheap_ptr(txn, offset);
    root->hash = hash_of(0);
    for (unsigned i = 0; i < OBJECTS; i++) {
        oracle_must(pheap_alloc(txn, bytes_of(i, 0), &root->objects[i]), "alloc");
        make_object(pheap_ptr(txn, root->objects[i]), i, 0, 0);
    }
    oracle_must(pheap_alloc(txn, BALLAST_BYTES, &root->ballast), "alloc");
    make_ballast(pheap_ptr(txn, root->ballast), 0);
    oracle_must(pheap_commit(txn, PHEAP_DURABLE, &version), "commit");
    if (version != ORACLE_FIRST) {
        oracle_give_up("the first commit has the number %llu", (unsigned long long)version);
    }
    atomic_store(&shared->born, 1);
    return PHEAP_OK;
}

/* Begin and look where the history is: the number of the transaction to do now. */
static enum pheap_status begin_next(pheap *heap, int64_t timeout_ms, pheap_txn **txn, uint64_t *k)
{
    const enum pheap_status status = begin_within(heap, timeout_ms, txn);
    if (status == PHEAP_LOG_FULL || (status == PHEAP_TIMEOUT && timeout_ms >= 0)) {
        return status;
    }
    oracle_must(status, "begin");
    const struct root *now = pheap_ptr(*txn, pheap_root(*txn));
    if (now->hash != hash_of(now->sequence)) {
        oracle_give_up("the root of transaction %llu is torn", (unsigned long long)now->sequence);
    }
    *k = now->sequence + 1;
    return PHEAP_OK;
}

static enum pheap_status count_full(enum pheap_status status)
{
    if (status == PHEAP_LOG_FULL) {
        atomic_fetch_add(&shared->log_full, 1); /* somebody's snapshot holds the log for the moment */
    }
    return status;
}

enum pheap_status oracle_commit(pheap *heap, int64_t timeout_ms, unsigned flags)
{
    uint64_t k;
    uint64_t version;
    pheap_txn *txn;
    enum pheap_status status = begin_next(heap, timeout_ms, &txn, &k);
    if (status != PHEAP_OK) {
        return count_full(status);
    }
    struct plan plan = make_plan(k);
    if (plan.abort) {
        apply_plan(txn, pheap_root(txn), &plan, k);
        oracle_must(pheap_abort(txn), "abort");
        status = begin_next(heap, timeout_ms, &txn, &k);
        if (status != PHEAP_OK) {
            return count_full(status);
        }
        plan = make_plan(k);
    }
    apply_plan(txn, pheap_root(txn), &plan, k);
    if ((flags & ORACLE_LARGE) != 0) {
        change_ballast(txn, pheap_root(txn), k);
    }
    const bool durable = (flags & ORACLE_DURABLE) != 0 || ((flags & ORACLE_LAZY) == 0 && plan.durable);
    raise_to(&shared->started, k);
    status = pheap_commit(txn, durable ? PHEAP_DURABLE : PHEAP_LAZY, &version);
    if (status == PHEAP_LOG_FULL) {
        return count_full(status);
    }
    oracle_must(status, "commit");
    if (version != ORACLE_FIRST + k) {
        oracle_give_up("transaction %llu is commit %llu", (unsigned long long)k, (unsigned long long)version);
    }
    raise_to(&shared->acknowledged, k);
    return PHEAP_OK;
}

/* ------------------------------------------------------------------------------------------------------ snapshots */

/* The block as that transaction left it; false if it is not. */
static bool object_is(const pheap_read *reader, uint64_t offset, unsigned object, uint64_t stamp, uint64_t birth)
{
    static uint64_t expected[(sizeof(struct object) / 8) + 5000];
    const uint64_t length = bytes_of(object, birth);
    const void *found;
    oracle_must(pheap_read_range(reader, offset, length, &found), "the range of an object");
    make_object((struct object *)(void *)expected, object, stamp, birth);
    return memcmp(found, expected, length) == 0;
}

static void check_ballast(const pheap_read *reader, const struct root *now)
{
    const uint64_t *words = pheap_read_ptr(reader, now->ballast);
    for (uint64_t i = 0; i < ORACLE_BALLAST_WORDS; i++) {
        if (words[i] != hash_of(now->ballast_stamp) + i) {
            oracle_give_up("word %llu of the ballast is not as transaction %llu left it", (unsigned long long)i,
                           (unsigned long long)now->ballast_stamp);
        }
    }
}

static const struct root *check_root(const pheap_read *reader)
{
    const struct root *now = pheap_read_ptr(reader, pheap_read_root(reader));
    if (now->hash != hash_of(now->sequence) || now->sequence + ORACLE_FIRST != pheap_read_version(reader) ||
        now->ballast_stamp > now->sequence) {
        oracle_give_up("the root of transaction %llu is torn, or commit %llu is not its number",
                       (unsigned long long)now->sequence, (unsigned long long)pheap_read_version(reader));
    }
    check_ballast(reader, now);
    return now;
}

void oracle_glance(const pheap_read *reader)
{
    if (pheap_read_root(reader) == 0) {
        return;
    }
    const struct root *now = check_root(reader);
    uint64_t sum = 0;
    for (unsigned i = 0; i < COUNTERS; i++) {
        sum += now->counters[i];
    }
    if (sum != 0) {
        oracle_give_up("the counters of transaction %llu are torn", (unsigned long long)now->sequence);
    }
    for (unsigned i = 0; i < OBJECTS; i++) {
        const struct object *found = pheap_read_ptr(reader, now->objects[i]);
        if (found->birth > found->stamp || found->stamp > now->sequence ||
            !object_is(reader, now->objects[i], i, found->stamp, found->birth)) {
            oracle_give_up("a snapshot of transaction %llu has object %u torn", (unsigned long long)now->sequence, i);
        }
    }
}

static void verify_blocks(const pheap_read *reader, const struct root *now)
{
    uint64_t from = 0;
    uint64_t length = 0;
    uint64_t offset = 0;
    unsigned blocks = 0;
    unsigned known = 0;
    enum pheap_status status;
    while ((status = pheap_read_next_block(reader, from, &offset, &length)) == PHEAP_OK) {
        blocks++;
        known += offset == pheap_read_root(reader) || offset == now->ballast;
        for (unsigned i = 0; i < OBJECTS; i++) {
            known += offset == now->objects[i];
        }
        from = offset + length;
    }
    if (status != PHEAP_END || blocks != OBJECTS + 2 || known != blocks) {
        oracle_give_up("%u live blocks, %u of them known, ended by %s", blocks, known, pheap_status_name(status));
    }
}

static void report_fault(void *context, uint64_t offset, const char *text)
{
    (void)context;
    (void)fprintf(stderr, "check: at %llu: %s\n", (unsigned long long)offset, text);
}

static void verify_snapshot(const pheap_read *reader, uint64_t acknowledged, uint64_t started)
{
    struct oracle_model *model = &shared->model;
    const struct root *now = check_root(reader);
    const uint64_t k = now->sequence;
    if (k < acknowledged || k > started || k < model->k) {
        oracle_give_up("the heap shows %llu transactions; %llu were acknowledged, %llu started, %llu seen before",
                       (unsigned long long)k, (unsigned long long)acknowledged, (unsigned long long)started,
                       (unsigned long long)model->k);
    }
    advance_model(model, k);
    if (memcmp(now->counters, model->counters, sizeof now->counters) != 0) {
        oracle_give_up("the counters are not those of transaction %llu", (unsigned long long)k);
    }
    for (unsigned i = 0; i < OBJECTS; i++) {
        if (!object_is(reader, now->objects[i], i, model->stamp[i], model->birth[i])) {
            oracle_give_up("object %u at %llu is not as transaction %llu left it (k = %llu)", i,
                           (unsigned long long)now->objects[i], (unsigned long long)model->stamp[i],
                           (unsigned long long)k);
        }
    }
    verify_blocks(reader, now);
}

void oracle_verify(pheap *heap)
{
    const uint64_t acknowledged = atomic_load(&shared->acknowledged);
    const bool born = atomic_load(&shared->born) != 0;
    pheap_read *reader;
    oracle_must(pheap_read_begin(heap, PHEAP_FRESH, &reader), "read");
    if (pheap_read_root(reader) != 0) {
        verify_snapshot(reader, acknowledged, atomic_load(&shared->started));
    } else if (born) {
        oracle_give_up("the heap is empty, though its first commit was acknowledged");
    }
    oracle_must(pheap_check(reader, report_fault, NULL, NULL), "check");
    (void)pheap_read_end(reader);
    const struct pheap_scrub_options scrub = {.size = sizeof scrub, .fault = report_fault};
    const enum pheap_status scrubbed = pheap_scrub(heap, &scrub, NULL);
    if (scrubbed != PHEAP_UNSUPPORTED) { /* it has checksums */
        oracle_must(scrubbed, "scrub");
    }
}
