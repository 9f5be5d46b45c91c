/* What tests share: failing, exceptions that are expected, threads, other environments. It runs in
 * the environment of a test or of one of its peers. */
#include "guest.h"

#define UP 0x61000ull
#define DOWN 0x62000ull
#define STACK_PAGES 4

struct shared *const up = (struct shared *)UP;
struct shared *const down = (struct shared *)DOWN;

bool attempt_run(void (*code)(u64), u64 argument);
void attempt_caught(struct frame *frame, u64 cause);
extern char attempt_entry[], thread_entry[];

/* The kernel leaves capabilities in the first environment's context page. */
static bool is_first(void) { return rt_context(0)->message[0] != 0; }

/* ---- saying what must hold */
void fail(const char *file, int line, const char *text, ...) {
    char said[400];
    va_list args;

    va_start(args, text);
    vformat(said, sizeof said, text, args);
    va_end(args);
    const char *name = file;
    for (const char *c = file; *c; c++)
        if (*c == '/')
            name = c + 1;
    if (is_first()) {
        print("test: runner FAIL %s:%d: %s\n", name, line, said);
        rt_exit(1);
    }
    format(up->text, sizeof up->text, "%s:%d: %s", name, line, said);
    up->failed = 1;
    rt_exit(1);
}

/* ---- what a test may want to know */
struct cap item(const char *name) {
    const struct start_item *found = start_item(name, 0);

    if (!found)
        FAIL("no %s was given", name);
    return found->cap;
}

const struct page *page_of(u32 page) {
    const struct page *pages = machine_pages();

    CHECK(pages && page < machine_info()->pages);
    return &pages[page];
}

const struct env *self(void) {
    static const struct env *mine;

    if (!mine)
        mine = memory_map(rt_self(), 1, 0, 0);
    CHECK(mine);
    return mine;
}

u32 free_pages(void) { return machine_free_pages(); }
u64 milliseconds(u64 n) { return machine_info()->tsc_hz / 1000 * n; }

u64 calls_made(void) {
    u64 sum = 0;

    for (u32 n = 0; n < machine_info()->cpus; n++)
        for (u32 i = 0; i < CALLS; i++)
            sum += ((const volatile u64 *)machine_trace(n)->call)[i];
    return sum;
}

void pause_for(u64 ms) { sys_sleep(rt_tsc() + milliseconds(ms), 0, 0); }

bool cpu_has(u32 leaf, u32 word, u32 bit) {
    u32 r[4];

    __asm__ volatile("cpuid" : "=a"(r[0]), "=b"(r[1]), "=c"(r[2]), "=d"(r[3]) : "0"(leaf), "2"(0));
    return r[word] >> bit & 1;
}

u64 number_argument(const char *key, u64 otherwise) {
    const char *text = (const char *)machine_info()->command_line;
    size_t length = strlen(key);

    for (; *text; text++)
        if (!strncmp(text, key, length) && text[length] == '=')
            return (u64)atoi(text + length + 1);
    return otherwise;
}

u32 page_alloc(u32 count) { return (u32)OK(sys_page_alloc(0, PAGE_ANY, count, 0, 0)); }

u64 address(u32 pages) {
    u64 va = memory_reserve((pages + 511) / 512 * 512 + 512);
    u32 probe = page_alloc(1);

    va = (va + 0x1fffff) & ~0x1fffffull;
    for (u64 at = va; at < va + pages * RT_PAGE; at += 0x200000) {
        OK(memory_map_at(at, probe, 1, 0, 0));
        memory_unmap((void *)at, 1);
    }
    OK(sys_page_free(0, probe, 1));
    return va;
}

u64 mapped(u32 page, u32 count, u32 flags) {
    u64 va = address(count);

    OK(memory_map_at(va, page, count, flags, 0));
    return va;
}

s64 update(u8 op, u8 level, u64 va, u32 page, u32 count, u16 flags, const struct cap *cap) {
    struct update u = {.op = op,
                       .level = level,
                       .flags = flags,
                       .va = va,
                       .page = page,
                       .count = count,
                       .cap = (u64)cap};
    s64 failed = sys_space_update(0, &u, 1);

    if (failed >= 0)
        EQUAL(failed, u.result != 0);
    return failed < 0 ? failed : u.result;
}

/* ---- exceptions that are expected */
static struct caught last;
static u64 handler_before;

