/* Random calls from several environments at once, on all CPUs. Most arguments are of the kind that
 * the call wants, so that much succeeds; some are anything. Replayed by fuzzseed=N on the kernel's
 * command line (on one CPU nearly exactly); fuzzms=N says for how long.
 *
 * Environments that a fuzzer makes are known by capabilities in the shared page, so that whoever
 * started the fuzzers can destroy them. */
#include "abuse.h"

#define FUZZERS 4
#define ROUND_MS 150
#define FIRST_MADE 8 /* up->cap: before it the fuzzers themselves, from it on what they made */
#define CAPS 64
#define MADE ((CAPS - FIRST_MADE) / FUZZERS) /* places for each fuzzer */
#define OWN_PAGES 48
#define SCRATCH_PAGES 1024

static u64 state;
static u32 me;
static struct cap caps[CAPS];
static u32 own[OWN_PAGES];
static u64 scratch; /* addresses to map at */
static u8 *data;    /* memory to point to */

static u64 any(u64 below) { return random_number(&state) % below; }

/* What each argument should be:
 *   E environment  P page capability  F flow capability  A any capability  p own page  n count  c
 * CPU  s slot o order  w room for a result  u batch  v specification of an environment  f of a flow
 * b binding m frames  t deadline  a a word  x anything  e an environment's name */
static const char *const wanted[CALL_COUNT] = {
    [CALL_PAGE_ALLOC] = "Epnow", [CALL_PAGE_FREE] = "Ppn",  [CALL_PAGE_GIVE] = "PpnE",
    [CALL_PAGE_REVOKE] = "Ppn",  [CALL_CAP_DERIVE] = "Aw",  [CALL_SPACE_UPDATE] = "Eun",
    [CALL_ENV_CREATE] = "ppvw",  [CALL_ENV_STOP] = "Ex",    [CALL_ENV_DESTROY] = "E",
    [CALL_CONTEXT_BIND] = "Ecp", [CALL_EVENT_BIND] = "Ep",  [CALL_SLICE_ALLOC] = "Ecs",
    [CALL_SLICE_FREE] = "Ecs",   [CALL_SLEEP] = "tax",      [CALL_WAKE] = "e",
    [CALL_FLOW_CREATE] = "Fpfw", [CALL_FLOW_BIND] = "Fb",   [CALL_FLOW_UNBIND] = "F",
    [CALL_FLOW_DESTROY] = "F",   [CALL_FLOW_SEND] = "Fmn",  [CALL_CONSOLE_WRITE] = "Aan",
    [CALL_CONSOLE_BIND] = "A",   [CALL_MACHINE_OFF] = "An", [CALL_TRACE_SET] = "Ax",
    [CALL_CHECK] = "A",          [CALL_REVOKE] = "Ennt",    [CALL_REPOSSESS] = "Eun",
    [CALL_LOSS_BIND] = "Ep",     [CALL_ENV_LIMIT] = "Enn",  [CALL_VITAL_SET] = "np",
};

static u64 anything(void) {
    static const u64 odd[] = {0,
                              1,
                              2,
                              7,
                              0xfff,
                              0x7fffffff,
                              0x80000000,
                              0xffffffff,
                              0x7ffffffff000,
                              0x7fffffffffff,
                              0x800000000000,
                              0xffff800000000000,
                              0xffffffff80100000,
                              ~0ull,
                              RT_CONTEXT,
                              RT_START};

    switch (any(6)) {
    case 0:
        return odd[any(ARRAY_SIZE(odd))];
    case 1:
        return any(machine_info()->pages + 4);
    case 2:
        return (u64)data + any(3 * RT_PAGE);
    case 3:
        return scratch + any(SCRATCH_PAGES) * RT_PAGE;
    case 4:
        return any(600);
    default:
        return random_number(&state);
    }
}

static u64 cap_of(u8 type) {
    for (u32 tries = 0; tries < 16; tries++) {
        struct cap *c = any(4) ? &caps[any(CAPS)] : &up->cap[any(CAPS)];
        if (c->type == type || !type)
            return (u64)c;
    }
    return 0;
}

static u32 own_page(void) { return own[any(OWN_PAGES)]; }

static u64 batch(void) {
    struct update *u = (struct update *)(data + RT_PAGE);

    for (u32 i = 0; i < 8; i++) {
        u[i] = (struct update){.op = (u8)(1 + any(5)),
                               .flags = (u16)any(4),
                               .va = scratch + any(SCRATCH_PAGES) * RT_PAGE,
                               .count = 1 + (u32)any(any(4) ? 2 : 600)};
        if (u[i].op >= UPDATE_BIND_TABLE) {
            u[i].level = (u8)(1 + any(3));
            u[i].flags = 0;
            u[i].count = 1;
            u[i].va += any(4) << 30;
        }
        if (u[i].op == UPDATE_MAP || u[i].op == UPDATE_BIND_TABLE)
            u[i].page = any(8) ? own_page() : (u32)any(machine_info()->pages);
        if (u[i].op == UPDATE_MAP && !any(3))
            u[i].cap = cap_of(CAP_PAGE);
        if (!any(40)) /* any byte of it */
            ((u8 *)&u[i])[any(sizeof *u)] = (u8)any(256);
    }
    return (u64)u;
}

