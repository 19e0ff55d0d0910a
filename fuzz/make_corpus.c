/* SPDX-License-Identifier: MIT */
/*
 * Makes seeds for the fuzz targets, always the same: what small programs leave on a simulated disk, after a clean close,
 * after the death of the program, and after power cuts at many places; records by the encoder; and archives.
 *
 *   make_corpus DIRECTORY      writes DIRECTORY/TARGET/seed-...
 */
#include "fuzz/input.h"
#include "fuzz/machine.h"
#include "pheap/core.h"
#include "tests/support/dice.h"
#include "wal/record.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <zstd.h>

#define SEGMENT_BYTES 16384u
#define PROGRAMS 10u
#define CUTS 4u /* power cuts of each program */
#define SCRIPT_BYTES 160u
#define ARCHIVE_CONTENT_MAX 16384u
#define LARGE_BYTES (UINT64_C(20) << 20)

static const char *directory;
static uint64_t dice;

static uint64_t roll(uint64_t limit)
{
    return dice_roll(&dice) % limit;
}

static void must(enum pheap_status status)
{
    if (status != PHEAP_OK) {
        (void)fprintf(stderr, "make_corpus: %s: %s\n", pheap_status_text(status), pheap_error_detail());
        exit(1);
    }
}

/* ---------------------------------------------------------------------------------------------------------- files */

static void write_file(const char *target, const char *name, const uint8_t *data, size_t size)
{
    char path[4096];
    (void)snprintf(path, sizeof path, "%s/%s/%s", directory, target, name);
    FILE *file = fopen(path, "wb");
    if (file == NULL || fwrite(data, 1, size, file) != size || fclose(file) != 0) {
        perror(path);
        exit(1);
    }
}

static void write_input(const char *target, const char *name, const struct fuzz_input *input)
{
    static uint8_t data[FUZZ_INPUT_MAX];
    size_t size = fuzz_input_write(input, data, sizeof data);
    if (size == 0)
        (void)fprintf(stderr, "make_corpus: %s is too large and left out\n", name);
    else
        write_file(target, name, data, size);
}

/* -------------------------------------------------------------------------------------------------- what a disk holds */

static void take_file(struct ph_sim *sim, const char *path, struct fuzz_image *image)
{
    int64_t size = ph_sim_size(sim, path);
    if (size <= 0)
        return;
    uint8_t *bytes = fuzz_memory(NULL, (size_t)size);
    (void)ph_sim_peek(sim, path, bytes, (size_t)size, 0);
    fuzz_image_from_bytes(image, bytes, (size_t)size);
    free(bytes);
}

/* The records in the shared buffer that are not in the log. */
static void take_ring(struct ph_sim *sim, struct fuzz_bytes *ring)
{
    int64_t size = ph_sim_size(sim, FUZZ_COORD_PATH);
    if (size < (int64_t)sizeof(struct ph_coord))
        return;
    struct ph_coord *coord = aligned_alloc(64, ((size_t)size + 63) / 64 * 64);
    (void)ph_sim_peek(sim, FUZZ_COORD_PATH, coord, (size_t)size, 0);
    uint64_t from = coord->durable, to = coord->committed;
    uint8_t bytes[8 + SEGMENT_BYTES];
    if (from < to && to - from <= coord->buffer_bytes && coord->buffer_bytes == SEGMENT_BYTES) {
        memcpy(bytes, &from, 8);
        for (uint64_t at = from; at < to; at++)
            bytes[8 + at - from] = ph_coord_buffer(coord)[at & (coord->buffer_bytes - 1)];
        fuzz_bytes_set(ring, bytes, (size_t)(8 + to - from));
    }
    free(coord);
}

