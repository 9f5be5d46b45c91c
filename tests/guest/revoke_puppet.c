/* Puppets: see revoke_puppet.h. Orders and results are in the page that tests share with their peers. */
#include "revoke_puppet.h"

#define NUMBER (up->word[62])
#define CPU (up->word[61])
#define CAPS 8 /* of `shared.cap`, for each puppet; the first stands for its scratch page */

static struct orders *orders_in(struct shared *s, u32 number) { return (struct orders *)s->order + number; }
_Static_assert(PUPPETS * sizeof(struct orders) <= sizeof((struct shared *)0)->order, "orders have room");
_Static_assert(PUPPETS * CAPS <= ARRAY_SIZE(((struct shared *)0)->cap), "capabilities have room");

/* ---- the puppet */
static struct orders *mine;

static void told(struct frame *frame, u64 cause) {
    (void)frame;
    __atomic_fetch_add(cause == CAUSE_REVOKE ? &mine->asked : &mine->lost, 1, __ATOMIC_SEQ_CST);
}

static u64 word_read;
static void read_word(u64 at) { word_read = *(volatile u64 *)at; }

static u64 obey(const struct orders *o) {
    const u64 *a = o->argument;
    struct raw raw;
    struct caught caught;

    switch (o->kind) {
    case ORDER_CALL:
        raw = (struct raw){.rax = a[0], .rdi = a[1], .rsi = a[2], .rdx = a[3], .r10 = a[4], .r8 = a[5]};
        return (u64)checked_call(&raw, "a puppet's call");
    case ORDER_MAP:
        return mapped((u32)a[0], (u32)a[1], (u32)a[2]);
    case ORDER_READ:
        return attempt(read_word, a[0], &caught) ? UNREADABLE : word_read;
    case ORDER_WRITE:
        if (try_write(a[0]) != 32)
            return 1;
        *(volatile u64 *)a[0] = a[1];
        return 0;
    case ORDER_SLEEP:
        return (u64)sys_sleep(NEVER, (const u64 *)a[0], a[1]);
    default:
        FAIL("there is no order %lu", o->kind);
    }
}

ROLE(puppet) {
    extern char attempt_entry[];
    struct cap scratch = up->cap[NUMBER * CAPS];
    struct context *context = rt_context((u32)CPU);

    mine = orders_in(up, (u32)NUMBER);
    rt_on_revoke(told);
    context->exception = (u64)attempt_entry;
    mine->scratch = address(1);
    OK(memory_map_at(mine->scratch, scratch.name, 1, MAP_WRITE, &scratch));
    for (u64 done = 0;; done++) {
        __atomic_store_n(&mine->done, done, __ATOMIC_SEQ_CST);
        while (__atomic_load_n(&mine->wanted, __ATOMIC_SEQ_CST) == done)
            sys_sleep(NEVER, &mine->wanted, done);
        mine->result = obey(mine);
    }
}

/* ---- the test */
void start_puppet(struct puppet *p, u32 number, u32 cpu) {
    u32 page = page_alloc(1);
    struct cap *cap = &down->cap[number * CAPS];

    p->scratch = (u64 *)mapped(page, 1, MAP_WRITE);
    p->orders = orders_in(down, number);
    *p->orders = (struct orders){.done = 1};
    *cap = (struct cap){.type = CAP_PAGE, .rights = RIGHT_READ | RIGHT_WRITE, .name = page, .count = 1};
    OK(sys_cap_derive(0, cap));
    down->word[62] = number;
    down->word[61] = cpu;
    start_peer(&p->peer, "puppet", cpu);
    for (u64 end = rt_tsc() + milliseconds(5000); __atomic_load_n(&p->orders->done, __ATOMIC_SEQ_CST);) {
        if (rt_tsc() > end || down->failed)
            FAIL("a puppet does not begin: %s", down->text);
        sys_sleep(rt_tsc() + milliseconds(1), &p->orders->done, 1);
    }
}

void end_puppet(struct puppet *p) { end_peer(&p->peer); }

void order_begin(struct puppet *p, u64 kind, u64 a, u64 b, u64 c, u64 d, u64 e, u64 f) {
    const u64 argument[6] = {a, b, c, d, e, f};

    p->orders->kind = kind;
    memcpy(p->orders->argument, argument, sizeof argument);
    __atomic_fetch_add(&p->orders->wanted, 1, __ATOMIC_SEQ_CST);
    sys_wake(p->peer.env);
}

s64 order_result(struct puppet *p) {
    wait_for(&p->orders->done, p->orders->wanted);
    return (s64)p->orders->result;
}

s64 order_it(struct puppet *p, u64 kind, u64 a, u64 b, u64 c, u64 d, u64 e, u64 f) {
    order_begin(p, kind, a, b, c, d, e, f);
    return order_result(p);
}

u32 puppet_pages(struct puppet *p, u32 count) { return (u32)OK(order_call(p, PAGE_ALLOC, 0, PAGE_ANY, count)); }

u64 puppet_map(struct puppet *p, u32 page, u32 count, u32 flags) {
    return (u64)OK(order_it(p, ORDER_MAP, page, count, flags, 0, 0, 0));
}

struct cap puppet_cap(struct puppet *p, u32 page, u32 count, u8 rights) {
    struct cap *want = (struct cap *)(p->scratch + 508);

    *want = (struct cap){.type = CAP_PAGE, .rights = rights, .name = page, .count = count};
    OK(order_call(p, CAP_DERIVE, 0, p->orders->scratch + 508 * 8));
    return *want;
}

u64 puppet_give_cap(struct puppet *p, struct cap cap) {
    *(struct cap *)(p->scratch + 504) = cap;
    return p->orders->scratch + 504 * 8;
}

u64 puppet_losses(struct puppet *p) {
    u32 page = puppet_pages(p, 1);
    u64 va = puppet_map(p, page, 1, MAP_WRITE);

    OK(order_call(p, LOSS_BIND, 0, page));
    return va;
}

s64 ask(struct puppet *p, u32 resource, u32 count, u64 ms) {
    return sys_revoke(&p->peer.cap, resource, count, rt_tsc() + milliseconds(ms));
}

void ask_now(struct puppet *p, u32 resource, u32 count) {
    sys_revoke(&p->peer.cap, resource, 0, 0);
    OK(ask(p, resource, count, 0));
}

s64 take_saved(struct puppet *p, u32 page, u32 *saved) {
    struct taking t = {.resource = RESOURCE_PAGES, .name = page, .saved = 1};
    s64 failed;

    do /* the search for who holds it goes in pieces */
        failed = sys_repossess(&p->peer.cap, &t, 1);
    while (failed == 1 && t.result == E_AGAIN);

    *saved = t.saved;
    if (failed >= 0)
        EQUAL(failed, t.result != 0);
    return failed < 0 ? failed : t.result;
}

s64 take(struct puppet *p, u32 resource, u32 name) {
    struct taking t = {.resource = resource, .name = name};
    s64 failed;

    do
        failed = sys_repossess(&p->peer.cap, &t, 1);
    while (failed == 1 && t.result == E_AGAIN);
    if (failed >= 0)
        EQUAL(failed, t.result != 0);
    return failed < 0 ? failed : t.result;
}

struct loss puppet_loss(struct puppet *p, u64 losses, u32 number) {
    u64 at = losses + offsetof(struct losses, loss) + number % LOSSES * sizeof(struct loss);
    struct loss loss;

    for (u32 i = 0; i < sizeof loss / 8; i++)
        ((u64 *)&loss)[i] = (u64)order_read(p, at + i * 8);
    return loss;
}
