/* SPDX-License-Identifier: MIT */
/*
 * The archive: writing and reading.
 *
 * A flipped bit inside a zstd frame may leave its content as it was, so the content's checksum alone would not notice
 * it; the footer's covers every byte of the archive.  The six bytes of the frame's header are known beforehand, and
 * compared, before zstd allocates a window by them.
 */
#include "recovery/archive.h"

#include "recovery/superblock.h"

#include <inttypes.h>
#include <string.h>
#include <zstd.h>

#if ZSTD_VERSION_NUMBER < 10404
#error "pheap needs zstd 1.4.4 or later (Debian package libzstd-dev)"
#endif

#define WINDOW_DEFAULT 23u /* 8 MiB */
#define WINDOW_LONG_MIN 17u
#define GATHER_BYTES (256u << 10) /* of operations are compressed at a time */
#define INPUT_BYTES (128u << 10)
#define OPERATION_MAX_BYTES (8u + PH_OPERATION_COUNT_MAX * 8u)
#define CONTENT_BYTES (OPERATION_MAX_BYTES + (256u << 10))
#define FRAME_HEADER_BYTES 6u

/* ------------------------------------------------------------------------------------------------------- parameters */

struct ph_archive_header ph_archive_describe(const struct ph_superblock *s, uint64_t heap_bytes, uint64_t archived_ns)
{
    struct ph_archive_header header = {
        .byte_order = PH_BYTE_ORDER_MARK,
        .format_version = PH_ARCHIVE_VERSION,
        .heap_format = s->format_version,
        .heap_compat_flags = s->compat_flags,
        .heap_incompat_flags = s->incompat_flags,
        .heap_bytes = heap_bytes,
        .log_limit_bytes = s->log_limit_bytes,
        .segment_bytes = s->segment_bytes,
        .buffer_bytes = s->buffer_bytes,
        .page_bytes = s->page_bytes,
        .file_mode = s->file_mode,
        .created_ns = s->created_ns,
        .archived_ns = archived_ns,
    };
    memcpy(header.magic, PH_ARCHIVE_MAGIC, sizeof header.magic);
    memcpy(header.identity, s->identity, sizeof header.identity);
    return header;
}

struct ph_superblock ph_archive_superblock(const struct ph_archive_header *header, uint64_t version,
                                           uint64_t heap_bytes)
{
    struct ph_superblock s = {
        .byte_order = PH_BYTE_ORDER_MARK,
        .format_version = header->heap_format,
        .compat_flags = header->heap_compat_flags,
        .incompat_flags = header->heap_incompat_flags,
        .page_bytes = header->page_bytes,
        .state = PH_STATE_CLEAN,
        .generation = 1,
        .checkpoint_lsn = PH_FIRST_LSN,
        .checkpoint_version = version,
        .heap_bytes = heap_bytes,
        .durable_lsn = PH_FIRST_LSN,
        .log_limit_bytes = header->log_limit_bytes,
        .segment_bytes = header->segment_bytes,
        .buffer_bytes = header->buffer_bytes,
        .file_mode = header->file_mode,
        .created_ns = header->created_ns,
    };
    memcpy(s.magic, PH_HEAP_MAGIC, sizeof s.magic);
    return s;
}

/* What the frame begins with: magic number, checksum and window but nothing else, the window. */
static void make_frame_header(uint32_t window_log, uint8_t bytes[static FRAME_HEADER_BYTES])
{
    const uint8_t header[FRAME_HEADER_BYTES] = {0x28, 0xb5, 0x2f,
                                                0xfd, 0x04, (uint8_t)((window_log - PH_ARCHIVE_WINDOW_MIN) << 3)};
    memcpy(bytes, header, sizeof header);
}

/* -------------------------------------------------------------------------------------------------------- writing */

static ph_status put(struct ph_archive_writer *writer, const void *bytes, size_t length)
{
    ph_checksum_add(&writer->checksum, bytes, length);
    writer->archive_bytes += length;
    return writer->put(writer->context, bytes, length);
}