/* Mostly what a program would do, here and there anything. */
static size_t make_script(uint8_t *script)
{
    static const uint8_t usual[] = {
        0, /* how it is opened */
        FUZZ_BEGIN,
        FUZZ_LOOK,
        0,
        FUZZ_LOOK + 2,
        0,
        FUZZ_LOOK + 3,
        FUZZ_LOOK + 4,
        FUZZ_LOOK + 1,
        FUZZ_CHANGE + 0,
        0,
        40, /* allocate */
        FUZZ_CHANGE + 1,
        4,
        9, /* a large block of zeros */
        FUZZ_CHANGE + 6,
        1,
        0,
        0,
        20,
        1,
        2,
        3,
        4,
        FUZZ_CHANGE + 3,
        2,
        FUZZ_CHANGE + 9,
        FUZZ_CHANGE + 3,
        0,
        FUZZ_CHANGE + 5,
        1,
        4,
        3,
        FUZZ_CHANGE + 10,
        0,
        FUZZ_CHANGE + 11,
        1,
        FUZZ_END + 1,
        FUZZ_MAINTAIN + 2,
        FUZZ_MAINTAIN + 5,
    };
    size_t length = sizeof usual;
    memcpy(script, usual, length);
    while (length < SCRIPT_BYTES) {
        uint64_t kind = roll(10);
        script[length++] = (uint8_t)(kind < 5   ? FUZZ_CHANGE + roll(FUZZ_BEGIN)
                                     : kind < 6 ? FUZZ_BEGIN + roll(FUZZ_LOOK - FUZZ_BEGIN)
                                     : kind < 8 ? FUZZ_LOOK + roll(FUZZ_MAINTAIN - FUZZ_LOOK)
                                     : kind < 9 ? FUZZ_MAINTAIN + roll(FUZZ_DISTURB - FUZZ_MAINTAIN)
                                                : FUZZ_DISTURB + roll(24));
        for (uint64_t arguments = roll(4); arguments > 0 && length < SCRIPT_BYTES; arguments--)
            script[length++] = (uint8_t)roll(256);
    }
    return length;
}

/* Both superblocks and the log's header, as they are. */
static void write_superblocks(const char *name, const struct fuzz_input *input)
{
    uint8_t data[3 + 3 * FUZZ_SECTOR_BYTES] = {0, 12, 15};
    const uint8_t *const sectors[] = {fuzz_image_sector(&input->heap, 0),
                                      fuzz_image_sector(&input->heap, PH_PAGE_BYTES / FUZZ_SECTOR_BYTES),
                                      fuzz_image_sector(&input->log, 0)};
    for (size_t i = 0; i < sizeof sectors / sizeof sectors[0]; i++)
        if (sectors[i] != NULL)
            memcpy(data + 3 + i * FUZZ_SECTOR_BYTES, sectors[i], FUZZ_SECTOR_BYTES);
    write_file("fuzz_superblock", name, data, sizeof data);
}

/* The heap with two bytes before it, which choose the command. */
static void write_command(const char *name, const struct fuzz_input *input, unsigned number)
{
    static uint8_t data[2 + FUZZ_INPUT_MAX];
    data[0] = (uint8_t)number;
    data[1] = (uint8_t)(number / 2);
    size_t size = fuzz_input_write(input, data + 2, sizeof data - 4);
    if (size > 0)
        write_file("fuzz_command", name, data, 2 + size);
}

/* The files as inputs of all targets that take files. */
static void take_disk(struct ph_sim *sim, unsigned program, const char *what, unsigned number)
{
    struct fuzz_input input = {0};
    uint8_t script[SCRIPT_BYTES];
    char name[64];
    (void)snprintf(name, sizeof name, "seed-%u-%s-%u", program, what, number);
    take_file(sim, FUZZ_PATH, &input.heap);
    take_file(sim, FUZZ_LOG_PATH, &input.log);
    take_ring(sim, &input.ring);
    if (input.heap.sectors > 0 && input.log.sectors > 0) {
        write_input("fuzz_log", name, &input);
        struct fuzz_input bare = {.log = input.log, .script = {(uint8_t[]){14, 1, 0}, 3}};
        (void)snprintf(name, sizeof name, "seed-%u-%s-%u-bare", program, what, number);
        write_input("fuzz_log", name, &bare);
    }
    (void)snprintf(name, sizeof name, "seed-%u-%s-%u", program, what, number);
    write_superblocks(name, &input);
    write_command(name, &input, program + number);
    fuzz_bytes_set(&input.script, script, make_script(script));
    if (strcmp(what, "closed") == 0) {
        struct fuzz_input bare = {.heap = input.heap, .script = input.script};
        write_input("fuzz_allocator", name, &bare);
    }
    write_input("fuzz_open", name, &input);
    fuzz_input_deinit(&input);
}

