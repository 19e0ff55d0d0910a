/* SPDX-License-Identifier: MIT */
/* Transactions from a seed. */
#include "tests/powercut/history.h"
#include "tests/support/dice.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void history_deinit(struct history *history)
{
    free(history->starts);
    *history = (struct history){0};
}

void history_add(struct history *history, uint64_t start)
{
    if (history->count == history->capacity) {
        history->capacity = history->capacity * 2 + 64;
        history->starts = realloc(history->starts, history->capacity * sizeof history->starts[0]);
        if (history->starts == NULL)
            abort();
    }
    history->starts[history->count++] = start;
}

bool history_format(const struct history *history, char *text, size_t size)
{
    size_t used = 0;
    text[0] = '\0';
    for (size_t i = 0; i < history->count && used < size; i++)
        used += (size_t)snprintf(text + used, size - used, "%s%llu", i == 0 ? "" : ",",
                                 (unsigned long long)history->starts[i]);
    return used < size;
}

bool history_parse(struct history *history, const char *text)
{
    while (*text != '\0') {
        char *end;
        uint64_t start = strtoull(text, &end, 10);
        if (end == text || (*end != ',' && *end != '\0'))
            return false;
        history_add(history, start);
        text = *end == ',' ? end + 1 : end;
    }
    return true;
}

/* What everything about a transaction follows from. */
static uint64_t seed_of(const struct history *history, uint64_t number)
{
    size_t attempt = history->count;
    while (attempt > 0 && history->starts[attempt - 1] >= number)
        attempt--;
    return dice_of(dice_of(history->seed, attempt), number);
}

bool history_touches(const struct history *history, uint64_t number, uint32_t object)
{
    uint64_t dice = seed_of(history, number);
    if (object == 0)
        return true;
    for (uint64_t more = 1 + dice % 6; more > 0; more--)
        if (1 + dice_roll(&dice) % (ENGINE_OBJECTS - 1) == object)
            return true;
    return false;
}

static size_t length_of(uint64_t roll)
{
    if (roll % 8 == 0)
        return 0;
    if (roll % 16 == 1)
        return 24 + (size_t)(roll >> 8) % (ENGINE_OBJECT_BYTES_MAX - 24);
    /* Often the same, so that it can be changed in place. */
    return roll % 2 == 0 ? 200 : 24 + (size_t)(roll >> 8) % 900;
}

size_t history_bytes(const struct history *history, uint64_t number, uint32_t object,
                     uint8_t bytes[ENGINE_OBJECT_BYTES_MAX])
{
    uint64_t dice = dice_of(seed_of(history, number), object + UINT64_C(1000));
    size_t length = object == 0 ? 64 : length_of(dice_roll(&dice));
    for (size_t i = 0; i < length; i += sizeof(uint64_t)) {
        uint64_t word = i == 0 ? number : dice_roll(&dice);
        memcpy(bytes + i, &word, length - i < sizeof word ? length - i : sizeof word);
    }
    return length;
}

uint64_t history_writer(const struct history *history, uint64_t number, uint32_t object)
{
    while (number > 0 && !history_touches(history, number, object))
        number--;
    return number;
}

uint64_t history_number(const uint8_t *bytes, size_t length)
{
    uint64_t number = 0;
    if (length >= sizeof number)
        memcpy(&number, bytes, sizeof number);
    return number;
}
