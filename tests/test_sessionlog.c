/* SPDX-License-Identifier: MIT */
/*
 * The library part of examples/sessionlog: records of any length, acknowledgement in the caller's transaction, leases,
 * limits, damage; and processes that are killed at random while they append and listen.
 *
 * The storm.  Producers append numbered records and note the number in the same transaction; listeners keep the last
 * number they have seen of each producer in the heap, and change it in the transaction that acknowledges.  A listener
 * demands that the next record of a producer carries the next number and the bytes that belong to it.  So a record that
 * is lost, seen twice, out of order or torn fails at once, in whatever process.  What commits have returned is also
 * noted in memory that outlives the killed.
 */
#include "tests/public.h"
#include "tests/support/dice.h"

#include <stdatomic.h>

#include "examples/sessionlog/layout.h"

#define HOUR_MS UINT64_C(3600000)
#define LARGE (UINT64_C(8) << 20)

#define log_ok(call) log_expect(SESSIONLOG_OK, call)
#define log_expect(wanted, call) check_log_status(__FILE__, __LINE__, #call, wanted, call)
static void check_log_status(const char *file, int line, const char *call, enum sessionlog_status wanted,
                             enum sessionlog_status got)
{
    if (got != wanted)
        check_failed(file, line, "%s: %d expected, got %d (%s)", call, (int)wanted, (int)got, sessionlog_detail());
}

static uint64_t mix(uint64_t a, uint64_t b)
{
    return dice_mix(a * 0x9e3779b97f4a7c15u + b * 0xd1342543de82ef95u);
}

/* ------------------------------------------------------------------------------------------------------- one process */

static uint64_t make_log(pheap *heap, uint64_t limit_bytes)
{
    uint64_t log;
    pheap_txn *txn = begin(heap);
    log_ok(sessionlog_create(txn, limit_bytes, &log));
    ok(pheap_set_root(txn, log));
    ok(pheap_commit(txn, PHEAP_LAZY, NULL));
    return log;
}

static pheap *make_heap(const char *name)
{
    const struct pheap_options options = {.size = sizeof options, .reserve_bytes = 1u << 30};
    pheap *heap;
    ok(pheap_open(path_of(name, ""), PHEAP_CREATE | PHEAP_EXCLUSIVE, &options, &heap));
    return heap;
}

static struct sessionlog_listener listener_make(pheap *heap, uint64_t log, const char *name, uint64_t lease_ms,
                                                enum sessionlog_from from, uint64_t first)
{
    struct sessionlog_listener listener;
    uint64_t next;
    pheap_txn *txn = begin(heap);
    log_ok(sessionlog_register(txn, log, name, lease_ms, from, &listener, &next));
    require_equal(next, first);
    ok(pheap_commit(txn, PHEAP_LAZY, NULL));
    return listener;
}

static uint64_t append(pheap *heap, uint64_t log, const void *bytes, uint64_t length)
{
    uint64_t sequence;
    pheap_txn *txn = begin(heap);
    log_ok(sessionlog_append(txn, log, bytes, length, &sequence));
    ok(pheap_commit(txn, PHEAP_LAZY, NULL));
    return sequence;
}

/* Append `count` records of `length` bytes. */
static void append_many(pheap *heap, uint64_t log, uint64_t count, uint64_t length)
{
    char bytes[4096] = {0};
    require(length <= sizeof bytes);
    for (uint64_t i = 0; i < count; i++)
        (void)append(heap, log, bytes, length);
}

static void acknowledge(pheap *heap, const struct sessionlog_listener *listener, uint64_t sequence)
{
    pheap_txn *txn = begin(heap);
    log_ok(sessionlog_acknowledge(txn, listener, sequence));
    ok(pheap_commit(txn, PHEAP_LAZY, NULL));
}

/* Call one function in a transaction; what it has done is committed if it is OK. */
#define in_transaction(heap, wanted, call)                                                      \
    do {                                                                                        \
        pheap_txn *txn = begin(heap);                                                           \
        log_expect(wanted, call);                                                               \
        ok((wanted) == SESSIONLOG_OK ? pheap_commit(txn, PHEAP_LAZY, NULL) : pheap_abort(txn)); \
    } while (0)

static struct sessionlog_stats stats_of(pheap *heap, uint64_t log)
{
    struct sessionlog_stats stats;
    pheap_read *read = read_begin(heap, PHEAP_FRESH);
    log_ok(sessionlog_stat(read, log, &stats));
    log_ok(sessionlog_check(read, log));
    pheap_read_end(read);
    return stats;
}

static uint64_t live_blocks(pheap *heap)
{
    struct pheap_space space = {.size = sizeof space};
    pheap_read *read = read_begin(heap, PHEAP_FRESH);
    ok(pheap_get_space(read, &space, NULL, NULL));
    pheap_read_end(read);
    return space.live_blocks;
}

