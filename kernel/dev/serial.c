/* The first serial port: a 16550 at 0x3f8, interrupt 4. */
#include "dev/serial.h"

#include "core/lock.h"
#include "dev/dev.h"
#include "x86/interrupt.h"
#include "x86/io.h"

#define PORT 0x3f8
#define LINE_STATUS (PORT + 5)

bool (*serial_interrupt)(void);
static struct lock lock = LOCK("serial", LOCK_SERIAL);

void serial_init(void) {
    outb(PORT + 1, 0);    /* no interrupts */
    outb(PORT + 3, 0x80); /* divisor */
    outb(PORT, 1);
    outb(PORT + 1, 0);
    outb(PORT + 3, 3);    /* 8N1 */
    outb(PORT + 2, 0xc7); /* FIFOs on and empty */
    outb(PORT + 4, 0x0b); /* DTR, RTS, interrupt line enabled */
}

void serial_listen(bool on) {
    outb(PORT + 4, on ? 0x0b : 0x09);
    outb(PORT + 1, on);
}

static void interrupt(u32 unused) {
    serial_listen(false); /* so that what is left interrupts again: the line is triggered by edges */
    if (serial_interrupt())
        serial_listen(true);
}

void serial_begin(void) {
    u32 vector = interrupt_vector(interrupt, 0);
    u16 flags = tables.isa[4].flags;

    interrupt_route(tables.isa[4].gsi, vector, (flags & 0xc) == 0xc, (flags & 3) == 3);
}

static void put(char c) {
    for (int tries = 0; !(inb(LINE_STATUS) & 0x20) && tries < 100000; tries++)
        cpu_relax();
    outb(PORT, (u8)c);
}

void serial_write(const char *text, u32 length) {
    spin_lock(&lock);
    for (u32 i = 0; i < length; i++) {
        if (text[i] == '\n')
            put('\r');
        put(text[i]);
    }
    spin_unlock(&lock);
}

int serial_read(void) { return inb(LINE_STATUS) & 1 ? inb(PORT) : -1; }
