/* What tests cannot say in C: calls with chosen registers, code that is broken off. */
#include "registers.h"

    .text
/* void raw_call(struct raw *): see guest.h for the order of the fields. */
    .globl raw_call
raw_call:
    push_kept
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
    pop_kept
    ret

/* bool attempt_run(void (*code)(u64), u64 argument): 0, or 1 when attempt_entry broke it off. */
    .globl attempt_run
attempt_run:
    push_kept
    pushq attempt_rsp(%rip)
    movq %rsp, attempt_rsp(%rip)
    movq %rdi, %rax
    movq %rsi, %rdi
    call *%rax
    xorl %eax, %eax
1:  popq attempt_rsp(%rip)
    pop_kept
    ret

/* Entry for exceptions while an attempt is made: rdi: frame, rsi: cause. The stack may be anything,
 * and what was interrupted is not gone back to. */
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
thread_over:
    movl $CALL_SLEEP, %eax   /* for ever */
    movq $-1, %rdi
    xorl %esi, %esi
    syscall
    jmp thread_over

/* Entry for the start of a slice: tells note_start, then resumes the top frame, that of a yield:
 * what a call may have changed need not be restored. */
    .globl start_entry
start_entry:
    pushq %rdi
    call note_start
    popq %rdi
    movl CONTEXT_DEPTH_AT(%rdi), %eax
    decl %eax
    imull $FRAME_BYTES, %eax, %eax
    leaq CONTEXT_FRAME_AT(%rdi, %rax), %rdx
    movl FRAME_PREVIOUS_AT(%rdx), %ecx
    movq FRAME_RBP_AT(%rdx), %rbp
    movq FRAME_RBX_AT(%rdx), %rbx
    movq FRAME_R15_AT(%rdx), %r15
    movq FRAME_R14_AT(%rdx), %r14
    movq FRAME_R13_AT(%rdx), %r13
    movq FRAME_R12_AT(%rdx), %r12
    movq FRAME_RAX_AT(%rdx), %rax
    movq FRAME_RIP_AT(%rdx), %r11
    movq FRAME_RSP_AT(%rdx), %rsp
    movl %ecx, CONTEXT_DEPTH_AT(%rdi)
    jmp *%r11

/* Entry for exceptions of a thread: tells thread_exception (rdi: the frame); the thread is over. */
    .globl thread_exception_entry
thread_exception_entry:
    movabsq $attempt_stack_top, %rsp
    call thread_exception
    jmp thread_over

    .bss
    .balign 16
attempt_rsp: .quad 0
    .balign 16
    .skip 8192
attempt_stack_top:
    .section .note.GNU-stack, "", @progbits
