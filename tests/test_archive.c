/* SPDX-License-Identifier: MIT */
/*
 * Archives that are damaged, cut short, full of lies with valid checksums, or met by a disk that is full, fails or loses
 * power: there is a clear error, and at no name anything that is not whole.
 *
 * Archives are also made and read here by hand, as docs/format.md has them, without the library's own code.
 */
#include "tests/public.h"

#include "io/checksum.h"
#include "pheap/alloc.h"
#include "pheap/core.h"
#include "recovery/archive.h"
#include "recovery/backup.h"
#include "tests/support/simfs.h"

#include <zstd.h>

#define SIM_HEAP "d/heap"
#define SIM_ARCHIVE "d/archive"
#define ARCHIVE_MAX (1u << 20)
#define CONTENT_MAX (4u << 20)

/* ----------------------------------------------------------------------------------------------- archives in memory */

struct bytes {
    uint8_t *data; /* owned */
    size_t length;
};

struct cursor {
    const uint8_t *data;
    size_t length, at, step; /* at most `step` bytes at a time; 0: no limit */
};

static int64_t give(void *context, void *to, size_t length)
{
    struct cursor *cursor = context;
    size_t part = cursor->length - cursor->at < length ? cursor->length - cursor->at : length;
    if (cursor->step != 0 && part > cursor->step)
        part = cursor->step;
    memcpy(to, cursor->data + cursor->at, part);
    cursor->at += part;
    return (int64_t)part;
}

static int append(void *context, const void *data, size_t length)
{
    struct bytes *bytes = context;
    bytes->data = realloc(bytes->data, bytes->length + length);
    require(bytes->data != NULL);
    memcpy(bytes->data + bytes->length, data, length);
    bytes->length += length;
    return 0;
}

static enum pheap_status verify(const uint8_t *data, size_t length)
{
    struct cursor cursor = {.data = data, .length = length};
    return pheap_restore_from(give, &cursor, NULL, NULL, NULL);
}

static enum pheap_status restore_bytes(const uint8_t *data, size_t length, const char *path)
{
    struct cursor cursor = {.data = data, .length = length};
    return pheap_restore_from(give, &cursor, path, NULL, NULL);
}

/* A small heap with a few blocks, as an archive. */
static struct bytes make_archive(void)
{
    struct bytes archive = {0};
    pheap *heap = create_heap(path_of("source", ""));
    (void)make_root(heap, 100);
    for (uint64_t i = 0; i < 20; i++)
        commit_word(heap, i, i * i + 1, PHEAP_LAZY);
    ok(pheap_fold(heap));
    commit_word(heap, 50, 51, PHEAP_LAZY);
    ok(pheap_backup_to(heap, append, &archive, NULL, NULL));
    ok(pheap_close(heap));
    require(run_command("rm -f '%s'*", path_of("source", "")) == 0);
    return archive;
}

static bool nothing_made(void)
{
    return run_command("ls -A '%s' | grep -q '^made'", test_directory) != 0;
}

/* What damage may be called. */
#define DAMAGE (ONE_OF(PHEAP_CORRUPT) | ONE_OF(PHEAP_NOT_HEAP) | ONE_OF(PHEAP_NEWER) | ONE_OF(PHEAP_BYTE_ORDER))

/* ------------------------------------------------------------------------------------------------------------ damage */

/* Catches: a byte of an archive that no check covers. */
static void damage__any_flipped_bit_is_found(void **state)
{
    (void)state;
    struct bytes archive = make_archive();
    ok(verify(archive.data, archive.length));
    for (size_t at = 0; at < archive.length; at++)
        for (unsigned bit = 0; bit < 8; bit++) {
            archive.data[at] ^= (uint8_t)(1u << bit);
            if ((DAMAGE >> verify(archive.data, archive.length) & 1) == 0)
                check_failed(__FILE__, __LINE__, "bit %u of byte %zu", bit, at);
            require(strstr(pheap_error_detail(), "archive") != NULL);
            if (bit == at % 8) {
                (void)expect_one(DAMAGE, restore_bytes(archive.data, archive.length, path_of("made", "")));
                require(nothing_made());
            }
            archive.data[at] ^= (uint8_t)(1u << bit);
        }
    print_message("%zu bytes\n", archive.length);
    ok(restore_bytes(archive.data, archive.length, path_of("made", "")));
    require(unlink(path_of("made", "")) == 0);
    free(archive.data);
}

