/* SPDX-License-Identifier: MIT */
/*
 * What it costs to share a heap: processes that write, read, wait for one another and die, beside LMDB doing the same
 * where it can.
 *
 *   commits     durable ones of 1 and 8 processes, lazy ones of 1 and 4; how evenly four share
 *   locks       the writer lock without contention, and its takeover from a process that was killed with it
 *   hand-over   from one process to the other and back: a commit and whoever waits for it, against a bare futex
 *   readers     1, 4 and 8 processes that read one random record a transaction while another commits without a pause
 *
 * Both stores have the same records and run in alternating slices.  All processes are forked beforehand.
 */
#define _GNU_SOURCE
#include "bench/bench.h"
#include "bench/store.h"
#include "bench/team.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define WRITERS_MAX 8u
#define MEMBERS (WRITERS_MAX + 1)
#define ROUNDS 2000u /* of hand-overs in a slice, each way */
#define LOOKS 100000u
#define KILLS 60u
#define BETWEEN_KILLS 20000u /* commits: the log is in all states that it is ever in */
#define SLEPT 100000u        /* commits that an idle process misses */
#define BATCH 16u            /* reads between two looks at whether it is over */

static const struct store *const stores[] = {&store_pheap,
#ifdef BENCH_LMDB
                                             &store_lmdb
#endif
};
#define STORES (sizeof stores / sizeof stores[0])

/* What a slice is about; shared. */
struct plan {
    unsigned store;
    bool durable;
    uint64_t base; /* of the values that are handed over */
    _Atomic uint64_t killed_ns;
    _Atomic uint32_t holds; /* futex: the victim has the lock */
    pid_t victim;
};
static struct plan *plan;
static char paths[STORES][4096];
static void *opened[STORES]; /* in the members */

static void open_stores(unsigned index)
{
    (void)index;
    for (size_t i = 0; i < STORES; i++) {
        opened[i] = stores[i]->open(paths[i]);
    }
}

/* ------------------------------------------------------------------------------------------------------- the jobs */

static uint64_t seed_of(unsigned index)
{
    return bench_now_ns() + index * UINT64_C(0x100000001);
}

static void count(struct team *team, unsigned index, uint64_t done)
{
    atomic_fetch_add_explicit(&team->members[index].count, done, memory_order_relaxed);
}

/* Commits until it is over; at least once. */
static void write_on(struct team *team, unsigned index)
{
    const struct store *store = stores[plan->store];
    uint64_t seed = seed_of(index);
    do {
        const uint64_t value = bench_random(&seed);
        store->write(opened[plan->store], value % STORE_RECORDS, value | 1, plan->durable);
        count(team, index, 1);
    } while (!team_over(team));
}

/* Reads until it is over; at least once. */
static void read_on(struct team *team, unsigned index)
{
    const struct store *store = stores[plan->store];
    uint64_t seed = seed_of(index), sum = 0;
    do {
        for (unsigned i = 0; i < BATCH; i++) {
            sum += store->read(opened[plan->store], bench_random(&seed) % STORE_RECORDS);
        }
        count(team, index, BATCH);
    } while (!team_over(team));
    atomic_store(&team->sent_ns, sum); /* so that nothing is optimised away */
}

static void look_on(struct team *team, unsigned index)
{
    (void)index;
    const struct store *store = stores[plan->store];
    const uint64_t start = bench_now_ns();
    for (unsigned i = 0; i < LOOKS; i++) {
        store->look(opened[plan->store]);
    }
    team_sample(team, (bench_now_ns() - start) * 1000 / LOOKS); /* picoseconds: a nanosecond would be a tenth */
}

static void begin_and_abort(struct team *team, unsigned index)
{
    (void)index;
    const uint64_t start = bench_now_ns();
    for (unsigned i = 0; i < LOOKS; i++) {
        pheap_txn *txn;
        bench_check(pheap_begin(opened[0], &txn), "begin");
        bench_check(pheap_abort(txn), "abort");
    }
    team_sample(team, (bench_now_ns() - start) * 1000 / LOOKS);
}

