/* Capabilities under attack: tags that are made up, fields that are changed, runs that wrap, generations that are over.
 * `capseed=N` on the kernel's command line chooses other random numbers. */
#include "revoke_puppet.h"

#define TAGS 1000000
#define ALL (RIGHT_READ | RIGHT_WRITE | RIGHT_OWN)

static u64 seed;

static u64 random(void) {
    seed ^= seed << 13;
    seed ^= seed >> 7;
    seed ^= seed << 17;
    return seed * 0x2545f4914f6cdd1d;
}

static void begin_random(void) {
    seed = number_argument("capseed", 20250) * 2654435761u + 88172645463325252ull;
}

static struct cap owned(u32 page, u32 count, u8 rights) {
    struct cap c = {.type = CAP_PAGE, .rights = rights, .name = page, .count = count};

    OK(sys_cap_derive(0, &c));
    return c;
}

/* Of a million tags that are random, or one or two bits away from the right one, none opens anything. */
TEST(cap_million_tags, .seconds = 120) {
    u32 page = page_alloc(1);
    struct cap good = owned(page, 1, ALL), bad = good;
    u64 generation = good.generation;

    begin_random();
    for (u32 i = 0; i < TAGS; i++) {
        u64 r = random();
        bad.tag = i % 4 == 0 ? good.tag ^ 1ull << (r & 63) : i % 4 == 1 ? good.tag ^ 1ull << (r & 63) ^ 2ull << (r >> 8 & 63) : r;
        if (bad.tag == good.tag)
            continue;
        s64 error = sys_page_revoke(&bad, page, 1);
        if (error != E_BAD_CAPABILITY)
            FAIL("tag %lx (good: %lx): %s", bad.tag, good.tag, error_name(error));
    }
    EQUAL(page_of(page)->generation, generation);
    EQUAL(sys_page_revoke(&good, page, 1), 0);
}

/* Each bit of each field counts, whether the good one is in the cache of verified ones or not. */
TEST(cap_every_bit) {
    u32 page = page_alloc(4);
    struct cap good = owned(page + 1, 2, ALL);

    for (u32 cached = 0; cached < 2; cached++)
        for (u32 bit = 0; bit < 256; bit++) {
            struct cap bad = good, want = {.type = CAP_PAGE, .rights = RIGHT_READ, .name = page + 1, .count = 1};
            if (cached)
                OK(sys_cap_derive(&good, &want));
            ((u8 *)&bad)[bit / 8] ^= (u8)(1 << bit % 8);
            EQUAL(sys_page_revoke(&bad, page + 1, 1), E_BAD_CAPABILITY);
            EQUAL(update(UPDATE_MAP, 0, address(1), page + 1, 1, 0, &bad), E_BAD_CAPABILITY);
            EQUAL(sys_cap_derive(&bad, &want), E_BAD_CAPABILITY);
        }
}

/* A capability of one type is none of another, for every call that takes one. */
TEST(cap_wrong_type) {
    struct peer e = bare_env(4, 0);
    u32 page = page_alloc(1);
    struct cap pages = owned(page, 1, ALL), out;

    EQUAL(sys_page_free(&e.cap, e.env, 1), E_BAD_CAPABILITY);
    EQUAL(sys_page_free(&e.cap, page, 1), E_BAD_CAPABILITY);
    EQUAL(sys_page_alloc(&pages, PAGE_ANY, 1, 0, &out), E_BAD_CAPABILITY);
    EQUAL(sys_env_destroy(&pages), E_BAD_CAPABILITY);
    EQUAL(sys_flow_unbind(&pages), E_BAD_CAPABILITY);
    EQUAL(sys_console_bind(&pages), E_BAD_CAPABILITY);
    EQUAL(sys_check(&e.cap), E_BAD_CAPABILITY);
    EQUAL(sys_trace_set(&pages, 0), E_BAD_CAPABILITY);
    for (u8 type = 0; type < 16; type++) {
        struct cap want = {.type = type, .rights = RIGHT_READ, .name = page, .count = 1};
        s64 error = sys_cap_derive(&pages, &want);
        CHECK(type == CAP_PAGE ? !error : error == E_BAD_CAPABILITY || error == E_BAD_ARGUMENT);
    }
    end_peer(&e);
}

