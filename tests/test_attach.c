/* SPDX-License-Identifier: MIT */
/*
 * Opening a heap that other processes have open, that may only be read, or on a system that lacks something: what can
 * fail on the way fails with a status and a text, leaves nothing behind, and the next attempt succeeds.
 */
#include "tests/machine.h"

#include <pthread.h>

/* ------------------------------------------------------------------------------------------- joining other processes */

static const struct {
    unsigned ops;
    int error;
    enum ph_sim_fault_mode mode;
} faults[] = {
    {PH_SIM_OPEN, EMFILE, PH_SIM_ONCE},   {PH_SIM_OPEN, EACCES, PH_SIM_FOREVER},
    {PH_SIM_READ, EIO, PH_SIM_ONCE},      {PH_SIM_STAT, EIO, PH_SIM_ONCE},
    {PH_SIM_LOCK, ENOLCK, PH_SIM_ONCE},   {PH_SIM_LOCK, ENOLCK, PH_SIM_FOREVER},
    {PH_SIM_MAP, ENOMEM, PH_SIM_FOREVER}, {PH_SIM_MEMORY, ENOMEM, PH_SIM_FOREVER},
    {PH_SIM_MEMORY, ENOMEM, PH_SIM_ONCE},
};

/*
 * Open and close in a process while each call that this makes fails.  `value`: what word 0 of the root holds.  How
 * often an open failed.
 */
static unsigned fail_every_call(struct machine *machine, const ph_io *io, unsigned flags, uint64_t value)
{
    unsigned failures = 0;
    for (size_t row = 0; row < sizeof faults / sizeof faults[0]; row++)
        for (uint64_t nth = 1;; nth++) {
            struct taken before = machine_taken(machine, io);
            pheap *heap = NULL;
            ph_sim_fail_at(machine->sim, faults[row].ops, nth, faults[row].error, faults[row].mode);
            enum pheap_status status = machine_try(io, flags, &heap);
            bool struck = ph_sim_struck(machine->sim) > 0;
            ph_sim_fail_clear(machine->sim);
            require(status == PHEAP_OK || (heap == NULL && struck && strstr(pheap_error_detail(), HEAP) != NULL));
            failures += status != PHEAP_OK;
            if (status == PHEAP_OK) {
                require_equal(fresh_word(heap, 0), value);
                ok(pheap_close(heap));
            }
            require_taken(before, machine_taken(machine, io));
            if (!struck)
                break;
        }
    return failures;
}

/* Catches: a process that fails to join and leaves a seat, a lock, a mapping or memory taken. */
static void later__fails_at_any_call_and_leaves_nothing(void **state)
{
    (void)state;
    struct machine machine;
    machine_begin(&machine, NULL);
    pheap *first = machine_create(&machine, 0, 8);
    commit_word(first, 0, 5, PHEAP_LAZY);
    require(fail_every_call(&machine, &machine.second, 0, 5) > 20);
    struct pheap_user user = {.size = sizeof user};
    ok(pheap_next_user(first, 0, &user));
    require(user.self);
    expect(PHEAP_END, pheap_next_user(first, user.seat + 1, &user));
    pheap *second = machine_open(&machine.second, 0);
    commit_word(second, 0, 6, PHEAP_LAZY);
    require_equal(fresh_word(first, 0), 6);
    machine_close(&machine, second, first);
}

static int no_boot_id(void *ctx, uint8_t id[16])
{
    (void)ctx;
    (void)id;
    return -ENOENT;
}

static int no_namespace(void *ctx, uint64_t *id)
{
    (void)ctx;
    (void)id;
    return -ENOENT;
}

/* Catches: a process that shares marks and locks through a coordination file of another heap, another boot, another
 * build, or through a copy of the right one. */
