/* SPDX-License-Identifier: MIT */
/* XXH3-64 over bytes: the one checksum of the project (xxHash, Yann Collet; the system's libxxhash). */
#ifndef IO_CHECKSUM_H
#define IO_CHECKSUM_H

#include <stddef.h>
#include <stdint.h>

uint64_t ph_checksum(const void *bytes, size_t length);

/* The same over bytes that come piece by piece: begin, add any number of times; the value so far can be had any time. */
struct ph_checksum_stream {
    _Alignas(64) unsigned char state[576];
};
void ph_checksum_begin(struct ph_checksum_stream *stream);
void ph_checksum_add(struct ph_checksum_stream *stream, const void *bytes, size_t length);
uint64_t ph_checksum_value(const struct ph_checksum_stream *stream);

#endif
