/* The slice vectors. A CPU looks at the slots that have an owner, from the one after that last
 * used, and runs the first whose context can run; contiguous slots of one owner are one long slice.
 * Nothing here chooses: the order is what environments allocated. */
#include "core/schedule.h"

#include "core/cpu.h"
#include "core/env.h"
#include "core/lock.h"
#include "core/memory.h"
#include "core/page.h"
#include "core/revoke.h"
#include "core/trace.h"
#include "core/upcall.h"
#include "core/wait.h"
#include "core/user.h"
#include "net/flow.h"
#include "targe/call_table.h"
#include "x86/apic.h"
#include "x86/bases.h"
#include "x86/fpu.h"
#include "x86/interrupt.h"
#include "x86/io.h"
#include "x86/mmu.h"

#define CALL_DEPTH 8       /* longest chain of synchronous transfers that is followed */
#define MOST_OVERRUNS 64   /* slices that a context may exceed one after the other before its environment is stopped */

struct env nobody;

struct choice {
    struct env_context *record;
    struct env *payer; /* the slice's owner; another than the record's environment if that serves its call */
    u32 first, slot;   /* the first and the last of the slots that make up the slice */
    u32 count;         /* how many they are */
    u64 next;  /* when nobody can run: the TSC at which the first of them can */
};

static inline struct env_context *record_of(const struct cpu *cpu, const struct env *env) { return (void *)((u64)env + (cpu->records - cpu->direct)); }
static inline struct env *env_of_record(const struct env_context *record) { return (struct env *)((u64)record & -PAGE_SIZE); }

ALWAYS_INLINE void schedule_forget_sleep(struct env_context *record) {
    if (record->word && unlikely(!schedule_waits_for_own(record)))
        page_unbind(page_of_phys((phys){record->word}));
    record->word = 0;
    if (unlikely(record->state == CONTEXT_WAITING))
        wait_end((u32)record->value);
}

ALWAYS_INLINE void schedule_awaken(struct env_context *record, u64 result) {
    struct frame *f = result ? frame_top(page_ptr(record->page)) : NULL; /* 0 is what frame_keep has put there */

    if (f)
        f->rax = result;
    schedule_forget_sleep(record);
    record->state = CONTEXT_READY;
}

static bool is_asleep(const struct env_context *record) {
    return record->state == CONTEXT_SLEEPING || record->state == CONTEXT_WAITING;
}

/* What the call of a sleeper in this state returns, since what it waits for has come; negative: it has not. */
static inline s64 comes(const struct env_context *record, u8 state, u64 now) {
    const u64 *word = phys_ptr((phys){record->word});
    u64 tag;

    if (record->word && __atomic_load_n(word, __ATOMIC_SEQ_CST) != record->value)
        return 0;
    if (unlikely(state == CONTEXT_WAITING) && (tag = wait_evaluate((u32)record->value)))
        return (s64)tag;
    if (record->pending & PENDING_UPCALLS)
        return 3;
    return record->deadline <= now ? 1 : -1;
}

/* A CALL gets no reply any more: its caller goes on with an error. False: it cannot. */
static bool call_failed(struct env_context *record) {
    struct context *context = page_ptr(record->page);
    u32 depth = __atomic_load_n(&context->depth, __ATOMIC_RELAXED);

    record->state = CONTEXT_READY;
    if (depth >= FRAMES) {
        env_end(env_of_record(record), END_FAULT, 0);
        return false;
    }
    struct frame *f = &context->frame[depth];
    *f = (struct frame){.rax = (u64)E_DEAD, .cause = CAUSE_CALL, .previous = depth, .rip = context->call_rip, .rsp = context->call_rsp};
    __atomic_store_n(&context->depth, depth + 1, __ATOMIC_RELAXED);
    return true;
}

