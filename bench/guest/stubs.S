/* The parts of rows that must be exact to the instruction. */
#include "targe/abi.h"

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
#define CALL_OF(kind) ((kind) << 8 | CALL_TRANSFER)

/* u64 pct_one_way(u32 env): one call; ticks from before `syscall` to the callee's first
 * instruction. */
    .globl pct_one_way
pct_one_way:
    pushq %rbx
    pushq %rbp
    pushq %r12
    pushq %r13
    pushq %r14
    pushq %r15
    shlq $32, %rdi
    leaq CALL_OF(TRANSFER_CALL)(%rdi), %rsi
    rdtsc
    shlq $32, %rdx
    leaq (%rdx, %rax), %rdi
    movq %rsi, %rax
    syscall
    movq %rdi, %rax
    popq %r15
    popq %r14
    popq %r13
    popq %r12
    popq %rbp
    popq %rbx
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

/* u64 lrpc(u32 env): calls the function in the other space; every register that C expects to be
 * kept is kept here, since the server may return anything. u64 tlrpc(u32 env): the server is
 * trusted to keep them. */
    .globl lrpc, tlrpc
lrpc:
    pushq %rbx
    pushq %rbp
    pushq %r12
    pushq %r13
    pushq %r14
    pushq %r15
    movq %rdi, %rax
    shlq $32, %rax
    orq $CALL_OF(TRANSFER_CALL), %rax
    syscall
    movq %rdi, %rax
    popq %r15
    popq %r14
    popq %r13
    popq %r12
    popq %rbp
    popq %rbx
    ret
tlrpc:
    movq %rdi, %rax
    shlq $32, %rax
    orq $CALL_OF(TRANSFER_CALL), %rax
    syscall
    movq %rdi, %rax
    ret
/* the server, on its transfer stack: C keeps what the caller wants kept */
    .globl rpc_entry
rpc_entry:
    pushq %rax
    call rpc_server
    movq %rax, %rdi
    popq %rax
    orq $CALL_OF(TRANSFER_REPLY), %rax
    syscall
    ud2

/* ---- directed yield: void give(u32 env). The kernel keeps rip, rsp and the registers that C
 * expects to be kept in a frame. It resumes that itself in a later slice; when the other gives
 * the processor back first, give_entry does. */
    .globl give, give_entry
give:
    movq %rdi, %rax
    shlq $32, %rax
    orq $CALL_OF(TRANSFER_GIVE), %rax
    syscall
    ret
give_entry:
    movabsq $0x10000, %rcx      /* RT_CONTEXT */
    movl CONTEXT_DEPTH_AT(%rcx), %edx
    leaq (%rdx, %rdx, 2), %rdx
    shlq $6, %rdx
    leaq CONTEXT_FRAME_AT - FRAME_BYTES(%rcx, %rdx), %rdx
    cmpl $CAUSE_OVERRUN, FRAME_CAUSE_AT(%rdx)
    je give_entry_all
    movq FRAME_RBX_AT(%rdx), %rbx
    movq FRAME_RBP_AT(%rdx), %rbp
    movq FRAME_R12_AT(%rdx), %r12
    movq FRAME_R13_AT(%rdx), %r13
    movq FRAME_R14_AT(%rdx), %r14
    movq FRAME_R15_AT(%rdx), %r15
    movq FRAME_RIP_AT(%rdx), %rsi
    movq FRAME_RSP_AT(%rdx), %rdi
    movl FRAME_PREVIOUS_AT(%rdx), %edx
    movq %rsi, -136(%rdi)       /* below the red zone, before the frame is given back */
    leaq -136(%rdi), %rsp
    movl %edx, CONTEXT_DEPTH_AT(%rcx)
    xorl %eax, %eax
    ret $128
/* The slice was cut off: every register counts. Until the frame is given back an upcall finds it
 * counted, and puts its own above. */
give_entry_all:
    movq FRAME_RSP_AT(%rdx), %rsp
    leaq -128(%rsp), %rsp
    pushq FRAME_RIP_AT(%rdx)
    pushq FRAME_RFLAGS_AT(%rdx)
    pushq FRAME_RAX_AT(%rdx)
    pushq FRAME_RCX_AT(%rdx)
    pushq FRAME_RDX_AT(%rdx)
    pushq FRAME_RSI_AT(%rdx)
    pushq FRAME_RDI_AT(%rdx)
    pushq FRAME_RBX_AT(%rdx)
    pushq FRAME_RBP_AT(%rdx)
    pushq FRAME_R8_AT(%rdx)
    pushq FRAME_R9_AT(%rdx)
    pushq FRAME_R10_AT(%rdx)
    pushq FRAME_R11_AT(%rdx)
    pushq FRAME_R12_AT(%rdx)
    pushq FRAME_R13_AT(%rdx)
    pushq FRAME_R14_AT(%rdx)
    pushq FRAME_R15_AT(%rdx)
    movl FRAME_PREVIOUS_AT(%rdx), %edx
    movl %edx, CONTEXT_DEPTH_AT(%rcx)
    popq %r15
    popq %r14
    popq %r13
    popq %r12
    popq %r11
    popq %r10
    popq %r9
    popq %r8
    popq %rbp
    popq %rbx
    popq %rdi
    popq %rsi
    popq %rdx
    popq %rcx
    popq %rax
    popfq
    ret $128
    .if FRAME_BYTES != 192
    .error "give_entry computes 192 * depth"
    .endif

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
