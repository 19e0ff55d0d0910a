/* SPDX-License-Identifier: MIT */
/*
 * kill -9 of real processes at random moments, against an acknowledged-history oracle.
 *
 * Two processes take turns writing one heap.  Transaction k is a function of the seed and k alone: it rewrites some
 * objects in place, moves others (free, allocate, change the offset), adds to one counter and subtracts from another,
 * and stores k in the root; some take a savepoint, spoil things and roll back, some are aborted first.  So the heap
 * after k transactions is known exactly.  Before a commit its process raises `started` in memory shared with the test,
 * after it `acknowledged`.  After each kill a fresh process takes a snapshot and proves:
 *
 *   - the heap is the model after exactly k transactions, last acknowledged <= k <= last started, byte for byte;
 *   - the commit number is k too, every object is one live block, and nothing else is alive;
 *   - pheap_check finds no fault, nor does pheap_scrub where the heap has checksums.
 *
 * The survivor goes on without reopening.  Sometimes both are killed, and then those that recover as well.  Small logs
 * and buffers make the kills fall into laps, flushes, folds, checkpoints and segment recycling too.
 *
 * PHEAP_TEST_SEED repeats the choices of a run (the kernel's scheduling, of course, not); PHEAP_TEST_KILLS sets their
 * number.
 */
#include "tests/public.h"
#include "tests/support/dice.h"

#define OBJECTS 40u
#define COUNTERS 256u
#define WRITERS 2u
#define DEFAULT_KILLS 560u
#define HANG_SECONDS 60u

/* ----------------------------------------------------------------------------------------------- what is in the heap */

struct root {
    uint64_t sequence; /* k */
    uint64_t hash;     /* hash_of(k) */
    uint64_t objects[OBJECTS];
    uint64_t counters[COUNTERS];
};

struct object {
    uint64_t stamp; /* the transaction that wrote it */
    uint64_t birth; /* the transaction that allocated it, which fixes its length */
    uint64_t check;
    uint64_t words[];
};

/* What the test and its children share. */
struct shared {
    _Atomic uint64_t started;
    _Atomic uint64_t acknowledged;
    _Atomic uint64_t verified;          /* k that the last verifier found */
    _Atomic uint64_t progress[WRITERS]; /* transactions by the writer in this seat, over all its lives */
    _Atomic uint64_t log_full;
    _Atomic uint64_t recoveries;
    char error[1024];
};

static struct shared *shared;
static uint64_t seed;
static uint64_t base_version; /* of the commit that made the root */

static uint64_t mix(uint64_t a, uint64_t b)
{
    return dice_mix(seed + a * 0x9e3779b97f4a7c15u + b * 0xd1342543de82ef95u);
}

static uint64_t hash_of(uint64_t k)
{
    return mix(k, 1);
}

static uint64_t words_of(unsigned object, uint64_t birth)
{
    const uint64_t random = mix(birth, 100 + object);
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
    to->check = mix(stamp, mix(birth, object));
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
    const uint64_t size = mix(k, 2);
    const unsigned wanted = size % 307 == 0 ? OBJECTS : size % 37 == 0 ? 12 : 1 + (unsigned)(size / 37 % 4);
    for (unsigned i = 0; i < wanted; i++) {
        const uint64_t random = mix(k, turn++);
        const unsigned object = (unsigned)(random % OBJECTS);
        if (!taken[object]) {
            taken[object] = true;
            plan.changes[plan.count].object = object;
            plan.changes[plan.count++].move = random / OBJECTS % 3 == 0;
        }
    }
    plan.up = (unsigned)(mix(k, 3) % COUNTERS);
    plan.down = (unsigned)(mix(k, 4) % COUNTERS);
    plan.amount = mix(k, 5) % 1000;
    plan.durable = mix(k, 6) % 48 == 0;
    plan.spoil = mix(k, 7) % 13 == 0;
    plan.abort = mix(k, 8) % 17 == 0;
    return plan;
}

/* The heap after k transactions. */
struct model {
    uint64_t k;
    uint64_t stamp[OBJECTS];
    uint64_t birth[OBJECTS];
    uint64_t counters[COUNTERS];
};

static void advance_model(struct model *model, uint64_t to)
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

/* -------------------------------------------------------------------------------------------------------- writers */

__attribute__((noreturn, format(printf, 1, 2))) static void give_up(const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    (void)vsnprintf(shared->error, sizeof shared->error, format, arguments);
    va_end(arguments);
    (void)fprintf(stderr, "%s\n", shared->error);
    _exit(3);
}

