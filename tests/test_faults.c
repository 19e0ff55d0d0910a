/* SPDX-License-Identifier: MIT */
/*
 * Faults: every call of the operating system that a workload makes, and every allocation, fails once, and fails for
 * good from there on, in each way that it can; and the process dies at every call (except inside open and close).
 *
 * Whatever fails: the error has a text that names the file; what was acknowledged is there after closing, after the
 * process was killed and after a power cut, at any later operation; once the cause is gone the heap goes on as if
 * nothing had been, or it is poisoned, and only a failed write or sync may do that (R7, R11); a poisoned heap goes on
 * after it was opened again; nothing is leaked.
 *
 * PHEAP_FAULTS_SEED chooses other workloads, PHEAP_FAULTS_REPLAY=seed,row,call runs one fault alone.
 */
#include "pheap/core.h"
#include "tests/support/dice.h"
#include "tests/support/workload.h"

#include <linux/futex.h>
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cmocka.h>

#define WORKERS 4
#define WORKLOADS_DEFAULT 2
#define ACTIONS 16
#define FAILURES_MAX 5
#define CUTS 24 /* positions after the fault at which the power is cut, spread evenly */

static const struct row {
    unsigned ops;
    int error;
    enum ph_sim_fault_mode mode;
    bool may_poison;
} rows[] = {
    {PH_SIM_READ, EIO, PH_SIM_ONCE, false},
    {PH_SIM_READ, EIO, PH_SIM_FOREVER, false},
    {PH_SIM_READ, EINTR, PH_SIM_ONCE, false},
    {PH_SIM_READ, 0, PH_SIM_SHORT, false},
    {PH_SIM_WRITE, EIO, PH_SIM_ONCE, true},
    {PH_SIM_WRITE, EIO, PH_SIM_FOREVER, true},
    {PH_SIM_WRITE, ENOSPC, PH_SIM_ONCE, true},
    {PH_SIM_WRITE, ENOSPC, PH_SIM_FOREVER, true},
    {PH_SIM_WRITE, EINTR, PH_SIM_ONCE, false},
    {PH_SIM_WRITE, 0, PH_SIM_SHORT, false},
    {PH_SIM_SYNC, EIO, PH_SIM_ONCE, true},
    {PH_SIM_SYNC, EIO, PH_SIM_FOREVER, true},
    {PH_SIM_SYNC, ENOSPC, PH_SIM_ONCE, true},
    {PH_SIM_SYNC, EINTR, PH_SIM_ONCE, false},
    {PH_SIM_GROW, ENOSPC, PH_SIM_ONCE, false},
    {PH_SIM_GROW, ENOSPC, PH_SIM_FOREVER, false},
    {PH_SIM_GROW, EFBIG, PH_SIM_FOREVER, false},
    {PH_SIM_TRUNCATE, EIO, PH_SIM_ONCE, false},
    {PH_SIM_TRUNCATE, ENOSPC, PH_SIM_FOREVER, false},
    {PH_SIM_ALLOCATE, ENOSPC, PH_SIM_ONCE, false},
    {PH_SIM_ALLOCATE, ENOSPC, PH_SIM_FOREVER, false},
    {PH_SIM_ALLOCATE, EINTR, PH_SIM_ONCE, false},
    {PH_SIM_OPEN, EMFILE, PH_SIM_ONCE, false},
    {PH_SIM_OPEN, EACCES, PH_SIM_FOREVER, false},
    {PH_SIM_OPEN, EINTR, PH_SIM_ONCE, false},
    {PH_SIM_STAT, EIO, PH_SIM_ONCE, false},
    {PH_SIM_LOCK, ENOLCK, PH_SIM_ONCE, false},
    {PH_SIM_LOCK, EINTR, PH_SIM_ONCE, false},
    {PH_SIM_UNLINK, EIO, PH_SIM_ONCE, false},
    {PH_SIM_RENAME, EIO, PH_SIM_ONCE, false},
    {PH_SIM_RENAME, ENOSPC, PH_SIM_FOREVER, false},
    {PH_SIM_SYNC_DIRECTORY, EIO, PH_SIM_ONCE, false},
    {PH_SIM_MAP, ENOMEM, PH_SIM_ONCE, false},
    {PH_SIM_MAP, ENOMEM, PH_SIM_FOREVER, false},
    {PH_SIM_DROP, ENOMEM, PH_SIM_ONCE, false},
    {PH_SIM_PROTECT, ENOMEM, PH_SIM_ONCE, false},
    {PH_SIM_RANDOM, EIO, PH_SIM_ONCE, false},
    {PH_SIM_WRITEBACK, EIO, PH_SIM_ONCE, false},
    {PH_SIM_READ | PH_SIM_WRITE | PH_SIM_SYNC | PH_SIM_TRUNCATE | PH_SIM_ALLOCATE | PH_SIM_DROP, 0, PH_SIM_DIE, false},
    {PH_SIM_MEMORY, ENOMEM, PH_SIM_ONCE, false},
    {PH_SIM_MEMORY, ENOMEM, PH_SIM_FOREVER, false},
};
#define ROWS (sizeof rows / sizeof rows[0])