/* The context that serves a call; NULL: none does. */
static NOINLINE struct env_context *server_of(const struct cpu *cpu, struct env_context *record) {
    for (u32 depth = 1; depth < CALL_DEPTH && record->state == CONTEXT_CALLING; depth++) {
        struct env *peer = env_live(record->peer);
        if (!peer || peer->context[cpu->number].caller != env_of_record(record)->self)
            return call_failed(record) ? record : NULL; /* whoever was called is gone */
        record = &peer->context[cpu->number];
    }
    return record;
}

/* The context that the payer's slice goes to: its own, or the one that serves its call; NULL: it cannot run. */
static ALWAYS_INLINE struct env_context *find_runnable(struct cpu *cpu, struct env *payer, u64 now, u64 *next) {
    struct env_context *record = record_of(cpu, payer);
    s64 result;

    if (unlikely(payer->state != ENV_LIVE))
        return NULL;
    if (unlikely(record->state == CONTEXT_CALLING) && !(record = server_of(cpu, record)))
        return NULL;
    if (is_asleep(record)) {
        *next = record->deadline;
        if ((result = comes(record, record->state, now)) < 0)
            return NULL;
        schedule_awaken(record, (u64)result);
    }
    return record->state == CONTEXT_READY ? record : NULL;
}

/* Slices that are not used pay for what handlers took; another CPU may be adding to that, or have it paid. */
static NOINLINE void pay(struct env *env, u64 ticks) {
    u64 owed = __atomic_load_n(&env->owed, __ATOMIC_RELAXED);

    while (!__atomic_compare_exchange_n(&env->owed, &owed, owed - min_u64(owed, ticks), false, __ATOMIC_SEQ_CST,
                                        __ATOMIC_SEQ_CST)) {
    }
}

/* Bits of `dormant` are forgotten when whoever wakes, gives or charges somebody says so, and when the first deadline passes. */
static void forget_dormant(struct cpu *cpu) {
    __atomic_store_n(&cpu->stirred, false, __ATOMIC_SEQ_CST); /* before looking at what may have changed */
    cpu->dormant = 0;
    cpu->dormant_until = NEVER;
}

/* The owner of a row that begins here sleeps on what it is told of: need it be looked at? Who has several rows is remembered by one of them, so that who
 * wakes it finds that at once. */
static inline void note_dormant(struct cpu *cpu, u32 slot, struct env_context *record) {
    if (record->peer >= SLOTS && cpu->heads >> slot & 1)
        record->peer = slot;
    if (record->peer == slot) {
        cpu->dormant |= 1ull << slot;
        cpu->dormant_until = min_u64(cpu->dormant_until, record->deadline);
    }
}

/* Whether a row of slots, which are the payer's, can be used. False with `count` 0: all of it is forfeited. */
static ALWAYS_INLINE bool try_row(struct cpu *cpu, u32 slot, u64 heads, u64 now, bool forfeit, struct choice *c) {
    const struct slices *slices = cpu->slices;
    u64 ends = (heads | ~cpu->owned) >> slot >> 1;

    c->first = slot;
    c->count = ends ? (u32)__builtin_ctzll(ends) + 1 : SLOTS - slot;
    c->slot = slot + c->count - 1;
    c->next = NEVER;
    c->record = find_runnable(cpu, c->payer, now, &c->next);
    if (!c->record) {
        if (unlikely(c->payer->owed) && forfeit)
            pay(c->payer, c->count * slices->length);
        return false;
    }
    u64 excess = c->record->excess + c->payer->owed;
    if (likely(excess < slices->length))
        return true;
    u32 owed = (u32)min_u64(excess / slices->length, c->count); /* so many are forfeited */
    u64 ticks = owed * slices->length, late = min_u64(c->record->excess, ticks);
    if (forfeit) {
        c->record->excess -= late;
        pay(c->payer, ticks - late);
    }
    c->count -= owed;
    c->next = now + ticks;
    return c->count;
}

