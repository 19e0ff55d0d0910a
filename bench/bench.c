/* SPDX-License-Identifier: MIT */
/* Clock, samples, options and reports of the benchmarks. */
#define _GNU_SOURCE
#include "bench/bench.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/utsname.h>
#include <sys/vfs.h>
#include <time.h>
#include <unistd.h>

/* --------------------------------------------------------------------------------------------------------- errors */

void bench_die(const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    fprintf(stderr, "%s: ", program_invocation_short_name);
    vfprintf(stderr, format, arguments);
    fprintf(stderr, "\n");
    va_end(arguments);
    exit(1);
}

void bench_check(enum pheap_status status, const char *what)
{
    if (status != PHEAP_OK) {
        bench_die("%s: %s: %s", what, pheap_status_name(status), pheap_error_detail());
    }
}

void *bench_memory(size_t length)
{
    void *memory = calloc(1, length);
    if (memory == NULL) {
        bench_die("out of memory (%zu bytes)", length);
    }
    return memory;
}

/* ---------------------------------------------------------------------------------------------- options and files */

static char run_dir[3800];
static pid_t run_owner;

static void remove_run_dir(void)
{
    if (run_dir[0] == 0 || getpid() != run_owner) {
        return;
    }
    DIR *dir = opendir(run_dir);
    if (dir != NULL) {
        for (struct dirent *entry = readdir(dir); entry != NULL; entry = readdir(dir)) {
            unlinkat(dirfd(dir), entry->d_name, 0);
        }
        closedir(dir);
    }
    rmdir(run_dir);
    run_dir[0] = 0;
}

const char *bench_path(const struct bench_options *options, const char *name)
{
    static char paths[4][4096];
    static unsigned turn;
    if (run_dir[0] == 0) {
        snprintf(run_dir, sizeof run_dir, "%s/pheap-bench-XXXXXX", options->dir);
        if (mkdtemp(run_dir) == NULL) {
            const int error = errno;
            run_dir[0] = 0;
            bench_die("cannot make a directory in %s: %s", options->dir, strerror(error));
        }
        run_owner = getpid();
        atexit(remove_run_dir);
    }
    char *path = paths[turn++ % 4];
    snprintf(path, sizeof paths[0], "%s/%s", run_dir, name);
    return path;
}

void bench_remove_heap(const char *path)
{
    static const char *const suffixes[] = {"", "-wal", "-shm", "-sum"};
    for (size_t i = 0; i < sizeof suffixes / sizeof suffixes[0]; i++) {
        char name[4200];
        snprintf(name, sizeof name, "%s%s", path, suffixes[i]);
        unlink(name);
    }
}

int bench_open_direct(const char *path, size_t length)
{
    const int file = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (file < 0) {
        bench_die("cannot create %s: %s", path, strerror(errno));
    }
    const size_t chunk = 1u << 20;
    char *zeros = bench_memory(chunk);
    for (size_t done = 0; done < length;) {
        const size_t part = length - done < chunk ? length - done : chunk;
        const ssize_t got = pwrite(file, zeros, part, (off_t)done);
        if (got <= 0) {
            bench_die("cannot fill %s: %s", path, strerror(errno));
        }
        done += (size_t)got;
    }
    free(zeros);
    if (fsync(file) != 0) {
        bench_die("cannot sync %s: %s", path, strerror(errno));
    }
    close(file);
    const int direct = open(path, O_RDWR | O_DIRECT | O_CLOEXEC);
    if (direct < 0) {
        bench_die("cannot open %s with O_DIRECT: %s", path, strerror(errno));
    }
    return direct;
}

static void usage(const struct bench_options *defaults, const char *purpose)
{
    printf("%s: %s\n\n"
           "  --dir DIRECTORY   where to make the heaps (%s)\n"
           "  --repeat N        repetitions of each figure, of which the median is shown (%u)\n"
           "  --seconds S       time for one repetition (%g)\n"
           "  --size BYTES      size of the heap or log, with K, M, G or T (the benchmark's default)\n"
           "  --threads LIST    thread counts, such as 1,4,16\n"
           "  --checksums       make heaps with page checksums, where commits are measured\n"
           "  --cold            drop the files from the page cache before each measurement, where it matters\n"
           "  --json FILE       write the report as JSON (- for standard output)\n"
           "  --rows            print only the rows of the table\n",
           program_invocation_short_name, purpose, defaults->dir, defaults->repeat, defaults->seconds);
}

