/* SPDX-License-Identifier: MIT */
/*
 * What tests of backup and restore share: the transactions, and the model that a restored heap must be.
 *
 * Transaction k is a function of k alone: it stores k into some words of a large block, moves one of many small blocks,
 * and stores k in the root.  So what a heap must hold after k transactions is known, and an archive is right if the heap
 * made of it is the model after some k that was not acknowledged before the backup began and was begun when it ended,
 * byte for byte, and the archive's version is that of k.
 *
 * PHEAP_TEST_SEED repeats the choices of a run.
 */
#ifndef TESTS_BACKUP_RIG_H
#define TESTS_BACKUP_RIG_H

#include "tests/public.h"
#include "tests/support/dice.h"

#define WORDS (256u * 1024) /* of the large block: 2 MiB */
#define PIECE_WORDS 2048u
#define SMALL 64u
#define CHANGES 24u

struct root {
    uint64_t sequence;
    uint64_t large;
    uint64_t small[SMALL];
};

/* What the test and its children share. */
struct shared {
    _Atomic uint64_t started, acknowledged;
    _Atomic bool stop;
    _Atomic uint64_t log_full;
};

static struct shared *shared;
static uint64_t seed;
static uint64_t base_version; /* of the heap after no transaction */

static inline uint64_t mix(uint64_t a, uint64_t b)
{
    return dice_mix(seed + a * 0x9e3779b97f4a7c15u + b * 0xd1342543de82ef95u);
}

/* ------------------------------------------------------------------------------------------------- the transactions */

static inline uint64_t small_bytes(uint64_t k)
{
    return 16 + mix(k, 99) % 3000 * 8;
}

/* The word that change i of transaction k stores into; half of them lie close together. */
static inline uint64_t word_of(uint64_t k, unsigned i)
{
    return i % 2 == 0 ? mix(k, i) % WORDS : (mix(k, 98) % (WORDS - 4096) + mix(k, i) % 4096);
}

static inline void fill_small(uint64_t *words, uint64_t k)
{
    for (uint64_t i = 0; i < small_bytes(k) / 8; i++) {
        words[i] = mix(k, 1000 + i);
    }
}

static inline void apply(pheap_txn *txn, uint64_t k)
{
    void *address;
    const uint64_t root = pheap_root(txn);
    ok(pheap_edit(txn, root, sizeof(struct root), &address));
    struct root *now = address;
    now->sequence = k;
    for (unsigned i = 0; i < CHANGES; i++) {
        const uint64_t offset = now->large + word_of(k, i) * 8;
        ok(pheap_write(txn, offset, &k, sizeof k));
    }
    uint64_t *slot = &now->small[mix(k, 97) % SMALL];
    if (*slot != 0) {
        ok(pheap_free(txn, *slot));
    }
    ok(pheap_alloc(txn, small_bytes(k), slot));
    fill_small(pheap_ptr(txn, *slot), k);
}

/* What a word of the large block holds at first, so that no compression makes the archive small. */
static inline uint64_t first_word(uint64_t i)
{
    return mix(i, 95) | UINT64_C(1) << 63;
}

static inline pheap *create_model(const char *path, uint64_t log_limit_bytes)
{
    struct pheap_options options = small_options();
    struct root *root;
    pheap *heap;
    uint64_t offset;
    options.log_limit_bytes = log_limit_bytes;
    options.pin_wait_ms = 20; /* a backup that waits for commits is what holds the log: waiting for it does not help */
    ok(pheap_open(path, PHEAP_CREATE | PHEAP_EXCLUSIVE, &options, &heap));
    pheap_txn *txn = begin(heap);
    ok(pheap_zalloc(txn, sizeof *root, &offset));
    ok(pheap_set_root(txn, offset));
    root = pheap_ptr(txn, offset);
    ok(pheap_zalloc(txn, WORDS * 8, &root->large));
    const uint64_t large = root->large;
    ok(pheap_commit(txn, PHEAP_DURABLE, &base_version));
    for (uint64_t at = 0; at < WORDS; at += PIECE_WORDS) { /* in pieces that the log takes */
        uint64_t words[PIECE_WORDS];
        for (uint64_t i = 0; i < PIECE_WORDS; i++) {
            words[i] = first_word(at + i);
        }
        txn = begin(heap);
        ok(pheap_write(txn, large + at * 8, words, sizeof words));
        ok(pheap_commit(txn, PHEAP_LAZY, &base_version));
    }
    return heap;
}

