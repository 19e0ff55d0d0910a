/* SPDX-License-Identifier: MIT */
/* The tables of simulated processes. */
#include "tests/simulate/process.h"

#include "tests/simulate/locks.h"
#include "tests/simulate/scheduler.h"

#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define HANDLES_MAX 16
#define MAPS_MAX 16

struct map {
    void *address;
    size_t length;
    uint64_t inode; /* of a shared one; else 0 */
};

struct process {
    ph_io io;
    unsigned number;
    int handles[HANDLES_MAX];
    const char *names[HANDLES_MAX];
    unsigned handle_count;
    struct map maps[MAPS_MAX];
    unsigned map_count;
};

/* Who sleeps on a word; on the sleeper's stack. */
struct sleeper {
    uint64_t inode, place; /* where the word is: in a file, or (0) at an address of the process */
    bool woken;
    int thread;
    struct sleeper *next;
};

static struct {
    struct ph_sim *sim;
    const ph_io *inner;
    void (*trace)(void *, const char *);
    void *trace_context;
    struct process *list[PROCESSES_MAX];
    unsigned count;
    struct sleeper *sleepers;
} machine;

static void *inner(void)
{
    return machine.inner->ctx;
}

static void say(const char *format, ...) __attribute__((format(printf, 1, 2)));

static void say(const char *format, ...)
{
    if (machine.trace == NULL)
        return;
    char line[200];
    va_list arguments;
    va_start(arguments, format);
    (void)vsnprintf(line, sizeof line, format, arguments);
    va_end(arguments);
    machine.trace(machine.trace_context, line);
}

static const char *short_name(const char *path)
{
    const char *slash = strrchr(path, '/');
    return slash == NULL ? path : slash + 1;
}

static unsigned index_of(const struct process *process, int handle)
{
    for (unsigned i = 0; i < process->handle_count; i++)
        if (process->handles[i] == handle)
            return i;
    abort();
}

static const char *name_of(const struct process *process, int handle)
{
    return process->names[index_of(process, handle)];
}

/* ---------------------------------------------------------------------------------------------------------- files */

static int p_open(void *ctx, const char *path, unsigned flags, uint32_t mode)
{
    struct process *process = ctx;
    scheduler_yield("open");
    int handle = machine.inner->open(inner(), path, flags, mode);
    if (handle < 0)
        return handle;
    if (process->handle_count == HANDLES_MAX)
        abort();
    const char *name = strstr(path, "-wal") != NULL ? "log" : strstr(path, "-shm") != NULL ? "shm" : "heap";
    process->names[process->handle_count] = name;
    process->handles[process->handle_count++] = handle;
    return handle;
}

static int p_close(void *ctx, int handle)
{
    struct process *process = ctx;
    scheduler_yield("close");
    unsigned i = index_of(process, handle);
    process->handle_count--;
    process->handles[i] = process->handles[process->handle_count];
    process->names[i] = process->names[process->handle_count];
    return machine.inner->close(inner(), handle);
}

static int64_t p_read(void *ctx, int file, void *buffer, size_t length, uint64_t offset)
{
    (void)ctx;
    scheduler_yield("read");
    return machine.inner->read(inner(), file, buffer, length, offset);
}

static int64_t p_write(void *ctx, int file, const void *buffer, size_t length, uint64_t offset, unsigned flags)
{
    scheduler_yield("write");
    int64_t result = machine.inner->write(inner(), file, buffer, length, offset, flags);
    say("%s %s %zu@%" PRIu64 "%s%s", (flags & PH_WRITE_DSYNC) != 0 ? "dsync write" : "write", name_of(ctx, file),
        length, offset, result < 0 ? ": " : "", result < 0 ? strerror((int)-result) : "");
    return result;
}

static int p_sync(void *ctx, int file)
{
    scheduler_yield("sync");
    int result = machine.inner->sync(inner(), file);
    say("sync %s%s%s", name_of(ctx, file), result < 0 ? ": " : "", result < 0 ? strerror(-result) : "");
    return result;
}

static int p_start_writeback(void *ctx, int file, uint64_t offset, uint64_t length)
{
    (void)ctx;
    return machine.inner->start_writeback(inner(), file, offset, length);
}

