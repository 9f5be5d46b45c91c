/* Every call with every argument hostile: the error that it must be, and nothing has changed. One
 * table says for each call which kind each argument is and a value with which the call would
 * succeed; then one argument at a time is replaced. At the end the call with all good values does
 * succeed: only the hostile one was wrong. */
#include "abuse.h"

enum kind {
    NONE,
    ENV_CAP,
    PAGE_CAP,
    FLOW_CAP,
    CONSOLE_CAP,
    MACHINE_CAP,
    READ,
    WRITE,
    PAGE,
    COUNT,
    NUMBER
};

struct argument {
    enum kind kind;
    u64 good;
    u64 limit; /* COUNT: the most; NUMBER: the least that is wrong; READ, WRITE: bytes; caps: 1: 0
                  is wrong */
};
struct call {
    const char *name;
    u32 number;
    struct argument arg[6];
    bool harmless; /* the good call may be made, and succeeds */
};

/* Objects that the calls are about. */
static struct {
    struct peer child, stranger;
    u32 page, run, root, other_page;
    struct cap *page_cap, *env_cap, *flow_cap, *console_cap, *machine_cap, *out, *want;
    struct cap *foreign, *void_cap, *weak_page, *weak_env, *weak_flow, *page_of_stranger;
    struct update *update;
    struct env_spec *spec;
    struct flow_spec *flow_spec;
    struct flow_binding *binding;
    struct send *send;
    struct code_spec *code;
    struct handler_binding *handler;
} world;

static struct cap *put_cap(struct cap cap) {
    static u32 used;
    struct cap *at = (struct cap *)arena() + used++;

    *at = cap;
    return at;
}

static struct cap *derive(const struct cap *from, u8 type, u8 rights, u32 holder, u32 name) {
    struct cap cap = {.type = type, .rights = rights, .name = name, .count = 1};

    if (holder)
        cap = tied_to(cap, holder);
    OK(sys_cap_derive(from, &cap));
    return put_cap(cap);
}

static void make_flow(void) {
    static struct flow_spec mine; /* of a protocol that nobody uses */
    struct cap flow, root = item("flow");

    mine.receive.count = mine.transmit.count = 1;
    mine.receive.atom[0] = (struct atom){.offset = 12, .width = 2, .mask = 0xffff, .value = 0x88b5};
    mine.transmit.atom[0] = mine.receive.atom[0];
    OK(sys_flow_create(&root, page_alloc(1), &mine, &flow));
    world.flow_cap = put_cap(flow);
    world.weak_flow = derive(&flow, CAP_FLOW, 0, 0, flow.name);
    u8 *at = arena() + 4 * RT_PAGE;
    world.flow_spec = (struct flow_spec *)at;
    *world.flow_spec = mine;
    world.binding = (struct flow_binding *)(at + 1024);
    *world.binding = (struct flow_binding){
        .pages = (u64)(at + 2048), .count = 1, .ring = page_alloc(1), .entries = 4};
    world.binding->filter = mine.receive;
    *(u32 *)(at + 2048) = page_alloc(1);
    world.send = (struct send *)(at + 3072);
    *world.send = (struct send){.headers = (u64)(at + 2560), .length = 14};
    *(u16 *)(at + 2560 + 12) = 0xb588;
}

/* A good program: r0 = 1, exit. Its page and the work's are never DATA of this environment: no call succeeds. */
static void make_code(u8 *at) {
    static u64 program[] = {0x1000000b7, 0x95};

    world.code = (struct code_spec *)at;
    *world.code = (struct code_spec){.program = (u64)program,
                                     .slots = 2,
                                     .kind = KIND_HANDLER,
                                     .page = machine_info()->code_first,
                                     .pages = 1,
                                     .work = world.page,
                                     .work_pages = 4};
    while (sys_page_alloc(0, world.code->page, 1, 0, 0) < 0)
        world.code->page++;
    world.handler = (struct handler_binding *)(at + 512);
    *world.handler = (struct handler_binding){.code = world.code->page, .memory = world.page, .pages = 1};
}

