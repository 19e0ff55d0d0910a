/* SPDX-License-Identifier: MIT */
/*
 * pheap backup: write a consistent archive of a heap while others use it.
 *
 * To a file, which appears whole or not at all, or to standard output; the answer then goes to standard error.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "tools/transfer.h"

static int put_to_standard_output(void *context, const void *bytes, size_t length)
{
    int *error = context;
    for (size_t done = 0; done < length;) {
        ssize_t part = write(STDOUT_FILENO, (const char *)bytes + done, length - done);
        if (part < 0 && errno != EINTR) {
            *error = errno;
            return -1;
        }
        done += part > 0 ? (size_t)part : 0;
    }
    return 0;
}

static enum exit_code back_up(struct output *output, pheap *heap)
{
    const struct request *request = output->request;
    struct pheap_backup_options options = request->backup;
    struct pheap_transfer result = {.size = sizeof result};
    struct transfer transfer;
    int error = 0;
    transfer_begin(&transfer, "backup", request);
    options.progress = transfer_watch;
    options.context = &transfer;
    enum pheap_status status = request->archive_is_stream
                                   ? pheap_backup_to(heap, put_to_standard_output, &error, &options, &result)
                                   : pheap_backup(heap, request->archive, &options, &result);
    double seconds = transfer_end(&transfer);
    if (status == PHEAP_IO && error != 0) {
        char text[160];
        snprintf(text, sizeof text, "cannot write the archive to standard output: %s", strerror(error));
        return output_failure_text(output, status, text);
    }
    if (status != PHEAP_OK)
        return output_failure(output, status);
    transfer_write(output, &result, seconds);
    return EXIT_DONE;
}

enum exit_code cmd_backup(const struct request *request, struct output *output)
{
    if (request->archive_is_stream && isatty(STDOUT_FILENO) == 1)
        return output_failure_text(output, PHEAP_OK, "standard output is a terminal; an archive is not for reading");
    output_json_string(output, "archive", request->archive);
    return output_look(output, back_up);
}
