/* SPDX-License-Identifier: MIT */
/* Objects in SQLite: rows of one table, in WAL mode with synchronous=FULL, so that a commit is on the disk. */
#include "tests/powercut/engine.h"

#include <sqlite3.h>

#include <stdio.h>
#include <string.h>

static sqlite3 *database;
static sqlite3_stmt *select_one, *replace, *erase;

static bool good(int result, const char *what)
{
    if (result == SQLITE_OK || result == SQLITE_DONE || result == SQLITE_ROW)
        return true;
    return engine_fail("%s: %s (%d): %s", what, sqlite3_errstr(result), sqlite3_extended_errcode(database),
                       database == NULL ? "" : sqlite3_errmsg(database));
}

static bool run(const char *statement)
{
    return good(sqlite3_exec(database, statement, NULL, NULL, NULL), statement);
}

/* Run a statement whose one row is a text, and see that it is `wanted`. */
static bool answers(const char *statement, const char *wanted)
{
    sqlite3_stmt *prepared = NULL;
    if (!good(sqlite3_prepare_v2(database, statement, -1, &prepared, NULL), statement))
        return false;
    bool result = good(sqlite3_step(prepared), statement);
    const char *got = (const char *)sqlite3_column_text(prepared, 0);
    if (result && (got == NULL || strcmp(got, wanted) != 0))
        result = engine_fail("%s: %s", statement, got == NULL ? "nothing" : got);
    (void)sqlite3_finalize(prepared);
    return result;
}

static bool prepare(const char *text, sqlite3_stmt **statement)
{
    return good(sqlite3_prepare_v2(database, text, -1, statement, NULL), text);
}

static bool open_database(const char *directory, uint64_t variety)
{
    static const int checkpoints[] = {10, 50, 200, 1000};
    char path[4096], checkpoint[64];
    (void)snprintf(path, sizeof path, "%s/database", directory);
    (void)snprintf(checkpoint, sizeof checkpoint, "PRAGMA wal_autocheckpoint=%d",
                   checkpoints[variety % (sizeof checkpoints / sizeof checkpoints[0])]);
    return good(sqlite3_open(path, &database), "open") && good(sqlite3_busy_timeout(database, 20000), "timeout") &&
           answers("PRAGMA journal_mode=WAL", "wal") && run("PRAGMA synchronous=FULL") && run(checkpoint) &&
           run("CREATE TABLE IF NOT EXISTS objects(id INTEGER PRIMARY KEY, bytes BLOB NOT NULL)") &&
           prepare("SELECT bytes FROM objects WHERE id=?", &select_one) &&
           prepare("INSERT OR REPLACE INTO objects VALUES(?, ?)", &replace) &&
           prepare("DELETE FROM objects WHERE id=?", &erase);
}

static bool check_database(void)
{
    return answers("PRAGMA integrity_check", "ok");
}

static bool get_object(uint32_t object, uint8_t *bytes, size_t *length)
{
    (void)sqlite3_bind_int(select_one, 1, (int)object);
    int result = sqlite3_step(select_one);
    bool done = good(result, "select");
    *length = result == SQLITE_ROW ? (size_t)sqlite3_column_bytes(select_one, 0) : 0;
    if (done && *length > ENGINE_OBJECT_BYTES_MAX)
        done = engine_fail("object %u: a length of %zu", object, *length);
    if (done && *length > 0)
        memcpy(bytes, sqlite3_column_blob(select_one, 0), *length);
    (void)sqlite3_reset(select_one);
    return done;
}

static bool begin(void)
{
    return run("BEGIN IMMEDIATE");
}

static bool put_object(uint32_t object, const uint8_t *bytes, size_t length)
{
    sqlite3_stmt *statement = length == 0 ? erase : replace;
    (void)sqlite3_bind_int(statement, 1, (int)object);
    if (length > 0)
        (void)sqlite3_bind_blob(statement, 2, bytes, (int)length, SQLITE_STATIC);
    bool result = good(sqlite3_step(statement), "put");
    (void)sqlite3_reset(statement);
    return result;
}

static bool commit(bool *durable)
{
    *durable = true;
    return run("COMMIT");
}

static bool close_database(void)
{
    (void)sqlite3_finalize(select_one);
    (void)sqlite3_finalize(replace);
    (void)sqlite3_finalize(erase);
    select_one = replace = erase = NULL;
    bool result = good(sqlite3_close(database), "close");
    database = NULL;
    return result;
}

const struct engine engine_sqlite = {.name = "sqlite",
                                     .open = open_database,
                                     .check = check_database,
                                     .get = get_object,
                                     .begin = begin,
                                     .put = put_object,
                                     .commit = commit,
                                     .close = close_database};
