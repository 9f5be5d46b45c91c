/* The first environment: an ELF program in the boot archive called `init`, with the
 * archive, one slice and every capability. Its context page's message area begins with
 * capabilities for the machine, the console and the root flow. */
#include "boot/boot.h"
#include "core/cap.h"
#include "core/cpu.h"
#include "core/env.h"
#include "core/info.h"
#include "core/memory.h"
#include "core/page.h"
#include "core/space.h"
#include "x86/fpu.h"

#define CONTEXT_AT 0x10000 /* where its context is mapped */
#define TAR_BLOCK 512

struct elf {
    u8 magic[16];
    u16 type, machine;
    u32 version;
    u64 entry, segments_at, sections_at;
    u32 flags;
    u16 size, segment_size, segments, section_size, sections, names;
};
struct segment {
    u32 type, flags;
    u64 offset, va, pa, file_bytes, bytes, align;
};
#define SEGMENT_LOAD 1
#define SEGMENT_X 1
#define SEGMENT_W 2

u32 first_env_make(void) {
    u32 page = page_of_phys(ptr_phys(boot_pages(1))), root = page_of_phys(ptr_phys(boot_pages(1)));
    struct env *e = env_of(page);

    page_declare(page, PAGE_ENV, page);
    page_declare(root, PAGE_TABLE, page);
    page_get(root)->state |= 4 << 8; /* its level */
    page_bind(root, PAGE_TABLE);
    memcpy(e->name, "init", 5);
    e->self = page;
    e->root = root;
    env_set_roots(e, MAX_CPUS);
    space_prepare(e);
    page_link(e, root);
    page_link(e, page);
    for (u32 i = 0; i < info->archive_pages; i++) {
        page_declare(info->archive + i, PAGE_DATA, page);
        page_link(e, info->archive + i);
    }
    for (const struct device *d = info->device; d < info->device + info->devices; d++)
        for (u32 i = 0; i < d->pages; i++) {
            *page_get(d->first + i) = (struct page){.state = PAGE_DEVICE, .generation = 1, .owner = page};
            page_link(e, d->first + i);
        }
    e->state = ENV_LIVE;
    info->first_env = page;
    return page;
}

static u32 take(struct env *e) {
    s64 page = page_take(e, PAGE_ANY, 1, 0);

    if (page < 0)
        panic("not enough memory to start init");
    return (u32)page;
}

static void map(struct env *e, u64 va, u32 page, u32 flags) {
    struct update u = {.op = UPDATE_MAP, .flags = (u16)flags, .va = va, .page = page, .count = 1};
    s64 error = space_apply(e, &u);

    for (u8 level = 3; level && error == E_NO_TABLE; level--) {
        struct update table = {.op = UPDATE_BIND_TABLE, .level = level, .va = va, .page = take(e), .count = 1};
        space_apply(e, &table); /* MAPPED where there is one: the page stays with init */
        error = space_apply(e, &u);
    }
    CHECK(!error);
}

static void load_segment(struct env *e, const u8 *image, u64 size, const struct segment *s) {
    u32 flags = (s->flags & SEGMENT_W ? MAP_WRITE : 0u) | (s->flags & SEGMENT_X ? MAP_EXECUTE : 0u);

    CHECK(s->offset <= size && s->file_bytes <= size - s->offset && s->file_bytes <= s->bytes);
    CHECK(!(s->va % PAGE_SIZE) && s->va < USER_TOP && s->bytes < USER_TOP - s->va);
    for (u64 done = 0; done < s->bytes; done += PAGE_SIZE) {
        u32 page = take(e);
        if (done < s->file_bytes)
            memcpy(page_ptr(page), image + s->offset + done, min_u64(PAGE_SIZE, s->file_bytes - done));
        map(e, s->va + done, page, flags);
    }
}

static u64 load(struct env *e, const u8 *image, u64 size) {
    const struct elf *elf = (const void *)image;

    if (size < sizeof *elf || memcmp(elf->magic, "\177ELF\2\1", 6) || elf->machine != 62)
        panic("init is not an ELF program for x86-64");
    for (u32 i = 0; i < elf->segments; i++) {
        u64 at = elf->segments_at + i * sizeof(struct segment);
        CHECK(at <= size && sizeof(struct segment) <= size - at);
        const struct segment *s = (const void *)(image + at);
        if (s->type == SEGMENT_LOAD && s->bytes)
            load_segment(e, image, size, s);
    }
    return elf->entry;
}

/* The archive is a ustar file; init is its first member but for padding. */
static const u8 *find_init(u64 *size) {
    const char *header = phys_ptr((phys){boot.archive.begin});

    for (u64 at = 0; at + TAR_BLOCK <= info->archive_bytes && !memcmp(header + 257, "ustar", 5);) {
        *size = 0;
        for (u32 i = 124; i < 135 && header[i] >= '0' && header[i] <= '7'; i++)
            *size = *size * 8 + (u64)(header[i] - '0');
        at += TAR_BLOCK;
        header += TAR_BLOCK;
        CHECK(*size <= info->archive_bytes - at);
        if (!memcmp(header - TAR_BLOCK, "init", 5))
            return (const u8 *)header;
        at += round_up(*size, TAR_BLOCK);
        header += round_up(*size, TAR_BLOCK);
    }
    panic("there is no boot archive with a program called init");
}

static void grant(struct context *c, u32 index, u8 type, u8 rights, u32 name, u64 generation) {
    struct cap cap = {.type = type, .rights = rights, .name = name, .count = 1};

    cap_seal(&cap, generation, 0);
    memcpy(&c->message[index * sizeof cap / 8], &cap, sizeof cap);
}

void first_env_start(u32 page, u32 root_flow) {
    struct env *e = env_of(page);
    struct cpu *cpu = this_cpu();
    u64 size;

    e->page_limit = (u32)info->ram_pages - info->kernel_pages + device_count; /* who is within his limit finds a page */
    e->slice_limit = cpu_count * SLOTS;
    e->cpus = ~0ull;
    const u8 *image = find_init(&size);
    u64 entry = load(e, image, size);
    u32 context_page = take(e);
    struct context *c = page_ptr(context_page);
    CHECK(!env_bind_context(e, 0, context_page));
    map(e, CONTEXT_AT, context_page, MAP_WRITE);
    grant(c, 0, CAP_MACHINE, RIGHT_POWER | RIGHT_TRACE, 0, 0);
    grant(c, 1, CAP_CONSOLE, RIGHT_READ | RIGHT_WRITE, 0, 0);
    grant(c, 2, CAP_FLOW, RIGHT_READ | RIGHT_WRITE | RIGHT_OWN, root_flow, page_generation(page_get(root_flow)));
    c->self = CONTEXT_AT;
    c->depth = 1;
    c->frame[0].rip = entry;
    c->frame[0].rdi = CONTEXT_AT;
    e->slices = 1;
    cpu->slices->slot[0].owner = page;
    cpu->owned = cpu->heads = 1;
}
