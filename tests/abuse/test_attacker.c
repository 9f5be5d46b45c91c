/* An attacker that knows every call from the interface itself: whatever arguments a call has, capabilities are replaced by what is no authority over the
 * victim (made up, bound to the victim, void), numbers by the victim's names, and addresses by structures full of them. The table is generated from
 * abi/targe.toml, so a call that is added later is attacked as well.
 *
 * `attackseed=N` on the kernel's command line chooses other random numbers; `attackms=N` says for how long. */
#include "abuse.h"
#include "targe/names.h"

#define VICTIM_PAGES 8
#define ENOUGH 4000 /* calls */

/* Words of the shared page, after those of secret_keeper (test_attack.c). */
enum { SEED = 16, CALLS_MADE, REFUSED, NAMES, NAME_0, STAGE = NAME_0 + 12 };
/* Its capabilities. */
enum { TIED_ENV, TIED_PAGE, VOID_PAGE, STOLEN };

static u64 state;
static u64 any(u64 below) { return random_number(&state) % below; }

/* ---- the attacker */
static struct cap bad[16];
static u32 bads;
static struct cap mine[2]; /* its environment, a page */
static u8 *data;
static u64 scratch;
static u32 own;

static u32 victim_name(void) { return (u32)up->word[NAME_0 + any(up->word[NAMES])]; }

static void make_capabilities(void) {
    const u8 type[] = {CAP_PAGE, CAP_ENV, CAP_FLOW, CAP_CONSOLE, CAP_MACHINE};

    for (u32 i = 0; i < STOLEN; i++)
        bad[bads++] = up->cap[i];
    for (u32 i = 0; i < ARRAY_SIZE(type); i++)
        bad[bads++] = (struct cap){.type = type[i], .rights = 63, .name = victim_name(), .count = 1, .tag = random_number(&state)};
    for (u32 i = 0; i < 2; i++) { /* what was good once, and says that it is more */
        bad[bads] = mine[i];
        bad[bads].name = (u32)up->word[NAME_0 + i];
        bad[bads++].generation = page_of((u32)up->word[NAME_0 + i])->generation;
    }
    bad[bads] = bad[TIED_ENV];
    bad[bads++].holder = rt_self();
}

static u64 some_cap(bool *wrong) {
    switch (any(6)) {
    case 0:
        return 0;
    case 1:
        return (u64)&mine[any(2)];
    case 2:
        *wrong = true;
        return any(2) ? 0x7fffffffe000 : (u64)machine_info() + any(64) * 32;
    default:
        *wrong = true;
        return (u64)&bad[any(bads)];
    }
}

static u64 some_number(void) {
    switch (any(4)) {
    case 0:
        return any(5);
    case 1:
        return own + any(4);
    default:
        return victim_name();
    }
}

/* Structures of every kind that a call reads, each about the victim. */
static u64 some_structure(void) {
    struct update *u = (struct update *)data;
    struct taking *t = (struct taking *)(data + 1024);
    struct env_spec *spec = (struct env_spec *)(data + 1280);
    struct cap *want = (struct cap *)(data + 1408);
    struct flow_binding *b = (struct flow_binding *)(data + 1536);
    struct send *s = (struct send *)(data + 2048);
    u32 *names = (u32 *)(data + 2304);
    bool ignored;

    for (u32 i = 0; i < 4; i++) {
        u[i] = (struct update){.op = (u8)(1 + any(6)), .level = (u8)any(3), .flags = (u16)any(4), .va = scratch + any(64) * RT_PAGE,
                               .page = victim_name(), .count = 1 + (u32)any(2), .cap = any(2) ? some_cap(&ignored) : 0};
        t[i] = (struct taking){.resource = (u32)any(3), .name = victim_name()};
    }
    *spec = (struct env_spec){.name = "loot", .page_limit = 4};
    *want = (struct cap){.type = (u8)(1 + any(5)), .rights = (u8)any(64), .name = victim_name(), .count = 1};
    for (u32 i = 0; i < 8; i++)
        names[i] = victim_name();
    *b = (struct flow_binding){.pages = (u64)names, .count = 2, .ring = victim_name(), .entries = 4};
    *s = (struct send){.headers = (u64)(data + 3072), .length = 64, .pieces = 1};
    s->piece[0] = (struct piece){.page = victim_name(), .length = 100, .cap = any(2) ? (u64)&bad[any(bads)] : 0};
    const u64 at[] = {(u64)u, (u64)t, (u64)spec, (u64)want, (u64)b, (u64)s, (u64)names, 0, 1, any(64), rt_tsc()};
    return at[any(ARRAY_SIZE(at))];
}

