/* SPDX-License-Identifier: MIT */
/*
 * Values of a heap in an answer: those without parts, the numbers and texts in structs, and what is said of a container
 * in one line.
 */
#ifndef TOOLS_VALUES_H
#define TOOLS_VALUES_H

#include "tools/output.h"
#include "types/types.h"

/* Look at the values of the newest version; the exit code is that of `look`, unless there are none. */
enum exit_code values_look(struct output *output, pheap *heap,
                           enum exit_code (*look)(struct output *output, struct pht *t));

const char *values_field_kind_name(uint32_t kind);

/* How many parts a container has; `fields` of its type for a record.  *parts: it is one. */
enum pheap_status values_count(struct pht *t, pht_value value, bool *parts, uint64_t *count);

/* The type of a record, array or ring. */
enum pheap_status values_type(struct pht *t, pht_value value, enum pht_kind kind, uint32_t *type);

/*
 * Write a value: as text, and in JSON as the first members of the open object, "kind" and "value" or, of a container,
 * "kind", "offset", "count" and the name and version of its "type".
 */
enum pheap_status values_write(struct output *output, struct pht *t, pht_value value);

/* The same with the elements of a tuple, for keys. */
enum pheap_status values_write_key(struct output *output, struct pht *t, pht_value value);

/* The field of a struct at `offset`, which is neither a value nor a struct; in JSON the member "value". */
void values_write_field(struct output *output, const struct pht *t, const struct pht_field *field, uint64_t offset);

#endif