/*
 * Two members hand turn n over to each other: member n % 2 has it, does its work, and gives it on.  A sample is the
 * time from the beginning of one turn to that of the next.
 */
static void begin_turn(struct team *team, uint32_t n)
{
    const uint64_t now = bench_now_ns();
    if (n > 0) {
        team_sample(team, now - atomic_load(&team->sent_ns));
    }
    atomic_store(&team->sent_ns, bench_now_ns());
}

/*
 * A processor for each of the two, as long as they take turns: whether a scheduler puts both on one makes a difference
 * of ten times, and would be all that a ratio shows.
 */
static cpu_set_t own_processors;

static void pin_member(unsigned index)
{
    cpu_set_t one;
    CPU_ZERO(&one);
    if (sched_getaffinity(0, sizeof own_processors, &own_processors) != 0) {
        bench_die("sched_getaffinity: %s", strerror(errno));
    }
    const unsigned which = index % (unsigned)CPU_COUNT(&own_processors);
    for (unsigned i = 0, seen = 0; i < CPU_SETSIZE; i++) {
        if (CPU_ISSET(i, &own_processors) && seen++ == which) {
            CPU_SET(i, &one);
        }
    }
    (void)sched_setaffinity(0, sizeof one, &one);
}

static void unpin_member(void)
{
    (void)sched_setaffinity(0, sizeof own_processors, &own_processors);
}

static void turn_bare(struct team *team, unsigned index)
{
    pin_member(index);
    for (uint32_t n = index; n < 2 * ROUNDS; n += 2) {
        if (n > 0) {
            team_wait(&team->turn, n - 1);
        }
        begin_turn(team, n);
        team_wake(&team->turn, n + 1);
    }
    unpin_member();
}

static void turn_writing(struct team *team, unsigned index)
{
    pin_member(index);
    const struct store *store = stores[plan->store];
    for (uint32_t n = index; n < 2 * ROUNDS; n += 2) {
        if (n > 0) {
            team_wait(&team->turn, n - 1);
        }
        begin_turn(team, n);
        store->write(opened[plan->store], 0, n + 1, false);
        team_wake(&team->turn, n + 1);
    }
    unpin_member();
}

static void turn_waiting(struct team *team, unsigned index)
{
    pin_member(index);
    for (uint32_t n = index; n < 2 * ROUNDS; n += 2) {
        uint64_t version;
        bench_check(pheap_newest_version(opened[0], &version), "version");
        while (n > 0 && store_pheap.read(opened[0], 0) != plan->base + n) {
            bench_check(pheap_wait(opened[0], version, -1, &version), "wait");
        }
        begin_turn(team, n);
        store_pheap.write(opened[0], 0, plan->base + n + 1, false);
    }
    unpin_member();
}

static void turn_watching(struct team *team, unsigned index)
{
    pin_member(index);
    const int event = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    pheap_watch *watch;
    uint64_t version;
    bench_check(pheap_newest_version(opened[0], &version), "version");
    bench_check(pheap_watch_begin(opened[0], version, event, &watch), "watch");
    for (uint32_t n = index; n < 2 * ROUNDS; n += 2) {
        while (n > 0 && store_pheap.read(opened[0], 0) != plan->base + n) {
            struct pollfd wait = {.fd = event, .events = POLLIN};
            uint64_t told;
            if (poll(&wait, 1, -1) < 0 || (read(event, &told, sizeof told) < 0 && errno != EAGAIN)) {
                bench_die("eventfd: %s", strerror(errno));
            }
        }
        begin_turn(team, n);
        store_pheap.write(opened[0], 0, plan->base + n + 1, false);
    }
    pheap_watch_end(watch);
    close(event);
    unpin_member();
}

/* A value that is known, for what follows. */
static void write_base(struct team *team, unsigned index)
{
    (void)team;
    (void)index;
    store_pheap.write(opened[0], 0, plan->base, true);
}

