/* SPDX-License-Identifier: MIT */
/*
 * From an XML file into the heap, as a stream: expat's callbacks make nodes in a stage.
 *
 * What is kept as written: prefixes and xmlns attributes (no namespace processing), the DOCTYPE with its internal
 * subset, references to entities other than the five predefined ones (so a bomb of nested entities stays small), and
 * comments and instructions before and after the root element.  Attributes that the DOCTYPE supplies are not stored,
 * since the DOCTYPE is.  CDATA sections and character references become plain text.
 */
#define _POSIX_C_SOURCE 200809L
#include "import.h"

#include <errno.h>
#include <expat.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "commands.h"
#include "progress.h"
#include "stage.h"

#define READ_BYTES 65536

/* Heaps up to this size are filled in small steps, so that they come out close to the size asked for. */
#define SMALL_FILL (UINT64_C(64) << 20)

struct buffer {
    char *bytes;
    size_t length;
    size_t capacity;
};

struct importer {
    const struct import_request *request;
    XML_Parser parser;
    bool dry;       /* the first pass: check only */
    bool repeat;    /* a later round of filling: the root element exists already */
    bool in_dtd;    /* inside the DOCTYPE */
    bool subset;    /* the DOCTYPE has an internal subset */
    bool open_dtd;  /* declarations may lie outside the file, so a name unknown to expat is no error to it */
    bool capturing; /* the default handler is to keep what it gets in `markup` */
    bool failed;    /* the reason has been printed */
    bool enough;    /* the heap has been filled */
    uint64_t depth;
    struct buffer text;   /* character data since the last node */
    struct buffer markup; /* DOCTYPE, entity reference or start tag, as written */

    pheap *heap;
    struct stage stage;
    struct progress progress;
    uint64_t file_bytes;
};

static void stop(struct importer *importer)
{
    importer->failed = true;
    XML_StopParser(importer->parser, XML_FALSE);
}

/* A message about the place in the XML file where the parser stands. */
static void stop_at(struct importer *importer, const char *message, const char *name, size_t name_length)
{
    tree_fail("%s:%llu:%llu: %s%.*s%s", importer->request->xml,
              (unsigned long long)XML_GetCurrentLineNumber(importer->parser),
              (unsigned long long)XML_GetCurrentColumnNumber(importer->parser) + 1, message, (int)name_length, name,
              importer->dry ? "; the heap is as before" : "");
    stop(importer);
}

static bool buffer_append(struct importer *importer, struct buffer *buffer, const char *bytes, size_t length)
{
    if (length > buffer->capacity - buffer->length) {
        size_t capacity = (buffer->length + length) * 2 + 256;
        char *grown = realloc(buffer->bytes, capacity);
        if (grown == NULL) {
            tree_fail("out of memory for a text of %zu bytes", buffer->length + length);
            stop(importer);
            return false;
        }
        buffer->bytes = grown;
        buffer->capacity = capacity;
    }
    memcpy(buffer->bytes + buffer->length, bytes, length);
    buffer->length += length;
    return true;
}

/* ------------------------------------------------------------------------------------------------------- callbacks */

/* After each node: keep the transaction small, and stop filling when the heap is large enough. */
static int pace(struct importer *importer)
{
    uint64_t fill = importer->request->fill_bytes;
    struct pheap_info info = {.size = sizeof info};
    if (!stage_is_due(&importer->stage))
        return 0;
    if (stage_renew(&importer->stage) != 0)
        return -1;
    if (fill == 0)
        return 0;
    enum pheap_status status = pheap_get_info(importer->stage.heap, &info);
    if (status != PHEAP_OK)
        return tree_fail_heap(status, "cannot ask for the size of the heap");
    progress_step(&importer->progress, info.heap_bytes, fill, "bytes");
    importer->enough = info.heap_bytes >= fill;
    if (importer->enough)
        XML_StopParser(importer->parser, XML_FALSE);
    return 0;
}

/* Store the character data that has come together since the last node. */
static int text_flush(struct importer *importer)
{
    size_t length = importer->text.length;
    importer->text.length = 0;
    return length != 0 ? stage_text(&importer->stage, importer->text.bytes, length) : 0;
}

