/* Where a program begins, and where the kernel enters it afterwards. */
#include "registers.h"

#define STACK 65536
#define TRANSFER_STACK 16384

    .section .text.start, "ax"
    .globl _start
_start:                 /* rdi: this CPU's context page. The first that comes runs the program */
    movl $1, %eax
    xchgl %eax, started(%rip)
    testl %eax, %eax
    jnz parked
    movabsq $rt_stack_top, %rsp
    xorl %ebp, %ebp
    call rt_start
    ud2
/* The other CPUs sleep until the program says where they begin (rdi: the context page, no stack). */
parked:
    movq %rdi, %rbx
1:  movq rt_others(%rip), %rax
    testq %rax, %rax
    jnz 2f
    movl $CALL_SLEEP, %eax
    movq $-1, %rdi
    leaq rt_others(%rip), %rsi
    xorl %edx, %edx
    syscall
    jmp 1b
2:  movq %rbx, %rdi
    jmp *%rax

    .text
/* Leaves a frame (its address in rdi) without the kernel. What is to be restored is first put on the
 * interrupted stack, below its red zone; only then is the frame given back, so an upcall may come
 * between any two instructions. `ret $128` steps back over the red zone. (iretq from the frame would need no
 * stack, and QEMU before 9.1 refuses it in user mode when the kernel has SMAP on.) */
.macro leave_frame
    movq FRAME_RSP_AT(%rdi), %rsp
    leaq -128(%rsp), %rsp
    pushq FRAME_RIP_AT(%rdi)
    pushq FRAME_RFLAGS_AT(%rdi)
    pushq FRAME_RAX_AT(%rdi)
    pushq FRAME_RCX_AT(%rdi)
    pushq FRAME_RDX_AT(%rdi)
    pushq FRAME_RSI_AT(%rdi)
    pushq FRAME_RDI_AT(%rdi)
    movl FRAME_PREVIOUS_AT(%rdi), %eax
    andq $~4095, %rdi           /* the context page */
    movl %eax, CONTEXT_DEPTH_AT(%rdi)
    popq %rdi
    popq %rsi
    popq %rdx
    popq %rcx
    popq %rax
    popfq
    ret $128
.endm

/* Entry for exceptions, slice ends and revocation: rdi: frame, rsi: cause, on the interrupted stack. What C may
 * change and the kernel has left in the registers joins the rest in the frame, so a handler sees and changes all of it. */
.macro upcall_entry name, handler
    .globl \name
\name:
    movq %r8, FRAME_R8_AT(%rdi)
    movq %r9, FRAME_R9_AT(%rdi)
    movq %r10, FRAME_R10_AT(%rdi)
    movq %r11, FRAME_R11_AT(%rdi)
    movq %rbp, FRAME_RBP_AT(%rdi)
    movq %rdi, %rbp
    leaq -128(%rsp), %rsp       /* keep the red zone */
    andq $-16, %rsp
    call \handler
    movq %rbp, %rdi
    movq FRAME_R8_AT(%rdi), %r8
    movq FRAME_R9_AT(%rdi), %r9
    movq FRAME_R10_AT(%rdi), %r10
    movq FRAME_R11_AT(%rdi), %r11
    movq FRAME_RBP_AT(%rdi), %rbp
    leave_frame
.endm
    upcall_entry rt_exception_entry, *rt_exception_function(%rip)
    upcall_entry rt_end_entry, rt_slice_end
    upcall_entry rt_revoke_entry, *rt_revoke_function(%rip)

.macro load_message from
    movq 8(\from), %rsi
    movq 16(\from), %rdx
    movq 24(\from), %r8
    movq 32(\from), %r9
    movq 40(\from), %r10
    movq 48(\from), %rbx
    movq 56(\from), %rbp
    movq 64(\from), %r12
    movq 72(\from), %r13
    movq 80(\from), %r14
    movq 88(\from), %r15
    movq 0(\from), %rdi
