#include "vm/swap_server.h"

#include "machine/machine.h"
#include "vm/swap.h"

#define RUNS 256
#define RUN_PAGES 64

struct run {
    u32 first, count; /* 0: unused */
    u32 holder;
    u64 generation;   /* of the holder's page: another environment may come to have its number */
    u64 returned;     /* a bit for each page */
};

struct swap_state swap_state;
static struct run run[RUNS];
static u32 limit;

static bool is_held(const struct run *r, u32 page, u32 caller) {
    return r->count && page - r->first < r->count && r->holder == caller &&
           r->generation == machine_pages()[caller].generation &&
           !(r->returned >> (page - r->first) & 1);
}

static struct run *find(u32 page, u32 caller) {
    for (u32 i = 0; i < RUNS; i++)
        if (is_held(&run[i], page, caller))
            return &run[i];
    return NULL;
}

static s64 take_back(struct run *r, u32 page) {
    s64 error =
        sys_page_free(0, page, 1); /* its generation rises: the holder's capability is void */

    if (error)
        return error;
    swap_state.lent--;
    r->returned |= 1ull << (page - r->first);
    if (r->returned == (r->count == 64 ? ~0ull : (1ull << r->count) - 1))
        r->count = 0;
    return 0;
}

static void reap(struct run *r) {
    if (!r->count || machine_pages()[r->holder].generation == r->generation)
        return;
    for (u32 i = 0, first = r->first, count = r->count; i < count; i++)
        if (!(r->returned >> i & 1))
            take_back(r, first + i);
}

static s64 allocate(u32 pages, u32 *got) {
    s64 page = E_LIMIT;

    for (*got = pages; *got && page < 0; *got /= 2) {
        page = sys_page_alloc(0, PAGE_ANY, *got, 0, 0);
        if (page >= 0)
            break;
    }
    return page;
}

static s64 lend(u32 caller, u64 pages, struct cap *cap) {
    struct run *r = NULL;
    u32 got;

    for (u32 i = 0; i < RUNS; i++) {
        reap(&run[i]);
        if (!run[i].count)
            r = &run[i];
    }
    if (!pages || pages > RUN_PAGES)
        return E_BAD_ARGUMENT;
    if (!r || swap_state.lent + pages > limit)
        return E_FULL;
    s64 page = allocate((u32)pages, &got);
    if (page < 0)
        return page;
    u64 generation = machine_pages()[caller].generation;
    *cap = (struct cap){.type = CAP_PAGE, .rights = RIGHT_READ | RIGHT_WRITE, .holder = caller,
                        .name = (u32)page, .count = got, .generation = generation};
    s64 error = sys_cap_derive(0, cap);
    if (error) {
        sys_page_free(0, (u32)page, got);
        return error;
    }
    *r = (struct run){(u32)page, got, caller, generation, 0};
    swap_state.lent += got;
    return 0;
}

static s64 view(u32 caller, u64 page, struct cap *cap) {
    const struct run *r = page >> 32 ? NULL : find((u32)page, caller);

    if (!r)
        return E_NO_RIGHT;
    *cap = (struct cap){.type = CAP_PAGE, .rights = RIGHT_READ, .holder = caller, .name = (u32)page,
                        .count = 1, .generation = r->generation};
    swap_state.views++;
    return sys_cap_derive(0, cap);
}

static s64 accept(u32 caller, u64 page, u64 pages) {
    s64 error = page >> 32 || pages > RUN_PAGES ? E_BAD_ARGUMENT : 0;

    for (u32 i = 0; i < pages && !error; i++) {
        struct run *r = find((u32)page + i, caller);
        error = r ? take_back(r, (u32)page + i) : E_NO_RIGHT;
    }
    return error;
}

static void serve(u32 caller, u32 kind, struct rt_message *m) {
    struct cap cap = {0};
    u64 word[4];
    s64 error = E_BAD_ARGUMENT;

    if (kind == TRANSFER_CALL && m->rdi == SWAP_TAKE)
        error = lend(caller, m->rsi, &cap);
    else if (kind == TRANSFER_CALL && m->rdi == SWAP_VIEW)
        error = view(caller, m->rsi, &cap);
    else if (kind == TRANSFER_CALL && m->rdi == SWAP_RETURN)
        error = accept(caller, m->rsi, m->rdx);
    swap_state.refused += error != 0;
    memcpy(word, &cap, sizeof word);
    *m = (struct rt_message){.rdi = (u64)error};
    if (!error) {
        m->rsi = word[0];
        m->rdx = word[1];
        m->r8 = word[2];
        m->r9 = word[3];
    }
}

void swap_serve(u32 most) {
    limit = most;
    machine_pages(); /* mapped now: a transfer runs on a small stack */
    rt_on_transfer(serve);
}