/* Compress what was gathered; `last`: and end the frame. */
static ph_status compress(struct ph_archive_writer *writer, bool last)
{
    ZSTD_inBuffer in = {writer->content, writer->content_length, 0};
    ph_checksum_add(&writer->content_checksum, writer->content, writer->content_length);
    writer->content_length = 0;
    for (;;) {
        ZSTD_outBuffer out = {writer->output, writer->output_capacity, 0};
        size_t left = ZSTD_compressStream2(writer->zstd, &out, &in, last ? ZSTD_e_end : ZSTD_e_continue);
        if (ZSTD_isError(left))
            return ph_fail(PH_NO_MEMORY, "cannot compress the archive: %s", ZSTD_getErrorName(left));
        ph_status status = out.pos > 0 ? put(writer, out.dst, out.pos) : PH_OK;
        if (status != PH_OK)
            return status;
        if (last ? left == 0 : in.pos == in.size)
            return PH_OK;
    }
}

/* False: zstd does not take a parameter. */
static bool set_up(ZSTD_CCtx *zstd, int level, uint32_t window_log, bool far)
{
    const struct {
        ZSTD_cParameter parameter;
        int value;
    } wanted[] = {
        {ZSTD_c_compressionLevel, level},
        {ZSTD_c_windowLog, (int)window_log},
        {ZSTD_c_enableLongDistanceMatching, far ? 1 : 0},
        {ZSTD_c_checksumFlag, 1},
        {ZSTD_c_contentSizeFlag, 0},
    };
    for (size_t i = 0; i < sizeof wanted / sizeof wanted[0]; i++)
        if (ZSTD_isError(ZSTD_CCtx_setParameter(zstd, wanted[i].parameter, wanted[i].value)))
            return false;
    return true;
}

ph_status ph_archive_write_begin(struct ph_archive_writer *writer, const ph_io *io, ph_archive_put output,
                                 void *context, struct ph_archive_header *header, int level, uint32_t window_log)
{
    memset(writer, 0, sizeof *writer);
    if (level < ZSTD_minCLevel() || level > ZSTD_maxCLevel())
        return ph_fail(PH_INVALID, "compression level %d; there are %d to %d", level, ZSTD_minCLevel(),
                       ZSTD_maxCLevel());
    if (window_log != 0 && (window_log < WINDOW_LONG_MIN || window_log > PH_ARCHIVE_WINDOW_MAX))
        return ph_fail(PH_INVALID, "a window of 2^%u bytes; it may have 2^%u to 2^%u", window_log, WINDOW_LONG_MIN,
                       PH_ARCHIVE_WINDOW_MAX);
    writer->io = io;
    writer->put = output;
    writer->context = context;
    writer->output_capacity = ZSTD_CStreamOutSize();
    writer->content = io->alloc(io->ctx, GATHER_BYTES, 64);
    writer->output = io->alloc(io->ctx, writer->output_capacity, 64);
    writer->zstd = ZSTD_createCCtx();
    ph_checksum_begin(&writer->content_checksum);
    ph_checksum_begin(&writer->checksum);
    header->window_log = window_log != 0 ? window_log : WINDOW_DEFAULT;
    header->checksum = ph_checksum(header, offsetof(struct ph_archive_header, checksum));
    ph_status status = PH_OK;
    if (writer->content == NULL || writer->output == NULL || writer->zstd == NULL)
        status = ph_fail(PH_NO_MEMORY, "out of memory beginning the archive");
    else if (!set_up(writer->zstd, level, header->window_log, window_log != 0))
        status = ph_fail(PH_UNSUPPORTED, "zstd %s does not take the parameters of the archive", ZSTD_versionString());
    if (status == PH_OK)
        status = put(writer, header, sizeof *header);
    if (status == PH_OK) /* so that zstd does not know the size of all when it writes the frame's header */
        status = compress(writer, false);
    if (status != PH_OK)
        ph_archive_write_deinit(writer);
    return status;
}

static ph_status gather(struct ph_archive_writer *writer, const uint8_t *bytes, size_t length)
{
    while (length > 0) {
        size_t part = GATHER_BYTES - writer->content_length;
        if (part > length)
            part = length;
        memcpy(writer->content + writer->content_length, bytes, part);
        writer->content_length += part;
        bytes += part;
        length -= part;
        ph_status status = writer->content_length == GATHER_BYTES ? compress(writer, false) : PH_OK;
        if (status != PH_OK)
            return status;
    }
    return PH_OK;
}