struct tally {
    uint64_t faults, struck, poisoned, cuts, failures;
};

/* One run of a workload with one fault. */
struct run {
    struct tally *tally;
    uint64_t seed;
    size_t row;
    uint64_t call;
    struct ph_sim *sim;
    struct ph_workload workload;
    bool failed, poisoned, killed, died;
    sigjmp_buf grave;
};

static void wrong(struct run *run, const char *format, ...) __attribute__((format(printf, 2, 3)));

static void wrong(struct run *run, const char *format, ...)
{
    run->failed = true;
    if (++run->tally->failures > FAILURES_MAX)
        return;
    va_list arguments;
    printf("FAILED: PHEAP_FAULTS_REPLAY=%llu,%zu,%llu: fault %s (errno %d, %s): ", (unsigned long long)run->seed,
           run->row, (unsigned long long)run->call, ph_sim_struck_at(run->sim), rows[run->row].error,
           rows[run->row].mode == PH_SIM_ONCE    ? "once"
           : rows[run->row].mode == PH_SIM_SHORT ? "short"
           : rows[run->row].mode == PH_SIM_DIE   ? "death"
                                                 : "for good");
    va_start(arguments, format);
    (void)vprintf(format, arguments);
    va_end(arguments);
    printf("\n");
    (void)fflush(stdout);
}

/* What an action that failed must be like. */
static void check_failure(struct run *run)
{
    const struct ph_workload *workload = &run->workload;
    if (workload->why[0] != '\0')
        wrong(run, "%s: %s", workload->what, workload->why);
    if (workload->status == PHEAP_OK)
        return;
    run->poisoned = run->poisoned || workload->status == PHEAP_POISONED ||
                    (workload->was_transaction && workload->fate == PH_FATE_UNKNOWN);
    bool expected = workload->status == PHEAP_LOG_FULL || workload->status == PHEAP_TOO_BIG;
    if (ph_sim_struck(run->sim) == 0 && !expected)
        wrong(run, "%s failed before the fault: %s: %s", workload->what, pheap_status_name(workload->status),
              workload->detail);
    if (strstr(workload->detail, "heap") == NULL)
        wrong(run, "%s: %s without a text that names the file: \"%s\"", workload->what,
              pheap_status_name(workload->status), workload->detail);
    if (workload->status == PHEAP_CORRUPT || workload->status == PHEAP_NOT_HEAP ||
        workload->status == PHEAP_LOG_FOREIGN || workload->status == PHEAP_LOG_MISSING)
        wrong(run, "%s calls it damage: %s: %s", workload->what, pheap_status_name(workload->status), workload->detail);
}