/* Catches: an archive that was cut short and passes, or one with something behind it. */
static void damage__any_truncation_is_found(void **state)
{
    (void)state;
    struct bytes archive = make_archive();
    for (size_t length = 0; length < archive.length; length++) {
        (void)expect_one(DAMAGE, restore_bytes(archive.data, length, path_of("made", "")));
        require(nothing_made());
    }
    uint8_t *longer = malloc(archive.length + 4096);
    require(longer != NULL);
    for (size_t more = 1; more <= 4096; more = more * 3 + 1) {
        memcpy(longer, archive.data, archive.length);
        memset(longer + archive.length, more % 2 == 0 ? 0 : 0x5a, more);
        expect_detail(PHEAP_CORRUPT, "follows", verify(longer, archive.length + more));
    }
    free(longer);
    free(archive.data);
}

/* Catches: a reader that relies on how many bytes it gets at a time. */
static void source__gives_bytes_as_it_likes(void **state)
{
    (void)state;
    struct bytes archive = make_archive();
    for (size_t step = 1; step < archive.length; step = step * 2 + 1) {
        struct cursor cursor = {.data = archive.data, .length = archive.length, .step = step};
        ok(pheap_restore_from(give, &cursor, NULL, NULL, NULL));
    }
    free(archive.data);
}

/* ---------------------------------------------------------------------------------------------------- by hand: lies */

static void put32(uint8_t *bytes, size_t at, uint32_t value)
{
    memcpy(bytes + at, &value, sizeof value);
}

static void put64(uint8_t *bytes, size_t at, uint64_t value)
{
    memcpy(bytes + at, &value, sizeof value);
}

static uint64_t get64(const uint8_t *bytes, size_t at)
{
    uint64_t value;
    memcpy(&value, bytes + at, sizeof value);
    return value;
}

/* What goes into an archive made by hand; the fields of the footer are right unless told otherwise. */
struct recipe {
    uint8_t header[128];
    uint8_t *content; /* owned */
    size_t content_bytes;
    uint64_t operations, version, heap_bytes;
    uint32_t window_log;  /* really used */
    bool frame_size;      /* the frame says how long its content is */
    uint64_t lie_at, lie; /* a word of the footer at that offset, if not 0 */
};

static void make_header(uint8_t header[128], uint64_t heap_bytes, uint32_t window_log)
{
    memset(header, 0, 128);
    memcpy(header, "\x89pharc\r\n", 8);
    put32(header, 8, 0x01020304);
    put32(header, 12, 1);
    put32(header, 24, window_log);
    put32(header, 28, 1);
    memset(header + 40, 0x77, 16);
    put64(header, 56, heap_bytes);
    put64(header, 64, 256u << 10);
    put32(header, 72, 16384);
    put32(header, 76, 16384);
    put32(header, 80, 4096);
    put32(header, 84, 0644);
}

static void add_words(struct recipe *recipe, const uint64_t *words, size_t count)
{
    require(recipe->content_bytes + count * 8 <= CONTENT_MAX);
    memcpy(recipe->content + recipe->content_bytes, words, count * 8);
    recipe->content_bytes += count * 8;
    recipe->operations++;
}

/* An operation with `count` words after the first. */
static void add_operation(struct recipe *recipe, unsigned kind, uint64_t offset, uint64_t count, const uint64_t *words,
                          size_t word_count)
{
    static uint64_t buffer[70000];
    buffer[0] = offset / 8 | (uint64_t)kind << 44 | count << 48;
    memcpy(buffer + 1, words, word_count * 8);
    add_words(recipe, buffer, word_count + 1);
}

/* The start of a heap of 16 pages that is sound: a new one, as an archive. */
static struct recipe begin_recipe(void)
{
    struct recipe recipe = {.version = 7, .heap_bytes = 65536, .window_log = 20};
    static uint64_t page[512];
    uint8_t image[65536];
    memset(image, 0, sizeof image);
    ph_alloc_format(image);
    recipe.content = malloc(CONTENT_MAX);
    require(recipe.content != NULL);
    make_header(recipe.header, recipe.heap_bytes, recipe.window_log);
    memcpy(page, image + 8192, sizeof page);
    add_operation(&recipe, 1, 8192, 512, page, 512);
    return recipe;
}

