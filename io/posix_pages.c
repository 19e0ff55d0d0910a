/* SPDX-License-Identifier: MIT */
/*
 * The seam over Linux: which pages of a private mapping are copies, and which of these have been stored to.
 *
 * Owns: what stands in where a kernel lacks a call:
 *
 *   PAGEMAP_SCAN         /proc/self/pagemap; without /proc: -ENOSYS
 *   userfaultfd WP_ASYNC none (Linux < 6.7, or not permitted): -ENOSYS
 *
 * Keeps no state, as posix.c.
 */
#include "io/posix.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#define PAGE_BYTES ((size_t)4096)

/* Which pages of a private map are copies.  The structures of <linux/fs.h> since 6.7; older headers lack them. */

struct scan_region {
    uint64_t start, end, categories;
};

struct scan_arguments {
    uint64_t size, flags, start, end, walk_end, regions, region_count, page_limit;
    uint64_t inverted, required, any, returned;
};

#define SCAN_REQUEST _IOWR('f', 16, struct scan_arguments)
#define SCAN_IS_FILE UINT64_C(4)
#define SCAN_IS_PRESENT UINT64_C(8)
#define SCAN_IS_SWAPPED UINT64_C(16)
#define SCAN_IS_ZERO_PAGE UINT64_C(32)
#define SCAN_REGIONS 256

/* Called with each run of pages that a scan finds; < 0 ends it. */
typedef int64_t (*run_function)(void *context, uint64_t from, uint64_t to);

/* Scan [start, end) for what `wanted` describes; the sum of what `run` returns. */
static int64_t scan_pages(int pagemap, uint64_t start, uint64_t end, const struct scan_arguments *wanted,
                          run_function run, void *context)
{
    int64_t count = 0;
    struct scan_region regions[SCAN_REGIONS];
    memset(regions, 0, sizeof regions); /* a memory checker does not know that the kernel fills it */
    for (uint64_t from = start; from < end;) {
        struct scan_arguments scan = *wanted;
        scan.size = sizeof scan;
        scan.start = from;
        scan.end = end;
        scan.regions = (uint64_t)(uintptr_t)regions;
        scan.region_count = SCAN_REGIONS;
        int found = ioctl(pagemap, SCAN_REQUEST, &scan);
        if (found < 0) /* never EINTR but where the process dies */
            return -errno;
        for (int i = 0; i < found; i++) {
            int64_t counted = run(context, regions[i].start, regions[i].end);
            if (counted < 0)
                return counted;
            count += counted;
        }
        if (scan.walk_end <= from)
            return -EIO;
        from = scan.walk_end;
    }
    return count;
}

struct page_bits {
    uint64_t start;
    uint8_t *bitmap; /* NULL: only count */
    int pagemap;
};

static int64_t mark_run(void *context, uint64_t from, uint64_t to)
{
    const struct page_bits *bits = context;
    for (uint64_t at = from; at < to && bits->bitmap != NULL; at += PAGE_BYTES) {
        uint64_t page = (at - bits->start) / PAGE_BYTES;
        bits->bitmap[page / 8] |= (uint8_t)(1U << (page % 8));
    }
    return (int64_t)((to - from) / PAGE_BYTES);
}

/* A private copy is in memory or swapped, and is neither the page of the file nor the page of zeros. */
static const struct scan_arguments private_copies = {
    .inverted = SCAN_IS_FILE | SCAN_IS_ZERO_PAGE,
    .required = SCAN_IS_FILE | SCAN_IS_ZERO_PAGE,
    .any = SCAN_IS_PRESENT | SCAN_IS_SWAPPED,
    .returned = SCAN_IS_PRESENT | SCAN_IS_SWAPPED,
};

static int64_t touched_by_scan(int pagemap, uint64_t start, uint64_t end, uint8_t *bitmap)
{
    struct page_bits bits = {start, bitmap, pagemap};
    return scan_pages(pagemap, start, end, &private_copies, mark_run, &bits);
}

#define ENTRY_PRESENT (UINT64_C(1) << 63)
#define ENTRY_SWAPPED (UINT64_C(1) << 62)
#define ENTRY_FILE (UINT64_C(1) << 61)
#define ENTRY_COUNT 1024

static int64_t touched_by_entries(int pagemap, uint64_t start, uint64_t end, uint8_t *bitmap)
{
    int64_t touched = 0;
    uint64_t entries[ENTRY_COUNT];
    uint64_t count = (end - start) / PAGE_BYTES;
    for (uint64_t page = 0; page < count;) {
        uint64_t batch = count - page < ENTRY_COUNT ? count - page : ENTRY_COUNT;
        off_t at = (off_t)((start / PAGE_BYTES + page) * sizeof entries[0]);
        ssize_t got = pread(pagemap, entries, (size_t)batch * sizeof entries[0], at);
        if (got < (ssize_t)sizeof entries[0])
            return got < 0 ? -errno : -EIO;
        batch = (uint64_t)got / sizeof entries[0];
        for (uint64_t i = 0; i < batch; i++, page++) {
            bool here = (entries[i] & (ENTRY_PRESENT | ENTRY_SWAPPED)) != 0;
            if (!here || (entries[i] & ENTRY_FILE) != 0)
                continue;
            if (bitmap != NULL)
                bitmap[page / 8] |= (uint8_t)(1U << (page % 8));
            touched++;
        }
    }
    return touched;
}

