/* SPDX-License-Identifier: MIT */
/* What the reports of damaged pages have in common. */
#ifndef PHEAP_SCRUB_H
#define PHEAP_SCRUB_H

#include "pheap/alloc.h"

/* Append to `text` the first few blocks that lie in [from, to), at least in part, and how many more there are; nothing if
 * there are none.  How many there are. */
uint64_t ph_scrub_name_blocks(struct ph_space space, uint64_t from, uint64_t to, char *text, size_t text_bytes);

#endif