/* The next writer after one that is killed; what that one had changed must not be there. */
static void take_over(struct team *team, unsigned index)
{
    (void)index;
    pheap_txn *txn;
    bench_check(pheap_begin(opened[0], &txn), "begin");
    const uint64_t now = bench_now_ns(), killed = atomic_load(&plan->killed_ns);
    if (killed == 0 || now < killed) {
        bench_die("the lock was not held when it was taken over");
    }
    team_sample(team, now - killed);
    bench_check(pheap_abort(txn), "abort");
    if (store_pheap.read(opened[0], 0) != plan->base) {
        bench_die("a killed writer has left something behind");
    }
    store_pheap.write(opened[0], 0, ++plan->base, true);
}

static void kill_holder(struct team *team, unsigned index)
{
    (void)team;
    (void)index;
    const struct timespec asleep = {.tv_nsec = 3000000}; /* by then the other one is */
    (void)nanosleep(&asleep, NULL);
    atomic_store(&plan->killed_ns, bench_now_ns());
    if (kill(plan->victim, SIGKILL) != 0) {
        bench_die("kill: %s", strerror(errno));
    }
}

/* ------------------------------------------------------------------------------------------------------ the figures */

/* Jobs for the next slice; each runs once before it, so that what its process has slept through is not measured. */
static void assign_warm(struct team *team, unsigned from, unsigned members, team_job job)
{
    team_assign(team, from, members, job);
    team_run(team, 0);
    team_assign(team, from, members, job);
}

static void set_plan(unsigned store, bool durable)
{
    plan->store = store;
    plan->durable = durable;
}

/* Commits or reads a second of the first `members` processes. */
static double run_rate(struct team *team, unsigned members, double seconds)
{
    const uint64_t start = bench_now_ns();
    team_run(team, seconds);
    return (double)team_count(team, 0, members) * 1e9 / (double)(bench_now_ns() - start);
}

/* The same of a slice in which they are alone. */
static double run_alone(struct team *team, unsigned members, team_job job, double seconds)
{
    assign_warm(team, 0, members, job);
    return run_rate(team, members, seconds);
}

/* The share of the least of `members`, of a fair one. */
static double least_share(const struct team *team, unsigned members)
{
    uint64_t least = UINT64_MAX;
    for (unsigned i = 0; i < members; i++) {
        const uint64_t one = team_count(team, i, 1);
        least = one < least ? one : least;
    }
    return (double)least * members / (double)team_count(team, 0, members);
}

static void measure_commits(struct bench_report *report, struct team *team, bool durable)
{
    const unsigned many = durable ? 8 : 4;
    const char *kind = durable ? "durable" : "lazy";
    for (unsigned i = 0; i < STORES; i++) {
        struct bench_samples one = {0}, more = {0}, ratios = {0};
        for (unsigned j = 0; j < report->options->repeat; j++) {
            set_plan(i, durable);
            bench_add(&one, run_alone(team, 1, write_on, report->options->seconds));
            bench_add(&more, run_alone(team, many, write_on, report->options->seconds));
            bench_add(&ratios, more.values[more.count - 1] / one.values[one.count - 1]);
        }
        bench_row(report, bench_median(&one), "tx/s", "%s: %s commits of 1 process", stores[i]->name, kind);
        bench_row(report, bench_median(&more), "tx/s", "%s: %s commits of %u processes", stores[i]->name, kind, many);
        bench_row_goal(report, bench_median(&ratios), "x", durable && i == 0 ? BENCH_AT_LEAST : BENCH_NO_GOAL, 3,
                       "  %u processes over one", many);
        bench_clear(&one);
        bench_clear(&more);
        bench_clear(&ratios);
    }
}

