/* SPDX-License-Identifier: MIT */
/*
 * What it costs to make Foo a Foobar near the front of a tree, whatever its size.
 *
 * The first element that has a text and no children gets the text Foo; then it is made Foobar and Foo again, each
 * time in one durable transaction: a string is allocated, its offset stored in the node, the old string freed.  Bytes
 * are counted where they arrive: those of the log by its LSN, and those of the disk by the counter of the block device
 * itself.  What others write to that disk meanwhile is counted too, so the changes are made in twenty windows, of
 * which the quietest counts; and each window is followed by as many bare synchronous writes of 512 bytes to a file
 * beside the heap, which shows what the file system adds to each write.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/uio.h>
#include <unistd.h>

#include "commands.h"

#define WINDOWS 20
#define BARE_BYTES (1u << 20) /* of the file for the bare writes */
#define SECTOR 512

/* Durations and device bytes of one kind of write. */
struct series {
    double *microseconds;
    uint64_t device[WINDOWS];
};

struct foobar {
    pheap *heap;
    char counter[64]; /* where the kernel counts what is written to the disk of the heap; empty if nowhere */
    uint64_t node;
    uint64_t changes;
    uint64_t window; /* changes in a window */
    struct series change;
    struct series bare;
    int bare_file; /* -1 where direct writes are not possible */
    unsigned char *bare_bytes;
    uint64_t log_min;
    uint64_t log_max;
};

/* Bytes that the disk has been given since the machine started; 0 where that is not known. */
static uint64_t device_bytes(const struct foobar *foobar)
{
    unsigned long long sectors = 0;
    FILE *file = *foobar->counter != '\0' ? fopen(foobar->counter, "r") : NULL;
    if (file == NULL)
        return 0;
    if (fscanf(file, "%*u %*u %*u %*u %*u %*u %llu", &sectors) != 1)
        sectors = 0;
    fclose(file);
    return (uint64_t)sectors * 512;
}

static void device_find(const char *path, struct foobar *foobar)
{
    struct stat status;
    if (stat(path, &status) == 0)
        snprintf(foobar->counter, sizeof foobar->counter, "/sys/dev/block/%u:%u/stat", major(status.st_dev),
                 minor(status.st_dev));
}

static int place_find(const struct tree_view *view, uint64_t *node)
{
    uint64_t top;
    const struct tree_document *document;
    struct tree_walk walk;
    if (tree_document_find(view, &top, &document) != 0)
        return -1;
    tree_walk_begin(&walk, view, top, document->nodes);
    while (tree_walk_next(&walk) == 0) {
        if (walk.event == TREE_END)
            return tree_fail("the tree has no element with a text");
        if (walk.event == TREE_ENTER && walk.node->kind == TREE_ELEMENT && walk.node->first == 0 &&
            walk.node->text != 0) {
            *node = walk.offset;
            return 0;
        }
    }
    return -1;
}

static int text_change(struct foobar *foobar, const char *text)
{
    struct tree_view view;
    if (write_begin(foobar->heap, &view) != 0)
        return -1;
    int result = tree_string_replace(view.txn, TREE_SLOT(foobar->node, tree_node, text), text, strlen(text));
    return write_end(&view, result, PHEAP_DURABLE);
}

static int lsn_get(struct foobar *foobar, uint64_t *lsn)
{
    struct pheap_info info = {.size = sizeof info};
    enum pheap_status status = pheap_get_info(foobar->heap, &info);
    *lsn = info.committed_lsn;
    return status == PHEAP_OK ? 0 : tree_fail_heap(status, "cannot ask for figures");
}

static const char *const text[2] = {"Foobar", "Foo"};

/* Changes there and back, counting the bytes that each one logs. */
static int records_measure(struct foobar *foobar)
{
    uint64_t before;
    uint64_t after;
    foobar->log_min = UINT64_MAX;
    if (lsn_get(foobar, &before) != 0)
        return -1;
    for (unsigned i = 0; i < 2 * WINDOWS; i++) {
        if (text_change(foobar, text[i % 2]) != 0 || lsn_get(foobar, &after) != 0)
            return -1;
        foobar->log_min = after - before < foobar->log_min ? after - before : foobar->log_min;
        foobar->log_max = after - before > foobar->log_max ? after - before : foobar->log_max;
        before = after;
    }
    return 0;
}

/*
 * Changes there and back, timed.  Nothing else is called meanwhile: asking for figures looks at the log file (fstat),
 * and after that the next write to it makes the file system log a new modification time, 4 KiB of it.
 */
static int window_measure(struct foobar *foobar, uint64_t first)
{
    for (uint64_t i = 0; i < foobar->window; i++) {
        double began = clock_seconds();
        if (text_change(foobar, text[i % 2]) != 0)
            return -1;
        foobar->change.microseconds[first + i] = (clock_seconds() - began) * 1e6;
    }
    return 0;
}

static int number_compare(const void *left, const void *right)
{
    double a = *(const double *)left;
    double b = *(const double *)right;
    return (a > b) - (a < b);
}

static int count_compare(const void *left, const void *right)
{
    uint64_t a = *(const uint64_t *)left;
    uint64_t b = *(const uint64_t *)right;
    return (a > b) - (a < b);
}