/* ------------------------------------------------------------------------------------------------------- programs */

struct program {
    struct ph_sim *sim;
    pheap *heap;
    uint64_t blocks[64];
    unsigned count;
};

static void open_heap(struct program *program, unsigned flags)
{
    struct pheap_options options = {
        .size = sizeof options,
        .reserve_bytes = UINT64_C(64) << 20,
        .log_limit_bytes = 6 * SEGMENT_BYTES,
        .segment_bytes = SEGMENT_BYTES,
        .buffer_bytes = SEGMENT_BYTES,
    };
    must((enum pheap_status)ph_open_io(ph_sim_io(program->sim), FUZZ_PATH, flags, &options, &program->heap));
}

static void allocate(struct program *program, pheap_txn *txn, uint64_t length)
{
    uint64_t offset;
    if (program->count == sizeof program->blocks / sizeof program->blocks[0])
        return;
    must(pheap_zalloc(txn, length, &offset));
    memset(pheap_ptr(txn, offset), (int)(1 + program->count), 8);
    program->blocks[program->count++] = offset;
}

static void release(struct program *program, pheap_txn *txn)
{
    if (program->count == 0)
        return;
    unsigned i = (unsigned)roll(program->count);
    if (i == 0)
        return; /* the first may be very large: were it used again, all of it would be in the log */
    must(pheap_free(txn, program->blocks[i]));
    program->blocks[i] = program->blocks[--program->count];
}

static void change(struct program *program, pheap_txn *txn)
{
    void *address;
    if (program->count == 0)
        return;
    uint64_t offset = program->blocks[roll(program->count)];
    must(pheap_edit(txn, offset, 8, &address));
    memset(address, (int)roll(256), 8);
    must(pheap_set_root(txn, offset));
}

/* A length that suits the program: small, mixed, pages, or so large that the page table grows. */
static uint64_t choose_length(const struct program *program, unsigned number)
{
    switch (number % 5) {
    case 0:
        return roll(2) == 0 ? 1 + roll(64) : 24000 + roll(8000); /* of which few fit in a slab */
    case 1:
        return UINT64_C(16) << roll(9);
    case 2:
        return 4096 * (9 + roll(40));
    case 3:
        return program->count == 0 ? LARGE_BYTES : 4096 * (9 + roll(40));
    default:
        return roll(2) == 0 ? 1 + roll(5000) : 33000 + roll(100000);
    }
}

static void transact(struct program *program, unsigned number)
{
    pheap_txn *txn;
    uint32_t savepoint;
    must(pheap_begin(program->heap, &txn));
    for (uint64_t left = 1 + roll(4); left > 0; left--) {
        uint64_t kind = roll(8);
        if (kind < 4)
            allocate(program, txn, choose_length(program, number));
        else if (kind < 6)
            release(program, txn);
        else
            change(program, txn);
    }
    if (roll(4) == 0) {
        uint64_t offset;
        must(pheap_savepoint(txn, &savepoint));
        must(pheap_alloc(txn, 1 + roll(9000), &offset));
        must(pheap_rollback(txn, savepoint));
    }
    must(pheap_commit(txn, roll(3) == 0 ? PHEAP_LAZY : PHEAP_DURABLE, NULL));
}

/* One transaction that takes several records. */
static void transact_much(struct program *program)
{
    uint64_t offset;
    pheap_txn *txn;
    must(pheap_begin(program->heap, &txn));
    must(pheap_alloc(txn, 10000, &offset));
    uint8_t *bytes = pheap_ptr(txn, offset);
    for (unsigned i = 0; i < 10000; i++)
        bytes[i] = (uint8_t)(i / 64 * 7 + i % 8);
    must(pheap_commit(txn, PHEAP_DURABLE, NULL));
}