int64_t ph_posix_touched(void *ctx, const void *address, size_t length, uint8_t *bitmap)
{
    (void)ctx;
    uint64_t start = (uint64_t)(uintptr_t)address;
    uint64_t end = start + (length + PAGE_BYTES - 1) / PAGE_BYTES * PAGE_BYTES;
    size_t bitmap_bytes = ((size_t)(end - start) / PAGE_BYTES + 7) / 8;
    if (start % PAGE_BYTES != 0)
        return -EINVAL;
    if (sysconf(_SC_PAGESIZE) != (long)PAGE_BYTES)
        return -ENOSYS;
    /* Opened for each call: what it shows is the memory of the process that opened it, and there may have been a fork. */
    int pagemap = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
    if (pagemap < 0)
        return -ENOSYS;
    if (bitmap != NULL)
        memset(bitmap, 0, bitmap_bytes);
    int64_t done = touched_by_scan(pagemap, start, end, bitmap);
    if (done < 0) {
        if (bitmap != NULL)
            memset(bitmap, 0, bitmap_bytes);
        done = touched_by_entries(pagemap, start, end, bitmap);
    }
    (void)close(pagemap);
    return done < 0 ? -ENOSYS : done;
}

/*
 * Watching: private copies are write-protected, and the kernel takes that away by itself at the next store (userfaultfd in
 * its asynchronous mode).  A copy that is not protected has been stored to.
 *
 * To look for them, every page without protection is found first, which is fast (1 ns a page), and then the copies among
 * these, which is not (35 ns).  Nothing but copies is ever protected: of a protected page that goes the kernel would leave
 * a marker in the page table, which looks like a copy that was swapped out.  For the same reason protection is lifted
 * before copies are dropped.
 */

#ifndef UFFD_USER_MODE_ONLY
#define UFFD_USER_MODE_ONLY 1
#endif
#define WATCH_FEATURE_ASYNC (UINT64_C(1) << 15)
#define SCAN_IS_WRITTEN UINT64_C(2)
#define SCAN_PROTECT UINT64_C(3)          /* what was found, and fail where that cannot be */
#define WATCH_GAP_BYTES (16 * PAGE_BYTES) /* runs that are nearer than that are looked through as one */

int ph_posix_watch(void *ctx, void *address, size_t length)
{
    (void)ctx;
    if (sysconf(_SC_PAGESIZE) != (long)PAGE_BYTES)
        return -ENOSYS;
    int handle = (int)syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK | UFFD_USER_MODE_ONLY);
    handle = handle < 0 ? handle : ph_posix_above_standard(handle);
    if (handle < 0)
        return -ENOSYS;
    struct uffdio_api api = {.api = UFFD_API, .features = WATCH_FEATURE_ASYNC};
    struct uffdio_register range = {
        .range = {.start = (uint64_t)(uintptr_t)address, .len = (length + PAGE_BYTES - 1) / PAGE_BYTES * PAGE_BYTES},
        .mode = UFFDIO_REGISTER_MODE_WP,
    };
    if (ioctl(handle, UFFDIO_API, &api) == 0 && ioctl(handle, UFFDIO_REGISTER, &range) == 0)
        return handle;
    (void)close(handle);
    return -ENOSYS;
}

void ph_posix_unwatch(void *ctx, int handle)
{
    (void)ctx;
    (void)close(handle);
}

struct written_runs {
    struct page_bits bits;
    uint64_t from, to; /* found, but not yet looked through */
};

/* Mark the private copies in the runs so far, and protect them again. */
static int64_t look_through(struct written_runs *runs)
{
    struct scan_arguments wanted = private_copies;
    wanted.flags = SCAN_PROTECT;
    wanted.required |= SCAN_IS_WRITTEN;
    return scan_pages(runs->bits.pagemap, runs->from, runs->to, &wanted, mark_run, &runs->bits);
}

static int64_t add_written_run(void *context, uint64_t from, uint64_t to)
{
    struct written_runs *runs = context;
    int64_t marked = 0;
    if (from - runs->to > WATCH_GAP_BYTES) {
        marked = look_through(runs);
        runs->from = from;
    }
    runs->to = to;
    return marked;
}

int64_t ph_posix_stored(void *ctx, const void *address, size_t length, uint8_t *bitmap)
{
    (void)ctx;
    static const struct scan_arguments written = {.required = SCAN_IS_WRITTEN, .returned = SCAN_IS_WRITTEN};
    uint64_t start = (uint64_t)(uintptr_t)address;
    uint64_t end = start + (length + PAGE_BYTES - 1) / PAGE_BYTES * PAGE_BYTES;
    if (start % PAGE_BYTES != 0)
        return -EINVAL;
    int pagemap = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
    if (pagemap < 0)
        return -ENOSYS;
    memset(bitmap, 0, ((size_t)(end - start) / PAGE_BYTES + 7) / 8);
    struct written_runs runs = {{start, bitmap, pagemap}, start, start};
    int64_t most = scan_pages(pagemap, start, end, &written, add_written_run, &runs);
    int64_t rest = most < 0 ? most : look_through(&runs);
    (void)close(pagemap);
    return rest < 0 ? -ENOSYS : most + rest;
}

int ph_posix_drop_watched(void *ctx, int handle, void *address, size_t length)
{
    (void)ctx;
    struct uffdio_writeprotect range = {
        .range = {.start = (uint64_t)(uintptr_t)address, .len = (length + PAGE_BYTES - 1) / PAGE_BYTES * PAGE_BYTES}};
    if (ioctl(handle, UFFDIO_WRITEPROTECT, &range) != 0)
        return -errno;
    return madvise(address, length, MADV_DONTNEED) == 0 ? 0 : -errno;
}
