/* SPDX-License-Identifier: MIT */
/* Objects in LMDB: by number in one database, in one file, with its default syncs, so that a commit is on the disk. */
#include "tests/powercut/engine.h"

#include <lmdb.h>

#include <stdio.h>
#include <string.h>

static MDB_env *environment;
static MDB_txn *txn; /* that writes; NULL: none */
static MDB_dbi objects;

static bool good(int result, const char *what)
{
    return result == 0 ? true : engine_fail("%s: %s (%d)", what, mdb_strerror(result), result);
}

static bool good_or_abort(int result, const char *what)
{
    if (result != 0) {
        mdb_txn_abort(txn);
        txn = NULL;
    }
    return good(result, what);
}

/* Committed or failed, it has ended. */
static bool end(void)
{
    MDB_txn *ending = txn;
    txn = NULL;
    return good(mdb_txn_commit(ending), "commit");
}

static bool open_environment(const char *directory, uint64_t variety)
{
    char path[4096];
    (void)variety; /* there is nothing to choose */
    (void)snprintf(path, sizeof path, "%s/data", directory);
    return good(mdb_env_create(&environment), "create") &&
           good(mdb_env_set_mapsize(environment, (size_t)64 << 20), "map size") &&
           good(mdb_env_open(environment, path, MDB_NOSUBDIR, 0666), "open") &&
           good(mdb_txn_begin(environment, NULL, 0, &txn), "begin") &&
           good_or_abort(mdb_dbi_open(txn, NULL, MDB_INTEGERKEY, &objects), "open the database") && end();
}

/* It has none that a program could call. */
static bool check_nothing(void)
{
    return true;
}

static bool get_object(uint32_t object, uint8_t *bytes, size_t *length)
{
    MDB_val key = {.mv_size = sizeof object, .mv_data = &object}, data;
    MDB_txn *reader = txn;
    if (txn == NULL && !good(mdb_txn_begin(environment, NULL, MDB_RDONLY, &reader), "begin"))
        return false;
    int result = mdb_get(reader, objects, &key, &data);
    *length = result == 0 ? data.mv_size : 0;
    bool done = result == MDB_NOTFOUND || good(result, "get");
    if (done && *length > ENGINE_OBJECT_BYTES_MAX)
        done = engine_fail("object %u: a length of %zu", object, *length);
    if (done && *length > 0)
        memcpy(bytes, data.mv_data, *length);
    if (txn == NULL)
        mdb_txn_abort(reader);
    return done;
}

static bool begin(void)
{
    return good(mdb_txn_begin(environment, NULL, 0, &txn), "begin");
}

static bool put_object(uint32_t object, const uint8_t *bytes, size_t length)
{
    MDB_val key = {.mv_size = sizeof object, .mv_data = &object};
    MDB_val data = {.mv_size = length};
    int result;
    if (length == 0) {
        result = mdb_del(txn, objects, &key, NULL);
        return result == MDB_NOTFOUND || good_or_abort(result, "del");
    }
    result = mdb_put(txn, objects, &key, &data, MDB_RESERVE);
    if (result == 0)
        memcpy(data.mv_data, bytes, length);
    return good_or_abort(result, "put");
}

static bool commit(bool *durable)
{
    *durable = true;
    return end();
}

static bool close_environment(void)
{
    mdb_env_close(environment);
    environment = NULL;
    return true;
}

const struct engine engine_lmdb = {.name = "lmdb",
                                   .open = open_environment,
                                   .check = check_nothing,
                                   .get = get_object,
                                   .begin = begin,
                                   .put = put_object,
                                   .commit = commit,
                                   .close = close_environment};