void attempt_caught(struct frame *frame, u64 cause) {
    struct context *context = (struct context *)((u64)frame & ~(RT_PAGE - 1));

    last = (struct caught){cause, frame->error, frame->address, frame->rip};
    context->depth = (u32)frame->previous;
}

bool attempt(void (*code)(u64), u64 argument, struct caught *caught) {
    handler_before = rt_context(0)->exception;
    rt_context(0)->exception = (u64)attempt_entry;
    bool broken = attempt_run(code, argument);
    rt_context(0)->exception = handler_before;
    if (caught)
        *caught = last;
    return broken;
}

static void do_read(u64 at) { (void)*(volatile u64 *)at; }
static void do_write(u64 at) { *(volatile u64 *)at = 0x5a5a; }
static void do_execute(u64 at) { ((void (*)(void))at)(); }

static u32 exception_of(void (*code)(u64), u64 at) {
    struct caught caught;

    return attempt(code, at, &caught) ? (u32)caught.cause : 32;
}
u32 try_read(u64 at) { return exception_of(do_read, at); }
u32 try_write(u64 at) { return exception_of(do_write, at); }
u32 try_execute(u64 at) { return exception_of(do_execute, at); }

/* ---- calls with any registers */
#define KERNEL_HALF 0x800000000000ull

/* Whoever was suspended gets the registers that C does not keep from his frame, as they lay there before. */
static bool lay_in_frame(u64 word) {
    const struct context *context = rt_first;
    const u64 *left = (const u64 *)&context->frame[context->depth % FRAMES];

    for (u32 i = 0; i < offsetof(struct frame, address) / sizeof(u64); i++)
        if (left[i] == word)
            return true;
    return false;
}

s64 checked_call(struct raw *r, const char *name) {
    const u64 kept[] = {0xb0, 0xb1, 0xb2, 0xb3, 0xb4, 0xb5};
    struct raw before = *r;

    raw_call(r);
    for (u32 i = 0; i < 8; i++) {
        u64 word = (&r->rdi)[i];
        if (word >= KERNEL_HALF && word != (&before.rdi)[i] && !lay_in_frame(word))
            FAIL("%s: register %u holds %lx", name, i, word);
    }
    if (memcmp(&r->rbx, kept, sizeof kept))
        FAIL("%s: a register that is the caller's has changed", name);
    return (s64)r->rax;
}

/* ---- other environments */
static void give(struct start *start, const char *name, struct cap cap) {
    struct start_item *added = &start->item[start->items++];

    memcpy(added->name, name, strlen(name));
    added->cap = cap;
}

u32 peer_page;
u64 peer_cpus;

void run_peer(struct peer *p, const char *role, const struct spawn_slices *slices, u32 kinds,
              u32 pages, u32 spare) {
    static struct start start;
    struct cap share = {.type = CAP_PAGE, .rights = RIGHT_READ | RIGHT_WRITE, .count = 1};
    static u64 image;
    u32 total = 0;

    share.name = memory_page_of(down);
    OK(sys_cap_derive(0, &share));
    memset(&start, 0, sizeof start);
    memcpy(start.arguments, role, strlen(role));
    give(&start, "share", share);
    give(&start, "program", item("program"));
    start.item[1].a = start_item("program", 0)->a;
    struct cap code = item("program");
    if (!image)
        image = (u64)memory_map(code.name, code.count, 0, &code);
    for (u32 i = 0; i < kinds; i++)
        total += slices[i].count;
    struct spawn s = {.name = role,
                      .image = (const u8 *)image,
                      .image_bytes = start.item[1].a,
                      .page = peer_page,
                      .cpus = peer_cpus,
                      .page_limit = pages,
                      .slice_limit = total + spare,
                      .start = &start,
                      .slices = slices,
                      .slice_kinds = kinds};
    p->env = (u32)OK(spawn(&s));
    peer_page = 0;
    peer_cpus = 0;
    p->cap = s.env;
}

/* On another CPU it has a context on CPU 0 too, which never runs: the run-time part looks into it.
 */
void start_peer(struct peer *p, const char *role, u32 cpu) {
    struct spawn_slices slices[2] = {{cpu, 4}, {0, 0}};

    run_peer(p, role, slices, cpu ? 2 : 1, 512, 0);
}