static void run_program(struct program *program, unsigned number)
{
    unsigned transactions = 3 + 2 * number;
    for (unsigned i = 0; i < transactions; i++) {
        transact(program, number);
        if (number % 3 == 1 && i == transactions / 2)
            transact_much(program);
        if (number % 4 == 2 && i == transactions / 2)
            must(pheap_checkpoint(program->heap));
        if (number % 5 == 4 && i == transactions / 2)
            must(pheap_fold(program->heap));
    }
}

static void cut_power(struct ph_sim *sim, unsigned number)
{
    struct ph_sim *image = ph_sim_new(&(struct ph_sim_options){.seed = number, .no_journal = true});
    struct ph_sim_choice choice = {0};
    uint64_t length = ph_sim_journal_length(sim);
    for (unsigned i = 0; i < CUTS; i++) {
        struct ph_sim_cut *cut = ph_sim_cut_new(sim);
        uint64_t target = length / 8 + (length - length / 8) * (i + 1) / (CUTS + 1);
        while (ph_sim_cut_position(cut) < target && ph_sim_cut_next(cut))
            continue;
        ph_sim_cut_sample(cut, 2 + i, number + i, &choice);
        ph_sim_cut_image(cut, &choice, number + i, image);
        (void)ph_sim_remove(image, FUZZ_COORD_PATH);
        take_disk(image, number, "cut", i);
        ph_sim_cut_free(cut);
    }
    ph_sim_choice_deinit(&choice);
    ph_sim_free(image);
}

static void make_disks(unsigned number)
{
    struct program program = {.sim = ph_sim_new(&(struct ph_sim_options){.seed = number, .touched = true})};
    dice = number;
    open_heap(&program, PHEAP_CREATE);
    run_program(&program, number);
    take_disk(program.sim, number, "killed", 0);
    must(pheap_close(program.heap));
    take_disk(program.sim, number, "closed", 0);
    cut_power(program.sim, number);
    ph_core_forget_mappings(ph_sim_io(program.sim));
    ph_sim_free(program.sim);
}

/* -------------------------------------------------------------------------------------------------------- records */

static void make_record(unsigned number)
{
    struct ph_record_builder builder = {.io = ph_io_posix(), .record_max = 4096};
    struct ph_record_place place = {.heap_id = 1, .epoch = 2, .lsn = 4096, .chain = 3};
    uint64_t words[300];
    uint8_t data[1 + 4096];
    char name[32];
    for (size_t i = 0; i < sizeof words / sizeof words[0]; i++)
        words[i] = number % 2 == 0 ? i : i / 40;
    for (unsigned i = 0; i <= number; i++) {
        const uint8_t *bytes = (const uint8_t *)words;
        if (i % 4 == 3)
            must((enum pheap_status)ph_record_add_grow(&builder, 65536 * (UINT64_C(1) + i)));
        else
            must((enum pheap_status)ph_record_add_write(&builder, 8192 + 4096 * (uint64_t)i, bytes + 8 * (uint64_t)i,
                                                        8 * (1 + roll(200))));
    }
    ph_record_builder_finish(&builder, 7);
    ph_record_seal(builder.bytes, &place, 4096);
    data[0] = (uint8_t)number;
    memcpy(data + 1, builder.bytes, ph_record_length(builder.bytes));
    (void)snprintf(name, sizeof name, "seed-%u", number);
    write_file("fuzz_record", name, data, 1 + ph_record_length(builder.bytes));
    ph_record_builder_deinit(&builder);
}

/* ------------------------------------------------------------------------------------------------------- archives */

struct collector {
    struct program *program;
    unsigned number;
    bool changed;
    uint8_t data[1 << 20];
    size_t length;
};

