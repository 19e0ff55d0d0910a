/* SPDX-License-Identifier: MIT */
/*
 * Salvage: a sound heap out of what is left of a damaged one.
 *
 *   copy     the heap file into a new file, and replay the log into that: recovery/salvage.c
 *   survey   what in it is proved to be a block: survey.c
 *   rebuild  everything else becomes free, and the metadata is made from nothing but the proved slabs (their bitmaps)
 *            and large blocks.  Table segments come behind the last block, so none is in the way of anything.
 *   check    the whole heap, as always
 *   publish  under the new name
 *
 * A damaged file is never written to: it is opened for writing if that may be, but only to lock everybody out.
 */
#include "pheap/check.h"
#include "pheap/core.h"
#include "pheap/extent.h"
#include "pheap/newheap.h"
#include "pheap/scrub.h"
#include "pheap/slab.h"
#include "pheap/survey.h"
#include "recovery/salvage.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#define END_PAGES_MIN 16u

_Static_assert((int)PH_SALVAGE_WHOLE == (int)PHEAP_SALVAGE_WHOLE && (int)PH_SALVAGE_CUT == (int)PHEAP_SALVAGE_CUT &&
                   (int)PH_SALVAGE_UNUSED == (int)PHEAP_SALVAGE_UNUSED,
               "the states of the log");

struct salvage {
    const ph_io *io;
    struct pheap_salvage_options options;
    struct ph_file heap; /* the damaged one */
    uint32_t mode;       /* its permission bits */
    struct ph_salvage from;
    struct ph_survey survey;
    struct ph_newheap to;
    struct pheap_salvage_result result;
    uint64_t root;             /* as the damaged header has it, 0: none */
    bool magic;                /* there is a heap header */
    uint8_t *base;             /* the new file, mapped privately; NULL: it is not */
    uint64_t mapped_bytes;     /* of it */
    uint64_t table[PH_TABLES]; /* the new heap's layout: */
    uint64_t tables, tail, end;
};

/* --------------------------------------------------------------------------------------------------------- reports */

static void on_fault(void *context, uint64_t offset, const char *text)
{
    struct salvage *s = context;
    if (s->result.fault_count++ < PH_CHECK_FAULTS_MAX && s->options.fault != NULL)
        s->options.fault(s->options.context, offset, text);
}

__attribute__((format(printf, 3, 4))) static void report(struct salvage *s, uint64_t page, const char *format, ...)
{
    char text[PH_DETAIL_BYTES];
    va_list arguments;
    va_start(arguments, format);
    (void)vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    on_fault(s, page << PH_PAGE_SHIFT, text);
}

static int on_progress(void *context, const char *what, uint64_t done, uint64_t total)
{
    struct salvage *s = context;
    return s->options.progress == NULL ? 0 : s->options.progress(s->options.context, what, done, total);
}

static ph_status watch(void *context, const char *what, uint64_t done, uint64_t total)
{
    return on_progress(context, what, done, total) == 0 ? PH_OK : ph_fail(PH_BUSY, "stopped");
}

/* --------------------------------------------------------------------------------------------------------- the copy */

static ph_status open_damaged(struct salvage *s, const char *path)
{
    struct ph_file_stat stat;
    ph_status status = ph_file_open(&s->heap, s->io, path, PH_OPEN_WRITE, 0);
    if (status == PH_PERMISSION || status == PH_READ_ONLY)
        status = ph_file_open(&s->heap, s->io, path, PH_OPEN_READ, 0);
    if (status == PH_OK)
        status = ph_file_stat(&s->heap, &stat);
    if (status == PH_OK && stat.type != PH_FILE_REGULAR)
        status = ph_fail(PH_NOT_HEAP, "%s: not a heap: it is no regular file", path);
    if (status == PH_OK)
        status = ph_newheap_spare(&s->to, "the damaged heap", &stat);
    if (status == PH_OK)
        status = ph_attach_keep_out(&s->heap);
    if (status == PH_OK)
        s->mode = stat.mode & 0777;
    return status;
}

