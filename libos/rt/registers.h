/* For assembly: the registers that C expects a function to keep, and the word that asks for a transfer. */
#pragma once
#include "targe/abi.h"

/* rax of a transfer, before the environment is put into its upper half. */
#define CALL_OF(kind) ((kind) << 8 | CALL_TRANSFER)

.macro push_kept
    pushq %rbx
    pushq %rbp
    pushq %r12
    pushq %r13
    pushq %r14
    pushq %r15
.endm
.macro pop_kept
    popq %r15
    popq %r14
    popq %r13
    popq %r12
    popq %rbp
    popq %rbx
.endm