/* While it is backed up, some heaps change. */
static int collect(void *context, const void *bytes, size_t length)
{
    struct collector *collector = context;
    if (!collector->changed && collector->number % 2 == 1)
        transact(collector->program, collector->number);
    collector->changed = true;
    if (length > sizeof collector->data - collector->length)
        return -1;
    memcpy(collector->data + collector->length, bytes, length);
    collector->length += length;
    return 0;
}

/* An archive as it is, and its header with the beginning of its content. */
static void make_archive(unsigned number)
{
    static struct collector collector;
    static uint8_t input[1 + (1 << 20)], content[8 << 20];
    struct program program = {.sim = ph_sim_new(&(struct ph_sim_options){.seed = number, .touched = true})};
    char name[32];
    dice = number;
    open_heap(&program, PHEAP_CREATE);
    for (unsigned i = 0; i < 2; i++)
        transact(&program, number);
    collector = (struct collector){.program = &program, .number = number, .length = 0};
    must(pheap_backup_to(program.heap, collect, &collector, NULL, NULL));
    must(pheap_close(program.heap));
    input[0] = 0;
    memcpy(input + 1, collector.data, collector.length);
    (void)snprintf(name, sizeof name, "seed-%u", number);
    write_file("fuzz_archive", name, input, 1 + collector.length);
    uint8_t *command = fuzz_memory(NULL, 2 + collector.length);
    command[0] = 4; /* restore */
    command[1] = (uint8_t)number;
    memcpy(command + 2, collector.data, collector.length);
    write_file("fuzz_command", name, command, 2 + collector.length);
    free(command);
    size_t head = sizeof(struct ph_archive_header), foot = sizeof(struct ph_archive_footer);
    size_t length = ZSTD_decompress(content, sizeof content, collector.data + head, collector.length - head - foot);
    if (!ZSTD_isError(length) && length <= ARCHIVE_CONTENT_MAX) {
        input[0] = 1;
        memcpy(input + 1 + head, content, length);
        (void)snprintf(name, sizeof name, "seed-%u-content", number);
        write_file("fuzz_archive", name, input, 1 + head + length);
    }
    ph_core_forget_mappings(ph_sim_io(program.sim));
    ph_sim_free(program.sim);
}

/* ----------------------------------------------------------------------------------------------------------- XML */

static void make_documents(void)
{
    static const char *const documents[] = {
        "<a/>",
        "<a b=\"&#13;&#9;&lt;\">&#13;&#10;&amp;</a>",
        "<?xml version=\"1.0\" standalone=\"yes\"?>\n<!-- c --><a b=\"&lt;&#10;\">t</a>",
        "<a>t<b>u</b>v<?p i?><![CDATA[<&]]></a>\n<!-- d -->",
        "<!DOCTYPE a SYSTEM \"x\" [<!ENTITY e \"f\"><!ATTLIST a c CDATA \"d\">]><a>&e;<b c='1'/>&f;</a>",
    };
    char name[32];
    for (unsigned i = 0; i < sizeof documents / sizeof documents[0]; i++) {
        (void)snprintf(name, sizeof name, "seed-%u", i);
        write_file("fuzz_import", name, (const uint8_t *)documents[i], strlen(documents[i]));
    }
}

int main(int argc, char **argv)
{
    static const char *const targets[] = {"fuzz_open",       "fuzz_log",       "fuzz_record",  "fuzz_archive",
                                          "fuzz_superblock", "fuzz_allocator", "fuzz_command", "fuzz_import"};
    if (argc != 2) {
        (void)fprintf(stderr, "usage: make_corpus DIRECTORY\n");
        return 2;
    }
    directory = argv[1];
    (void)mkdir(directory, 0777);
    for (size_t i = 0; i < sizeof targets / sizeof targets[0]; i++) {
        char path[4096];
        (void)snprintf(path, sizeof path, "%s/%s", directory, targets[i]);
        (void)mkdir(path, 0777);
    }
    for (unsigned number = 0; number < PROGRAMS; number++)
        make_disks(number);
    make_documents();
    dice = 0;
    for (unsigned number = 0; number < 8; number++)
        make_record(number);
    for (unsigned number = 0; number < 8; number++)
        make_archive(number);
    return 0;
}
