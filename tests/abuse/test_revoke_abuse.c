/* Hostile losers, hostile takers, hostile arguments of the calls of revocation. */
#include "revoke_puppet.h"

static struct puppet p, q;

/* ---------------------------------------------------------------- losers */

/* Giving what one does not own, or the same twice, counts for nothing. */
TEST(revoke_gives_others) {
    start_puppet(&p, 0, 0);
    u32 mine = page_alloc(1), page = puppet_pages(&p, 2);
    const struct demand *q_ = &machine_env(p.peer.env)->request[RESOURCE_PAGES];
    u64 to = puppet_give_cap(&p, item("self"));

    OK(ask(&p, RESOURCE_PAGES, 4, 1000));
    EQUAL(order_call(&p, PAGE_GIVE, 0, mine, 1, to), E_NO_RIGHT);
    EQUAL(order_call(&p, PAGE_FREE, 0, mine, 1), E_NO_RIGHT);
    EQUAL(order_call(&p, PAGE_GIVE, 0, page, 3, to), E_NO_RIGHT); /* a run of which it owns two */
    EQUAL(order_call(&p, PAGE_GIVE, 0, page, 1, 0), 0);           /* to itself */
    EQUAL(q_->left, 4);
    OK(order_call(&p, PAGE_GIVE, 0, page, 1, to));
    EQUAL(order_call(&p, PAGE_GIVE, 0, page, 1, to), E_NO_RIGHT);
    OK(order_call(&p, PAGE_FREE, 0, page + 1, 1));
    EQUAL(order_call(&p, PAGE_FREE, 0, page + 1, 1), E_NO_RIGHT);
    EQUAL(q_->left, 2);
    struct cap bearer = {.type = CAP_PAGE, .rights = RIGHT_OWN, .name = page, .count = 1};
    OK(sys_cap_derive(0, &bearer)); /* with the asker's own page, which it is allowed to free: not the puppet's to give */
    OK(order_call(&p, PAGE_FREE, puppet_give_cap(&p, bearer), page, 1));
    EQUAL(q_->left, 2);
    machine_forget();
    end_puppet(&p);
}

/* Who answers after the deadline has still given; who answers after the taking has nothing left to give. */
TEST(revoke_answers_late) {
    start_puppet(&p, 0, 0);
    u32 page = puppet_pages(&p, 3);

    OK(ask(&p, RESOURCE_PAGES, 2, 1));
    pause_for(5);
    OK(order_call(&p, PAGE_FREE, 0, page, 1));
    EQUAL(take(&p, RESOURCE_PAGES, page), E_NO_RIGHT);
    EQUAL(take(&p, RESOURCE_PAGES, page + 1), 0);
    EQUAL(order_call(&p, PAGE_FREE, 0, page + 1, 1), E_NO_RIGHT);
    EQUAL(take(&p, RESOURCE_PAGES, page + 2), E_NOT_DUE);
    EQUAL(page_of(page + 1)->owner, rt_self());
    end_puppet(&p);
}

/* Frees, maps, gives and declares vital on one CPU what is taken on another: each page has one end. */
ROLE(slippery) {
    u64 va = address(1), end = rt_tsc() + milliseconds(800);
    struct cap to = item("self");

    page_of(rt_self());
    up->word[0] = rt_self();
    /* On a slow host it takes longer until one is taken. */
    while (rt_tsc() < end || (!up->word[2] && rt_tsc() < end + milliseconds(8000))) {
        s64 page = sys_page_alloc(0, PAGE_ANY, 1, 0, 0);
        if (page < 0)
            continue;
        __atomic_store_n(&up->word[1], (u64)page, __ATOMIC_SEQ_CST);
        update(UPDATE_MAP, 0, va, (u32)page, 1, MAP_WRITE, 0);
        sys_vital_set(3, (u32)page);
        sys_vital_set(3, 0);
        sys_event_bind(0, (u32)page);
        sys_event_bind(0, 0);
        sys_loss_bind(0, (u32)page);
        sys_loss_bind(0, 0);
        sys_page_give(0, (u32)page, 1, &to);
        update(UPDATE_UNMAP, 0, va, 0, 1, 0, 0);
        update(UPDATE_BIND_TABLE, 1, 0x6000000000, (u32)page, 1, 0, 0);
        update(UPDATE_UNBIND_TABLE, 1, 0x6000000000, 0, 1, 0, 0);
        if (page_of((u32)page)->owner == rt_self())
            EQUAL(sys_page_free(0, (u32)page, 1) == E_WRONG_TYPE, 0);
    }
}

