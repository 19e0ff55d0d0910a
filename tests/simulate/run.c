/* SPDX-License-Identifier: MIT */
/* A plan carried out. */
#include "tests/simulate/run.h"

#include "pheap/core.h"
#include "tests/simulate/locks.h"
#include "tests/simulate/process.h"
#include "tests/simulate/scheduler.h"
#include "tests/support/dice.h"

#include <errno.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#define SEGMENT_BYTES 16384u
#define BUFFER_BYTES 16384u
#define YIELDS_MAX UINT64_C(3000000)
#define SECOND_NS UINT64_C(1000000000)

/* A thread of the program, over all lives of its process. */
struct slot {
    unsigned number;
    unsigned cursor;            /* its next step */
    const struct step *current; /* NULL: between steps */
    unsigned places;            /* so far in this step */
    pheap *heap;
    pheap_read *reader;
    uint32_t reads; /* version of the reader */
    bool done;
};

static struct {
    struct run *run;
    const struct plan *plan;
    FILE *trace;
    struct slot slots[PLAN_THREADS_MAX];
    unsigned process[PLAN_PROCESSES_MAX]; /* the present life of each */
    int slot_of[SCHEDULER_THREADS_MAX];
    bool prelude;  /* thread 0 is at it */
    bool failed;   /* a disk has failed at some time */
    bool full;     /* or was full */
    bool fatal;    /* whoever meets the next fault is to die */
    bool poisoned; /* everybody is to close the heap */
    unsigned opens;
} stage;

static void tell(const char *format, ...) __attribute__((format(printf, 1, 2)));

static void tell(const char *format, ...)
{
    if (stage.trace == NULL)
        return;
    int self = scheduler_self();
    if (self >= 0)
        fprintf(stage.trace, "    thread %d, process %u: ", stage.slot_of[self], scheduler_process());
    else
        fprintf(stage.trace, "    afterwards: ");
    va_list arguments;
    va_start(arguments, format);
    (void)vfprintf(stage.trace, format, arguments);
    va_end(arguments);
    fprintf(stage.trace, "\n");
}

static void on_disk(void *context, const char *line)
{
    (void)context;
    if (!stage.prelude)
        tell("%s", line);
}

static struct oracle *oracle(void)
{
    return &stage.run->oracle;
}

struct pheap_options run_options(const struct plan *plan)
{
    return (struct pheap_options){
        .size = sizeof(struct pheap_options),
        .reserve_bytes = PH_SIM_PLAIN_BYTES,
        .log_limit_bytes = plan->segments * (uint64_t)SEGMENT_BYTES,
        .segment_bytes = SEGMENT_BYTES,
        .buffer_bytes = BUFFER_BYTES,
        .pin_wait_ms = 50,
    };
}

/* --------------------------------------------------------------------------------------------------- the scheduler */

static uint64_t now(void *context)
{
    (void)context;
    return ph_sim_clock(stage.run->sim);
}

static void sleep_until(void *context, uint64_t time)
{
    (void)context;
    ph_sim_set_clock(stage.run->sim, time);
}

static void body(void *argument);

static unsigned group_of(const struct slot *slot)
{
    return slot->number % stage.plan->processes;
}

static void spawn(struct slot *slot)
{
    int thread = scheduler_spawn(stage.process[group_of(slot)], body, slot);
    stage.slot_of[thread] = (int)slot->number;
}

/* The process is killed, and another takes its place, whose threads go on with the steps that are left. */
static void kill_group(unsigned group)
{
    tell("process %u is killed", stage.process[group]);
    stage.run->kills++;
    process_kill(stage.process[group]);
    stage.process[group] = process_start();
    for (unsigned i = group; i < stage.plan->threads; i += stage.plan->processes) {
        struct slot *slot = &stage.slots[i];
        slot->heap = NULL;
        slot->reader = NULL;
        slot->current = NULL;
        if (!slot->done)
            spawn(slot);
    }
}

static void before(void *context, int self, const char *where)
{
    (void)context;
    (void)where;
    struct slot *slot = &stage.slots[stage.slot_of[self]];
    slot->places++;
    bool met = stage.fatal && ph_sim_struck(stage.run->sim) > 0; /* just now: others have not run since */
    stage.fatal = stage.fatal && !met;
    if (met || (slot->current != NULL && slot->current->kill_at == slot->places))
        kill_group(group_of(slot));
}