/* Calls by which the attacker would only end or stop itself. */
static bool is_suicide(u32 number, const u64 v[6]) {
    bool self = !v[0] || v[0] == (u64)&mine[0];

    return number == CALL_YIELD || number == CALL_SLEEP || number == CALL_WAIT ||
           ((number == CALL_ENV_STOP || number == CALL_SLICE_FREE || number == CALL_CONTEXT_BIND) && self) || number == CALL_SLICE_GIVE;
}

static void attack(u32 number) {
    static const char *const shape[] = CALL_SHAPES;
    u64 v[6] = {0};
    bool wrong = false;

    for (u32 i = 0; shape[number][i]; i++)
        v[i] = shape[number][i] == 'c' ? some_cap(&wrong) : shape[number][i] == 'n' ? some_number() : some_structure();
    if (is_suicide(number, v) && !wrong)
        return;
    struct raw r = {.rax = number, .rdi = v[0], .rsi = v[1], .rdx = v[2], .r10 = v[3], .r8 = v[4], .r9 = v[5]};
    if (number == CALL_TRANSFER)
        r.rax |= up->word[NAME_0] << 32 | any(3) << 8;
    s64 result = checked_call(&r, "an attack");
    __atomic_fetch_add(&up->word[result < 0 ? REFUSED : CALLS_MADE], 1, __ATOMIC_SEQ_CST);
    if (result >= 0 && wrong)
        FAIL("seed %lu: call %u took a capability that is none: %lx %lx %lx %lx %lx", up->word[SEED], number, v[0], v[1], v[2], v[3], v[4]);
    if (number == CALL_TRANSFER && result >= 0)
        FAIL("the victim was entered");
}

ROLE(attacker) {
    state = up->word[SEED] * 0x9e3779b97f4a7c15ull | 1;
    data = (u8 *)mapped(page_alloc(1), 1, MAP_WRITE);
    scratch = address(64);
    machine_info();
    own = (u32)OK(sys_page_alloc(0, PAGE_ANY, 4, 0, &mine[1]));
    mine[0] = (struct cap){.type = CAP_ENV, .rights = RIGHT_OWN | RIGHT_MANAGE, .name = rt_self(), .count = 1};
    OK(sys_cap_derive(0, &mine[0]));
    make_capabilities();
    up->word[STAGE] = 1;
    for (;;)
        attack((u32)any(CALL_COUNT));
}

/* ---- what must not change */
static u64 mix(u64 sum, u64 word) { return (sum << 7 | sum >> 57) ^ word * 0x9e3779b97f4a7c15ull; }

/* All of the victim that others could change: what it owns, in which state, its limits, its contexts, its slices, what is asked of it. */
static u64 sum_victim(u32 name) {
    const volatile struct env *e = machine_env(name);
    u64 sum = 1;

    if (!e)
        FAIL("the victim's ENV page cannot be looked at: state %lx", page_of(name)->state);
    const u64 word[] = {e->creator, e->creator_generation, e->state, e->root, e->pages, e->page_limit, e->slices, e->slice_limit,
                        e->cpus, e->first_page, e->flows, e->event_page, e->event_count, e->children, e->loss_page, e->vitals,
                        e->losses, e->end_reason, e->request[0].asked, e->request[1].asked, e->request[2].asked};
    for (u32 i = 0; i < ARRAY_SIZE(word); i++)
        sum = mix(sum, word[i]);
    for (u32 n = 0; n < machine_info()->cpus; n++) {
        sum = mix(sum, e->context[n].page | (u64)e->context[n].caller << 32 | (u64)e->context[n].pending << 24);
        for (u32 slot = 0; slot < SLOTS; slot++)
            sum = mix(sum, machine_slices(n)->slot[slot].owner == name);
    }
    for (u32 page = e->first_page; page; page = page_of(page)->next) {
        const volatile struct page *p = page_of(page);
        sum = mix(mix(sum, p->generation), p->owner | (u64)p->next << 32);
        sum = mix(sum, page == name ? p->state & 0xff : p->state); /* everybody may look at its ENV page */
    }
    return sum;
}