static struct bytes cook(struct recipe *recipe)
{
    struct bytes archive = {.data = malloc(ARCHIVE_MAX)};
    uint8_t footer[64] = {0};
    require(archive.data != NULL);
    put64(recipe->header, 120, ph_checksum(recipe->header, 120));
    memcpy(archive.data, recipe->header, 128);
    ZSTD_CCtx *zstd = ZSTD_createCCtx();
    ZSTD_inBuffer in = {recipe->content, recipe->content_bytes, 0};
    ZSTD_outBuffer out = {archive.data, ARCHIVE_MAX - 64, 128};
    (void)ZSTD_CCtx_setParameter(zstd, ZSTD_c_windowLog, (int)recipe->window_log);
    (void)ZSTD_CCtx_setParameter(zstd, ZSTD_c_checksumFlag, 1);
    (void)ZSTD_CCtx_setParameter(zstd, ZSTD_c_contentSizeFlag, recipe->frame_size ? 1 : 0);
    if (recipe->frame_size)
        (void)ZSTD_CCtx_setPledgedSrcSize(zstd, recipe->content_bytes);
    require(!ZSTD_isError(ZSTD_compressStream2(zstd, &out, &in, ZSTD_e_continue)));
    require(ZSTD_compressStream2(zstd, &out, &in, ZSTD_e_end) == 0);
    ZSTD_freeCCtx(zstd);
    memcpy(footer, "pharcend", 8);
    put64(footer, 8, recipe->version);
    put64(footer, 16, recipe->heap_bytes);
    put64(footer, 24, recipe->operations);
    put64(footer, 32, recipe->content_bytes);
    put64(footer, 40, out.pos + 64);
    put64(footer, 48, ph_checksum(recipe->content, recipe->content_bytes));
    if (recipe->lie_at != 0)
        put64(footer, recipe->lie_at, recipe->lie);
    memcpy(archive.data + out.pos, footer, 56);
    put64(archive.data, out.pos + 56, ph_checksum(archive.data, out.pos + 56));
    archive.length = out.pos + 64;
    free(recipe->content);
    return archive;
}

/* Cook it and read it, without and with a heap to be made; consumes the recipe. */
static void expect_recipe(enum pheap_status wanted, const char *word, struct recipe *recipe)
{
    struct bytes archive = cook(recipe);
    if (wanted == PHEAP_OK) {
        ok(verify(archive.data, archive.length));
        ok(restore_bytes(archive.data, archive.length, path_of("made", "")));
        require(run_command("rm -f '%s'*", path_of("made", "")) == 0);
    } else {
        expect_detail(wanted, word, verify(archive.data, archive.length));
        expect_detail(wanted, word, restore_bytes(archive.data, archive.length, path_of("made", "")));
        require(nothing_made());
    }
    free(archive.data);
}

/* Catches: an archive as docs/format.md has it that is refused, and a word of it that means something else. */
static void recipe__of_the_format_is_restored(void **state)
{
    (void)state;
    struct recipe recipe = begin_recipe();
    const uint64_t size = 32 * 4096, value = 0x1122334455667788, used = 32;
    recipe.heap_bytes = size;
    add_operation(&recipe, 1, 8192 + 8, 1, &used, 1);  /* end_page, and */
    add_operation(&recipe, 1, 8192 + 24, 1, &used, 1); /* zero_page: every page was in use once, */
    add_operation(&recipe, 2, 60000, 4, &value, 1);    /* so anything may be in free space */
    add_operation(&recipe, 3, 0, 0, &size, 1);
    add_operation(&recipe, 1, size - 8, 1, &value, 1);
    struct bytes archive = cook(&recipe);
    ok(restore_bytes(archive.data, archive.length, path_of("made", "")));
    uint64_t words[6];
    read_at(path_of("made", ""), 60000 - 8, words, sizeof words);
    require(words[0] == 0 && words[1] == value && words[4] == value && words[5] == 0);
    read_at(path_of("made", ""), size - 16, words, 16);
    require(words[0] == 0 && words[1] == value);
    uint8_t superblock[512], identity[16];
    memset(identity, 0x77, sizeof identity);
    read_at(path_of("made", ""), 4096, superblock, sizeof superblock);
    require(memcmp(superblock + 32, identity, sizeof identity) != 0);
    require_equal(get64(superblock, 80), 7);
    require_equal(get64(superblock, 104), size);
    pheap *heap = open_heap(path_of("made", ""));
    check_sound(heap);
    require_equal(heap_info(heap).version, 7);
    ok(pheap_close(heap));
    require(run_command("rm -f '%s'*", path_of("made", "")) == 0);
    free(archive.data);
}

