/* The scheduler of threads. One lock guards all queues. It is held inside a critical section of the context
 * (context.critical), so a slice that ends meanwhile goes on for as long as it takes to leave it; and it is held across
 * a switch, and let go by the thread that goes on: no CPU can take a thread before its registers are saved. */
#include "thread/thread.h"

#include "base/memory.h"
#include "base/start.h"
#include "machine/machine.h"

#define STACK_PAGES (THREAD_REGION / RT_PAGE - 1)
#define SPINS 1000

struct thread_cpu {
    struct context *context;
    struct thread *current; /* NULL: none of ours */
    struct thread *idle;    /* runs when no other is ready */
    bool over;              /* the slice has ended: the idle thread gives it back */
};

void thread_switch(u64 *save, u64 load);
void thread_switch_leave(u64 *save, u64 load); /* then leaves, when somebody goes on with this thread */
void thread_leave(void);
void thread_begin(void);
void thread_other_cpu(void);
void thread_end_entry(void);
void thread_first(void);
void thread_idle(void);
void thread_idle_other(void);
void thread_slice_ended(struct frame *frame);
extern u64 thread_idle_stack[MAX_CPUS];
u64 thread_idle_stack[MAX_CPUS]; /* where thread_other_cpu finds its stack */

static struct thread_cpu cpus[MAX_CPUS];
static struct thread_queue ready, spare, asleep;
static u64 made_ready; /* counts; idle CPUs sleep on it */
static u32 lock, idle_cpus;
static bool wake_wanted;
static u64 run_rsp; /* where thread_run goes on */

static void append(struct thread_queue *q, struct thread *t) {
    t->next = NULL;
    if (q->head)
        q->tail->next = t;
    else
        q->head = t;
    q->tail = t;
}

static struct thread *take(struct thread_queue *q) {
    struct thread *t = q->head;

    if (t)
        q->head = t->next;
    return t;
}

/* Spins; a CPU that waits for long gives up its slice to whoever holds the lock and was cut off. */
static __attribute__((noinline)) void lock_slowly(void) {
    for (u32 spins = 1; __atomic_exchange_n(&lock, 1, __ATOMIC_ACQUIRE); spins++)
        if (spins % SPINS == 0)
            sys_yield();
        else
            __builtin_ia32_pause();
}

/* The word is counted up and down, since it may be another CPU's for a moment: that of where this thread
 * ran before its slice ended between the two lines. */
static inline __attribute__((always_inline)) struct thread_cpu *begin_critical(struct thread *self) {
    for (;;) {
        struct thread_cpu *cpu = __atomic_load_n(&self->cpu, __ATOMIC_RELAXED);
        __atomic_fetch_add(&cpu->context->critical, 1, __ATOMIC_RELAXED);
        if (__builtin_expect(__atomic_load_n(&self->cpu, __ATOMIC_RELAXED) == cpu, 1))
            return cpu;
        __atomic_fetch_sub(&cpu->context->critical, 1, __ATOMIC_RELAXED);
    }
}

static inline __attribute__((always_inline)) bool lock_at_once(void) {
    bool taken;

    __asm__ volatile("lock btsl $0, %0" : "+m"(lock), "=@ccc"(taken) : : "memory");
    return __builtin_expect(!taken, 1);
}

static struct thread_cpu *enter(void) {
    struct thread_cpu *cpu = begin_critical(thread_self());

    if (!lock_at_once())
        lock_slowly();
    return cpu;
}

static void let_go(struct context *context) {
    __atomic_store_n(&lock, 0, __ATOMIC_RELEASE);
    __atomic_fetch_sub(&context->critical, 1, __ATOMIC_RELAXED);
}

static __attribute__((noinline)) void let_go_and_wake(struct context *context) {
    wake_wanted = false;
    let_go(context);
    sys_wake(rt_self());
}

