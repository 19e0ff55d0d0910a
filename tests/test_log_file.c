/* SPDX-License-Identifier: MIT */
/* The log file of whole heaps: headers of other versions and heaps, devices with large blocks, sizes at the limits. */
#include "io/checksum.h"
#include "tests/machine.h"

#define WORDS 64u

static void read_header(struct machine *machine, struct ph_log_header *header)
{
    require_equal(ph_sim_peek(machine->sim, LOG, header, sizeof *header, 0), sizeof *header);
}

/* With a good checksum. */
static void write_header(struct machine *machine, struct ph_log_header header)
{
    header.checksum = ph_checksum(&header, offsetof(struct ph_log_header, checksum));
    require_equal(ph_sim_poke(machine->sim, LOG, &header, sizeof header, 0), sizeof header);
}

/* Catches: a log of a newer format, or of the other byte order, read or overwritten. */
static void header__of_another_version(void **state)
{
    (void)state;
    struct machine machine;
    struct ph_log_header good, header;
    machine_begin(&machine, NULL);
    ok(pheap_close(machine_create(&machine, 0, WORDS)));
    read_header(&machine, &good);
    pheap *heap = NULL;
    header = good;
    header.format_version++;
    write_header(&machine, header);
    expect_detail(PHEAP_NEWER, "log format 2", machine_try(machine.first, 0, &heap));
    header = good;
    header.byte_order = __builtin_bswap32(header.byte_order);
    write_header(&machine, header);
    expect_detail(PHEAP_BYTE_ORDER, LOG, machine_try(machine.first, 0, &heap));
    write_header(&machine, good);
    heap = machine_open(machine.first, 0);
    commit_word(heap, 0, 1, PHEAP_DURABLE);
    ok(pheap_close(heap));
    machine_end(&machine);
}

/* Catches: an epoch begun in a log that was put in the place of the heap's since the heap was opened. */
static void header__replaced_before_the_first_transaction(void **state)
{
    (void)state;
    struct machine machine;
    struct ph_log_header good, header, found;
    machine_begin(&machine, NULL);
    ok(pheap_close(machine_create(&machine, 0, WORDS)));
    read_header(&machine, &good);
    pheap *heap = machine_open(machine.first, 0);
    pheap_txn *txn;
    header = good;
    header.identity[3] ^= 1;
    write_header(&machine, header);
    expect_detail(PHEAP_LOG_FOREIGN, "belongs to another heap", pheap_begin(heap, &txn));
    header = good;
    header.segment_bytes *= 2;
    write_header(&machine, header);
    expect_detail(PHEAP_LOG_FOREIGN, "damaged header", pheap_begin(heap, &txn));
    read_header(&machine, &found);
    require_equal(found.segment_bytes, header.segment_bytes);
    require_equal(found.epoch, good.epoch);
    write_header(&machine, good);
    commit_word(heap, 0, 1, PHEAP_DURABLE);
    require_equal(fresh_word(heap, 0), 1);
    ok(pheap_close(heap));
    machine_end(&machine);
}

/* Catches: a device that takes only large blocks, and says so in its own way, taken for one that fails. */
static void header__block_size_is_found_by_trying(void **state)
{
    (void)state;
    static const int errors[] = {EOPNOTSUPP, EINVAL};
    for (size_t i = 0; i < 2; i++)
        for (uint64_t nth = 1;; nth++) {
            struct machine machine;
            machine_begin(&machine, NULL);
            pheap *heap = machine_open(machine.first, PHEAP_CREATE);
            pheap_txn *txn = NULL;
            ph_sim_fail_at(machine.sim, PH_SIM_WRITE, nth, errors[i], PH_SIM_ONCE);
            enum pheap_status status = pheap_begin(heap, &txn);
            bool header = strcmp(ph_sim_struck_at(machine.sim), "dsync write d/heap-wal 512@0") == 0;
            require(ph_sim_struck(machine.sim) > 0);
            require(header == (status == PHEAP_OK));
            if (status == PHEAP_OK) {
                ok(pheap_abort(txn));
                require_equal(heap->core->store.wal.block_bytes, 4096);
                (void)make_root(heap, WORDS);
                commit_word(heap, 0, 1, PHEAP_DURABLE);
                ok(pheap_close(heap));
                heap = machine_open(machine.first, 0);
                commit_word(heap, 1, fresh_word(heap, 0) + 1, PHEAP_DURABLE);
                require_equal(heap->core->store.wal.block_bytes, 4096); /* the header keeps it */
                require_equal(fresh_word(heap, 1), 2);
            }
            enum pheap_status closed = pheap_close(heap);
            require(closed == PHEAP_OK || status != PHEAP_OK);
            machine_end(&machine);
            if (header)
                break;
        }
}

