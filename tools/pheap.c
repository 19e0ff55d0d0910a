/* SPDX-License-Identifier: MIT */
/*
 * The command pheap: create, inspect, check and maintain heaps.  See pheap(1).
 *
 * This file reads the command line and dispatches; each command is in a file of its own.  Exit codes are in output.h.
 */
#define _GNU_SOURCE
#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <inttypes.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include "tools/output.h"

/* ----------------------------------------------------------------------------------- commands and their options */

enum option_id {
    OPTION_HELP = 256,
    OPTION_JSON,
    OPTION_PROGRESS,
    OPTION_READ_ONLY,
    OPTION_QUICK,
    OPTION_NO_RANGES,
    OPTION_FROM,
    OPTION_COUNT,
    OPTION_LOG_LIMIT,
    OPTION_SEGMENT,
    OPTION_BUFFER,
    OPTION_MODE,
    OPTION_LEVEL,
    OPTION_LONG,
    OPTION_FORCE,
    OPTION_VERIFY,
    OPTION_CHECKSUMS,
    OPTION_FILL,
    OPTION_DEPTH,
    OPTION_WIDTH,
    OPTION_END
};

#define LEVEL_MIN (-7)
#define LEVEL_MAX 22
#define LONG_WINDOW_MIN 17
#define LONG_WINDOW_DEFAULT 27

#define DEPTH_DEFAULT 3
#define DEPTH_MAX 24
#define WIDTH_DEFAULT 200
#define WIDTH_MAX (UINT64_C(1) << 30)
#define SHOW_COUNT_DEFAULT 20

#define BIT(option) (1U << ((option)-OPTION_HELP))

static const struct option_text {
    enum option_id option;
    const char *name;
    const char *argument; /* NULL if it takes none, "[=N]" if it need not have it */
    const char *help;
} option_texts[] = {
    {OPTION_LOG_LIMIT, "log-limit", "SIZE", "upper bound of the log file (default 256M)"},
    {OPTION_SEGMENT, "segment", "SIZE", "unit of log allocation, a power of two, 16K to 64M (default 4M)"},
    {OPTION_BUFFER, "buffer", "SIZE", "shared log buffer, a power of two, 16K to 64M (default 2M)"},
    {OPTION_MODE, "mode", "OCTAL", "permission bits of the files, before the umask (default 666)"},
    {OPTION_CHECKSUMS, "checksums", NULL, "keep a checksum of every page in HEAP-sum, for pheap scrub"},
    {OPTION_FILL, "fill", NULL, "give pages that have no checksum that of what they hold now"},
    {OPTION_READ_ONLY, "read-only", NULL, "change nothing; refuse a heap that needs recovery"},
    {OPTION_QUICK, "quick", NULL, "leave out the space figures, which need a walk over the heap"},
    {OPTION_FROM, "from", "LSN", "begin with the first record at or after this LSN"},
    {OPTION_COUNT, "count", "N", "stop after N records, or after N parts of each container (show: default 20)"},
    {OPTION_DEPTH, "depth", "N", "open containers in containers N deep, 0 to 24 (default 3)"},
    {OPTION_WIDTH, "width", "N", "show N bytes of a text at most (default 200)"},
    {OPTION_NO_RANGES, "no-ranges", NULL, "one line for each record, without the ranges it changes"},
    {OPTION_LEVEL, "level", "N", "how hard zstd tries: 1 (fast) to 22 (small), -1 to -7 faster still (default 3)"},
    {OPTION_LONG, "long", "[=N]",
     "find repetitions that are far apart, in a window of 2^N bytes, 17 to 27 (default 27)"},
    {OPTION_FORCE, "force", NULL, "replace the file that is there"},
    {OPTION_VERIFY, "verify", NULL, "only read and check ARCHIVE; make no heap"},
    {OPTION_PROGRESS, "progress", NULL, "show progress even if standard error is not a terminal"},
    {OPTION_JSON, "json", NULL, "answer in JSON"},
    {OPTION_HELP, "help", NULL, "show this text"},
};
enum { OPTION_TEXT_COUNT = sizeof option_texts / sizeof option_texts[0] };

