/* SPDX-License-Identifier: MIT */
/*
 * What a command of the pheap tool is asked, and how it answers: as text for people or as JSON for programs.
 *
 * A command writes both forms side by side: the text functions do nothing when JSON was asked for, and the JSON
 * functions do nothing when it was not, so no command has a branch on the form.
 *
 * The JSON form is always one object, begun and ended by main(): "command", "path", then what the command adds, then
 * "error" if it failed.  Strings are UTF-8; a byte of a name that is not part of valid UTF-8 is written as the escape
 * \udc80 to \udcff (Python's "surrogateescape"), so that any name can be got back exactly.  The text form shows
 * control characters and such bytes as \xHH, so that a name cannot steer a terminal.
 */
#ifndef TOOLS_OUTPUT_H
#define TOOLS_OUTPUT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "pheap/pheap.h"

/* The exit codes of every command; pheap(1) documents them. */
enum exit_code {
    EXIT_DONE = 0,    /* it was done; for `check`: the heap is sound */
    EXIT_DAMAGED = 1, /* the heap or its log is damaged; for `salvage`: something was lost or is in doubt */
    EXIT_TROUBLE = 2  /* wrong usage, the heap cannot be opened, or the work could not be finished */
};

/* What the command line asked for. */
struct request {
    const char *command;
    const char *path;
    bool json;
    bool progress;      /* also when standard error is not a terminal */
    bool read_only;     /* never change anything, not even by recovery */
    bool quick;         /* info: no walk over the heap */
    bool ranges;        /* log: show each range, not only how many there are */
    uint64_t from_lsn;  /* log: skip what is before */
    uint64_t count_max; /* log: stop after so many records; show: so many entries of a container */
    uint64_t depth_max; /* show: containers in containers */
    uint64_t width_max; /* show: bytes of a text */
    char **steps;       /* show: keys and indexes that lead to a value */
    int step_count;
    struct pheap_options options; /* create */
    const char *archive;          /* backup, restore */
    bool archive_is_stream;       /* it is standard output or input */
    const char *new_path;         /* salvage */
    bool verify;                  /* restore: make no heap */
    bool fill;                    /* scrub: give checksums to pages that have none */
    bool answer_on_error;         /* standard output carries something else */
    struct pheap_backup_options backup;
};

enum { OUTPUT_DEPTH_MAX = 80 };

/* Where an answer goes.  `member_counts` says, for each open object or array, how many members it has so far. */
struct output {
    FILE *stream;
    const struct request *request;
    unsigned depth;
    uint64_t member_counts[OUTPUT_DEPTH_MAX];
};

/* Begin an answer on standard output or, where that carries an archive, on standard error. */
void output_begin(struct output *output, const struct request *request);
/* End it.  EXIT_TROUBLE if not all of it could be written, else `code`. */
enum exit_code output_end(struct output *output, enum exit_code code);

/* ---------------------------------------------------------------------------------------------- text, for people */

/* Print formatted text. */
__attribute__((format(printf, 2, 3))) void output_text(struct output *output, const char *format, ...);

/* Print one aligned line: a label and formatted text. */
__attribute__((format(printf, 3, 4))) void output_field(struct output *output, const char *label, const char *format,
                                                        ...);

/* The same with a size: "12884901 bytes (12.3 MiB)". */
void output_field_size(struct output *output, const char *label, uint64_t size_bytes);

/* Print text that came from elsewhere, with control characters and bytes that are not UTF-8 made visible. */
void output_visible(struct output *output, const char *text);
void output_visible_to(FILE *stream, const char *text);
/* The same of `length` bytes, which may be zeros. */
void output_visible_bytes(struct output *output, const void *bytes, uint64_t length);

/* -------------------------------------------------------------------------------------------- JSON, for programs */

/* Members of the open object, or, with key NULL, of the open array. */
void output_json_begin(struct output *output, const char *key, char bracket);
void output_json_end(struct output *output, char bracket);
void output_json_string(struct output *output, const char *key, const char *value);
void output_json_bytes(struct output *output, const char *key, const void *bytes, uint64_t length);
void output_json_u64(struct output *output, const char *key, uint64_t value);
void output_json_i64(struct output *output, const char *key, int64_t value);
void output_json_bool(struct output *output, const char *key, bool value);
void output_json_null(struct output *output, const char *key);
void output_json_fraction(struct output *output, const char *key, double value);
/* Exactly; infinities and NaN, which JSON has not, as the strings "inf", "-inf" and "nan". */
void output_json_double(struct output *output, const char *key, double value);

/* ------------------------------------------------------------------------------------------- both, and conversion */

/*
 * Report a failed call of the library, in words on standard error and as the member "error" in JSON, and give the
 * exit code that belongs to it.
 */
enum exit_code output_failure(struct output *output, enum pheap_status status);

/* The same with a text of our own; `status` may be PHEAP_OK if no status fits. */
enum exit_code output_failure_text(struct output *output, enum pheap_status status, const char *text);

/* A place in the heap's file and what is wrong there: a line, or an object of the open array. */
void output_fault(struct output *output, uint64_t offset, const char *text);

/* A time in nanoseconds since 1970 as "2025-01-31T12:00:00Z"; `text` has room for at least 32 bytes. */
void output_format_time(uint64_t time_ns, char text[static 32]);

/* 16 bytes as 32 hexadecimal digits. */
void output_format_identity(const unsigned char identity[16], char text[static 33]);

/*
 * Open the heap, let `look` do its work on it, and close it.  Read-only, so that nothing changes, but for --fill; a heap
 * whose last user crashed is recovered unless the request forbids it.  While that takes long, a progress line is shown.
 * The exit code is that of `look`, unless the heap could not be opened or closed.
 */
enum exit_code output_look(struct output *output, enum exit_code (*look)(struct output *output, pheap *heap));

/* The same for one that is written to, by `work`; a progress line is shown also while it is closed. */
enum exit_code output_change(struct output *output, enum exit_code (*work)(struct output *output, pheap *heap));

/* ----------------------------------------------------------------------------------------------------- the commands */

enum exit_code cmd_create(const struct request *request, struct output *output);
enum exit_code cmd_info(const struct request *request, struct output *output);
enum exit_code cmd_check(const struct request *request, struct output *output);
enum exit_code cmd_log(const struct request *request, struct output *output);
enum exit_code cmd_checkpoint(const struct request *request, struct output *output);
enum exit_code cmd_backup(const struct request *request, struct output *output);
enum exit_code cmd_restore(const struct request *request, struct output *output);
enum exit_code cmd_salvage(const struct request *request, struct output *output);
enum exit_code cmd_scrub(const struct request *request, struct output *output);
enum exit_code cmd_show(const struct request *request, struct output *output);
enum exit_code cmd_types(const struct request *request, struct output *output);
enum exit_code cmd_collect(const struct request *request, struct output *output);

#endif
