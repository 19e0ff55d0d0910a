/* SPDX-License-Identifier: MIT */
/*
 * A campaign of power cuts: chains of boots (tests/powercut/chain.h) for each engine, in a few processes, and a table of
 * how it went.  scripts/powercut builds and runs it; docs/powercut.md says what it means.
 *
 * It needs root and /dev/fuse, and works in a mount namespace of its own, so that nothing is left mounted however it
 * ends, and so that each boot can have its own boot id.  Exits with 0 if no chain failed, 1 if one did, 77 if it cannot
 * run here.
 */
#include "tests/powercut/chain.h"
#include "tests/support/dice.h"

#include <errno.h>
#include <getopt.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define ENGINES_MAX 8
#define JOBS_MAX 64
#define TOLD_MAX 8 /* failed chains of an engine; the others are only counted */
#define EXIT_SKIP 77
#define BOOT_ID_FILE "/proc/sys/kernel/random/boot_id"

static const char usage[] =
    "usage: powercut [OPTION...] --worker PROGRAM\n"
    "  --engine NAME     pheap, pheap-lazy, sqlite or lmdb; may be given again; default: pheap\n"
    "  --cuts N          for each engine; default 100\n"
    "  --seed S          default: from the clock\n"
    "  --chain C         only this chain: to see a failure again\n"
    "  --length N        cuts in a chain; default 25\n"
    "  --jobs N          processes; default 1\n"
    "  --names RULE      strict (default: until the directory is synced) or journal (in order, by any sync)\n"
    "  --fail-syncs HOW  let a sync fail in half of the boots: clean (ext4, XFS), revert (btrfs) or dirty\n"
    "  --bare            do not sync the directory after creating a store\n"
    "  --team            three processes share the store\n"
    "  --lie WHAT        file or directory: its syncs do nothing, which must be noticed\n"
    "  --dump DIR        write the files before and after each cut below this directory\n"
    "  --verbose         say what happens, each operation too\n";

/* What the processes share. */
struct shared {
    _Atomic uint64_t next_task;
    _Atomic unsigned told[ENGINES_MAX];
    struct chain_sums sums[ENGINES_MAX];
};

struct campaign {
    const char *engines[ENGINES_MAX];
    unsigned engine_count;
    uint64_t cuts, seed, only_chain;
    unsigned length, jobs;
    bool has_chain;
    struct chain_options options; /* for every chain */
    struct shared *shared;
    char directory[64];
    char arguments[200]; /* those that a replay needs too */
};

static int skip(const char *reason)
{
    printf("skipped: %s\n", reason);
    return EXIT_SKIP;
}

static void run_chain(struct campaign *campaign, unsigned engine, uint64_t number)
{
    char text[2000];
    struct chain_options options = campaign->options;
    options.engine = campaign->engines[engine];
    options.seed = campaign->seed;
    options.number = number;
    enum chain_verdict verdict = chain_run(&options, &campaign->shared->sums[engine], text, sizeof text);
    if (verdict == CHAIN_GOOD || campaign->shared->told[engine]++ >= TOLD_MAX)
        return;
    printf("%s: %s in chain %llu, %s\n    again: scripts/powercut --engine %s --seed %llu --length %u%s --chain %llu "
           "--verbose\n",
           options.engine, chain_verdict_name(verdict), (unsigned long long)number, text, options.engine,
           (unsigned long long)campaign->seed, options.cuts, campaign->arguments, (unsigned long long)number);
    (void)fflush(stdout);
}

static uint64_t chains_of(const struct campaign *campaign)
{
    return campaign->has_chain ? 1 : (campaign->cuts + campaign->length - 1) / campaign->length;
}

