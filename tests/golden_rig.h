/* SPDX-License-Identifier: MIT */
/* Golden files: heaps as text (see test_golden.c), and the files of a simulated machine, from which they are made. */
#ifndef TESTS_GOLDEN_RIG_H
#define TESTS_GOLDEN_RIG_H

#include "tests/public.h"

#include "tests/support/simfs_internal.h"

#define LINE_BYTES 32u

static inline void write_text(const uint8_t *bytes, size_t size, const char *path)
{
    static const uint8_t zeros[LINE_BYTES];
    FILE *file = fopen(path, "w");
    require(file != NULL && size % LINE_BYTES == 0);
    bool starred = false;
    for (size_t at = 0; at < size; at += LINE_BYTES) {
        bool zero = memcmp(bytes + at, zeros, LINE_BYTES) == 0;
        bool repeats = !zero && at > 0 && memcmp(bytes + at, bytes + at - LINE_BYTES, LINE_BYTES) == 0;
        if (repeats && !starred)
            (void)fprintf(file, "*\n");
        if (starred && zero) /* where the repetition ends */
            (void)fprintf(file, "%08zx zeros\n", at);
        starred = repeats;
        if (zero || repeats)
            continue;
        (void)fprintf(file, "%08zx ", at);
        for (unsigned i = 0; i < LINE_BYTES; i++)
            (void)fprintf(file, "%02x", bytes[at + i]);
        (void)fprintf(file, "\n");
    }
    (void)fprintf(file, "%08zx size\n", size);
    require(fclose(file) == 0);
}

static inline uint8_t *read_text(const char *path, size_t *size)
{
    static uint8_t image[4 << 20];
    char line[256];
    bool starred = false;
    size_t next = 0; /* behind the last line of bytes */
    FILE *file = fopen(path, "r");
    if (file == NULL)
        check_failed(__FILE__, __LINE__, "cannot open %s", path);
    memset(image, 0, sizeof image);
    while (fgets(line, sizeof line, file) != NULL) {
        char *rest;
        if (line[0] == '*') {
            starred = true;
            continue;
        }
        size_t at = strtoul(line, &rest, 16);
        require(at + LINE_BYTES <= sizeof image && at >= next && *rest == ' ');
        for (; starred && next < at; next += LINE_BYTES)
            memcpy(image + next, image + next - LINE_BYTES, LINE_BYTES);
        starred = false;
        *size = at;
        if (strcmp(rest, " zeros\n") == 0 || strcmp(rest, " size\n") == 0)
            continue;
        for (unsigned i = 0; i < LINE_BYTES; i++) {
            unsigned byte;
            require(sscanf(rest + 1 + 2 * (size_t)i, "%2x", &byte) == 1);
            image[at + i] = (uint8_t)byte;
        }
        next = at + LINE_BYTES;
    }
    (void)fclose(file);
    return image;
}

/* The path of a golden file.  Static. */
static inline const char *golden(const char *directory, const char *name, const char *suffix)
{
    static char path[1024];
    (void)snprintf(path, sizeof path, "%s/%s%s", directory, name, suffix);
    return path;
}

/* A file of the simulated machine as it is. */
static inline uint8_t *take(struct ph_sim *sim, const char *path, size_t *size)
{
    int64_t length = ph_sim_size(sim, path);
    require(length > 0);
    *size = (size_t)length;
    uint8_t *bytes = sim_resize(NULL, *size);
    require(ph_sim_peek(sim, path, bytes, *size, 0) == length);
    return bytes;
}

#endif
