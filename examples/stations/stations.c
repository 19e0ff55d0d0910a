/* SPDX-License-Identifier: MIT */
/*
 * stations: a store of structs by key, in C.
 *
 *     stations HEAP read NAME LATITUDE LONGITUDE CELSIUS    a reading of a weather station
 *     stations HEAP show NAME                               its last readings, the oldest first
 *     stations HEAP near LATITUDE LONGITUDE                 readings in that hundredth of a degree, and their mean
 *     stations HEAP forget NAME
 *
 * The root map is the index.  Under the name of a station is a ring of structs, its last 24 readings; under "the world" an
 * array of structs, one for each hundredth of a degree: 5 GB, of which the disk has the pages that were written.  The
 * layouts are registered, so a program in another language finds the fields by name, and one with another idea of them is
 * refused.  Index, ring and array change in one transaction.
 */
#include <pheap/types.h>

#include <errno.h>
#include <math.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#define READINGS 24
#define ROWS 18000u    /* hundredths of a degree from pole to pole, */
#define COLUMNS 36000u /* and around */

struct reading {
    int64_t time; /* seconds since 1970 */
    double latitude, longitude;
    double celsius;
};

struct cell {
    uint32_t count;
    float sum; /* of degrees Celsius */
};

#define FIELD(type, field, what)                                                   \
    {                                                                              \
        .name = #field, .kind = (what), .size = sizeof(((struct type *)0)->field), \
        .offset = offsetof(struct type, field), .count = 1                         \
    }

static const struct pht_field reading_fields[] = {
    FIELD(reading, time, PHT_FIELD_SIGNED),
    FIELD(reading, latitude, PHT_FIELD_FLOAT),
    FIELD(reading, longitude, PHT_FIELD_FLOAT),
    FIELD(reading, celsius, PHT_FIELD_FLOAT),
};
static const struct pht_layout reading_layout = {.name = "stations.Reading",
                                                 .version = 1,
                                                 .size = sizeof(struct reading),
                                                 .field_count = 4,
                                                 .fields = reading_fields};

static const struct pht_field cell_fields[] = {
    FIELD(cell, count, PHT_FIELD_UNSIGNED),
    FIELD(cell, sum, PHT_FIELD_FLOAT),
};
static const struct pht_layout cell_layout = {
    .name = "stations.Cell", .version = 1, .size = sizeof(struct cell), .field_count = 2, .fields = cell_fields};

/* What went wrong in a call that a program of this size cannot do anything about. */
static void must(enum pheap_status status)
{
    if (status == PHEAP_OK)
        return;
    (void)fprintf(stderr, "stations: %s (%s)\n", pheap_error_detail(), pheap_status_name(status));
    exit(EXIT_FAILURE); /* an open transaction is undone */
}

_Noreturn static void refuse(const char *what, const char *name)
{
    (void)fprintf(stderr, "stations: %s: %s\n", what, name);
    exit(EXIT_FAILURE);
}

static double number(const char *text, double least, double most)
{
    char *end;
    errno = 0;
    const double value = strtod(text, &end);
    if (errno != 0 || end == text || *end != 0 || !(value >= least && value <= most))
        refuse("not a number that can be here", text);
    return value;
}

/* Names of stations begin with a mark, so that none is that of the world. */
struct key {
    char text[256];
};

static struct key key_of(const char *name)
{
    struct key key;
    const int length = snprintf(key.text, sizeof key.text, "@%s", name);
    if (length < 2 || (size_t)length >= sizeof key.text)
        refuse("not a name", name);
    return key;
}

/* The number of the cell in which a place lies. */
static uint64_t cell_of(double latitude, double longitude)
{
    const double row = floor((latitude + 90) * 100), column = floor((longitude + 180) * 100);
    return (row < ROWS ? (uint64_t)row : ROWS - 1) * COLUMNS + (uint64_t)column % COLUMNS;
}

static void take_reading(struct pht *t, const struct key *name, const struct reading *reading)
{
    pht_value ring, world;
    uint64_t at, cells;
    void *address;
    uint32_t reading_type, cell_type;
    must(pht_type_register(t, &reading_layout, &reading_type));
    must(pht_type_register(t, &cell_layout, &cell_type));

    must(pht_map_get(t, pht_root(t), pht_text(name->text), &ring));
    if (ring == PHT_ABSENT) {
        must(pht_ring_new(t, reading_type, READINGS, &ring));
        must(pht_map_set(t, pht_root(t), pht_text(name->text), pht_of(ring)));
    }
    must(pht_ring_push(t, ring, reading_type, &at));
    memcpy(t->base + at, reading, sizeof *reading); /* pht_ring_push() has declared it */

    must(pht_map_get(t, pht_root(t), pht_text("the world"), &world));
    if (world == PHT_ABSENT) {
        must(pht_array_new(t, cell_type, (uint64_t)ROWS * COLUMNS, &world));
        must(pht_map_set(t, pht_root(t), pht_text("the world"), pht_of(world)));
    }
    must(pht_array_at(t, world, cell_type, &at, &cells));
    at += cell_of(reading->latitude, reading->longitude) * sizeof(struct cell);
    must(pheap_edit(t->txn, at, sizeof(struct cell), &address));
    struct cell *cell = address;
    cell->count++;
    cell->sum += (float)reading->celsius;
}