static ph_status copy(struct salvage *s)
{
    struct ph_coord *coord = NULL;
    s->from = (struct ph_salvage){.heap = &s->heap, .fault = on_fault, .watch = watch, .context = s};
    ph_status status = ph_salvage_begin(&s->from);
    if (status != PH_OK)
        return status;
    if (s->from.found)
        status = ph_attach_copy_coord(s->io, s->heap.path, &s->from.superblock, &coord);
    if (status != PH_OK && status != PH_NO_MEMORY) {
        report(s, 0, "%s; commits that were nowhere else are lost", ph_detail());
        status = PH_OK;
    }
    if (status == PH_OK)
        status = ph_newheap_begin(&s->to, s->mode);
    if (status == PH_OK)
        status = ph_salvage_copy(&s->from, coord, &s->to.new.file);
    if (coord != NULL)
        s->io->free(s->io->ctx, coord);
    s->result.log_state = s->from.log;
    s->result.version = s->from.version;
    s->result.unknown_pages = s->from.unknown_pages;
    return status;
}

static ph_status map_new(struct salvage *s, uint64_t pages)
{
    void *base;
    int result = s->io->map(s->io->ctx, s->to.new.file.handle, pages << PH_PAGE_SHIFT, PH_MAP_PRIVATE, &base);
    if (result < 0)
        return ph_file_fail(s->to.path, "map the new heap", -result);
    s->base = base;
    s->mapped_bytes = pages << PH_PAGE_SHIFT;
    return PH_OK;
}

static void unmap_new(struct salvage *s)
{
    if (s->base != NULL)
        (void)s->io->unmap(s->io->ctx, s->base, s->mapped_bytes);
    s->base = NULL;
}

/* ------------------------------------------------------------------------------------------------- what can be kept */

/* Whether pages [from, to) of the copy have some flaw: ph_salvage_unread or ph_salvage_suspect. */
typedef bool (*page_flaw)(const struct ph_salvage *salvage, uint64_t from, uint64_t to);

/* Those of the 64 slots from 64 * i on whose pages have the flaw. */
static uint64_t flawed_slots(const struct salvage *s, const struct ph_claim *claim, unsigned i, page_flaw flaw)
{
    const struct ph_class *c = &ph_classes[claim->class];
    uint64_t slots = 0;
    if (!flaw(&s->from, claim->page, claim->page + claim->pages))
        return 0;
    for (unsigned slot = i * 64; slot < c->count && slot < (i + 1) * 64; slot++) {
        uint64_t start = (claim->page << PH_PAGE_SHIFT) + c->first + (uint64_t)slot * c->size;
        if (flaw(&s->from, start >> PH_PAGE_SHIFT, ((start + c->size - 1) >> PH_PAGE_SHIFT) + 1))
            slots |= UINT64_C(1) << (slot % 64);
    }
    return slots;
}

/* Word `i` of a slab's bitmap, with the slots that cannot be read called free. */
static uint64_t kept_word(const struct salvage *s, const struct ph_claim *claim, unsigned i)
{
    return (ph_slab_word(s->base, claim->page, i) & ph_class_mask(&ph_classes[claim->class], i)) |
           flawed_slots(s, claim, i, ph_salvage_unread);
}

/* How many of the blocks that are kept are suspect.  Which blocks a slab has only its first page says. */
static uint64_t count_suspect(const struct salvage *s, const struct ph_claim *claim)
{
    const struct ph_class *c = &ph_classes[claim->class];
    uint64_t count = 0;
    if (claim->kind != PH_PAGE_SLAB)
        return ph_salvage_suspect(&s->from, claim->page, claim->page + claim->pages);
    const bool all = ph_salvage_suspect(&s->from, claim->page, claim->page + 1);
    for (unsigned i = 0; i < ph_class_words(c); i++) {
        uint64_t suspect = all ? UINT64_MAX : flawed_slots(s, claim, i, ph_salvage_suspect);
        count += (uint64_t)__builtin_popcountll(~kept_word(s, claim, i) & ph_class_mask(c, i) & suspect);
    }
    return count;
}

