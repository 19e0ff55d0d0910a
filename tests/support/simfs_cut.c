/* SPDX-License-Identifier: MIT */
/*
 * The walk over a journal: which contents are durable, and which may or may not have reached the disk.
 *
 *   sectors   512 bytes are written as a whole or not at all.  Until a sync covers it, a sector may hold its durable
 *             content or any content it had since, independently of all others.
 *   sizes     change in order: the file has its durable size or any it had since (or, for a longer write that makes
 *             the file longer, some page end on the way).  Data beyond the size that persists is lost.  What a smaller
 *             size cut off is zero if and only if that size persisted.
 *   names     each creation, removal and renaming happens or not, independently, until its directory is synced.  A sync
 *             of the file does not help.
 *   dsync     covers the sectors of that write, and the sizes if the write lies beyond one that may persist.
 *   failed    sync: what was dirty may or may not have reached the disk, and the page cache calls it clean: a later sync
 *             makes only those sectors durable that were written again.
 *
 * Punching makes sectors of zeros.  The coordination file is not walked here; of it only copies are kept.
 */
#include "tests/support/simfs_cut.h"

#include <stdatomic.h>

static _Atomic uint64_t stamp_source = SIM_STAMP_ZERO + 1;

static void base_changed(struct cut_file *file, uint64_t sector)
{
    file->stamps[sector / SIM_PAGE_SECTORS] = stamp_source++;
}

static void *grown(void *memory, size_t element, uint64_t from, uint64_t to)
{
    uint8_t *result = sim_resize(memory, (size_t)to * element);
    memset(result + from * element, 0, (size_t)(to - from) * element);
    return result;
}

static void need_bytes(struct cut_file *file, uint64_t bytes)
{
    if (bytes <= file->capacity)
        return;
    SIM_REQUIRE(bytes <= UINT64_C(1) << 30);
    uint64_t old = file->capacity, now = old == 0 ? 65536 : old;
    while (now < bytes)
        now *= 2;
    file->cache = grown(file->cache, 1, old, now);
    file->base = grown(file->base, 1, old, now);
    file->stamps = grown(file->stamps, sizeof file->stamps[0], old / SIM_PAGE_BYTES, now / SIM_PAGE_BYTES);
    file->slots = grown(file->slots, sizeof file->slots[0], old / PH_SIM_SECTOR_BYTES, now / PH_SIM_SECTOR_BYTES);
    file->capacity = now;
}

static struct cut_version *version_new(struct ph_sim_cut *cut)
{
    struct cut_version *version = cut->spare;
    if (version == NULL)
        return sim_resize(NULL, sizeof *version);
    cut->spare = version->next;
    return version;
}

static struct cut_sector *sector_of(struct cut_file *file, uint64_t sector)
{
    if (file->slots[sector] != 0)
        return &file->pending[file->slots[sector] - 1];
    if (file->pending_count == file->pending_capacity) {
        file->pending_capacity = file->pending_capacity * 2 + 64;
        file->pending = sim_resize(file->pending, file->pending_capacity * sizeof file->pending[0]);
    }
    struct cut_sector *found = &file->pending[file->pending_count++];
    *found = (struct cut_sector){.sector = (uint32_t)sector};
    file->slots[sector] = (uint32_t)file->pending_count;
    return found;
}

/* The program's content of the sector has changed: one more version, unless it is the one before again. */
static void add_version(struct ph_sim_cut *cut, struct cut_file *file, uint64_t sector, bool shrink)
{
    const uint8_t *bytes = file->cache + sector * PH_SIM_SECTOR_BYTES;
    const struct cut_sector *before = file->slots[sector] == 0 ? NULL : &file->pending[file->slots[sector] - 1];
    const uint8_t *last = before == NULL ? file->base + sector * PH_SIM_SECTOR_BYTES : before->last->bytes;
    bool bound = shrink && before != NULL; /* an older version must not come back from behind a smaller size */
    if (memcmp(last, bytes, PH_SIM_SECTOR_BYTES) == 0 && !bound) {
        if (before != NULL)
            before->last->clean = false;
        return;
    }
    struct cut_sector *found = sector_of(file, sector);
    struct cut_version *version = version_new(cut);
    *version = (struct cut_version){.position = cut->position, .shrink = shrink};
    memcpy(version->bytes, bytes, PH_SIM_SECTOR_BYTES);
    if (found->last == NULL)
        found->first = version;
    else
        found->last->next = version;
    found->last = version;
    found->count++;
    SIM_REQUIRE(found->count < UINT16_MAX);
}