TEST(revoke_slippery, .needs = NEED_MACHINE, .cpus = 2) {
    struct cap machine = item("machine");
    struct event_ring *ring = bind_events();
    struct event e = {0};
    u64 took = 0, rounds = 0;

    start_peer(&p.peer, "slippery", 1);
    while (e.type != EVENT_ENDED) {
        s64 asked = sys_revoke(&p.peer.cap, RESOURCE_PAGES, 1, 0);
        if (asked == E_DEAD) /* it has come to its end just now */
            break;
        EQUAL(asked, 0);
        for (u32 i = 0; i < 20; i++) {
            u32 page = (u32)__atomic_load_n(&down->word[1], __ATOMIC_SEQ_CST);
            s64 result = take(&p, RESOURCE_PAGES, page);
            if (!result) {
                OK(sys_page_free(0, page, 1));
                down->word[2] = ++took;
                break;
            }
        }
        if (++rounds % 8 == 0) /* in a large machine it takes long, and nobody moves meanwhile */
            EQUAL(sys_check(&machine), 0);
        if (sys_revoke(&p.peer.cap, RESOURCE_PAGES, 0, 0) == E_DEAD)
            break;
        next_event(ring, &e, 0);
    }
    if (down->failed)
        FAIL("%s", down->text);
    CHECK(took);
    end_peer(&p.peer);
}

/* What a device reads cannot be freed, given to somebody else as free, or used as a table until it has let go. */
TEST(revoke_frees_in_flight, .needs = NEED_FLOW) {
    struct flow_spec spec = {.receive.count = 1};
    struct cap flow, parent = item("flow");
    u8 header[14] = {[12] = 0x88, [13] = 0xb6};
    u32 busy = 0;

    spec.receive.atom[0] = (struct atom){.offset = 12, .width = 2, .mask = 0xffff, .value = 0x88b6};
    spec.transmit = spec.receive;
    OK(sys_flow_create(&parent, page_alloc(1), &spec, &flow));
    for (u32 i = 0; i < 100; i++) {
        u32 page = page_alloc(1);
        struct send send = {.headers = (u64)header, .length = 14, .pieces = 1};
        send.piece[0] = (struct piece){.page = page, .length = 1000};
        s64 sent = sys_flow_send(&flow, &send, 1);
        if (sent == E_NO_DEVICE)
            break;
        EQUAL(sent, 1);
        for (u64 end = rt_tsc() + milliseconds(1000);;) {
            s64 error = update(UPDATE_BIND_TABLE, 1, 0x6000000000, page, 1, 0, 0);
            CHECK(error == E_BUSY || error == E_NO_TABLE || error == 0);
            if (!error)
                EQUAL(update(UPDATE_UNBIND_TABLE, 1, 0x6000000000, 0, 1, 0, 0), 0);
            error = sys_page_free(0, page, 1);
            if (!error)
                break;
            EQUAL(error, E_BUSY);
            busy++;
            CHECK(rt_tsc() < end);
        }
    }
    OK(sys_flow_destroy(&flow));
}

static struct losses *edited;
static volatile u64 edits, stop, stopped;

static u64 edit_once(u64 seed) {
    seed = seed * 6364136223846793005ull + 1442695040888963407ull;
    u64 *word = (u64 *)edited + (seed >> 33) % 512;
    *word = seed & 1 ? seed >> 8 : 0;
    edited->posted = edits;
    edited->read = edits & 2 ? edited->written : 0;
    edits++;
    return seed;
}

static void edit(u64 seed) {
    while (!stop)
        seed = edit_once(seed);
    stopped = 1;
}

static void bind_edited(void) {
    start_puppet(&p, 0, 0);
    u32 page = puppet_pages(&p, 1);
    struct cap cap = puppet_cap(&p, page, 1, RIGHT_READ | RIGHT_WRITE);
    edited = (struct losses *)address(1);
    OK(memory_map_at((u64)edited, page, 1, MAP_WRITE, &cap));
    OK(order_call(&p, LOSS_BIND, 0, page));
}

static void lose_one(void) {
    u32 victim = puppet_pages(&p, 1);

    ask_now(&p, RESOURCE_PAGES, 1);
    EQUAL(take(&p, RESOURCE_PAGES, victim), 0);
    OK(sys_page_free(0, victim, 1));
}

