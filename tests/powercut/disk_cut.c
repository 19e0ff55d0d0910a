/* SPDX-License-Identifier: MIT */
/*
 * The power cut: how much of each thing that was not durable has reached the disk.
 *
 * A thing is a sector, the size of a file, or a name; its versions since the last sync are counted from 1.  Each cut
 * has a style, from the seed, by which the number of the version that arrived is chosen for each thing: chance alone
 * would hardly ever lose exactly one sector, or exactly the older half.
 */
#include "tests/support/dice.h"
#include "tests/powercut/disk_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

/* What the dice are rolled for. */
#define KEY_STYLE UINT64_C(0)
#define KEY_AGE UINT64_C(1)
#define KEY_NAMES (UINT64_C(1) << 31)
#define KEY_FILES (UINT64_C(1) << 32)

enum style {
    STYLE_NOTHING,
    STYLE_EVERYTHING,
    STYLE_ALL_BUT_ONE,
    STYLE_ONE,
    STYLE_OLDER,
    STYLE_NEWER,
    STYLE_SPARSE,
    STYLE_DENSE,
    STYLE_EVEN,
    STYLES
};

static const char *const style_names[STYLES] = {"nothing", "everything", "all but one", "one only", "older",
                                                "newer",   "sparse",     "dense",       "even"};

struct cut {
    uint64_t seed;
    enum style style;
    uint64_t age;  /* what is older than this change is old */
    uint64_t one;  /* the least roll of all things: that one is what the styles about one are about */
    bool counting; /* only look at what there is */
    uint64_t things, changed;
};

/*
 * The version that arrives of the thing named by `key`, of `count`, the first `older` of which are old; 0: the durable
 * one.  It does not depend on what other things there are, so that a replay in which the kernel wrote back other pages
 * of a mapping chooses the same for the rest.
 */
static uint64_t arrived(struct cut *cut, uint64_t key, uint64_t count, uint64_t older)
{
    uint64_t roll = dice_of(cut->seed, key);
    if (cut->counting) {
        cut->things++;
        cut->one = roll < cut->one ? roll : cut->one;
        return 0;
    }
    uint64_t some = 1 + (roll >> 8) % count;
    uint64_t result = 0;
    switch (cut->style) {
    case STYLE_EVERYTHING:
        result = count;
        break;
    case STYLE_ALL_BUT_ONE:
        result = roll == cut->one ? some - 1 : count;
        break;
    case STYLE_ONE:
        result = roll == cut->one ? some : 0;
        break;
    case STYLE_OLDER:
        result = older;
        break;
    case STYLE_NEWER:
        result = older == count ? 0 : count;
        break;
    case STYLE_SPARSE:
        result = roll % 8 == 0 ? some : 0;
        break;
    case STYLE_DENSE:
        result = roll % 8 != 0 ? some : 0;
        break;
    case STYLE_EVEN:
        result = roll % 2 != 0 ? some : 0;
        break;
    default:
        break;
    }
    cut->changed += result != 0;
    return result;
}

/* What the changes of a file come to: how many versions each sector and the size have, and how many arrive. */
struct tally {
    uint32_t *count, *older; /* by sector */
    uint64_t sizes, sizes_older;
};

static void tally_init(struct tally *tally, const struct disk_file *file, uint64_t age)
{
    size_t sectors = (size_t)(file->capacity / DISK_SECTOR_BYTES);
    *tally = (struct tally){.count = disk_memory(NULL, sectors, sizeof tally->count[0]),
                            .older = disk_memory(NULL, sectors, sizeof tally->older[0])};
    memset(tally->count, 0, sectors * sizeof tally->count[0]);
    memset(tally->older, 0, sectors * sizeof tally->older[0]);
    for (size_t i = 0; i < file->change_count; i++) {
        const struct disk_change *change = &file->changes[i];
        if (change->bytes == NULL) {
            tally->sizes++;
            tally->sizes_older += change->position < age;
        } else {
            tally->count[change->where]++;
            tally->older[change->where] += change->position < age;
        }
    }
}

static void tally_deinit(struct tally *tally)
{
    free(tally->count);
    free(tally->older);
}

/* Bring the durable content to what arrived: `sizes` sizes, and of each sector the version `version[sector]`. */
static void apply_changes(struct disk_file *file, uint64_t sizes, uint32_t *version)
{
    uint64_t size = file->durable_size, seen = file->durable_size;
    uint64_t lost_from = UINT64_MAX; /* beyond it lies what was written after a smaller size that did not arrive */
    for (size_t i = 0; i < file->change_count; i++) {
        const struct disk_change *change = &file->changes[i];
        uint64_t from = change->where * DISK_SECTOR_BYTES;
        if (change->bytes != NULL) {
            bool arrives = version[change->where] > 0;
            version[change->where] -= arrives;
            if (arrives && from + DISK_SECTOR_BYTES <= lost_from)
                memcpy(file->durable + from, change->bytes, DISK_SECTOR_BYTES);
            continue;
        }
        if (sizes > 0) {
            sizes--;
            size = change->where;
            if (size < seen)
                memset(file->durable + size, 0, (size_t)(file->capacity - size));
        } else if (change->where < seen && change->where < lost_from) {
            lost_from = change->where;
        }
        seen = change->where;
    }
    if (file->capacity > size)
        memset(file->durable + size, 0, (size_t)(file->capacity - size));
    file->durable_size = file->size = size;
    if (file->capacity > 0)
        memcpy(file->cache, file->durable, (size_t)file->capacity);
    disk_file_forget(file);
}

