/* SPDX-License-Identifier: MIT */
/* The scrub as the public header has it: recovery/scrub.c finds damaged pages, this names the blocks in them. */
#include "pheap/scrub.h"

#include "pheap/check.h"
#include "pheap/core.h"
#include "pheap/newheap.h"
#include "recovery/scrub.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#define NAMES_MAX 4u

struct scrub {
    pheap *heap;
    struct pheap_scrub_options options;
    uint64_t faults;
    uint64_t first;  /* offset of the first damaged page */
    bool unreadable; /* a page cannot be read */
};

uint64_t ph_scrub_name_blocks(struct ph_space space, uint64_t from, uint64_t to, char *text, size_t text_bytes)
{
    uint64_t start, length, count = 0;
    size_t used = strlen(text);
    ph_status status = ph_alloc_find(space, from, &start, &length);
    if (status != PH_OK)
        status = ph_alloc_next(space, from, &start, &length);
    while (status == PH_OK && start < to) {
        if (count++ < NAMES_MAX && used < text_bytes)
            used += (size_t)snprintf(text + used, text_bytes - used, "%s 0x%" PRIx64 " (%" PRIu64 " bytes)",
                                     count == 1 ? " block" : ",", start, length);
        status = ph_alloc_next(space, start + length, &start, &length);
    }
    if (count > NAMES_MAX && used < text_bytes)
        (void)snprintf(text + used, text_bytes - used, " and %" PRIu64 " more", count - NAMES_MAX);
    return count;
}

/* Append to `text` what lies in a page of a snapshot. */
static void name_content(struct ph_space space, uint64_t page, char *text, size_t text_bytes)
{
    const uint64_t from = page * PH_PAGE_BYTES;
    size_t used = strlen(text);
    used += (size_t)snprintf(text + used, text_bytes - used, "; in it:");
    if (ph_scrub_name_blocks(space, from, from + PH_PAGE_BYTES, text, text_bytes) == 0)
        (void)snprintf(text + used, text_bytes - used, " %s",
                       ph_alloc_kind(space, from) == PH_KIND_METADATA ? "the allocator's own" : "no block");
}

static void on_fault(void *context, uint64_t page, enum ph_page_verdict verdict)
{
    struct scrub *scrub = context;
    const uint64_t from = page * PH_PAGE_BYTES;
    char text[PH_DETAIL_BYTES / 2];
    pheap_read *reader;
    if (scrub->faults++ == 0)
        scrub->first = from;
    scrub->unreadable = scrub->unreadable || verdict == PH_PAGE_UNREADABLE;
    if (scrub->faults > PH_CHECK_FAULTS_MAX || scrub->options.fault == NULL)
        return;
    (void)snprintf(text, sizeof text, "page %" PRIu64 " %s", page, ph_page_verdict_text(verdict));
    /* Touching a mapped page that cannot be read would be a SIGBUS, and what names blocks may lie in such a page. */
    if (!scrub->unreadable && pheap_read_begin(scrub->heap, 0, &reader) == PHEAP_OK) {
        const struct ph_view *view = &reader->on->view;
        name_content((struct ph_space){.base = view->base, .size = view->at.heap_bytes}, page, text, sizeof text);
        (void)pheap_read_end(reader);
    }
    scrub->options.fault(scrub->options.context, from, text);
}

static ph_status watch(void *context, uint64_t done, uint64_t total)
{
    struct scrub *scrub = context;
    if (scrub->options.progress == NULL || scrub->options.progress(scrub->options.context, "pages", done, total) == 0)
        return PH_OK;
    return ph_fail(PH_BUSY, "stopped");
}

static void give_result(const struct scrub *scrub, const struct ph_scrub *found, struct pheap_scrub_result *result)
{
    if (result == NULL)
        return;
    const struct pheap_scrub_result full = {
        .size = result->size,
        .page_count = found->page_count,
        .damaged_pages = scrub->faults,
        .unknown_pages = found->counts[PH_PAGE_UNKNOWN],
        .filled_pages = found->filled,
    };
    memcpy(result, &full, full.size < sizeof full ? full.size : sizeof full);
}

static ph_status check_options(const struct ph_core *core, const struct pheap_scrub_options *options)
{
    ph_status status = ph_check_flags("pheap_scrub", options->flags, PHEAP_SCRUB_FILL, options->reserved);
    if (status == PH_OK && (options->flags & PHEAP_SCRUB_FILL) != 0 && core->read_only)
        status = ph_fail(PH_READ_ONLY, "%s: the heap was opened read-only", core->path);
    return status;
}

enum pheap_status pheap_scrub(pheap *heap, const struct pheap_scrub_options *given, struct pheap_scrub_result *result)
{
    struct ph_core *core;
    struct scrub scrub = {.heap = heap, .options = {.size = sizeof scrub.options}};
    ph_status status = ph_core_use(heap, &core);
    if (status == PH_OK)
        status = ph_check_result("pheap_scrub", result == NULL ? NULL : &result->size);
    if (status == PH_OK)
        status = ph_take_options("pheap_scrub", given, &scrub.options, sizeof scrub.options);
    if (status == PH_OK)
        status = check_options(core, &scrub.options);
    if (status != PH_OK)
        return (enum pheap_status)status;
    struct ph_scrub found = {
        .fill = (scrub.options.flags & PHEAP_SCRUB_FILL) != 0, .fault = on_fault, .watch = watch, .context = &scrub};
    status = ph_store_scrub(&core->store, &found);
    if (status != PH_OK)
        return (enum pheap_status)status;
    give_result(&scrub, &found, result);
    if (scrub.faults == 0)
        return PHEAP_OK;
    return (enum pheap_status)ph_fail(PH_CORRUPT,
                                      "%s: %" PRIu64 " of %" PRIu64 " pages are damaged, the first at 0x%" PRIx64,
                                      core->path, scrub.faults, found.page_count, scrub.first);
}