static void random_condition(struct condition *c) {
    memset(c, 0, sizeof *c);
    c->count = (u32)any(3);
    for (u32 i = 0; i < c->count; i++)
        c->atom[i] = (struct atom){.offset = (u16)any(64),
                                   .width = (u8)(1 << any(3)),
                                   .kind = !any(8),
                                   .mask = 0xff,
                                   .value = (u32)any(256)};
    for (u32 i = 0; i < c->count; i++)
        if (!any(4))
            c->atom[i] = (struct atom){.offset = (u16)(2 * any(33)),
                                       .width = 2,
                                       .kind = ATOM_RANGE,
                                       .mask = 0xffff,
                                       .value = (u32)any(0x8000),
                                       .high = (u32)any(0x10001)};
}

static u64 specification(char kind) {
    struct env_spec *spec = (struct env_spec *)(data + 2 * RT_PAGE);
    struct flow_spec *flow = (struct flow_spec *)(data + 2 * RT_PAGE + 64);
    struct flow_binding *b = (struct flow_binding *)(data + 2 * RT_PAGE + 1024);
    struct send *send = (struct send *)(data + 2 * RT_PAGE + 2048);
    u32 *pages = (u32 *)(data + 2 * RT_PAGE + 3072);

    switch (kind) {
    case 'v':
        *spec = (struct env_spec){
            .name = "fuzz", .page_limit = (u32)any(20), .slice_limit = (u32)any(2)};
        return (u64)spec;
    case 'f':
        random_condition(&flow->receive);
        random_condition(&flow->transmit);
        return (u64)flow;
    case 'b':
        random_condition(&b->filter);
        for (u32 i = 0; i < 4; i++)
            pages[i] = own_page();
        b->pages = (u64)pages;
        b->count = (u32)any(5);
        b->ring = own_page();
        b->entries = 1u << any(10);
        b->zero = 0;
        return (u64)b;
    default:
        memset(send, 0, sizeof *send);
        send->headers = (u64)data;
        send->length = (u16)(14 + any(60));
        send->pieces = (u16)any(5);
        for (u32 i = 0; i < SEND_PIECES; i++)
            send->piece[i] = (struct piece){
                .page = own_page(), .offset = (u16)any(4000), .length = (u16)(1 + any(200))};
        return (u64)send;
    }
}

static u64 argument(char kind) {
    if (!any(12))
        return anything();
    switch (kind) {
    case 'E':
        return any(3) ? cap_of(CAP_ENV) : 0;
    case 'P':
        return any(2) ? cap_of(CAP_PAGE) : 0;
    case 'F':
        return cap_of(CAP_FLOW);
    case 'A':
        return cap_of(0);
    case 'p':
        return own_page();
    case 'n':
        return 1 + any(4);
    case 'c':
        return any(machine_info()->cpus);
    case 's':
        return any(2) ? PAGE_ANY : any(SLOTS);
    case 'o':
        return any(4);
    case 'w':
        return (u64)&caps[any(CAPS)];
    case 'u':
        return batch();
    case 't':
        return rt_tsc() + any(milliseconds(1));
    case 'a':
        return (u64)data + any(64) * 8;
    case 'e':
        return up->cap[any(FUZZERS)].name;
    case 'v':
    case 'f':
    case 'b':
    case 'm':
        return specification(kind);
    default:
        return anything();
    }
}

/* Calls that would end the fuzzer, or lose an environment that it made, are put right or left out.
 */
static bool tame(u32 number, u64 v[6]) {
    switch (number) {
    case CALL_ENV_STOP:
        return v[0] >= (u64)caps && v[0] < (u64)(caps + CAPS) &&
               ((struct cap *)v[0])->name != rt_self();
    case CALL_SLEEP:
        v[0] = rt_tsc() + any(milliseconds(1));
        return true;
    case CALL_ENV_CREATE:
        for (struct cap *c = &up->cap[FIRST_MADE + me * MADE], *last = c + MADE; c < last; c++)
            if (!c->type) {
                v[3] = (u64)c;
                return true;
            }
        return false;
    case CALL_CONTEXT_BIND: /* a context or a slice on another CPU soon ends an environment */
        return !any(60);
    case CALL_SLICE_ALLOC:
        if (any(60)) {
            v[0] = 0;
            v[1] = up->word[3 + me];
        }
        return true;
    default:
        return true;
    }
}

static void note_result(u32 number, const u64 v[6], s64 result) {
    if (number == CALL_PAGE_ALLOC && result > 0)
        for (u32 i = 0; i < (u32)v[2] && i < 4; i++)
            own[any(OWN_PAGES)] = (u32)result + i;
    if (number == CALL_SLICE_FREE && !result) /* without slices nothing more would come */
        sys_slice_alloc((const struct cap *)v[0], (u32)v[1], (u32)v[2]);
    struct cap *made = &up->cap[FIRST_MADE + me * MADE], *of = (struct cap *)v[0];
    if (number == CALL_ENV_DESTROY && !result && of >= made && of < made + MADE)
        of->type = 0;
}