static double parse_number(const char *option, const char *text)
{
    char *end;
    errno = 0;
    const double value = strtod(text, &end);
    double scale = 1;
    switch (*end) {
    case 'T':
        scale *= 1024; /* fall through */
    case 'G':
        scale *= 1024; /* fall through */
    case 'M':
        scale *= 1024; /* fall through */
    case 'K':
        scale *= 1024;
        end++;
        break;
    default:
        break;
    }
    if (errno != 0 || end == text || *end != 0 || !(value > 0) || value * scale > 1e18) {
        bench_die("%s: '%s' is not a positive number", option, text);
    }
    return value * scale;
}

static void parse_threads(struct bench_options *options, const char *text)
{
    options->thread_counts = 0;
    while (*text != 0) {
        char *end;
        const long count = strtol(text, &end, 10);
        if (end == text || count < 1 || count > 256 || (*end != 0 && *end != ',') || options->thread_counts == 8) {
            bench_die("--threads: a list of at most eight numbers from 1 to 256, such as 1,4,16");
        }
        options->threads[options->thread_counts++] = (unsigned)count;
        text = *end == ',' ? end + 1 : end;
    }
    if (options->thread_counts == 0) {
        bench_die("--threads: the list is empty");
    }
}

void bench_parse(struct bench_options *options, const char *purpose, int argc, char **argv)
{
    for (int i = 1; i < argc; i++) {
        const char *option = argv[i];
        if (strcmp(option, "--help") == 0) {
            usage(options, purpose);
            exit(0);
        } else if (strcmp(option, "--rows") == 0) {
            options->rows_only = true;
            continue;
        } else if (strcmp(option, "--checksums") == 0) {
            options->checksums = true;
            continue;
        } else if (strcmp(option, "--cold") == 0) {
            options->cold = true;
            continue;
        }
        if (i + 1 == argc) {
            bench_die("unknown option or missing value: %s (see --help)", option);
        }
        const char *value = argv[++i];
        if (strcmp(option, "--dir") == 0) {
            options->dir = value;
        } else if (strcmp(option, "--json") == 0) {
            options->json = value;
        } else if (strcmp(option, "--repeat") == 0) {
            const double repeat = parse_number(option, value);
            if (repeat < 1 || repeat > 1000) {
                bench_die("--repeat: '%s' is not a number from 1 to 1000", value);
            }
            options->repeat = (unsigned)repeat;
        } else if (strcmp(option, "--seconds") == 0) {
            options->seconds = parse_number(option, value);
        } else if (strcmp(option, "--size") == 0) {
            options->size_bytes = (uint64_t)parse_number(option, value);
        } else if (strcmp(option, "--threads") == 0) {
            parse_threads(options, value);
        } else {
            bench_die("unknown option %s (see --help)", option);
        }
    }
}

/* -------------------------------------------------------------------------------------------------- clock, chance */

uint64_t bench_now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

uint64_t bench_random_length(uint64_t *state)
{
    /* 16 * 64^u, u uniform in [0, 1), from a table: a power each time would be a large part of what is measured. */
    static uint16_t table[4096];
    if (table[0] == 0) {
        double length = 16;
        for (unsigned i = 0; i < 4096; i++) {
            table[i] = (uint16_t)length;
            length *= 1.001015867960; /* 64^(1/4096) */
        }
    }
    return table[bench_random(state) >> 52];
}

void bench_make_records(pheap *heap, uint64_t *records, unsigned count, uint64_t length)
{
    for (unsigned i = 0; i < count;) {
        pheap_txn *txn;
        bench_check(pheap_begin(heap, &txn), "begin");
        for (unsigned j = 0; j < 1000 && i < count; j++, i++) {
            bench_check(pheap_zalloc(txn, length, &records[i]), "alloc");
        }
        bench_check(pheap_commit(txn, PHEAP_LAZY, NULL), "commit");
    }
}

/* -------------------------------------------------------------------------------------------------------- samples */

void bench_add(struct bench_samples *samples, double value)
{
    if (samples->count == samples->capacity) {
        samples->capacity = samples->capacity == 0 ? 1024 : samples->capacity * 2;
        samples->values = realloc(samples->values, samples->capacity * sizeof *samples->values);
        if (samples->values == NULL) {
            bench_die("out of memory for samples");
        }
    }
    samples->values[samples->count++] = value;
}