static void make_world(void) {
    u8 *at = arena() + 2 * RT_PAGE;
    struct cap cap;

    half_mapped();
    take_picture(true); /* maps what it looks at */
    world.child = bare_env(64, 8);
    world.stranger = bare_env(8, 0);
    world.page = (u32)OK(sys_page_alloc(0, PAGE_ANY, 4, 0, &cap));
    world.page_cap = put_cap(cap);
    world.run = page_alloc(2);
    world.root = page_alloc(1);
    world.other_page = (u32)OK(sys_page_alloc(&world.stranger.cap, PAGE_ANY, 1, 0, &cap));
    world.page_of_stranger = put_cap(cap);
    world.env_cap = put_cap(world.child.cap);
    world.console_cap = put_cap(item("console"));
    world.machine_cap = put_cap(item("machine"));
    world.foreign =
        derive(0, CAP_PAGE, RIGHT_READ | RIGHT_WRITE | RIGHT_OWN, world.child.env, world.page);
    world.weak_page = derive(0, CAP_PAGE, RIGHT_READ, 0, world.page);
    world.weak_env = derive(&world.child.cap, CAP_ENV, 0, 0, world.child.env);
    world.void_cap = derive(0, CAP_PAGE, RIGHT_READ | RIGHT_WRITE | RIGHT_OWN, 0, world.root);
    OK(sys_page_revoke(0, world.root, 1));
    world.update = (struct update *)at;
    *world.update = (struct update){.op = UPDATE_UNMAP, .va = 0x7f0000000000, .count = 1};
    world.spec = (struct env_spec *)(at + 256);
    *world.spec = (struct env_spec){.name = "made", .page_limit = 8};
    world.out = (struct cap *)(at + 512);
    memset(world.out, 0x77, sizeof *world.out);
    world.want = (struct cap *)(at + 640);
    *world.want = (struct cap){
        .type = CAP_PAGE, .rights = RIGHT_READ | RIGHT_WRITE, .name = world.page, .count = 1};
    make_flow();
    make_code(arena() + 6 * RT_PAGE);
    machine_env(world.child.env); /* mapped before pictures are taken */
}

static void end_world(void) {
    machine_forget();
    end_peer(&world.child);
    end_peer(&world.stranger);
}

/* ---- hostile values */
#define MOST 64
struct hostile {
    u64 value[MOST];
    u32 count;
};
static void add(struct hostile *h, u64 value) {
    CHECK(h->count < MOST);
    h->value[h->count++] = value;
}

/* Addresses at which `bytes` cannot be read, or written. */
static void bad_addresses(struct hostile *h, u64 bytes, bool to_write) {
    static const u64 fixed[] = {
        1,
        8,
        0xfff,
        0x123456789000,
        0x7fffffffefff,
        0x7ffffffff000,
        0x7fffffffffff,
        0x800000000000,
        0x8000000000000000,
        0xffff7fffffffffff,
        0xffff800000000000,
        0xffff800000001000,
        0xffffc00000000000,
        0xffffffff80000000,
        0xffffffff80100000,
        0xfffffffffffff000,
        0xfffffffffffffff8,
        0xffffffffffffffff,
    };

    for (u32 i = 0; i < ARRAY_SIZE(fixed); i++)
        add(h, fixed[i]);
    add(h, half_mapped() + RT_PAGE);
    if (bytes > 8)
        add(h, half_mapped() + RT_PAGE - bytes / 2 / 8 * 8);
    if (to_write) {
        add(h, (u64)machine_info());
        add(h, (u64)self() + 256);
        add(h, (u64)bad_addresses & ~7ull);
        add(h, RT_START);
    }
}

/* Capabilities that are none: for something else, for somebody else, void, too weak. */
static void bad_caps(struct hostile *h, enum kind kind) {
    static struct cap zero;
    struct cap *const some[] = {world.page_cap, world.env_cap, world.flow_cap, world.console_cap,
                                world.machine_cap};

    for (u32 i = 0; i < ARRAY_SIZE(some); i++)
        if (kind - ENV_CAP != (enum kind)(i == 0 ? 1 : i == 1 ? 0 : i))
            add(h, (u64)some[i]);
    add(h, (u64)&zero);
    if (kind == PAGE_CAP) {
        add(h, (u64)world.foreign);
        add(h, (u64)world.void_cap);
        add(h, (u64)world.weak_page);
        add(h, (u64)world.page_of_stranger);
    }
    if (kind == ENV_CAP)
        add(h, (u64)world.weak_env);
    if (kind == FLOW_CAP)
        add(h, (u64)world.weak_flow);
}

/* Page numbers that are not of a page that is free for the caller's use; not `but`, if there is one. */
static void bad_pages(struct hostile *h, u64 but) {
    const struct info *info = machine_info();
    const u32 some[] = {0,
                        1,
                        0x100,
                        info->array,
                        info->free_map,
                        rt_context(0)->info,
                        info->slices[0],
                        info->trace[0],
                        info->pages,
                        info->pages - 1,
                        info->pages + 1,
                        0x7fffffff,
                        0x80000000,
                        0xfffffffe,
                        rt_self(),
                        self()->root,
                        self()->context[0].page,
                        world.child.env,
                        world.other_page,
                        info->archive,
                        world.flow_cap->name,
                        info->first_env,
                        machine_env(world.child.env)->root};

    for (u32 i = 0; i < ARRAY_SIZE(some); i++)
        if ((some[i] >= info->pages || type_of(some[i]) != PAGE_FREE) && !(but && some[i] == but))
            add(h, some[i]);
}

