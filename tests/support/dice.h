/* SPDX-License-Identifier: MIT */
/* Dice for tests and fuzz targets: splitmix64, so that one number repeats all that was drawn. */
#ifndef TESTS_SUPPORT_DICE_H
#define TESTS_SUPPORT_DICE_H

#include <stdint.h>

static inline uint64_t dice_mix(uint64_t value)
{
    value = (value ^ (value >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    value = (value ^ (value >> 27)) * UINT64_C(0x94d049bb133111eb);
    return value ^ (value >> 31);
}

/* A number for the purpose `key` of the seed, whatever else is drawn. */
static inline uint64_t dice_of(uint64_t seed, uint64_t key)
{
    return dice_mix(seed + dice_mix(key + UINT64_C(0x9e3779b97f4a7c15)));
}

/* The next number of a sequence. */
static inline uint64_t dice_roll(uint64_t *dice)
{
    *dice += UINT64_C(0x9e3779b97f4a7c15);
    return dice_mix(*dice);
}

#endif
