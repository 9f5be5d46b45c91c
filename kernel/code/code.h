/* Downloaded code: the one virtual machine for programs that a libOS puts into the kernel. A
 * program is verified once (verify.c) and translated (jit.c). On the host it can also be run by the
 * interpreter (tools/code/interpret.c), which is the oracle. What is proved and what is checked while
 * it runs is in docs/code.md. No heap: whoever calls gives all memory.
 *
 * Order: code_verify_start, code_verify_step until it is done, the same of code_jit, and then code_enter as
 * often as one likes. The instructions must not change after code_verify_start: copy them first
 * from memory that a libOS can write. */
#pragma once
#include "code/bpf.h"

#define CODE_INSNS 4096    /* the longest program, in slots of 8 bytes */
#define CODE_FUNCTIONS 64  /* with the main one */
#define CODE_DEPTH 8       /* functions on the stack at once, with the main one */
#define CODE_FRAME 512     /* bytes of stack of a function */
#define CODE_WINDOWS 8
#define CODE_VALUES 8
#define CODE_ARGUMENTS 5
#define CODE_WORK (1u << 20) /* instructions that the verifier follows before it gives up */

struct code_run;

/* What a register holds when a program starts, or what a helper wants in it. */
enum code_argument {
    CODE_NONE,    /* nothing that may be read */
    CODE_SCALAR,  /* a number (start: value[index] of the run) */
    CODE_POINTER, /* start: the first byte of window[index] */
    CODE_LENGTH,  /* start: the length of window[index] */
    CODE_CONTEXT, /* start: the run's windows and values, readable 8 bytes at a time */
    CODE_READ = 8, /* helper: memory to read; its length is the next CODE_SIZE argument */
    CODE_WRITE,   /* helper: memory that it fills wholly (or it stops the run), likewise */
    CODE_SIZE,    /* helper: a number of bytes */
};

struct code_start {
    u8 kind, index;
};

/* A piece of memory that programs may use. In every run it has `minimum` to `maximum` bytes: who
 * fills in struct code_run sees to it. Others may change what is in it at any time. */
struct code_window_type {
    const char *name;
    bool writable;
    u32 minimum, maximum;
};

/* A helper's result is a number. It may stop the run by setting run->status. It is charged `cost`,
 * and one more for every 8 bytes of a CODE_SIZE argument. Memory arguments were checked. */
struct code_helper {
    const char *name;
    u8 argument[8]; /* the first CODE_ARGUMENTS count */
    u32 cost;
    u64 (*function)(u64 a, u64 b, u64 c, u64 d, u64 e, struct code_run *run);
};

/* Whether some argument is CODE_READ or a kind behind it: eight are looked at at once. */
static inline bool code_takes_memory(const struct code_helper *helper) {
    u64 kinds;
    __builtin_memcpy(&kinds, helper->argument, sizeof(kinds));
    return kinds & 0x0808080808080808;
}

struct code_profile {
    const char *name;
    u32 budget;  /* instructions that a run may take */
    bool stores; /* into writable windows, also atomic; the stack can always be stored to */
    struct code_start start[CODE_ARGUMENTS];
    u32 windows, values;
    struct code_window_type window[CODE_WINDOWS];
    const struct code_helper *helper; /* number 1 is the first */
    u32 helpers;
};

extern const struct code_profile code_profiles[];
extern const u32 code_profile_count;

/* How a run ended. */
enum code_status {
    CODE_DONE,
    CODE_BUDGET,  /* it took too many instructions */
    CODE_ACCESS,  /* it went outside a window, or an atomic operation was not aligned */
    CODE_STOPPED, /* a helper stopped it */
    CODE_ESCAPED, /* something that was proved is not so: a bug of the kernel */
};

enum { WINDOW_PACKET, WINDOW_MEMORY, WINDOW_REPLY }; /* of a handler */
struct code_window {
    u8 *base; /* at least 2^30 bytes away from both ends of the address space */
    u64 length;
};

/* What a handler has asked for. It happens when the run is over, all of it or nothing. */
struct code_effects {
    u32 attached; /* bytes of the memory window that follow those of the reply window, */
    u16 published;
    u8 wake, event;
    u64 attached_at;   /* and their distance from its start */
    struct send frame; /* length: bytes of the reply window; 0: none is to be sent. No pieces yet */
    struct { u64 *at, value; } publish[PUBLISHES];
    u64 a, b; /* of the event */
};

/* One run. The context that a program sees is its beginning: the address of window k is at 16k,
 * its length at 16k + 8, value v is at 128 + 8v. Fill window, value and profile before a run. */
