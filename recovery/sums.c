/* SPDX-License-Identifier: MIT */
/* The sums: open, begin, write, sync. */
#include "recovery/sums.h"

#include "io/checksum.h"

#include <string.h>

/* A heap that says it is new is read whole when it is opened, but not if it is larger. */
#define NEW_HEAP_MAX (1u << 20)

/* ---------------------------------------------------------------------------------------------------------- header */

static bool header_good(const struct ph_store *store, const struct ph_sums_header *header)
{
    return memcmp(header->magic, PH_SUMS_MAGIC, sizeof header->magic) == 0 &&
           header->checksum == ph_checksum(header, offsetof(struct ph_sums_header, checksum)) &&
           header->byte_order == PH_BYTE_ORDER_MARK && header->format_version == PH_FORMAT_VERSION &&
           memcmp(header->identity, store->superblock.identity, sizeof header->identity) == 0;
}

static ph_status read_header(struct ph_store *store, struct ph_sums_header *header, bool *good)
{
    size_t got;
    ph_status status = ph_file_read(&store->sums, header, sizeof *header, 0, &got);
    *good = status == PH_OK && got == sizeof *header && header_good(store, header);
    return status;
}

static ph_status write_header(struct ph_store *store, struct ph_sums_header *header)
{
    header->checksum = ph_checksum(header, offsetof(struct ph_sums_header, checksum));
    return ph_file_write(&store->sums, header, sizeof *header, 0, 0);
}

static struct ph_sums_header new_header(const struct ph_store *store, uint32_t flags)
{
    struct ph_sums_header header = {
        .byte_order = PH_BYTE_ORDER_MARK, .format_version = PH_FORMAT_VERSION, .flags = flags};
    memcpy(header.magic, PH_SUMS_MAGIC, sizeof header.magic);
    memcpy(header.identity, store->superblock.identity, sizeof header.identity);
    return header;
}

ph_status ph_sums_flags(struct ph_store *store, uint32_t *flags)
{
    struct ph_sums_header header;
    bool good;
    ph_status status = read_header(store, &header, &good);
    *flags = good ? header.flags : 0;
    return status;
}

ph_status ph_sums_announce(struct ph_store *store, uint64_t lsn, uint64_t chain, uint64_t next_lsn, uint64_t next_chain)
{
    uint32_t flags;
    if (!store->sums.open)
        return PH_OK;
    ph_status status = ph_sums_flags(store, &flags);
    if (status != PH_OK)
        return status;
    struct ph_sums_header header = new_header(store, flags);
    header.lsn = lsn;
    header.chain = chain;
    header.next_lsn = next_lsn;
    header.next_chain = next_chain;
    return write_header(store, &header);
}

ph_status ph_sums_sync(struct ph_store *store)
{
    return store->sums.open ? ph_file_sync(&store->sums) : PH_OK;
}

void ph_sums_settle(struct ph_store *store)
{
    struct ph_sums_header header;
    bool good;
    if (!store->sums.open || read_header(store, &header, &good) != PH_OK || !good)
        return;
    header.lsn = header.next_lsn;
    header.chain = header.next_chain;
    ph_status status = write_header(store, &header);
    (void)status;
}

ph_status ph_sums_complete(struct ph_store *store)
{
    struct ph_sums_header header;
    bool good;
    ph_status status = read_header(store, &header, &good);
    if (status != PH_OK || !good)
        return status;
    header.flags |= PH_SUMS_COMPLETE;
    return write_header(store, &header);
}

/* ------------------------------------------------------------------------------------------------------------ sums */

uint64_t ph_sums_compute(const void *page)
{
    uint64_t sum = ph_checksum(page, PH_PAGE_BYTES);
    return sum > PH_SUM_DAMAGED ? sum : sum + PH_SUM_DAMAGED + 1;
}

static uint64_t block_offset(uint64_t number)
{
    return PH_SUMS_START + number * PH_PAGE_BYTES;
}

ph_status ph_sums_flush(struct ph_sums_block *block, struct ph_file *file)
{
    if (!block->loaded || !block->changed)
        return PH_OK;
    block->changed = false;
    return ph_file_write(file, block->sums, sizeof block->sums, block_offset(block->number), 0);
}

