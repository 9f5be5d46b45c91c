/* See host.h. */
#define _GNU_SOURCE
#include "host.h"
#include "code/verify.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

/* r1: memory, r2: its length. What conformance tests expect. */
static const struct code_profile conformance = {
    .name = "conformance",
    .budget = 1u << 24,
    .stores = true,
    .start = {{CODE_POINTER, 0}, {CODE_LENGTH, 0}},
    .windows = 1,
    .window = {{"memory", true, 0, 1u << 30}},
};

bool host_verify_traced(struct host_program *h, const struct code_profile *profile,
                        const struct code_insn *insn, u32 count,
                        void (*trace)(void *owner, const struct code_verify *v), void *owner) {
    u64 size = code_verify_memory(insn, count);
    *h = (struct host_program){.insn = malloc(count * sizeof(*insn) + 1), .program = malloc(size)};
    CHECK(h->insn && h->program);
    memcpy(h->insn, insn, count * sizeof(*insn));
    s64 state = code_verify_start(profile, h->insn, count, h->program, size);
    if (state == 0) {
        code_verify_of(h->program)->trace = trace;
        code_verify_of(h->program)->trace_owner = owner;
        do
            state = code_verify_step(h->program, 1000);
        while (state == E_AGAIN);
    }
    return state == 0;
}

bool host_verify(struct host_program *h, const struct code_profile *profile,
                 const struct code_insn *insn, u32 count) {
    return host_verify_traced(h, profile, insn, count, NULL, NULL);
}

s64 host_jit(struct code_program *program, u8 *to, u64 size) {
    struct code_jit jit;
    s64 result;
    code_jit_start(&jit, program, to, size);
    do
        result = code_jit_step(&jit, 7);
    while (result == E_AGAIN);
    return result;
}

bool host_translate(struct host_program *h) {
    s64 size = host_jit(h->program, NULL, 0);
    u64 whole = round_up((u64)size, PAGE_SIZE);
    u8 *code = mmap(NULL, whole, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (code == MAP_FAILED)
        return false;
    h->code = code;
    h->code_size = whole;
    return host_jit(h->program, code, (u64)size) == size &&
           mprotect(code, whole, PROT_READ | PROT_EXEC) == 0;
}

void host_free(struct host_program *h) {
    if (h->code)
        munmap(h->code, h->code_size);
    free(h->program);
    free(h->insn);
    *h = (struct host_program){.insn = NULL};
}

const struct code_profile *host_profile(const char *name) {
    for (u32 n = 0; n < code_profile_count; n++) {
        if (strcmp(code_profiles[n].name, name) == 0)
            return &code_profiles[n];
    }
    return strcmp(name, conformance.name) == 0 ? &conformance : NULL;
}

const char *host_status(u32 status) {
    static const char *const text[] = {
        [CODE_DONE] = "done",
        [CODE_BUDGET] = "the budget is exhausted",
        [CODE_ACCESS] = "an access outside its window, or an unaligned atomic operation",
        [CODE_STOPPED] = "a helper stopped it",
        [CODE_ESCAPED] = "it did what was proved impossible: a bug of the verifier",
    };
    return text[status];
}