/* The first record that is not acknowledged, and no other thing, is `sequence`. */
static void require_first(pheap *heap, const struct sessionlog_listener *listener, uint64_t sequence)
{
    struct sessionlog_batch batch;
    struct sessionlog_record record;
    log_ok(sessionlog_batch_begin(heap, listener, 0, &batch));
    log_ok(sessionlog_batch_next(&batch, &record));
    require_equal(record.sequence, sequence);
    sessionlog_batch_end(&batch);
}

static void require_nothing(pheap *heap, const struct sessionlog_listener *listener)
{
    struct sessionlog_batch batch;
    log_expect(SESSIONLOG_END, sessionlog_batch_begin(heap, listener, 0, &batch));
}

/* Catches a record cut, shifted or padded, and space that is not given back. */
static void sizes__any_length_comes_back_whole(void **state)
{
    (void)state;
    static const uint64_t lengths[] = {0, 1, 100, LARGE, 15, 16, 17, 0, SESSIONLOG_CHUNK_BYTES / 2 - 16, LARGE, 100};
    const unsigned count = sizeof lengths / sizeof *lengths;
    pheap *heap = make_heap("sizes");
    const uint64_t log = make_log(heap, 0);
    const struct sessionlog_listener listener = listener_make(heap, log, "a", HOUR_MS, SESSIONLOG_OLDEST, 1);
    uint8_t *bytes = malloc(LARGE + 64);
    struct sessionlog_batch batch;
    struct sessionlog_record record;
    require(bytes != NULL);
    for (uint64_t i = 0; i < LARGE + 64; i++)
        bytes[i] = (uint8_t)mix(i, 7);
    for (unsigned round = 0; round < 3; round++) {
        for (unsigned i = 0; i < count; i++)
            require_equal(append(heap, log, bytes + i, lengths[i]), round * count + i + 1);
        log_ok(sessionlog_batch_begin(heap, &listener, 0, &batch));
        for (unsigned i = 0; i < count; i++) {
            log_ok(sessionlog_batch_next(&batch, &record));
            require_equal(record.sequence, round * count + i + 1);
            require_equal(record.length, lengths[i]);
            require_equal((uintptr_t)record.bytes % 16, 0);
            require(memcmp(record.bytes, bytes + i, lengths[i]) == 0);
        }
        log_expect(SESSIONLOG_END, sessionlog_batch_next(&batch, &record));
        sessionlog_batch_end(&batch);
        require_equal(stats_of(heap, log).next, (round + 1) * count + 1);
        acknowledge(heap, &listener, record.sequence);
        require_nothing(heap, &listener);
        require(stats_of(heap, log).chunks <= 1);
        require_equal(live_blocks(heap), 2 + stats_of(heap, log).chunks);
    }
    free(bytes);
    check_sound(heap);
    ok(pheap_close(heap));
}

/* Catches an oversized last chunk that is kept: then nothing would be left to begin the next record in. */
static void trim__a_log_read_to_its_end_is_almost_nothing(void **state)
{
    (void)state;
    pheap *heap = make_heap("trim");
    const uint64_t log = make_log(heap, 0);
    const struct sessionlog_listener a = listener_make(heap, log, "a", HOUR_MS, SESSIONLOG_OLDEST, 1);
    const struct sessionlog_listener b = listener_make(heap, log, "b", HOUR_MS, SESSIONLOG_NOW, 1);
    char *large = calloc(1, LARGE);
    require(large != NULL);
    require_equal(append(heap, log, large, LARGE), 1);
    acknowledge(heap, &a, 1);
    require_equal(stats_of(heap, log).chunks, 1);
    acknowledge(heap, &b, 1);
    require_equal(stats_of(heap, log).chunks, 0);
    /* Both have their place at the beginning of what comes next, in any order of acknowledging. */
    append_many(heap, log, 400, 1000);
    acknowledge(heap, &b, 300);
    require_first(heap, &a, 2);
    require_first(heap, &b, 301);
    require_equal(stats_of(heap, log).oldest, 2);
    acknowledge(heap, &a, 401);
    require(stats_of(heap, log).oldest > 2);
    acknowledge(heap, &b, 401);
    require_equal(stats_of(heap, log).chunks, 1);
    in_transaction(heap, SESSIONLOG_INVALID, sessionlog_acknowledge(txn, &a, 402));
    free(large);
    ok(pheap_close(heap));
}

/* Catches an acknowledgement that is not part of the transaction, or one that can go back. */
static void acknowledge__is_part_of_the_callers_transaction(void **state)
{
    (void)state;
    pheap *heap = make_heap("part");
    const uint64_t log = make_log(heap, 0);
    const struct sessionlog_listener listener = listener_make(heap, log, "a", HOUR_MS, SESSIONLOG_OLDEST, 1);
    append_many(heap, log, 1000, 500);
    pheap_txn *txn = begin(heap);
    log_ok(sessionlog_acknowledge(txn, &listener, 900));
    ok(pheap_abort(txn));
    require_first(heap, &listener, 1);
    require_equal(stats_of(heap, log).oldest, 1);
    acknowledge(heap, &listener, 900);
    require_first(heap, &listener, 901);
    acknowledge(heap, &listener, 17);
    require_first(heap, &listener, 901);
    require(stats_of(heap, log).oldest > 600);
    ok(pheap_close(heap));
}

