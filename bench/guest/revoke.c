/* Revocation: a page that is asked back and returned, and one that is taken by force. */
#include "bench.h"

#define STOCK 64 /* pages that the loser has at a time */

enum { RETURNS, IGNORES, MAPS_TWICE };

/* ---- the loser: it has a run of pages mapped, and returns one whenever it is asked, or does not care */
static char *window, *twin;
static u32 first, left;
static u64 habit;

static void return_one(struct frame *frame, u64 cause) {
    struct update u = {.op = UPDATE_UNMAP, .va = (u64)window + (left - 1) * RT_PAGE, .count = 1};

    (void)frame;
    if (cause != CAUSE_REVOKE || habit != RETURNS || !left)
        return;
    if (sys_space_update(0, &u, 1) || sys_page_free(0, first + --left, 1))
        fail(__FILE__, __LINE__, "return a page", u.result);
}

/* A new stock; rdi: its habit from now on. Replies the number of its first page. */
static void restock(u32 caller, u32 kind, struct rt_message *message) {
    (void)caller;
    (void)kind;
    memory_unmap(window, STOCK);
    memory_unmap(twin, STOCK);
    while (left)
        sys_page_free(0, first + --left, 1); /* but those that were taken */
    habit = message->rdi;
    first = (u32)OK(sys_page_alloc(0, PAGE_ANY, STOCK, 0, 0));
    left = STOCK;
    if (habit == MAPS_TWICE)
        OK(memory_map_at((u64)twin, first, STOCK, MAP_WRITE, 0));
    OK(memory_map_at((u64)window, first, STOCK, MAP_WRITE, 0));
    message->rdi = first;
}

ROLE(loser) {
    window = (char *)memory_reserve(STOCK);
    twin = (char *)memory_reserve(1024) + 512 * RT_PAGE; /* in another table */
    rt_on_revoke(return_one);
    rt_on_transfer(restock);
    serve();
}

/* ---- who asks and takes */
static struct cap loser;
static const struct env *seen; /* the loser's environment page */

static u32 stock_up(u64 how) {
    struct rt_message message = {.rdi = how};

    OK(rt_transfer(loser.name, TRANSFER_CALL, &message));
    return (u32)message.rdi;
}

/* From the request until the page is free and the asker knows. */
static void revoke_and_return(u64 n, u64 *sum) {
    const volatile u64 *request = (const volatile u64 *)&seen->request[RESOURCE_PAGES];

    for (u64 i = 0; i < n; i++) {
        if (i % STOCK == 0)
            stock_up(RETURNS);
        u64 t = rt_tsc();
        OK(sys_revoke(&loser, RESOURCE_PAGES, 1, NEVER));
        for (u64 was; (u32)(was = *request);)
            sys_sleep(NEVER, request, was);
        *sum += rt_tsc() - t;
    }
}

/* The call that takes a page from one who did not return it in time; or the calls, if it is mapped twice. */
static void take(u64 n, u64 *sum, u64 how) {
    u32 page = 0;

    for (u64 i = 0; i < n; i++, page++) {
        if (i % STOCK == 0)
            page = stock_up(how);
        OK(sys_revoke(&loser, RESOURCE_PAGES, 1, 0));
        struct taking taking = {.resource = RESOURCE_PAGES, .name = page};
        s64 failed;
        u64 t = rt_tsc();
        do
            failed = sys_repossess(&loser, &taking, 1);
        while (failed == 1 && taking.result == E_AGAIN);
        *sum += rt_tsc() - t;
        if (failed || sys_page_free(0, page, 1))
            fail(__FILE__, __LINE__, "repossess", taking.result);
    }
}

static void repossess(u64 n, u64 *sum) { take(n, sum, IGNORES); }
static void repossess_search(u64 n, u64 *sum) { take(n, sum, MAPS_TWICE); }

static void with_loser(void (*body)(u64 n, u64 *sum)) {
    loser = start_role_on("loser", 0);
    seen = memory_map(loser.name, 1, 0, 0);
    CHECK(seen);
    measure_sum(256, body);
    memory_unmap((void *)seen, 1);
    OK(rt_destroy(&loser));
}
ROW(revoke_return, "page, asked for and returned") { with_loser(revoke_and_return); }
ROW(repossess, "page, taken by force") { with_loser(repossess); }
ROW(repossess_search, "page, taken after a search for its mappings") { with_loser(repossess_search); }