u32 find_child(u32 but) {
    u32 found = 0;

    for (u32 name = machine_info()->first_env; name && !found;) {
        const struct env *e = machine_env(name);
        struct cap cap = {.type = CAP_ENV, .rights = RIGHT_OWN, .name = name, .count = 1};
        if (e && e->creator == rt_self() && e->state && name != but)
            found = name;
        else if (!e && name != but && !sys_cap_derive(0, &cap)) /* one that is being destroyed shows its page to nobody */
            found = name;
        name = e && e->state ? e->next : machine_info()->first_env; /* it ended meanwhile: from the start */
    }
    machine_forget();
    return found;
}

struct cap cap_of_child(u32 env) {
    struct cap cap = {.type = CAP_ENV, .rights = RIGHT_OWN | RIGHT_MANAGE, .name = env, .count = 1};

    sys_cap_derive(0, &cap); /* it may end meanwhile: then it is void */
    return cap;
}

void end_children(u32 but) {
    for (u32 name; (name = find_child(but));) {
        struct cap cap = cap_of_child(name);
        rt_destroy(&cap);
    }
}

void end_peer(struct peer *p) { OK(rt_destroy(&p->cap)); }

struct peer bare_env(u32 page_limit, u32 slice_limit) {
    struct env_spec spec = {.name = "bare", .page_limit = page_limit, .slice_limit = slice_limit};
    struct peer p;

    p.env = (u32)OK(sys_env_create(page_alloc(1), page_alloc(1), &spec, &p.cap));
    return p;
}

void wait_for(const u64 *word, u64 value) {
    u64 end = rt_tsc() + milliseconds(5000);

    for (u64 now; (now = __atomic_load_n(word, __ATOMIC_SEQ_CST)) < value;) {
        if (word >= (u64 *)down && word < (u64 *)(down + 1) && down->failed)
            FAIL("in a peer: %s", down->text);
        if (rt_tsc() > end)
            FAIL("a word did not become %lx: it is %lx", value, now);
        sys_sleep(rt_tsc() + milliseconds(1), word, now);
    }
}

struct context *start_thread(u32 cpu, void (*code)(u64), u64 argument) {
    u64 stack = mapped(page_alloc(STACK_PAGES), STACK_PAGES, MAP_WRITE);
    u32 page = page_alloc(1);
    struct context *context = (struct context *)mapped(page, 1, MAP_WRITE);

    context->self = (u64)context;
    context->depth = 1;
    context->frame[0].rip = (u64)thread_entry;
    context->frame[0].rsp = stack + STACK_PAGES * RT_PAGE;
    context->frame[0].rdi = (u64)code;
    context->frame[0].rsi = argument;
    OK(sys_context_bind(0, cpu, page));
    OK(sys_slice_alloc(0, cpu, PAGE_ANY));
    return context;
}

/* ---- events */
struct event_ring *bind_events(void) {
    u32 page = page_alloc(1);
    struct event_ring *ring = (struct event_ring *)mapped(page, 1, MAP_WRITE);

    OK(sys_event_bind(0, page));
    return ring;
}

bool next_event(struct event_ring *ring, struct event *event, u64 ms) {
    u64 end = rt_tsc() + milliseconds(ms);

    while (__atomic_load_n(&ring->produced, __ATOMIC_ACQUIRE) == ring->consumed) {
        if (rt_tsc() >= end)
            return false;
        sys_sleep(end, &ring->produced, ring->consumed);
    }
    *event = ring->event[ring->consumed % EVENTS];
    ring->consumed++;
    return true;
}

/* ---- where every environment of this program begins */
static const struct test *find(const char *name) {
    for (const struct test *const *t = __start_tests; t < __stop_tests; t++) {
        size_t length = strlen((*t)->name);
        if (!strncmp((*t)->name, name, length) &&
            (!name[length] || name[length] == ' ')) /* an argument may follow */
            return *t;
    }
    return NULL;
}

int main(void) {
    if (is_first())
        return run_tests();
    struct cap share = start_item("share", 0)->cap;
    if (memory_map_at(UP, share.name, 1, MAP_WRITE, &share))
        return 1;
    const struct test *test = find(start_arguments());
    if (!test)
        FAIL("there is no part called %s", start_arguments());
    OK(memory_map_at(DOWN, page_alloc(1), 1, MAP_WRITE, 0));
    test->run();
    return 0;
}
