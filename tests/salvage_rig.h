/* SPDX-License-Identifier: MIT */
/*
 * What the tests of salvage work on: specimens, heaps on the simulated machine of which a model knows every block, with
 * its content, after every commit; and wrecks, which are specimens that were damaged; and the call, with what it told.
 */
#ifndef TESTS_SALVAGE_RIG_H
#define TESTS_SALVAGE_RIG_H

#include "tests/public.h"

#include "pheap/alloc.h"
#include "pheap/core.h"
#include "pheap/slab.h"
#include "tests/support/simfs.h"

#define HEAP "d/heap"
#define WAL HEAP "-wal"
#define SHM HEAP "-shm"
#define SUM HEAP "-sum"
#define NEW "n/new"
#define PAGES_MAX 4096u /* of any heap here */
#define BLOCKS_MAX 400u
#define VERSIONS_MAX 120u
#define HEAD_WORDS 48u /* the part of a block that a later commit may change */
#define HITS_MAX 16u

/* ------------------------------------------------------------------------------------------------------- the model */

struct block {
    uint64_t offset, length; /* usable */
    uint64_t head, body;     /* what its words are made of */
};

struct state {
    struct block blocks[BLOCKS_MAX];
    unsigned count;
    uint64_t root;
};

struct bytes {
    uint8_t *data; /* owned */
    int64_t length;
};

enum { FILE_HEAP, FILE_LOG, FILE_SHM, FILE_SUM, FILES };
static const char *const names[FILES] = {HEAP, WAL, SHM, SUM};

/* How a heap was left. */
enum kind { CLOSED, KILLED, LAZY, FOLDED, FOLDED_ONCE, KINDS };

struct specimen {
    enum kind kind;
    bool sums; /* it keeps page checksums */
    struct bytes files[FILES];
    struct bytes recovered;            /* the heap file after recovery */
    struct state *states;              /* by version; owned */
    uint64_t last, folded, checkpoint; /* versions */
    uint64_t batches[VERSIONS_MAX];    /* where in the log file those stand that are needed */
    unsigned batch_count;
};

static uint64_t dice;

