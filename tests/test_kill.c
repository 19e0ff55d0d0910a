/* SPDX-License-Identifier: MIT */
/*
 * kill -9 of real processes at random moments, against an oracle of acknowledged history (tests/process/oracle.h).
 *
 * Two processes take turns writing one heap.  After each kill a fresh process verifies it; the survivor goes on without
 * reopening.  Sometimes both are killed, and then those that recover as well.  Small logs and buffers make the kills
 * fall into laps, flushes, folds, checkpoints and segment recycling too.
 *
 * PHEAP_TEST_SEED repeats the choices of a run (the kernel's scheduling, of course, not); PHEAP_TEST_KILLS sets their
 * number.  Kills at chosen places instead of random moments: tests/process/kills.c.
 */
#include "tests/process/oracle.h"
#include "tests/public.h"

#define WRITERS 2u
#define DEFAULT_KILLS 560u
#define HANG_SECONDS 60u

/* What the test and its children share. */
struct shared {
    struct oracle oracle;
    _Atomic uint64_t progress[WRITERS]; /* transactions by the writer in this seat, over all its lives */
    _Atomic uint64_t recoveries;
};

static struct shared *shared;
static uint64_t seed;

/* ------------------------------------------------------------------------------------------------------ processes */

/* Besides committing, a writer reads, folds, checkpoints and syncs, so that it is killed there as well. */
static void do_other_work(pheap *heap, uint64_t random)
{
    switch (random % 64) {
    case 0:
        oracle_must(pheap_fold(heap), "fold");
        break;
    case 1:
        oracle_must(pheap_checkpoint(heap), "checkpoint");
        break;
    case 2:
        oracle_must(pheap_sync(heap), "sync");
        break;
    case 3:
        oracle_must(pheap_maintain(heap), "maintain");
        break;
    case 4:
    case 5: {
        pheap_read *reader;
        oracle_must(pheap_read_begin(heap, 0, &reader), "read");
        oracle_glance(reader);
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
    oracle_must(pheap_open(path, 0, &options, &heap), "open");
    struct pheap_info info = {.size = sizeof info};
    oracle_must(pheap_get_info(heap, &info), "info");
    atomic_fetch_add(&shared->recoveries, info.recovered);
    return heap;
}

static void run_writer(const char *path, unsigned writer, uint64_t life)
{
    pheap *heap = open_or_give_up(path);
    for (uint64_t turn = 0;; turn++) {
        (void)oracle_commit(heap, -1, 0); /* LOG_FULL: again */
        atomic_fetch_add(&shared->progress[writer], 1);
        do_other_work(heap, oracle_mix(life, turn));
    }
}

static void run_verifier(const char *path)
{
    pheap *heap = open_or_give_up(path);
    oracle_verify(heap);
    oracle_must(pheap_close(heap), "close");
}

/* ------------------------------------------------------------------------------------------------------ the driver */

enum role { ROLE_WRITER, ROLE_VERIFIER, ROLE_OPENER };

static pid_t start_process(const char *path, enum role role, unsigned writer, uint64_t life)
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
        run_verifier(path);
        break;
    case ROLE_OPENER:
        oracle_must(pheap_close(open_or_give_up(path)), "close");
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
        check_failed(__FILE__, __LINE__, "a process ended by itself, status 0x%x: %s", (unsigned)status,
                     shared->oracle.error);
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
                check_failed(__FILE__, __LINE__, "%s: status 0x%x: %s", what, (unsigned)status, shared->oracle.error);
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
                             shared->oracle.error);
            }
            if (j == HANG_SECONDS * 1000) {
                check_failed(__FILE__, __LINE__, "writer %u hangs (transaction %llu)", i,
                             (unsigned long long)atomic_load(&shared->oracle.started));
            }
            pause_us(1000);
        }
    }
}

static void create_objects(const char *path, const struct pheap_options *options)
{
    pheap *heap;
    ok(pheap_open(path, PHEAP_CREATE | PHEAP_EXCLUSIVE, options, &heap));
    ok(oracle_create(heap, -1));
    ok(pheap_close(heap));
}

static void verify(const char *path)
{
    wait_for_process(start_process(path, ROLE_VERIFIER, 0, 0), "the verifier");
}

/* Kill `kills` times.  Every choice comes from the seed. */
static unsigned kill_at_random(const char *path, unsigned kills)
{
    pid_t writers[WRITERS];
    uint64_t life = 1u << 20;
    unsigned killed = 0;
    for (unsigned i = 0; i < WRITERS; i++) {
        writers[i] = start_process(path, ROLE_WRITER, i, life++);
    }
    for (uint64_t round = 0; killed < kills; round++) {
        const uint64_t random = oracle_mix(round, 9);
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
            const pid_t opener = start_process(path, ROLE_OPENER, 0, 0);
            pause_us(oracle_mix(round, 40 + i) % 2500);
            kill_process(opener);
            killed++;
        }
        const bool verify_first = random / 336 % 2 == 0;
        if (verify_first) {
            verify(path);
        }
        for (unsigned i = 0; i < WRITERS; i++) {
            if ((victims >> i & 1) != 0) {
                writers[i] = start_process(path, ROLE_WRITER, i, life++);
            }
        }
        if (!verify_first) {
            verify(path);
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
    oracle_restart(seed);
    create_objects(label, options);
    const unsigned killed = kill_at_random(label, number_from("PHEAP_TEST_KILLS", DEFAULT_KILLS) / 2);
    verify(label);
    verify(label); /* after a clean close */
    print_message("%u kills, %llu transactions, %llu recoveries, %llu times the log was full; seed %llu\n", killed,
                  (unsigned long long)shared->oracle.model.k, (unsigned long long)atomic_load(&shared->recoveries),
                  (unsigned long long)atomic_load(&shared->oracle.log_full), (unsigned long long)seed);
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
    oracle_use(&shared->oracle);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(kill__two_writers_smallest_log),
        cmocka_unit_test(kill__two_writers_larger_log),
    };
    return cmocka_run_group_tests(tests, make_test_directory, remove_test_directory);
}