/* A node without children, from a callback. */
static void leaf(struct importer *importer, enum tree_kind kind, const char *name, const char *text, size_t length)
{
    if (importer->failed || importer->dry || importer->enough || (importer->repeat && importer->depth == 0))
        return;
    if (text_flush(importer) != 0 || stage_node(&importer->stage, kind, name, text, length) != 0 || pace(importer) != 0)
        stop(importer);
}

/*
 * expat drops a reference without a word when it stands in an attribute and names an entity that may be declared
 * outside the file.  Losing it would be worse than refusing the file.
 */
static void attributes_check(struct importer *importer)
{
    static const char *const known[] = {"lt;", "gt;", "amp;", "quot;", "apos;"};
    importer->markup.length = 0;
    importer->capturing = true;
    XML_DefaultCurrent(importer->parser);
    importer->capturing = false;
    const char *at = importer->markup.bytes;
    const char *end = at + importer->markup.length;
    while (!importer->failed && at != end && (at = memchr(at, '&', (size_t)(end - at))) != NULL) {
        at++;
        const char *semicolon = memchr(at, ';', (size_t)(end - at));
        size_t length = semicolon != NULL ? (size_t)(semicolon - at) + 1 : 0;
        bool harmless = length == 0 || *at == '#';
        for (size_t i = 0; i < sizeof known / sizeof known[0]; i++)
            harmless = harmless || (strlen(known[i]) == length && memcmp(known[i], at, length) == 0);
        if (!harmless)
            stop_at(importer,
                    "an attribute refers to an entity that may be declared outside this file (expand it first, for "
                    "instance with xmllint --noent): &",
                    at, length);
    }
}

static void XMLCALL on_start(void *user, const char *name, const char **pairs)
{
    struct importer *importer = user;
    struct stage *stage = &importer->stage;
    if (importer->failed || importer->enough)
        return;
    importer->depth++;
    if (importer->dry) {
        if (importer->open_dtd && pairs[0] != NULL)
            attributes_check(importer);
        return;
    }
    if (importer->repeat && importer->depth == 1)
        return; /* The cursor still stands where the round before ended: behind the last child. */
    size_t count = (size_t)XML_GetSpecifiedAttributeCount(importer->parser) / 2;
    if (text_flush(importer) != 0 || stage_node(stage, TREE_ELEMENT, name, NULL, 0) != 0 ||
        stage_attributes(stage, stage->last, (const char *const *)pairs, count) != 0) {
        stop(importer);
        return;
    }
    stage_descend(stage);
    if (pace(importer) != 0)
        stop(importer);
}

static void XMLCALL on_end(void *user, const char *name)
{
    struct importer *importer = user;
    (void)name;
    if (importer->failed || importer->enough)
        return;
    importer->depth--;
    if (importer->dry)
        return;
    if (text_flush(importer) != 0)
        stop(importer);
    else if (importer->depth != 0 || importer->request->fill_bytes == 0)
        stage_ascend(&importer->stage);
}

static void XMLCALL on_text(void *user, const char *bytes, int length)
{
    struct importer *importer = user;
    if (!importer->failed && !importer->dry && !importer->enough)
        buffer_append(importer, &importer->text, bytes, (size_t)length);
}

static void XMLCALL on_comment(void *user, const char *bytes)
{
    struct importer *importer = user;
    if (importer->in_dtd)
        XML_DefaultCurrent(importer->parser);
    else
        leaf(importer, TREE_COMMENT, NULL, bytes, strlen(bytes));
}

static void XMLCALL on_instruction(void *user, const char *target, const char *data)
{
    struct importer *importer = user;
    if (importer->in_dtd)
        XML_DefaultCurrent(importer->parser);
    else
        leaf(importer, TREE_INSTRUCTION, target, data, strlen(data));
}

