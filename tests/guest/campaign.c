/* The randomised campaign: environments drive each other through all calls of memory, revocation and what hangs
 * on them, on all CPUs, while the checker runs all the time. `campaign=SEED,SECONDS` on the kernel's command
 * line chooses the random numbers and the time; with the same seed each environment draws the same ones.
 *
 * What the workers share (struct shared): capabilities for themselves, for a child of each and for pages,
 * and the names of pages that have been somebody's. A worker's own program is not among them. */
#include "guest.h"

#define WORKERS 6
#define NAMES 16
#define PAGE_CAPS 6
#define WINDOW 0x500000000000ull /* addresses of the campaign's own: tables of three levels come and go there */
#define SPAN (4ull << 30)

/* shared.word */
enum { WORD_STARTED, WORD_SEED, WORD_GO, WORD_STOP, WORD_CALLS, WORD_GOOD = 8 };

static u32 number;
static u64 state;

static u64 draw(u64 below) {
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return (state * 0x2545f4914f6cdd1d >> 20) % below;
}

static struct cap *env_cap(u32 worker) { return &up->cap[worker]; }
static struct cap *child_cap(u32 worker) { return &up->cap[WORKERS + worker]; }
static struct cap *page_cap(u32 worker, u32 i) { return &up->cap[2 * WORKERS + worker * PAGE_CAPS + i]; }
_Static_assert((2 + PAGE_CAPS) * WORKERS <= ARRAY_SIZE(((struct shared *)0)->cap), "capabilities have room");
_Static_assert(NAMES * WORKERS <= ARRAY_SIZE(((struct shared *)0)->order), "names have room");

static u64 *name_slot(u32 worker, u32 i) { return &up->order[worker * NAMES + i]; }
static bool is_mine(u32 page) { return machine_page(page) && machine_page(page)->owner == rt_self(); }

#define DEVICE_PAGES_USED 8 /* of the first device, at most */

static u32 some_device_page(void) {
    const struct device *d = machine_info()->device;

    return d->first + (u32)draw(d->pages < DEVICE_PAGES_USED ? d->pages : DEVICE_PAGES_USED);
}

/* Whose program, stack and tables are among its pages; who lost one of these would end, as it should. */
static bool is_workers(u32 page) {
    const struct page *p = machine_page(page);

    for (u32 i = 0; p && i < WORKERS; i++)
        if (p->owner == env_cap(i)->name)
            return true;
    return false;
}

/* A page that was somebody's once, a device's, or now and then any number. */
static u32 some_page(void) {
    if (machine_info()->devices && !draw(20))
        return some_device_page();
    if (!draw(50)) {
        u32 page = (u32)draw(machine_info()->pages + 10);
        if (!is_workers(page))
            return page;
    }
    return (u32)__atomic_load_n(name_slot((u32)draw(WORKERS), (u32)draw(NAMES)), __ATOMIC_RELAXED);
}

static u32 own_page(void) {
    for (u32 i = 0; i < 4; i++) {
        u32 page = (u32)*name_slot(number, (u32)draw(NAMES));
        if (is_mine(page))
            return page;
    }
    return some_page();
}

/* An environment: a worker or a child of one; 0: this one. */
static const struct cap *some_env(void) {
    u64 r = draw(12);

    return r < WORKERS ? env_cap((u32)r) : r < 10 ? child_cap((u32)draw(WORKERS)) : NULL;
}

static const struct cap *some_page_cap(void) {
    return draw(3) ? NULL : page_cap((u32)draw(WORKERS), (u32)draw(PAGE_CAPS));
}

/* Remembers the name of a page, in the place of one that is not ours any more. */
static void remember(u32 page) {
    for (u32 i = 0; i < NAMES; i++)
        if (!is_mine((u32)*name_slot(number, i))) {
            __atomic_store_n(name_slot(number, i), page, __ATOMIC_RELAXED);
            return;
        }
    sys_page_free(0, page, 1);
}

/* ---------------------------------------------------------------- what a worker may do: 0 or more: it worked */

static s64 do_alloc(void) {
    u32 order = (u32)draw(6);
    u32 name = draw(3) ? PAGE_ANY : some_page();
    s64 page = sys_page_alloc(0, name, 1, name == PAGE_ANY ? order | (u32)draw(1u << order) << 8 : 0,
                              page_cap(number, (u32)draw(PAGE_CAPS)));

    if (page >= 0)
        remember((u32)page);
    return page;
}