/* What an attacker may know of the victim, and steal: every name, and capabilities that are not for it. */
static void give_away(const struct peer *victim) {
    struct cap cap;
    u32 names = 0;
    u32 page = (u32)OK(sys_page_alloc(&victim->cap, PAGE_ANY, 1, 0, &cap));

    down->word[NAME_0 + names++] = victim->env;
    down->word[NAME_0 + names++] = page;
    down->word[NAME_0 + names++] = down->word[2];
    down->word[NAME_0 + names++] = down->word[2] + VICTIM_PAGES - 1;
    for (u32 i = 3; i < 6; i++)
        down->word[NAME_0 + names++] = down->word[i];
    down->word[NAMES] = names;
    down->cap[VOID_PAGE] = cap;
    OK(sys_page_revoke(&cap, page, 1));
    struct cap tied = {.type = CAP_ENV, .rights = RIGHT_OWN | RIGHT_MANAGE, .name = victim->env, .count = 1};
    tied = tied_to(tied, victim->env);
    OK(sys_cap_derive(&victim->cap, &tied));
    down->cap[TIED_ENV] = tied;
    page = (u32)OK(sys_page_alloc(&victim->cap, PAGE_ANY, 1, 0, &cap));
    tied = tied_to(cap, victim->env);
    OK(sys_cap_derive(&cap, &tied));
    down->cap[TIED_PAGE] = tied;
    down->word[NAME_0 + names++] = page;
    down->word[NAMES] = names;
}

/* Every call, with everything that could be of use against the victim: nothing of it changes, and it goes on. */
TEST(attack_every_call, .seconds = 120) {
    struct peer victim, attacker;
    u32 last = machine_info()->cpus - 1;
    u64 seed = number_argument("attackseed", rt_tsc() % 1000000000), end = rt_tsc() + milliseconds(number_argument("attackms", 2000));

    memset(down->word, 0, sizeof down->word);
    start_peer(&victim, "secret_keeper", 0);
    wait_for(&down->word[0], 1);
    give_away(&victim);
    page_of(victim.env);
    for (u32 n = 0; n <= last; n++)
        machine_slices(n);
    u64 before = sum_victim(victim.env);
    for (u64 round = 0; rt_tsc() < end || down->word[CALLS_MADE] + down->word[REFUSED] < ENOUGH; round++) {
        struct spawn_slices slices[2] = {{last, 2}, {0, 0}};
        u64 done = down->word[CALLS_MADE] + down->word[REFUSED], rounds = down->word[1];
        down->word[SEED] = seed + round;
        down->word[STAGE] = 0;
        peer_cpus = 1ull << last;
        run_peer(&attacker, "attacker", slices, last ? 2 : 1, 400, 4);
        for (u32 i = 0; i < 100 && down->word[CALLS_MADE] + down->word[REFUSED] < done + ENOUGH / 4; i++)
            pause_for(3);
        if (down->failed)
            FAIL("seed %lu: %s", seed + round, down->text);
        CHECK(down->word[STAGE] == 1);
        if (sum_victim(victim.env) != before)
            FAIL("seed %lu changed the victim", seed + round);
        for (u32 i = 0; i < 1000 && down->word[1] < rounds + 2; i++)
            pause_for(1);
        if (down->word[1] < rounds + 2)
            FAIL("seed %lu stopped the victim: state %u, context %u, excess %lu", seed + round, machine_env(victim.env)->state,
                 machine_env(victim.env)->context[0].state, machine_env(victim.env)->context[0].excess);
        machine_forget();
        end_peer(&attacker);
        end_children(victim.env);
    }
    EQUAL(down->word[7], 0);
    CHECK(down->word[REFUSED] > down->word[CALLS_MADE]);
    end_peer(&victim);
}
