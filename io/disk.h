/* SPDX-License-Identifier: MIT */
/*
 * The structures on disk outside the heap's interior: superblock, log file header, segment header, batch header, record
 * header, and the header of the sums file.  docs/format.md is the normative text; io/disk_alloc.h has the interior.
 *
 * Everything is little-endian; a host of another byte order refuses to compile.  Reserved bytes are written as zero.
 * Every structure ends, or begins, with an XXH3-64 over all its other bytes.  Flag values are never reused.
 */
#ifndef IO_DISK_H
#define IO_DISK_H

#include <stddef.h>
#include <stdint.h>

#if __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "the format is little-endian; big-endian hosts are not supported"
#endif

#define PH_FORMAT_VERSION 1u
#define PH_BYTE_ORDER_MARK 0x01020304u
#define PH_PAGE_BYTES 4096u
#define PH_SECTOR_BYTES 512u
#define PH_FIRST_LSN 4096u
#define PH_NUMBER_LIMIT (UINT64_MAX / 2) /* LSNs, commits, epochs, generations and segments are less: none overflows */
#define PH_HEAP_MAX_BYTES (UINT64_C(1) << 47) /* what an operation header can address */

/* Limits of the parameters fixed at creation. */
#define PH_SEGMENT_MIN_BYTES 16384u
#define PH_SEGMENT_MAX_BYTES 67108864u
#define PH_BUFFER_MIN_BYTES 16384u
#define PH_BUFFER_MAX_BYTES 67108864u
#define PH_SEGMENTS_MIN 3u
#define PH_SEGMENTS_MAX 4096u

#define PH_HEAP_MAGIC "\x89pheap\r\n"
#define PH_LOG_MAGIC "\x89phlog\r\n"

enum ph_superblock_state {
    PH_STATE_CLEAN = 1, /* everything is in the heap file; the log holds nothing */
    PH_STATE_OPEN = 2   /* the log from the checkpoint on belongs to the heap */
};

/* Feature flags.  A reader that does not know an incompat flag must refuse; compat flags may be ignored. */
#define PH_INCOMPAT_SUMS 1u /* a checksum of each page is kept in NAME-sum */
#define PH_INCOMPAT_KNOWN PH_INCOMPAT_SUMS
#define PH_COMPAT_KNOWN 0u

/* Two copies, at 0 and 4096; generation g is in copy g % 2.  One sector, so a write leaves it old or new. */
struct ph_superblock {
    uint8_t magic[8];            /*   0 */
    uint32_t byte_order;         /*   8 */
    uint32_t format_version;     /*  12 */
    uint32_t compat_flags;       /*  16 */
    uint32_t incompat_flags;     /*  20 */
    uint32_t page_bytes;         /*  24 */
    uint32_t state;              /*  28 enum ph_superblock_state */
    uint8_t identity[16];        /*  32 drawn at random at creation */
    uint64_t generation;         /*  48 one more with each superblock written */
    uint64_t epoch;              /*  56 of the records after the checkpoint */
    uint64_t checkpoint_lsn;     /*  64 the heap file holds every record before this */
    uint64_t checkpoint_chain;   /*  72 checksum of the last of them */
    uint64_t checkpoint_version; /*  80 commit number of the last of them */
    uint64_t checkpoint_segment; /*  88 sequence number of a segment, and */
    uint64_t checkpoint_offset;  /*  96 the place in it of a batch that begins at or before checkpoint_lsn */
    uint64_t heap_bytes;         /* 104 logical size at the checkpoint */
    uint64_t durable_lsn;        /* 112 the log was on stable storage up to here (R9) */
    uint64_t log_limit_bytes;    /* 120 */
    uint32_t segment_bytes;      /* 128 */
    uint32_t buffer_bytes;       /* 132 */
    uint32_t copy;               /* 136 0 or 1: which copy this is, against misdirected writes */
    uint32_t file_mode;          /* 140 permission bits for the files beside */
    uint64_t created_ns;         /* 144 CLOCK_REALTIME */
    uint8_t reserved[352];       /* 152 zero */
    uint64_t checksum;           /* 504 of bytes 0-503 */
};
#define PH_SUPERBLOCK_OFFSET(copy) ((uint64_t)(copy)*PH_PAGE_BYTES)