static void leave_critical(struct thread_cpu *cpu) {
    if (__builtin_expect(wake_wanted, 0))
        let_go_and_wake(cpu->context);
    else
        let_go(cpu->context);
}

static void slice_over(void);
static __attribute__((noinline)) void leave_and_wake(struct context *context) {
    let_go_and_wake(context);
    if (__atomic_load_n(&context->deferred, __ATOMIC_RELAXED))
        slice_over();
}
void thread_leave(void) {
    struct context *context = thread_self()->cpu->context;

    if (__builtin_expect(wake_wanted, 0)) {
        leave_and_wake(context);
        return;
    }
    let_go(context);
    if (__builtin_expect(__atomic_load_n(&context->deferred, __ATOMIC_RELAXED), 0))
        slice_over();
}

static void make_ready(struct thread *t) {
    append(&ready, t);
    made_ready++;
    wake_wanted |= idle_cpus != 0;
}

/* Goes on with another thread; returns when somebody goes on with this one. */
static void switch_to(struct thread_cpu *cpu, struct thread *next) {
    next->cpu = cpu;
    cpu->current = next;
    thread_switch(&thread_self()->rsp, next->rsp);
}

static void block(struct thread_cpu *cpu) {
    struct thread *next = take(&ready);

    switch_to(cpu, next ? next : cpu->idle);
}

/* With the lock held. Whatever comes last is a tail call, so a yield needs no stack of its own. */
static inline __attribute__((always_inline)) void go_behind(struct thread *self, struct thread_cpu *cpu) {
    struct thread *next = ready.head;

    if (!next) {
        thread_leave();
        return;
    }
    self->next = NULL; /* append and take, of a queue that is not empty */
    ready.tail->next = self;
    ready.tail = self;
    ready.head = next->next;
    next->cpu = cpu;
    cpu->current = next;
    thread_switch_leave(&self->rsp, next->rsp);
}

static __attribute__((noinline)) void yield_slowly(struct thread *self, struct thread_cpu *cpu) {
    lock_slowly();
    go_behind(self, cpu);
}

void thread_yield(void) {
    struct thread *self = thread_self();
    struct thread_cpu *cpu = begin_critical(self);

    if (lock_at_once())
        go_behind(self, cpu);
    else
        yield_slowly(self, cpu);
}

/* The slice is over and this thread is not inside a critical section: others may take it. */
static void slice_over(void) {
    struct thread_cpu *cpu = enter();

    if (thread_self() != cpu->idle) {
        make_ready(thread_self());
        cpu->over = true;
        switch_to(cpu, cpu->idle);
        thread_leave();
    } else {
        leave_critical(cpu);
        sys_yield();
    }
}

/* From thread_end_entry, on the interrupted stack, where all that the frame holds is by now. */
void thread_slice_ended(struct frame *frame) {
    struct context *context = (struct context *)((u64)frame & ~(RT_PAGE - 1));
    struct thread_cpu *cpu = &cpus[context->cpu];

    context->depth = (u32)frame->previous;
    if (context->critical || cpu->current != thread_self())
        sys_yield(); /* later it goes on right here */
    else
        slice_over();
}

/* ---- the idle thread of a CPU */

/* Readies those whose time has come; returns the deadline of the next. */
static u64 wake_sleepers(void) {
    struct thread_queue left = {0};
    u64 now = asleep.head ? rt_tsc() : 0, next = NEVER;

    for (struct thread *t; (t = take(&asleep));) {
        if (t->deadline <= now) {
            make_ready(t);
            continue;
        }
        next = t->deadline < next ? t->deadline : next;
        append(&left, t);
    }
    asleep = left;
    return next;
}

/* All other threads wait. What was made ready since `seen` was read ends the sleep at once. */
static void sleep_all(struct thread_cpu *cpu, u64 deadline) {
    u64 seen = made_ready;

    idle_cpus++;
    leave_critical(cpu);
    sys_sleep(deadline, &made_ready, seen);
    enter();
    idle_cpus--;
}

