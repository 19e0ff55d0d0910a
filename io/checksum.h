/* SPDX-License-Identifier: MIT */
/* XXH3-64 over bytes: the one checksum of the project (xxHash, Yann Collet; the system's libxxhash). */
#ifndef IO_CHECKSUM_H
#define IO_CHECKSUM_H

#include <stddef.h>
#include <stdint.h>

uint64_t ph_checksum(const void *bytes, size_t length);

#endif
