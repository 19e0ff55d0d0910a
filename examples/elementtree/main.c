/* SPDX-License-Identifier: MIT */
/*
 * elementtree: an XML file as a tree in a heap, which can be searched and changed in place.
 *
 * Exit status: 0 done; 1 it failed, or `find` found nothing; 2 wrong usage.
 */
#define _POSIX_C_SOURCE 200809L
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "commands.h"
#include "import.h"

#define MIME_DATABASE "/usr/share/mime/packages/freedesktop.org.xml"

static const char usage_text[] =
    "usage: elementtree COMMAND ...\n"
    "\n"
    "  import FILE.xml HEAP            put an XML file into a heap, replacing the tree in it\n"
    "  export HEAP [FILE.xml]          write the tree as XML (default: standard output)\n"
    "  find HEAP PATH                  print what a path leads to, one match a line\n"
    "  set HEAP PATH TEXT              replace one text or attribute, in one durable transaction\n"
    "  set HEAP PATH --from FILE       the same with the contents of a file\n"
    "  stats HEAP                      what the tree consists of\n"
    "  generate --bytes N[K|M|G] HEAP [FILE.xml]\n"
    "                                  import the elements of a file again and again, up to this size of the heap\n"
    "                                  (default: the freedesktop.org MIME database)\n"
    "  foobar HEAP [--count N]         what it costs to make Foo a Foobar near the front of the tree\n"
    "  writer HEAP [--lazy]            commit change after change until killed, printing the number of each\n"
    "  verify HEAP N [LAST]            check that the writer's changes up to N, at most LAST (default: N + 1), are "
    "there\n"
    "\n"
    "paths: /a/b[2]/@attribute  //name  name[@attribute='value']  //name[text()='value']  /a/*/text()\n";

static int usage(void)
{
    fputs(usage_text, stderr);
    return 2;
}

/* ------------------------------------------------------------------------------------------------ import, generate */

static int command_import(const char *xml, const char *heap)
{
    struct import_request request = {.xml = xml, .heap = heap};
    struct import_result result;
    if (import_run(&request, &result) != 0)
        return -1;
    printf("nodes: %llu\nsource bytes: %llu\nheap bytes: %llu\ntransactions: %llu\n", (unsigned long long)result.nodes,
           (unsigned long long)result.source_bytes, (unsigned long long)result.heap_bytes,
           (unsigned long long)result.commits);
    return 0;
}

/* A number, with K, M or G for powers of 1024. */
static bool number_parse(const char *text, uint64_t *number)
{
    static const char units[] = "KMG";
    char *end;
    if (*text < '0' || *text > '9')
        return false;
    errno = 0;
    unsigned long long value = strtoull(text, &end, 10);
    const char *unit = *end != '\0' ? strchr(units, *end) : NULL;
    unsigned shift = unit != NULL ? 10 * (unsigned)(unit - units + 1) : 0;
    if (errno != 0 || (unit == NULL ? *end != '\0' : end[1] != '\0') || value > UINT64_MAX >> shift)
        return false;
    *number = (uint64_t)value << shift;
    return true;
}

static int command_generate(const char *size, const char *heap, const char *xml)
{
    struct import_request request = {.xml = xml, .heap = heap};
    struct import_result result;
    if (!number_parse(size, &request.fill_bytes) || request.fill_bytes == 0)
        return tree_fail("--bytes takes a number above 0, which may end in K, M or G: %s", size);
    if (import_run(&request, &result) != 0)
        return -1;
    printf("nodes: %llu\nheap bytes: %llu\n", (unsigned long long)result.nodes, (unsigned long long)result.heap_bytes);
    return 0;
}

/* ------------------------------------------------------------------------------------------------------------ main */

/* Take the option `name` out of the arguments; if `value` is not NULL the option has one.  False if it is absent. */
static bool option_take(int *count, char **arguments, const char *name, const char **value)
{
    int width = value != NULL ? 2 : 1;
    for (int i = 0; i + width <= *count; i++) {
        if (strcmp(arguments[i], "--") == 0)
            return false;
        if (strcmp(arguments[i], name) != 0)
            continue;
        if (value != NULL)
            *value = arguments[i + 1];
        for (int j = i; j + width < *count; j++)
            arguments[j] = arguments[j + width];
        *count -= width;
        return true;
    }
    return false;
}

static int command_verify(const char *heap, const char *first, const char *last)
{
    uint64_t from;
    uint64_t to;
    if (!number_parse(first, &from) || (last != NULL && !number_parse(last, &to)))
        return tree_fail("verify takes numbers of changes, and not: %s%s%s", first, last != NULL ? " " : "",
                         last != NULL ? last : "");
    return verify_run(heap, from, last != NULL ? to : from + 1);
}

static int command_foobar(const char *heap, const char *count)
{
    uint64_t changes;
    if (!number_parse(count, &changes) || changes == 0 || changes > 1000000)
        return tree_fail("--count takes a number from 1 to 1000000: %s", count);
    return foobar_run(heap, changes);
}

/* Run the command `name` with what follows it; -2 if that is not how it is used. */
static int command_run(const char *name, int count, char **arguments)
{
    const char *value = NULL;
    bool lazy = strcmp(name, "writer") == 0 && option_take(&count, arguments, "--lazy", NULL);
    bool bytes = strcmp(name, "generate") == 0 && option_take(&count, arguments, "--bytes", &value);
    bool from = strcmp(name, "set") == 0 && count == 4 && option_take(&count, arguments, "--from", &value);
    if (strcmp(name, "foobar") == 0 && !option_take(&count, arguments, "--count", &value))
        value = "1000";
    /* Whatever begins with two dashes and is left is no option of this command, except the text of `set`. */
    for (int i = 0; i < count; i++)
        if (strncmp(arguments[i], "--", 2) == 0 && !(strcmp(name, "set") == 0 && i == 2))
            return -2;
    const char *second = count > 1 ? arguments[1] : NULL;
    const char *third = count > 2 ? arguments[2] : NULL;
    if (strcmp(name, "import") == 0 && count == 2)
        return command_import(arguments[0], second);
    if (strcmp(name, "export") == 0 && (count == 1 || count == 2))
        return export_run(arguments[0], second);
    if (strcmp(name, "find") == 0 && count == 2)
        return find_run(arguments[0], second);
    if (strcmp(name, "set") == 0 && count == (from ? 2 : 3))
        return set_run(arguments[0], second, third, value);
    if (strcmp(name, "stats") == 0 && count == 1)
        return stats_run(arguments[0]);
    if (bytes && (count == 1 || count == 2))
        return command_generate(value, arguments[0], second != NULL ? second : MIME_DATABASE);
    if (strcmp(name, "writer") == 0 && count == 1)
        return writer_run(arguments[0], lazy);
    if (strcmp(name, "verify") == 0 && (count == 2 || count == 3))
        return command_verify(arguments[0], second, third);
    if (strcmp(name, "foobar") == 0 && count == 1)
        return command_foobar(arguments[0], value);
    return -2;
}

int main(int count, char **arguments)
{
    int result = -2;
    if (count == 2 && (strcmp(arguments[1], "--help") == 0 || strcmp(arguments[1], "-h") == 0))
        result = fputs(usage_text, stdout) < 0 ? -1 : 0;
    else if (count > 1)
        result = command_run(arguments[1], count - 2, arguments + 2);
    if (result == -2)
        return usage();
    if (result == 0 && (fflush(stdout) != 0 || ferror(stdout) != 0))
        result = tree_fail("cannot write to standard output: %s", strerror(errno));
    return result == 0 ? 0 : 1;
}
