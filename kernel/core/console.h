/* The console as a resource: who prints, and who receives what is typed. */
#pragma once
#include "lib/base.h"

void console_init(void); /* at boot, once interrupts can be routed */