/* The script.  A fault for good ends after a few actions have failed: the cause is gone. */
static void work(struct run *run)
{
    struct ph_workload *workload = &run->workload;
    bool open = ph_workload_open(workload, PHEAP_CREATE);
    if (!open)
        check_failure(run);
    for (unsigned i = 0, failures = 0; i < ACTIONS && !run->failed; i++) {
        bool good = workload->heap == NULL && workload->opens == 0 ? ph_workload_open(workload, PHEAP_CREATE)
                                                                   : ph_workload_act(workload);
        if (good)
            continue;
        check_failure(run);
        if (ph_sim_struck(run->sim) > 0 && ++failures >= 3)
            ph_sim_fail_clear(run->sim);
    }
}

/*
 * The thread that plays a dying process goes on, so the locks that it "died" with must leave its list of robust locks: their
 * memory is about to be somebody else's.
 */
static void forget_locks(void)
{
    struct robust_list_head *head;
    size_t length;
    if (syscall(SYS_get_robust_list, 0, &head, &length) == 0) {
        head->list.next = &head->list;
        head->list_op_pending = NULL;
    }
}

/* The same, but the process dies in a call; on the running machine everything that was committed is there. */
static void work_and_die(struct run *run)
{
    struct ph_workload *workload = &run->workload;
    workload->grave = &run->grave;
    if (sigsetjmp(run->grave, 0) == 0)
        work(run);
    else
        run->died = true;
    workload->grave = NULL;
    if (run->died)
        forget_locks();
    ph_sim_fail_clear(run->sim);
    if (!run->died)
        return;
    ph_workload_kill(workload);
    if (!ph_workload_open(workload, workload->opens == 0 ? PHEAP_CREATE : 0))
        wrong(run, "not opened again: %s: %s %s", pheap_status_name(workload->status), workload->detail, workload->why);
}

/* The cause is gone: the heap must go on, or be poisoned by a fault that may do that. */
static void demand_use(struct run *run)
{
    struct ph_workload *workload = &run->workload;
    uint64_t before = ph_history_committed(workload->history);
    ph_sim_fail_clear(run->sim);
    ph_workload_end_readers(workload);
    if (workload->heap == NULL && !ph_workload_open(workload, workload->opens == 0 ? PHEAP_CREATE : 0)) {
        wrong(run, "not opened when the cause is gone: %s: %s", pheap_status_name(workload->status), workload->detail);
        return;
    }
    for (unsigned i = 0; i < 30 && ph_history_committed(workload->history) == before && !run->failed; i++)
        if (!ph_workload_transaction(workload)) {
            check_failure(run);
            if (workload->status == PHEAP_POISONED)
                break;
            if (workload->status != PHEAP_LOG_FULL && workload->status != PHEAP_TOO_BIG)
                wrong(run, "a transaction fails when the cause is gone: %s: %s", pheap_status_name(workload->status),
                      workload->detail);
        }
    bool poisoned = workload->status == PHEAP_POISONED;
    if (poisoned && !rows[run->row].may_poison)
        wrong(run, "poisoned: %s", workload->detail);
    if (!poisoned && ph_history_committed(workload->history) == before && !run->failed)
        wrong(run, "no transaction commits any more");
    run->tally->poisoned += poisoned;
    run->poisoned = poisoned;
}

/* Close, or be killed, and open again on the running machine. */
static void open_again(struct run *run)
{
    struct ph_workload *workload = &run->workload;
    if (run->killed)
        ph_workload_kill(workload);
    else if (ph_workload_close(workload) && run->poisoned)
        wrong(run, "a poisoned heap was closed without an error");
    else if (workload->status != PHEAP_OK && !run->poisoned)
        wrong(run, "close fails when the cause is gone: %s: %s", pheap_status_name(workload->status), workload->detail);
    if (!ph_workload_open(workload, 0)) {
        wrong(run, "not opened again after %s: %s: %s %s", run->killed ? "being killed" : "close",
              pheap_status_name(workload->status), workload->detail, workload->why);
        return;
    }
    run->poisoned = false;
    for (unsigned i = 0; i < 4 && !run->failed; i++)
        if (!ph_workload_act(workload) && workload->status != PHEAP_LOG_FULL && workload->status != PHEAP_TOO_BIG)
            wrong(run, "after opening again: %s: %s: %s %s", workload->what, pheap_status_name(workload->status),
                  workload->detail, workload->why);
}

