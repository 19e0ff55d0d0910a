/* SPDX-License-Identifier: MIT */
/*
 * people: persistent objects in C.
 *
 *     people HEAP add NAME AGE      a new person, or another age for one who is there
 *     people HEAP note NAME TEXT    a note about one
 *     people HEAP forget NAME
 *     people HEAP                   everybody, by age, with their notes
 *
 * A person is a record: a struct that lies in the heap as the compiler laid it out, whose layout is registered there, so
 * that other programs, also in other languages, find its fields by name.  One field is a value: the list of notes.  The
 * root map has a map of the persons by name, and an ordered map of the same records by age and name, which changes in the
 * same transaction.
 */
#include <pheap/types.h>

#include <errno.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>

struct person {
    int32_t age;
    uint32_t note_count;
    pht_value notes; /* a list of str */
};

static const struct pht_field fields[] = {
    {.name = "age", .kind = PHT_FIELD_SIGNED, .size = 4, .offset = offsetof(struct person, age), .count = 1},
    {.name = "note_count",
     .kind = PHT_FIELD_UNSIGNED,
     .size = 4,
     .offset = offsetof(struct person, note_count),
     .count = 1},
    {.name = "notes", .kind = PHT_FIELD_VALUE, .size = 8, .offset = offsetof(struct person, notes), .count = 1},
};
static const struct pht_layout layout = {
    .name = "people.Person", .version = 1, .size = sizeof(struct person), .field_count = 3, .fields = fields};

/* What went wrong in a call that a program of this size cannot do anything about. */
static void must(enum pheap_status status)
{
    if (status == PHEAP_OK)
        return;
    (void)fprintf(stderr, "people: %s (%s)\n", pheap_error_detail(), pheap_status_name(status));
    exit(EXIT_FAILURE); /* an open transaction is undone */
}

_Noreturn static void refuse(const char *what, const char *name)
{
    (void)fprintf(stderr, "people: %s: %s\n", what, name);
    exit(EXIT_FAILURE);
}

/* A container in the root map, made when it is not there yet. */
static pht_value part(struct pht *t, const char *name, enum pheap_status (*make)(struct pht *, pht_value *))
{
    pht_value found;
    must(pht_map_get(t, pht_root(t), pht_text(name), &found));
    if (found == PHT_ABSENT) {
        must(make(t, &found));
        must(pht_map_set(t, pht_root(t), pht_text(name), pht_of(found)));
    }
    return found;
}

/* The place of a person in the order by age: a tuple of age and name, to be stored or discarded. */
static pht_value by_age(struct pht *t, int32_t age, const char *name)
{
    const struct pht_any both[] = {pht_int(age), pht_text(name)};
    pht_value tuple;
    must(pht_tuple_new(t, both, 2, &tuple));
    return tuple;
}

/* The struct of a person: where it is in the heap, and what it is now. */
static struct person load(struct pht *t, pht_value record, uint32_t type, uint64_t *offset)
{
    struct person person;
    must(pht_record_at(t, record, type, offset, NULL));
    memcpy(&person, t->base + *offset, sizeof person);
    return person;
}

static void leave_order(struct pht *t, pht_value ordered, int32_t age, const char *name)
{
    const pht_value place = by_age(t, age, name);
    must(pht_omap_remove(t, ordered, pht_of(place), NULL));
    must(pht_discard(t, place));
}

static void add(struct pht *t, uint32_t type, const char *name, const char *text)
{
    char *end;
    uint64_t offset;
    pht_value record;
    errno = 0;
    const long age = strtol(text, &end, 10);
    if (errno != 0 || *end != 0 || end == text || age < 0 || age > 150)
        refuse("not an age", text);
    const pht_value people = part(t, "people", pht_map_new), ordered = part(t, "by age", pht_omap_new);
    must(pht_map_get(t, people, pht_text(name), &record));
    if (record == PHT_ABSENT) {
        must(pht_record_new(t, type, &record));
        must(pht_map_set(t, people, pht_text(name), pht_of(record)));
    } else {
        leave_order(t, ordered, load(t, record, type, &offset).age, name);
    }
    const int32_t stored = (int32_t)age;
    (void)load(t, record, type, &offset);
    must(pheap_write(t->txn, offset + offsetof(struct person, age), &stored, sizeof stored));
    must(pht_omap_set(t, ordered, pht_of(by_age(t, stored, name)), pht_of(record)));
}

