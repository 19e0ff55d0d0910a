/* SPDX-License-Identifier: MIT */
/*
 * Runs the command pheap, within this process, on files of any content: a heap and its log, or an archive.
 *
 *   F1  it exits with 0, 1 or 2
 *   F2  with --json what it answers is one JSON object; else lines of printable text.  What it says on standard error is
 *       text too
 *   F3  `log`, and what is asked with --read-only, change neither the heap nor its log
 *   F4  the heap that `salvage` or `restore` makes is sound: `check` says so.  Where they fail there is none
 *   F5  a heap that `check` calls sound can be backed up, and the archive be verified
 *   F6  no file is left open; it takes less than a second of the processor's time
 *
 * Input: two bytes, which command and options; for `restore` an archive; else what fuzz/input.h says, without the ring,
 * of which the script's first bytes are the numbers that options take.
 */
#include "fuzz/place.h"
#include "fuzz/reseal.h"
#include "tests/support/dice.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define HEAD_BYTES 2u
#define IMAGE_MAX (UINT64_C(16) << 20) /* bytes of the heap file and of the log */
#define ARGUMENTS_MAX 16
#define DEPTH_MAX 8u

/* tools/pheap.c */
int pheap_command_main(int argc, char **argv);

enum command { INFO, CHECK, LOG, SALVAGE, RESTORE, CHECKPOINT, BACKUP, COMMANDS };

/* -------------------------------------------------------------------------------------------------------------- JSON */

static const char *skip_space(const char *at)
{
    return at + strspn(at, " \n");
}

static const char *json_string(const char *at)
{
    FUZZ_REQUIRE(*at++ == '"');
    for (; *at != '"'; at++) {
        FUZZ_REQUIRE((unsigned char)*at >= 0x20);
        if (*at != '\\')
            continue;
        at++;
        FUZZ_REQUIRE(*at != '\0' && strchr("\"\\u", *at) != NULL);
        if (*at == 'u')
            FUZZ_REQUIRE(strspn(at + 1, "0123456789abcdef") >= 4);
    }
    return at + 1;
}

static const char *json_plain(const char *at)
{
    static const char *const words[] = {"true", "false", "null"};
    size_t length = strspn(at, "-.0123456789");
    for (unsigned i = 0; i < 3 && length == 0; i++)
        if (strncmp(at, words[i], strlen(words[i])) == 0)
            length = strlen(words[i]);
    FUZZ_REQUIRE(length > 0);
    return at + length;
}

/* One object, and behind it nothing. */
static void must_be_json(const char *at)
{
    char open[DEPTH_MAX] = "";
    unsigned depth = 0;
    FUZZ_REQUIRE(*at == '{');
    do {
        /* A value; in an object it has a name. */
        if (depth > 0 && open[depth - 1] == '{') {
            at = skip_space(json_string(at));
            FUZZ_REQUIRE(*at == ':');
            at = skip_space(at + 1);
        }
        if (*at == '{' || *at == '[') {
            FUZZ_REQUIRE(depth < DEPTH_MAX);
            open[depth++] = *at;
            at = skip_space(at + 1);
            if (*at != '}' && *at != ']')
                continue;
        } else {
            at = *at == '"' ? json_string(at) : json_plain(at);
            at = skip_space(at);
        }
        while (depth > 0 && (*at == '}' || *at == ']')) {
            FUZZ_REQUIRE(open[--depth] == (*at == '}' ? '{' : '['));
            at = skip_space(at + 1);
        }
        FUZZ_REQUIRE(depth == 0 || *at == ',');
        at = depth == 0 ? at : skip_space(at + 1);
    } while (depth > 0);
    FUZZ_REQUIRE(*at == '\0');
}

static void must_be_text(const char *text, size_t length)
{
    FUZZ_REQUIRE(strlen(text) == length && (length == 0 || text[length - 1] == '\n'));
    for (size_t i = 0; i < length; i++)
        FUZZ_REQUIRE((unsigned char)text[i] >= 0x20 ? text[i] != 0x7f : text[i] == '\n');
}

/* ------------------------------------------------------------------------------------------------------- the command */

struct line {
    char *arguments[ARGUMENTS_MAX];
    int count;
};

/* getopt changes the order of what it is given, so the arguments are our own. */
static void add(struct line *line, const char *argument)
{
    FUZZ_REQUIRE(line->count + 1 < ARGUMENTS_MAX);
    char *copy = strdup(argument);
    FUZZ_REQUIRE(copy != NULL);
    line->arguments[line->count++] = copy;
}

static void add_number(struct line *line, const char *option, uint64_t number)
{
    char text[64];
    (void)snprintf(text, sizeof text, "%s=%llu", option, (unsigned long long)number);
    add(line, text);
}

/* Run it, and drop the line. */
static int run(struct line *line, bool json)
{
    struct fuzz_said said;
    char *arguments[ARGUMENTS_MAX];
    memcpy(arguments, line->arguments, sizeof arguments);
    fuzz_place_listen();
    int code = pheap_command_main(line->count, line->arguments);
    fuzz_place_hear(&said);
    FUZZ_REQUIRE(code >= 0 && code <= 2); /* F1 */
    if (json)
        must_be_json(said.out); /* F2 */
    else
        must_be_text(said.out, said.out_length);
    must_be_text(said.err, said.err_length);
    FUZZ_REQUIRE(code != 2 || said.err_length > 0);
    fuzz_said_deinit(&said);
    for (int i = 0; i < line->count; i++)
        free(arguments[i]);
    *line = (struct line){.count = 0};
    return code;
}

