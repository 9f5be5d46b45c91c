/* Appending formatted text. */
#include "monitor/sheet.h"

#include "base/print.h"

void say(struct sheet *s, const char *text, ...) {
    u32 room = s->size - s->used;
    va_list args;

    va_start(args, text);
    u32 length = (u32)vformat(s->at + s->used, room, text, args);
    va_end(args);
    s->used += length < room ? length : room - 1;
}