ph_status ph_archive_write(struct ph_archive_writer *writer, const struct ph_operation *operation)
{
    uint8_t head[16];
    uint32_t head_bytes = ph_operation_encode(operation, head);
    uint64_t more = operation->kind == PH_OPERATION_WRITE ? operation->length : 0;
    writer->operation_count++;
    writer->content_bytes += head_bytes + more;
    ph_status status = gather(writer, head, head_bytes);
    return status == PH_OK ? gather(writer, operation->bytes, more) : status;
}

ph_status ph_archive_write_end(struct ph_archive_writer *writer, uint64_t version, uint64_t heap_bytes)
{
    ph_status status = compress(writer, true);
    if (status != PH_OK)
        return status;
    struct ph_archive_footer footer = {
        .version = version,
        .heap_bytes = heap_bytes,
        .operation_count = writer->operation_count,
        .content_bytes = writer->content_bytes,
        .archive_bytes = writer->archive_bytes + sizeof footer,
        .content_checksum = ph_checksum_value(&writer->content_checksum),
    };
    memcpy(footer.magic, PH_ARCHIVE_END_MAGIC, sizeof footer.magic);
    struct ph_checksum_stream all = writer->checksum;
    ph_checksum_add(&all, &footer, offsetof(struct ph_archive_footer, checksum));
    footer.checksum = ph_checksum_value(&all);
    return put(writer, &footer, sizeof footer);
}

void ph_archive_write_deinit(struct ph_archive_writer *writer)
{
    if (writer->io == NULL)
        return;
    if (writer->content != NULL)
        writer->io->free(writer->io->ctx, writer->content);
    if (writer->output != NULL)
        writer->io->free(writer->io->ctx, writer->output);
    (void)ZSTD_freeCCtx(writer->zstd);
    memset(writer, 0, sizeof *writer);
}

/* -------------------------------------------------------------------------------------------------------- reading */

static ph_status damaged(const struct ph_archive_reader *reader, const char *what)
{
    return ph_fail(PH_CORRUPT, "%s: the archive is damaged, found at byte %" PRIu64 ": %s", reader->name,
                   reader->archive_bytes, what);
}

/* Have at least `wanted` bytes in `input`, or all there are. */
static ph_status fill(struct ph_archive_reader *reader, size_t wanted)
{
    if (reader->input_length - reader->input_at >= wanted || reader->input_ended)
        return PH_OK;
    memmove(reader->input, reader->input + reader->input_at, reader->input_length - reader->input_at);
    reader->input_length -= reader->input_at;
    reader->input_at = 0;
    while (reader->input_length < wanted && !reader->input_ended) {
        size_t got = 0;
        ph_status status = reader->get(reader->context, reader->input + reader->input_length,
                                       INPUT_BYTES - reader->input_length, &got);
        if (status != PH_OK)
            return status;
        reader->input_ended = got == 0;
        reader->input_length += got;
    }
    return PH_OK;
}

static size_t available(const struct ph_archive_reader *reader)
{
    return reader->input_length - reader->input_at;
}

/* Step over bytes of `input` that were read. */
static void take(struct ph_archive_reader *reader, size_t length)
{
    ph_checksum_add(&reader->checksum, reader->input + reader->input_at, length);
    reader->input_at += length;
    reader->archive_bytes += length;
}