static void end_edited(u64 losses) {
    struct cap machine = item("machine");

    EQUAL(machine_env(p.peer.env)->losses, losses);
    EQUAL(sys_check(&machine), 0);
    memory_unmap(edited, 1);
    machine_forget();
    end_puppet(&p);
}

/* A loss page with nonsense in it whenever the kernel looks at it: no harm, and losses are still counted. */
TEST(revoke_edited_losses, .needs = NEED_MACHINE) {
    u64 seed = 1;

    bind_edited();
    for (u32 i = 0; i < 300; i++) {
        for (u32 n = 0; n < 40; n++)
            seed = edit_once(seed);
        lose_one();
    }
    end_edited(300);
}

/* The same, written from another CPU all the while. */
TEST(revoke_edits_losses, .cpus = 2, .needs = NEED_MACHINE) {
    bind_edited();
    start_thread(1, edit, 1);
    wait_for((u64 *)&edits, 100);
    for (u32 i = 0; i < 300; i++)
        lose_one();
    stop = 1;
    wait_for((u64 *)&stopped, 1); /* on a busy host that CPU may be a while */
    end_edited(300);
}

/* A place to save in is used only if its capability is good: nothing else in the machine is written to. */
TEST(revoke_bad_saves) {
    start_puppet(&p, 0, 0);
    start_puppet(&q, 1, 0);
    u64 losses = puppet_losses(&p);
    u32 mine = page_alloc(3), saved, number = 0;
    u64 *content = (u64 *)mapped(mine, 3, MAP_WRITE);
    struct cap good = {.type = CAP_PAGE, .rights = RIGHT_WRITE, .name = mine, .count = 1}, bad[20];
    u32 count = 0, taken = puppet_pages(&p, 1);

    OK(sys_cap_derive(0, &good));
    bad[count] = good;
    bad[count++].tag ^= 1;                     /* flipped */
    bad[count] = good;
    bad[count++].name += 1;                    /* another page */
    bad[count] = good;
    bad[count++].name = machine_info()->array; /* the kernel's */
    bad[count] = good;
    bad[count++].name = 0;
    bad[count] = good;
    bad[count++].name = 0xffffffff;
    bad[count] = good;
    bad[count++].generation += 1;
    bad[count] = good;
    bad[count++].zero = 1;
    bad[count] = good;
    bad[count++].type = CAP_ENV;
    bad[count++] = p.peer.cap;
    bad[count] = (struct cap){.type = CAP_PAGE, .rights = RIGHT_READ, .name = mine, .count = 1};
    OK(sys_cap_derive(0, &bad[count++])); /* not for writing */
    bad[count] = tied_to((struct cap){.type = CAP_PAGE, .rights = RIGHT_WRITE, .name = mine, .count = 1}, q.peer.env);
    OK(sys_cap_derive(0, &bad[count++])); /* somebody else's */
    bad[count] = (struct cap){.type = CAP_PAGE, .rights = RIGHT_WRITE, .name = mine + 1, .count = 1};
    OK(sys_cap_derive(0, &bad[count++])); /* revoked */
    OK(sys_page_revoke(0, mine + 1, 1));
    bad[count] = (struct cap){.type = CAP_PAGE, .rights = RIGHT_WRITE, .name = mine + 2, .count = 1};
    OK(sys_cap_derive(0, &bad[count++])); /* no data any more: an event ring */
    OK(sys_event_bind(0, mine + 2));
    bad[count++] = puppet_cap(&p, taken, 1, RIGHT_READ | RIGHT_WRITE); /* the page that is taken */
    bad[count++] = (struct cap){0};

    for (u32 round = 0; round < 2; round++) {
        for (u32 i = 0; i < count; i++, number++)
            for (u32 w = 0; w < 4; w++)
                order_write(&p, losses + offsetof(struct losses, save) + number % SAVES * 32 + w * 8,
                            ((u64 *)&bad[i])[w]);
        if (round) { /* the good one behind all the bad */
            for (u32 w = 0; w < 4; w++)
                order_write(&p, losses + offsetof(struct losses, save) + number % SAVES * 32 + w * 8, ((u64 *)&good)[w]);
            number++;
        }
        order_write(&p, losses + offsetof(struct losses, posted), number);
        u64 va = puppet_map(&p, taken, 1, MAP_WRITE);
        order_write(&p, va, 0x1234);
        ask_now(&p, RESOURCE_PAGES, 1);
        EQUAL(take_saved(&p, taken, &saved), 0);
        EQUAL(saved, round ? mine : 0);
        EQUAL(content[0], round ? 0x1234 : 0);
        EQUAL(content[512], 0);
        EQUAL(page_of(taken)->owner, rt_self());
        taken = puppet_pages(&p, 1);
    }
    /* nonsense for numbers of places */
    const u64 nonsense[] = {~0ull, 1ull << 63, 0, SAVES * 5};
    for (u32 i = 0; i < ARRAY_SIZE(nonsense); i++) {
        order_write(&p, losses + offsetof(struct losses, posted), nonsense[i]);
        ask_now(&p, RESOURCE_PAGES, 1);
        EQUAL(take_saved(&p, taken, &saved), 0);
        EQUAL(saved, 0);
        taken = puppet_pages(&p, 1);
    }
    OK(sys_event_bind(0, 0));
    end_puppet(&q);
    end_puppet(&p);
}

