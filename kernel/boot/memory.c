/* The kernel's address space, and its own memory, which is all taken at boot.
 *
 *   0000000000000000  libOS: what its table pages map
 *   ffff800000000000  all RAM, writable, not executable; the kernel's text and rodata read-only;
 *                     sealed CODE pages readable and executable
 *   ffffc00000000000  device registers and firmware tables, mapped at boot
 *   ffffffff80100000  the kernel: text (r-x), rodata (r--), data (rw-)
 *
 * Only libOS pages have the user bit. No page is both writable and executable. */
#include "core/memory.h"

#include "boot/boot.h"
#include "core/info.h"
#include "core/page.h"
#include "x86/mmu.h"

#define LARGE (512 * PAGE_SIZE)
#define LOW_GIB (1ull << 30)
#define MOST_PAGES (1u << 26) /* 256 GiB */

extern char image_start[], image_rodata[], image_data[], image_end[];

struct info *info;
u64 *kernel_root;

static struct range unused[BOOT_RANGES + 4]; /* RAM that nobody has taken */
static u32 unused_count;
static bool low_only = true; /* as long as the boot tables are in use */
static bool finished;
static u64 device_next = DEVICE_BASE;
static u64 code_begin; /* the large page of RAM that is mapped page by page, so that some can be sealed */

static void cut(u64 begin, u64 end) {
    for (u32 i = 0; i < unused_count; i++) {
        struct range *r = &unused[i];
        if (end <= r->begin || begin >= r->end)
            continue;
        struct range above = {end > r->end ? r->end : end, r->end};
        r->end = begin > r->begin ? begin : r->begin;
        if (above.begin < above.end && unused_count < ARRAY_SIZE(unused))
            unused[unused_count++] = above;
    }
}

/* From the top of the lowest range that has room, so that low memory is the last to go. */
void *boot_pages(u32 count) {
    u64 size = count * PAGE_SIZE;
    struct range *best = NULL;

    CHECK(!finished);
    for (u32 i = 0; i < unused_count; i++) {
        struct range *r = &unused[i];
        if (r->end - r->begin < size || (low_only && r->begin + size > LOW_GIB))
            continue;
        if (r->begin >= 0x100000 && (!best || r->begin < best->begin))
            best = r;
    }
    if (!best)
        panic("not enough memory: %u pages more are needed to boot", count);
    u64 at = best->end - size;
    if (low_only && best->end > LOW_GIB) {
        at = best->begin;
        best->begin += size;
    } else {
        best->end = at;
    }
    return memset(phys_ptr((phys){at}), 0, size);
}

void *expose(void *p, u32 count) {
    for (u32 i = 0; i < count; i++)
        page_declare(page_of_phys(ptr_phys(p)) + i, PAGE_EXPOSED, 0);
    return p;
}

/* The entry for va at a level of the kernel's tables, whose upper tables are made. */
static u64 *entry_for(u64 va, u32 level) {
    u64 *table = kernel_root;

    for (u32 l = 4; l > level; l--) {
        u64 *entry = &table[va >> (3 + 9 * l) & 511];
        if (!*entry)
            *entry = ptr_phys(boot_pages(1)).v | PTE_PRESENT | PTE_WRITE;
        table = phys_ptr((phys){*entry & PTE_ADDRESS});
    }
    return &table[va >> (3 + 9 * level) & 511];
}

static u64 image_page(u64 at) { return at - KERNEL_BASE; }

/* What the kernel may do with one of its own image's pages. */
static u64 image_bits(u64 at) {
    if (at < image_page((u64)image_start) || at >= image_page((u64)image_end))
        return PTE_WRITE | mmu_nx;
    if (at < image_page((u64)image_rodata))
        return 0;
    return at < image_page((u64)image_data) ? mmu_nx : PTE_WRITE | mmu_nx;
}

static void map_direct(struct range r) {
    u64 fine = round_up(image_page((u64)image_end), LARGE);

    for (u64 at = r.begin / LARGE * LARGE; at < r.end; at += LARGE) {
        if (at >= fine && at != code_begin) {
            *entry_for(DIRECT_BASE + at, 2) = at | PTE_PRESENT | PTE_WRITE | PTE_LARGE | mmu_nx;
            continue;
        }
        for (u64 page = at; page < at + LARGE; page += PAGE_SIZE)
            *entry_for(DIRECT_BASE + page, 1) = page | PTE_PRESENT | image_bits(page) | mmu_nx;
    }
}

static void make_tables(void) {
    kernel_root = boot_pages(1);
    for (u32 i = 0; i < boot.ranges; i++)
        map_direct(boot.ram[i]);
    for (u64 at = (u64)image_start; at < (u64)image_end; at += PAGE_SIZE)
        *entry_for(at, 1) = image_page(at) | PTE_PRESENT | image_bits(image_page(at));
    entry_for(DEVICE_BASE, 3); /* spaces share the top table's entries, so this one is made now */
    load_root(ptr_phys(kernel_root));
    low_only = false;
}

