/* An environment is two pages; everything else is given to it by its creator: tables, the program's
 * segments, a start page, a context page with the first frame, slices. */
#include "spawn/spawn.h"

#include "base/memory.h"

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
#define LOAD 1
#define EXECUTABLE 1
#define WRITABLE 2

/* Copies into pages of another environment, through a window of the caller's own. */
static s64 fill(u32 page, u32 count, const struct cap *cap, const void *from, u64 bytes) {
    static u64 window;

    if (!window)
        window = memory_reserve(PAGES_A_CALL);
    s64 error = memory_map_at(window, page, count, MAP_WRITE, cap);
    if (error)
        return error;
    memcpy((void *)window, from, bytes);
    memory_unmap((void *)window, count);
    return 0;
}

static s64 load_segment(struct spawn *s, const struct segment *segment) {
    u32 flags = (segment->flags & WRITABLE ? MAP_WRITE : 0u) | (segment->flags & EXECUTABLE ? MAP_EXECUTE : 0u);
    u64 total = (segment->bytes + RT_PAGE - 1) / RT_PAGE;

    for (u64 done = 0, part; done < total; done += part) {
        part = total - done < 64 ? total - done : 64;
        struct cap cap;
        s64 page = sys_page_alloc(&s->env, PAGE_ANY, (u32)part, 0, &cap);
        for (; page == E_NOT_FREE && part > 1; part /= 2) /* no run so long: take shorter ones */
            page = sys_page_alloc(&s->env, PAGE_ANY, (u32)part / 2, 0, &cap);
        if (page < 0)
            return page;
        u64 offset = done * RT_PAGE, left = segment->file_bytes > offset ? segment->file_bytes - offset : 0;
        u64 bytes = left < part * RT_PAGE ? left : part * RT_PAGE;
        s64 error = bytes ? fill((u32)page, (u32)part, &cap, s->image + segment->offset + offset, bytes) : 0;
        if (!error)
            error = memory_map_for(&s->env, segment->va + offset, (u32)page, (u32)part, flags, 0);
        if (error)
            return error;
    }
    return 0;
}

static s64 load(struct spawn *s, u64 *entry) {
    const struct elf *elf = (const void *)s->image;
    u64 size = s->image_bytes;

    if (size < sizeof *elf || memcmp(elf->magic, "\177ELF\2\1", 6) || elf->machine != 62)
        return E_BAD_ARGUMENT;
    for (u32 i = 0; i < elf->segments; i++) {
        u64 at = elf->segments_at + i * sizeof(struct segment);
        if (at > size || sizeof(struct segment) > size - at)
            return E_BAD_ARGUMENT;
        const struct segment *segment = (const void *)(s->image + at);
        if (segment->type != LOAD || !segment->bytes)
            continue;
        if (segment->offset > size || segment->file_bytes > size - segment->offset ||
            segment->va % RT_PAGE || segment->file_bytes > segment->bytes)
            return E_BAD_ARGUMENT;
        s64 error = load_segment(s, segment);
        if (error)
            return error;
    }
    *entry = elf->entry;
    return 0;
}

/* One page of the new environment, with this content, mapped in it at va. Returns its number. */
static s64 give_page(struct spawn *s, u64 va, u32 flags, const void *content) {
    struct cap cap;
    s64 page = sys_page_alloc(&s->env, PAGE_ANY, 1, 0, &cap);

    if (page < 0)
        return page;
    s64 error = fill((u32)page, 1, &cap, content, RT_PAGE);
    if (!error)
        error = memory_map_for(&s->env, va, (u32)page, 1, flags, 0);
    return error ? error : page;
}

static s64 give_start(struct spawn *s) {
    static struct start start;

    start = *s->start;
    start.magic = START_MAGIC;
    if (start.items >= START_ITEMS)
        return E_FULL;
    struct start_item *self = &start.item[start.items++];
    *self = (struct start_item){.name = "self", .cap = s->env};
    for (u32 i = 0; i < s->slice_kinds; i++)
        start.cpus[s->slices[i].cpu / 32] |= 1u << s->slices[i].cpu % 32;
    s64 page = give_page(s, RT_START, 0, &start);
    return page < 0 ? page : 0;
}

/* Contexts wait at the program's entry until a slice comes. */
static s64 give_context(struct spawn *s, u32 cpu, u64 entry) {
    static struct context context;
    u64 va = RT_CONTEXT + cpu * RT_PAGE;

    context = (struct context){.self = va, .depth = 1};
    context.frame[0].rip = entry;
    context.frame[0].rdi = va;
    s64 page = give_page(s, va, MAP_WRITE, &context);
    return page < 0 ? page : sys_context_bind(&s->env, cpu, (u32)page);
}

static s64 build(struct spawn *s) {
    u64 entry;
    s64 error = load(s, &entry);

    if (!error)
        error = give_start(s);
    for (u32 i = 0; i < s->slice_kinds && !error; i++)
        error = give_context(s, s->slices[i].cpu, entry);
    for (u32 i = 0; i < s->slice_kinds && !error; i++)
        for (u32 n = 0; n < s->slices[i].count && !error; n++) {
            s64 slot = sys_slice_alloc(&s->env, s->slices[i].cpu, PAGE_ANY);
            error = slot < 0 && slot != E_DEAD ? slot : 0; /* DEAD: it ran in its first slice, and ended */
        }
    return error;
}

s64 spawn(struct spawn *s) {
    struct env_spec spec = {.page_limit = s->page_limit, .slice_limit = s->slice_limit, .cpus = s->cpus};
    s64 page = s->page ? s->page : sys_page_alloc(0, PAGE_ANY, 1, 0, 0);
    s64 root = page < 0 ? page : sys_page_alloc(0, PAGE_ANY, 1, 0, 0);

    if (root < 0) {
        if (page >= 0)
            sys_page_free(0, (u32)page, 1);
        return root;
    }
    for (u32 i = 0; i < sizeof spec.name - 1 && s->name[i]; i++)
        spec.name[i] = (u8)s->name[i];
    s64 name = sys_env_create((u32)page, (u32)root, &spec, &s->env);
    if (name < 0) {
        sys_page_free(0, (u32)page, 1);
        sys_page_free(0, (u32)root, 1);
        return name;
    }
    s64 error = build(s);
    if (error) {
        rt_destroy(&s->env);
        return error;
    }
    return name;
}
