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