static void later__refuses_any_other_coordination_file(void **state)
{
    (void)state;
    struct machine machine;
    machine_begin(&machine, NULL);
    pheap *first = machine_create(&machine, 0, 8), *second = NULL;
    struct ph_coord *coord = first->core->coord;
    static const size_t fields[] = {offsetof(struct ph_coord, ready),        offsetof(struct ph_coord, magic),
                                    offsetof(struct ph_coord, abi),          offsetof(struct ph_coord, size_bytes),
                                    offsetof(struct ph_coord, buffer_bytes), offsetof(struct ph_coord, identity) + 15,
                                    offsetof(struct ph_coord, boot_id) + 15, offsetof(struct ph_coord, heap_device),
                                    offsetof(struct ph_coord, heap_inode),   offsetof(struct ph_coord, own_device),
                                    offsetof(struct ph_coord, own_inode)};
    for (size_t i = 0; i < sizeof fields / sizeof fields[0]; i++) {
        uint8_t *field = (uint8_t *)coord + fields[i];
        *field ^= 1;
        expect_detail(PHEAP_BUSY, "does not belong to the heap", machine_try(&machine.second, 0, &second));
        *field ^= 1;
    }
    coord->pid_namespace ^= 1;
    expect_detail(PHEAP_NAMESPACE, "PID namespace", machine_try(&machine.second, 0, &second));
    coord->pid_namespace ^= 1;
    machine.second.pid_namespace = no_namespace;
    expect(PHEAP_NAMESPACE, machine_try(&machine.second, 0, &second));
    machine.second.boot_id = no_boot_id;
    expect(PHEAP_BUSY, machine_try(&machine.second, 0, &second));
    machine.second = *machine.first;
    int64_t size = ph_sim_size(machine.sim, SHM);
    require_equal(ph_sim_set_size(machine.sim, SHM, (uint64_t)size + 4096), 0);
    expect_detail(PHEAP_BUSY, "is not ready", machine_try(&machine.second, 0, &second));
    require_equal(ph_sim_set_size(machine.sim, SHM, (uint64_t)size), 0);
    second = machine_open(&machine.second, 0);
    commit_word(second, 0, 6, PHEAP_LAZY);
    require_equal(fresh_word(first, 0), 6);
    machine_close(&machine, second, first);
}

/* Catches: two processes in one seat, where the death of one would drop the other's pin. */
static void later__finds_no_seat(void **state)
{
    (void)state;
    struct machine machine;
    machine_begin(&machine, NULL);
    pheap *first = machine_create(&machine, 0, 8), *second = NULL;
    const ph_io *io = machine.first;
    int others = io->open(io->ctx, SHM, PH_OPEN_WRITE, 0);
    require_equal(io->lock(io->ctx, others, PH_LOCK_EXCLUSIVE, 1, PH_SEATS - 1, false), 0);
    expect_detail(PHEAP_BUSY, "254 processes", machine_try(&machine.second, 0, &second));
    require_equal(io->lock(io->ctx, others, PH_LOCK_NONE, 253, 1, false), 0);
    second = machine_open(&machine.second, 0);
    require_equal(second->core->store.seat, 253);
    ok(pheap_close(second));
    require_equal(io->close(io->ctx, others), 0);
    ok(pheap_close(first));
    machine_end(&machine);
}

/* Catches: waiting for ever for a process that was stopped while it recovers or closes the heap. */
static void later__gives_up_on_one_who_recovers(void **state)
{
    (void)state;
    struct machine machine;
    machine_begin(&machine, NULL);
    ok(pheap_close(machine_create(&machine, 0, 8)));
    const ph_io *io = machine.first;
    pheap *heap = NULL;
    int other = io->open(io->ctx, HEAP, PH_OPEN_WRITE, 0);
    require_equal(io->lock(io->ctx, other, PH_LOCK_EXCLUSIVE, UINT64_C(1) << 62, 1, false), 0);
    machine.second.wait = do_not_wait;
    expect_detail(PHEAP_BUSY, "recovering or closing", machine_try(&machine.second, 0, &heap));
    require_equal(io->close(io->ctx, other), 0);
    heap = machine_open(&machine.second, 0);
    ok(pheap_close(heap));
    machine_end(&machine);
}

/* Catches: waiting for ever for a process that was stopped while it creates the heap. */
static void create__gives_up_on_one_who_creates(void **state)
{
    (void)state;
    struct machine machine;
    machine_begin(&machine, NULL);
    const ph_io *io = machine.first;
    pheap *heap = NULL;
    int other = io->open(io->ctx, HEAP "-new", PH_OPEN_WRITE | PH_OPEN_CREATE, 0600);
    require_equal(io->lock(io->ctx, other, PH_LOCK_EXCLUSIVE, 0, 1, false), 0);
    machine.second.wait = do_not_wait;
    expect_detail(PHEAP_BUSY, "making this file", machine_try(&machine.second, PHEAP_CREATE, &heap));
    require_equal(io->close(io->ctx, other), 0);
    ok(machine_try(&machine.second, PHEAP_CREATE, &heap));
    ok(pheap_close(heap));
    machine_end(&machine);
}

