/* Protected control transfer, the fast way. A plain CALL takes 56 instructions from `syscall` to the
 * callee's first, a plain REPLY 46. Everything else goes on in entry.S and transfer.c, with the same result.
 *
 * Nothing is pushed: the caller's rip and rsp go into its own context page, the message stays in the registers,
 * and rax, rcx, r11 and rsp are all there is to work with. No stack is needed, since interrupts are off and
 * whatever cannot be turned off (NMI, machine check) has a stack of its own.
 *
 * An environment's name is taken for one only if it is the one that the slow way last found to be (CPU_PEER,
 * CPU_REPLY_PEER); env_destroy makes every CPU forget both before the page can be anything else.
 *
 * Checks of a CALL: the caller uses no extended state and no segment bases and calls another than itself; the target is CPU_PEER; its
 * context here is READY with no upcall waiting, serves nobody, uses neither, and has an entry; the slice is not over.
 * Checks of a REPLY: the target is whom this context serves, and CPU_REPLY_PEER; it is CALLING this
 * environment with no upcall waiting; no extended state or bases; the slice is not over. */
#include "core/cpu.h"
#include "targe/abi.h"
#include "x86/registers.h"

#define RECORD_STATE ENV_CONTEXT_STATE_AT /* what stands behind it in 4 bytes is 0 in plain cases; then, in 4 more, `caller` */
#define USER_BITS 47

    .text
    .balign 16
    .globl entry_transfer
entry_transfer:
    movq %gs:CPU_TRACE, %r11
    incq (TRACE_CALL_AT + 8 * CALL_TRANSFER)(%r11)
    testb %ah, %ah
    jnz not_a_call

    /* ---- CALL */
    movq %gs:CPU_CONTEXT, %r11
    movq %rcx, CONTEXT_CALL_RIP_AT(%r11)
    movq %rsp, CONTEXT_CALL_RSP_AT(%r11)
    shrq $32, %rax
    cmpq $0, CONTEXT_FPU_AT(%r11)       /* and `bases` */
    jne slow_call
    cmpl %eax, %gs:CPU_NAME
    je slow_call
    cmpq %rax, %gs:CPU_PEER
    jne slow_call
    shlq $12, %rax
    addq %gs:CPU_RECORDS, %rax
    cmpq $CONTEXT_READY, RECORD_STATE(%rax)
    jne slow_call_known
    cmpl $0, %gs:CPU_UNPLAIN
    jne slow_call_known
    movl ENV_CONTEXT_PAGE_AT(%rax), %r11d
    shlq $12, %r11
    addq %gs:CPU_DIRECT, %r11
    cmpq $0, CONTEXT_FPU_AT(%r11)       /* and `bases` */
    jne slow_call_known
    cmpq $0, CONTEXT_TRANSFER_AT(%r11)
    je slow_call_known

    /* The point of no return. rax: the callee's record, r11: its context page */
    movq %gs:CPU_RECORD, %rsp
    movb $CONTEXT_CALLING, RECORD_STATE(%rsp)
    movl %gs:CPU_PEER, %ecx
    movl %ecx, ENV_CONTEXT_PEER_AT(%rsp)
    movl %gs:CPU_NAME, %esp
    movl %esp, ENV_CONTEXT_CALLER_AT(%rax)
    movq %rsp, %gs:CPU_REPLY_PEER
    movl %ecx, %gs:CPU_NAME
    movq %rax, %gs:CPU_RECORD
    movq %r11, %gs:CPU_CONTEXT
    andq $-4096, %rax
    movq %rax, %gs:CPU_ENV              /* before its space is loaded: see load_space */
    movq ENV_ROOT_ADDRESS_AT(%rax), %rcx
    movq %rcx, %cr3
    cmpl $ENV_LIVE, ENV_STATE_AT(%rax)
    jne died
    movq %rsp, %rax
    shlq $32, %rax                      /* caller << 32 | TRANSFER_CALL */
    movq CONTEXT_TRANSFER_AT(%r11), %rcx
    shlq $(64 - USER_BITS), %rcx        /* whatever it is now, it is a user address */
    shrq $(64 - USER_BITS), %rcx
    movq CONTEXT_TRANSFER_STACK_AT(%r11), %rsp
    swapgs
    xorl %r11d, %r11d
    .globl transfer_wipe_call
