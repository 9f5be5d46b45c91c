/* The interpreter against translated code, on verified programs. Both must end in the same way with
 * the same result, memory and budget. The two runs have their windows, stack and registers in other
 * places, and other rubbish where nothing was written: so a difference also shows an address or an
 * unwritten value that leaks. Windows lie against pages that cannot be touched, at their end or at
 * their start; those that the program may not write are read-only. The interpreter checks each
 * access that the verifier proved. */
#define _GNU_SOURCE
#include "fuzz_code.h"

#include <stdio.h>
#include <sys/mman.h>

int LLVMFuzzerTestOneInput(const u8 *data, size_t size);

#define ROOM 4096

/* A page with one on each side that traps. */
static u8 *guarded_page(void) {
    u8 *base = mmap(NULL, 3 * ROOM, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    CHECK(base != MAP_FAILED);
    CHECK(mprotect(base + ROOM, ROOM, PROT_READ | PROT_WRITE) == 0);
    return base + ROOM;
}

struct arena {
    struct code_run *run;
    u8 *page[3];
};

static struct arena arenas[2];

static void prepare(struct arena *a, const struct shaped *s, bool at_end, u8 rubbish) {
    static u8 room[2][sizeof(struct code_run) + 4096] ALIGNED(16);
    a->run = (struct code_run *)(a == arenas ? room[0] : room[1] + 1024);
    code_run_start(a->run, s->profile);
    memset(a->run->stack, rubbish, sizeof(a->run->stack));
    for (u32 w = 0; w < s->profile->windows; w++) {
        if (!a->page[w])
            a->page[w] = guarded_page();
        CHECK(mprotect(a->page[w], ROOM, PROT_READ | PROT_WRITE) == 0);
        u8 *base = a->page[w] + (at_end ? ROOM - s->length[w] : 0);
        u64 x = s->seed;
        for (u32 n = 0; n < s->length[w]; n++)
            base[n] = (u8)((x = x * 6364136223846793005ull + w + 1) >> 56);
        bool write = s->profile->stores && s->profile->window[w].writable;
        CHECK(mprotect(a->page[w], ROOM, write ? PROT_READ | PROT_WRITE : PROT_READ) == 0);
        a->run->window[w] = (struct code_window){base, s->length[w]};
    }
    a->run->value[0] = s->seed;
    a->run->value[1] = ~s->seed;
}

/* Runs translated code and sees that it keeps the registers that the ABI says it must. */
u64 enter_watched(const void *code, struct code_run *run, u64 *changed);
__asm__(".globl enter_watched\n"
        "enter_watched:\n"
        "push %rbx; push %rbp; push %r12; push %r13; push %r14; push %r15; push %rdx\n"
        "mov %rdi, %rax\n"
        "mov %rsi, %rdi\n"
        "mov $11, %ebx; mov $12, %ebp; mov $13, %r12d; mov $14, %r13d; mov $15, %r14d\n"
        "mov $16, %r15d\n"
        "call *%rax\n"
        "sub $11, %rbx; sub $12, %rbp; sub $13, %r12; sub $14, %r13; sub $15, %r14\n"
        "sub $16, %r15\n"
        "or %rbx, %rbp; or %rbp, %r12; or %r12, %r13; or %r13, %r14; or %r14, %r15\n"
        "pop %rdx\n"
        "mov %r15, (%rdx)\n"
        "pop %r15; pop %r14; pop %r13; pop %r12; pop %rbp; pop %rbx\n"
        "ret\n");

static void compare(const struct shaped *s, u64 a, u64 b) {
    const struct code_run *one = arenas[0].run, *two = arenas[1].run;
    bool same = one->status == two->status && a == b &&
                (one->budget == two->budget || (one->budget < 0 && two->budget < 0));
    const struct code_effects *e = &one->effects, *f = &two->effects;
    if (one->status == CODE_DONE)
        same &= !memcmp(&e->frame.length, &f->frame.length, 8) && e->attached == f->attached && e->attached_at == f->attached_at &&
                e->published == f->published && e->wake == f->wake && e->event == f->event && e->a == f->a && e->b == f->b;
    for (u32 n = 0; one->status == CODE_DONE && n < e->published; n++)
        same &= e->publish[n].value == f->publish[n].value &&
                (u8 *)e->publish[n].at - one->window[1].base == (u8 *)f->publish[n].at - two->window[1].base;
    for (u32 w = 0; w < s->profile->windows; w++)
        same &= memcmp(one->window[w].base, two->window[w].base, s->length[w]) == 0;
    if (!same || one->status == CODE_ESCAPED)
        panic("interpreter: %s, %lx, left %ld\ntranslated: %s, %lx, left %ld\n",
              host_status(one->status), a, (long)one->budget, host_status(two->status), b,
              (long)two->budget);
}

int LLVMFuzzerTestOneInput(const u8 *data, size_t size) {
    struct shaped s;
    struct host_program h;
    if (!shape(&s, data, size))
        return 0;
    if (host_verify(&h, s.profile, s.insn, s.count)) {
        bool at_end = data[6] & 1;
        CHECK(host_translate(&h));
        prepare(&arenas[0], &s, at_end, 0xaa);
        prepare(&arenas[1], &s, at_end, 0x55);
        u64 a = code_interpret(h.program, arenas[0].run);
        u64 changed, b = enter_watched(h.code, arenas[1].run, &changed);
        compare(&s, a, b);
        CHECK(changed == 0);
    }
    host_free(&h);
    return 0;
}
