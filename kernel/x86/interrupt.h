/* Interrupt vectors for devices (apic.c). */
#pragma once
#include "lib/base.h"

#define VECTOR_DEVICE 0x40 /* first vector for devices; 0x40 to 0x5f */
#define VECTOR_TIMER 0xf0
#define VECTOR_SHOOTDOWN 0xf1
#define VECTOR_KICK 0xf2
#define VECTOR_SPURIOUS 0xff

/* Allots a vector whose handler runs with interrupts off; boot time only. */
u32 interrupt_vector(void (*handler)(u32 argument), u32 argument);
/* Routes a global system interrupt to that vector on CPU 0 through the I/O APIC that has it. */
void interrupt_route(u32 gsi, u32 vector, bool level, bool active_low);
/* What a device writes, and where, to raise the vector on a CPU by MSI or MSI-X. */
void interrupt_message(u32 vector, u32 cpu, u64 *address, u32 *data);