/* ----------------------------------------------------------------------------------------------------- the first one */

/* Catches: a heap opened though nothing tells whether its coordination file is of this boot and namespace. */
static void first__needs_to_know_the_system(void **state)
{
    (void)state;
    struct machine machine;
    machine_begin(&machine, NULL);
    ok(pheap_close(machine_create(&machine, 0, 8)));
    pheap *heap = NULL;
    machine.second.boot_id = no_boot_id;
    expect_detail(PHEAP_UNSUPPORTED, "/proc is not mounted", machine_try(&machine.second, 0, &heap));
    machine.second.boot_id = machine.first->boot_id;
    machine.second.pid_namespace = no_namespace;
    expect_detail(PHEAP_UNSUPPORTED, "/proc is not mounted", machine_try(&machine.second, 0, &heap));
    machine.second.pid_namespace = machine.first->pid_namespace;
    heap = machine_open(&machine.second, 0);
    require_equal(fresh_word(heap, 0), 0);
    ok(pheap_close(heap));
    machine_end(&machine);
}

/* Catches: a coordination file with holes, which on a full disk would be a SIGBUS at some later store, where the file
 * system cannot reserve space: then each page of it must be written, or the open fails. */
static void first__fills_the_coordination_file_by_hand(void **state)
{
    (void)state;
    struct ph_sim_options options = {.seed = 1, .refuse_allocate = true};
    struct machine machine;
    machine_begin(&machine, &options);
    ok(pheap_close(machine_create(&machine, 0, 8)));
    static const struct {
        unsigned ops;
        int error;
        enum pheap_status status;
    } rows[] = {{PH_SIM_WRITE, ENOSPC, PHEAP_NO_SPACE}, {PH_SIM_READ, EIO, PHEAP_IO}};
    for (size_t row = 0; row < 2; row++)
        for (uint64_t nth = 1;; nth++) {
            pheap *heap = NULL;
            ph_sim_fail_at(machine.sim, rows[row].ops, nth, rows[row].error, PH_SIM_ONCE);
            enum pheap_status status = machine_try(machine.first, 0, &heap);
            bool struck = ph_sim_struck(machine.sim) > 0;
            ph_sim_fail_clear(machine.sim);
            require_equal(status, struck ? rows[row].status : PHEAP_OK);
            if (!struck) {
                require(nth > (uint64_t)ph_sim_size(machine.sim, SHM) / 4096);
                commit_word(heap, 0, row + 1, PHEAP_DURABLE);
                require_equal(fresh_word(heap, 0), row + 1);
                ok(pheap_close(heap));
                break;
            }
        }
    machine_end(&machine);
}

/* Catches: the mapping of a coordination file used again for one of another length that stands in the same place. */
static void first__maps_anew_for_another_buffer(void **state)
{
    (void)state;
    struct machine machine;
    machine_begin(&machine, NULL);
    ok(pheap_close(machine_create(&machine, 0, 8)));
    require_equal(ph_sim_remove(machine.sim, HEAP) | ph_sim_remove(machine.sim, LOG), 0);
    struct pheap_options options = small_options();
    options.buffer_bytes = 4 * options.buffer_bytes;
    pheap *heap = NULL;
    ok((enum pheap_status)ph_open_io(machine.first, HEAP, PHEAP_CREATE, &options, &heap));
    uint64_t words = options.buffer_bytes / 8;
    (void)make_root(heap, words);
    for (uint64_t i = 0; i < words; i += 64) /* through all of the buffer */
        commit_word(heap, i, i + 1, PHEAP_LAZY);
    for (uint64_t i = 0; i < words; i += 64)
        require_equal(fresh_word(heap, i), i + 1);
    ok(pheap_close(heap));
    machine_end(&machine);
}

