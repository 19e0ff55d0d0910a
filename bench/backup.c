/* SPDX-License-Identifier: MIT */
/*
 * Backup and restore of a heap of 256 MB (--size) of records: each a third noise, a third of text that repeats, a third
 * zeros; a fifth of them were freed again.  Beside each backup, zstd compresses the heap file plainly, with the same
 * level, in this process: that is the yardstick, because a backup can be no faster and hardly any smaller.
 *
 * Both write a file and sync it.  MB are 10^6 bytes of the heap file's data.
 */
#define _GNU_SOURCE
#include "bench/bench.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <zstd.h>

#define RECORD_BYTES 240u
#define PIECE_BYTES (1u << 20)
#define LEVEL 3

static void fill_record(unsigned char *bytes, uint64_t *seed)
{
    static const char text[] = "the quick brown fox jumps over the lazy dog; pack my box with five dozen jugs. ";
    for (unsigned i = 0; i < RECORD_BYTES / 3; i += 8) {
        const uint64_t noise = bench_random(seed);
        memcpy(bytes + i, &noise, sizeof noise);
    }
    memcpy(bytes + RECORD_BYTES / 3, text, RECORD_BYTES / 3);
    memset(bytes + 2 * (RECORD_BYTES / 3), 0, RECORD_BYTES / 3);
}

static pheap *make_heap(const char *path, uint64_t size)
{
    pheap *heap;
    pheap_txn *txn;
    uint64_t seed = 7, offset;
    bench_check(pheap_open(path, PHEAP_CREATE | PHEAP_EXCLUSIVE, NULL, &heap), "create");
    for (uint64_t made = 0; made < size;) {
        bench_check(pheap_begin(heap, &txn), "begin");
        for (unsigned i = 0; i < 1000; i++, made += RECORD_BYTES) {
            bench_check(pheap_alloc(txn, RECORD_BYTES, &offset), "alloc");
            fill_record(pheap_ptr(txn, offset), &seed);
            if (i % 5 == 0) {
                bench_check(pheap_free(txn, offset), "free");
            }
        }
        bench_check(pheap_commit(txn, PHEAP_LAZY, NULL), "commit");
    }
    bench_check(pheap_checkpoint(heap), "checkpoint");
    return heap;
}

/* Compress a file; the bytes that come out. */
static double compress_plainly(const char *from, const char *to, double *in_bytes)
{
    static unsigned char input[PIECE_BYTES], output[PIECE_BYTES];
    const int source = open(from, O_RDONLY | O_CLOEXEC);
    const int target = open(to, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (source < 0 || target < 0) {
        bench_die("%s: %s", source < 0 ? from : to, strerror(errno));
    }
    ZSTD_CCtx *zstd = ZSTD_createCCtx();
    ZSTD_CCtx_setParameter(zstd, ZSTD_c_compressionLevel, LEVEL);
    ZSTD_CCtx_setParameter(zstd, ZSTD_c_checksumFlag, 1);
    double written = 0;
    *in_bytes = 0;
    for (bool last = false; !last;) {
        const ssize_t got = read(source, input, sizeof input);
        if (got < 0) {
            bench_die("%s: %s", from, strerror(errno));
        }
        last = got == 0;
        *in_bytes += (double)got;
        ZSTD_inBuffer in = {input, (size_t)got, 0};
        size_t left;
        do {
            ZSTD_outBuffer out = {output, sizeof output, 0};
            left = ZSTD_compressStream2(zstd, &out, &in, last ? ZSTD_e_end : ZSTD_e_continue);
            if (ZSTD_isError(left) || write(target, output, out.pos) != (ssize_t)out.pos) {
                bench_die("cannot compress %s", from);
            }
            written += (double)out.pos;
        } while (last ? left != 0 : in.pos < in.size);
    }
    ZSTD_freeCCtx(zstd);
    fsync(target);
    close(source);
    close(target);
    return written;
}

int main(int argc, char **argv)
{
    struct bench_options options = {.dir = ".", .repeat = 5, .seconds = 1, .size_bytes = 256000000};
    bench_parse(&options, "backup and restore, beside zstd", argc, argv);
    static struct bench_report report;
    bench_report_init(&report, "backup", &options);
    const char *path = bench_path(&options, "source.heap"), *archive = bench_path(&options, "archive"),
               *copy = bench_path(&options, "copy.heap"), *plain = bench_path(&options, "plain.zst");
    pheap *heap = make_heap(path, options.size_bytes);
    const struct pheap_backup_options how = {.size = sizeof how, .flags = PHEAP_REPLACE, .level = LEVEL};
    struct pheap_transfer made = {.size = sizeof made};
    struct bench_samples backups = {0}, restores = {0}, verifies = {0}, plains = {0}, rates = {0}, sizes = {0};
    for (unsigned i = 0; i < options.repeat; i++) {
        double in_bytes;
        uint64_t start = bench_now_ns();
        bench_check(pheap_backup(heap, archive, &how, &made), "backup");
        const double backup_ns = (double)(bench_now_ns() - start), content = (double)made.content_bytes;
        start = bench_now_ns();
        const double out_bytes = compress_plainly(path, plain, &in_bytes);
        const double plain_ns = (double)(bench_now_ns() - start);
        bench_add(&backups, content * 1e3 / backup_ns);
        bench_add(&plains, in_bytes * 1e3 / plain_ns);
        bench_add(&rates, content / backup_ns * plain_ns / in_bytes);
        bench_add(&sizes, (double)made.archive_bytes / out_bytes);
        start = bench_now_ns();
        bench_check(pheap_restore(archive, copy, NULL, NULL), "restore");
        bench_add(&restores, content * 1e3 / (double)(bench_now_ns() - start));
        start = bench_now_ns();
        bench_check(pheap_restore(archive, NULL, NULL, NULL), "verify");
        bench_add(&verifies, content * 1e3 / (double)(bench_now_ns() - start));
        bench_remove_heap(copy);
        if (i == 0) {
            bench_row(&report, content / 1e6, "MB", "heap data");
            bench_row(&report, content / (double)made.archive_bytes, "x", "backup: ratio of compression");
            bench_row(&report, in_bytes / out_bytes, "x", "zstd of the heap file beside it: ratio");
        }
    }
    bench_check(pheap_close(heap), "close");
    bench_row(&report, bench_median(&backups), "MB/s", "backup to a file, level %d", LEVEL);
    bench_row(&report, bench_median(&plains), "MB/s", "zstd of the heap file beside it, level %d", LEVEL);
    bench_row_goal(&report, bench_median(&rates), "x", BENCH_AT_LEAST, 0.8, "rate of backup over that of zstd");
    bench_row_goal(&report, bench_median(&sizes), "x", BENCH_AT_MOST, 1.05, "size of the archive over that of zstd");
    bench_row(&report, bench_median(&restores), "MB/s", "restore, checked and on stable storage");
    bench_row(&report, bench_median(&verifies), "MB/s", "verifying an archive");
    bench_clear(&backups);
    bench_clear(&restores);
    bench_clear(&verifies);
    bench_clear(&plains);
    bench_clear(&rates);
    bench_clear(&sizes);
    return bench_report_finish(&report);
}
