/* SPDX-License-Identifier: MIT */
/* Inputs as bytes and as what they mean. */
#include "fuzz/input.h"

#include "pheap/pheap.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

#define HEAD_BYTES 16u
#define CHUNK_BYTES (4u + FUZZ_SECTOR_BYTES)

void fuzz_fail(const char *file, int line, const char *what)
{
    (void)fprintf(stderr, "%s:%d: does not hold: %s\n", file, line, what);
    (void)fprintf(stderr, "what the library last said: %s\n", pheap_error_detail());
    abort();
}

void *fuzz_memory(void *old, size_t length)
{
    void *memory = realloc(old, length == 0 ? 1 : length);
    if (memory == NULL)
        fuzz_fail(__FILE__, __LINE__, "there is memory");
    return memory;
}

#ifdef PHEAP_LIBFUZZER
#define TIMED true
#else
#define TIMED false /* the other builds are for any machine, however busy */
#endif
#define USER_MAX_US 1000000
#define SYSTEM_MAX_US 10000000

static struct rusage began;
static int64_t allowed_us;

static int64_t microseconds(struct timeval from, struct timeval to)
{
    return (to.tv_sec - from.tv_sec) * INT64_C(1000000) + to.tv_usec - from.tv_usec;
}

void fuzz_time_begin(void)
{
    (void)getrusage(RUSAGE_SELF, &began);
    allowed_us = 0;
}

void fuzz_time_allow(uint64_t us)
{
    allowed_us += (int64_t)us;
}

void fuzz_time_end(void)
{
    struct rusage now;
    (void)getrusage(RUSAGE_SELF, &now);
    FUZZ_REQUIRE(!TIMED || microseconds(began.ru_utime, now.ru_utime) < USER_MAX_US + allowed_us);
    FUZZ_REQUIRE(!TIMED || microseconds(began.ru_stime, now.ru_stime) < SYSTEM_MAX_US + allowed_us);
}

static uint32_t load32(const uint8_t *data)
{
    uint32_t value;
    memcpy(&value, data, sizeof value);
    return value;
}

static void store32(uint8_t *data, uint32_t value)
{
    memcpy(data, &value, sizeof value);
}

/* --------------------------------------------------------------------------------------------------------- images */

static struct fuzz_sector *add_sector(struct fuzz_image *image)
{
    if (image->count == image->capacity) {
        image->capacity = image->capacity * 2 + 8;
        image->list = fuzz_memory(image->list, image->capacity * sizeof image->list[0]);
    }
    return &image->list[image->count++];
}

static void parse_image(struct fuzz_image *image, const uint8_t *data, size_t size)
{
    *image = (struct fuzz_image){0};
    if (size < 4)
        return;
    image->sectors = load32(data);
    for (size_t at = 4; at + CHUNK_BYTES <= size; at += CHUNK_BYTES) {
        struct fuzz_sector *sector = add_sector(image);
        sector->number = load32(data + at);
        memcpy(sector->data, data + at + 4, FUZZ_SECTOR_BYTES);
    }
}

static size_t image_size(const struct fuzz_image *image)
{
    return 4 + (size_t)image->count * CHUNK_BYTES;
}

static size_t write_image(const struct fuzz_image *image, uint8_t *data)
{
    store32(data, image->sectors);
    for (uint32_t i = 0; i < image->count; i++) {
        store32(data + 4 + i * CHUNK_BYTES, image->list[i].number);
        memcpy(data + 8 + i * CHUNK_BYTES, image->list[i].data, FUZZ_SECTOR_BYTES);
    }
    return image_size(image);
}

uint8_t *fuzz_image_sector(const struct fuzz_image *image, uint32_t sector)
{
    for (uint32_t i = image->count; i > 0; i--)
        if (image->list[i - 1].number == sector)
            return image->list[i - 1].data;
    return NULL;
}

uint8_t *fuzz_image_touch(struct fuzz_image *image, uint32_t sector)
{
    uint8_t *found = fuzz_image_sector(image, sector);
    if (found != NULL)
        return found;
    struct fuzz_sector *added = add_sector(image);
    *added = (struct fuzz_sector){.number = sector};
    return added->data;
}

uint64_t fuzz_image_get(const struct fuzz_image *image, uint64_t offset)
{
    const uint8_t *sector = fuzz_image_sector(image, (uint32_t)(offset / FUZZ_SECTOR_BYTES));
    uint64_t value = 0;
    if (sector != NULL && offset / FUZZ_SECTOR_BYTES < image->sectors)
        memcpy(&value, sector + offset % FUZZ_SECTOR_BYTES / 8 * 8, sizeof value);
    return value;
}