/* Live slots by the bitmap, and those of them that can be read. */
static uint64_t count_live(const struct salvage *s, const struct ph_claim *claim, uint64_t *kept)
{
    const struct ph_class *c = &ph_classes[claim->class];
    uint64_t live = 0;
    *kept = 0;
    for (unsigned i = 0; i < ph_class_words(c); i++) {
        uint64_t mask = ph_class_mask(c, i);
        live += (uint64_t)__builtin_popcountll(~ph_slab_word(s->base, claim->page, i) & mask);
        *kept += (uint64_t)__builtin_popcountll(~kept_word(s, claim, i) & mask);
    }
    return live;
}

static void count_claim(struct salvage *s, struct ph_claim *claim)
{
    struct pheap_salvage_result *r = &s->result;
    uint64_t live = 1, kept = 1, bytes = claim->pages << PH_PAGE_SHIFT;
    if (claim->kind == PH_PAGE_FREE || claim->state == PH_CLAIM_VOID)
        return;
    if (claim->kind == PH_PAGE_SLAB) {
        live = count_live(s, claim, &kept);
        bytes = ph_classes[claim->class].size;
    } else if (ph_salvage_unread(&s->from, claim->page, claim->page + claim->pages)) {
        kept = 0;
    }
    if (claim->state == PH_CLAIM_UNCERTAIN) {
        r->uncertain_blocks += live;
        r->uncertain_bytes += live * bytes;
        return;
    }
    if (kept < live)
        report(s, claim->page, "%" PRIu64 " of %" PRIu64 " blocks at page %" PRIu64 " cannot be read, and are lost",
               live - kept, live, claim->page);
    r->kept_blocks += kept;
    r->kept_bytes += kept * bytes;
    r->lost_blocks += live - kept;
    r->lost_bytes += (live - kept) * bytes;
    if (kept == 0) {
        claim->state = PH_CLAIM_VOID; /* also an empty slab */
        return;
    }
    const uint64_t suspect = count_suspect(s, claim);
    r->suspect_blocks += suspect;
    r->suspect_bytes += suspect * bytes;
}

/* Pages below the tail, if that is known, that nothing claims; and those that the file does not have any more. */
static void count_unknown(struct salvage *s)
{
    uint64_t end = s->survey.tail != 0 ? s->survey.tail : s->survey.pages;
    for (uint64_t page = PH_FIRST_PAGE; page < end; page++) {
        uint64_t unknown = ph_survey_unknown(&s->survey, page, end);
        if (unknown == 0)
            continue;
        report(s, page, "pages %" PRIu64 " to %" PRIu64 ": it is not known what they were", page, page + unknown - 1);
        s->result.lost_bytes += unknown << PH_PAGE_SHIFT;
        page += unknown;
    }
    for (uint32_t i = 0; i < s->from.unread_count; i++) {
        const struct ph_page_range *r = &s->from.unread[i];
        uint64_t from = r->from > s->from.page_count ? r->from : s->from.page_count;
        s->result.lost_bytes += from < r->to ? (r->to - from) << PH_PAGE_SHIFT : 0;
    }
}

static ph_status survey(struct salvage *s)
{
    s->survey = (struct ph_survey){.io = s->io,
                                   .base = s->base,
                                   .pages = s->from.page_count,
                                   .fault = on_fault,
                                   .progress = on_progress,
                                   .context = s};
    s->magic = ph_load(s->base, PH_HEADER_AT(magic)) == PH_DISK_HEAP_MAGIC;
    s->root = s->magic ? ph_load(s->base, PH_HEADER_AT(root)) : 0;
    ph_status status = ph_survey_run(&s->survey);
    if (status != PH_OK)
        return ph_fail_context(status, "%s", s->heap.path);
    for (uint64_t i = 0; i < s->survey.count; i++)
        count_claim(s, &s->survey.claims[i]);
    count_unknown(s);
    return PH_OK;
}