static void hostile_values(struct hostile *h, const struct argument *a) {
    h->count = 0;
    switch (a->kind) {
    case NONE:
        break;
    case READ:
    case WRITE:
        bad_addresses(h, a->limit, a->kind == WRITE);
        break;
    case PAGE:
        bad_pages(h, a->limit);
        break;
    case COUNT:
        add(h, 0);
        add(h, 0x80000000);
        add(h, 0xffffffff);
        /* fall through */
    case NUMBER:
        add(h, a->kind == COUNT ? a->limit + 1 : a->limit);
        add(h, 0x7fffffff);
        add(h, 0xfffffffe);
        break;
    default:
        if (a->limit)
            add(h, 0);
        bad_addresses(h, sizeof(struct cap), false);
        bad_caps(h, a->kind);
    }
}

/* ---- making the calls */
static s64 make_call(const struct call *c, u32 hostile, u64 value) {
    u64 v[6];

    for (u32 i = 0; i < 6; i++)
        v[i] = i == hostile ? value : c->arg[i].good;
    struct raw r = {.rax = c->number,
                    .rdi = v[0],
                    .rsi = v[1],
                    .rdx = v[2],
                    .r10 = v[3],
                    .r8 = v[4],
                    .r9 = v[5]};
    return checked_call(&r, c->name);
}

static bool is_error(s64 result) { return result < 0 && result >= E_REFUSED; }

static void flip_bits(const struct call *c, u32 which) {
    struct cap *cap = (struct cap *)c->arg[which].good, good = *cap;
    u8 *byte = (u8 *)cap;

    if (!cap)
        return;
    for (u32 bit = 0; bit < sizeof good * 8; bit++) {
        byte[bit / 8] ^= (u8)(1 << bit % 8);
        s64 result = make_call(c, 6, 0);
        *cap = good;
        if (result != E_BAD_CAPABILITY)
            FAIL("%s, capability %u with bit %u changed: %ld", c->name, which, bit, result);
    }
}

static void abuse(const struct call *c) {
    struct hostile h;
    struct picture before = take_picture(true);

    for (u32 i = 0; i < 6; i++) {
        hostile_values(&h, &c->arg[i]);
        for (u32 k = 0; k < h.count; k++) {
            s64 result = make_call(c, i, h.value[k]);
            if (!is_error(result))
                FAIL("%s(argument %u = %lx) gave %ld", c->name, i, h.value[k], result);
            same_picture(&before, false, c->name, i * 100 + k);
        }
        if (c->arg[i].kind >= ENV_CAP && c->arg[i].kind <= MACHINE_CAP)
            flip_bits(c, i);
        same_picture(&before, true, c->name, i);
    }
    if (c->harmless) {
        s64 result = make_call(c, 6, 0);
        if (result < 0)
            FAIL("%s with good arguments: %s", c->name, error_name(result));
    }
}

#define CAP(k, at) \
    { k, (u64)(at), 1 }
#define CAP_OR_0(k, at) \
    { k, (u64)(at), 0 }

/* Calls on pages, capabilities, spaces. */
TEST(arguments_pages, .needs = NEED_CONSOLE | NEED_MACHINE | NEED_FLOW, .seconds = 40) {
    make_world();
    const struct call call[] = {
        {"page_alloc",
         CALL_PAGE_ALLOC,
         {CAP_OR_0(ENV_CAP, world.env_cap),
          {NUMBER, PAGE_ANY, 0xfffffffe},
          {COUNT, 1, PAGES_A_CALL},
          {NUMBER, 0, 19},
          {WRITE, (u64)world.out, sizeof(struct cap)}},
         true},
        {"page_alloc by name", CALL_PAGE_ALLOC, {{0}, {PAGE, 0, 0}, {NONE, 1, 0}}, false},
        {"page_free",
         CALL_PAGE_FREE,
         {CAP_OR_0(PAGE_CAP, world.page_cap), {PAGE, world.page + 1, 0}, {COUNT, 1, 4}},
         true},
        {"page_free by owner",
         CALL_PAGE_FREE,
         {{0}, {PAGE, world.page, 0}, {COUNT, 1, PAGES_A_CALL}},
         false},
        {"page_give",
         CALL_PAGE_GIVE,
         {CAP_OR_0(PAGE_CAP, world.page_cap),
          {PAGE, world.page + 2, 0},
          {COUNT, 1, 4},
          CAP_OR_0(ENV_CAP, world.env_cap)},
         true},
        {"page_give by owner",
         CALL_PAGE_GIVE,
         {{0},
          {PAGE, world.page, world.flow_cap->name}, /* which may be given too */
          {COUNT, 1, PAGES_A_CALL},
          CAP_OR_0(ENV_CAP, world.env_cap)},
         false},
        {"page_revoke",
         CALL_PAGE_REVOKE,
         {CAP_OR_0(PAGE_CAP, world.page_cap), {NONE, world.page + 3, 0}, {COUNT, 1, 4}},
         true},
        {"cap_derive",
         CALL_CAP_DERIVE,
         {CAP_OR_0(PAGE_CAP, world.page_cap), {WRITE, (u64)world.want, sizeof(struct cap)}},
         true},
        {"space_update",
         CALL_SPACE_UPDATE,
         {CAP_OR_0(ENV_CAP, world.env_cap),
          {WRITE, (u64)world.update, sizeof(struct update)},
          {COUNT, 1, UPDATES_A_CALL}},
         true},
    };
    for (u32 i = 0; i < ARRAY_SIZE(call); i++)
        abuse(&call[i]);
    end_world();
}

