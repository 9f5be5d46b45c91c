/* Wakeup predicates, critical sections, slices that are given away. */
#include "guest.h"

static u64 word[4];

static struct factor factor(const u64 *at, u32 how, u64 value) {
    return (struct factor){.word = (u64)at, .value = value, .how = how};
}

/* A predicate with terms word[0] == 1 && word[1] > 5 (tag 100), word[2] != 0 (tag 200). */
static struct predicate sum_of_products(u64 ms) {
    return (struct predicate){
        .deadline = ms ? rt_tsc() + milliseconds(ms) : NEVER,
        .count = 2,
        .term = {{.tag = 100, .count = 2, .factor = {factor(&word[0], IS, 1), factor(&word[1], ABOVE, 5)}},
                 {.tag = 200, .count = 1, .factor = {factor(&word[2], IS_NOT, 0)}}},
    };
}

/* The tag of the first term that holds is returned, and the page is DATA again. */
TEST(wait_terms) {
    u32 page = page_alloc(1);
    struct predicate p = sum_of_products(0);

    word[2] = 7;
    EQUAL(sys_wait((u64)&p, page), 200);
    word[0] = 1;
    word[1] = 6;
    EQUAL(sys_wait((u64)&p, page), 100);
    EQUAL(type_of(page), PAGE_DATA);
    EQUAL(bindings_of(page), 0);
    word[1] = 5;
    word[2] = 0;
    p.deadline = rt_tsc() + milliseconds(5);
    EQUAL(sys_wait((u64)&p, page), 1);
    CHECK(rt_tsc() >= p.deadline);
    p.term[1].factor[0] = factor(&word[3], BELOW, 1);
    EQUAL(sys_wait((u64)&p, page), 200);
    EQUAL(sys_page_free(0, page, 1), 0);
}

static void set_later(u64 n) {
    pause_for(20);
    __atomic_store_n(&word[n], n == 1 ? 6 : 1, __ATOMIC_SEQ_CST);
    sys_wake(rt_self());
}

/* A store by another CPU wakes it, once all factors of the term hold. */
TEST(wait_other_cpu, .cpus = 2) {
    u32 page = page_alloc(1);
    struct predicate p = sum_of_products(5000);

    word[0] = 1;
    start_thread(1, set_later, 1);
    EQUAL(sys_wait((u64)&p, page), 100);
}

/* ---- what a sleeper's context page shows and takes */
static struct {
    struct context *context;
    u64 bases, word, awake; /* bases: 1, asked for before it sleeps; 2, while it does */
    u64 rax, rbx, rdi, xmm[2], fs;
} edited;

static void sleep_edited(u64 unused) {
    u64 xmm[2] = {0x1111, 0x2222}, fs = 0x1234000;
    u64 rax = CALL_SLEEP, rdi = NEVER, rsi = (u64)&edited.word, rdx = 0, rbx = 7;

    (void)unused;
    while (!__atomic_load_n(&edited.context, __ATOMIC_SEQ_CST))
        ;
    edited.context->fpu = 1;
    edited.context->bases = edited.bases == 1;
    __asm__ volatile("movups %0, %%xmm7" : : "m"(xmm));
    if (edited.bases)
        __asm__ volatile("wrfsbase %0" : : "r"(fs));
    __asm__ volatile("syscall" : "+a"(rax), "+D"(rdi), "+S"(rsi), "+d"(rdx), "+b"(rbx) : : "rcx", "r11", "r10", "r8", "r9", "memory");
    edited.rax = rax;
    edited.rbx = rbx;
    edited.rdi = rdi;
    __asm__ volatile("movups %%xmm7, %0" : "=m"(edited.xmm));
    if (edited.bases)
        __asm__ volatile("rdfsbase %0" : "=r"(edited.fs));
    __atomic_store_n(&edited.awake, 1, __ATOMIC_SEQ_CST);
}