/* Catches two processes that both believe to be one listener. */
static void register__resumes_and_shuts_out_the_one_before(void **state)
{
    (void)state;
    pheap *heap = make_heap("again");
    const uint64_t log = make_log(heap, 0);
    struct sessionlog_batch batch;
    append_many(heap, log, 10, 10);
    const struct sessionlog_listener first = listener_make(heap, log, "a", HOUR_MS, SESSIONLOG_OLDEST, 1);
    acknowledge(heap, &first, 4);
    const struct sessionlog_listener second = listener_make(heap, log, "a", HOUR_MS, SESSIONLOG_NOW, 5);
    require_equal(stats_of(heap, log).listeners, 1);
    log_expect(SESSIONLOG_TAKEN, sessionlog_batch_begin(heap, &first, 0, &batch));
    in_transaction(heap, SESSIONLOG_TAKEN, sessionlog_acknowledge(txn, &first, 5));
    in_transaction(heap, SESSIONLOG_TAKEN, sessionlog_renew(txn, &first));
    in_transaction(heap, SESSIONLOG_TAKEN, sessionlog_unregister(txn, &first));
    require_first(heap, &second, 5);
    (void)listener_make(heap, log, "b", HOUR_MS, SESSIONLOG_NOW, 11);
    (void)listener_make(heap, log, "c", HOUR_MS, SESSIONLOG_OLDEST, 1);
    in_transaction(heap, SESSIONLOG_OK, sessionlog_unregister(txn, &second));
    in_transaction(heap, SESSIONLOG_EXPIRED, sessionlog_acknowledge(txn, &second, 5));
    require_equal(stats_of(heap, log).listeners, 2);
    ok(pheap_close(heap));
}

static void register__wrong_arguments(void **state)
{
    (void)state;
    char name[SESSIONLOG_NAME_BYTES + 1];
    struct sessionlog_listener listener;
    uint64_t log;
    pheap *heap = make_heap("wrong");
    memset(name, 'n', sizeof name);
    name[SESSIONLOG_NAME_BYTES] = 0;
    in_transaction(heap, SESSIONLOG_INVALID, sessionlog_create(txn, 1, &log));
    log = make_log(heap, 0);
    in_transaction(heap, SESSIONLOG_INVALID, sessionlog_register(txn, log, "", 1, SESSIONLOG_NOW, &listener, NULL));
    in_transaction(heap, SESSIONLOG_INVALID, sessionlog_register(txn, log, name, 1, SESSIONLOG_NOW, &listener, NULL));
    in_transaction(heap, SESSIONLOG_INVALID, sessionlog_register(txn, log, "a", 0, SESSIONLOG_NOW, &listener, NULL));
    in_transaction(heap, SESSIONLOG_INVALID, sessionlog_append(txn, log, name, SESSIONLOG_RECORD_MAX + 1, NULL));
    in_transaction(heap, SESSIONLOG_DAMAGED, sessionlog_append(txn, log + 16, name, 1, NULL));
    require_equal(stats_of(heap, log).listeners, 0);
    name[SESSIONLOG_NAME_BYTES - 1] = 0;
    (void)listener_make(heap, log, name, SESSIONLOG_LEASE_MAX_MS, SESSIONLOG_NOW, 1);
    ok(pheap_close(heap));
}

/* Catches a dead listener that holds records for ever, and one that lives being thrown out with it. */
static void lease__of_a_dead_listener_runs_out(void **state)
{
    (void)state;
    pheap *heap = make_heap("lease");
    const uint64_t log = make_log(heap, 0);
    const struct sessionlog_listener alive = listener_make(heap, log, "alive", HOUR_MS, SESSIONLOG_OLDEST, 1);
    (void)listener_make(heap, log, "dead", HOUR_MS, SESSIONLOG_OLDEST, 1);
    append_many(heap, log, 1000, 1000);
    acknowledge(heap, &alive, 1000);
    require(stats_of(heap, log).chunks >= 8);
    const struct sessionlog_listener dead = listener_make(heap, log, "dead", 1, SESSIONLOG_OLDEST, 1);
    pause_us(5000);
    in_transaction(heap, SESSIONLOG_OK, sessionlog_renew(txn, &alive));
    require_equal(stats_of(heap, log).listeners, 1);
    require_equal(stats_of(heap, log).expired, 1);
    require_equal(stats_of(heap, log).chunks, 1);
    in_transaction(heap, SESSIONLOG_EXPIRED, sessionlog_acknowledge(txn, &dead, 1));
    in_transaction(heap, SESSIONLOG_EXPIRED, sessionlog_renew(txn, &dead));
    /* Producers alone remove it too, before they take more space. */
    (void)listener_make(heap, log, "dead", 1, SESSIONLOG_NOW, 1001);
    pause_us(5000);
    append_many(heap, log, 200, 1000);
    require_equal(stats_of(heap, log).expired, 2);
    ok(pheap_close(heap));
}

