/* SPDX-License-Identifier: MIT */
/*
 * Reads and restores an archive of any content.
 *
 *   F1  reading ends, and hands on only operations that lie inside the heap as those before have made it
 *   F2  what is accepted, written again by the encoder, is an archive that is accepted and does the same
 *   F3  a restore makes a heap if and only if the archive is accepted, the heap in it is sound, and there is room; that
 *       heap opens without recovery; else there is nothing at its name or beside it
 *   F4  fuzz/machine.h, M2 to M5
 *
 * Input: one byte, then by its lowest bit: 0: an archive; 1: the header of an archive and the content of its frame, of
 * which an archive is made whose checksums and counts are right, unless bit 1 is set: then one word of the footer, chosen
 * by the next bits, is wrong.
 */
#include "fuzz/machine.h"
#include "fuzz/reseal.h"
#include "io/checksum.h"
#include "pheap/core.h"
#include "recovery/archive.h"

#include <stdlib.h>
#include <string.h>
#include <zstd.h>

#define MADE_PATH "dir/made"
#define ARCHIVE_PATH "dir/archive"
#define HEADER_BYTES sizeof(struct ph_archive_header)
#define CONTENT_MAX 16384u /* bounds the time that FILLs take */
#define WRITTEN_AGAIN_MAX (4u << 20)

struct source {
    const uint8_t *data;
    size_t length, at;
};

static ph_status get(void *context, void *bytes, size_t length, size_t *got)
{
    struct source *source = context;
    *got = source->length - source->at < length ? source->length - source->at : length;
    if (*got > 0)
        memcpy(bytes, source->data + source->at, *got);
    source->at += *got;
    return PH_OK;
}

static ph_status put(void *context, const void *bytes, size_t length)
{
    struct fuzz_bytes *out = context;
    out->data = fuzz_memory(out->data, out->length + length);
    memcpy(out->data + out->length, bytes, length);
    out->length += length;
    return PH_OK;
}

/* ------------------------------------------------------------------------------------------------ making an archive */

/* What the operations come to, as far as they make sense. */
static void count_operations(const uint8_t *content, size_t length, struct ph_archive_footer *footer)
{
    for (size_t at = 0; at + 8 <= length; footer->operation_count++) {
        struct ph_operation operation;
        uint32_t taken = ph_operation_decode(content + at, length - at, &operation);
        if (taken == 0)
            return;
        if (operation.kind == PH_OPERATION_GROW)
            footer->heap_bytes = operation.value;
        at += taken;
    }
}

static void cook(const uint8_t *data, size_t size, uint8_t how, struct fuzz_bytes *archive)
{
    struct ph_archive_header header = {.window_log = 20};
    memcpy(&header, data, size < sizeof header ? size : sizeof header);
    const uint8_t *content = size > sizeof header ? data + sizeof header : data;
    size_t length = size > sizeof header ? size - sizeof header : 0;
    length = length < CONTENT_MAX ? length : CONTENT_MAX;
    header.checksum = ph_checksum(&header, offsetof(struct ph_archive_header, checksum));
    (void)put(archive, &header, sizeof header);
    uint8_t frame[ZSTD_COMPRESSBOUND(CONTENT_MAX) + 64];
    ZSTD_CCtx *zstd = ZSTD_createCCtx();
    ZSTD_inBuffer in = {content, length, 0};
    ZSTD_outBuffer out = {frame, sizeof frame, 0};
    uint32_t window = header.window_log >= 10 && header.window_log <= 22 ? header.window_log : 20;
    (void)ZSTD_CCtx_setParameter(zstd, ZSTD_c_compressionLevel, 1);
    (void)ZSTD_CCtx_setParameter(zstd, ZSTD_c_windowLog, (int)window);
    (void)ZSTD_CCtx_setParameter(zstd, ZSTD_c_checksumFlag, 1);
    (void)ZSTD_CCtx_setParameter(zstd, ZSTD_c_contentSizeFlag, 0);
    FUZZ_REQUIRE(!ZSTD_isError(ZSTD_compressStream2(zstd, &out, &in, ZSTD_e_continue)));
    FUZZ_REQUIRE(ZSTD_compressStream2(zstd, &out, &in, ZSTD_e_end) == 0);
    ZSTD_freeCCtx(zstd);
    (void)put(archive, frame, out.pos);
    struct ph_archive_footer footer = {.version = 5, .heap_bytes = header.heap_bytes, .content_bytes = length};
    memcpy(footer.magic, PH_ARCHIVE_END_MAGIC, sizeof footer.magic);
    count_operations(content, length, &footer);
    footer.archive_bytes = archive->length + sizeof footer;
    footer.content_checksum = ph_checksum(content, length);
    if ((how & 2) != 0)
        ((uint64_t *)(void *)&footer)[how / 4 % 7] ^= UINT64_C(1) << how / 28;
    (void)put(archive, &footer, offsetof(struct ph_archive_footer, checksum));
    footer.checksum = ph_checksum(archive->data, archive->length);
    (void)put(archive, &footer.checksum, sizeof footer.checksum);
}

