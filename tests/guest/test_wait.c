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
