/* Instructions that belong to the kernel, and ways into it that are none. Each is broken off by an
 * exception, or does no harm. */
#include "abuse.h"

#define UD 6
#define NP 11
#define GP 13
#define PF 14
#define BIT(n) (1u << (n))
#define UMIP BIT(31) /* only where the CPU has that: Bochs has not */

#define KERNEL_TEXT "0xffffffff80100000"

/* name, code, the exceptions of which one must come. QEMU before 9.1 reads the stack of far returns
 * with the kernel's rights, which SMAP refuses: a page fault then. */
#define INSTRUCTIONS(X) \
    X(hlt, "hlt", BIT(GP)) \
    X(cli, "cli", BIT(GP)) \
    X(sti, "sti", BIT(GP)) \
    X(in_byte, "inb $0x60, %al", BIT(GP)) \
    X(in_word, "movw $0xcf8, %dx; inl %dx, %eax", BIT(GP)) \
    X(out_byte, "outb %al, $0xf4", BIT(GP)) \
    X(out_string, "movw $0x3f8, %dx; movq %rsp, %rsi; outsb", BIT(GP)) \
    X(in_string, "movw $0x3f8, %dx; movq %rsp, %rdi; insb", BIT(GP)) \
    X(lgdt, "lgdt (%rsp)", BIT(GP)) \
    X(lidt, "lidt (%rsp)", BIT(GP)) \
    X(lldt, "xorl %eax, %eax; lldt %ax", BIT(GP)) \
    X(ltr, "movl $0x28, %eax; ltr %ax", BIT(GP)) \
    X(sgdt, "sgdt -16(%rsp)", BIT(GP) | UMIP) \
    X(sidt, "sidt -16(%rsp)", BIT(GP) | UMIP) \
    X(sldt, "sldt %rax", BIT(GP) | UMIP) \
    X(str, "str %rax", BIT(GP) | UMIP) \
    X(smsw, "smsw %rax", BIT(GP) | UMIP) \
    X(lmsw, "lmsw %ax", BIT(GP)) \
    X(clts, "clts", BIT(GP)) \
    X(read_cr0, "movq %cr0, %rax", BIT(GP)) \
    X(read_cr3, "movq %cr3, %rax", BIT(GP)) \
    X(read_cr8, "movq %cr8, %rax", BIT(GP)) \
    X(write_cr0, "xorl %eax, %eax; movq %rax, %cr0", BIT(GP)) \
    X(write_cr3, "xorl %eax, %eax; movq %rax, %cr3", BIT(GP)) \
    X(write_cr4, "xorl %eax, %eax; movq %rax, %cr4", BIT(GP)) \
    X(read_dr7, "movq %dr7, %rax", BIT(GP)) \
    X(write_dr0, "xorl %eax, %eax; movq %rax, %dr0", BIT(GP)) \
    X(rdmsr, "movl $0xc0000082, %ecx; rdmsr", BIT(GP)) \
    X(wrmsr, "movl $0xc0000082, %ecx; xorl %eax, %eax; xorl %edx, %edx; wrmsr", BIT(GP)) \
    X(rdpmc, "xorl %ecx, %ecx; rdpmc", BIT(GP) | BIT(UD)) \
    X(xsetbv, "xorl %ecx, %ecx; movl $7, %eax; xorl %edx, %edx; xsetbv", BIT(GP)) \
    X(invlpg, "invlpg (%rsp)", BIT(GP)) \
    X(invd, "invd", BIT(GP)) \
    X(wbinvd, "wbinvd", BIT(GP)) \
    X(swapgs, "swapgs", BIT(GP)) \
    X(stac, "stac", BIT(UD)) \
    X(clac, "clac", BIT(UD)) \
    X(sysret, "movq (%rsp), %rcx; movl $0x202, %r11d; sysretq", BIT(GP) | BIT(UD)) \
    X(sysenter, "sysenter", BIT(GP) | BIT(UD)) \
    X(sysexit, "sysexitl", BIT(GP) | BIT(UD)) \
    X(monitor, "movq %rsp, %rax; xorl %ecx, %ecx; xorl %edx, %edx; monitor", BIT(GP) | BIT(UD)) \
    X(mwait, "xorl %eax, %eax; xorl %ecx, %ecx; mwait", BIT(GP) | BIT(UD)) \
    X(vmcall, "vmcall", BIT(GP) | BIT(UD)) \
    X(vmmcall, "vmmcall", BIT(GP) | BIT(UD)) \
    X(vmrun, "vmrun", BIT(GP) | BIT(UD)) \
    X(rsm, "rsm", BIT(GP) | BIT(UD)) \
    X(wrpkru, "xorl %ecx, %ecx; xorl %edx, %edx; wrpkru", BIT(GP) | BIT(UD)) \
    X(far_jump, "pushq $8; pushq $0x400000; lretq", BIT(GP) | BIT(PF)) \
    X(far_jump_tss, "pushq $0x28; pushq $0x400000; lretq", BIT(GP) | BIT(PF)) \
    X(iret_kernel, "pushq $0x10; pushq %rsp; pushq $0x202; pushq $8; pushq $0x400000; iretq", \
      BIT(GP) | BIT(PF)) \
    X(iret_stack, "pushq $0x10; pushq %rsp; pushq $0x202; pushq $0x23; pushq $0x400000; iretq", \
      BIT(GP) | BIT(PF)) \
    X(jump_kernel, "movabsq $" KERNEL_TEXT ", %rax; jmp *%rax", BIT(PF)) \
    X(read_kernel, "movabsq $" KERNEL_TEXT ", %rax; movq (%rax), %rax", BIT(PF)) \
    X(load_ss_kernel, "movl $0x10, %eax; movw %ax, %ss", BIT(GP)) \
    X(load_ss_null, "xorl %eax, %eax; movw %ax, %ss", BIT(GP)) \
    X(load_ds_kernel, "movl $0x10, %eax; movw %ax, %ds", BIT(GP)) \
    X(load_fs_tss, "movl $0x28, %eax; movw %ax, %fs", BIT(GP)) \
    X(load_gs_ldt, "movl $0x0f, %eax; movw %ax, %gs", BIT(GP))