void fuzz_image_put(struct fuzz_image *image, uint64_t offset, uint64_t value)
{
    if (offset / FUZZ_SECTOR_BYTES >= image->sectors)
        return;
    uint8_t *sector = fuzz_image_touch(image, (uint32_t)(offset / FUZZ_SECTOR_BYTES));
    memcpy(sector + offset % FUZZ_SECTOR_BYTES / 8 * 8, &value, sizeof value);
}

void fuzz_image_from_bytes(struct fuzz_image *image, const uint8_t *data, size_t length)
{
    static const uint8_t zeros[FUZZ_SECTOR_BYTES];
    image->count = 0;
    image->sectors = (uint32_t)(length / FUZZ_SECTOR_BYTES);
    for (uint32_t sector = 0; sector < image->sectors; sector++) {
        const uint8_t *bytes = data + (size_t)sector * FUZZ_SECTOR_BYTES;
        if (memcmp(bytes, zeros, sizeof zeros) == 0)
            continue;
        struct fuzz_sector *added = add_sector(image);
        added->number = sector;
        memcpy(added->data, bytes, FUZZ_SECTOR_BYTES);
    }
}

void fuzz_image_to_bytes(const struct fuzz_image *image, uint8_t *data, size_t length)
{
    memset(data, 0, length);
    for (uint32_t i = 0; i < image->count; i++) {
        uint64_t at = (uint64_t)image->list[i].number * FUZZ_SECTOR_BYTES;
        if (image->list[i].number < image->sectors && at + FUZZ_SECTOR_BYTES <= length)
            memcpy(data + at, image->list[i].data, FUZZ_SECTOR_BYTES);
    }
}

void fuzz_image_deinit(struct fuzz_image *image)
{
    free(image->list);
    *image = (struct fuzz_image){0};
}

/* --------------------------------------------------------------------------------------------------------- inputs */

void fuzz_bytes_set(struct fuzz_bytes *bytes, const void *data, size_t length)
{
    bytes->data = fuzz_memory(bytes->data, length);
    if (length > 0)
        memcpy(bytes->data, data, length);
    bytes->length = length;
}

void fuzz_input_parse(struct fuzz_input *input, const uint8_t *data, size_t size)
{
    size_t lengths[3] = {0}, at = HEAD_BYTES < size ? HEAD_BYTES : size;
    *input = (struct fuzz_input){0};
    for (unsigned i = 0; i < 3 && size >= HEAD_BYTES; i++)
        lengths[i] = load32(data + 4 * (size_t)i);
    const uint8_t *parts[3];
    for (unsigned i = 0; i < 3; i++) {
        parts[i] = data + at;
        if (lengths[i] > size - at)
            lengths[i] = size - at;
        at += lengths[i];
    }
    parse_image(&input->heap, parts[0], lengths[0]);
    parse_image(&input->log, parts[1], lengths[1]);
    fuzz_bytes_set(&input->ring, parts[2], lengths[2]);
    fuzz_bytes_set(&input->script, data + at, size - at);
}

void fuzz_input_deinit(struct fuzz_input *input)
{
    fuzz_image_deinit(&input->heap);
    fuzz_image_deinit(&input->log);
    free(input->ring.data);
    free(input->script.data);
    *input = (struct fuzz_input){0};
}

size_t fuzz_input_size(const struct fuzz_input *input)
{
    return HEAD_BYTES + image_size(&input->heap) + image_size(&input->log) + input->ring.length + input->script.length;
}

size_t fuzz_input_write(const struct fuzz_input *input, uint8_t *data, size_t size)
{
    if (fuzz_input_size(input) > size)
        return 0;
    store32(data, (uint32_t)image_size(&input->heap));
    store32(data + 4, (uint32_t)image_size(&input->log));
    store32(data + 8, (uint32_t)input->ring.length);
    store32(data + 12, 0);
    size_t at = HEAD_BYTES;
    at += write_image(&input->heap, data + at);
    at += write_image(&input->log, data + at);
    if (input->ring.length > 0)
        memcpy(data + at, input->ring.data, input->ring.length);
    at += input->ring.length;
    if (input->script.length > 0)
        memcpy(data + at, input->script.data, input->script.length);
    return at + input->script.length;
}