static int choose(void *context, int self, const int *ready, int count)
{
    (void)context;
    uint64_t seed = stage.plan->seed;
    bool calm = false;
    unsigned places = 0;
    if (self >= 0) {
        const struct slot *slot = &stage.slots[stage.slot_of[self]];
        places = slot->places;
        seed = slot->current != NULL ? slot->current->seed : seed + slot->number * 1000 + slot->cursor;
        calm = slot->current != NULL && slot->current->calm;
    }
    uint64_t dice = dice_mix(seed ^ dice_mix(places + UINT64_C(0x100000000)));
    for (int i = 0; i < count; i++)
        if (ready[i] == self && (calm || dice % stage.plan->rate != 0))
            return self;
    return count == 0 ? -1 : ready[(dice >> 32) % (unsigned)count];
}

/* --------------------------------------------------------------------------------------------------------- statuses */

/* Something is wrong: that ends the run. */
static void give_up(void)
{
    if (stage.trace != NULL)
        tell("WRONG: %s", oracle()->why);
    if (scheduler_self() >= 0)
        scheduler_abandon();
}

static void must(bool good)
{
    if (!good)
        give_up();
}

/* Whether a call may end so in this plan, and what follows from it. */
static void judge(const char *what, enum pheap_status status)
{
    switch (status) {
    case PHEAP_OK:
    case PHEAP_LOG_FULL:
    case PHEAP_TOO_BIG:
    case PHEAP_BUDGET:
    case PHEAP_BUSY:
    case PHEAP_TIMEOUT:
        return;
    case PHEAP_NO_SPACE:
        if (stage.full || stage.failed)
            return;
        break;
    case PHEAP_POISONED:
        stage.poisoned = true;
        if (stage.failed || stage.full)
            return;
        break;
    case PHEAP_IO:
        stage.poisoned = stage.poisoned || stage.plan->personality == DISK_XFS;
        if (stage.failed)
            return;
        break;
    default:
        break;
    }
    must(oracle_fail(oracle(), "%s: %s: %s", what, pheap_status_name(status), pheap_error_detail()));
}

/* ------------------------------------------------------------------------------------------------------ transactions */

static bool says_aborted(enum pheap_status status)
{
    return status == PHEAP_IO || status == PHEAP_NO_MEMORY || status == PHEAP_TOO_BIG || status == PHEAP_LOG_FULL ||
           status == PHEAP_NO_SPACE;
}

static bool is_poisoned(const pheap *heap)
{
    return atomic_load(&heap->core->coord->poisoned) != 0;
}

/* After a sync that failed btrfs shows what the files were before; until they close it, processes may meet that. */
static bool shows_the_past(const pheap *heap, const struct plan *plan)
{
    return plan->personality == DISK_BTRFS && is_poisoned(heap);
}

static bool finish(struct oracle *oracle_, const pheap *heap, const struct plan *plan, struct ph_writing *work,
                   uint32_t base, enum pheap_status *status)
{
    uint64_t roll = dice_roll(&work->author->dice);
    bool durable = roll % 3 != 0;
    uint64_t k = oracle_->versions[base].k + 1;
    bool sealed = ph_writing_seal(work, k);
    *status = work->first_failure;
    if (!sealed || work->doomed || roll % 12 == 0) {
        (void)pheap_abort(work->txn);
        ph_model_release(work->model);
        if (shows_the_past(heap, plan))
            *status = PHEAP_POISONED; /* whatever it has met */
        return true;
    }
    if (is_poisoned(heap)) { /* what it has seen may be the past: it must not become a commit */
        ph_model_release(work->model);
        *status = pheap_commit(work->txn, durable ? PHEAP_DURABLE : PHEAP_LAZY, NULL);
        return *status != PHEAP_OK || oracle_fail(oracle_, "a poisoned heap has taken a commit");
    }
    uint32_t version = oracle_commit(oracle_, base, work->model);
    if (scheduler_self() >= 0 && !stage.prelude)
        tell("commits %llu", (unsigned long long)k);
    enum pheap_status committed = pheap_commit(work->txn, durable ? PHEAP_DURABLE : PHEAP_LAZY, NULL);
    if (scheduler_self() >= 0 && !stage.prelude)
        tell("commit of %llu, %s: %s", (unsigned long long)k, durable ? "durable" : "lazy",
             pheap_status_name(committed));
    if (committed != PHEAP_OK)
        *status = committed;
    if (committed == PHEAP_OK)
        return oracle_acknowledged(oracle_, version, durable);
    return says_aborted(committed) ? oracle_aborted(oracle_, version) : true;
}

