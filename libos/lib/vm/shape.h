/* Where translations are kept: from page numbers of the arena to frames (what is known of a
 * page's contents). Two ways to keep them, behind one interface; `make` may fail for want of
 * memory (NULL) and moves what earlier calls returned. A value of 0 means that there is none. */
#pragma once
#include "targe/abi.h"

struct vm_shape {
    const char *name;
    int (*init)(u64 pages);        /* of the arena; 0: no memory */
    u32 *(*find)(u32 number);      /* NULL: none */
    u32 *(*make)(u32 number);
    void (*drop)(u32 number);
};
extern const struct vm_shape vm_radix, vm_hashed;