/* The first sector of the log file.  Segments follow from PH_LOG_SEGMENTS on, one behind the other. */
struct ph_log_header {
    uint8_t magic[8];        /*   0 */
    uint32_t byte_order;     /*   8 */
    uint32_t format_version; /*  12 */
    uint8_t identity[16];    /*  16 of the heap */
    uint64_t epoch;          /*  32 the newest epoch that this log may hold */
    uint64_t start_lsn;      /*  40 where that epoch began: */
    uint64_t start_chain;    /*  48 */
    uint64_t start_version;  /*  56 */
    uint64_t start_segment;  /*  64 sequence number */
    uint32_t segment_bytes;  /*  72 */
    uint32_t block_bytes;    /*  76 every flush begins on a multiple of this: 512 or 4096 */
    uint8_t reserved[424];   /*  80 zero */
    uint64_t checksum;       /* 504 of bytes 0-503 */
};
#define PH_LOG_SEGMENTS 4096u

/* The first bytes of a segment; batches begin in its second block. */
struct ph_segment_header {
    uint32_t magic;     /*  0 */
    uint32_t reserved;  /*  4 zero */
    uint64_t heap_id;   /*  8 */
    uint64_t epoch;     /* 16 */
    uint64_t sequence;  /* 24 one more for each segment put to use */
    uint64_t first_lsn; /* 32 of the first batch */
    uint64_t durable;   /* 40 when it was put to use */
    uint64_t unused;    /* 48 zero */
    uint64_t checksum;  /* 56 of bytes 0-55 */
};
#define PH_SEGMENT_MAGIC 0x47455350u /* "PSEG" */

/* What one flush wrote: this header at the start of a block, whole records, zeros to the end of the last block. */
struct ph_batch_header {
    uint32_t magic;    /*  0 */
    uint32_t length;   /*  4 bytes of records */
    uint64_t heap_id;  /*  8 */
    uint64_t epoch;    /* 16 */
    uint64_t lsn;      /* 24 of the first record */
    uint64_t durable;  /* 32 the log was on stable storage up to here when this was written: R9's D */
    uint64_t chain;    /* 40 checksum of the record before */
    uint64_t sequence; /* 48 of the segment */
    uint64_t checksum; /* 56 of bytes 0-55 */
};
#define PH_BATCH_MAGIC 0x48435450u /* "PTCH" */

/* The first sector of the sums file.  The sum of page p stands at PH_SUMS_START + 8 p. */
struct ph_sums_header {
    uint8_t magic[8];        /*   0 */
    uint32_t byte_order;     /*   8 */
    uint32_t format_version; /*  12 */
    uint8_t identity[16];    /*  16 of the heap */
    uint32_t flags;          /*  32 enum ph_sums_flags */
    uint32_t reserved;       /*  36 zero */
    uint64_t lsn;        /*  40 checkpoint_lsn and checkpoint_chain of the superblock that was the newest when this */
    uint64_t chain;      /*  48 was written, and */
    uint64_t next_lsn;   /*  56 of the one that was to be written then */
    uint64_t next_chain; /*  64 */
    uint8_t unused[432]; /*  72 zero */
    uint64_t checksum;   /* 504 of bytes 0-503 */
};
#define PH_SUMS_MAGIC "\x89phsum\r\n"
#define PH_SUMS_START 4096u
enum ph_sums_flags { PH_SUMS_COMPLETE = 1 /* a page without a sum is zero */ };
#define PH_SUM_NONE UINT64_C(0)    /* the page was never written, or not since the sums were begun */
#define PH_SUM_DAMAGED UINT64_C(1) /* it had another sum than it should when part of it was overwritten */

