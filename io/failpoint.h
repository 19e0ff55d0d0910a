/* SPDX-License-Identifier: MIT */
/*
 * Fail points: the places between two steps whose order matters to other processes, where tests kill or stop a process.
 *
 * They are nothing in the library: only a copy of it that is compiled with PH_FAILPOINTS has them, which calls
 * ph_point_pass at each.  That function belongs to the tests (tests/process/points.c); the name says what has just been
 * done, or with "to" what comes next.
 */
#ifndef IO_FAILPOINT_H
#define IO_FAILPOINT_H

#ifdef PH_FAILPOINTS

/* Every place; the process rig fails if it does not reach one of them. */
#define PH_POINTS(X)                  \
    X(lock_owner_died)                \
    X(create_named)                   \
    X(mark_half_stored)               \
    X(mark_stored)                    \
    X(commit_published)               \
    X(fragment_published)             \
    X(flush_published)                \
    X(fold_published)                 \
    X(ring_reserved)                  \
    X(ring_half_stored)               \
    X(flush_slot_taken)               \
    X(flush_to_write)                 \
    X(flush_wrote)                    \
    X(flush_leads)                    \
    X(flush_limit_set)                \
    X(flush_to_wake)                  \
    X(flush_word_changed)             \
    X(flush_waits)                    \
    X(log_slots_ready)                \
    X(log_slot_filled)                \
    X(fold_lock_tried)                \
    X(seat_of_dead_locked)            \
    X(seat_of_dead_cleared)           \
    X(fold_gathered)                  \
    X(fold_wrote)                     \
    X(fold_intended)                  \
    X(fold_pins_read)                 \
    X(checkpoint_sync_was_unfinished) \
    X(checkpoint_to_sync)             \
    X(checkpoint_synced)              \
    X(checkpoint_superblock_written)  \
    X(checkpoint_half_marked)         \
    X(checkpoint_marked)              \
    X(checkpoint_segment_freed)       \
    X(checkpoint_to_free)             \
    X(epoch_begins)                   \
    X(epoch_log_ready)                \
    X(epoch_superblock_written)       \
    X(epoch_half_marked)              \
    X(epoch_marked)                   \
    X(epoch_opened)                   \
    X(epoch_ends)                     \
    X(epoch_clean_written)            \
    X(epoch_ended)                    \
    X(recovery_buffer_found)          \
    X(recovery_synced)                \
    X(recovery_finished)              \
    X(recovery_found)                 \
    X(recovery_secured)               \
    X(recovery_folded)                \
    X(hold_published)                 \
    X(hold_to_release)                \
    X(hold_moved)                     \
    X(create_written)                 \
    X(attach_coord_zeroed)            \
    X(attach_seat_locked)             \
    X(attach_coord_looked_at)         \
    X(attach_coord_made)              \
    X(attach_coord_sized)             \
    X(attach_coord_filled)            \
    X(attach_to_be_ready)             \
    X(attach_ready)                   \
    X(attach_coord_believed)          \
    X(attach_alone)                   \
    X(attach_shared)                  \
    X(detach_flushed)                 \
    X(detach_alone)                   \
    X(detach_leaves_others)           \
    X(detach_to_unlock)               \
    X(detach_seat_unlocked)           \
    X(view_replayed)                  \
    X(view_dropped)                   \
    X(growth_file_extended)           \
    X(writer_locked)                  \
    X(writer_to_unlock)               \
    X(writer_unlocked)                \
    X(begin_fragments_buried)         \
    X(begin_view_moved)               \
    X(abort_begins)                   \
    X(commit_encoded)                 \
    X(commit_has_room)                \
    X(commit_stands)                  \
    X(commit_notified)                \
    X(commit_is_durable)              \
    X(pin_to_evict)                   \
    X(pin_stored)                     \
    X(pin_to_release)                 \
    X(pin_changed)                    \
    X(pin_view_moved)                 \
    X(notify_wanted)                  \
    X(notify_cleared)                 \
    X(notify_word_changed)            \
    X(wait_announced)

enum ph_point {
#define PH_POINT_NUMBER(name) PH_POINT_##name,
    PH_POINTS(PH_POINT_NUMBER)
#undef PH_POINT_NUMBER
        PH_POINT_COUNT
};

void ph_point_pass(enum ph_point point);
#define PH_POINT(name) ph_point_pass(PH_POINT_##name)

#else
#define PH_POINT(name) ((void)0)
#endif

#endif