static void transfer(void) {
    struct rt_message m = {.rdi = any(100)};

    rt_transfer((u32)up->cap[any(FUZZERS)].name, (u32)any(3), &m);
}

static void one_call(void) {
    u32 number = (u32)any(any(50) ? CALL_COUNT : 256);
    const char *kinds = number < CALL_COUNT && wanted[number] ? wanted[number] : "xxxxxx";
    u64 v[6];

    if ((number == CALL_YIELD || number == CALL_SLEEP || number == CALL_TRANSFER) && any(30))
        return; /* they take long */
    if (number == CALL_TRANSFER) {
        transfer();
        return;
    }
    for (u32 i = 0; i < 6; i++) {
        v[i] = *kinds ? argument(*kinds) : 0;
        kinds += *kinds != 0;
    }
    if (!tame(number, v))
        return;
    struct raw r = {
        .rax = number, .rdi = v[0], .rsi = v[1], .rdx = v[2], .r10 = v[3], .r8 = v[4], .r9 = v[5]};
    s64 result = checked_call(&r, "fuzz");
    note_result(number, v, result);
    up->word[16 + (result < 0 ? 1 : 0)]++;
}

static void answer(u32 caller, u32 kind, struct rt_message *m) {
    (void)caller;
    (void)kind;
    m->rdi++;
}

ROLE(fuzzer) {
    me = (u32)atoi(strchr(start_arguments(), ' ') + 1);
    state = (up->word[1] + me) * 0x9e3779b97f4a7c15ull | 1;
    data = (u8 *)mapped(page_alloc(4), 4, MAP_WRITE);
    scratch = address(SCRATCH_PAGES);
    for (u32 i = 0; i < OWN_PAGES; i++)
        own[i] = (u32)OK(sys_page_alloc(0, PAGE_ANY, 1, 0, &caps[i]));
    caps[CAPS - 1] = (struct cap){
        .type = CAP_ENV, .rights = RIGHT_OWN | RIGHT_MANAGE, .name = rt_self(), .count = 1};
    OK(sys_cap_derive(0, &caps[CAPS - 1]));
    for (u32 i = 0; i < 3; i++)
        caps[CAPS - 2 - i] = up->cap[4 + i]; /* the device's flow */
    rt_on_transfer(answer);
    while (!__atomic_load_n(&up->word[2], __ATOMIC_SEQ_CST))
        sys_yield();
    for (;;)
        one_call();
}

static void run_round(u64 seed, u64 ms, const struct cap *machine) {
    struct peer p[FUZZERS];
    u32 cpus = machine_info()->cpus;

    memset(down, 0, sizeof *down);
    down->word[1] = seed;
    down->cap[4] = item("flow");
    for (u32 i = 0; i < FUZZERS; i++) {
        char name[16];
        format(name, sizeof name, "fuzzer %u", i);
        struct spawn_slices slices[2] = {{(i + 1) % cpus, 2}, {0, 0}};
        down->word[3 + i] = slices[0].cpu;
        run_peer(&p[i], name, slices, slices[0].cpu ? 2 : 1, 700, 4);
        down->cap[i] =
            (struct cap){.type = CAP_ENV, .rights = RIGHT_MANAGE, .name = p[i].env, .count = 1};
        OK(sys_cap_derive(&p[i].cap, &down->cap[i]));
    }
    down->word[2] = 1;
    pause_for(ms / 2);
    EQUAL(sys_check(machine), 0);
    pause_for(ms / 2);
    for (u32 i = 0; i < FUZZERS; i++)
        end_peer(&p[i]);
    for (u32 i = FIRST_MADE; i < CAPS; i++)
        if (down->cap[i].type == CAP_ENV)
            rt_destroy(&down->cap[i]);
    if (down->failed)
        FAIL("seed %lu: %s", seed, down->text);
}

/* No sequence of calls stops the kernel, or leaves it in contradiction with itself. */
TEST(fuzz_calls, .needs = NEED_CONSOLE | NEED_MACHINE | NEED_FLOW, .seconds = 120) {
    struct cap machine = item("machine");
    u64 seed = number_argument("fuzzseed", rt_tsc() % 1000000000),
        ms = number_argument("fuzzms", 4000), calls = 0, errors = 0;
    u64 end = rt_tsc() + milliseconds(ms);

    print("fuzz: seed %lu\n", seed);
    for (u64 round = 0; rt_tsc() < end; round += FUZZERS) {
        run_round(seed + round, ROUND_MS, &machine);
        calls += down->word[16];
        errors += down->word[17];
    }
    print("fuzz: %lu calls succeeded, %lu were refused\n", calls, errors);
    CHECK(calls > 100 && errors > 100);
}
