/* SPDX-License-Identifier: MIT */
/*
 * Twelve processes on one heap, four that write and eight that read, and a checker that would see any torn, mixed or
 * lost state, while they are killed, stopped and started again at random.
 *
 * Commit k is a function of k alone.  It gives the words of one group out of GROUPS, scattered over all pages of one
 * block, values made from k; frees the block in one of SLOTS slots and allocates another there, of a length and content
 * made from k; and stores k and the writer in the root.  So what each word must be at version k is known in closed
 * form, and a word of any other version, older or newer, is a difference.  A reader compares all of a snapshot with the
 * model and
 *
 *   - finds the one commit order prefix that its version says, never an older one than it has seen before, nor one
 *     without a commit that was acknowledged before the snapshot began;
 *   - finds a snapshot that it holds unchanged, for as long as it holds it;
 *   - of an evictable snapshot believes only what its end says OK to, and meets no fault before.
 *
 * At times all are killed at once; the next ones recover.  In the end everything acknowledged is there, and the heap is
 * sound.  The smallest log and buffer make laps, folds, recycling, full logs and evictions frequent.
 *
 * PHEAP_TEST_SEED repeats the choices of a run (the kernel's scheduling, of course, not); PHEAP_SHARING_SECONDS sets
 * its length.
 */
#include "tests/public.h"
#include "tests/support/dice.h"

enum {
    WRITERS = 4,
    READERS = 8,
    PROCESSES = WRITERS + READERS,
    PAGES = 64,
    WORDS_PER_PAGE = 32,
    WORDS = PAGES * WORDS_PER_PAGE,
    WORD_STRIDE = 4096 / WORDS_PER_PAGE,
    GROUPS = 16,
    SLOTS = 24,
    BLOCK_MAX = 6000,
    DEFAULT_SECONDS = 10,
    HANG_SECONDS = 60,
};
#define OWNERS (UINT64_C(1) << 26) /* commits whose writer is remembered; address space only */

/* ---------------------------------------------------------------------------------------------- what is in the heap */

struct root {
    uint64_t sequence; /* k */
    uint64_t writer;
    uint64_t hash;  /* of both */
    uint64_t words; /* the block of the words */
    uint64_t blocks[SLOTS];
};

/* What the test and its children share. */
struct shared {
    _Atomic uint64_t started;      /* the newest k that anybody has tried to commit */
    _Atomic uint64_t acknowledged; /* the newest k whose commit has returned */
    _Atomic uint64_t commits, aborts, timeouts, snapshots, held, evicted, checks;
    _Atomic bool stop;
    _Atomic bool failed;
    char failure[1024];
    _Atomic unsigned char owner[OWNERS]; /* of k: its writer + 1 */
};

static struct shared *shared;
static uint64_t seed;
static uint64_t root_offset, words_offset, base_version;

static uint64_t mix(uint64_t a, uint64_t b)
{
    return dice_mix(a * UINT64_C(0x9e3779b97f4a7c15) + b * UINT64_C(0xd1b54a32d192ed03) + UINT64_C(0x632be59bd9b4e019));
}

/* The last commit up to k that is `which` modulo `modulus`; 0: none. */
static uint64_t last_of(uint64_t k, uint64_t which, uint64_t modulus)
{
    const uint64_t back = (k + modulus - which) % modulus;
    return k > back ? k - back : 0;
}

static uint64_t group_of(uint64_t word)
{
    return mix(word, 1) % GROUPS;
}

static uint64_t word_of(uint64_t k, uint64_t word)
{
    return k == 0 ? 0 : mix(k, word + 1000);
}

static uint64_t length_of(uint64_t k)
{
    const uint64_t random = mix(k, 2);
    return 16 + (random >> 32) % (random % 4 == 0 ? BLOCK_MAX - 16 : 300);
}

static uint64_t hash_of(uint64_t k, uint64_t writer)
{
    return mix(k, writer + 3);
}