/* One that is late, but that nobody has removed, goes on. */
static void lease__late_is_not_dead(void **state)
{
    (void)state;
    pheap *heap = make_heap("late");
    const uint64_t log = make_log(heap, 0);
    const struct sessionlog_listener late = listener_make(heap, log, "late", 1, SESSIONLOG_OLDEST, 1);
    append_many(heap, log, 10, 10);
    pause_us(5000);
    acknowledge(heap, &late, 5);
    require_first(heap, &late, 6);
    ok(pheap_close(heap));
}

/* Catches leases judged by the clock of another boot. */
static void lease__of_another_boot_begins_anew(void **state)
{
    (void)state;
    struct log_block *block;
    struct listener_block *entry;
    struct sessionlog_listener_info info;
    pheap *heap = make_heap("boot");
    const uint64_t log = make_log(heap, 0);
    (void)listener_make(heap, log, "a", HOUR_MS, SESSIONLOG_OLDEST, 1);
    pheap_txn *edit = begin(heap);
    ok(pheap_edit(edit, log, sizeof *block, (void **)&block));
    block->boot[0] ^= 1;
    ok(pheap_edit(edit, block->first_listener, sizeof *entry, (void **)&entry));
    entry->until_ns = 1;
    ok(pheap_commit(edit, PHEAP_LAZY, NULL));
    in_transaction(heap, SESSIONLOG_OK, sessionlog_expire(txn, log));
    require_equal(stats_of(heap, log).listeners, 1);
    pheap_read *read = read_begin(heap, PHEAP_FRESH);
    log_ok(sessionlog_listener_get(read, log, 0, &info));
    require(info.left_ms > 0 && info.left_ms <= (int64_t)HOUR_MS);
    log_expect(SESSIONLOG_END, sessionlog_listener_get(read, log, 1, &info));
    pheap_read_end(read);
    /* Of this boot it counts. */
    edit = begin(heap);
    ok(pheap_edit(edit, block->first_listener, sizeof *entry, (void **)&entry));
    entry->until_ns = 1;
    ok(pheap_commit(edit, PHEAP_LAZY, NULL));
    in_transaction(heap, SESSIONLOG_OK, sessionlog_expire(txn, log));
    require_equal(stats_of(heap, log).listeners, 0);
    ok(pheap_close(heap));
}

/* Catches a limit that is not kept, one that can never be left again, and records thrown away for it. */
static void limit__is_kept_until_records_are_acknowledged(void **state)
{
    (void)state;
    char bytes[1000] = {0};
    pheap *heap = make_heap("limit");
    const uint64_t log = make_log(heap, 4 * SESSIONLOG_CHUNK_BYTES);
    const struct sessionlog_listener listener = listener_make(heap, log, "a", HOUR_MS, SESSIONLOG_OLDEST, 1);
    for (unsigned round = 0; round < 3; round++) {
        const uint64_t first = stats_of(heap, log).next;
        enum sessionlog_status status = SESSIONLOG_OK;
        while (status == SESSIONLOG_OK) {
            pheap_txn *txn = begin(heap);
            status = sessionlog_append(txn, log, bytes, sizeof bytes, NULL);
            ok(pheap_commit(txn, PHEAP_LAZY, NULL));
        }
        log_expect(SESSIONLOG_FULL, status);
        const struct sessionlog_stats stats = stats_of(heap, log);
        require(stats.space_bytes <= stats.limit_bytes);
        require(stats.next - first > 250);
        require_first(heap, &listener, first);
        acknowledge(heap, &listener, stats.next - 1);
    }
    char *large = calloc(1, 3 * SESSIONLOG_CHUNK_BYTES);
    require(large != NULL);
    in_transaction(heap, SESSIONLOG_INVALID, sessionlog_append(txn, log, large, 3 * SESSIONLOG_CHUNK_BYTES, NULL));
    /* The largest that may be appended fits beside the last chunk, which stays. */
    const uint64_t most = 3 * SESSIONLOG_CHUNK_BYTES - sizeof(struct chunk_block) - sizeof(struct record_head);
    (void)append(heap, log, large, most);
    free(large);
    ok(pheap_close(heap));
}

/* Without a listener everything is kept, for the first one. */
static void register__first_listener_finds_everything(void **state)
{
    (void)state;
    pheap *heap = make_heap("first");
    const uint64_t log = make_log(heap, 0);
    append_many(heap, log, 1000, 1000);
    in_transaction(heap, SESSIONLOG_OK, sessionlog_expire(txn, log));
    const struct sessionlog_listener listener = listener_make(heap, log, "a", HOUR_MS, SESSIONLOG_OLDEST, 1);
    require_first(heap, &listener, 1);
    acknowledge(heap, &listener, 1000);
    require_nothing(heap, &listener);
    ok(pheap_close(heap));
}

/* -------------------------------------------------------------------------------------------------------- waiting */