/* Begins with the lock held, like every thread that is switched to. */
void thread_idle(void) {
    struct thread_cpu *cpu = thread_self()->cpu;

    for (;;) {
        if (cpu->over || cpu->context->deferred) {
            cpu->over = false;
            leave_critical(cpu);
            sys_yield(); /* the next slice starts here */
            enter();
        }
        u64 deadline = wake_sleepers();
        struct thread *next = take(&ready);
        if (next)
            switch_to(cpu, next);
        else
            sleep_all(cpu, deadline);
    }
}

void thread_idle_other(void) {
    enter();
    thread_idle();
}

/* ---- making and ending */

static struct thread *new_region(void) {
    u64 at = memory_reserve(2 * THREAD_REGION / RT_PAGE);
    s64 page = sys_page_alloc(0, PAGE_ANY, STACK_PAGES, 0, 0);

    at = (at + THREAD_REGION - 1) & ~(THREAD_REGION - 1);
    if (page < 0 || memory_map_at(at + RT_PAGE, (u32)page, STACK_PAGES, MAP_WRITE, 0))
        return NULL;
    return (struct thread *)(at + THREAD_REGION - sizeof(struct thread));
}

/* A thread that will begin in `begin`, with six words below its return address for thread_switch to load. */
static struct thread *prepare(struct thread *t, void (*begin)(void), u64 (*function)(u64), u64 argument) {
    if (!t && !(t = new_region()))
        return NULL;
    *t = (struct thread){.function = function, .argument = argument};
    u64 *top = (u64 *)t - 2;
    *top = (u64)begin;
    t->rsp = (u64)(top - 6);
    return t;
}

struct thread *thread_create(u64 (*function)(u64), u64 argument) {
    enter();
    struct thread *t = prepare(take(&spare), thread_begin, function, argument);
    if (t)
        make_ready(t);
    thread_leave();
    return t;
}

void thread_begin(void) {
    struct thread *self = thread_self();

    thread_leave();
    self->result = self->function(self->argument);
    struct thread_cpu *cpu = enter();
    self->done = 1;
    if (self->joiner)
        make_ready(self->joiner);
    block(cpu);
    __builtin_unreachable(); /* nobody goes on with a thread that is done */
}

u64 thread_join(struct thread *t) {
    struct thread_cpu *cpu = enter();

    if (!t->done) {
        t->joiner = thread_self();
        block(cpu);
    }
    u64 result = t->result;
    append(&spare, t);
    thread_leave();
    return result;
}

void thread_sleep(u64 deadline) {
    struct thread_cpu *cpu = enter();

    thread_self()->deadline = deadline;
    append(&asleep, thread_self());
    made_ready += idle_cpus != 0; /* those that sleep have to look at the new deadline */
    wake_wanted |= idle_cpus != 0;
    block(cpu);
    thread_leave();
}

s64 thread_key(void) {
    static u32 keys;
    u32 key = __atomic_fetch_add(&keys, 1, __ATOMIC_RELAXED);

    return key < THREAD_LOCALS ? (s64)key : E_FULL;
}

/* ---- mutexes and conditions */

bool mutex_try(struct mutex *m) {
    u32 is_free = 0;

    return __atomic_compare_exchange_n(&m->state, &is_free, 1, false, __ATOMIC_ACQUIRE, __ATOMIC_RELAXED);
}

void mutex_lock(struct mutex *m) {
    if (mutex_try(m))
        return;
    struct thread_cpu *cpu = enter();
    if (__atomic_exchange_n(&m->state, 2, __ATOMIC_ACQUIRE)) {
        append(&m->waiting, thread_self());
        block(cpu); /* woken by whoever hands it over */
    }
    thread_leave();
}

static void hand_over(struct mutex *m) {
    struct thread *next = take(&m->waiting);

    if (next)
        make_ready(next);
    else
        __atomic_store_n(&m->state, 0, __ATOMIC_RELEASE);
}

