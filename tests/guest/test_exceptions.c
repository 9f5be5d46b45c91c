/* Exceptions come to the libOS, which goes on by itself. */
#include "guest.h"

#define NAKED __attribute__((naked))
#define NON_CANONICAL 0x8000000000000000ull

static NAKED void do_divide(__attribute__((unused)) u64 zero) {
    __asm__("movl $1, %eax; xorl %edx, %edx; divl %edi; ret");
}
static NAKED void do_debug(__attribute__((unused)) u64 x) {
    __asm__("pushfq; orl $0x100, (%rsp); popfq; nop; ret");
}
static NAKED void do_breakpoint(__attribute__((unused)) u64 x) { __asm__("int3; ret"); }
static NAKED void do_overflow(__attribute__((unused)) u64 x) { __asm__("int $4; ret"); }
static NAKED void do_ud2(__attribute__((unused)) u64 x) { __asm__("ud2; ret"); }
static NAKED void do_x87(__attribute__((unused)) u64 x) { __asm__("fld1; ret"); }
static NAKED void do_sse(__attribute__((unused)) u64 x) { __asm__("xorps %xmm0, %xmm0; ret"); }
static NAKED void do_hlt(__attribute__((unused)) u64 x) { __asm__("hlt; ret"); }
static NAKED void do_read_at(__attribute__((unused)) u64 at) { __asm__("movq (%rdi), %rax; ret"); }
static NAKED void do_jump(__attribute__((unused)) u64 at) { __asm__("jmp *%rdi"); }
static NAKED void do_movaps(__attribute__((unused)) u64 at) {
    __asm__("movaps %xmm0, (%rdi); ret");
}

/* Each cause arrives with its number, its error code and where it happened. */
TEST(exception_causes) {
    static const struct {
        void (*code)(u64);
        u64 argument;
        u32 cause, error;
    } row[] = {
        {do_divide, 0, 0, 0},
        {do_debug, 0, 1, 0},
        {do_breakpoint, 0, 3, 0},
        {do_overflow, 0, 4, 0},
        {do_ud2, 0, 6, 0},
        {do_x87, 0, 7, 0},
        {do_sse, 0, 7, 0},
        {do_hlt, 0, 13, 0},
        {do_read_at, NON_CANONICAL, 13, 0},
        {do_jump, NON_CANONICAL, 13, 0},
        {do_read_at, 0xffff800000000000, 14, 5},
        {do_read_at, 0x7ffffffff000, 14, 4},
        {do_jump, 0xffffffff80100000, 14, 0x15},
    };

    for (u32 i = 0; i < ARRAY_SIZE(row); i++) {
        struct caught c;
        if (!attempt(row[i].code, row[i].argument, &c))
            FAIL("row %u was not broken off", i);
        if (c.cause != row[i].cause || (c.error & 0x1e) != (row[i].error & 0x1e))
            FAIL("row %u: cause %lu error %lx", i, c.cause, c.error);
        if (c.cause == 14)
            EQUAL(c.address, row[i].argument);
    }
}

static u64 faults;
static void skip_two(struct frame *f) {
    faults++;
    f->rip += 2;
}

/* The handler goes back by itself: one kernel entry an exception, and no call. */
TEST(exception_without_calls) {
    rt_on_exception(skip_two);
    const volatile u64 *counter = &machine_trace(0)->exceptions;
    u64 calls = calls_made(), before = *counter;

    for (u32 i = 0; i < 100; i++)
        __asm__ volatile("ud2" : : : "memory");
    EQUAL(*counter, before + 100);
    CHECK(calls_made() - calls < 20); /* only slices that ended */
    EQUAL(faults, 100);
}

/* All registers and flags are as they were when the handler has returned. */
TEST(exception_registers) {
    rt_on_exception(skip_two);
    u64 seen[15], flags;
    __asm__ volatile(
        "pushq %%rbx; pushq %%rbp; pushq %%r12; pushq %%r13; pushq %%r14; pushq %%r15; pushq %0\n"
        "movq $1, %%rax; movq $2, %%rbx; movq $3, %%rcx; movq $4, %%rdx; movq $5, %%rsi;\n"
        "movq $6, %%rdi\n"
        "movq $7, %%rbp; movq $8, %%r8; movq $9, %%r9; movq $10, %%r10; movq $11, %%r11;\n"
        "movq $12, %%r12\n"
        "movq $13, %%r13; movq $14, %%r14; movq $15, %%r15\n"
        "movq $0x5555, -8(%%rsp)\n" /* in the red zone */
        "stc; ud2\n"
        "pushfq; pushq %%rax; movq 16(%%rsp), %%rax\n"
        "movq %%rbx, 8(%%rax); movq %%rcx, 16(%%rax); movq %%rdx, 24(%%rax);\n"
        "movq %%rsi, 32(%%rax)\n"
        "movq %%rdi, 40(%%rax); movq %%rbp, 48(%%rax); movq %%r8, 56(%%rax); movq %%r9, 64(%%rax)\n"
        "movq %%r10, 72(%%rax); movq %%r11, 80(%%rax); movq %%r12, 88(%%rax);\n"
        "movq %%r13, 96(%%rax)\n"
        "movq %%r14, 104(%%rax); movq %%r15, 112(%%rax); popq (%%rax); popq %%rcx; addq $8, %%rsp\n"
        "popq %%r15; popq %%r14; popq %%r13; popq %%r12; popq %%rbp; popq %%rbx\n"
        "movq %%rcx, %1"
        :
        : "r"(seen), "m"(flags)
        : "rax", "rcx", "rdx", "rsi", "rdi", "r8", "r9", "r10", "r11", "memory");
    for (u32 i = 0; i < 15; i++)
        EQUAL(seen[i], i + 1);
}

