/* The verifier on bytes: whatever they are, it ends, and stays within its memory. What it accepts
 * is translated, too. */
#include "fuzz_code.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const u8 *data, size_t size);

static void verify(const struct code_profile *profile, const struct code_insn *insn, u32 count) {
    struct host_program h;
    if (host_verify(&h, profile, insn, count)) {
        u64 needed = (u64)host_jit(h.program, NULL, 0);
        u8 *code = malloc(needed);
        CHECK(host_jit(h.program, code, needed) == (s64)needed);
        CHECK(host_jit(h.program, code, needed - 1) == E_FULL);
        free(code);
    } else {
        CHECK(h.program->refusal && h.program->refused_at < (count ? count : 1));
    }
    host_free(&h);
}

int LLVMFuzzerTestOneInput(const u8 *data, size_t size) {
    struct shaped s;
    if (size == 0)
        return 0;
    if (data[0] & 1) {
        u32 count = (u32)min_u64((size - 1) / sizeof(struct code_insn), CODE_INSNS + 1);
        struct code_insn *insn = malloc(count * sizeof(*insn) + 1);
        memcpy(insn, data + 1, count * sizeof(*insn));
        for (u32 n = 0; n < code_profile_count; n++)
            verify(&code_profiles[n], insn, count);
        verify(host_profile("conformance"), insn, count);
        free(insn);
    } else if (shape(&s, data, size)) {
        verify(s.profile, s.insn, s.count);
    }
    return 0;
}