static void measure_fairness(struct bench_report *report, struct team *team, bool durable)
{
    for (unsigned i = 0; i < STORES; i++) {
        struct bench_samples shares = {0};
        for (unsigned j = 0; j < report->options->repeat; j++) {
            set_plan(i, durable);
            (void)run_alone(team, 4, write_on, 3 * report->options->seconds);
            bench_add(&shares, least_share(team, 4));
        }
        bench_row_goal(report, bench_percentile(&shares, 0), "x", i == 0 ? BENCH_AT_LEAST : BENCH_NO_GOAL, 0.5,
                       "%s: least of 4 %s writers, of a fair share, worst run", stores[i]->name,
                       durable ? "durable" : "lazy");
        bench_clear(&shares);
    }
}

/* A lock of the kind that the writer lock is. */
static void measure_lock(struct bench_report *report)
{
    pthread_mutexattr_t attributes;
    pthread_mutex_t *mutex = team_memory(sizeof *mutex);
    struct bench_samples samples = {0};
    if (pthread_mutexattr_init(&attributes) != 0 ||
        pthread_mutexattr_setpshared(&attributes, PTHREAD_PROCESS_SHARED) != 0 ||
        pthread_mutexattr_setrobust(&attributes, PTHREAD_MUTEX_ROBUST) != 0 ||
        pthread_mutexattr_settype(&attributes, PTHREAD_MUTEX_ERRORCHECK) != 0 ||
        pthread_mutex_init(mutex, &attributes) != 0) {
        bench_die("no robust locks");
    }
    for (unsigned i = 0; i < 10 * report->options->repeat; i++) {
        const uint64_t start = bench_now_ns();
        for (unsigned j = 0; j < LOOKS; j++) {
            (void)pthread_mutex_lock(mutex);
            (void)pthread_mutex_unlock(mutex);
        }
        bench_add(&samples, (double)(bench_now_ns() - start) / LOOKS);
    }
    bench_row_goal(report, bench_median(&samples), "ns", BENCH_AT_MOST, 50,
                   "robust process-shared lock and unlock, no contention");
    bench_clear(&samples);
}

/* The samples of a slice that runs until its jobs return. */
static void run_samples(struct team *team, struct bench_samples *samples, double scale)
{
    team_run(team, 0);
    for (size_t i = 0; i < atomic_load(&team->sample_count) && i < TEAM_SAMPLES; i++) {
        bench_add(samples, (double)team->samples[i] * scale);
    }
}

static void measure_begin(struct bench_report *report, struct team *team)
{
    struct bench_samples aborts = {0}, looks[STORES] = {{0}};
    for (unsigned i = 0; i < 10 * report->options->repeat; i++) {
        team_assign(team, 0, 1, begin_and_abort);
        run_samples(team, &aborts, 1e-3);
        for (unsigned j = 0; j < STORES; j++) {
            plan->store = j;
            team_assign(team, 0, 1, look_on);
            run_samples(team, &looks[j], 1e-3);
        }
    }
    bench_row(report, bench_median(&aborts), "ns",
              "pheap: begin and abort of an empty write transaction, lock included");
    for (unsigned j = 0; j < STORES; j++) {
        bench_row_goal(report, bench_median(&looks[j]), "ns", j == 0 ? BENCH_AT_MOST : BENCH_NO_GOAL, 100,
                       "%s: begin and end of a reader, nothing changed", stores[j]->name);
        bench_clear(&looks[j]);
    }
    bench_clear(&aborts);
}

/* Commits to other records than the first. */
static void write_number(unsigned index, unsigned number)
{
    uint64_t seed = seed_of(index);
    for (unsigned i = 0; i < number; i++) {
        const uint64_t value = bench_random(&seed);
        store_pheap.write(opened[0], 1 + value % (STORE_RECORDS - 1), value | 1, false);
    }
}

static void write_some(struct team *team, unsigned index)
{
    (void)team;
    write_number(index, BETWEEN_KILLS);
}

static void write_many(struct team *team, unsigned index)
{
    (void)team;
    write_number(index, SLEPT);
}

