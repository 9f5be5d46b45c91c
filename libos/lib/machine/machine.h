/* The pages that the kernel exposes, mapped read-only where a libOS can look at them. All that
 * they hold may change at any moment. A pointer stays good; what is returned is NULL if there is
 * no such object now. */
#pragma once
#include "targe/abi.h"

const struct info *machine_info(void);
const struct page *machine_pages(void); /* info->pages elements */
const struct env *machine_env(u32 page);
const struct slices *machine_slices(u32 cpu);
const struct trace *machine_trace(u32 cpu);
const struct flow *machine_flow(u32 page);
