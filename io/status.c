/* SPDX-License-Identifier: MIT */
/* Status names and texts, and the per-thread detail of the last failure. */
#include "io/status.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

static _Thread_local char detail[PH_DETAIL_BYTES];

ph_status ph_fail(ph_status status, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    (void)vsnprintf(detail, sizeof detail, format, arguments);
    va_end(arguments);
    return status;
}

ph_status ph_fail_context(ph_status status, const char *format, ...)
{
    char before[PH_DETAIL_BYTES];
    char joined[2 * PH_DETAIL_BYTES + 2];
    va_list arguments;
    va_start(arguments, format);
    (void)vsnprintf(before, sizeof before, format, arguments);
    va_end(arguments);
    (void)snprintf(joined, sizeof joined, "%s: %s", before, detail);
    memcpy(detail, joined, sizeof detail - 1);
    detail[sizeof detail - 1] = '\0';
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