ph_status ph_sums_find(struct ph_sums_block *block, struct ph_file *file, uint64_t page, uint64_t **sum)
{
    uint64_t number = page / PH_SUMS_PER_BLOCK;
    if (!block->loaded || block->number != number) {
        size_t got;
        ph_status status = ph_sums_flush(block, file);
        block->loaded = false;
        if (status == PH_OK)
            status = ph_file_read(file, block->sums, sizeof block->sums, block_offset(number), &got);
        if (status != PH_OK)
            return status;
        memset((uint8_t *)block->sums + got, 0, sizeof block->sums - got);
        block->number = number;
        block->loaded = true;
        block->changed = false;
    }
    *sum = &block->sums[page % PH_SUMS_PER_BLOCK];
    return PH_OK;
}

/* ------------------------------------------------------------------------------------------------------------ open */

static ph_status open_file(struct ph_store *store, unsigned flags)
{
    return ph_file_open_beside(&store->sums, store->io, store->heap.path, "-sum", flags, store->superblock.file_mode);
}

/* The sums of a heap as it was created, which is all that was written to its file around the log. */
static ph_status sum_new_heap(struct ph_store *store)
{
    struct ph_sums_block block = {.loaded = false};
    ph_status status = PH_OK;
    for (uint64_t page = 2; page < store->superblock.heap_bytes / PH_PAGE_BYTES && status == PH_OK; page++) {
        uint8_t bytes[PH_PAGE_BYTES];
        uint64_t *sum;
        status = ph_sums_find(&block, &store->sums, page, &sum);
        if (status == PH_OK)
            status = ph_file_read_exact(&store->heap, bytes, sizeof bytes, page * PH_PAGE_BYTES);
        if (status != PH_OK)
            break;
        *sum = ph_sums_compute(bytes);
        block.changed = true;
    }
    return status == PH_OK ? ph_sums_flush(&block, &store->sums) : status;
}

/* Empty the file durably first: an old sum must not survive under a new header, even where the file system does not keep
 * the two in order. */
static ph_status begin(struct ph_store *store)
{
    const struct ph_superblock *s = &store->superblock;
    bool new_heap = s->checkpoint_version == 0 && s->checkpoint_lsn == PH_FIRST_LSN && s->heap_bytes <= NEW_HEAP_MAX;
    ph_status status = ph_file_truncate(&store->sums, 0);
    if (status == PH_OK)
        status = ph_file_sync(&store->sums);
    if (status == PH_OK && new_heap)
        status = sum_new_heap(store);
    if (status == PH_OK && new_heap)
        status = ph_file_sync(&store->sums);
    struct ph_sums_header header = new_header(store, new_heap ? PH_SUMS_COMPLETE : 0);
    header.lsn = header.next_lsn = s->checkpoint_lsn;
    header.chain = header.next_chain = s->checkpoint_chain;
    if (status == PH_OK)
        status = write_header(store, &header);
    if (status == PH_OK)
        status = ph_file_sync(&store->sums);
    if (status != PH_OK)
        return status;
    int result = store->io->sync_directory(store->io->ctx, store->heap.path);
    return result < 0 ? ph_file_fail(store->heap.path, "cannot sync the directory", -result) : PH_OK;
}

static bool fits(const struct ph_superblock *s, const struct ph_sums_header *header)
{
    return (header->lsn == s->checkpoint_lsn && header->chain == s->checkpoint_chain) ||
           (header->next_lsn == s->checkpoint_lsn && header->next_chain == s->checkpoint_chain);
}

ph_status ph_sums_open(struct ph_store *store)
{
    struct ph_sums_header header;
    bool good = false;
    if ((store->superblock.incompat_flags & PH_INCOMPAT_SUMS) == 0)
        return PH_OK;
    bool writable = store->heap.writable;
    ph_status status = open_file(store, writable ? PH_OPEN_WRITE | PH_OPEN_CREATE : PH_OPEN_READ);
    if (status == PH_OK)
        status = read_header(store, &header, &good);
    if (status == PH_OK && good && fits(&store->superblock, &header))
        return PH_OK;
    if (!writable) {
        ph_file_close(&store->sums);
        return status == PH_NO_MEMORY ? status : PH_OK;
    }
    return status == PH_OK ? begin(store) : status;
}

ph_status ph_sums_join(struct ph_store *store)
{
    const struct ph_coord *coord = store->wal.coord;
    if ((store->superblock.incompat_flags & PH_INCOMPAT_SUMS) == 0)
        return PH_OK;
    ph_status status = open_file(store, PH_OPEN_WRITE);
    if (status == PH_NOT_FOUND ||
        (status == PH_OK && (store->sums.device != coord->sums_device || store->sums.inode != coord->sums_inode)))
        return ph_fail(PH_REPLACED,
                       "%s-sum: the file was removed or replaced while the heap is in use; put it back, or close the "
                       "heap in every process",
                       store->heap.path);
    return status;
}
