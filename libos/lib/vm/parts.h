/* What the parts of the library share. Nothing here is for applications.
 *
 * Truth and cache: a block (2 MiB of addresses, what one table maps) holds what the application may
 * do; the shape leads from a page to its frame; the kernel's tables hold a part of it and may be
 * taken away at any time. A bit of block.mapped says only that a translation was once given to the
 * kernel.
 *
 * Page numbers are used again: what is remembered of a page has the generation that it had when it came, and a loss is of
 * that generation.
 *
 * While `busy` is set the structures are under change: a request that comes then only leaves a
 * note. */
#pragma once
#include "vm/vm.h"

#define BLOCK_PAGES 512
#define BATCH 64       /* elements of one call */
#define SPARES 64      /* zeroed pages in stock */
#define RUN 16         /* pages allocated at a time */
#define PTE_PRESENT 1ull
#define PTE_WRITE 2ull
#define PTE_ACCESSED 32ull
#define PTE_DIRTY 64ull

struct vm_block {
    u64 mapped[8], write[8], hidden[8], copy[8]; /* a bit for each page */
    u64 generation; /* of `table` */
    u32 table;      /* the page of its table; 0: none is bound */
    u32 region;     /* its region's number */
    u32 pages;      /* so many of its pages, from the first, are the region's */
    u32 flags;      /* MAP_EXECUTE, or 0 */
};

/* Pages of this environment's own, in a row and of one generation. */
struct vm_run {
    u64 generation;
    u32 page, count;
};

enum frame_flag {
    FRAME_CONTENT = 1,  /* not zeros, even if its translation is clean */
    FRAME_DIRTY = 2,    /* what vm_dirty says, when the translation was removed */
    FRAME_FOREIGN = 4,  /* another's page; `place` is the capability's place in the region */
    FRAME_EXPORTED = 8, /* others may map it */
    FRAME_BUSY = 16,    /* being filled: not to be evicted */
    FRAME_FILLED = 32,  /* as the region's fill left it, unless the translation is dirty */
    FRAME_ASTRAY = 64   /* `number` no longer has it: some other page does */
};
struct vm_frame {
    _Alignas(32) u64 generation; /* of `page`; 0: it was not to be known */
    u32 page;   /* where it is in memory; 0: nowhere */
    u32 place;  /* where its contents are saved; 0: nowhere */
    u32 number; /* the arena's page that has it (one of them); of a free frame or an orphan: the
                   next */
    u16 refs;   /* pages that have it */
    u16 flags;
};

struct vm {
    const struct vm_shape *shape;
    u64 base, pages;
    struct vm_block **block;
    struct vm_frame *frame; /* 1 to made - 1 */
    u32 frames, made, free_frame, hand;
    u64 window; /* addresses for SPARES pages, with a table bound */
    const struct env *env;
    const struct page *page_array;
    u32 zero_page; /* what the view shows where there is no table */
    u32 scratch;   /* takes the place of a page that goes while it is being copied */
    bool busy, noted, settled;
    bool torn;     /* that happened: what was copied is worth nothing */
    struct vm_counts counts;
    struct vm_region region[VM_REGIONS];
};
extern struct vm vm;

static inline bool bit(const u64 *bits, u32 number) {
    return bits[number / 64 % 8] >> number % 64 & 1;
}
static inline void set_bit(u64 *bits, u32 number) { bits[number / 64 % 8] |= 1ull << number % 64; }
static inline void clear_bit(u64 *bits, u32 number) {
    bits[number / 64 % 8] &= ~(1ull << number % 64);
}
static inline u64 address_of(u32 number) { return vm.base + number * RT_PAGE; }
static inline u32 number_at(u64 address) { return (u32)((address - vm.base) / RT_PAGE); }
/* The block of an address that is some region's; NULL: it is none's. */
static inline struct vm_block *block_at(u64 address) {
    u64 number = (address - vm.base) / RT_PAGE;
    struct vm_block *b = number < vm.pages ? vm.block[number / BLOCK_PAGES] : NULL;

    return b && number % BLOCK_PAGES < b->pages ? b : NULL;
}
static inline struct vm_block *block_of(u32 number) { return vm.block[number / BLOCK_PAGES]; }
static inline struct vm_region *region_of(u32 number) {
    return &vm.region[block_of(number)->region];
}

/* vm.c */
void vm_enter(void);
void vm_leave(void);
s64 vm_map_frame(u32 number, struct vm_frame *f);
bool vm_bring_in(u32 number, bool write); /* whether the page can be used now */
/* Between vm_enter and vm_leave. */
struct vm_region *vm_make_hidden(u64 pages, const struct vm_region *want);

/* batch.c: elements for one environment, this one */
struct vm_queue {
    struct update element[BATCH];
    u32 count;
};
extern struct vm_queue vm_queue;
void queue(u8 op, u64 va, u32 page, u32 count, u32 flags, const struct cap *cap);
u32 queue_flush(void);  /* how many elements failed */
static inline struct update *queue_place(void) {
    if (vm_queue.count == BATCH)
        queue_flush();
    return &vm_queue.element[vm_queue.count++];
}
s64 update_one(u8 op, u8 level, u64 va, u32 page, u32 count, u32 flags, const struct cap *cap);
s64 bind_block(u32 number);   /* gives the block its table */
void unbind_block(u32 block); /* and takes it; the page is in stock again */
s64 view_fault(u64 va);
s64 view_init(void);

/* meta.c: zeroed memory for the library's own structures */
void *meta(u32 pages); /* NULL: there is none */
void meta_free(void *at, u32 pages);
u64 meta_reserve(u32 pages);        /* addresses, for meta_map; 0: none are left */
s64 meta_map(u64 va, const struct vm_run *run);
/* False: it was one of these pages, and cannot be had again. */
bool meta_lost(const struct loss *loss);
bool meta_fault(u64 va);            /* true: it is there again */

/* frames.c */
/* The generation of a page that is this environment's own; 0: it is being taken, or gone. */
u64 generation_of(u32 page);
bool is_held(u32 page, u64 generation); /* whether it is still what it was */
bool stock_take(struct vm_run *run);    /* a page from stock, without asking anybody */
bool pages_take(u32 most, struct vm_run *run); /* zeroed pages; false: none can be had */
void page_drop(u32 page, u64 generation); /* its contents are of no use any more */
void stock_check(void);            /* pages in stock may have been taken */
struct vm_frame *frame_make(u32 number, u32 page, u64 generation, u16 flags); /* NULL: no room */
void frame_release(u32 number);    /* the arena's page no longer has its frame */
struct vm_frame *frame_of(u32 number);
void unmap_page(u32 number, struct vm_frame *f); /* queues it; what its translation says is kept */
void keep_dirty(u32 number, struct vm_frame *f);
u32 evict(u32 pages);              /* to the kernel: how many */

/* places.c */
bool losses_waiting(void);
bool losses_see_meta(void);        /* looks at losses that are not yet taken; false: one is fatal */
s64 saved_view(u32 page, struct cap *cap);
void losses_take(void);
u32 place_take(void);              /* 0: none */
void place_free(u32 place);
void place_forget(u32 place);      /* it cannot be used */
const struct cap *place_cap(u32 place);
s64 place_view(u32 place, struct cap *cap); /* a capability to read it, from the server */