static const struct command {
    const char *name;
    enum exit_code (*run)(const struct request *request, struct output *output);
    unsigned options; /* which are allowed: BIT()s */
    const char *operands;
    const char *summary;
    const char *help;
} commands[] = {
    {"create", cmd_create,
     BIT(OPTION_LOG_LIMIT) | BIT(OPTION_SEGMENT) | BIT(OPTION_BUFFER) | BIT(OPTION_MODE) | BIT(OPTION_CHECKSUMS),
     "HEAP", "make a new, empty heap",
     "Make a new, empty heap in the file HEAP.  Fails if the file exists.\n"
     "The first program that writes to it makes the log HEAP-wal beside it.\n"},
    {"info", cmd_info, BIT(OPTION_READ_ONLY) | BIT(OPTION_QUICK) | BIT(OPTION_PROGRESS), "HEAP",
     "identity, sizes, log positions, live and free space, users and pins",
     "Show the identity of HEAP, its sizes, log positions (LSNs), live and free space, fragmentation,\n"
     "which processes have it open, and which of them pin what.  Works while others write.\n"},
    {"check", cmd_check, BIT(OPTION_READ_ONLY) | BIT(OPTION_PROGRESS), "HEAP", "walk the whole heap and report damage",
     "Walk the whole of HEAP and report what is wrong where.  Works while others write.\n"
     "The exit status is 0 if the heap is sound, 1 if it is damaged, 2 if it could not be checked.\n"},
    {"scrub", cmd_scrub, BIT(OPTION_FILL) | BIT(OPTION_READ_ONLY) | BIT(OPTION_PROGRESS), "HEAP",
     "compare every page with its checksum and report damage",
     "Compare every page of HEAP, which was made by pheap create --checksums, with its checksum, and name pages that\n"
     "do not match and the blocks in them.  Works while others write.  The exit status is 0 if no page is damaged,\n"
     "1 if one is, 2 if the heap could not be scrubbed.\n"},
    {"show", cmd_show,
     BIT(OPTION_DEPTH) | BIT(OPTION_COUNT) | BIT(OPTION_WIDTH) | BIT(OPTION_READ_ONLY) | BIT(OPTION_PROGRESS),
     "HEAP [STEP...]", "show the values of a heap as a tree",
     "Show the values of HEAP, from the root map or from where the STEPs lead: the key of a map (a str, or else an "
     "int),\n"
     "the number of an element (from the end if negative), #N for the Nth entry of anything, the name of a field.\n"
     "What is damaged is told in its place, and makes the exit status 1.  Works while others write.\n"},
    {"types", cmd_types, BIT(OPTION_READ_ONLY) | BIT(OPTION_PROGRESS), "HEAP",
     "list the types that are registered in a heap of values",
     "List the types that are registered in HEAP: name, version, size, fingerprint, and the offset, size, kind and "
     "name of\n"
     "each field.\n"},
    {"collect", cmd_collect, BIT(OPTION_PROGRESS), "HEAP", "free values that cannot be reached",
     "Free the values of HEAP that cannot be reached from its root map: such as refer to each other, and what "
     "programs\n"
     "that died had made and not stored.  Works while others write, in small transactions.\n"},
    {"log", cmd_log, BIT(OPTION_FROM) | BIT(OPTION_COUNT) | BIT(OPTION_NO_RANGES), "HEAP",
     "list the records of the log",
     "List the records in the log of HEAP: LSN, epoch, size, and the ranges that each changes.\n"
     "Reads the files as they are: it does not recover, and changes nothing.\n"},
    {"checkpoint", cmd_checkpoint, BIT(OPTION_PROGRESS), "HEAP", "bring the heap file up to date and free the log",
     "Bring the heap file of HEAP up to date with its log, sync it, and let the log be recycled.\n"},
    {"backup", cmd_backup,
     BIT(OPTION_LEVEL) | BIT(OPTION_LONG) | BIT(OPTION_FORCE) | BIT(OPTION_READ_ONLY) | BIT(OPTION_PROGRESS),
     "HEAP ARCHIVE", "write a consistent archive while others use the heap",
     "Write a compressed, checksummed archive of HEAP as it is at one commit to the file ARCHIVE, or to\n"
     "standard output if that is -.  Works while others write.  The file appears when it is whole.\n"},
    {"restore", cmd_restore, BIT(OPTION_FORCE) | BIT(OPTION_VERIFY) | BIT(OPTION_PROGRESS), "ARCHIVE HEAP",
     "make a heap of an archive",
     "Make the heap HEAP of ARCHIVE, or of standard input if that is -.  All of the archive is verified,\n"
     "and the heap checked, before HEAP appears or is replaced.  The exit status is 1 if the archive is damaged.\n"},
    {"salvage", cmd_salvage, BIT(OPTION_FORCE) | BIT(OPTION_PROGRESS), "DAMAGED NEW",
     "make a sound heap of what is left of a damaged one",
     "Make the heap NEW of every block that can still be proved in the heap DAMAGED and its log, at its old offset,\n"
     "and report what is lost.  DAMAGED and its log are only read; nobody may have it open.  The exit status is 0 if\n"
     "nothing was lost, 1 if something was, 2 if no heap could be made.\n"},
};
enum { COMMAND_COUNT = sizeof commands / sizeof commands[0] };

