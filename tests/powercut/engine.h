/* SPDX-License-Identifier: MIT */
/*
 * What the worker asks of a store: numbered objects of any length, changed in transactions.
 *
 * Every call returns true, or false and has put a text for people into engine_error.  A failed call ends the transaction
 * or the store is closed; `close` is always allowed after an `open`, whether it succeeded or not.
 */
#ifndef TESTS_POWERCUT_ENGINE_H
#define TESTS_POWERCUT_ENGINE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define ENGINE_OBJECTS 40u
#define ENGINE_OBJECT_BYTES_MAX 20000u

struct engine {
    const char *name;
    /* Open the store in a directory, creating it if there is none; `variety` chooses among sizes and thresholds. */
    bool (*open)(const char *directory, uint64_t variety);
    /* The store's own whole check, where it has one. */
    bool (*check)(void);
    /* The object's bytes into `bytes`; *length 0: there is none.  In a transaction or outside. */
    bool (*get)(uint32_t object, uint8_t *bytes, size_t *length);
    bool (*begin)(void);
    /* Length 0: remove it. */
    bool (*put)(uint32_t object, const uint8_t *bytes, size_t length);
    /* *durable is set if returning means that it is on the disk. */
    bool (*commit)(bool *durable);
    bool (*close)(void);
};

extern char engine_error[1024];
/* Sets engine_error; false. */
bool engine_fail(const char *format, ...) __attribute__((format(printf, 1, 2)));

extern const struct engine engine_pheap, engine_pheap_lazy, engine_sqlite, engine_lmdb;

#endif