static u64 map_window(phys p, u64 bytes, u64 bits) {
    u64 first = p.v / PAGE_SIZE * PAGE_SIZE, end = round_up(p.v + bytes, PAGE_SIZE);
    u64 va = device_next;

    CHECK(!finished && end > first && end - first < LOW_GIB);
    for (u64 at = first; at < end; at += PAGE_SIZE, device_next += PAGE_SIZE)
        *entry_for(device_next, 1) = at | PTE_PRESENT | mmu_nx | bits;
    device_next += PAGE_SIZE; /* a gap catches overruns */
    return va + p.v % PAGE_SIZE;
}

volatile void *map_device(phys p, u64 bytes) {
    return (volatile void *)map_window(p, bytes, PTE_WRITE | PTE_UNCACHED);
}

const void *map_table(phys p, u64 bytes) { return (const void *)map_window(p, bytes, 0); }

/* Where CODE pages may be: the lowest large page that nobody has. On the smallest machines, none. */
static void choose_code(void) {
    for (u32 i = 0; i < unused_count; i++) {
        u64 begin = round_up(unused[i].begin, LARGE);
        if (begin && begin + LARGE <= unused[i].end && (!code_begin || begin < code_begin))
            code_begin = begin;
    }
}

u64 memory_bits(u32 page) { return *entry_for(DIRECT_BASE + page * PAGE_SIZE, 1) & (PTE_WRITE | PTE_NX); }

void memory_seal(u32 page, bool sealed) {
    CHECK(page - info->code_first < info->code_pages);
    __atomic_store_n(entry_for(DIRECT_BASE + page * PAGE_SIZE, 1),
                     page * PAGE_SIZE | PTE_PRESENT | (sealed ? 0 : PTE_WRITE | mmu_nx), __ATOMIC_SEQ_CST);
}

void memory_init(void) {
    u64 top = 0;

    for (u32 i = 0; i < boot.ranges; i++) {
        if (boot.ram[i].end > MOST_PAGES * PAGE_SIZE)
            boot.ram[i].end = MOST_PAGES * PAGE_SIZE;
        if (boot.ram[i].begin >= boot.ram[i].end)
            boot.ram[i] = (struct range){0, 0};
        unused[unused_count++] = boot.ram[i];
        top = top > boot.ram[i].end ? top : boot.ram[i].end;
    }
    cut(0, PAGE_SIZE);
    cut(TRAMPOLINE_PAGE * PAGE_SIZE, (TRAMPOLINE_PAGE + 1) * PAGE_SIZE);
    cut(image_page((u64)image_start), image_page((u64)image_end));
    cut(boot.archive.begin / PAGE_SIZE * PAGE_SIZE, round_up(boot.archive.end, PAGE_SIZE));
    if (boot.rsdp) /* perhaps the loader's copy */
        cut(boot.rsdp / PAGE_SIZE * PAGE_SIZE, round_up(boot.rsdp + 36, PAGE_SIZE));
    choose_code();
    make_tables();

    u32 count = (u32)(top / PAGE_SIZE);
    u32 array_pages = (u32)(round_up(count * sizeof(struct page), PAGE_SIZE) / PAGE_SIZE);
    u64 words = round_up(count, 64) / 64;
    u64 map_bytes = (words + round_up(words, 64) / 64) * 8 + round_up(words, 8) + (count / HOLDER_SUM + 1) * 4; /* page_init */
    u32 map_pages = (u32)(round_up(map_bytes, PAGE_SIZE) / PAGE_SIZE);
    struct page *array = boot_pages(array_pages);
    u64 *free_map = boot_pages(map_pages);
    info = boot_pages(1);
    page_init(array, free_map, count);
    expose(array, array_pages);
    expose(free_map, map_pages);
    expose(info, 1);
    info->pages = count;
    info->code_first = (u32)(code_begin / PAGE_SIZE);
    info->code_pages = code_begin ? LARGE / PAGE_SIZE : 0;
    info->array = page_of_phys(ptr_phys(array));
    info->free_map = page_of_phys(ptr_phys(free_map));
}

void memory_finish(void) {
    finished = true;
    for (u32 i = 0; i < boot.ranges; i++)
        for (u64 at = boot.ram[i].begin; at < boot.ram[i].end; at += PAGE_SIZE) {
            u32 page = page_of_phys((phys){at});
            bool is_unused = false;
            for (u32 n = 0; n < unused_count && !is_unused; n++)
                is_unused = at >= unused[n].begin && at < unused[n].end;
            info->ram_pages++;
            if (page_type(page_get(page)) == PAGE_ABSENT)
                page_declare(page, is_unused ? PAGE_FREE : PAGE_KERNEL, 0);
            if (!is_unused && page_owner(page_get(page)) == 0)
                info->kernel_pages++;
        }
}
