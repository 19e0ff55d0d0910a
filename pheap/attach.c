/* SPDX-License-Identifier: MIT */
/*
 * Attaching a process to a heap, and detaching it.
 *
 * Every attached process holds a shared OFD lock on one byte of the heap file.  Who can have it exclusively is alone:
 * only then is a heap recovered, its coordination file made or made anew, and an epoch ended.  The lock is on the
 * inode, so a second name, a rename or a deleted coordination file cannot make two processes both "first".
 *
 *   exclusive lock got        recover; make the coordination file ready; turn the lock into a shared one
 *   refused, shared lock got  somebody is attached: the coordination file must be there, ready, and of this heap,
 *                             boot and PID namespace; if it is not ready its maker died: begin again
 *   both refused              somebody is recovering or closing: wait and begin again
 *
 * A process that may only read the heap file, and so cannot have the lock exclusively, opens a cleanly closed heap that
 * nobody has attached; its shared lock keeps every writer out.
 */
#include "io/failpoint.h"
#include "pheap/core.h"
#include "recovery/sums.h"
#include "wal/flush.h"

#include <assert.h>
#include <errno.h>
#include <string.h>

#define ATTACH_LOCK_START (UINT64_C(1) << 62)
#define POLL_NS UINT64_C(1000000)
#define POLLS_MAX 60000u /* while somebody else recovers or closes: a minute */
#define REPLACED_POLLS_MAX 100u
#define STRIKES_MAX 100u /* while somebody is attached but cannot be joined */

/* ------------------------------------------------------------------------------------------------ kept mappings */

/* Coordination files that this process has mapped, attached to or not. */
struct mapping {
    struct mapping *next;
    const ph_io *io;
    uint64_t device, inode, length;
    void *address;
    bool used;
};

static struct mapping *mappings; /* under the registry lock, which every caller holds */

static struct mapping *find_mapping(const struct ph_file *file, uint64_t length)
{
    for (struct mapping *m = mappings; m != NULL; m = m->next)
        if (!m->used && m->io == file->io && m->device == file->device && m->inode == file->inode &&
            m->length == length)
            return m;
    return NULL;
}

static ph_status map_coord(struct ph_core *core, uint64_t length)
{
    const ph_io *io = core->io;
    struct ph_file *file = &core->store.coord_file;
    struct mapping *m = find_mapping(file, length);
    if (m == NULL) {
        m = io->alloc(io->ctx, sizeof *m, 16);
        if (m == NULL)
            return ph_fail(PH_NO_MEMORY, "%s: out of memory", file->path);
        *m = (struct mapping){.io = io, .device = file->device, .inode = file->inode, .length = length};
        int result = io->map(io->ctx, file->handle, length, PH_MAP_SHARED, &m->address);
        if (result < 0) {
            io->free(io->ctx, m);
            return ph_file_fail(file->path, "map", -result);
        }
        m->next = mappings;
        mappings = m;
    }
    m->used = true;
    core->coord = m->address;
    return PH_OK;
}

static void release_coord(struct ph_core *core)
{
    for (struct mapping *m = mappings; m != NULL; m = m->next)
        if (m->address == core->coord)
            m->used = false;
    core->coord = NULL;
    core->store.wal.coord = NULL;
}

void ph_core_lose_mappings(const ph_io *io)
{
    for (struct mapping *m = mappings; m != NULL; m = m->next)
        if (m->io == io) {
            m->used = true; /* never to be found again */
            m->address = NULL;
        }
}

void ph_core_forget_mappings(const ph_io *io)
{
    for (struct mapping **at = &mappings; *at != NULL;) {
        struct mapping *m = *at;
        if (m->used || m->io != io) {
            at = &m->next;
            continue;
        }
        *at = m->next;
        (void)io->unmap(io->ctx, m->address, m->length);
        io->free(io->ctx, m);
    }
}

/* ------------------------------------------------------------------------------------------ the coordination file */

static ph_status open_coord(struct ph_core *core, unsigned flags)
{
    return ph_file_open_beside(&core->store.coord_file, core->io, core->path, "-shm", PH_OPEN_WRITE | flags,
                               core->store.superblock.file_mode);
}

/*
 * Whether the file's content is from this heap, so that its buffer may be worth reading.  Not after a reboot: pages of
 * the file may then be from any time, and hold a whole record of a writer that died before it published it, in whose
 * place another one was committed.
 */