/* Nobody declares vital what is not his, what others may map, or what does not exist. */
TEST(revoke_vital_of_others) {
    struct peer e = bare_env(8, 0);

    start_puppet(&p, 0, 0);
    const u32 pages[] = {rt_self(), e.env, p.peer.env, machine_info()->array, page_alloc(1), 0xffffffff,
                         machine_info()->pages, 1};
    for (u32 i = 0; i < ARRAY_SIZE(pages); i++) {
        u64 state = pages[i] < machine_info()->pages ? page_of(pages[i])->state : 0;
        s64 error = order_call(&p, VITAL_SET, 0, pages[i]);
        CHECK(error == E_NO_RIGHT || error == E_BAD_ARGUMENT);
        if (pages[i] < machine_info()->pages)
            EQUAL(page_of(pages[i])->state & 0xff00, state & 0xff00);
    }
    EQUAL(order_call(&p, VITAL_SET, 0xffffffff, 0), E_BAD_ARGUMENT);
    end_puppet(&p);
    end_peer(&e);
}

/* ---------------------------------------------------------------- takers */

/* Every call of revocation, with capabilities that do not allow it: nothing happens. */
TEST(revoke_without_right) {
    start_puppet(&p, 0, 0);
    u32 page = puppet_pages(&p, 1);
    struct cap bad[8] = {p.peer.cap, p.peer.cap, p.peer.cap, p.peer.cap, p.peer.cap};
    s64 error[8];
    u32 count = 5;
    struct taking t = {.name = page};

    ask_now(&p, RESOURCE_PAGES, 1);
    bad[0].rights = RIGHT_MANAGE;
    OK(sys_cap_derive(&p.peer.cap, &bad[0]));
    error[0] = E_NO_RIGHT;
    bad[1].rights |= RIGHT_READ;
    bad[2].tag ^= 1ull << 63;
    bad[3].name = rt_self();
    bad[4].generation--;
    for (u32 i = 1; i < 5; i++)
        error[i] = E_BAD_CAPABILITY;
    bad[count] = puppet_cap(&p, page, 1, RIGHT_OWN);
    error[count++] = E_BAD_CAPABILITY;
    bad[count] = item("self");
    bad[count].holder = p.peer.env;
    EQUAL(sys_cap_derive(&bad[count], &bad[count]), E_BAD_CAPABILITY);
    error[count++] = E_BAD_CAPABILITY;
    for (u32 i = 0; i < count; i++) {
        EQUAL(sys_revoke(&bad[i], RESOURCE_SLICES, 1, 0), error[i]);
        EQUAL(sys_repossess(&bad[i], &t, 1), error[i]);
        EQUAL(sys_env_limit(&bad[i], 1, 1), error[i]);
    }
    EQUAL(machine_env(p.peer.env)->request[RESOURCE_SLICES].left, 0);
    EQUAL(page_of(page)->owner, p.peer.env);
    EQUAL(take(&p, RESOURCE_PAGES, page), 0);
    machine_forget();
    end_puppet(&p);
}