/* Catches: a heap on a network file system, whose locks and caches do not keep it safe. */
static void first__refuses_network_file_systems(void **state)
{
    (void)state;
    static const uint64_t magics[] = {0x6969, 0x517b, 0xff534d42, 0xfe534d42, 0x01021997, 0x00c36400, 0x5346414f};
    for (size_t i = 0; i < sizeof magics / sizeof magics[0]; i++) {
        struct ph_sim_options options = {.seed = 1, .filesystem = magics[i]};
        struct machine machine;
        machine_begin(&machine, &options);
        pheap *heap = NULL;
        expect_detail(PHEAP_UNSUPPORTED, "network file system", machine_try(machine.first, PHEAP_CREATE, &heap));
        machine_end(&machine);
    }
}

static const ph_io *type_real;
static enum ph_file_type type_given;

static int stat_of_another_type(void *ctx, int file, struct ph_file_stat *out)
{
    int result = type_real->stat(ctx, file, out);
    out->type = type_given;
    return result;
}

/* Catches: a device or a directory, opened by a system that allows it, taken for a heap. */
static void first__refuses_what_is_no_regular_file(void **state)
{
    (void)state;
    struct machine machine;
    machine_begin(&machine, NULL);
    ok(pheap_close(machine_create(&machine, 0, 8)));
    pheap *heap = NULL;
    type_real = machine.first;
    machine.second.stat = stat_of_another_type;
    type_given = PH_FILE_DIRECTORY;
    expect_detail(PHEAP_NOT_HEAP, "a directory is not a heap", machine_try(&machine.second, 0, &heap));
    type_given = PH_FILE_OTHER;
    expect_detail(PHEAP_NOT_HEAP, "a special file is not a heap", machine_try(&machine.second, 0, &heap));
    machine_end(&machine);
}

/* ---------------------------------------------------------------------------------------------------------- creating */

static unsigned stat_failures;
static const ph_io *stat_real;

static int stat_fails_at_first(void *ctx, const char *path, struct ph_file_stat *out)
{
    if (stat_failures > 0) {
        stat_failures--;
        return -ENOENT;
    }
    return stat_real->stat_path(ctx, path, out);
}

/* Catches: the loser of a race to create a heap that overwrites it, or that fails though it may join. */
static void create__another_was_faster(void **state)
{
    (void)state;
    struct machine machine;
    machine_begin(&machine, NULL);
    pheap *heap = machine_create(&machine, 0, 8), *second = NULL;
    commit_word(heap, 0, 7, PHEAP_DURABLE);
    ok(pheap_close(heap));
    stat_real = machine.first;
    machine.second.stat_path = stat_fails_at_first;
    for (int log = 1; log >= 0; log--) { /* the one who was faster has a log already, or not yet */
        if (log == 0)
            require_equal(ph_sim_set_size(machine.sim, LOG, 0), 0);
        stat_failures = 1;
        expect(PHEAP_EXISTS, machine_try(&machine.second, PHEAP_CREATE | PHEAP_EXCLUSIVE, &second));
        stat_failures = 1;
        second = machine_open(&machine.second, PHEAP_CREATE);
        require_equal(fresh_word(second, 0), 7);
        ok(pheap_close(second));
    }
    require_equal(ph_sim_size(machine.sim, HEAP "-new"), -ENOENT);
    machine_end(&machine);
}

/* What one thread does with the log while another is about to look at it. */
static struct {
    const ph_io *real;
    pheap *heap;
    int looked; /* the last file that was looked at, */
    int closed; /* and that was closed */
} meanwhile;

static int remember_closed(void *ctx, int file)
{
    meanwhile.closed = file;
    return meanwhile.real->close(ctx, file);
}

static void *change_nothing(void *heap)
{
    ok(pheap_abort(begin(heap)));
    return NULL;
}

static int remember_looked(void *ctx, int file, struct ph_file_stat *out)
{
    meanwhile.looked = file;
    return meanwhile.real->stat(ctx, file, out);
}

static int stat_path_after_another_began(void *ctx, const char *path, struct ph_file_stat *out)
{
    pheap *heap = meanwhile.heap;
    if (heap != NULL && strstr(path, "-wal") != NULL) {
        const int looked = meanwhile.looked;
        pthread_t other;
        meanwhile.heap = NULL;
        meanwhile.closed = -1;
        require_equal(pthread_create(&other, NULL, change_nothing, heap), 0);
        require_equal(pthread_join(other, NULL), 0);
        require(meanwhile.closed != looked);
    }
    return meanwhile.real->stat_path(ctx, path, out);
}