static ph_status check_header(struct ph_archive_reader *reader, size_t length)
{
    const struct ph_archive_header *h = &reader->header;
    if (length < sizeof h->magic || memcmp(h->magic, PH_ARCHIVE_MAGIC, sizeof h->magic) != 0)
        return ph_fail(PH_NOT_HEAP, "%s: not an archive of pheap: it does not begin like one", reader->name);
    if (length < sizeof *h)
        return damaged(reader, "it ends within its header");
    if (h->byte_order == __builtin_bswap32(PH_BYTE_ORDER_MARK))
        return ph_fail(PH_BYTE_ORDER, "%s: the archive was made on a machine of another byte order", reader->name);
    if (h->byte_order != PH_BYTE_ORDER_MARK ||
        h->checksum != ph_checksum(h, offsetof(struct ph_archive_header, checksum)))
        return damaged(reader, "the checksum of its header does not match");
    if (h->format_version > PH_ARCHIVE_VERSION || (h->incompat_flags & ~PH_ARCHIVE_INCOMPAT_KNOWN) != 0 ||
        h->heap_format > PH_FORMAT_VERSION || (h->heap_incompat_flags & ~PH_INCOMPAT_KNOWN) != 0)
        return ph_fail(PH_NEWER,
                       "%s: archive format %u, features 0x%x, of heap format %u, features 0x%x; this library knows "
                       "archive format %u and heap format %u; use a newer pheap",
                       reader->name, h->format_version, h->incompat_flags, h->heap_format, h->heap_incompat_flags,
                       PH_ARCHIVE_VERSION, PH_FORMAT_VERSION);
    struct ph_superblock s = ph_archive_superblock(h, 0, h->heap_bytes);
    ph_superblock_seal(&s);
    if (h->format_version == 0 || h->window_log < PH_ARCHIVE_WINDOW_MIN || h->window_log > PH_ARCHIVE_WINDOW_MAX ||
        ph_superblock_check(&s, s.copy) != PH_COPY_GOOD)
        return damaged(reader, "its header has impossible values");
    reader->heap_bytes = h->heap_bytes;
    return PH_OK;
}

static ph_status read_start(struct ph_archive_reader *reader)
{
    uint8_t expected[FRAME_HEADER_BYTES];
    ph_status status = fill(reader, sizeof reader->header + sizeof expected);
    if (status != PH_OK)
        return status;
    size_t length = available(reader) < sizeof reader->header ? available(reader) : sizeof reader->header;
    memcpy(&reader->header, reader->input, length);
    status = check_header(reader, length);
    if (status != PH_OK)
        return status;
    take(reader, sizeof reader->header);
    make_frame_header(reader->header.window_log, expected);
    if (available(reader) < sizeof expected || memcmp(reader->input + reader->input_at, expected, sizeof expected) != 0)
        return damaged(reader, "what follows its header is not the frame that should");
    return PH_OK;
}

ph_status ph_archive_read_begin(struct ph_archive_reader *reader, const ph_io *io, const char *name, ph_archive_get get,
                                void *context)
{
    memset(reader, 0, sizeof *reader);
    reader->io = io;
    reader->name = name;
    reader->get = get;
    reader->context = context;
    reader->input = io->alloc(io->ctx, INPUT_BYTES, 64);
    reader->content = io->alloc(io->ctx, CONTENT_BYTES, 64);
    ZSTD_DCtx *zstd = ZSTD_createDCtx();
    reader->zstd = zstd;
    ph_checksum_begin(&reader->content_checksum);
    ph_checksum_begin(&reader->checksum);
    ph_status status = PH_OK;
    if (reader->input == NULL || reader->content == NULL || zstd == NULL ||
        ZSTD_isError(ZSTD_DCtx_setParameter(zstd, ZSTD_d_windowLogMax, PH_ARCHIVE_WINDOW_MAX)))
        status = ph_fail(PH_NO_MEMORY, "%s: out of memory reading the archive", name);
    if (status == PH_OK)
        status = read_start(reader);
    if (status != PH_OK)
        ph_archive_read_deinit(reader);
    return status;
}

void ph_archive_read_deinit(struct ph_archive_reader *reader)
{
    if (reader->io == NULL)
        return;
    if (reader->input != NULL)
        reader->io->free(reader->io->ctx, reader->input);
    if (reader->content != NULL)
        reader->io->free(reader->io->ctx, reader->content);
    (void)ZSTD_freeDCtx(reader->zstd);
    memset(reader, 0, sizeof *reader);
}