/* Pointers to batches that are no memory, half memory, or not to be written: an error, and nothing is taken there. */
TEST(repossess_hostile_batch) {
    start_puppet(&p, 0, 0);
    u32 page = puppet_pages(&p, 8);
    u64 two = address(4);
    u32 own = page_alloc(1);

    OK(memory_map_at(two, own, 1, MAP_WRITE, 0));
    OK(memory_map_at(two + 2 * RT_PAGE, own, 1, 0, 0));
    ask_now(&p, RESOURCE_PAGES, 100);
    const struct { u64 at; u32 count; s64 result; } table[] = {
        {0, 1, E_BAD_ADDRESS}, {8, 1, E_BAD_ADDRESS}, {0xffff800000000000, 1, E_BAD_ADDRESS},
        {0xfffffffffffffff0, 1, E_BAD_ADDRESS}, {0x0000800000000000, 1, E_BAD_ADDRESS}, {1ull << 62, 1, E_BAD_ADDRESS},
        {USER_TOP - 16, 2, E_BAD_ADDRESS}, {two + 1, 1, E_BAD_ARGUMENT}, {two + 2, 1, E_BAD_ARGUMENT},
        {two, 0, E_BAD_ARGUMENT}, {two, TAKINGS_A_CALL + 1, E_BAD_ARGUMENT}, {two, 0xffffffff, E_BAD_ARGUMENT},
        {two + RT_PAGE, 1, E_BAD_ADDRESS}, {two + RT_PAGE - 8, 1, E_BAD_ADDRESS}, {two + 2 * RT_PAGE, 1, E_BAD_ADDRESS},
    };
    struct taking *t = (struct taking *)two;
    for (u32 i = 0; i < 256; i++)
        t[i] = (struct taking){.name = page};
    for (u32 i = 0; i < ARRAY_SIZE(table); i++)
        EQUAL(sys_repossess(&p.peer.cap, (struct taking *)table[i].at, table[i].count), table[i].result);
    EQUAL(page_of(page)->owner, p.peer.env);
    t[254].name = page + 6; /* the last two are good, the third is beyond the page */
    t[255].name = page + 7;
    EQUAL(sys_repossess(&p.peer.cap, &t[254], 3), 1);
    EQUAL(page_of(page + 6)->owner, rt_self());
    EQUAL(page_of(page + 7)->owner, rt_self());
    EQUAL(sys_repossess(0, t, 1), E_BAD_ARGUMENT);
    EQUAL(sys_repossess((struct cap *)0xffff800000000000, t, 1), E_BAD_ADDRESS);
    end_puppet(&p);
}

/* Whoever has no room for a page cannot take it, and breaks nothing by trying. */
TEST(repossess_taker_full) {
    start_puppet(&p, 0, 0);
    u32 page = puppet_pages(&p, 2), limit = self()->page_limit;
    u64 va = puppet_map(&p, page, 1, MAP_WRITE);
    ask_now(&p, RESOURCE_PAGES, 2);
    struct peer rest = bare_env(self()->page_limit - self()->pages, 0); /* no room is left */
    EQUAL(take(&p, RESOURCE_PAGES, page), E_LIMIT);
    EQUAL(order_write(&p, va, 1), 0); /* nothing was broken */
    end_peer(&rest);
    EQUAL(machine_env(p.peer.env)->request[RESOURCE_PAGES].left, 2);
    EQUAL(self()->page_limit, limit);
    EQUAL(take(&p, RESOURCE_PAGES, page), 0);
    machine_forget();
    end_puppet(&p);
}

/* Makes and ends tables among the 64 pages where the table lies that a search is to find: their count comes and goes. */
ROLE(table_changer) {
    u64 va = address(1);

    wait_for(&up->word[1], 1);
    EQUAL(update(UPDATE_UNBIND_TABLE, 1, va, 0, 1, 0, 0), 0);
    for (u32 i = 0;; up->word[2] = ++i) {
        EQUAL(update(UPDATE_BIND_TABLE, 1, va, (u32)up->word[1] + i % 8, 1, 0, 0), 0);
        EQUAL(update(UPDATE_UNBIND_TABLE, 1, va, 0, 1, 0, 0), 0);
    }
}

/* Makes environments, looks at their pages and ends them, which searches for its own mapping. */
ROLE(view_breaker) {
    u64 va = address(1);

    for (;; up->word[3]++) {
        struct peer e = bare_env(2, 0);
        EQUAL(update(UPDATE_MAP, 0, va, e.env, 1, 0, 0), 0);
        end_peer(&e);
        EQUAL(memory_page_of((void *)va), 0);
    }
}

static s64 puppet_update(struct puppet *to, struct update u) {
    *(struct update *)to->scratch = u;
    EQUAL(order_call(to, SPACE_UPDATE, 0, to->orders->scratch, 1), 0);
    return ((struct update *)to->scratch)->result;
}