static int p_truncate(void *ctx, int file, uint64_t size)
{
    scheduler_yield("truncate");
    int result = machine.inner->truncate(inner(), file, size);
    say("truncate %s to %" PRIu64 "%s%s", name_of(ctx, file), size, result < 0 ? ": " : "",
        result < 0 ? strerror(-result) : "");
    return result;
}

static int p_allocate(void *ctx, int file, enum ph_allocate_mode mode, uint64_t offset, uint64_t length)
{
    scheduler_yield("allocate");
    int result = machine.inner->allocate(inner(), file, mode, offset, length);
    say("%s %s %" PRIu64 "@%" PRIu64 "%s%s", mode == PH_ALLOCATE_PUNCH ? "punch" : "allocate", name_of(ctx, file),
        length, offset, result < 0 ? ": " : "", result < 0 ? strerror(-result) : "");
    return result;
}

static int p_stat(void *ctx, int file, struct ph_file_stat *out)
{
    (void)ctx;
    scheduler_yield("stat");
    return machine.inner->stat(inner(), file, out);
}

static int64_t p_next_data(void *ctx, int file, uint64_t offset, uint64_t *end)
{
    (void)ctx;
    return machine.inner->next_data(inner(), file, offset, end);
}

static int p_resolve(void *ctx, const char *path, char *out, size_t size)
{
    (void)ctx;
    return machine.inner->resolve(inner(), path, out, size);
}

static int p_stat_path(void *ctx, const char *path, struct ph_file_stat *out)
{
    (void)ctx;
    scheduler_yield("stat");
    return machine.inner->stat_path(inner(), path, out);
}

static int p_unlink(void *ctx, const char *path)
{
    (void)ctx;
    scheduler_yield("unlink");
    int result = machine.inner->unlink(inner(), path);
    say("unlink %s", short_name(path));
    return result;
}

static int p_link(void *ctx, int file, const char *path)
{
    (void)ctx;
    scheduler_yield("link");
    int result = machine.inner->link(inner(), file, path);
    say("link %s%s%s", short_name(path), result < 0 ? ": " : "", result < 0 ? strerror(-result) : "");
    return result;
}

static int p_rename_new(void *ctx, const char *from, const char *to)
{
    (void)ctx;
    scheduler_yield("rename");
    int result = machine.inner->rename_new(inner(), from, to);
    say("rename %s to %s%s%s", short_name(from), short_name(to), result < 0 ? ": " : "",
        result < 0 ? strerror(-result) : "");
    return result;
}

static int p_rename(void *ctx, const char *from, const char *to)
{
    (void)ctx;
    scheduler_yield("rename");
    int result = machine.inner->rename(inner(), from, to);
    say("rename %s over %s", short_name(from), short_name(to));
    return result;
}

static int p_sync_directory(void *ctx, const char *path)
{
    (void)ctx;
    scheduler_yield("sync directory");
    int result = machine.inner->sync_directory(inner(), path);
    say("sync directory%s%s", result < 0 ? ": " : "", result < 0 ? strerror(-result) : "");
    return result;
}

static int p_filesystem(void *ctx, int file, uint64_t *magic)
{
    (void)ctx;
    return machine.inner->filesystem(inner(), file, magic);
}

struct lock_wait {
    int file;
    enum ph_lock_type type;
    uint64_t start, length;
    int result;
};

static bool try_lock(void *argument)
{
    struct lock_wait *wait = argument;
    if (wait->result == -EAGAIN)
        wait->result = machine.inner->lock(inner(), wait->file, wait->type, wait->start, wait->length, false);
    return wait->result != -EAGAIN;
}

static int p_lock(void *ctx, int file, enum ph_lock_type type, uint64_t start, uint64_t length, bool wait)
{
    (void)ctx;
    scheduler_yield("file lock");
    struct lock_wait lock = {file, type, start, length, -EAGAIN};
    if (!try_lock(&lock) && wait && scheduler_self() >= 0)
        (void)scheduler_block(try_lock, &lock, UINT64_MAX, "wait for a file lock");
    return lock.result;
}

/* ----------------------------------------------------------------------------------------------- maps and memory */