/* A listener that waits without limit; its lease is made to look almost over, so it must renew it before it sleeps. */
static void wait_in_child(const struct peer *test, const char *path)
{
    struct sessionlog_batch batch;
    struct sessionlog_record record;
    pheap *heap = open_heap(path);
    pheap_read *read = read_begin(heap, 0);
    const uint64_t log = pheap_read_root(read);
    pheap_read_end(read);
    const struct sessionlog_listener listener = listener_make(heap, log, "a", HOUR_MS, SESSIONLOG_OLDEST, 1);
    pheap_txn *txn = begin(heap);
    struct listener_block *entry;
    const struct log_block *block = pheap_ptr(txn, log);
    ok(pheap_edit(txn, block->first_listener, sizeof *entry, (void **)&entry));
    entry->until_ns -= HOUR_MS * 1000000 / 2;
    ok(pheap_commit(txn, PHEAP_LAZY, NULL));
    peer_tell(test, 'w');
    log_ok(sessionlog_batch_begin(heap, &listener, -1, &batch));
    log_ok(sessionlog_batch_next(&batch, &record));
    require(record.length == 5 && memcmp(record.bytes, "hello", 5) == 0);
    sessionlog_batch_end(&batch);
    ok(pheap_close(heap));
}

/* Catches a listener that sleeps through an append, or through its lease. */
static void wait__renews_the_lease_and_ends_with_a_record(void **state)
{
    (void)state;
    struct sessionlog_listener_info info;
    uint64_t version = 0;
    pheap *heap = make_heap("wait");
    const uint64_t log = make_log(heap, 0);
    ok(pheap_close(heap));
    struct peer child = peer_start(wait_in_child, path_of("wait", ""));
    peer_hear(&child, 'w');
    heap = open_heap(path_of("wait", ""));
    do {
        ok(pheap_wait(heap, version, PEER_PATIENCE_MS, &version));
        pheap_read *read = read_begin(heap, PHEAP_FRESH);
        log_ok(sessionlog_listener_get(read, log, 0, &info));
        version = pheap_read_version(read);
        pheap_read_end(read);
    } while (info.left_ms < (int64_t)HOUR_MS * 2 / 3);
    (void)append(heap, log, "hello", 5);
    peer_join(&child);
    ok(pheap_close(heap));
}

/* --------------------------------------------------------------------------------------------------------- damage */

/* Use the log in every way.  Whatever it holds, that ends, and in statuses. */
static void use_all(pheap *heap, const struct sessionlog_listener *listener)
{
    struct sessionlog_batch batch;
    struct sessionlog_record record;
    unsigned records = 0;
    if (sessionlog_batch_begin(heap, listener, 0, &batch) == SESSIONLOG_OK) {
        while (records < 100 && sessionlog_batch_next(&batch, &record) == SESSIONLOG_OK)
            records++;
        sessionlog_batch_end(&batch);
    }
    pheap_txn *txn = begin(heap);
    (void)sessionlog_acknowledge(txn, listener, 30);
    ok(pheap_abort(txn));
    txn = begin(heap);
    (void)sessionlog_append(txn, listener->log, "x", 1, NULL);
    (void)sessionlog_unregister(txn, listener);
    ok(pheap_abort(txn));
}

/* Spoil the word at `offset` in several ways; the check must see each unless `free_word`. */
static void spoil_word(pheap *heap, const struct sessionlog_listener *listener, uint64_t offset, bool free_word)
{
    for (unsigned way = 0; way < 4; way++) {
        uint64_t *word;
        pheap_txn *txn = begin(heap);
        ok(pheap_edit(txn, offset, sizeof *word, (void **)&word));
        const uint64_t old = *word;
        const uint64_t values[] = {UINT64_MAX, old + 16, old ^ 1, UINT64_C(1) << 62};
        *word = values[way];
        ok(pheap_commit(txn, PHEAP_LAZY, NULL));
        pheap_read *read = read_begin(heap, PHEAP_FRESH);
        const enum sessionlog_status status = sessionlog_check(read, listener->log);
        pheap_read_end(read);
        if (status == SESSIONLOG_OK && !free_word)
            check_failed(__FILE__, __LINE__, "the check does not see word %llu spoiled in way %u",
                         (unsigned long long)(offset - listener->log), way);
        use_all(heap, listener);
        txn = begin(heap);
        ok(pheap_write(txn, offset, &old, sizeof old));
        ok(pheap_commit(txn, PHEAP_LAZY, NULL));
    }
}