static bool coord_usable(const ph_io *io, const struct ph_superblock *s, const struct ph_coord *coord, uint64_t length)
{
    uint8_t boot_id[16];
    return io->boot_id(io->ctx, boot_id) >= 0 && memcmp(boot_id, coord->boot_id, sizeof boot_id) == 0 &&
           coord->magic == PH_COORD_MAGIC && coord->abi == PH_COORD_ABI + ph_mutex_abi() &&
           coord->size_bytes == length && coord->buffer_bytes == s->buffer_bytes &&
           memcmp(coord->identity, s->identity, sizeof coord->identity) == 0;
}

/* Everything as it is when nobody has used the heap since its clean close. */
static ph_status init_coord(struct ph_core *core, struct ph_coord *coord, uint64_t length)
{
    const ph_io *io = core->io;
    const struct ph_store *store = &core->store;
    const struct ph_superblock *s = &store->superblock;
    memset(coord, 0, sizeof *coord);
    PH_POINT(attach_coord_zeroed);
    if (io->boot_id(io->ctx, coord->boot_id) < 0 || io->pid_namespace(io->ctx, &coord->pid_namespace) < 0 ||
        !ph_mutex_init(&coord->writer_lock) || !ph_mutex_init(&coord->flush_lock) || !ph_mutex_init(&coord->fold_lock))
        return ph_fail(PH_UNSUPPORTED, "%s: this system lacks robust locks, or /proc is not mounted", core->path);
    coord->magic = PH_COORD_MAGIC;
    coord->abi = PH_COORD_ABI + ph_mutex_abi();
    coord->size_bytes = length;
    coord->heap_device = store->heap.device;
    coord->heap_inode = store->heap.inode;
    coord->own_device = store->coord_file.device;
    coord->own_inode = store->coord_file.inode;
    coord->sums_device = store->sums.device; /* 0 if there are none */
    coord->sums_inode = store->sums.inode;
    memcpy(coord->identity, s->identity, sizeof coord->identity);
    coord->buffer_bytes = s->buffer_bytes;
    coord->commit_marks[0] = (struct ph_commit_mark){.lsn = s->checkpoint_lsn,
                                                     .chain = s->checkpoint_chain,
                                                     .version = s->checkpoint_version,
                                                     .heap_bytes = s->heap_bytes};
    coord->flush_marks[0] = (struct ph_flush_mark){
        .lsn = s->checkpoint_lsn, .segment = s->checkpoint_segment, .chain = s->checkpoint_chain};
    coord->fold_marks[0] = (struct ph_fold_mark){.lsn = s->checkpoint_lsn,
                                                 .chain = s->checkpoint_chain,
                                                 .version = s->checkpoint_version,
                                                 .segment = s->checkpoint_segment,
                                                 .heap_bytes = s->heap_bytes};
    coord->checkpoint.lsn = s->checkpoint_lsn;
    coord->checkpoint.chain = s->checkpoint_chain;
    coord->checkpoint.segment = s->checkpoint_segment;
    coord->checkpoint.generation = s->generation;
    coord->checkpoint.epoch = s->epoch;
    coord->reserved = coord->committed = coord->durable = coord->folded = coord->fold_intent = s->checkpoint_lsn;
    return PH_OK;
}

/* Give the file its size, with its blocks allocated: a store into a hole on a full disk would be a SIGBUS. */
static ph_status size_coord(struct ph_core *core, uint64_t length)
{
    struct ph_file *file = &core->store.coord_file;
    struct ph_file_stat stat;
    ph_status status = ph_file_stat(file, &stat);
    if (status == PH_OK && stat.size_bytes != length) {
        status = ph_file_truncate(file, 0);
        if (status == PH_OK)
            status = ph_file_truncate(file, length);
    }
    if (status == PH_OK)
        status = ph_file_allocate(file, PH_ALLOCATE_RESERVE, 0, length);
    if (status != PH_UNSUPPORTED)
        return status;
    uint8_t page[PH_PAGE_BYTES];
    status = PH_OK;
    for (uint64_t at = 0; at < length && status == PH_OK; at += sizeof page) {
        size_t got;
        status = ph_file_read(file, page, sizeof page, at, &got);
        if (status != PH_OK)
            break;
        memset(page + got, 0, sizeof page - got);
        status = ph_file_write(file, page, sizeof page, at, 0);
    }
    return status;
}

