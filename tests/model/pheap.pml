/* SPDX-License-Identifier: MIT */
/*
 * A model of the order of things in pheap: commit, flush, fold, checkpoint, reuse of the log, readers, attach and
 * detach, death, power cuts, recovery.  docs/model.md says what is modelled and what is not; scripts/model runs it.
 *
 * LSN      the number of a commit, 1 up to COMMITS; 0 is the empty heap
 * value    of a page or a record: LSN + 8 * epoch, so that a commit which was lost and the one that took its LSN differ
 * commit k stores its value in page A, and in page B too if k is odd: so torn, mixed and old states all show
 * block    one record of the log; a batch is 1 up to BLOCKS of them in one segment, its header in the first one's block
 *
 * Everything on disk is there twice: as it can be read (in the page cache: ...c) and as it would be after a power cut
 * (...d).  Where the two differ, a cut leaves either, each by itself.  A mutant (-DM_...) lacks one mechanism and must
 * break the rule that it is there for.
 *
 * A label begins a step; steps are as large as they may be without hiding a state from another process or a crash.
 */
#ifndef PROCESSES
#define PROCESSES 2
#endif
#ifndef COMMITS
#define COMMITS 3 /* transactions in all; at most 7 */
#endif
#ifndef CRASHES
#define CRASHES 2 /* kills and power cuts in all */
#endif
#ifndef SLOTS
#define SLOTS 2 /* segments in the log file */
#endif
#ifndef BLOCKS
#define BLOCKS 2 /* in a segment; at most 3 */
#endif
#ifndef BUFFER
#define BUFFER 2 /* records that the shared buffer holds */
#endif
#ifndef FAILS
#define FAILS 0 /* writes and syncs that fail */
#endif
#ifndef DAMAGES
#define DAMAGES 0 /* blocks of the log that rot in a power cut */
#endif
#ifndef READERS
#define READERS 1 /* 0: nobody reads */
#endif

#ifndef FINE
#define FINE 0 /* 1: a pause also where one step follows another at once, at PAUSE */
#endif
#if FINE
#define PAUSE skip;
#else
#define PAUSE
#endif

#define VALUE(k) ((k) == 0 -> 0 : (k) + 8 * hist[k])
#define ODD(k) ((k) % 2 == 1 -> (k) : ((k) == 0 -> 0 : (k) - 1)) /* the last commit up to k that stored in page B */
#define VALUE_A(k) VALUE(k)
#define VALUE_B(k) VALUE(ODD(k))
#define MAX(a, b) ((a) > (b) -> (a) : (b))
#define MIN(a, b) ((a) < (b) -> (a) : (b))

/* A block of the log: epoch, LSN, blocks in the batch that begins here (0: none does), sequence number of the segment.
 * That number stands in batches and in the header of the segment, which is written with its first batch. */
#define BLOCK(epoch, lsn, length, seq) ((epoch) | ((lsn) << 4) | ((length) << 7) | ((seq) << 9))
#define B_EPOCH(b) ((b) & 15)
#define B_LSN(b) (((b) >> 4) & 7)
#define B_LENGTH(b) (((b) >> 7) & 3)
#define B_SEQ(b) (((b) >> 9) & 31)

/* A superblock.  The generations of two copies never differ by more than three, so they are counted modulo 8.  `durable`
 * means something in an OPEN one only, and is left out where nothing rots, because it could tell nobody anything. */
#define SUPER(gen, open, epoch, lsn, lsn_epoch, seg, off, durable) \
    (((gen) & 7) | ((open) << 3) | ((epoch) << 4) | ((lsn) << 8) | ((lsn_epoch) << 11) | ((seg) << 15) | \
     ((off) << 20) | (DAMAGES * (durable) << 22))
#define S_GEN(s) ((s) & 7)
#define S_OPEN(s) (((s) >> 3) & 1)
#define S_EPOCH(s) (((s) >> 4) & 15)
#define S_LSN(s) (((s) >> 8) & 7)
#define S_LSN_EPOCH(s) (((s) >> 11) & 15)
#define S_SEG(s) (((s) >> 15) & 31)
#define S_OFF(s) (((s) >> 20) & 3)
#define S_DURABLE(s) (((s) >> 22) & 7)
/* The next one after s, which vouches for the log up to `durable`. */
#define VOUCHING(s, durable) (((s) & ((1 << 22) - 1 - 7)) | ((S_GEN(s) + 1) & 7) | (1 << 3) | (DAMAGES * (durable) << 22))
#define NEWER(a, b) (((S_GEN(a) - S_GEN(b)) & 7) < 4)
#define NEWEST(s) (NEWER(s[1], s[0]) -> s[1] : s[0])

/* The header of the log: epoch, and where it starts. */
#define HEADER(epoch, lsn, lsn_epoch, seg) ((epoch) | ((lsn) << 4) | ((lsn_epoch) << 7) | ((seg) << 11))
#define H_EPOCH(h) ((h) & 15)
#define H_LSN(h) (((h) >> 4) & 7)
#define H_LSN_EPOCH(h) (((h) >> 7) & 15)
#define H_SEG(h) (((h) >> 11) & 31)

/* Names for assertions: which rule of docs/design.md is broken.  All are false. */
hidden byte R1, R2, R3, R4, R5, R6, R7, R9, R10, BOUNDS;

/* --------------------------------------------------------------------------------------------------------- on disk */

byte page_c[2], page_d[2];
bit dirty[2]; /* the next sync writes the page */
int super_c[2], super_d[2];
int header_c, header_d;
short log_c[SLOTS * BLOCKS], log_d[SLOTS * BLOCKS];

/* ------------------------------------------------------------------------ the coordination file: outlives processes */

bit epoch_open, poisoned, sync_in_progress;
byte committed, durable, folded, fold_intent;
byte flush_seg, flush_off;              /* of the flush mark, whose LSN is durable */
byte fold_seg, fold_off;                /* of the fold mark, whose LSN is folded */
byte ck_lsn, ck_seg, ck_gen, ck_epoch;  /* the checkpoint mark */
byte slot_seq[SLOTS];
byte buffer[BUFFER];                    /* values, by LSN modulo BUFFER */
byte writer_lock, flush_lock, fold_lock; /* process + 1; robust: freed by death */
byte pin[PROCESSES];                    /* LSN + 1; 0: none */

