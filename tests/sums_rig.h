/* SPDX-License-Identifier: MIT */
/* Heaps with page checksums on the simulated machine, and what a scrub says of them. */
#ifndef TESTS_SUMS_RIG_H
#define TESTS_SUMS_RIG_H

#include "tests/machine.h"

#define SUM HEAP "-sum"
#define WORDS 2000u

/* ------------------------------------------------------------------------------------------------------------ tools */

struct report {
    unsigned faults;
    uint64_t offset; /* of the last one */
    char text[512];
    struct pheap_scrub_result result;
};

static inline void on_fault(void *context, uint64_t offset, const char *text)
{
    struct report *report = context;
    report->faults++;
    report->offset = offset;
    (void)snprintf(report->text, sizeof report->text, "%s", text);
}

static inline enum pheap_status scrub(pheap *heap, uint32_t flags, struct report *report)
{
    *report = (struct report){.result = {.size = sizeof report->result}};
    const struct pheap_scrub_options options = {
        .size = sizeof options, .flags = flags, .fault = on_fault, .context = report};
    return pheap_scrub(heap, &options, &report->result);
}

/* No damage; so many pages without a checksum. */
#define expect_clean(heap, unknown) check_clean(__FILE__, __LINE__, heap, unknown)
static inline void check_clean(const char *file, int line, pheap *heap, uint64_t unknown)
{
    struct report report;
    enum pheap_status status = scrub(heap, 0, &report);
    if (status != PHEAP_OK || report.faults != 0)
        check_failed(file, line, "scrub: %s, %u faults: %s", pheap_status_name(status), report.faults, report.text);
    check_equal(file, line, "damaged pages", report.result.damaged_pages, 0);
    check_equal(file, line, "unknown pages", report.result.unknown_pages, unknown);
}

/* One damaged page, at `offset`; the text has the word. */
#define expect_damage(heap, offset, word) check_damage(__FILE__, __LINE__, heap, offset, word)
static inline void check_damage(const char *file, int line, pheap *heap, uint64_t offset, const char *word)
{
    struct report report;
    enum pheap_status status = scrub(heap, 0, &report);
    if (status != PHEAP_CORRUPT || report.faults != 1 || report.offset != offset || strstr(report.text, word) == NULL)
        check_failed(file, line, "damage at 0x%llx (%s): %s, %u faults, 0x%llx: %s", (unsigned long long)offset, word,
                     pheap_status_name(status), report.faults, (unsigned long long)report.offset, report.text);
    check_equal(file, line, "damaged pages", report.result.damaged_pages, 1);
}

static inline uint64_t unknown_pages(pheap *heap)
{
    struct report report;
    ok(scrub(heap, 0, &report));
    return report.result.unknown_pages;
}

static inline pheap *open_sums(const ph_io *io, const char *path, unsigned flags)
{
    struct pheap_options options = small_options();
    options.checksums = 1;
    pheap *heap;
    ok((enum pheap_status)ph_open_io(io, path, flags, &options, &heap));
    return heap;
}

/* Opened now, the heap has lost the checksums of its pages, and takes none for damaged. */
#define expect_forgotten(io, flags) check_forgotten(__FILE__, __LINE__, io, flags)
static inline void check_forgotten(const char *file, int line, const ph_io *io, unsigned flags)
{
    pheap *heap = open_sums(io, HEAP, flags);
    if (unknown_pages(heap) <= 5)
        check_failed(file, line, "the checksums are believed");
    ok(pheap_close(heap));
}

static inline void flip_at(struct ph_sim *sim, const char *path, uint64_t at, unsigned bit)
{
    uint8_t byte;
    require_equal(ph_sim_peek(sim, path, &byte, 1, at), 1);
    byte ^= (uint8_t)(1u << bit);
    require_equal(ph_sim_poke(sim, path, &byte, 1, at), 1);
}

/* While that bit is wrong, the page at `page` is damaged. */
#define expect_flip_found(sim, heap, path, at, bit, page, word) \
    check_flip(__FILE__, __LINE__, sim, heap, path, at, bit, page, word)
static inline void check_flip(const char *file, int line, struct ph_sim *sim, pheap *heap, const char *path,
                              uint64_t at, unsigned bit, uint64_t page, const char *word)
{
    flip_at(sim, path, at, bit);
    check_damage(file, line, heap, page, word);
    flip_at(sim, path, at, bit);
}

struct copy {
    uint8_t *bytes;
    int64_t size;
};

static inline struct copy take(struct ph_sim *sim, const char *path)
{
    struct copy copy = {.size = ph_sim_size(sim, path)};
    require(copy.size > 0);
    copy.bytes = malloc((size_t)copy.size);
    require(copy.bytes != NULL);
    require_equal(ph_sim_peek(sim, path, copy.bytes, (size_t)copy.size, 0), copy.size);
    return copy;
}

static inline void put(struct ph_sim *sim, const char *path, struct copy *copy)
{
    require_equal(ph_sim_poke(sim, path, "", 0, 0), 0);
    require_equal(ph_sim_set_size(sim, path, (uint64_t)copy->size), 0);
    require_equal(ph_sim_poke(sim, path, copy->bytes, (size_t)copy->size, 0), copy->size);
    free(copy->bytes);
    copy->bytes = NULL;
}

/* A heap with a root of WORDS words and small blocks around it. */
static inline pheap *create_filled(const ph_io *io)
{
    pheap *heap = open_sums(io, HEAP, PHEAP_CREATE);
    (void)make_root(heap, WORDS);
    pheap_txn *txn = begin(heap);
    for (uint64_t i = 0; i < 40; i++) {
        uint64_t block;
        ok(pheap_alloc(txn, 16 + i * 60, &block));
        ok(pheap_fill(txn, block, (unsigned char)i, 16 + i * 60));
    }
    ok(pheap_commit(txn, PHEAP_DURABLE, NULL));
    return heap;
}

static inline uint64_t root_of(pheap *heap)
{
    pheap_read *reader = read_begin(heap, 0);
    uint64_t root = pheap_read_root(reader);
    pheap_read_end(reader);
    return root;
}

#endif