/* Calls on environments and their parts. */
TEST(arguments_environments, .needs = NEED_CONSOLE | NEED_MACHINE | NEED_FLOW, .seconds = 40) {
    make_world();
    u32 cpus = machine_info()->cpus,
        theirs = (u32)OK(sys_page_alloc(world.env_cap, PAGE_ANY, 2, 0, 0));
    const struct call call[] = {
        {"env_create",
         CALL_ENV_CREATE,
         {{PAGE, world.run, 0},
          {PAGE, world.run + 1, 0},
          {READ, (u64)world.spec, sizeof *world.spec},
          {WRITE, (u64)world.out, sizeof(struct cap)}},
         true},
        {"event_bind",
         CALL_EVENT_BIND,
         {CAP_OR_0(ENV_CAP, world.env_cap), {NUMBER, theirs + 1, 1}},
         true},
        {"slice_alloc",
         CALL_SLICE_ALLOC,
         {CAP_OR_0(ENV_CAP, world.env_cap), {NUMBER, 0, cpus}, {NUMBER, 60, SLOTS}},
         true},
        {"slice_free",
         CALL_SLICE_FREE,
         {CAP_OR_0(ENV_CAP, world.env_cap), {NUMBER, 0, cpus}, {NUMBER, 60, SLOTS}},
         true},
        {"context_bind",
         CALL_CONTEXT_BIND,
         {CAP_OR_0(ENV_CAP, world.env_cap), {NUMBER, 0, cpus}, {PAGE, theirs, 0}},
         true},
        {"sleep", CALL_SLEEP, {{NONE, 0, 0}, {READ, 0, 8}, {NONE, 0, 0}}, true},
        {"wake", CALL_WAKE, {{NUMBER, rt_self(), world.page}}, true},
        {"env_stop", CALL_ENV_STOP, {CAP_OR_0(ENV_CAP, world.env_cap), {NONE, 5, 0}}, false},
        {"env_destroy", CALL_ENV_DESTROY, {CAP(ENV_CAP, world.env_cap)}, false},
    };
    for (u32 i = 0; i < ARRAY_SIZE(call); i++)
        abuse(&call[i]);
    OK(rt_destroy(world.out));
    end_world();
}

/* Calls of revocation, limits, slices given away, predicates. */
TEST(arguments_revocation, .needs = NEED_CONSOLE | NEED_MACHINE | NEED_FLOW, .seconds = 40) {
    static const u64 one = 1;
    make_world();
    u32 cpus = machine_info()->cpus,
        theirs = (u32)OK(sys_page_alloc(world.env_cap, PAGE_ANY, 1, 0, 0));
    struct predicate *predicate = (struct predicate *)(arena() + 7 * RT_PAGE);
    struct taking *taking = (struct taking *)(predicate + 1);
    *predicate = (struct predicate){.deadline = NEVER, .count = 1};
    predicate->term[0] = (struct term){.tag = 16, .count = 1};
    predicate->term[0].factor[0] = (struct factor){.word = (u64)&one, .value = 1, .how = IS};
    *taking = (struct taking){.resource = RESOURCE_PAGES, .name = theirs};
    const struct call call[] = {
        {"revoke",
         CALL_REVOKE,
         {CAP(ENV_CAP, world.env_cap), {NUMBER, RESOURCE_PAGES, RESOURCES}, {NONE, 0, 0}, {NONE, 0, 0}},
         true},
        {"repossess",
         CALL_REPOSSESS,
         {CAP(ENV_CAP, world.env_cap), {WRITE, (u64)taking, sizeof *taking}, {COUNT, 1, TAKINGS_A_CALL}},
         true},
        {"loss_bind", CALL_LOSS_BIND, {CAP_OR_0(ENV_CAP, world.env_cap), {NUMBER, theirs, 1}}, true},
        {"env_limit",
         CALL_ENV_LIMIT,
         {CAP(ENV_CAP, world.env_cap), {NUMBER, 64, 0x10000000}, {NUMBER, 8, 0x10000000}},
         true},
        {"slice_give",
         CALL_SLICE_GIVE,
         {{NUMBER, 0, cpus}, {NUMBER, SLOTS - 1, SLOTS}, CAP(ENV_CAP, world.env_cap)},
         false},
        {"wait",
         CALL_WAIT,
         {{READ, (u64)predicate, sizeof *predicate}, {PAGE, world.run, 0}},
         true},
        {"vital_set",
         CALL_VITAL_SET,
         {{NUMBER, 0, VITALS}, {NUMBER, world.run + 1, machine_info()->pages}},
         true},
    };
    for (u32 i = 0; i < ARRAY_SIZE(call); i++)
        abuse(&call[i]);
    EQUAL(taking->result, E_NOT_DUE);
    EQUAL(machine_env(world.child.env)->loss_page, theirs);
    EQUAL(self()->vital[0], world.run + 1);
    end_world();
}