transfer_wipe_call:
    wrfsbase %r11
    wrgsbase %r11
    movl $(RFLAGS_IF | RFLAGS_FIXED), %r11d
    sysretq

slow_call_known:
    movl %gs:CPU_PEER, %eax
slow_call:              /* eax: the target; rcx and rsp as they came */
    shlq $32, %rax
    orq $CALL_TRANSFER, %rax
    jmp slow

    /* ---- REPLY */
not_a_call:
    cmpb $TRANSFER_REPLY, %ah
    jne slow
    movq %rax, %gs:CPU_USER_RAX
    movq %rcx, %gs:CPU_USER_RCX
    shrq $32, %rax
    movq %gs:CPU_RECORD, %r11
    cmpl %eax, ENV_CONTEXT_CALLER_AT(%r11)
    jne slow_reply
    cmpq %rax, %gs:CPU_REPLY_PEER
    jne slow_reply
    cmpl $0, %gs:CPU_UNPLAIN
    jne slow_reply
    movq %gs:CPU_CONTEXT, %rcx
    cmpq $0, CONTEXT_FPU_AT(%rcx)       /* and `bases` */
    jne slow_reply
    shlq $12, %rax
    addq %gs:CPU_RECORDS, %rax
    cmpl $CONTEXT_CALLING, RECORD_STATE(%rax)
    jne slow_reply
    movl %gs:CPU_NAME, %ecx
    cmpl %ecx, ENV_CONTEXT_PEER_AT(%rax)
    jne slow_reply
    movl ENV_CONTEXT_PAGE_AT(%rax), %ecx
    shlq $12, %rcx
    addq %gs:CPU_DIRECT, %rcx
    cmpq $0, CONTEXT_FPU_AT(%rcx)       /* and `bases` */
    jne slow_reply

    /* The point of no return. rax: the caller's record, rcx: its context page */
    movl %gs:CPU_REPLY_PEER, %esp
    movl %esp, %gs:CPU_NAME
    movl $0, ENV_CONTEXT_CALLER_AT(%r11)
    movb $CONTEXT_READY, RECORD_STATE(%rax)
    movq %rax, %gs:CPU_RECORD
    movq %rcx, %gs:CPU_CONTEXT
    andq $-4096, %rax
    movq %rax, %gs:CPU_ENV
    movq ENV_ROOT_ADDRESS_AT(%rax), %r11
    movq %r11, %cr3
    cmpl $ENV_LIVE, ENV_STATE_AT(%rax)
    jne died
    movq CONTEXT_CALL_RSP_AT(%rcx), %rsp
    movq CONTEXT_CALL_RIP_AT(%rcx), %rcx
    shlq $(64 - USER_BITS), %rcx
    shrq $(64 - USER_BITS), %rcx
    swapgs
    xorl %r11d, %r11d
    xorl %eax, %eax
    .globl transfer_wipe_reply
transfer_wipe_reply:
    wrfsbase %r11
    wrgsbase %r11
    movl $(RFLAGS_IF | RFLAGS_FIXED), %r11d
    sysretq

slow_reply:
    movq %gs:CPU_USER_RAX, %rax
    movq %gs:CPU_USER_RCX, %rcx
slow:                   /* flags are lost either way; entry.S counts the call again */
    movq %gs:CPU_TRACE, %r11
    decq (TRACE_CALL_AT + 8 * CALL_TRANSFER)(%r11)
    movl $(RFLAGS_IF | RFLAGS_FIXED), %r11d
    jmp entry_call

died:                   /* an environment whose end was noticed only now: nobody goes on here */
    jmp schedule
    .section .note.GNU-stack, "", @progbits