static s64 do_alloc_run(void) {
    u32 count = 1 + (u32)draw(40);
    s64 page = sys_page_alloc(some_env(), PAGE_ANY, count, (u32)draw(4), page_cap(number, (u32)draw(PAGE_CAPS)));

    if (page >= 0 && is_mine((u32)page))
        for (u32 i = 0; i < count; i++)
            remember((u32)page + i);
    return page;
}

static s64 do_free(void) { return sys_page_free(some_page_cap(), draw(2) ? own_page() : some_page(), 1 + (u32)draw(8) / 7); }
static s64 do_give(void) { return sys_page_give(some_page_cap(), draw(2) ? own_page() : some_page(), 1, some_env()); }
static s64 do_revoke_caps(void) { return sys_page_revoke(some_page_cap(), own_page(), 1); }

static s64 do_derive(void) {
    struct cap want = {.type = CAP_PAGE, .rights = (u8)draw(8), .name = draw(2) ? own_page() : some_page(), .count = 1};
    s64 error = sys_cap_derive(some_page_cap(), &want);

    if (!error)
        *page_cap(number, (u32)draw(PAGE_CAPS)) = want;
    return error;
}

static u32 large; /* first of 512 pages of this worker's own, which may come to belong to others */

static struct update some_update(void) {
    static const u8 ops[] = {UPDATE_MAP, UPDATE_MAP, UPDATE_MAP, UPDATE_MAP, UPDATE_UNMAP, UPDATE_UNMAP, UPDATE_PROTECT,
                             UPDATE_BIND_TABLE, UPDATE_BIND_TABLE, UPDATE_UNBIND_TABLE, UPDATE_CLEAN};
    struct update u = {.op = ops[draw(ARRAY_SIZE(ops))], .count = 1};

    u.va = WINDOW + (draw(3) ? draw(2) * (1ull << 30) + draw(3) * (1ull << 21) + draw(8) * RT_PAGE : draw(SPAN) & ~(RT_PAGE - 1));
    if (u.op == UPDATE_BIND_TABLE || u.op == UPDATE_UNBIND_TABLE)
        u.level = (u8)(1 + draw(8) % 3);
    else
        u.count = 1 + (u32)(draw(5) ? 0 : draw(20));
    if (u.level == 0 && !draw(8)) { /* a large page */
        u.level = 1;
        u.count = 1;
        u.va &= ~0x1fffffull;
    }
    if (u.op == UPDATE_MAP || u.op == UPDATE_PROTECT)
        u.flags = (u16)draw(4);
    if (u.op == UPDATE_MAP || u.op == UPDATE_BIND_TABLE)
        u.page = draw(3) ? own_page() : some_page();
    if (u.op == UPDATE_MAP && u.level)
        u.page = large;
    if (u.op == UPDATE_MAP)
        u.cap = (u64)some_page_cap();
    return u;
}

static s64 do_update(void) {
    static struct update batch[16];
    u32 count = 1 + (u32)draw(16);

    for (u32 i = 0; i < count; i++)
        batch[i] = some_update();
    s64 failed = sys_space_update(draw(4) ? NULL : some_env(), batch, count);
    return failed < 0 ? failed : failed == count ? -1 : 0;
}

/* Stores to what it has mapped, so that tables have accessed and dirty bits; what is not mapped any more faults. */
static s64 do_touch(void) { return try_write(WINDOW + draw(2) * (1ull << 30) + draw(3) * (1ull << 21) + draw(8) * RT_PAGE) == 32 ? 0 : -1; }

static s64 do_child(void) {
    struct env_spec spec = {.name = "child", .page_limit = 2 + (u32)draw(40), .slice_limit = (u32)draw(2)};
    const struct page *old = page_of(child_cap(number)->name % machine_info()->pages);
    s64 page, root;

    if ((u8)old->state == PAGE_ENV && old->generation == child_cap(number)->generation)
        return -1;
    page = sys_page_alloc(0, PAGE_ANY, 1, 0, 0);
    root = sys_page_alloc(0, PAGE_ANY, 1, 0, 0);
    s64 env = page < 0 || root < 0 ? -1 : sys_env_create((u32)page, (u32)root, &spec, child_cap(number));
    if (env < 0 && page >= 0)
        sys_page_free(0, (u32)page, 1);
    if (env < 0 && root >= 0)
        sys_page_free(0, (u32)root, 1);
    return env;
}

static s64 do_destroy(void) { return sys_env_destroy(child_cap(draw(3) ? number : (u32)draw(WORKERS))); }
static s64 do_limit(void) { return sys_env_limit(child_cap(number), (u32)draw(60), (u32)draw(2)); }
static s64 do_context(void) {
    const struct cap *child = child_cap((u32)draw(WORKERS));
    s64 page = sys_page_alloc(child, PAGE_ANY, 1, 0, 0);

    return page < 0 ? page : sys_context_bind(child, (u32)draw(machine_info()->cpus), (u32)page);
}

