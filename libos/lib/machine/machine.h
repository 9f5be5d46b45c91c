/* The pages that the kernel exposes, mapped read-only where a libOS can look at them. All that
 * they hold may change at any moment. NULL: there is no such object now. Pointers to environments and
 * flows are good until machine_forget, or until 64 others were asked for; the others for ever. */
#pragma once
#include "targe/abi.h"

const struct info *machine_info(void);
const struct page *machine_pages(void); /* info->pages elements */
const struct env *machine_env(u32 page);
const struct slices *machine_slices(u32 cpu);
const struct trace *machine_trace(u32 cpu);
const struct flow *machine_flow(u32 page);
/* Lets go of environments and flows, so that their pages can be used again when they end. */
void machine_forget(void);
