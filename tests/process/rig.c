/* SPDX-License-Identifier: MIT */
/* Starting, waiting for and killing actors. */
#include "tests/process/rig.h"

#include "tests/support/dice.h"
#include "wal/coord.h"

#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define PAUSE_US 100
#define LOOKS (HANG_SECONDS * (1000000u / PAUSE_US))
#define ATTACH_LOCK_START (INT64_C(1) << 62) /* docs/format.md */
#define VERIFIER (ACTORS_MAX - 1)

static void *shared_memory(size_t length)
{
    void *memory = mmap(NULL, length, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED) {
        perror("kills: mmap");
        exit(2);
    }
    return memory;
}

void rig_init(struct rig *rig, const char *directory, unsigned job, uint64_t seed, struct rig_figures *figures)
{
    memset(rig, 0, sizeof *rig);
    rig->stage = shared_memory(sizeof *rig->stage);
    rig->victim_seen = shared_memory(sizeof *rig->victim_seen);
    rig->figures = figures;
    rig->dice = dice_mix(seed * 1000003 + job);
    oracle_use(&rig->stage->oracle);
    (void)snprintf(rig->stage->path, sizeof rig->stage->path, "%s/heap", directory);
    rig_new_heap(rig);
}

bool rig_fail(struct rig *rig, const char *format, ...)
{
    char text[2048];
    va_list arguments;
    va_start(arguments, format);
    (void)vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    (void)fprintf(stderr, "FAILED: %s: %s (heap %s)\n", rig->what, text, rig->stage->path);
    return false;
}

void rig_pause(void)
{
    const struct timespec time = {.tv_nsec = PAUSE_US * 1000};
    (void)nanosleep(&time, NULL);
}

static void add_up(struct rig *rig)
{
    atomic_fetch_add(&rig->figures->transactions, rig->stage->oracle.model.k);
    atomic_fetch_add(&rig->figures->recoveries, atomic_exchange(&rig->stage->recoveries, 0));
}

void rig_new_heap(struct rig *rig)
{
    static const char *const suffixes[] = {"", "-wal", "-shm", "-new"};
    char path[600];
    add_up(rig);
    for (size_t i = 0; i < sizeof suffixes / sizeof suffixes[0]; i++) {
        (void)snprintf(path, sizeof path, "%s%s", rig->stage->path, suffixes[i]);
        (void)unlink(path);
    }
    oracle_restart(dice_roll(&rig->dice));
    atomic_fetch_add(&rig->figures->heaps, 1);
}

/* ----------------------------------------------------------------------------------------------- starting and ending */

