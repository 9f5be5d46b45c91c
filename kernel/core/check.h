/* The checker: holds the page array against everything that binds pages. */
#pragma once
#include "lib/base.h"

void check_init(void); /* at boot: takes room for its counts */
/* Stops the other CPUs, counts, and prints what contradicts: how often. E_AGAIN: another CPU checks. */
s64 check_machine(void);