void bench_append(struct bench_samples *to, const struct bench_samples *from)
{
    for (size_t i = 0; i < from->count; i++) {
        bench_add(to, from->values[i]);
    }
}

static int compare_doubles(const void *left, const void *right)
{
    const double a = *(const double *)left;
    const double b = *(const double *)right;
    return (a > b) - (a < b);
}

double bench_percentile(struct bench_samples *samples, double percent)
{
    if (samples->count == 0) {
        return 0;
    }
    qsort(samples->values, samples->count, sizeof *samples->values, compare_doubles);
    const size_t place = (size_t)((double)(samples->count - 1) * percent / 100 + 0.5);
    return samples->values[place];
}

double bench_median(struct bench_samples *samples)
{
    return bench_percentile(samples, 50);
}

void bench_clear(struct bench_samples *samples)
{
    free(samples->values);
    *samples = (struct bench_samples){0};
}

/* --------------------------------------------------------------------------------------------------------- report */

void bench_report_init(struct bench_report *report, const char *name, const struct bench_options *options)
{
    *report = (struct bench_report){.name = name, .options = options};
}

static struct bench_row *add_row(struct bench_report *report, double value, const char *unit)
{
    if (report->row_count == sizeof report->rows / sizeof report->rows[0]) {
        bench_die("too many rows");
    }
    struct bench_row *row = &report->rows[report->row_count++];
    row->value = value;
    snprintf(row->unit, sizeof row->unit, "%s", unit);
    return row;
}

void bench_row(struct bench_report *report, double value, const char *unit, const char *format, ...)
{
    struct bench_row *row = add_row(report, value, unit);
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(row->name, sizeof row->name, format, arguments);
    va_end(arguments);
}

void bench_row_goal(struct bench_report *report, double value, const char *unit, enum bench_goal goal, double target,
                    const char *format, ...)
{
    struct bench_row *row = add_row(report, value, unit);
    row->goal = goal;
    row->target = target;
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(row->name, sizeof row->name, format, arguments);
    va_end(arguments);
}

void bench_note(struct bench_report *report, const char *format, ...)
{
    if (report->note_count == sizeof report->notes / sizeof report->notes[0]) {
        return;
    }
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(report->notes[report->note_count++], sizeof report->notes[0], format, arguments);
    va_end(arguments);
}

/* The file system type of the directory by its magic number; the number itself when it is not a usual one. */
static void describe_filesystem(const char *dir, char *text, size_t length)
{
    static const struct {
        unsigned long magic;
        const char *name;
    } known[] = {{0xef53, "ext4"},          {0x58465342, "xfs"}, {0x9123683e, "btrfs"}, {0x01021994, "tmpfs"},
                 {0x794c7630, "overlayfs"}, {0x6969, "nfs"},     {0x2fc12fc1, "zfs"},   {0xf2f52010, "f2fs"}};
    struct statfs info;
    if (statfs(dir, &info) != 0) {
        snprintf(text, length, "unknown");
        return;
    }
    for (size_t i = 0; i < sizeof known / sizeof known[0]; i++) {
        if ((unsigned long)info.f_type == known[i].magic) {
            snprintf(text, length, "%s", known[i].name);
            return;
        }
    }
    snprintf(text, length, "file system 0x%lx", (unsigned long)info.f_type);
}

/* Six significant places would pretend; three or four are what a noisy machine gives. */
static void format_value(double value, char *text, size_t length)
{
    const double size = value < 0 ? -value : value;
    if (size >= 10000) {
        /* Thousands are easier to read in groups of three. */
        char digits[48];
        const int count = snprintf(digits, sizeof digits, "%.0f", value);
        size_t to = 0;
        for (int i = 0; i < count && to + 2 < length; i++) {
            text[to++] = digits[i];
            if ((count - 1 - i) % 3 == 0 && i != count - 1 && digits[i] != '-') {
                text[to++] = ',';
            }
        }
        text[to] = 0;
    } else {
        snprintf(text, length, "%.*f", size >= 100 ? 0 : size >= 10 ? 1 : size >= 1 ? 2 : 3, value);
    }
}

