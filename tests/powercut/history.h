/* SPDX-License-Identifier: MIT */
/*
 * What each transaction writes, and so what every object must hold after any of them: all of it follows from a seed.
 *
 * Transactions are numbered from 1.  A number may be tried more than once, when a cut took the first try; so every try
 * writes other bytes, and what a store holds of a try that it had lost is found.  Tries are counted by *attempts*: a new
 * one begins whenever a store has been opened and found to hold the transactions up to some number; what it then does,
 * from the next number on, belongs to that attempt.
 *
 * Object 0 is written by every transaction, and says how far the store is.
 */
#ifndef TESTS_POWERCUT_HISTORY_H
#define TESTS_POWERCUT_HISTORY_H

#include "tests/powercut/engine.h"

struct history {
    uint64_t seed;
    uint64_t *starts; /* of each attempt: the last transaction before it; never falls */
    size_t count, capacity;
};

void history_deinit(struct history *history);
/* From now on an attempt that begins after transaction `start`. */
void history_add(struct history *history, uint64_t start);
/* As text, "0,17,17,23", and from it; false if it is not such a text. */
bool history_format(const struct history *history, char *text, size_t size);
bool history_parse(struct history *history, const char *text);

/* Does transaction `number` write the object? */
bool history_touches(const struct history *history, uint64_t number, uint32_t object);
/* What it writes: the length, 0 to remove it. */
size_t history_bytes(const struct history *history, uint64_t number, uint32_t object,
                     uint8_t bytes[ENGINE_OBJECT_BYTES_MAX]);
/* The last transaction up to `number` that wrote the object; 0: none. */
uint64_t history_writer(const struct history *history, uint64_t number, uint32_t object);
/* The number in the bytes of any object. */
uint64_t history_number(const uint8_t *bytes, size_t length);

#endif