/* The slots at which rows begin that are to be looked at. */
static inline u64 rows(struct cpu *cpu, u64 now) {
    if (unlikely(cpu->stirred || now >= cpu->dormant_until))
        forget_dormant(cpu);
    return (__atomic_load_n(&cpu->heads, __ATOMIC_SEQ_CST) | 1ull << (cpu->slot + 1) % SLOTS) & cpu->owned & ~cpu->dormant;
}

/* Looks at each owner once for a row of its slots, not once for each slot: `heads` says where rows begin. One
 * that was cut since this CPU used its last slot goes on in the middle. `forfeit`: slices that are owed are taken
 * now; otherwise nothing is changed by looking. An owner that sleeps on nothing but what it is told of (its deliveries, a deadline)
 * is not looked at again until it is. A slot's owner is an ENV page: slots go before it does. */
static NOINLINE bool look_through(struct cpu *cpu, u64 look, u64 now, bool forfeit, struct choice *c) {
    u32 from = (cpu->slot + 1) % SLOTS, refused = 0; /* owners that cannot run often have rows side by side */
    u64 next = cpu->dormant_until, heads = cpu->heads | 1ull << from;

    for (u64 left = look >> from | look << (-from % SLOTS); left; left &= left - 1) {
        u32 slot = (from + (u32)__builtin_ctzll(left)) % SLOTS;
        u32 owner = cpu->slices->slot[slot].owner;
        if (!owner || owner == refused)
            continue;
        struct env_context *record = record_of(cpu, env_of(owner));
        if (!is_asleep(record) || comes(record, record->state, now) >= 0 || unlikely(env_of(owner)->owed)) {
            c->payer = env_of(owner);
            if (try_row(cpu, slot, heads, now, forfeit, c))
                return true;
            next = min_u64(next, c->next);
            refused = c->count ? owner : refused;
            continue;
        }
        next = min_u64(next, record->deadline);
        refused = owner;
        if (record->state == CONTEXT_SLEEPING && (!record->word || schedule_waits_for_own(record)))
            note_dormant(cpu, slot, record);
    }
    c->next = next;
    return false;
}

static ALWAYS_INLINE bool pick(struct cpu *cpu, u64 now, bool forfeit, struct choice *c) {
    u64 look = rows(cpu, now);

    c->next = cpu->dormant_until;
    return look && look_through(cpu, look, now, forfeit, c);
}

/* Time is charged when it ends: to the slot, and to the environment that pays. That is the slice's owner,
 * also while another serves its call, and whoever was given the slice. So a CALL and its reply change
 * nothing, and who calls cannot compute at another's cost; only a GIVE has to look at the clock. */
static void charge(struct cpu *cpu, u64 now) {
    cpu->slices->slot[cpu->slot].used += now - cpu->begun;
    __atomic_fetch_add(&cpu->payer->runtime, (u32)now - cpu->paying, __ATOMIC_RELAXED);
    cpu->begun = now;
    cpu->paying = (u32)now;
}

void schedule_give(struct env *env) {
    struct cpu *cpu = this_cpu();

    charge(cpu, rdtsc());
    cpu->payer = env;
}

void schedule_bill(struct env *env, u64 ticks) {
    /* A budget bounds what a program takes; what is far above it a virtual machine lost to its host. */
    ticks = min_u64(ticks, this_cpu()->slices->allowance);
    if (!__atomic_fetch_add(&env->owed, ticks, __ATOMIC_SEQ_CST)) /* also who sleeps pays */
        for (u32 n = 0; n < cpu_count; n++)
            __atomic_store_n(&cpus[n]->stirred, true, __ATOMIC_SEQ_CST);
    __atomic_fetch_add(&env->runtime, ticks, __ATOMIC_RELAXED);
}

void schedule_pay(u32 name) {
    struct env *env = env_live(name);

    if (env)
        this_cpu()->payer = env;
}

/* What a critical section took beyond the slice is owed. */
static void charge_put_off(struct cpu *cpu, u64 now) {
    if (cpu->put_off && !cpu->ending)
        cpu->record->excess += now - (cpu->ends - cpu->slices->allowance);
    cpu->put_off = false;
}

