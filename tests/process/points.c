/* SPDX-License-Identifier: MIT */
/* Fail points: the named ones, and the calls of the seam. */
#include "tests/process/points.h"

#include "io/failpoint.h"
#include "io/io.h"
#include "io/posix.h"

#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define FILES_MAX 1024

enum kind { KIND_HEAP, KIND_LOG, KIND_COORD, KIND_NEW, KIND_NONE, KINDS };
enum when { WHEN_BEFORE, WHEN_HALF, WHEN_AFTER, WHENS };
enum call {
    CALL_OPEN,
    CALL_CLOSE,
    CALL_READ,
    CALL_WRITE,
    CALL_SYNC,
    CALL_TRUNCATE,
    CALL_ALLOCATE,
    CALL_UNLINK,
    CALL_RENAME,
    CALL_SYNC_DIRECTORY,
    CALL_LOCK,
    CALL_MAP,
    CALL_UNMAP,
    CALL_DROP,
    CALL_WAIT,
    CALL_WAKE,
    CALLS
};

static const char *const kinds[KINDS] = {"heap", "log", "coord", "new", "-"};
static const char *const whens[WHENS] = {"before", "half", "after"};
static const char *const calls[CALLS] = {"open",     "close",  "read",   "write",   "sync", "truncate",
                                         "allocate", "unlink", "rename", "syncdir", "lock", "map",
                                         "unmap",    "drop",   "wait",   "wake"};

/* The files that each call is made for: a bit for each kind. */
#define OF(kind) (1u << KIND_##kind)
static const unsigned made_for[CALLS] = {
    [CALL_OPEN] = OF(HEAP) | OF(LOG) | OF(COORD) | OF(NEW),
    [CALL_CLOSE] = OF(HEAP) | OF(LOG) | OF(COORD) | OF(NEW),
    [CALL_READ] = OF(HEAP) | OF(LOG),
    [CALL_WRITE] = OF(HEAP) | OF(LOG) | OF(NEW),
    [CALL_SYNC] = OF(HEAP) | OF(LOG) | OF(NEW),
    [CALL_TRUNCATE] = OF(COORD) | OF(NEW),
    [CALL_ALLOCATE] = OF(HEAP) | OF(COORD),
    [CALL_UNLINK] = OF(NEW),
    [CALL_RENAME] = OF(NEW),
    [CALL_SYNC_DIRECTORY] = OF(HEAP) | OF(LOG),
    [CALL_LOCK] = OF(HEAP) | OF(COORD) | OF(NEW),
    [CALL_MAP] = OF(HEAP) | OF(COORD),
    [CALL_UNMAP] = OF(NONE),
    [CALL_DROP] = OF(NONE),
    [CALL_WAIT] = OF(NONE),
    [CALL_WAKE] = OF(NONE),
};

static const char *const names[] = {
#define NAME(name) #name,
    PH_POINTS(NAME)
#undef NAME
};

static struct points_arm *own;
static struct points_seen *seen;

/* --------------------------------------------------------------------------------------------------------- passing */

/* Whether this process is to be killed or stopped at that point, now or after more passages. */
static bool awaited(unsigned point)
{
    const uint32_t armed = own == NULL ? 0 : atomic_load(&own->armed);
    return armed == point + 1 || armed == POINTS_ANY + 1;
}

static void pass(unsigned point)
{
    if (own == NULL) {
        return;
    }
    atomic_fetch_add_explicit(&seen->passages[point], 1, memory_order_relaxed);
    atomic_fetch_add_explicit(&own->passages, 1, memory_order_relaxed);
    if (!awaited(point) || atomic_fetch_sub(&own->left, 1) != 1) {
        return;
    }
    atomic_store(&own->armed, 0);
    atomic_store(&own->reached, point + 1);
    (void)kill(getpid(), atomic_load(&own->action) == POINTS_KILL ? SIGKILL : SIGSTOP);
}

void ph_point_pass(enum ph_point point)
{
    pass((unsigned)point);
}

void points_use(struct points_arm *arm, struct points_seen *counts)
{
    own = arm;
    seen = counts;
}