static s64 do_event(void) { return sys_event_bind(some_env(), draw(2) ? own_page() : 0); }
static s64 do_losses(void) { return sys_loss_bind(draw(3) ? NULL : some_env(), draw(2) ? own_page() : 0); }
static s64 do_vital(void) { return sys_vital_set((u32)draw(VITALS + 1), draw(2) ? own_page() : 0); }

static s64 do_ask(void) {
    return sys_revoke(some_env(), draw(8) ? RESOURCE_PAGES : (u32)draw(RESOURCES), (u32)draw(6), rt_tsc() + (draw(2) ? 0 : milliseconds(1)));
}

static s64 do_take(void) {
    struct taking t[8];
    u32 count = 1 + (u32)draw(8);
    const struct cap *victim = some_env();

    for (u32 i = 0; i < count; i++)
        t[i] = (struct taking){.resource = draw(10) ? RESOURCE_PAGES : RESOURCE_FLOWS, .name = some_page()};
    s64 failed = sys_repossess(victim, t, count);
    if (failed < 0)
        return failed;
    for (u32 i = 0; i < count; i++)
        if (!t[i].result && t[i].resource == RESOURCE_PAGES)
            remember(t[i].name);
    return failed == count ? -1 : 0;
}

/* Only on the CPU where it runs has a worker something to do. */
static s64 do_slice(void) {
    u32 worker = (u32)draw(WORKERS);
    const struct cap *env = draw(2) ? env_cap(worker) : child_cap(worker);

    return sys_slice_alloc(env, worker % machine_info()->cpus, PAGE_ANY);
}

static s64 do_slice_free(void) {
    u32 cpu = (u32)draw(machine_info()->cpus), slot = (u32)draw(SLOTS);

    return self()->slices > 1 ? sys_slice_free(draw(2) ? NULL : child_cap((u32)draw(WORKERS)), cpu, slot) : -1;
}

/* Puts places to save in into the loss page, where it is mapped in the window, by luck. */
static s64 do_offer(void) {
    struct cap want = {.type = CAP_PAGE, .rights = RIGHT_WRITE, .name = own_page(), .count = 1};
    u64 va = WINDOW + draw(2) * (1ull << 30) + draw(3) * (1ull << 21) + draw(8) * RT_PAGE;

    if (!self()->loss_page || update(UPDATE_MAP, 0, va, self()->loss_page, 1, MAP_WRITE, 0) || sys_cap_derive(0, &want))
        return -1;
    for (u32 i = 0; i < 4; i++)
        if (try_write(va) != 32)
            return -1;
    return 0;
}

/* ---- flows */
static struct cap flow, parent;

static struct condition own_type(void) {
    struct condition c = {.count = 1};

    c.atom[0] = (struct atom){.offset = 12, .width = 2, .mask = 0xffff, .value = 0x9000 + number};
    return c;
}

static s64 do_flow(void) {
    struct flow_spec spec = {.receive = own_type(), .transmit = own_type()};

    return parent.type ? sys_flow_create(&parent, own_page(), &spec, &flow) : -1;
}

static s64 do_flow_bind(void) {
    u32 buffer[2] = {own_page(), own_page()};
    struct flow_binding b = {.filter = own_type(), .pages = (u64)buffer, .count = 1 + (u32)draw(2), .ring = own_page(), .entries = 4};

    return sys_flow_bind(&flow, &b);
}

static s64 do_flow_unbind(void) { return sys_flow_unbind(&flow); }
static s64 do_flow_destroy(void) { return sys_flow_destroy(&flow); }

static s64 do_send(void) {
    u8 header[14] = {[12] = 0x90, [13] = (u8)number};
    struct send s = {.headers = (u64)header, .length = 14, .pieces = 1};

    s.piece[0] = (struct piece){.page = draw(2) ? own_page() : some_page(), .length = 100 + (u16)draw(1000), .cap = (u64)some_page_cap()};
    return sys_flow_send(&flow, &s, 1);
}

/* ---- */
static s64 do_sleep(void) {
    u64 va = WINDOW + draw(2) * (1ull << 30) + draw(3) * (1ull << 21) + draw(8) * RT_PAGE;

    return sys_sleep(rt_tsc() + milliseconds(1) * draw(3), draw(3) ? (const u64 *)va : NULL, 0);
}
static s64 do_yield(void) { return sys_yield(); }
static s64 do_wake(void) { return sys_wake(env_cap((u32)draw(WORKERS))->name); }

