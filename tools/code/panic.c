/* What kernel sources need of the kernel when they are built into a tool of the host. */
#include "lib/base.h"

#include <stdio.h>
#include <stdlib.h>

void vprint(const char *format, va_list args) { vfprintf(stderr, format, args); }

void print(const char *format, ...) {
    va_list args;
    va_start(args, format);
    vprint(format, args);
    va_end(args);
}

void panic(const char *format, ...) {
    va_list args;
    va_start(args, format);
    vprint(format, args);
    va_end(args);
    abort();
}