/* With PCIDs a CPU keeps the translations of spaces that it has left. Whoever changes a space marks all its
 * records stale, and then interrupts the CPUs that have it loaded (shootdown). So the one who loads announces it first, loads, and
 * looks for the mark afterwards: either he sees it, or the announcement was seen. The same tells of the environment's end. */
static void load_space(struct cpu *cpu, struct env *env) {
    if (cpu->env == env)
        return;
    __atomic_store_n(&cpu->env, env, __ATOMIC_SEQ_CST);
    cpu->name = env ? env->self : 0;
    struct env_context *record = env ? record_of(cpu, env) : NULL;
    load_root(record ? (phys){record->root} : ptr_phys(kernel_root)); /* serializes */
    if (record && unlikely(__atomic_load_n(&record->pending, __ATOMIC_SEQ_CST) & PENDING_STALE)) {
        __atomic_fetch_and(&record->pending, (u8)~PENDING_STALE, __ATOMIC_SEQ_CST);
        load_root(current_root()); /* nothing is kept */
    }
}

/* Takes off what is saved already, or is not to be. */
static void drop(struct cpu *cpu) {
    bases_wipe();
    cpu->context = NULL;
    cpu->record = NULL;
}

/* Takes off what runs; its space stays loaded. */
static inline void leave(struct cpu *cpu) {
    if (!cpu->context)
        return;
    charge_put_off(cpu, rdtsc());
    fpu_leave(cpu);
    bases_save(cpu);
    drop(cpu);
}

void schedule_leave_dead_space(void) {
    struct cpu *cpu = this_cpu();

    if (cpu->env && !cpu->context && cpu->env->state != ENV_LIVE) {
        drop(cpu);
        load_space(cpu, NULL);
    }
}

bool schedule_switch(struct env *env, struct env_context *record) {
    struct cpu *cpu = this_cpu();

    leave(cpu);
    load_space(cpu, env);
    if (__atomic_load_n(&env->state, __ATOMIC_SEQ_CST) != ENV_LIVE) {
        load_space(cpu, NULL);
        return false;
    }
    if (cpu->peer == cpu->name)
        cpu->peer = NO_PEER; /* nobody transfers control to himself */
    cpu->record = record;
    cpu->context = page_ptr(record->page);
    cpu->slices->switches++;
    bases_enter(cpu);
    return true;
}

/* The timer rings at this TSC or earlier; whom it comes too early for sets it again. So who runs for a short
 * time costs no setting of the timer, only one interrupt at the end of the first slice that was begun. */
static void timer_by(struct cpu *cpu, u64 tsc) {
    if (tsc < cpu->timer) {
        cpu->timer = tsc;
        timer_set(tsc);
    }
}

/* Makes a slice of the chosen slots begin now. */
static ALWAYS_INLINE void begin_slice(struct cpu *cpu, const struct choice *c, u64 now) {
    struct slices *slices = cpu->slices;
    struct context *context = cpu->context;
    u64 ends = now + c->count * slices->length;

    cpu->payer = c->payer;
    cpu->first = c->first;
    cpu->slot = c->slot;
    cpu->ends = ends;
    cpu->ending = cpu->put_off = false;
    slices->current = c->slot;
    slices->running = env_of_record(c->record)->self;
    slices->slot[c->slot].runs++;
    timer_by(cpu, ends);
    context->deferred = 0;
    context->slice_end = ends;
    context->excess = c->record->excess;
    trace(TRACE_SLICE, c->slot, c->record->excess);
}

void schedule_enter(void) {
    struct cpu *cpu = this_cpu();
    struct context *context = cpu->context;
    u64 entry = __atomic_load_n(&context->start, __ATOMIC_RELAXED);
    struct regs r;
    bool good;

    if (entry) {
        r = (struct regs){{.rsp = context->start_stack, .rdi = context->self, .rsi = CAUSE_SLICE_START}};
        good = upcall_enter(&r, entry);
    } else {
        good = frame_pop(&r);
    }
    if (good) {
        if (unlikely(cpu->record->pending & PENDING_UPCALLS))
            revoke_deliver(&r);
        resume(&r);
    }
    env_end(cpu->env, END_FAULT, 0);
    schedule();
}

