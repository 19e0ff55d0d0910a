/* SPDX-License-Identifier: MIT */
/*
 * Sessions: which objects a process holds beyond what is stored in the heap.  The registry has a map from the key of a
 * session to a map of its holds, from an object's offset / 16 to its word: so a hold is a counted reference.  The key is 16
 * bytes: when the process attached, its seat, and a number among the sessions of the process.
 *
 * The mark of a process says: of the objects that came into limbo up to this version it remembers none, or holds it.  A
 * session that rests remembers none at all.
 */
#ifndef TYPES_SESSION_H
#define TYPES_SESSION_H

#include "types/heap.h"

/* Remove the sessions of processes that live no more. */
enum pheap_status pt_sessions_drop_dead(struct pht *t, pheap *heap);

#endif
