/* SPDX-License-Identifier: MIT */
/* Linked into tests that count coverage, with --wrap=_exit: a child that ends by _exit() leaves its counts too. */
#include <unistd.h>

void __gcov_dump(void);
__attribute__((noreturn)) void __real__exit(int status);
__attribute__((noreturn)) void __wrap__exit(int status);

void __wrap__exit(int status)
{
    __gcov_dump();
    __real__exit(status);
}