struct code_run {
    struct code_window window[CODE_WINDOWS];
    u64 value[CODE_VALUES];
    s64 budget;        /* what is left of it */
    u64 stack_pointer; /* of the machine, at the start: the way out of nested functions */
    u64 (*call)(u64 a, u64 b, u64 c, u64 d, u64 e, struct code_run *run); /* code_call_helper */
    u32 status;
    u32 helper; /* the number of the helper that is called, and above 8 bits: which of its arguments point to the stack */
    const struct code_profile *profile;
    struct code_effects effects;
    u8 stack[CODE_DEPTH * CODE_FRAME] ALIGNED(16);
};

enum {
    CODE_MARK_INNER = 1,    /* second slot of an instruction */
    CODE_MARK_LEADER = 2,   /* states meet here: state[] has the joined one */
    CODE_MARK_HEAD = 4,     /* a branch goes back to here */
    CODE_MARK_FUNCTION = 8, /* the first instruction of a function */
    CODE_MARK_REACHED = 16, /* some path may get here */
    CODE_MARK_DIRTY = 32,   /* verifier: the state here changed since it was last followed */
    CODE_MARK_ALIGN = 64,   /* an atomic operation on a window: its address is checked */
};
#define CODE_CHECK_BELOW 0x80

/* What is known of an instruction. */
struct code_mark {
    u8 flags;
    u8 check;    /* call of a helper: a bit for each argument that points to the stack. Else 0: no check of
                  * bounds while it runs; or 1 + window, | CODE_CHECK_BELOW if it may also lie below the window */
    u8 function; /* index */
    u8 window;   /* 1 + window that it loads from or stores to, proved or not */
    u32 at;      /* verifier: index of the state. Later: place in the translated code */
};

struct code_function {
    u32 start, end; /* instructions */
    u32 level;      /* the most functions that can be below it on the stack */
    u32 entry;      /* place in the translated code */
};

/* A program, verified or refused. It refers to the instructions and to its marks. */
struct code_program {
    const struct code_profile *profile;
    const struct code_insn *insn;
    struct code_mark *mark;
    u32 count;
    u32 functions;
    struct code_function function[CODE_FUNCTIONS];
    const char *refusal; /* why it was refused, or NULL */
    u32 refused_at;      /* at which instruction */
};

/* ---------------------------------------------------------------- verifier */
/* Bytes that verifying these instructions takes (aligned to 8), or more. */
u64 code_verify_memory(const struct code_insn *insn, u32 count);
/* Starts verifying in `memory`, which begins with the struct code_program that comes out, followed
 * by its marks. Returns 0, E_FULL (too little memory) or E_BAD_ARGUMENT; refusal then says why. */
s64 code_verify_start(const struct code_profile *profile, const struct code_insn *insn, u32 count,
                      void *memory, u64 size);
/* Goes on for `steps` instructions. 0: verified; E_AGAIN: call again; E_BAD_ARGUMENT: refused. */
s64 code_verify_step(void *memory, u32 steps);
/* Bytes of the memory that a verified program needs; the rest is free for other use. */
u64 code_program_size(const struct code_program *program);

/* ---------------------------------------------------------------- running */
/* Runs a program in the interpreter, which checks also what was proved; on the host only. */
u64 code_interpret(const struct code_program *program, struct code_run *run);

/* A translation that is under way, of jit.c. */
struct code_jit {
    struct code_program *program;
    u8 *to, *out; /* out: NULL in the first pass */
    u64 size, at;
    u32 next; /* instruction */
    u16 used[CODE_FUNCTIONS]; /* which of r6 to r10 a function changes or needs, by their number */
    u32 stop[CODE_ESCAPED + 1]; /* where the run is ended with this status */
};
/* Translates a program into x86-64 code that does not depend on its address, into `size` bytes; to = NULL: only
 * finds out how many it needs. The same program must not be translated by two CPUs at once. */
void code_jit_start(struct code_jit *jit, struct code_program *program, u8 *to, u64 size);
/* Goes on for so many instructions: E_AGAIN, the code's size, or E_FULL if it is over `size`. */
s64 code_jit_step(struct code_jit *jit, u32 steps);

/* Runs translated code. */
static inline u64 code_enter(const void *code, struct code_run *run) {
    u64 (*function)(struct code_run *) = (u64(*)(struct code_run *))(uintptr_t)code;
    run->status = CODE_DONE;
    return function(run);
}

/* Forgets what the last run asked for. */
static inline void code_forget_effects(struct code_run *run) {
    memset(&run->effects, 0, offsetof(struct code_effects, attached_at));
    memset(&run->effects.frame.length, 0, offsetof(struct send, zero) - offsetof(struct send, length));
}
/* Prepares a run, once for many runs with the same windows. */
void code_run_start(struct code_run *run, const struct code_profile *profile);
/* Calls helper run->helper: charges, checks memory arguments, and calls it. */
u64 code_call_helper(u64 a, u64 b, u64 c, u64 d, u64 e, struct code_run *run);
/* Whether the bytes are all in one window of the run (that can be written). */
bool code_in_window(const struct code_run *run, u64 address, u64 size, bool write);
