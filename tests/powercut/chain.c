/* SPDX-License-Identifier: MIT */
/* One chain of boots, and the judge of what the worker says. */
#include "tests/powercut/chain.h"
#include "tests/support/dice.h"
#include "tests/powercut/history.h"
#include "tests/powercut/mount.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define STUCK_MS 60000
#define ATTEMPTS_TEXT_BYTES 65536

/* What the dice of a boot are rolled for. */
enum { ROLL_STOP = 1, ROLL_RANGE, ROLL_KILLS, ROLL_BOOT_ID, ROLL_CUT, ROLL_FAILURE, ROLL_FAILURES };

struct chain {
    const struct chain_options *options;
    struct chain_sums *sums;
    struct disk *disk;
    struct mount *mount;
    struct history history;
    int event_fd;
    uint64_t dice; /* the seed of the present boot */
    unsigned boot;
    char cut_text[64], stopped_in[160];

    /* What is known of the store. */
    uint64_t durable;   /* the last transaction that a cut may not take */
    uint64_t committed; /* the last that a kill may not take */
    uint64_t begun;     /* the last that may be there */
    bool after_cut;     /* and nothing has been seen since */
    bool opened;        /* by this worker */

    enum chain_verdict verdict;
    char why[1300];

    /* The worker. */
    pid_t worker;
    int pipe;
    char line[2048];
    size_t line_length;
};

const char *chain_verdict_name(enum chain_verdict verdict)
{
    static const char *const names[CHAIN_VERDICTS] = {"good", "loss",    "phantom", "undead",
                                                      "torn", "refused", "unborn",  "crashed"};
    return names[verdict];
}