/* Rights, run and holder only shrink. */
TEST(cap_never_grows) {
    u32 page = page_alloc(8);

    for (u32 rights = 0; rights < 8; rights++) {
        struct cap from = owned(page + 2, 4, (u8)rights);
        for (u32 more = 0; more < 256; more++) {
            struct cap want = {.type = CAP_PAGE, .rights = (u8)more, .name = page + 2, .count = 4};
            EQUAL(sys_cap_derive(&from, &want), more & ~rights ? E_NO_RIGHT : 0);
        }
    }
    struct cap from = owned(page + 2, 4, ALL), tied = from, want;
    tied.holder = rt_self();
    OK(sys_cap_derive(&from, &tied));
    for (u32 holder = 0; holder < 2; holder++) {
        want = tied;
        want.holder = holder ? 5 : 0;
        EQUAL(sys_cap_derive(&tied, &want), E_NO_RIGHT);
    }
    const struct { u32 name, count; } beyond[] = {
        {page + 1, 1}, {page + 1, 5}, {page + 2, 5}, {page + 5, 2}, {page + 6, 1}, {page + 2, 0}, {page + 6, 0},
        {page + 2, 0xffffffff}, {page + 3, 0xffffffff}, {0xffffffff, 1}, {0xffffffff, 2}, {0, 0xffffffff}, {page + 2, 0x80000000},
        {0, 0}, {0xfffffffe, 0xffffffff},
    };
    for (u32 i = 0; i < ARRAY_SIZE(beyond); i++) {
        want = (struct cap){.type = CAP_PAGE, .rights = RIGHT_READ, .name = beyond[i].name, .count = beyond[i].count};
        EQUAL(sys_cap_derive(&from, &want), E_BAD_CAPABILITY);
        CHECK(sys_cap_derive(0, &want) < 0 || (beyond[i].name >= page && beyond[i].name + beyond[i].count <= page + 8));
        CHECK(sys_page_revoke(&from, beyond[i].name, beyond[i].count) < 0);
        CHECK(sys_page_free(&from, beyond[i].name, beyond[i].count) < 0);
        CHECK(sys_page_give(&from, beyond[i].name, beyond[i].count, 0) < 0);
        CHECK(update(UPDATE_MAP, 0, address(1), beyond[i].name, beyond[i].count, 0, &from) < 0);
    }
    EQUAL(sys_page_revoke(&from, page + 2, 4), 0);
}

/* One that is tied to an environment is of no use to another. */
TEST(cap_tied) {
    static struct puppet p;
    start_puppet(&p, 0, 0);
    u32 page = page_alloc(1);
    struct cap cap = owned(page, 1, ALL);

    cap.holder = rt_self();
    OK(sys_cap_derive(0, &cap));
    EQUAL(order_call(&p, PAGE_FREE, puppet_give_cap(&p, cap), page, 1), E_BAD_CAPABILITY);
    cap.holder = p.peer.env; /* changed, not derived */
    EQUAL(order_call(&p, PAGE_FREE, puppet_give_cap(&p, cap), page, 1), E_BAD_CAPABILITY);
    cap = tied_to(cap, p.peer.env);
    OK(sys_cap_derive(0, &cap));
    EQUAL(sys_page_free(&cap, page, 1), E_BAD_CAPABILITY);
    OK(order_call(&p, PAGE_FREE, puppet_give_cap(&p, cap), page, 1));
    end_puppet(&p);
}

/* Nor to one that comes after the holder in the same page, whether it was seen on this CPU before or not. */
TEST(cap_holder_replay) {
    static struct puppet p;
    u32 page = page_alloc(1), env = page_alloc(1);
    struct cap cap = owned(page, 1, ALL), to_nobody = cap;

    to_nobody.holder = page; /* no environment */
    EQUAL(sys_cap_derive(0, &to_nobody), E_BAD_ARGUMENT);
    EQUAL(sys_cap_derive(&cap, &to_nobody), E_BAD_ARGUMENT);
    to_nobody.holder = 0xffffffff;
    EQUAL(sys_cap_derive(0, &to_nobody), E_BAD_ARGUMENT);
    peer_page = env;
    start_puppet(&p, 0, 0);
    EQUAL(p.peer.env, env);
    cap = tied_to(cap, env);
    OK(sys_cap_derive(0, &cap));
    for (u32 seen = 0; seen < 2; seen++) { /* the second time, the first holder has presented it */
        struct cap want = cap;
        u64 first = page_of(env)->generation;
        want.rights = RIGHT_READ;
        *(struct cap *)p.scratch = want;
        if (seen)
            OK(order_call(&p, CAP_DERIVE, puppet_give_cap(&p, cap), p.orders->scratch));
        struct cap heirloom = *(struct cap *)p.scratch; /* derived by the holder */
        end_puppet(&p);
        EQUAL(sys_page_alloc(0, env, 1, 0, 0), env);
        peer_page = env;
        start_puppet(&p, 0, 0);
        EQUAL(p.peer.env, env);
        *(struct cap *)p.scratch = want;
        EQUAL(order_call(&p, PAGE_REVOKE, puppet_give_cap(&p, cap), page, 1), E_BAD_CAPABILITY);
        EQUAL(order_call(&p, CAP_DERIVE, puppet_give_cap(&p, cap), p.orders->scratch), E_BAD_CAPABILITY);
        if (seen)
            EQUAL(order_call(&p, CAP_DERIVE, puppet_give_cap(&p, heirloom), p.orders->scratch), E_BAD_CAPABILITY);
        cap.generation = first; /* it cannot come to be the new one's by mistake */
        EQUAL(sys_cap_derive(0, &cap), E_BAD_ARGUMENT);
        cap = tied_to(cap, env);
        OK(sys_cap_derive(0, &cap)); /* for the new one, and now its own */
        OK(order_call(&p, PAGE_REVOKE, puppet_give_cap(&p, cap), page, 1));
        cap = tied_to(cap, env);
        OK(sys_cap_derive(0, &cap));
    }
    end_puppet(&p);
}