/* Catches a word of the log that is believed unchecked: a crash, a hang, or damage that the check does not see. */
static void damage__of_any_word_is_told(void **state)
{
    (void)state;
    pheap *heap = make_heap("damage");
    const uint64_t log = make_log(heap, 0);
    const struct sessionlog_listener listener = listener_make(heap, log, "a", HOUR_MS, SESSIONLOG_OLDEST, 1);
    append_many(heap, log, 200, 1008); /* whole words of 16, so that every change of a length shows */
    acknowledge(heap, &listener, 20);
    pheap_read *read = read_begin(heap, PHEAP_FRESH);
    const struct log_block block = *(const struct log_block *)pheap_read_ptr(read, log);
    pheap_read_end(read);
    require_equal(block.chunks, 2);
    for (uint64_t at = 0; at < sizeof block; at += 8) {
        const bool free_word = at == offsetof(struct log_block, appended_bytes) ||
                               at == offsetof(struct log_block, limit_bytes) ||
                               at == offsetof(struct log_block, holder) || at == offsetof(struct log_block, expired) ||
                               at >= offsetof(struct log_block, boot);
        spoil_word(heap, &listener, log + at, free_word);
    }
    for (uint64_t at = 0; at < sizeof(struct chunk_block) + 16; at += 8) {
        spoil_word(heap, &listener, block.first_chunk + at, at == offsetof(struct chunk_block, zero));
        spoil_word(heap, &listener, block.last_chunk + at, at == offsetof(struct chunk_block, zero));
    }
    for (uint64_t at = 0; at < sizeof(struct listener_block); at += 8) {
        const bool free_word =
            at == offsetof(struct listener_block, holder) || at == offsetof(struct listener_block, lease_ns) ||
            at == offsetof(struct listener_block, until_ns) || at >= offsetof(struct listener_block, name);
        spoil_word(heap, &listener, block.first_listener + at, free_word);
    }
    (void)stats_of(heap, log);
    ok(pheap_close(heap));
}

/* ---------------------------------------------------------------------------------------------------------- storm */

#define PRODUCERS 3u
#define LISTENERS 3u
#define DOOMED (PRODUCERS + LISTENERS) /* a listener that is killed and not started again */
#define CHILDREN (DOOMED + 1)
#define STORM_KILLS 150u
#define DOOMED_LEASE_MS 300u
#define STORM_LIMIT (8u << 20)
#define DURABLE_EVERY 64u /* of commits */

struct result {
    uint64_t seen[PRODUCERS]; /* number of the last record of each producer */
};

struct storm_root {
    uint64_t log;
    uint64_t appended[PRODUCERS];
    struct result results[LISTENERS + 1];
};

/* Outside the heap, for all processes. */
struct storm_shared {
    _Atomic int stop;                    /* 1: producers, 2: and listeners when they have everything */
    _Atomic int removed;                 /* the lease of the doomed listener ran out while it lived */
    _Atomic uint64_t returned[CHILDREN]; /* records by commits that have returned */
};
static struct storm_shared *storm;
static uint64_t storm_root_offset;

/* A small log, so that it is folded and recycled often, and with it what a fresh process must replay is little. */
static pheap *storm_open(const char *path, unsigned flags)
{
    const struct pheap_options options = {.size = sizeof options,
                                          .reserve_bytes = 1u << 30,
                                          .log_limit_bytes = 4u << 20,
                                          .segment_bytes = 256u << 10,
                                          .buffer_bytes = 256u << 10,
                                          .pin_wait_ms = UINT32_MAX};
    pheap *heap;
    ok(pheap_open(path, flags, &options, &heap));
    return heap;
}

/* A record: its producer, its number, and words that follow from them. */
static uint64_t record_words(uint64_t producer, uint64_t number)
{
    const uint64_t random = mix(number, producer);
    return 2 + (random % 400 == 0 ? 9000 + random / 400 % 16000 : random % 7 == 0 ? random / 7 % 600 : random % 20);
}

static void record_make(uint64_t *words, uint64_t producer, uint64_t number)
{
    const uint64_t count = record_words(producer, number);
    words[0] = producer;
    words[1] = number;
    for (uint64_t i = 2; i < count; i++)
        words[i] = mix(number, producer + 10) + i;
}

/* late: its listener registers only when it runs, and begins with what the others have left then. */
static void record_check(const struct sessionlog_record *record, struct result *result, bool late)
{
    const uint64_t *words = record->bytes;
    require(record->length >= 16 && words[0] < PRODUCERS);
    uint64_t *seen = &result->seen[words[0]];
    require(words[1] == *seen + 1 || (late && *seen == 0 && words[1] > 0));
    require_equal(record->length, record_words(words[0], words[1]) * 8);
    for (uint64_t i = 2; i < record->length / 8; i++)
        require(words[i] == mix(words[1], words[0] + 10) + i);
    *seen = words[1];
}

/* What a commit that returned has done must be there, and at most one commit more, of `most` records. */
static void require_kept(unsigned child, uint64_t kept, uint64_t most)
{
    const uint64_t returned = atomic_load(&storm->returned[child]);
    require(kept >= returned && kept <= returned + most);
    atomic_store(&storm->returned[child], kept);
}

