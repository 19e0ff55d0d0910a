/* SPDX-License-Identifier: MIT */
/* Opening and closing heaps, transactions and snapshots, with messages; commands.h describes them. */
#define _POSIX_C_SOURCE 200809L
#include "commands.h"

#include <time.h>

double clock_seconds(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec * 1e-9;
}

int heap_open(const char *path, pheap **heap)
{
    enum pheap_status status = pheap_open(path, 0, NULL, heap);
    return status == PHEAP_OK ? 0 : tree_fail_heap(status, "cannot open %s", path);
}

int heap_open_or_create(const char *path, pheap **heap)
{
    enum pheap_status status = pheap_open(path, PHEAP_CREATE, NULL, heap);
    return status == PHEAP_OK ? 0 : tree_fail_heap(status, "cannot open %s", path);
}

int heap_open_to_read(const char *path, pheap **heap)
{
    enum pheap_status status = pheap_open(path, 0, NULL, heap);
    if (status == PHEAP_READ_ONLY || status == PHEAP_PERMISSION)
        status = pheap_open(path, PHEAP_READONLY, NULL, heap);
    return status == PHEAP_OK ? 0 : tree_fail_heap(status, "cannot open %s", path);
}

int heap_close(const char *path, pheap *heap, int result)
{
    enum pheap_status status = pheap_close(heap);
    if (status == PHEAP_OK)
        return result;
    tree_fail_heap(status, "cannot close %s", path);
    return result == 0 ? -1 : result;
}

int write_begin(pheap *heap, struct tree_view *view)
{
    *view = (struct tree_view){0};
    enum pheap_status status = pheap_begin(heap, &view->txn);
    return status == PHEAP_OK ? 0 : tree_fail_heap(status, "cannot begin a transaction");
}

int snapshot_begin(pheap *heap, struct tree_view *view)
{
    *view = (struct tree_view){0};
    enum pheap_status status = pheap_read_begin(heap, 0, &view->read);
    return status == PHEAP_OK ? 0 : tree_fail_heap(status, "cannot begin to read");
}

int write_end(struct tree_view *view, int result, enum pheap_durability how)
{
    if (result != 0) {
        pheap_abort(view->txn);
        return result;
    }
    enum pheap_status status = pheap_commit(view->txn, how, NULL);
    return status == PHEAP_OK ? 0 : tree_fail_heap(status, "cannot commit");
}
