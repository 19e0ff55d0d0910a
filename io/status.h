/* SPDX-License-Identifier: MIT */
/*
 * Status codes of all layers, and the per-thread text that explains the last failure.
 *
 * One list gives number, name and text; pheap/pheap.h repeats numbers and names for its readers and pheap/status.c
 * asserts that the two agree.  A number is never reused.
 */
#ifndef IO_STATUS_H
#define IO_STATUS_H

#include <stdarg.h>

#define PH_STATUS_LIST(X)                                            \
    X(OK, 0, "success")                                              \
    X(INVALID, 1, "invalid argument")                                \
    X(NOT_FOUND, 2, "no such file")                                  \
    X(EXISTS, 3, "the file exists already")                          \
    X(NOT_HEAP, 4, "not a heap")                                     \
    X(CORRUPT, 5, "the heap or its log is damaged")                  \
    X(NEWER, 6, "written by a newer version")                        \
    X(BYTE_ORDER, 7, "another byte order")                           \
    X(LOG_MISSING, 8, "the log is missing")                          \
    X(LOG_FOREIGN, 9, "the log does not belong to this heap")        \
    X(READ_ONLY, 10, "read-only")                                    \
    X(PERMISSION, 11, "permission denied")                           \
    X(IO, 12, "input/output error")                                  \
    X(NO_SPACE, 13, "no space left")                                 \
    X(NO_MEMORY, 14, "out of memory")                                \
    X(RESERVE, 15, "the heap outgrew the reserved address space")    \
    X(LOG_FULL, 16, "the log is full")                               \
    X(TOO_BIG, 17, "the transaction is too big")                     \
    X(BUSY, 18, "in use")                                            \
    X(TIMEOUT, 19, "timed out")                                      \
    X(POISONED, 20, "a sync failed earlier")                         \
    X(ENDED, 21, "the transaction has ended")                        \
    X(WRONG_THREAD, 22, "the transaction belongs to another thread") \
    X(FORKED, 23, "the transaction belongs to the parent process")   \
    X(BAD_OFFSET, 24, "not an offset of a live block")               \
    X(DOUBLE_FREE, 25, "the block is already free")                  \
    X(STRAY_STORE, 26, "a store that was never declared")            \
    X(NAMESPACE, 27, "processes in different PID namespaces")        \
    X(UNSUPPORTED, 28, "not supported here")                         \
    X(END, 29, "end of the enumeration")                             \
    X(REPLACED, 30, "the heap's files were replaced while in use")   \
    X(FULL, 31, "the heap file cannot grow further")                 \
    X(EVICTED, 32, "the read transaction was evicted")               \
    X(BUDGET, 33, "the memory budget is used up")                    \
    X(WRONG_TYPE, 34, "a value of another type")

#define PH_STATUS_ENUM(name, number, text) PH_##name = (number),
typedef enum ph_status { PH_STATUS_LIST(PH_STATUS_ENUM) } ph_status;
#undef PH_STATUS_ENUM

#define PH_MUST_CHECK __attribute__((warn_unused_result))

/* The size of the detail text, its final zero included. */
#define PH_DETAIL_BYTES 1024

/*
 * Record why this thread's call fails and return `status`, so that a failing branch reads `return ph_fail(...)`.
 * Leaves out the middle of what is too long; allocates nothing.  The detail of a status that passes through layers is
 * that of the innermost.
 */
ph_status ph_fail(ph_status status, const char *format, ...) __attribute__((format(printf, 2, 3)));

ph_status ph_vfail(ph_status status, const char *format, va_list arguments) __attribute__((format(printf, 2, 0)));

/* Put "format: " before the present detail, for a caller that knows more of the circumstances. */
ph_status ph_fail_context(ph_status status, const char *format, ...) __attribute__((format(printf, 2, 3)));

const char *ph_detail(void);
const char *ph_status_text(ph_status status);
const char *ph_status_name(ph_status status);

#endif
