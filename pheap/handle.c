/* SPDX-License-Identifier: MIT */
/*
 * Handles: opening and closing, the registry of cores, and fork.
 *
 * The registry lock comes after the writer lock, which a program may hold when it opens, closes or forks, and before
 * every other lock; nobody takes a writer lock under it.  It is held across fork(), so that the child
 * finds the registry whole; the child's copies of cores are marked and their descriptors closed, because an OFD lock
 * lives as long as any copy of its descriptor or any mapping made through it.  A handle used in the child opens the heap
 * again by itself, as a process of its own.
 */
#include "pheap/core.h"
#include "wal/flush.h"

#include <pthread.h>
#include <string.h>

#define RESERVE_DEFAULT_BYTES (UINT64_C(64) << 30)
#define READ_VIEWS_DEFAULT 2u
#define PIN_WAIT_DEFAULT_MS 1000u

#define MAGIC_TMPFS 0x01021994u
#define MAGIC_NFS 0x6969u
#define MAGIC_SMB 0x517bu
#define MAGIC_CIFS 0xff534d42u
#define MAGIC_SMB2 0xfe534d42u
#define MAGIC_9P 0x01021997u
#define MAGIC_CEPH 0x00c36400u
#define MAGIC_AFS 0x5346414fu

static struct ph_local_lock registry_lock = {PTHREAD_MUTEX_INITIALIZER, PTHREAD_COND_INITIALIZER};
static pthread_once_t fork_once = PTHREAD_ONCE_INIT;
static struct ph_core *cores;

uint64_t ph_thread_id(void)
{
    static _Atomic uint64_t count;
    static _Thread_local uint64_t id;
    if (id == 0)
        id = atomic_fetch_add(&count, 1) + 1;
    return id;
}

/* ----------------------------------------------------------------------------------------------------------- fork */

void ph_core_lock_registry(void)
{
    ph_local_lock(&registry_lock);
}

void ph_core_unlock_registry(void)
{
    ph_local_unlock(&registry_lock);
}

static void before_fork(void)
{
    ph_local_lock(&registry_lock);
}

static void after_fork_in_parent(void)
{
    ph_local_unlock(&registry_lock);
}

static void after_fork_in_child(void)
{
    for (struct ph_core *core = cores; core != NULL; core = core->next) {
        if (core->io != ph_io_posix() || atomic_load(&core->forked))
            continue;
        atomic_store(&core->forked, true);
        ph_view_unwatch(&core->write_view);
        struct ph_file *files[] = {&core->store.heap, &core->store.sums, &core->store.coord_file,
                                   &core->store.wal.file};
        for (size_t i = 0; i < sizeof files / sizeof files[0]; i++)
            ph_file_let_go(files[i]);
    }
    ph_core_lose_mappings(ph_io_posix());
    ph_local_unlock(&registry_lock);
}

static void register_fork_handlers(void)
{
    (void)pthread_atfork(before_fork, after_fork_in_parent, after_fork_in_child);
}

/* ---------------------------------------------------------------------------------------------------------- cores */

static void free_core(struct ph_core *core)
{
    const ph_io *io = core->io;
    ph_view_unmap(&core->write_view);
    ph_view_unmap(&core->shadow_view);
    ph_readview_unmap(core);
    ph_track_deinit(core);
    ph_guards_deinit(core);
    if (core->edits.io != NULL)
        ph_edits_deinit(&core->edits);
    if (core->builder.io != NULL)
        ph_record_builder_deinit(&core->builder);
    struct pheap_read *lists[] = {core->free_readers, core->open_readers};
    for (size_t i = 0; i < 2; i++)
        while (lists[i] != NULL) {
            struct pheap_read *next = lists[i]->next;
            io->free(io->ctx, lists[i]);
            lists[i] = next;
        }
    if (core->reader_lock_ready)
        ph_local_deinit(&core->reader_lock);
    ph_fold_forget(&core->store);
    ph_file_close(&core->store.heap);
    ph_file_close(&core->store.sums);
    ph_file_close(&core->store.coord_file);
    ph_wal_deinit(&core->store.wal);
    io->free(io->ctx, core->path);
    io->free(io->ctx, core);
}