/* Catches: any field of an archive that is used before it was checked. */
static void recipe__lies_with_good_checksums(void **state)
{
    (void)state;
    struct recipe r;
    const uint64_t word = 1, huge = UINT64_C(1) << 47, beyond = (UINT64_C(1) << 47) + 4096, odd = 65537, less = 32768;
    r = begin_recipe();
    expect_recipe(PHEAP_OK, "", &r);
    /* Operations outside, impossible, cut off. */
    static const uint64_t outside[] = {0, 4096, 8184, 65536, 1 << 20, (UINT64_C(1) << 47) - 8};
    for (size_t i = 0; i < sizeof outside / sizeof outside[0]; i++) {
        r = begin_recipe();
        add_operation(&r, 1, outside[i], 1, &word, 1);
        expect_recipe(PHEAP_CORRUPT, "outside", &r);
        r = begin_recipe();
        add_operation(&r, 2, outside[i], 1, &word, 1);
        expect_recipe(PHEAP_CORRUPT, "outside", &r);
    }
    r = begin_recipe();
    add_operation(&r, 2, 65536 - 8, 2, &word, 1); /* reaches out */
    expect_recipe(PHEAP_CORRUPT, "outside", &r);
    r = begin_recipe();
    add_operation(&r, 3, 0, 0, &less, 1);
    expect_recipe(PHEAP_CORRUPT, "outside", &r);
    const uint64_t *sizes[] = {&beyond, &odd};
    for (size_t i = 0; i < 2; i++) {
        r = begin_recipe();
        add_operation(&r, 3, 0, 0, sizes[i], 1);
        expect_recipe(PHEAP_CORRUPT, "malformed", &r);
    }
    for (unsigned kind = 0; kind < 16; kind++) {
        if (kind >= 1 && kind <= 3)
            continue;
        r = begin_recipe();
        add_operation(&r, kind, 8192, 1, &word, 1);
        expect_recipe(PHEAP_CORRUPT, "malformed", &r);
    }
    r = begin_recipe();
    add_operation(&r, 1, 8192, 0, &word, 0);
    expect_recipe(PHEAP_CORRUPT, "malformed", &r);
    r = begin_recipe();
    add_operation(&r, 2, 8192, 8193, &word, 1);
    expect_recipe(PHEAP_CORRUPT, "malformed", &r);
    r = begin_recipe();
    add_operation(&r, 1, 8192, 65535, &word, 1); /* most of its words are missing */
    expect_recipe(PHEAP_CORRUPT, "malformed", &r);
    r = begin_recipe();
    r.content_bytes -= 4;
    expect_recipe(PHEAP_CORRUPT, "malformed", &r);
    /* A size that fits the format and no disk, or no address space. */
    r = begin_recipe();
    add_operation(&r, 3, 0, 0, &huge, 1);
    r.heap_bytes = huge;
    struct bytes archive = cook(&r);
    ok(verify(archive.data, archive.length));
    (void)expect_one(ONE_OF(PHEAP_NO_SPACE) | ONE_OF(PHEAP_NO_MEMORY) | ONE_OF(PHEAP_INVALID) | ONE_OF(PHEAP_IO),
                     restore_bytes(archive.data, archive.length, path_of("made", "")));
    require(nothing_made());
    free(archive.data);
    /* A frame that is not the one of the header. */
    r = begin_recipe();
    r.window_log = 21;
    expect_recipe(PHEAP_CORRUPT, "frame", &r);
    r = begin_recipe();
    r.frame_size = true;
    expect_recipe(PHEAP_CORRUPT, "frame", &r);
    /* The footer. */
    static const struct {
        uint64_t at, value;
    } lies[] = {{0, 0}, {8, UINT64_MAX}, {16, 69632}, {24, 7}, {32, 8}, {40, 64}, {48, 1}};
    for (size_t i = 1; i < sizeof lies / sizeof lies[0]; i++) {
        r = begin_recipe();
        r.lie_at = lies[i].at;
        r.lie = lies[i].value;
        expect_recipe(PHEAP_CORRUPT, "footer", &r);
    }
    /* The heap in it is damaged: archives cannot tell, the check does. */
    r = begin_recipe();
    add_operation(&r, 1, 8192 + 32, 1, &word, 1);
    archive = cook(&r);
    ok(verify(archive.data, archive.length));
    expect_detail(PHEAP_CORRUPT, "root", restore_bytes(archive.data, archive.length, path_of("made", "")));
    require(nothing_made());
    free(archive.data);
}

