/* SPDX-License-Identifier: MIT */
/* Chance that can be had again: everything random comes from one seed and from what it is wanted for. */
#ifndef TESTS_POWERCUT_DICE_H
#define TESTS_POWERCUT_DICE_H

#include <stdint.h>

/* The finaliser of splitmix64. */
static inline uint64_t dice_mix(uint64_t value)
{
    value = (value ^ (value >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    value = (value ^ (value >> 27)) * UINT64_C(0x94d049bb133111eb);
    return value ^ (value >> 31);
}

/* A number for the purpose `key` of the seed. */
static inline uint64_t dice_of(uint64_t seed, uint64_t key)
{
    return dice_mix(seed + dice_mix(key + UINT64_C(0x9e3779b97f4a7c15)));
}

/* The next number of a sequence. */
static inline uint64_t dice_roll(uint64_t *state)
{
    *state += UINT64_C(0x9e3779b97f4a7c15);
    return dice_mix(*state);
}

#endif
