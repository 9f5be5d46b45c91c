/* Formatted printing to the serial line: for boot messages, panics and the checker.
 * Output of libOSes does not pass here (see console.c). */
#include "dev/serial.h"
#include "lib/base.h"

struct sink {
    char text[160]; /* written to the line when full and at the end, so that lines stay whole */
    u32 used;
};

static void put(struct sink *s, char c) {
    if (s->used == sizeof s->text) {
        serial_write(s->text, s->used);
        s->used = 0;
    }
    s->text[s->used++] = c;
}

static void put_number(struct sink *s, u64 n, u32 base, bool negative, int width, char pad) {
    char digit[24];
    int count = 0;

    do
        digit[count++] = "0123456789abcdef"[n % base];
    while (n /= base);
    if (negative)
        digit[count++] = '-';
    for (int i = count; i < width; i++)
        put(s, pad);
    while (count)
        put(s, digit[--count]);
}

static void put_string(struct sink *s, const char *text, int width) {
    int length = 0;

    for (text = text ? text : "(null)"; *text; text++, length++)
        put(s, *text);
    for (; length < width; length++)
        put(s, ' ');
}

void vprint(const char *format, va_list args) {
    struct sink s = {.used = 0};

    for (; *format; format++) {
        if (*format != '%') {
            put(&s, *format);
            continue;
        }
        char pad = ' ';
        int width = 0;
        bool wide = false;
        if (*++format == '0') {
            pad = '0';
            format++;
        }
        while (*format >= '0' && *format <= '9')
            width = width * 10 + *format++ - '0';
        while (*format == 'l') {
            wide = true;
            format++;
        }
        switch (*format) {
        case 'd': {
            s64 n = wide ? va_arg(args, s64) : va_arg(args, int);
            put_number(&s, n < 0 ? -(u64)n : (u64)n, 10, n < 0, width, pad);
            break;
        }
        case 'u':
        case 'x':
            put_number(&s, wide ? va_arg(args, u64) : va_arg(args, u32), *format == 'u' ? 10 : 16,
                       false, width, pad);
            break;
        case 'p':
            put_number(&s, (u64)va_arg(args, void *), 16, false, 16, '0');
            break;
        case 's':
            put_string(&s, va_arg(args, const char *), width);
            break;
        case 'c':
            put(&s, (char)va_arg(args, int));
            break;
        default:
            put(&s, *format);
        }
    }
    serial_write(s.text, s.used);
}

void print(const char *format, ...) {
    va_list args;

    va_start(args, format);
    vprint(format, args);
    va_end(args);
}