/* Catches: a field of the header that is used before it was checked; huge memory for a window. */
static void recipe__every_field_of_the_header(void **state)
{
    (void)state;
    static const struct {
        size_t at;
        uint32_t bytes;
        uint64_t value;
        enum pheap_status status;
    } fields[] = {
        {8, 4, 0x04030201, PHEAP_BYTE_ORDER},
        {8, 4, 7, PHEAP_CORRUPT},
        {12, 4, 0, PHEAP_CORRUPT},
        {12, 4, 2, PHEAP_NEWER},
        {20, 4, 1, PHEAP_NEWER},
        {24, 4, 9, PHEAP_CORRUPT},
        {24, 4, 28, PHEAP_CORRUPT},
        {24, 4, UINT32_MAX, PHEAP_CORRUPT},
        {28, 4, 0, PHEAP_CORRUPT},
        {28, 4, 2, PHEAP_NEWER},
        {36, 4, PH_INCOMPAT_KNOWN + 1, PHEAP_NEWER},
        {56, 8, 0, PHEAP_CORRUPT},
        {56, 8, 8192, PHEAP_CORRUPT},
        {56, 8, 65537, PHEAP_CORRUPT},
        {56, 8, UINT64_MAX, PHEAP_CORRUPT},
        {64, 8, 0, PHEAP_CORRUPT},
        {64, 8, UINT64_MAX, PHEAP_CORRUPT},
        {72, 4, 0, PHEAP_CORRUPT},
        {72, 4, 16385, PHEAP_CORRUPT},
        {76, 4, 8192, PHEAP_CORRUPT},
        {76, 4, 1u << 31, PHEAP_CORRUPT},
        {80, 4, 8192, PHEAP_CORRUPT},
    };
    for (size_t i = 0; i < sizeof fields / sizeof fields[0]; i++) {
        struct recipe r = begin_recipe();
        memcpy(r.header + fields[i].at, &fields[i].value, fields[i].bytes);
        expect_recipe(fields[i].status, "", &r);
    }
    struct recipe wide = begin_recipe(); /* the frame has it too */
    wide.window_log = 28;
    put32(wide.header, 24, 28);
    expect_recipe(PHEAP_CORRUPT, "impossible", &wide);
    static const size_t ignored[] = {16, 104, 112}; /* compat flags, reserved */
    for (size_t i = 0; i < sizeof ignored / sizeof ignored[0]; i++) {
        struct recipe r = begin_recipe();
        r.header[ignored[i]] = 0x80;
        expect_recipe(PHEAP_OK, "", &r);
    }
}

/* What the library writes, read by hand: catches a writer that does not keep to docs/format.md. */
static void written__is_as_the_format_says(void **state)
{
    (void)state;
    struct bytes archive = make_archive();
    const uint8_t *header = archive.data, *footer = archive.data + archive.length - 64;
    static uint8_t content[CONTENT_MAX];
    static const uint8_t frame[] = {0x28, 0xb5, 0x2f, 0xfd, 0x04, (23 - 10) << 3};
    require(memcmp(header, "\x89pharc\r\n", 8) == 0 && memcmp(footer, "pharcend", 8) == 0);
    require_equal(get64(header, 120), ph_checksum(header, 120));
    require_equal(get64(footer, 56), ph_checksum(archive.data, archive.length - 8));
    require(memcmp(header + 128, frame, sizeof frame) == 0);
    size_t length = ZSTD_decompress(content, sizeof content, header + 128, archive.length - 128 - 64);
    require(!ZSTD_isError(length));
    require_equal(get64(footer, 8), 22);
    require_equal(get64(footer, 32), length);
    require_equal(get64(footer, 40), archive.length);
    require_equal(get64(footer, 48), ph_checksum(content, length));
    uint64_t operations = 0, heap_bytes = get64(header, 56);
    for (size_t at = 0; at < length; operations++) {
        uint64_t word = get64(content, at), count = word >> 48, kind = word >> 44 & 15;
        require(kind >= 1 && kind <= 3);
        heap_bytes = kind == 3 ? get64(content, at + 8) : heap_bytes;
        at += kind == 1 ? 8 + 8 * count : 16;
        require(at <= length);
    }
    require_equal(operations, get64(footer, 24));
    require_equal(heap_bytes, get64(footer, 16));
    free(archive.data);
}

/* ------------------------------------------------------------------------------------------- on a simulated machine */

/* A heap at `path` whose word 0 is `value`; it is left in use when `killed`. */
static void sim_make_heap(struct ph_sim *sim, const char *path, uint64_t value, bool killed)
{
    struct pheap_options options = small_options();
    pheap *heap;
    options.reserve_bytes = 16u << 20;
    ok((enum pheap_status)ph_open_io(ph_sim_io(sim), path, PHEAP_CREATE, &options, &heap));
    (void)make_root(heap, 2000);
    for (uint64_t i = 1; i < 12; i++)
        commit_word(heap, i * 150, value + i, PHEAP_LAZY);
    commit_word(heap, 0, value, PHEAP_DURABLE);
    if (killed)
        ph_sim_kill(sim);
    else
        ok(pheap_close(heap));
}

