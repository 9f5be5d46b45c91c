/* Time: the TSC's rate, the local APIC timer's rate, the date at boot. */
#pragma once
#include "lib/base.h"

extern u64 tsc_hz;
extern u64 apic_timer_hz;
void clock_init(void);       /* measures both rates; after apic_init_cpu */
u64 clock_date(void);        /* seconds since 1970, from the CMOS clock */
void clock_wait(u64 microseconds); /* boot time only */