/* Frees what it owns and holds by nothing, so that it does not end with all that was given to it. */
static s64 do_tidy(void) {
    u32 next, freed = 0;

    for (u32 page = self()->first_page, seen = 0; page && seen < 1000 && is_mine(page); page = next, seen++) {
        next = machine_page(page)->next;
        if (machine_page(page)->state == PAGE_DATA)
            freed += !sys_page_free(0, page, 1);
    }
    return freed ? 0 : -1;
}

static const struct { s64 (*run)(void); u32 weight; } deeds[] = {
    {do_alloc, 30}, {do_alloc_run, 4}, {do_free, 12}, {do_give, 4}, {do_revoke_caps, 4}, {do_derive, 10}, {do_update, 60},
    {do_touch, 20}, {do_child, 3}, {do_destroy, 6}, {do_limit, 3}, {do_context, 2}, {do_event, 6}, {do_losses, 6}, {do_vital, 4},
    {do_ask, 20}, {do_take, 30}, {do_slice, 2}, {do_slice_free, 2}, {do_offer, 3}, {do_flow, 6}, {do_flow_bind, 6}, {do_flow_unbind, 3},
    {do_flow_destroy, 2}, {do_send, 6}, {do_sleep, 3}, {do_yield, 2}, {do_wake, 2}, {do_tidy, 2},
};
_Static_assert(WORD_GOOD + ARRAY_SIZE(deeds) <= ARRAY_SIZE(((struct shared *)0)->word), "counters have room");

static void one_deed(u32 total) {
    u64 r = draw(total);
    u32 i = 0;

    while (r >= deeds[i].weight)
        r -= deeds[i++].weight;
    if (deeds[i].run() >= 0)
        __atomic_fetch_add(&up->word[WORD_GOOD + i], 1, __ATOMIC_RELAXED);
    __atomic_fetch_add(&up->word[WORD_CALLS], 1, __ATOMIC_RELAXED);
}

static void nothing(struct frame *frame, u64 cause) {
    (void)frame;
    (void)cause;
}

ROLE(campaign_worker) {
    extern char attempt_entry[];
    u32 total = 0;

    number = (u32)__atomic_fetch_add(&up->word[WORD_STARTED], 1, __ATOMIC_SEQ_CST);
    state = (up->word[WORD_SEED] + number + 1) * 0x9e3779b97f4a7c15;
    rt_on_revoke(nothing);
    for (u32 n = 0; n < machine_info()->cpus; n++)
        if (self()->context[n].page)
            rt_context(n)->exception = (u64)attempt_entry; /* wherever it runs */
    page_of(rt_self()); /* maps what it will look at */
    if (machine_info()->devices)
        machine_page(some_device_page());
    parent = up->cap[ARRAY_SIZE(up->cap) - 1];
    s64 run = number < 3 ? sys_page_alloc(0, PAGE_ANY, 512, 9, page_cap(number, 0)) : -1;
    for (u32 i = 0; run >= 0 && i < NAMES; i++)
        *name_slot(number, i) = (u64)run + i;
    large = run < 0 ? 0 : (u32)run;
    *env_cap(number) = item("self");
    for (u32 i = 0; i < ARRAY_SIZE(deeds); i++)
        total += deeds[i].weight;
    while (!__atomic_load_n(&up->word[WORD_GO], __ATOMIC_SEQ_CST))
        pause_for(1);
    while (!__atomic_load_n(&up->word[WORD_STOP], __ATOMIC_RELAXED))
        one_deed(total);
}

/* ---------------------------------------------------------------- the test */

static void read_option(u64 *seed, u64 *seconds) {
    const char *text = (const char *)machine_info()->command_line;

    *seed = rt_tsc() & 0xffffff;
    *seconds = 4;
    for (; *text; text++)
        if (!strncmp(text, "campaign=", 9)) {
            *seed = (u64)atoi(text + 9);
            const char *comma = strchr(text, ',');
            *seconds = comma ? (u64)atoi(comma + 1) : 4;
            return;
        }
}

static struct peer worker[WORKERS];

#define TOLD 12
/* What the trace has of an environment's last exceptions, and of its end. */
static void tell_last(u32 env) {
    for (u32 cpu = 0; cpu < machine_info()->cpus; cpu++) {
        const struct trace *t = machine_trace(cpu);
        u32 told = 0;
        for (u64 n = t->count; n && t->count - n < TRACE_RECORDS && told < TOLD;) {
            const struct trace_record *r = &t->record[--n % TRACE_RECORDS];
            if (r->env != env && !(r->kind == TRACE_ENV && r->b == env))
                continue;
            print("campaign: CPU %u, %lx: kind %u, %lx, %lx\n", cpu, r->tsc, r->kind, r->a, r->b);
            told++;
        }
    }
}

