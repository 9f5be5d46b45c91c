/* Bits that an outsider cannot predict. */
#pragma once
#include "rt.h"

/* Random bytes of the processor if it has any; else what the clock gives, which is little. */
u64 random_word(void);