static ph_status take_seat(struct ph_core *core)
{
    const ph_io *io = core->io;
    for (uint32_t seat = 0; seat < PH_SEATS; seat++) {
        ph_status status = ph_file_lock(&core->store.coord_file, PH_LOCK_EXCLUSIVE, seat, 1, false);
        if (status == PH_BUSY)
            continue;
        if (status != PH_OK)
            return status;
        PH_POINT(attach_seat_locked);
        core->store.seat = seat;
        struct ph_seat *s = &core->coord->seats[seat];
        for (uint32_t i = 0; i < PH_PINS; i++)
            atomic_store(&s->pins[i].lsn, 0);
        atomic_store(&s->hold, 0);
        atomic_store(&core->coord->marks[seat], 0);
        atomic_store(&s->process, io->process(io->ctx));
        atomic_store(&s->attached_ns, io->clock_ns(io->ctx, PH_CLOCK_REALTIME));
        return PH_OK;
    }
    return ph_fail(PH_BUSY, "%s: %u processes have this heap open; there is no room for one more", core->path,
                   PH_SEATS);
}

/* ------------------------------------------------------------------------------------------------------ attaching */

/* Nobody has this heap file open, but its coordination file, and so its log, may be those of one that was here before. */
static ph_status refuse_strangers(struct ph_core *core)
{
    struct ph_file *file = &core->store.coord_file;
    ph_status status = ph_file_lock(file, PH_LOCK_EXCLUSIVE, 0, PH_SEATS, false);
    if (status == PH_OK)
        return ph_file_lock(file, PH_LOCK_NONE, 0, PH_SEATS, false);
    if (status != PH_BUSY)
        return status;
    return ph_fail(PH_REPLACED,
                   "%s: this file was put in the place of a heap that is in use: other processes still use its log and "
                   "%s; move this file away and put the other one back, or close the heap in those processes",
                   core->path, file->path);
}

/* Whoever replaces a heap holds its lock exclusively meanwhile: the file may have lost its name while we waited for it. */
static ph_status check_name(struct ph_core *core)
{
    int there = ph_file_is_at(&core->store.heap, core->path);
    if (there < 0)
        return ph_file_fail(core->path, "cannot stat", -there);
    if (there == 1)
        return PH_OK;
    return ph_fail(PH_REPLACED, "%s: the file was replaced while it was being opened; open it again", core->path);
}

/* We hold the lock exclusively: recover, and make the coordination file ready. */
static ph_status attach_first(struct ph_core *core)
{
    struct ph_store *store = &core->store;
    uint64_t length = ph_coord_bytes(store->superblock.buffer_bytes);
    struct ph_file_stat stat;
    ph_status status = check_name(core);
    if (status == PH_OK)
        status = open_coord(core, 0);
    bool found = status == PH_OK;
    if (found)
        status = ph_file_stat(&store->coord_file, &stat);
    if (found && status == PH_OK)
        status = refuse_strangers(core);
    bool whole = found && status == PH_OK && stat.size_bytes == length;
    if (whole)
        status = map_coord(core, length);
    if (status != PH_OK && (found || status != PH_NOT_FOUND))
        return status;
    PH_POINT(attach_coord_looked_at);
    bool usable = whole && coord_usable(core->io, &core->store.superblock, core->coord, length);
    status = ph_store_recover(store, usable ? core->coord : NULL, core->read_only);
    if (status == PH_OK && !found) /* only now: a heap that is refused leaves nothing behind */
        status = open_coord(core, PH_OPEN_CREATE);
    PH_POINT(attach_coord_made);
    if (status == PH_OK)
        status = size_coord(core, length);
    PH_POINT(attach_coord_sized);
    if (status == PH_OK && core->coord == NULL)
        status = map_coord(core, length);
    if (status == PH_OK)
        status = init_coord(core, core->coord, length);
    PH_POINT(attach_coord_filled);
    if (status == PH_OK)
        status = take_seat(core);
    if (status != PH_OK)
        return status;
    store->wal.coord = core->coord;
    PH_POINT(attach_to_be_ready);
    atomic_store_explicit(&core->coord->ready, 1, memory_order_release);
    PH_POINT(attach_ready);
    return PH_OK;
}

