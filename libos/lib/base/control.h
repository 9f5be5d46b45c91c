/* Orders to init by control transfer: rdi: a control_order; rsi, rdx: the environment's name as in
 * the manifest, 16 bytes; for CONTROL_MEMORY, rsi: pages. The reply says that the order was taken down; what
 * became of it is in the exposed pages (for memory: the caller's env.page_limit rises, or does not). The reply's rdi is 0, or an error: E_NO_RIGHT (the caller has no `control`
 * in the manifest), E_BUSY (one order is still being carried out), E_BAD_ARGUMENT. */
#pragma once

enum control_order {
    CONTROL_KILL = 1, /* destroy it, and do not restart it */
    CONTROL_START = 2, /* start it from the manifest, if it does not run */
    CONTROL_MEMORY = 3 /* the caller needs so many pages more than it may own; needs no `control` */
};
