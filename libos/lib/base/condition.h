/* Conditions on packets, as a filter to bind. */
#pragma once
#include "rt.h"

/* The condition that a normal form came from, or one that is its equal: the widest filter that a
 * flow admits is that of its `receive`. */
void condition_from(struct condition *to, const struct masked *from);
