/* Local and I/O APICs, and the timer of each CPU. */
#pragma once
#include "lib/base.h"

void apic_init(void);     /* once: finds the local APIC, masks the old PICs */
void apic_init_cpu(void); /* on each CPU */
u32 apic_id(void);
void apic_send(u32 apic, u32 vector);               /* an interrupt to another CPU */
void apic_start(u32 apic, u32 page);                /* INIT and SIPI: run at page << 12 */
void apic_end(void);                                /* end of interrupt */
void apic_device(u32 vector);                       /* end of a device's interrupt, and its handler */
void apic_timer_run(void);                          /* to measure its rate: counts without interrupt */
u32 apic_timer_ran(void);                           /* ticks since then; the timer is as before */
void timer_set(u64 tsc);                            /* one interrupt at or soon after this TSC; NEVER: none */
