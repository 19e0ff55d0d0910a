/* SPDX-License-Identifier: MIT */
/* Recovery from the shared buffer, recovery that is itself interrupted, and the order in which all writes happen (R1,
 * R4, R8). */
#include "tests/recovery_rig.h"

/* ------------------------------------------------------------------------------------------------ the shared buffer */

/* A heap of which three commits are in the log file and `lazy` more only in the coordination file. */
static struct files make_lazy(struct rig *rig, unsigned lazy, uint64_t length)
{
    create(rig);
    for (unsigned i = 0; i < 3; i++)
        commit(rig, 64, PHEAP_DURABLE);
    for (unsigned i = 0; i < lazy; i++)
        commit(rig, length, PHEAP_LAZY);
    kill_process(rig);
    return save(rig);
}

/* Catches: LAZY commits lost with their process, and records in the buffer believed though they are damaged. */
static void buffer__damage_in_it_is_a_torn_tail(void **state)
{
    (void)state;
    struct rig rig = new_rig(14);
    struct files files = make_lazy(&rig, 5, 40);
    const uint64_t header_bytes = (uint64_t)files.size[2] - options.buffer_bytes;
    unsigned outcomes[16] = {0};
    for (uint64_t at = header_bytes; at < (uint64_t)files.size[2]; at += files.bytes[2][at] == 0 ? 64 : 1)
        for (unsigned bit = 0; bit < 8; bit += 3) {
            load(&rig, &files);
            put_file(&rig, &files, 2);
            uint8_t wrong = files.bytes[2][at] ^ (uint8_t)(1u << bit);
            (void)ph_sim_poke(rig.sim, SHM, &wrong, 1, at);
            assert_int_equal(try_open(&rig, 0), PH_OK);
            uint64_t k = which_commit(&rig, rig.book);
            assert_true(k >= 3 && k <= 8);
            outcomes[k]++;
            close_heap(&rig);
        }
    for (uint64_t k = 3; k <= 8; k++)
        assert_true(outcomes[k] > 0);
    free_files(&files);
    free_rig(&rig);
}

/*
 * Catches: records of a buffer believed after a reboot, where its pages may be from any time: that of a writer that died
 * before it published it would come back, though another one was committed in its place and seen.
 */
static void buffer__of_another_boot_is_not_read(void **state)
{
    (void)state;
    struct rig rig = new_rig(16);
    struct files files = make_lazy(&rig, 5, 40);
    for (unsigned reboot = 0; reboot < 2; reboot++) {
        load(&rig, &files);
        put_file(&rig, &files, 2);
        if (reboot)
            ph_sim_set_boot(rig.sim, 77);
        assert_int_equal(try_open(&rig, 0), PH_OK);
        assert_int_equal(which_commit(&rig, rig.book), reboot ? 3 : 8);
        close_heap(&rig);
    }
    free_files(&files);
    free_rig(&rig);
}

/* Catches: a number from a stale or rotten coordination file used before it was checked (R8). */
static void buffer__any_word_of_the_marks_is_rotten(void **state)
{
    (void)state;
    struct rig rig = new_rig(15);
    struct files files = make_lazy(&rig, 4, 40);
    static const uint64_t values[] = {0, 1, 4096, UINT64_MAX, UINT64_MAX / 2, 1u << 31};
    for (uint64_t at = 0; at < sizeof(struct ph_coord); at += at < 2048 ? 8 : 1544)
        for (size_t v = 0; v <= sizeof values / sizeof values[0]; v++) {
            uint64_t word;
            memcpy(&word, files.bytes[2] + at, sizeof word);
            word = v == 0 ? word + 8 : values[v - 1];
            load(&rig, &files);
            put_file(&rig, &files, 2);
            (void)ph_sim_poke(rig.sim, SHM, &word, sizeof word, at);
            ph_status status = try_open(&rig, 0);
            if (status != PH_OK)
                fail_msg("word at %" PRIu64 ": %s: %s", at, ph_status_name(status), ph_detail());
            assert_true(which_commit(&rig, rig.book) >= 3);
            close_heap(&rig);
        }
    free_files(&files);
    free_rig(&rig);
}

/* ------------------------------------------------------------------------------------- recovery that is interrupted */

/* The heap's content, without the superblocks. */
static void check_same_heap(struct rig *rig, const struct files *reference)
{
    static uint8_t bytes[1 << 20];
    assert_int_equal(ph_sim_size(rig->sim, PATH), reference->size[0]);
    (void)ph_sim_peek(rig->sim, PATH, bytes, sizeof bytes, 0);
    assert_memory_equal(bytes + 8192, reference->bytes[0] + 8192, (size_t)reference->size[0] - 8192);
}