/* --------------------------------------------------------------------------------------------------------- rebuild */

static const struct ph_claim *next_kept(const struct salvage *s, uint64_t *i)
{
    while (*i < s->survey.count) {
        const struct ph_claim *claim = &s->survey.claims[(*i)++];
        if (claim->state == PH_CLAIM_KEPT && claim->kind != PH_PAGE_FREE)
            return claim;
    }
    return NULL;
}

/* Where the table segments and the tail of the new heap are.  FULL: there is no room for them behind the last block. */
static ph_status lay_out(struct salvage *s)
{
    uint64_t i = 0;
    s->tail = PH_FIRST_PAGE;
    for (const struct ph_claim *claim; (claim = next_kept(s, &i)) != NULL;)
        s->tail = claim->page + claim->pages;
    s->table[0] = PH_TABLE_PAGE;
    for (s->tables = 1; s->tail > ph_table_covered(s->tables); s->tables++) {
        if (s->tables == PH_TABLES)
            return ph_fail(PH_FULL,
                           "%s: what is left ends so near to 2^47 bytes that the page table has no room behind it",
                           s->to.path);
        s->table[s->tables] = s->tail;
        s->tail += ph_table_pages((unsigned)s->tables);
    }
    s->end = s->tail < END_PAGES_MIN ? END_PAGES_MIN : s->tail;
    return PH_OK;
}

/* Give the new file its size, with nothing in it but what is kept. */
static ph_status empty_the_rest(struct salvage *s)
{
    struct ph_file *file = &s->to.new.file;
    uint64_t i = 0, at = PH_FIRST_PAGE;
    ph_status status = PH_OK;
    for (const struct ph_claim *claim; status == PH_OK && (claim = next_kept(s, &i)) != NULL;) {
        if (claim->page > at)
            status =
                ph_file_allocate(file, PH_ALLOCATE_PUNCH, at << PH_PAGE_SHIFT, (claim->page - at) << PH_PAGE_SHIFT);
        if (status == PH_UNSUPPORTED) /* free pages may hold anything */
            status = PH_OK;
        at = claim->page + claim->pages;
    }
    if (status == PH_OK)
        status = ph_file_truncate(file, at << PH_PAGE_SHIFT);
    return status == PH_OK ? ph_file_truncate(file, s->end << PH_PAGE_SHIFT) : status;
}

static void put(struct salvage *s, uint64_t offset, uint64_t value)
{
    memcpy(s->base + offset, &value, sizeof value);
}

static void describe(struct salvage *s, const struct ph_heap *heap, uint64_t page, struct ph_disk_page d)
{
    uint64_t slot = ph_page_slot(heap, page);
    if (slot == PH_SLOT_NONE) { /* the first one in a page of the array */
        unsigned k = 56u - (unsigned)__builtin_clzll(page);
        uint64_t leaf = (page - ((uint64_t)PH_TABLE_UNIT << (k - 1))) / PH_TABLE_UNIT;
        uint64_t word = (s->table[k] << PH_PAGE_SHIFT) + leaf / 64 * 8;
        put(s, word, ph_load(s->base, word) | UINT64_C(1) << (leaf % 64));
        slot = ph_page_slot(heap, page);
    }
    put(s, slot, d.word0);
    put(s, slot + 8, d.word1);
}

