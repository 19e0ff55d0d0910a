/* SPDX-License-Identifier: MIT */
/*
 * Runs a fuzz target over files, without libFuzzer.
 *
 *   replay_TARGET [--mutate COUNT] [--seed NUMBER] FILE-OR-DIRECTORY...
 *
 * Each file, and each file of a directory in the order of their names, is one input.  With --mutate the target's
 * mutator is applied COUNT times to each, one result upon the other ever so often, and those are run too.  A finding
 * ends the program by a signal; the last input is in the file that $PHEAP_FUZZ_LAST names, if it names one.
 */
#include "fuzz/reseal.h"
#include "tests/support/dice.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#define RESTART 16 /* mutations upon one another */

static uint64_t dice = 1;
static unsigned long inputs, runs;

static uint64_t roll(uint64_t limit)
{
    return dice_roll(&dice) % limit;
}

/* What libFuzzer would do to plain bytes, in small. */
size_t LLVMFuzzerMutate(uint8_t *data, size_t size, size_t most)
{
    size_t at = size > 0 ? (size_t)roll(size) : 0;
    switch (roll(4)) {
    case 0:
        if (size < most) {
            memmove(data + at + 1, data + at, size - at);
            data[at] = (uint8_t)roll(256);
            size++;
        }
        break;
    case 1:
        if (size > 1) {
            memmove(data + at, data + at + 1, size - at - 1);
            size--;
        }
        break;
    case 2:
        if (size > 0)
            data[at] ^= (uint8_t)(1u << roll(8));
        break;
    default:
        if (size > 0)
            data[at] = (uint8_t)roll(256);
        break;
    }
    return size;
}

static void run(const uint8_t *data, size_t size)
{
    const char *last = getenv("PHEAP_FUZZ_LAST");
    FILE *file = last != NULL ? fopen(last, "wb") : NULL;
    if (file != NULL) {
        (void)fwrite(data, 1, size, file);
        (void)fclose(file);
    }
    (void)LLVMFuzzerTestOneInput(data, size);
    runs++;
}

static void run_file(const char *path, unsigned long mutations)
{
    static uint8_t original[FUZZ_INPUT_MAX], data[FUZZ_INPUT_MAX];
    FILE *file = fopen(path, "rb");
    if (file == NULL) {
        perror(path);
        exit(2);
    }
    size_t length = fread(original, 1, sizeof original, file), size = length;
    (void)fclose(file);
    inputs++;
    run(original, length);
    for (unsigned long i = 0; i < mutations; i++) {
        if (i % RESTART == 0) {
            memcpy(data, original, length);
            size = length;
        }
        size = LLVMFuzzerCustomMutator(data, size, sizeof data, (unsigned)roll(UINT32_MAX));
        run(data, size);
    }
}

static int visible(const struct dirent *entry)
{
    return entry->d_name[0] != '.';
}

static void run_directory(const char *path, unsigned long mutations)
{
    struct dirent **entries;
    int count = scandir(path, &entries, visible, alphasort);
    if (count < 0) {
        perror(path);
        exit(2);
    }
    for (int i = 0; i < count; i++) {
        char name[4096];
        (void)snprintf(name, sizeof name, "%s/%s", path, entries[i]->d_name);
        run_file(name, mutations);
        free(entries[i]);
    }
    free(entries);
}

int main(int argc, char **argv)
{
    unsigned long mutations = 0;
    for (int i = 1; i < argc; i++) {
        struct stat stat_of;
        if (strcmp(argv[i], "--mutate") == 0 && i + 1 < argc)
            mutations = strtoul(argv[++i], NULL, 10);
        else if (strcmp(argv[i], "--seed") == 0 && i + 1 < argc)
            dice = strtoull(argv[++i], NULL, 10);
        else if (stat(argv[i], &stat_of) == 0 && S_ISDIR(stat_of.st_mode))
            run_directory(argv[i], mutations);
        else
            run_file(argv[i], mutations);
    }
    (void)printf("%lu inputs, %lu runs\n", inputs, runs);
    return inputs > 0 ? 0 : 2;
}
