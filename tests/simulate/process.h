/* SPDX-License-Identifier: MIT */
/*
 * Simulated processes on one simulated machine: each has a table of its own over that of the machine (tests/support/
 * simfs.h), by which it opens the heap as a stranger to the others.  Every operation that other processes could notice
 * is a place where another thread may go on, and is told to a trace.
 */
#ifndef TESTS_SIMULATE_PROCESS_H
#define TESTS_SIMULATE_PROCESS_H

#include "tests/support/simfs.h"

#define PROCESSES_MAX 64

/* The machine, for all processes from now on; `trace` (may be NULL) gets a line for each operation on the disk. */
void processes_init(struct ph_sim *sim, void (*trace)(void *context, const char *line), void *context);
/* Processes so far; each start is a new one. */
unsigned process_count(void);
/* A new process; its number. */
unsigned process_start(void);
const ph_io *process_io(unsigned process);
/*
 * As by SIGKILL: its threads stop for ever, its locks are without owner or gone, its files closed, its maps gone.  Of its
 * memory nothing is ever looked at again.
 */
void process_kill(unsigned process);

#endif
