/* Virtual memory as a library: the application manages its own pages, and the kernel only holds
 * the translations that are in use (docs/vm.md).
 *
 * It manages one range of addresses, the arena, in which regions are made. A page of a region comes
 * into being when it is first touched. Where the truth about translations is kept, in a radix tree
 * or in an inverted (hashed) table, is the application's choice: vm_init(&(struct vm_options){
 * .shape = &vm_hashed}).
 *
 * Rules of use:
 *   - one context, that of the CPU on which the program runs. The library takes over exceptions
 *     (rt_on_exception) and requests (rt_on_revoke).
 *   - Stacks, code and what handlers need lie outside the arena.
 *   - A call of the kernel does not fault: touch memory of the arena before its address is given
 *     to one.
 *   - Pages can go at any time when the kernel asks for some; they come back when they are
 *     touched. */
#pragma once
#include "rt.h"
#include "vm/shape.h"

#define VM_REGIONS 64
#define VM_CAPS 4 /* runs that one region can import */

enum vm_access { VM_NONE = 0, VM_READ = 1, VM_WRITE = 3 };
enum vm_region_flag {
    VM_DISCARD = 1, /* contents may be thrown away: the page begins anew, zero or filled */
    VM_EXECUTE = 2
};
enum vm_why {
    VM_DENIED_READ = 1,
    VM_DENIED_WRITE = 2,
    VM_LOST = 3 /* taken, and its contents could not be saved; true: go on with a new page */
};

struct vm_region {
    u64 at, pages;
    u32 flags; /* bits of vm_region_flag */
    u32 ahead; /* pages that one first touch brings in, at most 16; 0 is 1 */
    /* Gives a page its first contents; NULL: zeros. May touch other memory of the arena. */
    void (*fill)(struct vm_region *region, u64 index, void *page);
    /* An access that is not allowed, or a loss. True: try again; false, or NULL: the exception
     * goes on. */
    bool (*denied)(struct vm_region *region, u64 address, u32 why);
    void *own; /* the application's */
    /* The library's: */
    u32 number;
    u32 caps;
    struct cap cap[VM_CAPS];
};

struct vm_options {
    const struct vm_shape *shape; /* NULL: vm_radix */
    u64 pages;                    /* addresses in the arena; 0: 1 GiB of them */
    u32 frames;                   /* most pages with contents, in memory or saved; 0: 16,384 */
    rt_exception_handler exception; /* for all other exceptions */
    rt_revoke_handler revoke;       /* told after pages were seen to: for slices and flows */
};
/* 0 or an error. */
s64 vm_init(const struct vm_options *options);

/* A region of so many pages, in whole or in part made by the caller: flags, ahead, fill, denied,
 * own are taken from *want (NULL: demand zero). Pages begin readable and writable. NULL: no
 * room. */
struct vm_region *vm_make(u64 pages, const struct vm_region *want);
void vm_end(struct vm_region *region);

/* What the application may do with a range of whole pages in one region: 0 or an error. */
s64 vm_protect(const volatile void *at, u64 pages, u32 access);
struct vm_change {
    const volatile void *at;
    u64 pages;
    u32 access; /* a vm_access */
};
/* The same for many ranges, with as few calls as there are 64 of them. */
s64 vm_protect_all(const struct vm_change *change, u32 count);

/* Whether a page was modified since it came into being or since vm_clean: a load from this
 * environment's own page table. Pages that were unmapped meanwhile are remembered elsewhere. */
struct vm_view {
    u64 base;
    u64 dropped;              /* some page with its bit set was unmapped */
    const volatile u64 *entry; /* of the arena's first page */
};
extern struct vm_view vm_view;
bool vm_dirty_unmapped(u64 number);
static inline bool vm_dirty(const volatile void *at) {
    u64 number = ((u64)at - vm_view.base) / RT_PAGE;

    return vm_view.entry[number] & 64 || (vm_view.dropped && vm_dirty_unmapped(number));
}
s64 vm_clean(const volatile void *at, u64 pages);

/* ---- sharing */
/* A second region with the same contents: pages are copied when either of the two writes. */
struct vm_region *vm_copy(struct vm_region *region);
/* Capabilities for pages [first, first + pages) of a region, for another environment (`to`: an ENV capability of it; NULL:
 * any) to map. With VM_READ the pages are copied when this side writes to them; with VM_WRITE
 * both see all. Returns how many runs of pages were stored in *cap, or an error; all pages are
 * brought in. They stay until vm_settle. */
s64 vm_export(struct vm_region *region, u64 first, u64 pages, u32 access, const struct cap *to,
              struct cap *cap, u32 most);
/* Says that those who were to map the exported pages have done so: from now on the kernel's count
 * of bindings tells which are still shared. */
void vm_settle(void);
/* A region of another environment's pages. With `copy` a page is copied when it is written, so that
 * together with vm_export the two are as after a fork. */
struct vm_region *vm_import(const struct cap *cap, u32 count, bool copy);

/* ---- memory pressure */
/* Gives back so many pages, clean ones first. Returns how many it gave. It is done by itself
 * when the kernel asks. */
u32 vm_give(u32 pages);
/* Binds a loss page with up to `most` places of a swap server (vm/swap.h) preloaded, and saves
 * there itself. */
s64 vm_swap(u32 server, u32 most);
/* Declares the page behind an address of the program vital. */
s64 vm_vital(const void *at);

struct vm_counts {
    u64 resident, saved; /* pages now */
    u64 faults, fresh, copies, reloads, discarded, saves, given, lost;
};
const struct vm_counts *vm_counts(void);
