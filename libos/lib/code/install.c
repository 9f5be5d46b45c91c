/* Loading programs. Pages that can be executed are few and have names: free ones are looked for in the
 * exposed page array. */
#include "code/install.h"

#include "base/memory.h"
#include "code/object.h"
#include "machine/machine.h"

static u64 slots[CODE_SLOTS];
static struct code_spec spec;

static bool is_free(u32 page, u32 pages) {
    for (u32 i = 0; i < pages; i++)
        if ((u8)machine_pages()[page + i].state != PAGE_FREE)
            return false;
    return true;
}

/* A run of pages that can be executed; another CPU may be faster, so each is tried. */
static s64 find_pages(u32 pages) {
    const struct info *info = machine_info();
    s64 page = E_NOT_FREE;

    for (u32 i = 0; i + pages <= info->code_pages && page == E_NOT_FREE; i++)
        if (is_free(info->code_first + i, pages))
            page = sys_page_alloc(0, info->code_first + i, pages, 0, 0);
    return page;
}

/* One try with so many pages for the program. */
static s64 load(u32 pages, u32 work_pages, struct code_installed *out) {
    s64 page = find_pages(pages), work, error;

    if (page < 0)
        return page;
    work = sys_page_alloc(0, PAGE_ANY, work_pages, 0, 0);
    error = work < 0 ? work : 0;
    if (!error) {
        spec.page = (u32)page;
        spec.pages = pages;
        spec.work = (u32)work;
        spec.work_pages = work_pages;
        do
            error = sys_code_load(&spec);
        while (error == E_AGAIN);
        sys_page_free(0, (u32)work, work_pages);
    }
    if (error)
        sys_page_free(0, (u32)page, pages);
    out->page = (u32)page;
    out->pages = pages;
    return error;
}

s64 code_install(const void *object, u64 size, const char *section, u32 kind, struct code_installed *out) {
    struct code_object linked;
    s64 error = code_object_load(object, size, section, slots, CODE_SLOTS, &linked);

    *out = (struct code_installed){.refusal = linked.refusal};
    if (error)
        return error;
    spec = (struct code_spec){.program = (u64)slots, .slots = linked.count, .kind = kind};
    /* A slot takes some bytes of machine code, and at worst a state of the verifier's, about 1 KB. */
    u32 work = 4 + linked.count / 3, most = work < PAGES_A_CALL ? work : PAGES_A_CALL;
    for (u32 pages = 1 + linked.count / 512; pages <= CODE_RUN; pages *= 2) {
        error = load(pages, most, out);
        if (error != E_FULL)
            break;
    }
    if (error == E_REFUSED) {
        out->refusal = (const char *)spec.why;
        out->refused_at = spec.refused_at;
    }
    return error;
}

s64 code_remove(struct code_installed *installed) {
    s64 error = sys_code_unload(installed->page);

    return error ? error : sys_page_free(0, installed->page, installed->pages);
}