static void produce(const char *path, unsigned producer)
{
    pheap *heap = storm_open(path, 0);
    uint64_t now = 0; /* each appends something, however late it comes and however full the log is then */
    for (bool first = true; first || now == 0 || atomic_load(&storm->stop) == 0; first = false) {
        void *bytes;
        uint64_t version;
        uint64_t *appended;
        pheap_txn *txn = begin(heap);
        ok(pheap_edit(txn, storm_root_offset + offsetof(struct storm_root, appended) + producer * 8, 8,
                      (void **)&appended));
        if (first)
            require_kept(producer, *appended, 1);
        const uint64_t log = ((const struct storm_root *)pheap_ptr(txn, storm_root_offset))->log;
        const enum sessionlog_status status =
            sessionlog_reserve(txn, log, record_words(producer, *appended + 1) * 8, &bytes, NULL);
        if (status == SESSIONLOG_OK)
            record_make(bytes, producer, ++*appended);
        else
            log_expect(SESSIONLOG_FULL, status);
        now = *appended;
        ok(pheap_commit(txn, now % DURABLE_EVERY == 0 ? PHEAP_DURABLE : PHEAP_LAZY, &version));
        atomic_store(&storm->returned[producer], now);
        if (status == SESSIONLOG_FULL)
            (void)expect_one(ONE_OF(PHEAP_OK) | ONE_OF(PHEAP_TIMEOUT), pheap_wait(heap, version, 20, NULL));
    }
    ok(pheap_close(heap));
}

static uint64_t result_sum(const struct result *result)
{
    uint64_t sum = 0;
    for (unsigned i = 0; i < PRODUCERS; i++)
        sum += result->seen[i];
    return sum;
}

#define BATCH_MAX 64u

/* Take some of the records that are there; the result and the acknowledgement are one transaction.  False if removed. */
static bool take_batch(pheap *heap, const struct sessionlog_listener *listener, unsigned place,
                       struct sessionlog_batch *batch, uint64_t most)
{
    struct sessionlog_record record = {.sequence = 0};
    const struct storm_root *root = pheap_read_ptr(batch->read, storm_root_offset);
    struct result result = root->results[place];
    for (uint64_t i = 0; i < most && sessionlog_batch_next(batch, &record) == SESSIONLOG_OK; i++)
        record_check(&record, &result, place == LISTENERS);
    sessionlog_batch_end(batch);
    pheap_txn *txn = begin(heap);
    ok(pheap_write(txn, storm_root_offset + offsetof(struct storm_root, results) + place * sizeof result, &result,
                   sizeof result));
    const enum sessionlog_status status = sessionlog_acknowledge(txn, listener, record.sequence);
    if (status == SESSIONLOG_EXPIRED) {
        ok(pheap_abort(txn));
        return false;
    }
    log_ok(status);
    ok(pheap_commit(txn, record.sequence % DURABLE_EVERY == 0 ? PHEAP_DURABLE : PHEAP_LAZY, NULL));
    atomic_store(&storm->returned[PRODUCERS + place], result_sum(&result));
    return true;
}

static bool has_everything(pheap *heap, unsigned place)
{
    pheap_read *read = read_begin(heap, PHEAP_FRESH);
    const struct storm_root *root = pheap_read_ptr(read, storm_root_offset);
    const bool everything = memcmp(root->appended, root->results[place].seen, sizeof root->appended) == 0;
    pheap_read_end(read);
    return everything;
}

static void listen_to(const char *path, unsigned place)
{
    struct sessionlog_listener listener;
    struct sessionlog_batch batch;
    char name[8] = {'l', (char)('0' + place), 0};
    pheap *heap = storm_open(path, 0);
    pheap_txn *txn = begin(heap);
    const struct storm_root *root = pheap_ptr(txn, storm_root_offset);
    require_kept(PRODUCERS + place, result_sum(&root->results[place]), BATCH_MAX);
    log_ok(sessionlog_register(txn, root->log, name, place < LISTENERS ? HOUR_MS : DOOMED_LEASE_MS, SESSIONLOG_OLDEST,
                               &listener, NULL));
    ok(pheap_commit(txn, PHEAP_LAZY, NULL));
    for (uint64_t turn = 0;; turn++) {
        const enum sessionlog_status status = sessionlog_batch_begin(heap, &listener, 50, &batch);
        if (status == SESSIONLOG_END && atomic_load(&storm->stop) == 2 && has_everything(heap, place))
            break;
        if (status == SESSIONLOG_END)
            continue;
        if (status == SESSIONLOG_OK && take_batch(heap, &listener, place, &batch, 1 + mix(turn, place) % BATCH_MAX))
            continue;
        /* Only one with a short lease may be removed: if it is kept from running for so long. */
        require(place == LISTENERS && (status == SESSIONLOG_OK || status == SESSIONLOG_EXPIRED));
        atomic_store(&storm->removed, 1);
        break;
    }
    ok(pheap_close(heap));
}

static pid_t storm_start(const char *path, unsigned child)
{
    const pid_t pid = fork();
    require(pid >= 0);
    if (pid != 0)
        return pid;
    in_child = true;
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (child < PRODUCERS)
        produce(path, child);
    else
        listen_to(path, child - PRODUCERS);
    _exit(0);
}

