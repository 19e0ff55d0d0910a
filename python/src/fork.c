/* SPDX-License-Identifier: MIT */
/*
 * Forks: how many there were, and children that have not begun sessions of their own.
 *
 * What a child inherits is good until it has its own session, if the parent's does not move meanwhile.  The parent knows by
 * a pipe, of which only the child has the writing end: it is closed when the child goes on with all the heaps that it has
 * inherited, and by exec and the child's end.  If there are no descriptors for it the child finds out itself that the parent
 * has moved, and its proxies die.
 */
#include "python/src/heap.h"

#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

unsigned pp_forks;

struct ends {
    int *ends;
    size_t count, room;
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER; /* across a fork */
static struct ends children;                             /* to read: one for each that has not gone on */
static struct ends inherited;                            /* to write: of this process, and of those it comes from */
static int made[2];                                      /* for the fork that is going on; -1: none */
static unsigned sessions;                                /* of this process */
static unsigned left;                                    /* of those the ones that the parent began */

static bool make_room(struct ends *ends)
{
    if (ends->count < ends->room)
        return true;
    const size_t room = ends->room == 0 ? 8 : 2 * ends->room;
    int *grown = realloc(ends->ends, room * sizeof *grown);
    if (grown == NULL)
        return false;
    ends->ends = grown;
    ends->room = room;
    return true;
}

static void close_all(struct ends *ends)
{
    while (ends->count > 0)
        close(ends->ends[--ends->count]);
}

static void before_fork(void)
{
    pthread_mutex_lock(&lock);
    if (sessions == 0 || !make_room(&children) || !make_room(&inherited) || pipe2(made, O_CLOEXEC) < 0)
        made[0] = made[1] = -1;
}

static void after_fork_in_parent(void)
{
    if (made[0] >= 0) {
        children.ends[children.count++] = made[0];
        close(made[1]);
    }
    pthread_mutex_unlock(&lock);
}

static void after_fork_in_child(void)
{
    pp_forks++;
    pp_in_flight_of_child();
    close_all(&children);
    if (made[0] >= 0) {
        close(made[0]);
        inherited.ends[inherited.count++] = made[1];
    }
    left = sessions;
    pthread_mutex_unlock(&lock);
}

static void watch(void)
{
    (void)pthread_atfork(before_fork, after_fork_in_parent, after_fork_in_child);
}

void pp_fork_watch(void)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT; /* for a process, however many interpreters it has */
    pthread_once(&once, watch);
}

void pp_fork_count_session(int change)
{
    sessions += (unsigned)change;
}

void pp_fork_gone_on(void)
{
    if (left > 0 && --left == 0)
        close_all(&inherited);
}

bool pp_fork_is_awaited(void)
{
    static struct timespec asked;
    struct timespec now;
    if (children.count == 0)
        return false;
    /* Looks and changes ask each time, and the kernel takes its time: once in a tick of its clock will do. */
    if (clock_gettime(CLOCK_MONOTONIC_COARSE, &now) == 0 && now.tv_nsec == asked.tv_nsec && now.tv_sec == asked.tv_sec)
        return true;
    asked = now;
    for (size_t i = 0; i < children.count;) {
        struct pollfd child = {.fd = children.ends[i], .events = POLLIN};
        if (poll(&child, 1, 0) <= 0) {
            i++;
            continue;
        }
        close(children.ends[i]);
        children.ends[i] = children.ends[--children.count];
    }
    return children.count > 0;
}
