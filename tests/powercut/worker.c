/* SPDX-License-Identifier: MIT */
/*
 * The program whose power is cut: it opens a store, finds out which transaction it is at, and commits more, for ever.
 *
 *   worker ENGINE DIRECTORY SEED ATTEMPTS [bare] [check] [team]
 *
 * ATTEMPTS is what history_format() gives, "" at first.  bare: the directory is not synced after creation, which is then
 * the store's own business.  check: end once it is known where the store is.  team: three processes share the store; the first finds
 * out where it is, and the attempt is that of all.  Now and then it closes the store and opens
 * it again.  After a commit that failed it does so at once, as a program would that was started anew.
 *
 * Each line that it writes is one of these, and says what has already happened:
 *
 *   K n     opened, and every object is as after transaction n: an attempt begins
 *   S n     transaction n begins
 *   A n     transaction n is acknowledged: it is on the disk, the store says
 *   L n     transaction n is committed, but not yet on the disk: it survives the process
 *   E text  a call other than opening failed
 *   R text  opening failed
 *   U text  the objects are as after a transaction of an earlier attempt, which had failed or been lost
 *   T text  the objects are as after no transaction, or cannot be read, or the store's own check failed
 */
#include "tests/support/dice.h"
#include "tests/powercut/history.h"

#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define REOPENS_MAX 20 /* after failures */
#define TEAM 3

static const struct engine *const engines[] = {
    &engine_pheap,
    &engine_pheap_lazy,
#ifdef POWERCUT_SQLITE
    &engine_sqlite,
#endif
#ifdef POWERCUT_LMDB
    &engine_lmdb,
#endif
};

char engine_error[1024];

bool engine_fail(const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    (void)vsnprintf(engine_error, sizeof engine_error, format, arguments);
    va_end(arguments);
    return false;
}

static const struct engine *engine;
static const char *directory;
static struct history history;
static uint8_t found[ENGINE_OBJECT_BYTES_MAX], expected[ENGINE_OBJECT_BYTES_MAX];

/* One line, in one piece. */
static void tell(char kind, const char *format, ...) __attribute__((format(printf, 2, 3)));
static void tell(char kind, const char *format, ...)
{
    char line[1200] = {kind, ' '};
    va_list arguments;
    va_start(arguments, format);
    (void)vsnprintf(line + 2, sizeof line - 3, format, arguments);
    va_end(arguments);
    for (char *end = line; *end != '\0'; end++)
        *end = *end == '\n' ? ' ' : *end;
    size_t length = strlen(line);
    line[length++] = '\n';
    if (write(STDOUT_FILENO, line, length) != (ssize_t)length)
        exit(3);
}

static void tell_number(char kind, uint64_t number)
{
    tell(kind, "%llu", (unsigned long long)number);
}

/* Is every object as after transaction `number`?  If not, engine_error says so. */
static bool verify(uint64_t number)
{
    for (uint32_t object = 0; object < ENGINE_OBJECTS; object++) {
        size_t length, wanted = 0;
        uint64_t writer = history_writer(&history, number, object);
        if (!engine->get(object, found, &length))
            return false;
        if (writer > 0)
            wanted = history_bytes(&history, writer, object, expected);
        if (length != wanted || memcmp(found, expected, wanted) != 0) {
            (void)engine_fail("at transaction %llu object %u has %zu bytes of transaction %llu, not %zu of %llu",
                              (unsigned long long)number, object, length,
                              (unsigned long long)history_number(found, length), wanted, (unsigned long long)writer);
            return false;
        }
    }
    return true;
}

/* It is not: has it come back to an earlier attempt? */
static void tell_torn(uint64_t number)
{
    char text[sizeof engine_error];
    memcpy(text, engine_error, sizeof text);
    while (history.count > 1) {
        history.count--;
        if (verify(number)) {
            tell('U', "it is at transaction %llu of attempt %zu, of which nothing was left", (unsigned long long)number,
                 history.count);
            return;
        }
    }
    tell('T', "%s", text);
}