/* Calls on flows, the console and the machine. */
TEST(arguments_devices, .needs = NEED_CONSOLE | NEED_MACHINE | NEED_FLOW, .seconds = 40) {
    make_world();
    const struct call call[] = {
        {"flow_create",
         CALL_FLOW_CREATE,
         {CAP(FLOW_CAP, world.flow_cap),
          {PAGE, world.page, 0},
          {READ, (u64)world.flow_spec, sizeof(struct flow_spec)},
          {WRITE, (u64)world.out, sizeof(struct cap)}},
         false},
        {"flow_bind",
         CALL_FLOW_BIND,
         {CAP(FLOW_CAP, world.flow_cap), {READ, (u64)world.binding, sizeof *world.binding}},
         true},
        {"flow_unbind", CALL_FLOW_UNBIND, {CAP(FLOW_CAP, world.flow_cap)}, true},
        {"flow_send",
         CALL_FLOW_SEND,
         {CAP(FLOW_CAP, world.flow_cap),
          {READ, (u64)world.send, sizeof *world.send},
          {COUNT, 1, 32}},
         false},
        {"handler_bind",
         CALL_HANDLER_BIND,
         {CAP(FLOW_CAP, world.flow_cap), {READ, (u64)world.handler, sizeof *world.handler}},
         false},
        {"code_load", CALL_CODE_LOAD, {{WRITE, (u64)world.code, sizeof *world.code}}, false},
        {"code_unload", CALL_CODE_UNLOAD, {{PAGE, world.code->page, 0}}, false},
        {"flow_destroy", CALL_FLOW_DESTROY, {CAP(FLOW_CAP, world.flow_cap)}, true},
        {"console_write",
         CALL_CONSOLE_WRITE,
         {CAP(CONSOLE_CAP, world.console_cap), {READ, (u64)arena(), 8}, {NUMBER, 8, 1025}},
         false},
        {"console_bind", CALL_CONSOLE_BIND, {CAP(CONSOLE_CAP, world.console_cap)}, false},
        {"machine_off",
         CALL_MACHINE_OFF,
         {CAP(MACHINE_CAP, world.machine_cap), {NONE, 0, 0}},
         false},
        {"trace_set", CALL_TRACE_SET, {CAP(MACHINE_CAP, world.machine_cap), {NONE, 0, 0}}, true},
        {"check", CALL_CHECK, {CAP(MACHINE_CAP, world.machine_cap)}, true},
    };
    for (u32 i = 0; i < ARRAY_SIZE(call); i++)
        abuse(&call[i]);
    EQUAL(sys_machine_off(world.machine_cap, POWER_OFF), E_NO_RIGHT);
    EQUAL(sys_console_bind(world.console_cap), E_NO_RIGHT);
    end_world();
}