/* Whatever has no callback of its own: the inside of the DOCTYPE, references, the marks of CDATA sections, spaces. */
static void XMLCALL on_other(void *user, const char *bytes, int length)
{
    struct importer *importer = user;
    size_t size = (size_t)length;
    if (importer->failed)
        return;
    if (importer->in_dtd || importer->capturing) {
        if (importer->in_dtd && *bytes == '%')
            importer->open_dtd = true;
        buffer_append(importer, &importer->markup, bytes, size);
        return;
    }
    /* A very long name may come in pieces. */
    if (*bytes != '&' && importer->markup.length == 0)
        return;
    if (!buffer_append(importer, &importer->markup, bytes, size) || bytes[size - 1] != ';')
        return;
    importer->markup.bytes[importer->markup.length - 1] = '\0';
    importer->markup.length = 0;
    leaf(importer, TREE_ENTITY, importer->markup.bytes + 1, NULL, 0);
}

static void XMLCALL on_doctype_start(void *user, const char *name, const char *system, const char *public, int subset)
{
    struct importer *importer = user;
    importer->in_dtd = true;
    importer->open_dtd = system != NULL;
    importer->subset = subset != 0;
    importer->markup.length = 0;
    const char *quote = system != NULL && strchr(system, '"') != NULL ? "'" : "\"";
    const char *const parts[] = {"<!DOCTYPE ",
                                 name,
                                 public != NULL   ? " PUBLIC \""
                                 : system != NULL ? " SYSTEM "
                                                  : "",
                                 public != NULL ? public : "",
                                 public != NULL ? "\" " : "",
                                 system != NULL ? quote : "",
                                 system != NULL ? system : "",
                                 system != NULL ? quote : "",
                                 subset ? " [" : ""};
    for (size_t i = 0; i < sizeof parts / sizeof parts[0]; i++)
        if (!buffer_append(importer, &importer->markup, parts[i], strlen(parts[i])))
            return;
}

static void XMLCALL on_doctype_end(void *user)
{
    struct importer *importer = user;
    importer->in_dtd = false;
    if (importer->failed ||
        !buffer_append(importer, &importer->markup, importer->subset ? "]>" : ">", importer->subset ? 2 : 1))
        return;
    size_t length = importer->markup.length;
    importer->markup.length = 0;
    leaf(importer, TREE_DOCTYPE, NULL, importer->markup.bytes, length);
}

static void XMLCALL on_declaration(void *user, const char *version, const char *encoding, int standalone)
{
    struct importer *importer = user;
    const char *pairs[4] = {"version", version, "standalone", standalone == 1 ? "yes" : "no"};
    (void)encoding; /* Export writes UTF-8. */
    if (version == NULL || importer->failed || importer->dry || importer->repeat)
        return;
    if (stage_attributes(&importer->stage, importer->stage.document, pairs, standalone == -1 ? 1 : 2) != 0)
        stop(importer);
}

/* ---------------------------------------------------------------------------------------------------------- passes */

static int parser_make(struct importer *importer)
{
    importer->parser = XML_ParserCreate(NULL);
    if (importer->parser == NULL)
        return tree_fail("out of memory");
    XML_SetUserData(importer->parser, importer);
    XML_SetElementHandler(importer->parser, on_start, on_end);
    XML_SetCharacterDataHandler(importer->parser, on_text);
    XML_SetCommentHandler(importer->parser, on_comment);
    XML_SetProcessingInstructionHandler(importer->parser, on_instruction);
    XML_SetDoctypeDeclHandler(importer->parser, on_doctype_start, on_doctype_end);
    XML_SetXmlDeclHandler(importer->parser, on_declaration);
    XML_SetDefaultHandler(importer->parser, on_other); /* Not DefaultHandlerExpand: references stay references. */
    importer->depth = 0;
    importer->in_dtd = importer->open_dtd = false;
    importer->text.length = importer->markup.length = 0;
    return 0;
}