static unsigned char byte_of(uint64_t k, uint64_t i)
{
    return (unsigned char)(k * 31 + i * 7 + (k >> 8));
}

/* --------------------------------------------------------------------------------------------------------- children */

__attribute__((noreturn, format(printf, 1, 2))) static void give_up(const char *format, ...)
{
    if (!atomic_exchange(&shared->failed, true)) {
        va_list arguments;
        va_start(arguments, format);
        (void)vsnprintf(shared->failure, sizeof shared->failure, format, arguments);
        va_end(arguments);
    }
    _exit(1);
}

static void must(enum pheap_status status, const char *what)
{
    if (status != PHEAP_OK) {
        give_up("%s: %s (%s)", what, pheap_status_name(status), pheap_error_detail());
    }
}

static uint64_t now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * UINT64_C(1000000000) + (uint64_t)now.tv_nsec;
}

static pheap *open_shared(const char *path, unsigned flags, uint32_t views)
{
    struct pheap_options options = small_options();
    options.read_views = views;
    options.pin_wait_ms = HANG_SECONDS * 1000; /* a reader that holds the log ends, is killed, or goes on, some time */
    pheap *heap;
    enum pheap_status status = pheap_open(path, flags, &options, &heap);
    if (status != PHEAP_OK && (flags & PHEAP_READONLY) != 0) {
        status = pheap_open(path, flags & ~(unsigned)PHEAP_READONLY, &options, &heap); /* it may need to be recovered */
    }
    must(status, "open");
    return heap;
}

/* ---------------------------------------------------------------------------------------------------------- writers */

static void store(pheap_txn *txn, uint64_t offset, uint64_t value)
{
    must(pheap_write(txn, offset, &value, sizeof value), "write");
}

static void change(pheap_txn *txn, uint64_t k, uint64_t writer)
{
    struct root *root;
    void *address;
    must(pheap_edit(txn, root_offset, sizeof *root, &address), "edit");
    root = address;
    for (uint64_t i = 0; i < WORDS; i++) {
        if (group_of(i) == k % GROUPS) {
            store(txn, words_offset + i * WORD_STRIDE, word_of(k, i));
        }
    }
    uint64_t *block = &root->blocks[k % SLOTS];
    const uint64_t length = length_of(k);
    must(pheap_free(txn, *block), "free");
    must(pheap_alloc(txn, length, block), "alloc");
    unsigned char *bytes = pheap_ptr(txn, *block);
    for (uint64_t i = 0; i < length; i++) {
        bytes[i] = byte_of(k, i);
    }
    root->sequence = k;
    root->writer = writer;
    root->hash = hash_of(k, writer);
}

/* Edits that come to nothing. */
static void spoil(pheap_txn *txn, uint64_t random)
{
    uint64_t block;
    must(pheap_fill(txn, words_offset + random % PAGES * 4096, 0xdd, 4096), "fill");
    must(pheap_alloc(txn, 1 + random % 50000, &block), "alloc");
    must(pheap_fill(txn, block, 0xdd, 1 + random % 50000), "fill");
}