static void storm_kill(pid_t pid)
{
    int status;
    require(kill(pid, SIGKILL) == 0);
    require(waitpid(pid, &status, 0) == pid);
    require(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
}

/* Kill the listener that nobody starts again, as soon as it has taken part. */
static void storm_doom(pid_t pid)
{
    for (unsigned i = 0; atomic_load(&storm->returned[DOOMED]) == 0 && atomic_load(&storm->removed) == 0; i++) {
        require(i < PEER_PATIENCE_MS);
        pause_us(1000);
    }
    require(kill(pid, SIGKILL) == 0);
    require(waitpid(pid, NULL, 0) == pid);
}

static void storm_join(pid_t pid)
{
    int status;
    require(waitpid(pid, &status, 0) == pid);
    require(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

/* Make the heap; all listeners are there before the first record. */
static uint64_t storm_make(pheap *heap)
{
    struct sessionlog_listener listener;
    struct storm_root *root;
    pheap_txn *txn = begin(heap);
    ok(pheap_zalloc(txn, sizeof *root, &storm_root_offset));
    root = pheap_ptr(txn, storm_root_offset);
    log_ok(sessionlog_create(txn, STORM_LIMIT, &root->log));
    for (unsigned i = 0; i < LISTENERS; i++) {
        const char name[8] = {'l', (char)('0' + i), 0};
        log_ok(sessionlog_register(txn, root->log, name, HOUR_MS, SESSIONLOG_OLDEST, &listener, NULL));
    }
    ok(pheap_set_root(txn, storm_root_offset));
    const uint64_t log = root->log;
    ok(pheap_commit(txn, PHEAP_DURABLE, NULL));
    return log;
}

/* Everything has been seen by all, and nothing is left but the root, the log, its listeners and at most one chunk. */
static void storm_verify(pheap *heap, uint64_t log)
{
    pheap_read *read = read_begin(heap, PHEAP_FRESH);
    const struct storm_root *root = pheap_read_ptr(read, storm_root_offset);
    for (unsigned producer = 0; producer < PRODUCERS; producer++) {
        require(root->appended[producer] > 0);
        for (unsigned i = 0; i < LISTENERS; i++)
            require_equal(root->results[i].seen[producer], root->appended[producer]);
    }
    pheap_read_end(read);
    pause_us((DOOMED_LEASE_MS + 10) * 1000);
    in_transaction(heap, SESSIONLOG_OK, sessionlog_expire(txn, log));
    const struct sessionlog_stats stats = stats_of(heap, log);
    require_equal(stats.listeners, LISTENERS);
    require_equal(stats.expired, 1);
    require(stats.chunks <= 1);
    require_equal(live_blocks(heap), 2 + LISTENERS + stats.chunks);
    check_sound(heap);
    print_message("storm: %llu records, %llu bytes\n", (unsigned long long)(stats.next - 1),
                  (unsigned long long)stats.appended_bytes);
}

/* Catches records lost, seen twice, out of order or torn, acknowledged commits lost, and space not given back. */
static void storm__nothing_is_lost_or_seen_twice(void **state)
{
    (void)state;
    pid_t children[CHILDREN];
    uint64_t random = choose_seed();
    const char *path = path_of("storm", "");
    storm = shared_memory(sizeof *storm);
    pheap *heap = storm_open(path, PHEAP_CREATE | PHEAP_EXCLUSIVE);
    const uint64_t log = storm_make(heap);
    for (unsigned i = 0; i < CHILDREN; i++)
        children[i] = storm_start(path, i);
    for (unsigned i = 0; i < STORM_KILLS; i++) {
        random = mix(random, i);
        pause_us(random % 25000);
        const unsigned child = (unsigned)(random / 25000 % DOOMED);
        storm_kill(children[child]);
        children[child] = storm_start(path, child);
        if (i == STORM_KILLS / 4)
            storm_doom(children[DOOMED]);
    }
    atomic_store(&storm->stop, 1);
    for (unsigned i = 0; i < PRODUCERS; i++)
        storm_join(children[i]);
    atomic_store(&storm->stop, 2);
    for (unsigned i = PRODUCERS; i < DOOMED; i++)
        storm_join(children[i]);
    storm_verify(heap, log);
    ok(pheap_close(heap));
    require(munmap(storm, sizeof *storm) == 0);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sizes__any_length_comes_back_whole),
        cmocka_unit_test(trim__a_log_read_to_its_end_is_almost_nothing),
        cmocka_unit_test(acknowledge__is_part_of_the_callers_transaction),
        cmocka_unit_test(register__resumes_and_shuts_out_the_one_before),
        cmocka_unit_test(register__wrong_arguments),
        cmocka_unit_test(register__first_listener_finds_everything),
        cmocka_unit_test(lease__of_a_dead_listener_runs_out),
        cmocka_unit_test(lease__late_is_not_dead),
        cmocka_unit_test(lease__of_another_boot_begins_anew),
        cmocka_unit_test(limit__is_kept_until_records_are_acknowledged),
        cmocka_unit_test(wait__renews_the_lease_and_ends_with_a_record),
        cmocka_unit_test(damage__of_any_word_is_told),
        cmocka_unit_test(storm__nothing_is_lost_or_seen_twice),
    };
    choose_cases(argc, argv);
    return cmocka_run_group_tests(tests, make_test_directory, remove_test_directory);
}
