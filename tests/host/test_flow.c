/* Flows on a fake machine: the real page array and capabilities, with memory, users and a network
 * device that this file plays. Two environments distrust each other. */
// sources: kernel/net/flow.c kernel/net/classify.c kernel/net/filter.c
// sources: kernel/core/page.c kernel/core/cap.c
#include "code/code.h"
#include "net/flow.h"

#include "core/cap.h"
#include "core/cpu.h"
#include "core/env.h"
#include "core/info.h"
#include "core/lock.h"
#include "core/page.h"
#include "core/repossess.h"
#include "core/revoke.h"
#include "core/schedule.h"
#include "core/event.h"
#include "core/user.h"
#include "dev/dev.h"
#include "net/filter.h"
#include "targe/call_table.h"
#include "x86/io.h"

#include <asm/prctl.h>
#include <setjmp.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cmocka.h>

/* ---- the fake machine */
#define PAGES 100000
#define ALICE 200 /* page numbers of the environments */
#define BOB 201
#define FIRST 208 /* pages from here on can be allocated */

struct info *info;
struct cpu *cpus[MAX_CPUS];
u32 cpu_count;
void (*net_device_interrupt)(u32 unused);

static struct info the_info;
static struct slices slices = {.length = 1 << 20};
static struct context running; /* of whoever is interrupted, if somebody is */
static struct cpu cpu = {.slices = &slices};
static struct trace counters;
static u32 sweeps;        /* searches for mappings */
static u8 arena[1 << 23]; /* all memory that users have mapped */
static u32 woken[PAGES];
static u32 locks;
static u32 root;
static void (*on_read)(void); /* what another CPU does while a user's memory is read */

static bool in_arena(u64 at, u64 n) {
    u64 first = (u64)arena;
    return at >= first && n <= sizeof(arena) && at - first <= sizeof(arena) - n;
}
s64 user_copy(void *to, const void *from, u64 n) {
    bool reads = in_arena((u64)from, n);
    if (!reads && !in_arena((u64)to, n))
        return E_BAD_ADDRESS;
    memcpy(to, from, n);
    if (reads && on_read)
        on_read();
    return 0;
}
/* Handlers have tests of their own, in the machine: here one is bound and takes what it likes. */
static bool handler_takes;
static u32 handler_runs;
s64 handler_attach(struct flow *f, const struct handler_binding *b) {
    f->handler = b->code;
    return 0;
}
void handler_detach(struct flow *f) { f->handler = 0; }
bool handler_is_taken(const struct flow *f) { return f->handler && page_is_taken(f->handler); }
bool handler_run(struct flow *f, const u8 *frame, u32 length, u32 checked) {
    (void)f, (void)frame, (void)length, (void)checked;
    handler_runs++;
    return handler_takes;
}
s64 user_writable(u64 to, u64 n) { return in_arena(to, n) ? 0 : E_BAD_ADDRESS; }
void lock_note(u32 rank, bool taken) {
    (void)rank;
    locks += taken ? 1u : -1u;
}
void lock_wait(u32 *word) { fail_msg("lock %p is taken already", (void *)word); }
struct env *env_live(u32 page) { return page_ptr(page); }
void env_lock_two(struct env *a, struct env *b) {
    env_lock(a);
    if (a != b)
        env_lock(b);
}
void env_unlock_two(struct env *a, struct env *b) {
    env_unlock(a);
    if (a != b)
        env_unlock(b);
}
bool env_is_child(u32 page) { return !page; }
void event_delivered(struct env *to) { woken[to->self]++; }
void revoke_given(struct env *env, u32 resource, u32 count) {
    (void)env;
    (void)resource;
    (void)count;
}
void repossess_last_mapping(u32 page) {
    if (STATE_BINDINGS(page_state(page_get(page))))
        page_unbind(page);
}
bool repossess_sweep(u32 *cursor, const struct env *dying) {
    (void)cursor;
    (void)dying;
    sweeps++;
    return true;
}
void *boot_pages(u32 count) {
    static u32 next = 1;
    next += count;
    assert_true(next <= ALICE);
    return page_ptr(next - count);
}

/* The device: frames to receive, and frames being sent. */
static struct {
    u8 byte[2048];
    u32 length;
} arriving[2048];
static u32 arriving_count, arriving_next;
static bool flood; /* frames come as fast as they are taken */
static struct {
    u8 header[SEND_HEADERS];
    u32 length, pieces, number, checksum_start, checksum_offset;
    struct piece piece[SEND_PIECES];
} leaving[300];
static u32 leaving_count, kicks;
static bool news; /* frames that the device was not told of */
static bool device_full;
static bool taken[256]; /* numbers of frames */
u32 net_device_pairs = 1;

static struct net_room room;
struct net_room *net_device_room(void) {
    return leaving_count < ARRAY_SIZE(taken) && !device_full ? &room : NULL;
}
static u32 hushed;
void net_device_hush(void) { hushed++; }
static u64 taken_away, taken_until;
void schedule_lend(u64 took, u64 again) {
    if (cpu.context)
        taken_away += took;
    taken_until = again;
}

u32 net_device_send(u32 length, const struct piece *piece, u32 pieces, u32 checksum_start, u32 checksum_offset) {
    u32 number = 0;
    leaving[leaving_count].checksum_start = checksum_start;
    leaving[leaving_count].checksum_offset = checksum_offset;
    memcpy(leaving[leaving_count].header, room.headers, length);
    memcpy(leaving[leaving_count].piece, piece, pieces * sizeof(*piece));
    leaving[leaving_count].length = length;
    leaving[leaving_count].pieces = pieces;
    while (taken[number])
        number++;
    taken[number] = news = true;
    leaving[leaving_count++].number = number;
    return number;
}
void net_device_kick(void) {
    kicks += news;
    news = false;
}
static u32 may_finish; /* frames that the device has read */
void net_device_reclaim(bool all, void (*done)(u32 frame)) {
    u32 finished = 0;
    if (leaving_count < (all ? 1 : 16))
        return;
    for (; finished < may_finish && finished < leaving_count; finished++) {
        taken[leaving[finished].number] = false;
        if (done)
            done(leaving[finished].number);
    }
    may_finish = 0;
    leaving_count -= finished;
    memmove(leaving, leaving + finished, leaving_count * sizeof(leaving[0]));
}
void net_device_reclaim_all(void (*done)(u32 frame)) { net_device_reclaim(true, done); }
/* A frame in a buffer as large as it must be, and no larger; what stands beyond the frame is junk. */
static u8 *buffer_with(const void *frame, u32 length) {
    static u8 *buffer;
    u32 size = length + 8 < 64 ? 64 : length + 8;
    free(buffer);
    buffer = malloc(size);
    memset(buffer, 0xa5, size);
    return memcpy(buffer, frame, length);
}
bool net_device_receive(u32 budget, void (*deliver)(const u8 *frame, u32 length, u32 checked)) {
    u32 n = 0;
    if (flood)
        arriving_next = 0;
    while (n < budget && arriving_next < arriving_count) {
        deliver(buffer_with(arriving[arriving_next].byte, arriving[arriving_next].length),
                arriving[arriving_next].length, true);
        arriving_next++;
        n++;
    }
    net_device_kick();
    return flood || arriving_next < arriving_count;
}

/* ---- users */
static u64 used; /* of the arena */
static void *user(u64 bytes) {
    void *p = arena + used;
    used += round_up(bytes, 16);
    assert_true(used <= sizeof(arena));
    return p;
}
#define USER(type) ((type *)user(sizeof(type)))

