/* SPDX-License-Identifier: MIT */
/* What the files that make system calls share: the page calls of the seam (io.h says what each does), and descriptors. */
#ifndef IO_POSIX_H
#define IO_POSIX_H

#include "io/io.h"

/* posix_pages.c. */
int64_t ph_posix_touched(void *ctx, const void *address, size_t length, uint8_t *bitmap);
int ph_posix_watch(void *ctx, void *address, size_t length);
void ph_posix_unwatch(void *ctx, int handle);
int64_t ph_posix_stored(void *ctx, const void *address, size_t length, uint8_t *bitmap);
int ph_posix_drop_watched(void *ctx, int handle, void *address, size_t length);

/* posix.c: an open descriptor, or another for the same in its place, above those of the standard streams; -errno. */
int ph_posix_above_standard(int file);

#endif