/* One transaction; false if the log was full. */
static inline bool transact(pheap *heap)
{
    pheap_txn *txn;
    uint64_t version;
    enum pheap_status status = pheap_begin(heap, &txn);
    if (status == PHEAP_OK) {
        const struct root *root = pheap_ptr(txn, pheap_root(txn));
        const uint64_t k = root->sequence + 1;
        apply(txn, k);
        raise_to(&shared->started, k);
        status = pheap_commit(txn, mix(k, 96) % 16 == 0 ? PHEAP_DURABLE : PHEAP_LAZY, &version);
        if (status == PHEAP_OK) {
            require_equal(version, base_version + k);
            raise_to(&shared->acknowledged, k);
        }
    }
    atomic_fetch_add(&shared->log_full, status == PHEAP_LOG_FULL);
    (void)expect_one(ONE_OF(PHEAP_OK) | ONE_OF(PHEAP_LOG_FULL), status);
    return status == PHEAP_OK;
}

/* The model's large block after k transactions. */
static inline const uint64_t *model_words(uint64_t k)
{
    static uint64_t words[WORDS], at;
    if (k < at || at == 0) {
        for (uint64_t i = 0; i < WORDS; i++) {
            words[i] = first_word(i);
        }
        at = 0;
    }
    while (at < k) {
        at++;
        for (unsigned i = 0; i < CHANGES; i++) {
            words[word_of(at, i)] = at;
        }
    }
    return words;
}

static inline uint64_t last_of_slot(uint64_t k, uint64_t slot)
{
    while (k > 0 && mix(k, 97) % SMALL != slot) {
        k--;
    }
    return k;
}

/* The heap at `path` is the model after k transactions, which it gives, and has nothing else. */
static inline uint64_t check_model(const char *path)
{
    static uint64_t expected[4096];
    pheap *heap = open_heap(path);
    pheap_read *reader = read_begin(heap, PHEAP_FRESH);
    const struct root *root = pheap_read_ptr(reader, pheap_read_root(reader));
    const uint64_t k = root->sequence;
    uint64_t blocks = 2, from = 0, offset, length;
    require_equal(pheap_read_version(reader), base_version + k);
    require(memcmp(pheap_read_ptr(reader, root->large), model_words(k), WORDS * 8) == 0);
    for (uint64_t i = 0; i < SMALL; i++) {
        const uint64_t last = last_of_slot(k, i);
        require((last == 0) == (root->small[i] == 0));
        if (last != 0) {
            blocks++;
            fill_small(expected, last);
            require(memcmp(pheap_read_ptr(reader, root->small[i]), expected, small_bytes(last)) == 0);
        }
    }
    for (; pheap_read_next_block(reader, from, &offset, &length) == PHEAP_OK; blocks--) {
        from = offset + length;
    }
    require_equal(blocks, 0);
    ok(pheap_check(reader, print_fault, NULL, NULL));
    pheap_read_end(reader);
    ok(pheap_close(heap));
    return k;
}

static inline bool exists(const char *path)
{
    struct stat info;
    return stat(path, &info) == 0;
}

static inline void remove_heap(const char *path)
{
    require(run_command("rm -f '%s' '%s-wal' '%s-shm'", path, path, path) == 0);
}

/* Nothing that begins with `name` is there. */
static inline bool none_of(const char *name)
{
    return run_command("ls -A '%s' | grep -q '^%s'", test_directory, name) != 0;
}

static inline void restore(const char *archive, const char *path, uint32_t flags)
{
    const struct pheap_restore_options options = {.size = sizeof options, .flags = flags};
    ok(pheap_restore(archive, path, &options, NULL));
}

static inline int forget_the_past(void **state)
{
    (void)state;
    shared->started = shared->acknowledged = shared->log_full = 0;
    return 0;
}

#endif