/* Locks on the heap file, kept by the kernel. */
bit attached[PROCESSES]; /* has it shared */
byte alone;              /* process + 1 that has it exclusively */

/* ----------------------------------------------------------------------------------------- what only the model knows */

byte hist[COMMITS + 1]; /* epoch in which the commit of an LSN was made */
byte commits, crashes, fails;
byte kept;      /* while nobody is attached: what was published, and so survives kills */
byte acked;     /* likewise: what was durable, and so survives all */
bit recovering; /* the marks are those of recovery */
#if DAMAGES
byte proven; /* the log had everything up to here on disk when another batch went there */
bit damaged; /* a block has rotted */
#else
#define damaged 0
#endif
byte dying; /* bits of processes that a crash has just ended; until they have noticed nothing else happens */

/* Scratch of a single d_step: means nothing after it. */
hidden byte x_epoch, x_want, x_seg, x_off, x_lsn, x_started, x_batch_seg, x_batch_off, x_batch_lsn, x_batch_end, x_slot,
    x_i, x_k, x_in, x_go, x_end, x_short, x_durable, x_newest, x_newer, x_plan, x_live, x_has;
hidden short x_b;
hidden int x_s;

#define NONE 255

/* After the last crash nobody asks any more what is on the disk only: it is forgotten, and so are differences. */
#define LAST (crashes == CRASHES)

/* Nobody has the heap open, or is opening or closing it. */
#if PROCESSES == 2
#define DESERTED (alone == 0 && !attached[0] && !attached[1])
#else
#define DESERTED (alone == 0 && !attached[0] && !attached[1] && !attached[2])
#endif

/* The slot of segment seq: ph_coord_find_slot, or by the headers of the segments as in read_slots of wal/scan.c. */
inline find_slot(seq)
{
    x_slot = NONE;
    x_i = 0;
    do
    :: x_i == SLOTS || x_slot != NONE -> break
    :: else ->
        if
        :: x_live && slot_seq[x_i] == (seq) -> x_slot = x_i
        :: !x_live && log_c[x_i * BLOCKS] != 0 && B_EPOCH(log_c[x_i * BLOCKS]) == x_epoch &&
               B_SEQ(log_c[x_i * BLOCKS]) == (seq) -> x_slot = x_i
        :: else
        fi;
        x_i++
    od;
    x_end = 0
}

/* enter_batch of wal/scan.c. */
inline enter_batch(seq, off)
{
    x_in = 0;
    find_slot(seq);
    if
    :: x_slot != NONE && (off) < BLOCKS ->
        x_b = log_c[x_slot * BLOCKS + (off)];
        if
        :: x_b != 0 && B_LENGTH(x_b) != 0 && B_EPOCH(x_b) == x_epoch && B_SEQ(x_b) == (seq) &&
               B_LENGTH(x_b) <= BLOCKS - (off) &&
               ((x_started && B_LSN(x_b) == x_lsn + 1) || (!x_started && B_LSN(x_b) <= x_lsn + 1)) ->
            x_in = 1;
            x_seg = seq;
            x_off = off;
            x_batch_seg = x_seg;
            x_batch_off = x_off;
            x_batch_lsn = B_LSN(x_b) - 1;
            x_batch_end = x_off + B_LENGTH(x_b);
            if
            :: !x_started -> x_lsn = B_LSN(x_b) - 1; x_started = 1
            :: else
            fi
        :: else
        fi
    :: else
    fi;
    x_end = 0
}

/* ph_scan_next until it ends: from (seg, off), which stands at or before the record after lsn. */
inline scan(live, epoch, lsn, seg, off)
{
    x_live = live; x_epoch = epoch; x_want = lsn; x_seg = seg; x_off = off; x_lsn = lsn;
    x_started = 0; x_batch_lsn = NONE; x_batch_seg = x_seg; x_batch_off = x_off; x_batch_end = x_off;
    x_go = 1;
    do
    :: !x_go -> break
    :: else ->
        enter_batch(x_seg, x_batch_end);
        if
        :: !x_in -> x_k = x_seg + 1; enter_batch(x_k, 0)
        :: else
        fi;
        if
        :: !x_in -> x_go = 0
        :: else ->
            do
            :: x_off == x_batch_end -> break
            :: x_off != x_batch_end ->
                x_b = log_c[x_slot * BLOCKS + x_off];
                if
                :: x_b != 0 && B_EPOCH(x_b) == x_epoch && B_LSN(x_b) == x_lsn + 1 -> x_lsn++; x_off++
                :: else -> x_go = 0; break
                fi
            od
        fi
    od;
    x_short = x_started && x_lsn < x_want; /* replay begins behind the end of the records */
    x_lsn = MAX(x_lsn, x_want)
}

/* Whether the buffer has the records (x_lsn, to]; then, or as far as it has them, x_lsn moves on. */
inline read_ring(epoch, to)
{
    do
    :: x_lsn < (to) && buffer[(x_lsn + 1) % BUFFER] == x_lsn + 1 + 8 * (epoch) -> x_lsn++
    :: else -> break
    od;
    x_end = 0
}

/* ph_replay_init_live and ph_replay_run: x_has says whether all of (from, to] can be read. */
inline replay_live(from, to, seg, off)
{
    x_lsn = from;
    read_ring(ck_epoch, to);
    if
    :: x_lsn < (to) -> /* the buffer was lapped: from the log, then from the buffer what is not durable */
        scan(1, ck_epoch, from, seg, off);
        x_has = !x_short;
        x_lsn = MIN(x_lsn, to);
        read_ring(ck_epoch, to);
        x_has = x_has && x_lsn >= (to)
    :: else -> x_has = 1
    fi;
    x_end = 0
}

