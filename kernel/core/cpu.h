/* What each CPU has of its own. Found through the gs register; only its CPU writes it, except where said. */
#pragma once

#define CPU_TRACE (-TRACE_BYTES) /* it lies before struct cpu */
#define CPU_ENV 8
#define CPU_KERNEL_RSP 16
#define CPU_RECORDS 24
#define CPU_DIRECT 32
#define CPU_USER_MASK 40
#define CPU_RECORD 48
#define CPU_USER_RSP 64
#define CPU_USER_RAX 72
#define CPU_USER_RCX 80
#define CPU_CONTEXT 88
#define CPU_NAME 96
#define CPU_UNPLAIN 100
#define CPU_PEER 104
#define CPU_REPLY_PEER 112
#define CPU_PAYER 120
#define CPU_PAYING 128

/* In env_context.pending, besides upcalls. */
#define PENDING_REVOKE 1
#define PENDING_LOST 2
#define PENDING_UPCALLS (PENDING_REVOKE | PENDING_LOST)
#define PENDING_STALE 4 /* this CPU may have translations of the space that are no longer true */
#define PENDING_ENDED 8 /* the environment has ended */
#define CR3_KEEP 63     /* bit: translations with this PCID are kept when CR3 is loaded */

#define LEAST_ERROR (-4095) /* what a call returns is not below, what addresses of the kernel are */
#define USER_BITS 47 /* of an address that may be a libOS's */

#ifndef __ASSEMBLER__
#include "lib/base.h"

#define CAP_CACHE 64
#define NO_PEER (1ull << 32) /* no name is equal to it */

/* Three groups, in cache lines of their own: what other CPUs read, what only this one writes, what others write. */
struct cpu {
    struct cpu *self;
    struct env *env;            /* whose space is loaded; NULL: the kernel's own. Other CPUs read it */
    u64 kernel_rsp;         /* top of this CPU's stack */
    u64 records;            /* name << 12 + this is where an environment's record for this CPU lies */
    u64 direct;             /* page << 12 + this is where a page lies */
    u64 user_mask;          /* makes an address one of the user's half */
    struct env_context *record; /* of what runs, or ran last and is still here; NULL: none. Its environment counts as loaded, like env */

    ALIGNED(64) u64 user_rsp; /* the caller's, while the entry code changes stacks */
    u64 user_rax;           /* the caller's, in the fast control transfer */
    u64 user_rcx;           /* the same */
    struct context *context; /* context page of what runs; NULL: nothing does (idle) */
    u32 name;               /* env's name */
    bool ending;            /* the end upcall was made; `ends` is the end of the allowance */
    bool put_off;           /* the end of the slice was put off; `ends` is the end of that */
    bool fpu;               /* extended state of `context` is in the registers */
    bool zero;              /* so that the three before can be tested at once */
    u64 peer;               /* name that was found to be an environment's; forgotten in note_quiet */
    u64 reply_peer;         /* the same, for replies */
    struct env *payer;      /* whose runtime the time counts as (see charge); `nobody` when that one is gone */
    u32 paying;             /* low half of the TSC since when it has not been charged */
    struct trace *trace;    /* exposed */
    struct slices *slices;      /* exposed */
    u32 number;
    u32 apic;
    u32 slot;               /* the slot being used, or used last */
    u32 first;              /* the first slot of the slice */
    u64 owned;              /* slots that have an owner, a bit each; under the vector's lock */
    u64 heads;              /* those where a row of one owner's slots begins, and perhaps others; the same lock */
    u64 dormant;            /* slots, first of a row mostly, whose owner was found asleep; it stays so until one is told or `dormant_until` */
    u64 dormant_until;      /* TSC; the first deadline of those */
    u64 timer;              /* TSC at which the timer rings; NEVER: it does not */
    u64 begun;              /* TSC since when `slot` has not been charged */
    u64 ends;               /* TSC at which the slice ends */
    u64 generation;         /* the last that a page got here */
    u32 hint;               /* where to look for a free page */
    struct pair *net;       /* the network device's queues that it sends by (dev/virtio_net.c) */
    u64 held;               /* ranks of the locks held, a bit each */
    u32 woken;              /* an idle one: 1 more than a slot of whoever was woken, which it looks at first; 0: nobody was */
    bool left;              /* frames may be in the network device, which does not interrupt for them (net/flow.c) */
    u64 span;               /* TSC at which the present span of time began, as long as a slice, */
    u64 spent;              /* and what receiving took of it from those who run */