/* Put the free pages [from, to) first in their list. */
static void describe_free(struct salvage *s, const struct ph_heap *heap, uint64_t from, uint64_t to)
{
    unsigned list = ph_free_list(to - from);
    uint64_t head = ph_header_slot(PH_HEADER_AT(free_head), list);
    uint64_t bits = ph_header_slot(PH_HEADER_AT(free_bits), list / 64), next = ph_load(s->base, head);
    if (next != 0) {
        struct ph_disk_page n = ph_page_get(heap, next);
        describe(s, heap, next, ph_page_make_free(ph_page_value(n), from, ph_page_next(n)));
    }
    put(s, head, from);
    put(s, bits, ph_load(s->base, bits) | UINT64_C(1) << (list % 64));
    describe(s, heap, from, ph_page_make_free(to - from, 0, next));
    if (to - from > 1)
        describe(s, heap, to - 1, ph_page_make(PH_PAGE_LAST, to - from));
}

static void describe_slab(struct salvage *s, const struct ph_heap *heap, const struct ph_claim *claim)
{
    unsigned class = claim->class;
    const struct ph_class *c = &ph_classes[class];
    uint64_t page = claim->page, head = ph_header_slot(PH_HEADER_AT(partial), class), first = ph_load(s->base, head);
    for (unsigned i = 0; i < c->pages; i++)
        describe(s, heap, page + i, ph_page_make_slab(i, class));
    for (unsigned i = 0; i < ph_class_words(c); i++)
        put(s, PH_SLAB_FIELD(page, bitmap) + 8u * i, kept_word(s, claim, i));
    uint64_t prev = 0, next = 0;
    if (ph_slab_has_free(heap, page, class, 1)) { /* second in the list, which goes round */
        prev = next = page;
        if (first == 0) {
            put(s, head, page);
        } else {
            prev = first;
            next = ph_load(s->base, PH_SLAB_FIELD(first, next_page));
            put(s, PH_SLAB_FIELD(first, next_page), page);
            put(s, PH_SLAB_FIELD(next, prev_page), page);
        }
    }
    put(s, PH_SLAB_FIELD(page, prev_page), prev);
    put(s, PH_SLAB_FIELD(page, next_page), next);
}

static void describe_large(struct salvage *s, const struct ph_heap *heap, const struct ph_claim *claim)
{
    uint64_t end = claim->page + claim->pages;
    describe(s, heap, claim->page, ph_page_make(PH_PAGE_LARGE, claim->pages));
    for (uint64_t w = ph_way_next(claim->page, end, 0); w != 0; w = ph_way_next(claim->page, end, w))
        describe(s, heap, w, ph_page_make(PH_PAGE_WAY, claim->page));
}

/* Make the metadata, in memory. */
static void make_metadata(struct salvage *s)
{
    const struct ph_disk_heap header = {.magic = PH_DISK_HEAP_MAGIC,
                                        .end_page = s->end,
                                        .tail_page = s->tail,
                                        .zero_page = s->tail,
                                        .table_count = s->tables};
    const struct ph_heap heap = {.base = s->base, .end = s->end, .tail = s->tail, .tables = s->tables};
    memset(s->base + PH_HEAP_START, 0, (PH_FIRST_PAGE - PH_HEADER_PAGE) * PH_PAGE_BYTES);
    memcpy(s->base + PH_HEAP_START, &header, sizeof header);
    memcpy(s->base + PH_HEADER_AT(table), s->table, s->tables * sizeof s->table[0]);
    uint64_t i = 0, at = PH_FIRST_PAGE;
    for (const struct ph_claim *claim; (claim = next_kept(s, &i)) != NULL;) {
        if (claim->page > at)
            describe_free(s, &heap, at, claim->page);
        if (claim->kind == PH_PAGE_SLAB)
            describe_slab(s, &heap, claim);
        else
            describe_large(s, &heap, claim);
        at = claim->page + claim->pages;
    }
    uint64_t start, length;
    struct ph_space space = {.base = s->base, .size = s->end << PH_PAGE_SHIFT};
    if (s->root != 0 && ph_alloc_find(space, s->root, &start, &length) == PH_OK && start == s->root) {
        put(s, PH_HEADER_AT(root), s->root);
        s->result.root_kept = 1;
    } else if (s->root != 0) {
        report(s, PH_HEADER_PAGE, "the root, the block at 0x%" PRIx64 ", is lost", s->root);
    } else if (!s->magic) {
        report(s, PH_HEADER_PAGE, "which block was the root is lost");
    }
}

