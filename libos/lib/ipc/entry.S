/* The entry for transfers, and the side of lrpc that saves registers. */
#include "registers.h"

#define FRAME0(field) (CONTEXT_FRAME_AT + (field))

    .text
/* rax: caller << 32 | kind; rsp: at the word that names the context. Who is given a slice goes on where it
 * was suspended. That is nearly always its own GIVE or yield, alone in the first frame: then only
 * what C expects to be kept is loaded. All is loaded before the frame is given back, since an
 * upcall may use it the moment after. */
    .balign 16
    .globl ipc_entry
ipc_entry:
    cmpb $TRANSFER_CALL, %al
    je called
    movq (%rsp), %rdi
    cmpl $1, CONTEXT_DEPTH_AT(%rdi)
    jne given_other
    cmpl $CAUSE_YIELD, FRAME0(FRAME_CAUSE_AT)(%rdi)
    jne given_other
    movq FRAME0(FRAME_RBX_AT)(%rdi), %rbx
    movq FRAME0(FRAME_RBP_AT)(%rdi), %rbp
    movq FRAME0(FRAME_R12_AT)(%rdi), %r12
    movq FRAME0(FRAME_R13_AT)(%rdi), %r13
    movq FRAME0(FRAME_R14_AT)(%rdi), %r14
    movq FRAME0(FRAME_R15_AT)(%rdi), %r15
    movq FRAME0(FRAME_RIP_AT)(%rdi), %rcx
    movq FRAME0(FRAME_RSP_AT)(%rdi), %rsp
    xorl %eax, %eax
    movl %eax, CONTEXT_DEPTH_AT(%rdi)
    jmp *%rcx
given_other:            /* any other state: all registers count */
    movl CONTEXT_DEPTH_AT(%rdi), %eax
    decl %eax
    imulq $FRAME_BYTES, %rax, %rax
    leaq CONTEXT_FRAME_AT(%rdi, %rax), %rdi
    jmp rt_leave_frame

called:                 /* the context serves one call at a time, so the stack is free */
    movq %rax, %r8
    pushq %rax
    shrq $32, %r8
    movq ipc_called(%rip), %rax
    movq %r10, %rcx
    subq $8, %rsp
    call *%rax
    addq $8, %rsp
    movq %rax, %rdi
    popq %rax
    orq $CALL_OF(TRANSFER_REPLY), %rax
    syscall
    ud2                 /* a reply does not return */

/* s64 ipc_lrpc(u32 env, u64 a, u64 b, u64 *result): the server may reply with anything in any register. */
    .globl ipc_lrpc
ipc_lrpc:
    push_kept
    pushq %rcx
    movq %rdi, %rax
    shlq $32, %rax
    orq $CALL_OF(TRANSFER_CALL), %rax
    movq %rsi, %rdi
    movq %rdx, %rsi
    syscall
    popq %rcx
    movq %rdi, (%rcx)
    pop_kept
    ret

    .bss
    .balign 8
    .globl ipc_called
ipc_called: .quad 0
    .section .note.GNU-stack, "", @progbits