/* ---------------------------------------------------------------------------------------------------------- reading */

static void check_operation(const struct ph_operation *operation, uint64_t *heap_bytes)
{
    if (operation->kind == PH_OPERATION_GROW) {
        FUZZ_REQUIRE(operation->value >= *heap_bytes && operation->value <= PH_HEAP_MAX_BYTES);
        *heap_bytes = operation->value;
        return;
    }
    FUZZ_REQUIRE(operation->offset >= 2 * PH_PAGE_BYTES && operation->length > 0 && operation->offset % 8 == 0);
    FUZZ_REQUIRE(operation->length <= *heap_bytes && operation->offset <= *heap_bytes - operation->length);
}

/* Read to the end; `again`, if not NULL, becomes what the encoder makes of it.  Whether it was accepted. */
static bool read_archive(const struct fuzz_bytes *archive, struct fuzz_bytes *again, uint64_t *content_checksum)
{
    const ph_io *io = fuzz_machine_io(0);
    struct source source = {archive->data, archive->length, 0};
    struct ph_archive_reader reader;
    struct ph_archive_writer writer = {.io = NULL};
    struct ph_operation operation;
    if (ph_archive_read_begin(&reader, io, "the archive", get, &source) != PH_OK)
        return false;
    uint64_t heap_bytes = reader.header.heap_bytes;
    struct ph_archive_header header = reader.header;
    bool writes = again != NULL && ph_archive_write_begin(&writer, io, put, again, &header, 1, 0) == PH_OK;
    ph_status status;
    while ((status = ph_archive_read(&reader, &operation)) == PH_OK) {
        check_operation(&operation, &heap_bytes); /* F1 */
        writes = writes && again->length < WRITTEN_AGAIN_MAX && ph_archive_write(&writer, &operation) == PH_OK;
    }
    FUZZ_REQUIRE(status == PH_END || status == PH_CORRUPT || status == PH_NO_MEMORY);
    if (status == PH_END) {
        FUZZ_REQUIRE(source.at == source.length && reader.footer.heap_bytes == heap_bytes);
        *content_checksum = reader.footer.content_checksum;
        if (again != NULL)
            FUZZ_REQUIRE(writes && ph_archive_write_end(&writer, reader.footer.version, heap_bytes) == PH_OK);
    }
    ph_archive_write_deinit(&writer);
    ph_archive_read_deinit(&reader);
    return status == PH_END;
}

static bool is_there(const char *path)
{
    return ph_sim_size(fuzz_machine_sim(), path) >= 0;
}