/* Name the suspect pages, and the blocks in them as the new heap has them. */
static void report_suspects(struct salvage *s)
{
    const struct ph_space space = {.base = s->base, .size = s->end << PH_PAGE_SHIFT};
    uint64_t i = 0;
    const struct ph_claim *claim = next_kept(s, &i);
    for (uint32_t n = 0; n < s->from.suspect_count; n++) {
        const struct ph_suspect_page *suspect = &s->from.suspects[n];
        uint64_t from = suspect->page, to = from + 1;
        char text[PH_DETAIL_BYTES / 2];
        while (claim != NULL && claim->page + claim->pages <= from)
            claim = next_kept(s, &i);
        if (claim != NULL && claim->kind == PH_PAGE_SLAB && claim->page == from)
            to = from + claim->pages; /* it says which blocks live in all of them */
        size_t used = (size_t)snprintf(text, sizeof text, "page %" PRIu64 " %s; in doubt:", from,
                                       ph_page_verdict_text(suspect->verdict));
        if (from == PH_HEADER_PAGE)
            (void)snprintf(text + used, sizeof text - used, " which block is the root");
        else if (ph_scrub_name_blocks(space, from << PH_PAGE_SHIFT, to << PH_PAGE_SHIFT, text, sizeof text) == 0)
            (void)snprintf(text + used, sizeof text - used, " no block");
        report(s, from, "%s", text);
    }
}

static ph_status write_back(struct salvage *s, uint64_t offset, uint64_t length)
{
    return ph_file_write(&s->to.new.file, s->base + offset, length, offset, 0);
}

/* Write what was made to the new file; what is zero need not be. */
static ph_status write_metadata(struct salvage *s)
{
    const struct ph_heap heap = {.base = s->base, .end = s->end, .tail = s->tail, .tables = s->tables};
    ph_status status = write_back(s, PH_HEAP_START, (PH_FIRST_PAGE - PH_HEADER_PAGE) * PH_PAGE_BYTES);
    for (unsigned k = 1; k < s->tables && status == PH_OK; k++) {
        status = write_back(s, s->table[k] << PH_PAGE_SHIFT, ph_table_map_pages(k) << PH_PAGE_SHIFT);
        uint64_t page = (uint64_t)PH_TABLE_UNIT << (k - 1);
        for (; page < ph_table_covered(k + 1) && page < s->tail && status == PH_OK; page += PH_TABLE_UNIT) {
            uint64_t slot = ph_page_slot(&heap, page);
            if (slot > PH_SLOT_BAD)
                status = write_back(s, slot, PH_PAGE_BYTES);
        }
    }
    uint64_t i = 0;
    for (const struct ph_claim *claim; status == PH_OK && (claim = next_kept(s, &i)) != NULL;)
        if (claim->kind == PH_PAGE_SLAB)
            status = write_back(s, claim->page << PH_PAGE_SHIFT, ph_class_header(&ph_classes[claim->class]));
    return status;
}

static ph_status write_superblocks(struct salvage *s)
{
    const struct pheap_options defaults = {.size = sizeof defaults, .mode = s->mode};
    const struct ph_superblock *old = &s->from.superblock;
    struct ph_superblock superblock;
    ph_status status = ph_create_superblock(s->io, s->to.path, &defaults, &superblock);
    if (status != PH_OK)
        return status;
    superblock.checkpoint_version = s->from.version;
    superblock.heap_bytes = s->end << PH_PAGE_SHIFT;
    if (s->from.found) {
        superblock.compat_flags = old->compat_flags;
        superblock.incompat_flags = old->incompat_flags;
        superblock.log_limit_bytes = old->log_limit_bytes;
        superblock.segment_bytes = old->segment_bytes;
        superblock.buffer_bytes = old->buffer_bytes;
        superblock.file_mode = old->file_mode;
        superblock.created_ns = old->created_ns;
    }
    return ph_superblock_write_new(&s->to.new.file, &superblock);
}

