/* The front door: system calls, exceptions and interrupts come in here, and all leave here.
 *
 * A call uses the caller's stack for nothing: its rsp waits in the CPU's structure, rip and
 * rflags on the kernel's stack, and r11 is all there is to work with. 25 instructions from `syscall` to `sysretq` for call 0. A transfer
 * that is not plain, an exception and an interrupt build a struct regs (the layout of an
 * ABI frame) at the top of the kernel's stack. Both are safe from an interrupt between the two stacks, since
 * interrupts are off in the kernel, and non-maskable ones have a stack of their own. */
#include "core/cpu.h"
#include "targe/abi.h"
#include "x86/registers.h"

    .text
/* The general registers of struct regs. */
.macro push_registers rcx, r11
    pushq %rdi
    pushq %rsi
    pushq %rdx
    pushq \rcx
    pushq %rax
    pushq %r8
    pushq %r9
    pushq %r10
    pushq \r11
    pushq %rbx
    pushq %rbp
    pushq %r12
    pushq %r13
    pushq %r14
    pushq %r15
.endm
.macro pop_registers
    popq %r15
    popq %r14
    popq %r13
    popq %r12
    popq %rbp
    popq %rbx
    popq %r11
    popq %r10
    popq %r9
    popq %r8
    popq %rax
    popq %rcx
    popq %rdx
    popq %rsi
    popq %rdi
.endm
    .globl entry_syscall
entry_syscall:
    swapgs
    cmpb $CALL_TRANSFER, %al
    je entry_transfer
    movq %rsp, %gs:CPU_USER_RSP
    movq %gs:CPU_KERNEL_RSP, %rsp
    pushq %r11
    pushq %rcx
    movzbl %al, %r11d
    cmpl $CALL_COUNT, %r11d
    jae bad_call
    incq %gs:CPU_TRACE + TRACE_CALL_AT(, %r11, 8)
    call *call_table(, %r11, 8)
leave_plain:
    xorl %edi, %edi
    xorl %esi, %esi
    xorl %edx, %edx
    xorl %r8d, %r8d
    xorl %r9d, %r9d
    xorl %r10d, %r10d
    popq %rcx
    popq %r11
    movq %gs:CPU_USER_RSP, %rsp
    swapgs
    sysretq
bad_call:
    movq $E_BAD_CALL, %rax
    jmp leave_plain

/* What a call of class "pause" returned is in rax: a result or an error, or, below all errors, where the frame lies in which its caller
 * is suspended. What C keeps is as it came. */
    .globl entry_paused
entry_paused:
    cmpq $LEAST_ERROR, %rax
    jge leave_plain
    store_kept %rax
    popq FRAME_RIP_AT(%rax)
    popq FRAME_RFLAGS_AT(%rax)
    movq %gs:CPU_USER_RSP, %rcx
    movq %rcx, FRAME_RSP_AT(%rax)
    jmp schedule_paused

/* A transfer that is not plain: needs all registers of its caller, which are as they came. */
    .globl entry_transfer_slow
entry_transfer_slow:
    movq %rsp, %gs:CPU_USER_RSP
    movq %gs:CPU_KERNEL_RSP, %rsp
    pushq $USER_SS
    pushq %gs:CPU_USER_RSP
    pushq %r11
    pushq $USER_CS
    pushq %rcx
    pushq $0            /* error */
    pushq $0            /* cause */
    pushq $0            /* previous */
    pushq $0            /* address */
    push_registers $0, $0
    movq %rsp, %rdi
    call call_transfer
    movq %rsp, %rdi
/* resume(const struct regs *): leaves to the libOS, or to the kernel where it was interrupted. */
    .globl resume
resume:
    movq %rdi, %rsp
    pop_registers
    addq $32, %rsp
    testb $3, 8(%rsp)
    jz 1f
    swapgs
1:  .globl entry_iretq
entry_iretq:
    iretq

/* frame_leave(): resumes the top frame from where it lies, which is the stack for a moment. The libOS can write
 * there meanwhile: each word is read once, and what it may not choose is not read. */
    .globl frame_leave
