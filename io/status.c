/* SPDX-License-Identifier: MIT */
/* Status names and texts, and the per-thread detail of the last failure. */
#include "io/status.h"

#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#define WHOLE_BYTES 10240 /* of a message before it is made fit: two paths and a text */

static _Thread_local char detail[PH_DETAIL_BYTES];

/* The second byte of a UTF-8 sequence, or a later one. */
static bool is_continuation(char byte)
{
    return ((unsigned char)byte & 0xc0) == 0x80;
}

/* Of a text that is too long both ends stay: it is so because of a path, and what is wrong stands behind that. */
static void keep(const char *text)
{
    static const char dots[] = "...";
    const size_t length = strlen(text);
    if (length < PH_DETAIL_BYTES) {
        memcpy(detail, text, length + 1);
        return;
    }
    size_t head = PH_DETAIL_BYTES / 2 - sizeof dots;
    size_t tail = length - PH_DETAIL_BYTES / 2;
    while (head > 0 && is_continuation(text[head]))
        head--;
    while (is_continuation(text[tail]))
        tail++;
    (void)snprintf(detail, sizeof detail, "%.*s%s%s", (int)head, text, dots, text + tail);
}

ph_status ph_vfail(ph_status status, const char *format, va_list arguments)
{
    char whole[WHOLE_BYTES];
    (void)vsnprintf(whole, sizeof whole, format, arguments);
    keep(whole);
    return status;
}

ph_status ph_fail(ph_status status, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    (void)ph_vfail(status, format, arguments);
    va_end(arguments);
    return status;
}

ph_status ph_fail_context(ph_status status, const char *format, ...)
{
    char whole[WHOLE_BYTES];
    va_list arguments;
    va_start(arguments, format);
    (void)vsnprintf(whole, sizeof whole - PH_DETAIL_BYTES - 2, format, arguments);
    va_end(arguments);
    const size_t length = strlen(whole);
    (void)snprintf(whole + length, sizeof whole - length, ": %s", detail);
    keep(whole);
    return status;
}

const char *ph_detail(void)
{
    return detail;
}

const char *ph_status_text(ph_status status)
{
    switch (status) {
#define CASE(name, number, text) \
    case PH_##name:              \
        return text;
        PH_STATUS_LIST(CASE)
#undef CASE
    }
    return "unknown status";
}

const char *ph_status_name(ph_status status)
{
    switch (status) {
#define CASE(name, number, text) \
    case PH_##name:              \
        return "PHEAP_" #name;
        PH_STATUS_LIST(CASE)
#undef CASE
    }
    return "PHEAP_?";
}
