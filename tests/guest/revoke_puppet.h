/* A puppet is another environment that does what a test tells it: any call, mapping, reading, writing. It tells
 * how often it was asked for resources and told of losses by upcalls. */
#pragma once
#include "guest.h"

#define PUPPETS 7
#define UNREADABLE 0x0bad0badull /* result of reading what is not mapped */

enum order_kind {
    ORDER_CALL,  /* a call: its number and arguments */
    ORDER_MAP,   /* page, count, flags: the address */
    ORDER_READ,  /* address: the word there, or UNREADABLE */
    ORDER_WRITE, /* address, word: 0, or the exception */
    ORDER_SLEEP, /* address, word: sleeps as long as it has this value; the call's result */
};
struct orders {
    u64 wanted, done, kind, argument[6], result;
    u64 asked, lost; /* upcalls */
    u64 scratch;     /* the puppet's address of the page that it shares with the test */
    u64 zero[3];
};
struct puppet {
    struct peer peer;
    struct orders *orders;
    u64 *scratch; /* the test's address of that page */
};

/* Several puppets of a test are numbered from 0. They have 4 slices on a CPU and 512 pages. */
void start_puppet(struct puppet *p, u32 number, u32 cpu);
void end_puppet(struct puppet *p);
/* Lets it begin, and waits until it is done. */
void order_begin(struct puppet *p, u64 kind, u64 a, u64 b, u64 c, u64 d, u64 e, u64 f);
s64 order_result(struct puppet *p);
s64 order_it(struct puppet *p, u64 kind, u64 a, u64 b, u64 c, u64 d, u64 e, u64 f);
#define order_call(p, number, ...) order_call_(p, CALL_##number, ##__VA_ARGS__, 0, 0, 0, 0, 0)
#define order_call_(p, number, a, b, c, d, e, ...) \
    order_it(p, ORDER_CALL, number, (u64)(a), (u64)(b), (u64)(c), (u64)(d), (u64)(e))
#define order_read(p, va) order_it(p, ORDER_READ, va, 0, 0, 0, 0, 0)
#define order_write(p, va, word) order_it(p, ORDER_WRITE, va, word, 0, 0, 0, 0)
/* Pages of its own, and where it maps them for writing. */
u32 puppet_pages(struct puppet *p, u32 count);
u64 puppet_map(struct puppet *p, u32 page, u32 count, u32 flags);
/* A capability that a puppet derives by ownership, of any holder. */
struct cap puppet_cap(struct puppet *p, u32 page, u32 count, u8 rights);
/* Hands it a capability: its address in the puppet. */
u64 puppet_give_cap(struct puppet *p, struct cap cap);
/* A page that it maps and uses as its loss page: its address in the puppet. */
u64 puppet_losses(struct puppet *p);

/* Asks a puppet for resources, due after so many milliseconds. */
s64 ask(struct puppet *p, u32 resource, u32 count, u64 ms);
/* Asks for as many, due at once. */
void ask_now(struct puppet *p, u32 resource, u32 count);
/* Takes one resource by force: the element's result. */
s64 take(struct puppet *p, u32 resource, u32 name);
s64 take_saved(struct puppet *p, u32 page, u32 *saved);
/* A loss in its loss page. */
struct loss puppet_loss(struct puppet *p, u64 losses, u32 number);
