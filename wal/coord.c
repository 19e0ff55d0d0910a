/* SPDX-License-Identifier: MIT */
/* The coordination file's marks: paired slots and their publication. */
#include "wal/coord.h"

#include "io/failpoint.h"

#include <string.h>

_Static_assert(sizeof(struct ph_commit_mark) == 64, "one cache line");
_Static_assert(sizeof(struct ph_flush_mark) == 64, "one cache line");
_Static_assert(sizeof(struct ph_fold_mark) == 64, "one cache line");
_Static_assert(sizeof(struct ph_seat) == 192, "three cache lines");

#define MARK_WORDS 8u

/* Marks are plain structures of eight words; the words are what is atomic. */
static _Atomic uint64_t *word(void *mark, size_t i)
{
    return (_Atomic uint64_t *)mark + i;
}

static void publish(void *slots, _Atomic uint64_t *published, const void *mark)
{
    uint64_t words[MARK_WORDS];
    memcpy(words, mark, sizeof words);
    bool first_valid = atomic_load_explicit(word(slots, 0), memory_order_relaxed) == atomic_load(published);
    for (size_t i = 0; i < MARK_WORDS; i++) {
        if (i == MARK_WORDS / 2)
            PH_POINT(mark_half_stored);
        atomic_store_explicit(word(slots, i + (first_valid ? MARK_WORDS : 0)), words[i], memory_order_release);
    }
    PH_POINT(mark_stored);
    atomic_store_explicit(published, words[0], memory_order_release);
}

static bool read_mark(void *slots, _Atomic uint64_t *published, void *mark)
{
    uint64_t words[MARK_WORDS], lsn, again = atomic_load_explicit(published, memory_order_acquire);
    do {
        lsn = again;
        size_t slot = atomic_load_explicit(word(slots, 0), memory_order_acquire) == lsn ? 0 : MARK_WORDS;
        for (size_t i = 0; i < MARK_WORDS; i++)
            words[i] = atomic_load_explicit(word(slots, slot + i), memory_order_acquire);
        again = atomic_load_explicit(published, memory_order_acquire);
    } while (again != lsn);
    memcpy(mark, words, sizeof words);
    return words[0] == lsn && lsn % 8 == 0; /* records are of whole words */
}

void ph_coord_publish_commit(struct ph_coord *coord, const struct ph_commit_mark *mark)
{
    publish(coord->commit_marks, &coord->committed, mark);
    PH_POINT(commit_published);
    atomic_store_explicit(&coord->reserve, mark->reserve, memory_order_relaxed);
}

void ph_coord_publish_fragment(struct ph_coord *coord, const struct ph_commit_mark *mark)
{
    publish(coord->fragment_marks, &coord->appended, mark);
    PH_POINT(fragment_published);
}

void ph_coord_publish_flush(struct ph_coord *coord, const struct ph_flush_mark *mark)
{
    publish(coord->flush_marks, &coord->durable, mark);
    PH_POINT(flush_published);
}

void ph_coord_publish_fold(struct ph_coord *coord, const struct ph_fold_mark *mark)
{
    publish(coord->fold_marks, &coord->folded, mark);
    PH_POINT(fold_published);
}

bool ph_coord_read_commit(struct ph_coord *coord, struct ph_commit_mark *mark)
{
    return read_mark(coord->commit_marks, &coord->committed, mark);
}

bool ph_coord_read_fragment(struct ph_coord *coord, struct ph_commit_mark *mark)
{
    return read_mark(coord->fragment_marks, &coord->appended, mark);
}

bool ph_coord_read_flush(struct ph_coord *coord, struct ph_flush_mark *mark)
{
    return read_mark(coord->flush_marks, &coord->durable, mark);
}

bool ph_coord_read_fold(struct ph_coord *coord, struct ph_fold_mark *mark)
{
    return read_mark(coord->fold_marks, &coord->folded, mark);
}

void ph_coord_set_position(struct ph_coord *coord, uint64_t segment)
{
    for (size_t i = 0; i < 2; i++) {
        atomic_store(word(&coord->flush_marks[i].segment, 0), segment);
        atomic_store(word(&coord->flush_marks[i].offset, 0), 0);
        atomic_store(word(&coord->fold_marks[i].segment, 0), segment);
        atomic_store(word(&coord->fold_marks[i].offset, 0), 0);
    }
}

ph_status ph_coord_damaged(const char *path)
{
    return ph_fail(PH_CORRUPT,
                   "%s: the marks in the coordination file are damaged; close the heap in every process and open it "
                   "again: recovery makes them anew from the log",
                   path);
}

ph_status ph_coord_check_poison(struct ph_coord *coord, const char *path)
{
    if (atomic_load_explicit(&coord->poisoned, memory_order_acquire) == 0)
        return PH_OK;
    return ph_fail(PH_POISONED,
                   "%s: a sync failed, so later changes cannot be promised to survive; close the heap in every "
                   "process, mend the storage and open it again: recovery keeps what was acknowledged",
                   path);
}

int64_t ph_coord_find_slot(struct ph_coord *coord, uint64_t sequence)
{
    uint32_t count = atomic_load_explicit(&coord->slot_count, memory_order_acquire);
    if (count > PH_SEGMENTS_MAX)
        count = PH_SEGMENTS_MAX;
    for (uint32_t slot = 0; slot < count; slot++)
        if (atomic_load_explicit(&coord->slot_sequence[slot], memory_order_acquire) == sequence)
            return (int64_t)slot;
    return -1;
}