static bool row_meets(const struct bench_row *row)
{
    return row->goal == BENCH_AT_LEAST ? row->value >= row->target : row->value <= row->target;
}

static void print_rows(const struct bench_report *report)
{
    for (size_t i = 0; i < report->row_count; i++) {
        const struct bench_row *row = &report->rows[i];
        char value[64];
        char goal[96] = "";
        format_value(row->value, value, sizeof value);
        if (row->goal != BENCH_NO_GOAL) {
            char target[64];
            format_value(row->target, target, sizeof target);
            snprintf(goal, sizeof goal, "%s %s  %s", row->goal == BENCH_AT_LEAST ? ">=" : "<=", target,
                     row_meets(row) ? "met" : "MISSED");
        }
        printf("%-7s %-66s %14s %-6s %s\n", report->name, row->name, value, row->unit, goal);
    }
}

static void print_json_text(FILE *file, const char *text)
{
    fputc('"', file);
    for (; *text != 0; text++) {
        const unsigned char c = (unsigned char)*text;
        if (c == '"' || c == '\\') {
            fprintf(file, "\\%c", c);
        } else if (c < 0x20) {
            fprintf(file, "\\u%04x", c);
        } else {
            fputc(c, file);
        }
    }
    fputc('"', file);
}

static void print_json(FILE *file, const struct bench_report *report, const char *kernel, const char *filesystem)
{
    fprintf(file, "{\"bench\": \"%s\", \"library\": \"%s\", \"kernel\": ", report->name, pheap_version_string());
    print_json_text(file, kernel);
    fprintf(file, ", \"filesystem\": ");
    print_json_text(file, filesystem);
    fprintf(file, ", \"cpus\": %ld, \"repeat\": %u,\n \"rows\": [", sysconf(_SC_NPROCESSORS_ONLN),
            report->options->repeat);
    for (size_t i = 0; i < report->row_count; i++) {
        const struct bench_row *row = &report->rows[i];
        fprintf(file, "%s\n  {\"name\": ", i == 0 ? "" : ",");
        print_json_text(file, row->name);
        fprintf(file, ", \"value\": %.6g, \"unit\": ", row->value);
        print_json_text(file, row->unit);
        if (row->goal != BENCH_NO_GOAL) {
            fprintf(file, ", \"%s\": %.6g, \"met\": %s", row->goal == BENCH_AT_LEAST ? "at_least" : "at_most",
                    row->target, row_meets(row) ? "true" : "false");
        }
        fprintf(file, "}");
    }
    fprintf(file, "],\n \"notes\": [");
    for (size_t i = 0; i < report->note_count; i++) {
        fprintf(file, "%s", i == 0 ? "" : ", ");
        print_json_text(file, report->notes[i]);
    }
    fprintf(file, "]}\n");
}

int bench_report_finish(struct bench_report *report)
{
    struct utsname system;
    char kernel[200] = "unknown";
    char filesystem[64];
    if (uname(&system) == 0) {
        snprintf(kernel, sizeof kernel, "%s %s %s", system.sysname, system.release, system.machine);
    }
    describe_filesystem(report->options->dir, filesystem, sizeof filesystem);
    const bool json_only = report->options->json != NULL && strcmp(report->options->json, "-") == 0;
    if (!json_only) {
        if (!report->options->rows_only) {
            printf("pheap %s, %s, %s, %ld processors; medians of %u\n\n", pheap_version_string(), kernel, filesystem,
                   sysconf(_SC_NPROCESSORS_ONLN), report->options->repeat);
        }
        print_rows(report);
        if (!report->options->rows_only && report->note_count != 0) {
            printf("\n");
            for (size_t i = 0; i < report->note_count; i++) {
                printf("  %s\n", report->notes[i]);
            }
        }
    }
    if (report->options->json != NULL) {
        FILE *file = json_only ? stdout : fopen(report->options->json, "w");
        if (file == NULL) {
            bench_die("cannot write %s: %s", report->options->json, strerror(errno));
        }
        print_json(file, report, kernel, filesystem);
        if (!json_only && fclose(file) != 0) {
            bench_die("cannot write %s: %s", report->options->json, strerror(errno));
        }
    }
    if (fflush(stdout) != 0 || ferror(stdout)) {
        bench_die("cannot write to standard output: %s", strerror(errno));
    }
    return 0;
}
