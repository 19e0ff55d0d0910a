/* SPDX-License-Identifier: MIT */
/*
 * The journal: what happened to the disk of the simulated machine, in order, with the bytes written.
 *
 * The coordination file changes by stores that nobody sees; a copy of it is taken every few events, so that a cut can
 * leave on the disk what it held at some earlier time, and never what it was to hold later.
 */
#include "tests/support/simfs_internal.h"

#define EVENTS_BETWEEN_COPIES 12
#define COPY_BYTES_MAX ((uint64_t)1 << 20)

static struct sim_event *add(struct sim_journal *journal)
{
    if (journal->count == journal->capacity) {
        journal->capacity = journal->capacity * 2 + 256;
        journal->events = sim_resize(journal->events, journal->capacity * sizeof journal->events[0]);
    }
    struct sim_event *event = &journal->events[journal->count++];
    *event = (struct sim_event){.kind = SIM_EVENT_NOTE};
    return event;
}

static uint8_t *copy_file(const struct sim_file *file, uint64_t length)
{
    uint8_t *copy = sim_resize(NULL, (size_t)length);
    SIM_REQUIRE(sim_file_read(file, copy, (size_t)length, 0) == length);
    return copy;
}

static void copy_coordination(struct ph_sim *sim)
{
    if (sim->journal.since_coordination++ < EVENTS_BETWEEN_COPIES)
        return;
    sim->journal.since_coordination = 0;
    for (size_t i = 0; i < sim->file_count; i++) {
        const struct sim_file *file = &sim->files[i];
        if (!file->used || !file->coordination)
            continue;
        uint64_t length = file->size < COPY_BYTES_MAX ? file->size : COPY_BYTES_MAX;
        struct sim_event *event = add(&sim->journal);
        event->kind = SIM_EVENT_COORDINATION;
        event->file = (uint32_t)i;
        event->length = length;
        event->data = copy_file(file, length);
    }
}

void sim_journal_name(struct ph_sim *sim, enum sim_event_kind kind, const char *name, const char *name2, uint32_t file)
{
    if (!sim->journal.on)
        return;
    copy_coordination(sim);
    struct sim_event *event = add(&sim->journal);
    event->kind = kind;
    event->file = file;
    event->name = sim_text(name);
    event->name2 = name2 == NULL ? NULL : sim_text(name2);
}

void sim_journal_range(struct ph_sim *sim, enum sim_event_kind kind, uint32_t file, uint64_t offset, uint64_t length,
                       const void *data)
{
    if (!sim->journal.on)
        return;
    copy_coordination(sim);
    struct sim_event *event = add(&sim->journal);
    event->kind = kind;
    event->file = file;
    event->offset = offset;
    event->length = length;
    if (data != NULL) {
        event->data = sim_resize(NULL, (size_t)length);
        memcpy(event->data, data, (size_t)length);
    }
}

void sim_journal_deinit(struct sim_journal *journal)
{
    for (size_t i = 0; i < journal->count; i++) {
        free(journal->events[i].data);
        free(journal->events[i].name);
        free(journal->events[i].name2);
    }
    for (size_t i = 0; i < journal->initial_count; i++)
        free(journal->initial[i].data);
    free(journal->events);
    free(journal->initial);
    sim_names_deinit(&journal->names);
    *journal = (struct sim_journal){0};
}

void ph_sim_journal_restart(struct ph_sim *sim)
{
    struct sim_journal *journal = &sim->journal;
    sim_journal_deinit(journal);
    journal->on = true;
    journal->initial = sim_resize(NULL, sim->file_count * sizeof journal->initial[0]);
    for (size_t i = 0; i < sim->file_count; i++) {
        const struct sim_file *file = &sim->files[i];
        if (!file->used)
            continue;
        journal->initial[journal->initial_count++] =
            (struct sim_initial){(uint32_t)i, file->size, copy_file(file, file->size)};
    }
    sim_names_copy(&journal->names, &sim->names);
}

void ph_sim_note(struct ph_sim *sim, uint32_t kind, uint64_t value)
{
    (void)pthread_mutex_lock(&sim->mutex);
    if (sim->journal.on) {
        struct sim_event *event = add(&sim->journal);
        event->file = kind;
        event->offset = value;
    }
    (void)pthread_mutex_unlock(&sim->mutex);
}

uint64_t ph_sim_journal_length(const struct ph_sim *sim)
{
    return sim->journal.count;
}

uint64_t ph_sim_journal_hash(const struct ph_sim *sim)
{
    uint64_t hash = 0;
    for (size_t i = 0; i < sim->journal.count; i++) {
        const struct sim_event *event = &sim->journal.events[i];
        hash = dice_mix(hash ^ dice_mix((uint64_t)event->kind ^ (uint64_t)event->file << 8 ^ event->offset << 20) ^
                        event->length);
        /* The coordination file has locks and process numbers in it, which are the system's. */
        for (uint64_t at = 0; event->kind == SIM_EVENT_WRITE && event->data != NULL && at < event->length; at++)
            hash = (hash ^ event->data[at]) * UINT64_C(0x100000001b3);
    }
    return hash;
}
