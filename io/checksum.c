/* SPDX-License-Identifier: MIT */
/* XXH3-64 by way of the header-only part of libxxhash, so that short records are hashed without a call. */
#include "io/checksum.h"

#define XXH_INLINE_ALL
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wconversion"
#pragma GCC diagnostic ignored "-Wcast-qual"
#pragma GCC diagnostic ignored "-Wundef"
#include <xxhash.h>
#pragma GCC diagnostic pop

#if XXH_VERSION_NUMBER < 800
#error "pheap needs xxHash 0.8.0 or later (Debian package libxxhash-dev)"
#endif

uint64_t ph_checksum(const void *bytes, size_t length)
{
    return XXH3_64bits(bytes, length);
}

/* The state of the library, in memory that callers can have on their stack without its header. */
_Static_assert(sizeof(XXH3_state_t) <= sizeof(struct ph_checksum_stream), "room for the state");
_Static_assert(_Alignof(XXH3_state_t) <= _Alignof(struct ph_checksum_stream), "its alignment");

void ph_checksum_begin(struct ph_checksum_stream *stream)
{
    XXH3_INITSTATE((XXH3_state_t *)(void *)stream->state);
    (void)XXH3_64bits_reset((XXH3_state_t *)(void *)stream->state);
}

void ph_checksum_add(struct ph_checksum_stream *stream, const void *bytes, size_t length)
{
    (void)XXH3_64bits_update((XXH3_state_t *)(void *)stream->state, bytes, length);
}

uint64_t ph_checksum_value(const struct ph_checksum_stream *stream)
{
    return XXH3_64bits_digest((const XXH3_state_t *)(const void *)stream->state);
}