/* Elements of a batch with every field wrong. */
TEST(arguments_updates, .needs = NEED_CONSOLE | NEED_MACHINE | NEED_FLOW) {
    make_world();
    u64 va = address(4);
    const struct update good = {.op = UPDATE_MAP, .va = va, .page = world.page, .count = 1};
    static const u64 bad_va[] = {1,
                                 0x800,
                                 0x7ffffffff000,
                                 0x800000000000,
                                 0xffff800000000000,
                                 0xffffffff80000000,
                                 0xfffffffffffff000,
                                 0x8000000000000000};
    static const u32 bad_count[] = {0, PAGES_A_CALL + 1, 0x7fffffff, 0x80000000, 0xffffffff};
    struct update *u = world.update;
    struct hostile h = {.count = 0};
    struct picture before;

    bad_pages(&h, 0);
    static struct update row[256];
    u32 rows = 0;
    for (u8 op = UPDATE_MAP; op <= UPDATE_UNBIND_TABLE; op++) {
        struct update base = good;
        base.op = op;
        base.level = op >= UPDATE_BIND_TABLE ? 1 : 0;
        base.page = op == UPDATE_MAP || op == UPDATE_BIND_TABLE ? world.page : 0;
        for (u32 i = 0; i < ARRAY_SIZE(bad_va); i++) {
            row[rows] = base;
            row[rows++].va = bad_va[i];
        }
        for (u32 i = 0; i < ARRAY_SIZE(bad_count); i++) {
            row[rows] = base;
            row[rows++].count = bad_count[i];
        }
        for (u32 i = 0; i < 8; i++) {
            row[rows] = base;
            row[rows++].flags = (u16)(i < 7 ? 4u << 2 * i : 0xffff);
        }
        row[rows] = base;
        row[rows++].level = op >= UPDATE_BIND_TABLE ? 4 : 2;
        row[rows] = base;
        row[rows++].level = op >= UPDATE_BIND_TABLE ? 0 : 255;
        row[rows] = base;
        row[rows++].cap = op == UPDATE_MAP ? 0xffff800000000000 : (u64)world.page_cap;
        if (op != UPDATE_MAP && op != UPDATE_BIND_TABLE) {
            row[rows] = base;
            row[rows++].page = world.page;
        }
    }
    for (u32 op = 0; op < 256; op += op == 0 ? 6 : 25) {
        row[rows] = good;
        row[rows++].op = (u8)op;
    }
    memset(u, 0, sizeof *u);
    before = take_picture(true);
    for (u32 i = 0; i < rows; i++) {
        *u = row[i];
        s64 failed = sys_space_update(0, u, 1);
        if (failed != 1 || !is_error(u->result))
            FAIL("row %u: op %u va %lx count %x gave %ld, %d", i, row[i].op, row[i].va,
                 row[i].count, failed, u->result);
        memset(u, 0, sizeof *u);
        same_picture(&before, i % 32 == 31, "update", i);
    }
    for (u32 i = 0; i < h.count;
         i++) { /* writable, and as a table: nobody's but the owner's DATA */
        *u = good;
        u->page = (u32)h.value[i];
        u->flags = MAP_WRITE;
        s64 failed = u->page == self()->context[0].page ? 1 : sys_space_update(0, u, 1);
        if (failed != 1)
            FAIL("page %lx can be mapped writable", h.value[i]);
        *u = good;
        u->page = (u32)h.value[i];
        u->op = UPDATE_BIND_TABLE;
        u->level = 1;
        u->va = va + (1ull << 30);
        EQUAL(sys_space_update(0, u, 1), 1);
        memset(u, 0, sizeof *u);
        same_picture(&before, true, "page", i);
    }
    end_world();
}

/* A batch in memory that cannot be written is not worked on. */
TEST(arguments_readonly_batch) {
    u32 page = page_alloc(2);
    u64 va = address(1), batch = mapped(page, 1, MAP_WRITE);

    *(struct update *)batch =
        (struct update){.op = UPDATE_MAP, .va = va, .page = page + 1, .count = 1};
    EQUAL(update(UPDATE_PROTECT, 0, batch, 0, 1, 0, 0), 0);
    EQUAL(sys_space_update(0, (struct update *)batch, 1), E_BAD_ADDRESS);
    EQUAL(bindings_of(page + 1), 0);
    EQUAL(sys_space_update(0, (struct update *)(batch + 1), 1), E_BAD_ARGUMENT);
}

/* A capability is void when its page was freed, also when it is allocated again. */
TEST(arguments_stale) {
    struct cap old, child;
    u32 page = (u32)OK(sys_page_alloc(0, PAGE_ANY, 2, 0, &old));

    OK(sys_page_free(0, page, 2));
    EQUAL(sys_page_free(&old, page, 1), E_BAD_CAPABILITY);
    EQUAL(sys_page_alloc(0, page, 2, 0, 0), page);
    EQUAL(sys_page_free(&old, page, 1), E_BAD_CAPABILITY);
    EQUAL(sys_page_give(&old, page, 1, 0), E_BAD_CAPABILITY);
    EQUAL(update(UPDATE_MAP, 0, address(1), page, 1, 0, &old), E_BAD_CAPABILITY);
    struct env_spec spec = {.name = "twice", .page_limit = 2};
    EQUAL(sys_env_create(page, page + 1, &spec, &child), page);
    struct cap first = child;
    OK(rt_destroy(&child));
    EQUAL(sys_page_alloc(0, page, 1, 0, 0), page);
    EQUAL(sys_page_alloc(0, page + 1, 1, 0, 0), page + 1);
    EQUAL(sys_env_create(page, page + 1, &spec, &child), page);
    EQUAL(sys_env_destroy(&first), E_BAD_CAPABILITY);
    EQUAL(sys_env_stop(&first, 0), E_BAD_CAPABILITY);
    EQUAL(sys_page_alloc(&first, PAGE_ANY, 1, 0, 0), E_BAD_CAPABILITY);
    OK(rt_destroy(&child));
}

/* One wrong field in a structure that is good otherwise. */
struct wrong {
    void *at;
    u32 bytes;
    u64 value;
};

