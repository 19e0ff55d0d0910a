/* SPDX-License-Identifier: MIT */
/*
 * Scans and replays a log file of any content, beside a heap that fits it.
 *
 *   F1  the scan gives records that pass their check and follow one another, and ends
 *   F2  replay hands on only operations that lie inside the heap and behind the superblocks
 *   F3  if recovery succeeds, the heap file is what it was with those operations applied, as long as they say
 *   F4  if it refuses because of what it read, it has written nothing to the heap file
 *   F5  recovered once, the heap needs no recovery
 *   F6  fuzz/machine.h, M1 to M5
 *
 * Input: as fuzz/input.h says; where there is no heap image, one is made from the log's header, with the script's first
 * bytes for its size and state.
 */
#include "fuzz/machine.h"
#include "fuzz/reseal.h"
#include "recovery/store.h"

#include <stdlib.h>
#include <string.h>

#define MODEL_MAX_BYTES (UINT64_C(4) << 20)    /* larger heaps are not compared */
#define CHANGED_MAX_BYTES (UINT64_C(64) << 20) /* nor heaps that change more */

/* The heap as it must be after recovery. */
struct model {
    uint8_t *bytes; /* NULL: not compared */
    uint64_t length;
    uint64_t logical; /* heap_bytes as of the operations so far */
    uint64_t changed;
};

/* ------------------------------------------------------------------------------------------------- a heap that fits */

static void make_heap(struct fuzz_input *input)
{
    struct ph_log_header header;
    const uint8_t *sector = fuzz_image_sector(&input->log, 0);
    const uint8_t *script = input->script.data;
    uint8_t how[3] = {0};
    if (sector == NULL)
        return;
    memcpy(&header, sector, sizeof header);
    memcpy(how, script, input->script.length < sizeof how ? input->script.length : sizeof how);
    uint32_t pages = 3 + how[0] % 64u;
    struct ph_superblock s = {
        .byte_order = PH_BYTE_ORDER_MARK,
        .format_version = PH_FORMAT_VERSION,
        .page_bytes = PH_PAGE_BYTES,
        .state = how[1] % 4 == 0 ? PH_STATE_CLEAN : PH_STATE_OPEN,
        .generation = 4,
        .epoch = how[1] % 4 == 0 ? header.epoch - 1 : header.epoch,
        .checkpoint_lsn = header.start_lsn,
        .checkpoint_chain = header.start_chain,
        .checkpoint_version = header.start_version,
        .checkpoint_segment = header.start_segment,
        .heap_bytes = (uint64_t)pages * PH_PAGE_BYTES,
        .durable_lsn = how[2] == 1 ? header.start_lsn + 80 : header.start_lsn,
        .log_limit_bytes = (uint64_t)header.segment_bytes * 16,
        .segment_bytes = header.segment_bytes,
        .buffer_bytes = PH_BUFFER_MIN_BYTES,
        .file_mode = 0644,
    };
    memcpy(s.magic, PH_HEAP_MAGIC, sizeof s.magic);
    memcpy(s.identity, header.identity, sizeof s.identity);
    input->heap.sectors = pages * (PH_PAGE_BYTES / FUZZ_SECTOR_BYTES);
    for (unsigned copy = 0; copy < 2; copy++) {
        ph_superblock_seal(&s);
        memcpy(fuzz_image_touch(&input->heap, (uint32_t)(PH_SUPERBLOCK_OFFSET(s.copy) / FUZZ_SECTOR_BYTES)), &s,
               sizeof s);
        s.generation--;
    }
}

/* -------------------------------------------------------------------------------------------------------- the store */

static bool open_store(struct ph_store *store)
{
    bool other_damaged;
    const ph_io *io = fuzz_machine_io(0);
    *store = (struct ph_store){.io = io};
    ph_status status = ph_file_open(&store->heap, io, FUZZ_PATH, PH_OPEN_WRITE, 0);
    if (status == PH_OK)
        status = ph_superblock_read(&store->heap, &store->superblock, &other_damaged);
    if (status == PH_OK)
        status = ph_wal_init(&store->wal, io, FUZZ_PATH, &store->superblock);
    return status == PH_OK;
}

static void close_store(struct ph_store *store)
{
    ph_file_close(&store->heap);
    ph_wal_deinit(&store->wal);
}

