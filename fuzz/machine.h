/* SPDX-License-Identifier: MIT */
/*
 * The simulated machine that an input runs on: its files come from the input, and everything that the library asks of
 * it is watched.
 *
 * What must hold, else the run is a finding:
 *   M1  a write to the heap file never makes it longer, and what is written to its first two pages is a superblock
 *   M2  no request for memory is larger than FUZZ_ALLOCATION_MAX
 *   M3  nobody waits more than FUZZ_WAITS_MAX times
 *   M4  when every heap is closed nothing is left: no memory, no map, no open file
 *   M5  under libFuzzer: from start to stop it takes less than a second of the processor's time, not counting a fifth of
 *       a millisecond for each wait: where the library waits for somebody else, it looks again every so often, for ten
 *       seconds at most
 *
 * The machine's disk is small: after FUZZ_WRITTEN_MAX bytes it is full.  Two processes may use it at the same time.
 */
#ifndef FUZZ_MACHINE_H
#define FUZZ_MACHINE_H

#include "fuzz/input.h"
#include "pheap/pheap.h"
#include "tests/support/simfs.h"

#define FUZZ_PATH "dir/heap"
#define FUZZ_LOG_PATH FUZZ_PATH "-wal"
#define FUZZ_COORD_PATH FUZZ_PATH "-shm"
#define FUZZ_PROCESSES 2u

#define FUZZ_ALLOCATION_MAX (UINT64_C(256) << 20)
#define FUZZ_WRITTEN_MAX (UINT64_C(16) << 20)
#define FUZZ_FILE_MAX (UINT64_C(1) << 40) /* bytes of any file */
#define FUZZ_LOG_FILE_MAX (UINT64_C(16) << 20)
#define FUZZ_WAITS_MAX 200000u
#define FUZZ_SECOND_NS UINT64_C(1000000000)

/* One machine at a time. */
void fuzz_machine_start(const struct fuzz_input *input);
/* Every heap must have been closed. */
void fuzz_machine_stop(void);

struct ph_sim *fuzz_machine_sim(void);
/* The table of a process, 0 or 1. */
const ph_io *fuzz_machine_io(unsigned process);

/* From now on no file grows beyond that. */
void fuzz_machine_limit(uint64_t file_bytes);

/* So much time passes. */
void fuzz_machine_pass(uint64_t ns);

/* Ask for all that is told about a heap and those who use it. */
void fuzz_machine_inquire(pheap *heap);

/* Remember what the files hold now; and later, when every heap has been closed, go on from there after a reboot or, if
 * `warm`, after the death of all processes. */
void fuzz_machine_snapshot(void);
/* The same just before the `nth` (1, 2, ...) call from now on that changes a file. */
void fuzz_machine_snapshot_at(unsigned nth);
bool fuzz_machine_has_snapshot(void);
void fuzz_machine_revert(bool warm);

#endif