static unsigned allowed_options(const struct command *command)
{
    return command->options | BIT(OPTION_HELP) | BIT(OPTION_JSON);
}

/* -------------------------------------------------------------------------------------------------------- help */

static void print_usage(FILE *stream)
{
    fputs("Usage: pheap COMMAND [OPTION]... HEAP\n"
          "       pheap backup [OPTION]... HEAP ARCHIVE\n"
          "       pheap restore [OPTION]... ARCHIVE HEAP\n"
          "       pheap salvage [OPTION]... DAMAGED NEW\n"
          "       pheap show [OPTION]... HEAP [STEP...]\n"
          "       pheap COMMAND --help\n"
          "       pheap --help | --version\n\n"
          "Commands:\n",
          stream);
    for (size_t i = 0; i < COMMAND_COUNT; i++)
        fprintf(stream, "  %-11s %s\n", commands[i].name, commands[i].summary);
    fputs("\nExit status: 0 done, 1 the heap, its log or the archive is damaged, 2 anything else.  See pheap(1).\n",
          stream);
}

static void print_command_help(const struct command *command)
{
    printf("Usage: pheap %s [OPTION]... %s\n\n%s\nOptions:\n", command->name, command->operands, command->help);
    for (size_t i = 0; i < OPTION_TEXT_COUNT; i++) {
        const struct option_text *text = &option_texts[i];
        if ((allowed_options(command) & BIT(text->option)) == 0)
            continue;
        char left[32];
        snprintf(left, sizeof left, "--%s%s%s", text->name,
                 text->argument != NULL && text->argument[0] != '[' ? " " : "",
                 text->argument != NULL ? text->argument : "");
        printf("  %-18s %s\n", left, text->help);
    }
    if ((command->options & (BIT(OPTION_LOG_LIMIT) | BIT(OPTION_SEGMENT))) != 0)
        fputs("\nA SIZE is a number of bytes, or one followed by K, M, G or T (powers of 1024).\n", stdout);
}

/* Help or version was asked for and printed: did it get out? */
static int finish_help(void)
{
    if (fflush(stdout) == 0 && !ferror(stdout))
        return EXIT_DONE;
    fprintf(stderr, "pheap: cannot write the output: %s\n", strerror(errno));
    return EXIT_TROUBLE;
}

/* ------------------------------------------------------------------------------------------------------ arguments */

/* A decimal number, with a unit if `units`.  False if it is not one, or does not fit. */
static bool parse_number(const char *text, bool units, uint64_t *number)
{
    if (!isdigit((unsigned char)text[0]))
        return false;
    char *end = NULL;
    errno = 0;
    unsigned long long value = strtoull(text, &end, 10);
    if (errno != 0)
        return false;
    unsigned shift = 0;
    if (units && *end != '\0') {
        static const char letters[] = "KMGT";
        const char *letter = strchr(letters, toupper((unsigned char)*end));
        if (letter == NULL)
            return false;
        shift = 10U * (unsigned)(letter - letters + 1);
        end++;
    }
    if (*end != '\0' || value > UINT64_MAX >> shift)
        return false;
    *number = (uint64_t)value << shift;
    return true;
}

/* A size above 0, at most `max`: 0 means "the default" to the library, and is not what someone who types it means. */
static bool parse_size(const char *text, uint64_t max, uint64_t *size)
{
    uint64_t value = 0;
    if (!parse_number(text, true, &value) || value == 0 || value > max)
        return false;
    *size = value;
    return true;
}

static bool parse_size32(const char *text, uint32_t *size)
{
    uint64_t value = 0;
    if (!parse_size(text, UINT32_MAX, &value))
        return false;
    *size = (uint32_t)value;
    return true;
}

static bool parse_mode(const char *text, uint32_t *mode)
{
    char *end = NULL;
    if (text[0] < '0' || text[0] > '7')
        return false;
    unsigned long value = strtoul(text, &end, 8);
    if (*end != '\0' || value == 0 || value > 0777)
        return false;
    *mode = (uint32_t)value;
    return true;
}