static void note(struct pht *t, uint32_t type, const char *name, const char *text)
{
    void *address;
    uint64_t offset;
    pht_value record, notes;
    must(pht_map_get(t, part(t, "people", pht_map_new), pht_text(name), &record));
    if (record == PHT_ABSENT)
        refuse("nobody of that name", name);
    (void)load(t, record, type, &offset);
    must(pht_record_get(t, record, offsetof(struct person, notes), &notes));
    if (notes == PHT_ABSENT) {
        must(pht_list_new(t, &notes));
        must(pht_record_set(t, record, offsetof(struct person, notes), pht_of(notes)));
    }
    must(pht_list_append(t, notes, pht_text(text)));
    must(pheap_edit(t->txn, offset, sizeof(struct person), &address));
    ((struct person *)address)->note_count++;
}

static void forget(struct pht *t, uint32_t type, const char *name)
{
    uint64_t offset;
    pht_value record;
    const pht_value people = part(t, "people", pht_map_new);
    must(pht_map_get(t, people, pht_text(name), &record));
    if (record == PHT_ABSENT)
        refuse("nobody of that name", name);
    leave_order(t, part(t, "by age", pht_omap_new), load(t, record, type, &offset).age, name);
    must(pht_map_remove(t, people, pht_text(name), NULL)); /* the last reference: the record and its notes go with it */
}

static void print_text(struct pht *t, const char *before, pht_value value)
{
    struct pht_any any;
    must(pht_show(t, &value, &any));
    if (any.kind == PHT_STR)
        (void)printf("%s%.*s\n", before, (int)any.length, (const char *)any.bytes);
}

/* Everybody, in a snapshot: nobody waits for it, and nothing changes meanwhile. */
static void list(pheap *heap)
{
    pheap_read *reader;
    struct pht t;
    pht_value ordered, place, record, name, text;
    uint64_t count = 0, notes_count, offset;
    uint32_t type;
    must(pheap_read_begin(heap, 0, &reader));
    enum pheap_status status = pht_look(reader, &t);
    if (status == PHEAP_NOT_FOUND) {
        (void)pheap_read_end(reader);
        return; /* a heap without values */
    }
    must(status);
    must(pht_map_get(&t, pht_root(&t), pht_text("by age"), &ordered));
    if (ordered != PHT_ABSENT) {
        must(pht_type_find(&t, layout.name, layout.version, &type));
        must(pht_omap_count(&t, ordered, &count));
    }
    for (uint64_t i = 0; i < count; i++) {
        must(pht_omap_at(&t, ordered, i, &place, &record));
        must(pht_tuple_get(&t, place, 1, &name));
        const struct person person = load(&t, record, type, &offset);
        (void)printf("%d ", (int)person.age);
        print_text(&t, "", name);
        if (person.notes == PHT_ABSENT)
            continue;
        must(pht_list_count(&t, person.notes, &notes_count));
        for (uint64_t n = 0; n < notes_count; n++) {
            must(pht_list_get(&t, person.notes, n, &text));
            print_text(&t, "    ", text);
        }
    }
    (void)pheap_read_end(reader);
}

int main(int argc, char **argv)
{
    pheap *heap;
    pheap_txn *txn;
    struct pht t;
    uint32_t type;
    const char *verb = argc > 2 ? argv[2] : "";
    const bool adds = strcmp(verb, "add") == 0, notes = strcmp(verb, "note") == 0,
               forgets = strcmp(verb, "forget") == 0;
    if (!(argc == 2 || (argc == 5 && (adds || notes)) || (argc == 4 && forgets))) {
        (void)fprintf(stderr, "usage: people HEAP [add NAME AGE | note NAME TEXT | forget NAME]\n");
        return 2;
    }
    must(pheap_open(argv[1], PHEAP_CREATE, NULL, &heap));
    if (argc == 2) {
        list(heap);
    } else {
        must(pheap_begin(heap, &txn));
        must(pht_begin(txn, &t));
        must(pht_type_register(&t, &layout, &type));
        if (adds)
            add(&t, type, argv[3], argv[4]);
        else if (notes)
            note(&t, type, argv[3], argv[4]);
        else
            forget(&t, type, argv[3]);
        must(pheap_commit(txn, PHEAP_DURABLE, NULL));
    }
    must(pheap_close(heap));
    return fflush(stdout) == 0 && ferror(stdout) == 0 ? 0 : EXIT_FAILURE;
}
