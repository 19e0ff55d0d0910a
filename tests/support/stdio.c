/* SPDX-License-Identifier: MIT */
/* Linked into every test: what it prints appears line by line, so that one that hangs or crashes shows how far it came. */
#include <stdio.h>

__attribute__((constructor)) static void print_by_line(void)
{
    (void)setvbuf(stdout, NULL, _IOLBF, 0);
}