/* An idle CPU may keep a sleeper's state, but all of it is in the context page, and what another CPU writes there counts. */
static void edit_sleeper(u64 bases) {
    const u64 xmm7 = 160 + 7 * 16; /* in the legacy area of XSAVE */

    edited.bases = bases;
    struct context *c = start_thread(1, sleep_edited, 0);
    __atomic_store_n(&edited.context, c, __ATOMIC_SEQ_CST);
    for (u32 i = 0; i < 1000 && self()->context[1].state != CONTEXT_SLEEPING; i++)
        pause_for(5);
    pause_for(5); /* for it to be idle */
    u64 *xmm = (u64 *)((u64)c + CONTEXT_EXTENDED_AT + xmm7);
    EQUAL(c->depth, 1);
    EQUAL(c->frame[0].cause, CAUSE_SLEEP);
    EQUAL(c->frame[0].rax, 0);
    EQUAL(c->frame[0].rbx, 7);
    EQUAL(xmm[0], 0x1111);
    EQUAL(xmm[1], 0x2222);
    if (bases == 1)
        EQUAL(c->fs_base, 0x1234000);
    c->frame[0].rbx = 8;
    c->frame[0].rdi = 9;
    xmm[0] = 0x3333;
    if (bases) {
        c->bases = 1;
        c->fs_base = 0x5678000;
    }
    edited.word = 1;
    sys_wake(rt_self());
    wait_for(&edited.awake, 1);
    EQUAL(edited.rax, 0);
    EQUAL(edited.rbx, 8);
    EQUAL(edited.rdi, 9);
    EQUAL(edited.xmm[0], 0x3333);
    EQUAL(edited.xmm[1], 0x2222);
    if (bases)
        EQUAL(edited.fs, 0x5678000);
}
TEST(sleep_edited_plain, .cpus = 2) { edit_sleeper(0); }
TEST(sleep_edited_bases, .cpus = 2) { edit_sleeper(cpu_has(7, 1, 0) ? 1 : 0); }
TEST(sleep_edited_bases_late, .cpus = 2) { edit_sleeper(cpu_has(7, 1, 0) ? 2 : 0); }

/* While it sleeps, the page and the words' pages are held; ending the environment lets go of them. */
ROLE(waiter) {
    u32 page = page_alloc(1);
    struct predicate p = {.deadline = NEVER, .count = 1,
                          .term = {{.tag = 16, .count = 1, .factor = {factor(&up->word[1], IS, 1)}}}};

    up->word[2] = page;
    up->word[0] = 1;
    sys_wait((u64)&p, page);
    up->word[3] = 1;
    pause_for(60000);
}
TEST(wait_held) {
    struct peer p;

    start_peer(&p, "waiter", 0);
    wait_for(&down->word[0], 1);
    pause_for(10);
    EQUAL(type_of((u32)down->word[2]), PAGE_WAIT);
    EQUAL(down->word[3], 0);
    u32 shared = memory_page_of(down), before = bindings_of(shared);
    end_peer(&p);
    CHECK(bindings_of(shared) < before);
}

static void refused(struct predicate *p, u32 page, s64 error) {
    EQUAL(sys_wait((u64)p, page), error);
    EQUAL(type_of(page), PAGE_DATA);
    EQUAL(bindings_of(page), 0);
}

