/* SPDX-License-Identifier: MIT */
/* Robust locks in shared memory, and plain locks, over POSIX threads. */
#include "io/mutex.h"

#include "io/failpoint.h"

#include <errno.h>
#include <stdatomic.h>
#include <string.h>
#include <time.h>

#define SECOND_NS UINT64_C(1000000000)
#define SLICE_NS UINT64_C(10000000)
#define FUTEX_TID_MASK 0x3fffffffu

uint32_t ph_mutex_abi(void)
{
#if defined(__GLIBC__)
    uint32_t library = 1;
#else
    uint32_t library = 2;
#endif
    return library << 24 | (uint32_t)sizeof(void *) << 16 | (uint32_t)sizeof(pthread_mutex_t);
}

bool ph_mutex_init(struct ph_mutex *mutex)
{
    pthread_mutexattr_t attributes;
    memset(mutex, 0, sizeof *mutex);
    if (pthread_mutexattr_init(&attributes) != 0)
        return false;
    /* ERRORCHECK: the same thread twice is an error, not a hang. */
    bool good = pthread_mutexattr_setpshared(&attributes, PTHREAD_PROCESS_SHARED) == 0 &&
                pthread_mutexattr_setrobust(&attributes, PTHREAD_MUTEX_ROBUST) == 0 &&
                pthread_mutexattr_settype(&attributes, PTHREAD_MUTEX_ERRORCHECK) == 0 &&
                pthread_mutex_init(&mutex->u.mutex, &attributes) == 0;
    (void)pthread_mutexattr_destroy(&attributes);
    return good;
}

static enum ph_mutex_result taken(struct ph_mutex *mutex, int error)
{
    switch (error) {
    case 0:
        return PH_MUTEX_ACQUIRED;
    case EOWNERDEAD:
        PH_POINT(lock_owner_died);
        /* The state of the lock is good again; that of what it guards is for the caller to see to. */
        return pthread_mutex_consistent(&mutex->u.mutex) == 0 ? PH_MUTEX_OWNER_DIED : PH_MUTEX_ERROR;
    case EBUSY:
    case ETIMEDOUT:
        return PH_MUTEX_TIMEOUT;
    case EDEADLK:
        return PH_MUTEX_DEADLOCK;
    default:
        return PH_MUTEX_ERROR;
    }
}

/* `timeout_ns` from now by the monotonic clock; years ahead where that would overflow. */
static struct timespec deadline(uint64_t timeout_ns)
{
    struct timespec at = {0};
    (void)clock_gettime(CLOCK_MONOTONIC, &at);
    uint64_t limit = UINT64_C(1000000000) * SECOND_NS;
    uint64_t total = (uint64_t)at.tv_nsec + (timeout_ns < limit ? timeout_ns : limit);
    at.tv_sec += (time_t)(total / SECOND_NS);
    at.tv_nsec = (long)(total % SECOND_NS);
    return at;
}

static bool earlier(const struct timespec *a, const struct timespec *b)
{
    return a->tv_sec < b->tv_sec || (a->tv_sec == b->tv_sec && a->tv_nsec < b->tv_nsec);
}

/*
 * GCC's thread sanitizer does not know pthread_mutex_clocklock, and takes every unlock after it for an error: under it
 * the lock is tried again and again.
 */
static int lock_until(pthread_mutex_t *mutex, const struct timespec *at)
{
#ifdef __SANITIZE_THREAD__
    const struct timespec pause = {.tv_nsec = 200000};
    struct timespec now = {0};
    for (;;) {
        int error = pthread_mutex_trylock(mutex);
        (void)clock_gettime(CLOCK_MONOTONIC, &now);
        if (error != EBUSY)
            return error;
        if (!earlier(&now, at))
            return ETIMEDOUT;
        (void)nanosleep(&pause, NULL);
    }
#else
    return pthread_mutex_clocklock(mutex, CLOCK_MONOTONIC, at);
#endif
}

enum ph_mutex_result ph_mutex_lock(struct ph_mutex *mutex)
{
    return ph_mutex_timedlock(mutex, UINT64_MAX);
}

/*
 * Nobody sleeps on a robust lock for longer than a slice, because a wake-up can get lost: an unlock wakes the first of two
 * sleepers, a third takes the lock before that one has come to it, and then that one is killed.  The third does not know
 * that anybody sleeps, so its unlock wakes nobody; and the kernel, which passes a wake-up on for the dead, does so only if
 * the lock has no owner at that moment.
 */
enum ph_mutex_result ph_mutex_timedlock(struct ph_mutex *mutex, uint64_t timeout_ns)
{
    int error = pthread_mutex_trylock(&mutex->u.mutex);
    if (error != EBUSY)
        return taken(mutex, error);
    const struct timespec end = deadline(timeout_ns);
    bool last;
    do {
        struct timespec at = deadline(SLICE_NS);
        last = !earlier(&at, &end);
        error = lock_until(&mutex->u.mutex, last ? &end : &at);
    } while (error == ETIMEDOUT && !last);
    return taken(mutex, error);
}

enum ph_mutex_result ph_mutex_trylock(struct ph_mutex *mutex)
{
    return taken(mutex, pthread_mutex_trylock(&mutex->u.mutex));
}

void ph_mutex_unlock(struct ph_mutex *mutex)
{
    (void)pthread_mutex_unlock(&mutex->u.mutex);
}

/* The kernel wants the holder of a robust lock in the low bits of its futex word, which is where the C library has it. */
int64_t ph_mutex_holder(struct ph_mutex *mutex)
{
#if defined(__GLIBC__)
    return (int64_t)(atomic_load_explicit((_Atomic uint32_t *)(void *)&mutex->u.mutex, memory_order_relaxed) &
                     FUTEX_TID_MASK);
#else
    (void)mutex;
    return 0;
#endif
}

bool ph_local_init(struct ph_local_lock *lock)
{
    if (pthread_mutex_init(&lock->mutex, NULL) != 0)
        return false;
    if (pthread_cond_init(&lock->changed, NULL) == 0)
        return true;
    (void)pthread_mutex_destroy(&lock->mutex);
    return false;
}

void ph_local_deinit(struct ph_local_lock *lock)
{
    (void)pthread_cond_destroy(&lock->changed);
    (void)pthread_mutex_destroy(&lock->mutex);
}

void ph_local_lock(struct ph_local_lock *lock)
{
    (void)pthread_mutex_lock(&lock->mutex);
}

void ph_local_unlock(struct ph_local_lock *lock)
{
    (void)pthread_mutex_unlock(&lock->mutex);
}

bool ph_local_wait(struct ph_local_lock *lock, uint64_t timeout_ns)
{
    if (timeout_ns == UINT64_MAX)
        return pthread_cond_wait(&lock->changed, &lock->mutex) == 0;
    struct timespec at = deadline(timeout_ns);
    return pthread_cond_clockwait(&lock->changed, &lock->mutex, CLOCK_MONOTONIC, &at) == 0;
}

void ph_local_wake(struct ph_local_lock *lock)
{
    (void)pthread_cond_broadcast(&lock->changed);
}