/* Nobody can run before the timer rings: waits for an interrupt, which ends in trap_halted(). */
static ALWAYS_INLINE NORETURN void halt(struct cpu *cpu, u64 now) {
    struct slices *slices = cpu->slices;

    cpu->slot = SLOTS - 1;
    slices->current = SLOTS;
    slices->running = 0;
    trace(TRACE_IDLE, 0, 0);
    slices->idle_since = now;
    note_quiet(cpu);
    rest();
}

/* Goes on with whoever was chosen; returns if he has died. An idle CPU still has what ran last, and that only resumes. */
static ALWAYS_INLINE void run(struct cpu *cpu, const struct choice *c, u64 now) {
    struct context *context = page_ptr(c->record->page);

    if (c->record == cpu->record && likely(!context->bases)) {
        cpu->context = context;
    } else {
        drop(cpu);
        if (!schedule_switch(env_of_record(c->record), c->record))
            return;
    }
    __atomic_store_n(&cpu->idle, false, __ATOMIC_RELEASE);
    cpu->begun = now;
    cpu->paying = (u32)now;
    begin_slice(cpu, c, now);
    if (likely(!context->start && !(c->record->pending & PENDING_UPCALLS)))
        frame_leave();
    schedule_enter();
}

/* Whoever was woken on an idle CPU gets it at once. */
static ALWAYS_INLINE void run_woken(struct cpu *cpu, u64 now) {
    u32 slot = cpu->woken - 1;
    struct choice c;

    if (!cpu->woken)
        return;
    cpu->woken = 0;
    u32 owner = cpu->slices->slot[slot].owner;
    c.payer = env_of(owner);
    if (owner && try_row(cpu, slot, cpu->heads, now, true, &c))
        run(cpu, &c, now);
}

/* Looks for somebody who can run, and waits until there is one. */
static NOINLINE NORETURN void seek(struct cpu *cpu, u64 now) {
    for (struct choice c;; now = rdtsc()) {
        if (pick(cpu, now, true, &c)) {
            run(cpu, &c, now);
        } else if (flow_poll() || cpu->woken) { /* also by an environment that looking has ended */
            cpu->woken = 0; /* whoever was woken is looked at with the others */
            cpu->slices->idle_since = now;
            __asm__ volatile("sti; nop; cli" ::: "memory"); /* frames may come without end: an interrupt that waits ends here, as in rest() */
            cpu->slices->idle_since = 0;
        } else {
            timer_by(cpu, c.next);
            halt(cpu, now);
        }
    }
}

/* entry.S comes here from schedule(), with an empty stack: what led here is never returned to. */
NOINLINE NORETURN void schedule_loop(void);
void schedule_loop(void) {
    struct cpu *cpu = this_cpu();

    charge(cpu, rdtsc());
    leave(cpu);
    /* Said before looking: whoever changes a word and sees this interrupts the halt. */
    __atomic_store_n(&cpu->idle, true, __ATOMIC_SEQ_CST);
    schedule_leave_dead_space();
    seek(cpu, cpu->begun);
}

/* The same for whom a call suspended and charged. It stays on the CPU, but for what its libOS may want to see or change meanwhile. */
OFTEN NORETURN void schedule_paused(void);
void schedule_paused(void) {
    struct cpu *cpu = this_cpu();
    u64 now = cpu->begun;

    if (unlikely(cpu->put_off || cpu->fpu || cpu->context->bases))
        schedule_loop();
    cpu->context = NULL;
    __atomic_store_n(&cpu->idle, true, __ATOMIC_SEQ_CST);
    if (likely(!rows(cpu, now) && !cpu->left && cpu->timer <= cpu->dormant_until))
        halt(cpu, now);
    seek(cpu, now);
}