/* One of the processes: it takes chains until there are none left. */
static void run_lane(struct campaign *campaign, unsigned lane)
{
    char place[128], boot_id[128];
    uint64_t chains = chains_of(campaign), tasks = chains * campaign->engine_count;
    (void)snprintf(place, sizeof place, "%s/mount-%u", campaign->directory, lane);
    (void)snprintf(boot_id, sizeof boot_id, "%s/boot-id-%u", campaign->directory, lane);
    FILE *file = fopen(boot_id, "w");
    if (file == NULL || fclose(file) != 0 || mkdir(place, 0755) != 0 || unshare(CLONE_NEWNS) != 0 ||
        mount("", "/", NULL, MS_REC | MS_PRIVATE, NULL) != 0 ||
        mount(boot_id, BOOT_ID_FILE, NULL, MS_BIND, NULL) != 0) {
        perror("powercut: cannot prepare");
        _exit(2);
    }
    campaign->options.mount = place;
    campaign->options.boot_id = boot_id;
    for (uint64_t task; (task = campaign->shared->next_task++) < tasks;) {
        /* Engines by turns, so that they meet the same state of the machine. */
        unsigned engine = (unsigned)(task % campaign->engine_count);
        run_chain(campaign, engine, campaign->has_chain ? campaign->only_chain : task / campaign->engine_count);
    }
}