static void must(enum pheap_status status, const char *what)
{
    if (status != PHEAP_OK) {
        give_up("%s: %s: %s", what, pheap_status_name(status), pheap_error_detail());
    }
}

/* Where an object is and what it should be; a wrong one was lost or torn on its way to this process. */
static struct object *find_object(pheap_txn *txn, uint64_t offset, unsigned object, uint64_t k)
{
    struct object *found = pheap_ptr(txn, offset);
    if (found->stamp >= k || found->birth > found->stamp ||
        found->check != mix(found->stamp, mix(found->birth, object))) {
        give_up("transaction %llu sees object %u of transaction %llu, born in %llu", (unsigned long long)k, object,
                (unsigned long long)found->stamp, (unsigned long long)found->birth);
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
        must(pheap_free(txn, offset), "free");
        must(pheap_alloc(txn, bytes_of(object, k), &offset), "alloc");
        make_object(pheap_ptr(txn, offset), object, k, k);
        must(pheap_write(txn, slot, &offset, sizeof offset), "write");
    } else {
        void *address;
        must(pheap_edit(txn, offset, bytes_of(object, birth), &address), "edit");
        make_object(address, object, k, birth);
    }
}

static void spoil(pheap_txn *txn, uint64_t root, uint64_t k)
{
    uint32_t savepoint;
    uint64_t junk;
    struct root *now = pheap_ptr(txn, root);
    must(pheap_savepoint(txn, &savepoint), "savepoint");
    for (unsigned i = 0; i < 3; i++) {
        must(pheap_fill(txn, now->objects[mix(k, 20 + i) % OBJECTS], 0xee, sizeof(struct object)), "fill");
    }
    must(pheap_free(txn, now->objects[mix(k, 30) % OBJECTS]), "free");
    must(pheap_alloc(txn, 1 + mix(k, 31) % 20000, &junk), "alloc");
    must(pheap_fill(txn, junk, 0xdd, 1), "fill");
    must(pheap_fill(txn, root + offsetof(struct root, counters), 0xcc, sizeof now->counters), "fill");
    must(pheap_rollback(txn, savepoint), "rollback");
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
    must(pheap_edit(txn, root, 2 * sizeof(uint64_t), &address), "edit");
    struct root *now = address;
    now->sequence = k;
    now->hash = hash_of(k);
    must(pheap_edit(txn, root + offsetof(struct root, counters) + plan->up * sizeof(uint64_t), 8, NULL), "edit");
    must(pheap_edit(txn, root + offsetof(struct root, counters) + plan->down * sizeof(uint64_t), 8, NULL), "edit");
    now->counters[plan->up] += plan->amount;
    now->counters[plan->down] -= plan->amount;
}

/* Begin and look where the history is: the number of the transaction to do now. */
static pheap_txn *begin_next(pheap *heap, uint64_t *k)
{
    pheap_txn *txn;
    enum pheap_status status;
    while ((status = pheap_begin(heap, &txn)) == PHEAP_LOG_FULL) {
        atomic_fetch_add(&shared->log_full, 1); /* somebody's snapshot holds the log for the moment */
    }
    must(status, "begin");
    const struct root *now = pheap_ptr(txn, pheap_root(txn));
    if (now->hash != hash_of(now->sequence)) {
        give_up("the root of transaction %llu is torn", (unsigned long long)now->sequence);
    }
    *k = now->sequence + 1;
    return txn;
}

static void do_transaction(pheap *heap)
{
    uint64_t k;
    uint64_t version;
    pheap_txn *txn = begin_next(heap, &k);
    struct plan plan = make_plan(k);
    if (plan.abort) {
        apply_plan(txn, pheap_root(txn), &plan, k);
        must(pheap_abort(txn), "abort");
        txn = begin_next(heap, &k);
        plan = make_plan(k);
    }
    apply_plan(txn, pheap_root(txn), &plan, k);
    raise_to(&shared->started, k);
    const enum pheap_status status = pheap_commit(txn, plan.durable ? PHEAP_DURABLE : PHEAP_LAZY, &version);
    if (status == PHEAP_LOG_FULL) {
        atomic_fetch_add(&shared->log_full, 1);
        return;
    }
    must(status, "commit");
    if (version != base_version + k) {
        give_up("transaction %llu is commit %llu after %llu", (unsigned long long)k, (unsigned long long)version,
                (unsigned long long)base_version);
    }
    raise_to(&shared->acknowledged, k);
}