static ph_status check_filesystem(struct ph_core *core)
{
    static const uint64_t refused[] = {MAGIC_NFS, MAGIC_SMB, MAGIC_CIFS, MAGIC_SMB2, MAGIC_9P, MAGIC_CEPH, MAGIC_AFS};
    uint64_t magic;
    int result = core->io->filesystem(core->io->ctx, core->store.heap.handle, &magic);
    if (result < 0)
        return ph_file_fail(core->path, "statfs", -result);
    core->store.tmpfs = magic == MAGIC_TMPFS;
    for (size_t i = 0; i < sizeof refused / sizeof refused[0]; i++)
        if (magic == refused[i])
            return ph_fail(PH_UNSUPPORTED,
                           "%s: on a network file system (type 0x%llx), whose locks and caches do not keep a heap "
                           "safe; put it on a local one",
                           core->path, (unsigned long long)magic);
    return PH_OK;
}

static ph_status open_heap_file(struct ph_core *core, bool read_only)
{
    struct ph_file *heap = &core->store.heap;
    struct ph_file_stat stat;
    ph_status status = ph_file_open(heap, core->io, core->path, PH_OPEN_WRITE, 0);
    if (read_only && (status == PH_READ_ONLY || status == PH_PERMISSION))
        status = ph_file_open(heap, core->io, core->path, PH_OPEN_READ, 0);
    if (!read_only && (status == PH_READ_ONLY || status == PH_PERMISSION))
        return ph_fail_context(status, "the heap cannot be opened for writing (PHEAP_READONLY opens a cleanly closed "
                                       "one)");
    if (status == PH_OK)
        status = ph_file_stat(heap, &stat);
    if (status != PH_OK)
        return status;
    if (stat.type != PH_FILE_REGULAR)
        return ph_fail(PH_NOT_HEAP, "%s: a %s is not a heap", core->path,
                       stat.type == PH_FILE_DIRECTORY ? "directory" : "special file");
    return check_filesystem(core);
}

static ph_status map_views(struct ph_core *core, const struct pheap_options *options)
{
    uint64_t heap_bytes = atomic_load(&core->coord->committed) != 0 ? core->store.superblock.heap_bytes : 0;
    struct ph_commit_mark mark;
    if (ph_coord_read_commit(core->coord, &mark) && mark.heap_bytes > heap_bytes)
        heap_bytes = mark.heap_bytes;
    uint64_t reserve = options->reserve_bytes;
    if (reserve == 0) {
        reserve = heap_bytes * 4;
        if (reserve < RESERVE_DEFAULT_BYTES)
            reserve = RESERVE_DEFAULT_BYTES;
        if (reserve > PH_HEAP_MAX_BYTES / 2)
            reserve = PH_HEAP_MAX_BYTES / 2;
    }
    if (reserve < heap_bytes)
        reserve = heap_bytes;
    uint64_t budget = options->budget_bytes != 0 ? options->budget_bytes : core->io->memory_limit(core->io->ctx) / 4;
    uint32_t read_views = options->read_views == 0 ? READ_VIEWS_DEFAULT : options->read_views;
    ph_status status = ph_readview_map(core, read_views, reserve, heap_bytes, budget);
    if (status == PH_OK && !core->read_only)
        status = ph_view_map(&core->write_view, &core->store, reserve, heap_bytes, budget);
    if (status == PH_OK && core->verify)
        status = ph_shadow_map(core, reserve, heap_bytes);
    return status;
}