static void run_writer(const char *path, uint64_t writer, uint64_t life)
{
    uint64_t chance = mix(life, seed);
    pheap *heap = open_shared(path, 0, 0);
    while (!atomic_load(&shared->stop)) {
        pheap_txn *txn;
        uint32_t savepoint;
        chance = mix(chance, life);
        const enum pheap_status status =
            chance % 16 == 0 ? pheap_begin_timeout(heap, (int64_t)(chance >> 32) % 3, &txn) : pheap_begin(heap, &txn);
        if (chance % 16 == 0 && (status == PHEAP_TIMEOUT || status == PHEAP_LOG_FULL)) {
            atomic_fetch_add(&shared->timeouts, 1);
            continue;
        }
        must(status, "begin");
        const uint64_t k = ((const struct root *)pheap_ptr(txn, root_offset))->sequence + 1;
        if (k >= OWNERS) {
            break;
        }
        if (chance >> 8 & 7) {
            /* nothing besides */
        } else if (chance >> 11 & 1) {
            spoil(txn, chance >> 12);
            must(pheap_abort(txn), "abort");
            atomic_fetch_add(&shared->aborts, 1);
            continue;
        } else {
            must(pheap_savepoint(txn, &savepoint), "savepoint");
            spoil(txn, chance >> 12);
            must(pheap_rollback(txn, savepoint), "roll back");
        }
        change(txn, k, writer);
        /* k belongs to whoever gets it committed: others who tried it died before, and write here before they do. */
        atomic_store(&shared->owner[k], (unsigned char)(writer + 1));
        raise_to(&shared->started, k);
        uint64_t version = 0;
        must(pheap_commit(txn, (chance >> 20) % 8 == 0 ? PHEAP_DURABLE : PHEAP_LAZY, &version), "commit");
        if (version != base_version + k) {
            give_up("commit %llu got the number %llu", (unsigned long long)k,
                    (unsigned long long)(version - base_version));
        }
        raise_to(&shared->acknowledged, k);
        atomic_fetch_add(&shared->commits, 1);
    }
    must(pheap_close(heap), "close");
}

/* ---------------------------------------------------------------------------------------------------------- readers */

/* The first difference between a snapshot and the model. */
struct difference {
    bool found;
    char text[256];
};

__attribute__((format(printf, 2, 3))) static bool differs(struct difference *difference, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    difference->found = true;
    (void)vsnprintf(difference->text, sizeof difference->text, format, arguments);
    va_end(arguments);
    return true;
}

static bool compare_block(const pheap_read *reader, uint64_t offset, unsigned slot, uint64_t k,
                          struct difference *difference)
{
    const uint64_t born = last_of(k, slot, SLOTS), length = born == 0 ? 0 : length_of(born);
    if (born == 0) {
        return offset != 0 && differs(difference, "slot %u has a block at commit %llu", slot, (unsigned long long)k);
    }
    uint64_t usable = 0;
    if (pheap_read_usable_size(reader, offset, &usable) != PHEAP_OK || usable < length ||
        usable > pheap_read_size(reader)) {
        return differs(difference, "slot %u at commit %llu: no block of %llu bytes at %llu", slot,
                       (unsigned long long)k, (unsigned long long)length, (unsigned long long)offset);
    }
    const unsigned char *bytes = pheap_read_ptr(reader, offset);
    for (uint64_t i = 0; i < length; i++) {
        if (bytes[i] != byte_of(born, i)) {
            return differs(difference, "slot %u at commit %llu: byte %llu of the block of commit %llu is 0x%02x", slot,
                           (unsigned long long)k, (unsigned long long)i, (unsigned long long)born, bytes[i]);
        }
    }
    return false;
}

/* Which commit wrote a value that should be another's, for the text. */
static uint64_t commit_of(uint64_t value, uint64_t word, uint64_t about)
{
    for (uint64_t i = 0; i < 100000; i++) {
        if (word_of(about + i, word) == value) {
            return about + i;
        }
        if (i < about && word_of(about - i, word) == value) {
            return about - i;
        }
    }
    return UINT64_MAX;
}

