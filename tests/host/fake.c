/* The fake machine: see fake.h. */
#include "fake.h"

#include "core/revoke.h"
#include "core/schedule.h"
#include "core/shootdown.h"
#include "net/flow.h"
#include "x86/mmu.h"

#include <asm/prctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

struct info *info;
u64 *kernel_root;
u64 mmu_nx = PTE_NX;
struct cpu *cpus[MAX_CPUS];
u32 cpu_count = 1;
void (*on_shootdown)(struct env *env, u64 va, u32 count);
u32 locks_held;

static struct info the_info;
static struct cpu cpu;
static struct trace counters;
static u8 arena[1 << 20];
static u64 used;
static u64 root_entries[512];
static u64 state_of_chance;

static bool in_arena(u64 at, u64 n) {
    u64 first = (u64)arena;
    return at >= first && n <= sizeof(arena) && at - first <= sizeof(arena) - n;
}
s64 user_copy(void *to, const void *from, u64 n) {
    if (!in_arena((u64)to, n) && !in_arena((u64)from, n))
        return E_BAD_ADDRESS;
    memcpy(to, from, n);
    return 0;
}
bool user_element(u64 from, struct words *w) {
    if (!in_arena(from, sizeof(*w)))
        return false;
    ((struct update *)from)->result = 0;
    memcpy(w, (void *)from, sizeof(*w));
    return true;
}
s64 user_writable(u64 to, u64 n) { return in_arena(to, n) ? 0 : E_BAD_ADDRESS; }
void lock_note(u32 rank, bool taken) {
    (void)rank;
    locks_held += taken ? 1u : -1u;
}
void lock_wait(u32 *word) { fail_msg("lock %p is taken already", (void *)word); }
void env_lock_two(struct env *a, struct env *b) {
    env_lock(a);
    env_lock(b);
}
void env_unlock_two(struct env *a, struct env *b) {
    env_unlock(a);
    env_unlock(b);
}
struct env *env_live(u32 page) {
    struct page *p = page_get(page);
    return p && page_type(p) == PAGE_ENV && env_of(page)->state == ENV_LIVE ? env_of(page) : NULL;
}
s64 env_presented(u64 at, u8 rights, struct env **out) {
    u32 name = 0;
    s64 error = cap_object(at, CAP_ENV, rights, PAGE_ENV, &name);
    *out = env_of(name);
    return error;
}
void flow_reclaim(void) {}
void flow_give(u32 flow, struct env *from, struct env *to) {
    (void)flow;
    (void)from;
    (void)to;
}
void shootdown(struct env *env, u64 va, u32 count) {
    if (on_shootdown)
        on_shootdown(env, va, count);
}

void shootdown_others(struct env *env) { (void)env; }
void flush_local(u64 va, u64 count) { shootdown(current_env(), va, (u32)count); }

void act_as(u32 env) { cpu.env = env_of(env); }

/* Used again and again: what was given out long ago is written over. */
void *user(u64 bytes) {
    if (used + bytes > sizeof(arena))
        used = 0;
    void *p = arena + used;
    used += round_up(bytes, 16);
    return memset(p, 0, bytes);
}

u32 take(u32 count) {
    s64 page = page_take(current_env(), PAGE_ANY, count, 0);
    assert_true(page > 0);
    return (u32)page;
}

struct cap *cap_for(u8 type, u8 rights, u32 holder, u32 name, u32 count) {
    struct cap *c = user(sizeof(*c));
    *c = (struct cap){
        .type = type, .rights = rights, .holder = holder, .name = name, .count = count};
    cap_seal(c, page_get(name) ? page_generation(page_get(name)) : 0, holder ? page_generation(page_get(holder)) : 0);
    return c;
}

u64 chance(u64 below) {
    state_of_chance ^= state_of_chance << 13;
    state_of_chance ^= state_of_chance >> 7;
    state_of_chance ^= state_of_chance << 17;
    return state_of_chance % below;
}

static void make_env(u32 page, u32 root) {
    struct env *e = env_of(page);

    memset(e, 0, sizeof(*e));
    memset(page_ptr(root), 0, PAGE_SIZE);
    e->self = page;
    e->root = root;
    e->state = ENV_LIVE;
    e->page_limit = PAGES;
    page_declare(page, PAGE_ENV, page);
    page_declare(root, PAGE_TABLE, page);
    page_get(root)->state |= 4 << 8;
    page_bind(root, PAGE_TABLE);
    space_prepare(e);
    page_link(e, root);
    page_link(e, page);
}

int fake_start(void **state) {
    static struct page array[PAGES];
    static u64 map[PAGES / 64 + PAGES / 4096 + PAGES / 512 + PAGES / 65536 + 5];
    static bool begun;

    (void)state;
    if (!begun) {
        void *memory = mmap((void *)DIRECT_BASE, PAGES * PAGE_SIZE, PROT_READ | PROT_WRITE,
                            MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
        if (memory != (void *)DIRECT_BASE || syscall(SYS_arch_prctl, ARCH_SET_GS, &cpu))
            return 1;
        begun = true;
    }
    info = &the_info;
    info->free_at_boot = 0;
    counters.free_pages = 0;
    cpus[0] = &cpu;
    cpu = (struct cpu){.self = &cpu, .trace = &counters};
    kernel_root = root_entries;
    root_entries[DEVICE_BASE >> 39 & 511] = 0xdead0000000;
    root_entries[KERNEL_BASE >> 39 & 511] = 0xdead0000001;
    memset(array, 0, sizeof(array));
    memset(map, 0, sizeof(map));
    page_init(array, map, PAGES);
    for (u32 i = FIRST; i < PAGES; i++)
        page_declare(i, PAGE_FREE, 0);
    page_declare(EXPOSED_PAGE, PAGE_EXPOSED, 0);
    page_declare(KERNEL_PAGE, PAGE_KERNEL, 0);
    make_env(ALICE, ALICE_ROOT);
    make_env(BOB, BOB_ROOT);
    cap_init((u64[]){0x0706050403020100, 0x0f0e0d0c0b0a0908});
    on_shootdown = NULL;
    used = locks_held = 0;
    state_of_chance = 88172645463325252ull;
    act_as(ALICE);
    return 0;
}

void revoke_let_go(const struct env *env, u32 page) {
    (void)env;
    (void)page;
}

void revoke_given(struct env *env, u32 resource, u32 count) {
    (void)env;
    (void)resource;
    (void)count;
}

bool env_is_child(u32 page) {
    struct page *p = page_get(page);
    return p && page_type(p) == PAGE_ENV && env_of(page)->creator == cpu.env->self;
}