/* Catches: the log's file closed by the first transaction while another thread, which is about to begin too, looks whether
 * the file is still in its place: its handle may be another file's by then. */
static void first__two_threads_begin_at_once(void **state)
{
    (void)state;
    struct machine machine;
    machine_begin(&machine, NULL);
    ok(pheap_close(machine_create(&machine, 0, 8)));
    meanwhile.real = machine.first;
    machine.second.close = remember_closed;
    machine.second.stat = remember_looked;
    machine.second.stat_path = stat_path_after_another_began;
    pheap *heap = machine_open(&machine.second, 0);
    meanwhile.heap = heap;
    (void)change_nothing(heap);
    meanwhile.heap = heap;
    ph_sim_set_clock(machine.sim, UINT64_C(100000000000));
    (void)change_nothing(heap);
    require(meanwhile.heap == NULL); /* now that it stays open, the log's file is looked at */
    ok(pheap_close(heap));
    machine_end(&machine);
}

/* Catches: a log whose header could not be written, and that counts as open: the next transaction looks at its file. */
static void first__fails_and_is_tried_again(void **state)
{
    (void)state;
    struct machine machine;
    uint64_t failed = 0;
    machine_begin(&machine, NULL);
    ok(pheap_close(machine_create(&machine, 0, 8)));
    for (uint64_t nth = 1; failed == nth - 1; nth++) {
        pheap_txn *txn;
        pheap *heap = machine_open(machine.first, 0);
        ph_sim_fail_at(machine.sim, PH_SIM_WRITE, nth, EDQUOT, PH_SIM_ONCE);
        enum pheap_status status = pheap_begin(heap, &txn);
        ph_sim_fail_clear(machine.sim);
        if (status != PHEAP_OK) {
            failed++;
            ok(pheap_begin(heap, &txn));
        }
        ok(pheap_abort(txn));
        ok(pheap_close(heap));
    }
    require(failed >= 2);
    machine_end(&machine);
}

static int never_the_same(void *ctx, const char *path, struct ph_file_stat *out)
{
    int result = stat_real->stat_path(ctx, path, out);
    out->inode++;
    return result;
}

/* Catches: a heap made in a file that another process has renamed meanwhile, that is to say in another's heap. */
static void create__name_taken_from_under_it(void **state)
{
    (void)state;
    struct machine machine;
    machine_begin(&machine, NULL);
    stat_real = machine.first;
    machine.second.wait = do_not_wait;
    machine.second.stat_path = never_the_same;
    pheap *heap = NULL;
    expect_detail(PHEAP_BUSY, "another process is making this file", machine_try(&machine.second, PHEAP_CREATE, &heap));
    require_equal(ph_sim_size(machine.sim, HEAP), -ENOENT);
    require_equal(ph_sim_size(machine.sim, HEAP "-new"), 0);
    machine.second.stat_path = machine.first->stat_path;
    heap = machine_open(&machine.second, PHEAP_CREATE);
    ok(pheap_close(heap));
    machine_end(&machine);
}

/* Catches: a new heap that swallows the log of a heap that is gone; and refusing because of an empty one. */
static void create__beside_the_log_of_another(void **state)
{
    (void)state;
    struct machine machine;
    machine_begin(&machine, NULL);
    pheap *heap = NULL;
    (void)ph_sim_poke(machine.sim, LOG, "x", 1, 0);
    expect_detail(PHEAP_LOG_FOREIGN, "move it away", machine_try(machine.first, PHEAP_CREATE, &heap));
    require_equal(ph_sim_size(machine.sim, HEAP), -ENOENT);
    require_equal(ph_sim_set_size(machine.sim, LOG, 0), 0);
    ok(pheap_close(machine_create(&machine, 0, 8)));
    machine_end(&machine);
}

/* ------------------------------------------------------------------------------------------------------ only reading */

#define SAVED "d/saved"

static int refusal; /* what opening for writing gets */
static const char *refused_path;

