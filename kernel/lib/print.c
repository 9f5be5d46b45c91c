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

static void put_number(struct sink *s, u64 n, u32 base) {
    char digit[24];
    int count = 0;

    do
        digit[count++] = "0123456789abcdef"[n % base];
    while (n /= base);
    while (count)
        put(s, digit[--count]);
}

void vprint(const char *format, va_list args) {
    struct sink s = {.used = 0};

    for (; *format; format++) {
        if (*format != '%') {
            put(&s, *format);
            continue;
        }
        bool wide = *++format == 'l';
        format += wide;
        if (*format == 's') {
            for (const char *text = va_arg(args, const char *); *text; text++)
                put(&s, *text);
        } else {
            put_number(&s, wide ? va_arg(args, u64) : va_arg(args, u32), *format == 'u' ? 10 : 16);
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