/* The value of the heap at `path`, which must be sound; 0 if there is none. */
static uint64_t sim_value(struct ph_sim *sim, const char *path)
{
    const struct pheap_options options = {.size = sizeof options, .reserve_bytes = 16u << 20};
    pheap *heap;
    if (ph_sim_size(sim, path) < 0)
        return 0;
    ok((enum pheap_status)ph_open_io(ph_sim_io(sim), path, 0, &options, &heap));
    pheap_read *reader = read_begin(heap, PHEAP_FRESH);
    const uint64_t value = read_word(reader, 0);
    for (uint64_t i = 1; i < 12; i++)
        require_equal(read_word(reader, i * 150), value + i);
    ok(pheap_check(reader, print_fault, NULL, NULL));
    pheap_read_end(reader);
    ok(pheap_close(heap));
    ph_core_forget_mappings(ph_sim_io(sim));
    return value;
}

static enum pheap_status sim_backup(struct ph_sim *sim, const char *path, const char *archive)
{
    const struct pheap_options options = {.size = sizeof options, .reserve_bytes = 16u << 20};
    const struct pheap_backup_options how = {.size = sizeof how, .flags = PHEAP_REPLACE};
    pheap *heap;
    enum pheap_status status = (enum pheap_status)ph_open_io(ph_sim_io(sim), path, 0, &options, &heap);
    if (status != PHEAP_OK)
        return status;
    status = pheap_backup(heap, archive, &how, NULL);
    const enum pheap_status closed = pheap_close(heap);
    return status == PHEAP_OK ? closed : status;
}

static enum pheap_status sim_restore(struct ph_sim *sim, const char *archive, const char *path)
{
    const struct pheap_restore_options how = {.size = sizeof how, .flags = PHEAP_REPLACE};
    return (enum pheap_status)ph_restore_io(ph_sim_io(sim), archive, path, &how, NULL);
}

/* The archive on the simulated disk is whole. */
static void sim_check_archive(struct ph_sim *sim)
{
    ok((enum pheap_status)ph_restore_io(ph_sim_io(sim), SIM_ARCHIVE, NULL, NULL, NULL));
}

/* An archive of a heap with value 100 is there, and, unless `kind` is 0, a heap with 500: 1 closed, 2 crashed. */
static struct ph_sim *sim_prepare(uint64_t number, unsigned kind)
{
    struct ph_sim_options options = {.seed = number, .refuse_unnamed = number % 2 == 0};
    struct ph_sim *sim = ph_sim_new(&options);
    sim_make_heap(sim, "e/source", 100, false);
    ok(sim_backup(sim, "e/source", SIM_ARCHIVE));
    if (kind != 0)
        sim_make_heap(sim, SIM_HEAP, 500, kind == 2);
    ph_core_forget_mappings(ph_sim_io(sim));
    return sim;
}

static void check_no_leaks(struct ph_sim *sim)
{
    ph_core_forget_mappings(ph_sim_io(sim));
    require_equal(ph_sim_live_handles(sim), 0);
    require_equal(ph_sim_live_maps(sim), 0);
    require_equal(ph_sim_live_allocations(sim), 0);
}

/* An empty file may be left where it could not be locked or looked at, and so may be somebody else's. */
static bool nothing_beside(struct ph_sim *sim, const char *path)
{
    const char *at = ph_sim_struck_at(sim);
    const int64_t size = ph_sim_size(sim, path);
    return size < 0 || (size == 0 && (strncmp(at, "lock", 4) == 0 || strncmp(at, "stat", 4) == 0));
}

static const struct fault {
    unsigned ops;
    int error;
    enum ph_sim_fault_mode mode;
} faults[] = {
    {PH_SIM_WRITE | PH_SIM_GROW | PH_SIM_TRUNCATE, ENOSPC, PH_SIM_FOREVER},
    {PH_SIM_ANY & ~(unsigned)PH_SIM_UNLINK, EIO, PH_SIM_ONCE},
    {PH_SIM_SYNC, ENOSPC, PH_SIM_ONCE},
    {PH_SIM_READ, EIO, PH_SIM_FOREVER},
    {PH_SIM_RENAME, EIO, PH_SIM_FOREVER},
    {PH_SIM_READ | PH_SIM_WRITE, 0, PH_SIM_SHORT},
};

/*
 * Each call of a restore fails: catches a failure that is passed over, something left under the name or beside, an old
 * heap that suffers, a leak.
 */