/* weigh_block of wal/scan.c for all blocks that the scan from segment `first` has not passed. */
inline weigh(first)
{
    x_durable = (x_batch_lsn == NONE -> 0 : x_batch_lsn);
    x_newest = x_seg;
    x_newer = 0;
    x_i = 0;
    do
    :: x_i == SLOTS * BLOCKS -> break
    :: else ->
        x_b = log_c[(x_i / BLOCKS) * BLOCKS];
        if
        :: x_b != 0 && B_EPOCH(x_b) == x_epoch && B_SEQ(x_b) >= (first) && B_SEQ(x_b) < x_seg
        :: else ->
            x_b = log_c[x_i];
            if
            :: x_b != 0 && B_LENGTH(x_b) != 0 ->
                x_newest = MAX(x_newest, B_SEQ(x_b));
                if
                :: B_EPOCH(x_b) == x_epoch -> x_durable = MAX(x_durable, B_LSN(x_b) - 1)
                :: B_EPOCH(x_b) > x_epoch -> x_newer = 1
                :: else
                fi
            :: else
            fi
        fi;
        x_i++
    od;
    x_end = 0
}

/* x_durable: how far the header of the last batch, or else the superblock, vouches for the log.  The marks that tell in
 * the code (`vouched` of wal/coord.h) are no state of their own here: that batch is still in the log, that superblock is
 * the newest. */
inline find_vouched()
{
    x_s = NEWEST(super_c);
    x_durable = (S_OPEN(x_s) && S_GEN(x_s) == ck_gen -> S_DURABLE(x_s) : 0);
    x_i = 0;
    do
    :: x_i == SLOTS * BLOCKS -> break
    :: else ->
        x_b = log_c[x_i];
        if
        :: x_b != 0 && B_LENGTH(x_b) != 0 && B_EPOCH(x_b) == ck_epoch && B_LSN(x_b) <= durable ->
            x_durable = MAX(x_durable, B_LSN(x_b) - 1)
        :: else
        fi;
        x_i++
    od;
    x_end = 0
}

/* Where the next batch goes. */
#define NEXT_SEG (flush_off == BLOCKS -> flush_seg + 1 : flush_seg)
#define NEXT_OFF (flush_off == BLOCKS -> 0 : flush_off)

/* Blocks that records not yet flushed may still take: reserve_limit of wal/coord.h, exactly. */
inline count_room()
{
    x_k = BLOCKS - flush_off;
    x_i = 0;
    do
    :: x_i == SLOTS -> break
    :: else ->
        if
        :: slot_seq[x_i] == 0 || slot_seq[x_i] > flush_seg -> x_k = x_k + BLOCKS
        :: else
        fi;
        x_i++
    od;
    x_end = 0
}

/* free_segments of recovery/checkpoint.c. */
inline free_segments(keep)
{
    x_i = 0;
    do
    :: x_i == SLOTS -> break
    :: else ->
        if
        :: slot_seq[x_i] < (keep) -> slot_seq[x_i] = 0
        :: else
        fi;
        x_i++
    od;
    x_end = 0
}

/* Nobody is attached: of the coordination file only the buffer means anything. */
inline void_marks()
{
    kept = MAX(kept, committed);
    acked = (recovering -> acked : MAX(acked, durable));
    recovering = 0;
    epoch_open = 0; poisoned = 0; sync_in_progress = 0;
    committed = 0; durable = 0; folded = 0; fold_intent = 0;
    flush_seg = 0; flush_off = 0; fold_seg = 0; fold_off = 0;
    ck_lsn = 0; ck_seg = 0; ck_gen = 0; ck_epoch = 0;
    writer_lock = 0; flush_lock = 0; fold_lock = 0;
    x_i = 0;
    do
    :: x_i == SLOTS -> break
    :: else -> slot_seq[x_i] = 0; x_i++
    od;
    x_i = 0;
    do
    :: x_i == PROCESSES -> break
    :: else -> pin[x_i] = 0; x_i++
    od;
    x_end = 0
}

/* No block is written again that holds what is needed: an acknowledged record (R10), or one after the checkpoint that a
 * power cut would go back to (R4). */
inline check_overwrite(at)
{
    x_b = log_c[at];
    x_s = (LAST -> NEWEST(super_c) : NEWEST(super_d));
    assert(R10 || x_b == 0 || B_EPOCH(x_b) != ck_epoch || B_SEQ(x_b) != NEXT_SEG || B_LSN(x_b) > durable);
    assert(R4 || x_b == 0 || B_EPOCH(x_b) != ck_epoch || B_LSN(x_b) > durable || !S_OPEN(x_s) ||
           B_EPOCH(x_b) != S_EPOCH(x_s) || B_LSN(x_b) <= S_LSN(x_s))
}

/* Blocks [from, to) of a batch of `length` blocks into the cache: the write of write_batch. */
inline write_blocks(from, to, length)
{
    x_live = 1;
    x_seg = NEXT_SEG;
    find_slot(x_seg);
    x_i = from;
    do
    :: x_i == (to) -> break
    :: else ->
        x_off = x_slot * BLOCKS + NEXT_OFF + x_i;
        check_overwrite(x_off);
        assert(R6 || buffer[(durable + 1 + x_i) % BUFFER] == durable + 1 + x_i + 8 * ck_epoch);
        log_c[x_off] = BLOCK(ck_epoch, durable + 1 + x_i, (x_i == 0 -> (length) : 0), x_seg);
        x_i++
    od;
    x_end = 0
}

/* The same blocks are on the disk now. */
inline sync_blocks(length)
{
    x_live = 1;
    x_seg = NEXT_SEG;
    find_slot(x_seg);
    x_i = 0;
    do
    :: x_i == (length) -> break
    :: else -> x_off = x_slot * BLOCKS + NEXT_OFF + x_i; log_d[x_off] = (LAST -> 0 : log_c[x_off]); x_i++
    od;
    x_end = 0
}

inline sync_log()
{
    x_i = 0;
    do
    :: x_i == SLOTS * BLOCKS -> break
    :: else -> log_d[x_i] = (LAST -> 0 : log_c[x_i]); x_i++
    od;
    x_end = 0
}

/* ph_coord_publish_flush. */
inline publish_flush(length)
{
    x_seg = NEXT_SEG;
    x_off = NEXT_OFF;
    #if DAMAGES
    proven = durable;
#endif
    durable = durable + (length);
    flush_seg = x_seg;
#ifdef M_TAIL_REWRITTEN
    flush_off = x_off + (length) - 1
#else
    flush_off = x_off + (length)
#endif
}