/* The coordination file as it lies there; NULL if there is none of the right size. */
static struct ph_coord *read_coord(const struct ph_store *store)
{
    size_t size = (size_t)ph_coord_bytes(store->superblock.buffer_bytes);
    if (ph_sim_size(fuzz_machine_sim(), FUZZ_COORD_PATH) != (int64_t)size)
        return NULL;
    struct ph_coord *coord = aligned_alloc(4096, (size + 4095) & ~(size_t)4095);
    FUZZ_REQUIRE(coord != NULL);
    FUZZ_REQUIRE(ph_sim_peek(fuzz_machine_sim(), FUZZ_COORD_PATH, coord, size, 0) == (int64_t)size);
    return coord;
}

/* --------------------------------------------------------------------------------------------------------- scanning */

static void scan(struct ph_store *store, uint64_t segment, uint64_t offset, const struct ph_record_place *from)
{
    struct ph_scan scan;
    struct ph_scan_evidence evidence;
    const uint8_t *record;
    uint64_t lsn = 0, records = 0, most = FUZZ_LOG_FILE_MAX / sizeof(struct ph_record_header);
    if (ph_scan_init(&scan, &store->wal, segment, offset, from, false) != PH_OK)
        return;
    while (ph_scan_next(&scan, &record) == PH_OK) {
        struct ph_record_header header;
        struct ph_operation operation;
        uint32_t cursor = sizeof header;
        memcpy(&header, record, sizeof header);
        struct ph_record_place place = {header.heap_id, header.epoch, header.lsn, header.chain};
        FUZZ_REQUIRE(header.length <= store->wal.record_max && header.epoch == from->epoch);
        FUZZ_REQUIRE(header.heap_id == store->wal.heap_id && header.lsn >= from->lsn);
        FUZZ_REQUIRE(ph_record_check(record, header.length, &place) == PH_RECORD_GOOD);
        FUZZ_REQUIRE(records == 0 ? header.lsn == from->lsn : header.lsn == lsn); /* F1 */
        while (ph_record_next(record, &cursor, &operation))
            continue;
        lsn = header.lsn + header.length;
        FUZZ_REQUIRE(++records <= most && scan.position.place.lsn == lsn);
    }
    FUZZ_REQUIRE(ph_scan_evidence(&scan, segment, &evidence) == PH_OK);
    ph_scan_deinit(&scan);
}

/* -------------------------------------------------------------------------------------------------------- the model */

static void model_load(struct model *model, unsigned which, uint64_t logical)
{
    static uint8_t memory[2][MODEL_MAX_BYTES];
    int64_t size = ph_sim_size(fuzz_machine_sim(), FUZZ_PATH);
    *model = (struct model){.logical = logical};
    if (size < 0 || (uint64_t)size < logical || (uint64_t)size > MODEL_MAX_BYTES)
        return;
    model->length = (uint64_t)size;
    model->bytes = memory[which];
    (void)ph_sim_peek(fuzz_machine_sim(), FUZZ_PATH, model->bytes, (size_t)size, 0);
}

static void model_grow(struct model *model, uint64_t length)
{
    if (model->bytes == NULL || length <= model->length)
        return;
    if (length <= MODEL_MAX_BYTES)
        memset(model->bytes + model->length, 0, (size_t)(length - model->length));
    else
        model->bytes = NULL;
    model->length = length;
}

static ph_status model_apply(void *context, const struct ph_operation *operation)
{
    struct model *model = context;
    if (operation->kind == PH_OPERATION_GROW) {
        FUZZ_REQUIRE(operation->value >= model->logical && operation->value % PH_PAGE_BYTES == 0);
        model->logical = operation->value;
        model_grow(model, operation->value);
        return PH_OK;
    }
    FUZZ_REQUIRE(operation->offset >= 2 * PH_PAGE_BYTES && operation->length <= model->logical); /* F2 */
    FUZZ_REQUIRE(operation->offset <= model->logical - operation->length);
    model->changed += operation->length;
    if (model->changed > CHANGED_MAX_BYTES)
        model->bytes = NULL;
    for (uint64_t at = 0; at < operation->length && model->bytes != NULL; at += 8)
        memcpy(model->bytes + operation->offset + at,
               operation->kind == PH_OPERATION_WRITE ? operation->bytes + at : (const uint8_t *)&operation->value, 8);
    return PH_OK;
}

