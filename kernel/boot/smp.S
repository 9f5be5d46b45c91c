/* Where another CPU begins, copied to TRAMPOLINE_PAGE: real mode to long mode with the boot tables. */
#include "x86/registers.h"

#define PHYSICAL(symbol) ((symbol) - 0xffffffff80000000)
#define AT(label) (0x8000 + (label) - trampoline)

    .section .rodata
    .globl trampoline, trampoline_end
    .code16
trampoline:
    cli
    xorw %ax, %ax
    movw %ax, %ds
    lgdtl AT(pointer)
    movl %cr0, %eax
    orl $CR0_PE, %eax
    movl %eax, %cr0
    ljmpl $8, $AT(protected)
    .code32
protected:
    movl $16, %eax
    movw %ax, %ds
    movw %ax, %ss
    movl $AT(trampoline) + 4096, %esp
    movl $PHYSICAL(boot_pml4), %eax
    movl $PHYSICAL(boot_long_mode), %edx
    call *%edx
    ljmp $8, $AT(long)
    .code64
long:
    movabsq $smp_first, %rax
    jmp *%rax
    .balign 8
gdt:
    .quad 0, 0x00cf9b000000ffff, 0x00cf93000000ffff
pointer:
    .word 23
    .long AT(gdt)
trampoline_end:

/* In the kernel's text, which the boot tables have too; they lack memory above 1 GiB, where the stack may be. */
    .text
smp_first:
    movl $MSR_EFER, %ecx
    movl smp_efer(%rip), %eax
    xorl %edx, %edx
    wrmsr
    movq smp_root(%rip), %rax
    movq %rax, %cr3
    movq smp_stack(%rip), %rsp
    call smp_enter
    .section .note.GNU-stack, "", @progbits