/* What was handed out is void after the page is freed and had again, taken, or revoked; also when it is cached. */
TEST(cap_replay) {
    struct cap old[64], cap;
    u32 page = page_alloc(1);

    for (u32 i = 0; i < 64; i++) {
        old[i] = owned(page, 1, ALL);
        OK(sys_cap_derive(&old[i], &old[i])); /* now it is cached */
        if (i % 2) {
            OK(sys_page_revoke(0, page, 1));
        } else {
            OK(sys_page_free(0, page, 1));
            EQUAL(sys_page_alloc(0, page, 1, 0, &cap), page);
        }
        for (u32 k = 0; k <= i; k++)
            EQUAL(sys_page_revoke(&old[k], page, 1), E_BAD_CAPABILITY);
    }
    struct peer e = bare_env(4, 0);
    struct cap gone = e.cap;
    end_peer(&e);
    for (u32 i = 0; i < 20; i++) { /* its page is probably an environment again */
        e = bare_env(4, 0);
        EQUAL(sys_env_destroy(&gone), E_BAD_CAPABILITY);
        EQUAL(sys_page_alloc(&gone, PAGE_ANY, 1, 0, 0), E_BAD_CAPABILITY);
        end_peer(&e);
    }
}

static struct cap raced;
static volatile u64 uses, wrong, over;
static u64 window;

/* Maps by a capability that is revoked all the time, and writes: into a page that nobody else may have. */
static void use_on(u64 unused) {
    (void)unused;
    while (!over) {
        struct cap cap;
        for (u32 i = 0; i < 4; i++)
            ((volatile u64 *)&cap)[i] = ((volatile u64 *)&raced)[i];
        struct update u = {.op = UPDATE_MAP, .flags = MAP_WRITE, .va = window, .page = cap.name, .count = 1, .cap = (u64)&cap};
        struct update back = {.op = UPDATE_UNMAP, .va = window, .count = 1};
        if (sys_space_update(0, &u, 1) < 0)
            wrong++;
        if (!u.result) {
            uses++;
            if (__atomic_load_n(&page_of(cap.name)->state, __ATOMIC_SEQ_CST) >> 32 == 0)
                wrong++; /* mapped, and not bound */
            sys_space_update(0, &back, 1);
        } else if (u.result != E_BAD_CAPABILITY && u.result != E_WRONG_TYPE) {
            wrong++;
        }
    }
}

/* One CPU frees, allocates and revokes what another maps by capability: a page is mapped only while it is bound. */
TEST(cap_revoke_races_use, .cpus = 2, .needs = NEED_MACHINE) {
    struct cap machine = item("machine");
    u64 freed = 0;
    u32 page = page_alloc(1);

    window = address(1);
    page_of(page);
    raced = owned(page, 1, ALL);
    start_thread(1, use_on, 0);
    wait_for((u64 *)&uses, 10);
    u64 begun = rt_tsc(); /* on a slow host it takes longer until enough has happened */
    while (rt_tsc() < begun + milliseconds(1500) ||
           (rt_tsc() < begun + milliseconds(9000) && (uses <= 20 || freed <= 10))) {
        OK(sys_page_revoke(0, page, 1));
        struct cap next = owned(page, 1, ALL);
        for (u32 i = 0; i < 4; i++)
            ((volatile u64 *)&raced)[i] = ((u64 *)&next)[i];
        s64 error = sys_page_free(0, page, 1);
        CHECK(!error || error == E_BUSY);
        freed += !error;
        if (!error)
            EQUAL(sys_page_alloc(0, page, 1, 0, &next), page);
    }
    over = 1;
    pause_for(5);
    EQUAL(wrong, 0);
    CHECK(uses > 10 && freed > 10);
    EQUAL(sys_check(&machine), 0);
    EQUAL(sys_page_free(0, page, 1), 0);
}

/* The cache of verified capabilities counts its hits, and a second presentation is one. */
TEST(cap_cache_counts) {
    u32 page = page_alloc(1);
    struct cap cap = owned(page, 1, ALL), want = cap;

    OK(sys_cap_derive(&cap, &want));
    for (u32 round = 0; round < 20; round++) { /* others on this CPU may present theirs meanwhile: one quiet round is enough */
        u64 hits = machine_trace(0)->cap_hits, misses = machine_trace(0)->cap_misses;
        for (u32 i = 0; i < 100; i++)
            OK(sys_cap_derive(&cap, &want));
        hits = machine_trace(0)->cap_hits - hits;
        misses = machine_trace(0)->cap_misses - misses;
        if (hits == 100 && !misses)
            return;
    }
    FAIL("the same capability is verified again and again");
}