inline fold_a(from, to)
{
    if
    :: (from) < (to) -> page_c[0] = VALUE_A(to); dirty[0] = !LAST
    :: else
    fi;
    x_end = 0
}

inline fold_b(from, to)
{
    if
    :: (from) < ODD(to) -> page_c[1] = VALUE_B(to); dirty[1] = !LAST
    :: else
    fi;
    x_end = 0
}

inline sync_pages()
{
    if
    :: dirty[0] -> page_d[0] = page_c[0]; dirty[0] = 0
    :: else
    fi;
    if
    :: dirty[1] -> page_d[1] = page_c[1]; dirty[1] = 0
    :: else
    fi;
    x_end = 0
}

/* A sync that fails: each page may have got there, and all look clean (A. Rebello et al.). */
inline lose_pages()
{
    if
    :: dirty[0] -> page_d[0] = page_c[0]
    :: true
    fi;
    if
    :: dirty[1] -> page_d[1] = page_c[1]
    :: true
    fi;
    dirty[0] = 0;
    dirty[1] = 0
}

/* ph_superblock_write, first half: x_s into the cache. */
inline write_super()
{
    super_c[S_GEN(x_s) & 1] = x_s
}

/* The second half: generation gen is durable.  Of the other copy only the age matters from now on: one that is older is
 * never used.  And of the generations only which is the newer and where it stands: so they are counted anew. */
inline sync_super(gen)
{
    x_i = (gen) & 1;
    ck_gen = 2 + x_i;
    super_c[x_i] = (super_c[x_i] & ~7) | ck_gen;
    super_c[1 - x_i] = ck_gen - 1;
    super_d[x_i] = (LAST -> 0 : super_c[x_i]);
    super_d[1 - x_i] = (LAST -> 0 : super_c[1 - x_i])
}

/* ------------------------------------------------------------------------------------------------------- a process */

#ifdef M_OLD_EPOCH
#define NEW_EPOCH 0
#else
#define NEW_EPOCH 1
#endif

#define TXN 1
#define FLUSH 2
#define FOLD 3
#define CHECKPOINT 4
#define CLOSE 5
#define END 6 /* of an epoch, by the last to close */
#define RECOVER 7

/* Of those that are dying the first notices first. */
#define MAY_GO(q) (dying == 0 || (dying & (1 << (q))) != 0 && (dying & ((1 << (q)) - 1)) == 0)