static void interrupt(struct rig *rig, const struct files *crashed, const struct files *reference, bool with_buffer)
{
    static const struct {
        unsigned ops;
        int error;
        enum ph_sim_fault_mode mode;
    } faults[] = {{PH_SIM_READ, EIO, PH_SIM_ONCE},      {PH_SIM_WRITE, EIO, PH_SIM_ONCE},
                  {PH_SIM_WRITE, ENOSPC, PH_SIM_ONCE},  {PH_SIM_WRITE, EIO, PH_SIM_FOREVER},
                  {PH_SIM_SYNC, EIO, PH_SIM_ONCE},      {PH_SIM_TRUNCATE, ENOSPC, PH_SIM_ONCE},
                  {PH_SIM_GROW, ENOSPC, PH_SIM_ONCE},   {PH_SIM_STAT, EIO, PH_SIM_ONCE},
                  {PH_SIM_MEMORY, ENOMEM, PH_SIM_ONCE}, {PH_SIM_MEMORY, ENOMEM, PH_SIM_FOREVER},
                  {PH_SIM_MAP, ENOMEM, PH_SIM_ONCE},    {PH_SIM_LOCK, ENOLCK, PH_SIM_ONCE},
                  {PH_SIM_OPEN, EMFILE, PH_SIM_ONCE}};
    for (size_t f = 0; f < sizeof faults / sizeof faults[0]; f++) {
        bool struck = true;
        for (uint64_t nth = 1; struck; nth++) {
            load(rig, crashed);
            if (with_buffer)
                put_file(rig, crashed, 2);
            ph_sim_fail_at(rig->sim, faults[f].ops, nth, faults[f].error, faults[f].mode);
            ph_status status = try_open(rig, 0);
            struck = ph_sim_struck(rig->sim) > 0;
            ph_sim_fail_clear(rig->sim);
            if (status == PH_CORRUPT || status == PH_LOG_FOREIGN || status == PH_LOG_MISSING || status == PH_NOT_HEAP)
                fail_msg("a fault at %s is told as damage: %s", ph_sim_struck_at(rig->sim), ph_detail());
            if (status == PH_OK)
                close_heap(rig);
            else if (nth % 2 == 0)
                kill_process(rig);
            ph_core_forget_mappings(ph_sim_io(rig->sim));
            /* Power may fail before the second try, which takes what is only in the coordination file; not here. */
            status = try_open(rig, 0);
            if (status != PH_OK)
                fail_msg("after a fault at %s: %s: %s", ph_sim_struck_at(rig->sim), ph_status_name(status),
                         ph_detail());
            assert_int_equal(which_commit(rig, rig->book), rig->book->last);
            close_heap(rig);
            check_same_heap(rig, reference);
        }
    }
}

/*
 * Catches: records folded into the heap file before they are durable in the log (R1).  The last flush is torn, but the
 * buffer of the dead process still has its records; recovery from that fails somewhere, and then the buffer is lost.
 */
static void interrupted__then_the_buffer_is_lost(void **state)
{
    (void)state;
    unsigned secured = 0, early = 0;
    for (unsigned torn = 0; torn < 6; torn++) {
        struct rig rig = new_rig(19);
        struct files files =
            make_crashed(&rig, 2 + torn % 2 * 5, 8, 200); /* the last batch within a segment, or first */
        struct map map = map_log(&files, EPOCH);
        const struct found *last = &map.records[map.count - 1];
        uint64_t durable = rig.book->last - 8; /* the log has so much without the last flush */
        if (torn >= 2)
            flip(&rig, &files, torn < 4 ? last->at + 80 : last->batch_at + 70, 0);
        for (unsigned kind = 0; kind < 2; kind++) {
            bool struck = true;
            for (uint64_t nth = 1; struck; nth++) {
                load(&rig, &files);
                put_file(&rig, &files, 2);
                ph_sim_fail_at(rig.sim, kind == 0 ? PH_SIM_WRITE : PH_SIM_SYNC, nth, EIO, PH_SIM_FOREVER);
                ph_status status = try_open(&rig, 0);
                struck = ph_sim_struck(rig.sim) > 0;
                ph_sim_fail_clear(rig.sim);
                if (status == PH_OK)
                    close_heap(&rig);
                kill_process(&rig);
                drop_coordination(&rig);
                static uint8_t bytes[1 << 20];
                (void)ph_sim_peek(rig.sim, PATH, bytes, sizeof bytes, 0);
                bool folded = memcmp(bytes + 8192, files.bytes[0] + 8192, (size_t)files.size[0] - 8192) != 0;
                assert_int_equal(try_open(&rig, 0), PH_OK);
                uint64_t k = which_commit(&rig, rig.book);
                assert_true(k >= durable && (!folded || k == rig.book->last));
                secured += k == rig.book->last;
                early += k < rig.book->last;
                close_heap(&rig);
            }
        }
        free_files(&files);
        free_rig(&rig);
    }
    assert_true(secured > 20 && early > 5);
}