/* A process that holds the writer lock and has changed something, until it is killed. */
static pid_t start_victim(void)
{
    atomic_store(&plan->holds, 0);
    const pid_t victim = fork();
    if (victim < 0) {
        bench_die("cannot fork: %s", strerror(errno));
    }
    if (victim == 0) {
        (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
        pheap_txn *txn;
        pheap *heap = store_pheap.open(paths[0]);
        bench_check(pheap_begin(heap, &txn), "begin");
        const uint64_t *offsets = pheap_ptr(txn, pheap_root(txn));
        bench_check(pheap_fill(txn, offsets[0], 0xdd, STORE_RECORD_BYTES), "fill");
        team_wake(&plan->holds, 1);
        for (;;) {
            (void)pause();
        }
    }
    team_wait(&plan->holds, 0);
    return victim;
}

static void measure_takeover(struct bench_report *report, struct team *team)
{
    struct bench_samples samples = {0};
    plan->store = 0;
    plan->base = bench_now_ns();
    team_assign(team, 0, 1, write_base);
    team_run(team, 0);
    for (unsigned i = 0; i < KILLS; i++) {
        team_assign(team, 0, 1, write_some);
        team_run(team, 0);
        plan->victim = start_victim();
        atomic_store(&plan->killed_ns, 0);
        team_assign(team, 0, 1, take_over);
        team_assign(team, 1, 1, kill_holder);
        run_samples(team, &samples, 1e-6);
        (void)waitpid(plan->victim, NULL, 0);
    }
    bench_row(report, bench_median(&samples), "ms", "pheap: takeover from a writer killed with the lock, median of %u",
              KILLS);
    bench_row_goal(report, bench_percentile(&samples, 100), "ms", BENCH_AT_MOST, 50, "  the longest");
    bench_clear(&samples);
}

static void first_look(struct team *team, unsigned index)
{
    (void)index;
    const uint64_t start = bench_now_ns();
    store_pheap.look(opened[0]);
    team_sample(team, bench_now_ns() - start);
}

/* What a process pays for what it has slept through, when the buffer does not hold it any more. */
static void measure_catching_up(struct bench_report *report, struct team *team)
{
    struct bench_samples samples = {0};
    for (unsigned i = 0; i < 2 * report->options->repeat; i++) {
        team_assign(team, 0, 1, write_many);
        team_run(team, 0);
        team_assign(team, 1, 1, first_look);
        run_samples(team, &samples, 1e-6);
    }
    bench_row(report, bench_median(&samples), "ms", "pheap: first reader in a process that slept through %u commits",
              SLEPT);
    bench_row(report, bench_percentile(&samples, 100), "ms", "  the longest");
    bench_clear(&samples);
}

struct hand_over {
    const char *name;
    team_job job;
    unsigned store;
};

static void measure_hand_over(struct bench_report *report, struct team *team)
{
    static const struct hand_over kinds[] = {
        {"pheap: commit, pheap_wait, begin of a reader that sees it", turn_waiting, 0},
        {"pheap: the same by a watch and poll", turn_watching, 0},
        {"pheap: write transaction, then the other process's turn", turn_writing, 0},
#ifdef BENCH_LMDB
        {"LMDB: write transaction, then the other process's turn", turn_writing, 1},
#endif
    };
    enum { KINDS = sizeof kinds / sizeof kinds[0] };
    struct bench_samples bare = {0}, all[KINDS] = {{0}}, ratios[KINDS] = {{0}}, tails[KINDS] = {{0}};
    for (unsigned i = 0; i < 3 * report->options->repeat; i++) {
        for (unsigned j = 0; j < KINDS; j++) {
            struct bench_samples floor = {0}, own = {0};
            plan->store = kinds[j].store;
            plan->base = bench_now_ns();
            team_assign(team, 0, 2, turn_bare);
            run_samples(team, &floor, 1e-3);
            assign_warm(team, 0, 2, read_on);
            team_assign(team, 0, 2, kinds[j].job);
            run_samples(team, &own, 1e-3);
            bench_add(&ratios[j], bench_median(&own) / bench_median(&floor));
            bench_add(&tails[j], bench_percentile(&own, 99) / bench_percentile(&floor, 99));
            bench_append(&bare, &floor);
            bench_append(&all[j], &own);
            bench_clear(&floor);
            bench_clear(&own);
        }
    }
    bench_row(report, bench_median(&bare), "us", "hand-over by a bare futex: median");
    bench_row(report, bench_percentile(&bare, 99), "us", "hand-over by a bare futex: p99");
    for (unsigned j = 0; j < KINDS; j++) {
        bench_row(report, bench_median(&all[j]), "us", "%s: median", kinds[j].name);
        bench_row(report, bench_percentile(&all[j], 99), "us", "  p99");
        bench_row(report, bench_median(&ratios[j]), "x", "  median over that of the bare futex");
        bench_row(report, bench_median(&tails[j]), "x", "  p99 over that of the bare futex");
        bench_clear(&all[j]);
        bench_clear(&ratios[j]);
        bench_clear(&tails[j]);
    }
    bench_clear(&bare);
}

static void measure_readers(struct bench_report *report, struct team *team)
{
    static const unsigned readers[] = {1, 4, 8};
    for (unsigned i = 0; i < sizeof readers / sizeof readers[0]; i++) {
        struct bench_samples reads[STORES] = {{0}}, writes[STORES] = {{0}}, quiet[STORES] = {{0}}, ratios = {0};
        for (unsigned j = 0; j < report->options->repeat; j++) {
            for (unsigned k = 0; k < STORES; k++) {
                set_plan(k, false);
                bench_add(&quiet[k], run_alone(team, readers[i], read_on, report->options->seconds / 2));
                team_assign(team, WRITERS_MAX, 1, write_on);
                assign_warm(team, 0, readers[i], read_on);
                team_assign(team, WRITERS_MAX, 1, write_on);
                bench_add(&reads[k], run_rate(team, readers[i], report->options->seconds));
                bench_add(&writes[k], (double)team_count(team, WRITERS_MAX, 1) / report->options->seconds);
            }
            if (STORES > 1) {
                bench_add(&ratios, reads[0].values[reads[0].count - 1] / reads[1].values[reads[1].count - 1]);
            }
        }
        for (unsigned k = 0; k < STORES; k++) {
            bench_row(report, bench_median(&reads[k]), "/s", "%s: reads of %u process%s beside a writer",
                      stores[k]->name, readers[i], readers[i] == 1 ? "" : "es");
            bench_row(report, bench_median(&writes[k]), "tx/s", "  commits of that writer, lazy");
            bench_row(report, bench_median(&quiet[k]), "/s", "  reads when nobody writes");
            bench_clear(&reads[k]);
            bench_clear(&writes[k]);
            bench_clear(&quiet[k]);
        }
        if (STORES > 1) {
            bench_row(report, bench_median(&ratios), "x", "  pheap over LMDB, beside a writer");
        }
        bench_clear(&ratios);
    }
}

int main(int argc, char **argv)
{
    struct bench_options options = {.dir = ".", .repeat = 5, .seconds = 1};
    bench_parse(&options, "the cost of sharing a heap between processes", argc, argv);
    static struct bench_report report;
    bench_report_init(&report, "share", &options);
    plan = team_memory(sizeof *plan);
    for (size_t i = 0; i < STORES; i++) {
        snprintf(paths[i], sizeof paths[i], "%s", bench_path(&options, stores[i]->name));
        stores[i]->create(paths[i]);
    }
    struct team *team = team_start(MEMBERS, open_stores);
    measure_commits(&report, team, true);
    measure_commits(&report, team, false);
    measure_fairness(&report, team, true);
    measure_fairness(&report, team, false);
    measure_lock(&report);
    measure_begin(&report, team);
    measure_takeover(&report, team);
    measure_catching_up(&report, team);
    measure_hand_over(&report, team);
    measure_readers(&report, team);
    team_end(team);
    bench_note(&report, "hand-over: from the beginning of one process's turn to that of the other's");
    if (STORES == 1) {
        bench_note(&report, "built without LMDB, whose rows are left out (Debian package: liblmdb-dev)");
    }
    return bench_report_finish(&report);
}