OFTEN void schedule_again(void) {
    struct cpu *cpu = this_cpu();
    u64 now = rdtsc();
    cpu->slices->idle += now - cpu->slices->idle_since;
    cpu->slices->idle_since = 0;
    run_woken(cpu, now);
    seek(cpu, now);
}

/* The allowance is over too: the kernel saves everything, and the excess is counted. */
static NORETURN void overrun(struct cpu *cpu, const struct regs *r, u64 now) {
    cpu->trace->overruns++;
    cpu->record->excess += now - (cpu->ends - cpu->slices->allowance);
    if (!frame_push(r, CAUSE_OVERRUN))
        env_end(cpu->env, END_FAULT, 0);
    else if (++cpu->record->overruns > MOST_OVERRUNS)
        env_end(cpu->env, END_OVERRUN, cpu->record->excess);
    schedule();
}

void schedule_tick(struct regs *r) {
    struct cpu *cpu = this_cpu();
    u64 now = rdtsc();
    struct choice c;

    if (now < cpu->ends) { /* early, for a slice that is over already */
        timer_by(cpu, cpu->ends);
        return;
    }
    if (cpu->ending)
        overrun(cpu, r, now);
    /* When it goes on, the others' turns have come and gone: those who owe a slice have forfeited it. */
    if (pick(cpu, now, false, &c) && c.record == cpu->record && pick(cpu, now, true, &c) && c.record == cpu->record) {
        charge(cpu, now);
        begin_slice(cpu, &c, now);
        revoke_deliver(r); /* what came while it waited for a reply, or found no frame */
        return;
    }
    if (!cpu->put_off && __atomic_load_n(&cpu->context->critical, __ATOMIC_RELAXED)) {
        cpu->put_off = true; /* once in a slice, and what it takes is forfeited */
        cpu->context->deferred = 1;
        cpu->ends = now + cpu->slices->allowance;
        timer_by(cpu, cpu->ends);
        return;
    }
    charge_put_off(cpu, now);
    u64 entry = __atomic_load_n(&cpu->context->end, __ATOMIC_RELAXED);
    bool told = entry && frame_to_spare(cpu->context); /* or the kernel saves everything */
    bool good = told ? upcall(r, entry, CAUSE_SLICE_END) : frame_push(r, CAUSE_SLICE_END) != 0;
    if (!good)
        env_end(cpu->env, END_FAULT, 0);
    if (!good || !told)
        schedule();
    cpu->ending = true;
    cpu->ends = now + cpu->slices->allowance;
    timer_by(cpu, cpu->ends);
}

void schedule_lend(u64 took, u64 again) {
    struct cpu *cpu = this_cpu();

    if (cpu->context) {
        cpu->begun += took;
        cpu->paying += (u32)took;
        cpu->ends += took;
        cpu->context->slice_end = cpu->ends;
    }
    timer_by(cpu, again);
}

void schedule_stir(struct cpu *cpu) {
    __atomic_store_n(&cpu->stirred, true, __ATOMIC_SEQ_CST);
    if (cpu != this_cpu() && __atomic_load_n(&cpu->idle, __ATOMIC_SEQ_CST))
        apic_send(cpu->apic, VECTOR_KICK);
}

static NOINLINE void wake_elsewhere(const struct cpu *cpu, const struct env *env) {
    __atomic_thread_fence(__ATOMIC_SEQ_CST); /* `syscall` is none: a libOS's store may be in its CPU's buffer still */
    for (u32 n = 0; n < cpu_count; n++)
        if (n != cpu->number && is_asleep(&env->context[n]))
            schedule_stir(cpus[n]);
}

void schedule_wake(const struct env *env) {
    struct cpu *cpu = this_cpu();
    const struct env_context *record = record_of(cpu, env);

    if (is_asleep(record)) { /* an idle CPU looks at it first and when the interrupt is over: it is likely to be the only one that can run */
        u32 slot = record->peer;
        if (slot < SLOTS)
            cpu->dormant &= ~(1ull << slot);
        if (cpu->idle)
            cpu->woken = slot % SLOTS + 1;
    }
    if (cpu_count > 1)
        wake_elsewhere(cpu, env);
}

