/* The verifier's inside, for verify.c and for tools that show what it found. */
#pragma once
#include "code/code.h"
#include "code/value.h"

struct state {
    struct value reg[11]; /* r10 is always the top of the frame */
    struct value slot[CODE_FRAME / 8]; /* 8 bytes of stack each; one with a kind was stored whole */
    u32 minimum[CODE_WINDOWS]; /* each window has at least so many bytes */
    u32 visits;                /* how often the state of a leader has changed */
};

enum { RESULT_NOT_SEEN = 0xff }; /* kind of the result of a function that has not returned yet */

struct code_verify {
    struct code_program *program;
    u32 next;       /* no leader before it is dirty */
    u32 at;         /* instruction that is followed */
    bool following; /* work holds the state before `at` */
    u32 work_done;
    struct value results[CODE_FUNCTIONS]; /* what functions return */
    u8 returns[CODE_FUNCTIONS];           /* how often that has changed */
    struct state work;
    struct state *scratch;
    struct state *states; /* of leaders */
    void (*trace)(void *owner, const struct code_verify *v); /* called before each instruction */
    void *trace_owner;
};

struct code_verify *code_verify_of(void *memory);