static void cut_file(struct cut *cut, uint64_t inode, struct disk_file *file)
{
    struct tally tally;
    uint64_t key = KEY_FILES + (inode << 32);
    if (file->change_count == 0)
        return;
    tally_init(&tally, file, cut->age);
    uint64_t sizes = tally.sizes == 0 ? 0 : arrived(cut, key, tally.sizes, tally.sizes_older);
    for (size_t sector = 0; sector < file->capacity / DISK_SECTOR_BYTES; sector++)
        if (tally.count[sector] > 0)
            tally.count[sector] = (uint32_t)arrived(cut, key + 1 + sector, tally.count[sector], tally.older[sector]);
    if (!cut->counting)
        apply_changes(file, sizes, tally.count);
    tally_deinit(&tally);
}

static void cut_names(struct cut *cut, struct disk *disk)
{
    uint64_t older = 0;
    for (size_t i = 0; i < disk->event_count; i++)
        older += disk->events[i].position < cut->age;
    bool in_order = disk->options.names == DISK_NAMES_JOURNAL;
    uint64_t prefix = in_order && disk->event_count > 0 ? arrived(cut, KEY_NAMES, disk->event_count, older) : 0;
    for (size_t i = 0; i < disk->event_count; i++) {
        const struct disk_event *event = &disk->events[i];
        bool arrives = in_order ? i < prefix : arrived(cut, KEY_NAMES + i, 1, event->position < cut->age) > 0;
        if (arrives && !cut->counting)
            disk_event_apply(&disk->durable_names, event);
    }
}

static void walk(struct cut *cut, struct disk *disk)
{
    for (size_t i = 0; i < disk->file_count; i++)
        cut_file(cut, i, &disk->files[i]);
    cut_names(cut, disk);
}

/* Names whose directory has none are gone, and so are files without names. */
static void drop_unreachable(struct disk *disk)
{
    struct disk_list *names = &disk->durable_names;
    for (bool again = true; again;) {
        again = false;
        for (size_t i = 0; i < disk->file_count; i++)
            disk->files[i].links = i == DISK_ROOT;
        for (size_t i = 0; i < names->count; i++)
            disk->files[names->entries[i].inode].links++;
        for (size_t i = 0; i < names->count; i++) {
            if (disk->files[names->entries[i].directory].links > 0)
                continue;
            free(names->entries[i].name);
            names->entries[i--] = names->entries[--names->count];
            again = true;
        }
    }
    for (size_t i = 0; i < disk->file_count; i++)
        if (disk->files[i].used && disk->files[i].links == 0)
            disk_file_deinit(&disk->files[i]);
}

static uint64_t oldest_change(const struct disk *disk)
{
    uint64_t oldest = disk->position;
    for (size_t i = 0; i < disk->file_count; i++)
        if (disk->files[i].change_count > 0 && disk->files[i].changes[0].position < oldest)
            oldest = disk->files[i].changes[0].position;
    return disk->event_count > 0 && disk->events[0].position < oldest ? disk->events[0].position : oldest;
}

void disk_cut(struct disk *disk, uint64_t seed, char *text, size_t text_size)
{
    struct cut cut = {
        .seed = seed, .style = (enum style)(dice_of(seed, KEY_STYLE) % STYLES), .one = UINT64_MAX, .counting = true};
    uint64_t oldest = oldest_change(disk);
    cut.age = oldest + dice_of(seed, KEY_AGE) % (disk->position - oldest + 2);
    walk(&cut, disk);
    cut.counting = false;
    walk(&cut, disk);
    disk_names_forget(disk);
    drop_unreachable(disk);
    disk_list_copy(&disk->names, &disk->durable_names);
    (void)snprintf(text, text_size, "%s: %llu of %llu", style_names[cut.style], (unsigned long long)cut.changed,
                   (unsigned long long)cut.things);
}

static int dump_file(const struct disk_file *file, int directory, const char *name)
{
    int out = openat(directory, name, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
    if (out < 0)
        return -errno;
    uint64_t done = 0;
    while (done < file->size) {
        ssize_t put = write(out, file->cache + done, (size_t)(file->size - done));
        if (put < 0)
            break;
        done += (uint64_t)put;
    }
    int result = done < file->size ? -errno : 0;
    (void)close(out);
    return result;
}

int disk_dump(const struct disk *disk, const char *path)
{
    int directory = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    int result = directory < 0 ? -errno : 0;
    /* Only the root's files: no program of the campaigns makes directories. */
    for (size_t i = 0; result == 0 && i < disk->names.count; i++) {
        const struct disk_name *entry = &disk->names.entries[i];
        const struct disk_file *file = disk_file_of(disk, entry->inode);
        if (entry->directory == DISK_ROOT && S_ISREG(file->mode))
            result = dump_file(file, directory, entry->name);
    }
    if (directory >= 0)
        (void)close(directory);
    return result;
}
