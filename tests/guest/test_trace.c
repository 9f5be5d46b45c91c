/* The trace of each CPU: what is recorded, and only what was chosen. */
#include "guest.h"

static struct cap machine;

static const volatile struct trace_record *find(u32 kind, u64 from, u64 a) {
    const volatile struct trace *t = machine_trace(0);

    for (u64 n = from; n < t->count; n++) {
        const volatile struct trace_record *r = &t->record[n % TRACE_RECORDS];
        if (r->kind == kind && r->a == a)
            return r;
    }
    return NULL;
}

static void skip(struct frame *f) { f->rip += 2; }
ROLE(traced) {
    rt_on_exception(skip);
    sys_yield();
    up->word[0] = 1;
    sys_sleep(NEVER, 0, 0);
}

/* Slices, ends, idling: each kind leaves its record, with the environment that it is about. */
TEST(trace_records, .needs = NEED_MACHINE) {
    const volatile struct trace *t = machine_trace(0);
    struct peer p;

    machine = item("machine");
    u64 before =
            (u64)sys_trace_set(&machine, 1u << TRACE_SLICE | 1u << TRACE_ENV | 1u << TRACE_IDLE),
        from = t->count;
    EQUAL(t->mask, 1u << TRACE_SLICE | 1u << TRACE_ENV | 1u << TRACE_IDLE);
    start_peer(&p, "traced", 0); /* few records before these are looked for: the ring is short */
    wait_for(&down->word[0], 1);
    const volatile struct trace_record *made = find(TRACE_ENV, from, 1);
    CHECK(made && made->env == rt_self() && made->b == p.env);
    for (u32 i = 0; i < 100 && !find(TRACE_IDLE, from, 0); i++)
        pause_for(5);
    CHECK(find(TRACE_IDLE, from, 0));
    bool ran = false;
    for (u64 n = from; n < t->count; n++)
        ran |= t->record[n % TRACE_RECORDS].kind == TRACE_SLICE &&
               t->record[n % TRACE_RECORDS].env == p.env;
    CHECK(ran);
    end_peer(&p);
    CHECK(find(TRACE_ENV, from, 3));
    EQUAL(sys_trace_set(&machine, 0), 1u << TRACE_SLICE | 1u << TRACE_ENV | 1u << TRACE_IDLE);
    from = t->count;
    sys_yield();
    pause_for(2);
    EQUAL(t->count, from);
    sys_trace_set(&machine, before);
}

/* The ring keeps the last records, and their times rise. */
TEST(trace_ring, .needs = NEED_MACHINE) {
    const volatile struct trace *t = machine_trace(0);

    machine = item("machine");
    u64 before = (u64)sys_trace_set(&machine, 1u << TRACE_SLICE);
    while (t->count < TRACE_RECORDS + 100)
        sys_yield();
    sys_trace_set(&machine, 0);
    u64 count = t->count, last = 0;
    for (u64 n = count - TRACE_RECORDS; n < count; n++) {
        CHECK(t->record[n % TRACE_RECORDS].tsc >= last);
        last = t->record[n % TRACE_RECORDS].tsc;
    }
    sys_trace_set(&machine, before);
}

/* Without the right to, nobody chooses or checks. */
TEST(trace_rights, .needs = NEED_MACHINE) {
    machine = item("machine");
    struct cap none = {.type = CAP_MACHINE, .rights = 0, .name = 0, .count = 1};

    OK(sys_cap_derive(&machine, &none));
    EQUAL(sys_trace_set(&none, 255), E_NO_RIGHT);
    EQUAL(sys_check(&none), E_NO_RIGHT);
    EQUAL(sys_check(&machine), 0);
}