#define FUNCTION(name, code, allowed) \
    static __attribute__((naked)) void do_##name(__attribute__((unused)) u64 x) { \
        __asm__(code "; ret"); \
    }
INSTRUCTIONS(FUNCTION)

/* None of the kernel's instructions works. */
TEST(instructions_privileged) {
    static const struct {
        const char *name;
        void (*code)(u64);
        u32 allowed;
    } row[] = {
#define ROW(name, code, allowed) {#name, do_##name, allowed},
        INSTRUCTIONS(ROW)};
    struct caught c;

    for (u32 i = 0; i < ARRAY_SIZE(row); i++) {
        if (row[i].allowed & UMIP && !cpu_has(7, 2, 2))
            continue;
        if (!attempt(row[i].code, 0, &c))
            FAIL("%s worked", row[i].name);
        if (!(row[i].allowed >> c.cause & 1))
            FAIL("%s: cause %lu error %lx", row[i].name, c.cause, c.error);
        EQUAL(sys_null(), 0);
    }
}

/* Only int3 and int $4 are a libOS's own; every other vector is refused, naming itself. */
TEST(instructions_int) {
    u32 page = page_alloc(1);
    u8 *code = (u8 *)mapped(page, 1, MAP_WRITE | MAP_EXECUTE);
    struct caught c;

    for (u32 n = 0; n < 256; n++) {
        memcpy(code, (u8[]){0xcd, (u8)n, 0xc3}, 3);
        CHECK(attempt((void (*)(u64))(u64)code, 0, &c));
        if (n == 3 || n == 4)
            EQUAL(c.cause, n);
        else if (c.cause != GP ||
                 (c.error != n * 8 + 2 && c.error != n * 16 + 2)) /* the latter is QEMU's way */
            FAIL("int %u: cause %lu error %lx", n, c.cause, c.error);
    }
}

static __attribute__((naked)) void load_selectors(__attribute__((unused)) u64 selector) {
    __asm__(
        "movw %di, %ds; movw %di, %es; movw %di, %fs; movw %di, %gs; movl $0, %eax; syscall; ret");
}