static int p_map(void *ctx, int file, size_t length, unsigned flags, void **address)
{
    struct process *process = ctx;
    struct ph_file_stat stat = {.inode = 0};
    scheduler_yield("map");
    int result = machine.inner->map(inner(), file, length, flags, address);
    if (result < 0)
        return result;
    if ((flags & PH_MAP_SHARED) != 0 && machine.inner->stat(inner(), file, &stat) < 0)
        stat.inode = UINT64_MAX;
    if (process->map_count == MAPS_MAX)
        abort();
    process->maps[process->map_count++] = (struct map){*address, length, stat.inode};
    return result;
}

static int p_unmap(void *ctx, void *address, size_t length)
{
    struct process *process = ctx;
    for (unsigned i = 0; i < process->map_count; i++)
        if (process->maps[i].address == address) {
            process->maps[i] = process->maps[--process->map_count];
            break;
        }
    return machine.inner->unmap(inner(), address, length);
}

static int p_drop(void *ctx, void *address, size_t length)
{
    (void)ctx;
    scheduler_yield("drop private pages");
    return machine.inner->drop(inner(), address, length);
}

static int p_protect(void *ctx, void *address, size_t length, bool writable)
{
    (void)ctx;
    return machine.inner->protect(inner(), address, length, writable);
}

static int64_t p_touched(void *ctx, const void *address, size_t length, uint8_t *bitmap)
{
    (void)ctx;
    return machine.inner->touched(inner(), address, length, bitmap);
}

static int p_watch(void *ctx, void *address, size_t length)
{
    (void)ctx;
    return machine.inner->watch(inner(), address, length);
}

static void p_unwatch(void *ctx, int handle)
{
    (void)ctx;
    machine.inner->unwatch(inner(), handle);
}

static int64_t p_stored(void *ctx, const void *address, size_t length, uint8_t *bitmap)
{
    (void)ctx;
    return machine.inner->stored(inner(), address, length, bitmap);
}

static int p_drop_watched(void *ctx, int handle, void *address, size_t length)
{
    (void)ctx;
    return machine.inner->drop_watched(inner(), handle, address, length);
}

static void *p_alloc(void *ctx, size_t length, size_t alignment)
{
    (void)ctx;
    return machine.inner->alloc(inner(), length, alignment);
}

static void *p_resize(void *ctx, void *memory, size_t length)
{
    (void)ctx;
    return machine.inner->resize(inner(), memory, length);
}

static void p_free(void *ctx, void *memory)
{
    (void)ctx;
    machine.inner->free(inner(), memory);
}

static uint64_t p_memory_limit(void *ctx)
{
    (void)ctx;
    return machine.inner->memory_limit(inner());
}

/* ------------------------------------------------------------------------------------------ time, chance, waiting */

static uint64_t p_clock_ns(void *ctx, enum ph_clock clock)
{
    (void)ctx;
    scheduler_yield("clock");
    return machine.inner->clock_ns(inner(), clock);
}

static int p_random(void *ctx, void *buffer, size_t length)
{
    (void)ctx;
    return machine.inner->random(inner(), buffer, length);
}

static int p_boot_id(void *ctx, uint8_t id[16])
{
    (void)ctx;
    return machine.inner->boot_id(inner(), id);
}

static int p_pid_namespace(void *ctx, uint64_t *id)
{
    (void)ctx;
    return machine.inner->pid_namespace(inner(), id);
}

static int64_t p_process(void *ctx)
{
    return 1000 + (int64_t)((const struct process *)ctx)->number;
}

/* Where a word is, so that every process that maps it means the same. */
static void locate(const struct process *process, const uint32_t *word, uint64_t *inode, uint64_t *place)
{
    *inode = 0;
    *place = (uint64_t)(uintptr_t)word;
    for (unsigned i = 0; i < process->map_count; i++) {
        uint64_t start = (uint64_t)(uintptr_t)process->maps[i].address;
        if (process->maps[i].inode != 0 && *place >= start && *place - start < process->maps[i].length) {
            *inode = process->maps[i].inode;
            *place -= start;
            return;
        }
    }
}

static bool was_woken(void *argument)
{
    return ((const struct sleeper *)argument)->woken;
}