static void restore_and_open(const struct fuzz_bytes *archive, bool accepted)
{
    const struct pheap_options options = {.size = sizeof options, .reserve_bytes = 1u << 20};
    pheap *heap;
    (void)ph_sim_poke(fuzz_machine_sim(), ARCHIVE_PATH, archive->data, archive->length, 0);
    ph_status status = ph_restore_io(fuzz_machine_io(0), ARCHIVE_PATH, MADE_PATH, NULL, NULL);
    FUZZ_REQUIRE(status != PH_OK || accepted);
    FUZZ_REQUIRE(is_there(MADE_PATH) == (status == PH_OK) && !is_there(MADE_PATH "-new"));
    if (status != PH_OK)
        return;
    status = ph_open_io(fuzz_machine_io(0), MADE_PATH, PHEAP_READONLY, &options, &heap);
    if (status == PH_NO_MEMORY || status == PH_NO_SPACE) /* the machine is small */
        return;
    FUZZ_REQUIRE(status == PH_OK);
    FUZZ_REQUIRE(pheap_close(heap) == PHEAP_OK);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct fuzz_input nothing = {0};
    struct fuzz_bytes archive = {0}, again = {0};
    uint64_t checksum = 0, checksum_again = 0;
    if (size == 0 || size > FUZZ_INPUT_MAX)
        return -1;
    fuzz_machine_start(&nothing);
    if (data[0] % 2 == 0)
        fuzz_bytes_set(&archive, data + 1, size - 1);
    else
        cook(data + 1, size - 1, data[0], &archive);
    bool accepted = read_archive(&archive, &again, &checksum);
    if (accepted) {
        FUZZ_REQUIRE(read_archive(&again, NULL, &checksum_again) && checksum == checksum_again); /* F2 */
    }
    restore_and_open(&archive, accepted); /* F3 */
    free(archive.data);
    free(again.data);
    fuzz_machine_stop();
    return 0;
}

/* --------------------------------------------------------------------------------------------------------- mutation */

static const uint64_t evil[] = {
    0,          8, 4096, 8192, 65536, UINT64_C(1) << 32, UINT64_C(1) << 47,         40960, UINT64_MAX,
    UINT32_MAX, 9, 10,   27,   28,    INT64_MAX,         (UINT64_C(1) << 47) - 4096};

size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t most, unsigned seed)
{
    if (size < 1 + HEADER_BYTES + 16 || data[0] % 2 == 0 || seed % 4 == 0)
        return LLVMFuzzerMutate(data, size, most);
    uint64_t value = evil[seed / 4 % (sizeof evil / sizeof evil[0])];
    if (seed % 4 == 1) { /* a field of the header */
        memcpy(data + 1 + seed / 64 % (HEADER_BYTES / 4 - 2) * 4, &value, 4);
        return size;
    }
    /* The first word of some operation: another kind, count or offset; or its second word. */
    size_t operations = 0, at = 1 + HEADER_BYTES;
    uint64_t wanted = seed / 1024 % 64, word;
    for (; at + 16 <= size && operations < wanted; operations++) {
        memcpy(&word, data + at, 8);
        uint32_t taken = ph_operation_bytes(word);
        if (taken == 0 || at + taken + 16 > size)
            break;
        at += taken;
    }
    memcpy(&word, data + at, 8);
    switch (seed / 256 % 4) {
    case 0:
        word = (word & ~(UINT64_C(15) << 44)) | (uint64_t)(1 + seed / 65536 % 3) << 44;
        break;
    case 1:
        word = (word & ((UINT64_C(1) << 48) - 1)) | (uint64_t)(seed / 65536 % 20) << 48;
        break;
    case 2:
        word = (word & ~((UINT64_C(1) << 44) - 1)) | (value / 8 & ((UINT64_C(1) << 44) - 1));
        break;
    default:
        memcpy(data + at + 8, &value, 8);
        break;
    }
    memcpy(data + at, &word, 8);
    return size;
}

size_t LLVMFuzzerCustomCrossOver(const uint8_t *one, size_t one_size, const uint8_t *other, size_t other_size,
                                 uint8_t *out, size_t most, unsigned seed)
{
    size_t size = one_size < most ? one_size : most;
    memcpy(out, one, size);
    if (size <= 1 + HEADER_BYTES || other_size <= 1 + HEADER_BYTES)
        return size;
    /* The content of one, and behind it some of the other's. */
    size_t from = 1 + HEADER_BYTES + seed % (other_size - HEADER_BYTES - 1) / 8 * 8, more = other_size - from;
    more = more < most - size ? more : most - size;
    memcpy(out + size, other + from, more);
    return size + more;
}