/* Compare all of the snapshot with the model at the number that it says it has.  Believes no offset in it. */
static bool compare(const pheap_read *reader, struct difference *difference)
{
    const uint64_t version = pheap_read_version(reader), k = version - base_version;
    const struct root *root = pheap_read_ptr(reader, root_offset);
    if (pheap_read_root(reader) != root_offset || root->words != words_offset || root->sequence != k) {
        return differs(difference, "the snapshot of commit %llu has the root of commit %llu", (unsigned long long)k,
                       (unsigned long long)root->sequence);
    }
    if (k > 0 && (root->hash != hash_of(k, root->writer) || root->writer + 1 != atomic_load(&shared->owner[k]))) {
        return differs(difference, "commit %llu is of writer %llu, not %d", (unsigned long long)k,
                       (unsigned long long)root->writer, (int)atomic_load(&shared->owner[k]) - 1);
    }
    for (uint64_t i = 0; i < WORDS; i++) {
        uint64_t value;
        const uint64_t writ = last_of(k, group_of(i), GROUPS);
        memcpy(&value, (const char *)pheap_read_ptr(reader, words_offset) + i * WORD_STRIDE, sizeof value);
        if (value != word_of(writ, i)) {
            return differs(difference, "word %llu at commit %llu is of commit %lld, not %llu", (unsigned long long)i,
                           (unsigned long long)k, (long long)commit_of(value, i, writ), (unsigned long long)writ);
        }
    }
    for (unsigned i = 0; i < SLOTS; i++) {
        if (compare_block(reader, root->blocks[i], i, k, difference)) {
            return true;
        }
    }
    return false;
}

/* Nothing is alive but what the model has, and the whole heap is sound. */
static bool inspect(const pheap_read *reader, struct difference *difference)
{
    const uint64_t k = pheap_read_version(reader) - base_version;
    uint64_t count = 0, offset, length;
    for (uint64_t from = 0; pheap_read_next_block(reader, from, &offset, &length) == PHEAP_OK; from = offset + length) {
        if (offset < from || length == 0 || ++count > 2 + SLOTS) {
            return differs(difference, "too many blocks at commit %llu", (unsigned long long)k);
        }
    }
    if (count != 2 + (k < SLOTS ? k : SLOTS)) {
        return differs(difference, "%llu blocks at commit %llu", (unsigned long long)count, (unsigned long long)k);
    }
    if (pheap_check(reader, NULL, NULL, NULL) != PHEAP_OK) {
        return differs(difference, "check at commit %llu: %s", (unsigned long long)k, pheap_error_detail());
    }
    atomic_fetch_add(&shared->checks, 1);
    return false;
}

struct reader_process {
    pheap *heap;
    uint64_t chance;
    uint64_t last;  /* the newest commit seen */
    uint32_t views; /* of this process */
};

static uint64_t draw(struct reader_process *self)
{
    return self->chance = mix(self->chance, 7);
}

/* End it and judge what was found in it. */
static void finish(struct reader_process *self, pheap_read *reader, unsigned flags, const struct difference *difference)
{
    const uint64_t k = pheap_read_version(reader) - base_version;
    const enum pheap_status status = pheap_read_end(reader);
    if (status == PHEAP_EVICTED && (flags & PHEAP_EVICTABLE) != 0) {
        atomic_fetch_add(&shared->evicted, 1);
        return;
    }
    must(status, "end of a snapshot");
    if (difference->found) {
        give_up("a snapshot with flags %u: %s", flags, difference->text);
    }
    if (k < self->last && flags != 0) {
        give_up("a snapshot of commit %llu after one of %llu", (unsigned long long)k, (unsigned long long)self->last);
    }
    atomic_fetch_add(&shared->snapshots, 1);
}

