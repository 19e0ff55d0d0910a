/* SPDX-License-Identifier: MIT */
/*
 * Choices and images: all the disks that a power cut may leave at one position of a cut.
 *
 * The digits of a choice, in order: for each file its size, if sizes are pending, then its pending sectors; then the
 * pending names.  A choice is turned into an image by bringing the memfds of the image to it, writing only the pages
 * whose stamp differs or in which a pending sector is chosen.
 */
#include "tests/support/simfs_cut.h"

static void add_digit(struct ph_sim_cut *cut, size_t radix)
{
    if (cut->digit_count == cut->digit_capacity) {
        cut->digit_capacity = cut->digit_capacity * 2 + 256;
        cut->radixes = sim_resize(cut->radixes, cut->digit_capacity * sizeof cut->radixes[0]);
    }
    cut->radixes[cut->digit_count++] = (uint16_t)radix;
}

static void lay_out(struct ph_sim_cut *cut)
{
    if (cut->laid_out)
        return;
    cut->digit_count = 0;
    for (size_t i = 0; i < cut->file_count; i++) {
        struct cut_file *file = &cut->files[i];
        file->first_digit = cut->digit_count;
        if (file->size_count > 0)
            add_digit(cut, file->size_count + 1);
        for (size_t j = 0; j < file->pending_count; j++)
            add_digit(cut, file->pending[j].count + (size_t)1);
    }
    cut->first_name_digit = cut->digit_count;
    for (size_t i = 0; i < cut->name_count; i++)
        add_digit(cut, 2);
    cut->laid_out = true;
}

uint32_t ph_sim_cut_digits(struct ph_sim_cut *cut)
{
    lay_out(cut);
    return cut->digit_count;
}

uint64_t ph_sim_cut_states(struct ph_sim_cut *cut)
{
    lay_out(cut);
    uint64_t states = 1;
    for (uint32_t i = 0; i < cut->digit_count; i++)
        if (__builtin_mul_overflow(states, cut->radixes[i], &states))
            return UINT64_MAX;
    return states;
}

static void resize_choice(const struct ph_sim_cut *cut, struct ph_sim_choice *choice)
{
    if (choice->capacity < cut->digit_count) {
        choice->capacity = cut->digit_count + 64;
        choice->digits = sim_resize(choice->digits, choice->capacity * sizeof choice->digits[0]);
    }
    choice->count = cut->digit_count;
}

void ph_sim_choice_deinit(struct ph_sim_choice *choice)
{
    free(choice->digits);
    *choice = (struct ph_sim_choice){0};
}

void ph_sim_cut_choose(struct ph_sim_cut *cut, uint64_t index, struct ph_sim_choice *choice)
{
    lay_out(cut);
    resize_choice(cut, choice);
    for (uint32_t i = 0; i < cut->digit_count; i++) {
        choice->digits[i] = (uint16_t)(index % cut->radixes[i]);
        index /= cut->radixes[i];
    }
}

/* Samples. */

/* How many of the versions behind digit `digit` are not newer than `position`. */
static uint16_t not_newer(const struct cut_file *file, uint32_t digit, uint64_t position)
{
    uint16_t count = 0;
    if (file->size_count > 0 && digit-- == 0) {
        while (count < file->size_count && file->sizes[count].position <= position)
            count++;
        return count;
    }
    for (const struct cut_version *v = file->pending[digit].first; v != NULL && v->position <= position; v = v->next)
        count++;
    return count;
}

static void fill_by_age(const struct ph_sim_cut *cut, uint64_t position, bool older, struct ph_sim_choice *choice)
{
    for (size_t i = 0; i < cut->file_count; i++) {
        const struct cut_file *file = &cut->files[i];
        uint32_t end = i + 1 < cut->file_count ? cut->files[i + 1].first_digit : cut->first_name_digit;
        for (uint32_t digit = file->first_digit; digit < end; digit++)
            choice->digits[digit] = not_newer(file, digit - file->first_digit, position);
    }
    for (size_t i = 0; i < cut->name_count; i++)
        choice->digits[cut->first_name_digit + i] = cut->name_events[i].position <= position;
    for (uint32_t i = 0; !older && i < cut->digit_count; i++) {
        uint16_t newest = (uint16_t)(cut->radixes[i] - 1);
        choice->digits[i] = (uint16_t)(choice->digits[i] == newest ? 0 : newest);
    }
}

static uint64_t oldest_pending(const struct ph_sim_cut *cut)
{
    uint64_t oldest = cut->position;
    for (size_t i = 0; i < cut->file_count; i++) {
        const struct cut_file *file = &cut->files[i];
        if (file->size_count > 0 && file->sizes[0].position < oldest)
            oldest = file->sizes[0].position;
        for (size_t j = 0; j < file->pending_count; j++)
            if (file->pending[j].first->position < oldest)
                oldest = file->pending[j].first->position;
    }
    if (cut->name_count > 0 && cut->name_events[0].position < oldest)
        oldest = cut->name_events[0].position;
    return oldest;
}