s64 call_wake(u32 name) {
    const struct env *env = env_live(name);

    if (env)
        schedule_wake(env);
    return env ? 0 : E_DEAD;
}

s64 call_yield(void) {
    struct cpu *cpu = this_cpu();
    const struct frame *f = frame_keep(cpu, CAUSE_YIELD);

    if (!f)
        return E_FULL;
    cpu->record->overruns = 0;
    charge(cpu, rdtsc());
    return (s64)f;
}

static NOINLINE s64 stay(struct env_context *record, s64 result) {
    schedule_forget_sleep(record);
    record->state = CONTEXT_READY;
    return result;
}

/* Suspends the caller, whose record says what it waits for, unless that has come already. `told`: somebody says so when it comes. */
static ALWAYS_INLINE s64 suspend(struct cpu *cpu, struct env_context *record, u8 state, bool told) {
    const struct frame *f;

    record->overruns = 0;
    __atomic_store_n(&record->state, state, __ATOMIC_SEQ_CST); /* who wakes it sees that, or what he has done is seen here */
    u64 now = rdtsc();
    s64 result = comes(record, state, now);
    if (result < 0 && (f = frame_keep(cpu, CAUSE_SLEEP))) {
        record->peer = SLOTS;
        if (told && cpu->slices->slot[cpu->first].owner == cpu->name)
            note_dormant(cpu, cpu->first, record);
        charge(cpu, now);
        return (s64)f;
    }
    return stay(record, result < 0 ? E_FULL : result);
}

static NOINLINE s64 sleep_on(struct cpu *cpu, struct env_context *record, u64 at) {
    s64 word = at ? wait_bind_word(at) : 0;

    if (word < 0)
        return word;
    record->word = (u64)word;
    bool own = schedule_waits_for_own(record);
    if (own) /* what lives as long as the record is not bound */
        page_unbind(cpu->env->self);
    return suspend(cpu, record, CONTEXT_SLEEPING, own || !word);
}

s64 call_sleep(u64 deadline, u64 at, u64 value) {
    struct cpu *cpu = this_cpu();
    struct env_context *record = cpu->record;

    record->value = value;
    record->deadline = deadline;
    if (unlikely(at != DELIVERIES))
        return sleep_on(cpu, record, at);
    record->word = ptr_phys(&env_of_record(record)->deliveries).v;
    return suspend(cpu, record, CONTEXT_SLEEPING, true);
}

s64 call_wait(u64 predicate, u32 page) {
    struct cpu *cpu = this_cpu();
    struct predicate p;

    TRY(user_read(&p, predicate, sizeof p));
    TRY(wait_begin(&p, page));
    cpu->record->value = page;
    cpu->record->deadline = p.deadline;
    return suspend(cpu, cpu->record, CONTEXT_WAITING, false);
}

/* Sets a slot's owner; 0: none. A row may begin at it, or behind it; that CPU looks at both until it is known
 * that none does, so it never misses one. */
static void set_owner(struct cpu *cpu, u32 slot, u32 owner) {
    struct slot *s = cpu->slices->slot;

    __atomic_fetch_or(&cpu->heads, 3ull << slot, __ATOMIC_SEQ_CST);
    s[slot].owner = owner;
    __atomic_store_n(&cpu->owned, (cpu->owned & ~(1ull << slot)) | (u64)(owner != 0) << slot, __ATOMIC_SEQ_CST);
    u64 none = !owner || (slot && s[slot - 1].owner == owner) ? 1ull << slot : 0;
    if (slot + 1 < SLOTS && (!s[slot + 1].owner || s[slot + 1].owner == owner))
        none |= 2ull << slot;
    __atomic_fetch_and(&cpu->heads, ~none, __ATOMIC_SEQ_CST);
    schedule_stir(cpu);
}

