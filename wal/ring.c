/* SPDX-License-Identifier: MIT */
/* The shared log buffer. */
#include "wal/ring.h"

#include "io/failpoint.h"

#include <string.h>

/* Within the buffer, whatever the LSN. */
static _Atomic uint64_t *word_at(struct ph_wal *wal, uint64_t lsn)
{
    return (_Atomic uint64_t *)(void *)(ph_coord_buffer(wal->coord) + (lsn & (wal->buffer_bytes - 8)));
}

void ph_ring_append(struct ph_wal *wal, uint64_t lsn, const uint8_t *bytes, size_t length)
{
    /* It never goes back: a writer that died here may have announced, and overwritten, more than this one does. */
    if (atomic_load_explicit(&wal->coord->reserved, memory_order_relaxed) < lsn + length)
        atomic_store_explicit(&wal->coord->reserved, lsn + length, memory_order_relaxed);
    PH_POINT(ring_reserved);
    /* The first word's release orders what was announced before it. */
    for (size_t at = 0; at < length; at += 8) {
        uint64_t word;
        if (at == length / 16 * 8)
            PH_POINT(ring_half_stored);
        memcpy(&word, bytes + at, sizeof word);
        atomic_store_explicit(word_at(wal, lsn + at), word, memory_order_release);
    }
}

bool ph_ring_copy(struct ph_wal *wal, uint64_t lsn, uint8_t *bytes, size_t length)
{
    if (!ph_ring_has(wal, lsn))
        return false;
    for (size_t at = 0; at < length; at += 8) {
        uint64_t word = atomic_load_explicit(word_at(wal, lsn + at), memory_order_acquire);
        memcpy(bytes + at, &word, sizeof word);
    }
    return ph_ring_has(wal, lsn);
}

void ph_ring_copy_stable(struct ph_wal *wal, uint64_t lsn, uint8_t *bytes, size_t length)
{
    uint64_t at = lsn & (wal->buffer_bytes - 1);
    size_t first = wal->buffer_bytes - at < length ? (size_t)(wal->buffer_bytes - at) : length;
    memcpy(bytes, ph_coord_buffer(wal->coord) + at, first);
    memcpy(bytes + first, ph_coord_buffer(wal->coord), length - first);
}

uint32_t ph_ring_record_length(struct ph_wal *wal, uint64_t lsn)
{
    uint64_t word = atomic_load_explicit(word_at(wal, lsn + 8), memory_order_acquire);
    return (uint32_t)word;
}

enum ph_ring_result ph_ring_read(struct ph_wal *wal, const struct ph_record_place *place, uint8_t *record,
                                 enum ph_record_fault *fault)
{
    if (!ph_ring_copy(wal, place->lsn, record, sizeof(struct ph_record_header)))
        return PH_RING_LAPPED;
    uint32_t length = ph_record_length(record);
    *fault = PH_RECORD_LENGTH;
    if (length < sizeof(struct ph_record_header) || length > wal->record_max || length % 8 != 0)
        return PH_RING_NONE;
    if (!ph_ring_copy(wal, place->lsn, record, length))
        return PH_RING_LAPPED;
    *fault = ph_record_check(record, length, place);
    return *fault == PH_RECORD_GOOD ? PH_RING_RECORD : PH_RING_NONE;
}