/* A small whole number, which may be negative. */
static bool parse_small(const char *text, int32_t least, int32_t most, int32_t *number)
{
    uint64_t value = 0;
    bool negative = text[0] == '-';
    if (!parse_number(text + (negative ? 1 : 0), false, &value) || value > INT16_MAX)
        return false;
    int32_t found = negative ? -(int32_t)value : (int32_t)value;
    if (found < least || found > most)
        return false;
    *number = found;
    return true;
}

static bool parse_window(const char *text, uint32_t *window_log)
{
    int32_t value = LONG_WINDOW_DEFAULT;
    if (text != NULL && !parse_small(text, LONG_WINDOW_MIN, LONG_WINDOW_DEFAULT, &value))
        return false;
    *window_log = (uint32_t)value;
    return true;
}

/* Take one option into the request.  False if its argument is not acceptable. */
static bool apply_option(struct request *request, enum option_id option, const char *argument)
{
    switch (option) {
    case OPTION_JSON:
        request->json = true;
        return true;
    case OPTION_PROGRESS:
        request->progress = true;
        return true;
    case OPTION_READ_ONLY:
        request->read_only = true;
        return true;
    case OPTION_QUICK:
        request->quick = true;
        return true;
    case OPTION_NO_RANGES:
        request->ranges = false;
        return true;
    case OPTION_FROM:
        return parse_number(argument, false, &request->from_lsn);
    case OPTION_COUNT:
        return parse_number(argument, false, &request->count_max);
    case OPTION_DEPTH:
        return parse_number(argument, false, &request->depth_max) && request->depth_max <= DEPTH_MAX;
    case OPTION_WIDTH:
        return parse_number(argument, false, &request->width_max) && request->width_max <= WIDTH_MAX;
    case OPTION_LOG_LIMIT:
        return parse_size(argument, UINT64_MAX, &request->options.log_limit_bytes);
    case OPTION_SEGMENT:
        return parse_size32(argument, &request->options.segment_bytes);
    case OPTION_BUFFER:
        return parse_size32(argument, &request->options.buffer_bytes);
    case OPTION_MODE:
        return parse_mode(argument, &request->options.mode);
    case OPTION_LEVEL:
        return parse_small(argument, LEVEL_MIN, LEVEL_MAX, &request->backup.level) && request->backup.level != 0;
    case OPTION_LONG:
        return parse_window(argument, &request->backup.window_log);
    case OPTION_FORCE:
        request->backup.flags |= PHEAP_REPLACE;
        return true;
    case OPTION_VERIFY:
        request->verify = true;
        return true;
    case OPTION_CHECKSUMS:
        request->options.checksums = 1;
        return true;
    case OPTION_FILL:
        request->fill = true;
        return true;
    case OPTION_HELP:
    case OPTION_END:
        break;
    }
    return false;
}

static const struct option_text *text_of(int option)
{
    for (size_t i = 0; i < OPTION_TEXT_COUNT; i++)
        if ((int)option_texts[i].option == option)
            return &option_texts[i];
    return NULL;
}

static int usage_error(const struct command *command, const char *what, const char *value)
{
    fprintf(stderr, "pheap %s: %s", command->name, what);
    if (value != NULL) {
        fputs(": ", stderr);
        output_visible_to(stderr, value);
    }
    fprintf(stderr, "\nTry 'pheap %s --help'.\n", command->name);
    return EXIT_TROUBLE;
}

/* The allowed options of a command, in the form that getopt_long() takes. */
static void list_long_options(const struct command *command, struct option list[static OPTION_TEXT_COUNT + 1])
{
    size_t count = 0;
    for (size_t i = 0; i < OPTION_TEXT_COUNT; i++) {
        const struct option_text *text = &option_texts[i];
        if ((allowed_options(command) & BIT(text->option)) != 0)
            list[count++] = (struct option){.name = text->name,
                                            .has_arg = text->argument == NULL     ? no_argument
                                                       : text->argument[0] == '[' ? optional_argument
                                                                                  : required_argument,
                                            .val = (int)text->option};
    }
    list[count] = (struct option){.name = NULL};
}

