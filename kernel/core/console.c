/* Calls on the console and on the machine as a whole. */
#include "core/console.h"

#include "core/cap.h"
#include "core/cpu.h"
#include "core/env.h"
#include "core/event.h"
#include "core/lock.h"
#include "core/page.h"
#include "core/schedule.h"
#include "core/user.h"
#include "dev/dev.h"
#include "dev/serial.h"
#include "targe/call_table.h"
#include "x86/clock.h"
#include "x86/io.h"

#define MOST_TEXT 1024
#define AT_ONCE 64 /* characters that one interrupt handles */
#define LOOKS 100 /* in a second, whether there is room for what is typed */

static struct lock lock = LOCK("console", LOCK_CONSOLE);
static u32 reader; /* environment that receives what is typed; 0: none */
static u64 reader_generation;

bool console_held;

/* Reads what has come. What nobody reads yet stays in the line, which holds back who sends. So does what there is no room for:
 * then the timer makes the line interrupt again. */
static bool typed(void) {
    spin_lock(&lock);
    u32 to = page_generation(page_get(reader)) == reader_generation ? reader : 0;
    spin_unlock(&lock);
    if (!to)
        return false; /* call_console_bind goes on */
    for (int i = 0, c; i < AT_ONCE; i++) {
        if (event_half_full(to)) {
            console_held = true;
            schedule_lend(0, rdtsc() + tsc_hz / LOOKS);
            return false;
        }
        if ((c = serial_read()) < 0)
            break;
        event_post(to, EVENT_CONSOLE, 0, (u64)c, 0);
    }
    return true;
}

void console_init(void) {
    serial_interrupt = typed;
    serial_begin();
}

s64 call_console_write(u64 console, u64 text, u32 length) {
    char buffer[MOST_TEXT];

    TRY(cap_present(console, CAP_CONSOLE, RIGHT_WRITE, NULL));
    if (length > MOST_TEXT)
        return E_BAD_ARGUMENT;
    TRY(user_read(buffer, text, length));
    serial_write(buffer, length);
    return 0;
}

s64 call_console_bind(u64 console) {
    TRY(cap_present(console, CAP_CONSOLE, RIGHT_READ, NULL));
    spin_lock(&lock);
    reader = current_env()->self;
    reader_generation = page_generation(page_get(reader));
    spin_unlock(&lock);
    serial_listen(true); /* after the reader is there, since typed() looks the other way round */
    return 0;
}

s64 call_machine_off(u64 machine, u32 how) {
    TRY(cap_present(machine, CAP_MACHINE, RIGHT_POWER, NULL));
    if (how > POWER_FAIL)
        return E_BAD_ARGUMENT;
    if (how == POWER_RESET) /* for who sees only a reset, as after a triple fault */
        print("targe: reset as asked\n");
    machine_end(how);
}

s64 call_trace_set(u64 machine, u64 mask) {
    TRY(cap_present(machine, CAP_MACHINE, RIGHT_TRACE, NULL));
    u64 old = this_cpu()->trace->mask;
    for (u32 n = 0; n < cpu_count; n++)
        __atomic_store_n(&cpus[n]->trace->mask, mask, __ATOMIC_RELAXED);
    return (s64)old;
}