static int open_to_read_only(void *ctx, const char *path, unsigned flags, uint32_t mode)
{
    if (((flags & PH_OPEN_WRITE) != 0 && strncmp(path, SAVED, strlen(SAVED)) != 0) ||
        (refused_path != NULL && strcmp(path, refused_path) == 0))
        return -refusal;
    return stat_real->open(ctx, path, flags, mode);
}

/* The second process has no right to write. */
static void begin_reader(struct machine *machine)
{
    machine_begin(machine, NULL);
    stat_real = machine->first;
    refusal = EACCES;
    refused_path = NULL;
    machine->second.open = open_to_read_only;
}

/* Catches: a reader without the right to write that is let in beside a writer, whose folds would change pages under
 * its view; or that is kept out where nobody can write. */
static void reader__only_where_nobody_writes(void **state)
{
    (void)state;
    struct machine machine;
    begin_reader(&machine);
    pheap *writer = machine_create(&machine, 0, 8), *reader = NULL;
    commit_word(writer, 0, 9, PHEAP_DURABLE);
    expect_detail(PHEAP_BUSY, "a process that may write", machine_try(&machine.second, PHEAP_READONLY, &reader));
    expect_detail(PHEAP_PERMISSION, "PHEAP_READONLY opens", machine_try(&machine.second, 0, &reader));
    refusal = EROFS;
    expect_detail(PHEAP_READ_ONLY, "PHEAP_READONLY opens", machine_try(&machine.second, 0, &reader));
    ok(pheap_close(writer));
    /* Left by a clean close; cut off; of something else; gone. */
    static const char junk[64] = "no coordination file";
    for (unsigned shm = 0; shm < 4; shm++) {
        if (shm == 1)
            require_equal(ph_sim_set_size(machine.sim, SHM, 100), 0);
        if (shm == 2)
            require_equal(ph_sim_set_size(machine.sim, SHM, 100000), 0);
        if (shm == 2)
            require_equal(ph_sim_poke(machine.sim, SHM, junk, sizeof junk, 0), sizeof junk);
        if (shm == 3)
            require_equal(ph_sim_remove(machine.sim, SHM), 0);
        reader = machine_open(&machine.second, PHEAP_READONLY);
        require_equal(fresh_word(reader, 0), 9);
        pheap_txn *txn;
        expect(PHEAP_READ_ONLY, pheap_begin(reader, &txn));
        check_sound(reader);
        ok(pheap_close(reader));
    }
    machine_end(&machine);
}

/* Catches: a reader that takes part in a recovery, or waits for it; and one that reads a heap that needs one. */
static void reader__neither_recovers_nor_waits(void **state)
{
    (void)state;
    struct machine machine;
    begin_reader(&machine);
    ok(pheap_close(machine_create(&machine, 0, 8)));
    const ph_io *io = machine.first;
    pheap *heap = NULL;
    int other = io->open(io->ctx, HEAP, PH_OPEN_WRITE, 0);
    require_equal(io->lock(io->ctx, other, PH_LOCK_EXCLUSIVE, UINT64_C(1) << 62, 1, false), 0);
    expect_detail(PHEAP_BUSY, "opening or closing", machine_try(&machine.second, PHEAP_READONLY, &heap));
    require_equal(io->close(io->ctx, other), 0);
    refused_path = HEAP; /* advice to read only is of no use to who wanted nothing else */
    expect_detail(PHEAP_PERMISSION, HEAP ": cannot open", machine_try(&machine.second, PHEAP_READONLY, &heap));
    require(strstr(pheap_error_detail(), "for writing") == NULL);
    refused_path = SHM;
    expect_detail(PHEAP_PERMISSION, SHM, machine_try(&machine.second, PHEAP_READONLY, &heap));
    refused_path = NULL;
    machine.second.boot_id = no_boot_id;
    expect_detail(PHEAP_UNSUPPORTED, "/proc", machine_try(&machine.second, PHEAP_READONLY, &heap));
    machine.second.boot_id = machine.first->boot_id;
    require(fail_every_call(&machine, &machine.second, PHEAP_READONLY, 0) > 10);
    machine_end(&machine);
}