/* The search goes only where tables are, which begin and end all the time, and finds what it is to find all the same, in two rounds. */
TEST(search_in_changing_tables, .cpus = 2, .needs = NEED_MACHINE, .seconds = 40) {
    struct cap machine = item("machine");
    u32 first = (u32)OK(sys_page_alloc(0, PAGE_ANY, 64, 6, 0)), table = first + 63;
    struct peer changer, breaker;
    u32 searches = 0;

    start_puppet(&p, 0, 0);
    start_peer(&changer, "table_changer", 1);
    start_peer(&breaker, "view_breaker", machine_info()->cpus > 2 ? 2 : 1);
    OK(sys_page_give(0, first, 8, &changer.cap));
    OK(sys_page_give(0, table, 1, &p.peer.cap));
    down->word[1] = first;
    u32 page = puppet_pages(&p, 1);
    u64 hidden = puppet_map(&p, page, 1, MAP_WRITE), seen = puppet_map(&p, page, 1, MAP_WRITE);
    for (u32 round = 0; round < 100; round++) {
        EQUAL(puppet_update(&p, (struct update){.op = UPDATE_UNBIND_TABLE, .level = 1, .va = hidden, .count = 1}), 0);
        EQUAL(puppet_update(&p, (struct update){.op = UPDATE_UNMAP, .va = seen, .count = 1}), 0);
        EQUAL(puppet_update(&p, (struct update){.op = UPDATE_BIND_TABLE, .level = 1, .va = hidden, .page = table, .count = 1}), 0);
        EQUAL(puppet_update(&p, (struct update){.op = UPDATE_MAP, .va = hidden, .page = page, .count = 1}), 0);
        EQUAL(puppet_update(&p, (struct update){.op = UPDATE_MAP, .va = seen, .page = page, .count = 1}), 0);
        ask_now(&p, RESOURCE_PAGES, 1);
        struct taking t = {.resource = RESOURCE_PAGES, .name = page};
        u32 calls = 1;
        while (sys_repossess(&p.peer.cap, &t, 1) == 1 && t.result == E_AGAIN && calls < 100)
            calls++;
        EQUAL(t.result, 0);
        CHECK(calls <= 16);
        searches += calls > 1; /* else the other's search has met the table first */
        EQUAL(order_read(&p, hidden), UNREADABLE);
        EQUAL(order_read(&p, seen), UNREADABLE);
        OK(sys_page_give(0, page, 1, &p.peer.cap));
        if (round % 20 == 0)
            EQUAL(sys_check(&machine), 0);
    }
    if (down->failed)
        FAIL("%s", down->text);
    CHECK(searches > 10 && down->word[2] > 100 && down->word[3] > 10);
    end_peer(&changer);
    end_peer(&breaker);
    end_children(p.peer.env);
    end_puppet(&p);
}

/* Environments that are destroyed while pages are taken from them, on another CPU. */
TEST(repossess_while_destroyed, .cpus = 2, .needs = NEED_MACHINE) {
    struct cap machine = item("machine");

    start_puppet(&q, 0, 1);
    for (u32 round = 0; round < 30; round++) {
        struct peer e = bare_env(64, 0);
        struct cap cap;
        u32 page = (u32)OK(sys_page_alloc(&e.cap, PAGE_ANY, 40, 0, &cap));
        struct taking *t = (struct taking *)q.scratch;
        for (u32 i = 0; i < 40; i++)
            t[i] = (struct taking){.name = page + i};
        u64 there = puppet_give_cap(&q, e.cap);
        OK(order_call(&q, REVOKE, there, RESOURCE_PAGES, 40, 0));
        order_begin(&q, ORDER_CALL, CALL_REPOSSESS, there, q.orders->scratch, 40, 0, 0);
        for (u32 i = 0; i < round * 200; i++)
            __asm__ volatile("pause");
        end_peer(&e);
        order_result(&q);
        for (u32 i = 0; i < 40; i++)
            if (page_of(page + i)->owner == q.peer.env)
                OK(order_call(&q, PAGE_FREE, 0, page + i, 1));
        for (u32 i = 0; i < 40; i++) /* free, or this test's already for its tables */
            CHECK(!page_of(page + i)->owner || page_of(page + i)->owner == rt_self());
        if (round % 6 == 5)
            EQUAL(sys_check(&machine), 0);
    }
    end_puppet(&q);
}