static int parse_descriptor(struct importer *importer, int descriptor)
{
    for (uint64_t done = 0;;) {
        void *space = XML_GetBuffer(importer->parser, READ_BYTES);
        if (space == NULL)
            return tree_fail("out of memory");
        ssize_t got = read(descriptor, space, READ_BYTES);
        if (got < 0 && errno == EINTR)
            got = 0;
        else if (got < 0)
            return tree_fail("cannot read %s: %s", importer->request->xml, strerror(errno));
        else if (got == 0 || importer->enough)
            break;
        done += (uint64_t)got;
        if (importer->dry || importer->request->fill_bytes == 0)
            progress_step(&importer->progress, done, importer->file_bytes, "bytes");
        if (XML_ParseBuffer(importer->parser, (int)got, XML_FALSE) == XML_STATUS_OK)
            continue;
        if (!importer->failed && !importer->enough)
            stop_at(importer, XML_ErrorString(XML_GetErrorCode(importer->parser)), "", 0);
        return importer->enough && !importer->failed ? 0 : -1;
    }
    if (importer->enough || XML_Parse(importer->parser, "", 0, XML_TRUE) == XML_STATUS_OK)
        return importer->failed ? -1 : 0;
    if (!importer->failed && !importer->enough)
        stop_at(importer, XML_ErrorString(XML_GetErrorCode(importer->parser)), "", 0);
    return importer->failed ? -1 : 0;
}

/* One pass over the file: expat's callbacks do the work. */
static int parse_file(struct importer *importer)
{
    struct stat status;
    int descriptor = open(importer->request->xml, O_RDONLY | O_CLOEXEC);
    if (descriptor < 0 || fstat(descriptor, &status) != 0) {
        tree_fail("cannot open %s: %s", importer->request->xml, strerror(errno));
        if (descriptor >= 0)
            close(descriptor);
        return -1;
    }
    if (!S_ISREG(status.st_mode)) {
        close(descriptor);
        return tree_fail("cannot read %s: not a regular file, and it has to be read twice", importer->request->xml);
    }
    importer->file_bytes = (uint64_t)status.st_size;
    int result = parser_make(importer);
    if (result == 0)
        result = parse_descriptor(importer, descriptor);
    if (importer->parser != NULL)
        XML_ParserFree(importer->parser);
    importer->parser = NULL;
    close(descriptor);
    return result;
}

static int fill(struct importer *importer)
{
    do {
        uint64_t before = importer->stage.nodes;
        if (parse_file(importer) != 0)
            return -1;
        if (importer->stage.nodes == before && importer->request->fill_bytes != 0)
            return tree_fail("%s: the root element has no children to fill a heap with", importer->request->xml);
        importer->repeat = true;
    } while (importer->request->fill_bytes != 0 && !importer->enough);
    return 0;
}

static int import_into(struct importer *importer)
{
    struct stage *stage = &importer->stage;
    uint64_t fill_bytes = importer->request->fill_bytes;
    if (stage_begin(stage, importer->heap) != 0)
        return -1;
    if (fill_bytes != 0 && fill_bytes < SMALL_FILL)
        stage->batch_max = TREE_BATCH / 20;
    progress_begin(&importer->progress, fill_bytes != 0 ? "filling" : "importing");
    int result = fill(importer);
    progress_end(&importer->progress);
    if (result == 0)
        result = stage_finish(stage);
    else
        stage_drop(stage);
    return result;
}

int import_run(const struct import_request *request, struct import_result *result)
{
    struct importer importer = {.request = request, .dry = true};
    struct pheap_info info = {.size = sizeof info};
    progress_begin(&importer.progress, "checking");
    int outcome = parse_file(&importer);
    progress_end(&importer.progress);
    importer.dry = false;
    if (outcome == 0)
        outcome = heap_open_or_create(request->heap, &importer.heap);
    if (outcome == 0) {
        outcome = import_into(&importer);
        if (pheap_get_info(importer.heap, &info) != PHEAP_OK)
            info.heap_bytes = 0;
        outcome = heap_close(request->heap, importer.heap, outcome);
    }
    free(importer.text.bytes);
    free(importer.markup.bytes);
    *result = (struct import_result){.nodes = importer.stage.nodes,
                                     .source_bytes = importer.file_bytes,
                                     .heap_bytes = info.heap_bytes,
                                     .commits = importer.stage.commits};
    return outcome;
}