static void show(struct pht *t, const char *name)
{
    pht_value ring;
    uint64_t count, at;
    uint32_t type;
    const struct key key = key_of(name);
    must(pht_map_get(t, pht_root(t), pht_text(key.text), &ring));
    if (ring == PHT_ABSENT)
        refuse("no station of that name", name);
    must(pht_type_find(t, reading_layout.name, reading_layout.version, &type));
    must(pht_ring_count(t, ring, &count, NULL));
    for (uint64_t i = 0; i < count; i++) {
        struct reading reading;
        must(pht_ring_at(t, ring, type, i, &at));
        memcpy(&reading, t->base + at, sizeof reading);
        (void)printf("%.2f %.2f %.1f\n", reading.latitude, reading.longitude, reading.celsius);
    }
}

static void show_near(struct pht *t, double latitude, double longitude)
{
    pht_value world;
    uint64_t at, cells;
    uint32_t type;
    struct cell cell = {.count = 0};
    must(pht_map_get(t, pht_root(t), pht_text("the world"), &world));
    if (world != PHT_ABSENT) {
        must(pht_type_find(t, cell_layout.name, cell_layout.version, &type));
        must(pht_array_at(t, world, type, &at, &cells));
        memcpy(&cell, t->base + at + cell_of(latitude, longitude) * sizeof cell, sizeof cell);
    }
    if (cell.count == 0)
        (void)printf("0 readings\n");
    else
        (void)printf("%u readings, mean %.2f\n", cell.count, (double)cell.sum / cell.count);
}

/* Look at a snapshot: nobody waits for it, and nothing changes meanwhile. */
static void look(pheap *heap, char **argv, bool shows)
{
    pheap_read *reader;
    struct pht t;
    must(pheap_read_begin(heap, 0, &reader));
    const enum pheap_status status = pht_look(reader, &t);
    if (status == PHEAP_NOT_FOUND)
        refuse("a heap without stations", argv[1]);
    must(status);
    if (shows)
        show(&t, argv[3]);
    else
        show_near(&t, number(argv[3], -90, 90), number(argv[4], -180, 180));
    (void)pheap_read_end(reader);
}

static void forget(struct pht *t, const char *name)
{
    pht_value ring;
    const struct key key = key_of(name);
    must(pht_map_get(t, pht_root(t), pht_text(key.text), &ring));
    if (ring == PHT_ABSENT)
        refuse("no station of that name", name);
    must(pht_map_remove(t, pht_root(t), pht_text(key.text), NULL)); /* the last reference: the ring goes with it */
}

int main(int argc, char **argv)
{
    pheap *heap;
    pheap_txn *txn;
    struct pht t;
    const char *verb = argc > 2 ? argv[2] : "";
    const bool reads = strcmp(verb, "read") == 0 && argc == 7, shows = strcmp(verb, "show") == 0 && argc == 4,
               nears = strcmp(verb, "near") == 0 && argc == 5, forgets = strcmp(verb, "forget") == 0 && argc == 4;
    if (!(reads || shows || nears || forgets)) {
        (void)fprintf(stderr, "usage: stations HEAP read NAME LATITUDE LONGITUDE CELSIUS\n"
                              "       stations HEAP show NAME | near LATITUDE LONGITUDE | forget NAME\n");
        return 2;
    }
    must(pheap_open(argv[1], reads ? PHEAP_CREATE : 0, NULL, &heap));
    if (shows || nears) {
        look(heap, argv, shows);
    } else {
        must(pheap_begin(heap, &txn));
        must(pht_begin(txn, &t));
        if (reads) {
            const struct key key = key_of(argv[3]);
            const struct reading reading = {.time = (int64_t)time(NULL),
                                            .latitude = number(argv[4], -90, 90),
                                            .longitude = number(argv[5], -180, 180),
                                            .celsius = number(argv[6], -100, 100)};
            take_reading(&t, &key, &reading);
        } else {
            forget(&t, argv[3]);
        }
        must(pheap_commit(txn, PHEAP_DURABLE, NULL));
    }
    must(pheap_close(heap));
    return fflush(stdout) == 0 && ferror(stdout) == 0 ? 0 : EXIT_FAILURE;
}