void mutex_unlock(struct mutex *m) {
    u32 taken = 1;

    if (__atomic_compare_exchange_n(&m->state, &taken, 0, false, __ATOMIC_RELEASE, __ATOMIC_RELAXED))
        return;
    enter();
    hand_over(m);
    thread_leave();
}

void condition_wait(struct condition_variable *c, struct mutex *m) {
    struct thread_cpu *cpu = enter();

    append(&c->waiting, thread_self());
    hand_over(m);
    block(cpu);
    thread_leave();
    mutex_lock(m);
}

void condition_signal(struct condition_variable *c) {
    enter();
    struct thread *t = take(&c->waiting);
    if (t)
        make_ready(t);
    thread_leave();
}

void condition_broadcast(struct condition_variable *c) {
    enter();
    for (struct thread *t; (t = take(&c->waiting));)
        make_ready(t);
    thread_leave();
}

/* ---- CPUs */

static s64 prepare_cpu(u32 n, struct context *context) {
    struct thread_cpu *cpu = &cpus[n];
    struct thread *idle = prepare(NULL, thread_idle, NULL, 0);

    if (!idle)
        return E_LIMIT;
    idle->cpu = cpu;
    cpu->context = context;
    cpu->idle = cpu->current = idle;
    context->self = (u64)context;
    context->end = (u64)thread_end_entry;
    thread_idle_stack[n] = (u64)idle - 16;
    return 0;
}

s64 thread_add_cpu(u32 n, u32 slices) {
    s64 page = n < MAX_CPUS && !cpus[n].context ? sys_page_alloc(0, PAGE_ANY, 1, 0, 0) : E_BAD_ARGUMENT;
    struct context *context = rt_context(n);

    if (page < 0)
        return page;
    s64 error = memory_map_at((u64)context, (u32)page, 1, MAP_WRITE, 0);
    if (!error)
        error = prepare_cpu(n, context);
    if (error)
        return error;
    context->depth = 1;
    context->frame[0].rip = (u64)thread_other_cpu;
    context->frame[0].rdi = (u64)context;
    error = sys_context_bind(0, n, (u32)page);
    for (u32 i = 0; i < slices && !error; i++) {
        s64 slot = sys_slice_alloc(0, n, PAGE_ANY);
        error = slot < 0 ? slot : 0;
    }
    return error;
}

/* The CPUs on which the creator made a context: they are parked (libos/rt/start.S). */
static s64 take_parked(void) {
    const struct start *start = (const struct start *)RT_START;
    s64 error = 0;

    for (u32 n = 0; n < machine_info()->cpus && !error; n++)
        if (!cpus[n].context && (start->cpus[n / 32] >> n % 32 & 1))
            error = prepare_cpu(n, rt_context(n));
    __atomic_store_n(&rt_others, (u64)thread_other_cpu, __ATOMIC_SEQ_CST);
    sys_wake(rt_self());
    return error;
}

/* The first thread: when its function returns, thread_run does. */
void thread_first(void) {
    struct thread *self = thread_self();

    leave_critical(self->cpu);
    self->result = self->function(self->argument);
    struct thread_cpu *cpu = enter();
    cpu->current = NULL;
    leave_critical(cpu);
    thread_switch(&self->rsp, run_rsp);
}

u64 thread_run(u64 (*function)(u64), u64 argument) {
    struct thread_cpu *cpu = &cpus[rt_first->cpu];
    struct thread *first = prepare(NULL, thread_first, function, argument);

    if (!first || prepare_cpu(rt_first->cpu, rt_first) || take_parked())
        return (u64)E_LIMIT;
    first->cpu = cpu;
    __atomic_fetch_add(&cpu->context->critical, 1, __ATOMIC_RELAXED);
    while (__atomic_exchange_n(&lock, 1, __ATOMIC_ACQUIRE))
        sys_yield();
    cpu->current = first;
    thread_switch(&run_rsp, first->rsp);
    return first->result;
}