/* One snapshot, looked at once.  `held`: one that this process has open. */
static void look(struct reader_process *self, const pheap_read *held)
{
    struct difference difference = {0};
    const bool joins = held != NULL && self->views == 1;
    unsigned flags = (unsigned)(draw(self) % 4);
    if (joins) {
        flags &= ~(unsigned)PHEAP_FRESH;
    }
    const uint64_t known = atomic_load(&shared->acknowledged);
    pheap_read *reader;
    const enum pheap_status status = pheap_read_begin(self->heap, flags, &reader);
    if (joins && status == PHEAP_TIMEOUT) {
        return; /* the view of the held one has been evicted */
    }
    must(status, "begin of a snapshot");
    const uint64_t k = pheap_read_version(reader) - base_version;
    if (!joins && (k < known || k < self->last)) {
        give_up("a snapshot of commit %llu when %llu was acknowledged and %llu had been seen", (unsigned long long)k,
                (unsigned long long)known, (unsigned long long)self->last);
    }
    if (joins && pheap_read_version(reader) != pheap_read_version(held)) {
        give_up("one view shows commit %llu and another", (unsigned long long)k);
    }
    (void)(compare(reader, &difference) || (draw(self) % 16 == 0 && inspect(reader, &difference)));
    if (k > atomic_load(&shared->started)) {
        give_up("a snapshot of commit %llu, which nobody has begun", (unsigned long long)k);
    }
    finish(self, reader, joins ? flags & PHEAP_EVICTABLE : flags, &difference);
    self->last = k > self->last ? k : self->last;
}

/* Hold a snapshot while the world goes on, and look at it and at newer ones again and again. */
static void hold(struct reader_process *self)
{
    struct difference difference = {0};
    const unsigned flags = draw(self) % 2 == 0 ? PHEAP_EVICTABLE : 0;
    pheap_read *held;
    must(pheap_read_begin(self->heap, flags, &held), "begin of a snapshot");
    const uint64_t k = pheap_read_version(held) - base_version;
    self->last = k > self->last ? k : self->last;
    const uint64_t until = now_ns() + draw(self) % UINT64_C(40000000);
    do {
        if (!difference.found) {
            (void)compare(held, &difference);
        }
        look(self, held);
        if (draw(self) % 4 == 0) {
            pause_us(draw(self) % 3000);
        }
    } while (now_ns() < until && !atomic_load(&shared->stop));
    (void)(difference.found || compare(held, &difference) || inspect(held, &difference));
    const uint64_t newest = self->last;
    self->last = k; /* it is older than the others by right */
    finish(self, held, flags, &difference);
    self->last = newest;
    atomic_fetch_add(&shared->held, 1);
}

static void run_reader(const char *path, uint64_t life)
{
    struct reader_process self = {.chance = mix(life, seed + 1)};
    const unsigned flags = (draw(&self) % 4 == 0 ? PHEAP_READONLY : 0) | (draw(&self) % 4 == 0 ? PHEAP_PROTECT : 0);
    self.views = 1 + (uint32_t)(draw(&self) % 4);
    self.heap = open_shared(path, flags, self.views);
    while (!atomic_load(&shared->stop)) {
        const uint64_t what = draw(&self) % 16;
        if (what == 0) {
            hold(&self);
        } else if (what < 4) {
            uint64_t newest = 0;
            const enum pheap_status status = pheap_wait(self.heap, base_version + self.last, 20, &newest);
            if (status != PHEAP_TIMEOUT) {
                must(status, "wait");
            }
            if (status == PHEAP_OK && newest <= base_version + self.last) {
                give_up("told of commit %llu, which had been seen", (unsigned long long)(newest - base_version));
            }
            self.last = status == PHEAP_OK ? newest - base_version : self.last; /* so it is there to be seen */
        }
        look(&self, NULL);
    }
    must(pheap_close(self.heap), "close");
}

/* ------------------------------------------------------------------------------------------------------- the driver */

struct process {
    pid_t pid; /* 0: none */
    bool stopped;
};

static struct process processes[PROCESSES];
static uint64_t lives, kills, stops;

__attribute__((noreturn)) static void fail_run(const char *what, unsigned index, int status)
{
    for (unsigned i = 0; i < PROCESSES; i++) {
        if (processes[i].pid != 0) {
            (void)kill(processes[i].pid, SIGKILL);
        }
    }
    check_failed(__FILE__, __LINE__, "seed %llu, after commit %llu: process %u %s (status 0x%x): %s",
                 (unsigned long long)seed, (unsigned long long)atomic_load(&shared->started), index, what,
                 (unsigned)status, atomic_load(&shared->failed) ? shared->failure : "");
}