frame_leave:
    movq %gs:CPU_CONTEXT, %rcx
    movl CONTEXT_DEPTH_AT(%rcx), %eax
    decl %eax
    cmpl $FRAMES, %eax
    jae 1f
    imull $FRAME_BYTES, %eax, %eax
    leaq CONTEXT_FRAME_AT(%rcx, %rax), %rdi
    movq FRAME_RIP_AT(%rdi), %rdx
    movq %rdx, %rax
    shrq $USER_BITS, %rax
    jnz 1f
    movl FRAME_PREVIOUS_AT(%rdi), %eax
    movl %eax, CONTEXT_DEPTH_AT(%rcx)
    movl FRAME_RFLAGS_AT(%rdi), %eax
    andl $RFLAGS_USER, %eax
    orl $(RFLAGS_IF | RFLAGS_FIXED), %eax
    movq %gs:CPU_KERNEL_RSP, %rsp
    pushq $USER_SS
    pushq FRAME_RSP_AT(%rdi)
    pushq %rax
    pushq $USER_CS
    pushq %rdx
    movq %rdi, %rsp
    pop_registers
    movq %gs:CPU_KERNEL_RSP, %rsp
    leaq -40(%rsp), %rsp
    swapgs
    jmp entry_iretq
1:  ret

/* schedule(): nobody returns from it, so it begins with an empty stack. */
    .globl schedule
schedule:
    movq %gs:CPU_KERNEL_RSP, %rsp
    jmp schedule_loop

/* Exceptions and interrupts: 256 small stubs, 16 bytes apart. */
    .balign 16
    .globl entry_vectors
entry_vectors:
    .set vector, 0
    .rept 256
    .balign 16
    .if !(vector == 8 || (vector >= 10 && vector <= 14) || vector == 17 || vector == 21 || vector == 29 || vector == 30)
    pushq $0
    .endif
    pushq $vector
    .if vector >= 32
    jmp entry_interrupt
    .elseif vector == 2 || vector == 7 || vector == 8 || vector == 18
    jmp entry_trap
    .else
    jmp entry_exception
    .endif
    .set vector, vector + 1
    .endr

/* The kernel is interrupted only when it waits for that, and then has nothing to go back to. */
entry_interrupt:        /* on the stack: vector, error, rip, cs, rflags, rsp, ss */
    testb $3, 24(%rsp)
    jnz entry_trap
    movl (%rsp), %edi
    movq %gs:CPU_KERNEL_RSP, %rsp
    call trap_halted

/* An exception that is the libOS's own to handle goes there from here: checks, then a frame in
 * its context page, then its entry; 50 instructions with the stub (52 for a page fault). Whatever is not
 * plain (no handler, no free frame, a stack pointer inside the context page, the kernel's own
 * fault) goes the slow way, which starts afresh from the same stack and has the same result. */
    .balign 16
entry_exception:        /* on the stack: vector, error, rip, cs, rflags, rsp, ss */
    testb $3, 24(%rsp)
    jz entry_trap
    .globl entry_exception_close
entry_exception_close:  /* a libOS may have set AC, which opens user memory to the kernel */
    nopl (%rax)
    swapgs
    pushq %rdi
    pushq %rsi
    pushq %rax
    movq %gs:CPU_CONTEXT, %rdi
    movq CONTEXT_EXCEPTION_AT(%rdi), %rsi
    leaq -1(%rsi), %rax
    cmpq %gs:CPU_USER_MASK, %rax /* no entry, or not a user address */
    jae entry_exception_slow
    movq 64(%rsp), %rax
    subq CONTEXT_SELF_AT(%rdi), %rax
    cmpq $CONTEXT_BYTES, %rax
    jb entry_exception_slow
    movl CONTEXT_DEPTH_AT(%rdi), %eax
    cmpl $FRAMES, %eax
    jae entry_exception_slow

    /* Nothing can fail from here on. */
    pushq %rsi
    imull $FRAME_BYTES, %eax, %esi
    leaq CONTEXT_FRAME_AT(%rdi, %rsi), %rsi
    movq %rax, FRAME_PREVIOUS_AT(%rsi)
    incl %eax
    movl %eax, CONTEXT_DEPTH_AT(%rdi)
    movq %rdx, FRAME_RDX_AT(%rsi)
    movq %rcx, FRAME_RCX_AT(%rsi)
    popq %rdx                   /* the entry */
    popq FRAME_RAX_AT(%rsi)
    popq FRAME_RSI_AT(%rsi)
    popq FRAME_RDI_AT(%rsi)
    popq %rcx                   /* the vector */
    movq %rcx, FRAME_CAUSE_AT(%rsi)
    popq FRAME_ERROR_AT(%rsi)
    cmpl $14, %ecx
    jne 1f
    movq %cr2, %rax
    movq %rax, FRAME_ADDRESS_AT(%rsi)
