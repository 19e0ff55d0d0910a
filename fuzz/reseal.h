/* SPDX-License-Identifier: MIT */
/*
 * Resealing: make the checksums of a mutated input right again, so that what is behind them is reached, and the custom
 * mutators, which change what an input means rather than its bytes and mostly reseal.
 *
 * FUZZ_SEAL makes every checksum that of the bytes it covers.  FUZZ_RELINK also makes the log one stream: records
 * follow one another by LSN and chain, through batches and segments into the ring, and belong to the heap.
 */
#ifndef FUZZ_RESEAL_H
#define FUZZ_RESEAL_H

#include "fuzz/input.h"

enum fuzz_seal { FUZZ_SEAL, FUZZ_RELINK };

/* The whole log, as the functions below want it. */
struct fuzz_log {
    uint8_t *bytes; /* owned */
    size_t length;
    uint32_t segment_bytes;
};

struct fuzz_batch {
    size_t at; /* of its header in the log's bytes */
    uint64_t sequence;
};

void fuzz_log_load(struct fuzz_log *log, const struct fuzz_image *image);
void fuzz_log_store(const struct fuzz_log *log, struct fuzz_image *image);
void fuzz_log_deinit(struct fuzz_log *log);
/* The places where a batch header stands, in the order of the stream; at most `most`. */
size_t fuzz_log_batches(const struct fuzz_log *log, struct fuzz_batch *batches, size_t most);
/* The length of the record at `at` if one may stand there before `end`, else 0. */
size_t fuzz_record_length(const uint8_t *bytes, size_t at, size_t end);
/* The end of the records of the batch at `at`. */
size_t fuzz_batch_end(const struct fuzz_log *log, size_t at);

void fuzz_reseal(struct fuzz_input *input, enum fuzz_seal seal);
/* The checksum of one record. */
void fuzz_reseal_record(uint8_t *record, size_t length);

/* A value near `old`, near what the heap holds, or at a limit. */
uint64_t fuzz_evil(uint64_t *dice, const struct fuzz_image *heap, uint64_t old);

/* What LLVMFuzzerCustomMutator does: mutate in place, at most `most` bytes; the new size. */
size_t fuzz_mutate_input(uint8_t *data, size_t size, size_t most, unsigned seed);
/* The same of the heap image behind its superblocks, and the script, only. */
size_t fuzz_mutate_heap(uint8_t *data, size_t size, size_t most, unsigned seed);
/* An input that is a script and nothing else. */
size_t fuzz_mutate_script(uint8_t *data, size_t size, size_t most, unsigned seed);
size_t fuzz_mutate_record(uint8_t *data, size_t size, size_t most, unsigned seed);
/* And LLVMFuzzerCustomCrossOver: the parts of two inputs. */
size_t fuzz_cross_inputs(const uint8_t *one, size_t one_size, const uint8_t *other, size_t other_size, uint8_t *out,
                         size_t most, unsigned seed);

/* The beginning of one and the end of the other. */
size_t fuzz_cross_bytes(const uint8_t *one, size_t one_size, const uint8_t *other, size_t other_size, uint8_t *out,
                        size_t most, unsigned seed);

/* What libFuzzer, or in its absence the replay driver, provides. */
size_t LLVMFuzzerMutate(uint8_t *data, size_t size, size_t most);
/* What every target provides. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t most, unsigned seed);
size_t LLVMFuzzerCustomCrossOver(const uint8_t *one, size_t one_size, const uint8_t *other, size_t other_size,
                                 uint8_t *out, size_t most, unsigned seed);

#endif
