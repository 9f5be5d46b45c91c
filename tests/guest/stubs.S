/* What tests cannot say in C: calls with chosen registers, code that is broken off. */
#include "targe/abi.h"

    .text
/* void raw_call(struct raw *): see guest.h for the order of the fields. */
    .globl raw_call
raw_call:
    pushq %rbx
    pushq %rbp
    pushq %r12
    pushq %r13
    pushq %r14
    pushq %r15
    pushq %rdi
    movq 0(%rdi), %rax
    movq 16(%rdi), %rsi
    movq 24(%rdi), %rdx
    movq 32(%rdi), %r10
    movq 40(%rdi), %r8
    movq 48(%rdi), %r9
    movq 8(%rdi), %rdi
    movl $0xb0, %ebx
    movl $0xb1, %ebp
    movl $0xb2, %r12d
    movl $0xb3, %r13d
    movl $0xb4, %r14d
    movl $0xb5, %r15d
    syscall
    .globl raw_call_return
raw_call_return:
    pushq %rcx
    movq 8(%rsp), %rcx
    movq %rax, 0(%rcx)
    movq %rdi, 8(%rcx)
    movq %rsi, 16(%rcx)
    movq %rdx, 24(%rcx)
    movq %r10, 32(%rcx)
    movq %r8, 40(%rcx)
    movq %r9, 48(%rcx)
    movq %r11, 56(%rcx)
    movq %rbx, 72(%rcx)
    movq %rbp, 80(%rcx)
    movq %r12, 88(%rcx)
    movq %r13, 96(%rcx)
    movq %r14, 104(%rcx)
    movq %r15, 112(%rcx)
    popq %rax
    movq %rax, 64(%rcx)
    popq %rdi
    popq %r15
    popq %r14
    popq %r13
    popq %r12
    popq %rbp
    popq %rbx
    ret

/* bool attempt_run(void (*code)(u64), u64 argument): 0, or 1 when attempt_entry broke it off. */
    .globl attempt_run
attempt_run:
    pushq %rbx
    pushq %rbp
    pushq %r12
    pushq %r13
    pushq %r14
    pushq %r15
    pushq attempt_rsp(%rip)
    movq %rsp, attempt_rsp(%rip)
    movq %rdi, %rax
    movq %rsi, %rdi
    call *%rax
    xorl %eax, %eax
1:  popq attempt_rsp(%rip)
    popq %r15
    popq %r14
    popq %r13
    popq %r12
    popq %rbp
    popq %rbx
    ret

/* Entry for exceptions while an attempt is made: rdi: frame, rsi: cause. The stack may be anything, and
 * what was interrupted is not gone back to. */
    .globl attempt_entry
attempt_entry:
    movabsq $attempt_stack_top, %rsp
    call attempt_caught
    movq attempt_rsp(%rip), %rsp
    movl $1, %eax
    jmp 1b

/* Where threads begin: rdi: function, rsi: argument, on their own stack. */
    .globl thread_entry
thread_entry:
    movq %rdi, %rax
    movq %rsi, %rdi
    call *%rax
1:  movl $CALL_SLEEP, %eax   /* for ever */
    movq $-1, %rdi
    xorl %esi, %esi
    syscall
    jmp 1b

    .bss
    .balign 16
attempt_rsp: .quad 0
    .balign 16
    .skip 8192
attempt_stack_top:
    .section .note.GNU-stack, "", @progbits