/* A redo record: this header, then operations. */
struct ph_record_header {
    uint64_t checksum; /*  0 of bytes 8 to length-1 */
    uint32_t length;   /*  8 bytes, header included, a multiple of 8 */
    uint16_t flags;    /* 12 enum ph_record_flags */
    uint16_t reserved; /* 14 zero */
    uint64_t lsn;      /* 16 position in the stream of records: that of the one before plus its length */
    uint64_t durable;  /* 24 durable LSN when this was encoded */
    uint64_t chain;    /* 32 checksum of the record before */
    uint64_t heap_id;  /* 40 XXH3-64 of the heap's identity */
    uint64_t epoch;    /* 48 */
    uint64_t version;  /* 56 number of the commit that this record is, or is part of */
};

enum ph_record_flags {
    PH_RECORD_FIRST = 1, /* begins a transaction; an unfinished one before it is void */
    PH_RECORD_LAST = 2   /* commits it */
};

/*
 * An operation begins with one word: bits 0-43 offset / 8, bits 44-47 kind, bits 48-63 count.
 *   WRITE  count words follow and go to the offset
 *   FILL   one word follows: the value of each of count words (at most 8192) from the offset on
 *   GROW   one word follows: the new logical size of the heap in bytes, not less than before (offset and count 0)
 */
enum ph_operation_kind { PH_OPERATION_WRITE = 1, PH_OPERATION_FILL = 2, PH_OPERATION_GROW = 3 };
#define PH_OPERATION_COUNT_MAX 65535u
#define PH_FILL_COUNT_MAX 8192u /* bounds what a hostile log can make of few bytes */

/*
 * An archive (pheap backup): this header, one zstd frame, a footer.  The frame holds operations as above, without
 * records, and ends with one.
 */
#define PH_ARCHIVE_MAGIC "\x89pharc\r\n"
#define PH_ARCHIVE_VERSION 1u
#define PH_ARCHIVE_INCOMPAT_KNOWN 0u
#define PH_ARCHIVE_WINDOW_MIN 10u
#define PH_ARCHIVE_WINDOW_MAX 27u /* bounds the memory of who reads it: 128 MiB */
struct ph_archive_header {
    uint8_t magic[8];             /*   0 */
    uint32_t byte_order;          /*   8 */
    uint32_t format_version;      /*  12 of the archive */
    uint32_t compat_flags;        /*  16 of the archive */
    uint32_t incompat_flags;      /*  20 */
    uint32_t window_log;          /*  24 the frame's window is 2^window_log bytes */
    uint32_t heap_format;         /*  28 from here to created_ns: as in the superblock of the heap */
    uint32_t heap_compat_flags;   /*  32 */
    uint32_t heap_incompat_flags; /*  36 */
    uint8_t identity[16];         /*  40 */
    uint64_t heap_bytes;          /*  56 logical size where the operations begin */
    uint64_t log_limit_bytes;     /*  64 */
    uint32_t segment_bytes;       /*  72 */
    uint32_t buffer_bytes;        /*  76 */
    uint32_t page_bytes;          /*  80 */
    uint32_t file_mode;           /*  84 */
    uint64_t created_ns;          /*  88 */
    uint64_t archived_ns;         /*  96 CLOCK_REALTIME when the backup began */
    uint8_t reserved[16];         /* 104 zero */
    uint64_t checksum;            /* 120 of bytes 0-119 */
};
struct ph_archive_footer {
    uint8_t magic[8];          /*  0 */
    uint64_t version;          /*  8 number of the commit that the archive shows */
    uint64_t heap_bytes;       /* 16 logical size at that commit */
    uint64_t operation_count;  /* 24 in the frame */
    uint64_t content_bytes;    /* 32 of the frame, uncompressed */
    uint64_t archive_bytes;    /* 40 of the whole archive, footer included */
    uint64_t content_checksum; /* 48 of the uncompressed content */
    uint64_t checksum;         /* 56 of all bytes of the archive before this field */
};
#define PH_ARCHIVE_END_MAGIC "pharcend"