static inline uint64_t mix(uint64_t x)
{
    x = (x ^ x >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    x = (x ^ x >> 27) * UINT64_C(0x94d049bb133111eb);
    return x ^ x >> 31;
}

static inline uint64_t roll(uint64_t limit)
{
    dice += UINT64_C(0x9e3779b97f4a7c15);
    return mix(dice) % limit;
}

static inline uint64_t word_of(const struct block *block, uint64_t i)
{
    return mix((i < HEAD_WORDS ? block->head : block->body) + i * UINT64_C(0x9e3779b97f4a7c15));
}

static inline void fill(uint64_t *words, const struct block *block, uint64_t count)
{
    for (uint64_t i = 0; i < count; i++)
        words[i] = word_of(block, i);
}

/* --------------------------------------------------------------------------------------------------- making specimens */

static inline struct bytes peek(struct ph_sim *sim, const char *path)
{
    struct bytes bytes = {.length = ph_sim_size(sim, path)};
    if (bytes.length <= 0)
        return bytes;
    bytes.data = malloc((size_t)bytes.length);
    require(bytes.data != NULL);
    require(ph_sim_peek(sim, path, bytes.data, (size_t)bytes.length, 0) == bytes.length);
    return bytes;
}

static inline void poke(struct ph_sim *sim, const char *path, const struct bytes *bytes)
{
    if (bytes->length < 0) {
        (void)ph_sim_remove(sim, path);
        return;
    }
    (void)ph_sim_poke(sim, path, "", 0, 0);
    require(ph_sim_set_size(sim, path, 0) == 0);
    if (bytes->length > 0)
        require(ph_sim_poke(sim, path, bytes->data, (size_t)bytes->length, 0) == bytes->length);
}

static inline void allocate(pheap_txn *txn, struct state *state, uint64_t length)
{
    struct block *block = &state->blocks[state->count++];
    require(state->count <= BLOCKS_MAX);
    ok(pheap_alloc(txn, length, &block->offset));
    ok(pheap_usable_size(txn, block->offset, &block->length));
    block->head = roll(UINT64_MAX);
    block->body = roll(UINT64_MAX);
    fill(pheap_ptr(txn, block->offset), block, block->length / 8);
}

static inline uint64_t any_length(void)
{
    static const uint64_t small[] = {16, 48, 100, 200, 500, 1100, 2900, 9000};
    return roll(12) == 0 ? 33000 + roll(60000) : small[roll(sizeof small / sizeof small[0])];
}

/* One transaction, which makes state `to` of `from`. */
static inline void transact(pheap *heap, const struct state *from, struct state *to, enum pheap_durability how)
{
    uint64_t words[HEAD_WORDS];
    pheap_txn *txn = begin(heap);
    *to = *from;
    for (uint64_t n = 1 + roll(3); n > 0; n--) {
        uint64_t what = roll(5);
        if (what < 2 || to->count < 20) {
            allocate(txn, to, any_length());
        } else if (what == 2) {
            unsigned i = (unsigned)roll(to->count);
            ok(pheap_free(txn, to->blocks[i].offset));
            to->root = to->root == to->blocks[i].offset ? 0 : to->root;
            to->blocks[i] = to->blocks[--to->count];
        } else {
            struct block *block = &to->blocks[roll(to->count)];
            uint64_t count = block->length / 8 < HEAD_WORDS ? block->length / 8 : HEAD_WORDS;
            block->head = roll(UINT64_MAX);
            fill(words, block, count);
            ok(pheap_write(txn, block->offset, words, count * 8));
        }
    }
    if (to->root == 0) {
        to->root = to->blocks[roll(to->count)].offset;
        ok(pheap_set_root(txn, to->root));
    }
    ok(pheap_commit(txn, how, NULL));
}

/* Blocks of many sizes, some freed again, so that there are slabs, large blocks and free extents. */
static inline void populate(pheap *heap, struct specimen *s)
{
    for (unsigned round = 0; round < 28; round++) {
        pheap_txn *txn = begin(heap);
        struct state *now = &s->states[++s->last];
        *now = s->states[s->last - 1];
        for (unsigned i = 0; i < 6; i++)
            allocate(txn, now, any_length());
        for (unsigned i = 0; i < 2 && round > 2; i++) {
            unsigned k = (unsigned)roll(now->count);
            ok(pheap_free(txn, now->blocks[k].offset));
            now->blocks[k] = now->blocks[--now->count];
        }
        ok(pheap_commit(txn, PHEAP_LAZY, NULL));
    }
}

/* Find the batches of the log from an LSN on. */
static inline void map_log(struct specimen *s, uint64_t lsn)
{
    struct ph_batch_header batch;
    for (int64_t at = 4096; at + 512 <= s->files[FILE_LOG].length && s->batch_count < VERSIONS_MAX; at += 512) {
        memcpy(&batch, s->files[FILE_LOG].data + at, sizeof batch);
        if (batch.magic == PH_BATCH_MAGIC && batch.lsn >= lsn)
            s->batches[s->batch_count++] = (uint64_t)at;
    }
}

static inline struct specimen make_specimen(enum kind kind, uint64_t seed, bool sums)
{
    struct specimen s = {.kind = kind, .sums = sums, .states = calloc(VERSIONS_MAX, sizeof *s.states)};
    const struct ph_sim_options quiet = {.seed = seed, .no_journal = true};
    const struct pheap_options options = {.size = sizeof options,
                                          .reserve_bytes = 16u << 20,
                                          .checksums = sums,
                                          .log_limit_bytes = 4u << 20,
                                          .segment_bytes = 64u << 10,
                                          .buffer_bytes = 256u << 10};
    struct ph_sim *sim = ph_sim_new(&quiet);
    pheap *heap;
    dice = seed;
    ph_sim_set_boot(sim, 0); /* as on the machines where it is salvaged, of which the seed is 0 */
    require(s.states != NULL);
    ok((enum pheap_status)ph_open_io(ph_sim_io(sim), HEAP, PHEAP_CREATE, &options, &heap));
    populate(heap, &s);
    ok(pheap_checkpoint(heap));
    s.checkpoint = s.folded = s.last;
    for (unsigned i = 0; i < 30; i++, s.last++) {
        transact(heap, &s.states[s.last], &s.states[s.last + 1],
                 i % 3 == 0 && (kind != LAZY || i < 20) ? PHEAP_DURABLE : PHEAP_LAZY);
        if (kind == FOLDED_ONCE && i == 15) {
            ok(pheap_fold(heap));
            s.folded = s.last + 1;
        }
    }
    if (kind == FOLDED) {
        ok(pheap_fold(heap));
        s.folded = s.last;
    } else if (kind != LAZY) {
        ok(pheap_sync(heap));
    }
    require_equal(heap_info(heap).version, s.last);
    const uint64_t checkpoint_lsn = heap_info(heap).checkpoint_lsn;
    require(checkpoint_lsn < heap_info(heap).committed_lsn);
    if (kind == CLOSED) {
        ok(pheap_close(heap));
        s.folded = s.checkpoint = s.last;
    } else {
        const ph_io *io = ph_sim_io(sim);
        io->free(io->ctx, heap); /* as the dead give nothing back, for a leak checker's sake */
        ph_sim_kill(sim);
    }
    for (unsigned i = 0; i < FILES; i++)
        s.files[i] = peek(sim, names[i]);
    map_log(&s, checkpoint_lsn);
    require(s.batch_count > 3);
    if (kind != CLOSED) {
        ok((enum pheap_status)ph_open_io(ph_sim_io(sim), HEAP, 0, &options, &heap));
        require_equal(heap_info(heap).version, s.last);
        ok(pheap_close(heap));
    }
    s.recovered = peek(sim, HEAP);
    ph_core_forget_mappings(ph_sim_io(sim));
    ph_sim_free(sim);
    return s;
}

static inline void free_specimen(struct specimen *s)
{
    for (unsigned i = 0; i < FILES; i++)
        free(s->files[i].data);
    free(s->recovered.data);
    free(s->states);
}

/* ------------------------------------------------------------------------------------------------------------ damage */

struct hit {
    uint64_t from, to; /* bytes of the heap file */
    int bit;           /* which one was flipped in byte `from`; -1: anything may have become of them */
};

struct wreck {
    const struct specimen *of;
    struct bytes files[FILES];
    struct hit hits[HITS_MAX];
    unsigned hit_count;
    bool shortened; /* the heap file: what it had behind its end nobody can count */
    bool sums_hit;
    char story[1024];
};

static inline void tell(struct wreck *wreck, const char *format, ...) __attribute__((format(printf, 2, 3)));
static inline void tell(struct wreck *wreck, const char *format, ...)
{
    size_t length = strlen(wreck->story);
    va_list arguments;
    va_start(arguments, format);
    (void)vsnprintf(wreck->story + length, sizeof wreck->story - length, format, arguments);
    va_end(arguments);
}

static inline void hit(struct wreck *wreck, unsigned file, uint64_t from, uint64_t to, int bit)
{
    require(wreck->hit_count < HITS_MAX);
    wreck->sums_hit = wreck->sums_hit || file == FILE_SUM;
    if (file == FILE_HEAP)
        wreck->hits[wreck->hit_count++] = (struct hit){from, to, bit};
}

/* A place in the file: often in metadata. */
static inline uint64_t aim(const struct wreck *wreck, unsigned file)
{
    uint64_t length = (uint64_t)wreck->files[file].length, pages = length / 4096;
    if (file == FILE_LOG) {
        const struct specimen *of = wreck->of;
        if (roll(2) == 0)
            return of->batches[roll(of->batch_count)] + roll(1024);
        return roll(3) == 0 ? roll(length) : roll(512);
    }
    if (file == FILE_SUM)
        return roll(length);
    switch (roll(6)) {
    case 0:
        return roll(2) * 4096 + roll(512);
    case 1:
        return 8192 + roll(8192);
    case 2:
    case 3: /* the beginning of a slab, or of whatever begins with a page */
        for (unsigned i = 0; i < 50; i++) {
            uint64_t page = 4 + roll(pages - 4), name;
            memcpy(&name, wreck->files[file].data + page * 4096, 8);
            if (name >> 44 == PH_SLAB_MAGIC)
                return page * 4096 + roll(152);
        }
        return roll(length);
    case 4: { /* the second segment of the page table */
        uint64_t page;
        memcpy(&page, wreck->of->recovered.data + PH_HEAP_START + 64 + 8, 8);
        return page > 0 && page < pages ? page * 4096 + roll(4096) : roll(length);
    }
    default:
        return roll(length);
    }
}

static inline void garbage(uint8_t *bytes, uint64_t length)
{
    for (uint64_t i = 0; i < length; i++)
        bytes[i] = (uint8_t)roll(256);
}

static inline void flip_in(struct bytes *file, uint64_t at)
{
    require(at < (uint64_t)file->length);
    file->data[at] ^= 4;
}

static inline void damage_place(struct wreck *wreck, unsigned file, unsigned how)
{
    struct bytes *f = &wreck->files[file];
    uint64_t at = aim(wreck, file), size = how == 1 || how == 2 ? 512 : 4096, start = at / size * size;
    uint64_t end = start + size > (uint64_t)f->length ? (uint64_t)f->length : start + size;
    int bit = (int)roll(8);
    switch (how) {
    case 0:
        f->data[at] ^= (uint8_t)(1u << bit);
        hit(wreck, file, at, at + 1, bit);
        tell(wreck, " %s: bit %d of 0x%llx;", names[file], bit, (unsigned long long)at);
        return;
    case 1:
        memset(f->data + start, 0, end - start);
        break;
    case 2:
    case 3:
        garbage(f->data + start, end - start);
        break;
    default: { /* two pages change places */
        uint64_t other = aim(wreck, file) / 4096 * 4096;
        uint8_t page[4096];
        if (other + 4096 > (uint64_t)f->length || start + 4096 > (uint64_t)f->length)
            return;
        memcpy(page, f->data + start, 4096);
        memcpy(f->data + start, f->data + other, 4096);
        memcpy(f->data + other, page, 4096);
        hit(wreck, file, other, other + 4096, -1);
        tell(wreck, " %s: 0x%llx and", names[file], (unsigned long long)other);
    }
    }
    hit(wreck, file, start, end, -1);
    tell(wreck, " %s: %s 0x%llx to 0x%llx;", names[file],
         how == 1  ? "zeros"
         : how < 4 ? "garbage"
                   : "exchanged",
         (unsigned long long)start, (unsigned long long)end);
}

static inline void damage_whole(struct wreck *wreck, const struct specimen *others)
{
    struct bytes *heap = &wreck->files[FILE_HEAP], *log = &wreck->files[FILE_LOG], *shm = &wreck->files[FILE_SHM];
    const bool settled = wreck->of->folded == wreck->of->checkpoint || wreck->of->kind == CLOSED;
    uint64_t cut;
    switch (roll(5)) {
    case 0:
        cut = roll((uint64_t)heap->length);
        hit(wreck, FILE_HEAP, cut, (uint64_t)heap->length, -1);
        heap->length = (int64_t)cut;
        wreck->shortened = true;
        tell(wreck, " heap cut to %llu;", (unsigned long long)cut);
        break;
    case 1: /* whole segments of a log can be lost without a trace: not where the heap file has what they had */
        cut = roll(settled ? (uint64_t)log->length : 4096 + (128u << 10));
        log->length = (int64_t)cut;
        tell(wreck, " log cut to %llu;", (unsigned long long)cut);
        break;
    case 2:
        log->length = -1;
        shm->length = -1;
        tell(wreck, " no log;");
        break;
    case 3:
        memcpy(log->data, others->files[FILE_LOG].data, (size_t)(log->length < 65536 ? log->length : 65536));
        tell(wreck, " a foreign log;");
        break;
    default:
        memset(heap->data, 0, 512);
        memset(heap->data + 4096, 0, 512);
        tell(wreck, " no superblocks;");
    }
}

static inline struct bytes copy_of(const struct bytes *bytes)
{
    struct bytes copy = {.length = bytes->length};
    if (bytes->length > 0) {
        copy.data = malloc((size_t)bytes->length);
        require(copy.data != NULL);
        memcpy(copy.data, bytes->data, (size_t)bytes->length);
    }
    return copy;
}

static inline struct wreck make_wreck(const struct specimen *of, const struct specimen *other)
{
    struct wreck wreck = {.of = of};
    for (unsigned i = 0; i < FILES; i++)
        wreck.files[i] = copy_of(&of->files[i]);
    if (of->kind != LAZY || roll(4) == 0) {
        free(wreck.files[FILE_SHM].data);
        wreck.files[FILE_SHM] = (struct bytes){.length = -1};
    }
    for (uint64_t n = 1 + roll(4); n > 0; n--)
        damage_place(&wreck, roll(3) == 0 ? FILE_LOG : FILE_HEAP, (unsigned)roll(5));
    if (roll(6) == 0)
        damage_whole(&wreck, other);
    if (of->sums && roll(6) == 0)
        damage_place(&wreck, FILE_SUM, (unsigned)roll(5));
    return wreck;
}

static inline void free_wreck(struct wreck *wreck)
{
    for (unsigned i = 0; i < FILES; i++)
        free(wreck->files[i].data);
}

/* ----------------------------------------------------------------------------------------------------------- salvage */

/* What the last salvage has told of suspect pages. */
static struct {
    bool pages[PAGES_MAX];
    unsigned count;
    char text[512]; /* of the last one */
} suspects;

static inline void count_fault(void *context, uint64_t offset, const char *text)
{
    uint64_t *count = context;
    require(text[0] != 0);
    require(strstr(text, "pheap salvage") == NULL); /* which is at work already */
    require(++*count <= 1000);
    if (strstr(text, "; in doubt:") != NULL) {
        require(offset / 4096 < PAGES_MAX && offset % 4096 == 0);
        suspects.pages[offset / 4096] = true;
        suspects.count++;
        (void)snprintf(suspects.text, sizeof suspects.text, "%s", text);
    }
    if (getenv("PHEAP_TEST_SEED") != NULL)
        (void)fprintf(stderr, "  0x%llx: %s\n", (unsigned long long)offset, text);
}

static inline enum pheap_status salvage(struct ph_sim *sim, unsigned flags, struct pheap_salvage_result *result)
{
    uint64_t faults = 0;
    const struct pheap_salvage_options options = {
        .size = sizeof options, .flags = flags, .fault = count_fault, .context = &faults};
    *result = (struct pheap_salvage_result){.size = sizeof *result};
    memset(&suspects, 0, sizeof suspects);
    enum pheap_status status = (enum pheap_status)ph_salvage_io(ph_sim_io(sim), HEAP, NEW, &options, result);
    require(status != PHEAP_OK || faults == (result->fault_count > 1000 ? 1000 : result->fault_count));
    return status;
}

static inline void place(struct ph_sim *sim, const struct bytes *files)
{
    for (unsigned i = 0; i < FILES; i++)
        poke(sim, names[i], &files[i]);
    (void)ph_sim_remove(sim, NEW);
}

#endif
