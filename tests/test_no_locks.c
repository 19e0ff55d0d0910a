/* SPDX-License-Identifier: MIT */
/*
 * A system that cannot make a lock: linked so that the calls that make locks come here first, and fail when told.
 */
#include "tests/machine.h"

int __wrap_pthread_mutexattr_init(pthread_mutexattr_t *attributes);
int __wrap_pthread_mutexattr_setpshared(pthread_mutexattr_t *attributes, int shared);
int __wrap_pthread_mutexattr_setrobust(pthread_mutexattr_t *attributes, int robust);
int __wrap_pthread_mutexattr_settype(pthread_mutexattr_t *attributes, int type);
int __wrap_pthread_mutex_init(pthread_mutex_t *mutex, const pthread_mutexattr_t *attributes);
int __wrap_pthread_cond_init(pthread_cond_t *condition, const pthread_condattr_t *attributes);
int __real_pthread_mutexattr_init(pthread_mutexattr_t *attributes);
int __real_pthread_mutexattr_setpshared(pthread_mutexattr_t *attributes, int shared);
int __real_pthread_mutexattr_setrobust(pthread_mutexattr_t *attributes, int robust);
int __real_pthread_mutexattr_settype(pthread_mutexattr_t *attributes, int type);
int __real_pthread_mutex_init(pthread_mutex_t *mutex, const pthread_mutexattr_t *attributes);
int __real_pthread_cond_init(pthread_cond_t *condition, const pthread_condattr_t *attributes);

enum call { ATTRIBUTES, SHARED, ROBUST, TYPE, MUTEX, CONDITION, CALLS };

static unsigned countdown[CALLS]; /* the call that fails, counted from now; 0: none */
static bool struck;

static void fail_at(enum call call, unsigned nth)
{
    memset(countdown, 0, sizeof countdown);
    if (nth != 0)
        countdown[call] = nth;
    struck = false;
}

static bool fails(enum call call)
{
    bool now = countdown[call] == 1;
    countdown[call] -= countdown[call] != 0;
    struck = struck || now;
    return now;
}

int __wrap_pthread_mutexattr_init(pthread_mutexattr_t *attributes)
{
    return fails(ATTRIBUTES) ? ENOMEM : __real_pthread_mutexattr_init(attributes);
}

int __wrap_pthread_mutexattr_setpshared(pthread_mutexattr_t *attributes, int shared)
{
    return fails(SHARED) ? ENOTSUP : __real_pthread_mutexattr_setpshared(attributes, shared);
}

int __wrap_pthread_mutexattr_setrobust(pthread_mutexattr_t *attributes, int robust)
{
    return fails(ROBUST) ? ENOTSUP : __real_pthread_mutexattr_setrobust(attributes, robust);
}

int __wrap_pthread_mutexattr_settype(pthread_mutexattr_t *attributes, int type)
{
    return fails(TYPE) ? EINVAL : __real_pthread_mutexattr_settype(attributes, type);
}

int __wrap_pthread_mutex_init(pthread_mutex_t *mutex, const pthread_mutexattr_t *attributes)
{
    return fails(MUTEX) ? EAGAIN : __real_pthread_mutex_init(mutex, attributes);
}

int __wrap_pthread_cond_init(pthread_cond_t *condition, const pthread_condattr_t *attributes)
{
    return fails(CONDITION) ? EAGAIN : __real_pthread_cond_init(condition, attributes);
}

/* Catches: a lock called made that is not shared, not robust, or hangs where it is taken twice. */
static void mutex__every_step_counts(void **state)
{
    (void)state;
    struct ph_mutex mutex;
    for (enum call call = ATTRIBUTES; call <= MUTEX; call++) {
        fail_at(call, 1);
        require(!ph_mutex_init(&mutex));
        require(struck);
        require(ph_mutex_init(&mutex));
        require_equal(ph_mutex_trylock(&mutex), PH_MUTEX_ACQUIRED);
        require_equal(ph_mutex_lock(&mutex), PH_MUTEX_DEADLOCK);
        ph_mutex_unlock(&mutex);
    }
    struct ph_local_lock lock;
    for (enum call call = MUTEX; call <= CONDITION; call++) {
        fail_at(call, 1);
        require(!ph_local_init(&lock));
        require(ph_local_init(&lock));
        ph_local_deinit(&lock);
    }
}

/* Open in the first process while each lock that this makes fails in turn; how often it failed. */
static unsigned open_without_locks(struct machine *machine, enum call call, pheap **heap)
{
    for (unsigned nth = 1;; nth++) {
        struct taken before = machine_taken(machine, machine->first);
        fail_at(call, nth);
        enum pheap_status status = machine_try(machine->first, 0, heap);
        fail_at(call, 0);
        if (status == PHEAP_OK)
            return nth - 1;
        require(status == PHEAP_UNSUPPORTED || status == PHEAP_NO_MEMORY);
        require(strstr(pheap_error_detail(), HEAP) != NULL);
        require(status == PHEAP_NO_MEMORY || strstr(pheap_error_detail(), "robust locks") != NULL);
        require_taken(before, machine_taken(machine, machine->first));
    }
}

/* Catches: a heap opened with locks that are none, or a refusal that leaves something taken. */
static void open__needs_every_lock(void **state)
{
    (void)state;
    struct machine machine;
    machine_begin(&machine, NULL);
    ok(pheap_close(machine_create(&machine, 0, 8)));
    static const unsigned wanted[CALLS] = {3, 3, 3, 3, 6, 3};
    for (enum call call = ATTRIBUTES; call < CALLS; call++) {
        pheap *heap = NULL;
        require_equal(open_without_locks(&machine, call, &heap), wanted[call]);
        commit_word(heap, 0, call, PHEAP_DURABLE);
        require_equal(fresh_word(heap, 0), call);
        ok(pheap_close(heap));
    }
    machine_end(&machine);
}

/* Catches: records in the buffer of dead users dropped because a lock that their flush needs could not be made. */
static void recovery__needs_a_lock_for_the_buffer(void **state)
{
    (void)state;
    struct machine machine;
    machine_begin(&machine, NULL);
    pheap *heap = machine_create(&machine, 0, 8);
    commit_word(heap, 0, 1, PHEAP_LAZY);
    machine.first->free(machine.first->ctx, heap);
    ph_sim_kill(machine.sim);
    machine.first = ph_sim_io(machine.sim);
    fail_at(ROBUST, 1);
    expect_detail(PHEAP_UNSUPPORTED, "robust locks", machine_try(machine.first, 0, &heap));
    fail_at(ROBUST, 0);
    heap = machine_open(machine.first, 0);
    require(heap_info(heap).recovered);
    require_equal(fresh_word(heap, 0), 1);
    ok(pheap_close(heap));
    machine_end(&machine);
}

int main(int argc, char **argv)
{
    choose_cases(argc, argv);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(mutex__every_step_counts),
        cmocka_unit_test(open__needs_every_lock),
        cmocka_unit_test(recovery__needs_a_lock_for_the_buffer),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