/* We share the lock with somebody: join.  BUSY: begin again. */
static ph_status attach_later(struct ph_core *core)
{
    const ph_io *io = core->io;
    uint64_t length = ph_coord_bytes(core->store.superblock.buffer_bytes), name_space;
    struct ph_file_stat stat;
    ph_status status = open_coord(core, 0);
    if (status == PH_NOT_FOUND)
        return ph_fail(PH_BUSY,
                       "%s: the heap is in use, but its coordination file %s-shm is not there: it was deleted, or the "
                       "heap is in use under another name (a hard link)",
                       core->path, core->path);
    if (status == PH_OK)
        status = ph_file_stat(&core->store.coord_file, &stat);
    if (status == PH_OK && stat.size_bytes != length)
        return ph_fail(PH_BUSY, "%s-shm: the coordination file is not ready", core->path);
    if (status == PH_OK)
        status = map_coord(core, length);
    if (status != PH_OK)
        return status;
    struct ph_coord *coord = core->coord;
    if (atomic_load_explicit(&coord->ready, memory_order_acquire) == 0 ||
        !coord_usable(io, &core->store.superblock, coord, length) || coord->heap_device != core->store.heap.device ||
        coord->heap_inode != core->store.heap.inode || coord->own_device != core->store.coord_file.device ||
        coord->own_inode != core->store.coord_file.inode) /* a copy put in the place of the file */
        return ph_fail(PH_BUSY, "%s-shm: the coordination file does not belong to the heap in use", core->path);
    if (io->pid_namespace(io->ctx, &name_space) < 0 || name_space != coord->pid_namespace)
        return ph_fail(PH_NAMESPACE,
                       "%s: the heap is in use by processes in another PID namespace (a container?), where the locks "
                       "between processes are not safe; run all users of the heap in one",
                       core->path);
    core->store.wal.coord = coord;
    PH_POINT(attach_coord_believed);
    status = ph_sums_join(&core->store);
    return status == PH_OK ? take_seat(core) : status;
}

static void leave_coord(struct ph_core *core)
{
    if (core->coord != NULL)
        release_coord(core);
    ph_file_close(&core->store.coord_file);
    ph_file_close(&core->store.sums);
}

/* BUSY if the coordination file says that somebody who may write is attached. */
static ph_status refuse_if_in_use(const ph_io *io, const char *heap_path)
{
    size_t got = 0;
    struct ph_file file;
    ph_status status = ph_file_open_beside(&file, io, heap_path, "-shm", PH_OPEN_READ, 0);
    if (status != PH_OK)
        return status == PH_NOT_FOUND ? PH_OK : status;
    struct ph_coord *coord = io->alloc(io->ctx, sizeof *coord, 64);
    status = coord == NULL ? ph_fail(PH_NO_MEMORY, "%s: out of memory", heap_path)
                           : ph_file_read(&file, coord, sizeof *coord, 0, &got);
    if (status == PH_OK && got == sizeof *coord && coord->magic == PH_COORD_MAGIC && coord->ready != 0)
        status = ph_fail(PH_BUSY,
                         "%s: a process that may write has this heap open, or died with it open; a reader must then be "
                         "able to write the heap and its coordination file %s",
                         heap_path, file.path);
    ph_file_close(&file);
    if (coord != NULL)
        io->free(io->ctx, coord);
    return status;
}

/* The heap file could be opened for reading only. */
static ph_status attach_private(struct ph_core *core)
{
    const ph_io *io = core->io;
    uint64_t length = ph_coord_bytes(core->store.superblock.buffer_bytes);
    ph_status status = ph_file_lock(&core->store.heap, PH_LOCK_SHARED, ATTACH_LOCK_START, 1, false);
    if (status != PH_OK)
        return ph_fail(PH_BUSY, "%s: another process is opening or closing the heap", core->path);
    status = refuse_if_in_use(io, core->path);
    if (status == PH_OK)
        status = ph_store_recover(&core->store, NULL, true);
    if (status != PH_OK)
        return status;
    struct ph_coord *coord = io->alloc(io->ctx, length, PH_PAGE_BYTES);
    if (coord == NULL)
        return ph_fail(PH_NO_MEMORY, "%s: out of memory", core->path);
    status = init_coord(core, coord, length);
    if (status != PH_OK) {
        io->free(io->ctx, coord);
        return status;
    }
    core->private_coord = true;
    core->coord = core->store.wal.coord = coord;
    return PH_OK;
}

ph_status ph_attach_lock_alone(struct ph_file *heap)
{
    ph_status status = ph_file_lock(heap, PH_LOCK_EXCLUSIVE, ATTACH_LOCK_START, 1, false);
    if (status == PH_BUSY)
        return ph_fail(PH_BUSY, "%s: the heap is in use; close it in every process first", heap->path);
    return status;
}

ph_status ph_attach_keep_out(struct ph_file *heap)
{
    if (heap->writable)
        return ph_attach_lock_alone(heap);
    ph_status status = ph_file_lock(heap, PH_LOCK_SHARED, ATTACH_LOCK_START, 1, false);
    if (status == PH_BUSY)
        return ph_fail(PH_BUSY, "%s: another process is opening or closing the heap", heap->path);
    return status == PH_OK ? refuse_if_in_use(heap->io, heap->path) : status;
}