/* A file with its blocks in place, to be overwritten; its name goes at once. */
static void bare_open(const char *path, struct foobar *foobar)
{
    size_t length = strlen(path) + sizeof ".bare-writes";
    char *name = malloc(length);
    foobar->bare_file = -1;
    foobar->bare_bytes = aligned_alloc(4096, BARE_BYTES);
    if (name == NULL || foobar->bare_bytes == NULL)
        goto done;
    snprintf(name, length, "%s.bare-writes", path);
    memset(foobar->bare_bytes, 1, BARE_BYTES);
    foobar->bare_file = open(name, O_RDWR | O_CREAT | O_EXCL | O_DIRECT | O_CLOEXEC, 0600);
    if (foobar->bare_file < 0)
        goto done;
    unlink(name);
    if (write(foobar->bare_file, foobar->bare_bytes, BARE_BYTES) != (ssize_t)BARE_BYTES ||
        fsync(foobar->bare_file) != 0) {
        close(foobar->bare_file);
        foobar->bare_file = -1;
    }
done:
    free(name);
}

static void bare_close(struct foobar *foobar)
{
    if (foobar->bare_file >= 0)
        close(foobar->bare_file);
    free(foobar->bare_bytes);
}

static void bare_measure(struct foobar *foobar, uint64_t index)
{
    uint64_t place = index % (BARE_BYTES / SECTOR) * SECTOR;
    struct iovec vector = {foobar->bare_bytes, SECTOR};
    double began = clock_seconds();
    if (pwritev2(foobar->bare_file, &vector, 1, (off_t)place, RWF_DSYNC) != SECTOR) {
        close(foobar->bare_file);
        foobar->bare_file = -1;
    }
    foobar->bare.microseconds[index] = (clock_seconds() - began) * 1e6;
}

static void series_sort(struct series *series, uint64_t count)
{
    qsort(series->microseconds, (size_t)count, sizeof(double), number_compare);
    qsort(series->device, WINDOWS, sizeof(uint64_t), count_compare);
}

static int changes_measure(struct foobar *foobar)
{
    for (unsigned i = 0; i < WINDOWS; i++) {
        uint64_t first = i * foobar->window;
        uint64_t before = device_bytes(foobar);
        if (window_measure(foobar, first) != 0)
            return -1;
        uint64_t between = device_bytes(foobar);
        for (uint64_t done = 0; done < foobar->window && foobar->bare_file >= 0; done++)
            bare_measure(foobar, first + done);
        foobar->change.device[i] = between - before;
        foobar->bare.device[i] = device_bytes(foobar) - between;
    }
    series_sort(&foobar->change, foobar->changes);
    series_sort(&foobar->bare, foobar->changes);
    return 0;
}

static int results_print(const struct foobar *foobar, const struct pheap_info *before)
{
    struct pheap_info after = {.size = sizeof after};
    uint64_t device_before = device_bytes(foobar);
    enum pheap_status status = pheap_checkpoint(foobar->heap);
    if (status != PHEAP_OK)
        return tree_fail_heap(status, "cannot checkpoint");
    uint64_t device_checkpoint = device_bytes(foobar) - device_before;
    status = pheap_get_info(foobar->heap, &after);
    if (status != PHEAP_OK)
        return tree_fail_heap(status, "cannot ask for figures");
    uint64_t count = foobar->changes;
    printf("heap bytes: %llu\nchanges: %llu\nlog record bytes, least: %llu\nlog record bytes, most: %llu\n"
           "bytes written to the log a change: %.0f\nmicroseconds, median: %.0f\nmicroseconds, 99 of 100: %.0f\n",
           (unsigned long long)after.heap_bytes, (unsigned long long)count, (unsigned long long)foobar->log_min,
           (unsigned long long)foobar->log_max,
           (double)(after.log_written_bytes - before->log_written_bytes) / (double)count,
           foobar->change.microseconds[count / 2], foobar->change.microseconds[count * 99 / 100]);
    if (device_before != 0)
        printf("device bytes a change: %.0f\ndevice bytes of the checkpoint after all: %llu\n",
               (double)foobar->change.device[0] / (double)foobar->window, (unsigned long long)device_checkpoint);
    if (foobar->bare_file >= 0)
        printf("bare write, microseconds, median: %.0f\n", foobar->bare.microseconds[count / 2]);
    if (foobar->bare_file >= 0 && device_before != 0)
        printf("bare write, device bytes: %.0f\n", (double)foobar->bare.device[0] / (double)foobar->window);
    return 0;
}

static int heap_measure(struct foobar *foobar)
{
    struct tree_view view;
    struct pheap_info before = {.size = sizeof before};
    if (snapshot_begin(foobar->heap, &view) != 0)
        return -1;
    int result = place_find(&view, &foobar->node);
    pheap_read_end(view.read);
    if (result != 0 || text_change(foobar, "Foo") != 0)
        return -1;
    if (records_measure(foobar) != 0)
        return -1;
    enum pheap_status status = pheap_checkpoint(foobar->heap);
    if (status == PHEAP_OK)
        status = pheap_get_info(foobar->heap, &before);
    if (status != PHEAP_OK)
        return tree_fail_heap(status, "cannot prepare the heap");
    if (changes_measure(foobar) != 0)
        return -1;
    return results_print(foobar, &before);
}

int foobar_run(const char *path, uint64_t changes)
{
    struct foobar foobar = {.window = (changes + 2 * WINDOWS - 1) / (2 * WINDOWS) * 2};
    foobar.changes = foobar.window * WINDOWS;
    foobar.change.microseconds = calloc((size_t)foobar.changes, sizeof(double));
    foobar.bare.microseconds = calloc((size_t)foobar.changes, sizeof(double));
    int result =
        foobar.change.microseconds != NULL && foobar.bare.microseconds != NULL ? 0 : tree_fail("out of memory");
    if (result == 0)
        result = heap_open(path, &foobar.heap);
    if (result == 0) {
        device_find(path, &foobar);
        bare_open(path, &foobar);
        result = heap_close(path, foobar.heap, heap_measure(&foobar));
        bare_close(&foobar);
    }
    free(foobar.change.microseconds);
    free(foobar.bare.microseconds);
    return result;
}