/* Catches: a segment counted as part of the log though not all of it was written, or not synced. */
static void slot__filled_in_part(void **state)
{
    (void)state;
    struct machine machine;
    machine_begin(&machine, NULL);
    struct pheap_options options = small_options();
    options.segment_bytes = 4u << 20; /* four writes */
    options.log_limit_bytes = 32u << 20;
    pheap *heap = NULL;
    ok((enum pheap_status)ph_open_io(machine.first, HEAP, PHEAP_CREATE, &options, &heap));
    (void)make_root(heap, WORDS);
    struct ph_store *store = &heap->core->store;
    uint32_t slots = atomic_load(&heap->core->coord->slot_count);
    for (uint64_t nth = 1; nth <= 4; nth++) {
        ph_sim_fail_at(machine.sim, PH_SIM_WRITE, nth, ENOSPC, PH_SIM_ONCE);
        require_equal(ph_store_extend_log(store, UINT64_MAX), PH_NO_SPACE);
        require_equal(atomic_load(&heap->core->coord->slot_count), slots);
    }
    ph_sim_fail_at(machine.sim, PH_SIM_SYNC, 1, EIO, PH_SIM_ONCE);
    require_equal(ph_store_extend_log(store, UINT64_MAX), PH_IO);
    require_equal(ph_store_extend_log(store, UINT64_MAX), PH_OK);
    require_equal(atomic_load(&heap->core->coord->slot_count), slots + 1);
    commit_word(heap, 0, 1, PHEAP_DURABLE);
    ok(pheap_close(heap));
    machine_end(&machine);
}

/* Catches: slots beyond the greatest number there can be, counted, looked for or added. */
static void slots__more_than_there_can_be(void **state)
{
    (void)state;
    struct machine machine;
    machine_begin(&machine, NULL);
    ok(pheap_close(machine_create(&machine, 0, WORDS)));
    uint64_t segment = small_options().segment_bytes;
    require_equal(ph_sim_set_size(machine.sim, LOG, PH_LOG_SEGMENTS + (PH_SEGMENTS_MAX + 100) * segment), 0);
    pheap *heap = machine_open(machine.first, 0);
    commit_word(heap, 0, 1, PHEAP_DURABLE);
    require_equal(atomic_load(&heap->core->coord->slot_count), PH_SEGMENTS_MAX);
    heap->core->store.wal.log_limit_bytes = UINT64_MAX;
    require_equal(ph_store_extend_log(&heap->core->store, UINT64_MAX), PH_LOG_FULL);
    require_equal(atomic_load(&heap->core->coord->slot_count), PH_SEGMENTS_MAX);
    for (unsigned i = 0; i < 200; i++)
        commit_word(heap, 0, i, PHEAP_LAZY);
    ok(pheap_checkpoint(heap));
    ok(pheap_close(heap));
    heap = machine_open(machine.first, 0);
    require_equal(fresh_word(heap, 0), 199);
    ok(pheap_close(heap));
    machine_end(&machine);
}

/* Catches: a process that has not yet opened the log and makes it longer in whatever file it finds. */
static void slot__added_by_one_who_has_not_opened_the_log(void **state)
{
    (void)state;
    struct machine machine;
    machine_begin(&machine, NULL);
    pheap *first = machine_create(&machine, 0, WORDS), *second = machine_open(&machine.second, 0);
    uint32_t slots = atomic_load(&first->core->coord->slot_count);
    ph_sim_fail_at(machine.sim, PH_SIM_OPEN, 1, EMFILE, PH_SIM_FOREVER);
    require_equal(ph_store_extend_log(&second->core->store, UINT64_MAX), PH_NO_MEMORY);
    ph_sim_fail_clear(machine.sim);
    require_equal(atomic_load(&first->core->coord->slot_count), slots);
    require_equal(ph_store_extend_log(&second->core->store, UINT64_MAX), PH_OK);
    require_equal(atomic_load(&first->core->coord->slot_count), slots + 1);
    for (unsigned i = 0; i < 500; i++)
        commit_word(i % 2 == 0 ? first : second, 0, i, PHEAP_LAZY);
    require_equal(fresh_word(first, 0), 499);
    machine_close(&machine, second, first);
}

int main(int argc, char **argv)
{
    choose_cases(argc, argv);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(header__of_another_version),
        cmocka_unit_test(header__replaced_before_the_first_transaction),
        cmocka_unit_test(header__block_size_is_found_by_trying),
        cmocka_unit_test(slot__filled_in_part),
        cmocka_unit_test(slots__more_than_there_can_be),
        cmocka_unit_test(slot__added_by_one_who_has_not_opened_the_log),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