/* Take the operands into the request; EXIT_DONE, or what usage_error gives. */
static int take_operands(const struct command *command, struct request *request, int count, char **operands)
{
    if (strchr(command->operands, ' ') == NULL) {
        if (count < 1)
            return usage_error(command, "which heap? The name of its file is missing", NULL);
        if (count > 1)
            return usage_error(command, "one heap at a time; this is too much", operands[1]);
        request->path = operands[0];
        return EXIT_DONE;
    }
    if (strchr(command->operands, '[') != NULL) {
        if (count < 1)
            return usage_error(command, "which heap? The name of its file is missing", NULL);
        request->path = operands[0];
        request->steps = operands + 1;
        request->step_count = count - 1;
        return EXIT_DONE;
    }
    bool archive_first = command->operands[0] == 'A';
    int wanted = request->verify ? 1 : 2;
    if (count < wanted)
        return usage_error(command, "a name is missing; it takes", request->verify ? "ARCHIVE" : command->operands);
    if (count > wanted)
        return usage_error(command, "this is too much", operands[wanted]);
    if (command->operands[0] == 'D') {
        request->path = operands[0];
        request->new_path = operands[1];
        return EXIT_DONE;
    }
    request->archive = operands[archive_first ? 0 : 1];
    request->path = operands[archive_first && !request->verify ? 1 : 0];
    request->archive_is_stream = strcmp(request->archive, "-") == 0;
    request->answer_on_error = request->archive_is_stream && !archive_first;
    return EXIT_DONE;
}

/* Run a command; `argv[0]` is its name. */
static int run_command(const struct command *command, int argc, char **argv)
{
    struct request request = {.command = command->name,
                              .ranges = true,
                              .count_max = command->run == cmd_show ? SHOW_COUNT_DEFAULT : UINT64_MAX,
                              .depth_max = DEPTH_DEFAULT,
                              .width_max = WIDTH_DEFAULT};
    request.options.size = sizeof request.options;
    request.backup.size = sizeof request.backup;
    struct option long_options[OPTION_TEXT_COUNT + 1];
    list_long_options(command, long_options);
    optind = 0;
    opterr = 0;
    for (;;) {
        int option = getopt_long(argc, argv, ":", long_options, NULL);
        if (option == -1)
            break;
        if (option == OPTION_HELP) {
            print_command_help(command);
            return finish_help();
        }
        if (option == ':')
            return usage_error(command, "this option needs a value", argv[optind - 1]);
        if (option == '?') {
            char letter[] = {'-', (char)optopt, '\0'};
            bool is_short = optopt > 0 && optopt < OPTION_HELP;
            return usage_error(command, optopt >= OPTION_HELP ? "this option takes no value" : "no such option",
                               is_short ? letter : argv[optind - 1]);
        }
        if (!apply_option(&request, (enum option_id)option, optarg)) {
            char what[80];
            snprintf(what, sizeof what, "not a value for --%s", text_of(option)->name);
            return usage_error(command, what, optarg);
        }
    }
    int taken = take_operands(command, &request, argc - optind, argv + optind);
    if (taken != EXIT_DONE)
        return taken;

    struct output output;
    output_begin(&output, &request);
    enum exit_code code = command->run(&request, &output);
    return (int)output_end(&output, code);
}

/*
 * Fill descriptors 0 to 2 if the caller closed them, so that no file of a heap gets one of their numbers and is
 * overwritten by a message.  Opened for reading only, standard output then fails instead of losing the answer.
 */
static bool fill_standard_descriptors(void)
{
    for (int descriptor = 0; descriptor <= 2; descriptor++)
        if (fcntl(descriptor, F_GETFD) < 0 && open("/dev/null", O_RDONLY) != descriptor)
            return false;
    return true;
}

int main(int argc, char **argv)
{
    if (!fill_standard_descriptors())
        return EXIT_TROUBLE;
    if (argc < 2) {
        print_usage(stderr);
        return EXIT_TROUBLE;
    }
    if (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0) {
        print_usage(stdout);
        return finish_help();
    }
    if (strcmp(argv[1], "--version") == 0 || strcmp(argv[1], "-V") == 0) {
        printf("pheap %s\n", pheap_version_string());
        return finish_help();
    }
    for (size_t i = 0; i < COMMAND_COUNT; i++)
        if (strcmp(argv[1], commands[i].name) == 0)
            return run_command(&commands[i], argc - 1, argv + 1);
    fputs("pheap: no such command: ", stderr);
    output_visible_to(stderr, argv[1]);
    fputs("\nTry 'pheap --help'.\n", stderr);
    return EXIT_TROUBLE;
}