/* Any selector is refused or harmless, and the kernel finds its own data afterwards. */
TEST(instructions_selectors) {
    struct caught c;

    for (u64 s = 0; s < 0x60; s++) {
        if (attempt(load_selectors, s, &c))
            if (c.cause != GP && c.cause != NP)
                FAIL("selector %lx: cause %lu", s, c.cause);
        EQUAL(sys_null(), 0);
        EQUAL(sys_yield(), 0);
    }
    for (u64 s = 0x60; s < 0x10000; s += 0x1f7)
        CHECK(attempt(load_selectors, s, &c) && c.cause == GP);
    load_selectors(0);
}

static __attribute__((naked)) void write_bases(__attribute__((unused)) u64 base) {
    __asm__("wrfsbase %rdi; wrgsbase %rdi; movl $0, %eax; syscall; ret");
}

/* Segment bases are the libOS's own; the kernel's is not among them. */
TEST(instructions_bases) {
    static const u64 base[] = {0,
                               1,
                               0x1000,
                               RT_CONTEXT,
                               0x7fffffffffff,
                               0xffff800000000000,
                               0xffffffff80100000,
                               ~0ull,
                               0x800000000000,
                               0x8000000000000000};
    struct caught c;

    for (u32 i = 0; i < ARRAY_SIZE(base); i++) {
        bool broken = attempt(write_bases, base[i], &c);
        CHECK(i >= 8 || !broken); /* QEMU loads those that are not canonical, too */
        for (u32 k = 0; k < 3; k++) {
            EQUAL(sys_yield(), 0);
            CHECK(attempt(do_hlt, 0, &c));
        }
        u64 end = rt_tsc() + milliseconds(2);
        while (rt_tsc() < end)
            ; /* for a timer interrupt */
    }
    write_bases(0);
}

u64 flags_after;
static __attribute__((naked)) void call_with_flags(__attribute__((unused)) u64 flags) {
    __asm__(
        "movl $0, %eax; pushq %rdi; popfq; syscall; pushfq; popq %rdx; cld; pushq $0x202; popfq\n"
        "movq %rdx, flags_after(%rip); ret");
}

/* A call with any flags returns with the same, and never with more. */
TEST(instructions_flags) {
    static const u64 flags[] = {0x400,  0x40000, 0x4000,   0x44400, 0x200000,
                                0x3000, 0x23000, 0x180000, 0xcd5,   0xffffffffffffeff};
    struct caught c;

    for (u32 i = 0; i < ARRAY_SIZE(flags); i++) {
        flags_after = 0;
        CHECK(!attempt(call_with_flags, flags[i] & ~0x100ull, &c));
        EQUAL(flags_after & 0x3000, 0);
        EQUAL(flags_after & 0x20000, 0);
        CHECK(flags_after & 0x200);
        EQUAL(flags_after & 0x44400 & flags[i], flags[i] & 0x44400);
        EQUAL(sys_yield(), 0);
    }
    /* Bochs takes the single step that `syscall` masks, in the kernel and for ever; processors do not. */
    if (number_argument("bochs", 0))
        return;
    CHECK(attempt(call_with_flags, 0x100, &c));
    EQUAL(c.cause, 1);
    CHECK(c.rip < USER_TOP);
}

/* No address of the kernel's half is read, written or executed, wherever memory is mapped in it. */
TEST(instructions_kernel_half) {
    u32 page = page_alloc(1);
    static const u64 at[] = {0xffff800000000000,
                             0xffff800000100000,
                             0xffffc00000000000,
                             0xffffffff80000000,
                             0xffffffff80100000,
                             0xffffffffffffe000,
                             0xffff800000000000 + (64ull << 20),
                             0x800000000000,
                             0xffff7fffffffffff};

    for (u32 i = 0; i < ARRAY_SIZE(at); i++) {
        u32 expected = at[i] > 0x7fffffffffff && at[i] < 0xffff800000000000 ? GP : PF;
        EQUAL(try_read(at[i]), expected);
        EQUAL(try_write(at[i]), expected);
        EQUAL(try_execute(at[i]), expected);
    }
    EQUAL(try_read(0xffff800000000000 + page * RT_PAGE),
          PF); /* its own memory, by the kernel's address */
    EQUAL(try_write(0xffff800000000000 + rt_self() * RT_PAGE), PF);
}