static void fill_dense(const struct ph_sim_cut *cut, uint64_t *dice, uint64_t of_16, struct ph_sim_choice *choice)
{
    for (uint32_t i = 0; i < cut->digit_count; i++) {
        uint64_t roll = dice_roll(dice);
        bool changed = roll % 16 < of_16;
        choice->digits[i] = (uint16_t)(changed ? 1 + (roll >> 8) % (cut->radixes[i] - 1U) : 0);
    }
}

static void fill_all(const struct ph_sim_cut *cut, bool newest, struct ph_sim_choice *choice)
{
    for (uint32_t i = 0; i < cut->digit_count; i++)
        choice->digits[i] = (uint16_t)(newest ? cut->radixes[i] - 1 : 0);
}

void ph_sim_cut_sample(struct ph_sim_cut *cut, uint64_t index, uint64_t seed, struct ph_sim_choice *choice)
{
    lay_out(cut);
    resize_choice(cut, choice);
    uint64_t dice = dice_mix(seed ^ dice_mix(index + cut->position * 1000003));
    if (index < 2 || cut->digit_count == 0) {
        fill_all(cut, index == 1, choice);
        return;
    }
    uint32_t one = (uint32_t)(dice_roll(&dice) % cut->digit_count);
    uint64_t oldest = oldest_pending(cut);
    uint64_t age = oldest + dice_roll(&dice) % (cut->position - oldest + 1);
    switch (index % 7) {
    case 0:
        fill_all(cut, true, choice);
        choice->digits[one] = 0;
        break;
    case 1:
        fill_all(cut, false, choice);
        choice->digits[one] = (uint16_t)(cut->radixes[one] - 1);
        break;
    case 2:
        fill_by_age(cut, age, true, choice);
        break;
    case 3:
        fill_by_age(cut, age, false, choice);
        break;
    case 4:
        fill_dense(cut, &dice, 2, choice);
        break;
    case 5:
        fill_dense(cut, &dice, 14, choice);
        break;
    default:
        fill_dense(cut, &dice, 8, choice);
        break;
    }
}

/* Images. */

/* What size the choice gives the file; *position: of the event that made it, 0 if it is the durable one. */
static uint64_t chosen_size(const struct cut_file *file, const struct ph_sim_choice *choice, uint64_t *position)
{
    uint16_t digit = file->size_count == 0 ? 0 : choice->digits[file->first_digit];
    *position = digit == 0 ? 0 : file->sizes[digit - 1].position;
    return digit == 0 ? file->base_size : file->sizes[digit - 1].size;
}

/* The content of a pending sector; NULL: the durable one.  Zeros of a smaller size bind it to that size. */
static const uint8_t *chosen_bytes(const struct cut_sector *sector, uint16_t digit, uint64_t size_position)
{
    uint16_t index = 0;
    const uint8_t *bytes = NULL;
    for (const struct cut_version *v = sector->first; v != NULL; v = v->next) {
        index++;
        if (v->shrink && v->position > size_position)
            break;
        if (index <= digit || v->shrink)
            bytes = v->bytes;
    }
    return bytes;
}

/* Put the pending sectors of a page into `bytes`; false if none is chosen. */
static bool choose_page(const struct cut_file *file, const struct ph_sim_choice *choice, size_t page,
                        uint64_t size_position, uint8_t *bytes)
{
    bool changed = false;
    uint32_t first = file->first_digit + (file->size_count > 0);
    for (size_t i = 0; i < SIM_PAGE_SECTORS; i++) {
        uint32_t slot = file->slots[page * SIM_PAGE_SECTORS + i];
        if (slot == 0)
            continue;
        const uint8_t *chosen = chosen_bytes(&file->pending[slot - 1], choice->digits[first + slot - 1], size_position);
        if (chosen == NULL)
            continue;
        if (!changed)
            memcpy(bytes, file->base + page * SIM_PAGE_BYTES, SIM_PAGE_BYTES);
        memcpy(bytes + i * PH_SIM_SECTOR_BYTES, chosen, PH_SIM_SECTOR_BYTES);
        changed = true;
    }
    return changed;
}

static void build_file(const struct cut_file *file, const struct ph_sim_choice *choice, struct sim_file *into)
{
    uint64_t size_position;
    uint64_t size = chosen_size(file, choice, &size_position);
    uint8_t bytes[SIM_PAGE_BYTES];
    sim_file_set_size(into, size);
    for (size_t page = 0; page < sim_pages(size); page++) {
        uint64_t offset = page * SIM_PAGE_BYTES;
        size_t length = size - offset < SIM_PAGE_BYTES ? (size_t)(size - offset) : SIM_PAGE_BYTES;
        if (choose_page(file, choice, page, size_position, bytes)) {
            sim_file_write(into, bytes, length, offset);
        } else if (into->stamps[page] != file->stamps[page]) {
            sim_file_write(into, file->base + offset, length, offset);
            if (length == SIM_PAGE_BYTES)
                into->stamps[page] = file->stamps[page];
        }
    }
}

