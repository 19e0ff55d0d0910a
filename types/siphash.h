/* SPDX-License-Identifier: MIT */
/*
 * SipHash-1-3 (J.-P. Aumasson, D. J. Bernstein: "SipHash: a fast short-input PRF", 2012, with the round counts that
 * hash tables use): who does not know the key cannot choose keys that collide.
 */
#ifndef TYPES_SIPHASH_H
#define TYPES_SIPHASH_H

#include <stdint.h>
#include <string.h>

struct pt_sip {
    uint64_t v0, v1, v2, v3;
};

static inline uint64_t pt_rotate(uint64_t word, unsigned by)
{
    return word << by | word >> (64 - by);
}

static inline void pt_sip_round(struct pt_sip *s)
{
    s->v0 += s->v1;
    s->v2 += s->v3;
    s->v1 = pt_rotate(s->v1, 13) ^ s->v0;
    s->v3 = pt_rotate(s->v3, 16) ^ s->v2;
    s->v0 = pt_rotate(s->v0, 32);
    s->v2 += s->v1;
    s->v0 += s->v3;
    s->v1 = pt_rotate(s->v1, 17) ^ s->v2;
    s->v3 = pt_rotate(s->v3, 21) ^ s->v0;
    s->v2 = pt_rotate(s->v2, 32);
}

static inline struct pt_sip pt_sip_begin(const uint64_t key[2])
{
    return (struct pt_sip){key[0] ^ UINT64_C(0x736f6d6570736575), key[1] ^ UINT64_C(0x646f72616e646f6d),
                           key[0] ^ UINT64_C(0x6c7967656e657261), key[1] ^ UINT64_C(0x7465646279746573)};
}

static inline void pt_sip_word(struct pt_sip *s, uint64_t word)
{
    s->v3 ^= word;
    pt_sip_round(s);
    s->v0 ^= word;
}

/* `last`: the bytes after the last whole word, and the length modulo 256 on top. */
static inline uint64_t pt_sip_end(struct pt_sip *s, uint64_t last)
{
    pt_sip_word(s, last);
    s->v2 ^= 0xff;
    pt_sip_round(s);
    pt_sip_round(s);
    pt_sip_round(s);
    return s->v0 ^ s->v1 ^ s->v2 ^ s->v3;
}

/* The last 0 to 7 bytes of `length`, which begin at `at`, as a word; without a loop over bytes. */
static inline uint64_t pt_sip_tail(const unsigned char *at, uint64_t left, uint64_t length)
{
    uint64_t word = 0;
    uint32_t four;
    uint16_t two;
    if (left == 0)
        return 0;
    if (length >= 8) { /* with some that were taken before */
        memcpy(&word, at + left - 8, 8);
        return word >> (64 - 8 * left);
    }
    if ((left & 4) != 0) {
        memcpy(&four, at, 4);
        word = four;
    }
    if ((left & 2) != 0) {
        memcpy(&two, at + (left & 4), 2);
        word |= (uint64_t)two << 8 * (left & 4);
    }
    if ((left & 1) != 0)
        word |= (uint64_t)at[left - 1] << 8 * (left - 1);
    return word;
}

static inline uint64_t pt_sip_bytes(const uint64_t key[2], const void *bytes, uint64_t length)
{
    struct pt_sip s = pt_sip_begin(key);
    const unsigned char *at = (const unsigned char *)bytes;
    uint64_t word, left = length;
    for (; left >= 8; left -= 8, at += 8) {
        memcpy(&word, at, 8);
        pt_sip_word(&s, word);
    }
    return pt_sip_end(&s, pt_sip_tail(at, left, length) | length << 56);
}

#endif
