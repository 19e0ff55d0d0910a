/* SPDX-License-Identifier: MIT */
/*
 * Imports XML of any content into a heap by the example elementtree, with expat, and exports it again.
 *
 *   F1  what is not well-formed changes nothing; the message is text and names the file
 *   F2  what is imported can be exported; that is imported again, and exported again it is the same, byte for byte
 *   F3  the heap is sound
 *   F4  no file is left open; it takes less than a second of the processor's time
 *
 * Input: the XML.
 */
#include "examples/elementtree/commands.h"
#include "examples/elementtree/import.h"
#include "fuzz/place.h"
#include "fuzz/reseal.h"
#include "pheap/pheap.h"

#include <string.h>

#define INPUT_MAX 65536u

static void make_heap(const char *name)
{
    const struct pheap_options options = {
        .size = sizeof options, .log_limit_bytes = 8 * 16384, .segment_bytes = 16384, .buffer_bytes = 16384};
    pheap *heap = NULL;
    FUZZ_REQUIRE(pheap_open(fuzz_place_path(name), PHEAP_CREATE, &options, &heap) == PHEAP_OK);
    FUZZ_REQUIRE(pheap_close(heap) == PHEAP_OK);
}

static void check(const char *name)
{
    pheap *heap = NULL;
    pheap_read *reader = NULL;
    FUZZ_REQUIRE(pheap_open(fuzz_place_path(name), 0, NULL, &heap) == PHEAP_OK);
    FUZZ_REQUIRE(pheap_read_begin(heap, 0, &reader) == PHEAP_OK);
    FUZZ_REQUIRE(pheap_check(reader, NULL, NULL, NULL) == PHEAP_OK); /* F3 */
    FUZZ_REQUIRE(pheap_read_end(reader) == PHEAP_OK);
    FUZZ_REQUIRE(pheap_close(heap) == PHEAP_OK);
}

/* Import, check and export; false if it is refused. */
static bool pass(const char *xml, const char *heap, const char *exported)
{
    struct fuzz_said said;
    struct import_result result;
    const struct import_request request = {.xml = fuzz_place_path(xml), .heap = fuzz_place_path(heap)};
    make_heap(heap);
    uint64_t before = fuzz_place_checksum(heap);
    fuzz_place_listen();
    int imported = import_run(&request, &result);
    fuzz_place_hear(&said);
    FUZZ_REQUIRE((imported == 0) == (said.err_length == 0));
    if (imported != 0) {
        FUZZ_REQUIRE(strstr(said.err, request.xml) != NULL && said.err[said.err_length - 1] == '\n');
        FUZZ_REQUIRE(fuzz_place_checksum(heap) == before); /* F1 */
    }
    fuzz_said_deinit(&said);
    if (imported != 0)
        return false;
    check(heap);
    FUZZ_REQUIRE(export_run(fuzz_place_path(heap), fuzz_place_path(exported)) == 0);
    return true;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size > INPUT_MAX)
        return -1;
    fuzz_time_begin();
    fuzz_place_begin();
    fuzz_place_write("in.xml", data, size);
    if (pass("in.xml", "one", "one.xml")) {
        FUZZ_REQUIRE(pass("one.xml", "two", "two.xml"));
        FUZZ_REQUIRE(fuzz_place_checksum("one.xml") == fuzz_place_checksum("two.xml")); /* F2 */
    }
    fuzz_place_end();
    fuzz_time_end();
    return 0;
}

size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t most, unsigned seed)
{
    static const char *const pieces[] = {
        "<a>",
        "</a>",
        "<a/>",
        "<b c=\"d\"/>",
        "<!-- -->",
        "<?p i?>",
        "<![CDATA[",
        "]]>",
        "&amp;",
        "&#10;",
        "&#xD;",
        "&e;",
        "<!DOCTYPE a [",
        "<!ENTITY e \"f\">",
        "<!ENTITY % p SYSTEM \"q\">%p;",
        "<!ATTLIST a c CDATA \"d\">",
        "]>",
        "<?xml version=\"1.0\" encoding=\"UTF-8\" standalone=\"yes\"?>",
        " xmlns:x=\"y\"",
        "x:",
        "\r\n",
        "\t",
        "\xef\xbb\xbf",
        "\xc3\xa9",
        "SYSTEM \"'\"",
        "PUBLIC \"-//p\" \"s\"",
        "<!NOTATION n SYSTEM \"n\">",
        "<!ELEMENT a ANY>",
        "encoding=\"UTF-16\"",
        "encoding=\"ISO-8859-1\"",
    };
    const char *piece = pieces[seed / 2 % (sizeof pieces / sizeof pieces[0])];
    size_t length = strlen(piece), at = size == 0 ? 0 : seed / 128 % (size + 1);
    if (seed % 2 == 0 || size + length > most)
        return LLVMFuzzerMutate(data, size, most);
    memmove(data + at + length, data + at, size - at);
    memcpy(data + at, piece, length);
    return size + length;
}

size_t LLVMFuzzerCustomCrossOver(const uint8_t *one, size_t one_size, const uint8_t *other, size_t other_size,
                                 uint8_t *out, size_t most, unsigned seed)
{
    return fuzz_cross_bytes(one, one_size, other, other_size, out, most, seed);
}
