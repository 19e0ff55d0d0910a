/* SPDX-License-Identifier: MIT */
/* The public face of statuses: that both lists agree, and the functions that explain them. */
#include "io/status.h"
#include "pheap/pheap.h"

#define AGREE(name, number, text) \
    _Static_assert((int)PH_##name == (int)PHEAP_##name && (int)PHEAP_##name == (number), "status " #name);
PH_STATUS_LIST(AGREE)
#undef AGREE

#define STRING_OF(x) #x
#define STRING(x) STRING_OF(x)

const char *pheap_status_text(enum pheap_status status)
{
    return ph_status_text((ph_status)status);
}

const char *pheap_status_name(enum pheap_status status)
{
    return ph_status_name((ph_status)status);
}

const char *pheap_error_detail(void)
{
    return ph_detail();
}

enum pheap_status pheap_fail_with(enum pheap_status status, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    (void)ph_vfail((ph_status)status, format, arguments);
    va_end(arguments);
    return status;
}

const char *pheap_version_string(void)
{
    return STRING(PHEAP_VERSION_MAJOR) "." STRING(PHEAP_VERSION_MINOR) "." STRING(PHEAP_VERSION_PATCH);
}