/* Decompress some more content; the frame has not ended. */
static ph_status decompress(struct ph_archive_reader *reader)
{
    ph_status status = fill(reader, 1);
    if (status != PH_OK)
        return status;
    if (available(reader) == 0)
        return damaged(reader, "it ends too early");
    ZSTD_inBuffer in = {reader->input + reader->input_at, available(reader), 0};
    ZSTD_outBuffer out = {reader->content, CONTENT_BYTES, reader->content_length};
    size_t result = ZSTD_decompressStream(reader->zstd, &out, &in);
    take(reader, in.pos);
    if (ZSTD_isError(result))
        return damaged(reader, ZSTD_getErrorName(result));
    ph_checksum_add(&reader->content_checksum, reader->content + reader->content_length,
                    out.pos - reader->content_length);
    reader->content_bytes += out.pos - reader->content_length;
    reader->content_length = out.pos;
    reader->frame_ended = result == 0;
    return PH_OK;
}

/* Have `length` bytes of content, or *enough false if it ends before. */
static ph_status want(struct ph_archive_reader *reader, size_t length, bool *enough)
{
    ph_status status = PH_OK;
    if (CONTENT_BYTES - reader->content_at < length) {
        memmove(reader->content, reader->content + reader->content_at, reader->content_length - reader->content_at);
        reader->content_length -= reader->content_at;
        reader->content_at = 0;
    }
    while (status == PH_OK && reader->content_length - reader->content_at < length && !reader->frame_ended)
        status = decompress(reader);
    *enough = reader->content_length - reader->content_at >= length;
    return status;
}

/* The frame has ended: what is left must be the footer that belongs to it. */
static ph_status read_footer(struct ph_archive_reader *reader)
{
    struct ph_archive_footer *footer = &reader->footer;
    ph_status status = fill(reader, sizeof *footer + 1);
    if (status != PH_OK)
        return status;
    if (available(reader) < sizeof *footer)
        return damaged(reader, "it ends within its footer");
    if (available(reader) > sizeof *footer)
        return damaged(reader, "something follows its footer");
    memcpy(footer, reader->input + reader->input_at, sizeof *footer);
    take(reader, offsetof(struct ph_archive_footer, checksum));
    if (memcmp(footer->magic, PH_ARCHIVE_END_MAGIC, sizeof footer->magic) != 0 ||
        footer->checksum != ph_checksum_value(&reader->checksum))
        return damaged(reader, "the checksum over all of it does not match");
    take(reader, sizeof footer->checksum);
    if (footer->content_checksum != ph_checksum_value(&reader->content_checksum) ||
        footer->content_bytes != reader->content_bytes || footer->operation_count != reader->operation_count ||
        footer->heap_bytes != reader->heap_bytes || footer->archive_bytes != reader->archive_bytes ||
        footer->version >= PH_NUMBER_LIMIT)
        return damaged(reader, "its footer does not agree with what it holds");
    return PH_END;
}

/* Whether the operation lies inside the heap as those before it have made it. */
static bool possible(struct ph_archive_reader *reader, const struct ph_operation *operation)
{
    uint64_t heap_bytes = reader->heap_bytes;
    if (operation->kind == PH_OPERATION_GROW) {
        reader->heap_bytes = operation->value;
        return operation->value >= heap_bytes;
    }
    return operation->offset >= 2 * PH_PAGE_BYTES && operation->length <= heap_bytes &&
           operation->offset <= heap_bytes - operation->length;
}

ph_status ph_archive_read(struct ph_archive_reader *reader, struct ph_operation *operation)
{
    bool enough;
    uint64_t word;
    ph_status status = want(reader, sizeof word, &enough);
    if (status != PH_OK)
        return status;
    if (!enough && reader->content_length == reader->content_at)
        return read_footer(reader);
    uint32_t length = 0;
    if (enough) {
        memcpy(&word, reader->content + reader->content_at, sizeof word);
        length = ph_operation_bytes(word);
        status = want(reader, length, &enough);
        if (status != PH_OK)
            return status;
    }
    if (!enough || ph_operation_decode(reader->content + reader->content_at, length, operation) == 0)
        return damaged(reader, "its content is malformed");
    if (!possible(reader, operation))
        return damaged(reader, "it changes what lies outside the heap");
    reader->content_at += length;
    reader->operation_count++;
    return PH_OK;
}
