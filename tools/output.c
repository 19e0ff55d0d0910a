/* SPDX-License-Identifier: MIT */
/*
 * The answers of the pheap tool, as text or JSON; see output.h.
 */
#define _GNU_SOURCE
#include "tools/output.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdarg.h>
#include <string.h>
#include <time.h>

#include "tools/progress.h"

/* ------------------------------------------------------------------------------------------------------- UTF-8 */

/*
 * The length of the UTF-8 sequence (RFC 3629) at `text`, of which there are `left` bytes; 0 if there is no valid one.
 */
static size_t utf8_length(const unsigned char *text, size_t left)
{
    unsigned char first = text[0];
    if (first < 0x80)
        return 1;
    size_t length = first >= 0xf0 ? 4 : first >= 0xe0 ? 3 : 2;
    if (first < 0xc2 || first > 0xf4 || length > left)
        return 0;
    /* The second byte is limited further where the sequence would be too long, a surrogate, or above U+10FFFF. */
    unsigned char low = first == 0xe0 ? 0xa0 : first == 0xf0 ? 0x90 : 0x80;
    unsigned char high = first == 0xed ? 0x9f : first == 0xf4 ? 0x8f : 0xbf;
    if (text[1] < low || text[1] > high)
        return 0;
    for (size_t i = 2; i < length; i++)
        if (text[i] < 0x80 || text[i] > 0xbf)
            return 0;
    return length;
}

/* U+0000 to U+001F, U+007F and U+0080 to U+009F. */
static bool is_control(const unsigned char *text)
{
    return text[0] < 0x20 || text[0] == 0x7f || (text[0] == 0xc2 && text[1] < 0xa0);
}

static void write_visible(FILE *stream, const unsigned char *at, size_t left)
{
    while (left > 0) {
        size_t length = utf8_length(at, left);
        if (length == 0 || is_control(at)) {
            fprintf(stream, "\\x%02x", *at);
            length = 1;
        } else {
            fwrite(at, 1, length, stream);
        }
        at += length;
        left -= length;
    }
}

void output_visible_to(FILE *stream, const char *text)
{
    write_visible(stream, (const unsigned char *)text, strlen(text));
}

/* -------------------------------------------------------------------------------------------------------- text */

void output_visible(struct output *output, const char *text)
{
    if (!output->request->json)
        output_visible_to(output->stream, text);
}

void output_visible_bytes(struct output *output, const void *bytes, uint64_t length)
{
    if (!output->request->json)
        write_visible(output->stream, bytes, (size_t)length);
}

void output_text(struct output *output, const char *format, ...)
{
    if (output->request->json)
        return;
    va_list arguments;
    va_start(arguments, format);
    vfprintf(output->stream, format, arguments);
    va_end(arguments);
}

void output_field(struct output *output, const char *label, const char *format, ...)
{
    if (output->request->json)
        return;
    fprintf(output->stream, "%-18s ", label);
    va_list arguments;
    va_start(arguments, format);
    vfprintf(output->stream, format, arguments);
    va_end(arguments);
    fputc('\n', output->stream);
}

void output_field_size(struct output *output, const char *label, uint64_t size_bytes)
{
    static const char *const units[] = {"KiB", "MiB", "GiB", "TiB", "PiB", "EiB"};
    if (size_bytes < 1024) {
        output_field(output, label, "%" PRIu64 " bytes", size_bytes);
        return;
    }
    double scaled = (double)size_bytes / 1024.0;
    size_t unit = 0;
    while (scaled >= 1024.0 && unit + 1 < sizeof units / sizeof units[0]) {
        scaled /= 1024.0;
        unit++;
    }
    output_field(output, label, "%" PRIu64 " bytes (%.1f %s)", size_bytes, scaled, units[unit]);
}

/* -------------------------------------------------------------------------------------------------------- JSON */

static void json_quote(FILE *stream, const void *text, size_t left)
{
    const unsigned char *at = text;
    fputc('"', stream);
    while (left > 0) {
        size_t length = utf8_length(at, left);
        if (length == 0) {
            fprintf(stream, "\\udc%02x", *at);
            length = 1;
        } else if (*at == '"' || *at == '\\') {
            fprintf(stream, "\\%c", *at);
        } else if (*at < 0x20 || *at == 0x7f) {
            fprintf(stream, "\\u%04x", *at);
        } else {
            fwrite(at, 1, length, stream);
        }
        at += length;
        left -= length;
    }
    fputc('"', stream);
}

/* Start a member: comma, line break, indentation and key, as they are needed. */
static void json_member(struct output *output, const char *key)
{
    if (output->depth > 0) {
        if (output->member_counts[output->depth - 1]++ > 0)
            fputc(',', output->stream);
        fprintf(output->stream, "\n%*s", (int)(2 * output->depth), "");
    }
    if (key != NULL) {
        json_quote(output->stream, key, strlen(key));
        fputs(": ", output->stream);
    }
}

void output_json_begin(struct output *output, const char *key, char bracket)
{
    if (!output->request->json)
        return;
    assert(output->depth < OUTPUT_DEPTH_MAX);
    json_member(output, key);
    fputc(bracket, output->stream);
    output->member_counts[output->depth++] = 0;
}

void output_json_end(struct output *output, char bracket)
{
    if (!output->request->json)
        return;
    assert(output->depth > 0);
    output->depth--;
    if (output->member_counts[output->depth] > 0)
        fprintf(output->stream, "\n%*s", (int)(2 * output->depth), "");
    fputc(bracket, output->stream);
}

void output_json_bytes(struct output *output, const char *key, const void *bytes, uint64_t length)
{
    if (!output->request->json)
        return;
    json_member(output, key);
    json_quote(output->stream, bytes, (size_t)length);
}

