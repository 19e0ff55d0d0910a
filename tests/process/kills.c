/* SPDX-License-Identifier: MIT */
/*
 * The process rig: real processes on a real directory, killed and stopped at fail points.
 *
 *   kills --each [--jobs N] [--directory DIR] [--point NAME]      every fail point, once killed and once stopped
 *   kills --cycles N [--seed S] [--jobs N] [--directory DIR]      a campaign of random kills: docs/kills.md
 *
 * Each: the victim goes through a scenario that passes the point, and is stopped there.  Two writers and a reader are
 * present, or come now.  While it is stopped: the reader goes on; a writer goes on too where the victim holds nothing,
 * and else gets a clear error that names the victim (which locks it holds is read from the coordination file).  Then it
 * is killed, or goes on.  After that: the writers and the reader go on; the victim, if it lives, ends well; a fresh
 * process verifies the history and the whole heap (tests/process/oracle.h).  A point that is not reached is a failure, and
 * so is one that is passed and not in the tables of points.c.
 *
 * Nothing depends on how long anything takes, but that nothing takes minutes.
 *
 * The last line of --each is "N passed, N failed".  Exits with 0 if nothing failed.
 */
#include "tests/process/rig.h"

#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#define JOBS_MAX 16u

static const struct option long_options[] = {
    {"each", no_argument, NULL, 'e'},
    {"cycles", required_argument, NULL, 'c'},
    {"seed", required_argument, NULL, 's'},
    {"jobs", required_argument, NULL, 'j'},
    {"directory", required_argument, NULL, 'd'},
    {"point", required_argument, NULL, 'p'},
    {"help", no_argument, NULL, 'h'},
    {NULL, 0, NULL, 0},
};

static struct rig_figures *figures;

/* A campaign that is interrupted tells how far it has come. */
static void end_campaign(int signal)
{
    (void)signal;
    atomic_store(&figures->enough, 1);
}

static void usage(void)
{
    (void)puts("kills --each [--jobs N] [--directory DIR] [--point NAME]\n"
               "    kill and stop a process at every fail point, once each\n"
               "kills --cycles N [--seed S] [--jobs N] [--directory DIR]\n"
               "    N cycles of random kills and stops, and the figures of them");
}

/* A directory of one job's own, below `parent`. */
static void make_directory(const char *parent, unsigned job, char *path, size_t size)
{
    (void)snprintf(path, size, "%s/pheap-kills-%u-XXXXXX", parent, job);
    if (mkdtemp(path) == NULL) {
        perror(path);
        exit(2);
    }
}

static bool remove_directory(const char *path)
{
    char command[512];
    (void)snprintf(command, sizeof command, "rm -rf '%s'", path);
    return system(command) == 0;
}

static pid_t start_job(const struct rig_settings *settings, const char *parent, unsigned job)
{
    (void)fflush(NULL);
    const pid_t pid = fork();
    if (pid != 0) {
        return pid;
    }
    char path[256];
    (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
    (void)signal(SIGINT, SIG_IGN); /* which a terminal sends to all */
    make_directory(parent, job, path, sizeof path);
    bool good =
        settings->cycles != 0 ? rig_campaign(settings, path, job, figures) : rig_each(settings, path, job, figures);
    if (good) { /* what failed is left for whoever looks into it */
        good = remove_directory(path);
    }
    exit(good ? 0 : 1);
}

int main(int argc, char **argv)
{
    struct rig_settings settings = {.jobs = 1, .seed = 1, .point = POINTS_MAX};
    const char *parent = getenv("TMPDIR") != NULL ? getenv("TMPDIR") : "/tmp";
    bool each = false;
    int letter;
    while ((letter = getopt_long(argc, argv, "", long_options, NULL)) != -1) {
        switch (letter) {
        case 'e':
            each = true;
            break;
        case 'c':
            settings.cycles = strtoull(optarg, NULL, 10);
            break;
        case 's':
            settings.seed = strtoull(optarg, NULL, 10);
            break;
        case 'j':
            settings.jobs = (unsigned)strtoul(optarg, NULL, 10);
            break;
        case 'd':
            parent = optarg;
            break;
        case 'p':
            settings.point = points_find(optarg);
            if (settings.point == POINTS_MAX) {
                (void)fprintf(stderr, "kills: there is no fail point %s\n", optarg);
                return 2;
            }
            break;
        case 'h':
            usage();
            return 0;
        default:
            usage();
            return 2;
        }
    }
    if (each == (settings.cycles != 0) || settings.jobs == 0 || settings.jobs > JOBS_MAX) {
        usage();
        return 2;
    }
    figures = mmap(NULL, sizeof *figures, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (figures == MAP_FAILED) {
        perror("kills");
        return 2;
    }
    for (unsigned job = 0; job < settings.jobs; job++) {
        if (start_job(&settings, parent, job) < 0) {
            perror("kills: fork");
            return 2;
        }
    }
    unsigned bad = 0;
    int status;
    (void)signal(SIGINT, end_campaign);
    (void)signal(SIGTERM, end_campaign);
    pid_t ended;
    while ((ended = wait(&status)) > 0 || errno == EINTR) {
        bad += ended > 0 && status != 0;
    }
    rig_report(&settings, figures);
    return bad == 0 && atomic_load(&figures->failed) == 0 ? 0 : 1;
}
