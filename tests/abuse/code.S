/* What the small environments of mini_env do: copied, 256 bytes from each label, so without
 * addresses of their own. */
#include "targe/abi.h"

#define STACK 0x500800

    .text
/* Ends with its flags as the code. */
    .globl tell_flags
tell_flags:
    movl $STACK, %esp
    pushfq
    popq %rsi
    xorl %edi, %edi
    movl $CALL_ENV_STOP, %eax
    syscall
    ud2

/* Goes through a yield, a short sleep, the ends of slices and exceptions. */
    .globl live
live:
    movl $STACK, %esp
    movl $CALL_YIELD, %eax
    syscall
    xorl %edi, %edi
    xorl %esi, %esi
    movl $CALL_SLEEP, %eax
    syscall
    movl $3000000, %ecx
1:  decl %ecx
    jnz 1b
    ud2
    ud2
    ud2

/* Computes with the extended state across slices, then ends. */
    .globl compute
compute:
    movl $STACK, %esp
    xorps %xmm0, %xmm0
    fld1
    movl $CALL_YIELD, %eax
    syscall
    sqrtps %xmm0, %xmm0
    fld1
    movl $CALL_YIELD, %eax
    syscall
    xorl %edi, %edi
    xorl %esi, %esi
    movl $CALL_ENV_STOP, %eax
    syscall
    ud2
    .skip 256
    .section .note.GNU-stack, "", @progbits
