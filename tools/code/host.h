/* Runs programs of the virtual machine in an ordinary process. */
#pragma once
#include "code/code.h"

struct host_program {
    struct code_insn *insn;
    struct code_program *program; /* also the verifier's memory */
    u8 *code;                     /* translated, executable */
    u64 code_size;
};

/* Verifies a program of `count` slots. False: h->program->refusal says why. */
bool host_verify(struct host_program *h, const struct code_profile *profile,
                 const struct code_insn *insn, u32 count);
/* The same; `trace` is called before each instruction that the verifier follows. */
struct code_verify;
bool host_verify_traced(struct host_program *h, const struct code_profile *profile,
                        const struct code_insn *insn, u32 count,
                        void (*trace)(void *owner, const struct code_verify *v), void *owner);
/* Translates a verified program: the size of the code, or E_FULL; to = NULL: only the size that it needs. */
s64 host_jit(struct code_program *program, u8 *to, u64 size);
/* Translates it, into memory that is never writable and executable at once. */
bool host_translate(struct host_program *h);
void host_free(struct host_program *h);
const struct code_profile *host_profile(const char *name);
const char *host_status(u32 status);
