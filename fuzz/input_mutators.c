/* SPDX-License-Identifier: MIT */
/* What libFuzzer calls to change inputs, for the targets whose inputs are those of fuzz/input.h. */
#include "fuzz/reseal.h"

size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t most, unsigned seed)
{
    return fuzz_mutate_input(data, size, most, seed);
}

size_t LLVMFuzzerCustomCrossOver(const uint8_t *one, size_t one_size, const uint8_t *other, size_t other_size,
                                 uint8_t *out, size_t most, unsigned seed)
{
    return fuzz_cross_inputs(one, one_size, other, other_size, out, most, seed);
}