bool run_transaction(struct oracle *oracle_, pheap *heap, const struct plan *plan, uint64_t seed,
                     enum pheap_status *status)
{
    struct ph_author author = {
        .dice = seed, .large_max = plan->large_max, .live_max = plan->live_max, .track = plan->track};
    struct ph_writing work = {.author = &author};
    uint64_t k = 0;
    uint32_t base = 0;
    *status = pheap_begin(heap, &work.txn);
    if (*status != PHEAP_OK)
        return true;
    if (shows_the_past(heap, plan)) {
        (void)pheap_abort(work.txn);
        *status = PHEAP_POISONED;
        return true;
    }
    if (!ph_writing_number(work.txn, &k))
        return oracle_fail(oracle_, "a transaction began on a root block that holds nonsense");
    if (!oracle_began(oracle_, k, &base))
        return false;
    work.model = ph_model_copy(oracle_->versions[base].model);
    author.transactions = k; /* what a model says is tracked was so by an earlier one */
    ph_writing_begin(&work);
    return finish(oracle_, heap, plan, &work, base, status);
}

static void transact(struct slot *slot, uint64_t seed)
{
    enum pheap_status status;
    must(run_transaction(oracle(), slot->heap, stage.plan, seed, &status));
    judge("transaction", status);
    stage.run->commits += status == PHEAP_OK;
}

/* ----------------------------------------------------------------------------------------------------------- readers */

/* What a reader of the process that begins now must see at least. */
static uint32_t least_to_see(const struct slot *slot, bool fresh)
{
    uint32_t least = oracle_known(oracle());
    for (unsigned i = group_of(slot); i < stage.plan->threads && !fresh; i += stage.plan->processes)
        if (stage.slots[i].reader != NULL && oracle()->versions[stage.slots[i].reads].k < oracle()->versions[least].k)
            least = stage.slots[i].reads;
    return least;
}

/* Whether what was found wrong counts: an evictable reader may see anything once it is evicted, any one the past. */
static void settle_read(struct slot *slot, bool good, bool evictable)
{
    if (!good &&
        (shows_the_past(slot->heap, stage.plan) || (evictable && pheap_read_valid(slot->reader) == PHEAP_EVICTED)))
        oracle()->why[0] = '\0';
    else
        must(good);
}

static void read_for_a_while(struct slot *slot, const struct step *step)
{
    bool fresh = step->seed % 2 == 0, evictable = step->seed / 2 % 3 == 0;
    uint32_t least = least_to_see(slot, fresh);
    enum pheap_status status = pheap_read_begin_timeout(
        slot->heap, (fresh ? PHEAP_FRESH : 0u) | (evictable ? PHEAP_EVICTABLE : 0u), 1000, &slot->reader);
    judge("begin to read", status);
    if (status != PHEAP_OK)
        return;
    slot->reads = least;
    settle_read(slot, oracle_read(oracle(), slot->reader, least, &slot->reads), evictable);
    tell("reads %llu", (unsigned long long)oracle()->versions[slot->reads].k);
    for (unsigned i = 0; i < step->amount; i++)
        scheduler_yield("reading");
    settle_read(slot, oracle_read_again(oracle(), slot->reader, slot->reads), evictable);
    pheap_read *reader = slot->reader;
    slot->reader = NULL;
    status = pheap_read_end(reader);
    if (status == PHEAP_EVICTED && evictable)
        stage.run->evictions++;
    else
        judge("end of reading", status);
}

/* ------------------------------------------------------------------------------------------------- open and close */

static void open_heap(struct slot *slot)
{
    unsigned flags = PHEAP_CREATE | (stage.plan->verify ? PHEAP_VERIFY : 0u);
    ph_status status =
        ph_open_io(process_io(stage.process[group_of(slot)]), RUN_PATH, flags, &stage.run->options, &slot->heap);
    if (!stage.prelude)
        tell("open: %s", pheap_status_name((enum pheap_status)status));
    judge("open", (enum pheap_status)status);
    if (status != PH_OK)
        slot->heap = NULL;
    else
        ph_sim_note(stage.run->sim, ORACLE_NOTE_OPENED, ++stage.opens);
}

static void close_heap(struct slot *slot)
{
    if (slot->heap == NULL)
        return;
    uint32_t known = oracle_known(oracle());
    pheap *heap = slot->heap;
    enum pheap_status status = pheap_close(heap);
    slot->heap = NULL;
    tell("close: %s", pheap_status_name(status));
    judge("close", status);
    if (status == PHEAP_OK && !oracle()->versions[known].gone)
        oracle_durable(oracle(), known);
}

