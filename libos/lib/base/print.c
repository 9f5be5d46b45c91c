/* Formatted text. */
#include "base/print.h"

#include "base/start.h"
#include "targe/names.h"

struct sink {
    char *to;
    size_t size, used;
};

static void put(struct sink *s, char c) {
    if (s->used + 1 < s->size)
        s->to[s->used] = c;
    s->used++;
}

static void put_padded(struct sink *s, const char *text, int length, int width, bool left, char pad) {
    for (int i = length; !left && i < width; i++)
        put(s, pad);
    for (int i = 0; i < length; i++)
        put(s, text[i]);
    for (int i = length; left && i < width; i++)
        put(s, ' ');
}

static void put_number(struct sink *s, u64 n, u32 base, bool negative, int width, bool left, char pad) {
    char digits[24];
    int at = sizeof digits;

    do
        digits[--at] = "0123456789abcdef"[n % base];
    while (n /= base);
    if (negative)
        digits[--at] = '-';
    put_padded(s, digits + at, (int)sizeof digits - at, width, left, pad);
}

int vformat(char *to, size_t size, const char *text, va_list args) {
    struct sink s = {to, size, 0};

    for (; *text; text++) {
        if (*text != '%') {
            put(&s, *text);
            continue;
        }
        bool left = false, wide = false;
        char pad = ' ';
        int width = 0;
        for (text++; *text == '-' || *text == '0'; text++) {
            left |= *text == '-';
            pad = *text == '0' ? '0' : pad;
        }
        for (; *text >= '0' && *text <= '9'; text++)
            width = width * 10 + *text - '0';
        for (; *text == 'l'; text++)
            wide = true;
        if (*text == 'd') {
            s64 n = wide ? va_arg(args, s64) : va_arg(args, int);
            put_number(&s, n < 0 ? -(u64)n : (u64)n, 10, n < 0, width, left, pad);
        } else if (*text == 'u' || *text == 'x') {
            u64 n = wide ? va_arg(args, u64) : va_arg(args, u32);
            put_number(&s, n, *text == 'u' ? 10 : 16, false, width, left, pad);
        } else if (*text == 's') {
            const char *string = va_arg(args, const char *);
            put_padded(&s, string, (int)strlen(string), width, left, ' ');
        } else if (*text == 'c') {
            put(&s, (char)va_arg(args, int));
        } else if (*text) {
            put(&s, *text);
        } else {
            break;
        }
    }
    if (size)
        to[s.used < size ? s.used : size - 1] = 0;
    return (int)s.used;
}

int format(char *to, size_t size, const char *text, ...) {
    va_list args;

    va_start(args, text);
    int length = vformat(to, size, text, args);
    va_end(args);
    return length;
}

static const struct cap *console;
static bool chosen;

void print_to(const struct cap *to) {
    console = to;
    chosen = true;
}

void print_text(const char *text, size_t length) {
    if (!chosen) {
        const struct start_item *item = start_item("console", 0);
        print_to(item ? &item->cap : NULL);
    }
    for (size_t part; console && length; text += part, length -= part) {
        part = length < 1024 ? length : 1024;
        sys_console_write(console, text, (u32)part);
    }
}

void print(const char *text, ...) {
    char line[1024];
    va_list args;

    va_start(args, text);
    int length = vformat(line, sizeof line, text, args);
    va_end(args);
    print_text(line, (size_t)length < sizeof line ? (size_t)length : sizeof line - 1);
}

const char *error_name(s64 error) {
    switch (error) {
#define CASE(number, name) \
    case number: \
        return name;
        ERROR_NAMES(CASE)
#undef CASE
    default:
        return error < 0 ? "unknown error" : "ok";
    }
}