/* Besides committing, a writer reads, folds, checkpoints and syncs, so that it is killed there as well. */
static void do_other_work(pheap *heap, uint64_t random)
{
    switch (random % 64) {
    case 0:
        must(pheap_fold(heap), "fold");
        break;
    case 1:
        must(pheap_checkpoint(heap), "checkpoint");
        break;
    case 2:
        must(pheap_sync(heap), "sync");
        break;
    case 3:
        must(pheap_maintain(heap), "maintain");
        break;
    case 4:
    case 5: {
        pheap_read *reader;
        must(pheap_read_begin(heap, 0, &reader), "read");
        const struct root *now = pheap_read_ptr(reader, pheap_read_root(reader));
        uint64_t sum = 0;
        for (unsigned i = 0; i < COUNTERS; i++) {
            sum += now->counters[i];
        }
        if (sum != 0 || now->hash != hash_of(now->sequence) ||
            now->sequence + base_version != pheap_read_version(reader)) {
            give_up("a snapshot of transaction %llu is torn", (unsigned long long)now->sequence);
        }
        pheap_read_end(reader);
        break;
    }
    default:
        break;
    }
}

static pheap *open_or_give_up(const char *path)
{
    const struct pheap_options options = {.size = sizeof options, .reserve_bytes = 1u << 30};
    pheap *heap;
    must(pheap_open(path, 0, &options, &heap), "open");
    struct pheap_info info = {.size = sizeof info};
    must(pheap_get_info(heap, &info), "info");
    atomic_fetch_add(&shared->recoveries, info.recovered);
    return heap;
}

static void run_writer(const char *path, unsigned writer, uint64_t life)
{
    pheap *heap = open_or_give_up(path);
    for (uint64_t turn = 0;; turn++) {
        do_transaction(heap);
        atomic_fetch_add(&shared->progress[writer], 1);
        do_other_work(heap, mix(life, turn));
    }
}

/* ------------------------------------------------------------------------------------------------------- verifier */

static void verify_object(const pheap_read *reader, uint64_t offset, unsigned object, const struct model *model)
{
    static uint64_t expected[(sizeof(struct object) / 8) + 5000];
    const uint64_t length = bytes_of(object, model->birth[object]);
    const void *found;
    must(pheap_read_range(reader, offset, length, &found), "the range of an object");
    make_object((struct object *)(void *)expected, object, model->stamp[object], model->birth[object]);
    if (memcmp(found, expected, length) != 0) {
        give_up("object %u at %llu is not as transaction %llu left it (k = %llu)", object, (unsigned long long)offset,
                (unsigned long long)model->stamp[object], (unsigned long long)model->k);
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
        known += offset == pheap_read_root(reader);
        for (unsigned i = 0; i < OBJECTS; i++) {
            known += offset == now->objects[i];
        }
        from = offset + length;
    }
    if (status != PHEAP_END || blocks != OBJECTS + 1 || known != blocks) {
        give_up("%u live blocks, %u of them known, ended by %s", blocks, known, pheap_status_name(status));
    }
}

static void report_fault(void *context, uint64_t offset, const char *text)
{
    (void)context;
    (void)fprintf(stderr, "check: at %llu: %s\n", (unsigned long long)offset, text);
}

static void run_verifier(const char *path, struct model *model)
{
    pheap *heap = open_or_give_up(path);
    const uint64_t acknowledged = atomic_load(&shared->acknowledged);
    pheap_read *reader;
    must(pheap_read_begin(heap, PHEAP_FRESH, &reader), "read");
    const uint64_t started = atomic_load(&shared->started);
    const struct root *now = pheap_read_ptr(reader, pheap_read_root(reader));
    const uint64_t k = now->sequence;
    if (k < acknowledged || k > started || k < model->k) {
        give_up("the heap shows %llu transactions; %llu were acknowledged, %llu started, %llu seen before",
                (unsigned long long)k, (unsigned long long)acknowledged, (unsigned long long)started,
                (unsigned long long)model->k);
    }
    if (now->hash != hash_of(k) || pheap_read_version(reader) != base_version + k) {
        give_up("the root of transaction %llu is torn, or commit %llu is not its number", (unsigned long long)k,
                (unsigned long long)pheap_read_version(reader));
    }
    advance_model(model, k);
    if (memcmp(now->counters, model->counters, sizeof now->counters) != 0) {
        give_up("the counters are not those of transaction %llu", (unsigned long long)k);
    }
    for (unsigned i = 0; i < OBJECTS; i++) {
        verify_object(reader, now->objects[i], i, model);
    }
    verify_blocks(reader, now);
    must(pheap_check(reader, report_fault, NULL, NULL), "check");
    pheap_read_end(reader);
    const struct pheap_scrub_options scrub = {.size = sizeof scrub, .fault = report_fault};
    const enum pheap_status scrubbed = pheap_scrub(heap, &scrub, NULL);
    if (scrubbed != PHEAP_UNSUPPORTED) {
        must(scrubbed, "scrub");
    }
    must(pheap_close(heap), "close");
    atomic_store(&shared->verified, k);
}

