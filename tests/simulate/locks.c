/* SPDX-License-Identifier: MIT */
/*
 * The library's locks under the scheduler.  The linker puts these functions before those of io/mutex.c and some others
 * (-Wl,--wrap): for a thread inside the scheduler a lock in shared memory is the number of its owner there, and one of
 * a process is an entry in a table; who has to wait gives the baton away.  A lock whose owner is dead is taken over.
 *
 * Besides, the steps by which processes tell each other something in the coordination file become places where another
 * thread may go on, or a process be killed.
 */
#include "tests/simulate/locks.h"

#include "tests/simulate/scheduler.h"
#include "wal/coord.h"
#include "wal/ring.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define HELD_MAX 64
#define LOCK_MAGIC 0x6b636f6cu

static uint64_t (*clock_now)(void *);
static void *clock_context;

void locks_init(uint64_t (*now)(void *), void *context)
{
    clock_now = now;
    clock_context = context;
}

static uint64_t until(uint64_t timeout_ns)
{
    uint64_t now = clock_now(clock_context);
    return timeout_ns > UINT64_MAX - now ? UINT64_MAX : now + timeout_ns;
}

/* ------------------------------------------------------------------------------------------ between processes */

struct shared_lock {
    uint32_t magic;
    uint32_t owner; /* number + 1 of a thread */
};
_Static_assert(sizeof(struct shared_lock) <= sizeof(struct ph_mutex), "it lies in the same memory");

bool __real_ph_mutex_init(struct ph_mutex *mutex);
enum ph_mutex_result __real_ph_mutex_timedlock(struct ph_mutex *mutex, uint64_t timeout_ns);
enum ph_mutex_result __real_ph_mutex_trylock(struct ph_mutex *mutex);
void __real_ph_mutex_unlock(struct ph_mutex *mutex);
bool __wrap_ph_mutex_init(struct ph_mutex *mutex);
enum ph_mutex_result __wrap_ph_mutex_timedlock(struct ph_mutex *mutex, uint64_t timeout_ns);
enum ph_mutex_result __wrap_ph_mutex_trylock(struct ph_mutex *mutex);
void __wrap_ph_mutex_unlock(struct ph_mutex *mutex);

static struct shared_lock *shared(struct ph_mutex *mutex)
{
    return (struct shared_lock *)(void *)mutex->u.bytes;
}

static bool may_be_had(void *argument)
{
    const struct shared_lock *lock = argument;
    return lock->owner == 0 || !scheduler_alive((int)lock->owner - 1);
}

static enum ph_mutex_result take(struct shared_lock *lock)
{
    enum ph_mutex_result result = lock->owner == 0 ? PH_MUTEX_ACQUIRED : PH_MUTEX_OWNER_DIED;
    lock->owner = (uint32_t)scheduler_self() + 1;
    return result;
}

bool __wrap_ph_mutex_init(struct ph_mutex *mutex)
{
    if (scheduler_self() < 0)
        return __real_ph_mutex_init(mutex);
    memset(mutex, 0, sizeof *mutex);
    shared(mutex)->magic = LOCK_MAGIC;
    return true;
}

static enum ph_mutex_result lock_shared(struct shared_lock *lock, bool wait, uint64_t timeout_ns)
{
    scheduler_yield("lock");
    if (lock->magic != LOCK_MAGIC)
        return PH_MUTEX_ERROR;
    if (lock->owner == (uint32_t)scheduler_self() + 1)
        return PH_MUTEX_DEADLOCK;
    if (!may_be_had(lock) && (!wait || !scheduler_block(may_be_had, lock, until(timeout_ns), "wait for a lock")))
        return PH_MUTEX_TIMEOUT;
    return take(lock);
}

enum ph_mutex_result __wrap_ph_mutex_timedlock(struct ph_mutex *mutex, uint64_t timeout_ns)
{
    return scheduler_self() < 0 ? __real_ph_mutex_timedlock(mutex, timeout_ns)
                                : lock_shared(shared(mutex), true, timeout_ns);
}

enum ph_mutex_result __wrap_ph_mutex_trylock(struct ph_mutex *mutex)
{
    return scheduler_self() < 0 ? __real_ph_mutex_trylock(mutex) : lock_shared(shared(mutex), false, 0);
}

void __wrap_ph_mutex_unlock(struct ph_mutex *mutex)
{
    if (scheduler_self() < 0) {
        __real_ph_mutex_unlock(mutex);
        return;
    }
    if (shared(mutex)->owner == (uint32_t)scheduler_self() + 1)
        shared(mutex)->owner = 0;
    scheduler_yield("unlock");
}

/* ------------------------------------------------------------------------------------------- within a process */

struct held {
    unsigned process;
    const struct ph_local_lock *lock;
};

static struct held held[HELD_MAX]; /* of living processes; the order does not matter */
static unsigned held_count;

/* Who sleeps on a condition; on the sleeper's stack. */
struct sleeper {
    struct held on;
    bool woken;
    struct sleeper *next;
};

static struct sleeper *sleepers;

void __real_ph_local_lock(struct ph_local_lock *lock);
void __real_ph_local_unlock(struct ph_local_lock *lock);
bool __real_ph_local_wait(struct ph_local_lock *lock, uint64_t timeout_ns);
void __real_ph_local_wake(struct ph_local_lock *lock);
void __wrap_ph_local_lock(struct ph_local_lock *lock);
void __wrap_ph_local_unlock(struct ph_local_lock *lock);
bool __wrap_ph_local_wait(struct ph_local_lock *lock, uint64_t timeout_ns);
void __wrap_ph_local_wake(struct ph_local_lock *lock);

static struct held *find(const struct held *wanted)
{
    for (unsigned i = 0; i < held_count; i++)
        if (held[i].process == wanted->process && held[i].lock == wanted->lock)
            return &held[i];
    return NULL;
}