.endm
.macro store_message to
    movq %rdi, 0(\to)
    movq %rsi, 8(\to)
    movq %rdx, 16(\to)
    movq %r8, 24(\to)
    movq %r9, 32(\to)
    movq %r10, 40(\to)
    movq %rbx, 48(\to)
    movq %rbp, 56(\to)
    movq %r12, 64(\to)
    movq %r13, 72(\to)
    movq %r14, 80(\to)
    movq %r15, 88(\to)
.endm

/* s64 rt_transfer(u32 env, u32 kind, struct rt_message *message) */
    .globl rt_transfer
rt_transfer:
    push_kept
    pushq %rdx
    movq %rdi, %rax
    shlq $32, %rax
    movzbl %sil, %esi
    shll $8, %esi
    orq %rsi, %rax
    orq $CALL_TRANSFER, %rax
    movq %rdx, %rdi
    load_message %rdi
    syscall
    popq %rcx
    store_message %rcx
    pop_kept
    ret

/* Goes on with what a frame (its address in rdi) holds, all registers, on any CPU. */
    .globl rt_leave_frame
rt_leave_frame:
    movq FRAME_R15_AT(%rdi), %r15
    movq FRAME_R14_AT(%rdi), %r14
    movq FRAME_R13_AT(%rdi), %r13
    movq FRAME_R12_AT(%rdi), %r12
    movq FRAME_RBP_AT(%rdi), %rbp
    movq FRAME_RBX_AT(%rdi), %rbx
    movq FRAME_R11_AT(%rdi), %r11
    movq FRAME_R10_AT(%rdi), %r10
    movq FRAME_R9_AT(%rdi), %r9
    movq FRAME_R8_AT(%rdi), %r8
    leave_frame

/* Goes on with what was suspended before a transfer came: the top frame. */
leave_top_frame:
    movq rt_first(%rip), %rdi
    movl CONTEXT_DEPTH_AT(%rdi), %eax
    decl %eax
    imulq $FRAME_BYTES, %rax, %rax
    leaq CONTEXT_FRAME_AT(%rdi, %rax), %rdi
    jmp rt_leave_frame

/* Entry for transfers: rax: caller << 32 | kind, on the transfer stack. Whoever was given a slice may be
 * interrupted, and then be given another: the stack is in use, and must not be touched. */
    .globl rt_transfer_entry
rt_transfer_entry:
    movl $1, %ecx
    xchgl %ecx, transfer_busy(%rip)
    testl %ecx, %ecx
    jnz transfer_refused
    subq $96, %rsp
    movq %rsp, %rcx
    store_message %rcx
    pushq %rax
    pushq %rax
    movq %rax, %rdi
    shrq $32, %rdi
    movzbl %al, %esi
    leaq 16(%rsp), %rdx
    call rt_transferred
    popq %rax
    popq %rcx
    cmpb $TRANSFER_CALL, %al
    jne 1f
    shrq $32, %rax              /* reply to the caller */
    shlq $32, %rax
    orq $CALL_OF(TRANSFER_REPLY), %rax
    movq %rsp, %rcx
    load_message %rcx
    movl $0, transfer_busy(%rip)
    syscall
    jmp leave_top_frame         /* a reply returns only if nobody waits for it any more */
1:  movl $0, transfer_busy(%rip)
    jmp leave_top_frame         /* GIVE: nobody waits for a reply */

transfer_refused:
    cmpb $TRANSFER_CALL, %al
    jne 2f
    shrq $32, %rax
    shlq $32, %rax
    orq $CALL_OF(TRANSFER_REPLY), %rax
    movq $E_BUSY, %rdi
    syscall
2:  jmp leave_top_frame

    .bss
    .balign 16
    .globl rt_others
rt_others: .quad 0
started: .long 0
transfer_busy: .long 0
    .balign 16
    .skip STACK
rt_stack_top:
    .skip TRANSFER_STACK
    .globl rt_transfer_stack_top
rt_transfer_stack_top:
    .section .note.GNU-stack, "", @progbits
