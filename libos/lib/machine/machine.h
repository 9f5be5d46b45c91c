/* The pages that the kernel exposes, mapped read-only where a libOS can look at them. All that
 * they hold may change at any moment. NULL: there is no such object now. Pointers to environments and
 * flows are good until machine_forget, or until 64 others were asked for; the others for ever. */
#pragma once
#include <stdbool.h>

#include "targe/abi.h"

const struct info *machine_info(void);
const struct page *machine_pages(void); /* info->pages elements */
const struct page *machine_page(u32 page); /* the descriptor of any page, devices' too */
const struct env *machine_env(u32 page);
const struct slices *machine_slices(u32 cpu);
const struct trace *machine_trace(u32 cpu);
u32 machine_free_pages(void); /* how many are free now */
const struct flow *machine_flow(u32 page);
/* For the program's exception handler: when an environment or a flow ends, the kernel unmaps its page from
 * whoever looks at it. True if this fault is of that kind; zeros are there to be read then, and the state says 'gone'. */
bool machine_fault(const struct frame *frame);
/* Lets go of environments and flows, so that nothing of them is looked at that has ended. */
void machine_forget(void);