    ALIGNED(64) bool idle;  /* halted or about to be; read by other CPUs */
    bool stirred;           /* one of the dormant may be awake */
    u64 quiet;              /* rises whenever this CPU holds no pointer to a kernel object */
    bool flush_every;       /* those of all spaces, and the kernel's own */
    u64 flush_wanted;       /* TLB shootdowns asked of this CPU (by others) */
    u64 flush_done;         /* and answered */
    u32 slices_lock;        /* guards slot owners and `owned` */

    ALIGNED(64) u64 gdt[7];
    struct {
        u32 zero;
        u64 rsp0, rsp1, rsp2, zero2, ist[7], zero3;
        u16 zero4, io_map;
    } __attribute__((packed)) tss;
    struct verified { struct cap cap; u64 holder_generation; } verified[CAP_CACHE]; /* capabilities whose tags are good */
};
_Static_assert(offsetof(struct cpu, idle) / 64 > offsetof(struct cpu, held) / 64, "no line is written by this CPU and read by others all the time");
#define CPU_AT(field, at) (offsetof(struct cpu, field) == (at))
_Static_assert(CPU_AT(user_rsp, CPU_USER_RSP) && CPU_AT(kernel_rsp, CPU_KERNEL_RSP) && CPU_AT(user_rax, CPU_USER_RAX) &&
               CPU_AT(user_rcx, CPU_USER_RCX) && CPU_AT(context, CPU_CONTEXT) && CPU_AT(env, CPU_ENV) &&
               CPU_AT(record, CPU_RECORD) && CPU_AT(records, CPU_RECORDS) && CPU_AT(direct, CPU_DIRECT) &&
               CPU_AT(name, CPU_NAME) && CPU_AT(peer, CPU_PEER) && CPU_AT(reply_peer, CPU_REPLY_PEER) &&
               CPU_AT(ending, CPU_UNPLAIN) && CPU_AT(fpu, CPU_UNPLAIN + 2) && CPU_AT(payer, CPU_PAYER) &&
               CPU_AT(paying, CPU_PAYING) && CPU_AT(user_mask, CPU_USER_MASK),
               "what entry.S and transfer.S take for granted");
_Static_assert(CONTEXT_BASES_AT == CONTEXT_DEPTH_AT + 4, "transfer.S compares both at once");

extern struct cpu *cpus[MAX_CPUS]; /* by number */
extern u32 cpu_count;              /* those that run */
extern struct env nobody;          /* no environment: pays for time that nobody has */

static inline struct cpu *this_cpu(void) {
    struct cpu *c;
    __asm__("movq %%gs:0, %0" : "=r"(c));
    return c;
}
static inline struct env *current_env(void) {
    struct env *e;
    __asm__ volatile("movq %%gs:%c1, %0" : "=r"(e) : "i"(CPU_ENV));
    return e;
}

/* This CPU holds no pointer to a kernel object, nor a name that it takes for one. */
static inline void note_quiet(struct cpu *cpu) {
    cpu->peer = cpu->reply_peer = NO_PEER;
    cpu->payer = &nobody;
    __atomic_fetch_add(&cpu->quiet, 1, __ATOMIC_SEQ_CST);
}
#else
#include "targe/abi.h"
/* What C keeps, into a frame of the context page. */
.macro store_kept frame
    movq %r15, FRAME_R15_AT(\frame)
    movq %r14, FRAME_R14_AT(\frame)
    movq %r13, FRAME_R13_AT(\frame)
    movq %r12, FRAME_R12_AT(\frame)
    movq %rbp, FRAME_RBP_AT(\frame)
    movq %rbx, FRAME_RBX_AT(\frame)
.endm
#endif
