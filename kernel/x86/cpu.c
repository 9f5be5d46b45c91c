/* Setting up a CPU (Intel SDM vol. 3, chapters 2 to 6). */
#include "x86/cpu.h"

#include "core/memory.h"
#include "x86/bases.h"
#include "x86/fpu.h"
#include "x86/io.h"
#include "x86/mmu.h"
#include "x86/registers.h"

#define STACK_PAGES 4
#define FAULT_STACKS 3

struct cpu *cpus[MAX_CPUS];
u32 cpu_count;
u64 mmu_nx;
bool bases_present, pcid_present;
static u64 cr4_bits;

extern char entry_vectors[], entry_syscall[], user_copy_open[], user_copy_close[], user_load_open[], user_words_open[], user_load_close[], entry_trap_close[], entry_exception_close[], transfer_wipe_call[], transfer_wipe_reply[];

static struct gate { u16 low, selector; u8 ist, type; u16 middle; u32 high, zero; } idt[256] ALIGNED(16);

void cpu_features_init(void) {
    struct cpuid extended = cpuid(0x80000001, 0);
    struct cpuid seven = cpuid(0, 0).a >= 7 ? cpuid(7, 0) : (struct cpuid){0};

    if (extended.d >> 20 & 1) {
        mmu_nx = PTE_NX;
        wrmsr(MSR_EFER, rdmsr(MSR_EFER) | EFER_NXE); /* before any table with the bit is loaded */
    }
    cr4_bits = CR4_PAE;
    bases_present = seven.b & 1;
    if (bases_present) {
        cr4_bits |= CR4_FSGSBASE;
    } else { /* the fast path wipes the bases where there are any to wipe */
        memset(transfer_wipe_call, 0x90, 10);
        memset(transfer_wipe_reply, 0x90, 10);
    }
    pcid_present = cpuid(1, 0).c >> 17 & seven.b >> 10 & 1; /* and INVPCID */
    if (pcid_present)
        cr4_bits |= CR4_PCIDE;
    if (seven.b >> 7 & 1)
        cr4_bits |= CR4_SMEP;
    if (seven.c >> 2 & 1)
        cr4_bits |= CR4_UMIP;
    if (seven.b >> 20 & 1) {
        cr4_bits |= CR4_SMAP;
        char *const at[] = {user_copy_open, user_load_open, user_words_open,
                            user_copy_close, user_load_close, entry_trap_close, entry_exception_close};
        for (u32 i = 0; i < ARRAY_SIZE(at); i++)
            memcpy(at[i], i < 3 ? "\x0f\x01\xcb" : "\x0f\x01\xca", 3); /* stac, clac */
    }
    for (u32 vector = 0; vector < 256; vector++) {
        u64 at = (u64)entry_vectors + 16 * vector;
        bool open = vector == 3 || vector == 4; /* int3 and into are the libOS's to use */
        u8 ist = vector == 2 ? 1 : vector == 8 ? 2 : vector == 18 ? 3 : 0;
        idt[vector] = (struct gate){(u16)at, KERNEL_CS, ist, open ? 0xee : 0x8e, (u16)(at >> 16), (u32)(at >> 32), 0};
    }
}

static void load_tables(struct cpu *cpu) {
    u64 base = (u64)&cpu->tss;
    struct { u16 limit; u64 base; } __attribute__((packed)) gdt = {sizeof cpu->gdt - 1, (u64)cpu->gdt},
                                                            idtr = {sizeof idt - 1, (u64)idt};

    cpu->gdt[1] = 0x00af9b000000ffff; /* kernel code */
    cpu->gdt[2] = 0x00cf93000000ffff; /* kernel data */
    cpu->gdt[3] = 0x00cff3000000ffff; /* user data */
    cpu->gdt[4] = 0x00affb000000ffff; /* user code */
    cpu->gdt[5] = (sizeof cpu->tss - 1) | (base & 0xffffff) << 16 | 0x89ull << 40 | (base >> 24 & 0xff) << 56;
    cpu->gdt[6] = base >> 32;
    cpu->tss.io_map = sizeof cpu->tss;
    __asm__ volatile("lgdt %0" : : "m"(gdt));
    __asm__ volatile("lidt %0" : : "m"(idtr));
    __asm__ volatile("pushq %0; leaq 1f(%%rip), %%rax; pushq %%rax; lretq; 1:" : : "i"(KERNEL_CS) : "rax", "memory");
    __asm__ volatile("movl %0, %%ss; movl %1, %%ds; movl %1, %%es; movl %1, %%fs; movl %1, %%gs"
                     : : "r"(KERNEL_SS), "r"(0));
    __asm__ volatile("ltr %w0" : : "r"(TSS_SELECTOR));
    /* After a reset the local table is no less than 64 KiB at address 0, which is a libOS's to map. */
    __asm__ volatile("lldt %w0" : : "r"(0));
}

void cpu_init(struct cpu *cpu) {
    wrmsr(MSR_EFER, rdmsr(MSR_EFER) | EFER_SCE | (mmu_nx ? EFER_NXE : 0));
    load_root(ptr_phys(kernel_root));
    load_tables(cpu);
    __asm__ volatile("movq %0, %%cr4" : : "r"(cr4_bits));
    wrmsr(MSR_GS_BASE, (u64)cpu);
    wrmsr(MSR_KERNEL_GS_BASE, 0);
    wrmsr(MSR_STAR, (u64)KERNEL_CS << 32 | (u64)KERNEL_SS << 48);
    wrmsr(MSR_LSTAR, (u64)entry_syscall);
    wrmsr(MSR_FMASK, 0x47700); /* TF IF DF IOPL NT AC */
    fpu_init_cpu();
}

struct cpu *cpu_make(u32 number) {
    u32 trace_pages = sizeof(struct trace) / PAGE_SIZE;
    struct trace *trace = boot_pages(trace_pages + (u32)(round_up(sizeof(struct cpu), PAGE_SIZE) / PAGE_SIZE));
    struct cpu *cpu = (struct cpu *)(trace + 1); /* so that its counters are found through gs: CPU_TRACE */
    char *stack = boot_pages(STACK_PAGES), *fault_stacks = boot_pages(FAULT_STACKS);

    cpu->self = cpu;
    cpu->number = number;
    cpu->direct = DIRECT_BASE;
    cpu->peer = cpu->reply_peer = NO_PEER;
    cpu->payer = &nobody;
    cpu->records = DIRECT_BASE + offsetof(struct env, context) + number * sizeof(struct env_context);
    cpu->slot = SLOTS - 1;
    cpu->timer = NEVER;
    cpu->hint = number * 4096; /* far from the others' */
    cpu->trace = expose(trace, trace_pages);
    cpu->slices = expose(boot_pages(1), 1);
    cpu->user_mask = (1ull << USER_BITS) - 1;
    cpu->slices->cpu = number;
    cpu->slices->current = SLOTS;
    cpu->kernel_rsp = cpu->tss.rsp0 = (u64)stack + STACK_PAGES * PAGE_SIZE;
    for (u32 i = 0; i < FAULT_STACKS; i++) /* NMI, double fault, machine check */
        cpu->tss.ist[i] = (u64)fault_stacks + (i + 1) * PAGE_SIZE;
    cpus[number] = cpu;
    return cpu;
}