void points_set(struct points_arm *arm, unsigned point, int64_t passage, enum points_action action)
{
    atomic_store(&arm->armed, 0);
    atomic_store(&arm->action, action);
    atomic_store(&arm->left, passage);
    atomic_store(&arm->armed, point + 1);
}

void points_clear(struct points_arm *arm)
{
    atomic_store(&arm->armed, 0);
}

/* ----------------------------------------------------------------------------------------------------------- names */

static unsigned number_of(enum call call, enum kind kind, enum when when)
{
    return PH_POINT_COUNT + ((unsigned)call * KINDS + (unsigned)kind) * WHENS + (unsigned)when;
}

unsigned points_count(void)
{
    _Static_assert(PH_POINT_COUNT + CALLS * KINDS * WHENS <= POINTS_MAX, "there is room for all points");
    return PH_POINT_COUNT + CALLS * KINDS * WHENS;
}

bool points_expected(unsigned point)
{
    if (point < PH_POINT_COUNT) {
        return true;
    }
    const unsigned rest = point - PH_POINT_COUNT;
    const unsigned call = rest / WHENS / KINDS;
    const unsigned kind = rest / WHENS % KINDS;
    return (made_for[call] >> kind & 1) != 0 && (rest % WHENS != WHEN_HALF || call == CALL_WRITE);
}

bool points_certain(unsigned point)
{
    /* The new file of a creator who came too late. */
    const bool by_chance = point >= number_of(CALL_UNLINK, KIND_HEAP, WHEN_BEFORE) &&
                           point < number_of(CALL_UNLINK + 1, KIND_HEAP, WHEN_BEFORE);
    return points_expected(point) && !by_chance;
}

const char *points_name(unsigned point)
{
    static char text[POINTS_NAME_BYTES];
    const unsigned rest = point - PH_POINT_COUNT;
    if (point < PH_POINT_COUNT) {
        return names[point];
    }
    (void)snprintf(text, sizeof text, "%s.%s.%s", calls[rest / WHENS / KINDS], kinds[rest / WHENS % KINDS],
                   whens[rest % WHENS]);
    return text;
}

unsigned points_find(const char *name)
{
    for (unsigned point = 0; point < points_count(); point++) {
        if (strcmp(points_name(point), name) == 0) {
            return point;
        }
    }
    return POINTS_MAX;
}

/* -------------------------------------------------------------------------------------------------------- the seam */

static const ph_io *real;
static enum kind file_kinds[FILES_MAX];

static enum kind kind_of_path(const char *path)
{
    static const char *const suffixes[] = {[KIND_LOG] = "-wal", [KIND_COORD] = "-shm", [KIND_NEW] = "-new"};
    const size_t length = strlen(path);
    for (unsigned kind = KIND_LOG; kind <= KIND_NEW; kind++) {
        if (length > 4 && strcmp(path + length - 4, suffixes[kind]) == 0) {
            return (enum kind)kind;
        }
    }
    return KIND_HEAP;
}

static enum kind kind_of_file(int file)
{
    return file >= 0 && file < FILES_MAX ? file_kinds[file] : KIND_NONE;
}

static void before(enum call call, enum kind kind)
{
    pass(number_of(call, kind, WHEN_BEFORE));
}

static void after(enum call call, enum kind kind)
{
    pass(number_of(call, kind, WHEN_AFTER));
}

/* `call` of the real seam, between two points. */
#define BETWEEN(number, kind, type, call) \
    do {                                  \
        before(number, kind);             \
        const type result = (call);       \
        after(number, kind);              \
        return result;                    \
    } while (0)

static int open_file(void *ctx, const char *path, unsigned flags, uint32_t mode)
{
    before(CALL_OPEN, kind_of_path(path));
    const int file = real->open(ctx, path, flags, mode);
    if (file >= 0 && file < FILES_MAX) {
        file_kinds[file] = kind_of_path(path);
    }
    after(CALL_OPEN, kind_of_path(path));
    return file;
}

static int close_file(void *ctx, int file)
{
    BETWEEN(CALL_CLOSE, kind_of_file(file), int, real->close(ctx, file));
}

static int64_t read_file(void *ctx, int file, void *buffer, size_t length, uint64_t offset)
{
    BETWEEN(CALL_READ, kind_of_file(file), int64_t, real->read(ctx, file, buffer, length, offset));
}