/* Catches: recovery that cannot be run again after it failed in the middle (17), or that loses what it had found. */
static void interrupted__anywhere_then_run_again(void **state)
{
    (void)state;
    for (unsigned with_buffer = 0; with_buffer < 2; with_buffer++) {
        struct rig rig = new_rig(16);
        create(&rig);
        assert_int_equal(pheap_checkpoint(rig.heap), PHEAP_OK);
        pheap_txn *txn = begin(&rig);
        uint64_t more;
        assert_int_equal(pheap_zalloc(txn, 100000, &more), PHEAP_OK);
        assert_int_equal(pheap_fill(txn, more, 9, 100000), PHEAP_OK);
        assert_int_equal(pheap_commit(txn, PHEAP_DURABLE, NULL), PHEAP_OK);
        for (unsigned i = 0; i < 6; i++)
            commit(&rig, 3000, PHEAP_DURABLE); /* more than one segment */
        for (unsigned i = 0; i < 3 && with_buffer != 0; i++)
            commit(&rig, 1000, PHEAP_LAZY);
        kill_process(&rig);
        struct files crashed = save(&rig);
        assert_int_equal(try_open(&rig, 0), PH_OK);
        close_heap(&rig);
        struct files reference = save(&rig);
        interrupt(&rig, &crashed, &reference, with_buffer != 0);
        free_files(&crashed);
        free_files(&reference);
        free_rig(&rig);
    }
}

/* ------------------------------------------------------------------------------------------------------------ order */

/* What a walk over the journal knows: see order__of_writes. */
struct order {
    uint32_t heap, wal;
    bool heap_dirty;                   /* bytes of the heap's inside written since its last sync */
    uint64_t log_pending, log_durable; /* LSN */
    uint64_t vouch_pending, vouched;   /* LSN that a batch or superblock says the log was durable up to */
    struct ph_superblock pending, durable;
    uint64_t slot_sequence[64];
    uint64_t reused, checkpoints, folds;
};

static void order_write_heap(struct order *order, const struct sim_event *event, const uint64_t *lsn_of, uint64_t block)
{
    if (event->offset == 0 && event->length > 8192) /* creation */
        return;
    if (event->offset < 8192) {
        assert_true(event->length == 512 && event->offset % 4096 == 0);
        memcpy(&order->pending, event->data, 512);
        if (order->pending.checkpoint_lsn == order->durable.checkpoint_lsn)
            return;
        assert_false(order->heap_dirty); /* R4: what the checkpoint stands for is synced before it is written */
        order->checkpoints++;
        return;
    }
    order->heap_dirty = true;
    if (event->offset <= block && block + 8 <= event->offset + event->length) {
        uint64_t k;
        memcpy(&k, event->data + (block - event->offset), 8);
        order->folds++;
        assert_true(lsn_of[k] <= order->log_durable); /* R1: only what is durable in the log reaches the heap file */
        assert_true(lsn_of[k] <= order->vouched);     /* R9: and only what would be missed there */
    }
}

static void order_write_log(struct order *order, const struct sim_event *event)
{
    struct ph_segment_header segment;
    if (event->offset < PH_LOG_SEGMENTS)
        return;
    uint64_t slot = (event->offset - PH_LOG_SEGMENTS) / SEGMENT;
    assert_true(slot < 64);
    memcpy(&segment, event->data, sizeof segment);
    const uint8_t *bytes = event->data;
    if (segment.magic == PH_SEGMENT_MAGIC) {
        uint64_t old = order->slot_sequence[slot];
        /* R4: a segment is used again only when a durable checkpoint has passed it. */
        assert_true(old == 0 || old == segment.sequence || old < order->durable.checkpoint_segment);
        order->reused += old != 0 && old != segment.sequence;
        order->slot_sequence[slot] = segment.sequence;
        bytes += 512;
    }
    struct ph_batch_header batch;
    memcpy(&batch, bytes, sizeof batch);
    if (batch.magic == PH_BATCH_MAGIC) {
        order->log_pending = batch.lsn + batch.length;
        order->vouch_pending = batch.durable;
    }
}

static void order_vouch(struct order *order, uint64_t lsn)
{
    if (lsn > order->vouched)
        order->vouched = lsn;
}

static void walk_order(struct order *order, const struct sim_journal *journal, const uint64_t *lsn_of, uint64_t block)
{
    for (size_t i = 0; i < journal->count; i++) {
        const struct sim_event *event = &journal->events[i];
        bool heap = event->file == order->heap, wal = event->file == order->wal;
        switch (event->kind) {
        case SIM_EVENT_WRITE:
            if (heap)
                order_write_heap(order, event, lsn_of, block);
            else if (wal)
                order_write_log(order, event);
            break;
        case SIM_EVENT_SYNC:
            order->heap_dirty = order->heap_dirty && !heap;
            break;
        case SIM_EVENT_SYNC_RANGE:
            if (wal && order->log_pending > order->log_durable)
                order->log_durable = order->log_pending;
            if (wal)
                order_vouch(order, order->vouch_pending);
            if (heap && event->offset < 8192) {
                order->durable = order->pending;
                order_vouch(order, order->durable.durable_lsn);
            }
            break;
        default:
            break;
        }
    }
}