static void try_wrong(const struct wrong *row, u32 rows, const char *what, s64 (*call)(void)) {
    struct picture before = take_picture(true);
    u8 good[8];

    for (u32 i = 0; i < rows; i++) {
        memcpy(good, row[i].at, row[i].bytes);
        memcpy(row[i].at, &row[i].value, row[i].bytes);
        s64 result = call();
        memcpy(row[i].at, good, row[i].bytes);
        if (!is_error(result))
            FAIL("%s, row %u: %ld", what, i, result);
        same_picture(&before, i % 8 == 7 || i == rows - 1, what, i);
    }
}

static s64 call_create(void) {
    return sys_flow_create(world.flow_cap, world.page, world.flow_spec, world.out);
}
static s64 call_bind(void) { return sys_flow_bind(world.flow_cap, world.binding); }
static s64 call_send(void) { return sys_flow_send(world.flow_cap, world.send, 1); }
static s64 call_env(void) {
    return sys_env_create(world.run, world.run + 1, world.spec, world.out);
}

static s64 call_load(void) {
    s64 error;

    do
        error = sys_code_load(world.code);
    while (error == E_AGAIN);
    return error;
}
static s64 call_handler(void) { return sys_handler_bind(world.flow_cap, world.handler); }

#define WRONG(field, wrong) \
    { &(field), sizeof(field), (u64)(wrong) }

/* Structures for environments and flows with every field wrong. */
TEST(arguments_structures, .needs = NEED_CONSOLE | NEED_MACHINE | NEED_FLOW) {
    make_world();
    struct condition *c = &world.flow_spec->receive, *f = &world.binding->filter;
    struct flow_binding *b = world.binding;
    struct send *s = world.send;
    u32 *pages = (u32 *)b->pages;
    const struct wrong env[] = {
        WRONG(world.spec->page_limit, 0),
        WRONG(world.spec->page_limit, 1),    WRONG(world.spec->page_limit, 0xffffffff),
        WRONG(world.spec->slice_limit, ~0u), WRONG(world.spec->slice_limit, 0x80000000),
    };
    const struct wrong create[] = {
        WRONG(c->count, ATOMS + 1),
        WRONG(c->count, 0xffffffff),
        WRONG(c->count, 0),
        WRONG(c->zero, 1),
        WRONG(c->atom[0].offset, 63),
        WRONG(c->atom[0].offset, 0xffff),
        WRONG(c->atom[0].width, 0),
        WRONG(c->atom[0].width, 3),
        WRONG(c->atom[0].width, 255),
        WRONG(c->atom[0].kind, ATOM_RANGE),
        WRONG(c->atom[0].kind, 3),
        WRONG(c->atom[0].kind, 255),
        WRONG(c->atom[0].mask, 0),
        WRONG(c->atom[0].mask, 0x10000),
        WRONG(c->atom[0].value, 0x10000),
        WRONG(c->atom[0].high, 1),
        WRONG(c->atom[0].value, 0x88b6),
        WRONG(c->atom[0].mask, 0xff00),
    };
    const struct wrong bind[] = {
        WRONG(f->count, ATOMS + 1),
        WRONG(f->count, 0),
        WRONG(f->zero, 1),
        WRONG(f->atom[0].value, 0x800),
        WRONG(b->pages, 0),
        WRONG(b->pages, 0xffff800000000000),
        WRONG(b->pages, half_mapped() + RT_PAGE),
        WRONG(b->count, 0),
        WRONG(b->count, RING_PAGES + 1),
        WRONG(b->count, 0xffffffff),
        WRONG(b->entries, 0),
        WRONG(b->entries, 3),
        WRONG(b->entries, RING_ENTRIES * 2),
        WRONG(b->entries, 0x80000000),
        WRONG(b->zero, 1),
        WRONG(f->atom[0].kind, ATOM_RANGE), /* one value is a range of one, above its end */
        WRONG(b->ring, 0),
        WRONG(b->ring, 0xffffffff),
        WRONG(b->ring, self()->root),
        WRONG(b->ring, world.other_page),
        WRONG(b->ring, rt_self()),
        WRONG(pages[0], 0xffffffff),
        WRONG(pages[0], world.other_page),
        WRONG(pages[0], b->ring),
        WRONG(pages[0], self()->root),
        WRONG(pages[0], 1),
    };
    const struct wrong send[] = {
        WRONG(s->headers, 0),
        WRONG(s->headers, 0xffffffff80100000),
        WRONG(s->headers, half_mapped() + RT_PAGE - 8),
        WRONG(s->length, 0),
        WRONG(s->length, 13),
        WRONG(s->length, SEND_HEADERS + 1),
        WRONG(s->length, 0xffff),
        WRONG(s->pieces, 1),
        WRONG(s->pieces, SEND_PIECES + 1),
        WRONG(s->pieces, 0xffff),
        WRONG(s->checksum_start, 13),
        WRONG(s->checksum_offset, 0xffff),
        WRONG(s->zero, 1),
    };
    try_wrong(env, ARRAY_SIZE(env), "env_spec", call_env);
    try_wrong(create, ARRAY_SIZE(create), "flow_spec", call_create);
    try_wrong(bind, ARRAY_SIZE(bind), "flow_binding", call_bind);
    try_wrong(send, ARRAY_SIZE(send), "send", call_send);
    s->pieces = 1;
    const struct wrong piece[] = {
        WRONG(s->piece[0].page, 0xffffffff),
        WRONG(s->piece[0].page, world.other_page),
        WRONG(s->piece[0].page, self()->root),
        WRONG(s->piece[0].page, machine_info()->array),
        WRONG(s->piece[0].page, 0x100),
        WRONG(s->piece[0].length, 0),
        WRONG(s->piece[0].length, 0xffff),
        WRONG(s->piece[0].offset, 4096),
        WRONG(s->piece[0].cap, 0xffff800000000000),
        WRONG(s->piece[0].cap, world.env_cap),
        WRONG(s->piece[0].cap, world.void_cap),
        WRONG(s->piece[0].cap, world.page_of_stranger),
    };
    s->piece[0] = (struct piece){.page = world.page, .length = 16};
    try_wrong(piece, ARRAY_SIZE(piece), "piece", call_send);
    end_world();
}

