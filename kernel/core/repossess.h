/* The abort protocol's way of making everybody let go of a page. */
#pragma once
#include "lib/base.h"

/* Removes every mapping of a page that takes no new ones (its type has changed, or it is being
 * taken), from every space and every CPU. No lock may be held. */
void repossess_mappings(u32 page);
