/* SPDX-License-Identifier: MIT */
/* The subcommand that this example is about: replace one text in one transaction. */
#define _POSIX_C_SOURCE 200809L
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "commands.h"
#include "path.h"

/* Length of the character that starts at `at`, 0 if it is none that may stand in XML. */
static size_t character_length(const unsigned char *at, size_t left)
{
    static const uint32_t smallest[] = {0, 0, 0x80, 0x800, 0x10000};
    unsigned char first = at[0];
    size_t length = first < 0x80 ? 1 : first < 0xC0 ? 0 : first < 0xE0 ? 2 : first < 0xF0 ? 3 : first < 0xF8 ? 4 : 0;
    if (length == 0 || length > left)
        return 0;
    if (length == 1)
        return first >= 0x20 || first == '\t' || first == '\n' || first == '\r' ? 1 : 0;
    uint32_t code = first & (0x7Fu >> length);
    for (size_t i = 1; i < length; i++) {
        if ((at[i] & 0xC0) != 0x80)
            return 0;
        code = code << 6 | (at[i] & 0x3F);
    }
    bool bad = code < smallest[length] || code > 0x10FFFF || (code >= 0xD800 && code < 0xE000) || code == 0xFFFE ||
               code == 0xFFFF;
    return bad ? 0 : length;
}

static int text_check(const char *text, size_t length)
{
    const unsigned char *bytes = (const unsigned char *)text;
    for (size_t i = 0; i < length;) {
        size_t step = character_length(bytes + i, length - i);
        if (step == 0)
            return tree_fail("the text cannot stand in XML: byte %zu (0x%02x) is not UTF-8, or a control character",
                             i + 1, bytes[i]);
        i += step;
    }
    return 0;
}

/* The contents of a file; *text is the caller's to free. */
static int file_read(const char *name, char **text, size_t *length)
{
    FILE *file = fopen(name, "rb");
    size_t capacity = 0;
    int result = 0;
    *text = NULL;
    *length = 0;
    if (file == NULL)
        return tree_fail("cannot open %s: %s", name, strerror(errno));
    for (size_t got = 1; got != 0; *length += got) {
        if (capacity - *length < 65536) {
            capacity = capacity * 2 + 65536;
            char *grown = realloc(*text, capacity);
            if (grown == NULL) {
                result = tree_fail("out of memory for %s", name);
                break;
            }
            *text = grown;
        }
        got = fread(*text + *length, 1, capacity - *length, file);
    }
    if (ferror(file) != 0 && result == 0)
        result = tree_fail("cannot read %s: %s", name, strerror(errno));
    fclose(file);
    return result;
}

struct set_context {
    struct path_match match;
    uint64_t found;
};

static int set_found(void *context, const struct path_match *match)
{
    struct set_context *set = context;
    set->match = *match;
    return ++set->found > 1 ? 1 : 0;
}

/* Inside the transaction: find the one match and replace its string.  *before gets the length that it had. */
static int set_change(const struct tree_view *view, const struct path *path, const char *text, size_t length,
                      uint64_t *before)
{
    struct set_context set = {.found = 0};
    const char *bytes;
    if (path_find(view, path, set_found, &set) != 0)
        return -1;
    if (set.found == 0)
        return tree_fail("nothing matches %s", path->text);
    if (set.found > 1)
        return tree_fail("more than one node matches %s: add a position such as [1]", path->text);
    if (tree_string_get(view, set.match.string, &bytes, before) != 0)
        return -1;
    return tree_string_replace(view->txn, set.match.slot, text, length);
}

static int set_in(pheap *heap, const struct path *path, const char *text, size_t length)
{
    struct tree_view view;
    struct pheap_info before = {.size = sizeof before};
    struct pheap_info after = {.size = sizeof after};
    uint64_t length_before = 0;
    if (write_begin(heap, &view) != 0)
        return -1;
    enum pheap_status status = pheap_get_info(heap, &before);
    int result = status == PHEAP_OK ? 0 : tree_fail_heap(status, "cannot ask for figures");
    double began = clock_seconds();
    if (result == 0)
        result = set_change(&view, path, text, length, &length_before);
    result = write_end(&view, result, PHEAP_DURABLE);
    if (result != 0)
        return result;
    double seconds = clock_seconds() - began;
    status = pheap_get_info(heap, &after);
    if (status != PHEAP_OK)
        return tree_fail_heap(status, "cannot ask for figures");
    printf("text bytes before: %llu\ntext bytes after: %zu\nlog record bytes: %llu\nwritten to the log: %llu\n"
           "written to the heap file: %llu\nmicroseconds: %.0f\n",
           (unsigned long long)length_before, length, (unsigned long long)(after.committed_lsn - before.committed_lsn),
           (unsigned long long)(after.log_written_bytes - before.log_written_bytes),
           (unsigned long long)(after.fold_written_bytes - before.fold_written_bytes), seconds * 1e6);
    return 0;
}

int set_run(const char *heap_path, const char *expression, const char *text, const char *file)
{
    pheap *heap;
    struct path path;
    char *contents = NULL;
    size_t length = text != NULL ? strlen(text) : 0;
    int result = path_parse(expression, &path);
    if (result == 0 && file != NULL)
        result = file_read(file, &contents, &length);
    if (file != NULL)
        text = contents;
    if (result == 0)
        result = text_check(text, length);
    if (result == 0)
        result = heap_open(heap_path, &heap);
    if (result == 0)
        result = heap_close(heap_path, heap, set_in(heap, &path, text, length));
    free(contents);
    return result;
}