/* The versions of the sector up to `version` give way to it, as the durable content. */
static void settle(struct ph_sim_cut *cut, struct cut_file *file, uint64_t sector, const struct cut_version *version)
{
    uint32_t slot = file->slots[sector] - 1;
    struct cut_sector *found = &file->pending[slot];
    memcpy(file->base + sector * PH_SIM_SECTOR_BYTES, version->bytes, PH_SIM_SECTOR_BYTES);
    base_changed(file, sector);
    for (bool done = false; !done;) {
        struct cut_version *oldest = found->first;
        done = oldest == version;
        found->first = oldest->next;
        found->count--;
        oldest->next = cut->spare;
        cut->spare = oldest;
    }
    if (found->first != NULL)
        return;
    file->slots[sector] = 0;
    file->pending_count--;
    if (slot != file->pending_count) {
        file->pending[slot] = file->pending[file->pending_count];
        file->slots[file->pending[slot].sector] = slot + 1;
    }
}

static void add_size(struct cut_file *file, uint64_t position, uint64_t size)
{
    if (file->size_count == file->size_capacity) {
        file->size_capacity = file->size_capacity * 2 + 8;
        file->sizes = sim_resize(file->sizes, file->size_capacity * sizeof file->sizes[0]);
    }
    file->sizes[file->size_count++] = (struct cut_size){position, size};
}

/* All sizes so far are durable, and with them what smaller ones cut off. */
static void settle_sizes(struct ph_sim_cut *cut, struct cut_file *file)
{
    file->size_count = 0;
    file->base_size = file->size;
    for (size_t i = file->pending_count; i-- > 0;) {
        const struct cut_version *shrink = NULL;
        for (const struct cut_version *v = file->pending[i].first; v != NULL; v = v->next)
            shrink = v->shrink ? v : shrink;
        if (shrink != NULL)
            settle(cut, file, file->pending[i].sector, shrink);
    }
}

static void settle_range(struct ph_sim_cut *cut, struct cut_file *file, uint64_t offset, uint64_t length)
{
    uint64_t end = offset + length < file->capacity ? offset + length : file->capacity;
    for (uint64_t sector = offset / PH_SIM_SECTOR_BYTES; sector * PH_SIM_SECTOR_BYTES < end; sector++) {
        const struct cut_sector *found = file->slots[sector] == 0 ? NULL : &file->pending[file->slots[sector] - 1];
        if (found != NULL && !found->last->clean)
            settle(cut, file, sector, found->last);
    }
}

static void settle_all(struct ph_sim_cut *cut, struct cut_file *file)
{
    settle_sizes(cut, file);
    for (size_t i = file->pending_count; i-- > 0;)
        if (!file->pending[i].last->clean)
            settle(cut, file, file->pending[i].sector, file->pending[i].last);
}

static void on_write(struct ph_sim_cut *cut, struct cut_file *file, const struct sim_event *event)
{
    uint64_t end = event->offset + event->length;
    need_bytes(file, end);
    if (event->data != NULL)
        memcpy(file->cache + event->offset, event->data, (size_t)event->length);
    else
        memset(file->cache + event->offset, 0, (size_t)event->length);
    for (uint64_t sector = event->offset / PH_SIM_SECTOR_BYTES; sector * PH_SIM_SECTOR_BYTES < end; sector++)
        add_version(cut, file, sector, false);
    if (end <= file->size)
        return;
    uint64_t middle = (file->size + end) / 2 / SIM_PAGE_BYTES * SIM_PAGE_BYTES;
    if (middle > file->size && middle < end)
        add_size(file, cut->position, middle);
    add_size(file, cut->position, end);
    file->size = end;
}

static void on_size(struct ph_sim_cut *cut, struct cut_file *file, uint64_t size)
{
    need_bytes(file, size);
    uint64_t old = file->size;
    if (size == old)
        return;
    file->size = size;
    add_size(file, cut->position, size);
    if (size > old)
        return;
    memset(file->cache + size, 0, (size_t)(old - size));
    for (uint64_t sector = size / PH_SIM_SECTOR_BYTES; sector * PH_SIM_SECTOR_BYTES < old; sector++)
        add_version(cut, file, sector, true);
}