/* Catches: folding before the log is durable (R1), or while nothing vouches for it (R9), a checkpoint before its sync, a
 * segment reused too early (R4). */
static void order__of_writes(void **state)
{
    (void)state;
    struct rig rig = {.sim = ph_sim_new(NULL), .book = new_book(17)};
    static uint64_t lsn_of[COMMITS_MAX + 1];
    create(&rig);
    uint64_t dice = 17, refused = 0;
    struct pheap_info info = {.size = sizeof info};
    for (unsigned i = 1; i <= COMMITS_MAX; i++) {
        commit(&rig, 40 + dice_roll(&dice) % 300 * 8, dice_roll(&dice) % 2 == 0 ? PHEAP_DURABLE : PHEAP_LAZY);
        assert_int_equal(pheap_get_info(rig.heap, &info), PHEAP_OK);
        lsn_of[i] = info.committed_lsn;
        if (dice_roll(&dice) % 12 == 0)
            assert_int_equal(pheap_fold(rig.heap), PHEAP_OK);
        uint64_t kind = dice_roll(&dice) % 30;
        if (kind == 1) { /* the superblock cannot be written: the log must stay */
            assert_int_equal(pheap_fold(rig.heap), PHEAP_OK);
            ph_sim_fail_at(rig.sim, PH_SIM_SYNC, 2, ENOSPC, PH_SIM_ONCE);
            refused += pheap_checkpoint(rig.heap) == PHEAP_NO_SPACE;
            ph_sim_fail_clear(rig.sim);
        } else if (kind <= 2) {
            assert_int_equal(pheap_checkpoint(rig.heap), PHEAP_OK);
        }
        if (dice_roll(&dice) % 40 == 0) {
            if (dice_roll(&dice) % 2 == 0)
                close_heap(&rig);
            else
                kill_process(&rig);
            assert_int_equal(try_open(&rig, 0), PH_OK);
            assert_int_equal(which_commit(&rig, rig.book), i);
        }
    }
    close_heap(&rig);
    struct order order = {.heap = sim_names_find(&rig.sim->names, PATH), .wal = sim_names_find(&rig.sim->names, WAL)};
    walk_order(&order, &rig.sim->journal, lsn_of, rig.block);
    assert_true(order.reused > 10 && order.checkpoints > 20 && order.folds > 40 && refused > 5);
    free_rig(&rig);
}

/* Catches: system calls under the writer lock, or more of them for a durable commit than a look at the log's descriptor and
 * one write (R5, R10). */
static void order__commits_do_no_needless_io(void **state)
{
    (void)state;
    struct rig rig = new_rig(18);
    const unsigned calls = (PH_SIM_ANY | PH_SIM_GROW) & ~(unsigned)PH_SIM_MEMORY;
    create(&rig);
    for (unsigned i = 0; i < 5; i++) /* what is done once is done */
        commit(&rig, 40, PHEAP_DURABLE);
    for (unsigned i = 0; i < 20; i++) {
        uint64_t before = ph_sim_calls(rig.sim, calls);
        commit(&rig, 40, PHEAP_LAZY);
        assert_int_equal(ph_sim_calls(rig.sim, calls), before);
        uint64_t writes = ph_sim_calls(rig.sim, PH_SIM_WRITE);
        before = ph_sim_calls(rig.sim, calls & ~(unsigned)PH_SIM_SYNC);
        commit(&rig, 40, PHEAP_DURABLE);
        assert_int_equal(ph_sim_calls(rig.sim, PH_SIM_WRITE), writes + 1);
        assert_int_equal(ph_sim_calls(rig.sim, calls & ~(unsigned)PH_SIM_SYNC), before + 2);
    }
    close_heap(&rig);
    free_rig(&rig);
}

int main(int argc, char **argv)
{
    if (argc > 1)
        cmocka_set_test_filter(argv[1]);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(buffer__damage_in_it_is_a_torn_tail),
        cmocka_unit_test(buffer__of_another_boot_is_not_read),
        cmocka_unit_test(buffer__any_word_of_the_marks_is_rotten),
        cmocka_unit_test(interrupted__then_the_buffer_is_lost),
        cmocka_unit_test(interrupted__anywhere_then_run_again),
        cmocka_unit_test(order__of_writes),
        cmocka_unit_test(order__commits_do_no_needless_io),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