/* The workers, and then the children that they left. */
static void end_all(void) {
    machine_forget();
    for (u32 i = 0; i < WORKERS; i++)
        rt_destroy(&worker[i].cap);
    for (u32 i = 0; i < WORKERS; i++)
        rt_destroy(&down->cap[WORKERS + i]);
}

#define FAIL_IF(wrong, ...) \
    do { \
        if (wrong) { \
            end_all(); \
            FAIL(__VA_ARGS__); \
        } \
    } while (0)

/* No contradiction is ever found, no worker ends or hangs, every deed works now and then, and no page is lost. */
TEST(campaign, .needs = NEED_MACHINE | NEED_CONSOLE | NEED_FLOW | NEED_ANY_DEVICE, .seconds = 1000000) {
    struct cap machine = item("machine"), console = item("console");
    u64 seed, seconds, checks = 0, said = 0, calls = 0, still = 0;
    struct event_ring *ring = bind_events();
    struct event e;

    read_option(&seed, &seconds);
    print_to(&console);
    print("campaign: seed %lu, %lu seconds\n", seed, seconds);
    s64 mask = OK(sys_trace_set(&machine, 1 << TRACE_EXCEPTION | 1 << TRACE_ENV));
    down->word[WORD_SEED] = seed;
    down->cap[ARRAY_SIZE(down->cap) - 1] = item("flow");
    for (u32 i = 0; i < WORKERS; i++) { /* so that their numbers are in this order */
        struct spawn_slices slices[2] = {{i % machine_info()->cpus, 4}, {0, 0}};
        run_peer(&worker[i], "campaign_worker", slices, slices[0].cpu ? 2 : 1, i < 3 ? 1024 - 256 : 300, 0);
        wait_for(&down->word[WORD_STARTED], i + 1);
    }
    const struct start_item *device = start_item("device", 0);
    for (u32 i = 0; device && i < device->cap.count && i < DEVICE_PAGES_USED; i++)
        OK(sys_page_give(&device->cap, device->cap.name + i, 1, &worker[i % 3].cap));
    __atomic_store_n(&down->word[WORD_GO], 1, __ATOMIC_SEQ_CST);
    u64 begun = rt_tsc(), end = begun + milliseconds(1000) * seconds;
    while (rt_tsc() < end) {
        s64 found = sys_check(&machine);
        FAIL_IF(found && found != E_AGAIN, "seed %lu: the checker finds %ld after %lu ms, %lu deeds", seed, found,
                (rt_tsc() - begun) / milliseconds(1), down->word[WORD_CALLS]);
        checks++;
        FAIL_IF(down->failed, "seed %lu: %s", seed, down->text);
        if (next_event(ring, &e, 2) && e.type == EVENT_ENDED)
            for (u32 i = 0; i < WORKERS; i++) {
                if (e.env == worker[i].env)
                    tell_last(e.env);
                FAIL_IF(e.env == worker[i].env, "seed %lu: worker %u ended by %lx, %lx: %s", seed, i, e.a, e.b, down->text);
            }
        for (u32 i = 0; i < WORKERS; i++) /* its slices may be taken from it: it gets one again */
            if (!machine_env(worker[i].env)->slices)
                sys_slice_alloc(&worker[i].cap, i % machine_info()->cpus, PAGE_ANY);
        if (rt_tsc() - begun > milliseconds(500) * (said + 1)) { /* of slow machines those who watch want a sign of life */
            said += seconds < 60 ? 1 : 20;
            print("campaign: %lu ms, %lu deeds, %lu checks\n", said * 500, down->word[WORD_CALLS], checks);
        }
        if (rt_tsc() - still > milliseconds(5000)) {
            FAIL_IF(down->word[WORD_CALLS] == calls, "seed %lu: nobody does anything any more", seed);
            calls = down->word[WORD_CALLS];
            still = rt_tsc();
        }
    }
    end_all();
    OK(sys_trace_set(&machine, (u64)mask));
    EQUAL(sys_check(&machine), 0);
    print("campaign: %lu deeds, %lu checks\n", down->word[WORD_CALLS], checks);
    for (u32 i = 0; i < ARRAY_SIZE(deeds); i++)
        if (!down->word[WORD_GOOD + i])
            print("campaign: deed %u never worked\n", i);
}