static void check_leaks(struct run *run)
{
    ph_core_forget_mappings(ph_sim_io(run->sim));
    int64_t handles = ph_sim_live_handles(run->sim), maps = ph_sim_live_maps(run->sim),
            blocks = ph_sim_live_allocations(run->sim);
    if (handles != 0 || maps != 0 || blocks != 0)
        wrong(run, "leaked: %lld open files, %lld maps, %lld blocks of memory", (long long)handles, (long long)maps,
              (long long)blocks);
}

/* The power is cut at operations after the fault: the heap opens and has what was acknowledged. */
static void cut_power(struct run *run)
{
    struct ph_sim_options quiet = {.no_journal = true};
    struct ph_sim *image = ph_sim_new(&quiet);
    struct ph_sim_cut *cut = ph_sim_cut_new(run->sim);
    struct ph_sim_choice choice = {0};
    uint64_t first = ph_sim_struck_position(run->sim), length = ph_sim_journal_length(run->sim);
    uint64_t stride = (length - first) / CUTS + 1, next = first;
    do {
        bool end = ph_sim_cut_position(cut) == length;
        if (!ph_sim_cut_before_io(cut) || (ph_sim_cut_position(cut) < next && !end))
            continue;
        next = ph_sim_cut_position(cut) + stride;
        uint64_t opens = ph_sim_cut_note(cut, PH_NOTE_OPENED);
        const struct ph_history *history = ph_workload_history_at(&run->workload, opens);
        for (uint64_t i = 0; i < (end ? 8U : 2U) && !run->failed; i++) {
            struct ph_workload after;
            char why[500] = "", state[800];
            uint64_t dice = dice_mix(ph_sim_cut_position(cut) + run->call);
            ph_sim_cut_sample(cut, end ? i : (dice + i) % 16, dice, &choice);
            ph_sim_cut_image(cut, &choice, dice + i, image);
            ph_workload_branch(&after, image, &run->workload, 0, dice);
            run->tally->cuts++;
            /* Until something is acknowledged the directory need not be synced where that had failed. */
            bool promised = opens != 0 && ph_sim_cut_note(cut, PH_NOTE_ACKNOWLEDGED) != 0;
            if (!ph_workload_open(&after, promised ? 0 : PHEAP_CREATE))
                (void)snprintf(why, sizeof why, "not opened: %s: %s", pheap_status_name(after.status), after.detail);
            else
                (void)ph_history_verify(history, after.heap, ph_sim_cut_note(cut, PH_NOTE_ACKNOWLEDGED),
                                        ph_sim_cut_note(cut, PH_NOTE_BEGUN), NULL, why, sizeof why);
            (void)ph_workload_close(&after);
            ph_core_forget_mappings(ph_sim_io(image));
            ph_workload_deinit(&after);
            ph_sim_cut_describe(cut, &choice, state, sizeof state);
            if (why[0] != '\0')
                wrong(run, "after a power cut: %s (%s)", why, state);
        }
    } while (ph_sim_cut_next(cut) && !run->failed);
    ph_sim_choice_deinit(&choice);
    ph_sim_cut_free(cut);
    ph_sim_free(image);
}

