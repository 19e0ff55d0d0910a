/* SPDX-License-Identifier: MIT */
/*
 * Records in LMDB: by number in one database (MDB_INTEGERKEY), in one file.  Readers renew and reset their transaction,
 * as its manual advises.  A commit that need not be durable is one with MDB_NOSYNC: like PHEAP_LAZY it survives the
 * processes; after a power cut, unlike PHEAP_LAZY, the file may be damaged.
 */
#include "bench/bench.h"
#include "bench/store.h"

#include <lmdb.h>
#include <string.h>

struct opened {
    MDB_env *environment;
    MDB_dbi records;
    MDB_txn *reader; /* reset between its uses */
    bool durable;
};

static void check(int error, const char *what)
{
    if (error != 0) {
        bench_die("LMDB: %s: %s", what, mdb_strerror(error));
    }
}

static MDB_val key_of(unsigned *record)
{
    return (MDB_val){.mv_size = sizeof *record, .mv_data = record};
}

static void *open_records(const char *path)
{
    struct opened *opened = bench_memory(sizeof *opened);
    MDB_txn *txn;
    check(mdb_env_create(&opened->environment), "create");
    check(mdb_env_set_mapsize(opened->environment, (size_t)1 << 30), "map size");
    check(mdb_env_open(opened->environment, path, MDB_NOSUBDIR, 0666), "open");
    check(mdb_txn_begin(opened->environment, NULL, 0, &txn), "begin");
    check(mdb_dbi_open(txn, NULL, MDB_INTEGERKEY | MDB_CREATE, &opened->records), "open the database");
    check(mdb_txn_commit(txn), "commit");
    check(mdb_txn_begin(opened->environment, NULL, MDB_RDONLY, &opened->reader), "begin");
    mdb_txn_reset(opened->reader);
    opened->durable = true;
    return opened;
}

static void create_records(const char *path)
{
    struct opened *opened = open_records(path);
    static char zeros[STORE_RECORD_BYTES];
    MDB_txn *txn;
    check(mdb_txn_begin(opened->environment, NULL, 0, &txn), "begin");
    for (unsigned i = 0; i < STORE_RECORDS; i++) {
        MDB_val key = key_of(&i), data = {.mv_size = sizeof zeros, .mv_data = zeros};
        check(mdb_put(txn, opened->records, &key, &data, MDB_APPEND), "put");
    }
    check(mdb_txn_commit(txn), "commit");
    mdb_txn_abort(opened->reader);
    mdb_env_close(opened->environment);
}

static void write_record(void *handle, uint64_t record, uint64_t value, bool durable)
{
    struct opened *opened = handle;
    unsigned number = (unsigned)record;
    MDB_txn *txn;
    MDB_val key = key_of(&number), data = {.mv_size = STORE_RECORD_BYTES};
    if (durable != opened->durable) {
        check(mdb_env_set_flags(opened->environment, MDB_NOSYNC, !durable), "set flags");
        opened->durable = durable;
    }
    check(mdb_txn_begin(opened->environment, NULL, 0, &txn), "begin");
    check(mdb_put(txn, opened->records, &key, &data, MDB_RESERVE), "put");
    for (unsigned i = 0; i + sizeof value <= STORE_RECORD_BYTES; i += (unsigned)sizeof value) {
        memcpy((char *)data.mv_data + i, &value, sizeof value);
    }
    memset((char *)data.mv_data + STORE_RECORD_BYTES / sizeof value * sizeof value, 0,
           STORE_RECORD_BYTES % sizeof value);
    check(mdb_txn_commit(txn), "commit");
}

static uint64_t read_record(void *handle, uint64_t record)
{
    struct opened *opened = handle;
    unsigned number = (unsigned)record;
    MDB_val key = key_of(&number), data;
    uint64_t words[STORE_RECORD_BYTES / sizeof(uint64_t)], sum = 0;
    check(mdb_txn_renew(opened->reader), "renew");
    check(mdb_get(opened->reader, opened->records, &key, &data), "get");
    memcpy(words, data.mv_data, sizeof words);
    mdb_txn_reset(opened->reader);
    for (unsigned i = 0; i < sizeof words / sizeof words[0]; i++) {
        sum |= words[i];
    }
    return sum;
}

static void look(void *handle)
{
    struct opened *opened = handle;
    check(mdb_txn_renew(opened->reader), "renew");
    mdb_txn_reset(opened->reader);
}

const struct store store_lmdb = {.name = "LMDB",
                                 .create = create_records,
                                 .open = open_records,
                                 .write = write_record,
                                 .read = read_record,
                                 .look = look};