static void on_sync_range(struct ph_sim_cut *cut, struct cut_file *file, uint64_t offset, uint64_t length)
{
    bool covered = offset + length <= file->base_size;
    for (size_t i = 0; i < file->size_count; i++)
        covered = covered && offset + length <= file->sizes[i].size;
    if (!covered)
        settle_sizes(cut, file);
    settle_range(cut, file, offset, length);
}

static void on_sync_failed(struct cut_file *file)
{
    for (size_t i = 0; i < file->pending_count; i++)
        for (struct cut_version *v = file->pending[i].first; v != NULL; v = v->next)
            v->clean = true;
}

/* What was written since the last sync is nowhere any more; sizes are the file system's own and stay. */
static void on_reverted(struct ph_sim_cut *cut, struct cut_file *file)
{
    for (size_t i = 0; i < file->pending_count; i++) {
        struct cut_sector *sector = &file->pending[i];
        sector->last->next = cut->spare;
        cut->spare = sector->first;
        file->slots[sector->sector] = 0;
        memcpy(file->cache + (uint64_t)sector->sector * PH_SIM_SECTOR_BYTES,
               file->base + (uint64_t)sector->sector * PH_SIM_SECTOR_BYTES, PH_SIM_SECTOR_BYTES);
    }
    file->pending_count = 0;
    if (file->size < file->capacity)
        memset(file->cache + file->size, 0, (size_t)(file->capacity - file->size));
}

static void apply_name(struct sim_names *names, const struct sim_event *event)
{
    if (event->kind == SIM_EVENT_CREATE) {
        sim_names_add(names, event->name, event->file);
    } else if (event->kind == SIM_EVENT_UNLINK) {
        (void)sim_names_remove(names, event->name);
    } else {
        (void)sim_names_remove(names, event->name);
        sim_names_add(names, event->name2, event->file);
    }
}

static void on_name(struct ph_sim_cut *cut, const struct sim_event *event)
{
    if (cut->files[event->file].coordination) {
        apply_name(&cut->names, event); /* an image may do without the file anyway */
        return;
    }
    if (cut->name_count == cut->name_capacity) {
        cut->name_capacity = cut->name_capacity * 2 + 8;
        cut->name_events = sim_resize(cut->name_events, cut->name_capacity * sizeof cut->name_events[0]);
    }
    cut->name_events[cut->name_count++] = (struct cut_name_event){cut->position, event};
}

static void on_sync_names(struct ph_sim_cut *cut, const char *path)
{
    size_t kept = 0;
    for (size_t i = 0; i < cut->name_count; i++) {
        if (sim_names_same_directory(cut->name_events[i].event->name, path))
            apply_name(&cut->names, cut->name_events[i].event);
        else
            cut->name_events[kept++] = cut->name_events[i];
    }
    cut->name_count = kept;
}

static void on_note(struct ph_sim_cut *cut, uint32_t kind, uint64_t value)
{
    while (cut->note_count <= kind) {
        cut->notes = sim_resize(cut->notes, (cut->note_count + 1) * sizeof cut->notes[0]);
        cut->notes[cut->note_count++] = 0;
    }
    cut->notes[kind] = value;
}

static void on_copy(struct cut_file *file, const uint8_t *data, uint64_t length)
{
    file->copies[1] = file->copies[0];
    file->copy_bytes[1] = file->copy_bytes[0];
    file->copies[0] = data;
    file->copy_bytes[0] = length;
}

static void on_content(struct ph_sim_cut *cut, const struct sim_event *event)
{
    struct cut_file *file = &cut->files[event->file];
    if (event->kind == SIM_EVENT_COORDINATION)
        on_copy(file, event->data, event->length);
    if (file->coordination)
        return;
    switch (event->kind) {
    case SIM_EVENT_WRITE:
    case SIM_EVENT_ZERO:
        on_write(cut, file, event);
        break;
    case SIM_EVENT_SIZE:
        on_size(cut, file, event->offset);
        break;
    case SIM_EVENT_SYNC:
        settle_all(cut, file);
        break;
    case SIM_EVENT_SYNC_RANGE:
        on_sync_range(cut, file, event->offset, event->length);
        break;
    case SIM_EVENT_SYNC_FAILED:
        on_sync_failed(file);
        break;
    case SIM_EVENT_REVERTED:
        on_reverted(cut, file);
        break;
    default:
        break;
    }
}