/* False: the workload makes fewer calls of that kind. */
static bool test_fault(struct tally *tally, uint64_t seed, size_t row, uint64_t call)
{
    struct ph_sim_options options = {.seed = seed,
                                     .refuse_direct = call % 2 == 0,
                                     .keep_dirty = call % 5 == 0,
                                     .touched = call % 3 != 0,
                                     .watch = call % 3 == 1};
    struct run run = {.tally = tally, .seed = seed, .row = row, .call = call, .sim = ph_sim_new(&options)};
    run.killed = dice_mix(call + row) % 3 == 0;
    ph_workload_init(&run.workload, run.sim, seed);
    ph_sim_fail_at(run.sim, rows[row].ops, call, rows[row].error, rows[row].mode);
    if (rows[row].mode == PH_SIM_DIE)
        work_and_die(&run);
    else
        work(&run);
    bool struck = ph_sim_struck(run.sim) > 0;
    if (!run.failed && struck)
        demand_use(&run);
    if (!run.failed && struck && dice_mix(call + row) % 4 != 0)
        open_again(&run);
    ph_workload_end_readers(&run.workload);
    if (!run.failed && struck)
        cut_power(&run);
    ph_sim_power_off(run.sim);
    if (!ph_workload_close(&run.workload) && !run.failed && run.workload.detail[0] == '\0')
        wrong(&run, "close without power gives no text");
    if (!run.failed)
        check_leaks(&run);
    tally->faults++;
    tally->struck += struck;
    ph_workload_deinit(&run.workload);
    ph_sim_free(run.sim);
    return struck;
}

static uint64_t from_environment(const char *name, uint64_t otherwise)
{
    const char *text = getenv(name);
    return text == NULL || *text == '\0' ? otherwise : strtoull(text, NULL, 0);
}

static void worker(unsigned number, struct tally *tally)
{
    uint64_t base = from_environment("PHEAP_FAULTS_SEED", 1);
    uint64_t workloads = from_environment("PHEAP_FAULTS_WORKLOADS", WORKLOADS_DEFAULT);
    for (uint64_t i = 0; i < workloads; i++)
        for (size_t row = from_environment("PHEAP_FAULTS_ROW", 0); row < ROWS; row++)
            for (uint64_t call = 1 + (number + row) % WORKERS; tally->failures < FAILURES_MAX; call += WORKERS)
                if (!test_fault(tally, dice_mix(base * 7919 + i) >> 16, row, call))
                    break;
}

/* See the head. */
static void faults__are_told_and_survived(void **state)
{
    (void)state;
    unsigned long long seed, call;
    size_t row;
    const char *text = getenv("PHEAP_FAULTS_REPLAY");
    if (text != NULL) {
        struct tally alone = {0};
        assert_int_equal(sscanf(text, "%llu,%zu,%llu", &seed, &row, &call), 3);
        (void)test_fault(&alone, seed, row, call);
        assert_int_equal(alone.failures, 0);
        return;
    }
    struct tally *tallies =
        mmap(NULL, WORKERS * sizeof *tallies, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    struct tally sum = {0};
    pid_t children[WORKERS];
    assert_true(tallies != MAP_FAILED);
    double before = (double)ph_io_posix()->clock_ns(NULL, PH_CLOCK_MONOTONIC);
    (void)fflush(stdout);
    for (unsigned i = 0; i < WORKERS; i++) {
        children[i] = fork();
        if (children[i] == 0) {
            worker(i, &tallies[i]);
            (void)fflush(stdout);
            _exit(0);
        }
    }
    for (unsigned i = 0; i < WORKERS; i++) {
        int status = 0;
        assert_int_equal(waitpid(children[i], &status, 0), children[i]);
        if (status != 0)
            printf("FAILED: worker %u died: status 0x%x, after %llu faults\n", i, (unsigned)status,
                   (unsigned long long)tallies[i].faults);
        sum.failures += tallies[i].failures + (status != 0);
        sum.struck += tallies[i].struck;
        sum.poisoned += tallies[i].poisoned;
        sum.cuts += tallies[i].cuts;
    }
    double seconds = ((double)ph_io_posix()->clock_ns(NULL, PH_CLOCK_MONOTONIC) - before) / 1e9;
    printf("seed %llu: %llu faults, %llu of them poisoned the heap, %llu power cuts, %.1f s\n",
           (unsigned long long)from_environment("PHEAP_FAULTS_SEED", 1), (unsigned long long)sum.struck,
           (unsigned long long)sum.poisoned, (unsigned long long)sum.cuts, seconds);
    assert_int_equal(sum.failures, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(faults__are_told_and_survived)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