void rig_start(struct rig *rig, unsigned number, enum actor_role role)
{
    struct actor *actor = &rig->stage->actors[number];
    atomic_store(&actor->quit, 0);
    atomic_store(&actor->state, ACTOR_AWAY);
    atomic_store(&actor->arm.reached, 0);
    const uint64_t seed = dice_roll(&rig->dice);
    (void)fflush(NULL);
    const pid_t pid = fork();
    if (pid < 0) {
        perror("kills: fork");
        exit(2);
    }
    if (pid == 0) {
        (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
        points_use(&actor->arm, number == 0 ? rig->victim_seen : &rig->figures->seen);
        actor_play(rig->stage, number, role, seed);
    }
    actor->pid = pid;
}

bool rig_is_there(const struct rig *rig, unsigned number)
{
    return rig->stage->actors[number].pid != 0;
}

/* It is no more. */
static void forget(struct actor *actor)
{
    actor->pid = 0;
    atomic_store(&actor->arm.armed, 0);
    atomic_store(&actor->held_back, 0);
}

void rig_kill(struct rig *rig, unsigned number)
{
    struct actor *actor = &rig->stage->actors[number];
    if (actor->pid == 0) {
        return;
    }
    (void)kill(actor->pid, SIGKILL);
    (void)waitpid(actor->pid, NULL, 0);
    forget(actor);
}

void rig_kill_all(struct rig *rig)
{
    for (unsigned i = 0; i < ACTORS_MAX; i++) {
        rig_kill(rig, i);
    }
}

static void count_struck(struct rig *rig, const struct actor *actor)
{
    const uint32_t reached = atomic_load(&actor->arm.reached);
    if (reached != 0) {
        atomic_fetch_add(&rig->figures->struck.passages[reached - 1], 1);
    }
}

void rig_count_kill(struct rig *rig, unsigned number)
{
    const unsigned state = atomic_load(&rig->stage->actors[number].state);
    atomic_fetch_add(&rig->figures->kills, 1);
    atomic_fetch_add(&rig->figures->opening, state == ACTOR_OPENING || state == ACTOR_CLOSING);
}

/* What waitpid said of it. */
static enum rig_end judge(struct rig *rig, unsigned number, int status)
{
    struct actor *actor = &rig->stage->actors[number];
    if (WIFSTOPPED(status)) {
        count_struck(rig, actor);
        return RIG_STOPPED;
    }
    forget(actor);
    if (WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL && atomic_load(&actor->arm.reached) != 0) {
        count_struck(rig, actor);
        rig_count_kill(rig, number);
        return RIG_KILLED;
    }
    if (status == 0) {
        return RIG_ENDED;
    }
    (void)rig_fail(rig, "process %u ended by itself, status 0x%x: %s", number, (unsigned)status,
                   rig->stage->oracle.error);
    return RIG_WRONG;
}

enum rig_end rig_await_for(struct rig *rig, unsigned number, uint64_t microseconds)
{
    for (uint64_t i = 0; i <= microseconds / PAUSE_US; i++) {
        int status;
        if (waitpid(rig->stage->actors[number].pid, &status, WNOHANG | WUNTRACED) > 0) {
            return judge(rig, number, status);
        }
        rig_pause();
    }
    return RIG_HANGS;
}

enum rig_end rig_await(struct rig *rig, unsigned number)
{
    const enum rig_end end = rig_await_for(rig, number, (uint64_t)LOOKS * PAUSE_US);
    if (end == RIG_HANGS) {
        (void)rig_fail(rig, "process %u hangs (state %u)", number, atomic_load(&rig->stage->actors[number].state));
    }
    return end;
}

bool rig_all_well(struct rig *rig, unsigned numbers)
{
    for (unsigned i = 0; i < ACTORS_MAX; i++) {
        int status;
        if (rig->stage->actors[i].pid == 0 || waitpid(rig->stage->actors[i].pid, &status, WNOHANG) <= 0) {
            continue;
        }
        const enum rig_end end = judge(rig, i, status);
        if (end == RIG_WRONG) {
            return false;
        }
        if (end == RIG_ENDED && (numbers >> i & 1) != 0) {
            return rig_fail(rig, "process %u ended though nobody told it to", i);
        }
    }
    return true;
}

bool rig_progress(struct rig *rig, unsigned numbers)
{
    uint64_t before[ACTORS_MAX];
    for (unsigned i = 0; i < ACTORS_MAX; i++) {
        before[i] = atomic_load(&rig->stage->actors[i].progress);
    }
    for (unsigned look = 0; look < LOOKS; look++) {
        unsigned behind = 0;
        for (unsigned i = 0; i < ACTORS_MAX; i++) {
            const bool on = atomic_load(&rig->stage->actors[i].progress) >= before[i] + 2;
            behind |= on ? 0 : numbers & 1u << i;
        }
        if (behind == 0) {
            return true;
        }
        if (look % 16 == 15 && !rig_all_well(rig, numbers)) {
            return false;
        }
        rig_pause();
    }
    return rig_fail(rig, "of the processes 0x%x not all go on", numbers);
}

bool rig_retire(struct rig *rig, unsigned numbers)
{
    bool good = true;
    for (unsigned i = 0; i < ACTORS_MAX; i++) {
        if ((numbers >> i & 1) != 0) {
            atomic_store(&rig->stage->actors[i].quit, 1);
        }
    }
    for (unsigned i = 0; i < ACTORS_MAX && good; i++) {
        if ((numbers >> i & 1) != 0 && rig_is_there(rig, i)) {
            const enum rig_end end = rig_await(rig, i);
            good = end == RIG_ENDED || end == RIG_KILLED;
        }
    }
    return good;
}

bool rig_verify(struct rig *rig)
{
    rig_start(rig, VERIFIER, ACTOR_VERIFIER);
    const enum rig_end end = rig_await(rig, VERIFIER);
    atomic_fetch_add(&rig->figures->verified, 1);
    return end == RIG_ENDED;
}

/* ---------------------------------------------------------------------------------------------------------- stopped */

static bool is_locked(const char *path, const char *suffix, off_t start)
{
    char name[600];
    (void)snprintf(name, sizeof name, "%s%s", path, suffix);
    const int file = open(name, O_RDONLY | O_CLOEXEC);
    if (file < 0) {
        return false;
    }
    struct flock lock = {.l_type = F_RDLCK, .l_whence = SEEK_SET, .l_start = start, .l_len = 1};
    const bool locked = fcntl(file, F_OFD_GETLK, &lock) == 0 && lock.l_type == F_WRLCK;
    close(file);
    return locked;
}

static bool owns(const struct ph_mutex *mutex, pid_t pid)
{
    return (mutex->u.mutex.__data.__lock & 0x3fffffff) == pid; /* FUTEX_TID_MASK */
}

struct rig_held rig_probe(const struct rig *rig, pid_t pid)
{
    static struct ph_coord coord;
    char name[600];
    struct rig_held held = {
        .attach = is_locked(rig->stage->path, "", ATTACH_LOCK_START),
        .creating = is_locked(rig->stage->path, "-new", 0),
    };
    (void)snprintf(name, sizeof name, "%s-shm", rig->stage->path);
    const int file = open(name, O_RDONLY | O_CLOEXEC);
    if (file >= 0 && pread(file, &coord, sizeof coord, 0) == (ssize_t)sizeof coord) {
        held.writer = owns(&coord.writer_lock, pid);
        held.flush = owns(&coord.flush_lock, pid);
        held.fold = owns(&coord.fold_lock, pid);
    }
    if (file >= 0) {
        close(file);
    }
    return held;
}

bool rig_reader_content(struct actor *reader, const struct rig_held *held)
{
    if (atomic_load(&reader->state) == ACTOR_OPENING) {
        return held->attach || held->creating || atomic_load(&reader->refusals) != 0;
    }
    return atomic_load(&reader->commits) >= 2;
}

void rig_begin_stop(struct rig *rig)
{
    for (unsigned i = 0; i < ACTORS_MAX; i++) {
        atomic_store(&rig->stage->actors[i].commits, 0);
        atomic_store(&rig->stage->actors[i].refusals, 0);
        for (unsigned j = 0; j < ACTORS_MAX; j++) {
            atomic_store(&rig->stage->actors[i].named[j], 0);
        }
    }
    atomic_store(&rig->stage->stop, ++rig->stops);
    atomic_fetch_add(&rig->figures->stops, 1);
}

void rig_end_stop(struct rig *rig)
{
    atomic_store(&rig->stage->stop, 0);
}

/* ----------------------------------------------------------------------------------------------------------- report */

void rig_report(const struct rig_settings *settings, struct rig_figures *figures)
{
    unsigned struck = 0;
    unsigned expected = 0;
    for (unsigned point = 0; point < points_count(); point++) {
        expected += points_expected(point);
        struck += points_expected(point) && atomic_load(&figures->struck.passages[point]) != 0;
    }
    (void)printf(
        "%llu kills, %llu of them in creating, opening, closing or recovering; %llu stops; at %u of %u fail "
        "points\n"
        "%llu verifications, %llu recoveries, %llu transactions, %llu heaps\n",
        (unsigned long long)atomic_load(&figures->kills), (unsigned long long)atomic_load(&figures->opening),
        (unsigned long long)atomic_load(&figures->stops), struck, expected,
        (unsigned long long)atomic_load(&figures->verified), (unsigned long long)atomic_load(&figures->recoveries),
        (unsigned long long)atomic_load(&figures->transactions), (unsigned long long)atomic_load(&figures->heaps));
    if (settings->cycles != 0) {
        (void)printf("%llu cycles, %llu failed\n", (unsigned long long)atomic_load(&figures->cycles),
                     (unsigned long long)atomic_load(&figures->failed));
    } else {
        (void)printf("%llu passed, %llu failed\n", (unsigned long long)atomic_load(&figures->passed),
                     (unsigned long long)atomic_load(&figures->failed));
    }
}
