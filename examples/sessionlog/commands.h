/* SPDX-License-Identifier: MIT */
/* What the source files of the command share. */
#ifndef SESSIONLOG_COMMANDS_H
#define SESSIONLOG_COMMANDS_H

#include <stdbool.h>
#include <stdint.h>

#include "sessionlog.h"

struct options {
    const char *file;  /* --file: read this instead of standard input; NULL */
    uint64_t bytes;    /* --bytes: records are pieces of this size; 0: lines */
    uint64_t batch;    /* --batch: records in a transaction */
    uint64_t count;    /* --count: end after so many records */
    uint64_t lease_ms; /* --lease */
    int64_t wait_ms;   /* --wait: end when nothing came for so long; -1: never */
    uint64_t limit;    /* --limit: of the log */
    uint64_t seconds;  /* --seconds: of each measurement */
    enum sessionlog_from from;
    enum pheap_durability how; /* --lazy */
    bool raw;                  /* --raw: no newline after a record */
    bool leave;                /* --leave: unregister at the end */
};

/* Print "sessionlog: MESSAGE" on standard error.  Always -1, which every function here returns on failure. */
int fail(const char *format, ...) __attribute__((format(printf, 1, 2)));
int fail_heap(enum pheap_status status, const char *what);
int fail_log(void); /* with sessionlog_detail() */

/* Open the heap at `path` and find its log, which is its root. */
int log_open(const char *path, pheap **heap, uint64_t *log);

/* Close it.  `result` is what the command has come to; a failure to close turns 0 into -1. */
int log_close(const char *path, pheap *heap, int result);

/* Make a heap, which must not exist, with a log as its root. */
int log_make(const char *path, uint64_t limit_bytes);

/* End a transaction: commit if `status` is OK, else abort and print the detail. */
int txn_end(pheap_txn *txn, enum sessionlog_status status, enum pheap_durability how);

/* The same for a producer: FULL also commits what there is, waits until something changes, and returns 1: try again. */
int append_end(pheap *heap, pheap_txn *txn, enum sessionlog_status status, enum pheap_durability how);

/* Register a listener in a transaction of its own. */
int listener_open(pheap *heap, uint64_t log, const char *name, const struct options *options,
                  struct sessionlog_listener *listener);

int produce_run(const char *path, const struct options *options);
int listen_run(const char *path, const char *name, const struct options *options);
int bench_run(const char *path, const struct options *options);

#endif
