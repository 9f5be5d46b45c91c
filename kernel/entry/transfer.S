/* Protected control transfer, the fast way. A plain CALL takes 54 instructions from `syscall` to the
 * callee's first, a plain REPLY 55, a plain GIVE 87. Everything else goes on in entry.S and transfer.c, with the same result.
 *
 * Nothing is pushed: the caller's rip and rsp go into its own context page, the message stays in the registers,
 * and rax, rcx, r11 and rsp are all there is to work with. No stack is needed, since interrupts are off and
 * whatever cannot be turned off (NMI, machine check) has a stack of its own.
 *
 * An environment's name is taken for one only if it is the one that the slow way last found to be (CPU_PEER,
 * CPU_REPLY_PEER); env_destroy makes every CPU forget both before the page can be anything else.
 *
 * Checks of a CALL: the caller's segment bases may be lost and its extended state is not loaded; the target is CPU_PEER; its context here
 * is READY with no upcall waiting, serves nobody, has frames to spare, no segment bases and an entry; the slice is not over.
 * CPU_PEER is never the caller itself: schedule_switch sees to that, and whoever was called serves somebody.
 * Checks of a REPLY: the target is whom this context serves, and CPU_REPLY_PEER; it is CALLING this
 * environment with no upcall waiting; extended state and bases as above; the slice is not over.
 * Checks of a GIVE: those of a CALL; and the caller has a frame left, and its stack is not in its context page. The
 * frame gets what C expects to be kept: the message is not in it.
 * Whoever comes in uses extended state only after exception 7, so it is not looked at here. */
#include "core/cpu.h"
#include "targe/abi.h"
#include "x86/registers.h"

#define RECORD_STATE ENV_CONTEXT_STATE_AT /* what stands behind it in 4 bytes is 0 in plain cases; then, in 4 more, `caller` */

/* The space of the record in rax, which CPU_RECORD announces already: then its environment is in rax. Loading CR3
 * serializes, so marks that were set without seeing the announcement are seen here (see load_space in schedule.c). */
.macro load_space scratch
    movq ENV_CONTEXT_ROOT_AT(%rax), \scratch
    movq \scratch, %cr3
    testb $(PENDING_STALE | PENDING_ENDED), ENV_CONTEXT_PENDING_AT(%rax)
    jnz 8f
7:  andq $-4096, %rax
    movq %rax, %gs:CPU_ENV
    .subsection 1
8:  lock andb $~PENDING_STALE, ENV_CONTEXT_PENDING_AT(%rax)
    btrq $CR3_KEEP, \scratch
    movq \scratch, %cr3
    testb $PENDING_ENDED, ENV_CONTEXT_PENDING_AT(%rax)
    jz 7b
    andq $-4096, %rax
    movq %rax, %gs:CPU_ENV
    jmp schedule                        /* nobody goes on here */
    .previous
.endm

    .text
    .balign 16
    .globl entry_transfer
entry_transfer:
    incq %gs:CPU_TRACE + TRACE_CALL_AT + 8 * CALL_TRANSFER
    testb %ah, %ah
    jnz not_a_call

    /* ---- CALL */
    movq %gs:CPU_CONTEXT, %r11
    movq %rcx, CONTEXT_CALL_RIP_AT(%r11)
    movq %rsp, CONTEXT_CALL_RSP_AT(%r11)
    shrq $32, %rax
    cmpl $0, CONTEXT_BASES_AT(%r11)
    jne slow_call
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
    cmpq $(FRAMES / 2), CONTEXT_DEPTH_AT(%r11)  /* and `bases`, in the upper half */
    jae slow_call_known
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
    load_space %rcx
    movq %rsp, %rax
    shlq $32, %rax                      /* caller << 32 | TRANSFER_CALL */
enter_callee:
    movq CONTEXT_TRANSFER_AT(%r11), %rcx
    andq %gs:CPU_USER_MASK, %rcx        /* whatever it is now, it is a user address */
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
    cmpb $TRANSFER_GIVE, %ah
    jae give
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
    cmpl $0, CONTEXT_BASES_AT(%rcx)
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
    cmpl $0, CONTEXT_BASES_AT(%rcx)
    jne slow_reply

    /* The point of no return. rax: the caller's record, rcx: its context page */
    movl %gs:CPU_REPLY_PEER, %esp
    movl %esp, %gs:CPU_NAME
    movl $0, ENV_CONTEXT_CALLER_AT(%r11)
    movb $CONTEXT_READY, RECORD_STATE(%rax)
    movq %rax, %gs:CPU_RECORD
    movq %rcx, %gs:CPU_CONTEXT
    load_space %r11
    movq CONTEXT_CALL_RSP_AT(%rcx), %rsp
    movq CONTEXT_CALL_RIP_AT(%rcx), %rcx
    andq %gs:CPU_USER_MASK, %rcx
    swapgs
    xorl %r11d, %r11d
    xorl %eax, %eax
    .globl transfer_wipe_reply