/* Everything about a core that does not depend on others: memory, files, attachment, views. */
static ph_status build_core(struct ph_core *core, unsigned flags, const struct pheap_options *options)
{
    core->open_flags = flags;
    core->options = *options;
    core->read_only = (flags & PHEAP_READONLY) != 0;
    core->verify = (flags & PHEAP_VERIFY) != 0 && !core->read_only;
    core->protect = (flags & PHEAP_PROTECT) != 0;
    uint32_t wait_ms = options->pin_wait_ms == 0 ? PIN_WAIT_DEFAULT_MS : options->pin_wait_ms;
    core->pin_wait_ns = wait_ms == UINT32_MAX ? UINT64_MAX : wait_ms * UINT64_C(1000000);
    core->store.io = core->io;
    core->reader_lock_ready = ph_local_init(&core->reader_lock);
    if (!core->reader_lock_ready || !ph_guards_init(&core->guards))
        return ph_fail(PH_NO_MEMORY, "%s: out of memory", core->path);
    bool other_damaged;
    ph_status status = open_heap_file(core, core->read_only);
    if (status == PH_OK)
        status = ph_superblock_read(&core->store.heap, &core->store.superblock, &other_damaged);
    if (status == PH_OK)
        status = ph_wal_init(&core->store.wal, core->io, core->path, &core->store.superblock);
    if (status == PH_OK)
        status = ph_attach(core);
    if (status != PH_OK)
        return status;
    core->builder = (struct ph_record_builder){.io = core->io, .record_max = core->store.wal.record_max};
    status = map_views(core, options);
    if (status != PH_OK) {
        ph_status detached = ph_detach(core);
        (void)detached; /* nothing was committed through this core */
    }
    return status;
}

static ph_status new_core(const ph_io *io, const char *path, unsigned flags, const struct pheap_options *options,
                          struct ph_core **out)
{
    struct ph_core *core = io->alloc(io->ctx, sizeof *core, 64);
    char *copy = io->alloc(io->ctx, strlen(path) + 1, 16);
    if (core == NULL || copy == NULL) {
        if (core != NULL)
            io->free(io->ctx, core);
        if (copy != NULL)
            io->free(io->ctx, copy);
        return ph_fail(PH_NO_MEMORY, "%s: out of memory", path);
    }
    memset(core, 0, sizeof *core);
    memcpy(copy, path, strlen(path) + 1);
    core->io = io;
    core->path = copy;
    ph_status status = build_core(core, flags, options);
    if (status != PH_OK) {
        free_core(core);
        return status;
    }
    core->next = cores;
    cores = core;
    *out = core;
    return PH_OK;
}

static struct ph_core *find_core(const ph_io *io, const struct ph_file_stat *stat)
{
    for (struct ph_core *core = cores; core != NULL; core = core->next)
        if (core->io == io && !atomic_load(&core->forked) && ph_file_is(&core->store.heap, stat))
            return core;
    return NULL;
}

/* ----------------------------------------------------------------------------------------------------------- open */

/* Find or make the core for the resolved path; the registry is locked. */
static ph_status find_or_open(const ph_io *io, const char *path, unsigned flags, const struct pheap_options *options,
                              struct ph_core **core)
{
    struct ph_file_stat stat;
    int result = io->stat_path(io->ctx, path, &stat);
    if (result < 0 && (flags & PHEAP_CREATE) != 0) {
        ph_status status = ph_create(io, path, options);
        if (status != PH_OK && (status != PH_EXISTS || (flags & PHEAP_EXCLUSIVE) != 0))
            return status;
        result = io->stat_path(io->ctx, path, &stat);
    } else if (result == 0 && (flags & PHEAP_EXCLUSIVE) != 0) {
        return ph_fail(PH_EXISTS, "%s: the file exists", path);
    }
    if (result < 0)
        return ph_file_fail(path, "cannot open", -result);
    *core = find_core(io, &stat);
    if (*core == NULL)
        return new_core(io, path, flags, options, core);
    if ((*core)->read_only && (flags & PHEAP_READONLY) == 0)
        return ph_fail(PH_READ_ONLY, "%s: this process has the heap open read-only; close that first", path);
    return PH_OK;
}

