/* SPDX-License-Identifier: MIT */
/*
 * pheap restore: make a heap of an archive, or only verify the archive.
 *
 * The archive is a file or standard input; what is no regular file is read like the latter.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tools/transfer.h"

struct stream {
    int file;
    int error;
};

static int64_t get_from_stream(void *context, void *bytes, size_t length)
{
    struct stream *stream = context;
    for (;;) {
        ssize_t got = read(stream->file, bytes, length);
        if (got >= 0)
            return got;
        if (errno != EINTR) {
            stream->error = errno;
            return -1;
        }
    }
}

/* The archive as a stream; file -1 if it is a regular file, or one that the library can tell more about. */
static struct stream open_stream(const struct request *request)
{
    struct stream stream = {.file = -1};
    struct stat info;
    if (request->archive_is_stream)
        stream.file = STDIN_FILENO;
    else if (stat(request->archive, &info) == 0 && (S_ISFIFO(info.st_mode) || S_ISCHR(info.st_mode)))
        stream.file = open(request->archive, O_RDONLY | O_CLOEXEC);
    return stream;
}

enum exit_code cmd_restore(const struct request *request, struct output *output)
{
    const char *path = request->verify ? NULL : request->path;
    struct pheap_restore_options options = {.size = sizeof options, .flags = request->backup.flags};
    struct pheap_transfer result = {.size = sizeof result};
    struct transfer transfer;
    struct stream stream = open_stream(request);
    output_json_string(output, "archive", request->archive);
    transfer_begin(&transfer, request->verify ? "verifying" : "restore", request);
    options.progress = transfer_watch;
    options.context = &transfer;
    enum pheap_status status = stream.file >= 0 ? pheap_restore_from(get_from_stream, &stream, path, &options, &result)
                                                : pheap_restore(request->archive, path, &options, &result);
    double seconds = transfer_end(&transfer);
    if (stream.file > STDERR_FILENO)
        (void)close(stream.file);
    if (status == PHEAP_IO && stream.error != 0) {
        char text[160];
        snprintf(text, sizeof text, "cannot read the archive: %s", strerror(stream.error));
        return output_failure_text(output, status, text);
    }
    if (status != PHEAP_OK)
        return output_failure(output, status);
    transfer_write(output, &result, seconds);
    return EXIT_DONE;
}