/* ------------------------------------------------------------------------------------------------------ the driver */

enum role { ROLE_WRITER, ROLE_VERIFIER, ROLE_OPENER };

static pid_t start_process(const char *path, enum role role, unsigned writer, uint64_t life, struct model *model)
{
    (void)fflush(NULL);
    const pid_t pid = fork();
    require(pid >= 0);
    if (pid != 0) {
        return pid;
    }
    (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
    switch (role) {
    case ROLE_WRITER:
        run_writer(path, writer, life);
        break;
    case ROLE_VERIFIER:
        run_verifier(path, model);
        break;
    case ROLE_OPENER:
        must(pheap_close(open_or_give_up(path)), "close");
        break;
    }
    _exit(0);
}

/* Kill if it is still there; a process that ended by itself must have ended well. */
static void kill_process(pid_t pid)
{
    int status = 0;
    require(kill(pid, SIGKILL) == 0);
    require(waitpid(pid, &status, 0) == pid);
    if (!(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL) && status != 0) {
        check_failed(__FILE__, __LINE__, "a process ended by itself, status 0x%x: %s", (unsigned)status, shared->error);
    }
}

/* Wait for a process to end well, but not for ever: a lost lock shows as a hang. */
static void wait_for_process(pid_t pid, const char *what)
{
    int status = 0;
    for (unsigned i = 0; i < HANG_SECONDS * 1000; i++) {
        const pid_t ended = waitpid(pid, &status, WNOHANG);
        require(ended >= 0);
        if (ended == pid) {
            if (status != 0) {
                check_failed(__FILE__, __LINE__, "%s: status 0x%x: %s", what, (unsigned)status, shared->error);
            }
            return;
        }
        pause_us(i < 200 ? 100 : 1000);
    }
    (void)kill(pid, SIGKILL);
    (void)waitpid(pid, NULL, 0);
    check_failed(__FILE__, __LINE__, "%s hangs", what);
}

/* Each writer does at least one more transaction: nobody waits for a lock that a dead process took along. */
static void expect_progress(const pid_t *writers)
{
    for (unsigned i = 0; i < WRITERS; i++) {
        const uint64_t before = atomic_load(&shared->progress[i]);
        for (unsigned j = 0; atomic_load(&shared->progress[i]) == before; j++) {
            int status = 0;
            if (waitpid(writers[i], &status, WNOHANG) != 0) {
                check_failed(__FILE__, __LINE__, "writer %u ended by itself, status 0x%x: %s", i, (unsigned)status,
                             shared->error);
            }
            if (j == HANG_SECONDS * 1000) {
                check_failed(__FILE__, __LINE__, "writer %u hangs (transaction %llu)", i,
                             (unsigned long long)atomic_load(&shared->started));
            }
            pause_us(1000);
        }
    }
}

static void create_objects(const char *path, const struct pheap_options *options)
{
    pheap *heap;
    pheap_txn *txn;
    uint64_t offset;
    ok(pheap_open(path, PHEAP_CREATE | PHEAP_EXCLUSIVE, options, &heap));
    ok(pheap_begin(heap, &txn));
    ok(pheap_zalloc(txn, sizeof(struct root), &offset));
    ok(pheap_set_root(txn, offset));
    struct root *root = pheap_ptr(txn, offset);
    root->hash = hash_of(0);
    for (unsigned i = 0; i < OBJECTS; i++) {
        ok(pheap_alloc(txn, bytes_of(i, 0), &root->objects[i]));
        make_object(pheap_ptr(txn, root->objects[i]), i, 0, 0);
    }
    ok(pheap_commit(txn, PHEAP_DURABLE, &base_version));
    ok(pheap_close(heap));
}

static void verify(const char *path, struct model *model)
{
    wait_for_process(start_process(path, ROLE_VERIFIER, 0, 0, model), "the verifier");
    advance_model(model, atomic_load(&shared->verified));
}

/* Kill `kills` times.  Every choice comes from the seed. */
static unsigned kill_at_random(const char *path, unsigned kills, struct model *model)
{
    pid_t writers[WRITERS];
    uint64_t life = 1u << 20;
    unsigned killed = 0;
    for (unsigned i = 0; i < WRITERS; i++) {
        writers[i] = start_process(path, ROLE_WRITER, i, life++, NULL);
    }
    for (uint64_t round = 0; killed < kills; round++) {
        const uint64_t random = mix(round, 9);
        /* A third dies young: while opening, taking over, or catching up. */
        pause_us(random % 3 == 0 ? random / 3 % 1500 : random / 3 % 20000);
        const unsigned victims = random / 7 % 6 == 0 ? 3 : random / 42 % 2 == 0 ? 1 : 2;
        for (unsigned i = 0; i < WRITERS; i++) {
            if ((victims >> i & 1) != 0) {
                kill_process(writers[i]);
                killed++;
            }
        }
        /* With nobody left, kill some of those that recover as well. */
        for (unsigned i = 0; victims == 3 && i < random / 84 % 4; i++) {
            const pid_t opener = start_process(path, ROLE_OPENER, 0, 0, NULL);
            pause_us(mix(round, 40 + i) % 2500);
            kill_process(opener);
            killed++;
        }
        const bool verify_first = random / 336 % 2 == 0;
        if (verify_first) {
            verify(path, model);
        }
        for (unsigned i = 0; i < WRITERS; i++) {
            if ((victims >> i & 1) != 0) {
                writers[i] = start_process(path, ROLE_WRITER, i, life++, NULL);
            }
        }
        if (!verify_first) {
            verify(path, model);
        }
        if (round % 8 == 7) {
            expect_progress(writers);
        }
    }
    for (unsigned i = 0; i < WRITERS; i++) {
        kill_process(writers[i]);
        killed++;
    }
    return killed;
}

static unsigned number_from(const char *name, unsigned otherwise)
{
    const char *text = getenv(name);
    return text == NULL ? otherwise : (unsigned)strtoul(text, NULL, 10);
}

static void kill_and_verify(const char *name, const struct pheap_options *options)
{
    const char *path = path_of(name, "");
    char label[512];
    (void)snprintf(label, sizeof label, "%s", path);
    memset(shared, 0, sizeof *shared);
    create_objects(label, options);
    struct model model = {0};
    const unsigned killed = kill_at_random(label, number_from("PHEAP_TEST_KILLS", DEFAULT_KILLS) / 2, &model);
    verify(label, &model);
    verify(label, &model); /* after a clean close */
    print_message("%u kills, %llu transactions, %llu recoveries, %llu times the log was full; seed %llu\n", killed,
                  (unsigned long long)model.k, (unsigned long long)atomic_load(&shared->recoveries),
                  (unsigned long long)atomic_load(&shared->log_full), (unsigned long long)seed);
}

/* ---------------------------------------------------------------------------------------------------------- cases */

/*
 * Catches: a lazy commit that lives only in the dead process, a transaction half of which is seen, a lock that is not
 * taken over, a survivor whose view keeps bytes of a dead one's transaction, a log segment reused too early, and a
 * recovery that cannot be interrupted; with the smallest buffer, segments and log, so that laps and recycling abound.
 */
static void kill__two_writers_smallest_log(void **state)
{
    (void)state;
    struct pheap_options options = small_options();
    options.checksums = 1;
    kill_and_verify("smallest", &options);
}

/* The same with room, so that kills fall more often between `written` and `committed`, with long suffixes to replay. */
static void kill__two_writers_larger_log(void **state)
{
    (void)state;
    struct pheap_options options = small_options();
    options.buffer_bytes = 64u << 10;
    options.segment_bytes = 64u << 10;
    options.log_limit_bytes = 2u << 20;
    kill_and_verify("larger", &options);
}

int main(int argc, char **argv)
{
    choose_cases(argc, argv);
    seed = choose_seed();
    shared = shared_memory(sizeof *shared);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(kill__two_writers_smallest_log),
        cmocka_unit_test(kill__two_writers_larger_log),
    };
    return cmocka_run_group_tests(tests, make_test_directory, remove_test_directory);
}