transfer_wipe_reply:
    wrfsbase %r11
    wrgsbase %r11
    movl $(RFLAGS_IF | RFLAGS_FIXED), %r11d
    sysretq

    /* ---- GIVE */
give:
    ja slow
    movq %rax, %gs:CPU_USER_RAX
    movq %rsp, %gs:CPU_USER_RSP
    shrq $32, %rax
    cmpq %rax, %gs:CPU_PEER
    jne slow_give
    cmpl $0, %gs:CPU_UNPLAIN
    jne slow_give
    movq %gs:CPU_CONTEXT, %r11
    subq CONTEXT_SELF_AT(%r11), %rsp
    cmpq $CONTEXT_BYTES, %rsp
    jb slow_give
    movq CONTEXT_DEPTH_AT(%r11), %rsp   /* and `bases`, in the upper half */
    cmpq $FRAMES, %rsp
    jae slow_give
    imull $FRAME_BYTES, %esp, %esp
    leaq CONTEXT_FRAME_AT(%rsp, %r11), %rsp
    movq %rcx, FRAME_RIP_AT(%rsp)       /* a frame that is not in use: its content is nobody's */
    shlq $12, %rax
    addq %gs:CPU_RECORDS, %rax
    cmpq $CONTEXT_READY, RECORD_STATE(%rax)
    jne slow_give
    movl ENV_CONTEXT_PAGE_AT(%rax), %ecx
    shlq $12, %rcx
    addq %gs:CPU_DIRECT, %rcx
    cmpq $(FRAMES / 2), CONTEXT_DEPTH_AT(%rcx)
    jae slow_give_known
    cmpq $0, CONTEXT_TRANSFER_AT(%rcx)
    je slow_give_known

    /* The point of no return. rax: the callee's record, rcx: its context page, r11: the caller's, rsp: its frame */
    movq %rax, %gs:CPU_RECORD
    movq %rcx, %gs:CPU_CONTEXT
    movl CONTEXT_DEPTH_AT(%r11), %ecx
    movq %rcx, FRAME_PREVIOUS_AT(%rsp)
    incl CONTEXT_DEPTH_AT(%r11)
    store_kept %rsp
    movq $0, FRAME_RAX_AT(%rsp)
    movq $CAUSE_YIELD, FRAME_CAUSE_AT(%rsp)
    movq $USER_CS, FRAME_CS_AT(%rsp)
    movq $(RFLAGS_IF | RFLAGS_FIXED), FRAME_RFLAGS_AT(%rsp)
    movq $USER_SS, FRAME_SS_AT(%rsp)
    movq %gs:CPU_USER_RSP, %rcx
    movq %rcx, FRAME_RSP_AT(%rsp)
    movq %gs:CPU_PAYER, %r11
    load_space %rcx
    movq %rax, %gs:CPU_PAYER
    movl %gs:CPU_PEER, %ecx
    movl %gs:CPU_NAME, %esp
    movq %rsp, %gs:CPU_PEER
    movl %ecx, %gs:CPU_NAME
    movq %rdx, %rcx                     /* paid up to now: see charge */
    rdtsc
    movq %rcx, %rdx
    movl %eax, %ecx
    subl %gs:CPU_PAYING, %eax
    movl %ecx, %gs:CPU_PAYING
    lock addq %rax, ENV_RUNTIME_AT(%r11)
    shlq $32, %rsp
    leaq TRANSFER_GIVE(%rsp), %rax
    movq %gs:CPU_CONTEXT, %r11
    jmp enter_callee

slow_give_known:
    movq FRAME_RIP_AT(%rsp), %rcx
    andq %gs:CPU_USER_MASK, %rcx    /* another CPU may have written there: it is a user address all the same */
slow_give:              /* rcx as it came */
    movq %gs:CPU_USER_RSP, %rsp
    movq %gs:CPU_USER_RAX, %rax
    jmp slow
slow_reply:
    movq %gs:CPU_USER_RAX, %rax
    movq %gs:CPU_USER_RCX, %rcx
slow:                   /* flags are lost either way */
    movl $(RFLAGS_IF | RFLAGS_FIXED), %r11d
    jmp entry_transfer_slow

    .section .note.GNU-stack, "", @progbits
