/* Formatted text, to memory or to the console. */
#pragma once
#include "rt.h"

/* %s %c %d %u %x %% with l, width, 0 and - ; returns the length that it would have, as snprintf does. */
int format(char *to, size_t size, const char *text, ...) __attribute__((format(printf, 3, 4)));
int vformat(char *to, size_t size, const char *text, va_list args);

/* Where print goes: a CONSOLE capability with WRITE; NULL: nowhere. A program with a start page finds it there. */
void print_to(const struct cap *console);
void print(const char *text, ...) __attribute__((format(printf, 1, 2)));
void print_text(const char *text, size_t length);

const char *error_name(s64 error); /* of a kernel call */