static void p_wait(void *ctx, uint32_t *word, uint32_t expected, uint64_t timeout_ns)
{
    scheduler_yield("before a wait");
    if (scheduler_self() < 0 || __atomic_load_n(word, __ATOMIC_ACQUIRE) != expected)
        return;
    struct sleeper self = {.thread = scheduler_self(), .next = machine.sleepers};
    locate(ctx, word, &self.inode, &self.place);
    machine.sleepers = &self;
    uint64_t now = ph_sim_clock(machine.sim);
    (void)scheduler_block(was_woken, &self, timeout_ns > UINT64_MAX - now ? UINT64_MAX : now + timeout_ns, "wait");
    for (struct sleeper **at = &machine.sleepers; *at != NULL; at = &(*at)->next)
        if (*at == &self) {
            *at = self.next;
            break;
        }
}

static void p_wake(void *ctx, uint32_t *word, int count)
{
    uint64_t inode, place;
    locate(ctx, word, &inode, &place);
    for (struct sleeper *s = machine.sleepers; s != NULL && count > 0; s = s->next)
        if (s->inode == inode && s->place == place && !s->woken && scheduler_alive(s->thread)) {
            s->woken = true;
            count--;
        }
    scheduler_yield("after waking");
}

/* The workload has no watches, and nothing else starts threads. */
static int p_thread_start(void *ctx, void *(*run)(void *), void *argument, uint64_t *thread)
{
    (void)ctx;
    (void)run;
    (void)argument;
    (void)thread;
    return -EAGAIN;
}

static void p_thread_join(void *ctx, uint64_t thread)
{
    (void)ctx;
    (void)thread;
    abort();
}

static void p_signal_event(void *ctx, int event_fd)
{
    (void)ctx;
    (void)event_fd;
    abort();
}

static const ph_io table = {
    .open = p_open,
    .close = p_close,
    .read = p_read,
    .write = p_write,
    .sync = p_sync,
    .start_writeback = p_start_writeback,
    .truncate = p_truncate,
    .allocate = p_allocate,
    .stat = p_stat,
    .next_data = p_next_data,
    .resolve = p_resolve,
    .stat_path = p_stat_path,
    .unlink = p_unlink,
    .link = p_link,
    .rename_new = p_rename_new,
    .rename = p_rename,
    .sync_directory = p_sync_directory,
    .filesystem = p_filesystem,
    .lock = p_lock,
    .map = p_map,
    .unmap = p_unmap,
    .drop = p_drop,
    .protect = p_protect,
    .touched = p_touched,
    .watch = p_watch,
    .unwatch = p_unwatch,
    .stored = p_stored,
    .drop_watched = p_drop_watched,
    .alloc = p_alloc,
    .resize = p_resize,
    .free = p_free,
    .memory_limit = p_memory_limit,
    .clock_ns = p_clock_ns,
    .random = p_random,
    .boot_id = p_boot_id,
    .pid_namespace = p_pid_namespace,
    .process = p_process,
    .wait = p_wait,
    .wake = p_wake,
    .thread_start = p_thread_start,
    .thread_join = p_thread_join,
    .signal_event = p_signal_event,
};

void processes_init(struct ph_sim *sim, void (*trace)(void *context, const char *line), void *context)
{
    machine.sim = sim;
    machine.inner = ph_sim_io(sim);
    machine.trace = trace;
    machine.trace_context = context;
    machine.count = 0; /* tables of another run are never given back: a table's address stands for a process */
    machine.sleepers = NULL;
}

unsigned process_count(void)
{
    return machine.count;
}

unsigned process_start(void)
{
    struct process *process = calloc(1, sizeof *process);
    if (process == NULL || machine.count == PROCESSES_MAX)
        abort();
    process->io = table;
    process->io.ctx = process;
    process->number = machine.count;
    machine.list[machine.count] = process;
    return machine.count++;
}

const ph_io *process_io(unsigned process)
{
    return &machine.list[process]->io;
}

void process_kill(unsigned number)
{
    struct process *process = machine.list[number];
    scheduler_kill(number);
    locks_forget(number);
    while (process->handle_count > 0)
        (void)machine.inner->close(inner(), process->handles[--process->handle_count]);
    for (; process->map_count > 0; process->map_count--) {
        const struct map *map = &process->maps[process->map_count - 1];
        (void)machine.inner->unmap(inner(), map->address, map->length);
    }
}
