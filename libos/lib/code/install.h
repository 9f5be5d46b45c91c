/* Programs for the kernel: from an object of clang's to CODE pages and to a flow (docs/handlers.md). */
#pragma once
#include "rt.h"

struct code_installed {
    u32 page, pages;     /* the program */
    const char *refusal; /* why it was not installed, or NULL */
    u32 refused_at;      /* slot */
};

/* Links a section of the object (NULL: the first with instructions), has the kernel verify it as a
 * program of this kind, and keeps the pages that it takes. 0 or an error; then nothing is kept. */
s64 code_install(const void *object, u64 size, const char *section, u32 kind, struct code_installed *out);
/* Unloads it and frees its pages. */
s64 code_remove(struct code_installed *installed);

/* An object that the Makefile linked into the program under this name: $(call downloaded,NAME,SOURCE). */
#define CODE_OBJECT(name) extern const u8 downloaded_##name[], downloaded_##name##_end[]
#define CODE_INSTALL(name, kind, out) \
    code_install(downloaded_##name, (u64)(downloaded_##name##_end - downloaded_##name), NULL, kind, out)

/* A flow's handler, on `pages` pages of memory from page `memory` on. */
static inline s64 code_handle(const struct cap *flow, const struct code_installed *program, u32 memory, u32 pages) {
    struct handler_binding b = {.code = program->page, .memory = memory, .pages = pages};

    return sys_handler_bind(flow, &b);
}