/* All of them, in processes that die with this one; false: one could not do its work. */
static bool run_lanes(struct campaign *campaign)
{
    pid_t lanes[JOBS_MAX];
    bool good = true;
    (void)fflush(stdout);
    for (unsigned i = 0; i < campaign->jobs; i++) {
        lanes[i] = fork();
        if (lanes[i] == 0) {
            (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
            run_lane(campaign, i);
            exit(0);
        }
    }
    for (unsigned i = 0; i < campaign->jobs; i++) {
        int status = 0;
        good = lanes[i] > 0 && waitpid(lanes[i], &status, 0) == lanes[i] && status == 0 && good;
    }
    return good;
}

/* The table; false: a chain has failed. */
static bool report(const struct campaign *campaign, double seconds)
{
    uint64_t failed = 0;
    printf("%-13s", "");
    for (unsigned i = 0; i < campaign->engine_count; i++)
        printf(" %11s", campaign->engines[i]);
    printf("\n");
#define ROW(title, value)                                                           \
    do {                                                                            \
        printf("%-13s", title);                                                     \
        for (unsigned i = 0; i < campaign->engine_count; i++)                       \
            printf(" %11llu", (unsigned long long)campaign->shared->sums[i].value); \
        printf("\n");                                                               \
    } while (0)
    ROW("cuts", cuts);
    ROW("in recovery", recovery_cuts);
    ROW("kills", kills);
    ROW("failed syncs", failed_syncs);
    ROW("acknowledged", acknowledged);
    for (enum chain_verdict verdict = CHAIN_LOSS; verdict < CHAIN_VERDICTS; verdict++) {
        ROW(chain_verdict_name(verdict), verdicts[verdict]);
        for (unsigned i = 0; verdict != CHAIN_UNBORN && i < campaign->engine_count; i++)
            failed += campaign->shared->sums[i].verdicts[verdict];
    }
#undef ROW
    printf("seed %llu, %u cuts a chain%s, %.0f s\n", (unsigned long long)campaign->seed, campaign->length,
           campaign->arguments, seconds);
    return failed == 0;
}

static void remove_directory(const struct campaign *campaign)
{
    char name[128];
    for (unsigned i = 0; i < campaign->jobs; i++) {
        (void)snprintf(name, sizeof name, "%s/mount-%u", campaign->directory, i);
        (void)rmdir(name);
        (void)snprintf(name, sizeof name, "%s/boot-id-%u", campaign->directory, i);
        (void)unlink(name);
    }
    (void)rmdir(campaign->directory);
}

/* The index of a word in a list that ends with NULL; or the end of the program. */
static unsigned choose(const char *option, const char *word, const char *const *words)
{
    for (unsigned i = 0; words[i] != NULL; i++)
        if (strcmp(word, words[i]) == 0)
            return i;
    fprintf(stderr, "powercut: --%s does not take %s\n%s", option, word, usage);
    exit(2);
}

static void add_argument(struct campaign *campaign, const char *option, const char *value)
{
    size_t used = strlen(campaign->arguments);
    (void)snprintf(campaign->arguments + used, sizeof campaign->arguments - used, " --%s%s%s", option,
                   value == NULL ? "" : " ", value == NULL ? "" : value);
}

static void take_option(struct campaign *campaign, const char *name, const char *value)
{
    static const char *const names[] = {"strict", "journal", NULL};
    static const char *const failures[] = {"clean", "revert", "dirty", NULL};
    static const char *const lies[] = {"none", "file", "directory", NULL};
    struct chain_options *options = &campaign->options;
    if (strcmp(name, "engine") == 0 && campaign->engine_count < ENGINES_MAX) {
        campaign->engines[campaign->engine_count++] = value;
    } else if (strcmp(name, "cuts") == 0) {
        campaign->cuts = strtoull(value, NULL, 10);
    } else if (strcmp(name, "seed") == 0) {
        campaign->seed = strtoull(value, NULL, 10);
    } else if (strcmp(name, "chain") == 0) {
        campaign->has_chain = true;
        campaign->only_chain = strtoull(value, NULL, 10);
    } else if (strcmp(name, "length") == 0) {
        campaign->length = (unsigned)strtoul(value, NULL, 10);
    } else if (strcmp(name, "jobs") == 0) {
        campaign->jobs = (unsigned)strtoul(value, NULL, 10);
    } else if (strcmp(name, "worker") == 0) {
        options->worker = value;
    } else if (strcmp(name, "dump") == 0) {
        options->dump = value;
    } else if (strcmp(name, "verbose") == 0) {
        options->verbose = true;
    } else {
        if (strcmp(name, "names") == 0)
            options->disk.names = (enum disk_names)choose(name, value, names);
        else if (strcmp(name, "lie") == 0)
            options->disk.lie = (enum disk_lie)choose(name, value, lies);
        else if (strcmp(name, "fail-syncs") == 0)
            options->failure = (enum disk_failure)choose(name, value, failures);
        options->fail_syncs = options->fail_syncs || strcmp(name, "fail-syncs") == 0;
        options->team = options->team || strcmp(name, "team") == 0;
        options->bare = options->bare || strcmp(name, "bare") == 0;
        add_argument(campaign, name, value);
    }
}

static void take_options(struct campaign *campaign, int count, char **words)
{
    static const struct option known[] = {
        {"engine", required_argument, NULL, 1},
        {"cuts", required_argument, NULL, 1},
        {"seed", required_argument, NULL, 1},
        {"chain", required_argument, NULL, 1},
        {"length", required_argument, NULL, 1},
        {"jobs", required_argument, NULL, 1},
        {"worker", required_argument, NULL, 1},
        {"dump", required_argument, NULL, 1},
        {"names", required_argument, NULL, 1},
        {"lie", required_argument, NULL, 1},
        {"fail-syncs", required_argument, NULL, 1},
        {"bare", no_argument, NULL, 1},
        {"team", no_argument, NULL, 1},
        {"verbose", no_argument, NULL, 1},
        {"help", no_argument, NULL, 2},
        {NULL, 0, NULL, 0},
    };
    int which, found;
    while ((found = getopt_long(count, words, "", known, &which)) == 1)
        take_option(campaign, known[which].name, optarg);
    if (found == 2) {
        fputs(usage, stdout);
        exit(0);
    }
    if (found != -1 || optind != count || campaign->options.worker == NULL || campaign->length == 0 ||
        campaign->jobs == 0 || campaign->jobs > JOBS_MAX) {
        fputs(usage, stderr);
        exit(2);
    }
    if (campaign->engine_count == 0)
        campaign->engines[campaign->engine_count++] = "pheap";
    campaign->options.cuts = campaign->length;
}

int main(int count, char **words)
{
    static struct campaign campaign = {.cuts = 100, .length = 25, .jobs = 1, .directory = "/tmp/powercut-XXXXXX"};
    struct timespec begin, end;
    (void)clock_gettime(CLOCK_REALTIME, &begin);
    campaign.seed = dice_mix((uint64_t)begin.tv_sec) % 1000000;
    take_options(&campaign, count, words);
    if (geteuid() != 0)
        return skip("only root can mount and give each boot a boot id");
    if (access("/dev/fuse", R_OK | W_OK) != 0)
        return skip("there is no /dev/fuse");
    if (unshare(CLONE_NEWNS) != 0)
        return skip("a mount namespace of one's own is not permitted");
    if (mkdtemp(campaign.directory) == NULL) {
        perror(campaign.directory);
        return 2;
    }
    campaign.shared = mmap(NULL, sizeof *campaign.shared, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (campaign.shared == MAP_FAILED)
        return 2;
    bool good = run_lanes(&campaign);
    remove_directory(&campaign);
    (void)clock_gettime(CLOCK_REALTIME, &end);
    return report(&campaign, (double)(end.tv_sec - begin.tv_sec)) && good ? 0 : 1;
}