/* The kernel may be killed within a write, between two pages or blocks. */
static int64_t write_file(void *ctx, int file, const void *buffer, size_t length, uint64_t offset, unsigned flags)
{
    const enum kind kind = kind_of_file(file);
    const size_t half = length >= 8192 ? length / 8192 * 4096 : length / 1024 * 512;
    before(CALL_WRITE, kind);
    const unsigned point = number_of(CALL_WRITE, kind, WHEN_HALF);
    if (half != 0 && (!awaited(point) || real->write(ctx, file, buffer, half, offset, flags) == (int64_t)half)) {
        pass(point);
    }
    const int64_t result = real->write(ctx, file, buffer, length, offset, flags);
    after(CALL_WRITE, kind);
    return result;
}

static int sync_file(void *ctx, int file)
{
    BETWEEN(CALL_SYNC, kind_of_file(file), int, real->sync(ctx, file));
}

static int truncate_file(void *ctx, int file, uint64_t size)
{
    BETWEEN(CALL_TRUNCATE, kind_of_file(file), int, real->truncate(ctx, file, size));
}

static int allocate_file(void *ctx, int file, enum ph_allocate_mode mode, uint64_t offset, uint64_t length)
{
    BETWEEN(CALL_ALLOCATE, kind_of_file(file), int, real->allocate(ctx, file, mode, offset, length));
}

static int unlink_path(void *ctx, const char *path)
{
    BETWEEN(CALL_UNLINK, kind_of_path(path), int, real->unlink(ctx, path));
}

static int rename_path(void *ctx, const char *from, const char *to)
{
    BETWEEN(CALL_RENAME, kind_of_path(from), int, real->rename_new(ctx, from, to));
}

static int sync_directory(void *ctx, const char *path)
{
    BETWEEN(CALL_SYNC_DIRECTORY, kind_of_path(path), int, real->sync_directory(ctx, path));
}

static int lock_file(void *ctx, int file, enum ph_lock_type type, uint64_t start, uint64_t length, bool wait)
{
    BETWEEN(CALL_LOCK, kind_of_file(file), int, real->lock(ctx, file, type, start, length, wait));
}

static int map_file(void *ctx, int file, size_t length, unsigned flags, void **address)
{
    BETWEEN(CALL_MAP, kind_of_file(file), int, real->map(ctx, file, length, flags, address));
}

static int unmap_memory(void *ctx, void *address, size_t length)
{
    BETWEEN(CALL_UNMAP, KIND_NONE, int, real->unmap(ctx, address, length));
}

static int drop_pages(void *ctx, void *address, size_t length)
{
    BETWEEN(CALL_DROP, KIND_NONE, int, real->drop(ctx, address, length));
}

static void wait_word(void *ctx, uint32_t *word, uint32_t expected, uint64_t timeout_ns)
{
    before(CALL_WAIT, KIND_NONE);
    real->wait(ctx, word, expected, timeout_ns);
    after(CALL_WAIT, KIND_NONE);
}

static void wake_word(void *ctx, uint32_t *word, int count)
{
    before(CALL_WAKE, KIND_NONE);
    real->wake(ctx, word, count);
    after(CALL_WAKE, KIND_NONE);
}

const ph_io *__real_ph_io_posix(void);
const ph_io *__wrap_ph_io_posix(void);

const ph_io *__wrap_ph_io_posix(void)
{
    static ph_io io;
    if (real == NULL) { /* before there are threads: the first open of a process */
        const ph_io *posix = __real_ph_io_posix();
        io = *posix;
        io.open = open_file;
        io.close = close_file;
        io.read = read_file;
        io.write = write_file;
        io.sync = sync_file;
        io.truncate = truncate_file;
        io.allocate = allocate_file;
        io.unlink = unlink_path;
        io.rename_new = rename_path;
        io.sync_directory = sync_directory;
        io.lock = lock_file;
        io.map = map_file;
        io.unmap = unmap_memory;
        io.drop = drop_pages;
        io.wait = wait_word;
        io.wake = wake_word;
        real = posix;
    }
    return &io;
}