static ph_status check_arguments(const char *path, unsigned flags, const struct pheap_options *given, pheap **heap,
                                 struct pheap_options *options)
{
    const unsigned known = PHEAP_CREATE | PHEAP_EXCLUSIVE | PHEAP_READONLY | PHEAP_VERIFY | PHEAP_PROTECT;
    memset(options, 0, sizeof *options);
    if (path == NULL || path[0] == '\0')
        return ph_fail(PH_INVALID, "pheap_open: the path is missing");
    if (heap == NULL || (flags & ~known) != 0)
        return ph_fail(PH_INVALID, "%s: heap is NULL, or flags 0x%x has unknown bits", path, flags);
    if ((flags & PHEAP_READONLY) != 0 && (flags & PHEAP_CREATE) != 0)
        return ph_fail(PH_INVALID, "%s: PHEAP_READONLY and PHEAP_CREATE exclude each other", path);
    if ((flags & PHEAP_EXCLUSIVE) != 0 && (flags & PHEAP_CREATE) == 0)
        return ph_fail(PH_INVALID, "%s: PHEAP_EXCLUSIVE needs PHEAP_CREATE", path);
    if (strlen(path) > PH_PATH_BYTES - 8)
        return ph_fail(PH_INVALID, "pheap_open: the path is longer than %d bytes", PH_PATH_BYTES - 8);
    if (given == NULL)
        return PH_OK;
    if (given->size < sizeof given->size || given->size > 4096)
        return ph_fail(PH_INVALID, "%s: options.size is %zu; set it to sizeof(struct pheap_options)", path,
                       given->size);
    memcpy(options, given, given->size < sizeof *options ? given->size : sizeof *options);
    if (options->checksums > 1)
        return ph_fail(PH_INVALID, "%s: options.checksums is %u; it is 0 or 1", path, options->checksums);
    if (options->read_views > PH_PINS)
        return ph_fail(PH_INVALID, "%s: options.read_views is %u; a process has at most %u", path, options->read_views,
                       PH_PINS);
    return PH_OK;
}

ph_status ph_open_io(const ph_io *io, const char *path, unsigned flags, const struct pheap_options *given, pheap **heap)
{
    struct pheap_options options;
    char resolved[PH_PATH_BYTES];
    ph_status status = check_arguments(path, flags, given, heap, &options);
    if (status != PH_OK)
        return status;
    int result = io->resolve(io->ctx, path, resolved, sizeof resolved - 8);
    if (result < 0)
        return ph_file_fail(path, "cannot open", -result);
    (void)pthread_once(&fork_once, register_fork_handlers);
    pheap *handle = io->alloc(io->ctx, sizeof *handle, 16);
    if (handle == NULL)
        return ph_fail(PH_NO_MEMORY, "%s: out of memory", path);
    ph_local_lock(&registry_lock);
    struct ph_core *core = NULL;
    status = find_or_open(io, resolved, flags, &options, &core);
    if (status == PH_OK) {
        core->users++;
        atomic_init(&handle->core, core);
        handle->past = NULL;
        handle->mark = 0;
        handle->read_only = (flags & PHEAP_READONLY) != 0;
        handle->next_marked = NULL;
    }
    ph_local_unlock(&registry_lock);
    if (status != PH_OK) {
        io->free(io->ctx, handle);
        return status;
    }
    *heap = handle;
    return PH_OK;
}

enum pheap_status pheap_open(const char *path, unsigned flags, const struct pheap_options *options, pheap **heap)
{
    return (enum pheap_status)ph_open_io(ph_io_posix(), path, flags, options, heap);
}

static void unlink_core(struct ph_core *core)
{
    struct ph_core **at = &cores;
    while (*at != core)
        at = &(*at)->next;
    *at = core->next;
}

/* --------------------------------------------------------------------------------------------- handles after a fork */

/* The core gets a user less; the registry is locked.  What went wrong when the last one left.  A core that came through
 * fork() stays for ever: what it owned may have been half-changed then. */
static ph_status release_core(struct ph_core *core)
{
    if (--core->users != 0 || atomic_load(&core->forked)) /* another thread of the parent may have been changing it */
        return PH_OK;
    unlink_core(core);
    ph_status strays = PH_OK;
    if (!core->read_only)
        strays = ph_guards_check(core, atomic_load(&core->coord->committed));
    ph_status status = ph_detach(core);
    free_core(core);
    return status == PH_OK ? strays : status;
}

/* The heap of `old`, which stayed with the parent, opened anew; the registry is locked. */
static ph_status open_again(const struct ph_core *old, struct ph_core **out)
{
    struct ph_core *core = NULL;
    struct ph_file_stat stat;
    int found = old->io->stat_path(old->io->ctx, old->path, &stat);
    if (found == 0 && !ph_file_is(&old->store.heap, &stat))
        return ph_fail(PH_REPLACED, "%s: after fork() there is another file here than the parent process had open",
                       old->path);
    const unsigned flags = old->open_flags & ~(unsigned)(PHEAP_CREATE | PHEAP_EXCLUSIVE);
    ph_status status = find_or_open(old->io, old->path, flags, &old->options, &core);
    if (status != PH_OK)
        return ph_fail_context(status, "opening the heap again after fork()");
    core->users++;
    *out = core;
    return PH_OK;
}