static void faults__in_every_call_of_restore(void **state)
{
    (void)state;
    uint64_t runs = 0;
    for (unsigned kind = 0; kind < 3; kind++)
        for (size_t i = 0; i < sizeof faults / sizeof faults[0]; i++)
            for (uint64_t call = 1;; call++, runs++) {
                struct ph_sim *sim = sim_prepare(call, kind);
                ph_sim_fail_at(sim, faults[i].ops, call, faults[i].error, faults[i].mode);
                const enum pheap_status status = sim_restore(sim, SIM_ARCHIVE, SIM_HEAP);
                const bool struck = ph_sim_struck(sim) != 0;
                require(struck || status == PHEAP_OK);
                require(status == PHEAP_OK || pheap_error_detail()[0] != 0);
                require(faults[i].mode != PH_SIM_SHORT || status == PHEAP_OK);
                ph_sim_fail_clear(sim);
                check_no_leaks(sim);
                require(nothing_beside(sim, SIM_HEAP "-new"));
                /* Only a sync of the directory that failed may leave the new heap after an error. */
                const uint64_t value = sim_value(sim, SIM_HEAP);
                require(value == 100 || (status != PHEAP_OK && value == (kind == 0 ? 0u : 500u)));
                sim_check_archive(sim);
                ok(sim_restore(sim, SIM_ARCHIVE, SIM_HEAP));
                require_equal(sim_value(sim, SIM_HEAP), 100);
                ph_sim_free(sim);
                if (!struck)
                    break;
            }
    print_message("%llu faults\n", (unsigned long long)runs);
}

/* The same for a backup, over an older archive or none. */
static void faults__in_every_call_of_backup(void **state)
{
    (void)state;
    uint64_t runs = 0;
    for (unsigned kind = 0; kind < 2; kind++)
        for (size_t i = 0; i < sizeof faults / sizeof faults[0]; i++)
            for (uint64_t call = 1;; call++, runs++) {
                struct ph_sim *sim = sim_prepare(call, 0);
                const struct pheap_options options = {.size = sizeof options, .reserve_bytes = 16u << 20};
                const struct pheap_backup_options how = {.size = sizeof how, .flags = PHEAP_REPLACE};
                pheap *heap;
                if (kind == 0)
                    (void)ph_sim_remove(sim, SIM_ARCHIVE);
                ok((enum pheap_status)ph_open_io(ph_sim_io(sim), "e/source", 0, &options, &heap));
                commit_word(heap, 1, 1, PHEAP_LAZY); /* to be flushed by the backup */
                ph_sim_fail_at(sim, faults[i].ops, call, faults[i].error, faults[i].mode);
                const enum pheap_status status = pheap_backup(heap, SIM_ARCHIVE, &how, NULL);
                const bool struck = ph_sim_struck(sim) != 0;
                require(struck || status == PHEAP_OK);
                require(faults[i].mode != PH_SIM_SHORT || status == PHEAP_OK);
                ph_sim_fail_clear(sim);
                require(nothing_beside(sim, SIM_ARCHIVE "-new"));
                if (ph_sim_size(sim, SIM_ARCHIVE) >= 0)
                    sim_check_archive(sim);
                else
                    require(kind == 0 && status != PHEAP_OK);
                if (heap_info(heap).poisoned == 0) {                 /* it folds, for which it may write a superblock */
                    ok(pheap_backup(heap, SIM_ARCHIVE, &how, NULL)); /* nothing is held or half done */
                    commit_word(heap, 2, 2, PHEAP_DURABLE);
                }
                (void)expect_one(ONE_OF(PHEAP_OK) | ONE_OF(PHEAP_POISONED), pheap_close(heap));
                check_no_leaks(sim);
                ph_sim_free(sim);
                if (!struck)
                    break;
            }
    print_message("%llu faults\n", (unsigned long long)runs);
}

/* One copy of the superblock rots: the heap opens as long as its log is there to show that it was the older one. */
static void damage_older_superblock(struct ph_sim *sim, const char *path)
{
    uint8_t copies[2][512];
    for (unsigned i = 0; i < 2; i++)
        require_equal(ph_sim_peek(sim, path, copies[i], 512, 4096 * i), 512);
    const unsigned older = get64(copies[0], 48) < get64(copies[1], 48) ? 0 : 1;
    copies[older][100] ^= 1;
    require_equal(ph_sim_poke(sim, path, copies[older], 512, 4096 * older), 512);
}

/* The power is cut at every operation of the journal. */
static uint64_t cut_everywhere(struct ph_sim *sim, void (*check)(struct ph_sim *image, bool done))
{
    struct ph_sim_options quiet = {.no_journal = true};
    struct ph_sim *image = ph_sim_new(&quiet);
    struct ph_sim_cut *cut = ph_sim_cut_new(sim);
    struct ph_sim_choice choice = {0};
    uint64_t states = 0;
    do {
        if (!ph_sim_cut_before_io(cut))
            continue;
        const bool done = ph_sim_cut_note(cut, 1) != 0;
        for (uint64_t i = 0; i < 10; i++, states++) {
            const uint64_t dice = ph_sim_cut_position(cut) * 31 + i;
            ph_sim_cut_sample(cut, i, dice, &choice);
            ph_sim_cut_image(cut, &choice, dice, image);
            check(image, done);
        }
    } while (ph_sim_cut_next(cut));
    ph_sim_choice_deinit(&choice);
    ph_sim_cut_free(cut);
    ph_sim_free(image);
    return states;
}