static u32 deepest;
static void fault_again(struct frame *f) {
    f->rip += 2;
    if (++deepest < 5)
        __asm__ volatile("ud2");
}

/* A handler may itself fault; frames nest and are left in order. */
TEST(exception_nested) {
    rt_on_exception(fault_again);
    __asm__ volatile("ud2");
    EQUAL(deepest, 5);
    EQUAL(rt_context(0)->depth, 0);
}

static void fault_for_ever(struct frame *f) {
    (void)f;
    __asm__ volatile("ud2");
}

/* When no frame is free, the environment is stopped and its creator told. */
TEST(exception_frames_full, .ends = END_FAULT) {
    rt_on_exception(fault_for_ever);
    __asm__ volatile("ud2");
}

/* Without a handler an exception stops the environment. */
TEST(exception_unhandled, .ends = END_FAULT) { __asm__ volatile("ud2"); }

/* An entry that no libOS can have stops it as well. */
TEST(exception_bad_entry, .ends = END_FAULT) {
    rt_context(0)->exception = 0xffffffff80100000;
    __asm__ volatile("ud2");
}

/* ---- extended state */
static u32 mxcsr(void) {
    u32 value;
    __asm__ volatile("stmxcsr %0" : "=m"(value));
    return value;
}

/* Extended state is off until the context asks for it, and then begins in its initial state. */
TEST(fpu_enable) {
    struct caught c;

    CHECK(attempt(do_sse, 0, &c) && c.cause == 7);
    rt_context(0)->fpu = 1;
    CHECK(!attempt(do_sse, 0, &c));
    CHECK(!attempt(do_x87, 0, &c));
    EQUAL(mxcsr(), 0x1f80);
    CHECK(attempt(do_movaps, RT_CONTEXT + CONTEXT_EXTENDED_AT + 8, &c) && c.cause == 13);
    u16 control;
    __asm__ volatile("fnstcw %0" : "=m"(control));
    EQUAL(control, 0x37f);
}

/* Divides 1 by 3, forgets nothing of it, and checks that nobody else's values are seen. */
static void keep_state(u64 pattern, u32 rounds) {
    u64 in[2] = {pattern, ~pattern}, out[2];

    rt_context(0)->fpu = 1;
    __asm__ volatile("movups %0, %%xmm7; fldpi" : : "m"(in));
    for (u32 i = 0; i < rounds; i++) {
        sys_yield();
        __asm__ volatile("movups %%xmm7, %0" : "=m"(out));
        if (out[0] != in[0] || out[1] != in[1])
            FAIL("xmm7 became %lx", out[0]);
    }
    u64 pi;
    __asm__ volatile("fstpl %0" : "=m"(pi));
    EQUAL(pi, 0x400921fb54442d18);
}

ROLE(fpu_peer) {
    u64 now[2];

    rt_context(0)->fpu = 1;
    __asm__ volatile("movups %%xmm7, %0" : "=m"(now));
    EQUAL(now[0] | now[1], 0);
    keep_state(rt_self() * 0x0101010101010101ull, 20);
    __atomic_fetch_add(&up->word[0], 1, __ATOMIC_SEQ_CST);
}

/* Who is called finds none of its caller's extended state, and takes nothing from it. Neither side says `fpu` to the
 * fast path of control transfer: it is off until exception 7 comes. */
static void use_extended(u32 caller, u32 kind, struct rt_message *m) {
    static u64 served;
    u64 in[2] = {m->rdi, caller}, out[2];

    (void)kind;
    rt_context(0)->fpu = 1;
    __asm__ volatile("movups %%xmm7, %0" : "=m"(out));
    m->rsi = out[0] == served;
    __asm__ volatile("movups %0, %%xmm7" : : "m"(in));
    served = in[0];
}
ROLE(fpu_server) {
    rt_on_transfer(use_extended);
    up->word[0] = 1;
    for (;;)
        sys_sleep(NEVER, 0, 0);
}
TEST(fpu_transfer) {
    u64 in[2] = {0x5555, 0xaaaa}, out[2];
    struct peer p;

    start_peer(&p, "fpu_server", 0);
    wait_for(&down->word[0], 1);
    for (u64 i = 1; i < 50; i++) {
        if (i == 20) {
            rt_context(0)->fpu = 1;
            __asm__ volatile("movups %0, %%xmm7" : : "m"(in));
        }
        struct rt_message m = {.rdi = i * 7};
        EQUAL(rt_transfer(p.env, TRANSFER_CALL, &m), 0);
        EQUAL(m.rsi, 1);
        if (i >= 20) {
            __asm__ volatile("movups %%xmm7, %0" : "=m"(out));
            CHECK(out[0] == in[0] && out[1] == in[1]);
        }
    }
    end_peer(&p);
}

/* Each environment keeps its extended state, and sees none of another's. */
TEST(fpu_preserved) {
    struct peer p[2];

    start_peer(&p[0], "fpu_peer", 0);
    start_peer(&p[1], "fpu_peer", 0);
    keep_state(0x1234567812345678, 20);
    wait_for(&down->word[0], 2);
    end_peer(&p[0]);
    end_peer(&p[1]);
}
