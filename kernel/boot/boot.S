/* The first instructions. Both loaders enter in 32-bit protected mode without paging: PVH
 * (QEMU -kernel) with ebx = hvm_start_info, multiboot2 (GRUB) with eax = magic and ebx = its
 * information. Boot tables map the first GiB three times: at 0, at DIRECT_BASE and at
 * KERNEL_BASE; memory_init replaces them. */
#include "x86/registers.h"

#define PHYSICAL(symbol) ((symbol) - 0xffffffff80000000)
#define MULTIBOOT2 0xe85250d6
#define BOOT_PVH 1
#define BOOT_MULTIBOOT2 2

    .section .multiboot2, "a"
    .balign 8
header:
    .long MULTIBOOT2, 0, header_end - header, -(MULTIBOOT2 + 0 + (header_end - header))
    .word 6, 0          /* align modules to pages */
    .long 8
    .word 0, 0          /* end */
    .long 8
header_end:

    .section .note.pvh, "a", @note
    .balign 4
    .long 4, 8, 18      /* XEN_ELFNOTE_PHYS32_ENTRY */
    .asciz "Xen"
    .quad PHYSICAL(boot_pvh)

    .section .boot, "ax"
    .code32
    .globl boot_pvh, boot_multiboot2
boot_pvh:
    movl $BOOT_PVH, %edi
    jmp 1f
boot_multiboot2:
    movl $BOOT_MULTIBOOT2, %edi
1:  cli
    cld
    movl %ebx, %esi
    rdtsc
    movl %eax, PHYSICAL(boot_tsc)
    movl %edx, PHYSICAL(boot_tsc) + 4
    movl $PHYSICAL(boot_stack_top), %esp

    movl $PHYSICAL(boot_pd), %eax           /* 512 pages of 2 MiB */
    movl $0x83, %ecx
2:  movl %ecx, (%eax)
    movl $0, 4(%eax)
    addl $8, %eax
    addl $0x200000, %ecx
    cmpl $0x40000083, %ecx
    jne 2b
    movl $PHYSICAL(boot_pd) + 3, %eax
    movl %eax, PHYSICAL(boot_pdpt)          /* for 0 and DIRECT_BASE */
    movl %eax, PHYSICAL(boot_pdpt_high) + 510 * 8
    movl $PHYSICAL(boot_pdpt) + 3, PHYSICAL(boot_pml4)
    movl $PHYSICAL(boot_pdpt) + 3, PHYSICAL(boot_pml4) + 256 * 8
    movl $PHYSICAL(boot_pdpt_high) + 3, PHYSICAL(boot_pml4) + 511 * 8

    movl $PHYSICAL(boot_pml4), %eax
    call boot_long_mode
    ljmp $8, $PHYSICAL(boot64)

/* Turns on paging with the table in eax; the caller is in 32-bit code at its physical address. Then 8 selects 64-bit code. */
    .globl boot_long_mode
boot_long_mode:
    movl %eax, %cr3
    movl $CR4_PAE, %eax
    movl %eax, %cr4
    movl $MSR_EFER, %ecx
    rdmsr
    orl $(EFER_LME | EFER_SCE), %eax
    wrmsr
    movl $(CR0_PG | CR0_WP | CR0_PE | CR0_NE | CR0_MP), %eax
    movl %eax, %cr0
    lgdt PHYSICAL(boot_gdt_pointer)
    ret

    .code64
boot64:
    movabsq $boot_high, %rax
    jmp *%rax
    .text
boot_high:
    xorl %eax, %eax
    movw %ax, %ds
    movw %ax, %es
    movw %ax, %ss
    movw %ax, %fs
    movw %ax, %gs
    movq $boot_stack_top, %rsp
    xorl %ebp, %ebp
    movl %edi, %edi
    movl %esi, %esi
    call kernel_main
    ud2

    .section .rodata
    .balign 8
boot_gdt:
    .quad 0, 0x00af9b000000ffff
    .globl boot_gdt_pointer
boot_gdt_pointer:
    .word 15
    .quad PHYSICAL(boot_gdt)

    .data
    .balign 8
    .globl boot_tsc
boot_tsc: .quad 0

    .bss
    .balign 4096
    .globl boot_pml4
boot_pml4: .skip 4096
boot_pdpt: .skip 4096
boot_pdpt_high: .skip 4096
boot_pd: .skip 4096
    .skip 16384
    .globl boot_stack_top
boot_stack_top:
    .section .note.GNU-stack, "", @progbits