proctype process(byte p) provided (MAY_GO(_pid - 1))
{
    byte op, k, t, seg, off, n;

away:
    {
    /* attach_once of pheap/attach.c: who gets the lock exclusively is first. */
    atomic {
        alone == 0;
        if
        :: DESERTED -> alone = p + 1; goto recover
        :: else -> attached[p] = 1; pin[p] = 0 /* take_seat */
        fi
    }

    /* What a process may do: the calls of the program, and pheap/upkeep.c on their way. */
idle:
    atomic {
        if
        :: commits < COMMITS && !poisoned && !epoch_open && ck_epoch <= commits + crashes + 1 && ck_seg < 16 ->
            /* (no end of empty epochs otherwise) */
            goto open_epoch
        :: commits < COMMITS && !poisoned && epoch_open && writer_lock == 0 && committed + 1 - durable <= BUFFER ->
            /* begin, and commit_changes with publish up to ph_ring_append: there is room, so the record is stored. */
            d_step {
                count_room();
                if
                :: x_k >= committed + 1 - durable ->
                    writer_lock = p + 1;
                    op = TXN;
                    k = committed + 1;
                    commits++;
                    hist[k] = ck_epoch;
#ifndef M_PUBLISHED_UNSTORED
                    buffer[k % BUFFER] = k + 8 * ck_epoch
#endif
                :: else
                fi
            };
            if
            :: op == TXN -> goto publish
            :: else -> goto rest /* begin makes room by a checkpoint first */
            fi
        :: epoch_open && !poisoned && durable < committed -> op = FLUSH; k = committed; goto flush
        :: epoch_open && !poisoned && folded < committed -> op = FOLD; k = committed; goto flush
        :: epoch_open && !poisoned && (ck_lsn < committed || sync_in_progress) ->
            op = CHECKPOINT; k = committed; goto flush
#if READERS
        :: k = committed; goto store_pin
#endif
        :: op = CLOSE; k = committed;
            if
            :: epoch_open && !poisoned -> goto flush
            :: else -> goto detach
            fi
        fi
    }

publish: /* ph_coord_publish_commit; unlock_writer */
#ifdef M_PUBLISHED_UNSTORED
    committed = k;
#endif
    atomic {
#ifdef M_PUBLISHED_UNSTORED
        buffer[k % BUFFER] = k + 8 * ck_epoch;
#endif
        committed = k;
        writer_lock = 0;
        if
        :: goto rest /* LAZY */
#ifdef M_ACKNOWLEDGED_EARLY
        :: acked = MAX(acked, k); goto rest
#else
        :: goto flush /* DURABLE: wait_durable */
#endif
        fi
    }

    /* ------------------------------------------------------------------------------------------------------ flush */

flush: /* ph_flush_to */
    PAUSE
    atomic {
        if
        :: durable >= k -> goto flushed
        :: durable < k && poisoned -> goto failed
        :: durable < k && !poisoned && flush_lock == 0 ->
            d_step { /* flush_locked; gather and choose_slot of write_batch */
                flush_lock = p + 1;
                n = MIN(committed - durable, BLOCKS - NEXT_OFF);
                x_live = 1;
                x_seg = NEXT_SEG;
                find_slot(x_seg);
                if
                :: x_slot == NONE -> find_slot(0)
                :: else
                fi;
                assert(R4 || x_slot != NONE); /* a published record always finds room */
                slot_seq[x_slot] = x_seg
            }
        fi
    }
write_batch: /* a kill may leave a part of it */
    atomic {
        if
        :: n > 1 -> d_step { write_blocks(0, 1, n) }
        :: d_step { write_blocks(0, n, n) }; goto sync_batch
        fi
    }
write_rest:
    d_step { write_blocks(1, n, n) }
sync_batch:
#ifdef M_DURABLE_EARLY
    atomic { d_step { publish_flush(n) } }
    atomic { d_step { sync_log() }; flush_lock = 0; n = 0; goto flush }
#endif
#ifdef M_LSN_BEFORE_POSITION
    atomic { d_step { x_off = NEXT_OFF; sync_blocks(n); off = NEXT_OFF; seg = NEXT_SEG; durable = durable + n } }
    atomic { flush_seg = seg; flush_off = off + n; flush_lock = 0; n = 0; seg = 0; off = 0; goto flush }
#endif
    atomic {
        if
        :: d_step { sync_blocks(n); publish_flush(n); assert(R2 || durable <= committed) };
            flush_lock = 0;
            n = 0;
            goto flush
        :: fails < FAILS -> fails++ /* what of it is on the disk shows at the next cut */
        fi
    }
#ifdef M_RETRIED_WRITE
    atomic { d_step { publish_flush(n) }; flush_lock = 0; n = 0; goto flush }
#else
    atomic { poisoned = 1; flush_lock = 0; n = 0; goto failed } /* poison of wal/flush.c */
#endif

flushed:
    PAUSE
    atomic {
        if
        :: op == TXN || op == FLUSH -> goto rest
        :: op == CLOSE -> goto detach
        :: op == RECOVER -> goto recover_vouch
        :: else -> k = 0; goto lock_fold
        fi
    }

failed: /* the caller is told */
    atomic {
        if
        :: op == CLOSE || op == END -> goto detach
        :: op == RECOVER -> goto give_up
        :: else -> goto rest
        fi
    }

    /* --------------------------------------------------------------------------------------- fold and checkpoint */

lock_fold: /* ph_fold_locked */
    PAUSE
    atomic {
        fold_lock == 0;
        if
        :: poisoned -> goto failed
        :: else
        fi;
        fold_lock = p + 1;
#ifdef M_FOLD_UNFLUSHED
        t = committed;
#else
        t = MIN(durable, committed);
#endif
        seg = flush_seg;
        off = flush_off;
#ifndef M_INTENT_LATE
        fold_intent = MAX(fold_intent, t);
#endif
        n = 0
    }
look_at_pins: /* ph_store_oldest_pin, one seat after the other */
    atomic {
        if
        :: n == p -> n++; goto look_at_pins
        :: n < PROCESSES && n != p ->
            if
            :: pin[n] != 0 && !attached[n] -> pin[n] = 0 /* ph_store_seat_alive */
#ifndef M_PINS_IGNORED
            :: pin[n] != 0 && attached[n] && pin[n] - 1 < t ->
                t = pin[n] - 1;
#ifndef M_POSITION_TOO_FAR
                seg = fold_seg; off = fold_off
#endif
#endif
            :: else
            fi;
            n++;
            goto look_at_pins
        :: else -> n = 0
        fi;
        if
        :: t <= folded -> t = 0; seg = 0; off = 0; goto is_folded
        :: else
        fi;
#ifndef M_FOLD_NOT_VOUCHED_FOR
        if /* ph_store_vouch; after the last crash nobody would read it */
        :: LAST -> goto fold
        :: else
        fi;
        d_step { find_vouched(); n = (x_durable >= t) };
        if
        :: n -> n = 0; goto fold
        :: else
        fi;
        n = sync_in_progress;
        sync_in_progress = 1;
        d_step { x_s = NEWEST(super_c); x_s = VOUCHING(x_s, t); write_super() }
    }
vouch:
    atomic {
        if
        :: d_step { x_s = NEWEST(super_c); x_k = S_GEN(x_s); sync_super(x_k); sync_in_progress = n; n = 0 }
        :: fails < FAILS -> fails++; goto poison
        fi
#endif
    }
fold: /* fold_to: replay into a fold set, then ph_fold_set_write */
#ifdef M_INTENT_LATE
    fold_intent = MAX(fold_intent, t);
#endif
#ifdef M_FOLDED_EARLY
    folded = t;
    d_step { fold_a(0, t) }
    d_step { fold_b(0, t) }
#else
    atomic { d_step { replay_live(folded, t, fold_seg, fold_off); assert(R4 || x_has); fold_a(folded, t) } }
    d_step { fold_b(folded, t) }
#endif
    d_step { /* ph_coord_publish_fold */
        folded = t; fold_seg = seg; fold_off = off;
        t = 0; seg = 0; off = 0;
        assert(R2 || folded <= durable && durable <= committed)
    }

is_folded:
    PAUSE
    atomic {
        if
        :: op == FOLD -> fold_lock = 0; goto rest
        :: else
        fi;
        /* checkpoint_locked */
        if
        :: folded == ck_lsn && !sync_in_progress ->
            d_step { free_segments(ck_seg) };
            fold_lock = 0;
            goto checkpointed
        :: else
        fi;
#ifdef M_UNFINISHED_SYNC_FORGOTTEN
        goto sync;
#endif
        if
        :: sync_in_progress
        :: else -> sync_in_progress = 1; goto sync
        fi
    }
#ifdef M_FOLD_AGAIN_STEPWISE
    d_step { x_s = NEWEST(super_c); x_k = MIN(S_LSN(x_s) + 1, folded); page_c[0] = VALUE_A(x_k) }
#endif
    atomic { /* fold_again: what was folded since the superblock */
        d_step { x_s = NEWEST(super_c); x_k = S_LSN(x_s); fold_a(x_k, folded) }
    }
    d_step { x_s = NEWEST(super_c); x_k = S_LSN(x_s); fold_b(x_k, folded) }
sync: /* sync_and_record */
#ifdef M_SUPERBLOCK_BEFORE_SYNC
    atomic {
        d_step { x_s = SUPER(ck_gen + 1, 1, ck_epoch, folded, hist[folded], fold_seg, fold_off, folded); write_super() };
        d_step { sync_super(ck_gen + 1) }
    }
#endif
    atomic {
        if
        :: d_step { sync_pages() }
        :: fails < FAILS && (dirty[0] || dirty[1]) -> fails++; lose_pages();
#ifdef M_RETRIED_SYNC
            goto sync
#else
            goto poison
#endif
        fi;
        d_step { x_s = SUPER(ck_gen + 1, 1, ck_epoch, folded, hist[folded], fold_seg, fold_off, folded); write_super() }
    }
#ifdef M_FREED_EARLY
    d_step { free_segments(fold_seg) }
#endif
sync_record:
    atomic {
        if
        :: d_step {
                sync_super(ck_gen + 1);
                ck_lsn = folded; ck_seg = fold_seg;
                sync_in_progress = 0;
                free_segments(ck_seg)
            };
            fold_lock = 0;
            goto checkpointed
        :: fails < FAILS -> fails++
        fi
    }
poison: /* of recovery/checkpoint.c */
    poisoned = 1;
    atomic { fold_lock = 0; goto failed }

checkpointed:
    PAUSE
    atomic {
        if
        :: op == CHECKPOINT -> goto rest
        :: else
        fi
    }

    /* ------------------------------------------------------------------------------------------------------ close */

    /* ph_store_close_epoch, alone */
    d_step {
        assert(R2 || folded == committed);
        x_s = SUPER(ck_gen + 1, 0, ck_epoch, folded, hist[folded], flush_seg, 0, 0);
        write_super()
    }
    atomic {
        if
        :: d_step { sync_super(ck_gen + 1) }
        :: fails < FAILS -> fails++
        fi;
        d_step { void_marks() };
        alone = 0;
        goto gone
    }

detach: /* ph_detach */
    PAUSE
    atomic {
        if
        :: op == END -> d_step { void_marks() }; alone = 0; goto gone /* its checkpoint failed */
        :: else
        fi;
        attached[p] = 0;
        pin[p] = 0;
        if
        :: !DESERTED -> goto gone
        :: DESERTED && (poisoned || !epoch_open) -> d_step { void_marks() }; goto gone
        :: DESERTED && !poisoned && epoch_open -> alone = p + 1; op = END; k = committed; goto flush
        fi
    }

    /* ------------------------------------------------------------------------------------------- a new epoch opens */

open_epoch: /* open_epoch_locked */
    atomic {
        fold_lock == 0;
        if
        :: epoch_open || poisoned -> goto rest
        :: else
        fi;
        fold_lock = p + 1;
#ifndef M_CLEAN_NOT_WRITTEN_AGAIN
        d_step { x_s = NEWEST(super_c); x_k = S_GEN(x_s); sync_super(x_k) } /* what was read, written again */
#endif
    }
#ifdef M_OPEN_BEFORE_HEADER
    d_step { x_s = SUPER(ck_gen + 1, 1, ck_epoch + 1, folded, hist[folded], ck_seg + 1, 0, folded); write_super() }
    d_step { sync_super(ck_gen + 1) }
#endif
    /* ph_log_begin_epoch */
    d_step { header_c = HEADER(ck_epoch + NEW_EPOCH, folded, hist[folded], ck_seg + 1) }
    d_step {
        header_d = (LAST -> 0 : header_c);
        x_s = SUPER(ck_gen + 1, 1, ck_epoch + NEW_EPOCH, folded, hist[folded], ck_seg + 1, 0, folded);
        write_super()
    }
    d_step {
        sync_super(ck_gen + 1);
        ck_epoch = ck_epoch + NEW_EPOCH; ck_seg++; ck_lsn = folded;
        assert(BOUNDS || ck_epoch < 16 && ck_seg + COMMITS < 32);
        flush_seg = ck_seg; flush_off = 0; fold_seg = ck_seg; fold_off = 0; /* set_marks */
        slot_seq[0] = ck_seg;
        x_i = 1;
        do
        :: x_i == SLOTS -> break
        :: else -> slot_seq[x_i] = 0; x_i++
        od;
        epoch_open = 1;
        fold_lock = 0
    }
    goto rest;

    /* --------------------------------------------------------------------------------------------------- a reader */

#if READERS
store_pin: /* pin_newest of pheap/readview.c, which has read `committed` */
#ifdef M_LOOK_BEFORE_PIN
    atomic {
        if
        :: fold_intent > k -> k = committed; goto store_pin
        :: else
        fi
    }
#endif
    pin[p] = k + 1;
    atomic {
#if defined M_NO_LOOK || defined M_LOOK_BEFORE_PIN
        skip;
#endif
#ifdef M_SECOND_LOOK_LEFT_OUT
        if
        :: fold_intent > k -> k = committed
        :: else
        fi
    }
    atomic {
        pin[p] = k + 1;
#elif !defined M_NO_LOOK && !defined M_LOOK_BEFORE_PIN
        if
        :: fold_intent > k -> k = committed; goto store_pin
        :: else
        fi;
#endif
reset_view: /* reset_once of pheap/view.c */
        t = folded
    }
    atomic { /* seg, off: private copies of A and B */
        d_step { replay_live(t, k, fold_seg, fold_off); n = x_has };
        if
        :: n -> n = 0; seg = (t < k -> VALUE_A(k) : 0); off = (t < ODD(k) -> VALUE_B(k) : 0)
        :: else -> assert(R4 || folded != t); goto reset_view /* BUSY: the log was recycled */
        fi
    }
#ifdef M_UNPINNED_EARLY
    pin[p] = 0;
#endif
    assert(R3 || (seg != 0 -> seg : page_c[0]) == VALUE_A(k));
    atomic {
        assert(R3 || (off != 0 -> off : page_c[1]) == VALUE_B(k));
        pin[p] = 0;
        goto rest
    }
#endif

    /* -------------------------------------------------------------------------------------------------- recovery */

recover: /* ph_store_recover: nothing is written in this step */
    atomic {
        d_step {
            x_s = NEWEST(super_c);
            /* ph_classify: 0 clean, 1 replay from the checkpoint, 2 from the start of the log's epoch, 3 refuse */
            if
            :: !S_OPEN(x_s) && H_EPOCH(header_c) <= S_EPOCH(x_s) -> x_plan = 0
            :: !S_OPEN(x_s) && H_EPOCH(header_c) == S_EPOCH(x_s) + 1 && H_LSN(header_c) == S_LSN(x_s) &&
                   H_LSN_EPOCH(header_c) == S_LSN_EPOCH(x_s) -> x_plan = 2
            :: S_OPEN(x_s) && H_EPOCH(header_c) == S_EPOCH(x_s) -> x_plan = 1
            :: else -> x_plan = 3
            fi;
            assert(R9 || x_plan != 3);
            ck_gen = S_GEN(x_s);
            ck_lsn = S_LSN(x_s);
            if
            :: x_plan == 2 -> ck_epoch = H_EPOCH(header_c); ck_seg = H_SEG(header_c); n = 0
            :: else -> ck_epoch = S_EPOCH(x_s); ck_seg = S_SEG(x_s); n = S_OFF(x_s)
            fi;
            assert(R5 || hist[ck_lsn] == S_LSN_EPOCH(x_s));
            if
            :: x_plan == 0 -> k = ck_lsn
            :: else -> /* find_end */
                scan(0, ck_epoch, ck_lsn, ck_seg, n);
                durable = x_lsn; /* where the log ends */
                weigh(ck_seg);
#ifndef M_BUFFER_NOT_READ
                if
                :: !x_short -> read_ring(ck_epoch, COMMITS)
                :: else
                fi;
#endif
                k = x_lsn;
                seg = x_newest;
                /* ph_judge_end: the end of the log itself */
#ifdef M_EVIDENCE_IGNORED
                x_durable = 0;
#endif
                x_durable = MAX(x_durable, (S_OPEN(x_s) -> S_DURABLE(x_s) : 0));
#ifdef M_BUFFER_MAKES_GOOD
                x_plan = (x_short || x_durable > x_lsn || x_newer -> 3 : 1);
#else
                x_plan = (x_short || x_durable > durable || x_newer -> 3 : 1);
#endif
                assert(R9 || x_plan != 3 || damaged)
            fi;
            recovering = 1;
            committed = k; /* as append_buffer has it */
            if
            :: x_plan != 3 ->
#if DAMAGES
                assert(R9 || k >= proven);
#endif
                assert(R5 || k >= kept || damaged);
                /* What CLEAN leaves may come back: it may be in the cache only. */
                x_k = (x_plan == 0 -> COMMITS : ck_lsn) + 1;
                do
                :: x_k > COMMITS -> break
                :: x_k <= k -> assert(R9 || hist[x_k] == ck_epoch || damaged); x_k++
                :: x_k > k && x_k <= COMMITS -> hist[x_k] = 0; x_k++
                od
            :: else
            fi;
            t = x_plan
        };
        if
        :: t == 0 -> goto make_coord
        :: t == 3 -> goto refused
        :: else -> t = 0
        fi
    }
secure: /* the superblock first */
#ifndef M_SUPERBLOCK_NOT_SECURED
    d_step { sync_super(ck_gen) }
#endif
#ifdef M_LOG_NOT_SECURED
    atomic { n = 0; goto recover_vouch }
#endif
secure_log: /* ph_scan_secure */
    atomic {
        d_step {
            scan(0, ck_epoch, ck_lsn, ck_seg, n);
            t = 0;
            if
            :: x_batch_lsn != NONE ->
                find_slot(x_batch_seg);
                x_i = x_batch_off;
                do /* rewrite_batch: the last one; what is before it was durable when that was written */
                :: x_i == x_batch_end -> break
                :: else -> log_d[x_slot * BLOCKS + x_i] = (LAST -> 0 : log_c[x_slot * BLOCKS + x_i]); x_i++
                od;
#ifndef M_BATCH_NOT_CUT
                t = (durable < committed && x_off < x_batch_end)
#endif
            :: else
            fi;
            if
            :: durable < committed && !t -> /* append_buffer: where to go on */
                flush_seg = x_seg;
                flush_off = x_batch_end
            :: else
            fi
        };
        if
        :: t
        :: else -> goto append
        fi
    }
    d_step { /* cut_batch */
        scan(0, ck_epoch, ck_lsn, ck_seg, n);
        flush_seg = x_seg;
        flush_off = x_off;
        find_slot(x_batch_seg);
        x_k = x_slot * BLOCKS + x_batch_off;
        log_c[x_k] = BLOCK(B_EPOCH(log_c[x_k]), B_LSN(log_c[x_k]), x_off - x_batch_off, B_SEQ(log_c[x_k]));
        x_i = x_off;
        do
        :: x_i == x_batch_end -> break
        :: else -> log_c[x_slot * BLOCKS + x_i] = 0; x_i++
        od
    }
    d_step { sync_log() }
append: /* append_buffer */
    atomic {
        t = 0;
        n = 0;
        if
        :: durable < committed ->
            d_step { /* ph_scan_slots */
                x_i = 0;
                do
                :: x_i == SLOTS -> break
                :: else ->
                    x_b = log_c[x_i * BLOCKS];
                    slot_seq[x_i] = (x_b != 0 && B_EPOCH(x_b) == ck_epoch && B_SEQ(x_b) >= ck_seg -> B_SEQ(x_b) : 0);
                    x_i++
                od
            };
            op = RECOVER;
            goto flush
        :: else
        fi
    }
recover_vouch:
#ifndef M_RECOVERY_NOT_VOUCHED_FOR
    atomic { /* vouch of recovery/recover.c */
        if
#ifdef M_VOUCHED_FOR_NOTHING
        :: LAST -> goto recover_fold
#else
        :: LAST || k == ck_lsn -> goto recover_fold
#endif
        :: else
        fi;
        d_step {
            x_s = NEWEST(super_c);
            if
            :: !S_OPEN(x_s) -> x_s = SUPER(ck_gen, 1, ck_epoch, ck_lsn, hist[ck_lsn], ck_seg, 0, 0)
            :: else
            fi;
            x_s = VOUCHING(x_s, k);
            write_super()
        }
    }
    atomic {
        if
        :: d_step { sync_super(ck_gen + 1) }
        :: fails < FAILS -> fails++; goto give_up
        fi
    }
#endif
recover_fold:
    atomic {
        op = 0;
        d_step { seg = MAX(seg, flush_seg); fold_a(ck_lsn, k) }
    }
    d_step { fold_b(ck_lsn, k) }
    /* write_clean */
    atomic {
        if
#ifdef M_RECOVERED_UNSYNCED
        :: true
#endif
        :: d_step { sync_pages() }
        :: fails < FAILS && (dirty[0] || dirty[1]) -> fails++; lose_pages(); goto give_up
        fi;
        d_step { x_s = SUPER(ck_gen + 1, 0, ck_epoch, k, hist[k], MAX(seg, ck_seg), 0, 0); write_super() }
    }
    atomic {
        if
        :: d_step { sync_super(ck_gen + 1) }
        :: fails < FAILS -> fails++; goto give_up
        fi;
        acked = k
    }
make_coord: /* init_coord of pheap/attach.c; then the lock is shared */
    atomic {
        d_step {
            x_s = NEWEST(super_c);
            k = S_LSN(x_s);
            assert(R1 || page_c[0] == VALUE_A(k));
            assert(R1 || page_c[1] == VALUE_B(k));
            void_marks();
            committed = k; durable = k; folded = k; fold_intent = k;
            ck_lsn = k; ck_seg = S_SEG(x_s); ck_gen = S_GEN(x_s); ck_epoch = S_EPOCH(x_s);
            flush_seg = ck_seg; fold_seg = ck_seg;
            kept = 0;
            acked = 0;
#if DAMAGES
            proven = 0;
#endif
            alone = 0;
            attached[p] = 1
        };
        goto rest
    }

give_up: /* the heap could not be opened: somebody tries again */
    atomic { d_step { void_marks() }; alone = 0; goto gone }

refused: /* for good; a loop, because it is not a deadlock */
    atomic { true; goto refused };

rest: /* between two calls */
    atomic { op = 0; k = 0; t = 0; seg = 0; off = 0; n = 0 }
    goto idle;

gone:
    atomic { op = 0; k = 0; t = 0; seg = 0; off = 0; n = 0; goto away }
    } unless {
        atomic {
            (dying & (1 << p)) != 0;
            op = 0; k = 0; t = 0; seg = 0; off = 0; n = 0;
            dying = dying & ~(1 << p);
            goto away
        }
    }
}