/* Catches: a heap that may only be read and so cannot be salvaged, and one that is salvaged while others change it. */
static void reader__may_salvage(void **state)
{
    (void)state;
    struct machine machine;
    begin_reader(&machine);
    pheap *heap = machine_create(&machine, 0, 8);
    commit_word(heap, 0, 9, PHEAP_DURABLE);
    const ph_io *io = machine.first;
    expect_detail(PHEAP_BUSY, HEAP, (enum pheap_status)ph_salvage_io(&machine.second, HEAP, SAVED, NULL, NULL));
    ok(pheap_close(heap));
    struct taken before = machine_taken(&machine, &machine.second);
    int other = io->open(io->ctx, HEAP, PH_OPEN_WRITE, 0);
    require_equal(io->lock(io->ctx, other, PH_LOCK_EXCLUSIVE, UINT64_C(1) << 62, 1, false), 0);
    expect_detail(PHEAP_BUSY, "opening or closing",
                  (enum pheap_status)ph_salvage_io(&machine.second, HEAP, SAVED, NULL, NULL));
    require_equal(io->close(io->ctx, other), 0);
    ph_sim_fail_at(machine.sim, PH_SIM_LOCK, 1, ENOLCK, PH_SIM_ONCE);
    require(ph_salvage_io(&machine.second, HEAP, SAVED, NULL, NULL) != PH_OK);
    require_equal(ph_sim_size(machine.sim, SAVED), -ENOENT);
    require_taken(before, machine_taken(&machine, &machine.second));
    for (refusal = EACCES; refusal != 0; refusal = refusal == EACCES ? EROFS : 0) {
        ok((enum pheap_status)ph_salvage_io(&machine.second, HEAP, SAVED, NULL, NULL));
        ok((enum pheap_status)ph_open_io(io, SAVED, 0, NULL, &heap));
        require_equal(fresh_word(heap, 0), 9);
        ok(pheap_close(heap));
        require_equal(ph_sim_remove(machine.sim, SAVED), 0);
        (void)ph_sim_remove(machine.sim, SAVED "-wal");
        (void)ph_sim_remove(machine.sim, SAVED "-shm");
    }
    machine_end(&machine);
}

/* Catches: a handle for writing given out by a process whose heap is open for reading only. */
static void reader__and_writer_in_one_process(void **state)
{
    (void)state;
    struct machine machine;
    machine_begin(&machine, NULL);
    ok(pheap_close(machine_create(&machine, 0, 8)));
    pheap *reader = machine_open(machine.first, PHEAP_READONLY | PHEAP_VERIFY), *other = NULL;
    expect_detail(PHEAP_READ_ONLY, "close that first", machine_try(machine.first, 0, &other));
    other = machine_open(machine.first, PHEAP_READONLY);
    require_equal(fresh_word(other, 0), 0);
    ok(pheap_close(other)); /* no epoch is open that a close could flush */
    require_equal(fresh_word(reader, 0), 0);
    ok(pheap_close(reader));
    machine_end(&machine);
}

int main(int argc, char **argv)
{
    choose_cases(argc, argv);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(later__fails_at_any_call_and_leaves_nothing),
        cmocka_unit_test(later__refuses_any_other_coordination_file),
        cmocka_unit_test(later__finds_no_seat),
        cmocka_unit_test(later__gives_up_on_one_who_recovers),
        cmocka_unit_test(create__gives_up_on_one_who_creates),
        cmocka_unit_test(first__needs_to_know_the_system),
        cmocka_unit_test(first__fills_the_coordination_file_by_hand),
        cmocka_unit_test(first__maps_anew_for_another_buffer),
        cmocka_unit_test(first__refuses_network_file_systems),
        cmocka_unit_test(first__refuses_what_is_no_regular_file),
        cmocka_unit_test(first__two_threads_begin_at_once),
        cmocka_unit_test(first__fails_and_is_tried_again),
        cmocka_unit_test(create__another_was_faster),
        cmocka_unit_test(create__name_taken_from_under_it),
        cmocka_unit_test(create__beside_the_log_of_another),
        cmocka_unit_test(reader__only_where_nobody_writes),
        cmocka_unit_test(reader__neither_recovers_nor_waits),
        cmocka_unit_test(reader__may_salvage),
        cmocka_unit_test(reader__and_writer_in_one_process),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