/* Specifications of programs and handlers with every field wrong. */
TEST(arguments_code, .needs = NEED_CONSOLE | NEED_MACHINE | NEED_FLOW) {
    make_world();
    struct code_spec *s = world.code;
    struct handler_binding *h = world.handler;
    const struct info *info = machine_info();
    const struct wrong load[] = {
        WRONG(s->slots, 0),
        WRONG(s->slots, CODE_SLOTS + 1),
        WRONG(s->slots, 0xffffffff),
        WRONG(s->kind, KIND_HANDLER + 1),
        WRONG(s->kind, 0xffffffff),
        WRONG(s->page, 0),
        WRONG(s->page, info->code_first - 1),
        WRONG(s->page, info->code_first + info->code_pages),
        WRONG(s->page, 0xffffffff),
        WRONG(s->page, world.page),
        WRONG(s->pages, 0),
        WRONG(s->pages, CODE_RUN + 1),
        WRONG(s->pages, 0xffffffff),
        WRONG(s->work, 0),
        WRONG(s->work, 0xffffffff),
        WRONG(s->work, self()->root),
        WRONG(s->work, world.other_page),
        WRONG(s->work, s->page),
        WRONG(s->work_pages, 0),
        WRONG(s->work_pages, PAGES_A_CALL + 1),
        WRONG(s->work_pages, 0xffffffff),
        WRONG(s->zero, 1),
        WRONG(s->zero2, 1),
    };
    const struct wrong unread[] = {
        WRONG(s->program, 0),
        WRONG(s->program, 0xffff800000000000),
        WRONG(s->program, 0xffffffff80100000),
        WRONG(s->program, half_mapped() + RT_PAGE - 8),
    };
    const struct wrong bind[] = {
        WRONG(h->pages, HANDLER_PAGES + 1),
        WRONG(h->pages, 0xffffffff),
        WRONG(h->pages, HANDLER_PAGES),
        WRONG(h->memory, 0xffffffff),
        WRONG(h->memory, world.other_page),
        WRONG(h->memory, self()->root),
        WRONG(h->memory, rt_self()),
        WRONG(h->code, 0),
        WRONG(h->code, world.page),
        WRONG(h->code, 0xffffffff),
        WRONG(h->code, world.other_page),
        WRONG(h->zero, 1),
        WRONG(h->zero2[1], 1),
    };
    try_wrong(load, ARRAY_SIZE(load), "code_spec", call_load);
    EQUAL(call_handler(), E_WRONG_TYPE); /* its flow is not bound */
    EQUAL(sys_flow_bind(world.flow_cap, world.binding), 0);
    EQUAL(call_handler(), E_WRONG_TYPE); /* DATA is no program */
    EQUAL(call_load(), 0);
    try_wrong(bind, ARRAY_SIZE(bind), "handler_binding", call_handler);
    EQUAL(call_handler(), 0);
    EQUAL(sys_flow_unbind(world.flow_cap), 0);
    EQUAL(sys_code_unload(s->page), 0);
    for (u32 i = 0; i < ARRAY_SIZE(unread); i++) { /* known only when the pages were taken: they are zeroed */
        s->program = unread[i].value;
        EQUAL(call_load(), E_BAD_ADDRESS);
        EQUAL(type_of(s->page), PAGE_DATA);
        EQUAL(type_of(s->work), PAGE_DATA);
    }
    end_world();
}