/* Whether the heap file is the model, superblocks aside if `replayed`. */
static bool model_fits(const struct model *model, bool replayed)
{
    static uint8_t bytes[65536];
    if (ph_sim_size(fuzz_machine_sim(), FUZZ_PATH) != (int64_t)model->length)
        return false;
    for (uint64_t at = replayed ? 2 * PH_PAGE_BYTES : 0; at < model->length; at += sizeof bytes) {
        uint64_t length = model->length - at < sizeof bytes ? model->length - at : sizeof bytes;
        (void)ph_sim_peek(fuzz_machine_sim(), FUZZ_PATH, bytes, (size_t)length, at);
        if (memcmp(bytes, model->bytes + at, (size_t)length) != 0)
            return false;
    }
    return true;
}

/* -------------------------------------------------------------------------------------------------------- replaying */

/* Scan and replay into the model what recovery will replay. */
static void rehearse(struct ph_store *store, struct ph_coord *coord, struct model *model)
{
    enum ph_log_condition condition;
    struct ph_log_header header;
    const struct ph_superblock *s = &store->superblock;
    if (ph_log_inspect(&store->wal, false, &condition, &header) != PH_OK || condition != PH_LOG_OWN)
        return;
    enum ph_plan plan = ph_classify((enum ph_superblock_state)s->state, false, ph_classify_log(s, condition, &header));
    if (plan != PH_PLAN_REPLAY_CHECKPOINT && plan != PH_PLAN_REPLAY_START)
        return;
    const struct ph_log_origin origin = ph_plan_origin(plan, s, &header);
    struct ph_record_place place = {store->wal.heap_id, origin.epoch, origin.from.lsn, origin.from.chain};
    scan(store, origin.segment, origin.offset, &place);
    struct ph_replay replay;
    store->wal.coord = coord;
    if (ph_replay_init_recovery(&replay, &store->wal, &origin) == PH_OK) {
        (void)!ph_replay_run(&replay, model_apply, model);
        ph_replay_deinit(&replay);
    }
    store->wal.coord = NULL;
}

/* What recovery says of the files, before it writes anything. */
static bool refused(ph_status status)
{
    return status == PH_CORRUPT || status == PH_LOG_FOREIGN || status == PH_LOG_MISSING || status == PH_NEWER ||
           status == PH_BYTE_ORDER;
}

/* Open the store anew and recover; a status other than those of opening it. */
static ph_status recover(struct ph_coord *coord, bool *recovered)
{
    struct ph_store store;
    ph_status status = PH_CORRUPT;
    *recovered = false;
    if (open_store(&store)) {
        status = ph_store_recover(&store, coord, false);
        *recovered = store.recovered;
    }
    close_store(&store);
    return status;
}

static void run(void)
{
    struct ph_store store;
    struct model before, after;
    struct ph_coord *coord = NULL;
    bool recovered;
    if (!open_store(&store)) {
        close_store(&store);
        return;
    }
    coord = read_coord(&store);
    model_load(&before, 0, store.superblock.heap_bytes);
    model_load(&after, 1, store.superblock.heap_bytes);
    rehearse(&store, coord, &after);
    close_store(&store);
    ph_status status = recover(coord, &recovered);
    if (status == PH_OK && recovered && after.bytes != NULL)
        FUZZ_REQUIRE(model_fits(&after, true)); /* F3 */
    if ((refused(status) || (status == PH_OK && !recovered)) && before.bytes != NULL)
        FUZZ_REQUIRE(model_fits(&before, false)); /* F4 */
    if (status == PH_OK) {
        FUZZ_REQUIRE(recover(NULL, &recovered) == PH_OK && !recovered); /* F5 */
    }
    free(coord);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct fuzz_input input;
    if (size > FUZZ_INPUT_MAX)
        return -1;
    fuzz_input_parse(&input, data, size);
    if (input.heap.sectors == 0)
        make_heap(&input);
    fuzz_machine_start(&input);
    run();
    fuzz_machine_stop();
    fuzz_input_deinit(&input);
    return 0;
}