static void check_replaced(struct ph_sim *image, bool done)
{
    const uint64_t value = sim_value(image, SIM_HEAP);
    require(value == 100 || (value == 500 && !done));
}

static void check_made(struct ph_sim *image, bool done)
{
    const uint64_t value = sim_value(image, SIM_HEAP);
    require(value == 100 || (value == 0 && !done));
}

static void check_archived(struct ph_sim *image, bool done)
{
    if (ph_sim_size(image, SIM_ARCHIVE) >= 0)
        sim_check_archive(image);
    else
        require(!done);
}

/*
 * Catches: a name that gets to the disk before what it names, a log that goes before its heap can do without it, and
 * success that is reported too early.
 */
static void power__cut_at_every_operation(void **state)
{
    (void)state;
    uint64_t states = 0;
    for (unsigned unnamed = 0; unnamed < 2; unnamed++)
        for (unsigned kind = 0; kind < 5; kind++) {
            static void (*const checks[])(struct ph_sim *, bool) = {check_made, check_replaced, check_replaced,
                                                                    check_replaced, check_archived};
            struct ph_sim *sim = sim_prepare(unnamed, kind < 3 ? kind : kind == 3 ? 1 : 0);
            if (kind == 3)
                damage_older_superblock(sim, SIM_HEAP);
            else if (kind == 4)
                (void)ph_sim_remove(sim, SIM_ARCHIVE);
            ph_sim_journal_restart(sim);
            ok(kind < 4 ? sim_restore(sim, SIM_ARCHIVE, SIM_HEAP) : sim_backup(sim, "e/source", SIM_ARCHIVE));
            ph_sim_note(sim, 1, 1);
            states += cut_everywhere(sim, checks[kind]);
            ph_core_forget_mappings(ph_sim_io(sim));
            ph_sim_free(sim);
        }
    print_message("%llu states\n", (unsigned long long)states);
    require(states > 1000);
}

/* Catches: a heap that cannot be backed up because the disk under it takes no writes any more: reading is enough. */
static void backup__of_a_heap_file_that_cannot_be_written(void **state)
{
    (void)state;
    const struct ph_sim_options quiet = {.no_journal = true};
    static const int errors[] = {ENOSPC, EIO};
    struct ph_sim *sim = ph_sim_new(&quiet);
    pheap *heap;
    ok((enum pheap_status)ph_open_io(ph_sim_io(sim), SIM_HEAP, PHEAP_CREATE, NULL, &heap));
    (void)make_root(heap, 100);
    for (size_t i = 0; i < sizeof errors / sizeof errors[0]; i++) {
        struct bytes archive = {0};
        commit_word(heap, 5, 55 + i, PHEAP_DURABLE);
        /* The first write vouches for what is to be folded, and poisons if it fails (R7). */
        ph_sim_fail_at(sim, PH_SIM_WRITE, 1 + i, errors[i], PH_SIM_FOREVER);
        ok(pheap_backup_to(heap, append, &archive, NULL, NULL));
        require(ph_sim_struck(sim) != 0);
        ph_sim_fail_clear(sim);
        ok(verify(archive.data, archive.length));
        free(archive.data);
    }
    ok(pheap_close(heap));
    ph_core_forget_mappings(ph_sim_io(sim));
    ph_sim_free(sim);
}

int main(int argc, char **argv)
{
    choose_cases(argc, argv);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(damage__any_flipped_bit_is_found),
        cmocka_unit_test(damage__any_truncation_is_found),
        cmocka_unit_test(source__gives_bytes_as_it_likes),
        cmocka_unit_test(recipe__of_the_format_is_restored),
        cmocka_unit_test(recipe__lies_with_good_checksums),
        cmocka_unit_test(recipe__every_field_of_the_header),
        cmocka_unit_test(written__is_as_the_format_says),
        cmocka_unit_test(faults__in_every_call_of_restore),
        cmocka_unit_test(faults__in_every_call_of_backup),
        cmocka_unit_test(backup__of_a_heap_file_that_cannot_be_written),
        cmocka_unit_test(power__cut_at_every_operation),
    };
    return cmocka_run_group_tests(tests, make_test_directory, remove_test_directory);
}
