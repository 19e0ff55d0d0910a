/* SPDX-License-Identifier: MIT */
/* Order and hash of numbers of different kinds, by their exact values. */
#include "types/siphash.h"
#include "types/value.h"

#include <math.h>

#define FLOAT_LIMBS 16 /* of the largest float */

/* A number taken apart: sign, whole part, and whether there is a fraction beyond it. */
struct number {
    bool negative;
    bool fraction;
    bool infinite;
    const uint64_t *limbs;
    uint64_t count; /* the highest limb is not 0; none: the whole part is 0 */
    uint64_t own[FLOAT_LIMBS];
};

static void take_int(struct number *n, int64_t value)
{
    n->negative = value < 0;
    n->own[0] = value < 0 ? -(uint64_t)value : (uint64_t)value;
    n->limbs = n->own;
    n->count = n->own[0] != 0;
}

static void take_float(struct number *n, double value)
{
    uint64_t bits;
    memcpy(&bits, &value, sizeof bits);
    int exponent = (int)(bits >> 52 & 0x7ff);
    uint64_t part = (bits & (UINT64_MAX >> 12)) | UINT64_C(1) << 52;
    int shift = exponent - 1075; /* the value is part * 2^shift, but for what is below 2^-1022 */
    n->negative = value < 0;
    n->infinite = exponent == 0x7ff;
    n->limbs = n->own;
    if (n->infinite)
        return;
    if (shift < -52) { /* below 1 */
        n->fraction = value != 0;
    } else if (shift < 0) {
        n->own[0] = part >> -shift;
        n->count = 1;
        n->fraction = part << (64 + shift) != 0;
    } else {
        unsigned limb = (unsigned)shift / 64, by = (unsigned)shift % 64;
        n->own[limb] = part << by;
        n->count = limb + 1;
        if (by > 11)
            n->own[n->count++] = part >> (64 - by);
    }
}

static void take(struct number *n, const struct pht_any *any)
{
    memset(n, 0, sizeof *n);
    if (any->kind == PHT_FLOAT) {
        take_float(n, any->real);
    } else if (any->length == 0) {
        take_int(n, any->integer);
    } else {
        n->negative = any->negative != 0;
        n->limbs = (const uint64_t *)any->bytes;
        n->count = any->length;
    }
}

static int order_of(uint64_t a, uint64_t b)
{
    return (a > b) - (a < b);
}

/* Of whole parts without their signs. */
static int magnitude_order(const struct number *a, const struct number *b)
{
    int order = order_of(a->count, b->count);
    for (uint64_t i = a->count; order == 0 && i-- > 0;)
        order = order_of(a->limbs[i], b->limbs[i]);
    return order;
}

bool pt_number_order(const struct pht_any *a, const struct pht_any *b, int *order)
{
    struct number x, y;
    if (a->kind == PHT_FLOAT && b->kind == PHT_FLOAT) {
        *order = (a->real > b->real) - (a->real < b->real);
        return !isnan(a->real) && !isnan(b->real);
    }
    if ((a->kind == PHT_FLOAT && isnan(a->real)) || (b->kind == PHT_FLOAT && isnan(b->real)))
        return false;
    take(&x, a);
    take(&y, b);
    if (x.negative != y.negative) {
        *order = x.negative ? -1 : 1;
        return true;
    }
    if (x.infinite || y.infinite)
        *order = (int)x.infinite - (int)y.infinite;
    else
        *order = magnitude_order(&x, &y);
    if (*order == 0)
        *order = (int)x.fraction - (int)y.fraction; /* only one of them is a float */
    if (x.negative)
        *order = -*order;
    return true;
}

uint64_t pt_number_hash(const uint64_t key[2], const struct pht_any *number)
{
    struct number n;
    struct pt_sip sip = pt_sip_begin(key);
    take(&n, number);
    if (n.fraction || n.infinite || (number->kind == PHT_FLOAT && isnan(number->real))) {
        uint64_t bits;
        memcpy(&bits, &number->real, sizeof bits);
        pt_sip_word(&sip, bits);
        return pt_sip_end(&sip, UINT64_C(8) << 56 | 2);
    }
    if (n.count == 0)
        pt_sip_word(&sip, 0);
    for (uint64_t i = 0; i < n.count; i++)
        pt_sip_word(&sip, n.limbs[i]);
    return pt_sip_end(&sip, n.count << 59 | n.negative);
}