static void act_as(u32 env) { cpu.env = env_of(env); }

static u32 take(u32 count) {
    s64 page = page_take(current_env(), PAGE_ANY, count, 0);
    assert_true(page > 0);
    return (u32)page;
}

static u64 cap_for(u8 type, u8 rights, u32 holder, u32 name, u32 count) {
    struct cap *c = USER(struct cap);
    *c = (struct cap){
        .type = type, .rights = rights, .holder = holder, .name = name, .count = count};
    cap_seal(c, page_generation(page_get(name)), 0);
    return (u64)c;
}
#define ALL (RIGHT_READ | RIGHT_WRITE | RIGHT_OWN)
static u64 root_cap(void) { return cap_for(CAP_FLOW, ALL, 0, root, 1); }

static void put(struct condition *c, u16 offset, u8 width, u32 mask, u32 value) {
    c->atom[c->count++] =
        (struct atom){.offset = offset, .width = width, .mask = mask, .value = value};
}
/* A protocol of one's own: byte 12 is 0x77, and a port follows. */
static struct condition port_of(u32 mask, u32 port) {
    struct condition c = {0};
    put(&c, 12, 1, 0xff, 0x77);
    if (mask)
        put(&c, 13, 2, mask, port);
    return c;
}
/* And frames sent carry a port of their own. */
static struct condition source_of(u32 mask, u32 port) {
    struct condition c = {0};
    if (mask)
        put(&c, 15, 2, mask, port);
    return c;
}

static s64 split(u64 parent, u32 page, u32 mask, u32 port, u64 *out) {
    struct flow_spec *spec = USER(struct flow_spec);
    struct cap *c = USER(struct cap);
    *spec = (struct flow_spec){port_of(mask, port), source_of(mask, port)};
    *out = (u64)c;
    return call_flow_create(parent, page, (u64)spec, (u64)c);
}

static u64 flow_for(u64 parent, u32 mask, u32 port, u32 *page) {
    u64 cap;
    *page = take(1);
    assert_int_equal(split(parent, *page, mask, port, &cap), 0);
    return cap;
}

static struct flow_binding *binding(u32 mask, u32 port, u32 buffers, u32 entries) {
    struct flow_binding *b = USER(struct flow_binding);
    u32 *page = user(buffers * sizeof(u32));
    *b = (struct flow_binding){.filter = port_of(mask, port),
                               .pages = (u64)page,
                               .count = buffers,
                               .ring = take(1),
                               .entries = entries};
    for (u32 i = 0; i < buffers; i++)
        page[i] = take(1);
    return b;
}

static void arrive(u32 port, u32 length, u8 fill) {
    u8 *f = arriving[arriving_count].byte;
    memset(f, fill, length);
    f[12] = 0x77;
    f[13] = (u8)(port >> 8);
    f[14] = (u8)port;
    arriving[arriving_count++].length = length;
}
static void interrupt(void) {
    net_device_interrupt(0);
    arriving_count = arriving_next = 0;
}

static struct flow *flow_at(u32 page) { return page_ptr(page); }
static u64 state_of(u32 page) { return page_state(page_get(page)) & ~STATE_ZERO; }

static u32 held_bindings, held_pins;
static void held(u32 page, bool is_pin) {
    u64 s = state_of(page);
    assert_true(is_pin ? STATE_PINS(s) > 0 : STATE_BINDINGS(s) > 0);
    held_pins += is_pin;
    held_bindings += !is_pin;
}

static void make_env(u32 page) {
    struct env *e = env_of(page);
    *e = (struct env){.self = page, .state = ENV_LIVE, .page_limit = PAGES};
    page_declare(page, PAGE_ENV, 0);
}