bool ph_sim_cut_next(struct ph_sim_cut *cut)
{
    if (cut->position == cut->journal->count)
        return false;
    const struct sim_event *event = &cut->journal->events[cut->position++];
    cut->laid_out = false;
    switch (event->kind) {
    case SIM_EVENT_CREATE:
    case SIM_EVENT_UNLINK:
    case SIM_EVENT_RENAME:
        on_name(cut, event);
        break;
    case SIM_EVENT_SYNC_NAMES:
        on_sync_names(cut, event->name);
        break;
    case SIM_EVENT_NOTE:
        on_note(cut, event->file, event->offset);
        break;
    default:
        on_content(cut, event);
        break;
    }
    return true;
}

uint64_t ph_sim_cut_position(const struct ph_sim_cut *cut)
{
    return cut->position;
}

uint64_t ph_sim_cut_note(const struct ph_sim_cut *cut, uint32_t kind)
{
    return kind < cut->note_count ? cut->notes[kind] : 0;
}

bool ph_sim_cut_before_io(const struct ph_sim_cut *cut)
{
    if (cut->position == cut->journal->count)
        return true;
    enum sim_event_kind kind = cut->journal->events[cut->position].kind;
    return kind != SIM_EVENT_NOTE && kind != SIM_EVENT_COORDINATION;
}

struct ph_sim_cut *ph_sim_cut_new(struct ph_sim *source)
{
    struct ph_sim_cut *cut = calloc(1, sizeof *cut);
    SIM_REQUIRE(cut != NULL && source->journal.on);
    cut->journal = &source->journal;
    cut->file_count = source->file_count;
    cut->files = calloc(cut->file_count + 1, sizeof cut->files[0]);
    SIM_REQUIRE(cut->files != NULL);
    for (size_t i = 0; i < cut->file_count; i++)
        cut->files[i].coordination = source->files[i].coordination;
    for (size_t i = 0; i < cut->journal->initial_count; i++) {
        const struct sim_initial *initial = &cut->journal->initial[i];
        struct cut_file *file = &cut->files[initial->file];
        if (file->coordination) {
            on_copy(file, initial->data, initial->size);
            continue;
        }
        if (initial->size == 0)
            continue;
        need_bytes(file, initial->size);
        file->size = file->base_size = initial->size;
        memcpy(file->cache, initial->data, (size_t)initial->size);
        memcpy(file->base, initial->data, (size_t)initial->size);
        for (size_t page = 0; page < sim_pages(initial->size); page++)
            base_changed(file, page * SIM_PAGE_SECTORS);
    }
    sim_names_copy(&cut->names, &cut->journal->names);
    return cut;
}

static void free_versions(struct cut_version *version)
{
    while (version != NULL) {
        struct cut_version *next = version->next;
        free(version);
        version = next;
    }
}

void ph_sim_cut_free(struct ph_sim_cut *cut)
{
    if (cut == NULL)
        return;
    for (size_t i = 0; i < cut->file_count; i++) {
        struct cut_file *file = &cut->files[i];
        for (size_t j = 0; j < file->pending_count; j++)
            free_versions(file->pending[j].first);
        free(file->pending);
        free(file->sizes);
        free(file->cache);
        free(file->base);
        free(file->stamps);
        free(file->slots);
    }
    free_versions(cut->spare);
    sim_names_deinit(&cut->names);
    free(cut->files);
    free(cut->name_events);
    free(cut->notes);
    free(cut->radixes);
    free(cut);
}

void sim_file_revert(struct ph_sim *sim, uint32_t file)
{
    if (!sim->journal.on)
        return;
    sim_journal_range(sim, SIM_EVENT_REVERTED, file, 0, 0, NULL);
    struct ph_sim_cut *cut = ph_sim_cut_new(sim);
    while (ph_sim_cut_next(cut))
        continue;
    struct sim_file *reverted = &sim->files[file];
    uint64_t size = reverted->size;
    SIM_REQUIRE(cut->files[file].capacity >= size || size == 0);
    sim_file_write(reverted, cut->files[file].cache, (size_t)size, 0);
    ph_sim_cut_free(cut);
}