static bool nobody_has_it(void *argument)
{
    (void)argument;
    bool open = false;
    for (unsigned i = 0; i < stage.plan->threads; i++)
        open = open || stage.slots[i].heap != NULL;
    return !stage.poisoned || !open;
}

/* The heap is poisoned: close it, and go on when everybody has. */
static void leave_poisoned(struct slot *slot)
{
    close_heap(slot);
    stage.poisoned = true;
    if (!nobody_has_it(NULL))
        (void)scheduler_block(nobody_has_it, NULL, UINT64_MAX, "wait for others to close a poisoned heap");
    if (stage.poisoned) {
        ph_sim_fail_clear(stage.run->sim);
        ph_sim_remount(stage.run->sim);
        stage.poisoned = false;
    }
}

/* ------------------------------------------------------------------------------------------------------------- steps */

static void let_fail(const struct step *step)
{
    static const unsigned ops[] = {
        PH_SIM_SYNC, PH_SIM_SYNC, PH_SIM_WRITE, PH_SIM_WRITE | PH_SIM_SYNC, PH_SIM_SYNC_DIRECTORY | PH_SIM_TRUNCATE,
        PH_SIM_READ};
    unsigned what = ops[step->seed % (sizeof ops / sizeof ops[0])];
    stage.failed = oracle()->forgiving = true;
    stage.fatal = step->kind == STEP_FATAL;
    ph_sim_fail_at(stage.run->sim, what, step->amount, EIO, PH_SIM_ONCE);
}

static void sync_heap(struct slot *slot)
{
    uint32_t known = oracle_known(oracle());
    enum pheap_status status = pheap_sync(slot->heap);
    judge("sync", status);
    if (status == PHEAP_OK && !oracle()->versions[known].gone)
        oracle_durable(oracle(), known);
}

static void perform(struct slot *slot, const struct step *step)
{
    if (slot->heap == NULL && step->kind < STEP_FAULT) {
        open_heap(slot);
        if (slot->heap == NULL)
            return;
    }
    switch (step->kind) {
    case STEP_TRANSACTIONS:
        for (unsigned i = 0; i < step->amount && !stage.poisoned; i++)
            transact(slot, dice_mix(step->seed + i));
        break;
    case STEP_READ:
        read_for_a_while(slot, step);
        break;
    case STEP_SYNC:
        sync_heap(slot);
        break;
    case STEP_FOLD:
        judge("fold", pheap_fold(slot->heap));
        break;
    case STEP_CHECKPOINT:
        judge("checkpoint", pheap_checkpoint(slot->heap));
        break;
    case STEP_MAINTAIN:
        ph_sim_set_clock(stage.run->sim, ph_sim_clock(stage.run->sim) + 2 * SECOND_NS);
        judge("maintain", pheap_maintain(slot->heap));
        break;
    case STEP_REOPEN:
        close_heap(slot);
        if (!stage.poisoned)
            open_heap(slot);
        break;
    case STEP_FAULT:
    case STEP_FATAL:
        let_fail(step);
        break;
    case STEP_DISK_FULL:
        stage.full = true;
        ph_sim_fail_at(stage.run->sim, PH_SIM_GROW, 1, ENOSPC, PH_SIM_FOREVER);
        break;
    case STEP_DISK_ROOM:
        ph_sim_fail_clear(stage.run->sim);
        break;
    case STEP_KINDS:
        break;
    }
}

static bool prelude_is_over(void *argument)
{
    (void)argument;
    return !stage.prelude;
}

/* Fill the log some times; then it all begins, with everything on stable storage. */
static void play_prelude(struct slot *slot)
{
    open_heap(slot);
    for (unsigned i = 0; i < stage.plan->prelude; i++)
        transact(slot, dice_mix(stage.plan->seed ^ dice_mix(i)));
    must(pheap_sync(slot->heap) == PHEAP_OK || oracle_fail(oracle(), "prelude: %s", pheap_error_detail()));
    stage.prelude = false;
    ph_sim_journal_restart(stage.run->sim);
    oracle_go_on(oracle(), stage.run->sim, oracle()->tip);
    ph_sim_note(stage.run->sim, ORACLE_NOTE_OPENED, stage.opens);
}

static bool all_done(void *argument)
{
    (void)argument;
    bool done = true;
    for (unsigned i = 0; i < stage.plan->threads; i++)
        done = done && stage.slots[i].done;
    return done || stage.poisoned;
}

