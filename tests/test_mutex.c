/* SPDX-License-Identifier: MIT */
/* Locks: the robust ones between processes, and those between the threads of one. */
#include "io/io.h"
#include "io/mutex.h"

#include <linux/futex.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#define PAGE 4096u

/* Locks in shared memory. */

static struct ph_mutex *shared_mutex(void)
{
    struct ph_mutex *mutex = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    assert_true(mutex != MAP_FAILED);
    assert_true(ph_mutex_init(mutex));
    return mutex;
}

static void wait_until_asleep(pid_t process)
{
    char path[64], line[512];
    (void)snprintf(path, sizeof path, "/proc/%d/stat", (int)process);
    for (;;) {
        FILE *file = fopen(path, "r");
        assert_non_null(file);
        assert_non_null(fgets(line, sizeof line, file));
        (void)fclose(file);
        const char *state = strrchr(line, ')');
        if (state != NULL && state[2] == 'S')
            return;
        (void)usleep(1000);
    }
}

/*
 * Of two who sleep on a lock the first is woken, and killed before it has taken it; a third has come in between, so the
 * kernel does not pass the wake-up on.  Catches: the second sleeping for ever on a lock that is free.
 */
static void mutex__wake_up_is_lost(void **state)
{
    (void)state;
    struct ph_mutex *mutex = shared_mutex();
    _Atomic uint32_t *word = (_Atomic uint32_t *)(void *)mutex->u.bytes; /* of the GNU library */
    assert_int_equal(ph_mutex_lock(mutex), PH_MUTEX_ACQUIRED);
    const uint32_t held = atomic_fetch_or(word, FUTEX_WAITERS) | FUTEX_WAITERS;
    pid_t first = fork();
    if (first == 0) { /* is woken, and does nothing with it */
        (void)syscall(SYS_futex, word, FUTEX_WAIT, held, NULL, NULL, 0);
        _exit(0);
    }
    wait_until_asleep(first);
    pid_t second = fork();
    if (second == 0) {
        (void)alarm(20);
        _exit(ph_mutex_lock(mutex) == PH_MUTEX_ACQUIRED ? 0 : 1);
    }
    wait_until_asleep(second);
    ph_mutex_unlock(mutex);
    int ended = -1;
    assert_int_equal(waitpid(second, &ended, 0), second);
    assert_int_equal(ended, 0);
    assert_int_equal(kill(first, SIGKILL), 0);
    assert_int_equal(waitpid(first, NULL, 0), first);
    assert_int_equal(ph_mutex_trylock(mutex), PH_MUTEX_OWNER_DIED);
    ph_mutex_unlock(mutex);
    assert_int_equal(munmap(mutex, PAGE), 0);
}

/* The next to take the lock of a killed process is told once, and the lock goes on working. */
static void mutex__owner_killed_is_told_once(void **state)
{
    (void)state;
    struct ph_mutex *mutex = shared_mutex();
    int ready[2];
    assert_int_equal(pipe(ready), 0);
    pid_t child = fork();
    if (child == 0) {
        char done = ph_mutex_lock(mutex) == PH_MUTEX_ACQUIRED ? 'y' : 'n';
        (void)!write(ready[1], &done, 1);
        (void)pause();
        _exit(0);
    }
    char done = 0;
    assert_int_equal(read(ready[0], &done, 1), 1);
    assert_int_equal(done, 'y');
    assert_int_equal(ph_mutex_trylock(mutex), PH_MUTEX_TIMEOUT);
    assert_int_equal(ph_mutex_timedlock(mutex, UINT64_C(3000000)), PH_MUTEX_TIMEOUT);
    assert_int_equal(kill(child, SIGKILL), 0);
    assert_int_equal(waitpid(child, NULL, 0), child);
    assert_int_equal(ph_mutex_timedlock(mutex, UINT64_MAX), PH_MUTEX_OWNER_DIED);
    assert_int_equal(ph_mutex_lock(mutex), PH_MUTEX_DEADLOCK);
    ph_mutex_unlock(mutex);
    assert_int_equal(ph_mutex_trylock(mutex), PH_MUTEX_ACQUIRED);
    ph_mutex_unlock(mutex);
    assert_int_equal(munmap(mutex, PAGE), 0);
    assert_int_equal(close(ready[0]) | close(ready[1]), 0);
    assert_true(ph_mutex_abi() != 0);
}

/* Garbage in the lock's memory (a stale coordination file) gives a result, not a hang. */
static void mutex__garbage_is_an_error_or_a_timeout(void **state)
{
    (void)state;
    struct ph_mutex *mutex = shared_mutex();
    memset(mutex, 0xff, sizeof *mutex);
    enum ph_mutex_result result = ph_mutex_timedlock(mutex, UINT64_C(1000000));
    assert_true(result == PH_MUTEX_ERROR || result == PH_MUTEX_TIMEOUT || result == PH_MUTEX_DEADLOCK);
    assert_int_equal(munmap(mutex, PAGE), 0);
}

/* Sleeping on the local lock ends with the time. */
static void local_lock__wait_times_out(void **state)
{
    (void)state;
    struct ph_local_lock lock;
    assert_true(ph_local_init(&lock));
    ph_local_lock(&lock);
    bool woken = true;
    while (woken)
        woken = ph_local_wait(&lock, UINT64_C(1000000));
    ph_local_wake(&lock);
    ph_local_unlock(&lock);
    ph_local_deinit(&lock);
}

struct signal {
    struct ph_local_lock lock;
    bool given;
};

static void *give_signal(void *argument)
{
    struct signal *signal = argument;
    ph_local_lock(&signal->lock);
    signal->given = true;
    ph_local_wake(&signal->lock);
    ph_local_unlock(&signal->lock);
    return NULL;
}

/* Without a limit it ends with a wake, and the lock is held again then. */
static void local_lock__wait_without_limit_is_woken(void **state)
{
    (void)state;
    struct signal signal = {.given = false};
    pthread_t giver;
    assert_true(ph_local_init(&signal.lock));
    ph_local_lock(&signal.lock);
    assert_int_equal(pthread_create(&giver, NULL, give_signal, &signal), 0);
    while (!signal.given)
        assert_true(ph_local_wait(&signal.lock, UINT64_MAX));
    ph_local_unlock(&signal.lock);
    assert_int_equal(pthread_join(giver, NULL), 0);
    ph_local_deinit(&signal.lock);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(mutex__wake_up_is_lost),
        cmocka_unit_test(mutex__owner_killed_is_told_once),
        cmocka_unit_test(mutex__garbage_is_an_error_or_a_timeout),
        cmocka_unit_test(local_lock__wait_times_out),
        cmocka_unit_test(local_lock__wait_without_limit_is_woken),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