static s64 allocate_slot(struct cpu *cpu, struct env *env, u32 slot) {
    if (slot == PAGE_ANY && ~cpu->owned)
        slot = (u32)__builtin_ctzll(~cpu->owned);
    if (slot == PAGE_ANY || cpu->owned >> slot & 1)
        return E_NOT_FREE;
    set_owner(cpu, slot, env->self);
    env->slices++;
    return slot;
}

s64 call_slice_alloc(u64 user, u32 n, u32 slot) {
    struct env *env;
    bool good = n < cpu_count && (slot < SLOTS || slot == PAGE_ANY);
    s64 result = E_LIMIT;

    TRY(good ? env_lock_target(user, RIGHT_MANAGE, &env) : E_BAD_ARGUMENT);
    if (env->slices < env->slice_limit && env->cpus >> n & 1) {
        word_lock(&cpus[n]->slices_lock, LOCK_SLICES);
        result = allocate_slot(cpus[n], env, slot);
        word_unlock(&cpus[n]->slices_lock, LOCK_SLICES);
    }
    env_unlock(env);
    return result;
}

/* A slice changes owner without ever being free; `to` NULL: it is freed. */
static s64 move_slot(u32 n, u32 slot, struct env *from, struct env *to) {
    if (n >= cpu_count || slot >= SLOTS)
        return E_BAD_ARGUMENT;
    word_lock(&cpus[n]->slices_lock, LOCK_SLICES);
    bool good = cpus[n]->slices->slot[slot].owner == from->self;
    if (good) {
        set_owner(cpus[n], slot, to ? to->self : 0);
        from->slices--;
        if (to)
            to->slices++;
    }
    word_unlock(&cpus[n]->slices_lock, LOCK_SLICES);
    return good ? 0 : E_NO_RIGHT;
}

s64 schedule_take_slice(struct env *env, u32 n, u32 slot) { return move_slot(n, slot, env, NULL); }

bool schedule_awaken_taken(struct env *env, bool awaken) {
    bool found = false;

    for (u32 n = 0; n < cpu_count; n++) {
        struct env_context *record = &env->context[n];
        u64 word = record->word;
        if ((word && page_is_taken(page_of_phys((phys){word}))) ||
            (record->state == CONTEXT_WAITING && wait_uses_taken((u32)record->value))) {
            found = true;
            if (awaken) {
                schedule_awaken(record, 3);
                schedule_stir(cpus[n]);
            }
        }
    }
    return found;
}

s64 call_slice_give(u32 n, u32 slot, u64 cap) {
    struct env *to, *from = current_env();
    s64 error = E_LIMIT;

    TRY(cap ? env_target(cap, RIGHT_MANAGE, &to) : E_BAD_CAPABILITY);
    if (n >= cpu_count || slot >= SLOTS || to == from)
        return E_BAD_ARGUMENT;
    env_lock_two(from, to);
    if (to->state != ENV_LIVE)
        error = E_DEAD;
    else if (to->slices < to->slice_limit && to->cpus >> n & 1)
        error = move_slot(n, slot, from, to);
    if (!error)
        revoke_given(from, RESOURCE_SLICES, 1);
    env_unlock_two(from, to);
    return error;
}

s64 call_slice_free(u64 user, u32 n, u32 slot) {
    struct env *env;

    TRY(env_target(user, RIGHT_MANAGE, &env));
    env_lock(env);
    s64 result = schedule_take_slice(env, n, slot);
    if (!result)
        revoke_given(env, RESOURCE_SLICES, 1);
    env_unlock(env);
    return result;
}

void schedule_free_slices(struct env *env) {
    for (u32 n = 0; n < cpu_count && env->slices; n++)
        for (u32 slot = 0; slot < SLOTS; slot++)
            if (cpus[n]->slices->slot[slot].owner == env->self)
                move_slot(n, slot, env, NULL);
}