static void body(void *argument)
{
    struct slot *slot = argument;
    if (stage.prelude && slot->number == 0)
        play_prelude(slot);
    else if (stage.prelude)
        (void)scheduler_block(prelude_is_over, NULL, UINT64_MAX, "wait for the prelude");
    while (slot->cursor < stage.plan->step_count) {
        const struct step *step = &stage.plan->steps[slot->cursor++];
        if (step->thread != slot->number)
            continue;
        if (stage.poisoned)
            leave_poisoned(slot);
        slot->places = 0;
        slot->current = step;
        scheduler_yield("begin a step");
        perform(slot, step);
        slot->current = NULL;
    }
    slot->done = true;
    if (stage.plan->killed && slot->heap != NULL && !all_done(NULL))
        (void)scheduler_block(all_done, NULL, UINT64_MAX, "wait to be killed");
    if (stage.poisoned || !stage.plan->killed)
        close_heap(slot);
}

/* -------------------------------------------------------------------------------------------------------- the run */

static void explain_end(enum scheduler_end end)
{
    char where[300] = "";
    for (int i = 0; i < scheduler_thread_count(); i++)
        if (scheduler_where(i) != NULL)
            (void)snprintf(where + strlen(where), sizeof where - strlen(where), "%s thread %d: %s",
                           where[0] == '\0' ? "" : ",", stage.slot_of[i], scheduler_where(i));
    (void)oracle_fail(oracle(), "%s:%s",
                      end == SCHEDULER_DEADLOCK ? "everybody waits for ever" : "the run does not end", where);
}

/* All processes have died or closed: what must the next one find? */
static void check_survivors(struct run *run, const struct plan *plan)
{
    pheap *heap = NULL;
    uint32_t version = 0, least = run->oracle.forgiving ? run->oracle.durable : oracle_known(&run->oracle);
    ph_sim_fail_clear(run->sim);
    ph_sim_remount(run->sim);
    ph_status status =
        ph_open_io(ph_sim_io(run->sim), RUN_PATH, stage.opens == 0 ? PHEAP_CREATE : 0, &run->options, &heap);
    tell("open by a new process: %s", pheap_status_name((enum pheap_status)status));
    run->survivors++;
    if (status != PH_OK) {
        (void)oracle_fail(&run->oracle, "after all processes %s, not opened: %s: %s", plan->killed ? "died" : "closed",
                          pheap_status_name((enum pheap_status)status), pheap_error_detail());
        return;
    }
    (void)oracle_recovered(&run->oracle, heap, least, run->oracle.tip, &version);
    enum pheap_status closed = pheap_close(heap);
    if (closed != PHEAP_OK)
        (void)oracle_fail(&run->oracle, "not closed: %s: %s", pheap_status_name(closed), pheap_error_detail());
    ph_core_forget_mappings(ph_sim_io(run->sim));
}

void run_plan(struct run *run, const struct plan *plan, FILE *trace)
{
    struct ph_sim_options machine = plan_machine(plan);
    *run = (struct run){.sim = ph_sim_new(&machine), .options = run_options(plan)};
    oracle_init(&run->oracle, run->sim);
    memset(&stage, 0, sizeof stage);
    stage.run = run;
    stage.plan = plan;
    stage.trace = trace;
    stage.prelude = plan->prelude > 0;
    const struct scheduler_hooks hooks = {.now = now, .sleep_until = sleep_until, .before = before, .choose = choose};
    scheduler_init(&hooks, YIELDS_MAX);
    locks_init(now, NULL);
    processes_init(run->sim, trace == NULL ? NULL : on_disk, NULL);
    for (unsigned i = 0; i < plan->processes; i++)
        stage.process[i] = process_start();
    for (unsigned i = 0; i < plan->threads; i++) {
        stage.slots[i].number = i;
        spawn(&stage.slots[i]);
    }
    enum scheduler_end end = scheduler_run();
    if (end != SCHEDULER_DONE)
        explain_end(end);
    for (unsigned i = 0; i < plan->processes; i++)
        process_kill(stage.process[i]);
    run->journal_length = ph_sim_journal_length(run->sim);
    run->hash = dice_mix(ph_sim_journal_hash(run->sim) ^ scheduler_hash());
    if (run->oracle.why[0] == '\0')
        check_survivors(run, plan);
}

void run_deinit(struct run *run)
{
    oracle_deinit(&run->oracle);
    ph_sim_free(run->sim);
}
