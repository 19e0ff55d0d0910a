/* SPDX-License-Identifier: MIT */
/* The subcommands that only read: export, find, stats. */
#define _POSIX_C_SOURCE 200809L
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "commands.h"
#include "export.h"
#include "path.h"
#include "progress.h"

/* ---------------------------------------------------------------------------------------------------- export, find */

static int export_current(const struct tree_view *view, FILE *output)
{
    uint64_t top;
    const struct tree_document *document;
    if (tree_document_find(view, &top, &document) != 0)
        return -1;
    return export_node(view, top, document->nodes, output);
}

/* Whether the two names are of one file: then to write to one would destroy the other. */
static bool is_same(const char *one, const char *other)
{
    struct stat first;
    struct stat second;
    return stat(one, &first) == 0 && stat(other, &second) == 0 && first.st_dev == second.st_dev &&
           first.st_ino == second.st_ino;
}

int export_run(const char *heap_path, const char *file)
{
    pheap *heap;
    struct tree_view view;
    if (file != NULL && is_same(file, heap_path))
        return tree_fail("cannot write %s: this is the heap itself", file);
    if (heap_open_to_read(heap_path, &heap) != 0)
        return -1;
    int result = snapshot_begin(heap, &view);
    if (result == 0) {
        FILE *output = file != NULL ? fopen(file, "wb") : stdout;
        if (output == NULL) {
            result = tree_fail("cannot write %s: %s", file, strerror(errno));
        } else {
            result = export_current(&view, output);
            bool bad = ferror(output) != 0;
            bad = (file != NULL ? fclose(output) : fflush(output)) != 0 || bad;
            if (bad && result == 0)
                result = tree_fail("cannot write %s: %s", file != NULL ? file : "to standard output", strerror(errno));
        }
        pheap_read_end(view.read);
    }
    return heap_close(heap_path, heap, result);
}

struct find_context {
    const struct tree_view *view;
    uint64_t nodes_max;
    uint64_t found;
};

static int find_print(void *context, const struct path_match *match)
{
    struct find_context *find = context;
    const char *bytes;
    uint64_t length;
    find->found++;
    if (match->test == PATH_NAME) {
        if (export_node(find->view, match->node, find->nodes_max, stdout) != 0)
            return -1;
    } else {
        if (tree_string_get(find->view, match->string, &bytes, &length) != 0)
            return -1;
        fwrite(bytes, 1, length, stdout);
    }
    return putchar('\n') == EOF ? 1 : 0;
}

int find_run(const char *heap_path, const char *expression)
{
    pheap *heap;
    struct path path;
    struct tree_view view;
    struct find_context find = {.view = &view};
    const struct tree_document *document;
    uint64_t top;
    if (path_parse(expression, &path) != 0 || heap_open_to_read(heap_path, &heap) != 0)
        return -1;
    int result = snapshot_begin(heap, &view);
    if (result == 0) {
        result = tree_document_find(&view, &top, &document);
        if (result == 0) {
            find.nodes_max = document->nodes;
            result = path_find(&view, &path, find_print, &find);
        }
        pheap_read_end(view.read);
    }
    if ((fflush(stdout) != 0 || ferror(stdout) != 0) && result == 0)
        result = tree_fail("cannot write to standard output: %s", strerror(errno));
    result = heap_close(heap_path, heap, result);
    return result == 0 && find.found == 0 ? 1 : result;
}

/* ----------------------------------------------------------------------------------------------------------- stats */

struct stats {
    uint64_t kind[TREE_DOCTYPE + 1];
    uint64_t attributes;
    uint64_t strings;
    uint64_t string_bytes;
    uint64_t depth;
};

static int stats_string(const struct tree_view *view, uint64_t offset, struct stats *stats)
{
    const char *bytes;
    uint64_t length;
    if (tree_string_get(view, offset, &bytes, &length) != 0)
        return -1;
    stats->strings += offset != 0;
    stats->string_bytes += length;
    return 0;
}

static int stats_node(const struct tree_view *view, const struct tree_node *node, struct stats *stats)
{
    const struct tree_attributes *attributes;
    stats->kind[node->kind]++;
    if (stats_string(view, node->name, stats) != 0 || stats_string(view, node->text, stats) != 0 ||
        stats_string(view, node->tail, stats) != 0 || tree_attributes_get(view, node->attributes, &attributes) != 0)
        return -1;
    for (uint64_t i = 0; attributes != NULL && i < attributes->count; i++, stats->attributes++)
        if (stats_string(view, attributes->item[i].name, stats) != 0 ||
            stats_string(view, attributes->item[i].value, stats) != 0)
            return -1;
    return 0;
}

static int stats_gather(const struct tree_view *view, struct stats *stats)
{
    uint64_t top;
    const struct tree_document *document;
    struct tree_walk walk;
    struct progress progress;
    int result;
    if (tree_document_find(view, &top, &document) != 0)
        return -1;
    progress_begin(&progress, "counting");
    tree_walk_begin(&walk, view, top, document->nodes);
    while ((result = tree_walk_next(&walk)) == 0 && walk.event != TREE_END) {
        if (walk.event != TREE_ENTER)
            continue;
        if (stats_node(view, walk.node, stats) != 0)
            return -1;
        stats->depth = walk.depth - 1 > stats->depth ? walk.depth - 1 : stats->depth;
        if (walk.entered % 4096 == 0)
            progress_step(&progress, walk.entered, document->nodes, "nodes");
    }
    progress_end(&progress);
    if (result == 0 && walk.entered != document->nodes + 1)
        return tree_fail("the tree is damaged: it counts %llu nodes and has %llu", (unsigned long long)document->nodes,
                         (unsigned long long)walk.entered - 1);
    return result;
}

int stats_run(const char *heap_path)
{
    pheap *heap;
    struct tree_view view;
    struct stats stats = {.depth = 0};
    struct pheap_info info = {.size = sizeof info};
    if (heap_open_to_read(heap_path, &heap) != 0)
        return -1;
    int result = snapshot_begin(heap, &view);
    if (result == 0) {
        result = stats_gather(&view, &stats);
        pheap_read_end(view.read);
    }
    if (result == 0) {
        enum pheap_status status = pheap_get_info(heap, &info);
        if (status != PHEAP_OK)
            result = tree_fail_heap(status, "cannot ask for figures");
    }
    if (result == 0) {
        static const char *const name[] = {
            "", "documents", "elements", "comments", "processing instructions", "entity references", "doctypes"};
        for (size_t i = TREE_ELEMENT; i <= TREE_DOCTYPE; i++)
            printf("%s: %llu\n", name[i], (unsigned long long)stats.kind[i]);
        printf("attributes: %llu\nstrings: %llu\nstring bytes: %llu\ndepth: %llu\nheap bytes: %llu\ncommits: %llu\n",
               (unsigned long long)stats.attributes, (unsigned long long)stats.strings,
               (unsigned long long)stats.string_bytes, (unsigned long long)stats.depth,
               (unsigned long long)info.heap_bytes, (unsigned long long)info.version);
    }
    return heap_close(heap_path, heap, result);
}
