/* What kernel sources need of the kernel when they are built into a test of the host. A panic
 * ends the test that caused it as failed. */
#include "lib/base.h"

#include <setjmp.h>
#include <stdio.h>

#include <cmocka.h>

void vprint(const char *format, va_list args) { vprintf(format, args); }

void print(const char *format, ...) {
    va_list args;
    va_start(args, format);
    vprint(format, args);
    va_end(args);
}

void panic(const char *format, ...) {
    char text[256];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof(text), format, args);
    va_end(args);
    fail_msg("panic: %s", text);
    __builtin_unreachable();
}