static void condemn(struct chain *chain, enum chain_verdict verdict, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
/* The first verdict counts. */
static void condemn(struct chain *chain, enum chain_verdict verdict, const char *format, ...)
{
    va_list arguments;
    if (chain->verdict != CHAIN_GOOD)
        return;
    chain->verdict = verdict;
    va_start(arguments, format);
    (void)vsnprintf(chain->why, sizeof chain->why, format, arguments);
    va_end(arguments);
}

/* The store was opened and is at transaction `number`. */
static void judge_state(struct chain *chain, uint64_t number)
{
    /* A failed sync, too, may take what is not durable: pages that a dead worker left in the cache. */
    bool survives = !chain->after_cut && mount_failed_syncs(chain->mount) == 0;
    uint64_t least = survives ? chain->committed : chain->durable;
    if (number < least)
        condemn(chain, CHAIN_LOSS, "it is at transaction %llu, but %llu was %s", (unsigned long long)number,
                (unsigned long long)least, survives ? "committed" : "on the disk");
    if (number > chain->begun)
        condemn(chain, CHAIN_PHANTOM, "it is at transaction %llu, but only %llu was begun", (unsigned long long)number,
                (unsigned long long)chain->begun);
    if (chain->after_cut)
        chain->durable = number;
    chain->committed = chain->begun = number;
    chain->after_cut = false;
    chain->opened = true;
    history_add(&chain->history, number);
}

static uint64_t larger(uint64_t one, uint64_t other)
{
    return one > other ? one : other;
}

/* Of a team, each may be late in saying something. */
static void judge_line(struct chain *chain, const char *line)
{
    uint64_t number = strtoull(line + 1, NULL, 10);
    bool faulty = mount_failed_syncs(chain->mount) > 0;
    switch (line[0]) {
    case 'K':
        judge_state(chain, number);
        break;
    case 'S':
        chain->begun = larger(chain->begun, number);
        break;
    case 'A':
        chain->durable = larger(chain->durable, number);
        chain->committed = larger(chain->committed, number);
        chain->sums->acknowledged++;
        break;
    case 'L':
        chain->committed = larger(chain->committed, number);
        break;
    case 'E':
        if (!faulty)
            condemn(chain, CHAIN_CRASHED, "a call failed: %s", line + 2);
        break;
    case 'R':
        if (!faulty)
            condemn(chain, chain->durable > 0 ? CHAIN_REFUSED : CHAIN_UNBORN, "it cannot be opened: %s", line + 2);
        break;
    case 'U':
        condemn(chain, CHAIN_UNDEAD, "%s", line + 2);
        break;
    default:
        condemn(chain, CHAIN_TORN, "%s", line + 2);
        break;
    }
}

/* Read what the worker has said; false: it has ended. */
static bool listen_to_worker(struct chain *chain)
{
    ssize_t got = read(chain->pipe, chain->line + chain->line_length, sizeof chain->line - 1 - chain->line_length);
    if (got <= 0)
        return false;
    chain->line_length += (size_t)got;
    chain->line[chain->line_length] = '\0';
    char *from = chain->line, *end;
    while ((end = strchr(from, '\n')) != NULL) {
        *end = '\0';
        if (chain->options->verbose && strchr("SAL", from[0]) == NULL)
            fprintf(stderr, "    %s\n", from);
        judge_line(chain, from);
        from = end + 1;
    }
    chain->line_length -= (size_t)(from - chain->line);
    memmove(chain->line, from, chain->line_length);
    return true;
}

static void start_worker(struct chain *chain, bool check)
{
    static char attempts[ATTEMPTS_TEXT_BYTES];
    char seed[32];
    int ends[2];
    const struct chain_options *options = chain->options;
    (void)snprintf(seed, sizeof seed, "%llu", (unsigned long long)chain->history.seed);
    if (!history_format(&chain->history, attempts, sizeof attempts) || pipe2(ends, O_CLOEXEC) != 0)
        abort();
    const char *words[9] = {options->worker, options->engine, options->mount, seed, attempts};
    size_t count = 5;
    if (options->bare)
        words[count++] = "bare";
    if (options->team)
        words[count++] = "team";
    if (check)
        words[count++] = "check";
    chain->opened = false;
    chain->worker = fork();
    if (chain->worker == 0) {
        (void)setpgid(0, 0);
        (void)dup2(ends[1], STDOUT_FILENO);
        (void)execv(options->worker, (char *const *)(uintptr_t)words);
        _exit(127);
    }
    if (chain->worker < 0)
        abort();
    (void)setpgid(chain->worker, chain->worker); /* whoever of the two is first */
    (void)close(ends[1]);
    chain->pipe = ends[0];
    chain->line_length = 0;
}

/* Wait until the mount stops; false: the worker has ended before. */
static bool wait_for_stop(struct chain *chain)
{
    struct pollfd wait[2] = {{.fd = chain->event_fd, .events = POLLIN}, {.fd = chain->pipe, .events = POLLIN}};
    for (;;) {
        int ready = poll(wait, 2, STUCK_MS);
        if (ready <= 0) {
            condemn(chain, CHAIN_CRASHED, "the worker is stuck");
            return false;
        }
        if (wait[0].revents != 0) {
            uint64_t count;
            return read(chain->event_fd, &count, sizeof count) == sizeof count;
        }
        if (!listen_to_worker(chain))
            return false;
    }
}

/* The worker is dead or dying: hear what it, and whoever it has started, said last, and bury it. */
static int bury_worker(struct chain *chain)
{
    int status = 0;
    while (listen_to_worker(chain))
        ;
    (void)close(chain->pipe);
    (void)waitpid(chain->worker, &status, 0);
    return status;
}

/* The worker ended by itself though the disk never stopped. */
static void judge_end(struct chain *chain)
{
    mount_stop_at(chain->mount, 0);
    (void)kill(-chain->worker, SIGKILL);
    mount_resume(chain->mount, MOUNT_ON);
    int status = bury_worker(chain);
    if (mount_failed_syncs(chain->mount) > 0 && WIFEXITED(status))
        return;
    if (WIFSIGNALED(status))
        condemn(chain, CHAIN_CRASHED, "the worker died by signal %d", WTERMSIG(status));
    condemn(chain, CHAIN_CRASHED, "the worker ended with status %d", WEXITSTATUS(status));
}

/* How many operations go by before something happens: often few, so that recovery is hit. */
static uint64_t operations_until(uint64_t range, uint64_t roll)
{
    uint64_t most = range % 20 < 7 ? 40 : range % 20 < 17 ? 300 : 3000;
    return 1 + roll % most;
}

/* Run a worker to its death by the stop after some operations; false: the chain is over, or the worker has given up. */
static bool run_worker(struct chain *chain, unsigned number, enum mount_power power)
{
    uint64_t key = number * UINT64_C(100);
    mount_stop_at(chain->mount,
                  operations_until(dice_of(chain->dice, key + ROLL_RANGE), dice_of(chain->dice, key + ROLL_STOP)));
    start_worker(chain, false);
    if (!wait_for_stop(chain)) {
        judge_end(chain);
        return false;
    }
    (void)kill(-chain->worker, SIGKILL);
    (void)snprintf(chain->stopped_in, sizeof chain->stopped_in, "%s", mount_stopped_in(chain->mount));
    mount_resume(chain->mount, power);
    (void)bury_worker(chain);
    return chain->verdict == CHAIN_GOOD;
}

/* A kernel that has just started has a boot id of its own: stores go by it. */
static void set_boot_id(const struct chain *chain)
{
    uint64_t one = dice_of(chain->dice, ROLL_BOOT_ID), other = dice_mix(one);
    FILE *file = fopen(chain->options->boot_id, "w");
    if (file == NULL)
        abort();
    fprintf(file, "%08x-%04x-%04x-%04x-%012llx\n", (unsigned)(one >> 32), (unsigned)(one & 0xffff),
            (unsigned)(one >> 16 & 0xffff), (unsigned)(other >> 48), (unsigned long long)other & 0xffffffffffff);
    (void)fclose(file);
}

static void dump(const struct chain *chain, const char *when)
{
    char path[4096];
    if (chain->options->dump == NULL)
        return;
    (void)snprintf(path, sizeof path, "%s/%s-%llu-%02u-%s", chain->options->dump, chain->options->engine,
                   (unsigned long long)chain->options->number, chain->boot, when);
    if (mkdir(path, 0755) != 0 && errno != EEXIST)
        perror(path);
    else if (disk_dump(chain->disk, path) != 0)
        fprintf(stderr, "powercut: cannot write all files into %s\n", path);
}

static bool mount_disk(struct chain *chain)
{
    chain->mount = mount_begin(chain->disk, chain->options->mount, chain->event_fd);
    if (chain->mount == NULL) {
        condemn(chain, CHAIN_CRASHED, "cannot mount at %s: %s", chain->options->mount, strerror(errno));
        return false;
    }
    mount_trace(chain->mount, chain->options->verbose);
    return true;
}

static void new_disk(struct chain *chain)
{
    if (chain->disk != NULL)
        disk_free(chain->disk);
    chain->disk = disk_new(&chain->options->disk);
    history_deinit(&chain->history);
    chain->history.seed = dice_of(chain->options->seed, chain->options->number);
    chain->durable = chain->committed = chain->begun = 0;
    chain->after_cut = true;
}

/* From one power-up to the next cut. */
static void run_boot(struct chain *chain)
{
    const struct chain_options *options = chain->options;
    chain->dice = dice_of(chain->history.seed, chain->boot + UINT64_C(1000));
    set_boot_id(chain);
    if (!mount_disk(chain))
        return;
    if (options->fail_syncs && dice_of(chain->dice, ROLL_FAILURES) % 2 == 0)
        mount_fail_sync(chain->mount, 1 + dice_of(chain->dice, ROLL_FAILURE) % 60, options->failure);
    uint64_t roll = dice_of(chain->dice, ROLL_KILLS) % 8;
    unsigned kills = roll < 6 ? 0 : (unsigned)roll - 5, run = 0;
    bool goes_on = true;
    for (; goes_on && run < kills; run++) {
        goes_on = run_worker(chain, run, MOUNT_ON);
        chain->sums->kills += goes_on;
    }
    if (goes_on)
        (void)run_worker(chain, run, MOUNT_OFF);
    chain->sums->failed_syncs += mount_failed_syncs(chain->mount);
    mount_end(chain->mount);
    if (chain->verdict != CHAIN_GOOD)
        return;
    dump(chain, "before");
    chain->sums->cuts++;
    chain->sums->recovery_cuts += !chain->opened;
    disk_cut(chain->disk, dice_of(chain->dice, ROLL_CUT), chain->cut_text, sizeof chain->cut_text);
    chain->after_cut = true;
    dump(chain, "after");
    if (options->verbose)
        fprintf(stderr, "  cut %u in %s; on the disk: %s\n", chain->boot, chain->stopped_in, chain->cut_text);
}

/* What the last cut left. */
static void run_check(struct chain *chain)
{
    chain->dice = dice_of(chain->history.seed, chain->boot + UINT64_C(1000));
    set_boot_id(chain);
    if (!mount_disk(chain))
        return;
    start_worker(chain, true);
    if (wait_for_stop(chain))
        abort(); /* nobody told it to stop */
    int status = bury_worker(chain);
    if (status != 0)
        condemn(chain, CHAIN_CRASHED, "the worker ended with status %d", status);
    mount_end(chain->mount);
}

enum chain_verdict chain_run(const struct chain_options *options, struct chain_sums *sums, char *text, size_t text_size)
{
    struct chain chain = {.options = options, .sums = sums, .event_fd = eventfd(0, EFD_CLOEXEC)};
    if (chain.event_fd < 0)
        abort();
    new_disk(&chain);
    for (chain.boot = 1; chain.boot <= options->cuts + 1 && chain.verdict == CHAIN_GOOD; chain.boot++) {
        if (chain.boot <= options->cuts)
            run_boot(&chain);
        else
            run_check(&chain);
        if (chain.verdict == CHAIN_UNBORN) {
            sums->verdicts[CHAIN_UNBORN]++;
            chain.verdict = CHAIN_GOOD;
            new_disk(&chain);
        }
    }
    if (chain.verdict != CHAIN_GOOD)
        (void)snprintf(text, text_size, "after cut %u (in %s; on the disk: %s): %s", chain.boot - 2, chain.stopped_in,
                       chain.cut_text, chain.why);
    sums->verdicts[chain.verdict]++;
    disk_free(chain.disk);
    history_deinit(&chain.history);
    (void)close(chain.event_fd);
    return chain.verdict;
}