/* Pages of what the coordination file held lately, or before, or zeros; cut off somewhere. */
static void build_coordination(const struct cut_file *file, uint64_t dice, struct sim_file *into)
{
    bool whole = dice_roll(&dice) % 2 == 0;
    uint64_t size = file->copy_bytes[0];
    if (!whole && size > 0 && dice_roll(&dice) % 4 == 0)
        size = dice_roll(&dice) % size;
    sim_file_set_size(into, 0);
    sim_file_set_size(into, size);
    for (uint64_t offset = 0; offset < size; offset += SIM_PAGE_BYTES) {
        uint64_t from = whole ? 0 : dice_roll(&dice) % 4;
        size_t which = from == 1 ? 1 : 0;
        uint64_t end = file->copy_bytes[which] < size ? file->copy_bytes[which] : size;
        if (from == 2 || file->copies[which] == NULL || offset >= end)
            continue;
        size_t length = end - offset < SIM_PAGE_BYTES ? (size_t)(end - offset) : SIM_PAGE_BYTES;
        sim_file_write(into, file->copies[which] + offset, length, offset);
    }
}

static void reset_machine(struct ph_sim *image, uint64_t seed)
{
    sim_journal_deinit(&image->journal);
    for (size_t i = 0; i < image->handle_count; i++)
        free(image->handles[i].path);
    image->handle_count = 0;
    image->live_handles = 0;
    image->lock_count = 0;
    sim_names_deinit(&image->names);
    for (size_t i = 0; i < image->file_count; i++) {
        image->files[i].used = false;
        image->files[i].links = 0;
    }
    image->power_off = image->shut_down = false;
    image->fault_countdown = 0;
    image->dice = seed;
    image->boot = dice_mix(image->boot + seed);
}

static void choose_names(const struct ph_sim_cut *cut, const struct ph_sim_choice *choice, struct sim_names *names)
{
    sim_names_copy(names, &cut->names);
    for (size_t i = 0; i < cut->name_count; i++) {
        if (choice->digits[cut->first_name_digit + i] == 0)
            continue;
        const struct sim_event *event = cut->name_events[i].event;
        if (event->kind != SIM_EVENT_CREATE)
            (void)sim_names_remove(names, event->name);
        if (event->kind != SIM_EVENT_UNLINK)
            sim_names_add(names, event->kind == SIM_EVENT_CREATE ? event->name : event->name2, event->file);
    }
}

void ph_sim_cut_image(struct ph_sim_cut *cut, const struct ph_sim_choice *choice, uint64_t seed, struct ph_sim *image)
{
    lay_out(cut);
    SIM_REQUIRE(choice->count == cut->digit_count);
    uint64_t dice = dice_mix(seed ^ dice_mix(cut->position));
    reset_machine(image, dice_roll(&dice));
    choose_names(cut, choice, &image->names);
    for (size_t i = image->names.count; i-- > 0;) {
        uint32_t number = image->names.list[i].file;
        const struct cut_file *file = &cut->files[number];
        uint64_t roll = dice_roll(&dice);
        if (file->coordination && roll % 2 == 0) {
            (void)sim_names_remove(&image->names, image->names.list[i].path);
            continue;
        }
        bool again = number < image->file_count && image->files[number].used; /* a second name */
        if (!again)
            sim_file_open_slot(image, number);
        image->files[number].links++;
        if (!again && file->coordination)
            build_coordination(file, roll, &image->files[number]);
        else if (!again)
            build_file(file, choice, &image->files[number]);
    }
}

void ph_sim_cut_describe(struct ph_sim_cut *cut, const struct ph_sim_choice *choice, char *text, size_t size)
{
    lay_out(cut);
    FILE *out = fmemopen(text, size, "w");
    SIM_REQUIRE(out != NULL);
    fprintf(out, "event %llu of %zu", (unsigned long long)cut->position, cut->journal->count);
    for (size_t i = 0; i < cut->file_count; i++) {
        const struct cut_file *file = &cut->files[i];
        uint32_t digit = file->first_digit;
        if (file->size_count > 0) {
            uint64_t position;
            fprintf(out, "; file %zu: size %llu (version %u of %zu)", i,
                    (unsigned long long)chosen_size(file, choice, &position), choice->digits[digit], file->size_count);
            digit++;
        }
        for (size_t j = 0; j < file->pending_count; j++)
            fprintf(out, "%s%u:%u/%u", j == 0 ? "; sectors " : " ", file->pending[j].sector, choice->digits[digit + j],
                    file->pending[j].count);
    }
    for (size_t i = 0; i < cut->name_count; i++)
        fprintf(out, "; name event %s: %u", cut->name_events[i].event->name, choice->digits[cut->first_name_digit + i]);
    (void)fclose(out);
}
