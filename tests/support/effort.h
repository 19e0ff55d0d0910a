/* SPDX-License-Identifier: MIT */
/* How thorough a search is: whole, but under a sanitizer, which sees in a part of it what it would see in all. */
#ifndef TESTS_SUPPORT_EFFORT_H
#define TESTS_SUPPORT_EFFORT_H

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define SANITIZED 1
#else
#define SANITIZED 0
#endif

/* The thread sanitizer, under which memory is slowest, has nothing to see in what one thread does: a little is enough. */
#ifdef __SANITIZE_THREAD__
#define WATCHES_THREADS 1
#else
#define WATCHES_THREADS 0
#endif

/* Of bits that are all tried, take one in so many. */
#define BIT_STEP (SANITIZED ? 7u : 1u)

#endif