1:  movq (%rsp), %rax
    movq %rax, FRAME_RIP_AT(%rsi)
    movq $USER_CS, FRAME_CS_AT(%rsi)
    movq 16(%rsp), %rax
    movq %rax, FRAME_RFLAGS_AT(%rsi)
    movq 24(%rsp), %rax
    movq %rax, FRAME_RSP_AT(%rsi)
    movq $USER_SS, FRAME_SS_AT(%rsi)
    movq %rdx, (%rsp)
    andq $~RFLAGS_CLEARED, 16(%rsp)
    incq %gs:CPU_TRACE + TRACE_EXCEPTIONS_AT
    subq %rdi, %rsi             /* the frame where the libOS sees it */
    addq CONTEXT_SELF_AT(%rdi), %rsi
    movq %rsi, %rdi
    movl %ecx, %esi
    swapgs
    iretq
entry_exception_slow:
    popq %rax
    popq %rsi
    popq %rdi
    swapgs
    /* fall through */

entry_trap:             /* on the stack: vector, error, rip, cs, rflags, rsp, ss */
    .globl entry_trap_close
entry_trap_close:       /* a libOS may have set AC, which opens user memory to the kernel */
    nopl (%rax)
    testb $3, 24(%rsp)
    jz 1f
    swapgs
1:  pushq $0            /* previous */
    pushq $0            /* address */
    push_registers %rcx, %r11
    cld
    movq %rsp, %rdi
    call trap
    movq %rsp, %rdi
    jmp resume

/* s64 user_copy(void *to, const void *from, u64 n): one of the two is a user address. The patched
 * instructions are `stac` and `clac` where the CPU has SMAP. */
    .globl user_copy, user_copy_open, user_copy_close
user_copy:
    movq %rdx, %rcx
    andl $7, %edx
    shrq $3, %rcx
user_copy_open:
    nopl (%rax)
1:  rep movsq
    movl %edx, %ecx
2:  rep movsb
user_copy_close:
    nopl (%rax)
    xorl %eax, %eax
    ret
user_copy_failed:
    movq $E_BAD_ADDRESS, %rax
    cmpw $0x1f0f, user_copy_close(%rip)
    je 3f
    clac
3:  ret
    .section .fixups, "a"
    .quad 1b, user_copy_failed, 2b, user_copy_failed
    .text

/* For user_words and user_element only: loads the words at rsi to rax, rcx, rdx and rsi, the latter clears the result of the element there
 * first. rdi: 1, or 0 when that failed. */
    .globl user_load_words, user_load_element, user_load_open, user_words_open, user_load_close
user_load_words:
user_words_open:
    nopl (%rax)
    jmp 2f
user_load_element:
user_load_open:
    nopl (%rax)
1:  movl $0, UPDATE_RESULT_AT(%rsi)
2:  movq (%rsi), %rax
3:  movq UPDATE_VA_AT(%rsi), %rcx
4:  movq UPDATE_PAGE_AT(%rsi), %rdx
5:  movq UPDATE_CAP_AT(%rsi), %rsi
user_load_close:
    nopl (%rax)
    movl $1, %edi
    ret
user_load_failed:
    call user_copy_failed
    xorl %edi, %edi
    ret
    .section .fixups, "a"
    .quad 1b, user_load_failed, 2b, user_load_failed, 3b, user_load_failed, 4b, user_load_failed, 5b, user_load_failed
    .text

/* s64 fpu_load(const void *area): XRSTOR of x87, SSE and AVX; 0, or an error if the area is bad. */
    .globl fpu_load
fpu_load:
    movl $7, %eax
    xorl %edx, %edx
1:  xrstor64 (%rdi)
    xorl %eax, %eax
    ret
fpu_load_failed:
    movq $E_BAD_ARGUMENT, %rax
    ret
    .section .fixups, "a"
    .quad 1b, fpu_load_failed
    .section .note.GNU-stack, "", @progbits