/* Open the store; if that fails, it has been told and the store is closed. */
static bool open_store(void)
{
    if (engine->open(directory, history.seed))
        return true;
    tell('R', "%s", engine_error);
    (void)engine->close();
    return false;
}

/* Open the store and find out where it is.  If that cannot be, it has been told and the store is closed. */
static bool open_and_verify(uint64_t *number)
{
    size_t length;
    if (!open_store())
        return false;
    if (!engine->get(0, found, &length)) {
        tell('T', "object 0 cannot be read: %s", engine_error);
        exit(1);
    }
    *number = history_number(found, length);
    if (!verify(*number)) {
        tell_torn(*number);
        exit(1);
    }
    if (!engine->check()) {
        tell('T', "%s", engine_error);
        exit(1);
    }
    tell_number('K', *number);
    history_add(&history, *number);
    return true;
}

/* One transaction, with the number after that of the last. */
static bool transaction(void)
{
    bool durable = false;
    size_t length;
    if (!engine->begin() || !engine->get(0, found, &length))
        return false;
    uint64_t number = history_number(found, length) + 1;
    tell_number('S', number);
    for (uint32_t object = 0; object < ENGINE_OBJECTS; object++)
        if (history_touches(&history, number, object) &&
            !engine->put(object, expected, history_bytes(&history, number, object, expected)))
            return false;
    if (!engine->commit(&durable))
        return false;
    tell_number(durable ? 'A' : 'L', number);
    return true;
}

/* A number of transactions in the open store, and then close it; false: something failed, and has been told. */
static bool work(uint64_t transactions)
{
    bool good = true;
    while (good && transactions-- > 0)
        good = transaction();
    char first_error[sizeof engine_error];
    memcpy(first_error, engine_error, sizeof first_error);
    bool closed = engine->close();
    if (!good || !closed)
        tell('E', "%s", good ? engine_error : first_error);
    return good && closed;
}

static void sync_directory(void)
{
    int file = open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (file < 0 || fsync(file) != 0)
        exit(2);
    (void)close(file);
}

/* One of those that share the store. */
static int run_member(uint64_t member)
{
    int failures = 0;
    for (uint64_t round = 0; failures < REOPENS_MAX; round++) {
        uint64_t transactions = 1 + dice_of(history.seed, history.count + member * 1000 + round) % 60;
        if (!open_store() || !work(transactions))
            failures++;
    }
    return 1;
}

/* The store has been opened here, and that is where this process goes on; the others are its children. */
static void start_team(void)
{
    (void)engine->close(); /* no store may be taken through a fork */
    for (uint64_t member = 1; member < TEAM; member++) {
        pid_t child = fork();
        if (child == 0)
            exit(run_member(member));
        if (child < 0)
            exit(2);
    }
    exit(run_member(0));
}

int main(int count, char **words)
{
    for (size_t i = 0; count >= 5 && i < sizeof engines / sizeof engines[0]; i++)
        if (strcmp(engines[i]->name, words[1]) == 0)
            engine = engines[i];
    if (engine == NULL || !history_parse(&history, words[4])) {
        fputs("usage: worker ENGINE DIRECTORY SEED ATTEMPTS [bare] [check] [team]\n", stderr);
        return 2;
    }
    bool bare = false, check = false, team = false;
    for (int i = 5; i < count; i++) {
        bare = bare || strcmp(words[i], "bare") == 0;
        check = check || strcmp(words[i], "check") == 0;
        team = team || strcmp(words[i], "team") == 0;
    }
    directory = words[2];
    history.seed = strtoull(words[3], NULL, 10);
    int failures = 0;
    while (failures < REOPENS_MAX) {
        uint64_t number;
        if (!open_and_verify(&number)) {
            failures++;
            continue;
        }
        if (check)
            return engine->close() ? 0 : 1;
        if (number == 0 && !bare)
            sync_directory();
        if (team)
            start_team();
        failures += !work(1 + dice_of(history.seed, history.count) % 60);
    }
    return 1;
}