static ph_status rebuild(struct salvage *s)
{
    ph_status status = lay_out(s);
    unmap_new(s);
    if (status == PH_OK)
        status = empty_the_rest(s);
    if (status == PH_OK)
        status = map_new(s, s->end);
    if (status != PH_OK)
        return status;
    make_metadata(s);
    report_suspects(s);
    status = write_metadata(s);
    unmap_new(s);
    if (status == PH_OK)
        status = write_superblocks(s);
    s->result.heap_bytes = s->end << PH_PAGE_SHIFT;
    return status;
}

/* ------------------------------------------------------------------------------------------------------------ whole */

static ph_status run(struct salvage *s, const char *path)
{
    ph_status status = ph_newheap_check_place(&s->to);
    if (status == PH_OK)
        status = open_damaged(s, path);
    if (status == PH_OK)
        status = copy(s);
    if (status == PH_OK && s->from.page_count >= PH_FIRST_PAGE) {
        status = map_new(s, s->from.page_count);
        if (status == PH_OK)
            status = survey(s);
    }
    if (status == PH_OK && !s->from.found && !s->magic && s->result.kept_blocks == 0)
        status = ph_fail(PH_NOT_HEAP, "%s: not a heap: no superblock, no heap header, and nothing that proves a block",
                         path);
    if (status == PH_OK)
        status = rebuild(s);
    if (status == PH_OK)
        status = ph_newheap_check(&s->to, s->result.heap_bytes, on_progress, s);
    if (status == PH_OK)
        status = ph_newheap_publish(&s->to);
    unmap_new(s);
    ph_survey_deinit(&s->survey);
    ph_newheap_end(&s->to);
    ph_salvage_deinit(&s->from);
    ph_file_close(&s->heap);
    return status;
}

static ph_status resolve(const ph_io *io, const char *path, char *resolved)
{
    if (path == NULL || path[0] == '\0')
        return ph_fail(PH_INVALID, "pheap_salvage: a path is missing");
    int result = io->resolve(io->ctx, path, resolved, PH_PATH_BYTES - 8);
    return result < 0 ? ph_file_fail(path, "cannot open", -result) : PH_OK;
}

ph_status ph_salvage_io(const ph_io *io, const char *path, const char *new_path,
                        const struct pheap_salvage_options *given, struct pheap_salvage_result *result)
{
    char resolved[PH_PATH_BYTES], new_resolved[PH_PATH_BYTES];
    struct salvage s = {.io = io, .options = {.size = sizeof s.options}, .to = {.io = io, .path = new_resolved}};
    ph_status status = ph_check_result("pheap_salvage", result == NULL ? NULL : &result->size);
    if (status == PH_OK)
        status = ph_take_options("pheap_salvage", given, &s.options, sizeof s.options);
    if (status == PH_OK)
        status = ph_check_flags("pheap_salvage", s.options.flags, PHEAP_REPLACE, s.options.reserved);
    if (status == PH_OK)
        status = resolve(io, path, resolved);
    if (status == PH_OK)
        status = resolve(io, new_path, new_resolved);
    if (status != PH_OK)
        return status;
    s.to.replace = (s.options.flags & PHEAP_REPLACE) != 0;
    status = run(&s, resolved);
    if (status == PH_OK && result != NULL) {
        s.result.size = result->size;
        memcpy(result, &s.result, result->size < sizeof s.result ? result->size : sizeof s.result);
    }
    return status;
}

enum pheap_status pheap_salvage(const char *path, const char *new_path, const struct pheap_salvage_options *options,
                                struct pheap_salvage_result *result)
{
    return (enum pheap_status)ph_salvage_io(ph_io_posix(), path, new_path, options, result);
}