#define PH_ASSERT_AT(type, field, at) _Static_assert(offsetof(struct type, field) == (at), #type "." #field)
_Static_assert(sizeof(struct ph_superblock) == PH_SECTOR_BYTES, "superblock is one sector");
PH_ASSERT_AT(ph_superblock, byte_order, 8);
PH_ASSERT_AT(ph_superblock, format_version, 12);
PH_ASSERT_AT(ph_superblock, compat_flags, 16);
PH_ASSERT_AT(ph_superblock, incompat_flags, 20);
PH_ASSERT_AT(ph_superblock, page_bytes, 24);
PH_ASSERT_AT(ph_superblock, state, 28);
PH_ASSERT_AT(ph_superblock, identity, 32);
PH_ASSERT_AT(ph_superblock, generation, 48);
PH_ASSERT_AT(ph_superblock, epoch, 56);
PH_ASSERT_AT(ph_superblock, checkpoint_lsn, 64);
PH_ASSERT_AT(ph_superblock, checkpoint_chain, 72);
PH_ASSERT_AT(ph_superblock, checkpoint_version, 80);
PH_ASSERT_AT(ph_superblock, checkpoint_segment, 88);
PH_ASSERT_AT(ph_superblock, checkpoint_offset, 96);
PH_ASSERT_AT(ph_superblock, heap_bytes, 104);
PH_ASSERT_AT(ph_superblock, durable_lsn, 112);
PH_ASSERT_AT(ph_superblock, log_limit_bytes, 120);
PH_ASSERT_AT(ph_superblock, segment_bytes, 128);
PH_ASSERT_AT(ph_superblock, buffer_bytes, 132);
PH_ASSERT_AT(ph_superblock, copy, 136);
PH_ASSERT_AT(ph_superblock, file_mode, 140);
PH_ASSERT_AT(ph_superblock, created_ns, 144);
PH_ASSERT_AT(ph_superblock, reserved, 152);
PH_ASSERT_AT(ph_superblock, checksum, 504);
_Static_assert(sizeof(struct ph_log_header) == PH_SECTOR_BYTES, "log header is one sector");
PH_ASSERT_AT(ph_log_header, identity, 16);
PH_ASSERT_AT(ph_log_header, epoch, 32);
PH_ASSERT_AT(ph_log_header, start_lsn, 40);
PH_ASSERT_AT(ph_log_header, start_chain, 48);
PH_ASSERT_AT(ph_log_header, start_version, 56);
PH_ASSERT_AT(ph_log_header, start_segment, 64);
PH_ASSERT_AT(ph_log_header, segment_bytes, 72);
PH_ASSERT_AT(ph_log_header, block_bytes, 76);
PH_ASSERT_AT(ph_log_header, checksum, 504);
_Static_assert(sizeof(struct ph_sums_header) == PH_SECTOR_BYTES, "sums header is one sector");
PH_ASSERT_AT(ph_sums_header, byte_order, 8);
PH_ASSERT_AT(ph_sums_header, format_version, 12);
PH_ASSERT_AT(ph_sums_header, identity, 16);
PH_ASSERT_AT(ph_sums_header, flags, 32);
PH_ASSERT_AT(ph_sums_header, lsn, 40);
PH_ASSERT_AT(ph_sums_header, chain, 48);
PH_ASSERT_AT(ph_sums_header, next_lsn, 56);
PH_ASSERT_AT(ph_sums_header, next_chain, 64);
PH_ASSERT_AT(ph_sums_header, checksum, 504);
_Static_assert(sizeof(struct ph_segment_header) == 64, "segment header");
PH_ASSERT_AT(ph_segment_header, heap_id, 8);
PH_ASSERT_AT(ph_segment_header, epoch, 16);
PH_ASSERT_AT(ph_segment_header, sequence, 24);
PH_ASSERT_AT(ph_segment_header, first_lsn, 32);
PH_ASSERT_AT(ph_segment_header, durable, 40);
PH_ASSERT_AT(ph_segment_header, checksum, 56);
_Static_assert(sizeof(struct ph_batch_header) == 64, "batch header");
PH_ASSERT_AT(ph_batch_header, length, 4);
PH_ASSERT_AT(ph_batch_header, heap_id, 8);
PH_ASSERT_AT(ph_batch_header, epoch, 16);
PH_ASSERT_AT(ph_batch_header, lsn, 24);
PH_ASSERT_AT(ph_batch_header, durable, 32);
PH_ASSERT_AT(ph_batch_header, chain, 40);
PH_ASSERT_AT(ph_batch_header, sequence, 48);
PH_ASSERT_AT(ph_batch_header, checksum, 56);
_Static_assert(sizeof(struct ph_record_header) == 64, "record header");
PH_ASSERT_AT(ph_record_header, length, 8);
PH_ASSERT_AT(ph_record_header, flags, 12);
PH_ASSERT_AT(ph_record_header, lsn, 16);
PH_ASSERT_AT(ph_record_header, durable, 24);
PH_ASSERT_AT(ph_record_header, chain, 32);
PH_ASSERT_AT(ph_record_header, heap_id, 40);
PH_ASSERT_AT(ph_record_header, epoch, 48);
PH_ASSERT_AT(ph_record_header, version, 56);
_Static_assert(sizeof(struct ph_archive_header) == 128, "archive header");
PH_ASSERT_AT(ph_archive_header, byte_order, 8);
PH_ASSERT_AT(ph_archive_header, format_version, 12);
PH_ASSERT_AT(ph_archive_header, compat_flags, 16);
PH_ASSERT_AT(ph_archive_header, incompat_flags, 20);
PH_ASSERT_AT(ph_archive_header, window_log, 24);
PH_ASSERT_AT(ph_archive_header, heap_format, 28);
PH_ASSERT_AT(ph_archive_header, heap_compat_flags, 32);
PH_ASSERT_AT(ph_archive_header, heap_incompat_flags, 36);
PH_ASSERT_AT(ph_archive_header, identity, 40);
PH_ASSERT_AT(ph_archive_header, heap_bytes, 56);
PH_ASSERT_AT(ph_archive_header, log_limit_bytes, 64);
PH_ASSERT_AT(ph_archive_header, segment_bytes, 72);
PH_ASSERT_AT(ph_archive_header, buffer_bytes, 76);
PH_ASSERT_AT(ph_archive_header, page_bytes, 80);
PH_ASSERT_AT(ph_archive_header, file_mode, 84);
PH_ASSERT_AT(ph_archive_header, created_ns, 88);
PH_ASSERT_AT(ph_archive_header, archived_ns, 96);
PH_ASSERT_AT(ph_archive_header, reserved, 104);
PH_ASSERT_AT(ph_archive_header, checksum, 120);
_Static_assert(sizeof(struct ph_archive_footer) == 64, "archive footer");
PH_ASSERT_AT(ph_archive_footer, version, 8);
PH_ASSERT_AT(ph_archive_footer, heap_bytes, 16);
PH_ASSERT_AT(ph_archive_footer, operation_count, 24);
PH_ASSERT_AT(ph_archive_footer, content_bytes, 32);
PH_ASSERT_AT(ph_archive_footer, archive_bytes, 40);
PH_ASSERT_AT(ph_archive_footer, content_checksum, 48);
PH_ASSERT_AT(ph_archive_footer, checksum, 56);
#undef PH_ASSERT_AT

#endif
