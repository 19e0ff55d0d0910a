/* SPDX-License-Identifier: MIT */
/* The library's locks under the scheduler: what it wants to know of them. */
#ifndef TESTS_SIMULATE_LOCKS_H
#define TESTS_SIMULATE_LOCKS_H

#include <stdint.h>

/* The simulated clock. */
void locks_init(uint64_t (*now)(void *), void *context);
/* A process was killed: what its threads held within it nobody waits for. */
void locks_forget(unsigned process);

#endif
