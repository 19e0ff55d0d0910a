/* SPDX-License-Identifier: MIT */
/*
 * pheap create: make a new, empty heap.
 */
#include "tools/output.h"

enum exit_code cmd_create(const struct request *request, struct output *output)
{
    pheap *heap = NULL;
    enum pheap_status status = pheap_open(request->path, PHEAP_CREATE | PHEAP_EXCLUSIVE, &request->options, &heap);
    if (status != PHEAP_OK)
        return output_failure(output, status);
    struct pheap_info info = {.size = sizeof info};
    status = pheap_get_info(heap, &info);
    if (status == PHEAP_OK) {
        status = pheap_close(heap);
    } else {
        /* The first error is the one to report; whatever close says follows from it. */
        enum exit_code code = output_failure(output, status);
        (void)!pheap_close(heap);
        return code;
    }
    if (status != PHEAP_OK)
        return output_failure(output, status);

    char identity[33];
    output_format_identity(info.identity, identity);
    output_text(output, "created ");
    output_visible(output, request->path);
    output_text(output, ", identity %s\n", identity);
    output_json_string(output, "identity", identity);
    output_json_u64(output, "heap_bytes", info.heap_bytes);
    output_json_u64(output, "log_limit_bytes", info.log_limit_bytes);
    return EXIT_DONE;
}