/* --------------------------------------------------------------------------------------------------------- crashes */

inline forget_disk()
{
    if
    :: LAST ->
        page_d[0] = 0; page_d[1] = 0; dirty[0] = 0; dirty[1] = 0; super_d[0] = 0; super_d[1] = 0; header_d = 0;
        x_i = 0;
        do
        :: x_i == SLOTS * BLOCKS -> break
        :: else -> log_d[x_i] = 0; x_i++
        od;
        acked = 0
    :: else
    fi;
    x_end = 0
}

inline kill(q)
{
    attached[q] = 0;
    if
    :: alone == (q) + 1 -> alone = 0
    :: else
    fi;
    /* The kernel hands robust locks on. */
    if
    :: writer_lock == (q) + 1 -> writer_lock = 0
    :: else
    fi;
    if
    :: flush_lock == (q) + 1 -> flush_lock = 0
    :: else
    fi;
    if
    :: fold_lock == (q) + 1 -> fold_lock = 0
    :: else
    fi;
    x_end = 0
}

active proctype crash() provided (dying == 0)
{
    byte i;
    atomic {
        super_c[0] = SUPER(0, 0, 1, 0, 0, 0, 0, 0); super_d[0] = super_c[0];
        super_c[1] = SUPER(1, 0, 1, 0, 0, 0, 0, 0); super_d[1] = super_c[1];
        header_c = HEADER(1, 0, 0, 0); header_d = header_c;
        do
        :: i == PROCESSES -> break
        :: else -> run process(i); i++
        od;
        i = 0
    }
end:
    do
    :: atomic { /* kill -9 of one process */
        crashes < CRASHES ->
        do
        :: i < PROCESSES - 1 -> i++
        :: break
        od;
        if
        :: attached[i] || alone == i + 1 ->
            crashes++;
            d_step {
                kill(i);
                if
                :: DESERTED -> void_marks()
                :: else
                fi;
                forget_disk();
                x_i = i; i = 0; dying = 1 << x_i
            }
        :: else -> i = 0
        fi
    }
    :: atomic { /* power cut */
        crashes < CRASHES -> crashes++;
        do
        :: i == SLOTS * BLOCKS -> break
        :: i < SLOTS * BLOCKS && log_c[i] == log_d[i] -> i++
        :: i < SLOTS * BLOCKS && log_c[i] != log_d[i] -> log_c[i] = log_d[i]; i++
        :: i < SLOTS * BLOCKS && log_c[i] != log_d[i] -> log_d[i] = log_c[i]; i++
        od;
        i = 0;
        do
        :: i == 2 -> break
        :: i < 2 && dirty[i] -> page_d[i] = page_c[i]; dirty[i] = 0; i++
        :: i < 2 -> page_c[i] = page_d[i]; dirty[i] = 0; i++
        od;
        i = 0;
        do
        :: i == 2 -> break
        :: i < 2 && super_c[i] == super_d[i] -> i++
        :: i < 2 && super_c[i] != super_d[i] -> super_c[i] = super_d[i]; i++
        :: i < 2 && super_c[i] != super_d[i] -> super_d[i] = super_c[i]; i++
        od;
        if
        :: header_c != header_d -> header_d = header_c
        :: header_c = header_d
        fi;
        i = 0;
        do /* a page of the coordination file may have been written back, or not */
        :: i == BUFFER -> break
        :: i < BUFFER -> i++
        :: i < BUFFER && buffer[i] != 0 -> buffer[i] = 0; i++
        od;
#if DAMAGES
        i = 0;
        do
        :: !damaged && log_d[i] != 0 -> damaged = 1; log_d[i] = 0; log_c[i] = 0; break
        :: i < SLOTS * BLOCKS - 1 -> i++
        :: break
        od;
#endif
        d_step {
            i = 0;
            x_k = 0;
            do
            :: i == PROCESSES -> break
            :: else ->
                if
                :: attached[i] || alone == i + 1 -> kill(i); x_k = x_k | (1 << i)
                :: else
                fi;
                i++
            od;
            x_s = x_k;
            void_marks();
            kept = acked;
            forget_disk();
            i = 0;
            dying = x_s
        }
    }
    od
}