/* What is not a predicate, or names what is not the caller's, is refused and nothing is bound. */
TEST(wait_refused) {
    u32 page = page_alloc(1), count = bindings_of(memory_page_of(word));
    struct predicate good = sum_of_products(0), p;

    p = good, p.count = 0, refused(&p, page, E_BAD_ARGUMENT);
    p = good, p.count = TERMS + 1, refused(&p, page, E_BAD_ARGUMENT);
    p = good, p.term[0].tag = 15, refused(&p, page, E_BAD_ARGUMENT);
    p = good, p.term[0].tag = 1ull << 63, refused(&p, page, E_BAD_ARGUMENT);
    p = good, p.term[0].count = FACTORS + 1, refused(&p, page, E_BAD_ARGUMENT);
    p = good, p.term[1].factor[0].how = BELOW + 1, refused(&p, page, E_BAD_ARGUMENT);
    p = good, p.term[1].factor[0].word++, refused(&p, page, E_BAD_ARGUMENT);
    p = good, p.term[1].factor[0].word = 8, refused(&p, page, E_BAD_ADDRESS);
    p = good, p.term[1].factor[0].word = 0xffffffff80100000, refused(&p, page, E_BAD_ADDRESS);
    EQUAL(bindings_of(memory_page_of(word)), count);
    EQUAL(sys_wait(0, page), E_BAD_ADDRESS);
    EQUAL(sys_wait((u64)&good, 0xffffffff), E_NO_RIGHT);
    EQUAL(sys_wait((u64)&good, machine_info()->array), E_NO_RIGHT);
    EQUAL(sys_wait((u64)&good, memory_page_of(word)), E_BUSY);
}

/* ---- critical sections */
static volatile u64 ends;
static void count_end(struct frame *f) {
    ends += f->cause == CAUSE_SLICE_END;
}

ROLE(busy) {
    for (;;)
        __atomic_fetch_add(&up->word[0], 1, __ATOMIC_SEQ_CST);
}

/* In a critical section the end of a slice is put off: the libOS sees `deferred`, and yields by itself. */
TEST(critical_section) {
    struct peer p;
    struct context *c = rt_context(0);

    start_peer(&p, "busy", 0);
    rt_on_slice_end(count_end);
    for (u32 i = 0; i < 20; i++) {
        sys_yield();
        __atomic_store_n(&c->critical, 1, __ATOMIC_SEQ_CST);
        u64 before = ends;
        while (!__atomic_load_n(&c->deferred, __ATOMIC_SEQ_CST) && ends == before)
            ;
        __atomic_store_n(&c->critical, 0, __ATOMIC_SEQ_CST);
        if (ends == before) { /* not so if the host stopped this machine for longer than the allowance */
            sys_yield();
            end_peer(&p);
            return;
        }
    }
    FAIL("the end of a slice was never put off");
}

/* It is put off once, and no longer than the allowance: who stays in gets the end upcall. */
TEST(critical_for_ever) {
    struct peer p;

    start_peer(&p, "busy", 0);
    rt_on_slice_end(count_end);
    rt_context(0)->critical = 1;
    u64 before = ends;
    for (u64 until = rt_tsc() + milliseconds(2000); ends < before + 3 && rt_tsc() < until;)
        ;
    CHECK(ends >= before + 3);
    rt_context(0)->critical = 0;
    end_peer(&p);
}

/* ---- giving slices */
TEST(slice_given) {
    struct peer p = bare_env(8, 2);
    s64 slot = OK(sys_slice_alloc(0, 0, PAGE_ANY)), more = OK(sys_slice_alloc(0, 0, PAGE_ANY));
    u32 mine = self()->slices;

    EQUAL(sys_slice_give(0, (u32)slot, 0), E_BAD_CAPABILITY);
    EQUAL(sys_slice_give(64, (u32)slot, &p.cap), E_BAD_ARGUMENT);
    EQUAL(sys_slice_give(0, SLOTS, &p.cap), E_BAD_ARGUMENT);
    EQUAL(sys_slice_give(0, (u32)slot, &p.cap), 0);
    EQUAL(machine_slices(0)->slot[slot].owner, p.env);
    EQUAL(self()->slices, mine - 1);
    EQUAL(sys_slice_give(0, (u32)slot, &p.cap), E_NO_RIGHT);
    EQUAL(sys_slice_free(0, 0, (u32)slot), E_NO_RIGHT);
    EQUAL(sys_slice_give(0, (u32)more, &p.cap), 0);
    end_peer(&p);
    EQUAL(machine_slices(0)->slot[slot].owner, 0);
}
