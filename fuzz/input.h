/* SPDX-License-Identifier: MIT */
/*
 * An input of fuzz_open and fuzz_log: what the disk holds when the program starts, and what the program does.
 *
 *   u32  bytes of the heap image      u32  bytes of the log image      u32  bytes of the ring      u32  reserved
 *   the heap image, the log image, the ring, and to the end the script
 *
 * An image is sparse: u32 size of the file in sectors of 512 bytes, then any number of {u32 sector, 512 bytes}.  A size
 * of 0 means that there is no such file.  The ring is what the shared log buffer of a coordination file holds: u64 LSN
 * of its first byte, then records; without those 8 bytes there is no coordination file.
 *
 * Every sequence of bytes is an input: lengths that reach too far are cut.
 *
 * The script is a sequence of codes, each with the arguments that fuzz_open.c takes; fuzz_log uses its first bytes only.
 */
#ifndef FUZZ_INPUT_H
#define FUZZ_INPUT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define FUZZ_SECTOR_BYTES 512u
#define FUZZ_INPUT_MAX 262144u /* bytes of an input */

/* Codes of the script: these, plus what to do of that kind. */
enum fuzz_code {
    FUZZ_CHANGE = 0,     /* in a transaction; else as FUZZ_BEGIN */
    FUZZ_BEGIN = 128,    /* a write transaction */
    FUZZ_END = 136,      /* it: 0 abort, 1 commit durable, 2 commit lazy */
    FUZZ_LOOK = 152,     /* a read transaction */
    FUZZ_MAINTAIN = 208, /* the heap */
    FUZZ_DISTURB = 232   /* the machine */
};

struct fuzz_sector {
    uint32_t number;
    uint8_t data[FUZZ_SECTOR_BYTES];
};

struct fuzz_image {
    uint32_t sectors; /* size of the file */
    uint32_t count, capacity;
    struct fuzz_sector *list; /* owned; later ones overlay earlier ones */
};

struct fuzz_bytes {
    uint8_t *data; /* owned */
    size_t length;
};

struct fuzz_input {
    struct fuzz_image heap, log;
    struct fuzz_bytes ring, script;
};

void fuzz_input_parse(struct fuzz_input *input, const uint8_t *data, size_t size);
void fuzz_input_deinit(struct fuzz_input *input);
/* Bytes that fuzz_input_write makes. */
size_t fuzz_input_size(const struct fuzz_input *input);
/* Write it as bytes; 0 if it does not fit. */
size_t fuzz_input_write(const struct fuzz_input *input, uint8_t *data, size_t size);

/* The sector's bytes, or NULL if the image has none, which reads as zeros. */
uint8_t *fuzz_image_sector(const struct fuzz_image *image, uint32_t sector);
/* The same, added if missing. */
uint8_t *fuzz_image_touch(struct fuzz_image *image, uint32_t sector);
/* The aligned word at `offset` of the file; where there is none, 0, and storing does nothing. */
uint64_t fuzz_image_get(const struct fuzz_image *image, uint64_t offset);
void fuzz_image_put(struct fuzz_image *image, uint64_t offset, uint64_t value);
/* Make the image that of a file with these bytes. */
void fuzz_image_from_bytes(struct fuzz_image *image, const uint8_t *data, size_t length);
/* The first `length` bytes of the file. */
void fuzz_image_to_bytes(const struct fuzz_image *image, uint8_t *data, size_t length);
void fuzz_image_deinit(struct fuzz_image *image);

void fuzz_bytes_set(struct fuzz_bytes *bytes, const void *data, size_t length);

/* Memory that is always there. */
void *fuzz_memory(void *old, size_t length);

/* What must hold whatever the input; a failure is a finding. */
void fuzz_fail(const char *file, int line, const char *what);
#define FUZZ_REQUIRE(condition) ((condition) ? (void)0 : fuzz_fail(__FILE__, __LINE__, #condition))

/*
 * Between the two no more than a second of the processor's time may pass, not counting the system's, which may be ten: a
 * machine that is short of memory takes it from whom it finds.  This is looked at under libFuzzer only.
 */
void fuzz_time_begin(void);
void fuzz_time_end(void);
/* So much more. */
void fuzz_time_allow(uint64_t us);

#endif
