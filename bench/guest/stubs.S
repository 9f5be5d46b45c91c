/* The parts of rows that must be exact to the instruction. */
#include "registers.h"

    .text
/* ---- exceptions: an entry of one's own, without libos/rt. It keeps the time, steps over the
 * faulting instruction and resumes without the kernel. Only rax, rcx, rdx, rsi, rdi are touched:
 * those are in the frame. As in libos/rt, the state goes over the interrupted stack, below the
 * red zone, and the frame is given back before the last step. */
    .globl exception_entry
exception_entry:            /* rdi: frame */
    rdtsc
    shlq $32, %rdx
    orq %rdx, %rax
    movq %rax, exception_tsc(%rip)
    movq FRAME_RSP_AT(%rdi), %rcx
    movq FRAME_RIP_AT(%rdi), %rax
    addq exception_skip(%rip), %rax
    movq %rax, -136(%rcx)
    movq FRAME_RFLAGS_AT(%rdi), %rax
    movq %rax, -144(%rcx)
    movq FRAME_RCX_AT(%rdi), %rax
    movq %rax, -152(%rcx)
    movl FRAME_PREVIOUS_AT(%rdi), %edx
    movq %rdi, %rax
    andq $~4095, %rax
    movq FRAME_RSI_AT(%rdi), %rsi
    leaq -152(%rcx), %rsp
    pushq FRAME_RAX_AT(%rdi)
    pushq FRAME_RDX_AT(%rdi)
    movq FRAME_RDI_AT(%rdi), %rdi
    movl %edx, CONTEXT_DEPTH_AT(%rax)
    popq %rdx
    popq %rax
    popq %rcx
    popfq
    ret $128

/* ---- control transfer */

/* u64 pct_one_way(u32 env): one call; ticks from before `syscall` to the callee's first
 * instruction. */
    .globl pct_one_way
pct_one_way:
    push_kept
    shlq $32, %rdi
    leaq CALL_OF(TRANSFER_CALL)(%rdi), %rsi
    rdtsc
    shlq $32, %rdx
    leaq (%rdx, %rax), %rdi
    movq %rsi, %rax
    syscall
    movq %rdi, %rax
    pop_kept
    ret
/* the callee: rdi: the time of the call; rax: caller << 32 | TRANSFER_CALL */
    .globl pct_one_way_entry
pct_one_way_entry:
    movq %rax, %rcx
    rdtsc
    shlq $32, %rdx
    orq %rdx, %rax
    subq %rdi, %rax
    movq %rax, %rdi
    leaq CALL_OF(TRANSFER_REPLY)(%rcx), %rax
    syscall
    ud2

/* void pct_loop(u64 n, u32 env): n calls of an entry that replies at once; all registers come
 * back. */
    .globl pct_loop
pct_loop:
    pushq %rbx
    pushq %rbp
    movq %rdi, %rbx
    shlq $32, %rsi
    leaq CALL_OF(TRANSFER_CALL)(%rsi), %rbp
1:  movq %rbp, %rax
    syscall
    decq %rbx
    jnz 1b
    popq %rbp
    popq %rbx
    ret
    .globl pct_entry
pct_entry:
    orq $CALL_OF(TRANSFER_REPLY), %rax
    syscall
    ud2

/* ---- environments: where one that is made to end begins (page-aligned: the page is shared with
 * it) */
    .balign 4096
    .globl short_life, short_life_end
short_life:
    movl $CALL_ENV_STOP, %eax
    xorl %edi, %edi
    xorl %esi, %esi
    syscall
    ud2
    .balign 4096
short_life_end:
    .section .note.GNU-stack, "", @progbits
