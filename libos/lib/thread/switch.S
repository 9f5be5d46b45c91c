/* Changing stacks, and the upcall for the end of a slice. */
#include "registers.h"

    .text
/* void thread_switch_leave(u64 *save, u64 load): the thread that goes on lets the lock go by itself. For a
 * tail call: nothing is kept on the stack meanwhile but the registers. */
    .globl thread_switch_leave
thread_switch_leave:
    pushq $thread_leave
/* void thread_switch(u64 *save, u64 load): what C expects to be kept is on the stacks. */
    .globl thread_switch
thread_switch:
    push_kept
    movq %rsp, (%rdi)
    movq %rsi, %rsp
    pop_kept
    ret

/* Where the contexts of other CPUs begin: rdi: the context page, no stack. */
    .globl thread_other_cpu
thread_other_cpu:
    movl CONTEXT_CPU_AT(%rdi), %eax
    movq thread_idle_stack(, %rax, 8), %rsp
    call thread_idle_other
    ud2

/* The end of a slice: rdi: the frame, on the interrupted stack. The thread may go on on another CPU, whose
 * frames are others: so everything goes onto its stack, below the red zone, and is loaded from there.
 * `ret $128` steps back over the red zone. */
    .globl thread_end_entry
thread_end_entry:
    leaq -128(%rsp), %rsp
    pushq FRAME_RIP_AT(%rdi)
    pushq FRAME_RFLAGS_AT(%rdi)
    pushq FRAME_RAX_AT(%rdi)
    pushq FRAME_RCX_AT(%rdi)
    pushq FRAME_RDX_AT(%rdi)
    pushq FRAME_RSI_AT(%rdi)
    pushq FRAME_RDI_AT(%rdi)
    pushq %r11
    pushq %r10
    pushq %r9
    pushq %r8
    pushq %rbp
    movq %rsp, %rbp
    andq $-16, %rsp
    call thread_slice_ended
    movq %rbp, %rsp
    popq %rbp
    popq %r8
    popq %r9
    popq %r10
    popq %r11
    popq %rdi
    popq %rsi
    popq %rdx
    popq %rcx
    popq %rax
    popfq
    ret $128
    .section .note.GNU-stack, "", @progbits