static bool is_free(void *argument)
{
    return find(argument) == NULL;
}

static void acquire(struct held wanted)
{
    if (!is_free(&wanted))
        (void)scheduler_block(is_free, &wanted, UINT64_MAX, "wait for a lock of the process");
    if (held_count == HELD_MAX)
        abort();
    held[held_count++] = wanted;
}

static void release(struct held given)
{
    struct held *found = find(&given);
    if (found == NULL)
        abort();
    *found = held[--held_count];
}

void locks_forget(unsigned process)
{
    for (unsigned i = held_count; i-- > 0;)
        if (held[i].process == process)
            held[i] = held[--held_count];
}

void __wrap_ph_local_lock(struct ph_local_lock *lock)
{
    if (scheduler_self() < 0) {
        __real_ph_local_lock(lock);
        return;
    }
    scheduler_yield("lock of the process");
    acquire((struct held){scheduler_process(), lock});
}

void __wrap_ph_local_unlock(struct ph_local_lock *lock)
{
    if (scheduler_self() < 0) {
        __real_ph_local_unlock(lock);
        return;
    }
    release((struct held){scheduler_process(), lock});
    scheduler_yield("unlock of the process");
}

static bool was_woken(void *argument)
{
    return ((const struct sleeper *)argument)->woken;
}

bool __wrap_ph_local_wait(struct ph_local_lock *lock, uint64_t timeout_ns)
{
    if (scheduler_self() < 0)
        return __real_ph_local_wait(lock, timeout_ns);
    struct sleeper self = {.on = {scheduler_process(), lock}, .next = sleepers};
    sleepers = &self;
    release(self.on);
    bool woken = scheduler_block(was_woken, &self, until(timeout_ns), "wait on a condition");
    for (struct sleeper **at = &sleepers; *at != NULL; at = &(*at)->next)
        if (*at == &self) {
            *at = self.next;
            break;
        }
    acquire(self.on);
    return woken;
}

void __wrap_ph_local_wake(struct ph_local_lock *lock)
{
    if (scheduler_self() < 0) {
        __real_ph_local_wake(lock);
        return;
    }
    for (struct sleeper *s = sleepers; s != NULL; s = s->next)
        s->woken = s->woken || (s->on.process == scheduler_process() && s->on.lock == lock);
}

/* ---------------------------------------------------------------------------------------------- other places */

void __real_ph_coord_publish_commit(struct ph_coord *coord, const struct ph_commit_mark *mark);
void __real_ph_coord_publish_fragment(struct ph_coord *coord, const struct ph_commit_mark *mark);
void __real_ph_coord_publish_flush(struct ph_coord *coord, const struct ph_flush_mark *mark);
void __real_ph_coord_publish_fold(struct ph_coord *coord, const struct ph_fold_mark *mark);
void __real_ph_ring_append(struct ph_wal *wal, uint64_t lsn, const uint8_t *record, size_t length);
bool __real_ph_coord_read_commit(struct ph_coord *coord, struct ph_commit_mark *mark);
bool __real_ph_coord_read_fold(struct ph_coord *coord, struct ph_fold_mark *mark);
void __wrap_ph_coord_publish_commit(struct ph_coord *coord, const struct ph_commit_mark *mark);
void __wrap_ph_coord_publish_fragment(struct ph_coord *coord, const struct ph_commit_mark *mark);
void __wrap_ph_coord_publish_flush(struct ph_coord *coord, const struct ph_flush_mark *mark);
void __wrap_ph_coord_publish_fold(struct ph_coord *coord, const struct ph_fold_mark *mark);
void __wrap_ph_ring_append(struct ph_wal *wal, uint64_t lsn, const uint8_t *record, size_t length);
bool __wrap_ph_coord_read_commit(struct ph_coord *coord, struct ph_commit_mark *mark);
bool __wrap_ph_coord_read_fold(struct ph_coord *coord, struct ph_fold_mark *mark);

void __wrap_ph_coord_publish_commit(struct ph_coord *coord, const struct ph_commit_mark *mark)
{
    scheduler_yield("before publishing a commit");
    __real_ph_coord_publish_commit(coord, mark);
    scheduler_yield("after publishing a commit");
}

void __wrap_ph_coord_publish_fragment(struct ph_coord *coord, const struct ph_commit_mark *mark)
{
    __real_ph_coord_publish_fragment(coord, mark);
    scheduler_yield("after publishing a fragment");
}

void __wrap_ph_coord_publish_flush(struct ph_coord *coord, const struct ph_flush_mark *mark)
{
    scheduler_yield("before publishing a flush");
    __real_ph_coord_publish_flush(coord, mark);
    scheduler_yield("after publishing a flush");
}

void __wrap_ph_coord_publish_fold(struct ph_coord *coord, const struct ph_fold_mark *mark)
{
    scheduler_yield("before publishing a fold");
    __real_ph_coord_publish_fold(coord, mark);
    scheduler_yield("after publishing a fold");
}

void __wrap_ph_ring_append(struct ph_wal *wal, uint64_t lsn, const uint8_t *record, size_t length)
{
    scheduler_yield("before appending a record");
    __real_ph_ring_append(wal, lsn, record, length);
    scheduler_yield("after appending a record");
}

bool __wrap_ph_coord_read_commit(struct ph_coord *coord, struct ph_commit_mark *mark)
{
    scheduler_yield("before reading the commit mark");
    return __real_ph_coord_read_commit(coord, mark);
}

bool __wrap_ph_coord_read_fold(struct ph_coord *coord, struct ph_fold_mark *mark)
{
    scheduler_yield("before reading the fold mark");
    return __real_ph_coord_read_fold(coord, mark);
}
