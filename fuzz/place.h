/* SPDX-License-Identifier: MIT */
/*
 * A directory for the targets that run on the real machine: in memory where that can be had, empty before each input.
 *
 * Files there cannot grow beyond FUZZ_PLACE_FILE_MAX bytes.  Between listen and hear nothing reaches the standard
 * streams, and what was written to them is kept.
 */
#ifndef FUZZ_PLACE_H
#define FUZZ_PLACE_H

#include "fuzz/input.h"

#define FUZZ_PLACE_FILE_MAX (UINT64_C(64) << 20)

/* The path of a file in it: one of a few static buffers, used in turn. */
const char *fuzz_place_path(const char *name);
void fuzz_place_write(const char *name, const void *data, size_t length);
/* Make the file that an image describes, cut to `most` bytes; none if it is empty. */
void fuzz_place_image(const char *name, const struct fuzz_image *image, uint64_t most);
/* A checksum of the content of the file, 0 if there is none. */
uint64_t fuzz_place_checksum(const char *name);
bool fuzz_place_has(const char *name);

/* What was written to the standard streams, each with a zero byte behind its end. */
struct fuzz_said {
    char *out, *err; /* owned */
    size_t out_length, err_length;
};

void fuzz_place_begin(void);
/* From here on the standard streams are kept, until hear. */
void fuzz_place_listen(void);
void fuzz_place_hear(struct fuzz_said *said);
void fuzz_said_deinit(struct fuzz_said *said);
/* Removes the files.  No file may have been left open, and no map that the library keeps. */
void fuzz_place_end(void);

#endif