static int run_plain(const char *command, const char *one, const char *other)
{
    struct line line = {.count = 0};
    add(&line, "pheap");
    add(&line, command);
    add(&line, fuzz_place_path(one));
    if (other != NULL)
        add(&line, fuzz_place_path(other));
    return run(&line, false);
}

static void follow(enum command command, int code, bool verified)
{
    if (command == SALVAGE || command == RESTORE) {
        bool made = command == SALVAGE ? code != 2 : code == 0 && !verified;
        FUZZ_REQUIRE(fuzz_place_has("made") == made && !fuzz_place_has("made-new"));
        if (made)
            FUZZ_REQUIRE(run_plain("check", "made", NULL) == 0); /* F4 */
    }
    if (command == CHECK && code == 0 && run_plain("backup", "heap", "archive") == 0) {
        struct line line = {.count = 0};
        add(&line, "pheap");
        add(&line, "restore");
        add(&line, "--verify");
        add(&line, fuzz_place_path("archive"));
        FUZZ_REQUIRE(run(&line, false) == 0); /* F5 */
    }
}

static void command(const uint8_t *head, const struct fuzz_bytes *script)
{
    static const char *const names[] = {"info", "check", "log", "salvage", "restore", "checkpoint", "backup"};
    enum command which = (enum command)(head[0] % COMMANDS);
    uint64_t numbers[2] = {0};
    struct line line = {.count = 0};
    bool json = (head[1] & 1) != 0, look = which == INFO || which == CHECK, verify = false;
    bool read_only = which == LOG || ((look || which == BACKUP) && (head[1] & 2) != 0);
    memcpy(numbers, script->data, script->length < sizeof numbers ? script->length : sizeof numbers);
    add(&line, "pheap");
    add(&line, names[which]);
    if (json)
        add(&line, "--json");
    if (read_only && which != LOG)
        add(&line, "--read-only");
    if (which == INFO && (head[1] & 4) != 0)
        add(&line, "--quick");
    if (which == LOG && (head[1] & 4) != 0)
        add(&line, "--no-ranges");
    if (which == LOG && (head[1] & 8) != 0)
        add_number(&line, "--from", numbers[0]);
    if (which == LOG && (head[1] & 16) != 0)
        add_number(&line, "--count", numbers[1]);
    if ((which == RESTORE || which == BACKUP || which == SALVAGE) && (head[1] & 32) != 0)
        add(&line, "--force");
    if (which == RESTORE && (head[1] & 64) != 0) {
        add(&line, "--verify");
        verify = true;
    }
    add(&line, fuzz_place_path(which == RESTORE ? "archive" : "heap"));
    if (which == SALVAGE || which == BACKUP || (which == RESTORE && !verify))
        add(&line, fuzz_place_path(which == BACKUP ? "archive" : "made"));
    uint64_t heap = fuzz_place_checksum("heap"), log = fuzz_place_checksum("heap-wal");
    int code = run(&line, json);
    if (read_only || which == SALVAGE)
        FUZZ_REQUIRE(fuzz_place_checksum("heap") == heap && fuzz_place_checksum("heap-wal") == log); /* F3 */
    follow(which, code, verify);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct fuzz_input input = {0};
    if (size < HEAD_BYTES || size > FUZZ_INPUT_MAX)
        return -1;
    fuzz_time_begin();
    fuzz_place_begin();
    if (data[0] % COMMANDS == RESTORE) {
        fuzz_place_write("archive", data + HEAD_BYTES, size - HEAD_BYTES);
        fuzz_bytes_set(&input.script, "", 0);
    } else {
        fuzz_input_parse(&input, data + HEAD_BYTES, size - HEAD_BYTES);
        fuzz_place_image("heap", &input.heap, IMAGE_MAX);
        fuzz_place_image("heap-wal", &input.log, IMAGE_MAX);
    }
    command(data, &input.script);
    fuzz_place_end();
    fuzz_input_deinit(&input);
    fuzz_time_end(); /* F6 */
    return 0;
}

/* ---------------------------------------------------------------------------------------------------------- mutation */

size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t most, unsigned seed)
{
    uint64_t dice = seed;
    if (size < HEAD_BYTES || most <= HEAD_BYTES)
        return LLVMFuzzerMutate(data, size, most);
    bool restore = data[0] % COMMANDS == RESTORE;
    if (dice_roll(&dice) % 8 == 0) { /* between archives and heaps there is no way */
        uint8_t which = (uint8_t)(dice_roll(&dice) % COMMANDS);
        data[0] = restore ? RESTORE : which == RESTORE ? INFO : which;
        data[1] = (uint8_t)dice_roll(&dice);
        return size;
    }
    return HEAD_BYTES + (restore ? LLVMFuzzerMutate(data + HEAD_BYTES, size - HEAD_BYTES, most - HEAD_BYTES)
                                 : fuzz_mutate_input(data + HEAD_BYTES, size - HEAD_BYTES, most - HEAD_BYTES,
                                                     (unsigned)dice_roll(&dice)));
}

size_t LLVMFuzzerCustomCrossOver(const uint8_t *one, size_t one_size, const uint8_t *other, size_t other_size,
                                 uint8_t *out, size_t most, unsigned seed)
{
    size_t size = one_size < most ? one_size : most;
    memcpy(out, one, size);
    if (size < HEAD_BYTES || other_size < HEAD_BYTES || most <= HEAD_BYTES || one[0] % COMMANDS == RESTORE ||
        other[0] % COMMANDS == RESTORE)
        return size;
    return HEAD_BYTES + fuzz_cross_inputs(one + HEAD_BYTES, one_size - HEAD_BYTES, other + HEAD_BYTES,
                                          other_size - HEAD_BYTES, out + HEAD_BYTES, most - HEAD_BYTES, seed);
}