ph_status ph_attach_copy_coord(const ph_io *io, const char *heap_path, const struct ph_superblock *superblock,
                               struct ph_coord **coord)
{
    uint64_t length = ph_coord_bytes(superblock->buffer_bytes);
    struct ph_file file;
    size_t got = 0;
    *coord = NULL;
    ph_status status = ph_file_open_beside(&file, io, heap_path, "-shm", PH_OPEN_READ, 0);
    if (status != PH_OK)
        return status == PH_NOT_FOUND ? PH_OK : status;
    struct ph_coord *copy = io->alloc(io->ctx, length, PH_PAGE_BYTES);
    if (copy == NULL)
        status = ph_fail(PH_NO_MEMORY, "%s: out of memory", file.path);
    else
        status = ph_file_read(&file, copy, length, 0, &got);
    if (status == PH_OK && got == length && coord_usable(io, superblock, copy, length))
        *coord = copy;
    else if (copy != NULL)
        io->free(io->ctx, copy);
    ph_file_close(&file);
    return status;
}

/* One attempt; BUSY: another may succeed.  *strikes counts those in which somebody was attached. */
static ph_status attach_once(struct ph_core *core, unsigned *strikes)
{
    struct ph_file *heap = &core->store.heap;
    ph_status status = ph_file_lock(heap, PH_LOCK_EXCLUSIVE, ATTACH_LOCK_START, 1, false);
    bool first = status == PH_OK;
    if (status == PH_BUSY)
        status = ph_file_lock(heap, PH_LOCK_SHARED, ATTACH_LOCK_START, 1, false);
    if (status == PH_BUSY)
        return ph_fail(PH_BUSY, "%s: another process is recovering or closing the heap", core->path);
    if (status != PH_OK)
        return status;
    *strikes += !first;
    if (first)
        PH_POINT(attach_alone);
    else
        PH_POINT(attach_shared);
    status = first ? attach_first(core) : attach_later(core);
    if (status == PH_OK && first)
        status = ph_file_lock(heap, PH_LOCK_SHARED, ATTACH_LOCK_START, 1, false);
    if (status == PH_OK)
        return PH_OK;
    leave_coord(core);
    ph_status unlocked = ph_file_lock(heap, PH_LOCK_NONE, ATTACH_LOCK_START, 1, false);
    return unlocked == PH_OK ? status : unlocked;
}

ph_status ph_attach(struct ph_core *core)
{
    if (!core->store.heap.writable)
        return attach_private(core);
    unsigned strikes = 0;
    ph_status status = attach_once(core, &strikes);
    /* REPLACED: perhaps only a process whose locks the kernel is taking away one after the other. */
    for (unsigned i = 0; (status == PH_BUSY && i < POLLS_MAX && strikes < STRIKES_MAX) ||
                         (status == PH_REPLACED && i < REPLACED_POLLS_MAX);
         i++) {
        ph_io_pause(core->io, POLL_NS);
        status = attach_once(core, &strikes);
    }
    return status;
}

ph_status ph_detach(struct ph_core *core)
{
    assert(core->coord != NULL);
    if (core->private_coord) {
        core->io->free(core->io->ctx, core->coord);
        core->coord = core->store.wal.coord = NULL;
        return PH_OK;
    }
    ph_status status = ph_coord_check_poison(core->coord, core->path);
    if (status == PH_OK && atomic_load(&core->coord->epoch_open) != 0)
        status = ph_flush_all(&core->store.wal);
    PH_POINT(detach_flushed);
    struct ph_seat *seat = &core->coord->seats[core->store.seat];
    for (uint32_t i = 0; i < PH_PINS; i++)
        atomic_store(&seat->pins[i].lsn, 0);
    atomic_store(&core->coord->marks[core->store.seat], 0);
    atomic_store(&seat->process, 0);
    ph_status alone = ph_file_lock(&core->store.heap, PH_LOCK_EXCLUSIVE, ATTACH_LOCK_START, 1, false);
    if (alone == PH_OK)
        PH_POINT(detach_alone);
    else
        PH_POINT(detach_leaves_others);
    if (alone == PH_OK && status == PH_OK)
        status = ph_store_close_epoch(&core->store);
    if (alone == PH_OK && status == PH_OK)
        atomic_store(&core->coord->ready, 0);
    PH_POINT(detach_to_unlock);
    /* Closing would not do while a forked child that never used the heap holds copies of the descriptors. */
    ph_status unlocked = ph_file_lock(&core->store.coord_file, PH_LOCK_NONE, core->store.seat, 1, false);
    leave_coord(core);
    PH_POINT(detach_seat_unlocked);
    if (unlocked == PH_OK)
        unlocked = ph_file_lock(&core->store.heap, PH_LOCK_NONE, ATTACH_LOCK_START, 1, false);
    return status == PH_OK ? unlocked : status;
}