static void start_process(const char *path, unsigned index)
{
    const uint64_t life = ++lives;
    (void)fflush(NULL);
    const pid_t pid = fork();
    require(pid >= 0);
    if (pid == 0) {
        (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
        in_child = true;
        if (index < WRITERS) {
            run_writer(path, index, life);
        } else {
            run_reader(path, life);
        }
        _exit(0);
    }
    processes[index] = (struct process){.pid = pid};
}

static void kill_process(unsigned index)
{
    int status = 0;
    struct process *process = &processes[index];
    require(kill(process->pid, SIGKILL) == 0);
    require(waitpid(process->pid, &status, 0) == process->pid);
    const bool killed = WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL;
    *process = (struct process){0};
    if (!killed) {
        fail_run("ended by itself", index, status);
    }
    kills++;
}

static void signal_process(unsigned index, bool stop)
{
    if (processes[index].pid != 0 && processes[index].stopped != stop) {
        require(kill(processes[index].pid, stop ? SIGSTOP : SIGCONT) == 0);
        processes[index].stopped = stop;
        stops += stop;
    }
}

static void look_for_failures(void)
{
    int status = 0;
    for (unsigned i = 0; i < PROCESSES; i++) {
        if (processes[i].pid != 0 && waitpid(processes[i].pid, &status, WNOHANG) != 0) {
            processes[i].pid = 0;
            fail_run("ended by itself", i, status);
        }
    }
}

/* Let all go on and end by themselves. */
static void end_all(void)
{
    atomic_store(&shared->stop, true);
    const uint64_t until = now_ns() + HANG_SECONDS * UINT64_C(1000000000);
    for (unsigned i = 0; i < PROCESSES; i++) {
        signal_process(i, false);
    }
    for (unsigned i = 0; i < PROCESSES; i++) {
        int status = 0;
        while (processes[i].pid != 0 && waitpid(processes[i].pid, &status, WNOHANG) == 0) {
            if (now_ns() > until) {
                fail_run("hangs", i, 0);
            }
            pause_us(1000);
        }
        if (processes[i].pid != 0 && status != 0) {
            processes[i].pid = 0;
            fail_run("ended badly", i, status);
        }
        processes[i].pid = 0;
    }
}

/* A process of its own finds all that was acknowledged, and a sound heap. */
static void verify_in_child(const struct peer *test, const char *path)
{
    (void)test;
    pheap *heap = open_shared(path, 0, 0);
    pheap_read *reader = read_begin(heap, PHEAP_FRESH);
    struct difference difference = {0};
    const uint64_t k = pheap_read_version(reader) - base_version;
    if (compare(reader, &difference) || inspect(reader, &difference)) {
        give_up("after all had ended: %s", difference.text);
    }
    if (k < atomic_load(&shared->acknowledged) || k > atomic_load(&shared->started)) {
        give_up("commit %llu is the last, %llu was acknowledged, %llu begun", (unsigned long long)k,
                (unsigned long long)atomic_load(&shared->acknowledged),
                (unsigned long long)atomic_load(&shared->started));
    }
    ok(pheap_read_end(reader));
    ok(pheap_close(heap));
}

static void verify(const char *path)
{
    struct peer child = peer_start(verify_in_child, path);
    int status = 0;
    require(waitpid(child.pid, &status, 0) == child.pid);
    close(child.to);
    close(child.from);
    if (status != 0) {
        fail_run("that verifies failed", PROCESSES, status);
    }
}

static void create(const char *path)
{
    struct pheap_options options = small_options();
    pheap *heap;
    ok(pheap_open(path, PHEAP_CREATE | PHEAP_EXCLUSIVE, &options, &heap));
    pheap_txn *txn = begin(heap);
    ok(pheap_zalloc(txn, PAGES * 4096, &words_offset));
    ok(pheap_zalloc(txn, sizeof(struct root), &root_offset));
    ((struct root *)pheap_ptr(txn, root_offset))->words = words_offset;
    ok(pheap_set_root(txn, root_offset));
    ok(pheap_commit(txn, PHEAP_DURABLE, &base_version));
    ok(pheap_close(heap));
}

/* Something happens to somebody, as `random` says. */
static void strike(const char *path, uint64_t random)
{
    const unsigned index = (unsigned)(random >> 8) % PROCESSES;
    switch (random % 16) {
    case 0:
    case 1:
    case 2:
        kill_process(index);
        if (random >> 16 & 1) {
            pause_us((random >> 20) % 2000);
        }
        start_process(path, index);
        break;
    case 3:
    case 4:
        signal_process(index, true);
        break;
    default:
        signal_process(index, false);
        break;
    }
}

static unsigned run_seconds(void)
{
    const char *text = getenv("PHEAP_SHARING_SECONDS");
    return text == NULL ? DEFAULT_SECONDS : (unsigned)strtoul(text, NULL, 10);
}

/*
 * Catches: a reader that sees half a commit, two of them mixed, or none after it was acknowledged; a fold past a pin, a
 * view that keeps bytes of a dead writer, an evicted view used again as it was; log recycled while it is needed; a
 * lock, wake or pin that dies with its owner; a stopped process that is robbed.
 */
static void sharing__twelve_processes(void **state)
{
    (void)state;
    char path[512];
    (void)snprintf(path, sizeof path, "%s", path_of("shared", ""));
    create(path);
    for (unsigned i = 0; i < PROCESSES; i++) {
        start_process(path, i);
    }
    const uint64_t until = now_ns() + run_seconds() * UINT64_C(1000000000);
    uint64_t before = 0, since = now_ns(), deaths_of_all = 0;
    for (uint64_t round = 1; now_ns() < until || atomic_load(&shared->held) == 0; round++) {
        const uint64_t random = mix(round, seed + 2);
        pause_us(random % 8000);
        look_for_failures();
        strike(path, random >> 16);
        if (round % 512 == 0) {
            for (unsigned i = 0; i < PROCESSES; i++) {
                kill_process(i);
            }
            deaths_of_all++;
            verify(path);
            for (unsigned i = 0; i < PROCESSES; i++) {
                start_process(path, i);
            }
        }
        const uint64_t commits = atomic_load(&shared->commits);
        since = commits != before ? now_ns() : since;
        before = commits;
        if (now_ns() - since > HANG_SECONDS * UINT64_C(1000000000)) {
            fail_run("or another stands in the way of all others", 0, 0);
        }
    }
    end_all();
    verify(path);
    verify(path); /* after a clean close */
    print_message(
        "%llu commits, %llu aborts, %llu timeouts, %llu snapshots, %llu held, %llu evicted, %llu heap checks; "
        "%llu kills, %llu of all at once, %llu stops; seed %llu\n",
        (unsigned long long)atomic_load(&shared->commits), (unsigned long long)atomic_load(&shared->aborts),
        (unsigned long long)atomic_load(&shared->timeouts), (unsigned long long)atomic_load(&shared->snapshots),
        (unsigned long long)atomic_load(&shared->held), (unsigned long long)atomic_load(&shared->evicted),
        (unsigned long long)atomic_load(&shared->checks), (unsigned long long)kills, (unsigned long long)deaths_of_all,
        (unsigned long long)stops, (unsigned long long)seed);
    require(atomic_load(&shared->commits) > 0 && atomic_load(&shared->held) > 0);
}

int main(int argc, char **argv)
{
    choose_cases(argc, argv);
    seed = choose_seed();
    shared = shared_memory(sizeof *shared);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sharing__twelve_processes),
    };
    return cmocka_run_group_tests(tests, make_test_directory, remove_test_directory);
}
