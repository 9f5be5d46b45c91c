/* The console as a resource: who prints, and who receives what is typed. */
#pragma once
#include "dev/serial.h"

void console_init(void); /* at boot, once interrupts can be routed */
extern bool console_held; /* what is typed waits for room in its reader's ring */
static inline void console_tick(void) { /* when the timer rings */
    if (unlikely(console_held)) {
        console_held = false;
        serial_listen(true);
    }
}