static int start(void **state) {
    (void)state;
    static struct page array[PAGES];
    static u64 map[PAGES / 64 + PAGES / 4096 + PAGES / 512 + PAGES / 65536 + 7];
    static bool begun;

    if (!begun) {
        void *memory = mmap((void *)DIRECT_BASE, PAGES * PAGE_SIZE, PROT_READ | PROT_WRITE,
                            MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
        if (memory != (void *)DIRECT_BASE || syscall(SYS_arch_prctl, ARCH_SET_GS, &cpu))
            return 1;
        info = &the_info;
        cpu.self = &cpu;
        cpu.trace = &counters;
        page_init(array, map, PAGES);
        for (u32 i = FIRST; i < PAGES; i++)
            page_declare(i, PAGE_FREE, 0);
        make_env(ALICE);
        make_env(BOB);
        cap_init((u64[]){1, 2});
        root = flow_init(0x123456789abcdef1ull);
        flow_at(root)->receive = flow_at(root)->transmit = (struct masked){0};
        begun = true;
    }
    info->checksum = 1;
    device_full = false;
    on_read = NULL;
    may_finish = 1000;
    flow_reclaim();
    used = 0;
    memset(woken, 0, sizeof(woken));
    act_as(ALICE);
    return 0;
}

/* After each test nothing is left: as env_destroy would do it. */
static int finish(void **state) {
    (void)state;
    may_finish = 1000;
    for (u32 env = ALICE; env <= BOB; env++) {
        while (!flow_unbind_all(env))
            ;
        for (u32 p = FIRST; p < PAGES; p++)
            if (page_owner(page_get(p)) == env && page_type(page_get(p)) == PAGE_FLOW)
                flow_release(env, p);
        while (env_of(env)->first_page)
            if (page_release(env_of(env), env_of(env)->first_page, PAGE_DATA)) {
                print("page %x is still held\n", env_of(env)->first_page);
                return 1;
            }
        if (env_of(env)->flows || env_of(env)->lock)
            return 1;
    }
    held_bindings = held_pins = 0;
    return locks || flow_check(held) || held_bindings || held_pins ||
           flow_at(root)->children || info->first_flow != root || page_free_count() != PAGES - FIRST;
}

/* ---- splitting */
static void test_split(void **state) {
    (void)state;
    u32 all_page, low_page;
    u64 cap, all = flow_for(root_cap(), 0, 0, &all_page);
    u64 low = flow_for(all, 0xff00, 0x1200, &low_page);
    assert_int_equal(env_of(ALICE)->flows, 2);
    assert_int_equal(flow_at(all_page)->children, 1);
    assert_int_equal(flow_at(low_page)->parent, all_page);
    assert_int_equal(flow_at(low_page)->owner, ALICE);

    u32 page = take(1), other;
    u64 before = state_of(page), generation = page_generation(page_get(page));
    assert_int_equal(split(low, page, 0xffff, 0x1334, &cap), E_NOT_IMPLIED);
    assert_int_equal(split(low, page, 0, 0, &cap), E_NOT_IMPLIED);
    assert_int_equal(split(low, PAGES, 0xffff, 0x1234, &cap), E_NO_RIGHT);
    assert_int_equal(split(low, 0xffffffff, 0xffff, 0x1234, &cap), E_NO_RIGHT);
    assert_int_equal(split(low, root, 0xffff, 0x1234, &cap), E_NO_RIGHT);
    assert_int_equal(split(low, low_page, 0xffff, 0x1234, &cap), E_WRONG_TYPE);
    assert_int_equal(split(0, page, 0xffff, 0x1234, &cap), E_BAD_ADDRESS);
    u64 weak = cap_for(CAP_FLOW, RIGHT_READ | RIGHT_WRITE, 0, low_page, 1);
    assert_int_equal(split(weak, page, 0xffff, 0x1234, &cap), E_NO_RIGHT);
    u64 wrong = cap_for(CAP_PAGE, ALL, 0, low_page, 1);
    assert_int_equal(split(wrong, page, 0xffff, 0x1234, &cap), E_BAD_CAPABILITY);
    u64 bobs = cap_for(CAP_FLOW, ALL, BOB, low_page, 1);
    assert_int_equal(split(bobs, page, 0xffff, 0x1234, &cap), E_BAD_CAPABILITY);
    u64 lie = cap_for(CAP_FLOW, ALL, 0, low_page, 1);
    ((struct cap *)lie)->name = all_page;
    assert_int_equal(split(lie, page, 0xffff, 0x1234, &cap), E_BAD_CAPABILITY);
    page_bind(page, PAGE_DATA); /* mapped somewhere */
    assert_int_equal(split(low, page, 0xffff, 0x1234, &cap), E_BUSY);
    page_unbind(page);
    act_as(BOB);
    assert_int_equal(split(low, page, 0xffff, 0x1234, &cap), E_NO_RIGHT);
    other = take(1);
    act_as(ALICE);
    assert_int_equal(split(low, other, 0xffff, 0x1234, &cap), E_NO_RIGHT);
    struct flow_spec *spec = USER(struct flow_spec);
    *spec = (struct flow_spec){port_of(0xffff, 0x1234), source_of(0xffff, 0x1234)};
    assert_int_equal(call_flow_create(low, page, (u64)spec, 8), E_BAD_ADDRESS);
    assert_int_equal(call_flow_create(low, page, 8, (u64)spec), E_BAD_ADDRESS);
    spec->transmit = source_of(0xff00, 0x1300);
    assert_int_equal(call_flow_create(low, page, (u64)spec, 0), E_NOT_IMPLIED);
    spec->transmit.count = 99;
    assert_int_equal(call_flow_create(low, page, (u64)spec, 0), E_BAD_ARGUMENT);
    assert_int_equal(state_of(page), before);
    assert_int_equal(page_generation(page_get(page)), generation);
    assert_int_equal(env_of(ALICE)->flows, 2);

    assert_int_equal(split(low, page, 0xffff, 0x1234, &cap), 0);
    assert_int_not_equal(page_generation(page_get(page)), generation);
}

static void test_destroy(void **state) {
    (void)state;
    u32 top_page, page;
    u64 top = flow_for(root_cap(), 0, 0, &top_page);
    u64 low = flow_for(top, 0xff00, 0x1200, &page);
    struct flow_binding *b = binding(0xffff, 0x1234, 2, 4);
    assert_int_equal(call_flow_bind(low, (u64)b), 0);

    assert_int_equal(call_flow_destroy(top), E_BUSY);
    assert_int_equal(call_flow_destroy(root_cap()), E_NO_RIGHT);
    assert_int_equal(call_flow_destroy(cap_for(CAP_FLOW, RIGHT_READ | RIGHT_WRITE, 0, page, 1)),
                     E_NO_RIGHT);
    page_bind(page, PAGE_FLOW); /* somebody looks at it, which does not keep it */
    assert_int_equal(call_flow_destroy(low), 0);
    assert_int_equal(state_of(page), PAGE_DATA);
    assert_int_equal(state_of(b->ring), PAGE_DATA);
    assert_int_not_equal(page_generation(page_get(page)), ((struct cap *)low)->generation);
    assert_int_equal(call_flow_destroy(low), E_BAD_CAPABILITY);
    assert_int_equal(flow_at(top_page)->children, 0);

    /* The same page again: the old capability stays void. */
    u64 again;
    assert_int_equal(split(top, page, 0xff00, 0x1300, &again), 0);
    assert_int_equal(call_flow_destroy(low), E_BAD_CAPABILITY);

    /* The parent ends by force: its child moves up. */
    act_as(BOB);
    u32 child;
    flow_for(again, 0xffff, 0x1301, &child);
    flow_release(ALICE, page);
    assert_int_equal(flow_at(child)->parent, top_page);
    assert_int_equal(flow_at(top_page)->children, 1);
}

/* ---- binding */
static void test_bind(void **state) {
    (void)state;
    u32 page, bob_page;
    u64 flow = flow_for(root_cap(), 0xff00, 0x1200, &page);
    struct flow_binding *b = binding(0xffff, 0x1234, 3, 8), good = *b;
    u32 *buffers = (u32 *)b->pages, first = buffers[0];

    act_as(BOB);
    u64 bob_flow = flow_for(root_cap(), 0, 0, &bob_page);
    struct flow_binding *bob = binding(0xfff0, 0x1240, 1, 1);
    u32 bobs = take(1);
    assert_int_equal(call_flow_bind(bob_flow, (u64)bob), 0);
    act_as(ALICE);
#define REFUSED(error) \
    do { \
        assert_int_equal(call_flow_bind(flow, (u64)b), error); \
        *b = good; \
        buffers[0] = first; \
    } while (0)
    b->filter = port_of(0xffff, 0x1334);
    REFUSED(E_NOT_IMPLIED);
    b->filter = port_of(0xffff, 0x1245);
    assert_int_equal(call_flow_bind(flow, (u64)b), E_CONFLICT);
    assert_int_equal(b->conflict, bob_page);
    REFUSED(E_CONFLICT);
    b->filter = port_of(0xff00, 0x1200);
    REFUSED(E_CONFLICT);
    b->filter.count = 25;
    REFUSED(E_BAD_ARGUMENT);
    b->entries = 3;
    REFUSED(E_BAD_ARGUMENT);
    b->entries = 0;
    REFUSED(E_BAD_ARGUMENT);
    b->entries = 512;
    REFUSED(E_BAD_ARGUMENT);
    b->count = 0;
    REFUSED(E_BAD_ARGUMENT);
    b->count = 129;
    REFUSED(E_BAD_ARGUMENT);
    b->zero = 1;
    REFUSED(E_BAD_ARGUMENT);
    b->pages = (u64)arena + sizeof(arena) - 8;
    REFUSED(E_BAD_ADDRESS);
    b->ring = bobs;
    REFUSED(E_NO_RIGHT);
    b->ring = 0xfffffff0;
    REFUSED(E_NO_RIGHT);
    b->ring = page;
    REFUSED(E_WRONG_TYPE);
    buffers[0] = bobs;
    REFUSED(E_NO_RIGHT);
    buffers[0] = root;
    REFUSED(E_NO_RIGHT);
    buffers[0] = 0x80000000;
    REFUSED(E_NO_RIGHT);
    buffers[0] = page;
    REFUSED(E_WRONG_TYPE);
    buffers[0] = b->ring;
    REFUSED(E_WRONG_TYPE);
    assert_int_equal(call_flow_bind(0, (u64)b), E_BAD_ADDRESS);
    assert_int_equal(call_flow_bind(flow, 0), E_BAD_ADDRESS);
    assert_int_equal(call_flow_bind(cap_for(CAP_FLOW, RIGHT_WRITE, 0, page, 1), (u64)b),
                     E_NO_RIGHT);
    assert_int_equal(call_flow_unbind(flow), E_WRONG_TYPE);
    assert_int_equal(state_of(b->ring), PAGE_DATA);
    for (u32 i = 0; i < 3; i++)
        assert_int_equal(state_of(buffers[i]), PAGE_DATA);

    page_bind(b->ring, PAGE_DATA); /* its owner has it mapped */
    buffers[2] = first;            /* twice the same: its own affair */
    assert_int_equal(call_flow_bind(flow, (u64)b), 0);
    assert_int_equal(call_flow_bind(flow, (u64)b), E_BUSY);
    assert_int_equal(page_type(page_get(b->ring)), PAGE_RING);
    assert_int_equal(STATE_BINDINGS(state_of(first)), 2);
    assert_int_equal(page_release(env_of(ALICE), first, PAGE_DATA), E_BUSY);
    assert_int_equal(flow_check(held), 0);
    assert_int_equal(held_bindings, 6);
    assert_int_equal(call_flow_unbind(cap_for(CAP_FLOW, RIGHT_WRITE, 0, page, 1)), E_NO_RIGHT);
    assert_int_equal(call_flow_unbind(flow), 0);
    assert_int_equal(state_of(b->ring), PAGE_DATA | STATE_ONE_BINDING);
    page_unbind(b->ring);
    assert_int_equal(state_of(first), PAGE_DATA);
    assert_int_equal(call_flow_bind(bob_flow, (u64)b), E_BUSY);
}

/* ---- delivery */
static struct ring *ring_of(const struct flow_binding *b) { return page_ptr(b->ring); }

static void test_delivery(void **state) {
    (void)state;
    u32 page, bob_page;
    u64 flow = flow_for(root_cap(), 0xff00, 0x1200, &page);
    struct flow_binding *b = binding(0xffff, 0x1234, 2, 4);
    struct ring *ring = ring_of(b);
    u32 *buffers = (u32 *)b->pages;
    assert_int_equal(call_flow_bind(flow, (u64)b), 0);
    act_as(BOB);
    u64 bob_flow = flow_for(root_cap(), 0xff00, 0x1300, &bob_page);
    struct flow_binding *bob = binding(0xff00, 0x1300, 1, 2);
    assert_int_equal(call_flow_bind(bob_flow, (u64)bob), 0);

    u64 packets = counters.packets, unclaimed = counters.unclaimed;
    arrive(0x1234, 100, 1); /* nothing posted */
    interrupt();
    assert_int_equal(flow_at(page)->dropped_full, 1);
    ring->entry[0].buffer = 3;
    ring->entry[1].buffer = 0;
    ring->entry[2].buffer = 1;
    ring->posted = 3;
    arrive(0x1234, 2048, 2);
    arrive(0x1399, 60, 3); /* Bob's, who has posted nothing */
    arrive(0x1235, 60, 4); /* nobody's */
    arrive(0x1234, 15, 5);
    interrupt();
    assert_int_equal(ring->filled, 2);
    assert_int_equal(woken[ALICE], 2);
    assert_int_equal(woken[BOB], 0);
    assert_int_equal(ring->entry[0].length, 2048);
    assert_int_equal(ring->entry[0].flags, 1);
    assert_int_equal(ring->entry[1].length, 15);
    u8 *second = (u8 *)page_ptr(buffers[1]) + 2048;
    assert_int_equal(second[0], 2);
    assert_int_equal(second[2047], 2);
    assert_int_equal(((u8 *)page_ptr(buffers[0]))[11], 5);
    assert_int_equal(((u8 *)page_ptr(buffers[0]))[15], 0);
    assert_int_equal(flow_at(bob_page)->dropped_full, 1);
    assert_int_equal(counters.packets - packets, 5);
    assert_int_equal(counters.unclaimed - unclaimed, 1);
    assert_int_equal(flow_at(page)->received, 2063);

    /* A ring full of lies. */
    u64 dropped = flow_at(page)->dropped_full;
    u64 lies[] = {0, 1, 2, 7, 1ull << 32, ~0ull, 1ull << 63};
    for (u32 i = 0; i < ARRAY_SIZE(lies); i++) {
        ring->posted = lies[i];
        ring->filled = 0xdeadbeef;
        arrive(0x1234, 60, 6);
        interrupt();
    }
    ring->posted = 3;
    u16 bad[] = {4, 5, 255, 256, 0xffff};
    for (u32 i = 0; i < ARRAY_SIZE(bad); i++) {
        ring->entry[2].buffer = bad[i];
        arrive(0x1234, 60, 6);
        interrupt();
    }
    ring->entry[2].buffer = 0;
    arrive(0x1234, 2049 - 1, 6);
    arriving[0].length = 2048;
    assert_int_equal(flow_at(page)->dropped_bad, ARRAY_SIZE(lies) - 1 + ARRAY_SIZE(bad));
    assert_int_equal(flow_at(page)->dropped_full - dropped, 1); /* one of them said that nothing is posted */
    interrupt();
    assert_int_equal(ring->filled, 3);

    /* Round and round. */
    for (u32 i = 0; i < 50; i++) {
        ring->entry[ring->posted % 4].buffer = i % 4;
        ring->posted++;
        arrive(0x1234, 60 + i, (u8)i);
        interrupt();
        assert_int_equal(ring->filled, 4 + i);
        assert_int_equal(ring->entry[(3 + i) % 4].length, 60 + i);
    }

    /* More than one interrupt takes: the rest waits for flow_poll. */
    while (flow_poll())
        ;
    for (u32 i = 0; i < 1200; i++)
        arrive(0x1399, 60, 1);
    net_device_interrupt(0);
    assert_true(arriving_next < 1200);
    while (flow_poll())
        ;
    assert_int_equal(arriving_next, 1200);
    arriving_count = arriving_next = 0;

    act_as(ALICE);
    assert_int_equal(call_flow_unbind(flow), 0);
    u64 filled = ring->filled;
    ring->posted = filled + 4;
    arrive(0x1234, 60, 1);
    interrupt();
    assert_int_equal(ring->filled, filled);
}

/* Binders are not always owners: what they gave to a flow of another is given back. */
static void test_binder_ends(void **state) {
    (void)state;
    u64 flow[50];
    u32 page[50];
    struct flow_binding *b[50];
    for (u32 i = 0; i < 50; i++)
        flow[i] = flow_for(root_cap(), 0xffff, 0x100 + i, &page[i]);
    act_as(BOB);
    for (u32 i = 0; i < 50; i++) {
        b[i] = binding(0xffff, 0x100 + i, 1, 1);
        assert_int_equal(call_flow_bind(flow[i], (u64)b[i]), 0);
    }
    u32 calls = 1;
    while (!flow_unbind_all(BOB))
        calls++;
    assert_true(calls > 1);
    for (u32 i = 0; i < 50; i++) {
        assert_int_equal(flow_at(page[i])->bound, 0);
        assert_int_equal(state_of(b[i]->ring), PAGE_DATA);
    }
}

/* ---- sending */
static struct send *frame_from(u32 port, u32 length) {
    struct send *s = USER(struct send);
    u8 *headers = user(256);
    headers[15] = (u8)(port >> 8);
    headers[16] = (u8)port;
    *s = (struct send){.headers = (u64)headers, .length = (u16)length};
    return s;
}

static void test_send(void **state) {
    (void)state;
    u32 page;
    u64 flow = flow_for(root_cap(), 0xff00, 0x1200, &page);
    u32 mine = take(1);
    act_as(BOB);
    u32 bobs = take(2);
    u64 lent = cap_for(CAP_PAGE, RIGHT_READ, 0, bobs, 2);
    u64 blind = cap_for(CAP_PAGE, RIGHT_WRITE, 0, bobs, 2);
    act_as(ALICE);
    struct send *s = frame_from(0x1234, 60), good = *s;
#define SENT(result) \
    do { \
        assert_int_equal(call_flow_send(flow, (u64)s, 1), result); \
        *s = good; \
    } while (0)
    s->length = 13;
    SENT(E_BAD_ARGUMENT);
    s->length = 193;
    SENT(E_BAD_ARGUMENT);
    s->length = 15; /* the byte that counts is not there */
    SENT(E_FORGED);
    s->zero = 1;
    SENT(E_BAD_ARGUMENT);
    s->headers = 1;
    SENT(E_BAD_ADDRESS);
    s->headers = (u64)arena + sizeof(arena) - 59;
    SENT(E_BAD_ADDRESS);
    s->pieces = 5;
    SENT(E_BAD_ARGUMENT);
#define PIECE(...) (s->pieces = 1, s->piece[0] = (struct piece){__VA_ARGS__})
    PIECE(.page = mine);
    SENT(E_BAD_ARGUMENT);
    PIECE(.page = mine, .offset = 4095, .length = 2);
    SENT(E_BAD_ARGUMENT);
    PIECE(.page = mine, .offset = 0xffff, .length = 0xffff);
    SENT(E_BAD_ARGUMENT);
    PIECE(.page = mine, .length = 1455);
    SENT(E_BAD_ARGUMENT);
    PIECE(.page = bobs, .length = 9);
    SENT(E_NO_RIGHT);
    PIECE(.page = bobs, .length = 9, .cap = blind);
    SENT(E_NO_RIGHT);
    PIECE(.page = bobs + 2, .length = 9, .cap = lent);
    SENT(E_BAD_CAPABILITY);
    PIECE(.page = bobs, .length = 9, .cap = flow);
    SENT(E_BAD_CAPABILITY);
    PIECE(.page = bobs, .length = 9, .cap = 3);
    SENT(E_BAD_ADDRESS);
    PIECE(.page = 0xffffffff, .length = 9);
    SENT(E_BAD_ARGUMENT);
    PIECE(.page = root, .length = 9);
    SENT(E_NO_RIGHT);
    PIECE(.page = page, .length = 9); /* its own, but no DATA */
    SENT(E_NO_RIGHT);
    /* Checksums: not over what the condition looks at, and within the headers. */
    for (u32 at = 14; at <= 15; at++) {
        s->checksum_start = 10;
        s->checksum_offset = (u16)(at - 10);
        SENT(E_FORGED);
    }
    s->checksum_start = 40;
    s->checksum_offset = 19;
    SENT(E_BAD_ARGUMENT);
    s->checksum_start = s->checksum_offset = 0xffff;
    SENT(E_BAD_ARGUMENT);
    info->checksum = 0;
    s->checksum_start = 40;
    s->checksum_offset = 18;
    SENT(E_BAD_ARGUMENT);
    info->checksum = 1;
    ((u8 *)s->headers)[15] = 0x13;
    u64 refused = flow_at(page)->refused;
    SENT(E_FORGED);
    assert_int_equal(flow_at(page)->refused, refused + 1);
    ((u8 *)s->headers)[15] = 0x12;
    device_full = true;
    PIECE(.page = mine, .length = 9);
    SENT(E_FULL);
    net_device_pairs = 0;
    SENT(E_NO_DEVICE);
    device_full = false;
    net_device_pairs = 1;
    assert_int_equal(call_flow_send(flow, (u64)s, 0), E_BAD_ARGUMENT);
    assert_int_equal(call_flow_send(flow, (u64)s, 33), E_BAD_ARGUMENT);
    assert_int_equal(call_flow_send(flow, ~0ull - 4, 1), E_BAD_ADDRESS);
    assert_int_equal(call_flow_send(cap_for(CAP_FLOW, RIGHT_READ, 0, page, 1), (u64)s, 1),
                     E_NO_RIGHT);
    assert_int_equal(leaving_count, 0);
    assert_int_equal(state_of(mine), PAGE_DATA);
    assert_int_equal(state_of(bobs), PAGE_DATA);
    assert_int_equal(flow_at(page)->sent, 0);

    s->checksum_start = 40;
    s->checksum_offset = 18;
    s->pieces = 2;
    s->piece[0] = (struct piece){.page = mine, .offset = 96, .length = 1000};
    s->piece[1] = (struct piece){.page = bobs + 1, .offset = 4000, .length = 96, .cap = lent};
    SENT(1);
    assert_int_equal(leaving[0].pieces, 2);
    assert_int_equal(leaving[0].piece[0].page * 4096 + leaving[0].piece[0].offset, mine * 4096 + 96);
    assert_int_equal(leaving[0].piece[1].length, 96);
    assert_int_equal(leaving[0].header[15], 0x12);
    assert_int_equal(flow_at(page)->sent_bytes, 1156);
    assert_int_equal(STATE_PINS(state_of(bobs + 1)), 1);
    assert_int_equal(page_release(env_of(BOB), bobs + 1, PAGE_DATA), E_BUSY);
    held_pins = 0;
    assert_int_equal(flow_check(held), 0);
    assert_int_equal(held_pins, 2);
    may_finish = 1;
    flow_reclaim();
    assert_int_equal(state_of(bobs + 1), PAGE_DATA);
    assert_int_equal(state_of(mine), PAGE_DATA);
}

/* The page of a piece is freed by another CPU after its capability was looked at: reads are of
 * the flow's capability, the frame, the headers, and the piece's capability, twice. */
static u32 reads, victim;
static void free_at_fifth_read(void) {
    if (++reads == 5)
        page_get(victim)->generation = page_new_generation();
}

static void test_send_while_freed(void **state) {
    (void)state;
    u32 page;
    u64 flow = flow_for(root_cap(), 0xff00, 0x1200, &page);
    act_as(BOB);
    victim = take(1);
    u64 lent = cap_for(CAP_PAGE, RIGHT_READ, 0, victim, 1);
    act_as(ALICE);
    struct send *s = frame_from(0x1234, 60);
    s->pieces = 1;
    s->piece[0] = (struct piece){.page = victim, .length = 9, .cap = lent};
    reads = 0;
    on_read = free_at_fifth_read;
    assert_int_equal(call_flow_send(flow, (u64)s, 1), E_BAD_CAPABILITY);
    on_read = NULL;
    assert_int_equal(state_of(victim), PAGE_DATA);
    assert_int_equal(leaving_count, 0);
}

/* Another CPU changes the frame and its headers after each read of them: what was checked is what is sent. */
static struct send *changing;
static void forge_after_read(void) {
    if (++reads >= 2)
        changing->length = 190;
    if (reads >= 3)
        memset((void *)changing->headers, 0x77, 60);
}

static void test_private_copy(void **state) {
    (void)state;
    u32 page;
    u64 flow = flow_for(root_cap(), 0xff00, 0x1200, &page);
    changing = frame_from(0x1234, 60);
    u8 honest[60];
    memcpy(honest, (void *)changing->headers, sizeof(honest));
    reads = 0;
    on_read = forge_after_read;
    assert_int_equal(call_flow_send(flow, (u64)changing, 1), 1);
    on_read = NULL;
    assert_int_equal(reads, 3);
    assert_int_equal(leaving_count, 1);
    assert_int_equal(leaving[0].length, 60);
    assert_memory_equal(leaving[0].header, honest, sizeof(honest));
    changing->length = 60;
    assert_int_equal(call_flow_send(flow, (u64)changing, 1), E_FORGED); /* as it is now */
}

static void test_many_sends(void **state) {
    (void)state;
    u32 page, mine = take(1);
    u64 flow = flow_for(root_cap(), 0xff00, 0x1200, &page);
    struct send *s = user(32 * sizeof(struct send));
    struct send *one = frame_from(0x1201, 40);
    one->pieces = 1;
    one->piece[0] = (struct piece){.page = mine, .length = 1474};
    for (u32 i = 0; i < 32; i++)
        s[i] = *one;
    may_finish = 0;
    kicks = 0;
    for (u32 i = 0; i < 8; i++)
        assert_int_equal(call_flow_send(flow, (u64)s, 32), 32);
    assert_int_equal(kicks, 8);
    assert_int_equal(call_flow_send(flow, (u64)s, 32), E_FULL);
    assert_int_equal(STATE_PINS(state_of(mine)), 256);
    may_finish = 10;
    assert_int_equal(call_flow_send(flow, (u64)s, 32), 10); /* as many as were done */
    may_finish = 256;
    s[5].length = 0;
    assert_int_equal(call_flow_send(flow, (u64)s, 32), 5); /* up to the bad one */
    may_finish = 256;
    flow_reclaim();
    assert_int_equal(state_of(mine), PAGE_DATA);
    for (u32 i = 0; i < 1000; i++) {
        may_finish = (u32)rand() % 100;
        s64 n = call_flow_send(flow, (u64)s, 1 + (u32)rand() % 5);
        assert_true(n > 0 || n == E_FULL);
    }
    assert_int_equal(STATE_PINS(state_of(mine)), leaving_count);
}

/* ---- many flows: the classifier against a walk over all of them */
static u32 nobody_or(struct flow *f) { return f ? f->self : 0; }

#define MANY 10000
static struct {
    u64 cap;
    u32 page, low, high; /* the ports that it takes */
} many[MANY];

static struct atom port_range(u32 low, u32 high) {
    return (struct atom){.offset = 14,
                         .width = 2,
                         .kind = ATOM_RANGE,
                         .mask = 0xffff,
                         .value = low,
                         .high = high};
}

/* A protocol as port_of's, but its port stands at an even place. */
static struct condition even_port(u32 low, u32 high) {
    struct condition c = {0};
    put(&c, 12, 1, 0xff, 0x78);
    c.atom[c.count++] = port_range(low, high);
    return c;
}

/* Flow n takes ports 6n to 6n + 5, or some of them: as a range, as one port, as two by a mask. */
static struct condition nth_filter(u32 n) {
    u32 low = 6 * n;
    struct condition c = {0};
    many[n].low = low;
    many[n].high = n % 3 == 0 ? low + 5 : n % 3 == 1 ? low : low + 1;
    if (n % 3 == 0)
        return even_port(low, low + 5);
    put(&c, 12, 1, 0xff, 0x78);
    put(&c, 14, 2, n % 3 == 1 ? 0xffff : 0xfffe, low);
    return c;
}

static u32 wanted_by(u32 port) {
    u32 n = port / 6;
    return n < MANY && many[n].low <= port && port <= many[n].high && flow_at(many[n].page)->bound
               ? many[n].page
               : 0;
}

static void try_frames(u32 count) {
    for (u32 i = 0; i < count; i++) {
        u32 port = (u32)rand() & 0xffff, length = rand() % 20 ? 60 : 14 + (u32)rand() % 3;
        u8 frame[60] = {[12] = rand() % 20 ? 0x78 : 0x77, [14] = (u8)(port >> 8), [15] = (u8)port};
        u32 wanted = length >= 16 && frame[12] == 0x78 ? wanted_by(port) : 0;
        if (nobody_or(flow_classify(buffer_with(frame, length), length)) != wanted)
            fail_msg("port %u: the classifier differs from what was bound", port);
    }
}

static s64 bind_many(u32 n, const struct condition *filter, u32 *conflict) {
    u64 keep = used;
    struct flow_binding *b = binding(0, 0, 1, 1);
    u32 ring = b->ring, buffer = *(u32 *)b->pages;
    b->filter = *filter;
    s64 error = call_flow_bind(many[n].cap, (u64)b);
    *conflict = b->conflict;
    if (error) {
        assert_int_equal(page_release(env_of(ALICE), ring, PAGE_DATA), 0);
        assert_int_equal(page_release(env_of(ALICE), buffer, PAGE_DATA), 0);
    }
    used = keep;
    return error;
}

/* Ten thousand filters of three shapes; each lie is found, with the name of whom it would steal from. */
static void test_ten_thousand_flows(void **state) {
    (void)state;
    u32 conflict;
    struct flow_spec all = {.receive.count = 0};
    for (u32 n = 0; n < MANY; n++) {
        u64 keep = used;
        struct flow_spec *spec = USER(struct flow_spec);
        struct cap *c = USER(struct cap);
        *spec = all;
        many[n].page = take(1);
        assert_int_equal(call_flow_create(root_cap(), many[n].page, (u64)spec, (u64)c), 0);
        used = keep;
        struct cap *kept = USER(struct cap);
        *kept = *c;
        many[n].cap = (u64)kept;
        struct condition filter = nth_filter(n);
        if (n != MANY - 1)
            assert_int_equal(bind_many(n, &filter, &conflict), 0);
    }
    try_frames(4000);
    u32 lies = 0;
    for (u32 i = 0; i < 600; i++) {
        u32 low = (u32)rand() % 59900, high = low + (rand() % 3 ? 0 : (u32)rand() % 12), robbed = 0;
        for (u32 p = low; p <= high && !robbed; p++)
            robbed = wanted_by(p);
        struct condition filter = even_port(low, high);
        if (low == high && rand() % 2)
            filter.atom[1] = (struct atom){.offset = 14, .width = 2, .mask = 0xffff, .value = low};
        s64 error = bind_many(MANY - 1, &filter, &conflict);
        if (error != (robbed ? E_CONFLICT : 0))
            fail_msg("ports %u to %u: %d, %x", low, high, (int)error, robbed);
        if (!error) {
            assert_int_equal(call_flow_unbind(many[MANY - 1].cap), 0);
            continue;
        }
        lies++;
        bool takes = false; /* from the one that was named */
        for (u32 p = low; p <= high; p++)
            takes |= wanted_by(p) == conflict;
        assert_true(takes);
    }
    assert_true(lies > 100 && lies < 590);
    for (u32 round = 0; round < 3; round++) {
        for (u32 n = 0; n < MANY; n++)
            if (rand() % 2 && flow_at(many[n].page)->bound)
                assert_int_equal(call_flow_unbind(many[n].cap), 0);
        try_frames(3000);
        for (u32 n = 0; n < MANY; n += 7) {
            struct condition filter = nth_filter(n);
            if (!flow_at(many[n].page)->bound)
                assert_int_equal(bind_many(n, &filter, &conflict), 0);
        }
        try_frames(3000);
    }
}

/* As many flows as there can be. */
static void test_all_flows(void **state) {
    (void)state;
    u64 cap;
    u32 count = 1;
    s64 error = 0;
    while (!error) {
        u64 keep = used;
        error = split(root_cap(), take(1), 0, 0, &cap);
        count += !error;
        used = keep;
    }
    assert_int_equal(error, E_FULL);
    assert_int_equal(count, PAGES / 8);
}

/* many[n] becomes a flow that may receive all; its page. */
static u32 wide_flow(u32 n) {
    struct flow_spec *spec = USER(struct flow_spec);
    struct cap *c = USER(struct cap);
    u32 page = take(1);

    memset(spec, 0, sizeof(*spec));
    assert_int_equal(call_flow_create(root_cap(), page, (u64)spec, (u64)c), 0);
    many[n].cap = (u64)c;
    return page;
}

/* A range of which a mask leaves only what an earlier neighbour has: the next neighbour, where it ends, is not all there is. */
static void test_range_with_a_mask(void **state) {
    (void)state;
    u32 page[3], conflict;
    static const struct { u32 low, high; } range[] = {{0, 9}, {10, 19}};
    for (u32 n = 0; n < 3; n++) {
        page[n] = wide_flow(n);
        struct condition filter = n < 2 ? even_port(range[n].low, range[n].high) : even_port(9, 10);
        if (n == 2)
            put(&filter, 15, 1, 1, 1); /* odd ones: 9 */
        assert_int_equal(bind_many(n, &filter, &conflict), n < 2 ? 0 : E_CONFLICT);
    }
    assert_int_equal(conflict, page[0]);
    struct condition filter = even_port(19, 20);
    put(&filter, 15, 1, 1, 0); /* 20 */
    assert_int_equal(bind_many(2, &filter, &conflict), 0);
}

/* Filters of different shapes that want zeros and ranges of one place or another: each is found, and taken out by itself. */
static void test_ranges_of_zeros(void **state) {
    (void)state;
    u32 page[3], conflict;
    for (u32 n = 0; n < 3; n++) {
        page[n] = wide_flow(n);
        struct condition filter = {0};
        if (n < 2)
            put(&filter, 16, 2, 0xfffc, 0);
        if (n == 1)
            put(&filter, 20, 1, 0x80, 0);
        filter.atom[filter.count++] = n == 0 ? port_range(20, 65535) : port_range(2, 19);
        if (n == 2)
            filter.atom[0] = port_range(20, 65535), filter.atom[0].offset = 16;
        assert_int_equal(bind_many(n, &filter, &conflict), 0);
    }
    u8 first[64] = {[15] = 30}, second[64] = {[15] = 10}, third[64] = {[15] = 10, [17] = 25};
    assert_int_equal(nobody_or(flow_classify(first, 64)), page[0]);
    assert_int_equal(nobody_or(flow_classify(second, 64)), page[1]);
    assert_int_equal(nobody_or(flow_classify(third, 64)), page[2]);
    assert_int_equal(call_flow_unbind(many[2].cap), 0);
    assert_int_equal(nobody_or(flow_classify(first, 64)), page[0]);
    assert_int_equal(nobody_or(flow_classify(second, 64)), page[1]);
    assert_int_equal(nobody_or(flow_classify(third, 64)), 0);
}

/* Filters of random shapes, with and without a shift and a range, of two environments: what is admitted
 * is disjoint from all, the one that is named is not, and a frame goes where a walk says. */
static struct condition random_filter(void) {
    struct condition c = {0};
    put(&c, 12, 1, 0xff, 0x79);
    for (u32 n = rand() % 3; n; n--) {
        u32 mask = rand() % 2 ? 0xff : 1u << rand() % 8;
        put(&c, (u16)(13 + rand() % 50), 1, mask, mask & 3);
    }
    if (rand() % 2)
        c.atom[c.count++] = (struct atom){.offset = 14, .width = 1, .kind = ATOM_SHIFT, .mask = 3, .value = 4};
    u32 where = rand() % 3 ? 0 : 16;
    if (rand() % 3)
        put(&c, (u16)(20 + where), 2, 0xffff, (u32)rand() % 30);
    else if (rand() % 2) {
        c.atom[c.count] = port_range((u32)rand() % 30, 30 + (u32)rand() % 9);
        c.atom[c.count++].offset = (u16)(20 + where);
    }
    return c;
}

static void test_random_filters(void **state) {
    (void)state;
    u32 admitted = 0, refused = 0, claimed = 0;
    for (u32 round = 0; round < 1200; round++) {
        act_as(round % 2 ? ALICE : BOB);
        struct flow_spec *spec = USER(struct flow_spec);
        struct cap *c = USER(struct cap);
        u32 page = take(1);
        memset(spec, 0, sizeof(*spec));
        assert_int_equal(call_flow_create(root_cap(), page, (u64)spec, (u64)c), 0);
        struct flow_binding *b = binding(0, 0, 1, 1);
        struct masked m;
        u32 clashes = 0;
        b->filter = random_filter();
        if (filter_normalize(&b->filter, &m))
            continue;
        for (struct flow *f = flow_at(info->first_flow); f; f = f->next ? flow_at(f->next) : NULL)
            clashes += f->bound && !filter_disjoint(&m, &f->filter);
        s64 error = call_flow_bind((u64)c, (u64)b);
        if (error == E_FULL)
            continue;
        assert_int_equal(error, clashes ? E_CONFLICT : 0);
        assert_true(!clashes || !filter_disjoint(&m, &flow_at(b->conflict)->filter));
        admitted += !error;
        refused += error != 0;
        for (u32 i = 0; i < 50; i++) {
            u8 frame[98] = {[12] = 0x79, [14] = (u8)(rand() % 4)};
            u32 length = rand() % 4 ? 90 : 14 + (u32)rand() % 70, wanted = 0;
            for (u32 at = 15; at < 90; at++)
                frame[at] = (u8)(at == 20 + 16 || at == 20 ? 0 : rand() % 40);
            for (u32 p = info->first_flow; p; p = flow_at(p)->next)
                if (flow_at(p)->bound && filter_match(&flow_at(p)->filter, frame, length, 0))
                    wanted = p;
            if (nobody_or(flow_classify(buffer_with(frame, length), length)) != wanted)
                fail_msg("the classifier differs from a walk");
            claimed += wanted != 0;
        }
        if (!error && rand() % 8)
            assert_int_equal(call_flow_unbind((u64)c), 0);
    }
    print("# %u admitted, %u refused, %u frames taken\n", admitted, refused, claimed);
    assert_true(admitted > 60 && refused > 60 && claimed > 100);
}

/* More shapes than there are groups: refused, with nothing changed. */
static void test_many_shapes(void **state) {
    (void)state;
    u64 flow[65];
    u32 page[65];
    struct flow_binding *b = NULL;
    for (u32 i = 0; i < 65; i++) {
        flow[i] = flow_for(root_cap(), 0xffff, i, &page[i]);
        b = binding(0xffff, i, 1, 1);
        put(&b->filter, (u16)(20 + i / 8), 1, 1u << i % 8, 0);
        assert_int_equal(call_flow_bind(flow[i], (u64)b), i < 64 ? 0 : E_FULL);
    }
    assert_int_equal(state_of(b->ring), PAGE_DATA);
    assert_int_equal(state_of(*(u32 *)b->pages), PAGE_DATA);
    assert_int_equal(call_flow_unbind(flow[7]), 0);
    assert_int_equal(call_flow_bind(flow[64], (u64)b), 0);
}

/* Frames that come without end take half of the time from who runs, who is given it back; then they wait. */
static void test_flood(void **state) {
    (void)state;
    flood = true;
    for (u32 i = 0; i < 64; i++)
        arrive(i, 60, 1);
    cpu.context = &running;
    for (u32 round = 0; round < 20; round++) {
        u64 before = counters.packets;
        taken_away = taken_until = hushed = 0;
        net_device_interrupt(0);
        assert_true(counters.packets > before);
        assert_true(taken_away >= slices.length / 2);
        assert_int_not_equal(taken_until, NEVER);
        assert_int_equal(hushed, 1);
        u64 until = taken_until;
        before = counters.packets;
        while (counters.packets == before)
            assert_true(!flow_poll() || rdtsc() >= until);
        while (rdtsc() < taken_until)
            ;
    }
    cpu.context = NULL;
    taken_until = NEVER;
    assert_true(flow_poll()); /* an idle CPU does not wait, but looks between batches whether somebody can run, */
    assert_int_not_equal(taken_until, NEVER); /* who is interrupted for the rest */
    assert_true(flow_poll());
    flood = false;
    arriving_count = arriving_next = 0;
    while (flow_poll())
        ;
}

/* A handler sees a frame first, and the ring what it leaves; it goes when the flow is unbound. */
static void test_handler(void **state) {
    (void)state;
    u32 page;
    u64 flow = flow_for(root_cap(), 0xff00, 0x1200, &page);
    struct flow_binding *b = binding(0xffff, 0x1234, 2, 4);
    struct handler_binding *h = (struct handler_binding *)(arena + sizeof(arena) - 64);
    struct ring *ring = ring_of(b);

    *h = (struct handler_binding){.code = 99};
    assert_int_equal(call_handler_bind(flow, (u64)h), E_WRONG_TYPE);
    assert_int_equal(call_flow_bind(flow, (u64)b), 0);
    ring->posted = 4;
    h->zero2[1] = 1;
    assert_int_equal(call_handler_bind(flow, (u64)h), E_BAD_ARGUMENT);
    h->zero2[1] = 0;
    assert_int_equal(call_handler_bind(flow, (u64)h), 0);
    handler_runs = 0;
    handler_takes = true;
    arrive(0x1234, 60, 1);
    arrive(0x1235, 60, 1);
    interrupt();
    assert_int_equal(handler_runs, 1);
    assert_int_equal(ring->filled, 0);
    assert_int_equal(flow_at(page)->received, 60);
    handler_takes = false;
    arrive(0x1234, 61, 1);
    interrupt();
    assert_int_equal(handler_runs, 2);
    assert_int_equal(ring->filled, 1);
    h->code = 0;
    assert_int_equal(call_handler_bind(flow, (u64)h), 0);
    assert_int_equal(call_handler_bind(flow, (u64)h), E_WRONG_TYPE);
    arrive(0x1234, 61, 1);
    interrupt();
    assert_int_equal(handler_runs, 2);
    h->code = 99;
    assert_int_equal(call_handler_bind(flow, (u64)h), 0);
    assert_int_equal(call_flow_unbind(flow), 0);
    assert_int_equal(flow_at(page)->handler, 0);
}

static bool answers_with_sum(struct flow *f, u16 length, u16 start, u16 offset) {
    return flow_answer(f, room.headers, &(struct code_effects){
                                            .frame = {.length = length, .checksum_start = start, .checksum_offset = offset}});
}

static bool answers(struct flow *f, u16 length, u64 at, u32 bytes) {
    return flow_answer(f, room.headers, &(struct code_effects){.frame.length = length, .attached_at = at, .attached = bytes});
}

/* A flow, and in the room for its answers what its condition wants. */
static struct flow *flow_to_answer(void) {
    u32 page;
    flow_for(root_cap(), 0xff00, 0x1200, &page);
    memset(&room, 0, sizeof(room));
    room.headers[15] = 0x12;
    return flow_at(page);
}

/* The device sums an answer only where it does no harm. */
static void test_answer_with_sum(void **state) {
    (void)state;
    struct flow *f = flow_to_answer();
    u64 refused = f->refused;
    assert_true(answers_with_sum(f, 60, 34, 6));
    assert_int_equal(leaving[leaving_count - 1].checksum_start, 34);
    assert_int_equal(leaving[leaving_count - 1].checksum_offset, 6);
    assert_true(answers_with_sum(f, 60, 40, 18));
    assert_true(answers_with_sum(f, 60, 16, 0));
    u32 before = leaving_count;
    assert_false(answers_with_sum(f, 60, 40, 19));
    assert_false(answers_with_sum(f, 60, 0xffff, 0xffff));
    assert_false(answers_with_sum(f, 60, 0xffff, 1));
    assert_int_equal(f->refused, refused);
    for (u16 at = 14; at < 16; at++)
        for (u16 start = 0; start <= at; start++)
            assert_false(answers_with_sum(f, 60, start, at - start));
    assert_int_equal(f->refused, refused + 15 + 16);
    info->checksum = 0;
    assert_false(answers_with_sum(f, 60, 34, 6));
    info->checksum = 1;
    assert_int_equal(leaving_count, before);
}

/* What a handler answers is held against its flow, and its memory is pinned page by page. */
static void test_answer(void **state) {
    (void)state;
    struct flow *f = flow_to_answer();
    room.headers[16] = 0x34;
    u32 memory = take(2), before = leaving_count;

    f->memory = memory;
    f->memory_pages = 2;
    assert_false(answers(f, 13, 0, 0));
    assert_false(answers(f, SEND_HEADERS + 1, 0, 0));
    assert_false(answers(f, 60, 0, 1455));
    room.headers[15] = 0x13;
    assert_false(answers(f, 60, 0, 0));
    assert_int_equal(f->refused, 1);
    room.headers[15] = 0x12;
    assert_true(answers(f, 60, 4000, 100));
    assert_int_equal(leaving_count, before + 1);
    assert_int_equal(leaving[before].pieces, 2);
    assert_int_equal(leaving[before].piece[0].page, memory);
    assert_int_equal(leaving[before].piece[0].offset, 4000);
    assert_int_equal(leaving[before].piece[0].length, 96);
    assert_int_equal(leaving[before].piece[1].page, memory + 1);
    assert_int_equal(leaving[before].piece[1].offset, 0);
    assert_int_equal(leaving[before].piece[1].length, 4);
    assert_int_equal(STATE_PINS(state_of(memory)), 1);
    assert_int_equal(STATE_PINS(state_of(memory + 1)), 1);
    f->memory = memory + 1; /* behind which no page can be pinned: the first is let go */
    assert_false(answers(f, 60, 4000, 100));
    assert_int_equal(STATE_PINS(state_of(memory + 1)), 1);
    f->memory = memory;
    interrupt(); /* the device is told of it, once */
    u32 told = kicks;
    interrupt();
    assert_int_equal(kicks, told);
    may_finish = before + 1;
    flow_reclaim();
    assert_int_equal(STATE_PINS(state_of(memory)), 0);
    f->memory = f->memory_pages = 0;
}

#define T(name) cmocka_unit_test_setup_teardown(name, start, finish)
int main(void) {
    const struct CMUnitTest tests[] = {
        T(test_split),      T(test_destroy), T(test_bind),       T(test_delivery),
        T(test_binder_ends), T(test_send),   T(test_many_sends), T(test_ten_thousand_flows),
        T(test_many_shapes), T(test_send_while_freed), T(test_private_copy), T(test_all_flows), T(test_random_filters),
        T(test_range_with_a_mask), T(test_ranges_of_zeros),
        T(test_flood),
        T(test_handler),    T(test_answer), T(test_answer_with_sum),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