/* A handle that came through fork() gets a core of this process; the old one is kept for those who point to it. */
static ph_status reattach(pheap *heap)
{
    ph_local_lock(&registry_lock);
    struct ph_core *old = heap->core, *core;
    ph_status status = PH_OK;
    if (atomic_load(&old->forked)) { /* no other thread was quicker */
        struct ph_past_core *past = old->io->alloc(old->io->ctx, sizeof *past, 16);
        status = past == NULL ? ph_fail(PH_NO_MEMORY, "%s: out of memory", old->path) : open_again(old, &core);
        if (status == PH_OK) {
            *past = (struct ph_past_core){.core = old, .next = heap->past};
            heap->past = past;
            heap->mark = 0; /* that one is the parent's */
            heap->next_marked = NULL;
            atomic_store(&heap->core, core);
        } else if (past != NULL) {
            old->io->free(old->io->ctx, past);
        }
    }
    ph_local_unlock(&registry_lock);
    return status;
}

ph_status ph_core_use(pheap *heap, struct ph_core **core)
{
    if (heap == NULL)
        return ph_fail(PH_INVALID, "the heap handle is NULL");
    struct ph_core *found = atomic_load_explicit(&heap->core, memory_order_acquire);
    if (atomic_load_explicit(&found->forked, memory_order_relaxed)) {
        ph_status status = reattach(heap);
        if (status != PH_OK)
            return status;
        found = atomic_load(&heap->core);
    }
    *core = found;
    return PH_OK;
}

/* ---------------------------------------------------------------------------------------------------------- close */

static ph_status check_idle(struct ph_core *core, const pheap *heap)
{
    if (atomic_load(&core->txn_serial) != 0 && core->txn_handle == heap)
        return ph_fail(PH_BUSY,
                       "%s: the write transaction after version %llu, begun through this handle, is open; commit or "
                       "abort it first",
                       core->path, (unsigned long long)core->begin_mark.version);
    if (core->users > 1)
        return PH_OK;
    if (atomic_load(&core->watches) != 0)
        return ph_fail(PH_BUSY, "%s: %u watches are running; end them first", core->path, atomic_load(&core->watches));
    ph_local_lock(&core->reader_lock);
    unsigned readers = 0;
    uint64_t version = 0;
    for (const struct pheap_read *reader = core->open_readers; reader != NULL; reader = reader->next) {
        readers++;
        version = reader->on->view.at.version;
    }
    ph_local_unlock(&core->reader_lock);
    return readers == 0
               ? PH_OK
               : ph_fail(PH_BUSY, "%s: %u read transactions are open, the longest of version %llu; end them first",
                         core->path, readers, (unsigned long long)version);
}

enum pheap_status pheap_close(pheap *heap)
{
    if (heap == NULL)
        return PHEAP_OK;
    ph_local_lock(&registry_lock);
    struct ph_core *core = heap->core;
    const ph_io *io = core->io;
    bool forked = atomic_load(&core->forked);
    ph_status status = forked ? PH_OK : check_idle(core, heap);
    if (status != PH_OK) {
        ph_local_unlock(&registry_lock);
        return (enum pheap_status)status;
    }
    if (core->users > 1 && !forked && !core->private_coord && atomic_load(&core->coord->epoch_open) != 0)
        status = ph_flush_all(&core->store.wal);
    if (!forked)
        ph_mark_drop(core, heap);
    ph_status released = release_core(core);
    while (heap->past != NULL) {
        struct ph_past_core *past = heap->past;
        heap->past = past->next;
        ph_status nothing = release_core(past->core);
        (void)nothing; /* the parent's core: only memory */
        io->free(io->ctx, past);
    }
    ph_local_unlock(&registry_lock);
    io->free(io->ctx, heap);
    return (enum pheap_status)(status == PH_OK ? released : status);
}
