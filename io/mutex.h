/* SPDX-License-Identifier: MIT */
/*
 * Locks: a robust one for memory that several processes map, and a plain one for the threads of one process.
 *
 * `struct ph_mutex` lives in the coordination file.  Its memory is mapped once and stays mapped while the process lives
 * (a robust list that points into unmapped memory is glibc bug 14485).  Thread ids that are equal in two PID namespaces
 * make it unsafe: who attaches checks the namespace first.  The size of pthread_mutex_t differs between machines and C
 * libraries; `ph_mutex_abi` is a number to store and compare before any of these locks is believed.
 */
#ifndef IO_MUTEX_H
#define IO_MUTEX_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#define PH_MUTEX_BYTES 64

/* One cache line, in shared memory. */
struct ph_mutex {
    _Alignas(PH_MUTEX_BYTES) union {
        pthread_mutex_t mutex;
        uint8_t bytes[PH_MUTEX_BYTES];
    } u;
};
_Static_assert(sizeof(struct ph_mutex) == PH_MUTEX_BYTES, "a lock in shared memory is 64 bytes");

enum ph_mutex_result {
    PH_MUTEX_ACQUIRED,
    PH_MUTEX_OWNER_DIED, /* acquired too; the one who held it died, so what it guards needs repair (R6) */
    PH_MUTEX_TIMEOUT,    /* trylock: someone holds it */
    PH_MUTEX_DEADLOCK,   /* this thread holds it already */
    PH_MUTEX_ERROR       /* the memory does not hold a lock that can be used */
};

/* Identifies the layout of struct ph_mutex in this build; never 0. */
uint32_t ph_mutex_abi(void);

/* Make a free lock of zeroed memory that nobody uses.  False if the system has no such locks. */
bool ph_mutex_init(struct ph_mutex *mutex);
enum ph_mutex_result ph_mutex_lock(struct ph_mutex *mutex);
/* Wait at most timeout_ns by the monotonic clock; UINT64_MAX: for ever. */
enum ph_mutex_result ph_mutex_timedlock(struct ph_mutex *mutex, uint64_t timeout_ns);
enum ph_mutex_result ph_mutex_trylock(struct ph_mutex *mutex);
/* Only by the thread that acquired it. */
void ph_mutex_unlock(struct ph_mutex *mutex);
/* The kernel's number of the thread that holds it, 0 if none does or that cannot be told; for people. */
int64_t ph_mutex_holder(struct ph_mutex *mutex);

/* A lock and a condition for the threads of one process. */
struct ph_local_lock {
    pthread_mutex_t mutex;
    pthread_cond_t changed;
};

bool ph_local_init(struct ph_local_lock *lock);
void ph_local_deinit(struct ph_local_lock *lock);
void ph_local_lock(struct ph_local_lock *lock);
void ph_local_unlock(struct ph_local_lock *lock);
/* Give up the lock, sleep until ph_local_wake or timeout_ns (UINT64_MAX: no limit), take it again; may wake early.
 * False when the time is over. */
bool ph_local_wait(struct ph_local_lock *lock, uint64_t timeout_ns);
void ph_local_wake(struct ph_local_lock *lock);

#endif