void output_json_string(struct output *output, const char *key, const char *value)
{
    output_json_bytes(output, key, value, strlen(value));
}

void output_json_u64(struct output *output, const char *key, uint64_t value)
{
    if (!output->request->json)
        return;
    json_member(output, key);
    fprintf(output->stream, "%" PRIu64, value);
}

void output_json_i64(struct output *output, const char *key, int64_t value)
{
    if (!output->request->json)
        return;
    json_member(output, key);
    fprintf(output->stream, "%" PRId64, value);
}

void output_json_bool(struct output *output, const char *key, bool value)
{
    if (!output->request->json)
        return;
    json_member(output, key);
    fputs(value ? "true" : "false", output->stream);
}

void output_json_null(struct output *output, const char *key)
{
    if (!output->request->json)
        return;
    json_member(output, key);
    fputs("null", output->stream);
}

void output_json_fraction(struct output *output, const char *key, double value)
{
    if (!output->request->json)
        return;
    json_member(output, key);
    fprintf(output->stream, "%.4f", value);
}

void output_json_double(struct output *output, const char *key, double value)
{
    if (!isfinite(value)) {
        output_json_string(output, key, isnan(value) ? "nan" : value < 0 ? "-inf" : "inf");
        return;
    }
    if (!output->request->json)
        return;
    json_member(output, key);
    fprintf(output->stream, "%.17g", value);
}

/* ------------------------------------------------------------------------------------- the answer as a whole */

void output_begin(struct output *output, const struct request *request)
{
    *output = (struct output){.stream = request->answer_on_error ? stderr : stdout, .request = request};
    output_json_begin(output, NULL, '{');
    output_json_string(output, "command", request->command);
    output_json_string(output, "path", request->path);
}

enum exit_code output_end(struct output *output, enum exit_code code)
{
    output_json_end(output, '}');
    if (output->request->json)
        fputc('\n', output->stream);
    if (fflush(output->stream) != 0 || ferror(output->stream)) {
        fprintf(stderr, "pheap %s: cannot write the output: %s\n", output->request->command, strerror(errno));
        return EXIT_TROUBLE;
    }
    return code;
}

enum exit_code output_failure_text(struct output *output, enum pheap_status status, const char *text)
{
    fflush(output->stream);
    fprintf(stderr, "pheap %s: ", output->request->command);
    output_visible_to(stderr, text);
    if (status != PHEAP_OK)
        fprintf(stderr, " [%s]", pheap_status_name(status));
    fputc('\n', stderr);
    output_json_begin(output, "error", '{');
    if (status != PHEAP_OK) {
        output_json_i64(output, "code", (int64_t)status);
        output_json_string(output, "status", pheap_status_name(status));
        output_json_string(output, "text", pheap_status_text(status));
    }
    output_json_string(output, "detail", text);
    output_json_end(output, '}');
    return status == PHEAP_CORRUPT ? EXIT_DAMAGED : EXIT_TROUBLE;
}

enum exit_code output_failure(struct output *output, enum pheap_status status)
{
    const char *detail = pheap_error_detail();
    return output_failure_text(output, status, detail[0] != '\0' ? detail : pheap_status_text(status));
}

void output_fault(struct output *output, uint64_t offset, const char *text)
{
    output_visible(output, output->request->path);
    output_text(output, ": offset %" PRIu64 " (0x%" PRIx64 "): ", offset, offset);
    output_visible(output, text);
    output_text(output, "\n");
    output_json_begin(output, NULL, '{');
    output_json_u64(output, "offset", offset);
    output_json_string(output, "text", text);
    output_json_end(output, '}');
}

void output_format_time(uint64_t time_ns, char text[static 32])
{
    time_t seconds = (time_t)(time_ns / 1000000000U);
    struct tm broken_down;
    if (gmtime_r(&seconds, &broken_down) == NULL || strftime(text, 32, "%Y-%m-%dT%H:%M:%SZ", &broken_down) == 0)
        snprintf(text, 32, "%" PRIu64 " ns", time_ns);
}

void output_format_identity(const unsigned char identity[16], char text[static 33])
{
    for (size_t i = 0; i < 16; i++)
        snprintf(text + 2 * i, 3, "%02x", identity[i]);
}

static enum pheap_status open_to_look(const struct request *request, pheap **heap)
{
    struct progress *progress = progress_begin("opening", request->progress);
    unsigned flags = request->fill && !request->read_only ? 0 : PHEAP_READONLY;
    enum pheap_status status = pheap_open(request->path, flags, NULL, heap);
    if (status == PHEAP_READ_ONLY && !request->read_only)
        status = pheap_open(request->path, 0, NULL, heap);
    progress_end(progress);
    return status;
}

enum exit_code output_look(struct output *output, enum exit_code (*look)(struct output *output, pheap *heap))
{
    pheap *heap = NULL;
    enum pheap_status status = open_to_look(output->request, &heap);
    if (status != PHEAP_OK)
        return output_failure(output, status);
    enum exit_code code = look(output, heap);
    status = pheap_close(heap);
    return status != PHEAP_OK && code == EXIT_DONE ? output_failure(output, status) : code;
}

enum exit_code output_change(struct output *output, enum exit_code (*work)(struct output *output, pheap *heap))
{
    struct progress *progress = progress_begin("opening", output->request->progress);
    pheap *heap = NULL;
    enum pheap_status status = pheap_open(output->request->path, 0, NULL, &heap);
    progress_end(progress);
    if (status != PHEAP_OK)
        return output_failure(output, status);
    enum exit_code code = work(output, heap);
    progress = progress_begin("closing", output->request->progress);
    status = pheap_close(heap);
    progress_end(progress);
    return status != PHEAP_OK && code == EXIT_DONE ? output_failure(output, status) : code;
}
